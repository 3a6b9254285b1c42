"""At which step does a GAN begin to overfit, and how does that depend on the number of training
images?

    # digits: 100, 200, 400 and all; 5 seeds
    python experiments/overfitting_dynamics.py
    python experiments/overfitting_dynamics.py --data cifar10 --width 64 --batch-size 64 \\
        --sizes 1000 5000 10000 40000 \\
        --steps 100000 --log-every 1000

The article's DCGAN trains on the first n images, nested; all members are one program. With few
images, the samples' distance to the whole data set is known to fall and then to rise (Karras et
al., 2020, StyleGAN2-ADA, figure 1a). Measured over the steps are the Frechet distance (FD) in 32
fixed random features and the energy distance of the pixels, both to the training images T and to
the validation images V. Reported are the step where the distance to V is least, the rise of that
distance from there to the end, tested over seeds, and the overfitting report of each member at the
end; `pictures/dynamics.png` has a panel for each n. The test images S stay closed.

At every n the distances are taken with the same min(512, |V|, smallest n) samples, images of T and
images of V (100 by default), so that panels compare; FD of so few is biased upwards in all alike.
The intervals are over seeds, not over the draw of those images.

Cost: 3 min 41 s of CPU time with the default, the report included; 16 minutes on two cores that
other work kept busy (load 10 to 15; Python 3.12.1, jax 0.12.0.1).

Finding (digits, 6,000 steps, seeds 0 to 4, means with 95 % intervals): FD shows no U. At n = 100 FD
to V is least at step 3,880 +- 1,706 and as large at the end (.098 and .101, rise .003 +- .011); it
stays above FD to T (gap .034 +- .016 at the end), and at 200 and more there is neither a gap above
0 nor a rise. Energy distance to V does rise at n = 100, from .045 at about step 2,140 +- 881 to
.091 (rise .046 +- .029, p .046 by Holm's correction over the four n; .09 over the eight tests of
both distances, and energy was added after a pilot with three of the seeds had shown FD flat). The
one to T rises too, by .034 +- .017 from step 2,200: G gets worse, not only closer to T. At 200 the
rise (.009 +- .010) is not shown. D overfits before that: at n = 100 its AUC is .65 at step 1,000,
and at the end .93 (.79 at 200, .65 at 400, .55 at 1,069). The reports say "discriminator overfits"
of all seeds up to 400 and of one of five at 1,069, else "healthy". G does not copy: 5 % of the
samples are near-copies at n = 100, as of fresh images. The best step says little here: seeds differ
by thousands of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.cli.options import SweepOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few
from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DISTANCES = {"FD": ("G/train_fd", "G/validation_fd"), "energy distance": ("G/train_energy", "G/validation_energy")}  # to T, V
COPIES, AUC = "G/near_copies", "D/train_validation_auc"
SETTING, BEST, END = "DCGAN", "at its best", "at the end"
SIZES = (100, 200, 400)
FEWEST = 20  # images among which near-copies can be counted
EARLY = 0.2  # of the steps, for which no axis is stretched

NOTE = """+-: 95 % Student-t interval over seeds. to V there: each seed at the step where the mean of the others is least.
p: two-sided paired t-test of the rise over seeds, Holm's correction over n. Everything else is at the end."""


@dataclass
class Options(SweepOptions):
    """Follow the distance to training and to held-out images over the steps, for more and more
    training images."""

    sizes: tuple[Count, ...] = ()
    """Numbers of training images, nested; 100, 200, 400 and all when left out."""
    out: Path = Path("runs/dynamics")
    """The sweep folder."""
    steps: Count = 6000
    """Training steps: updates of the generator."""
    width: Few = 16
    """Channels of the widest image layers; deeper layers have multiples."""
    batch_size: Count = 32
    """Images per discriminator turn, at most the smallest size."""
    report: bool = True
    """End in the overfitting report of every member (on V)."""
    log_every: Count = 100
    """Steps between evaluations."""


def sizes_of(options: Options, data: Any) -> tuple[int, ...]:
    """The sizes asked for, fewest first. Raises UserError for one that could not be judged."""
    from gan_jax.report.controls import sets_of

    count = len(data.train)
    sizes = tuple(sorted(options.sizes)) or (*(n for n in SIZES if n < count), count)
    if sizes[0] < FEWEST:
        raise UserError(f"--sizes has {sizes[0]}: near-copies are counted among at least {FEWEST} training images")
    if options.report:
        sets_of(data.subset(sizes[0]), final=False)  # refuses what the report could not judge, before anything is trained
    return sizes


# ---- what is measured --------------------------------------------------------------------------


