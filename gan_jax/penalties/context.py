"""What a penalty sees, and what makes one: `PenaltyContext`, `remembers`, `lazy`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gan_jax.core.batch import all_gather, device_mean
from gan_jax.core.bind import Bound
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws


@dataclass(frozen=True)
class PenaltyContext:
    """What a penalty may look at. Fields added later break no penalty.

    critic:    (images, labels) -> DiscriminatorOutput, the discriminator as it trains
               (augmentations included)
    generator: (z, labels, **numbers) -> images, the generator as it trains; numbers are added to
        its Side's
    params:    of the player who moves; reals, fakes [b, ...]; real_labels, fake_labels [b] or None;
               z [b, d]
    real, fake: the DiscriminatorOutputs of reals and fakes that this turn's loss is made of
    draws:     this penalty's own randomness; memory: what it remembered; step: the training step
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

    def mean(self, values: Array) -> Array:
        """The mean over the whole batch (first axis), on every device."""
        return device_mean(values.mean(0), self.axis_name)

    def all_gather(self, values: Array) -> Array:
        """[b, ...] of this device -> [B, ...] of the whole batch, on every device."""
        return all_gather(values, self.axis_name)


def remembers(**initial) -> Callable:
    """Marks a penalty that keeps a memory between steps, a dict of scalars that starts at these
    values."""

    def mark(function):
        function.initial_memory = {name: float(value) for name, value in initial.items()}
        return function

    return mark


def only_for(player: str) -> Callable:
    """Marks a penalty of the 'generator' or the 'discriminator' that means nothing in the other
    one's hands."""

    def mark(function):
        function.player = player
        return function

    return mark


@part("penalties")
class Lazy(struct.PyTreeNode):
    """A penalty taken every `every` steps and multiplied by `every` (lazy regularisation, Karras et
    al., 2020a).

    The mean over steps is that of the penalty itself. The optimizer's rates are left alone: both
    terms share one update.
    """

    penalty: Bound
    every: int = struct.field(pytree_node=False, default=16)

    @property
    def function(self):
        return self.penalty.function

    def __call__(self, context: PenaltyContext):
        shape = jax.eval_shape(lambda: evaluate(self.penalty, context)[0])
        skip = lambda: (jnp.zeros(shape.shape, shape.dtype), context.memory)
        values, memory = jax.lax.cond(context.step % self.every == 0, lambda: evaluate(self.penalty, context), skip)
        return (values * self.every, memory) if initial_memory(self) else values * self.every


def lazy(penalty: Bound, every: int) -> Lazy | Bound:
    """every * penalty at the steps that `every` divides, 0 at the others (lazy regularisation,
    Karras et al., 2020a).

    every: 16 for R1 and 4 for path lengths in StyleGAN2, which also rescales Adam for it (see
    `Lazy`: here it is not). It is structure; 1 is the penalty itself.
    """
    return penalty if every == 1 else Lazy(penalty, every)


def check_player(penalty: Bound | Lazy, player: str) -> None:
    """Raises UserError for a penalty that means nothing in this player's hands."""
    function = penalty.function
    if (meant := getattr(function, "player", player)) != player:
        raise UserError(f"{function.__name__} is a penalty for the {meant} and means nothing for the {player}: move it there")


def initial_memory(penalty: Bound | Lazy) -> dict[str, float]:
    """What a penalty remembers at the start; empty for most."""
    return getattr(penalty.function, "initial_memory", {})


def evaluate(penalty: Bound | Lazy, context: PenaltyContext) -> tuple[Float[Array, "b"], Any]:
    """(one value per example, the penalty's memory afterwards)."""
    result: Any = penalty(context)
    return result if initial_memory(penalty) else (result, context.memory)
