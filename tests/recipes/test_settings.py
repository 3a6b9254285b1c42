"""Settings of recipes that do not fit are refused where they are given."""

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import optimizers, penalties, schedules
from gan_jax.core.bind import Schedule, resolve
from gan_jax.core.ranges import check_numbers

NAN = float("nan")


def refused(said, call, *args, **kwargs):
    with pytest.raises(gan.UserError, match=said) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0, -1, 2.5, "5", NAN])
@pytest.mark.parametrize(
    "name, shape, field",
    [
        ("mlp", (2,), "batch_size"), ("mlp", (2,), "d_steps"), ("mlp", (2,), "accumulate"), ("mlp", (2,), "width"),
        ("mlp", (2,), "latent_dim"), ("dcgan", (8, 8, 1), "width"), ("sngan", (8, 8, 1), "d_width"),
        ("biggan", (8, 8, 1), "width"), ("stylegan2_ada", (8, 8, 1), "batch_size"), ("stylegan2_ada", (8, 8, 1), "group"),
        ("r3gan", (8, 8, 1), "batch_size"), ("r3gan", (8, 8, 1), "per_group"), ("vae", (2,), "latent_dim"),
        ("vae_gan", (2,), "batch_size"), ("pacgan_toy", (2,), "d_steps"), ("wgan_gp", (8, 8, 1), "latent_dim"),
    ],
)  # fmt: skip
def test_sizes_are_whole_numbers_of_at_least_one(name, shape, field, value):
    refused(f"{name}: {field}=.*: must be an integer of at least 1", getattr(gan.recipes, name), shape, **{field: value})


@pytest.mark.parametrize("value", [-1, 1.5, "2", NAN])
def test_depth_and_classes_may_be_zero_and_no_less(value):
    gan.recipes.mlp((2,), depth=0, classes=0)
    for field in ("depth", "classes"):
        refused(f"mlp: {field}=.*: must be an integer of at least 0", gan.recipes.mlp, (2,), **{field: value})


@pytest.mark.parametrize("shape", [(0,), (2.5,), 2, "2", None])
def test_the_shape_of_an_example_is_of_whole_numbers(shape):
    refused("mlp: image_shape", gan.recipes.mlp, shape)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"batch_size": 0}, "batch_size=0"), ({"d_steps": -1}, "d_steps=-1"), ({"accumulate": 2.0}, "accumulate=2.0"),
        ({"classes": "2"}, "classes='2'"), ({"judge_together": "no"}, "judge_together is 'no'"),
        ({"dtype": "float99"}, "dtype is 'float99'"), ({"dtype": None}, "dtype is None"),
        ({"compute_dtype": "int8"}, "compute_dtype is 'int8'"),
    ],
)  # fmt: skip
def test_a_recipe_checks_its_structure_when_it_is_made_or_changed(changed, said):
    refused(f"the recipe's {said}", gan.recipes.mlp((2,)).replace, **changed)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: optimizers.adam("1e-3"), "adam: learning_rate is '1e-3': it must be a number"),
        (lambda: optimizers.adam(None), "learning_rate is None"),
        (lambda: optimizers.adam([1e-3, 1e-4]), "learning_rate is"),
        (lambda: optimizers.adam(1e-3, "0.5"), "b1 is '0.5'"),
        (lambda: optimizers.lookahead(optimizers.adam(), 2.5), "lookahead: steps is 2.5: it must be of type int"),
        (lambda: optimizers.lookahead(optimizers.adam, 2), "lookahead's optimizer is adam"),
        (lambda: optimizers.chain(), "chain: give the transformations"),
        (lambda: optimizers.chain(optimizers.adam), "a part of the chain is adam"),
        (lambda: optimizers.freeze(optimizers.adam(), 5), "freeze: name the parameters"),
        (lambda: gan.bind(penalties.r1, gamma="5"), "r1: gamma is '5'"),
        (lambda: gan.bind(penalties.r1, gamma="much"), "r1: gamma is 'much'"),
        (lambda: gan.bind(penalties.r1, gamma=True), "r1: gamma is True"),
        (lambda: gan.bind(penalties.wgan_gp, weight=1.0, one_sided="no"), "one_sided is 'no': it must be of type bool"),
        (lambda: schedules.linear("0", 1.0, 5), "linear: start is '0'"),
        (lambda: gan.bind(5), "5 is no function"),
        (lambda: gan.recipes.lecam((8, 8, 1), weight="1"), "lecam: weight is '1': it must be a number"),
        (lambda: gan.controllers.drive("x", 0.5, every=2.5), "drive|control: every is 2.5"),
        (lambda: gan.controllers.drive("x", 0.5, horizon=NAN), "horizon is nan"),
        (lambda: gan.controllers.drive("x", "0.5"), "target is '0.5'"),
    ],
)
def test_text_and_other_kinds_never_stand_for_a_number(make, said):
    refused(said, make)


def with_leaf(optimizer=None, **fields):
    recipe = gan.recipes.mlp((2,)).replace(**fields)
    return recipe if optimizer is None else gan.recipes.with_optimizer(recipe, optimizer)


@pytest.mark.parametrize(
    "recipe, said",
    [
        (with_leaf(optimizers.adam(-1.0)), "learning_rate is -1"),
        (with_leaf(optimizers.adam(NAN)), "learning_rate is nan"),
        (with_leaf(optimizers.adam(1e-3, 2.0)), "b1 is 2"),
        (with_leaf(optimizers.adam(schedules.linear(NAN, 0.0, 5))), "learning_rate.start is nan"),
        (with_leaf(ema_decay=2), "ema_decay is 2"),
        (with_leaf(ema_decay="x"), "ema_decay is 'x': give a number"),
        (with_leaf(optimizers.clip_gradient(0.0)), "max_norm is 0: it must be finite and be positive"),
        (with_leaf(optimizers.chain(optimizers.clip_gradient(-1.0), optimizers.adam())), "optimizer.0.max_norm is -1"),
        (with_leaf(optimizers.clip_weights(0.0)), "limit is 0: it must be finite and be positive"),
        (with_leaf(latent=gan.bind(gan.latents.truncated, dimension=2, threshold=0.0)), "latent.threshold is 0"),
        (with_leaf(optimizers.adam), "generator.optimizer is adam: give a number, or a function"),
    ],
)
def test_numbers_out_of_range_are_named_with_their_path(recipe, said):
    refused(said, check_numbers, recipe)


def test_a_schedule_with_another_number_is_still_a_schedule():
    """A plain bound function in its place would not be evaluated at each step."""
    changed = schedules.linear(0.0, 1.0, 10).replace(stop=2.0)
    assert isinstance(changed, Schedule) and isinstance(gan.bind(changed, steps=20.0), Schedule)
    np.testing.assert_allclose(resolve({"rate": changed}, jax.numpy.int32(5))["rate"], 1.0)
    assert type(gan.bind(penalties.r1, gamma=1.0).replace(gamma=2.0)).__name__ == "Bound"
