"""Sampling of real examples with other class frequencies than those of the data."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from gan_jax.class_weights import class_shares
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws

ROUNDING = 1e-5  # a probability that is this near to 1 counts as 1


class ClassTable(struct.PyTreeNode):
    """The examples ordered by class.

    order:  [N], each class in the order of the data
    first:  [K], where each class begins in `order`
    counts: [K], how many examples of each class are in use: the first ones
    """

    order: Int[Array, "n"]
    first: Int[Array, "k"]
    counts: Int[Array, "k"]


def class_table(labels: Int[Array, "n"], size: Any, classes: int) -> ClassTable:
    """The table of all labels; the first `size` examples are in use. `size` may be traced."""
    number = jnp.zeros(classes, jnp.int32)
    among = (jnp.arange(len(labels)) < size).astype(jnp.int32)
    total = number.at[labels].add(1)
    return ClassTable(jnp.argsort(labels, stable=True), jnp.cumsum(total) - total, number.at[labels].add(among))


@part("sampling")
def class_balanced(
    draws: Draws, rows: Int[Array, "b"], labels: Int[Array, "n"], table: ClassTable, *, strength, classes: int
) -> Int[Array, "b"]:
    """Rows [b] of real examples with class probabilities proportional to n_k^(1 - strength).

    Each of `rows`, the order of the data, is kept with probability min(1, p_k / q_k), where q_k is
    the share of its class in the data and p_k the wanted one. The others are replaced by random
    examples of a class with p_k > q_k, chosen in proportion to p_k - q_k. So p_k is exact, and a
    frequent class still goes through its examples in turn.

    strength: in [0, 1]: 0 is the order of the data, bit for bit, and 1 draws all classes alike.
    Above 1 rare classes prevail.

    For a Recipe: `sampling=bind(sampling.class_balanced, strength=1.0, classes=data.classes)`.
    Labels of fakes follow the reals by default (`latents.batch_labels`). In a subset of traced
    size, n_k are those of the subset. The exponent is that of Mahajan et al. (2018, section 2.2).
    """
    counts = table.counts.astype(jnp.float32)
    wanted = jnp.where(counts > 0, class_shares(counts, strength), 0)
    keep, other = _coupled(draws, labels[rows], counts / counts.sum(), wanted / wanted.sum())
    inside = jnp.floor(draws.named("example").uniform() * table.counts[other]).astype(rows.dtype)
    inside = jnp.minimum(inside, table.counts[other] - 1)
    return jnp.where(keep, rows, table.order[table.first[other] + inside].astype(rows.dtype))


def _coupled(draws: Draws, labels: Array, given: Array, wanted: Array) -> tuple[Array, Array]:
    """(whether each label [b] is kept, the class that replaces it): the coupling of the shares [K]
    `given` and `wanted` that changes the fewest labels."""
    ratio = jnp.where(given > 0, wanted / jnp.maximum(given, jnp.finfo(given.dtype).tiny), 1)
    keep = (draws.named("keep").uniform() < ratio[labels]) | (ratio[labels] > 1 - ROUNDING)
    lack = jnp.cumsum(jnp.maximum(wanted - given, 0))
    drawn = jnp.searchsorted(lack, draws.named("class").uniform() * lack[-1], side="right")
    last = jnp.argmax(lack)  # the first class that reaches the total: no class without a lack is drawn
    return keep, jnp.minimum(drawn, last)


def relabelled(draws: Draws, labels: Int[Array, "b"], counts: Any, given: Any, wanted: Any) -> Int[Array, "b"]:
    """Labels drawn by `class_shares(counts, given)` as labels of `class_shares(counts, wanted)`."""
    keep, other = _coupled(draws, labels, class_shares(counts, given), class_shares(counts, wanted))
    return jnp.where(keep, labels, other.astype(labels.dtype))
