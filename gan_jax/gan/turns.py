"""A turn: one player looks at a batch and moves. What both players need for it: samples,
judgements, penalties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gan_jax import augment, losses, penalties
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput, Mode
from gan_jax.core.rng import Draws
from gan_jax.core.sharding import split, whole
from gan_jax.gan.recipe import Recipe, Side
from gan_jax.gan.state import Player, State
from gan_jax.penalties import PenaltyContext


class PlayerGradient(NamedTuple):
    """What a player learns from a batch: its loss's gradient, its statistics and the memory
    afterwards, and metrics."""

    gradient: Any
    stats: Any
    memory: Any
    metrics: dict


def discriminator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """D moves once, against fresh fakes. The generator's batch statistics are its own turn's
    business and stay."""
    return apply_gradient(
        recipe, state, "discriminator", player_gradient(recipe, state, "discriminator", batch, draws, axis_name)
    )


def generator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """G moves once. D's batch statistics are its own turn's business and stay."""
    return apply_gradient(recipe, state, "generator", player_gradient(recipe, state, "generator", batch, draws, axis_name))


def apply_gradient(recipe: Recipe, state: State, name: str, seen: PlayerGradient) -> tuple[State, dict]:
    """The player moves, for either one: what it has seen becomes its parameters, statistics and
    memory."""
    player = optimizer_step(getattr(recipe, name), getattr(state, name), seen.gradient, seen.stats)
    metrics = seen.metrics | {f"{name}/gradient_norm": optax.tree.norm(seen.gradient)}
    return state.replace(**{name: player}, memory=seen.memory), metrics


def optimizer_step(side: Side, player: Player, gradient: Any, stats: Any) -> Player:
    """The player after its optimizer's step down this gradient."""
    params = split(player.params)
    updates, opt_state = side.optimizer().update(split(whole(gradient)), player.opt_state, params)
    return Player(whole(jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, split(updates))), stats, opt_state)


def player_gradient(
    recipe: Recipe, state: State, name: str, batch: Batch, draws: Draws, axis_name, lookahead=None
) -> PlayerGradient:
    """The named player's view of a batch, or its mean over `recipe.accumulate` parts of it, one
    after the other.

    Every example keeps its place, and so its draws; batch statistics, and losses over a batch, are
    of a part. The gradient is averaged over the devices once, after the last part.
    foresee: a function of G's parameters to the D's that it is judged by, for ways to play that
        look ahead; None is D as it is.
    """
    once = partial(_generator_gradient, lookahead=lookahead) if name == "generator" else _discriminator_gradient
    if recipe.accumulate > 1:
        once = partial(_accumulated, once, name)
    seen = once(recipe, state, batch, draws, axis_name)
    return seen._replace(gradient=device_mean(seen.gradient, axis_name))


def _accumulated(
    once: Callable, name: str, recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name
) -> PlayerGradient:
    """The mean of the player's views of the batch's parts."""

    def add(carry, part):
        here, so_far = carry
        seen = once(recipe, here, part, draws.replace(index=part.index), axis_name)
        here = here.replace(**{name: getattr(here, name).replace(stats=seen.stats)}, memory=seen.memory)
        return (here, jax.tree.map(jnp.add, so_far, (seen.gradient, seen.metrics))), None

    parts = split_batch(batch, recipe.accumulate)
    first = jax.tree.map(lambda x: x[0], parts)
    shape = jax.eval_shape(lambda part: once(recipe, state, part, draws.replace(index=part.index), axis_name), first)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shape.gradient, shape.metrics))
    (here, summed), _ = jax.lax.scan(add, (state, zero), parts)
    gradient, metrics = jax.tree.map(lambda x: x / recipe.accumulate, summed)
    return PlayerGradient(gradient, getattr(here, name).stats, here.memory, metrics)


