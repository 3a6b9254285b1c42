"""All convolutions of the project. Images are NHWC, kernels HWIO, padding 'SAME' or 'VALID'.

A strided convolution (`_down`), its transpose (`_up`) and its kernel gradient (`_weigh`) form a
bilinear triple: the derivatives of each are the other two. Derivatives of every order, forward or
reverse, therefore use these three functions alone. Each has fast forms, because XLA's derivatives
are slow on a CPU. The form depends on the backend, and on whether the kernel is batched:

    one kernel, CPU       a native convolution, or patches @ kernel for few input channels; the
                          transpose as one exact product per input pixel, summed where windows
                          overlap (with stride 1, as a convolution); the kernel gradient as a native
                          convolution with channels as its batch
    one kernel, others    XLA's convolution for all three
    many kernels, CPU     the same forms, one member after the other, so that a population's working
                          set stays in the cache
    many kernels, others  batched matrix products of patches, not a grouped convolution; chosen for
                          what is known of GPUs, not yet measured on one

A vmap over examples alone is folded into the batch. A form needs at most 1 + 2 (k / stride)^2 times
the memory of the larger image, for one member at a time on a CPU, and for all members elsewhere.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gan_jax.networks.initializers import glorot

NHWC = ("NHWC", "HWIO", "NHWC")
FEW = 8  # with fewer input channels, patches beat a CPU's native convolution (on vectors of channels)


class Geometry(NamedTuple):
    """A convolution from `large` to `small`: large pixel = stride * small pixel + tap - before"""

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
    """Cross-correlation of x [b, h, w, i] with kernel [k, k, i, o]. The result for 'SAME' is [b,
    ceil(h / stride), ceil(w / stride), o]."""
    k, large = kernel.shape[0], x.shape[1:3]
    pads = jax.lax.padtype_to_pads(large, (k, k), (stride, stride), padding)
    small = tuple((n + sum(pad) - k) // stride + 1 for n, pad in zip(large, pads, strict=True))
    geometry = Geometry(k, stride, tuple(int(pad[0]) for pad in pads), large, small)
    return _down.bind(*promote_dtype(x, kernel), geometry=geometry)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """The transpose of a strided convolution: x [b, h, w, i], kernel [k, k, i, o].

    Padding and the kernel's layout are those of `jax.lax.conv_transpose`. The result has sides
    h * stride for 'SAME', and h * stride + max(k - stride, 0) for 'VALID'."""
    k, small = kernel.shape[0], x.shape[1:3]
    before, extra = k - 1, max(k - stride, 0)  # padding before the dilated input; pixels beyond input * stride
    if padding == "SAME":
        before, extra = min(k - 1, -(-(k + stride - 2) // 2)), 0
    large = tuple(n * stride + extra for n in small)
    geometry = Geometry(k, stride, (k - 1 - before,) * 2, large, small)
    return _up.bind(*promote_dtype(x, kernel[::-1, ::-1].swapaxes(2, 3)), geometry=geometry)


def grouped_conv(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """A 'SAME' convolution in which a group of outputs sees its group of inputs alone. kernel: [k,
    k, i / groups, o]

    It is `conv`, batched over the groups. On a CPU the derivatives of XLA's grouped convolution are
    30 to 1,000 times slower. A dense kernel with zeros is slower by the number of groups, and
    products of patches up to 10 times, except at 4 x 4 pixels or with few channels."""
    k, _, inputs, outputs = kernel.shape
    x = x.reshape(*x.shape[:3], groups, inputs)
    y = jax.vmap(conv, (3, 3), 3)(x, kernel.reshape(k, k, inputs, groups, outputs // groups))
    return y.reshape(*y.shape[:3], outputs)


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
    """Each small pixel times the kernel in one product, summed where windows overlap."""
    g, (k, _, features, _) = geometry, kernel.shape
    windows = y @ kernel.reshape(-1, kernel.shape[-1]).T
    windows = windows.reshape(*y.shape[:3], k, k, features)
    return _overlap(_overlap(windows, 2, 4, g), 1, 3, g)


def _overlap(windows, axis: int, taps: int, g: Geometry):
    """The sum along one side, from small pixels on `axis` and their taps on `taps` to large pixels.

    Large pixel stride * m + r gets the tap r + before - stride * shift of small pixel m + shift."""
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


def _up_cpu(y, kernel, *, geometry: Geometry):
    g = geometry
    if g.stride > 1 or kernel.shape[2] < FEW:
        return _up_product(y, kernel, geometry=g)
    if y.shape[-1] < FEW:  # the convolution with the flipped kernel, by patches, which are small
        turned = Geometry(g.k, 1, tuple(g.k - 1 - lo for lo in g.before), large=g.small, small=g.large)
        return _down_product(y, kernel[::-1, ::-1].swapaxes(2, 3), geometry=turned)
    return (_up_native if _roomy(g) else _up_product)(y, kernel, geometry=g)


def _weigh_product(x, y, *, geometry: Geometry):
    patches, y = _patches(x, geometry).reshape(-1, geometry.k**2 * x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jnp.moveaxis((y.T @ patches).reshape(-1, geometry.k, geometry.k, x.shape[-1]), 0, -1)


def _weigh_turned(x, y, *, geometry: Geometry):
    """`_weigh_native` with the transposes by hand: in a scan XLA's own are 400 times slower."""
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
    """A primitive that is linear in each of its two arrays, with an output of this shape."""
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
        arrays = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(arrays, dims, strict=True)]
        axes = [None if d is None else 0 for d in dims]
        if primitive is not _weigh and axes[1] is None:  # examples, not kernels: one larger batch
            x, kernel = arrays
            out = primitive.bind(x.reshape(-1, *x.shape[2:]), kernel, geometry=geometry)
            return out.reshape(len(x), -1, *out.shape[1:]), 0

        def in_turn(*arrays):
            of_members = {i: a for i, a in enumerate(arrays) if axes[i] == 0}
            one = lambda member: primitive.bind(*(member.get(i, a) for i, a in enumerate(arrays)), geometry=geometry)
            return jax.lax.map(one, of_members)

        at_once = jax.vmap(partial(product, geometry=geometry), axes)
        return jax.lax.platform_dependent(*arrays, cpu=in_turn, default=at_once), 0

    batching.primitive_batchers[primitive] = batched
    return primitive


