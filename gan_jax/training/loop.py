"""The loop of a run and of a population: train a chunk, log it, save what is due, stop cleanly. The
device works on the next chunk while the host logs the one before."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

State = TypeVar("State")


class Trainable(Protocol[State]):
    """What `train` drives. `log_every`: steps of a chunk."""

    log_every: int

    def stopping(self) -> bool:
        """Whether training ends before the next chunk. Asked once a chunk."""
        ...

    def run_chunk(self, state: State, step: int, until: int, /) -> tuple[State, Any]:
        """The steps from `step` to `until`, and what was measured: device arrays, which nothing
        here waits for."""
        ...

    def log(self, start: int, until: int, measured: Any) -> None:
        """Wait for what `run_chunk` measured, and write it down."""
        ...

    def due(self, step: int) -> bool:
        """Whether something is to be saved at this step, a multiple of `log_every`."""
        ...

    def save(self, state: State, step: int, /) -> None:
        """Save what is due at this step, which has been logged."""
        ...


def train(trainer: Trainable[State], state: State, step: int, steps: int) -> tuple[State, int]:
    """Train from `step` to `steps`, or until the trainer is stopping. Returns the state and the step
    that it has come to.

    Each chunk is logged after the next one was dispatched, so that the device never waits for the
    host; a chunk after which something is saved is logged at once.
    """
    pending = None
    while step < steps and not trainer.stopping():
        until = min(steps, (step // trainer.log_every + 1) * trainer.log_every)
        state, measured = trainer.run_chunk(state, step, until)
        if pending:
            trainer.log(*pending)
        pending, step = (step, until, measured), until
        if step >= steps or trainer.due(step):
            trainer.log(*pending)
            pending = None
            trainer.save(state, step)
    if pending:
        trainer.log(*pending)
    return state, step
