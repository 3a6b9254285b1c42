"""The ranking against closed forms, SciPy and simulated nulls."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from gan_jax.core.errors import UserError
from gan_jax.metrics.ranking import COLUMNS, LEVEL, histories, holm, mean_interval, rank, ranking_text

METRIC = "D/train_validation_auc"


def sweep(values, n=100, step=10, metric=METRIC):
    """A table from {setting: one value per seed}; None is a seed that has diverged."""
    rows = [
        {"setting": setting, "seed": seed, "n": n, "step": step, metric: math.nan if y is None else y, "diverged": y is None}
        for setting, ys in values.items()
        for seed, y in enumerate(ys)
    ]
    return pd.DataFrame(rows)


def verdicts(ranked):
    return dict(zip(ranked["setting"], ranked["verdict"], strict=True))


def row(ranked, setting):
    return ranked[ranked["setting"] == setting].iloc[0]


def test_a_row_by_hand():
    base, other = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.0, 4.5, 4.0, 6.0]
    ranked = rank(sweep({"none": base, "r1": other}), METRIC)
    assert tuple(ranked.columns) == COLUMNS and list(ranked["setting"]) == ["none", "r1"]
    none, r1 = row(ranked, "none"), row(ranked, "r1")
    quantile = 2.7764451051977987  # of Student's t with 4 degrees of freedom, at .975
    half = quantile * math.sqrt(2.5 / 5)
    assert (none["mean"], none["seeds"], none["diverged"], none["n"]) == (3, 5, 0, 100)
    assert np.allclose([none["low"], none["high"]], [3 - half, 3 + half])
    differences = [0.5, 0, 1.5, 0, 1]  # mean .6, sum of squared deviations 1.7
    error = math.sqrt(1.7 / 4 / 5)
    assert np.allclose(r1["difference"], 0.6) and np.isclose(np.mean(differences), 0.6)
    assert np.allclose([r1["difference_low"], r1["difference_high"]], [0.6 - quantile * error, 0.6 + quantile * error])
    assert np.isclose(r1["p"], 2 * stats.t.sf(0.6 / error, 4)) and r1["p_holm"] == r1["p"]
    assert none["verdict"] == "baseline" and math.isnan(none["p"]) and math.isnan(none["difference"])
    assert r1["verdict"] == "no difference shown"


def test_intervals_are_those_of_scipy_and_leave_out_what_is_not_finite():
    values = np.random.default_rng(0).normal(size=(6, 4))
    values[2:, 1], values[1:, 2], values[:, 3] = math.nan, math.inf, math.nan
    mean, low, high = mean_interval(values)
    for column, k in ((0, 6), (1, 2)):
        kept = values[:k, column]
        expected = stats.t.interval(LEVEL, k - 1, kept.mean(), kept.std(ddof=1) / math.sqrt(k))
        assert np.allclose([low[column], high[column]], expected) and np.isclose(mean[column], kept.mean())
    assert mean[2] == values[0, 2] and np.isnan([low[2], high[2], mean[3], low[3]]).all()
    assert np.isnan(mean_interval([])).all()


def test_holm_by_hand():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 6))
    shifts = {"a": 1.1, "b": 0.7, "c": 2.0}
    table = sweep(
        {"none": noise[0], **{name: noise[0] + shift + noise[i + 1] for i, (name, shift) in enumerate(shifts.items())}}
    )
    ranked = rank(table, METRIC)
    tested = ranked[ranked["setting"] != "none"].sort_values("p")
    largest, expected = 0.0, []
    for i, p in enumerate(tested["p"]):
        largest = max(largest, min(1, (3 - i) * p))
        expected.append(largest)
    assert np.allclose(tested["p_holm"], expected) and len(set(tested["p"])) == 3
    for name, p in zip(tested["setting"], tested["p"], strict=True):
        ours = table.loc[table["setting"] == name, METRIC].to_numpy()
        assert np.isclose(p, stats.ttest_rel(ours, noise[0]).pvalue)


def test_pairing_takes_the_seeds_share_out():
    seeds, noise = np.random.default_rng(2).normal(size=(2, 8)) * [[10], [0.1]]
    table = sweep({"none": seeds, "r1": seeds - 1 + noise, "noise": seeds + 1 - noise, "same": seeds})
    found = verdicts(rank(table, METRIC))
    assert found == {"r1": "better", "none": "baseline", "same": "no difference shown", "noise": "worse"}
    assert verdicts(rank(table, METRIC, higher_is_better=True))["r1"] == "worse"
    assert list(rank(table, METRIC)["setting"]) == ["r1", "none", "same", "noise"]
    assert list(rank(table, METRIC, higher_is_better=True)["setting"]) == ["noise", "none", "same", "r1"]
    again = rank(table, METRIC, baseline="r1")
    assert verdicts(again) == {"r1": "baseline", "none": "worse", "same": "worse", "noise": "worse"}


@pytest.mark.filterwarnings("error")
def test_differences_without_variance():
    base = [0.5, 0.625, 0.75, 0.875, 1.0]
    ranked = rank(sweep({"none": base, "same": base, "less": [y - 0.25 for y in base]}), METRIC)
    same, less = row(ranked, "same"), row(ranked, "less")
    assert (same["p"], same["p_holm"], same["verdict"]) == (1, 1, "no difference shown")
    assert (less["p"], less["difference_low"], less["difference_high"], less["verdict"]) == (0, -0.25, -0.25, "better")


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(4).uniform(size=40) ** 3
    p[[3, 17]] = math.nan
    expected = multipletests(p[np.isfinite(p)], method="holm")[1]
    assert np.allclose(holm(p)[np.isfinite(p)], expected) and np.isnan(holm(p)[[3, 17]]).all() and holm([]).size == 0


def test_under_the_null_a_verdict_is_wrong_in_one_family_of_twenty():
    rng, families, wrong = np.random.default_rng(3), 200, 0
    for _ in range(families):
        seeds = rng.normal(size=6)  # what a seed does to every setting alike
        table = sweep({f"setting {i}": seeds + rng.normal(size=6) for i in range(6)})
        wrong += any(verdict in ("better", "worse") for verdict in rank(table, METRIC)["verdict"])
    error = math.sqrt(0.05 * 0.95 / families)
    assert wrong / families < 0.05 + 3 * error
    assert wrong > 0  # the test is not one that never rejects


def test_diverged_seeds_come_after_and_are_counted():
    base = [0.9, 0.92, 0.91, 0.93, 0.9, 0.91]
    table = sweep(
        {
            "none": base,
            "gone": [None] * 6,
            "flattered": [0.1, 0.12, 0.11, 0.13, 0.1, None],
            "few": [0.1, None, 0.2, 0.1, None, 0.1],
            "whole": [y - 0.2 for y in base],
        }
    )
    ranked = rank(table, METRIC)
    assert list(ranked["setting"]) == ["whole", "none", "flattered", "few", "gone"]
    assert list(ranked["seeds"]) == [6, 6, 5, 4, 0] and list(ranked["diverged"]) == [0, 0, 1, 2, 6]
    assert verdicts(ranked) == {
        "none": "baseline",
        "gone": "every seed diverged",
        "flattered": "better among survivors",
        "few": "too few seeds for a test",
        "whole": "better",
    }
    assert np.isclose(row(ranked, "flattered")["difference"], np.mean([0.1, 0.12, 0.11, 0.13, 0.1]) - np.mean(base[:5]))
    lost = rank(table, METRIC, baseline="gone")
    assert set(lost["verdict"]) == {"baseline: every seed diverged", "no baseline to compare with"}
    assert lost["p_holm"].isna().all()
    assert verdicts(rank(table, METRIC, baseline="flattered"))["whole"] == "worse among survivors"


def test_a_value_after_divergence_does_not_count():
    table = sweep({"none": [1.0] * 5, "r1": [2.0] * 5})
    early = table.assign(step=5, diverged=(table["setting"] == "r1") & (table["seed"] == 0))
    both = pd.concat([early, table])
    assert row(rank(both, METRIC, step=5), "r1")["seeds"] == 4
    assert row(rank(both, METRIC), "r1")["diverged"] == 1  # once diverged, always


@pytest.mark.parametrize("seeds", [1, 4])
def test_few_seeds(seeds):
    base = [0.9, 0.8, 0.7, 0.6][:seeds]
    ranked = rank(sweep({"none": base, "r1": [0.1, 0.12, 0.1, 0.11][:seeds]}), METRIC)
    r1 = row(ranked, "r1")
    assert r1["verdict"] == "too few seeds for a test" and math.isnan(r1["p"]) and math.isnan(r1["p_holm"])
    assert math.isnan(r1["low"]) == math.isnan(r1["difference_low"]) == (seeds == 1)
    assert np.isfinite(r1["mean"]) and np.isfinite(r1["difference"])


def test_each_n_has_its_own_baseline_and_holm_takes_all():
    rng = np.random.default_rng(4)
    parts = [sweep({"none": rng.normal(size=5), "a": rng.normal(size=5), "b": rng.normal(size=5)}, n=n) for n in (400, 100)]
    only = sweep({"alone": [0.0] * 5}, n=1600)
    ranked = rank(pd.concat([*parts, only]), METRIC)
    assert list(ranked["n"]) == [100] * 3 + [400] * 3 + [1600]
    for n, part in ((400, parts[0]), (100, parts[1])):
        alone = rank(part, METRIC)
        block = ranked[ranked["n"] == n]
        assert list(block["setting"]) == list(alone["setting"]) and np.allclose(block["p"], alone["p"], equal_nan=True)
        assert (block["p_holm"].dropna() >= alone["p_holm"].dropna().to_numpy()).all()
        pd.testing.assert_frame_equal(rank(pd.concat(parts), METRIC, n=n), alone)
    smallest = ranked["p"].min()
    assert np.isclose(ranked["p_holm"].min(), min(1, 4 * smallest))
    assert row(ranked, "alone")["verdict"] == "no baseline to compare with"


def test_the_step_is_the_last_unless_named():
    table = pd.concat([sweep({"a": [1.0], "b": [2.0]}, step=20), sweep({"a": [4.0], "b": [3.0]}, step=10)])
    assert list(rank(table, METRIC)["setting"]) == ["a", "b"]
    assert list(rank(table, METRIC, step=10)["setting"]) == ["b", "a"]
    partial = table[(table["setting"] == "b") | (table["step"] == 10)]
    assert verdicts(rank(partial, METRIC, baseline="a")) == {"b": "no baseline to compare with", "a": "baseline: not measured"}
    assert verdicts(rank(partial, METRIC)) == {"b": "baseline", "a": "not measured"}


def test_what_cannot_be_ranked_is_refused():
    table = sweep({"none": [1.0, 2.0], "r1": [1.0, 2.0]})
    cases = [
        (table.iloc[:0], METRIC, {}, "no rows"),
        (table, "D/train_validation_acu", {}, "no metric of the table; choose another, such as D/train_validation_auc"),
        (table, "seed", {}, "no metric"),
        (table, METRIC, {"baseline": "nothing"}, "choose among none, r1"),
        (table, METRIC, {"step": 7}, "no step 7; choose among 10"),
        (table, METRIC, {"n": 7}, "n = 7; choose among 100"),
        (pd.concat([table, table]), METRIC, {}, "two rows for setting none, seed 0, n 100, step 10"),
        (table.drop(columns="seed"), METRIC, {}, "lacks the columns"),
        (table.assign(name="x"), "name", {}, "does not hold numbers"),
        (table.assign(n=[math.nan, 1, 1, 1]), METRIC, {}, "'n' has empty cells"),
        (
            pd.concat([table, table.assign(step=20, **{METRIC: math.nan})]),
            METRIC,
            {},
            "not measured at step 20; choose step 10",
        ),
    ]
    for bad, metric, settings, message in cases:
        with pytest.raises(UserError, match=message) as error:
            rank(bad, metric, **settings)
        assert "\n" not in str(error.value)


def test_histories_have_a_row_for_each_seed():
    table = pd.concat([sweep({"a": [1.0, None], "b": [5.0]}, step=20), sweep({"a": [3.0, 4.0]}, step=10)])
    found = histories(table, METRIC)
    assert list(found) == [("a", 100), ("b", 100)] and found["a", 100][0].tolist() == [10, 20]
    assert np.array_equal(found["a", 100][1], [[3, 1], [4, math.nan]], equal_nan=True)
    assert found["b", 100][1].tolist() == [[5]]


def test_the_text_fits_a_terminal_and_says_what_it_is():
    base = np.array([0.9, 0.8, 0.7, 0.75, 0.8])
    names = {"none": base, "[red]x[/] $y$\nz": base - 0.1, "long " * 40: base + 1e-4, "gone": [None] * 5}
    ranked = rank(pd.concat([sweep(names, n=n) for n in (100, 1600)]), METRIC)
    text = ranking_text(ranked, METRIC)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100 and lines[0] == f"{METRIC} at step 10, in order"
    assert "[red]x[/] $y$ z" in text and "0 of 5" in text and "every seed diverged" in text
    assert "0.690 +- 0.092  -0.100 +- 0.000    <0.001  better" in text
    assert "Holm's correction over 4" in text and lines[-1] == "Chosen on V only; S stays closed until the choice is made"
    few = ranking_text(rank(sweep({"none": [1234.5], "r1": [0.001]}), METRIC), METRIC)
    assert "it takes 5 seeds" in few and "1234" in few and " n " not in few.splitlines()[2]
    empty = ranking_text(rank(sweep({"none": [None]}), METRIC), METRIC)
    assert "baseline: every seed diverged" in empty


def test_an_auc_below_chance_is_no_better_than_chance():
    near, noise = [0.6, 0.62, 0.61, 0.63, 0.6], [0.01, 0, -0.01, 0.02, 0]
    at = lambda mean: [mean + x for x in noise]
    table = sweep({"chance": at(0.5), "below": at(0.3), "overfits": near, "other": at(0.45)})
    ranked = rank(table, METRIC)
    assert list(ranked["setting"]) == ["below", "other", "chance", "overfits"]  # of the first three none is better
    assert verdicts(ranked)["overfits"] == "worse"
    assert verdicts(rank(table, METRIC, baseline="below"))["other"] == "no difference shown"
    assert set(verdicts(rank(table, METRIC, baseline="overfits")).values()) == {"baseline", "better"}
    assert "An AUC below .5 is chance" in ranking_text(ranked, METRIC)
    assert list(rank(table.rename(columns={METRIC: "G/fd"}), "G/fd")["setting"])[0] == "below"


@pytest.mark.parametrize("width", [20, 100])
def test_no_number_of_a_ranking_is_broken(width):
    values = {"a " * 30: [1.2345e9, 1.2346e9, 1.3e9], "b" * 50: [-3.21e8, 1.0, 2.0]}
    ranked = rank(sweep(values), METRIC)
    text = ranking_text(ranked, METRIC, width)
    for row in ranked.to_dict("records"):
        high = row["high"] - row["mean"]
        assert f"{row['mean']:.2e} +- {high:.2e}" in text
