"""Tables as people have them: every dtype, types that change between fit and transform, labels, and
what scikit-learn's tools ask of a transformer."""

import datetime as dt
import re
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from gan_jax.core.errors import UserError
from gan_jax.games.imputation import GAINImputer, columns, imputer, numeric
from gan_jax.games.imputation.tables import filled
from tests.games.test_imputer import untrained

N = 20
X = np.random.default_rng(0).random(N)
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(imputer, "train", untrained)


def fitted(table, **settings):
    return GAINImputer(random_state=0, **settings).fit(table)


def town():
    return pd.DataFrame({"town": ["Rome", "Oslo", "Lima", None] * 5, "size": X})


def repeated(values, fill):
    return [*values, None] * 6 + [fill] * 2


D1, D2, D3 = dt.date(2020, 1, 1), dt.date(2020, 1, 5), dt.date(2020, 1, 3)
TIMES = pd.to_datetime(repeated([D1, D2], D3))
DECIMALS = repeated([Decimal("1.10"), Decimal("7.00")], Decimal("2.50"))
COLUMNS = {
    "datetime": TIMES,
    "datetime, ns": TIMES.as_unit("ns"),
    "datetime, Rome": TIMES.tz_localize("Europe/Rome"),
    "timedelta": pd.to_timedelta(repeated([1, 5], 3), unit="D"),
    "period": pd.PeriodIndex(repeated(["2020-01", "2021-05"], "2020-07"), freq="M"),
    "dates of Python": pd.Series(repeated([D1, D2], D3), dtype=object),
    "Int64": pd.array(repeated([1, 9], 4), dtype="Int64"),
    "UInt8": pd.array(repeated([1, 9], 4), dtype="UInt8"),
    "Float32": pd.array(repeated([1.5, 9], 4), dtype="Float32"),
    "float16": np.array([1, 9, np.nan] * 6 + [4, 4], np.float16),
    "sparse": pd.arrays.SparseArray([1, 9, np.nan] * 6 + [4.0, 4.0]),
    "int64, arrow": pd.array(repeated([1, 9], 4), dtype="int64[pyarrow]"),
    "double, arrow": pd.array(repeated([1, 9], 4), dtype="double[pyarrow]"),
    "timestamp, arrow": pd.array(TIMES, dtype="timestamp[us][pyarrow]"),
    "date, arrow": pd.array(repeated([D1, D2], D3), dtype=pd.ArrowDtype(pyarrow.date32())),
    "decimal, arrow": pd.array(DECIMALS, dtype=pd.ArrowDtype(pyarrow.decimal128(8, 2))),
    "Decimal": pd.Series(DECIMALS, dtype=object),
    "SQL numbers": pd.Series(repeated([1, 2.5], 7.0), dtype=object),
    "SQL integers": pd.Series(repeated([1, 9], 4), dtype=object),
}
NAMES = {
    "boolean": pd.array(repeated([True, False], True), dtype="boolean"),
    "bool, arrow": pd.array(repeated([True, False], True), dtype="bool[pyarrow]"),
    "objects of bools": pd.Series(repeated([True, False], True), dtype=object),
    "string": pd.array(repeated(["a", "b"], "c"), dtype="string"),
    "string, arrow": pd.array(repeated(["a", "b"], "c"), dtype="string[pyarrow]"),
    "SQL text": pd.Series(repeated(["a", "b"], "c"), dtype=object),
    "ordered": pd.Categorical(repeated(["low", "high"], "mid"), categories=["low", "mid", "high"], ordered=True),
    "category of ints": pd.Categorical(repeated([1, 2], 3)),
    "category of intervals": pd.cut(pd.Series([1, 2, np.nan] * 6 + [7, 8]), 3),
}


@pytest.mark.parametrize("name", [*COLUMNS, *NAMES])
@pytest.mark.parametrize("beside", [True, False])
def test_a_column_of_any_dtype_comes_back_in_it_observed_cells_as_they_were(name, beside):
    """Numbers and dates are ordered and lie in the observed range, categories are observed ones."""
    table = pd.DataFrame({"e": COLUMNS.get(name, NAMES.get(name))} | ({"x": X} if beside else {}))
    estimator = fitted(table).set_output(transform="pandas")
    gone = table["e"].isna()
    for done in (estimator.transform(table), *estimator.multiple_impute(table, 2)):
        assert done["e"].dtype == table["e"].dtype and not done["e"].isna().any()
        assert done["e"][~gone].tolist() == table["e"][~gone].tolist()
        if name in NAMES:
            assert set(done["e"]) <= set(table["e"][~gone])
        else:
            assert isinstance(estimator.columns_.kinds[0], (numeric.Numeric, numeric.Objects, numeric.Dates))
            assert done["e"].min() == table["e"].min() and done["e"].max() == table["e"].max()
            assert {type(v) for v in done["e"][gone]} <= {type(v) for v in table["e"][~gone]} | {float}


