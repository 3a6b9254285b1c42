"""Mixed tables as rows of cells in [0, 1], and back.

A number is one cell, min-max scaled, or its rank where a few values are far from all others (see
`numeric.Ranks`). A date, a time span or a period is the number of its ticks. A category of k values
is k cells, one-hot. A column is a pandas Series, and `tables.py` makes it of what the user gives.
"""

import datetime
import numbers
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from gan_jax.core.errors import UserError
from gan_jax.games.imputation.numeric import DATES, Dates, Numeric, Objects, floats, is_number, objects

MOST_CATEGORIES = 1000  # a column of more values holds identities, not categories
DIFFERENT = 20  # values, each in one row only, from which on a column is no category


@dataclass
class Category:
    """A column of names: each different observed value is one cell. A value that was not observed
    in training counts as missing."""

    values: np.ndarray

    @property
    def cells(self) -> int:
        return len(self.values)

    @classmethod
    def learn(cls, column: Any, missing: np.ndarray, what: str) -> "Category":
        try:
            seen = dict.fromkeys(np.asarray(column, object)[~missing])
        except TypeError as error:
            raise UserError(f"{what} has values of an {error}: they are no categories, leave the column out") from None
        try:
            ordered = sorted(seen)
        except TypeError:
            ordered = sorted(seen, key=lambda v: (type(v).__name__, str(v)))
        if len(ordered) > MOST_CATEGORIES:
            raise UserError(f"{what} has {len(ordered)} different values: too many for a category, leave the column out")
        if len(ordered) == (~missing).sum() > DIFFERENT:
            line = f"{what} has another value in each row, as names and identity numbers have: leave the column out"
            warnings.warn(f"GAINImputer: {line}", stacklevel=5)
        return cls(objects(ordered))

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """(one-hot cells [n, k] float32, for each of them whether its row is known [n, k])."""
        place = {value: i for i, value in enumerate(self.values)}
        values = np.asarray(column, object)
        try:
            code = np.array([-1 if gone else place.get(v, -1) for v, gone in zip(values, missing, strict=True)])
        except TypeError as error:
            raise UserError(f"{what} has values of an {error}: give the categories of fit") from None
        if (new := (code < 0) & ~missing).any():
            line = f"{what} has {new.sum()} value(s) that fit did not see, {values[new.argmax()]!r} first"
            warnings.warn(f"GAINImputer: {line}: they count as missing, and stay as they are", stacklevel=4)
        known = np.repeat((code >= 0)[:, None], self.cells, 1)
        return (code[:, None] == np.arange(self.cells)).astype(np.float32), known

    def decode(self, cells: np.ndarray) -> np.ndarray:
        """[n, k] probabilities -> the most probable values, object [n]."""
        return self.values[cells.argmax(1)]


@dataclass
class Empty:
    """A column without any observed value: it has no cell, and is filled with `value`."""

    value: Any
    cells: int = 0

    @classmethod
    def learn(cls, column: Any, is_category: bool) -> "Empty":
        """What is 0 in the column's dtype: 0, False, the first tick of 1970; "missing" for text."""
        dtype, types = column.dtype, pd.api.types
        if isinstance(dtype, pd.PeriodDtype):
            return cls(pd.Period(ordinal=0, freq=dtype.freq))
        if dtype.type is datetime.date:
            return cls(datetime.date(1970, 1, 1))
        if types.is_datetime64_any_dtype(dtype):
            return cls(pd.Timestamp(0, tz=column.dt.tz))
        if types.is_timedelta64_dtype(dtype) or dtype.kind == "m":
            return cls(pd.Timedelta(0))
        if types.is_bool_dtype(dtype):
            return cls(False)
        return cls("missing" if is_category or not types.is_numeric_dtype(dtype) else 0.0)

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.value, float):
            floats(column, missing, what)  # raises for infinities, as the other kinds of columns do
        return np.zeros((len(missing), 0), np.float32), np.zeros((len(missing), 0), bool)

    def decode(self, cells: np.ndarray) -> np.ndarray:
        return np.full(len(cells), self.value) if isinstance(self.value, float) else objects([self.value] * len(cells))


Kind = Numeric | Objects | Dates | Category | Empty


@dataclass
class Columns:
    """How each column of a table becomes cells. names: of the columns, for messages."""

    kinds: list[Kind]
    names: list[str]

    @property
    def groups(self) -> tuple[int, ...]:
        """The number of cells of each column that has any."""
        return tuple(kind.cells for kind in self.kinds if kind.cells)

    def encode(self, table: Sequence[Any], missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(cells [n, k] float32 in [0, 1], 0 where unknown; known [n, k]) of columns and where they
        are missing."""
        columns = zip(self.kinds, table, missing.T, self.names, strict=True)
        parts = [kind.encode(column, gone, name) for kind, column, gone, name in columns]
        cells, known = (np.concatenate(x, 1) for x in zip(*parts, strict=True))
        return np.where(known, cells, 0).astype(np.float32), known

    def decode(self, cells: np.ndarray) -> list[np.ndarray]:
        """[n, k] -> one array of values for each column."""
        ends = np.cumsum([kind.cells for kind in self.kinds])
        return [kind.decode(cells[:, end - kind.cells : end]) for kind, end in zip(self.kinds, ends, strict=True)]


def learn(table: Sequence[Any], missing: np.ndarray, names: list[str], categorical: Sequence[bool], rounding: int) -> Columns:
    """The columns of a table, from their dtypes and observed cells.

    categorical: which columns are categories whatever their dtype
    rounding:    columns of whole numbers with fewer different values get whole imputed ones
    """

    def kind(column: Any, gone: np.ndarray, name: str, is_category: bool) -> Kind:
        if gone.all():
            return Empty.learn(column, is_category)
        dtype = column.dtype
        present = np.asarray(column[~gone], object) if dtype.kind not in "fiu" else ()
        if is_category or isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
            return Category.learn(column, gone, name)
        if dtype.kind in "fiuc":
            return Numeric.learn(column, gone, name, rounding)
        if all(isinstance(v, numbers.Number) and not isinstance(v, (bool, np.bool_)) for v in present):
            numeric = Numeric.learn(column, gone, name, rounding)
            if all(isinstance(v, Decimal) for v in present):
                return Objects(numeric, max(max(0, -int(v.as_tuple().exponent)) for v in present))
            return Objects(numeric, None) if all(isinstance(v, (int, np.integer)) for v in present) else numeric
        if pd.api.types.infer_dtype(present) in DATES:
            return Dates.learn(column, gone, name)
        if all(isinstance(value, (str, bytes)) and is_number(value) for value in present):
            line = f"{name} is text that reads as numbers, and counts as categories: give numbers, or name it in `categorical`"
            warnings.warn(f"GAINImputer: {line}", stacklevel=4)
        return Category.learn(column, gone, name)

    return Columns(list(map(kind, table, missing.T, names, categorical)), names)
