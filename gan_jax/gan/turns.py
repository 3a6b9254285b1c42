"""A turn: one player's loss, the gradient of the loss, and the optimizer step that applies it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gan_jax import losses
from gan_jax.core.batch import Batch, device_mean, split_batch
from gan_jax.core.rng import Draws
from gan_jax.core.sharding import split, whole
from gan_jax.gan.forward import (
    discriminate_both,
    draw_latents,
    generate,
    loss_terms,
    penalty_context,
    training_mode,
    with_mixed_fakes,
    with_penalties,
)
from gan_jax.gan.recipe import Recipe, Side
from gan_jax.gan.state import Player, State


class PlayerGradient(NamedTuple):
    """The gradient by the player's parameters, the player's new batch statistics, what penalties
    remember afterwards, and {name: scalar}, means over the batch."""

    gradient: Any
    stats: Any
    memory: Any
    metrics: dict


def discriminator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """The discriminator takes one optimizer step. The generator's statistics do not change."""
    gradient = player_gradient("discriminator", discriminator_loss, recipe, state, batch, draws, axis_name)
    return apply_gradient(recipe, state, "discriminator", gradient)


def generator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """The generator takes one optimizer step. The discriminator's statistics do not change."""
    gradient = player_gradient("generator", generator_loss, recipe, state, batch, draws, axis_name)
    return apply_gradient(recipe, state, "generator", gradient)


def discriminator_loss(params: Any, recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple:
    """(loss, (stats, memory, metrics)) of a discriminator with these parameters on this batch."""
    g, d = state.generator, state.discriminator
    batch, z = draw_latents(recipe, batch, draws, axis_name)
    fakes, _ = generate(recipe, g.params, g.stats, z, batch.fake_labels, training_mode(draws.named("generate"), axis_name))
    batch = with_mixed_fakes(recipe, g, batch, draws, axis_name)
    real, fake, stats = discriminate_both(recipe, params, d.stats, batch, fakes, draws.named("judge"), axis_name)
    terms = loss_terms(recipe, real, fake, batch)
    values = {"loss": losses.real_weights(batch, terms.real) * terms.real + terms.fake}
    context = penalty_context(recipe, state, "discriminator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.discriminator, "discriminator", values, context, state.memory)
    metrics = mean_terms("discriminator", values, axis_name) | logit_metrics(recipe, real.logits, fake.logits, axis_name)
    return total_loss(values), (stats, memory, metrics)


def generator_loss(
    params: Any, recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, lookahead: Callable | None = None
) -> tuple:
    """(loss, (stats, memory, metrics)) of a generator with these parameters on this batch.
    lookahead: from the generator's parameters to those of the discriminator that it plays against;
    None for the discriminator as it is."""
    g, d = state.generator, state.discriminator
    batch, z = draw_latents(recipe, batch, draws, axis_name)
    d = d.replace(params=lookahead(params)) if lookahead else d
    fakes, stats = generate(recipe, params, g.stats, z, batch.fake_labels, training_mode(draws.named("generate"), axis_name))
    real, fake, _ = discriminate_both(recipe, d.params, d.stats, batch, fakes, draws.named("judge"), axis_name)
    values = {"loss": loss_terms(recipe, real, fake, batch).generator}
    state = state.replace(discriminator=d)
    context = penalty_context(recipe, state, "generator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.generator, "generator", values, context, state.memory)
    return total_loss(values), (stats, memory, mean_terms("generator", values, axis_name))


def player_gradient(
    name: str, loss: Callable, recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name
) -> PlayerGradient:
    """The gradient of a player's loss, averaged over the devices. With `recipe.accumulate` > 1 it
    is the mean over so many parts of the batch, one after the other. Every example keeps its index
    and its draws. Batch statistics, and losses that compare examples, see one part at a time."""

    def once(state: State, batch: Batch, draws: Draws) -> PlayerGradient:
        of_params = lambda params: loss(params, recipe, state, batch, draws, axis_name)
        (_, rest), gradient = jax.value_and_grad(of_params, has_aux=True)(getattr(state, name).params)
        return PlayerGradient(gradient, *rest)

    parts = recipe.accumulate
    found = _accumulate(once, name, parts, state, batch, draws) if parts > 1 else once(state, batch, draws)
    return found._replace(gradient=device_mean(found.gradient, axis_name))


def _accumulate(once: Callable, name: str, count: int, state: State, batch: Batch, draws: Draws) -> PlayerGradient:
    """The mean of `once` over parts of the batch. Statistics and memory pass from part to part."""

    def add(carry, part):
        state, so_far = carry
        found = once(state, part, draws.replace(index=part.index))
        state = state.replace(**{name: getattr(state, name).replace(stats=found.stats)}, memory=found.memory)
        return (state, jax.tree.map(jnp.add, so_far, (found.gradient, found.metrics))), None

    parts = split_batch(batch, count)
    first = jax.tree.map(lambda x: x[0], parts)
    shape = jax.eval_shape(lambda part: once(state, part, draws.replace(index=part.index)), first)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shape.gradient, shape.metrics))
    (state, summed), _ = jax.lax.scan(add, (state, zero), parts)
    gradient, metrics = jax.tree.map(lambda x: x / count, summed)
    return PlayerGradient(gradient, getattr(state, name).stats, state.memory, metrics)


def apply_gradient(recipe: Recipe, state: State, name: str, found: PlayerGradient) -> tuple[State, dict]:
    """The state after the player's optimizer step; metrics with the gradient's norm."""
    player = optimizer_step(getattr(recipe, name), getattr(state, name), found.gradient, found.stats)
    metrics = found.metrics | {f"{name}/gradient_norm": optax.tree.norm(found.gradient)}
    return state.replace(**{name: player}, memory=found.memory), metrics


def optimizer_step(side: Side, player: Player, gradient: Any, stats: Any) -> Player:
    """The player after one step of its optimizer (Adam, SGD, ...) with this gradient."""
    params = split(player.params)
    updates, opt_state = side.optimizer().update(split(whole(gradient)), player.opt_state, params)
    moved = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, split(updates))  # the update is applied here
    return Player(whole(moved), stats, opt_state)


def total_loss(values: dict[str, Float[Array, "b"]]) -> Float[Array, ""]:
    """What a player minimises: the mean over examples of the sum of loss and penalties."""
    return sum(v.mean() for v in values.values())  # pyright: ignore[reportReturnType]


def mean_terms(name: str, values: dict, axis_name) -> dict:
    """{"<player>/<term>": mean over the whole batch}."""
    return {f"{name}/{k}": device_mean(v.mean(), axis_name) for k, v in values.items()}


def logit_metrics(recipe: Recipe, real: Array, fake: Array, axis_name) -> dict:
    """The discriminator's mean logits, and r_t of Karras et al. (2020b): the mean over reals of the
    sign of (logit - the logit at which the loss leaves the discriminator undecided)."""
    means = mean_terms("discriminator", {"real_logit": real, "fake_logit": fake}, axis_name)
    undecided = losses.boundary(recipe.loss)
    if undecided is None:
        undecided = (means["discriminator/real_logit"] + means["discriminator/fake_logit"]) / 2
    return means | mean_terms("discriminator", {"real_sign": jnp.sign(real - undecided)}, axis_name)
