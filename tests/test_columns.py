"""Tables of every kind become the same plain arrays; what has no meaning is refused."""

import io
import pickle
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    parametrize_with_checks,
)
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from sklme import _tables
from sklme._columns import extend_columns, learn_columns, read_columns
from sklme._terms import parse_terms


class LevelMeans(RegressorMixin, BaseEstimator):
    """Least squares on the fixed columns, then the mean residual of each level."""

    def __init__(self, random_effects=None):
        self.random_effects = random_effects

    def fit(self, X, y):
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        terms, ignored = parse_terms(self.random_effects)
        self._columns, rows = learn_columns(self, X, terms, ignored=ignored)
        y = column_or_1d(y, dtype=np.float64, warn=True)
        check_consistent_length(rows.X, y)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or inf.")
        self.coef_ = np.linalg.lstsq(rows.X, y, rcond=None)[0]
        rest = y - rows.X @ self.coef_
        self._means = [
            np.bincount(codes, rest) / np.bincount(codes) / len(rows.codes) for codes in rows.codes
        ]
        return self

    def predict(self, X):
        check_is_fitted(self)
        rows = read_columns(self, X, self._columns)
        means = [
            np.where(codes < 0, 0, mean[codes])
            for mean, codes in zip(self._means, rows.codes, strict=True)
        ]
        return rows.X @ self.coef_ + sum(means, np.zeros(len(rows.X)))


CONFIGURED = [LevelMeans(r) for r in (None, 0, {0: ["1", 1]}, [0, -1], {0: []}, (0, 1))]


@parametrize_with_checks(CONFIGURED)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", CONFIGURED)
def test_column_names_are_checked(estimator):
    check_dataframe_column_names_consistency("LevelMeans", estimator)


def learn(X, random_effects=None, **options):
    estimator = BaseEstimator()
    terms, ignored = parse_terms(random_effects)
    columns, rows = learn_columns(estimator, X, terms, ignored=ignored, **options)
    return estimator, columns, rows


def learn_ids(values):
    """Levels and codes of a table with one column of ids."""
    _, columns, rows = learn(pd.DataFrame({"g": values}), "g")
    return columns.labels(0), rows.codes[0]


def frame():
    return pd.DataFrame(
        {
            "site": ["b", "a", "b", "c"],
            "age": [50, 60, 70, 80],
            "dose": [0.5, 1.5, 2.5, 3.5],
            "scan": [10, 10, 20, 20],
        }
    )


def as_objects(table):
    return table.to_numpy(dtype=object)


def wide(table):
    return pd.concat([table, pd.DataFrame(np.eye(len(table), 12)).add_prefix("c")], axis=1)


def as_lists(table):
    return as_objects(table).tolist()


# What the engine gets --------------------------------------------------------------------------


@pytest.mark.parametrize("container", [frame, lambda: pl.from_pandas(frame())])
def test_a_table_by_name(container):
    estimator, columns, rows = learn(container(), {"site": ["1", "dose"]}, offset="scan")
    assert estimator.n_features_in_ == 4
    assert list(estimator.feature_names_in_) == ["site", "age", "dose", "scan"]
    assert columns.fixed_names == ["age", "dose"]
    assert columns.n_levels == (3,)
    assert_array_equal(columns.labels(0), ["a", "b", "c"])
    assert_array_equal(rows.X, [[50, 0.5], [60, 1.5], [70, 2.5], [80, 3.5]])
    assert_array_equal(rows.codes[0], [1, 0, 1, 2])
    assert_array_equal(rows.slopes[0], [[1, 0.5], [1, 1.5], [1, 2.5], [1, 3.5]])
    assert_array_equal(rows.offset, [10, 10, 20, 20])
    assert rows.codes[0].dtype == np.intp
    assert {rows.X.dtype, rows.slopes[0].dtype, rows.offset.dtype} == {np.dtype(float)}


@pytest.mark.parametrize("container", [frame, as_objects, as_lists, pl.from_pandas])
def test_any_container_by_position(container):
    table = frame() if container is frame else container(frame())
    _, columns, rows = learn(table, {0: ["1", 2]}, offset=-1)
    _, expected, same = learn(frame(), {"site": ["1", "dose"]}, offset="scan")
    assert_array_equal(rows.X, same.X)
    assert_array_equal(rows.codes, same.codes)
    assert_array_equal(rows.slopes, same.slopes)
    assert_array_equal(rows.offset, same.offset)
    assert_array_equal(columns.labels(0), expected.labels(0))


def test_arrays_name_their_fixed_columns_as_scikit_learn_does():
    _, columns, rows = learn(np.arange(12.0).reshape(4, 3), 1)
    assert columns.fixed_names == ["x0", "x2"]
    assert_array_equal(rows.X[0], [0, 2])


