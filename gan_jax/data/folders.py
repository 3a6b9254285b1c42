"""Folders of image files, of every kind that Pillow reads."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps

from gan_jax.core.errors import UserError, say
from gan_jax.data.arrays import HELD_OUT, Source, check_memory, reason
from gan_jax.data.labels import as_labels, numbered
from gan_jax.data.layout import find, formats
from gan_jax.data.pixels import channels_of, full_scale, largest_of, range_of, to_array
from gan_jax.data.splits import Pool

ORIENTATION = 0x0112  # EXIF tag
T = TypeVar("T")


class Header(NamedTuple):
    """What is known of an image before it is decoded. limit: see `pixels.range_of`."""

    size: tuple[int, int]
    channels: int
    limit: int
    frames: bool


class ImageFiles:
    """Image files below a folder, each decoded when it is indexed, as for `read_folder`.

    labels: class numbers int32 [n] or None. `open_folder` sets channels and scales, {limit: the
    value that becomes 255}, once it has seen all files.
    """

    def __init__(self, root: Path, names: Sequence[str], size: int | None):
        self.root, self.names, self.size = root, names, size
        self.labels: np.ndarray | None = None
        self.class_names: tuple[str, ...] = ()
        self.channels, self.scales = 3, dict[int, int]()

    @property
    def identity(self) -> str:
        """sha256 (hex) of the files' names."""
        return hashlib.sha256(os.fsencode("\n".join(self.names))).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return str(self.root / self.names[row])

    def image(self, row: int) -> np.ndarray:
        read = lambda image: to_array(image, self.size, self.channels, self.scales.get(range_of(image)))
        return decoded(self.root / self.names[row], read)

    def __getitem__(self, row: int) -> Any:
        return self.image(row) if self.labels is None else (self.image(row), self.labels[row])


def folder_pools(parts: dict[str, ImageFiles]) -> dict[str, Pool]:
    """What splits are cut of, where nothing is decoded: copies are files of equal bytes."""
    paths = [files.root / name for files in parts.values() for name in files.names]
    keys: list[Any] = [path.stat().st_size if path.exists() else -1 - i for i, path in enumerate(paths)]
    for length in (4096, -1):  # whole files are read only where their beginnings are equal
        counts = Counter(keys)
        keys = [(key, _digest(path, length)) if counts[key] > 1 else key for key, path in zip(keys, paths, strict=True)]
    number: dict[Any, int] = {}
    ids = np.array([number.setdefault(key, len(number)) for key in keys])
    ends = np.cumsum([len(files) for files in parts.values()])[:-1]
    return {part: Pool(own, parts[part].labels) for part, own in zip(parts, np.split(ids, ends), strict=True)}


def _digest(path: Path, length: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(length), digest_size=16).digest()


def read_folder(
    name: str, root: str | Path, size: int | None, channels: int | None, held_out: str | Path | None = None
) -> Source:
    """Every image under `root`, uint8 [n, h, w, c], in the order of the sorted paths.

    `layout.py` says which subfolders are classes, numbered in sorted order, and which are splits.
    Of an image with several frames, the first is read. 16-bit images of fewer bits, and masks of 0
    and 1, are scaled as `pixels.full_scale` says.

    size:     as for `pixels.to_array`; None where all images share one size
    channels: 1 (grey) or 3 (RGB); None where all images agree
    held_out: another folder, of held-out images

    What is skipped, scaled or understood by a rule is said on stderr. Raises UserError for folders
    that can be understood in several ways, images that differ, and files that cannot be read.
    """
    parts = open_folder(root, size, channels, held_out)
    train, shape = parts["train"], parts["train"].image(0).shape
    check_memory(sum(map(len, parts.values())), shape, f"folder {train.root}")
    arrays = {part: np.empty((len(files), *shape), np.uint8) for part, files in parts.items()}
    for part, files in parts.items():
        for i in range(len(files)):
            arrays[part][i] = files.image(i)
    official = {part: (arrays[part], files.labels) for part, files in parts.items() if part != "train"}
    return Source(name, arrays["train"], train.labels, official, train.class_names)


