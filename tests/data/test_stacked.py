"""Stacked digits: what is in a stack, which split it comes from, and the modes and the KL of
samplers that are known."""

import gzip
import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import gan_jax as gan
from gan_jax.data import stacked
from gan_jax.data.splits import NAMES, Split
from gan_jax.metrics import modes
from gan_jax.metrics.features.classifier import trained_classifier

PUBLISHED = 26_000  # samples
NULL, DEVIATION = 999 / 2 / PUBLISHED, math.sqrt(2 * 999) / 2 / PUBLISHED


@pytest.fixture(scope="module")
def data():
    return gan.load("stacked_digits")


@pytest.fixture(scope="module")
def digits():
    return gan.load("digits")


def oracle(*splits):
    """A classifier that knows every image by heart: logits of images of these splits."""
    known = {image.tobytes(): label for split in splits for image, label in zip(split.images, split.labels, strict=True)}
    return lambda images: np.eye(10)[[known[image.tobytes()] for image in images]]


# ---- the data ----------------------------------------------------------------------------------


def test_a_stack_is_three_digits_of_its_own_split(data, digits):
    """Each channel is an image of the single digits' split of that name, and the label says which;
    the digits never mix."""
    assert (data.image_shape, data.classes, data.class_names[357]) == ((8, 8, 3), 1000, "357")
    inside = {}
    for name in NAMES:
        part = getattr(data, name)
        single = getattr(digits, name)
        known = {image.tobytes(): label for image, label in zip(single.images, single.labels, strict=True)}
        assert len(part) == (128_000 if name == "train" else 10_000) and part.images.dtype == np.uint8
        for images, label in zip(part.images[:300], part.labels[:300], strict=True):
            r, g, b = (known[images[..., c].tobytes()] for c in range(3))
            assert label == 100 * r + 10 * g + b
        inside[name] = {image.tobytes() for image in stacked.channels(part.images)}
        assert inside[name] == set(known), "so many draws leave no digit out"
    assert not any(inside[a] & inside[b] for a, b in combinations(NAMES, 2))


def test_stacks_are_fixed_by_the_seed_and_nested(data):
    again, other = gan.load("stacked_digits", subset=25_600), gan.load("stacked_digits", seed=1, subset=100)
    assert again.validation.hash == data.validation.hash != other.validation.hash
    np.testing.assert_array_equal(again.train.images, data.train.images[:25_600])
    assert again.source == {"name": "stacked_digits", "seed": 0, "subset": 25_600}


def test_every_split_draws_for_itself(data, digits):
    """V and E hold as many digits: which of them are in their stacks is nevertheless not the
    same."""
    assert len(digits.validation) == len(digits.extractor)
    drawn = []
    for name in ("validation", "extractor"):
        place = {image.tobytes(): i for i, image in enumerate(getattr(digits, name).images)}
        drawn.append([place[image.tobytes()] for image in getattr(data, name).images[:50, ..., 0]])
    assert np.mean(np.equal(*drawn)) < 0.1


def test_the_channels_are_drawn_apart_and_evenly(digits):
    """Independent channels, each digit as frequent as among the single images: chi-squared over 100
    pairs, 99 degrees."""
    n = 20_000
    labels = stacked.stack(digits.train, n, 0).labels
    r, g, b = labels // 100, labels // 10 % 10, labels % 10
    share = np.bincount(digits.train.labels) / len(digits.train)
    for x, y in combinations((r, g, b), 2):
        counts, expected = np.bincount(10 * x + y, minlength=100), n * np.outer(share, share).ravel()
        assert ((counts - expected) ** 2 / expected).sum() < 99 + 5 * math.sqrt(2 * 99)


def test_a_size_is_that_of_each_digit():
    assert gan.load("stacked_digits", size=12, subset=5).image_shape == (12, 12, 3)


def test_the_single_images_come_out_again(data, digits):
    singles = stacked.singles(data)
    assert (singles.image_shape, singles.classes) == ((8, 8, 1), 10)
    for name in NAMES:
        pairs = [
            sorted((x.tobytes(), int(y)) for x, y in zip(s.images, s.labels, strict=True))
            for s in (getattr(singles, name), getattr(digits, name))
        ]
        assert sorted(set(pairs[1])) == pairs[0], "once each"


def test_what_cannot_be_stacked_is_refused(digits):
    with pytest.raises(gan.UserError, match="not stacked: it has 10 classes"):
        stacked.singles(digits)
    with pytest.raises(gan.UserError, match="labelled grey images"):
        stacked.stack(Split(digits.train.images), 3, 0)
    with pytest.raises(gan.UserError, match="leave out channels"):
        gan.load("stacked_digits", channels=1)
    with pytest.raises(gan.UserError, match="n=0"):
        stacked.stack(digits.train, 0, 0)


# ---- the modes ---------------------------------------------------------------------------------


