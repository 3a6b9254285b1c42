"""StyleGAN2's networks (Karras et al., 2020, arXiv:1912.04958), as in StyleGAN2-ADA (2006.06676).

The width at side s is min(channel_base // s, channel_max). The published configurations for RGB,
512 latents and no labels, with their numbers of parameters:

    CIFAR-10   Generator(32, 3, mapping=2), 19,947,539
               Discriminator('orig', group=32), 20,720,641
    paper256   Generator(256, 3, channel_base=16384), 24,767,458
               Discriminator(channel_base=16384, group=8), 24,001,089

Both have noise=1 among the generator's numbers, and the second has mixing=.9 (CIFAR-10 has none).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.batch import device_mean
from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.networks.heads import discriminator_output, with_label
from gan_jax.networks.initializers import normal
from gan_jax.networks.layers import Dropout, normal_like, perturbed, wide
from gan_jax.networks.minibatch import minibatch_std
from gan_jax.networks.stylegan2_parts import HALF, Dense, EqualConv, Mapping, StyledConv, ToRGB, activate, enlarge, shrink

ARCHITECTURES = "orig", "skip", "resnet"


def sides(size: int) -> list[int]:
    """4, 8, ..., size. Raises UserError for a size that is no power of two, or below 8."""
    if size < 8 or size & (size - 1):
        raise UserError(f"image size {size} is not supported by stylegan2: use a power of two, 8 or larger")
    return [2**i for i in range(2, size.bit_length())]


def widths(size: int, architecture: str, channel_base: int, channel_max: int) -> dict[int, int]:
    """{side: features}. Raises UserError for an unknown architecture, an unsupported size, and a
    channel_base below it."""
    if architecture not in ARCHITECTURES:
        raise UserError(f"unknown architecture {architecture!r} of stylegan2: use {', '.join(map(repr, ARCHITECTURES))}")
    if channel_base < size:
        raise UserError(f"channel_base {channel_base} leaves no features at side {size}: give {size} or more")
    return {side: min(channel_base // side, channel_max) for side in sides(size)}


class SynthesisBlock(nn.Module):
    """Features and image of one side -> those of twice the side; the first block (x is None) starts
    from a learned constant. Only 'skip' makes an image in each block, not only in the `last`.

    ws: [b, layers, d], the styles from this block on"""

    features: int
    channels: int
    last: bool
    architecture: str = "skip"
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, image, ws, mode: Mode, noise=None, dropout=None):
        styled = partial(StyledConv, self.features, clamp=self.clamp)
        used, residual = 1 if x is None else 2, self.architecture == "resnet"
        if x is None:
            constant = self.param("const", normal(1.0), (4, 4, self.features)).astype(ws.dtype)
            y = styled(name="conv1")(jnp.broadcast_to(constant, (len(ws), *constant.shape)), ws[:, 0], mode, noise)
        else:
            y = styled(up=True, name="conv0")(x, ws[:, 0], mode, noise)
            y = styled(name="conv1")(y, ws[:, 1], mode, noise, HALF if residual else 1.0)
            if residual:
                y += EqualConv(self.features, 1, "up", linear=True, name="skip")(x, HALF)
        y = Dropout(name="dropout")(y, dropout, mode)
        if self.last or self.architecture == "skip":
            rgb = ToRGB(self.channels, self.clamp, name="torgb")(y, ws[:, used])
            image = rgb if image is None else enlarge(image) + rgb
        return y, image


class Synthesis(nn.Module):
    """ws [b, layers, d] -> images [b, size, size, channels]. Numbers: noise, dropout."""

    size: int
    channels: int
    architecture: str = "skip"
    channel_base: int = 32768
    channel_max: int = 512
    clamp: float | None = None

    @nn.compact
    def __call__(self, ws, mode: Mode, noise=None, dropout=None):
        x, image, first = None, None, 0
        for side, width in widths(self.size, self.architecture, self.channel_base, self.channel_max).items():
            block = SynthesisBlock(width, self.channels, side == self.size, self.architecture, self.clamp, name=f"b{side}")
            x, image = block(x, image, ws[:, first:], mode, noise, dropout)
            first += 1 if side == 4 else 2
        return image


@part("networks.stylegan2")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels], unbounded; size: 8, 16, 32, ...

    mapping:       layers of the mapping network, 8 in the paper, 2 for CIFAR-10
    style:         features of w
    clamp:         bound of activations (256 in the source's float16); None for none
    average_decay: of the average w, .995 in the source

    The numbers; None leaves out the part of the network:

    dropout:    rate in training, on the features of each block before they become an image (the
                paper has none)
    noise:      scale of the noise inputs, 1 in the paper; their learned strengths exist with it
    mixing:     in training, the probability that a second z ~ N(0, 1), whatever the recipe's latent
                is, replaces the first from a random layer on (.9 in the paper; here decided for
                each example, in the source for each batch)
    truncation: psi, in evaluation: w becomes average + psi * (w - average). 1 changes nothing, and
                0 gives the average image.
    shift:      added to w, of a shape that broadcasts to [b, *style_shape]; the path-length penalty
                differentiates in it"""

    size: int
    channels: int
    architecture: str = "skip"
    channel_base: int = 32768
    channel_max: int = 512
    mapping: int = 8
    style: int = 512
    classes: int = 0
    clamp: float | None = None
    average_decay: float = 0.995

    def setup(self):
        self.map = Mapping(self.style, self.mapping, self.classes)
        self.synthesis = Synthesis(self.size, self.channels, self.architecture, self.channel_base, self.channel_max, self.clamp)
        self.average = self.variable("averages", "style", jnp.zeros, (self.style,))

    @property
    def style_shape(self) -> tuple[int, int]:
        """(layers, features) of an example's styles."""
        return 2 * len(sides(self.size)), self.style

    def __call__(self, z, labels, mode: Mode, noise=None, mixing=None, truncation=None, shift=None, dropout=None):
        return self.synthesis(self.styles(z, labels, mode, mixing, truncation, shift), mode, noise, dropout)

    def styles(self, z, labels, mode: Mode, mixing=None, truncation=None, shift=None):
        """w of every layer, [b, *style_shape]."""
        w = self.map(z, labels)
        if mode.train:
            self.track(w, mode)
        ws = jnp.broadcast_to(w[:, None], (len(w), *self.style_shape))
        if mixing is not None and mode.train and mode.draws is not None:
            ws = self.mixed(ws, z, labels, mode.draws, mixing)
        if truncation is not None and not mode.train:
            average = self.average.value.astype(ws.dtype)
            ws = average + jnp.asarray(truncation, ws.dtype) * (ws - average)
        return ws if shift is None else ws + jnp.asarray(shift, ws.dtype)

    def track(self, w, mode: Mode):
        """Update the average w with this batch."""
        old = self.average.value
        latest = device_mean(jax.lax.stop_gradient(w).astype(wide(w.dtype)).mean(0), mode.axis_name)
        self.average.value = (latest + self.average_decay * (old - latest)).astype(old.dtype)

    def mixed(self, ws, z, labels, draws: Draws, mixing):
        """The styles; those of some examples come from a second z, from a random layer on."""
        draws, layers = draws.named("mixing", *self.path), self.style_shape[0]
        other = normal_like(z, draws.named("latent"))
        first = 1 + draws.named("layer").integers(layers - 1)
        taken = draws.named("whether").uniform() < mixing
        theirs = taken[:, None] & (jnp.arange(layers) >= first[:, None])
        return jnp.where(theirs[..., None], self.map(other, labels)[:, None], ws)


