"""Samples judged class by class, what a classifier gains by them, and the experiment that compares
remedies of rare classes."""

import json
import sys
from dataclasses import replace

import class_imbalance_report as shown
import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

import gan_jax as gan
from experiments import class_imbalance
from gan_jax.data.imbalance import class_counts, imbalanced
from gan_jax.data.splits import Split
from gan_jax.metrics import frechet, per_class
from gan_jax.metrics.order import content_order
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.sweeps.population import Member, by_structure

# ---- of each class ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return imbalanced(gan.load("digits"), 10)


@pytest.fixture(scope="module")
def real(digits):
    """Independent real data in the role of samples."""
    return per_class.per_class(digits.test.images, digits.test.labels, digits, digits.validation)


def test_each_class_s_numbers_are_those_of_its_images_alone(digits, real):
    """Coverage by scikit-learn's neighbours, FD by the moments, near-copies by counting, of one
    class."""
    c, scaled = 8, lambda x: x.reshape(len(x), -1) / 127.5 - 1
    held, train = (scaled(s.images[s.labels == c]) for s in (digits.validation, digits.train))
    order = content_order(digits.test.images, digits.test.labels)  # the samples of a class are the first ones of this order
    made = scaled(digits.test.images[order][digits.test.labels[order] == c])
    row = real.loc[c]
    n = len(held)
    assert (row["train"], row["held_out"], row["generated"]) == (13, n, len(made))
    near = lambda x, y, k: NearestNeighbors(n_neighbors=k).fit(y).kneighbors(x)[0][:, -1]
    assert row["coverage"] == pytest.approx((near(held, made[:n], 1) < near(held, held, 6)).mean())
    covariance = [np.cov(x, rowvar=False) for x in (made[:n], held)]
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariance[0] @ covariance[1]).real, 0)).sum()
    wanted = ((made[:n].mean(0) - held.mean(0)) ** 2).sum() + sum(np.trace(x) for x in covariance) - 2 * roots
    assert row["fd"] == pytest.approx(wanted, rel=1e-3) == frechet.frechet_distance(made[:n], held)
    assert row["near_copies"] == pytest.approx((near(made, train, 1) < np.sort(near(held, train, 1))[0]).mean())


def test_independent_real_data_cover_as_expected_and_copies_are_found_in_rare_classes(digits, real):
    """Coverage within .05 of its expectation; T in the place of samples is all near-copies, and
    covers rare classes less."""
    assert real["coverage"].mean() == pytest.approx(real["expected"].mean(), abs=0.05)
    assert (real["note"] == "").all() and per_class.mean_over(real)["near_copies"] < 0.12
    rows = np.concatenate([np.resize(np.flatnonzero(digits.train.labels == c), 30) for c in range(10)])
    copies = per_class.per_class(digits.train.images[rows], digits.train.labels[rows], digits, digits.validation)
    assert (copies["near_copies"] == 1).all()
    assert per_class.mean_over(copies, [8, 9])["coverage"] < real["coverage"].mean(), "ten images do not cover a class"


def test_what_too_few_images_cannot_say_is_nan_with_a_reason(digits):
    keep = np.flatnonzero(digits.validation.labels == 3)[:5]
    some = np.flatnonzero(digits.validation.labels == 4)[:8]
    rows = np.concatenate([keep, some])
    held = Split(digits.validation.images[rows], digits.validation.labels[rows])
    found = per_class.per_class(digits.test.images, digits.test.labels, digits, held)
    three, four = found.loc[3], found.loc[4]
    assert np.isnan([three["coverage"], three["fd"], three["near_copies"], four["fd"], four["near_copies"]]).all()
    assert three["note"] == (
        "coverage: 5 held-out images, and it takes 6; fd: 5 held-out images, and it takes 20; "
        "near_copies: 5 held-out images, and it takes 19"
    )
    assert 0 <= four["coverage"] <= 1 and "coverage" not in four["note"]
    few = per_class.per_class(digits.test.images[:40], digits.test.labels[:40], digits, digits.validation).loc[0]
    assert "samples for 22 held-out images" in few["note"] and few["near_copies"] >= 0
    with pytest.raises(gan.UserError, match="labels lie in 0 to 11: expected 0 to 9"):
        per_class.per_class(digits.test.images[:2], [0, 11], digits, digits.validation)
    with pytest.raises(gan.UserError, match=r"2 generated images and labels \[3\]"):
        per_class.per_class(digits.test.images[:2], [0, 1, 2], digits, digits.validation)


