"""Pictures that a person looks at: sample grids, scatter plots of 2-D toys, training curves. All are PNG files.

Every file is written under another name and renamed, so a reader never meets half a picture. Pillow and matplotlib are
imported where they are used, and matplotlib without pyplot: no global state, no window, any thread.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST_TILE = 32  # pixels: an 8x8 digit is not a picture until it is enlarged
BLUE, ORANGE, GREEN, PINK, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#000000",
)  # Okabe and Ito's, colour-blind safe
LOSSES = {
    "discriminator/loss": ("discriminator", BLACK, "-"),
    "generator/loss": ("generator", PINK, "-"),
}
LOGITS = {
    "D/train_logit": ("training data T", BLUE, "-"),
    "D/validation_logit": ("validation data V", ORANGE, "--"),
    "D/fake_logit": ("fakes", GREEN, "-."),
}
ACCURACIES = {
    "D/train_accuracy": ("training data T", BLUE, "-"),
    "D/validation_accuracy": ("validation data V", ORANGE, "--"),
    "D/fake_accuracy": ("fakes", GREEN, "-."),
}


def to_uint8(images) -> np.ndarray:
    """Images of any floating dtype and shape, -1 for black and 1 for white, as uint8: rounded, clipped, NaN as black.

    Raises:
        UserError: the dtype is not floating.
    """
    images = np.asarray(images)
    if images.dtype.kind not in "fV":  # V is the kind of bfloat16
        raise UserError(f"images in [-1, 1] have a floating dtype, not {images.dtype}; scale them first")
    values = np.clip(np.nan_to_num(images.astype(np.float32), nan=-1.0), -1, 1)
    return np.rint((values + 1) * 127.5).astype(np.uint8)


def sample_grid(images: np.ndarray, columns: int | None = None, pad: int = 1, scale: int | None = None) -> np.ndarray:
    """Images row by row in one picture, white between, around and where the last row runs out.

    Args:
        images: uint8 [n, h, w, c], n >= 1, c 1 (grey) or 3 (RGB).
        columns: tiles in a row; by default about as many as rows.
        pad: white pixels between tiles and around them.
        scale: each pixel becomes scale x scale; by default as many as make a tile at least 32 pixels high and wide.

    Returns:
        uint8 [H, W, 3]. Tile i starts at row pad + (i // columns) * (h * scale + pad); for columns i % columns and w.

    Raises:
        UserError: another dtype or shape, no image, columns or scale below 1, pad below 0.
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


def save_png(path: Path | str, array: np.ndarray) -> Path:
    """Writes uint8 [H, W, 3] (RGB) or [H, W] (grey) as PNG and returns the path. Missing folders are made.

    Raises:
        UserError: another dtype or shape, or the file cannot be written.
    """
    from PIL import Image

    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise UserError(f"{path}: a PNG wants uint8 [H, W, 3] or [H, W], not {array.dtype} {list(array.shape)}")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return _replace(Path(path), buffer.getvalue())


def points_plot(path: Path | str, fakes: np.ndarray, reals: np.ndarray) -> Path:
    """Fakes over reals in one plane, as a PNG; returns the path. The same points give the same bytes.

    The reals decide what is shown, so that a few stray fakes do not shrink the rest; the legend counts those outside.

    Args:
        fakes: [n, 2]; may be empty or hold NaN.
        reals: [m, 2], m >= 1, finite.

    Raises:
        UserError: other shapes, no real point or one that is not finite, or the file cannot be written.
    """
    fakes, reals = np.asarray(fakes, np.float64), np.asarray(reals, np.float64)
    for name, points in (("fakes", fakes), ("reals", reals)):
        if points.ndim != 2 or points.shape[1] != 2:
            raise UserError(f"{path}: points are [n, 2], not {name} {list(points.shape)}")
    if not len(reals) or not np.isfinite(reals).all():
        raise UserError(f"{path}: reals must be at least one finite point; got {len(reals)}")
    low, high = reals.min(0), reals.max(0)
    margin = 0.2 * max((high - low).max(), 1e-3)
    seen = ((fakes > low - margin) & (fakes < high + margin)).all(1)  # False for NaN
    figure, (axes,) = _figure(1, (5.6, 5.6))
    axes.scatter(*reals.T, s=14, c="#9A9A9A", linewidths=0, label=f"reals ({len(reals)})")
    outside = f", {len(fakes) - seen.sum()} outside" if not seen.all() else ""
    axes.scatter(*fakes[seen].T, s=10, c=BLUE, alpha=0.6, linewidths=0, label=f"fakes ({len(fakes)}{outside})")
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), xlabel="x", ylabel="y")
    axes.set_aspect("equal")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, markerscale=2)
    return _save(Path(path), figure)


