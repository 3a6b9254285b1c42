"""The numbers of several runs' reports side by side, if they were made by one protocol.

    python scripts/compare.py runs/a runs/b runs/c

Reads report.json of each folder (see scripts/report.py). Numbers that depend on different splits,
features, sizes or versions are refused by name: they cannot be compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from gan_jax.cli.run import run
from gan_jax.core.errors import UserError


@dataclass
class Options:
    """Compare reports."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders with a report.json each, at least two."""
    numbers: tuple[str, ...] = ()
    """Only these numbers, by their keys, such as fd and fd_gap; all that the reports share when
    left out."""


def read(folder: Path) -> dict:
    """The report.json of a folder. Raises UserError where it was changed since it was written."""
    from gan_jax.report.report import digest_of

    try:
        report = json.loads((folder / "report.json").read_text())
    except OSError as error:
        raise UserError(f"{folder} has no report ({error.strerror}): python scripts/report.py {folder} makes it") from None
    except ValueError as error:
        raise UserError(f"{folder}/report.json is damaged ({error}): make it again with scripts/report.py") from None
    if not isinstance(report, dict) or "numbers" not in report:
        raise UserError(f"{folder}/report.json is not the report of one run: a sweep's page compares its own settings")
    if report.get("digest", whole := digest_of(report)) != whole:
        raise UserError(f"{folder}/report.json was changed since it was written: make it again with scripts/report.py")
    return report


def main(options: Options) -> None:
    from gan_jax.report.report import compare

    if len(options.folders) < 2:
        raise UserError(f"{len(options.folders)} folders: give at least two to compare")
    reports = {str(folder): read(folder) for folder in options.folders}
    for key in options.numbers:
        if lacking := [name for name, report in reports.items() if key not in report["numbers"]]:
            raise UserError(f"{lacking[0]} has no number {key!r}: it has {', '.join(reports[lacking[0]]['numbers'])}")
    table = compare(reports, options.numbers or None)
    print(table.T.to_string(float_format=lambda x: f"{x:.4g}"))


if __name__ == "__main__":
    run(main)
