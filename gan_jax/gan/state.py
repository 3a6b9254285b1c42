"""What changes in training: both players, the moving average, and the memory."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, Key

from gan_jax.core.bind import Schedule
from gan_jax.core.errors import UserError
from gan_jax.core.net import cast
from gan_jax.gan.recipe import Side


class Player(struct.PyTreeNode):
    """params, stats (linen's other collections: running averages) and the optimizer's state."""

    params: Any
    stats: Any
    opt_state: Any


class State(struct.PyTreeNode):
    """Everything that changes in training, with one Player for each Side of the Recipe.

    step:   number of steps taken; key: of the run; it never changes, each step folds `step` into it
    ema:    {"params", "stats"}: the moving average of the generator
    memory: {player: {penalty: what it remembers}}, and of controlled leaves {"live": {path: value},
            "summed": {path: sum of its statistic since the value last changed}}"""

    step: Int[Array, ""]
    key: Key[Array, ""]
    generator: Player
    discriminator: Player
    ema: Any
    memory: Any


def init_player(side: Side, key: Key[Array, ""], inputs: Array, labels: Array | None, dtype: str) -> Player:
    """A player at the start of training, in `dtype`; its network is initialised on `inputs`."""
    params, stats = cast(side.net.init(key, inputs, labels, side.numbers), dtype)
    return Player(params, stats, cast(side.optimizer().init(params), dtype))


def finish_step(recipe: Any, resolved: Any, old: Any, new: Any, latest: Any) -> Any:
    """The state at the end of a step: the step counted, the moving average updated.

    recipe, resolved: the recipe with its schedules, and at this step. old, new: the state before
    the step, and with its players updated. latest: what is averaged, ema <- decay * ema + (1 -
    decay) * latest. A constant decay is at most (1 + t) / (10 + t) at step t, so that the first
    weights are soon forgotten; a schedule is used as it is."""
    t, decay = old.step.astype(jnp.float32), jnp.asarray(resolved.ema_decay)
    if not isinstance(recipe.ema_decay, Schedule):
        decay = jnp.minimum(decay, (1 + t) / (10 + t))
    ema = jax.tree.map(lambda e, x: x + decay.astype(x.dtype) * (e - x), old.ema, latest)
    return keep_dtypes(new.replace(step=old.step + 1, ema=ema), old)


def keep_dtypes(new: Any, old: Any) -> Any:
    """`new` with each array in its dtype in `old`: float32 numbers promote bfloat16 arrays."""
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype), new, old)


def warm_started(state: State, other: State) -> State:
    """`state` with the networks of another run: parameters, statistics and moving average. The
    optimizers start anew. Raises UserError where the networks differ in shape."""
    network = lambda player: {"params": player.params, "stats": player.stats}
    shape = lambda x: (jax.tree.structure(x), [leaf.shape for leaf in jax.tree.leaves(x)])
    copied = lambda old, new: jax.tree.map(lambda a, b: jnp.array(b, a.dtype), old, new)  # the state is donated
    players = {}
    for name in ("generator", "discriminator"):
        mine, theirs = getattr(state, name), getattr(other, name)
        if shape(network(mine)) != shape(network(theirs)):
            raise UserError(f"a warm start takes the same networks: the {name}s differ in their parameters")
        players[name] = mine.replace(**copied(network(mine), network(theirs)))
    return state.replace(**players, ema=copied(state.ema, other.ema))


def networks(state: State) -> State:
    """What `warm_started` takes of a state: the networks, without optimizers and memory."""
    generator, discriminator = (player.replace(opt_state=None) for player in (state.generator, state.discriminator))
    return state.replace(key=None, memory={}, generator=generator, discriminator=discriminator)
