"""R3GAN's networks (Huang et al., 2024, "The GAN is dead; long live the GAN! A Modern Baseline
GAN", config E).

Bottleneck residual blocks without normalisation: a 1x1 convolution to `expansion` times the width,
a grouped 3x3 convolution, and a 1x1 convolution back, with a bias and LeakyReLU .2 before the
second and third. Stages of blocks alternate with bilinear resamplers, above a learned 4x4 basis;
both players list them from the smallest side up. All kernels start at N(0, gain^2 / fan in), and
the last of a block at 0 (fix-up: Zhang et al., 2019).

The defaults are the authors' for CIFAR-10 (brownvc/R3GAN at 19a7ddf, train.py:178-187), and `plan`
gives theirs for other sizes. Parameters of G and D, in the authors' code and here: 20,781,952 and
21,280,512 for CIFAR-10 with its labels; 22,429,824 and 22,381,440 for FFHQ-64; 20,845,312 and
22,040,832 for CIFAR-10's plan with the 1,000 classes of Stacked MNIST, which is not in their code.

`recipes.r3gan` trains as on CIFAR-10 (train.py:159-266, training/training_loop.py:29). Other data
have other numbers, on half a cosine over 20 million images (200 million for ImageNet). The
half-life is that of the moving average, in images, and the batch is from README.md:

                    gamma      p of ADA  half-life        batch
    FFHQ-64         2 to .2    0 to .3   0 to 500,000     256
    FFHQ-256        150 to 15  0 to .3   0 to 500,000     256
    ImageNet-32     .5 to .05  0 to .5   0 to 50,000,000  4096
    ImageNet-64     1 to .1    0 to .4   0 to 50,000,000  4096
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.conv import Conv
from gan_jax.networks.heads import discriminator_output, with_label
from gan_jax.networks.initializers import normal, variance_scaling
from gan_jax.networks.layers import embedding, perturbed, with_label_vector

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a LeakyReLU


def plan(size: int, width: int = 768, blocks: int = 2, per_group: int = 8) -> dict[str, Any]:
    """{widths, cardinalities, blocks}, one of each for every stage, for square images of this side.

    The side halves while 4 pixels or more are left (32: 4, 8, 16, 32; 28: 7, 14, 28). The width
    halves at each stage beyond the fourth. A stage has width / per_group groups. The defaults are
    the authors' for CIFAR-10 and FFHQ; for ImageNet-32 they have width 1536 and per_group 16.
    Raises UserError for a size that does not halve down to 4, 5, 6 or 7 pixels."""
    side, stages = size, 1
    while side % 2 == 0 and side >= 8:
        side, stages = side // 2, stages + 1
    if not 4 <= side <= 7:
        raise UserError(f"no plan of r3gan for images of side {size}: use 4, 5, 6 or 7 times a power of 2")
    widths = tuple(width // 2 ** max(0, stage - 3) for stage in range(stages))
    return {"widths": widths, "cardinalities": tuple(max(1, w // per_group) for w in widths), "blocks": (blocks,) * stages}


def smallest_side(size: int, widths, cardinalities, blocks, expansion: int) -> int:
    """The side of the first stage. Raises UserError for stages that do not fit each other or the
    image."""
    if not len(widths) == len(cardinalities) == len(blocks) > 0:
        given = f"{len(widths)}, {len(cardinalities)} and {len(blocks)}"
        raise UserError(f"r3gan needs one width, cardinality and number of blocks for each stage: it got {given}")
    for width, groups in zip(widths, cardinalities, strict=True):
        if width * expansion % groups:
            raise UserError(f"r3gan: {width * expansion} channels do not divide into {groups} groups: change cardinalities")
    side, rest = divmod(size, 2 ** (len(widths) - 1))
    if rest or side < 2:
        stages = f"{len(widths)} stages of r3gan, each of twice the side"
        raise UserError(f"images of side {size} do not fit {stages}: see r3gan.plan")
    return side


# ---- layers ------------------------------------------------------------------------------------


def msr(gain: float):
    """N(0, gain^2 / fan in) (He et al., 2015, as in the authors' code); zeros for gain 0."""
    return variance_scaling(gain**2, "fan_in", "normal") if gain else nn.initializers.zeros


def linear(x, features: int, name: str, gain: float = 1.0):
    """A linear layer without bias; for images, a 1x1 convolution. Call it inside a module."""
    return nn.Dense(features, use_bias=False, kernel_init=msr(gain), dtype=x.dtype, name=name)(x)


def _shift(x, axis: int, by: int):
    """Position i gets the value of i - by, or zero beyond the edge."""
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (by, -by, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), pads)


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Bilinear: zeros between and around the pixels, then (1, 3, 3, 1) / 4 along each side."""
    for axis in (1, 2):
        near, before, after = 0.75 * x, 0.25 * _shift(x, axis, 1), 0.25 * _shift(x, axis, -1)
        twice = jnp.stack([near + before, near + after], axis + 1)
        x = twice.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def downsample(x: Float[Array, "b 2*h 2*w c"]) -> Float[Array, "b h w c"]:
    """Every second pixel after a filter (1, 3, 3, 1) / 8 along each side: a quarter of the
    transpose of `upsample`."""
    for axis in (1, 2):
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        x = 0.375 * (even + odd) + 0.125 * (_shift(odd, axis, 1) + _shift(even, axis, -1))
    return x


class ResidualBlock(nn.Module):
    """x + contract(act(grouped(act(expand(x))))), with act(y) = LeakyReLU(y + bias). depth: number
    of blocks of the player"""

    cardinality: int
    expansion: int
    kernel_size: int
    depth: int

    @nn.compact
    def __call__(self, x, mode: Mode, dropout=None, noise=None):
        width, expanded, gain = x.shape[-1], x.shape[-1] * self.expansion, GAIN * self.depth**-0.25
        y = self.activate(linear(x, expanded, "expand", gain), "bias_1")
        options = {"groups": self.cardinality, "use_bias": False, "kernel_init": msr(gain), "name": "grouped"}
        y = self.activate(Conv(expanded, self.kernel_size, **options)(y), "bias_2")
        return x + linear(perturbed(y, mode, dropout, noise), width, "contract", 0.0)

    def activate(self, y, name: str):
        bias = self.param(name, nn.initializers.zeros, y.shape[-1:])
        return nn.leaky_relu(y + bias.astype(y.dtype), SLOPE)


def residual_blocks(player: "Generator | Discriminator", stage: int, x, mode: Mode, *numbers):
    """The blocks of one stage of `player`. Call it inside the module."""
    options = player.cardinalities[stage], player.expansion, player.kernel_size, sum(player.blocks)
    for i in range(player.blocks[stage]):
        x = ResidualBlock(*options, name=f"stage_{stage}_block_{i}")(x, mode, *numbers)
    return x


def to_width(x, width: int, stage: int):
    """A linear layer, unless x has this width. Call it inside a module."""
    return x if x.shape[-1] == width else linear(x, width, f"stage_{stage}_width")


# ---- the players -------------------------------------------------------------------------------


@part("networks.r3gan")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels], unbounded.

    label_width: of the label's vector, which is joined to z; 0 for that of z, as the authors'.
    Numbers: dropout, noise (in every block; the authors have none)."""

    size: int
    channels: int
    widths: tuple[int, ...] = (768, 768, 768, 768)
    cardinalities: tuple[int, ...] = (96, 96, 96, 96)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    expansion: int = 2
    kernel_size: int = 3
    classes: int = 0
    label_width: int = 0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        side = smallest_side(self.size, self.widths, self.cardinalities, self.blocks, self.expansion)
        if self.classes:
            z = with_label_vector(z, labels, self.classes, self.label_width or z.shape[-1], scale=self.classes**-0.5)
        basis = self.param("basis", normal(1.0), (side, side, self.widths[0])).astype(z.dtype)
        x = basis * linear(z, self.widths[0], "weights")[:, None, None]
        for stage, width in enumerate(self.widths):
            if stage:
                x = upsample(to_width(x, width, stage))
            x = residual_blocks(self, stage, x, mode, dropout, noise)
        return linear(x, self.channels, "image")


