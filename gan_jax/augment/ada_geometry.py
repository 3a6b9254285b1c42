"""ADA's geometric operations: pixel blitting and warps (Karras et al., 2020b, "Limited Data",
appendix B).

`draw_blit` and `draw_geometry` draw one parameter per example for each operation, `inverse_matrix`
makes one matrix of them, and `warp` applies it in one resampling. Each operation also has its own
function of p, the probability in [0, 1] that an example changes. The edges are mirrored.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.augment.parts import Images, copied, draw_lots, image_part, reflected, resampled, sometimes, wide
from gan_jax.core.errors import UserError
from gan_jax.core.rng import Draws

Matrices = Float[Array, "b 3 3"]

# Daubechies' least asymmetric ("symlet") low-pass filter, orthonormal: its sum is sqrt(2).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
ORDER = ("xflip", "rotate90", "xint", "scale", "rotate_before", "aniso", "rotate_after", "xfrac")
RIM = len(SYM6) // 4  # pixels beyond each edge that the low-pass filter reads


# ---- one operation alone -----------------------------------------------------------------------


@image_part("augment.ada_geometry")
def xflip(images: Images, labels, draws: Draws, *, p) -> Images:
    """With probability p, a coin decides between out[y, x] = in[y, w - 1 - x] and in[y, x] (Karras
    et al., 2020b). Half of the chosen examples therefore stay as they are, as published."""
    flip = draw_blit(draws, p, images.dtype)["xflip"][:, None, None, None] > 0
    return jnp.where(flip, images[:, :, ::-1], images)


@image_part("augment.ada_geometry")
def rotate90(images: Images, labels, draws: Draws, *, p) -> Images:
    """With probability p, a turn of 0, 90, 180 or 270 degrees, all equally likely (Karras et al.,
    2020b). A quarter of the chosen examples therefore stay as they are, as published.

    Raises UserError where the image is not square."""
    if images.shape[1] != images.shape[2]:
        raise UserError(f"rotate90 needs square images, not {images.shape[1]} x {images.shape[2]}: use ada(pipe='blit')")
    turns = draw_blit(draws, p, images.dtype)["rotate90"][:, None, None, None]
    half = jnp.where(turns >= 2, images[:, ::-1, ::-1], images)
    return jnp.where(turns % 2 == 1, jnp.rot90(half, 1, axes=(1, 2)), half)


@image_part("augment.ada_geometry")
def integer_translation(images: Images, labels, draws: Draws, *, p, most=0.125) -> Images:
    """With probability p, shifts the image by round(U(-most, most) * side) pixels along each side
    (Karras et al., 2020b).

    most: 1/8, the published code's `xint_max`."""
    shares = draw_blit(draws, p, images.dtype, most)["xint"]
    right, down = (jnp.round(shares[:, i] * n).astype(jnp.int32) for i, n in enumerate(_sides(images)))
    height, width = images.shape[1:3]
    rows = reflected(jnp.arange(height) - down[:, None], height)
    return copied(images, rows, reflected(jnp.arange(width) - right[:, None], width))


@image_part("augment.ada_geometry")
def scale(images: Images, labels, draws: Draws, *, p, std=0.2) -> Images:
    """With probability p, scales both sides by 2^(std * N(0, 1)) (Karras et al., 2020b).

    std: .2, the published code's `scale_std`."""
    return _warped(images, draw_geometry(draws, p, images.dtype, scale_std=std), "scale")


@image_part("augment.ada_geometry")
def rotate(images: Images, labels, draws: Draws, *, p, most=1.0) -> Images:
    """With probability p, rotates by U(-pi, pi) * most, or by the sum of two such angles, because
    the pipeline rotates before and after its anisotropic scaling (Karras et al., 2020b).

    most: 1, all angles, the published code's `rotate_max`."""
    return _warped(images, draw_geometry(draws, p, images.dtype, rotate_max=most), "rotate_before", "rotate_after")


@image_part("augment.ada_geometry")
def anisotropic_scale(images: Images, labels, draws: Draws, *, p, std=0.2) -> Images:
    """With probability p, scales the width by s = 2^(std * N(0, 1)) and the height by 1/s (Karras
    et al., 2020b). std: .2, the published code's `aniso_std`"""
    return _warped(images, draw_geometry(draws, p, images.dtype, aniso_std=std), "aniso")


@image_part("augment.ada_geometry")
def fractional_translation(images: Images, labels, draws: Draws, *, p, std=0.125) -> Images:
    """With probability p, shifts the image by std * N(0, 1) of each side, between pixels too
    (Karras et al., 2020b). std: 1/8, the published code's `xfrac_std`"""
    return _warped(images, draw_geometry(draws, p, images.dtype, xfrac_std=std), "xfrac")


