"""Regularisers of either player: functions of a `PenaltyContext`, one value per example, added to
the loss of the player who moves.

A penalty is any function `f(context, *, its numbers) -> [b]`; `bind(f, gamma=10.0)` in a Side's
`penalties` is all it takes. One that remembers (moving averages) is marked
`@remembers(name=initial, ...)`, reads `context.memory` and returns (values, new memory). One that
means nothing in one player's hands is marked `@only_for(the other)`, and refused there.
"""

from gan_jax.penalties.balance import class_balance
from gan_jax.penalties.consistency import bcr, cr, icr, zcr_discriminator, zcr_generator
from gan_jax.penalties.context import Lazy, PenaltyContext, check_player, evaluate, initial_memory, lazy, only_for, remembers
from gan_jax.penalties.generator import feature_matching, path_length
from gan_jax.penalties.gradient import dragan, input_gradient, max_gp, r1, r2, square_norm, wgan_gp
from gan_jax.penalties.lecam import lecam
from gan_jax.penalties.weights import l2, orthogonal

__all__ = [
    "Lazy", "PenaltyContext", "bcr", "check_player", "class_balance", "cr", "dragan", "evaluate", "feature_matching", "icr",
    "initial_memory", "input_gradient", "l2", "lazy", "lecam", "max_gp", "only_for", "orthogonal", "path_length", "r1", "r2",
    "remembers", "square_norm", "wgan_gp", "zcr_discriminator", "zcr_generator",
]  # fmt: skip
