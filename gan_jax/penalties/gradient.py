"""Penalties on the gradient of the critic with respect to what it sees."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.penalties.turn import Turn, only_for

EPSILON = 1e-12  # inside a square root: its derivative at zero is infinite


def input_gradient(turn: Turn, images, labels) -> Float[Array, "rows n"]:
    """The gradient of each logit with respect to all that it judges: one example, or the whole packet of a packed critic."""

    def logits(x):
        said = turn.critic(x, labels).logits
        return said.sum(), said

    gradient, said = jax.grad(logits, has_aux=True)(images)
    return gradient.reshape(len(said), -1)


def square_norm(x: Float[Array, "b *shape"]) -> Float[Array, "b"]:
    return jnp.square(x).sum(tuple(range(1, x.ndim)))


@only_for("discriminator")
def r1(turn: Turn, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(x)|^2 on reals (Mescheder et al., 2018, equation 9).

    gamma: >= 0; 10 in the paper's experiments (whose code leaves out the 1/2, so 20 here), .01 in StyleGAN2-ADA's CIFAR-10.
    """
    return _half(gamma, turn) * square_norm(input_gradient(turn, turn.reals, turn.real_labels))


def r2(turn: Turn, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(G(z))|^2 on fakes (Mescheder et al., 2018, equation 10).

    gamma: >= 0, as `r1`'s, with which R3GAN (Huang et al., 2024) takes it at one gamma, .05 falling to .005 for CIFAR-10.
    """
    return _half(gamma, turn) * square_norm(input_gradient(turn, turn.fakes, turn.fake_labels))


def wgan_gp(turn: Turn, *, weight, target=1.0, one_sided: bool = False) -> Float[Array, "b"]:
    """weight * (|grad D(x^)| - target)^2 at x^ between a real and a fake (Gulrajani et al., 2017, equation 3).

    x^ = u x + (1 - u) G(z), u ~ U(0, 1) of each pair. weight: 10 and target: 1 in the paper (algorithm 1), target 1 being the
    default; target 0 pulls slopes to nothing. one_sided: only norms above the target cost (Petzka et al., 2018); default False,
    as in the paper. The norm is sqrt(|.|^2 + 1e-12). Labels: those of the reals.
    """
    return _slope(turn, _between(turn), weight, target, one_sided)


def max_gp(turn: Turn, *, weight) -> Float[Array, "rows"]:
    """weight * max |grad D(x^)|^2 over the batch, x^ between a real and a fake (Zhou et al., 2019, the maximum gradient penalty
    of Lipschitz GANs). The same value for every example; the maximum is over all devices. Labels: those of the reals.

    x^ as `wgan_gp`'s. weight: 10 in StudioGAN's configurations. The maximum tends to the squared Lipschitz constant, and is
    drawn towards 0, not 1.
    """
    steepness = square_norm(input_gradient(turn, _between(turn), turn.real_labels))
    return jnp.broadcast_to(jnp.asarray(weight, steepness.dtype) * turn.everyone(steepness).max(), steepness.shape)


@only_for("discriminator")
def dragan(turn: Turn, *, weight, target=1.0, spread=1.0) -> Float[Array, "b"]:
    """weight * (|grad D(x + noise)| - target)^2 around the reals (Kodali et al., 2017).

    noise: spread * std(x) * U(-1/2, 1/2) for each value, std over all values of the batch, as in Google's compare_gan, whose
    weight is 10. Its x + noise is clipped to its data's range [0, 1]: here it is not, since points and tables have no range,
    and a clipped pixel has no gradient. (StudioGAN's noise is positive: std(x) / 2 * U(0, 1), times another U(0, 1).)
    target: 1, theirs. spread: 1, compare_gan's. Labels: those of the reals.
    """
    mean = turn.mean(turn.reals).mean()
    std = jnp.sqrt(turn.mean(jnp.square(turn.reals - mean)).mean() + EPSILON)
    noise = turn.draws.uniform(turn.reals.shape[1:], turn.reals.dtype, -0.5, 0.5)
    return _slope(turn, turn.reals + jnp.asarray(spread, std.dtype) * std * noise, weight, target, False)


def _between(turn):
    """A uniformly random point between each real and its fake."""
    share = turn.draws.uniform((1,) * (turn.reals.ndim - 1), turn.reals.dtype)
    return share * turn.reals + (1 - share) * turn.fakes


def _slope(turn, images, weight, target, one_sided):
    norm = jnp.sqrt(square_norm(input_gradient(turn, images, turn.real_labels)) + EPSILON)
    excess = norm - jnp.asarray(target, norm.dtype)
    return jnp.asarray(weight, norm.dtype) * jnp.square(jax.nn.relu(excess) if one_sided else excess)


def _half(gamma, turn):
    return jnp.asarray(gamma, turn.reals.dtype) / 2