def training_curves(path: Path | str, rows: Sequence[dict]) -> Path:
    """`curves_figure` as a PNG. Raises UserError where the file cannot be written, and as `curves_figure` does."""
    return _save(Path(path), curves_figure(rows))


def as_image(figure: Figure):
    """A figure as a PIL image, which a notebook shows."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)


def curves_figure(rows: Sequence[dict]) -> Figure:
    """Losses of both players, mean logits and accuracies of D on T, V and fakes, over the steps.

    The area between T and V is shaded: D knows its training images by that much more than images like them.

    Args:
        rows: dicts with "step" and any of "discriminator/loss", "generator/loss", "D/{train,validation,fake}_logit" and
            "D/{train,validation,fake}_accuracy" (in [0, 1]), in any order. What is missing or not finite is skipped.

    Raises:
        UserError: no rows, or a row without a step.
    """
    steps = [_number(row.get("step")) for row in rows]
    if not steps or not all(map(math.isfinite, steps)):
        raise UserError(f"training curves want rows that have a step; got {len(steps)} rows")
    rows = [rows[i] for i in np.argsort(steps, kind="stable")]
    figure, (losses, logits, accuracies) = _figure(3, (9, 9.5))
    _curves(losses, rows, LOSSES)
    losses.set(title="Losses", ylabel="loss (as trained)")
    _curves(logits, rows, LOGITS, neutral=0)
    logits.set(title="What D says (above 0: real)", ylabel="mean logit (nats)")
    _curves(accuracies, rows, ACCURACIES, neutral=0.5)
    accuracies.set(title="How often D is right (0.5: guessing)", ylabel="accuracy (share of examples)", ylim=(-0.03, 1.03))
    if len(set(steps)) == 1:
        accuracies.set_xticks(steps[:1])
    accuracies.set_xlabel("step (updates of the generator)")
    return figure


def _curves(axes: Axes, rows: Sequence[dict], fields: dict[str, tuple[str, str, str]], neutral: float | None = None):
    """One panel: a curve per field, the gap between T and V, and a line at the value that says nothing."""
    drawn = {}
    for field, (label, color, style) in fields.items():
        recorded = {float(row["step"]): _number(row[field]) for row in rows if row.get(field) is not None}
        drawn[field] = {step: y for step, y in recorded.items() if math.isfinite(y)}
        if drawn[field]:
            lost = min(recorded.keys() - drawn[field].keys(), default=-1)
            broke = f"\n(not finite from step {lost:g})" if lost > max(drawn[field]) else ""
            _curve(axes, drawn[field], color, style, label + broke)
    train, validation = (next((drawn[f] for f in drawn if name in f), {}) for name in ("train", "validation"))
    both = [step for step in train if step in validation]
    if len(both) > 1:
        gap = [train[s] for s in both], [validation[s] for s in both]
        axes.fill_between(both, *gap, color=BLUE, alpha=0.15, linewidth=0, label="gap T - V")
    if not any(drawn.values()):
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="#777777")
        return
    axes.grid(axis="y", color="#E8E8E8", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    if neutral is not None:
        axes.axhline(neutral, color="#999999", linewidth=0.9, zorder=0.9)


def _curve(axes: Axes, points: dict[float, float], color: str, style: str, label: str) -> None:
    """The points joined; of many noisy ones the running mean, over the points themselves in a pale line."""
    xs, ys = np.array(list(points)), np.array(list(points.values()))
    window = len(ys) // 50
    if window < 4:
        marker = "o" if len(ys) < 40 else ""
        axes.plot(xs, ys, style, color=color, label=label, linewidth=1.4, marker=marker, markersize=3)
        return
    axes.plot(xs, ys, "-", color=color, alpha=0.25, linewidth=0.6)
    means = np.convolve(ys, np.full(window, 1 / window), "valid")
    axes.plot(xs[window // 2 :][: len(means)], means, style, color=color, linewidth=1.6, label=f"{label}, mean of {window}")


def _number(value) -> float:
    """NaN for what is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _figure(panels: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(path: Path, figure: Figure) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version in it: equal data, equal bytes
    return _replace(path, buffer.getvalue())


def _replace(path: Path, data: bytes) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({type(error).__name__}: {error}); choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return path
