"""Folders of PNG and JPEG files."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source, reason
from gan_jax.data.pixels import channels_of, to_array

ENDINGS = (".png", ".jpg", ".jpeg")
SPLIT_NAMES = {"train", "test", "val", "valid", "validation"}
T = TypeVar("T")


class ImageFiles:
    """The PNG and JPEG files under a folder, each decoded when it is indexed, as for `read_folder`.

    channels: None for those of the first file
    """

    def __init__(self, root: str | Path, size: int | None, channels: int | None):
        self.root = Path(root).expanduser()
        self.names = _find_images(self.root)
        self.class_names, self.labels = _classes_of(self.root, self.names)
        self.size, self.channels = size, channels or decoded(self.root / self.names[0], channels_of)

    @property
    def identity(self) -> str:
        """sha256 (hex) of the files' names."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return str(self.root / self.names[row])

    def image(self, row: int) -> np.ndarray:
        return decoded(self.root / self.names[row], lambda image: to_array(image, self.size, self.channels))

    def __getitem__(self, row: int) -> Any:
        return self.image(row) if self.labels is None else (self.image(row), self.labels[row])


def read_folder(name: str, root: str | Path, size: int | None, channels: int | None) -> Source:
    """Every PNG and JPEG under `root`, uint8 [n, h, w, c], in the order of the sorted paths.

    Subfolders of `root` are classes, numbered in sorted order. Images in `root` itself have no
    labels. Hidden files and folders, and files of other types, are ignored.

    size:     as for `pixels.to_array`; None where all images share one size
    channels: 1 (grey) or 3 (RGB); None where all images agree
    """
    files = ImageFiles(root, size, channels)
    headers = [decoded(files.root / name, lambda image: (image.size, channels_of(image))) for name in files.names]
    named = list(zip(files.names, headers, strict=True))
    grey = [name for name, (_, c) in named if c == 1]
    if channels is None and 0 < len(grey) < len(files):
        found = f"{len(grey)} of {len(files)} images are grey ({grey[0]})"
        raise UserError(f"folder {files.root}: {found}, not all; pass --channels 1 or 3")
    (width, height), _ = headers[0]
    others = [f"{name} {w}x{h}" for name, ((w, h), _) in named if (w, h) != (width, height)]
    if size is None and others:
        differing = f"{files.names[0]} {width}x{height}, {others[0]}"
        raise UserError(f"folder {files.root}: images differ in size ({differing}); pass --size")
    shape = (height, width) if size is None else (size, size)
    images = np.empty((len(files), *shape, files.channels), np.uint8)
    for i in range(len(files)):
        images[i] = files.image(i)
    return Source(name, images, files.labels, class_names=files.class_names)


def _find_images(root: Path) -> list[str]:
    """The sorted paths, below `root`, of the image files."""

    def refuse(error: OSError):
        raise UserError(f"folder {error.filename}: cannot be read ({error.strerror}); check its permissions")

    if not root.is_dir():
        raise UserError(f"folder {root}: no such folder; check the path")
    files = []
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(folder, name).relative_to(root).as_posix() for name in names if not name.startswith(".")]
    images = sorted(name for name in files if name.lower().endswith(ENDINGS))
    if not images:
        raise UserError(f"folder {root}: no PNG or JPEG file in it ({len(files)} other files ignored); check the path")
    return images


def _classes_of(root: Path, names: list[str]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Class names and int32 labels [n] by the first folder below `root`, or ((), None)."""
    nested = [name.partition("/")[0] for name in names if "/" in name]
    if not nested:
        return (), None
    if flat := len(names) - len(nested):
        raise UserError(f"folder {root}: {flat} images beside class folders of images; move them into one or away")
    classes = sorted(set(nested))
    if SPLIT_NAMES.issuperset(classes):
        raise UserError(f"folder {root}: {', '.join(classes)} are splits, not classes; give one: {root / classes[-1]}")
    return tuple(classes), np.array([classes.index(name) for name in nested], np.int32)


def decoded(path: Path, read: Callable[[Image.Image], T]) -> T:
    """`read(image)` of the upright image at `path`. Raises UserError, which names the file."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return read(ImageOps.exif_transpose(image))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files
        raise UserError(f"{path}: not a readable PNG or JPEG ({reason(error)}); repair or remove it") from error
