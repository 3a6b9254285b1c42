"""A population: members of one structure (a recipe, a seed and a number of training images each),
stacked into one program.

The devices share the members out. The members of one device run side by side (vmap), or on a CPU
one after the other, which is faster because its caches hold one member and not twenty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.arguments import count, refuse, seed
from gan_jax.core.batch import Feed
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.data.splits import Splits
from gan_jax.gan.state import State, warm_started
from gan_jax.text import shorten
from gan_jax.training.chunk import chunk
from gan_jax.training.placement import Placement

SHARE = 0.8  # part of the free memory that a program may take
MOST = 100_000  # seeds, where their number is given
AT_ONCE = 1000  # steps times members that each of several CPU devices takes in one call


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


def members_of(settings: dict[str, Any], data: Splits, seeds: int | Sequence[int], sizes: Sequence[int] | None) -> list[Member]:
    """Settings x sizes x seeds. Raises UserError where one of the three is empty, for a seed or
    size that is given twice, and for a size that the data do not have."""
    many = isinstance(seeds, Iterable) and not isinstance(seeds, (str, bytes, Mapping))
    given: Any = seeds if many else range(count(seeds, "seeds", most=MOST))
    seeds = [seed(value) for value in given]
    if sizes is not None and (not isinstance(sizes, Iterable) or isinstance(sizes, (str, bytes, Mapping))):
        refuse(sizes, "sizes", "a list of numbers of training images, such as [100, 200]")
    sizes = [len(data.train)] if sizes is None else [count(n, "size") for n in sizes]
    if not seeds or not sizes:
        raise UserError(f"{len(seeds)} seeds and {len(sizes)} sizes make no member: give at least one of each")
    for what, values in {"seed": seeds, "size": sizes}.items():
        if repeated := [v for v in values if values.count(v) > 1]:
            raise UserError(f"{what} {repeated[0]} is there twice: give each once")
    for n in sizes:
        data.subset(n)  # refuses what the data do not have
    return [Member(name, recipe, one, n) for name, recipe in settings.items() for n in sizes for one in seeds]


def listed(names: Iterable[str]) -> str:
    """Names for a message, long ones shortened."""
    return ", ".join(shorten(name, 60) for name in names)


def by_structure(members: Sequence[Member]) -> list[list[int]]:
    """The members' indices, grouped by the program that their recipes compile to."""
    groups: dict[Any, list[int]] = {}
    for i, member in enumerate(members):
        leaves, tree = jax.tree.flatten(member.recipe)
        groups.setdefault((tree, tuple((np.shape(x), np.asarray(x).dtype) for x in leaves)), []).append(i)
    return list(groups.values())


def batched(tree: Any) -> Any:
    """True for every leaf, whose first axis is that of the members."""
    return jax.tree.map(lambda _: True, tree)


def map_members(function: Callable, owned: tuple, placement: Placement) -> Callable:
    """`function` of one member, mapped over all members, which are the first axis of its results.
    Their number is a multiple of `placement.groups`, the number of groups of devices.

    owned: for each argument a bool, or a pytree of bools that is its prefix: true for leaves with
    members on their first axis, false for leaves that all members share.
    """
    devices = placement.devices
    apply = _in_turn if devices[0].platform == "cpu" else _side_by_side

    def whole(*args):
        leaves, tree = jax.tree.flatten(args)
        flags = jax.tree.leaves(jax.tree.broadcast(owned, args))
        run = lambda *leaves: apply(lambda *member: function(*tree.unflatten(member)), flags, leaves)
        if len(devices) > 1:
            specs = tuple(placement.members_spec if flag else P() for flag in flags)
            run = jax.shard_map(run, mesh=placement.mesh, in_specs=specs, out_specs=placement.members_spec, check_vma=False)
        return run(*leaves)

    return whole


def _side_by_side(function, flags, leaves):
    return jax.vmap(function, tuple(0 if flag else None for flag in flags))(*leaves)


