"""Layers of StyleGAN2: equalised rates, resampling, modulated convolutions, the mapping network.

Every kernel starts as N(0, 1) and is divided, where it is used, by the square root of its number of
inputs (the equalised learning rate of Karras et al., 2018). NVIDIA's code convolves in layers that
enlarge the image, where this one correlates, so that those kernels must be flipped on both sides.
"""

from math import sqrt

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gan_jax.core.net import Mode
from gan_jax.networks.conv import conv, conv_transpose
from gan_jax.networks.initializers import normal
from gan_jax.networks.layers import wide

SLOPE = 0.2
EDGE, MIDDLE = 0.125, 0.375  # the taps of the low-pass filter [1, 3, 3, 1], of sum 1
HALF = sqrt(0.5)  # of each branch of a residual block: their sum keeps the variance

gaussian = normal(1.0)


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """x scaled to a mean square of 1."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)


def activate(x: Array, gain: float = 1.0, clamp: float | None = None) -> Array:
    """LeakyReLU of slope .2, times sqrt(2) * gain, clipped to +- clamp * gain."""
    x = nn.leaky_relu(x, SLOPE) * (sqrt(2) * gain)
    return x if clamp is None else jnp.clip(x, -clamp * gain, clamp * gain)


def fir(x: Float[Array, "b h w c"], pads: tuple[int, int], up: int = 1, down: int = 1, gain: float = 1.0):
    """Each channel upsampled by zeros, padded, filtered by [1, 3, 3, 1] / 8, and every `down`-th
    pixel kept. gain: of each axis; `up` keeps the brightness"""
    # Shifted copies are summed, because XLA has no fast convolution of one channel at a time.
    for axis in (1, 2):
        pad = [(0, 0, 0)] * 4
        pad[axis] = (pads[0], pads[1] + up - 1, up - 1)
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), pad)
        length = x.shape[axis] - 3
        tap = [jax.lax.slice_in_dim(x, i, i + length, down, axis) for i in range(4)]
        x = gain * (EDGE * (tap[0] + tap[3]) + MIDDLE * (tap[1] + tap[2]))
    return x


def enlarge(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    return fir(x, (2, 1), up=2, gain=2.0)


def shrink(x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    return fir(x, (1, 1), down=2)


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], resample: str | None = None):
    """A convolution by a kernel of side 1 or 3, and resampling 'up' or 'down' by two, or None."""
    match resample, kernel.shape[0]:
        case None, _:
            return conv(x, kernel)
        case "up", 1:
            return enlarge(conv(x, kernel))
        case "up", 3:
            return fir(conv_transpose(x, kernel, 2, "VALID"), (1, 1), gain=2.0)
        case "down", 1:
            return conv(shrink(x), kernel)
        case "down", 3:
            return conv(fir(x, (2, 2)), kernel, 2, "VALID")
    raise ValueError(f"resample={resample!r} with a kernel of {kernel.shape[0]}")


def modulated_conv(x, kernel, styles: Float[Array, "b i"], demodulate: bool = True, resample: str | None = None):
    """A convolution by a kernel that each example's styles scale, and that then gets unit norm.

    Equations 1 and 3 of Karras et al. (2020): kernel'[.., i, o] = styles[i] kernel[.., i, o] /
    sqrt(sum over taps and i of (styles[i] kernel[.., i, o])^2 + 1e-8). The scales are applied to
    the image, before and after one convolution with the kernel that all examples share."""
    y = convolve(x * styles[:, None, None], kernel, resample)
    if not demodulate:
        return y
    styles, kernel = (a.astype(wide(a.dtype)) for a in (styles, kernel))
    energy = jnp.square(styles) @ jnp.square(kernel).sum((0, 1))
    return y * jax.lax.rsqrt(energy + 1e-8).astype(y.dtype)[:, None, None]


class Dense(nn.Module):
    """x @ kernel * rate / sqrt(inputs) + bias * rate. The kernel starts as N(0, 1 / rate^2), so
    that `rate` scales the learning rate alone. bias: its first value"""

    features: int
    rate: float = 1.0
    bias: float = 0.0

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", normal(1 / self.rate), (x.shape[-1], self.features)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.constant(self.bias), (self.features,)).astype(x.dtype)
        return x @ (kernel * (self.rate / sqrt(x.shape[-1]))) + bias * self.rate


class EqualConv(nn.Module):
    """A convolution at an equalised rate, then bias and activation; neither if `linear`."""

    features: int
    kernel_size: int = 3
    resample: str | None = None
    linear: bool = False
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, gain: float = 1.0):
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", gaussian, shape).astype(x.dtype) / sqrt(self.kernel_size**2 * x.shape[-1])
        x = convolve(x, kernel, self.resample)
        if self.linear:
            return x * gain
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return activate(x + bias, gain, self.clamp)


class StyledConv(nn.Module):
    """A 3x3 convolution modulated by w [b, d], noise, bias, activation. up: doubles the sides

    The noise is one N(0, 1) image of one channel, times a learned strength that starts at 0, times
    the number `noise`. In training each example has its own noise. In evaluation all share the
    noise that was drawn at initialisation, so that an image depends on z alone."""

    features: int
    up: bool = False
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, w, mode: Mode, noise=None, gain: float = 1.0):
        styles = Dense(x.shape[-1], bias=1.0, name="affine")(w)
        kernel = self.param("kernel", gaussian, (3, 3, x.shape[-1], self.features)).astype(x.dtype)
        x = modulated_conv(x, kernel, styles, resample="up" if self.up else None)
        if noise is not None:
            strength = self.param("noise_strength", nn.initializers.zeros, ()).astype(x.dtype)
            x += self.grain(x.shape[1:3], mode).astype(x.dtype) * (strength * jnp.asarray(noise, x.dtype))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return activate(x + bias, gain, self.clamp)

    def grain(self, sides, mode: Mode):
        fixed = self.variable("noise", "fixed", lambda: gaussian(self.make_rng("params"), (*sides, 1)))
        if not mode.train or mode.draws is None:
            return fixed.value
        return mode.draws.named("noise", *self.path).normal((*sides, 1), wide(fixed.value.dtype))


class ToRGB(nn.Module):
    """A 1x1 convolution to the image's channels, at least in float32, modulated by w [b, d] but not
    demodulated."""

    channels: int
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, w):
        styles = Dense(x.shape[-1], bias=1.0, name="affine")(w) / sqrt(x.shape[-1])
        kernel = self.param("kernel", gaussian, (1, 1, x.shape[-1], self.channels)).astype(x.dtype)
        y = modulated_conv(x, kernel, styles, demodulate=False)
        y += self.param("bias", nn.initializers.zeros, (self.channels,)).astype(x.dtype)
        y = y if self.clamp is None else jnp.clip(y, -self.clamp, self.clamp)
        return y.astype(wide(y.dtype))


class Mapping(nn.Module):
    """z [b, d] (None in D), labels [b] -> w [b, features]: `layers` dense layers at a hundredth of
    the learning rate. z and the label's embedding are joined, each scaled to a mean square of 1."""

    features: int
    layers: int
    classes: int = 0

    @nn.compact
    def __call__(self, z, labels, dtype=None):
        parts = [] if z is None else [unit(z)]
        if self.classes:
            hot = jax.nn.one_hot(labels, self.classes, dtype=dtype if z is None else z.dtype)
            parts.append(unit(Dense(self.features, name="embed")(hot)))
        x = jnp.concatenate(parts, -1)
        for i in range(self.layers):
            x = activate(Dense(self.features, rate=0.01, name=f"fc{i}")(x))
        return x
