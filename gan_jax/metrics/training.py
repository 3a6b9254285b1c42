"""What is logged of samples during training, on the device: a cheap part of the report."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax.metrics.distances import energy_distance
from gan_jax.metrics.features.fixed import random_network

FEATURES = 32  # of the fixed random network; few, so that a covariance of some hundred examples has full rank
RATE = 0.05  # of held-out examples that count as near-copies


def training_metrics(samples: Array, train: Array, validation: Array) -> dict[str, Array]:
    """Distances of n samples to n training and n held-out examples, all in [-1, 1] (or points).

        G/train_energy, G/validation_energy: energy distance of the pixels
        G/train_fd, G/validation_fd: Frechet distance in `FEATURES` fixed random features (points:
          coordinates)
        G/fd_gap: the second less the first: positive is overfitting, 0 +- noise is none
        G/near_copies: share of samples nearer to the training examples than the nearest 5 % of
          held-out ones; left out where n is below 20

    The report (`overfitting_report`) has better features, float64, intervals and controls.
    """
    sets = (samples, train, validation)
    g, t, v = jnp.split(_features(samples.shape[1:])(jnp.concatenate(sets)), [len(samples), len(samples) + len(train)])
    to_train, to_validation = _frechet(g, (t, v))
    row = {
        "G/train_energy": energy_distance(samples, train),
        "G/validation_energy": energy_distance(samples, validation),
        "G/train_fd": to_train,
        "G/validation_fd": to_validation,
        "G/fd_gap": to_validation - to_train,
    }
    rank = int(RATE * (len(v) + 1))
    if rank:
        threshold = jnp.sort(_nearest(v, t))[rank - 1]
        row["G/near_copies"] = (_nearest(g, t) < threshold).mean(dtype=g.dtype)
    return row


@lru_cache(maxsize=8)
def _features(shape: tuple[int, ...]) -> Callable[[Array], Array]:
    if len(shape) != 3:
        return lambda x: x.reshape(len(x), -1)
    return random_network(shape, FEATURES, FEATURES)[1]


def _frechet(x: Array, references: Sequence[Array]) -> list[Array]:
    """`frechet.frechet_distance` in the device's precision, with tr (A^1/2 B A^1/2)^1/2."""
    covariance = lambda s: jnp.atleast_2d(jnp.cov(s, rowvar=False))
    a, made = covariance(x), []
    values, vectors = jnp.linalg.eigh(a)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T
    for y in references:
        b = covariance(y)
        cross = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(root @ b @ root), 0)).sum()
        made.append(((x.mean(0) - y.mean(0)) ** 2).sum() + jnp.trace(a) + jnp.trace(b) - 2 * cross)
    return made


def pair_auc(train: Array, validation: Array) -> Array:
    """The share of pairs with training value [n] above held-out value [m]; ties count half."""
    return (1 + jnp.sign(train[:, None] - validation[None, :]).mean()) / 2


def _nearest(x: Array, y: Array) -> Array:
    """The distance of each x to the nearest y, by differences, so that a copy is at 0."""
    return jax.lax.map(lambda a: jnp.sqrt(((a - y) ** 2).sum(1).min()), x, batch_size=64)
