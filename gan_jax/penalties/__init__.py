"""Penalties: functions of a `PenaltyContext` that return one value per example, added to the loss
of the player who takes the turn.

A penalty is any function `f(context, *, its numbers) -> [b]`, bound into the `penalties` of a Side:
`{"r1": bind(r1, gamma=10.0)}`. A penalty that remembers (moving averages) is marked
`@remembers(name=initial, ...)`, reads `context.memory` and returns (values, new memory). A penalty
that has a meaning for one player alone is marked `@only_for` this player. A new penalty is one new
file here: a function marked `@part("penalties")` becomes `penalties.<name>`.
"""

# ruff: noqa: F401

from gan_jax.core.parts import parts_of
from gan_jax.penalties.balance import class_balance
from gan_jax.penalties.consistency import bcr, cr, icr, zcr_discriminator, zcr_generator
from gan_jax.penalties.context import Lazy, PenaltyContext, check_player, evaluate, initial_memory, lazy, only_for, remembers
from gan_jax.penalties.generator import feature_matching, path_length
from gan_jax.penalties.gradient import dragan, input_gradient, max_gp, r1, r2, square_norm, wgan_gp
from gan_jax.penalties.lecam import lecam
from gan_jax.penalties.weights import l2, orthogonal

globals().update(parts_of("penalties"))  # also those of files that are not imported above
