"""Folders of PNG and JPEG files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source, reason
from gan_jax.data.pixels import as_array, channels_of, fit, to_8bit

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg")
SPLIT_NAMES = {"train", "test", "val", "valid", "validation"}
T = TypeVar("T")


class Header(NamedTuple):
    """The shape and the channels of an image, known before it is decoded."""

    shape: tuple[int, int]  # height, width, as displayed
    channels: int


def read_folder(name: str, root: str | Path, size: int | None, channels: int | None) -> Source:
    """Every PNG and JPEG under `root`, uint8 [n, h, w, c], in the order of the sorted paths.

    Subfolders of `root` are classes, numbered in sorted order. Images in `root` itself have no
    labels. Hidden files and folders, and files of other types, are ignored.

    size:     resize the short side to it and crop the centre square; None where all images share
              one size
    channels: 1 (grey) or 3 (RGB); None where all images agree
    """
    root = Path(root).expanduser()
    paths = find_images(root)
    headers = [decoded(path, read_header) for path in paths]
    channels = channels or _common_channels(root, paths, headers)
    shape = (size, size) if size else _common_shape(root, paths, headers)
    images = np.empty((len(paths), *shape, channels), np.uint8)
    for i, path in enumerate(paths):
        images[i] = decoded(path, lambda image: read_image(image, size, channels))
    class_names, labels = classes_of(root, paths)
    return Source(name, images, labels, class_names=class_names)


def find_images(root: Path) -> list[Path]:
    """The image files under `root`, sorted by their path below it."""
    if not root.is_dir():
        raise UserError(f"folder {root}: no such folder; check the path")
    files = sorted(_visible_files(root), key=lambda path: path.relative_to(root).as_posix())
    images = [path for path in files if path.suffix.lower() in ENDINGS]
    if not images:
        raise UserError(f"folder {root}: no PNG or JPEG file in it ({len(files)} other files ignored); check the path")
    return images


def _visible_files(root: Path) -> Iterator[Path]:
    def refuse(error: OSError):
        raise UserError(f"folder {error.filename}: cannot be read ({error.strerror}); check its permissions")

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def classes_of(root: Path, paths: list[Path]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Class names and int32 labels [n] from the first folder below `root`; ((), None) for a flat
    folder."""
    below = [path.relative_to(root).parts for path in paths]
    flat = sum(len(parts) == 1 for parts in below)
    if flat == len(paths):
        return (), None
    if flat:
        raise UserError(f"folder {root}: {flat} images beside class folders of images; move them into one or away")
    names = sorted({parts[0] for parts in below})
    if SPLIT_NAMES.issuperset(names):
        raise UserError(f"folder {root}: {', '.join(names)} are splits, not classes; give one: {root / names[-1]}")
    return tuple(names), np.array([names.index(parts[0]) for parts in below], np.int32)


def _common_channels(root: Path, paths: list[Path], headers: list[Header]) -> int:
    grey = [path for path, header in zip(paths, headers, strict=True) if header.channels == 1]
    if grey and len(grey) < len(paths):
        example = grey[0].relative_to(root)
        raise UserError(
            f"folder {root}: {len(grey)} of {len(paths)} images are grey ({example}), not all; pass --channels 1 or 3"
        )
    return 1 if grey else 3


def _common_shape(root: Path, paths: list[Path], headers: list[Header]) -> tuple[int, int]:
    (height, width), _ = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if header.shape != (height, width):
            sizes = f"{paths[0].name} {width}x{height}, {path.name} {header.shape[1]}x{header.shape[0]}"
            raise UserError(f"folder {root}: images differ in size ({sizes}); pass --size")
    return height, width


def decoded(path: Path, read: Callable[[Image], T]) -> T:
    """`read(image)` of the upright image at `path`. Raises UserError, which names the file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return read(ImageOps.exif_transpose(image))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files
        raise UserError(f"{path}: not a readable PNG or JPEG ({reason(error)}); repair or remove it") from error


def read_header(image: Image) -> Header:
    """Shape and channels of an image."""
    return Header((image.height, image.width), channels_of(image))


def read_image(image: Image, size: int | None, channels: int) -> np.ndarray:
    """uint8 [h, w, c] of an image."""
    return as_array(fit(to_8bit(image, channels), size))
