"""The pairs of two feature sets: one pass within or between sets serves all metrics of pairs.

A pass makes the products x.y in float64, a block of rows at a time, and keeps nearest neighbours,
radii, how many balls a point is in, and sums of the KID kernel k(a, b) = (a.b / d + 1)^3. 10,000
examples of 2,048 features take some 5 s on two CPU cores and 1 GiB.
"""

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
    """Numbers of the pairs of different examples of one set of n.

    distance, index: the Euclidean distance of each example to the nearest other one, which
      `index` is
    radius: the distance of each example to its k-th nearest other one
    kernel_sum, kernel_rows, kernel_squares: sums of k(x_i, x_j), i != j: all, by row, of k^2
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
    """Numbers of the pairs of an example of x [n, d] and one of y [m, d].

    strict: whether a ball is open (`<`) or closed (`<=`)
    forward_distance, forward_index: of each x to the nearest y; backward_... is of y to x
    in_y_balls: the number of y with x in the ball of their radius (improved precision, density)
    in_x_balls: the number of x with y in theirs (improved recall)
    kernel_rows, kernel_columns, kernel_squares: sums of k(x, y) over y, over x, of all squares
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

    def swapped(self) -> "CrossPairs":
        """The same pairs, of y against x."""
        to_y, to_x = (self.forward_distance, self.forward_index), (self.backward_distance, self.backward_index)
        balls, sums = (self.in_x_balls, self.in_y_balls), (self.kernel_columns, self.kernel_rows)
        return CrossPairs(self.m, self.n, self.strict, *to_x, *to_y, *balls, *sums, self.kernel_squares)


def check_fit(what: str, n: int, m: int, wx: SelfPairs | None, wy: SelfPairs | None) -> None:
    """Raises UserError where the passes wx and wy within sets are not of n and m examples."""
    for w, size, name in ((wx, n, "first"), (wy, m, "second")):
        if w is not None and w.n != size:
            raise UserError(f"{what}: the {name} set has {w.n} examples, but {size} in the pairs: is their order right?")


def self_pairs(x: Any, k: int = 5) -> SelfPairs:
    """The pass over x [n, d] against itself, without the pairs of an example with itself.

    Distances are those of differences in float64: a duplicate is at exactly 0. Above 16 features,
    rounding decides which neighbour is named of those at one distance, to about 1e-6 of |x|. Raises
    UserError for a k below 1 or fewer than k + 1 rows.
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
    near, far, rows, every = near[:n], far[:n], rows[:n], np.arange(n)
    radius = apart(x, every, x, far)
    distance = np.minimum(apart(x, every, x, near), radius)
    return SelfPairs(n, k, distance, near, radius, float(rows.sum()), float(squares.sum()), rows)


def cross_pairs(x: Any, y: Any, wx: SelfPairs | None = None, wy: SelfPairs | None = None, strict: bool = True) -> CrossPairs:
    """The pass over x [n, d] against y [m, d]; balls need wx and wy, their `self_pairs`.

    strict: whether a point at exactly the radius is outside the ball, as in prdc (Naeem et al.,
    2020), or inside, as in torch-fidelity. They differ on duplicates and copies alone. With `<`,
    more than k alike examples have balls of radius 0 that hold nothing, so that their recall is 0.
    With `<=`, the density of a copy is (k + 1) / k, where `<` has 1. Raises UserError for sets of
    different widths.
    """
    x, y = check_two(x, y, "pairs", 1)
    n, m = len(x), len(y)
    check_fit("pairs", n, m, wx, wy)
    x_radius, y_radius = (np.full(size, -1.0) if w is None else w.radius for w, size in ((wx, n), (wy, m)))
    kernel_columns, in_x = np.zeros(m), np.zeros(m, np.int64)
    least, backward = np.full(m, np.inf), np.zeros(m, np.int64)  # the smallest squared distance of each y so far
    inside = np.less if strict else np.less_equal
    parts: list[tuple] = []
    with jax.enable_x64(True):
        middle = _middle(y)
        rows, columns = _side(x, middle), _side(y, middle)
        scale = 0.0 if x.shape[1] <= NARROW else float(rows.square.max() + columns.square.max())
        x_limits, y_limits = _limits(x_radius, scale), _limits(y_radius, scale)
        for first in range(0, n, ROWS):
            here, there, doubts = _cross_block(first, n, m, rows, columns, x_limits, y_limits)
            *of_rows, in_y = (np.array(a) for a in here)
            squared, nearest, kernel, in_block = (np.asarray(a)[:m] for a in there)
            in_x += in_block
            i, j, distance = _doubtful(doubts[0], first, x, y)
            np.add.at(in_y, i[inside(distance, y_radius[j])], 1)
            i, j, distance = _doubtful(doubts[1], first, x, y)
            np.add.at(in_x, j[inside(distance, x_radius[i + first])], 1)
            parts.append((*of_rows, in_y))
            kernel_columns += kernel
            backward = np.where(squared < least, nearest, backward)
            least = np.minimum(least, squared)
    forward, kernel_rows, squares, in_y = (np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i in range(4))
    to_y = apart(x, np.arange(n), y, forward[:n]), forward[:n]
    to_x = apart(y, np.arange(m), x, backward), backward
    balls, sums = (in_y[:n], in_x), (kernel_rows[:n], kernel_columns)
    return CrossPairs(n, m, strict, *to_y, *to_x, *balls, *sums, float(squares.sum()))


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in float64, by XLA: twice as fast as NumPy's on two CPU cores."""
    with jax.enable_x64(True):
        return np.array(jnp.dot(a, b, precision="highest"))


def apart(x: np.ndarray, i: np.ndarray, y: np.ndarray, j: np.ndarray) -> np.ndarray:
    """|x_i - y_j| of each pair of indices, by differences: exact, and |x - y| is |y - x|."""
    made = np.empty(len(i))
    size = max(1, PAIRS // x.shape[1])
    for first in range(0, len(i), size):
        part = slice(first, first + size)
        made[part] = np.sqrt(((x[i[part]] - y[j[part]]) ** 2).sum(1))
    return made


@functools.partial(jax.tree_util.register_dataclass, data_fields=["x", "square", "lift", "middle"], meta_fields=[])
@dataclass(frozen=True)
class _Side:
    """One set around a common middle: x.y = x_c.y_c + x_c.middle + y_c.middle + |middle|^2."""

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
    """The centre of products; 0 for narrow features, whose differences a shift would round."""
    return np.zeros(x.shape[1]) if x.shape[1] <= NARROW else x.mean(0)


def _limits(radius: np.ndarray, scale: float) -> tuple[Array, Array]:
    """Squared distances below the first are within the radius, above the second outside it."""
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
    """`jnp.argmin` in two reductions, which XLA's CPU backend does in half the time."""
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
    here = _argmin(by_row, 1), kernel.sum(1), (kernel**2).sum(), (by_column < y_low).sum(1)
    there = by_column.min(0), first + nearest, kernel.sum(0), (by_row < x_low).sum(0)
    doubts = (by_column >= y_low) & (by_column <= y_high), (by_row >= x_low) & (by_row <= x_high)
    return here, there, doubts


def _doubtful(doubt: Array, first: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and exact distance of the pairs that are within rounding of a radius."""
    i, j = np.nonzero(np.asarray(doubt))
    real = (i + first < len(x)) & (j < len(y))
    i, j = i[real], j[real]
    return i, j, apart(x, i + first, y, j)
