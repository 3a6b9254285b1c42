"""Four disjoint splits of a data set, fixed by a seed: training (T), validation (V), test (S) and
extractor (E) images.

The rule. An official test part is S; otherwise S takes 15 % of the images. V and E then take 15 %
of the rest each, at most 10,000, and T is what remains. Labelled data are stratified. An image that
is in several splits stays only in the first of S, V, E, T; copies inside one split stay. Every
split has a seeded order in which each prefix is as nearly stratified as its length allows, so that
"the first n" is a fair subset and subsets are nested.

The draws. Each is the raw 64-bit output of PCG64 on `seed_sequence(seed, purpose)`, sorted stably.
NumPy keeps that stream fixed: a seed gives the same splits on every platform and NumPy version.
"""

import hashlib
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gan_jax.core.arguments import count as as_integer
from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source

NAMES = ("train", "validation", "test", "extractor")
KEEP_FIRST = ("test", "validation", "extractor", "train")  # an image in several splits stays in the first
LARGEST_HELD_OUT = 10_000


class Density(Protocol):
    """A mixture whose density is known, as `toys.Mixture`."""

    @property
    def modes(self) -> np.ndarray: ...

    @property
    def sigma(self) -> float: ...

    def log_density(self, x: npt.ArrayLike) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Split:
    """One split, in read-only arrays.

    images: uint8 [n, h, w, c] or float32 [n, d]
    labels: int32 [n] or None
    """

    images: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self):
        for name in ("images", "labels"):
            if getattr(self, name) is not None:
                view = np.asarray(getattr(self, name)).view()  # so that the caller's array stays writable
                view.setflags(write=False)
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray | slice) -> "Split":
        """The examples at `index`."""
        return Split(self.images[index], None if self.labels is None else self.labels[index])

    def first(self, n: int) -> "Split":
        """The first n examples."""
        return self.take(slice(n))

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of shape, dtype and bytes of the images, and of the labels."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            if array is None:
                digest.update(b"none\n")
            else:
                digest.update(f"{array.shape} {array.dtype.str}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of one data set and one seed.

    train:       a `Split`, or a `streaming.Stream` whose images are read when they are indexed
    class_names: one name for each class, () without labels
    duplicates:  {split name: images dropped because another split has them}; {} if not searched for
    density:     the distribution of the points (see `toys.Mixture`); None where it is unknown
    source:      the arguments with which `load` gives these splits again; None for arrays in memory
    """

    name: str
    seed: int
    train: Split
    validation: Split
    test: Split
    extractor: Split
    class_names: tuple[str, ...]
    duplicates: dict[str, int]
    density: Density | None = None
    source: dict[str, Any] | None = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, (h, w, c) or (d,)."""
        return self.train.images.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names)

    @property
    def hashes(self) -> dict[str, str]:
        """{split name: `Split.hash`}."""
        return {name: getattr(self, name).hash for name in NAMES}

    def subset(self, n: int) -> "Splits":
        """The same splits with the first `n` training images; subsets of one seed are nested."""
        n = as_integer(n, "subset", least=1)
        if n > len(self.train):
            raise UserError(f"subset={n}: {self.name} has {len(self.train)} training images; ask for at most that many")
        return replace(self, train=self.train.first(n), source=self.source and self.source | {"subset": n})

    def describe(self) -> dict[str, Any]:
        """What identifies these splits, ready for JSON."""
        return {
            "name": self.name,
            "seed": self.seed,
            "sizes": {name: len(getattr(self, name)) for name in NAMES},
            "hashes": self.hashes,
            "duplicates": dict(self.duplicates),
            "image_shape": list(self.image_shape),
            "classes": self.classes,
        }


def seed_sequence(seed: int, purpose: str) -> np.random.SeedSequence:
    """The random stream of a seed and a purpose. Raises UserError for a seed below 0."""
    return np.random.SeedSequence(as_integer(seed, "seed", least=0), spawn_key=(zlib.crc32(purpose.encode()),))


def split(source: Source, seed: int) -> Splits:
    """The splits of `source`, by the rule at the top of this file."""
    seed = as_integer(seed, "seed", least=0)
    parts = _cut(source, seed)
    duplicates = _drop_duplicates(parts)
    if emptied := [name for name in NAMES if not len(parts[name])]:
        raise UserError(f"{source.name}: too few different images, {emptied[0]} is empty without duplicates; give more")
    orders = {name: stratified_order(part.labels, len(part), seed, name) for name, part in parts.items()}
    train, validation, test, extractor = (parts[name].take(orders[name]) for name in NAMES)
    return Splits(source.name, seed, train, validation, test, extractor, source.class_names, duplicates)


def split_sizes(n: int, official_test: bool) -> dict[str, int]:
    """How many of `n` images each split takes before duplicates are dropped. With an official test
    part S takes none of them."""
    fifteen_percent = lambda n: max(1, (15 * n + 50) // 100)  # rounded half up, in integers
    test = 0 if official_test else fifteen_percent(n)
    held_out = min(fifteen_percent(n - test), LARGEST_HELD_OUT)
    sizes = {} if official_test else {"test": test}
    return sizes | {"validation": held_out, "extractor": held_out, "train": n - test - 2 * held_out}


def _cut(source: Source, seed: int) -> dict[str, Split]:
    """The parts before duplicates are dropped: consecutive stretches of one stratified order."""
    images = Split(source.images, source.labels)
    test = None if source.test_images is None else Split(source.test_images, source.test_labels)
    n, least = len(images), 4 if test is None else 3
    if n < least or (test is not None and not len(test)):
        beside = "" if test is None else " beside a test split of at least 1"
        raise UserError(f"{source.name}: {n} images are too few to split; give at least {least}{beside}")
    sizes = split_sizes(n, official_test=test is not None)
    order = stratified_order(source.labels, n, seed, "cut")
    stretches = np.split(order, np.cumsum(list(sizes.values()))[:-1])
    parts = {name: images.take(stretch) for name, stretch in zip(sizes, stretches, strict=True)}
    return parts if test is None else parts | {"test": test}


def _drop_duplicates(parts: dict[str, Split]) -> dict[str, int]:
    """Takes from `parts` the images that an earlier one of KEEP_FIRST has; returns how many."""
    seen: set[bytes] = set()
    dropped = {}
    for name in KEEP_FIRST:
        rows = map(memoryview, np.ascontiguousarray(parts[name].images))
        digests = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
        keep = np.array([digest not in seen for digest in digests], bool)
        dropped[name] = int(len(keep) - keep.sum())
        if dropped[name]:
            parts[name] = parts[name].take(keep)
        seen.update(digests)
    return {name: dropped[name] for name in NAMES}


def stratified_order(labels: np.ndarray | None, n: int, seed: int, purpose: str) -> np.ndarray:
    """A seeded order, int64 [n]; each of its prefixes is as nearly stratified as it can be."""
    ticket = np.random.PCG64(seed_sequence(seed, purpose)).random_raw(n)
    if labels is None:
        return np.argsort(ticket, kind="stable")
    counts = np.bincount(labels)
    by_class = np.lexsort((ticket, labels))
    rank = np.empty(n)
    rank[by_class] = np.arange(n) - (np.cumsum(counts) - counts)[labels[by_class]]
    # Each class is spread evenly over [0, 1). Where two places are equal, the ticket decides.
    return np.lexsort((ticket, (rank + 0.5) / counts[labels]))
