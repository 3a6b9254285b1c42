"""Latent recovery: known errors, the sign of the gap, restarts, and the binding of a trained
generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import recipes
from gan_jax.core.errors import UserError
from gan_jax.core.rng import named
from gan_jax.gan import step
from gan_jax.report.recovery import latent_recovery
from gan_jax.training.generation import generator_of

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
A = RANDOM.normal(size=(20, 4)).astype(np.float32)
ATOMS = np.linspace(0, 30, 8, dtype=np.float32)  # far apart: each is the only minimum of its surroundings
MEMORY = RANDOM.uniform(-1, 1, (8, 12)).astype(np.float32)


def linear(z):
    return z @ A.T


def test_a_linear_generator_leaves_the_distance_to_its_column_space():
    x, y = RANDOM.normal(size=(7, 20)).astype(np.float32), 2 * RANDOM.normal(size=(12, 20)).astype(np.float32)
    found = latent_recovery(linear, x, y, 4, KEY, restarts=1, steps=15, batch=8)
    basis, _ = np.linalg.qr(A.astype(float))
    for images, error, median in ((x, found.train_error, found.train), (y, found.held_out_error, found.held_out)):
        expected = ((images - images @ basis @ basis.T) ** 2).mean(1)
        np.testing.assert_allclose(error, expected, rtol=1e-4)
        assert median == pytest.approx(np.median(expected), rel=1e-4)
    assert found.gap == pytest.approx((found.held_out - found.train) / found.held_out)


def test_it_follows_rosenbrocks_curved_valley_to_its_end():
    generate = lambda z: jnp.stack([10 * (z[:, 1] - z[:, 0] ** 2), 1 - z[:, 0]], 1)
    start = lambda key, n: jnp.tile(jnp.float32([-1.2, 1]), (n, 1))
    images = np.zeros((2, 2), np.float32)
    after = [latent_recovery(generate, images, images, start, KEY, restarts=1, steps=n, batch=2).train for n in (5, 60)]
    assert after[0] > 0.1 and after[1] < 1e-6  # from 12.1; along the gradient it takes thousands of steps


@pytest.fixture(scope="module")
def lookup():
    """A generator that blends remembered images around where z lies, and what it recovers of them
    and of others."""

    def generate(z):
        return jax.nn.softmax(-0.5 * (z - ATOMS) ** 2) @ MEMORY

    others = np.random.default_rng(1).uniform(-1, 1, MEMORY.shape).astype(np.float32)

    def recover(train_images, held_out_images, restarts):
        near = lambda key, n: jax.random.uniform(key, (n, 1), minval=-2, maxval=32)
        return latent_recovery(generate, train_images, held_out_images, near, KEY, restarts=restarts, steps=25, batch=8)

    return recover, others


def test_remembered_images_give_a_gap_near_one_and_the_other_way_round_below_zero(lookup):
    recover, others = lookup
    found = recover(MEMORY, others, 12)
    assert found.gap > 0.95 and found.p_value < 0.01
    turned = recover(others, MEMORY, 12)
    assert turned.gap < -10 and turned.p_value == pytest.approx(found.p_value)
    assert turned.held_out == pytest.approx(found.train)


def test_restarts_help_where_there_are_many_minima(lookup):
    recover, others = lookup
    once, often = recover(MEMORY, others, 1), recover(MEMORY, others, 12)
    assert (often.train_error <= once.train_error).all()
    assert once.train > 0.05 > 0.01 > often.train


def test_the_same_images_have_no_gap(lookup):
    recover, others = lookup
    found = recover(others, others, 1)
    assert found.gap == 0 and found.p_value == 1


def test_uint8_images_are_read_as_unit_pixels():
    x = np.array([[0] * 20, [255] * 20], np.uint8)
    grey = lambda z: jnp.broadcast_to(z * 0 + 0.5, (len(z), 20))
    found = latent_recovery(grey, x, x, 1, KEY, restarts=1, steps=1, batch=2)
    np.testing.assert_allclose(found.train_error, [2.25, 0.25], rtol=1e-5)


def test_a_conditional_generator_gets_the_labels():
    images = np.array([[3, 1], [3, 1], [3, 2]], np.float32)
    labels = (np.array([1, 0, 2]), np.array([2, 2, 1]))
    generate = lambda z, labels: jnp.concatenate([z, labels[:, None] + 0.0 * z], 1)
    found = latent_recovery(generate, images, images, 1, KEY, restarts=1, steps=6, batch=2, labels=labels)
    np.testing.assert_allclose(found.train_error, [0, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(found.held_out_error, [0.5, 0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_bound_generator_makes_what_sampling_makes(classes):
    recipe = recipes.dcgan((8, 8, 1), width=4, latent_dim=6, classes=3) if classes else recipes.mlp((5,), width=8, depth=1)
    state = step.init(recipe, KEY)
    state = state.replace(ema=jax.tree.map(lambda x: x * 1.1, state.ema))  # not the raw generator
    generate, draw = generator_of(recipe, state)
    labels = jnp.array([2, 0, 1]) if classes else None
    expected = step.sample(recipe, state, KEY, 3, labels)
    np.testing.assert_allclose(generate(draw(named(KEY, "latent"), 3), labels), expected, rtol=1e-4, atol=1e-5)
    if classes:
        with pytest.raises(UserError, match="give latent_recovery labels="):
            generate(draw(KEY, 3))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"restarts": 0}, "restarts=0"),
        ({"draw": lambda key, n: jnp.zeros((n, 2, 2))}, r"starts \[3, k\]"),
        ({"train_images": A[:0]}, "at least 1"),
        ({"train_images": np.zeros((3, 21), np.float32)}, r"generate makes \[20\], the images are \[21\]"),
        ({"labels": (np.zeros(2), np.zeros(3))}, "3 training images"),
        ({"generate": lambda z: linear(z) * jnp.nan}, "training image 0 met no finite error"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words):
    given = {"generate": linear, "train_images": A.T[:3], "held_out_images": A.T[:3], "draw": 4, "key": KEY, "batch": 3}
    with pytest.raises(UserError, match=words) as caught:
        latent_recovery(**given | {"steps": 1, "restarts": 1} | arguments)
    assert "\n" not in str(caught.value)
