"""A game: any pair of pure functions (init, step) over a pytree of knobs and a pytree of state.

The loop, chunks, checkpoints and populations take any game. The GAN (`gan.GAN`) is the first; the
VAE (`vae.GAME`) has one player in two parts, the VAE-GAN (`vae_gan.GAME`) three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_jax.core.bind import leaves
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part


def single(knobs: Any) -> str:
    """The dtype of most games' batches."""
    return "float32"


@part("gan")
@dataclass(frozen=True)
class Game:
    """
    init:     (knobs, key) -> state, a flax `struct.PyTreeNode` that holds `step` (int32 scalar) and
              `key`
    step:     (knobs, state, batch, axis_name=None) -> (state, {name: scalar})
    examples: (knobs) -> examples that one step takes, over all devices
    dtype:    (knobs) -> the dtype of a batch
    check:    (knobs, data) -> None, or raises UserError where they do not fit
    evaluate: (knobs, state, train images and labels, validation images and labels) -> {name:
        scalar}
    observe:  (knobs, state, what evaluate returned, steps since the last time) -> {field of the
              state: its new value}
    sample:   (knobs, state, key, n, labels=None, ema=True, first=0) -> images [n, ...]
    log_density: (knobs, state, images, labels) -> [n] lower bounds of the log density, in nats,
        where the game has one
    sampler:  (knobs, feed) -> None for the order of the data, or (state, draws, rows of that order)
              -> rows in their place

    The functions are module-level, so that two equal games share one program.
    """

    init: Callable
    step: Callable
    examples: Callable[[Any], int]
    dtype: Callable[[Any], str] = single
    check: Callable[[Any, Any], None] | None = None
    evaluate: Callable | None = None
    observe: Callable | None = None
    sample: Callable | None = None
    log_density: Callable | None = None
    sampler: Callable | None = None

    def look(self, knobs: Any, state: Any, steps: Any, train: tuple, validation: tuple) -> tuple[dict, dict]:
        """({name: scalar}, {field of the state: its new value}) of an evaluation, `steps` after the
        one before."""
        assert self.evaluate is not None
        row = self.evaluate(knobs, state, train, validation)
        return row, self.observe(knobs, state, row, steps) if self.observe else {}


def check_fit(what: str, knobs: Any, made: tuple[int, ...], data: Any) -> None:
    """Refuse knobs (`what` in the message) that make examples of another shape, or know or count
    other classes, than the data have, or whose batch is larger. Raises UserError naming both
    sides."""
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
    """For the `init` of a game that looks at no penalties of these sides (of those that there are).

    A penalty that is never taken would look like one without effect. Raises UserError naming it.
    """
    for name in names:
        if found := list(getattr(getattr(knobs, name), "penalties", {})):
            raise UserError(f"the {name} of a {what} takes no penalties: leave out {', '.join(found)}")


def check_counts(knobs: Any, data: Any) -> None:
    """Refuse counts of images by class that are not of the data's classes: JAX would take the last
    for those beyond them.

    Every leaf named counts or label_counts, [K], is looked at. Raises UserError for another K, or a
    count below 1.
    """
    for path, counts in leaves(knobs).items():
        if path.rsplit(".", 1)[-1] not in ("counts", "label_counts") or not np.ndim(counts):
            continue
        if np.shape(counts) != (data.classes,):
            raise UserError(
                f"{path} are of {np.shape(counts)[-1]} classes, but {data.name} has {data.classes}: see data.class_counts"
            )
        if np.min(counts) < 1:
            raise UserError(f"{path}: class {np.argmin(counts)} has {np.min(counts):g} images; each class needs at least 1")
