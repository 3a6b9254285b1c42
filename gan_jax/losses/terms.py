"""What losses share: `Terms`, which they return, `decides_at`, and the weights of reals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gan_jax.core.bind import Bound


class Terms(NamedTuple):
    """Per example: what D minimises on reals and on fakes, and what G minimises."""

    real: Float[Array, "b"]
    fake: Float[Array, "b"]
    generator: Float[Array, "b"]


def decides_at(logit: float | None) -> Callable:
    """Marks a loss whose discriminator is undecided at this logit; without the mark it is 0. Losses
    of differences of logits (relativistic losses, critics) have None: the logged accuracies and
    r_t, which drives ADA, then use the middle of the mean logits of reals and fakes."""

    def mark(loss):
        loss.decides_at = logit
        return loss

    return mark


def boundary(loss: Bound) -> float | None:
    """The logit at which D is undecided, or None, see `decides_at`. A loss around another one has
    the other's boundary unless it is marked itself."""
    inherited = boundary(loss.parts[0]) if loss.parts else 0.0
    return getattr(loss.function, "decides_at", inherited)


def real_weights(batch: Any, values: Float[Array, "b *d"]) -> Float[Array, "b"]:
    """The weights of the reals (`batch.weights`) in the dtype of `values`, one for each of the
    values; 1 where the batch has none. The training step multiplies Terms.real by the weights. A
    loss that uses reals anywhere else (in a mean of d_r, or in G's terms) multiplies by them
    itself, so that both players see the weighted distribution."""
    if batch is None or batch.weights is None:
        return jnp.ones(len(values), values.dtype)
    return of_packets(batch.weights, len(values)).astype(values.dtype)


def of_packets(weights: Float[Array, "examples"], n: int) -> Float[Array, "n"]:
    """The weights of n outputs of D: means over packets where it is packed, else the examples'."""
    return weights.reshape(n, -1).mean(1)


def places(batch: Any, n: int) -> Int[Array, "b"]:
    """The indices of this device's n values in `batch.all_gather` of them."""
    first = 0 if batch.axis_name is None else jax.lax.axis_index(batch.axis_name) * n
    return first + jnp.arange(n)
