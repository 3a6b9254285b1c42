"""Networks as pure functions: `Net` gives a linen module's `init` and `apply` over plain dicts.

A generator is called as module(z, labels, mode, **numbers) and returns images in [-1, 1], as data
are. A discriminator is called as module(images, labels, mode, **numbers) and returns a
`DiscriminatorOutput`. Draws are made with `mode.draws`, as `networks.layers.Dropout` does. A flax
nnx model is put behind `networks.from_nnx`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from flax.errors import FlaxError
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.text import described


class DiscriminatorOutput(struct.PyTreeNode):
    """logits [b]; classes: class logits [b, k] or None; features: the last hidden layer [b, d]."""

    logits: Float[Array, "b"]
    classes: Any = None
    features: Any = None


class Mode(struct.PyTreeNode):
    """How a network runs: in training, with batch statistics and random layers, or in evaluation.

    draws: for the random layers. axis_name: of the devices that share the batch, or None. passes:
    number of batches that are concatenated in this one, 2 for reals and fakes together."""

    train: bool = struct.field(pytree_node=False, default=False)
    draws: Draws | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)
    passes: int = struct.field(pytree_node=False, default=1)


EVALUATION = Mode()

A_NETWORK = (
    "a network is Net(module) of a linen module called as module(inputs, labels, mode, **numbers), which draws by mode.draws, "
    "as networks.layers.Dropout does (for flax nnx see networks.from_nnx)"
)


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf as `dtype`; keys, integers and None as they are."""
    floating = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.floating)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if floating(x) else x, tree)


def numbers_of(module: nn.Module) -> list[str] | None:
    """The names of the numbers that a module takes after inputs, labels and mode; None where it has
    **kwargs, unless it holds exactly one other network, as a decoder does: then that network's."""
    parameters = list(inspect.signature(type(module).__call__).parameters.values())
    inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return inputs[4:] + [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    held = [getattr(module, f.name) for f in fields(module) if f.name != "parent"]
    nets = [x for x in held if isinstance(x, nn.Module) and "mode" in inspect.signature(type(x).__call__).parameters]
    return numbers_of(nets[0]) if len(nets) == 1 else None


def check_module_numbers(module: nn.Module, numbers: dict) -> None:
    """Raises UserError for a number that the module does not take."""
    known = numbers_of(module) if numbers else None
    if known is not None and (unknown := [name for name in numbers if name not in known]):
        network = f"{type(module).__module__.rpartition('.')[2]}.{type(module).__qualname__}"
        raise UserError(f"the network {network} has no number {unknown[0]!r}: it has {', '.join(known) or 'none'}")


@contextmanager
def calling(module: Any, inputs: Any) -> Iterator[None]:
    """An error of flax, or of a call with other arguments, as a UserError of one line."""
    try:
        yield
    except (TypeError, KeyError, FlaxError) as error:
        said = " ".join(str(error).partition(" (https://flax")[0].split())
        name = getattr(module, "__name__", type(module).__name__)
        raise UserError(f"the network {name} fails for inputs {list(inputs.shape)}: {said}; {A_NETWORK}") from error


@part("gan")
@dataclass(frozen=True)
class Net:
    """A linen module as two pure functions, compared by value: equal recipes share one program. Any
    object with these two methods can take its place. Raises UserError for what is no module, or
    does not take (inputs, labels, mode), for a number that the module does not take, and for what
    flax refuses when it is called."""

    module: nn.Module

    def __post_init__(self):
        if not isinstance(self.module, nn.Module):
            raise UserError(f"Net takes a linen module, as in Net(MyModule()), not {described(self.module)}: {A_NETWORK}")
        if not callable(self.module):
            raise UserError(f"the network {type(self.module).__name__} has no __call__: {A_NETWORK}")
        takes = inspect.signature(type(self.module).__call__)
        try:
            takes.bind_partial(self.module, "inputs", "labels", "mode")
        except TypeError:
            raise UserError(f"the network {type(self.module).__name__} takes {takes}: {A_NETWORK}") from None

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        """(params, stats) for an example batch. stats: linen's other collections."""
        check_module_numbers(self.module, numbers)
        with calling(self.module, inputs):
            variables = dict(self.module.init({"params": key}, inputs, labels, EVALUATION, **numbers))
        return variables.pop("params", {}), variables

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        """(output, new stats). The output has the dtype of `inputs`, whatever computes it."""
        check_module_numbers(self.module, numbers)
        dtype = inputs.dtype
        if compute_dtype is not None:
            params, inputs = cast((params, inputs), compute_dtype)
        numbers = cast(numbers, inputs.dtype)
        mutable = list(stats) if mode.train else False
        with calling(self.module, inputs):
            output = self.module.apply({"params": params, **stats}, inputs, labels, mode, mutable=mutable, **numbers)
        output, new = output if mode.train else (output, stats)
        return cast(output, dtype), dict(new)
