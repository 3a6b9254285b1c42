"""Progress of a run, of a sweep and of any loop: a bar on a terminal, and lines where there is
none. Nothing else in the package draws a bar, so that a log in a file holds lines alone."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar

from tqdm import tqdm

from gan_jax.core.errors import on_terminal, say
from gan_jax.metrics.ranking import CHANCE

SHOWN = {"discriminator/loss": "D", "generator/loss": "G"}
T = TypeVar("T")
BETWEEN = 10.0  # seconds between the lines of a loop


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


def each(things: Sequence[T], what: str, enabled: bool = True) -> Iterator[T]:
    """The things one by one, with the progress under the name `what`: a line every ten seconds, and
    one at the end, where stderr is no terminal."""
    said = time.perf_counter()
    with _Bar(len(things), 0, enabled, desc=what) as bar:
        for done, thing in enumerate(things, 1):
            yield thing
            bar.bar.update(1)
            if bar.lines and (done == len(things) or time.perf_counter() - said > BETWEEN):
                said = time.perf_counter()
                say(f"{what}: {done} of {len(things)}, {(said - bar.began) / done * (len(things) - done):.0f} s left")


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
        """The best member that has not diverged, in words; '' where there is none yet. An AUC of
        which less is better is best at chance: below .5 members are in no order."""
        finite = {name: value for name, value in self.latest.items() if name not in self.diverged}
        name = min(finite, key=lambda name: self.sign * finite[name], default=None)
        if name is None:
            return ""
        if self.sign > 0 and str(self.metric).lower().endswith("auc") and finite[name] < CHANCE:
            count = sum(value <= CHANCE for value in finite.values())
            return f"best {self.metric} at chance ({count} member{'s'[: count > 1]}), "
        return f"best {self.metric} {finite[name]:.3f} ({name}), "

    def update(self, where: str, members: int, steps: int) -> dict[str, float]:
        """Show `steps` more of each member. Returns "seconds" and "steps_per_second" of them."""
        seconds, done = self.seconds(), members * steps
        self.done, self.trained = self.done + done, self.trained + done
        rate = done / max(seconds, 1e-9)
        text = f"{where}: {members} members, {rate:,.0f} steps/s, {self.best}{len(self.diverged)} diverged"
        left = (self.last - self.began) / max(self.trained, 1) * (self.total - self.done)
        self.show(text, done, f"{text}, {left:.0f} s left")
        return {"seconds": seconds, "steps_per_second": rate}