@pytest.mark.parametrize("X", [np.array([[1.0], [2.0], [1.0]]), pd.DataFrame({"g": list("bab")})])
def test_a_key_may_be_the_only_column(X):
    estimator, columns, rows = learn(X, 0)
    assert rows.X.shape == (3, 0)
    assert read_columns(estimator, X, columns).X.shape == (3, 0)
    assert columns.fixed_names == []


def test_slopes_need_not_be_fixed_and_a_numeric_key_may():
    _, columns, rows = learn(frame(), {"scan": ["dose"]}, fixed_effects=["age", "scan"])
    assert columns.fixed_names == ["age", "scan"]
    assert_array_equal(rows.X[:, 1], [10, 10, 20, 20])
    assert_array_equal(rows.slopes[0][:, 0], frame()["dose"])


@pytest.mark.parametrize("container", [lambda t: t, pl.from_pandas, as_objects, wide])
@pytest.mark.parametrize(
    "terms", [["1"], [2], ["1", 1], [1, "1"], ["1", 1, 2], ["1", 2, 3], ["1", 3, 2], [3, 1], [1, 3]]
)
def test_slopes_in_any_order(container, terms):
    _, _, rows = learn(container(frame()), {0: terms})
    columns = [np.ones(4) if j == "1" else frame().iloc[:, j] for j in terms]
    assert_array_equal(rows.slopes[0], np.column_stack(columns))
    assert_array_equal(rows.X[:, :3], frame().iloc[:, 1:])


@pytest.mark.parametrize("container", [lambda t: t, pl.from_pandas])
def test_slopes_of_tables_are_not_copied(container):
    _, _, rows = learn(container(frame()), {"site": ["1", "dose"]}, offset="age")
    assert np.shares_memory(rows.slopes[0], rows.X)


def test_ignored_columns_are_nowhere():
    _, columns, rows = learn(frame(), {"site": []})
    assert columns.fixed_names == ["age", "dose", "scan"]
    assert rows.codes == ()


@pytest.mark.parametrize("order", ["C", "F"])
def test_numeric_tables_are_not_copied(order):
    X = np.asarray(np.random.default_rng(0).normal(size=(20, 4)), order=order)
    assert learn(X)[2].X is X or np.shares_memory(learn(X)[2].X, X)
    assert np.shares_memory(learn(X, fixed_effects=[0, 1, 2, 3])[2].X, X)
    assert np.shares_memory(learn(X, 0)[2].X, X)
    table = pd.DataFrame(X, columns=list("abcd"))
    assert np.shares_memory(learn(table)[2].X, table.to_numpy())
    assert np.shares_memory(learn(table, fixed_effects=list("abcd"))[2].X, table.to_numpy())


@pytest.mark.parametrize("p", [3, 30])
@pytest.mark.parametrize("dtype", ["int8", "float32", "bool", "Int64", "Float64", "boolean"])
def test_numbers_of_any_type(p, dtype):
    values = np.arange(4 * p).reshape(4, p) % 2
    table = pd.DataFrame(values).astype(dtype).rename(columns=lambda j: f"x{j}")
    table["g"] = list("abab")
    assert_array_equal(learn(table, "g")[2].X, values)
    assert learn(table, "g")[2].X.dtype == np.float64


def test_numbers_of_several_types_in_a_wide_table():
    table = pd.DataFrame({f"x{j}": [True, False] if j % 2 else [0.5, j] for j in range(12)})
    table["o"] = np.array([1, Decimal(2)], dtype=object)
    table["g"] = ["a", "b"]
    _, _, rows = learn(table, "g")
    assert rows.X.dtype == np.float64
    assert_array_equal(rows.X, table.drop(columns="g").astype(float))


@pytest.mark.parametrize("arrow", ["int64[pyarrow]", "double[pyarrow]", "bool[pyarrow]"])
def test_arrow_backed_numbers(arrow):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"x": pd.Series([1, 0, 1], dtype=arrow), "g": [1, 2, 1]})
    assert_array_equal(learn(table, "g")[2].X, [[1], [0], [1]])
    labels, codes = learn_ids(table["x"])
    assert_array_equal(labels, [0, 1])
    assert_array_equal(codes, [1, 0, 1])


@pytest.mark.parametrize("arrow", ["string[pyarrow]", "large_string[pyarrow]"])
def test_arrow_backed_text(arrow):
    pa = pytest.importorskip("pyarrow")
    kind = {"string[pyarrow]": pa.string(), "large_string[pyarrow]": pa.large_string()}[arrow]
    values = pd.Series(["b", "a"], dtype=pd.ArrowDtype(kind))
    assert learn_ids(values)[0].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match='column "x" of X holds text'):
        learn(pd.DataFrame({"g": [1, 2], "x": values}), "g")


