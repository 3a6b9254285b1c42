"""Whether samples are copies of the training images T: several tests, which err together at most
once in a hundred independent generators, what they found, and what they could not have seen."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gan_jax.metrics.alignment import MOST, aligned_nearest, changes
from gan_jax.metrics.copies import ExchangeTest, Nearest, detectable, exchange_test, two_nearest
from gan_jax.metrics.memorization import share_interval
from gan_jax.metrics.ranking import holm
from gan_jax.report.controls import Sets
from gan_jax.report.measured import Measured

LEVEL = 0.01  # of all tests together
EXACT, PIXELS, FEATURES, ALIGNED = "exact copies", "pixels", "features", "changed copies"

Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Copying:
    """What `Pool.search` found.

    p: of each test. found: the significant tests (Holm, LEVEL together), smallest p first.
    share, low, high: the largest share of the samples that one of them counts as copies, with its
    95 % interval. limits: the least shares of exact and of near copies that are surely found.
    samples, images: indices of the copies, clearest first, and of their images in the pool; ratios:
    their distance in parts of that to the next real image.
    how: {what was changed: number of copies}. unknown: why nothing can be told, or ''.
    """

    p: Mapping[str, float] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    share: float = 0.0
    low: float | None = None
    high: float | None = None
    limits: tuple[float, float] = (np.inf, np.inf)
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ratios: np.ndarray = field(default_factory=lambda: np.zeros(0))
    how: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    @property
    def joint_p(self) -> float:
        """p of all tests together: the smallest times their number."""
        return min(1.0, len(self.p) * min(self.p.values()))

    @property
    def numbers(self) -> dict[str, Measured]:
        if self.unknown:
            return {}
        return {"copies": Measured(self.share, self.low, self.high), "copies_p": Measured(self.joint_p)}

    @property
    def finding(self) -> tuple[bool | None, str]:
        """Whether the generator memorises, None where that cannot be told, and a sentence."""
        if self.unknown:
            return None, self.unknown
        if not self.found:
            return False, f"no copies of training images are seen (p {self.joint_p:.2g})"
        how = ", ".join(f"{count} {name}" for name, count in self.how.items())
        return True, (
            f"{self.share:.1%} of the samples ({self.low:.1%} to {self.high:.1%}) are copies of training images "
            f"({how}; p {max(self.joint_p, 1e-300):.1g})"
        )

    @property
    def note(self) -> str:
        """What could not have been seen."""
        if self.unknown:
            return "no share of copies could have been seen"
        if not self.limits[0] <= 1:
            return "copies could not have been seen: there are too few training, held-out or generated images"
        exact, near = self.limits
        seen = f"near copies from {near:.1%}" if near <= 1 else "no near copies"
        return f"what could have been seen: exact copies from {exact:.1%} of the samples on, {seen}"


class Pool:
    """The different images of T and of all held-out images, in an order that tells nothing.

    An image that is in both is left out. features: the extractor, and its features of T, of the
    held-out images and of the control. differ: whether these features are not pixels.
    """

    def __init__(self, sets: Sets, features: Features, parts: Callable[[], list[np.ndarray]], differ: bool, seed: int):
        self.features, self.parts, self.differ = features, parts, differ
        held = [sets.held_out.images] if sets.folds else [sets.held_out.images, sets.control.images]
        every = np.concatenate([sets.train.images, *held])
        training = np.arange(len(every)) < len(sets.train)
        keys, first, which = np.unique(_bytes(every), return_index=True, return_inverse=True)
        of_training, of_held = (np.bincount(which[part], minlength=len(first)) > 0 for part in (training, ~training))
        self.exact = keys[of_training]
        self.held_exact, self.held = int(np.isin(_bytes(every[~training]), self.exact).sum()), int((~training).sum())
        kept = np.random.Generator(np.random.PCG64(seed)).permutation(np.flatnonzero(of_training != of_held))
        self.rows, self.training, self.images = first[kept], of_training[kept], every[first[kept]]

    @cached_property
    def feature_rows(self) -> np.ndarray:
        return np.concatenate(self.parts())[self.rows]

    @property
    def tests(self) -> list[str]:
        return tests_of(self.differ, self.images.ndim == 4)

    def limits(self, samples: int) -> tuple[float, float]:
        """The least shares of exact and of near copies of so many samples that are surely found."""
        train = int(self.training.sum())
        return limits(samples, train, len(self.training) - train, LEVEL / len(self.tests))

    def search(self, x: np.ndarray) -> Copying:
        """Look for copies among samples x, like T: exact ones, near ones in pixels and in features,
        and of images near ones under a change (the first 2,048 samples)."""
        if not 0 < self.training.sum() < len(self.training):
            return Copying(unknown="copies cannot be told: training and held-out images are the same")
        return self.judge(x, *self.nearest(x))

    def nearest(self, x: np.ndarray) -> tuple[dict[str, Nearest], np.ndarray]:
        """{test: the nearest of the pool to each sample}, and the changes of `aligned_nearest`."""
        flat = lambda images: images.reshape(len(images), -1)
        nearest: dict[str, Nearest] = {PIXELS: two_nearest(flat(x), flat(self.images))}
        if FEATURES in self.tests:
            nearest[FEATURES] = two_nearest(self.features(x), self.feature_rows)
        change = np.zeros(0, np.int64)
        if ALIGNED in self.tests:
            nearest[ALIGNED], change = aligned_nearest(x[:MOST], self.images)
        return nearest, change

    def judge(self, x: np.ndarray, nearest: dict[str, Nearest], change: np.ndarray) -> Copying:
        """Whether samples with this result of `nearest` are copies."""
        tests = {name: exchange_test(found, self.training) for name, found in nearest.items()}
        exact = np.isin(_bytes(x), self.exact)
        p = {EXACT: self._exact_p(exact, x)} | {name: test.p for name, test in tests.items()}
        corrected = dict(zip(p, holm(list(p.values())), strict=True))
        found, limits = sorted((name for name in p if corrected[name] <= LEVEL), key=p.__getitem__), self.limits(len(x))
        if not found:
            return Copying(p, limits=limits)
        tests[EXACT] = _exact_share(exact)
        clearest = max(found, key=lambda name: tests[name].share)
        near = nearest[PIXELS if clearest == EXACT else clearest]
        copies = np.flatnonzero(tests[clearest].copies)
        copies = copies[np.argsort(near.ratio[copies], kind="stable")]
        how = Counter(_kind(x[i], self.images[near.index[i]], int(change[i]) if i < len(change) else 0) for i in copies)
        best = tests[clearest]
        shown = (copies, near.index[copies], near.ratio[copies], dict(how.most_common()))
        return Copying(p, tuple(found), best.share, best.low, best.high, limits, *shown)

    def _exact_p(self, exact: np.ndarray, x: np.ndarray) -> float:
        """p of so many exact copies among the different samples, by those among held-out images."""
        count, samples = (len(np.unique(keys)) for keys in (_bytes(x)[exact], _bytes(x)))
        return exact_p(count, samples, self.held_exact, self.held)


def _kind(sample: np.ndarray, image: np.ndarray, change: int) -> str:
    """How a copy differs from its image: "light" where most of the difference is brightness and
    contrast."""
    if (sample == image).all():
        return "exact"
    if change:
        return changes()[change]
    one, other = (part.astype(np.float64).ravel() for part in (sample, image))
    centred, target = one - one.mean(), other - other.mean()
    fitted = target * (centred @ target) / max(target @ target, 1e-12)
    return "light" if np.linalg.norm(centred - fitted) < np.linalg.norm(one - other) / 2 else "nearly the same"


def tests_of(differ: bool, images: bool) -> list[str]:
    """The tests: those of features where they are not pixels, and of changes for images only."""
    return [EXACT, PIXELS, *([FEATURES] if differ else []), *([ALIGNED] if images else [])]


def exact_p(count: int, samples: int, held_exact: int, held: int) -> float:
    """p of `count` or more exact copies among so many different samples, where `held_exact` of
    `held` held-out images are exact copies of T: beta-binomial, as samples and held-out images are
    of one distribution."""
    from scipy.stats import betabinom

    fresh = held - held_exact
    return float(betabinom.sf(count - 1, samples, held_exact + 1, fresh)) if count and fresh else 1.0


def limits(samples: int, train: int, held_out: int, level: float) -> tuple[float, float]:
    """The least shares of exact and of near copies that tests at this level surely find; inf where
    there is none."""
    most = min(samples, train)
    exact = next((count for count in range(1, most + 1) if exact_p(count, samples, 0, held_out) <= level), np.inf)
    near = detectable(samples, train, held_out, level)
    return min(exact / samples, near), near


def _exact_share(exact: np.ndarray) -> ExchangeTest:
    return ExchangeTest(0.0, float(exact.mean()), *share_interval(float(exact.mean()), len(exact)), exact)


def _bytes(images: np.ndarray) -> np.ndarray:
    """Each image [n, ...] as one value, equal where the images are."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
