"""Known answers of the Fréchet distance: closed forms, POT, torch-fidelity, the law of its bias;
and of its errors."""

import math
from pathlib import Path

import numpy as np
import ot
import pytest
from scipy.stats import t as student

import gan_jax as gan
from gan_jax.metrics.frechet import (
    Blocks,
    Moments,
    fd_infinity,
    frechet_distance,
    frechet_error,
    frechet_jackknife,
    jackknife_error,
    moments,
)

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "fidelity.npz")


def expected_bias(sigma2, d, n, m):
    """Of two samples of N(0, sigma2 I_d), on average and to first order in 1/n and 1/m."""
    return sigma2 * (d + d * (d + 1) / 4) * (1 / n + 1 / m)


def correlated(n, d, seed, shift=0.0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) @ random.normal(size=(d, d)) / math.sqrt(d) + shift


def pot(x, y):
    mean_x, mean_y = x.mean(0), y.mean(0)
    return ot.gaussian.bures_wasserstein_distance(mean_x, mean_y, np.cov(x.T), np.cov(y.T)) ** 2


def nuclear(x, y):
    """The trace of the root by the singular values of X Y^T, which need no root of a covariance
    that lacks rank."""
    a, b = (centred(each) for each in (x, y))
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * roots


def centred(x):
    return (x - x.mean(0)) / math.sqrt(len(x) - 1)


def test_the_distance_is_torch_fidelity_s():
    x, y = FROZEN["x"], FROZEN["y"]
    assert frechet_distance(x, y) == pytest.approx(float(FROZEN["fid"]), rel=1e-6)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(float(FROZEN["fid"]), rel=1e-6)


@pytest.mark.parametrize("n, m", [(60, 90), (90, 60), (12, 60), (60, 12), (10, 12)])
def test_the_distance_is_the_oracle_s_from_arrays_or_moments_in_any_order(n, m):
    """With full rank to rounding; with fewer examples than the 20 features, where POT finds no
    number, to that of roots."""
    x, y = correlated(n, 20, 0), correlated(m, 20, 1, 0.3)
    expected = nuclear(x, y)
    assert min(n, m) < 20 or pot(x, y) == pytest.approx(expected, rel=1e-10)
    for a in (x, moments(x)):
        for b in (y, moments(y)):
            for value in (frechet_distance(a, b), frechet_distance(b, a)):
                assert value == pytest.approx(expected, rel=1e-10 if min(n, m) > 20 else 1e-6)


def test_the_distance_of_gaussians_in_one_dimension_is_known():
    """(2 - 5)^2 + (3 - 1)^2, and not its root."""
    unit = np.array([-1.0, 1.0]) / math.sqrt(2)  # mean 0, variance 1 with ddof = 1
    assert frechet_distance(2 + 3 * unit[:, None], 5 + unit[:, None]) == pytest.approx(13, rel=1e-12)


