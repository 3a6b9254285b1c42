"""Known answers of KID, its errors, MMD and the sliced Wasserstein distance: scikit-learn, POT,
SciPy, torch-fidelity, laws."""

import math
from pathlib import Path

import numpy as np
import ot
import pytest
from scipy.stats import wasserstein_distance
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

import gan_jax as gan
from gan_jax.metrics.distances import _sliced, sliced_wasserstein
from gan_jax.metrics.kernels import kid, kid_error, kid_from, kid_gap, kid_subsets, mmd
from gan_jax.metrics.pairs import ROWS, CrossPairs, SelfPairs, cross_pairs, self_pairs

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "fidelity.npz")


def unbiased(kernel, x, y):
    n, m = len(x), len(y)
    alone = lambda a: (kernel(a, a).sum() - np.trace(kernel(a, a))) / (len(a) * (len(a) - 1))
    return alone(x) + alone(y) - 2 * kernel(x, y).sum() / (n * m)


def features(n, d, seed, shift=0.0):
    return np.maximum(np.random.default_rng(seed).normal(0.5 + shift, 1, (n, d)), 0)


# ---- KID ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m, d", [(2, 3, 3), (ROWS + 7, 60, 40), (60, ROWS + 7, 40)])
def test_kid_is_its_formula_by_scikit_learn(n, m, d):
    """Narrow and wide features, and samples on both sides of a block."""
    x, y = features(n, d, 0), features(m, d, 1, 0.2)
    expected = unbiased(lambda a, b: polynomial_kernel(a, b, degree=3, gamma=1 / d, coef0=1), x, y)
    assert kid(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert kid(y, x) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_kid_is_torch_fidelity_s():
    x, y = FROZEN["x"], FROZEN["y"]
    assert kid(x[: len(y)], y) == pytest.approx(float(FROZEN["kid"]), rel=1e-6)
    assert kid_subsets(x[: len(y)], y, 2, len(y))[0] == pytest.approx(float(FROZEN["kid"]), rel=1e-6)


def test_kid_over_subsets_is_torch_fidelity_s_on_average():
    """Other random subsets: within 4 standard errors of 2,000 and of 300 of them."""
    mean, deviation = kid_subsets(FROZEN["x"], FROZEN["y"], 300, 40)
    theirs, spread = FROZEN["kid_subsets"]
    assert abs(mean - theirs) < 4 * spread * math.sqrt(1 / 300 + 1 / 2000)
    assert deviation == pytest.approx(spread, rel=0.25)


def test_a_copy_has_negative_kid():
    """By the pairs of an example with itself: 2 (mean k(x, x') - mean k(x, x)) / n."""
    x = features(200, 40, 2)
    kernel = polynomial_kernel(x, x, degree=3, gamma=1 / 40, coef0=1)
    alone = (kernel.sum() - np.trace(kernel)) / (200 * 199)
    assert kid(x, x) == pytest.approx(2 * (alone - np.trace(kernel) / 200) / 200, rel=1e-9)
    y = features(200, 40, 3)
    assert kid(x, x) < -3 * kid_error(self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y)), (
        "the error that independent samples have"
    )


def test_kid_is_the_same_for_features_far_from_0_in_float32():
    x, y = (30 + features(100, 40, seed).astype(np.float32) for seed in (4, 5))
    expected = unbiased(lambda a, b: (a.astype(float) @ b.T.astype(float) / 40 + 1) ** 3, x, y)
    assert kid(x, y) == pytest.approx(expected, rel=1e-6)


def kernel_passes(x, *others):
    """What the kernel's part of `self_pairs` and `cross_pairs` is, without a compiled program in
    each of many repetitions."""
    none, cube = np.empty(0), lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3

    def alone(a):
        kernel = cube(a, a)
        np.fill_diagonal(kernel, 0)
        return SelfPairs(len(a), 1, none, none, none, kernel.sum(), (kernel**2).sum(), kernel.sum(1))

    def pair(b):
        kernel = cube(x, b)
        return CrossPairs(len(x), len(b), True, *[none] * 6, kernel.sum(1), kernel.sum(0), (kernel**2).sum())

    return [alone(a) for a in (x, *others)], [pair(b) for b in others]


def simulated(shift, repeats=1500, n=50, m=40, d=8):
    """KID, its error, KID_S - KID_T and its error, of fresh samples [repeats, 4]."""
    random = np.random.default_rng(6)
    rows = []
    for _ in range(repeats):
        x, s, t = (random.normal(size=(size, d)) + move for size, move in ((n, 0), (m, shift), (m, shift / 2)))
        (wx, ws, wt), (xs, xt) = kernel_passes(x, s, t)
        rows.append([kid_from(wx, ws, xs), kid_error(wx, ws, xs), *kid_gap(ws, xs, wt, xt)])
        assert rows[-1][2] == pytest.approx(rows[-1][0] - kid_from(wx, wt, xt), abs=1e-12)
    return np.array(rows)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_kid_and_its_gap_have_the_spread_that_their_errors_say(shift):
    """At equal distributions, where a jackknife has twice the variance, and at different ones,
    where it is of first order."""
    rows = simulated(shift)
    for value, error in (rows[:, :2].T, rows[:, 2:].T):
        ratio = (error**2).mean() / value.var()
        assert 0.85 < ratio < (1.15 if shift else 1.7), ratio
        if not shift:
            assert abs(value.mean()) < 4 * value.std() / math.sqrt(len(value)), "0 on average"
            assert 0.3 < (value < 0).mean() < 0.7
            assert (np.abs(value) > 3 * error).mean() < 0.02
        else:
            assert (value > 2 * error).mean() > 0.5


