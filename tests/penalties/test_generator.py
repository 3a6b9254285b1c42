"""Known answers: path lengths and features of linear players, penalties of weights against NumPy,
the steepest slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.penalties import evaluate, feature_matching, initial_memory, l2, max_gp, orthogonal, path_length
from tests.penalties.test_gradient import FAKES, REALS, linear, turn

RNG = np.random.default_rng(0)

# ---- path length --------------------------------------------------------------------------------

A = RNG.normal(size=(3, 4 * 2 * 5))
B = RNG.normal(size=(6, 7, 4 * 2 * 5))  # of a style of 6 layers and 7 features
IMAGES = np.zeros((5, 4, 2, 5))  # height 4, width 2
Z = RNG.normal(size=(5, 3))


def linear_generator(z, labels, shift=None):
    """G(z) = A^T z + the sum over layers of B_l^T shift_l."""
    flat = z @ A + (0 if shift is None else jnp.einsum("bls,lso->bo", shift, B))
    return flat.reshape(-1, 4, 2, 5)


def of_paths(generator=linear_generator, mean=0.0, seed=0):
    """A turn, and the y that it projects on."""
    draws = gan.Draws(jax.random.key(seed), jnp.arange(5))
    y = np.asarray(draws.normal((4, 2, 5), IMAGES.dtype)).reshape(5, -1) / np.sqrt(4 * 2)
    known = {"z": jnp.asarray(Z), "generator": generator, "draws": draws, "memory": {"mean": mean}, "real": None, "fake": None}
    return turn(linear(), fakes=jnp.asarray(IMAGES), **known), y


def test_path_lengths_of_a_linear_generator_are_those_of_its_matrix(x64):
    penalty, mean = gan.bind(path_length, weight=2.0, decay=0.25), 0.0
    assert initial_memory(penalty) == {"mean": 0.0}
    for seed in range(3):
        t, y = of_paths(mean=mean, seed=seed)
        lengths = np.linalg.norm(y @ A.T, axis=1)
        values, memory = evaluate(penalty, t)
        mean = 0.75 * mean + 0.25 * lengths.mean()
        np.testing.assert_allclose(memory["mean"], mean, rtol=1e-10)
        np.testing.assert_allclose(values, 2 * (lengths - mean) ** 2, rtol=1e-8)


def test_path_lengths_of_a_style_are_averaged_over_its_layers(x64):
    t, y = of_paths()
    lengths = np.sqrt((np.einsum("bo,lso->bls", y, B) ** 2).sum(2).mean(1))
    values, memory = evaluate(gan.bind(path_length, weight=1.0, decay=0.5, layers=6, style=7), t)
    np.testing.assert_allclose(memory["mean"], lengths.mean() / 2, rtol=1e-10)
    np.testing.assert_allclose(values, (lengths - lengths.mean() / 2) ** 2, rtol=1e-8)


def test_path_lengths_ask_for_the_whole_shape_of_a_style(x64):
    with pytest.raises(gan.UserError, match="both layers and style, or neither; got layers=0, style=7"):
        path_length(of_paths()[0], weight=1.0, style=7)


def mean_cost(generator, mean=0.0, **numbers):
    return evaluate(gan.bind(path_length, weight=1.0, **numbers), of_paths(generator, mean)[0])[0].mean()


def test_the_derivative_of_path_lengths_reaches_the_generator_s_parameters(x64):
    """Of G = c A z lengths are c |A y|; with decay 1 the average is that of the batch: the penalty
    is c^2 times a constant."""
    cost = lambda c: mean_cost(lambda z, labels: c * linear_generator(z, labels), decay=1.0)
    np.testing.assert_allclose(jax.grad(cost)(3.0), 2 * cost(3.0) / 3, rtol=1e-8)


def test_a_generator_that_ignores_its_latents_has_finite_derivatives(x64):
    cost = lambda c: mean_cost(lambda z, labels: linear_generator(c * z, labels), 1.0)
    assert np.isfinite(jax.grad(cost)(0.0))


# ---- feature matching --------------------------------------------------------------------------


def matched(real, fake, weight=3.0):
    said = {
        "real": gan.DiscriminatorOutput(jnp.zeros(5), features=real),
        "fake": gan.DiscriminatorOutput(jnp.zeros(5), features=fake),
    }
    return feature_matching(turn(linear(), **said), weight=weight)


def test_feature_matching_is_the_squared_distance_of_the_mean_features(x64):
    values = matched(jnp.asarray(REALS), jnp.asarray(FAKES))
    np.testing.assert_allclose(values, np.full(5, 3 * ((REALS.mean(0) - FAKES.mean(0)) ** 2).sum()), rtol=1e-12)


def test_features_of_equal_means_cost_nothing(x64):
    shuffled = REALS[::-1] + np.array([1, -1, 2, -2, 0])[:, None]
    np.testing.assert_allclose(matched(jnp.asarray(REALS), jnp.asarray(shuffled)), 0, atol=1e-25)


def test_feature_matching_wants_features():
    with pytest.raises(gan.UserError, match="features; this one has none"):
        matched(None, None)


# ---- weights -----------------------------------------------------------------------------------

PARAMS = {
    "conv": {"kernel": RNG.normal(size=(3, 3, 2, 4)), "bias": RNG.normal(size=4)},
    "dense": {"kernel": RNG.normal(size=(6, 5))},
    "logit": {"kernel": RNG.normal(size=(6, 1)), "scale": RNG.normal(size=(4, 4))},
    "label": {"embedding": RNG.normal(size=(3, 4))},
}


def of_weights(params):
    return turn(linear(), params=jax.tree.map(jnp.asarray, params))


def test_orthogonality_is_the_sum_of_squared_products_of_different_columns(x64):
    expected = 0
    for kernel in (PARAMS["conv"]["kernel"].reshape(18, 4), PARAMS["dense"]["kernel"]):
        columns = kernel.T
        expected += sum((a @ b) ** 2 for i, a in enumerate(columns) for j, b in enumerate(columns) if i != j)
    np.testing.assert_allclose(orthogonal(of_weights(PARAMS), weight=1e-4), np.full(5, 1e-4 * expected), rtol=1e-6)


def test_the_derivative_of_orthogonality_is_four_times_the_kernel_by_its_overlaps(x64):
    """The reference code adds half of it, 2 W (W^T W * (1 - I)), times its strength."""
    kernel = PARAMS["dense"]["kernel"]
    by_hand = 4 * kernel @ ((kernel.T @ kernel) * (1 - np.eye(5)))
    gradient = jax.grad(lambda w: orthogonal(of_weights({"a": {"kernel": w}}), weight=1.0).mean())(jnp.asarray(kernel))
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-9)


def test_orthogonal_columns_of_any_length_cost_nothing(x64):
    basis, _ = np.linalg.qr(RNG.normal(size=(8, 5)))
    kernel = (basis * np.arange(1.0, 6)).reshape(2, 2, 2, 5)
    np.testing.assert_allclose(orthogonal(of_weights({"a": {"kernel": kernel}}), weight=1.0), 0, atol=1e-25)


def test_l2_is_half_the_squared_norm_of_the_kernels(x64):
    kernels = [PARAMS[name]["kernel"] for name in ("conv", "dense", "logit")]
    expected = sum((kernel**2).sum() for kernel in kernels) / 2
    np.testing.assert_allclose(l2(of_weights(PARAMS), weight=0.5), np.full(5, 0.5 * expected), rtol=1e-9)


def test_networks_of_the_library_have_kernels_to_regularise():
    for recipe in (gan.recipes.dcgan((8, 8, 1), width=2, classes=3), gan.recipes.mlp((2,), width=4)):
        params = jax.eval_shape(gan.init, recipe, jax.random.key(0))
        for player in (params.generator, params.discriminator):
            ones = jax.tree.map(lambda x: np.ones(x.shape, np.float32), player.params)
            sizes = sum(x.size for path, x in jax.tree_util.tree_leaves_with_path(ones) if "kernel" in str(path[-1]))
            np.testing.assert_allclose(l2(of_weights(ones), weight=2.0), sizes)


# ---- the steepest slope ------------------------------------------------------------------------


@pytest.mark.parametrize("places, steepest", [([-3, -2, -1], 2), ([-3, 0.5, -1], 5), ([1, 2, 3], 5)])
def test_the_maximum_penalty_is_the_square_of_the_steepest_slope_met(x64, places, steepest):
    """D(x) = 5 x above 0 and 2 x below, looked at in three places (reals and fakes are the
    same)."""
    x = np.array(places, float)[:, None]
    t = turn(lambda x: jnp.where(x[:, 0] > 0, 5 * x[:, 0], 2 * x[:, 0]), x, x)
    np.testing.assert_allclose(max_gp(t, weight=10.0), np.full(3, 10.0 * steepest**2), rtol=1e-12)


def test_the_maximum_lies_between_reals_and_fakes(x64):
    """D = |x|^2 / 2 is steepest, with slope |x|, at the farthest of the points: between the ends,
    below the far one."""
    reals, fakes = np.full((2000, 1), 3.0), np.full((2000, 1), 1.0)
    slope = np.sqrt(max_gp(turn(lambda x: (x[:, 0] ** 2) / 2, reals, fakes), weight=1.0))
    assert 2.99 < slope[0] < 3


def test_a_packed_critic_is_as_steep_as_in_its_whole_packet(x64):
    """A logit of two examples, 3 x_1 + 4 x_2, has the slope 5."""
    packed = lambda x: x.reshape(-1, 2) @ jnp.array([3.0, 4.0])
    values = max_gp(turn(packed, np.ones((6, 1)), np.ones((6, 1))), weight=1.0)
    np.testing.assert_allclose(values, np.full(3, 25.0), rtol=1e-12)