def test_the_distance_of_diagonal_gaussians_is_known():
    a, b = np.array([1.0, 4.0, 0.0]), np.array([9.0, 0.25, 2.0])
    x, y = Moments(np.zeros(3), np.diag(a), 10), Moments(np.ones(3), np.diag(b), 10)
    assert frechet_distance(x, y) == pytest.approx(3 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("n", [10, 300])
def test_a_copy_has_distance_0(n):
    x = correlated(n, 50, 2, 3.0).astype(np.float32)
    scale = moments(x).covariance.trace()
    assert abs(frechet_distance(x, x)) < 1e-6 * scale
    assert abs(frechet_distance(moments(x), x)) < 1e-6 * scale


def test_float32_features_far_from_0_are_measured_in_float64():
    """A spread of 1 at a norm of 1e4: in float32 the covariances would be lost."""
    x, y = (1e3 + correlated(200, 30, seed) for seed in (3, 4))
    x, y = x.astype(np.float32), y.astype(np.float32)
    assert frechet_distance(x, y) == pytest.approx(pot(x.astype(float), y.astype(float)), rel=1e-8)


@pytest.mark.parametrize("n, m", [(400, 400), (800, 200)])
def test_the_bias_of_equal_gaussians_follows_the_law(n, m):
    """To first order in 1/n; also why references must have one size: the second pair has 1.56 times
    the distance."""
    d, sigma2, random = 20, 2.25, np.random.default_rng(5)
    values = [frechet_distance(*(1.5 * random.normal(size=(size, d)) for size in (n, m))) for _ in range(60)]
    error = np.std(values) / math.sqrt(len(values))
    law = expected_bias(sigma2, d, n, m)
    assert abs(np.mean(values) - law) < 4 * error + 0.05 * law
    assert error < 0.02 * law, "the two laws would be told apart"


# ---- extrapolation -----------------------------------------------------------------------------


def test_fd_infinity_removes_the_bias_of_its_sample_alone():
    d, n, m, random = 12, 1000, 400, np.random.default_rng(6)
    found, plain = [], []
    for seed in range(40):
        x, y = random.normal(size=(n, d)), random.normal(size=(m, d))
        y = moments(y)
        found.append(fd_infinity(x, y, points=6, least=200, seed=seed))
        plain.append(frechet_distance(x, y))
    error = np.std(found) / math.sqrt(len(found))
    left, whole = (expected_bias(1, d, size, m) for size in (10**9, n))
    assert abs(np.mean(found) - left) < 4 * error + 0.05 * left
    assert abs(np.mean(plain) - whole) < 0.1 * whole and np.mean(plain) > np.mean(found) + 4 * error


def test_fd_infinity_is_the_intercept_of_a_line():
    """Two sizes, one of which is all: the line through both, whichever examples are drawn for the
    other."""
    x, y = correlated(100, 5, 7), correlated(100, 5, 8)
    rows = np.random.default_rng(0).permutation(100)[:50]
    half, whole = frechet_distance(x[rows], y), frechet_distance(x, y)
    assert fd_infinity(x, y, points=2, least=50, seed=0) == pytest.approx(2 * whole - half, rel=1e-9)


@pytest.mark.parametrize("d, n, seeds", [(12, 400, 40), (24, 60, 60)])
def test_fd_infinity_is_near_what_many_samples_have(d, n, seeds):
    """Also where n / 10 examples would be fewer than the features; a line from there would hardly
    leave FD itself."""
    random, found, many, plain = np.random.default_rng(15), [], [], []
    endless = Moments(np.zeros(d), np.eye(d), 10**9)
    for seed in range(seeds):
        x, y = random.normal(size=(2, n, d))
        found.append(fd_infinity(x, y, points=5, seed=seed))
        many.append(frechet_distance(endless, moments(y)))
        plain.append(frechet_distance(x, y))
    error = math.hypot(np.std(found), np.std(many)) / math.sqrt(seeds)
    assert abs(np.mean(found) - np.mean(many)) < 4 * error + 0.1 * np.mean(many)
    assert np.mean(plain) > 1.6 * np.mean(many)


def test_fd_infinity_refuses_samples_hardly_larger_than_their_dimension():
    x = np.random.default_rng(0).normal(size=(114, 96))
    with pytest.raises(gan.UserError, match="114 examples of 96 features are too few to extrapolate: give 240"):
        fd_infinity(x, x)
    assert math.isfinite(fd_infinity(x[:, :45], x[:, :45]))


@pytest.mark.parametrize("wrong", [{"points": 1}, {"least": 1}, {"least": 100}])
def test_fd_infinity_refuses_what_is_no_line(wrong):
    x = correlated(100, 5, 7)
    with pytest.raises(gan.UserError, match="a line wants"):
        fd_infinity(x, x, **wrong)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [11, 100])
def test_the_jackknife_leaves_one_block_or_two_out_of_all_sets(n):
    """Sizes on both sides of where moments are kept in place of rows; blocks of unequal sizes."""
    d, blocks = 12, 5
    x, s, t = correlated(n, d, 9, 5.0), correlated(n + 2, d, 10, 5.1), correlated(60, d, 11, 4.9)
    values, replicates, alone = frechet_jackknife(x, [s, Blocks(t, blocks)], blocks)
    assert replicates.shape == (blocks + 2, 2) and alone.shape == (blocks, 2)
    np.testing.assert_allclose(values, [frechet_distance(x, s), frechet_distance(x, t)], rtol=1e-5)
    edges = lambda each: np.linspace(0, len(each), blocks + 1).astype(int)
    for i, cut in enumerate([(0,), (1,), (2,), (3,), (4,), (0, 2), (1, 3)]):
        rest = [np.delete(each, np.r_[tuple(slice(*edges(each)[j : j + 2]) for j in cut)], 0) for each in (x, s, t)]
        expected = [frechet_distance(rest[0], rest[1]), frechet_distance(rest[0], rest[2])]
        np.testing.assert_allclose(replicates[i], expected, rtol=1e-9 if n > d else 1e-5)
        if i < blocks:
            expected = [frechet_distance(rest[0], s), frechet_distance(rest[0], t)]
            np.testing.assert_allclose(alone[i], expected, rtol=1e-9 if n > d else 1e-5)


