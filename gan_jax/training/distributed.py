"""Several processes, on one machine or many, that train one run: one for each host, or for each
accelerator.

    from gan_jax import hosts

    hosts.connect("10.0.0.1:1234", processes=2, process=0)  # before JAX is used; no arguments under SLURM, GKE and TPU pods
    gan.fit(recipe, data, steps=1000, devices=16, out="runs/digits")

Every process runs the same program with the same arguments; together they are one run, with the
numbers that one process with as many devices would have had. Process 0 alone writes: the run folder
need lie on no file system of the others. Each process loads the whole training set where it lies on
the devices, and reads its share of each batch where it is streamed. The network is a trusted one
(see `wire`); with GAN_JAX_TOKEN set to one secret everywhere, only processes that know it join. A
process that is lost, or fails, ends all of them with one line.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gan_jax.core.errors import UserError
from gan_jax.training.wire import AGAIN, GRACE, LOST, Wire, meet, relay, split

TIMEOUT = 300.0  # seconds in which all processes must have come
LOST_AFTER = 30.0  # seconds of silence after which a process counts as lost
_wire: Wire | None = None


def connect(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout: float = TIMEOUT,
    lost_after: float = LOST_AFTER,
) -> None:
    """Join the processes of this job. Call first, before JAX is used; does nothing where there is
    one process.

    coordinator: 'host:port' of process 0, a port free there; processes: how many there are;
        process: which one this is, from
    0. All three or none: then SLURM (in a step that srun began), GKE and TPU pods tell, as far as
        JAX knows them.
    timeout: seconds in which all must have come. lost_after: seconds of silence after which one
    counts as lost; where its machine still answers (it was killed, or ran out of memory) the others
    know at once.
    Raises UserError for arguments that do not fit together, or where not all come.
    """
    global _wire
    coordinator, processes, process, own = _who(coordinator, processes, process, timeout)
    if processes == 1:
        return
    import jax
    from jax._src import xla_bridge

    if _wire is not None or xla_bridge.backends_are_initialized():
        raise UserError("JAX has been used already: call hosts.connect once, before anything of JAX")
    if not timeout > 0 or not lost_after > 0:
        raise UserError(f"timeout={timeout:g} and lost_after={lost_after:g} are seconds: give more than 0")
    wire = meet(coordinator, processes, process, timeout, lost_after)
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _wire = wire
    sys.excepthook = _failed
    jax.distributed.initialize(
        _service(wire, split(coordinator)[0]), processes, process,
        local_device_ids=own, cluster_detection_method="deactivate", initialization_timeout=int(max(timeout, 1)),
        heartbeat_timeout_seconds=int(max(100, 3 * lost_after)),
    )  # fmt: skip
    atexit.register(_leave)  # before JAX's own, which waits only so long


def _who(coordinator: str | None, processes: int | None, process: int | None, timeout: float) -> tuple[str, int, int, Any]:
    """What was given, or what the cluster says: coordinator, processes, process, local devices
    (None for all)."""
    if coordinator is None and processes is None and process is None:
        if os.environ.get("SLURM_STEP_NUM_TASKS") == "1":  # srun began one, whatever the job has room for
            return "", 1, 0, None
        from jax._src.clusters import ClusterEnv

        found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(timeout))
        return ("", 1, 0, None) if found[1] is None else found  # pyright: ignore[reportReturnType]
    if processes == 1 and process in (None, 0):
        return "", 1, 0, None
    if coordinator is None or processes is None or process is None:
        given = {"coordinator": coordinator, "processes": processes, "process": process}
        missing = [name for name, value in given.items() if value is None]
        raise UserError(f"several hosts: {', '.join(missing)} not given: give coordinator, processes and process, or none")
    if processes < 1 or not 0 <= process < processes:
        raise UserError(f"process {process} of {processes} processes: number them from 0 to {max(processes, 1) - 1}")
    split(coordinator)
    return coordinator, processes, process, None


def _service(wire: Wire, host: str) -> str:
    """The address at which this process finds JAX's own coordination service, which process 0
    runs."""
    if wire.me == 0:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        wire.send("service", port)
        return f"127.0.0.1:{port}"
    return f"127.0.0.1:{relay(host, wire.receive('service')[1])}"


def count() -> int:
    """How many processes there are."""
    return _wire.processes if _wire else 1


def alone(what: str, processes: int) -> None:
    """Raises UserError where several processes begin what one does alone. processes: as many as are
    known to."""
    if (n := max(processes, count())) > 1:
        raise UserError(
            f"{what} is begun by one process, and here are {n}: start one (srun --ntasks 1, or without srun); "
            "executor ray or slurm takes its groups to other machines"
        )


def step_tasks() -> int:
    """How many tasks srun or mpirun began this program as; 1 where neither did."""
    return max(int(os.environ.get(name) or 1) for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))


def is_primary() -> bool:
    """Whether this is process 0: it writes and prints."""
    return _wire is None or _wire.me == 0


# ---- one run -----------------------------------------------------------------------------------


def broadcast(make: Callable[[], Any]) -> Any:
    """What `make` returns (JSON) in process 0, which alone calls it, in all; its UserError is
    raised in all."""
    if _wire is None:
        return make()
    if _wire.me:
        _, (value, error), _ = _wire.receive("told")
        if error is not None:
            raise UserError(error)
        return value
    try:
        value = make()
    except UserError as error:
        _wire.send("told", [None, str(error)])
        raise
    _wire.send("told", [value, None])
    return value


def broadcast_state(make: Callable[[], tuple[Any, Any]], target: Any) -> tuple[Any, Any]:
    """What `make` returns in process 0, (a pytree of arrays or None, JSON), in all: in the others the arrays are NumPy's, but
    for PRNG keys. target: shapes and dtypes of the pytree."""
    import jax
    import numpy as np

    if _wire is None:
        return make()
    if _wire.me == 0:
        state, value = make()
        raw = [np.ascontiguousarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(state)]
        impls = [str(jax.random.key_impl(x)) for x in jax.tree.leaves(state) if _is_key(x)]
        _wire.send("state", [value, impls, state is None], *(x.reshape(-1).view(np.uint8).data for x in raw))
        return state, value
    _, (value, impls, none), payload = _wire.receive("state")
    if none:
        return None, value
    leaves, at = [], 0
    for like in jax.tree.leaves(target):
        data = jax.eval_shape(jax.random.key_data, like) if _is_key(like) else like
        size = data.size * data.dtype.itemsize
        found = np.frombuffer(payload, np.uint8, size, at).view(data.dtype).reshape(data.shape)
        leaves.append(jax.random.wrap_key_data(jax.numpy.array(found), impl=impls.pop(0)) if _is_key(like) else found)
        at += size
    return jax.tree.unflatten(jax.tree.structure(target), leaves), value


def _is_key(x: Any) -> bool:
    import jax

    return jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def in_memory(like: Any) -> Any:
    """Of the shape of an array one of NumPy, to be read into; PRNG keys have none."""
    import numpy as np

    return like if _is_key(like) else np.empty(like.shape, like.dtype)


def cpu() -> Any:
    """This process's CPU, whose memory holds what no device does; None where JAX was told to leave
    it out."""
    import jax

    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def any_signal(signal: str | None) -> str | None:
    """The signal that any process was stopped with, the same in all; None where none was. All call
    it at the same steps."""
    if _wire is None:
        return signal
    if _wire.me:
        if signal:
            _wire.send("stop", signal)
        return _wire.receive("go")[1]
    signal = next(iter(filter(None, [signal, *_wire.received("stop")])), None)
    _wire.send("go", signal)
    return signal


def check_same(record: dict[str, Any]) -> None:
    """Refuse processes that are about to train different runs. record: JSON of what makes them one.
    Raises UserError where this one differs; returns when all have looked, so that nothing has been
    written where another one does."""
    if _wire is None:
        import jax

        if jax.process_count() > 1:
            raise UserError(
                "several processes train one run: join them with gan_jax.training.distributed.connect, not through JAX itself"
            )
        return
    mine = {name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in record.items()}
    theirs = broadcast(lambda: mine)
    if other := [name for name in mine if mine[name] != theirs.get(name)]:
        me = _wire.name(_wire.me)
        raise UserError(f"{me} has another {', '.join(other)} than process 0: give all the same arguments and data")
    barrier()


def note(kind: str, value: Any) -> None:
    """Something for process 0 to keep."""
    if _wire:
        _wire.send(kind, value)


def noted(kind: str) -> list[Any]:
    """In process 0, what others noted since it was asked last."""
    return _wire.received(kind) if _wire and _wire.me == 0 else []


def barrier() -> None:
    """Returns in process 0 when all have come to this point, and what they noted before it is
    there."""
    if _wire:
        if _wire.me:
            _wire.send("here")
        else:
            for _ in _wire.sockets:
                _wire.receive("here")
            _wire.received("stop")  # sent when the run was at its end: it is not the next one's


@contextmanager
def together() -> Iterator[None]:
    """A stretch that all processes go through together."""
    if _wire is None:
        yield
        return
    _wire.busy = True
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _of_devices(error):
            time.sleep(2)  # it may follow from another's, of which the wire has the clearer word
            raise
        # A collective fails where a process is lost: the wire says which, and ends this one.
        time.sleep(_wire.lost_after + GRACE)
        said = " ".join(str(error).split())[:160]
        _wire.end(f"error: {_wire.name(_wire.me)} cannot reach the others' devices ({said}): {AGAIN}", LOST)
    finally:
        _wire.busy = False


def _of_devices(error: Exception) -> bool:
    """Whether another process may be why JAX failed, and not this one's program or memory."""
    import jax

    own = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")
    return isinstance(error, jax.errors.JaxRuntimeError) and not str(error).startswith(own)


def fetch(tree: Any) -> Any:
    """A pytree of arrays that all processes share as one, whole in this process alone: what all
    devices hold on one of them, what is split over them in the host's memory (NumPy); another one
    as it is."""
    import jax
    from jax.experimental.multihost_utils import process_allgather

    def own(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if _is_key(x):
            return jax.random.wrap_key_data(own(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return x.addressable_data(0) if x.is_fully_replicated else process_allgather(x, tiled=True)

    return jax.tree.map(own, tree)


# ---- ending ------------------------------------------------------------------------------------


def refuse(line: str, code: int = 2) -> None:
    """End all processes with this one line, where there are several; else return."""
    if _wire:
        _wire.end(line, code)


def _failed(kind, error, trace) -> None:
    sys.__excepthook__(kind, error, trace)
    assert _wire is not None
    said = f"{kind.__name__}: {error}".split("\n")[0][:200]
    _wire.end(f"error: {_wire.name(_wire.me)} failed ({said}): {AGAIN}", 130 if kind is KeyboardInterrupt else 1)


def _leave() -> None:
    if _wire:
        _wire.leave()
