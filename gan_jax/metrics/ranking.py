"""Which setting of a sweep is best: means over seeds, paired tests against a baseline, and Holm's
correction for many.

The input is a sweep's table, one row per member (a setting, a number n of training images, a seed)
and evaluation: columns setting, seed, n, step, diverged, and one column per metric; others are
ignored. pandas, SciPy and statsmodels are imported where they are used: most runs need none of
them.
"""

from __future__ import annotations

import difflib
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
from gan_jax.core.text import one_line, shorten

LEVEL = 0.95  # of every interval; a verdict errs at most 1 - LEVEL of the time over all settings together


PRICE = 0.25  # of the baseline's mean of a guard: more is too much, shown or not


FEWEST_SEEDS = 5  # with fewer pairs a t-test rests on its assumption of normal differences and has no power besides


KEYS = ("setting", "seed", "n", "step")


COLUMNS = (
    *("setting", "n", "seeds", "diverged", "mean", "low", "high", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "verdict"),
)


WIDTH = 100  # columns of a terminal


@dataclass
class Cell:
    """One metric of one setting at one n and step. `values`: seed -> finite value; `members`,
    `diverged`: the seeds there are, and those that are no longer finite."""

    values: dict[int, float] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    diverged: set[int] = field(default_factory=set)


def rank(
    table: pd.DataFrame,
    metric: str,
    *,
    baseline: str | None = None,
    higher_is_better: bool = False,
    step: int | None = None,
    n: int | None = None,
    guard: str | None = None,
) -> pd.DataFrame:
    """One row per setting and n, best first within each n, each compared with the baseline at the
    same n.

    A mean over the seeds that did not diverge flatters a setting: those with diverged seeds come
    after those without, and those with no value at all last. A comparison that lacks diverged seeds
    (of either side) says "among survivors".

    Args:
        table: a sweep's table.
        metric: the column to rank by.
        baseline: the setting to compare with; by default the table's first.
        step: of the evaluation; by default the table's last, which need not be where any setting is at its best.
        n: only rows with this many training images.
        guard: a second column, smaller is better: settings that are shown worse in it than the baseline (Holm's correction
            over settings), or are by more than a quarter of the baseline's mean, come after all others, so that none wins by
            giving up what the guard measures.

    Returns: Columns: setting, n, seeds (with a finite value), diverged (seeds), mean, low and high
        (95 % Student-t interval over seeds; NaN for one), difference (mean over common seeds of
        setting minus baseline), difference_low, difference_high, p (two-sided paired t-test; NaN
        for the baseline and for fewer than 5 common seeds), p_holm (Holm's correction over every p
        here), verdict. `.attrs` holds step, higher_is_better and baseline.

    Raises:
        UserError: a table without rows or with two rows for one evaluation; an unknown metric, baseline, step or n; a metric
            that was not measured at this step.
    """
    import pandas as pd

    check(table, metric)
    baseline = baseline_of(table, baseline)
    if n is not None:
        known = sorted({int(size) for size in table["n"].tolist()})
        if n not in known:
            raise UserError(f"the table has no rows with n = {n}; choose among {', '.join(map(str, known))}")
        table = table.loc[table["n"] == n]
    step = steps_of(table)[-1] if step is None else step
    cells = cells_at(table, metric, step)
    rows = [_row(setting, size, cells, baseline) for setting, size in cells]
    _judge(rows, cells, baseline, higher_is_better)
    worse = _too_dear(table, guard, step, baseline) if guard else set()
    for row in rows:
        if (row["setting"], row["n"]) in worse:
            row["verdict"] += f", at a price in {guard}"

    def place(row: dict[str, Any]) -> tuple:
        last = 3 if not row["seeds"] else 2 * ((row["setting"], row["n"]) in worse) or int(row["diverged"] > 0)
        return row["n"], last, 0.0 if last == 3 else row["mean"] * (-1 if higher_is_better else 1)

    ranked = pd.DataFrame(sorted(rows, key=place), columns=list(COLUMNS))
    ranked.attrs = {"step": step, "higher_is_better": higher_is_better, "baseline": baseline}
    return ranked


