"""Distances between the distributions of two samples, without a feature extractor."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_two

ROWS = 256  # of x at a time: the temporaries are [ROWS, m]
NARROW = 16  # features up to which differences are cheap enough to be taken one by one


def energy_distance(x: ArrayLike, y: ArrayLike) -> Array:
    """2 E|x - y| - E|x - x'| - E|y - y'| (Szekely & Rizzo, 2013), Euclidean, of flattened examples.

    x [n, ...], y [m, ...], in units of the data; uint8 images are read as [-1, 1]. x' and y' are
    other examples of the same sample (a U-statistic; SciPy has the root of the V-statistic). Two
    samples of one distribution are at 0 on average, with a spread that falls as 1 / n; a copy is at
    -2 E|x - x'| / n. In float32, above 16 features, a distance near 0 may come out as up to 1e-3
    |x|. Raises UserError for fewer than 2 examples, or where the shapes do not fit.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if min(x.ndim, y.ndim) < 1 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise UserError(f"energy_distance wants two samples of at least 2 alike examples: {list(x.shape)}, {list(y.shape)}")
    dtype = jnp.promote_types(jnp.result_type(x, y), jnp.float32).name
    x, y = (to_unit(a, dtype).reshape(len(a), -1) for a in (x, y))
    middle = (x.mean(0) + y.mean(0)) / 2
    x, y = x - middle, y - middle
    return 2 * _mean_distance(x, y) - _mean_distance(x) - _mean_distance(y)


def _mean_distance(x: Array, y: Array | None = None) -> Array:
    """The mean of |x_i - y_j| over all pairs, or of |x_i - x_j| over those with i != j."""
    others = x if y is None else y
    square = (others**2).sum(1)

    def row(example):
        i, a = example
        if len(a) <= NARROW:
            squared = ((a - others) ** 2).sum(1)
        else:
            squared = jnp.maximum(square + (a**2).sum() - 2 * jnp.dot(others, a, precision="highest"), 0)
        distances = jnp.sqrt(squared)
        if y is None:  # exactly 0, but not after rounding
            distances = jnp.where(jnp.arange(len(x)) == i, 0, distances)
        return distances.sum() / (len(others) - (y is None))

    return jax.lax.map(row, (jnp.arange(len(x)), x), batch_size=ROWS).mean()


def sliced_wasserstein(x: Any, y: Any, p: float = 2, projections: int = 500, seed: int = 0) -> float:
    """(mean over random unit vectors u of W_p(x.u, y.u)^p)^(1/p) (Bonneel et al., 2015).

    x [n, d], y [m, d]: features, whose unit the distance has. W_p is the exact distance of two
    samples on a line. The mean of W_p^p of two samples of one distribution falls as n^(-p/2).
    Raises UserError for features of different widths, for p < 1 or no projections.
    """
    x, y = check_two(x, y, "sliced_wasserstein", 1)
    if not 1 <= p < np.inf or projections < 1:
        raise UserError(f"sliced_wasserstein wants p of 1 or more and projections, not p = {p} and {projections} of them")
    directions = np.random.default_rng(seed).standard_normal((x.shape[1], projections))
    return _sliced(x, y, directions / np.linalg.norm(directions, axis=0), p)


def _sliced(x: np.ndarray, y: np.ndarray, directions: np.ndarray, p: float) -> float:
    """The distance along the columns of `directions` [d, projections]."""
    n, m = len(x), len(y)
    steps = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of either quantile function, over n m: exact
    width = np.diff(steps, prepend=0) / (n * m)
    i, j = -(-steps // m) - 1, -(-steps // n) - 1
    total = 0.0
    for first in range(0, directions.shape[1], 64):
        part = directions[:, first : first + 64]
        a, b = np.sort(x @ part, 0)[i], np.sort(y @ part, 0)[j]
        total += (width @ np.abs(a - b) ** p).sum()
    return float((total / directions.shape[1]) ** (1 / p))
