"""Features: fixed ones, and those of a classifier trained on the extractor split."""

from importlib import import_module

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from gan_jax import data
from gan_jax.core.errors import UserError
from gan_jax.metrics.features import fixed
from gan_jax.metrics.features.classifier import Training, classifier, classifier_logits, trained_classifier

trained = import_module("gan_jax.metrics.features.classifier")  # the package exports its function under this name
QUICK = Training(least=300, epochs=1)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def found(digits, cache):
    return trained_classifier(digits, cache, QUICK)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def one_nn(x, y):
    """Leave-one-out accuracy of the nearest neighbour: .5 for two samples of one distribution."""
    both, side = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    distances = cdist(both, both)
    np.fill_diagonal(distances, np.inf)
    return (side[distances.argmin(1)] == side).mean()


def frechet(x, y):
    def root(a):
        values, vectors = np.linalg.eigh(a)
        return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

    cx, cy = np.cov(x.T), np.cov(y.T)
    cross = root(root(cx) @ cy @ root(cx))
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx) + np.trace(cy) - 2 * np.trace(cross)


def test_pixels_are_flattened_to_the_unit_range_and_points_kept():
    images = noise(3, 2, 4, 3)
    np.testing.assert_allclose(fixed.pixels((2, 4, 3))(images), images.reshape(3, -1) / 127.5 - 1, atol=1e-6)
    points = np.array([[3, -40], [0.5, 7]], np.float32)
    np.testing.assert_array_equal(fixed.pixels((2,))(points), points)


def test_random_weights_are_the_raw_stream_of_pcg64():
    weights, _ = fixed.random_network((8, 8, 1), 4, 5, seed=7)
    raw = [int(bits) >> 40 for bits in np.random.PCG64(7).random_raw(3 * 3 * 4)]
    expected = (np.array(raw) / 2**23 - 1) * (6 / 9) ** 0.5
    np.testing.assert_allclose(weights[0].ravel(), expected, rtol=1e-6)
    large = fixed.he_uniform(np.random.PCG64(0), (3, 3, 32, 64))
    assert large.var() == pytest.approx(2 / (9 * 32), rel=0.02)
    assert abs(large.mean()) < 4 * (2 / (9 * 32) / large.size) ** 0.5


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (256, 256, 3), (1, 5, 1)])
def test_random_features_of_any_size_tell_images_apart(shape):
    features = fixed.random(shape, width=8, features=16)(noise(3, *shape))
    assert features.shape == (3, 16)
    assert cdist(features, features)[~np.eye(3, dtype=bool)].min() > 1e-3


def test_the_random_network_is_pure_and_its_own_extractor():
    images = noise(4, 6, 8, 8, 1)
    _, apply = fixed.random_network((8, 8, 1), 8, 16)
    many = jax.jit(jax.vmap(apply))(images / np.float32(127.5) - 1)
    one = fixed.random((8, 8, 1), 8, 16)
    np.testing.assert_allclose(many[2], one(images[2]), rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda x: apply(x).sum())(np.zeros((1, 8, 8, 1), np.float32))
    assert np.isfinite(slope).all()


def test_the_digest_names_the_weights():
    same = {fixed.random((8, 8, 1), 8, 16, seed=seed).digest for seed in (1, 1)}
    others = {fixed.random((8, 8, 1), *sizes, seed=seed).digest for *sizes, seed in ((8, 16, 2), (9, 16, 1), (8, 17, 1))}
    assert len(same) == 1 and len(same | others) == 4
    assert fixed.pixels((8, 8, 1)).digest != fixed.pixels((8, 8, 3)).digest


@pytest.mark.parametrize("make", [fixed.random, fixed.random_network])
def test_points_have_no_random_convolutions(make):
    with pytest.raises(UserError, match="use features='pixels'"):
        make((2,))


