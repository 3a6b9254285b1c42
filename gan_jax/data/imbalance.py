"""Imbalanced versions of labelled data: some classes of the training split (T) become rare.

The validation (V), test (S) and extractor (E) splits stay as they are.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.data.splits import Split, Splits, seed_sequence


def imbalanced_counts(available: Any, ratio: float, kind: str = "long_tailed") -> np.ndarray:
    """Images [K] to keep of each class, from `available` [K], the most frequent class first.

    'long_tailed': n_k = n_max * ratio^(-k / (K - 1)), rounded down, as CIFAR-LT (Cui et al., 2019;
        Cao et al., 2019).
    'step': n_max for the first K // 2 classes, n_max / ratio, rounded down, for the others (Buda et
        al., 2018).

    n_max: the largest for which every class has enough images
    ratio: n_max over the smallest n_k, at least 1; 10 and 100 in those papers

    Raises UserError for an unknown kind, a ratio below 1, fewer than 2 classes, and a class that is
    left with no image.
    """
    available = np.asarray(available)
    if kind not in ("long_tailed", "step"):
        raise UserError(f"unknown imbalance {kind!r}: use one of long_tailed, step")
    if not (isinstance(ratio, (int, float, np.number)) and math.isfinite(ratio) and ratio >= 1):
        raise UserError(f"ratio={ratio!r}: the most frequent class over the rarest, a number of at least 1 (1: no imbalance)")
    if len(available) < 2:
        raise UserError(f"{len(available)} class cannot be imbalanced: it takes at least 2")
    place = np.arange(len(available))
    depth = place / (len(available) - 1) if kind == "long_tailed" else (place >= len(available) // 2)
    share = float(ratio) ** -np.asarray(depth, np.float64)
    most = math.floor((available / share).min() + 1e-9)  # rounding must not lose an image
    counts = np.floor(most * share + 1e-9).astype(np.int64)
    if not counts.min():
        emptied = f"class number {np.argmin(counts) + 1} of {len(counts)} with no image, of {most} in the largest"
        raise UserError(f"ratio={ratio:g} leaves {emptied}: use a ratio of at most {most}")
    return counts


def class_counts(labels: Any, classes: int) -> np.ndarray:
    """Images [K] of each class. Raises UserError without labels, and for labels that are not
    integers [n] in 0 ... classes - 1."""
    if labels is None or not classes:
        raise UserError("there are no labels to count classes by: give data with labels")
    labels = np.asarray(labels)
    if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
        raise UserError(f"labels are {labels.dtype} {list(labels.shape)}: expected integers, one for each image")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise UserError(f"labels lie in {labels.min()} to {labels.max()}: expected 0 to {classes - 1}")
    return np.bincount(labels.astype(np.int64), minlength=classes)


def class_order(classes: int, order: int | None = None) -> np.ndarray:
    """The classes, most frequent first: in the order of their numbers, or permuted by a seed."""
    if order is None:
        return np.arange(classes)
    seed = count(order, "order", least=0)
    return np.argsort(np.random.PCG64(seed_sequence(seed, "classes")).random_raw(classes), kind="stable")


def imbalanced(data: Splits, ratio: float = 10.0, kind: str = "long_tailed", *, order: int | None = None) -> Splits:
    """The same splits with an imbalanced training set: the first n_k images of each class.

    Images of a higher ratio are among those of a lower one. The classes are spread evenly over the
    new order, so that its first n images, `subset(n)`, are as imbalanced as all, to whole images.
    Each class keeps at least one image; SMOTE and a covariance need two. A `density` remains that
    of the balanced data.

    ratio, kind: as for `imbalanced_counts`, which has the formulae
    order:       which classes are the frequent ones, as for `class_order`

    Raises UserError for data without labels, for labels out of range, and as `imbalanced_counts`.
    """
    labels = data.train.labels
    available = class_counts(labels, data.classes)
    assert labels is not None
    if not available.min():
        raise UserError(f"{data.name}: class {int(available.argmin())} has no training image, so none can be kept")
    ranked = class_order(data.classes, order)
    counts = np.empty(data.classes, np.int64)
    counts[ranked] = imbalanced_counts(available[ranked], ratio, kind)
    chosen = np.concatenate([np.flatnonzero(labels == k)[:n] for k, n in enumerate(counts)])
    spread = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    chosen = chosen[np.lexsort((chosen, spread))]
    train = Split(data.train.images[chosen], labels[chosen])
    source = None
    if data.source and "imbalance" not in data.source:  # no argument of `load` makes data imbalanced twice
        subset = data.source.get("subset")  # it was taken before the imbalance
        recorded = {"ratio": float(ratio), "kind": kind, "order": order, "subset": subset}
        source = {name: value for name, value in data.source.items() if name != "subset"}
        source["imbalance"] = {name: value for name, value in recorded.items() if value is not None}
    return replace(data, name=f"{data.name} ({kind} {ratio:g})", train=train, source=source)


def from_record(data: Splits, recorded: dict[str, Any]) -> Splits:
    """`imbalanced` by the argument `imbalance` of `load`. Raises UserError for an unknown key."""
    if unknown := [name for name in recorded if name not in ("ratio", "kind", "order", "subset")]:
        raise UserError(f"imbalance has no {unknown[0]!r}: use ratio, kind, order and subset")
    recorded = dict(recorded)
    before = recorded.pop("subset", None)
    return imbalanced(data if before is None else data.subset(before), **recorded)


def thirds(counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes (frequent, middle, rare): the K // 3 rarest, at least one, are rare, and as many
    frequent. Of equally frequent classes those with the higher number count as rarer."""
    counts = np.asarray(counts)
    ranked = np.argsort(-counts, kind="stable")
    third = max(1, len(counts) // 3)
    return ranked[:third], ranked[third : len(counts) - third], ranked[-third:]
