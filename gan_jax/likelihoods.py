"""How probable an image is, given what a decoder says of it: log densities of examples in the
data's scale, in nats.

A likelihood is a function (mean, log_scale, images) -> log density of each number, of the same
shape. Images are levels of 0 ... 255 in [-1, 1]; a Bernoulli on such grey values is no likelihood,
so there is none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part

HALF = 1 / 255  # of a level's width, in [-1, 1]


@part("likelihoods")
def gaussian(mean: Float[Array, "..."], log_scale: Array, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """log N(x; mean, exp(log_scale)^2): a density, for rows of numbers, and for images whose levels
    count as continuous."""
    standard = (images - mean) * jnp.exp(-log_scale)
    return -0.5 * standard**2 - log_scale - 0.5 * jnp.log(2 * jnp.pi)


@part("likelihoods")
def discretized_logistic(mean: Float[Array, "..."], log_scale: Array, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """The log probability of an image's level, one of 256: the mass of a logistic law on its bin
    (Kingma et al., 2016, sec. 4).

    A bin is 2/255 wide; the first and the last reach to infinity, so the 256 probabilities sum to
    one. -x / log 2 is bits.
    """
    inverse = jnp.exp(-log_scale)
    upper, lower = (images - mean + HALF) * inverse, (images - mean - HALF) * inverse
    width = 2 * HALF * inverse
    # s(upper) - s(lower) = (e^width - 1) s(-upper) s(lower), and log(e^w - 1) = w + log(1 - e^-w)
    middle = width + jnp.log(-jnp.expm1(-width)) - jax.nn.softplus(upper) - jax.nn.softplus(-lower)
    first, last = -jax.nn.softplus(-upper), -jax.nn.softplus(lower)
    return jnp.where(images < HALF - 1, first, jnp.where(images > 1 - HALF, last, middle))
