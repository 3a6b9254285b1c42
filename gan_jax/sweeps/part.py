"""One part of a sweep: the members of one structure that one program holds, trained, logged and
checkpointed together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.sweeps.population import Population, Programs, member_state
from gan_jax.sweeps.result import Sweep
from gan_jax.training import loop
from gan_jax.training.checkpoints import FILES, Checkpoints
from gan_jax.training.folder import RunFolder, environment, writing
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


@dataclass
class Part:
    """Members (their indices in the sweep), their population, its compiled programs (None until
    needed) and its folder (None in memory)."""

    indices: list[int]
    population: Population
    programs: Programs | None
    folder: RunFolder | None

    def reached(self) -> int:
        """The step up to which the part is trained and saved; -1 for none."""
        if self.folder is None:
            return -1
        names = [path.parent.name for path in self.folder.checkpoints.glob(f"*/{FILES}")]
        saved = [int(name) for name in names if name.isdecimal()]
        logged = [row["step"] for row in self.folder.rows()]
        return min(max(saved, default=-1), max(logged, default=-1))


class PartTrainer:
    """Trains one part, and writes what it finds into the sweep's result.

    evaluation: the images and labels that are judged at each log, see `evaluation_sets`. where: the
    part in words, for progress lines.
    """

    def __init__(
        self, result: Sweep, part: Part, schedule: Schedule, evaluation: tuple | None, bar: SweepProgress, where: str = ""
    ):
        self.result, self.part, self.schedule, self.evaluation = result, part, schedule, evaluation
        self.bar, self.where, self.log_every = bar, where, schedule.log_every
        self.population, self.folder = part.population, part.folder
        self.members = [result.members[i] for i in part.indices]
        self.diverged: list[int | None] = [None] * len(self.members)
        self.checkpoints: Checkpoints | None = None
        if self.folder:
            with writing(self.folder.path):
                self.folder.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints = Checkpoints(self.folder.checkpoints)

    @property
    def programs(self) -> Programs:
        part = self.part
        part.programs = part.programs or part.population.lower(self.schedule.chunk, self.evaluation).compile()
        return part.programs

    def begin(self) -> Carry:
        """The newest intact checkpoint's state, or a fresh one."""
        population = self.population
        if self.checkpoints and self.folder:
            found = self.checkpoints.restore_latest(jax.eval_shape(population.saved, population.like(), population.alive))
            kept = self.folder.truncate(found[2] if found else -1)
            for row in kept:
                self.keep_row(row)
            if found:
                if found[2] < self.schedule.steps:  # otherwise it is only looked at
                    warn_of_environment(found[1])
                self.bar.skip(len(self.members) * found[2])
                self.diverged = kept[-1]["diverged"] if kept else self.diverged
                return population.restored(*found[0])
        return self.programs.init(*population.init_arguments()), population.alive

    def run(self, stop: StopSignal) -> None:
        """Train to the last step, or until the signal; keep the states of a finished part."""
        self.stop, steps = stop, self.schedule.steps
        carry = self.begin()
        start = int(carry[0].step)
        carry, step = loop.train(self, carry, start, steps)
        if start < step < steps:
            self.save(carry, step)
        if self.checkpoints:
            self.checkpoints.close()
        if step >= steps:
            self.keep_states(carry[0])

    def stopping(self) -> bool:
        return self.stop.received is not None

    def run_chunk(self, state: Carry, step: int, until: int) -> tuple[Carry, tuple[Calls, dict]]:
        (population, alive), row = state, {}
        population, calls = self.advance(population, alive, until - step)
        if evaluate := self.programs.evaluate:
            row, changed = evaluate(self.population.knobs, population, jnp.int32(until - step), self.evaluation)
            population = population.replace(**changed)
        return (population, calls[-1][0][:, -1]), (calls, row)

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
        """Write one row for all members: the metrics' means over the steps, and the evaluation at
        their end. A diverged member has None."""
        calls, row = jax.device_get(measured)
        good, metrics = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *calls)
        count = len(self.members)
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
        """Add a logged row to the result, one row for each member, and show the best member so
        far."""
        for j, i in enumerate(self.part.indices):
            at = full["diverged"][j]
            row = {"step": full["step"], "diverged": at is not None, "diverged_step": at}
            row |= {k: v[j] for k, v in full["metrics"].items()}
            self.result.rows.setdefault(i, []).append(row)
        self.bar.see_row(full, [member.description for member in self.members])

    def due(self, step: int) -> bool:
        return step % self.schedule.checkpoint_every == 0

    def save(self, state: Carry, step: int) -> None:
        if self.checkpoints and step not in self.checkpoints.steps():
            self.checkpoints.save(step, self.population.saved(*state), {"environment": environment()})

    def keep_states(self, state: Any) -> None:
        """Put the trained members' states into the result. They lie on the host, so that the next
        part finds room on the devices."""
        keys, rest = state.key, state.replace(key=None)
        host = jax.device_get(rest).replace(key=keys)
        for j, i in enumerate(self.part.indices):
            self.result.states[i] = lambda j=j: member_state(host, j)