def test_arrow_backed_datetimes():
    pa = pytest.importorskip("pyarrow")
    stamps = pd.to_datetime(["2021-01-01", "2020-01-01"])
    for kind in (pa.timestamp("us"), pa.date32()):
        values = pd.Series(stamps if kind == pa.timestamp("us") else stamps.date)
        assert_array_equal(learn_ids(values.astype(pd.ArrowDtype(kind)))[0], stamps[::-1])


def test_polars_numbers_of_any_type():
    table = pl.DataFrame({"i": [1, 2], "b": [True, False], "g": ["a", "b"]})
    assert_array_equal(learn(table, "g")[2].X, [[1, 1], [2, 0]])


@pytest.mark.parametrize("p", [3, 30])
@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_missing_numbers_are_refused(p, missing):
    table = pd.DataFrame(np.zeros((4, p))).rename(columns=lambda j: f"x{j}")
    table["g"] = list("abab")
    for dtype in ("Int64", "Float64", object):
        table["x1"] = pd.Series([1, missing, 3, 4], dtype=dtype)
        with pytest.raises(ValueError, match="X contains NaN"):
            learn(table, "g")


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Boolean])
def test_missing_polars_numbers_are_refused(dtype):
    X = pl.DataFrame({"x": pl.Series([1, None], dtype=pl.Int64).cast(dtype), "g": ["a", "b"]})
    with pytest.raises(ValueError, match="X contains NaN"):
        learn(X, "g")


# Levels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([10, 9, 10], [9, 10]),
        ([10.0, 9.0, -0.0, 0.0], [0, 9, 10]),
        ([0.5, -1.0, 0.5], [-1, 0.5]),
        (["10", "9", "Z", "a", "é"], ["10", "9", "Z", "a", "é"]),
        ([True, False, True], [False, True]),
        (
            pd.to_datetime(["2021-01-02", "2020-05-05"]),
            pd.to_datetime(["2020-05-05", "2021-01-02"]),
        ),
        (np.array([2, 1], dtype="uint8"), [1, 2]),
        (pd.array([2, 1], dtype="Int64"), [1, 2]),
        (pd.array([True, False], dtype="boolean"), [False, True]),
        (np.array([308, 308.0, np.int64(7), Decimal(7)], dtype=object), [7, 308]),
        (pd.Categorical(["x", "b"], categories=["z", "x", "b"]), ["b", "x"]),
        (pd.Categorical([3, 1, 3], categories=[3, 2, 1]), [1, 3]),
        (np.array([2**63 + 1, 1], dtype="uint64"), [1, 2**63 + 1]),
        (np.array([0.5, 2**53 + 1, 2**53], dtype=object), [0.5, 2**53, 2**53 + 1]),
        (pd.arrays.SparseArray([2, 0, 2]), [0, 2]),
    ],
)
def test_levels_are_sorted_by_value(values, levels):
    labels, codes = learn_ids(values)
    assert list(labels) == list(levels)
    for i, value in enumerate(values):
        assert labels[codes[i]] == value


@pytest.mark.parametrize("dtype", [object, "str", "string[python]", "string[pyarrow]", "category"])
def test_every_text_dtype_is_text(dtype):
    estimator, columns, _ = learn(pd.DataFrame({"g": ["b", "a", "b"]}, dtype=object), "g")
    X = pd.DataFrame({"g": pd.Series(["b", "new", "a"], dtype=dtype)})
    assert_array_equal(read_columns(estimator, X, columns).codes[0], [1, -1, 0])
    assert learn_ids(X["g"])[0].tolist() == ["a", "b", "new"]


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["b", "z", "new", "a"])])
def test_every_polars_text_is_text(dtype):
    estimator, columns, _ = learn(pl.DataFrame({"g": ["b", "a", "b"]}), "g")
    X = pl.DataFrame({"g": pl.Series(["b", "new", "a"], dtype=dtype)})
    assert_array_equal(read_columns(estimator, X, columns).codes[0], [1, -1, 0])


TEXTS = ["b", "", "Zoë", "a\0", "a", "日本", "𝒳", "ￜ", "a" * 40]


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(TEXTS[::-1])])
@pytest.mark.parametrize("same_hash", [False, True])
def test_long_polars_text_is_read_as_short_one(monkeypatch, dtype, same_hash):
    X = pl.DataFrame({"g": pl.Series(TEXTS * 3, dtype=dtype)})[4:]
    short = learn(X, "g")
    monkeypatch.setattr(_tables, "SHORT", 0)
    if same_hash:
        hashes = [len(text) for text in X["g"].cast(pl.String)]
        monkeypatch.setattr(pl.Series, "hash", lambda column: pl.Series(hashes[: len(column)]))
    estimator, columns, rows = learn(X, "g")
    assert columns.labels(0).tolist() == short[1].labels(0).tolist() == sorted(TEXTS)
    assert {type(label) for label in columns.labels(0)} == {str}
    assert_array_equal(rows.codes[0], short[2].codes[0])
    assert_array_equal(read_columns(estimator, X[:7], columns).codes[0], rows.codes[0][:7])
    with pytest.raises(ValueError, match=r"number now \(5 in row 0\)"):
        read_columns(estimator, pl.DataFrame({"g": [5]}), columns)


