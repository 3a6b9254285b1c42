"""Copying: C_T against SciPy and closed forms, authenticity and MiFID against their definitions,
near copies by simulation.

Where published code is wrong, a test says which and shows its formula beside ours.
"""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import betabinom, binomtest, mannwhitneyu, norm

import gan_jax as gan
from gan_jax.metrics import memorization
from gan_jax.metrics.memorization import (
    assign,
    authenticity,
    cells,
    cosine_distance,
    data_copying,
    mifid,
    near_copies,
    share_interval,
)


def nearest(x, y):
    """Distances [n] and indices [n] of the nearest y to each x."""
    all_pairs = cdist(x, y)
    return all_pairs.min(1), all_pairs.argmin(1)


def to_others(x):
    """The distance of each x to the nearest other one."""
    all_pairs = cdist(x, x)
    np.fill_diagonal(all_pairs, np.inf)
    return all_pairs.min(1)


def authentic(train, generated):
    distance, index = nearest(generated, train)
    return authenticity(to_others(train), index, distance)


# ---- C_T ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [12, 1, 0], ids=["distinct", "some ties", "many ties"])
def test_z_is_that_of_scipy_s_mann_whitney_test(digits):
    rng = np.random.default_rng(digits)
    generated, held_out = (np.round(rng.exponential(s, n), digits) for s, n in ((1, 60), (1.4, 90)))
    law = mannwhitneyu(generated, held_out, alternative="less", use_continuity=False, method="asymptotic")
    z = data_copying(generated, held_out).global_z
    assert norm.cdf(z) == pytest.approx(law.pvalue, rel=1e-9)
    assert data_copying(held_out, generated).global_z == pytest.approx(-z, abs=1e-12), "the roles are symmetric"


@pytest.mark.parametrize("m, n", [(500, 500), (30, 200)])
def test_a_full_copy_has_the_lowest_z(m, n):
    """With copies at slightly different distances; and at exactly 0, which are tied: then the true
    spread is smaller."""
    held_out = np.random.default_rng(0).uniform(1, 2, n)
    lowest = -math.sqrt(3 * n * m / (n + m + 1))
    assert data_copying(np.linspace(0, 1e-6, m), held_out).global_z == pytest.approx(lowest, rel=1e-12)
    total = n + m
    tied = -math.sqrt(3 * n * m / (total + 1 - (m**3 - m) / (total * (total - 1))))
    assert data_copying(np.zeros(m), held_out).global_z == pytest.approx(tied, rel=1e-12)
    assert data_copying(np.linspace(3, 4, m), held_out).global_z == pytest.approx(-lowest, rel=1e-12)


@pytest.mark.parametrize("levels", [None, 1], ids=["distinct", "tied"])
def test_independent_data_have_z_of_mean_0_and_deviation_1(levels):
    """Distances of real points to one training set, so that both samples have it in common.

    With ties the formula of the data-copying code (no ties, always .5 more) gives neither.
    """
    rng = np.random.default_rng(1)
    train, n, m, repeats = rng.normal(size=(40, 3)), 50, 70, 400
    ours, theirs = [], []
    for _ in range(repeats):
        distance = nearest(rng.normal(size=(n + m, 3)), train)[0]
        distance = np.round(distance * levels) if levels else distance
        ours.append(data_copying(distance[:m], distance[m:]).global_z)
        u = mannwhitneyu(distance[:m], distance[m:]).statistic
        theirs.append((u - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12))
    error = 1 / math.sqrt(repeats)
    assert abs(np.mean(ours)) < 4 * error and abs(np.std(ours) - 1) < 4 * error / math.sqrt(2)
    if levels:
        assert np.std(theirs) < 1 - 4 * error / math.sqrt(2)
    else:
        shift = 0.5 / math.sqrt(n * m * (n + m + 1) / 12)
        np.testing.assert_allclose(np.subtract(theirs, ours), shift, atol=1e-12)


def test_equal_distances_say_nothing():
    test = data_copying([2.0, 2.0], [2.0, 2.0, 2.0])
    assert (test.global_z, test.worst_z, test.share_below) == (0, 0, 0)


def test_each_cell_has_the_z_of_its_examples_and_they_are_averaged_by_held_out_share():
    rng = np.random.default_rng(2)
    g, h = rng.exponential(size=300), rng.exponential(size=500)
    in_g, in_h = rng.choice([3, 5, 9], 300), rng.choice([3, 5, 9], 500, p=[0.6, 0.3, 0.1])
    test = data_copying(g, h, in_g, in_h)
    alone = {c: data_copying(g[in_g == c], h[in_h == c]).global_z for c in (3, 5, 9)}
    share = {c: (in_h == c).mean() for c in alone}
    assert {c: cell.z for c, cell in test.cells.items()} == alone
    assert {c: cell.weight for c, cell in test.cells.items()} == share
    assert test.mean_z == pytest.approx(sum(share[c] * alone[c] for c in alone))
    assert test.worst_z == min(alone.values()) == alone[test.worst_cell]
    assert test.cells[3].generated == (in_g == 3).sum() and test.cells[3].held_out == (in_h == 3).sum()


