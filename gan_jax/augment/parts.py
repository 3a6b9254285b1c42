"""What several augmentations share: the choice of the examples to change, and copying of pixels.

Pixels are copied by a product with a matrix of zeros and ones, whose derivative is another product.
XLA turns the derivative of an indexed read into a slow loop on a CPU.
"""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws

F = TypeVar("F", bound=Callable)
Images = Float[Array, "b h w c"]


def image_part(kind: str) -> Callable[[F], F]:
    """`part(kind)` for an augmentation of images, which raises UserError for points and rows."""

    def mark(function: F) -> F:
        @wraps(function)
        def checked(images, *args, **kwargs):
            if images.ndim != 4:
                what = f"images [n, height, width, channels], not examples of shape {list(images.shape[1:])}"
                raise UserError(f"the augmentation {function.__name__} changes {what}: leave it out")
            return function(images, *args, **kwargs)

        return part(kind)(checked)  # pyright: ignore[reportReturnType]

    return mark


def wide(dtype) -> jnp.dtype:
    """The dtype of parameters and positions, for which bfloat16 is too coarse."""
    return jnp.promote_types(dtype, jnp.float32)


def sometimes(lots: Float[Array, "b"], p, value: Shaped[Array, "b *n"], neutral: float) -> Shaped[Array, "b *n"]:
    """`value` where an example's draw in `lots` is below p (clipped to [0, 1]), else `neutral`."""
    chosen = (lots < jnp.clip(p, 0, 1)).reshape(-1, *(1,) * (value.ndim - 1))
    return jnp.where(chosen, value, jnp.asarray(neutral, value.dtype))


def draw_lots(draws: Draws, count: int) -> Float[Array, "count b"]:
    """U(0, 1) numbers that decide which of `count` operations change an example. They are drawn
    together, because each draw takes time to compile."""
    return draws.named("chosen").uniform((count,)).T


def spread(values: Array, dtype) -> Array:
    """[b] -> [b, 1, 1, 1] in the dtype of the images."""
    return values.astype(dtype)[:, None, None, None]


def copied(images: Images, rows: Int[Array, "b i"], columns: Int[Array, "b j"]) -> Float[Array, "b i j c"]:
    """Pixel (rows[i], columns[j]) of each image, and zero where an index is outside."""
    tall = (rows[:, :, None] == jnp.arange(images.shape[1])).astype(images.dtype)
    broad = (columns[:, :, None] == jnp.arange(images.shape[2])).astype(images.dtype)
    return resampled(images, tall, broad)


def resampled(images: Images, rows: Array, columns: Array) -> Float[Array, "b i j c"]:
    """rows @ image @ columns' transpose for each image. The matrices are [i, h], one for all
    images, or [b, i, h], one for each."""
    each = "b" if rows.ndim == 3 else ""
    images = jnp.einsum(f"{each}ih,bhwc->biwc", rows, images, precision="highest")
    return jnp.einsum(f"{each}jw,biwc->bijc", columns, images, precision="highest")


def reflected(index, n: int):
    """Entry `index` of the endless sequence 0, 1, ..., n-1, n-2, ..., 1, 0, 1, ..., with n >= 2."""
    index = index % (2 * n - 2)
    return index + (index >= n) * (2 * n - 2 - 2 * index)
