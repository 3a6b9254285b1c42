"""The experiment about missing values: what it hides, what it chooses by, what it measures and
says."""

import jax
import missing_values_report as report
import numpy as np
import pandas as pd
import pytest

from experiments import missing_values as experiment
from gan_jax.games.imputation import baselines, gain, transport, vae


def options(**fields):
    return experiment.Options(**{"repetitions": 2, "folds": 3, "devices": 1} | fields)


def rows_by_number(n=60, d=5):
    """A table in which a value says its row and column."""
    return (np.arange(n)[:, None] + np.arange(d) / 10).astype(np.float32)


def test_the_tables_are_scaled_as_published():
    values, classes = experiment.table_of("breast")
    assert values.shape == (569, 30) and set(classes) == {0, 1}
    assert (values.min(0) == 0).all() and (values.max(0) == 1).all()


def test_folds_of_a_repetition_share_a_mask_and_hold_out_every_row_once():
    cases = experiment.cases_of(options(rates=(0.2, 0.5)), rows_by_number())
    assert len(cases) == 2 * 2 * 3
    first = cases[:3]
    assert all((case.mask == first[0].mask).all() for case in first) and (cases[3].mask != first[0].mask).any()
    np.testing.assert_array_equal(np.sort(np.concatenate([case.test for case in first])), np.arange(60))
    np.testing.assert_array_equal(cases[0].test, cases[6].test)  # rates are compared on the same folds
    assert (~cases[6].mask).mean() == pytest.approx(0.5, abs=0.1)


def test_the_choice_looks_at_no_held_out_row_and_at_no_hidden_cell(monkeypatch):
    """Each candidate sees observed cells of four fifths of the training rows, and is judged on
    others of the rest."""
    values = rows_by_number()
    cases = experiment.cases_of(options(), values)
    shown, best = {}, 3
    monkeypatch.setattr(
        experiment, "trained", lambda o, settings, tables, steps: shown.update(tables=tables) or (settings, None)
    )

    def filled(population, values, masks):
        shown["masks"] = masks
        k = len(experiment.CANDIDATES)
        return [values + (0.0 if i % k == best else 1.0) for i in range(len(masks))]

    monkeypatch.setattr(experiment, "filled_by", filled)
    assert experiment.choose(options(), values, cases, experiment.CANDIDATES, 1) == [experiment.CANDIDATES[best]] * len(cases)
    assert len(shown["tables"]) == len(cases) * len(experiment.CANDIDATES)
    for i, case in enumerate(cases):
        trained_on, mask = shown["tables"][i * len(experiment.CANDIDATES)]
        rows = trained_on[:, 0].astype(int)
        assert set(rows) < set(case.train) and len(rows) == len(case.train) - len(case.train) // 5
        np.testing.assert_array_equal(mask, case.mask[rows])
        judged = case.mask & ~shown["masks"][i * len(experiment.CANDIDATES)]
        assert judged.any() and set(np.flatnonzero(judged.any(1))) <= set(case.train) - set(rows)


def test_the_candidates_are_of_a_gain_and_of_a_vae_each_of_one_structure():
    """So that all candidates of either train as one population."""
    for candidates, kind in ((experiment.CANDIDATES, gain.Gain), (experiment.VAE_CANDIDATES, vae.MIWAE)):
        knobs = [experiment.knobs_of(setting, 4)[0] for setting in candidates]
        assert {type(k) for k in knobs} == {kind} and len({jax.tree.structure(k) for k in knobs}) == 1
        assert all(float(getattr(k, name)) == pytest.approx(s[name]) for k, s in zip(knobs, candidates, strict=True)
                   for name in s if name != "imputer")  # fmt: skip


