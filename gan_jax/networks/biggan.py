"""BigGAN's networks (Brock et al., 2019), with the plans and choices of the authors' PyTorch code.

Residual blocks are SNGAN's (`sngan.py`), with these changes: pixels are repeated to double the
side, the width inside a block of D is the wider one, and one resolution has self-attention.
Conditional batch norm is a linear map of the label's vector, which all layers share, and of the
block's own chunk of z. Kernels start orthogonal. Both networks are spectrally normalised except for
the generator's embeddings, with epsilon 1e-8, or 1e-6 for ImageNet:

    ImageNet, 128  net = Net(Generator(128, 3, 96, 1000, attention=64))
                   G = SpectralNorm(net, epsilon=1e-6, skip=("label",))
                   D = SpectralNorm(Net(Discriminator(96, 1000, attention=64)), epsilon=1e-6)
                   z of 120 normal numbers; 70,433,988 and 87,982,370 parameters
    CIFAR-10, 32   net = Net(Generator(32, 3, 64, 10, shared=0, hierarchical=False, start="normal"))
                   G = SpectralNorm(net, epsilon=1e-8, skip=("scale", "shift"))
                   D = SpectralNorm(Net(Discriminator(64, 10, start="normal")), epsilon=1e-8)
                   z of 128 normal numbers; 4,304,387 and 4,207,361 parameters

The paper trains with the hinge loss, Adam with b1 0 and b2 .999, learning rates 5e-5 for G and 2e-4
for D, two D steps a G step, orthogonal regularisation of 1e-4 on G (appendix C), and a moving
average of decay .9999. The PyTorch scripts have 1e-4 and 4e-4 with one D step at 128 pixels, and
`recipes.biggan` at 32. Their biases start uniform (PyTorch's default), here at zero. Their
evaluation uses singular vectors after one more iteration, here the stored ones.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.conv import Conv
from gan_jax.networks.heads import with_label
from gan_jax.networks.initializers import glorot, normal
from gan_jax.networks.layers import BatchNorm, perturbed
from gan_jax.networks.sngan import ConditionalBatchNorm, DiscriminatorBlock, GeneratorBlock, Head, pairs_of_pixels

STARTS = {"orthogonal": nn.initializers.orthogonal(), "normal": normal(0.02), "glorot": glorot}


class Plan(NamedTuple):
    """For one image size: G's first side and first width, the widths of the blocks of G and D, all
    in multiples of `width`, and the number of D's blocks, from the first, that halve the side."""

    bottom: int
    first: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    halvings: int


