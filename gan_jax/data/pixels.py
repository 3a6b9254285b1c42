"""Any image as 8-bit grey or RGB of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

# PIL mode -> channels. 16-bit grey is "I;16", or "I" in some versions of Pillow.
CHANNELS = {"1": 1, "L": 1, "LA": 1, "I": 1, "I;16": 1, "I;16B": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3}


def channels_of(image: Image) -> int:
    """1 for a grey image, 3 for any other. A palette counts as colour."""
    if image.mode not in CHANNELS:
        raise UserError(f"unsupported image mode {image.mode}; save the image as 8-bit grey or RGB")
    return CHANNELS[image.mode]


def to_8bit(image: Image, channels: int) -> Image:
    """`image` in mode "L" (channels=1) or "RGB" (channels=3). 16-bit grey is scaled to 8 bits.
    Transparent pixels are laid over white. Colour becomes grey by ITU-R 601 luma."""
    from PIL import Image as pil

    natural = channels_of(image)
    if image.mode.startswith("I"):
        image = _from_16bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image)
    # First to the natural mode: grey laid over white is grey.
    return image.convert("L" if natural == 1 else "RGB").convert("L" if channels == 1 else "RGB")


def _from_16bit(image: Image) -> Image:
    from PIL import Image as pil

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise UserError(f"grey values {values.min()}..{values.max()} exceed 16 bits; save it as 8-bit")
    return pil.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257, rounded to nearest


def fit(image: Image, size: int | None) -> Image:
    """Resize the short side to `size` (Lanczos) and crop the centre; None changes nothing."""
    from PIL import Image as pil
    from PIL import ImageOps

    if size is None or image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), pil.Resampling.LANCZOS)


def as_array(image: Image) -> np.ndarray:
    """uint8 [h, w, c] of an "L" or "RGB" image."""
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def conform(array: np.ndarray, size: int | None, channels: int | None) -> np.ndarray:
    """One image, uint8 [h, w, c] with c 1 or 3, at this size and with these channels. None keeps
    what the image has."""
    from PIL import Image as pil

    if (size is None or array.shape[:2] == (size, size)) and channels in (None, array.shape[2]):
        return array
    image = pil.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return as_array(fit(to_8bit(image, channels or array.shape[2]), size))
