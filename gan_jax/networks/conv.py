"""All convolutions of the project, in one file so that they are made fast in one place.

Images are NHWC, kernels HWIO, padding 'SAME' or 'VALID'. Kernels start Glorot-uniform and biases at
zero, Keras' defaults.

A strided convolution, its transpose and its kernel gradient form a bilinear triple: the derivatives
of each are the other two. First, second and mixed derivatives, forward or reverse, therefore use
these three functions alone, each of which has a fast form (XLA's derivatives are slow on a CPU).
`_down` is the convolution, `_up` its transpose, `_weigh` its kernel gradient.

The form of each function depends on the backend, and on whether the kernel is batched:

    one kernel, CPU       native forward convolution, or patches @ kernel for few input channels;
                          the transpose as one exact product per input pixel, summed where windows
                          overlap (with stride 1, as a convolution); the kernel gradient as a native
                          convolution with channels as its batch
    one kernel, others    the library's convolution for all three
    many kernels, CPU     the same forms, one member after the other, so that a population's working
                          set stays in the cache
    many kernels, others  batched matrix products of patches, not a grouped convolution; chosen for
                          what is known of GPUs, not yet measured on one

A vmap over examples alone is folded into the batch. A form needs at most 1 + 2 (k / stride)^2 times
the memory of the larger image, for one member at a time on a CPU, and for all members elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gan_jax.networks.initializers import glorot

NHWC = ("NHWC", "HWIO", "NHWC")
FEW = 8  # with fewer input channels, patches beat a CPU's native convolution (on vectors of channels)


class Geometry(NamedTuple):
    """A strided convolution from sides `large` to sides `small`. large pixel = stride * small pixel
    + tap - before"""

    k: int
    stride: int
    before: tuple[int, ...]
    large: tuple[int, ...]
    small: tuple[int, ...]

    @property
    def pads(self) -> list[tuple[int, int]]:
        """Pixels added before and after each side of the large image (cropped where negative)."""
        sides = zip(self.before, self.large, self.small, strict=True)
        return [(lo, self.stride * (small - 1) + self.k - lo - large) for lo, large, small in sides]


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """Cross-correlation of x [b, h, w, i] with kernel [k, k, i, o]. For 'SAME' the result is [b,
    ceil(h / stride), ceil(w / stride), o]."""
    k, large = kernel.shape[0], x.shape[1:3]
    pads = jax.lax.padtype_to_pads(large, (k, k), (stride, stride), padding)
    small = tuple((n + sum(pad) - k) // stride + 1 for n, pad in zip(large, pads, strict=True))
    geometry = Geometry(k, stride, tuple(int(pad[0]) for pad in pads), large, small)
    return _down.bind(*_same_dtype(x, kernel), geometry=geometry)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """The transpose of a strided convolution: x [b, h, w, i], kernel [k, k, i, o].

    The result has sides h * stride for 'SAME', and h * stride + max(k - stride, 0) for 'VALID'. The
    kernel has the layout of `jax.lax.conv_transpose`.
    """
    k, small = kernel.shape[0], x.shape[1:3]
    before, extra = _transpose_padding(k, stride, padding)
    large = tuple(n * stride + extra for n in small)
    geometry = Geometry(k, stride, (k - 1 - before,) * 2, large, small)
    return _up.bind(*_same_dtype(x, kernel[::-1, ::-1].swapaxes(2, 3)), geometry=geometry)


def _transpose_padding(k: int, stride: int, padding: str) -> tuple[int, int]:
    """(padding before the dilated input, output pixels beyond input * stride). Both are those of
    `jax.lax.conv_transpose`."""
    if padding == "SAME":
        total = k + stride - 2
        return (k - 1 if stride > k - 1 else -(-total // 2)), 0
    return k - 1, max(k - stride, 0)


def _same_dtype(x, kernel):
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(dtype), kernel.astype(dtype)


# ---- for one kernel: large image [b, H, W, i], small image [b, h, w, o], kernel [k, k, i, o] ----


def _patches(x: jax.Array, g: Geometry) -> jax.Array:
    """[b, H, W, i] -> [b, h, w, k * k * i]: each small pixel's window, in the kernel's order."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in g.pads), (0, 0, 0)])
    rows, columns = (g.stride * (n - 1) + 1 for n in g.small)
    x = jnp.concatenate([x[:, :, j : j + columns : g.stride] for j in range(g.k)], -1)
    return jnp.concatenate([x[:, i : i + rows : g.stride] for i in range(g.k)], -1)


