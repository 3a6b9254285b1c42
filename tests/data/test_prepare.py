"""Preparing mnist, fashion_mnist and cifar10 from original files, with TFDS's own builders."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gan_jax.core.errors import UserError
from gan_jax.data import load, prepare
from gan_jax.data.splits import NAMES

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@pytest.fixture(scope="module")
def real():
    """The folder of real original files: GAN_JAX_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("GAN_JAX_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no original files: {folder} does not exist; set GAN_JAX_DATA to a folder with mnist and cifar10")
    return folder


def refused(match, call, *args):
    with pytest.raises(UserError, match=match) as caught:
        call(*args)
    assert "\n" not in str(caught.value)


def small_splits(name):
    """60 training and 20 test images of the shape that `name` has."""
    shape = (32, 32, 3) if name == "cifar10" else (28, 28)
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n, dtype=np.uint8) % 10)
        for split, n in (("train", 60), ("test", 20))
    }


@pytest.fixture
def small(monkeypatch):
    """Let `prepare` find small splits in place of the original files."""
    monkeypatch.setattr(prepare, "read_originals", lambda name, folder: small_splits(name))


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """Four small files in the format of MNIST, and their sha256 in place of the registered ones."""
    folder = tmp_path / "originals" / "mnist"
    folder.mkdir(parents=True)
    (train, train_labels), (test, test_labels) = small_splits("mnist").values()
    contents = (bytes(16) + train.tobytes(), bytes(8) + train_labels.tobytes())
    contents += (bytes(16) + test.tobytes(), bytes(8) + test_labels.tobytes())
    infos = {}
    for name, content in zip(FILES, contents, strict=True):
        blob = gzip.compress(content)
        (folder / name).write_bytes(blob)
        checksum = hashlib.sha256(blob).hexdigest()
        infos[f"https://example.org/{name}"] = SimpleNamespace(filename=name, checksum=checksum, size=len(blob))
    monkeypatch.setattr(prepare, "url_infos", lambda name: infos)
    return folder.parent


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_prepared_set_loads_without_tensorflow(name, small, tmp_path):
    done = prepare.prepare(name, tmp_path, tmp_path / "out")
    assert not done.already and done.sizes == {"train": 60, "test": 20}
    splits = load(name, data_dir=tmp_path / "out")
    expected = small_splits(name)["test"][0].reshape(20, *splits.image_shape)
    assert sorted(image.tobytes() for image in splits.test.images) == sorted(image.tobytes() for image in expected)
    assert splits.classes == 10
    assert splits.class_names[9] == {"mnist": "9", "fashion_mnist": "Ankle boot", "cifar10": "truck"}[name]
    assert "tensorflow" not in sys.modules
    again = prepare.prepare(name, tmp_path, tmp_path / "out")
    assert again == done._replace(already=True)


def test_interrupted_preparation_leaves_nothing(small, tmp_path, monkeypatch):
    from PIL import Image

    count = iter(range(100))

    def interrupted(array, fromarray=Image.fromarray):
        if next(count) == 30:
            raise KeyboardInterrupt
        return fromarray(array)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "fromarray", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare("mnist", tmp_path, tmp_path)
    refused("mnist is not prepared", lambda: load("mnist", data_dir=tmp_path))
    assert not prepare.prepare("mnist", tmp_path, tmp_path).already


def test_remains_of_a_killed_preparation_are_not_taken_for_data(small, tmp_path):
    done = prepare.prepare("mnist", tmp_path, tmp_path / "whole")
    shutil.copytree(done.folder, tmp_path / "out" / "mnist" / "incomplete.ABC123_3.0.1")  # as TFDS names it
    refused("mnist is not prepared", lambda: load("mnist", data_dir=tmp_path / "out"))
    assert not prepare.prepare("mnist", tmp_path, tmp_path / "out").already


def test_damaged_set_is_not_called_prepared(small, tmp_path):
    done = prepare.prepare("mnist", tmp_path, tmp_path)
    (records,) = Path(done.folder).glob("*train.array_record*")
    records.write_bytes(records.read_bytes()[:1000])
    refused("delete the folder and prepare it again", prepare.prepare, "mnist", tmp_path, tmp_path)


def test_unknown_set_and_missing_files_are_refused(tmp_path):
    refused("unknown data set 'svhn'; this prepares mnist", prepare.prepare, "svhn", tmp_path, tmp_path)
    refused("train-images-idx3-ubyte.gz: no such file|no such file", prepare.prepare, "mnist", tmp_path, tmp_path)
    refused("data_batch_1.bin.xz: no such file", prepare.prepare, "cifar10", tmp_path, tmp_path)


def test_folder_that_cannot_be_written_is_refused(small, tmp_path):
    (tmp_path / "file").touch()
    refused("mnist: cannot be prepared in .*file", prepare.prepare, "mnist", tmp_path, tmp_path / "file")


def test_original_files_are_parsed(originals):
    found = prepare.read_originals("mnist", originals / "mnist")
    for split, (images, labels) in small_splits("mnist").items():
        np.testing.assert_array_equal(found[split][0], images)
        np.testing.assert_array_equal(found[split][1], labels)


