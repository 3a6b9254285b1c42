"""The report of a sweep: each member on the validation split V, the settings ranked by a number
that was chosen beforehand, and the test split S for the first of them."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots.parts import number as figure
from gan_jax.plots.reports import report_pictures
from gan_jax.report.build import Features, overfitting_report, references_of
from gan_jax.report.metric_specs import METRIC_SPECS
from gan_jax.report.page import render
from gan_jax.report.report import Report, free_name, write_files
from gan_jax.report.runs import openings, record_opening
from gan_jax.tables import to_csv
from gan_jax.training.progress import each

if TYPE_CHECKING:
    from gan_jax.sweeps.result import Sweep

PRIMARY, SECOND, QUALITY = "fd_gap", "near_copies", "fd"  # chosen before any result was known; smaller is better
SHOWN = (PRIMARY, SECOND, "d_auc", QUALITY)


@dataclass
class SweepReport:
    """The reports of a sweep, and the ranking of its settings by `PRIMARY`.

    table: one row for each trained member: setting, seed, n, verdict, every number; ready for
        `gan.ranking.rank`.
    reports: {setting: the Report of its first seed with the most images}.
    final: {setting: its Report on S}, where S was opened.
    """

    table: pd.DataFrame
    baseline: str
    reports: dict[str, Report]
    about: dict[str, Any]
    final: dict[str, Report] = field(default_factory=dict)

    def ranked(self, metric: str = PRIMARY) -> pd.DataFrame:
        """Settings by a number, best first. Those whose samples are farther from V (FD) than the
        baseline's (shown, or by more than a quarter) come last."""
        return ranking.rank(self.table, metric, baseline=self.baseline, guard=None if metric == QUALITY else QUALITY)

    @property
    def chosen(self) -> str:
        """The first setting of the ranking with the most training images."""
        ranked = self.ranked()
        return str(ranked.loc[ranked["n"] == ranked["n"].max(), "setting"].iloc[0])

    @property
    def choice(self) -> str:
        """One line: what is chosen, and how sure that is."""
        ranked = self.ranked()
        verdict = ranked.loc[ranked["n"] == ranked["n"].max(), "verdict"].iloc[0]
        return f"chosen on V by the smallest {_label(PRIMARY)}: {ranking.shorten(self.chosen, 60)} ({verdict})"

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The rankings by `SHOWN`, the verdicts, and those on S where it was opened, for a terminal
        of `width` columns, by default this one."""
        width = min(width or shutil.get_terminal_size((ranking.WIDTH, 24)).columns, ranking.WIDTH)
        members = zip(*(self.table[name].tolist() for name in ("setting", "n", "verdict")), strict=True)
        lines = [
            f"{ranking.shorten(setting, 50)}, n {n}: {verdict} in {count}"
            for (setting, n, verdict), count in Counter(members).items()
        ]
        parts = [ranking.ranking_text(self.ranked(key), _label(key), width) for key in SHOWN if key in self.table]
        parts += ["verdicts, in seeds\n" + "\n".join(lines), self.choice]
        parts += [f"on S, {setting}: {report.verdict_line()}" for setting, report in self.final.items()]
        if len(self.openings) > 1:
            parts.append(f"S has been opened {len(self.openings)} times for this sweep: what it says is no longer fresh")
        return "\n\n".join(parts)

    @property
    def openings(self) -> list[dict[str, Any]]:
        return self.about.get("openings", [])

    def to_json(self) -> dict[str, Any]:
        return {
            "about": self.about, "baseline": self.baseline, "chosen": self.chosen,
            "table": json.loads(str(self.table.to_json(orient="records"))),
            "reports": {name: report.to_json() for name, report in self.reports.items()},
            "final": {name: report.to_json() for name, report in self.final.items()},
        }  # fmt: skip

    @property
    def evidence(self) -> dict[str, Any]:
        """For the pictures: quality against novelty of each setting, and the gap against n where n
        varies."""
        mean = lambda name, key: float(np.nanmean(self.table.loc[self.table["setting"] == name, key].to_numpy(float)))
        points = [
            {"name": name, "kind": "setting", "quality": mean(name, QUALITY), "near_copies": mean(name, SECOND)}
            for name in self.reports
        ]
        first = next(iter(self.reports.values()))
        controls = [p for p in first.evidence.get("scatter", []) if p["kind"] == "control"]
        return {"scatter": points + controls} | ({"dose": self.table} if len(set(self.table["n"])) > 1 else {})

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: what `evidence` shows."""
        return report_pictures(self.evidence)

    def save(self, folder: str | Path) -> Path:
        """Write report.html, report.json and report.csv (the table); returns the page's path."""
        folder = Path(folder)
        title = f"Is it overfitting? {len(self.reports)} settings on {self.about['data']}"
        reports = self.reports | {f"{name} on S": report for name, report in self.final.items()}
        html = sweep_page_html(title, f"{self.choice}\n\n{self.text(ranking.WIDTH)}", self.table, reports, self.pictures())
        record = json.dumps(self.to_json(), indent=1)
        name = free_name(folder, next(iter(self.reports.values())).protocol)
        files = {f"{name}.html": html, f"{name}.json": record, f"{name}.csv": to_csv(self.table)}
        write_files(folder, files)
        return folder / f"{name}.html"