def ranking_text(ranked: pd.DataFrame, metric: str) -> str:
    """What `rank` returns as text for a terminal of 100 columns, with what the numbers are at the
    foot."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows: list[dict[str, Any]] = [dict(zip(ranked.columns, row, strict=True)) for row in ranked.to_numpy(object).tolist()]
    names = ["setting", "n", "seeds", "mean", "difference", "p (Holm)", "verdict"]
    if len({row["n"] for row in rows}) == 1:
        names.remove("n")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in names:
        wide = name in ("setting", "verdict")
        table.add_column(name, overflow="fold", justify="left" if wide else "right", no_wrap=not wide)
    decimals = _decimals([row["mean"] for row in rows])
    for i, row in enumerate(rows):
        if i and row["n"] != rows[i - 1]["n"]:
            table.add_row()
        cells = _cells(row, decimals)
        table.add_row(*(Text(cells[name]) for name in names))  # Text: a name in square brackets is no markup
    console = Console(file=(out := io.StringIO()), width=WIDTH, color_system=None, force_terminal=False)
    at = f" at step {ranked.attrs['step']}" if ranked.attrs.get("step") else ""
    console.print(Text(f"{one_line(metric)}{at}, best first\n"))
    console.print(table)
    console.print(Text("\n".join(["", *_notes(rows, ranked.attrs.get("baseline"))])))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def check(table: pd.DataFrame, *metrics: str) -> None:
    """Raises UserError where the table has no rows, lacks a column, or has two rows for one
    evaluation of one member."""
    missing = [name for name in (*KEYS, "diverged") if name not in table.columns]
    if missing:
        raise UserError(f"the table lacks the columns {missing}; give a sweep's table")
    if not len(table):
        raise UserError("the table has no rows; give a sweep that has been evaluated")
    known = [str(name) for name in table.columns if name not in (*KEYS, "diverged")]
    for name in (*KEYS, "diverged"):
        if table[name].isna().to_numpy().any():
            raise UserError(f"the table's column {name!r} has empty cells; every row needs a value there")
    for metric in metrics:
        if metric not in known:
            near = difflib.get_close_matches(str(metric), known, 3) or known[-8:]
            raise UserError(
                f"{metric!r} is no metric of the table; choose another, such as {', '.join(near) or '(it has none)'}"
            )
        try:
            table[metric].astype(float)
        except (TypeError, ValueError) as error:
            raise UserError(f"{metric!r} does not hold numbers ({error}); choose a metric") from error
    twice = table.duplicated(subset=list(KEYS)).to_numpy()
    if twice.any():
        row = ", ".join(f"{name} {table[name].to_numpy()[twice][0]}" for name in KEYS)
        raise UserError(f"the table has two rows for {row}; keep one (are two sweeps in it under the same names?)")


def baseline_of(table: pd.DataFrame, baseline: str | None) -> str:
    """The setting to compare with: the one named, or the table's first. Raises UserError where
    there is none of that name."""
    settings = list(dict.fromkeys(str(setting) for setting in table["setting"]))
    if baseline is not None and baseline not in settings:
        raise UserError(f"the baseline {baseline!r} is no setting of the table; choose among {', '.join(settings)}")
    return settings[0] if baseline is None else baseline


def steps_of(table: pd.DataFrame) -> list[int]:
    """The steps of a table's evaluations, in order."""
    return sorted({int(step) for step in table["step"].tolist()})


