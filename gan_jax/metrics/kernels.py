"""Unbiased maximum mean discrepancies: KID with its standard error, and MMD with a Gaussian kernel.

Independent samples of one distribution have 0 on average, below 0 as often as above; a copy is
clearly below 0. Sets are features x [n, d] and y [m, d]; sets of different widths raise UserError.
"""

from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_two
from gan_jax.metrics.order import content_order
from gan_jax.metrics.pairs import CrossPairs, SelfPairs, check_fit, cross_pairs, self_pairs

MEDIAN = 1000  # examples of each set whose median distance is the default bandwidth, at most


def kid(x: Any, y: Any) -> float:
    """The kernel inception distance (Binkowski et al., 2018): MMD^2 with k(a, b) = (a.b / d + 1)^3.

    It is mean k(x_i, x_j) over i != j, plus the same of y, minus 2 mean k(x_i, y_j).
    """
    return kid_from(self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y))


def kid_from(wx: SelfPairs, wy: SelfPairs, pairs: CrossPairs) -> float:
    """`kid` of the passes self_pairs(x), self_pairs(y) and cross_pairs(x, y)."""
    check_fit("kid", pairs.n, pairs.m, wx, wy)
    return _mean_within(wx) + _mean_within(wy) - 2 * float(pairs.kernel_rows.mean()) / pairs.m


def kid_error(wx: SelfPairs, wy: SelfPairs, pairs: CrossPairs) -> float:
    """The standard error of `kid_from`, over draws of both samples, by Hoeffding's decomposition.

    With h_i = sum_j k(x_i, x_j) / (n - 1) - sum_j k(x_i, y_j) / m, g_j its like for y, and z_xx,
    z_yy, z_xy the variances of the kernel after a fit by row and column effects,

        Var = 4 var(h) / n + 4 var(g) / m - (2 z_xx / n^2 + 2 z_yy / m^2 + 4 z_xy / (n m)).

    The bracket is the variance of the second order, which the first two terms hold twice, so that
    Var is at least half of them. Raises UserError for fewer than 4 examples.
    """
    check_fit("kid", pairs.n, pairs.m, wx, wy)
    x = wx.kernel_rows / (wx.n - 1) - pairs.kernel_rows / pairs.m
    y = wy.kernel_rows / (wy.n - 1) - pairs.kernel_columns / pairs.n
    second = 2 * _own(wx) / wx.n**2 + 2 * _own(wy) / wy.n**2 + 4 * _cross(pairs) / (wx.n * wy.n)
    return _error([x, y], second)


def kid_gap(ws: SelfPairs, xs: CrossPairs, wt: SelfPairs, xt: CrossPairs) -> tuple[float, float]:
    """KID(x, s) - KID(x, t) and its standard error, from cross_pairs of x and s, and of x and t.

    The pairs within x drop out, and with them most of the noise of x. The error is that of
    `kid_error`, with h_i = mean_t k(x_i, t) - mean_s k(x_i, s). Raises UserError for two different
    x or below 4 examples.
    """
    check_fit("kid_gap", xs.n, xs.m, None, ws)
    check_fit("kid_gap", xt.n, xt.m, None, wt)
    if xs.n != xt.n:
        raise UserError(f"kid_gap wants pairs of one x, not of {xs.n} and of {xt.n} examples")
    x = xt.kernel_rows / xt.m - xs.kernel_rows / xs.m
    s = ws.kernel_rows / (ws.n - 1) - xs.kernel_columns / xs.n
    t = wt.kernel_rows / (wt.n - 1) - xt.kernel_columns / xt.n
    second = sum(2 * _own(w) / w.n**2 + 4 * _cross(p) / (p.n * p.m) for w, p in ((ws, xs), (wt, xt)))
    return _mean_within(ws) - _mean_within(wt) + 2 * float(x.mean()), _error([x, s, t], second)


def _error(terms: list[np.ndarray], second: float) -> float:
    both = sum(4 * term.var(ddof=1) / len(term) for term in terms)  # first order, and twice the second
    return float(np.sqrt(max(both - second, both / 2)))


def _mean_within(w: SelfPairs) -> float:
    return w.kernel_sum / (w.n * (w.n - 1))


def _own(w: SelfPairs) -> float:
    """The variance of k(x_i, x_j), i != j, around mean + a_i + a_j, by least squares."""
    n = w.n
    if n < 4:
        raise UserError(f"an error of KID wants at least 4 examples of each set, not {n}")
    mean = _mean_within(w)
    effects = (w.kernel_rows - (n - 1) * mean) / (n - 2)
    left = w.kernel_squares / 2 - n * (n - 1) / 2 * mean**2 - (n - 2) * (effects**2).sum()
    return max(float(left) / (n * (n - 3) / 2), 0.0)


def _cross(pairs: CrossPairs) -> float:
    """The variance of k(x_i, y_j) around mean + a_i + b_j, by least squares."""
    n, m = pairs.n, pairs.m
    if min(n, m) < 4:
        raise UserError(f"an error of KID wants at least 4 examples of each set, not {min(n, m)}")
    mean = pairs.kernel_rows.sum() / (n * m)
    rows, columns = pairs.kernel_rows / m - mean, pairs.kernel_columns / n - mean
    left = pairs.kernel_squares - n * m * mean**2 - m * (rows**2).sum() - n * (columns**2).sum()
    return max(float(left) / ((n - 1) * (m - 1)), 0.0)


def kid_subsets(x: Any, y: Any, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and deviation of the KID of random subsets of `size` examples, as often published.

    Subsets are drawn without replacement, as in torch-fidelity. The deviation is that of one KID of
    `size` examples, not an error of the mean. Raises UserError for smaller sets.
    """
    x, y = check_two(x, y, "kid_subsets")
    if subsets < 1 or not 2 <= size <= min(len(x), len(y)):
        raise UserError(f"kid_subsets: {subsets} subsets of {size} examples of {len(x)} and {len(y)}: take smaller subsets")
    random = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        a, b = (each[random.choice(len(each), size, replace=False)] for each in (x, y))
        values.append(_unbiased(*(((p @ q.T) / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))))
    return float(np.mean(values)), float(np.std(values))


def _unbiased(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> float:
    """MMD^2 as a U-statistic, from all values of the kernel."""
    n, m = xy.shape
    return float((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def mmd(x: Any, y: Any, bandwidth: float | None = None) -> float:
    """MMD^2 with the kernel exp(-|a - b|^2 / (2 bandwidth^2)) (Gretton et al., 2012, equation 3).

    bandwidth, in units of the features: by default the median distance of two examples of both sets
    together (of 1,000 of a larger set, the same in any order). Xu et al. (2018) publish the root of
    the biased V-statistic. Raises UserError for a bandwidth that is not positive, or a median that
    is 0.
    """
    from scipy.spatial.distance import cdist, pdist

    x, y = check_two(x, y, "mmd")
    if bandwidth is None:
        few = [each if len(each) <= MEDIAN else each[content_order(each)[:MEDIAN]] for each in (x, y)]
        bandwidth = float(np.median(pdist(np.concatenate(few))))
    if not 0 < bandwidth < np.inf:
        raise UserError(f"mmd: the bandwidth is {bandwidth:g}: give a positive one")
    return _unbiased(*(np.exp(cdist(a, b, "sqeuclidean") / (-2 * bandwidth**2)) for a, b in ((x, x), (y, y), (x, y))))
