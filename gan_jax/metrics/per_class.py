"""Samples class by class: coverage, Frechet distance, near-copies, and use to a classifier."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Split, Splits
from gan_jax.metrics import frechet, neighbours
from gan_jax.metrics.features import Extractor, pixels
from gan_jax.metrics.labelled import check_generated
from gan_jax.metrics.memorization import near_copies
from gan_jax.metrics.order import content_order

if TYPE_CHECKING:
    import pandas as pd

LEAST = 20  # held-out images of a class below which its Frechet distance is not computed
RATE = 0.05  # of held-out images that count as near-copies
LEAST_FOR_RATE = 19  # held-out images: 1 / RATE - 1
NUMBERS = ("coverage", "fd", "near_copies")


def per_class(
    images: np.ndarray, labels: Any, data: Splits, held_out: Split, extractor: Extractor | None = None, *, k: int = 5
) -> "pd.DataFrame":
    """One row for each class: how samples made as class c compare with held-out images of c.

    images, labels: samples, uint8 [n, h, w, c] or points [n, d], and the classes that they were
    made as. data: the splits whose T (training split) trained the generator. held_out: V
    (validation split) while choosing, S (test split) once. extractor: features for coverage and FD,
    by default the pixels. Columns:

        label, train, held_out, generated: the class, and its images of each kind
        coverage: share of held-out images with a sample in the ball to their k-th neighbour (Naeem
          et al., 2020); expected: that of independent real data (`neighbours.expected_coverage`)
        fd: Frechet distance (Heusel et al., 2017); with few images it is nearly all bias
        near_copies: share of samples nearer to T's images of c, by pixels, than all but 5 % of
          held-out ones (by a classifier's features a typical image is near to some training image)
        note: why a number is NaN

    Coverage and FD take as many samples of the class, the same in any order, as there are held-out
    images: k + 1 and 20 at least. near_copies takes all samples, and at least 19 held-out images.
    Raises UserError for data without labels, or samples that do not fit.
    """
    import pandas as pd

    extractor = pixels(data.image_shape) if extractor is None else extractor
    images, labels = check_generated(images, labels, data)
    order = content_order(images, labels)
    sets = {"made": (images[order], labels[order])}
    for name, split, what in (("train", data.train, "training"), ("held", held_out, "held-out")):
        if split.labels is None:
            raise UserError(f"per_class wants labels, and the {what} images of {data.name} have none")
        class_counts(split.labels, data.classes)
        sets[name] = split.images, np.asarray(split.labels)
    features = {name: extractor(x) for name, (x, _) in sets.items()}
    plain = {name: pixels(data.image_shape)(x) for name, (x, _) in sets.items()}
    of = lambda spaces, c: {name: spaces[name][own == c] for name, (_, own) in sets.items()}
    return pd.DataFrame([{"label": c} | _of_class(of(features, c), of(plain, c), k) for c in range(data.classes)])


def _of_class(features: dict[str, np.ndarray], plain: dict[str, np.ndarray], k: int) -> dict[str, Any]:
    """The numbers of one class: coverage and FD of the features, near-copies of the pixels."""
    made, train, held = features["made"], features["train"], features["held"]
    n, notes = len(held), []
    row: dict[str, Any] = {"train": len(train), "held_out": n, "generated": len(made), "expected": math.nan}
    row |= dict.fromkeys(NUMBERS, math.nan)

    def enough(number: str, least: int, others: bool, lacks: str) -> bool:
        """Whether `number` can be computed; a note says why not."""
        if n < least or not others:
            notes.append(f"{number}: {lacks if n >= least else f'{n} held-out images, and it takes {least}'}")
        return n >= least and others

    few = f"{len(made)} samples for {n} held-out images"
    if enough("coverage", k + 1, len(made) >= n, few):
        row["expected"] = neighbours.expected_coverage(n, n, k)
        row["coverage"] = neighbours.prdc(held, made[:n], k)["coverage"]
    if enough("fd", LEAST, len(made) >= n, few):
        row["fd"] = frechet.frechet_distance(made[:n], held)
    both = len(train) > 0 and len(made) > 0
    if enough("near_copies", LEAST_FOR_RATE, both, f"{len(train)} images of T, {len(made)} samples"):
        to_train = [neighbours.nearest(plain[name], plain["train"])[0] for name in ("made", "held")]
        row["near_copies"] = near_copies(*to_train, rate=RATE).rate
    return row | {"note": "; ".join(notes)}


def mean_over(table: Any, classes: Sequence[int] | np.ndarray | None = None) -> dict[str, float]:
    """{number: its mean over these classes (by default all)}; NaN where every class has NaN."""
    rows = table if classes is None else table[table["label"].isin(list(classes))]
    return {name: float(rows[name].mean()) for name in NUMBERS}


def usefulness(
    images: np.ndarray, labels: Any, tested: Split, classes: int, *, weighted: bool = False, C: float = 1.0
) -> dict[str, Any]:
    """How well a classifier trained on these images tells the classes of held-out real ones.

    Returns {"balanced_accuracy": the mean recall of the classes that are tested, "recalls": [K],
    NaN for the others}. The classifier is scikit-learn's logistic regression on pixels in [0, 1]
    (points as they are) with L2 of strength 1 / C, whose solution depends on the images alone.
    weighted: all classes have one weight in the loss. Raises UserError for fewer than two classes,
    or images and labels that do not fit.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    truth = tested.labels
    for given in (labels, truth):
        class_counts(given, classes)  # refuses what is out of range
    x, y = _flat(images), np.asarray(labels, np.int64)
    if len(np.unique(y)) < 2 or len(x) != len(y):
        raise UserError(f"usefulness wants images of at least two classes with a label each: {len(x)} images, {len(y)} labels")
    with threadpool_limits(1):  # its problems are small: on a busy machine a pool of threads takes 16 times as long
        model = LogisticRegression(C=C, class_weight="balanced" if weighted else None, max_iter=1000).fit(x, y)
    right = model.predict(_flat(tested.images)) == truth
    recalls = np.array([right[truth == c].mean() if np.any(truth == c) else math.nan for c in range(classes)])
    return {"balanced_accuracy": float(np.nanmean(recalls)), "recalls": recalls}


def filled(data: Splits, images: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """T, and for each class its first samples, up to the size of the largest class. Raises
    UserError for too few samples of a class."""
    counts, labels = class_counts(data.train.labels, data.classes), np.asarray(labels)
    most, rows = counts.max(), []
    for c, n in enumerate(counts):
        own = np.flatnonzero(labels == c)[: most - n]
        if len(own) < most - n:
            raise UserError(f"class {c} has {len(own)} samples, and it takes {most - n} to fill it up to {most} images")
        rows.append(own)
    extra, kept = np.concatenate(rows), np.asarray(data.train.labels)
    return np.concatenate([data.train.images, images[extra]]), np.concatenate([kept, labels[extra].astype(kept.dtype)])


def oversampled(data: Splits, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """T, and images of it drawn again with replacement until all classes have one size."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.asarray(data.train.labels)
    counts = class_counts(labels, data.classes)
    extra = [random.choice(np.flatnonzero(labels == c), counts.max() - n) for c, n in enumerate(counts) if n]
    rows = np.concatenate([np.arange(len(labels)), *extra])
    return data.train.images[rows], labels[rows]


def smote(data: Splits, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """T, and SMOTE's points (Chawla et al., 2002) until all classes have one size.

    k = min(5, n_k - 1) neighbours, by imbalanced-learn. Images come as floats in their own scale.
    Raises UserError for a class of one image, and where imbalanced-learn is not installed.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        raise UserError('SMOTE is imbalanced-learn\'s: pip install "gan-jax[imbalance]"') from None
    labels = np.asarray(data.train.labels)
    counts = class_counts(labels, data.classes)
    if counts.min() < 2:
        rarest = f"class {int(counts.argmin())} has {counts.min()} image"
        raise UserError(f"SMOTE is not applicable: {rarest}, which has no neighbour")
    flat = data.train.images.reshape(len(labels), -1).astype(np.float64)
    parts, made = [flat], [labels]
    for c in np.flatnonzero(counts < counts.max()):
        wanted: Any = {int(c): int(counts.max())}
        maker = SMOTE(sampling_strategy=wanted, k_neighbors=min(5, int(counts[c]) - 1), random_state=seed)
        x, y = maker.fit_resample(flat, labels)[:2]
        parts.append(np.asarray(x)[len(flat) :])
        made.append(np.asarray(y)[len(flat) :].astype(labels.dtype))
    return np.concatenate(parts).reshape(-1, *data.image_shape), np.concatenate(made)


def without_generator(data: Splits, tested: Split, seed: int = 0) -> dict[str, dict[str, Any] | str]:
    """`usefulness` of T, or why not, by {"nothing", "oversampling", "class weights", "SMOTE"}."""
    plain = data.train.images, data.train.labels
    found: dict[str, dict[str, Any] | str] = {
        "nothing": usefulness(*plain, tested, data.classes),
        "oversampling": usefulness(*oversampled(data, seed), tested, data.classes),
        "class weights": usefulness(*plain, tested, data.classes, weighted=True),
    }
    try:
        found["SMOTE"] = usefulness(*smote(data, seed), tested, data.classes)
    except UserError as error:
        found["SMOTE"] = f"not applicable: {str(error).removeprefix('SMOTE is not applicable: ')}"
    return found


def _flat(images: np.ndarray) -> np.ndarray:
    """Rows of pixels in [0, 1]; points as they are."""
    scale = 255.0 if np.ndim(images) == 4 else 1.0
    return np.asarray(images, np.float64).reshape(len(images), -1) / scale
