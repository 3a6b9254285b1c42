"""Spectral normalisation: power iteration by hand, NumPy's singular values, which weights and
statistics change, records."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax.core.net import EVALUATION, DiscriminatorOutput, Mode, Net, cast
from gan_jax.networks.conv import Conv
from gan_jax.networks.layers import BatchNorm, embedding
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.training import serialization
from tests.networks.test_dcgan import training
from tests.tiny_games import assert_close

RNG = np.random.default_rng(0)


class Small(nn.Module):
    """A convolution with its norm, a projection's table and a Dense."""

    @nn.compact
    def __call__(self, images, labels, mode: Mode):
        x = jnp.tanh(BatchNorm()(Conv(3, name="conv")(images), mode)).sum((1, 2))
        return DiscriminatorOutput(
            nn.Dense(1, name="dense", dtype=x.dtype)(x)[:, 0] + (x * embedding(labels, 4, 3, x.dtype)).sum(-1)
        )


PLAIN = Net(Small())
MATRICES = {  # weights as PyTorch has them, [outputs, inputs], a table as it is
    ("conv", "kernel"): lambda w: w.reshape(-1, w.shape[-1]).T,
    ("dense", "kernel"): lambda w: w.T,
    ("label", "embedding"): lambda w: w,
}
IMAGES, LABELS = RNG.normal(size=(5, 4, 4, 2)), np.array([3, 0, 1, 2, 1])


def prepared(net, dtype="float64"):
    """(params, stats, images): all at random, the vectors as `init` makes them."""
    images = jnp.asarray(IMAGES, dtype)
    params, stats = net.init(jax.random.key(0), images, jnp.asarray(LABELS), {})
    params = jax.tree.map(lambda x: jnp.asarray(x + RNG.normal(size=x.shape), dtype), params)
    return params, cast(stats, dtype), images


def leaf(tree, path):
    return np.asarray(tree[path[0]][path[1]])


def unit(x):
    return x / np.linalg.norm(x)


@pytest.fixture
def small(x64):
    return prepared(SpectralNorm(PLAIN))


def test_k_calls_are_k_power_iterations_by_hand(small):
    """PyTorch's spectral_norm: v <- W'u, u <- Wv, both of unit length, then W / u'Wv; a call each
    in training."""
    params, stats, _ = small
    vectors, net = stats["spectral"], SpectralNorm(PLAIN)
    for _ in range(3):
        old = vectors
        seen, vectors = net.normalised(params, vectors, True)
        for path, matrix in MATRICES.items():
            w, u = matrix(leaf(params, path)), np.asarray(old[path[0]][path[1]]["u"])
            v = unit(w.T @ u)
            u = unit(w @ v)
            np.testing.assert_allclose(matrix(leaf(seen, path)), w / (u @ w @ v), rtol=1e-10)
            np.testing.assert_allclose(vectors[path[0]][path[1]]["u"], u, rtol=1e-10)
            np.testing.assert_allclose(vectors[path[0]][path[1]]["v"], v, rtol=1e-10)


def test_more_iterations_are_more_calls(small):
    params, stats, _ = small
    many, one = SpectralNorm(PLAIN, iterations=3), SpectralNorm(PLAIN)
    vectors = stats["spectral"]
    for _ in range(3):
        seen, vectors = one.normalised(params, vectors, True)
    assert_close((seen, vectors), many.normalised(params, stats["spectral"], True), 1e-12)


def test_it_converges_to_the_largest_singular_value(small):
    params, stats, _ = small
    seen, _ = SpectralNorm(PLAIN, iterations=200).normalised(params, stats["spectral"], True)
    for path, matrix in MATRICES.items():
        w, normal = matrix(leaf(params, path)), matrix(leaf(seen, path))
        np.testing.assert_allclose(normal, w / np.linalg.svd(w, compute_uv=False)[0], rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(normal, 2), 1, rtol=1e-6)


def test_biases_norms_and_what_is_skipped_stay(small):
    params, stats, images = small
    seen, _ = SpectralNorm(PLAIN).normalised(params, stats["spectral"], True)
    assert_close(seen["BatchNorm_0"], params["BatchNorm_0"], 0)
    assert_close(seen["conv"]["bias"], params["conv"]["bias"], 0)
    net = SpectralNorm(PLAIN, skip=("label", "dense"))
    params, stats = net.init(jax.random.key(0), images, jnp.asarray(LABELS), {})
    assert list(stats["spectral"]) == ["conv"]
    seen, _ = net.normalised(params, stats["spectral"], True)
    assert_close(seen["dense"], params["dense"], 0)
    assert not np.allclose(seen["conv"]["kernel"], params["conv"]["kernel"])


def test_the_network_is_its_own_on_the_normalised_weights(small):
    """Output, its other statistics, and in evaluation no change of the statistics."""
    params, stats, images = small
    net, labels = SpectralNorm(PLAIN), jnp.asarray(LABELS)
    for mode in (training(5), EVALUATION):
        seen, vectors = net.normalised(params, stats["spectral"], mode.train)
        output, new = net.apply(params, stats, images, labels, mode, {})
        expected, others = PLAIN.apply(seen, {"batch_stats": stats["batch_stats"]}, images, labels, mode, {})
        assert_close(output, expected, 1e-12)
        assert_close(new, {**others, "spectral": vectors}, 1e-12)
    assert_close(new, stats, 0)


