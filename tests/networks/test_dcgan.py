"""Known answers: the article's DCGAN layer by layer, normalisations and dropout against NumPy,
shapes of every size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.networks import dcgan, mlp
from gan_jax.networks.dcgan import SIZES
from gan_jax.networks.layers import BatchNorm, Dropout, Norm
from tests.networks.test_conv import numpy_conv, numpy_conv_transpose
from tests.tiny_games import assert_close

RNG = np.random.default_rng(0)


def training(n=4, seed=0, axis_name=None):
    return gan.Mode(train=True, draws=gan.Draws(jax.random.key(seed), jnp.arange(n)), axis_name=axis_name)


def made(module, inputs, labels=None, dtype="float64", **numbers):
    """(params, stats) at random, biases and scales too, so that a missing one shows. Nothing is
    compiled."""
    shapes = jax.eval_shape(Net(module).init, jax.random.key(0), inputs, labels, numbers)
    rng = np.random.default_rng(7)
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), dtype), shapes[0])
    return params, jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.5, 2, size=x.shape), dtype), shapes[1])


def run(module, params, stats, inputs, mode=EVALUATION, labels=None, compute_dtype=None, **numbers):
    """Net.apply as one program."""
    apply = lambda *args: Net(module).apply(*args, compute_dtype)
    return jax.jit(apply)(params, stats, inputs, labels, mode, numbers)


def shapes(recipe):
    """(generator's and discriminator's params and stats, images, logits) of a batch of 2, as
    shapes."""

    def run(key):
        state = gan.init(recipe, key)
        images = gan.sample(recipe, state, key, 2)
        labels = jnp.zeros(2, jnp.int32) if recipe.classes else None
        d, player = recipe.discriminator, state.discriminator
        output, _ = d.net.apply(player.params, player.stats, images, labels, EVALUATION, {})
        return state.generator, state.discriminator, images, output

    return jax.eval_shape(run, jax.random.key(0))


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


# ---- the article's DCGAN -----------------------------------------------------------------------


def test_the_article_s_networks_have_its_numbers_of_parameters():
    g, d, images, output = shapes(gan.recipes.dcgan((32, 32, 3)))
    assert count(g.params) == 1_447_171 and count(d.params) == 217_984
    assert images.shape == (2, 32, 32, 3) and output.logits.shape == (2,) and output.features.shape == (2, 8 * 8 * 128)


def test_the_article_s_layers_have_its_shapes():
    """Kernels, biases and batch norms in the article's order, the first of them over the flat 4,096
    features."""
    g, d, _, _ = shapes(gan.recipes.dcgan((32, 32, 3)))
    assert jax.tree.map(lambda x: x.shape, g.params) == {
        "Dense_0": {"kernel": (100, 4 * 4 * 256)},
        "Norm_0": {"BatchNorm_0": {"scale": (4096,), "bias": (4096,)}},
        "Conv_0": {"kernel": (5, 5, 256, 128), "bias": (128,)},
        "Norm_1": {"BatchNorm_0": {"scale": (128,), "bias": (128,)}},
        "Conv_1": {"kernel": (5, 5, 128, 64), "bias": (64,)},
        "Norm_2": {"BatchNorm_0": {"scale": (64,), "bias": (64,)}},
        "Conv_2": {"kernel": (5, 5, 64, 3), "bias": (3,)},
    }
    assert jax.tree.map(lambda x: x.shape, d.params) == {
        "Conv_0": {"kernel": (5, 5, 3, 64), "bias": (64,)},
        "Conv_1": {"kernel": (5, 5, 64, 128), "bias": (128,)},
        "Dense_0": {"kernel": (8 * 8 * 128, 1)},
    }
    assert d.stats == {}, "the article's discriminator has no batch norm"


def leaky(x):
    return np.where(x > 0, x, 0.3 * x)


def normalised(x, scale, bias):
    """Training-mode batch norm over all axes but the last, Keras' epsilon."""
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3) * scale + bias


