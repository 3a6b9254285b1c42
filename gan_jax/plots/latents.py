"""Pictures of the latent space: what the generator makes on the way from one latent to another."""

from __future__ import annotations

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.plots.grids import sample_grid, to_uint8


def interpolation_grid(images: np.ndarray, pad: int = 1, scale: int | None = None) -> np.ndarray:
    """One path per row, its steps from left to right, as `gan_jax.training.generation.paths` makes
    them.

    Args:
        images: uint8 or floats in [-1, 1], [rows, steps, h, w, c], c 1 (grey) or 3 (RGB).
        pad, scale: as for `sample_grid`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: another shape or dtype, or no image.
    """
    images = np.asarray(images)
    if images.ndim != 5 or 0 in images.shape:
        raise UserError(f"an interpolation grid wants images [rows, steps, h, w, c], not {list(images.shape)}")
    images = images if images.dtype == np.uint8 else to_uint8(images)
    return sample_grid(images.reshape(-1, *images.shape[2:]), images.shape[1], pad, scale)