def sweep_page_html(
    title: str, ranking_text: str, table: pd.DataFrame, reports: Mapping[str, Report], pictures: Mapping[str, bytes]
) -> str:
    """The page of a sweep: ranking, table of members, pictures ({name: PNG}), and the verdict and
    table of each setting."""
    columns = [(str(name), not pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
    shown = lambda value: figure(value) if isinstance(value, float) else str(value)
    rows = [list(map(shown, row)) for row in table.to_numpy(object).tolist()]
    given = {"title": title, "ranking": ranking_text, "columns": columns, "rows": rows, "reports": reports}
    return render("sweep.html", pictures=pictures, **given)


def _label(key: str) -> str:
    return METRIC_SPECS[key].label.replace("{H}", "V")


def sweep_report(
    swept: "Sweep",
    *,
    final: bool = False,
    features: Features = "auto",
    n: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SweepReport:
    """A report on V for every member of a sweep, with one set of references and controls for each
    number of images.

    final: then open S, for the chosen setting and the baseline only (first seed, most images); the
        sweep's folder records it.
    features, n, seed: as for `overfitting_report`. Raises UserError where a member is not trained,
        or as `overfitting_report`.
    """
    if missing := [m for i, m in enumerate(swept.members) if i not in swept.states]:
        raise UserError(f"{len(missing)} members of the sweep are not trained yet, {missing[0].setting!r} first: resume it")
    sizes = sorted({m.n for m in swept.members})
    references = {size: references_of(swept.data.subset(size), features=features, n=n, seed=seed) for size in sizes}
    rows, reports = [], {}
    for member in each(swept.members, "judging", progress):
        run = swept.run(member.setting, member.seed, member.n)
        report = overfitting_report(run, references=references[member.n])
        about = {"setting": member.setting, "seed": member.seed, "n": member.n, "step": run.step}
        diverged = report.verdict == "diverged"
        rows.append(about | {"diverged": diverged, "verdict": report.verdict} | {k: v.value for k, v in report.numbers.items()})
        if swept.find(member.setting) == swept.find(member.setting, member.seed, member.n):
            reports[member.setting] = report
    table = pd.DataFrame(rows)
    table["step"] = table["step"].max()
    about = {"data": swept.data.name, "members": len(rows), "sweep": str(swept.folder or "in memory")}
    made = SweepReport(table, swept.baseline, reports, about)
    if final:
        _open(made, swept, features, n, seed)
    made.about["openings"] = openings(swept.folder)
    return made


def _open(made: SweepReport, swept: "Sweep", features: Features, n: int | None, seed: int) -> None:
    """Adds the reports on S of the chosen setting and the baseline."""
    settings = list(dict.fromkeys([made.chosen, swept.baseline]))
    record_opening(swept.folder, settings=settings)
    runs = {setting: swept.run(setting) for setting in settings}
    references = references_of(next(iter(runs.values())).data, final=True, features=features, n=n, seed=seed)
    for setting, run in runs.items():
        made.final[setting] = overfitting_report(run, references=references)
