"""DiffAugment: against its authors' code (frozen), against loops, and by its laws."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.augment import parts
from gan_jax.core.rng import Draws

FROZEN = Path(__file__).parents[1] / "frozen"
sys.path.insert(0, str(FROZEN))
import make_augment  # noqa: E402

diff = sys.modules["gan_jax.augment.diffaugment"]  # the package's attribute of this name is the function
OPERATIONS = {
    "brightness": (diff.brightness, "strength"),
    "saturation": (diff.saturation, "strength"),
    "contrast": (diff.contrast, "strength"),
    "translation": (diff.translation, "ratio"),
    "cutout": (diff.cutout, "ratio"),
}


def draws(n, seed=0):
    return Draws(jax.random.key(seed), jnp.arange(n))


def images(n=6, shape=(9, 8, 3), dtype="float32"):
    return jnp.asarray(make_augment.images("diffaugment", (n, *shape)), dtype)


def changed(before, after):
    return np.asarray(jnp.abs(after - before).max((1, 2, 3)) > 1e-5)


# ---- known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "applied"),
    [
        ("color/brightness", lambda x, u: diff.brightened(x, u[:, 0] - 0.5)),
        ("color/saturation", lambda x, u: diff.scaled_about_mean(x, 3, 2 * u[:, 0])),
        ("color/contrast", lambda x, u: diff.scaled_about_mean(x, (1, 2, 3), 0.5 + u[:, 0])),
        ("translation/translation", diff.translated),
        ("cutout/cutout", lambda x, u: diff.pierced(x, u - np.array((5, 4)) // 2, jnp.full((6, 2), jnp.array((5, 4))))),
    ],
)
def test_operations_equal_the_authors_code_with_its_draws(name, applied):
    frozen = np.load(FROZEN / "augment.npz")
    expected, given = frozen[f"diffaugment/{name}/out"], jnp.asarray(frozen[f"diffaugment/{name}/draws"])
    np.testing.assert_allclose(applied(images(), given), expected, atol=5e-7)


def test_translation_moves_whole_pixels_and_lets_zeros_in():
    x, shifts = np.asarray(images()), np.array([(0, 0), (3, -2), (-9, 0), (8, 7), (-1, -1), (2, 5)])
    expected = np.zeros_like(x)
    for n, (down, right) in enumerate(shifts):
        for i in range(9):
            for j in range(8):
                if 0 <= i + down < 9 and 0 <= j + right < 8:
                    expected[n, i, j] = x[n, i + down, j + right]
    np.testing.assert_array_equal(diff.translated(jnp.asarray(x), jnp.asarray(shifts)), expected)


def test_cutout_sets_a_rectangle_to_zero_and_nothing_else():
    x, first, size = np.asarray(images(3)), np.array([(-2, 3), (4, 4), (8, 7)]), np.array([(5, 4), (0, 4), (3, 2)])
    expected = x.copy()
    for n in range(3):
        for i in range(first[n, 0], first[n, 0] + size[n, 0]):
            for j in range(first[n, 1], first[n, 1] + size[n, 1]):
                if 0 <= i < 9 and 0 <= j < 8:
                    expected[n, i, j] = 0
    np.testing.assert_array_equal(diff.pierced(jnp.asarray(x), jnp.asarray(first), jnp.asarray(size)), expected)


@pytest.mark.parametrize(("n", "place"), [(7, -1), (7, 0), (7, 6), (7, 7), (7, 12), (7, 25), (2, 3), (2, -2)])
def test_mirrored_places_are_those_of_numpy(n, place):
    assert parts.reflected(place, n) == np.pad(np.arange(n), 40, mode="reflect")[40 + place]


# ---- draws -------------------------------------------------------------------------------------


def test_shifts_are_uniform_over_an_eighth_of_each_side():
    shifts = np.asarray(diff.draw_shifts(draws(9000), (9, 20), 0.125, 1.0))
    assert set(shifts[:, 0]) == {-1, 0, 1}
    assert set(shifts[:, 1]) == {-3, -2, -1, 0, 1, 2, 3}  # 20 / 8 = 2.5 is rounded up, as in their code
    share = np.bincount(shifts[:, 1] + 3) / 9000
    np.testing.assert_allclose(share, 1 / 7, atol=4 * np.sqrt(1 / 7 * 6 / 7 / 9000))


def test_the_hole_s_centre_is_uniform_and_an_even_one_may_lie_on_either_edge():
    first, size = diff.draw_holes(draws(9000), (9, 8), 0.5, 1.0)
    assert np.unique(size, axis=0).tolist() == [[5, 4]]  # 4.5 is rounded up
    centre = np.asarray(first + size // 2)
    assert (centre.min(0).tolist(), centre.max(0).tolist()) == ([0, 0], [8, 8])  # odd: a pixel; even: between two
    np.testing.assert_allclose(np.bincount(centre[:, 1]) / 9000, 1 / 9, atol=4 * np.sqrt(1 / 9 * 8 / 9 / 9000))


@pytest.mark.parametrize(("name", "low", "high"), [("brightness", -0.5, 0.5), ("saturation", 0, 2), ("contrast", 0.5, 1.5)])
def test_colours_change_within_the_published_ranges(name, low, high):
    x = jnp.broadcast_to(jnp.array([[[[-0.5, 0.0, 0.5]], [[0.5, 0.0, -0.5]]]]), (4000, 2, 1, 3))
    out = np.asarray(OPERATIONS[name][0](x, None, draws(4000)))
    drawn = out[:, 0, 0, 1] if name == "brightness" else out[:, 0, 0, 2] / 0.5
    assert low <= drawn.min() < low + 0.01 and high - 0.01 < drawn.max() <= high
    assert abs(drawn.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 4000)


@pytest.mark.parametrize(("name", "still"), [("brightness", 0), ("saturation", 0), ("contrast", 0), ("translation", 1 / 9)])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_the_share_of_changed_examples_is_p(name, still, p):
    x = images(2000, (8, 9, 3))
    share, expected = changed(x, OPERATIONS[name][0](x, None, draws(2000), p=p)).mean(), p * (1 - still)
    assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 2000) + 0.001 * (name == "contrast")


def test_the_operations_of_colour_are_chosen_independently():
    u = np.asarray(diff.draw_colour(draws(4000), 3, 0.5, jnp.float32))
    assert abs((u != 0).all(0).mean() - 1 / 8) < 4 * np.sqrt(7) / 8 / np.sqrt(4000)
    assert np.abs(np.corrcoef(u) - np.eye(3)).max() < 4 / np.sqrt(4000)


# ---- laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_strength_0_and_probability_0_change_nothing(name):
    function, strength = OPERATIONS[name]
    for numbers in ({strength: 0.0}, {"p": 0.0}):
        np.testing.assert_allclose(function(images(), None, draws(6), **numbers), images(), atol=1e-6)
    assert changed(images(), function(images(), None, draws(6))).any()


def policy(x, d, **numbers):
    return gan.augment.diffaugment()["diffaugment"](x, None, d, **numbers)


def test_the_policy_is_its_words_in_their_order():
    x, d = images(), draws(6)
    (bound,) = gan.augment.diffaugment("cutout,color").values()
    expected = diff.colour(diff.cutout(x, None, d.named("cutout")), None, d.named("color"))
    np.testing.assert_array_equal(bound(x, None, d), expected)
    ranges = {"brightness", "saturation", "contrast", "translation", "cutout"}
    assert set(gan.leaves(gan.augment.diffaugment())) == {f"diffaugment.{name}" for name in {"p"} | ranges}


def test_an_unknown_word_is_refused():
    with pytest.raises(gan.UserError, match="'colour'.*color, translation, cutout"):
        gan.augment.diffaugment("colour,cutout")


def test_an_example_does_not_depend_on_the_others():
    x, d = images(), draws(6)
    out = policy(x, d)
    np.testing.assert_allclose(policy(x[2:4], d.replace(index=d.index[2:4])), out[2:4], atol=1e-6)
    assert changed(policy(x, draws(6, seed=1)), out).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_dtype_stays(dtype, channels):
    with jax.enable_x64(dtype == "float64"):
        x = images(2, (8, 8, channels), dtype)
        (bound,) = gan.augment.diffaugment().values()
        out = jax.eval_shape(lambda x: bound(x, None, draws(2)), x)
        assert (out.dtype, out.shape) == (x.dtype, x.shape)


def test_first_and_second_derivatives_are_finite_and_right(x64):
    @jax.jit
    def penalty(x):
        return (jax.grad(lambda x: jnp.tanh(policy(x, draws(2))).sum())(x) ** 2).sum()

    x = images(2, (8, 8, 3), "float64")
    direction = jnp.sign(images(2, (8, 8, 3), "float64") - 0.1)
    slope = (penalty(x + 1e-5 * direction) - penalty(x - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose((jax.jit(jax.grad(penalty))(x) * direction).sum(), slope, rtol=1e-6)


def test_members_of_a_population_have_their_own_probability():
    x, d, p = images(), draws(6), jnp.array([0.0, 0.4, 1.0])
    together = jax.vmap(lambda p: policy(x, d, p=p))(p)
    np.testing.assert_allclose(together[1], policy(x, d, p=p[1]), atol=1e-6)
    np.testing.assert_allclose(together[0], x, atol=1e-6)
