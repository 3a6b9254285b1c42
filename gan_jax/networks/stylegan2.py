"""StyleGAN2's networks (Karras et al., 2020, arXiv:1912.04958), as in StyleGAN2-ADA (2006.06676).

The width at side s is min(channel_base // s, channel_max). The published configurations for RGB,
512 latents and no labels, with their numbers of parameters:

    CIFAR-10   Generator(32, 3, mapping=2), 19,947,539
               Discriminator('orig', group=32), 20,720,641
    paper256   Generator(256, 3, channel_base=16384), 24,767,458
               Discriminator(channel_base=16384, group=8), 24,001,089

Both have noise=1 among the generator's numbers, and the second has mixing=.9 (CIFAR-10 has none).
Sides are powers of two from 8. Images are unbounded (no tanh).
"""

from __future__ import annotations

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
from gan_jax.networks.layers import Dropout, perturbed
from gan_jax.networks.minibatch import minibatch_std
from gan_jax.networks.stylegan2_parts import (
    HALF,
    Dense,
    EqualConv,
    Mapping,
    StyledConv,
    ToRGB,
    activate,
    enlarge,
    gaussian,
    shrink,
)

ARCHITECTURES = "orig", "skip", "resnet"


def sides(size: int) -> list[int]:
    """4, 8, ... size. Raises UserError for a size that is no power of two, or below 8."""
    if size < 8 or size & (size - 1):
        raise UserError(f"image size {size} is not supported by stylegan2: use a power of two, 8 or larger")
    return [2**i for i in range(2, size.bit_length())]


