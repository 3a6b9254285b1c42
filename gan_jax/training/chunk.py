"""A chunk: many steps of a game as one compiled scan, which gathers each batch on the device."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.batch import Batch, Feed, Window, to_unit
from gan_jax.core.game import Game
from gan_jax.core.rng import Draws
from gan_jax.data.order import order
from gan_jax.training.placement import AXIS, Placement


def gather_batch(
    feed: Feed | Window, step: jax.Array, examples: int, dtype: str, placement: Placement, choose: Callable | None = None
) -> Batch:
    """The batch of this step (under pmap this device's share), gathered on the device.

    feed: the training set, or one step of a window, which already holds the batch.
    choose: (draws, rows) -> rows, to take other rows than those of the data's order.
    """
    index, split = jnp.arange(examples), lambda x: x
    if placement.style == "pmap":
        share = examples // len(placement.devices)
        index = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
    if placement.style == "sharding":  # otherwise XLA replicates the latents, and with them the generator
        everywhere, shares = (jax.NamedSharding(placement.mesh, spec) for spec in (jax.P(), jax.P(AXIS)))
        split = lambda x: jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, everywhere), shares)
    if isinstance(feed, Window):
        return Batch(to_unit(feed.images, dtype), split(index), feed.labels)
    rows = jax.vmap(order, (None, 0, None))(feed.key, step * examples + index, feed.size)
    index, rows = split(index), split(rows)  # after `order`: its loops would else end with a message between devices
    if choose is not None:
        rows = choose(Draws(jax.random.fold_in(feed.key, step), index).named("sampling"), rows)
    labels, weights, mask = jax.tree.map(lambda x: x[rows], (feed.labels, feed.weights, feed.mask))
    return Batch(to_unit(feed.images[rows], dtype), index, labels, weights, mask)


def chunk(game: Game, length: int, placement: Placement, knobs: Any, state: Any, feed: Feed | Window, alive: Any) -> tuple:
    """`length` steps in one scan: (state, whether each step was finite [length], metrics {name:
    [length]}).

    feed: the training set, or a window of `length` steps. alive: whether the state is still finite.

    At the first step with a metric that is not finite, the state freezes as it was before that
    step, and the metrics that follow are NaN. Only `state.step` goes on counting, because the
    members of a population share it. A state that is not alive, or whose step is not the window's
    first, is frozen from the start.
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
        alive &= jnp.all(jnp.stack([jnp.isfinite(values).all() for values in metrics.values()]))
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
    """A run's chunk as one program: (knobs, state, feed) -> (state, metrics).

    streamed: whether the feed is a window. The state's buffers are donated. Nothing is copied where
    `Placement.shard_state` has placed the state and `Placement.replicate` the feed.
    """
    function = partial(single_chunk, game, length, placement)
    if placement.style == "pmap":
        axes = (0, None, None, Window(1, 1, None) if streamed else None)  # pyright: ignore[reportArgumentType]
        each = lambda place, *args: function(*args)  # pmap needs one argument that is split
        mapped = jax.pmap(each, AXIS, in_axes=axes, out_axes=None, devices=placement.devices, donate_argnums=2)
        return partial(mapped, np.arange(len(placement.local_devices)))
    return jax.jit(function, donate_argnums=1)
