"""Folders of image files, and .npz files."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.data import load
from gan_jax.data.folders import read_folder
from gan_jax.data.pixels import channels_of, conform, to_8bit

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
ORIENTATION = 0x0112  # EXIF tag


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def read(root, size=None, channels=None):
    return read_folder("folder", root, size, channels)


def refused(match, root, **options):
    with pytest.raises(UserError, match=match) as caught:
        read(root, **options)
    assert "\n" not in str(caught.value)


def rows(images):
    return [image.tobytes() for image in images]


def rgb(seed=0, shape=(8, 8)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_subfolders_are_classes(tmp_path):
    for i in range(12):
        save(tmp_path / ("b" if i % 3 else "a") / f"{i:02d}.png", rgb(i))
    save(tmp_path / "c" / "deep" / "x.PNG", rgb(99), format="PNG")
    save(tmp_path / "c" / ".hidden.png", rgb(98))
    save(tmp_path / ".cache" / "y.png", rgb(97))
    (tmp_path / "a" / "notes.txt").write_text("ignored")
    source = read(tmp_path)
    assert source.class_names == ("a", "b", "c") and source.images.dtype == np.uint8
    np.testing.assert_array_equal(source.labels, [0] * 4 + [1] * 8 + [2])
    np.testing.assert_array_equal(source.images[1], rgb(3))
    np.testing.assert_array_equal(source.images[-1], rgb(99))
    splits = load(f"folder:{tmp_path}")
    assert splits.classes == 3 and splits.image_shape == (8, 8, 3) and splits.class_names == ("a", "b", "c")


def test_flat_folder_has_no_labels_and_sorted_order(tmp_path):
    for i in (3, 1, 2):
        save(tmp_path / f"{i}.png", rgb(i))
    source = read(tmp_path)
    assert source.labels is None and source.class_names == ()
    np.testing.assert_array_equal(source.images, [rgb(1), rgb(2), rgb(3)])


def test_grey_png_is_read_exactly(tmp_path):
    save(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(read(tmp_path).images, GREY[None, ..., None])


def test_palette_png_is_its_colours(tmp_path):
    colours = rgb(0) // 128 * 255  # at most 8 colours: the palette is exact
    save(tmp_path / "a.png", Image.fromarray(colours).quantize(8))
    assert Image.open(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(read(tmp_path).images[0], colours)


def test_one_bit_png_is_black_and_white(tmp_path):
    save(tmp_path / "a.png", GREY > 31)
    assert Image.open(tmp_path / "a.png").mode == "1"
    np.testing.assert_array_equal(read(tmp_path).images[0, ..., 0], np.where(GREY > 31, 255, 0))


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[..., 3] = [[255, 0], [51, 255]]  # opaque, clear, one fifth
    save(tmp_path / "rgba" / "a.png", pixels)
    np.testing.assert_array_equal(read(tmp_path / "rgba").images[0, 0], [[200, 0, 0], [255, 255, 255]])
    np.testing.assert_array_equal(read(tmp_path / "rgba").images[0, 1, 0], [244, 204, 204])
    save(tmp_path / "la" / "a.png", Image.fromarray(pixels[..., [0, 3]], "LA"))
    np.testing.assert_array_equal(read(tmp_path / "la").images[0, ..., 0], [[200, 255], [244, 200]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    save(tmp_path / "p" / "a.png", palette, transparency=1)
    np.testing.assert_array_equal(read(tmp_path / "p").images[0], [[[10, 20, 30], [255, 255, 255]]])


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100)  # red
    image = read(tmp_path).images[0].astype(int)
    np.testing.assert_allclose(image, np.broadcast_to([255, 0, 0], (8, 8, 3)), atol=3)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 129, 255, 256], [257, 1000, 32767, 65000, 65535]], np.uint16)
    save(tmp_path / "a.png", values)
    assert Image.open(tmp_path / "a.png").mode.startswith("I")
    np.testing.assert_array_equal(read(tmp_path).images[0, ..., 0], np.rint(values / 65535 * 255))


def test_exif_orientation_turns_the_image_upright(tmp_path):
    upright = rgb(0, (6, 4))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored turned by a quarter: show it turned clockwise
    save(tmp_path / "a.png", np.rot90(upright).copy(), exif=exif)
    save(tmp_path / "b.png", upright)
    np.testing.assert_array_equal(read(tmp_path).images, [upright, upright])


def test_tiny_image_is_enlarged(tmp_path):
    save(tmp_path / "a.png", np.array([[[10, 20, 30]]], np.uint8))
    np.testing.assert_array_equal(read(tmp_path, size=4).images[0], np.broadcast_to([10, 20, 30], (4, 4, 3)))


def test_size_crops_the_centre_square(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = rgb()
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "tall.png", wide.transpose(1, 0, 2))
    images = read(tmp_path, size=8).images  # short side already 8: cropped, not resampled
    np.testing.assert_array_equal(images[1], rgb())
    np.testing.assert_array_equal(images[0], rgb().transpose(1, 0, 2))


def test_size_resamples_without_aliasing(tmp_path):
    board = np.kron((np.indices((16, 16)).sum(0) % 2).astype(np.uint8) * 255, np.ones((1, 1), np.uint8))
    save(tmp_path / "a.png", board)
    inner = read(tmp_path, size=4).images[0, 1:-1, 1:-1, 0].astype(int)
    np.testing.assert_allclose(inner, 127.5, atol=2)  # a checkerboard of single pixels averages to grey


def test_common_rectangle_is_kept(tmp_path):
    save(tmp_path / "a.png", rgb(0, (4, 6)))
    save(tmp_path / "b.png", rgb(1, (4, 6)))
    assert read(tmp_path).images.shape == (2, 4, 6, 3)


def test_different_sizes_need_size(tmp_path):
    save(tmp_path / "a.png", rgb(0, (4, 4)))
    save(tmp_path / "b.png", rgb(1, (4, 6)))
    refused("a.png 4x4, b.png 6x4.*pass --size", tmp_path)
    assert read(tmp_path, size=5).images.shape == (2, 5, 5, 3)


def test_grey_beside_rgb_needs_channels(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", np.broadcast_to(np.array([255, 0, 0], np.uint8), (8, 8, 3)))
    refused("1 of 2 images are grey .a.png.*pass --channels", tmp_path)
    both = read(tmp_path, channels=3).images
    np.testing.assert_array_equal(both[0], GREY[..., None].repeat(3, -1))
    np.testing.assert_array_equal(read(tmp_path, channels=1).images[1], np.full((8, 8, 1), 76))  # 0.299 * 255


def test_damaged_files_are_named(tmp_path):
    save(tmp_path / "good.png", rgb(0, (64, 64)))
    save(tmp_path / "good.jpg", rgb(0, (64, 64)))
    png, jpg = (tmp_path / "good.png").read_bytes(), (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "good.png").unlink()
    (tmp_path / "good.jpg").unlink()
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 255
    damaged = {
        "empty.png": b"",
        "text.jpg": b"this is not an image",
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpg[: len(jpg) // 2],
        "header.png": png[:20],
        "flipped.png": bytes(flipped),
        "gif.png": b"GIF89a" + bytes(20),
    }
    for name, blob in damaged.items():
        (tmp_path / name).write_bytes(blob)
        refused(f"{name}: not a readable (PNG|JPEG) ", tmp_path)
        (tmp_path / name).unlink()


def test_huge_image_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    refused("bomb.png: not a readable", tmp_path, size=8)


def test_folder_without_images_is_refused(tmp_path):
    refused("no such folder", tmp_path / "none")
    refused("no image file in it .0 other", tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.heic").touch()
    save(tmp_path / ".hidden.png", GREY)
    refused("no image file in it .2 other files ignored", tmp_path)


def test_images_beside_class_folders_are_refused(tmp_path):
    save(tmp_path / "a" / "a.png", GREY)
    save(tmp_path / "b.png", GREY)
    refused("1 images beside class folders", tmp_path)


def test_too_few_images_say_how_many(tmp_path):
    save(tmp_path / "a.png", GREY)
    with pytest.raises(UserError, match="1 images are too few to split; give at least 4"):
        load(f"folder:{tmp_path}")


def test_unsupported_modes_are_refused():
    with pytest.raises(UserError, match="unsupported image mode F"):
        channels_of(Image.new("F", (2, 2)))
    with pytest.raises(UserError, match="exceed 16 bits"):
        to_8bit(Image.fromarray(np.array([[0, 70_000]], np.int32)), 1)


def test_conform_leaves_fitting_images_alone():
    image = rgb()
    assert conform(image, None, None) is image and conform(image, 8, 3) is image
    assert conform(image, 4, 1).shape == (4, 4, 1)
    np.testing.assert_array_equal(conform(GREY[..., None], None, 3)[..., 1], GREY)


# .npz files


def refused_npz(match, path):
    with pytest.raises(UserError, match=match) as caught:
        load(f"npz:{path}")
    assert "\n" not in str(caught.value)


def test_npz(tmp_path):
    images, labels = np.stack([rgb(i, (6, 6)) for i in range(40)]), np.arange(40) % 4
    np.savez(tmp_path / "a.npz", images=images, labels=labels, test_images=images[:5], test_labels=labels[:5])
    splits = load(f"npz:{tmp_path}/a.npz")
    assert splits.name == f"npz:{tmp_path}/a.npz" and splits.image_shape == (6, 6, 3) and splits.classes == 4
    assert sorted(rows(splits.test.images)) == sorted(rows(images[:5])) and sum(splits.duplicates.values()) == 5
    np.savez_compressed(tmp_path / "b.npz", images=images)
    assert load(f"npz:{tmp_path}/b.npz").classes == 0
    assert load(f"npz:{tmp_path}/b.npz", size=12, channels=1).image_shape == (12, 12, 1)


class Bomb:
    """An object whose unpickling would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_npz_runs_no_pickle(tmp_path):
    np.savez(tmp_path / "bomb.npz", images=np.array([Bomb(str(tmp_path / "ran"))], object))
    refused_npz("bomb.npz.*plain arrays", tmp_path / "bomb.npz")
    assert not (tmp_path / "ran").exists()


def test_bad_npz_is_refused(tmp_path):
    refused_npz("no such file", tmp_path / "none.npz")
    np.savez(tmp_path / "keys.npz", x_train=np.stack([GREY] * 20))
    refused_npz("no array named images, it holds x_train", tmp_path / "keys.npz")
    np.save(tmp_path / "bare.npy", np.stack([GREY] * 20))
    refused_npz("one array without a name", tmp_path / "bare.npy")
    (tmp_path / "text.npz").write_text("hello")
    refused_npz("text.npz: not a readable", tmp_path / "text.npz")
    (tmp_path / "empty.npz").touch()
    refused_npz("empty.npz: not a readable", tmp_path / "empty.npz")
    np.savez(tmp_path / "whole.npz", images=np.stack([rgb(i) for i in range(20)]))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    refused_npz("cut.npz: not a readable", tmp_path / "cut.npz")
    (tmp_path / "flipped.npz").write_bytes(whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])
    refused_npz("flipped.npz: not a readable", tmp_path / "flipped.npz")