def test_numpy_text_is_text():
    estimator, columns, _ = learn(np.array([["b"], ["a"]]), 0)
    assert_array_equal(read_columns(estimator, [["a"], ["c"]], columns).codes[0], [0, -1])


SAME_NUMBER = [
    [308, 5],
    [308.0, 5.0],
    np.array([308, 5], dtype="int16"),
    np.array([308, 5], dtype=object),
    np.array([308.0, Decimal(5)], dtype=object),
    pd.array([308, 5], dtype="Int32"),
    pd.Categorical([308, 5]),
]


@pytest.mark.parametrize("first", SAME_NUMBER)
@pytest.mark.parametrize("second", SAME_NUMBER)
def test_numbers_are_equal_by_value(first, second):
    estimator, columns, rows = learn(pd.DataFrame({"g": first}), "g")
    again = read_columns(estimator, pd.DataFrame({"g": second}), columns)
    assert_array_equal(rows.codes[0], [1, 0])
    assert_array_equal(again.codes[0], [1, 0])


def test_a_column_that_met_a_nan_keeps_its_ids():
    estimator, columns, _ = learn(pd.DataFrame({"g": [308, 309]}), "g")
    floats = pd.DataFrame({"g": [309, np.nan, 310]}).dropna()
    assert_array_equal(read_columns(estimator, floats, columns).codes[0], [1, -1])


def test_large_integers_stay_distinct():
    big = 2**53
    estimator, columns, rows = learn(pd.DataFrame({"g": [big, big + 1, big + 2]}), "g")
    assert_array_equal(rows.codes[0], [0, 1, 2])
    floats = pd.DataFrame({"g": [float(big), 0.5, float(big + 2)]})
    assert_array_equal(read_columns(estimator, floats, columns).codes[0], [0, -1, 2])
    extended, rows = extend_columns(estimator, floats, columns)
    assert list(extended.labels(0)) == [big, big + 1, big + 2, 0.5]
    assert_array_equal(rows.codes[0], [0, 3, 2])


def test_datetimes_are_equal_in_any_unit():
    stamps = pd.to_datetime(["2020-01-02 03:04", "1999-01-01 00:00"])
    estimator, columns, _ = learn(pd.DataFrame({"g": stamps.as_unit("s")}), "g")
    nano = pd.DataFrame({"g": stamps.as_unit("ns") + pd.to_timedelta([0, 1], unit="ns")})
    assert_array_equal(read_columns(estimator, nano, columns).codes[0], [1, -1])
    extended, _ = extend_columns(estimator, nano, columns)
    assert len(extended.labels(0)) == 3
    objects = pd.DataFrame({"g": np.array(stamps.to_pydatetime(), dtype=object)})
    assert_array_equal(read_columns(estimator, objects, columns).codes[0], [1, 0])
    polars = pl.DataFrame({"g": stamps.to_pydatetime().tolist()})
    assert_array_equal(read_columns(estimator, polars, columns).codes[0], [1, 0])


def test_dates_are_midnights():
    days = pd.to_datetime(["2020-01-02", "1999-01-01"])
    estimator, columns, _ = learn(pd.DataFrame({"g": days}), "g")
    for X in (pl.DataFrame({"g": days.date.tolist()}), pd.DataFrame({"g": days.date})):
        assert_array_equal(read_columns(estimator, X, columns).codes[0], [1, 0])


@pytest.mark.parametrize(
    "values",
    [
        [date(2020, 1, 1), datetime(2020, 1, 1), np.datetime64("2020-01-01")],
        [Decimal("0.1"), 0.1, np.float64(0.1)],
    ],
)
def test_objects_that_are_one_value_are_one_level(values):
    labels, codes = learn_ids(np.array(values, dtype=object))
    assert len(labels) == 1
    assert_array_equal(codes, [0, 0, 0])


