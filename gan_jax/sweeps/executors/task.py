"""What runs in a task's process: one structure-group of a sweep, trained in the sweep's folder.

JAX is imported only after the task's environment is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Seconds to wait for a group: of a process being killed, or of a lost node, whose locks NFS keeps
# for 90 s or so.
PATIENCE = 240.0


def train_group(spec: dict[str, Any]) -> dict[str, str | None]:
    """Train the group that `spec` names, from its last checkpoint if it has one.

    Returns {"stopped": the signal that stopped it, "refused": the UserError's line, "lost": why it
    is to be tried again}, each None where it is not so.
    """
    for name, value in spec["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    sys.path += [path for path in spec["path"] if path not in sys.path]
    where = Path(spec["folder"]) / "tasks"
    stem = f"{spec['group']:02d}"
    with contextlib.suppress(OSError):
        os.chdir(spec["directory"])  # for data named by a relative path
    with open(where / f"{stem}.log", "a") as log, contextlib.redirect_stderr(log), _terminable():
        from gan_jax.core.errors import UserError

        ended: dict[str, str | None] = {"stopped": None, "refused": None, "lost": None}
        try:
            with alone(where / f"{stem}.lock"):
                return ended | {"stopped": _train(spec, where / f"{stem}.json")}
        except BlockingIOError as error:
            return ended | {"lost": str(error)}
        except UserError as error:
            return ended | {"refused": str(error)}
        except KeyboardInterrupt:  # outside of training, which saves
            return ended | {"stopped": "SIGTERM"}


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts what is not training yet: engines give it handlers that ignore it, or end
    the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While it lasts no other process holds this lock, which goes with the process. Raises
    BlockingIOError where one does for longer than `PATIENCE`."""
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


def _train(spec: dict[str, Any], where: Path) -> str | None:
    """The signal that stopped the group's training, or None."""
    import jax

    from gan_jax.sweeps.executors.inputs import read_arrays
    from gan_jax.sweeps.part import Schedule
    from gan_jax.sweeps.result import recorded
    from gan_jax.sweeps.trainer import SweepTrainer
    from gan_jax.training.fit import origin_of
    from gan_jax.training.folder import SweepFolder, write_atomic, writing
    from gan_jax.training.placement import place
    from gan_jax.training.serialization import from_json

    with writing(where):
        about = {"node": socket.gethostname(), "pid": os.getpid(), "attempt": spec["attempt"]}
        write_atomic(where, json.dumps(about))
    files = SweepFolder(spec["folder"])
    record, trusted = files.read(), spec["trusted"]
    game = None if spec["game"] is None else from_json(spec["game"], trusted)
    data = None if record["source"] else read_arrays(where.parent / "data.npz", record["data"], spec["class_names"])
    result = recorded(files, record, data, None, game, trusted)
    devices, per_member = spec["devices"]
    placement = place(devices or len(jax.local_devices()))
    begun_from = record.get("warm_start")
    origin = origin_of(begun_from, result.data, trusted) if begun_from else None
    schedule = Schedule(*spec["intervals"])
    trainer = SweepTrainer(result, placement, files, record["order"], schedule, spec["most"], per_member, origin)
    return trainer.run_group(spec["group"])
