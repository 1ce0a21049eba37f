"""ReliabilitySelector: scikit-learn's checks, what is kept, tables with and without ids."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklme.reliability import ReliabilitySelector, intraclass_correlation

FEATURES = ["volume", "entropy", "busyness", "noise"]
ERRORS = np.array([0.1, 0.4, 1.0, 10.0])


@parametrize_with_checks([ReliabilitySelector()])
def test_sklearn_checks(estimator, check):
    check(estimator)


def make_retest(n=40, seed=0):
    """Text and numbers as ids, before and between the features."""
    rng = np.random.default_rng(seed)
    s = np.repeat(np.arange(n), 2)
    values = rng.normal(size=(n, 4))[s] + ERRORS * rng.normal(size=(2 * n, 4))
    table = pd.DataFrame(values, columns=FEATURES)
    table.insert(0, "patient", [f"p{i}" for i in s])
    table.insert(3, "session", np.tile([1, 2], n))
    return table


@pytest.fixture(scope="module")
def retest():
    return make_retest()


@pytest.fixture(scope="module")
def selector(retest):
    return ReliabilitySelector("patient", "session").fit(retest)


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=FEATURES, index=np.arange(100, 160))
    return X, (X["volume"] - X["entropy"] + rng.normal(size=60)).rename("y")


def test_the_table_is_that_of_the_correlations(retest, selector):
    expected = intraclass_correlation(retest, "patient", "session", form="ICC(A,1)")
    pd.testing.assert_frame_equal(selector.reliability_.drop(columns="selected"), expected)
    assert selector.reliability_.index.tolist() == FEATURES
    assert_allclose(selector.reliability_["icc"][:3], 1 / (1 + ERRORS[:3] ** 2), atol=0.25)


def test_the_lower_limit_counts(retest, selector):
    table = selector.reliability_
    assert_array_equal(table["selected"], table["lower"] >= 0.75)
    between = (table["lower"]["entropy"] + table["icc"]["entropy"]) / 2
    names = {}
    for criterion in ("lower", "estimate"):
        one = clone(selector).set_params(threshold=between, criterion=criterion).fit(retest)
        names[criterion] = one.get_feature_names_out().tolist()
    assert names == {"lower": ["volume"], "estimate": ["volume", "entropy"]}


def test_support_is_over_all_columns(retest, selector):
    mask = retest.columns.isin(selector.get_feature_names_out())
    assert_array_equal(selector.get_support(), mask)
    assert isinstance(selector, SelectorMixin)
    assert selector.n_features_in_ == 6
    assert not mask[[0, 3]].any()
    assert_array_equal(selector.get_feature_names_out(FEATURES), retest.columns[mask])


def test_tables_with_and_without_ids(retest, selector, training):
    kept = selector.get_feature_names_out()
    assert_array_equal(selector.transform(retest), retest[kept])
    X = training[0]
    assert_array_equal(selector.transform(X), X[kept])
    with pytest.raises(ValueError, match="feature names"):
        selector.transform(X[FEATURES[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        selector.transform(X.assign(age=1.0))


def test_arrays_by_position():
    table = make_retest().assign(patient=np.repeat(np.arange(40), 2))
    one = ReliabilitySelector(0, 3).fit(table.to_numpy())
    other = ReliabilitySelector("patient", "session").fit(table)
    assert_array_equal(one.get_support(), other.get_support())
    assert_array_equal(one.transform(table.to_numpy()), other.transform(table))
    assert one.get_feature_names_out().tolist() == [f"x{i}" for i in one.get_support(True)]
    last = ReliabilitySelector(-6, -3).fit(table.to_numpy())
    assert_array_equal(one.get_support(), last.get_support())


def test_output_as_pandas(retest, training):
    X = training[0].astype({"volume": "float32"})
    selector = ReliabilitySelector("patient", "session").set_output(transform="pandas").fit(retest)
    found = selector.transform(X)
    pd.testing.assert_frame_equal(found, X[selector.get_feature_names_out()])
    assert found["volume"].dtype == "float32"


def test_polars(retest, training, selector):
    polars = pytest.importorskip("polars")
    one = ReliabilitySelector("patient", "session").set_output(transform="polars")
    one.fit(polars.DataFrame(retest.to_dict("list")))
    assert_array_equal(one.get_support(), selector.get_support())
    found = one.transform(polars.DataFrame(training[0].to_dict("list")))
    assert isinstance(found, polars.DataFrame)
    assert found.columns == selector.get_feature_names_out().tolist()
    assert_array_equal(found.to_numpy(), selector.transform(training[0]))


def test_frozen_in_a_pipeline(selector, training):
    X, y = training
    model = make_pipeline(FrozenEstimator(selector), StandardScaler(), LinearRegression())
    names = model.fit(X, y)[:-1].get_feature_names_out()
    assert_array_equal(names, selector.get_feature_names_out())
    kept = X[selector.get_feature_names_out()]
    expected = cross_val_score(make_pipeline(StandardScaler(), LinearRegression()), kept, y)
    assert_allclose(cross_val_score(model, X, y), expected)


def test_frozen_beside_other_columns(selector, training):
    X, y = training
    X = X.assign(age=1.0)
    parts = [("radiomics", FrozenEstimator(selector), FEATURES)]
    columns = ColumnTransformer(parts, remainder="passthrough", verbose_feature_names_out=False)
    model = Pipeline([("columns", columns), ("model", LinearRegression())]).fit(X, y)
    expected = [*selector.get_feature_names_out(), "age"]
    assert model[0].get_feature_names_out().tolist() == expected


def test_without_raters_measurements_are_exchangeable(retest):
    selector = ReliabilitySelector("patient").fit(retest.drop(columns="session"))
    expected = intraclass_correlation(retest.drop(columns="session"), "patient", form="ICC(1,1)")
    assert_allclose(selector.reliability_["icc"], expected["icc"])


def test_missing_values_pass(selector, training):
    X = training[0].copy()
    X.iloc[0, 0] = np.nan
    assert np.isnan(selector.transform(X)[0, 0])


def test_nobody_measured_twice_keeps_everything(training):
    X = training[0]
    selector = ReliabilitySelector().fit(X)
    assert_array_equal(selector.transform(X), X)
    assert (selector.reliability_["status"] == "not estimable").all()
    with pytest.raises(ValueError, match='rater names "session", but subject is None'):
        ReliabilitySelector(rater="session").fit(X)


def test_no_feature_passes(retest):
    with pytest.warns(UserWarning, match='the best is "volume" with the lower limit 0.9') as said:
        selector = ReliabilitySelector("patient", "session", threshold=0.9999).fit(retest)
    assert len(said) == 1
    assert selector.transform(retest).shape == (80, 0)


def test_raters_are_no_feature_of_a_form_without_them(retest):
    selector = ReliabilitySelector("patient", "session", form="ICC(1,1)").fit(retest)
    assert selector.reliability_.index.tolist() == FEATURES
    with pytest.raises(ValueError, match='subject and rater are both column "patient"'):
        ReliabilitySelector("patient", "patient").fit(retest)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"subject": "person"}, 'subject names "person", which is not a column of X'),
        ({"rater": "scanner"}, 'rater names "scanner", which is not a column of X'),
        ({"criterion": "upper"}, "criterion is 'upper'"),
        ({"threshold": "good"}, "threshold is 'good'"),
        ({"confidence_level": 95}, "confidence_level is 95"),
        ({"form": "ICC(4)"}, "form"),
    ],
)
def test_bad_input_is_named(retest, options, message):
    with pytest.raises(ValueError, match=message):
        ReliabilitySelector(**{"subject": "patient", "rater": "session", **options}).fit(retest)
