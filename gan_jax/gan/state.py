"""What changes in training: the state of both players, the moving average, and the memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, Key

from gan_jax.core.errors import UserError


class Player(struct.PyTreeNode):
    """params, stats (linen's other collections: running averages) and the optimizer's state."""

    params: Any
    stats: Any
    opt_state: Any


class State(struct.PyTreeNode):
    """Everything that changes in training, in the shape of the Recipe.

    step:   number of steps taken; key: constant, draws fold `step` into it
    ema:    {"params", "stats"}: the moving average of the generator
    memory: {player: {penalty: what it remembers}}, and {"live": {path: value}} of controlled leaves
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    generator: Player
    discriminator: Player
    ema: Any
    memory: Any


def moving_average(decay: Any, step: Int[Array, ""], old: Any, latest: Any, ramp: bool) -> Any:
    """decay * old + (1 - decay) * latest, of parameters and statistics.

    ramp: use (1 + t) / (10 + t) at step t where that is smaller, so that the first weights are soon
    forgotten. A decay that is a schedule is used as it is.
    """
    t = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + t) / (10 + t)) if ramp else jnp.asarray(decay)
    return jax.tree.map(lambda e, x: x + decay.astype(x.dtype) * (e - x), old, latest)


def keep_dtypes(new: Any, old: Any) -> Any:
    """`new` with each array in its dtype in `old`: float32 numbers promote bfloat16 arrays."""
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype), new, old)


def warm_started(state: State, other: State) -> State:
    """`state` with the networks of another run: parameters, statistics and moving average.

    The optimizers start anew. Raises UserError where the networks differ in shape.
    """
    shape = lambda x: (jax.tree.structure(x), [leaf.shape for leaf in jax.tree.leaves(x)])
    for name in ("generator", "discriminator"):
        mine, theirs = ((p.params, p.stats) for p in (getattr(state, name), getattr(other, name)))
        if shape(mine) != shape(theirs):
            raise UserError(f"a warm start takes the same networks: the {name}s differ in their parameters")
    copied = lambda old, new: jax.tree.map(lambda a, b: jnp.array(b, a.dtype), old, new)  # the state is donated
    player = lambda mine, theirs: mine.replace(
        params=copied(mine.params, theirs.params), stats=copied(mine.stats, theirs.stats)
    )
    return state.replace(
        generator=player(state.generator, other.generator),
        discriminator=player(state.discriminator, other.discriminator),
        ema=copied(state.ema, other.ema),
    )


def networks(state: State) -> State:
    """What `warm_started` takes of a state: the networks, without optimizers and memory."""
    bare = lambda player: player.replace(opt_state=None)
    generator, discriminator = bare(state.generator), bare(state.discriminator)
    return state.replace(key=None, memory={}, generator=generator, discriminator=discriminator)
