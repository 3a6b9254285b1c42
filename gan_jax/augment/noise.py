"""Instance noise."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.core.rng import Draws


@part("augment")
def instance_noise(images: Float[Array, "b *shape"], labels, draws: Draws, *, std) -> Float[Array, "b *shape"]:
    """images + std * N(0, 1), drawn anew each time that D sees an image (Sønderby et al., 2017;
    Arjovsky & Bottou, 2017).

    std: at least 0, in the scale of the images ([-1, 1]). No value was published, so that it has no
    default. Both papers anneal it: give a schedule."""
    return images + jnp.asarray(std, images.dtype) * draws.normal(images.shape[1:], images.dtype)
