"""Pictures that compare the settings of a sweep: their ranking, and a metric over the steps (see
`gan_jax.plots.sweeps` for what they have in common)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.curves import LOGITS
from gan_jax.plots.figures import BLACK, BLUE
from gan_jax.plots.parts import GREY, MARK, SKY, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = 4  # panels of a metric over the steps in a row


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


def seed_bands(
    path: Path | str,
    table: "pd.DataFrame",
    metric: str,
    label: str,
    reference: float | None = None,
    baseline: str | None = None,
) -> Path:
    """A metric over the steps, with a panel for each setting and the same axes: mean over seeds
    (line), its 95 % interval (band), the seeds (thin lines), and the baseline's mean in grey.
    Raises UserError as `ranking.check`."""
    ranking.check(table, metric)
    baseline = ranking.baseline_of(table, baseline)
    curves = ranking.histories(table, metric)
    figure, axes = _multiples(table, list(curves), baseline)
    for axis, ((setting, n), (steps, values)) in zip(axes, curves.items(), strict=True):
        parts.reference_line(axis, reference)
        if setting != baseline and (baseline, n) in curves:
            base_steps, base = curves[baseline, n]
            parts.line(axis, base_steps, ranking.mean_interval(base)[0], GREY, "-", 1.6)
        _band(axis, steps, values, BLACK if setting == baseline else BLUE, "-", seeds=True)
    outside = parts.fit(axes[0].set_ylim, [values for _, values in curves.values()], reference)
    dashed = f"; dashed: {reference:g}" if reference is not None else ""
    figure.supylabel(parts.text(label), fontsize=10)
    figure.supxlabel(
        f"step\nline: mean, band: its 95 % interval, thin: seeds; grey: the baseline's mean{dashed}{outside}", fontsize=9
    )
    return figures.save(path, figure)


def gap_curves(path: Path | str, table: "pd.DataFrame") -> Path:
    """The mean logit of the discriminator on training data T and on validation data V over the
    steps, with a panel for each setting and the same axes.

    Lines are means over seeds, thin ones the ends of their 95 % intervals; the area between T and V
    is shaded. Raises UserError as `ranking.check`, and where the file cannot be written.
    """
    fields = ("D/train_logit", "D/validation_logit")
    ranking.check(table, *fields)
    curves = [ranking.histories(table, field) for field in fields]
    figure, axes = _multiples(table, list(curves[0]), None)
    for axis, key in zip(axes, curves[0], strict=True):
        top, bottom = (ranking.mean_interval(part[key][1])[0] for part in curves)
        axis.fill_between(curves[0][key][0], top, bottom, color=BLUE, alpha=0.15, linewidth=0, label="gap between T and V")
        for part, (name, color, style) in zip(curves, (LOGITS[field] for field in fields), strict=True):
            _band(axis, *part[key], color, style, edges=True, label=name)
    outside = parts.fit(axes[0].set_ylim, [values for part in curves for _, values in part.values()])
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [name for name in ("training data T", "validation data V", "gap between T and V") if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside upper right", ncols=3, frameon=False)
    figure.supylabel("mean logit (nats)", fontsize=10)
    figure.supxlabel(f"step\nlines: means over seeds; thin: ends of their 95 % intervals{outside}", fontsize=9)
    return figures.save(path, figure)


def _multiples(table: "pd.DataFrame", keys: list[tuple[str, int]], baseline: str | None):
    """A figure with a titled panel for each setting and n, all with the same axes."""
    columns = min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure, axes = figures.new(len(keys), (1.2 + 2.9 * columns, 1.3 + 2.1 * rows), columns, sharey=True)
    several = len({n for _, n in keys}) > 1
    for i, (axis, (setting, n)) in enumerate(zip(axes, keys, strict=True)):
        members = table[(table["setting"] == setting) & (table["n"] == n)]
        diverged = members.groupby("seed")["diverged"].any().to_numpy(bool)
        notes = parts.notes(setting, n, baseline, several, diverged)
        axis.set_title(f"{parts.wrapped(setting, 32)}\n{notes}".rstrip(), fontsize=9, loc="left")
        parts.grid(axis)
        if i + columns >= len(keys):  # the lowest panel of its column, also where the last row is short
            axis.tick_params(labelbottom=True)
        axis.locator_params(axis="x", nbins=4)
    if len(ranking.steps_of(table)) == 1:
        axes[0].set_xticks(ranking.steps_of(table))
    return figure, axes


def _band(
    axis: "Axes", steps, values, color: str, style: str, *, seeds: bool = False, edges: bool = False, label: str | None = None
) -> None:
    """The mean of values [seeds, steps], its interval (filled, or only its edges), and each seed
    where `seeds`."""
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
        parts.line(axis, steps, values_of_one, color, "-", 0.5, alpha=0.5)
    parts.line(axis, steps, mean, color, style, 1.6, label=label)