def test_the_error_beside_the_same_references_is_that_of_fresh_samples():
    """Of the distance, and of the difference to two references, whose noise is shared."""
    d, n, random = 6, 300, np.random.default_rng(12)
    s, t = (Blocks(x) for x in (random.normal(size=(300, d)) * 1.2, random.normal(size=(300, d)) + 0.2))
    values, errors = [], []
    for _ in range(150):
        value, _, alone = frechet_jackknife(random.normal(size=(n, d)), [s, t])
        values.append([*value, value[0] - value[1]])
        errors.append(jackknife_error(np.concatenate([alone, alone[:, :1] - alone[:, 1:]], 1)))
    ratio = np.mean(np.square(errors), 0) / np.var(values, 0)
    assert ((ratio > 0.65) & (ratio < 1.5)).all(), ratio


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_jackknife_s_interval_holds_over_draws_of_all_three_sets(shift):
    """Of equal distributions, where the variance is of second order, and of different ones; for the
    distance, and for the difference to two references."""
    d, n, repeats, random = 8, 80, 300, np.random.default_rng(12)
    found = []
    for _ in range(repeats):
        x, s, t = random.normal(size=(3, n, d))
        whole, left, _ = frechet_jackknife((1 + shift) * x + shift, [s, t])
        gap, gaps = whole[:1] - whole[1:], left[:, :1] - left[:, 1:]
        found.append([whole[0], gap[0], frechet_error(whole, left)[0], frechet_error(gap, gaps)[0]])
    value, error = np.array(found)[:, :2], np.array(found)[:, 2:]
    held = (np.abs(value - [value[:, 0].mean(), 0]) < student.ppf(0.975, 9) * error).mean(0)
    assert ((held > 0.91) & (held < 0.99)).all(), held


def test_the_jackknife_leaves_the_bias_that_a_bootstrap_doubles():
    """The bias d + d (d + 1) / 4 over n: of nine tenths of the examples 10 / 9 as much, of n drawn
    with replacement twice."""
    d, n, random = 20, 200, np.random.default_rng(14)
    x, y = random.normal(size=(2, n, d))
    whole, replicates, _ = frechet_jackknife(x, [y])
    drawn = [frechet_distance(*(each[random.integers(0, n, n)] for each in (x, y))) for _ in range(20)]
    assert replicates[:10].mean() == pytest.approx(10 / 9 * whole[0], rel=0.05)
    assert np.mean(drawn) > 1.6 * whole[0]


def test_the_jackknife_s_error_of_a_mean_is_the_textbook_one():
    """A mean has no second order, and so no interactions of two blocks."""
    x = np.random.default_rng(13).normal(size=20)
    cuts = [*range(20), *([i, i + 10] for i in range(10))]
    replicates = np.array([np.delete(x, cut).mean() for cut in cuts])
    assert jackknife_error(replicates[:20]) == pytest.approx(x.std(ddof=1) / math.sqrt(20), rel=1e-12)
    assert frechet_error(x.mean(), replicates) == pytest.approx(x.std(ddof=1) / math.sqrt(20), rel=1e-12)


@pytest.mark.parametrize("blocks", [1, 11])
def test_a_jackknife_that_leaves_nothing_out_or_nothing_is_refused(blocks):
    x = correlated(20, 3, 0)
    with pytest.raises(gan.UserError, match=rf"{blocks} blocks of 20 examples: use 4 to 10"):
        frechet_jackknife(x, [x], blocks)
    with pytest.raises(gan.UserError, match="3 features in 4 blocks against 3 features in 5 blocks"):
        frechet_jackknife(x, [Blocks(x, 5)], 4)
    with pytest.raises(gan.UserError, match="at least 2"):
        jackknife_error([1.0])
    with pytest.raises(gan.UserError, match="at least 6"):
        frechet_error(1.0, [1.0])


# ---- refused -----------------------------------------------------------------------------------


def test_features_of_two_extractors_are_refused():
    x, y = correlated(30, 3, 0), correlated(30, 4, 0)
    with pytest.raises(gan.UserError, match="one extractor"):
        frechet_distance(x, y)
    for compare in (frechet_distance, fd_infinity):
        with pytest.raises(gan.UserError, match="3 features against 4"):
            compare(x, moments(y))
    with pytest.raises(gan.UserError, match="3 features in 10 blocks against 4 features in 10 blocks"):
        frechet_jackknife(x, [y])


def test_features_that_are_no_numbers_are_refused_by_row():
    x = correlated(30, 3, 0)
    x[17, 2] = np.nan
    with pytest.raises(gan.UserError, match="row 17 is not finite"):
        moments(x)
    with pytest.raises(gan.UserError, match="1 rows, but at least 2"):
        moments(x[:1])
