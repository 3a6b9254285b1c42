"""Does a generator copy its training set? Exact tests of distances to the nearest training example.

`neighbours.nearest(generated, train)` gives those distances and the indices. `data_copying` and
`near_copies` compare with held-out data themselves; print any other number beside that of held-out
data in the generator's place. Distances that are negative or not finite raise UserError.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_features, check_integers, check_two, finite_vector
from gan_jax.metrics.discriminator import auc

SMALL = 20  # generated or held-out examples below which a cell is not tested
COPYING = -3.0  # z below which a cell is counted as copied
ROWS = 1024  # of generated features at a time
PAIRS = 20


@dataclass(frozen=True)
class Cell:
    """One cell of `data_copying`; its weight is the share of held-out data in it."""

    z: float
    weight: float
    generated: int
    held_out: int


@dataclass(frozen=True)
class CopyingTest:
    """The result of `data_copying`. global_z is that without cells, mean_z (C_T) the mean over
    tested cells by weight, share_below the share of tested cells with z < -3; worst_cell is None
    without tested cells."""

    global_z: float
    mean_z: float
    worst_cell: int | None
    worst_z: float
    share_below: float
    cells: dict[int, Cell]


def data_copying(
    to_train_generated: ArrayLike,
    to_train_held_out: ArrayLike,
    cells_generated: ArrayLike | None = None,
    cells_held_out: ArrayLike | None = None,
) -> CopyingTest:
    """C_T, the data-copying test of Meehan, Chaudhuri & Dasgupta (2020): negative for copies.

    to_train_generated [m], to_train_held_out [n]: distances of samples and of held-out data to the
    nearest training example. Their z is Mann-Whitney's,

        z = (U - n m / 2) / s,  U = #(generated > held-out) + #(equal) / 2
        s^2 = n m / 12 (N + 1 - sum_t (t^3 - t) / (N (N - 1)))

    with N = n + m, and t the sizes of the groups of equal distances; z is 0 where all are equal.
    For independent data global_z has mean 0 and standard deviation 1. Copies are below, to about
    -sqrt(3 n m / (N + 1)); underfitting is above, and samples unlike data, which may hide copies.

    cells_generated [m], cells_held_out [n]: integer labels by `cells` and `assign`. A cell is
    tested with at least 20 examples of each; without labels all is one cell. For independent data
    mean_z has the standard deviation sqrt(sum w_c^2) / sum w_c of its weights (1 / sqrt(k) for k
    equal cells), and worst_z is the least of k z. Without a tested cell they are NaN. The authors'
    code corrects for continuity, ignores ties, and takes a cell's own training examples. Raises
    UserError for labels that do not fit.
    """
    generated = _distances(to_train_generated, "distances of generated examples")
    held_out = _distances(to_train_held_out, "distances of held-out examples")
    labels = _labels(cells_generated, cells_held_out, len(generated), len(held_out))
    tested = {}
    for cell in np.intersect1d(*labels):
        g, h = generated[labels[0] == cell], held_out[labels[1] == cell]
        if cells_generated is None or min(len(g), len(h)) >= SMALL:
            tested[int(cell)] = Cell(_rank_z(g, h), len(h) / len(held_out), len(g), len(h))
    global_z = _rank_z(generated, held_out)
    if not tested:
        return CopyingTest(global_z, math.nan, None, math.nan, math.nan, {})
    z, weight = (np.array([getattr(cell, name) for cell in tested.values()]) for name in ("z", "weight"))
    return CopyingTest(
        global_z=global_z,
        mean_z=float(z @ weight / weight.sum()),
        worst_cell=min(tested, key=lambda cell: tested[cell].z),
        worst_z=float(z.min()),
        share_below=float((z < COPYING).mean()),
        cells=tested,
    )


def _rank_z(x: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney's U of x above y, less its mean, over its deviation; 0 if all are equal."""
    total = len(x) + len(y)
    ties = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(np.float64)
    if len(ties) == 1:
        return 0.0
    variance = (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (12 * len(x) * len(y))  # of U / (n m)
    return (auc(x, y) - 0.5) / math.sqrt(variance)


def _distances(values: ArrayLike, what: str) -> np.ndarray:
    values = finite_vector(values, what)
    if values.min() < 0:
        raise UserError(f"{what}: number {int(values.argmin())} is {values.min():.3g}, but a distance is 0 or more")
    return values


def _labels(generated, held_out, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    if (generated is None) != (held_out is None):
        raise UserError("cells: labels of generated and of held-out examples are needed, or neither; only one was given")
    if generated is None:
        return np.zeros(m, int), np.zeros(n, int)
    generated = check_integers(generated, m, "cells of generated examples")
    return generated, check_integers(held_out, n, "cells of held-out examples")


def cells(train_features: ArrayLike, k: int, seed: int) -> np.ndarray:
    """Centres float64 [k, d] of `k` cells of the training features [n, d], by k-means. Raises
    UserError where k is not in 1 to n."""
    from sklearn.cluster import KMeans

    features = check_features(train_features, "the training features", 1)
    if not 1 <= k <= len(features):
        raise UserError(f"cells: k must be in 1 to {len(features)}, the number of training features, not {k}")
    return KMeans(k, random_state=seed).fit(features).cluster_centers_


def assign(features: ArrayLike, centres: ArrayLike) -> np.ndarray:
    """The cell, int64 [n], of features [n, d]: the first of the nearest of the centres [k, d]."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(*check_two(features, centres, "cells", 1)).astype(np.int64)


def authenticity(train_nearest_distance: ArrayLike, nearest_index: ArrayLike, nearest_distance: ArrayLike) -> float:
    """The share of authentic g, in [0, 1] (Alaa et al. 2022): those with d(t, t') < d(t, g).

    t is the training example nearest to g, and t' the other one nearest to t.
    train_nearest_distance [t]: d(t, t') of each training example; nearest_index [m],
    nearest_distance [m]: t and d(t, g) of each g. A copy scores 0. Independent data of one
    distribution score about .4 in 2 dimensions and .8 in 64; samples unlike the data score 1. FLD's
    `AuthPct` is 100 times this less 50. Raises UserError for wrong indices.
    """
    to_other = _distances(train_nearest_distance, "distances between training examples")
    to_train = _distances(nearest_distance, "distances of generated examples")
    index = _indices(nearest_index, len(to_train), len(to_other))
    return float((to_other[index] < to_train).mean())


def _indices(values: ArrayLike, m: int, train: float = math.inf) -> np.ndarray:
    """Indices [m] of `train` training examples, checked."""
    what = "indices of the nearest training examples"
    index = check_integers(values, m, what)
    wrong = (index < 0) | (index >= train)
    if wrong.any():
        raise UserError(f"{what}: number {int(wrong.argmax())} is {index[wrong][0]}: none of them")
    return index


@dataclass(frozen=True)
class NearCopies:
    """The result of `near_copies`. rate: the share of near copies, in [0, 1], and its 95 % interval
    (Clopper-Pearson) from lower to upper. threshold: the distance. null, p_value: of independent
    data, the mean rate and the probability of at least this count. pairs: int64 [p, 2], the indices
    (generated, training or -1) of the closest, best first."""

    rate: float
    threshold: float
    lower: float
    upper: float
    null: float
    p_value: float
    pairs: np.ndarray


def near_copies(
    generated_to_train: ArrayLike,
    held_out_to_train: ArrayLike,
    rate: float = 0.01,
    indices: ArrayLike | None = None,
    show: int = PAIRS,
) -> NearCopies:
    """The share of samples nearer to training data than all but the share `rate` of held-out data.

    generated_to_train [m], held_out_to_train [n]: distances to the nearest training example;
    indices [m]: its index. show: the number of pairs to list. The threshold is the r-th smallest
    held-out distance, r = floor(rate (n + 1)). A near copy is strictly nearer, or a duplicate.

    For independent data without ties the mean is r / (n + 1), at most `rate`, and the count is
    beta-binomial (m; r, n + 1 - r), which p_value comes from; ties make it smaller. Where r or more
    held-out examples are exact duplicates, null is their share, and p_value NaN. Raises UserError
    where `rate` is not in (0, 1) or n is below 1 / rate - 1.
    """
    from scipy.stats import betabinom

    generated = _distances(generated_to_train, "distances of generated examples")
    held_out = np.sort(_distances(held_out_to_train, "distances of held-out examples"))
    m, n = len(generated), len(held_out)
    if not 0 < rate < 1:
        raise UserError(f"near_copies: rate must be above 0 and below 1, not {rate}")
    r = math.floor(round(rate * (n + 1), 9))  # .29 * 100 is 28.999999999999996
    if r < 1:
        least = math.ceil(round(1 / rate - 1, 9))
        raise UserError(
            f"near_copies: a rate of {rate} needs {least} held-out examples, not {n}: use a rate of 1/{n + 1} or more"
        )
    threshold, duplicates = float(held_out[r - 1]), int((held_out == 0).sum())
    count = int(((generated < threshold) | (generated == 0)).sum())
    order = np.argsort(generated, kind="stable")[:show]
    nearest = np.full(m, -1) if indices is None else _indices(indices, m)
    lower, upper = share_interval(count / m, m)
    return NearCopies(
        rate=count / m,
        threshold=threshold,
        lower=lower,
        upper=upper,
        null=r / (n + 1) if threshold else duplicates / n,
        p_value=float(betabinom.sf(count - 1, m, r, n + 1 - r)) if threshold else math.nan,
        pairs=np.stack([order, nearest[order]], 1).astype(np.int64),
    )


def share_interval(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval (Clopper & Pearson, 1934) of a share of n examples.

    n need not be whole: of less than one example the formula gives ends such as 1e-51. Ends nearer
    than 1e-6 to 0 or 1 are 0 or 1."""
    from scipy.stats import beta

    count = share * n
    low = float(beta.ppf(0.025, count, n - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return (low if low > 1e-6 else 0.0), (high if high < 1 - 1e-6 else 1.0)


def mifid(fd: float, generated: ArrayLike, train: ArrayLike, epsilon: float = 0.1) -> float:
    """Memorization-informed Frechet distance (Bai et al. 2021): fd / (m + 1e-15).

    m is `cosine_distance` where that is below epsilon, else 1. fd: the Frechet distance of the
    features generated [m, d] and train [t, d]; UserError where negative. epsilon has a meaning for
    one extractor only: .1 for Inception's pool features, .25 in Kaggle's competition.
    """
    if not (math.isfinite(fd) and fd >= 0):
        raise UserError(f"mifid: the Frechet distance must be a number of at least 0, not {fd}")
    distance = cosine_distance(generated, train)
    return fd / ((distance if distance < epsilon else 1.0) + 1e-15)


def cosine_distance(generated: ArrayLike, train: ArrayLike) -> float:
    """The mean over generated g of min_t 1 - |cos(g, t)| over training t, in [0, 1]; 0 for copies.

    As in Kaggle's code features that are all 0 are left out. torchmetrics takes the mean over the
    real ones instead, and so misses a generator that copies few images.
    """
    generated, train = (_directions(x) for x in check_two(generated, train, "mifid", 1))
    blocks = (generated[i : i + ROWS] for i in range(0, len(generated), ROWS))
    nearest = np.concatenate([np.abs(block @ train.T).max(1) for block in blocks])
    return float((1 - np.minimum(nearest, 1)).mean())


def _directions(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not length.any():
        raise UserError("mifid: the features of a whole set are 0, which has no direction: check the extractor")
    return features[length[:, 0] > 0] / length[length > 0][:, None]
