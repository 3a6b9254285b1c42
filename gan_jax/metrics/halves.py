"""Errors of numbers of pairs (`pairs`), by what they are in random halves of the sets.

A sum of independent terms would have a textbook error, but whether an example has a neighbour
depends on all others: shares of n examples would be too sure by up to a half, and a jackknife too
unsure. Both halves of a set are independent, so that their difference shows the whole variance.
"""

from collections.abc import Callable, Mapping

import numpy as np

from gan_jax.metrics.pairs import CrossPairs, SelfPairs

SPLITS, MOST = 20, 600  # random splits; examples of a set that are split, at most
ALIKE = 1e-12  # of the squared size of the features: nearer squared distances are 0

Passes = tuple[SelfPairs, SelfPairs, SelfPairs, CrossPairs, CrossPairs]  # within x, t, h; x with t, x with h


class Halves:
    """Random halves of reference sets t and h [n, d]: the first `MOST` of each in random order, cut
    `SPLITS` times. k: of the radii of `SelfPairs`, less where a half has too few."""

    def __init__(self, t: np.ndarray, h: np.ndarray, k: int, seed: int = 0):
        self.n, self.t, self.h = len(t), t[:MOST], h[:MOST]
        self.half = len(self.t) // 2
        self.k = min(k, self.half - 1)
        random = np.random.default_rng(seed)
        orders = [random.permutation(len(self.t)) for _ in range(SPLITS)]
        self.rows = [order[i * self.half :][: self.half] for order in orders for i in (0, 1)]
        own = [apart_all(each, each) for each in (self.t, self.h)]
        self.reals = [[_within(each, rows, self.k) for each in own] for rows in self.rows]

    def errors(self, x: np.ndarray, numbers: Callable[..., Mapping[str, float]]) -> dict[str, float]:
        """The standard errors of numbers(wx, wt, wh, to_t, to_h) of samples x [n, d], t and h, over
        draws of all three: the root of half the mean square of the difference of two halves, times
        the share of n that a half is. So their variance must fall as 1 / n. The mean is of
        `SPLITS` squares: an interval takes Student's t with as many degrees of freedom."""
        x = x[: len(self.t)]
        own, to_t, to_h = apart_all(x, x), apart_all(x, self.t), apart_all(x, self.h)
        made = []
        for rows, (wt, wh) in zip(self.rows, self.reals, strict=True):
            wx = _within(own, rows, self.k)
            made.append(numbers(wx, wt, wh, _between(to_t, rows, wx, wt), _between(to_h, rows, wx, wh)))
        differences = {key: np.array([a[key] - b[key] for a, b in zip(made[::2], made[1::2], strict=True)]) for key in made[0]}
        return {key: float(np.sqrt((value**2).mean() / 2 * self.half / self.n)) for key, value in differences.items()}


def apart_all(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j| [n, m], by products; 0 where rounding cannot tell it from 0."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    sizes = (x**2).sum(1)[:, None] + (y**2).sum(1)
    squared = sizes - 2 * x @ y.T
    return np.sqrt(np.where(squared < ALIKE * sizes, 0, squared))


_NONE = np.empty(0)


def _within(distances: np.ndarray, rows: np.ndarray, k: int) -> SelfPairs:
    """The distances of `self_pairs` of these rows, from those of all [n, n]."""
    own = distances[np.ix_(rows, rows)]
    np.fill_diagonal(own, np.inf)
    own = np.partition(own, (0, k - 1), 1)
    return SelfPairs(len(rows), k, own[:, 0], _NONE, own[:, k - 1], 0, 0, _NONE)


def _between(distances: np.ndarray, rows: np.ndarray, wx: SelfPairs, wy: SelfPairs) -> CrossPairs:
    """The distances and balls of `cross_pairs` of these rows of x and of y."""
    d = distances[np.ix_(rows, rows)]
    balls = (d < wy.radius).sum(1), (d < wx.radius[:, None]).sum(0)
    return CrossPairs(len(rows), len(rows), True, d.min(1), _NONE, d.min(0), _NONE, *balls, _NONE, _NONE, 0)
