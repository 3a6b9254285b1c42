"""Many steps, many devices, many members: a chunk is a scan over steps; a placement says on which
devices each batch lies.

One device; `sharding`: the batch is split over a mesh by placement, the state is replicated, and
the step is unchanged (the default for several devices); `pmap`: the same step with a named axis,
each device on its share. All three give the same run up to the order of float additions. With
`sharding` the state may be split over the devices too (see `zero`).

A population is the same chunk over members stacked on a first axis, in one program: spread over the
devices without a word between them, and on each device side by side (vmap), or on a CPU one after
the other (its caches hold one member, not twenty, so that costs less time and the memory of one
member's activations). Where several devices share each member's batch (`Placement.per_member`) the
members are spread over groups of so many, and inside its group each runs as under `pmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.core import sharding as zero
from gan_jax.core.errors import UserError

AXIS = "devices"  # over which a batch is split


MEMBERS = "members"


@dataclass(frozen=True)
class Placement:
    """Where a batch lies: style 'single', 'sharding' or 'pmap', over these devices.

    per_member: of a population, the devices that share each member's batch; neighbours are a group.
    shard: how much of the state each device holds its share of alone: None, 'optimizer' or
        'parameters'. See `zero`.
    """

    style: str
    devices: tuple
    per_member: int = 1
    shard: str | None = None

    @property
    def mesh(self) -> Mesh:
        if self.per_member == 1:
            return Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        return Mesh(np.reshape(self.devices, (self.groups, -1)), (MEMBERS, AXIS), axis_types=(AxisType.Auto,) * 2)

    @property
    def groups(self) -> int:
        """Groups of devices among which a population's members are spread."""
        return len(self.devices) // self.per_member

    @property
    def spread(self) -> P:
        """How arrays with members on their first axis lie on the mesh."""
        return P(AXIS if self.per_member == 1 else MEMBERS)

    @property
    def member(self) -> Placement:
        """Where one member's batch lies, as its own program sees it."""
        return Placement("single" if self.per_member == 1 else "pmap", self.devices[: self.per_member])

    @property
    def local_devices(self) -> tuple:
        """Those of this process."""
        return tuple(device for device in self.devices if device.process_index == jax.process_index())

    @property
    def spans_hosts(self) -> bool:
        """Whether arrays are placed over the devices of several processes: pmap takes and gives
        each process its own."""
        return self.style == "sharding" and len(self.local_devices) < len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """The pytree, the same in every process, on every device (as it is for one device): under
        pmap on those of this process, which pmap would otherwise copy it to in every call."""
        if self.style == "pmap":
            return jax.device_put(tree, NamedSharding(Mesh(np.array(self.local_devices), (AXIS,)), P()))
        return self._put(tree, NamedSharding(self.mesh, P())) if self.style == "sharding" else tree

    def _put(self, tree: Any, where: Any) -> Any:
        """where: a sharding, or one for each leaf."""
        if not self.spans_hosts:
            return jax.device_put(tree, where)
        return jax.tree.map(_globally, tree, jax.tree.map(lambda _: where, tree) if isinstance(where, NamedSharding) else where)

    def layout(self, state: Any) -> Any:
        """Where each leaf of a state (arrays or shapes) lies between steps; None where its arrays
        lie says it."""
        return zero.layout(state, self.mesh, self.shard) if self.style == "sharding" else None

    def shard_state(self, state: Any) -> Any:
        """The state as `layout` says."""
        return self._put(state, self.layout(state)) if self.style == "sharding" else self.replicate(state)

    def constrain(self, state: Any) -> Any:
        """The same, of a state in a compiled program."""
        return jax.lax.with_sharding_constraint(state, self.layout(state)) if self.shard else state

    def wrap_step(self, step: Callable) -> Callable:
        """A game's step, which is to see whole parameters."""
        if not self.shard:
            return step

        def gathered(knobs, state, *args):
            state = jax.lax.with_sharding_constraint(state, zero.layout(state, self.mesh, "optimizer"))
            with zero.gathering(self.mesh):
                return step(knobs, state, *args)

        return gathered

    def shares(self, batch_size: int, accumulate: int = 1) -> str:
        """How a player's batch is shared out, in words: "64 examples = 8 devices x 4 parts x 2"."""
        n = len(self.devices)
        parts = f" x {accumulate} parts" if accumulate > 1 else ""
        return f"{batch_size} examples = {n} device{'s'[: n > 1]}{parts} x {batch_size // n // accumulate}"

    def share(self, tree: Any) -> Any:
        """This process's arrays [steps, b, ...] of whole batches, each device holding its own
        examples."""
        return jax.tree.map(self._share, tree)

    def _share(self, x: np.ndarray) -> Any:
        if self.style == "sharding":
            return jax.make_array_from_process_local_data(NamedSharding(self.mesh, P(None, AXIS)), x)
        if self.style == "pmap":
            return x.reshape(len(x), len(self.local_devices), -1, *x.shape[2:])
        return jnp.asarray(x)