def test_time_zones_are_a_family_of_their_own():
    here = pd.to_datetime(["2020-06-01 12:00"]).tz_localize("Europe/Vienna")
    estimator, columns, _ = learn(pd.DataFrame({"g": here}), "g")
    utc = here.tz_convert("UTC")
    assert_array_equal(columns.labels(0), utc.tz_localize(None))
    for X in (pd.DataFrame({"g": utc}), pl.DataFrame({"g": pl.Series(list(here))})):
        assert read_columns(estimator, X, columns).codes[0] == [0]
    with pytest.raises(ValueError, match="datetime with time zone"):
        read_columns(estimator, pd.DataFrame({"g": utc.tz_localize(None)}), columns)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([308, 309], ["x", "308"], r'number in fit \(for example 308\) and holds text now \("x"'),
        (["308"], [308], r'text in fit \(for example "308"\) and holds number now \(308 in row 0'),
        ([0, 1], [True, False], "number in fit .* holds bool now"),
        ([True, False], [1.0, 0.0], "bool in fit .* holds number now"),
        ([1], pd.to_datetime(["2020-01-01"]), "number in fit .* holds datetime now"),
    ],
)
def test_another_family_is_refused(first, second, message):
    estimator, columns, _ = learn(pd.DataFrame({"g": first}), "g")
    for later in (read_columns, extend_columns):
        with pytest.raises(ValueError, match=f'column "g" held ids of the family {message}'):
            later(estimator, pd.DataFrame({"g": second}), columns)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b", 3], r'mixes text \("a" in row 0\) and number \(3 in row 2\)'),
        ([None, 1, True], r"mixes number \(1 in row 1\) and bool \(True in row 2\)"),
        ([1, 1.5, "x"], r'mixes number \(1 in row 0\) and text \("x" in row 2\)'),
        ([pd.Timestamp("2020"), "2020"], "mixes datetime"),
    ],
)
def test_mixed_families_are_refused(values, message):
    X = pd.DataFrame({"g": np.array(values, dtype=object)})
    for table in (X, X.to_numpy()):
        with pytest.raises(ValueError, match=message):
            learn(table, 0)
    with pytest.raises(ValueError, match=message):
        learn(X, {"g": []})


def test_mixed_categories_name_rows_of_the_table():
    values = pd.Categorical(["a", "a", 3], categories=[3, "a"])
    with pytest.raises(ValueError, match=r'\(3 in row 2\) and text \("a" in row 0\)'):
        learn_ids(values)


MISSING = [
    np.array(["a", None, "b"], dtype=object),
    np.array(["a", np.nan, "b"], dtype=object),
    [1.0, np.nan, 2.0],
    pd.array([1, pd.NA, 2], dtype="Int64"),
    pd.array(["a", None, "b"], dtype="str"),
    pd.Categorical(["a", None, "b"]),
    pd.to_datetime(["2020", None, "2021"]),
    np.array([1, pd.NA, "a"], dtype=object)[[1, 1, 1]],
]


@pytest.mark.parametrize("values", MISSING)
def test_missing_ids_are_refused(values):
    values = pd.Series(values)
    X = pd.DataFrame({"g": values})
    row = int(values.isna().to_numpy().argmax())
    message = f'column "g" has a missing id .* in row {row}'
    for random_effects in ("g", {"g": []}):
        with pytest.raises(ValueError, match=message):
            learn(X, random_effects)
    if row:
        estimator, columns, _ = learn(X.dropna(), "g")
        for later in (read_columns, extend_columns):
            with pytest.raises(ValueError, match=message):
                later(estimator, X, columns)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String, pl.Categorical, pl.Float64, pl.Boolean])
@pytest.mark.parametrize("short", [0, _tables.SHORT])
def test_polars_nulls_are_refused(monkeypatch, dtype, short):
    monkeypatch.setattr(_tables, "SHORT", short)
    X = pl.DataFrame({"g": pl.Series([1, None, 0]).cast(pl.Int64).cast(pl.Boolean).cast(pl.Int64)})
    X = X.cast(pl.String).cast(dtype) if dtype == pl.Categorical else X.cast(dtype)
    with pytest.raises(ValueError, match=r'column "g" has a missing id .* in row 1'):
        learn(X, "g")


def test_masked_entries_are_refused():
    X = np.ma.masked_equal([[1.0, 2.0], [3.0, 9.0]], 9.0)
    for random_effects in (None, 0, 1):
        with pytest.raises(ValueError, match=r"column 1 has a missing \(masked\) entry in row 1"):
            learn(X, random_effects)


def test_infinite_ids_are_refused():
    for values in ([0.5, np.inf], np.array([2**60, -np.inf], dtype=object)):
        with pytest.raises(ValueError, match=r"infinite id .* in row 1"):
            learn_ids(values)


@pytest.mark.parametrize("random_effects", [None, 0, 1, {0: []}, (0, 1)])
def test_a_dict_is_neither_number_nor_id(random_effects):
    X = np.ones((4, 2), dtype=object)
    X[1, 0] = {"foo": "bar"}
    with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
        learn(X, random_effects)


