"""Which examples are drawn: classes more evenly than the data have them, and samples that the
discriminator lets pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from gan_jax.class_weights import class_shares
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws

if TYPE_CHECKING:
    pass


ROUNDING = 1e-5  # a probability that is nearer to 1 is 1


class ClassTable(struct.PyTreeNode):
    """The examples class by class: `order` [N], each class in the order of the data, from `first`
    [K] on; the first `counts` [K] of each are in use."""

    order: Int[Array, "n"]
    first: Int[Array, "k"]
    counts: Int[Array, "k"]


def class_table(labels: Int[Array, "n"], size: Any, classes: int) -> ClassTable:
    """Of the first `size` (traced) of these labels. In use are those, and as many of each class as
    lie among them."""
    number = jnp.zeros(classes, jnp.int32)
    among = (jnp.arange(len(labels)) < size).astype(jnp.int32)
    total = number.at[labels].add(1)
    return ClassTable(jnp.argsort(labels, stable=True), jnp.cumsum(total) - total, number.at[labels].add(among))


@part("sampling")
def class_balanced(
    draws: Draws, rows: Int[Array, "b"], labels: Int[Array, "n"], table: ClassTable, *, strength, classes: int
) -> Int[Array, "b"]:
    """Real examples drawn with class probabilities proportional to n_k^(1 - strength), evenly
    within a class: [b] of [0, n).

    strength: in [0, 1]: 0 is the order of the data bit for bit, 1 draws all classes alike; above 1
    the rare ones prevail. `rows` are those that the order of the data gives. Each is kept with
    probability min(1, p_k / q_k), q_k being the share of its class in the data and p_k the wanted
    one; the others become random examples of a class with p_k > q_k, chosen proportionally to that
    lack. So p_k is exact, a frequent class still goes through its examples in turn, and only what
    must change does. Resampling is older than GANs; its exponent is that of Mahajan et al. (2018,
    section 2.2: .5).

    For a Recipe: `sampling=bind(sampling.class_balanced, strength=1.0, classes=data.classes)`. Fake
    labels follow the reals' by default (`latents.batch_labels`), so that both are balanced. Works
    with subsets of a traced size: n_k are theirs.
    classes: structure, as the data have them.
    """
    counts = table.counts.astype(jnp.float32)
    seen = counts > 0
    wanted = jnp.where(seen, class_shares(counts, strength), 0)
    keep, other = _coupled(draws, labels[rows], counts / counts.sum(), wanted / wanted.sum())
    inside = jnp.floor(draws.named("example").uniform() * table.counts[other]).astype(rows.dtype)
    inside = jnp.minimum(inside, table.counts[other] - 1)
    return jnp.where(keep, rows, table.order[table.first[other] + inside].astype(rows.dtype))


def _coupled(draws: Draws, labels: Array, given: Array, wanted: Array) -> tuple[Array, Array]:
    """(whether to keep each label [b], the class to take in its place): labels of shares `given`
    get those of `wanted`.

    The coupling that changes as few as possible. Shares are [K] and sum to 1.
    """
    ratio = jnp.where(given > 0, wanted / jnp.maximum(given, jnp.finfo(given.dtype).tiny), 1)
    keep = (draws.named("keep").uniform() < ratio[labels]) | (ratio[labels] > 1 - ROUNDING)
    lack = jnp.cumsum(jnp.maximum(wanted - given, 0))
    drawn = jnp.searchsorted(lack, draws.named("class").uniform() * lack[-1], side="right")
    last = jnp.argmax(lack)  # the first that reaches the whole: no class without a lack is drawn
    return keep, jnp.minimum(drawn, last)


def relabelled(draws: Draws, labels: Int[Array, "b"], counts: Any, given: Any, wanted: Any) -> Int[Array, "b"]:
    """Labels drawn with `class_shares(counts, given)` as labels of `class_shares(counts, wanted)`,
    changing the fewest."""
    keep, other = _coupled(draws, labels, class_shares(counts, given), class_shares(counts, wanted))
    return jnp.where(keep, labels, other.astype(labels.dtype))
