"""Examples with missing values, as every game of imputation takes them, and how far its answers are
off.

An example is [2, ...]: the values, in [0, 1], and which of them were observed
(`data.missing.incomplete` makes such splits); or the values alone, where the feed has a mask. A
value that was not observed enters no loss, and may be NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gan_jax.core.errors import UserError


def cells_of(images: Array, mask: Array | None = None) -> tuple[Float[Array, "b d"], Bool[Array, "b d"]]:
    """(values, observed) of examples [b, 2, ...], or of values [b, ...] with their mask; flat."""
    flat = lambda x: x.reshape(len(x), -1)
    if mask is None:
        return flat(images[:, 0]), flat(images[:, 1]) > 0.5
    return flat(images), flat(mask) > 0.5


def groups_of(what: str, features: int | tuple[int, ...]) -> tuple[int, ...]:
    """Cells of each column: of so many numbers, or as they are. Raises UserError where a column has
    none."""
    groups = (1,) * features if isinstance(features, int) else tuple(int(k) for k in features)
    if not groups or min(groups) < 1:
        raise UserError(f"{what}: features is {features!r}: give the number of cells, or that of each column, all at least 1")
    return groups


def of_columns(groups: tuple[int, ...], values: Array) -> Array:
    """[b, columns] -> [b, cells]: the cells of a column go together."""
    return values[:, np.repeat(np.arange(len(groups)), groups)]


def rmse(errors: Array, where: Array) -> Array:
    """The root of the mean square over the chosen cells; NaN where there are none."""
    return jnp.sqrt((jnp.where(where, errors, 0) ** 2).sum() / where.sum())


def errors_of(answer: Callable[[Array, Array], Array], train: tuple, validation: tuple, dtype: Any) -> dict[str, Array]:
    """RMSE of answer(values [n, d], observed [n, d]) -> [n, d], in the scale of the data, on
    training and held-out rows.

    train, validation: (examples [n, 2, ...], labels). rmse: cells hidden from the loss, where their
        values are known;
    observed_rmse: cells that were seen (its autoencoding); rmse_gap: held-out rows' rmse - training
        rows'. A positive gap is
    overfitting: hidden cells of rows that were trained on are filled better than those of new rows.
    """
    row = {}
    for name, (images, _) in {"train": train, "validation": validation}.items():
        values, mask = cells_of(images.astype(dtype))
        known = jnp.isfinite(values)
        errors = answer(values, mask) - jnp.where(known, values, 0)
        row |= {f"G/{name}_rmse": rmse(errors, known & ~mask), f"G/{name}_observed_rmse": rmse(errors, mask)}
    return row | {"G/rmse_gap": row["G/validation_rmse"] - row["G/train_rmse"]}


def check_cells(what: str, cells: int, data: Any) -> None:
    """Raises UserError where the data are not examples of values and mask, or of another number of
    cells."""
    shape = tuple(data.image_shape)
    if len(shape) < 2 or shape[0] != 2:
        raise UserError(f"{data.name} has examples {shape}: {what} wants values and mask, (2, ...): data.missing.incomplete")
    if np.prod(shape[1:]) != cells:
        raise UserError(f"{data.name} has {np.prod(shape[1:])} cells an example, the {what} {cells}: give it as many")
