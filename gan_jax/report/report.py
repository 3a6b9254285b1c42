"""The report: what was found, as text, as HTML, and as files."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gan_jax.core.errors import UserError
from gan_jax.plots.reports import report_pictures
from gan_jax.report import page
from gan_jax.report.metric_specs import ROWS
from gan_jax.report.number import Number, different
from gan_jax.report.verdict import Verdict
from gan_jax.training.folder import write_atomic, writing


@dataclass
class Report:
    """What `overfitting_report` found, as text, HTML, pictures and files.

    judged: the verdict with its reasons. numbers: by the keys of `metric_specs.METRIC_SPECS`.
    about: the run and the data. protocol: all that the numbers depend on.
    evidence: arrays and rows for the pictures. not_measured: {row: why it has no number}.
    notes: what the reader must know of how the numbers were made.
    """

    judged: Verdict
    numbers: dict[str, Number]
    about: dict[str, Any]
    protocol: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)
    not_measured: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One of the seven phrases of `verdict.PHRASES`."""
        return self.judged.phrase

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences that decided the verdict."""
        return self.judged.reasons

    def rows(self) -> list[tuple[int, str, list[Number], str]]:
        """The twelve rows: number, title, its numbers, and why it has none."""
        by_row: dict[int, list[Number]] = {}
        for number in self.numbers.values():
            by_row.setdefault(number.kind.row, []).append(number)
        return [(row, title, by_row.get(row, []), self.not_measured.get(row, "")) for row, title in ROWS.items()]

    def verdict_line(self) -> str:
        """The verdict, the numbers that decided it, and what else was found."""
        line = f"verdict: {self.verdict}" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")
        lines = [line, *(f"also: {sentence}" for sentence in self.judged.also), *(f"note: {note}" for note in self.notes)]
        if (times := len(self.about.get("openings", []))) > 1:
            lines.append(f"S has been opened {times} times for this run: what it says is no longer fresh")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, ready for JSON."""
        return {
            "verdict": self.verdict, "reasons": list(self.reasons), "also": list(self.judged.also), "about": self.about,
            "protocol": self.protocol, "numbers": {key: number.to_json() for key, number in self.numbers.items()},
            "not_measured": {str(row): why for row, why in self.not_measured.items()}, "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return page.render("table.html", report=self, fragment=True)

    def text(self, width: int | None = None) -> str:
        """Rows of numbers beside their controls, then the verdict, for a terminal of `width`
        columns, by default this one."""
        return page.table_text(self.rows(), self.verdict_line(), width)

    def html(self) -> str:
        """One page of verdict, table, pictures, rule and protocol, which loads nothing else."""
        about = {key: value for key, value in self.about.items() if key != "openings"}
        given = {"about": list(page.entries(about)), "protocol": list(page.entries(self.protocol))}
        title = f"Overfitting report: {self.verdict}"
        return page.render("page.html", report=self, title=title, pictures=self.pictures(), **given)

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: the pictures that this report has the evidence for."""
        return report_pictures(self.evidence)

    def save(self, path: str | Path) -> Path:
        """Write report.html and report.json into a folder, or the page alone where `path` ends in
        .html. Returns the page's path.

        The page holds everything, pictures too. Where the folder has a report in other features,
        the names are those of `free_name`. Raises UserError where it cannot be written.
        """
        path = Path(path)
        name = path.stem if path.suffix == ".html" else free_name(path, self.protocol)
        target = path if path.suffix == ".html" else path / f"{name}.html"
        files = {target.name: self.html()}
        if target != path:
            record = json.loads(json.dumps(self.to_json()))
            files[f"{name}.json"] = json.dumps(record | {"digest": digest_of(record)}, indent=1)
        write_files(target.parent, files)
        return target


def digest_of(record: Mapping[str, Any]) -> str:
    """sha256 of the entries of a report.json, by which a change of the file shows."""
    own = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def free_name(folder: Path, protocol: Mapping[str, Any]) -> str:
    """ "report", or "report-" with features and digest where the folder's report.json is in other
    features: that one stays, and one line on stderr says so."""
    try:
        record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        one = record.get("protocol") or next(iter(record["reports"].values()))["protocol"]
        there, name = str(one["extractor"]), str(one["features"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return "report"
    if there == protocol["extractor"]:
        return "report"
    ours = f"report-{re.sub(r'[^A-Za-z0-9]+', '-', str(protocol['features'])).strip('-')}-{protocol['extractor'][:8]}"
    print(f"{folder}/report.html is in {name} features and stays: this report is {ours}.html", file=sys.stderr)
    return ours


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write {name: text} into a folder, each file whole. Raises UserError where it cannot."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomic(folder / name, text)


def compare(reports: Mapping[str, Report | Mapping[str, Any]], keys: Sequence[str] | None = None) -> pd.DataFrame:
    """One row for each report: its verdict and the numbers `keys`, by default all that every report
    has.

    reports: {name: Report, or the dict of a report.json}. Raises UserError where two reports have
        different protocols.
    """
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
