"""Every convolution of the project goes through this file: one place to make them fast.

NHWC images, HWIO kernels, 'SAME' or 'VALID' padding, Glorot-uniform kernels and zero biases (Keras' defaults).

On a CPU, XLA's own convolutions are slow where a GAN works: transposed ones, input gradients of strided ones, and every
kernel gradient inside a scan. There a convolution is patches and one matrix product, whose derivatives of any order are
matrix products again; a transposed one is the same on the input, for all output phases at once. Extra memory: patches hold
(kernel / stride)^2 times the input. Elsewhere the library's convolution runs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

glorot = nn.initializers.glorot_uniform()
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """Cross-correlation: x [b, h, w, i], kernel [k, k, i, o] -> [b, ceil(h / stride), ceil(w / stride), o] for 'SAME'."""

    def library(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)

    def product(x, kernel):
        pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
        patches = _patches(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel.shape[0], stride)
        return patches @ kernel.reshape(-1, kernel.shape[-1])

    return jax.lax.platform_dependent(x, kernel, cpu=product, default=library)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """The transpose of a strided convolution: x [b, h, w, i], kernel [k, k, i, o] -> [b, h * stride, w * stride, o] for 'SAME'.

    For 'VALID' the sides are h * stride + max(k - stride, 0).
    """

    def library(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)

    def product(x, kernel):
        return _phases(x, kernel, stride, padding)

    return jax.lax.platform_dependent(x, kernel, cpu=product, default=library)


def _patches(x: jax.Array, k: int, stride: int) -> jax.Array:
    """[b, h, w, i], already padded -> [b, h', w', k * k * i]: each output pixel's window, in the kernel's order."""
    rows, columns = ((n - k) // stride + 1 for n in x.shape[1:3])
    x = jnp.concatenate([x[:, :, j : j + (columns - 1) * stride + 1 : stride] for j in range(k)], -1)
    return jnp.concatenate([x[:, i : i + (rows - 1) * stride + 1 : stride] for i in range(k)], -1)


def _phases(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    """The transposed convolution as one stride-1 convolution to stride^2 times the channels, then rearranged.

    Output pixel q * stride + r sees input pixels q + lo ... q + hi through the kernel's taps
    t = stride * (u + lo) + before - r, u being the place in the window; taps outside the kernel are zero.
    """
    k, features = kernel.shape[0], kernel.shape[-1]
    before, extra = _transpose_padding(k, stride, padding)
    phase = np.arange(stride)
    first = (phase + (before - phase) % stride - before) // stride  # each phase's first input pixel, relative to q
    count = np.array([len(range((before - r) % stride, k, stride)) for r in phase])
    lo, hi = int(first.min()), int((first + count - 1).max())
    window = hi - lo + 1
    tap = stride * (np.arange(window)[:, None] + lo) + before - phase  # [window, stride]
    select = jnp.asarray(tap[:, :, None] == np.arange(k), kernel.dtype)  # [window, stride, k], zero rows outside the kernel
    taps = jnp.einsum("urk,vsl,klio->uvirso", select, select, kernel, precision="highest")

    sides = [n * stride + extra for n in x.shape[1:3]]
    whole = [-(-side // stride) for side in sides]  # pixels q that cover the output
    pads = [(-lo, m + hi - n) for m, n in zip(whole, x.shape[1:3], strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)])
    y = _patches(x, window, 1) @ taps.reshape(-1, stride * stride * features)
    y = y.reshape(-1, *whole, stride, stride, features).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(len(x), whole[0] * stride, whole[1] * stride, features)[:, : sides[0], : sides[1]]


def _transpose_padding(k: int, stride: int, padding: str) -> tuple[int, int]:
    """(padding before the dilated input, output pixels beyond input * stride), as `jax.lax.conv_transpose` has them."""
    if padding == "SAME":
        total = k + stride - 2
        return (k - 1 if stride > k - 1 else -(-total // 2)), 0
    return k - 1, max(k - stride, 0)


class Conv(nn.Module):
    """A convolution: features, a square kernel, stride, padding, with a bias unless told otherwise."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: str = "SAME"
    use_bias: bool = True
    transpose: bool = False

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape).astype(x.dtype)
        y = (conv_transpose if self.transpose else conv)(x, kernel, self.stride, self.padding)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)


def ConvTranspose(features: int, kernel_size: int = 3, stride: int = 1, **kwargs) -> Conv:
    """A transposed convolution, with the interface of `Conv`."""
    return Conv(features, kernel_size, stride, transpose=True, **kwargs)
