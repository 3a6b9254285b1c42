"""The ranking of a sweep's settings (see `gan_jax.plots.sweeps`)."""

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
from gan_jax.plots.parts import GREY, MARK, SKY, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """A column of `ranking_figure`: a metric, its label, and a value that gets a dashed line
    (chance, a floor)."""

    metric: str
    label: str
    reference: float | None = None
    reference_label: str = ""
    higher_is_better: bool = False


def ranking_figure(path: Path | str, table: "pd.DataFrame", panels: Sequence[Panel], baseline: str | None = None) -> Path:
    """The settings in rows, the best by the first panel on top, at the table's last step; the
    panels are the columns.

    Pale dots are seeds, a dark dot with a bar is the mean with its 95 % interval, and the band is
    the baseline's interval. Rows with diverged seeds come below those without, as in
    `ranking.rank`; where there are several n, each has a block of its own. Raises UserError for no
    panel, as `ranking.rank`, and where the file cannot be written.
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
    return figures.save(path, figure)


def _ranking_column(axis: "Axes", panel: Panel, cells: ranking.Cells, rows: list[tuple[str, int]], baseline: str) -> None:
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
    outside = parts.fit(axis.set_xlim, list(values.values()), panel.reference)
    axis.locator_params(axis="x", nbins=5)
    if panel.reference is not None:
        axis.axvline(panel.reference, color=VERMILION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        name = parts.text(ranking.shorten(panel.reference_label or f"{panel.reference:g}", 36))
        low, high = axis.get_xlim()
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
            style = {"fontsize": 8, "color": MARK, "ha": "center", "va": "center"}
            axis.text(0.5, i, "no seed left", transform=axis.get_yaxis_transform(), **style)
    better = "higher" if panel.higher_is_better else "lower"
    axis.set_xlabel(f"{parts.wrapped(panel.label, 34)}\n({better} is better{outside})")
    parts.grid(axis)
    axis.tick_params(axis="y", length=0)


def _row_labels(rows: list[tuple[str, int]], cells: ranking.Cells, baseline: str) -> list[str]:
    several = len({n for _, n in rows}) > 1
    labels = []
    for setting, n in rows:
        note = parts.notes(setting, n, baseline, several, cells[setting, n].diverged)
        short = len(ranking.one_line(setting)) + len(note) < 32
        labels.append(parts.text(f"{setting} {note}") if short else f"{parts.wrapped(setting, 30)}\n{note}".strip())
    return labels