def test_the_generator_is_the_article_s(x64):
    module, z = dcgan.Generator(32, 3, width=2), jnp.asarray(RNG.normal(size=(3, 5)))
    p, stats = made(module, z)
    images, new = run(module, p, stats, z, training(3))

    norm = lambda x, i: leaky(normalised(x, *(np.asarray(p[f"Norm_{i}"]["BatchNorm_0"][k]) for k in ("scale", "bias"))))
    layer = lambda i: (np.asarray(p[f"Conv_{i}"][k]) for k in ("kernel", "bias"))
    up = lambda x, kernel, bias: numpy_conv_transpose(x, kernel, 2, "SAME") + bias
    dense = np.asarray(z) @ np.asarray(p["Dense_0"]["kernel"])
    x = norm(dense, 0).reshape(3, 4, 4, 8)
    x = norm(up(x, *layer(0)), 1)
    x = norm(up(x, *layer(1)), 2)
    np.testing.assert_allclose(images, np.tanh(up(x, *layer(2))), atol=1e-10)
    before, after = (s["batch_stats"]["Norm_0"]["BatchNorm_0"] for s in (stats, new))
    np.testing.assert_allclose(after["mean"], 0.99 * before["mean"] + 0.01 * dense.mean(0), atol=1e-12)
    np.testing.assert_allclose(after["var"], 0.99 * before["var"] + 0.01 * dense.var(0), atol=1e-12)


def test_the_discriminator_is_the_article_s(x64):
    module, images = dcgan.Discriminator(width=2), jnp.asarray(RNG.uniform(-1, 1, size=(3, 32, 32, 3)))
    p, stats = made(module, images)
    output, _ = run(module, p, stats, images, training(3))
    layer = lambda i: (np.asarray(p[f"Conv_{i}"][k]) for k in ("kernel", "bias"))
    down = lambda x, kernel, bias: leaky(numpy_conv(x, kernel, 2, "SAME") + bias)
    features = down(down(np.asarray(images), *layer(0)), *layer(1)).reshape(3, -1)
    np.testing.assert_allclose(output.features, features, atol=1e-10)
    np.testing.assert_allclose(output.logits, (features @ np.asarray(p["Dense_0"]["kernel"]))[:, 0], atol=1e-10)


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_supported_size_makes_images_of_that_size(size):
    for channels in (1, 3):
        _, d, images, output = shapes(gan.recipes.dcgan((size, size, channels), width=2, discriminator_norm="batch"))
        assert images.shape == (2, size, size, channels) and output.logits.shape == (2,)
        assert output.features.shape[1] >= 4, "a few pixels are left at the end"


@pytest.mark.parametrize("size, channels", [(8, 1), (16, 3), (28, 1), (32, 3), (64, 1)])
def test_images_lie_within_the_data_s_range(size, channels):
    """However large the parameters."""
    module, z = dcgan.Generator(size, channels, width=2), jnp.ones((3, 4))
    params, stats = made(module, z, dtype="float32")
    images, _ = run(module, jax.tree.map(lambda x: 100 * x, params), stats, z)
    assert images.shape == (3, size, size, channels) and images.dtype == jnp.float32
    assert 0.99 < np.abs(images).max() <= 1


@pytest.mark.parametrize("size", [1, 4, 12, 30, 33, 256])
def test_an_unsupported_size_is_refused_with_those_that_are_supported(size):
    with pytest.raises(gan.UserError, match=f"image size {size} is not supported") as error:
        gan.recipes.dcgan((size, size, 3))
    assert all(f"{known}" in str(error.value) for known in (8, 16, 28, 32, 64, 128))


@pytest.mark.parametrize("shape", [(32, 16, 3), (32, 32, 2), (32, 32), (2,)])
def test_dcgan_makes_square_grey_or_rgb_images_only(shape):
    with pytest.raises(gan.UserError, match="recipes.mlp" if len(shape) == 1 else "square grey or RGB"):
        gan.recipes.dcgan(shape)


# ---- normalisation -----------------------------------------------------------------------------


