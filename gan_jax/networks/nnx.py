"""Models of flax nnx in the place of a `Net`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from gan_jax.core.net import Mode, calling, cast
from gan_jax.core.parts import part


@part("networks")
@dataclass(frozen=True)
class NNX:
    """What `from_nnx` makes: params are the model's parameters, stats all its other variables."""

    module: Callable[..., Any]
    options: tuple[tuple[str, Any], ...] = ()

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        with calling(self.module, inputs):
            params, rest = self._split(key)[1:]
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)  # pyright: ignore[reportReturnType]

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        graph, *states = jax.eval_shape(self._split, jax.random.key(0))
        dtype = inputs.dtype
        if compute_dtype is not None:
            params, inputs = cast((params, inputs), compute_dtype)
        for state, values in zip(states, (params, stats), strict=True):
            nnx.replace_by_pure_dict(state, values)
        model = nnx.merge(graph, *states)
        with calling(self.module, inputs):
            output = model(inputs, labels, mode, **cast(numbers, inputs.dtype))
        rest: Any = nnx.split(model, nnx.Param, ...)[2]
        return cast(output, dtype), nnx.to_pure_dict(rest) if mode.train else dict(stats)

    def _split(self, key) -> Any:
        return nnx.split(self.module(rngs=nnx.Rngs(params=key), **dict(self.options)), nnx.Param, ...)


def from_nnx(make: Callable[..., Any], **options: Any) -> NNX:
    """A flax nnx model as a network: `Side(net=from_nnx(MyDiscriminator, width=64), ...)`.

    make: a class or function of module level, called as make(rngs=..., **options). The model is
    called as model(inputs, labels, mode, **numbers), and returns images, or a
    `DiscriminatorOutput`. It draws by `mode.draws`: its rngs are there for its parameters alone.
    options: structure, of values that can be compared.

    >>> from_nnx(MyDiscriminator, width=64)
    """
    return NNX(make, tuple(sorted(options.items())))
