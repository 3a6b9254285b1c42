"""A population: members of one structure (a recipe, a seed and a number of training images each),
stacked into one program.

The devices share the members out. On each device the members run side by side (vmap), or on a CPU
one after the other: its caches hold one member and not twenty, so that costs less time, and the
memory of one member's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.core.batch import Feed
from gan_jax.core.game import Game
from gan_jax.core.text import shorten
from gan_jax.gan.state import warm_started
from gan_jax.training.chunk import chunk
from gan_jax.training.placement import Placement

SHARE = 0.8  # of the free memory that a program may plan with
AT_ONCE = 1000  # steps times members that one of several CPU devices takes in one call


@dataclass(frozen=True)
class Member:
    """One run of a sweep: a setting's recipe, its seed, and how many training images it sees."""

    setting: str
    recipe: Any
    seed: int
    n: int

    @property
    def description(self) -> str:
        """The member in one line."""
        return f"{shorten(self.setting, 60)}, n {self.n}, seed {self.seed}"


def by_structure(members: Sequence[Member]) -> list[list[int]]:
    """The members' indices, grouped by what their recipes compile to, in order of first
    appearance."""
    groups: dict[Any, list[int]] = {}
    for i, member in enumerate(members):
        leaves, tree = jax.tree.flatten(member.recipe)
        groups.setdefault((tree, tuple((np.shape(x), np.asarray(x).dtype) for x in leaves)), []).append(i)
    return list(groups.values())


# ---- functions of one member, mapped over all -----------------------------------------------------


def batched(tree: Any) -> Any:
    """True for every leaf: members lie on its first axis."""
    return jax.tree.map(lambda _: True, tree)


def unbatched(tree: Any) -> Any:
    """False for every leaf: all members see the same."""
    return jax.tree.map(lambda _: False, tree)


def batched_feed(feed: Feed) -> Feed:
    """Members share the examples; each may have its own number of them and its own order."""
    return unbatched(feed).replace(size=bool(np.ndim(feed.size)), key=bool(feed.key.ndim))


def map_members(function: Callable, owned: tuple, placement: Placement) -> Callable:
    """`function` of one member, for all of them.

    owned: for each argument a pytree of bools, true for leaves with members on their first axis.
    The results have members on the first axis. Their number is a multiple of the placement's
    groups, which share them out.
    """
    devices = placement.devices
    apply = _in_turn if devices[0].platform == "cpu" else _side_by_side
    flags, tree = jax.tree.flatten(owned)

    def whole(*args):
        leaves = tree.flatten_up_to(args)
        run = lambda *leaves: apply(lambda *member: function(*tree.unflatten(member)), flags, leaves)
        if len(devices) == 1:
            return run(*leaves)
        specs = tuple(placement.members_spec if flag else P() for flag in flags)
        return jax.shard_map(run, mesh=placement.mesh, in_specs=specs, out_specs=placement.members_spec, check_vma=False)(
            *leaves
        )

    return whole


def _side_by_side(function, flags, leaves):
    return jax.vmap(function, tuple(0 if flag else None for flag in flags))(*leaves)


def _in_turn(function, flags, leaves):
    def one(member):
        mine = iter(member)
        return function(*(next(mine) if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)))

    return jax.lax.map(one, [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag])


def population_chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed, alive: Any) -> tuple:
    """`chunk` over members: knobs, state (but `step`) and alive have them on the first axis; the
    feed as `batched_feed` says.

    Returns (state, good [members, length], {name: [members, length]}). A member that is not finite
    freezes alone.
    """
    step = state.step

    def one(knobs, state, feed, alive):
        state, good, metrics = chunk(game, length, placement.member, knobs, state.replace(step=step), feed, alive)
        return state.replace(step=None), good, metrics

    state = state.replace(step=None)
    each = map_members(one, (batched(knobs), batched(state), batched_feed(feed), True), placement)
    state, good, metrics = each(knobs, state, feed, alive)
    return state.replace(step=step + length), good, metrics


# ---- populations ---------------------------------------------------------------------------------