def test_the_kernel_s_part_of_the_passes_is_what_the_errors_were_simulated_with():
    x, y = features(50, 40, 21), features(40, 40, 22)
    (wx, wy), (xy,) = kernel_passes(x, y)
    made = self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y)
    assert kid_error(*made) == pytest.approx(kid_error(wx, wy, xy), rel=1e-9)
    assert kid_from(*made) == pytest.approx(kid_from(wx, wy, xy), rel=1e-9)


def test_passes_of_other_sets_are_refused():
    x, y = features(20, 40, 7), features(30, 40, 8)
    wx, wy, xy = self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y)
    with pytest.raises(gan.UserError, match="the first set has 30 examples, but 20 in the pairs"):
        kid_from(wy, wx, xy)
    with pytest.raises(gan.UserError, match="one x, not of 20 and of 30"):
        kid_gap(wy, xy, wx, cross_pairs(y, x))
    with pytest.raises(gan.UserError, match="at least 4 examples"):
        kid_error(self_pairs(x[:3], 1), wy, cross_pairs(x[:3], y))


@pytest.mark.parametrize("subsets, size", [(0, 10), (3, 1), (3, 31)])
def test_subsets_that_cannot_be_drawn_are_refused(subsets, size):
    with pytest.raises(gan.UserError, match="take smaller subsets"):
        kid_subsets(features(30, 8, 7), features(40, 8, 8), subsets, size)


# ---- MMD ---------------------------------------------------------------------------------------


def test_mmd_is_its_formula_by_scikit_learn():
    x, y = features(30, 5, 9), features(40, 5, 10, 0.3)
    expected = unbiased(lambda a, b: rbf_kernel(a, b, gamma=1 / (2 * 1.7**2)), x, y)
    assert mmd(x, y, 1.7) == pytest.approx(expected, rel=1e-9)
    both = np.concatenate([x, y])
    median = np.median([np.linalg.norm(both[i] - both[j]) for i in range(70) for j in range(i)])
    assert mmd(x, y) == pytest.approx(mmd(x, y, float(median)), rel=1e-12)


def test_mmd_is_0_on_average_and_negative_for_a_copy():
    random = np.random.default_rng(11)
    values = np.array([mmd(random.normal(size=(20, 3)), random.normal(size=(30, 3)), 1.5) for _ in range(300)])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))
    x = random.normal(size=(50, 3))
    assert mmd(x, x) < 0


def test_a_bandwidth_of_nothing_is_refused():
    x = np.ones((5, 2))
    with pytest.raises(gan.UserError, match="the bandwidth is 0"):
        mmd(x, x)
    with pytest.raises(gan.UserError, match="the bandwidth is -1"):
        mmd(x, x, -1)


# ---- sliced Wasserstein distance ---------------------------------------------------------------


@pytest.mark.parametrize("n, m", [(50, 50), (50, 70), (1, 40)])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_sliced_distance_is_pot_s_along_the_same_directions(n, m, p):
    x, y = features(n, 6, 12), features(m, 6, 13, 0.4)
    directions = np.random.default_rng(14).normal(size=(6, 70))
    directions /= np.linalg.norm(directions, axis=0)
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions, p=p)
    assert _sliced(x, y, directions, p) == pytest.approx(float(expected), rel=1e-9)


def test_on_a_line_the_sliced_distance_is_wasserstein_s():
    x, y = features(50, 1, 15), features(70, 1, 16)
    assert sliced_wasserstein(x, y, 1, 3) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-9)
    assert sliced_wasserstein(x, y, 2, 3) ** 2 == pytest.approx(ot.wasserstein_1d(x[:, 0], y[:, 0], p=2), rel=1e-9)


def test_a_shift_is_sliced_to_its_length_over_the_root_of_the_width():
    """E (u.v)^2 = |v|^2 / d over unit vectors u."""
    x = features(30, 9, 17)
    v = np.arange(9.0)
    assert sliced_wasserstein(x, x + v, projections=4000) == pytest.approx(np.linalg.norm(v) / 3, rel=0.06)
    assert sliced_wasserstein(x, x) == 0


@pytest.mark.parametrize("wrong", [{"p": 0.5}, {"projections": 0}, {"p": math.inf}])
def test_what_is_no_sliced_distance_is_refused(wrong):
    x = features(30, 9, 17)
    with pytest.raises(gan.UserError, match="sliced_wasserstein wants"):
        sliced_wasserstein(x, x, **wrong)
