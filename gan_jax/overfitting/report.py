"""The report: numbers beside their controls, a verdict, and files of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.errors import UserError
from gan_jax.folder import write_atomic, writing
from gan_jax.overfitting.kinds import KINDS, ROWS, Kind
from gan_jax.overfitting.numbers import Measured
from gan_jax.overfitting.sets import CONTROLS, REAL
from gan_jax.overfitting.verdict import Verdict

VERSION = 1  # of the numbers' definitions: part of every protocol
CLEAR = 2.0  # standard errors by which a control has to come out worse than real data


@dataclass(frozen=True)
class Number:
    """One number of the report.

    low, high: its 95 % interval, or None; controls: {name: Measured}; protocol: all that the number depends on.
    informative: whether the controls that it has to see come out worse than real data; why: which one does not.
    """

    kind: Kind
    label: str
    value: float
    low: float | None
    high: float | None
    controls: Mapping[str, Measured]
    protocol: Mapping[str, Any]

    @cached_property
    def why(self) -> str:
        """Why the number says nothing here, or ''."""
        if not np.isfinite(self.value):
            return "it is not finite"
        if REAL not in self.controls:
            return ""
        real = self.controls[REAL]
        for name in self.kind.sees:
            control = self.controls[name]
            worse = (control.value - real.value) * (1 if self.kind.worse == "higher" else -1)
            if not worse > CLEAR * (real.error**2 + control.error**2) ** 0.5:
                return f"{name} {control.value:.3g} is not told from real data {real.value:.3g}"
        return ""

    @property
    def informative(self) -> bool:
        return not self.why

    def minus(self, other: Number) -> float:
        """The difference of the values. Raises UserError where the protocols differ."""
        if differing := different(self.protocol, other.protocol):
            raise UserError(f"{self.label} cannot be compared: {differing}")
        return self.value - other.value

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.kind.row, "label": self.label, "value": _plain(self.value),
            "interval": [_plain(self.low), _plain(self.high)], "null": self.kind.null,
            "controls": {name: _plain(c.value) for name, c in self.controls.items()},
            "informative": self.informative, "why_not": self.why, "protocol": dict(self.protocol),
        }  # fmt: skip


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first key in which two protocols differ, with both values; '' where they agree."""
    for key in [*one, *(k for k in other if k not in one)]:
        if one.get(key) != other.get(key):
            return f"{key} is {_brief(one.get(key))} in one and {_brief(other.get(key))} in the other"
    return ""


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


@dataclass
class Report:
    """What `overfitting_report` found.

    verdict: one of seven phrases (see `verdict.PHRASES`); reasons: the sentences that decided it; also: what else was found.
    numbers: {key: Number}, see `kinds.KINDS`; about: what was judged; evidence: arrays and rows for the pictures.
    """

    judged: Verdict
    numbers: dict[str, Number]
    about: dict[str, Any]
    protocol: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)
    not_measured: dict[int, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return self.judged.phrase

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.judged.reasons

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from gan_jax.overfitting.page import table_html

        return table_html(self)

    def text(self) -> str:
        """Rows of numbers beside their controls, then the verdict."""
        from gan_jax.overfitting.page import table_text

        return table_text(self)

    def verdict_line(self) -> str:
        """The verdict, the numbers that decided it, and what else was found."""
        line = f"verdict: {self.verdict}" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")
        lines = [line, *(f"also: {said}" for said in self.judged.also)]
        if (times := len(self.about.get("openings", []))) > 1:
            lines.append(f"S has been opened {times} times for this run: what it says is no longer fresh")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, ready for JSON."""
        return {
            "verdict": self.verdict, "reasons": list(self.reasons), "also": list(self.judged.also), "about": self.about,
            "protocol": self.protocol, "numbers": {key: number.to_json() for key, number in self.numbers.items()},
            "not_measured": {str(row): why for row, why in self.not_measured.items()},
        }  # fmt: skip

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: the pictures that this report has the evidence for."""
        from gan_jax.pictures.overfitting import report_pictures

        return report_pictures(self)

    def save(self, path: str | Path) -> Path:
        """Write report.html and report.json into a folder, or the page alone where `path` ends in .html; returns the page.

        The page holds everything (pictures too) and loads nothing. Raises UserError where it cannot be written.
        """
        from gan_jax.overfitting.page import page_html

        path = Path(path)
        page = path if path.suffix == ".html" else path / "report.html"
        html = page_html(self)
        with writing(page.parent):
            page.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(page, html)
            if page != path:
                write_atomic(path / "report.json", json.dumps(self.to_json(), indent=1))
        return page


def rows(report: Report) -> list[tuple[int, str, list[Number], str]]:
    """The twelve rows: number, title, its numbers, and why it has none."""
    by_row: dict[int, list[Number]] = {}
    for number in report.numbers.values():
        by_row.setdefault(number.kind.row, []).append(number)
    return [(row, title, by_row.get(row, []), report.not_measured.get(row, "")) for row, title in ROWS.items()]


def numbers_of(
    measured: Mapping[str, Measured],
    controls: Mapping[str, Mapping[str, Measured]],
    held_out: str,
    protocol: Mapping[str, Any],
    train: Mapping[str, Any],
) -> dict[str, Number]:
    """Numbers beside their controls. train: what the protocol adds for the numbers that involve T."""
    return {
        key: Number(
            KINDS[key], KINDS[key].label.replace("{H}", held_out), one.value, one.low, one.high,
            {name: controls[name][key] for name in CONTROLS if key in controls.get(name, {})},
            dict(protocol) | (dict(train) if KINDS[key].train else {}),
        )
        for key, one in measured.items()
    }  # fmt: skip


def compare(reports: Mapping[str, Report | Mapping[str, Any]], keys: Sequence[str] | None = None) -> Any:
    """A pandas DataFrame, one row for each report, of the numbers that all of them have.

    reports: {name: Report, or the dict of a report.json}. Raises UserError where two were not made by one protocol.
    """
    import pandas as pd

    read = {name: r.to_json() if isinstance(r, Report) else r for name, r in reports.items()}
    first_name, first = next(iter(read.items()))
    keys = [k for k in first["numbers"] if all(k in r["numbers"] for r in read.values())] if keys is None else list(keys)
    rows = {}
    for name, report in read.items():
        for key in keys:
            one, other = first["numbers"][key], report["numbers"][key]
            if differing := different(one["protocol"], other["protocol"]):
                raise UserError(f"{first_name} and {name} cannot be compared in {one['label']}: {differing}")
        rows[name] = {"verdict": report["verdict"]} | {k: report["numbers"][k]["value"] for k in keys}
    return pd.DataFrame.from_dict(rows, orient="index")
