"""Does a generator copy its training set? Tests of distances to the nearest training example,
exactly and in float64.

`neighbours.nearest(generated, train)` gives those distances and the indices, `pairs.within(train,
1)` those inside the set. None of these has a null value that holds for all data, except those of
`data_copying` and `near_copies`, which compare with held-out data themselves: print every other one
beside the same score of held-out data in the generator's place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_features, check_two
from gan_jax.metrics.discriminator import auc, finite_vector

SMALL = 20  # generated or held-out examples below which a cell is not judged
COPYING = -3.0  # z below which a cell is counted as copied
ROWS = 1024  # of generated features at a time
PAIRS = 20


# ---- C_T ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One cell of `data_copying`: its z, the share of held-out data in it (its weight), and the
    sizes of its samples."""

    z: float
    weight: float
    generated: int
    held_out: int


@dataclass(frozen=True)
class CopyingTest:
    """global_z: without cells. mean_z: C_T, the mean over judged cells by weight. worst_cell: its
    label, None if none was judged. share_below: of the judged cells, those with z < -3. cells: the
    judged ones, by label."""

    global_z: float
    mean_z: float
    worst_cell: int | None
    worst_z: float
    share_below: float
    cells: dict[int, Cell]


def data_copying(
    to_train_generated: npt.ArrayLike,
    to_train_held_out: npt.ArrayLike,
    cells_generated: npt.ArrayLike | None = None,
    cells_held_out: npt.ArrayLike | None = None,
) -> CopyingTest:
    """C_T, the data-copying test of Meehan, Chaudhuri & Dasgupta (2020): is G nearer to the
    training set than held-out data?

    to_train_generated [m], to_train_held_out [n]: distances to the nearest training example. Their
    z is Mann-Whitney's,

        z = (U - n m / 2) / s,  U = #(generated > held-out) + #(equal) / 2
        s^2 = n m / 12 (N + 1 - sum_t (t^3 - t) / (N (N - 1)))

    with N = n + m, and t the sizes of the groups of equal distances.

    z < 0: copying; z > 0: underfitting, or samples unlike data, which may hide copies
    (`near_copies` sees those). For independent data of one distribution global_z has mean 0 and
    standard deviation 1, whatever the data. Of a full copy it is -sqrt(3 n m / (N + 1)), or, where
    its distances are all exactly 0, that with N + 1 less (m^3 - m) / (N (N - 1)). z is 0 where all
    distances are equal.

    Cells (`cells`, `assign`): integer labels [m] and [n]. A cell is judged with at least 20
    generated and 20 held-out examples; one cell without labels. mean_z is sum_c w_c z_c / sum_c
    w_c, w_c the share of held-out data in c; under the null its standard deviation is sqrt(sum
    w_c^2) / sum w_c (1 / sqrt(k) for k equal cells), not 1, and worst_z is the least of k such z
    (-1.5 on average for 10). Without a judged cell they are NaN.

    The authors' code (and that of FLD and dgm-eval) differs: it adds .5 / s, the correction for
    continuity of a one-sided p-value, also to the score, which then no longer changes its sign with
    the roles; it ignores ties; it takes the distances in a cell to the training examples of that
    cell alone; it judges a cell by its generated examples only.
    Cost: sorts. Raises UserError where a distance is not finite or is negative, or labels do not
        fit.
    """
    generated = _distances(to_train_generated, "distances of generated examples")
    held_out = _distances(to_train_held_out, "distances of held-out examples")
    labels = _labels(cells_generated, cells_held_out, len(generated), len(held_out))
    judged = {}
    for cell in np.intersect1d(*labels):
        g, h = generated[labels[0] == cell], held_out[labels[1] == cell]
        if cells_generated is None or min(len(g), len(h)) >= SMALL:
            judged[int(cell)] = Cell(_rank_z(g, h), len(h) / len(held_out), len(g), len(h))
    z, weight = (np.array([getattr(cell, name) for cell in judged.values()]) for name in ("z", "weight"))
    return CopyingTest(
        global_z=_rank_z(generated, held_out),
        mean_z=float(z @ weight / weight.sum()) if judged else math.nan,
        worst_cell=min(judged, key=lambda cell: judged[cell].z) if judged else None,
        worst_z=float(z.min()) if judged else math.nan,
        share_below=float((z < COPYING).mean()) if judged else math.nan,
        cells=judged,
    )


