"""The layout of a population: how many devices share each member's batch, and how many members one
program holds.

    first_layout(12, 8, (1, 2, 4, 8))             Layout: 8 groups x 1 device, at most 2 members each
    fit_memory(layout, measure, free)       the first layout whose program fits the free memory

One device for each member says nothing to the others, so that is taken wherever a member fits and
no device would idle. The bytes are those of compiled programs: the planner itself knows numbers
only.
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
from gan_jax.training.placement import AXIS, place

GIB = 2**30


@dataclass(frozen=True)
class Layout:
    """
    members:    of the group that is trained
    devices:    over which they are spread
    possible:   numbers of devices that may share a member's batch, ascending
    per_member: those that do
    size:       members in one program, at most
    """

    members: int
    devices: int
    possible: tuple[int, ...]
    per_member: int
    size: int

    @property
    def groups(self) -> int:
        """Groups of devices."""
        return self.devices // self.per_member

    @property
    def each(self) -> int:
        """Members that each group of devices holds, at most."""
        return -(-self.size // self.groups)

    def holding(self, size: int) -> Layout:
        """In programs of at most `size` members, as equal as can be."""
        programs = -(-self.members // max(1, min(size, self.members)))
        return replace(self, size=-(-self.members // programs))

    def smaller(self, need: int, free: int) -> Layout:
        """The next to try where a program of this layout needs more bytes on each device than are
        free: fewer members on each device, and of one alone a smaller share of its batch. Raises
        UserError where there is none."""
        if self.each > 1:
            return self.holding(max(1, min(self.each - 1, int(self.each * free / need))) * self.groups)
        if more := [n for n in self.possible if n > self.per_member]:
            shared = replace(self, per_member=more[0])
            return shared.holding(min(self.size, shared.groups))
        on = f" on each of {self.per_member} devices" if self.per_member > 1 else ""
        raise UserError(
            f"needs {need / GIB:.2f} GiB{on}, and {free / GIB:.2f} GiB are free: use a smaller batch, network or data set"
        )

    def describe(self, batch_size: int, need: int, free: int) -> str:
        """In one line: "4 members on 8 devices: 4 groups x 2 devices, 1 member each, batch 64 = 2 x
        32; ..."."""
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
    """Numbers of devices that may share a batch: 1, and those that divide the devices and the batch
    (in so many parts)."""
    return tuple(n for n in range(1, devices + 1) if n == 1 or not (devices % n or batch_size % (n * accumulate)))


def first_layout(members: int, devices: int, possible: tuple[int, ...], most: int | None = None, idle: bool = False) -> Layout:
    """The layout to try first: a device for each member, or several where devices would be idle
    otherwise.

    possible: numbers of devices that may share a batch, ascending; most: members in one program, as
        many as there are if None.
    idle: devices may be: those of a CPU share its cores, so that one of them works with all.
    """
    size = min(most or members, members)
    whole = [n for n in possible if n <= max(1, 1 if idle else devices // size)]
    return Layout(members, devices, possible, (whole or possible)[-1 if whole else 0], size).holding(size)


def fit_memory(layout: Layout, measure: Callable[[Layout], int], free: int) -> Layout:
    """This layout or the first smaller one whose program needs no more than `free` bytes on each
    device.

    measure: bytes on each device that a layout's program needs. Raises UserError where all devices
        together hold no member.
    """
    while (need := measure(layout)) > free:
        layout = layout.smaller(need, free)
    return layout


# ---- games -------------------------------------------------------------------------------------


def batch_size_of(game: Game, knobs: Any) -> int:
    """Examples of one player's turn, over all devices."""
    return getattr(knobs, "batch_size", None) or game.examples(knobs)


def abstract_batch(game: Game, knobs: Any, data: Any) -> Batch:
    """The shapes of what a step takes of these data (a Splits)."""
    size = game.examples(knobs)
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    images: Any = jax.ShapeDtypeStruct((size, *data.image_shape), game.dtype(knobs))
    return Batch(images, index, None if data.train.labels is None else index)  # pyright: ignore[reportArgumentType]


def takes_device_means(game: Game, knobs: Any, data: Any) -> bool:
    """Whether the game's step takes means over the devices that share a batch. Otherwise each would
    train on its own share."""
    step = lambda key, batch: game.step(knobs, game.init(knobs, key), batch, AXIS)
    try:
        jax.eval_shape(step, jax.random.key(0), abstract_batch(game, knobs, data))
    except NameError as error:  # of an axis that nobody has named here: the step asked for it
        if AXIS in str(error):
            return True
        raise
    return False


def possible_shares(game: Game, knobs: Any, data: Any, devices: int, per_member: int | None = None) -> tuple[int, ...]:
    """Numbers of devices that may share a batch of this game: `per_member` alone where it is given.

    Raises UserError where that does not divide the devices or the batch, or the game's step is of
    one device.
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
