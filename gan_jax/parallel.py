"""Many steps, many devices: a chunk is a scan over steps; a placement says on which devices each batch lies.

One device; `sharding`: the batch is split over a mesh by placement, the state is replicated, and the step is unchanged
(the default for several devices); `pmap`: the same step with a named axis, each device on its share. All three give the
same run up to the order of float additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.draws import order
from gan_jax.errors import UserError
from gan_jax.game import Batch, Feed, Game, to_unit

AXIS = "devices"


@dataclass(frozen=True)
class Placement:
    """Where a batch lies: style 'single', 'sharding' or 'pmap', over these devices."""

    style: str
    devices: tuple

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))

    def replicate(self, tree: Any) -> Any:
        """The pytree on every device of the mesh (as it is for the other styles)."""
        return jax.device_put(tree, NamedSharding(self.mesh, P())) if self.style == "sharding" else tree


def place(devices: int = 1, style: str = "sharding", batch_size: int | None = None) -> Placement:
    """The placement on the first `devices` devices.

    Raises UserError for an unknown style, more devices than there are, or a batch that does not divide among them.
    """
    if style not in ("sharding", "pmap"):
        raise UserError(f"unknown way to use several devices {style!r}: use 'sharding' or 'pmap'")
    here = jax.devices()
    if not 1 <= devices <= len(here):
        raise UserError(f"{devices} devices asked for: this machine has {len(here)} ({here[0].platform})")
    if batch_size is not None and batch_size % devices:
        raise UserError(
            f"a batch of {batch_size} does not divide among {devices} devices: change the batch size or the devices"
        )
    return Placement(style if devices > 1 else "single", tuple(here[:devices]))


def take(feed: Feed, step: jax.Array, examples: int, dtype: str, placement: Placement) -> Batch:
    """The batch of this step (this device's share of it under pmap), gathered on the device."""
    index = jnp.arange(examples)
    if placement.style == "pmap":
        share = examples // len(placement.devices)
        index = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
    if placement.style == "sharding":  # without it the latents, and so the whole generator, would be replicated
        index = jax.lax.with_sharding_constraint(index, NamedSharding(placement.mesh, P(AXIS)))
    rows = jax.vmap(order, (None, 0, None))(feed.key, step * examples + index, feed.size)
    labels, weights, mask = jax.tree.map(lambda x: x[rows], (feed.labels, feed.weights, feed.mask))
    return Batch(to_unit(feed.images[rows], dtype), index, labels, weights, mask)


def all_finite(metrics: dict) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(v).all() for v in metrics.values()]))


def chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed) -> tuple[Any, dict]:
    """`length` steps in one scan. Returns the state and the metrics of each step, {name: [length]}.

    At the first step whose metrics are not all finite the state stays as it was before that step.
    """
    examples, dtype = game.examples(knobs), game.dtype(knobs)
    axis_name = AXIS if placement.style == "pmap" else None

    def one(carry, _):
        state, alive = carry
        new, metrics = game.step(knobs, state, take(feed, state.step, examples, dtype, placement), axis_name)
        alive &= all_finite(metrics)
        return (jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, state), alive), metrics

    (state, _), metrics = jax.lax.scan(one, (state, jnp.bool_(True)), length=length)
    return state, metrics


@lru_cache(maxsize=64)
def compiled_chunk(game: Game, length: int, placement: Placement):
    """`chunk` as one program: (knobs, state, feed) -> (state, metrics). The state given is used up (donated)."""
    function = partial(chunk, game, length, placement)
    if placement.style == "pmap":
        many = jax.pmap(
            lambda place, *args: function(*args),
            AXIS,
            in_axes=(0, None, None, None),
            out_axes=None,
            devices=placement.devices,
        )
        return partial(many, np.arange(len(placement.devices)))  # pmap wants one argument that is split
    return jax.jit(function, donate_argnums=1)
