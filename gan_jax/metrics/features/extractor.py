"""One interface for everything that turns images into feature vectors, identified by a hash."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import first_not_finite

PROBES = 4  # images whose features identify a function of the user's
SEED = 20140610


@dataclass(frozen=True, eq=False)
class Extractor:
    """Images in, features out.

    name: what tables print, such as "classifier". digest: sha256 (hex) of all that determines the
    features: code version, weights, settings. function: uint8 [b, h, w, c] (or float32 points [b,
    d]) -> floats [b, k] of any array library. settings: what readers must know, such as
    {"accuracy": .97}. batch: images at a time.
    """

    name: str
    digest: str
    function: Callable[[Any], Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 256

    def __call__(self, images: np.ndarray, batch: int | None = None) -> np.ndarray:
        """Features float32 [n, k] of images uint8 [n, h, w, c] or points float32 [n, d].

        A last batch is filled up, so that a compiled function has one shape. Raises UserError for
        no images, wrong ones, or a feature that is not finite.
        """
        images = check_images(images, f"images for the {self.name} features")
        batch, parts = batch or self.batch, []
        for first in range(0, len(images), batch):
            part = images[first : first + batch]
            n = len(part)
            if n < batch and len(images) > batch:
                part = np.concatenate([part, np.repeat(part[:1], batch - n, 0)])
            parts.append(np.asarray(self.function(part), np.float32)[:n])
        made = np.concatenate(parts)
        if made.ndim != 2 or len(made) != len(images):
            raise UserError(f"the {self.name} features of {len(images)} images have shape {list(made.shape)}; expected [n, k]")
        if (bad := first_not_finite(made)) is not None:
            raise UserError(f"the {self.name} features of image {bad} are not finite: check the images and the extractor")
        return made


def check_images(images: Any, what: str) -> np.ndarray:
    """`images`, if uint8 [n, h, w, 1 or 3] or finite float points [n, d]; UserError for others."""
    images = np.asarray(images)
    shape = list(images.shape)
    if images.ndim == 2 and np.issubdtype(images.dtype, np.floating) and len(images):
        if (bad := first_not_finite(images)) is not None:
            raise UserError(f"{what}: point {bad} is not finite")
        return images.astype(np.float32, copy=False)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        hint = ": move the channels last" if images.ndim == 4 and images.shape[1] in (1, 3) else ""
        raise UserError(f"{what}: expected uint8 [n, h, w, 1 or 3] (or float points [n, d]), not {images.dtype} {shape}{hint}")
    if images.dtype != np.uint8:
        ends = f" in [{images.min():.3g}, {images.max():.3g}]" if images.size else ""
        raise UserError(f"{what}: expected uint8 of 0 to 255, not {images.dtype}{ends}: scale and round them first")
    if not len(images):
        raise UserError(f"{what}: there are none")
    return images


def digest_of(*parts: Any) -> str:
    """sha256 (hex) of JSON-able values, bytes and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape} {part.dtype.str}\n".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def from_function(function: Callable[[Any], Any], image_shape: tuple[int, ...], name: str | None = None) -> Extractor:
    """A user's function as an extractor, identified by the features it gives a few fixed images."""
    random = np.random.Generator(np.random.PCG64(SEED))
    raw = random.integers(0, 256, (PROBES, *image_shape), np.uint8)
    probes = raw if len(image_shape) == 3 else raw.astype(np.float32) / 127.5 - 1
    made = Extractor(name or getattr(function, "__name__", "function"), "", function)
    return Extractor(made.name, digest_of("function", np.round(made(probes), 3)), function)
