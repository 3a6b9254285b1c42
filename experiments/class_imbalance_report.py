"""How the numbers of the classes are shown: the report of `class_imbalance.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINE = "none"
QUESTIONS = {"rare_coverage": "coverage of the rare third", "balanced_accuracy": "balanced accuracy, real + generated"}
OTHERS = {"rare_recall": "its recall of the rare third", "rare_near_copies": "near-copies of the rare third",
          "rare_fd": "FD of the rare third", "coverage": "coverage", "fd": "FD", "near_copies": "near-copies"}  # fmt: skip
SHOWN = {
    "coverage": "coverage",
    "fd": "FD",
    "near_copies": "near-copies",
    "recall": "recall of the classifier, real + generated",
}
THIRDS = ("frequent", "middle", "rare")
NOTE = "Chosen on V only; S stays closed until the choice is made"  # at the foot of every ranking


def ranked(table: Any, number: str) -> Any:
    from gan_jax.metrics import ranking

    lower = number.endswith(("fd", "near_copies"))
    return ranking.rank(table, number, baseline=BASELINE, higher_is_better=not lower)


def classes_text(classes: Any, counts: np.ndarray) -> str:
    """For each number a table: a row for each setting, a column for each class, the most frequent
    first; means over seeds."""
    parts = []
    for number, title in SHOWN.items():
        table = classes.pivot_table(index="setting", columns="label", values=number, sort=False, dropna=False)
        table = table.reindex(columns=np.argsort(-counts, kind="stable"))
        table.columns = [f"{c} (n={counts[c]})" for c in table.columns]
        text = table.to_string(float_format=lambda x: f"{x:.2f}", na_rep="-", index_names=False)
        parts.append(f"{title}, by class (images in T), means over seeds\n\n{text}")
    notes = dict.fromkeys(f"class {row.label}: {row.note}" for row in classes.itertuples() if row.note)
    return "\n\n".join(parts + (["not judged: " + "; ".join(notes)] if notes else []))


def thirds_text(classes: Any, counts: np.ndarray) -> str:
    """A row for each setting: the numbers of the frequent, the middle and the rare third of the
    classes, means over seeds."""
    from gan_jax.data.imbalance import thirds

    parts = dict(zip(THIRDS, thirds(counts), strict=True))
    third = {label: name for name, part in parts.items() for label in part}
    numbers = [number for number in SHOWN if number != "recall"]
    table = classes.assign(third=classes["label"].map(third)).pivot_table(
        index="setting", columns="third", values=numbers, sort=False
    )
    table = table.reindex(columns=[(number, name) for number in numbers for name, part in parts.items() if len(part)])
    table = table.rename(columns=SHOWN).rename_axis(columns=(None, None), index=None)
    shown = ", ".join(f"{name} {', '.join(map(str, part))}" for name, part in parts.items() if len(part))
    text = table.to_string(float_format=lambda x: f"{x:.3f}", na_rep="-")
    return f"by thirds of the classes ({shown}), means over seeds\n\n{text}"


def without_text(data: Any, held_out: Any, seeds: Sequence[int]) -> str:
    """What a classifier gains without a GAN: balanced accuracy and recall of the rare third, means
    over seeds of the draws."""
    from gan_jax.data import class_counts
    from gan_jax.data.imbalance import thirds
    from gan_jax.metrics.per_class import without_generator
    from gan_jax.metrics.ranking import mean_interval

    rare, found = thirds(class_counts(data.train.labels, data.classes))[2], {}
    for seed in seeds:
        for name, useful in without_generator(data, held_out, seed).items():
            found.setdefault(name, []).append(useful)
    lines = [f"{'without a GAN':<20}balanced accuracy   rare third's recall"]
    for name, values in found.items():
        if isinstance(values[0], str):
            lines.append(f"{name:<20}{values[0]}")
            continue
        pairs = [[v["balanced_accuracy"] for v in values], [np.nanmean(v["recalls"][rare]) for v in values]]
        cells = [(mean, high - mean) for mean, _, high in map(mean_interval, pairs)]
        texts = [f"{mean:.3f}" + (f" +- {half:.3f}" if half > 0 else "") for mean, half in cells]
        lines.append(f"{name:<20}{texts[0]:<20}{texts[1]}")
    return "\n".join(lines)


def figure_of(classes: Any, counts: np.ndarray) -> Figure:
    """The four numbers by class, the most frequent first: a line for each setting, none in
    black."""
    from gan_jax.plots import figures

    order = np.argsort(-counts, kind="stable")
    colors = [figures.BLUE, figures.ORANGE, figures.GREEN, figures.PINK, "#56B4E9", "#D55E00"]
    figure, axes = figures.new(len(SHOWN), (10, 6.5), 2)
    for axis, (number, title) in zip(axes, SHOWN.items(), strict=True):
        means = classes.groupby(["setting", "label"], sort=False)[number].mean()
        for i, setting in enumerate(dict.fromkeys(classes["setting"])):
            base = setting == BASELINE
            values = [means.get((setting, c), math.nan) for c in order]
            style = {"color": figures.BLACK, "linewidth": 2} if base else {"color": colors[i % 6], "linewidth": 1}
            axis.plot(range(len(order)), values, "-" if base or i <= 6 else "--", label=setting, **style)
        if number == "coverage":
            expected = classes["expected"].mean()
            axis.axhline(expected, color=figures.BLACK, linestyle=":", linewidth=1, label="independent real data")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xticks(range(len(order)), [f"{c}\n{counts[c]}" for c in order], fontsize=8)
    axes[-2].set_xlabel("class, and its training images")
    axes[-1].set_xlabel("class, and its training images")
    axes[0].legend(frameon=False, fontsize=7, ncols=2)
    return figure


def report(table: Any, classes: Any, counts: np.ndarray) -> str:
    """The two questions, the other numbers and the classes as text."""
    from gan_jax.metrics.ranking import ranking_text

    parts = [f"{title}\n\n{ranking_text(ranked(table, number), number)}" for number, title in QUESTIONS.items()]
    means = table.groupby("setting", sort=False)[list(OTHERS)].mean().rename(columns=OTHERS)
    means.index.name = None
    parts.append(f"other numbers, means over seeds; nothing is tested\n\n{means.to_string(float_format=lambda x: f'{x:.3f}')}")
    return "\n\n".join([*parts, thirds_text(classes, counts), classes_text(classes, counts)] if len(classes) else parts)
