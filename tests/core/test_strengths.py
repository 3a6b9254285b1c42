"""Strength zero is absence, for every part of a recipe that has a strength; and at full strength
every part does something."""

import jax
import numpy as np
import pytest
from part_rows import ROWS

import gan_jax as gan
from gan_jax import losses
from gan_jax.optimizers import sgd
from gan_jax.recipes import with_optimizer, with_penalty
from gan_jax.training.chunk import single_chunk
from gan_jax.training.placement import place
from scripts import combine

STRENGTHS = ("gamma", "weight", "p", "std", "dropout", "noise")
FULL = {"orthogonal": 1.0, "l2": 1.0, "zcr_generator": 50.0}  # three steps of SGD hardly show the defaults of these
FAST = ("r1", "lecam", "l2", "feature_matching", "instance_noise", "cutout", "adaptive_pseudo", "dropout in D", "noise in G")
NEAR = 1e-5


def plain():
    """On the smallest networks there are, by gradient descent: Adam would magnify the rounding of a
    gradient of 0."""
    recipe = combine.plain(losses.LOSSES["non_saturating"])
    return with_optimizer(recipe, sgd(0.05))


@jax.jit
def trained(recipe):
    """Both players' parameters after three steps."""
    state, _ = single_chunk(gan.GAN, 3, place(1), recipe, gan.init(recipe, jax.random.key(0)), combine.examples())
    return state.generator.params, state.discriminator.params


def distance(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def rows():
    """What has a strength: the other layers are another network."""
    found = [row for row in ROWS if row.kind in ("penalty", "augmentation")]
    found += [row for row in ROWS if row.kind == "layer" and row.name.startswith(("dropout", "noise"))]
    slow = lambda row: () if row.name in FAST else pytest.mark.slow  # each compiles a program
    return [pytest.param(row, id=f"{row.kind}-{row.name}", marks=slow(row)) for row in found]


@pytest.fixture(scope="module")
def absent():
    return trained(plain())


@pytest.mark.parametrize("row", rows())
def test_strength_zero_is_absence_and_full_strength_is_not(row, absent):
    recipe, numbers = row.add(plain()), row.leaves(plain())
    if row.name == "lecam":  # from the first step on, not from the thousandth
        recipe = with_penalty(recipe, "lecam", weight=0.3, start=0)
    strengths = [path for path in numbers if path.rsplit(".", 1)[-1] in STRENGTHS]
    assert strengths, "nothing to set to 0"
    zero = trained(gan.with_leaves(recipe, dict.fromkeys(strengths, 0.0)))
    assert distance(zero, absent) <= NEAR
    full = trained(gan.with_leaves(recipe, dict.fromkeys(strengths, FULL[row.name])) if row.name in FULL else recipe)
    assert np.isfinite(distance(full, absent)) and distance(full, absent) > 10 * NEAR
