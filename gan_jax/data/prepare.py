"""Preparation of mnist, fashion_mnist and cifar10 as array_record by their TFDS builders, without
TensorFlow.

Each builder keeps its features, version, keys and order, so the result is what TFDS would write.
Only the reading is replaced: NumPy reads the original files, whose sha256 is checked, and TFDS
takes them as Pillow images. TFDS's cache of extracted files is not used, because it can give
fashion_mnist the pixels of mnist (their files have the same names).
"""

import gzip
import hashlib
import http.client
import io
import lzma
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.data.tfds import PREPARED_BY_SCRIPT, folder_of, open_builder, open_split

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
# sha256 of the files inside the archive; TFDS registers only the archive itself.
CIFAR_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 [n, h, w] or [n, h, w, 3], labels uint8 [n]


class Prepared(NamedTuple):
    """A prepared data set: folder, examples of each split, and whether it was there before."""

    folder: str
    sizes: dict[str, int]
    already: bool


def prepare(name: str, originals: str | Path | None = None, data_dir: str | Path | None = None) -> Prepared:
    """Prepare "mnist", "fashion_mnist" or "cifar10" under `data_dir`, unless it is there.

    originals: folder that holds NAME/<original files>; None downloads them to DATA_DIR/downloads
    data_dir:  None for TFDS's default; an interruption leaves no data set there, because TFDS
               writes to a temporary folder and renames it at the end

    Raises UserError for an unknown name, and for files that are missing, damaged or not writable.
    """
    if name not in PREPARED_BY_SCRIPT:
        raise UserError(f"unknown data set {name!r}; this prepares {', '.join(PREPARED_BY_SCRIPT)}")
    data_dir = folder_of(None if data_dir is None else str(data_dir))
    already = open_builder(name, data_dir) is not None
    if not already:
        try:
            originals = Path(originals).expanduser() if originals else download(name, Path(data_dir, "downloads"))
            _builder(name, read_originals(name, originals / name), data_dir).download_and_prepare()
        except OSError as error:
            already = open_builder(name, data_dir) is not None  # another process may have been faster
            if not already:
                raise UserError(f"{name}: cannot be prepared in {data_dir} ({error}); check the folder and the disk") from error
    builder: Any = open_builder(name, data_dir)
    sizes = {split: len(open_split(builder, split)) for split in builder.info.splits}
    return Prepared(str(builder.data_dir), sizes, already)


def _builder(name: str, splits: dict[str, Arrays], data_dir: str) -> Any:
    """TFDS's builder of `name`, which yields the examples of `splits` in place of reading files."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    parent = tfds.builder_cls(name)

    def examples(split: str):
        for i, (image, label) in enumerate(zip(*splits[split], strict=True)):
            # An ndarray would be encoded by TensorFlow, a Pillow image is not.
            example = {"image": Image.fromarray(image), "label": int(label)}
            yield i, {"id": f"{split}_{i:05d}"} | example if name == "cifar10" else example

    def split_generators(self, dl_manager):
        if name == "cifar10":  # its builder reads the names from a file, the others know them
            self.info.features["label"].names = CIFAR_CLASSES
        return {split: examples(split) for split in splits}

    with registered.skip_registration():
        # The class name is the data set's name; the module is recorded in dataset_info.
        body = {"_split_generators": split_generators, "__module__": parent.__module__}
        builder: Any = type(parent.__name__, (parent,), body)
    return builder(data_dir=data_dir, file_format="array_record")


def read_originals(name: str, folder: Path) -> dict[str, Arrays]:
    """{"train", "test": (images, labels)} of the original files in `folder`, checked by sha256."""
    if name == "cifar10":
        return _read_cifar(folder)
    files = {}
    for url, info in url_infos(name).items():
        files[info.filename] = gzip.decompress(_verified(folder / info.filename, info.checksum, url))
    splits = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = np.frombuffer(files[f"{stem}-images-idx3-ubyte.gz"], np.uint8, offset=16).reshape(-1, 28, 28)
        splits[split] = images, np.frombuffer(files[f"{stem}-labels-idx1-ubyte.gz"], np.uint8, offset=8)
    return splits


def url_infos(name: str) -> dict[str, Any]:
    """{url: size, checksum (sha256) and file name}, as TFDS registers them."""
    import tensorflow_datasets as tfds

    return cast(Any, tfds.builder_cls(name)).url_infos


def _verified(path: Path, sha256: str, origin: str, unpack: Callable[[bytes], bytes] = bytes) -> bytes:
    """The unpacked bytes of `path`. Raises UserError where their sha256 is another."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; it is one of the original files ({origin})")
    try:
        blob = unpack(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: damaged ({error}); get the original file again ({origin})") from error
    found = hashlib.sha256(blob).hexdigest()
    if found != sha256:
        raise UserError(f"{path}: sha256 is {found}, not {sha256}; get the original file again ({origin})")
    return blob


def _read_cifar(folder: Path) -> dict[str, Arrays]:
    """From the archive, or its files: NAME.bin (also in cifar-10-batches-bin/) or NAME.bin.xz."""
    ((url, info),) = url_infos("cifar10").items()
    if (folder / CIFAR_ARCHIVE).is_file():
        files = unpack_archive(_verified(folder / CIFAR_ARCHIVE, info.checksum, url))
    else:
        files = {name: _read_batch(folder, name, sha256, url) for name, sha256 in CIFAR_SHA256.items()}
    train = [name for name in CIFAR_SHA256 if name != "test_batch.bin"]
    return {"train": parse_cifar(b"".join(files[name] for name in train)), "test": parse_cifar(files["test_batch.bin"])}


def _read_batch(folder: Path, name: str, sha256: str, origin: str) -> bytes:
    for path in (folder / name, folder / "cifar-10-batches-bin" / name):
        if path.is_file():
            return _verified(path, sha256, origin)
    return _verified(folder / f"{name}.xz", sha256, origin, lzma.decompress)


def unpack_archive(blob: bytes) -> dict[str, bytes]:
    """{file name: bytes} of the files in a .tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
        return {Path(member.name).name: file.read() for member in archive if (file := archive.extractfile(member))}


def parse_cifar(blob: bytes) -> Arrays:
    """Records of a label byte and 3 x 32 x 32 pixels -> uint8 [n, 32, 32, 3] and [n]."""
    records = np.frombuffer(blob, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), records[:, 0]


def download(name: str, folder: Path) -> Path:
    """Download the original files of `name` that are missing in folder/name; returns `folder`."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for url, info in url_infos(name).items():
        path = folder / name / info.filename
        if path.is_file():
            continue
        try:
            with urllib.request.urlopen(url, timeout=30) as response:  # seconds without a byte
                blob = response.read()
            found = hashlib.sha256(blob).hexdigest()
            if found != info.checksum:
                raise UserError(f"{url}: sha256 is {found}, not {info.checksum}; get it elsewhere, pass --from DIR")
            with tempfile.TemporaryDirectory(dir=path.parent) as temporary:  # an interruption leaves no part of the file
                Path(temporary, path.name).write_bytes(blob)
                Path(temporary, path.name).replace(path)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"{url}: cannot be downloaded ({error}); get it elsewhere, pass --from DIR") from error
    return folder