def test_a_copied_cell_shows_where_the_mean_hides_it():
    """Half of the samples are copies, the other half is far too wide."""
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 200)
    test = data_copying(np.where(label, 9, 0.01) * rng.uniform(1, 2, 400), rng.uniform(1, 2, 400), label, label)
    assert abs(test.global_z) < 1 and abs(test.mean_z) < 1
    assert test.worst_cell == 0 and test.share_below == 0.5
    assert test.worst_z == pytest.approx(-math.sqrt(3 * 200 * 200 / 401))


def test_cells_with_fewer_than_20_examples_are_not_judged():
    rng = np.random.default_rng(4)
    g, h = rng.uniform(size=100), rng.uniform(size=100)
    in_g, in_h = np.repeat([0, 1, 2, 3], [19, 21, 40, 20]), np.repeat([0, 1, 2, 4], [60, 19, 20, 1])
    test = data_copying(g, h, in_g, in_h)
    assert list(test.cells) == [2] and test.mean_z == pytest.approx(test.cells[2].z)
    none = data_copying(g, h, np.zeros(100, int), np.ones(100, int))
    assert none.worst_cell is None and not none.cells and math.isfinite(none.global_z)
    assert all(math.isnan(x) for x in (none.mean_z, none.worst_z, none.share_below))
    few = data_copying(g[:5], h[:5])
    assert few.worst_z == few.mean_z == few.global_z, "without cells the whole is one, however small"


def test_the_mean_over_cells_varies_less_than_one_z():
    rng = np.random.default_rng(5)
    label, repeats = np.repeat([0, 1, 2], [120, 60, 60]), 300
    weight = np.array([0.5, 0.25, 0.25])
    z = [data_copying(rng.uniform(size=240), rng.uniform(size=240), label, label).mean_z for _ in range(repeats)]
    assert np.std(z) == pytest.approx(math.sqrt((weight**2).sum()), rel=4 / math.sqrt(2 * repeats))


def test_k_means_finds_clusters_and_every_point_is_in_the_cell_of_its_nearest_centre():
    rng = np.random.default_rng(6)
    middle = np.array([[0, 0], [10, 0], [0, 10.0]])
    label = rng.integers(3, size=300)
    points = (middle[label] + 0.3 * rng.normal(size=(300, 2))).astype(np.float32)
    centres = cells(points, 3, seed=1)
    order = nearest(middle, centres)[1]
    np.testing.assert_allclose(centres[order], middle, atol=0.2)
    assert (assign(points, centres) == order[label]).all()
    others = rng.uniform(-5, 15, (50, 2))
    assert (assign(others, centres) == nearest(others, centres)[1]).all()
    np.testing.assert_array_equal(cells(points, 3, seed=1), centres)


# ---- authenticity ------------------------------------------------------------------------------


def test_authenticity_is_its_definition():
    """Each generated example against the ball of its nearest training example, pair by pair."""
    rng = np.random.default_rng(7)
    train, generated = rng.normal(size=(30, 3)), rng.normal(size=(50, 3))
    count = 0
    for g in generated:
        t = min(range(30), key=lambda i: math.dist(train[i], g))
        other = min(math.dist(train[t], train[i]) for i in range(30) if i != t)
        count += other < math.dist(train[t], g)
    assert authentic(train, generated) == count / 50
    assert 0 < count < 50


def test_copies_are_not_authentic_and_strangers_are():
    train = np.random.default_rng(8).normal(size=(40, 5))
    assert authentic(train, train) == 0
    assert authentic(train, train + 1e-3) == 0
    assert authentic(train, 100 + train) == 1
    twice = np.concatenate([train, train])
    assert authentic(twice, train) == 0, "a training example that occurs twice has a ball of radius 0"


def test_a_generator_of_one_training_example_is_caught_unlike_by_the_published_code():
    """evaluating-generative-models takes the training distance of the wrong index and averages over
    training examples.

    So the examples that nobody copied vote for authenticity. FLD's AuthPct is the right one, times
    100, less 50.
    """
    train = np.random.default_rng(9).normal(size=(60, 4))
    generated = np.repeat(train[:1], 60, 0)
    distance, index = nearest(train, generated)
    published = (to_others(train)[index] < distance).mean()
    assert authentic(train, generated) == 0 and published > 0.9


def test_the_authenticity_of_independent_data_rises_with_their_dimension():
    rng = np.random.default_rng(10)
    low, high = (authentic(rng.normal(size=(500, d)), rng.normal(size=(500, d))) for d in (2, 32))
    assert low < 0.45 and high > 0.7


