"""ADA's colour operations (Karras et al., 2020b, "Limited Data", appendix B): one 4 x 4 matrix on
(r, g, b, 1) per example.

`draw_colour` draws one parameter per example for each operation, `colour_matrix` makes one matrix
of them, and `recoloured` applies it. Each operation also has its own function of p, the probability
in [0, 1] that an example changes. "Luma" is the grey axis (1, 1, 1) / sqrt(3). Hue and saturation
do not change an image of one channel.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.augment.parts import Images, draw_lots, image_part, sometimes, spread, wide
from gan_jax.core.errors import UserError
from gan_jax.core.rng import Draws

Matrices = Float[Array, "b 4 4"]

ORDER = ("brightness", "contrast", "luma_flip", "hue", "saturation")
GREY = np.outer((1, 1, 1, 0), (1, 1, 1, 0)) / 3  # projects a colour on the luma axis
TURN = np.array(((0, -1, 1, 0), (1, 0, -1, 0), (-1, 1, 0, 0), (0, 0, 0, 0))) / np.sqrt(3)  # the cross product with that axis

# ---- one operation alone ------------------------------------------------------------------------


@image_part("augment.ada_colour")
def brightness(images: Images, labels, draws: Draws, *, p, std=0.2) -> Images:
    """With probability p, x + std * N(0, 1), one number for an image (Karras et al., 2020b).

    std: .2 of images in [-1, 1], the published code's `brightness_std`."""
    return _recoloured(images, draw_colour(draws, p, images.dtype, brightness_std=std), "brightness")


@image_part("augment.ada_colour")
def contrast(images: Images, labels, draws: Draws, *, p, std=0.5) -> Images:
    """With probability p, x * 2^(std * N(0, 1)): mid-grey, 0, stays (Karras et al., 2020b).

    std: .5, the published code's `contrast_std`."""
    return _recoloured(images, draw_colour(draws, p, images.dtype, contrast_std=std), "contrast")


@image_part("augment.ada_colour")
def luma_flip(images: Images, labels, draws: Draws, *, p) -> Images:
    """With probability p, a coin decides between x - 2 (x . v) v and x, with v the luma axis
    (Karras et al., 2020b). Luma changes its sign, while hue and saturation stay."""
    return _recoloured(images, draw_colour(draws, p, images.dtype), "luma_flip")


@image_part("augment.ada_colour")
def hue(images: Images, labels, draws: Draws, *, p, most=1.0) -> Images:
    """With probability p, rotates colours about the luma axis by U(-pi, pi) * most (Karras et al.,
    2020b).

    most: 1, all hues, the published code's `hue_max`."""
    return _recoloured(images, draw_colour(draws, p, images.dtype, hue_max=most), "hue")


@image_part("augment.ada_colour")
def saturation(images: Images, labels, draws: Draws, *, p, std=1.0) -> Images:
    """With probability p, multiplies the distance from the luma axis by 2^(std * N(0, 1)) (Karras
    et al., 2020b).

    std: 1, the published code's `saturation_std`."""
    return _recoloured(images, draw_colour(draws, p, images.dtype, saturation_std=std), "saturation")


def _recoloured(images: Images, parameters: dict[str, Array], name: str) -> Images:
    return recoloured(images, colour_matrix({name: parameters[name]}, images.shape[3]))


# ---- the pipeline ------------------------------------------------------------------------------


def draw_colour(
    draws: Draws, p, dtype, brightness_std=0.2, contrast_std=0.5, hue_max=1.0, saturation_std=1.0
) -> dict[str, Array]:
    """{"brightness", "contrast", "luma_flip", "hue", "saturation"}, one number per example."""
    lots = draw_lots(draws, 5)
    z = draws.named("normal").normal((3,), wide(dtype)).T
    coin, angle = draws.named("uniform").uniform((2,), wide(dtype)).T
    return {
        "brightness": sometimes(lots[0], p, brightness_std * z[0], 0),
        "contrast": sometimes(lots[1], p, jnp.exp2(contrast_std * z[1]), 1),
        "luma_flip": sometimes(lots[2], p, jnp.floor(2 * coin), 0),
        "hue": sometimes(lots[3], p, hue_max * np.pi * (2 * angle - 1), 0),
        "saturation": sometimes(lots[4], p, jnp.exp2(saturation_std * z[2]), 1),
    }


def colour_matrix(parameters: dict[str, Array], channels: int) -> Matrices:
    """The product of the operations that have parameters, applied in ORDER. Raises UserError unless
    channels is 1 or 3."""
    if channels not in (1, 3):
        raise UserError(f"ADA's colours need images of 1 or 3 channels, not {channels}: leave 'color' out of the pipe")
    whole = jnp.broadcast_to(jnp.eye(4), (len(next(iter(parameters.values()))), 4, 4))
    for name in filter(parameters.__contains__, ORDER):  # the dictionary's own order is lost under jit
        if channels > 1 or name not in ("hue", "saturation"):
            whole = jnp.matmul(_step(name, parameters[name][:, None, None]), whole, precision="highest")
    return whole


def _step(name: str, value: Float[Array, "b 1 1"]) -> Matrices:
    constant = lambda matrix: jnp.asarray(matrix, value.dtype)
    one, grey = constant(np.eye(4)), constant(GREY)
    match name:
        case "brightness":
            return one + value * constant(np.outer((1, 1, 1, 0), (0, 0, 0, 1)))
        case "contrast":
            return one + (value - 1) * constant(np.diag((1, 1, 1, 0)))
        case "luma_flip":
            return one - 2 * value * grey
        case "hue":
            chroma = constant(np.diag((1, 1, 1, 0)) - GREY)
            return one + (jnp.cos(value) - 1) * chroma + jnp.sin(value) * constant(TURN)
        case _:
            return grey + (one - grey) * value


def recoloured(images: Images, matrix: Matrices) -> Images:
    """Each pixel's colour times the matrix of its image. In an image of one channel, x becomes the
    mean of the three colours that the matrix makes of (x, x, x)."""
    if images.shape[3] == 1:
        row = matrix[..., :3, :].mean(-2)
        return images * spread(row[:, :3].sum(1), images.dtype) + spread(row[:, 3], images.dtype)
    entries = matrix.astype(images.dtype)[:, None, None]
    mixed = sum(images[..., i, None] * entries[..., :3, i] for i in range(3))
    return mixed + entries[..., :3, 3]
