"""Image sets of TensorFlow Datasets (TFDS), read without TensorFlow.

The data set must be prepared as array_record: `tfds.data_source` reads that with random access and
decodes with Pillow. Records come in the order in which TFDS stored them, which is not that of the
original files.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.data.arrays import Source, check_memory, checked, reason
from gan_jax.data.pixels import conform

PREPARED_BY_SCRIPT = ("mnist", "fashion_mnist", "cifar10")
RECORDS_AT_ONCE = 1024


def kind_of(name: Any) -> tuple[str, str]:
    """(KIND, rest) of a data set called KIND:rest, else ("", name). "mnist" means "tfds:mnist".
    Raises UserError for what is no text."""
    if not isinstance(name, str):
        raise UserError(f"{name!r:.60} names no data set: give a text, such as 'digits' or 'folder:PATH'")
    if name in PREPARED_BY_SCRIPT:
        return "tfds", name
    kind, _, rest = name.partition(":")
    return (kind, rest) if rest else ("", name)


def open_builder(dataset: str, data_dir: str | None) -> Any | None:
    """The TFDS builder of a data set that is prepared in `folder_of(data_dir)`, or None."""
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
    """A data set's builder. Raises UserError where it is not prepared or has no train split."""
    builder = open_builder(dataset, data_dir)
    if builder is None:
        folder = folder_of(data_dir)
        how = f"run scripts/prepare_data.py {dataset} --data-dir {folder}"
        if dataset not in PREPARED_BY_SCRIPT:
            how = f"scripts/prepare_data.py prepares {', '.join(PREPARED_BY_SCRIPT)}, TFDS itself any other set: "
            how += 'download_and_prepare(file_format="array_record")'
        raise UserError(f"{dataset} is not prepared in {folder}; {how}")
    if "train" not in builder.info.splits:
        found = ", ".join(builder.info.splits) or "none"
        raise UserError(f"{builder.data_dir}: no train split among {found}; choose another data set")
    return builder


def folder_of(data_dir: str | None) -> str:
    """`data_dir`, or TFDS's default: TFDS_DATA_DIR in the environment, or ~/tensorflow_datasets."""
    from tensorflow_datasets.core import constants

    return os.path.expanduser(data_dir or constants.DATA_DIR)


def open_split(builder: Any, split: str) -> Any:
    """The data source of one split. Raises UserError where records are missing."""
    logging.getLogger("absl").addFilter(_without_advice)
    folder, promised = builder.data_dir, builder.info.splits[split]
    with _damage_of(folder):
        stored = builder.info.file_format.value
        try:
            source = builder.as_data_source(split=split)
        except NotImplementedError as error:
            raise UserError(f"{folder}: stored as {stored}; prepare it as array_record, in another folder") from error
        found = len(source)
        if stored == "array_record":  # then `len(source)` repeats what dataset_info promises
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            found = len(ArrayRecordDataSource([str(path) for path in promised.filepaths]))
    if found != promised.num_examples:
        held = f"{found} of {promised.num_examples} records"
        raise UserError(f"{folder}: {split} has {held}; delete the folder and prepare it again")
    return source


def _without_advice(record: logging.LogRecord) -> bool:
    """A filter of TFDS's advice to decode with OpenCV: Pillow is fast enough."""
    return "OpenCV is not installed" not in record.getMessage()


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


class Records:
    """The examples of one split, opened by each process that reads them: images uint8 [h, w, c],
    or tuples of an image and its label."""

    labels = None  # the records hold them, so that they are known only once they are read

    def __init__(self, dataset: str, data_dir: str | None, split: str, size: int | None, channels: int | None):
        self.dataset, self.data_dir, self.split, self.size, self.channels = dataset, data_dir, split, size, channels
        self.class_names = class_names_of(self.builder)

    @cached_property
    def builder(self) -> Any:
        return prepared(self.dataset, self.data_dir)

    @cached_property
    def source(self) -> Any:
        return open_split(self.builder, self.split)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("builder", "source")}

    @property
    def identity(self) -> str:
        return f"{self.builder.info.full_name} {self.split}"

    def __len__(self) -> int:
        return len(self.source)

    def name(self, row: int) -> str:
        return f"{self.dataset} {self.split}, record {row}"

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list:
        with _damage_of(self.builder.data_dir):
            found = self.source.__getitems__(rows)
        images = [conform(example["image"], self.size, self.channels) for example in found]
        if not self.class_names:
            return images
        return [(image, example["label"]) for image, example in zip(images, found, strict=True)]


def read_tfds(name: str, dataset: str, data_dir: str | None, size: int | None, channels: int | None) -> Source:
    """The TFDS data set `dataset` ("mnist", "emnist/letters", "cifar10:3.0.2") as uint8 arrays.

    Its "train" split is the part to split, and its "test" split, if any, the official test part.
    Other splits are not used. Its "label" feature gives the labels where it is a ClassLabel.
    """
    train, test = open_records(dataset, data_dir, size, channels)
    official = None if test is None else {"test": _read(test)}
    return checked(name, *_read(train), official, class_names=train.class_names or None)


def open_records(dataset: str, data_dir: str | None, size: int | None, channels: int | None) -> tuple[Records, Records | None]:
    """The splits "train" and "test" of a prepared data set; None where it has no test split."""
    train = Records(dataset, data_dir, "train", size, channels)
    official = "test" in train.builder.info.splits
    return train, Records(dataset, data_dir, "test", size, channels) if official else None


def _read(records: Records) -> tuple[np.ndarray, np.ndarray | None]:
    """All images uint8 [n, h, w, c], and labels int32 [n] or None."""
    n, images, labels = len(records), None, np.empty(len(records), np.int32)
    for start in range(0, n, RECORDS_AT_ONCE):
        rows = range(n)[start : start + RECORDS_AT_ONCE]
        for row, example in zip(rows, records.__getitems__(list(rows)), strict=True):
            image, labels[row] = example if records.class_names else (example, 0)
            if images is None:
                check_memory(n, image.shape, records.dataset)
                images = np.empty((n, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise UserError(f"{records.dataset}: images differ in shape ({images.shape[1:]}, {image.shape}); pass --size")
            images[row] = image
    if images is None:
        raise UserError(f"{records.builder.data_dir}: {records.split} is empty; delete the folder and prepare it again")
    return images, labels if records.class_names else None
