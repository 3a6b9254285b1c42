"""Augmentations of D's real batch in which generated examples take the place of real ones."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.bind import Bound
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws


def mixes_fakes(function: Callable) -> Callable:
    """Marks an augmentation (reals, fakes, draws, **numbers) -> images, which replaces the reals of
    the discriminator's turn.

    fakes: [b, ...], made for this alone from latents of their own, with the labels of the reals."""
    function.mixes_fakes = True
    return function


def mixing(augment: Bound) -> bool:
    """Whether an augmentation is marked with `mixes_fakes`."""
    return getattr(augment.function, "mixes_fakes", False)


def mixed(augments: Mapping[str, Bound], reals: Array, fakes: Array, draws: Draws) -> Array:
    """The reals that D learns from, after the augmentations that mix in fakes. The fakes are
    constants for the gradient."""
    for name, augment in augments.items():
        if mixing(augment):
            reals = augment(reals, jax.lax.stop_gradient(fakes), draws.named(name))
    return reals


@part("augment")
@mixes_fakes
def adaptive_pseudo(reals, fakes, draws: Draws, *, p) -> Float[Array, "b *shape"]:
    """APA: with probability p a generated example takes the place of a real one (Jiang et al.,
    2021, equation 3).

    p: in [0, 1], without a default. The paper drives it towards r_t = .6 (see `controllers.ada`).

    These fakes are not those of the loss. In the authors' code they come from the last generator
    turn, with labels that D does not get. Here the current generator makes them in one more forward
    pass, from latents of their own and with the labels of the reals that they replace."""
    return jnp.where(draws.uniform((1,) * (reals.ndim - 1)) < p, fakes, reals)
