"""Baselines of imputation: scikit-learn transformers, each fitted on training rows and applied to
others.

`IMPUTERS` is {name: seed -> transformer}, cheap ones first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # pyright: ignore  it makes the next import work
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer  # pyright: ignore[reportAttributeAccessIssue]
from sklearn.utils.validation import check_is_fitted, validate_data

from gan_jax.games.imputation.transport import TransportImputer


class InterpolationImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Linear interpolation between the observed values above and below a missing cell in its
    column.

    Beyond the first and last observed value it takes the nearest, as pandas'
    `interpolate(limit_direction="both")` does. The order of the rows matters: it suits a series,
    and has no meaning for a table whose rows have no order. A column without an observed value gets
    its mean in `fit`, or 0.
    """

    def fit(self, X: Any, y: Any = None) -> InterpolationImputer:
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        present = np.isfinite(X)
        self.mean_ = np.where(present, X, 0).sum(0) / np.maximum(present.sum(0), 1)
        return self

    def transform(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False, copy=True)
        for j, column in enumerate(X.T):
            gone = np.isnan(column)
            rows = np.flatnonzero(~gone)
            X[gone, j] = np.interp(np.flatnonzero(gone), rows, column[rows]) if len(rows) else self.mean_[j]
        return X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def mean(seed: int) -> Any:
    """The mean of each column."""
    return SimpleImputer(keep_empty_features=True)


def interpolation(seed: int) -> Any:
    return InterpolationImputer()


def knn(seed: int) -> Any:
    """The mean of the 5 nearest training rows that have the cell (Troyanskaya et al., 2001),
    scikit-learn's defaults."""
    return KNNImputer(keep_empty_features=True)


def iterative(seed: int) -> Any:
    """The conditional means of MICE (van Buuren & Groothuis-Oudshoorn, 2011): 10 rounds of Bayesian
    ridge regressions."""
    return IterativeImputer(random_state=seed, keep_empty_features=True)


def bounded(seed: int) -> Any:
    """`iterative` for tables in [0, 1], where no answer leaves that range. With collinear columns
    some unbounded answers are far out."""
    return IterativeImputer(random_state=seed, keep_empty_features=True, min_value=0.0, max_value=1.0)


def transport(seed: int) -> Any:
    """Optimal transport between batches of the table (Muzellec et al., 2020)."""
    return TransportImputer(random_state=seed)


def forest(seed: int) -> Any:
    """`iterative` with 30 trees in place of the regressions and 3 rounds, as in missForest
    (Stekhoven & Buehlmann, 2012)."""
    trees = ExtraTreesRegressor(30, min_samples_leaf=2, max_features=1 / 3, random_state=seed)
    return IterativeImputer(trees, max_iter=3, random_state=seed, keep_empty_features=True)


IMPUTERS: dict[str, Callable[[int], Any]] = {
    "mean": mean, "interpolation": interpolation, "kNN": knn, "iterative": iterative, "bounded iterative": bounded,
    "transport": transport, "forest": forest,
}  # fmt: skip