# ---- usefulness --------------------------------------------------------------------------------


def test_a_classifier_s_recalls_are_counted_and_their_mean_is_the_balanced_accuracy():
    """Points on a line, split at 0: class 2 is never met in training, and class 3 never tested."""
    points, labels = np.array([[-2.0], [-1], [1], [2]]), [0, 0, 1, 1]
    tested = Split(np.array([[-3.0], [4], [3], [3], [5]], np.float32), np.array([0, 0, 1, 1, 2]))
    found = per_class.usefulness(points, labels, tested, 4)
    np.testing.assert_allclose(found["recalls"], [0.5, 1, 0, np.nan])
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    with pytest.raises(gan.UserError, match="at least two classes"):
        per_class.usefulness(points[:2], [1, 1], tested, 4)
    with pytest.raises(gan.UserError, match="labels lie in 0 to 1: expected 0 to 0"):
        per_class.usefulness(points, labels, tested, 1)


@pytest.mark.parametrize("fill", [per_class.oversampled, per_class.smote])
def test_every_class_is_filled_up_to_the_largest(digits, fill):
    images, labels = fill(digits)
    assert set(class_counts(labels, 10)) == {106}
    assert images.shape == (1060, 8, 8, 1)
    np.testing.assert_array_equal(images[:429], digits.train.images)


def test_samples_fill_up_class_by_class_and_too_few_are_refused(digits):
    made = np.full((1060, 8, 8, 1), 7, np.uint8)
    images, labels = per_class.filled(digits, made, np.repeat(np.arange(10), 106))
    assert set(class_counts(labels, 10)) == {106} and (images[429:] == 7).all()
    assert np.asarray(labels[429:] == 9).sum() == 96
    with pytest.raises(gan.UserError, match="class 1 has 0 samples, and it takes 24 to fill it up to 106 images"):
        per_class.filled(digits, made, np.zeros(1060, int))


