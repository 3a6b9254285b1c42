"""Pictures of a sweep: which setting is best, how each went, what each makes, and how a number or the data's size matters.

Each takes a sweep's table (see `gan_jax.ranking`). Settings keep the table's order unless a picture says otherwise; one panel,
row or line is one setting at one n. Means leave out seeds that have diverged, and every picture says how many did.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax import ranking
from gan_jax.errors import UserError
from gan_jax.pictures import figures
from gan_jax.pictures.figures import BLACK, BLUE, GREEN, ORANGE, PINK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SKY, VERMILION = "#56B4E9", "#D55E00"  # more of Okabe and Ito's colours
GREY, PALE, MARK = "#9A9A9A", "#E8E8E8", "#777777"
LINES = [BLACK, BLUE, VERMILION, GREEN, PINK, ORANGE, SKY]
STYLES = ["-", "--", "-.", ":"]
COLUMNS = 4  # small multiples in a row
SHEET_TILE = 48  # pixels: the smallest image in a sheet, high and wide, after enlargement
SHEET_LABEL = 210  # pixels for the names at its left
REAL = "real (V)"

Cells = dict[tuple[str, int], ranking.Cell]


@dataclass(frozen=True)
class Panel:
    """A column of `ranking_figure`: a metric, what to call it, and a value worth a dashed line (chance, a floor)."""

    metric: str
    label: str
    reference: float | None = None
    reference_label: str = ""
    higher_is_better: bool = False


def ranking_figure(path: Path | str, table: pd.DataFrame, panels: Sequence[Panel], baseline: str | None = None) -> Path:
    """One row per setting, best on top by the first panel, at the table's last step; one column per panel.

    Pale dots are seeds, a dark dot with a bar the mean and its 95 % interval; the band is the baseline's interval. Rows with
    diverged seeds come below those without, as in `ranking.rank`, and with several n each n has a block of its own.

    Raises:
        UserError: no panel; else as `ranking.rank`, and where the file cannot be written.
    """
    if not panels:
        raise UserError(f"{path}: a ranking wants at least one panel")
    first = panels[0]
    ranking.check(table, *(panel.metric for panel in panels))
    ranked = ranking.rank(table, first.metric, baseline=baseline, higher_is_better=first.higher_is_better)
    rows = [(str(setting), int(n)) for setting, n in zip(ranked["setting"], ranked["n"], strict=True)]
    baseline = ranking.baseline_of(table, baseline)
    all_cells = [ranking.cells_at(table, panel.metric) for panel in panels]
    size = (2.6 + 3.4 * len(panels), 1.5 + 0.36 * max(len(rows), 2))
    figure, axes = figures.new(len(panels), size, len(panels), sharex=False, sharey=True)
    for axis, panel, cells in zip(axes, panels, all_cells, strict=True):
        _ranking_column(axis, panel, cells, rows, baseline)
    labels = _row_labels(rows, all_cells[0], baseline)
    axes[0].set_yticks(range(len(rows)), labels, fontsize=9)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    for tick, (setting, _) in zip(axes[0].get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if setting == baseline else "normal")
    note = "pale: seeds; dark: mean, 95 % interval over seeds; band: the baseline's interval"
    figure.supxlabel(f"step {ranked.attrs['step']}; {note}", fontsize=8, color=MARK)
    return figures.save(Path(path), figure)


def seed_bands(
    path: Path | str,
    table: pd.DataFrame,
    metric: str,
    label: str,
    reference: float | None = None,
    baseline: str | None = None,
) -> Path:
    """A metric over the steps, one panel per setting with the same axes: mean over seeds (line), its 95 % interval (band), the
    seeds (thin lines), and the baseline's mean in grey. Raises UserError as `ranking.check`."""
    ranking.check(table, metric)
    baseline = ranking.baseline_of(table, baseline)
    curves = ranking.histories(table, metric)
    figure, axes = _multiples(table, list(curves), metric, baseline)
    for axis, ((setting, n), (steps, values)) in zip(axes, curves.items(), strict=True):
        if reference is not None:
            axis.axhline(reference, color=MARK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.9)
        if setting != baseline and (baseline, n) in curves:
            base_steps, base = curves[baseline, n]
            _line(axis, base_steps, ranking.mean_interval(base)[0], GREY, "-", 1.6)
        _band(axis, steps, values, BLACK if setting == baseline else BLUE, "-", seeds=True)
    everything = [values for _, values in curves.values()]
    bands = [edge for values in everything for edge in ranking.mean_interval(values)[1:]]
    axes[0].set_ylim(*_limits(everything, bands, reference))
    outside = _outside(everything, axes[0].get_ylim())
    figure.supylabel(_text(label), fontsize=10)
    dashed = f"; dashed: {reference:g}" if reference is not None else ""
    figure.supxlabel(
        f"step\nline: mean, band: its 95 % interval, thin: seeds; grey: the baseline's mean{dashed}{outside}", fontsize=9
    )
    return figures.save(Path(path), figure)


