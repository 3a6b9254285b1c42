"""Which knob is best in closed loop, and does the loop beat the best fixed value?

    # digits, 6 knobs, 25 settings x 5 seeds
    python experiments/adaptive.py
    python experiments/adaptive.py --only dropout augmentation --statistic D/r_v
    python experiments/adaptive.py --data mnist --size 16 --subset 500 \\
        --only augmentation dropout noise --crossing 0.1
    # 5,000 CIFAR-10 images, 100,000 steps: a GPU
    python experiments/adaptive.py --published

Each knob (see `KNOBS`) is held at three values, and driven: up while D tells training images T from
held-out images V better than the target allows, down while worse. A held value is a loop of gain 0,
so that a knob's settings are one program. Ends in the overfitting report; in a table for each of
its numbers, of the loop against the best fixed value of its knob (leaving the knob out is one of
them), paired over seeds, Holm's correction over knobs; and in `pictures/loops.png`, the live
values.

The best fixed value is chosen on V, by `--choose-by`, among those whose samples are at most a
quarter farther from V than the baseline's: for each seed by the other seeds, for the least of
several means is too good by chance on the seeds that chose it. The loop needs none of these trials,
but it measures on V while it trains: `--final` opens S for the report's choice.

Cost: 13 min 53 s of CPU time with the default, reports of 125 runs included; 38 minutes on two
cores that other work kept busy (load 10 to 17; Python 3.12.1, jax 0.12.0.1).

Finding (digits, n = 200, 2,000 steps, seeds 0 to 4; means with 95 % intervals, Holm over six knobs
unless said): no loop is shown to beat the best fixed value of its knob in the gap of FD, by which
that is chosen (between -.88 +- .90, rate, p .27, and +1.54 +- 1.04, R1, p .09), nor in FD to V,
where R1's is worse (+3.9 +- 2.1, p .038). In D's AUC dropout's loop is lower (-.065 +- .034, p
.035), but by that rule its best fixed value is none at all. No loop reached .55: they begin to move
at step 1,000 and still climb at the end (p .26, dropout .24, noise .23), with an AUC of .587, .594
and .629 against .659 +- .025 without (Holm over all 24 settings: p .055, .088, .58); the report
says "discriminator overfits" of every seed of every loop. Faster ones (--crossing, --gain) were not
tried. LeCam and R1 do not lower the AUC here, fixed (LeCam 3: .789, p .006 for worse) or driven, so
their loops only climb. Fixed p = .5, dropout .15 and .3 and noise .4 do lower it (.532 to .586, p
.006 to .026 over 24); so do p = 1, dropout .6 and an eighth of D's rate, at a price: FD to V 33.9,
31.5 and 72.9 against 23.6. Chosen by the AUC instead (an afterthought, the same runs), the loops of
augmentation and noise have samples nearer to V than their best fixed values (FD -3.4 +- 2.0 and
-2.0 +- 1.1, p .046 and .041), since they did less: noise's AUC is higher by .072 (p .032). The
report's choice is R1 at 10 (gap 1.35 against 2.79, FD to V 19.5), not shown better than none (p .45
and .10 over 24). S was not opened; --published was not run.

Finding (MNIST at side 16, n = 500, 2,000 steps, --crossing .1, three knobs, Holm over them; 12 min
52 s of CPU time, reports of 65 runs included): by the gap of FD, again no loop is shown to beat the
best fixed value of its knob (augmentation -.02 +- .30, p .88; dropout +.17 +- .41, p .64; noise
-.11 +- .17, p .44), nor in FD to V. In D's AUC augmentation's loop is shown worse (.562 against
.551 at p = .25; p .047): D begins to overfit only at the end here (.562 without a knob, target
.55), so that the loops have just begun to move (.03 to .04), and do no harm either. Fixed dropout
.6 (.514) and noise .4 (.530) are shown to lower the AUC (p .031 and .042 over 12), at no shown
price in FD (+4.9 +- 2.7, p .075; +2.6 +- 1.3, p .053).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from gan_jax.cli.options import RemedyOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Finite, Share, Weight
from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE, LOOP, FIXED = "none", "loop", "best fixed"
TARGETS = {"D/train_validation_auc": 0.55, "D/r_v": 0.5, "discriminator/real_sign": 0.6}  # ADA's for the last two
NUMBERS = {"fd_gap": "FD to V - FD to T", "d_auc": "D tells T from V (AUC)", "fd": "FD to V"}  # of the report: less is better
NOTE = """+-: 95 % Student-t interval over seeds. The fixed value is chosen for each seed by the others; the one named, by all.
p: two-sided paired t-test of loop - fixed, Holm's correction over knobs."""


