from __future__ import annotations

from typing import Any

import numpy as np

from gan_jax.core.errors import UserError


def check_features(x: Any, what: str, least: int = 2) -> np.ndarray:
    """`x` as float64 [n, d], n >= `least`. `what` names it in messages, such as "the generated
    features".

    Raises UserError where it has another shape, too few rows, or something that is not finite
    (naming the first such row).
    """
    x = np.asarray(x)
    if x.ndim != 2 or not x.shape[1] or x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
        raise UserError(f"{what}: expected numbers [n, d], not {x.dtype} {list(x.shape)}")
    if len(x) < least:
        raise UserError(f"{what}: {len(x)} rows, but at least {least} are needed")
    x = x.astype(np.float64, copy=False)
    if not np.isfinite(x).all():
        raise UserError(f"{what}: row {int(np.flatnonzero(~np.isfinite(x).all(1))[0])} is not finite: check where it was made")
    return x


def check_two(x: Any, y: Any, what: str, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features of one width, as `check_features`; `what` wants them."""
    x, y = check_features(x, f"{what}: the first set", least), check_features(y, f"{what}: the second set", least)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"{what}: the sets have {x.shape[1]} and {y.shape[1]} features: they must come from one extractor")
    return x, y
