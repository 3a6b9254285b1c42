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
        out = np.array(X.data, X.dtype if X.dtype.kind == "f" else object)
        out[np.ma.getmaskarray(X)] = np.nan if X.dtype.kind == "f" else None
        return out
    if isinstance(X, (list, tuple)):
        cells = [cell for row in X if isinstance(row, (list, tuple)) for cell in row]
        if any(isinstance(cell, (str, bytes, datetime.date, datetime.timedelta)) for cell in cells):
            return np.array(X, object)
    if isinstance(X, np.ndarray) and X.dtype.kind == "U" and (gone := np.isin(X, TEXT_OF_MISSING)).any():
        line = f"{gone.sum()} cell(s) of an array of text say {str(X[gone][0])!r}: they count as missing"
        warnings.warn(f"GAINImputer: {line} (an array of objects keeps the types)", stacklevel=4)
        X = X.astype(object)
        X[gone] = None
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
    """Which columns of X are named by `which`: one name, names, or a mask of bools; also positions,
    but in a table that has integers as labels, unless they are its positions.

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

    learned: the columns' dtypes in fit
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
    them, otherwise in that of fit or in one of objects. A column of floats or objects without a
    value says nothing of its type, and takes that of fit unless it is one of plain numbers."""
    if isinstance(series.dtype, pd.SparseDtype):
        return _filled_series(series.sparse.to_dense(), missing, values, learned).astype(series.dtype)
    if isinstance(series.dtype, pd.CategoricalDtype) and not set(values) <= set(series.cat.categories):
        if isinstance(learned, pd.CategoricalDtype) and set(series.cat.categories) | set(values) <= set(learned.categories):
            series = series.astype(learned)
        else:
            series = series.cat.add_categories(sorted(set(values) - set(series.cat.categories)))
    own, numeric = series.dtype, pd.api.types.is_numeric_dtype
    fits = missing.all() or (numeric(own) and learned.kind == "f")
    untyped = missing.all() and own in (np.float64, object) and not (isinstance(learned, np.dtype) and learned.kind in "fiu")
    for dtype in (learned if untyped else own, learned if fits else object, object):
        try:
            out = series.astype(dtype)
            fill = np.rint(values.astype(np.float64)) if out.dtype.kind in "iu" else values
            if isinstance(out.dtype, np.dtype) and out.dtype.kind in "fiu":
                with np.errstate(over="raise"):
                    fill = fill.astype(out.dtype)
            out[missing] = fill
        except (TypeError, ValueError, OverflowError, FloatingPointError):
            continue
        if out.dtype == dtype:
            return out
    raise UserError(f"a column of {own} cannot be filled with {values[0]!r}: give it as objects")