class Knob(NamedTuple):
    """A number of the recipe, the values at which it is held, and how a loop may move it. Loops
    start where it is weakest."""

    path: str
    fixed: tuple[float, ...]
    low: float
    high: float
    log: bool = False
    lowers: bool = True

    @property
    def start(self) -> float:
        return self.low if self.lowers else self.high


KNOBS = {
    "augmentation": Knob("augment.diffaugment.p", (0.25, 0.5, 1.0), 0.0, 1.0),
    "dropout": Knob("discriminator.numbers.dropout", (0.15, 0.3, 0.6), 0.0, 0.8),
    "noise": Knob("augment.noise.std", (0.1, 0.2, 0.4), 0.0, 0.6),
    "lecam": Knob("discriminator.penalties.lecam.weight", (0.03, 0.3, 3.0), 0.003, 3.0, log=True),
    "r1": Knob("discriminator.penalties.r1.gamma", (0.1, 1.0, 10.0), 0.01, 10.0, log=True),
    "rate": Knob("discriminator.optimizer.learning_rate", (2.5e-5, 5e-5, 1e-4), 1e-5, 2e-4, log=True, lowers=False),
}


@dataclass
class Options(RemedyOptions):
    """Hold knobs of the discriminator's regularisation, or drive them by what is measured on V."""

    statistic: Literal["D/train_validation_auc", "D/r_v", "discriminator/real_sign"] = "D/train_validation_auc"
    """What the loops follow."""
    target: Finite | None = None
    """Where they bring it; .55, .5 and .6 when left out."""
    gain: Weight = 10.0
    """Of the loops: at this much above the target, inverted, a knob moves at full speed."""
    crossing: Share = 0.5
    """Share of the run in which a knob would cross its range at full speed."""
    choose_by: Literal["fd_gap", "d_auc", "fd"] = "fd_gap"
    """Number of the report by which fixed values are chosen."""
    only: tuple[str, ...] = ()
    """These knobs: augmentation, dropout, noise, lecam, r1, rate; all when left out."""
    out: Path = Path("runs/adaptive")
    """The sweep folder."""
    steps: Count = 2000
    """Training steps: updates of the generator."""
    batch_size: Count = 32
    """Images per discriminator turn."""
    log_every: Count = 50
    """Steps between evaluations: after each one, loops move."""

    PUBLISHED: ClassVar[dict[str, Any]] = RemedyOptions.PUBLISHED | {"batch_size": 64, "log_every": 500}

    @property
    def goal(self) -> float:
        return TARGETS[self.statistic] if self.target is None else self.target


