"""The forward passes of a turn: latents, generated images, outputs and penalties."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax import augment, losses, penalties
from gan_jax.checks import check_floats, check_judged, check_rows
from gan_jax.core.batch import Batch
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput, Mode
from gan_jax.core.rng import Draws
from gan_jax.gan.recipe import Recipe, Side
from gan_jax.gan.state import Player, State
from gan_jax.penalties import PenaltyContext
from gan_jax.text import described


def training_mode(draws: Draws, axis_name: str | None) -> Mode:
    return Mode(train=True, draws=draws, axis_name=axis_name)


def draw_latents(recipe: Recipe, batch: Batch, draws: Draws, axis_name) -> tuple[Batch, Float[Array, "b d"]]:
    """The batch with the labels to generate, and the latents z of the images to generate."""
    labels = recipe.fake_labels(draws.named("labels"), batch, recipe.classes)
    z = recipe.latent(draws.named("latent"), labels, batch.images.dtype)
    return batch.replace(fake_labels=labels, axis_name=axis_name), z


def generate(recipe: Recipe, params: Any, stats: Any, z: Array, labels: Array | None, mode: Mode) -> tuple[Array, Any]:
    """(images, new statistics) of the generator with these parameters."""
    side = recipe.generator
    images, stats = side.net.apply(params, stats, z, labels, mode, side.numbers, recipe.compute_dtype)
    batch = lambda shape: len(shape) > 1 and shape[0] == len(z)
    check_floats(images, batch, f"the generator, for {len(z)} latents,", "one image for each, floats [b, ...] in [-1, 1]")
    return images, stats


def discriminate(
    recipe: Recipe, params, stats, images, labels, draws: Draws, axis_name, passes: int = 1
) -> tuple[DiscriminatorOutput, Any]:
    """(output, new statistics) of the discriminator in training, which sees augmented images.
    passes: the number of batches that are concatenated in `images`, see `Mode`."""
    side = recipe.discriminator
    for name, change in recipe.augment.items():
        if not augment.mixing(change):
            changed = change(images, labels, draws.named("augment", name))
            alike = f"images of the shape it is given, {list(images.shape)}"
            check_floats(changed, lambda shape, given=images.shape: shape == given, f"the augmentation {name}", alike)
            images = changed
    mode = training_mode(draws, axis_name).replace(passes=passes)
    output, stats = side.net.apply(params, stats, images, labels, mode, side.numbers, recipe.compute_dtype)
    return check_judged(output, len(images), recipe.classes), stats


def loss_terms(recipe: Recipe, real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Batch) -> losses.Terms:
    """The terms of the recipe's loss. Raises UserError unless they are `Terms`, one value each per
    logit."""
    terms, what = recipe.loss(real, fake, batch), f"the loss {recipe.loss.name}"
    if not isinstance(terms, losses.Terms):
        raise UserError(f"{what} returns {described(terms)}: it must return losses.Terms(real, fake, generator), [b] each")
    for name, values, judged in zip(terms._fields, terms, (real, fake, fake), strict=True):
        n = len(judged.logits)
        check_rows(values, (n,), f"{what}, for {n} logits,", f"{name} terms [{n}], one value per example, not their mean")
    return terms


def discriminate_both(recipe: Recipe, params, stats, batch: Batch, fakes, draws: Draws, axis_name):
    """(output for reals, output for fakes, new statistics). Two forward passes, reals first, or
    one pass with shared batch statistics where `recipe.judge_together` is set."""
    fake_labels = batch.fake_labels
    if not recipe.judge_together:
        real, stats = discriminate(recipe, params, stats, batch.images, batch.labels, draws.named("reals"), axis_name)
        fake, stats = discriminate(recipe, params, stats, fakes, fake_labels, draws.named("fakes"), axis_name)
        return real, fake, stats
    images, labels = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (batch.images, batch.labels), (fakes, fake_labels))
    both = draws.replace(index=jnp.concatenate([draws.index, draws.index + recipe.batch_size]))
    output, stats = discriminate(recipe, params, stats, images, labels, both.named("both"), axis_name, 2)
    n = len(output.logits) // 2
    return jax.tree.map(lambda x: x[:n], output), jax.tree.map(lambda x: x[n:], output), stats


def with_mixed_fakes(recipe: Recipe, g: Player, batch: Batch, draws: Draws, axis_name) -> Batch:
    """The batch with fakes among its reals, where an augmentation mixes them in (`augment.mixing`).
    These fakes are other draws than the batch's fakes. They have the labels of the reals that they
    replace, under which the discriminator sees them."""
    if not any(augment.mixing(change) for change in recipe.augment.values()):
        return batch
    own = draws.named("posing")  # APA's word; the name enters the draws, so it stays
    z = recipe.latent(own.named("latent"), batch.labels, batch.images.dtype)
    fakes, _ = generate(recipe, g.params, g.stats, z, batch.labels, training_mode(own.named("generate"), axis_name))
    return batch.replace(images=augment.mixed(recipe.augment, batch.images, fakes, draws.named("augment")))


def penalty_context(
    recipe: Recipe, state: State, player: str, params, batch: Batch, fakes, z, outputs: tuple, draws: Draws
) -> PenaltyContext:
    """What penalties of this player see, with `params` in the place of the player's parameters."""
    g, d, axis_name = state.generator, state.discriminator, batch.axis_name
    g_params, d_params = (params, d.params) if player == "generator" else (g.params, params)
    critic_draws, generator_draws = draws.named("penalty", "critic"), draws.named("penalty", "generator")

    def generator(z, labels, **numbers):
        side = recipe.generator.replace(numbers=recipe.generator.numbers | numbers)
        mode = training_mode(generator_draws, axis_name)
        return generate(recipe.replace(generator=side), g_params, g.stats, z, labels, mode)[0]

    return PenaltyContext(
        critic=lambda images, y: discriminate(recipe, d_params, d.stats, images, y, critic_draws, axis_name)[0],
        generator=generator, params=params, reals=batch.images, fakes=fakes, real_labels=batch.labels,
        fake_labels=batch.fake_labels, z=z, real=outputs[0], fake=outputs[1], draws=draws.named("penalty"),
        step=state.step, axis_name=axis_name,
    )  # fmt: skip


def with_penalties(side: Side, player: str, values: dict, context: PenaltyContext, memory: dict) -> tuple[dict, dict]:
    """The player's loss terms with its penalties added, and the memory that the penalties leave."""
    remembered = dict(memory.get(player, {}))
    for name, penalty in side.penalties.items():
        own = replace(context, draws=context.draws.named(name), memory=remembered.get(name))
        values[name], after = penalties.evaluate(penalty, own)
        if name in remembered:
            remembered[name] = jax.lax.stop_gradient(after)
    return values, (memory | {player: remembered}) if remembered else memory