_down = _bilinear("gan_jax_conv", lambda x, w, g: (x.shape[0], *g.small, w.shape[3]), _down_cpu, _down_native, _down_product)
_up = _bilinear("gan_jax_conv_transpose", lambda y, w, g: (y.shape[0], *g.large, w.shape[2]), _up_cpu, _up_native, _up_product)
_weigh = _bilinear(
    "gan_jax_conv_kernel", lambda x, y, g: (g.k, g.k, x.shape[3], y.shape[3]), _weigh_turned, _weigh_native, _weigh_product
)

# <y, down(x, w)> = <up(y, w), x> = <weigh(x, y), w>
ad.defbilinear(_down, lambda y, x, w, **g: _up.bind(y, w, **g), lambda y, x, w, **g: _weigh.bind(x, y, **g))
ad.defbilinear(_up, lambda x, y, w, **g: _down.bind(x, w, **g), lambda x, y, w, **g: _weigh.bind(x, y, **g))
ad.defbilinear(_weigh, lambda w, x, y, **g: _up.bind(y, w, **g), lambda w, x, y, **g: _down.bind(x, w, **g))


class Conv(nn.Module):
    """A convolution with a square kernel, or its transpose. Biases start at zero. groups: None for
    one dense kernel"""

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = True
    transpose: bool = False
    groups: int | None = None
    kernel_init: Any = glorot

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // (self.groups or 1), self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        if self.groups:
            y = grouped_conv(x, kernel, self.groups)
        else:
            y = (conv_transpose if self.transpose else conv)(x, kernel, self.stride)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)


ConvTranspose = partial(Conv, transpose=True)
