"""An edit changes one thing of a recipe, and leaves the recipe that it was given as it was."""

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.optimizers import sgd

BASE = gan.recipes.dcgan((8, 8, 1), width=4, classes=3)


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(np.array_equal(x, y) for x, y in leaves)


def test_an_edit_leaves_its_recipe_as_it_was():
    before, leaves = jax.tree.structure(BASE), gan.leaves(BASE)
    gan.recipes.with_penalty(BASE, "r1", gamma=1.0)
    gan.recipes.with_fields(BASE, augment=gan.augment.diffaugment(), ema_decay=0.5)
    assert jax.tree.structure(BASE) == before and gan.leaves(BASE) == leaves


def test_a_penalty_joins_those_that_are_there():
    both = gan.recipes.with_penalty(gan.recipes.with_penalty(BASE, "r1", gamma=2.0), "r2", gamma=3.0)
    by_hand = {"r1": gan.bind(gan.penalties.r1, gamma=2.0), "r2": gan.bind(gan.penalties.r2, gamma=3.0)}
    assert same(both, BASE.replace(discriminator=BASE.discriminator.replace(penalties=by_hand)))
    again = gan.recipes.with_penalty(both, "r1", gamma=5.0)
    assert gan.leaves(again)["discriminator.penalties.r1.gamma"] == 5
    of_g = gan.recipes.with_penalty(BASE, "l2", "generator", weight=1.0)
    assert list(of_g.generator.penalties) == ["l2"] and not of_g.discriminator.penalties


def test_numbers_and_augmentations_join_those_that_are_there():
    noisy = gan.recipes.with_side(gan.recipes.with_side(BASE, numbers={"dropout": 0.3}), numbers={"noise": 0.1})
    assert set(noisy.discriminator.numbers) == {"dropout", "noise"}
    noise = {"noise": gan.bind(gan.augment.instance_noise, std=0.1)}
    seen = gan.recipes.with_fields(gan.recipes.with_fields(BASE, augment=noise), augment=gan.augment.diffaugment())
    assert set(seen.augment) == {"noise", "diffaugment"}


def test_an_optimizer_is_one_player_s_or_both_players():
    both = gan.recipes.with_optimizer(BASE, sgd(0.1))
    assert same(both.generator.optimizer, sgd(0.1)) and same(both.discriminator.optimizer, sgd(0.1))
    one = gan.recipes.with_optimizer(BASE, sgd(0.1), "discriminator")
    assert same(one.generator, BASE.generator) and same(one.discriminator.optimizer, sgd(0.1))


def test_a_network_is_wrapped_and_a_module_s_field_set():
    normed = gan.recipes.with_network(gan.recipes.with_module(BASE, norm="batch"), "discriminator", SpectralNorm)
    net = normed.discriminator.net
    assert isinstance(net, SpectralNorm) and net.net.module.norm == "batch"
    assert normed.generator.net == BASE.generator.net


def test_a_recipe_without_classes_is_the_one_that_was_made_without():
    assert same(gan.recipes.without_classes(BASE), gan.recipes.dcgan((8, 8, 1), width=4))


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(gan.UserError, match="no recipe part 'penalties.r3'"):
        gan.recipes.with_penalty(BASE, "r3", gamma=1.0)
    with pytest.raises(gan.UserError, match="no field 'penalty'; the fields are net, optimizer, numbers, penalties"):
        gan.recipes.with_side(BASE, penalty={})
    with pytest.raises(gan.UserError, match="no field 'lambda'"):
        gan.recipes.with_fields(BASE, **{"lambda": 1})
