"""BigGAN's networks against the authors' PyTorch code, block by block and whole, and the laws of
their parts."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.networks import biggan
from gan_jax.networks.sngan import ConditionalBatchNorm, DiscriminatorBlock, GeneratorBlock
from gan_jax.networks.spectral import SpectralNorm
from tests.frozen.make_biggan import CHUNKS, CONDITION, TABLES
from tests.frozen.make_sngan import BATCH, CLASSES, LABELS, image, seeded, some
from tests.networks.test_dcgan import count, training
from tests.networks.test_sngan import close, evaluated, filled, shapes

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "biggan.npz")
RNG = np.random.default_rng(0)
CIFAR = biggan.Generator(32, 3, 64, 10, shared=0, hierarchical=False, start="normal"), biggan.Discriminator(64, 10)
IMAGENET = biggan.Generator(128, 3, 96, 1000, attention=64), biggan.Discriminator(96, 1000, attention=64)
OWN = ("scale", "shift")  # the tables of each batch norm, which are not normalised
SMALL = {
    "tables": (
        TABLES,
        biggan.Generator(32, 3, 1, CLASSES, shared=0, hierarchical=False),
        biggan.Discriminator(1, CLASSES),
        OWN,
    ),
    "chunks": (
        CHUNKS,
        biggan.Generator(64, 3, 1, CLASSES, shared=4, attention=16),
        biggan.Discriminator(2, CLASSES, attention=8),
        ("label",),
    ),
}

PARTS = {"conv1": "conv1", "conv2": "conv2", "shortcut": "conv_sc", "norm1": "bn1", "norm2": "bn2"}
NAMES = {"dense": "linear", "image": "output_layer.2", "norm": "output_layer.0", "projection/logit": "linear"}
LABEL = {"label": "shared", "projection/label": "embed"}  # the generator's, the discriminator's
LEAVES = {"kernel": "weight", "bias": "bias", "scale": "gain", "embedding": "weight"}


def authors(path, shape, attending=None):
    """The PyTorch code's name of one of our leaves; attention stands after block `attending` in its
    list."""
    *modules, leaf = path
    if "/".join(modules) in (names := NAMES | LABEL):
        return f"{names['/'.join(modules)]}.{LEAVES[leaf]}"
    if path[0] == "attention":
        return f"blocks.{attending}.1." + (leaf if leaf == "gamma" else f"{path[1]}.weight")
    name = f"blocks.{path[0][5:]}.0.{part(path[1:])}"
    return seeded(name, shape) if path[-2] in OWN and shape[:1] == (CLASSES,) else name  # a table has PyTorch's layout


def part(path):
    *modules, leaf = path
    if modules[1:]:
        return f"{PARTS[modules[0]]}.{'gain' if modules[1] == 'scale' else 'bias'}.weight"
    return f"{PARTS[modules[0]]}.{LEAVES[leaf]}"


# ---- the authors' ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "modules", "z"), [("cifar", CIFAR, 128), ("imagenet", IMAGENET, 120)])
def test_the_numbers_of_parameters_are_the_authors(name, modules, z):
    y, size = jnp.zeros(2, jnp.int32), modules[0].size
    g, _ = shapes(Net(modules[0]), jnp.zeros((2, z)), y)
    d, _ = shapes(Net(modules[1]), jnp.zeros((2, size, size, 3)), y)
    assert [count(g), count(d)] == list(FROZEN[f"count/{name}"])


@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize("name", SMALL)
def test_the_whole_networks_are_the_authors(name, role, x64):
    """Normalised, in two calls of training: own tables at 32 pixels; shared vectors, chunks of z
    and attention at 64."""
    (both, options, _), g, d, skip = SMALL[name]
    if role == "generator":
        net = SpectralNorm(Net(g), epsilon=1e-8, skip=skip)
        inputs = jnp.asarray(seeded(f"input z {name}", (BATCH, options["dim_z"])))
    else:
        net = SpectralNorm(Net(d), epsilon=1e-8)
        inputs = jnp.asarray(image(name, both["resolution"]))
    labels, sides = jnp.asarray(LABELS), {"dense": 4} if role == "generator" else {}
    named = partial(authors, attending=1 if role == "generator" else 2)
    params, stats = filled(shapes(net, inputs, labels), named, sides)
    for i in (1, 2):
        output, stats = evaluated(net, params, stats, inputs, labels, training(BATCH))
        if role == "generator":
            close(some(output), FROZEN[f"{name}/images{i}"])
        else:
            close(output.logits, FROZEN[f"{name}/logits{i}"])


def one(module, named, x, *args):
    """A block alone with the authors' weights."""
    variables = jax.eval_shape(module.init, jax.random.key(0), x, *args)
    params, _ = filled((variables["params"], {}), lambda path, shape: named(path), {})
    return jax.jit(lambda params: module.apply({"params": params}, x, *args, mutable="batch_stats")[0])(params)


