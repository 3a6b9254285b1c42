from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gan_jax.core.batch import Batch, Feed, Window, to_unit
from gan_jax.core.game import Game
from gan_jax.core.rng import Draws
from gan_jax.data.order import order
from gan_jax.training.placement import AXIS, Placement


def gather_batch(
    feed: Feed | Window, step: jax.Array, examples: int, dtype: str, placement: Placement, choose: Callable | None = None
) -> Batch:
    """The batch of this step (this device's share of it under pmap), gathered on the device.

    feed: or the one step of a window, which has been gathered in that order.
    choose: (draws, rows) -> rows, where others are to be drawn than those of the data's order.
    """
    index, split = jnp.arange(examples), lambda x: x
    if placement.style == "pmap":
        share = examples // len(placement.devices)
        index = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
    if placement.style == "sharding":  # without it the latents, and so the whole generator, would be replicated
        everywhere, shares = (NamedSharding(placement.mesh, spec) for spec in (P(), P(AXIS)))
        split = lambda x: jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, everywhere), shares)
    if isinstance(feed, Window):
        return Batch(to_unit(feed.images, dtype), split(index), feed.labels)
    rows = jax.vmap(order, (None, 0, None))(feed.key, step * examples + index, feed.size)
    index, rows = split(index), split(rows)  # afterwards: or the devices ask each other whether every walk has ended
    if choose is not None:
        rows = choose(Draws(jax.random.fold_in(feed.key, step), index).named("sampling"), rows)
    labels, weights, mask = jax.tree.map(lambda x: x[rows], (feed.labels, feed.weights, feed.mask))
    return Batch(to_unit(feed.images[rows], dtype), index, labels, weights, mask)


def all_finite(metrics: dict) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(v).all() for v in metrics.values()]))


def chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed | Window, alive: Any) -> tuple:
    """`length` steps in one scan. Returns the state, whether each step was good [length], and
    metrics {name: [length]}.

    feed: the data, or a window of as many steps.

    At the first step whose metrics are not all finite the state freezes as it was before that step,
    but for `state.step`, which goes on counting: the members of a population share it. Later
    metrics are NaN. A state that is not `alive` at the start stays, and so does one that did not
    come to the window's first step.
    """
    examples, dtype = game.examples(knobs), game.dtype(knobs)
    axis_name = AXIS if placement.style == "pmap" else None
    start, window = state.step, None
    sampler = game.sampler(knobs, feed) if game.sampler else None
    if isinstance(feed, Window):
        alive, window = (feed.first == start) & alive, (feed.images, feed.labels)

    def one(carry, x):
        (state, alive), (step, window) = carry, x
        state = state.replace(step=step)
        now = feed if window is None else Window(window[0], window[1], step)
        batch = gather_batch(now, step, examples, dtype, placement, sampler and partial(sampler, state))
        new, metrics = placement.wrap_step(game.step)(knobs, state, batch, axis_name)
        metrics = jax.tree.map(lambda x: jnp.where(alive, x, jnp.nan), metrics)
        alive &= all_finite(metrics)
        new = jax.tree.map(lambda a, b: jnp.where(alive, a, b), placement.constrain(new), state)
        return (placement.constrain(new), alive), (alive, metrics)

    steps = start + jnp.arange(length, dtype=start.dtype)
    (state, _), (good, metrics) = jax.lax.scan(one, (placement.constrain(state), jnp.asarray(alive, bool)), (steps, window))
    return placement.constrain(state.replace(step=start + length)), good, metrics


def single_chunk(
    game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed | Window
) -> tuple[Any, dict]:
    """`chunk` for a run of its own, whose counter stops with it."""
    start = state.step
    state, good, metrics = chunk(game, length, placement, knobs, state, feed, True)
    return state.replace(step=start + good.sum(dtype=start.dtype)), metrics


@lru_cache(maxsize=64)
def compiled_chunk(game: Game, length: int, placement: Placement, streamed: bool = False):
    """A run's chunk as one program: (knobs, state, feed) -> (state, metrics). The state given is
    used up (donated).

    Nothing is copied where the state lies as `Placement.shard_state` lays it and the feed as
    `Placement.replicate` does.

    streamed: the feed is a window.
    """
    function = partial(single_chunk, game, length, placement)
    if placement.style == "pmap":
        many = jax.pmap(
            lambda place, *args: function(*args),
            AXIS,
            in_axes=(0, None, None, Window(1, 1, None) if streamed else None),  # pyright: ignore[reportArgumentType]
            out_axes=None,
            devices=placement.devices,
            donate_argnums=2,
        )
        return partial(many, np.arange(len(placement.local_devices)))  # pmap wants one argument that is split
    return jax.jit(function, donate_argnums=1)
