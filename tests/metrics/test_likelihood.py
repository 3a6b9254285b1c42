"""FLD against the frozen reference, closed forms and laws; what a known density says of samples,
against closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import gan_jax as gan
from gan_jax.data.toys import grid, ring
from gan_jax.metrics import likelihood
from gan_jax.metrics.likelihood import baseline_nll, fld, mixture_nll, mixture_report

FROZEN = dict(np.load(Path(__file__).parents[1] / "frozen" / "fld.npz"))
TRAIN, HELD_OUT = FROZEN["train"], FROZEN["held_out"]
CASES = ["independent", "near_copies", "wide", "one_mode"]


def standardised(x):
    return (x - HELD_OUT.mean(0)) / HELD_OUT.std(0, ddof=1)


def of(case, **settings):
    return fld(TRAIN, HELD_OUT, FROZEN[f"{case}_generated"], **settings)


# ---- against the reference ---------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_nll_is_the_reference_s_at_its_variances(case):
    centres, log_variance = standardised(FROZEN[f"{case}_generated"]), FROZEN[f"{case}_log_sigmas"]
    for name, x in (("train", TRAIN), ("held_out", HELD_OUT)):
        np.testing.assert_allclose(
            mixture_nll(standardised(x), centres, log_variance), FROZEN[f"{case}_{name}_nlls"], rtol=1e-9, atol=1e-10
        )


@pytest.mark.parametrize("case", CASES)
def test_the_fitted_variances_are_the_reference_s(case):
    """In one batch the order of the examples has no effect but rounding, which 35 epochs leave
    below 1e-8."""
    fitted = likelihood.fit(standardised(FROZEN[f"{case}_generated"]), standardised(TRAIN), np.random.default_rng(3))
    np.testing.assert_allclose(fitted, FROZEN[f"{case}_log_sigmas"], atol=1e-8)


def test_the_variances_are_those_of_the_whole_set_in_blocks_that_do_not_fill_up(monkeypatch):
    """120 examples as 7 blocks of 18, so that 6 rows count for nothing."""
    monkeypatch.setattr(likelihood, "ROWS", 18)
    fitted = likelihood.fit(standardised(FROZEN["independent_generated"]), standardised(TRAIN), np.random.default_rng(3))
    np.testing.assert_allclose(fitted, FROZEN["independent_log_sigmas"], atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_fld_is_the_reference_s_and_the_gap_has_the_other_sign(case):
    said = of(case, baseline=1.5)
    assert said["fld"] == pytest.approx(float(FROZEN[f"{case}_fld"]), rel=1e-7)
    assert said["gap"] == pytest.approx(-float(FROZEN[f"{case}_gap"]), rel=1e-7)
    for name in ("train", "held_out"):
        assert said[f"{name}_nll"] == pytest.approx(FROZEN[f"{case}_{name}_nlls"].mean(), rel=1e-9)


def test_in_batches_fld_is_the_reference_s_but_for_the_order(monkeypatch):
    """Batches of 60: the order is random in both; 5 orders here against 10 there, whose spread says
    how near."""
    monkeypatch.setattr(likelihood, "BATCH", 60)
    ours = [of("independent", seed=seed)["held_out_nll"] for seed in range(5)]
    theirs = FROZEN["independent_batched"]
    error = math.hypot(np.std(theirs, ddof=1) / math.sqrt(10), np.std(ours, ddof=1) / math.sqrt(5))
    assert np.std(ours) > 0 and abs(np.mean(ours) - theirs.mean()) < 4 * error


def test_the_baseline_is_the_reference_s_but_for_the_halves():
    ours = [baseline_nll(TRAIN, HELD_OUT, 40, seed) for seed in range(6)]
    theirs = FROZEN["baselines"]
    error = math.hypot(np.std(theirs, ddof=1) / math.sqrt(30), np.std(ours, ddof=1) / math.sqrt(6))
    assert abs(np.mean(ours) - theirs.mean()) < 4 * error
    assert 0.2 < np.std(ours) / np.std(theirs) < 3, "another half of the training set for each seed"


# ---- laws --------------------------------------------------------------------------------------


def test_the_mixture_s_nll_is_its_definition_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    points, centres, log_variance = rng.normal(size=(23, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    densities = [multivariate_normal(c, math.exp(v)).logpdf(points) for c, v in zip(centres, log_variance, strict=True)]
    expected = -(logsumexp(densities, 0) - math.log(5)) / 3
    np.testing.assert_allclose(mixture_nll(points, centres, log_variance), expected, rtol=1e-12)
    monkeypatch.setattr(likelihood, "ROWS", 6)
    np.testing.assert_allclose(mixture_nll(points, centres, log_variance), expected, rtol=1e-12)


def test_a_copy_is_at_distance_0_however_small_its_variance():
    """At e^-40 anything that rounding leaves of |x|^2 + |y|^2 - 2 xy would be far away."""
    expected = (-40 + math.log(2 * math.pi)) / 2 + math.log(120) / 6
    np.testing.assert_allclose(mixture_nll(TRAIN, TRAIN, np.full(120, -40.0)), expected, rtol=1e-9)


def test_the_variances_of_copies_stop_at_the_clamp(monkeypatch):
    monkeypatch.setattr(likelihood, "BATCH", 2)  # 150 steps
    x = np.array([[0.0, 0], [9, 0], [0, 9], [9, 9], [30, 0], [0, 30]])
    assert (likelihood.fit(x, x, np.random.default_rng(0)) == -40).all()


def test_fld_orders_generators_and_copies_have_the_largest_gap():
    said = {case: of(case) for case in CASES}
    flds = [said[case]["fld"] for case in ("independent", "one_mode", "wide", "near_copies")]
    assert flds == sorted(flds)
    assert said["near_copies"]["gap"] > 1000 and all(abs(said[case]["gap"]) < 5 for case in CASES if case != "near_copies")
    exact = fld(TRAIN, HELD_OUT, TRAIN[:90])
    assert exact["gap"] > said["near_copies"]["gap"] and exact["fld"] > said["near_copies"]["fld"]


def test_the_units_and_constants_of_features_make_no_difference():
    a, b = np.array([2, 0.1, 1e4, 1, 1e-3, 5]), np.array([0, 1, 2, 3, 4, 5])
    generated = FROZEN["independent_generated"]
    moved = [np.c_[x * a + b, np.full(len(x), 0.1)] for x in (TRAIN, HELD_OUT, generated)]
    moved[2][:, -1] = 7  # a feature constant in held-out data is left out, whatever it is elsewhere
    assert fld(*moved) == pytest.approx(of("independent"), rel=1e-6)


def test_fld_takes_a_seeded_part_of_many_generated_examples():
    generated = FROZEN["independent_generated"]
    one, same, other = (fld(TRAIN, HELD_OUT, generated, centres=40, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert one["held_out_nll"] > of("independent")["held_out_nll"], "fewer centres fit worse"


def test_the_baseline_is_subtracted():
    assert of("independent")["fld"] - of("independent", baseline=1.25)["fld"] == pytest.approx(125)


@pytest.mark.parametrize(
    "sets, message",
    [
        ((TRAIN, HELD_OUT, TRAIN[:1]), "fld: generated features: 1 rows, but at least 2"),
        ((TRAIN, HELD_OUT, TRAIN[:, :5]), "fld: 5 generated features but 6 held-out ones"),
        ((TRAIN, np.ones((5, 6)), TRAIN), "the held-out features are constant"),
        ((np.where(np.arange(120)[:, None] == 7, np.nan, TRAIN), HELD_OUT, TRAIN), "training features: row 7 is not finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(sets, message):
    with pytest.raises(gan.UserError, match=message):
        fld(*sets)


# ---- a known density ---------------------------------------------------------------------------


@pytest.mark.parametrize("mixture", [ring(), grid()], ids=["ring", "grid"])
def test_exact_samples_have_the_log_likelihood_of_the_closed_form(mixture):
    """Modes far apart: the entropy of one Gaussian, and log k. The sum of squares is chi-squared: d
    / 2 has variance d / 2."""
    n, d, k = 4000, 2, len(mixture.modes)
    said = mixture_report(mixture.sample(n, seed=3), mixture)
    expected = -math.log(k) - d / 2 * math.log(2 * math.pi * math.e * mixture.sigma**2)
    assert abs(said["log_likelihood"] - expected) < 4 * math.sqrt(d / (2 * n))
    assert said["modes"] == k and said["reverse_kl"] < 0.02 and abs(said["high_quality"] - 0.98889) < 0.01


def test_the_log_likelihood_does_not_see_missing_modes_and_the_divergence_does():
    mixture = ring()
    at_modes = mixture_report(np.repeat(mixture.modes[:2], 50, 0), mixture)
    top = -math.log(8) - math.log(2 * math.pi * mixture.sigma**2)
    assert at_modes == pytest.approx(
        {"log_likelihood": top, "modes": 2, "high_quality": 1, "reverse_kl": math.log(4)}, rel=1e-5
    )


def test_a_point_far_from_all_or_that_is_no_number_rules_the_mean():
    mixture = ring()
    points = np.repeat(mixture.modes, 10, 0)
    good = mixture_report(points, mixture)["log_likelihood"]
    points[0] = 0, 0  # 100 standard deviations from each of 8 modes: no one mode's 1/8
    far = mixture_report(points, mixture)["log_likelihood"]
    assert good - far == pytest.approx((100**2 / 2 - math.log(8)) / 80)
    points[0] = np.nan
    said = mixture_report(points, mixture)
    assert said["log_likelihood"] == -math.inf and said["high_quality"] == pytest.approx(79 / 80)


@pytest.mark.parametrize("points", [np.zeros((4, 3)), np.zeros((0, 2)), np.zeros(2)])
def test_points_of_another_dimension_are_refused(points):
    with pytest.raises(gan.UserError, match=r"mixture_report wants points \[n, 2\]"):
        mixture_report(points, ring())
