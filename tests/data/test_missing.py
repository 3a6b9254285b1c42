"""Which cells go missing: at exactly the rate that was asked for, and for the reason that the
mechanism names."""

import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.errors import UserError
from gan_jax.data import missing

TABLE = np.random.default_rng(0).lognormal(size=(400, 6))
RATES = (0.05, 0.2, 0.5, 0.8, 0.0, 0.99)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_mcar_misses_each_cell_with_the_rate(rate):
    mask = missing.mcar((TABLE), rate, seed=3)
    assert mask.dtype == bool and mask.shape == TABLE.shape
    assert abs((~mask).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / mask.size)
    assert np.abs(np.corrcoef(mask.T.astype(float)) - np.eye(6)).max() < 0.25


def test_every_column_may_have_its_own_rate():
    lost = 1 - missing.mcar(np.zeros((5000, 6)), RATES, seed=0).mean(0)
    assert lost == pytest.approx(RATES, abs=0.03)
    assert lost[4] == 0
    for probabilities in (missing.mar_probabilities(TABLE, RATES, 1), missing.mnar_probabilities(TABLE, RATES)):
        mean = probabilities.mean(0)
        assert ((np.abs(mean - RATES) < 1e-9) | (probabilities == 0).all(0)).all()


@pytest.mark.parametrize("strength", [0.0, 1.0, 20.0])
def test_mar_is_calibrated_and_depends_on_columns_that_are_observed_alone(strength):
    probabilities = missing.mar_probabilities(TABLE, 0.3, seed=1, pivots=0.34, strength=strength)
    pivots = (probabilities == 0).all(0)
    assert pivots.sum() == 2
    np.testing.assert_allclose(probabilities.mean(0)[~pivots], 0.3, atol=1e-9)
    other = TABLE.copy()
    other[:, ~pivots] = np.random.default_rng(9).normal(size=(400, 4))
    np.testing.assert_array_equal(missing.mar_probabilities(other, 0.3, 1, 0.34, strength), probabilities)
    mask = missing.mar(TABLE, 0.3, seed=1, pivots=0.34, strength=strength)
    assert mask[:, pivots].all()
    assert abs((~mask[:, ~pivots]).mean() - 0.3) < 4 * np.sqrt(0.21 / 1600)


def test_mar_of_strength_zero_is_mcar_and_of_a_great_one_is_decided():
    free = lambda p: p[:, (p != 0).any(0)]
    np.testing.assert_allclose(free(missing.mar_probabilities(TABLE, 0.3, 1, strength=0.0)), 0.3)
    decided = free(missing.mar_probabilities(TABLE, 0.3, 1, strength=1e4))
    assert ((decided < 1e-3) | (decided > 1 - 1e-3)).mean() > 0.98


def test_mnar_grows_with_the_own_value_and_ignores_the_others():
    probabilities = missing.mnar_probabilities(TABLE, 0.3, strength=1.0)
    np.testing.assert_allclose(probabilities.mean(0), 0.3, atol=1e-9)
    for j in range(6):
        assert (np.diff(probabilities[TABLE[:, j].argsort(), j]) > 0).all()
    z = (TABLE - TABLE.mean(0)) / TABLE.std(0)
    offset = np.log(probabilities / (1 - probabilities)) - z
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=1e-8)
    down = missing.mnar(TABLE, 0.3, seed=0, strength=-3.0)
    assert TABLE[~down].mean() < TABLE[down].mean()


def test_a_column_without_spread_is_missing_at_its_rate():
    flat = np.ones((50, 2))
    np.testing.assert_allclose(missing.mnar_probabilities(flat, 0.4), 0.4)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_every_pixel_is_missing_at_the_rate_in_blocks_also_in_the_corner(size):
    mask = missing.blocks(np.zeros((4000, 9, 8, 2)), 0.4, seed=0, size=size)
    lost = 1 - mask.mean(0)
    assert (mask[..., 0] == mask[..., 1]).all()
    assert np.abs(lost - 0.4).max() < 4.5 * np.sqrt(0.24 / 4000)


