"""Placement: the devices of a batch, of a run's state and of a population's members.

A run has one of three styles, which give the same run up to the order of float additions. 'single'
is one device. 'sharding', the default for several, shards the batch over a mesh and replicates the
state (or shards it too, see `core.sharding`). 'pmap' runs the step with a named axis, each device
on its share.

The members of a population are divided among groups of `Placement.per_member` devices, which
exchange nothing with other groups. In a group of several, each member runs as under 'pmap'.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import NamedSharding, P
from jax.sharding import AxisType, Mesh

from gan_jax.arguments import count
from gan_jax.core import sharding
from gan_jax.core.errors import UserError
from gan_jax.training.distributed import is_key

AXIS = "devices"  # the mesh axis over which a batch is split
MEMBERS = "members"  # the mesh axis over which a population is split


@dataclass(frozen=True)
class Placement:
    """Style 'single', 'sharding' or 'pmap' over these devices.

    per_member: devices that share the batch of each member of a population; neighbours are a group.
    shard: the part of the state that is sharded: 'optimizer', 'parameters' or None.
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
        """The number of groups of devices among which a population's members are divided."""
        return len(self.devices) // self.per_member

    @property
    def members_spec(self) -> P:
        """The partition of arrays with members on their first axis."""
        return P(AXIS if self.per_member == 1 else MEMBERS)

    @property
    def member(self) -> "Placement":
        """The placement of one member of a population, inside its step."""
        return Placement("single" if self.per_member == 1 else "pmap", self.devices[: self.per_member])

    @property
    def local_devices(self) -> tuple:
        """The devices of this process."""
        return tuple(device for device in self.devices if device.process_index == jax.process_index())

    @property
    def spans_hosts(self) -> bool:
        """Whether arrays span several processes. Under pmap each process has its own arrays."""
        return self.style == "sharding" and len(self.local_devices) < len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """A pytree that is the same in every process, on every device; unchanged for one device."""
        if self.style == "single":
            return tree
        if self.style == "pmap":  # on this process's devices, since each call would else copy it there
            return jax.device_put(tree, NamedSharding(Mesh(np.array(self.local_devices), (AXIS,)), P()))
        return self._put(tree, sharding.layout(tree, self.mesh, None))

    def _put(self, tree: Any, where: Any) -> Any:
        """The pytree on the devices. where: the sharding of each leaf."""
        return jax.tree.map(_global_array, tree, where) if self.spans_hosts else jax.device_put(tree, where)

    def layout(self, state: Any) -> Any:
        """The sharding of each leaf of a state (arrays or shapes) between steps, or None."""
        return sharding.layout(state, self.mesh, self.shard) if self.style == "sharding" else None

    def shard_state(self, state: Any) -> Any:
        """The state, placed by `layout`."""
        return self._put(state, self.layout(state)) if self.style == "sharding" else self.replicate(state)

    def constrain(self, state: Any) -> Any:
        """The state inside a compiled program, constrained to `layout` where it is sharded."""
        return jax.lax.with_sharding_constraint(state, self.layout(state)) if self.shard else state

    def wrap_step(self, step: Callable) -> Callable:
        """A game's step, given whole parameters where they are sharded between steps."""
        if not self.shard:
            return step

        def gathered(knobs, state, *args):
            state = jax.lax.with_sharding_constraint(state, sharding.layout(state, self.mesh, "optimizer"))
            with sharding.gathering(self.mesh):
                return step(knobs, state, *args)

        return gathered

    def describe(self, batch_size: int, accumulate: int = 1) -> str:
        """The division of a player's batch in words: "64 examples = 8 devices x 4 parts x 2"."""
        n = len(self.devices)
        parts = f" x {accumulate} parts" if accumulate > 1 else ""
        return f"{batch_size} examples = {n} device{'s'[: n > 1]}{parts} x {batch_size // n // accumulate}"

    def shard_batches(self, x: np.ndarray) -> Any:
        """This process's part [steps, b, ...] of whole batches, each example on its device."""
        if self.style == "sharding":
            return jax.make_array_from_process_local_data(NamedSharding(self.mesh, P(None, AXIS)), x)
        if self.style == "pmap":
            return x.reshape(len(x), len(self.local_devices), -1, *x.shape[2:])
        return jnp.asarray(x)


def _global_array(x: Any, where: NamedSharding) -> jax.Array:
    """An array that every process holds whole, as one array over the devices of all processes."""
    if isinstance(x, jax.Array) and x.sharding.is_equivalent_to(where, x.ndim):
        return x
    if is_key(x):
        return jax.random.wrap_key_data(_global_array(jax.random.key_data(x), where), impl=jax.random.key_impl(x))
    value = np.asarray(x)
    return jax.make_array_from_callback(value.shape, where, lambda index: value[index])


def place(
    devices: int = 1, style: str = "sharding", batch_size: int | None = None, accumulate: int = 1, shard: str | None = None
) -> Placement:
    """The placement on the first `devices` devices, equally many of each process.

    style: 'sharding' or 'pmap'. shard: the part of the state that 'sharding' shards too:
        'optimizer', 'parameters' or None.
    batch_size: of one player's turn, over all devices. accumulate: the number of parts in which
        each device takes its share of the batch.
    Raises UserError for an unknown style, for more devices than there are, for a batch that does
    not divide among the devices, and for devices that do not divide among the processes.
    """
    devices = count(devices, "devices")
    if not isinstance(style, str) or style not in ("sharding", "pmap"):
        raise UserError(f"unknown way to use several devices {style!r}: use 'sharding' or 'pmap'")
    if not (shard is None or (isinstance(shard, str) and shard in sharding.SHARDED)):
        known = " or ".join(map(repr, sharding.SHARDED))
        raise UserError(f"unknown part of the state to shard {shard!r}: use {known}, or None")
    if shard and style != "sharding":
        raise UserError(f"shard={shard!r} splits the state by placement: use parallel='sharding', not {style!r}")
    found = jax.devices()
    if devices > len(found):
        there = "this machine has" if jax.process_count() == 1 else "all hosts have"
        raise UserError(f"{devices} devices asked for: {there} {len(found)} ({found[0].platform})")
    if batch_size is not None and batch_size % (devices * accumulate):
        parts = f" in {accumulate} parts each" if accumulate > 1 else ""
        among = f"{devices} device{'s'[: devices > 1]}{parts}"
        raise UserError(f"a batch of {batch_size} does not divide among {among}: give a multiple of {devices * accumulate}")
    return Placement(style if devices > 1 else "single", _first(found, devices), shard=shard if devices > 1 else None)


def _first(found: list, devices: int) -> tuple:
    """Equally many devices of each process, since the processes read equal shares of a batch."""
    processes = jax.process_count()
    if devices % processes:
        raise UserError(f"{devices} devices do not divide among {processes} processes: give a multiple of {processes}")
    each = [[d for d in found if d.process_index == p][: devices // processes] for p in range(processes)]
    if fewest := next((own for own in each if len(own) < devices // processes), None):
        raise UserError(f"{devices} devices asked for: process {fewest[0].process_index} has only {len(fewest)}")
    return tuple(device for own in each for device in own)