def decoded(values, cell):
    column = pd.Series(values)
    kinds = columns.learn([column], column.isna().to_numpy()[:, None], ["x"], [False], 0)
    return kinds.decode(np.array([[cell]], np.float32))[0][0]


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        (TIMES, pd.Timestamp("2020-01-03")),
        (TIMES.tz_localize("Asia/Tokyo"), pd.Timestamp("2020-01-03", tz="Asia/Tokyo")),
        (pd.to_datetime(["2020-01-01 05:00", "2020-01-01 06:40"]), pd.Timestamp("2020-01-01 05:51")),
        (pd.to_datetime(["2020-01-01", "2020-01-04"]), pd.Timestamp("2020-01-03")),
        (pd.to_timedelta([0, 3], unit="D"), pd.Timedelta(days=2)),
        (pd.PeriodIndex(["2020-01", "2020-05"], freq="M"), pd.Period("2020-03", "M")),
        ([D1, D2, None], D3),
        ([dt.date(1, 1, 1), dt.date(1, 1, 3)], dt.date(1, 1, 2)),
        ([Decimal("1.10"), Decimal("2.2"), None], Decimal("1.66")),
        ([2, 6, None], 4),
    ],
)
def test_the_middle_of_a_column_is_the_middle_date_or_number(values, middle):
    """In whole days, hours, minutes where all are; to as many decimals as were observed."""
    values = values if isinstance(values, pd.Index) else pd.Series(values, dtype=object)
    found = decoded(values, 0.51)
    assert found == middle and isinstance(found, type(middle))


@pytest.mark.parametrize(
    ("empty", "value"),
    [
        (pd.to_datetime([None] * N), pd.Timestamp(0)),
        (pd.to_datetime([None] * N).tz_localize("UTC"), pd.Timestamp(0, tz="UTC")),
        (pd.to_timedelta([None] * N), pd.Timedelta(0)),
        (pd.PeriodIndex([None] * N, freq="D"), pd.Period("1970-01-01", "D")),
        (pd.array([None] * N, dtype="boolean"), False),
        (pd.array([None] * N, dtype="bool[pyarrow]"), False),
        (pd.array([None] * N, dtype="timestamp[ns][pyarrow]"), pd.Timestamp(0)),
        (pd.array([None] * N, dtype=pd.ArrowDtype(pyarrow.date32())), dt.date(1970, 1, 1)),
        (pd.array([None] * N, dtype="Int64"), 0),
        (pd.array([None] * N, dtype="string"), "missing"),
        (pd.arrays.SparseArray([np.nan] * N), 0.0),
    ],
)
def test_a_column_without_a_value_keeps_its_dtype_and_the_warning_says_the_value(empty, value):
    table = pd.DataFrame({"x": X, "e": empty})
    with pytest.warns(UserWarning, match=re.escape(f"'e' has no observed value: it is filled with {value}")):
        done = GAINImputer(random_state=0).fit_transform(table)
    assert (done["e"] == value).all() and done["e"].dtype == table["e"].dtype


# ---- transform is given something else than fit --------------------------------------------------


@pytest.mark.parametrize("cell", [np.nan, None, pd.NA])
@pytest.mark.parametrize("more", [[], ["Rome"]])
def test_a_row_whose_text_is_missing_gets_one_of_the_names(cell, more):
    done = fitted(town()).transform(pd.DataFrame({"town": [cell, *more], "size": [0.5] * (1 + len(more))}))
    assert done["town"].iloc[0] in {"Rome", "Oslo", "Lima"} and done["town"].iloc[1:].tolist() == more


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_row_whose_text_is_missing_gets_one_of_the_names_in_arrays_too():
    for row in (np.array([[np.nan, 0.5]]), np.array([[None, 0.5]], object), [[None, 0.5]]):
        done = fitted(town()).transform(row)
        assert done[0, 0] in {"Rome", "Oslo", "Lima"} and done[0, 1] == 0.5


