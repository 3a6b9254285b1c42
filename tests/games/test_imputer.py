"""The imputer: observed cells bit for bit, no hole left, scikit-learn's own conventions, and
answers better than the mean's."""

import pickle
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.utils.estimator_checks import check_estimator

from gan_jax.core.errors import UserError
from gan_jax.games.imputation import GAINImputer, columns, gain, imputer
from gan_jax.games.imputation.baselines import InterpolationImputer

EXPECTED_FAILED_CHECKS: dict[str, str] = {}  # every check is met


def untrained(knobs, tables, seeds, *, steps):
    """What `train` returns, but with weights drawn by NumPy: what the conventions are about does
    not need training."""
    shapes = jax.eval_shape(gain.init, knobs[0], jax.random.key(0)).generator.params
    rngs = [np.random.default_rng(seed) for seed in seeds]
    draw = lambda s: np.stack([rng.normal(0, 0.3, s.shape).astype(s.dtype) for rng in rngs])
    return SimpleNamespace(ema={"params": jax.tree.map(draw, shapes)}), {}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(imputer, "train", untrained)


def mixed(n=40, seed=0):
    """A table of many kinds with holes in every column but two."""
    rng = np.random.default_rng(seed)
    size = rng.normal(1e6, 1e3, n)
    table = pd.DataFrame({
        "size": size,
        "ratio": (size / 1e9).astype(np.float32),
        "count": pd.array(rng.integers(0, 5, n), dtype="Int64"),
        "colour": pd.Categorical(np.where(size > 1e6, "red", "blue"), categories=["blue", "green", "red"]),
        "town": np.array(["Rome", "Oslo", "Lima"], object)[rng.integers(0, 3, n)],
        "whole": rng.integers(0, 9, n),
        "code": rng.choice([10.0, 20.0, 70.0], n),
    }, index=np.arange(n) + 100)  # fmt: skip
    for name in ("size", "ratio", "count", "colour", "town", "code"):
        table.loc[table.index[rng.random(n) < 0.3], name] = None
    return table


def same_observed(before, after):
    seen = before.notna()
    for name in before:
        a, b = before[name][seen[name]], after[name][seen[name]]
        assert a.dtype == b.dtype or name == "ratio"
        assert [pickle.dumps(x) for x in a] == [pickle.dumps(x) for x in b], name


# ---- scikit-learn's own checks -----------------------------------------------------------------


def unmet(estimator):
    found = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None, on_skip=None)
    return {row["check_name"]: str(row["exception"]) for row in found if row["status"] == "failed"}


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_are_met(quick):
    assert unmet(GAINImputer(random_state=0)) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_are_met_by_trained_networks():
    assert unmet(GAINImputer(steps=20, networks=2, random_state=0)) == {}


