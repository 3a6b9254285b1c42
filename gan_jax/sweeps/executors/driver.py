"""The driver of a sweep whose groups are tasks: submits them, watches, submits lost ones again,
gathers the table."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from gan_jax.core.errors import UserError
from gan_jax.sweeps.executors.base import Executor, Handle, Outcome, Spec, Submit
from gan_jax.sweeps.executors.dashboard import Dashboard, Line
from gan_jax.sweeps.executors.inputs import environment, own_path, save_arrays
from gan_jax.sweeps.trainer import SweepTrainer
from gan_jax.training.folder import writing
from gan_jax.training.serialization import to_json
from gan_jax.training.signals import StopSignal

POLL = 0.5  # seconds between looks at the tasks
GRACE = 120.0  # seconds for tasks to save after a Ctrl-C


def run_groups(
    trainer: SweepTrainer, engine: Executor, *, devices: int | None = None, devices_per_member: int | None = None,
    trusted: Sequence[str] = (), progress: bool = True,
) -> None:  # fmt: skip
    """Train what is missing of the trainer's sweep as tasks of `engine`, then read it, and write
    table and pictures.

    devices: of each task, over which its members are spread; all that it has when None.
    devices_per_member: as `sweep` says. trusted: modules of the user's that the recipes or the game
    name. Ctrl-C and SIGTERM make the tasks save and stop.
    Raises UserError, after all other groups are trained, where one was refused or was lost more
    often than the engine retries.
    """
    assert trainer.folder is not None
    result, failures = trainer.result, {}
    missing = [number for number in range(len(trainer.groups)) if not trainer.is_trained(number)]
    if missing:
        variables = environment(engine.accelerated)
        specs = {number: _spec(trainer, number, variables, (devices, devices_per_member), trusted) for number in missing}
        _send_inputs(trainer)
        with StopSignal() as stop, engine.tasks(trainer.folder.path, variables) as submit:
            with Dashboard(trainer, missing, progress) as board:
                failures = _supervise(specs, engine.retries, submit, board, stop)
        trainer.read_plan()
        if stop.received and not all(trainer.is_trained(number) for number in missing):
            result.stopped = stop.received
    trainer.read()
    trainer.write_results()
    if failures and not result.stopped:
        number, why = next(iter(failures.items()))
        more = f" (and {len(failures) - 1} more of {len(trainer.groups)} groups)" if len(failures) > 1 else ""
        log = trainer.folder.path / "tasks" / f"{number:02d}.log"
        raise UserError(f"group {number + 1} failed: {why}{more}; see {log}; what is trained is kept, resume tries again")


def _spec(trainer: SweepTrainer, number: int, variables: dict, devices: tuple, trusted: Sequence[str]) -> Spec:
    assert trainer.folder is not None
    game, schedule = trainer.result.game, trainer.schedule
    return {
        "folder": str(trainer.folder.path.absolute()), "group": number, "attempt": 0,
        "intervals": [schedule.steps, schedule.log_every, schedule.checkpoint_every], "most": trainer.most, "devices": devices,
        "game": None if game is None else to_json(game), "trusted": list(trusted),
        "class_names": [str(name) for name in trainer.result.data.class_names],
        "environment": variables, "path": own_path(), "directory": os.getcwd(),
    }  # fmt: skip


def _send_inputs(trainer: SweepTrainer) -> None:
    assert trainer.folder is not None
    where, data = trainer.folder.path / "tasks", trainer.result.data
    with writing(where):
        where.mkdir(exist_ok=True)
        for about in where.glob("*.json"):  # of tasks before these
            about.unlink()
    if not trainer.folder.read()["source"]:
        save_arrays(where / "data.npz", data)


def _supervise(specs: dict[int, Spec], retries: int, submit: Submit, board: Dashboard, stop: StopSignal) -> dict[int, str]:
    """Until every task has ended: {group: why it failed}."""
    handles: dict[int, Handle] = dict(zip(specs, submit(list(specs.values())), strict=True))
    failures: dict[int, str] = {}
    asked: float | None = None
    try:
        while True:
            for number, ended in [(number, handle.poll()) for number, handle in handles.items()]:
                if ended is None:
                    continue
                del handles[number]
                if again := _settle(specs[number], ended, retries, board.lines[number], failures, bool(stop.received)):
                    handles[number] = submit([again])[0]
            if stop.received and (asked is None or time.monotonic() - asked > GRACE):
                for handle in handles.values():
                    handle.cancel(force=asked is not None)
                asked = time.monotonic()
            board.show()
            if not handles:
                return failures
            time.sleep(POLL)
    except BaseException:  # a second Ctrl-C, a full disk: nobody would watch them any more
        for handle in handles.values():
            handle.cancel(force=False)
        raise


def _settle(spec: Spec, ended: Outcome, retries: int, line: Line, failures: dict[int, str], stopping: bool) -> Spec | None:
    """Note how a task ended. Returns the spec to submit where it is to be tried again."""
    if ended.kind == "done":
        line.state, line.why = "done", ""
    elif stopping:
        line.state = "stopped"
    elif ended.kind == "refused" or spec["attempt"] == retries:
        line.state = "failed"
        line.why = failures[spec["group"]] = ended.why
    else:
        spec["attempt"] = line.attempt = spec["attempt"] + 1
        line.state, line.retry, line.why = "waiting", f"retry {line.attempt} of {retries}", ended.why
        return spec
    return None
