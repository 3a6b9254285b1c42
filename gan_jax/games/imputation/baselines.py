"""Baselines of imputation: scikit-learn transformers, each fitted on training rows and applied to
others.

`IMPUTERS` is {name: seed -> transformer}, cheap ones first.
"""

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
    column, by pandas.

    Beyond the first and last observed value it takes the nearest. The order of the rows matters: it
    suits a series, and has no meaning for a table whose rows have no order. A column without an
    observed value gets its mean in `fit`, or 0.
    """

    def fit(self, X: Any, y: Any = None) -> "InterpolationImputer":
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        present = np.isfinite(X)
        self.mean_ = np.where(present, X, 0).sum(0) / np.maximum(present.sum(0), 1)
        return self

    def transform(self, X: Any) -> np.ndarray:
        import pandas as pd

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        lines = pd.DataFrame(X).interpolate(limit_direction="both").to_numpy()
        return np.where(np.isnan(lines), self.mean_, lines)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def iterative(seed: int, estimator: Any = None, **settings: Any) -> IterativeImputer:
    """The conditional means of MICE (van Buuren & Groothuis-Oudshoorn, 2011): 10 rounds of Bayesian
    ridge regressions."""
    return IterativeImputer(estimator, random_state=seed, keep_empty_features=True, **settings)


def forest(seed: int) -> IterativeImputer:
    """`iterative` with 30 trees in place of the regressions and 3 rounds, as in missForest
    (Stekhoven & Buehlmann, 2012)."""
    trees = ExtraTreesRegressor(30, min_samples_leaf=2, max_features=1 / 3, random_state=seed)
    return iterative(seed, trees, max_iter=3)


IMPUTERS: dict[str, Callable[[int], Any]] = {
    "mean": lambda seed: SimpleImputer(keep_empty_features=True),
    "interpolation": lambda seed: InterpolationImputer(),
    # The mean of the 5 nearest training rows that have the cell (Troyanskaya et al., 2001).
    "kNN": lambda seed: KNNImputer(keep_empty_features=True),
    "iterative": iterative,
    # For tables in [0, 1]. With collinear columns some unbounded answers are far out.
    "bounded iterative": lambda seed: iterative(seed, min_value=0.0, max_value=1.0),
    # Muzellec et al. (2020).
    "transport": lambda seed: TransportImputer(random_state=seed),
    "forest": forest,
}
