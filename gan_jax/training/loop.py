"""The loop of a run and of a part of a sweep: train a chunk, log it, save what is due."""

from typing import Any


def train(trainer: Any, state: Any, step: int, steps: int) -> tuple[Any, int]:
    """Train from `step` to `steps`, or until the trainer is stopping: (state, step reached).

    A chunk is logged after the next one was dispatched, so that the device never waits for the
    host. A chunk after which something is saved is logged at once. The trainer has `log_every`, the
    steps of a chunk, and these methods:

    stopping: () -> whether training ends before the next chunk, called once a chunk
    run_chunk: (state, step, until) -> (state, measurements), dispatched and not waited for
    log: (step, until, measurements), which waits for them
    due: (step) -> whether something is to be saved then; at the last step it always is
    save: (state, step)
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
