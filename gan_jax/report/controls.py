"""Which images are compared: training images T, a held-out set, and the controls that show what
each number can detect."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.data.splits import Split, Splits, stratified_order
from gan_jax.metrics.features import check_images
from gan_jax.metrics.order import content_order

REAL, COPYCAT, NOISY, HALF, BLURRED = "real", "copycat", "noisy copycat", "half the modes", "blurred"
CONTROLS = (REAL, COPYCAT, NOISY, HALF, BLURRED)
NOISE = 8.0  # of 255, standard deviation of the noisy copycat's noise
LEAST = 50  # images of T, V or S below which nothing is measured
SMALL, CUTS = 200, 4  # images of V below which both halves of several cuts are held out in turn, and how many cuts


@dataclass(frozen=True)
class Sets:
    """T, a held-out set of the same distribution, and other held-out images as a control.

    folds: where there are few held-out images, all of them are both `held_out` and `control`, and
        these are the sets whose numbers are averaged; () elsewhere.
    """

    train: Split
    held_out: Split
    control: Split
    held_out_name: str  # "V", "S" or "held-out"
    splits: Splits | None = None
    folds: tuple["Sets", ...] = ()


def sets_of(data: Splits | Sequence[ArrayLike], final: bool, seed: int = 0) -> Sets:
    """The sets of a report. While choosing (not `final`), one half of the validation split V is
    held out, the other is the control, and the test split S stays closed. Where V has fewer than
    SMALL images, each half of CUTS seeded cuts is held out in turn (cross-fitting). With `final`, S
    is held out and V is the control. Two arrays (training, held-out), in any order, are treated as
    while choosing.

    Raises UserError for anything else, for arrays that do not fit, or fewer than 50 images in a
    set.
    """
    if isinstance(data, Splits) and final:
        sets = Sets(data.train, data.test, data.validation, "S", data)
    elif isinstance(data, Splits):
        sets = Sets(data.train, data.validation, data.validation, "V", data)
    else:
        if final:
            raise UserError("final opens the test split S, but the data are two arrays: give the Splits of gan.load")
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise UserError("data are the Splits of gan.load, or two arrays (training images, held-out images)")
        train, held_out = (check_images(x, what) for x, what in zip(data, ("training images", "held-out images"), strict=True))
        if train.shape[1:] != held_out.shape[1:]:
            raise UserError(f"training images are {list(train.shape[1:])}, held-out images {list(held_out.shape[1:])}")
        given, held = (Split(x[content_order(x, seed=seed)]) for x in (train, held_out))
        sets = Sets(given, held, held, "held-out")
    for name, part in (("training", sets.train), ("held-out", sets.held_out), ("control", sets.control)):
        if len(part) < LEAST:
            raise UserError(f"{len(part)} {name} images are too few to judge by: at least {LEAST}")
    if sets.held_out_name == "S":
        return sets
    if len(sets.held_out) >= SMALL:
        return _halves(sets, np.arange(len(sets.held_out)))  # a prefix of a split is stratified, so both halves are
    # Not stratified: of few images of a class most others of it would be in the other half, so that
    # a nearest neighbour would tell real images from real ones.
    orders = [stratified_order(None, len(sets.held_out), seed, f"report cut {cut}") for cut in range(CUTS)]
    return replace(sets, folds=tuple(_halves(sets, part, swap) for part in orders for swap in (False, True)))


def _halves(sets: Sets, order: np.ndarray, swap: bool = False) -> Sets:
    """The first half of this order held out, the other the control, or the other way round."""
    whole, middle = sets.held_out, len(order) // 2
    take = lambda rows: Split(whole.images[rows], None if whole.labels is None else whole.labels[rows])
    one, other = take(order[:middle]), take(order[middle:])
    return replace(sets, held_out=other if swap else one, control=one if swap else other)


def controls(sets: Sets, cells: np.ndarray, n: int, seed: int) -> dict[str, np.ndarray]:
    """{name: images} of generators whose fault is known, n images each (or all).

    real:           fresh real images, which a perfect generator would make
    copycat:        training images, drawn with replacement
    noisy copycat:  the same, with the noise of `noisy`
    half the modes: real images of half of the classes, or of half of the `cells` [len(control)],
                    repeated where they are too few
    blurred:        the real control, blurred as by `blurred`
    """
    random = np.random.Generator(np.random.PCG64(seed))
    real = sets.control.images[:n]
    copies = sets.train.images[random.integers(0, len(sets.train), n)]
    kept = _half(sets.control.labels if sets.control.labels is not None else cells)
    half = sets.control.images[np.resize(random.permutation(kept), len(real))]
    return {REAL: real, COPYCAT: copies, NOISY: noisy(copies, random), HALF: half, BLURRED: blurred(real, random)}


def _half(labels: np.ndarray) -> np.ndarray:
    """The indices of the first half of the labels, or of the only one."""
    names = np.unique(labels)
    return np.flatnonzero(np.isin(labels, names[: max(1, len(names) // 2)]))


def noisy(images: np.ndarray, random: np.random.Generator, std: float = NOISE) -> np.ndarray:
    """Images with Gaussian noise of `std` / 255; points with noise of a tenth of their median
    distance to the nearest other."""
    if images.ndim == 4:
        return np.clip(np.rint(images + std * random.standard_normal(images.shape)), 0, 255).astype(np.uint8)
    from scipy.spatial import KDTree

    points = np.unique(images[:5000], axis=0)
    nearest = np.median(KDTree(points).query(points, 2)[0][:, 1])
    return (images + 0.1 * nearest * random.standard_normal(images.shape)).astype(images.dtype)


def blurred(images: np.ndarray, random: np.random.Generator, sigma: float = 1.0) -> np.ndarray:
    """Images under a Gaussian blur of `sigma` pixels; points with noise of a quarter of their
    standard deviation."""
    if images.ndim == 4:
        from scipy.ndimage import gaussian_filter

        return np.clip(np.rint(gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))), 0, 255).astype(np.uint8)
    return (images + images.std(0) / 4 * random.standard_normal(images.shape)).astype(images.dtype)
