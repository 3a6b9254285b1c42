"""A data set before it is split: arrays in memory, checked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError, say
from gan_jax.data.labels import as_labels, numbered

HELD_OUT = "held-out"  # a part of which V, S and E are cut
Part = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Source:
    """Arrays of one data set: the part to split and, where there are some, its official parts.

    images:      uint8 [n, h, w, c] with c 1 or 3, or float32 points [n, d]
    labels:      int32 [n] or None
    official:    {"validation", "test" or HELD_OUT: (images, labels)}
    class_names: one name for each class, () without labels
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    official: dict[str, Part] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


def reason(error: Exception) -> str:
    """The message of `error`, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_memory(n: int, shape: tuple[int, ...], what: str) -> None:
    """Raises UserError where n images uint8 of this shape do not fit in the memory that is free."""
    import psutil

    needed, free = n * int(np.prod(shape, dtype=np.float64)), psutil.virtual_memory().available
    if needed > free:
        held = f"{n} images of {'x'.join(map(str, shape))} take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        raise UserError(f"{what}: {held}; give a smaller size, or stream them")


def as_images(array: Any, what: str) -> np.ndarray:
    """`array` as uint8 [n, h, w, c] or float32 [n, d]. Raises UserError that names `what`."""
    if np.ma.is_masked(array):
        raise UserError(f"{what}: some values are masked; fill them in, or leave those images out")
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
        raise UserError(f"{what}: images are {array.dtype}; they must be uint8, range 0..255: {_conversion(array)}")
    if array.ndim == 3:
        if array.shape[2] == 3:
            raise UserError(f"{what}: shape {array.shape} is of one RGB image, or lacks an axis; give images [n, h, w, c]")
        array = array[..., None]
    if 0 in array.shape[1:] or array.shape[3] not in (1, 3):
        raise UserError(f"{what}: shape {array.shape}; images must be [n, h, w, c] with c 1 or 3, channels last")
    return array


def _conversion(array: np.ndarray) -> str:
    """How to make such images uint8."""
    if array.dtype == bool:
        return "convert them to uint8 by images * np.uint8(255)"
    if array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
        return "convert them to uint8"
    low, high = float(array.min()), float(array.max())
    how = {low < 0 and low >= -1 and high <= 1: "(images + 1) * 127.5", low >= 0 and high <= 1: "images * 255"}.get(
        True, "images"
    )
    return f"these lie in {low:g}..{high:g}, convert them to uint8 by np.rint({how}).astype(np.uint8)"


def checked(name: str, images, labels=None, official: dict[str, tuple] | None = None, class_names=None) -> Source:
    """A `Source` of checked arrays. Without class names, labels are a vocabulary (see `labels.py`),
    else they are the numbers of these classes."""
    if not isinstance(name, str):
        raise UserError(f"name={name!r:.60}: the name of a data set is a text")
    arrays, given = {}, {}
    for part, (array, numbers) in ({"training": (images, labels)} | (official or {})).items():
        what = name if part == "training" else f"{name}: {part}"
        arrays[part] = as_images(array, f"{what} images" if part != "training" else f"{name}: images")
        given[part] = as_labels(numbers, len(arrays[part]), what)
    images = arrays.pop("training")
    for part, array in arrays.items():
        if array.shape[1:] != images.shape[1:]:
            raise UserError(f"{name}: images are {images.shape[1:]}, {part} images {array.shape[1:]}; give both one shape")
    if images.dtype == np.uint8 and (most := int(images.max(initial=0))) < 64:
        say(f"{name}: the largest value is {most} of 255: all images are nearly black; scale them unless that is meant")
    found, names = numbered(name, given, class_names)
    return Source(name, images, found["training"], {k: (v, found[k]) for k, v in arrays.items()}, names)