@pytest.mark.parametrize(
    "values", [pd.to_timedelta([1, 2]), pd.period_range("2020", periods=2), [b"a", b"b"], [1j, 2]]
)
def test_what_cannot_be_an_id_is_refused(values):
    with pytest.raises((TypeError, ValueError), match=r"an id argument must be|Complex data"):
        learn_ids(values)


# Combinations ----------------------------------------------------------------------------------


def rooms():
    return pd.DataFrame({"room": ["b", "a", "b", "a"], "child": [1, 1, 2, 1]})


def test_combinations_that_occur_are_levels():
    estimator, columns, rows = learn(rooms(), ["room", ("room", "child")])
    assert columns.labels(1).tolist() == [["a", 1], ["b", 1], ["b", 2]]
    assert columns.labels(1).dtype == object
    assert_array_equal(rows.codes[1], [1, 0, 2, 0])
    assert_array_equal(rows.codes[0], [1, 0, 1, 0])
    X = pd.DataFrame({"room": ["a", "a", "c"], "child": [2, 1, 1]})
    again = read_columns(estimator, X, columns)
    assert_array_equal(again.codes[0], [0, 0, -1])
    assert_array_equal(again.codes[1], [-1, 0, -1])


def test_nanoseconds_survive_in_labels_of_combinations():
    stamp = pd.Timestamp("2020-01-01 00:00:00.000000001")
    _, columns, _ = learn(pd.DataFrame({"t": [stamp], "g": ["a"]}), ("t", "g"))
    assert columns.labels(0)[0, 0] == stamp.to_datetime64()


def test_many_columns_in_one_combination():
    rng = np.random.default_rng(0)
    X = rng.permuted(np.tile(np.arange(3000.0)[:, None], 8), axis=0)  # 3000**8 > 2**63
    estimator, columns, rows = learn(X, tuple(range(8)))
    assert_array_equal(columns.labels(0)[rows.codes[0]].astype(float), X)
    assert_array_equal(read_columns(estimator, X[::-1], columns).codes[0], rows.codes[0][::-1])


def test_a_column_of_two_factors_is_read_once(monkeypatch):
    seen = []
    original = pd.factorize
    monkeypatch.setattr(pd, "factorize", lambda v, **k: seen.append(v) or original(v, **k))
    learn(pd.DataFrame({"room": ["b", "a"], "child": [1.5, 2.5]}), ["room", "child"])
    alone = len(seen)
    learn(
        pd.DataFrame({"room": ["b", "a"], "child": [1.5, 2.5]}),
        ["room", "child", ("room", "child")],
    )
    assert sum(getattr(v, "dtype", None) == np.float64 for v in seen[alone:]) == 1


# Unknown and new levels ------------------------------------------------------------------------


def test_unknown_levels_are_refused_on_demand():
    estimator, columns, _ = learn(frame(), "site")
    X = frame().assign(site=["a", "h9", "h7", "h9"])
    assert_array_equal(read_columns(estimator, X, columns).codes[0], [0, -1, -1, -1])
    with pytest.raises(ValueError, match=r'column "site".* "h9", "h7"; the first is in row 1'):
        read_columns(estimator, X, columns, handle_unknown="error")
    known = read_columns(estimator, frame(), columns, handle_unknown="error")
    assert_array_equal(known.codes[0], [1, 0, 1, 2])


def test_unknown_combinations_are_refused_on_demand():
    estimator, columns, _ = learn(rooms(), ("room", "child"))
    X = pd.DataFrame({"room": ["a", "a"], "child": [1, 2]})
    with pytest.raises(ValueError, match=r'"room" and column "child".*\("a", 2\).*in row 1'):
        read_columns(estimator, X, columns, handle_unknown="error")


def test_long_lists_of_unknown_levels_are_cut():
    estimator, columns, _ = learn(np.zeros((2, 1)), 0)
    with pytest.raises(ValueError, match=r"1, 2, 3, 4, 5, \.\.\."):
        read_columns(estimator, np.arange(1, 50.0)[:, None], columns, handle_unknown="error")


def test_new_levels_stand_behind_the_known_ones():
    estimator, columns, _ = learn(rooms(), ["room", ("room", "child")])
    X = pd.DataFrame({"room": ["d", "a", "c", "d"], "child": [1, 2, 1, 1]})
    extended, rows = extend_columns(estimator, X, columns)
    assert extended.labels(0).tolist() == ["a", "b", "c", "d"]
    assert extended.labels(1).tolist() == [
        *[["a", 1], ["b", 1], ["b", 2]],
        *[["a", 2], ["c", 1], ["d", 1]],
    ]
    assert_array_equal(rows.codes[0], [3, 0, 2, 3])
    assert_array_equal(rows.codes[1], [5, 3, 4, 5])
    assert columns.n_levels == (2, 3)
    assert_array_equal(read_columns(estimator, X, extended).codes, rows.codes)
    again, _ = extend_columns(estimator, pd.DataFrame({"room": ["bb"], "child": [9]}), extended)
    assert again.labels(0).tolist() == ["a", "b", "c", "d", "bb"]