def test_what_is_missing_is_a_union_of_squares():
    size, h, w = 3, 9, 8
    lost = ~missing.blocks(np.zeros((50, h, w)), 0.3, seed=1, size=size)
    wide = np.pad(lost, ((0, 0), (size - 1,) * 2, (size - 1,) * 2), constant_values=True)
    whole = np.lib.stride_tricks.sliding_window_view(wide, (size, size), (1, 2)).all((3, 4))
    covered = np.zeros_like(lost)
    for i in range(size):
        for j in range(size):
            covered |= whole[:, i : i + h, j : j + w]
    np.testing.assert_array_equal(covered & lost, lost)


@pytest.mark.parametrize("mechanism", [missing.mcar, missing.mar, missing.mnar])
def test_a_mask_is_a_function_of_its_seed(mechanism):
    one, same, other = (mechanism(TABLE, 0.4, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.1


@pytest.mark.parametrize("mechanism", [*missing.MECHANISMS.values()])
@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
def test_a_rate_lies_between_nothing_and_everything(mechanism, rate):
    values = np.zeros((4, 5, 5)) if mechanism is missing.blocks else TABLE
    with pytest.raises(UserError, match=r"missing rate .* must lie in \[0, 1\)"):
        mechanism(values, rate, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: missing.mcar(TABLE, (0.1, 0.2), 0), "one for each column"),
        (lambda: missing.mar(TABLE[:, :1], 0.2, 0), "at least two columns"),
        (lambda: missing.mar(TABLE, 0.2, 0, pivots=1.0), "share in"),
        (lambda: missing.mnar(np.full((3, 3), np.nan), 0.2, 0), "finite table"),
        (lambda: missing.blocks(TABLE, 0.2, 0), "give images"),
        (lambda: missing.blocks(np.zeros((2, 4, 4)), 0.2, 0, size=0), "size=0"),
        (lambda: missing.mcar(TABLE, 0.2, -1), "seed=-1"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_incomplete_splits_hold_the_values_in_the_unit_interval_and_their_masks():
    data = missing.incomplete(gan.load("digits"), 0.5, mechanism=missing.blocks, size=2)
    plain = gan.load("digits")
    assert data.image_shape == (2, 8, 8, 1) and data.train.images.dtype == np.float32
    np.testing.assert_allclose(data.train.images[:, 0], plain.train.images / np.float32(255), rtol=1e-6)
    assert abs(data.train.images[:, 1].mean() - 0.5) < 0.02
    assert (data.train.images[:200, 1] != data.validation.images[:200, 1]).any()
    points = gan.from_arrays(TABLE.astype(np.float32))
    table = missing.incomplete(points, 0.2, seed=1)
    assert table.train.images[:, 0].min() == 0 and table.train.images[:, 0].max() == 1
    np.testing.assert_array_equal(table.train.labels, points.train.labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: missing.mar([["a", 1.0]] * 5, 0.2, 0), "mar: values: could not convert string to float: 'a'"),
        (lambda x: missing.mcar(x, "a", 0), "missing rate: could not convert string"),
        (lambda x: missing.mnar(x, 0.2, 0, strength=np.nan), "mnar: strength is nan"),
        (lambda x: missing.mar(x, 0.2, 0, strength=np.inf), "mar: strength is inf"),
        (lambda x: missing.mar(x, 0.2, 0, pivots="a"), "mar: pivots: could not convert string"),
        (
            lambda x: missing.incomplete(gan.from_arrays(x), 0.2, mechanism="mra"),
            "mechanism='mra': give a function, or one of mcar",
        ),
    ],
)
def test_what_is_no_number_and_no_mechanism_gets_one_line(call, message):
    """A strength that is not a number made every cell missing."""
    with pytest.raises(UserError, match=message) as raised:
        call(np.random.default_rng(0).random((60, 3)).astype(np.float32))
    assert "\n" not in str(raised.value)


def test_a_mechanism_may_be_named():
    data = gan.from_arrays(np.random.default_rng(0).random((60, 3)).astype(np.float32))
    named, given = (missing.incomplete(data, 0.2, mechanism=each).train.images for each in ("mar", missing.mar))
    np.testing.assert_array_equal(named, given)