def numpy_batch_norm(x, mean, var, params):
    return (x - mean) / np.sqrt(var + 1e-3) * params["scale"] + params["bias"]


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 5)])
def test_batch_norm_is_its_formula_in_training_and_evaluation(x64, shape):
    """Two passes in training, then one in evaluation, which uses the running averages of the
    two."""
    module, axes = BatchNorm(), tuple(range(len(shape) - 1))
    features = shape[-1]
    stats = {"batch_stats": {"mean": jnp.zeros(features), "var": jnp.ones(features)}}
    params = {k: jnp.asarray(RNG.normal(size=features)) for k in ("scale", "bias")}
    mean, var = np.zeros(features), np.ones(features)
    for _ in range(2):
        x = 3 + 2 * RNG.normal(size=shape)
        y, stats = module.apply({"params": params, **stats}, jnp.asarray(x), training(), mutable=["batch_stats"])
        np.testing.assert_allclose(y, numpy_batch_norm(x, x.mean(axes), x.var(axes), params), rtol=1e-10)
        mean, var = 0.99 * mean + 0.01 * x.mean(axes), 0.99 * var + 0.01 * x.var(axes)
        np.testing.assert_allclose(stats["batch_stats"]["mean"], mean, rtol=1e-10)
        np.testing.assert_allclose(stats["batch_stats"]["var"], var, rtol=1e-10)
    y = module.apply({"params": params, **stats}, jnp.asarray(x), EVALUATION)
    np.testing.assert_allclose(y, numpy_batch_norm(x, mean, var, params), rtol=1e-10)


def test_batch_norm_starts_as_the_identity_of_normal_inputs():
    variables = BatchNorm().init(jax.random.key(0), jnp.ones((2, 3)), EVALUATION)
    x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    np.testing.assert_allclose(BatchNorm().apply(variables, x, EVALUATION), x / np.sqrt(1.001), rtol=1e-6)


def test_batch_norm_over_a_device_axis_is_over_the_whole_batch(x64):
    x = jnp.asarray(5 + RNG.normal(size=(4, 2, 3)))
    variables = {"params": {"scale": jnp.full(3, 2.0), "bias": jnp.ones(3)}}
    variables["batch_stats"] = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    norm = lambda x, axis: BatchNorm().apply(variables, x, training(axis_name=axis), mutable=["batch_stats"])
    shares, stats = jax.vmap(lambda x: norm(x, "devices"), axis_name="devices")(x)
    whole, whole_stats = norm(x.reshape(8, 3), None)
    assert_close(shares.reshape(8, 3), whole, 1e-12)
    assert_close(stats, jax.tree.map(lambda x: jnp.stack([x] * 4), whole_stats), 1e-12)


def test_batch_norm_of_bfloat16_keeps_its_statistics_in_float32():
    x = jnp.asarray(RNG.normal(size=(4096, 1)) + 3, jnp.bfloat16)
    variables = BatchNorm().init(jax.random.key(0), x, EVALUATION)
    y, new = BatchNorm().apply(variables, x, training(), mutable=["batch_stats"])
    exact = np.asarray(x, np.float64)
    assert y.dtype == jnp.bfloat16 and new["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.01 * exact.mean(0), rtol=1e-4)
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.99 + 0.01 * exact.var(0), rtol=1e-4)


@pytest.mark.parametrize("kind, axes", [("layer", (1, 2, 3)), ("instance", (1, 2))])
def test_layer_and_instance_norm_are_their_formulae(x64, kind, axes):
    x = 2 + RNG.normal(size=(3, 4, 4, 5))
    module = Norm(kind)
    variables = module.init(jax.random.key(0), jnp.asarray(x), EVALUATION)
    params = jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=x.shape)), variables["params"])
    scale, bias = (next(iter(params.values()))[k] for k in ("scale", "bias"))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-6) * scale + bias
    for mode in (training(3), EVALUATION):
        np.testing.assert_allclose(module.apply({"params": params}, jnp.asarray(x), mode), expected, rtol=1e-8, atol=1e-8)


def test_layer_norm_of_rows_is_over_each_row(x64):
    x = RNG.normal(size=(3, 5))
    y, _ = Norm("layer").init_with_output(jax.random.key(0), jnp.asarray(x), EVALUATION)
    np.testing.assert_allclose(y, (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6), rtol=1e-8)


def test_no_norm_and_the_instance_norm_of_rows_change_nothing():
    x = jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32)
    for kind in (None, "instance"):
        y, variables = Norm(kind).init_with_output(jax.random.key(0), x, EVALUATION)
        np.testing.assert_array_equal(y, x)
        assert not jax.tree.leaves(variables)


