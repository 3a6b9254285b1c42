"""MisGAN's forward passes, and the losses of its players.

knobs are a `MisGAN` at one step (its schedules resolved), and state is its `MisGANState`: both are
classes of `misgan.py`, which imports this file.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax import penalties
from gan_jax.core.net import Mode
from gan_jax.core.rng import Draws
from gan_jax.games.imputation.cells import cells_of
from gan_jax.games.vae import per_example


def generate(knobs: Any, name: str, params: Any, stats: Any, z: Array, mode: Mode) -> tuple[Float[Array, "b *shape"], Any]:
    """(complete examples of the "data_generator", or masks of the "mask_generator", in [0, 1]; new
    statistics)."""
    side = getattr(knobs, name)
    logits, stats = side.net.apply(params, stats, z, None, mode, side.numbers)
    if name == "data_generator":
        return jax.nn.sigmoid(logits).reshape(len(z), *knobs.image_shape), stats
    temperature, stretch = (jnp.asarray(x, logits.dtype) for x in (knobs.temperature, knobs.stretch))
    masks = jnp.clip(jax.nn.sigmoid(logits / temperature) * (1 + 2 * stretch) - stretch, 0, 1)
    return jnp.broadcast_to(masks, (len(z), *knobs.image_shape)), stats  # one channel may serve all


def fill(knobs: Any, params: Any, x: Array, mask: Array, z: Array, mode: Mode) -> Float[Array, "b *shape"]:
    """The imputer's answer for every cell, in [0, 1].

    z: what stands in missing cells, as a share of the noise's range
    """
    side, n = knobs.imputer, len(x)
    noisy = jnp.where(mask > 0, x, jnp.asarray(knobs.noise, x.dtype) * z)
    rows = jnp.concatenate([noisy.reshape(n, -1), mask.reshape(n, -1)], -1)
    return jax.nn.sigmoid(side.net.apply(params, {}, rows, None, mode, side.numbers)[0]).reshape(x.shape)


def criticise(knobs: Any, name: str, params: Any, examples: Array, mode: Mode) -> Float[Array, "b"]:
    """The logits of the named critic."""
    side = getattr(knobs, name)
    return side.net.apply(params, {}, examples, None, mode, side.numbers)[0].logits


def masked(knobs: Any, x: Array, mask: Array) -> Array:
    """f(x, m) = m x + (1 - m) tau."""
    return mask * x + (1 - mask) * jnp.asarray(knobs.tau, x.dtype)


def observed(knobs: Any, images: Array, mask: Array | None) -> tuple[Array, Array]:
    """(values, 0 where missing; mask, 1 where observed): [b, *image_shape] each."""
    values, mask = cells_of(images, mask)
    shaped = lambda x: x.reshape(len(x), *knobs.image_shape)
    return shaped(jnp.where(mask, values, 0)), shaped(mask.astype(values.dtype))


def generated(knobs: Any, state: Any, name: str, params: Any, draws: Draws, axis_name) -> tuple[Array, Any]:
    """What the named generator makes of fresh z ~ N(0, I); its new statistics."""
    draws = draws.named(name)
    z = draws.named("latent").normal((knobs.latent_dim,), jnp.dtype(knobs.dtype))
    return generate(knobs, name, params, getattr(state, name).stats, z, Mode(True, draws, axis_name))


def filled(knobs: Any, params: Any, x: Array, mask: Array, draws: Draws, axis_name) -> Array:
    """What the imputer makes of these examples and fresh noise."""
    draws = draws.named("imputer")
    return fill(knobs, params, x, mask, draws.named("noise").uniform(x.shape[1:], x.dtype), Mode(True, draws, axis_name))


def _logits(knobs, state, name, examples, draws: Draws) -> Float[Array, "b"]:
    """The logits of a critic in the turn of the generators."""
    return criticise(knobs, name, getattr(state, name).params, examples, Mode(True, draws.named(name)))


def critic_terms(knobs: Any, name: str, pair: tuple[Array, Array], draws: Draws, params: Any) -> tuple[dict, Any]:
    """(loss of a critic for each example, term by term; no statistics). pair: (real, fake)
    examples. The loss is D(fake) - D(real), and the gradient penalty `gp`."""
    side, (real, fake) = getattr(knobs, name), pair

    def critic(examples, labels=None):
        return side.net.apply(params, {}, examples, labels, Mode(True, draws.named("judge")), side.numbers)[0]

    unused: dict[str, Any] = dict.fromkeys(("generator", "z", "real_labels", "fake_labels", "step"))
    context = penalties.PenaltyContext(
        critic=critic, params=params, reals=real, fakes=fake, draws=draws.named("penalty"), **unused
    )
    return {"loss": critic(fake).logits - critic(real).logits, "gp": penalties.wgan_gp(context, weight=knobs.gp)}, {}


def generator_terms(knobs: Any, state: Any, name: str, examples: tuple, draws: Draws, axis_name, params: Any) -> tuple:
    """(loss of the data or the mask generator for each example, term by term; new statistics)."""
    at = lambda other: params if other == name else getattr(state, other).params
    data, data_stats = generated(knobs, state, "data_generator", at("data_generator"), draws, axis_name)
    masks, mask_stats = generated(knobs, state, "mask_generator", at("mask_generator"), draws, axis_name)
    against_data = -_logits(knobs, state, "data_critic", masked(knobs, data, masks), draws)
    if name == "mask_generator":
        alpha = jnp.asarray(knobs.alpha, against_data.dtype)
        return {"loss": -_logits(knobs, state, "mask_critic", masks, draws), "data": alpha * against_data}, mask_stats
    if knobs.imputer is None:
        return {"loss": against_data}, data_stats
    beta = jnp.asarray(knobs.beta, against_data.dtype)
    return {"loss": against_data, "imputation": beta * _logits(knobs, state, "imputer_critic", data, draws)}, data_stats


def imputer_terms(knobs: Any, state: Any, name: str, examples: tuple, draws: Draws, axis_name, params: Any) -> tuple:
    """(loss of the imputer for each example, term by term; no statistics)."""
    x, mask = examples
    made = filled(knobs, params, x, mask, draws, axis_name)
    mismatch = per_example(mask * jnp.square(x - made)) / jnp.maximum(per_example(mask), 1)
    loss = -_logits(knobs, state, "imputer_critic", jnp.where(mask > 0, x, made), draws)
    return {"loss": loss, "reconstruction": jnp.asarray(knobs.gamma, made.dtype) * mismatch}, {}
