"""Sweeps that outgrow one machine: each structure-group of a sweep is a task with its own process
and devices.

    gan.sweep(settings, data, steps=..., out="/shared/sweep", executor="ray", address="10.0.0.1:6379")
    gan.sweep(settings, data, steps=..., out="/shared/sweep", executor=gan.executors.Slurm(partition="gpu", gpus=1))

**Folder.** `out` lies on a file system that the driver and every node see under one path. A task
trains its group with the code of a local sweep and writes the same files; the driver only watches
them, and makes table, ranking and pictures of them at the end. So a sweep begun by one executor may
be resumed by another.

**Failures.** A task that was killed, whose node was lost or whose code failed is submitted again,
three times unless told otherwise, and continues from its last checkpoint; what a person must change
(a UserError) is not tried again. The others go on meanwhile. One process at a time trains a group:
a lock in the folder sees to it.

**Same bits.** Equal results need equal versions, kind and number of devices, and CPU threads. Tasks
get the driver's JAX_*, XLA_*, NPROC and *_NUM_THREADS variables and JAX settings, and not the
OMP_NUM_THREADS=1 that Ray sets. `cpus` of Ray is what its scheduler counts, no limit: XLA uses all
cores of the node unless NPROC says otherwise, as in a local sweep. SLURM does confine a task to its
cores. Without GPUs, or other accelerators that the executor asks for, tasks run on the CPU,
whatever else the nodes have.

**Trust.** Settings travel as JSON and data as plain arrays. The only pickles are those that Ray and
submitit make of a call to this package, in your own cluster and folder.
"""

from __future__ import annotations

from pathlib import Path

from gan_jax.core.errors import UserError
from gan_jax.sweeps.executors.base import Executor, Outcome
from gan_jax.sweeps.executors.ray import Ray
from gan_jax.sweeps.executors.slurm import Slurm

__all__ = ["Executor", "Outcome", "Ray", "Slurm", "choose"]


def choose(executor: str | Executor, address: str | None, out: str | Path | None) -> Executor | None:
    """The executor of that name, or the one given; None for 'local'. Raises UserError for what
    cannot be meant."""
    known = {"ray": Ray, "slurm": Slurm}
    if isinstance(executor, str) and executor not in ("local", *known):
        raise UserError(f"unknown executor {executor!r}: use local, {' or '.join(known)}")
    if address is not None and (executor == "local" or not isinstance(executor, str)):
        where = "local" if executor == "local" else "given with its own address"
        raise UserError(f"address={address!r} speaks of a cluster, but the executor is {where}: leave the address out")
    if executor == "local":
        return None
    if out is None:
        raise UserError("tasks meet in the sweep folder: name one that all machines see, with out")
    chosen: Executor = known[executor](address=address) if isinstance(executor, str) else executor
    if chosen.retries < 0 or chosen.gpus < 0:
        raise UserError(f"an executor with {chosen.retries} retries and {chosen.gpus:g} GPUs: neither can be below 0")
    chosen.check()
    return chosen
