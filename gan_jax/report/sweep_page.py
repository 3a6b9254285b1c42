"""The page of a sweep: the answer and its figure, one table of the settings, then what stands
behind them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gan_jax.metrics.choice import Choice
from gan_jax.plots import figures
from gan_jax.plots.parts import number as figure
from gan_jax.plots.settings import answer_figure
from gan_jax.report.metric_specs import METRIC_SPECS
from gan_jax.report.page import render
from gan_jax.report.report import Report

SHORT = {  # heads of columns, and names in the figure
    "copy_share": "copy share", "near_copies": "near-copies", "near_copies_pixels": "near-copies, in pixels",
    "fd": "FD to V", "auc": "D's AUC",
}  # fmt: skip
PERCENT = ("near_copies", "near_copies_pixels")
MOST = 12  # settings in the figure of the answer


def answer_pictures(choice: Choice, columns: Mapping[str, str]) -> dict[str, bytes]:
    """{"answer" and, for narrow screens, "answer narrow": PNG} of the first `MOST` settings, with
    the baseline. columns: {"primary": its key in the report's table, "guard": ...}."""
    rows: Any = choice.rows
    rows = rows[(rows.index < MOST) | (rows["setting"] == choice.baseline)]
    decides = {"primary": "decides", "guard": "quality, the price"}
    labels = {key: f"{SHORT.get(name, name)} ({decides[key]})" for key, name in columns.items()}
    draw = lambda narrow: figures.png(answer_figure(rows, labels, choice.baseline, choice.setting, choice.n, narrow))
    return {"answer": draw(False), "answer narrow": draw(True)}


def sweep_page_html(
    title: str,
    choices: Sequence[Choice],
    columns: Mapping[str, str],
    table: pd.DataFrame,
    reports: Mapping[str, Report],
    pictures: Mapping[str, bytes],
    said: Sequence[str] = (),
    text: str = "",
) -> str:
    """The page of a sweep.

    choices: at each number of training images, the largest last. columns: as `answer_pictures`.
    table: a row for each member. reports: {setting: that of its first seed}. pictures: {name: PNG}.
    said: sentences below the answer. text: the tables of the choice, as on the terminal.
    """
    shown = lambda value: figure(value) if isinstance(value, float) else str(value)
    members = {
        "heads": [(str(name), not pd.api.types.is_numeric_dtype(table[name])) for name in table.columns],
        "rows": [list(map(shown, row)) for row in table.to_numpy(object).tolist()],
    }
    tables = [{"n": choice.n, "rows": _rows(choice, columns, table), "heads": _heads(choice, columns)} for choice in choices]
    given = {"title": title, "choice": choices[-1], "said": said, "tables": tables[::-1], "members": members, "text": text}
    return render("sweep.html", reports=reports, pictures=pictures, seeds=_seeds(table), most=MOST, **given)


def _keys(choice: Choice, columns: Mapping[str, str]) -> dict[str, str]:
    """{key of `Choice.rows`: key of the report} of the columns of the page."""
    keys = {**columns, **{key: key for key in ("near_copies", "near_copies_pixels", "auc")}}
    return {key: name for key, name in keys.items() if key in choice.rows and np.isfinite(choice.rows[key]).any()}


def _heads(choice: Choice, columns: Mapping[str, str]) -> list[str]:
    return [SHORT.get(name, name) for name in _keys(choice, columns).values()]


def _rows(choice: Choice, columns: Mapping[str, str], table: pd.DataFrame) -> list[dict[str, Any]]:
    """The settings as the page shows them: names, marks, cells and counts of verdicts."""
    at_n = table[table["n"] == choice.n]
    rows = []
    for record in choice.rows.to_dict("records"):
        name, seeds = record["setting"], record["seeds"] + record["diverged"]
        verdicts = Counter(at_n.loc[at_n["setting"].astype(str) == name, "verdict"])
        counts = [f"{count} of {seeds}: {verdict}" for verdict, count in verdicts.most_common()]
        marks = ["chosen"] * (name == choice.setting != choice.baseline) + ["baseline"] * (name == choice.baseline)
        marks += ["still training"] * bool(record["still_training"])
        marks += [f"{record['diverged']} of {seeds} diverged"] * bool(record["diverged"])
        cells = [_cell(record, key, key_of) for key, key_of in _keys(choice, columns).items()]
        rows.append({"setting": name, "marks": marks, "cells": cells, "counts": counts, "verdict": record["verdict"]})
    return rows


def _cell(record: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """A mean over seeds with its interval, what is shown of it, and the number to sort by."""
    scale, unit = (100, "\N{NO-BREAK SPACE}%") if name in PERCENT else (1, "")
    least, most = METRIC_SPECS[name].ends if name in METRIC_SPECS else (-math.inf, math.inf)
    mean, low, high = (scale * min(max(float(record[key + end]), least), most) for end in ("", "_low", "_high"))
    interval = f"[{figure(low)}, {figure(high)}]" if math.isfinite(low) else ""
    value = figure(mean) + unit if math.isfinite(mean) else ""
    return {"value": value, "interval": interval, "shown": record[f"{key}_shown"], "sort": mean if value else ""}


def _seeds(table: pd.DataFrame) -> dict[str, str]:
    """{setting: which of its seeds stands for it, in words}."""
    largest = table[table["n"] == table["n"].max()]
    by_setting = {str(name): rows["seed"].tolist() for name, rows in largest.groupby("setting", sort=False)}
    return {name: f"seed {seeds[0]} of {len(seeds)} shown" for name, seeds in by_setting.items() if len(seeds) > 1}