def test_accuracy_is_that_of_the_logits_on_the_validation_split(digits, found):
    right = found.logits(digits.validation.images).argmax(1) == digits.validation.labels
    assert found.accuracy == pytest.approx(right.mean(), abs=1e-6) == found.features.settings["accuracy"]
    assert found.accuracy > 0.93  # chance is .1
    assert found.classes == found.features.settings["classes"] == 10


def test_both_blocks_of_features_have_unit_variance_on_the_extractor_split(digits, found):
    variance = found.features(digits.extractor.images).var(0, dtype=np.float64)
    assert len(variance) == 96
    np.testing.assert_allclose([variance[:64].mean(), variance[64:].mean()], 1, rtol=1e-4)


@pytest.mark.parametrize("name", ["classifier", "random"])
def test_features_see_blur_and_missing_classes(name, digits, found):
    extractor = found.features if name == "classifier" else fixed.random((8, 8, 1))
    images, labels = digits.train.images, digits.train.labels
    blurred = gaussian_filter(images[350:700].astype(float), (0, 1, 1, 0)).round().astype(np.uint8)
    half = images[350:][labels[350:] < 5]
    real, again, blurred, half = map(extractor, (images[:350], images[350:700], blurred, half))
    floor = frechet(real, again)
    assert one_nn(real, blurred) > 0.95
    assert one_nn(real, again) == pytest.approx(0.5, abs=0.08)  # four standard errors
    assert frechet(real, blurred) > 15 * floor
    assert frechet(real, half) > 2 * floor


def test_a_second_use_reads_the_cache(digits, cache, found, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(trained, "train", refuse)
    again = classifier(digits.subset(100), cache, QUICK)  # E is what counts, not T
    assert again.digest == found.features.digest
    np.testing.assert_array_equal(again(digits.test.images[:5]), found.features(digits.test.images[:5]))
    assert classifier_logits(digits, cache, QUICK).digest == found.logits.digest != found.features.digest
    with pytest.raises(AssertionError, match="trained again"):
        classifier(digits, cache, Training(least=300, epochs=1, seed=1))


@pytest.mark.parametrize("damage", ["truncated", "changed weight", "other file"])
def test_a_damaged_file_is_trained_again(damage, digits, cache, found, tmp_path, monkeypatch):
    (file,) = cache.iterdir()
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    copy = tmp_path / file.name
    if damage == "truncated":
        copy.write_bytes(file.read_bytes()[:1000])
    elif damage == "other file":
        copy.write_text("not an archive")
    else:
        np.savez(copy, **arrays | {"logits_bias": arrays["logits_bias"] + np.float32(1e-3)})
    weights = {name: value for name, value in arrays.items() if name != "digest" and not name.endswith("_scale")}
    calls = []
    monkeypatch.setattr(trained, "train", lambda *_: calls.append(1) or weights)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path))
    assert classifier(digits, training=QUICK).digest == found.features.digest
    assert classifier(digits, training=QUICK).digest == found.features.digest  # from the file, whole again
    assert len(calls) == 1 and [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_cache_folder_is_the_argument_or_the_environment_or_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("GAN_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert trained.cache_folder() == tmp_path / "gan_jax" / "features"
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "b"))
    assert trained.cache_folder() == tmp_path / "b"
    assert trained.cache_folder(tmp_path / "c") == tmp_path / "c"


def test_a_cache_that_cannot_be_written_is_said_so(digits, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(trained, "train", lambda *_: {"hidden_bias": np.zeros(1)})
    monkeypatch.setattr(trained, "_scales", lambda *_: {})
    with pytest.raises(UserError, match="cannot keep the trained classifier in .*GAN_JAX_CACHE"):
        classifier(digits, tmp_path / "file" / "below", QUICK)


@pytest.mark.parametrize("images", [noise(60, 8, 8, 1), noise(60, 2) / np.float32(255)], ids=["images", "points"])
def test_without_labels_there_is_no_classifier(images, tmp_path):
    advice = "random" if images.ndim == 4 else "pixels"
    with pytest.raises(UserError, match=f"use features='{advice}'"):
        classifier(data.from_arrays(images), tmp_path)
