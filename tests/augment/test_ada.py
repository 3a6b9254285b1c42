"""ADA's pipeline: against StyleGAN2-ADA's own code (frozen), against loops, and by its laws."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfinv

import gan_jax as gan
from gan_jax.augment import ada, ada_colour, ada_corruptions, ada_geometry
from gan_jax.augment.ada import PIPES
from gan_jax.core.rng import Draws

FROZEN = Path(__file__).parents[1] / "frozen"
sys.path.insert(0, str(FROZEN))
import make_augment  # noqa: E402

GEOMETRY = ("scale", "rotate", "anisotropic_scale", "fractional_translation")
BLIT = ("xflip", "rotate90", "integer_translation")
COLOURS = ("brightness", "contrast", "luma_flip", "hue", "saturation")
OPERATIONS = {name: getattr(ada_geometry, name) for name in BLIT + GEOMETRY}
OPERATIONS |= {f"colour {name}": getattr(ada_colour, name) for name in COLOURS}
OPERATIONS |= {name: getattr(ada_corruptions, name) for name in ("image_filter", "noise", "cutout")}


def draws(n, seed=0):
    return Draws(jax.random.key(seed), jnp.arange(n))


def images(n=4, shape=(8, 8, 3), dtype="float32"):
    return jnp.asarray(make_augment.images("ada", (n, *shape)), dtype)


def smooth(n=32):
    """One period of waves along both sides, one channel."""
    at = 2 * np.pi * np.arange(n) / (n - 1)
    return jnp.asarray(np.cos(at)[:, None] * np.cos(2 * at), jnp.float32)[None, :, :, None]


def changed(before, after):
    return np.asarray(jnp.abs(after - before).max((1, 2, 3)) > 1e-4)


# ---- the published code ------------------------------------------------------------------------


def at_percentile(q):
    """({pipe: its parameters}, z), every draw at percentile q. Their normal quantile lacks a factor
    of sqrt(2)."""
    z, one = float(erfinv(2 * q - 1)), lambda value: jnp.full((1,), value, jnp.float32)
    side = 2 * q - 1
    return {
        "blit": {"xflip": one(np.floor(2 * q)), "rotate90": one(np.floor(4 * q)), "xint": jnp.full((1, 2), side / 8)},
        "geom": {
            "scale": one(2 ** (0.2 * z)),
            "rotate_before": one(np.pi * side),
            "aniso": one(2 ** (0.2 * z)),
            "rotate_after": one(0.0),
            "xfrac": jnp.full((1, 2), z / 8),
        },
        "color": {
            "brightness": one(0.2 * z),
            "contrast": one(2 ** (0.5 * z)),
            "luma_flip": one(np.floor(2 * q)),
            "hue": one(np.pi * side),
            "saturation": one(2**z),
        },
    }, z


@partial(jax.jit, static_argnames="pipe")
def applied(x, parameters, z, q, pipe):
    """The pipe with these parameters."""
    geometry = {}
    for part in ("blit", "geom"):
        geometry |= parameters[part] if pipe in (part, "all") else {}
    if geometry:
        x = ada_geometry.warp(x, ada_geometry.inverse_matrix(geometry, (x.shape[2], x.shape[1])))
    if pipe in ("color", "all"):
        x = ada_colour.recoloured(x, ada_colour.colour_matrix(parameters["color"], x.shape[3]))
    if pipe in ("filter", "all"):
        x = ada_corruptions.amplified(x, ada_corruptions.combined(jnp.full((1, 4), 2**z)))
    if pipe in ("cutout", "all"):
        x = ada_corruptions.pierced(x, jnp.full((1, 2), q), jnp.full((1,), 0.5))
    return x


@pytest.mark.parametrize(("kind", "pipe", "q"), make_augment.FROZEN)
def test_each_pipe_equals_the_published_code_with_its_draws(kind, pipe, q):
    out = applied(make_augment.images(kind), *at_percentile(q), q, pipe=pipe)
    np.testing.assert_allclose(out, np.load(FROZEN / "augment.npz")[f"ada/{kind}/{pipe}/{q}"], atol=3e-5)


# ---- geometry ----------------------------------------------------------------------------------


def test_the_map_that_changes_nothing_gives_the_image_back():
    x = images(2, (9, 12, 3))
    np.testing.assert_allclose(ada_geometry.warp(x, jnp.broadcast_to(jnp.eye(3), (2, 3, 3))), x, atol=2e-6)


def slow_warp(image, inverse):
    """One image: mirrored far out, upsampled by convolution, read pixel by pixel, downsampled by
    convolution."""
    (h, w, c), taps = image.shape, np.array(ada_geometry.SYM6) / np.sqrt(2)
    far = 6 * max(h, w)
    along = lambda f, x, axis: np.apply_along_axis(f, axis, x)
    double = lambda v: np.convolve(np.stack([v, 0 * v], 1).ravel(), 2 * taps)[5 : 5 + 2 * len(v)]
    fine = np.pad(image, ((far, far), (far, far), (0, 0)), mode="reflect")
    fine = along(double, along(double, fine, 0), 1)
    out = np.zeros((2 * h + 12, 2 * w + 12, c))
    for i in range(2 * h + 12):
        for j in range(2 * w + 12):
            x, y, _ = inverse @ (j / 2 - 3 - (w - 1) / 2, i / 2 - 3 - (h - 1) / 2, 1)
            x, y = 2 * (x + (w - 1) / 2 + far), 2 * (y + (h - 1) / 2 + far)
            (k, m), (u, v) = (int(y), int(x)), (y % 1, x % 1)
            out[i, j] = (1 - u) * ((1 - v) * fine[k, m] + v * fine[k, m + 1])
            out[i, j] += u * ((1 - v) * fine[k + 1, m] + v * fine[k + 1, m + 1])
    half = lambda v: np.convolve(v, taps[::-1], "valid")[1::2][: len(v) // 2 - 6]
    return along(half, along(half, out, 0), 1)


def test_a_warp_equals_a_slow_one_even_where_it_shows_several_mirror_images(x64):
    x = np.asarray(images(2, (8, 9, 2), "float64"))
    matrices = np.array([((0.7, -1.9, 1.3), (2.2, 0.4, -7.2), (0, 0, 1)), ((-0.3, 0.8, 0.1), (0.9, 0.5, 0.6), (0, 0, 1))])
    expected = np.stack([slow_warp(*pair) for pair in zip(x, matrices, strict=True)])
    np.testing.assert_allclose(ada_geometry.warp(jnp.asarray(x), jnp.asarray(matrices)), expected, atol=1e-12)


@pytest.mark.parametrize(("name", "value"), [("xflip", 1.0), ("rotate90", 1.0), ("rotate90", 2.0), ("xint", (0.125, -0.0625))])
def test_a_warp_and_copying_pixels_agree_on_smooth_images(name, value, monkeypatch):
    parameters = {"xflip": jnp.zeros(1), "rotate90": jnp.zeros(1), "xint": jnp.zeros((1, 2)), name: jnp.asarray([value])}
    monkeypatch.setattr(ada_geometry, "draw_blit", lambda *_: parameters)
    alone = {"xflip": "xflip", "rotate90": "rotate90", "xint": "integer_translation"}[name]
    x = smooth() + jnp.linspace(0, 1, 32)[:, None]
    copied = OPERATIONS[alone](x, None, draws(1), p=1.0)
    warped = ada_geometry.warp(x, ada_geometry.inverse_matrix({name: parameters[name]}, (32, 32)))
    assert changed(x, copied).all()
    np.testing.assert_allclose(copied, warped, atol=0.05)  # sym6 is not quite symmetric


def test_copying_pixels_is_numpy_s_flip_turn_and_mirrored_shift():
    x = np.asarray(images(200))
    for name, possible in {
        "xflip": [x, x[:, :, ::-1]],
        "rotate90": [np.rot90(x, k, (1, 2)) for k in range(4)],
        "integer_translation": [
            np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")[:, i : i + 8, j : j + 8]
            for i in range(3)
            for j in range(3)
        ],
    }.items():
        out = np.asarray(jax.jit(OPERATIONS[name])(jnp.asarray(x), None, draws(200), p=1.0))
        equal = np.array([(out == other).all((1, 2, 3)) for other in possible])
        assert (equal.sum(0) == 1).all(), name
        assert equal.any(1).all(), f"{name}: one of its results never came"


@pytest.mark.parametrize(
    "parameters", [{"xfrac": [[0.1, -0.05]]}, {"scale": [1.3]}, {"aniso": [0.8]}, {"rotate_before": [0.3]}]
)
def test_a_smooth_image_is_moved_as_its_formula_says(parameters):
    parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
    inverse = ada_geometry.inverse_matrix(parameters, (32, 32))
    out = ada_geometry.warp(smooth(), inverse)[0, :, :, 0]
    place = np.arange(32) - 15.5
    across, down, _ = np.einsum("ij,jyx->iyx", inverse[0], np.stack([*np.meshgrid(place, place), np.ones((32, 32))]))
    wave = lambda k, at: np.cos(2 * np.pi * k * (at + 15.5) / 31)  # its mirror image is its continuation
    np.testing.assert_allclose(out, wave(1, down) * wave(2, across), atol=0.01)


@pytest.mark.parametrize(("name", "point"), [("scale", (4, 6)), ("xfrac", (2 + 3.2, 3 + 1.6)), ("aniso", (4, 1.5))])
def test_a_point_goes_where_the_operation_says(name, point):
    value = jnp.asarray([(0.1, 0.05)] if name == "xfrac" else [2.0])
    inverse = ada_geometry.inverse_matrix({name: value}, (32, 32))[0]
    np.testing.assert_allclose(inverse @ jnp.array([*point, 1.0]), (2, 3, 1), atol=1e-5)


# ---- colour ------------------------------------------------------------------------------------


def recoloured(x, **parameters):
    given = {name: jnp.full((len(x),), value, x.dtype) for name, value in parameters.items()}
    return ada_colour.recoloured(x, ada_colour.colour_matrix(given, x.shape[3]))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"brightness": 0.3}, lambda x, grey: x + 0.3),
        ({"contrast": 1.7}, lambda x, grey: 1.7 * x),
        ({"luma_flip": 1.0}, lambda x, grey: x - 2 * grey),
        ({"hue": 2 * np.pi / 3}, lambda x, grey: jnp.roll(x, 1, 3)),
        ({"hue": np.pi}, lambda x, grey: 2 * grey - x),
        ({"saturation": 0.4}, lambda x, grey: grey + 0.4 * (x - grey)),
        ({"brightness": 0.3, "contrast": 2.0}, lambda x, grey: 2 * (x + 0.3)),
        ({"luma_flip": 1.0, "saturation": 0.0}, lambda x, grey: -grey),
    ],
)
def test_colours_change_as_their_formulae_say(parameters, expected):
    x = images(2)
    grey = jnp.broadcast_to(x.mean(3, keepdims=True), x.shape)
    np.testing.assert_allclose(recoloured(x, **parameters), expected(x, grey), atol=1e-6)


def test_a_grey_image_has_no_hue_and_no_saturation():
    x = images(2, (8, 8, 1))
    np.testing.assert_array_equal(recoloured(x, hue=1.0, saturation=3.0), x)
    np.testing.assert_allclose(recoloured(x, brightness=0.5, contrast=2.0, luma_flip=1.0), -2 * (x + 0.5), atol=1e-6)


# ---- filtering, noise, cutout ------------------------------------------------------------------


def test_the_bands_sum_to_the_image_and_the_lowest_alone_keeps_its_mean():
    filters = ada_corruptions._filters()
    np.testing.assert_allclose(filters.sum(0), np.eye(1, 43, 21)[0], atol=1e-12)
    np.testing.assert_allclose(filters.sum(1), (1, 0, 0, 0), atol=1e-12)
    peaks = np.abs(np.fft.rfft(filters, 256)).argmax(1)
    assert (np.diff(peaks) > 0).all() and peaks[0] == 0 and peaks[-1] == 128


def test_filtering_equals_a_convolution_of_each_row_and_column():
    x, gains = np.asarray(images(1, (30, 26, 2))), np.array([[1.2, 0.3, 2.0, 0.7]])
    kernel = gains[0] @ ada_corruptions._filters()
    expected = np.pad(x[0], ((21, 21), (21, 21), (0, 0)), mode="reflect")
    for axis in (0, 1):
        expected = np.apply_along_axis(lambda v: np.convolve(v, kernel, "valid"), axis, expected)
    out = ada_corruptions.amplified(jnp.asarray(x), jnp.asarray(gains, jnp.float32))
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_gains_keep_the_expected_power_of_one_band():
    gains = ada_corruptions.combined(jnp.array([[1.0, 1.0, 3.0, 1.0]]))[0]
    np.testing.assert_allclose((np.array((10, 1, 1, 1)) / 13 * np.square(gains)).sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(gains[2] / gains[0], 3, rtol=1e-6)


def test_noise_has_a_level_of_its_own_for_each_image():
    x = jnp.zeros((500, 16, 16, 3))
    out = np.asarray(ada_corruptions.noise(x, None, draws(500), p=0.6))
    level = out.std((1, 2, 3))
    assert abs((level > 0).mean() - 0.6) < 4 * np.sqrt(0.24 / 500)
    positive = level[level > 0]
    assert abs(np.sqrt((positive**2).mean()) - 0.1) < 4 * 0.1 / np.sqrt(2 * len(positive))  # of a normal with std .1
    assert abs(np.corrcoef(out[level > 0][:, 0, 0, :2].T / positive)[0, 1]) < 4 / np.sqrt(len(positive))


def test_cutout_zeroes_pixels_whose_middle_lies_in_the_rectangle():
    x, size = np.asarray(images(3, (8, 10, 1))), np.array((0.5, 0.0, 0.3), np.float32)
    centre = np.array([(0.1, 0.9), (0.5, 0.5), (0.52, 0.33)], np.float32)
    expected = x.copy()
    for n in range(3):
        for i in range(8):
            for j in range(10):
                if abs((j + 0.5) / 10 - centre[n, 0]) < size[n] / 2 and abs((i + 0.5) / 8 - centre[n, 1]) < size[n] / 2:
                    expected[n, i, j] = 0
    np.testing.assert_array_equal(ada_corruptions.pierced(jnp.asarray(x), jnp.asarray(centre), jnp.asarray(size)), expected)


# ---- laws --------------------------------------------------------------------------------------

# Of the chosen examples, the share that stays as before: a coin decides on flips, one of four turns
# is by 0 degrees, and half of the shifts of up to one pixel are rounded to none, along each side.
STILL = {"xflip": 1 / 2, "rotate90": 1 / 4, "integer_translation": 1 / 4, "colour luma_flip": 1 / 2}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_share_of_changed_examples_is_p(name):
    n, shape = (400, (8, 8, 3)) if name in GEOMETRY else (1500, (8, 8, 3))
    x, function = images(n, shape), jax.jit(OPERATIONS[name])
    p = 0.2 if name == "image_filter" else 0.4
    share = changed(x, function(x, None, draws(n), p=p)).mean()
    expected = 1 - (1 - p) ** 4 if name == "image_filter" else p * (1 - STILL.get(name, 0))
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n) + 0.002
    np.testing.assert_allclose(function(x, None, draws(n), p=0.0), x, atol=3e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize(("pipe", "channels"), [(pipe, 3) for pipe in PIPES] + [("bgcfnc", 1)])
def test_shape_and_dtype_stay(pipe, channels, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.zeros((2, 8, 10, channels), dtype)
        out = jax.eval_shape(lambda x: ada(x, None, draws(2), p=0.5, pipe=pipe), x)
        assert (out.dtype, out.shape) == (x.dtype, x.shape)


def whole(x, d, p=0.5):
    return ada(x, None, d, p=p, pipe="bgcfnc")


many = jax.jit(jax.vmap(whole, (None, None, 0)))
ODDS = jnp.array([0.0, 0.5, 1.0, 21.8])


@pytest.fixture(scope="module")
def population():
    """(images, the whole pipe of them at p = 0, .5, 1 and 21.8, mapped as a population is)."""
    return images(), many(images(), draws(4), ODDS)


def test_probability_0_changes_nothing_and_more_than_1_is_1(population):
    x, out = population
    np.testing.assert_allclose(out[0], x, atol=3e-6)
    np.testing.assert_array_equal(out[2], out[3])
    assert changed(x, out[2]).all()


def test_an_example_does_not_depend_on_the_others(population):
    x, out = population
    other = many(jnp.concatenate([-x[:1], x[1:2], x[2:] ** 2]), draws(4), ODDS)
    np.testing.assert_allclose(other[:, 1], out[:, 1], atol=1e-6)
    assert changed(other[1], out[1])[[0, 2, 3]].all()


def test_a_batch_shared_by_devices_and_a_member_alone_are_changed_alike(population):
    x, out = population
    mesh = jax.sharding.Mesh(jax.devices()[:2], "batch")
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    d = draws(4)
    shared = jax.jit(whole)(jax.device_put(x, place), d.replace(index=jax.device_put(d.index, place)))
    assert shared.sharding.is_equivalent_to(place, 4)
    np.testing.assert_allclose(shared, out[1], atol=1e-5)


def test_first_and_second_derivatives_are_finite_and_right(x64):
    x, d = images(1, (8, 8, 3), "float64"), draws(1)

    def penalty(x):
        return (jax.grad(lambda x: jnp.tanh(ada(x, None, d, p=0.9)).sum())(x) ** 2).sum()

    direction, both = jnp.sign(x - 0.1), jax.jit(jax.value_and_grad(penalty))
    (up, _), (down, _), (_, gradient) = both(x + 1e-5 * direction), both(x - 1e-5 * direction), both(x)
    np.testing.assert_allclose((gradient * direction).sum(), (up - down) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("unknown ADA pipe 'bcg'.*bgcfnc", lambda: ada(images(), None, draws(4), p=0.5, pipe="bcg")),
        ("square images, not 8 x 9", lambda: ada_geometry.rotate90(images(4, (8, 9, 3)), None, draws(4), p=0.5)),
        ("1 or 3 channels, not 2", lambda: ada(images(4, (8, 8, 2)), None, draws(4), p=0.5, pipe="color")),
    ],
)
def test_what_cannot_be_done_is_refused(message, call):
    with pytest.raises(gan.UserError, match=message):
        call()