def test_the_gradient_takes_the_vectors_as_constants(small):
    """dL/dW = (G - <G, W / sigma> u v') / sigma for G = dL/d(W / sigma) (Miyato et al., 2018,
    equation 9)."""
    params, stats, _ = small
    net, g = SpectralNorm(PLAIN), RNG.normal(size=(3, 1))
    normal = lambda w: net.normalised({**params, "dense": {**params["dense"], "kernel": w}}, stats["spectral"], True)
    w = params["dense"]["kernel"]
    found = jax.grad(lambda w: (g * normal(w)[0]["dense"]["kernel"]).sum())(w)
    u, v = (np.asarray(normal(w)[1]["dense"]["kernel"][name]) for name in "uv")
    sigma = v @ w @ u
    np.testing.assert_allclose(found, (g - (g * w / sigma).sum() * np.outer(v, u)) / sigma, rtol=1e-9)


def test_a_gradient_penalty_s_gradient_is_that_of_differences(small):
    """R1 through the normalisation: reverse over reverse."""
    params, stats, images = small
    net, labels = SpectralNorm(PLAIN), jnp.asarray(LABELS)

    @jax.jit
    @jax.value_and_grad
    def r1(scale):
        w = {**params, "conv": {**params["conv"], "kernel": params["conv"]["kernel"] + scale * direction}}
        critic = lambda x: net.apply(w, stats, x, labels, EVALUATION, {})[0].logits.sum()
        return jnp.square(jax.grad(critic)(images)).sum()

    direction = jnp.asarray(np.random.default_rng(3).normal(size=params["conv"]["kernel"].shape))
    (up, _), (down, _), (_, slope) = r1(1e-5), r1(-1e-5), r1(0.0)
    np.testing.assert_allclose(slope, (up - down) / 2e-5, rtol=1e-6)


def test_members_of_a_population_are_what_each_is_alone(small):
    params, stats, _ = small
    net = SpectralNorm(PLAIN)
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x + 0.1]), (params, stats["spectral"]))
    found = jax.vmap(lambda params, vectors: net.normalised(params, vectors, True))(*many)
    for i in range(2):
        alone = net.normalised(*jax.tree.map(lambda x, i=i: x[i], many), True)
        assert_close(jax.tree.map(lambda x, i=i: x[i], found), alone, 1e-12)


def test_shorter_vectors_give_the_same_sigma_in_evaluation(small):
    """As those of a moving average are."""
    params, stats, _ = small
    net, vectors = SpectralNorm(PLAIN), stats["spectral"]
    short = jax.tree.map(lambda x: 0.3 * x, vectors)
    assert_close(net.normalised(params, short, False)[0], net.normalised(params, vectors, False)[0], 1e-12)


def test_the_first_sigma_is_a_good_estimate(small):
    """The vectors have settled before the first call, whose estimate would otherwise be of
    chance."""
    _, _, images = small
    net = SpectralNorm(PLAIN)
    params, stats = net.init(jax.random.key(3), images, jnp.asarray(LABELS), {})
    seen, _ = net.normalised(params, stats["spectral"], False)
    for path, matrix in MATRICES.items():
        np.testing.assert_allclose(np.linalg.norm(matrix(leaf(seen, path)), 2), 1, atol=0.05)


def test_a_weight_of_zeros_stays_zero(small):
    params, stats, _ = small
    zeros = jax.tree.map(jnp.zeros_like, params)
    for train in (True, False):
        seen, vectors = SpectralNorm(PLAIN).normalised(zeros, stats["spectral"], train)
        assert all(np.isfinite(x).all() and not x.any() for x in jax.tree.leaves(seen))


def test_a_weight_that_starts_at_zero_is_normalised_once_it_has_moved(small):
    _, stats, _ = small
    net, updated = SpectralNorm(PLAIN), {"dense": {"kernel": jnp.array([[0.3], [-2.0], [1.5]])}}
    still = {"dense": {"kernel": jnp.zeros((3, 1))}}
    vectors = {"dense": stats["spectral"]["dense"]}
    for params in (still, still, updated):
        seen, vectors = net.normalised(params, vectors, True)
    np.testing.assert_allclose(np.linalg.norm(seen["dense"]["kernel"]), 1, rtol=1e-12)


def test_a_narrower_network_keeps_wide_vectors():
    """sigma is computed from float32 weights, before bfloat16; the logits come back in float32."""
    net = SpectralNorm(PLAIN)
    params, stats, images = prepared(net, "float32")
    labels = jnp.asarray(LABELS)
    wide, kept = net.apply(params, stats, images, labels, training(5), {})
    narrow, new = net.apply(params, stats, images, labels, training(5), {}, "bfloat16")
    assert narrow.logits.dtype == jnp.float32 and not np.array_equal(narrow.logits, wide.logits)
    np.testing.assert_allclose(narrow.logits, wide.logits, atol=0.1)
    assert_close(new["spectral"], kept["spectral"], 0)


def test_it_compares_and_is_recorded_by_value():
    net = SpectralNorm(PLAIN, iterations=2, epsilon=1e-8, skip=("label",))
    assert serialization.from_json(json.loads(json.dumps(serialization.to_json(net))), [__name__]) == net
    assert hash(net) == hash(SpectralNorm(Net(Small()), 2, 1e-8, ("label",))) and net != SpectralNorm(PLAIN)


def test_what_does_not_fit_is_said_in_a_line():
    with pytest.raises(gan.UserError, match="at least 1 power iteration a call, not 0"):
        SpectralNorm(PLAIN, iterations=0)
    with pytest.raises(gan.UserError, match="a tuple of names"):
        SpectralNorm(PLAIN, skip="label")
    net, key, images = SpectralNorm(PLAIN, skip=("nobody",)), jax.random.key(0), jnp.asarray(IMAGES)
    with pytest.raises(gan.UserError, match="skips 'nobody', which the network does not have; it has .*conv"):
        jax.eval_shape(lambda: net.init(key, images, jnp.asarray(LABELS), {}))
