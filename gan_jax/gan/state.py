from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, Key

from gan_jax.core.errors import UserError


def warm_started(state: State, other: State) -> State:
    """`state` with the networks (parameters, statistics, moving average) of another run, its
    optimizers at their start.

    Raises UserError where the networks are not of one shape.
    """
    shape = lambda x: (jax.tree.structure(x), [leaf.shape for leaf in jax.tree.leaves(x)])
    for name in ("generator", "discriminator"):
        mine, theirs = ((p.params, p.stats) for p in (getattr(state, name), getattr(other, name)))
        if shape(mine) != shape(theirs):
            raise UserError(f"a warm start takes the same networks: the {name}s differ in their parameters")
    same = lambda old, new: jax.tree.map(lambda a, b: jnp.array(b, a.dtype), old, new)  # a copy: the state is donated
    player = lambda mine, theirs: mine.replace(params=same(mine.params, theirs.params), stats=same(mine.stats, theirs.stats))
    return state.replace(
        generator=player(state.generator, other.generator),
        discriminator=player(state.discriminator, other.discriminator),
        ema=same(state.ema, other.ema),
    )


def networks(state: State) -> State:
    """What a warm start takes of a state: its networks, without the optimizers' state and what
    penalties remember."""
    bare = lambda player: player.replace(opt_state=None)
    return state.replace(
        key=None, memory={}, generator=bare(state.generator), discriminator=bare(state.discriminator)
    )  # fmt: skip


class Player(struct.PyTreeNode):
    """params, stats (linen's other collections: running averages) and the optimizer's state."""

    params: Any
    stats: Any
    opt_state: Any


class State(struct.PyTreeNode):
    """Everything that changes in training, mirroring the Recipe. `key` is constant: draws fold in
    `step`.

    ema:    {"params", "stats"}: the generator's moving average
    memory: what penalties remember, {player: {penalty: ...}}, and live values of controlled leaves,
        {"live": {path: value}}
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    generator: Player
    discriminator: Player
    ema: Any
    memory: Any


def moving_average(decay: Any, step: Int[Array, ""], old: Any, latest: Any, ramp: bool) -> Any:
    """decay * old + (1 - decay) * latest, parameters and statistics.

    ramp: the decay is at most (1 + t) / (10 + t), so that the first weights are soon forgotten; a
        schedule is as it is.
    """
    t = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + t) / (10 + t)) if ramp else jnp.asarray(decay)
    return jax.tree.map(lambda e, x: x + decay.astype(x.dtype) * (e - x), old, latest)
