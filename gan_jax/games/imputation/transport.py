"""Imputation by optimal transport (Muzellec, Josse, Boyer & Cuturi, 2020, algorithm 1): missing
cells are moved until random batches of the table have the same distribution.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

START = 0.1  # standard deviation of the first values around the column's mean, in that of the column


def plan(cost: Any, epsilon: Any, rounds: int) -> Any:
    """The entropic optimal transport plan [a, b] between uniform weights.

    rounds: of Sinkhorn's iteration, which runs on logarithms
    """
    a, b = cost.shape

    def once(_, g):
        f = -epsilon * (jax.nn.logsumexp((g[None] - cost) / epsilon, 1) - jnp.log(b))
        return -epsilon * (jax.nn.logsumexp((f[:, None] - cost) / epsilon, 0) - jnp.log(a))

    g = jax.lax.fori_loop(0, rounds, once, jnp.zeros(b, cost.dtype))
    return jax.nn.softmax((g[None] - cost) / epsilon, 1) / a


def divergence(x: Any, y: Any, epsilon: Any, rounds: int) -> Any:
    """The Sinkhorn divergence of two point clouds, without its entropies. At the optimum, the
    gradients of the entropies and of the plans cancel."""

    def transport(p, q):
        cost = ((p[:, None] - q[None]) ** 2).sum(-1)
        return (jax.lax.stop_gradient(plan(cost, epsilon, rounds)) * cost).sum()

    return transport(x, y) - (transport(x, x) + transport(y, y)) / 2


@partial(jax.jit, static_argnames=("steps", "batch", "rounds"))
def complete(table, free, other, key, epsilon, rate, *, steps: int, batch: int, rounds: int):
    """`table` with its `free` cells moved by Adam until its batches resemble those of `other`.

    other: None compares the table with itself
    """
    optimizer = optax.adam(rate)

    def loss(table, key):
        one, two = jax.random.split(key)
        x = table[jax.random.randint(one, (batch,), 0, len(table))]
        rows = table if other is None else other
        return divergence(x, rows[jax.random.randint(two, (batch,), 0, len(rows))], epsilon, rounds)

    def step(carry, key):
        table, state = carry
        updates, state = optimizer.update(jnp.where(free, jax.grad(loss)(table, key), 0), state)
        return (jnp.where(free, table + updates, table), state), None

    return jax.lax.scan(step, (table, optimizer.init(table)), jax.random.split(key, steps))[0][0]


class TransportImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Moves missing cells until random batches of the table have a small Sinkhorn divergence from
    each other.

    The regularisation is `blur` times the median squared distance between mean-filled rows, on
    standardised columns (5 %, as in the paper). `fit` completes the training rows, and `transform`
    completes other rows against them; the paper imputes one table as a whole. The paper takes 2,000
    steps of RMSprop at a rate of 1e-2, this class 1,000 steps of Adam at 3e-2; both have batches of
    128 rows. A column without an observed value in `fit` gets 0.
    """

    def __init__(self, *, steps=1000, batch_size=128, blur=0.05, learning_rate=3e-2, rounds=20, random_state=None):
        self.steps = steps
        self.batch_size = batch_size
        self.blur = blur
        self.learning_rate = learning_rate
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> TransportImputer:
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        self.seen_ = ~np.isnan(X).all(0)
        X = X[:, self.seen_]
        count = (~np.isnan(X)).sum(0)
        self.mean_ = np.nansum(X, 0) / count
        spread = np.sqrt(np.nansum((X - self.mean_) ** 2, 0) / count)
        self.spread_ = np.where(spread > 0, spread, 1.0)
        self.random_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        filled = self._scaled(X)[0]
        some = filled[np.random.default_rng(0).permutation(len(filled))[:500]]
        squared = ((some[:, None] - some[None]) ** 2).sum(-1)[np.triu_indices(len(some), 1)]
        self.epsilon_ = self.blur * max(float(np.median(squared)) if len(squared) else 1.0, 1e-3)
        self.table_ = self._completed(X, None)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X with its missing cells completed against the training rows."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        gone, done = np.isnan(X), np.zeros_like(X)
        if gone[:, self.seen_].any():
            done[:, self.seen_] = self._completed(X[:, self.seen_], self.table_) * self.spread_ + self.mean_
        return np.where(gone, done, X)

    def _scaled(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the standardised table, 0 in missing cells; where they are)."""
        gone = np.isnan(X)
        return np.where(gone, 0, (X - self.mean_) / self.spread_).astype(np.float32), gone

    def _completed(self, X: np.ndarray, other: np.ndarray | None) -> np.ndarray:
        table, gone = self._scaled(X)
        start = np.random.default_rng([self.random_, other is None]).normal(0, START, X.shape)
        table = np.where(gone, start, table).astype(np.float32)
        settings = {"steps": self.steps, "batch": self.batch_size, "rounds": self.rounds}
        key = jax.random.key(self.random_)
        return np.asarray(complete(table, gone, other, key, self.epsilon_, self.learning_rate, **settings))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = True
        return tags