@pytest.mark.filterwarnings("ignore")
def test_the_interpolation_baseline_meets_them_too():
    # A row's answer comes from its neighbours: that is what interpolation is.
    reason = "a cell is filled from the rows above and below it, so rows cannot be taken apart or reordered"
    expected = {f"check_methods_{name}_invariance": reason for name in ("subset", "sample_order")}
    found = check_estimator(InterpolationImputer(), expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert [row["check_name"] for row in found if row["status"] == "failed"] == []


# ---- laws --------------------------------------------------------------------------------------


def test_a_mixed_table_comes_back_as_it_was_with_its_holes_filled(quick):
    table = mixed()
    before = table.copy(deep=True)
    done = GAINImputer(categorical=["code"], random_state=0).fit_transform(table)
    pd.testing.assert_frame_equal(table, before)
    assert isinstance(done, pd.DataFrame) and not done.isna().any().any()
    same_observed(table, done)
    assert list(done.columns) == list(table.columns) and (done.index == table.index).all()
    assert (done.dtypes == table.dtypes).all()
    assert set(done["colour"]) <= {"red", "blue"} and set(done["town"]) <= {"Rome", "Oslo", "Lima"}
    assert set(done["code"]) <= {10.0, 20.0, 70.0}
    for name in ("size", "ratio", "count"):
        assert done[name].min() >= table[name].min() and done[name].max() <= table[name].max()


def test_arrays_keep_their_kind_and_objects_their_strings(quick):
    numbers = mixed()[["size", "ratio"]].to_numpy(np.float32)
    done = GAINImputer(random_state=0).fit_transform(numbers)
    seen = ~np.isnan(numbers)
    assert done.dtype == np.float32 and np.isfinite(done).all()
    assert done[seen].tobytes() == numbers[seen].tobytes()
    objects = mixed()[["town", "size"]].to_numpy(object)
    filled = GAINImputer(random_state=0).fit_transform(objects)
    gone = pd.isna(objects)
    assert (filled[~gone] == objects[~gone]).all() and set(filled[:, 0]) <= {"Rome", "Oslo", "Lima"}
    assert all(isinstance(x, float) for x in filled[:, 1])


def test_set_output_and_feature_names(quick):
    table = mixed()[["size", "ratio"]]
    fitted = GAINImputer(random_state=0).fit(table)
    assert isinstance(fitted.transform(table), pd.DataFrame)  # an array could not keep both dtypes
    assert isinstance(GAINImputer(random_state=0).fit_transform(table[["size"]]), np.ndarray)
    framed = fitted.set_output(transform="pandas").transform(table)
    assert list(framed.columns) == ["size", "ratio"] and (framed.index == table.index).all()
    assert list(fitted.get_feature_names_out()) == ["size", "ratio"]
    lone = GAINImputer(random_state=0).fit(table[["size"]])
    assert all(isinstance(done, np.ndarray) for done in lone.multiple_impute(table[["size"]], 2))
    for done in lone.set_output(transform="pandas").multiple_impute(table[["size"]], 2):
        assert isinstance(done, pd.DataFrame) and list(done.columns) == ["size"] and (done.index == table.index).all()


def test_a_row_is_filled_the_same_alone_and_equal_states_give_equal_answers(quick):
    table = mixed()[["size", "ratio", "colour"]]
    one, same, other = (GAINImputer(random_state=s).fit(table) for s in (1, 1, 2))
    done = one.transform(table)
    pd.testing.assert_frame_equal(done, same.transform(table))
    assert (other.transform(table)["size"] != done["size"]).any()
    for i in (0, 7, 21):
        alone = one.transform(table.iloc[[i]])
        assert alone["colour"].iloc[0] == done["colour"].iloc[i]
        np.testing.assert_allclose(alone["size"], done["size"].iloc[[i]], rtol=1e-6)
    again = pickle.loads(pickle.dumps(one))
    pd.testing.assert_frame_equal(again.transform(table), done)


def test_a_column_without_a_value_is_kept_with_a_warning_and_filled_by_the_rule(quick):
    table = mixed()[["size", "colour"]].assign(
        empty=np.nan, none=pd.Series([None] * 40, dtype=object, index=np.arange(40) + 100)
    )
    with pytest.warns(UserWarning, match="'empty' has no observed value"):
        done = GAINImputer(random_state=0).fit_transform(table)
    assert (done["empty"] == 0).all() and (done["none"] == "missing").all()
    with pytest.warns(UserWarning):
        only = GAINImputer(random_state=0).fit_transform(np.full((5, 2), np.nan))
    np.testing.assert_array_equal(only, np.zeros((5, 2)))


def test_whole_numbers_beyond_the_floats_come_back_beside_floats(quick):
    """2^60 + 1 is no float64, and .1 of float32 is not that of float64."""
    table = pd.DataFrame({"id": 2**60 + 1 + np.arange(5), "x": [0.1, np.nan, 2.0, 3.0, np.nan]})
    table["single"] = np.array([0.1, 0.2, np.nan, 0.4, 0.5], np.float32)
    fitted = GAINImputer(random_state=0).fit(table)
    for done in (fitted.transform(table), fitted.transform(table.dropna()), *fitted.multiple_impute(table, 2)):
        assert not done.isna().any().any() and (done.dtypes == table.dtypes).all()
        same_observed(table.loc[done.index], done)
    assert fitted.transform(table)["id"].tolist() == [2**60 + 1 + i for i in range(5)]


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.float32])
def test_a_table_that_misses_nothing_comes_back_as_it_is(quick, kind):
    table = np.arange(12).reshape(4, 3).astype(kind)
    done = GAINImputer(random_state=0).fit_transform(table)
    assert done.dtype == kind and done.tobytes() == table.tobytes() and done is not table
    frame = mixed().dropna()
    pd.testing.assert_frame_equal(GAINImputer(random_state=0).fit(mixed()).transform(frame), frame)


def test_a_category_that_was_never_seen_stays(quick):
    table = mixed()[["town", "size"]]
    fitted = GAINImputer(random_state=0).fit(table)
    new = pd.DataFrame({"town": ["Cairo", None], "size": [None, 1e6]}, dtype=object).astype({"size": float})
    done = fitted.transform(new)
    assert done["town"].iloc[0] == "Cairo" and done["town"].iloc[1] in {"Rome", "Oslo", "Lima"}