def _down_product(x, kernel, *, geometry: Geometry):
    return _patches(x, geometry) @ kernel.reshape(-1, kernel.shape[-1])


def _down_native(x, kernel, *, geometry: Geometry):
    g = geometry
    return jax.lax.conv_general_dilated(x, kernel, (g.stride, g.stride), g.pads, dimension_numbers=NHWC)


def _down_cpu(x, kernel, *, geometry: Geometry):
    return (_down_native if x.shape[-1] >= FEW and _roomy(geometry) else _down_product)(x, kernel, geometry=geometry)


def _roomy(g: Geometry) -> bool:
    """Whether the kernel fits the image well: otherwise XLA's convolution is 20 times slower."""
    return min(g.large) >= g.k + 2


def _up_product(y, kernel, *, geometry: Geometry):
    """Each small pixel's contribution to its window, by one product; windows are summed where they
    overlap."""
    g, (k, _, features, _) = geometry, kernel.shape
    windows = y @ kernel.reshape(-1, kernel.shape[-1]).T
    windows = windows.reshape(*y.shape[:3], k, k, features)
    return _overlap(_overlap(windows, 2, 4, g), 1, 3, g)


def _overlap(windows, axis: int, taps: int, g: Geometry):
    """Sum along one side: small pixels lie on `axis` and their taps on `taps`; large pixels replace
    both.

    Large pixel stride * m + r gets, from small pixel m + shift, the tap r + before - stride *
    shift.
    """
    before, large, small = g.before[axis - 1], g.large[axis - 1], g.small[axis - 1]
    whole, zero = -(-large // g.stride), jnp.zeros((), windows.dtype)
    phases = []
    for r in range(g.stride):
        shape = list(windows.shape[:taps] + windows.shape[taps + 1 :])
        shape[axis] = whole
        total = jnp.zeros(shape, windows.dtype)
        for tap in range((r + before) % g.stride, g.k, g.stride):
            shift, pads = (r + before - tap) // g.stride, [(0, 0, 0)] * len(shape)
            pads[axis] = (-shift, whole - small + shift, 0)
            total += jax.lax.pad(jax.lax.index_in_dim(windows, tap, taps, keepdims=False), zero, pads)
        phases.append(total)
    x = jnp.stack(phases, axis + 1)
    x = x.reshape(*x.shape[:axis], whole * g.stride, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, large, axis=axis)


def _up_native(y, kernel, *, geometry: Geometry):
    g, flipped = geometry, kernel[::-1, ::-1].swapaxes(2, 3)
    sides = zip(g.before, g.large, g.small, strict=True)
    pads = [(g.k - 1 - lo, large + lo - g.stride * (small - 1) - 1) for lo, large, small in sides]
    stride = (g.stride, g.stride)
    return jax.lax.conv_general_dilated(y, flipped, (1, 1), pads, lhs_dilation=stride, dimension_numbers=NHWC)


def _up_patches(y, kernel, *, geometry: Geometry):
    """With stride 1: a convolution with the flipped kernel, by patches, which are small for few
    channels of y."""
    g = geometry
    before = tuple(g.k - 1 - lo for lo in g.before)
    turned = Geometry(g.k, 1, before, large=g.small, small=g.large)
    return _down_product(y, kernel[::-1, ::-1].swapaxes(2, 3), geometry=turned)


def _up_cpu(y, kernel, *, geometry: Geometry):
    if geometry.stride == 1 and y.shape[-1] < FEW <= kernel.shape[2]:
        return _up_patches(y, kernel, geometry=geometry)
    undilated = geometry.stride == 1 and y.shape[-1] >= FEW and kernel.shape[2] >= FEW
    return (_up_native if undilated and _roomy(geometry) else _up_product)(y, kernel, geometry=geometry)


def _weigh_product(x, y, *, geometry: Geometry):
    patches, y = _patches(x, geometry).reshape(-1, geometry.k**2 * x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jnp.moveaxis((y.T @ patches).reshape(-1, geometry.k, geometry.k, x.shape[-1]), 0, -1)


def _weigh_turned(x, y, *, geometry: Geometry):
    """The native convolution with channels as the batch, transposed by hand. In a scan XLA is 400
    times slower if it has to transpose."""
    g = geometry
    x, y = jax.lax.optimization_barrier((x, y))  # or XLA recomputes them in the wrong order
    turned = x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3)
    kernel = jax.lax.conv_general_dilated(*turned, (1, 1), g.pads, rhs_dilation=(g.stride,) * 2, dimension_numbers=NHWC)
    return kernel.transpose(1, 2, 0, 3)


def _weigh_native(x, y, *, geometry: Geometry):
    g, numbers = geometry, ("CHWN", "IHWO", "HWNC")
    return jax.lax.conv_general_dilated(x, y, (1, 1), g.pads, rhs_dilation=(g.stride,) * 2, dimension_numbers=numbers)


# ---- their registration with JAX ---------------------------------------------------------------


def _bilinear(name: str, shape, cpu, library, product) -> Primitive:
    """A primitive that is linear in each of its two arrays.

    shape: of its output; cpu, library, product: its forms
    """
    primitive = Primitive(name)
    compiled = jax.jit(primitive.bind, static_argnames="geometry")

    def alone(*arrays, geometry):
        with jax.disable_jit(False):  # else the program would call itself without end
            return compiled(*arrays, geometry=geometry)

    primitive.def_impl(alone)
    primitive.def_abstract_eval(lambda a, b, *, geometry: ShapedArray(shape(a, b, geometry), a.dtype))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    mlir.register_lowering(primitive, mlir.lower_fun(library, multiple_results=False))

    def batched(arrays, dims, *, geometry):
        size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
        arrays = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(arrays, dims, strict=True)]
        has = [d is not None for d in dims]
        if primitive is not _weigh and not has[1]:  # examples, not kernels: one larger batch
            x, kernel = arrays
            out = primitive.bind(x.reshape(-1, *x.shape[2:]), kernel, geometry=geometry)
            return out.reshape(size, -1, *out.shape[1:]), 0
        return jax.lax.platform_dependent(
            *arrays, cpu=partial(in_turn, has, geometry), default=partial(at_once, has, geometry)
        ), 0

    def in_turn(has, geometry, *arrays):
        moving = tuple(a for a, h in zip(arrays, has, strict=True) if h)

        def one(member):
            member = iter(member)
            return primitive.bind(*(next(member) if h else a for a, h in zip(arrays, has, strict=True)), geometry=geometry)

        return jax.lax.map(one, moving)

    def at_once(has, geometry, *arrays):
        return jax.vmap(partial(product, geometry=geometry), [0 if h else None for h in has])(*arrays)

    batching.primitive_batchers[primitive] = batched
    return primitive