def cells_at(table: pd.DataFrame, metric: str, step: int | None = None) -> dict[tuple[str, int], Cell]:
    """(setting, n) -> the values of a metric at a step (by default the last), in the table's order.

    Raises: UserError: no row of this step, or none of the members that are still finite has a
        finite value there.
    """
    steps = steps_of(table)
    step = steps[-1] if step is None else step
    if step not in steps:
        shown = steps if len(steps) <= 8 else [*steps[:3], "...", *steps[-3:]]
        raise UserError(f"the table has no step {step}; choose among {', '.join(map(str, shown))}")
    cells: dict[tuple[str, int], Cell] = {}
    for setting, n, seed, at, diverged, value in records(table, metric):
        cell = cells.setdefault((setting, n), Cell())
        cell.members.add(seed)
        if at <= step and diverged:
            cell.diverged.add(seed)
        if at == step and not diverged and math.isfinite(value):
            cell.values[seed] = value
    if not any(cell.values for cell in cells.values()) and any(cell.members - cell.diverged for cell in cells.values()):
        measured = [at for *_, at, diverged, value in records(table, metric) if math.isfinite(value) and not diverged]
        choose = f"choose step {max(measured)}" if measured else "it was measured nowhere: choose another metric"
        raise UserError(f"{metric!r} was not measured at step {step}; {choose}")
    return cells