@pytest.mark.parametrize("name", FILES)
def test_each_file_with_a_wrong_checksum_is_refused(originals, name, tmp_path):
    path = originals / "mnist" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    refused(f"mnist/{name}: sha256 is .* not .*https://example.org/{name}", prepare.prepare, "mnist", originals, tmp_path)
    assert not (tmp_path / "mnist").exists()


def test_cifar_records_are_parsed():
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    record = b"".join(bytes([7 + i]) + image[i].transpose(2, 0, 1).tobytes() for i in range(2))
    images, labels = prepare.parse_cifar(record)
    np.testing.assert_array_equal(images, image)
    np.testing.assert_array_equal(labels, [7, 8])


def test_archive_is_unpacked():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    assert prepare.unpack_archive(file.getvalue()) == {"test_batch.bin": b"hello"}


def test_cifar_batches_in_every_layout(tmp_path, monkeypatch):
    record = bytes(3073)
    monkeypatch.setattr(prepare, "CIFAR_SHA256", dict.fromkeys(prepare.CIFAR_SHA256, hashlib.sha256(record).hexdigest()))
    plain, inner, packed = (tmp_path / name for name in ("plain", "inner", "packed"))
    for folder in (plain, inner / "cifar-10-batches-bin", packed):
        folder.mkdir(parents=True)
        for name in prepare.CIFAR_SHA256:
            if folder == packed:
                (folder / f"{name}.xz").write_bytes(lzma.compress(record))
            else:
                (folder / name).write_bytes(record)
    for folder in (plain, inner, packed):
        found = prepare.read_originals("cifar10", folder)
        assert found["train"][0].shape == (5, 32, 32, 3) and found["test"][0].shape == (1, 32, 32, 3)
    (packed / "test_batch.bin.xz").write_bytes(lzma.compress(record)[:-9])
    refused("test_batch.bin.xz: damaged", prepare.read_originals, "cifar10", packed)
    (plain / "test_batch.bin").write_bytes(record[1:])
    refused("test_batch.bin: sha256 is", prepare.read_originals, "cifar10", plain)
    (plain / prepare.CIFAR_ARCHIVE).write_bytes(b"not the archive")
    refused("cifar-10-binary.tar.gz: sha256 is", prepare.read_originals, "cifar10", plain)


def test_download_fetches_each_file_once(originals, tmp_path, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO((originals / "mnist" / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert prepare.prepare("mnist", None, tmp_path / "out").sizes == {"train": 60, "test": 20}
    shutil.rmtree(tmp_path / "out" / "mnist")
    prepare.prepare("mnist", None, tmp_path / "out")
    assert sorted(asked) == sorted(f"https://example.org/{name}" for name in FILES)


def test_failed_download_is_one_line_and_leaves_nothing(originals, tmp_path, monkeypatch):
    def no_network(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    refused("https://example.org/.*cannot be downloaded .*--from DIR", prepare.prepare, "mnist", None, tmp_path / "out")
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: io.BytesIO(b"<html>log in</html>"))
    refused("https://example.org/.*sha256 is .*--from DIR", prepare.prepare, "mnist", None, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def run_script(*arguments, **environment):
    command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_script_explains_its_flags_and_reports_mistakes_in_one_line(tmp_path):
    asked = run_script("--help")
    assert asked.returncode == 0 and "--from" in asked.stdout and "--data-dir" in asked.stdout
    wrong = run_script("mnist", "--data-dir", tmp_path / "out", GAN_JAX_DATA=str(tmp_path / "none"))
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    (line,) = [line for line in wrong.stderr.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / "none" / "mnist") in line and "no such file" in line


def check_against_originals(name, real, data_dir):
    """Every image and label of the prepared set is that of the original files."""
    done = prepare.prepare(name, real, data_dir)
    assert sum(done.sizes.values()) == {"mnist": 70_000, "fashion_mnist": 70_000, "cifar10": 60_000}[name]
    splits = load(name, data_dir=data_dir)
    parts = {"test": [splits.test], "train": [getattr(splits, part) for part in NAMES if part != "test"]}
    assert splits.duplicates == dict.fromkeys(NAMES, 0)  # none of the three holds an exact copy
    for split, (images, labels) in prepare.read_originals(name, real / name).items():
        expected = Counter(zip((image.tobytes() for image in images), labels.tolist(), strict=True))
        found = Counter(
            (row.tobytes(), int(y)) for part in parts[split] for row, y in zip(part.images, part.labels, strict=True)
        )
        assert found == expected


def test_real_mnist(real, tmp_path):
    check_against_originals("mnist", real, tmp_path)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "fashion_mnist").symlink_to(real / "mnist")  # the same file names
    refused("fashion_mnist/t10k-images.* sha256 is", prepare.prepare, "fashion_mnist", tmp_path / "mixed", tmp_path)


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_other_real_sets(name, real, tmp_path):
    if os.environ.get("GAN_JAX_SLOW") != "1":
        pytest.skip(f"{name} takes half a minute; set GAN_JAX_SLOW=1")
    check_against_originals(name, real, tmp_path)
