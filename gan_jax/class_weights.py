"""Weights of classes by how many examples they have."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gan_jax.core.errors import UserError


def effective_number(counts: Any, beta: Any) -> Array:
    """(1 - beta^n) / (1 - beta) of each count n (Cui et al., 2019, equation 2). counts: [K]; a
    count below 1 counts as 1. beta: in [0, 1]: 0 gives 1, and 1 is the limit, n."""
    counts = jnp.maximum(jnp.asarray(counts), 1)
    left = jnp.clip(1 - jnp.asarray(beta, counts.dtype), 0, 1)  # 1 - beta
    safe = jnp.clip(left, jnp.finfo(counts.dtype).tiny, 1 - jnp.finfo(counts.dtype).epsneg)
    powered = -jnp.expm1(counts * jnp.log1p(-safe)) / safe  # keeps all digits near beta = 1
    return jnp.where(left <= jnp.finfo(counts.dtype).tiny, counts, jnp.where(left >= 1, jnp.ones_like(counts), powered))


def class_shares(counts: Any, balance: Any = 0.0) -> Array:
    """The probability [K] of each class, proportional to n_k^(1 - balance): balance 0 gives the
    frequencies of the data, 1 equal ones."""
    logs = jnp.log(jnp.maximum(jnp.asarray(counts), 1))
    powers = jnp.exp((1 - jnp.asarray(balance, logs.dtype)) * (logs - logs.max()))
    return powers / powers.sum()


def class_weights(counts: Any, beta: Any = 0.99, balance: Any = 0.0) -> Array:
    """Weights [K] proportional to 1 / effective_number(n_k), of mean 1 over examples.

    sum_k p_k w_k = 1, where p_k is the share of class k among the examples (`class_shares`). The
    mean of Cui et al. (2019), over classes, would shift the balance of reals and fakes in the
    discriminator's loss, and let beta change both learning rates.

    counts: [K] examples of each class. balance: how evenly they are drawn, see `class_shares`.
    beta: in [0, 1]: 0 weighs all alike, 1 by inverse frequency. Cui et al. use .9 to .9999,
    Rangwani et al. (2021) .99.
    """
    weights = 1 / effective_number(counts, beta)
    return weights / (class_shares(counts, balance) * weights).sum()


def checked_counts(counts: Any, what: str) -> np.ndarray:
    """Counts as float32 [K]. Raises UserError for fewer than 2, or one below 1 or not finite."""
    counts = np.asarray(counts, np.float32)
    if counts.ndim != 1 or len(counts) < 2:
        raise UserError(f"{what}: counts are the images of each class, a list of at least 2, not {list(counts.shape)}")
    if not np.isfinite(counts).all() or counts.min() < 1:
        bad = int(np.argmin(np.where(np.isfinite(counts), counts, -np.inf)))
        raise UserError(f"{what}: class {bad} has {counts[bad]:g} images; each class needs at least 1")
    return counts