def test_an_unknown_norm_is_refused():
    with pytest.raises(gan.UserError, match="unknown normalisation 'group'"):
        Norm("group").init(jax.random.key(0), jnp.ones((2, 3)), EVALUATION)


# ---- dropout -----------------------------------------------------------------------------------


def drop(x, rate, mode):
    return Dropout().apply({}, x, rate, mode)


def test_dropout_keeps_the_expectation_and_drops_its_share():
    """The rate is traced: one program for all of them."""
    x = jnp.ones((100, 200))
    dropped = jax.jit(lambda rate: drop(x, rate, training(100)))
    for rate in (0.0, 0.1, 0.5, 0.9):
        y = np.asarray(dropped(jnp.float32(rate)))
        error = np.sqrt(rate * (1 - rate) / y.size)
        assert abs((y == 0).mean() - rate) <= 4 * error
        np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
        assert abs(y.mean() - 1) <= 4 * error / (1 - rate)
    assert dropped._cache_size() == 1


def test_dropout_is_off_in_evaluation_and_without_a_rate():
    x = jnp.ones((4, 50))
    np.testing.assert_array_equal(drop(x, 0.5, EVALUATION), x)
    np.testing.assert_array_equal(drop(x, 0.5, training().replace(train=False)), x)
    np.testing.assert_array_equal(drop(x, None, training()), x)


def test_dropout_masks_differ_between_examples_steps_and_layers():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, mode):
            return Dropout()(x, 0.5, mode), Dropout()(x, 0.5, mode)

    x = jnp.ones((4, 64))
    (a, b), (c, _) = Two().apply({}, x, training()), Two().apply({}, x, training(seed=1))
    masks = {tuple((row == 0).tolist()) for y in (a, b, c) for row in y}
    assert len(masks) == 12
    np.testing.assert_array_equal(Two().apply({}, x, training())[0], a)


def test_dropout_of_an_example_does_not_depend_on_its_batch():
    x = jnp.ones((4, 16))
    mode = training()
    alone = mode.replace(draws=mode.draws.replace(index=jnp.array([2])))
    np.testing.assert_array_equal(drop(x[:1], 0.5, alone)[0], drop(x, 0.5, mode)[2])


def test_dropout_of_bfloat16_drops_small_shares_too():
    y = drop(jnp.ones((100, 2000), jnp.bfloat16), jnp.bfloat16(0.001), training(100))
    assert y.dtype == jnp.bfloat16
    assert abs((np.asarray(y, np.float32) == 0).mean() - 0.001) < 3e-4


MODULES = {
    "dcgan_generator": (dcgan.Generator(8, 1, 2, norm=None, classes=3), (2, 4)),
    "dcgan_discriminator": (dcgan.Discriminator(2, classes=3), (2, 8, 8, 1)),
    "mlp_generator": (mlp.Generator(2, 8, 1, classes=3), (2, 4)),
    "mlp_discriminator": (mlp.Discriminator(8, 1, classes=3), (2, 2)),
}


def answers(name, **numbers):
    """(mode, labels, numbers) -> the output of the module of this name for some batch."""
    module, shape = MODULES[name]
    x = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)
    params, stats = made(module, x, jnp.zeros(2, jnp.int32), "float32", **numbers)
    return lambda mode, labels, **numbers: jax.tree.leaves(run(module, params, stats, x, mode, labels, **numbers)[0])[0]


@pytest.mark.parametrize("name", MODULES)
def test_networks_drop_in_training_alone(name):
    answer, labels = answers(name, dropout=0.5), jnp.array([0, 2])
    evaluated = answer(EVALUATION, labels, dropout=0.9)
    assert_close(answer(training(2), labels, dropout=0.0), evaluated, 1e-6)
    assert not np.allclose(answer(training(2), labels, dropout=0.9), evaluated)


# ---- labels ------------------------------------------------------------------------------------


