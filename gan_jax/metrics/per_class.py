"""Samples class by class: coverage, Frechet distance and near-copies of each, and what a classifier
gains by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Split, Splits
from gan_jax.metrics import frechet, neighbours
from gan_jax.metrics.features import Extractor, check_images, pixels
from gan_jax.metrics.memorization import near_copies

if TYPE_CHECKING:
    import pandas as pd

LEAST = 20  # held-out images of a class, and generated ones, below which its Frechet distance is not judged
RATE = 0.05  # of held-out images that count as near-copies: it takes 19 of them
NUMBERS = ("coverage", "fd", "near_copies")


# ---- of each class -----------------------------------------------------------------------------


def per_class(
    images: np.ndarray, labels: Any, data: Splits, held_out: Split, extractor: Extractor | None = None, *, k: int = 5
) -> pd.DataFrame:
    """One row for each class: how samples made as class c compare with held-out images of c.

    Columns: label; train, held_out, generated: images there are; expected: coverage by independent
    real data (`neighbours.expected_coverage`), then

        coverage     share of held-out images with a sample in the ball to their k-th neighbour
                     (Naeem et al., 2020), in [0, 1]
        fd           Frechet distance (Heusel et al., 2017); biased by few images, so compare equal
                     classes only
        near_copies  share of samples nearer to T's images of c, by pixels, than all but 5 % of
                     held-out ones (`memorization`)

    and note: why a number is NaN. Coverage and FD take as many samples as there are held-out
    images, the first ones; near_copies all of them. Minima: coverage k + 1 held-out images, FD 20,
    near_copies 19, and as many samples (one for near_copies). With as few as 20 images FD is nearly
    all bias in a wide feature space: between settings only differences count.

    A rare class's near-copies are of few training images; as all its held-out images stay, their
    threshold is as good as any.

    Args:
        images, labels: samples, uint8 [n, h, w, c] or points [n, d], and the classes that they were
        made as.
        data: the splits whose T trained the generator. held_out: V while choosing, S once.
        extractor: features for coverage and FD; the pixels by default. `features.classifier(data)`
            is trained on E, which stays balanced. Near-copies are always those of pixels: the
            features of a classifier know little besides the class, so that in them a typical image
            is near to some training image.

    Raises UserError for data without labels, or samples that do not fit.
    """
    import pandas as pd

    extractor = pixels(data.image_shape) if extractor is None else extractor
    labels = np.asarray(labels)
    images = check_images(images, "generated images")
    if labels.shape != (len(images),):
        raise UserError(f"{len(images)} generated images and labels {list(labels.shape)}: give one each")
    for what, found in {"generated": labels, "training": data.train.labels, "held-out": held_out.labels}.items():
        if found is None:
            raise UserError(f"per_class wants labels, and the {what} images of {data.name} have none")
        class_counts(found, data.classes)
    train_labels, held_labels = np.asarray(data.train.labels), np.asarray(held_out.labels)
    sets = {"made": (images, labels), "train": (data.train.images, train_labels), "held": (held_out.images, held_labels)}
    features = {name: extractor(x) for name, (x, _) in sets.items()}
    plain = {name: pixels(data.image_shape)(x) for name, (x, _) in sets.items()}
    of = lambda spaces, c: {name: spaces[name][own == c] for name, (_, own) in sets.items()}
    rows = [_of_class(of(features, c), of(plain, c), k) for c in range(data.classes)]
    return pd.DataFrame([{"label": c} | row for c, row in enumerate(rows)])


def _of_class(features: dict[str, np.ndarray], plain: dict[str, np.ndarray], k: int) -> dict[str, Any]:
    """A row: coverage and FD of the features, near-copies of the pixels."""
    made, train, held = features["made"], features["train"], features["held"]
    n, notes = len(held), []
    row: dict[str, Any] = {"train": len(train), "held_out": n, "generated": len(made), "expected": math.nan}
    row |= dict.fromkeys(NUMBERS, math.nan)
    few = f"{len(made)} samples for {n} held-out images"
    if n <= k or len(made) < n:
        notes.append(f"coverage: {few if n > k else f'{n} held-out images, and it takes {k + 1}'}")
    else:
        row["expected"] = neighbours.expected_coverage(n, n, k)
        row["coverage"] = neighbours.prdc(held, made[:n], k)["coverage"]
    if n < LEAST or len(made) < n:
        notes.append(f"fd: {few if n >= LEAST else f'{n} held-out images, and it takes {LEAST}'}")
    else:
        row["fd"] = frechet.frechet_distance(made[:n], held)
    least = math.ceil(round(1 / RATE - 1, 9))
    if n < least or not len(train) or not len(made):
        lacks = f"{n} held-out images, and it takes {least}" if n < least else f"{len(train)} images of T, {len(made)} samples"
        notes.append(f"near_copies: {lacks}")
    else:
        to_train = [neighbours.nearest(plain[name], plain["train"])[0] for name in ("made", "held")]
        row["near_copies"] = near_copies(*to_train, rate=RATE).rate
    return row | {"note": "; ".join(notes)}


def mean_over(table: Any, classes: Sequence[int] | np.ndarray | None = None) -> dict[str, float]:
    """{number of `per_class`: its mean over these classes (all by default)}; NaN where it was
    judged in none of them."""
    rows = table if classes is None else table[table["label"].isin(list(classes))]
    return {name: float(rows[name].mean()) for name in NUMBERS}


# ---- usefulness --------------------------------------------------------------------------------


def usefulness(
    images: np.ndarray, labels: Any, tested: Split, classes: int, *, weighted: bool = False, C: float = 1.0
) -> dict[str, Any]:
    """How well a classifier trained on these images tells the classes of held-out real ones.

    {"balanced_accuracy": the mean of the recalls of the classes that are tested, "recalls": [K],
    NaN of a class that is not}. The classifier is scikit-learn's logistic regression on pixels in
    [0, 1] (points as they are), with L2 of strength 1 / C: fast, and with one solution, so that
    only the images make a difference. `labelled.gan_train` has a network.
    weighted: each class counts as much as any other in its loss (class_weight="balanced"). The
    errors of recalls on n images of a class are about sqrt(r (1 - r) / n). Cost: .2 s for 1,000
    images of 64 pixels on a CPU core. Raises UserError for fewer than two classes, labels out of
    range, or images that do not fit.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    truth = tested.labels
    for found in (labels, truth):
        class_counts(found, classes)  # refuses what is out of range
    x, y = _flat(images), np.asarray(labels, np.int64)
    if len(np.unique(y)) < 2 or len(x) != len(y):
        raise UserError(f"usefulness wants images of at least two classes with a label each: {len(x)} images, {len(y)} labels")
    with threadpool_limits(1):  # its problems are small: on a busy machine a pool of threads takes 16 times as long
        model = LogisticRegression(C=C, class_weight="balanced" if weighted else None, max_iter=1000).fit(x, y)
    right = model.predict(_flat(tested.images)) == truth
    recalls = np.array([right[truth == c].mean() if np.any(truth == c) else math.nan for c in range(classes)])
    return {"balanced_accuracy": float(np.nanmean(recalls)), "recalls": recalls}


