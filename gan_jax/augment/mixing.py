"""Augmentations of D's real batch that need the fakes: generated examples that pose as real
ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.bind import Bound
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws


def mixes_fakes(function: Callable) -> Callable:
    """Marks an augmentation (reals, fakes, draws, **numbers) -> images of the reals in the
    discriminator's turn.

    fakes [b, ...]: made for this alone, from latents that no other fake has, each with the label of
    the real in its place.
    """
    function.mixes_fakes = True
    return function


def mixing(augment: Bound) -> bool:
    return getattr(augment.function, "mixes_fakes", False)


def mixed(augments: Mapping[str, Bound], reals: Array, fakes: Array, draws: Draws) -> Array:
    """The reals that D learns from, after the augmentations that mix in fakes. No gradient goes
    through the fakes."""
    for name, augment in augments.items():
        if mixing(augment):
            reals = augment(reals, jax.lax.stop_gradient(fakes), draws.named(name))
    return reals


@part("augment")
@mixes_fakes
def adaptive_pseudo(reals, fakes, draws: Draws, *, p) -> Float[Array, "b *shape"]:
    """APA: with probability p each real example is replaced by a generated one (Jiang et al., 2021,
    equation 3).

    p: in [0, 1], without a default; 0 leaves the reals as they are. The paper drives it towards r_t
    = .6 (see `controllers.ada`). The fakes that pose are other ones than those that D is to tell
    from the reals: in their code those of the last generator turn, here of the generator as it
    stands, from latents of their own (one more forward pass of it). They are made with the labels
    of the reals that they replace; in their code, with labels that D is not told.
    """
    pose = draws.uniform((1,) * (reals.ndim - 1)) < p
    return jnp.where(pose, fakes, reals)
