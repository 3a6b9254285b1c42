"""Four disjoint splits of a data set, fixed by a seed: training (T), validation (V), test (S) and
extractor (E) images.

The rule. An official test part is S, an official validation part V; otherwise S takes 15 % of the
images. V and E then take 15 % of the rest each, at most 10,000, and T is what remains. Of a
held-out part V takes half, S and E a quarter each, and T is all of the other images. Sizes that are
asked for take the place of these shares. Labelled data are stratified. Different images are cut:
all copies of an image come into one split. An image of several parts stays only in the first of S,
V, E, T. Every split has a seeded order in which each prefix is as nearly stratified as its length
allows, so that "the first n" is a fair subset and subsets are nested.

The draws. Each is the raw 64-bit output of PCG64 on `seed_sequence(seed, purpose)`, sorted stably.
NumPy keeps that stream fixed: a seed gives the same splits on every platform and NumPy version.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gan_jax.arguments import count
from gan_jax.core.errors import UserError, say
from gan_jax.data.arrays import HELD_OUT, Source

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

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"Split({len(self)} examples of {shape}, {'no ' * (self.labels is None)}labels)"

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

    def __repr__(self) -> str:
        sizes = ", ".join(f"{letter} {len(getattr(self, name))}" for letter, name in zip("TVSE", NAMES, strict=True))
        shape = " x ".join(map(str, self.image_shape))
        return f"Splits({self.name}: {sizes} of {shape}, {self.classes} classes, seed {self.seed})"

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
        n = count(n, "subset", least=1)
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
    return np.random.SeedSequence(count(seed, "seed", least=0), spawn_key=(zlib.crc32(purpose.encode()),))


class Pool(NamedTuple):
    """Images of which splits are cut. ids: int [n], equal where images are. labels: [n] or None."""

    ids: np.ndarray
    labels: np.ndarray | None


def as_sizes(sizes: Any) -> dict[str, int] | None:
    """{split name: images} of "400/100/100/0" or [400, 100, 100, 0]: of T, V, S and E. Raises
    UserError for anything else; E alone may be empty."""
    if sizes is None:
        return None
    given = sizes.split("/") if isinstance(sizes, str) else sizes
    given = list(given) if isinstance(given, (list, tuple, np.ndarray)) and np.ndim(given) == 1 else []
    numbers = [int(n) if isinstance(n, str) and re.fullmatch("[0-9]{1,18}", n.strip()) else n for n in given]
    if len(numbers) != len(NAMES):
        raise UserError(f"split={sizes!r:.60}: give the sizes of T, V, S and E, as in 400/100/100/0")
    return {name: count(n, f"split: {name}", 0 if name == "extractor" else 1) for name, n in zip(NAMES, numbers, strict=True)}


def split(source: Source, seed: int, sizes: Any = None) -> Splits:
    """The splits of `source`, by the rule at the top of this file. sizes: see `as_sizes`."""
    images = {"train": source.images} | {part: images for part, (images, _) in source.official.items()}
    labels = {"train": source.labels} | {part: labels for part, (_, labels) in source.official.items()}
    number: dict[bytes, int] = {}
    pools = {}
    for part, array in images.items():
        digests = (hashlib.blake2b(row, digest_size=16).digest() for row in map(memoryview, np.ascontiguousarray(array)))
        ids = np.fromiter((number.setdefault(digest, len(number)) for digest in digests), np.int64, len(array))
        pools[part] = Pool(ids, labels[part])
    rows, duplicates = cut(source.name, pools, seed, as_sizes(sizes))
    parts = {name: Split(images[pool], labels[pool]).take(index) for name, (pool, index) in rows.items()}
    train, validation, test, extractor = (parts[name] for name in NAMES)
    seed = count(seed, "seed", least=0)
    return Splits(source.name, seed, train, validation, test, extractor, source.class_names, duplicates)


def split_sizes(n: int, official_test: bool = False, official_validation: bool = False) -> dict[str, int]:
    """How many of `n` different images each split takes. With an official part, its split takes
    none of them."""
    fifteen_percent = lambda n: max(1, (15 * n + 50) // 100)  # rounded half up, in integers
    sizes = {} if official_test else {"test": fifteen_percent(n)}
    held_out = min(fifteen_percent(n - sum(sizes.values())), LARGEST_HELD_OUT)
    sizes |= dict.fromkeys(("extractor",) if official_validation else ("validation", "extractor"), held_out)
    return sizes | {"train": n - sum(sizes.values())}


def cut(
    name: str, pools: dict[str, Pool], seed: int, sizes: dict[str, int] | None = None
) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, int]]:
    """The rule at the top of this file: {split name: (its pool, its rows in their order)}, and
    {split name: rows dropped because another split has the image}.

    pools: {"train", and "test", "validation" or HELD_OUT where there are such parts: Pool}
    """
    seed = count(seed, "seed", least=0)
    rows: dict[str, tuple[str, np.ndarray]] = {}
    for pool in pools:
        shares = _shares(name, pool, pools, sizes)
        rows |= {part: (pool, index) for part, index in _stretches(name, pools[pool], shares, seed, pool).items()}
    duplicates = _drop_duplicates(rows, pools)
    if emptied := [part for part in NAMES if not len(rows[part][1]) and (sizes is None or sizes[part])]:
        raise UserError(f"{name}: too few different images, {emptied[0]} is empty without duplicates; give more")
    if sum(duplicates.values()):
        dropped = ", ".join(f"{n} of {part}" for part, n in duplicates.items() if n)
        say(f"{name}: images that another split has as well were left out: {dropped}")
    _check_classes(name, pools["train"], rows["train"][1], duplicates["train"])
    for part, (pool, index) in rows.items():
        known = pools[pool].labels
        order = stratified_order(None if known is None else known[index], len(index), seed, part)
        most = sizes[part] if sizes and part == pool else None
        rows[part] = pool, index[order][:most]
    return {part: rows[part] for part in NAMES}, duplicates


def _shares(name: str, pool: str, pools: dict[str, Pool], sizes: dict[str, int] | None) -> dict[str, int]:
    """How many different images of `pool` each split takes that is cut from it."""
    n = len(np.unique(pools[pool].ids))
    if pool == HELD_OUT:
        shares = {"validation": n - 2 * (n // 4), "test": n // 4, "extractor": n // 4}
    elif pool != "train":
        shares = {pool: n}
    elif HELD_OUT in pools:
        shares = {"train": n}
    else:
        shares = split_sizes(n, "test" in pools, "validation" in pools)
    what = f"{len(pools[pool].ids)} {'' if pool == 'train' else pool + ' '}images"
    least = len(shares) if sizes is None else 1
    if len(pools[pool].ids) < least or not n:
        beside = " beside an official part" if pool == "train" and len(pools) > 1 else ""
        raise UserError(f"{name}: {what} are too few to split; give at least {least}{beside}")
    if sizes is not None:
        shares = {part: sizes[part] for part in shares}
    elif n < least:
        raise UserError(f"{name}: too few different images, {n} among {what}; give at least {least}")
    if (asked := sum(shares.values())) > n:
        parts = " + ".join(f"{n} {part}" for part, n in shares.items())
        raise UserError(f"{name}: {parts} images are asked for of {n} different ones; ask for fewer")
    if asked < n:
        say(f"{name}: {n - asked} of {what} are in none of the splits: the sizes asked for leave them out")
    if copies := len(pools[pool].ids) - n:
        say(f"{name}: {copies} of {what} are copies of others; all copies of an image are in one split")
    return shares


def _stretches(name: str, pool: Pool, shares: dict[str, int], seed: int, kind: str) -> dict[str, np.ndarray]:
    """The rows of each split: consecutive stretches of one stratified order of different images,
    each followed by its copies. A split that takes its whole part has the part's order."""
    ids, labels = pool
    if set(shares) == {kind} and kind != "train":
        return {kind: np.arange(len(ids))}
    first = np.sort(np.unique(ids, return_index=True)[1])
    order = first[stratified_order(None if labels is None else labels[first], len(first), seed, "cut")]
    place = np.empty(ids.max() + 1, np.int64)
    place[ids[order]] = np.arange(len(order))
    rows = np.argsort(place[ids], kind="stable")
    ends = np.searchsorted(place[ids][rows], np.cumsum(list(shares.values())))
    starts = np.concatenate([[0], ends[:-1]])
    return {part: rows[start:end] for part, start, end in zip(shares, starts, ends, strict=True)}


