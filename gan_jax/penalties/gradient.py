"""Penalties on the gradient of the discriminator with respect to its input."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext, only_for

EPSILON = 1e-12  # inside a square root: its derivative at zero is infinite


def input_gradient(context: PenaltyContext, images, labels) -> Float[Array, "rows n"]:
    """The gradient of each logit by its whole input: one example, or a packet where D is packed."""

    def total(x):
        logits = context.critic(x, labels).logits
        return logits.sum(), logits

    gradient, logits = jax.grad(total, has_aux=True)(images)
    return gradient.reshape(len(logits), -1)


def square_norm(x: Float[Array, "b *shape"]) -> Float[Array, "b"]:
    return jnp.square(x).sum(tuple(range(1, x.ndim)))


@part("penalties")
@only_for("discriminator")
def r1(context: PenaltyContext, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(x)|^2 on reals (Mescheder et al., 2018, equation 9). For D.

    gamma: >= 0; .01 in StyleGAN2-ADA's CIFAR-10, 10 in the paper's experiments, whose code leaves
    out the 1/2 (there 10 is 20 here).
    """
    return _half_square(context, context.reals, context.real_labels, gamma)


@part("penalties")
def r2(context: PenaltyContext, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(G(z))|^2 on fakes (Mescheder et al., 2018, equation 10).

    gamma: >= 0, as for `r1`. R3GAN (Huang et al., 2024) takes R1 and R2 together with one gamma,
    which falls from .05 to .005 for CIFAR-10.
    """
    return _half_square(context, context.fakes, context.fake_labels, gamma)


@part("penalties")
def wgan_gp(context: PenaltyContext, *, weight, target=1.0, one_sided: bool = False) -> Float[Array, "b"]:
    """weight * (|grad D(x^)| - target)^2 at x^ = u x + (1 - u) G(z), with u ~ U(0, 1) for each pair
    (Gulrajani et al., 2017, equation 3), of the reals' labels. The norm is sqrt(|.|^2 + 1e-12).

    weight: 10 in the paper (algorithm 1). target: 1 (the default) in the paper; 0 pulls all slopes
    to 0. one_sided: only norms above the target cost (Petzka et al., 2018); False in the paper.
    """
    return _slope(context, _between(context), weight, target, one_sided)


@part("penalties")
def max_gp(context: PenaltyContext, *, weight) -> Float[Array, "rows"]:
    """weight * max |grad D(x^)|^2 over the batch, on all devices, with x^ as in `wgan_gp` (Zhou et
    al., 2019). The value is the same for every example. It pulls the Lipschitz constant towards 0.
    weight: 10 in StudioGAN's configurations."""
    steepness = square_norm(input_gradient(context, _between(context), context.real_labels))
    return jnp.broadcast_to(jnp.asarray(weight, steepness.dtype) * context.all_gather(steepness).max(), steepness.shape)


@part("penalties")
@only_for("discriminator")
def dragan(context: PenaltyContext, *, weight, target=1.0, spread=1.0) -> Float[Array, "b"]:
    """weight * (|grad D(x + noise)| - target)^2 around the reals x (Kodali et al., 2017). For D.

    The noise of each value is spread * std(x) * U(-1/2, 1/2), with the standard deviation over all
    values of the batch, as in Google's compare_gan, which also clips x + noise to the range of its
    data: points have no range, and a clipped pixel has no gradient. (StudioGAN's noise is positive:
    std(x) / 2 * U(0, 1), times another U(0, 1).)

    weight: 10, target: 1 (the default) and spread: 1 (the default) in compare_gan.
    """
    mean = context.mean(context.reals).mean()
    std = jnp.sqrt(context.mean(jnp.square(context.reals - mean)).mean() + EPSILON)
    noise = context.draws.uniform(context.reals.shape[1:], context.reals.dtype, -0.5, 0.5)
    return _slope(context, context.reals + jnp.asarray(spread, std.dtype) * std * noise, weight, target, False)


def _between(context):
    """A uniformly random point between each real and its fake."""
    share = context.draws.uniform((1,) * (context.reals.ndim - 1), context.reals.dtype)
    return share * context.reals + (1 - share) * context.fakes


def _slope(context, images, weight, target, one_sided):
    norm = jnp.sqrt(square_norm(input_gradient(context, images, context.real_labels)) + EPSILON)
    excess = norm - jnp.asarray(target, norm.dtype)
    return jnp.asarray(weight, norm.dtype) * jnp.square(jax.nn.relu(excess) if one_sided else excess)


def _half_square(context, images, labels, gamma):
    return jnp.asarray(gamma, images.dtype) / 2 * square_norm(input_gradient(context, images, labels))
