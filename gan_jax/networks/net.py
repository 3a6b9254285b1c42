"""The seam between a network and the game: `Net` gives pure `init` and `apply` over plain dicts.

A generator is called as module(z, labels, mode, **numbers) and returns images; a discriminator as
module(images, labels, mode, **numbers) and returns a Judgement. `numbers` are the leaves of its Side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from gan_jax.draws import Draws


class Judgement(struct.PyTreeNode):
    """What a discriminator says of a batch: logits [b]; class logits [b, classes]; features [b, d], the last hidden layer."""

    logits: Float[Array, "b"]
    classes: Any = None
    features: Any = None


class Mode(struct.PyTreeNode):
    """How a network is run: training (batch statistics, random layers) or evaluation; its draws; the device axis.

    passes: batches of examples that are one after the other in this one: 2 where D sees reals and fakes together.
    """

    train: bool = struct.field(pytree_node=False, default=False)
    draws: Draws | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)
    passes: int = struct.field(pytree_node=False, default=1)


EVALUATION = Mode()


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf as `dtype`; keys, integers and None as they are."""
    floating = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if floating(x) else x, tree)


@dataclass(frozen=True)
class Net:
    """A linen module as two pure functions. Compares by value, so that two equal recipes share one program.

    Any object with these two methods can take its place.
    """

    module: nn.Module

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        """(params, stats) for one example batch; stats are linen's other collections (running averages)."""
        variables = dict(self.module.init({"params": key}, inputs, labels, EVALUATION, **numbers))
        return variables.pop("params", {}), variables

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        """(output, new stats). With `compute_dtype` the network computes in it and answers in the dtype of `inputs`."""
        dtype = inputs.dtype
        if compute_dtype is not None:
            params, inputs = cast((params, inputs), compute_dtype)
        numbers = cast(numbers, inputs.dtype)
        mutable = list(stats) if mode.train else False
        output = self.module.apply({"params": params, **stats}, inputs, labels, mode, mutable=mutable, **numbers)
        output, new = output if mode.train else (output, stats)
        return cast(output, dtype), dict(new)
