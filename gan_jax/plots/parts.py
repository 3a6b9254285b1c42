"""What several pictures draw alike: more colours, axes and their limits, lines with gaps, names as
text."""

import math
import textwrap
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from gan_jax.metrics import ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

K = TypeVar("K", bound=Hashable)
SKY, VERMILION = "#56B4E9", "#D55E00"  # more of Okabe and Ito's colours
GREY, PALE, MARK = "#9A9A9A", "#E8E8E8", "#777777"


def line(axis: "Axes", steps, values, color: str, style: str, width: float, **settings: Any) -> None:
    """The finite values, joined also over steps without a value. A single value is a dot."""
    seen = np.isfinite(values)
    marker = "o" if seen.sum() == 1 else ""
    axis.plot(steps[seen], values[seen], style, color=color, linewidth=width, marker=marker, markersize=2 + width, **settings)


def grid(axis: "Axes", which: Literal["x", "y", "both"] = "y") -> None:
    """Pale lines below the data at the ticks of "x", "y" or "both"."""
    axis.grid(axis=which, color=PALE, linewidth=0.6)
    axis.set_axisbelow(True)


def reference_line(axis: "Axes", value: float | None) -> None:
    """A dashed horizontal line, where there is a value."""
    if value is not None:
        axis.axhline(value, color=MARK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.9)


def fit(set_limits: Callable, values: Sequence[np.ndarray], reference: float | None = None) -> str:
    """Sets the limits of an axis by values [seeds, ...] and their 95 % intervals over seeds.
    Returns the note of `outside`."""
    shown = limits(values, [np.array(ranking.mean_interval(part)[1:]) for part in values], reference)
    set_limits(*shown)
    return outside(values, shown)


def limits(
    values: Sequence[np.ndarray], intervals: Sequence[np.ndarray], reference: float | None = None
) -> tuple[float, float]:
    """The limits of an axis that shows most of the values, and the intervals as far as they are not
    much wider (those of two seeds are).

    A few values a thousand times the others would otherwise flatten everything. What lies outside
    is cut at the edge.
    """
    flat = _finite(values)
    if not len(flat):
        flat = np.array([reference or 0.0])
    low, high = flat.min(), flat.max()
    inner = np.quantile(flat, [0.05, 0.95])
    spread = inner[1] - inner[0]
    if spread > 0 and high - low > 8 * spread:
        low, high = max(low, inner[0] - spread), min(high, inner[1] + spread)
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    edges = _finite(intervals)
    size = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    if len(edges):
        low, high = min(low, max(edges.min(), low - size / 2)), max(high, min(edges.max(), high + size / 2))
    margin = 0.05 * max(high - low, size)
    return float(low - margin), float(high + margin)


def outside(values: Sequence[np.ndarray], limits: tuple[float, float]) -> str:
    """The end of a note: how many values an axis does not show."""
    flat = _finite(values)
    count = int(((flat < limits[0]) | (flat > limits[1])).sum())
    return f"; {count} value{'s' * (count > 1)} outside" if count else ""


def apart(means: Mapping[K, float], slack: float = 0.0, keep: Sequence[K] = ()) -> list[K]:
    """The keys whose means lie so far from the others that an axis with them would show little
    else.

    Of three means or more, the one farthest from their median goes while the axis (and `slack`,
    such as the width of an interval) is four times as long with it as without, a third of them at
    most. Means that are not finite are no keys of the result, and `keep` stays.
    """
    shown = {key: mean for key, mean in means.items() if math.isfinite(mean)}
    extent = lambda values: max(values) - min(values) + slack
    gone: list[K] = []
    while len(shown) > 2 and len(gone) < len(means) // 3:
        middle = float(np.median(list(shown.values())))
        far = max(shown, key=lambda key: abs(shown[key] - middle))
        rest = [mean for key, mean in shown.items() if key != far]
        if far in keep or not extent(list(shown.values())) > 4 * extent(rest):
            break
        gone.append(far)
        del shown[far]
    return gone


def offsets(points: np.ndarray, size: tuple[float, float], box: tuple[float, float, float, float]) -> np.ndarray:
    """Where the labels of points go, so that none covers another label or a point: the centre of
    each less its point, [k, 2], the nearest free place that a spiral meets.

    points: [k, 2]; size: width and height of every label; box: left, bottom, right and top that
        labels stay within as far as there is room. All in pixels.
    """
    half, placed, found = np.array(size) / 2, np.zeros((0, 2)), []
    angles = np.pi / 2 + np.arange(16) * np.pi / 8
    spiral = [r * np.array([np.cos(a), np.sin(a)]) for r in np.arange(1, 40) * max(size) for a in angles]
    for point in points:
        for offset in spiral:
            centre = point + offset
            inside = (centre - half >= box[:2]).all() and (centre + half <= box[2:]).all()
            free = (np.abs(placed - centre) >= 2 * half).any(1).all()
            if inside and free and (np.abs(points - centre) >= half + 3).any(1).all():
                break
        else:
            offset = spiral[0]
        placed = np.vstack([placed, point + offset])
        found.append(offset)
    return np.array(found).reshape(-1, 2)


def _finite(arrays: Sequence[np.ndarray]) -> np.ndarray:
    flat = np.concatenate([np.zeros(0), *map(np.ravel, arrays)])
    return flat[np.isfinite(flat)]


def number(value: float) -> str:
    """Three significant digits, 1230 rather than 1.23e+03."""
    if not math.isfinite(value):
        return "not finite"
    return f"{float(f'{value:.3g}'):g}" if abs(value) < 1e5 else f"{value:.3g}"


def as_float(value: Any) -> float:
    """NaN for what is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def text(name: str) -> str:
    """A name on one line, without what matplotlib would read as mathematics (between dollars)."""
    return ranking.one_line(name).replace("$", r"\$")


def wrapped(name: str, width: int, lines: int = 2) -> str:
    """A name on at most `lines` lines of `width` characters, for matplotlib."""
    return "\n".join(map(text, textwrap.wrap(ranking.shorten(name, width * lines - width // 3), width)[:lines]))


def notes(setting: str, n: int, baseline: str | None, several: bool, diverged: np.ndarray, marks: Sequence[str] = ()) -> str:
    """In brackets: n where there are several, whether this is the baseline, the marks, and how many
    of its seeds diverged (a bool for each seed). '' where there is nothing to note."""
    found = [f"n = {n}"] * several + ["baseline"] * (setting == baseline) + list(marks)
    found += [f"{diverged.sum()} of {len(diverged)} diverged"] * bool(diverged.any())
    return f"({', '.join(found)})" if found else ""
