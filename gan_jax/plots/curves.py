"""The curves of one training run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.plots import figures, parts
from gan_jax.plots.figures import BLACK, BLUE, GREEN, ORANGE, PINK
from gan_jax.plots.parts import MARK, as_float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# For each metric the label, the colour and the style of its curve.
LOSSES = {"discriminator/loss": ("discriminator", BLACK, "-"), "generator/loss": ("generator", PINK, "-")}
SETS = {
    "train": ("training data T", BLUE, "-"),
    "validation": ("validation data V", ORANGE, "--"),
    "fake": ("fakes", GREEN, "-."),
}
LOGITS = {f"D/{name}_logit": style for name, style in SETS.items()}
ACCURACIES = {f"D/{name}_accuracy": style for name, style in SETS.items()}


def training_curves(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """`curves_figure` as a PNG. Raises UserError as that does, and where the file cannot be
    written."""
    return figures.save(path, curves_figure(rows))


def curves_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Losses of both players, and mean logits and accuracies of the discriminator D on training
    data T, validation data V and fakes, over the steps.

    The area between T and V is shaded: by that much D knows its training images better than others.

    rows: dicts with "step" and any of "discriminator/loss", "generator/loss",
        "D/{train,validation,fake}_logit" and "D/{train,validation,fake}_accuracy" (in [0, 1]), in
        any order. What is missing or not finite is skipped.

    Raises UserError where there are no rows, or a row has no step.
    """
    steps = [as_float(row.get("step")) for row in rows]
    if not steps or not all(map(math.isfinite, steps)):
        raise UserError(f"training curves want rows that have a step; got {len(steps)} rows")
    rows = [rows[i] for i in np.argsort(steps, kind="stable")]
    figure, (losses, logits, accuracies) = figures.new(3, (9, 9.5))
    panel(losses, rows, LOSSES)
    losses.set(title="Losses", ylabel="loss (as trained)")
    panel(logits, rows, LOGITS, neutral=0)
    logits.set(title="What D says (above 0: real)", ylabel="mean logit (nats)")
    panel(accuracies, rows, ACCURACIES, neutral=0.5)
    accuracies.set(title="How often D is right (0.5: guessing)", ylabel="accuracy (share of examples)", ylim=(-0.03, 1.03))
    if len(set(steps)) == 1:
        accuracies.set_xticks(steps[:1])
    accuracies.set_xlabel("step (updates of the generator)")
    return figure


def panel(
    axes: "Axes", rows: Sequence[Mapping[str, Any]], fields: dict[str, tuple[str, str, str]], neutral: float | None = None
) -> None:
    """One panel: a curve for each field, the gap between T and V, and a line at the neutral value.

    rows: each with a step; fields: {metric: (label, colour, style)}."""
    drawn = {}
    for field, (label, color, style) in fields.items():
        recorded = {float(row["step"]): as_float(row[field]) for row in rows if row.get(field) is not None}
        drawn[field] = {step: y for step, y in recorded.items() if math.isfinite(y)}
        if drawn[field]:
            lost = min(recorded.keys() - drawn[field].keys(), default=-1)
            broke = f"\n(not finite from step {lost:g})" if lost > max(drawn[field]) else ""
            _curve(axes, drawn[field], color, style, label + broke)
    train, validation = (next((drawn[f] for f in drawn if f"/{name}_" in f), {}) for name in ("train", "validation"))
    both = [step for step in train if step in validation]
    if len(both) > 1:
        gap = [train[s] for s in both], [validation[s] for s in both]
        axes.fill_between(both, *gap, color=BLUE, alpha=0.15, linewidth=0, label="gap between T and V")
    if not any(drawn.values()):
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=MARK)
        return
    parts.grid(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    if neutral is not None:
        axes.axhline(neutral, color="#999999", linewidth=0.9, zorder=0.9)


def _curve(axes: "Axes", points: dict[float, float], color: str, style: str, label: str) -> None:
    """The points joined; where there are many, their running mean over a pale line of them all."""
    xs, ys = np.array(list(points)), np.array(list(points.values()))
    window = len(ys) // 50
    if window < 4:
        marker = "o" if len(ys) < 40 else ""
        axes.plot(xs, ys, style, color=color, label=label, linewidth=1.4, marker=marker, markersize=3)
        return
    axes.plot(xs, ys, "-", color=color, alpha=0.25, linewidth=0.6)
    means = np.convolve(ys, np.full(window, 1 / window), "valid")
    axes.plot(xs[window // 2 :][: len(means)], means, style, color=color, linewidth=1.6, label=f"{label}, mean of {window}")