def filled(data: Splits, images: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """T and samples: every class is filled up to the size of the largest with the first samples
    made as it.

    Raises UserError where there are too few samples of a class.
    """
    counts, labels = class_counts(data.train.labels, data.classes), np.asarray(labels)
    most, rows = counts.max(), []
    for c, n in enumerate(counts):
        own = np.flatnonzero(labels == c)[: most - n]
        if len(own) < most - n:
            raise UserError(f"class {c} has {len(own)} samples, and it takes {most - n} to fill it up to {most} images")
        rows.append(own)
    extra = np.concatenate(rows)
    kept = np.asarray(data.train.labels)
    return np.concatenate([data.train.images, images[extra]]), np.concatenate([kept, labels[extra].astype(kept.dtype)])


def oversampled(data: Splits, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """T, and images of it drawn again with replacement until every class is as large as the
    largest."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.asarray(data.train.labels)
    counts = class_counts(labels, data.classes)
    extra = [random.choice(np.flatnonzero(labels == c), counts.max() - n) for c, n in enumerate(counts) if n]
    rows = np.concatenate([np.arange(len(labels)), *extra])
    return data.train.images[rows], labels[rows]


def smote(data: Splits, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """T, and SMOTE's points between neighbours of one class (Chawla et al., 2002) until every class
    is as large as the largest.

    k = min(5, n_k - 1) neighbours, by imbalanced-learn. Images come as floats in their own scale.
    Not applicable where a class has one image, which has no neighbour: raises UserError; and where
    imbalanced-learn is not installed.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        raise UserError('SMOTE is imbalanced-learn\'s: pip install "gan-jax[imbalance]"') from None
    labels = np.asarray(data.train.labels)
    counts = class_counts(labels, data.classes)
    if counts.min() < 2:
        raise UserError(
            f"SMOTE is not applicable: class {int(counts.argmin())} has {counts.min()} image, which has no neighbour"
        )
    flat = data.train.images.reshape(len(labels), -1).astype(np.float64)
    parts, made = [flat], [labels]
    for c, n in enumerate(counts):
        if n == counts.max():
            continue
        wanted: Any = {c: int(counts.max())}
        maker = SMOTE(sampling_strategy=wanted, k_neighbors=min(5, int(n) - 1), random_state=seed)
        x, y = maker.fit_resample(flat, labels)[:2]
        parts.append(np.asarray(x)[len(flat) :])
        made.append(np.asarray(y)[len(flat) :].astype(labels.dtype))
    return np.concatenate(parts).reshape(-1, *data.image_shape), np.concatenate(made)


def without_generator(data: Splits, tested: Split, seed: int = 0) -> dict[str, dict[str, Any] | str]:
    """{"nothing", "oversampling", "class weights", "SMOTE": `usefulness` of T so treated, or why it
    is not applicable}."""
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
