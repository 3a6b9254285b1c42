"""The progress of a sweep's tasks: one line for each group, read from the files that its task
writes."""

import sys
import time
from dataclasses import dataclass
from typing import Self

from gan_jax.core.errors import on_terminal, say
from gan_jax.sweeps.trainer import SweepTrainer
from gan_jax.text import shorten
from gan_jax.training.progress import SweepProgress

BETWEEN = 10.0  # seconds between printed lines of a group that differ in steps alone


@dataclass
class Line:
    """What is known of a group. state: waiting, running on ..., done, stopped or failed; why: the
    reason, or ''. attempt: of its task, from 0; retry: '' or 'retry 1 of 3'."""

    name: str
    state: str = "waiting"
    why: str = ""
    attempt: int = 0
    retry: str = ""
    step: int = 0
    best: str = ""

    def text(self, steps: int) -> str:
        """ "group 1 of 4 (r1; 8 members): running on node7 (process 12), retry 1 of 3, step 40/100,
        best auc 0.600 (r1, n 40, seed 0)"."""
        state = f"{self.state}: {self.why}" if self.why else self.state
        return f"{self.name}: {', '.join(filter(None, [state, self.retry, f'step {self.step}/{steps}', self.best]))}"


class Dashboard:
    """Shows the lines of these groups: in place on a terminal, and else each when it changes."""

    def __init__(self, trainer: SweepTrainer, numbers: list[int], enabled: bool):
        self.trainer, self.enabled = trainer, enabled
        assert trainer.folder is not None
        self.folder = trainer.folder
        self.lines = {number: Line(self._name(number)) for number in numbers}
        self.live, self.sizes, self.shown = None, {}, {}

    def _name(self, number: int) -> str:
        members = self.trainer.result.structures[number]
        settings = shorten(", ".join(dict.fromkeys(shorten(m.setting, 40) for m in members)), 60)
        count = f"{len(members)} member{'s'[: len(members) > 1]}"
        return f"group {number + 1} of {len(self.trainer.groups)} ({settings}; {count})"

    def __enter__(self) -> Self:
        if self.enabled and on_terminal():
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
        """Read the files, and show what is new."""
        if not self.enabled:
            return
        self.trainer.read_plan()
        for number, line in self.lines.items():
            self._refresh(number, line)
        texts = {number: line.text(self.trainer.schedule.steps) for number, line in self.lines.items()}
        if self.live:
            from rich.text import Text

            self.live.update(Text("\n".join(texts.values()), no_wrap=True, overflow="ellipsis"), refresh=True)
            return
        for number, line in self.lines.items():
            shown = (line.state, line.retry)
            before, at, step = self.shown.get(number, (None, 0.0, None))
            if shown != before or (line.step != step and time.monotonic() - at > BETWEEN):
                say(texts[number])
                self.shown[number] = shown, time.monotonic(), line.step

    def _refresh(self, number: int, line: Line) -> None:
        """Read where the group's task runs and, if its logs have grown, the mean step and the
        best of its members."""
        about = self.folder.task(number)
        if line.state == "waiting" and about.get("attempt") == line.attempt:
            line.state, line.why = f"running on {about['node']} (process {about['pid']})", ""
        sizes = [path.stat().st_size for path in sorted(self.folder.path.glob(f"groups/{number:02d}-*/metrics.jsonl"))]
        if sizes == self.sizes.get(number) or str(number) not in self.trainer.plan:
            return
        self.sizes[number], result, trained = sizes, self.trainer.result, 0
        bar = SweepProgress(0, result.rank_by, result.higher_is_better, enabled=False)
        for k, indices in enumerate(self.trainer.cut(number, self.trainer.plan[str(number)][0])):
            for row in self.folder.part(number, k, indices).rows()[-1:]:
                trained += len(indices) * row["step"]
                bar.see_row(row, [result.members[i].description for i in indices])
        line.step, line.best = trained // len(self.trainer.groups[number]), bar.best.removesuffix(", ")
