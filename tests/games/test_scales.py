"""How an imputer's columns are scaled, heavy tails included, and the numbers that `fit` chooses."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from gan_jax.core.errors import UserError
from gan_jax.games.imputation import GAINImputer, choice, gain, imputer, misgan, numeric, vae
from gan_jax.games.imputation.transport import TransportImputer
from tests.games.test_imputer import untrained


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(imputer, "train", untrained)


def fitted(table, **settings):
    return GAINImputer(random_state=0, **settings).fit(table)


# ---- heavy tails ---------------------------------------------------------------------------------


def test_columns_are_ranked_where_the_middle_half_is_below_a_tenth_of_the_range():
    rng = np.random.default_rng(0)
    kind = lambda x: type(numeric.Numeric.learn(x, np.zeros(len(x), bool), "x", 20))
    normal, exponential = rng.normal(size=5000), rng.exponential(size=500)
    for plain in (
        normal,
        exponential,
        rng.random(9),
        np.array([0.0, 1]),
        np.r_[np.zeros(99), 1],
        np.array([5.0]),
        np.arange(9),
    ):
        assert kind(plain) is numeric.Numeric
    for heavy in (np.exp(2 * normal), rng.standard_cauchy(500), np.r_[normal, 1e12], np.r_[normal, -1e300], [1.0, 2, 3, 1e12]):
        assert kind(np.asarray(heavy)) is numeric.Ranks
    edge = np.array([0.0, 1, 2, 3, 4, 5, 6, 50])  # the middle half: from 1 to 5
    assert kind(np.append(edge[:-1], 40.0)) is numeric.Numeric and kind(np.append(edge[:-1], 40.5)) is numeric.Ranks


def test_ranks_go_to_their_places_and_come_back_as_observed_values():
    values = np.array([3.0, 1, 1e12, 2, 2, np.nan])
    ranks = numeric.Numeric.learn(values, np.isnan(values), "x", 20)
    cells, known = ranks.encode(values, np.isnan(values), "x")
    np.testing.assert_allclose(cells[:5, 0], [0.75, 0, 1, 0.375, 0.375])
    np.testing.assert_array_equal(known[:, 0], ~np.isnan(values))
    np.testing.assert_array_equal(ranks.decode(cells[:5]), values[:5])
    answers = np.array([[-0.375], [0.2], [0.86], [0.88], [1.25], [3.0]])
    np.testing.assert_array_equal(ranks.decode(answers), [2, 2, 3, 1e12, 3, 1])  # 3 is far beyond: the first
    outside = np.array([-5.0, 1e300])
    np.testing.assert_array_equal(ranks.encode(outside, np.zeros(2, bool), "x")[0][:, 0], [0, 1])


def test_a_value_far_outside_in_transform_counts_as_one_range_outside():
    estimator = fitted(np.random.default_rng(0).random((50, 3)).clip(0.01, 0.99))
    near, far = estimator.transform(np.array([[2.5, np.nan, 0.5], [1e12, np.nan, 0.5]]))
    assert near[1] == far[1] and far[0] == 1e12


def outlier(n=500):
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    whole = np.stack([200 + 20 * z, z + 0.05 * rng.normal(size=n), rng.normal(size=n)], 1)
    whole[7, 0] = 1e12
    gone = rng.random(n) < 0.2
    gone[7] = False
    return whole, gone, np.where(np.stack([gone, *[np.zeros(n, bool)] * 2], 1), np.nan, whole)


def test_transport_does_not_spread_one_wild_value_over_the_others():
    whole, gone, holed = outlier(200)
    done = TransportImputer(steps=30, random_state=0).fit(holed).transform(holed)
    assert (np.abs(done - whole)[gone, 0] < 200).mean() > 0.95


@pytest.mark.slow
def test_one_wild_value_of_500_and_a_log_normal_column_leave_small_relative_errors(monkeypatch):
    monkeypatch.undo()
    whole, gone, holed = outlier()
    done = GAINImputer(random_state=0).fit_transform(holed)
    assert np.mean(np.abs(done / whole - 1)[gone, 0]) < 0.05
    rng = np.random.default_rng(0)
    z = rng.normal(size=600)
    whole = np.stack([np.exp(2 * z), z + 0.05 * rng.normal(size=600)], 1)
    gone = rng.random(600) < 0.2
    done = GAINImputer(random_state=0).fit_transform(np.where(np.stack([gone, gone & False], 1), np.nan, whole))
    assert np.mean(np.abs(done / whole - 1)[gone, 0]) < 0.3


# ---- a number that fit chooses -----------------------------------------------------------------


def test_auto_takes_the_setting_with_the_smallest_error_on_hidden_cells(monkeypatch, capsys):
    """Stand-in answers have an error that depends on the setting; alpha 100, hide .4 are best."""
    trained = []

    def train(knobs, tables, seeds, *, steps):
        trained.extend(zip(knobs, tables, seeds, strict=True))
        return untrained(knobs[:1], tables, seeds, steps=steps)

    def answers(stacked, params, cells, shown):
        error = np.abs(np.log10(stacked.alpha) - 2) + np.abs(stacked.hide - 0.4)
        return cells + np.asarray(error)[:, None, None]

    monkeypatch.setattr(choice, "train", train)
    monkeypatch.setattr(choice, "_answers", answers)
    rows = np.random.default_rng(0).random((30, 3))
    estimator = fitted(rows, alpha="auto")
    assert (estimator.alpha_, estimator.hide_, estimator.alpha) == (100, 0.4, "auto")
    assert float(estimator.knobs_.alpha) == 100 and len(trained) == 27
    assert "alpha 100, hide 0.4: chosen of 9 by cross-validation, RMSE 0.0000" in capsys.readouterr().err
    assert {len(cells) for _, (cells, _), _ in trained} == {20}
    given = fitted(rows, alpha="auto", hide=0.1)
    assert (given.alpha_, given.hide_) == (100, 0.1) and len(trained) == 27 + 9
    few = fitted(rows[:5], alpha="auto")
    assert few.alpha_ == 1000 and "5 rows are too few to choose by" in capsys.readouterr().err
    copy: Any = clone(estimator)
    assert fitted(rows).alpha_ == 1000 and copy.alpha == "auto"


def test_no_row_judges_a_network_that_was_trained_on_it(monkeypatch):
    rows = np.arange(30.0)[:, None] / 30
    seen = []
    monkeypatch.setattr(
        choice, "train", lambda k, tables, s, *, steps: seen.extend(tables) or untrained(k[:1], tables, s, steps=1)
    )
    monkeypatch.setattr(choice, "_answers", lambda k, p, cells, shown: np.stack([cells] * 9))
    choice.chosen(lambda alpha: gain.recipe(1, alpha=alpha), ["alpha"], (rows, rows >= 0), 0, 1)
    for first, second, third in (seen[i : i + 3] for i in (0, 3, 6)):
        held = [set(rows[:, 0]) - set(cells[:, 0]) for cells, _ in (first, second, third)]
        assert set.union(*held) == set(rows[:, 0]) and sum(map(len, held)) == 30


@pytest.mark.parametrize("value", ["x", "auto ", None, [1.0]])
def test_what_is_no_number_is_refused_by_the_imputer_and_by_recipes(value):
    with pytest.raises(UserError, match='must be a number or "auto"'):
        fitted(np.ones((3, 2)), alpha=value)
    with pytest.raises(UserError, match="learning_rate=.*: must be a number"):
        fitted(np.ones((3, 2)), learning_rate=value)


@pytest.mark.parametrize(
    "make", [lambda: gain.recipe(3, alpha="auto"), lambda: vae.recipe(3, beta="5"), lambda: misgan.recipe((3,), alpha="x")]
)
def test_text_in_a_recipe_gets_one_line(make):
    with pytest.raises(UserError, match="is '.*': give a number"):
        make()
