"""What the pictures of sweeps and of reports share: more colours, an axis' limits, lines with
holes, names as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.metrics import ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKY, VERMILION = "#56B4E9", "#D55E00"  # more of Okabe and Ito's colours
GREY, PALE, MARK = "#9A9A9A", "#E8E8E8", "#777777"


def line(axis: Axes, steps, values, color: str, style: str, width: float, **settings: Any) -> None:
    """What is finite, joined also over steps without a value; a lone value is a dot."""
    seen = np.isfinite(values)
    marker = "o" if seen.sum() == 1 else ""
    axis.plot(steps[seen], values[seen], style, color=color, linewidth=width, marker=marker, markersize=2 + width, **settings)


def limits(
    values: Sequence[np.ndarray], intervals: Sequence[np.ndarray], reference: float | None = None
) -> tuple[float, float]:
    """Of an axis: the bulk of the values, and the intervals where they are not much wider (those of
    two seeds are).

    A few values a thousand times the others would otherwise make a flat line of everything; what is
    outside is cut at the edge.
    """
    flat = np.concatenate([np.ravel(part) for part in values] or [np.zeros(0)])
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        flat = np.zeros(1) if reference is None else np.array([reference])
    low, high = flat.min(), flat.max()
    inner = np.quantile(flat, [0.05, 0.95])
    spread = inner[1] - inner[0]
    if spread > 0 and high - low > 8 * spread:
        low, high = max(low, inner[0] - spread), min(high, inner[1] + spread)
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    edges = np.concatenate([np.ravel(part) for part in intervals] or [np.zeros(0)])
    edges = edges[np.isfinite(edges)]
    size = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    if len(edges):
        low, high = min(low, max(edges.min(), low - size / 2)), max(high, min(edges.max(), high + size / 2))
    margin = 0.05 * max(high - low, size)
    return float(low - margin), float(high + margin)


def outside(values: Sequence[np.ndarray], limits: tuple[float, float]) -> str:
    """The end of a note: how many values an axis does not show."""
    flat = np.concatenate([np.ravel(part) for part in values] or [np.zeros(0)])
    count = int((np.isfinite(flat) & ((flat < limits[0]) | (flat > limits[1]))).sum())
    return f"; {count} value{'s' * (count > 1)} outside" if count else ""


def number(value: float) -> str:
    """Three significant digits, 1230 rather than 1.23e+03."""
    if not math.isfinite(value):
        return "not finite"
    return f"{float(f'{value:.3g}'):g}" if abs(value) < 1e5 else f"{value:.3g}"


def text(name: str) -> str:
    """A name on one line that matplotlib takes as it stands: between dollars it would read
    mathematics."""
    return ranking.one_line(name).replace("$", r"\$")


def wrapped(name: str, width: int, lines: int = 2) -> str:
    """A name on at most so many lines of so many characters, for matplotlib."""
    return "\n".join(map(text, textwrap.wrap(ranking.shorten(name, width * lines - width // 3), width)[:lines]))
