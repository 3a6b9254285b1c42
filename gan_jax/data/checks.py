"""Does a recipe fit the data? Each check raises UserError with one line that names both sides."""

from typing import Any

import numpy as np

from gan_jax.core.bind import leaves
from gan_jax.core.errors import UserError
from gan_jax.data.splits import Splits


def check_fit(what: str, knobs: Any, made: tuple[int, ...], data: Splits) -> None:
    """Raises UserError unless the knobs make examples of the data's shape, know and count the
    data's classes, and have a batch no larger than the training set.

    what: the name of the knobs in the message; made: the shape of the examples they make
    """
    n = len(data.train.images)
    if made != tuple(data.image_shape):
        raise UserError(f"the {what} makes images of shape {made}, but {data.name} has {tuple(data.image_shape)}")
    if knobs.classes and knobs.classes != data.classes:
        raise UserError(f"the {what} has {knobs.classes} classes, but {data.name} has {data.classes}")
    if n < knobs.batch_size:
        fewer = f"{n} training images, fewer than the batch of {knobs.batch_size}"
        raise UserError(f"{data.name} has {fewer}: use a smaller batch or more images")
    check_counts(knobs, data)


def refuse_penalties(what: str, knobs: Any, *names: str) -> None:
    """Raises UserError where a player that takes no penalties has some: the penalty would be
    ignored, and seem to have no effect."""
    for name in names:
        if found := list(getattr(getattr(knobs, name), "penalties", {})):
            raise UserError(f"the {name} of a {what} takes no penalties: leave out {', '.join(found)}")


def check_counts(knobs: Any, data: Splits) -> None:
    """Raises UserError where a leaf named counts or label_counts, [K], does not fit the data's
    classes. JAX would silently take the last count for every class beyond K."""
    for path, counts in leaves(knobs).items():
        if path.rsplit(".", 1)[-1] not in ("counts", "label_counts") or not np.ndim(counts):
            continue
        if np.shape(counts) != (data.classes,):
            known = f"{np.shape(counts)[-1]} classes, but {data.name} has {data.classes}"
            raise UserError(f"{path} are of {known}: see data.class_counts")
        if np.min(counts) < 1:
            raise UserError(f"{path}: class {np.argmin(counts)} has {np.min(counts):g} images; each class needs at least 1")
