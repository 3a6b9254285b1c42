"""The report: what was found, shown as text, as HTML, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.core.errors import UserError
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
        from gan_jax.plots.reports import report_pictures

        return report_pictures(self)

    def save(self, path: str | Path) -> Path:
        """Write report.html and report.json into a folder, or the page alone where `path` ends in
        .html; returns the page.

        The page holds everything (pictures too) and loads nothing. Raises UserError where it cannot
        be written.
        """
        path = Path(path)
        page = path if path.suffix == ".html" else path / "report.html"
        html = pages.page_html(self, self.pictures())
        with writing(page.parent):
            page.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(page, html)
            if page != path:
                write_atomic(path / "report.json", json.dumps(self.to_json(), indent=1))
        return page


def compare(reports: Mapping[str, Report | Mapping[str, Any]], keys: Sequence[str] | None = None) -> Any:
    """A pandas DataFrame, one row for each report, of the numbers that all of them have.

    reports: {name: Report, or the dict of a report.json}. Raises UserError where two were not made
        by one protocol.
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
