"""Any image as 8-bit grey or RGB of one size."""

import numpy as np
from PIL import Image, ImageOps

from gan_jax.core.errors import UserError

# PIL mode -> channels. 16-bit grey is "I;16" and its like, or "I" in some versions of Pillow.
CHANNELS: dict[str, int] = dict.fromkeys(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"), 1)
CHANNELS |= dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"), 3)


def channels_of(image: Image.Image) -> int:
    """1 for a grey image, 3 for any other. A palette counts as colour."""
    if image.mode not in CHANNELS:
        raise UserError(f"unsupported image mode {image.mode}; save the image as 8-bit grey or RGB")
    return CHANNELS[image.mode]


def range_of(image: Image.Image) -> int:
    """The largest value that the file's type holds: 65535 for 16-bit grey, else 255."""
    return 65_535 if image.mode.startswith("I") else 255


def largest_of(image: Image.Image) -> int:
    """The largest value of a grey or RGB image; 255 for other modes and for images with
    transparency, which are not scaled."""
    if image.has_transparency_data or not (image.mode in ("L", "RGB") or image.mode.startswith("I")):
        return 255
    return int(np.asarray(image).max())


def full_scale(largest: int, limit: int) -> int:
    """The value that becomes 255 where `largest` is the largest of a whole set: the range of the
    file's type (`limit`). But 16-bit images that use less than a quarter of it are of the fewest
    bits that hold `largest`: full_scale(4000, 65535) is 4095, of 12 bits. Images of 0 and 1 are
    masks: full_scale(1, 255) is 1. Other dark 8-bit images stay as they are."""
    if largest >= limit // 4 or (limit == 255 and largest != 1):
        return limit
    return max(1, 2 ** largest.bit_length() - 1)


def to_8bit(image: Image.Image, channels: int, full: int | None = None) -> Image.Image:
    """`image` in mode "L" (channels=1) or "RGB" (channels=3). Transparent pixels are composited
    over white. Colour becomes grey by ITU-R 601 luma.

    full: the value of the file that becomes 255, see `full_scale`; that of its type when None
    """
    natural, full = channels_of(image), full or range_of(image)
    if image.mode.startswith("I") or (full != 255 and image.mode in ("L", "RGB")):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > full:
            found = f"values {values.min()}..{values.max()}"
            raise UserError(f"{found} exceed {'16 bits' if full == 65_535 else full}; save it as 8-bit")
        image = Image.fromarray(((values * 255 + full // 2) // full).astype(np.uint8))  # rounded to nearest
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # The natural mode comes first, because grey composited over white is grey.
    return image.convert("L" if natural == 1 else "RGB").convert("L" if channels == 1 else "RGB")


def to_array(image: Image.Image, size: int | None, channels: int, full: int | None = None) -> np.ndarray:
    """uint8 [h, w, channels] of `image`, by `to_8bit`. The short side is resized to `size`
    (Lanczos) and the centre square cropped; size None keeps h and w."""
    image = to_8bit(image, channels, full)
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def conform(array: np.ndarray, size: int | None, channels: int | None) -> np.ndarray:
    """`to_array` of one image uint8 [h, w, c] with c 1 or 3; channels None keeps c."""
    if (size is None or array.shape[:2] == (size, size)) and channels in (None, array.shape[2]):
        return array
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return to_array(image, size, channels or array.shape[2])
