"""Errors by random halves: their parts against the passes of `pairs`, their size against fresh
draws."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import t as student

from gan_jax.metrics.halves import MOST, SPLITS, Halves, _between, _within, apart_all
from gan_jax.metrics.pairs import cross_pairs, self_pairs
from gan_jax.report.numbers import _shares

D, K = 4, 5


def test_distances_are_scipy_s_and_those_of_duplicates_0():
    x, y = np.random.default_rng(0).normal(3, 1, (2, 40, 30))
    y[:5] = x[:5]
    np.testing.assert_allclose(apart_all(x, y), cdist(x, y), atol=1e-9)
    assert (np.diag(apart_all(x, y))[:5] == 0).all()


def test_the_passes_of_some_rows_are_the_passes_over_those_rows():
    x, y = np.random.default_rng(1).normal(size=(2, 50, D))
    rows = np.random.default_rng(2).permutation(50)[:20]
    wx, wy = (_within(apart_all(each, each), rows, K) for each in (x, y))
    pairs = _between(apart_all(x, y), rows, wx, wy)
    true_x, true_y = self_pairs(x[rows], K), self_pairs(y[rows], K)
    true = cross_pairs(x[rows], y[rows], true_x, true_y)
    for made, expected, names in (
        (wx, true_x, ("distance", "radius")),
        (pairs, true, ("forward_distance", "backward_distance", "in_x_balls", "in_y_balls")),
    ):
        for name in names:
            np.testing.assert_allclose(getattr(made, name), getattr(expected, name), rtol=1e-9, err_msg=name)


def test_halves_have_no_row_in_common_and_large_sets_are_cut():
    t = np.random.default_rng(3).normal(size=(MOST + 300, 2))
    halves = Halves(t, t, K)
    assert len(halves.rows) == 2 * SPLITS and halves.half == MOST // 2
    for one, other in zip(halves.rows[::2], halves.rows[1::2], strict=True):
        assert len(set(one) | set(other)) == MOST


@pytest.mark.parametrize("n", [100, MOST + 200])
def test_the_error_of_a_mean_is_the_textbook_one(n):
    """Of something that does not depend on neighbours: a share of samples to the right of 0."""
    x, t, h = np.random.default_rng(4).normal(size=(3, n, 1))
    seen = iter(Halves(t, h, K).rows)
    error = Halves(t, h, K).errors(x, lambda *_: {"share": (x[next(seen)] > 0).mean()})["share"]
    assert error == pytest.approx(0.5 / n**0.5, rel=0.5)  # 3 standard errors of a root of 20 squares


def test_the_intervals_of_shares_hold_over_draws_of_all_sets():
    """Of equal distributions; by shares of independent examples the interval of the density would
    hold in 80 %, of the others in 85 to 91 %."""
    n, repeats, random = 60, 200, np.random.default_rng(5)
    values, errors = [], []
    for _ in range(repeats):
        x, t, h = random.normal(size=(3, n, D))
        every = np.arange(n)
        wx, wt, wh = (_within(apart_all(each, each), every, K) for each in (x, t, h))
        values.append(_shares(wx, wt, wh, *(_between(apart_all(x, y), every, wx, wy) for y, wy in ((t, wt), (h, wh)))))
        errors.append(Halves(t, h, K).errors(x, _shares))
    for key in ("density", "coverage_gap", "one_nn", "one_nn_train", "one_nn_generated", "one_nn_real"):
        value, error = (np.array([row[key] for row in rows]) for rows in (values, errors))
        held = (np.abs(value - value.mean()) < student.ppf(0.975, SPLITS) * error).mean()
        assert 0.91 < held < 0.99, (key, held)
