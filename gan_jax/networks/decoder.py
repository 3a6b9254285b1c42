"""A generator as the decoder of a VAE: what it makes is the mean of a law whose scale is learned as
well."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.net import Mode
from gan_jax.core.parts import part

FASTER = 10.0  # than the weights, whose rate would take a thousand steps for a scale's way


@part("networks")
class Decoder(nn.Module):
    """z [b, d], labels [b] -> (means [b, ...] of each number of the image, the log scale [] of
    all). Numbers: the generator's.

    start: the log scale before training.
    """

    generator: nn.Module
    start: float = -1.0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, **numbers):
        mean = self.generator(z, labels, mode, **numbers)
        moved = self.param("log_scale", nn.initializers.zeros_init(), ())
        return mean, jnp.asarray(self.start + FASTER * moved, mean.dtype)
