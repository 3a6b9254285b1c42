"""What lies in a folder of images: splits, classes, chunks, masks, links, formats and ranges."""

import json
import os

import numpy as np
import pytest
from PIL import Image, features

from gan_jax.core.errors import UserError
from gan_jax.data import load
from gan_jax.data.folders import open_folder, read_folder
from gan_jax.data.layout import find
from tests.data.test_splits import refused, rows

PARTS = ("train", "validation", "test", "extractor")


def image(i, shape=(8, 8, 3), top=256):
    return np.random.default_rng(i).integers(0, top, shape, np.uint8)


def fill(root, counts, start=0):
    """Different images in the folders `counts`, {path: how many}; returns {path: their bytes}."""
    made = {}
    for path, n in counts.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.fromarray(image(start)).save(root / path / f"{i:03d}.png")
            made.setdefault(path, set()).add(image(start).tobytes())
            start += 1
    return made


def names_of(root):
    """{part: (number of files, sorted classes or None)}."""
    return {part: (len(names), labels and sorted(set(labels))) for part, (names, labels) in find(root).items()}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train", "val", "test"], {"train": None, "validation": None, "test": None}),
        (["Train/cat", "Train/dog", "TEST/cat", "TEST/dog"], {"train": ["cat", "dog"], "test": ["cat", "dog"]}),
        (["training/data/cat", "training/data/dog", "Valid/imgs/dog"], {"train": ["cat", "dog"], "validation": ["dog"]}),
        (["data/train", "data/testing"], {"train": None, "test": None}),
        (["images/train/a", "images/train/b", "images/val/a"], {"train": ["a", "b"], "validation": ["a"]}),
        (["pets/train/a", "pets/train/b", "pets/test/a"], {"train": ["a", "b"], "test": ["a"]}),
        (["train2017", "val2017"], {"train": None, "validation": None}),
        (["train_images", "test_images"], {"train": None, "test": None}),
        (["train/images", "train/masks", "test/images", "test/masks"], {"train": None, "test": None}),
        (["train"], {"train": None}),
        (["images/cat", "images/dog"], {"train": ["cat", "dog"]}),
        (["data/images/cat", "data/images/dog"], {"train": ["cat", "dog"]}),
        (["Images"], {"train": None}),
        (["images", "masks"], {"train": None}),
        (["images/cat", "images/dog", "Labels/cat"], {"train": ["cat", "dog"]}),
        (["cat/images", "cat/masks", "dog/images", "dog/masks"], {"train": ["cat", "dog"]}),
        (["photos/cat", "photos/dog"], {"train": ["cat", "dog"]}),
        (["cats"], {"train": ["cats"]}),
        (["pets/images/cat", "pets/images/dog"], {"train": ["cat", "dog"]}),
        (["train/train/a", "train/train/b", "test_set/test_set/a"], {"train": ["a", "b"], "test": ["a"]}),
        (["seg_train/a", "seg_train/b", "seg_test/a"], {"train": ["a", "b"], "test": ["a"]}),
        (["crash_test", "road"], {"train": ["crash_test", "road"]}),
        (["JPEGImages", "SegmentationClass"], {"train": None}),
        (["train", "test", "masks"], {"train": None, "test": None}),
        (["train", "car", "bus"], {"train": ["bus", "car", "train"]}),  # vehicles
        (["10", "2", "1"], {"train": ["1", "10", "2"]}),
        (["masks", "faces"], {"train": ["faces", "masks"]}),
    ],
)  # fmt: skip
def test_folders_are_splits_classes_or_neither(tmp_path, folders, expected):
    fill(tmp_path, dict.fromkeys(folders, 2))
    assert {part: labels for part, (_, labels) in names_of(tmp_path).items()} == expected


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["train", "test", "cat"], "cat, test, train are splits, not classes; give one"), (["test"], "test are splits"),
        (["val", "validation", "train"], "are splits"), (["trainA", "trainB", "testA", "testB"], "are splits"),
        (["cat", "test"], "are splits"), (["cat/train", "cat/test", "dog/train", "dog/test"], "splits inside of classes .cat."),
        (["images", "cat"], "cat, images are classes, or images holds them all.*give .*images"),
        (["train/cat", "train/dog", "test/cow"], "no train image has the label 'cow'"),
        (["train/cat", "train/dog", "test"], "only one of train and test images has labels"),
    ],
)  # fmt: skip
def test_folders_of_two_meanings_are_refused_by_name(tmp_path, folders, said):
    fill(tmp_path, dict.fromkeys(folders, 2))
    refused(said, read_folder, "folder", tmp_path, None, None)