def histories(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """(setting, n) -> its steps [k] and the metric [seeds, k], NaN where a seed was not measured or
    has diverged."""
    found: dict[tuple[str, int], dict[tuple[int, int], float]] = {}
    for setting, n, seed, step, diverged, value in records(table, metric):
        found.setdefault((setting, n), {})[seed, step] = value if math.isfinite(value) and not diverged else math.nan
    results = {}
    for key, values in found.items():
        seeds, steps = (sorted(set(axis)) for axis in zip(*values, strict=True))
        results[key] = np.array(steps), np.array([[values.get((seed, step), math.nan) for step in steps] for seed in seeds])
    return results


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high of the 95 % Student-t interval over the first axis, [seeds, ...] -> three
    of [...].

    Values that are not finite are left out. All NaN without values; low and high NaN with one.
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


def records(table: pd.DataFrame, metric: str):
    """(setting, n, seed, step, diverged, value) of each row."""
    columns = [table[name].tolist() for name in ("setting", "n", "seed", "step", "diverged")]
    for setting, n, seed, step, diverged, value in zip(*columns, table[metric].astype(float).tolist(), strict=True):
        yield str(setting), int(n), int(seed), int(step), bool(diverged), value


def _too_dear(table: pd.DataFrame, metric: str, step: int, baseline: str) -> set[tuple[str, int]]:
    """The (setting, n) whose metric, smaller being better, is shown worse than the baseline's or
    too far above it."""
    check(table, metric)
    cells = cells_at(table, metric, step)
    rows = [_row(setting, size, cells, baseline) for setting, size in cells]
    _judge(rows, cells, baseline, False)
    most = {row["n"]: (1 + PRICE) * row["mean"] for row in rows if row["setting"] == baseline}
    worse = lambda row: row["verdict"].startswith("worse") or row["mean"] > most.get(row["n"], math.inf)
    return {(row["setting"], row["n"]) for row in rows if worse(row)}


def _row(setting: str, n: int, cells: dict[tuple[str, int], Cell], baseline: str) -> dict[str, Any]:
    """A row of the ranking without its corrected p and verdict; "p" is NaN where nothing is
    tested."""
    cell, base = cells[setting, n], cells.get((baseline, n), Cell())
    common = [] if setting == baseline else sorted(cell.values.keys() & base.values.keys())
    ours, theirs = np.array([cell.values[s] for s in common]), np.array([base.values[s] for s in common])
    mean, low, high = map(float, mean_interval(list(cell.values.values())))
    difference, difference_low, difference_high = map(float, mean_interval(ours - theirs))
    return {
        "setting": setting,
        "n": n,
        "seeds": len(cell.values),
        "diverged": len(cell.diverged),
        "mean": mean,
        "low": low,
        "high": high,
        "difference": difference,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "p": _paired_p(ours, theirs) if len(common) >= FEWEST_SEEDS else math.nan,
    }


def _paired_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the two-sided paired t-test: 1 where all pairs are equal (SciPy says NaN), 0 where all
    differ by the same."""
    from scipy import stats

    if (ours == theirs).all():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns of differences that hardly vary
        return float(stats.ttest_rel(ours, theirs).pvalue)


def _judge(rows: list[dict[str, Any]], cells: dict[tuple[str, int], Cell], baseline: str, higher_is_better: bool) -> None:
    """Adds p_holm and verdict to the rows."""
    from statsmodels.stats.multitest import multipletests

    tested = [row for row in rows if not math.isnan(row["p"])]
    corrected = np.asarray(multipletests([row["p"] for row in tested], method="holm")[1]) if tested else []
    for row, p in zip(tested, corrected, strict=True):
        row["p_holm"] = float(p)
    for row in rows:
        row.setdefault("p_holm", math.nan)
        base = cells.get((baseline, row["n"]), Cell())
        row["verdict"] = _verdict(row, row["setting"] == baseline, cells[row["setting"], row["n"]], base, higher_is_better)


def _verdict(row: dict[str, Any], is_baseline: bool, cell: Cell, base: Cell, higher_is_better: bool) -> str:
    if not cell.values:
        verdict = "every seed diverged" if cell.diverged >= cell.members else "not measured"
        return f"baseline: {verdict}" if is_baseline else verdict
    if is_baseline:
        return "baseline"
    if not base.values:
        return "no baseline to compare with"
    if math.isnan(row["p_holm"]):
        return "too few seeds for a test"
    verdict = "no difference shown"
    if row["p_holm"] <= 1 - LEVEL:
        verdict = "better" if (row["difference"] > 0) == higher_is_better else "worse"
    return f"{verdict} among survivors" if cell.diverged or base.diverged else verdict


def _cells(row: dict[str, Any], decimals: int) -> dict[str, str]:
    """A row of the ranking as text."""
    p = row["p_holm"]
    is_baseline = row["verdict"].startswith("baseline")
    return {
        "setting": shorten(row["setting"], 50),
        "n": str(row["n"]),
        "seeds": f"{row['seeds']} of {row['seeds'] + row['diverged']}" if row["diverged"] else str(row["seeds"]),
        "mean": _with_error(row["mean"], row["high"], decimals),
        "difference": "" if is_baseline else _with_error(row["difference"], row["difference_high"], decimals),
        "p (Holm)": "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}",
        "verdict": row["verdict"],
    }


def _decimals(means: list[float]) -> int:
    """As many as give the middle one of the means three significant digits; the largest, where some
    are 0 (of shares)."""
    sizes = [abs(mean) for mean in means if math.isfinite(mean) and mean]
    shown = np.max if 0 in means else np.median
    return 3 if not sizes else min(max(2 - math.floor(math.log10(float(shown(sizes)))), 0), 9)


def _with_error(mean: float, high: float, decimals: int) -> str:
    """ "0.603 +- 0.027": a Student-t interval is symmetric."""
    digits = lambda value: f"{value:.{decimals}f}" if abs(value) < 1e7 else f"{value:.2e}"
    if math.isnan(mean):
        return ""
    return digits(mean) + ("" if math.isnan(high) else f" +- {digits(high - mean)}")


def _notes(rows: list[dict[str, Any]], baseline: str | None) -> list[str]:
    """The lines at a ranking's foot."""
    tests = sum(not math.isnan(row["p"]) for row in rows)
    against = "the baseline" if baseline is None else f"the baseline {one_line(baseline)!r}"
    notes = [f"+-: 95 % Student-t interval over seeds; difference: to {against} over common seeds"]
    if tests:
        notes.append(f"p: two-sided paired t-tests, Holm's correction over {tests}; better or worse: at most {1 - LEVEL:.2f}")
    else:
        notes.append(f"no test: it takes {FEWEST_SEEDS} seeds that a setting and the baseline have in common")
    if any(row["diverged"] for row in rows):
        notes.append("Means leave diverged seeds out, which flatters: settings that lost any come after the others")
    return [*notes, "Chosen on V only; S stays closed until the choice is made"]
