"""What the imputation games share: examples with missing values, a network for their cells, the
checks of a recipe, and the errors of an imputation.

An example is [2, ...]: the values, in [0, 1], and the mask of those that were observed
(`data.missing.incomplete` makes such splits). Where the feed has a mask, an example is the values
alone. A value that was not observed enters no loss, and may be NaN.

The cells of an example are its numbers, flat. In a mixed table a number is a column of one cell,
and a category of k values is a column of k cells, one-hot.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gan_jax.arguments import count
from gan_jax.core.bind import Bound, resolve
from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws
from gan_jax.data.splits import Splits
from gan_jax.games.common import Knobs
from gan_jax.networks.initializers import he


def cells_of(images: Array, mask: Array | None = None) -> tuple[Float[Array, "b d"], Bool[Array, "b d"]]:
    """(values, observed), flat, of examples [b, 2, ...], or of values [b, ...] and their mask."""
    flat = lambda x: x.reshape(len(x), -1)
    if mask is None:
        return flat(images[:, 0]), flat(images[:, 1]) > 0.5
    return flat(images), flat(mask) > 0.5


def of_columns(groups: tuple[int, ...], values: Array) -> Array:
    """[b, columns] -> [b, cells]: every cell of a column has the column's value."""
    return values[:, np.repeat(np.arange(len(groups)), groups)]


def shown_of(knobs: Any, mask: Bool[Array, "b k"], draws: Draws, dtype: Any = jnp.float32) -> Bool[Array, "b k"]:
    """The observed cells that a network sees in this step: a share `knobs.hide` of the columns of
    each row is hidden. dtype: of the draws."""
    kept = draws.named("hide").uniform((len(knobs.groups),), dtype) >= knobs.hide
    return mask & of_columns(knobs.groups, kept)


@part("imputation")
class Cells(nn.Module):
    """Rows [b, k] -> a value for each cell [b, features], by `depth` hidden layers of `width`
    ReLUs. Weights start as N(0, 2 / inputs).

    groups: the number of cells of each column of the table
    head:   "logits" returns logits. "columns" returns the sigmoid of a column of one cell, and the
            softmax of a column of several (a category, one-hot).
    """

    features: int
    width: int
    depth: int = 2
    groups: tuple[int, ...] = ()
    head: str = "logits"

    @nn.compact
    def __call__(self, x, labels, mode: Mode):
        layer = lambda k: nn.Dense(k, dtype=x.dtype, kernel_init=he)
        for _ in range(self.depth):
            x = nn.relu(layer(self.width)(x))
        logits = layer(self.features)(x)
        if self.head == "logits":
            return logits
        if max(self.groups, default=1) == 1:
            return nn.sigmoid(logits)
        parts = jnp.split(logits, np.cumsum(self.groups)[:-1], -1)
        return jnp.concatenate([nn.softmax(p) if p.shape[-1] > 1 else nn.sigmoid(p) for p in parts], -1)


class Imputing(Knobs):
    """The base of the recipes, with what the checks ask of them: `features`, the number of cells of
    an example, and these."""

    title = ""  # of the method, in messages
    shares: ClassVar[tuple[str, ...]] = ()  # numbers that lie in [0, 1]
    positive: ClassVar[tuple[str, ...]] = ()  # numbers that are above 0


K = TypeVar("K", bound=Imputing)


def groups_of(what: str, features: int | tuple[int, ...]) -> tuple[int, ...]:
    """The number of cells of each column. features: that tuple, or a number of columns of one cell
    each. Raises UserError where a column has no cell."""
    groups = (1,) * features if isinstance(features, int) else tuple(int(k) for k in features)
    if not groups or min(groups) < 1:
        raise UserError(f"{what}: features is {features!r}: give the number of cells, or that of each column, all at least 1")
    return groups


def check_sizes(what: str, fields: dict[str, Any], **sizes: Any) -> None:
    """Raises UserError for a size that is no integer of at least 1, of the sizes (where None is the
    default) and of the fields of a recipe."""
    given = {name: value for name, value in sizes.items() if value is not None}
    given |= {name: fields[name] for name in ("latent_dim", "draws", "d_steps", "batch_size") if name in fields}
    for name, value in given.items():
        count(value, f"{what}: {name}", least=1)


def checked(knobs: K) -> K:
    """The knobs themselves. Raises UserError for a number that is not finite or outside its
    range."""
    check_numbers(knobs)
    rules = [(name, lambda x: x > 1, "lie in [0, 1]") for name in knobs.shares]
    rules += [(name, lambda x: x <= 0, "be above 0") for name in knobs.positive]
    for name, outside, rule in rules:
        value = getattr(knobs, name)
        if not isinstance(value, Bound) and np.any(outside(np.asarray(value))):
            raise UserError(f"{knobs.title.lower()}: {name} is {float(np.max(value)):g}: it must {rule}")
    return knobs


def check(knobs: Any, data: Splits) -> None:
    """Raises UserError for a number out of its range, and for data whose examples are not values
    and mask with as many cells as the recipe has."""
    checked(knobs)
    shape = tuple(data.image_shape)
    if len(shape) < 2 or shape[0] != 2:
        raise UserError(
            f"{data.name} has examples {shape}: {knobs.title} wants values and mask, (2, ...): data.missing.incomplete"
        )
    if (cells := np.prod(shape[1:])) != knobs.features:
        raise UserError(f"{data.name} has {cells} cells an example, the {knobs.title} {knobs.features}: give it as many")


def errors_of(impute: Callable[..., Array], knobs: Any, state: Any, train: tuple, validation: tuple) -> dict[str, Array]:
    """RMSE of impute(knobs, averaged parameters, values [n, d], observed [n, d]) -> [n, d].

    train, validation: (examples [n, 2, ...], labels)
    Both sets have the `rmse` over cells that were hidden although their values are known, and the
    `observed_rmse` over cells that were seen, in the scale of the data; NaN where there are none. A
    held-out rmse above the training rmse, which is a positive rmse_gap, is overfitting.
    """
    resolved, row = resolve(knobs, state.step), {}
    rmse = lambda errors, where: jnp.sqrt((jnp.where(where, errors, 0) ** 2).sum() / where.sum())
    for name, (images, _) in {"train": train, "validation": validation}.items():
        values, mask = cells_of(images.astype(knobs.dtype))
        known = jnp.isfinite(values)
        errors = impute(resolved, state.ema["params"], values, mask) - jnp.where(known, values, 0)
        row |= {f"G/{name}_rmse": rmse(errors, known & ~mask), f"G/{name}_observed_rmse": rmse(errors, mask)}
    return row | {"G/rmse_gap": row["G/validation_rmse"] - row["G/train_rmse"]}