def test_images_of_split_folders_are_those_splits(tmp_path, capsys):
    made = fill(tmp_path, {"Training/cat": 20, "Training/dog": 20, "val/cat": 6, "val/dog": 4, "Test/dog": 5})
    data = load(f"folder:{tmp_path}")
    assert "5 images in Test/ (test)" in capsys.readouterr().err
    assert [len(getattr(data, part)) for part in PARTS] == [34, 10, 5, 6]
    assert (
        set(rows(data.test.images)) == made["Test/dog"]
        and set(rows(data.validation.images)) == made["val/cat"] | made["val/dog"]
    )
    assert set(rows(data.train.images)) | set(rows(data.extractor.images)) == made["Training/cat"] | made["Training/dog"]
    assert data.class_names == ("cat", "dog") and set(data.test.labels) == {1}
    streamed = load(f"folder:{tmp_path}", stream=True)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(streamed, part).images[:], getattr(data, part).images)
        np.testing.assert_array_equal(getattr(streamed, part).labels[:], getattr(data, part).labels)


def test_held_out_folder_is_v_s_and_e(tmp_path, capsys):
    mine = fill(tmp_path / "mine", {"cat": 15, "dog": 15})
    other = fill(tmp_path / "other", {"images/dog": 20, "images/cat": 20}, start=100)
    arguments = {"name": f"folder:{tmp_path}/mine", "held_out": f"folder:{tmp_path}/other"}
    data = load(**arguments)
    assert [len(getattr(data, part)) for part in PARTS] == [30, 20, 10, 10]
    assert set(rows(data.train.images)) == mine["cat"] | mine["dog"]
    parts = [getattr(data, part) for part in PARTS]
    labels = {row: int(k) for part in parts for row, k in zip(rows(part.images), part.labels, strict=True)}
    assert {labels[row] for row in other["images/dog"]} == {1} and {labels[row] for row in other["images/cat"]} == {0}
    assert load(**json.loads(json.dumps(data.source))).hashes == data.hashes
    streamed = load(**arguments, stream=True)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(streamed, part).images[:], getattr(data, part).images)
    chosen = load(**arguments, split="30/30/10/0", stream=True)
    assert [len(getattr(chosen, part)) for part in PARTS] == [30, 30, 10, 0] and chosen.image_shape == (8, 8, 3)


def test_held_out_data_that_do_not_fit_are_refused(tmp_path):
    fill(tmp_path / "mine", {"": 20})
    fill(tmp_path / "split", {"train": 5, "test": 5}, start=50)
    fill(tmp_path / "named", {"a": 5, "b": 5}, start=70)
    Image.fromarray(image(0, (9, 9, 3))).save((tmp_path / "large").mkdir() or tmp_path / "large" / "a.png")
    mine = f"folder:{tmp_path}/mine"
    refused("splits of its own", load, mine, held_out=f"folder:{tmp_path}/split")
    refused("only one of train and held-out images has labels", load, mine, held_out=f"folder:{tmp_path}/named")
    refused("000.png 8x8, .*large/a.png 9x9", load, mine, held_out=f"folder:{tmp_path}/large")
    refused("must be a folder too", load, mine, held_out="digits")
    refused("no such folder", load, mine, held_out="folder:/none")


def test_held_out_npz_has_the_classes_of_the_data(tmp_path, capsys):
    images = np.stack([image(i, (8, 8, 1)) for i in range(80)])
    np.savez(tmp_path / "a.npz", images=images[:40], labels=np.array(["a", "b", "c"])[np.arange(40) % 3])
    np.savez(tmp_path / "b.npz", images=images[40:], labels=np.array(["c", "b"])[np.arange(40) % 2])
    data = load(f"npz:{tmp_path}/a.npz", held_out=f"npz:{tmp_path}/b.npz")
    assert data.class_names == ("a", "b", "c") and set(data.validation.labels) == {1, 2} and len(data.train) == 40
    place = {row: i for i, row in enumerate(rows(images[40:]))}
    assert [int(k) for k in data.test.labels] == [2 - place[row] % 2 for row in rows(data.test.images)]
    refused("no training image has the label 'a'", load, f"npz:{tmp_path}/b.npz", held_out=f"npz:{tmp_path}/a.npz")


