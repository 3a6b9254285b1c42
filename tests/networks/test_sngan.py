"""SNGAN's and cGAN-PD's residual networks against mimicry, block by block and whole, and the laws
of their parts."""

import re
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.networks import sngan
from gan_jax.networks.spectral import SpectralNorm
from tests.frozen.make_sngan import BATCH, CLASSES, LABELS, LATENT, NETWORKS, image, seeded, some
from tests.networks.test_dcgan import count, made, training

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "sngan.npz")
RNG = np.random.default_rng(0)


# ---- PyTorch's weights in our layout (also for test_biggan) ------------------------------------


def converted(name, shape, side=0):
    """PyTorch's seeded tensor `name` in the layout of our leaf of this shape; `side`: of the map
    that a first Dense makes."""
    if side:  # PyTorch has channels before pixels
        pixels = side * side
        lead = (shape[-1] // pixels, side, side)
        x = np.moveaxis(seeded(name, (shape[-1], *shape[:-1])).reshape(*lead, *shape[:-1]), 0, 2)
        return np.moveaxis(x.reshape(shape[-1], *shape[:-1]), 0, -1)
    return seeded(name, shape) if len(shape) < 2 else seeded(name, shape[::-1]).T if len(shape) == 2 else _kernel(name, shape)


def _kernel(name, shape):
    return seeded(name, (shape[3], shape[2], shape[0], shape[1])).transpose(2, 3, 1, 0)


def filled(shapes, named, sides):
    """(params, stats) with PyTorch's numbers. named: our path -> PyTorch's name or an array;
    statistics stay at zero."""
    params = {}
    for path, leaf in flatten_dict(shapes[0]).items():
        name = named(path, leaf.shape)
        made = converted(name, leaf.shape, sides.get(path[0], 0)) if isinstance(name, str) and path[-1] != "embedding" else name
        params[path] = jnp.asarray(seeded(name, leaf.shape) if isinstance(made, str) else made)
    stats = flatten_dict(jax.tree.map(lambda x: jnp.zeros(x.shape), shapes[1]))
    for path, leaf in stats.items():
        if path[0] == "spectral" and path[-1] == "u":
            name = re.sub(r"\.weight$", ".u", named(path[1:-1], ()))
            stats[path] = jnp.asarray(converted(name, leaf.shape, sides.get(path[1], 0)))
    return unflatten_dict(params), unflatten_dict(stats)


def shapes(net, inputs, labels=None):
    return jax.eval_shape(lambda key: net.init(key, inputs, labels, {}), jax.random.key(0))


@cache
def program(net):
    return jax.jit(net.apply)


def evaluated(net, params, stats, inputs, labels=None, mode=EVALUATION, **numbers):
    return program(net)(params, stats, inputs, labels, mode, numbers)


PARTS = {"conv1": "c1", "conv2": "c2", "shortcut": "c_sc", "norm1": "b1", "norm2": "b2"}
LEAVES = {"kernel": "weight", "bias": "bias", "scale": "weight", "embedding": "weight"}


def mimicrys(path, shape, first, last):
    """mimicry's name of one of our leaves: blocks count from `first`, the layers after them are
    number `last`."""
    names = {"dense": "l1", "norm": f"b{last}", "image": f"c{last}", "logit": f"l{last}", "label": "l_y"}
    *modules, leaf = (name for name in path if name != "projection")
    if len(modules) == 1:
        return f"{names[modules[0]]}.{LEAVES[leaf]}"
    block = f"block{first + int(modules[0][5:])}.{PARTS[modules[1]]}" if modules[0] != "alone" else PARTS[modules[1]]
    if modules[2:] in (["scale"], ["shift"]):
        classes, features = shape
        scale, shift = np.split(seeded(f"{block}.embed.weight", (classes, 2 * features)), 2, 1)
        return scale - 1 if modules[2] == "scale" else shift
    return f"{block}.{LEAVES[leaf]}"


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


# ---- mimicry -----------------------------------------------------------------------------------


COUNTS = [name for name in FROZEN.files if name.startswith("count")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "128" in n else ()) for n in COUNTS])
def test_the_numbers_of_parameters_are_mimicry_s(name):
    size, *labels = name.removeprefix("count/").split()
    size, classes = int(size), {"32": 10, "128": 1000}[size] if labels else 0
    width = 128 if (size, classes) == (128, 1000) else None  # mimicry's conditional D is narrower there
    y = jnp.zeros(2, jnp.int32)
    g, _ = shapes(Net(sngan.Generator(size, 3, classes=classes)), jnp.zeros((2, 128)), y)
    d, _ = shapes(SpectralNorm(Net(sngan.Discriminator(width, classes))), jnp.zeros((2, size, size, 3)), y)
    assert [count(g), count(d)] == list(FROZEN[name])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if NETWORKS[name][0] > 48 else ()) for name in NETWORKS]
)
def test_the_whole_networks_are_mimicry_s(name, x64):
    """The generator in training, the normalised discriminator in two calls of training and in
    evaluation."""
    size, width, classes = NETWORKS[name]
    labels = jnp.asarray(LABELS) if classes else None
    blocks = len(sngan.PLANS[size].generator)
    net, z = Net(sngan.Generator(size, 3, width, classes)), jnp.asarray(seeded("input z", (BATCH, LATENT)))
    weights = filled(shapes(net, z, labels), lambda *args: mimicrys(*args, 2, blocks + 2), {"dense": 4})
    close(some(evaluated(net, *weights, z, labels, training(BATCH))[0]), FROZEN[f"{name}/images"])

    last = len(sngan.PLANS[size].discriminator) + 1
    net, x = SpectralNorm(Net(sngan.Discriminator(width, classes))), jnp.asarray(image(name, size))
    params, stats = filled(shapes(net, x, labels), lambda *args: mimicrys(*args, 1, last), {})
    for i in (1, 2):
        output, stats = evaluated(net, params, stats, x, labels, training(BATCH))
        close(output.logits, FROZEN[f"{name}/logits{i}"])
    assert output.features.shape == (BATCH, width)
    if name == "32":
        close(evaluated(net, params, stats, x)[0].logits, FROZEN[f"{name}/evaluation"])


