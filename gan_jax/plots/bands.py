"""A sweep's metric over the steps, a panel for each setting (see `gan_jax.plots.sweeps`)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.metrics import ranking
from gan_jax.plots import figures, parts
from gan_jax.plots.curves import LOGITS
from gan_jax.plots.figures import BLACK, BLUE
from gan_jax.plots.parts import GREY, MARK

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = 4  # panels in a row


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
