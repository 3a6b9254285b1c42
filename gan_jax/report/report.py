"""The report: what was found, as text, as HTML, and as files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gan_jax.core.errors import UserError
from gan_jax.plots.reports import report_pictures
from gan_jax.report import page as pages
from gan_jax.report.findings import Findings
from gan_jax.report.number import different
from gan_jax.training.folder import write_atomic, writing


@dataclass
class Report(Findings):
    """The findings with the ways to show them: text, HTML, pictures and files."""

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return pages.table_html(self)

    def text(self) -> str:
        """Rows of numbers beside their controls, then the verdict."""
        return pages.table_text(self)

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: the pictures that this report has the evidence for."""
        return report_pictures(self)

    def save(self, path: str | Path) -> Path:
        """Write report.html and report.json into a folder, or the page alone where `path` ends in
        .html. Returns the page's path.

        The page holds everything, pictures too. Raises UserError where it cannot be written.
        """
        path = Path(path)
        page = path if path.suffix == ".html" else path / "report.html"
        files = {page.name: pages.page_html(self, self.pictures())}
        if page != path:
            files["report.json"] = json.dumps(self.to_json(), indent=1)
        write_files(page.parent, files)
        return page


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