def _in_turn(function, flags, leaves):
    def one(member):
        mine = iter(member)
        return function(*(next(mine) if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)))

    return jax.lax.map(one, [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag])


def population_chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed, alive: Any) -> tuple:
    """`chunk` over members: (state, finite [members, length], {name: [members, length]} metrics).

    knobs, state (but for its `step`) and alive have members on the first axis, and so may the
    feed's `size` and `key`. A member that is not finite freezes alone.
    """
    step = state.step

    def one(knobs, state, feed, alive):
        state, good, metrics = chunk(game, length, placement.member, knobs, state.replace(step=step), feed, alive)
        return state.replace(step=None), good, metrics

    state = state.replace(step=None)
    of_feed = jax.tree.map(lambda _: False, feed).replace(size=bool(np.ndim(feed.size)), key=bool(feed.key.ndim))
    state, good, metrics = map_members(one, (True, True, of_feed, True), placement)(knobs, state, feed, alive)
    return state.replace(step=step + length), good, metrics


@dataclass(frozen=True)
class Programs:
    """The three programs of a population.

    init: (knobs, keys, origin) -> state
    chunk: (knobs, state, feed, alive) -> see `population_chunk`
    evaluate: (knobs, state, steps since the last evaluation, sets) -> ({name: [members]}, {field of
        the state: its new value}), or None for a game without evaluation
    """

    init: Any
    chunk: Any
    evaluate: Any | None

    def compile(self) -> "Programs":
        return Programs(self.init.compile(), self.chunk.compile(), self.evaluate and self.evaluate.compile())

    def bytes_needed(self) -> int:
        """Bytes that the largest program needs on each device; this may be the evaluation."""
        return max(bytes_needed(program) for program in (self.init, self.chunk, self.evaluate) if program)


