"""Augmentations of the reals that mix in fakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.augment import adaptive_pseudo, mixed, mixing
from gan_jax.draws import Draws

REALS, FAKES = jnp.ones((1000, 2, 2, 1)), -jnp.ones((1000, 2, 2, 1))


def draws(seed=0):
    return Draws(jax.random.key(seed), jnp.arange(1000))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_share_p_of_the_reals_is_replaced_by_whole_fakes(p):
    out = np.asarray(adaptive_pseudo(REALS, FAKES, draws(), p=p))
    posing = (out == -1).all((1, 2, 3))
    assert (posing | (out == 1).all((1, 2, 3))).all()
    assert abs(posing.mean() - p) <= 4 * np.sqrt(p * (1 - p) / 1000)


def test_a_real_is_replaced_by_the_fake_in_its_own_place():
    reals, fakes = (sign * jnp.arange(1.0, 1001)[:, None] for sign in (1, -1))  # of points, not images
    np.testing.assert_array_equal(jnp.abs(adaptive_pseudo(reals, fakes, draws(), p=0.5)), reals)


def test_those_replaced_at_a_smaller_p_are_among_those_at_a_larger_one():
    small, large = (np.asarray(adaptive_pseudo(REALS, FAKES, draws(), p=p)) for p in (0.2, 0.6))
    assert (large[small == -1] == -1).all()


def test_only_marked_augmentations_are_mixed_in_and_no_gradient_reaches_the_fakes():
    augments = {"noise": gan.bind(gan.augment.instance_noise, std=1.0), "pseudo": gan.bind(adaptive_pseudo, p=0.5)}
    assert [mixing(augment) for augment in augments.values()] == [False, True]
    out = mixed(augments, REALS, FAKES, draws())
    np.testing.assert_array_equal(out, adaptive_pseudo(REALS, FAKES, draws().named("pseudo"), p=0.5))
    slopes = jax.grad(lambda *images: mixed(augments, *images, draws()).sum(), (0, 1))(REALS, FAKES)
    np.testing.assert_array_equal(slopes[0], out == 1)
    assert not slopes[1].any()
