"""Multi-layer perceptrons for rows that are points or tables."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.networks.layers import Dropout, Norm, embedding
from gan_jax.networks.net import Judgement, Mode


class Generator(nn.Module):
    """z [b, d], labels [b] -> rows [b, features], unbounded. Number: dropout."""

    features: int
    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None):
        x = _with_label(z, labels, self.classes)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = Dropout()(nn.relu(Norm(self.norm)(x, mode)), dropout, mode)
        return nn.Dense(self.features, dtype=x.dtype)(x)


class Discriminator(nn.Module):
    """rows [b, features], labels [b] -> Judgement. Number: dropout."""

    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0

    @nn.compact
    def __call__(self, rows, labels, mode: Mode, dropout=None):
        x = _with_label(rows, labels, self.classes)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = Dropout()(nn.leaky_relu(Norm(self.norm)(x, mode), 0.2), dropout, mode)
        return Judgement(nn.Dense(1, dtype=x.dtype)(x)[:, 0], features=x)


def _with_label(x, labels, classes: int):
    return jnp.concatenate([x, embedding(labels, classes, 16, x.dtype)], -1) if classes else x
