"""What a penalty sees (`PenaltyContext`), and its marks: `remembers`, `only_for`, `lazy`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gan_jax.arguments import count
from gan_jax.checks import check_rows
from gan_jax.core.batch import Shared
from gan_jax.core.bind import Bound, check_bound
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.text import described


@dataclass(frozen=True)
class PenaltyContext(Shared):
    """What a penalty may use. A field that is added later breaks no penalty.

    critic: (images, labels) -> DiscriminatorOutput, the discriminator in training, augmentations
    included.
    generator: (z, labels, **numbers) -> images, the generator in training; `numbers` are added to
    those of its Side.
    params: of the player whose turn it is.
    reals, fakes: [b, ...]; real_labels, fake_labels: [b] or None; z: [b, d].
    real, fake: the DiscriminatorOutputs of this turn's loss.
    draws: this penalty's own; memory: what it remembered; step: the training step.
    """

    critic: Callable[[Array, Any], DiscriminatorOutput]
    generator: Callable[..., Array]
    params: Any
    reals: Float[Array, "b *shape"]
    fakes: Float[Array, "b *shape"]
    real_labels: Int[Array, "b"] | None
    fake_labels: Int[Array, "b"] | None
    z: Float[Array, "b d"]
    draws: Draws
    step: Array
    real: Any = None
    fake: Any = None
    memory: Any = None
    axis_name: str | None = None


def remembers(**initial) -> Callable:
    """Marks a penalty that keeps a memory between steps: scalars with these initial values."""

    def mark(function):
        function.initial_memory = {name: float(value) for name, value in initial.items()}
        return function

    return mark


def only_for(player: str) -> Callable:
    """Marks a penalty that has a meaning for the 'generator' or the 'discriminator' alone."""

    def mark(function):
        function.player = player
        return function

    return mark


@part("penalties")
class Lazy(struct.PyTreeNode):
    """A penalty that `lazy` makes. Its mean over steps is the mean of the penalty itself. The
    optimizer's rates stay as they are, since loss and penalty share one update."""

    penalty: Bound
    every: int = struct.field(pytree_node=False, default=16)

    def __post_init__(self):
        count(self.every, "lazy: every", least=1)

    @property
    def function(self):
        return self.penalty.function

    def __call__(self, context: PenaltyContext):
        shape = jax.eval_shape(lambda: evaluate(self.penalty, context)[0])
        skip = lambda: (jnp.zeros(shape.shape, shape.dtype), context.memory)
        values, memory = jax.lax.cond(context.step % self.every == 0, lambda: evaluate(self.penalty, context), skip)
        return (values * self.every, memory) if initial_memory(self) else values * self.every


def lazy(penalty: Bound, every: int) -> Lazy | Bound:
    """every * penalty at the steps that `every` divides, else 0 (Karras et al., 2020a).

    every: at least 1, which is the penalty itself; structure. StyleGAN2 has 16 for R1 and 4 for
    path lengths, and rescales Adam for them, which is not done here. Raises UserError for another
    `every`, and for a function that is not bound.
    """
    made = Lazy(penalty, every)
    check_bound(penalty, "lazy", ("context",))
    return penalty if every == 1 else made


def check_player(penalty: Bound | Lazy, player: str) -> None:
    """Raises UserError for a penalty that has no meaning for this player."""
    function = penalty.function
    if (meant := getattr(function, "player", player)) != player:
        raise UserError(f"{function.__name__} is a penalty for the {meant} and means nothing for the {player}: move it there")


def initial_memory(penalty: Bound | Lazy) -> dict[str, float]:
    """What a penalty remembers at the start; most penalties remember nothing."""
    return getattr(penalty.function, "initial_memory", {})


def evaluate(penalty: Bound | Lazy, context: PenaltyContext) -> tuple[Float[Array, "b"], Any]:
    """(one value per example, the penalty's memory afterwards). Raises UserError for values of
    another shape, and where the penalty does not return what its marks say."""
    result: Any = penalty(context)
    remembering, what = initial_memory(penalty), f"the penalty {penalty.function.__name__}"
    if isinstance(result, tuple) != bool(remembering):
        wanted = "(values, new memory), as it is marked @remembers" if remembering else "values alone: mark it @remembers"
        raise UserError(f"{what} returns {described(result)}: it must return {wanted}")
    values, memory = result if remembering else (result, context.memory)
    if context.real is not None:  # a packed discriminator has fewer logits than examples
        must = "one value per example, as jnp.broadcast_to(x, (len(context.fakes),)) does"
        check_rows(values, (len(context.fakes), len(context.real.logits)), what, must)
    return values, memory
