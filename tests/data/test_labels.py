"""Labels are a vocabulary: names or numbers of the user's become 0 ... k - 1."""

import numpy as np
import pytest

from gan_jax.core.errors import UserError
from gan_jax.data import from_arrays, load
from gan_jax.data.labels import class_numbers
from gan_jax.training.run import Run
from tests.data.test_splits import different_images, refused, rows


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.arange(60) % 10 + 1, tuple(str(i) for i in range(1, 11))),
        (np.array([3, 8, 4000])[np.arange(60) % 3], ("3", "8", "4000")),
        (np.array(["dog", "cat"])[np.arange(60) % 2], ("cat", "dog")),
        (np.array(["dog", "cat"], object)[np.arange(60) % 2], ("cat", "dog")),
        (np.arange(60) % 2 == 1, ("False", "True")),
        (np.arange(60, dtype=np.uint8) % 3, ("0", "1", "2")),
        (np.array([0, 1, 5], object)[np.arange(60) % 3], ("0", "1", "5")),
        ((np.arange(60) % 12).astype(str), tuple(sorted(map(str, range(12))))),
    ],
)
def test_labels_are_numbered_in_sorted_order_and_named(labels, names):
    images = different_images(60)
    data = from_arrays(images, labels)
    assert data.class_names == names and data.classes == len(names)
    name_of = dict(zip(rows(images), labels, strict=True))
    for part in (data.train, data.validation, data.test, data.extractor):
        assert part.labels.dtype == np.int32
        assert [names[k] for k in part.labels] == [str(name_of[row]) for row in rows(part.images)]


def test_an_npz_has_a_vocabulary_as_well(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=different_images(60), labels=np.array([3, 8, 4000])[np.arange(60) % 3])
    data = load(f"npz:{tmp_path}/a.npz")
    assert data.class_names == ("3", "8", "4000")
    assert "the 3 labels are classes in sorted order, 3 is class 0, 4000 class 2" in capsys.readouterr().err


def test_labels_that_were_class_numbers_are_left_alone(capsys):
    images, labels = different_images(60), np.arange(60) % 5
    assert from_arrays(images, labels).class_names == ("0", "1", "2", "3", "4")
    assert not capsys.readouterr().err


PETS, TENS = ("cat", "dog", "owl"), tuple(str(i) for i in range(1, 11))


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["owl", "cat"], PETS, [2, 0]), ("dog", PETS, [1, 1]), (2, PETS, [2, 2]), ([0, 1], PETS, [0, 1]),
        (["0", "owl"], PETS, [0, 2]), (np.int64(1), PETS, [1, 1]), ([4000, 3], ("3", "8", "4000"), [2, 0]),
        (["4000", "3"], ("3", "8", "4000"), [2, 0]), ([0, 2], ("3", "8", "4000"), [0, 2]), (["10", "1"], TENS, [9, 0]),
        ([9, 0], TENS, [9, 0]), (["3", "0"], tuple("0123"), [3, 0]),
    ],
)  # fmt: skip
def test_classes_are_asked_for_by_name_or_number(labels, names, expected):
    found = class_numbers(labels, 2, names, "samples")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cow", "cat"], "label 'cow' is none of the 3 classes: 0 to 2, by name cat, dog, owl"), ([0, 3], "label 3 is none of"),
        (-1, "label -1 is none of"), ([0.5, 1.0], "give class numbers"), ([True, False], "give class numbers"),
        ([0], "1 labels for 2 samples: give one for each, or one alone"),
        ([[0, 1]], "labels for 2 samples"), ([None, "cat"], "give class numbers"),
    ],
)  # fmt: skip
def test_classes_that_are_none_are_refused(labels, said):
    with pytest.raises(UserError, match=said) as caught:
        class_numbers(labels, 2, PETS, "samples")
    assert "\n" not in str(caught.value)


def test_a_run_knows_its_classes_by_name():
    import gan_jax as gan

    data = from_arrays(different_images(60), np.array(PETS)[np.arange(60) % 3])
    run = Run(gan.recipes.dcgan((8, 8, 1), width=4, classes=3), None, data)
    np.testing.assert_array_equal(run._labels("owl", 3, "samples"), [2, 2, 2])
    refused("label 'cow' is none of the 3 classes", run.samples, 2, labels=["cow", "cat"])


def test_a_number_that_may_be_meant_as_another_class_s_own_label_is_explained(capsys):
    names = tuple(str(i) for i in range(1, 11))  # labels 1 ... 10 of the user
    assert class_numbers(5, 1, names, "samples") == 5 and "5 is class number 5, which is your 6" in capsys.readouterr().err
    assert class_numbers("5", 1, names, "samples") == 4
    class_numbers(np.array([5], np.int32), 1, names, "samples")  # class numbers, as data hold them
    class_numbers(5, 1, tuple("0123456789"), "samples")
    assert capsys.readouterr().err == ""
