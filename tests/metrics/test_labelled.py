"""Scores that need labels: the inception score, GAN-train and GAN-test."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import data as gan_data
from gan_jax.core.errors import UserError
from gan_jax.metrics.features.classifier import Training, _initial, _train
from gan_jax.metrics.labelled import gan_test, gan_train, inception_score, real_classifier

QUICK = Training(width=16, hidden=32, least=300, epochs=1)
FROZEN = Path(__file__).parents[1] / "frozen" / "inception_score.npz"
N = 400


@pytest.fixture(scope="module")
def digits():
    return gan_data.load("digits")


@pytest.fixture(scope="module")
def real(digits):
    return real_classifier(digits, N, QUICK)


# ---- the inception score -----------------------------------------------------------------------


@pytest.mark.parametrize("splits", [1, 4, 10])
@pytest.mark.parametrize("order", ["plain", "shuffled"])
def test_inception_score_is_torch_fidelitys(order, splits):
    with np.load(FROZEN) as frozen:
        logits = frozen["logits"] if order == "plain" else frozen["logits"][frozen["order"]]
        np.testing.assert_allclose(inception_score(logits, splits), frozen[f"{order}_{splits}"], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("c", [2, 10])
def test_equal_predictions_score_1_and_certain_ones_of_equal_classes_their_number(c):
    assert inception_score(np.zeros((30, c)))[0] == pytest.approx(1)
    certain = np.tile(1000 * np.eye(c), (5, 1))
    assert inception_score(certain)[0] == pytest.approx(c)
    assert inception_score(certain, splits=5) == pytest.approx((c, 0))
    assert inception_score(np.tile(1000 * np.eye(c)[:1], (5, 1)))[0] == pytest.approx(1)  # certain, of one class


def test_half_certain_predictions_score_by_their_entropy():
    logits = np.log([[0.75, 0.25], [0.25, 0.75]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert inception_score(logits)[0] == pytest.approx(2 * np.exp(-entropy))


def test_a_seed_shuffles_before_the_splits():
    by_class = np.repeat(50 * np.eye(5), 20, 0)
    assert inception_score(by_class, splits=5)[0] == pytest.approx(1)  # each part holds one class
    shuffled = inception_score(by_class, splits=5, seed=0)
    assert shuffled[0] > 4 and shuffled == inception_score(by_class, splits=5, seed=0)


@pytest.mark.parametrize(
    "logits, splits", [(np.zeros(3), 1), (np.zeros((3, 2)), 4), (np.zeros((3, 2)), 0), (np.full((3, 2), np.nan), 1)]
)
def test_logits_that_do_not_fit_are_refused(logits, splits):
    with pytest.raises(UserError, match="inception_score"):
        inception_score(logits, splits)


# ---- GAN-train and GAN-test --------------------------------------------------------------------


def test_the_training_images_themselves_reach_the_reference(digits, real):
    images, labels = digits.train.images[:N], digits.train.labels[:N]
    found = gan_train(images, labels, digits, digits.test, QUICK, real)
    assert found["accuracy"] == found["reference"] > 0.9
    assert (found["n"], found["n_reference"], found["tested"]) == (N, N, len(digits.test))


def test_independent_real_images_reach_the_reference_within_noise(digits, real):
    images, labels = digits.train.images[N : 2 * N], digits.train.labels[N : 2 * N]
    made = gan_train(images, labels, digits, digits.test, QUICK, real)
    assert made["accuracy"] == pytest.approx(made["reference"], abs=0.05)  # two trainings, each with error .015 on 270 images
    judged = gan_test(images, labels, digits, digits.test, QUICK, real)
    assert judged["accuracy"] == pytest.approx(judged["reference"], abs=0.06)
    assert judged["reference"] == made["reference"]


def test_unrelated_labels_give_chance(digits, real):
    images = digits.train.images[:N]
    labels = np.random.default_rng(0).permutation(digits.train.labels[:N])
    # The spread is that of trainings on noise, wider than the .018 of 270 independent guesses.
    assert gan_train(images, labels, digits, digits.test, QUICK, real)["accuracy"] == pytest.approx(0.1, abs=0.1)
    assert gan_test(images, labels, digits, digits.test, QUICK, real)["accuracy"] == pytest.approx(0.1, abs=0.06)


def test_copies_of_one_image_per_class_pass_gan_test_and_fail_gan_train(digits, real):
    labels = np.arange(N, dtype=np.int32) % 10
    first = np.array([np.argmax(digits.train.labels == c) for c in range(10)])
    images = digits.train.images[first][labels]
    assert gan_test(images, labels, digits, digits.test, QUICK, real)["accuracy"] == 1
    made = gan_train(images, labels, digits, digits.test, QUICK, real)
    assert 0.3 < made["accuracy"] < made["reference"] - 0.1


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1, 10]), "lie in 0 to 10: expected 0 to 9"),
        (np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1]), "give one each"),
        (np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3), "expected integers, one for each image"),
        (np.zeros((3, 4, 8, 1), np.uint8), np.zeros(3, int), r"\[4, 8, 1\] are not of digits"),
        (np.zeros((3, 8, 8, 1)), np.zeros(3, int), "expected uint8"),
    ],
)
@pytest.mark.parametrize("score", [gan_train, gan_test])
def test_what_does_not_fit_is_refused(score, images, labels, words, digits):
    with pytest.raises(UserError, match=words):
        score(images, labels, digits, digits.test, QUICK)


def test_data_without_labels_have_no_such_score(digits):
    data = gan_data.from_arrays(digits.train.images[:100])
    with pytest.raises(UserError, match="gan_test want labels, and .* has none"):
        gan_train(digits.train.images[:5], digits.train.labels[:5], data, data.test, QUICK)


def test_the_classifier_trains_to_float32_where_jax_has_64_bits(x64):
    tiny = Training(width=2, hidden=4, least=2, epochs=1, batch=4)
    images, order = jnp.zeros((8, 8, 8, 1), jnp.uint8), jnp.zeros((2, 4), jnp.int32)
    weights = _initial((8, 8, 1), 2, tiny)
    train = lambda offsets: _train(weights, images, order.reshape(-1), order, offsets, 1, tiny)
    shapes = jax.eval_shape(train, jnp.zeros((2, 4, 2), jnp.int32))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype("float32")}
    assert {k: x.shape for k, x in shapes.items()} == {k: x.shape for k, x in weights.items()}
