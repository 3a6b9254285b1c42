"""Pictures that compare the settings of a sweep: their ranking, and a metric over the steps (see
`gan_jax.plots.sweeps` for what they have in common)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.curves import LOGITS
from gan_jax.plots.figures import BLACK, BLUE, GREEN
from gan_jax.plots.parts import GREY, MARK, SKY, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    the baseline's interval. A mean that would squash its column is a triangle with its value at the
    edge. Rows with diverged seeds come below those without, as in `ranking.rank`; where there are
    several n, each has a block of its own. Raises UserError for no panel, as `ranking.rank`, and
    where the file cannot be written.
    """
    if not panels:
        raise UserError(f"{path}: a ranking wants at least one panel")
    first = panels[0]
    ranking.check(table, *(panel.metric for panel in panels))
    ranked = ranking.rank(table, first.metric, baseline=baseline, higher_is_better=first.higher_is_better)
    rows = [(str(setting), int(n)) for setting, n in zip(ranked["setting"], ranked["n"], strict=True)]
    baseline = ranking.baseline_of(table, baseline)
    several = len({n for _, n in rows}) > 1
    all_cells = [ranking.cells_at(table, panel.metric) for panel in panels]
    size = (2.6 + 3.4 * len(panels), 1.5 + 0.36 * max(len(rows), 2))
    figure, axes = figures.new(len(panels), size, len(panels), sharex=False, sharey=True)
    for axis, panel, cells in zip(axes, panels, all_cells, strict=True):
        _column(axis, panel, rows, [_Row.of(cells[key].finite) for key in rows], baseline)
    noted = lambda key: parts.notes(key[0], key[1], baseline, several, all_cells[0][key].diverged)
    _label_rows(axes[0], [key[0] for key in rows], [_label(key[0], noted(key), 30, 2) for key in rows], baseline)
    note = "pale: seeds; dark: mean, 95 % interval over seeds; band: the baseline's interval"
    figure.supxlabel(f"step {ranked.attrs['step']}; {note}", fontsize=8, color=MARK)
    return figures.save(path, figure)


def answer_figure(
    rows: "pd.DataFrame", labels: Mapping[str, str], baseline: str, chosen: str, n: int, narrow: bool = False
) -> "Figure":
    """The choice among settings in five seconds: the settings in rows, the primary number left and
    the guard right, each mean with its 95 % interval over seeds, and the chosen row marked.

    A blue triangle to the better side is shown better than the baseline, a vermilion one to the
    worse side is shown worse, a black dot is neither, and a hollow one is still training. The band
    is the baseline's interval. The row of the baseline is marked where it stays.

    rows: `Choice.rows`, in the order to be drawn; with the columns setting, seeds, diverged,
        still_training and, for each key of `labels` ("primary", "guard"): key, key_low, key_high
        and key_shown ("better", "worse" or ""), smaller being better.
    narrow: one panel above the other, for a telephone.
    """
    panels, records = [Panel(key, label) for key, label in labels.items()], rows.to_dict("records")
    keys, count = [(str(record["setting"]), n) for record in records], len(records)
    high = 0.75 + (0.3 if narrow else 0.22) * max(count, 2)
    size, columns = ((3.6, len(panels) * high), 1) if narrow else ((9, high), len(panels))
    figure, axes = figures.new(len(panels), size, columns, sharex=False, sharey=not narrow)
    labelled = []
    for record in records:
        gone = np.arange(record["seeds"] + record["diverged"]) < record["diverged"]
        marks = ["chosen"] * (record["setting"] == chosen != baseline) + ["still training"] * bool(record["still_training"])
        note = parts.notes(record["setting"], n, baseline, False, gone, marks)
        labelled.append(_label(record["setting"], note, *((18, 2) if narrow else (38, 1))))
    for i, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        means = [_Row.told(record, panel.metric) for record in records]
        _column(axis, panel, keys, means, baseline)
        axis.set_xlabel("")
        title = f"{parts.wrapped(panel.label, 18 if narrow else 34)}\n\N{LEFTWARDS ARROW} lower is better"
        axis.set_title(title, fontsize=9.5, loc="left")
        axis.locator_params(axis="x", nbins=3 if narrow else 5)
        if i == 0 or narrow:
            _label_rows(axis, [setting for setting, _ in keys], labelled, chosen)
        for place, (setting, _) in enumerate(keys):
            if setting == chosen:
                axis.axhspan(place - 0.5, place + 0.5, color=GREEN, alpha=0.16, linewidth=0, zorder=0.5)
    return figure


@dataclass(frozen=True)
class _Row:
    """What a row has in a column: seeds (none are drawn where there are none), mean, ends of the
    interval, "better", "worse" or "", and whether the setting is still training."""

    seeds: np.ndarray
    mean: float
    low: float
    high: float
    shown: str = ""
    moving: bool = False

    @classmethod
    def of(cls, seeds: np.ndarray) -> "_Row":
        mean, low, high = map(float, ranking.mean_interval(seeds))
        return cls(seeds, mean, low, high)

    @classmethod
    def told(cls, record: Mapping[str, Any], key: str) -> "_Row":
        mean, low, high = (parts.as_float(record[key + end]) for end in ("", "_low", "_high"))
        return cls(np.zeros(0), mean, low, high, record[f"{key}_shown"], bool(record["still_training"]))