class Population:
    """Members of one structure on the placement's devices, with the programs that train them. Where
    their number does not divide among the groups of devices, the last member is repeated; the first
    `count` are real.

    feed: the shared examples, and the key of their order, a scalar or one for each member. Its
    `size` is replaced by the members' n: one number where `size` is a scalar and all n are equal,
    else one for each member. A sweep of several sizes gives `size` an axis in every part, so that
    its parts share a program.
    origin: the networks that every member begins with (see `gan.state.networks`), or None.
    """

    def __init__(self, game: Game, placement: Placement, members: Sequence[Member], feed: Feed, origin: State | None = None):
        self.game, self.placement, self.count = game, placement, len(members)
        self.origin = jax.device_put(origin, self.sharding(False))
        members = [*members, *[members[-1]] * (-len(members) % placement.groups)]
        self.knobs = self.put(jax.tree.map(lambda *x: np.stack(x), *(member.recipe for member in members)))
        self.keys = self.put(jnp.stack([jax.random.key(member.seed) for member in members]))
        self.alive = self.put(jnp.ones(len(members), bool))
        sizes = np.array([member.n for member in members], np.int32)
        key = feed.key if feed.key.ndim == 0 else self.fill(feed.key)
        same = not feed.size.ndim and (sizes == sizes[0]).all()
        self.feed = feed.replace(size=jnp.int32(sizes[0]) if same else self.put(jnp.asarray(sizes)), key=key)

    def sharding(self, members: bool = True) -> NamedSharding | None:
        """Of arrays with members on the first axis, or of shared ones; None on one device."""
        one = len(self.placement.devices) == 1
        return None if one else NamedSharding(self.placement.mesh, self.placement.members_spec if members else P())

    def put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.sharding())

    def fill(self, tree: Any) -> Any:
        """Arrays of the real members, with the last one repeated to fill the groups of devices."""
        rows = jnp.minimum(jnp.arange(len(self.alive)), self.count - 1)
        return self.put(jax.tree.map(lambda x: x[rows], tree))

    def _init(self, knobs, keys, origin):
        def fresh(knobs, key, origin):
            state = self.game.init(knobs, key)
            return state if origin is None else warm_started(state, origin)

        state = map_members(fresh, (True, True, False), self.placement)(knobs, keys, origin)
        return state.replace(step=jnp.int32(0))

    def init_arguments(self) -> tuple:
        """The arguments of the program that makes the first state."""
        return self.knobs, self.keys, self.origin

    def like(self) -> Any:
        """The state's shapes, with their shardings."""
        state = jax.eval_shape(self._init, *self.init_arguments())
        place = lambda x, members: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding(members))
        return jax.tree.map(lambda x: place(x, True), state.replace(step=None)).replace(step=place(state.step, False))

    def saved(self, state: Any, alive: Any) -> tuple[Any, Any]:
        """What a checkpoint holds: the real members, whatever the number of devices."""
        real, alive = jax.tree.map(lambda x: x[: self.count], (state.replace(step=None), alive))
        return real.replace(step=state.step), alive

    def restored(self, state: Any, alive: Any) -> tuple[Any, Any]:
        """The inverse of `saved`."""
        step = jax.device_put(state.step, self.sharding(False))
        return self.fill(state.replace(step=None)).replace(step=step), self.fill(alive)

    def steps_per_call(self, length: int) -> int:
        """How many of `length` steps one call takes: all, but on several CPU devices the largest
        divisor of `length` that `AT_ONCE` allows, if that is over a tenth of what it allows. There
        XLA keeps 0.1 to 0.3 MiB of each step of a member until the call returns."""
        most = AT_ONCE // (len(self.alive) // self.placement.groups)
        if len(self.placement.devices) == 1 or self.placement.devices[0].platform != "cpu" or length <= most:
            return length
        return max((n for n in range(most // 10 + 1, most + 1) if length % n == 0), default=length)

    def chunk(self, length: int) -> Any:
        """`length` steps, traced: (knobs, state, feed, alive) -> (state, good, metrics)."""
        chunk = jax.jit(partial(population_chunk, self.game, length, self.placement), donate_argnums=1)
        return chunk.lower(self.knobs, self.like(), self.feed, self.alive)

    def lower(self, length: int, evaluation: tuple | None) -> Programs:
        """The traced programs that train this population with `length` steps between evaluations.
        evaluation: see `evaluation_sets`."""
        shardings = jax.tree.map(lambda x: x.sharding, self.like())
        init = jax.jit(self._init, out_shardings=None if self.sharding() is None else shardings).lower(*self.init_arguments())
        evaluate = None
        if evaluation and self.game.evaluate:
            evaluate = jax.jit(self._evaluate).lower(self.knobs, self.like(), jnp.int32(length), evaluation)
        return Programs(init, self.chunk(self.steps_per_call(length)), evaluate)

    def _evaluate(self, knobs, state, steps, evaluation):
        step = state.step
        one = lambda knobs, state, steps, sets: self.game.evaluate_and_observe(knobs, state.replace(step=step), steps, *sets)
        each = map_members(one, (True, True, False, False), self.placement)
        return each(knobs, state.replace(step=None), steps, evaluation)


def member_state(state: Any, i: int) -> Any:
    """The state of member i, like that of a single run."""
    return jax.tree.map(lambda x: x[i], state.replace(step=None)).replace(step=state.step)


def bytes_needed(compiled: Any) -> int:
    """Bytes that a compiled program holds on each device, by the compiler's analysis."""
    m = compiled.memory_analysis()
    return m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes - m.alias_size_in_bytes


def bytes_free(placement: Placement) -> int:
    """Bytes that a program may use on each device: four fifths of its free memory, or its share of
    the machine's for a CPU device."""
    import psutil

    device = placement.devices[0]
    if stats := device.memory_stats():
        return int(SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))  # of the container
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        statistics = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
        free = min(free, int(text) - int(used.read_text()) + int(statistics.get("inactive_file", 0)))  # caches give way
    return int(SHARE * free / len(placement.devices))
