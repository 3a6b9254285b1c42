"""Published settings: their numbers are the published ones, and each builds and steps at a small size."""

import jax
import jax.numpy as jnp
import pytest

import gan_jax as gan
from gan_jax.recipe import effective
from gan_jax.record import from_json, to_json

SMALL = {
    "wgan_gp": {"width": 4},
    "sngan": {"width": 8, "d_width": 8},
    "biggan": {"width": 4},
    "biggan_diffaugment": {"width": 4, "consistency": 10.0},
    "lecam": {"width": 4},
    "stylegan2_ada": {"channel_base": 64, "channel_max": 8, "group": 4},
    "r3gan": {"width": 16, "batch_size": 8},
}


def small(name, **fields):
    return getattr(gan.recipes, name)((8, 8, 1), **{"batch_size": 4} | SMALL[name] | fields)


def at(recipe, step):
    """{path: number} at a step, schedules evaluated."""
    return {path: float(value) for path, value in gan.leaves(effective(recipe, jnp.int32(step))).items()}


def batch_of(recipe):
    n = recipe.batch_size * recipe.d_steps
    labels = jnp.zeros(n, jnp.int32) if recipe.classes else None
    return gan.Batch(jnp.zeros((n, 8, 8, 1)), jnp.arange(n), labels)


@pytest.mark.parametrize("classes", [0, 3], ids=["plain", "labelled"])
@pytest.mark.parametrize("name", SMALL)
def test_a_published_recipe_steps_and_is_recorded(name, classes):
    recipe = small(name, classes=classes)
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    after, metrics = jax.eval_shape(gan.train_step, recipe, state, batch_of(recipe))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert "discriminator/loss" in metrics
    assert jax.tree.structure(from_json(to_json(recipe))) == jax.tree.structure(recipe)


def test_the_numbers_are_the_published_ones():
    adam = lambda recipe, side="discriminator", step=0: [
        at(recipe, step)[f"{side}.optimizer.{k}"] for k in ("learning_rate", "b1", "b2")
    ]
    wgan, sngan, biggan = (getattr(gan.recipes, name)((32, 32, 3)) for name in ("wgan_gp", "sngan", "biggan"))
    assert adam(wgan) == pytest.approx([1e-4, 0, 0.9]) and (wgan.d_steps, wgan.batch_size) == (5, 64)
    assert adam(sngan) == pytest.approx([2e-4, 0, 0.9]) and adam(sngan, step=100_000)[0] == 0
    assert adam(biggan) == pytest.approx([2e-4, 0, 0.999]) and (biggan.d_steps, biggan.batch_size) == (4, 50)
    assert [at(biggan, step)["ema_decay"] for step in (999, 1000)] == pytest.approx([0, 0.9999])
    ada = gan.recipes.stylegan2_ada((32, 32, 3))
    assert adam(ada) == pytest.approx([0.0025, 0, 0.99]) and at(ada, 0)[
        "discriminator.penalties.r1.penalty.gamma"
    ] == pytest.approx(0.01)


def test_r3gan_moves_along_its_cosine():
    recipe = gan.recipes.r3gan((32, 32, 3), classes=10)
    end = int(2e7 / 512) + 1
    for path, (first, last) in {
        "generator.optimizer.learning_rate": (2e-4, 5e-5), "discriminator.penalties.r2.gamma": (0.05, 0.005),
        "discriminator.optimizer.b2": (0.9, 0.99), "augment.bg.p": (0, 0.55), "augment.color.p": (0, 0.275),
    }.items():  # fmt: skip
        assert [at(recipe, 0)[path], at(recipe, end)[path]] == pytest.approx([first, last], rel=1e-5)
    assert at(recipe, end)["ema_decay"] == pytest.approx(0.5 ** (512 / 5e6), rel=1e-6)
    assert not gan.recipes.r3gan((32, 32, 3), augmentation=0).augment


@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_image_is_refused(name):
    with pytest.raises(gan.UserError, match="makes square grey or RGB images, not"):
        getattr(gan.recipes, name)((2,))
