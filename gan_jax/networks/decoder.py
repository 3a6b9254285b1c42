"""A generator as the decoder of a VAE."""

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.net import Mode
from gan_jax.core.parts import part

FASTER = 10.0  # at the learning rate of weights, the log scale would take a thousand steps


@part("networks")
class Decoder(nn.Module):
    """z [b, d], labels [b] -> (mean [b, ...] of the image, a learned log scale [] of all numbers).

    Numbers: the generator's. start: the log scale before training"""

    generator: nn.Module
    start: float = -1.0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, **numbers):
        mean = self.generator(z, labels, mode, **numbers)
        log_scale = self.param("log_scale", nn.initializers.zeros_init(), ())
        return mean, jnp.asarray(self.start + FASTER * log_scale, mean.dtype)