def settings_of(options: Options, knobs: dict[str, Knob], image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{"none", "dropout 0.3", "dropout loop": recipe, ...}. Raises UserError for what is no
    image."""
    import gan_jax as gan

    if len(image_shape) != 3:
        raise UserError(f"one of the knobs is of images, not of rows {image_shape}: use --data digits or other images")
    base = gan.recipes.dcgan(image_shape, width=options.width, batch_size=options.batch_size)
    made = {BASELINE: base}
    for name, knob in knobs.items():
        for value, gain in (*((v, 0.0) for v in knob.fixed), (knob.start, options.gain)):
            controllers = {knob.path: controller(options, knob, gain)}
            made[named(name, value if not gain else LOOP)] = turned(base, name, value).replace(controllers=controllers)
    return made


def named(knob: str, value: float | str) -> str:
    return f"{knob} {value}" if isinstance(value, str) else f"{knob} {value:g}"


def turned(base: Any, knob: str, value: float) -> Any:
    """The recipe with the knob at this value."""
    import gan_jax as gan
    from gan_jax import augment, recipes
    from gan_jax.core.bind import with_leaves

    if knob == "rate":
        return with_leaves(base, {KNOBS[knob].path: value})
    match knob:
        case "augmentation":
            return recipes.with_fields(base, augment=augment.diffaugment("translation,cutout", value))
        case "dropout":
            return recipes.with_side(base, numbers={"dropout": value})
        case "noise":
            return recipes.with_fields(base, augment={"noise": gan.bind(augment.instance_noise, std=value)})
        case "lecam":
            return recipes.with_penalty(base, "lecam", weight=value, start=0.0)
        case "r1":
            return recipes.with_penalty(base, "r1", gamma=value)
    raise ValueError(f"unknown knob {knob!r}")


def controller(options: Options, knob: Knob, gain: float) -> Any:
    import gan_jax as gan
    from gan_jax import controllers

    rule = gan.bind(controllers.proportional, gain=gain)
    horizon = options.crossing * options.steps * options.batch_size
    limits = {"low": knob.low, "high": knob.high, "log": knob.log, "lowers": knob.lowers}
    return controllers.drive(options.statistic, options.goal, horizon=horizon, rule=rule, **limits)


# ---- the loop against the best fixed value -----------------------------------------------------


def chosen(values: pd.DataFrame, prices: pd.DataFrame, candidates: list[str]) -> str:
    """The candidate of least mean over seeds [seeds, settings], of those without a lost seed that
    are not too dear in FD."""
    from gan_jax.metrics.choice import PRICE

    price, mean = (part.mean(skipna=False).to_dict() for part in (prices, values))
    kept = [c for c in candidates if math.isfinite(mean[c]) and price[c] <= (1 + PRICE) * price[BASELINE]]
    return min(kept, key=lambda c: mean[c]) if kept else BASELINE


def comparison(table: pd.DataFrame, knobs: dict[str, Knob], choose_by: str, number: str) -> pd.DataFrame:
    """A row for each knob: its best fixed value, a number of the report there and in the loop, and
    the test between them.

    table: of the report. Columns: knob, fixed (the choice of all seeds together), at_fixed and
    at_loop [seeds], and of `gan.ranking.rank` what it says of their differences, to be compared
    with 0.
    """
    import pandas as pd

    from gan_jax.metrics import ranking

    each = lambda key: table.pivot(index="seed", columns="setting", values=key)
    values, prices, shown = each(choose_by), each("fd"), each(number)
    rows, differences = {}, [(FIXED, seed, 0, 0, False, 0.0) for seed in shown.index]
    for name, knob in knobs.items():
        candidates = [BASELINE, *(named(name, value) for value in knob.fixed)]
        others = lambda part, seed: part.drop(index=seed) if len(part) > 1 else part
        choices = {seed: chosen(others(values, seed), others(prices, seed), candidates) for seed in shown.index}
        fixed = [shown.loc[seed, setting] for seed, setting in choices.items()]
        loop = shown[named(name, LOOP)].tolist()
        rows[name] = {"fixed": chosen(values, prices, candidates), "at_fixed": fixed, "at_loop": loop}
        for seed, a, b in zip(shown.index, fixed, loop, strict=True):
            differences.append((name, seed, 0, 0, not math.isfinite(b - a), b - a))
    made = pd.DataFrame(differences, columns=["setting", "seed", "n", "step", "diverged", "difference"])
    ranked = ranking.rank(made, "difference", baseline=FIXED).set_index("setting")
    return pd.DataFrame([{"knob": name} | row | ranked.loc[name].to_dict() for name, row in rows.items()])


def plus_minus(values: Any, form: str) -> str:
    """Mean over seeds with half of its 95 % interval."""
    from gan_jax.metrics.ranking import mean_interval

    mean, _, high = map(float, mean_interval(values))
    return "-" if math.isnan(mean) else f"{mean:{form}}" + ("" if math.isnan(high) else f" +- {high - mean:{form}}")


def comparison_text(rows: pd.DataFrame, live: dict[str, Any], number: str) -> str:
    """The comparison as a table for a terminal; live: {knob: its value at the end [seeds]}."""
    import pandas as pd

    form = ".3f" if number == "d_auc" else ".2f"
    shown = []
    for row in rows.to_dict("records"):
        p = row["p_holm"]
        shown.append({
            "knob": row["knob"], FIXED: row["fixed"], "there": plus_minus(row["at_fixed"], form),
            "in the loop": plus_minus(row["at_loop"], form), "loop's value": plus_minus(live[row["knob"]], ".2g"),
            "difference": plus_minus([b - a for a, b in zip(row["at_fixed"], row["at_loop"], strict=True)], form),
            "p": "" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}", "": row["verdict"],
        })  # fmt: skip
    return f"{NUMBERS[number]}: the loop against the best fixed value\n\n{pd.DataFrame(shown).to_string(index=False)}"


def finding(rows: pd.DataFrame, number: str) -> str:
    """Where the loop was shown to differ, in a sentence."""
    tested = sum(not math.isnan(p) for p in rows["p_holm"].tolist())
    if not tested:
        return f"Finding, {NUMBERS[number]}: nothing was tested; it takes 5 seeds that have not diverged."
    shown = list(zip(rows["knob"].tolist(), rows["verdict"].tolist(), strict=True))
    where = lambda word: ", ".join(knob for knob, verdict in shown if verdict.startswith(word)) or "no knob"
    return f"Finding, {NUMBERS[number]}: the loop is shown lower than the best fixed value for {where('better')}, " + (
        f"higher for {where('worse')} (Holm's correction over {tested} knobs)."
    )


# ---- the picture -------------------------------------------------------------------------------


def loops_figure(table: pd.DataFrame, knobs: dict[str, Knob], statistic: str, target: float) -> Figure:
    """Live values over the steps, a column for each knob, and below them what the loops follow."""
    from gan_jax.plots import figures, parts

    count = len(knobs)
    figure, axes = figures.new(2 * count, (1.6 + 2.6 * count, 5.4), count)
    for (name, knob), top, bottom in zip(knobs.items(), axes[:count], axes[count:], strict=True):
        for value in knob.fixed:
            top.axhline(value, color=parts.GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        if knob.log:
            top.set_yscale("log")
        band(top, table, named(name, LOOP), f"live/{knob.path}", figures.BLUE)
        top.set_title(name, fontsize=10, loc="left")
        band(bottom, table, BASELINE, statistic, parts.GREY)
        band(bottom, table, named(name, LOOP), statistic, figures.BLUE)
        bottom.axhline(target, color=parts.VERMILION, linewidth=1.1, linestyle=":")
        bottom.sharey(axes[count])
        bottom.locator_params(axis="x", nbins=4)
    axes[0].set_ylabel("live value")
    axes[count].set_ylabel(parts.text(statistic))
    lines = "blue: the loop, mean and 95 % interval over seeds", "dashed: fixed values; grey: without the knob; dotted: target"
    figure.supxlabel("\n".join(["step (updates of G)", *lines]), fontsize=8)
    return figure


def band(axis: Axes, table: pd.DataFrame, setting: str, metric: str, color: str) -> None:
    """Mean over seeds and its interval; on a logarithmic axis those of the logarithms."""
    import numpy as np

    from gan_jax.metrics import ranking
    from gan_jax.plots import parts

    rows: Any = table[table["setting"] == setting]
    for steps, curves in ranking.histories(rows, metric).values():
        log = axis.get_yscale() == "log"
        mean, low, high = ranking.mean_interval(np.log(curves) if log else curves)
        mean, low, high = np.exp([mean, low, high]) if log else (mean, low, high)
        axis.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
        parts.line(axis, steps, mean, color, "-", 1.6)


def main(options: Options) -> int:
    options.prepare()
    from gan_jax.plots import figures
    from gan_jax.report import sweep_report
    from gan_jax.report.controls import sets_of

    knobs, data = options.choose(KNOBS), options.load()
    sets_of(data, final=False)  # refuses what the report could not judge, before anything is trained
    settings = settings_of(options, knobs, data.image_shape)
    swept = options.run(settings, data, steps=options.steps, rank_by=options.rank_by, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    table: Any = swept.table
    figure = loops_figure(table, knobs, options.statistic, options.goal)
    picture = figures.save(options.out / "pictures" / "loops.png", figure)
    report = sweep_report(swept, final=options.final)
    page = report.save(options.out)
    end = table[table["step"] == table["step"].max()]
    live = {name: end.loc[end["setting"] == named(name, LOOP), f"live/{knob.path}"] for name, knob in knobs.items()}
    compared = {number: comparison(report.table, knobs, options.choose_by, number) for number in NUMBERS}
    print(f"\n{report.text()}")
    for number, rows in compared.items():
        print(f"\n{comparison_text(rows, live, number)}")
    print(f"\n{NOTE}\n\n" + "\n".join(finding(rows, number) for number, rows in compared.items()))
    print(f"\npicture: {picture}    table: {options.out}/table.csv    report: {page}")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
