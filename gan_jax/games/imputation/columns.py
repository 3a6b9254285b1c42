"""Mixed tables as rows of cells in [0, 1], and back.

A number is one cell, min-max scaled; a category of k values is k cells, one-hot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError

MOST_CATEGORIES = 1000  # a column of more values holds identities, not categories


def is_missing(column: Any) -> np.ndarray:
    """[n]: where a column has NaN, None, pandas' NA or NaT."""
    import pandas as pd

    return pd.isna(column if isinstance(column, np.ndarray) else np.asarray(column, object))


def floats(column: Any, missing: np.ndarray, what: str) -> np.ndarray:
    """A column as float64 [n], with NaN where it is missing. Raises UserError for an infinity or a
    string that is no number, and TypeError for another object."""
    column = np.asarray(column)
    values = np.full(len(column), np.nan)
    try:
        values[~missing] = column[~missing].astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else UserError
        raise kind(f"{what}: {error}") from None
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise UserError(f"{what} is infinity in row {row}: put a number there, or NaN where it is missing")
    return values


@dataclass
class Numeric:
    """A column of numbers: the observed range [low, high] is mapped to [0, 1] and bounds imputed
    values.

    whole: whether imputed values are rounded, as in the authors' code for columns of few different
           values
    """

    low: float
    high: float
    whole: bool = False
    cells: int = 1

    @classmethod
    def learn(cls, column: Any, missing: np.ndarray, what: str, rounding: int) -> "Numeric":
        present = floats(column, missing, what)[~missing]
        few = len(different := np.unique(present)) < rounding
        return cls(float(present.min()), float(present.max()), bool(few and (different == np.rint(different)).all()))

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """(cells [n, 1] float32, which are known [n, 1]). Halves are subtracted, because the range
        of extreme floats is not finite."""
        values = np.where(missing, self.low, floats(column, missing, what))
        half = self.high / 2 - self.low / 2
        cells = np.clip((values / 2 - self.low / 2) / (half if half > 0 else 1.0), -1e6, 1e6)
        return cells[:, None].astype(np.float32), ~missing[:, None]

    def decode(self, cells: np.ndarray) -> np.ndarray:
        """[n, 1] -> float64 [n] in [low, high]."""
        cells = cells[:, 0].astype(np.float64)
        values = np.clip(self.low * (1 - cells) + self.high * cells, self.low, self.high)
        return np.rint(values) if self.whole else values


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
        seen = dict.fromkeys(np.asarray(column, object)[~missing])
        try:
            ordered = sorted(seen)
        except TypeError:
            ordered = sorted(seen, key=lambda v: (type(v).__name__, str(v)))
        if len(ordered) > MOST_CATEGORIES:
            raise UserError(f"{what} has {len(ordered)} different values: too many for a category, leave the column out")
        values = np.empty(len(ordered), object)
        values[:] = ordered
        return cls(values)

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """(one-hot cells [n, k] float32, for each of them whether its row is known [n, k])."""
        place = {value: i for i, value in enumerate(self.values)}
        code = np.array([-1 if gone else place.get(v, -1) for v, gone in zip(np.asarray(column, object), missing, strict=True)])
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

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(self.value, str):
            floats(column, missing, what)  # raises for infinities, as the other kinds of columns do
        return np.zeros((len(missing), 0), np.float32), np.zeros((len(missing), 0), bool)

    def decode(self, cells: np.ndarray) -> np.ndarray:
        return np.full(len(cells), self.value, object if isinstance(self.value, str) else np.float64)


@dataclass
class Columns:
    """How each column of a table becomes cells. names: of the columns, for messages."""

    kinds: list[Numeric | Category | Empty]
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
    """The columns of a table, from its observed cells. A column without observed cells is filled
    with 0, or with "missing" if it is categorical."""

    def kind(column: Any, gone: np.ndarray, name: str, is_category: bool) -> Numeric | Category | Empty:
        if gone.all():
            return Empty("missing" if is_category else 0.0)
        return Category.learn(column, gone, name) if is_category else Numeric.learn(column, gone, name, rounding)

    return Columns(list(map(kind, table, missing.T, names, categorical)), names)