def least(curves: np.ndarray) -> int | None:
    """The place of the smallest mean over seeds of [seeds, steps], without those that diverged;
    None where none is left."""
    alive = curves[np.isfinite(curves).all(1)]
    return int(alive.mean(0).argmin()) if len(alive) else None


def ends(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric at its least and at the end, for each n and seed, as two settings of a table for
    `gan.ranking.rank`.

    The least of many noisy values lies below the last one by chance alone. So each seed is read at
    the step where the mean of the other seeds is least (its own, where it is alone): where nothing
    rises, the expected difference is at most 0.
    """
    import pandas as pd

    from gan_jax.metrics import ranking

    rows = []
    for (_, n), (_, curves) in ranking.histories(table, metric).items():
        for seed, curve in enumerate(curves):
            at = least(np.delete(curves, seed, 0) if len(curves) > 1 else curves)
            for name, value in {BEST: math.nan if at is None else curve[at], END: curve[-1]}.items():
                rows.append((name, seed, n, 0, not math.isfinite(curve[-1]), value))
    return pd.DataFrame(rows, columns=["setting", "seed", "n", "step", "diverged", metric])


def best_steps(table: pd.DataFrame, metric: str) -> dict[int, list[int]]:
    """{n, fewest first: the step where each seed's metric is least}, without seeds that have no
    value."""
    from gan_jax.metrics import ranking

    curves = {n: found for (_, n), found in ranking.histories(table, metric).items()}
    return {n: [int(steps[np.nanargmin(c)]) for c in cs if np.isfinite(c).any()] for n, (steps, cs) in sorted(curves.items())}


def summary(table: pd.DataFrame, distance: str) -> list[dict[str, Any]]:
    """For each n, means over seeds with half of their 95 % interval: the step where the distance to
    V is least, the distance there and at the end, its rise (p of a paired t-test, Holm's correction
    over n); at the end: distance to T, D's AUC, copies.
    """
    from gan_jax.metrics import ranking

    train, held_out = DISTANCES[distance]
    compared = ranking.rank(ends(table, held_out), held_out, baseline=BEST).to_dict("records")
    last = lambda metric, n: mean_and_half(ranking.histories(table, metric)[SETTING, n][1][:, -1])
    found = []
    for n, steps in best_steps(table, held_out).items():
        best, end = (next(row for row in compared if (row["setting"], row["n"]) == (name, n)) for name in (BEST, END))
        found.append({
            "n": n, "best step": mean_and_half(steps), "to V there": (best["mean"], best["high"] - best["mean"]),
            "at the end": (end["mean"], end["high"] - end["mean"]),
            "rise": (end["difference"], end["difference_high"] - end["difference"]), "p": end["p_holm"],
            "to T": last(train, n), "AUC of D": last(AUC, n), "near-copies": last(COPIES, n), "verdict": end["verdict"],
        })  # fmt: skip
    return found


def mean_and_half(values: Any) -> tuple[float, float]:
    """The mean over seeds and half of its 95 % interval (NaN for one seed)."""
    from gan_jax.metrics import ranking

    mean, _, high = ranking.mean_interval(np.asarray(values, np.float64))
    return float(mean), float(high - mean)


# ---- what is shown -----------------------------------------------------------------------------


def summary_text(found: list[dict[str, Any]], distance: str) -> str:
    """The summary as a table for a terminal, and what was shown as its last line."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    forms = {"best step": ".0f", "AUC of D": ".2f", "near-copies": ".1%"}
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in found[0]:
        if name != "verdict":
            shown.add_column(name, justify="right", no_wrap=True)
    for row in found:
        cells = {name: plus_minus(v, forms.get(name, ".3f")) if isinstance(v, tuple) else str(v) for name, v in row.items()}
        cells["p"] = "" if math.isnan(row["p"]) else "<.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
        shown.add_row(*(text for name, text in cells.items() if name != "verdict"))
    console = Console(file=(out := io.StringIO()), width=140, color_system=None, force_terminal=False)
    console.print(Text(f"{distance}: when the one to V is least, and whether it rises from there\n"), shown)
    return "\n".join(line.rstrip() for line in [*out.getvalue().splitlines(), finding(found, distance)])


def finding(found: list[dict[str, Any]], distance: str) -> str:
    """At which n a rise was shown, in a sentence."""
    tested = sum(not math.isnan(row["p"]) for row in found)
    if not tested:
        return f"Finding, {distance}: nothing was tested; it takes 5 seeds that have not diverged."
    rising = [f"{row['n']}{' (among survivors)' * row['verdict'].endswith('survivors')}" for row in found
              if row["verdict"].startswith("worse")]  # fmt: skip
    shown = f"it rises again at n = {', '.join(rising)}" if rising else "no rise is shown at any n"
    return f"Finding, {distance} to V: {shown} (Holm's correction over {tested} tests)."


def verdicts(table: pd.DataFrame) -> str:
    """How many seeds got which verdict of the overfitting report, a line for each n."""
    lines = []
    for n, part in table.groupby("n"):
        counts = part["verdict"].value_counts()
        lines.append(f"n = {n}: " + ", ".join(f"{verdict} in {count}" for verdict, count in counts.items()))
    return "\n".join(["verdicts of the reports at the end, in seeds", *lines])


def plus_minus(value: tuple[float, float], form: str) -> str:
    mean, half = value
    return "" if math.isnan(mean) else f"{mean:{form}}" + ("" if math.isnan(half) else f" +- {half:{form}}")


def dynamics_figure(table: pd.DataFrame) -> Figure:
    """A row of panels for each distance, a panel for each n: to T and to V over the steps, and
    where the one to V is least."""
    from gan_jax.plots import figures

    sizes = sorted(int(n) for n in table["n"].unique())
    size = (1.4 + 2.7 * len(sizes), 1.4 + 2.5 * len(DISTANCES))
    figure, axes = figures.new(len(sizes) * len(DISTANCES), size, len(sizes), sharey="row")
    for i, (distance, metrics) in enumerate(DISTANCES.items()):
        row = axes[i * len(sizes) : (i + 1) * len(sizes)]
        for axis, n in zip(row, sizes, strict=True):
            draw_panel(axis, table, n, metrics)
            axis.set_title(f"{distance}, n = {n}", fontsize=10, loc="left")
        row[0].set_ylim(*limits(table, metrics))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    figure.supxlabel("step (updates of G)\nlines: means over seeds; bands: their 95 % intervals", fontsize=9)
    return figure


def draw_panel(axis: Axes, table: pd.DataFrame, n: int, metrics: tuple[str, str]) -> None:
    from gan_jax.metrics import ranking
    from gan_jax.plots import figures, parts

    styles = (("to training data T", figures.BLUE, "-"), ("to validation data V", figures.ORANGE, "--"))
    for metric, (label, color, style) in zip(metrics, styles, strict=True):
        steps, curves = ranking.histories(table, metric)[SETTING, n]
        mean, low, high = ranking.mean_interval(curves)
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        parts.line(axis, steps, mean, color, style, 1.7, label=label)
    if best := best_steps(table, metrics[1])[n]:
        label = "step where V's is least (ticks: seeds)"
        axis.axvline(float(np.mean(best)), color=parts.VERMILION, linewidth=1.3, linestyle=":", label=label)
        foot = axis.get_xaxis_transform()
        axis.plot(best, np.full(len(best), 0.03), "|", color=parts.VERMILION, markersize=9, transform=foot)
    axis.grid(axis="y", color=parts.PALE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.locator_params(axis="x", nbins=4)


def limits(table: pd.DataFrame, metrics: tuple[str, str]) -> tuple[float, float]:
    """Of the axis: what means and intervals need after the first steps, in which every distance
    falls from far above."""
    from gan_jax.metrics import ranking
    from gan_jax.plots import parts

    late: Any = table[table["step"] > EARLY * table["step"].max()]
    found = [ranking.mean_interval(curves) for metric in metrics for _, curves in ranking.histories(late, metric).values()]
    return parts.limits([mean for mean, *_ in found], [edge for _, *edges in found for edge in edges])


def main(options: Options) -> int:
    options.prepare()
    from gan_jax import recipes
    from gan_jax.plots import figures
    from gan_jax.report.sweeps import sweep_report

    data = options.load()
    options.sizes = sizes_of(options, data)
    recipe = recipes.for_data(data.image_shape, width=options.width, batch_size=options.batch_size)
    rank_by = DISTANCES["FD"][1]
    swept = options.run({SETTING: recipe}, data, steps=options.steps, rank_by=rank_by, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    picture = figures.save(options.out / "pictures" / "dynamics.png", dynamics_figure(swept.table))
    for distance in DISTANCES:
        print(f"{summary_text(summary(swept.table, distance), distance)}\n")
    print(NOTE)
    if options.report:
        report = sweep_report(swept, n=min(options.sizes[0], len(data.validation) // 2))
        print(f"{verdicts(report.table)}\nreport: {report.save(options.out)}")
    print(f"picture: {picture}    table: {options.out}/table.csv")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