def _column(axis: "Axes", panel: Panel, keys: list[tuple[str, int]], rows: list[_Row], baseline: str) -> None:
    """Means and intervals of one metric, a row for each (setting, n), over the baseline's band."""
    for n in dict.fromkeys(n for _, n in keys):
        block = [i for i, key in enumerate(keys) if key[1] == n]
        edges = np.array([block[0] - 0.5, block[-1] + 0.5])
        for base in (row for key, row in zip(keys, rows, strict=True) if key == (baseline, n)):
            axis.plot([base.mean, base.mean], edges, color=GREY, linewidth=0.8, zorder=1)
            axis.fill_betweenx(edges, base.low, base.high, color=BLUE, alpha=0.13, linewidth=0, zorder=0.8)
        if block[0]:
            axis.axhline(edges[0], color=GREY, linewidth=0.8)
    widths = [row.high - row.low for row in rows if math.isfinite(row.high - row.low)]
    kept_out = parts.apart(
        {key: row.mean for key, row in zip(keys, rows, strict=True)},
        float(np.median(widths)) if widths else 0.0,
        [key for key in keys if key[0] == baseline],
    )
    inner = [row for key, row in zip(keys, rows, strict=True) if key not in kept_out]
    values = [row.seeds if len(row.seeds) else np.array([row.low, row.mean, row.high]) for row in inner]
    limits = parts.limits(values, [np.array([row.low, row.high]) for row in inner], panel.reference)
    axis.set_xlim(limits)
    axis.locator_params(axis="x", nbins=5)
    if panel.reference is not None:
        _reference(axis, panel.reference, panel.reference_label)
    for i, row in enumerate(rows):
        if math.isfinite(row.mean):  # the seeds are below the bar, which would hide them
            axis.scatter(row.seeds, np.full(len(row.seeds), i + 0.24), s=16, color=SKY, alpha=0.75, linewidths=0, zorder=2)
            _mean(axis, i, row, panel.higher_is_better)
        else:
            style = {"fontsize": 8, "color": MARK, "ha": "center", "va": "center"}
            axis.text(0.5, i, "no seed left", transform=axis.get_yaxis_transform(), **style)
    better, outside = "higher" if panel.higher_is_better else "lower", parts.outside([row.seeds for row in rows], limits)
    axis.set_xlabel(f"{parts.wrapped(panel.label, 34)}\n({better} is better{outside})")
    parts.grid(axis)
    axis.tick_params(axis="y", length=0)


def _reference(axis: "Axes", value: float, label: str) -> None:
    """A dashed line with its name above."""
    axis.axvline(value, color=VERMILION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    low, high = axis.get_xlim()
    place = (value - low) / (high - low)
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"  # not into the next panel
    style = {"fontsize": 8, "color": VERMILION, "ha": side, "va": "bottom"}
    name = parts.text(ranking.shorten(label or f"{value:g}", 36))
    axis.text(value, 1.01, name, transform=axis.get_xaxis_transform(), **style)


def _mean(axis: "Axes", i: int, row: _Row, higher_is_better: bool) -> None:
    """A mean with its interval in row i, in the sign of what is shown, or its value at the edge."""
    low, high = axis.get_xlim()
    color = {"better": BLUE, "worse": VERMILION}.get(row.shown, BLACK)
    face = "white" if row.moving else color
    if not low <= row.mean <= high:
        left = row.mean < low
        sign = {"color": color, "markerfacecolor": face, "markersize": 7, "clip_on": False, "zorder": 4}
        axis.plot([low if left else high], [i], "<" if left else ">", **sign)
        style: dict[str, Any] = {"fontsize": 8.5, "va": "center", "ha": "left" if left else "right", "color": color}
        at = (7 if left else -7, 0)
        axis.annotate(parts.number(row.mean), (low if left else high, i), at, textcoords="offset points", **style)
        return
    sign = {"": "o", "better": "<", "worse": ">"}[row.shown]
    if higher_is_better:
        sign = {"<": ">", ">": "<"}.get(sign, sign)
    axis.plot([row.low, row.high], [i, i], color=color, linewidth=1.6, zorder=3, solid_capstyle="butt")
    axis.plot([row.mean], [i], sign, color=color, markerfacecolor=face, markersize=5.5 + 2 * (sign != "o"), zorder=4)


def _label(setting: str, note: str, width: int, lines: int) -> str:
    """A name with its note, on `lines` lines of about `width` characters at most (2 at most)."""
    if len(ranking.one_line(setting)) + len(note) < width + 2:
        return parts.text(f"{setting} {note}")
    if lines == 1:
        return parts.text(f"{ranking.shorten(setting, max(width - len(note), 12))} {note}")
    return f"{parts.text(ranking.shorten(setting, width))}\n{note}" if note else parts.wrapped(setting, width)


def _label_rows(axis: "Axes", settings: list[str], labels: list[str], bold: str) -> None:
    axis.set_yticks(range(len(settings)), labels, fontsize=9)
    axis.set_ylim(len(settings) - 0.5, -0.5)
    for tick, setting in zip(axis.get_yticklabels(), settings, strict=True):
        tick.set_fontweight("bold" if setting == bold else "normal")


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
        axis.fill_between(curves[0][key][0], top, bottom, color=BLUE, alpha=0.15, linewidth=0, label="gap T - V")
        for part, (name, color, style) in zip(curves, (LOGITS[field] for field in fields), strict=True):
            _band(axis, *part[key], color, style, edges=True, label=name)
    outside = parts.fit(axes[0].set_ylim, [values for part in curves for _, values in part.values()])
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [name for name in ("training data T", "validation data V", "gap T - V") if name in handles]
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
