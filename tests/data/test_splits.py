"""Splits, toys and arrays: laws of the split rule and known answers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from gan_jax.core.errors import UserError
from gan_jax.data import Split, from_arrays, load
from gan_jax.data.splits import NAMES, split_sizes, stratified_order
from gan_jax.data.toys import grid, ring

# The splits of the digits with seed 0. A change here makes every number measured on them
# incomparable with older ones.
DIGITS_HASHES = {
    "train": "ffb774986c29aba42fe7d308910fa49e5485122a1beee20806df48bd85162298",
    "validation": "de8a2473bda5d05ca4b078fca45773977107d7626340ba1338e97efa72dc4377",
    "test": "338d7ac5e2f5bf6d439f9964b614c5bef100174310a71a30a976f724df2305f6",
    "extractor": "5b2ce1336d236f1e6d37d4d445b64047c57821416b1bbb2f94abc72acc627a28",
}


def refused(match, call, *args, **kwargs):
    """The call raises a UserError of one line that matches."""
    with pytest.raises(UserError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def different_images(n, shape=(4, 4, 1), seed=0):
    """n images, uint8 [n, *shape], no two alike."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
    images.reshape(n, -1)[:, :2] = np.stack([np.arange(n) // 256, np.arange(n) % 256], 1)
    return images


def rows(images):
    return [image.tobytes() for image in images]


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits_are_the_images_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    expected = sorted(zip(rows(np.floor(pixels * 255 / 16 + 0.5).astype(np.uint8)), labels.tolist(), strict=True))
    parts = [getattr(digits, name) for name in NAMES]
    found = sorted((row, int(label)) for part in parts for row, label in zip(rows(part.images), part.labels, strict=True))
    assert found == expected
    assert digits.image_shape == (8, 8, 1) and digits.classes == 10
    assert digits.train.images.max() == 255 and digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int32


def test_digits_splits_are_frozen(digits):
    assert digits.hashes == DIGITS_HASHES
    assert load("digits").hashes == DIGITS_HASHES
    other = load("digits", seed=1)
    assert not set(other.hashes.values()) & set(DIGITS_HASHES.values())


@pytest.mark.parametrize(
    ("n", "official", "expected"),
    [
        (1797, False, {"train": 1069, "validation": 229, "test": 270, "extractor": 229}),
        (60_000, True, {"train": 42_000, "validation": 9_000, "extractor": 9_000}),
        (50_000, True, {"train": 35_000, "validation": 7_500, "extractor": 7_500}),
        (100_000, False, {"train": 65_000, "validation": 10_000, "test": 15_000, "extractor": 10_000}),
        (4, False, {"train": 1, "validation": 1, "test": 1, "extractor": 1}),
        (3, True, {"train": 1, "validation": 1, "extractor": 1}),
    ],
)
def test_sizes_follow_the_rule(n, official, expected):
    assert split_sizes(n, official) == expected


def test_splits_are_disjoint_by_bytes(digits):
    seen = [row for name in NAMES for row in set(rows(getattr(digits, name).images))]
    assert len(seen) == len(set(seen))


def test_splits_are_stratified(digits):
    share = np.bincount(np.concatenate([getattr(digits, name).labels for name in NAMES])) / 1797
    for name in NAMES:
        part = getattr(digits, name)
        np.testing.assert_allclose(np.bincount(part.labels), share * len(part), atol=2)


def test_every_prefix_is_stratified(digits):
    labels = digits.train.labels
    counts = np.cumsum(np.eye(10)[labels], axis=0)
    expected = np.bincount(labels) / len(labels) * np.arange(1, len(labels) + 1)[:, None]
    assert np.abs(counts - expected).max() < 1.1


def test_prefixes_of_equal_classes_are_exactly_equal():
    labels = np.repeat(np.arange(7), 30)
    order = stratified_order(labels, 210, seed=3, purpose="train")
    assert sorted(order) == list(range(210))
    for n in range(7, 211, 7):
        np.testing.assert_array_equal(np.bincount(labels[order[:n]]), np.full(7, n // 7))


def test_rare_class_is_spread_not_lost():
    labels = np.array([0] * 990 + [1] * 10)
    order = stratified_order(labels, 1000, seed=0, purpose="train")
    np.testing.assert_array_equal(np.add.reduceat(labels[order], np.arange(0, 1000, 100)), np.ones(10))


def test_subsets_are_nested_prefixes(digits):
    small, large = load("digits", subset=50), digits.subset(200)
    np.testing.assert_array_equal(small.train.images, large.train.images[:50])
    np.testing.assert_array_equal(small.train.labels, digits.train.labels[:50])
    assert large.subset(50).hashes == small.hashes
    assert {name: small.hashes[name] for name in NAMES[1:]} == {name: DIGITS_HASHES[name] for name in NAMES[1:]}


@pytest.mark.parametrize("n", [0, -1, 1070, 2.5, "ten"])
def test_impossible_subset_is_refused(digits, n):
    refused("subset", digits.subset, n)


def test_describe_is_json(digits):
    assert json.loads(json.dumps(digits.describe())) == {
        "name": "digits", "seed": 0, "image_shape": [8, 8, 1], "classes": 10, "hashes": DIGITS_HASHES,
        "duplicates": dict.fromkeys(NAMES, 0), "sizes": split_sizes(1797, official_test=False),
    }  # fmt: skip


def test_split_arrays_cannot_be_changed_and_the_given_ones_can(digits):
    with pytest.raises(ValueError, match="read-only"):
        digits.train.images[0] = 0
    images, test_images = different_images(40), different_images(40, seed=1)
    from_arrays(images, test_images=test_images)
    Split(images)
    images[0], test_images[0] = 0, 0


def test_hash_sees_shape_and_labels():
    images = different_images(40)
    for other in (from_arrays(images.reshape(40, 2, 8, 1)), from_arrays(images, np.zeros(40, int))):
        assert other.hashes["train"] != from_arrays(images).hashes["train"]


def test_all_copies_of_an_image_are_in_one_split(capsys):
    images = different_images(200)
    plain = from_arrays(images)
    position = {row: i for i, row in enumerate(rows(images))}
    at = {name: [position[row] for row in rows(getattr(plain, name).images)] for name in NAMES}
    planted = np.concatenate([images, images[at["train"][:5]], images[at["test"][:2]], images[at["test"][:2]]])
    found = from_arrays(planted)
    assert "9 of 209 images are copies" in capsys.readouterr().err
    assert found.duplicates == dict.fromkeys(NAMES, 0)
    for name in NAMES:  # the different images are cut as they are without copies
        assert set(rows(getattr(found, name).images)) == set(rows(getattr(plain, name).images))
    assert len(found.train) == len(plain.train) + 5 and len(found.test) == len(plain.test) + 4
    assert rows(found.test.images).count(images[at["test"][0]].tobytes()) == 3


def test_a_class_oversampled_by_copying_keeps_its_shares():
    rare, common = different_images(20), different_images(200, seed=1)
    common[:, 0, 0] = 255  # none is a rare one
    data = from_arrays(np.concatenate([common, *[rare] * 10]), [0] * 200 + [1] * 200)
    for name in NAMES:
        share = np.mean(getattr(data, name).labels)
        np.testing.assert_allclose(share, 0.5, atol=0.1)  # to whole images, of which each rare one is ten
    assert len(set(rows(data.train.images[data.train.labels == 1]))) == 12  # of 20, as the rule cuts them


def test_a_class_that_lost_its_training_images_is_refused():
    images = different_images(40)
    refused("no training image, such as class number 1 of 20 images: all are copies", from_arrays, images, np.arange(40) % 2,
            test_images=images[1::2], test_labels=[1] * 20)  # fmt: skip


def test_a_class_whose_only_image_is_held_out_is_named(capsys):
    assert from_arrays(different_images(40), np.arange(40)).classes == 40
    assert "classes have no training image, such as class number" in capsys.readouterr().err


def test_arrays_sorted_by_class_are_drawn_at_random():
    images, labels = different_images(400), np.repeat(np.arange(4), 100)
    data = from_arrays(images, labels)
    for name in NAMES:
        part = getattr(data, name)
        half = len(part) // 2
        np.testing.assert_allclose(np.bincount(part.labels[:half], minlength=4) / half, 0.25, atol=0.03)
    mixed = from_arrays(images)  # without labels as well
    position = {row: i for i, row in enumerate(rows(images))}
    places = np.array([position[row] for row in rows(mixed.train.images)])
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.2 and len(set(places // 100)) == 4


def test_the_sizes_of_the_splits_can_be_chosen(digits, capsys):
    chosen = load("digits", split="400/100/200/0")
    assert [len(getattr(chosen, name)) for name in NAMES] == [400, 100, 200, 0]
    assert "1097 of 1797 images are in none of the splits" in capsys.readouterr().err
    assert load(**json.loads(json.dumps(chosen.source))).hashes == chosen.hashes
    assert chosen.describe()["sizes"]["extractor"] == 0
    for name in NAMES[:3]:
        np.testing.assert_allclose(np.bincount(getattr(chosen, name).labels) / len(getattr(chosen, name)), 0.1, atol=0.02)
    seen = [row for name in NAMES for row in rows(getattr(chosen, name).images)]
    assert len(set(seen)) == 700
    exact = load("digits", split=(1069, 229, 270, 229))
    assert exact.hashes == digits.hashes  # the sizes of the rule give its splits


@pytest.mark.parametrize("split", ["400/100/100", "a/b/c/d", "0/1/1/1", "1/0/1/1", "1/1/0/1", (1, 2, 3, 2.5), 7, "-1/1/1/1"])
def test_sizes_that_cannot_be_meant_are_refused(split):
    refused("split", load, "digits", split=split)


def test_more_images_than_there_are_cannot_be_asked_for():
    refused("400 test \\+ 100 validation .* of 40 different", from_arrays, different_images(40), split="1/100/400/0")
    refused("30 test images are asked for of 20", from_arrays, different_images(60), test_images=different_images(20, seed=1),
            split="10/10/30/0")  # fmt: skip
    part = from_arrays(different_images(60), test_images=different_images(20, seed=1), split="10/9/8/0")
    assert [len(getattr(part, name)) for name in NAMES] == [10, 9, 8, 0]


def test_held_out_arrays_are_cut_into_the_other_splits(capsys):
    mine, other = different_images(60), different_images(40, seed=1)
    other[:3] = mine[:3]  # these leak
    data = from_arrays(mine, held_out_images=other)
    assert [len(getattr(data, name)) for name in NAMES] == [57, 20, 10, 10]
    assert data.duplicates == {"train": 3, "validation": 0, "test": 0, "extractor": 0}
    assert "images that another split has as well were left out: 3 of train" in capsys.readouterr().err
    assert set(rows(data.train.images)) == set(rows(mine[3:]))
    chosen = from_arrays(mine, held_out_images=other, split="50/30/10/0")
    assert [len(getattr(chosen, name)) for name in NAMES[1:]] == [30, 10, 0] and len(chosen.train) >= 47
    refused("give one of them", from_arrays, mine, held_out_images=other, test_images=other)


def test_official_test_split_stays_and_cleans_train():
    images, test_images = different_images(100), different_images(30, seed=1)
    test_images[:30] = images[:30]  # the whole official test split leaks from train
    splits = from_arrays(images, np.arange(100) % 5, test_images=test_images, test_labels=np.arange(30) % 5)
    assert sorted(rows(splits.test.images)) == sorted(rows(test_images))
    assert sum(splits.duplicates.values()) == 30 and splits.duplicates["test"] == 0
    assert sum(len(getattr(splits, name)) for name in NAMES) == 100


def test_labels_follow_their_images():
    images = different_images(300)
    labels = np.arange(300) % 10
    wanted = dict(zip(rows(images), labels, strict=True))
    splits = from_arrays(images, labels)
    for name in NAMES:
        part = getattr(splits, name)
        np.testing.assert_array_equal(part.labels, [wanted[row] for row in rows(part.images)])


def test_arrays_may_be_grey_without_channel_axis_points_or_unlabelled():
    assert from_arrays(different_images(20)[..., 0]).image_shape == (4, 4, 1)
    points = from_arrays(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    assert points.image_shape == (3,) and points.train.images.dtype == np.float32
    assert points.classes == 0 and points.train.labels is None and points.class_names == ()
    splits = from_arrays(different_images(20), np.arange(20) % 3, name="mine", subset=5)
    assert splits.name == "mine" and splits.classes == 3 and len(splits.train) == 5


def test_bad_arrays_are_refused():
    good = different_images(20)
    refused("images are float32; they must be uint8", from_arrays, good.astype(np.float32))
    refused("must be uint8", from_arrays, good.astype(np.int64))
    refused("points .* must be float32", from_arrays, np.zeros((20, 2)))
    refused("finite", from_arrays, np.full((20, 2), np.nan, np.float32))
    refused("channels last", from_arrays, np.zeros((20, 3, 8, 8), np.uint8))
    refused("shape \\(20,\\)", from_arrays, np.zeros(20, np.uint8))
    refused("not one array", from_arrays, [np.zeros((2, 2)), np.zeros((3, 3))])
    refused("0 images are too few to split; give at least 4", from_arrays, good[:0])
    refused("3 images are too few", from_arrays, good[:3])
    refused("2 images are too few to split; give at least 3 beside", from_arrays, good[:2], test_images=good)
    refused("too few different images", from_arrays, np.zeros((20, 4, 4, 1), np.uint8))
    refused("give both one shape", from_arrays, good, test_images=different_images(20, (5, 5, 1)))
    refused("seed=-1", from_arrays, good, seed=-1)
    refused("subset=99", from_arrays, good, subset=99)
    refused("seed='a'", from_arrays, good, seed="a")
    refused("name=5", from_arrays, good, name=5)
    refused("some values are masked", from_arrays, np.ma.masked_array(good, good > 100))
    refused("images \\* np.uint8.255.", from_arrays, good > 100)
    refused("0..1, .*np.rint.images \\* 255.", from_arrays, (good > 100) * 1.0)
    refused("-1..1, .*np.rint..images \\+ 1. \\* 127.5.", from_arrays, np.where(good > 100, 1.0, -1.0))
    refused("0..255, .*np.rint.images..astype", from_arrays, np.where(good > 100, 255.0, 0.0))
    refused("one RGB image", from_arrays, np.zeros((32, 32, 3), np.uint8))


def test_bad_labels_are_refused():
    good = different_images(20)
    refused("labels have shape \\(19,\\) for 20 images", from_arrays, good, np.zeros(19, int))
    refused("labels have shape \\(20, 1\\)", from_arrays, good, np.zeros((20, 1), int))
    refused("label -1 is below 0", from_arrays, good, np.arange(20) - 1)
    refused("labels are float64", from_arrays, good, np.zeros(20))
    refused("labels are object; .* none missing", from_arrays, good, ["a", None] * 10)
    refused("no training image has the label '7'", from_arrays, good, np.arange(20) % 3, test_images=good, test_labels=[7] * 20)
    refused("training one type|labels are int64 in one part and <U1", from_arrays, good, np.arange(20) % 3, test_images=good,
            test_labels=["a"] * 20)  # fmt: skip
    refused("only one of", from_arrays, good, np.zeros(20, int), test_images=good)
    refused("test_labels without test_images", from_arrays, good, test_labels=np.zeros(20, int))


# Toys


@pytest.mark.parametrize("density", [ring(), grid()], ids=["ring", "grid"])
def test_log_density_is_that_of_scipy(density):
    x = np.random.default_rng(0).uniform(-5, 5, (500, 2))
    x[:100] = density.sample(100, seed=1)
    each = [multivariate_normal(mode, density.sigma**2).logpdf(x) for mode in density.modes]
    expected = logsumexp(each, axis=0) - np.log(len(density.modes))
    found = density.log_density(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    # Finite where every exponential underflows.
    np.testing.assert_allclose(ring().log_density([[1000.0, 0.0]]), [-(999**2) / 2e-4], rtol=1e-6)


@pytest.mark.parametrize(("name", "modes"), [("ring", 8), ("grid", 25)])
def test_toys_have_their_published_configuration(name, modes):
    splits = load(name)
    assert len(splits.train) == 100_000 and splits.image_shape == (2,) and splits.classes == modes
    assert splits.train.images.dtype == np.float32 and splits.density.modes.shape == (modes, 2)
    within = splits.train.images - splits.density.modes[splits.train.labels]
    np.testing.assert_allclose(within.std(0), splits.density.sigma, rtol=0.01)
    np.testing.assert_allclose(np.bincount(splits.train.labels) / 1e5, 1 / modes, atol=0.005)


def test_modes_are_where_they_should_be():
    np.testing.assert_allclose(np.linalg.norm(ring().modes, axis=1), 1)
    gaps = np.linalg.norm(ring().modes - np.roll(ring().modes, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 2 * np.sin(np.pi / 8))
    assert {tuple(mode) for mode in grid().modes} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    assert (ring().sigma, grid().sigma) == (0.01, 0.05)


@pytest.mark.parametrize("density", [ring(), grid()], ids=["ring", "grid"])
def test_perfect_sampler_has_98_89_percent_high_quality(density):
    points = density.sample(100_000, seed=0).astype(np.float64)
    nearest = np.linalg.norm(points[:, None] - density.modes, axis=-1).min(1)
    share = (nearest < 3 * density.sigma).mean()
    np.testing.assert_allclose(share, 1 - np.exp(-4.5), atol=0.0013)  # four standard errors


def test_toy_splits_are_independent_draws():
    splits = load("ring")
    points = np.concatenate([getattr(splits, name).images for name in NAMES])
    assert len(np.unique(points, axis=0)) > 0.999 * len(points)
    assert len(set(splits.hashes.values())) == 4
    assert load("ring").hashes == splits.hashes and load("ring", seed=1).hashes != splits.hashes
    np.testing.assert_array_equal(load("ring", subset=100).train.images, splits.train.images[:100])
    np.testing.assert_array_equal(ring().sample(5, seed=2), ring().sample(5, seed=2))


# Names and options


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": 5}, "5 names no data set"), ({"name": None}, "None names no data set"), ({"seed": -1}, "seed=-1"),
        ({"seed": 2**70}, "seed=.*at most"), ({"seed": "a"}, "seed='a'"), ({"seed": True}, "seed=True"),
        ({"subset": 2.5}, "subset=2.5"), ({"subset": "ten"}, "subset='ten'"), ({"size": 100_000}, "size=100000: .*most 4096"),
        ({"size": -8}, "size=-8"), ({"channels": 1.0}, "channels=1.0"), ({"channels": True}, "channels=True"),
        ({"data_dir": 3}, "data_dir=3"), ({"imbalance": 3}, "imbalance=3"), ({"stream": "yes"}, "stream='yes'"),
        ({"held_out": 3}, "3 names no data set"), ({"size": 4000}, "GiB are free"),
        ({"name": "ring", "split": "9/9/9/9"}, "sizes of its own"), ({"held_out": "ring"}, "unknown data set 'ring'"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_meant_are_refused(wrong, said, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**33))
    refused(said, lambda: load(**{"name": "digits"} | wrong))


@pytest.mark.parametrize("name", ["digit", "", "npz:", "folder:", "tfds:", "http://x", "npz"])
def test_unknown_name_lists_the_known(name):
    refused("unknown data set .*digits, ring, grid, mnist, .*npz:PATH, folder:PATH, tfds:NAME", load, name)


def test_a_folder_in_the_place_of_a_name_is_recognised(tmp_path):
    refused(rf"unknown data set '{tmp_path}' \(is it folder:{tmp_path}\?\)", load, str(tmp_path))


def test_splits_print_as_one_line(digits):
    assert repr(digits) == "Splits(digits: T 1069, V 229, S 270, E 229 of 8 x 8 x 1, 10 classes, seed 0)"
    assert repr(digits.test) == "Split(270 examples of 8 x 8 x 1, labels)"


def test_bad_options_are_refused():
    refused("size=0", load, "digits", size=0)
    refused("size=2.5", load, "digits", size=2.5)
    refused("channels=2", load, "digits", channels=2)
    refused("ring: holds points", load, "ring", size=8)


def test_digits_can_be_enlarged_and_coloured():
    splits = load("digits", size=16, channels=3)
    assert splits.image_shape == (16, 16, 3)
    np.testing.assert_array_equal(splits.train.images[..., 0], splits.train.images[..., 2])
