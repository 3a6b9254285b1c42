"""The article's DCGAN, at any size that halves down to a few pixels.

At 32 x 32 x 3 and width 64 it is the article's network. Generator (1,447,171 parameters): Dense to
4 x 4 x 256 without bias, batch norm on the 4,096 features, LeakyReLU, then 5 x 5 transposed
convolutions of stride 2 to 128, 64 and 3 channels, tanh. Discriminator (217,984 parameters): 5 x 5
convolutions of stride 2 to 64 and 128 channels, LeakyReLU, Dense to 1 without bias. Constants are
Keras' defaults: slope .3, epsilon 1e-3, momentum .99. Other sizes have another number of stages.
"""

from functools import partial

from flax import linen as nn

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.conv import Conv, ConvTranspose
from gan_jax.networks.heads import dense, discriminator_output, with_label
from gan_jax.networks.initializers import glorot
from gan_jax.networks.layers import Norm, perturbed, with_label_vector
from gan_jax.networks.minibatch import minibatch_std

SLOPE = 0.3
SIZES = {8: (2, 2)} | {base * 2**k: (base, k) for k in range(2, 6) for base in (4, 5, 6, 7)}


def stages(size: int) -> tuple[int, int]:
    """(side of the generator's first map, number of doublings) for images of this side. Raises
    UserError for an unsupported size."""
    if size not in SIZES:
        raise UserError(f"image size {size} is not supported by dcgan: use one of {', '.join(map(str, SIZES))}")
    return SIZES[size]


@part("networks.dcgan")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels] in [-1, 1], or unbounded without
    `squash`, the last tanh (in the decoder of a VAE).

    Numbers: dropout, noise (on each hidden layer)."""

    size: int
    channels: int
    width: int = 64
    norm: str | None = "batch"
    classes: int = 0
    squash: bool = True

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        side, doublings = stages(self.size)
        z = with_label_vector(z, labels, self.classes, z.shape[-1])
        widths = [self.width * 2**i for i in reversed(range(doublings))]
        x = nn.Dense(side * side * widths[0], use_bias=False, kernel_init=glorot, dtype=z.dtype)(z)
        x = self.hidden(x, mode, dropout, noise).reshape(-1, side, side, widths[0])
        for width in widths[1:]:
            x = self.hidden(ConvTranspose(width, 5, 2)(x), mode, dropout, noise)
        x = ConvTranspose(self.channels, 5, 2)(x)
        return nn.tanh(x) if self.squash else x

    def hidden(self, x, mode, dropout, noise):
        return perturbed(nn.leaky_relu(Norm(self.norm)(x, mode), SLOPE), mode, dropout, noise)


@part("networks.dcgan")
class Discriminator(nn.Module):
    """images [b, h, w, c], labels [b] -> DiscriminatorOutput.

    conditioning, representation: see `heads.discriminator_output`; 'embedding' is one more channel
    group: examples whose standard deviation is one more channel of the last map (`minibatch_std`);
           0 is none
    Numbers: dropout, noise (on each hidden layer)."""

    width: int = 64
    norm: str | None = None
    classes: int = 0
    conditioning: str = "projection"
    representation: int = 0
    group: int = 0

    @nn.compact
    def __call__(self, images, labels, mode: Mode, dropout=None, noise=None):
        _, doublings = stages(images.shape[1])
        x = with_label(images, labels, self.classes, self.conditioning)
        for i in range(max(2, doublings - 1)):
            x = Conv(self.width * 2**i, 5, 2)(x)
            x = x if i == 0 else Norm(self.norm)(x, mode)  # not on the first layer, as Radford et al. (2016)
            x = perturbed(nn.leaky_relu(x, SLOPE), mode, dropout, noise)
        x = minibatch_std(x, self.group, mode=mode) if self.group else x
        features = x.reshape(len(x), -1)
        linear = partial(dense, use_bias=False, kernel_init=glorot)
        return discriminator_output(features, labels, self.classes, self.conditioning, self.representation, linear=linear)