@part("networks.r3gan")
class Discriminator(nn.Module):
    """images [b, h, h, c], labels [b] -> DiscriminatorOutput, whose features are the products with
    the basis.

    conditioning: see `heads.discriminator_output`; 'embedding' is one more channel. 'projection' is
    the authors': the logit is <linear(features), label's vector> alone, of `label_width` (0 for the
    width of the first stage, as theirs). Numbers: dropout, noise (in every block)."""

    widths: tuple[int, ...] = (768, 768, 768, 768)
    cardinalities: tuple[int, ...] = (96, 96, 96, 96)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    expansion: int = 2
    kernel_size: int = 3
    classes: int = 0
    label_width: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, images, labels, mode: Mode, dropout=None, noise=None):
        side = smallest_side(images.shape[1], self.widths, self.cardinalities, self.blocks, self.expansion)
        x = linear(with_label(images, labels, self.classes, self.conditioning), self.widths[-1], "image")
        for stage, width in reversed(list(enumerate(self.widths))):
            if stage < len(self.widths) - 1:
                x = to_width(downsample(x), width, stage)
            x = residual_blocks(self, stage, x, mode, dropout, noise)
        basis = self.param("basis", normal(1 / side), (side, side, x.shape[-1])).astype(x.dtype)
        features = (x * basis).sum((1, 2))
        return discriminator_output(features, labels, self.classes, self.conditioning, linear=linear, projected=self.projected)

    def projected(self, features, labels):
        width = self.label_width or self.widths[0]
        label = embedding(labels, self.classes, width, features.dtype, scale=(self.classes * width) ** -0.5)
        return (linear(features, width, "logit") * label).sum(-1)