def test_smote_lies_between_neighbours_of_its_class_and_says_where_it_is_not_applicable(digits):
    """Class 9 has ten images: its new points are on segments between them (distance to the nearest
    segment is 0)."""
    images, labels = per_class.smote(digits, seed=1)
    own = digits.train.images[digits.train.labels == 9].reshape(10, -1).astype(float)
    for x in images[len(digits.train) :][labels[len(digits.train) :] == 9][:5].reshape(5, -1):
        ends = [(a, b) for i, a in enumerate(own) for b in own[:i]]
        share = [np.clip((x - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1) for a, b in ends]
        assert min(np.abs(a + t * (b - a) - x).max() for t, (a, b) in zip(share, ends, strict=True)) < 1e-9
    lone = imbalanced(gan.load("digits"), 100)
    assert class_counts(lone.train.labels, 10)[8:].tolist() == [1, 1]
    assert per_class.without_generator(lone, lone.validation)["SMOTE"] == (
        "not applicable: class 8 has 1 image, which has no neighbour"
    )


def test_remedies_without_a_gan_help_on_digits(digits):
    """Each of the three gains over T as it is on V, in balanced accuracy and for the rarest three
    classes."""
    found = per_class.without_generator(digits, digits.validation)
    plain = found.pop("nothing")
    assert set(found) == {"oversampling", "class weights", "SMOTE"}
    for useful in found.values():
        assert useful["balanced_accuracy"] > plain["balanced_accuracy"]
        assert useful["recalls"][7:].mean() > plain["recalls"][7:].mean()


def test_smote_without_its_library_names_the_command(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(gan.UserError, match=r'pip install "gan-jax\[imbalance\]"'):
        per_class.smote(digits)


# ---- the experiment ----------------------------------------------------------------------------


def test_every_remedy_builds_and_differs_from_none_in_one_thing(digits):
    options = class_imbalance.Options(width=4, batch_size=8)
    settings = class_imbalance.remedies(options, digits)
    assert list(settings)[0] == class_imbalance.BASELINE and len(settings) == 9
    none = settings["none"]
    fields = ("loss", "latent", "fake_labels", "sampling", "generator")
    differs = lambda r: [field for field in fields if getattr(r, field) is not getattr(none, field)]
    changed = {name: differs(r) for name, r in settings.items() if r.discriminator is none.discriminator}
    assert changed == {
        "none": [], "balanced_reals": ["sampling"], "balanced_labels": ["fake_labels"], "rare_noise": ["latent"],
        "inverse_weights": ["loss"], "effective_weights": ["loss"], "label_noise": ["generator"],
    }  # fmt: skip
    members = [Member(name, recipe, 0, 8) for name, recipe in settings.items()]
    assert len(by_structure(members)) == 8, "both weights are one program"
    assert by_structure([Member(n, r, 0, 8) for n, r in settings.items() if "weights" in n]) == [[0, 1]]
    for recipe in settings.values():
        gan.GAN.check(recipe, digits)


def made_up(means, seeds=6):
    """Tables of runs and of classes in which a setting's numbers are these, with noise of .01 that
    seeds share in part."""
    rng, numbers = np.random.default_rng(0), (*shown.QUESTIONS, *shown.OTHERS)
    rows = [
        {"setting": s, "seed": seed, "n": 429, "step": 0, "diverged": False} | {k: m + 0.01 * rng.normal() for k in numbers}
        for s, m in means.items()
        for seed in range(seeds)
    ]
    classes = [
        {"setting": s, "seed": seed, "label": c, "note": "", "expected": 0.97} | dict.fromkeys(shown.SHOWN, m)
        for s, m in means.items()
        for seed in range(seeds)
        for c in range(3)
    ]
    return pd.DataFrame(rows), pd.DataFrame(classes)


@pytest.mark.slow
def test_what_helped_is_named_and_the_best_is_chosen():
    table, classes = made_up({"none": 0.5, "balanced_reals": 0.7, "drs": 0.6, "rare_noise": 0.3})
    swept = gan.Sweep([], None, gan.GAN, "none", "x")
    text = class_imbalance.conclusion(class_imbalance.Options(), swept, table, np.array([9, 5, 1]))
    assert "coverage of the rare third: shown higher than with none by balanced_reals, drs" in text
    assert "Choice: balanced_reals, on V; --final opens S for it." in text
    said = shown.report(table, classes, np.array([9, 1, 5]))
    assert "0 (n=9)  2 (n=5)  1 (n=1)" in said and "near-copies of the rare third" in said
    assert (shown.ranked(table, "rare_near_copies")["setting"]).iloc[0] == "rare_noise", "fewer are better"
    axes = shown.figure_of(classes, np.array([9, 1, 5])).axes
    assert [line.get_label() for line in axes[0].lines] == [*dict.fromkeys(classes["setting"]), "independent real data"]
    np.testing.assert_allclose(axes[3].lines[1].get_ydata(), 0.7)


def test_numbers_by_thirds_are_means_over_the_classes_of_each_and_over_seeds():
    """Seven classes make thirds of two, three and two; a class without a number does not count."""
    counts = np.array([9, 1, 5, 30, 2, 8, 7])
    rows = [
        {"setting": s, "seed": seed, "label": c, "coverage": value * (10 * c + seed), "fd": 2.0 * c, "near_copies": np.nan}
        for s, value in {"none": 1.0, "drs": -1.0}.items() for seed in (0, 1) for c in range(7)
    ]  # fmt: skip
    classes = pd.DataFrame(rows).assign(near_copies=lambda t: np.where(t["label"] == 4, 0.25, np.nan))
    lines = shown.thirds_text(classes, counts).splitlines()
    assert "frequent 3, 0, middle 5, 6, 2, rare 4, 1" in lines[0]
    assert lines[2].split() == ["coverage", "FD", "near-copies"] and lines[3].split() == ["frequent", "middle", "rare"] * 3
    means = lambda line: [np.nan if x == "-" else float(x) for x in line.split()[1:]]
    none, drs = means(lines[4]), means(lines[5])
    assert none[:6] == pytest.approx([15.5, 130 / 3 + 0.5, 25.5, 3, 26 / 3, 5], abs=1e-3)
    assert np.isnan(none[6:8]).all() and none[8] == 0.25
    assert drs[:3] == pytest.approx([-x for x in none[:3]])


@pytest.mark.slow
def test_a_table_that_shows_nothing_says_so():
    table, _ = made_up({"none": 0.5, "balanced_reals": 0.495})
    swept = gan.Sweep([], None, gan.GAN, "none", "x")
    conclude = lambda t: class_imbalance.conclusion(class_imbalance.Options(final=True), swept, t, np.array([9, 1]))
    assert conclude(table).count("no remedy is shown to raise it") == 2 and "Choice: none, so S stays closed" in conclude(table)
    assert conclude(table[table["seed"] < 3]).count("nothing was tested") == 2


class Perfect:
    """A run whose samples are held-out images of E."""

    stopped = None

    def __init__(self, data):
        self.data = data

    def samples(self, n, *, labels, seed):
        own = [np.flatnonzero(self.data.extractor.labels == c) for c in range(10)]
        return self.data.extractor.images[[own[c][i % len(own[c])] for i, c in enumerate(labels)]]


@pytest.mark.slow
def test_a_perfect_generator_is_measured_as_one_and_s_is_opened_once(digits, monkeypatch, tmp_path):
    """Real images as samples: the classifier beats T as it is, the rare third is covered; and the
    folder records S."""
    from gan_jax.metrics import features

    monkeypatch.setattr(features, "classifier", lambda data: features.pixels(data.image_shape))
    members = [Member("none", None, seed, 429) for seed in range(2)]
    swept = replace(gan.Sweep([], digits, gan.GAN, "none", "x"), members=members, folder=tmp_path)
    monkeypatch.setattr(gan.Sweep, "run", lambda self, setting, seed: Perfect(digits))
    table, classes = class_imbalance.measure(class_imbalance.Options(), swept, digits.validation, ["none"])
    assert len(table) == 2 and len(classes) == 20
    plain = per_class.usefulness(digits.train.images, digits.train.labels, digits.validation, 10)
    assert (table["balanced_accuracy"] > plain["balanced_accuracy"]).all() and (table["rare_coverage"] > 0.8).all()
    strong, _ = made_up({"none": 0.5, "drs": 0.7})
    monkeypatch.setattr(class_imbalance, "measure", lambda *a: made_up({"none": 0.5, "drs": 0.7}))
    monkeypatch.setattr(class_imbalance, "without_text", lambda *a: "without a GAN")
    said = class_imbalance.conclusion(class_imbalance.Options(final=True), swept, strong, np.array([9, 1, 5]))
    assert "On S it is confirmed" in said and "S stays closed" not in said
    (opened,) = [json.loads(line) for line in (tmp_path / "openings.jsonl").read_text().splitlines()]
    assert opened["settings"] == ["none", "drs"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--ratio", 0.5], "ratio=0.5: the most frequent class over the rarest"),
        (["--ratio", 1000], "use a ratio of at most 106"),
        (["--data", "ring"], "these remedies are of images"),
        (["--only", "drs"], "--only leaves out 'none'"),
        (["--only", "none", "nothing"], "no setting 'nothing'"),
        (["--sizes", 100], "one training set here"),
        (["--pool", 0], "--pool 0: it must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(mistake, words, message, tmp_path):
    assert message in mistake(class_imbalance, "--out", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


def test_a_study_that_starts_again_forgets_the_tables_of_the_last(tmp_path):
    for name in ("sweep.json", "rare_classes.csv", "by_class.csv", "openings.jsonl"):
        (tmp_path / name).write_text("{}")
    SweepFolder(tmp_path).clear()
    assert [path.name for path in tmp_path.iterdir()] == ["openings.jsonl"], "that S was opened is not forgotten"
