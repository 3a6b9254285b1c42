"""One call of `sweep`: cut each group of members into parts that fit the memory, train part by
part, and write the results. A part itself is trained in `part`."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.errors import UserError, say
from gan_jax.core.rng import named
from gan_jax.gan.state import networks
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.sweeps.layout import Layout, batch_size_of, first_layout, fit_memory, possible_shares
from gan_jax.sweeps.part import PartTrainer, Schedule
from gan_jax.sweeps.population import Population, Programs, bytes_free
from gan_jax.sweeps.result import Sweep
from gan_jax.tables import to_csv
from gan_jax.training.feed import evaluation_sets, feed_of
from gan_jax.training.folder import write_atomic, writing
from gan_jax.training.placement import Placement
from gan_jax.training.progress import SweepProgress
from gan_jax.training.run import Run
from gan_jax.training.signals import StopSignal


class SweepTrainer:
    """One call of `sweep`. A group holds the members of one structure; `number` is its index in
    `Sweep.groups`.

    order: of the data, 'shared' or 'own'. most, per_member: members in one program and devices that
    share each member's batch, None to let the layout choose. origin: the run that every member
    begins from.
    """

    def __init__(
        self, result: Sweep, placement: Placement, folder: SweepFolder | None, order: str, schedule: Schedule,
        most: int | None = None, per_member: int | None = None, origin: Run | None = None,
    ):  # fmt: skip
        self.result, self.placement, self.folder, self.order, self.schedule = result, placement, folder, order, schedule
        self.most, self.per_member, self.groups = most, per_member, result.groups
        self.origin = origin and networks(origin.state)
        self.shares: dict[int, tuple[int, ...]] = {}  # of each group, the numbers of devices that may share a batch
        self.plan_path = folder.path / "plan.json" if folder else None
        self.plan: dict[str, list[int]] = {}  # {group: [members in one program, devices that share a member's batch]}
        self.read_plan()
        data, fewest = result.data, min(m.n for m in result.members)  # the first `fewest` images train every member
        self.feed = feed_of(data, named(jax.random.key(0), "order"), placement)
        self.evaluation = placement.replicate(evaluation_sets(data, fewest))

    # ---- planning -------------------------------------------------------------------------------

    def read_plan(self) -> None:
        """How each group was cut, see `SweepFolder.plans`."""
        self.plan |= self.folder.plans() if self.folder else {}

    def layout(self, number: int) -> Layout:
        """A group's layout: as it was planned before, or the one to try first."""
        result, devices = self.result, len(self.placement.devices)
        if number not in self.shares:
            first = result.structures[number][0]
            self.shares[number] = possible_shares(result.game_of(first), first.recipe, result.data, devices, self.per_member)
        size, before = self.plan.get(str(number), (self.most, 1))
        idle = self.placement.devices[0].platform == "cpu"
        layout = first_layout(len(self.groups[number]), devices, self.shares[number], size, idle)
        return replace(layout, per_member=max(layout.per_member, before)) if before in layout.possible else layout

    def cut(self, number: int, size: int) -> list[list[int]]:
        """A group in equal parts of at most `size` members."""
        indices = self.groups[number]
        return [list(part) for part in np.array_split(indices, -(-len(indices) // size))]

    def population(self, indices: list[int], layout: Layout) -> Population:
        members = [self.result.members[i] for i in indices]
        feed = self.feed
        if len({m.n for m in self.result.members}) > 1:  # in every part, so that parts share a program
            feed = feed.replace(size=jnp.asarray([m.n for m in members], jnp.int32))
        if self.order == "own":
            feed = feed.replace(key=jnp.stack([named(jax.random.key(m.seed), "order") for m in members]))
        placement = replace(self.placement, per_member=layout.per_member)
        return Population(self.result.game_of(members[0]), placement, members, feed, self.origin)

    def lower(self, number: int, layout: Layout) -> Programs:
        """The programs of a group's first part, traced."""
        return self.population(self.cut(number, layout.size)[0], layout).lower(self.schedule.chunk, self.evaluation)

    def prepare(self, number: int, compiler: ThreadPoolExecutor) -> tuple[Layout, Future] | None:
        """A group's layout and its programs, which compile in the background; None for a group that
        is trained, or does not exist."""
        if number >= len(self.groups) or self.is_trained(number):
            return None
        layout = self.layout(number)
        return layout, compiler.submit(self.lower(number, layout).compile)

    def cut_in_parts(self, number: int, layout: Layout, programs: Programs | None = None) -> list[PartTrainer]:
        """The parts of a group. programs: those of a part of `layout.size` members."""
        parts = []
        for k, indices in enumerate(self.cut(number, layout.size)):
            population, own = self.population(indices, layout), programs if len(indices) == layout.size else None
            folder = self.folder.part(number, k, indices) if self.folder else None
            parts.append(PartTrainer(self.result, indices, population, self.schedule, self.evaluation, own, folder))
        return parts

    def planned_parts(self, number: int) -> list[PartTrainer]:
        """The parts of a group that was planned before, without their programs."""
        return self.cut_in_parts(number, self.layout(number)) if str(number) in self.plan else []

    def is_trained(self, number: int) -> bool:
        parts = self.planned_parts(number)
        return bool(parts) and all(part.reached() >= self.schedule.steps for part in parts)

    def parts(self, number: int, layout: Layout, compiling: Future) -> list[PartTrainer]:
        """A group in as few parts as fit the memory that the compiler measured. A group that was
        planned before keeps its parts."""
        made, free = {layout: compiling.result()}, bytes_free(self.placement)

        def measure(layout: Layout) -> int:
            if layout not in made:
                made.clear()
                made[layout] = self.lower(number, layout).compile()
            return made[layout].bytes_needed()

        first, planned = self.result.structures[number][0], str(number) in self.plan
        if not planned:
            try:
                layout = fit_memory(layout, measure, free)
            except UserError as error:
                raise UserError(f"one member of {first.setting!r} {error}") from None
        lines, count = [], len(self.cut(number, layout.size))
        if count > 1:
            lines.append(f"{layout.members} members of one structure in {count} programs of at most {layout.size}")
        if layout.devices > 1:
            batch_size = batch_size_of(self.result.game_of(first), first.recipe)
            lines.append(layout.describe(batch_size, measure(layout), free))
        if lines:
            say("; ".join(lines))
        if self.folder and self.plan_path and not planned:
            self.plan[str(number)] = [layout.size, layout.per_member]
            self.folder.write_plan(self.plan, self.plan_path)
        return self.cut_in_parts(number, layout, made[layout])

    # ---- running --------------------------------------------------------------------------------

    def run(self, progress: bool) -> None:
        """Train every group, each while the next one compiles, and write the results."""
        result, steps = self.result, self.schedule.steps
        bar = SweepProgress(len(result.members) * steps, result.rank_by, result.higher_is_better, progress)
        try:
            with StopSignal() as stop, bar, ThreadPoolExecutor(1) as compiler:
                ahead = self.prepare(0, compiler)
                for number in range(len(self.groups)):
                    parts = self.parts(number, *ahead) if ahead else self.planned_parts(number)
                    ahead = self.prepare(number + 1, compiler)
                    self.train(number, parts, stop, bar)
                    if result.stopped:
                        return
        finally:  # also where a later group does not fit
            self.write_results()

    def train(self, number: int, parts: list[PartTrainer], stop: StopSignal, bar: SweepProgress | None = None) -> None:
        """Train the parts of a group, one after the other. A signal before the sweep's last step
        sets `Sweep.stopped`."""
        for part in parts:
            part.run(stop, bar, f"group {number + 1} of {len(self.groups)}")
            if stop.received and len(self.result.states) < len(self.result.members):
                self.result.stopped = stop.received
                return

    def run_group(self, number: int) -> str | None:
        """Train one group, while other processes train the others, and write its files alone.
        Returns the signal that stopped it, or None where the whole group is trained."""
        assert self.folder is not None
        self.plan_path = self.folder.path / "plans" / f"{number:02d}.json"
        with writing(self.folder.path):
            self.plan_path.parent.mkdir(exist_ok=True)
        with StopSignal() as stop, ThreadPoolExecutor(1) as compiler:
            if ahead := self.prepare(number, compiler):
                self.train(number, self.parts(number, *ahead), stop)
        return None if self.is_trained(number) else self.result.stopped

    def read(self) -> None:
        """Read what was logged, and the states of what is trained. Nothing is trained."""
        for number in range(len(self.groups)):
            for part in self.planned_parts(number):
                if part.reached() >= self.schedule.steps:
                    part.run(StopSignal())
                else:
                    part.read_rows()

    def write_results(self) -> None:
        """Write the table and, once it is complete, the ranking and the pictures."""
        if not self.folder or not self.result.rows:
            return
        import pandas as pd

        result, path = self.result, self.folder.path
        with writing(path):
            write_atomic(path / "table.csv", to_csv(result.table))
            if len(result.states) < len(result.members):
                return
            if result.measured(result.rank_by):
                frames = [choice.frame for choice in result.choices()] or [result.ranking()]
                write_atomic(path / "ranking.csv", to_csv(pd.concat(frames, ignore_index=True)))
                write_atomic(path / "ranking.txt", result.report() + "\n")
            result.draw(path / "pictures")
