"""Image sets of TensorFlow Datasets (TFDS), read without TensorFlow.

The data set must be prepared as array_record: `tfds.data_source` reads that with random access and
decodes with Pillow. Records come in the order in which TFDS stored them, which is not that of the
original files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source, checked, reason
from gan_jax.data.pixels import conform

PREPARED_BY_SCRIPT = ("mnist", "fashion_mnist", "cifar10")
RECORDS_AT_ONCE = 1024

Part = tuple[np.ndarray, np.ndarray | None]


def read_tfds(name: str, dataset: str, data_dir: str | None, size: int | None, channels: int | None) -> Source:
    """The TFDS data set `dataset` ("mnist", "emnist/letters", "cifar10:3.0.2") as uint8 arrays.

    Its "train" split is the part to split, and its "test" split, if any, the official test part.
    Other splits are not used. Its "label" feature gives the labels where it is a ClassLabel.
    """
    builder = prepared(dataset, data_dir)
    class_names = class_names_of(builder)
    labelled = bool(class_names)
    train = _read_split(builder, "train", labelled, size, channels)
    test = (None, None)
    if "test" in builder.info.splits:
        test = _read_split(builder, "test", labelled, size, channels)
    return checked(name, *train, *test, class_names=class_names)


def open_builder(dataset: str, data_dir: str | None) -> Any | None:
    """The TFDS builder of a data set that is prepared under `data_dir`, or None.

    data_dir: None for TFDS's default
    """
    from tensorflow_datasets.core import naming, read_only_builder, registered

    try:
        naming.parse_builder_name_kwargs(dataset)
    except ValueError as error:
        raise UserError(f"{dataset!r} is no TFDS name; write NAME, NAME/CONFIG or NAME/CONFIG:VERSION") from error
    with _damage_of(f"{dataset} in {folder_of(data_dir)}"):
        try:
            return read_only_builder.builder_from_files(dataset, data_dir=data_dir and os.path.expanduser(data_dir))
        except registered.DatasetNotFoundError:
            return None


def prepared(dataset: str, data_dir: str | None) -> Any:
    """The builder of a data set with a train split. Raises UserError where the data set is not
    prepared, or has no train split."""
    builder = open_builder(dataset, data_dir)
    if builder is None:
        raise UserError(not_prepared(dataset, data_dir))
    if "train" not in builder.info.splits:
        found = ", ".join(builder.info.splits) or "none"
        raise UserError(f"{builder.data_dir}: no train split among {found}; choose another data set")
    return builder


def folder_of(data_dir: str | None) -> str:
    """`data_dir`, or TFDS's default: TFDS_DATA_DIR in the environment, or ~/tensorflow_datasets."""
    from tensorflow_datasets.core import constants

    return os.path.expanduser(data_dir or constants.DATA_DIR)


def not_prepared(dataset: str, data_dir: str | None) -> str:
    """The message for a data set that is not prepared: what to run."""
    folder = folder_of(data_dir)
    if dataset in PREPARED_BY_SCRIPT:
        return f"{dataset} is not prepared in {folder}; run scripts/prepare_data.py {dataset} --data-dir {folder}"
    return (
        f"{dataset} is not prepared in {folder}; scripts/prepare_data.py prepares {', '.join(PREPARED_BY_SCRIPT)}, "
        'TFDS itself any other set: download_and_prepare(file_format="array_record")'
    )


def open_split(builder: Any, split: str) -> Any:
    """The data source of one split. Raises UserError where records are missing."""
    folder, promised = builder.data_dir, builder.info.splits[split].num_examples
    with _damage_of(folder):
        try:
            source = builder.as_data_source(split=split)
        except NotImplementedError as error:
            stored = builder.info.file_format.value
            raise UserError(f"{folder}: stored as {stored}; prepare it as array_record, in another folder") from error
        found = _count_records(builder.info, split, source)
    if found != promised:
        raise UserError(f"{folder}: {split} has {found} of {promised} records; delete the folder and prepare it again")
    return source


def _count_records(info: Any, split: str, source: Any) -> int:
    """How many records the files hold. `len(source)` of array_record repeats what dataset_info
    promises."""
    if info.file_format.value != "array_record":
        return len(source)
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return len(ArrayRecordDataSource([str(path) for path in info.splits[split].filepaths]))


@contextmanager
def without_advice() -> Iterator[None]:
    """Hide TFDS's advice, logged at each start, to decode with OpenCV: Pillow is fast enough."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _damage_of(what: str) -> Iterator[None]:
    """Turn whatever TFDS raises on damaged files into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the readers raise RuntimeError, ParseError, OSError, ValueError ...
        raise UserError(f"{what}: cannot be read ({reason(error)}); delete the folder and prepare it again") from error


def class_names_of(builder: Any) -> tuple[str, ...]:
    """Class names, () without labels. Raises UserError for what is not a set of 8-bit images."""
    from tensorflow_datasets.core import features as kinds

    named: Any = builder.info.features  # a mapping of features, but without .get
    features = dict(named.items()) if isinstance(named, kinds.FeaturesDict) else {type(named).__name__: named}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, kinds.Image) or image.np_dtype != np.uint8:
        found = ", ".join(features)
        raise UserError(f'{builder.data_dir}: no 8-bit "image" among its features ({found}); choose an image data set')
    return tuple(label.names) if isinstance(label, kinds.ClassLabel) else ()


def _read_split(builder: Any, split: str, labelled: bool, size: int | None, channels: int | None) -> Part:
    """Images uint8 [n, h, w, c] and labels int32 [n], decoded once."""
    source = open_split(builder, split)
    n, images, labels = len(source), None, np.empty(len(source), np.int32)
    for i, example in enumerate(_examples(builder.data_dir, source)):
        image = conform(example["image"], size, channels)
        if images is None:
            images = np.empty((n, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise UserError(f"{builder.name}: images differ in shape ({images.shape[1:]}, {image.shape}); pass --size")
        images[i] = image
        labels[i] = example["label"] if labelled else 0
    if images is None:
        raise UserError(f"{builder.data_dir}: {split} is empty; delete the folder and prepare it again")
    return images, labels if labelled else None


def _examples(folder: str, source: Any) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(source), RECORDS_AT_ONCE):
        with _damage_of(folder), without_advice():
            examples = source.__getitems__(list(range(start, min(start + RECORDS_AT_ONCE, len(source)))))
        yield from examples