_down = _bilinear("gan_jax_conv", lambda x, w, g: (x.shape[0], *g.small, w.shape[3]), _down_cpu, _down_native, _down_product)
_up = _bilinear("gan_jax_conv_transpose", lambda y, w, g: (y.shape[0], *g.large, w.shape[2]), _up_cpu, _up_native, _up_product)
_weigh = _bilinear(
    "gan_jax_conv_kernel", lambda x, y, g: (g.k, g.k, x.shape[3], y.shape[3]), _weigh_turned, _weigh_native, _weigh_product
)

# <y, down(x, w)> = <up(y, w), x> = <weigh(x, y), w>
ad.defbilinear(
    _down,
    lambda y, x, w, *, geometry: _up.bind(y, w, geometry=geometry),
    lambda y, x, w, *, geometry: _weigh.bind(x, y, geometry=geometry),
)
ad.defbilinear(
    _up,
    lambda x, y, w, *, geometry: _down.bind(x, w, geometry=geometry),
    lambda x, y, w, *, geometry: _weigh.bind(x, y, geometry=geometry),
)
ad.defbilinear(
    _weigh,
    lambda w, x, y, *, geometry: _up.bind(y, w, geometry=geometry),
    lambda w, x, y, *, geometry: _down.bind(x, w, geometry=geometry),
)


class Conv(nn.Module):
    """A convolution with a square kernel, and a bias unless told otherwise."""

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
