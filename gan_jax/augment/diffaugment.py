"""DiffAugment: colour, translation and cutout of what D sees (Zhao et al., 2020, "Differentiable
Augmentation").

Every function takes p, the probability that an example changes, so that a controller can drive it.
All defaults are those of the published code. A strength or ratio of 0 changes nothing. A `draw_`
function makes one parameter per example.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gan_jax.augment.parts import Images, copied, draw_lots, image_part, sometimes, spread, wide
from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws

# ---- colour -------------------------------------------------------------------------------------


@image_part("augment")
def brightness(images: Images, labels, draws: Draws, *, strength=1.0, p=1.0) -> Images:
    """x + strength * U(-1/2, 1/2), with one number per example (Zhao et al., 2020;
    `rand_brightness` in their code).

    strength: >= 0, 1 as published. p: 1 as published."""
    return brightened(images, strength * draw_colour(draws, 1, p, images.dtype)[0] / 2)


@image_part("augment")
def saturation(images: Images, labels, draws: Draws, *, strength=1.0, p=1.0) -> Images:
    """m + (x - m) * (1 + strength * U(-1, 1)), with m the mean of the pixel over channels (Zhao et
    al., 2020; `rand_saturation`). An image of one channel is not changed.

    strength: in [0, 1], 1 as published. p: 1 as published."""
    return scaled_about_mean(images, 3, 1 + strength * draw_colour(draws, 1, p, images.dtype)[0])


@image_part("augment")
def contrast(images: Images, labels, draws: Draws, *, strength=1.0, p=1.0) -> Images:
    """m + (x - m) * (1 + strength * U(-1/2, 1/2)), with m the mean of the image (Zhao et al., 2020;
    `rand_contrast`).

    strength: in [0, 1], 1 as published. p: 1 as published."""
    return scaled_about_mean(images, (1, 2, 3), 1 + strength * draw_colour(draws, 1, p, images.dtype)[0] / 2)


@image_part("augment")
def colour(images: Images, labels, draws: Draws, *, brightness=1.0, saturation=1.0, contrast=1.0, p=1.0) -> Images:
    """`brightness`, `saturation` and `contrast` in this order, with the strengths of these names,
    each with probability p: the policy's word 'color' (Zhao et al., 2020). The strengths and p are
    1 as published."""
    u = draw_colour(draws, 3, p, images.dtype)
    images = scaled_about_mean(brightened(images, brightness * u[0] / 2), 3, 1 + saturation * u[1])
    return scaled_about_mean(images, (1, 2, 3), 1 + contrast * u[2] / 2)


def brightened(images: Images, shift: Float[Array, "b"]) -> Images:
    return images + spread(shift, images.dtype)


def scaled_about_mean(images: Images, axes: int | tuple[int, ...], factor: Float[Array, "b"]) -> Images:
    mean = images.mean(axes, keepdims=True)
    return (images - mean) * spread(factor, images.dtype) + mean


def draw_colour(draws: Draws, count: int, p, dtype) -> Float[Array, "count b"]:
    """U(-1, 1) for each of `count` operations, with probability p, else 0."""
    values = draws.named("uniform").uniform((count,), wide(dtype), -1.0, 1.0).T
    return jnp.stack([sometimes(lot, p, u, 0) for lot, u in zip(draw_lots(draws, count), values, strict=True)])


# ---- translation and cutout --------------------------------------------------------------------


@image_part("augment")
def translation(images: Images, labels, draws: Draws, *, ratio=0.125, p=1.0) -> Images:
    """Shifts the image by whole pixels, uniformly in -n ... n with n = round(ratio * side), and
    fills with zeros (Zhao et al., 2020; `rand_translation`).

    ratio: in [0, 1], .125 as published. p: 1 as published."""
    return translated(images, draw_shifts(draws, images.shape[1:3], ratio, p))


@image_part("augment")
def cutout(images: Images, labels, draws: Draws, *, ratio=0.5, p=1.0) -> Images:
    """Sets a rectangle of round(ratio * side) along each side to 0 (Zhao et al., 2020,
    `rand_cutout`; DeVries & Taylor, 2017). The centre of the rectangle is uniform over the image,
    so that part of the rectangle may be outside.

    ratio: in [0, 1], .5 as published. p: 1 as published."""
    return pierced(images, *draw_holes(draws, images.shape[1:3], ratio, p))


def translated(images: Images, shifts: Int[Array, "b 2"]) -> Images:
    """out[y, x] = in[y + shifts[0], x + shifts[1]], or zero."""
    rows, columns = (jnp.arange(n) + shifts[:, i, None] for i, n in enumerate(images.shape[1:3]))
    return copied(images, rows, columns)


def pierced(images: Images, first: Int[Array, "b 2"], size: Int[Array, "b 2"]) -> Images:
    """The images with zero in the rectangle of sides `size` whose first pixel is `first`."""
    between = lambda n, start, stop: (jnp.arange(n) >= start[:, None]) & (jnp.arange(n) < stop[:, None])
    rows, columns = (between(n, first[:, i], (first + size)[:, i]) for i, n in enumerate(images.shape[1:3]))
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], jnp.zeros((), images.dtype), images)


def draw_shifts(draws: Draws, sides: tuple[int, ...], ratio, p) -> Int[Array, "b 2"]:
    most = _share(sides, ratio)
    return sometimes(draw_lots(draws, 1)[0], p, _below(draws, 2 * most + 1) - most, 0)


def draw_holes(draws: Draws, sides: tuple[int, ...], ratio, p) -> tuple[Int[Array, "b 2"], Int[Array, "b 2"]]:
    """(first pixel, size) of each example's rectangle, of size 0 for an example without one."""
    size = _share(sides, ratio)
    centre = _below(draws, jnp.asarray(sides) + 1 - size % 2)  # an even rectangle has its centre between two pixels
    return centre - size // 2, sometimes(draw_lots(draws, 1)[0], p, jnp.broadcast_to(size, centre.shape), 0)


