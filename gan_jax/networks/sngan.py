"""SNGAN's residual networks (Miyato et al., 2018) and the conditional ones of cGAN-PD (Miyato &
Koyama, 2018).

Generator: Dense, residual blocks that double the side (batch norm, ReLU, 3x3 convolution, twice; a
1x1 convolution as shortcut), batch norm, ReLU, 3x3 convolution, tanh. Discriminator: residual
blocks without norms that halve the side by average pooling, ReLU, sum over the pixels, Dense 1. The
papers' D is SpectralNorm(Net(Discriminator())) with the hinge loss; their G is not normalised.
Labels enter G by conditional batch norm, and D by projection.

The plans for 32 (CIFAR-10), 48 (STL-10) and 128 pixels are the paper's (tables 3 to 5, with their
default widths), and equal those of the PyTorch library mimicry. The plan for 64 is mimicry's; 8, 16
and 28 keep the plan of 32. Parameters of G and D, as mimicry's: 4,276,739 and 1,053,825 at 32
pixels; 4,878,083 and 10,141,441 at 48; 12,220,675 and 10,141,441 at 64; 32,150,787 and 29,017,857
at 128. With 10 classes at 32 pixels: 4,304,387 and 1,055,105.

Mimicry differs from the paper. It enlarges by bilinear interpolation, the authors' code by
repeating pixels: `upsampling` chooses, by default mimicry's way. The ReLU of its D works in place,
so that its shortcuts see relu(x); here they see x, as in the paper. Its conditional D at 128 pixels
has a width of 128, not 1024. Batch norm has PyTorch's constants in mimicry and here, epsilon 1e-5
and momentum .9 (the authors' are 2e-5 and .9).
"""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.conv import Conv
from gan_jax.networks.heads import discriminator_output, with_label
from gan_jax.networks.initializers import glorot, normal, variance_scaling
from gan_jax.networks.layers import BatchNorm, perturbed

# As in the authors' code: gain sqrt 2 for the 3x3 kernels of a block, and scales of N(1, .02^2).
inner = variance_scaling(2.0, "fan_avg", "uniform")
small = normal(0.02)


class Plan(NamedTuple):
    """For one image size: G's first side, the widths of G and D, each block's divisor of the width
    in G and D, and the number of D's blocks, from the first, that halve the side."""

    bottom: int
    widths: tuple[int, int]
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    halvings: int


PLANS = {
    8: Plan(4, (256, 128), (1,), (1, 1, 1), 1),
    16: Plan(4, (256, 128), (1, 1), (1, 1, 1, 1), 2),
    28: Plan(7, (256, 128), (1, 1), (1, 1, 1, 1), 2),
    32: Plan(4, (256, 128), (1, 1, 1), (1, 1, 1, 1), 2),
    48: Plan(6, (512, 1024), (2, 4, 8), (16, 8, 4, 2, 1), 4),
    64: Plan(4, (1024, 1024), (2, 4, 8, 16), (16, 8, 4, 2, 1), 5),
    128: Plan(4, (1024, 1024), (1, 2, 4, 8, 16), (16, 8, 4, 2, 1, 1), 5),
}


def plan(size: int) -> Plan:
    """The plan for images of this side. Raises UserError for a size without one."""
    if size not in PLANS:
        raise UserError(f"image size {size} is not supported by sngan: use one of {', '.join(map(str, PLANS))}")
    return PLANS[size]


class ConditionalBatchNorm(nn.Module):
    """Batch norm with scale 1 + A c and shift B c for a condition c [b, n], such as one-hot labels
    (Dumoulin et al., 2017); plain batch norm without a condition."""

    scale_init: Any = small
    shift_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x, condition, mode: Mode):
        y = BatchNorm(momentum=0.9, epsilon=1e-5, affine=condition is None, name="norm")(x, mode)
        if condition is None:
            return y
        linear = lambda name, init: nn.Dense(x.shape[-1], use_bias=False, kernel_init=init, dtype=x.dtype, name=name)(condition)
        scale, shift = linear("scale", self.scale_init), linear("shift", self.shift_init)
        return y * (1 + scale[:, None, None]) + shift[:, None, None]


def enlarged(x, upsampling: str):
    """[b, h, w, c] -> [b, 2h, 2w, c], by 'bilinear' interpolation, or by repeating the 'nearest'
    pixel. Raises UserError for another name."""
    if upsampling == "nearest":
        return x.repeat(2, 1).repeat(2, 2)
    if upsampling != "bilinear":
        raise UserError(f"unknown upsampling {upsampling!r}: use 'bilinear' or 'nearest'")
    return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")


