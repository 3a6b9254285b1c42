"""Regularisers of either player: functions of a `Turn`, one value per example, added to the loss of the player who moves.

A penalty is any function `f(turn, *, its numbers) -> [b]`; `bind(f, gamma=10.0)` in a Side's `penalties` is all it takes.
One that remembers (moving averages) is marked `@remembers(name=initial, ...)`, reads `turn.memory` and returns
(values, new memory).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gan_jax.draws import Draws
from gan_jax.networks.net import Judgement, device_mean
from gan_jax.recipe import Bound

EPSILON = 1e-12  # inside a square root: its derivative at zero is infinite


@dataclass(frozen=True)
class Turn:
    """What a penalty may look at. Fields added later break no penalty.

    critic:    (images, labels) -> Judgement, the discriminator as it trains (augmentations included)
    generator: (z, labels) -> images, the generator as it trains
    params:    of the player who moves; reals, fakes [b, ...]; real_labels, fake_labels [b] or None; z [b, d]
    draws:     this penalty's own randomness; memory: what it remembered; step: the training step
    """

    critic: Callable[[Array, Any], Judgement]
    generator: Callable[[Array, Any], Array]
    params: Any
    reals: Float[Array, "b *shape"]
    fakes: Float[Array, "b *shape"]
    real_labels: Int[Array, "b"] | None
    fake_labels: Int[Array, "b"] | None
    z: Float[Array, "b d"]
    draws: Draws
    step: Array
    memory: Any = None
    axis_name: str | None = None

    def mean(self, values: Array) -> Array:
        """The mean over the whole batch (first axis), on every device."""
        return device_mean(values.mean(0), self.axis_name)


def input_gradient(turn: Turn, images, labels) -> Float[Array, "b *shape"]:
    """The gradient of each example's logit with respect to that example."""
    return jax.grad(lambda x: turn.critic(x, labels).logits.sum())(images)


def square_norm(x: Float[Array, "b *shape"]) -> Float[Array, "b"]:
    return jnp.square(x).sum(tuple(range(1, x.ndim)))


def r1(turn: Turn, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(x)|^2 on reals (Mescheder et al., 2018, equation 9).

    gamma: >= 0; 10 in the paper's experiments (whose code leaves out the 1/2, so 20 here), .01 in StyleGAN2-ADA's CIFAR-10.
    """
    return _half(gamma, turn) * square_norm(input_gradient(turn, turn.reals, turn.real_labels))


def r2(turn: Turn, *, gamma) -> Float[Array, "b"]:
    """gamma / 2 * |grad D(G(z))|^2 on fakes (Mescheder et al., 2018, equation 10)."""
    return _half(gamma, turn) * square_norm(input_gradient(turn, turn.fakes, turn.fake_labels))


def wgan_gp(turn: Turn, *, weight, target=1.0, one_sided: bool = False) -> Float[Array, "b"]:
    """weight * (|grad D(x^)| - target)^2 at x^ between a real and a fake (Gulrajani et al., 2017, equation 3).

    weight: 10 in the paper. one_sided: only norms above the target cost (Petzka et al., 2018). Labels: those of the reals.
    """
    share = turn.draws.uniform((1,) * (turn.reals.ndim - 1), turn.reals.dtype)
    between = share * turn.reals + (1 - share) * turn.fakes
    return _slope(turn, between, weight, target, one_sided)


def dragan(turn: Turn, *, weight, target=1.0, spread=1.0) -> Float[Array, "b"]:
    """weight * (|grad D(x + noise)| - target)^2 around the reals (Kodali et al., 2017).

    noise: spread * std(x) * U(-1/2, 1/2), std over all values of the batch, as in Google's compare_gan; weight 10 there.
    """
    mean = turn.mean(turn.reals).mean()
    std = jnp.sqrt(turn.mean(jnp.square(turn.reals - mean)).mean() + EPSILON)
    noise = turn.draws.uniform(turn.reals.shape[1:], turn.reals.dtype, -0.5, 0.5)
    return _slope(turn, turn.reals + jnp.asarray(spread, std.dtype) * std * noise, weight, target, False)


def _slope(turn, images, weight, target, one_sided):
    norm = jnp.sqrt(square_norm(input_gradient(turn, images, turn.real_labels)) + EPSILON)
    excess = norm - jnp.asarray(target, norm.dtype)
    return jnp.asarray(weight, norm.dtype) * jnp.square(jax.nn.relu(excess) if one_sided else excess)


def _half(gamma, turn):
    return jnp.asarray(gamma, turn.reals.dtype) / 2


def remembers(**initial) -> Callable:
    """Marks a penalty that keeps a memory between steps, a dict of scalars that starts at these values."""

    def mark(function):
        function.initial_memory = {name: float(value) for name, value in initial.items()}
        return function

    return mark


class Lazy(struct.PyTreeNode):
    """A penalty taken every `every` steps and multiplied by `every` (lazy regularisation, Karras et al., 2020).

    The mean over steps is that of the penalty itself. The optimizer's rates are left alone: both terms share one update.
    """

    penalty: Bound
    every: int = struct.field(pytree_node=False, default=16)

    @property
    def function(self):
        return self.penalty.function

    def __call__(self, turn: Turn):
        skip = lambda: (jnp.zeros(len(turn.reals), turn.reals.dtype), turn.memory)
        values, memory = jax.lax.cond(turn.step % self.every == 0, lambda: evaluate(self.penalty, turn), skip)
        return (values * self.every, memory) if initial_memory(self) else values * self.every


def lazy(penalty: Bound, every: int) -> Lazy | Bound:
    """The penalty, only every `every` steps and as many times stronger. `every` is structure."""
    return penalty if every == 1 else Lazy(penalty, every)


def initial_memory(penalty: Bound | Lazy) -> dict[str, float]:
    """What a penalty remembers at the start; empty for most."""
    return getattr(penalty.function, "initial_memory", {})


def evaluate(penalty: Bound | Lazy, turn: Turn) -> tuple[Float[Array, "b"], Any]:
    """(one value per example, the penalty's memory afterwards)."""
    result: Any = penalty(turn)
    return result if initial_memory(penalty) else (result, turn.memory)
