"""Progress for a person: a bar with losses, images per second and time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

SHOWN = {"discriminator/loss": "D", "generator/loss": "G"}


class Progress:
    """Counts steps from `start` to `steps`; `examples` per step turn into a rate."""

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
        """Show where the run is; returns {"seconds" since the last log, "images_per_second"}."""
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
