"""Multi-layer perceptrons, for points and rows of tables."""

from flax import linen as nn

from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.heads import discriminator_output
from gan_jax.networks.layers import Norm, perturbed, with_label_vector

LABEL = 16  # features of the label's vector


@part("networks.mlp")
class Generator(nn.Module):
    """z [b, d], labels [b] -> rows [b, features], unbounded.

    Numbers: dropout, noise (on each hidden layer)."""

    features: int
    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        x = with_label_vector(z, labels, self.classes, LABEL)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = perturbed(nn.relu(Norm(self.norm)(x, mode)), mode, dropout, noise)
        return nn.Dense(self.features, dtype=x.dtype)(x)


@part("networks.mlp")
class Discriminator(nn.Module):
    """rows [b, features], labels [b] -> DiscriminatorOutput.

    conditioning, representation: see `heads.discriminator_output`; 'embedding' joins the label's
    vector to the row. Numbers: dropout, noise (on each hidden layer)."""

    width: int = 128
    depth: int = 3
    norm: str | None = None
    classes: int = 0
    conditioning: str = "embedding"
    representation: int = 0

    @nn.compact
    def __call__(self, rows, labels, mode: Mode, dropout=None, noise=None):
        x = with_label_vector(rows, labels, self.classes if self.conditioning == "embedding" else 0, LABEL)
        for _ in range(self.depth):
            x = nn.Dense(self.width, dtype=x.dtype)(x)
            x = perturbed(nn.leaky_relu(Norm(self.norm)(x, mode), 0.2), mode, dropout, noise)
        return discriminator_output(x, labels, self.classes, self.conditioning, self.representation)