class Population:
    """Members of one structure on the placement's devices: state, knobs and feed stacked, and the
    programs that run them.

    feed: the shared examples, and the key of their order: a scalar, or one for each member. `size`
    becomes the members' n, one for each where they differ or where it has an axis (so that parts
    with equal and with different n share a program). Where the members do not divide among the
    groups of devices the last is repeated; `count` are real.
    origin: the state whose networks every member begins with (see `train.networks`); fresh ones
        when None.
    """

    def __init__(self, game: Game, placement: Placement, members: Sequence[Member], feed: Feed, origin: Any = None):
        self.game, self.placement, self.count = game, placement, len(members)
        self.origin = jax.device_put(origin, self.sharding(False))
        members = [*members, *[members[-1]] * (-len(members) % placement.groups)]
        self.knobs = self.put(jax.tree.map(lambda *x: np.stack(x), *(member.recipe for member in members)))
        self.keys = self.put(jnp.stack([jax.random.key(member.seed) for member in members]))
        sizes = np.array([member.n for member in members], np.int32)
        key = feed.key if feed.key.ndim == 0 else self.put(feed.key[jnp.minimum(jnp.arange(len(members)), self.count - 1)])
        same = not feed.size.ndim and (sizes == sizes[0]).all()
        self.feed = feed.replace(size=jnp.int32(sizes[0]) if same else self.put(jnp.asarray(sizes)), key=key)
        self.alive = self.put(jnp.ones(len(members), bool))

    def sharding(self, members: bool = True) -> NamedSharding | None:
        """Each group of devices its share of the members, or all of it; None on one device."""
        one = len(self.placement.devices) == 1
        return None if one else NamedSharding(self.placement.mesh, self.placement.members_spec if members else P())

    def put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.sharding())

    def _init(self, knobs, keys, origin):
        def fresh(knobs, key, origin):
            state = self.game.init(knobs, key)
            return state if origin is None else warm_started(state, origin)

        state = map_members(fresh, (batched(knobs), True, unbatched(origin)), self.placement)(knobs, keys, origin)
        return state.replace(step=jnp.int32(0))

    def init_arguments(self) -> tuple:
        """The arguments of the program that makes the first state."""
        return self.knobs, self.keys, self.origin

    def like(self) -> Any:
        """The state, as shapes where they lie."""
        state = jax.eval_shape(self._init, *self.init_arguments())
        place = lambda x, members: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding(members))
        return jax.tree.map(lambda x: place(x, True), state.replace(step=None)).replace(step=place(state.step, False))

    def saved(self, state: Any, alive: Any) -> tuple[Any, Any]:
        """What a checkpoint holds: the real members, so that it fits any number of devices."""
        real = lambda tree: jax.tree.map(lambda x: x[: self.count], tree)
        return real(state.replace(step=None)).replace(step=state.step), real(alive)

    def restored(self, state: Any, alive: Any) -> tuple[Any, Any]:
        """The inverse of `saved`: the last member repeated to fill the groups of devices."""
        rows = jnp.minimum(jnp.arange(len(self.alive)), self.count - 1)
        fill = lambda tree: self.put(jax.tree.map(lambda x: x[rows], tree))
        return fill(state.replace(step=None)).replace(step=jax.device_put(state.step, self.sharding(False))), fill(alive)

    def steps_per_call(self, length: int) -> int:
        """How many of `length` steps one call takes: all, but on several CPU devices its largest
        divisor of few steps.

        There XLA keeps something of every large product of matrices until the call returns: a tenth
        to a third of a MiB for a step of a member, gigabytes in thousands of steps. (A length with
        small divisors alone stays whole.)
        """
        most = AT_ONCE // (len(self.alive) // self.placement.groups)
        if len(self.placement.devices) == 1 or self.placement.devices[0].platform != "cpu" or length <= most:
            return length
        return max((n for n in range(most // 10 + 1, most + 1) if length % n == 0), default=length)

    def chunk(self, length: int) -> Any:
        """`length` steps, traced: (knobs, state, feed, alive) -> (state, good, metrics)."""
        chunk = jax.jit(partial(population_chunk, self.game, length, self.placement), donate_argnums=1)
        return chunk.lower(self.knobs, self.like(), self.feed, self.alive)

    def lower(self, length: int, evaluation: tuple | None) -> Programs:
        """The programs that train this population, traced and ready to be compiled.

        length: steps between evaluations. evaluation: the images and labels to evaluate on, see
        `evaluation_sets`.
        """
        shardings = jax.tree.map(lambda x: x.sharding, self.like())
        init = jax.jit(self._init, out_shardings=None if self.sharding() is None else shardings).lower(*self.init_arguments())
        chunk = self.chunk(self.steps_per_call(length))
        if not evaluation or not self.game.evaluate:
            return Programs(init, chunk, None)
        evaluate = jax.jit(self._evaluate).lower(self.knobs, self.like(), jnp.int32(length), evaluation)
        return Programs(init, chunk, evaluate)

    def _evaluate(self, knobs, state, steps, evaluation):
        step = state.step
        one = lambda knobs, state, steps, sets: self.game.evaluate_and_observe(knobs, state.replace(step=step), steps, *sets)
        state = state.replace(step=None)
        each = map_members(one, (batched(knobs), batched(state), False, unbatched(evaluation)), self.placement)
        return each(knobs, state, steps, evaluation)


@dataclass(frozen=True)
class Programs:
    """The three programs of a population: (knobs, keys, origin) -> state; the chunk; and the
    evaluation,

    (knobs, state, steps since the last one, evaluation sets) -> ({name: [members]}, what it changes of the
    state).
    """

    init: Any
    chunk: Any
    evaluate: Any | None

    def compile(self) -> Programs:
        return Programs(self.init.compile(), self.chunk.compile(), self.evaluate and self.evaluate.compile())

    def bytes_needed(self) -> int:
        """Of the largest, once compiled: an evaluation may judge more examples at once than a step
        takes."""
        return max(bytes_needed(program) for program in (self.init, self.chunk, self.evaluate) if program)


def member_state(state: Any, i: int) -> Any:
    """The state of member i as that of a run of its own."""
    step = state.step
    return jax.tree.map(lambda x: x[i], state.replace(step=None)).replace(step=step)


def bytes_needed(compiled: Any) -> int:
    """What a compiled program holds on each device while it runs, as its compiler measured it."""
    m = compiled.memory_analysis()
    return m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes - m.alias_size_in_bytes


def bytes_free(placement: Placement) -> int:
    """What a program may use on each device: four fifths of its free memory; CPU devices share the
    machine's."""
    import psutil

    device = placement.devices[0]
    if stats := device.memory_stats():
        return int(SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))  # of a container
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        statistics = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
        free = min(free, int(text) - int(used.read_text()) + int(statistics.get("inactive_file", 0)))  # a cache gives way
    return int(SHARE * free / len(placement.devices))
