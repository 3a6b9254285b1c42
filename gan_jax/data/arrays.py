"""A data set before it is split: arrays in memory, checked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError

MAX_CLASSES = 65_536  # a larger label is an identity number, not a class


@dataclass(frozen=True, eq=False)
class Source:
    """Arrays of one data set: the part to split and, where there is one, its official test part.

    images, test_images: uint8 [n, h, w, c] with c 1 or 3, or float32 points [n, d]
    labels, test_labels: int32 [n] or None
    class_names: one name for each class, () without labels
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()


def reason(error: Exception) -> str:
    """The message of `error`, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def as_images(array: Any, what: str) -> np.ndarray:
    """`array` as uint8 [n, h, w, c] or float32 [n, d]. Raises UserError that names `what`."""
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise UserError(f"{what}: not one array ({reason(error)}); give all images one shape") from error
    if array.ndim == 2:
        if array.dtype != np.float32:
            raise UserError(f"{what}: {array.dtype} {array.shape}; points [n, d] must be float32, images [n, h, w, c]")
        if array.shape[1] == 0 or not np.isfinite(array).all():
            raise UserError(f"{what}: points must be finite with d >= 1; shape {array.shape}, remove NaN and infinity")
        return array
    if array.ndim not in (3, 4):
        raise UserError(f"{what}: shape {array.shape}; give images [n, h, w] or [n, h, w, c] or points [n, d]")
    if array.dtype != np.uint8:
        raise UserError(f"{what}: images are {array.dtype}; they must be uint8, range 0..255: convert them to uint8")
    if array.ndim == 3:
        array = array[..., None]
    if 0 in array.shape[1:] or array.shape[3] not in (1, 3):
        raise UserError(f"{what}: shape {array.shape}; images must be [n, h, w, c] with c 1 or 3, channels last")
    return array


def as_labels(labels: Any, n: int, what: str) -> np.ndarray | None:
    """`labels` as int32 [n], or None. Raises UserError where they do not fit `n` images."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise UserError(f"{what}: labels are {labels.dtype}; they must be integers 0, 1, 2, ...")
    if labels.shape != (n,):
        raise UserError(f"{what}: labels have shape {labels.shape} for {n} images; give one integer for each image")
    if n and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
        found = f"labels lie in {labels.min()} to {labels.max()}"
        raise UserError(f"{what}: {found}; number the classes 0, 1, 2, ... below {MAX_CLASSES}")
    return labels.astype(np.int32)


def checked(name: str, images, labels=None, test_images=None, test_labels=None, class_names=None) -> Source:
    """A `Source` of checked arrays; classes without names are named by their number."""
    images = as_images(images, f"{name}: images")
    labels = as_labels(labels, len(images), name)
    if test_images is None and test_labels is not None:
        raise UserError(f"{name}: test_labels without test_images; give both or neither")
    if test_images is not None:
        test_images = as_images(test_images, f"{name}: test_images")
        test_labels = as_labels(test_labels, len(test_images), f"{name}: test")
        if images.shape[1:] != test_images.shape[1:]:
            raise UserError(f"{name}: images are {images.shape[1:]}, test_images {test_images.shape[1:]}; give both one shape")
        if (test_labels is None) != (labels is None):
            raise UserError(f"{name}: only one of images and test_images has labels; give labels for both or neither")
    largest = max((int(part.max()) for part in (labels, test_labels) if part is not None and len(part)), default=-1)
    if class_names is None:
        class_names = tuple(str(i) for i in range(largest + 1))
    if largest >= len(class_names):
        raise UserError(f"{name}: label {largest} has no name among {len(class_names)} class names; check the labels")
    return Source(name, images, labels, test_images, test_labels, class_names)
