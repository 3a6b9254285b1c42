"""TFDS image sets, prepared as array_record and read without TensorFlow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from gan_jax.core.errors import UserError
from gan_jax.data import load
from gan_jax.data.splits import NAMES

CLASSES = ("ant", "bee", "cow")


def pictures(n, seed, shape=(6, 6, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def prepare(name, data_dir, splits, features):
    """Prepare a real builder called `name` that holds {split: [example, ...]}."""

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def generators(self, dl_manager):
        return {split: iter(list(enumerate(examples))) for split, examples in splits.items()}

    body = {"VERSION": tfds.core.Version("1.0.0"), "_info": info, "_split_generators": generators}
    with registered.skip_registration():
        # TFDS takes the name from the class: TinySet becomes tiny_set.
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), body | {"_generate_examples": None})
    builder(data_dir=data_dir, file_format="array_record").download_and_prepare()


def examples(images, labels=None):
    found = [{"image": Image.fromarray(image)} for image in images]
    if labels is not None:
        for example, label in zip(found, labels, strict=True):
            example["label"] = int(label)
    return found


def rgb_features(shape=(6, 6, 3)):
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=CLASSES)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS folder with the set tiny_set: 60 training and 20 test images."""
    folder = tmp_path_factory.mktemp("tfds")
    train, test = examples(pictures(60, 0), np.arange(60) % 3), examples(pictures(20, 1), np.arange(20) % 3)
    prepare("TinySet", folder, {"train": train, "test": test}, rgb_features())
    return folder


@pytest.fixture
def copy_dir(data_dir, tmp_path):
    """A copy of the folder that a test may damage."""
    shutil.copytree(data_dir, tmp_path / "tfds")
    return tmp_path / "tfds"


def refused(match, name, data_dir, **options):
    with pytest.raises(UserError, match=match) as caught:
        load(name, data_dir=data_dir, **options)
    assert "\n" not in str(caught.value)


def labelled_rows(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_images_labels_and_official_test_split_come_through(data_dir):
    splits = load("tfds:tiny_set", data_dir=data_dir)
    assert {name: len(getattr(splits, name)) for name in NAMES} == {
        "train": 42, "validation": 9, "test": 20, "extractor": 9}  # fmt: skip
    assert splits.class_names == CLASSES and splits.image_shape == (6, 6, 3) and splits.classes == 3
    test, rest = splits.test, [getattr(splits, name) for name in NAMES if name != "test"]
    assert labelled_rows(test.images, test.labels) == labelled_rows(pictures(20, 1), np.arange(20) % 3)
    found = labelled_rows(*(np.concatenate([getattr(part, key) for part in rest]) for key in ("images", "labels")))
    assert found == labelled_rows(pictures(60, 0), np.arange(60) % 3)
    assert test.images.dtype == np.uint8 and test.labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_version_and_seed_are_honoured(data_dir):
    one = load("tfds:tiny_set:1.0.0", data_dir=data_dir, seed=5, subset=10)
    assert len(one.train) == 10
    assert one.hashes == load("tfds:tiny_set", data_dir=str(data_dir), seed=5, subset=10).hashes
    refused("is not prepared", "tfds:tiny_set:2.0.0", data_dir)


def test_set_without_test_split_or_labels(tmp_path):
    prepare("BareSet", tmp_path, {"train": examples(pictures(40, 0))}, {"image": tfds.features.Image(shape=(6, 6, 3))})
    splits = load("tfds:bare_set", data_dir=tmp_path)
    assert len(splits.test) == 6 and splits.classes == 0 and splits.train.labels is None


def test_images_of_different_sizes_need_size(tmp_path):
    images = [*pictures(10, 0), *pictures(10, 1, (6, 9, 3))]
    prepare("MixedSet", tmp_path, {"train": examples(images, np.zeros(20))}, rgb_features((None, None, 3)))
    refused("images differ in shape.*pass --size", "tfds:mixed_set", tmp_path)
    assert load("tfds:mixed_set", data_dir=tmp_path, size=5, channels=1).image_shape == (5, 5, 1)


def test_set_without_images_or_train_split_is_refused(tmp_path):
    numbers = {"value": tfds.features.Scalar(np.int32)}
    prepare("NumberSet", tmp_path, {"train": [{"value": i} for i in range(5)]}, numbers)
    refused('no 8-bit "image" among its features .value.', "tfds:number_set", tmp_path)
    prepare("OddSet", tmp_path, {"everything": examples(pictures(5, 0), np.zeros(5))}, rgb_features())
    refused("no train split among everything", "tfds:odd_set", tmp_path)


def test_set_that_is_not_prepared_names_the_script(tmp_path, monkeypatch):
    refused(f"mnist is not prepared in {tmp_path}; run scripts/prepare_data.py mnist", "mnist", tmp_path)
    refused("celeb_a is not prepared in .*scripts/prepare_data.py prepares mnist", "tfds:celeb_a", tmp_path)
    refused("'no such set' is no TFDS name", "tfds:no such set", tmp_path)
    refused("'../etc' is no TFDS name", "tfds:../etc", tmp_path)
    refused("cifar10 is not prepared in .*none; run", "cifar10", tmp_path / "none")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    refused("is not prepared", "tfds:no_such_set", None)


def records(data_dir):
    (path,) = Path(data_dir).glob("tiny_set/1.0.0/*train.array_record*")
    return path


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.999])
def test_truncated_records_are_noticed(copy_dir, share):
    path = records(copy_dir)
    blob = path.read_bytes()
    path.write_bytes(blob[: int(len(blob) * share)])
    refused("tiny_set/1.0.0: .*; delete the folder and prepare it again", "tfds:tiny_set", copy_dir)


def test_records_of_another_split_are_noticed(copy_dir):
    path = records(copy_dir)
    shutil.copyfile(str(path).replace("train", "test"), path)
    refused("train has 20 of 60 records; delete the folder", "tfds:tiny_set", copy_dir)


def test_flipped_byte_never_changes_the_images(copy_dir):
    path, original = records(copy_dir), load("tfds:tiny_set", data_dir=copy_dir).hashes
    blob = path.read_bytes()
    data = [i for i, byte in enumerate(blob) if byte]  # the rest is padding
    noticed = 0
    places = data[:: len(data) // 20]
    for i in places:
        path.write_bytes(blob[:i] + bytes([blob[i] ^ 255]) + blob[i + 1 :])
        try:
            assert load("tfds:tiny_set", data_dir=copy_dir).hashes == original  # in a header that nothing reads
        except UserError as error:
            noticed += 1
            assert "delete the folder and prepare it again" in str(error) and "\n" not in str(error)
    assert noticed > 0.8 * len(places)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "records"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_damaged_folder_is_one_line(copy_dir, name, damage):
    path = records(copy_dir) if name == "records" else copy_dir / "tiny_set" / "1.0.0" / name
    blob = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else blob[: len(blob) // 2])
    refused("tiny_set", "tfds:tiny_set", copy_dir)


def test_other_file_format_is_refused(copy_dir):
    path = copy_dir / "tiny_set" / "1.0.0" / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    refused("stored as tfrecord; prepare it as array_record", "tfds:tiny_set", copy_dir)


def test_import_is_light():
    heavy = "{'sklearn', 'tensorflow_datasets', 'tensorflow', 'matplotlib'}"
    code = f"import sys, gan_jax.data; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
