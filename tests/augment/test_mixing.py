"""Augmentations of the reals that mix in fakes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.augment import adaptive_pseudo, mixed, mixing
from gan_jax.core.batch import Batch
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.rng import Draws

REALS, FAKES = jnp.ones((1000, 2, 2, 1)), -jnp.ones((1000, 2, 2, 1))


def draws(seed=0):
    return Draws(jax.random.key(seed), jnp.arange(1000))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_share_p_of_the_reals_is_replaced_by_whole_fakes(p):
    out = np.asarray(adaptive_pseudo(REALS, FAKES, draws(), p=p))
    posing = (out == -1).all((1, 2, 3))
    assert (posing | (out == 1).all((1, 2, 3))).all()
    assert abs(posing.mean() - p) <= 4 * np.sqrt(p * (1 - p) / 1000)


def test_a_real_is_replaced_by_the_fake_made_for_its_place():
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


# ---- in the discriminator's turn ---------------------------------------------------------------


@dataclass(frozen=True)
class Around:
    """A generator of points near their label, 10 * label + scale * z, or the discriminator sum(w *
    x)."""

    generates: bool

    def init(self, key, inputs, labels, numbers):
        return ({"scale": jnp.ones(())} if self.generates else {"w": jnp.array([1.0, -0.5])}), {}

    def apply(self, params, stats, inputs, labels, mode, numbers, compute_dtype=None):
        if self.generates:
            return 10.0 * labels[:, None] + params["scale"] * jnp.tanh(inputs), stats
        return DiscriminatorOutput((params["w"] * inputs).sum(-1)), stats


def nearest_fake(turn):
    """The least distance of a real to one of D's fakes."""
    apart = jnp.linalg.norm(turn.reals[:, None] - turn.fakes[None], axis=-1)
    return jnp.broadcast_to(apart.min(), len(turn.reals))


def from_its_label(turn):
    return jnp.abs(turn.reals - 10.0 * turn.real_labels[:, None]).max(-1)


def stepped(p=None, **fields):
    """(state, metrics) after a step on reals that are far from their label, which no fake is."""
    penalties = {f.__name__: gan.bind(f) for f in (nearest_fake, from_its_label)}
    sides = [gan.Side(net=Around(made), optimizer=gan.optimizers.sgd(0.1)) for made in (True, False)]
    sides[1] = sides[1].replace(penalties=penalties)
    augments = {} if p is None else {"apa": gan.bind(adaptive_pseudo, p=p)}
    given = {"classes": 3, "batch_size": 8, "augment": augments, "fake_labels": gan.bind(gan.latents.uniform_labels)}
    recipe = gan.recipes.assembled(sides, given.pop("loss", "rpgan"), 2, **given | fields)
    labels = jnp.arange(8) % 3
    batch = Batch(10.0 * labels[:, None] + jnp.array([100.0, -7.0]), jnp.arange(8), labels)
    return jax.jit(gan.train_step)(recipe, gan.init(recipe, jax.random.key(0)), batch)


@pytest.mark.parametrize("fields", [{}, {"accumulate": 2}], ids=["at_once", "in_parts"])
def test_fakes_that_pose_are_none_of_those_that_the_loss_compares_them_with(fields):
    _, metrics = stepped(1.0, **fields)
    assert metrics["discriminator/nearest_fake"] > 1e-3
    assert abs(metrics["discriminator/loss"] - np.log(2)) > 1e-3
    assert metrics["discriminator/gradient_norm"] > 1e-3


def test_fakes_that_pose_are_made_with_the_labels_that_they_are_judged_under():
    assert stepped(1.0)[1]["discriminator/from_its_label"] <= 1
    assert stepped(None)[1]["discriminator/from_its_label"] >= 100


def test_mixing_of_strength_zero_is_none_and_moves_no_other_draw():
    absent, zero = (stepped(p) for p in (None, 0.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *((s.replace(key=0), m) for s, m in (absent, zero)))
    fakes = [stepped(p)[1]["discriminator/fake_logit"] for p in (None, 1.0)]
    np.testing.assert_allclose(*fakes, atol=1e-5)
