"""Likelihood-ratio tables against R, and the test of a variance against the F test and itself."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_linear import CASES, training_data
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel, adapt
from sklme._engine import at_zero
from sklme.datasets import load_dyestuff, load_dyestuff2, load_pastes, load_sleepstudy
from sklme.inference.comparison import compare_models, variance_test

SLOPES = {"Subject": ["1", "Days"]}


@pytest.fixture(scope="module")
def sleep():
    X, y = load_sleepstudy(return_X_y=True)
    return X, y


@pytest.fixture(scope="module")
def slope(sleep):
    return LinearMixedModel(random_effects=SLOPES).fit(*sleep)


def model(random_effects, X, y, **options):
    return LinearMixedModel(random_effects, **options).fit(X, y)


# --------------------------------------------------------------------------- likelihood ratios


def test_the_table_is_that_of_r(sleep):
    """R: anova(lmer(Reaction ~ Days + (1|Subject), REML = FALSE), the same with (Days|Subject))."""
    table = compare_models(
        model(SLOPES, *sleep, method="ml"), model("Subject", *sleep, method="ml")
    )
    assert list(table.index) == ["model 2", "model 1"]
    assert_allclose(table["n_parameters"], [4, 6])
    assert_allclose(table["aic"], [1802.079, 1763.939], atol=1e-3)
    assert_allclose(table["bic"], [1814.850, 1783.097], atol=1e-3)
    assert_allclose(table["deviance"], [1794.079, 1751.939], atol=1e-3)
    assert_allclose(table["log_likelihood"], [-897.0393, -875.9697], atol=1e-4)
    assert_allclose(table["statistic"], [np.nan, 42.1393], atol=1e-4)
    assert_allclose(table["dof"], [np.nan, 2])
    assert_allclose(table["p_value"], [np.nan, 7.072e-10], rtol=1e-3)
    assert table.attrs["criterion"] == "ML"


def test_reml_with_the_same_fixed_effects_is_compared_as_it_is(sleep, slope):
    table = compare_models(model("Subject", *sleep), slope)
    assert table.attrs["criterion"] == "REML" and "compared as they are" in table.attrs["note"]
    assert_allclose(table["deviance"], [1786.4651, 1743.6283], atol=1e-4)  # lme4's REMLcrit
    assert_allclose(table["statistic"].iloc[1], 42.8368, atol=1e-4)


def test_reml_with_other_fixed_effects_is_refitted(sleep, slope):
    flat = model(SLOPES, *sleep, fixed_effects=[])
    table = compare_models({"flat": flat, "slope": slope})
    ml = [model(SLOPES, *sleep, method="ml", fixed_effects=f) for f in ([], None)]
    assert table.attrs["criterion"] == "ML" and "refitted by ML" in table.attrs["note"]
    assert list(table.index) == ["flat", "slope"]
    assert_allclose(table["log_likelihood"], [m.log_likelihood_ for m in ml], rtol=1e-10)
    assert_allclose(table["p_value"].iloc[1], 1.2256e-06, rtol=1e-4)  # R: anova(flat, slope)


def test_reml_and_ml_together_are_refitted(sleep, slope):
    ml = model("Subject", *sleep, method="ml")
    table = compare_models(ml, slope)
    assert table.attrs["criterion"] == "ML"
    assert_allclose(table["statistic"].iloc[1], 42.1393, atol=1e-4)


def test_frequencies_that_sum_to_the_number_of_rows_are_no_precisions(sleep):
    X, y = sleep
    weights = np.tile([0.5, 1.5], 90)
    reml, ml = (
        LinearMixedModel("Subject", method=method).fit(X, y, sample_weight=weights)
        for method in ("reml", "ml")
    )
    table = compare_models(reml, ml)
    assert_allclose(table["deviance"].iloc[0], table["deviance"].iloc[1], rtol=1e-10)
    assert "refitted by ML, to compare" in table.attrs["note"]


@pytest.mark.parametrize("name", ["weighted_reml", "offset_reml", "pastes_nested_reml"])
def test_refits_keep_weights_offset_and_units(name):
    case = CASES[name]
    X, y, weights = training_data(case)
    reml = LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights)
    arguments = case["model"] | {"method": "ml"}
    ml = LinearMixedModel(**arguments).fit(X, y, sample_weight=weights)
    table = compare_models(reml, ml)
    assert_allclose(table["log_likelihood"], ml.log_likelihood_, rtol=1e-10)


def test_models_of_as_many_parameters_are_not_tested(sleep):
    least = LinearMixedModel().fit(sleep[0][["Days"]], sleep[1])
    table = compare_models(least, model("Subject", *sleep, fixed_effects=[]))
    assert_allclose(table["n_parameters"], [3, 3])
    assert table[["statistic", "p_value"]].isna().all(axis=None)


def test_units_of_y_do_not_matter(sleep):
    X, y = sleep
    a = compare_models(model("Subject", X, y), model(SLOPES, X, y))
    b = compare_models(model("Subject", X, 1e3 * y + 1e6), model(SLOPES, X, 1e3 * y + 1e6))
    assert_allclose(a["statistic"], b["statistic"], rtol=1e-7)


def test_wrapped_models_and_outputs(sleep, slope):
    X, y = sleep
    wrapped = make_pipeline(FunctionTransformer(), LinearMixedModel("Subject")).fit(X, y)
    expected = compare_models(model("Subject", X, y), slope)
    pd.testing.assert_frame_equal(compare_models(wrapped, slope), expected)
    log = TransformedTargetRegressor(LinearMixedModel("Subject"), func=np.log, inverse_func=np.exp)
    with pytest.raises(ValueError, match="same rows, weights and response"):
        compare_models(log.fit(X, y), slope)
    Y = np.column_stack([y[::-1], y])
    both = [model(r, X, Y) for r in ("Subject", SLOPES)]
    pd.testing.assert_frame_equal(compare_models(*both, output=1), expected, rtol=1e-7)


def test_other_data_are_refused(sleep, slope):
    X, y = sleep
    for other in (
        model("Subject", X[:170], y[:170]),
        model("Subject", X, y + 1e-3),
        model("Subject", X, y * (1 + 1e-6)),
        model("Subject", X, np.log(y)),
        LinearMixedModel("Subject").fit(X, y, sample_weight=np.full(180, 2.0)),
    ):
        with pytest.raises(ValueError, match="'a' and 'b' were not fitted to the same rows"):
            compare_models({"a": slope, "b": other})


def test_the_same_data_are_accepted_in_other_forms(sleep, slope):
    X, y = sleep
    order = np.random.default_rng(0).permutation(180)
    for other in (
        model("Subject", X.iloc[order], y.iloc[order]),
        model("Subject", X, y, fit_intercept=False),
        model("Subject", X.assign(o=1.0), y - 0.0, offset="o"),
    ):
        assert len(compare_models(slope, other)) == 2


def test_what_cannot_be_compared(sleep, slope):
    X, y = sleep
    with pytest.raises(ValueError, match="two models or more"):
        compare_models(slope)
    with pytest.raises(TypeError, match="fitted LinearMixedModel is needed"):
        from sklearn.linear_model import LinearRegression

        compare_models(slope, LinearRegression().fit(X, y))
    with pytest.raises(ValueError, match="same rows"):
        compare_models(slope, adapt(slope, X, y + 100))
    with pytest.warns(Warning, match="exactly"):
        constant = [model(r, X, np.ones(180)) for r in ("Subject", SLOPES)]
    with pytest.raises(ValueError, match="reproduces y exactly"):
        compare_models(*constant)


# ------------------------------------------------------------------------- variance at zero


def test_one_way_layout_is_the_f_test():
    """In a balanced layout the ratio grows with F, so that the exact p value is that of F."""
    X, y = load_dyestuff(return_X_y=True)
    groups = [y[X["Batch"] == b] for b in X["Batch"].unique()]
    expected = stats.f_oneway(*groups).pvalue
    table = variance_test(model("Batch", X, y), n_simulations=40_000, random_state=0)
    assert table["null"].item() == "exact" and table["n_simulations"].item() == 40_000
    error = np.sqrt(expected / 40_000)
    assert abs(table["p_value"].item() - expected) < 5 * error
    simulated = variance_test(
        model("Batch", X, y), null="simulated", n_simulations=4000, random_state=0
    )
    assert abs(simulated["p_value"].item() - expected) < 5 * np.sqrt(expected / 4000)


def test_the_statistic_against_no_random_effect_is_that_of_r(sleep):
    """R: 2 * (logLik(lmer(Reaction ~ Days + (1|Subject))) - logLik(lm(...), REML = TRUE))."""
    for method in ("reml", "ml"):
        table = variance_test(model("Subject", *sleep, method=method), random_state=0)
        assert_allclose(table["statistic"], 107.1986, atol=1e-4)
        assert_allclose(table["p_value"], 1 / 10_001)
    assert list(table.index) == ["(Intercept)|Subject"]


def test_the_statistic_is_the_ratio_of_two_fits(sleep, slope):
    X, y = sleep
    for coefficient, without in (("Days", "Subject"), ("(Intercept)", {"Subject": ["Days"]})):
        small = model(without, X, y)
        expected = 2 * (slope.log_likelihood_ - small.log_likelihood_)
        table = variance_test(slope, coefficient=coefficient)
        assert_allclose(table["statistic"], expected, rtol=1e-7)
        half = stats.chi2.sf(expected, [1, 2]).mean()
        assert_allclose(table["p_value"], half)
        assert table["dof"].item() == 1 and table["null"].item() == "mixture"


def test_one_of_several_factors():
    X, y = load_pastes(return_X_y=True)
    keys = ["batch", ("batch", "cask")]
    both = model(keys, X, y, fixed_effects=[])
    for factor, other in zip(keys, keys[::-1], strict=True):
        alone = model([other], X, y, fixed_effects=[])
        expected = 2 * (both.log_likelihood_ - alone.log_likelihood_)
        table = variance_test(both, factor)
        assert_allclose(table["statistic"], expected, atol=1e-7)
        assert_allclose(table["p_value"], 0.5 * stats.chi2.sf(expected, 1))
    assert list(table.index) == ["(Intercept)|batch:cask"]
    mixture = variance_test(both, "batch")["p_value"].item()
    simulated = variance_test(both, "batch", null="simulated", n_simulations=100, random_state=0)
    assert abs(simulated["p_value"].item() - mixture) < 0.2


def test_the_exact_null_is_that_of_refits(sleep):
    """Unbalanced, with a column of X within groups: quantiles by spectrum and by refits."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(7), [2, 3, 3, 4, 5, 6, 9])
    X = pd.DataFrame({"x": rng.normal(size=32) + 0.3 * g, "g": g})
    for random_effects in ({"g": ["1"]}, {"g": ["x"]}):
        fitted = model(random_effects, X, rng.normal(size=32))
        h = at_zero.hypotheses(fitted._fit, 0, 0, 0)
        exact = at_zero.exact_null(h, 40_000, np.random.RandomState(0))
        refits = at_zero.simulated_null(h, 20_000, np.random.RandomState(1))
        assert abs((exact < 1e-6).mean() - (refits < 1e-6).mean()) < 0.02
        for q in (0.8, 0.9, 0.95):
            assert_allclose(np.quantile(exact, q), np.quantile(refits, q), rtol=0.12)


