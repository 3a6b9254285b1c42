"""Multi-layer perceptrons, for points and rows of tables."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.heads import discriminator_output
from gan_jax.networks.layers import Norm, embedding, perturbed


@part("networks.mlp")
class Generator(nn.Module):
    """z [b, d], labels [b] -> rows [b, features], unbounded. Numbers: dropout, noise (on each
    layer)."""

    features: int
    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        x = _with_label(z, labels, self.classes)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = perturbed(nn.relu(Norm(self.norm)(x, mode)), mode, dropout, noise)
        return nn.Dense(self.features, dtype=x.dtype)(x)


@part("networks.mlp")
class Discriminator(nn.Module):
    """rows [b, features], labels [b] -> DiscriminatorOutput. Numbers: dropout, noise (on each
    hidden layer).

    conditioning:   how labels enter, see `heads.discriminator_output`; joined to the row unless
                    said
    representation: width of the layer that `losses.mmd` compares; 0 is none
    """

    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0
    conditioning: str = "embedding"
    representation: int = 0

    @nn.compact
    def __call__(self, rows, labels, mode: Mode, dropout=None, noise=None):
        x = _with_label(rows, labels, self.classes if self.conditioning == "embedding" else 0)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = perturbed(nn.leaky_relu(Norm(self.norm)(x, mode), 0.2), mode, dropout, noise)
        return discriminator_output(x, labels, self.classes, self.conditioning, self.representation)


def _with_label(x, labels, classes: int):
    return jnp.concatenate([x, embedding(labels, classes, 16, x.dtype)], -1) if classes else x
