"""Initial weights: the numbers of JAX's initializers of the same names, drawn in a row and then
reshaped.

On a CPU, XLA takes up to twenty times as long to compile a draw of four axes as one of equally many
numbers in a row (5.5 s against .3 s for a 3 x 3 x 16 x 16 kernel), and a network has dozens of
kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.rng import in_a_row

Initializer = Callable[..., jax.Array]  # (key, shape, dtype) -> array


def normal(deviation: float) -> Initializer:
    """N(0, deviation^2)."""

    def start(key, shape, dtype: Any = jnp.float32):
        return in_a_row(jax.random.normal, key, shape, dtype) * jnp.asarray(deviation, dtype)

    return start


def variance_scaling(scale: float, mode: str, distribution: str) -> Initializer:
    """Variance scale / fan, for kernels [..., inputs, outputs].

    mode: 'fan_in' or 'fan_avg'; distribution: 'normal' or 'uniform'. `glorot` is that of Glorot &
          Bengio
    (2010), `he` that of He et al. (2015).
    """

    def start(key, shape, dtype: Any = jnp.float32):
        field = np.prod(shape[:-2])
        inputs, outputs = shape[-2] * field, shape[-1] * field
        variance = scale / (inputs if mode == "fan_in" else (inputs + outputs) / 2)
        if distribution == "normal":
            return in_a_row(jax.random.normal, key, shape, dtype) * jnp.sqrt(jnp.asarray(variance, dtype))
        return in_a_row(jax.random.uniform, key, shape, dtype, -1) * jnp.sqrt(jnp.asarray(3 * variance, dtype))

    return start


glorot = variance_scaling(1.0, "fan_avg", "uniform")
he = variance_scaling(2.0, "fan_in", "normal")