def test_spherical_coefficients_go_together(sleep):
    X, y = sleep
    fitted = model(SLOPES, X, y, covariance_type="spherical")
    table = variance_test(fitted, coefficient="Days", random_state=0)
    none = LinearMixedModel().fit(X[["Days"]], y)
    assert_allclose(table["statistic"], 2 * (fitted.log_likelihood_ - none.log_likelihood_))
    assert table["null"].item() == "exact"


def test_a_variance_at_zero_has_p_of_one():
    X, y = load_dyestuff2(return_X_y=True)
    for null in ("exact", "simulated", "mixture"):
        table = variance_test(model("Batch", X, y), null=null, n_simulations=50, random_state=0)
        assert table["statistic"].item() == 0 and table["p_value"].item() == 1


def test_units_and_seeds(sleep):
    X, y = sleep
    a, b, c = (
        variance_test(model("Subject", X, v), random_state=s, n_simulations=100)
        for v, s in ((y, 0), (100 * y - 5, 0), (y, 0))
    )
    assert_allclose(a["statistic"], b["statistic"], rtol=1e-8)
    pd.testing.assert_frame_equal(a, c)


def test_mixture_by_hand():
    assert_allclose(at_zero.mixture_p_value(2.7055, 0), 0.05, atol=1e-5)
    assert_allclose(at_zero.mixture_p_value(5.1387, 1), 0.05, atol=1e-5)
    assert at_zero.mixture_p_value(0.0, 0) == 1.0
    assert at_zero.mixture_p_value(0.0, 2) == 1.0


