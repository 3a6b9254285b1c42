"""The three pure functions of a GAN.

    init       (recipe, key)                -> State
    train_step (recipe, state, batch)       -> (State, metrics: dict of scalars)
    sample     (recipe, state, key, n, ...) -> images

`train_step` calls the recipe's dynamics (`dynamics.py`: the order in which the players are
updated), and these call turns (`turns.py`: one player's loss, gradient and optimizer step). All of
it runs under jit, scan, vmap, sharding by placement, and pmap with a named axis.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gan_jax import penalties
from gan_jax.checks import check_parts
from gan_jax.core.batch import Batch
from gan_jax.core.bind import resolve
from gan_jax.core.net import EVALUATION, cast
from gan_jax.core.rng import Draws, named
from gan_jax.gan import control
from gan_jax.gan.forward import generate
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import Player, State, finish_step, init_player


def init(recipe: Recipe, key: Key[Array, ""]) -> State:
    """A fresh state in `recipe.dtype`. The moving average starts as a copy of the generator. Raises
    UserError for an unsupported image size, a controller whose path names no number, a penalty that
    has no meaning for its player, and parts of a recipe that are no bound functions."""
    generator, images, labels = init_generator(recipe, key)
    recipe, memory = resolve(recipe, jnp.int32(0)), {}
    for name in ("generator", "discriminator"):
        own = getattr(recipe, name).penalties
        for penalty in own.values():
            penalties.check_player(penalty, name)
        if remembered := {k: start for k, p in own.items() if (start := penalties.initial_memory(p))}:
            memory[name] = cast(jax.tree.map(jnp.float32, remembered), recipe.dtype)
    memory |= control.initial_memory(recipe)
    return State(
        step=jnp.int32(0),
        key=key,
        generator=generator,
        discriminator=init_player(recipe.discriminator, named(key, "discriminator"), images, labels, recipe.dtype),
        ema=jax.tree.map(jnp.copy, {"params": generator.params, "stats": generator.stats}),  # donated buffers may not be shared
        memory=memory,
    )


def init_generator(recipe: Recipe, key: Key[Array, ""]) -> tuple[Player, Array, Array | None]:
    """The generator of `init`, two of its images, for which D is made, and their labels."""
    check_parts(recipe)
    recipe = resolve(recipe, jnp.int32(0))
    labels = jnp.zeros(2, jnp.int32) if recipe.classes else None
    z = recipe.latent(Draws(named(key, "init"), jnp.arange(2)), labels, jnp.float32)
    player = init_player(recipe.generator, named(key, "generator"), z, labels, recipe.dtype)
    return player, generate(recipe, player.params, player.stats, z, labels, EVALUATION)[0], labels


def train_step(recipe: Recipe, state: State, batch: Batch, axis_name: str | None = None) -> tuple[State, dict]:
    """One step: both players are updated. Returns the new state, and scalars averaged over the
    whole batch: each player's loss, penalties, logits and gradient norms. axis_name: the named
    axis of the devices under pmap, or None."""
    resolved = control.resolved(recipe, state)
    batch = batch if recipe.classes else batch.replace(labels=None)  # no network sees these labels
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    new, metrics = resolved.play(resolved, state, batch, draws, axis_name)  # a function of dynamics.py, by default alternating
    new, metrics = control.steer(resolved, new, metrics)
    latest = {"params": new.generator.params, "stats": new.generator.stats}
    return finish_step(recipe, resolved, state, new, latest), metrics


def sample(recipe: Recipe, state: State, key: Key[Array, ""], n: int, labels=None, *, ema: bool = True, first: int = 0):
    """n generated examples [n, ...] in the scale of the data.

    Example i depends on the key and on `first + i` alone, so that a long sample may be drawn in
    pieces. labels: [n], or None for every class in turn where the recipe is conditional. ema: take
    the moving average of the generator, or else the generator as it is."""
    resolved = control.resolved(recipe, state)
    index = first + jnp.arange(n)
    if resolved.classes and labels is None:
        labels = index % resolved.classes
    z = resolved.latent(Draws(named(key, "latent"), index), labels, jnp.dtype(resolved.dtype))
    source = state.ema if ema else {"params": state.generator.params, "stats": state.generator.stats}
    return generate(resolved, source["params"], source["stats"], z, labels, EVALUATION)[0]
