"""What the devices of a compiled program say to each other: its collective operations, counted from
its text.

    program = compiled_steps(recipe, feed, place(8))
    totals(collectives(program))     {"all-reduce": Total(operations=3, bytes=40_296)}

What is seen (jax 0.12 on CPUs, two players without batch norm): under `pmap` one operation for each
player's move, whatever its depth, whose bytes are those of its parameters, once; the scalars that
are logged travel with them. By placement (`sharding`) the compiler puts them in: also one for each
player, but a gradient that is the sum of several passes (D's, over reals and over fakes) is reduced
pass by pass before it is added, so that D's bytes are those of its parameters times its passes.
With `judge_together` D's are its parameters' once, but reals and fakes are sent about, to lie in
one row. Batch norm in training adds its own in each layer and direction: statistics cannot wait.
The compiler of TPUs adds before it reduces (v5e, 8 chips, libtpu 0.0.50, compiled without one): by
placement D's 871,936 bytes of the article's DCGAN are reduced once and G's 5,788,684 once, each
player's in one operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.core.batch import Feed
from gan_jax.core.game import Game
from gan_jax.gan.game import game_of
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.placement import Placement

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")
_OPERATION = re.compile(rf" = (\(.*\)|\S+) ({'|'.join(KINDS)})(-done)?\(")  # the -start of a pair has its operands in its type
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_EXPLICIT = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{((?:'[^']*'(?:, ?)?)+)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
    """One operation: its kind, the (dtype, shape) of each array that it makes, and how often one
    call of the program runs it.

    times: loops of a known length count their turns; those of a length that the data decide, once,
    and `counted` is False. Both branches of a condition (a lazy penalty's) count.
    groups: of devices that speak with each other, by their places in the program's list; none where
    the text names none, which are all devices.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    times: int = 1
    counted: bool = True
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def bytes(self) -> int:
        """Of all arrays that it makes, once."""
        return sum(_size(*array) for array in self.arrays)

    def sent(self, devices: int) -> float:
        """Bytes that each of so many devices sends, once, on a ring: of an all-reduce 2 (N - 1) / N
        times those that it makes (Patarasuk & Yuan, 2009), N - 1 times of a reduce-scatter, once of
        a permutation, (N - 1) / N times of the others."""
        share = (devices - 1) / devices
        factors = {"all-reduce": 2 * share, "reduce-scatter": devices - 1.0, "collective-permute": 1.0}
        return self.bytes * factors.get(self.kind, share)


class Total(NamedTuple):
    """Of one kind, in one call of the program."""

    operations: int
    bytes: int


def collectives(program: jax.stages.Compiled | str) -> list[Collective]:
    """The collective operations of a compiled program, or of its HLO text, in the order of the
    text."""
    found: dict[str, list[Collective]] = {}
    calls: dict[str, list[tuple[str, int | None]]] = {}
    entry = here = ""
    for line in (program if isinstance(program, str) else program.as_text() or "").splitlines():
        if header := _HEADER.match(line):
            here = header[2]
            entry = here if header[1] else entry
            found[here], calls[here] = [], []
        elif here and line.startswith(" "):
            if operation := _OPERATION.search(line):
                found[here].append(Collective(operation[2], _arrays(operation[1]), groups=_groups(line)))
            calls[here] += _calls(line)
    times = _times(calls, entry)
    return [c._replace(times=n, counted=known) for name, (n, known) in times.items() for c in found[name]]


def totals(operations: Iterable[Collective]) -> dict[str, Total]:
    """{kind: how many operations one call of the program runs, and the bytes that they make}."""
    sums: dict[str, Total] = {}
    for one in operations:
        so_far = sums.get(one.kind, Total(0, 0))
        sums[one.kind] = Total(so_far.operations + one.times, so_far.bytes + one.times * one.bytes)
    return sums


def compiled_steps(
    knobs: Any, feed: Feed, placement: Placement, steps: int = 1, game: Game | None = None
) -> jax.stages.Compiled:
    """`steps` steps of training as `fit` compiles them, from shapes alone: nothing is trained or
    copied to the devices.

    `.cost_analysis()["flops"]` of it are one device's; `.memory_analysis()` its bytes;
    `collectives` reads what it exchanges.
    """
    game = game_of(knobs, game)
    shapes = jax.eval_shape(lambda *x: x, game_state(knobs, game), feed)
    program = compiled_chunk(game, steps, placement)
    if isinstance(program, partial):  # pmap: the split argument is bound
        return program.func.lower(*program.args, knobs, *shapes).compile()
    if placement.style == "sharding":
        everywhere = NamedSharding(placement.mesh, P())
        lie = placement.layout(shapes[0]), jax.tree.map(lambda _: everywhere, shapes[1])
        shapes = jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, lie)
    return program.lower(knobs, *shapes).compile()


def game_state(knobs: Any, game: Game) -> Any:
    """The shapes of a fresh state."""
    return jax.eval_shape(game.init, knobs, jax.eval_shape(lambda: jax.random.key(0)))


# ---- the text ----------------------------------------------------------------------------------


def _arrays(kind: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(int(n) for n in shape.split(",") if n)) for name, shape in _ARRAY.findall(kind))


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    bits = re.search(r"\d+", dtype)
    count = 1
    for n in shape:
        count *= n
    return count * (int(bits[0]) if bits else 8) // 8


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _groups(line: str) -> tuple[tuple[int, ...], ...]:
    """The devices of an instruction, in any of the spellings: {{0,1},{2,3}}, [2,2]<=[4],
    [2,2]<=[2,2]T(1,0), mesh['a'=2,'b'=2] {'b'}."""
    if listed := _EXPLICIT.search(line):
        return tuple(tuple(_numbers(group)) for group in re.findall(r"\{([\d, ]*)\}", listed[1]))
    if iota := _IOTA.search(line):
        shape, order = _numbers(iota[2]), _numbers(iota[3] or "")
        places = np.arange(np.prod(shape)).reshape(shape).transpose(order or None).reshape(_numbers(iota[1]))
    elif axes := _AXES.search(line):
        mesh = dict(re.findall(r"'([^']*)'=(\d+)", axes[1]))
        named = [name for name in mesh if f"'{name}'" in axes[2]]
        others = [name for name in mesh if name not in named]
        shape, order = [int(n) for n in mesh.values()], [list(mesh).index(name) for name in others + named]
        size = int(np.prod([int(mesh[name]) for name in named]))
        places = np.arange(np.prod(shape)).reshape(shape).transpose(order).reshape(-1, size)
    else:
        return ()
    return tuple(tuple(row) for row in places.tolist())


def _calls(line: str) -> list[tuple[str, int | None]]:
    """(computation, turns) that an instruction runs; None for turns that the data decide."""
    names = _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
        names += [name.strip().lstrip("%") for name in branches.split(",")]
    if " while(" not in line:
        return [(name, 1) for name in names]
    known = _TRIPS.search(line)
    return [(name, int(known[1]) if known else None) for name in names]


def _times(calls: dict, entry: str) -> dict[str, tuple[int, bool]]:
    """{computation: (how often a call of the entry runs it, whether that is known)}, in the order
    of `calls`."""
    times, known = dict.fromkeys(calls, 0), dict.fromkeys(calls, True)

    def run(name: str, n: int, sure: bool) -> None:
        times[name] += n
        known[name] &= sure
        for called, turns in calls[name]:
            if called in calls:
                run(called, n * (turns or 1), sure and turns is not None)

    if entry:
        run(entry, 1, True)
    return {name: (n, known[name]) for name, n in times.items() if n}
