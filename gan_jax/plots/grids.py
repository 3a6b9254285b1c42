"""Grids of images and scatter plots of points."""

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.plots import figures
from gan_jax.plots.figures import BLUE
from gan_jax.plots.parts import GREY

SMALLEST_TILE = 32  # pixels: an 8x8 digit is not a picture until it is enlarged


def to_uint8(images: ArrayLike) -> np.ndarray:
    """Images of any floating dtype and shape, -1 for black and 1 for white, as uint8: rounded,
    clipped, NaN as black. Raises UserError for a dtype that is not floating."""
    images = np.asarray(images)
    if images.dtype.kind not in "fV":  # V is the kind of bfloat16
        raise UserError(f"images in [-1, 1] have a floating dtype, not {images.dtype}; scale them first")
    values = np.clip(np.nan_to_num(images.astype(np.float32), nan=-1.0), -1, 1)
    return np.rint((values + 1) * 127.5).astype(np.uint8)


def sample_grid(images: np.ndarray, columns: int | None = None, pad: int = 1, scale: int | None = None) -> np.ndarray:
    """Images row by row in one picture uint8 [H, W, 3], white between, around and where the last
    row runs out.

    images: uint8 [n, h, w, c], n >= 1, c 1 (grey) or 3 (RGB).
    columns: tiles in a row; by default about as many as rows.
    pad: white pixels between tiles and around them. Tile i starts at row
        pad + (i // columns) * (h * scale + pad), and likewise at the column of i % columns and w.
    scale: each pixel becomes scale x scale; by default a tile is at least 32 pixels high and wide.

    Raises UserError for another dtype or shape, no image, columns or scale below 1, or pad below 0.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise UserError(f"a grid wants uint8 images [n, h, w, 1 or 3], not {images.dtype} {list(images.shape)}")
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    scale = math.ceil(SMALLEST_TILE / min(height, width)) if scale is None else scale
    if columns < 1 or scale < 1 or pad < 0:
        raise UserError(f"a grid wants columns >= 1, scale >= 1, pad >= 0, not {columns}, {scale}, {pad}")
    columns, rows = min(columns, n), math.ceil(n / min(columns, n))
    tiles = np.full((rows * columns, height * scale + pad, width * scale + pad, 3), 255, np.uint8)
    tiles[:n, pad:, pad:] = images.repeat(scale, 1).repeat(scale, 2)  # a grey channel spreads over the three
    grid = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2).reshape(rows * tiles.shape[1], -1, 3)
    return np.pad(grid, ((0, pad), (0, pad), (0, 0)), constant_values=255)


def interpolation_grid(images: np.ndarray, pad: int = 1, scale: int | None = None) -> np.ndarray:
    """One path per row, its steps from left to right, as `gan_jax.training.generation.paths` makes
    them: uint8 [H, W, 3].

    images: uint8 or floats in [-1, 1], [rows, steps, h, w, c], c 1 (grey) or 3 (RGB); pad, scale:
        as for `sample_grid`.

    Raises UserError for another shape or dtype, or no image.
    """
    images = np.asarray(images)
    if images.ndim != 5 or 0 in images.shape:
        raise UserError(f"an interpolation grid wants images [rows, steps, h, w, c], not {list(images.shape)}")
    images = images if images.dtype == np.uint8 else to_uint8(images)
    return sample_grid(images.reshape(-1, *images.shape[2:]), images.shape[1], pad, scale)


def save_png(path: Path | str, array: np.ndarray) -> Path:
    """Writes uint8 [H, W, 3] (RGB) or [H, W] (grey) as a PNG, makes missing folders, and returns
    the path. Raises UserError for another dtype or shape, or where the file cannot be written."""
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise UserError(f"{path}: a PNG wants uint8 [H, W, 3] or [H, W], not {array.dtype} {list(array.shape)}")
    return figures.replace(path, png(array))


def png(array: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W] as the bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def points_plot(path: Path | str, fakes: np.ndarray, reals: np.ndarray) -> Path:
    """Fakes [n, 2] over reals [m, 2] in one plane, as a PNG; returns the path. Equal points give
    equal bytes.

    The reals (m >= 1, finite) decide what is shown, so that a few stray fakes do not shrink the
    rest; the legend counts those outside. Fakes may be none, or hold NaN.

    Raises UserError for other shapes, no real point or one that is not finite, or where the file
    cannot be written.
    """
    fakes, reals = np.asarray(fakes, np.float64), np.asarray(reals, np.float64)
    for name, points in (("fakes", fakes), ("reals", reals)):
        if points.ndim != 2 or points.shape[1] != 2:
            raise UserError(f"{path}: points are [n, 2], not {name} {list(points.shape)}")
    if not len(reals) or not np.isfinite(reals).all():
        raise UserError(f"{path}: reals must be at least one finite point; got {len(reals)}")
    low, high = window(reals, 0.2)
    seen = inside(fakes, low, high)
    figure, (axes,) = figures.new(1, (5.6, 5.6))
    axes.scatter(*reals.T, s=14, c=GREY, linewidths=0, label=f"reals ({len(reals)})")
    outside = f", {len(fakes) - seen.sum()} outside" if not seen.all() else ""
    axes.scatter(*fakes[seen].T, s=10, c=BLUE, alpha=0.6, linewidths=0, label=f"fakes ({len(fakes)}{outside})")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="x", ylabel="y")
    axes.set_aspect("equal")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, markerscale=2)
    return figures.save(path, figure)


def window(points: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The lower left and upper right corner of a frame around points [n, 2], with a margin of
    `share` of their larger extent."""
    low, high = points.min(0), points.max(0)
    margin = share * max((high - low).max(), 1e-3)
    return low - margin, high + margin


def inside(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """bool [n]: whether points [n, 2] lie in a frame; False for NaN."""
    return np.all((points > low) & (points < high), axis=1)
