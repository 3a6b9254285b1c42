"""Progress of a run and of a sweep: a bar on a terminal, and lines where there is none."""

import sys
import time
from typing import Any, Self

from tqdm import tqdm

from gan_jax.core.errors import on_terminal, say

SHOWN = {"discriminator/loss": "D", "generator/loss": "G"}


class _Bar:
    """A context with a tqdm bar or lines."""

    def __init__(self, total: int, initial: int, enabled: bool, **settings: Any):
        self.lines = enabled and not on_terminal()
        shown = {"file": sys.stderr, "dynamic_ncols": True, "disable": self.lines or not enabled}
        self.bar = tqdm(total=total, initial=initial, **shown, **settings)
        self.began = self.last = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def seconds(self) -> float:
        """Seconds since the last call."""
        before, self.last = self.last, time.perf_counter()
        return self.last - before

    def show(self, text: str, done: int, line: str) -> None:
        """Advance the bar by `done`, with this text, or print the line."""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done)
        if self.lines:
            say(line)


class Progress(_Bar):
    """Progress of a run from step `start` to `steps`, with `examples` in each step."""

    def __init__(self, start: int, steps: int, examples: int, enabled: bool = True):
        super().__init__(steps, start, enabled, unit="step")
        self.first, self.step, self.steps, self.examples = start, start, steps, examples

    def update(self, step: int, row: dict[str, Any]) -> dict[str, float]:
        """Show the losses. Returns "seconds" and "images_per_second" since the last log."""
        seconds, done, self.step = self.seconds(), step - self.step, step
        rate = done * self.examples / max(seconds, 1e-9)
        names = {k: v for k, v in SHOWN.items() if k in row} or {k: k for k in list(row)[1:3]}
        losses = ", ".join(f"{label} {row[name]:.3f}" for name, label in names.items())
        left = (self.last - self.began) / max(step - self.first, 1) * (self.steps - step)
        line = f"step {step}/{self.steps}  {losses}  {rate:,.0f} images/s  {left:.0f} s left"
        self.show(f"{losses}, {rate:,.0f} images/s", done, line)
        return {"seconds": seconds, "images_per_second": rate}


class SweepProgress(_Bar):
    """Progress of a sweep in member-steps (members x steps), with the best member by `metric`."""

    def __init__(self, total: int, metric: str | None, higher_is_better: bool = False, enabled: bool = True):
        super().__init__(total, 0, enabled, unit="member-step", unit_scale=True)
        self.total, self.metric, self.sign = total, metric, -1 if higher_is_better else 1
        self.done, self.trained, self.latest, self.diverged = 0, 0, {}, set()

    def skip(self, member_steps: int) -> None:
        """Count member-steps of an earlier call."""
        self.done += member_steps
        self.bar.update(member_steps)

    def see(self, values: dict[str, Any], diverged: set[str]) -> None:
        """Note the latest values of the metric by member, and the members that diverged."""
        self.latest |= {name: value for name, value in values.items() if value is not None}
        self.diverged |= diverged

    def see_row(self, row: dict[str, Any], names: list[str]) -> None:
        """Note a logged row of members with these names."""
        diverged = {name for name, at in zip(names, row["diverged"], strict=True) if at is not None}
        self.see(dict(zip(names, row["metrics"].get(self.metric, []), strict=False)), diverged)

    @property
    def best(self) -> str:
        """The best member that has not diverged, in words; '' where there is none yet."""
        finite = [name for name in self.latest if name not in self.diverged]
        name = min(finite, key=lambda name: self.sign * self.latest[name], default=None)
        return "" if name is None else f"best {self.metric} {self.latest[name]:.3f} ({name}), "

    def update(self, where: str, members: int, steps: int) -> dict[str, float]:
        """Show `steps` more of each member. Returns "seconds" and "steps_per_second" of them."""
        seconds, done = self.seconds(), members * steps
        self.done, self.trained = self.done + done, self.trained + done
        rate = done / max(seconds, 1e-9)
        text = f"{where}: {members} members, {rate:,.0f} steps/s, {self.best}{len(self.diverged)} diverged"
        left = (self.last - self.began) / max(self.trained, 1) * (self.total - self.done)
        self.show(text, done, f"{text}, {left:.0f} s left")
        return {"seconds": seconds, "steps_per_second": rate}
