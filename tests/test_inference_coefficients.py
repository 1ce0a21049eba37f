"""The coefficient table and the covariance matrix."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_dof import KENWARD_ROGER, SATTERTHWAITE
from reference_linear import CASES, training_data
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel, adapt
from sklme.datasets import load_dyestuff2, load_sleepstudy
from sklme.inference.coefficients import coefficient_table, vcov

COLUMNS = ["estimate", "std_error", "dof", "statistic", "p_value", "lower", "upper"]
SLOPES = {"Subject": ["1", "Days"]}


def sleepstudy():
    return load_sleepstudy(return_X_y=True, as_frame=True)


def of_case(name):
    case = CASES[name]
    X, y, weights = training_data(case)
    return LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights), case


@pytest.mark.parametrize("name", SATTERTHWAITE)
def test_the_table_is_lmertests(name):
    model, case = of_case(name)
    table = coefficient_table(model)
    names = list(case["fixed"])
    estimate = np.array(list(case["fixed"].values()))
    std_error = np.array(case["standard_errors"])
    dof = np.array([SATTERTHWAITE[name][n] for n in names])
    half = stats.t.ppf(0.975, dof) * std_error
    assert list(table.columns) == COLUMNS
    table = table.loc[names]
    assert_allclose(table["estimate"], estimate, rtol=1e-6, atol=1e-8)
    assert_allclose(table["std_error"], std_error, rtol=1e-6)
    assert_allclose(table["dof"], dof, rtol=1e-6)
    assert_allclose(table["statistic"], estimate / std_error, rtol=1e-6)
    p_value = 2 * stats.t.sf(np.abs(estimate / std_error), dof)
    assert_allclose(table["p_value"], p_value, rtol=1e-5)
    assert_allclose(table["lower"], estimate - half, rtol=1e-6, atol=1e-6 * half.max())
    assert_allclose(table["upper"], estimate + half, rtol=1e-6, atol=1e-6 * half.max())


@pytest.mark.parametrize("name", KENWARD_ROGER)
def test_kenward_roger_is_pbkrtests(name):
    model, _ = of_case(name)
    table = coefficient_table(model, dof="kenward-roger")
    expected = np.array([KENWARD_ROGER[name][n] for n in table.index])
    assert_allclose(table[["std_error", "dof"]], expected, rtol=1e-7)
    adjusted = vcov(model, kind="kenward-roger")
    assert_allclose(np.sqrt(np.diag(adjusted)), expected[:, 0], rtol=1e-7)
    assert list(adjusted.index) == list(adjusted.columns) == list(table.index)


@pytest.mark.parametrize("name", ["cake_reml", "sleepstudy_ml", "orthodont_crosslevel_reml"])
def test_vcov_is_lme4s(name):
    model, case = of_case(name)
    names = list(case["fixed"])
    expected = np.array(case["fixed_covariance"])
    found = vcov(model).loc[names, names]
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_residual_and_normal_dof():
    X, y = sleepstudy()
    model = LinearMixedModel(SLOPES).fit(X, y)
    assert (coefficient_table(model, dof="residual")["dof"] == 178).all()
    table = coefficient_table(model, dof="normal", confidence_level=0.9)
    assert np.isinf(table["dof"]).all()
    half = stats.norm.ppf(0.95) * table["std_error"]
    assert_allclose(table["upper"] - table["estimate"], half)
    assert_allclose(table["p_value"], 2 * stats.norm.sf(table["statistic"].abs()))


def test_a_boundary_is_told():
    X, y = load_dyestuff2(return_X_y=True, as_frame=True)
    model = LinearMixedModel("Batch").fit(X, y)
    table = coefficient_table(model)
    assert_allclose(table["dof"], 29.0)  # that of the mean of 30 numbers
    assert table.attrs["at_zero"] == (("Batch", "(Intercept)"),)
    assert "(Intercept) of 'Batch'" in table.attrs["note"]
    kept = coefficient_table(model, dof="kenward-roger")
    assert_allclose(kept["dof"], 5.0)  # that of six batches
    assert "counts" in kept.attrs["note"]
    assert coefficient_table(model, dof="residual").attrs["note"] == ""


def test_without_random_effects_it_is_least_squares():
    X, y = sleepstudy()
    model = LinearMixedModel().fit(X[["Days"]], y)
    expected = stats.linregress(X["Days"], y)
    for dof in ("satterthwaite", "kenward-roger", "residual"):
        row = coefficient_table(model, dof=dof).loc["Days"]
        assert_allclose(row[["estimate", "std_error"]], [expected.slope, expected.stderr])
        assert_allclose(row[["dof", "p_value"]].astype(float), [178, expected.pvalue], rtol=1e-6)


def test_a_dropped_column_keeps_its_row():
    X, y = sleepstudy()
    X = X.assign(twice=2 * X["Days"])
    model = LinearMixedModel(SLOPES, fixed_effects=["Days", "twice"]).fit(X, y)
    table, covariance = coefficient_table(model), vcov(model)
    assert list(table.index) == ["(Intercept)", "Days", "twice"]
    assert table.loc["twice"].isna().all() and not table.loc["Days"].isna().any()
    assert covariance["twice"].isna().all() and covariance.loc["twice"].isna().all()
    plain = LinearMixedModel(SLOPES).fit(X[["Subject", "Days"]], y)
    assert_allclose(table.iloc[:2], coefficient_table(plain), rtol=1e-6)


def test_without_an_intercept():
    X, y = sleepstudy()
    table = coefficient_table(LinearMixedModel("Subject", fit_intercept=False).fit(X, y))
    assert list(table.index) == ["Days"]


def test_a_model_in_wrappers():
    X, y = sleepstudy()
    expected = coefficient_table(LinearMixedModel(SLOPES).fit(X, y))
    pipeline = make_pipeline(FunctionTransformer(), LinearMixedModel(SLOPES))
    wrapped = TransformedTargetRegressor(pipeline, func=np.negative, inverse_func=np.negative)
    pd.testing.assert_frame_equal(coefficient_table(pipeline.fit(X, y)), expected)
    turned = coefficient_table(wrapped.fit(X, y))
    assert_allclose(turned["estimate"], -expected["estimate"])
    assert_allclose(turned["dof"], expected["dof"], rtol=1e-6)
    search = GridSearchCV(LinearMixedModel(SLOPES), {"method": ["reml"]}, cv=2).fit(X, y)
    pd.testing.assert_frame_equal(coefficient_table(search), expected)


def test_several_outputs():
    X, y = sleepstudy()
    model = LinearMixedModel(SLOPES).fit(X, np.column_stack([y, 1e3 * np.log(y)]))
    alone = LinearMixedModel(SLOPES).fit(X, 1e3 * np.log(y))
    for dof in ("satterthwaite", "kenward-roger"):
        found = coefficient_table(model, dof=dof, output=1)
        assert_allclose(found, coefficient_table(alone, dof=dof), rtol=1e-5, atol=1e-12)
    with pytest.raises(ValueError, match="output"):
        coefficient_table(model)


@pytest.mark.filterwarnings("ignore:the model reproduces y exactly")
def test_a_response_that_is_fitted_exactly_has_no_error():
    X, _ = sleepstudy()
    table = coefficient_table(LinearMixedModel("Subject").fit(X, 2.0 * X["Days"]))
    assert_allclose(table["std_error"], 0.0)
    assert_allclose(table["estimate"], [0.0, 2.0], atol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dof": "between"}, "dof is 'between'"),
        ({"confidence_level": 1.0}, "confidence_level"),
        ({"output": 3}, "output is 3"),
    ],
)
def test_arguments_are_checked(arguments, message):
    X, y = sleepstudy()
    model = LinearMixedModel(SLOPES).fit(X, y)
    with pytest.raises(ValueError, match=message):
        coefficient_table(model, **arguments)


def test_kenward_roger_needs_reml():
    X, y = sleepstudy()
    model = LinearMixedModel(SLOPES, method="ml").fit(X, y)
    with pytest.raises(ValueError, match='refit with method="reml"'):
        coefficient_table(model, dof="kenward-roger")
    with pytest.raises(ValueError, match='refit with method="reml"'):
        vcov(model, kind="kenward-roger")
    with pytest.raises(ValueError, match="kind is 'robust'"):
        vcov(model, kind="robust")


def test_an_unfitted_or_adapted_model_is_refused():
    X, y = sleepstudy()
    with pytest.raises(ValueError, match="not fitted"):
        coefficient_table(LinearMixedModel(SLOPES))
    few = X["Subject"] != X["Subject"].iloc[0]
    model = LinearMixedModel(SLOPES).fit(X[few], y[few])
    with pytest.raises(ValueError, match="adapted to more rows"):
        coefficient_table(adapt(model, X[~few], y[~few]))