class DiscriminatorBlock(nn.Module):
    """Features and image of one side -> those of half the side; x is None in the first block."""

    width: int
    features: int
    architecture: str = "resnet"
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, image):
        skip, residual = self.architecture == "skip", self.architecture == "resnet"
        if x is None or skip:
            y = EqualConv(self.width, 1, clamp=self.clamp, name="fromrgb")(image)
            x = y if x is None else x + y
        y = EqualConv(self.width, clamp=self.clamp, name="conv0")(x)
        y = EqualConv(self.features, resample="down", clamp=self.clamp, name="conv1")(y, HALF if residual else 1.0)
        if residual:
            y += EqualConv(self.features, 1, "down", linear=True, name="skip")(x, HALF)
        return y, shrink(image) if skip else None


class Epilogue(nn.Module):
    """Features [b, 4, 4, c] (and image, for 'skip') -> DiscriminatorOutput. label: [b, d], the
    label's vector for 'projection', where the logit is its product with d numbers over sqrt(d)"""

    group: int = 4
    std_channels: int = 1
    architecture: str = "resnet"
    clamp: float | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x, image, mode: Mode, label=None):
        width = x.shape[-1]
        x = x.astype(wide(x.dtype))  # a group's variance is a small difference
        if self.architecture == "skip":
            x += EqualConv(width, 1, name="fromrgb")(image)
        if self.std_channels:
            x = minibatch_std(x, self.group, self.std_channels, mode)
        x = EqualConv(width, clamp=self.clamp, name="conv")(x)
        x = activate(Dense(width, name="fc")(x.reshape(len(x), -1)))
        linear = lambda x, width, name: Dense(width, name="out" if name == "logit" else name)(x)
        projected = lambda x, label: (linear(x, label.shape[-1], "logit") * label).sum(-1) / label.shape[-1] ** 0.5
        return discriminator_output(x, label, self.classes, self.conditioning, linear=linear, projected=projected)


@part("networks.stylegan2")
class Discriminator(nn.Module):
    """images [b, size, size, channels], labels [b] -> DiscriminatorOutput.

    architecture: 'resnet' in the paper, 'orig' for CIFAR-10
    group, std_channels: see `minibatch_std`; 0 channels leave it out
    conditioning: see `heads.discriminator_output`; 'embedding' is one more channel. 'projection' is
                  the source's: the logit is the product of the features' and the label's vector
                  over sqrt(length), the latter from a mapping network of `mapping` layers.

    Numbers: dropout, noise (after each block; the paper has none). This is plain dropout; the
    adaptive dropout with which Karras et al. (2020b) compare ADA multiplies each channel by a
    random factor."""

    architecture: str = "resnet"
    channel_base: int = 32768
    channel_max: int = 512
    group: int = 4
    std_channels: int = 1
    mapping: int = 8
    classes: int = 0
    clamp: float | None = None
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, images, labels, mode: Mode, dropout=None, noise=None):
        if images.shape[1] != images.shape[2]:
            raise UserError(f"images of {images.shape[1]} x {images.shape[2]} are not supported by stylegan2: use squares")
        width = widths(images.shape[1], self.architecture, self.channel_base, self.channel_max)
        x, image = None, with_label(images, labels, self.classes, self.conditioning)
        for side in reversed(list(width)[1:]):
            block = DiscriminatorBlock(width[side], width[side // 2], self.architecture, self.clamp, name=f"b{side}")
            x, image = block(x, image)
            x = perturbed(x, mode, dropout, noise, str(side))
        label = None
        if self.classes and self.conditioning == "projection":
            label = Mapping(width[4], self.mapping, self.classes, name="mapping")(None, labels, wide(images.dtype))
        options = self.group, self.std_channels, self.architecture, self.clamp, self.classes, self.conditioning
        return Epilogue(*options, name="b4")(x, image, mode, label)
