"""Copies of training images among fresh ones, and generators that never saw T: what
`planted_truths.py` plants, and how often it is called memorising."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gan_jax.metrics.memorization import share_interval
from gan_jax.report.controls import blurred, noisy
from gan_jax.report.copying import Copying, Pool

IMAGES = {"digits": 300}  # in each pool; others have 2,000
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RARE = 1 / 20  # of their weight have the half of the classes that is made rare
FRESH = "fresh"

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Pools:
    """One seed's data: a Splits whose T and V are fresh, and as many fresh images twice over for
    the planted cases."""

    data: Any
    fresh: np.ndarray
    labels: np.ndarray
    rest: np.ndarray
    rest_labels: np.ndarray
    random: np.random.Generator


def pools(data: Any, seed: int) -> Pools:
    """Cut T (n), V (2 n: held-out and control), and a fifth pool (n) from T, V and S of `data`; the
    rest is left over."""
    from gan_jax.data import Split

    n = IMAGES.get(data.name, 2000)
    random = np.random.default_rng([seed, 2014])
    if data.density is not None:
        every = data.density.draw(6 * n, np.random.SeedSequence([seed, 1]))
    else:
        parts = [data.train, data.validation, data.test]
        every = Split(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    order = random.permutation(len(every))
    labels = np.asarray(every.labels)
    take = lambda a, b: (every.images[order[a:b]], labels[order[a:b]])
    fresh, rest = take(3 * n, 4 * n), take(4 * n, len(every))
    splits = replace(data, train=Split(*take(0, n)), validation=Split(*take(n, 3 * n)), source=None)
    return Pools(splits, *fresh, *rest, random)


# ---- what is done to images ---------------------------------------------------------------------


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _each(images: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """`change` of each image as a Pillow image."""
    from PIL import Image

    grey = images.shape[3] == 1
    made = [np.asarray(change(Image.fromarray(image[..., 0] if grey else image))) for image in images]
    return np.stack(made).reshape(images.shape)


def _moved(images: np.ndarray, zoom: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """Zoomed and turned (degrees) about the middle, bilinear; what comes in from outside is 0."""
    from PIL import Image

    height, width = images.shape[1:3]
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    x, y = width / 2, height / 2
    matrix = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)
    return _each(images, lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def _jpeg(image: Any) -> Any:
    from PIL import Image

    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


def _blend(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each with another: weights from .3 to .7."""
    weight = random.uniform(0.3, 0.7, (len(images), 1, 1, 1))
    return _bytes(weight * images + (1 - weight) * images[random.permutation(len(images))])


KINDS: dict[str, Change] = {
    "verbatim": lambda x, random: x,
    "noise of 8 / 255": noisy,
    "shifted by one pixel": lambda x, random: np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)), mode="edge")[:, :, :-1],
    "mirrored": lambda x, random: x[:, :, ::-1],
    "25 levels brighter": lambda x, random: _bytes(x + 25.0),
    "contrast x .7": lambda x, random: _bytes((x - 128.0) * 0.7 + 128),
    "JPEG, quality 50": lambda x, random: _each(x, _jpeg),
    "zoomed by 10 %": lambda x, random: _moved(x, zoom=1.1),
    "turned by 8 degrees": lambda x, random: _moved(x, angle=8),
    "Gaussian blur of 1 pixel": blurred,
    "blend of two": _blend,
}
OF_POINTS = {"verbatim": KINDS["verbatim"], "noise of a tenth of their distance": noisy}


def kinds(images: np.ndarray) -> dict[str, Change]:
    """The changes that images or points can have."""
    return KINDS if images.ndim == 4 else OF_POINTS


