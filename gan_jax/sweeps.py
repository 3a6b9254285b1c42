"""Sweeps: settings x seeds x numbers of training images, trained as populations, one program for each structure.

    sweep(settings, data, steps=..., seeds=5) -> Sweep: one table, one ranking, and any member as a run of its own

Members are grouped by structure, each group is cut into parts that fit the memory (as the compiler measured the program),
and each part is trained, evaluated, checkpointed and logged as a whole. All ranking is on V; S stays closed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import executors, hosts, pictures, ranking
from gan_jax.errors import UserError
from gan_jax.executors.driver import run_groups
from gan_jax.executors.inputs import check_tasks
from gan_jax.folder import SweepFolder, environment, git_commit
from gan_jax.game import Game, game_of
from gan_jax.loop import called, check_intervals
from gan_jax.parallel import place
from gan_jax.population import Member
from gan_jax.recipe import leaves
from gan_jax.record import from_json, to_json
from gan_jax.run import Run, exit_code, load_again
from gan_jax.sweep_checks import (
    GAP,
    check,
    check_metric,
    check_shares,
    listed,
    members_of,
    named_settings,
    origin_for,
)
from gan_jax.sweep_session import Session

if TYPE_CHECKING:
    import pandas as pd

QUALITY = "G/validation_energy"
SHOWN = 12  # samples of each setting on a sheet
PANELS = {
    GAP: pictures.Panel(GAP, "D tells T from V (AUC)", 0.5, "chance"),
    QUALITY: pictures.Panel(QUALITY, "samples to V (energy distance)", 0.0, "equal distributions"),
}


def sweep(
    settings: Mapping[str, Any] | Sequence[Any],
    data: Any,
    *,
    steps: int,
    seeds: int | Sequence[int] = 5,
    sizes: Sequence[int] | None = None,
    order: str = "shared",
    baseline: str | None = None,
    rank_by: str = GAP,
    higher_is_better: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_every: int = 100,
    checkpoint_every: int | None = None,
    members_per_program: int | None = None,
    devices: int | None = None,
    devices_per_member: int | None = None,
    warm_start: Run | str | Path | None = None,
    game: Game | None = None,
    executor: str | executors.Executor = "local",
    address: str | None = None,
    trusted: Sequence[str] = (),
    progress: bool = True,
    command: str | None = None,
) -> Sweep:
    """Train every setting at every seed and number of training images; in memory, or in the sweep folder `out`.

    settings: {name: recipe} (see `grid`, `draw`) or a list of recipes; the first is the baseline unless `baseline` names one.
    seeds: how many, from 0, or which. sizes: numbers of training images, nested subsets; all images when None.
    order: 'shared', one order of the data for every member, or 'own', each seed its own. Comparisons pair equal seeds.
    rank_by: the metric of the final ranking, on V; smaller is better unless told otherwise.
    log_every: steps between evaluations; checkpoint_every: a multiple of it, five times it when None.
    members_per_program: at most so many; None for as many as fit the free memory.
    devices: the members are spread over so many, over all there are when None. devices_per_member: so many share each member's
    batch; None for one, or more where a member does not fit on one or devices would idle (see `layout`).
    warm_start: begin every member with the networks of another GAN's run (for tasks: of its folder); optimizers start anew.
    game: that of each recipe unless another is given for all: a GAN and a VAE may stand in one sweep.
    executor: 'local', one group after the other in this process; 'ray' or 'slurm', each group as a task with devices of its
        own (or `executors.Ray(...)`, `executors.Slurm(...)` with their settings), in the same folder `out`, to the same table.
    address: of the Ray cluster; or 'local' for SLURM's tasks as processes of this machine. trusted: modules of yours that the
        recipes or the game name, for tasks to look up.
    resume: finish what is missing, bit for bit as if never stopped. Ctrl-C and SIGTERM save and return, `stopped` being set.
    Raises UserError for anything that cannot be meant, before a step is run.
    """
    hosts.alone("a sweep", jax.process_count())
    checkpoint_every = 5 * log_every if checkpoint_every is None else checkpoint_every
    check_intervals(steps, log_every, checkpoint_every, checkpoint_every, keep=1)
    settings = named_settings(settings)
    members = members_of(settings, data, seeds, sizes)
    check(game, members, data, steps, order, baseline, members_per_program)
    check_metric(game, members, data, rank_by)
    engine = executors.choose(executor, address, out)
    if engine:
        check_tasks(settings, game, data, trusted, warm_start)
    baseline, placement = baseline or next(iter(settings)), place(1 if engine else devices or len(jax.local_devices()))
    if devices or not engine:
        check_shares(game, members, data, devices or len(placement.devices), devices_per_member)
    origin, folder = origin_for(members, data, game, warm_start, trusted), None
    if out is not None:
        folder = SweepFolder(out)
        record = {
            "settings": {name: to_json(recipe) for name, recipe in settings.items()}, "names": list(settings),
            "seeds": list(dict.fromkeys(m.seed for m in members)), "sizes": list(dict.fromkeys(m.n for m in members)),
            "order": order, "data": data.describe(), "intervals": [log_every], "source": getattr(data, "source", None),
            "baseline": baseline, "rank_by": rank_by, "higher_is_better": higher_is_better,
            "steps": steps, "environment": environment(), "git_commit": git_commit(),
            "warm_start": called(warm_start), "command": command or " ".join(sys.argv),
        }  # fmt: skip
        folder.start(record, resume, overwrite)
    elif resume or overwrite:
        raise UserError("resume and overwrite speak of a sweep folder: name it with out")
    where = folder.path if folder else None
    result = Sweep(members, data, game, baseline, rank_by, higher_is_better, where)
    intervals = (steps, log_every, checkpoint_every)
    per_member = None if engine else devices_per_member  # the tasks have the devices
    session = Session(result, placement, folder, order, intervals, members_per_program, per_member, origin)
    if engine:
        shares = {"devices": devices, "devices_per_member": devices_per_member}
        run_groups(session, engine, **shares, trusted=trusted, progress=progress)
    else:
        session.run(progress)
    return result


def open_sweep(
    folder: str | Path,
    *,
    data: Any = None,
    settings: Mapping[str, Any] | None = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
) -> Sweep:
    """The sweep in a folder, as far as it is trained, to look at.

    data, settings: where the sweep was given its own in memory. trusted: modules of yours that its recipes name.
    Raises UserError where there is no sweep or it cannot be read.
    """
    files = SweepFolder(folder)
    record = files.read()
    result = recorded(files, record, data, settings, game, trusted)
    intervals = (record["steps"], record["intervals"][0], record["steps"])
    Session(result, place(1), files, record["order"], intervals, None).read()
    return result


def recorded(files: SweepFolder, record: dict[str, Any], data: Any, settings: Any, game: Game | None, trusted=()) -> Sweep:
    """The sweep that a folder's record describes, with nothing trained."""
    settings = {k: from_json(v, trusted) for k, v in record["settings"].items()} if settings is None else dict(settings)
    data = load_again(record) if data is None else data
    members = members_of(settings, data, record["seeds"], record["sizes"])
    return Sweep(members, data, game, record["baseline"], record["rank_by"], record["higher_is_better"], files.path)


