"""Images to the 299 x 299 pixels of Inception, in the three ways in use."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError

SIDE = 299
MODES = ("tf1-bilinear", "pytorch-bilinear", "clean-bicubic")


def resize(images: ArrayLike, mode: str, side: int = SIDE) -> Float[Array, "n side side c"]:
    """uint8 images [n, h, w, c] as float32 [n, side, side, c] in [0, 255], not rounded.

        tf1-bilinear: output i at input i h / side, no antialiasing: TensorFlow 1, so the original
          FID (Heusel et al., 2017) and torch-fidelity
        pytorch-bilinear: output i at input (i + 1/2) h / side - 1/2, no antialiasing: pytorch-fid
        clean-bicubic: half-pixel centres, the kernel as wide as the step between outputs, as Pillow
          does with floats: clean-fid from its version of March 2022 on (Parmar et al., 2022)

    Every mode is two products with a matrix [side, h] or [side, w]. Raises UserError for others.
    """
    x = jnp.asarray(images).astype(jnp.float32)
    rows, columns = (matrix(mode, size, side) for size in x.shape[1:3])
    x = jnp.einsum("jw,nhwc->nhjc", columns, x, precision=jax.lax.Precision.HIGHEST)
    x = jnp.einsum("ih,nhjc->nijc", rows, x, precision=jax.lax.Precision.HIGHEST)
    return x.clip(0, 255)  # the bilinear modes stay within anyway


def matrix(mode: str, size: int, side: int = SIDE) -> Float[np.ndarray, "side size"]:
    """What each of `side` outputs takes of each of `size` inputs, along one axis; rows sum to 1."""
    if mode not in MODES:
        raise UserError(f"no resize mode is called {mode!r}: choose one of {', '.join(MODES)}")
    made = _bicubic(size, side) if mode == "clean-bicubic" else _bilinear(size, side, half=mode == "pytorch-bilinear")
    return made.astype(np.float32)


def _bilinear(size: int, side: int, half: bool) -> np.ndarray:
    """Positions are float32, as in both references: those of large images differ visibly."""
    shift = np.float32(0.5 if half else 0)
    at = np.maximum((np.arange(side, dtype=np.float32) + shift) * np.float32(size / side) - shift, 0)
    low = np.minimum(at.astype(int), size - 1)
    share = at - low
    made, each = np.zeros((side, size)), np.arange(side)
    np.add.at(made, (each, low), 1 - share)
    np.add.at(made, (each, np.minimum(low + 1, size - 1)), share)
    return made


def _bicubic(size: int, side: int) -> np.ndarray:
    """Keys' cubic convolution (1981), a = -1/2, stretched where the image shrinks, cut at edges."""
    step = size / side
    centres = (np.arange(side) + 0.5) * step
    d = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(step, 1)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    made = np.where(d < 1, near, np.where(d < 2, far, 0))
    return made / made.sum(1, keepdims=True)