def open_folder(
    root: str | Path, size: int | None, channels: int | None, held_out: str | Path | None = None, tolerant: bool = False
) -> dict[str, ImageFiles]:
    """The files of "train", and where there are some of "validation", "test" and HELD_OUT. All are
    checked as for `read_folder`; what cannot be read is left for later if `tolerant`."""
    root = Path(root).expanduser()
    found = {part: (root, *rest) for part, rest in find(root).items()}
    if held_out is not None:
        other = Path(held_out).expanduser()
        beside = find(other)
        if len(found) > 1 or len(beside) > 1:
            both = f"{root} and held-out images in {other}"
            raise UserError(f"folder {both}: one of them has splits of its own; name one split, such as {root / 'train'}")
        found[HELD_OUT] = (other, *beside["train"])
    parts = {part: ImageFiles(where, names, size) for part, (where, names, _) in found.items()}
    given = {part: as_labels(labels, len(parts[part]), f"folder {where}") for part, (where, _, labels) in found.items()}
    labels, class_names = numbered(f"folder {root}", given)
    for part, files in parts.items():
        files.labels, files.class_names = labels[part], class_names
    _survey(parts, channels, tolerant)
    return parts


def _survey(parts: dict[str, ImageFiles], channels: int | None, tolerant: bool) -> None:
    """Sets the channels and scales of all parts together. Raises UserError where images differ."""
    root, size = parts["train"].root, parts["train"].size
    paths, seen = [files.root / name for files in parts.values() for name in files.names], dict[Path, Header]()
    for path in paths:
        try:
            seen[path] = decoded(path, partial(_header, turn=size is None), upright=False)
        except UserError:
            if not tolerant or (path == paths[-1] and not seen):
                raise
    shown = lambda path: path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    first = next(iter(seen))
    grey = [path for path, header in seen.items() if header.channels == 1]
    if channels is None and 0 < len(grey) < len(seen):
        found = f"{len(grey)} of {len(seen)} images are grey ({shown(grey[0])})"
        raise UserError(f"folder {root}: {found}, not all; pass --channels 1 or 3")
    others = [path for path, header in seen.items() if header.size != seen[first].size]
    if size is None and others:
        differing = ", ".join(f"{shown(path)} {'x'.join(map(str, seen[path].size))}" for path in (first, others[0]))
        raise UserError(f"folder {root}: images differ in size ({differing}); pass --size")
    if frames := [path for path, header in seen.items() if header.frames]:
        say(f"folder {root}: {len(frames)} images have several frames, of which the first is read ({shown(frames[0])})")
    scales = {limit: _scale(root, [path for path in seen if seen[path].limit == limit], limit) for limit in (255, 65_535)}
    for files in parts.values():
        files.channels, files.scales = channels or seen[first].channels, scales


def _header(image: Image.Image, turn: bool) -> Header:
    """turn: whether the size is that of the upright image, for which Pillow may have to decode."""
    frames = getattr(image, "is_animated", False) and image.format != "MPO"  # a photo, and its preview
    sideways = turn and image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    width, height = image.size
    return Header((height, width) if sideways else (width, height), channels_of(image), range_of(image), bool(frames))


def _scale(root: Path, paths: list[Path], limit: int) -> int:
    """The value that becomes 255. Images are decoded until one uses more than a quarter of the
    range, which is the first one of almost all sets."""
    largest = 0
    for path in paths:
        try:
            largest = max(largest, decoded(path, largest_of))
        except UserError:
            continue  # refused or skipped when it is read
        if largest >= limit // 4:
            return limit
    full = full_scale(largest, limit) if paths else limit
    if paths:
        done = "scale them unless that is meant" if full == limit else f"scaled from 0..{full} to 0..255"
        say(f"folder {root}: the largest value of {len(paths)} images is {largest} of {limit}: {done}")
    return full


def decoded(path: Path, read: Callable[[Image.Image], T], upright: bool = True) -> T:
    """`read(image)` of the image at `path`, turned upright. Raises UserError, which names the
    file."""
    try:
        with Image.open(path, formats=sorted(set(formats().values()))) as image:
            return read(ImageOps.exif_transpose(image) if upright else image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files
        kind = formats().get(path.suffix.lower(), "image")
        raise UserError(f"{path}: not a readable {kind} ({reason(error)}); repair or remove it") from error
