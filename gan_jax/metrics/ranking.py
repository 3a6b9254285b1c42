"""Which setting of a sweep is best: means over seeds, and paired tests with Holm's correction.

A sweep's table has one row for each evaluation of each member (a setting, a number n of training
images, a seed): the columns setting, seed, n, step and diverged, and one for each metric.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics.sweep_table import Cell, Cells, baseline_of, cells_at, check, histories, steps_of
from gan_jax.text import one_line, shorten

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "LEVEL", "Cell", "Cells", "baseline_of", "cells_at", "check", "histories", "holm", "mean_interval"]
__all__ += ["one_line", "paired_p", "rank", "ranking_text", "shorten", "steps_of", "text_table"]

LEVEL = 0.95  # of every interval; a verdict errs at most 1 - LEVEL of the time over all settings together
CHANCE = 0.5  # of an AUC
FEWEST_SEEDS = 5  # with fewer pairs a t-test rests on its assumption of normal differences and has no power besides
COLUMNS = (
    *("setting", "n", "seeds", "diverged", "mean", "low", "high", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "verdict"),
)
WIDTH = 100  # columns of a wide terminal
WIDE, WORDS = ("setting", "verdict"), 16  # columns of words, and their least width with a blank


def rank(
    table: pd.DataFrame,
    metric: str,
    *,
    baseline: str | None = None,
    higher_is_better: bool = False,
    step: int | None = None,
    n: int | None = None,
) -> pd.DataFrame:
    """One row per setting and n, best first within each n, compared with the baseline at that n.

    metric: the column to rank by. baseline: the setting to compare with, by default the table's
    first. step: of the evaluation, by default the table's last. n: only rows with this many
    training images. What is first here is not thereby chosen: see `choice.choose`.

    Columns: setting, n, seeds (with a finite value), diverged (seeds), mean, low and high (95 %
    Student-t interval over seeds; NaN for one), difference (mean over common seeds of setting minus
    baseline), difference_low, difference_high, p (two-sided paired t-test; NaN for the baseline and
    below 5 common seeds), p_holm (Holm's correction over every p here), verdict. Means leave
    diverged seeds out, which flatters: such settings come after those without, and their verdicts
    read "among survivors"; settings without any value come last. An AUC of which less is better
    (its name ends in "auc") is best at chance: a mean below .5 ranks as .5. `.attrs` holds step,
    higher_is_better and baseline. Raises UserError for a table that `check` refuses, an unknown
    baseline, step or n, and a metric that was not measured at this step.
    """
    check(table, metric)
    baseline = baseline_of(table, baseline)
    if n is not None:
        known = sorted({int(size) for size in table["n"].tolist()})
        if n not in known:
            raise UserError(f"the table has no rows with n = {n}; choose among {', '.join(map(str, known))}")
        table = table.loc[table["n"] == n]
    step = steps_of(table)[-1] if step is None else step
    rows = _compare(cells_at(table, metric, step), baseline, _loss_of(table, metric, higher_is_better))
    rows["place"] = np.select([rows["seeds"] == 0, rows["diverged"] > 0], [2, 1], 0)
    rows["loss"] = _loss_of(table, metric, higher_is_better)(rows["mean"])
    ranked = rows.sort_values(["n", "place", "loss"], ignore_index=True).filter(list(COLUMNS))
    ranked.attrs = {"step": step, "higher_is_better": higher_is_better, "baseline": baseline}
    return ranked


def ranking_text(ranked: pd.DataFrame, metric: str, width: int = WIDTH) -> str:
    """The result of `rank` as text for a terminal of `width` columns, with notes at the foot.
    Numbers are not broken: where they need more room, lines are longer."""
    rows: list[dict[str, Any]] = ranked.to_dict("records")
    names = ["setting", "n", "seeds", "mean", "difference", "p (Holm)", "verdict"]
    if len({row["n"] for row in rows}) == 1:
        names.remove("n")
    decimals = decimals_of([row["mean"] for row in rows])
    texts: list[dict[str, str] | None] = []
    for i, row in enumerate(rows):
        texts += [None] * (i > 0 and row["n"] != rows[i - 1]["n"]) + [_texts(row, decimals)]
    at = f" at step {ranked.attrs['step']}" if ranked.attrs.get("step") else ""
    notes = "\n".join(_notes(rows, ranked.attrs.get("baseline"), metric))
    order = "in order" if "AUC" in metric.upper() else "best first"  # D's AUC alone makes nothing the best
    return f"{one_line(metric)}{at}, {order}\n\n{text_table(names, texts, width)}\n{notes}\n"


def text_table(names: Sequence[str], rows: Sequence[dict[str, str] | None], width: int = WIDTH) -> str:
    """Rows {name: text}, or None for a blank line, under their names, for a terminal of `width`
    columns. Columns of words (`WIDE`) are broken, numbers are not."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table, needed = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False), WORDS * len(WIDE)
    for name in names:
        wide, longest = name in WIDE, max(len(name), *(len(row[name]) for row in rows if row))
        needed += 0 if wide else longest + 2
        table.add_column(
            name, overflow="fold", justify="left" if wide else "right", no_wrap=not wide, min_width=WORDS if wide else longest
        )
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names if row))  # Text: a name in square brackets is no markup
    console = Console(file=(out := io.StringIO()), width=max(width, needed), color_system=None, force_terminal=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high [...] of the 95 % Student-t interval over the first axis of [seeds, ...].

    Values that are not finite are left out. Without values all are NaN; with one, low and high are.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    seen = np.isfinite(values)
    count = seen.sum(0)
    some, degrees = np.maximum(count, 1), np.maximum(count - 1, 1)
    mean = np.where(seen, values, 0).sum(0) / some
    variance = (np.where(seen, values - mean, 0) ** 2).sum(0) / degrees
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(variance / some)
    mean, half = np.where(count > 0, mean, np.nan), np.where(count > 1, half, np.nan)
    return mean, mean - half, mean + half


def paired_p(ours: np.ndarray, theirs: np.ndarray, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """The paired t-test's p of values [k]: 1 where all pairs are equal (SciPy has NaN), NaN below
    `FEWEST_SEEDS` pairs, 0 for one difference everywhere."""
    from scipy import stats

    if len(ours) < FEWEST_SEEDS:
        return math.nan
    if (ours == theirs).all():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns of differences that hardly vary
        return float(stats.ttest_rel(ours, theirs, alternative=alternative).pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's correction (1979) of p-values [k] over those that are there; NaN stays NaN. As
    statsmodels' `multipletests`, which collects garbage at each call: a tenth of a second."""
    corrected = np.array(p, np.float64)
    order = np.argsort(corrected)[: np.isfinite(corrected).sum()]  # NaN comes last
    steps = (len(order) - np.arange(len(order))) * corrected[order]
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def _loss_of(table: pd.DataFrame, metric: str, higher_is_better: bool) -> Callable[[Any], Any]:
    """A mean of the metric -> what is smaller for the better setting."""
    if higher_is_better:
        return lambda mean: -mean
    values = np.asarray(table[metric], np.float64)
    is_auc = metric.lower().endswith("auc") and not (np.abs(values - CHANCE) > CHANCE).any()
    return (lambda mean: np.maximum(mean, CHANCE)) if is_auc else (lambda mean: mean)


def _compare(cells: Cells, baseline: str, loss: Callable[[Any], Any]) -> pd.DataFrame:
    """The rows of the ranking in the order of the cells."""
    import pandas as pd

    rows = pd.DataFrame([_row(setting, n, cells, baseline) for setting, n in cells])
    rows["p_holm"] = holm(rows["p"].tolist())
    rows["verdict"] = [_verdict(row, cells, baseline, loss) for row in rows.to_dict("records")]
    return rows


def _row(setting: str, n: int, cells: Cells, baseline: str) -> dict[str, Any]:
    """A row of the ranking without its corrected p and verdict; p is NaN without a test."""
    cell, base = cells[setting, n], cells.get((baseline, n))
    ours = theirs = np.zeros(0)
    if base is not None and setting != baseline:
        _, i, j = np.intersect1d(cell.seeds, base.seeds, return_indices=True)
        both = np.isfinite(cell.values[i]) & np.isfinite(base.values[j])
        ours, theirs = cell.values[i][both], base.values[j][both]
    row: dict[str, Any] = {"setting": setting, "n": n, "seeds": len(cell.finite), "diverged": int(cell.diverged.sum())}
    row |= zip(("mean", "low", "high"), map(float, mean_interval(cell.finite)), strict=True)
    differences = map(float, mean_interval(ours - theirs))
    row |= zip(("difference", "difference_low", "difference_high"), differences, strict=True)
    return row | {"p": paired_p(ours, theirs)}


def _verdict(row: dict[str, Any], cells: Cells, baseline: str, loss: Callable[[Any], Any]) -> str:
    cell, base = cells[row["setting"], row["n"]], cells.get((baseline, row["n"]))
    is_baseline = row["setting"] == baseline
    if not row["seeds"]:
        verdict = "every seed diverged" if cell.diverged.all() else "not measured"
        return f"baseline: {verdict}" if is_baseline else verdict
    if is_baseline:
        return "baseline"
    if base is None or not len(base.finite):
        return "no baseline to compare with"
    if math.isnan(row["p_holm"]):
        return "too few seeds for a test"
    verdict = "no difference shown"
    ours, theirs = loss(row["mean"]), loss(row["mean"] - row["difference"])
    if row["p_holm"] <= 1 - LEVEL and ours != theirs:
        verdict = "better" if ours < theirs else "worse"
    return f"{verdict} among survivors" if cell.diverged.any() or base.diverged.any() else verdict


def _texts(row: dict[str, Any], decimals: int) -> dict[str, str]:
    """A row of the ranking as text."""
    p = row["p_holm"]
    is_baseline = row["verdict"].startswith("baseline")
    return {
        "setting": shorten(row["setting"], 50),
        "n": str(row["n"]),
        "seeds": f"{row['seeds']} of {row['seeds'] + row['diverged']}" if row["diverged"] else str(row["seeds"]),
        "mean": with_error(row["mean"], row["high"], decimals),
        "difference": "" if is_baseline else with_error(row["difference"], row["difference_high"], decimals),
        "p (Holm)": "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}",
        "verdict": row["verdict"],
    }


def decimals_of(means: list[float]) -> int:
    """Three significant digits of the middle one of the means, or of the largest if some are 0."""
    sizes = [abs(mean) for mean in means if math.isfinite(mean) and mean]
    shown = np.max if 0 in means else np.median
    return 3 if not sizes else min(max(2 - math.floor(math.log10(float(shown(sizes)))), 0), 9)


def with_error(mean: float, high: float, decimals: int) -> str:
    """ "0.603 +- 0.027": a Student-t interval is symmetric."""
    digits = lambda value: f"{value:.{decimals}f}" if abs(value) < 1e7 else f"{value:.2e}"
    if math.isnan(mean):
        return ""
    return digits(mean) + ("" if math.isnan(high) else f" +- {digits(high - mean)}")


def _notes(rows: list[dict[str, Any]], baseline: str | None, metric: str) -> list[str]:
    """The lines at a ranking's foot."""
    tests = sum(not math.isnan(row["p"]) for row in rows)
    against = "the baseline" if baseline is None else f"the baseline {one_line(baseline)!r}"
    notes = [f"+-: 95 % Student-t interval over seeds; difference: to {against} over common seeds"]
    if tests:
        notes.append(f"p: two-sided paired t-tests, Holm's correction over {tests}; better or worse: at most {1 - LEVEL:.2f}")
    else:
        notes.append(f"no test: it takes {FEWEST_SEEDS} seeds that a setting and the baseline have in common")
    if "AUC" in metric.upper() and any(row["mean"] < CHANCE for row in rows):
        notes.append("An AUC below .5 is chance, as .5 is: settings there are in no order")
    if any(row["diverged"] for row in rows):
        notes.append("Means leave diverged seeds out, which flatters: settings that lost any come after the others")
    return [*notes, "Chosen on V only; S stays closed until the choice is made"]