PLANS = {
    8: Plan(4, 4, (4,), (4, 4, 4), 1),
    16: Plan(4, 4, (4, 4), (4, 4, 4, 4), 2),
    28: Plan(7, 4, (4, 4), (4, 4, 4, 4), 2),
    32: Plan(4, 4, (4, 4, 4), (4, 4, 4, 4), 2),
    64: Plan(4, 16, (16, 8, 4, 2), (1, 2, 4, 8, 16), 4),
    128: Plan(4, 16, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
    256: Plan(4, 16, (16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16), 6),
}


def plan(size: int) -> Plan:
    """The plan for images of this side. Raises UserError for a size without one."""
    if size not in PLANS:
        raise UserError(f"image size {size} is not supported by biggan: use one of {', '.join(map(str, PLANS))}")
    return PLANS[size]


def starting(start: str) -> Any:
    """An initialiser of kernels and tables by name. Raises UserError for an unknown one."""
    if start not in STARTS:
        raise UserError(f"unknown start {start!r} of biggan's weights: use one of {', '.join(map(repr, STARTS))}")
    return STARTS[start]


def attended(attention: int, sides: list[int]) -> None:
    """Raises UserError where no map has the side `attention` (0 for none), or where it is odd."""
    fit = [side for side in sides if side % 2 == 0]
    if attention and attention not in fit:
        raise UserError(f"biggan has no map of side {attention} to attend to: use attention=0 or one of {fit}")


class Attention(nn.Module):
    """Self-attention over the pixels: x + gamma * o(softmax(q k^T) v), where gamma starts at 0
    (Zhang et al., 2019, as in the authors' code). q and k have an eighth of the width, and v a
    half. k and v are halved by the maximum of 2 x 2 pixels."""

    kernel_init: Any = glorot

    @nn.compact
    def __call__(self, x):
        b, h, w, width = x.shape
        linear = lambda name, features: Conv(features, 1, use_bias=False, kernel_init=self.kernel_init, name=name)
        pixels = lambda x: x.reshape(b, -1, x.shape[-1])
        pooled = lambda x: pixels(pairs_of_pixels(x).max((2, 4)))
        narrow, half = max(1, width // 8), max(1, width // 2)
        query, key = pixels(linear("theta", narrow)(x)), pooled(linear("phi", narrow)(x))
        share = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", query, key))
        summed = (share @ pooled(linear("g", half)(x))).reshape(b, h, w, half)
        return x + self.param("gamma", nn.initializers.zeros, ()).astype(x.dtype) * linear("o", width)(summed)


@part("networks.biggan")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels] in [-1, 1].

    width:        1/4 of the last map's at 32 pixels, the last map's at 128
    shared:       length of the label's vector that all conditional batch norms share; 0 gives each
                  its own tables
    hierarchical: whether z is cut into equal chunks, for the first layer and each block's norms
    attention:    side of the map with self-attention (64 in the paper), 0 for none
    start:        "orthogonal", "normal" (N(0, .02^2)) or "glorot" kernels
    Numbers: dropout, noise (after each block).
    Raises UserError for an unknown size or start, an attention that fits no map, and a z that does
    not divide into chunks."""

    size: int
    channels: int
    width: int = 64
    classes: int = 0
    shared: int = 128
    hierarchical: bool = True
    attention: int = 0
    start: str = "orthogonal"

    @nn.compact
    def __call__(self, z, labels, mode: Mode, dropout=None, noise=None):
        chosen, start = plan(self.size), starting(self.start)
        attended(self.attention, [chosen.bottom * 2**i for i in range(1, 1 + len(chosen.generator))])
        z, conditions = self.conditions(z, labels, len(chosen.generator), start)
        first = chosen.first * self.width
        x = nn.Dense(chosen.bottom**2 * first, kernel_init=start, dtype=z.dtype, name="dense")(z)
        x = x.reshape(-1, chosen.bottom, chosen.bottom, first)
        norm = partial(ConditionalBatchNorm, scale_init=start, shift_init=start)
        for i, (times, condition) in enumerate(zip(chosen.generator, conditions, strict=True)):
            block = GeneratorBlock(times * self.width, "nearest", start, start, norm, name=f"block{i}")
            x = block(x, condition, mode)
            x = Attention(start, name="attention")(x) if x.shape[1] == self.attention else x
            x = perturbed(x, mode, dropout, noise, str(i))
        x = nn.relu(BatchNorm(momentum=0.9, epsilon=1e-5, name="norm")(x, mode))
        return nn.tanh(Conv(self.channels, kernel_init=start, name="image")(x))

    def conditions(self, z, labels, blocks: int, start) -> tuple[Any, list]:
        """(z of the first layer, the condition of each block's batch norms)."""
        chunks, parts = [z], []
        if self.hierarchical:
            if z.shape[-1] % (blocks + 1):
                below = z.shape[-1] // (blocks + 1) * (blocks + 1)
                near = f"{below} or {below + blocks + 1}" if below else f"{blocks + 1}"
                raise UserError(f"biggan cuts z into {blocks + 1} equal chunks, not {z.shape[-1]} numbers: give it {near}")
            chunks = jnp.split(z, blocks + 1, -1)
        if self.classes and self.shared:
            parts = [nn.Embed(self.classes, self.shared, embedding_init=start, dtype=z.dtype, name="label")(labels)]
        elif self.classes:
            parts = [jax.nn.one_hot(labels, self.classes, dtype=z.dtype)]
        each = [parts + chunks[1 + i : 2 + i] for i in range(blocks)]
        return chunks[0], [jnp.concatenate(parts, -1) if parts else None for parts in each]


@part("networks.biggan")
class Discriminator(nn.Module):
    """images [b, h, w, c], labels [b] -> DiscriminatorOutput. Arguments, numbers and errors are the
    generator's, except for these.

    width:        1/4 of every map's at 32 pixels, the first map's at 128
    conditioning: see `heads.discriminator_output`; 'embedding' is one more channel"""

    width: int = 64
    classes: int = 0
    attention: int = 0
    start: str = "orthogonal"
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, images, labels, mode: Mode, dropout=None, noise=None):
        chosen, start = plan(images.shape[1]), starting(self.start)
        x = with_label(images, labels, self.classes, self.conditioning)
        attended(self.attention, [images.shape[1] // 2**i for i in range(1, 1 + chosen.halvings)])
        for i, times in enumerate(chosen.discriminator):
            wide, halve = times * self.width, i < chosen.halvings
            x = DiscriminatorBlock(wide, wide, halve, i == 0, start, start, name=f"block{i}")(x)
            x = Attention(start, name="attention")(x) if halve and x.shape[1] == self.attention else x
            x = perturbed(x, mode, dropout, noise, str(i))
        return Head(self.classes, self.conditioning, start, name="projection")(nn.relu(x).sum((1, 2)), labels)
