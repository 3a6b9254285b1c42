"""What the generator starts from: latents z and the labels of the examples to generate."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gan_jax.draws import Draws


def normal(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ N(0, 1), as in the article."""
    return draws.normal((dimension,), dtype)


def uniform(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ U(-1, 1), as in Radford et al. (2016)."""
    return draws.uniform((dimension,), dtype, -1.0, 1.0)


def batch_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """The generated examples take the labels of the real ones: the classes are as frequent as in the data."""
    return batch.labels if classes else None


def uniform_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """Every class equally often."""
    return draws.integers(classes).astype(jnp.int32) if classes else None
