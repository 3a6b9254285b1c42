"""Likelihoods of a decoder: log densities of examples in the scale of the data, in nats.

A likelihood is a function (mean, log_scale, images) -> log density of each number, of the same
shape. Images have levels 0 ... 255, scaled to [-1, 1], for which Bernoulli is no likelihood.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part

HALF = 1 / 255  # half the width of a level, in [-1, 1]


@part("likelihoods")
def gaussian(mean: Float[Array, "..."], log_scale: Array, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """log N(x; mean, exp(log_scale)^2), for rows of numbers and levels taken as continuous."""
    standard = (images - mean) * jnp.exp(-log_scale)
    return -0.5 * standard**2 - log_scale - 0.5 * jnp.log(2 * jnp.pi)


@part("likelihoods")
def discretized_logistic(mean: Float[Array, "..."], log_scale: Array, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """The log probability of a level of an image, one of 256 (Kingma et al., 2016, section 4).

    It is the mass of a logistic distribution on the level's bin, which is 2/255 wide. The first and
    the last bin reach to infinity. Divided by -log 2 it is in bits.
    """
    inverse = jnp.exp(-log_scale)
    upper, lower = (images - mean + HALF) * inverse, (images - mean - HALF) * inverse
    width = 2 * HALF * inverse
    # s(upper) - s(lower) = (e^width - 1) s(-upper) s(lower), and log(e^w - 1) = w + log(1 - e^-w)
    middle = width + jnp.log(-jnp.expm1(-width)) - jax.nn.softplus(upper) - jax.nn.softplus(-lower)
    first, last = -jax.nn.softplus(-upper), -jax.nn.softplus(lower)
    return jnp.where(images < HALF - 1, first, jnp.where(images > 1 - HALF, last, middle))
