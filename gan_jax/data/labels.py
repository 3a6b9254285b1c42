"""Labels as a vocabulary: names or numbers of the user's become the class numbers 0 ... k - 1.

Classes are numbered in the sorted order of their names: numbers by value, texts by code point
("10" before "2"). `Splits.class_names` keeps the names in the order of the class numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError, say

MAX_CLASSES = 65_536  # more are identity numbers, not classes


def as_labels(labels: Any, n: int, what: str) -> np.ndarray | None:
    """`labels` as an array [n] of integers >= 0 or of texts, or None. Raises UserError, which names
    `what`, for anything else."""
    if labels is None:
        return None
    try:
        given, labels = labels, np.asarray(labels)
    except ValueError as error:
        raise UserError(
            f"{what}: labels are not one array ({str(error)[:60]}); give one integer or name for each image"
        ) from None
    if np.ma.is_masked(given):
        raise UserError(f"{what}: some labels are masked; leave those images out")
    if labels.dtype.kind == "T" or (labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat)):
        labels = labels.astype(np.str_)
    if labels.dtype.kind == "O" and all(
        type(label) is int and abs(label) < 2**63 or isinstance(label, np.integer) for label in labels.flat
    ):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise UserError(f"{what}: labels are {labels.dtype}; they must be integers or names (texts), none missing")
    if labels.shape != (n,):
        raise UserError(f"{what}: labels have shape {labels.shape} for {n} images; give one label for each image")
    if labels.dtype.kind in "iu" and n and labels.min() < 0:
        raise UserError(f"{what}: label {labels.min()} is below 0; leave such images out, or name their class")
    return labels


def as_numbers(labels: Any, n: int, what: str) -> np.ndarray | None:
    """Labels that are class numbers already, as int32 [n], or None. Raises UserError for others."""
    labels = as_labels(labels, n, what)
    if labels is None:
        return None
    if labels.dtype.kind == "U" or labels.max(initial=0) >= MAX_CLASSES:
        raise UserError(f"{what}: labels such as {labels.max()} are no class numbers; number the classes 0, 1, 2, ...")
    return labels.astype(np.int32)


def numbered(
    name: str, parts: dict[str, np.ndarray | None], class_names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...]]:
    """The labels of each part of a data set as class numbers, int32, and the names of the classes.

    parts: {part: labels of `as_labels`}; the classes are those of the first part
    class_names: where the labels are the numbers of these classes already

    Says which class a number of the user's became. Raises UserError for more than MAX_CLASSES
    classes, and for a label, or labels at all, in some parts alone.
    """
    first, *others = parts
    labels = [found for found in parts.values() if found is not None]
    if 0 < len(labels) < len(parts):
        raise UserError(f"{name}: only one of {first} and {others[0]} images has labels; give labels for both or neither")
    if not labels:
        return parts, ()
    if class_names is not None:
        largest = max((int(found.max()) for found in labels if len(found)), default=-1)
        if largest >= len(class_names):
            raise UserError(f"{name}: label {largest} has no name among {len(class_names)} class names; check the labels")
        return {part: np.asarray(found, np.int32) for part, found in parts.items()}, tuple(class_names)
    known = np.unique(labels[0])
    if len(known) > MAX_CLASSES:
        raise UserError(
            f"{name}: {len(known)} different labels are more than {MAX_CLASSES} classes; group them, or leave them out"
        )
    for found in labels[1:]:
        if (found.dtype.kind == "U") != (known.dtype.kind == "U"):
            raise UserError(f"{name}: labels are {known.dtype} in one part and {found.dtype} in another; give both as one type")
        if len(strange := np.setdiff1d(found, known)):
            raise UserError(f"{name}: no {first} image has the label {str(strange[0])!r}; add some, or leave that class out")
    if known.dtype.kind in "iu" and len(known) and known[-1] != len(known) - 1:
        order = f"{known[0]} is class 0, {known[-1]} class {len(known) - 1}"
        say(f"{name}: the {len(known)} labels are classes in sorted order, {order}; data.class_names has all")
    numbers = {part: np.searchsorted(known, found).astype(np.int32) for part, found in parts.items() if found is not None}
    return dict(numbers), tuple(str(label) for label in known)


def class_numbers(labels: Any, n: int, class_names: Sequence[str], what: str) -> np.ndarray:
    """The class numbers, int32 [n], of labels that someone asks for: one for all, or one for each.

    labels: class names, or integers. An integer is a class number 0 ... k - 1. Where the data's
        own labels are integers and none of them is below k, such a label is understood as well.
        Where an integer may be meant as another class's own label, one line says which it is.

    Raises UserError where `labels` are neither, or not n. Example:
    class_numbers(["dog", "cat"], 2, ("cat", "dog"), "samples") is [1, 0].
    """
    k, known = len(class_names), ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
    given = np.asarray(labels)
    if given.dtype.kind not in "iuU" and given.size:
        raise UserError(f"labels {labels!r:.60}: give class numbers, 0 to {k - 1}, or class names ({known})")
    if given.ndim == 0:
        given = np.full(n, given)
    if given.shape != (n,):
        raise UserError(
            f"{len(given) if given.ndim == 1 else given.shape} labels for {n} {what}: give one for each, or one alone for all"
        )
    numeric = all(name.isdecimal() for name in class_names)
    number: dict[Any, int] = {name: i for i, name in enumerate(class_names)}
    if given.dtype.kind != "U":
        own = {int(name): i for name, i in number.items()} if numeric else {}
        number = {i: i for i in range(k)} | (own if min(own, default=0) >= k else {})
        taken = () if isinstance(labels, np.ndarray) else given.tolist()  # arrays hold class numbers
        if doubtful := [i for i in taken if i in number and own.get(i, number[i]) != number[i]]:
            i = doubtful[0]
            say(f"labels: {i} is class number {i}, which is your {class_names[i]}; for your {i} give the text '{i}'")
    elif not numeric:  # a text of a command line may be a number
        number = {str(i): i for i in range(k)} | number
    if unknown := [label for label in given.tolist() if label not in number]:
        raise UserError(f"label {unknown[0]!r} is none of the {k} classes: 0 to {k - 1}, by name {known}")
    return np.array([number[label] for label in given.tolist()], np.int32)