def independent(p: Pools) -> dict[str, np.ndarray]:
    """{name: images} of generators that know nothing of T."""
    n = len(p.fresh)
    every, labels = np.concatenate([p.fresh, p.rest]), np.concatenate([p.labels, p.rest_labels])
    rare = np.isin(labels, p.random.permutation(p.data.classes)[: p.data.classes // 2])
    weight = np.where(rare, RARE, 1.0)
    made = {
        FRESH: p.fresh,
        "blurred": blurred(p.fresh, p.random),
        "noisy": noisy(p.fresh, p.random),
        "half of the classes rare": every[p.random.choice(len(every), n, replace=False, p=weight / weight.sum())],
        "five images": p.fresh[p.random.integers(0, 5, n)],
    }
    words = {"mirrored": "mirrored", "brighter": "25 levels brighter"} if p.fresh.ndim == 4 else {}
    return made | {name: KINDS[kind](p.fresh, p.random) for name, kind in words.items()}


# ---- what the report's search for copies says ---------------------------------------------------


@dataclass(frozen=True)
class Searched:
    """Images, and the nearest of a pool to each. Those of a mixture are those of its parts."""

    pool: Pool
    images: np.ndarray
    nearest: Mapping[str, Any]
    changes: np.ndarray

    @classmethod
    def of(cls, pool: Pool, images: np.ndarray) -> Searched:
        return cls(pool, images, *pool.nearest(images))

    def mixed(self, other: Searched, count: int) -> Copying:
        """What is said of the first `count` images and the first of `other`, as many as these
        together."""
        rest = len(self.images) - count
        both = lambda a, b: np.concatenate([a[:count], b[:rest]])
        nearest = {
            name: type(found)(*(both(*(getattr(f, part) for f in (found, other.nearest[name]))) for part in vars(found)))
            for name, found in self.nearest.items()
        }
        changes = both(self.changes, other.changes)
        return self.pool.judge(both(self.images, other.images), nearest, changes)


def judged(p: Pools, pool: Pool, copies: bool, independents: bool) -> Iterator[dict[str, Any]]:
    """A row for each kind and share of copies, and for each independent generator (share 0)."""
    row = lambda kind, share, found: {
        "kind": kind, "share": share, "memorises": bool(found.finding[0]), "estimate": found.share,
        "p": found.joint_p, "tests": " + ".join(found.found),
    }  # fmt: skip
    n = len(p.fresh)
    fresh = Searched.of(pool, p.fresh)
    drawn = p.data.train.images[p.random.integers(0, n, n)]
    for kind, change in kinds(drawn).items() if copies else ():
        changed = Searched.of(pool, change(drawn, p.random))
        for share in SHARES:
            yield row(kind, share, changed.mixed(fresh, round(share * n)))
    for name, images in independent(p).items() if independents else ():
        yield row(name, 0.0, fresh.mixed(fresh, n) if name == FRESH else pool.search(images))


Rows = Sequence[Mapping[str, Any]]


def grouped(rows: Rows, *keys: str) -> dict[tuple, list[Mapping[str, Any]]]:
    """{values of the keys: their rows}, in the order of the first of each."""
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def copies_text(rows: Rows) -> str:
    """Of one data set, as Markdown: how often each kind and share is called memorising, with the
    mean estimate of the share over all seeds."""
    cells = grouped([row for row in rows if row["share"] > 0], "kind", "share")
    count = lambda cell: sum(row["memorises"] for row in cell)
    shown = {key: f"{count(cell)} ({np.mean([row['estimate'] for row in cell]):.1%})" for key, cell in cells.items()}
    lines = [["copies", *(f"{share:.0%}" for share in SHARES)], ["---"] * (1 + len(SHARES))]
    lines += [[kind, *(shown[kind, share] for share in SHARES)] for kind in dict.fromkeys(kind for kind, _ in cells)]
    seeds = len({row["seed"] for cell in cells.values() for row in cell})
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nOf {seeds} seeds. {intervals([count(cell) for cell in cells.values()], seeds)}"


def independent_text(rows: Rows) -> str:
    """Of one data set: how often each independent generator is called memorising, and all."""
    rows = [row for row in rows if row["share"] == 0]
    count = lambda rows: f"{sum(row['memorises'] for row in rows)} of {len(rows)}"
    low, high = share_interval(float(np.mean([row["memorises"] for row in rows])), len(rows))
    said = ", ".join(f"{kind} {count(found)}" for (kind,), found in grouped(rows, "kind").items())
    return f"Memorising without copies: {count(rows)} ({low:.1%} to {high:.1%}): {said}."


def intervals(counts: Sequence[int], of: int) -> str:
    """The Clopper-Pearson interval of each count that occurs."""
    ends = {int(count): share_interval(count / of, of) for count in sorted(set(counts), reverse=True)}
    return "95 % intervals: " + "; ".join(f"{count}: {low:.0%} to {high:.0%}" for count, (low, high) in ends.items()) + "."
