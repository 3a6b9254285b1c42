"""GAIN as a scikit-learn transformer: it fills in the missing values of a table."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.games.imputation import choice, columns, gain, tables
from gan_jax.games.imputation.training import rows_padded, train
from gan_jax.optimizers import adam

FOLDS = 5  # every observed cell is hidden in one of them, to measure the error of its answer
NUMBERS = ("alpha", "hint_rate", "hint_fill", "noise", "hide", "ema_decay")
OF_GAIN = ("depth", *NUMBERS, "batch_size")


@dataclass(kw_only=True, eq=False, repr=False)
class GAINImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills missing values (NaN, None, pandas' NA and NaT) by GAIN (Yoon et al., 2018); see
    `imputation.gain.recipe`.

    Observed cells come back bit for bit, and imputed numbers and dates lie in the observed range.
    Numbers are min-max scaled. Where the middle half of a column's different values takes less than
    a tenth of its range (`numeric.HEAVY`), its values are scaled by rank, and observed values are
    imputed. Dates, time spans and periods are numbers. Categories are one-hot, and the most
    probable value is imputed. A column without any observed value is kept, with a warning, and
    filled with what is 0 in its dtype ("missing" for text).

    categorical:  columns of categories, by name or index, or a mask of bools, besides those of
                  text, bools, and pandas' category. Columns of objects go by their values: numbers
                  (Decimals too), dates, or categories. Where integers are labels of a table, they
                  are taken as labels.
    steps:        of training. The default takes seconds on a small table; the authors' code takes
                  10,000 steps.
    width, depth: of the hidden layers of both networks; width None for twice the cells, at least 32
    alpha, hint_rate, hint_fill, noise, hide, ema_decay: as for `gain.recipe`. The defaults are not
                  the published ones (alpha 100, hide 0, ema_decay 0): hiding observed cells teaches
                  G to fill in missing cells, also where nothing is missing. With alpha "auto",
                  `fit` chooses alpha, and hide where that has its default, by cross-validation on
                  the training rows, which trains 27 networks more (9 for alpha alone). A line on
                  stderr and the attributes alpha_ and hide_ say what was chosen.
    networks:     number of networks trained from different seeds in one program; the mean of their
                  answers is imputed
    rounding:     columns of whole numbers with fewer different values than this get whole imputed
                  values; 0 rounds nothing
    random_state: an integer makes everything reproducible

    fit, transform and fit_transform take arrays, or pandas tables. A table with columns of several
    dtypes comes back as a table, and each column in its dtype where that can hold what is imputed;
    otherwise `set_output` chooses the container. Categories that `fit` did not see stay, and count
    as missing, with a warning. `multiple_impute` draws several completed tables of the same kind.
    Raises UserError, a ValueError, for infinities, for numbers out of range, and for a column of
    another kind than in `fit`.

    Example: GAINImputer(categorical=["code"], random_state=0).fit_transform(table)
    """

    categorical: Sequence[str | int] = ()
    steps: int = 2000
    width: int | None = None
    depth: int = 2
    alpha: float | str = 1000.0
    hint_rate: float = 0.9
    hint_fill: float = 0.0
    noise: float = 0.01
    hide: float = 0.2
    ema_decay: float = 0.99
    learning_rate: float = 1e-3
    batch_size: int = 128
    networks: int = 1
    rounding: int = 20
    random_state: Any = None

    def fit(self, X: Any, y: Any = None) -> "GAINImputer":
        """Train on the table X [n, d]. y is not used."""
        for name, least in {"steps": 1, "networks": 1, "rounding": 0}.items():
            count(getattr(self, name), f"GAINImputer: {name}", least)
        for name in (*NUMBERS, "learning_rate"):
            value, auto = getattr(self, name), name == "alpha"
            if value is None or (isinstance(value, (str, list, tuple)) and not (auto and value == "auto")):
                raise UserError(f"GAINImputer: {name}={value!r}: must be a number" + ' or "auto"' * auto)
        X = self._validated(X, reset=True)
        table, missing = tables.columns_of(X)
        names = [f"column {name!r}" for name in (X.columns if tables.is_pandas(X) else range(len(table)))]
        self.dtypes_, self.plain_ = [column.dtype for column in table], tables.is_plain(X)
        chosen = tables.chosen(self.categorical, X, "GAINImputer: categorical")
        self.columns_ = columns.learn(table, missing, names, chosen, self.rounding)
        for kind, name in zip(self.columns_.kinds, names, strict=True):
            if isinstance(kind, columns.Empty):
                warnings.warn(f"GAINImputer: {name} has no observed value: it is filled with {kind.value}", stacklevel=2)
        self.random_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.params_ = None
        self.draw_: int | None = None  # the draw that `transform` gives; None for the mean answer
        if self.columns_.groups:
            self._train(*self.columns_.encode(table, missing))
        return self

    def _train(self, cells: np.ndarray, known: np.ndarray) -> None:
        width = max(2 * cells.shape[1], 32) if self.width is None else self.width
        numbers = {name: getattr(self, name) for name in OF_GAIN}
        auto = ["alpha"] if isinstance(self.alpha, str) else []
        if auto:
            numbers["alpha"] = type(self).alpha
            auto += ["hide"] if self.hide == type(self).hide else []
        groups, optimizer = self.columns_.groups, adam(self.learning_rate, b1=0.9)
        recipe = lambda **found: gain.recipe(groups, width=width, optimizer=optimizer, **numbers | found)
        found = choice.chosen(recipe, auto, (cells, known), self.random_, self.steps) if auto else {}
        self.knobs_ = recipe(**found)
        self.alpha_, self.hide_ = ((numbers | found)[name] for name in choice.CANDIDATES)
        seeds = np.random.SeedSequence(self.random_).generate_state(self.networks)
        state, metrics = train([self.knobs_], [(cells, known)], seeds.tolist(), steps=self.steps)
        if not all(np.isfinite(v).all() for v in metrics.values()):
            raise UserError("GAINImputer: the training diverged: take a smaller learning_rate or alpha")
        self.params_ = jax.device_get(state.ema["params"])
        self.residual_ = self._residual(cells, known)

    def _residual(self, cells: np.ndarray, known: np.ndarray) -> np.ndarray:
        """[k]: the RMSE of each cell over the training rows, each observed cell hidden once."""
        column = np.repeat(np.arange(len(self.columns_.groups)), self.columns_.groups)
        fold = (np.arange(len(cells))[:, None] + column) % FOLDS
        errors = np.zeros_like(cells)
        for k in range(FOLDS):
            answer = self._answers(cells, known & (fold != k)).mean(0)
            errors = np.where(known & (fold == k), answer - cells, errors)
        return np.sqrt((errors**2).sum(0) / np.maximum(known.sum(0), 1))

    def transform(self, X: Any) -> Any:
        """X with its missing cells filled in; a row's answer does not depend on the other rows."""
        check_is_fitted(self)
        text = getattr(getattr(X, "dtype", None), "kind", "") == "U"
        X = self._validated(X, reset=False)
        table, missing = tables.columns_of(X)
        cells, known = self.columns_.encode(table, missing)  # raises for infinities, also where nothing is missing
        if missing.any() and self.params_ is not None:
            cells = self._answers(cells, known).mean(0) if self.draw_ is None else self._draw(cells, known, self.draw_)
        values = self.columns_.decode(cells) if missing.any() else []
        out = tables.filled(X, missing, values, self.dtypes_, self.plain_)
        return out.astype(str) if text and out.dtype.kind == "O" else out

    def multiple_impute(self, X: Any, m: int = 5) -> list[Any]:
        """m completed tables, to be analysed one by one (Rubin, 1987): each imputed cell is a draw.

        Table j has its own noise z, and takes network j modulo `networks`. With one network, the
        spread of the tables lacks the uncertainty of the network's weights. A number gets an
        independent normal error with the RMSE that GAIN has on hidden cells of the training rows,
        and stays in the observed range. A category is drawn by its probabilities.
        """
        check_is_fitted(self)
        drawing = [copy.copy(self) for _ in range(count(m, "multiple_impute: m", least=1))]
        for j, imputer in enumerate(drawing):
            imputer.draw_ = j
        return [imputer.transform(X) for imputer in drawing]  # scikit-learn wraps what `transform` returns

    def _draw(self, cells: np.ndarray, known: np.ndarray, j: int) -> np.ndarray:
        rng = np.random.default_rng([self.random_, j])
        z = rng.random(cells.shape, np.float32)
        answer = self._answers(cells, known, z, [j % self.networks])[0]
        for end, k in zip(np.cumsum(self.columns_.groups), self.columns_.groups, strict=True):
            part = answer[:, end - k : end]
            if k == 1:
                part += self.residual_[end - 1] * rng.standard_normal(part.shape)
            else:  # the Gumbel-max trick: the largest is a draw
                part[:] = np.log(part + 1e-30) + rng.gumbel(size=part.shape)
        return answer

    def _answers(self, cells: np.ndarray, known: np.ndarray, z: Any = None, which: Any = slice(None)) -> np.ndarray:
        """[networks, n, k]: the answers of all networks, or of some (see `rows_padded`)."""
        n, extra = len(cells), rows_padded(len(cells)) - len(cells)
        pad = lambda x: np.pad(x, ((0, extra), (0, 0)))
        chosen = jax.tree.map(lambda x: x[which], self.params_)
        z = None if z is None else pad(z)
        return np.array(_each_network(self.knobs_, chosen, pad(cells), pad(known), z))[:, :n]

    def _validated(self, X: Any, reset: bool) -> Any:
        """X as a pandas table, or as an array [n, d] of one dtype."""
        X = tables.prepared(X)
        if reset:
            self.labels_ = list(X.columns) if tables.is_pandas(X) else None
        if not tables.is_pandas(X):
            return validate_data(self, X, dtype=None, ensure_all_finite=False, reset=reset)
        if not X.columns.is_unique:
            twice = X.columns[X.columns.duplicated()][0]
            raise UserError(f"GAINImputer: two columns are named {twice!r}: give each a name of its own")
        validate_data(self, X, skip_check_array=True, reset=reset)
        if self.labels_ is not None and not hasattr(self, "feature_names_in_") and list(X.columns) != self.labels_:
            raise UserError(f"GAINImputer: columns {list(X.columns)}, and {self.labels_} in fit: give them in that order")
        if 0 in X.shape:
            raise UserError(f"GAINImputer: a table of shape {X.shape}: it needs at least 1 sample(s) and 1 feature(s)")
        return X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@jax.jit
def _each_network(knobs, params, cells, known, z):
    return jax.vmap(lambda p: gain.impute(knobs, p, cells, known, z))(params)
