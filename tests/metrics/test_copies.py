"""The exchange test: closed forms, its level for generators that never saw the pool, its power."""

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from gan_jax.core.errors import UserError
from gan_jax.metrics.copies import Nearest, detectable, exchange_test, two_nearest

LEVEL = 0.0025


def found(index, ratio):
    return Nearest(np.asarray(index), np.asarray(ratio, float), np.ones(len(index)))


def test_the_two_nearest_are_those_of_all_distances_and_a_duplicate_is_at_0():
    random = np.random.default_rng(0)
    x, pool = random.normal(size=(700, 5)) + 1000, random.normal(size=(90, 5)) + 1000
    x[3] = pool[7]
    said, distance = two_nearest(x, pool), np.linalg.norm(x[:, None] - pool[None], axis=2)
    order = np.sort(distance, 1)
    np.testing.assert_array_equal(said.index, distance.argmin(1))
    np.testing.assert_allclose([said.distance, said.second], order[:, :2].T, rtol=1e-9)
    assert said.distance[3] == said.ratio[3] == 0 and said.index[3] == 7
    np.testing.assert_allclose(said.ratio, order[:, 0] / order[:, 1], rtol=1e-9)
    assert found([0], [0.0]).ratio == 0 and Nearest(np.zeros(1, int), np.zeros(1), np.zeros(1)).ratio == 1


def test_five_of_five_is_one_over_a_binomial_coefficient():
    training = np.arange(10) < 5
    said = exchange_test(found(range(5), np.linspace(0.1, 0.5, 5)), training)
    assert said.p == pytest.approx(1 / 252) and said.share == 1 and said.copies.all()
    other = exchange_test(found(range(5, 10), np.linspace(0.1, 0.5, 5)), training)
    assert other.p == 1 and other.share == 0 and not other.copies.any()


def test_samples_that_are_all_alike_count_as_one():
    training = np.arange(40) < 10
    assert exchange_test(found([3] * 500, np.linspace(0, 1, 500)), training).p == pytest.approx(10 / 40)


@pytest.mark.parametrize("train, held_out, samples", [(30, 60, 200), (200, 40, 150), (100, 100, 20)])
def test_a_generator_that_never_saw_the_pool_is_suspected_no_more_often_than_p_says(train, held_out, samples):
    random = np.random.default_rng(1)
    p = []
    for _ in range(600):
        training = random.permutation(np.arange(train + held_out) < train)
        hubs = random.integers(0, train + held_out, 40)  # however uneven: images that are near to everything
        index = random.choice(hubs, samples)
        p.append(exchange_test(found(index, random.random(samples) * (1 + index % 3)), training).p)
    for level in (0.01, 0.05, 0.2):
        count = int((np.array(p) <= level).sum())
        assert binomtest(count, len(p), level, "greater").pvalue > 1e-4, (level, count)


def test_half_copies_are_about_half_and_are_named():
    random = np.random.default_rng(2)
    training = np.arange(900) < 300
    index, ratio = random.integers(0, 900, 400), random.uniform(0.5, 1, 400)
    index[:200], ratio[:200] = random.integers(0, 300, 200), random.uniform(0, 0.4, 200)
    said = exchange_test(found(index, ratio), training)
    assert said.p < 1e-20 and said.low - 0.02 < 0.5 < said.high + 0.02 and said.high - said.low < 0.12
    assert said.copies[:200].mean() > 0.9 and said.copies[200:].sum() < 30


def test_the_order_of_samples_and_pool_does_not_matter():
    random = np.random.default_rng(3)
    training, index, ratio = random.random(80) < 0.4, random.integers(0, 80, 300), random.random(300)
    one = exchange_test(found(index, ratio), training)
    rows, places = random.permutation(300), random.permutation(80)
    again = exchange_test(found(np.argsort(places)[index][rows], ratio[rows]), training[places])
    assert (again.p, again.share, again.low, again.high) == (one.p, one.share, one.low, one.high)
    np.testing.assert_array_equal(again.copies, one.copies[rows])


@pytest.mark.parametrize("train, held_out, samples", [(300, 600, 300), (50, 229, 2048), (1069, 229, 2048)])
def test_what_is_detectable_is_found_and_fewer_are_not(train, held_out, samples):
    training = np.arange(train + held_out) < train
    least = round(detectable(samples, train, held_out, LEVEL) * samples)
    others = np.resize(np.arange(train, train + held_out), samples)  # the rest is nearest to held-out images
    index = lambda copies: np.concatenate([np.arange(copies), others[copies:]])
    ratio = np.linspace(0, 1, samples)
    assert exchange_test(found(index(least), ratio), training).p <= LEVEL
    assert hypergeom.sf(least // 2 - 1, len(training), train, least // 2) > LEVEL
    assert detectable(20, 30, 3, LEVEL) == np.inf, "three held-out images prove nothing"


def test_a_pool_of_one_kind_is_refused():
    with pytest.raises(UserError, match="both kinds"):
        exchange_test(found([0], [0.5]), np.ones(4, bool))
