"""Data sets by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data import imbalance as imbalances
from gan_jax.data import stacked, toys
from gan_jax.data.arrays import Source, checked, reason
from gan_jax.data.folders import ImageFiles, read_folder
from gan_jax.data.pixels import conform
from gan_jax.data.splits import LARGEST_HELD_OUT, NAMES, Split, Splits, as_integer, split
from gan_jax.data.tfds import PREPARED_BY_SCRIPT, kind_of, open_records, read_tfds

TOYS = {"ring": toys.ring, "grid": toys.grid}
KNOWN = ("digits", *TOYS, *PREPARED_BY_SCRIPT, *stacked.SINGLES, "npz:PATH", "folder:PATH", "tfds:NAME")


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
    """The training (T), validation (V), test (S) and extractor (E) splits of a data set.

    name:      "digits" (scikit-learn's 1,797 images, 8x8x1), "ring" or "grid" (2-D points with a
               known density, see `toys`), "mnist", "fashion_mnist", "cifar10", "stacked_digits",
               "stacked_mnist" or "stacked_fashion_mnist" (three images in the channels of one:
               1,000 classes, see `stacked`), "tfds:NAME" (any image set of TensorFlow Datasets),
               "npz:PATH" (see `read_npz`) or "folder:PATH" (PNG and JPEG, see `read_folder`)
    seed:      fixes the splits and the order inside them, see `splits.py`
    subset:    keep only the first `subset` training images
    size:      resize the short side to it and crop the centre square; needed where sizes differ
    channels:  1 (grey) or 3 (RGB); needed where a folder mixes both
    data_dir:  where TFDS keeps prepared sets; TFDS's own default when None
    imbalance: make classes of T rare before the subset is taken: {"ratio": 10, "kind":
               "long_tailed"}, see `imbalanced`
    stream:    leave T of a folder or a TFDS set on disk, and read it in training (needs the
               `stream` extra; for `fit` alone). Settings: {"damaged": "skip", "workers": 2,
               "threads": 2, "held_out": 1000}, see `streaming.Stream` and `streamed`

    Images are uint8 [n, h, w, c] in 0..255, points are float32 [n, 2], labels int32 [n] or None.
    """
    _check_options(name, channels, imbalance, stream)
    size = None if size is None else as_integer(size, "size", least=1)
    folder = None if data_dir is None else str(data_dir)
    given = {"size": size, "channels": channels, "data_dir": folder, "stream": None if stream is False else stream or True}
    source = {"name": name, "seed": seed} | {k: v for k, v in given.items() if v is not None}
    splits = replace(_splits(name, seed, size, channels, folder, stream), source=source)
    if imbalance is not None:
        splits = imbalances.from_record(splits, imbalance)
    return splits if subset is None else splits.subset(subset)


def _check_options(name: str, channels: Any, imbalance: Any, stream: Any) -> None:
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels!r}: must be 1 (grey) or 3 (RGB)")
    if not isinstance(stream, bool | dict):
        raise UserError(f"stream={stream!r}: give True, or settings: damaged, workers, threads, held_out")
    if stream is not False and imbalance is not None:
        raise UserError(f"{name}: a streamed data set cannot be made imbalanced; leave out imbalance, or stream")


def _splits(name: str, seed: int, size: int | None, channels: int | None, data_dir: str | None, stream: Any) -> Splits:
    """The splits of `load`, neither imbalanced nor cut to a subset."""
    if stream is not False:
        return streamed(name, seed, size, channels, data_dir, **({} if stream is True else stream))
    if name in TOYS:
        if (size, channels) != (None, None):
            raise UserError(f"{name}: holds points, not images; leave out size and channels")
        return toys.toy_splits(name, TOYS[name](), seed)
    if name in stacked.SINGLES:
        if channels not in (None, 3):
            raise UserError(f"{name}: has three channels by its nature; leave out channels")
        return stacked.stacked_splits(name, split(_read(stacked.SINGLES[name], size, None, data_dir), seed))
    return split(_read(name, size, channels, data_dir), seed)


def from_arrays(
    images, labels=None, *, test_images=None, test_labels=None, name: str = "arrays", seed: int = 0, subset: int | None = None
) -> Splits:
    """The splits of arrays in memory, as by `load`.

    images, test_images: uint8 [n, h, w, c] or [n, h, w], or float32 points [n, d]
    labels, test_labels: integers [n] or None
    """
    splits = split(checked(name, images, labels, test_images, test_labels), seed)
    return splits if subset is None else splits.subset(subset)


def streamed(name: str, seed: int, size: int | None, channels: int | None, data_dir: str | None, **settings: Any) -> Splits:
    """`load(name, ..., stream=settings)`: splits whose training images stay on disk.

    settings: damaged, workers and threads of `Stream`; and held_out: at most so many images of V,
              of S and of E, the first ones, are decoded now and kept in memory

    The cut is that of `load`, with two exceptions. Equal images in two splits stay, because every
    file would have to be decoded to find them; `duplicates` is empty. Records of TFDS are not
    stratified, because their labels are known only once they are read.
    """
    from gan_jax.data.streaming import Stream

    held_out = as_integer(settings.pop("held_out", LARGEST_HELD_OUT), "held_out", least=1)
    if unknown := settings.keys() - {"damaged", "workers", "threads"}:
        raise UserError(f"stream has no setting {', '.join(sorted(unknown))}: it has damaged, workers, threads and held_out")
    kind, rest = kind_of(name)
    if kind == "folder":
        stored, test = ImageFiles(rest, size, channels), None
    elif kind == "tfds":
        stored, test = open_records(rest, data_dir, size, channels)
    else:
        raise UserError(f"{name!r} cannot be streamed: folder:PATH, tfds:NAME and {', '.join(PREPARED_BY_SCRIPT)} can")
    # Row numbers are split in place of images; those of the test part follow the others.
    n = len(stored)
    rows = np.arange(n if test is None else n + len(test))[:, None]
    cut = split(Source(name, rows[:n], stored.labels, None if test is None else rows[n:], None, stored.class_names), seed)
    train = Stream(stored, cut.train.images[:, 0], **settings)
    held = {}
    for part in NAMES[1:]:
        index = getattr(cut, part).images[:held_out, 0]
        if test is not None and part == "test":
            found = Stream(test, index - n, **settings)
        else:
            found = Stream(stored, index, **settings)
        held[part] = Split(*found.read(np.arange(len(found))))
        train.damaged_examples |= found.damaged_examples
    return Splits(name, cut.seed, cast(Split, train), **held, class_names=stored.class_names, duplicates={})


def _read(name: str, size: int | None, channels: int | None, data_dir: str | None) -> Source:
    kind, rest = kind_of(name)
    if kind == "tfds":
        return read_tfds(name, rest, data_dir, size, channels)
    if kind == "folder":
        return read_folder(name, rest, size, channels)
    if kind != "npz" and name != "digits":
        raise UserError(f"unknown data set {name!r}; known: {', '.join(KNOWN)}")
    source = read_npz(name, rest) if kind == "npz" else read_digits()
    if (size, channels) == (None, None):
        return source
    if source.images.ndim != 4:
        raise UserError(f"{name}: holds points, not images; leave out size and channels")
    for field, images in {"images": source.images, "test_images": source.test_images}.items():
        if images is not None and len(images):
            source = replace(source, **{field: np.stack([conform(image, size, channels) for image in images])})
    return source


def read_digits() -> Source:
    """scikit-learn's digits, uint8 [1797, 8, 8, 1]: values 0..16 scaled to 0..255 and rounded."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(pixels) * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return checked("digits", images, labels)


def read_npz(name: str, path: str | Path) -> Source:
    """The arrays images and, where present, labels, test_images and test_labels of an .npz file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    arrays, found = {}, "one array without a name"
    try:
        file = np.load(path, allow_pickle=False)  # a pickled object could run code
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                found = ", ".join(file) or "nothing"
                arrays = {key: file[key] for key in ("images", "labels", "test_images", "test_labels") if key in file}
    except Exception as error:  # NumPy raises ValueError, OSError, BadZipFile, zlib.error ... for damaged files
        raise UserError(f"{path}: not a readable .npz of plain arrays ({reason(error)}); write it with np.savez") from error
    if "images" not in arrays:
        raise UserError(f"{path}: no array named images, it holds {found}; np.savez(path, images=...)")
    return checked(name, **arrays)
