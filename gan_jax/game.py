"""A game: any pair of pure functions (init, step) over a pytree of knobs and a pytree of state.

The loop, chunks, checkpoints and populations take any game. The GAN (`gan.GAN`) is the first; the VAE (`vae.GAME`) has one
player in two parts, the VAE-GAN (`vae_gan.GAME`) three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from gan_jax.errors import UserError
from gan_jax.recipe import leaves


def device_mean(x: Any, axis_name: str | None) -> Any:
    """The mean over devices of a value (or pytree) that is already averaged over the local examples.

    Raises UserError inside a `jax.shard_map` that checks what varies (its default): there the gradient of what all devices
    share, parameters or images, is their sum already, so that steps would be too large by their number.
    """
    if axis_name is None:
        return x
    if axis_name in _varying(jax.lax.axis_index(axis_name)):  # x may not vary: such a sum does not
        raise UserError(f"jax.shard_map over {axis_name!r} would sum gradients in silence: give it check_vma=False")
    return jax.lax.pmean(x, axis_name)


def _varying(leaf: Any) -> frozenset:
    """The device axes over which a value is known to vary; none under pmap, or with check_vma=False."""
    return getattr(getattr(jax.typeof(leaf), "mat", None), "varying", frozenset())


def everyone(x: Array, axis_name: str | None) -> Array:
    """[b, ...] of this device -> [B, ...] of the whole batch, on every device, in the order of the devices."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


class Batch(struct.PyTreeNode):
    """Examples for one step.

    images:  [b, ...] floats in the source's scale ([-1, 1] for images)
    index:   [b] each example's position in the whole batch, over all devices
    labels:  [b] integers, or None; weights: [b] of the real examples in D's loss, mean 1, or None
    mask:    [b, ...] which values were observed, or None (for games that fill in missing ones)
    fake_labels: [b] of the examples that the generator makes in this turn, or None; set by the turn
    axis_name:   of the devices that share the batch under pmap, or None; set by the step
    """

    images: Float[Array, "b *shape"]
    index: Int[Array, "b"]
    labels: Int[Array, "b"] | None = None
    weights: Float[Array, "b"] | None = None
    mask: Array | None = None
    fake_labels: Int[Array, "b"] | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)

    def mean(self, values: Array) -> Array:
        """The mean over the whole batch (first axis), on every device."""
        return device_mean(values.mean(0), self.axis_name)

    def everyone(self, values: Array) -> Array:
        """[b, ...] of this device -> [B, ...] of the whole batch, on every device, in the order of the devices."""
        return everyone(values, self.axis_name)


def single(knobs: Any) -> str:
    """The dtype of most games' batches."""
    return "float32"


@dataclass(frozen=True)
class Game:
    """
    init:     (knobs, key) -> state, a flax `struct.PyTreeNode` that holds `step` (int32 scalar) and `key`
    step:     (knobs, state, batch, axis_name=None) -> (state, {name: scalar})
    examples: (knobs) -> examples that one step takes, over all devices
    dtype:    (knobs) -> the dtype of a batch
    check:    (knobs, data) -> None, or raises UserError where they do not fit
    evaluate: (knobs, state, train images and labels, validation images and labels) -> {name: scalar}
    observe:  (knobs, state, what evaluate returned, steps since the last time) -> {field of the state: its new value}
    sample:   (knobs, state, key, n, labels=None, ema=True, first=0) -> images [n, ...]
    log_density: (knobs, state, images, labels) -> [n] lower bounds of the log density, in nats, where the game has one
    sampler:  (knobs, feed) -> None for the order of the data, or (state, draws, rows of that order) -> rows in their place

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
        """({name: scalar}, {field of the state: its new value}) of an evaluation, `steps` after the one before."""
        assert self.evaluate is not None
        row = self.evaluate(knobs, state, train, validation)
        return row, self.observe(knobs, state, row, steps) if self.observe else {}


def game_of(knobs: Any, game: Game | None) -> Game:
    """The game that these knobs are of, unless one is given. Raises UserError where the knobs name none."""
    found = game or getattr(knobs, "game", None)
    if found is None:
        raise UserError(f"{type(knobs).__name__} does not say of which game it is: give game=")
    return found


def check_fit(what: str, knobs: Any, made: tuple[int, ...], data: Any) -> None:
    """Refuse knobs (`what` in the message) that make examples of another shape, or know or count other classes, than the data
    have, or whose batch is larger. Raises UserError naming both sides."""
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
    """Refuse counts of images by class that are not of the data's classes: JAX would take the last for those beyond them.

    Every leaf named counts or label_counts, [K], is looked at. Raises UserError for another K, or a count below 1.
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


def to_unit(images: Array, dtype="float32") -> Float[Array, "b *shape"]:
    """uint8 0 ... 255 as floats in [-1, 1]; points and tables keep their own scale."""
    return images.astype(dtype) / 127.5 - 1 if images.dtype == jnp.uint8 else images.astype(dtype)


class Feed(struct.PyTreeNode):
    """A training set on the device: examples [N, ...], labels [N] or None, how many to use, and the key of their order.

    `size` is a leaf: one program trains on the first 100, 300 or 1,000. weights [N] and mask [N, ...] go into the batch.
    """

    images: Array
    labels: Array | None
    size: Int[Array, ""]
    key: jax.Array
    weights: Float[Array, "n"] | None = None
    mask: Array | None = None


class Window(struct.PyTreeNode):
    """The examples of the next steps, [steps, b, ...] and labels [steps, b] or None: streamed, in place of a `Feed`.

    first: the step that they begin with.
    """

    images: Array
    labels: Array | None
    first: Int[Array, ""]
