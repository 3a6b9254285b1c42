"""Training of a population whose members each have their own table, in one program."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.arguments import count
from gan_jax.core.batch import Feed
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import named
from gan_jax.gan.game import game_of
from gan_jax.sweeps.population import batched, map_members
from gan_jax.training.chunk import chunk
from gan_jax.training.placement import Placement, place

Table = tuple[np.ndarray, np.ndarray]  # (values [n, ...], observed [n, ...])
MOST, LEAST = 500, 50  # steps of one call of a program: on a CPU, XLA frees a loop's memory only when the loop ends


def train(
    knobs: Sequence[Any], tables: Sequence[Table], seeds: Sequence[int], *, steps: int, devices: int = 1
) -> tuple[Any, dict[str, np.ndarray]]:
    """Train member i with knobs[i] on tables[i] from seeds[i].

    All members train in one program. The knobs share one structure and the tables one width; their
    numbers of rows may differ. A single element of knobs or tables serves all members.
    Returns (the states on the host, with the members on the first axis; {metric: [members]} of the
    last step). A member that was not finite at some step has NaN, and keeps its state from before.
    Raises UserError for tables that do not fit together, for less than one seed or step, and for a
    number of the knobs outside its range (`ranges.check_numbers`).
    """
    members, steps = len(seeds), count(steps, "steps", least=1)
    if not members:
        raise UserError("no seeds: give one for each member, at least one")
    for each in knobs:
        check_numbers(each)
    placement, keys = place(min(devices, members)), jnp.stack([jax.random.key(seed) for seed in seeds])
    values, sizes, masks = _tables(tables, members)
    feed = Feed(values, None, sizes, jnp.stack([named(key, "order") for key in keys]), mask=masks)
    # The last member is repeated, so that each device has equally many.
    rows = np.minimum(np.arange(members + -members % len(placement.devices)), members - 1)
    padded = lambda x: x if len(rows) == members else x[rows]
    owned = jax.tree.map(padded, (stacked(knobs, members), keys, feed))
    game, metrics = game_of(knobs[0]), None
    state, alive = _beginning(game, placement)(*owned[:2])
    for length in _chunks(steps):
        state, alive, metrics = _program(game, length, placement)(*owned, state, alive)
    # Sliced on the host: a slice of several devices takes collectives, which can deadlock on a CPU.
    state, metrics = jax.tree.map(lambda x: x[:members], jax.device_get((state, metrics)))
    return state.replace(key=keys), metrics


def stacked(knobs: Sequence[Any], members: int) -> Any:
    """The members' knobs with the members on the first axis of each leaf."""
    knobs = list(knobs) * (members if len(knobs) == 1 else 1)
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *knobs)


def rows_padded(rows: int, least: int = 64) -> int:
    """The next power of two, so that few programs serve tables of any length."""
    return max(least, 1 << (rows - 1).bit_length())


def _tables(tables: Sequence[Table], members: int) -> tuple:
    """(values, sizes, masks), members first, each table padded to the rows of the longest."""
    tables = list(tables) * (members if len(tables) == 1 else 1)
    if len(tables) != members or len({v.shape[1:] for v, _ in tables}) != 1 or not all(len(v) for v, _ in tables):
        raise UserError(f"{len(tables)} tables for {members} members: give one for each, all with rows and of one width")
    longest = rows_padded(max(len(values) for values, _ in tables))
    long = lambda x: np.concatenate([x, np.zeros((longest - len(x), *x.shape[1:]), x.dtype)])
    values, masks = (np.stack([long(np.asarray(x)) for x in part]) for part in zip(*tables, strict=True))
    sizes = jnp.asarray([len(v) for v, _ in tables], jnp.int32)
    return jnp.asarray(values), sizes, jnp.asarray(masks)


def _chunks(steps: int) -> list[int]:
    """Steps of each call of a program: equally many, where that is at least LEAST."""
    even = max(k for k in range(1, min(steps, MOST) + 1) if steps % k == 0)
    if even >= min(steps, LEAST):
        return [even] * (steps // even)
    return [MOST] * (steps // MOST) + [steps % MOST] * (steps % MOST > 0)


@lru_cache(maxsize=32)
def _beginning(game: Game, placement: Placement):
    """(knobs, keys) -> (states without their keys, whether they are alive), members first."""
    one = lambda knobs, key: (game.init(knobs, key).replace(key=None), jnp.bool_(True))
    return jax.jit(lambda *owned: map_members(one, batched(owned), placement)(*owned))


@lru_cache(maxsize=32)
def _program(game: Game, length: int, placement: Placement):
    """(knobs, keys, feed, state, alive) -> (state, alive, last metrics) after `length` steps of
    every member."""
    single = Placement("single", placement.devices[:1])

    def one(knobs, key, feed, state, alive):
        state, good, metrics = chunk(game, length, single, knobs, state.replace(key=key), feed, alive)
        return state.replace(key=None), good[-1], jax.tree.map(lambda x: x[-1], metrics)

    return jax.jit(lambda *owned: map_members(one, batched(owned), placement)(*owned), donate_argnums=(3, 4))