def _globally(x: Any, where: NamedSharding) -> jax.Array:
    """An array that every process has whole, as one array of all their devices; one that lies so
    already, as it is."""
    if isinstance(x, jax.Array) and x.sharding.is_equivalent_to(where, x.ndim):
        return x
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_globally(jax.random.key_data(x), where), impl=jax.random.key_impl(x))
    value = np.asarray(x)
    return jax.make_array_from_callback(value.shape, where, lambda index: value[index])


def place(
    devices: int = 1,
    style: str = "sharding",
    batch_size: int | None = None,
    accumulate: int = 1,
    shard: str | None = None,
) -> Placement:
    """The placement on the first `devices` devices; of several processes on as many of each.

    batch_size: of one player's turn, over all devices; accumulate: parts in which each device sees
        its share.
    shard: None, 'optimizer' or 'parameters', see `zero`; on one device there is nothing to split.
    Raises UserError for an unknown style, more devices than there are, or a batch that does not
    divide among them (or they among the processes).
    """
    if style not in ("sharding", "pmap"):
        raise UserError(f"unknown way to use several devices {style!r}: use 'sharding' or 'pmap'")
    if shard not in (None, *zero.SHARDED):
        raise UserError(f"unknown part of the state to shard {shard!r}: use {' or '.join(map(repr, zero.SHARDED))}, or None")
    if shard and style != "sharding":
        raise UserError(f"shard={shard!r} splits the state by placement: use parallel='sharding', not {style!r}")
    here = jax.devices()
    if not 1 <= devices <= len(here):
        there = "this machine has" if jax.process_count() == 1 else "all hosts have"
        raise UserError(f"{devices} devices asked for: {there} {len(here)} ({here[0].platform})")
    if batch_size is not None and batch_size % (devices * accumulate):
        parts = f" in {accumulate} parts each" if accumulate > 1 else ""
        among = f"{devices} device{'s'[: devices > 1]}{parts}"
        raise UserError(f"a batch of {batch_size} does not divide among {among}: give a multiple of {devices * accumulate}")
    return Placement(style if devices > 1 else "single", _first(here, devices), shard=shard if devices > 1 else None)


def _first(here: list, devices: int) -> tuple:
    """The first devices, as many of each process, which is how a batch is shared out among
    processes."""
    processes = jax.process_count()
    if devices % processes:
        raise UserError(f"{devices} devices do not divide among {processes} processes: give a multiple of {processes}")
    each = [[d for d in here if d.process_index == p][: devices // processes] for p in range(processes)]
    if fewest := next((own for own in each if len(own) < devices // processes), None):
        raise UserError(f"{devices} devices asked for: process {fewest[0].process_index} has only {len(fewest)}")
    return tuple(device for own in each for device in own)