def test_the_discriminator_projects_its_features_on_the_label_s_vector(x64):
    """Miyato & Koyama (2018): the logit gains the product of the label's vector and the
    features."""
    module = dcgan.Discriminator(2, classes=3)
    images, labels = jnp.asarray(RNG.normal(size=(4, 8, 8, 1))), jnp.array([0, 2, 1, 2])
    params, _ = made(module, images, labels)
    output, _ = run(module, params, {}, images, labels=labels)
    features = np.asarray(output.features)
    expected = features @ np.asarray(params["Dense_0"]["kernel"])[:, 0]
    expected += (features * np.asarray(params["label"]["embedding"])[labels]).sum(1)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-10)


@pytest.mark.parametrize("name", MODULES)
def test_labels_change_what_a_conditional_network_says(name):
    answer = answers(name)
    a, b = (answer(EVALUATION, jnp.array([0, label])) for label in (0, 2))
    assert_close(a[0], b[0], 1e-6)
    assert not np.allclose(a[1], b[1])


# ---- multi-layer perceptrons and the seam ------------------------------------------------------


def test_the_perceptrons_are_their_matrix_products(x64):
    x = RNG.normal(size=(5, 3))
    dense = lambda p, i, x: x @ np.asarray(p[f"Dense_{i}"]["kernel"]) + np.asarray(p[f"Dense_{i}"]["bias"])
    generator = mlp.Generator(2, width=4, depth=2)
    p, _ = made(generator, jnp.asarray(x))
    hidden = np.maximum(dense(p, 1, np.maximum(dense(p, 0, x), 0)), 0)
    np.testing.assert_allclose(run(generator, p, {}, x)[0], dense(p, 2, hidden), rtol=1e-10)

    discriminator = mlp.Discriminator(width=4, depth=1)
    p, _ = made(discriminator, jnp.asarray(x))
    hidden = dense(p, 0, x)
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    output, _ = run(discriminator, p, {}, x)
    np.testing.assert_allclose(output.logits, dense(p, 1, hidden)[:, 0], rtol=1e-10)
    np.testing.assert_allclose(output.features, hidden, rtol=1e-10)


def test_mlp_makes_rows_only():
    with pytest.raises(gan.UserError, match="use recipes.dcgan"):
        gan.recipes.mlp((8, 8, 1))
    assert shapes(gan.recipes.mlp((7,), width=4))[2].shape == (2, 7)


def test_recipes_for_data_fit_its_shape():
    assert isinstance(gan.recipes.for_data((28, 28, 1)).generator.net.module, dcgan.Generator)
    assert isinstance(gan.recipes.for_data((2,)).generator.net.module, mlp.Generator)


def test_nets_compare_by_value():
    make = lambda width: Net(dcgan.Generator(8, 1, width))
    assert make(4) == make(4) and hash(make(4)) == hash(make(4)) and make(4) != make(5)


def test_a_narrow_compute_dtype_stays_inside_the_network():
    module, z = dcgan.Generator(8, 1, 2), jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
    params, stats = made(module, z, dtype="float32")
    narrow, new = run(module, params, stats, z, training(), compute_dtype="bfloat16")
    wide, _ = run(module, params, stats, z, training())
    assert {x.dtype for x in jax.tree.leaves((narrow, new))} == {jnp.dtype("float32")}
    assert_close(narrow, wide, 0.1)
    assert np.abs(narrow - wide).max() > 1e-4, "it did compute in bfloat16"


def test_the_discriminator_s_minibatch_deviation_is_one_more_channel_of_its_last_map():
    """A batch of one image four times has none; of different images it has, and D sees it."""
    plain, grouped = (dcgan.Discriminator(2, group=group) for group in (0, 4))
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    start = [net.init(jax.random.key(1), images, None, EVALUATION)["params"] for net in (plain, grouped)]
    sizes = [sum(x.size for x in jax.tree.leaves(params)) for params in start]
    assert sizes[1] - sizes[0] == 2 * 2, "a weight for each place of the last map"
    last = lambda x: grouped.apply({"params": start[1]}, x, None, EVALUATION).features.reshape(4, 2, 2, -1)[..., -1]
    assert (last(images) > 0.01).all() and np.allclose(last(images), last(images)[0, 0, 0])
    np.testing.assert_allclose(last(images[:1].repeat(4, 0)), 1e-4, rtol=1e-3)  # the root of its epsilon
