"""Known answers: a controller's rule by hand, its number in the run's own log, and laws (a still
controller is none)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.controllers import ada, drive, fixed_steps, proportional
from gan_jax.gan import control
from tests.tiny_games import assert_close

NOISE = "augment.noise.std"


def call(controller, value, measured, images=100.0, seen=1e9):
    return float(controller(jnp.float32(value), jnp.float32(measured), images, jnp.float32(seen)))


def recipe(**fields):
    noise = gan.bind(gan.augment.instance_noise, std=0.5)
    made = gan.recipes.mlp((2,), width=8, depth=1, batch_size=16, augment={"noise": noise})
    return made.replace(**fields)


@pytest.fixture(scope="module")
def ring():
    return gan.load("ring").subset(256)


# ---- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "controller, measured, expected",
    [
        (ada(0.6, horizon=1000), 0.9, 0.4),  # images / horizon = .1 of the range, up: D is too sure
        (ada(0.6, horizon=1000), 0.1, 0.2),
        (ada(0.6, horizon=1000), 0.6, 0.3),
        (ada(0.6, horizon=100), 0.9, 1.0),  # clipped
        (ada(0.6, horizon=100), 0.1, 0.0),
        (drive("x", 0.5, horizon=1000, high=2.0), 0.9, 0.5),  # a tenth of 0 ... 2
        (drive("x", 0.5, horizon=1000, lowers=False), 0.9, 0.2),
        (drive("x", 0.5, horizon=1000, rule=proportional), 0.9, 0.3 + 0.4 * 0.1),
        (drive("x", 0.5, horizon=1000, low=0.01, high=100.0, log=True), 0.9, 0.3 * 10**0.4),
        (drive("x", 0.5, horizon=1000, ramp=4e9), 0.9, 0.3 + 0.1 / 4),
        (ada(0.6, horizon=1000), np.nan, 0.3),
    ],
)
def test_a_number_moves_by_its_share_of_the_range(controller, measured, expected):
    assert call(controller, 0.3, measured) == pytest.approx(expected, rel=1e-5)


def test_the_gain_of_a_proportional_rule_is_a_number_of_the_recipe():
    controller = drive("x", 0.5, horizon=1000, rule=proportional)
    assert {"target", "horizon", "low", "high", "ramp"} <= set(controller.numbers)
    assert proportional(0.3, 0.4, 0.1, low=0.0, high=1.0, gain=2.0) == pytest.approx(0.3 + 0.08)
    assert fixed_steps(0.3, -5.0, 0.1, low=0.0, high=1.0) == pytest.approx(0.2)


# ---- in the step -------------------------------------------------------------------------------


def test_statistics_of_the_step_are_averaged_over_every_steps():
    made = recipe(controllers={NOISE: ada(0.5, horizon=160, every=2)})
    state = jax.jit(gan.init)(made, jax.random.key(0))
    signs, value, values = [0.9, -0.7, 0.8, 0.6], 0.5, []
    for step, sign in enumerate(signs):
        here = state.replace(step=jnp.int32(step))
        state, shown = control.steer(made, here, {"discriminator/real_sign": jnp.float32(sign)})
        assert shown[f"live/{NOISE}"] == pytest.approx(value), "what the step was made with"
        if step % 2:
            value = np.clip(value + np.sign(np.mean(signs[step - 1 : step + 1]) - 0.5) * 2 * 16 / 160, 0, 1)
        values.append(float(state.memory["live"][NOISE]))
        assert values[-1] == pytest.approx(value)
    assert values == pytest.approx([0.5, 0.3, 0.3, 0.5])


def test_the_live_value_takes_the_numbers_place(ring):
    still = recipe(controllers={NOISE: ada(0.6, horizon=1e9)})
    state = jax.jit(gan.init)(still, jax.random.key(0))
    live = state.replace(memory=state.memory | {"live": {NOISE: jnp.float32(1.5)}})
    plain = gan.with_leaves(recipe(), {NOISE: 1.5})
    batch = gan.Batch(jnp.asarray(ring.train.images[:16]), jnp.arange(16))
    step = jax.jit(gan.train_step)
    (a, _), (b, _) = step(still, live, batch), step(plain, state.replace(memory={}), batch)
    assert_close(a.generator, b.generator, 1e-6)
    assert_close(a.discriminator, b.discriminator, 1e-6)


@pytest.mark.slow
def test_a_number_driven_on_v_follows_the_log_and_resumes(ring, tmp_path):
    driven = recipe(controllers={NOISE: drive("D/validation_logit", 0.0, horizon=640, rule=proportional)})
    intervals = {"log_every": 10, "checkpoint_every": 10, "sample_every": 10, "progress": False}
    whole = gan.fit(driven, ring, steps=40, **intervals)
    value = 0.5
    for row in whole.history:
        assert row[f"live/{NOISE}"] == pytest.approx(value, rel=1e-5)
        value = np.clip(value + row["D/validation_logit"] * 160 / 640, 0, 1)
    assert float(whole.state.memory["live"][NOISE]) == pytest.approx(value, rel=1e-5) and value != 0.5
    gan.fit(driven, ring, steps=20, out=tmp_path / "run", **intervals)
    resumed = gan.fit(driven, ring, steps=40, out=tmp_path / "run", resume=True, **intervals)
    assert_close(resumed.state, whole.state, 0)
    member = gan.sweep({"a": driven, "b": recipe(controllers=driven.controllers, ema_decay=0.5)}, ring, steps=40, seeds=[0],
                       log_every=10, progress=False, devices=1).run("a")  # fmt: skip
    assert float(member.state.memory["live"][NOISE]) == pytest.approx(value, rel=1e-3)


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"low": 1.0, "high": 1.0}, "bounds are 1 ... 1"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low > 0 with log"),
        ({"horizon": 0}, "horizon is 0 images"),
        ({"every": 0}, "every 0 steps"),
    ],
)
def test_a_controller_that_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(gan.UserError, match=message):
        drive("x", 0.5, **fields)


def test_what_is_not_there_cannot_be_driven_nor_followed(ring):
    with pytest.raises(gan.UserError, match="no such number to control: 'augment.noise.sdt'"):
        gan.fit(recipe(controllers={"augment.noise.sdt": ada()}), ring, steps=1, progress=False)
    with pytest.raises(gan.UserError, match="follows 'D/auc', which is not logged: use one of D/"):
        gan.fit(recipe(controllers={NOISE: drive("D/auc", 0.5)}), ring, steps=1, progress=False)
