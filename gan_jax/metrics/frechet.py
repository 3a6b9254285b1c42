"""The Fréchet distance of two feature sets, of finite and infinite samples, and its jackknife."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_features, check_two
from gan_jax.metrics.pairs import product

BLOCKS = 10  # of the jackknife
ENOUGH = 2.5  # examples a feature, at least, to extrapolate: the sizes of subsets span a fifth of them, or more


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


class Blocks:
    """Features [n, d], in random order, in `blocks` consecutive blocks, for `frechet_jackknife`:
    kept, they serve many sets. Raises UserError for fewer than 4 blocks, or than 2 examples in
    each."""

    def __init__(self, x: Any, blocks: int = BLOCKS):
        x = check_features(x, "frechet_jackknife", 8)
        if not 4 <= blocks <= len(x) // 2:
            raise UserError(f"frechet_jackknife: {blocks} blocks of {len(x)} examples: use 4 to {len(x) // 2}")
        self.blocks, self.centre, self.known = blocks, x.mean(0), dict[tuple[int, ...], Moments]()
        self.x = x - self.centre
        self.edges = np.linspace(0, len(x), blocks + 1).astype(int)

    @functools.cached_property
    def scatter(self) -> np.ndarray:
        return product(self.x.T, self.x)

    def kept(self, cut: tuple[int, ...]) -> np.ndarray:
        """Which rows [n] are not in these blocks."""
        kept = np.ones(len(self.x), bool)
        for i in cut:
            kept[self.edges[i] : self.edges[i + 1]] = False
        return kept

    def moments(self, cut: tuple[int, ...] = ()) -> Moments:
        """Of the rows outside these blocks."""
        if cut not in self.known:
            out = self.x[~self.kept(cut)]
            n = len(self.x) - len(out)
            shift = out.sum(0) / -n
            covariance = (self.scatter - out.T @ out - n * np.outer(shift, shift)) / (n - 1)
            self.known[cut] = Moments(self.centre + shift, covariance, n)
        return self.known[cut]


def _distances(x: Blocks, y: Blocks, cuts: Sequence[tuple[int, ...]], alone: bool = False) -> list[float]:
    """FD of x to y, both without the blocks of each cut, or x `alone`."""
    if min(len(x.x), len(y.x)) > x.x.shape[1]:
        return [frechet_distance(x.moments(cut), y.moments(() if alone else cut)) for cut in cuts]
    both, made = product(x.x, y.x.T), []  # without full rank: the trace of the root is the nuclear norm of X Y^T
    for cut in cuts:
        rows, columns = x.kept(cut), y.kept(() if alone else cut)
        a, b = x.x[rows], y.x[columns]
        apart = ((x.centre + a.mean(0) - y.centre - b.mean(0)) ** 2).sum()
        traces = sum(len(z) / (len(z) - 1) * z.var(0).sum() for z in (a, b))
        inner = both[np.ix_(rows, columns)]
        inner = inner - inner.mean(0) - inner.mean(1, keepdims=True) + inner.mean()
        inner = inner if len(a) <= len(b) else inner.T
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(inner @ inner.T), 0)).sum()
        made.append(float(apart + traces - 2 * roots / np.sqrt((len(a) - 1) * (len(b) - 1))))
    return made


def fd_infinity(x: Any, y: Any, points: int = 15, least: int | None = None, seed: int = 0) -> float:
    """FD of infinitely many examples like x to y, by a line in 1 / n (Chong & Forsyth 2020).

    x: features [n, d]; y: features or `moments`. FD is taken of `points` random subsets of x
    without replacement, of sizes from `least` (n / 2, but at least 2 d) to n. Where a subset is
    hardly larger than d, FD is no line in 1 / n. The least-squares intercept, which may be below 0,
    lacks the bias of x alone: two samples of one N(0, s^2 I_d) are still at s^2 (d + d (d + 1) / 4)
    / m on average. Raises UserError for fewer than 2 points or sizes, or, by default, for n below
    2.5 d.
    """
    x = check_features(x, "fd_infinity")
    n, d = x.shape
    if least is None:
        least = max(2, n // 2, 2 * d)
        if n < ENOUGH * d:
            raise UserError(
                f"fd_infinity: {n} examples of {d} features are too few to extrapolate: give {math.ceil(ENOUGH * d)}"
            )
    if points < 2 or not 2 <= least < n:
        raise UserError(f"fd_infinity: a line wants 2 points or more, not {points}, and sizes from 2 to {n - 1}: {least}")
    y = y if isinstance(y, Moments) else moments(y)
    sizes = np.linspace(least, n, points).astype(int)
    random = np.random.default_rng(seed)
    values = [frechet_distance(x[random.permutation(n)[:size]], y) for size in sizes]
    return float(np.polynomial.polynomial.polyfit(1 / sizes, values, 1)[0])


def frechet_jackknife(x: Any, references: Sequence[Any], blocks: int = BLOCKS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FD of x to each reference [r], replicates [b + b // 2, r] for `frechet_error`, and replicates
    [b, r] for `jackknife_error`.

    x, references: features [n, d] in random order, as blocks are consecutive rows, or `Blocks` of
    them, as many everywhere. The first replicates leave one block out, the last of them two, and
    the same ones of every set: their errors, also of FD_S - FD_T, are over draws of x and of the
    references. The others leave out blocks of x alone: theirs are over draws of x beside the same
    references. A percentile bootstrap would be wrong here: resampled examples double the bias.
    Raises UserError as `Blocks`, and for different numbers of blocks or features.
    """
    sets = [each if isinstance(each, Blocks) else Blocks(each, blocks) for each in (x, *references)]
    b, d = sets[0].blocks, sets[0].x.shape[1]
    if differing := [each for each in sets if (each.blocks, each.x.shape[1]) != (b, d)]:
        found = f"{differing[0].x.shape[1]} features in {differing[0].blocks} blocks"
        raise UserError(f"frechet_jackknife: {d} features in {b} blocks against {found}: they must agree")
    once, twice = [(i,) for i in range(b)], [(i, i + b // 2) for i in range(b // 2)]
    made = np.array([_distances(sets[0], reference, [(), *once, *twice]) for reference in sets[1:]]).T
    alone = np.array([_distances(sets[0], reference, once, alone=True) for reference in sets[1:]]).T
    return made[0], made[1:], alone


def jackknife_error(replicates: Any) -> np.ndarray:
    """Standard errors [...] of values, or of differences, from replicates [blocks, ...].

    sqrt((b - 1) / b sum (v_i - mean v)^2) (Shao & Wu, 1989). Raises UserError for one replicate.
    """
    replicates = np.asarray(replicates, np.float64)
    if replicates.ndim < 1 or len(replicates) < 2:
        raise UserError(f"jackknife_error: replicates of shape {list(replicates.shape)}: at least 2 are needed")
    blocks = len(replicates)
    return np.sqrt((blocks - 1) / blocks * ((replicates - replicates.mean(0)) ** 2).sum(0))


def frechet_error(whole: Any, replicates: Any) -> np.ndarray:
    """Standard errors [...] of distances `whole` [...], or of differences, from the first
    replicates [b + b // 2, ...] of `frechet_jackknife`.

    The variance J of the jackknife of single blocks holds twice what is of second order, and
    between equal distributions there is no other. That part is estimated by half the variance of
    the interactions (b - 2) v_ij - (b - 1) (v_i + v_j) + b v, and taken off once, to J / 2 at most.
    An interval takes Student's t with b - 1 degrees of freedom. Raises UserError for b below 4.
    """
    whole, replicates = np.asarray(whole, np.float64), np.asarray(replicates, np.float64)
    if replicates.ndim < 1 or len(replicates) < 6:
        raise UserError(f"frechet_error: replicates of shape {list(replicates.shape)}: at least 6 are needed")
    b = len(replicates) - len(replicates) // 3
    one, two = replicates[:b], replicates[b:]
    once = jackknife_error(one) ** 2
    both = (b - 2) * two - (b - 1) * (one[: b // 2] + one[b // 2 : 2 * (b // 2)]) + b * whole
    return np.sqrt(np.maximum(once - both.var(0, ddof=1) / 2, once / 2))
