"""The ranking of a sweep's settings (see `gan_jax.plots.sweeps` for what its pictures have in
common)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.figures import BLACK, BLUE
from gan_jax.plots.parts import GREY, MARK, PALE, SKY, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """A column of `ranking_figure`: a metric, what to call it, and a value worth a dashed line
    (chance, a floor)."""

    metric: str
    label: str
    reference: float | None = None
    reference_label: str = ""
    higher_is_better: bool = False


def ranking_figure(path: Path | str, table: pd.DataFrame, panels: Sequence[Panel], baseline: str | None = None) -> Path:
    """One row per setting, best on top by the first panel, at the table's last step; one column per
    panel.

    Pale dots are seeds, a dark dot with a bar the mean and its 95 % interval; the band is the
    baseline's interval. Rows with diverged seeds come below those without, as in `ranking.rank`,
    and with several n each n has a block of its own.

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


def _ranking_column(axis: Axes, panel: Panel, cells: ranking.Cells, rows: list[tuple[str, int]], baseline: str) -> None:
    """Dots, means and intervals of one metric, a row each, over the baseline's band."""
    values = {key: cells[key].finite for key in rows}
    intervals = {key: [float(part) for part in ranking.mean_interval(values[key])] for key in rows}
    for n in dict.fromkeys(n for _, n in rows):
        block = [i for i, row in enumerate(rows) if row[1] == n]
        mean, low, high = intervals.get((baseline, n), [math.nan] * 3)
        edges = np.array([block[0] - 0.5, block[-1] + 0.5])
        axis.plot([mean, mean], edges, color=GREY, linewidth=0.8, zorder=1)
        axis.fill_betweenx(edges, low, high, color=BLUE, alpha=0.13, linewidth=0, zorder=0.8)
        if block[0]:
            axis.axhline(edges[0], color=GREY, linewidth=0.8)
    low, high = parts.limits(list(values.values()), [np.array(part[1:]) for part in intervals.values()], panel.reference)
    axis.set_xlim(low, high)
    axis.locator_params(axis="x", nbins=5)
    if panel.reference is not None:
        axis.axvline(panel.reference, color=VERMILION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        name = parts.text(ranking.shorten(panel.reference_label or f"{panel.reference:g}", 36))
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
    outside = parts.outside(list(values.values()), (low, high))
    axis.set_xlabel(f"{parts.wrapped(panel.label, 34)}\n({better} is better{outside})")
    axis.grid(axis="y", color=PALE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)


def _row_labels(rows: list[tuple[str, int]], cells: ranking.Cells, baseline: str) -> list[str]:
    several = len({n for _, n in rows}) > 1
    labels = []
    for setting, n in rows:
        cell = cells[setting, n]
        notes = [f"n = {n}"] * several + ["baseline"] * (setting == baseline)
        notes += [f"{cell.diverged.sum()} of {len(cell.seeds)} diverged"] * bool(cell.diverged.any())
        note = f"({', '.join(notes)})" if notes else ""
        short = len(ranking.one_line(setting)) + len(note) < 32
        labels.append(parts.text(f"{setting} {note}") if short else f"{parts.wrapped(setting, 30)}\n{note}".strip())
    return labels
