"""One call of `sweep`: plan the programs, train part by part, log, save, resume."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.core.rng import named
from gan_jax.core.text import shorten
from gan_jax.gan.game import game_of
from gan_jax.gan.state import networks
from gan_jax.sweeps.layout import Layout, batch_size_of, fitted, possible_shares, start
from gan_jax.sweeps.population import Member, Population, Programs, by_structure, bytes_free, member_state
from gan_jax.training.checkpoints import FILES
from gan_jax.training.feed import feed_of, judged_of
from gan_jax.training.folder import RunFolder, SweepFolder, environment, write_atomic, writing
from gan_jax.training.placement import Placement
from gan_jax.training.progress import SweepProgress
from gan_jax.training.stop import Stop
from gan_jax.training.trainer import say_environment

if TYPE_CHECKING:
    from gan_jax.sweeps.result import Sweep


@dataclass
class _Part:
    """Some members of one structure, their population, its compiled programs (None until needed)
    and its place on disk."""

    indices: list[int]
    population: Population
    programs: Programs | None
    folder: RunFolder | None

    def reached(self) -> int:
        """The step up to which it is trained and saved; -1 for none."""
        if self.folder is None:
            return -1
        names = [path.parent.name for path in self.folder.checkpoints.glob(f"*/{FILES}")]
        saved = [int(name) for name in names if name.isdecimal()]
        logged = [row["step"] for row in self.folder.rows()]
        return min(max(saved, default=-1), max(logged, default=-1))


class SweepTrainer:
    """One call of `sweep`."""

    def __init__(
        self, result: Sweep, placement: Placement, folder: SweepFolder | None, order: str, intervals, most, per_member=None,
        origin=None,
    ):  # fmt: skip
        self.result, self.placement, self.folder, self.order, self.most = result, placement, folder, order, most
        self.per_member, self.possible, self.origin = per_member, {}, origin and networks(origin.state)
        self.steps, self.log_every, self.checkpoint_every = intervals
        self.groups = by_structure(result.members)
        self.plan_path = folder.path / "plan.json" if folder else None
        self.plan: dict[str, list[int]] = {}  # members in one program, devices that share the batch of each
        self.read_plan()
        data, fewest = result.data, min(m.n for m in result.members)  # every member has the first of the smallest size
        self.examples = feed_of(data, named(jax.random.key(0), "order"), placement)
        self.judged = placement.replicate(judged_of(data, fewest))

    def population(self, indices: list[int], layout: Layout) -> Population:
        members = [self.result.members[i] for i in indices]
        feed = self.examples
        if len({m.n for m in self.result.members}) > 1:  # in every part, so that parts share a program
            feed = feed.replace(size=jnp.asarray([m.n for m in members], jnp.int32))
        if self.order == "own":
            feed = feed.replace(key=jnp.stack([named(jax.random.key(m.seed), "order") for m in members]))
        game = game_of(members[0].recipe, self.result.game)
        return Population(game, replace(self.placement, per_member=layout.per_member), members, feed, self.origin)

    # ---- planning -------------------------------------------------------------------------------

    def read_plan(self) -> None:
        """How each group was cut: by a session of all groups, or by those of one group each."""
        where = self.folder.path if self.folder else None
        for path in [where / "plan.json", *sorted(where.glob("plans/*.json"))] if where else []:
            if path.exists():
                planned = json.loads(path.read_text())
                self.plan |= {
                    number: x if isinstance(x, list) else [x, 1] for number, x in planned.items()
                }  # older: the size alone

    def length(self) -> int:
        return min(self.log_every, self.steps)

    def layout(self, number: int) -> Layout:
        """A group's, as it was planned before or as it is tried first."""
        first, devices = self.result.members[self.groups[number][0]], len(self.placement.devices)
        if number not in self.possible:
            game = game_of(first.recipe, self.result.game)
            self.possible[number] = possible_shares(game, first.recipe, self.result.data, devices, self.per_member)
        size, before = self.plan.get(str(number), (self.most, 1))
        idle = self.placement.devices[0].platform == "cpu"
        layout = start(len(self.groups[number]), devices, self.possible[number], size, idle)
        return replace(layout, per_member=max(layout.per_member, before)) if before in layout.possible else layout

    def cut(self, number: int, layout: Layout) -> list[list[int]]:
        """Group `number` in equal parts."""
        indices = self.groups[number]
        return [list(part) for part in np.array_split(indices, -(-len(indices) // layout.size))]

    def lowered(self, number: int, layout: Layout) -> Programs:
        """The programs of a group's first part, traced."""
        return self.population(self.cut(number, layout)[0], layout).lowered(self.length(), self.judged)

    def prepare(self, number: int, compiler: ThreadPoolExecutor) -> tuple[Layout, Future] | None:
        """A group's layout, its programs being compiled behind; None where all of the group is
        trained."""
        if number >= len(self.groups) or self.trained(number):
            return None
        layout = self.layout(number)
        return layout, compiler.submit(self.lowered(number, layout).compile)

    def part_folder(self, number: int, k: int) -> RunFolder | None:
        return RunFolder(self.folder.path / "groups" / f"{number:02d}-{k:02d}") if self.folder else None

    def planned(self, number: int) -> list[_Part]:
        """The parts of a group that was planned before, without their programs."""
        if str(number) not in self.plan:
            return []
        layout = self.layout(number)
        return [self.part(number, k, part, layout, None) for k, part in enumerate(self.cut(number, layout))]

    def trained(self, number: int) -> bool:
        parts = self.planned(number)
        return bool(parts) and all(part.reached() >= self.steps for part in parts)

    def parts(self, number: int, layout: Layout, compiling: Future) -> list[_Part]:
        """A group in as few parts as fit the memory that the compiler measured; what was planned
        before stays."""
        made, free = {layout: compiling.result()}, bytes_free(self.placement)

        def measure(layout: Layout) -> int:
            if layout not in made:
                made.clear()
                made[layout] = self.lowered(number, layout).compile()
            return made[layout].bytes_needed()

        first = self.result.members[self.groups[number][0]]
        if str(number) not in self.plan:
            try:
                layout = fitted(layout, measure, free)
            except UserError as error:
                raise UserError(f"one member of {first.setting!r} {error}") from None
        cut = self.cut(number, layout)
        said = [f"{layout.members} members of one structure in {len(cut)} programs of at most {layout.size}"] * (len(cut) > 1)
        if layout.devices > 1:
            batch_size = batch_size_of(game_of(first.recipe, self.result.game), first.recipe)
            said.append(layout.words(batch_size, measure(layout), free))
        if said:
            print("; ".join(said), file=sys.stderr)
        if self.plan_path and str(number) not in self.plan:
            self.plan[str(number)] = [layout.size, layout.per_member]
            with writing(self.plan_path):
                write_atomic(self.plan_path, json.dumps(self.plan))
        return [self.part(number, k, indices, layout, made[layout]) for k, indices in enumerate(cut)]

    def part(self, number: int, k: int, indices: list[int], layout: Layout, programs: Programs | None) -> _Part:
        """programs: of as many members as the layout has."""
        same = len(indices) == layout.size
        return _Part(indices, self.population(indices, layout), programs if same else None, self.part_folder(number, k))

    # ---- running --------------------------------------------------------------------------------

    def run(self, progress: bool) -> None:
        result = self.result
        total = len(result.members) * self.steps
        bar = SweepProgress(total, result.rank_by, result.higher_is_better, progress)
        try:
            with Stop() as stop, bar, ThreadPoolExecutor(1) as compiler:
                ahead = self.prepare(0, compiler)
                for number in range(len(self.groups)):
                    parts = self.parts(number, *ahead) if ahead else self.planned(number)
                    ahead = self.prepare(number + 1, compiler)  # compiled while this group trains
                    self.train(number, parts, bar, stop)
                    if result.stopped:
                        return
        finally:  # also where a later group does not fit
            self.finish()

    def train(self, number: int, parts: list[_Part], bar: SweepProgress, stop: Stop) -> None:
        """The parts of a group, one after the other; the sweep is `stopped` where a signal came
        before its last step."""
        for part in parts:
            PartTrainer(self, part, bar, f"group {number + 1} of {len(self.groups)}").run(stop)
            if stop.signal and len(self.result.states) < len(self.result.members):
                self.result.stopped = stop.signal
                return

    def run_group(self, number: int) -> str | None:
        """Train one group, others being trained elsewhere, and write nothing but that group's
        files.

        Returns the signal that stopped it, or None where all of it is trained.
        """
        assert self.folder is not None
        self.plan_path = self.folder.path / "plans" / f"{number:02d}.json"
        with writing(self.folder.path):
            self.plan_path.parent.mkdir(exist_ok=True)
        with Stop() as stop, ThreadPoolExecutor(1) as compiler:
            if ahead := self.prepare(number, compiler):
                self.train(number, self.parts(number, *ahead), SweepProgress(0, None, enabled=False), stop)
        return None if self.trained(number) else self.result.stopped

    def read(self) -> None:
        """What was logged, and the states of what is trained, without training anything."""
        bar = SweepProgress(0, None, enabled=False)
        for number in range(len(self.groups)):
            for part in self.planned(number):
                training = PartTrainer(self, part, bar, "")
                if part.reached() >= self.steps:
                    training.run(Stop())
                elif part.folder:
                    for row in part.folder.rows():
                        training.keep_row(row)

    def finish(self) -> None:
        """The table, and once it is complete the ranking and the pictures."""
        if not self.folder or not self.result.rows:
            return
        result, path = self.result, self.folder.path
        with writing(path):
            write_atomic(path / "table.csv", result.table.to_csv(index=False))
        if len(result.states) < len(result.members):
            return
        with writing(path):
            if result.measured(result.rank_by):
                write_atomic(path / "ranking.csv", result.ranking().to_csv(index=False))
                write_atomic(path / "ranking.txt", result.report() + "\n")
            result.draw(path / "pictures")


def called(member: Member) -> str:
    """A member's name in one line."""
    return f"{shorten(member.setting, 60)}, n {member.n}, seed {member.seed}"


class PartTrainer:
    """One part of a sweep: begin or restore, run chunk by chunk, log, save."""

    def __init__(self, session: SweepTrainer, part: _Part, bar: SweepProgress, where: str):
        self.session, self.part, self.bar, self.where = session, part, bar, where
        self.population, self.folder = part.population, part.folder
        self.members = [session.result.members[i] for i in part.indices]
        self.diverged: list[int | None] = [None] * len(self.members)
        self.checkpoints = None
        if self.folder:
            from gan_jax.training.checkpoints import Checkpoints

            with writing(self.folder.path):
                self.folder.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints = Checkpoints(self.folder.checkpoints)

    @property
    def programs(self) -> Programs:
        session, part = self.session, self.part
        part.programs = part.programs or part.population.lowered(session.length(), session.judged).compile()
        return part.programs

    def begin(self) -> tuple[Any, Any]:
        """(state, alive) of the newest intact checkpoint, or fresh ones."""
        population = self.population
        if self.checkpoints and self.folder:
            found = self.checkpoints.restore_latest(jax.eval_shape(population.saved, population.like(), population.alive))
            kept = self.folder.truncate(found[2] if found else -1)
            for row in kept:
                self.keep_row(row)
            if found:
                if found[2] < self.session.steps:  # otherwise it is only looked at
                    say_environment(found[1])
                self.bar.skip(len(self.members) * found[2])
                self.diverged = kept[-1]["diverged"] if kept else self.diverged
                return population.restored(*found[0])
        return self.programs.init(*population.fresh()), population.alive

    def run(self, stop: Stop) -> None:
        session, population = self.session, self.population
        state, alive = self.begin()
        step = start = int(state.step)
        steps, pending = session.steps, None
        evaluate = self.programs.evaluate if step < steps else None
        while step < steps and not stop.signal:
            until = min(steps, (step // session.log_every + 1) * session.log_every)
            state, taken = self.advance(state, alive, until - step)
            alive, row = taken[-1][0][:, -1], {}
            if evaluate:
                row, changed = evaluate(population.knobs, state, jnp.int32(until - step), session.judged)
                state = state.replace(**changed)
            if pending:
                self.log(*pending)
            pending, step = (step, until, taken, row), until
            if step % session.checkpoint_every == 0 or step >= steps:
                self.log(*pending)
                pending = None
                self.save(step, state, alive)
        if pending:
            self.log(*pending)
        if step < steps and step > start:
            self.save(step, state, alive)
        if self.checkpoints:
            self.checkpoints.close()
        if step >= steps:
            self.keep_states(state)

    def advance(self, state: Any, alive: Any, length: int) -> tuple[Any, list[tuple]]:
        """`length` steps on. Returns the state, and what each call said: (good, metrics)."""
        population, taken = self.population, []
        most = population.steps_per_call(self.session.length())
        for n in [most] * (length // most) + [length % most] * (length % most > 0):
            program = self.programs.chunk if n == most else population.chunk(n).compile()
            state, good, metrics = program(population.knobs, state, population.feed, alive)
            alive = good[:, -1]
            taken.append((good, metrics))
        return state, taken

    def log(self, start: int, until: int, taken: list[tuple], row: dict) -> None:
        """One line for all members: means over the steps, and the evaluation at their end; None for
        one that diverged."""
        taken, row = jax.device_get((taken, row))
        good, metrics = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *taken)
        count = len(self.members)
        for i in range(count):
            if self.diverged[i] is None and not good[i].all():
                self.diverged[i] = start + int(good[i].argmin())
        values = {k: v.mean(1)[:count] for k, v in metrics.items()} | {k: v[:count] for k, v in row.items()}
        clean = lambda x, at: None if at is not None or not np.isfinite(x) else float(x)
        listed = {k: [clean(x, at) for x, at in zip(v, self.diverged, strict=True)] for k, v in values.items()}
        full = {"step": until, "diverged": list(self.diverged), "metrics": listed}
        self.keep_row(full)
        timing = self.bar.update(f"{self.where}, step {until}/{self.session.steps}", count, until - start)
        if self.folder:
            self.folder.append("metrics.jsonl", full)
            self.folder.append("timings.jsonl", {"step": until} | timing)

    def keep_row(self, full: dict[str, Any]) -> None:
        """A logged line as a row of each member, and the best so far."""
        names = [called(member) for member in self.members]
        for j, i in enumerate(self.part.indices):
            at = full["diverged"][j]
            row = {"step": full["step"], "diverged": at is not None, "diverged_step": at}
            row |= {k: v[j] for k, v in full["metrics"].items()}
            self.session.result.rows.setdefault(i, []).append(row)
        values = full["metrics"].get(self.session.result.rank_by, [])
        gone = {name for name, at in zip(names, full["diverged"], strict=True) if at is not None}
        self.bar.see(dict(zip(names, values, strict=False)), gone)

    def save(self, step: int, state: Any, alive: Any) -> None:
        if self.checkpoints and step not in self.checkpoints.steps():
            self.checkpoints.save(step, self.population.saved(state, alive), {"environment": environment()})

    def keep_states(self, state: Any) -> None:
        """The trained members' states, each to be had as that of a run; on the host, so that the
        next part finds room."""
        keys, rest = state.key, state.replace(key=None)
        host = jax.device_get(rest).replace(key=keys)
        for j, i in enumerate(self.part.indices):
            self.session.result.states[i] = lambda j=j: member_state(host, j)