def _share(sides: tuple[int, ...], ratio) -> Int[Array, "2"]:
    return jnp.floor(jnp.asarray(sides) * jnp.asarray(ratio, jnp.float32) + 0.5).astype(jnp.int32)


def _below(draws: Draws, high: Int[Array, "2"]) -> Int[Array, "b 2"]:
    """Uniform integers in [0, high). They are rounded down, because `high` may be traced."""
    value = jnp.floor(draws.named("uniform").uniform((2,)) * high).astype(jnp.int32)
    return jnp.minimum(value, high - 1)


# ---- the policy --------------------------------------------------------------------------------

POLICY = {"color": colour, "translation": translation, "cutout": cutout}


@part("augment")
def by_policy(
    images: Images, labels, draws: Draws, *, p=1.0, brightness=1.0, saturation=1.0, contrast=1.0, translation=0.125,
    cutout=0.5, policy: str = "color,translation,cutout",
) -> Images:  # fmt: skip
    """The words of the policy in their order, each applied to an example with probability p.

    brightness, saturation, contrast: strengths of 'color'; translation, cutout: ratios"""
    numbers = {
        "color": {"brightness": brightness, "saturation": saturation, "contrast": contrast},
        "translation": {"ratio": translation}, "cutout": {"ratio": cutout},
    }  # fmt: skip
    for word in words(policy):
        images = POLICY[word](images, labels, draws.named(word), p=p, **numbers[word])
    return images


def diffaugment(policy: str = "color,translation,cutout", p=1.0) -> dict[str, Bound]:
    """DiffAugment as published, for `Recipe.augment`: the words of `policy` in their order (Zhao et
    al., 2020).

    policy: of 'color', 'translation' and 'cutout', with commas between; all three by default. The
    paper has 'translation,cutout' for BigGAN on CIFAR, 'color,cutout' for StyleGAN2 on all of
    CIFAR, and all three with less data.
    p: 1 by default, the leaf `augment.diffaugment.p`. The ranges of `by_policy` are leaves beside
    it, such as `augment.diffaugment.translation`.

    One function holds the whole policy, because a recipe applies its augmentations in the order of
    their names. Raises UserError for an unknown word."""
    words(policy)
    return {"diffaugment": bind(by_policy, p=p, policy=policy)}


def words(policy: str) -> tuple[str, ...]:
    """The words of a policy. Raises UserError for an unknown one."""
    found = tuple(word.strip() for word in policy.split(","))
    for word in found:
        if word not in POLICY:
            raise UserError(f"unknown word {word!r} in the DiffAugment policy {policy!r}: use {', '.join(POLICY)}, with commas")
    return found
