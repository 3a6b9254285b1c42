"""GAIN as a scikit-learn transformer: a table with missing values in, the same table without any
out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._set_output import _wrap_data_with_container  # what `transform` of every transformer is wrapped by
from sklearn.utils.validation import check_is_fitted, validate_data

from gan_jax.core.errors import UserError
from gan_jax.data.splits import as_integer
from gan_jax.games.imputation import columns, gain
from gan_jax.games.imputation.training import rows_padded, train
from gan_jax.optimizers import adam

FOLDS = 5  # in which every observed cell is hidden once, to measure how far an answer is off


class GAINImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills missing values (NaN, None, pandas' NA) by GAIN (Yoon et al., 2018); see
    `gan_jax.games.imputation.gain.recipe`.

    Observed cells come back bit for bit. Numbers of any scale are min-max scaled inside, and what
    is imputed lies in the range that was observed; categories are one-hot, and their most probable
    value is imputed. A column without any observed value is kept, with a warning, and filled with 0
    ("missing" if it is categorical). A table that misses nothing comes back as it is.

    categorical:   columns of categories, by name or index, besides those whose dtype says so
                   (pandas' category, object, string and bool; strings in an array).
    steps:         of training. The defaults take seconds on a small table; the authors' code takes
                   10,000.
    width, depth:  of both networks' hidden layers; None for twice the cells, at least 32.
    alpha, hint_rate, hint_fill, noise, hide, ema_decay: as `gain.recipe`. The defaults are not the
                   published ones (alpha 100, hide 0, ema_decay 0): hiding observed cells from G
                   teaches it missing ones, also where nothing is missing.
    networks:      trained side by side from different seeds, in one program; the mean of their
                   answers is imputed.
    rounding:      columns of fewer different observed values than this, all whole, get whole
                   imputed values; 0 rounds nothing.
    random_state:  an integer makes everything reproducible.

    fit, transform and fit_transform take arrays, or pandas tables with columns of several dtypes
    (which come back as tables); otherwise `set_output` says what comes back. `multiple_impute`
    draws several completed tables, each of the same kind.
    Raises UserError, a ValueError, for infinities and for numbers out of range.
    """

    def __init__(
        self,
        *,
        categorical: Sequence[str | int] = (),
        steps: int = 2000,
        width: int | None = None,
        depth: int = 2,
        alpha: float = 1000.0,
        hint_rate: float = 0.9,
        hint_fill: float = 0.0,
        noise: float = 0.01,
        hide: float = 0.2,
        ema_decay: float = 0.99,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        networks: int = 1,
        rounding: int = 20,
        random_state: Any = None,
    ):
        self.categorical = categorical
        self.steps = steps
        self.width = width
        self.depth = depth
        self.alpha = alpha
        self.hint_rate = hint_rate
        self.hint_fill = hint_fill
        self.noise = noise
        self.hide = hide
        self.ema_decay = ema_decay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.networks = networks
        self.rounding = rounding
        self.random_state = random_state

    # ---- fitting --------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> GAINImputer:
        """Learn to fill the table X [n, d]; y is not used."""
        for name, least in {"steps": 1, "networks": 1, "rounding": 0}.items():
            as_integer(getattr(self, name), f"GAINImputer: {name}", least)
        X = self._validated(X, reset=True)
        table, missing = _columns_of(X)
        names = [f"column {name!r}" for name in getattr(self, "feature_names_in_", range(len(table)))]
        chosen = self._categorical(table)
        for j in np.flatnonzero(missing.all(0)):
            warnings.warn(f"GAINImputer: {names[j]} has no observed value: it is filled with one value", stacklevel=2)
        self.columns_ = columns.learn(table, missing, names, chosen, self.rounding)
        self.random_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.params_ = None
        if self.columns_.groups:
            self._train(*self.columns_.encode(table, missing))
        return self

    def _categorical(self, table: list) -> list[bool]:
        """Which columns are categories, by dtype or because they are named."""
        names = list(getattr(self, "feature_names_in_", []))
        chosen = [_is_category(column) for column in table]
        for which in self.categorical:
            j = names.index(which) if which in names else which
            if isinstance(j, str) or not -len(table) <= j < len(table):
                raise UserError(
                    f"GAINImputer: categorical names {which!r}, which is no column: give names or indices of columns"
                )
            chosen[int(j)] = True
        return chosen

    def _train(self, cells: np.ndarray, known: np.ndarray) -> None:
        width = max(2 * cells.shape[1], 32) if self.width is None else self.width
        self.knobs_ = gain.recipe(
            self.columns_.groups, width=width, depth=self.depth, alpha=self.alpha, hint_rate=self.hint_rate,
            hint_fill=self.hint_fill, noise=self.noise, hide=self.hide, ema_decay=self.ema_decay,
            optimizer=adam(self.learning_rate, b1=0.9), batch_size=self.batch_size,
        )  # fmt: skip
        seeds = np.random.SeedSequence(self.random_).generate_state(self.networks)
        state, metrics = train([self.knobs_], [(cells, known)], seeds.tolist(), steps=self.steps)
        if not all(np.isfinite(v).all() for v in metrics.values()):
            raise UserError("GAINImputer: the training diverged: take a smaller learning_rate or alpha")
        self.params_ = jax.device_get(state.ema["params"])
        self.residual_ = self._residual(cells, known)

    def _residual(self, cells: np.ndarray, known: np.ndarray) -> np.ndarray:
        """[k]: the RMSE of each cell of the training rows when it is hidden on purpose, each once
        in FOLDS rounds."""
        column = np.repeat(np.arange(len(self.columns_.groups)), self.columns_.groups)
        fold = (np.arange(len(cells))[:, None] + column) % FOLDS
        errors = np.zeros_like(cells)
        for k in range(FOLDS):
            answer = self._answers(cells, known & (fold != k), None).mean(0)
            errors = np.where(known & (fold == k), answer - cells, errors)
        return np.sqrt((errors**2).sum(0) / np.maximum(known.sum(0), 1))

    # ---- filling --------------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """The table with its missing cells filled; a row's answer does not depend on the other
        rows."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        return self._completed(X, lambda cells, known: self._answers(cells, known, None).mean(0))

    def multiple_impute(self, X: Any, m: int = 5) -> list[Any]:
        """m completed tables, to be analysed one by one (Rubin, 1987); each cell is a draw, not the
        best guess.

        Draw j has its own noise z, is by network j (modulo `networks`), and adds to numbers a
        normal error as large as GAIN's own on observed cells hidden on purpose from training rows,
        kept in the observed range; categories are drawn by their probabilities. The errors of a
        row's cells are drawn apart. What the networks themselves do not know shows between draws
        only with several `networks`.
        """
        check_is_fitted(self)
        m = as_integer(m, "multiple_impute: m", least=1)
        X = self._validated(X, reset=False)
        tables = (self._completed(X, partial(self._draw, j=j)) for j in range(m))
        return [_wrap_data_with_container("transform", table, X, self) for table in tables]

    def _draw(self, cells: np.ndarray, known: np.ndarray, j: int) -> np.ndarray:
        rng = np.random.default_rng([self.random_, j])
        z = rng.random(cells.shape, np.float32)
        answer = self._answers(cells, known, z, j % self.networks)[0]
        ends = np.cumsum(self.columns_.groups)
        for end, k in zip(ends, self.columns_.groups, strict=True):
            part = answer[:, end - k : end]
            if k == 1:
                part += self.residual_[end - 1] * rng.standard_normal(part.shape)
            else:  # the Gumbel-max trick: the largest is a draw
                part[:] = np.log(part + 1e-30) + rng.gumbel(size=part.shape)
        return answer

    def _answers(self, cells: np.ndarray, known: np.ndarray, z: np.ndarray | None, network: int | None = None) -> np.ndarray:
        """[networks, n, k]: what each network (or one) says, for any number of rows by few
        programs."""
        n, extra = len(cells), rows_padded(len(cells)) - len(cells)
        pad = lambda x: np.concatenate([x, np.zeros((extra, x.shape[1]), x.dtype)])
        z = None if z is None else pad(z)
        chosen = jax.tree.map(lambda x: x if network is None else x[[network]], self.params_)
        return np.array(_each_network(self.knobs_, chosen, pad(cells), pad(known), z))[:, :n]

    def _completed(self, X: Any, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Any:
        """X with what `answer` says of (cells, known) in its missing cells."""
        table, missing = _columns_of(X)
        cells, known = self.columns_.encode(table, missing)  # refuses infinities, also where nothing is missing
        if not missing.any():
            return _filled(X, missing, [])
        said = answer(cells, known) if self.params_ is not None else cells
        return _filled(X, missing, self.columns_.decode(said))

    # ---- what scikit-learn asks -----------------------------------------------------------------

    def _validated(self, X: Any, reset: bool) -> Any:
        """X as a pandas table, or as an array [n, d] of floats or objects."""
        if _is_pandas(X):
            validate_data(self, X, skip_check_array=True, reset=reset)
            if 0 in X.shape:
                raise UserError(
                    f"GAINImputer: a table of shape {X.shape}: 0 sample(s) or feature(s) while a minimum of 1 is required"
                )
            return X
        return validate_data(self, X, dtype=None, ensure_all_finite=False, reset=reset)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@jax.jit
def _each_network(knobs, params, cells, known, z):
    return jax.vmap(lambda p: gain.impute(knobs, p, cells, known, z))(params)


# ---- tables and arrays -------------------------------------------------------------------------


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and np.ndim(X) == 2


def _is_category(column: Any) -> bool:
    """By its dtype; an array of objects has categories where it has strings or truth values."""
    if hasattr(column, "dtype") and column.dtype.kind in "Ob" and not hasattr(column, "iloc"):
        return column.dtype.kind == "b" or any(isinstance(v, (str, bool, np.bool_)) for v in column)
    if hasattr(column, "iloc"):
        import pandas as pd

        kinds = pd.api.types
        return not kinds.is_numeric_dtype(column.dtype) or kinds.is_bool_dtype(column.dtype)
    return column.dtype.kind in "US"


def _columns_of(X: Any) -> tuple[list, np.ndarray]:
    """(columns, where they are missing [n, d])."""
    table = [X.iloc[:, j] for j in range(X.shape[1])] if _is_pandas(X) else list(X.T)
    return table, np.stack([columns.is_missing(column) for column in table], 1)


def _filled(X: Any, missing: np.ndarray, values: list[np.ndarray]) -> Any:
    """A copy of X, `values` (one array for each column) in its missing cells: of a pandas table
    with columns of several dtypes

    again one (an array of one dtype could not hold every cell as it was), of one with plain numbers
    of one dtype an array, as scikit-learn's own imputers give.
    """
    if not _is_pandas(X):
        out = np.array(X)
        for j, column in enumerate(values):
            out[missing[:, j], j] = column[missing[:, j]]
        return out
    kinds = set(X.dtypes)
    if len(kinds) == 1 and all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in kinds):
        return _filled(X.to_numpy(), missing, values)
    out = X.copy()
    for j, column in enumerate(values):
        if missing[:, j].any():
            out.isetitem(j, _filled_series(X.iloc[:, j], missing[:, j], column[missing[:, j]]))
    return out


def _filled_series(series: Any, missing: np.ndarray, values: np.ndarray) -> Any:
    """A pandas column with `values` in its missing places, in its own dtype: whole numbers are
    rounded, categories kept."""
    out = series.copy()
    if hasattr(out, "cat") and not set(values) <= set(out.cat.categories):
        out = out.cat.add_categories(sorted(set(values) - set(out.cat.categories)))
    if out.dtype.kind in "iu":
        values = np.rint(values.astype(np.float64))
    plain = isinstance(out.dtype, np.dtype) and out.dtype.kind in "fiu"
    out[missing] = values.astype(out.dtype) if plain else values
    return out
