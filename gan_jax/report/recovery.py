"""Can the generator make this image? The search for the latent that comes nearest to each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.training.generation import Draw

BATCH = 128  # searches at a time


MEMORY = 10  # steps whose curvature is remembered


LINE = 16  # halvings of one step, at most: all of a batch wait for the longest


@dataclass(frozen=True, eq=False)
class Recovery:
    """What `latent_recovery` found.

    train_error, held_out_error: float32 [n], [m]: min over z of the mean squared difference, in
    [-1, 1] pixels (0 to 4)
    train, held_out: their medians, the median recovery error (MRE)
    gap:             (held_out - train) / held_out, at most 1: positive = overfitting; 0 where both
                     are 0
    p_value:         of the two-sided Kolmogorov-Smirnov test that both errors have one
                     distribution, in [0, 1]
    """

    train_error: np.ndarray
    held_out_error: np.ndarray
    train: float
    held_out: float
    gap: float
    p_value: float


def latent_recovery(
    generate: Callable[..., Array],
    train_images: ArrayLike,
    held_out_images: ArrayLike,
    draw: int | Draw,
    key: Key[Array, ""],
    *,
    restarts: int = 5,
    steps: int = 50,
    batch: int = BATCH,
    labels: tuple[ArrayLike, ArrayLike] | None = None,
) -> Recovery:
    """min over z of mean (G(z) - x)^2 for each training and each held-out image x (Webster et al.,
    2019).

    A generator that has memorised its training images makes them better than held-out ones, whether
    or not it often samples them. L-BFGS with a line search, `steps` steps from each of `restarts`
    starts; the smallest error seen counts.

    generate: z [b, k] -> images [b, ...] in [-1, 1], pure JAX (see `generator_of`); with `labels`,
        (z, labels [b]) -> images
    images:   uint8, or floats in [-1, 1]: [n, ...] and [m, ...]; draw: k, for z ~ N(0, 1), or (key,
              n) -> starts [n, k]
    labels:   of the training and of the held-out images, for a conditional generator

    The gap is signed (the published code takes its absolute value, and so calls underfitting overfitting); independent real
    data in the role of the training images have gap 0 on average and a uniform p. z is not bound to where it was drawn from:
    errors are those of the generator's range. An unlucky start looks like underfitting, hence the restarts; both sets get
    the same starts where n = m. Published: .68 and p = 0 where each training image was given a latent (GLO), .004 and .54
    for a DCGAN of CIFAR-10.

    Cost: (n + m) restarts steps passes forward and backward and as many or twice as many forward,
    `batch` searches at a time; one program.
    Raises UserError where shapes do not fit, for fewer than 1 image, restart or step, or where no
    error is finite.
    """
    if min(restarts, steps, batch) < 1:
        raise UserError(f"latent recovery with restarts={restarts}, steps={steps}, batch={batch}: each must be at least 1")
    sets = [_images(train_images, "training"), _images(held_out_images, "held-out")]
    classes = [None, None] if labels is None else [np.asarray(part, np.int32) for part in labels]
    search, batch = _search(generate, steps), min(batch, max(map(len, sets)))
    errors = []
    for name, images, kinds in zip(("training", "held-out"), sets, classes, strict=True):
        if kinds is not None and kinds.shape != (len(images),):
            raise UserError(f"latent recovery: {len(images)} {name} images and labels {list(kinds.shape)}: give one each")
        runs = [_starts(draw, jax.random.fold_in(key, i), len(images)) for i in range(restarts)]
        found = np.stack([_in_batches(search, z, images, kinds, batch) for z in runs]).min(0)
        if not np.isfinite(found).all():
            raise UserError(f"latent recovery of {name} image {int(np.argmax(~np.isfinite(found)))} met no finite error")
        errors.append(found)
    return _compared(*errors)


def _images(images: Any, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim < 2 or not len(images):
        raise UserError(f"latent recovery wants {name} images [n, ...], at least 1, not {list(images.shape)}")
    return images


def _starts(draw: int | Draw, key: Key[Array, ""], n: int) -> np.ndarray:
    z = draw(key, n) if callable(draw) else jax.random.normal(key, (n, draw))
    if z.ndim != 2 or len(z) != n:
        raise UserError(f"latent recovery wants {n} starts [{n}, k], and draw gave {list(z.shape)}")
    return np.asarray(z, np.float32)


def _search(generate, steps: int):
    """Jitted: (starts [b, k], images [b, ...], labels [b] or None) -> the smallest errors [b]."""

    def search(z, images, labels):
        target = to_unit(images)

        def errors(z):
            made = generate(z) if labels is None else generate(z, labels)
            if made.shape != target.shape:
                shapes = f"{list(made.shape[1:])}, the images are {list(target.shape[1:])}"
                raise UserError(f"latent recovery: generate makes {shapes}")
            return ((made.astype(jnp.float32) - target) ** 2).reshape(len(z), -1).mean(1)

        return _lbfgs(errors, z, steps)

    return jax.jit(search)


def _lbfgs(errors: Callable[[Array], Array], z: Float[Array, "b k"], steps: int) -> Float[Array, "b"]:
    """The errors(z) [b] that L-BFGS reaches, each row by itself (Nocedal & Wright, 2006, algorithm
    7.5).

    Steps are halved until they lower the error enough (Armijo); a row for which none does forgets
    its curvature and stays.
    """

    def look(z):
        value, pull = jax.vjp(errors, z)
        return value, pull(jnp.ones_like(value))[0]

    def step(carry, _):
        z, value, grad, pairs = carry
        direction = _direction(grad, pairs)
        z_new = z + _step_size(errors, z, value, grad, direction)[:, None] * direction
        value_new, grad_new = look(z_new)
        moved, turned = z_new - z, grad_new - grad
        curvature = (moved * turned).sum(1)
        sound = curvature > 1e-6 * jnp.sqrt((moved**2).sum(1) * (turned**2).sum(1))  # else it is no minimum's
        inverse = jnp.where(sound, 1 / jnp.where(sound, curvature, 1), 0)
        stays = (moved == 0).all(1)
        news = (moved, turned, inverse)
        pairs = [
            jnp.where(_like(stays, old), 0, jnp.concatenate([old[1:], new[None]])) for old, new in zip(pairs, news, strict=True)
        ]
        return (z_new, value_new, grad_new, pairs), None

    empty = jnp.zeros((MEMORY, *z.shape))
    carry = (z, *look(z), [empty, empty, empty[..., 0]])
    (_, value, _, _), _ = jax.lax.scan(step, carry, length=steps)
    return value


def _like(rows: Array, stacked: Array) -> Array:
    """rows [b] as [1, b, 1 ...], beside `stacked`."""
    return rows.reshape(1, -1, *[1] * (stacked.ndim - 2))


def _direction(grad: Array, pairs: list[Array]) -> Array:
    """-H grad by the two-loop recursion over (moved [m, b, k], turned [m, b, k], 1 / their product
    [m, b] or 0: unused)."""

    def down(q, pair):
        moved, turned, inverse = pair
        weight = inverse * (moved * q).sum(1)
        return q - weight[:, None] * turned, weight

    def up(r, pair):
        (moved, turned, inverse), weight = pair
        return r + (weight - inverse * (turned * r).sum(1))[:, None] * moved, None

    q, weights = jax.lax.scan(down, grad, tuple(pairs), reverse=True)
    inverse, turned = pairs[2], pairs[1]
    scale = 1 / jnp.maximum(jnp.sqrt((grad**2).sum(1)), 1e-12)  # a first step of length 1
    for i in range(MEMORY):  # the newest curvature wins
        scale = jnp.where(inverse[i] > 0, 1 / jnp.maximum(inverse[i] * (turned[i] ** 2).sum(1), 1e-12), scale)
    r, _ = jax.lax.scan(up, scale[:, None] * q, (tuple(pairs), weights))
    return -r


def _step_size(errors, z: Array, value: Array, grad: Array, direction: Array) -> Float[Array, "b"]:
    """The largest of 1, 1/2, 1/4 ... (LINE of them) with which a row's error falls enough, 0 where
    none does."""
    slope = jnp.minimum((grad * direction).sum(1), 0)

    def search(carry):
        i, size, _ = carry
        lower = errors(z + size[:, None] * direction) <= value + 1e-4 * size * slope
        return i + 1, jnp.where(lower, size, size / 2), lower

    start = (0, jnp.ones_like(value), jnp.zeros(len(z), bool))
    _, size, found = jax.lax.while_loop(lambda carry: (carry[0] < LINE) & ~carry[2].all(), search, start)
    return jnp.where(found, size, 0)


def _in_batches(search, z: np.ndarray, images: np.ndarray, labels: np.ndarray | None, batch: int) -> np.ndarray:
    """The smallest errors [n]; the last batch is filled up, so that all have one shape."""
    found = []
    for first in range(0, len(images), batch):
        rows = np.arange(first, first + batch) % len(images)
        found.append(np.asarray(search(z[rows], images[rows], None if labels is None else labels[rows])))
    return np.concatenate(found)[: len(images)]


def _compared(train_error: np.ndarray, held_out_error: np.ndarray) -> Recovery:
    from scipy.stats import ks_2samp

    medians = float(np.median(train_error)), float(np.median(held_out_error))
    difference = medians[1] - medians[0]
    gap = difference / medians[1] if medians[1] else 0.0 if not difference else -np.inf
    p_value = np.asarray(ks_2samp(train_error, held_out_error))[1]
    return Recovery(train_error, held_out_error, *medians, float(gap), float(p_value))
