"""How a sweep's settings went: a metric over the steps, a panel for each setting (see
`gan_jax.plots.sweeps`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.figures import BLACK, BLUE, ORANGE
from gan_jax.plots.parts import GREY, MARK, PALE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = 4  # small multiples in a row


def seed_bands(
    path: Path | str,
    table: pd.DataFrame,
    metric: str,
    label: str,
    reference: float | None = None,
    baseline: str | None = None,
) -> Path:
    """A metric over the steps, one panel per setting with the same axes: mean over seeds (line),
    its 95 % interval (band), the seeds (thin lines), and the baseline's mean in grey. Raises
    UserError as `ranking.check`."""
    ranking.check(table, metric)
    baseline = ranking.baseline_of(table, baseline)
    curves = ranking.histories(table, metric)
    figure, axes = _multiples(table, list(curves), baseline)
    for axis, ((setting, n), (steps, values)) in zip(axes, curves.items(), strict=True):
        if reference is not None:
            axis.axhline(reference, color=MARK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.9)
        if setting != baseline and (baseline, n) in curves:
            base_steps, base = curves[baseline, n]
            parts.line(axis, base_steps, ranking.mean_interval(base)[0], GREY, "-", 1.6)
        _band(axis, steps, values, BLACK if setting == baseline else BLUE, "-", seeds=True)
    everything = [values for _, values in curves.values()]
    bands = [edge for values in everything for edge in ranking.mean_interval(values)[1:]]
    axes[0].set_ylim(*parts.limits(everything, bands, reference))
    outside = parts.outside(everything, axes[0].get_ylim())
    figure.supylabel(parts.text(label), fontsize=10)
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
    """A metric on training data T and on validation data V over the steps, one panel per setting
    with the same axes.

    Lines are means over seeds, thin ones the ends of their 95 % intervals; the area between T and V
    is shaded.

    Raises:
        UserError: as `ranking.check`, and where the file cannot be written.
    """
    ranking.check(table, train, validation)
    curves = ranking.histories(table, train), ranking.histories(table, validation)
    figure, axes = _multiples(table, list(curves[0]), None)
    shown = ("training data T", BLUE, "-"), ("validation data V", ORANGE, "--")
    for axis, key in zip(axes, curves[0], strict=True):
        top, bottom = (ranking.mean_interval(part[key][1])[0] for part in curves)
        axis.fill_between(curves[0][key][0], top, bottom, color=BLUE, alpha=0.15, linewidth=0, label="gap T - V")
        for part, (name, color, style) in zip(curves, shown, strict=True):
            _band(axis, *part[key], color, style, edges=True, label=name)
    everything = [values for part in curves for _, values in part.values()]
    bands = [edge for values in everything for edge in ranking.mean_interval(values)[1:]]
    axes[0].set_ylim(*parts.limits(everything, bands))
    outside = parts.outside(everything, axes[0].get_ylim())
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [name for name in ("training data T", "validation data V", "gap T - V") if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside upper right", ncols=3, frameon=False)
    figure.supylabel(parts.text(label), fontsize=10)
    figure.supxlabel(f"step\nlines: means over seeds; thin: ends of their 95 % intervals{outside}", fontsize=9)
    return figures.save(Path(path), figure)


def _multiples(table: pd.DataFrame, keys: list[tuple[str, int]], baseline: str | None):
    """A figure with a titled panel for each setting and n, all with the same axes."""
    seeds = table.groupby(["setting", "n", "seed"], as_index=False)["diverged"].any()
    found = {key: seeds[(seeds["setting"] == key[0]) & (seeds["n"] == key[1])]["diverged"] for key in keys}
    columns = min(COLUMNS, len(keys))
    rows = -(-len(keys) // columns)
    figure, axes = figures.new(len(keys), (1.2 + 2.9 * columns, 1.3 + 2.1 * rows), columns, sharey=True)
    for i, (axis, key) in enumerate(zip(axes, keys, strict=True)):
        setting, n = key
        several = len({size for _, size in keys}) > 1
        notes = (
            [f"n = {n}"] * several
            + ["baseline"] * (setting == baseline)
            + [f"{found[key].sum()} of {len(found[key])} diverged"] * bool(found[key].any())
        )
        axis.set_title(parts.wrapped(setting, 32) + (f"\n({', '.join(notes)})" if notes else ""), fontsize=9, loc="left")
        axis.grid(axis="y", color=PALE, linewidth=0.6)
        axis.set_axisbelow(True)
        if i + columns >= len(keys):  # the lowest panel of its column, also where the last row is short
            axis.tick_params(labelbottom=True)
        axis.locator_params(axis="x", nbins=4)
    if len(ranking.steps_of(table)) == 1:
        axes[0].set_xticks(ranking.steps_of(table))
    return figure, axes


def _band(
    axis: Axes, steps, values, color: str, style: str, *, seeds: bool = False, edges: bool = False, label: str | None = None
) -> None:
    """The mean of [seeds, steps], its interval (filled, or only its edges), and if asked for each
    seed in a thin line."""
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
