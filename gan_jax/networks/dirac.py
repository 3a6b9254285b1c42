"""The Dirac-GAN (Mescheder et al., 2018), the smallest game whose training may not converge."""

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.net import DiscriminatorOutput, Mode
from gan_jax.core.parts import part


@part("networks.dirac")
class Generator(nn.Module):
    """z [b, d] -> points [b, 1], all of them the parameter theta. start: the first theta"""

    start: float = 1.0

    @nn.compact
    def __call__(self, z, labels, mode: Mode):
        theta = self.param("theta", nn.initializers.constant(self.start), ())
        return jnp.full((len(z), 1), theta.astype(z.dtype))


@part("networks.dirac")
class Discriminator(nn.Module):
    """points [b, 1] -> logits psi * x, with a parameter psi. start: the first psi"""

    start: float = 1.0

    @nn.compact
    def __call__(self, points, labels, mode: Mode):
        psi = self.param("psi", nn.initializers.constant(self.start), ())
        return DiscriminatorOutput(psi.astype(points.dtype) * points[:, 0], features=points)
