"""A chunk: many steps of a game as one compiled scan, in which each batch is gathered on the device.
A run that is no longer finite freezes at its last good state."""

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
    """The batch of this step (under pmap this device's share), gathered on the device.

    feed: the training set, or one step of a window, whose batch was gathered before.
    choose: (draws, rows) -> rows, to take other rows than those of the data's order.
    """
    index, split = jnp.arange(examples), lambda x: x
    if placement.style == "pmap":
        share = examples // len(placement.devices)
        index = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
    if placement.style == "sharding":  # otherwise XLA replicates the latents, and with them the generator
        everywhere, shares = (NamedSharding(placement.mesh, spec) for spec in (P(), P(AXIS)))
        split = lambda x: jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, everywhere), shares)
    if isinstance(feed, Window):
        return Batch(to_unit(feed.images, dtype), split(index), feed.labels)
    rows = jax.vmap(order, (None, 0, None))(feed.key, step * examples + index, feed.size)
    index, rows = split(index), split(rows)  # only now: else the devices ask each other when each walk ends
    if choose is not None:
        rows = choose(Draws(jax.random.fold_in(feed.key, step), index).named("sampling"), rows)
    labels, weights, mask = jax.tree.map(lambda x: x[rows], (feed.labels, feed.weights, feed.mask))
    return Batch(to_unit(feed.images[rows], dtype), index, labels, weights, mask)


def all_finite(metrics: dict[str, jax.Array]) -> jax.Array:
    """Whether every metric is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(v).all() for v in metrics.values()]))


def chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed | Window, alive: Any) -> tuple:
    """`length` steps in one scan: (state, whether each step was finite [length], {name: [length]}
    metrics).

    feed: the training set, or a window of `length` steps. alive: whether the state is still finite.

    At the first step with a metric that is not finite, the state freezes as it was before that
    step. Only `state.step` goes on counting, because the members of a population share it. The
    metrics that follow are NaN. A state that is not alive is frozen from the start, and so is one
    whose step is not the window's first.
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
    """`chunk` for a single run, whose `state.step` freezes with the rest of the state."""
    start = state.step
    state, good, metrics = chunk(game, length, placement, knobs, state, feed, True)
    return state.replace(step=start + good.sum(dtype=start.dtype)), metrics


@lru_cache(maxsize=64)
def compiled_chunk(game: Game, length: int, placement: Placement, streamed: bool = False):
    """A run's chunk as one program: (knobs, state, feed) -> (state, metrics). The state's buffers
    are donated.

    Nothing is copied where `Placement.shard_state` has placed the state and `Placement.replicate`
    the feed. streamed: the feed is a window.
    """
    function = partial(single_chunk, game, length, placement)
    if placement.style == "pmap":
        mapped = jax.pmap(
            lambda place, *args: function(*args),
            AXIS,
            in_axes=(0, None, None, Window(1, 1, None) if streamed else None),  # pyright: ignore[reportArgumentType]
            out_axes=None,
            devices=placement.devices,
            donate_argnums=2,
        )
        return partial(mapped, np.arange(len(placement.local_devices)))  # pmap needs one argument that is split
    return jax.jit(function, donate_argnums=1)