def _rank_z(x: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney's U of x above y, less its mean, over its standard deviation given the ties; 0
    if all are equal."""
    total = len(x) + len(y)
    ties = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(np.float64)
    if len(ties) == 1:
        return 0.0
    variance = (total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (12 * len(x) * len(y))  # of U / (n m)
    return (auc(x, y) - 0.5) / math.sqrt(variance)


def _distances(values: npt.ArrayLike, what: str) -> np.ndarray:
    values = finite_vector(values, what)
    if values.min() < 0:
        raise UserError(f"{what}: number {int(values.argmin())} is {values.min():.3g}, but a distance is 0 or more")
    return values


def _labels(generated, held_out, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    if (generated is None) != (held_out is None):
        raise UserError("cells: labels of generated and of held-out examples are needed, or neither; only one was given")
    if generated is None:
        return np.zeros(m, int), np.zeros(n, int)
    labels = np.asarray(generated), np.asarray(held_out)
    for array, size, what in zip(labels, (m, n), ("generated", "held-out"), strict=True):
        if array.shape != (size,) or not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"cells of {what} examples: expected {size} integers, not {array.dtype} {list(array.shape)}")
    return labels


def cells(train_features: npt.ArrayLike, k: int, seed: int) -> np.ndarray:
    """Centres float64 [k, d] of `k` cells of the training features [n, d]: k-means from one
    k-means++ start.

    Cost: up to 300 passes of n k d; scikit-learn's KMeans. Raises UserError where k is not in 1 to
        n.
    """
    from sklearn.cluster import KMeans

    features = check_features(train_features, "the training features", 1)
    if not 1 <= k <= len(features):
        raise UserError(f"cells: k must be in 1 to {len(features)}, the number of training features, not {k}")
    return KMeans(k, random_state=seed).fit(features).cluster_centers_


def assign(features: npt.ArrayLike, centres: npt.ArrayLike) -> np.ndarray:
    """The cell, int64 [n], of each of the features [n, d]: the nearest of the centres [k, d] (of
    equals the first)."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(*check_two(features, centres, "cells", 1)).astype(np.int64)


# ---- authenticity ------------------------------------------------------------------------------


def authenticity(train_nearest_distance: npt.ArrayLike, nearest_index: npt.ArrayLike, nearest_distance: npt.ArrayLike) -> float:
    """The share of authentic examples, in [0, 1] (Alaa et al. 2022): g is authentic if d(t, t') <
    d(t, g).

    t is the training example nearest to g, and t' the training example nearest to t other than t
    itself. train_nearest_distance [t]: d(t, t') of each training example. nearest_index [m] and
    nearest_distance [m]: t and d(t, g) of each g. A copy scores 0: the inequality is strict, so
    that copies of training examples that occur twice do so too.

    There is no universal null value: independent data of one distribution score about .4 in 2
    dimensions and .8 in 64, and samples unlike the data 1, however many copies are among them.
    Compare with held-out data in the place of g.

    The authors' code (evaluating-generative-models) looks up training distances with the indices of
    generated examples and averages over training examples; FLD's `AuthPct` is 100 times this less
    50, of at most 10,000 examples.
    Raises UserError where a distance is negative or not finite, or an index is of no training
    example.
    """
    to_other = _distances(train_nearest_distance, "distances between training examples")
    to_train = _distances(nearest_distance, "distances of generated examples")
    index = _indices(nearest_index, len(to_train), len(to_other))
    return float((to_other[index] < to_train).mean())


def _indices(values: npt.ArrayLike, m: int, train: int | None = None) -> np.ndarray:
    """Indices [m] of training examples, checked."""
    index = np.asarray(values)
    if index.shape != (m,) or not np.issubdtype(index.dtype, np.integer):
        raise UserError(
            f"indices of the nearest training examples: expected {m} integers, not {index.dtype} {list(index.shape)}"
        )
    wrong = (index < 0) | (index >= (np.inf if train is None else train))
    if wrong.any():
        raise UserError(
            f"indices of the nearest training examples: number {int(wrong.argmax())} is {index[wrong][0]}: none of them"
        )
    return index


# ---- near copies -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearCopies:
    """rate: the share of generated examples that are near copies, in [0, 1]. lower, upper: its 95 %
    interval (Clopper-Pearson) given the threshold. threshold: the distance. null: the mean rate of
    independent data. p_value: of a count this high or higher for independent data. pairs int64 [p,
    2]: indices (generated, training; -1 if not given) of the closest, best first.
    """

    rate: float
    threshold: float
    lower: float
    upper: float
    null: float
    p_value: float
    pairs: np.ndarray


def near_copies(
    generated_to_train: npt.ArrayLike,
    held_out_to_train: npt.ArrayLike,
    rate: float = 0.01,
    indices: npt.ArrayLike | None = None,
    show: int = PAIRS,
) -> NearCopies:
    """The share of generated examples nearer to the training set than all but the share `rate` of
    held-out examples are.

    generated_to_train [m], held_out_to_train [n]: distances to the nearest training example;
    indices [m]: which that is. The threshold is the r-th smallest held-out distance, r = floor(rate
    (n + 1)). A near copy is strictly nearer than the threshold, or at distance 0: of equally near
    examples none counts, except exact copies, which always do, even where so many held-out examples
    are themselves in the training set that the threshold is 0.

    Null: for independent data without ties the mean is r / (n + 1), at most `rate` and equal to it
    where rate (n + 1) is whole, and the count is beta-binomial (m; r, n + 1 - r), from which
    p_value comes, so that both samples' noise is in it; ties make it smaller. Where r or more
    held-out examples are exact duplicates, null is their share, and p_value is NaN. Held-out data
    against themselves score less than `rate`. Unlike C_T it does not average copies with bad
    samples.

    `show`: how many pairs to list, near copies or not. Cost: sorts.
    Raises UserError where `rate` is not in (0, 1) or n is below 1 / rate - 1 (r would be 0), or
    distances are not such.
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
    return NearCopies(
        rate=count / m,
        threshold=threshold,
        lower=share_interval(count / m, m)[0],
        upper=share_interval(count / m, m)[1],
        null=r / (n + 1) if threshold else duplicates / n,
        p_value=float(betabinom.sf(count - 1, m, r, n + 1 - r)) if threshold else math.nan,
        pairs=np.stack([order, nearest[order]], 1).astype(np.int64),
    )


def share_interval(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval (Clopper & Pearson, 1934) of a share in [0, 1] of n independent examples; n
    need not be whole."""
    from scipy.stats import beta

    count = share * n
    low = float(beta.ppf(0.025, count, n - count + 1)) if count > 0 else 0.0
    return low, float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0


# ---- MiFID -------------------------------------------------------------------------------------


def mifid(fd: float, generated: npt.ArrayLike, train: npt.ArrayLike, epsilon: float = 0.1) -> float:
    """Memorization-informed Frechet distance (Bai et al. 2021): fd / (m + 1e-15), m =
    `cosine_distance` if < epsilon else 1.

    fd: the Frechet distance of the features generated [m, d] and train [t, d]. epsilon: .1 for
    Inception's pool features, .25 in Kaggle's competition. At least fd, to which it is equal above
    epsilon: a step, without signal on the other side of it, and epsilon has a meaning for one
    extractor only. Null: that of fd, if held-out data are above epsilon.
    Raises UserError where fd is negative or not finite, or features do not fit.
    """
    if not (math.isfinite(fd) and fd >= 0):
        raise UserError(f"mifid: the Frechet distance must be a number of at least 0, not {fd}")
    distance = cosine_distance(generated, train)
    return fd / ((distance if distance < epsilon else 1.0) + 1e-15)


def cosine_distance(generated: npt.ArrayLike, train: npt.ArrayLike) -> float:
    """mean over generated g of min over training t of 1 - |cos(g, t)|, in [0, 1]; 0 for copies, up
    to scale and sign.

    As in Kaggle's code the mean is over the generated examples, and features that are all 0 are
    left out. torchmetrics takes the mean over the real ones of the distance to the nearest
    generated one, and so misses a generator that copies few images. The null value depends on the
    data: compare with held-out data. Cost: m t d multiply-adds in float64.
    Raises UserError for other shapes, numbers that are not finite, or features that are all 0
    throughout.
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