def pairs_of_pixels(x):
    """[b, h, w, c] -> [b, h / 2, 2, w / 2, 2, c]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


def halved(x):
    """[b, h, w, c] -> [b, h / 2, w / 2, c], by the mean of 2 x 2 pixels."""
    return pairs_of_pixels(x).mean((2, 4))


class GeneratorBlock(nn.Module):
    """Doubles the side: x -> conv2(relu(norm2(conv1(up(relu(norm1(x))))))) + shortcut(up(x))."""

    features: int
    upsampling: str = "bilinear"
    kernel_init: Any = inner
    shortcut_init: Any = glorot
    norm: Any = ConditionalBatchNorm

    @nn.compact
    def __call__(self, x, condition, mode: Mode):
        h = enlarged(nn.relu(self.norm(name="norm1")(x, condition, mode)), self.upsampling)
        h = Conv(self.features, kernel_init=self.kernel_init, name="conv1")(h)
        h = nn.relu(self.norm(name="norm2")(h, condition, mode))
        h = Conv(self.features, kernel_init=self.kernel_init, name="conv2")(h)
        shortcut = Conv(self.features, 1, kernel_init=self.shortcut_init, name="shortcut")(x)
        return h + enlarged(shortcut, self.upsampling)  # the same as enlarging first, for a quarter of the work


class DiscriminatorBlock(nn.Module):
    """x -> down(conv2(relu(conv1(relu(x))))) + down(shortcut(x)), the first relu not if `first`.

    The shortcut is a 1x1 convolution, or the identity where neither side nor width changes.
    hidden: width between the convolutions; None for that of x (of the output, if `first`)"""

    features: int
    hidden: int | None = None
    halve: bool = True
    first: bool = False
    kernel_init: Any = inner
    shortcut_init: Any = glorot

    @nn.compact
    def __call__(self, x):
        hidden = self.hidden or (self.features if self.first else x.shape[-1])
        down = halved if self.halve else lambda x: x
        h = x if self.first else nn.relu(x)
        h = nn.relu(Conv(hidden, kernel_init=self.kernel_init, name="conv1")(h))
        h = down(Conv(self.features, kernel_init=self.kernel_init, name="conv2")(h))
        if self.halve or x.shape[-1] != self.features:
            x = Conv(self.features, 1, kernel_init=self.shortcut_init, name="shortcut")(down(x))
        return h + x


class Head(nn.Module):
    """features [b, d], labels [b] -> DiscriminatorOutput. Projection is Dense 1 + <label's vector,
    features> (Miyato & Koyama, 2018, equation 4)."""

    classes: int
    conditioning: str = "projection"
    kernel_init: Any = glorot

    @nn.compact
    def __call__(self, features, labels):
        start = {"dtype": features.dtype}
        linear = lambda x, width, name: nn.Dense(width, kernel_init=self.kernel_init, name=name, **start)(x)

        def projected(features, labels):
            table = nn.Embed(self.classes, features.shape[-1], embedding_init=self.kernel_init, name="label", **start)
            return linear(features, 1, "logit")[:, 0] + (features * table(labels)).sum(-1)

        return discriminator_output(features, labels, self.classes, self.conditioning, linear=linear, projected=projected)


@part("networks.sngan")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels] in [-1, 1]. width: of the first map,
    None for the plan's. The papers' z is 128 normal numbers.

    Numbers: dropout, noise (after each block)."""

    size: int
    channels: int
    width: int | None = None
    classes: int = 0
    upsampling: str = "bilinear"

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        chosen = plan(self.size)
        width, side = self.width or chosen.widths[0], chosen.bottom
        condition = jax.nn.one_hot(labels, self.classes, dtype=z.dtype) if self.classes else None
        x = nn.Dense(side * side * width, kernel_init=glorot, dtype=z.dtype, name="dense")(z)
        x = x.reshape(-1, side, side, width)
        for i, divisor in enumerate(chosen.generator):
            x = GeneratorBlock(max(1, width // divisor), self.upsampling, name=f"block{i}")(x, condition, mode)
            x = perturbed(x, mode, dropout, noise, str(i))
        x = nn.relu(BatchNorm(momentum=0.9, epsilon=1e-5, name="norm")(x, mode))
        return nn.tanh(Conv(self.channels, name="image")(x))


@part("networks.sngan")
class Discriminator(nn.Module):
    """images [b, h, w, c], labels [b] -> DiscriminatorOutput, whose features are the last Dense's
    input.

    width:        of the last map, None for the plan's
    conditioning: see `heads.discriminator_output`; 'embedding' is one more channel
    Numbers: dropout, noise (after each block)."""

    width: int | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, images, labels, mode: Mode, dropout=None, noise=None):
        chosen = plan(images.shape[1])
        width, x = self.width or chosen.widths[1], with_label(images, labels, self.classes, self.conditioning)
        for i, divisor in enumerate(chosen.discriminator):
            block = DiscriminatorBlock(max(1, width // divisor), None, i < chosen.halvings, first=i == 0, name=f"block{i}")
            x = perturbed(block(x), mode, dropout, noise, str(i))
        return Head(self.classes, self.conditioning, name="projection")(nn.relu(x).sum((1, 2)), labels)