def _drop_duplicates(rows: dict[str, tuple[str, np.ndarray]], pools: dict[str, Pool]) -> dict[str, int]:
    """Takes from `rows` the images that an earlier one of KEEP_FIRST has; returns how many."""
    seen = np.zeros(1 + max(int(pool.ids.max(initial=0)) for pool in pools.values()), bool)
    dropped = {}
    for name in KEEP_FIRST:
        pool, index = rows[name]
        ids = pools[pool].ids[index]
        dropped[name] = int(seen[ids].sum())
        rows[name] = pool, index[~seen[ids]]
        seen[ids] = True
    return {name: dropped[name] for name in NAMES}


def _check_classes(name: str, pool: Pool, train: np.ndarray, dropped: int) -> None:
    """Says which classes have no image in T. Raises UserError where that is because of copies."""
    if pool.labels is None or not len(lost := np.setdiff1d(pool.labels, pool.labels[train])):
        return
    own = pool.ids[pool.labels == lost[0]]
    found = f"{name}: {len(lost)} classes have no training image, such as class number {lost[0]} of {len(own)} images"
    if dropped or len(np.unique(own)) < len(own):
        raise UserError(f"{found}: all are copies of held-out ones; give it images of its own, or leave it out")
    say(f"{found}: all are held out")


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
