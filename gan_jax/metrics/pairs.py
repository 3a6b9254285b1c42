"""All pairs of two feature sets, once: every neighbour and kernel number follows from one pass
within a set or between two.

A pass makes the products x.y in float64, a block of rows at a time, and keeps what the numbers
need: nearest neighbours, radii, how many balls a point is in, and sums of the KID kernel. Its cost
is n m d multiply-adds; its temporaries are a few [512, m].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Int64

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_features, check_two
from gan_jax.metrics.distances import NARROW

ROWS = 512  # of x at a time; sizes are rounded up to it, so that sets of about one size share a compiled program


DOUBT = 1e-12  # of the squared size of the features: squared distances nearer than this are compared anew, by differences


PAIRS = 2**24  # numbers at a time in such a comparison


@dataclass(frozen=True, eq=False)
class SelfPairs:
    """What the pairs of different examples of one set x say.

    n, k:           the set's size, and which neighbour `radius` is of
    distance [n]:   Euclidean, of each example to the nearest other one; `index` [n] is that one
    radius [n]:     of each example to its k-th nearest other one
    kernel_sum:     sum of (x_i.x_j / d + 1)^3 over i != j; `kernel_rows` [n] has its rows,
                    `kernel_squares` the sum of squares
    """

    n: int
    k: int
    distance: Float64[np.ndarray, "n"]
    index: Int64[np.ndarray, "n"]
    radius: Float64[np.ndarray, "n"]
    kernel_sum: float
    kernel_squares: float
    kernel_rows: Float64[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class CrossPairs:
    """What the pairs of an example of x and one of y say.

    n, m, strict:          the sizes of x and y, and whether a ball is open (`<`) or closed (`<=`)
    forward_distance [n]:  of each x to the nearest y, whose index is `forward_index` [n];
                           `backward_...` [m] is of y to x
    in_y_balls [n]:        how many y have x in the ball of their radius (improved precision,
                           density)
    in_x_balls [m]:        how many x have y in theirs (improved recall)
    kernel_rows [n]:       sums over y of (x.y / d + 1)^3; `kernel_columns` [m] over x,
                           `kernel_squares` of squares over all
    """

    n: int
    m: int
    strict: bool
    forward_distance: Float64[np.ndarray, "n"]
    forward_index: Int64[np.ndarray, "n"]
    backward_distance: Float64[np.ndarray, "m"]
    backward_index: Int64[np.ndarray, "m"]
    in_y_balls: Int64[np.ndarray, "n"]
    in_x_balls: Int64[np.ndarray, "m"]
    kernel_rows: Float64[np.ndarray, "n"]
    kernel_columns: Float64[np.ndarray, "m"]
    kernel_squares: float

    def swapped(self) -> CrossPairs:
        """The same pairs, of y against x."""
        return CrossPairs(
            self.m, self.n, self.strict, self.backward_distance, self.backward_index, self.forward_distance,
            self.forward_index, self.in_x_balls, self.in_y_balls, self.kernel_columns, self.kernel_rows, self.kernel_squares,
        )  # fmt: skip


def check_fit(what: str, n: int, m: int, wx: SelfPairs | None, wy: SelfPairs | None) -> None:
    """Raises UserError where the passes within x and y are not of the n and m examples of a pass
    between; `what` wants them."""
    for w, size, name in ((wx, n, "first"), (wy, m, "second")):
        if w is not None and w.n != size:
            raise UserError(
                f"{what}: the {name} set has {w.n} examples, but {size} in the pairs of both: is their order right?"
            )


def self_pairs(x: Any, k: int = 5) -> SelfPairs:
    """The pass over x [n, d] against itself, without the pairs of an example with itself.

    Distances are those of differences in float64, so that a duplicate is at exactly 0. Which
    neighbour is nearest is found by products around the mean of x (by differences, with up to 16
    features), so that rounding decides which one is named of several at one distance, to about 1e-6
    of |x|.
    Cost: n^2 d multiply-adds: 10,000 examples of 2,048 features take some 5 s on two CPU cores and
        1 GiB.
    Raises UserError where x is no features or has fewer than k + 1 rows.
    """
    if k < 1:
        raise UserError(f"k is {k}: the neighbour that a radius reaches to is the first or a later one")
    x = check_features(x, f"features with a neighbour {k}", k + 1)
    n, parts = len(x), []
    with jax.enable_x64(True):
        side = _side(x, _middle(x))
        for first in range(0, n, ROWS):
            parts.append([np.asarray(a) for a in _self_block(first, n, side, k)])
    near, far, rows, squares = (np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i in range(4))
    near, far, rows = near[:n], far[:n], rows[:n]
    every = np.arange(n)
    radius = apart(x, every, x, far)
    distance = np.minimum(apart(x, every, x, near), radius)
    return SelfPairs(n, k, distance, near, radius, float(rows.sum()), float(squares.sum()), rows)


def cross_pairs(x: Any, y: Any, wx: SelfPairs | None = None, wy: SelfPairs | None = None, strict: bool = True) -> CrossPairs:
    """The pass over x [n, d] against y [m, d]; wx and wy are their `self_pairs`, for the balls.
    Without one there are no balls.

    strict: whether a point at exactly the radius is outside the ball, as in prdc (Naeem et al.,
    2020), or inside, as in torch-fidelity. They differ on duplicates and on copies alone. With `<`,
    more than k alike examples have balls of radius 0 that hold nothing, not even each other: a set
    of such has recall 0. With `<=`, the k-th neighbour counts, too: the density of a copy is (k +
    1) / k, where `<` has 1. Comparisons that rounding could decide are made again by differences.
    Distances and cost: as `self_pairs`, n m d multiply-adds. Raises UserError where the sets are no
    features of one width.
    """
    x, y = check_two(x, y, "pairs", 1)
    n, m = len(x), len(y)
    check_fit("pairs", n, m, wx, wy)
    x_radius, y_radius = (np.full(size, -1.0) if w is None else w.radius for w, size in ((wx, n), (wy, m)))
    sums = [np.zeros(m), np.zeros(m, np.int64), np.full(m, np.inf), np.zeros(m, np.int64)]
    parts: list[tuple] = []
    with jax.enable_x64(True):
        middle = _middle(y)
        rows, columns = _side(x, middle), _side(y, middle)
        scale = 0.0 if x.shape[1] <= NARROW else float(rows.square.max() + columns.square.max())
        x_limits, y_limits = _limits(x_radius, scale), _limits(y_radius, scale)
        for first in range(0, n, ROWS):
            here, there, balls, doubts = _cross_block(first, n, m, rows, columns, x_limits, y_limits)
            in_y, in_x = (np.array(a) for a in balls)
            _settle(in_y, in_x, doubts, first, (x, y), (x_radius, y_radius), strict)
            parts.append((*(np.asarray(a) for a in here), in_y))
            squared, nearest, kernel = (np.asarray(a)[:m] for a in there)
            sums = [
                sums[0] + kernel,
                sums[1] + in_x[:m],
                np.minimum(sums[2], squared),
                np.where(squared < sums[2], nearest, sums[3]),
            ]
    forward, kernel_rows, squares, in_y = (np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i in range(4))
    kernel_columns, in_x, _, backward = sums
    return CrossPairs(
        n, m, strict, apart(x, np.arange(n), y, forward[:n]), forward[:n], apart(y, np.arange(m), x, backward), backward,
        in_y[:n], in_x, kernel_rows[:n], kernel_columns, float(squares.sum()),
    )  # fmt: skip


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in float64, by XLA: twice as fast as NumPy's on two CPU cores."""
    with jax.enable_x64(True):
        return np.array(jnp.dot(a, b, precision="highest"))


