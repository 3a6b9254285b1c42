"""Checks of the arrays that metrics are given; `what` names the array in the UserError."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError


def first_not_finite(x: np.ndarray) -> int | None:
    """The index of the first row of `x` [n] or [n, d] that is not finite; None if all are."""
    bad = ~np.isfinite(x)
    return int(np.flatnonzero(bad if x.ndim == 1 else bad.any(1))[0]) if bad.any() else None


def check_features(x: Any, what: str, least: int = 2) -> np.ndarray:
    """`x` as float64 [n, d], if that is its shape, n >= `least` and all rows are finite."""
    x = np.asarray(x)
    if x.ndim != 2 or not x.shape[1] or x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
        raise UserError(f"{what}: expected numbers [n, d], not {x.dtype} {list(x.shape)}")
    if len(x) < least:
        raise UserError(f"{what}: {len(x)} rows, but at least {least} are needed")
    x = x.astype(np.float64, copy=False)
    if (bad := first_not_finite(x)) is not None:
        raise UserError(f"{what}: row {bad} is not finite: check where it was made")
    return x


def check_two(x: Any, y: Any, what: str, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features of one width, each as `check_features` returns it."""
    x, y = check_features(x, f"{what}: the first set", least), check_features(y, f"{what}: the second set", least)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"{what}: the sets have {x.shape[1]} and {y.shape[1]} features: they must come from one extractor")
    return x, y


def finite_vector(values: ArrayLike, what: str, least: int = 1) -> np.ndarray:
    """`values` as float64 [n], if that is their shape, n >= `least` and all are finite."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise UserError(f"{what}: expected numbers of shape [n], not {list(array.shape)}: flatten them")
    if len(array) < least:
        raise UserError(f"{what}: there are {len(array)}, and at least {least} are needed")
    if (bad := first_not_finite(array)) is not None:
        raise UserError(f"{what}: number {bad} is {array[bad]}: leave it out, or find out why it is not finite")
    return array


def check_integers(values: ArrayLike, n: int, what: str) -> np.ndarray:
    """`values` as an array, if they are `n` integers."""
    array = np.asarray(values)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{what}: expected {n} integers, not {array.dtype} {list(array.shape)}")
    return array
