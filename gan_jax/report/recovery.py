"""Can the generator make this image? The search for the latent that comes nearest to each image."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Key
from scipy.stats import ks_2samp

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
    gap: (held_out - train) / held_out, at most 1, positive for overfitting; 0 where both are 0
    p_value: of the two-sided Kolmogorov-Smirnov test of equal distributions of both errors
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
    or not it often samples them. L-BFGS with a line search takes `steps` steps from each of
    `restarts` starts, and the smallest error counts.

    generate: z [b, k] -> images [b, ...] in [-1, 1], pure JAX (see `generator_of`); with `labels`,
        (z, labels [b]) -> images
    images:   uint8, or floats in [-1, 1]: [n, ...] and [m, ...]
    draw:     k, for z ~ N(0, 1), or (key, n) -> starts [n, k]
    labels:   of the training and of the held-out images, for a conditional generator

    The gap is signed: the published code takes its absolute value, and so calls underfitting
    overfitting. Independent real data in the role of the training images have gap 0 on average and
    a uniform p. The errors are those of the generator's range, because z is not bound to where it
    was drawn from. An unlucky start looks like underfitting, hence the restarts; both sets get the
    same starts where n = m. Published: .68 and p = 0 where each training image had a latent of its
    own (GLO), .004 and .54 for a DCGAN of CIFAR-10.

    Cost: (n + m) restarts steps passes forward and backward and as many or twice as many forward,
    `batch` searches at a time; one program. Raises UserError where shapes do not fit, for fewer
    than 1 image, restart or step, or where no error is finite.
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


def _images(images: ArrayLike, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim < 2 or not len(images):
        raise UserError(f"latent recovery wants {name} images [n, ...], at least 1, not {list(images.shape)}")
    return images


def _starts(draw: int | Draw, key: Key[Array, ""], n: int) -> np.ndarray:
    z = draw(key, n) if callable(draw) else jax.random.normal(key, (n, draw))
    if z.ndim != 2 or len(z) != n:
        raise UserError(f"latent recovery wants {n} starts [{n}, k], and draw gave {list(z.shape)}")
    return np.asarray(z, np.float32)


def _search(generate: Callable[..., Array], steps: int):
    """Jitted: (starts [b, k], images [b, ...], labels [b] or None) -> the smallest errors [b]."""
    halving = optax.scale_by_backtracking_linesearch(LINE, decrease_factor=0.5, increase_factor=jnp.inf, rtol=1e-7)
    solver = optax.lbfgs(memory_size=MEMORY, linesearch=halving)

    def search(z, image, label):
        target = to_unit(image)

        def error(z):
            made = (generate(z[None]) if label is None else generate(z[None], label[None]))[0]
            if made.shape != target.shape:
                raise UserError(f"latent recovery: generate makes {list(made.shape)}, the images are {list(target.shape)}")
            return ((made.astype(jnp.float32) - target) ** 2).mean()

        def step(before, _):
            z, value, grad, state = before
            update, state = solver.update(grad, state, z, value=value, grad=grad, value_fn=error)
            after = (z + update, *jax.value_and_grad(error)(z + update), state)
            stay = (z, value, grad, solver.init(z))  # with no curvature in memory: that of other places has misled
            return jax.tree.map(functools.partial(jnp.where, after[1] < value), after, stay), None

        start = (z, *jax.value_and_grad(error)(z), solver.init(z))
        return jax.lax.scan(step, start, length=steps)[0][1]

    return jax.jit(jax.vmap(search))


def _in_batches(search, z: np.ndarray, images: np.ndarray, labels: np.ndarray | None, batch: int) -> np.ndarray:
    """The smallest errors [n]; the last batch is filled up, so that all have one shape."""
    found = []
    for first in range(0, len(images), batch):
        rows = np.arange(first, first + batch) % len(images)
        found.append(np.asarray(search(z[rows], images[rows], None if labels is None else labels[rows])))
    return np.concatenate(found)[: len(images)]


def _compared(train_error: np.ndarray, held_out_error: np.ndarray) -> Recovery:
    medians = float(np.median(train_error)), float(np.median(held_out_error))
    difference = medians[1] - medians[0]
    gap = difference / medians[1] if medians[1] else 0.0 if not difference else -np.inf
    p_value = np.asarray(ks_2samp(train_error, held_out_error))[1]
    return Recovery(train_error, held_out_error, *medians, float(gap), float(p_value))
