"""Does a recipe fit the data? Each check raises UserError with one line that names both sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from gan_jax.core.bind import leaves
from gan_jax.core.errors import UserError


def check_fit(what: str, knobs: Any, made: tuple[int, ...], data: Any) -> None:
    """Raises UserError for knobs that do not fit the data, naming both sides.

    They must make examples of the data's shape (`made`), know and count the data's classes, and
    have a batch no larger than the training set. what: the name of the knobs in the message.
    """
    if made != tuple(data.image_shape):
        raise UserError(f"the {what} makes images of shape {made}, but {data.name} has {tuple(data.image_shape)}")
    if knobs.classes and knobs.classes != data.classes:
        raise UserError(f"the {what} has {knobs.classes} classes, but {data.name} has {data.classes}")
    if len(data.train.images) < knobs.batch_size:
        raise UserError(
            f"{data.name} has {len(data.train.images)} training images, fewer than the batch of {knobs.batch_size}: "
            "use a smaller batch or more images"
        )
    check_counts(knobs, data)


def refuse_penalties(what: str, knobs: Any, *names: str) -> None:
    """Raises UserError where a player that takes no penalties has some. A penalty that is never
    taken would look like a penalty without effect."""
    for name in names:
        if found := list(getattr(getattr(knobs, name), "penalties", {})):
            raise UserError(f"the {name} of a {what} takes no penalties: leave out {', '.join(found)}")


def check_counts(knobs: Any, data: Any) -> None:
    """Raises UserError where a leaf named counts or label_counts, [K], does not fit the data's
    classes. JAX would silently take the last count for every class beyond K."""
    for path, counts in leaves(knobs).items():
        if path.rsplit(".", 1)[-1] not in ("counts", "label_counts") or not np.ndim(counts):
            continue
        if np.shape(counts) != (data.classes,):
            raise UserError(
                f"{path} are of {np.shape(counts)[-1]} classes, but {data.name} has {data.classes}: see data.class_counts"
            )
        if np.min(counts) < 1:
            raise UserError(f"{path}: class {np.argmin(counts)} has {np.min(counts):g} images; each class needs at least 1")
