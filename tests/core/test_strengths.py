"""Strength zero is absence, for everything in the zoo that has a strength; and at full strength
everything does something."""

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import losses, zoo
from gan_jax.optimizers import sgd
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
    return zoo.on("generator", optimizer=sgd(0.05))(zoo.on("discriminator", optimizer=sgd(0.05))(recipe))


@jax.jit
def trained(recipe):
    """Both players' parameters after three steps."""
    state, _ = single_chunk(gan.GAN, 3, place(1), recipe, gan.init(recipe, jax.random.key(0)), combine.examples())
    return state.generator.params, state.discriminator.params


def distance(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def items():
    """What has a strength: the other layers are another network."""
    found = [item for item in zoo.ITEMS if item.kind in ("penalty", "augmentation")]
    found += [item for item in zoo.ITEMS if item.kind == "layer" and item.name.startswith(("dropout", "noise"))]
    slow = lambda item: () if item.name in FAST else pytest.mark.slow  # each compiles a program
    return [pytest.param(item, id=f"{item.kind}-{item.name}", marks=slow(item)) for item in found]


@pytest.fixture(scope="module")
def absent():
    return trained(plain())


@pytest.mark.parametrize("item", items())
def test_strength_zero_is_absence_and_full_strength_is_not(item, absent):
    recipe, numbers = item.add(plain()), item.leaves(plain())
    if item.name == "lecam":  # from the first step on, not from the thousandth
        recipe = zoo.penalty("lecam", weight=0.3, start=0)(recipe)
    strengths = [path for path in numbers if path.rsplit(".", 1)[-1] in STRENGTHS]
    assert strengths, "nothing to set to 0"
    zero = trained(gan.with_leaves(recipe, dict.fromkeys(strengths, 0.0)))
    assert distance(zero, absent) <= NEAR
    full = trained(gan.with_leaves(recipe, dict.fromkeys(strengths, FULL[item.name])) if item.name in FULL else recipe)
    assert np.isfinite(distance(full, absent)) and distance(full, absent) > 10 * NEAR
