"""Sweeps on more than one machine: each group of a sweep (members of one structure) is a task with
its own process and devices.

    gan.sweep(..., out="/shared/sweep", executor="ray", address="10.0.0.1:6379")
    gan.sweep(..., out="/shared/sweep", executor=gan.executors.Slurm(partition="gpu", gpus=1))

**Folder.** `out` is on a file system that the driver and every node see under one path. A task
trains its group with the code of a local sweep and writes the same files. The driver watches the
files, and makes table, ranking and pictures of them. So one executor can resume a sweep that
another one began.

**Failures.** A task is submitted again (`retries`) where it was killed, its node was lost or its
code failed, and continues from its last checkpoint. A UserError is not tried again. The other tasks
go on meanwhile. A lock in the folder lets one process at a time train a group.

**Same bits.** Equal results need equal versions, kind and number of devices, and CPU threads. Tasks
get the driver's JAX settings and its JAX_*, XLA_*, NPROC and *_NUM_THREADS variables, and not the
OMP_NUM_THREADS=1 that Ray sets. `cpus` of Ray is what its scheduler counts and no limit: XLA uses
all cores of the node unless NPROC limits them, as in a local sweep. SLURM confines a task to its
cores. Tasks whose executor asks for no accelerator run on the CPU, whatever the nodes have.

**Trust.** Settings travel as JSON and data as plain arrays. The only pickles are those that Ray and
submitit make of a call to this package, in your own cluster and folder.
"""

from pathlib import Path

from gan_jax.arguments import among, refuse
from gan_jax.core.errors import UserError
from gan_jax.sweeps.executors.ray import Ray
from gan_jax.sweeps.executors.slurm import Slurm
from gan_jax.sweeps.executors.task import Outcome

__all__ = ["Executor", "Outcome", "Ray", "Slurm", "choose"]

Executor = Ray | Slurm


def choose(executor: str | Executor, address: str | None, out: str | Path | None) -> Executor | None:
    """The executor of that name, or the given one; None for 'local'. Raises UserError for an
    unknown name, an address that fits no cluster, and numbers that no task can have."""
    known = {"ray": Ray, "slurm": Slurm}
    if not isinstance(executor, (Ray, Slurm)):
        among(executor, "executor", ("local", *known))
    if address is not None and (executor == "local" or not isinstance(executor, str)):
        where = "local" if executor == "local" else "given with its own address"
        raise UserError(f"address={address!r} speaks of a cluster, but the executor is {where}: leave the address out")
    if executor == "local":
        return None
    if out is None:
        raise UserError("tasks meet in the sweep folder: name one that all machines see, with out")
    chosen = known[executor](address=address) if isinstance(executor, str) else executor
    if not isinstance(chosen.address, (str, type(None))):
        refuse(chosen.address, "address", "text, such as 'host:port'")
    chosen.check()
    return chosen
