"""Pictures of a sweep: the effect of a number or of the data's size, and samples of each setting.

`plots.settings` has its other pictures. Each picture takes a sweep's table
(see `gan_jax.ranking`). Settings keep the table's order unless a docstring states another; one
panel, row or line is one setting at one number n of training images. Means leave out seeds that
have diverged, and every picture states how many did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.figures import BLACK, BLUE, GREEN, ORANGE, PINK
from gan_jax.plots.grids import inside, sample_grid, window
from gan_jax.plots.parts import GREY, MARK, SKY, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = [BLACK, BLUE, VERMILION, GREEN, PINK, ORANGE, SKY]
STYLES = ["-", "--", "-.", ":"]
SHEET_TILE = 48  # pixels: the smallest image in a sheet, high and wide, after enlargement
SHEET_LABEL = 210  # pixels for the names at its left
REAL = "real (V)"


def dose_response(
    path: Path | str, table: pd.DataFrame, metric: str, label: str, x: str = "n", reference: float | None = None
) -> Path:
    """`dose_figure` as a PNG. Raises UserError as that does, and where the file cannot be
    written."""
    return figures.save(path, dose_figure(table, metric, label, x, reference))


def dose_figure(table: pd.DataFrame, metric: str, label: str, x: str = "n", reference: float | None = None) -> Figure:
    """A metric at the last step against n, or against a number in which settings differ: means with
    95 % intervals over seeds.

    Against n each setting is a line. Against a number (a leaf's column) the settings that have it
    are the points of one line for each n; where two settings share a value, each is a point of its
    own. The table's first setting, where it lacks the number, is a grey line across. A hollow dot
    leaves out seeds that diverged; a cross at the foot has no seed left. x is logarithmic where it
    is positive and spans more than a factor of 20 (with 0 as well: linear up to the smallest).

    Raises UserError where x is no number of the table or no setting has it, and as `ranking.check`.
    """
    ranking.check(table, metric, *([] if x == "n" else [x]))
    cells = ranking.cells_at(table, metric)
    series = _series(table, x, cells)
    if not series:
        raise UserError(f"no setting has a value of {x!r}; choose another x")
    figure, (axis,) = figures.new(1, (8.2, max(4.8, 1.6 + 0.23 * len(series))))
    ends: list[tuple[str | None, str, tuple[float, float]]] = []
    for i, (name, points) in enumerate(series):
        ends.append((name, LINES[i % len(LINES)], _dose_line(axis, points, i)))
    positions = [position for _, points in series for position, _ in points]
    _dose_axis(axis, x, positions)
    lacking = [] if x == "n" else _without(table, x, cells)
    for name, cell in lacking:
        mean = float(np.mean(cell.finite))
        axis.axhline(mean, color=GREY, linewidth=1.4, zorder=1)
        ends.append((name, MARK, (max(positions), mean)))
    parts.reference_line(axis, reference)
    parts.grid(axis)
    shown = [cell for _, points in series for _, cell in points] + [cell for _, cell in lacking]
    outside = parts.fit(axis.set_ylim, [cell.finite for cell in shown], reference)
    axis.set_ylabel(parts.text(label))
    _end_labels(axis, ends)
    hollow = "; hollow: without its diverged seeds; cross: no seed left" if any(cell.diverged.any() for cell in shown) else ""
    figure.supxlabel(
        f"means and 95 % intervals over seeds at step {ranking.steps_of(table)[-1]}{hollow}{outside}", fontsize=8, color=MARK
    )
    return figure


def sample_sheet(path: Path | str, rows: Mapping[str, np.ndarray]) -> Path:
    """Samples of each setting side by side, the name at the left; the row "real (V)" of validation
    data V, if there is one, comes first.

    rows: {name: uint8 images [k, h, w, c]}, c 1 or 3, in one row for each name, enlarged by the
        same whole number; or {name: points [k, 2]}, in one scatter plot for each name over the real
        points in grey.

    Raises UserError for no rows, an empty one, other shapes or dtypes, images of several sizes, or
    where the file cannot be written.
    """
    arrays = {name: np.asarray(rows[name]) for name in sorted(rows, key=lambda name: name != REAL)}
    if not arrays:
        raise UserError(f"{path}: a sheet of samples wants at least one row")
    if all(array.ndim == 2 and array.shape[1] == 2 and len(array) and array.dtype.kind == "f" for array in arrays.values()):
        return figures.save(path, scatter_sheet(arrays))
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
            found = f"{array.dtype} {list(array.shape)}"
            raise UserError(f"{path}: a sheet wants uint8 [k, h, w, 1 or 3] or points [k, 2], not {found} for {name!r}")
    sizes = {array.shape[1:3] for array in arrays.values()}
    if len(sizes) > 1:
        raise UserError(f"{path}: a sheet wants images of one size, not {sorted(sizes)}; resize them first")
    return _image_sheet(Path(path), arrays)


def _series(table: pd.DataFrame, x: str, cells: ranking.Cells) -> list[tuple[str | None, list[tuple[float, ranking.Cell]]]]:
    """The lines of `dose_figure`: (name, [(position, cell), ...] by position). A single line has no
    name."""
    if x == "n":
        places = {key: float(key[1]) for key in cells}
        names = {key: key[0] for key in cells}
    else:
        columns = (table["setting"].astype(str), table["n"].astype(int), np.asarray(table[x], float))
        places = {(setting, n): float(place) for setting, n, place in zip(*columns, strict=True) if math.isfinite(place)}
        shared = len(places) > len({(value, n) for (_, n), value in places.items()})
        several = len({n for _, n in places}) > 1
        name = lambda setting, n: ", ".join([setting] * shared + [f"n = {n}"] * several) if shared or several else None
        names = {key: name(*key) for key in places}
    lines: dict[str | None, list[tuple[float, ranking.Cell]]] = {}
    for key, place in sorted(places.items(), key=lambda item: list(cells).index(item[0])):
        lines.setdefault(names[key], []).append((place, cells[key]))
    return [(name, sorted(points, key=lambda point: point[0])) for name, points in lines.items()]


def _dose_line(axis: Axes, points: list[tuple[float, ranking.Cell]], i: int) -> tuple[float, float]:
    """Draws one line and returns its last point, NaN without any."""
    color, style = LINES[i % len(LINES)], STYLES[i // len(LINES) % len(STYLES)]
    kept = [(place, cell) for place, cell in points if len(cell.finite)]
    for place in {place for place, cell in points if not len(cell.finite)}:
        axis.plot([place], [0.02], "x", color=color, markersize=5, transform=axis.get_xaxis_transform())
    if not kept:
        return math.nan, math.nan
    places = np.array([place for place, _ in kept])
    mean, low, high = np.array([ranking.mean_interval(cell.finite) for _, cell in kept]).T
    axis.plot(places, mean, style, color=color, linewidth=1.5, zorder=2.5)
    for place, bottom, top in zip(places, low, high, strict=True):
        axis.plot([place, place], [bottom, top], color=color, linewidth=1.2, alpha=0.7, zorder=2.4)
    for (place, cell), y in zip(kept, mean, strict=True):
        face = "white" if cell.diverged.any() else color
        axis.plot([place], [y], "o", color=color, markersize=5, markerfacecolor=face, zorder=2.6)
    return float(places[-1]), float(mean[-1])


def _dose_axis(axis: Axes, x: str, positions: list[float]) -> None:
    positive = [position for position in positions if position > 0]
    if min(positions) >= 0 and positive and max(positive) > 20 * min(positive):
        axis.set_xscale("log") if len(positive) == len(positions) else axis.set_xscale("symlog", linthresh=min(positive))
    elif x == "n" and len(set(positions)) > 1:
        axis.set_xscale("log", base=2)
    distinct = sorted(set(positions))
    if len(distinct) <= 10:
        axis.set_xticks(distinct, [f"{position:g}" for position in distinct])
        axis.set_xticks([], minor=True)
    axis.set_xlabel("training images n" if x == "n" else parts.text(x))


def _without(table: pd.DataFrame, x: str, cells: ranking.Cells) -> list[tuple[str, ranking.Cell]]:
    """(name, cell) of the table's first setting, where it lacks x, at each n that has a value."""
    first = ranking.baseline_of(table, None)
    if np.isfinite(np.asarray(table[x], float)[(table["setting"].astype(str) == first).to_numpy()]).any():
        return []
    several = len({n for setting, n in cells if setting == first}) > 1
    named = [(first + f", n = {n}" * several, cell) for (setting, n), cell in cells.items() if setting == first]
    return [(name, cell) for name, cell in named if len(cell.finite)]


def _end_labels(axis: Axes, ends: list[tuple[str | None, str, tuple[float, float]]]) -> None:
    """Names at the right of the lines, far enough apart to be read, with a thin line to each."""
    low, high = axis.get_ylim()
    height = lambda y: min(max((y - low) / (high - low), 0.0), 1.0) if math.isfinite(y) else 0.0
    named = sorted([(height(y), x, name, color) for name, color, (x, y) in ends if name is not None], key=lambda end: end[0])
    places = _apart([end[0] for end in named], min(0.055, 1 / max(len(named) - 1, 1)))
    for (fraction, x, name, color), place in zip(named, places, strict=True):
        style = {"va": "center", "fontsize": 8.5, "color": color, "annotation_clip": False, "textcoords": "axes fraction"}
        label = parts.text(ranking.shorten(name, 34))
        if math.isnan(x):
            axis.annotate(f"{label} (no seed left)", (1.05, place), (1.05, place), xycoords="axes fraction", **style)
            continue
        arrow = dict(arrowstyle="-", color=color, linewidth=0.5, alpha=0.6, shrinkA=1, shrinkB=4, relpos=(0, 0.5))
        axis.annotate(label, (x, fraction), (1.05, place), xycoords=("data", "axes fraction"), arrowprops=arrow, **style)


def _apart(places: list[float], gap: float) -> list[float]:
    """The nearest places in [0, 1] (sorted, least squares) with neighbours at least `gap` apart."""
    from scipy.optimize import isotonic_regression

    if not places:
        return []
    room = gap * np.arange(len(places))
    return list(np.clip(isotonic_regression(np.array(places) - room).x, 0, max(1 - room[-1], 0)) + room)


def _image_sheet(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    height, width = next(iter(arrays.values())).shape[1:3]
    scale, pad = math.ceil(SHEET_TILE / min(height, width)), 4
    high = height * scale + pad
    tiles = np.full((len(arrays), max(map(len, arrays.values())), height, width, 3), 255, np.uint8)
    for row, images in zip(tiles, arrays.values(), strict=True):
        row[: len(images)] = images
    grid = sample_grid(tiles.reshape(-1, *tiles.shape[2:]), tiles.shape[1], pad, scale)
    canvas = np.pad(grid, ((0, 0), (SHEET_LABEL, 0), (0, 0)), constant_values=255)
    dpi = 110
    figure, (axis,) = figures.new(1, (canvas.shape[1] / dpi, canvas.shape[0] / dpi))
    axis.remove()
    figure.figimage(canvas, resize=False, origin="upper")
    for r, name in enumerate(arrays):
        x, y = (
            (SHEET_LABEL - 6) / canvas.shape[1],
            1 - (r * high + pad + height * scale / 2) / canvas.shape[0],
        )
        style = {"fontsize": 8.5, "linespacing": 1.05, "fontweight": "bold" if name == REAL else "normal"}
        figure.text(x, y, parts.wrapped(name, 26, 3), ha="right", va="center", **style)
    return figures.save(path, figure)


def scatter_sheet(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Points [k, 2] of each name in a panel of their own, over those of "real (V)"."""
    columns = min(5, len(arrays))
    size = (0.4 + 2.3 * columns, 0.4 + 2.6 * -(-len(arrays) // columns))
    figure, axes = figures.new(len(arrays), size, columns, sharey=True)
    real = arrays.get(REAL, np.zeros((0, 2)))
    known = real if np.isfinite(real).all(1).any() else np.concatenate(list(arrays.values()))
    known = known[np.isfinite(known).all(1)]
    known = known if len(known) else np.zeros((1, 2))
    low, high = window(known, 0.15)
    for axis, (name, points) in zip(axes, arrays.items(), strict=True):
        if len(real):
            axis.scatter(*real.T, s=6, c=GREY, linewidths=0)
        outside = int((~inside(points, low, high)).sum())
        if name != REAL:
            axis.scatter(*points.T, s=6, c=BLUE, alpha=0.6, linewidths=0)
        axis.set_title(parts.wrapped(name, 24) + (f"\n({outside} of {len(points)} outside)" if outside else ""), fontsize=9)
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axis.set_aspect("equal")
        axis.spines[["top", "right"]].set_visible(True)
    return figure