def test_extending_by_known_levels_changes_nothing():
    estimator, columns, rows = learn(rooms(), ["room", ("room", "child")])
    extended, again = extend_columns(estimator, rooms(), columns)
    assert extended.n_levels == columns.n_levels
    assert_array_equal(again.codes, rows.codes)


def test_a_plain_table_extends_to_itself():
    X = np.arange(6.0).reshape(3, 2)
    estimator, columns, _ = learn(X)
    extended, rows = extend_columns(estimator, X, columns)
    assert extended is columns
    assert_array_equal(rows.X, X)


def test_columns_are_picklable_and_small():
    ids = [f"p{i}" for i in range(1000)]
    X = pd.DataFrame({"g": ids, "x": np.zeros(1000)})
    estimator, columns, rows = learn(X, {"g": ["1", "x"]})
    before = len(pickle.dumps(columns))
    read_columns(estimator, X, columns)
    assert len(pickle.dumps(columns)) == before < 20_000
    again = pickle.loads(pickle.dumps(columns))
    assert_array_equal(read_columns(estimator, X, again).codes, rows.codes)
    assert_array_equal(again.labels(0), columns.labels(0))


# Refusals --------------------------------------------------------------------------------------

NOBODYS = {
    "text": ["m", "f"],
    "categories": pd.Categorical(["m", "f"]),
    "dates or times": pd.to_datetime(["2020", "2021"]),
}


@pytest.mark.parametrize("what", NOBODYS)
@pytest.mark.parametrize("random_effects", [None, "site", {"site": []}])
def test_text_that_is_nobodys_is_refused(what, random_effects):
    X = pd.DataFrame({"site": [1, 2], "sex": NOBODYS[what]})
    message = (
        rf'column "sex" of X holds {what} .*\[\("code", OneHotEncoder\(drop="first"\), \["sex"\]\)'
        r'\], remainder="passthrough".*\{"sex": \[\]\}'
    )
    for table in (X, pl.from_pandas(X)):
        with pytest.raises(ValueError, match=message):
            learn(table, random_effects)


@pytest.mark.parametrize("values", [["m", "f"], ["1", "2"], ["m", 1]])
def test_text_of_object_arrays_is_refused(values):
    X = np.column_stack([np.array([1, 2], dtype=object), np.array(values, dtype=object)])
    with pytest.raises(ValueError, match="column 1 of X holds text"):
        learn(X, 0)


def test_labels_that_are_no_names_are_told_by_position():
    X = pd.DataFrame({5: [1, 2], 7: ["a", "b"]})
    with pytest.raises(ValueError, match=r"column 1 of X holds text .*\{1: \[\]\}"):
        learn(X, 0)
    assert learn(X, {1: []})[1].fixed_names == ["x0"]


def test_text_that_comes_later_is_refused():
    estimator, columns, _ = learn(frame(), "site")
    with pytest.raises(ValueError, match='column "age" of X holds text'):
        read_columns(estimator, frame().assign(age="old"), columns)


def test_text_keys_cannot_be_fixed_or_slopes():
    for random_effects, fixed in (
        ("site", ["age", "site"]),
        ({"scan": ["site"], "site": ["1"]}, None),
    ):
        with pytest.raises(ValueError, match='column "site" holds text: that can be a key'):
            learn(frame(), random_effects, fixed_effects=fixed)
    with pytest.raises(ValueError, match='column "site" of X holds text'):
        learn(frame(), None, offset="site")


def test_unknown_names_show_what_there_is():
    message = r'names "sit", which is not a column of X; X has \[.*\]; did you mean "site"\?'
    with pytest.raises(ValueError, match=message):
        learn(frame(), "sit")
    with pytest.raises(ValueError, match="no column names"):
        learn(np.ones((3, 2)), "site")