def test_errors_are_of_hidden_cells_and_the_gap_is_between_rows():
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 2
    values = (classes[:, None] + rng.normal(0, 0.1, (60, 4))).astype(np.float32)
    cases = experiment.cases_of(options(), values)
    off = []
    for case in cases:  # .3 off where hidden in held-out rows, .1 in training rows, nonsense where observed
        table = values + 9.0
        table[case.test] = np.where(case.mask[case.test], 9.0, values[case.test] + 0.3)
        table[case.train] = np.where(case.mask[case.train], 9.0, values[case.train] + 0.1)
        off.append(table)
    found = {"off": off, "whole": [values] * len(cases)}
    table = report.measured(values, classes, cases, found)
    assert len(table) == 4
    part = table[table["setting"] == "off"]
    np.testing.assert_allclose(part["rmse"], 0.3, rtol=1e-5)
    np.testing.assert_allclose(part["train_rmse"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(part["gap"], 0.2, rtol=1e-5)
    whole = table[table["setting"] == "whole"]
    assert (whole["rmse"] == 0).all() and (whole["accuracy"] == 1).all() and (whole["auc"] == 1).all()


def test_a_rival_learns_from_training_rows_alone():
    values = np.random.default_rng(0).random((60, 4)).astype(np.float32)
    case = experiment.cases_of(options(), values)[0]
    done = experiment.filled_by_rival("mean", values, case)
    means = np.array([values[case.train, j][case.mask[case.train, j]].mean() for j in range(4)])
    np.testing.assert_allclose(done, np.where(case.mask, values, means), rtol=1e-6)
    np.testing.assert_array_equal(done[case.mask], values[case.mask])


@pytest.mark.parametrize("name", baselines.IMPUTERS)
def test_every_rival_fills_every_hole_and_keeps_what_was_observed(name):
    values = np.random.default_rng(0).random((40, 3))
    holed = np.where(np.random.default_rng(1).random((40, 3)) < 0.2, np.nan, values)
    rival = baselines.IMPUTERS[name](0)
    if name == "transport":
        rival.set_params(steps=3, batch_size=8)
    done = rival.fit(holed).transform(holed)
    seen = ~np.isnan(holed)
    assert np.isfinite(done).all()
    np.testing.assert_array_equal(done[seen], values[seen])


def test_the_transport_plan_is_sinkhorns():
    rng = np.random.default_rng(0)
    cost = ((rng.normal(size=(6, 1, 2)) - rng.normal(size=(1, 9, 2))) ** 2).sum(-1)
    kernel, u, v = np.exp(-cost / 0.5), np.ones(6), np.ones(9)
    for _ in range(300):
        u = 1 / 6 / (kernel @ v)
        v = 1 / 9 / (kernel.T @ u)
    np.testing.assert_allclose(transport.plan(cost.astype(np.float32), 0.5, 300), u[:, None] * kernel * v, atol=1e-6)


def test_transport_moves_missing_cells_to_where_the_others_are():
    """y = 1 on rows with x = 1 and 0 on those with x = 0: the missing y of new rows go there, the
    column's mean is .5."""
    x = np.repeat([0.0, 1.0], 40)
    rows = np.stack([x, x], 1)
    rows[::4, 1] = np.nan
    fitted = transport.TransportImputer(steps=150, batch_size=32, random_state=0).fit(rows)
    done = fitted.transform(np.array([[0.0, np.nan], [1.0, np.nan]]))
    np.testing.assert_allclose(done, [[0, 0], [1, 1]], atol=0.2)


def test_transport_fills_a_column_without_a_value_with_zeros_and_lets_it_change_nothing():
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((40, 2)) < 0.2, np.nan, rng.random((40, 2)))
    beside = np.insert(rows, 1, np.nan, axis=1)
    fit = lambda x: transport.TransportImputer(steps=5, batch_size=8, random_state=0).fit(x)
    done = fit(beside).transform(beside)
    np.testing.assert_array_equal(done[:, 1], 0)
    np.testing.assert_array_equal(done[:, [0, 2]], fit(rows).transform(rows))
    later = np.where([False, True, False], 7.0, beside)
    np.testing.assert_array_equal(fit(beside).transform(later)[:, 1], 7)
    np.testing.assert_array_equal(fit(np.full((4, 2), np.nan)).transform(np.full((3, 2), np.nan)), 0)


def test_interpolation_is_the_straight_line_in_the_order_of_the_rows():
    column = np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])
    table = np.stack([column, np.full(6, np.nan)], 1)
    done = baselines.InterpolationImputer().fit(table).transform(table)
    expected = pd.Series(column).interpolate(limit_direction="both")
    np.testing.assert_allclose(done[:, 0], expected)
    np.testing.assert_array_equal(done[:, 1], 0)


