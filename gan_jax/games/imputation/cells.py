"""Examples with missing values, and the errors of their imputation.

An example is [2, ...]: the values, in [0, 1], and the mask of those that were observed
(`data.missing.incomplete` makes such splits). Where the feed has a mask, an example is the values
alone. A value that was not observed enters no loss, and may be NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gan_jax.core.bind import Bound
from gan_jax.core.errors import UserError


def cells_of(images: Array, mask: Array | None = None) -> tuple[Float[Array, "b d"], Bool[Array, "b d"]]:
    """(values, observed), flat, of examples [b, 2, ...], or of values [b, ...] and their mask."""
    flat = lambda x: x.reshape(len(x), -1)
    if mask is None:
        return flat(images[:, 0]), flat(images[:, 1]) > 0.5
    return flat(images), flat(mask) > 0.5


def groups_of(what: str, features: int | tuple[int, ...]) -> tuple[int, ...]:
    """The number of cells of each column. features: that tuple, or a number of columns of one cell
    each. Raises UserError where a column has no cell."""
    groups = (1,) * features if isinstance(features, int) else tuple(int(k) for k in features)
    if not groups or min(groups) < 1:
        raise UserError(f"{what}: features is {features!r}: give the number of cells, or that of each column, all at least 1")
    return groups


def check_shares(what: str, knobs: Any, *names: str) -> None:
    """Raises UserError where one of these numbers is above 1."""
    for name in names:
        value = getattr(knobs, name)
        if not isinstance(value, Bound) and np.any(np.asarray(value) > 1):
            raise UserError(f"{what}: {name} is {float(np.max(value)):g}: it is a share, give a number in [0, 1]")


def of_columns(groups: tuple[int, ...], values: Array) -> Array:
    """[b, columns] -> [b, cells]: every cell of a column has the column's value."""
    return values[:, np.repeat(np.arange(len(groups)), groups)]


def rmse(errors: Array, where: Array) -> Array:
    """The root mean square over the chosen cells; NaN where there are none."""
    return jnp.sqrt((jnp.where(where, errors, 0) ** 2).sum() / where.sum())


def errors_of(answer: Callable[[Array, Array], Array], train: tuple, validation: tuple, dtype: Any) -> dict[str, Array]:
    """RMSE of answer(values [n, d], observed [n, d]) -> [n, d] on training and held-out rows.

    train, validation: (examples [n, 2, ...], labels)

    For each: `rmse` over cells that were hidden although their values are known, and
              `observed_rmse` over
    cells that were seen, both in the scale of the data. rmse_gap is the held-out rmse minus the
    training
    rmse: above 0, hidden cells of training rows are filled in better than those of new rows, which
          is
    overfitting.
    """
    row = {}
    for name, (images, _) in {"train": train, "validation": validation}.items():
        values, mask = cells_of(images.astype(dtype))
        known = jnp.isfinite(values)
        errors = answer(values, mask) - jnp.where(known, values, 0)
        row |= {f"G/{name}_rmse": rmse(errors, known & ~mask), f"G/{name}_observed_rmse": rmse(errors, mask)}
    return row | {"G/rmse_gap": row["G/validation_rmse"] - row["G/train_rmse"]}


def check_cells(what: str, cells: int, data: Any) -> None:
    """Raises UserError where the data are not examples of values and mask with so many cells."""
    shape = tuple(data.image_shape)
    if len(shape) < 2 or shape[0] != 2:
        raise UserError(f"{data.name} has examples {shape}: {what} wants values and mask, (2, ...): data.missing.incomplete")
    if np.prod(shape[1:]) != cells:
        raise UserError(f"{data.name} has {np.prod(shape[1:])} cells an example, the {what} {cells}: give it as many")