def _warped(images: Images, parameters: dict[str, Array], *names: str) -> Images:
    return warp(images, inverse_matrix({name: parameters[name] for name in names}, _sides(images)))


def _sides(images) -> tuple[int, int]:
    return images.shape[2], images.shape[1]


# ---- the pipeline ------------------------------------------------------------------------------


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
    """{"scale", "rotate_before", "aniso", "rotate_after", "xfrac"}, one per example. Each rotation
    has probability 1 - sqrt(1 - p), so that at least one happens with probability p."""
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


def inverse_matrix(parameters: dict[str, Array], sides: tuple[int, int]) -> Matrices:
    """The map from output to input, both in pixels from the image's centre (x right, y down).
    sides: (width, height)"""
    width, height = sides
    whole = jnp.eye(3)
    for name in filter(parameters.__contains__, ORDER):  # the dictionary's own order is lost under jit
        value = parameters[name]
        match name:
            case "xflip":
                step = _matrix(1 - 2 * value, 0, 0, 0, 1, 0)
            case "rotate90":
                step = _rotation(value * (np.pi / 2))
            case "xint":
                step = _matrix(1, 0, -jnp.round(value[:, 0] * width), 0, 1, -jnp.round(value[:, 1] * height))
            case "scale":
                step = _matrix(1 / value, 0, 0, 0, 1 / value, 0)
            case "aniso":
                step = _matrix(1 / value, 0, 0, 0, value, 0)
            case "xfrac":
                step = _matrix(1, 0, -value[:, 0] * width, 0, 1, -value[:, 1] * height)
            case _:
                step = _rotation(value)
        whole = jnp.matmul(whole, step, precision="highest")
    return whole


def _matrix(*entries) -> Matrices:
    """From the first two rows, each entry an array [b] or a number."""
    return jnp.stack(jnp.broadcast_arrays(*entries, 0, 0, 1), -1).reshape(-1, 3, 3)


def _rotation(angle) -> Matrices:
    c, s = jnp.cos(angle), jnp.sin(angle)
    return _matrix(c, -s, 0, s, c, 0)


# ---- resampling --------------------------------------------------------------------------------


def warp(images: Images, inverse: Matrices) -> Images:
    """Each image under its own affine map: doubled by sym6, sampled bilinearly, halved by sym6.

    The published code mirrors as many pixels at the edges as the batch's widest map needs, at most
    a side's length less one, beyond which it has zeros. Here the shape must not depend on the
    draws. The mirrored image is periodic, and one period, 2 (side - 1) pixels, serves every map. It
    takes 16 times the images' memory."""
    height, width = images.shape[1:3]
    constant = lambda matrix: jnp.asarray(matrix, images.dtype)
    fine = resampled(images, constant(_doubling(height)), constant(_doubling(width)))
    fine = jax.vmap(_bilinear)(fine, *_positions(inverse, height, width))
    return resampled(fine, constant(_halving(height)), constant(_halving(width)))


def _positions(inverse: Matrices, height: int, width: int) -> tuple[Array, Array]:
    """Rows and columns [b, i, j] of the doubled image, for each pixel of the doubled output and its
    rim."""
    y, x = (jnp.arange(2 * (n + 2 * RIM), dtype=inverse.dtype) / 2 - RIM - (n - 1) / 2 for n in (height, width))
    entry = lambda i, j: inverse[:, i, j, None, None]
    across, down = (entry(i, 0) * x + entry(i, 1) * y[:, None] + entry(i, 2) for i in (0, 1))
    return 2 * (down + (height - 1) / 2), 2 * (across + (width - 1) / 2)


def _bilinear(image: Float[Array, "h w c"], rows, columns) -> Float[Array, "i j c"]:
    """Bilinear samples of a periodic image. Each reads 2 x 2 pixels at once, so that the derivative
    is one loop and not four."""
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
    """[2 period, n]: a period of the mirrored signal, doubled; sample 2 i is at pixel i."""
    taps, period = np.asarray(SYM6), 2 * n - 2
    matrix = np.zeros((2 * period, n))
    for m in range(2 * period):
        for k in range((m + 1) % 2, len(taps), 2):  # tap k reads pixel (m + 5 - k) / 2
            matrix[m, reflected((m + len(taps) // 2 - 1 - k) // 2, n)] += np.sqrt(2) * taps[k]
    return matrix


@cache
def _halving(n: int) -> np.ndarray:
    """[n, 2 (n + 2 RIM)]: the transpose of the doubling, halved."""
    taps = np.asarray(SYM6) / np.sqrt(2)
    matrix = np.zeros((n, 2 * (n + 2 * RIM)))
    for i in range(n):
        matrix[i, 2 * i + 1 : 2 * i + 1 + len(taps)] = taps
    return matrix
