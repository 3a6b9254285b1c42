"""One line for each group of a sweep whose groups are trained elsewhere, read from the files that
their tasks write."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gan_jax.core.text import shorten
from gan_jax.sweeps.trainer import SweepTrainer, part_path
from gan_jax.training.folder import RunFolder
from gan_jax.training.progress import SweepProgress

BETWEEN = 10.0  # seconds between lines of one group that tell only of further steps, where there is no terminal


@dataclass
class Line:
    """What is known of a group. state: waiting, running, done, stopped or failed; retry: '' or
    'retry 1 of 3'."""

    name: str
    state: str = "waiting"
    retry: str = ""
    node: str = ""
    step: int = 0
    best: str = ""
    why: str = ""
    attempt: int = 0

    def text(self, steps: int) -> str:
        """ "group 1 of 4 (r1; 8 members): running on node7, retry 1 of 3, step 40/100, best auc
        0.600 (r1, n 40, seed 0)"."""
        state = f"running on {self.node}" if self.state == "running" else self.state + (f": {self.why}" if self.why else "")
        parts = [state, self.retry, f"step {self.step}/{steps}", self.best]
        return f"{self.name}: {', '.join(part for part in parts if part)}"


class Dashboard:
    """Shows the lines: in place on a terminal, else each when it changes."""

    def __init__(self, trainer: SweepTrainer, numbers: list[int], enabled: bool = True):
        self.trainer, self.enabled = trainer, enabled
        self.folder = trainer.folder.path if trainer.folder else Path()
        self.lines = {number: Line(self._name(number)) for number in numbers}
        self.live, self.seen, self.shown = None, {}, {}

    def _name(self, number: int) -> str:
        members = [self.trainer.result.members[i] for i in self.trainer.groups[number]]
        settings = shorten(", ".join(dict.fromkeys(shorten(m.setting, 40) for m in members)), 60)
        count = f"{len(members)} member{'s'[: len(members) > 1]}"
        return f"group {number + 1} of {len(self.trainer.groups)} ({settings}; {count})"

    def __enter__(self) -> Dashboard:
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(file=sys.stderr), auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        self.show()
        if self.live:
            self.live.stop()

    def show(self) -> None:
        """Look at the files, and tell what is new."""
        if not self.enabled:
            return
        self.trainer.read_plan()
        for number, line in self.lines.items():
            self._refresh(number, line)
        if self.live:
            from rich.text import Text

            text = "\n".join(line.text(self.trainer.schedule.steps) for line in self.lines.values())
            self.live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            return
        for number, line in self.lines.items():
            shown = (line.state, line.retry, line.node)
            before, at, step = self.shown.get(number, (None, 0.0, None))
            if shown != before or (line.step != step and time.monotonic() - at > BETWEEN):
                print(line.text(self.trainer.schedule.steps), file=sys.stderr, flush=True)
                self.shown[number] = shown, time.monotonic(), line.step

    def _refresh(self, number: int, line: Line) -> None:
        about = _json(self.folder / "tasks" / f"{number:02d}.json")
        if line.state == "waiting" and about.get("attempt") == line.attempt:
            line.state, line.node = "running", f"{about['node']} (process {about['pid']})"
        parts = [part.name for part in sorted(self.folder.glob(f"groups/{number:02d}-*"))]
        logs = [self.folder / "groups" / part / "metrics.jsonl" for part in parts]
        sizes = [path.stat().st_size for path in logs if path.exists()]
        if sizes != self.seen.get(number) and str(number) in self.trainer.plan:
            self.seen[number] = sizes
            self._measure(number, line)

    def _measure(self, number: int, line: Line) -> None:
        """The group's step, the mean over its members, and the best of them."""
        result, trained = self.trainer.result, 0
        bar = SweepProgress(0, result.rank_by, result.higher_is_better, enabled=False)
        for k, indices in enumerate(self.trainer.cut(number, self.trainer.layout(number))):
            rows = RunFolder(part_path(self.folder, number, k)).rows()
            trained += len(indices) * (rows[-1]["step"] if rows else 0)
            for row in rows[-1:]:
                bar.see_row(row, [result.members[i].description for i in indices])
        line.step, line.best = trained // len(self.trainer.groups[number]), bar.best.removesuffix(", ")


def _json(path: Path) -> dict:
    """A small JSON file; {} while it is not there."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
