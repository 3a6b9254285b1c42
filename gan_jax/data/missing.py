"""Masks of missing cells: at random (MCAR), by other columns (MAR), by their own value (MNAR), or
in blocks.

Each mechanism takes values, a rate in [0, 1) and a seed, and returns a boolean array: True where a
cell is observed. A column's missing probabilities have the rate as their mean over the rows (to
1e-9). A mask of n cells therefore misses rate * n of them in expectation, with a standard deviation
of at most sqrt(n rate (1 - rate)).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.data.splits import NAMES, Split, Splits, seed_sequence

Rate = float | Sequence[float] | np.ndarray


def mcar(values: npt.ArrayLike, rate: Rate, seed: int) -> np.ndarray:
    """Missing completely at random: every cell is missing with probability `rate`, independently.

    values: an array [n, ...], of which only the shape counts
    rate:   one, or one for each column

    Raises UserError for a rate outside [0, 1).
    """
    shape = np.shape(values)
    rates = _rates(rate, shape[1:])
    return _rng(seed, "mcar").random(shape) >= rates


def mar(values: npt.ArrayLike, rate: Rate, seed: int, pivots: float = 0.3, strength: float = 1.0) -> np.ndarray:
    """Missing at random: it depends on `pivots`, a share of the columns that is always observed.

    P(cell ij missing) = sigmoid(strength * s_ij + b_j). s_ij is a random linear combination of row
    i's standardised pivots, with standard deviation 1 over the table (as Muzellec et al., 2020).
    b_j makes column j missing at its rate. The rate is that of the columns which can be missing, so
    the table as a whole misses less. At least one column is a pivot, and one is not.
    Raises UserError as `mcar`, for values that are not a finite table [n, d >= 2], and for pivots
    outside (0, 1).
    """
    probabilities = mar_probabilities(values, rate, seed, pivots, strength)
    return _rng(seed, "mar").random(probabilities.shape) >= probabilities


def mar_probabilities(values: npt.ArrayLike, rate: Rate, seed: int, pivots: float = 0.3, strength: float = 1.0) -> np.ndarray:
    """[n, d]: the probability with which `mar` makes each cell missing."""
    table = _table(values, "mar")
    d, pivots, strength = table.shape[1], _number(pivots, "mar: pivots"), _number(strength, "mar: strength")
    if d < 2 or not 0 < pivots < 1:
        raise UserError(f"mar: pivots is {pivots:g} of {d} columns: give a share in (0, 1) of at least two columns")
    rates, rng = np.broadcast_to(_rates(rate, (d,)), d), _rng(seed, "mar columns")
    chosen = rng.permutation(d)[: min(max(1, round(pivots * d)), d - 1)]
    score = _standard(_standard(table)[:, chosen] @ rng.standard_normal((len(chosen), d)))
    probabilities = _calibrated(strength * score, rates)
    probabilities[:, chosen] = 0
    return probabilities


def mnar(values: npt.ArrayLike, rate: Rate, seed: int, strength: float = 1.0) -> np.ndarray:
    """Missing not at random, by the value of the cell itself.

    P(cell ij missing) = sigmoid(strength * (x_ij - mean_j) / std_j + b_j). b_j makes
    column j missing at its rate. With a positive strength large values go missing, with a negative
    one small values, and 0 is `mcar`. Raises UserError as `mar`.
    """
    probabilities = mnar_probabilities(values, rate, strength)
    return _rng(seed, "mnar").random(probabilities.shape) >= probabilities


def mnar_probabilities(values: npt.ArrayLike, rate: Rate, strength: float = 1.0) -> np.ndarray:
    """[n, d]: the probability with which `mnar` makes each cell missing."""
    table, strength = _table(values, "mnar"), _number(strength, "mnar: strength")
    return _calibrated(strength * _standard(table), np.broadcast_to(_rates(rate, table.shape[1:]), table.shape[1]))


def blocks(images: npt.ArrayLike, rate: float, seed: int, size: int = 7) -> np.ndarray:
    """Squares of `size` x `size` pixels missing, in all channels, from images [n, h, w] or
    [n, h, w, c].

    Each place that covers a pixel, also over the edge, has a square with probability
    1 - (1 - rate)^(1 / size^2), so that every pixel is missing with probability `rate`; size 1 is
    `mcar` of pixels. Raises UserError as `mcar`, for other shapes, and for a size below 1.
    """
    shape, size = np.shape(images), count(size, "size", least=1)
    if len(shape) not in (3, 4):
        raise UserError(f"blocks: shape {shape}; give images [n, h, w] or [n, h, w, c]")
    rate = float(_rates(rate, ()))
    n, h, w = shape[:3]
    chance = -np.expm1(np.log1p(-rate) / size**2)
    corners = _rng(seed, "blocks").random((n, h + size - 1, w + size - 1)) < chance
    hit = np.zeros((n, h, w), bool)
    for i in range(size):
        for j in range(size):
            hit |= corners[:, i : i + h, j : j + w]
    return np.broadcast_to(~hit.reshape(n, h, w, *[1] * (len(shape) - 3)), shape).copy()


MECHANISMS: dict[str, Callable] = {"mcar": mcar, "mar": mar, "mnar": mnar, "blocks": blocks}


def incomplete(data: Splits, rate: Rate, *, mechanism: Callable | str = mcar, seed: int = 0, **options: Any) -> Splits:
    """The same splits with examples float32 [2, ...]: values in [0, 1], and a mask, 1 if observed.

    Images are divided by 255. Columns of tables are min-max scaled by the range of the training
    rows. Every split has its own mask, mechanism(values, rate, seed, **options), where a mechanism
    may be given by its name. Hidden values are kept, so that imputations can be compared with them.
    Raises UserError for a name that is no mechanism.
    """
    known = mechanism in MECHANISMS if isinstance(mechanism, str) else callable(mechanism)
    if not known:
        raise UserError(f"mechanism={mechanism!r}: give a function, or one of {', '.join(MECHANISMS)}")
    mechanism = MECHANISMS[mechanism] if isinstance(mechanism, str) else mechanism
    train = data.train.images.astype(np.float64)
    low, high = (0.0, 255.0) if data.train.images.dtype == np.uint8 else (train.min(0), train.max(0))
    span = np.where(np.subtract(high, low) > 0, np.subtract(high, low), 1.0)
    parts = {}
    for name in NAMES:
        part = getattr(data, name)
        values = ((part.images - low) / span).astype(np.float32)
        own = int(seed_sequence(seed, f"missing {name}").generate_state(1)[0])
        mask = mechanism(values, rate, own, **options)
        parts[name] = Split(np.stack([values, mask.astype(np.float32)], 1), part.labels)
    return replace(data, name=f"{data.name} with missing values", density=None, source=None, **parts)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose)))


def _rates(rate: Rate, shape: tuple[int, ...]) -> np.ndarray:
    rates = _floats(rate, "missing rate")
    bad = ~((rates >= 0) & (rates < 1))
    if bad.any():
        raise UserError(f"missing rate {rates[bad].ravel()[0]:g}: it must lie in [0, 1)")
    if rates.ndim and rates.shape != shape[-1:]:
        raise UserError(f"{rates.shape} missing rates for columns {shape[-1:]}: give one, or one for each column")
    return rates


def _floats(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: {error}: give numbers") from None


def _number(value: Any, what: str) -> float:
    number = _floats(value, what)
    if number.ndim or not np.isfinite(number):
        raise UserError(f"{what} is {value!r}: give a finite number")
    return float(number)


def _table(values: npt.ArrayLike, what: str) -> np.ndarray:
    table = _floats(values, f"{what}: values")
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise UserError(f"{what}: values of shape {table.shape}: give a finite table [rows, columns]")
    return table


def _standard(table: np.ndarray) -> np.ndarray:
    spread = table.std(0)
    return (table - table.mean(0)) / np.where(spread > 0, spread, 1.0)


def _calibrated(score: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """sigmoid(score + b) [n, d], where b [d] makes each column's mean its rate (bisection)."""
    sigmoid = lambda x: 0.5 * (1 + np.tanh(x / 2))
    edge = np.abs(score).max(0) + 50
    low, high = -edge, edge
    for _ in range(100):
        middle = (low + high) / 2
        below = sigmoid(score + middle).mean(0) < rates
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(rates > 0, sigmoid(score + high), 0.0)
