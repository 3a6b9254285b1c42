"""Several processes, on one machine or many, train one run: one process for each host, or for each
accelerator.

    from gan_jax.training import distributed

    distributed.connect("10.0.0.1:1234", processes=2, process=0)  # before JAX is used
    gan.fit(recipe, data, steps=1000, devices=16, out="runs/digits")

Under SLURM, GKE and on TPU pods `connect` takes no arguments. Every process runs the same program
with the same arguments, and the numbers are those of one process with as many devices. Process 0
alone writes, so that the run folder need not be visible to the others. Each process loads the whole
training set where the devices hold it, and reads its share of each batch where it is streamed.

All messages are JAX collectives, which are not encrypted: the network has to be a trusted one. When
a process is lost, the others end with an exit code that is not 0: at once where a collective fails,
else when JAX has missed the heartbeats for HEARTBEAT seconds. The program that started them
(`scripts/launch.py`, `srun --kill-on-bad-exit=1`) ends them sooner, and knows which one was lost.

JAX is imported inside the functions, so that command lines print their help without it.
"""

import hashlib
import json
import os
import signal as signals
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gan_jax.core.errors import UserError, say

TIMEOUT = 300.0  # seconds in which all processes must have joined
HEARTBEAT = 30  # seconds without a heartbeat after which JAX ends the job
SHUTDOWN = 7 * 24 * 3600  # seconds for which finished processes wait for process 0, which may write a report
GRACE = 5.0  # seconds for the launcher to print which process was lost, before the other processes end by themselves
LINGER = 1.0  # seconds for the others to end before process 0, without which JAX aborts them
LOST = 75  # exit code where another process was lost; EX_TEMPFAIL of sysexits.h, which means "try again"
AGAIN = "the job ends; --resume continues from its last checkpoint, on any number of processes"
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_connected = False


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, *, timeout: float = TIMEOUT
) -> None:
    """Join the processes of this job, before JAX is used. A single process joins nothing.

    coordinator: 'host:port' of process 0, a port that is free there. processes: how many there are.
    process: the number of this one, from 0. Give all three or none: with none, JAX asks SLURM (in a
        step that srun began), Open MPI, GKE or the TPU pod.
    timeout: seconds in which all processes must have joined; else the program ends with one line.
    Raises UserError for arguments that do not fit together, or where JAX has been used already.
    """
    global _connected
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    detect, tasks = len(missing) == 3, step_tasks()
    if (processes == 1 and not process) or (detect and tasks == 1 and any(name in os.environ for name in TASKS)):
        return
    if missing and not detect:
        raise UserError(f"several hosts: {', '.join(missing)} not given: give coordinator, processes and process, or none")
    if not detect:
        _check_arguments(**given)
    if not timeout > 0:
        raise UserError(f"timeout={timeout:g} is in seconds: give more than 0")
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # because that service swallows SIGTERM
    late = f"error: not all processes came within {timeout:g} s: start each with the same coordinator and number of processes"
    timer = threading.Timer(timeout, _end, (late, 2))  # earlier than JAX's own timeout, which prints a page
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator, processes, process, cluster_detection_method=None if detect else "deactivate",
            initialization_timeout=int(timeout) + 60, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        if detect and tasks == 1:  # JAX found no cluster, or JAX is in use where srun or mpirun began one task
            return
        why = str(error).splitlines()[0]
        raise UserError(f"call distributed.connect once, before JAX is used: the processes cannot join ({why})") from None
    finally:
        timer.cancel()
    _connected = True
    sys.excepthook = _failed


