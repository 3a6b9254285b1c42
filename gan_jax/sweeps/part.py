"""One part of a sweep: the members of one structure that one program holds, trained, logged and
checkpointed together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.sweeps.folder import PartFolder
from gan_jax.sweeps.population import Population, Programs, member_state
from gan_jax.sweeps.result import Sweep
from gan_jax.training import loop
from gan_jax.training.checkpoints import Checkpoints, saved_steps
from gan_jax.training.files import warn, writing
from gan_jax.training.progress import SweepProgress
from gan_jax.training.signals import StopSignal
from gan_jax.training.trainer import warn_of_environment

Carry = tuple[Any, jax.Array]  # the population's state, and which members are still finite
Calls = list[tuple[jax.Array, dict[str, jax.Array]]]  # (finite, metrics) of each call, [members, steps]


@dataclass(frozen=True)
class Schedule:
    """Steps in all, between evaluations, and between checkpoints."""

    steps: int
    log_every: int
    checkpoint_every: int

    @property
    def chunk(self) -> int:
        """Steps of one chunk."""
        return min(self.log_every, self.steps)


class PartTrainer:
    """Trains one part, and writes what it finds into the sweep's result.

    indices: of the members in the sweep. evaluation: the images and labels of each evaluation, see
    `evaluation_sets`. programs: compiled, or None to compile them when first used. folder: of
    the part, None in memory.
    """

    checkpoints: Checkpoints | None = None
    trains = True

    def __init__(
        self, result: Sweep, indices: list[int], population: Population, schedule: Schedule, evaluation: tuple | None,
        programs: Programs | None, folder: PartFolder | None,
    ):  # fmt: skip
        self.result, self.indices, self.population, self.folder = result, indices, population, folder
        self.schedule, self.evaluation, self.log_every = schedule, evaluation, schedule.log_every
        self.names = [result.members[i].description for i in indices]
        self.diverged: list[int | None] = [None] * len(indices)
        self.bar, self.where = SweepProgress(0, None, enabled=False), ""
        if programs:
            self.programs = programs

    @cached_property
    def programs(self) -> Programs:
        return self.population.lower(self.schedule.chunk, self.evaluation).compile()

    def reached(self) -> int:
        """The step up to which the part is trained and saved; -1 for none."""
        if self.folder is None:
            return -1
        return min(max(saved_steps(self.folder.checkpoints), default=-1), self.folder.logged(self.log_every))

    def begin(self) -> Carry:
        """The newest intact checkpoint's state, or a fresh one."""
        population = self.population
        if self.checkpoints and self.folder:
            like = jax.eval_shape(population.saved, population.like(), population.alive)
            found = self.checkpoints.restore_latest(like, most=(logged := self.folder.logged(self.log_every)))
            if logged < max(saved_steps(self.folder.checkpoints), default=-1):
                again = f"trained again from step {found[2] if found else 0}"
                warn(f"{self.folder.path / 'metrics.jsonl'} lacks rows after step {max(logged, 0)}: {again}")
            at, about = (found[2], found[1]) if found else (-1, {})
            kept = self.folder.truncate(at, about) if self.trains else self.folder.history(at, about)
            for row in kept:
                self.keep_row(row)
            if found:
                if found[2] < self.schedule.steps:  # otherwise it is only read
                    warn_of_environment(found[1])
                self.bar.skip(len(self.indices) * found[2])
                self.diverged = kept[-1]["diverged"] if kept else self.diverged
                return population.restored(*found[0])
        return self.programs.init(*population.init_arguments()), population.alive

    def run(self, stop: StopSignal, bar: SweepProgress | None = None, where: str = "") -> None:
        """Train to the last step, or until the signal, and keep the states of a finished part. The
        bar shows the progress under the name `where`."""
        self.stop, self.bar, self.where = stop, bar or self.bar, where
        if self.folder:
            self.trains = self.reached() < self.schedule.steps  # what is trained is only read, from any medium
            if self.trains:
                with writing(self.folder.path):
                    self.folder.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints = Checkpoints(self.folder.checkpoints, run=self.folder.digest(), writes=self.trains)
        carry, steps = self.begin(), self.schedule.steps
        start = int(carry[0].step)
        carry, step = loop.train(self, carry, start, steps)
        if start < step < steps:
            self.save(carry, step)
        if self.checkpoints:
            self.checkpoints.close()
        if step >= steps:
            self.keep_states(carry[0])

    def read_rows(self) -> None:
        """Keep the rows of a part that is not trained to its end, or whose rows are damaged."""
        if self.folder:
            rows, damaged = self.folder.intact()
            if damaged or self.folder.logged(self.log_every) < max(saved_steps(self.folder.checkpoints), default=-1):
                warn(f"{self.folder.path / 'metrics.jsonl'}: {damaged or 'rows are missing'}: resume makes them again")
            for row in rows:
                self.keep_row(row)

    def stopping(self) -> bool:
        return self.stop.received is not None

    def run_chunk(self, state: Carry, step: int, until: int) -> tuple[Carry, tuple[Calls, dict]]:
        (members_state, alive), row = state, {}
        members_state, calls = self.advance(members_state, alive, until - step)
        if evaluate := self.programs.evaluate:
            row, changed = evaluate(self.population.knobs, members_state, jnp.int32(until - step), self.evaluation)
            members_state = members_state.replace(**changed)
        return (members_state, calls[-1][0][:, -1]), (calls, row)

    def advance(self, state: Any, alive: jax.Array, length: int) -> tuple[Any, Calls]:
        """`length` steps on, in as many calls as `Population.steps_per_call` asks for."""
        population, calls = self.population, []
        most = population.steps_per_call(self.schedule.chunk)
        for n in [most] * (length // most) + [length % most] * (length % most > 0):
            program = self.programs.chunk if n == most else population.chunk(n).compile()
            state, good, metrics = program(population.knobs, state, population.feed, alive)
            alive = good[:, -1]
            calls.append((good, metrics))
        return state, calls

    def log(self, start: int, until: int, measured: tuple[Calls, dict]) -> None:
        """Log one row for all members: the metrics' means over the steps, and the evaluation at
        their end. A diverged member has None."""
        calls, row = jax.device_get(measured)
        good, metrics = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *calls)
        count = len(self.indices)
        for i in range(count):
            if self.diverged[i] is None and not good[i].all():
                self.diverged[i] = start + int(good[i].argmin())
        values = {k: v.mean(1)[:count] for k, v in metrics.items()} | {k: v[:count] for k, v in row.items()}
        clean = lambda x, at: None if at is not None or not np.isfinite(x) else float(x)
        listed = {k: [clean(x, at) for x, at in zip(v, self.diverged, strict=True)] for k, v in values.items()}
        full = {"step": until, "diverged": list(self.diverged), "metrics": listed}
        self.keep_row(full)
        timing = self.bar.update(f"{self.where}, step {until}/{self.schedule.steps}", count, until - start)
        if self.folder:
            self.folder.log(full, timing)

    def keep_row(self, full: dict[str, Any]) -> None:
        """Add a logged row to the result, as one row for each member."""
        for j, i in enumerate(self.indices):
            diverged_at = full["diverged"][j]
            row = {"step": full["step"], "diverged": diverged_at is not None, "diverged_step": diverged_at}
            row |= {k: v[j] for k, v in full["metrics"].items()}
            self.result.rows.setdefault(i, []).append(row)
        self.bar.see_row(full, self.names)

    def due(self, step: int) -> bool:
        return step % self.schedule.checkpoint_every == 0

    def save(self, state: Carry, step: int) -> None:
        if self.checkpoints and self.folder and step not in self.checkpoints.steps():
            self.checkpoints.save(step, self.population.saved(*state), self.folder.about())

    def keep_states(self, state: Any) -> None:
        """Put the trained members' states into the result, from the host's memory, so that the next
        part finds room on the devices."""
        host = jax.device_get(state.replace(key=None)).replace(key=state.key)
        for j, i in enumerate(self.indices):
            self.result.states[i] = lambda j=j: member_state(host, j)