def test_progress_is_told(sleep, capsys):
    variance_test(model("Subject", *sleep), null="simulated", n_simulations=20, verbose=1)
    assert "20 of 20 draws" in capsys.readouterr().out


def test_refusals(sleep, slope):
    X, y = sleep
    with pytest.raises(ValueError, match="several coefficients, choose one: '\\(Intercept\\)', 'D"):
        variance_test(slope)
    with pytest.raises(ValueError, match="no coefficient 'Hours'"):
        variance_test(slope, coefficient="Hours")
    with pytest.raises(ValueError, match="no factor 'room'"):
        variance_test(slope, "room")
    with pytest.raises(ValueError, match="other variances or covariances"):
        variance_test(slope, coefficient="Days", null="exact")
    with pytest.raises(ValueError, match="null is 'normal'"):
        variance_test(slope, coefficient="Days", null="normal")
    with pytest.raises(ValueError, match="no random effects"):
        variance_test(LinearMixedModel().fit(X[["Days"]], y))
    with pytest.raises(ValueError, match="n_simulations is 0"):
        variance_test(slope, coefficient="Days", n_simulations=0)
    with pytest.warns(Warning, match="cannot tell"):
        one = model({"Subject": ["1"], "one": ["1"]}, X.assign(one="a"), y)
    with pytest.raises(ValueError, match="cannot tell the variance"):
        variance_test(one, "one")


def test_many_levels_take_the_mixture(sleep, monkeypatch):
    fitted = model("Subject", *sleep)
    monkeypatch.setattr(at_zero, "MOST_LEVELS", 10)
    assert variance_test(fitted)["null"].item() == "mixture"
    with pytest.raises(ValueError, match="more than 10 levels"):
        variance_test(fitted, null="exact")
