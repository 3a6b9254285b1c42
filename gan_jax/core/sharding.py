"""State that is split over the devices, for models that do not fit on each of them: ZeRO and fully
sharded data parallel.

`shard='optimizer'`: the states of the optimizers and the moving averages (stage 1 of Rajbhandari et
al., 2020, ZeRO, whose model has no average). Every device then updates its share of them alone; the
parameters lie whole on each. `shard='parameters'`: these too, and whatever else of the state is
large (stage 3, or FSDP, of what lies between steps; in a step a device gathers the parameters that
it uses).

A leaf is split along the longest of its axes that the devices divide; one of fewer than `SMALL`
numbers stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SHARDED = ("optimizer", "parameters")
SMALL = 1024  # numbers: gathering fewer takes longer than keeping them costs
_OPTIMIZER = ("opt_state", "ema")  # fields of a game's state
_MESH: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def layout(state: Any, mesh: Mesh, shard: str | None) -> Any:
    """For every leaf of a state (arrays or their shapes) where it lies: a pytree of
    NamedSharding."""
    chosen = lambda path: shard == "parameters" or (shard == "optimizer" and _is_optimizer(path))
    where = lambda path, x: NamedSharding(mesh, _spec(x, mesh) if chosen(path) else P())
    return jax.tree_util.tree_map_with_path(where, state)


def _is_optimizer(path: tuple) -> bool:
    return any(getattr(part, "name", None) in _OPTIMIZER for part in path)


def _spec(x: Any, mesh: Mesh) -> P:
    axes = [i for i, n in enumerate(x.shape) if n % mesh.size == 0]
    if x.size < SMALL or not axes:
        return P()
    longest = max(axes, key=lambda i: x.shape[i])
    return P(*[None] * longest, *mesh.axis_names)


@contextmanager
def gathering(mesh: Mesh | None) -> Iterator[None]:
    """Inside, while a step is traced, `whole` and `split` are over this mesh."""
    token = _MESH.set(mesh)
    try:
        yield
    finally:
        _MESH.reset(token)


def whole(tree: Any) -> Any:
    """Gradients and parameters, whole on every device where the state around them is split; else as
    they are.

    Without it a partitioner splits the layers as the optimizer's state is, and sends their images
    about.
    """
    mesh = _MESH.get()
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, P()))


def split(tree: Any) -> Any:
    """Gradients, parameters and updates as an optimizer's split state meets them; else as they
    are."""
    mesh = _MESH.get()
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, layout(tree, mesh, "parameters"))


def bytes_per_device(state: Any) -> int:
    """Bytes of a state's arrays on the device of this process that holds most."""
    held: dict[Any, int] = {}
    for leaf in jax.tree.leaves(state):
        data = jax.random.key_data(leaf) if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for shard in data.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values(), default=0)
