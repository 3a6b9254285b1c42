"""The VAE-GAN (Larsen et al., 2016) as a game of three players: a VAE whose error is measured in a
discriminator's features.

    encoder        beta * KL(q(z|x) || N(0, I)) + r
    generator      gamma * r + its loss on samples and on reconstructions, half each, and its penalties
    discriminator  its loss on reals, and on samples and reconstructions, half each, and its penalties

with r = |f(x) - f(x')|^2 / 2, x' the reconstruction of x from z ~ q(z|x) and f the discriminator's last hidden features: the
negative log likelihood of a normal law of variance 1, but for a constant (equation 8). All three move from the same point
(Algorithm 1), and f is nobody's to change but the discriminator's. Apart from its encoder it is a GAN, and is evaluated,
sampled and reported as one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gan_jax import augment, losses
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.bind import Schedule, number, resolve
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game, refuse_penalties
from gan_jax.core.net import EVALUATION, Mode, cast
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.games.vae import encode, per_example
from gan_jax.gan import step as train
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import Player, State, moving_average
from gan_jax.gan.turns import discriminate, draw_latents, generate, optimizer_step, penalty_context, total_loss, with_penalties


@part("vae_gan")
class VAEGAN(Recipe):
    """A GAN's recipe with an encoder. Ways to `play`, several turns of D, accumulation and
    controllers are the GAN's alone.

    encoder: of images to 2 d numbers, means and log variances of z, where d is the generator's
        latent dimension
    beta:    weight of the KL term; gamma: of the reconstruction in the generator's loss, against
             the discriminator
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
        """What `fit` and `sweep` play with it."""
        return GAME


class VAEGANState(State):
    """A GAN's state with the encoder's player."""

    encoder: Player


def init(recipe: VAEGAN, key: Key[Array, ""]) -> VAEGANState:
    """A fresh state. Raises UserError for a recipe that cannot be built, or asks for what this game
    has not."""
    if recipe.encoder is None:
        raise UserError("a VAE-GAN needs an encoder: see recipes.vae_gan")
    if recipe.controllers or recipe.accumulate > 1 or recipe.d_steps > 1 or recipe.play.name != "simultaneous":
        raise UserError("a VAE-GAN plays simultaneously, in one turn, without accumulation or controllers: leave them out")
    if [name for name, change in recipe.augment.items() if augment.mixing(change)]:
        raise UserError("a VAE-GAN does not mix fakes into its reals (APA): leave that augmentation out")
    refuse_penalties("VAE-GAN", recipe, "encoder")
    state, live = train.init(recipe, key), resolve(recipe, jnp.int32(0))
    labels, side = jnp.zeros(2, jnp.int32) if recipe.classes else None, live.encoder
    z = live.latent(Draws(jax.random.key(0), jnp.arange(2)), labels, jnp.float32)
    images, _ = generate(live, state.generator.params, state.generator.stats, z, labels, EVALUATION)
    params, stats = cast(side.net.init(named(key, "encoder"), images, labels, side.numbers), recipe.dtype)
    encoder = Player(params, stats, cast(side.optimizer().init(params), recipe.dtype))
    fields = {name: getattr(state, name) for name in ("step", "key", "generator", "discriminator", "ema", "memory")}
    return VAEGANState(**fields, encoder=encoder)


def step(recipe: VAEGAN, state: VAEGANState, batch: Batch, axis_name: str | None = None) -> tuple[VAEGANState, dict]:
    """All three players move from the same point. Returns the new state and scalars averaged over
    the whole batch."""
    live = resolve(recipe, state.step)
    batch = batch if recipe.classes else batch.replace(labels=None)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    batch, z = draw_latents(live, batch, draws, axis_name)
    looks = {"encoder": _encoder_loss, "generator": _generator_loss, "discriminator": _discriminator_loss}
    new, metrics, memory = {}, {}, state.memory
    for name, loss in looks.items():
        player = getattr(state, name)
        look = jax.value_and_grad(lambda params, loss=loss: loss(live, state, params, batch, z, draws), has_aux=True)
        (_, (stats, remembered, values)), gradient = look(player.params)
        new[name] = optimizer_step(getattr(live, name), player, device_mean(gradient, axis_name), stats)
        metrics |= {f"{name}/{key}": device_mean(value.mean(), axis_name) for key, value in values.items()}
        if name in remembered:
            memory = memory | {name: remembered[name]}
    latest = {"params": new["generator"].params, "stats": new["generator"].stats}
    ramp = not isinstance(recipe.ema_decay, Schedule)
    ema = moving_average(live.ema_decay, state.step, state.ema, latest, ramp)
    after = state.replace(step=state.step + 1, ema=ema, memory=memory, **new)
    return jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), after, state), metrics


