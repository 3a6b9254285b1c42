"""Consistency: D's logits agree where a difference in pixels or latents should not matter.

Each penalty is the squared difference of two outputs of a network under the same draws
(augmentations, dropout, the generator's noise), so that the transformation alone makes the
difference. Both outputs are further passes; where nothing is drawn, XLA shares the first one.
"""

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
    """weight * (D(x) - D(T(x)))^2 on reals (Zhang et al., 2020, equation 2, of logits). For D.

    T shifts an image by up to an eighth of each side, uniformly over whole pixels, and fills by
    reflection. With `flip`, T also mirrors half of the images left-right, as in the paper; digits
    and letters must not be mirrored.

    weight: 10 in the paper. Raises UserError for data that are not images.
    """
    return _weighted(weight, _inconsistency(context, context.reals, context.real_labels, "reals", flip))


@part("penalties")
def bcr(context: PenaltyContext, *, weight, fakes=1.0, flip: bool = False) -> Float[Array, "b"]:
    """Balanced consistency: weight * ((D(x) - D(T(x)))^2 + fakes * (D(G(z)) - D(T(G(z))))^2) (Zhao
    et al., 2021, algorithm 1). For D.

    T and flip are as for `cr`, with which shifts of reals leak into the samples. weight: 10 in the
    paper. fakes: 1 (the default) in the paper. Raises UserError for data that are not images.
    """
    real = _inconsistency(context, context.reals, context.real_labels, "reals", flip)
    fake = _inconsistency(context, context.fakes, context.fake_labels, "fakes", flip)
    return _weighted(weight, real + jnp.asarray(fakes, fake.dtype) * fake)


@part("penalties")
def zcr_discriminator(context: PenaltyContext, *, weight, sigma=0.05) -> Float[Array, "b"]:
    """weight * (D(G(z)) - D(G(z + sigma * N(0, 1))))^2: D overlooks a small step of z (Zhao et al.,
    2021, algorithm 2).

    weight: 20 with sigma .05 (the default) in StudioGAN's CIFAR-10 configuration; .2 with sigma .1
    in StyleGAN2-ADA's experiments with the logistic loss.
    """
    logits = [context.critic(images, context.fake_labels).logits for images in _neighbours(context, sigma)]
    return _weighted(weight, jnp.square(logits[0] - logits[1]))


@part("penalties")
@only_for("generator")
def zcr_generator(context: PenaltyContext, *, weight, sigma=0.05) -> Float[Array, "b"]:
    """-weight * mean over pixels of (G(z) - G(z + sigma * N(0, 1)))^2: a step of z shows in the
    image (Zhao et al., 2021, algorithm 2). For G. It is bounded below for images, not for points.

    weight: .5 with sigma .05 (the default) in StudioGAN's CIFAR-10 configuration; .02 with sigma .1
    in StyleGAN2-ADA's experiments.
    """
    images, near = _neighbours(context, sigma)
    return -_weighted(weight, square_norm(images - near) / images[0].size)


def icr(flip: bool = False) -> tuple[dict[str, Bound], dict[str, Bound]]:
    """Improved consistency regularisation (Zhao et al., 2021): (penalties of D, penalties of G).

    It is bCR and zCR with StudioGAN's numbers for CIFAR-10: bCR 10 for reals and for fakes, zCR 20
    for D and .5 for G, sigma .05. flip: as for `cr`.
    """
    discriminator = {"bcr": bind(bcr, weight=10.0, flip=flip), "zcr": bind(zcr_discriminator, weight=20.0, sigma=0.05)}
    return discriminator, {"zcr": bind(zcr_generator, weight=0.5, sigma=0.05)}


def shifted(images: Float[Array, "b h w c"], draws: Draws, flip: bool = False) -> Float[Array, "b h w c"]:
    """The images under T of `cr`. Raises UserError for data that are not images."""
    if images.ndim != 4:
        raise UserError(f"consistency shifts images [n, h, w, c], not examples of shape {list(images.shape[1:])}: use zcr")
    if flip:
        mirror = draws.named("flip").uniform((1, 1, 1)) < 0.5
        images = jnp.where(mirror, images[:, :, ::-1], images)
    rows, columns = (_places(draws.named(name), n) for name, n in zip(("rows", "columns"), images.shape[1:3], strict=True))
    return copied(images, rows, columns)


def _places(draws: Draws, n: int):
    """The indices [b, n] of the pixels that n pixels are copied from."""
    most = n // SHARE
    shift = draws.integers(2 * most + 1) - most
    return reflected(jnp.arange(n) + shift[:, None], max(n, 2))


def _inconsistency(context: PenaltyContext, images, labels, name: str, flip: bool):
    changed = shifted(images, context.draws.named(name), flip)
    return jnp.square(context.critic(images, labels).logits - context.critic(changed, labels).logits)


def _neighbours(context: PenaltyContext, sigma):
    """The images of z, and those of a point near z."""
    step = jnp.asarray(sigma, context.z.dtype) * context.draws.named("step").normal(context.z.shape[1:], context.z.dtype)
    return context.generator(context.z, context.fake_labels), context.generator(context.z + step, context.fake_labels)


def _weighted(weight, values):
    return jnp.asarray(weight, values.dtype) * values
