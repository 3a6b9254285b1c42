"""What the user gives as a table, as columns, and the same with its missing cells filled in."""

import datetime
import warnings
from typing import Any

import numpy as np
import pandas as pd

from gan_jax.core.errors import UserError

TEXT_OF_MISSING = ("nan", "NaN", "None", "NaT", "<NA>")  # what NumPy makes of a missing value in an array of text


def is_pandas(X: Any) -> bool:
    return isinstance(X, pd.DataFrame)


def is_plain(X: Any) -> bool:
    """Whether X is an array, or a pandas table of plain numbers of one dtype: it comes back as an
    array, as from scikit-learn's imputers."""
    kinds = set(X.dtypes) if is_pandas(X) else ()
    return not is_pandas(X) or (len(kinds) == 1 and all(isinstance(d, np.dtype) and d.kind in "fiu" for d in kinds))


def prepared(X: Any) -> Any:
    """X as an array that lost nothing: the masked cells of a masked array are missing, lists that
    hold text keep the types of their values, and text that NumPy made of a missing value is missing
    again, with a warning."""
    if isinstance(X, np.ma.MaskedArray):
        return X.filled(np.nan) if X.dtype.kind == "f" else X.astype(object).filled(None)
    if isinstance(X, (list, tuple)):
        cells = [cell for row in X if isinstance(row, (list, tuple)) for cell in row]
        if any(isinstance(cell, (str, bytes, datetime.date, datetime.timedelta)) for cell in cells):
            return np.array(X, object)
    if isinstance(X, np.ndarray) and X.dtype.kind == "U" and (gone := np.isin(X, TEXT_OF_MISSING)).any():
        line = f"{gone.sum()} cells of an array of text are {X[gone][0]!r}: they count as missing (give an array of objects)"
        warnings.warn(f"GAINImputer: {line}", stacklevel=4)
        return np.where(gone, None, X.astype(object))
    return X


def columns_of(X: Any) -> tuple[list[pd.Series], np.ndarray]:
    """(columns, where they are missing [n, d]) of a pandas table, or of an array [n, d]."""
    if is_pandas(X):
        table = [X.iloc[:, j] for j in range(X.shape[1])]
        table = [column.sparse.to_dense() if isinstance(column.dtype, pd.SparseDtype) else column for column in table]
    else:
        table = [pd.Series(column, dtype=object if column.dtype.kind in "OUS" else None) for column in np.asarray(X).T]
    missing = np.stack([pd.isna(np.asarray(column)) for column in table], 1)  # NaN, None, NA and NaT
    if not is_pandas(X):  # an empty column of objects has no type: it counts as numbers
        table = [pd.Series(np.nan, column.index) if missing[:, j].all() else column for j, column in enumerate(table)]
    return table, missing


def chosen(which: Any, X: Any, what: str) -> list[bool]:
    """Which columns of X are named by `which`: one name, names, or a mask of bools; in an array, and
    in a table that has no other integer as a label than its positions, also positions.

    Raises UserError for what is no column.
    """
    labels = list(X.columns) if is_pandas(X) else list(range(X.shape[1]))
    by_position = not any(isinstance(label, (int, np.integer)) for label in labels) or labels == list(range(len(labels)))
    given = [which] if isinstance(which, str) else list(which)
    if given and all(isinstance(each, (bool, np.bool_)) for each in given):
        if len(given) != len(labels):
            raise UserError(f"{what} is a mask of {len(given)} columns, and the table has {len(labels)}: give one for each")
        return [bool(each) for each in given]
    out = [False] * len(labels)
    for each in given:
        places = [j for j, label in enumerate(labels) if label is each or (type(label) is type(each) and label == each)]
        if not places and by_position and isinstance(each, (int, np.integer)) and -len(labels) <= each < len(labels):
            places = [int(each)]
        if not places:
            raise UserError(f"{what} names {each!r}, which is no column: give names or indices")
        for j in places:
            out[j] = True
    return out


def filled(X: Any, missing: np.ndarray, values: list[np.ndarray], learned: list[Any], plain: bool) -> Any:
    """A copy of X with `values`, one array for each column, in its missing cells.

    learned: the columns' dtypes in fit, which a column without a value takes where its own cannot
             hold what is filled in
    plain:   whether the table of fit was plain: then a plain X gives an array
    """
    if not is_pandas(X):
        return _filled_array(X, missing, values)
    if plain and is_plain(X):
        return _filled_array(X.to_numpy(), missing, values)
    out = X.copy()
    for j, column in enumerate(values):
        if missing[:, j].any():
            out.isetitem(j, _filled_series(X.iloc[:, j], missing[:, j], column[missing[:, j]], learned[j]))
    return out


def _filled_array(X: np.ndarray, missing: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    out = np.array(X)
    for j, column in enumerate(values):
        fill = column[missing[:, j]]
        if out.dtype.kind in "Mm" and len(fill):
            fill = pd.Series(list(fill)).to_numpy()
        elif out.dtype.kind == "f" and not all(isinstance(v, (int, float, np.number, np.bool_)) for v in fill):
            out = out.astype(object)  # text is filled in
        elif out.dtype.kind == "f" and (np.abs(fill.astype(np.float64)) > np.finfo(out.dtype).max).any():
            out = out.astype(np.float64)
        out[missing[:, j], j] = fill
    return out


def _filled_series(series: Any, missing: np.ndarray, values: np.ndarray, learned: Any) -> Any:
    """A pandas column with `values` in its missing places, in its own dtype where that can hold
    them, otherwise in that of fit or in one of objects."""
    if isinstance(series.dtype, pd.SparseDtype):
        return _filled_series(series.sparse.to_dense(), missing, values, learned).astype(series.dtype)
    if isinstance(series.dtype, pd.CategoricalDtype) and not set(values) <= set(series.cat.categories):
        if isinstance(learned, pd.CategoricalDtype) and set(series.cat.categories) | set(values) <= set(learned.categories):
            series = series.astype(learned)
        else:
            series = series.cat.add_categories(sorted(set(values) - set(series.cat.categories)))
    for dtype in (series.dtype, learned if missing.all() else object, object):
        try:
            out = series.astype(dtype)
            fill = np.rint(values.astype(np.float64)) if out.dtype.kind in "iu" else values
            plain = isinstance(out.dtype, np.dtype) and out.dtype.kind in "fiu"
            out[missing] = fill.astype(out.dtype) if plain else fill
        except (TypeError, ValueError, OverflowError):
            continue
        if out.dtype == dtype:
            return out
    raise AssertionError("a column of objects holds anything")
