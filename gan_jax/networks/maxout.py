"""The toy networks of PacGAN (Lin et al., 2018, arXiv:1712.04086), for points without labels; their
code took them from ALI.

For points in 2-D and 2 latents: generator 4 x (Dense 400 without bias, batch norm, ReLU), Dense 2
(484,802 parameters); discriminator 3 x maxout of 200 units with 5 pieces each (Goodfellow et al.,
2013), Dense 1 (405,201). Kernels start as N(0, .02^2), biases as 0. Batch norm has their constants:
epsilon 1e-4 (the first layer's variance starts at 8e-4) and momentum .95.
"""

from flax import linen as nn

from gan_jax.core.net import DiscriminatorOutput, Mode
from gan_jax.core.parts import part
from gan_jax.networks.layers import BatchNorm, perturbed

small = nn.initializers.normal(0.02)


@part("networks.maxout")
class Generator(nn.Module):
    """z [b, d] -> rows [b, features], unbounded. Numbers: dropout, noise (on each hidden layer)."""

    features: int = 2
    width: int = 400
    depth: int = 4

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        x = z
        for _ in range(self.depth):
            x = nn.Dense(self.width, use_bias=False, kernel_init=small, dtype=x.dtype)(x)
            x = perturbed(nn.relu(BatchNorm(momentum=0.95, epsilon=1e-4)(x, mode)), mode, dropout, noise)
        return nn.Dense(self.features, kernel_init=small, dtype=x.dtype)(x)


@part("networks.maxout")
class Discriminator(nn.Module):
    """rows [b, features] -> DiscriminatorOutput. A hidden unit is the maximum of `pieces` affine
    functions of the layer below. Numbers: dropout, noise (on each hidden layer)."""

    width: int = 200
    depth: int = 3
    pieces: int = 5

    @nn.compact
    def __call__(self, rows, labels, mode: Mode, dropout=None, noise=None):
        x = rows
        for _ in range(self.depth):
            x = nn.Dense(self.pieces * self.width, kernel_init=small, dtype=x.dtype)(x)
            x = x.reshape(len(x), self.pieces, self.width).max(1)
            x = perturbed(x, mode, dropout, noise)
        return DiscriminatorOutput(nn.Dense(1, kernel_init=small, dtype=x.dtype)(x)[:, 0], features=x)
