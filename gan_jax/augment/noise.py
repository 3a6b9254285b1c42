"""Instance noise."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.core.rng import Draws


@part("augment")
def instance_noise(images: Float[Array, "b *shape"], labels, draws: Draws, *, std) -> Float[Array, "b *shape"]:
    """images + std * N(0, 1), fresh at each look (Sønderby et al., 2017; Arjovsky & Bottou, 2017).

    std: of the images' scale ([-1, 1]), at least 0, without a default or one published value; no
    recipe has it. Both papers anneal it: give a schedule.
    """
    return images + jnp.asarray(std, images.dtype) * draws.normal(images.shape[1:], images.dtype)
