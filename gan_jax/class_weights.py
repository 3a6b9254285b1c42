from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gan_jax.core.errors import UserError


def effective_number(counts: Any, beta: Any) -> Array:
    """(1 - beta^n) / (1 - beta) of each count n (Cui et al., 2019, equation 2): 1 at beta = 0, n as
    beta tends to 1.

    counts: [K] of at least 1 (a lower one counts as 1); beta: in [0, 1], where 1 is the limit; one
    above it counts as 1. By log1p and expm1 of 1 - beta, so that nothing is lost near 1.
    """
    counts = jnp.maximum(jnp.asarray(counts), 1)
    left = jnp.clip(1 - jnp.asarray(beta, counts.dtype), 0, 1)  # 1 - beta
    safe = jnp.clip(left, jnp.finfo(counts.dtype).tiny, 1 - jnp.finfo(counts.dtype).epsneg)
    powered = -jnp.expm1(counts * jnp.log1p(-safe)) / safe
    return jnp.where(left <= jnp.finfo(counts.dtype).tiny, counts, jnp.where(left >= 1, jnp.ones_like(counts), powered))


def class_shares(counts: Any, balance: Any = 0.0) -> Array:
    """The probability [K] of each class, proportional to n_k^(1 - balance): 0 as in the data, 1 all
    equal."""
    logs = jnp.log(jnp.maximum(jnp.asarray(counts), 1))
    powers = jnp.exp((1 - jnp.asarray(balance, logs.dtype)) * (logs - logs.max()))
    return powers / powers.sum()


def class_weights(counts: Any, beta: Any = 0.99, balance: Any = 0.0) -> Array:
    """Weights [K] proportional to 1 / effective_number(n_k), of mean 1 over the examples that they
    will weigh.

    Over examples, that is sum_k p_k w_k = 1 with p_k the share of class k among them
    (`class_shares`), and not over classes, as in Cui et al. (2019): there the rare classes' weights
    would lower the whole term, and with it the balance of reals and fakes in D's loss; it would say
    less of fakes than of reals, and the learning rate of both players would change with beta.

    counts: [K] examples of each class. beta: in [0, 1]: 0 weighs all alike, 1 is the inverse
    frequency; .9 to .9999 in Cui et al., .99 in Rangwani et al. (2021). balance: how evenly the
    examples are drawn, see `class_shares`.
    """
    weights = 1 / effective_number(counts, beta)
    return weights / (class_shares(counts, balance) * weights).sum()


def checked_counts(counts: Any, what: str) -> np.ndarray:
    """Counts as float32 [K]. Raises UserError where one is below 1 or not finite, or there are
    fewer than 2."""
    counts = np.asarray(counts, np.float32)
    if counts.ndim != 1 or len(counts) < 2:
        raise UserError(f"{what}: counts are the images of each class, a list of at least 2, not {list(counts.shape)}")
    if not np.isfinite(counts).all() or counts.min() < 1:
        bad = int(np.argmin(np.where(np.isfinite(counts), counts, -np.inf)))
        raise UserError(f"{what}: class {bad} has {counts[bad]:g} images; each class needs at least 1")
    return counts
