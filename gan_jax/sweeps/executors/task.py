"""A task: what it is to do, what runs in its process (one group of a sweep, trained in the sweep's
folder), and how it ended. JAX is imported only after the task's environment is set."""

import contextlib
import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gan_jax.core.errors import UserError

PATIENCE = 240.0  # seconds to wait for a group's lock; NFS keeps those of a lost node for about 90
Spec = dict[str, Any]  # what one task is to do, as JSON


@dataclass(frozen=True)
class Outcome:
    """How a task ended: 'done', 'stopped' by a signal (and saved), 'refused' (a UserError) or
    'lost' (anything else)."""

    kind: str
    why: str = ""


class Handle(Protocol):
    """A submitted task. `poll` returns how it ended, None while it waits or runs. `cancel` asks it
    to save and stop or, with `force`, ends it."""

    def poll(self) -> Outcome | None: ...

    def cancel(self, force: bool) -> None: ...


Submit = Callable[[list[Spec]], list[Handle]]  # submits a task for each spec


def train_group(spec: Spec) -> dict[str, str | None]:
    """Train the group that `spec` names, from its last checkpoint if it has one.

    Returns one of {"stopped": the signal, None for a trained group}, {"refused": the line of a
    UserError} and {"lost": why the group is to be tried again}.
    """
    for name, value in spec["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    sys.path += [path for path in spec["path"] if path not in sys.path]
    with contextlib.suppress(OSError):
        os.chdir(spec["directory"])  # data may be named by a relative path
    where = Path(spec["folder"]) / "tasks" / f"{spec['group']:02d}"
    with _logged(where.with_suffix(".log")):
        # Engines install handlers of SIGTERM that ignore it or end the process. This one interrupts
        # what comes before training; training has its own.
        with handled(signal.SIGTERM, signal.default_int_handler):
            try:
                with alone(where.with_suffix(".lock")):
                    return {"stopped": _train(spec, where.with_suffix(".json"))}
            except BlockingIOError as error:
                return {"lost": str(error)}
            except UserError as error:
                return {"refused": str(error)}
            except KeyboardInterrupt:
                return {"stopped": "SIGTERM"}


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """A context in which stderr goes to the end of a file, as far as the disk has room."""
    log = open(path, "a")
    try:
        with contextlib.redirect_stderr(log):
            yield
    finally:
        with contextlib.suppress(OSError):  # what could not be written is tried again when it is closed
            log.close()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """A context in which this process alone holds a lock, which ends with the process. Raises
    BlockingIOError where another one holds it for longer than `PATIENCE`."""
    with open(path, "a") as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BlockingIOError(f"another process trains this group ({path} is locked): end it, or wait") from None
                time.sleep(0.5)
            except OSError:  # a file system without locks
                break
        yield


def _train(spec: Spec, where: Path) -> str | None:
    """The signal that stopped the group's training, or None."""
    import jax

    from gan_jax.sweeps.executors.inputs import read_arrays
    from gan_jax.sweeps.folder import SweepFolder
    from gan_jax.sweeps.part import Schedule
    from gan_jax.sweeps.result import recorded
    from gan_jax.sweeps.trainer import SweepTrainer
    from gan_jax.training.fit import origin_of
    from gan_jax.training.folder import warm_start_of, write_atomic, writing
    from gan_jax.training.placement import place
    from gan_jax.training.serialization import from_json

    with writing(where):
        about = {"node": socket.gethostname(), "pid": os.getpid(), "attempt": spec["attempt"]}
        write_atomic(where, json.dumps(about))
    files, trusted = SweepFolder(spec["folder"]), spec["trusted"]
    record = files.read()
    game = None if spec["game"] is None else from_json(spec["game"], trusted)
    data = None if record["source"] else read_arrays(where.parent / "data.npz", record["data"], spec["class_names"])
    result = recorded(files, data, None, game, trusted)
    devices, per_member = spec["devices"]
    placement = place(devices or len(jax.local_devices()))
    begun_from = warm_start_of(record, files.path)
    origin = origin_of(begun_from, result.data, trusted) if begun_from else None
    schedule = Schedule(*spec["intervals"])
    trainer = SweepTrainer(result, placement, files, record["order"], schedule, spec["most"], per_member, origin)
    return trainer.run_group(spec["group"])


@contextlib.contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    """A context with another handler of a signal; only in the main thread, which alone can set
    handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


# ---- what executors share ---------------------------------------------------------------------


def outcome(returned: dict[str, str | None]) -> Outcome:
    """The outcome of a task from what `task.train_group` returned."""
    [(kind, why)] = returned.items()
    return Outcome(kind, why) if why else Outcome("done")


def brief(text: str) -> str:
    """The text as one line of at most 200 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."


def engine_module(name: str, extra: str) -> Any:
    """The module that an executor needs. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f'this executor needs {name}: pip install "gan-jax[{extra}]"') from None