def _check_arguments(coordinator: str, processes: int, process: int) -> None:
    if processes < 1 or not 0 <= process < processes:
        raise UserError(f"process {process} of {processes} processes: number them from 0 to {max(processes, 1) - 1}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"the coordinator is {coordinator!r}: give the host and port of process 0, as in 10.0.0.1:1234")


def alone(what: str, processes: int) -> None:
    """Raises UserError where there are several processes. what: the work of a single process."""
    if processes > 1:
        raise UserError(
            f"{what} is begun by one process, and here are {processes}: start one (srun --ntasks 1, or without srun); "
            "executor ray or slurm takes its groups to other machines"
        )


def step_tasks() -> int:
    """The number of tasks that srun or mpirun began; 1 where neither began this program."""
    return max(int(os.environ.get(name) or 1) for name in TASKS)


def is_primary() -> bool:
    """Whether this is process 0, which writes and prints."""
    import jax

    return jax.process_index() == 0


# ---- messages: all processes call each of these at the same point ------------------------------


class AgreedError(UserError):
    """A UserError that all processes raise, and that process 0 alone prints."""


def gather(value: Any) -> list[Any]:
    """The values (JSON) of all processes, in their order. Raises UserError where the processes have
    different numbers of devices."""
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    if jax.process_count() == 1:
        return [value]
    if len(jax.devices()) != jax.process_count() * jax.local_device_count():
        raise UserError("the processes have different numbers of devices: give each as many")
    message = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = process_allgather(np.int32(len(message)))
    room = 1 << (int(sizes.max()) - 1).bit_length()  # a power of two, so that few programs are compiled
    rows = process_allgather(np.pad(message, (0, room - len(message))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def broadcast(make: Callable[[], Any]) -> Any:
    """Process 0 calls `make`. All processes return its value (JSON) or raise its UserError."""
    import jax

    if jax.process_count() == 1:
        return make()
    value = error = None
    if is_primary():
        try:
            value = make()
        except UserError as raised:
            error = str(raised)
    value, error = gather([value, error])[0]
    if error is not None:
        raise AgreedError(error)
    return value


def broadcast_state(make: Callable[[], tuple[Any, Any]], target: Any) -> tuple[Any, Any]:
    """As `broadcast`, where `make` returns (a pytree of arrays or None, JSON). The bits stay the
    same. Between several processes, all leaves but PRNG keys become NumPy arrays.

    target: shapes and dtypes of the pytree.
    """
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    if jax.process_count() == 1:
        return make()
    state = target

    def described() -> list:
        nonlocal state
        state, value = make()
        return [state is None, value]

    def sent(like: Any, mine: Any) -> Any:
        shape = jax.eval_shape(jax.random.key_data, like) if is_key(like) else like
        raw = np.zeros(shape.shape, shape.dtype)
        if is_primary():
            raw[...] = jax.random.key_data(mine) if is_key(like) else mine
        found = broadcast_one_to_all(raw.reshape(-1).view(np.uint8)).view(raw.dtype).reshape(raw.shape)
        return jax.random.wrap_key_data(jax.numpy.array(found)) if is_key(like) else found

    absent, value = broadcast(described)
    return (None if absent else jax.tree.map(sent, target, state)), value  # the devices hold one whole leaf at a time


def any_signal(signal: str | None) -> str | None:
    """The name of the signal that stops any of the processes, the same name in all; else None."""
    number = max(gather(int(signals.Signals[signal]) if signal else 0))
    return signals.Signals(number).name if number else None


def check_same(record: dict[str, Any]) -> None:
    """Raises UserError in all processes where the records (JSON) of their runs differ."""
    mine = {name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in record.items()}
    first, *others = gather(mine)
    for process, theirs in enumerate(others, 1):
        if differing := [name for name, value in first.items() if theirs.get(name) != value]:
            what = f"process {process} of {len(others) + 1} has another {', '.join(differing)} than process 0"
            raise AgreedError(f"{what}: give all the same arguments and data")


def is_key(x: Any) -> bool:
    """Whether x is an array, or the shape of an array, of typed PRNG keys."""
    import jax

    return hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def fetch(tree: Any) -> Any:
    """A pytree of arrays, whole in this process. A leaf that is replicated over the processes comes
    from one device, and a leaf that is sharded over them becomes a NumPy array."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    def own(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if is_key(x):
            return jax.random.wrap_key_data(own(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return x.addressable_data(0) if x.is_fully_replicated else process_allgather(x, tiled=True)

    return jax.tree.map(own, tree)


# ---- ending -------------------------------------------------------------------------------------


@contextmanager
def together() -> Iterator[None]:
    """A context that all processes enter together. A SystemExit inside it ends the whole job."""
    try:
        yield
    except SystemExit:
        if _connected:
            _end(f"error: {_name()} left before the run was over: {AGAIN}", 1)
        raise


def refuse(error: UserError) -> None:
    """End this process with one line and exit code 2, where there are several; else return."""
    if _connected:
        _end(f"error: {error}" if is_primary() or not isinstance(error, AgreedError) else "", 2)


def _failed(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """The excepthook. JAX's own end of the process would wait for the others."""
    import jax

    if isinstance(error, UserError):
        refuse(error)
    own = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")  # errors of this process, not of a collective
    message = " ".join(str(error).split())[:160]
    if "Gloo" in message or (isinstance(error, jax.errors.JaxRuntimeError) and not message.startswith(own)):
        time.sleep(GRACE)
        _end(f"error: {_name()} cannot reach the others ({message}): {AGAIN}", LOST)
    sys.__excepthook__(kind, error, trace)
    _end(f"error: {_name()} failed ({kind.__name__}: {message}): {AGAIN}", 130 if kind is KeyboardInterrupt else 1)


def _name() -> str:
    import jax

    return f"process {jax.process_index()} of {jax.process_count()}"


def _end(line: str, code: int) -> None:
    if line:
        say(line)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    time.sleep(LINGER if _connected and is_primary() else 0)
    os._exit(code)
