"""Any image as 8-bit grey or RGB of one size."""

import numpy as np
from PIL import Image, ImageOps

from gan_jax.core.errors import UserError

# PIL mode -> channels. 16-bit grey is "I;16", or "I" in some versions of Pillow.
CHANNELS = {"1": 1, "L": 1, "LA": 1, "I": 1, "I;16": 1, "I;16B": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3}


def channels_of(image: Image.Image) -> int:
    """1 for a grey image, 3 for any other. A palette counts as colour."""
    if image.mode not in CHANNELS:
        raise UserError(f"unsupported image mode {image.mode}; save the image as 8-bit grey or RGB")
    return CHANNELS[image.mode]


def to_8bit(image: Image.Image, channels: int) -> Image.Image:
    """`image` in mode "L" (channels=1) or "RGB" (channels=3). 16-bit grey is scaled to 8 bits.
    Transparent pixels are composited over white. Colour becomes grey by ITU-R 601 luma."""
    natural = channels_of(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise UserError(f"grey values {values.min()}..{values.max()} exceed 16 bits; save it as 8-bit")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257, rounded to nearest
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # The natural mode comes first, because grey composited over white is grey.
    return image.convert("L" if natural == 1 else "RGB").convert("L" if channels == 1 else "RGB")


def to_array(image: Image.Image, size: int | None, channels: int) -> np.ndarray:
    """uint8 [h, w, channels] of `image`. The short side is resized to `size` (Lanczos) and the
    centre square cropped; size None keeps h and w."""
    image = to_8bit(image, channels)
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
