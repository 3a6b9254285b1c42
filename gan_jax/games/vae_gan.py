"""The VAE-GAN (Larsen et al., 2016) as a game of three players: a VAE whose reconstruction error is
measured in a discriminator's features.

    encoder        beta * KL(q(z|x) || N(0, I)) + r
    generator      gamma * r + its loss on samples and reconstructions (half each) + its penalties
    discriminator  its loss on reals, and on samples and reconstructions (half each) + its penalties

with r = |f(x) - f(x')|^2 / 2, where x' is the reconstruction of x from z ~ q(z|x) and f gives the
discriminator's last hidden features. Up to a constant, r is the negative log likelihood of a normal
law of variance 1 (equation 8). All three players are updated from the same state (algorithm 1), and
only the discriminator's own loss trains f. A VAE-GAN is evaluated, sampled and reported as a GAN.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gan_jax import augment, losses
from gan_jax.core.batch import Batch
from gan_jax.core.bind import resolve
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Mode
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import refuse_penalties
from gan_jax.games.common import Knobs, gradient_step
from gan_jax.games.vae import encode, per_example
from gan_jax.gan import step as train
from gan_jax.gan.forward import discriminate, draw_latents, generate, loss_terms, penalty_context, training_mode, with_penalties
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import Player, State, finish_step, init_player
from gan_jax.gan.turns import mean_terms, total_loss


@part("vae_gan")
class VAEGAN(Recipe):
    """A GAN's recipe with an encoder. It plays simultaneously, with one discriminator turn, and
    without accumulation and controllers: those are the GAN's alone.

    encoder: a network from images to 2 d numbers, the means and log variances of z, where d is the
             generator's latent dimension
    beta:    weight of the KL term
    gamma:   weight of the reconstruction in the generator's loss, beside the adversarial terms
    """

    encoder: Any = None
    beta: Any = 0.1
    gamma: Any = 1.0

    game = property(lambda recipe: GAME)
    __post_init__ = Knobs.__post_init__


class VAEGANState(State):
    """A GAN's state with the encoder's player."""

    encoder: Player


def init(recipe: VAEGAN, key: Key[Array, ""]) -> VAEGANState:
    """A fresh state. Raises UserError for a recipe that asks for what this game lacks."""
    if recipe.encoder is None:
        raise UserError("a VAE-GAN needs an encoder: see recipes.vae_gan")
    if recipe.controllers or recipe.accumulate > 1 or recipe.d_steps > 1 or recipe.play.name != "simultaneous":
        raise UserError("a VAE-GAN plays simultaneously, in one turn, without accumulation or controllers: leave them out")
    if any(map(augment.mixing, recipe.augment.values())):
        raise UserError("a VAE-GAN does not mix fakes into its reals (APA): leave that augmentation out")
    refuse_penalties("VAE-GAN", recipe, "encoder")
    state, resolved = train.init(recipe, key), resolve(recipe, jnp.int32(0))
    labels = jnp.zeros(2, jnp.int32) if recipe.classes else None
    z = resolved.latent(Draws(jax.random.key(0), jnp.arange(2)), labels, jnp.float32)
    images, _ = generate(resolved, state.generator.params, state.generator.stats, z, labels, EVALUATION)
    encoder = init_player(resolved.encoder, named(key, "encoder"), images, labels, recipe.dtype)
    if (d := encode(resolved, encoder.params, encoder.stats, images, labels, EVALUATION)[0].mean.shape[-1]) != z.shape[-1]:
        raise UserError(f"the encoder knows {d} latents, the generator {z.shape[-1]}: its features are 2 numbers for each")
    return VAEGANState(**vars(state), encoder=encoder)


def step(recipe: VAEGAN, state: VAEGANState, batch: Batch, axis_name: str | None = None) -> tuple[VAEGANState, dict]:
    """One optimizer step of each player from the same state."""
    resolved = resolve(recipe, state.step)
    batch = batch if recipe.classes else batch.replace(labels=None)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    batch, z = draw_latents(resolved, batch, draws, axis_name)
    losses_of = {"encoder": _encoder_loss, "generator": _generator_loss, "discriminator": _discriminator_loss}
    new, metrics, memory = state, {}, state.memory
    for name, loss in losses_of.items():
        of_params = lambda params, name=name, loss=loss: loss(resolved, state, params[name], batch, z, draws)
        new, _, (remembered, values) = gradient_step(resolved, new, (name,), of_params, axis_name)
        metrics |= mean_terms(name, values, axis_name)
        if name in remembered:
            memory = memory | {name: remembered[name]}
    latest = {"params": new.generator.params, "stats": new.generator.stats}
    return finish_step(recipe, resolved, state, new.replace(memory=memory), latest), metrics


# ---- the losses: each with ({player: statistics}, (memory of its penalties, what is logged)) ----


def _encoder_loss(recipe: VAEGAN, state: VAEGANState, params, batch: Batch, z, draws: Draws):
    posterior, made, stats, _ = _autoencoded(recipe, state, params, state.generator.params, batch, draws)
    kl = posterior.kl().sum(-1)
    values = {"kl": jnp.asarray(recipe.beta, kl.dtype) * kl, "reconstruction": _error(recipe, state, batch, made, draws)}
    return total_loss(values), ({"encoder": stats}, ({}, values))


def _generator_loss(recipe: VAEGAN, state: VAEGANState, params, batch: Batch, z, draws: Draws):
    d = state.discriminator
    _, made, _, stats = _autoencoded(recipe, state, state.encoder.params, params, batch, draws)
    fakes, stats = generate(recipe, params, stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    output = lambda images, labels, name: discriminate(
        recipe, d.params, d.stats, images, labels, draws.named(name), batch.axis_name
    )[0]
    real, fake = output(batch.images, batch.labels, "judge"), output(fakes, batch.fake_labels, "judge fakes")
    values = {
        "loss": 0.5 * loss_terms(recipe, real, fake, batch).generator,
        "loss_reconstructed": 0.5 * loss_terms(recipe, real, output(made, batch.labels, "judge made"), batch).generator,
    }
    values["reconstruction"] = jnp.asarray(recipe.gamma, made.dtype) * _error(recipe, state, batch, made, draws)
    context = penalty_context(recipe, state, "generator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.generator, "generator", values, context, state.memory)
    return total_loss(values), ({"generator": stats}, (memory, values))


def _discriminator_loss(recipe: VAEGAN, state: VAEGANState, params, batch: Batch, z, draws: Draws):
    g, d = state.generator, state.discriminator
    _, made, _, _ = _autoencoded(recipe, state, state.encoder.params, g.params, batch, draws)
    fakes, _ = generate(recipe, g.params, g.stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    output = lambda stats, images, labels, name: discriminate(
        recipe, params, stats, images, labels, draws.named(name), batch.axis_name
    )
    real, stats = output(d.stats, batch.images, batch.labels, "judge")
    fake, stats = output(stats, fakes, batch.fake_labels, "judge fakes")
    again, stats = output(stats, made, batch.labels, "judge made")
    terms, others = loss_terms(recipe, real, fake, batch), loss_terms(recipe, real, again, batch)
    values = {"loss": losses.real_weights(batch, terms.real) * terms.real + 0.5 * (terms.fake + others.fake)}
    context = penalty_context(recipe, state, "discriminator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.discriminator, "discriminator", values, context, state.memory)
    logged = values | {"real_logit": real.logits, "fake_logit": fake.logits, "reconstructed_logit": again.logits}
    return total_loss(values), ({"discriminator": stats}, (memory, logged))


def _mode(draws: Draws, name: str, batch: Batch) -> Mode:
    return training_mode(draws.named(name), batch.axis_name)


def _autoencoded(recipe: VAEGAN, state: VAEGANState, e_params, g_params, batch: Batch, draws: Draws) -> tuple:
    """(q(z|x), x' from one z ~ q(z|x), new statistics of the encoder, and of the generator)."""
    mode = _mode(draws, "encode", batch)
    posterior, e_stats = encode(recipe, e_params, state.encoder.stats, batch.images, batch.labels, mode)
    z = posterior.draw(draws.named("posterior").normal(posterior.mean.shape[1:], posterior.mean.dtype))
    mode = _mode(draws, "reconstruct", batch)
    made, g_stats = generate(recipe, g_params, state.generator.stats, z, batch.labels, mode)
    return posterior, made, e_stats, g_stats


def _error(recipe: VAEGAN, state: VAEGANState, batch: Batch, made, draws: Draws) -> Float[Array, "b"]:
    """r = |f(x) - f(x')|^2 / 2 of each example; the discriminator sees both with the same draws."""
    d, own = state.discriminator, draws.named("judge")
    known, seen = (
        discriminate(recipe, d.params, d.stats, x, batch.labels, own, batch.axis_name)[0].features for x in (batch.images, made)
    )
    if known is None:
        raise UserError("the discriminator of a VAE-GAN returns features too, [b, d]: the reconstruction error is theirs")
    return 0.5 * per_example((known - seen) ** 2)


GAME = part("vae_gan", "GAME")(
    Game(init, step, GAN.examples, GAN.dtype, GAN.check, GAN.evaluate, GAN.observe, GAN.sample, sampler=GAN.sampler)
)