def painted(labels):
    """Stacks 2 x 2 whose brightness says their digits, and `painted_digit` reads them."""
    labels = np.asarray(labels)
    shades = np.stack([labels // 100, labels // 10 % 10, labels % 10], -1) * 25
    return np.broadcast_to(shades[:, None, None, :], (len(labels), 2, 2, 3)).astype(np.uint8)


def painted_digit(images):
    return np.eye(10)[images[:, 0, 0, 0] // 25]


@pytest.mark.parametrize(
    ("labels", "reached", "kl"),
    [
        ([357] * 50, 1, math.log(1000)),
        (list(range(100)) * 3, 100, math.log(10)),
        (range(1000), 1000, 0.0),
        ([1, 1, 1, 999], 2, 0.75 * math.log(750) + 0.25 * math.log(250)),
    ],
)
def test_modes_and_kl_in_closed_form(labels, reached, kl):
    output = modes.stacked(painted(labels), painted_digit)
    assert output == {"modes": reached, "kl": pytest.approx(kl, abs=1e-12)}


def test_the_order_of_the_channels_counts():
    assert modes.stacked(painted([12, 21, 102, 120, 201, 210]), painted_digit)["modes"] == 6


def test_kl_is_from_the_shares_that_are_given():
    shares = np.arange(1, 1001) / 500500
    labels = np.repeat(np.arange(1000), np.arange(1, 1001))[::-1]
    assert modes.stacked(painted(labels), painted_digit, shares)["kl"] == pytest.approx(0, abs=1e-12)
    assert modes.stacked(painted([0]), painted_digit, shares)["kl"] == pytest.approx(math.log(500500))
    assert modes.stacked(painted(labels), painted_digit)["kl"] == pytest.approx((shares * np.log(1000 * shares)).sum())


def test_an_exact_sampler_is_at_its_null():
    """The mean of 8 samples within 4 standard errors of (k - 1) / (2 n) and its next term, (sum 1/p
    - 1) / (12 n^2)."""
    random = np.random.default_rng(0)
    output = [modes.stacked(painted(random.integers(0, 1000, PUBLISHED)), painted_digit) for _ in range(8)]
    assert {one["modes"] for one in output} == {1000}
    expected = NULL + (1e6 - 1) / 12 / PUBLISHED**2
    assert np.mean([one["kl"] for one in output]) == pytest.approx(expected, abs=4 * DEVIATION / math.sqrt(8))


def test_held_out_stacks_are_a_perfect_sampler(digits):
    """26,000 stacks of the test digits, read by heart: the null, and three times how unevenly the
    digits occur."""
    output = modes.stacked(stacked.stack(digits.test, PUBLISHED, 1).images, oracle(digits.test))
    share = np.bincount(digits.test.labels) / len(digits.test)
    uneven = 3 * (share * np.log(10 * share)).sum()
    assert output["modes"] == 1000 and output["kl"] == pytest.approx(NULL + uneven, abs=4 * DEVIATION)


def test_a_classifier_of_the_extractor_split_counts_nearly_as_well(data):
    """Its few mistakes move stacks between modes, and so add little; one that drops red digits 5
    ... 9 halves the modes."""
    known = trained_classifier(stacked.singles(data))
    assert known.accuracy > 0.9
    stacks = data.test
    output = modes.stacked(stacks.images, known.logits)
    truth = modes.stacked(painted(stacks.labels), painted_digit)
    assert output["modes"] >= 990 and truth["kl"] - 0.01 < output["kl"] < truth["kl"] + 0.05
    half = modes.stacked(stacks.images[stacks.labels < 500], known.logits)
    assert half["modes"] < 750 and half["kl"] > truth["kl"] + 0.5


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((painted([1])[..., :1], painted_digit), r"\[1, 2, 2, 1\]"),
        ((painted([1]), lambda images: np.zeros(3)), "logits"),
        ((painted([1]).astype(np.float32), painted_digit), "uint8"),
        ((painted([1]), painted_digit, np.zeros(1000)), "each above 0"),
        ((painted([1]), painted_digit, np.full(10, 0.1)), "shares of 1000 modes"),
    ],
)
def test_what_cannot_be_counted_is_refused(arguments, match):
    with pytest.raises(gan.UserError, match=match):
        modes.stacked(*arguments)


# ---- MNIST itself ------------------------------------------------------------------------------


def test_stacked_mnist_has_the_published_floor():
    """Stacks of MNIST's 10,000 test digits, read by heart: .0192 for the number of samples, .0052
    for the digits' shares."""
    folder = Path(os.environ.get("GAN_JAX_DATA") or Path(__file__).parents[3] / "shared" / "data") / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no original files: {folder} does not exist; set GAN_JAX_DATA to a folder with mnist")
    read = lambda name, offset: np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=offset)
    images = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    digits = Split(images, read("t10k-labels-idx1-ubyte.gz", 8).astype(np.int32))
    stacks = stacked.stack(digits, PUBLISHED, 0)
    assert stacks.images.shape == (PUBLISHED, 28, 28, 3)
    output = modes.stacked(stacks.images, oracle(digits))
    assert output["modes"] == 1000 and output["kl"] == pytest.approx(0.0192 + 0.0052, abs=4 * DEVIATION)
