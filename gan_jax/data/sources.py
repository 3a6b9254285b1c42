"""Data sets by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data import imbalance as imbalances
from gan_jax.data import stacked, toys
from gan_jax.data.arrays import Source, checked, reason
from gan_jax.data.folders import read_folder
from gan_jax.data.pixels import conform
from gan_jax.data.splits import Splits, as_integer, split
from gan_jax.data.tfds import PREPARED_BY_SCRIPT, read_tfds

TOYS = {"ring": toys.ring, "grid": toys.grid}
NAMES = ("digits", *TOYS, *PREPARED_BY_SCRIPT, *stacked.SINGLES)
PREFIXES = ("npz:PATH", "folder:PATH", "tfds:NAME")


def load(
    name: str,
    *,
    seed: int = 0,
    subset: int | None = None,
    size: int | None = None,
    channels: int | None = None,
    data_dir: str | Path | None = None,
    imbalance: dict[str, Any] | None = None,
    stream: bool | dict[str, Any] = False,
) -> Splits:
    """Load a data set and split it into training (T), validation (V), test (S) and extractor (E)
    images.

    name:      "digits" (scikit-learn's 1,797 images, 8x8x1), "ring" or "grid" (2-D points with a
               known density), "mnist", "fashion_mnist", "cifar10", "stacked_digits",
               "stacked_mnist" or "stacked_fashion_mnist" (three such images in the channels of one:
               1,000 classes, 128,000 training images), "tfds:NAME" (any image set of TensorFlow
               Datasets), "npz:PATH" (arrays images and, optionally, labels, test_images,
               test_labels) or "folder:PATH" (PNG and JPEG files; subfolders are classes)
    seed:      fixes the splits and the order inside them, see `splits.py`
    subset:    keep only the first `subset` training images
    size:      resize the short side to it and crop the centre square; needed where images differ in
               size
    channels:  1 (grey) or 3 (RGB); needed where a folder mixes both
    data_dir:  where TFDS keeps prepared sets; TFDS's own default when None
    imbalance: make classes of T rare, before the subset is taken: {"ratio": 10, "kind":
               "long_tailed"}, see `imbalanced`
    stream:    leave the training images of a folder or of a TFDS set on disk, and read them in
               training (needs the `stream` extra). Settings: {"damaged": "skip", "workers": 2,
               "threads": 2, "held_out": 1000}, see `streaming.Stream` and `stores.streamed`. For
               `fit` alone: a sweep needs its data on the device.

    Images are uint8 [n, h, w, c] in 0..255, points are float32 [n, 2], and labels int32 [n] or
    None.
    """
    if size is not None:
        size = as_integer(size, "size", least=1)
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels!r}: must be 1 (grey) or 3 (RGB)")
    folder = None if data_dir is None else str(data_dir)
    if stream is not False:
        splits = _streamed(name, seed, size, channels, folder, {} if stream is True else stream, imbalance)
    elif name in TOYS:
        if (size, channels) != (None, None):
            raise UserError(f"{name}: holds points, not images; leave out size and channels")
        splits = toys.toy_splits(name, TOYS[name](), seed)
    elif name in stacked.SINGLES:
        if channels not in (None, 3):
            raise UserError(f"{name}: has three channels by its nature; leave out channels")
        singles = _read(stacked.SINGLES[name], size, None, folder)
        splits = stacked.stacked_splits(name, split(singles, seed))
    else:
        splits = split(_read(name, size, channels, folder), seed)
    given = {"size": size, "channels": channels, "data_dir": folder, "stream": None if stream is False else stream or True}
    source = {"name": name, "seed": seed} | {k: v for k, v in given.items() if v is not None}
    splits = replace(splits, source=source)
    if imbalance is not None:
        splits = imbalances.from_record(splits, imbalance)
    return splits if subset is None else splits.subset(subset)


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    test_images: Any = None,
    test_labels: Any = None,
    name: str = "arrays",
    seed: int = 0,
    subset: int | None = None,
) -> Splits:
    """Split arrays in memory, as `load` does.

    images: uint8 [n, h, w, c] or [n, h, w], or float32 points [n, d]
    labels: integers [n] or None
    test_images, test_labels: the test split, if given
    """
    splits = split(checked(name, images, labels, test_images, test_labels), seed)
    return splits if subset is None else splits.subset(subset)


def _streamed(name: str, seed: int, size, channels, data_dir, settings: Any, imbalance: Any) -> Splits:
    from gan_jax.data.stores import streamed

    if not isinstance(settings, dict):
        raise UserError(f"stream={settings!r}: give True, or settings: damaged, workers, threads, held_out")
    if imbalance is not None:
        raise UserError(f"{name}: a streamed data set cannot be made imbalanced; leave out imbalance, or stream")
    return streamed(name, seed, size, channels, data_dir, **settings)


def _read(name: str, size: int | None, channels: int | None, data_dir: str | None) -> Source:
    kind, _, rest = name.partition(":")
    if name in PREPARED_BY_SCRIPT:
        kind, rest = "tfds", name
    if kind == "tfds" and rest:
        return read_tfds(name, rest, data_dir, size, channels)
    if kind == "folder" and rest:
        return read_folder(name, rest, size, channels)
    if kind == "npz" and rest:
        return _conformed(read_npz(name, rest), size, channels)
    if name == "digits":
        return _conformed(read_digits(), size, channels)
    raise UserError(f"unknown data set {name!r}; known: {', '.join((*NAMES, *PREFIXES))}")


def _conformed(source: Source, size: int | None, channels: int | None) -> Source:
    """`source` with all its images at `size` and `channels`."""
    if (size, channels) == (None, None):
        return source
    if source.images.ndim != 4:
        raise UserError(f"{source.name}: holds points, not images; leave out size and channels")
    images, test_images = (
        part if part is None or not len(part) else np.stack([conform(image, size, channels) for image in part])
        for part in (source.images, source.test_images)
    )
    assert images is not None
    return Source(source.name, images, source.labels, test_images, source.test_labels, source.class_names)


def read_digits() -> Source:
    """scikit-learn's 1,797 handwritten digits, uint8 [1797, 8, 8, 1]. Values 0..16 are scaled to
    0..255 and rounded."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(pixels) * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return checked("digits", images, labels)


def read_npz(name: str, path: str | Path) -> Source:
    """The arrays `images` and, where present, `labels`, `test_images` and `test_labels` of an .npz
    file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    arrays: dict[str, Any] = {}
    try:
        # A pickled object could run code.
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                arrays = {key: file[key] for key in ("images", "labels", "test_images", "test_labels") if key in file}
    except Exception as error:  # NumPy raises ValueError, OSError, BadZipFile, zlib.error ... for damaged files
        raise UserError(f"{path}: not a readable .npz of plain arrays ({reason(error)}); write it with np.savez") from error
    if "images" not in arrays:
        found = ", ".join(file) if isinstance(file, np.lib.npyio.NpzFile) else "one array without a name"
        raise UserError(f"{path}: no array named images, it holds {found or 'nothing'}; np.savez(path, images=...)")
    return checked(name, **arrays)
