"""The Fréchet distance of two feature sets, of finite and infinite samples, and its jackknife."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_features, check_two
from gan_jax.metrics.pairs import product


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean [d], covariance [d, d] (ddof = 1) and size n of a feature set."""

    mean: Float64[np.ndarray, "d"]
    covariance: Float64[np.ndarray, "d d"]
    n: int

    @functools.cached_property
    def factor(self) -> Float64[np.ndarray, "d d"]:
        """L with L L^T = covariance: eigenvectors times the roots of the eigenvalues."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors * np.sqrt(np.maximum(values, 0))


def moments(x: Any) -> Moments:
    """Mean and covariance (ddof = 1) of features [n, d], in float64. Raises UserError for n < 2."""
    x = check_features(x, "features for a mean and a covariance")
    mean = x.mean(0)
    centred = x - mean
    return Moments(mean, centred.T @ centred / (len(x) - 1), len(x))


def frechet_distance(x: Any, y: Any) -> float:
    """|mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)), the squared 2-Wasserstein of Gaussians.

    x, y: features [n, d], or `moments` of them. In squared units of the features, from 0 (a copy).
    Of Inception features it is FID (Heusel et al., 2017), which is this square, not its root.
    Without full rank it is good to about 1e-6 of the traces. It is biased: two samples of one N(0,
    s^2 I_d) are at s^2 (d + d (d + 1) / 4) (1/n + 1/m), to first order. Compare equal n and m only,
    or use `fd_infinity`. Cost: at d = 2,048 about 2 s, half of it for `factor`. Raises UserError
    for widths that differ.
    """
    if not isinstance(x, Moments) and not isinstance(y, Moments):
        x, y = check_two(x, y, "frechet_distance")
        if len(y) < len(x):  # the smaller one stays rows: without full rank its n x n problem is the better one
            x, y = y, x
    if isinstance(x, Moments) and not isinstance(y, Moments):
        x, y = y, x
    y = y if isinstance(y, Moments) else moments(y)
    if isinstance(x, Moments):
        _check_width(len(x.mean), y)
        return _distance(y, x.mean, np.trace(x.covariance), y.factor.T @ x.covariance @ y.factor)
    x = check_features(x, "frechet_distance")
    _check_width(x.shape[1], y)
    return _of_rows(y, x, x @ y.factor)


def _check_width(width: int, y: Moments) -> None:
    if width != len(y.mean):
        raise UserError(f"frechet_distance: {width} features against {len(y.mean)}: they must come from one extractor")


def _distance(y: Moments, mean: np.ndarray, trace: float, product: np.ndarray) -> float:
    """From the moments of x; product: any matrix with the eigenvalues of C_x C_y that are not 0."""
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0)).sum()
    return float(((mean - y.mean) ** 2).sum() + trace + np.trace(y.covariance) - 2 * roots)


def _of_rows(y: Moments, x: np.ndarray, z: np.ndarray) -> float:
    """From rows x and z = x L, L being the factor of y."""
    mean = x.mean(0)
    trace = (((x - mean) ** 2).sum()) / (len(x) - 1)
    z = z - z.mean(0)
    product = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return _distance(y, mean, trace, product / (len(x) - 1))


class Subsets:
    """FD to y of most of the rows of x [n, d], from the scatter of all rows and of those left out;
    serves `fd_infinity` and `frechet_jackknife` in the place of y."""

    def __init__(self, x: np.ndarray, y: Moments):
        self.x, self.y, self.centre = x, y, x.mean(0)
        self.z = product(x, y.factor)
        self.z -= self.z.mean(0)
        self.squares = np.array([((row - self.centre) ** 2).sum() for row in x])
        self.scatter = product(self.z.T, self.z) if len(x) > x.shape[1] else None

    def without(self, out: np.ndarray) -> float:
        """Of all rows but those of these indices."""
        n, rest = len(self.x), len(self.x) - len(out)
        if self.scatter is None or rest < max(len(out), self.x.shape[1]):  # without full rank, rows are the better way
            rows = np.setdiff1d(np.arange(n), out)
            return _of_rows(self.y, self.x[rows], self.z[rows])
        z = self.z[out]
        shift = (self.x[out] - self.centre).sum(0) / -rest  # of the mean
        z_shift = z.sum(0) / -rest
        product = self.scatter - z.T @ z - rest * np.outer(z_shift, z_shift)
        trace = self.squares.sum() - self.squares[out].sum() - rest * (shift**2).sum()
        return _distance(self.y, self.centre + shift, trace / (rest - 1), product / (rest - 1))


def _subsets(x: np.ndarray, y: Any) -> Subsets:
    if isinstance(y, Subsets):
        return y
    y = y if isinstance(y, Moments) else moments(y)
    _check_width(x.shape[1], y)
    return Subsets(x, y)


def fd_infinity(x: Any, y: Any, points: int = 15, least: int | None = None, seed: int = 0) -> float:
    """FD of infinitely many examples like x to y, by a line in 1 / n (Chong & Forsyth 2020).

    x: features [n, d]; y: features, `moments` or `Subsets`. FD is taken of `points` random subsets
    of x without replacement, of sizes from `least` (the smaller of 5,000 and n / 10, at least 2) to
    n. The least-squares intercept, which may be below 0, lacks the bias of x alone: two samples of
    one N(0, s^2 I_d) are still at s^2 (d + d (d + 1) / 4) / m on average. Raises UserError for
    fewer than 2 points or sizes.
    """
    x = check_features(x, "fd_infinity")
    least = max(2, min(5000, len(x) // 10)) if least is None else least
    if points < 2 or not 2 <= least < len(x):
        raise UserError(f"fd_infinity: a line wants 2 points or more, not {points}, and sizes from 2 to {len(x) - 1}: {least}")
    subsets = _subsets(x, y)
    sizes = np.linspace(least, len(x), points).astype(int)
    random = np.random.default_rng(seed)
    values = [subsets.without(random.permutation(len(x))[size:]) for size in sizes]
    return float(np.polynomial.polynomial.polyfit(1 / sizes, values, 1)[0])


def frechet_jackknife(x: Any, references: Sequence[Any], blocks: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """FD of x to each reference [r], and the same without each of `blocks` blocks of x [blocks, r].

    x: features [n, d] in random order, as blocks are consecutive rows; references: features,
    `moments` or `Subsets`, with the same blocks, so that FD_S - FD_T has replicates, too.
    `jackknife_error` turns replicates into errors over draws of x. A percentile bootstrap would be
    wrong here: resampled examples double the bias. Raises UserError where a block would leave fewer
    than 2 examples.
    """
    x = check_features(x, "frechet_jackknife", 4)
    if not 2 <= blocks <= len(x) // 2:
        raise UserError(f"frechet_jackknife: {blocks} blocks of {len(x)} examples: use 2 to {len(x) // 2}")
    edges = np.linspace(0, len(x), blocks + 1).astype(int)
    cuts = [(0, 0), *zip(edges[:-1], edges[1:], strict=True)]
    columns = []
    for reference in references:
        subsets = _subsets(x, reference)
        columns.append([subsets.without(np.arange(first, last)) for first, last in cuts])
    made = np.array(columns).T
    return made[0], made[1:]


def jackknife_error(replicates: Any) -> np.ndarray:
    """Standard errors [...] of values, or of differences, from replicates [blocks, ...].

    sqrt((b - 1) / b sum (v_i - mean v)^2) (Shao & Wu, 1989). Raises UserError for one replicate.
    """
    replicates = np.asarray(replicates, np.float64)
    if replicates.ndim < 1 or len(replicates) < 2:
        raise UserError(f"jackknife_error: replicates of shape {list(replicates.shape)}: at least 2 are needed")
    blocks = len(replicates)
    return np.sqrt((blocks - 1) / blocks * ((replicates - replicates.mean(0)) ** 2).sum(0))
