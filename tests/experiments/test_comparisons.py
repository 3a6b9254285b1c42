"""The experiments that compare settings: what each compares, and that every setting is a step of
its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from experiments import adaptive, architectures, augmentation, limited_data, losses, optimizers
from gan_jax.core.bind import resolve
from gan_jax.sweeps import population


def settings(module, shape=(8, 8, 1), **fields):
    return module.settings_of(module.Options(width=4, batch_size=8, steps=10, **fields), shape)


def structures(known):
    return len(population.by_structure([population.Member(name, recipe, 0, 8) for name, recipe in known.items()]))


@pytest.mark.parametrize("module", [adaptive, architectures, augmentation, limited_data, losses, optimizers])
def test_published_changes_what_was_left_at_its_default_alone(module):
    small, whole = module.Options(), module.Options(published=True)
    assert (small.data, small.width) == ("digits", 16)
    assert (whole.data, whole.size, whole.width) == ("cifar10", 32, 64)
    assert whole.steps == (125_000 if module is limited_data else 100_000) and whole.subset in (5000, None)
    given = module.Options(published=True, width=4, data="fashion_mnist", steps=10)
    assert (given.width, given.data, given.steps, given.size) == (4, "fashion_mnist", 10, 32)
    assert all(hasattr(whole, name) for name in module.Options.PUBLISHED)


@pytest.mark.parametrize(
    ("given", "said"), [({"data": "ring"}, True), ({"data": "ring", "subset": 100}, False), ({}, False)], ids=str
)
def test_that_the_default_subset_leaves_out_images_of_other_data_is_said(given, said, capsys, monkeypatch):
    def stop(*_):
        raise gan.UserError("enough")

    monkeypatch.setattr("gan_jax.cli.options.prepare_devices", lambda *a, **k: None)
    with pytest.raises(gan.UserError, match="enough"):
        losses.Options(**given).compare(stop)
    assert ("training on 200 images: --subset is 200 unless you give another" in capsys.readouterr().err) == said


def test_all_losses_are_one_program():
    known = settings(losses, (2,), r1=1.0)
    assert len(known) == 12 and structures(known) == 1 and next(iter(known)) == "non_saturating"
    weights = {name: gan.leaves(recipe) for name, recipe in known.items()}
    assert all(weights[name][f"loss.{name.replace('top_k', '_top_k')}"] == 1 for name in known)
    assert {"auxiliary_classifier", "multi_class"}.isdisjoint(known)


@pytest.mark.parametrize(
    "module, shape, count",
    [(optimizers, (2,), 18), (augmentation, (8, 8, 1), 11)],
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
    d_width = lambda recipes, name: recipes[name].discriminator.net.module.width
    names = ("dcgan", "dcgan, D half as wide", "dcgan, D twice as wide")
    assert [d_width(small, name) for name in names] == [4, 2, 8]
    assert [d_width(whole, name) for name in names] == [64, 32, 128]
    assert {whole[name].batch_size for name in names} == {64} and whole["stylegan2"].batch_size == 64
    assert {small[name].generator.net.module.width for name in names} == {4}
    assert {whole[name].generator.net.module.width for name in names} == {64}


@pytest.mark.parametrize("published", [False, True], ids=["small", "published"])
def test_schedules_end_with_the_run(published):
    known = settings(architectures, (32, 32, 3), published=published)
    rate = lambda name, step: resolve(known[name], jnp.int32(step)).generator.optimizer.numbers["learning_rate"]
    for name, last in (("sngan", 0.0), ("r3gan", 5e-5)):
        np.testing.assert_allclose(rate(name, 10), last, rtol=1e-4, atol=1e-12)
        assert rate(name, 0) > rate(name, 5) > rate(name, 9) > last


@pytest.mark.parametrize("module", [architectures, augmentation])
def test_points_are_refused_by_experiments_about_images(module):
    with pytest.raises(gan.UserError, match="--data digits"):
        settings(module, (2,))


def test_a_setting_that_is_not_there_is_refused():
    with pytest.raises(gan.UserError, match="--only: no setting 'rpgam'; there are non_saturating, minimax"):
        settings(losses, (2,), only=("rpgam",))
