"""The result of a sweep: its table, ranking and pictures, and any member as a run of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from gan_jax import plots
from gan_jax.core.bind import leaves
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.data.splits import Splits
from gan_jax.gan.game import game_of
from gan_jax.metrics import ranking
from gan_jax.metrics.choice import AUC, Choice, choose
from gan_jax.metrics.convergence import QUALITY
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.sweeps.population import Member, by_structure, listed, members_of
from gan_jax.text import shorten
from gan_jax.training.run import Run, exit_code, load_again
from gan_jax.training.serialization import from_json

if TYPE_CHECKING:
    import pandas as pd

GAP = AUC  # the metric of the pictures by default
LABELS = {
    "G/near_copies": "near-copies of T (logged)",
    "G/fd_gap": "FD to V less FD to T (logged)",
    QUALITY: "the samples' energy distance to V",
}
DECIDES = ("G/near_copies", "G/fd_gap")
SHOWN = 12  # samples of each setting in a picture
PANELS = {
    GAP: plots.Panel(GAP, "D tells T from V (AUC)", 0.5, "chance"),
    QUALITY: plots.Panel(QUALITY, "samples to V (energy distance)", 0.0, "equal distributions"),
}


@dataclass
class Sweep:
    """A trained sweep.

    stopped: the signal that ended it early, or None. rows, states: by member index, the logged rows
    and functions that return the state. groups: member indices of equal structure.
    """

    members: list[Member]
    data: Splits
    game: Game | None
    baseline: str
    rank_by: str
    higher_is_better: bool = False
    folder: Path | None = None
    stopped: str | None = None
    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict, repr=False)
    states: dict[int, Callable[[], Any]] = field(default_factory=dict, repr=False)
    groups: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self):
        self.groups = by_structure(self.members)

    def game_of(self, member: Member) -> Game:
        """The sweep's game, by default that of the member's recipe."""
        return game_of(member.recipe, self.game)

    @property
    def structures(self) -> list[list[Member]]:
        """The members of each group."""
        return [[self.members[i] for i in indices] for indices in self.groups]

    @property
    def exit_code(self) -> int:
        """For a command line: 0 when the sweep is complete (diverged members are a finding), 128 +
        the signal that stopped it."""
        return exit_code(self.stopped)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per member and evaluation: setting, each number that varies by its path, seed, n,
        step, diverged, diverged_step, then the metrics.

        Losses and penalties are means over the steps since the last evaluation, other metrics are
        values at the step. All are NaN once a member has diverged.
        """
        import pandas as pd

        own = lambda member: {k: _decimal(v) for k, v in leaves(member.recipe).items() if np.ndim(v) == 0}
        numbers = {member.setting: own(member) for member in self.members}
        paths = dict.fromkeys(path for values in numbers.values() for path in values)
        varying = [path for path in paths if len({values.get(path) for values in numbers.values()}) > 1]
        rows = []
        for i, member in enumerate(self.members):
            about = {"setting": member.setting} | {path: numbers[member.setting].get(path) for path in varying}
            rows += [about | {"seed": member.seed, "n": member.n} | row for row in self.rows.get(i, [])]
        return pd.DataFrame(rows)

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(member.setting for member in self.members))

    def find(self, setting: str, seed: int | None = None, n: int | None = None) -> int:
        """The index of a member, by default the setting's first seed with most images. Raises
        UserError where there is none."""
        asked = {k: v for k, v in {"setting": setting, "seed": seed, "n": n}.items() if v is not None}
        fits = [i for i, m in enumerate(self.members) if all(getattr(m, k) == v for k, v in asked.items())]
        if not fits:
            words = ", ".join(f"{k}={shorten(v, 60)}" for k, v in asked.items())
            raise UserError(f"no member of this sweep has {words}; it has the settings {listed(self.settings)}")
        return max(fits, key=lambda i: (self.members[i].n, -i))

    def run(self, setting: str, seed: int | None = None, n: int | None = None) -> Run:
        """One member as a run, with its samples, curves and verdict."""
        i = self.find(setting, seed, n)
        if i not in self.states:
            raise UserError(f"{setting!r} has not been trained yet: resume the sweep")
        member, state, at = self.members[i], self.states[i](), self.rows[i][-1]["diverged_step"]
        history = [{k: v for k, v in row.items() if v is not None and "diverged" not in k} for row in self.rows[i]]
        run = Run(member.recipe, state, self.data.subset(member.n), member.seed, self.game_of(member), history)
        if at is not None:
            run.state = state.replace(step=jnp.int32(at))
            run.stopped = f"not finite at step {at}; the state is the last good one"
        return run

    def samples(self, k: int, **settings: Any) -> dict[str, np.ndarray]:
        """{trained setting: k samples of its first seed, see `Run.samples`}."""
        done = [name for name in self.settings if self.find(name) in self.states]
        return {name: self.run(name).samples(k, **settings) for name in done}

    def ranking(self, metric: str | None = None, **arguments: Any) -> "pd.DataFrame":
        """The settings, best first, compared with the baseline: see `ranking.rank`."""
        arguments = {"baseline": self.baseline} | arguments
        if metric in (None, self.rank_by):
            arguments = {"higher_is_better": self.higher_is_better} | arguments
        return ranking.rank(self.table, metric or self.rank_by, **arguments)

    @property
    def decides(self) -> str | None:
        """The logged number that a setting is chosen by: `rank_by` or, as D's AUC decides nothing,
        near-copies or the FD gap; None where none was logged."""
        return next((name for name in (self.rank_by, *DECIDES) if name != GAP and self.measured(name)), None)

    def choice(self, n: int | None = None) -> Choice:
        """The choice by the rule of `metrics.choice` and the number `decides`, at n images, by
        default the most. The overfitting report has better numbers, and chooses anew. Raises
        UserError where nothing that decides was logged."""
        primary = self.decides
        if primary is None:
            raise UserError(
                f"nothing is chosen: this sweep logged neither {' nor '.join(DECIDES)}, and D's AUC decides nothing"
            )
        guard = QUALITY if primary != QUALITY and self.measured(QUALITY) else None
        higher = self.higher_is_better and primary == self.rank_by
        return choose(self.table, primary, guard, baseline=self.baseline, n=n, labels=LABELS, higher_is_better=higher)

    def choices(self) -> list[Choice]:
        """The choice at each number of images; the most last."""
        return [self.choice(n) for n in sorted({member.n for member in self.members})] if self.decides else []

    def report(self, metric: str | None = None) -> str:
        """The choices as text, or the ranking by a metric."""
        if metric is None and (choices := self.choices()):
            return "\n\n".join(choice.text() for choice in choices)
        return ranking.ranking_text(self.ranking(metric), metric or self.rank_by)

    def measured(self, metric: str) -> bool:
        """Whether any member has a value of this metric."""
        return any(row.get(metric) is not None for rows in self.rows.values() for row in rows)

    def panels(self) -> list[plots.Panel]:
        """What the pictures show: the metric of the ranking, then the others that were measured."""
        own = plots.Panel(self.rank_by, self.rank_by, None, "", self.higher_is_better)
        panels = {self.rank_by: PANELS.get(self.rank_by, own)} | PANELS
        return [panel for name, panel in panels.items() if self.measured(name)]

    def draw(self, folder: str | Path) -> list[Path]:
        """Draw the pictures: ranking, curves with seed bands, training (T) against validation
        images (V), samples, and the metrics by size where there are several."""
        folder, panels, drawn = Path(folder), self.panels(), []
        table: Any = self.table
        largest = table[table["n"] == table["n"].max()]
        if panels:
            drawn += [plots.ranking_figure(folder / "ranking.png", table, panels, self.baseline)]
        for panel in panels:
            name, shown = panel.metric.replace("/", "_"), (panel.metric, panel.label)
            path = folder / f"curves_{name}.png"
            drawn += [plots.seed_bands(path, largest, *shown, panel.reference, self.baseline)]
            if len(largest) < len(table):
                drawn += [plots.dose_response(folder / f"sizes_{name}.png", table, *shown, reference=panel.reference)]
        if self.measured("D/validation_logit"):
            drawn += [plots.gap_curves(folder / "gaps.png", largest)]
        samples = all(self.game_of(member).sample for member in self.members)
        if samples and (len(self.data.image_shape) == 3 or self.data.image_shape == (2,)):
            real = {"real (V)": self.data.validation.images[:SHOWN]}
            drawn += [plots.sample_sheet(folder / "samples.png", real | self.samples(SHOWN))]
        return drawn


def _decimal(leaf: Any) -> float:
    """A number as it was written: 2e-4 and not 0.00019999999494757503, its nearest in float32, so
    that `table[table["..."] == 2e-4]` finds it."""
    value = np.asarray(leaf)
    return float(str(value)) if value.dtype.kind == "f" else float(value)


def recorded(
    files: SweepFolder, data: Splits | None, settings: Mapping[str, Any] | None, game: Game | None, trusted: Sequence[str]
) -> Sweep:
    """The sweep that a folder's record describes, before any training."""
    record = files.read()
    settings = {k: from_json(v, trusted) for k, v in record["settings"].items()} if settings is None else dict(settings)
    data = load_again(record, files.path) if data is None else data
    members = members_of(settings, data, record["seeds"], record["sizes"])
    return Sweep(members, data, game, record["baseline"], record["rank_by"], record["higher_is_better"], files.path)