def gap_curves(
    path: Path | str,
    table: pd.DataFrame,
    train: str = "D/train_logit",
    validation: str = "D/validation_logit",
    label: str = "mean logit (nats)",
) -> Path:
    """A metric on training data T and on validation data V over the steps, one panel per setting with the same axes.

    Lines are means over seeds, thin ones the ends of their 95 % intervals; the area between T and V is shaded.

    Raises:
        UserError: as `ranking.check`, and where the file cannot be written.
    """
    ranking.check(table, train, validation)
    curves = ranking.histories(table, train), ranking.histories(table, validation)
    figure, axes = _multiples(table, list(curves[0]), train, None)
    shown = ("training data T", BLUE, "-"), ("validation data V", ORANGE, "--")
    for axis, key in zip(axes, curves[0], strict=True):
        top, bottom = (ranking.mean_interval(part[key][1])[0] for part in curves)
        axis.fill_between(curves[0][key][0], top, bottom, color=BLUE, alpha=0.15, linewidth=0, label="gap T - V")
        for part, (name, color, style) in zip(curves, shown, strict=True):
            _band(axis, *part[key], color, style, edges=True, label=name)
    everything = [values for part in curves for _, values in part.values()]
    bands = [edge for values in everything for edge in ranking.mean_interval(values)[1:]]
    axes[0].set_ylim(*_limits(everything, bands))
    outside = _outside(everything, axes[0].get_ylim())
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [name for name in ("training data T", "validation data V", "gap T - V") if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside upper right", ncols=3, frameon=False)
    figure.supylabel(_text(label), fontsize=10)
    figure.supxlabel(f"step\nlines: means over seeds; thin: ends of their 95 % intervals{outside}", fontsize=9)
    return figures.save(Path(path), figure)


def dose_response(
    path: Path | str,
    table: pd.DataFrame,
    metric: str,
    label: str,
    x: str = "n",
    reference: float | None = None,
) -> Path:
    """A metric at the last step against n, or against a number that settings differ in: means with 95 % intervals over seeds.

    Against n there is a line per setting. Against a number (a leaf's column) the settings that have it are the points of one
    line, at each n, or points of their own where two settings share a value; the table's first setting, if it lacks the
    number, is a grey line across. A hollow dot leaves out seeds that diverged; where none is left there is a cross at the
    foot. x is logarithmic where it is positive and spans more than a factor of 20 (with 0 as well: linear up to the smallest).

    Raises:
        UserError: x is no number of the table, or no setting has it; else as `ranking.check`.
    """
    ranking.check(table, metric, *([] if x == "n" else [x]))
    cells = ranking.cells_at(table, metric)
    series = _series(table, x, cells)
    if not series:
        raise UserError(f"{path}: no setting has a value of {x!r}; choose another x")
    figure, (axis,) = figures.new(1, (8.2, max(4.8, 1.6 + 0.23 * len(series))))
    ends: list[tuple[str | None, str, tuple[float, float]]] = []
    for i, (name, points) in enumerate(series):
        ends.append((name, LINES[i % len(LINES)], _dose_line(axis, points, i)))
    positions = [position for _, points in series for position, _ in points]
    _dose_axis(axis, x, positions)
    lacking = [] if x == "n" else _without(table, x, cells)
    for name, cell in lacking:
        mean = float(np.mean(list(cell.values.values())))
        axis.axhline(mean, color=GREY, linewidth=1.4, zorder=1)
        ends.append((name, MARK, (max(positions), mean)))
    if reference is not None:
        axis.axhline(reference, color=MARK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.9)
    axis.grid(axis="y", color=PALE, linewidth=0.6)
    axis.set_axisbelow(True)
    shown = [cell for _, points in series for _, cell in points] + [cell for _, cell in lacking]
    values = [np.array(list(cell.values.values())) for cell in shown]
    bars = [np.array(ranking.mean_interval(part)[1:]) for part in values]
    axis.set_ylim(*_limits(values, bars, reference))
    outside = _outside(values, axis.get_ylim())
    axis.set_ylabel(_text(label))
    _end_labels(axis, ends)
    hollow = "; hollow: without its diverged seeds; cross: no seed left" if any(cell.diverged for cell in shown) else ""
    figure.supxlabel(
        f"means and 95 % intervals over seeds at step {ranking.steps_of(table)[-1]}{hollow}{outside}", fontsize=8, color=MARK
    )
    return figures.save(Path(path), figure)


def sample_sheet(path: Path | str, rows: Mapping[str, np.ndarray]) -> Path:
    """Samples of each setting side by side, the name at the left; the row "real (V)", if there is one, comes first.

    Args:
        rows: name -> uint8 images [k, h, w, c], c 1 or 3, one row of them per name, pixels enlarged by the same whole number;
            or name -> points [k, 2], one scatter plot per name, over the real points in grey.

    Raises:
        UserError: no rows, an empty one, other shapes or dtypes, images of several sizes, or the file cannot be written.
    """
    arrays = {name: np.asarray(rows[name]) for name in sorted(rows, key=lambda name: name != REAL)}
    if not arrays:
        raise UserError(f"{path}: a sheet of samples wants at least one row")
    if all(array.ndim == 2 and array.shape[1] == 2 and len(array) and array.dtype.kind == "f" for array in arrays.values()):
        return _scatter_sheet(Path(path), arrays)
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
            found = f"{array.dtype} {list(array.shape)}"
            raise UserError(f"{path}: a sheet wants uint8 [k, h, w, 1 or 3] or points [k, 2], not {found} for {name!r}")
    sizes = {array.shape[1:3] for array in arrays.values()}
    if len(sizes) > 1:
        raise UserError(f"{path}: a sheet wants images of one size, not {sorted(sizes)}; resize them first")
    return _image_sheet(Path(path), arrays)


def _ranking_column(axis: Axes, panel: Panel, cells: Cells, rows: list[tuple[str, int]], baseline: str) -> None:
    """Dots, means and intervals of one metric, a row each, over the baseline's band."""
    values = {key: np.array(list(cells[key].values.values())) for key in rows}
    intervals = {key: [float(part) for part in ranking.mean_interval(values[key])] for key in rows}
    for n in dict.fromkeys(n for _, n in rows):
        block = [i for i, row in enumerate(rows) if row[1] == n]
        mean, low, high = intervals.get((baseline, n), [math.nan] * 3)
        edges = np.array([block[0] - 0.5, block[-1] + 0.5])
        axis.plot([mean, mean], edges, color=GREY, linewidth=0.8, zorder=1)
        axis.fill_betweenx(edges, low, high, color=BLUE, alpha=0.13, linewidth=0, zorder=0.8)
        if block[0]:
            axis.axhline(edges[0], color=GREY, linewidth=0.8)
    low, high = _limits(list(values.values()), [np.array(part[1:]) for part in intervals.values()], panel.reference)
    axis.set_xlim(low, high)
    axis.locator_params(axis="x", nbins=5)
    if panel.reference is not None:
        axis.axvline(panel.reference, color=VERMILION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        name = _text(ranking.shorten(panel.reference_label or f"{panel.reference:g}", 36))
        place = (panel.reference - low) / (high - low)
        side = "left" if place < 0.2 else "right" if place > 0.8 else "center"  # not into the next panel
        style = {"fontsize": 8, "color": VERMILION, "ha": side, "va": "bottom"}
        axis.text(panel.reference, 1.01, name, transform=axis.get_xaxis_transform(), **style)
    for i, key in enumerate(rows):
        mean, left, right = intervals[key]
        below = np.full(len(values[key]), i + 0.24)  # the bar would hide them
        axis.scatter(values[key], below, s=16, color=SKY, alpha=0.75, linewidths=0, zorder=2)
        axis.plot([left, right], [i, i], color=BLACK, linewidth=1.6, zorder=3, solid_capstyle="butt")
        axis.plot([mean], [i], "o", color=BLACK, markersize=5.5, zorder=4)
        if not len(values[key]):
            axis.text(
                0.5, i, "no seed left", transform=axis.get_yaxis_transform(), ha="center", va="center", color=MARK, fontsize=8
            )
    better = "higher" if panel.higher_is_better else "lower"
    outside = _outside(list(values.values()), (low, high))
    axis.set_xlabel(f"{_wrapped(panel.label, 34)}\n({better} is better{outside})")
    axis.grid(axis="y", color=PALE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)


def _row_labels(rows: list[tuple[str, int]], cells: Cells, baseline: str) -> list[str]:
    several = len({n for _, n in rows}) > 1
    labels = []
    for setting, n in rows:
        cell = cells[setting, n]
        notes = [f"n = {n}"] * several + ["baseline"] * (setting == baseline)
        notes += [f"{len(cell.diverged)} of {len(cell.members)} diverged"] * bool(cell.diverged)
        note = f"({', '.join(notes)})" if notes else ""
        short = len(ranking.one_line(setting)) + len(note) < 32
        labels.append(_text(f"{setting} {note}") if short else f"{_wrapped(setting, 30)}\n{note}".strip())
    return labels


def _multiples(table: pd.DataFrame, keys: list[tuple[str, int]], metric: str, baseline: str | None):
    """A figure with a titled panel for each setting and n, all with the same axes."""
    counts = _diverged(table, metric)
    columns = min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure, axes = figures.new(len(keys), (1.2 + 2.9 * columns, 1.3 + 2.1 * rows), columns, sharey=True)
    for i, (axis, (setting, n)) in enumerate(zip(axes, keys, strict=True)):
        several = len({size for _, size in keys}) > 1
        lost, members = counts[setting, n]
        notes = [f"n = {n}"] * several + ["baseline"] * (setting == baseline) + [f"{lost} of {members} diverged"] * bool(lost)
        axis.set_title(_wrapped(setting, 32) + (f"\n({', '.join(notes)})" if notes else ""), fontsize=9, loc="left")
        axis.grid(axis="y", color=PALE, linewidth=0.6)
        axis.set_axisbelow(True)
        if i + columns >= len(keys):  # the lowest panel of its column, also where the last row is short
            axis.tick_params(labelbottom=True)
        axis.locator_params(axis="x", nbins=4)
    if len(ranking.steps_of(table)) == 1:
        axes[0].set_xticks(ranking.steps_of(table))
    return figure, axes


def _diverged(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], tuple[int, int]]:
    """(setting, n) -> how many seeds have diverged, of how many."""
    lost: dict[tuple[str, int], dict[int, bool]] = {}
    for setting, n, seed, _, diverged, _ in ranking.records(table, metric):
        seeds = lost.setdefault((setting, n), {})
        seeds[seed] = seeds.get(seed, False) or diverged
    return {key: (sum(seeds.values()), len(seeds)) for key, seeds in lost.items()}


def _band(
    axis: Axes, steps, values, color: str, style: str, *, seeds: bool = False, edges: bool = False, label: str | None = None
) -> None:
    """The mean of [seeds, steps], its interval (filled, or only its edges), and if asked for each seed in a thin line."""
    mean, low, high = ranking.mean_interval(values)
    if not np.isfinite(mean).any():
        axis.text(0.5, 0.5, "no finite value", transform=axis.transAxes, ha="center", va="center", color=MARK)
        return
    if len(steps) == 1:  # a band has no width there
        axis.plot([steps[0], steps[0]], [low[0], high[0]], color=color, linewidth=1.2)
    elif edges:
        axis.plot(steps, np.stack([low, high], 1), color=color, linewidth=0.6, alpha=0.8)
    else:
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    for values_of_one in values if seeds else ():
        _line(axis, steps, values_of_one, color, "-", 0.5, alpha=0.5)
    _line(axis, steps, mean, color, style, 1.6, label=label)


def _line(axis: Axes, steps, values, color: str, style: str, width: float, **settings: Any) -> None:
    """What is finite, joined also over steps without a value; a lone value is a dot."""
    seen = np.isfinite(values)
    marker = "o" if seen.sum() == 1 else ""
    axis.plot(steps[seen], values[seen], style, color=color, linewidth=width, marker=marker, markersize=2 + width, **settings)


def _limits(
    values: Sequence[np.ndarray], intervals: Sequence[np.ndarray], reference: float | None = None
) -> tuple[float, float]:
    """Of an axis: the bulk of the values, and the intervals where they are not much wider (those of two seeds are).

    A few values a thousand times the others would otherwise make a flat line of everything; what is outside is cut at the edge.
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


def _outside(values: Sequence[np.ndarray], limits: tuple[float, float]) -> str:
    """The end of a note: how many values an axis does not show."""
    flat = np.concatenate([np.ravel(part) for part in values] or [np.zeros(0)])
    count = int((np.isfinite(flat) & ((flat < limits[0]) | (flat > limits[1]))).sum())
    return f"; {count} value{'s' * (count > 1)} outside" if count else ""


def _series(table: pd.DataFrame, x: str, cells: Cells) -> list[tuple[str | None, list[tuple[float, ranking.Cell]]]]:
    """The lines of `dose_response`: (name, [(position, cell), ...] by position); a line that is alone has no name."""
    if x == "n":
        places = {key: float(key[1]) for key in cells}
        names = {key: key[0] for key in cells}
    else:
        places = {}
        for setting, n, *_, value in ranking.records(table, x):
            if math.isfinite(value):
                places[setting, n] = value
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
    kept = [(place, cell) for place, cell in points if cell.values]
    for place in {place for place, cell in points if not cell.values}:
        axis.plot([place], [0.02], "x", color=color, markersize=5, transform=axis.get_xaxis_transform())
    if not kept:
        return math.nan, math.nan
    places = np.array([place for place, _ in kept])
    mean, low, high = np.array([ranking.mean_interval(list(cell.values.values())) for _, cell in kept]).T
    axis.plot(places, mean, style, color=color, linewidth=1.5, zorder=2.5)
    for place, bottom, top in zip(places, low, high, strict=True):
        axis.plot([place, place], [bottom, top], color=color, linewidth=1.2, alpha=0.7, zorder=2.4)
    for (place, cell), y in zip(kept, mean, strict=True):
        axis.plot([place], [y], "o", color=color, markersize=5, markerfacecolor="white" if cell.diverged else color, zorder=2.6)
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
    axis.set_xlabel("training images n" if x == "n" else _text(x))


def _without(table: pd.DataFrame, x: str, cells: Cells) -> list[tuple[str, ranking.Cell]]:
    """The table's first setting, at each n, where it lacks x: (name, cell) of those with a value."""
    first = ranking.baseline_of(table, None)
    if any(setting == first and math.isfinite(value) for setting, *_, value in ranking.records(table, x)):
        return []
    several = len({n for setting, n in cells if setting == first}) > 1
    named = [(first + f", n = {n}" * several, cell) for (setting, n), cell in cells.items() if setting == first]
    return [(name, cell) for name, cell in named if cell.values]


def _end_labels(axis: Axes, ends: list[tuple[str | None, str, tuple[float, float]]]) -> None:
    """Names at the right of the lines, moved apart where they would overlap, each with a thin line to the end of its own."""
    low, high = axis.get_ylim()
    height = lambda y: min(max((y - low) / (high - low), 0.0), 1.0) if math.isfinite(y) else 0.0
    named = sorted([(height(y), x, name, color) for name, color, (x, y) in ends if name is not None], key=lambda end: end[0])
    places = _apart([end[0] for end in named], min(0.055, 1 / max(len(named) - 1, 1)))
    for (fraction, x, name, color), place in zip(named, places, strict=True):
        style = {"va": "center", "fontsize": 8.5, "color": color, "annotation_clip": False, "textcoords": "axes fraction"}
        label = _text(ranking.shorten(name, 34))
        if math.isnan(x):
            axis.annotate(f"{label} (no seed left)", (1.05, place), (1.05, place), xycoords="axes fraction", **style)
            continue
        arrow = {
            "arrowstyle": "-",
            "color": color,
            "linewidth": 0.5,
            "alpha": 0.6,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (0, 0.5),
        }
        axis.annotate(label, (x, fraction), (1.05, place), xycoords=("data", "axes fraction"), arrowprops=arrow, **style)


def _apart(places: list[float], gap: float) -> list[float]:
    """The places in [0, 1] nearest to these (sorted, least squares) with neighbours at least `gap` apart."""
    from scipy.optimize import isotonic_regression

    if not places:
        return []
    room = gap * np.arange(len(places))
    return list(np.clip(isotonic_regression(np.array(places) - room).x, 0, max(1 - room[-1], 0)) + room)


def _image_sheet(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    height, width = next(iter(arrays.values())).shape[1:3]
    scale, pad = math.ceil(SHEET_TILE / min(height, width)), 4
    high, wide = height * scale + pad, width * scale + pad
    count = max(map(len, arrays.values()))
    canvas = np.full((len(arrays) * high + pad, SHEET_LABEL + count * wide + pad, 3), 255, np.uint8)
    for r, images in enumerate(arrays.values()):
        large = images.repeat(scale, 1).repeat(scale, 2)
        for i, image in enumerate(large):
            top, left = pad + r * high, SHEET_LABEL + pad + i * wide
            canvas[top : top + height * scale, left : left + width * scale] = image
    dpi = 110
    figure, (axis,) = figures.new(1, (canvas.shape[1] / dpi, canvas.shape[0] / dpi))
    axis.remove()
    figure.figimage(canvas, resize=False, origin="upper")
    for r, name in enumerate(arrays):
        x, y = (SHEET_LABEL - 6) / canvas.shape[1], 1 - (pad + r * high + height * scale / 2) / canvas.shape[0]
        style = {"fontsize": 8.5, "linespacing": 1.05, "fontweight": "bold" if name == REAL else "normal"}
        figure.text(x, y, _wrapped(name, 26, 3), ha="right", va="center", **style)
    return figures.save(path, figure)


def _scatter_sheet(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    columns = min(5, len(arrays))
    size = (0.4 + 2.3 * columns, 0.4 + 2.6 * -(-len(arrays) // columns))
    figure, axes = figures.new(len(arrays), size, columns, sharey=True)
    real = arrays.get(REAL, np.zeros((0, 2)))
    known = real if np.isfinite(real).all(1).any() else np.concatenate(list(arrays.values()))
    known = known[np.isfinite(known).all(1)]
    known = known if len(known) else np.zeros((1, 2))
    low, high = known.min(0), known.max(0)
    margin = 0.15 * max((high - low).max(), 1e-3)
    for axis, (name, points) in zip(axes, arrays.items(), strict=True):
        if len(real):
            axis.scatter(*real.T, s=6, c=GREY, linewidths=0)
        outside = int((~((points > low - margin) & (points < high + margin)).all(1)).sum())
        if name != REAL:
            axis.scatter(*points.T, s=6, c=BLUE, alpha=0.6, linewidths=0)
        axis.set_title(_wrapped(name, 24) + (f"\n({outside} of {len(points)} outside)" if outside else ""), fontsize=9)
        axis.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), xticks=[], yticks=[])
        axis.set_aspect("equal")
        axis.spines[["top", "right"]].set_visible(True)
    return figures.save(path, figure)


def _text(name: str) -> str:
    """A name on one line that matplotlib takes as it stands: between dollars it would read mathematics."""
    return ranking.one_line(name).replace("$", r"\$")


def _wrapped(name: str, width: int, lines: int = 2) -> str:
    """A name on at most so many lines of so many characters, for matplotlib."""
    return "\n".join(map(_text, textwrap.wrap(ranking.shorten(name, width * lines - width // 3), width)[:lines]))
