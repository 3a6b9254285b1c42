"""The layout of a group of a sweep: how many devices share each member's batch, and how many
members one program holds.

Members that have one device each need no communication. So each member has one device wherever it
fits there and no device would idle. One `devices_per_member` for the whole sweep could not replace
this choice, because the groups of a sweep need different numbers.
"""

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
    """A group's members on the devices. possible: numbers of devices that may share a batch,
    ascending; per_member: the chosen one. size: members in one program, at most."""

    members: int
    devices: int
    possible: tuple[int, ...]
    per_member: int
    size: int

    @property
    def groups(self) -> int:
        """Number of groups of devices that share a member's batch."""
        return self.devices // self.per_member

    @property
    def each(self) -> int:
        """Members of one program on each group of devices, at most."""
        return -(-self.size // self.groups)

    def with_size(self, size: int) -> "Layout":
        """The same layout with equal programs of at most `size` members."""
        programs = -(-self.members // max(1, min(size, self.members)))
        return replace(self, size=-(-self.members // programs))

    def describe(self, batch_size: int, need: int, free: int) -> str:
        """The layout in one line, as README shows it; need and free are bytes on each device."""
        most = "at most " if self.size % self.groups else ""
        where = f"{_count(self.size, 'member')} on {_count(self.devices, 'device')}"
        members = f"{most}{_count(self.each, 'member')} each"
        if self.per_member > 1:
            groups = f"{_count(self.groups, 'group')} x {_count(self.per_member, 'device')}"
            members = f"{groups}, {members}, batch {batch_size} = {self.per_member} x {batch_size // self.per_member}"
        return f"{where}: {members}; {need / GIB:.2f} of {free / GIB:.2f} GiB a device"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s'[: n != 1]}"


def first_layout(members: int, devices: int, possible: tuple[int, ...], most: int | None = None, idle: bool = False) -> Layout:
    """The layout to try first: one device for each member, or more where devices would idle.

    most: members in one program, None for all. idle: whether devices may idle, as those of a CPU
    may, because they share its cores.
    """
    size = min(most or members, members)
    whole = [n for n in possible if n <= (1 if idle else max(1, devices // size))]
    return Layout(members, devices, possible, whole[-1] if whole else possible[0], size).with_size(size)


def fit_memory(layout: Layout, measure: Callable[[Layout], int], free: int) -> Layout:
    """This layout, or the first smaller one whose program needs at most `free` bytes on each
    device: with fewer members on each or, below one member, with smaller shares of its batch.

    measure: the bytes that a layout's program needs on each device. Raises UserError where all
    devices together cannot hold one member.
    """
    while (need := measure(layout)) > free:
        each, more = layout.each, [n for n in layout.possible if n > layout.per_member]
        if each > 1:
            layout = layout.with_size(max(1, min(each - 1, int(each * free / need))) * layout.groups)
        elif more:
            layout = replace(layout, per_member=more[0])
            layout = layout.with_size(min(layout.size, layout.groups))
        else:
            on = f" on each of {layout.per_member} devices" if layout.per_member > 1 else ""
            sizes = f"{need / GIB:.2f} GiB{on}, and {free / GIB:.2f} GiB are free"
            raise UserError(f"needs {sizes}: use a smaller batch, network or data set")
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
    """Whether the game's step averages over the devices that share a batch. Without such means each
    device would train on its own share."""
    step = lambda key, batch: game.step(knobs, game.init(knobs, key), batch, AXIS)
    try:
        jax.eval_shape(step, jax.random.key(0), abstract_batch(game, knobs, data))
    except NameError as error:  # the step asked for the axis, which has no name here
        if AXIS in str(error):
            return True
        raise
    return False


def shares(devices: int, batch_size: int, accumulate: int = 1) -> tuple[int, ...]:
    """Numbers of devices that may share a batch: 1, and those that divide the devices and each of
    the batch's `accumulate` parts."""
    return tuple(n for n in range(1, devices + 1) if n == 1 or not (devices % n or batch_size % (n * accumulate)))


def possible_shares(game: Game, knobs: Any, data: Splits, devices: int, per_member: int | None = None) -> tuple[int, ...]:
    """Numbers of devices that may share a batch of this game, or `per_member` alone.

    Raises UserError where `per_member` does not divide the devices or the batch, or the game's step
    does not average over devices.
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