@pytest.mark.parametrize("random_effects", [None, 0, [0, 1], {0: []}])
class TestScikitLearnMessages:
    def refused(self, X, random_effects, message, error=ValueError):
        with pytest.raises(error, match=message):
            learn(X, random_effects)

    def test_one_dimension(self, random_effects):
        self.refused(np.ones(5), random_effects, "Reshape your data")
        self.refused([1.0, 2.0], random_effects, "Reshape your data")

    def test_empty(self, random_effects):
        names = pd.DataFrame(np.ones((0, 3)), columns=list("abc"))
        for X in (np.ones((0, 3)), names, pl.from_pandas(names)):
            self.refused(
                X, random_effects, r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1"
            )
        for X in (np.ones((3, 0)), pd.DataFrame(index=range(3))):
            self.refused(X, random_effects, r"0 feature\(s\)")

    def test_sparse(self, random_effects):
        self.refused(sparse.eye_array(3), random_effects, "[Ss]parse", TypeError)

    def test_complex(self, random_effects):
        X = np.ones((3, 2)) * 1j
        self.refused(X, random_effects, "Complex data not supported")
        self.refused(pd.DataFrame(X, columns=["a", "b"]), random_effects, "Complex data not supp")

    @pytest.mark.parametrize("column", [0, 1, 2])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, random_effects, column, value):
        X = np.random.default_rng(0).normal(size=(5, 3))
        X[2, column] = value
        for table in (X, pd.DataFrame(X, columns=list("abc")), X.astype(object), X.tolist()):
            self.refused(table, random_effects, "NaN|inf")

    @pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
    def test_width_and_names(self, random_effects):
        estimator, columns, _ = learn(
            pd.DataFrame(np.ones((3, 3)), columns=list("abc")), random_effects
        )
        for later in (read_columns, extend_columns):
            with pytest.raises(
                ValueError, match="X has 2 features, but BaseEstimator is expecting 3"
            ):
                later(estimator, np.ones((3, 2)), columns)
            with pytest.raises(ValueError, match="feature names should match"):
                later(estimator, pd.DataFrame(np.ones((3, 3)), columns=list("abd")), columns)


def test_input_is_not_changed():
    X = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 3)))
    X.setflags(write=False)
    before = X.copy()
    estimator, columns, rows = learn(X, {0: ["1", 1]})
    assert_array_equal(read_columns(estimator, X, columns).codes, rows.codes)
    assert_array_equal(X, before)


# Properties ------------------------------------------------------------------------------------

IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**64), min_size=1),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.lists(st.integers(-5, 5) | st.floats(-5, 5) | st.integers(2**53, 2**53 + 3), min_size=1),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=3), min_size=1),
    st.lists(st.booleans(), min_size=1),
)


def object_table(ids):
    column = np.empty(len(ids), dtype=object)
    column[:] = ids
    return pd.DataFrame({"g": column})


@given(ids=IDS, random=st.randoms())
@settings(max_examples=150, deadline=None)
def test_levels_do_not_depend_on_the_order_of_rows(ids, random):
    shuffled = list(range(len(ids)))
    random.shuffle(shuffled)
    _, columns, rows = learn(object_table(ids), "g")
    _, again, permuted = learn(object_table([ids[i] for i in shuffled]), "g")
    assert list(columns.labels(0)) == sorted(set(ids))
    assert list(again.labels(0)) == list(columns.labels(0))
    assert_array_equal(permuted.codes[0], rows.codes[0][shuffled])
    assert [columns.labels(0)[c] for c in rows.codes[0]] == ids


@given(ids=IDS, cut=st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_extending_knows_what_learning_all_would(ids, cut):
    estimator, columns, _ = learn(object_table(ids[:cut]), "g")
    extended, rows = extend_columns(estimator, object_table(ids), columns)
    assert [extended.labels(0)[c] for c in rows.codes[0]] == ids
    assert len(extended.labels(0)) == len(set(ids))
    assert list(extended.labels(0)[: len(columns.labels(0))]) == list(columns.labels(0))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), min_size=1),
    random=st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_combinations_do_not_depend_on_the_order_of_rows(pairs, random):
    X = pd.DataFrame(pairs, columns=["n", "t"])
    shuffled = list(range(len(pairs)))
    random.shuffle(shuffled)
    estimator, columns, rows = learn(X, ("n", "t"))
    assert [tuple(label) for label in columns.labels(0)] == sorted(set(pairs))
    again = read_columns(estimator, X.iloc[shuffled], columns)
    assert_array_equal(again.codes[0], rows.codes[0][shuffled])


def by_csv(table):
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


@pytest.mark.parametrize("there", [lambda t: t, as_objects, as_lists, pl.from_pandas, by_csv])
@pytest.mark.parametrize("back", [lambda t: t, as_objects, as_lists, pl.from_pandas, by_csv])
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
def test_round_trips(there, back):
    table = pd.DataFrame(
        {"site": ["b", "a", "é", "a"], "n": [3, 2**53 + 1, 2**53, 3], "x": [0.1, 0.2, 0.3, 1e-9]}
    )
    estimator, columns, rows = learn(there(table), [0, 1, (0, 1)])
    again = read_columns(estimator, back(table), columns)
    assert_array_equal(again.codes, rows.codes)
    assert_allclose(again.X, rows.X, rtol=0)
    assert min(codes.min() for codes in again.codes) == 0
