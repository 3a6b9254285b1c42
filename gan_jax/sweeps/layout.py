"""The layout of a group of a sweep: how many devices share each member's batch, and how many members
one program holds.

    layout = first_layout(12, 8, (1, 2, 4, 8))    8 groups x 1 device, at most 2 members each
    fit_memory(layout, measure, free)             the first layout whose program fits the free memory

Members on one device each need no communication, so that is taken wherever a member fits and no
device would idle. `devices_per_member` alone could not replace this choice: groups of one sweep need
different numbers, and a member that does not fit on one device would be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.batch import Batch
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.data.splits import Splits
from gan_jax.training.placement import AXIS, place

GIB = 2**30


@dataclass(frozen=True)
class Layout:
    """How a group's members lie on the devices.

    possible: numbers of devices that may share a member's batch, ascending. per_member: how many do.
    size: members in one program, at most.
    """

    members: int
    devices: int
    possible: tuple[int, ...]
    per_member: int
    size: int

    @property
    def groups(self) -> int:
        """Number of groups of devices."""
        return self.devices // self.per_member

    @property
    def each(self) -> int:
        """Members of one program on each group of devices, at most."""
        return -(-self.size // self.groups)

    def with_size(self, size: int) -> Layout:
        """The same with programs of at most `size` members, as equal as can be."""
        programs = -(-self.members // max(1, min(size, self.members)))
        return replace(self, size=-(-self.members // programs))

    def smaller(self, need: int, free: int) -> Layout:
        """The next layout to try where this one's program needs more bytes on each device than are
        free: with fewer members on each device or, below one member, with a smaller share of its
        batch. Raises UserError where there is none."""
        if self.each > 1:
            return self.with_size(max(1, min(self.each - 1, int(self.each * free / need))) * self.groups)
        if more := [n for n in self.possible if n > self.per_member]:
            shared = replace(self, per_member=more[0])
            return shared.with_size(min(self.size, shared.groups))
        on = f" on each of {self.per_member} devices" if self.per_member > 1 else ""
        raise UserError(
            f"needs {need / GIB:.2f} GiB{on}, and {free / GIB:.2f} GiB are free: use a smaller batch, network or data set"
        )

    def describe(self, batch_size: int, need: int, free: int) -> str:
        """In one line: "4 members on 8 devices: 4 groups x 2 devices, 1 member each, batch ..."."""
        most = "at most " if self.size % self.groups else ""
        where = f"{_count(self.size, 'member')} on {_count(self.devices, 'device')}"
        groups = f"{_count(self.groups, 'group')} x {_count(self.per_member, 'device')}"
        batch = f", batch {batch_size} = {self.per_member} x {batch_size // self.per_member}"
        memory = f"{need / GIB:.2f} of {free / GIB:.2f} GiB a device"
        groups, batch = (groups + ", ", batch) if self.per_member > 1 else ("", "")
        return f"{where}: {groups}{most}{_count(self.each, 'member')} each{batch}; {memory}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s'[: n != 1]}"


def shares(devices: int, batch_size: int, accumulate: int = 1) -> tuple[int, ...]:
    """Numbers of devices that may share a batch: 1, and those that divide the devices and each of
    the batch's `accumulate` parts."""
    return tuple(n for n in range(1, devices + 1) if n == 1 or not (devices % n or batch_size % (n * accumulate)))


def first_layout(members: int, devices: int, possible: tuple[int, ...], most: int | None = None, idle: bool = False) -> Layout:
    """The layout to try first: one device for each member, or more where devices would idle.

    possible: see `Layout`. most: members in one program, None for all. idle: whether devices may
    idle, as those of a CPU may: they share its cores.
    """
    size = min(most or members, members)
    whole = [n for n in possible if n <= max(1, 1 if idle else devices // size)]
    return Layout(members, devices, possible, (whole or possible)[-1 if whole else 0], size).with_size(size)


def fit_memory(layout: Layout, measure: Callable[[Layout], int], free: int) -> Layout:
    """This layout, or the first smaller one whose program needs at most `free` bytes on each device.

    measure: the bytes that a layout's program needs on each device. Raises UserError where all
    devices together cannot hold one member.
    """
    while (need := measure(layout)) > free:
        layout = layout.smaller(need, free)
    return layout


def batch_size_of(game: Game, knobs: Any) -> int:
    """Examples of one player's turn, over all devices."""
    return getattr(knobs, "batch_size", None) or game.examples(knobs)


def abstract_batch(game: Game, knobs: Any, data: Splits) -> Batch:
    """The shapes of a batch of these data."""
    size = game.examples(knobs)
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    images: Any = jax.ShapeDtypeStruct((size, *data.image_shape), game.dtype(knobs))
    return Batch(images, index, None if data.train.labels is None else index)  # pyright: ignore[reportArgumentType]


def takes_device_means(game: Game, knobs: Any, data: Splits) -> bool:
    """Whether the game's step averages over the devices that share a batch. If it does not, each
    device would train on its own share."""
    step = lambda key, batch: game.step(knobs, game.init(knobs, key), batch, AXIS)
    try:
        jax.eval_shape(step, jax.random.key(0), abstract_batch(game, knobs, data))
    except NameError as error:  # the step asked for the axis, which has no name here
        if AXIS in str(error):
            return True
        raise
    return False


def possible_shares(game: Game, knobs: Any, data: Splits, devices: int, per_member: int | None = None) -> tuple[int, ...]:
    """Numbers of devices that may share a batch of this game; only `per_member` where it is given.

    Raises UserError where `per_member` does not divide the devices or the batch, or the game's step does
    not average over devices.
    """
    size, parts = batch_size_of(game, knobs), getattr(knobs, "accumulate", 1)
    if per_member is None:
        found = shares(devices, size, parts)
        return found if len(found) > 1 and takes_device_means(game, knobs, data) else (1,)
    if not 1 <= per_member <= devices or devices % per_member:
        raise UserError(f"devices_per_member is {per_member}: give a number that divides the {_count(devices, 'device')}")
    if per_member > 1:
        place(per_member, batch_size=size, accumulate=parts)  # refuses a batch that does not divide
        if not takes_device_means(game, knobs, data):
            raise UserError(f"devices_per_member is {per_member}, but the game's step takes no mean over devices: give 1")
    return (per_member,)