def test_the_text_names_the_rivals_the_published_figures_and_the_test():
    rng = np.random.default_rng(0)
    level = {"GAIN": 0.05, "iterative": 0.06, "kNN": 0.08, "mean": 0.15, experiment.COMPLETE: 0.0}
    rows = [
        {"setting": name, "rate": 0.2, "seed": seed, "n": 455, "step": 0, "diverged": False, "rmse": x + rng.normal(0, 1e-3),
         "train_rmse": x, "gap": 0.001, "accuracy": 0.9, "auc": 0.95}
        for name, x in level.items() for seed in range(5)
    ]  # fmt: skip
    said = report.text(options(), pd.DataFrame(rows))
    lines = [line for line in said.splitlines() if line.startswith(tuple(level))]
    assert [line.split()[0] for line in lines] == ["GAIN", "iterative", "kNN", "mean", "complete"]
    assert "0.05" in lines[0] and "p = " in lines[0] and "baseline" in lines[2]
    assert "GAIN 0.0546" in said and "scores 0.06" in said and "flatters GAIN" in said


def test_a_fold_without_a_class_has_an_accuracy_and_no_area():
    values, classes = np.random.default_rng(0).random((60, 3)), np.repeat([0, 1, 2], 20)
    lacking = experiment.Case(0.2, 0, 0, values > 0, np.arange(5, 60), np.arange(5))
    accuracy, area = report.usefulness(values, classes, lacking)
    assert 0 <= accuracy <= 1 and np.isnan(area)
    whole = lacking._replace(fold=1, train=np.arange(60)[::2], test=np.arange(60)[1::2])
    _, judged = report.usefulness(values, classes, whole)
    table = report.measured(values, classes, [lacking, whole], {"whole": [values] * 2})
    assert table["auc"].tolist() == [pytest.approx(judged)]  # the mean of the folds that have one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 0], "--steps 0: it must be at least 1"),
        (["--vae-steps", 0], "--vae-steps 0: it must be at least 1"),
        (["--code-steps", -1], "--code-steps -1: it must be at least 0"),
        (["--folds", 1], "--folds 1: give 2 to 178"),
        (["--folds", 1000], "--folds 1000: give 2 to 178"),
        (["--repetitions", 0], "--repetitions 0"),
        (["--rates", 0], "--rates: give each rate once, and at least one, all above 0"),
        (["--rates", 0.2, 0.2], "--rates: give each rate once"),
        (["--rates", 1.0], "missing rate 1"),
        (["--skip", "median"], "--skip: no row 'median'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(mistake, monkeypatch, words, message, tmp_path):
    monkeypatch.setattr(experiment, "prepare_devices", lambda *a, **k: None)
    assert message in mistake(experiment, "--data", "wine", "--out", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_whole_of_it_from_the_command_line(monkeypatch, tmp_path, capsys):
    """Every step but the training: tables, choice, rivals, measures, table, picture."""
    monkeypatch.setattr(experiment, "trained", lambda o, settings, tables, steps: (settings, None))
    monkeypatch.setattr(experiment, "filled_by", lambda p, values, masks: [np.where(m, values, 0.3) for m in masks])
    skip = ("VAE", *(name for name in baselines.IMPUTERS if name != "kNN"))
    assert experiment.main(options(data="wine", rates=(0.2, 0.4), repetitions=1, skip=skip, out=tmp_path / "run")) == 0
    said = capsys.readouterr().out
    assert "wine, mcar, 40% missing" in said and "chosen in 3 of 3 folds" in said
    assert (tmp_path / "run/pictures/missing_values.png").exists()
    assert set(pd.read_csv(tmp_path / "run/table.csv")["setting"]) == {"GAIN (code)", "GAIN", "kNN", "complete data"}
    monkeypatch.setattr(experiment, "trained", None)  # a study that goes on trains nothing again
    again = options(data="wine", rates=(0.4,), repetitions=1, skip=skip, out=tmp_path / "run", resume=True)
    assert experiment.main(again) == 0 and "40% missing" in capsys.readouterr().out
