"""What a loss returns, and what losses over a batch need: the weights of the reals, and each
example's place."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Terms(NamedTuple):
    """Per example: what D minimises on reals and on fakes, and what G minimises."""

    real: Float[Array, "b"]
    fake: Float[Array, "b"]
    generator: Float[Array, "b"]


def real_weights(batch: Any, values: Float[Array, "b *d"]) -> Float[Array, "b"]:
    """batch.weights of the reals in the dtype of `values`, one for each of them; 1 without weights.

    The step multiplies Terms.real by them. A loss that meets reals anywhere else (a mean of d_r,
    G's terms) does so itself, so that both players see the weighted distribution. A packed critic
    has the mean weight of its packet.
    """
    if batch is None or batch.weights is None:
        return jnp.ones(len(values), values.dtype)
    return of_packets(batch.weights, len(values)).astype(values.dtype)


def of_packets(weights: Float[Array, "examples"], n: int) -> Float[Array, "n"]:
    """The examples' weights as those of n judgements: the mean of each packet of a packed critic,
    else as they are."""
    return weights.reshape(n, -1).mean(1)


def places(batch: Any, n: int) -> Int[Array, "b"]:
    """Where the n values of this device stand in `batch.all_gather`."""
    first = 0 if batch.axis_name is None else jax.lax.axis_index(batch.axis_name) * n
    return first + jnp.arange(n)
