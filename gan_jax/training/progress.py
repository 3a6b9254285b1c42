"""Progress of a run and of a sweep: a bar with losses, images per second and time left, or plain
lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

SHOWN = {"discriminator/loss": "D", "generator/loss": "G"}


class Progress:
    """Progress of a run from step `start` to `steps`, with `examples` in each step."""

    def __init__(self, start: int, steps: int, examples: int, enabled: bool = True):
        self.step, self.steps, self.examples, self.enabled = start, steps, examples, enabled
        self.bar, self.began, self.last = None, time.perf_counter(), time.perf_counter()
        self.first = start

    def __enter__(self) -> Progress:
        if self.enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.steps, initial=self.step, unit="step", file=sys.stderr, dynamic_ncols=True)
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, step: int, row: dict[str, Any]) -> dict[str, float]:
        """Show the step and its losses. Returns {"seconds": since the last log,
        "images_per_second"}."""
        now = time.perf_counter()
        seconds, moved = now - self.last, step - self.step
        self.last, self.step = now, step
        rate = moved * self.examples / max(seconds, 1e-9)
        names = {k: v for k, v in SHOWN.items() if k in row} or {k: k for k in list(row)[1:3]}
        losses = ", ".join(f"{label} {row[name]:.3f}" for name, label in names.items())
        if self.bar is not None:
            self.bar.set_postfix_str(f"{losses}, {rate:,.0f} images/s", refresh=False)
            self.bar.update(moved)
        elif self.enabled:
            left = (now - self.began) / max(step - self.first, 1) * (self.steps - step)
            print(
                f"step {step}/{self.steps}  {losses}  {rate:,.0f} images/s  {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        return {"seconds": seconds, "images_per_second": rate}


class SweepProgress:
    """Progress of a sweep in member-steps (members x steps), with the best member by `metric` so far
    and how many members diverged."""

    def __init__(self, total: int, metric: str | None, higher_is_better: bool = False, enabled: bool = True):
        self.total, self.metric, self.sign, self.enabled = total, metric, -1 if higher_is_better else 1, enabled
        self.bar, self.done, self.moved, self.began = None, 0, 0, time.perf_counter()
        self.last, self.latest, self.diverged = self.began, {}, set()

    def __enter__(self) -> SweepProgress:
        if self.enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit="member-step", unit_scale=True, file=sys.stderr, dynamic_ncols=True)
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()

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
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        self.done, self.moved = self.done + members * steps, self.moved + members * steps
        rate = members * steps / max(seconds, 1e-9)
        text = f"{where}: {members} members, {rate:,.0f} steps/s, {self.best}{len(self.diverged)} diverged"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(members * steps)
        elif self.enabled:
            left = (now - self.began) / max(self.moved, 1) * (self.total - self.done)
            print(f"{text}, {left:.0f} s left", file=sys.stderr, flush=True)
        return {"seconds": seconds, "steps_per_second": rate}