def widths(size: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """{side: features} from 4 to size. Raises UserError for an unsupported size, and for a
    channel_base below it."""
    if channel_base < size:
        raise UserError(f"channel_base {channel_base} leaves no features at side {size}: give {size} or more")
    return {side: min(channel_base // side, channel_max) for side in sides(size)}


def _check(architecture: str) -> str:
    if architecture not in ARCHITECTURES:
        raise UserError(f"unknown architecture {architecture!r} of stylegan2: use {', '.join(map(repr, ARCHITECTURES))}")
    return architecture


# ---- the generator -----------------------------------------------------------------------------


class SynthesisBlock(nn.Module):
    """Features and image of one side -> those of twice the side.

    The first block (x is None) starts from a learned constant. ws [b, layers, d]: the styles from
    this block on. Unless the architecture is 'skip', only the last block makes an image.
    """

    features: int
    channels: int
    last: bool
    architecture: str = "skip"
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, image, ws, mode: Mode, noise=None, dropout=None):
        styled = partial(StyledConv, self.features, clamp=self.clamp)
        if x is None:
            used = 1
            constant = self.param("const", gaussian, (4, 4, self.features)).astype(ws.dtype)
            y = styled(name="conv1")(jnp.broadcast_to(constant, (len(ws), *constant.shape)), ws[:, 0], mode, noise)
        else:
            used, residual = 2, self.architecture == "resnet"
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
        x = image = None
        first, architecture = 0, _check(self.architecture)
        for side, width in widths(self.size, self.channel_base, self.channel_max).items():
            block = SynthesisBlock(width, self.channels, side == self.size, architecture, self.clamp, name=f"b{side}")
            x, image = block(x, image, ws[:, first:], mode, noise, dropout)
            first += 1 if side == 4 else 2
        return image


@part("networks.stylegan2")
class Generator(nn.Module):
    """z [b, d], labels [b] -> images [b, size, size, channels], unbounded.

    mapping:       layers of the mapping network, 8 in the paper, 2 for CIFAR-10
    style:         features of w
    clamp:         bound of activations (256 in the source's float16); None for none
    average_decay: of the average w, .995 in the source

    The numbers; a part of the network is left out where its number is absent (None):

    dropout:    rate in training, on the features of each block before they become an image (the
                paper has none)
    noise:      scale of the noise inputs, 1 in the paper; without it their learned strengths do not
                exist
    mixing:     in training, the probability, for each example, that a second z takes over from a
                random layer on (.9 in the paper; the source decides once per batch). That z is
                drawn from N(0, 1), whatever the recipe's latent is.
    truncation: psi, in evaluation: w becomes average + psi * (w - average). 1 changes nothing, and
                0 gives the average image.
    shift:      added to w, of a shape that broadcasts to [b, *style_shape]; the path-length penalty
                differentiates in it
    """

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
        latest = device_mean(jax.lax.stop_gradient(w).astype(jnp.promote_types(w.dtype, jnp.float32)).mean(0), mode.axis_name)
        self.average.value = (latest + self.average_decay * (old - latest)).astype(old.dtype)

    def mixed(self, ws, z, labels, draws: Draws, mixing):
        """The styles, where those of some examples come from a second z from a layer on."""
        draws, layers = draws.named("mixing", *self.path), self.style_shape[0]
        other = draws.named("latent").normal(z.shape[1:], jnp.promote_types(z.dtype, jnp.float32)).astype(z.dtype)
        first = 1 + draws.named("layer").integers(layers - 1)
        taken = draws.named("whether").uniform() < mixing
        theirs = taken[:, None] & (jnp.arange(layers) >= first[:, None])
        return jnp.where(theirs[..., None], self.map(other, labels)[:, None], ws)


# ---- the discriminator -------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """Features and image of one side -> those of half the side. The first block (x is None) starts
    from the image."""

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
    """Features [b, 4, 4, c] (and image, for 'skip') -> DiscriminatorOutput, whose features are the
    last hidden layer.

    label: [b, d], the label's vector for 'projection', where the logit is its product with `d`
           numbers over
    the square root of d
    """

    group: int = 4
    std_channels: int = 1
    architecture: str = "resnet"
    clamp: float | None = None
    classes: int = 0
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x, image, mode: Mode, label=None):
        width = x.shape[-1]
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a group's variance is a small difference
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
    """images [b, size, size, channels], labels [b] -> DiscriminatorOutput. Features are the last
    hidden layer.

    Numbers: dropout, noise (after each block; the paper has none). The adaptive dropout with which
             Karras et
    al. (2020b) compare ADA multiplies each channel by a random factor. Here it is plain dropout,
    whose rate a controller may drive.

    group:        examples whose standard deviation D sees (`minibatch_std`), which must divide the
                  batch: 4 in StyleGAN2, 32 for CIFAR-10
    std_channels: channels of that standard deviation; 0 leaves it out
    conditioning: how labels enter, by 'projection' in the source: the logit is the product of the
                  features' and the label's vector over the square root of their length. A mapping
                  network of `mapping` layers makes the label's vector. The others are those of
                  `heads.discriminator_output`; 'embedding' is one more channel.
    architecture: 'resnet' in the paper, 'orig' for CIFAR-10
    """

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
        architecture = _check(self.architecture)
        if images.shape[1] != images.shape[2]:
            raise UserError(f"images of {images.shape[1]} x {images.shape[2]} are not supported by stylegan2: use squares")
        width = widths(images.shape[1], self.channel_base, self.channel_max)
        x, image = None, with_label(images, labels, self.classes, self.conditioning)
        for side in reversed(list(width)[1:]):
            block = DiscriminatorBlock(width[side], width[side // 2], architecture, self.clamp, name=f"b{side}")
            x, image = block(x, image)
            x = perturbed(x, mode, dropout, noise, str(side))
        label = None
        if self.classes and self.conditioning == "projection":
            wide = jnp.promote_types(images.dtype, jnp.float32)
            label = Mapping(width[4], self.mapping, self.classes, name="mapping")(None, labels, wide)
        kind = self.classes, self.conditioning
        epilogue = Epilogue(self.group, self.std_channels, architecture, self.clamp, *kind, name="b4")
        return epilogue(x, image, mode, label)