# ---- near copies -------------------------------------------------------------------------------


def test_near_copies_are_counted_as_by_hand():
    held_out = np.arange(1.0, 100)  # the 5th of 99 is 5
    said = near_copies([5, 4.9, 0, 7, 2, 50, 60, 70], held_out, rate=0.05, indices=np.arange(10, 18), show=3)
    assert (said.threshold, said.rate, said.null) == (5, 3 / 8, 0.05)
    np.testing.assert_array_equal(said.pairs, [[2, 12], [4, 14], [1, 11]])
    interval = binomtest(3, 8).proportion_ci(method="exact")
    assert (said.lower, said.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)
    np.testing.assert_array_equal(near_copies([3, 1], held_out).pairs, [[1, -1], [0, -1]])


@pytest.mark.parametrize("count", [0, 1, 40, 80])
def test_the_interval_is_scipy_s_exact_one(count):
    said = near_copies(np.r_[np.zeros(count), np.full(80 - count, 9.0)], np.arange(1.0, 101))
    interval = binomtest(count, 80).proportion_ci(method="exact")
    assert (said.rate, said.lower, said.upper) == pytest.approx((count / 80, interval.low, interval.high), abs=1e-9)


def test_the_interval_of_a_share_takes_effective_sizes():
    """Between those of the whole sizes around it, and wider for fewer examples."""
    low, high = share_interval(0.3, 20.5)
    assert share_interval(0.3, 20)[0] < low < share_interval(0.3, 21)[0] < 0.3
    assert share_interval(0.3, 20)[1] > high > share_interval(0.3, 21)[1] > 0.3
    assert share_interval(0, 7.5)[0] == 0 and share_interval(1, 7.5)[1] == 1


@pytest.mark.parametrize("n, rate, r", [(99, 0.05, 5), (150, 0.01, 1), (99, 0.29, 29)])
def test_independent_data_have_the_stated_rate_and_p_values(n, rate, r):
    """Mean r / (n + 1), which is `rate` if that divides; a p-value below .05 at most so often;
    counts beta-binomial."""
    rng, m, repeats = np.random.default_rng(n), 60, 600
    found = [near_copies(rng.exponential(size=m), rng.exponential(size=n), rate) for _ in range(repeats)]
    rates = np.array([x.rate for x in found])
    assert found[0].null == pytest.approx(r / (n + 1)) and found[0].null <= rate + 1e-12
    assert abs(rates.mean() - r / (n + 1)) < 4 * rates.std() / math.sqrt(repeats)
    assert rates.std() == pytest.approx(betabinom.std(m, r, n + 1 - r) / m, rel=0.2)
    significant = np.mean([x.p_value <= 0.05 for x in found])
    assert significant < 0.05 + 4 * math.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_the_p_value_of_a_count_is_that_of_the_ranks(count):
    """With r = 1 the nearest `count` of all n + m examples must be generated ones: m / (n + m) (m -
    1) / (n + m - 1) ..."""
    m, n = 60, 99
    expected = math.prod((m - i) / (n + m - i) for i in range(count))
    assert near_copies(np.r_[np.full(count, 0.5), np.full(m - count, 9.0)], np.arange(1.0, n + 1)).p_value == pytest.approx(
        expected
    )


def test_held_out_data_score_less_than_the_rate_themselves():
    rng = np.random.default_rng(11)
    for n in (99, 100, 137, 250):
        held_out = np.round(rng.exponential(size=n), 1)
        assert near_copies(held_out + 0.1, held_out + 0.1, 0.05).rate < 0.05


def test_exact_copies_count_even_where_held_out_data_have_duplicates_in_training():
    """The threshold is then 0, and nothing is below it."""
    held_out = np.r_[0, 0, 0, np.arange(1.0, 97)]  # 99
    said = near_copies([0, 0, 1e-9, 1], held_out, 0.02)
    assert (said.threshold, said.rate, said.null) == (0, 0.5, 3 / 99) and math.isnan(said.p_value)
    one = near_copies([0, 0, 1e-9, 2], np.r_[0, np.arange(1.0, 99)], 0.02)
    assert (one.threshold, one.rate, one.null) == (1, 0.75, 0.02)


def test_examples_at_the_threshold_are_not_near_copies():
    assert near_copies(np.ones(50), np.ones(99), 0.1).rate == 0


def test_copies_among_bad_samples_show_in_their_rate_and_not_in_z():
    """One tenth copies, the rest far from the data."""
    rng = np.random.default_rng(12)
    train, held_out, generated = (rng.normal(size=(n, 4)) for n in (300, 300, 300))
    generated[:30], generated[30:] = train[:30] + 1e-3, 2 * generated[30:]
    to_train, index = nearest(generated, train)
    of_held_out = nearest(held_out, train)[0]
    assert data_copying(to_train, of_held_out).global_z > 5
    assert authentic(train, generated) > authentic(train, held_out) - 0.05, "hidden there, too"
    said = near_copies(to_train, of_held_out, indices=index, show=30)
    assert said.rate >= 0.1 and said.lower > 0.05 and said.p_value < 1e-6
    assert {tuple(pair) for pair in said.pairs} == {(i, i) for i in range(30)}