@pytest.mark.parametrize(
    ("fit", "other", "dtype", "values"),
    [
        (["a", "b", None], pd.Categorical(["b", None]), "category", {"a", "b"}),
        (pd.Categorical(["a", "b", None]), pd.Series(["b", None], dtype=object), "object", {"a", "b"}),
        (pd.Categorical(["a", "b", None]), [None, None], pd.CategoricalDtype(["a", "b"]), {"a", "b"}),
        ([True, False, True], [np.nan, np.nan], "bool", {True, False}),
        ([True, False, True], [1.0, np.nan], "float64", {1.0, 0.0}),
        ([True, False, True], pd.array([True, None], dtype="boolean"), "boolean", {True, False}),
        (pd.array([1, 3, None], dtype="Int64"), [1.0, np.nan], "float64", {1.0, 2.0, 3.0}),
        ([1.0, 3.0, None], pd.Categorical([1.0, None]), "category", None),
        ([1.0, 3.0, None], pd.Series(["1.0", None], dtype=object), "object", None),
        ([1e6, 2e6, None], pd.array([1, None], dtype="Int8"), "float64", None),
        (TIMES[:3], [np.nan, np.nan], TIMES.dtype, None),
        (TIMES[:3], TIMES[[0, 2]].as_unit("s"), "datetime64[s]", None),
    ],
)
def test_another_dtype_than_in_fit_is_filled_with_what_it_can_hold(fit, other, dtype, values):
    other = pd.DataFrame({"e": other, "x": [0.5, 0.5]})
    done = fitted(pd.DataFrame({"e": fit, "x": [0.1, 0.5, 0.9]})).transform(other)["e"]
    seen = other["e"].notna()
    assert done[seen].tolist() == other["e"][seen].tolist() and done.notna().all()
    assert done.dtype == dtype
    assert values is None or set(done) <= values


def test_ordered_categories_that_transform_lacks_keep_the_order_of_fit():
    order, gone = pd.CategoricalDtype(["low", "high"], ordered=True), np.array([False, True])
    table = pd.DataFrame({"e": pd.Categorical(["low", "low", "high"], dtype=order)})
    lacking = pd.DataFrame({"e": pd.Categorical(["high", None], ["high"], ordered=True)})
    values = [np.array(["high", "low"], object)]
    assert filled(lacking, gone[:, None], values, list(table.dtypes), False)["e"].dtype == order


@pytest.mark.parametrize(
    ("fit", "other", "message"),
    [
        ([1.0, 2.0], ["blue", None], "column 'e' has 'blue' in row 0, where numbers are wanted"),
        ([1.0, 2.0], TIMES[:2], "has 2020-01-01.* in row 0, where numbers are wanted"),
        (TIMES[:2], ["2020-01-01", None], "has '2020-01-01', and dates in fit"),
        (TIMES[:2], [1.0, 2.0], "has 1.0, and dates in fit"),
        (TIMES[:2], pd.to_timedelta([1, 2]), "a timedelta, and had a datetime in fit"),
        (["a", "b"], [["a"], ["b"]], "unhashable type: 'list'"),
    ],
)
def test_another_kind_than_in_fit_gets_one_line(fit, other, message):
    estimator = fitted(pd.DataFrame({"e": fit, "x": [0.1, 0.9]}))
    with pytest.raises(UserError, match=message) as raised:
        estimator.transform(pd.DataFrame({"e": other, "x": [0.5, 0.5]}))
    assert "\n" not in str(raised.value)


