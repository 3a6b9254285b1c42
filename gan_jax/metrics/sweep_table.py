"""A sweep's table, checked and grouped: a metric by setting and number n of training images."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MEMBER = ["setting", "n", "seed"]  # what names a member of a sweep
REQUIRED = ("setting", "seed", "n", "step", "diverged")


@dataclass(frozen=True, eq=False)
class Cell:
    """Members of a setting at one n and step, arrays [k]; diverged: at this step or before."""

    seeds: np.ndarray
    values: np.ndarray
    diverged: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        return self.values[np.isfinite(self.values)]


Cells = dict[tuple[str, int], Cell]  # by (setting, n)


def check(table: pd.DataFrame, *metrics: str) -> None:
    """Raises UserError where the table lacks rows, columns, values or metrics, or repeats a row."""
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise UserError(f"the table lacks the columns {missing}; give a sweep's table")
    if not len(table):
        raise UserError("the table has no rows; give a sweep that has been evaluated")
    known = [str(name) for name in table.columns if name not in REQUIRED]
    for name in REQUIRED:
        if table[name].isna().to_numpy().any():
            raise UserError(f"the table's column {name!r} has empty cells; every row needs a value there")
    for metric in metrics:
        if metric not in known:
            near = ", ".join(difflib.get_close_matches(str(metric), known, 3) or known[-8:]) or "(it has none)"
            raise UserError(f"{metric!r} is no metric of the table; choose another, such as {near}")
        try:
            table[metric].astype(float)
        except (TypeError, ValueError) as error:
            raise UserError(f"{metric!r} does not hold numbers ({error}); choose a metric") from error
    twice = np.asarray(table.duplicated(subset=[*MEMBER, "step"]))
    if twice.any():
        row = ", ".join(f"{name} {table[name].to_numpy()[twice][0]}" for name in ("setting", "seed", "n", "step"))
        raise UserError(f"the table has two rows for {row}; keep one (are two sweeps in it under the same names?)")


def baseline_of(table: pd.DataFrame, baseline: str | None) -> str:
    """The baseline, by default the table's first setting. Raises UserError for an unknown one."""
    settings = list(dict.fromkeys(str(setting) for setting in table["setting"]))
    if baseline is not None and baseline not in settings:
        raise UserError(f"the baseline {baseline!r} is no setting of the table; choose among {', '.join(settings)}")
    return settings[0] if baseline is None else baseline


def steps_of(table: pd.DataFrame) -> list[int]:
    """The steps of a table's evaluations, in order."""
    return sorted({int(step) for step in table["step"].tolist()})


def _tidy(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The required columns in their types, and "value": the metric, NaN if infinite or diverged."""
    kinds = {"setting": str, "seed": int, "n": int, "step": int, "diverged": bool}
    rows = table[list(kinds)].astype(kinds).reset_index(drop=True)
    value = np.asarray(table[metric], float)
    return rows.assign(value=np.where(np.isfinite(value) & ~np.asarray(rows["diverged"]), value, math.nan))


def cells_at(table: pd.DataFrame, metric: str, step: int | None = None) -> Cells:
    """(setting, n) -> its members at a step (by default the last), in the table's order. Raises
    UserError for an unknown step, or where members remain but none has a finite value there."""
    steps = steps_of(table)
    step = steps[-1] if step is None else step
    if step not in steps:
        shown = steps if len(steps) <= 8 else [*steps[:3], "...", *steps[-3:]]
        raise UserError(f"the table has no step {step}; choose among {', '.join(map(str, shown))}")
    rows = _tidy(table, metric)
    now, lost = rows[rows["step"] == step].set_index(MEMBER), rows[(rows["step"] <= step) & rows["diverged"]]
    members = rows.drop_duplicates(MEMBER)[MEMBER].join(now["value"], on=MEMBER)
    members["diverged"] = members.set_index(MEMBER).index.isin(lost.set_index(MEMBER).index)
    cells: Cells = {}
    for key, group in members.groupby(["setting", "n"], sort=False):
        setting, n = cast(tuple[str, int], key)
        cells[str(setting), int(n)] = Cell(*(group[name].to_numpy() for name in ("seed", "value", "diverged")))
    if not any(len(cell.finite) for cell in cells.values()) and not all(cell.diverged.all() for cell in cells.values()):
        measured = np.asarray(rows["step"])[np.isfinite(np.asarray(rows["value"]))]
        choose = f"choose step {measured.max()}" if len(measured) else "it was measured nowhere: choose another metric"
        raise UserError(f"{metric!r} was not measured at step {step}; {choose}")
    return cells


def histories(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """(setting, n) -> its steps [k] and the metric [seeds, k], NaN where missing or diverged."""
    found = {}
    for key, rows in _tidy(table, metric).groupby(["setting", "n"], sort=False):
        setting, n = cast(tuple[str, int], key)
        wide = rows.pivot(index="seed", columns="step", values="value")
        found[str(setting), int(n)] = wide.columns.to_numpy(), wide.to_numpy()
    return found