def split_batch(batch: Batch, hands: int) -> Batch:
    """[hands * b, ...] -> [hands, b, ...]: example j goes to hand j % hands, so a device's share
    stays on that device.

    Raises UserError where they do not divide.
    """
    n = len(batch.index)
    if n % hands:
        raise UserError(f"{n} examples cannot be dealt in {hands} equal parts: give a multiple")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(n // hands, hands, *x.shape[1:]), 1, 0), batch)


def _discriminator_gradient(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> PlayerGradient:
    g, d = state.generator, state.discriminator
    batch, z = draw_latents(recipe, batch, draws, axis_name)
    fakes, _ = generate(recipe, g.params, g.stats, z, batch.fake_labels, _training(draws.named("generate"), axis_name))
    batch = with_mixed_fakes(recipe, g, batch, draws, axis_name)

    def objective(params):
        real, fake, stats = discriminate_both(recipe, params, d.stats, batch, fakes, draws.named("judge"), axis_name)
        terms = recipe.loss(real, fake, batch)
        values = {"loss": losses.real_weights(batch, terms.real) * terms.real + terms.fake}
        turn = penalty_context(recipe, state, "discriminator", params, batch, fakes, z, (real, fake), draws)
        values, memory = with_penalties(recipe.discriminator, "discriminator", values, turn, state.memory)
        metrics = _means(values, "discriminator", axis_name) | _said(recipe, real.logits, fake.logits, axis_name)
        return total_loss(values), (stats, memory, metrics)

    return _gradient_of(objective, d.params)


def _generator_gradient(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, lookahead=None) -> PlayerGradient:
    g, d = state.generator, state.discriminator
    batch, z = draw_latents(recipe, batch, draws, axis_name)

    def objective(params):
        judging = d.replace(params=lookahead(params)) if lookahead else d
        mode = _training(draws.named("generate"), axis_name)
        fakes, stats = generate(recipe, params, g.stats, z, batch.fake_labels, mode)
        real, fake, _ = discriminate_both(recipe, judging.params, judging.stats, batch, fakes, draws.named("judge"), axis_name)
        values = {"loss": recipe.loss(real, fake, batch).generator}
        turn = penalty_context(
            recipe, state.replace(discriminator=judging), "generator", params, batch, fakes, z, (real, fake), draws
        )
        values, memory = with_penalties(recipe.generator, "generator", values, turn, state.memory)
        return total_loss(values), (stats, memory, _means(values, "generator", axis_name))

    return _gradient_of(objective, g.params)


def _gradient_of(objective: Callable, params: Any) -> PlayerGradient:
    """The gradient is this device's."""
    (_, (stats, memory, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    return PlayerGradient(gradient, stats, memory, metrics)


def total_loss(values: dict[str, Float[Array, "b"]]) -> Float[Array, ""]:
    """What the player minimises: the mean over examples of the sum of all terms."""
    return sum(v.mean() for v in values.values())  # pyright: ignore[reportReturnType]


def generate(recipe: Recipe, params, stats, z, labels, mode: Mode) -> tuple[Any, Any]:
    """(images, new stats) of the generator with these parameters."""
    side = recipe.generator
    return side.net.apply(params, stats, z, labels, mode, side.numbers, recipe.compute_dtype)


def discriminate(
    recipe: Recipe, params, stats, images, labels, draws: Draws, axis_name, passes: int = 1
) -> tuple[DiscriminatorOutput, Any]:
    """(DiscriminatorOutput, new stats) of the discriminator in training: it sees the augmented
    images. passes: see `Mode`."""
    side = recipe.discriminator
    for name, change in recipe.augment.items():
        if not augment.mixing(change):
            images = change(images, labels, draws.named("augment", name))
    mode = _training(draws, axis_name).replace(passes=passes)
    return side.net.apply(params, stats, images, labels, mode, side.numbers, recipe.compute_dtype)


def discriminate_both(recipe: Recipe, params, stats, batch: Batch, fakes, draws: Draws, axis_name):
    """(DiscriminatorOutput of reals, of fakes, new stats): in two passes, reals first, or in one if
    `recipe.judge_together`."""
    fake_labels = batch.fake_labels
    if not recipe.judge_together:
        real, stats = discriminate(recipe, params, stats, batch.images, batch.labels, draws.named("reals"), axis_name)
        fake, stats = discriminate(recipe, params, stats, fakes, fake_labels, draws.named("fakes"), axis_name)
        return real, fake, stats
    images, labels = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (batch.images, batch.labels), (fakes, fake_labels))
    both = draws.replace(index=jnp.concatenate([draws.index, draws.index + recipe.batch_size]))
    evaluate_discriminator, stats = discriminate(recipe, params, stats, images, labels, both.named("both"), axis_name, 2)
    n = len(evaluate_discriminator.logits) // 2
    return jax.tree.map(lambda x: x[:n], evaluate_discriminator), jax.tree.map(lambda x: x[n:], evaluate_discriminator), stats


def _training(draws: Draws, axis_name) -> Mode:
    return Mode(train=True, draws=draws, axis_name=axis_name)


def draw_latents(recipe: Recipe, batch: Batch, draws: Draws, axis_name) -> tuple[Batch, Float[Array, "b d"]]:
    """The batch with the labels to generate, and z."""
    labels = recipe.fake_labels(draws.named("labels"), batch, recipe.classes)
    z = recipe.latent(draws.named("latent"), labels, batch.images.dtype)
    return batch.replace(fake_labels=labels, axis_name=axis_name), z


def with_mixed_fakes(recipe: Recipe, g: Player, batch: Batch, draws: Draws, axis_name) -> Batch:
    """The batch that D learns from where an augmentation mixes fakes into its reals
    (`augment.mixing`); else the batch itself.

    The fakes that pose have latents of their own, as losses over pairs and batches compare the
    reals with D's other fakes, and the labels of the reals in whose places they stand, as D judges
    them under those.
    """
    if not any(augment.mixing(change) for change in recipe.augment.values()):
        return batch
    own = draws.named("posing")
    z = recipe.latent(own.named("latent"), batch.labels, batch.images.dtype)
    posing, _ = generate(recipe, g.params, g.stats, z, batch.labels, _training(own.named("generate"), axis_name))
    return batch.replace(images=augment.mixed(recipe.augment, batch.images, posing, draws.named("augment")))


def penalty_context(recipe, state, mover: str, params, batch: Batch, fakes, z, said, draws: Draws) -> PenaltyContext:
    """The record that penalties see, with the mover's current parameters in place."""
    g, d, axis_name = state.generator, state.discriminator, batch.axis_name
    g_params, d_params = (params, d.params) if mover == "generator" else (g.params, params)
    player_gradient, make = draws.named("penalty", "critic"), draws.named("penalty", "generator")

    def generator(z, labels, **numbers):
        side = recipe.generator.replace(numbers=recipe.generator.numbers | numbers)
        mode = _training(make, axis_name)
        return generate(recipe.replace(generator=side), g_params, g.stats, z, labels, mode)[0]

    return PenaltyContext(
        critic=lambda images, y: discriminate(recipe, d_params, d.stats, images, y, player_gradient, axis_name)[0],
        generator=generator, params=params, reals=batch.images, fakes=fakes, real_labels=batch.labels,
        fake_labels=batch.fake_labels, z=z, real=said[0], fake=said[1], draws=draws.named("penalty"), step=state.step,
        axis_name=axis_name,
    )  # fmt: skip


def with_penalties(side: Side, name: str, values: dict, turn: PenaltyContext, memory) -> tuple[dict, Any]:
    """The turn's terms with this player's penalties, and the memory that they leave."""
    mine = dict(memory.get(name, {}))
    for key, penalty in side.penalties.items():
        own = replace(turn, draws=turn.draws.named(key), memory=mine.get(key))
        values[key], after = penalties.evaluate(penalty, own)
        if key in mine:
            mine[key] = jax.lax.stop_gradient(after)
    return values, (memory | {name: mine}) if mine else memory


def _said(recipe: Recipe, real, fake, axis_name) -> dict:
    """D's mean logits, and the mean sign of its logits of reals (r_t of Karras et al., 2020: 1
    where it is sure of all)."""
    means = _average({"discriminator/real_logit": real, "discriminator/fake_logit": fake}, axis_name)
    undecided = losses.boundary(recipe.loss)
    if undecided is None:
        undecided = (means["discriminator/real_logit"] + means["discriminator/fake_logit"]) / 2
    return means | _average({"discriminator/real_sign": jnp.sign(real - undecided)}, axis_name)


def _average(values: dict, axis_name) -> dict:
    return {k: device_mean(v.mean(), axis_name) for k, v in values.items()}


def _means(values: dict, name: str, axis_name) -> dict:
    return _average({f"{name}/{k}": v for k, v in values.items()}, axis_name)
