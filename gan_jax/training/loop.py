"""The loop of a run and of a part of a sweep: train a chunk, log it, save what is due. The device
trains the next chunk while the host logs the one before."""

from __future__ import annotations

from typing import Any


class Loop:
    """What a trainer loops over: it says how a chunk runs, and what is logged and saved. `log_every`
    is the number of steps of a chunk."""

    log_every: int

    def loop(self, state: Any, step: int, steps: int) -> tuple[Any, int]:
        """Train from `step` to `steps`, or until the trainer is stopping. Returns the state and the
        step that it has come to.

        A chunk is logged after the next one was dispatched, so that the device never waits for the
        host. A chunk after which something is saved is logged at once.
        """
        pending = None
        while step < steps and not self.stopping():
            until = min(steps, (step // self.log_every + 1) * self.log_every)
            state, measured = self.run_chunk(state, step, until)
            if pending:
                self.log(*pending)
            pending, step = (step, until, measured), until
            if step >= steps or self.due(step):
                self.log(*pending)
                pending = None
                self.save(state, step)
        if pending:
            self.log(*pending)
        return state, step

    def stopping(self) -> bool:
        """Whether training ends before the next chunk; asked once a chunk."""
        raise NotImplementedError

    def run_chunk(self, state: Any, step: int, until: int) -> tuple[Any, Any]:
        """The steps from `step` to `until`, and what was measured: arrays that nobody waits for."""
        raise NotImplementedError

    def log(self, start: int, until: int, measured: Any) -> None:
        """Wait for what a chunk measured, and write it down."""
        raise NotImplementedError

    def due(self, step: int) -> bool:
        """Whether something is to be saved at this step."""
        raise NotImplementedError

    def save(self, state: Any, step: int) -> None:
        """Save what is due at this step."""
        raise NotImplementedError