# ---- the losses: (stats, what its penalties remember, what is logged) beside each --------------


def _encoder_loss(live, state, params, batch, z, draws):
    posterior, stats = _posterior(live, state, params, batch, draws)
    error = _error(live, state, batch, _reconstruction(live, state, state.generator.params, posterior, batch, draws)[0], draws)
    kl = posterior.kl().sum(-1)
    values = {"kl": jnp.asarray(live.beta, kl.dtype) * kl, "reconstruction": error}
    return total_loss(values), (stats, {}, values)


def _generator_loss(live, state, params, batch, z, draws):
    d = state.discriminator
    posterior, _ = _posterior(live, state, state.encoder.params, batch, draws)
    made, stats = _reconstruction(live, state, params, posterior, batch, draws)
    fakes, stats = generate(live, params, stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    said = lambda images, labels, name: discriminate(
        live, d.params, d.stats, images, labels, draws.named(name), batch.axis_name
    )[0]
    real, fake = said(batch.images, batch.labels, "judge"), said(fakes, batch.fake_labels, "judge fakes")
    values = {
        "loss": 0.5 * live.loss(real, fake, batch).generator,
        "loss_reconstructed": 0.5 * live.loss(real, said(made, batch.labels, "judge made"), batch).generator,
    }
    values["reconstruction"] = jnp.asarray(live.gamma, made.dtype) * _error(live, state, batch, made, draws)
    turn = penalty_context(live, state, "generator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(live.generator, "generator", values, turn, state.memory)
    return total_loss(values), (stats, memory, values)


def _discriminator_loss(live, state, params, batch, z, draws):
    g, d = state.generator, state.discriminator
    posterior, _ = _posterior(live, state, state.encoder.params, batch, draws)
    made, _ = _reconstruction(live, state, g.params, posterior, batch, draws)
    fakes, _ = generate(live, g.params, g.stats, z, batch.fake_labels, _mode(draws, "generate", batch))
    said = lambda stats, images, labels, name: discriminate(
        live, params, stats, images, labels, draws.named(name), batch.axis_name
    )
    real, stats = said(d.stats, batch.images, batch.labels, "judge")
    fake, stats = said(stats, fakes, batch.fake_labels, "judge fakes")
    again, stats = said(stats, made, batch.labels, "judge made")
    terms, others = live.loss(real, fake, batch), live.loss(real, again, batch)
    values = {"loss": losses.real_weights(batch, terms.real) * terms.real + 0.5 * (terms.fake + others.fake)}
    turn = penalty_context(live, state, "discriminator", params, batch, fakes, z, (real, fake), draws)
    values, memory = with_penalties(live.discriminator, "discriminator", values, turn, state.memory)
    logged = values | {"real_logit": real.logits, "fake_logit": fake.logits, "reconstructed_logit": again.logits}
    return total_loss(values), (stats, memory, logged)


def _mode(draws: Draws, name: str, batch: Batch) -> Mode:
    return Mode(True, draws.named(name), batch.axis_name)


def _posterior(live, state, params, batch: Batch, draws: Draws):
    return encode(live, params, state.encoder.stats, batch.images, batch.labels, _mode(draws, "encode", batch))


def _reconstruction(live, state, params, posterior, batch: Batch, draws: Draws):
    """(x', new stats of the generator) from one z ~ q(z|x)."""
    z = posterior.draw(draws.named("posterior").normal(posterior.mean.shape[1:], posterior.mean.dtype))
    return generate(live, params, state.generator.stats, z, batch.labels, _mode(draws, "reconstruct", batch))


def _error(live, state, batch: Batch, made, draws: Draws) -> Float[Array, "b"]:
    """|f(x) - f(x')|^2 / 2, both judged with the same draws, by the discriminator as it is."""
    d = state.discriminator
    seen = lambda x: discriminate(live, d.params, d.stats, x, batch.labels, draws.named("judge"), batch.axis_name)[0].features
    return 0.5 * per_example((seen(batch.images) - seen(made)) ** 2)


GAME = part("vae_gan", "GAME")(
    Game(init, step, GAN.examples, GAN.dtype, GAN.check, GAN.evaluate, GAN.observe, GAN.sample, sampler=GAN.sampler)
)
