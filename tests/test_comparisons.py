"""The experiments that compare settings: what each compares, and that every setting is a step of its own."""

import jax
import jax.numpy as jnp
import pytest

import gan_jax as gan
from experiments import architectures, augmentation, losses, optimizers
from gan_jax import population


def settings(module, shape=(8, 8, 1), **fields):
    return module.settings_of(module.Options(width=4, batch_size=8, steps=10, **fields), shape)


def structures(known):
    return len(population.by_structure([population.Member(name, recipe, 0, 8) for name, recipe in known.items()]))


def test_all_losses_are_one_program():
    known = settings(losses, (2,), r1=1.0)
    assert len(known) == 12 and structures(known) == 1 and next(iter(known)) == "non_saturating"
    weights = {name: gan.leaves(recipe) for name, recipe in known.items()}
    assert all(weights[name][f"loss.{name.replace('top_k', '_top_k')}"] == 1 for name in known)
    assert {"auxiliary_classifier", "multi_class"}.isdisjoint(known)


@pytest.mark.parametrize(
    "module, shape, count",
    [(optimizers, (2,), 15), (augmentation, (8, 8, 1), 11)],
    ids=["optimizers", "augmentation"],
)
def test_every_setting_is_a_step_of_its_own(module, shape, count):
    known = settings(module, shape)
    assert len(known) == count
    for name, recipe in known.items():
        n = recipe.batch_size * recipe.d_steps
        batch = gan.Batch(jnp.zeros((n, *shape)), jnp.arange(n))
        step = lambda key, recipe=recipe, batch=batch: gan.train_step(recipe, gan.init(recipe, key), batch)[1]
        assert "discriminator/loss" in jax.eval_shape(step, jax.random.key(0)), name


def test_architectures_are_small_unless_published():
    small, whole = (settings(architectures, (32, 32, 3), published=published) for published in (False, True))
    assert list(small) == list(whole) and len(small) == 8
    assert {recipe.batch_size for recipe in small.values()} == {8}
    assert (whole["biggan"].batch_size, whole["sngan"].d_steps, whole["r3gan"].batch_size) == (50, 5, 512)
    assert small["dcgan, D half as wide"].discriminator.net.module.width == 2


@pytest.mark.parametrize("module", [architectures, augmentation])
def test_points_are_refused_by_experiments_about_images(module):
    with pytest.raises(gan.UserError, match="--data digits"):
        settings(module, (2,))


def test_a_setting_that_is_not_there_is_refused():
    with pytest.raises(gan.UserError, match="--only: no setting 'rpgam'; there are non_saturating, minimax"):
        settings(losses, (2,), only=("rpgam",))
