"""The report of a sweep: each member on the validation split V, the settings ranked by a number
that was chosen beforehand, and the test split S for the first of them."""

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.metrics.choice import Choice, choose
from gan_jax.plots.reports import report_pictures
from gan_jax.report.build import Features, overfitting_report, references_of
from gan_jax.report.metric_specs import METRIC_SPECS
from gan_jax.report.numbers import References
from gan_jax.report.report import Report, free_name, write_files
from gan_jax.report.runs import openings, record_opening
from gan_jax.report.sweep_page import answer_pictures, sweep_page_html
from gan_jax.tables import to_csv
from gan_jax.training.progress import each

if TYPE_CHECKING:
    from gan_jax.sweeps.population import Member
    from gan_jax.sweeps.result import Sweep

PRIMARY, QUALITY = "copy_share", "fd"  # named before any result was known; smaller is better
COLUMNS = {"primary": PRIMARY, "guard": QUALITY}
ALSO = ("near_copies", "near_copies_pixels", "fd_gap", "d_auc")  # compared beside them; they decide nothing


@dataclass
class SweepReport:
    """The reports of a sweep, and the choice among its settings by `PRIMARY` and the guard
    `QUALITY`, see `metrics.choice`.

    table: one row for each trained member: setting, seed, n, verdict, every number; ready for
        `gan.ranking.rank`.
    reports: {setting: the Report of its first seed with the most images}.
    final: {setting: its Report on S}, where S was opened; final_table: the table there, of the
        chosen setting and the baseline.
    curves: the sweep's logged table. drawn: {name: PNG}, the sweep's own pictures.
    """

    table: pd.DataFrame
    baseline: str
    reports: dict[str, Report]
    about: dict[str, Any]
    final: dict[str, Report] = field(default_factory=dict)
    final_table: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    drawn: dict[str, bytes] = field(default_factory=dict, repr=False)

    def ranked(self, metric: str = PRIMARY) -> pd.DataFrame:
        """Settings by a number, best first, see `ranking.rank`: it chooses nothing."""
        return ranking.rank(self.table, metric, baseline=self.baseline)

    @cached_property
    def choice(self) -> Choice:
        """The choice at the largest number of training images."""
        return self.choices[-1]

    @cached_property
    def choices(self) -> list[Choice]:
        """The choice at each number of training images, ascending."""
        return [self._choose(self.table, n, self.curves) for n in sorted({int(n) for n in self.table["n"]})]

    def _choose(self, table: pd.DataFrame, n: int, curves: pd.DataFrame | None, held_out: str = "V") -> Choice:
        labels = {key: _label(key, held_out) for key in (PRIMARY, QUALITY, *ALSO)}
        also = [key for key in ALSO if key in table]
        return choose(table, PRIMARY, QUALITY, baseline=self.baseline, n=n, also=also, labels=labels, curves=curves)

    @property
    def chosen(self) -> str:
        return self.choice.setting

    @property
    def sentence(self) -> str:
        """The choice in one sentence, the same on every surface."""
        return self.choice.sentence

    @property
    def confirmation(self) -> str:
        """What S says of the choice, in one sentence; '' where it was not opened."""
        if self.final_table is None or not self.choice.decided:
            return ""
        on_s = self._choose(self.final_table, self.choice.n, self.final_table, "S")
        found = "confirmed" if on_s.setting == self.chosen else "not confirmed"
        return f"On S, which chose nothing, this is {found}: {on_s.sentence}"

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The tables of the choice, the verdicts, those on S where it was opened, and the sentence
        last, for a terminal of `width` columns, by default this one."""
        width = min(width or shutil.get_terminal_size((ranking.WIDTH, 24)).columns, ranking.WIDTH)
        members = zip(*(self.table[name].tolist() for name in ("setting", "n", "verdict")), strict=True)
        lines = [
            f"{ranking.shorten(setting, 50)}, n {n}: {verdict} in {count}"
            for (setting, n, verdict), count in Counter(members).items()
        ]
        parts = [choice.table_text(width) for choice in self.choices]
        parts += ["verdicts, in seeds\n" + "\n".join(lines)]
        parts += [f"on S, {setting}: {report.verdict_line()}" for setting, report in self.final.items()]
        if len(self.openings) > 1:
            parts.append(f"S has been opened {len(self.openings)} times for this sweep: what it says is no longer fresh")
        return "\n\n".join([*parts, *filter(None, [self.confirmation]), self.sentence])

    @property
    def openings(self) -> list[dict[str, Any]]:
        return self.about.get("openings", [])

    def to_json(self) -> dict[str, Any]:
        return {
            "about": self.about, "baseline": self.baseline, "chosen": self.chosen, "sentence": self.sentence,
            "confirmation": self.confirmation, "choice": json.loads(str(self.choice.frame.to_json(orient="records"))),
            "table": json.loads(str(self.table.to_json(orient="records"))),
            "reports": {name: report.to_json() for name, report in self.reports.items()},
            "final": {name: report.to_json() for name, report in self.final.items()},
        }  # fmt: skip

    @property
    def evidence(self) -> dict[str, Any]:
        """For the pictures: quality against novelty of each setting, and the gap against n where n
        varies."""
        rows = self.choice.rows.reindex(columns=["setting", "guard", ALSO[0]]).to_numpy(object).tolist()
        points = [{"name": name, "kind": "setting", "quality": fd, "near_copies": share} for name, fd, share in rows]
        first = next(iter(self.reports.values()))
        controls = [p for p in first.evidence.get("scatter", []) if p["kind"] == "control"]
        return {"scatter": points + controls} | ({"dose": self.table} if len(set(self.table["n"])) > 1 else {})

    def pictures(self) -> dict[str, bytes]:
        """{name: PNG}: the choice, what `evidence` shows, and the sweep's own pictures."""
        return answer_pictures(self.choice, COLUMNS) | report_pictures(self.evidence) | self.drawn

    def save(self, folder: str | Path) -> Path:
        """Write report.html, report.json and report.csv (the table), and ranking.txt and
        ranking.csv in the place of those by the logged numbers; returns the page's path."""
        folder = Path(folder)
        seeds, sizes = self.table["seed"].nunique(), ", ".join(str(choice.n) for choice in self.choices)
        title = f"Is it overfitting? {len(self.reports)} settings, {seeds} seeds, on {self.about['data']}, n = {sizes}"
        reports = self.reports | {f"{name} on S": report for name, report in self.final.items()}
        text = self.text(ranking.WIDTH)
        said = list(filter(None, [self.confirmation]))
        html = sweep_page_html(title, self.choices, COLUMNS, self.table, reports, self.pictures(), said, text)
        record = json.dumps(self.to_json(), indent=1)
        name = free_name(folder, next(iter(self.reports.values())).protocol)
        files = {f"{name}.html": html, f"{name}.json": record, f"{name}.csv": to_csv(self.table)}
        frames = pd.concat([choice.frame for choice in self.choices], ignore_index=True)
        write_files(folder, files | {"ranking.txt": text + "\n", "ranking.csv": to_csv(frames)})
        return folder / f"{name}.html"


