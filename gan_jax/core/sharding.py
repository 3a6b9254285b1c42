"""A state that is sharded over devices: ZeRO, and fully sharded data parallelism (FSDP).

shard='optimizer' shards the optimizers' states and the moving average: each device updates its own
shard (stage 1 of ZeRO, Rajbhandari et al., 2020). shard='parameters' also shards the parameters and
all else that is large between steps (stage 3, FSDP); a step gathers what it uses.

A leaf is sharded along the longest axis that the number of devices divides. A leaf of fewer than
`SMALL` numbers is replicated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

SHARDED = ("optimizer", "parameters")
SMALL = 1024  # numbers in a leaf: gathering a smaller one takes longer than keeping it costs
_MESH: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def layout(state: Any, mesh: Mesh, shard: str | None) -> Any:
    """The NamedSharding of every leaf of a state (arrays or their shapes)."""
    optimizer = lambda path: any(getattr(key, "name", None) in ("opt_state", "ema") for key in path)
    chosen = lambda path: shard == "parameters" or (shard == "optimizer" and optimizer(path))
    where = lambda path, x: NamedSharding(mesh, _spec(x, mesh) if chosen(path) else P())
    return jax.tree_util.tree_map_with_path(where, state)


def _spec(x: Any, mesh: Mesh) -> P:
    axes = [i for i, n in enumerate(x.shape) if n % mesh.size == 0]
    if x.size < SMALL or not axes:
        return P()
    longest = max(axes, key=lambda i: x.shape[i])
    return P(*[None] * longest, *mesh.axis_names)


@contextmanager
def gathering(mesh: Mesh | None) -> Iterator[None]:
    """While a step is traced inside this context, `whole` and `split` refer to this mesh."""
    token = _MESH.set(mesh)
    try:
        yield
    finally:
        _MESH.reset(token)


def whole(tree: Any) -> Any:
    """Gradients or parameters: replicated where the state is sharded, unchanged where it is not.
    Without it XLA would shard the layers like the optimizer's state, and move activations."""
    mesh = _MESH.get()
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, P()))


def split(tree: Any) -> Any:
    """Gradients, parameters or updates, sharded as the optimizer's state is; else unchanged."""
    mesh = _MESH.get()
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, layout(tree, mesh, "parameters"))
