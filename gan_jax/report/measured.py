"""A number with its interval, and the mean of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measured:
    """A number with the ends of its 95 % interval over draws of the samples, of T and of the
    held-out set, or without.

    caveat: why it is no evidence, whatever the controls say, or ''. beside: its standard error over
    draws of the samples alone, where that is known, too.
    """

    value: float
    low: float | None = None
    high: float | None = None
    caveat: str = ""
    beside: float | None = None

    @property
    def error(self) -> float:
        """The standard error by which it is told from the number of other samples beside the same T
        and held-out images, or one that is larger; 0 where none is known."""
        if self.beside is not None:
            return self.beside
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / (2 * 1.96)


def around(value: float, error: float, sure: float = 1.96) -> Measured:
    """A number with the interval of `sure` standard errors to either side: those of the normal law,
    or the `t_quantile` of an error that is itself an estimate."""
    return Measured(float(value), float(value - sure * error), float(value + sure * error))


def t_quantile(freedom: int) -> float:
    """The errors to either side of a 95 % interval by Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def share_around(share: float, error: float, n: int, sure: float = 1.96) -> Measured:
    """A share of n examples with its `wilson_interval`."""
    return Measured(float(share), *wilson_interval(share, error, n, sure))


def wilson_interval(share: float, error: float, n: int, sure: float = 1.96) -> tuple[float, float]:
    """The interval of Wilson (1927) of a share, within 0 and 1: that of as many independent
    examples as would have this standard error, or of n where there is none."""
    spread = share * (1 - share)
    size = spread / error**2 if spread > 0 and error > 0 else n
    middle, width = share + sure**2 / (2 * size), sure * (spread / size + sure**2 / (4 * size**2)) ** 0.5
    low, high = ((middle + side * width) / (1 + sure**2 / size) for side in (-1, 1))
    return float(min(low, share)), float(max(high, share))


def surely_positive(number: Measured) -> bool:
    """Whether the number is above 0 at the lower end of its interval."""
    return number.low is not None and number.low > 0


def averaged(found: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """The mean of each number and of the ends of its interval over the folds of one set.

    Folds share images, so that the interval is not taken to be narrower than that of one: between
    equal distributions it is two to four times as wide as it would have to be."""

    def mean(parts: list[Measured]) -> Measured:
        ends = [(part.low, part.high) for part in parts if part.low is not None and part.high is not None]
        low, high = (float(np.mean(end)) for end in zip(*ends, strict=True)) if len(ends) == len(parts) else (None, None)
        caveats, errors = [part.caveat for part in parts], [part.beside for part in parts if part.beside is not None]
        beside = float(np.mean(errors)) if errors else None
        return Measured(float(np.mean([part.value for part in parts])), low, high, max(caveats, key=caveats.count), beside)

    return dict(found[0]) if len(found) == 1 else {key: mean([numbers[key] for numbers in found]) for key in found[0]}


def share_error(share: float, n: float) -> float:
    """The standard error of a share of n independent examples."""
    return (share * (1 - share) / n) ** 0.5
