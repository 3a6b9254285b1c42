"""ADA's image-space filtering, noise and cutout (Karras et al., 2020b, "Limited Data", appendix B).

p is the probability in [0, 1] that an example changes.
"""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.augment.parts import Images, draw_lots, image_part, reflected, resampled, sometimes, spread, wide
from gan_jax.core.rng import Draws

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)  # 4 taps, orthonormal
POWER = np.array((10, 1, 1, 1)) / 13  # expected of each band, lowest first: natural images have a 1/f spectrum


@image_part("augment.ada_corruptions")
def image_filter(images: Images, labels, draws: Draws, *, p, std=1.0) -> Images:
    """Amplifies each of four frequency bands, with probability p each, by g = 2^(std * N(0, 1))
    (Karras et al., 2020b).

    For each band's g all four bands are divided by sqrt(1 - power + power * g^2), so that the
    expected power stays; the powers of the bands are (10, 1, 1, 1) / 13, lowest first.
    std: 1, the published code's `imgfilter_std`."""
    gains = jnp.exp2(std * draws.named("normal").normal((len(POWER),), wide(images.dtype))).T
    lots = draw_lots(draws, len(POWER))
    gains = jnp.stack([sometimes(lot, p, gain, 1) for lot, gain in zip(lots, gains, strict=True)], -1)
    return amplified(images, combined(gains))


def combined(gains: Float[Array, "b 4"]) -> Float[Array, "b 4"]:
    """The gain of each band by itself -> its gain over the product of the norms of all bands."""
    power = jnp.asarray(POWER, gains.dtype)
    return gains / jnp.sqrt(1 - power + power * gains**2).prod(-1, keepdims=True)


def amplified(images: Images, gains: Float[Array, "b 4"]) -> Images:
    """The four bands times their gains, along rows and columns; the edges are mirrored."""
    rows, columns = (jnp.asarray(_bands(n), images.dtype) for n in images.shape[1:3])
    mix = lambda bands: jnp.einsum("bk,kij->bij", gains.astype(images.dtype), bands, precision="highest")
    return resampled(images, mix(rows), mix(columns))


@cache
def _bands(n: int) -> np.ndarray:
    """[4, n, n]: each band's filter as a matrix on a side of n pixels."""
    taps = _filters()
    reach = taps.shape[1] // 2
    matrices = np.zeros((len(taps), n, n))
    for out in range(n):
        for k in range(-reach, reach + 1):
            matrices[:, out, reflected(out + k, n)] += taps[:, reach + k]
    return matrices


@cache
def _filters() -> np.ndarray:
    """[4, 43] symmetric taps, lowest band first, whose sum is the identity.

    For each further band the taps are stretched to twice their length and smoothed by H(z) H(1/z) /
    2, which frees an octave for the next band's filter, H(-z) H(-1/z) / 2."""
    low = np.asarray(SYM2)
    high = low * (-1) ** np.arange(len(low))
    low, high = (np.convolve(taps, taps[::-1]) / 2 for taps in (low, high))
    bank = np.ones((1, 1))
    while len(bank) < len(POWER):
        stretched = np.zeros((len(bank), 2 * bank.shape[1] - 1))
        stretched[:, ::2] = bank
        bank = np.array([np.convolve(taps, low) for taps in stretched])
        side = (bank.shape[1] - len(high)) // 2
        bank = np.vstack([bank, np.pad(high, side)])
    return bank


@image_part("augment.ada_corruptions")
def noise(images: Images, labels, draws: Draws, *, p, std=0.1) -> Images:
    """With probability p, x + sigma * N(0, 1) for each value, with sigma = std * |N(0, 1)| for an
    image (Karras et al., 2020b).

    std: .1, the published code's `noise_std`."""
    level = sometimes(draw_lots(draws, 1)[0], p, std * jnp.abs(draws.named("normal").normal((), wide(images.dtype))), 0)
    return images + spread(level, images.dtype) * draws.named("noise").normal(images.shape[1:], images.dtype)


@image_part("augment.ada_corruptions")
def cutout(images: Images, labels, draws: Draws, *, p, size=0.5) -> Images:
    """With probability p, sets a rectangle of `size` of each side to 0. The centre of the rectangle
    is uniform in the image (Karras et al., 2020b).

    size: .5, the published code's `cutout_size`."""
    dtype = wide(images.dtype)
    sizes = sometimes(draw_lots(draws, 1)[0], p, jnp.broadcast_to(jnp.asarray(size, dtype), images.shape[:1]), 0)
    return pierced(images, draws.named("centre").uniform((2,), dtype), sizes)


def pierced(images: Images, centre: Float[Array, "b 2"], size: Float[Array, "b"]) -> Images:
    """Zero where the middle of a pixel is within size / 2 of the centre (x, y) along both sides, in
    shares of these."""
    near = lambda n, at: jnp.abs((jnp.arange(n, dtype=at.dtype) + 0.5) / n - at[:, None]) < size[:, None] / 2
    inside = near(images.shape[1], centre[:, 1])[:, :, None] & near(images.shape[2], centre[:, 0])[:, None]
    return jnp.where(inside[..., None], jnp.zeros((), images.dtype), images)
