"""Progress of a run and of a sweep: a bar with losses, images per second and time left, or plain
lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

SHOWN = {"discriminator/loss": "D", "generator/loss": "G"}


class _Bar:
    """A context with a tqdm bar on a terminal, where it is enabled."""

    def __init__(self, total: int, initial: int, enabled: bool, **settings: Any):
        self.enabled, self.bar = enabled, None
        self.settings = {"total": total, "initial": initial, "file": sys.stderr, "dynamic_ncols": True} | settings
        self.began = self.last = time.perf_counter()

    def __enter__(self) -> Self:
        if self.enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(**self.settings)
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()

    def seconds(self) -> float:
        """Seconds since the last call."""
        before, self.last = self.last, time.perf_counter()
        return self.last - before

    def show(self, text: str, done: int, line: str) -> None:
        """The bar goes on by `done`, with this text; or the line is printed."""
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done)
        elif self.enabled:
            print(line, file=sys.stderr, flush=True)


class Progress(_Bar):
    """Progress of a run from step `start` to `steps`, with `examples` in each step."""

    def __init__(self, start: int, steps: int, examples: int, enabled: bool = True):
        super().__init__(steps, start, enabled, unit="step")
        self.first, self.step, self.steps, self.examples = start, start, steps, examples

    def update(self, step: int, row: dict[str, Any]) -> dict[str, float]:
        """Show the step and its losses. Returns {"seconds": since the last log,
        "images_per_second"}."""
        seconds, moved, self.step = self.seconds(), step - self.step, step
        rate = moved * self.examples / max(seconds, 1e-9)
        names = {k: v for k, v in SHOWN.items() if k in row} or {k: k for k in list(row)[1:3]}
        losses = ", ".join(f"{label} {row[name]:.3f}" for name, label in names.items())
        left = (self.last - self.began) / max(step - self.first, 1) * (self.steps - step)
        line = f"step {step}/{self.steps}  {losses}  {rate:,.0f} images/s  {left:.0f} s left"
        self.show(f"{losses}, {rate:,.0f} images/s", moved, line)
        return {"seconds": seconds, "images_per_second": rate}


class SweepProgress(_Bar):
    """Progress of a sweep in member-steps (members x steps), with the best member by `metric` so far
    and how many members diverged."""

    def __init__(self, total: int, metric: str | None, higher_is_better: bool = False, enabled: bool = True):
        super().__init__(total, 0, enabled, unit="member-step", unit_scale=True)
        self.total, self.metric, self.sign = total, metric, -1 if higher_is_better else 1
        self.done, self.moved, self.latest, self.diverged = 0, 0, {}, set()

    def skip(self, member_steps: int) -> None:
        """Count work that was done before."""
        self.done += member_steps
        if self.bar is not None:
            self.bar.update(member_steps)

    def see(self, values: dict[str, Any], diverged: set[str]) -> None:
        """Note the latest values of the metric by member, and who has diverged."""
        self.latest |= {name: value for name, value in values.items() if value is not None}
        self.diverged |= diverged

    def see_row(self, row: dict[str, Any], names: list[str]) -> None:
        """Note a logged row of members with these names."""
        gone = {name for name, at in zip(names, row["diverged"], strict=True) if at is not None}
        self.see(dict(zip(names, row["metrics"].get(self.metric, []), strict=False)), gone)

    @property
    def best(self) -> str:
        """The best member that has not diverged, in words; '' where there is none yet."""
        living = {name: self.sign * value for name, value in self.latest.items() if name not in self.diverged}
        if not living:
            return ""
        name = min(living, key=living.__getitem__)
        return f"best {self.metric} {self.latest[name]:.3f} ({name}), "

    def update(self, where: str, members: int, steps: int) -> dict[str, float]:
        """Show where the sweep is after `steps` more of so many members. Returns {"seconds": since
        the last call, "steps_per_second": of all members together}."""
        seconds = self.seconds()
        self.done, self.moved = self.done + members * steps, self.moved + members * steps
        rate = members * steps / max(seconds, 1e-9)
        text = f"{where}: {members} members, {rate:,.0f} steps/s, {self.best}{len(self.diverged)} diverged"
        left = (self.last - self.began) / max(self.moved, 1) * (self.total - self.done)
        self.show(text, members * steps, f"{text}, {left:.0f} s left")
        return {"seconds": seconds, "steps_per_second": rate}
