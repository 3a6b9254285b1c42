"""Imputation by optimal transport (Muzellec, Josse, Boyer & Cuturi, 2020, algorithm 1): missing
cells are updated until random batches of the table have the same distribution.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gan_jax.games.imputation.numeric import Numeric, Ranks

START = 0.1  # standard deviation of the first values around the column's mean, in that of the column


def plan(cost: Array, epsilon: Array, rounds: int) -> Array:
    """The entropic optimal transport plan [a, b] between uniform weights, by so many rounds of
    Sinkhorn's iteration on logarithms."""
    a, b = cost.shape

    def once(_, g):
        f = -epsilon * (jax.nn.logsumexp((g[None] - cost) / epsilon, 1) - jnp.log(b))
        return -epsilon * (jax.nn.logsumexp((f[:, None] - cost) / epsilon, 0) - jnp.log(a))

    g = jax.lax.fori_loop(0, rounds, once, jnp.zeros(b, cost.dtype))
    return jax.nn.softmax((g[None] - cost) / epsilon, 1) / a


def divergence(x: Array, y: Array, epsilon: Array, rounds: int) -> Array:
    """The Sinkhorn divergence of two point clouds, without its entropies. At the optimum, the
    gradients of the entropies and of the plans cancel."""

    def transport(p, q):
        cost = ((p[:, None] - q[None]) ** 2).sum(-1)
        return (jax.lax.stop_gradient(plan(cost, epsilon, rounds)) * cost).sum()

    return transport(x, y) - (transport(x, x) + transport(y, y)) / 2


@partial(jax.jit, static_argnames=("steps", "batch", "rounds"))
def complete(table, free, other, key, epsilon, rate, *, steps: int, batch: int, rounds: int):
    """`table` with its `free` cells updated by Adam until its batches resemble those of `other`, or
    each other where that is None."""
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


@dataclass(kw_only=True, eq=False, repr=False)
class TransportImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Updates missing cells until random batches of the table have a small Sinkhorn divergence from
    each other.

    The regularisation is `blur` times the median squared distance between mean-filled rows, on
    standardised columns (5 %, as in the paper). `fit` completes the training rows, and `transform`
    completes other rows against them; the paper imputes one table as a whole. The paper takes 2,000
    steps of RMSprop at a rate of 1e-2, this class 1,000 steps of Adam at 3e-2; both have batches of
    128 rows. A column with heavy tails is completed in ranks (`numeric.Ranks`). A column without an
    observed value in `fit` gets 0.
    """

    steps: int = 1000
    batch_size: int = 128
    blur: float = 0.05
    learning_rate: float = 3e-2
    rounds: int = 20
    random_state: Any = None

    def fit(self, X: Any, y: Any = None) -> "TransportImputer":
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        self.seen_ = ~np.isnan(X).all(0)
        X = X[:, self.seen_]
        kinds = [Numeric.learn(column, np.isnan(column), f"column {j}", 0) for j, column in enumerate(X.T)]
        self.ranks_ = {j: kind for j, kind in enumerate(kinds) if isinstance(kind, Ranks)}
        X = self._ranked(X)
        self.mean_, spread = np.nanmean(X, 0), np.nanstd(X, 0)
        self.spread_ = np.where(spread > 0, spread, 1.0)
        self.random_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        some = self._scaled(X)[np.random.default_rng(0).permutation(len(X))[:500]]
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
            found = self._completed(self._ranked(X[:, self.seen_]), self.table_) * self.spread_ + self.mean_
            for j, kind in self.ranks_.items():
                found[:, j] = kind.decode(found[:, [j]])
            done[:, self.seen_] = found
        return np.where(gone, done, X)

    def _ranked(self, X: np.ndarray) -> np.ndarray:
        """The table with the columns of heavy tails as places in [0, 1]."""
        X = X.copy(order="K")  # the layout decides the last digit of a sum
        for j, kind in self.ranks_.items():
            gone = np.isnan(X[:, j])
            X[:, j] = np.where(gone, np.nan, kind.encode(X[:, j], gone, f"column {j}")[0][:, 0])
        return X

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        """The standardised table, 0 in missing cells."""
        return np.where(np.isnan(X), 0, (X - self.mean_) / self.spread_).astype(np.float32)

    def _completed(self, X: np.ndarray, other: np.ndarray | None) -> np.ndarray:
        gone, start = np.isnan(X), np.random.default_rng([self.random_, other is None]).normal(0, START, X.shape)
        table = np.where(gone, start, self._scaled(X)).astype(np.float32)
        numbers = jax.random.key(self.random_), self.epsilon_, self.learning_rate
        return np.asarray(complete(table, gone, other, *numbers, steps=self.steps, batch=self.batch_size, rounds=self.rounds))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = True
        return tags
