"""Data sets on disk, of which the training images are streamed."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source
from gan_jax.data.folders import classes_of, decoded, find_images, read_header, read_image
from gan_jax.data.pixels import conform
from gan_jax.data.splits import LARGEST_HELD_OUT, NAMES, Split, Splits, as_integer, split
from gan_jax.data.streaming import RandomAccess, Stream
from gan_jax.data.tfds import PREPARED_BY_SCRIPT, class_names_of, open_split, prepared, without_advice


class ImageFiles:
    """The PNG and JPEG files under a folder, each decoded when it is indexed.

    size, channels: as for `folders.read_folder`; None for those of the first file
    """

    def __init__(self, root: str | Path, size: int | None = None, channels: int | None = None):
        self.root = Path(root).expanduser()
        paths = find_images(self.root)
        self.class_names, self.labels = classes_of(self.root, paths)
        self.names = [path.relative_to(self.root).as_posix() for path in paths]
        self.size, self.channels = size, channels or decoded(paths[0], read_header).channels

    @property
    def identity(self) -> str:
        """sha256 (hex) of the files' names."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return str(self.root / self.names[row])

    def __getitem__(self, row: int) -> Any:
        image = decoded(self.root / self.names[row], lambda image: read_image(image, self.size, self.channels))
        return image if self.labels is None else (image, self.labels[row])


class Records:
    """One split of a TFDS data set stored as array_record, opened by each process that reads it."""

    labels = None  # they lie in the records

    def __init__(self, dataset: str, data_dir: str | None, part: str, size: int | None = None, channels: int | None = None):
        self.dataset, self.data_dir, self.part, self.size, self.channels = dataset, data_dir, part, size, channels
        self.labelled, self.advised = bool(class_names_of(self.builder)), False

    @property
    def builder(self) -> Any:
        return prepared(self.dataset, self.data_dir)

    @cached_property
    def source(self) -> Any:
        return open_split(self.builder, self.part)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "source"} | {"advised": False}

    @property
    def identity(self) -> str:
        return f"{self.builder.info.full_name} {self.part}"

    def __len__(self) -> int:
        return len(self.source)

    def name(self, row: int) -> str:
        return f"{self.dataset} {self.part}, record {row}"

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list:
        with nullcontext() if self.advised else without_advice():  # TFDS advises once in each process
            found = self.source.__getitems__(rows)
        self.advised = True
        images = [conform(example["image"], self.size, self.channels) for example in found]
        labels = [example["label"] for example in found] if self.labelled else None
        return images if labels is None else list(zip(images, labels, strict=True))


class Stored(NamedTuple):
    """A data set on disk: the part to split, its official test part or None, its class names."""

    source: Any
    test: RandomAccess | None
    class_names: tuple[str, ...]


def _open(name: str, size: int | None, channels: int | None, data_dir: str | None) -> Stored:
    kind, _, rest = name.partition(":")
    if name in PREPARED_BY_SCRIPT:
        kind, rest = "tfds", name
    if kind == "folder" and rest:
        files = ImageFiles(rest, size, channels)
        return Stored(files, None, files.class_names)
    if kind == "tfds" and rest:
        part = lambda part: Records(rest, data_dir, part, size, channels)
        train = part("train")
        builder = train.builder
        return Stored(train, part("test") if "test" in builder.info.splits else None, class_names_of(builder))
    raise UserError(f"{name!r} cannot be streamed: folder:PATH, tfds:NAME and {', '.join(PREPARED_BY_SCRIPT)} can")


def streamed(
    name: str, seed: int, size: int | None, channels: int | None, data_dir: str | None, *,
    held_out: int = LARGEST_HELD_OUT, **settings: Any,
) -> Splits:  # fmt: skip
    """`load(name, ..., stream=settings)`: splits whose training images (T) stay on disk.

    held_out: most validation (V), test (S) and extractor (E) images, the first of each; these are
              decoded now and kept in memory
    settings: of `Stream`: damaged, workers, threads

    The cut is that of `load`: the same files of a folder are in T and in V, unless some images are
    equal. Equal images in two splits are not looked for, because every file would have to be
    decoded, so `duplicates` is empty. Records are not stratified, because their labels are known
    only once they are read.
    """
    unknown = settings.keys() - {"damaged", "workers", "threads"}
    if unknown:
        raise UserError(f"stream has no setting {', '.join(sorted(unknown))}: it has damaged, workers, threads and held_out")
    held_out = as_integer(held_out, "held_out", least=1)
    stored = _open(name, size, channels, data_dir)
    n, rows = len(stored.source), lambda start, m: np.arange(start, start + m)[:, None]
    test = None if stored.test is None else rows(n, len(stored.test))
    cut = split(Source(name, rows(0, n), stored.source.labels, test, None, stored.class_names), seed)
    parts = {part: getattr(cut, part).images[:, 0] for part in NAMES}
    train = Stream(stored.source, parts.pop("train"), **settings)
    held = {}
    for part, index in parts.items():
        index = index[:held_out]
        test = stored.test if part == "test" else None
        found = Stream(stored.source, index, **settings) if test is None else Stream(test, index - n, **settings)
        held[part] = Split(*found.at(np.arange(len(found))))
        train.damaged_examples |= found.damaged_examples
    return Splits(name, cut.seed, cast(Split, train), **held, class_names=stored.class_names, duplicates={})
