"""The overfitting report: its sets, its numbers against the metrics that they come from, its rule,
and its verdicts."""

import dataclasses
import json
import math

import numpy as np
import pytest

from gan_jax.core.errors import UserError
from gan_jax.data import Split, Splits
from gan_jax.metrics import frechet, kernels, memorization, neighbours, pairs
from gan_jax.report import metric_specs, verdict
from gan_jax.report.build import overfitting_report, references_of
from gan_jax.report.controls import BLURRED, COPYCAT, HALF, NOISY, REAL, blurred, controls, noisy, sets_of
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


def test_two_arrays_are_judged_alike(judged):
    splits, references, part = judged
    samples = part(N).images
    arrays = overfitting_report(samples, (splits.train.images, splits.validation.images))
    numbers = references.measure(samples)
    for key in ("fd", "kid", "near_copies", "copy_share", "one_nn"):
        assert math.isclose(arrays.numbers[key].value, numbers[key].value, rel_tol=1e-12), key


@pytest.mark.parametrize(
    "data, final, message",
    [
        (None, False, "samples alone"),
        ("digits", False, "two arrays"),
        ((np.zeros((80, 4), np.float32),), False, "two arrays"),
        ((np.zeros((80, 4), np.float32), np.zeros((80, 5), np.float32)), False, r"\[4\].*\[5\]"),
        ((np.zeros((80, 4), np.float32), np.zeros((80, 4), np.float32)), False, "40 held-out"),
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
    "copies": ({"near_copies": Measured(0.3, 0.25, 0.35), "copy_share": around(0.3, 0.02)}, "generator memorises"),
    "copies in pixels": (
        {"near_copies_pixels": Measured(0.3, 0.25, 0.35), "copy_share": around(0.3, 0.02)},
        "generator memorises",
    ),
    "near T, but as near to V": ({"near_copies": Measured(0.3, 0.25, 0.35)}, "healthy"),
    "copies, unsurely": ({"near_copies": Measured(0.3, 0.02, 0.9), "copy_share": around(0.3, 0.02)}, "healthy"),
    "D": ({"d_auc": around(0.7, 0.02)}, "discriminator overfits"),
    "D, hardly": ({"d_auc": around(0.54, 0.01)}, "healthy"),
    "D, unsurely": ({"d_auc": around(0.6, 0.08)}, "healthy"),
    "missing": ({"missing": Measured(0.3)}, "mode loss"),
    "uncovered": ({"coverage": 0.4}, "mode loss"),
    "unlike": ({"one_nn_generated": 0.9}, "underfits"),
    "imprecise": ({"precision": 0.6}, "underfits"),
    "imprecise, and so missing": ({"precision": 0.1, "missing": Measured(0.6), "coverage": 0.1}, "underfits"),
    "D before modes": ({"d_auc": around(0.7, 0.02), "missing": Measured(0.3)}, "discriminator overfits"),
}


@pytest.mark.parametrize("changed, phrase", CASES.values(), ids=CASES)
def test_the_rule(changed, phrase):
    found = verdict.decide(numbers(**changed), 0.01)
    assert found.phrase == phrase and found.reasons and phrase in verdict.PHRASES


def test_what_cannot_be_judged_is_not_called_healthy():
    blind = numbers()
    for key in ("near_copies", "near_copies_pixels"):
        blind[key] = dataclasses.replace(blind[key], controls={name: Measured(0.01) for name in blind[key].controls})
    found = verdict.decide(blind, 0.01)
    assert found.phrase == "cannot tell" and "near-copies" in found.reasons[0]
    worse = verdict.decide(blind | {"missing": numbers(missing=Measured(0.3))["missing"]}, 0.01)
    assert worse.phrase == "mode loss" and any("cannot tell" in sentence for sentence in worse.also)
    assert verdict.decide({}, 0.01, "not finite at step 3").phrase == "diverged"


def test_planted_copies_and_lost_modes_are_found_and_fresh_points_are_healthy(judged):
    splits, references, part = judged
    random = np.random.default_rng(5)
    fresh = part(N).images
    cases = {
        "healthy": fresh,
        "generator memorises": splits.train.images[random.integers(0, 50, N)],
        "mode loss": part(2 * N).images[::2],
        "underfits": blurred(fresh, random),
    }
    assert {phrase: overfitting_report(x, references=references).verdict for phrase, x in cases.items()} == {
        p: p for p in cases
    }
    logits = {"train": random.normal(1, 1, N), "held_out": random.normal(0, 1, N), "samples": random.normal(-1, 1, N)}
    assert overfitting_report(fresh, references=references, logits=logits).verdict == "discriminator overfits"
    with pytest.raises(UserError, match="'samples'"):
        overfitting_report(fresh, references=references, logits={"train": [0.0], "held_out": [0.0]})
