"""Data sets by name."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from gan_jax.arguments import count
from gan_jax.core.errors import UserError, say
from gan_jax.data import imbalance as imbalances
from gan_jax.data import stacked, toys
from gan_jax.data.arrays import HELD_OUT, Source, check_memory, checked, reason
from gan_jax.data.folders import folder_pools, open_folder, read_folder
from gan_jax.data.labels import numbered
from gan_jax.data.pixels import conform
from gan_jax.data.splits import LARGEST_HELD_OUT, NAMES, Pool, Split, Splits, as_sizes, cut
from gan_jax.data.splits import split as cut_source
from gan_jax.data.tfds import PREPARED_BY_SCRIPT, kind_of, open_records, read_tfds

TOYS = {"ring": toys.ring, "grid": toys.grid}
LARGEST_SIZE = 4096  # pixels a side
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
    held_out: str | None = None,
    split: str | Sequence[int] | None = None,
) -> Splits:
    """The training (T), validation (V), test (S) and extractor (E) splits of a data set.

    name:      "digits" (scikit-learn's 1,797 images, 8x8x1), "ring" or "grid" (2-D points with a
               known density, see `toys`), "mnist", "fashion_mnist", "cifar10", "stacked_digits",
               "stacked_mnist" or "stacked_fashion_mnist" (three images in the channels of one:
               1,000 classes, see `stacked`), "tfds:NAME" (any image set of TensorFlow Datasets),
               "npz:PATH" (see `read_npz`) or "folder:PATH" (image files, see `read_folder`)
    seed:      fixes the splits and the order inside them, see `splits.py`
    subset:    keep only the first `subset` training images
    size:      resize the short side to it and crop the centre square, at most 4096; needed where
               sizes differ
    channels:  1 (grey) or 3 (RGB); needed where a folder mixes both
    data_dir:  where TFDS keeps prepared sets; TFDS's own default when None
    imbalance: make classes of T rare before the subset is taken: {"ratio": 10, "kind":
               "long_tailed"}, see `imbalanced`
    stream:    leave T of a folder or a TFDS set on disk, and read it in training (needs the
               `stream` extra; for `fit` alone). Settings: {"damaged": "skip", "workers": 2,
               "threads": 2, "held_out": 1000}, see `streaming.Stream` and `streamed`
    held_out:  another data set, of the same shape and classes: V takes half of it, S and E a
               quarter each, and T is all of `name`, without the images that both have
    split:     the numbers of images of T, V, S and E, "400/100/100/0" or (400, 100, 100, 0)

    What is skipped, scaled or left out of the data is said on stderr. Raises UserError for
    arguments that do not fit and data that cannot be read.

    Images are uint8 [n, h, w, c] in 0..255, points are float32 [n, 2], labels int32 [n] or None.
    """
    kind_of(name)  # refuses what is no text
    _check_options(name, imbalance, stream)
    size = None if size is None else count(size, "size", least=1)
    if size is not None and size > LARGEST_SIZE:
        raise UserError(f"size={size}: images have at most {LARGEST_SIZE} pixels a side; give the side in pixels")
    if channels is not None and count(channels, "channels", least=1) not in (1, 3):
        raise UserError(f"channels={channels!r}: must be 1 (grey) or 3 (RGB)")
    if not isinstance(data_dir, str | Path | None):
        raise UserError(f"data_dir={data_dir!r:.60}: must be the path of a folder")
    folder, sizes = None if data_dir is None else str(data_dir), as_sizes(split)
    if (held_out, sizes) != (None, None) and (name in TOYS or name in stacked.SINGLES):
        raise UserError(f"{name}: its splits are drawn in sizes of its own; leave out held_out and split")
    given = {"size": size, "channels": channels, "data_dir": folder, "stream": None if stream is False else stream or True}
    given |= {"held_out": held_out, "split": sizes and list(sizes.values())}
    source = {"name": name, "seed": seed} | {k: v for k, v in given.items() if v is not None}
    splits = replace(_splits(name, seed, size, channels, folder, stream, held_out, split), source=source)
    if imbalance is not None:
        splits = imbalances.from_record(splits, imbalance)
    return splits if subset is None else splits.subset(subset)


def _check_options(name: str, imbalance: Any, stream: Any) -> None:
    if not isinstance(stream, bool | dict):
        raise UserError(f"stream={stream!r:.60}: give True, or settings: damaged, workers, threads, held_out")
    if not isinstance(imbalance, dict | None):
        raise UserError(f"imbalance={imbalance!r:.60}: give settings: ratio, kind, order")
    if stream is not False and imbalance is not None:
        raise UserError(f"{name}: a streamed data set cannot be made imbalanced; leave out imbalance, or stream")


def _splits(
    name: str, seed: int, size: int | None, channels: int | None, data_dir: str | None, stream: Any, held_out: Any, sizes: Any
) -> Splits:
    """The splits of `load`, neither imbalanced nor cut to a subset."""
    if stream is not False:
        return streamed(name, seed, size, channels, data_dir, {} if stream is True else stream, held_out, sizes)
    if name in TOYS:
        if (size, channels) != (None, None):
            raise UserError(f"{name}: holds points, not images; leave out size and channels")
        return toys.toy_splits(name, TOYS[name](), seed)
    if name in stacked.SINGLES:
        if channels not in (None, 3):
            raise UserError(f"{name}: has three channels by its nature; leave out channels")
        return stacked.stacked_splits(name, cut_source(_read(stacked.SINGLES[name], size, None, data_dir), seed))
    return cut_source(_read(name, size, channels, data_dir, held_out), seed, sizes)


def from_arrays(
    images,
    labels=None,
    *,
    test_images=None,
    test_labels=None,
    name: str = "arrays",
    seed: int = 0,
    subset: int | None = None,
    held_out_images=None,
    held_out_labels=None,
    split: str | Sequence[int] | None = None,
) -> Splits:
    """The splits of arrays in memory, as by `load`. The order of the arrays, such as class by
    class, does not matter: every split is drawn at random.

    images, test_images, held_out_images: uint8 [n, h, w, c] or [n, h, w], or float32 points [n, d].
        V, S and E are of the held-out images, if any; S alone of the test images, if any
    labels, test_labels, held_out_labels: [n], integers of at least 0 or names (texts), or None.
        They are a vocabulary: `class_names` has their sorted values, and a split's labels are the
        places there, 0 ... k - 1

    Raises UserError for images of another type, range or layout, saying how to convert them, and
    for labels that do not fit.
    """
    official = {}
    for part, (array, numbers) in {"test": (test_images, test_labels), HELD_OUT: (held_out_images, held_out_labels)}.items():
        if array is not None:
            official[part] = array, numbers
        elif numbers is not None:
            argument = part.replace("-", "_")
            raise UserError(f"{name}: {argument}_labels without {argument}_images; give both or neither")
    if len(official) > 1:
        raise UserError(f"{name}: test_images and held_out_images both hold S; give one of them")
    splits = cut_source(checked(name, images, labels, official), seed, split)
    return splits if subset is None else splits.subset(subset)


def streamed(
    name: str, seed: int, size: int | None, channels: int | None, data_dir: str | None, settings: dict[str, Any],
    held_out: str | None = None, sizes: Any = None,
) -> Splits:  # fmt: skip
    """`load(name, ..., stream=settings)`: splits whose training images stay on disk.

    held_out, sizes: the arguments held_out and split of `load`
    settings: damaged, workers and threads of `Stream`; and held_out: at most so many images of V,
              of S and of E, the first ones, are decoded now and kept in memory

    All files are opened first, and checked as those of `load`. The cut is that of `load`, with two
    exceptions. Copies are files of equal bytes (not images of equal pixels), of folders alone.
    Records of TFDS are not stratified, because their labels are known only once they are read.
    """
    from gan_jax.data.streaming import Stream

    settings = dict(settings)
    most = count(settings.pop("held_out", LARGEST_HELD_OUT), "held_out", least=1)
    if unknown := settings.keys() - {"damaged", "workers", "threads"}:
        raise UserError(
            f"stream has no setting {', '.join(sorted(map(str, unknown)))}: it has damaged, workers, threads and held_out"
        )
    kind, rest = kind_of(name)
    if kind == "folder":
        other = None if held_out is None else _same_kind(name, held_out)
        stored = open_folder(rest, size, channels, other, tolerant=settings.get("damaged") == "skip")
        pools = folder_pools(stored)
    elif kind == "tfds" and held_out is None:
        records = dict(zip(("train", "test"), open_records(rest, data_dir, size, channels), strict=True))
        stored = {part: found for part, found in records.items() if found is not None}
        pools = {
            part: Pool(np.arange(len(found)) + (part == "test") * len(stored["train"]), None) for part, found in stored.items()
        }
    else:
        kinds = "folder:PATH can" if held_out else f"folder:PATH, tfds:NAME and {', '.join(PREPARED_BY_SCRIPT)} can"
        raise UserError(f"{name!r} cannot be streamed{' beside held_out' * bool(held_out)}: {kinds}")
    rows, duplicates = cut(name, pools, seed, as_sizes(sizes))
    train = Stream(stored["train"], rows["train"][1], **settings)
    held = {}
    for part in NAMES[1:]:
        pool, index = rows[part]
        found = Stream(stored[pool], index[:most] if len(index) else None, **settings)
        held[part] = Split(*found.read(np.arange(min(len(index), most))))
        train.damaged_examples |= found.damaged_examples
    names = stored["train"].class_names
    return Splits(name, seed, cast(Split, train), **held, class_names=names, duplicates=duplicates)


def _same_kind(name: str, held_out: Any) -> str:
    """The path of a held-out folder beside a folder. Raises UserError for what is no folder."""
    kind, rest = kind_of(held_out)
    if kind != "folder":
        raise UserError(f"{name}: held_out={held_out!r:.60} must be a folder too, as in folder:PATH")
    return rest


def _read(name: str, size: int | None, channels: int | None, data_dir: str | None, held_out: str | None = None) -> Source:
    kind, rest = kind_of(name)
    if kind == "folder":
        return read_folder(name, rest, size, channels, None if held_out is None else _same_kind(name, held_out))
    if held_out is not None:
        return _joined(_read(name, size, channels, data_dir), _read(held_out, size, channels, data_dir))
    if kind == "tfds":
        return read_tfds(name, rest, data_dir, size, channels)
    if kind != "npz" and name != "digits":
        hint = f" (is it folder:{name}?)" if name and Path(name).expanduser().is_dir() else ""
        raise UserError(f"unknown data set {name!r}{hint}; known: {', '.join(KNOWN)}")
    source = read_npz(name, rest) if kind == "npz" else read_digits()
    if (size, channels) == (None, None):
        return source
    if source.images.ndim != 4:
        raise UserError(f"{name}: holds points, not images; leave out size and channels")
    check_memory(len(source.images), (size or 1, size or 1, channels or 1), name)
    changed = lambda images: np.stack([conform(image, size, channels) for image in images]) if len(images) else images
    official = {part: (changed(images), labels) for part, (images, labels) in source.official.items()}
    return replace(source, images=changed(source.images), official=official)


def _joined(source: Source, other: Source) -> Source:
    """`source` with the images of `other` as its held-out part."""
    if source.official or other.official:
        own = source.name if source.official else other.name
        raise UserError(f"{own}: has a test part of its own, and held_out gives another; use data without one")
    named = lambda part: part.labels if part.labels is None else np.array(part.class_names)[part.labels]
    numbered(source.name, {"training": named(source), HELD_OUT: named(other)})
    labels = other.labels
    if labels is not None:
        labels = np.array([source.class_names.index(label) for label in other.class_names], np.int32)[labels]
    return checked(source.name, source.images, source.labels, {HELD_OUT: (other.images, labels)}, source.class_names or None)


def read_digits() -> Source:
    """scikit-learn's digits, uint8 [1797, 8, 8, 1]: values 0..16 scaled to 0..255 and rounded."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(pixels) * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return checked("digits", images, labels)


