"""Whether the settings of a sweep have come to rest, and what they score at equal sample quality.

A setting that is still far from the data when training ends looks harmless in every number of
overfitting. Both functions here therefore read the logged steps, not the last one alone. quality:
the logged column that says how far samples are from held-out data; smaller is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gan_jax.metrics.ranking import LEVEL, holm, paired_p
from gan_jax.metrics.sweep_table import histories

if TYPE_CHECKING:
    import pandas as pd

QUALITY = "G/validation_energy"  # logged of every GAN: the samples' energy distance to V
REST = 0.8  # of the steps: what still falls after them has not come to rest
SMALL = 0.1  # a smaller share of fall, or of distance from the baseline, does not count, shown or not

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # {setting: steps [k], values [seeds, k]}


@dataclass(frozen=True)
class Motion:
    """How a setting's quality moves at the end. fall: the share of it that was lost over the last
    fifth of the steps. moving: whether that is shown and at least `SMALL`. behind: whether it is
    moving, and the baseline is nearer to the data by at least `SMALL`. more: about how many further
    steps it takes to get there; NaN where unknown."""

    fall: float
    moving: bool
    behind: bool
    more: float


def curves_of(table: pd.DataFrame, metric: str, n: int) -> Curves:
    """The curves of a metric at one number n of training images; none where it was not logged."""
    if metric not in table:
        return {}
    return {setting: curve for (setting, size), curve in histories(table, metric).items() if size == n}


def motions(table: pd.DataFrame, baseline: str, n: int, quality: str = QUALITY) -> dict[str, Motion]:
    """{setting: Motion} of the settings whose quality was logged before and after `REST`.

    All on a logarithmic axis, means over seeds. A fall is shown by a one-sided paired t-test over
    seeds, of the last logged value against that of the last log in the first four fifths, with
    Holm's correction over settings, from 5 seeds on. Further steps are extrapolated on a line
    through the two: a guess, and too few where training slows down. A baseline that is moving is
    behind itself.
    """
    seen = {name: ends for name, curve in curves_of(table, quality, n).items() if (ends := _ends(*curve)) is not None}
    p = holm([paired_p(before, last, "greater") for before, last, _ in seen.values()])
    target, made = (seen[baseline][1].mean() if baseline in seen else math.nan), {}
    for (name, (before, last, steps)), value in zip(seen.items(), p, strict=True):
        rate, way = float(before.mean() - last.mean()), float(last.mean() - target)
        moving = bool(value <= 1 - LEVEL and rate >= -math.log1p(-SMALL))
        behind = moving and (name == baseline or way >= math.log1p(SMALL))
        made[name] = Motion(-math.expm1(-rate), moving, behind, steps * way / rate if rate > 0 and way > 0 else math.nan)
    return made


def _ends(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Logarithms of the values [seeds] before the last fifth of the steps and at the end, and the
    steps between; None where nothing above 0 is left."""
    early = np.flatnonzero(steps <= REST * steps[-1])
    if not len(early):
        return None
    ends = values[:, [early[-1], -1]]
    ends = np.log(ends[(np.nan_to_num(ends, nan=-1) > 0).all(1)])
    return (ends[:, 0], ends[:, 1], int(steps[-1] - steps[early[-1]])) if len(ends) else None


@dataclass(frozen=True)
class Level:
    """A metric of a setting and of the baseline at equal quality, over common seeds [k]. step:
    where the setting has it."""

    step: float
    ours: np.ndarray
    theirs: np.ndarray

    @property
    def p(self) -> float:
        """Two-sided, paired; NaN below 5 seeds."""
        return paired_p(self.ours, self.theirs)


def at_equal_quality(table: pd.DataFrame, metric: str, baseline: str, n: int, quality: str = QUALITY) -> dict[str, Level]:
    """{setting: Level} of a logged metric, without the baseline.

    The common quality is the best that both reach, in means over seeds. Each side is read where its
    mean first gets there, between logged steps linearly; what it scores later, when its samples may
    be better or worse again, does not count.
    """
    values, qualities, made = curves_of(table, metric, n), curves_of(table, quality, n), {}
    if baseline not in values or baseline not in qualities:
        return {}
    base, seeds = qualities[baseline], _seeds(table, n)
    for name in values:
        if name == baseline or name not in qualities:
            continue
        reached = [mean[np.isfinite(mean)] for mean in (_mean(base[1]), _mean(qualities[name][1]))]
        if not all(map(len, reached)):
            continue
        common = max(mean.min() for mean in reached)
        places = {side: _first(*qualities[side], common) for side in (name, baseline)}
        if None in places.values():
            continue
        ours, theirs = (dict(zip(seeds[side], _at(*values[side], places[side]), strict=True)) for side in (name, baseline))
        both = [seed for seed in ours if np.isfinite(ours[seed]) and np.isfinite(theirs.get(seed, math.nan))]
        pair = (np.array([side[seed] for seed in both]) for side in (ours, theirs))
        made[name] = Level(float(places[name] or 0), *pair)
    return made


def _seeds(table: pd.DataFrame, n: int) -> dict[str, list[int]]:
    """{setting: its seeds}, in the order of the rows of `histories`."""
    rows = table[table["n"].astype(int) == n]
    return {str(name): sorted({int(seed) for seed in part["seed"]}) for name, part in rows.groupby("setting", sort=False)}


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the seeds that are there; NaN where none is."""
    seen = np.isfinite(values)
    return np.where(seen.any(0), np.where(seen, values, 0).sum(0) / np.maximum(seen.sum(0), 1), math.nan)


def _first(steps: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """The step at which the mean of values first is at most `level`."""
    mean = _mean(values)
    below = np.flatnonzero(mean <= level)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0 or not np.isfinite(mean[i - 1]):
        return float(steps[i])
    part = (mean[i - 1] - level) / (mean[i - 1] - mean[i])
    return float(steps[i - 1] + part * (steps[i] - steps[i - 1]))


def _at(steps: np.ndarray, values: np.ndarray, place: float | None) -> np.ndarray:
    """Values [seeds] at a place between logged steps."""
    return np.array([np.interp(place or 0, steps, row) for row in values])