# StyleGAN's chunks


def chunked(root, name="{:05d}/img{:08d}.png", n=12):
    for i in range(n):
        path = root / name.format(i // 4, i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(i)).save(path)


def test_chunks_are_read_by_dataset_json(tmp_path, capsys):
    chunked(tmp_path)
    labels = [[f"{i // 4:05d}/img{i:08d}.png", i % 2 + 3] for i in range(12)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    source = read_folder("folder", tmp_path, None, None)
    assert source.class_names == ("3", "4")
    np.testing.assert_array_equal(source.labels, np.arange(12) % 2)
    assert "skipped" not in capsys.readouterr().err
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels[:-1]}))
    refused("no label for 1 images, the first 00002/img00000011.png", find, tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": 3}')
    refused("dataset.json: its labels cannot be read", find, tmp_path)


def test_chunks_without_labels_are_no_classes(tmp_path):
    chunked(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    assert names_of(tmp_path) == {"train": (12, None)}
    chunked(tmp_path / "faces", "{:05d}/{:05d}.png")
    assert names_of(tmp_path / "faces") == {"train": (12, None)}
    fill(tmp_path / "signs", {"00000": 3, "00001": 3})  # numbered anew in each: classes
    assert names_of(tmp_path / "signs") == {"train": (6, ["00000", "00001"])}


# Links and special files


def test_links_are_followed_once(tmp_path, capsys):
    fill(tmp_path / "pets", {"cat": 4, "dog": 4})
    fill(tmp_path / "elsewhere", {"": 3}, start=50)
    os.symlink(".", tmp_path / "pets/cat/loop")
    os.symlink("..", tmp_path / "pets/dog/up")
    os.symlink("../..", tmp_path / "pets/dog/above")  # leads out of the folder, and back
    os.symlink("../dog", tmp_path / "pets/cat/other")
    os.symlink("../elsewhere", tmp_path / "pets/owl")
    assert names_of(tmp_path / "pets") == {"train": (11, ["cat", "dog", "owl"])}
    assert "4 links to folders that are read already were skipped" in capsys.readouterr().err


def test_what_is_no_file_is_not_opened(tmp_path):
    fill(tmp_path, {"": 3})
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("itself.txt", tmp_path / "itself.txt")
    assert names_of(tmp_path) == {"train": (3, None)}
    os.symlink("missing.png", tmp_path / "broken.png")
    refused("broken.png: not a readable PNG", read_folder, "folder", tmp_path, None, None)


# Formats


FORMATS = ["png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "tga", "jp2", "ico", "pcx", "qoi", "sgi", "dib", "PNG", "apng"]


@pytest.mark.parametrize("ending", FORMATS)
def test_lossless_formats_are_read_exactly(tmp_path, ending):
    colours = image(0, (16, 16, 3)) // 128 * 255  # 8 colours, for GIF
    options = {"webp": {"lossless": True}, "ico": {"sizes": [(16, 16)]}}.get(ending, {})
    Image.fromarray(colours).save(tmp_path / f"a.{ending}", **options)
    np.testing.assert_array_equal(read_folder("folder", tmp_path, None, None).images[0], colours)


def test_formats_may_be_mixed_and_what_is_skipped_is_counted(tmp_path, capsys):
    endings = ["png", "jpg", "jpeg", "jfif", "jpe", "webp", "bmp", *(["avif"] if features.check("avif") else [])]
    for i, ending in enumerate(endings):
        Image.fromarray(image(i)).save(tmp_path / f"{i}.{ending}")
    for name in ("a.txt", "b.txt", "c.heic", "README", ".DS_Store"):
        (tmp_path / name).write_text("no image")
    assert len(read_folder("folder", tmp_path, None, None).images) == len(endings)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"folder {tmp_path}: 4 files that are no images were skipped (2 .txt, 1 .heic, 1 no ending)"]


def test_of_several_frames_the_first_is_read_and_said(tmp_path, capsys):
    frames = [Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (200, 100, 50)]
    for ending in ("gif", "tiff", "webp"):
        (tmp_path / ending).mkdir()
        frames[0].convert("RGB").save(tmp_path / ending / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
        assert (read_folder("folder", tmp_path / ending, None, None).images == 200).all()
        assert "1 images have several frames, of which the first is read (a." in capsys.readouterr().err


# Ranges


def test_12_bit_data_in_16_bit_files_are_scaled_by_12_bits(tmp_path, capsys):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65  # up to 4095
    for i in range(3):
        Image.fromarray(values // (i + 1)).save(tmp_path / f"{i}.png")
    images = read_folder("folder", tmp_path, None, None).images
    for i in range(3):  # one scale for the whole set
        np.testing.assert_array_equal(images[i, ..., 0], np.rint(values.astype(int) // (i + 1) * 255 / 4095))
    assert "the largest value of 3 images is 4095 of 65535: scaled from 0..4095 to 0..255" in capsys.readouterr().err
    np.testing.assert_array_equal(open_folder(tmp_path, None, None)["train"][0], images[0])


def test_masks_of_0_and_1_become_black_and_white(tmp_path, capsys):
    mask = (image(0, (8, 8)) > 127).astype(np.uint8)
    Image.fromarray(mask * 0).save(tmp_path / "0.png")  # an empty one
    Image.fromarray(mask).save(tmp_path / "1.png")
    images = read_folder("folder", tmp_path, None, None).images
    np.testing.assert_array_equal(images[..., 0], [mask * 0, mask * 255])
    assert "the largest value of 2 images is 1 of 255: scaled from 0..1 to 0..255" in capsys.readouterr().err


def test_other_dark_images_stay_as_they_are_and_are_named(tmp_path, capsys):
    Image.fromarray(image(0, top=40)).save(tmp_path / "0.png")
    np.testing.assert_array_equal(read_folder("folder", tmp_path, None, None).images[0], image(0, top=40))
    assert "is 38 of 255: scale them unless that is meant" in capsys.readouterr().err
    Image.fromarray(image(1)).save(tmp_path / "1.png")
    read_folder("folder", tmp_path, None, None)
    assert not capsys.readouterr().err


# Streaming


def test_a_stream_makes_the_checks_of_the_resident_set(tmp_path):
    fill(tmp_path, {"": 39})
    Image.fromarray(image(0, (8, 8))).save(tmp_path / "0.png")  # the first one is grey
    for stream in (True, False):
        refused("1 of 40 images are grey .0.png., not all; pass --channels", load, f"folder:{tmp_path}", stream=stream)
    assert load(f"folder:{tmp_path}", stream=True, channels=3).image_shape == (8, 8, 3)
    Image.fromarray(image(0, (9, 8, 3))).save(tmp_path / "0.png")
    refused("0.png 8x9, 000.png 8x8.*pass --size", load, f"folder:{tmp_path}", stream=True)
    (tmp_path / "0.png").write_text("damaged")
    refused("0.png: not a readable PNG", load, f"folder:{tmp_path}", stream=True)
    assert len(load(f"folder:{tmp_path}", stream={"damaged": "skip"}).train) > 20


def test_copies_of_files_are_in_one_split_of_a_stream(tmp_path):
    fill(tmp_path, {"cat": 20, "dog": 20})
    for i in range(20):
        for copy in range(3):
            os.link(tmp_path / f"dog/{i:03d}.png", tmp_path / f"dog/copy{copy}_{i:03d}.png")
    streamed, resident = (load(f"folder:{tmp_path}", stream=stream) for stream in (True, False))
    for part in PARTS:
        np.testing.assert_array_equal(getattr(streamed, part).images[:], getattr(resident, part).images)
    seen = [row for part in PARTS for row in set(rows(getattr(resident, part).images))]
    assert len(seen) == len(set(seen)) == 40 and set(resident.train.labels) == {0, 1}


def test_a_name_of_any_bytes_is_read(tmp_path):
    fill(tmp_path, {"": 8})
    os.rename(tmp_path / "000.png", os.fsencode(tmp_path) + b"/\xff.png")
    assert len(load(f"folder:{tmp_path}", stream=True).hashes["train"]) == 64


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find(tmp_path / "none")
