"""Batches of examples, and the means that hold on one device and on many."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gan_jax.core.errors import UserError


def device_mean(x: Any, axis_name: str | None) -> Any:
    """The mean over devices of a pytree that is already averaged over this device's examples.
    Raises UserError inside a `jax.shard_map` with check_vma=True, its default: there the gradient
    of a replicated value is already the sum over devices, so that every step would be too large."""
    if axis_name is None:
        return x
    if axis_name in _varying(jax.lax.axis_index(axis_name)):  # not of x: a gradient that was summed does not vary
        raise UserError(f"jax.shard_map over {axis_name!r} would sum gradients in silence: give it check_vma=False")
    return jax.lax.pmean(x, axis_name)


def _varying(leaf: Any) -> frozenset:
    """The device axes over which a value is known to vary; none under pmap or check_vma=False."""
    return getattr(getattr(jax.typeof(leaf), "mat", None), "varying", frozenset())


def all_gather(x: Array, axis_name: str | None) -> Array:
    """[b, ...] of this device -> [B, ...], B = b * devices, in the order of the devices."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


class Shared:
    """Reductions over a batch that the devices of the axis `axis_name` share."""

    axis_name: str | None

    def mean(self, values: Array) -> Array:
        """The mean over the whole batch (first axis), on every device."""
        return device_mean(values.mean(0), self.axis_name)

    def all_gather(self, values: Array) -> Array:
        return all_gather(values, self.axis_name)


class Batch(struct.PyTreeNode, Shared):
    """The examples of one step.

    images:  [b, ...] floats in the data's scale ([-1, 1] for images)
    index:   [b] position of each example in the whole batch, over all devices
    labels:  [b] integers, or None
    weights: [b] weights of the real examples in the discriminator's loss, mean 1, or None
    mask:    [b, ...] above .5 where a value was observed, or None (for imputation)
    fake_labels: [b] labels of the examples to generate, or None; set by the turn (`gan.turns`)
    axis_name:   of the devices that share the batch under pmap, or None; set by the turn or step"""

    images: Float[Array, "b *shape"]
    index: Int[Array, "b"]
    labels: Int[Array, "b"] | None = None
    weights: Float[Array, "b"] | None = None
    mask: Array | None = None
    fake_labels: Int[Array, "b"] | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)


def split_batch(batch: Batch, parts: int) -> Batch:
    """[parts * b, ...] -> [parts, b, ...]: example j goes to part j % parts, at place j // parts,
    and stays on its device. Raises UserError where the batch does not divide."""
    n = len(batch.index)
    if n % parts:
        raise UserError(f"{n} examples cannot be dealt in {parts} equal parts: give a multiple")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(n // parts, parts, *x.shape[1:]), 1, 0), batch)


def to_unit(images: Array, dtype="float32") -> Float[Array, "b *shape"]:
    """uint8 0 ... 255 as floats in [-1, 1]; points and tables keep their own scale."""
    return images.astype(dtype) / 127.5 - 1 if images.dtype == jnp.uint8 else images.astype(dtype)


class Feed(struct.PyTreeNode):
    """A training set on the device. images: [N, ...]; labels, weights: [N] or None; mask: [N, ...]
    or None. key: the PRNG key of their order (`data.order`). size: how many of them are used, a
    leaf, so that one compiled program trains on the first 100, 300 or 1,000."""

    images: Array
    labels: Array | None
    size: Int[Array, ""]
    key: jax.Array
    weights: Float[Array, "n"] | None = None
    mask: Array | None = None


class Window(struct.PyTreeNode):
    """The streamed examples of the next steps, in the place of a `Feed`. images: [steps, b, ...];
    labels: [steps, b] or None; first: the step of the first batch. Inside the scan: one step's,
    without the first axis; first is then that step."""

    images: Array
    labels: Array | None
    first: Int[Array, ""]