def test_several_imputations_differ_where_cells_are_missing_alone(quick):
    table = mixed(400)
    fitted = GAINImputer(random_state=0, networks=2).fit(table)
    draws = fitted.multiple_impute(table, m=6)
    assert len(draws) == 6
    for done in draws:
        assert not done.isna().any().any()
        same_observed(table, done)
    sizes = np.stack([done["size"][table["size"].isna()] for done in draws])
    assert (sizes.std(0) > 0).mean() > 0.9
    assert 0.2 < np.mean([done["colour"][table["colour"].isna()] == "red" for done in draws]) < 0.8
    pd.testing.assert_frame_equal(fitted.multiple_impute(table, m=1)[0], draws[0])


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "table", "message"),
    [
        ({}, np.array([[1.0, np.inf], [np.nan, 2.0]]), "column 1 is infinity in row 0"),
        ({}, pd.DataFrame({"a": [1.0, np.nan], "b": [-np.inf, 1.0]}), "column 'b' is infinity in row 0"),
        ({"categorical": ["town"]}, np.ones((3, 2)), "'town', which is no column"),
        ({"categorical": [5]}, np.ones((3, 2)), "names 5, which is no column"),
        ({"steps": 0}, np.ones((3, 2)), "GAINImputer: steps=0"),
        ({"steps": "5"}, np.ones((3, 2)), "steps='5'"),
        ({"steps": None}, np.ones((3, 2)), "steps=None"),
        ({"networks": 0}, np.ones((3, 2)), "networks=0"),
        ({"networks": 2.0}, np.ones((3, 2)), "networks=2.0"),
        ({"width": 0}, np.ones((3, 2)), "width=0"),
        ({"hide": 1.5}, np.ones((3, 2)), "hide is 1.5"),
        ({"alpha": -1.0}, np.ones((3, 2)), "alpha is -1"),
        ({"alpha": np.nan}, np.ones((3, 2)), "alpha is nan"),
        ({"ema_decay": 1.0}, np.ones((3, 2)), "ema_decay is 1"),
        ({"learning_rate": -1.0}, np.ones((3, 2)), "learning_rate is -1"),
        ({}, pd.DataFrame({"a": [str(i) for i in range(1001)]}), "too many for a category"),
    ],
)
def test_mistakes_get_one_line(quick, arguments, table, message):
    with pytest.raises(UserError, match=message) as error:
        GAINImputer(**arguments).fit(table)
    assert "\n" not in str(error.value) and isinstance(error.value, ValueError)


@pytest.mark.parametrize("frame", [False, True])
def test_infinities_are_refused_where_nothing_is_missing_and_where_nothing_was_seen(quick, frame):
    kind = (lambda x: pd.DataFrame(x, columns=["a", "b"])) if frame else np.asarray
    with pytest.warns(UserWarning, match="has no observed value"):
        fitted = GAINImputer(random_state=0).fit(kind([[1.0, np.nan], [2.0, np.nan]]))
    for row in ([np.inf, 3.0], [-np.inf, np.nan], [1.0, np.inf], [np.nan, -np.inf]):
        for call in (fitted.transform, fitted.multiple_impute):
            with pytest.raises(UserError, match="is infinity in row 0"):
                call(kind([row]))


def test_a_number_of_tables_that_is_none_gets_one_line(quick):
    fitted = GAINImputer(random_state=0).fit(np.ones((3, 2)))
    for m in (0, 2.5, None):
        with pytest.raises(UserError, match=f"multiple_impute: m={m}"):
            fitted.multiple_impute(np.ones((3, 2)), m)


# ---- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
def test_numbers_of_any_scale_become_the_unit_interval_and_come_back(scale):
    values = np.array([-1.0, 0.5, 0.25, 1.0, np.nan]) * scale
    missing = np.isnan(values)
    kind = columns.Numeric.learn(values, missing, "x", 0)
    cells, known = kind.encode(values, missing, "x")
    np.testing.assert_allclose(cells[:4, 0], [0, 0.75, 0.625, 1], rtol=1e-6)
    np.testing.assert_array_equal(known[:, 0], ~missing)
    np.testing.assert_allclose(kind.decode(cells)[:4], values[:4], rtol=1e-6)


def test_imputed_values_are_whole_where_few_whole_ones_were_seen():
    few, many = np.array([0.0, 3.0, 4.0]), np.arange(30.0)
    none = np.zeros(30, bool)
    assert columns.Numeric.learn(few, none[:3], "x", 20).decode(np.array([[0.4]])) == [2.0]
    assert columns.Numeric.learn(many, none, "x", 20).decode(np.array([[0.05]])) == pytest.approx([1.45])
    assert columns.Numeric.learn(few / 2, none[:3], "x", 20).decode(np.array([[0.4]])) == pytest.approx([0.8])


# ---- trained -----------------------------------------------------------------------------------


def test_it_learns_what_the_other_columns_tell():
    """y = 1 - x and the colour is whether x > .5: far better than the mean and the commonest colour
    on rows never seen."""
    rng = np.random.default_rng(0)
    x = rng.random(600)
    whole = pd.DataFrame({"x": x, "y": 100 - 100 * x, "colour": np.where(x > 0.5, "red", "blue")})
    holed = whole.mask(rng.random(whole.shape) < 0.2)
    holed.loc[holed.isna().all(axis=1), "x"] = whole["x"]
    fitted = GAINImputer(steps=800, learning_rate=3e-3, random_state=0).fit(holed.iloc[:400])
    done, gone = fitted.transform(holed.iloc[400:]), holed.iloc[400:].isna()
    truth = whole.iloc[400:]
    with_y = gone["x"] & ~gone["y"]
    error = lambda name, where: np.sqrt(((done[name] - truth[name])[where] ** 2).mean()) / truth[name].std()
    assert error("x", with_y) < 0.3 and error("y", gone["y"] & ~gone["x"]) < 0.3
    assert (done["colour"] == truth["colour"])[gone["colour"]].mean() > 0.85
    draws = np.stack([d["y"][gone["y"]] for d in fitted.multiple_impute(holed.iloc[400:], 20)])
    spread = draws.std(0)[~gone["x"][gone["y"]]].mean() / 100
    assert spread == pytest.approx(fitted.residual_[1], rel=0.5)
