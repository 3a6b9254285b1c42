"""Penalties for the generator: on its derivative by the latent, and on D's features of fakes."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext, only_for, remembers
from gan_jax.penalties.gradient import EPSILON, square_norm


@part("penalties")
@only_for("generator")
@remembers(mean=0.0)
def path_length(
    context: PenaltyContext, *, weight, decay=0.01, layers: int = 0, style: int = 0
) -> tuple[Float[Array, "b"], dict]:
    """weight * (|J^T y| - a)^2, with J the derivative of the image by its latent, y ~ N(0, 1) /
    sqrt(height * width), and a moving average a of the mean length (Karras et al., 2020a, equation
    4). For G.

    a <- a + decay * (mean length - a) includes this batch, and a gradient goes through it, as in
    their code.
    weight: 2 in StyleGAN2, with `lazy(..., 4)`, and none for CIFAR-10. decay: .01 (the default).
    layers, style: 0 by default: the latent is z. Else it is w, [layers, style] for each example, of
    a generator that takes a number `shift` (StyleGAN2's, whose module has both as `style_shape`),
    and |.|^2 is averaged over layers, as in the authors' code. Raises UserError for one alone.
    """
    if (layers > 0) != (style > 0):
        raise UserError(f"path_length wants both layers and style, or neither; got layers={layers}, style={style}")
    y = context.draws.normal(context.fakes.shape[1:], context.fakes.dtype) / math.sqrt(math.prod(context.fakes.shape[1:-1]))
    lengths = jnp.sqrt(_squared_slope(context, y, layers, style) + EPSILON)
    mean = jnp.asarray(context.memory["mean"], lengths.dtype)
    mean += jnp.asarray(decay, mean.dtype) * (context.mean(lengths) - mean)
    return jnp.asarray(weight, mean.dtype) * jnp.square(lengths - mean), {"mean": mean}


def _squared_slope(context: PenaltyContext, y, layers: int, style: int) -> Float[Array, "b"]:
    if not layers:
        return square_norm(jax.grad(lambda z: (context.generator(z, context.fake_labels) * y).sum())(context.z))
    still = jnp.zeros((len(context.z), layers, style), context.z.dtype)
    slope = jax.grad(lambda shift: (context.generator(context.z, context.fake_labels, shift=shift) * y).sum())(still)
    return square_norm(slope) / layers


@part("penalties")
@only_for("generator")
def feature_matching(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight * |mean f(x) - mean f(G(z))|^2, with f the last hidden layer of D (Salimans et al.,
    2016, section 3.1). For G. The value is the same for every example.

    weight: 1 in the paper, where the penalty takes the place of the loss. Raises UserError for a
    discriminator whose output has no features.
    """
    real, fake = context.real.features, context.fake.features
    if real is None or fake is None:
        raise UserError("feature_matching wants a discriminator whose DiscriminatorOutput has features; this one has none")
    distance = jnp.square(context.mean(real) - context.mean(fake)).sum()
    return jnp.broadcast_to(jnp.asarray(weight, distance.dtype) * distance, (len(fake),))
