"""The overfitting report: its sets, its numbers against the metrics that they come from, its rule,
and its verdicts."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan_jax.core.errors import UserError
from gan_jax.data import Split, Splits, toys
from gan_jax.metrics import frechet, kernels, memorization, neighbours, pairs
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.order import content_order, labels_in_shares
from gan_jax.report import expectation, metric_specs, verdict
from gan_jax.report.build import overfitting_report, references_of
from gan_jax.report.controls import BLURRED, COPYCAT, HALF, NOISY, REAL, blurred, controls, noisy, sets_of
from gan_jax.report.copying import LEVEL, limits
from gan_jax.report.number import Number, numbers_of
from gan_jax.report.numbers import Measured, _copy_share, around
from gan_jax.report.report import compare

N = 150


def toy(seed=0, n=N, d=4):
    """Splits of Gaussian points in two classes, and a function that draws more of them."""
    random = np.random.default_rng(seed)

    def part(size):
        labels = np.arange(size) % 2
        return Split((random.normal(size=(size, d)) + 6 * labels[:, None]).astype(np.float32), labels.astype(np.int32))

    return Splits("toy", seed, part(n), part(2 * n), part(n), part(n), ("a", "b"), {}), part


@pytest.fixture(scope="module")
def judged():
    """(splits, references on V, a maker of fresh points)."""
    splits, part = toy()
    return splits, references_of(splits), part


# ---- sets --------------------------------------------------------------------------------------


def test_while_choosing_v_is_cut_in_two_and_s_stays_closed():
    splits, _ = toy()

    class Closed:
        def __getattr__(self, name):
            raise AssertionError("S was opened")

        def __len__(self):
            raise AssertionError("S was opened")

    closed = dataclasses.replace(splits, test=Closed())
    sets = sets_of(closed, final=False)
    assert sets.held_out_name == "V"
    both = np.concatenate([sets.held_out.images, sets.control.images])
    assert (both == splits.validation.images).all() and len(sets.held_out) == N
    overfitting_report(splits.extractor.images, closed)
    with pytest.raises(AssertionError, match="S was opened"):
        overfitting_report(splits.extractor.images, closed, final=True)


def test_final_judges_on_s_with_v_as_the_control():
    splits, _ = toy()
    sets = sets_of(splits, final=True)
    assert sets.held_out is splits.test and sets.control is splits.validation and sets.held_out_name == "S"


def test_two_arrays_are_judged_as_splits_in_their_seeded_order(judged):
    splits, _, part = judged
    samples = part(N).images
    arrays = overfitting_report(samples, (splits.train.images, splits.validation.images))
    ordered = lambda x: x[content_order(x)]
    train, held_out = (Split(ordered(s.images)) for s in (splits.train, splits.validation))
    same = dataclasses.replace(splits, train=train, validation=held_out, extractor=Split(held_out.images[:0]), class_names=())
    numbers = references_of(same).measure(ordered(samples))
    for key in ("fd", "kid", "near_copies", "copy_share", "one_nn"):
        assert math.isclose(arrays.numbers[key].value, numbers[key].value, rel_tol=1e-12), key


KINDS = 5


def by_class(seed, n):
    """n points of KINDS modes, stored mode by mode, and their labels."""
    labels = np.sort(np.arange(n) % KINDS)
    return (np.random.default_rng(seed).normal(size=(n, 3)) + 8 * labels[:, None]).astype(np.float32), labels


@pytest.mark.parametrize("held_out", [400, 120], ids=["halves", "folds"])
def test_the_same_samples_in_any_order_give_the_same_report_to_the_last_digit(held_out):
    (samples, _), (train, _), (held, _) = by_class(0, 500), by_class(1, 300), by_class(2, held_out)
    random = np.random.default_rng(3)
    logits = {"train": random.normal(1, 1, 300), "held_out": random.normal(size=held_out), "samples": random.normal(size=500)}

    def judge(order):
        a, b, c = order(len(samples)), order(len(train)), order(len(held))
        given = {"train": logits["train"][b], "held_out": logits["held_out"][c], "samples": logits["samples"][a]}
        return overfitting_report(samples[a], (train[b], held[c]), logits=given, permutations=5)

    stored = judge(np.arange)
    assert stored.verdict != "mode loss" and stored.numbers["coverage"].value > 0.85
    for order in (random.permutation, lambda n: np.arange(n)[::-1]):
        other = judge(order)
        assert other.to_json() == stored.to_json() and other.text() == stored.text()
        assert {n.kind.row for n in other.numbers.values()} == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
        scores = lambda report: {k: [(c.value, c.error) for c in n.controls.values()] for k, n in report.numbers.items()}
        assert scores(other) == scores(stored)


def test_labels_go_with_their_samples_and_a_known_law_is_asked_in_any_order(monkeypatch):
    seen = []
    found = {"accuracy": 0.5, "reference": 0.6, "tested": 100}
    monkeypatch.setattr("gan_jax.report.build.gan_train", lambda x, y, *_: seen.append((x, y)) or found)
    ring = toys.ring()
    parts = (ring.draw(size, np.random.SeedSequence([1, size])) for size in (120, 240, 121, 122))
    data = Splits("ring", 0, *parts, tuple(map(str, range(8))), {}, density=ring)
    samples = ring.draw(300, np.random.SeedSequence(5))
    reports = []
    for order in (np.argsort(samples.labels), np.arange(300)):
        reports.append(overfitting_report(samples.images[order], data, labels=samples.labels[order]))
    assert reports[0].to_json() == reports[1].to_json() and "truth_log_density" in reports[0].numbers
    (x, y), (x2, y2) = seen
    assert (x == x2).all() and (y == y2).all()
    own = {point.tobytes(): label for point, label in zip(samples.images, samples.labels, strict=True)}
    assert all(own[point.tobytes()] == label for point, label in zip(x, y, strict=True))
    shares = np.bincount(y[:150], minlength=8) - np.bincount(y, minlength=8) / 2
    assert np.abs(shares).max() <= 1, "stratified"
    with pytest.raises(UserError, match="300 generated images and labels .299."):
        overfitting_report(samples.images, data, labels=samples.labels[1:])


@pytest.mark.parametrize(
    "data, final, message",
    [
        (None, False, "samples alone"),
        ("digits", False, "two arrays"),
        ((np.zeros((80, 4), np.float32),), False, "two arrays"),
        ((np.zeros((80, 4), np.float32), np.zeros((80, 5), np.float32)), False, r"\[4\].*\[5\]"),
        ((np.zeros((80, 4), np.float32), np.zeros((49, 4), np.float32)), False, "49 held-out"),
        ((np.zeros((80, 4), np.float32), np.zeros((120, 4), np.float32)), True, "Splits"),
        ((np.full((80, 4), np.nan, np.float32), np.zeros((120, 4), np.float32)), False, "point 0 is not finite"),
        ((np.zeros((80, 8, 8, 1), np.float32), np.zeros((120, 8, 8, 1), np.float32)), False, "expected uint8"),
    ],
)
def test_data_that_cannot_be_judged_by(data, final, message):
    with pytest.raises(UserError, match=message) as error:
        overfitting_report(np.zeros((80, 4), np.float32), data, final=final)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros((N - 1, 4), np.float32), f"{N - 1} generated images: give at least {N}"),
        (np.zeros((N, 5), np.float32), "shape .5., those of T .4."),
        (np.zeros((N, 8, 8, 1), np.uint8), "shape .8, 8, 1."),
        (np.full((N, 4), np.inf, np.float32), "not finite"),
        (np.zeros((N, 1, 8, 8), np.uint8), "channels last"),
    ],
)
def test_samples_that_cannot_be_judged(judged, samples, message):
    with pytest.raises(UserError, match=message):
        judged[1].measure(samples)


def test_the_controls_are_what_they_are_called():
    splits, _ = toy()
    made = controls(sets_of(splits, False), np.zeros(N), N, 0)
    nearest = lambda x: neighbours.nearest(x, splits.train.images)[0]
    assert (made[REAL] == splits.validation.images[N:]).all()
    assert nearest(made[COPYCAT]).max() == 0 < nearest(made[NOISY]).min() and np.median(nearest(made[NOISY])) < 0.3
    assert made[HALF].mean() < 1 and len(made[HALF]) == N  # the class at 0, not that at 6
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    random = np.random.default_rng(0)
    moved = noisy(images, random).astype(float) - images
    inside = (images > 40) & (images < 215)
    assert moved[inside].std() == pytest.approx(8, rel=0.03)
    assert (
        np.abs(np.diff(blurred(images, random).astype(float), axis=1)).mean()
        < 0.5 * np.abs(np.diff(images.astype(float), axis=1)).mean()
    )


# ---- numbers -----------------------------------------------------------------------------------


def test_shared_passes_give_the_numbers_of_the_metrics_themselves(judged):
    splits, references, part = judged
    x = part(N + 40).images  # more samples than the distances take
    got = references.measure(x)
    t, h, g = splits.train.images, splits.validation.images[:N], x[:N]
    fd = [frechet.frechet_distance(g, y) for y in (t, h)]
    prdc = [neighbours.prdc(y, g) for y in (t, h)]
    to_train, index = neighbours.nearest(x, t)
    held = neighbours.nearest(h, t)[0]
    expected = {
        "fd": fd[1], "fd_gap": fd[1] - fd[0], "kid": kernels.kid(g, h), "kid_gap": kernels.kid(g, h) - kernels.kid(g, t),
        "precision": prdc[1]["precision"], "density": prdc[1]["density"], "coverage": prdc[1]["coverage"],
        "coverage_gap": prdc[0]["coverage"] - prdc[1]["coverage"], "one_nn": neighbours.one_nn(g, h)["accuracy"],
        "one_nn_train": neighbours.one_nn(g, t)["accuracy"], "one_nn_real": neighbours.one_nn(g, h)["y_accuracy"],
        "near_copies": memorization.near_copies(to_train, held, 0.05).rate,
        "c_t": memorization.data_copying(to_train, held).global_z,
    }  # fmt: skip
    for key, value in expected.items():
        assert math.isclose(got[key].value, value, rel_tol=1e-9, abs_tol=1e-12), key
    own = pairs.self_pairs(t, 1).distance
    share = lambda d, i: memorization.authenticity(own, i, d)
    assert got["authenticity_gap"].value == pytest.approx(share(*neighbours.nearest(h, t)) - share(to_train, index))


def test_copies_of_the_last_images_of_t_are_found_where_the_pairs_take_its_first():
    """T is larger than the sets of pairs, and all of it could be copied. With folds, too."""
    for n, size in ((300, N), (120, 60)):
        random = np.random.default_rng(n)
        t, held = (random.normal(size=(2 * n, 6)).astype(np.float32), random.normal(size=(n, 6)).astype(np.float32))
        references = references_of(Splits("toy", 0, Split(t), Split(held), Split(held[:0]), Split(held[:0]), (), {}))
        assert references.n == size
        fresh, last = random.normal(size=(2 * size, 6)).astype(np.float32), references.sets.train.images[-30:]
        got, none = (references.measure(x) for x in (np.concatenate([last, fresh[30:]]), fresh))
        for key in ("near_copies", "authenticity_gap", "copy_share"):
            assert got[key].value - none[key].value > 0.3 * 30 / len(fresh), key
        assert got["c_t"].value < none["c_t"].value - 0.5
        far, one = (references.measure(np.concatenate([first, fresh[1:]])) for first in (100 + fresh[:1], last[-1:]))
        for key in ("near_copies", "authenticity_gap"):
            assert one[key].value - far[key].value == pytest.approx(1 / len(fresh)), key
        assert (
            references.copying.held_out[0].shape == (len(references.sets.held_out),) and len(references.copying.train) == 2 * n
        )


def test_the_copy_share_is_one_for_copies_and_none_for_independent_samples_however_few_they_repeat():
    random = np.random.default_rng(0)
    t, h = random.normal(size=(400, 3)), random.normal(size=(100, 3))
    share = lambda x: _copy_share(neighbours.nearest(x, t), neighbours.nearest(x, h), len(t), len(h))
    copies = share(t[random.integers(0, 400, 300)])
    assert copies.value == 1 and copies.low > 0
    half = share(np.concatenate([t[:200], random.normal(size=(200, 3))]))
    assert half.value == pytest.approx(0.5, abs=0.1) and half.low > 0
    z = [s.value / s.error for s in (share(random.normal(size=(300, 3))) for _ in range(40))]
    assert np.mean(z) == pytest.approx(0, abs=0.5) and 0.5 < np.std(z) < 1.5
    collapsed = share(np.repeat(t[:1] + 1e-6, 300, 0))  # one point, by chance near one of T
    assert collapsed.value == 1 and collapsed.low < 0


def test_the_gap_has_an_exact_p(judged):
    splits, references, part = judged
    assert references.gap_p(splits.train.images, 39).value == 1 / 40  # no distance is smaller than none
    ps = []
    for seed in range(12):
        other, fresh = toy(seed=seed + 1, n=60)
        ps.append(references_of(other).gap_p(fresh(60).images, 19).value)
    assert all(p in np.arange(1, 21) / 20 for p in ps) and np.mean(ps) == pytest.approx(0.525, abs=0.27)  # 3 standard errors


def test_a_number_says_nothing_where_its_controls_do_not_come_out_in_order():
    kind = metric_specs.METRIC_SPECS["fd_gap"]
    number = lambda real, copycat, value=1.0: Number(kind, kind.label, value, None, None, {REAL: real, COPYCAT: copycat}, {})
    assert number(around(0.0, 0.1), around(1.0, 0.1)).informative
    assert "copycat" in number(around(0.0, 0.5), around(1.0, 0.5)).why  # 1.4 standard errors
    assert not number(around(1.0, 0.1), around(0.0, 0.1)).informative  # the wrong way
    assert "not finite" in number(around(0.0, 0.1), around(1.0, 0.1), math.nan).why


def test_every_number_names_a_row_and_every_kind_is_shown_once():
    assert {kind.row for kind in metric_specs.METRIC_SPECS.values()} == set(metric_specs.ROWS) == set(range(1, 13))
    assert all(kind.worse in ("higher", "lower") for kind in metric_specs.METRIC_SPECS.values())


# ---- protocols ---------------------------------------------------------------------------------


def test_numbers_of_different_protocols_refuse_to_be_compared(judged, tmp_path):
    splits, references, part = judged
    one, other = (overfitting_report(part(N).images, references=references) for _ in range(2))
    assert one.numbers["fd"].minus(other.numbers["fd"]) == one.numbers["fd"].value - other.numbers["fd"].value
    table = compare({"one": one, "other": json.loads(json.dumps(other.to_json()))})
    assert table.loc["one", "fd"] == one.numbers["fd"].value and set(table["verdict"]) <= set(verdict.PHRASES)
    smaller = overfitting_report(part(N).images, splits, n=100)
    with pytest.raises(UserError, match="n is 150 in one and 100"):
        one.numbers["fd"].minus(smaller.numbers["fd"])
    with pytest.raises(UserError, match="cannot be compared in FD to V: n is 150"):
        compare({"one": one, "smaller": smaller})
    fewer = overfitting_report(part(N).images, splits.subset(120), n=100)  # another T: FD to V has it not, the gap has
    assert isinstance(smaller.numbers["fd"].minus(fewer.numbers["fd"]), float)
    with pytest.raises(UserError, match="train is 150"):
        smaller.numbers["fd_gap"].minus(fewer.numbers["fd_gap"])


# ---- the rule ----------------------------------------------------------------------------------


def numbers(**changed):
    """Numbers of a healthy generator with some changed; controls as real data would have them."""
    healthy = {
        "near_copies": Measured(0.01, 0.005, 0.02), "near_copies_pixels": Measured(0.01, 0.005, 0.02),
        "copy_share": around(0.0, 0.02), "missing": Measured(0.0), "coverage": around(0.96, 0.01),
        "precision": around(0.95, 0.01), "one_nn_generated": around(0.5, 0.01),
    }  # fmt: skip
    bad = {"near_copies": 1.0, "near_copies_pixels": 1.0, "copy_share": 1.0, "missing": 0.5, "coverage": 0.5,
           "precision": 0.1, "one_nn_generated": 1.0}  # fmt: skip
    control = {REAL: healthy} | {name: {k: around(v, 0.01) for k, v in bad.items()} for name in (COPYCAT, NOISY, HALF, BLURRED)}
    made = {k: v if isinstance(v, Measured) else around(v, 0.01) for k, v in (healthy | changed).items()}
    return numbers_of(made, control, "V", {}, {})


CASES = {
    "nothing": ({}, "healthy"),
    "near T, but no copies": ({"near_copies": Measured(0.3, 0.25, 0.35)}, "healthy"),
    "D": ({"d_auc": around(0.7, 0.02)}, "discriminator overfits"),
    "D, hardly": ({"d_auc": around(0.54, 0.01)}, "healthy"),
    "D, unsurely": ({"d_auc": around(0.6, 0.08)}, "healthy"),
    "missing": ({"missing": Measured(0.3)}, "mode loss"),
    "uncovered": ({"coverage": 0.4}, "mode loss"),
    "unlike": ({"one_nn_generated": 0.9}, "underfits"),
    "imprecise": ({"precision": 0.6}, "underfits"),
    "imprecise, and so missing": ({"precision": 0.1, "missing": Measured(0.6), "coverage": 0.1}, "underfits"),
    "mirrored, and so uncovered": ({"precision": 0.7, "coverage": 0.45}, "underfits"),
    "D before modes": ({"d_auc": around(0.7, 0.02), "missing": Measured(0.3)}, "discriminator overfits"),
}


@pytest.mark.parametrize("changed, phrase", CASES.values(), ids=CASES)
def test_the_rule(changed, phrase):
    found = verdict.decide(numbers(**changed), (False, "no copies"))
    assert found.phrase == phrase and found.reasons and phrase in verdict.PHRASES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", "5"),
        ("n", 50.5),
        ("n", True),
        ("permutations", -1),
        ("permutations", "a"),
        ("logits", 5),
        ("logits", {"train": [1.0]}),
    ],
)
def test_an_argument_that_cannot_be_meant_is_one_line(name, value):
    (samples, _), (train, _), (held, _) = by_class(0, 300), by_class(1, 300), by_class(2, 300)
    with pytest.raises(UserError, match=f"^{name}=.*: must be [^\n]*$"):
        overfitting_report(samples, (train, held), features="pixels", **{name: value})


def test_what_cannot_be_judged_is_not_called_healthy():
    found = verdict.decide(numbers(), (None, "copies cannot be told"))
    assert found.phrase == "cannot tell" and found.reasons == ("generator memorises: copies cannot be told",)
    worse = verdict.decide(numbers(missing=Measured(0.3)), (None, "copies cannot be told"))
    assert worse.phrase == "mode loss" and any("cannot tell" in sentence for sentence in worse.also)
    assert verdict.decide({}, diverged="not finite at step 3").phrase == "diverged"


def test_both_faults_are_named_the_generators_first():
    found = verdict.decide(numbers(d_auc=around(0.7, 0.02), missing=Measured(0.3)), (True, "12 % are copies"))
    assert found.phrase == "generator memorises" and found.reasons == ("12 % are copies",)
    assert [sentence.split(":")[0] for sentence in found.also] == ["discriminator overfits", "mode loss"]


def test_planted_copies_and_lost_modes_are_found_and_fresh_points_are_healthy(judged):
    splits, references, part = judged
    random = np.random.default_rng(5)
    fresh = part(N).images
    cases = {
        "healthy": fresh,
        "generator memorises": splits.train.images[random.integers(0, 50, N)],
        "mode loss": part(2 * N).images[::2],
        "underfits": fresh + random.normal(size=fresh.shape).astype(np.float32),
    }
    assert {phrase: overfitting_report(x, references=references).verdict for phrase, x in cases.items()} == {
        p: p for p in cases
    }
    logits = {"train": random.normal(1, 1, N), "held_out": random.normal(0, 1, N), "samples": random.normal(-1, 1, N)}
    assert overfitting_report(fresh, references=references, logits=logits).verdict == "discriminator overfits"
    with pytest.raises(UserError, match="'samples'"):
        overfitting_report(fresh, references=references, logits={"train": [0.0], "held_out": [0.0]})


# ---- few images --------------------------------------------------------------------------------


def test_few_validation_images_are_held_out_in_turn_without_overlap():
    splits, _ = toy(n=60)  # V has 120
    sets = sets_of(splits, final=False)
    assert len(sets.folds) == 8 and sets_of(toy(n=100)[0], False).folds == ()
    rows = lambda split: {row.tobytes() for row in split.images}
    for one, other in zip(sets.folds[::2], sets.folds[1::2], strict=True):
        assert rows(one.held_out) == rows(other.control) and rows(one.control) == rows(other.held_out)
        assert rows(one.held_out) | rows(one.control) == rows(splits.validation)
        assert not rows(one.held_out) & rows(one.control) and abs(len(one.held_out) - len(one.control)) <= 1
    assert len({frozenset(rows(fold.held_out)) for fold in sets.folds}) == 8
    again, other = (sets_of(splits, False, seed) for seed in (0, 1))
    assert [f.held_out.hash for f in again.folds] == [f.held_out.hash for f in sets.folds]
    assert [f.held_out.hash for f in other.folds] != [f.held_out.hash for f in sets.folds]


def test_numbers_of_few_images_are_means_over_the_folds():
    splits, part = toy(n=60)
    splits = dataclasses.replace(splits, validation=splits.validation.first(77))
    references = references_of(splits)
    assert references.n == 38 and len(references.folds) == 8
    x = part(400).images
    own = [fold._numbers(np.roll(x, -38 * i, 0), None) for i, fold in enumerate(references.folds)]
    for key, number in references.measure(x).items():
        assert number.value == pytest.approx(np.mean([o[key].value for o in own]), nan_ok=True), key
    real = references.controls[REAL]
    assert real["one_nn"].value == pytest.approx(0.5, abs=0.1) and real["near_copies"].value < 0.2
    fresh = overfitting_report(x, references=references)
    assert fresh.reasons == ("underfits: blurred images would not show here",) and fresh.verdict == "cannot tell"
    assert any("cut in halves 4 times" in note for note in fresh.notes)
    assert "cut in halves" in fresh.text() and fresh.protocol["folds"] == 8
    assert overfitting_report(splits.train.images, references=references).verdict == "generator memorises"


def test_what_can_be_told_is_said_before_training():
    splits, _ = toy(n=60)
    cut = lambda v: dataclasses.replace(splits, validation=splits.validation.first(v))
    why = "no overfitting report: 49 validation images (V) are too few, it takes 50: give more images, or other sizes"
    assert expectation(cut(49)).startswith(why)
    assert "20 training images (T) are too few" in expectation(splits, 20)
    few, many = expectation(cut(50)), expectation(dataclasses.replace(splits, validation=toy(n=4000)[0].validation))
    assert "\n" not in few and "V, 50 images, each half of 4 cuts in turn" in few and "of 25 images" in few
    exact, near = limits(2048, 60, 50, LEVEL / 2)
    assert f"exact ones from {exact:.1%} of the samples on, near ones from {near:.1%}" in few and "loss of about 1/2" in few
    assert "one half against the other" in many and "loss of about 1/20" in many


def test_features_are_those_that_can_be_trained_and_are_any_good(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (240, 8, 8, 1), dtype=np.uint8)
    labels = (np.arange(240) % 10).astype(np.int32)
    part = lambda a, b: Split(images[a:b], labels[a:b])
    data = Splits("noise", 0, part(0, 60), part(60, 140), part(140, 200), part(200, 240), tuple("abcdefghij"), {})
    for accuracy, name in ((0.3, "random"), (0.9, "classifier")):
        made = Extractor("classifier", "d", lambda x: x.reshape(len(x), -1).astype(np.float32), {"accuracy": accuracy})
        monkeypatch.setattr("gan_jax.report.build.classifier", lambda _, made=made: made)
        references = references_of(data)
        assert references.extractor.name == name
        said = [note for note in references.notes if "right on 30% of V, where the largest class has 10%" in note]
        assert len(said) == (name == "random")
        assert references_of(data, features="classifier").extractor is made, "what was asked for"
    without = dataclasses.replace(data, extractor=part(0, 0))
    assert references_of(without).extractor.name == "random"
    assert "the split E, on which a classifier is trained, is empty: random features instead" in references_of(without).notes
    assert references_of(without, features="random").notes == references_of(data, features="random").notes, "as asked for"
    with pytest.raises(UserError, match="trained on the split E"):
        references_of(without, features="classifier")


# ---- samples that are hardly images ------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["one point", "nearly"])
def test_a_collapse_is_named(judged, noise):
    splits, references, part = judged
    point = np.zeros((N, 4)) + part(1).images + noise * np.random.default_rng(0).normal(size=(N, 4))
    report = overfitting_report(point.astype(np.float32), references=references)
    assert report.verdict == "mode loss" and "has collapsed: the variance of all 150 samples is" in report.reasons[0]


def test_grey_blobs_are_no_near_copies():
    random = np.random.default_rng(0)
    smooth = lambda n: gaussian_filter(random.normal(size=(n, 12, 12, 1)), (0, 1, 1, 0)) * 150 + 128
    image = lambda x: np.clip(x, 0, 255).astype(np.uint8)
    data = image(smooth(400)), image(smooth(300))
    blobs = image(128 + 0.3 * (smooth(500) - 128))
    report = overfitting_report(blobs, data, features="pixels")
    near = report.numbers["near_copies"]
    assert near.value > 0.5 and report.numbers["c_t"].value < -5 and report.verdict == "underfits"
    for key in ("near_copies", "c_t", "c_t_worst", "authenticity_gap"):
        assert "blurred or alike, not copies" in report.numbers[key].why, key
    copies = data[0][random.integers(0, 400, 500)]
    found = overfitting_report(copies, data, features="pixels")
    assert found.verdict == "generator memorises" and found.numbers["near_copies"].informative


# ---- what is possible --------------------------------------------------------------------------


def test_intervals_end_where_numbers_do(judged):
    splits, references, part = judged
    report = overfitting_report(part(N).images * 50, references=references)
    for key, one in report.numbers.items():
        least, most = one.kind.ends
        assert one.low is None or least <= one.low <= one.value <= one.high <= most, key
    assert report.numbers["one_nn_generated"].high == 1
    assert report.numbers["fd"].kind.ends == (0, math.inf) and report.numbers["kid"].kind.ends == (-math.inf, math.inf)
    assert memorization.share_interval(0.001, 10)[0] == 0 == memorization.share_interval(0, 10)[0]
    assert memorization.share_interval(0.1, 10)[0] == pytest.approx(0.00253, abs=1e-5)


@pytest.mark.parametrize("counts", [[10, 10, 10], [9, 1], [5, 0, 3]])
def test_labels_of_samples_have_the_shares_of_the_data(counts):
    labels = labels_in_shares(counts, 300)
    expected = 300 * np.array(counts) / sum(counts)
    assert np.abs(np.bincount(labels, minlength=len(counts)) - expected).max() <= 1
    assert (labels_in_shares(counts, 40) == labels[:40]).all() and labels.dtype == np.int32
    if len(set(counts)) == 1:
        assert (labels == np.arange(300) % 3).all()
