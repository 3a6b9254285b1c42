"""The nearest image up to a change that keeps its content: place, mirror, turn, size, light."""

import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from gan_jax.metrics.copies import Nearest, two_largest

SIDE = 16  # images are averaged down to at most this side
MOST = 2048  # samples, and 34 passes over all pairs: more would take long
CLEARLY = 0.75  # of the distance without a change: a change that gains less is not named
SHIFT = 1 / 16  # of the side
TURNS, ZOOMS = (-12, -6, 6, 12), (0.8, 0.9, 1.1, 1.25)  # degrees; factors


def aligned_nearest(x: np.ndarray, pool: np.ndarray) -> tuple[Nearest, Int64[np.ndarray, "m"]]:
    """The two nearest of the pool to each sample under its best change, and the change.

    x [m, h, w, c], pool [N, h, w, c]: uint8 images. Each is averaged down to a side of at most 16,
    freed of its mean and scaled to length 1, so that brightness and contrast do not count, and
    blur, noise and JPEG count little. Each sample is tried under all `changes`: shifted, mirrored,
    turned and zoomed. The search is the same among training and held-out images, so that
    `exchange_test` stays exact.

    Returns Nearest with distances in [0, 2], and the index int64 [m] of the best of `changes()`:
    the first, no change of place, where that is not above 4/3 of the best distance.
    """
    small, target = _averaged(x), _averaged(pool)
    shape = small.shape[1:3]
    flat = small.transpose(0, 3, 1, 2).reshape(-1, math.prod(shape))
    target = _unit(target.reshape(len(pool), -1))
    best, index = np.full((len(x), 2), -np.inf, np.float32), np.full((len(x), 2), -1)
    change, plain = np.zeros(len(x), np.int64), best[:, 0]
    for i, matrix in enumerate(_matrices(shape).values()):
        moved = (flat @ matrix.T).reshape(len(x), -1, math.prod(shape)).transpose(0, 2, 1)
        likeness, found = two_largest(_unit(moved.reshape(len(x), -1)), target)  # (1 - |x - y|^2) / 2
        plain = likeness[:, 0] if i == 0 else plain
        change[likeness[:, 0] > best[:, 0]] = i
        best, index = _two_best(np.hstack([best, likeness]), np.hstack([index, found]))
    distance = np.sqrt(np.maximum(1 - 2 * best.astype(np.float64), 0))
    change[distance[:, 0] >= CLEARLY * np.sqrt(np.maximum(1 - 2 * plain.astype(np.float64), 0))] = 0
    return Nearest(index[:, 0], distance[:, 0], distance[:, 1]), change


def changes() -> list[str]:
    """What `aligned_nearest` tries, in words. "light" is no change of place: what remains is
    brightness, contrast, blur, noise or compression."""
    return [name for name, _, _, _ in _affine()]


def _two_best(likeness: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest likeness of each row, and the largest to another index, with these indices."""
    order = np.argsort(-likeness, axis=1, kind="stable")
    index = np.take_along_axis(index, order, 1)
    other = np.argmax(index != index[:, :1], 1)
    take = np.stack([np.zeros_like(other), other], 1)
    return np.take_along_axis(np.take_along_axis(likeness, order, 1), take, 1), np.take_along_axis(index, take, 1)


def _averaged(images: np.ndarray) -> Float32[np.ndarray, "n h w c"]:
    """Means over squares of pixels, so that no side is above SIDE; edges are repeated."""
    n, height, width, channels = images.shape
    k = -(-max(height, width) // SIDE)
    padded = np.pad(images.astype(np.float32), ((0, 0), (0, -height % k), (0, -width % k), (0, 0)), mode="edge")
    return padded.reshape(n, padded.shape[1] // k, k, padded.shape[2] // k, k, channels).mean((2, 4))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows without their mean, of length 1; images of one grey stay 0."""
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)


def _affine() -> list[tuple[str, int, float, Any]]:
    """(name, mirror sign, angle, zoom or shift) of each change."""
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)] + [(-2, 0), (2, 0), (0, -2), (0, 2)]
    steps.sort(key=lambda step: step != (0, 0))
    made: list[tuple[str, int, float, Any]] = []
    for mirror, word in ((1, ""), (-1, "mirrored")):
        for step in steps:
            name = " and ".join(filter(None, (word, "shifted" if step != (0, 0) else ""))) or "light"
            made.append((name, mirror, 0.0, (1.0, step)))
    made += [("turned", 1, float(angle), (1.0, (0, 0))) for angle in TURNS]
    return made + [("zoomed", 1, 0.0, (zoom, (0, 0))) for zoom in ZOOMS]


@functools.lru_cache(maxsize=8)
def _matrices(shape: tuple[int, int]) -> dict[int, Float32[np.ndarray, "p p"]]:
    """{change: its bilinear matrix of flattened images [h w]}; pixels outside are those of the
    edge."""
    height, width = shape
    place = np.stack(np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"), -1)
    place = place.reshape(-1, 2) - 0.5
    made = {}
    for i, (_, mirror, angle, (zoom, step)) in enumerate(_affine()):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1, mirror]) / zoom
        source = (place @ turn.T + SHIFT * np.array(step) + 0.5) * shape - 0.5
        y, x = (np.clip(source[:, j], 0, size - 1) for j, size in enumerate(shape))
        matrix, pixels = np.zeros((height * width,) * 2, np.float32), np.arange(height * width)
        for dy in (0, 1):
            for dx in (0, 1):
                row = np.minimum(y.astype(int) + dy, height - 1)
                column = np.minimum(x.astype(int) + dx, width - 1)
                share = np.abs(1 - dy - y % 1) * np.abs(1 - dx - x % 1)
                np.add.at(matrix, (pixels, row * width + column), share)
        made[i] = matrix
    return made
