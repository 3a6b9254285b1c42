"""Consistency: the discriminator answers alike where the difference does not matter, in pixels or
in the latent space.

All are differences of two looks with the same draws (augmentations, dropout, the generator's
noise), so that nothing but the transformation tells them apart. Each look is a further pass of the
network that takes it; where nothing is drawn, XLA finds the first look's forward pass done already.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.augment.parts import copied, reflected
from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.penalties.context import PenaltyContext, only_for
from gan_jax.penalties.gradient import square_norm

SHARE = 8  # a shift is at most this part of a side


@part("penalties")
@only_for("discriminator")
def cr(context: PenaltyContext, *, weight, flip: bool = False) -> Float[Array, "b"]:
    """weight * (D(x) - D(T(x)))^2 on reals (Zhang et al., 2020, equation 2, of the logits alone).
    For D.

    T: a shift by up to an eighth of each side, uniform over whole pixels, filled by reflection;
    with `flip` also left-right in half of the cases, as in the paper. It is False by default: not
    for digits, letters or whatever has a handedness.

    weight: 10 in the paper. Raises UserError for data that are not images.
    """
    return _weighted(weight, _inconsistency(context, context.reals, context.real_labels, "reals", flip))


@part("penalties")
def bcr(context: PenaltyContext, *, weight, fakes=1.0, flip: bool = False) -> Float[Array, "b"]:
    """weight * ((D(x) - D(T(x)))^2 + fakes * (D(G(z)) - D(T(G(z))))^2): balanced (Zhao et al.,
    2021, algorithm 1). For D.

    T and flip as for `cr`, which alone lets the shifts of the reals leak into the samples. fakes:
    the fakes' weight as a share of the reals'; both are 10 in the paper, so weight 10 and fakes 1,
    the default.

    Raises UserError for data that are not images.
    """
    real = _inconsistency(context, context.reals, context.real_labels, "reals", flip)
    fake = _inconsistency(context, context.fakes, context.fake_labels, "fakes", flip)
    return _weighted(weight, real + jnp.asarray(fakes, fake.dtype) * fake)


@part("penalties")
def zcr_discriminator(context: PenaltyContext, *, weight, sigma=0.05) -> Float[Array, "b"]:
    """weight * (D(G(z)) - D(G(z + sigma * N(0, 1))))^2: D overlooks a small step of z (Zhao et al.,
    2021, algorithm 2).

    weight: 20 and sigma .05 (the default) in StudioGAN's CIFAR-10 configuration; .2 and .1 in
    StyleGAN2-ADA's experiments, logistic loss.
    """
    images, moved = _neighbours(context, sigma)
    return _weighted(
        weight, jnp.square(_logits(context, images, context.fake_labels) - _logits(context, moved, context.fake_labels))
    )


@part("penalties")
@only_for("generator")
def zcr_generator(context: PenaltyContext, *, weight, sigma=0.05) -> Float[Array, "b"]:
    """-weight * mean over pixels of (G(z) - G(z + sigma * N(0, 1)))^2: a step of z shows (Zhao et
    al., 2021, algorithm 2).

    Not positive, and bounded below for images alone: an unbounded generator (points) can grow it
    without end. For G.

    weight: .5 and sigma .05 (the default) in StudioGAN's CIFAR-10 configuration; .02 and .1 in
        StyleGAN2-ADA's experiments.
    """
    images, moved = _neighbours(context, sigma)
    return -_weighted(weight, square_norm(images - moved) / images[0].size)


def icr(flip: bool = False) -> tuple[dict[str, Bound], dict[str, Bound]]:
    """Improved consistency regularisation (Zhao et al., 2021): the penalties of (the discriminator,
    the generator).

    bCR and zCR together with StudioGAN's numbers for CIFAR-10: 10 and 10, 20 for D and .5 for G,
    sigma .05. flip: as `cr`'s.
    """
    discriminator = {"bcr": bind(bcr, weight=10.0, flip=flip), "zcr": bind(zcr_discriminator, weight=20.0, sigma=0.05)}
    return discriminator, {"zcr": bind(zcr_generator, weight=0.5, sigma=0.05)}


def shifted(images: Float[Array, "b h w c"], draws: Draws, flip: bool = False) -> Float[Array, "b h w c"]:
    """Each image moved by its own whole number of pixels, up to an eighth of each side, filled by
    reflection."""
    if images.ndim != 4:
        raise UserError(f"consistency shifts images [n, h, w, c], not examples of shape {list(images.shape[1:])}: use zcr")
    if flip:
        mirror = draws.named("flip").uniform((1, 1, 1)) < 0.5
        images = jnp.where(mirror, images[:, :, ::-1], images)
    rows, columns = (_places(draws.named(name), n) for name, n in zip(("rows", "columns"), images.shape[1:3], strict=True))
    return copied(images, rows, columns)


def _places(draws: Draws, n: int):
    """Where each of n pixels comes from, [b, n]."""
    most = n // SHARE
    shift = draws.integers(2 * most + 1) - most
    return reflected(jnp.arange(n) + shift[:, None], max(n, 2))


def _inconsistency(context: PenaltyContext, images, labels, name: str, flip: bool):
    moved = shifted(images, context.draws.named(name), flip)
    return jnp.square(_logits(context, images, labels) - _logits(context, moved, labels))


def _neighbours(context: PenaltyContext, sigma):
    """The images of z and of a point near it."""
    step = jnp.asarray(sigma, context.z.dtype) * context.draws.named("step").normal(context.z.shape[1:], context.z.dtype)
    return context.generator(context.z, context.fake_labels), context.generator(context.z + step, context.fake_labels)


def _logits(context: PenaltyContext, images, labels):
    return context.critic(images, labels).logits


def _weighted(weight, values):
    return jnp.asarray(weight, values.dtype) * values
