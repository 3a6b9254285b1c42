"""R3GAN's networks against the authors' PyTorch code: layers, whole networks, R1 and its gradient,
numbers of parameters."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core.errors import UserError
from gan_jax.core.net import EVALUATION, Mode, Net
from gan_jax.core.rng import Draws
from gan_jax.networks import conv, r3gan

sys.path.insert(0, str(Path(__file__).parents[1] / "frozen"))
from make_r3gan import LABELS, LATENT, NETWORKS, configurations, image, seeded

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "r3gan.npz")
RNG = np.random.default_rng(0)
BLOCK = {"expand": "LinearLayer1.Layer.weight", "grouped": "LinearLayer2.Layer.weight", "contract": "LinearLayer3.Layer.weight"}
BLOCK |= {"bias_1": "NonLinearity1.Bias", "bias_2": "NonLinearity2.Bias"}


@pytest.fixture(autouse=True)
def float64(x64):
    """All tests: against float64 references a wrong term shows, and rounding does not."""


def assert_equal(ours, reference):
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-11 * np.abs(reference).max())


# ---- PyTorch's names and layouts ---------------------------------------------------------------


def generator_name(path, module):
    match path[0].split("_"):
        case ["basis"] | ["weights"] as part:
            return "MainLayers.0.Layers.0." + ("Basis" if part == ["basis"] else "LinearLayer.weight")
        case ["image"]:
            return "AggregationLayer.Layer.weight"
        case ["label"]:
            return "EmbeddingLayer.weight"
        case ["stage", stage, "width"]:
            return f"MainLayers.{stage}.Layers.0.LinearLayer.Layer.weight"
        case ["stage", stage, "block", i]:
            return f"MainLayers.{stage}.Layers.{int(i) + 1}.{BLOCK[path[1]]}"


def discriminator_name(path, module):
    blocks, last = module.blocks, len(module.blocks) - 1
    match path[0].split("_"):
        case ["basis"] | ["logit"] as part:
            return f"MainLayers.{last}.Layers.{blocks[0]}." + ("Basis.weight" if part == ["basis"] else "LinearLayer.weight")
        case ["image"]:
            return "ExtractionLayer.Layer.weight"
        case ["label"]:
            return "EmbeddingLayer.weight"
        case ["stage", stage, "width"]:  # a stage of theirs ends with the way to the next
            return f"MainLayers.{last - 1 - int(stage)}.Layers.{blocks[int(stage) + 1]}.LinearLayer.Layer.weight"
        case ["stage", stage, "block", i]:
            return f"MainLayers.{last - int(stage)}.Layers.{i}.{BLOCK[path[1]]}"


def seeded_params(module, *inputs, name):
    """The module's parameters: those that PyTorch's have by the same rule, in the layout here."""

    def parameter(path, leaf):
        axes = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}[leaf.ndim]  # channels out, in, then the sides
        made = seeded(name([key.key for key in path], module), [leaf.shape[axis] for axis in axes])
        return jnp.asarray(made.transpose(np.argsort(axes)))

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return jax.tree_util.tree_map_with_path(parameter, shapes)


def players(plan, classes, label_widths):
    side = 4 * 2 ** (len(plan["widths"]) - 1)
    g = r3gan.Generator(side, 3, **plan, classes=classes, label_width=label_widths[0])
    return g, r3gan.Discriminator(**plan, classes=classes, label_width=label_widths[1])


# ---- against the authors' code -----------------------------------------------------------------


def test_a_residual_block_is_the_authors():
    block, x = r3gan.ResidualBlock(2, 2, 3, 4), image("block", 8, 5, 6)
    params = seeded_params(block, x, EVALUATION, name=lambda path, _: BLOCK[path[0]])
    assert_equal(jax.jit(block.apply)({"params": params}, x, EVALUATION), FROZEN["block"])


@pytest.mark.parametrize("name, shape", [("upsample", (3, 3, 5)), ("downsample", (3, 4, 6))])
def test_a_resampler_is_the_authors(name, shape):
    assert_equal(jax.jit(getattr(r3gan, name))(image(name, *shape)), FROZEN[name])


def test_downsampling_is_a_quarter_of_the_transpose_of_upsampling_and_keeps_a_constant_inside():
    up, down = jax.jit(r3gan.upsample), jax.jit(r3gan.downsample)
    x, y = RNG.normal(size=(1, 5, 5, 2)), RNG.normal(size=(1, 10, 10, 2))
    assert_equal(np.sum(up(x) * y), 4 * np.sum(down(y) * x))
    assert_equal(up(np.ones((1, 5, 5, 2)))[:, 1:-1, 1:-1], np.ones((1, 8, 8, 2)))
    assert_equal(down(np.ones((1, 10, 10, 2)))[:, 1:-1, 1:-1], np.ones((1, 3, 3, 2)))


def test_the_bases_are_the_authors():
    """Those of one stage without blocks, between images of as many channels that pass unchanged."""
    stage: dict[str, Any] = {"widths": (6,), "cardinalities": (1,), "blocks": (0,)}
    g, d = r3gan.Generator(4, 6, **stage), r3gan.Discriminator(**stage)
    unchanged = {"kernel": jnp.eye(6)}
    z, x = seeded("z", (3, LATENT)), image("discriminative_basis", 6, 4, 4)
    basis = jnp.asarray(seeded("Basis", (6, 4, 4)).transpose(1, 2, 0))
    params = {"basis": basis, "weights": {"kernel": jnp.asarray(seeded("LinearLayer.weight", (6, LATENT)).T)}}
    assert_equal(g.apply({"params": params | {"image": unchanged}}, z, None, EVALUATION), FROZEN["generative_basis"])
    basis = jnp.asarray(seeded("Basis.weight", (6, 4, 4)).transpose(1, 2, 0))
    output = d.apply(
        {"params": {"basis": basis, "image": unchanged, "logit": {"kernel": jnp.ones((6, 1))}}}, x, None, EVALUATION
    )
    assert_equal(output.features @ seeded("LinearLayer.weight", (2, 6)).T, FROZEN["discriminative_basis"])
    assert_equal(output.logits, output.features.sum(-1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_generator_s_images_are_the_authors(name):
    g, _ = players(*NETWORKS[name])
    z = jnp.asarray(seeded("z", (3, LATENT)))
    params = seeded_params(g, z, LABELS, EVALUATION, name=generator_name)
    assert_equal(jax.jit(g.apply)({"params": params}, z, LABELS, EVALUATION), FROZEN[f"{name} G"])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_discriminator_s_logits_and_r1_and_its_gradient_are_the_authors(name):
    _, d = players(*NETWORKS[name])
    x = jnp.asarray(image(name, 3, *FROZEN[f"{name} G"].shape[1:3]))
    params = seeded_params(d, x, LABELS, EVALUATION, name=discriminator_name)
    block = f"stage_{len(d.widths) - 1}_block_0"

    def logits(x, kernel):
        changed = params | {block: params[block] | {"grouped": {"kernel": kernel}}}
        return d.apply({"params": changed}, x, LABELS, EVALUATION).logits

    def r1(kernel):
        output, pull = jax.vjp(lambda x: logits(x, kernel), x)
        norms = jnp.square(pull(jnp.ones_like(output))[0]).sum((1, 2, 3))
        return norms.sum(), (output, norms)

    (_, (output, norms)), by_kernel = jax.jit(jax.value_and_grad(r1, has_aux=True))(params[block]["grouped"]["kernel"])
    assert_equal(output, FROZEN[f"{name} D"])
    assert_equal(norms, FROZEN[f"{name} R1"])
    assert_equal(by_kernel, FROZEN[f"{name} R1 by kernel"])


@pytest.mark.parametrize("name", configurations())
def test_the_numbers_of_parameters_are_the_authors(name):
    widths, cardinalities, classes = configurations()[name]
    stages: dict[str, Any] = {"widths": tuple(widths), "cardinalities": tuple(cardinalities), "blocks": (2,) * len(widths)}
    size = 4 * 2 ** (len(widths) - 1)
    if name == "CIFAR-10":
        g, d = r3gan.Generator(32, 3, classes=classes), r3gan.Discriminator(classes=classes)
        assert (g.widths, g.cardinalities, g.blocks) == (d.widths, d.cardinalities, d.blocks) == tuple(stages.values())
    else:
        g, d = r3gan.Generator(size, 3, **stages, classes=classes), r3gan.Discriminator(**stages, classes=classes)
    assert r3gan.plan(size, widths[0], per_group=widths[0] // cardinalities[0]) == stages
    counts = []
    for module, inputs in (g, jnp.zeros((1, 64))), (d, jnp.zeros((1, size, size, 3))):
        params, stats = jax.eval_shape(Net(module).init, jax.random.key(0), inputs, jnp.zeros(1, jnp.int32), {})
        counts.append(sum(x.size for x in jax.tree.leaves(params)))
        assert not stats
    assert counts == list(FROZEN[f"parameters {name}"])


# ---- what they do not have ---------------------------------------------------------------------


def test_a_grouped_convolution_is_the_library_s_for_every_member_of_a_population():
    x, kernels = RNG.normal(size=(2, 3, 5, 4, 6)), RNG.normal(size=(2, 3, 3, 2, 9))
    ours = jax.jit(jax.vmap(lambda x, kernel: conv.grouped_conv(x, kernel, 3)))(x, kernels)
    numbers = ("NHWC", "HWIO", "NHWC")
    library = jax.jit(
        lambda x, kernel: jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=3
        )
    )
    for i in range(2):
        assert_equal(ours[i], library(x[i], kernels[i]))


@pytest.mark.parametrize("size, sides", [(8, 2), (16, 3), (20, 3), (28, 3), (32, 4), (64, 5), (7, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_plan_leads_from_a_few_pixels_to_the_image_and_back(size, sides, channels):
    plan = r3gan.plan(size, 16, blocks=1)
    assert plan["cardinalities"] == (2, 2, 2, 2, 1)[:sides]

    def shapes(key):
        g, d = r3gan.Generator(size, channels, **plan, classes=5), r3gan.Discriminator(**plan, classes=5)
        z, labels = jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32)
        images, params = g.init_with_output(key, z, labels, EVALUATION)
        return params["params"]["basis"], images, d.init_with_output(key, images, labels, EVALUATION)[0]

    basis, images, output = jax.eval_shape(shapes, jax.random.key(0))
    assert basis.shape == (size // 2 ** (sides - 1),) * 2 + (16,)
    assert images.shape == (2, size, size, channels)
    assert output.logits.shape == (2,) and output.features.shape == (2, 16)


def test_the_start_is_the_authors(monkeypatch):
    """Standard deviations of all parameters: He's with the activation's gain, for a depth of 2
    blocks; 0 at a block's end."""
    monkeypatch.setattr(conv, "grouped_conv", lambda x, kernel, groups: x)  # not needed here, and slow to compile
    stages: dict[str, Any] = {"widths": (64, 32), "cardinalities": (4, 2), "blocks": (1, 1), "classes": 40}
    gain = np.sqrt(2 / 1.04) * 2**-0.25
    block = lambda width: {"expand": gain * width**-0.5, "grouped": gain * 288**-0.5, "contract": 0, "bias_1": 0, "bias_2": 0}
    same = {"stage_0_block_0": block(64), "stage_1_block_0": block(32)}
    expected = {
        "G": same | {"basis": 1, "weights": 96**-0.5, "label": 40**-0.5, "stage_1_width": 64**-0.5, "image": 32**-0.5},
        "D": same | {"basis": 1 / 4, "logit": 64**-0.5, "label": 2560**-0.5, "stage_0_width": 32**-0.5, "image": 96**-0.5},
    }
    g, d, labels = r3gan.Generator(8, 96, **stages), r3gan.Discriminator(**stages), jnp.zeros(1, jnp.int32)
    for name, module, inputs in ("G", g, jnp.zeros((1, 48))), ("D", d, jnp.zeros((1, 8, 8, 96))):
        params = jax.jit(module.init)(jax.random.key(1, impl="rbg"), inputs, labels, EVALUATION)["params"]
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            keys = [key.key for key in path if key.key not in ("kernel", "embedding")]
            want = expected[name][keys[0]]
            want = want[keys[1]] if len(keys) > 1 else want
            assert float(jnp.sqrt(jnp.square(leaf).mean())) == pytest.approx(want, rel=5 / np.sqrt(2 * leaf.size)), path


