"""The driver of a sweep whose groups are tasks: it submits them, submits lost ones again, and
gathers the results."""

import os
import time
from collections.abc import Sequence

from gan_jax.core.errors import UserError
from gan_jax.data.splits import Splits
from gan_jax.sweeps.executors.dashboard import Dashboard, Line
from gan_jax.sweeps.executors.inputs import environment, own_path, save_arrays
from gan_jax.sweeps.executors.ray import Ray
from gan_jax.sweeps.executors.slurm import Slurm
from gan_jax.sweeps.executors.task import Handle, Outcome, Spec, Submit
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.sweeps.trainer import SweepTrainer
from gan_jax.training.folder import writing
from gan_jax.training.serialization import to_json
from gan_jax.training.signals import StopSignal

POLL = 0.5  # seconds between polls of the tasks
GRACE = 120.0  # seconds for tasks to save after a Ctrl-C


def run_groups(
    trainer: SweepTrainer, executor: Ray | Slurm, devices: tuple[int | None, int | None], trusted: Sequence[str], progress: bool
) -> None:
    """Train what is missing of a sweep as tasks of `executor`, then read the sweep and write its
    results. Ctrl-C and SIGTERM make the tasks save and stop.

    devices: `devices` and `devices_per_member` of each task, see `sweep`. Raises UserError, after
    the other groups are trained, where a group was refused, or lost after all its retries.
    """
    result, folder, schedule = trainer.result, trainer.folder, trainer.schedule
    assert folder is not None
    failures: list[tuple[int, str]] = []
    if missing := [number for number in range(len(trainer.groups)) if not trainer.is_trained(number)]:
        variables = environment(executor.accelerated)
        common = {
            "folder": str(folder.path.absolute()), "most": trainer.most, "devices": devices,
            "intervals": [schedule.steps, schedule.log_every, schedule.checkpoint_every],
            "game": None if result.game is None else to_json(result.game), "trusted": list(trusted),
            "class_names": [str(name) for name in result.data.class_names],
            "environment": variables, "path": own_path(), "directory": os.getcwd(),
        }  # fmt: skip
        specs = {number: common | {"group": number, "attempt": 0} for number in missing}
        _send_inputs(folder, result.data)
        with StopSignal() as stop, executor.tasks(folder.path, variables) as submit:
            with Dashboard(trainer, missing, progress) as board:
                _supervise(specs, executor.retries, submit, board, stop)
        failures = [(number, line.why) for number, line in board.lines.items() if line.state == "failed"]
        trainer.read_plan()
        if stop.received and not all(trainer.is_trained(number) for number in missing):
            result.stopped = stop.received
    trainer.read()
    trainer.write_results()
    if failures and not result.stopped:
        number, why = failures[0]
        more = f" (and {len(failures) - 1} more of {len(trainer.groups)} groups)" if len(failures) > 1 else ""
        log = folder.path / "tasks" / f"{number:02d}.log"
        raise UserError(f"group {number + 1} failed: {why}{more}; see {log}; what is trained is kept, resume tries again")


def _send_inputs(folder: SweepFolder, data: Splits) -> None:
    where = folder.path / "tasks"
    with writing(where):
        where.mkdir(exist_ok=True)
        for about in where.glob("*.json"):  # of tasks before these
            about.unlink()
    if not folder.read()["source"]:
        save_arrays(where / "data.npz", data)


def _supervise(specs: dict[int, Spec], retries: int, submit: Submit, board: Dashboard, stop: StopSignal) -> None:
    """Wait until every task has ended."""
    handles: dict[int, Handle] = dict(zip(specs, submit(list(specs.values())), strict=True))
    cancelled: float | None = None
    try:
        while handles:
            board.show()
            time.sleep(POLL)
            for number, ended in [(number, handle.poll()) for number, handle in handles.items()]:
                if ended is not None:
                    del handles[number]
                    if _settle(specs[number], ended, retries, board.lines[number], bool(stop.received)):
                        handles[number] = submit([specs[number]])[0]
            if stop.received and (cancelled is None or time.monotonic() - cancelled > GRACE):
                for handle in handles.values():
                    handle.cancel(force=cancelled is not None)
                cancelled = time.monotonic()
    except BaseException:  # a second Ctrl-C, a full disk: nobody would watch the tasks
        for handle in handles.values():
            handle.cancel(force=False)
        raise


def _settle(spec: Spec, ended: Outcome, retries: int, line: Line, stopping: bool) -> bool:
    """Note how a task ended. Returns whether it is to be submitted again."""
    if ended.kind == "done":
        line.state, line.why = "done", ""
    elif stopping:
        line.state = "stopped"
    elif ended.kind == "refused" or spec["attempt"] == retries:
        line.state, line.why = "failed", ended.why
    else:
        spec["attempt"] = line.attempt = spec["attempt"] + 1
        line.state, line.retry, line.why = "waiting", f"retry {line.attempt} of {retries}", ended.why
        return True
    return False
