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
    """gamma / 2 * |grad D(G(z))|^2 on fakes (Mescheder et al., 2018, equation 10)."""
    return _half(gamma, turn) * square_norm(input_gradient(turn, turn.fakes, turn.fake_labels))


def wgan_gp(turn: Turn, *, weight, target=1.0, one_sided: bool = False) -> Float[Array, "b"]:
    """weight * (|grad D(x^)| - target)^2 at x^ between a real and a fake (Gulrajani et al., 2017, equation 3).

    weight: 10 in the paper. one_sided: only norms above the target cost (Petzka et al., 2018). Labels: those of the reals.
    """
    return _slope(turn, _between(turn), weight, target, one_sided)


def max_gp(turn: Turn, *, weight) -> Float[Array, "rows"]:
    """weight * max |grad D(x^)|^2 over the batch, x^ between a real and a fake (Zhou et al., 2019, the maximum gradient penalty
    of Lipschitz GANs). The same value for every example; the maximum is over all devices. Labels: those of the reals.

    weight: 10 in StudioGAN's configurations. It tends to the squared Lipschitz constant, and draws it towards 0, not 1.
    """
    steepness = square_norm(input_gradient(turn, _between(turn), turn.real_labels))
    return jnp.broadcast_to(jnp.asarray(weight, steepness.dtype) * turn.everyone(steepness).max(), steepness.shape)


@only_for("discriminator")
def dragan(turn: Turn, *, weight, target=1.0, spread=1.0) -> Float[Array, "b"]:
    """weight * (|grad D(x + noise)| - target)^2 around the reals (Kodali et al., 2017).

    noise: spread * std(x) * U(-1/2, 1/2), std over all values of the batch, as in Google's compare_gan; weight 10 there.
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