def one(module, x, *args):
    """A block alone with mimicry's weights."""
    names = lambda path, shape: mimicrys(("alone", *path), shape, 0, 0)
    variables = jax.eval_shape(module.init, jax.random.key(0), x, *args)
    params, _ = filled((variables["params"], {}), names, {})
    return module.apply({"params": params}, x, *args, mutable="batch_stats")[0]


def test_a_generator_block_is_mimicry_s(x64):
    x = jnp.asarray(image("block", 4, 6))
    close(one(sngan.GeneratorBlock(4), x, None, training(BATCH)), FROZEN["block/generator"])


@pytest.mark.parametrize("kind", ["halving", "same", "first"])
def test_a_discriminator_block_is_mimicry_s(kind, x64):
    """Its ReLU works in place, so all but the first see relu(x) on both branches."""
    block = sngan.DiscriminatorBlock(6 if kind == "same" else 4, None, kind != "same", kind == "first")
    x = jnp.asarray(image("block", 4, 6))
    close(one(block, x if kind == "first" else jax.nn.relu(x)), FROZEN[f"block/{kind}"])


# ---- laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 16, 28, 48])
def test_small_and_other_sizes_make_and_judge_grey_images(size):
    g, d, y = Net(sngan.Generator(size, 1, 16, 2)), Net(sngan.Discriminator(16, 2)), jnp.zeros(2, jnp.int32)

    def both(key):
        z = jnp.zeros((2, 8))
        images, _ = g.apply(*g.init(key, z, y, {}), z, y, EVALUATION, {})
        return images, d.apply(*d.init(key, images, y, {}), images, y, EVALUATION, {})[0]

    images, output = jax.eval_shape(both, jax.random.key(0))
    assert images.shape == (2, size, size, 1) and output.logits.shape == (2,) and output.features.shape == (2, 16)


def test_a_shortcut_sees_what_was_not_rectified(x64):
    """As in the paper: where the convolutions are zero, the block is the identity, negative values
    too."""
    x = jnp.asarray(RNG.normal(size=(2, 4, 4, 3)))
    block = sngan.DiscriminatorBlock(3, halve=False)
    zeros = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(0), x))
    np.testing.assert_array_equal(block.apply(zeros, x), x)


def test_a_class_s_scale_and_shift_are_its_row(x64):
    x, labels = RNG.normal(size=(5, 2, 2, 3)), np.array([1, 0, 1, 2, 2])
    scale, shift = RNG.normal(size=(2, CLASSES, 3))
    params = {"scale": {"kernel": scale}, "shift": {"kernel": shift}}
    condition, norm = jax.nn.one_hot(labels, CLASSES), sngan.ConditionalBatchNorm()
    y, _ = norm.apply({"params": params}, x, condition, training(5), mutable="batch_stats")
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    close(y, normal * (1 + scale[labels][:, None, None]) + shift[labels][:, None, None])


def test_nearest_pixels_are_repeated_and_bilinear_ones_lie_between():
    x = jnp.asarray([[0.0, 4.0], [8.0, 12.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(sngan.enlarged(x, "nearest")[0, :2, :, 0], [[0, 0, 4, 4]] * 2)
    np.testing.assert_allclose(sngan.enlarged(x, "bilinear")[0, 0, :, 0], [0, 1, 3, 4], atol=1e-6)
    np.testing.assert_allclose(sngan.enlarged(x, "bilinear")[0, 1, :, 0], [2, 3, 5, 6], atol=1e-6)


def test_dropout_acts_in_training_alone():
    x = jnp.asarray(RNG.normal(size=(2, 8, 8, 1)), jnp.float32)
    net = Net(sngan.Discriminator(4))
    params, stats = made(net.module, x, dtype="float32", dropout=0.5)
    run = lambda mode, rate: np.asarray(evaluated(net, params, stats, x, None, mode, dropout=jnp.float32(rate))[0].logits)
    plain = run(EVALUATION, 0.9)
    np.testing.assert_allclose(run(training(2), 0.0), plain, rtol=1e-5)
    assert not np.allclose(run(training(2), 0.5), plain, rtol=1e-2)


def test_what_does_not_fit_is_said_in_a_line():
    with pytest.raises(gan.UserError, match="image size 20 is not supported by sngan: use one of 8, 16, 28, 32"):
        sngan.plan(20)
    with pytest.raises(gan.UserError, match="unknown upsampling 'cubic'"):
        sngan.enlarged(jnp.zeros((1, 2, 2, 1)), "cubic")
