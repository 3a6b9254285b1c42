"""What GAIN is compared with: scikit-learn transformers, each fitted on training rows and applied
to others.

imputers(seed) -> {name: transformer}; `names` of them, cheap ones first
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
    """The straight line between the observed values above and below a missing cell in its column;
    beyond them, the nearest.

    As pandas' `interpolate(limit_direction="both")`. It uses the order of the rows, so it suits a
    series, and guesses blindly in a table whose rows have none. A column without an observed value
    gets its mean in `fit` (0 if it had none either).
    """

    def fit(self, X: Any, y: Any = None) -> InterpolationImputer:
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        seen = np.isfinite(X)
        self.mean_ = np.where(seen, X, 0).sum(0) / np.maximum(seen.sum(0), 1)
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
    """Each column's mean."""
    return SimpleImputer(keep_empty_features=True)


def interpolation(seed: int) -> Any:
    return InterpolationImputer()


def knn(seed: int) -> Any:
    """The mean of the 5 nearest training rows that have the cell (Troyanskaya et al., 2001),
    scikit-learn's defaults."""
    return KNNImputer(keep_empty_features=True)


def iterative(seed: int) -> Any:
    """MICE's conditional means (van Buuren & Groothuis-Oudshoorn, 2011): Bayesian ridge regressions
    in turn, 10 rounds."""
    return IterativeImputer(random_state=seed, keep_empty_features=True)


def bounded(seed: int) -> Any:
    """`iterative` for tables in [0, 1]: no regression's answer leaves it (with collinear columns
    some are far out)."""
    return IterativeImputer(random_state=seed, keep_empty_features=True, min_value=0.0, max_value=1.0)


def transport(seed: int) -> Any:
    """Optimal transport between batches of the table (Muzellec et al., 2020)."""
    return TransportImputer(random_state=seed)


def forest(seed: int) -> Any:
    """In the manner of missForest (Stekhoven & Buehlmann, 2012): trees in place of the regressions,
    3 rounds of 30 trees."""
    trees = ExtraTreesRegressor(30, min_samples_leaf=2, max_features=1 / 3, random_state=seed)
    return IterativeImputer(trees, max_iter=3, random_state=seed, keep_empty_features=True)


IMPUTERS: dict[str, Callable[[int], Any]] = {
    "mean": mean, "interpolation": interpolation, "kNN": knn, "iterative": iterative, "bounded iterative": bounded,
    "transport": transport, "forest": forest,
}  # fmt: skip