def test_values_that_fit_did_not_see_and_text_of_numbers_are_said():
    with pytest.warns(UserWarning, match="'e' has 2 value.s. that fit did not see, 1 first"):
        fitted(pd.DataFrame({"e": ["a", "b"], "x": X[:2]})).transform(pd.DataFrame({"e": [1, 2], "x": X[:2]}))
    numbers = pd.DataFrame({"e": ["1", "2.5", None], "x": X[:3]})
    with pytest.warns(UserWarning, match="'e' is text that reads as numbers, and counts as categories"):
        fitted(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(numbers, categorical="e")


def test_float16_that_cannot_hold_the_answer_becomes_wider():
    done = fitted(np.array([[1e6, 1.0], [3e6, np.nan]])).transform(np.array([[np.nan, 1.0]], np.float16))
    assert 1e6 <= done[0, 0] <= 3e6 and done[0, 1] == 1


# ---- lists and arrays ----------------------------------------------------------------------------


def test_text_and_dates_in_lists_keep_their_types_and_missing_ones_are_filled():
    done = GAINImputer(random_state=0).fit_transform([["a", 1.0], ["b", np.nan], [None, 3.0]])
    assert done[:2, 0].tolist() == ["a", "b"] and done[2, 0] in {"a", "b"} and 1 <= done[1, 1] <= 3
    days = GAINImputer(random_state=0).fit_transform([[D1, 1], [D2, 2], [None, 1]])
    assert D1 <= days[2, 0] <= D2


def test_text_that_numpy_made_of_missing_values_is_filled_and_nothing_is_cut():
    table = np.array([["long name", "a"], ["long name", "b"], [np.nan, "a"]])
    with pytest.warns(UserWarning, match="1 cell.s. of an array of text say 'nan'"):
        done = GAINImputer(random_state=0).fit_transform(table)
    assert done.dtype.kind == "U" and done[2].tolist() == ["long name", "a"]
    with pytest.warns(UserWarning):  # U4 is too narrow for the name
        assert fitted(np.array(table[:2])).transform(np.array([["None", "a"]]))[0, 0] == "long name"


@pytest.mark.parametrize("kind", [float, int])
def test_the_mask_of_a_masked_array_is_what_is_missing(kind):
    hidden = np.ma.masked_array(np.array([[1, 99], [3, 4], [5, 6]], kind), np.eye(3, 2, 1, bool))
    done = GAINImputer(random_state=0).fit_transform(hidden)
    assert 4 <= done[0, 1] <= 6 and done[1:].tolist() == [[3, 4], [5, 6]]


def test_dates_in_an_array_and_complex_numbers():
    days = np.array([["2020-01-01", "NaT"], ["2020-01-03", "2020-01-04"]], "datetime64[D]")
    done = GAINImputer(random_state=0).fit_transform(days)
    assert done.dtype == days.dtype and done[0, 1] == days[1, 1]
    with pytest.raises(UserError, match="column 'a' has .*1j.* in row 0"):
        fitted(pd.DataFrame({"a": [1j, 2.0]}))


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "categorical", "found"),
    [
        ([2, 1, 0], [2], [0]),
        ([10, 20, 30], [20, 30], [1, 2]),
        ([0, 1, 2], [0, -1], [0, 2]),
        (["a", "b", "c"], [0, "b"], [0, 1]),
        (["a", "b", "ab"], "ab", [2]),
        (["a", "b", "c"], [True, False, True], [0, 2]),
        (["a", "b", "c"], np.array([False, True, False]), [1]),
        (["a", "b", "c"], pd.Index(["c"]), [2]),
    ],
)
def test_a_label_is_a_label_and_a_position_where_no_label_is_a_number(labels, categorical, found):
    table = pd.DataFrame(np.random.default_rng(0).integers(0, 3, (N, 3)), columns=labels)
    kinds = fitted(table, categorical=categorical).columns_.kinds
    assert [j for j, kind in enumerate(kinds) if isinstance(kind, columns.Category)] == found


@pytest.mark.parametrize("categorical", [[0], [-1], [1.0], [True, False], ["10"]])
def test_what_is_no_column_of_integer_labels_is_refused(categorical):
    with pytest.raises(UserError, match="categorical"):
        fitted(pd.DataFrame(np.ones((3, 3)), columns=[10, 20, 30]), categorical=categorical)


def test_integer_labels_in_another_order_and_equal_names_are_refused():
    estimator = fitted(pd.DataFrame({0: [1.0, 2.0], 1: [30.0, 40.0]}))
    with pytest.raises(UserError, match=r"columns \[1, 0\], and \[0, 1\] in fit"):
        estimator.transform(pd.DataFrame({1: [np.nan], 0: [1.0]}))
    with pytest.raises(UserError, match="two columns are named 'x'"):
        fitted(pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]))


# ---- scikit-learn's tools ------------------------------------------------------------------------


def test_it_works_in_pipelines_and_column_transformers():
    row = pd.DataFrame({"town": [np.nan], "size": [0.5]})
    pipeline = make_pipeline(GAINImputer(random_state=0), make_column_transformer((OneHotEncoder(), ["town"])))
    assert pipeline.fit(town()).transform(row).sum() == 1
    both = make_column_transformer((GAINImputer(random_state=0), ["town", "size"])).fit(town())
    assert list(both.get_feature_names_out()) == ["gainimputer__town", "gainimputer__size"]
    assert both.transform(row)[0, 0] in {"Rome", "Oslo", "Lima"}
    fresh: Any = clone(pipeline[0])
    framed = fresh.set_output(transform="pandas").fit(town()).transform(row)
    assert list(framed.columns) == ["town", "size"] and framed["size"].dtype == float


def test_the_container_is_that_of_fit():
    table = pd.DataFrame({"n": [1, 2, 3], "x": [0.1, np.nan, 0.3]})
    estimator = fitted(table)
    for part in (table, table.astype(float), table.iloc[:1].astype(float)):
        assert isinstance(estimator.transform(part), pd.DataFrame)


def test_unfitted_and_wrongly_named_tables_are_refused_as_scikit_learn_does():
    for call in ("transform", "multiple_impute"):
        with pytest.raises(NotFittedError):
            getattr(GAINImputer(), call)(town())
    with pytest.raises(ValueError, match="feature names should match"):
        fitted(town()).transform(town()[["size", "town"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        fitted(town()[["size"]]).transform(town()[["size"]].to_numpy())


def test_identities_are_no_category():
    names = pd.DataFrame({"id": [f"person {i}" for i in range(30)], "age": np.arange(30.0)})
    with pytest.warns(UserWarning, match="'id' has another value in each row, as names and identity numbers have"):
        GAINImputer(steps=1, width=4).fit(names)
