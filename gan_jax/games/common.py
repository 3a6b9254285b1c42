"""What the games share: the base of their recipes, players before training, and a gradient step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Key

from gan_jax.core.batch import device_mean
from gan_jax.core.bind import number, resolve
from gan_jax.core.rng import named
from gan_jax.data.checks import refuse_penalties
from gan_jax.gan.state import Player, init_player
from gan_jax.gan.turns import optimizer_step


class Knobs(struct.PyTreeNode):
    """The base of a recipe, as data. Its numbers become float32 leaves, which can be swept inside
    one program; static fields cannot."""

    def __post_init__(self: Any):
        for field in dataclasses.fields(self):
            if field.metadata.get("pytree_node", True):
                object.__setattr__(self, field.name, number(getattr(self, field.name)))


def first_players(what: str, knobs: Any, key: Key[Array, ""], shapes: dict[str, tuple[int, ...]]) -> dict[str, Player]:
    """{name: player} before training, in `knobs.dtype`; shapes: {name: of an input of its network}.
    Raises UserError for penalties: no player of the game `what` takes any."""
    refuse_penalties(what, knobs, *shapes)
    resolved = resolve(knobs, jnp.int32(0))
    zeros = {name: jnp.zeros((2, *shape), resolved.dtype) for name, shape in shapes.items()}
    first = lambda name: init_player(getattr(resolved, name), named(key, name), zeros[name], None, resolved.dtype)
    return {name: first(name) for name in shapes}


def gradient_step(resolved: Any, state: Any, names: tuple[str, ...], loss: Callable, axis_name: str | None) -> tuple:
    """(the state after one optimizer step of the named players down one loss,
    {"<name>/gradient_norm": scalar}, what the loss logs).

    loss: from {name: parameters} to (scalar, ({name: new statistics}, anything to log)), of the
          examples of one device
    """
    players = {name: getattr(state, name) for name in names}
    gradient, (stats, logged) = jax.grad(loss, has_aux=True)({name: player.params for name, player in players.items()})
    gradient = device_mean(gradient, axis_name)
    new = {
        name: optimizer_step(getattr(resolved, name), player, gradient[name], stats[name]) for name, player in players.items()
    }
    norms = {f"{name}/gradient_norm": optax.tree.norm(gradient[name]) for name in names}
    return state.replace(**new), norms, logged
