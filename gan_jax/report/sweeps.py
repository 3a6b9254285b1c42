"""The report of a sweep: every member judged on V, settings ranked by a number named beforehand, S
for the chosen."""

from __future__ import annotations

import datetime
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.report.build import overfitting_report, references_of
from gan_jax.report.metric_specs import METRIC_SPECS
from gan_jax.report.report import Report
from gan_jax.report.runs import OPENINGS
from gan_jax.training.folder import SweepFolder, write_atomic, writing

if TYPE_CHECKING:
    import pandas as pd

    from gan_jax.sweeps.result import Sweep

PRIMARY, SECOND, QUALITY = "fd_gap", "near_copies", "fd"  # named before any result was seen; smaller is better in each
SHOWN = (PRIMARY, SECOND, "d_auc", QUALITY)


@dataclass
class SweepReport:
    """table: one row for each member that is trained: setting, seed, n, verdict, every number;
    ready for `gan.ranking.rank`.

    reports: {setting: the Report of its first seed with the most images}; final: {setting: its
        Report on S}, where opened.
    chosen: the first of the ranking by `PRIMARY`.
    """

    table: pd.DataFrame
    baseline: str
    reports: dict[str, Report]
    about: dict[str, Any]
    final: dict[str, Report] = field(default_factory=dict)

    def ranked(self, metric: str = PRIMARY) -> pd.DataFrame:
        """Settings by a number, best first; those whose samples are farther from V (FD) than the
        baseline's (shown, or by more than a quarter) come last."""
        return ranking.rank(self.table, metric, baseline=self.baseline, guard=None if metric == QUALITY else QUALITY)

    @property
    def chosen(self) -> str:
        """The setting that the ranking puts first, with the most training images."""
        ranked = self.ranked()
        return str(ranked.loc[ranked["n"] == ranked["n"].max(), "setting"].iloc[0])

    @property
    def choice(self) -> str:
        """One line: what is chosen, and how sure that is."""
        ranked = self.ranked()
        verdict = ranked.loc[(ranked["setting"] == self.chosen) & (ranked["n"] == ranked["n"].max()), "verdict"].iloc[0]
        return f"chosen on V by the smallest {_label(PRIMARY)}: {ranking.shorten(self.chosen, 60)} ({verdict})"

    def text(self) -> str:
        """The rankings by the primary number, others and quality, the verdicts, and what S said
        where it was opened."""
        members = zip(*(self.table[name].tolist() for name in ("setting", "n", "verdict")), strict=True)
        lines = [
            f"{ranking.shorten(setting, 50)}, n {n}: {verdict} in {count}"
            for (setting, n, verdict), count in Counter(members).items()
        ]
        parts = [ranking.ranking_text(self.ranked(key), _label(key)) for key in SHOWN if key in self.table]
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
        """For the pictures: quality against novelty with each setting a point, and the gap against
        n where n varies."""
        points = [
            {"name": name, "kind": "setting", "quality": self._mean(name, QUALITY), "near_copies": self._mean(name, SECOND)}
            for name in self.reports
        ]
        first = next(iter(self.reports.values()))
        controls = [p for p in first.evidence.get("scatter", []) if p["kind"] == "control"]
        return {"scatter": points + controls} | ({"dose": self.table} if len(set(self.table["n"])) > 1 else {})

    def _mean(self, setting: str, key: str) -> float:
        """Over the setting's members."""
        return float(np.nanmean(self.table.loc[self.table["setting"] == setting, key].to_numpy(float)))

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: what `evidence` shows."""
        from gan_jax.plots.reports import report_pictures

        return report_pictures(self)

    def save(self, folder: str | Path) -> Path:
        """report.html, report.json and report.csv (the table) in a folder; returns the page's
        path."""
        from gan_jax.report.page import sweep_page_html

        folder = Path(folder)
        title = f"Is it overfitting? {len(self.reports)} settings on {self.about['data']}"
        reports = self.reports | {f"{name} on S": report for name, report in self.final.items()}
        html = sweep_page_html(title, f"{self.choice}\n\n{self.text()}", self.table, reports, self.pictures())
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "report.html", html)
            write_atomic(folder / "report.json", json.dumps(self.to_json(), indent=1))
            write_atomic(folder / "report.csv", self.table.to_csv(index=False))
        return folder / "report.html"


def _label(key: str) -> str:
    return METRIC_SPECS[key].label.replace("{H}", "V")


def sweep_report(
    swept: Sweep, *, final: bool = False, features: Any = "auto", n: int | None = None, seed: int = 0, progress: bool = True
) -> SweepReport:
    """Judge every trained member of a sweep on V, with one set of references and controls for each
    number of images.

    final: then open S, for the chosen setting and the baseline only (first seed, most images); the
        sweep's folder records it.
    features, n, seed: as for `overfitting_report`. Raises UserError where nothing is trained or S
        cannot be judged.
    """
    import pandas as pd
    from tqdm import tqdm

    if missing := [m for i, m in enumerate(swept.members) if i not in swept.states]:
        raise UserError(f"{len(missing)} members of the sweep are not trained yet, {missing[0].setting!r} first: resume it")
    sizes = sorted({m.n for m in swept.members})
    references = {size: references_of(swept.data.subset(size), features=features, n=n, seed=seed) for size in sizes}
    rows, reports = [], {}
    for member in tqdm(swept.members, "judging", disable=not progress, file=sys.stderr):
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
    made.about["openings"] = SweepFolder(swept.folder).rows(OPENINGS) if swept.folder else []
    return made


def _open(made: SweepReport, swept: Sweep, features: Any, n: int | None, seed: int) -> None:
    """S, for the chosen setting and the baseline."""
    settings = list(dict.fromkeys([made.chosen, swept.baseline]))
    if swept.folder:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        SweepFolder(swept.folder).append(OPENINGS, {"time": now, "settings": settings, "command": " ".join(sys.argv)})
    runs = {setting: swept.run(setting) for setting in settings}
    references = references_of(next(iter(runs.values())).data, final=True, features=features, n=n, seed=seed)
    for setting, run in runs.items():
        made.final[setting] = overfitting_report(run, references=references)
