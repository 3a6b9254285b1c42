"""Columns of numbers and of dates as cells in [0, 1], and back."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from gan_jax.core.errors import UserError

HEAVY = 10.0  # a range of more than so many times the middle half of the different values has heavy tails
DATES = {"datetime64": "datetime", "datetime": "datetime", "date": "datetime", "timedelta64": "timedelta"}
DATES |= {"timedelta": "timedelta", "period": "period"}  # pandas' names of the values, and what they are here


def floats(column: Any, missing: np.ndarray, what: str) -> np.ndarray:
    """A column as float64 [n], with NaN where it is missing. Raises UserError for an infinity, a
    date, a complex number, or a string that is no number, and TypeError for another object."""
    column = np.asarray(column)
    values = np.full(len(column), np.nan)
    if column.dtype.kind in "Mmc" and not missing.all():
        row = int(np.argmin(missing))
        raise UserError(f"{what} has {column[row]} in row {row}, where numbers are wanted: give numbers, or leave it out")
    try:
        values[~missing] = column[~missing].astype(np.float64)
    except (TypeError, ValueError):
        row = next(row for row in np.flatnonzero(~missing) if not is_number(column[row]))
        kind = UserError if isinstance(column[row], (str, bytes)) else TypeError
        line = f"{what} has {column[row]!r} in row {row}, where numbers are wanted: give a number, or NaN where it is missing"
        raise kind(line) from None
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise UserError(f"{what} is infinity in row {row}: put a number there, or NaN where it is missing")
    return values


def is_number(value: Any) -> bool:
    """Whether float() takes the value."""
    try:
        return float(value) is not None
    except (TypeError, ValueError):
        return False


@dataclass
class Numeric:
    """A column of numbers: the observed range [low, high] is mapped to [0, 1] and bounds imputed
    values.

    A value farther outside than the range is wide counts as that far outside.

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
        ends = float(present.min()), float(present.max()), bool(few and (different == np.rint(different)).all())
        return Ranks(*ends, 1, *ranks(present)) if heavy_tailed(different) else cls(*ends)

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        """(cells [n, 1] float32, which are known [n, 1]). Halves are subtracted, because the range
        of extreme floats is not finite."""
        values = np.where(missing, self.low, floats(column, missing, what))
        half = self.high / 2 - self.low / 2
        cells = np.clip((values / 2 - self.low / 2) / (half if half > 0 else 1.0), -1.0, 2.0)
        return cells[:, None].astype(np.float32), ~missing[:, None]

    def decode(self, cells: np.ndarray) -> np.ndarray:
        """[n, 1] -> float64 [n] in [low, high]."""
        cells = cells[:, 0].astype(np.float64)
        values = np.clip(self.low * (1 - cells) + self.high * cells, self.low, self.high)
        return np.rint(values) if self.whole else values


