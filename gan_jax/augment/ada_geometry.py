"""ADA's geometric operations: pixel blitting and warps (Karras et al., 2020b, "Limited Data",
appendix B).

Each operation is drawn as one parameter per example (`draw_blit`, `draw_geometry`), turned into a
matrix, and all of them are done by one resampling (`inverse_matrix`, then `warp`). An operation
used alone is a function of its own, with p the probability that an example is changed, in [0, 1].
Everything outside an image is its mirror image.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.augment.parts import copied, draw_lots, of_images, reflected, resampled, sometimes, wide
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws

Images = Float[Array, "b h w c"]
Matrices = Float[Array, "b 3 3"]

# Daubechies' least asymmetric ("symlet") low-pass filter of 12 taps, orthonormal: its sum is
# sqrt(2).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
ORDER = ("xflip", "rotate90", "xint", "scale", "rotate_before", "aniso", "rotate_after", "xfrac")
RIM = len(SYM6) // 4  # pixels beyond each edge that the low-pass filter reads


# ---- one operation alone -----------------------------------------------------------------------


@part("augment.ada_geometry")
@of_images
def xflip(images: Images, labels, draws: Draws, *, p) -> Images:
    """With probability p, out[y, x] = in[y, w - 1 - x] or in[y, x], by a coin (Karras et al.,
    2020b, appendix B).

    So half of the chosen ones stay as they are, as published. p: in [0, 1], without a default.
    """
    flip = draw_blit(draws, p, images.dtype)["xflip"][:, None, None, None] > 0
    return jnp.where(flip, images[:, :, ::-1], images)


@part("augment.ada_geometry")
@of_images
def rotate90(images: Images, labels, draws: Draws, *, p) -> Images:
    """With probability p, a turn of 0, 90, 180 or 270 degrees, equally likely (Karras et al.,
    2020b, appendix B).

    So a quarter of the chosen ones stay as they are, as published. p: in [0, 1], without a default.

    Raises UserError where the image is not square.
    """
    if images.shape[1] != images.shape[2]:
        raise UserError(f"rotate90 needs square images, not {images.shape[1]} x {images.shape[2]}: use ada(pipe='blit')")
    turns = draw_blit(draws, p, images.dtype)["rotate90"][:, None, None, None]
    half = jnp.where(turns >= 2, images[:, ::-1, ::-1], images)
    return jnp.where(turns % 2 == 1, jnp.rot90(half, 1, axes=(1, 2)), half)


@part("augment.ada_geometry")
@of_images
def integer_translation(images: Images, labels, draws: Draws, *, p, most=0.125) -> Images:
    """With probability p, moves the image by round(U(-most, most) * side) pixels along each side
    (Karras et al., 2020b, appendix B). p: in [0, 1], without a default. most: 1/8, the published
    code's `xint_max`.
    """
    shares = draw_blit(draws, p, images.dtype, most)["xint"]
    right, down = (jnp.round(shares[:, i] * n).astype(jnp.int32) for i, n in enumerate(_sides(images)))
    height, width = images.shape[1:3]
    rows = reflected(jnp.arange(height) - down[:, None], height)
    return copied(images, rows, reflected(jnp.arange(width) - right[:, None], width))


@part("augment.ada_geometry")
@of_images
def scale(images: Images, labels, draws: Draws, *, p, std=0.2) -> Images:
    """With probability p, scales both sides by 2^(std * N(0, 1)) (Karras et al., 2020b, appendix
    B).

    p: in [0, 1], without a default. std: .2, the published code's `scale_std`.
    """
    return _warped(images, draw_geometry(draws, p, images.dtype, scale_std=std), "scale")


@part("augment.ada_geometry")
@of_images
def rotate(images: Images, labels, draws: Draws, *, p, most=1.0) -> Images:
    """With probability p, rotates by U(-pi, pi) * most, or by the sum of two such angles (Karras et
    al., 2020b, appendix B).

    Two, as the pipeline rotates before and after its anisotropic scaling (see `draw_geometry`).
    p: in [0, 1], without a default. most: 1, all angles, the published code's `rotate_max`.
    """
    return _warped(images, draw_geometry(draws, p, images.dtype, rotate_max=most), "rotate_before", "rotate_after")


@part("augment.ada_geometry")
@of_images
def anisotropic_scale(images: Images, labels, draws: Draws, *, p, std=0.2) -> Images:
    """With probability p, scales the width by s = 2^(std * N(0, 1)) and the height by 1/s (Karras
    et al., 2020b, appendix B).

    p: in [0, 1], without a default. std: .2, the published code's `aniso_std`.
    """
    return _warped(images, draw_geometry(draws, p, images.dtype, aniso_std=std), "aniso")


@part("augment.ada_geometry")
@of_images
def fractional_translation(images: Images, labels, draws: Draws, *, p, std=0.125) -> Images:
    """With probability p, moves the image by std * N(0, 1) of each side, between pixels too (Karras
    et al., 2020b, appendix B).

    p: in [0, 1], without a default. std: 1/8, the published code's `xfrac_std`.
    """
    return _warped(images, draw_geometry(draws, p, images.dtype, xfrac_std=std), "xfrac")


def _warped(images: Images, parameters: dict[str, Array], *names: str) -> Images:
    return warp(images, inverse_matrix({name: parameters[name] for name in names}, _sides(images)))


def _sides(images) -> tuple[int, int]:
    return images.shape[2], images.shape[1]


# ---- parameters --------------------------------------------------------------------------------


def draw_blit(draws: Draws, p, dtype, xint_max=0.125) -> dict[str, Array]:
    """{"xflip": 0 or 1, "rotate90": 0 to 3, "xint": shares of (width, height)}, one per example."""
    lots = draw_lots(draws, 3)
    u = draws.named("uniform").uniform((4,), wide(dtype))
    return {
        "xflip": sometimes(lots[0], p, jnp.floor(2 * u[:, 0]), 0),
        "rotate90": sometimes(lots[1], p, jnp.floor(4 * u[:, 1]), 0),
        "xint": sometimes(lots[2], p, xint_max * (2 * u[:, 2:] - 1), 0),
    }


def draw_geometry(draws: Draws, p, dtype, scale_std=0.2, rotate_max=1.0, aniso_std=0.2, xfrac_std=0.125) -> dict[str, Array]:
    """{"scale", "rotate_before", "aniso", "rotate_after", "xfrac"}, one per example.

    The two rotations, before and after the anisotropic scaling, have probability 1 - sqrt(1 - p)
    each, so that one at least happens with probability p.
    """
    lots = draw_lots(draws, 5)
    z = draws.named("normal").normal((4,), wide(dtype))
    angles = rotate_max * np.pi * draws.named("uniform").uniform((2,), wide(dtype), -1.0, 1.0)
    once = 1 - jnp.sqrt(1 - jnp.clip(p, 0, 1))
    return {
        "scale": sometimes(lots[0], p, jnp.exp2(scale_std * z[:, 0]), 1),
        "rotate_before": sometimes(lots[1], once, angles[:, 0], 0),
        "aniso": sometimes(lots[2], p, jnp.exp2(aniso_std * z[:, 1]), 1),
        "rotate_after": sometimes(lots[3], once, angles[:, 1], 0),
        "xfrac": sometimes(lots[4], p, xfrac_std * z[:, 2:], 0),
    }


# ---- matrices ----------------------------------------------------------------------------------


def inverse_matrix(parameters: dict[str, Array], sides: tuple[int, int]) -> Matrices:
    """The map from output to input, both in pixels from the image's centre (x right, y down);
    sides: (width, height)."""
    width, height = sides
    whole = jnp.eye(3)
    for name in filter(parameters.__contains__, ORDER):  # the dictionary's own order is lost under jit
        value = parameters[name]
        match name:
            case "xflip":
                step = _scaling(1 - 2 * value, jnp.ones_like(value))
            case "rotate90":
                step = _rotation(value * (np.pi / 2))
            case "xint":
                step = _translation(-jnp.round(value[:, 0] * width), -jnp.round(value[:, 1] * height))
            case "scale":
                step = _scaling(1 / value, 1 / value)
            case "aniso":
                step = _scaling(1 / value, value)
            case "xfrac":
                step = _translation(-value[:, 0] * width, -value[:, 1] * height)
            case _:
                step = _rotation(value)
        whole = jnp.matmul(whole, step, precision="highest")
    return whole


def _matrix(a, b, c, d, e, f) -> Matrices:
    zero, one = jnp.zeros_like(a), jnp.ones_like(a)
    return jnp.stack([a, b, c, d, e, f, zero, zero, one], -1).reshape(-1, 3, 3)


def _scaling(x, y) -> Matrices:
    zero = jnp.zeros_like(x)
    return _matrix(x, zero, zero, zero, y, zero)


def _translation(x, y) -> Matrices:
    zero, one = jnp.zeros_like(x), jnp.ones_like(x)
    return _matrix(one, zero, x, zero, one, y)


def _rotation(angle) -> Matrices:
    c, s, zero = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle)
    return _matrix(c, -s, zero, s, c, zero)


# ---- resampling --------------------------------------------------------------------------------


def warp(images: Images, inverse: Matrices) -> Images:
    """Each image under its own affine map: twice the resolution by sym6, bilinear sampling, half of
    it by sym6 again.

    The published code mirrors as many pixels at the edges as the batch's widest map asks for, at
    most a side's length less one, beyond which it has zeros. Here the shape must not depend on the
    draws; the mirrored image is periodic, so one period, 2 (side - 1) pixels, holds all of it and
    no map leaves it. It takes 16 times the images' memory.
    """
    height, width = images.shape[1:3]
    constant = lambda matrix: jnp.asarray(matrix, images.dtype)
    fine = resampled(images, constant(_doubling(height)), constant(_doubling(width)))
    fine = jax.vmap(_bilinear)(fine, *_positions(inverse, height, width))
    return resampled(fine, constant(_halving(height)), constant(_halving(width)))


def _positions(inverse: Matrices, height: int, width: int) -> tuple[Array, Array]:
    """Rows and columns [b, i, j] of the doubled image that the doubled output, with its rim, is
    read from."""
    y, x = (jnp.arange(2 * (n + 2 * RIM), dtype=inverse.dtype) / 2 - RIM - (n - 1) / 2 for n in (height, width))
    entry = lambda i, j: inverse[:, i, j, None, None]
    across, down = (entry(i, 0) * x + entry(i, 1) * y[:, None] + entry(i, 2) for i in (0, 1))
    return 2 * (down + (height - 1) / 2), 2 * (across + (width - 1) / 2)


def _bilinear(image: Float[Array, "h w c"], rows, columns) -> Float[Array, "i j c"]:
    """Of a periodic image. Each position reads a window of 2 x 2 at once: the derivative is then
    one loop, not four."""
    above, left = jnp.floor(rows), jnp.floor(columns)
    down, right = ((x - whole).astype(image.dtype)[..., None] for x, whole in ((rows, above), (columns, left)))
    corner = [whole.astype(jnp.int32) % n for whole, n in zip((above, left), image.shape, strict=False)]
    image = jnp.pad(image, ((0, 1), (0, 1), (0, 0)), mode="wrap")
    numbers = jax.lax.GatherDimensionNumbers(offset_dims=(2, 3, 4), collapsed_slice_dims=(), start_index_map=(0, 1))
    window = (2, 2, image.shape[2])
    seen = jax.lax.gather(image, jnp.stack(corner, -1), numbers, window, mode="promise_in_bounds")
    seen = seen[..., 0, :] * (1 - right[..., None, :]) + seen[..., 1, :] * right[..., None, :]
    return seen[..., 0, :] * (1 - down) + seen[..., 1, :] * down


@cache
def _doubling(n: int) -> np.ndarray:
    """[2 period, n]: one period of the mirrored signal at twice the resolution; sample 2 i lies on
    pixel i."""
    taps, period = np.asarray(SYM6), 2 * n - 2
    matrix = np.zeros((2 * period, n))
    for m in range(2 * period):
        for k in range((m + 1) % 2, len(taps), 2):  # tap k reads pixel (m + 5 - k) / 2
            matrix[m, reflected((m + len(taps) // 2 - 1 - k) // 2, n)] += np.sqrt(2) * taps[k]
    return matrix


@cache
def _halving(n: int) -> np.ndarray:
    """[n, 2 (n + 2 RIM)]: the doubling's transpose, halved."""
    taps = np.asarray(SYM6) / np.sqrt(2)
    matrix = np.zeros((n, 2 * (n + 2 * RIM)))
    for i in range(n):
        matrix[i, 2 * i + 1 : 2 * i + 1 + len(taps)] = taps
    return matrix
