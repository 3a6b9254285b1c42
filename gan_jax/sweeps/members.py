from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from gan_jax.core.batch import Feed
from gan_jax.core.game import Game
from gan_jax.training.chunk import chunk
from gan_jax.training.placement import Placement


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
        specs = tuple(placement.spread if flag else P() for flag in flags)
        return jax.shard_map(run, mesh=placement.mesh, in_specs=specs, out_specs=placement.spread, check_vma=False)(*leaves)

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