# ---- MiFID -------------------------------------------------------------------------------------


def test_mifid_divides_by_the_mean_cosine_distance_below_epsilon_alone():
    train, generated = [[1.0, 0], [0, 2]], [[3.0, 0], [0.6, 0.8]]  # distances 0 and 1 - .8
    assert cosine_distance(generated, train) == pytest.approx(0.1, rel=1e-12)
    assert mifid(7, generated, train, epsilon=0.1 + 1e-9) == pytest.approx(70)
    assert mifid(7, generated, train, epsilon=0.1 - 1e-9) == pytest.approx(7)
    assert mifid(0.5, train, train) == pytest.approx(0.5e15), "a copy"


def test_the_cosine_distance_is_its_definition_in_blocks(monkeypatch):
    """Zero features are left out, and neither size nor sign matters."""
    rng = np.random.default_rng(13)
    train, generated = rng.normal(size=(40, 6)), rng.normal(size=(25, 6))
    expected = (1 - abs(1 - cdist(generated, train, "cosine"))).min(1).mean()
    assert cosine_distance(generated, train) == pytest.approx(expected, rel=1e-12)
    assert cosine_distance(np.r_[-3 * generated, np.zeros((5, 6))], train * 7) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(memorization, "ROWS", 4)
    assert cosine_distance(generated, train) == pytest.approx(expected, rel=1e-12)


def test_a_copier_of_50_training_images_has_a_high_mifid_unlike_by_torchmetrics():
    """torchmetrics averages over real examples the distance to the nearest generated one."""
    train = abs(np.random.default_rng(14).normal(size=(1000, 20)))
    generated = np.repeat(train[:50], 20, 0)
    ours, swapped = mifid(10, generated, train), 10 / cosine_distance(train, generated)
    assert ours > 1e13 and swapped < 10 / 0.05 and cosine_distance(train, generated) > 0.05


# ---- bad input ---------------------------------------------------------------------------------

ONES = np.ones(30)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: data_copying([-1.0, 0], ONES), "generated examples: number 0 is -1, but a distance is 0 or more"),
        (lambda: data_copying(ONES, [math.nan]), "held-out examples: number 0 is nan"),
        (lambda: data_copying(ONES, ONES, np.zeros(30, int)), "labels of generated and of held-out examples are needed"),
        (lambda: data_copying(ONES, ONES, np.zeros(30, int), np.zeros(29, int)), r"held-out examples: expected 30 integers"),
        (lambda: data_copying(ONES, ONES, np.zeros(30), np.zeros(30, int)), r"not float64 \[30\]"),
        (lambda: cells(np.ones((5, 2)), 6, 0), "k must be in 1 to 5, the number of training features, not 6"),
        (lambda: assign(np.ones((5, 2)), np.ones((2, 3))), "cells: the sets have 2 and 3 features"),
        (lambda: authenticity(ONES, [0, 30], [1.0, 1]), "number 1 is 30: none of them"),
        (lambda: authenticity(ONES, [-1, 3], [1.0, 1]), "number 0 is -1: none of them"),
        (lambda: authenticity(ONES, [0.0], [1.0]), "expected 1 integers, not float64"),
        (lambda: near_copies(ONES, ONES), "a rate of 0.01 needs 99 held-out examples, not 30: use a rate of 1/31 or more"),
        (lambda: near_copies(ONES, ONES, 1.0), "rate must be above 0 and below 1, not 1.0"),
        (lambda: near_copies(ONES, np.ones(99), indices=[1]), r"expected 30 integers, not int64 \[1\]"),
        (lambda: mifid(-1, np.ones((2, 2)), np.ones((2, 2))), "must be a number of at least 0, not -1"),
        (lambda: mifid(1, np.ones((2, 2)), np.ones((2, 3))), "mifid: the sets have 2 and 3 features"),
        (lambda: mifid(1, np.zeros((2, 2)), np.ones((2, 2))), "which has no direction"),
    ],
)
def test_what_is_no_distance_label_or_feature_is_refused(call, message):
    with pytest.raises(gan.UserError, match=message):
        call()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3])
def test_the_least_number_of_held_out_examples_is_enough(rate):
    least = math.ceil(round(1 / rate - 1, 9))
    assert near_copies(ONES, np.ones(least), rate).null <= rate + 1e-12
    with pytest.raises(gan.UserError, match=f"needs {least} held-out"):
        near_copies(ONES, np.ones(least - 1), rate)