def test_a_generator_block_is_the_authors(x64):
    x, revealed = jnp.asarray(image("block", 4, 6)), jnp.asarray(seeded("input condition", (BATCH, CONDITION)))
    norm = partial(ConditionalBatchNorm, shift_init=jax.nn.initializers.normal())
    close(one(GeneratorBlock(4, "nearest", norm=norm), part, x, revealed, training(BATCH)), FROZEN["block/generator"])


@pytest.mark.parametrize("kind", ["halving", "same", "first"])
def test_a_discriminator_block_is_the_authors(kind, x64):
    features = 6 if kind == "same" else 4
    block = DiscriminatorBlock(features, features, kind != "same", kind == "first")
    close(one(block, part, jnp.asarray(image("block", 4, 6))), FROZEN[f"block/{kind}"])


def test_attention_is_the_authors(x64):
    named = lambda path: "gamma" if path == ("gamma",) else f"{path[0]}.weight"
    close(one(biggan.Attention(), named, jnp.asarray(image("attention", 4, 16))), FROZEN["attention"])


# ---- laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "classes"), [(8, 0), (16, 2), (28, 0), (64, 2), (256, 0)])
def test_small_and_large_sizes_make_and_judge_grey_images(size, classes):
    blocks = len(biggan.PLANS[size].generator)
    g, d = Net(biggan.Generator(size, 1, 1, classes)), Net(biggan.Discriminator(1, classes))
    y = jnp.zeros(2, jnp.int32) if classes else None

    def both(key):
        z = jnp.zeros((2, 2 * (blocks + 1)))
        images, _ = g.apply(*g.init(key, z, y, {}), z, y, EVALUATION, {})
        return images, d.apply(*d.init(key, images, y, {}), images, y, EVALUATION, {})[0]

    images, output = jax.eval_shape(both, jax.random.key(0))
    assert images.shape == (2, size, size, 1) and output.logits.shape == (2,)
    assert output.features.shape == (2, biggan.PLANS[size].discriminator[-1])


def test_without_labels_and_chunks_batch_norm_is_plain():
    g = biggan.Generator(8, 1, 1, hierarchical=False)
    params, _ = shapes(Net(g), jnp.zeros((2, 5)))
    assert set(params["block0"]["norm1"]) == {"norm"} and set(params["block0"]["norm1"]["norm"]) == {"scale", "bias"}


def test_a_block_s_chunk_of_z_reaches_its_own_batch_norms_alone():
    """Each block's condition is its own chunk of z alone."""
    z = jnp.asarray(RNG.normal(size=(2, 8)), jnp.float32)
    first, conditions = biggan.Generator(32, 1, 1).conditions(z, None, 3, None)
    np.testing.assert_array_equal(first, z[:, :2])
    for i, condition in enumerate(conditions):
        np.testing.assert_array_equal(condition, z[:, 2 + 2 * i : 4 + 2 * i])


def test_orthogonal_weights_start_orthogonal():
    init = biggan.starting("orthogonal")
    matrix = np.asarray(init(jax.random.key(0), (3, 3, 4, 6), jnp.float32)).reshape(-1, 6)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-5)


def test_attention_starts_as_the_identity():
    x = jnp.asarray(RNG.normal(size=(1, 2, 2, 8)), jnp.float32)
    y, _ = biggan.Attention().init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


def test_what_does_not_fit_is_said_in_a_line():
    z, x = jnp.zeros((2, 9)), jnp.zeros((2, 32, 32, 3))
    with pytest.raises(gan.UserError, match="image size 20 is not supported by biggan: use one of 8, 16, 28, 32"):
        shapes(Net(biggan.Generator(20, 3)), z)
    with pytest.raises(gan.UserError, match="cuts z into 4 equal chunks, not 9 numbers: give it 8 or 12"):
        shapes(Net(biggan.Generator(32, 3)), z)
    with pytest.raises(gan.UserError, match=r"no map of side 64 to attend to: use attention=0 or one of \[8, 16, 32\]"):
        shapes(Net(biggan.Generator(32, 3, attention=64)), z)
    with pytest.raises(gan.UserError, match=r"no map of side 32 to attend to: use attention=0 or one of \[16, 8\]"):
        shapes(Net(biggan.Discriminator(attention=32)), x)
    with pytest.raises(gan.UserError, match="unknown start 'ortho'"):
        shapes(Net(biggan.Discriminator(start="ortho")), x)