@dataclass
class Sweep:
    """A trained population. `table`: a pandas DataFrame, one row per member and evaluation; `stopped`: why it ended early."""

    members: list[Member]
    data: Any
    game: Game | None
    baseline: str
    rank_by: str
    higher_is_better: bool = False
    folder: Path | None = None
    stopped: str | None = None
    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict, repr=False)
    states: dict[int, Any] = field(default_factory=dict, repr=False)

    @property
    def exit_code(self) -> int:
        """For a command line: 0 when complete (diverged members are a finding), 128 + the signal that stopped it."""
        return exit_code(self.stopped)

    @property
    def table(self) -> pd.DataFrame:
        """Tidy: setting, each number that varies by its path, seed, n, step, diverged, diverged_step, then the metrics.

        Means over the steps since the last evaluation for losses and penalties; values at the step for the others. NaN from
        the evaluation on at which a member had diverged.
        """
        import pandas as pd

        varying = _varying(self.members)
        rows = []
        for i, member in enumerate(self.members):
            about = {"setting": member.setting} | {path: values[i] for path, values in varying.items()}
            rows += [about | {"seed": member.seed, "n": member.n} | row for row in self.rows.get(i, [])]
        return pd.DataFrame(rows)

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(member.setting for member in self.members))

    def find(self, setting: str, seed: int | None = None, n: int | None = None) -> int:
        """The index of a member: by default the setting's first seed, with its most images. Raises UserError if none fits."""
        fits = [
            i for i, m in enumerate(self.members)
            if m.setting == setting and (seed is None or m.seed == seed) and (n is None or m.n == n)
        ]  # fmt: skip
        if not fits:
            asked = {"setting": ranking.shorten(setting, 60), "seed": seed, "n": n}
            asked = ", ".join(f"{k}={v}" for k, v in asked.items() if v is not None)
            raise UserError(f"no member of this sweep has {asked}; it has the settings {listed(self.settings)}")
        return max(fits, key=lambda i: (self.members[i].n, -i))

    def run(self, setting: str, seed: int | None = None, n: int | None = None) -> Run:
        """One member as a run: its samples, curves and verdict."""
        i = self.find(setting, seed, n)
        if i not in self.states:
            raise UserError(f"{setting!r} has not been trained yet: resume the sweep")
        member, state, at = self.members[i], self.states[i](), self.rows[i][-1]["diverged_step"]
        history = [{k: v for k, v in row.items() if v is not None and "diverged" not in k} for row in self.rows[i]]
        run = Run(member.recipe, state, self.data.subset(member.n), member.seed, game_of(member.recipe, self.game), history)
        if at is not None:
            run.state = state.replace(step=jnp.int32(at))
            run.stopped = f"not finite at step {at}; the state is the last good one"
        return run

    def samples(self, k: int, **settings: Any) -> dict[str, np.ndarray]:
        """k samples of each setting's first seed, {setting: as `Run.samples`}; those not trained yet are left out."""
        done = [name for name in self.settings if self.find(name) in self.states]
        return {name: self.run(name).samples(k, **settings) for name in done}

    def ranking(self, metric: str | None = None, **arguments: Any) -> pd.DataFrame:
        """The settings, best first, with intervals and tests against the baseline (see `ranking.rank`)."""
        arguments = {"baseline": self.baseline} | arguments
        if metric in (None, self.rank_by):
            arguments = {"higher_is_better": self.higher_is_better} | arguments
        return ranking.rank(self.table, metric or self.rank_by, **arguments)

    def report(self, metric: str | None = None) -> str:
        """The ranking as text."""
        return ranking.ranking_text(self.ranking(metric), metric or self.rank_by)

    def measured(self, metric: str) -> bool:
        """Whether any member has a value of this metric."""
        return any(row.get(metric) is not None for rows in self.rows.values() for row in rows)

    def panels(self) -> list[pictures.Panel]:
        """What the pictures show: the ranking's metric, then the others that have a meaning here."""
        own = pictures.Panel(self.rank_by, self.rank_by, None, "", self.higher_is_better)
        panels = {self.rank_by: PANELS.get(self.rank_by, own)} | PANELS
        return [panel for name, panel in panels.items() if self.measured(name)]

    def draw(self, folder: str | Path) -> list[Path]:
        """The pictures: ranking, curves with seed bands, T against V, samples; dose and response for several sizes."""
        folder, panels, drawn = Path(folder), self.panels(), []
        table: Any = self.table
        largest = table[table["n"] == table["n"].max()]
        if panels:
            drawn += [pictures.ranking_figure(folder / "ranking.png", table, panels, self.baseline)]
        for panel in panels:
            name, shown = panel.metric.replace("/", "_"), (panel.metric, panel.label)
            path = folder / f"curves_{name}.png"
            drawn += [pictures.seed_bands(path, largest, *shown, panel.reference, self.baseline)]
            if len(largest) < len(table):
                drawn += [pictures.dose_response(folder / f"sizes_{name}.png", table, *shown, reference=panel.reference)]
        if self.measured("D/validation_logit"):
            drawn += [pictures.gap_curves(folder / "gaps.png", largest)]
        samples = all(game_of(member.recipe, self.game).sample for member in self.members)
        if samples and (len(self.data.image_shape) == 3 or self.data.image_shape == (2,)):
            real = {"real (V)": self.data.validation.images[:SHOWN]}
            drawn += [pictures.sample_sheet(folder / "samples.png", real | self.samples(SHOWN))]
        return drawn


def _varying(members: list[Member]) -> dict[str, list[float | None]]:
    """{path of a number that is not the same in all members: its value in each, None where a member has no such number}."""
    numbers = {m.setting: {k: v for k, v in leaves(m.recipe).items() if np.ndim(v) == 0} for m in members}
    paths = dict.fromkeys(path for values in numbers.values() for path in values)
    columns = {path: {name: values.get(path) for name, values in numbers.items()} for path in paths}
    plain = lambda x: None if x is None else float(x)
    return {
        path: [plain(column[m.setting]) for m in members]
        for path, column in columns.items()
        if len({plain(x) for x in column.values()}) > 1
    }