def test_dropout_of_zero_is_none_and_of_a_half_is_not():
    block, x = r3gan.ResidualBlock(2, 2, 3, 4), image("block", 8, 5, 6)
    params = {"params": seeded_params(block, x, EVALUATION, name=lambda path, _: BLOCK[path[0]])}
    training = Mode(train=True, draws=Draws(jax.random.key(0), jnp.arange(3)))
    apply = jax.jit(block.apply)
    assert_equal(apply(params, x, training, 0.0), FROZEN["block"])
    assert_equal(apply(params, x, EVALUATION, 0.5), FROZEN["block"])
    assert np.abs(apply(params, x, training, 0.5) - FROZEN["block"]).max() > 0.1


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_player_computes_in_the_dtype_that_it_is_given(dtype):
    plan = r3gan.plan(8, 8, blocks=1)
    d, images = Net(r3gan.Discriminator(**plan, classes=2)), jnp.zeros((2, 8, 8, 1), dtype)

    def logits(key):
        params, stats = d.init(key, images, jnp.zeros(2, jnp.int32), {})
        return d.apply(params, stats, images, jnp.zeros(2, jnp.int32), EVALUATION, {"dropout": jnp.float32(0.5)})[0]

    assert jax.eval_shape(logits, jax.random.key(0)).logits.dtype == dtype


@pytest.mark.parametrize(
    "size, stages, message",
    [
        (8, {"widths": (8, 8), "cardinalities": (1,), "blocks": (1, 1)}, "one width, cardinality and number of blocks"),
        (8, {"widths": (8, 8), "cardinalities": (1, 3), "blocks": (1, 1)}, "16 channels do not divide into 3 groups"),
        (9, {"widths": (8, 8), "cardinalities": (1, 1), "blocks": (1, 1)}, "images of side 9 do not fit 2 stages"),
        (2, {"widths": (8, 8), "cardinalities": (1, 1), "blocks": (1, 1)}, "images of side 2 do not fit 2 stages"),
    ],
)
def test_stages_that_do_not_fit_are_refused_in_a_line(size, stages, message):
    for module, inputs in (r3gan.Generator(size, 1, **stages), (1, 4)), (r3gan.Discriminator(**stages), (1, size, size, 1)):
        with pytest.raises(UserError, match=message) as error:
            jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(inputs), None, EVALUATION)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [3, 22, 31])
def test_a_size_without_a_plan_is_refused(size):
    with pytest.raises(UserError, match=f"images of side {size}: use 4, 5, 6 or 7 times a power of 2"):
        r3gan.plan(size)