def apart(x: np.ndarray, i: np.ndarray, y: np.ndarray, j: np.ndarray) -> np.ndarray:
    """|x_i - y_j| of each pair of indices, by differences: alike rows are at 0, and |x - y| is |y -
    x| to the last bit."""
    made = np.empty(len(i))
    size = max(1, PAIRS // x.shape[1])
    for first in range(0, len(i), size):
        part = slice(first, first + size)
        made[part] = np.sqrt(((x[i[part]] - y[j[part]]) ** 2).sum(1))
    return made


@functools.partial(jax.tree_util.register_dataclass, data_fields=["x", "square", "lift", "middle"], meta_fields=[])
@dataclass(frozen=True)
class _Side:
    """One set around a common middle, rounded up: x.y = x_c.y_c + x_c.middle + y_c.middle +
    |middle|^2."""

    x: Array
    square: Array
    lift: Array
    middle: Array


def _side(x: np.ndarray, middle: np.ndarray) -> _Side:
    centred = np.zeros((-(-len(x) // ROWS) * ROWS, x.shape[1]))
    np.subtract(x, middle, out=centred[: len(x)])
    square = np.einsum("ij,ij->i", centred, centred)
    return _Side(*(jnp.asarray(a) for a in (centred, square, centred @ middle, middle @ middle)))


def _middle(x: np.ndarray) -> np.ndarray:
    """What to take products around. Narrow features have their differences taken as they are:
    moving them would round."""
    return np.zeros(x.shape[1]) if x.shape[1] <= NARROW else x.mean(0)


def _limits(radius: np.ndarray, scale: float) -> tuple[Array, Array]:
    """Squared distances below the first are within the radius, and above the second they are not;
    -1 is a ball of nothing."""
    squared = np.where(radius < 0, -np.inf, radius**2)
    slack = DOUBT * (scale + radius**2)
    padded = np.full((2, -(-len(radius) // ROWS) * ROWS), -np.inf)
    padded[:, : len(radius)] = squared - slack, squared + slack
    return jnp.asarray(padded[0]), jnp.asarray(padded[1])


def _block(first: Array, side: _Side, others: _Side) -> tuple[Array, Array]:
    """Squared distances and kernel of the ROWS rows from `first` on with all the others."""
    x, square, lift = (jax.lax.dynamic_slice_in_dim(a, first, ROWS) for a in (side.x, side.square, side.lift))
    product = jnp.dot(x, others.x.T, precision="highest")
    if x.shape[1] <= NARROW:
        squared = sum((x[:, i, None] - others.x[:, i]) ** 2 for i in range(x.shape[1]))
    else:
        squared = jnp.maximum(square[:, None] + others.square - 2 * product, 0)
    kernel = ((product + lift[:, None] + others.lift + side.middle) / x.shape[1] + 1) ** 3
    return jnp.asarray(squared), kernel


def _argmin(x: Array, axis: int) -> Array:
    """`jnp.argmin` in two reductions, which XLA's CPU backend does in half the time of its one."""
    place = jax.lax.broadcasted_iota(jnp.int64, x.shape, axis)
    return jnp.where(x == x.min(axis, keepdims=True), place, x.shape[axis]).min(axis)


@functools.partial(jax.jit, static_argnames="k")
def _self_block(first: Array, n: Array, side: _Side, k: int) -> tuple[Array, ...]:
    squared, kernel = _block(first, side, side)
    columns, rows = jnp.arange(len(side.x)), first + jnp.arange(ROWS)
    hidden = (columns == rows[:, None]) | (columns >= n)
    kernel = jnp.where(hidden | (rows >= n)[:, None], 0, kernel)
    squared = jnp.where(hidden, jnp.inf, squared)
    nearest = farthest = _argmin(squared, 1)
    for _ in range(k - 1):
        squared = jnp.where(columns == farthest[:, None], jnp.inf, squared)
        farthest = _argmin(squared, 1)
    return nearest, farthest, kernel.sum(1), (kernel**2).sum()


@jax.jit
def _cross_block(
    first: Array, n: Array, m: Array, side: _Side, others: _Side, x_limits: tuple[Array, Array], y_limits: tuple[Array, Array]
) -> tuple[tuple[Array, ...], ...]:
    squared, kernel = _block(first, side, others)
    rows, columns = first + jnp.arange(ROWS), jnp.arange(len(others.x))
    kernel = jnp.where((rows < n)[:, None] & (columns < m), kernel, 0)
    by_row = jnp.where(columns < m, squared, jnp.inf)
    by_column = jnp.where((rows < n)[:, None], squared, jnp.inf)
    nearest = _argmin(by_column, 0)
    x_low, x_high = (jax.lax.dynamic_slice_in_dim(a, first, ROWS)[:, None] for a in x_limits)
    y_low, y_high = y_limits
    here = _argmin(by_row, 1), kernel.sum(1), (kernel**2).sum()
    there = by_column.min(0), first + nearest, kernel.sum(0)
    balls = (by_column < y_low).sum(1), (by_row < x_low).sum(0)
    doubts = (by_column >= y_low) & (by_column <= y_high), (by_row >= x_low) & (by_row <= x_high)
    return here, there, balls, doubts


def _settle(
    in_y: np.ndarray,
    in_x: np.ndarray,
    doubts: tuple[Array, Array],
    first: int,
    sets: tuple[np.ndarray, np.ndarray],
    radii: tuple[np.ndarray, np.ndarray],
    strict: bool,
) -> None:
    """Add the pairs that are within rounding of a radius and inside, by differences; in place."""
    inside = np.less if strict else np.less_equal
    x, y = sets
    for which, doubt in enumerate(doubts):
        i, j = np.nonzero(np.asarray(doubt))
        i, j = (a[(i + first < len(x)) & (j < len(y))] for a in (i, j))
        if not len(i):
            continue
        counted = inside(apart(x, i + first, y, j), radii[0][i + first] if which else radii[1][j])
        if which:
            np.add.at(in_x, j[counted], 1)
        else:
            np.add.at(in_y, i[counted], 1)
