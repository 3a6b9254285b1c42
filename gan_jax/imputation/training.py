"""A population whose members each have their own table: other rows, other masks, other numbers, one program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.draws import named
from gan_jax.errors import UserError
from gan_jax.game import Feed, Game, game_of
from gan_jax.parallel import Placement, chunk, over_members, own, place


def train(
    knobs: Sequence[Any],
    tables: Sequence[tuple[np.ndarray, np.ndarray]],
    seeds: Sequence[int],
    *,
    steps: int,
    game: Game | None = None,
    devices: int = 1,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Train member i with knobs[i] on tables[i] = (values [n, ...], observed [n, ...]) from seeds[i], all in one program.

    The knobs are of one structure and the tables of one width; their numbers of rows may differ. A single one of knobs or
    tables serves all. Returns the states on the host, stacked on the first axis (as `stacked` does with knobs), and
    {metric: [members]} of the last step: NaN for a member that was not finite at some step, and stays as it was before.
    game: that of the knobs unless another is given. Raises UserError for tables that do not fit together.
    """
    members = len(seeds)
    placement, keys = place(min(devices, members)), jnp.stack([jax.random.key(seed) for seed in seeds])
    values, sizes, masks = _tables(tables, members)
    feed = Feed(values, None, sizes, jnp.stack([named(key, "order") for key in keys]), mask=masks)
    padded = _padded((stacked(knobs, members), keys, feed), members, len(placement.devices))
    state, metrics = _program(game_of(knobs[0], game), steps, placement)(*padded)
    # On the host: to slice what lies on several devices takes collectives, which can deadlock on few cores.
    state, metrics = jax.tree.map(lambda x: x[:members], jax.device_get((state, metrics)))
    return state.replace(key=keys), metrics


def stacked(knobs: Sequence[Any], members: int) -> Any:
    """The members' knobs with the members on each leaf's first axis."""
    knobs = list(knobs) * (members if len(knobs) == 1 else 1)
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *knobs)


def rows_padded(rows: int, least: int = 64) -> int:
    """The next power of two: tables of nearly one length share a program."""
    return max(least, 1 << (rows - 1).bit_length())


def _tables(tables, members: int) -> tuple:
    tables = list(tables) * (members if len(tables) == 1 else 1)
    if len(tables) != members or len({v.shape[1:] for v, _ in tables}) != 1 or not all(len(v) for v, _ in tables):
        raise UserError(f"{len(tables)} tables for {members} members: give one for each, all with rows and of one width")
    longest = rows_padded(max(len(values) for values, _ in tables))
    long = lambda x: np.concatenate([x, np.zeros((longest - len(x), *x.shape[1:]), x.dtype)])
    values, masks = (np.stack([long(np.asarray(x)) for x in part]) for part in zip(*tables, strict=True))
    sizes = jnp.asarray([len(v) for v, _ in tables], jnp.int32)
    return jnp.asarray(values), sizes, jnp.asarray(masks)


def _padded(tree: Any, members: int, devices: int) -> Any:
    rows = np.minimum(np.arange(members + -members % devices), members - 1)
    return tree if len(rows) == members else jax.tree.map(lambda x: x[rows], tree)


def _one(game: Game, steps: int, placement: Placement, knobs: Any, key: jax.Array, feed: Feed):
    state, _, metrics = chunk(game, steps, placement, knobs, game.init(knobs, key), feed, True)
    return state.replace(key=None), jax.tree.map(lambda x: x[-1], metrics)


@lru_cache(maxsize=32)
def _program(game: Game, steps: int, placement: Placement):
    single = Placement("single", placement.devices[:1])

    def run(knobs, keys, feed):
        return over_members(partial(_one, game, steps, single), own((knobs, keys, feed)), placement)(knobs, keys, feed)

    return jax.jit(run)
