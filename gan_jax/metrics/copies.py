"""Do samples come from training images? An exact test for any generator.

A generator that has seen neither the training images nor the held-out ones cannot know which is
which. So if a sample lies very near to one real image, that image is as likely a training image as
any other of the pool of both. Copies break this: their nearest images are all training images.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_integers, check_two, finite_vector
from gan_jax.metrics.memorization import share_interval

LEAST, GROWTH = 5, 1.5  # the first of the sizes at which `exchange_test` looks, and their ratio
ROWS = 512  # of samples at a time


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest image of a pool to each of m samples: its index, its distance, and the distance
    of the nearest other one."""

    index: Int64[np.ndarray, "m"]
    distance: Float64[np.ndarray, "m"]
    second: Float64[np.ndarray, "m"]

    @property
    def ratio(self) -> Float64[np.ndarray, "m"]:
        """distance / second in [0, 1]: 0 for a copy, near 1 for a sample that is no nearer to one
        image than to the next (Yoon et al., 2023). 1 where both are 0."""
        return np.divide(self.distance, self.second, out=np.ones(len(self.index)), where=self.second > 0)


def two_nearest(x: ArrayLike, pool: ArrayLike) -> Nearest:
    """The two nearest of the pool [N, d], N >= 2, to each x [m, d]. The distance of a duplicate is
    exactly 0. Raises UserError for widths that differ."""
    x, pool = check_two(x, pool, "two_nearest", 2)
    middle = pool.mean(0)
    index = two_largest(x - middle, pool - middle)[1]
    exact = np.stack([np.linalg.norm(x - pool[index[:, j]], axis=1) for j in (0, 1)], 1)  # products lose duplicates
    order = np.argsort(exact, axis=1, kind="stable")
    index, exact = (np.take_along_axis(values, order, 1) for values in (index, exact))
    return Nearest(index[:, 0], exact[:, 0], exact[:, 1])


def two_largest(x: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, Int64[np.ndarray, "m 2"]]:
    """The two largest x.y - |y|^2 / 2 over y of the pool, those of the nearest y, and their
    indices, [m, 2] each."""
    half = (pool**2).sum(1) / 2
    values, index = np.empty((len(x), 2), x.dtype), np.empty((len(x), 2), np.int64)
    for first in range(0, len(x), ROWS):
        part = slice(first, first + ROWS)
        score = x[part] @ pool.T - half
        rows = np.arange(len(score))
        for j in (0, 1):
            index[part, j] = score.argmax(1)
            values[part, j] = score[rows, index[part, j]]
            score[rows, index[part, j]] = -np.inf
    return values, index


@dataclass(frozen=True, eq=False)
class ExchangeTest:
    """The result of `exchange_test`.

    p: at most so often a generator that is independent of the pool comes out like this. share, low,
    high: the share of samples that are copies, beyond chance, with its 95 % interval over the draw
    of the samples. copies: the samples that count as copies, bool [m].
    """

    p: float
    share: float
    low: float
    high: float
    copies: Bool[np.ndarray, "m"]


def exchange_test(found: Nearest, training: ArrayLike) -> ExchangeTest:
    """Whether the samples nearest to a pool image are nearest to training images too often.

    found: the nearest of a pool of N different images, t of them training images, the others
    held-out images of the same distribution; training: bool [N]. The pool must not be ordered by
    `training`, so that ties are fair.

    Of all samples with one nearest image that of the smallest `ratio` is kept, and these are sorted
    by it. If the samples do not depend on the pool, the number of training images among the first k
    is hypergeometric (N, t, k), whatever the generator makes: blurred, mirrored or collapsed
    samples too. p is the smallest tail over k = 5, 8, 12 ... up to half of the kept samples, times
    the number of these k (Bonferroni). The rest is left out: a generator that has learned from T
    may be a little nearer to T in general, and that is no copying.

    share: of the samples up to the ratio where the number of training images is the most standard
    deviations above its mean (over all k), those nearest to training images, less t / (N - t) times
    those nearest to held-out images. Raises UserError for a pool
    without images of both kinds.
    """
    from scipy.stats import hypergeom

    training = np.asarray(training, bool)
    index = check_integers(found.index, len(found.index), "indices of the nearest images")
    ratio = finite_vector(found.ratio, "ratios of distances")
    n, t = len(training), int(training.sum())
    if not 0 < t < n:
        raise UserError(f"exchange_test: a pool of {t} training and {n - t} held-out images; both kinds are needed")
    order = np.argsort(ratio, kind="stable")
    kept = order[np.sort(np.unique(index[order], return_index=True)[1])]
    hits = np.cumsum(training[index[kept]])
    sizes = _looked(len(kept))
    p = float(min(1.0, len(sizes) * np.exp(hypergeom.logsf(hits[sizes - 1] - 1, n, t, sizes).min())))
    k = np.arange(1, len(kept) + 1)
    excess = (hits - k * t / n) / np.sqrt(np.maximum(k * (n - k), 1))  # hits less their mean, over their deviation
    most = ratio[kept[LEAST - 1 + excess[LEAST - 1 :].argmax()]] if len(kept) >= LEAST else ratio.max()
    return ExchangeTest(p, *_share(ratio <= most, training[index], t / (n - t)))


def _looked(n: int) -> np.ndarray:
    """5, 8, 12 ... up to half of n, at least one size."""
    count = max(0, int(np.log(max(n, 1) / LEAST) / np.log(GROWTH)) + 1)
    sizes = np.ceil(LEAST * GROWTH ** np.arange(count)).astype(np.int64)
    return np.append(min(n, LEAST), sizes[(sizes > LEAST) & (sizes <= n // 2)])


def _share(close: np.ndarray, of_training: np.ndarray, odds: float) -> tuple[float, float, float, np.ndarray]:
    """The share of close samples nearest to training images, less what chance puts there."""
    copies, m = close & of_training, len(close)
    chance = odds * (close & ~of_training).sum() / m
    ends = share_interval(copies.mean(), m)
    share, low, high = (float(np.clip(end - chance, 0, 1)) for end in (copies.mean(), *ends))
    return share, low, high, copies


def detectable(samples: int, train: int, held_out: int, level: float) -> float:
    """The least share of verbatim copies that `exchange_test` is sure to find at this level, in
    (0, 1], or inf where no number of copies would be found.

    Copies of c different training images are the first c of its order. They are found from the
    least c on at which all being training images is unlikely enough.

        >>> detectable(300, 300, 600, 0.0025)  # 12 of 300 samples
        0.04
    """
    from scipy.stats import hypergeom

    looked = _looked(min(samples, train + held_out))
    tails = len(looked) * hypergeom.sf(looked - 1, train + held_out, train, looked)
    found = looked[(tails <= level) & (looked <= train)]
    return float(found[0] / samples) if len(found) else np.inf
