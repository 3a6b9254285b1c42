"""The VAE-GAN (Larsen et al., 2016) as a game of three players: a VAE whose reconstruction error is
measured in a discriminator's features.

    encoder        beta * KL(q(z|x) || N(0, I)) + r
    generator      gamma * r + its loss on samples and reconstructions (half each) + its penalties
    discriminator  its loss on reals, and on samples and reconstructions (half each) + its penalties

with r = |f(x) - f(x')|^2 / 2, where x' is the reconstruction of x from z ~ q(z|x) and f gives the
discriminator's last hidden features. Up to a constant, r is the negative log likelihood of a normal
law of variance 1 (equation 8). All three players are updated from the same state (algorithm 1), and
only the discriminator's own loss trains f. Apart from its encoder a VAE-GAN is a GAN: it is
evaluated, sampled and reported as one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gan_jax import augment, losses
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.bind import number, resolve
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Mode
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import refuse_penalties
from gan_jax.games.vae import encode, per_example
from gan_jax.gan import step as train
from gan_jax.gan.forward import discriminate, draw_latents, generate, penalty_context, training_mode, with_penalties
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import Player, State, finish_step, init_player
from gan_jax.gan.turns import mean_terms, optimizer_step, total_loss


@part("vae_gan")
class VAEGAN(Recipe):
    """A GAN's recipe with an encoder.

    It is trained simultaneously, with one discriminator turn, and without accumulation and
    controllers: those are the GAN's alone.

    encoder: a network from images to 2 d numbers, the means and log variances of z, where d is the
             generator's latent dimension
    beta:    weight of the KL term
    gamma:   weight of the reconstruction in the generator's loss, beside the adversarial terms
    """

    encoder: Any = None
    beta: Any = 0.1
    gamma: Any = 1.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("beta", "gamma"):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def game(self) -> Game:
        """The game that `fit` and `sweep` train."""
        return GAME


class VAEGANState(State):
    """A GAN's state with the encoder's player."""

    encoder: Player


def init(recipe: VAEGAN, key: Key[Array, ""]) -> VAEGANState:
    """A fresh state. Raises UserError for a recipe that cannot be built, or that asks for what this
    game lacks."""
    if recipe.encoder is None:
        raise UserError("a VAE-GAN needs an encoder: see recipes.vae_gan")
    if recipe.controllers or recipe.accumulate > 1 or recipe.d_steps > 1 or recipe.play.name != "simultaneous":
        raise UserError("a VAE-GAN plays simultaneously, in one turn, without accumulation or controllers: leave them out")
    if [name for name, change in recipe.augment.items() if augment.mixing(change)]:
        raise UserError("a VAE-GAN does not mix fakes into its reals (APA): leave that augmentation out")
    refuse_penalties("VAE-GAN", recipe, "encoder")
    state, resolved = train.init(recipe, key), resolve(recipe, jnp.int32(0))
    labels = jnp.zeros(2, jnp.int32) if recipe.classes else None
    z = resolved.latent(Draws(jax.random.key(0), jnp.arange(2)), labels, jnp.float32)
    images, _ = generate(resolved, state.generator.params, state.generator.stats, z, labels, EVALUATION)
    encoder = init_player(resolved.encoder, named(key, "encoder"), images, labels, recipe.dtype)
    fields = {name: getattr(state, name) for name in ("step", "key", "generator", "discriminator", "ema", "memory")}
    return VAEGANState(**fields, encoder=encoder)


def step(recipe: VAEGAN, state: VAEGANState, batch: Batch, axis_name: str | None = None) -> tuple[VAEGANState, dict]:
    """One optimizer step of each player from the same state. Returns the new state, and scalars
    averaged over the whole batch."""
    resolved = resolve(recipe, state.step)
    batch = batch if recipe.classes else batch.replace(labels=None)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    batch, z = draw_latents(resolved, batch, draws, axis_name)
    losses_of = {"encoder": _encoder_loss, "generator": _generator_loss, "discriminator": _discriminator_loss}
    new, metrics, memory = {}, {}, state.memory
    for name, loss in losses_of.items():
        player = getattr(state, name)
        of_params = lambda params, loss=loss: loss(resolved, state, params, batch, z, draws)
        gradient, (stats, remembered, values) = jax.grad(of_params, has_aux=True)(player.params)
        new[name] = optimizer_step(getattr(resolved, name), player, device_mean(gradient, axis_name), stats)
        metrics |= mean_terms(name, values, axis_name)
        if name in remembered:
            memory = memory | {name: remembered[name]}
    latest = {"params": new["generator"].params, "stats": new["generator"].stats}
    return finish_step(recipe, resolved, state, state.replace(memory=memory, **new), latest), metrics


# ---- the losses: each with (statistics, memory of its penalties, what is logged) ----------------


def _encoder_loss(recipe, state, params, batch, z, draws):
    posterior, stats = _posterior(recipe, state, params, batch, draws)
    made, _ = _reconstruction(recipe, state, state.generator.params, posterior, batch, draws)
    kl = posterior.kl().sum(-1)
    values = {"kl": jnp.asarray(recipe.beta, kl.dtype) * kl, "reconstruction": _error(recipe, state, batch, made, draws)}
    return total_loss(values), (stats, {}, values)


def _generator_loss(recipe, state, params, batch, z, draws):
    d = state.discriminator
    posterior, _ = _posterior(recipe, state, state.encoder.params, batch, draws)
    made, stats = _reconstruction(recipe, state, params, posterior, batch, draws)
    fakes, stats = generate(recipe, params, stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    judge = lambda images, labels, name: discriminate(
        recipe, d.params, d.stats, images, labels, draws.named(name), batch.axis_name
    )[0]
    real, fake = judge(batch.images, batch.labels, "judge"), judge(fakes, batch.fake_labels, "judge fakes")
    values = {
        "loss": 0.5 * recipe.loss(real, fake, batch).generator,
        "loss_reconstructed": 0.5 * recipe.loss(real, judge(made, batch.labels, "judge made"), batch).generator,
    }
    values["reconstruction"] = jnp.asarray(recipe.gamma, made.dtype) * _error(recipe, state, batch, made, draws)
    context = penalty_context(recipe, state, "generator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.generator, "generator", values, context, state.memory)
    return total_loss(values), (stats, memory, values)


def _discriminator_loss(recipe, state, params, batch, z, draws):
    g, d = state.generator, state.discriminator
    posterior, _ = _posterior(recipe, state, state.encoder.params, batch, draws)
    made, _ = _reconstruction(recipe, state, g.params, posterior, batch, draws)
    fakes, _ = generate(recipe, g.params, g.stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    judge = lambda stats, images, labels, name: discriminate(
        recipe, params, stats, images, labels, draws.named(name), batch.axis_name
    )
    real, stats = judge(d.stats, batch.images, batch.labels, "judge")
    fake, stats = judge(stats, fakes, batch.fake_labels, "judge fakes")
    again, stats = judge(stats, made, batch.labels, "judge made")
    terms, others = recipe.loss(real, fake, batch), recipe.loss(real, again, batch)
    values = {"loss": losses.real_weights(batch, terms.real) * terms.real + 0.5 * (terms.fake + others.fake)}
    context = penalty_context(recipe, state, "discriminator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(recipe.discriminator, "discriminator", values, context, state.memory)
    logged = values | {"real_logit": real.logits, "fake_logit": fake.logits, "reconstructed_logit": again.logits}
    return total_loss(values), (stats, memory, logged)


def _mode(draws: Draws, name: str, batch: Batch) -> Mode:
    return training_mode(draws.named(name), batch.axis_name)


def _posterior(recipe, state, params, batch: Batch, draws: Draws):
    return encode(recipe, params, state.encoder.stats, batch.images, batch.labels, _mode(draws, "encode", batch))


def _reconstruction(recipe, state, params, posterior, batch: Batch, draws: Draws):
    """(x', new statistics of the generator) from one z ~ q(z|x)."""
    z = posterior.draw(draws.named("posterior").normal(posterior.mean.shape[1:], posterior.mean.dtype))
    return generate(recipe, params, state.generator.stats, z, batch.labels, _mode(draws, "reconstruct", batch))


def _error(recipe, state, batch: Batch, made, draws: Draws) -> Float[Array, "b"]:
    """r = |f(x) - f(x')|^2 / 2 of each example; the discriminator sees both with the same draws."""
    d, own = state.discriminator, draws.named("judge")
    features = lambda x: discriminate(recipe, d.params, d.stats, x, batch.labels, own, batch.axis_name)[0].features
    return 0.5 * per_example((features(batch.images) - features(made)) ** 2)


GAME = part("vae_gan", "GAME")(
    Game(init, step, GAN.examples, GAN.dtype, GAN.check, GAN.evaluate, GAN.observe, GAN.sample, sampler=GAN.sampler)
)
