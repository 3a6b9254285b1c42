"""Latents that are truncated or joined by a path, the picture of a path, and noise in hidden
layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import kstest, truncnorm

import gan_jax as gan
from gan_jax import latents, plots
from gan_jax.core.net import EVALUATION
from gan_jax.networks import dcgan, maxout, mlp
from gan_jax.networks.layers import Noise
from gan_jax.training import generation

RNG = np.random.default_rng(0)
DRAWS = gan.Draws(jax.random.key(0), jnp.arange(500))


def cut(threshold, dtype=jnp.float32):
    return np.asarray(latents.truncated(DRAWS, None, dtype, dimension=4, threshold=threshold))


# ---- truncation --------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [2.0, 0.5, 0.04])
def test_truncated_latents_are_normal_ones_within_the_threshold(threshold):
    z = cut(threshold)
    assert np.abs(z).max() <= threshold
    assert kstest(z.ravel(), truncnorm(-threshold, threshold).cdf).pvalue > 0.01


def test_a_far_threshold_draws_what_normal_draws():
    np.testing.assert_allclose(cut(8.0), latents.normal(DRAWS, None, jnp.float32, dimension=4), atol=1e-4)


def test_an_example_moves_towards_the_centre_as_the_threshold_falls():
    wide, narrow = cut(2.0), cut(1.0)
    assert (np.sign(wide) == np.sign(narrow)).all() and (np.abs(narrow) <= np.abs(wide)).all()
    np.testing.assert_allclose(cut(0.0), 0, atol=1e-30)


# ---- paths -------------------------------------------------------------------------------------


def test_slerp_turns_by_equal_angles(x64):
    """From the x axis to an axis at 120 degrees."""
    start, end = jnp.array([2.0, 0.0]), 2 * jnp.array([-0.5, 3**0.5 / 2])
    for share, angle in [(0.0, 0), (0.25, 30), (0.5, 60), (1.0, 120)]:
        expected = 2 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        np.testing.assert_allclose(latents.slerp(start, end, share), expected, atol=1e-12)


def test_slerp_of_orthogonal_ends_of_unequal_length_is_a_quarter_of_an_ellipse(x64):
    start, end = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 1.0]])
    middle = latents.slerp(start, end, jnp.array([[1 / 3]]))
    np.testing.assert_allclose(middle, [[3 * np.cos(np.pi / 6), np.sin(np.pi / 6)]], rtol=1e-12)


@pytest.mark.parametrize("end", [[2.0, 4.0], [-1.0, -2.0], [1.0, 2.0 + 1e-12]])
def test_slerp_of_parallel_or_opposite_ends_is_a_straight_line(x64, end):
    start, end = jnp.array([1.0, 2.0]), jnp.array(end)
    np.testing.assert_allclose(latents.slerp(start, end, 0.25), 0.75 * start + 0.25 * end, atol=1e-9)


def test_interpolations_have_both_ends_and_equal_steps(x64):
    start, end = jnp.asarray(RNG.normal(size=(2, 3, 5)))
    for spherical in (True, False):
        z = latents.interpolate(start, end, 7, spherical)
        assert z.shape == (3, 7, 5)
        np.testing.assert_allclose(z[:, 0], start, atol=1e-12)
        np.testing.assert_allclose(z[:, -1], end, atol=1e-12)
    np.testing.assert_allclose(np.diff(z, axis=1), np.broadcast_to((end - start)[:, None] / 6, (3, 6, 5)), atol=1e-12)


def test_a_path_of_one_step_is_refused():
    with pytest.raises(gan.UserError, match="steps >= 2, not 1"):
        latents.interpolate(jnp.zeros((1, 2)), jnp.ones((1, 2)), 1)


@pytest.mark.parametrize("classes", [0, 3])
def test_paths_go_from_sample_to_sample(classes):
    recipe = gan.recipes.dcgan((8, 8, 1), width=2, latent_dim=3, classes=classes)
    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    images = generation.paths(recipe, state, [0, 4], [3, 1], 3, seed=7)
    assert images.shape == (2, 3, 8, 8, 1)
    labels = None if not classes else jnp.array([0, 1, 2, 0, 1])  # a path keeps the label of its start
    samples = gan.sample(recipe, state, jax.random.key(7), 5, labels)
    np.testing.assert_allclose(images[:, 0], samples[jnp.array([0, 4])], atol=1e-5)
    np.testing.assert_allclose(images[:, 2], samples[jnp.array([3, 1])], atol=1e-5)


def test_paths_want_as_many_ends_as_starts():
    recipe = gan.recipes.dcgan((8, 8, 1), width=2)
    with pytest.raises(gan.UserError, match="got 2 starts, 3 ends"):
        generation.paths(recipe, None, [0, 1], [2, 3, 4])


def test_the_grid_has_a_path_a_row():
    images = RNG.integers(0, 256, (2, 3, 4, 5, 1)).astype(np.uint8)
    grid = plots.interpolation_grid(images, pad=2, scale=1)
    assert grid.shape == (2 * 6 + 2, 3 * 7 + 2, 3)
    np.testing.assert_array_equal(grid[8:12, 16:21, 0], images[1, 2, ..., 0])
    np.testing.assert_array_equal(plots.interpolation_grid(np.ones((1, 2, 2, 2, 1)), 0, 1), 255)
    with pytest.raises(gan.UserError, match=r"\[rows, steps, h, w, c\], not \[2, 4, 5, 1\]"):
        plots.interpolation_grid(images[0, :2])


# ---- noise in hidden layers --------------------------------------------------------------------


def training(n=4, seed=0):
    return gan.Mode(train=True, draws=gan.Draws(jax.random.key(seed), jnp.arange(n)))


def noisy(x, std, mode):
    return Noise().apply({}, x, std, mode)


def test_noise_is_normal_of_the_given_deviation():
    """The deviation is traced: one program for all of them."""
    added = jax.jit(lambda std: noisy(jnp.ones((100, 400)), std, training(100)) - 1)
    for std in (0.1, 2.0):
        assert kstest(np.asarray(added(jnp.float32(std))).ravel() / std, "norm").pvalue > 0.01
    np.testing.assert_array_equal(added(jnp.float32(0)), 0)
    assert added._cache_size() == 1


def test_noise_is_off_in_evaluation_and_without_a_deviation():
    x = jnp.ones((4, 50))
    for std, mode in [(0.5, EVALUATION), (0.5, training().replace(train=False)), (None, training())]:
        np.testing.assert_array_equal(noisy(x, std, mode), x)


def test_noise_differs_between_examples_steps_and_layers_and_not_with_the_batch():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, mode):
            return Noise()(x, 1.0, mode), Noise()(x, 1.0, mode)

    x = jnp.zeros((4, 3))
    (a, b), (c, _) = Two().apply({}, x, training()), Two().apply({}, x, training(seed=1))
    assert len({tuple(row.tolist()) for y in (a, b, c) for row in y}) == 12
    alone = training().replace(draws=training().draws.replace(index=jnp.array([2])))
    np.testing.assert_array_equal(Two().apply({}, x[:1], alone)[0][0], a[2])


def test_noise_of_bfloat16_is_drawn_in_float32():
    """Drawn in bfloat16, values of probability below 1 / 256 would not come at all."""
    z = noisy(jnp.zeros((100, 2000), jnp.bfloat16), jnp.bfloat16(1), training(100))
    assert z.dtype == jnp.bfloat16
    assert 3.5 < np.abs(np.asarray(z, np.float32)).max() < 6.5


MODULES = {
    "dcgan_generator": (dcgan.Generator(8, 1, 2, norm=None), (2, 4)),
    "dcgan_discriminator": (dcgan.Discriminator(2), (2, 8, 8, 1)),
    "mlp_generator": (mlp.Generator(2, 8, 1), (2, 4)),
    "mlp_discriminator": (mlp.Discriminator(8, 1), (2, 2)),
    "maxout_discriminator": (maxout.Discriminator(8, 1), (2, 2)),
    "maxout_generator": (maxout.Generator(2, 8, 1), (2, 4)),
}


@pytest.mark.parametrize("name", MODULES)
def test_networks_have_noise_in_training_alone_and_it_moves_no_other_draw(name):
    module, shape = MODULES[name]
    inputs = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    variables = module.init(jax.random.key(0), inputs, None, EVALUATION)

    @jax.jit
    def answers(std):
        say = lambda mode, **numbers: jax.tree.leaves(
            module.apply(variables, inputs, None, mode, mutable=["batch_stats"], **numbers)[0]
        )[0]
        train = training(2)
        pairs = say(EVALUATION, noise=std), say(EVALUATION), say(train, noise=std), say(train)
        return (*pairs, say(train, noise=std, dropout=0.5), say(train, dropout=0.5))

    for std in (0.0, 3.0):
        evaluated, still, trained, plain, dropped, dropped_alone = answers(jnp.float32(std))
        np.testing.assert_array_equal(evaluated, still)
        assert np.allclose(trained, plain) == (std == 0) and np.allclose(dropped, dropped_alone) == (std == 0)