def _label(key: str, held_out: str) -> str:
    named = "the copy share (samples nearest to T, above chance)"
    return named if key == PRIMARY else METRIC_SPECS[key].label.replace("{H}", held_out)


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

    final: then open S, for every seed of the chosen setting and of the baseline only (most images);
        the sweep's folder records it.
    features, n, seed: as for `overfitting_report`. Raises UserError where a member is not trained,
        or as `overfitting_report`.
    """
    if missing := [m for i, m in enumerate(swept.members) if i not in swept.states]:
        raise UserError(f"{len(missing)} members of the sweep are not trained yet, {missing[0].setting!r} first: resume it")
    sizes = sorted({m.n for m in swept.members})
    references = {size: references_of(swept.data.subset(size), features=features, n=n, seed=seed) for size in sizes}
    rows, reports = [], {}
    for member in each(swept.members, "judging", progress):
        report = _judged(swept, member, references[member.n], rows)
        if swept.find(member.setting) == swept.find(member.setting, member.seed, member.n):
            reports[member.setting] = report
    about = {"data": swept.data.name, "members": len(rows), "sweep": str(swept.folder or "in memory")}
    made = SweepReport(_table(rows), swept.baseline, reports, about, curves=swept.table, drawn=_drawn(swept))
    if final:
        _open(made, swept, features, n, seed)
    made.about["openings"] = openings(swept.folder)
    return made


def _drawn(swept: "Sweep") -> dict[str, bytes]:
    """The sweep's pictures as they lie in its folder, or drawn now."""
    with tempfile.TemporaryDirectory() as made:
        lying = sorted((swept.folder / "pictures").glob("*.png")) if swept.folder else []
        return {path.stem: path.read_bytes() for path in lying or sorted(swept.draw(made))}


def _judged(swept: "Sweep", member: "Member", references: References, rows: list[dict[str, Any]]) -> Report:
    """The report of a member; adds its row."""
    run = swept.run(member.setting, member.seed, member.n)
    report = overfitting_report(run, references=references)
    about = {"setting": member.setting, "seed": member.seed, "n": member.n, "step": run.step}
    about |= {"diverged": report.verdict == "diverged", "verdict": report.verdict}
    rows.append(about | {key: number.value for key, number in report.numbers.items()})
    return report


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.assign(step=table["step"].max())


def _open(made: SweepReport, swept: "Sweep", features: Features, n: int | None, seed: int) -> None:
    """Adds the reports on S of the chosen setting and the baseline, of every seed."""
    size, settings = made.choice.n, list(dict.fromkeys([made.chosen, swept.baseline]))
    record_opening(swept.folder, settings=settings)
    references = references_of(swept.data.subset(size), final=True, features=features, n=n, seed=seed)
    rows: list[dict[str, Any]] = []
    for member in (m for setting in settings for m in swept.members if (m.setting, m.n) == (setting, size)):
        made.final.setdefault(member.setting, _judged(swept, member, references, rows))
    made.final_table = _table(rows)
