"""The nearest image under a change: its matrices against scipy, planted changes, light."""

import math

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from gan_jax.metrics import alignment
from gan_jax.metrics.alignment import aligned_nearest, changes


def smooth(n, side=16, channels=1, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, side, side, channels))
    images = gaussian_filter(noise, (0, 1.2, 1.2, 0))
    return np.clip(np.rint(images * 60 / images.std() + 128), 20, 235).astype(np.uint8)


def test_the_matrices_are_scipy_s_bilinear_transforms():
    image = np.random.default_rng(1).normal(size=(12, 12))
    for i, (_, mirror, angle, (zoom, step)) in enumerate(alignment._affine()):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1, mirror]) / zoom
        middle = np.full(2, 5.5)
        offset = middle - turn @ middle + 12 / 16 * np.array(step)
        expected = affine_transform(image, turn, offset, order=1, mode="nearest")
        made = alignment._matrices((12, 12))[i] @ image.ravel()
        np.testing.assert_allclose(made.reshape(12, 12), expected, atol=2e-6, err_msg=str(i))
    np.testing.assert_allclose(alignment._matrices((12, 12))[0], np.eye(144), atol=1e-12)


@pytest.mark.parametrize(
    "name, change",
    [
        ("shifted", lambda x: np.roll(x, 1, 1)),
        ("shifted", lambda x: np.roll(x, -2, 2)),
        ("mirrored", lambda x: x[:, :, ::-1]),
        ("mirrored and shifted", lambda x: np.roll(x[:, :, ::-1], 1, 2)),
        ("light", lambda x: np.clip(x + 20.0, 0, 255).astype(np.uint8)),
        ("light", lambda x: np.rint(x * 0.6 + 40).astype(np.uint8)),
    ],
    ids=["down", "left", "mirror", "mirror and right", "brighter", "less contrast"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_planted_change_is_named_and_its_image_found(name, change, channels):
    pool = smooth(60, channels=channels)
    found, which = aligned_nearest(change(pool[:20]), pool)
    np.testing.assert_array_equal(found.index, np.arange(20))
    assert {changes()[i] for i in which} == {name} and found.ratio.max() < 0.6


def test_the_second_is_another_image_and_large_images_are_averaged():
    pool = smooth(30, side=40)
    found, which = aligned_nearest(pool, pool)
    np.testing.assert_array_equal(found.index, np.arange(30))
    assert found.distance.max() < 1e-3 and found.second.min() > 0.2 and (which == 0).all()
    assert alignment._averaged(pool).shape == (30, 14, 14, 1)
    np.testing.assert_allclose(alignment._averaged(pool)[:, 0, 0, 0], pool[:, :3, :3, 0].mean((1, 2)), rtol=1e-6)


def test_images_of_one_grey_are_near_to_nothing():
    found, _ = aligned_nearest(np.full((3, 16, 16, 1), 90, np.uint8), smooth(30))
    assert found.distance.min() > 0.5 and found.ratio.min() > 0.9
