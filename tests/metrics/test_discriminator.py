"""The discriminator's memory: AUC and TPR against scikit-learn, their spread by simulation, ADA's
heuristics by hand."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

import gan_jax as gan
from gan_jax.metrics.discriminator import (
    auc,
    auc_error,
    auc_null_error,
    discriminator_gap,
    overfitting_heuristics,
    tpr_at_fpr,
    tpr_error,
    tpr_null,
)
from gan_jax.report.logit_numbers import discriminator_numbers


def scores(n, m, levels=None, seed=0, shift=0.5):
    """Members [n] that score `shift` higher than others [m]; with `levels`, of few distinct values,
    hence tied."""
    rng = np.random.default_rng(seed)
    members, others = rng.normal(shift, 1, n), rng.normal(0, 1, m)
    return (np.round(members * levels), np.round(others * levels)) if levels else (members, others)


def truth(members, others):
    return np.r_[np.ones(len(members)), np.zeros(len(others))], np.r_[members, others]


# ---- AUC ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m, levels", [(1, 1, None), (40, 70, None), (70, 40, 1), (500, 300, 3)])
def test_the_auc_is_scikit_learn_s(n, m, levels):
    members, others = scores(n, m, levels)
    assert auc(members, others) == pytest.approx(roc_auc_score(*truth(members, others)), abs=1e-14)
    assert auc(others, members) == pytest.approx(1 - auc(members, others), abs=1e-14)


def test_ties_count_half():
    assert auc([1, 2], [0, 2]) == (1 + 0 + 1 + 0.5) / 4
    assert auc([3, 3, 3], [3]) == 0.5


@pytest.mark.parametrize("levels", [None, 1])
def test_the_error_is_the_one_of_delong_s_definition(levels):
    members, others = scores(30, 50, levels)
    wins = (members[:, None] > others) + (members[:, None] == others) / 2
    expected = math.sqrt(wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 50)
    assert auc_error(members, others) == pytest.approx(expected, rel=1e-12)
    assert auc_error(others, members) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_error_is_the_spread_of_the_auc_and_its_interval_holds(shift):
    """800 pairs of Gaussian samples, whose true AUC is Phi(shift / sqrt 2)."""
    n, m, repeats = 60, 80, 800
    seen = [(auc(*pair), auc_error(*pair)) for pair in (scores(n, m, seed=i, shift=shift) for i in range(repeats))]
    value, error = np.array(seen).T
    spread, true = value.std(ddof=1), norm.cdf(shift / math.sqrt(2))
    assert abs(value.mean() - true) < 4 * spread / math.sqrt(repeats)
    assert math.sqrt((error**2).mean()) == pytest.approx(spread, rel=4 / math.sqrt(2 * repeats))
    missed = (abs(value - true) > 1.96 * error).mean()
    assert 0.03 < missed < 0.08, f"the 95 % interval missed {missed:.1%}"
    if not shift:
        assert auc_null_error(n, m) == pytest.approx(spread, rel=4 / math.sqrt(2 * repeats))
        assert abs(error / auc_null_error(n, m) - 1).max() < 0.2


def test_members_told_apart_perfectly_leave_no_error():
    assert (auc([5, 6, 7], [1, 2]), auc_error([5, 6, 7], [1, 2]), tpr_at_fpr([5, 6, 7], [1, 2])) == (1, 0, 1)


# ---- TPR at a FPR ------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 2], ids=["distinct", "tied"])
@pytest.mark.parametrize("fpr", [0, 0.01, 0.07, 0.29, 0.9])
def test_the_tpr_is_the_highest_on_scikit_learn_s_curve(levels, fpr):
    for m in (7, 100, 250):
        members, others = scores(90, m, levels, seed=m)
        x, y, _ = roc_curve(*truth(members, others), drop_intermediate=False)
        assert tpr_at_fpr(members, others, fpr) == pytest.approx(y[x <= fpr + 1e-12].max(), abs=1e-14)


@pytest.mark.parametrize("m, expected", [(99, 1 / 100), (300, 4 / 301), (20, 1 / 21)])
def test_the_tpr_of_members_like_others_is_its_null_value(m, expected):
    assert tpr_null(m, 0.01) == pytest.approx(expected)
    repeats = 2000
    rng = np.random.default_rng(m)
    seen = [tpr_at_fpr(rng.normal(size=50), rng.normal(size=m)) for _ in range(repeats)]
    assert abs(np.mean(seen) - expected) < 4 * np.std(seen) / math.sqrt(repeats)


@pytest.mark.parametrize("n, m, shift", [(300, 300, 0.0), (300, 300, 1.0), (100, 300, 2.5)])
def test_the_interval_of_the_tpr_holds_over_draws_of_members_and_others(n, m, shift):
    """Of one law, and of others; a threshold taken as given would hold in 60 to 85 %."""
    rows, rng = [], np.random.default_rng(11)
    for _ in range(400):
        members, others = rng.normal(shift, 1, n), rng.normal(size=m)
        found = discriminator_numbers({"train": members, "held_out": others, "samples": others - 1})["d_tpr"]
        rows.append((found.value, found.low, found.high))
    value, low, high = np.array(rows).T
    held = ((low <= value.mean()) & (value.mean() <= high)).mean()
    assert 0.91 < held < 0.98, held


def test_the_error_of_the_tpr_is_as_by_hand():
    """The threshold is the second of 100, and 1.4 ranks are 1 to either side: 12, 8 and 5 of 20."""
    others = np.arange(100.0)
    members = np.r_[np.full(5, 99.5), np.full(3, 98.5), np.full(4, 97.5), np.zeros(8)]
    share = 9 / 22
    expected = math.sqrt(share * (1 - share) / 20 + ((12 - 5) / 40) ** 2)
    assert (tpr_at_fpr(members, others), tpr_error(members, others)) == pytest.approx((8 / 20, expected))


def test_a_few_members_given_away_show_in_the_tpr_and_not_in_the_auc():
    members, others = scores(1000, 1000, shift=0)
    members[:50] = 10
    assert abs(auc(members, others) - 0.525) < 3 * auc_null_error(1000, 1000)
    assert tpr_at_fpr(members, others) > 0.05


# ---- heuristics of ADA -------------------------------------------------------------------------


def test_the_heuristics_are_as_by_hand():
    said = overfitting_heuristics([2, 1, -1, 3], [0.5, -0.5], [-2, -1, 0.5, -1.5])
    assert said == pytest.approx(
        {
            "r_t": (3 - 1) / 4,
            "r_v": (1.25 - 0) / (1.25 + 1),
            "train_accuracy": 3 / 4,
            "validation_accuracy": 1 / 2,
            "fake_accuracy": 3 / 4,
            "train_logit": 1.25,
            "validation_logit": 0,
            "fake_logit": -1,
        }
    )


def test_the_boundary_moves_what_counts_as_right_and_not_the_means():
    sets = [2.0, 1.0, -1.0, 3.0], [0.5, -0.5], [-2.0, -1.0, 0.5, -1.5]
    moved = overfitting_heuristics(*([x + 0.5 for x in part] for part in sets), boundary=0.5)
    still = overfitting_heuristics(*sets)
    for name in still:
        assert moved[name] - still[name] == pytest.approx(0.5 if name.endswith("logit") else 0), name
    assert overfitting_heuristics([1, 1, 1], [1], [1], boundary=1.0) == pytest.approx(
        {"r_t": 0, "r_v": 0, "train_accuracy": 0, "validation_accuracy": 0, "fake_accuracy": 0}
        | {f"{name}_logit": 1 for name in ("train", "validation", "fake")}
    ), "a logit at the boundary is on neither side"


def test_a_critic_s_boundary_is_halfway_between_training_images_and_fakes():
    said = overfitting_heuristics([10, 14], [12, 8], [6, 8], boundary=None)  # means 12 and 7: 9.5
    assert (said["r_t"], said["train_accuracy"], said["validation_accuracy"], said["fake_accuracy"]) == (1, 1, 0.5, 1)


@pytest.mark.parametrize("held_out, expected", [([5.0, 3.0], 0), ([-1.0, -1.0], 1), ([1.5, 1.5], 0.5)])
def test_r_v_says_where_held_out_images_are_between_training_images_and_fakes(held_out, expected):
    assert overfitting_heuristics([4, 4], held_out, [-2, 0])["r_v"] == pytest.approx(expected)


def test_r_v_is_finite_where_fakes_are_above_training_images():
    assert overfitting_heuristics([1], [0], [2])["r_v"] == pytest.approx(1e8)


def test_the_gap_has_all_of_it():
    train, validation = scores(60, 40, shift=1)
    fake = np.random.default_rng(9).normal(-1, 1, 50)
    said = discriminator_gap(train, validation, fake, boundary=0.2, fpr=0.1)
    expected = overfitting_heuristics(train, validation, fake, 0.2) | {
        "auc": auc(train, validation),
        "auc_error": auc_error(train, validation),
        "auc_null_error": math.sqrt(101 / (12 * 60 * 40)),
        "tpr": tpr_at_fpr(train, validation, 0.1),
        "tpr_error": tpr_error(train, validation, 0.1),
        "tpr_null": 5 / 41,
    }
    assert said == expected


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: auc([], [1]), "scores of members: there are 0"),
        (lambda: auc([1], [[1], [2]]), r"scores of others: expected numbers of shape \[n\], not \[2, 1\]"),
        (lambda: auc([1, math.nan], [1]), "scores of members: number 1 is nan"),
        (lambda: auc_error([1], [1, 2]), "scores of members: there are 1, and at least 2"),
        (lambda: tpr_at_fpr([1], [2], 1), r"must be in \[0, 1\), not 1"),
        (lambda: overfitting_heuristics([1], [math.inf], [0]), "logits of validation images: number 0 is inf"),
    ],
)
def test_scores_that_are_none_are_refused(call, message):
    with pytest.raises(gan.UserError, match=message):
        call()