def heavy_tailed(different: np.ndarray) -> bool:
    """Whether the middle half of the different values [k], ascending, takes less than a share
    1 / HEAVY of their range, so that min-max scaling would press them into one place."""
    low, high = different[[-(-len(different) // 4) - 1, -(-3 * len(different) // 4) - 1]] / 2  # halves, as in `encode`
    return bool((different[-1] / 2 - different[0] / 2) / HEAVY > high - low)


def ranks(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the different values, ascending; the middle of the ranks of each, scaled to [0, 1])."""
    different, counts = np.unique(present, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return different, (middle - middle[0]) / (middle[-1] - middle[0])


@dataclass
class Ranks(Numeric):
    """A column of numbers with heavy tails: a value's place among the observed values, in [0, 1].

    Imputed values are observed ones, those of the nearest place; a place beyond an end is reflected
    at it, so that draws do not gather there.
    """

    values: np.ndarray = None  # type: ignore[assignment]
    places: np.ndarray = None  # type: ignore[assignment]

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        values = np.where(missing, self.low, floats(column, missing, what))
        return np.interp(values, self.values, self.places)[:, None].astype(np.float32), ~missing[:, None]

    def decode(self, cells: np.ndarray) -> np.ndarray:
        place = np.clip(1 - np.abs(1 - np.abs(cells[:, 0].astype(np.float64))), 0, 1)
        return self.values[np.searchsorted((self.places[1:] + self.places[:-1]) / 2, place)]


@dataclass
class Objects:
    """A column of Python's whole numbers or of Decimals: imputed values are of that type too, with
    at most as many decimals as were observed."""

    numeric: Numeric
    decimals: int | None  # None for whole numbers
    cells: int = 1

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        return self.numeric.encode(column, missing, what)

    def decode(self, cells: np.ndarray) -> np.ndarray:
        values = self.numeric.decode(cells).tolist()
        if self.decimals is None:
            return objects([round(v) for v in values])
        return objects([round(Decimal(v), self.decimals) for v in values])


def objects(values: Any) -> np.ndarray:
    """An object array [n] of the values themselves."""
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


@dataclass
class Dates:
    """A column of dates, time spans or periods: whole ticks since the first observed one.

    Imputed ones lie in the observed range. They are whole days, hours, minutes, ... since the first
    if all observed ones are.

    numeric: the ticks since the first as numbers
    first:   the index of the first alone, which keeps the unit, the time zone and the frequency
    """

    numeric: Numeric
    kind: str  # "datetime", "timedelta" or "period"
    first: Any
    grain: int
    plain: bool  # Python's dates without a time
    cells: int = 1

    @classmethod
    def learn(cls, column: Any, missing: np.ndarray, what: str) -> "Dates":
        kind, index = _index(column, missing, what)
        ticks = index.asi8 - index.asi8.min()
        grain = 1
        if kind != "period":
            one = np.timedelta64(1, index.unit)
            sizes = [int(np.timedelta64(1, unit) // one) for unit in ("D", "h", "m", "s", "ms", "us")]
            grain = next((size for size in sizes if size > 1 and not (ticks % size).any()), 1)
        plain = pd.api.types.infer_dtype(np.asarray(column[~missing], object)) == "date"
        numeric = Numeric.learn(ticks, np.zeros(len(ticks), bool), what, 0)
        return cls(numeric, kind, index[[int(index.asi8.argmin())]], grain, plain)

    def encode(self, column: Any, missing: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        ticks = np.zeros(len(missing))
        if not missing.all():
            kind, index = _index(column, missing, what)
            if kind != self.kind:
                raise UserError(f"{what} has {index[0]!r}, a {kind}, and had a {self.kind} in fit: give that, or NaT")
            ticks[~missing] = (self._alike(index, what).asi8 - self.first.asi8[0]).astype(np.float64)
        return self.numeric.encode(ticks, missing, what)

    def _alike(self, index: Any, what: str) -> Any:
        """The index in the unit, or in the frequency, of fit."""
        try:
            return index.asfreq(self.first.freq) if self.kind == "period" else index.as_unit(self.first.unit)
        except ValueError as error:
            raise UserError(f"{what}: {str(error).splitlines()[0]}: give what fit had, {self.first.dtype}") from None

    def decode(self, cells: np.ndarray) -> np.ndarray:
        since = np.rint(self.numeric.decode(cells) / self.grain).astype(np.int64) * self.grain
        ticks = self.first.asi8[0] + np.clip(since, 0, int(self.numeric.high))
        if self.kind == "period":
            return objects(pd.PeriodIndex.from_ordinals(ticks, freq=self.first.freq))
        if self.kind == "timedelta":
            return objects(pd.TimedeltaIndex(ticks.view(f"m8[{self.first.unit}]")))
        index = pd.DatetimeIndex(ticks.view(f"M8[{self.first.unit}]"))
        index = index if self.first.tz is None else index.tz_localize("UTC").tz_convert(self.first.tz)
        return objects([t.date() for t in index] if self.plain else index)


def _index(column: Any, missing: np.ndarray, what: str) -> tuple[str, Any]:
    """(a value of DATES, the index of the observed values). Raises UserError where they are no
    dates, or none that pandas can hold together."""
    present = np.asarray(column, object)[~missing]
    kind = DATES.get(pd.api.types.infer_dtype(present))
    if kind is None:
        raise UserError(f"{what} has {present[0]!r}, and dates in fit: give dates, or NaT where they are missing")
    try:
        return kind, {"datetime": pd.to_datetime, "timedelta": pd.to_timedelta, "period": pd.PeriodIndex}[kind](present)
    except (ValueError, TypeError) as error:
        raise UserError(f"{what}: {str(error).splitlines()[0]}: give dates of one time zone or frequency") from None
