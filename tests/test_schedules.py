"""Numbers that change with the step: switches, and the decay of a moving average from its half-life
in images."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import schedules
from gan_jax.core import ranges
from gan_jax.training import serialization


def at(schedule, step):
    return float(schedule(jnp.int32(step)))


def test_a_switch_changes_at_its_step():
    assert [at(schedules.switch(0.25, 0.75, 10), step) for step in (0, 9, 10, 11, 10**6)] == [0.25, 0.25, 0.75, 0.75, 0.75]


@pytest.mark.parametrize("step", [0, 1, 7, 500, 10**5])
@pytest.mark.parametrize("ramp", [None, 0.05])
def test_a_half_life_is_the_published_rule(step, ramp):
    """StyleGAN2-ADA's: .5 ** (batch / max(min(half-life, seen * ramp), 1e-8)); at step 0 with a
    ramp nothing is kept."""
    images = 500_000 if ramp is None else min(500_000, 64 * step * ramp)
    assert at(schedules.half_life(500_000, 64, ramp), step) == pytest.approx(0.5 ** (64 / max(images, 1e-8)), rel=1e-6)


def test_after_its_half_life_half_is_left():
    decay = at(schedules.half_life(10_000, 100), 3)
    assert decay**100 == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("step", [0, 1, 20_000, 39_062, 10**6])
def test_a_half_life_may_follow_a_schedule_of_its_own(step):
    """R3GAN's CIFAR-10: a cosine from 0 to 5 million images over the first 20 million, in batches
    of 512."""
    schedule = schedules.half_life(schedules.cosine(0, 5e6, 2e7 / 512), 512)
    images = 5e6 * (1 - np.cos(np.pi * min(step * 512 / 2e7, 1))) / 2
    assert at(schedule, step) == pytest.approx(0.5 ** (512 / max(images, 1e-8)), rel=1e-6)


def test_a_half_life_drives_the_moving_average():
    """From its first step without a memory of the start; every number in it is a leaf, and the
    record keeps it."""
    decay = schedules.half_life(schedules.linear(0, 100, 10), 2, ramp=0.5)
    recipe = gan.recipes.dirac(ema_decay=decay, batch_size=2)
    names = {path for path in gan.leaves(recipe) if path.startswith("ema_decay")}
    assert names == {f"ema_decay.{x}" for x in ("batch_size", "ramp", "images.start", "images.stop", "images.steps")}
    ranges.check_numbers(recipe)
    again = serialization.from_json(json.loads(json.dumps(serialization.to_json(recipe))))
    assert at(again.ema_decay, 7) == at(decay, 7) == pytest.approx(0.5 ** (2 / 7))
    batch, start = gan.Batch(jnp.zeros((2, 1)), jnp.arange(2)), gan.init(recipe, jax.random.key(0))
    state, _ = jax.jit(gan.train_step)(recipe, start, batch)
    assert state.ema["params"]["theta"] == state.generator.params["theta"] != 1


def test_half_lives_are_swept_in_one_program():
    lives = [schedules.half_life(images, 64, 0.05) for images in (1e3, 1e4, 1e5)]
    step = jax.jit(lambda schedule: schedule(jnp.int32(1000)))
    alone = [step(schedule) for schedule in lives]
    assert step._cache_size() == 1
    np.testing.assert_allclose(jax.vmap(step)(jax.tree.map(lambda *x: jnp.stack(x), *lives)), alone, rtol=1e-6)
    np.testing.assert_allclose(alone, 0.5 ** (64 / np.array([1000, 3200, 3200])), rtol=1e-6)