def read_npz(name: str, path: str | Path) -> Source:
    """The arrays images and, where present, labels, test_images and test_labels of an .npz file."""
    path = Path(path).expanduser()
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; check the path")
    arrays, found = {}, ["one array without a name"]
    try:
        file = np.load(path, allow_pickle=False)  # a pickled object could run code
        if isinstance(file, np.lib.npyio.NpzFile):
            with file:
                found = list(file)
                arrays = {key: file[key] for key in ("images", "labels", "test_images", "test_labels") if key in file}
    except Exception as error:  # NumPy raises ValueError, OSError, BadZipFile, zlib.error ... for damaged files
        raise UserError(f"{path}: not a readable .npz of plain arrays ({reason(error)}); write it with np.savez") from error
    if "images" not in arrays:
        raise UserError(f"{path}: no array named images, it holds {', '.join(found) or 'nothing'}; np.savez(path, images=...)")
    if others := sorted(set(found) - set(arrays)):
        say(f"{path}: arrays of other names were not read: {', '.join(others)}; images, labels, test_images, test_labels are")
    test = {"test": (arrays["test_images"], arrays.get("test_labels"))} if "test_images" in arrays else None
    if test is None and "test_labels" in arrays:
        raise UserError(f"{path}: test_labels without test_images; write both or neither")
    return checked(name, arrays["images"], arrays.get("labels"), test)
