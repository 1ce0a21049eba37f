"""Coefficients, tests, intervals and replicates of generalised models."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_generalized import CASES, WINE, frame_of, rows_of
from scipy import stats
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import (
    GeneralizedLinearMixedModel,
    LinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)
from sklme._engine import glmm
from sklme._engine.covariance import Structure
from sklme.datasets import load_cbpp
from sklme.inference import (
    anova,
    bootstrap,
    coefficient_table,
    compare_models,
    confidence_intervals,
    contrast,
    group_influence,
    leave_one_group_out,
    profile,
    variance_test,
    vcov,
)
from sklme.inference._access import open_model
from sklme.inference._generalized_intervals import EstimatesAt, GeneralizedCurves
from sklme.inference._parameters import parameters_of

# lme4::glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial), and of it
# confint(method = "profile", devtol = 1e-6)
CBPP_PROFILE = {
    "sd (Intercept)|herd": (0.3460732, 1.09997465),
    "(Intercept)": (-1.9012120, -0.94775401),
    "period2": (-1.6167833, -0.40776307),
    "period3": (-1.8010244, -0.51153607),
    "period4": (-2.5007506, -0.80075532),
}
# anova(update(m, . ~ . - period), m); 2 (logLik(m) - logLik(glm without herds)); Wald's chi-square
# of the periods with the Hessian of the deviance after a Newton step (vcov(m) has a rougher one,
# which gives 25.49) and with vcov(m, use.hessian = FALSE)
CBPP_PERIOD_RATIO, CBPP_HERD_RATIO = 25.60994, 14.0052662
CBPP_PERIOD_WALD, CBPP_PERIOD_WALD_KNOWN = 24.948566, 25.312639
# m <- glmmTMB::glmmTMB(count ~ mined + (1 | site), Salamanders, family = nbinom2());
# TMB::tmbroot(m$obj, i): (Intercept), minedno, log of 1 / dispersion, log sd
SALAMANDERS_PROFILE = [
    (-1.97055899, -1.05878850),
    (1.72121394, 2.88118172),
    (-0.676213521, -0.214242704),
    (-1.197327395, -0.154750021),
]


def table_of(name):
    """X as an estimator takes it, y, and the model of a case of R."""
    case = CASES[name]
    design, y, given, _ = rows_of(case)
    X = pd.DataFrame(design.X, columns=list(case["columns"]))
    for group, factor in zip(case["groups"], design.factors, strict=True):
        X[group] = factor.codes
    options = {"family": case["family"], "n_quadrature": case.get("n_quadrature", 1)}
    if case["family"].startswith("zero-inflated"):
        options |= {"family": "poisson", "zero_inflation": ["zeros"]}
        X["zeros"] = given["aux"][0][:, 0]
        options["fixed_effects"] = list(case["columns"])
    if case["trials"]:
        X["trials"], options["trials"] = given["trials"], "trials"
    return X, y, GeneralizedLinearMixedModel(case["groups"], **options)


@cache
def fitted(name):
    X, y, model = table_of(name)
    return X, y, model.fit(X, y)


@cache
def wine():
    frame = frame_of(WINE)
    X = pd.DataFrame(rows_of(WINE)[0].X, columns=list(WINE["columns"]))
    X["judge"] = frame["judge"].to_numpy()
    y = frame["rating"].astype(int).to_numpy()
    return X, y, OrdinalMixedModel("judge").fit(X, y)


@cache
def slopes():
    """Counts with a level and a slope of each group, correlated; the column is far from zero."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(20), 8), rng.normal(3.0, 1.0, 160)
    b = rng.multivariate_normal([0, 0], [[0.6, -0.15], [-0.15, 0.1]], 20)
    y = rng.poisson(np.exp(0.2 + 0.3 * x + b[g, 0] + b[g, 1] * x))
    X = pd.DataFrame({"g": g, "x": x})
    model = GeneralizedLinearMixedModel({"g": ["1", "x"]}, family="poisson")
    return X, y, model.fit(X, y)


# Coefficients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CASES if n != "verbagg"])
def test_standard_errors_are_those_of_r(name):
    X, y, model = fitted(name)
    case, table = CASES[name], coefficient_table(model, X, y)
    rows = ["(Intercept)", *case["columns"]]
    assert_allclose(table.loc[rows, "estimate"], case["fixed"], rtol=1e-4, atol=1e-5)
    assert_allclose(table.loc[rows, "std_error"], case["standard_errors"], rtol=5e-5)
    further = table.drop(index=rows)
    assert_allclose(further["estimate"], np.ravel(case["aux"]), atol=2e-4)
    if "aux_errors" in case:
        assert_allclose(further["std_error"], np.ravel(case["aux_errors"]), rtol=1e-5)
    assert table.attrs["information"] == "observed"
    if "conditional_errors" in case:
        table = coefficient_table(model)
        assert_allclose(table["std_error"], case["conditional_errors"], rtol=1e-5)
        assert table.attrs["information"] == "conditional" and "pass X and y" in table.attrs["note"]


def test_thresholds_come_first():
    X, y, model = wine()
    table = coefficient_table(model, X, y)
    assert list(table.index) == ["1|2", "2|3", "3|4", "4|5", "tempwarm", "contactyes"]
    expected = [*WINE["threshold_errors"], *WINE["standard_errors"]]
    assert_allclose(table["std_error"], expected, rtol=2e-4)
    assert_allclose(table["estimate"], [*WINE["thresholds"], *WINE["fixed"]], atol=2e-4)
    without = coefficient_table(model)
    assert without["std_error"].isna().to_numpy().tolist() == [True] * 4 + [False] * 2


def test_further_parameters_have_no_test_where_zero_means_nothing():
    X, y, model = fitted("salamanders nb2")
    row = coefficient_table(model, X, y).loc["log dispersion"]
    assert row["estimate"] == pytest.approx(np.log(model.dispersion_))
    assert np.isnan(row["p_value"]) and row["lower"] < row["estimate"] < row["upper"]
    X, y, model = fitted("salamanders zip")
    table = coefficient_table(model, X, y)
    assert table.index[-1] == "logit of further zeros: zeros"
    assert table["p_value"].notna().all()


def test_vcov_is_that_of_the_table():
    X, y, model = fitted("cbpp")
    for rows in [(X, y), ()]:
        V, table = vcov(model, *rows), coefficient_table(model, *rows)
        assert_allclose(np.sqrt(np.diag(V)), table["std_error"])
        assert_array_equal(V.index, table.index)


def test_whole_weights_count_rows():
    X, y, _ = fitted("cbpp")
    rng = np.random.default_rng(0)
    w = rng.integers(0, 3, len(y))
    model = table_of("cbpp")[2].fit(X, y, sample_weight=w)
    written = np.repeat(np.arange(len(y)), w)
    Z, z = X.iloc[written], y[written]
    other = table_of("cbpp")[2].fit(Z, z)
    expected = coefficient_table(other, Z, z)["std_error"]
    assert_allclose(
        coefficient_table(model, X, y, sample_weight=w)["std_error"], expected, rtol=1e-5
    )
    with pytest.raises(ValueError, match="fitted with sample_weight: pass it"):
        coefficient_table(model, X, y)
    kinds = [{"sample_weight": w, "X": X, "y": y, "model": model}, {"X": Z, "y": z, "model": other}]
    a, b = (bootstrap(n_bootstraps=3, random_state=0, **kind).replicates for kind in kinds)
    assert_allclose(a, b, atol=1e-3)
    model = table_of("cbpp")[2].fit(X, y, sample_weight=w + 0.5)
    with pytest.raises(ValueError, match="not whole numbers"):
        bootstrap(model, X, y, sample_weight=w + 0.5, n_bootstraps=2)


def test_a_shifted_column_moves_the_intercept_only():
    X, y, model = slopes()
    Z = X.assign(x=10.0 * X["x"] - 70.0)
    other = GeneralizedLinearMixedModel({"g": ["1", "x"]}, family="poisson").fit(Z, y)
    a, b = vcov(model, X, y), vcov(other, Z, y)
    move = np.array([[1.0, 7.0], [0.0, 0.1]])  # new coefficients from the old
    assert_allclose(move @ a @ move.T, b, rtol=1e-3)


# Tests -------------------------------------------------------------------------------------------


def test_wald_tests_of_terms_are_those_of_r():
    X, y, model = fitted("cbpp")
    terms = {"period": ["period2", "period3", "period4"]}
    known = anova(model, terms=terms).loc["period"]
    exact = anova(model, X, y, terms=terms).loc["period"]
    assert known["statistic"] == pytest.approx(CBPP_PERIOD_WALD_KNOWN, rel=1e-3)
    assert exact["statistic"] == pytest.approx(CBPP_PERIOD_WALD, rel=1e-3)
    assert exact["dof"] == 3
    assert exact["p_value"] == pytest.approx(stats.chi2.sf(exact["statistic"], 3))
    joint = contrast(model, {name: {name: 1} for name in terms["period"]}, X, y, joint=True)
    assert joint["statistic"].item() == pytest.approx(exact["statistic"])


def test_types_of_tests_follow_the_information():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(15), 12)
    a, x = (np.arange(180) % 2).astype(float), rng.normal(size=180)
    X = pd.DataFrame({"g": g, "a": a, "x": x, "a:x": a * x})
    y = rng.poisson(np.exp(0.3 * a + 0.2 * x + rng.normal(0, 0.5, 15)[g]))
    model = GeneralizedLinearMixedModel("g", family="poisson").fit(X, y)
    V, b = vcov(model, X, y).to_numpy(), np.append(model.intercept_, model.coef_)
    whole = b[1:] @ np.linalg.solve(V[1:, 1:], b[1:])
    assert anova(model, X, y, kind="I")["statistic"].sum() == pytest.approx(whole)
    second = anova(model, X, y, kind="II")["statistic"]
    P = np.linalg.inv(V)  # the quadratic approximation, minimised without a:x
    reduced, at = np.linalg.inv(P[:3, :3]), np.linalg.solve(P[:3, :3], P[:3] @ b)
    assert second["x"] == pytest.approx(at[2] ** 2 / reduced[2, 2])


def test_contrasts_use_the_rows():
    X, y, model = fitted("cbpp")
    row = contrast(model, {"(Intercept)": 1, "period2": 1}, X, y).iloc[0]
    V = vcov(model, X, y).to_numpy()
    assert row["std_error"] == pytest.approx(np.sqrt(V[:2, :2].sum()))
    assert row["dof"] == np.inf


def test_models_are_compared_as_in_r():
    X, y, model = fitted("cbpp")
    make = lambda **options: GeneralizedLinearMixedModel(
        family="binomial", trials="trials", **options
    ).fit(X, y)
    empty = make(random_effects="herd", fixed_effects=[])
    plain = make(fixed_effects=["period2", "period3", "period4"])
    table = compare_models({"full": model, "empty": empty}, X=X, y=y)
    row = table.loc["full"]
    assert row["statistic"] == pytest.approx(CBPP_PERIOD_RATIO, abs=1e-3)
    assert (row["dof"], row["n_parameters"]) == (3, 5)
    assert_allclose(row[["aic", "bic"]].to_numpy(float), [194.0531328, 204.1798912], atol=1e-3)
    assert table.attrs["criterion"] == "ML" and "Laplace" in table.attrs["note"]
    ratio = compare_models(plain, model).iloc[1]["statistic"]
    assert ratio == pytest.approx(CBPP_HERD_RATIO, abs=1e-3)
    found = variance_test(model, X=X, y=y).iloc[0]
    assert found["statistic"] == pytest.approx(CBPP_HERD_RATIO, abs=1e-3)
    assert found["p_value"] == pytest.approx(0.5 * stats.chi2.sf(CBPP_HERD_RATIO, 1), rel=1e-2)
    assert (found["null"], found["dof"], found["n_simulations"]) == ("mixture", 0, 0)


def test_families_that_contain_each_other_are_tested_others_only_ranked():
    X, y, nb = fitted("salamanders nb2")
    groups, columns = ["site"], list(CASES["salamanders nb2"]["columns"])
    fit = lambda **options: GeneralizedLinearMixedModel(
        groups, fixed_effects=columns, **options
    ).fit(X, y)
    poisson, zeros = fit(family="poisson"), fit(family="poisson", zero_inflation=[])
    assert compare_models(poisson, nb)["statistic"].iloc[1] > 0
    assert compare_models(poisson, zeros)["statistic"].iloc[1] > 0
    one = GeneralizedLinearMixedModel(groups, fixed_effects=columns[:1], family="nb1").fit(X, y)
    table = compare_models(one, nb)
    assert table["statistic"].isna().all() and "no special case" not in table.attrs["note"]
    assert "not a special case" in table.attrs["note"] and table["aic"].notna().all()


def test_links_are_ranked_only():
    X, y, model = fitted("cbpp")
    probit = GeneralizedLinearMixedModel(
        "herd", family="binomial", trials="trials", link="probit", fixed_effects=["period4"]
    ).fit(X, y)
    table = compare_models(probit, model)
    assert table["statistic"].isna().all() and table["aic"].notna().all()


def test_what_does_not_compare():
    X, y, model = fitted("cbpp")
    nine = fitted("cbpp nine nodes")[2]
    with pytest.raises(ValueError, match=r"differ in n_quadrature .1 for 'model 1', 9 for"):
        compare_models(model, nine)
    make = lambda family, z: GeneralizedLinearMixedModel("herd", family=family).fit(X, z)
    counts = make("poisson", y)
    with pytest.raises(ValueError, match="poisson and the gamma family are not both"):
        compare_models(counts, make("gamma", y + 0.5))
    with pytest.raises(TypeError, match="linear or generalised models, not both"):
        compare_models(LinearMixedModel("herd").fit(X, y), counts)
    few = GeneralizedLinearMixedModel("herd").fit(X[:40], y[:40])
    with pytest.raises(ValueError, match="not fitted to the same rows"):
        compare_models(counts, few)
    with pytest.raises(ValueError, match="not the rows that the model was fitted to"):
        compare_models(counts, make("nb2", y), X=X, y=y[::-1])


def test_a_simulated_null_agrees_with_the_mixture():
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"g": np.repeat(np.arange(25), 8)})
    y = rng.poisson(np.exp(0.5 + rng.normal(0, 0.3, 25)[X["g"]]))
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    mixture = variance_test(model, X=X, y=y).iloc[0]
    drawn = variance_test(
        model, X=X, y=y, null="simulated", n_simulations=150, random_state=0
    ).iloc[0]
    assert drawn["statistic"] == mixture["statistic"] and drawn["n_simulations"] == 150
    assert 0.005 < mixture["p_value"] < 0.3
    error = np.sqrt(mixture["p_value"] / 150)
    assert abs(drawn["p_value"] - mixture["p_value"]) < 4 * error


def test_a_variance_of_a_slope_goes_with_its_covariance():
    X, y, model = slopes()
    level = GeneralizedLinearMixedModel("g", fixed_effects=["x"], family="poisson").fit(X, y)
    found = variance_test(model, coefficient="x", X=X, y=y)
    assert found.index == ["x|g"] and found["dof"].item() == 1
    ratio = 2 * (model.log_likelihood_ - level.log_likelihood_)
    assert found["statistic"].item() == pytest.approx(ratio, abs=1e-5)


# Intervals ---------------------------------------------------------------------------------------


def test_profile_intervals_are_those_of_lme4():
    X, y, model = fitted("cbpp")
    table = confidence_intervals(model, X, y, method="profile")
    for name, ends in CBPP_PROFILE.items():
        assert_allclose(table.loc[name, ["lower", "upper"]], ends, atol=1e-4 * np.ptp(ends))


def test_profile_intervals_are_those_of_glmmtmb():
    X, y, _ = fitted("salamanders nb2")
    X = X[["site", "minedno"]]
    model = GeneralizedLinearMixedModel("site", family="nb2").fit(X, y)
    table = confidence_intervals(model, X, y, method="profile")
    fixed = ["(Intercept)", "minedno"]
    ends = table.loc[[*fixed, "dispersion", "sd (Intercept)|site"], ["lower", "upper"]].to_numpy()
    ends[2] = -np.log(ends[2, ::-1])
    ends[3] = np.log(ends[3])
    assert_allclose(ends, SALAMANDERS_PROFILE, atol=1e-3)


def least_by_force(opened, name, value):
    """Least -2 log L with a parameter held at a value, by a general method for constraints."""
    rows = opened.rows
    problem, at = rows.problem, EstimatesAt(opened)
    position = [p.name for p in parameters_of(opened)].index(name)
    start = rows.psi * (1.0 + 1e-3)
    found = minimize(
        lambda psi: -2.0 * problem.at(psi).value,
        start,
        jac=lambda psi: problem.gradient(problem.at(psi)),
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda psi: at(opened.place, psi)[position] - value},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    assert found.success
    return found.fun


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [
        (slopes, "x", 0.45),
        (slopes, "(Intercept)", 0.0),
        (slopes, "sd (Intercept)|g", 0.9),
        (slopes, "sd x|g", 0.2),
        (slopes, "cor x.(Intercept)|g", -0.3),
        (wine, "1|2", -0.9),
        (wine, "3|4", 5.0),
        (wine, "sd (Intercept)|judge", 2.0),
    ],
)
def test_curves_are_the_least_values_by_force(made, name, value):
    X, y, model = made()
    opened = open_model(model, X, y)
    curves = GeneralizedCurves(opened)
    curve, in_data = curves.of(next(p for p in parameters_of(opened) if p.name == name))
    estimate = confidence_intervals(model, parameters=name)["estimate"].item()
    assert float(in_data(curve.estimate)) == pytest.approx(estimate, abs=1e-6)
    expected = least_by_force(opened, name, value) - curves.minimum
    assert curve.rise(np.array([value]))[0] == pytest.approx(expected, abs=2e-5)


def test_further_zeros_are_profiled_too():
    X, y, model = fitted("salamanders zip")
    name = "logit of further zeros: zeros"
    table = confidence_intervals(model, X, y, method="profile", parameters=name)
    wald = confidence_intervals(model, X, y, parameters=name)
    assert_allclose(table, wald, atol=0.25)
    opened = open_model(model, X, y)
    value = table["upper"].item()
    rise = least_by_force(opened, name, value) + 2 * model.log_likelihood_
    assert rise == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-4)


def test_quadrature_has_its_own_profile():
    X, y, nine = fitted("cbpp nine nodes")
    name = "sd (Intercept)|herd"
    ends = confidence_intervals(nine, X, y, method="profile", parameters=name)
    opened = open_model(nine, X, y)
    for end in ends[["lower", "upper"]].to_numpy()[0]:
        rise = least_by_force(opened, name, end) + 2 * nine.log_likelihood_
        assert rise == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-4)
    assert abs(ends["upper"].item() - CBPP_PROFILE[name][1]) > 1e-3


def test_a_variance_at_zero():
    X = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "x": np.arange(60) % 7})
    y = np.random.default_rng(3).poisson(2.0, 60)
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    name = "sd (Intercept)|g"
    assert model.theta_["g"].item() == 0
    row = confidence_intervals(model, X, y, method="profile").loc[name]
    assert row["lower"] == row["estimate"] == 0 < row["upper"]
    wald = confidence_intervals(model, X, y)
    assert wald.loc[name, ["lower", "upper"]].isna().all()
    assert wald.drop(index=name).notna().all(axis=None)
    assert "zero is left out" in coefficient_table(model, X, y).attrs["note"]
    curve = profile(model, name, X, y, n_points=4)
    assert (curve["zeta"] >= 0).all() and curve["zeta"].is_monotonic_increasing
    assert variance_test(model, X=X, y=y)["p_value"].item() == pytest.approx(1.0)


def test_a_profile_is_ordered_and_starts_at_the_fit():
    X, y, model = fitted("cbpp")
    table = profile(model, "period2", X, y, n_points=7, confidence_level=0.95)
    assert table["deviance"].min() == pytest.approx(-2 * model.log_likelihood_, abs=1e-6)
    assert table["value"].is_monotonic_increasing and table["zeta"].is_monotonic_increasing
    assert_allclose(table["zeta"].iloc[[0, -1]], [-1.959964, 1.959964], atol=1e-5)
    ends = CBPP_PROFILE["period2"]
    assert_allclose(table["value"].iloc[[0, -1]], ends, atol=1e-4 * np.ptp(ends))


def test_wald_intervals_of_variances_are_close_to_profiles_for_many_levels():
    rng = np.random.default_rng(8)
    X = pd.DataFrame({"g": np.repeat(np.arange(300), 6), "x": rng.normal(size=1800)})
    b = rng.multivariate_normal([0, 0], [[0.5, 0.2], [0.2, 0.3]], 300)
    y = rng.poisson(np.exp(0.5 + b[X["g"], 0] + (0.2 + b[X["g"], 1]) * X["x"]))
    model = GeneralizedLinearMixedModel({"g": ["1", "x"]}).fit(X, y)
    names = ["sd (Intercept)|g", "cor x.(Intercept)|g", "sd x|g"]
    wald, curve = (
        confidence_intervals(model, X, y, method=method, parameters=names)
        for method in ("wald", "profile")
    )
    width = np.ptp(curve[["lower", "upper"]].to_numpy(), axis=1)
    assert_allclose((wald - curve).to_numpy() / width[:, None], 0.0, atol=0.03)


# Replicates --------------------------------------------------------------------------------------


def test_a_replicate_is_the_fit_to_its_outcome():
    X, y, model = fitted("cbpp")
    opened = open_model(model, X, y)
    simulator = opened.simulator()
    drawn = simulator.draw(np.random.RandomState(4))
    assert ((drawn >= 0) & (drawn <= X["trials"])).all()
    fresh = table_of("cbpp")[2].fit(X, drawn)
    found = simulator.refit(drawn, 1e-6, 100)
    assert found.converged
    assert found.log_likelihood == pytest.approx(fresh.log_likelihood_, abs=1e-6)
    expected = confidence_intervals(fresh)["estimate"]
    assert_allclose(EstimatesAt(opened)(found.place, found.psi), expected, atol=1e-4)


def test_rows_that_became_one_are_drawn_one_by_one():
    rng = np.random.default_rng(6)
    X = pd.DataFrame({"g": rng.integers(0, 12, 900), "a": rng.integers(0, 2, 900)})
    y = (rng.random(900) < 0.4 + 0.2 * X["a"]).astype(int)
    model = LogisticMixedModel("g").fit(X, y)
    opened = open_model(model, X, y)
    assert opened.rows.ready.rows.n == 24
    simulator = opened.simulator()
    drawn = simulator.draw(np.random.RandomState(0))
    assert drawn.shape == (900,) and set(drawn) == {0.0, 1.0}
    fresh = LogisticMixedModel("g").fit(X, drawn)
    found = simulator.refit(drawn, 1e-6, 100)
    assert found.log_likelihood == pytest.approx(fresh.log_likelihood_, abs=1e-6)


def test_replicates_spread_as_the_standard_errors_say():
    rng = np.random.default_rng(9)
    X = pd.DataFrame({"g": np.repeat(np.arange(40), 10), "x": rng.normal(size=400)})
    y = rng.poisson(np.exp(0.5 + rng.normal(0, 0.5, 40)[X["g"]] + 0.3 * X["x"]))
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    result = bootstrap(model, X, y, n_bootstraps=150, random_state=0, statistic=lambda p: p["x"])
    assert list(result.replicates) == ["(Intercept)", "x", "sd (Intercept)|g", "statistic"]
    assert result.n_failed == 0
    errors = coefficient_table(model, X, y)["std_error"]
    assert_allclose(result.table["std_error"].iloc[:2] / errors, 1.0, atol=0.25)
    assert (result.table["bias"].iloc[:2].abs() < 0.3 * errors).all()
    again = confidence_intervals(
        model, X, y, method="bootstrap", n_bootstraps=150, random_state=0, parameters="x"
    )
    assert_allclose(again[["lower", "upper"]], result.table.loc[["x"], ["lower", "upper"]])


def test_levels_are_drawn_whole():
    X, y, model = fitted("cbpp")
    result = bootstrap(model, X, y, kind="cases", n_bootstraps=6, random_state=0)
    rng = np.random.RandomState(0)
    drawn = rng.randint(15, size=15)
    parts = [X.assign(y=y)[X["herd"] == level].assign(herd=i) for i, level in enumerate(drawn)]
    rows = pd.concat(parts, ignore_index=True)
    fresh = table_of("cbpp")[2].fit(rows.drop(columns="y"), rows["y"])
    expected = confidence_intervals(fresh)["estimate"]
    assert_allclose(result.replicates.iloc[0], expected, atol=1e-4)


def test_replicates_of_thresholds_and_progress(capsys):
    X, y, model = wine()
    result = bootstrap(model, X, y, n_bootstraps=3, random_state=0, verbose=1)
    assert list(result.replicates)[3:] == ["1|2", "2|3", "3|4", "4|5"]
    ordered = result.replicates.iloc[:, 3:].dropna().to_numpy()
    assert len(ordered) and (np.diff(ordered, axis=1) > 0).all()
    assert capsys.readouterr().out.startswith("bootstrap: 3 of 3 refits")


# What is given -----------------------------------------------------------------------------------


def test_wrappers_are_opened():
    X, y = load_cbpp(return_X_y=True)
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size")
    double = FunctionTransformer(
        lambda table: table.assign(period=2.0 * table["period"].astype(int))
    )
    pipeline = make_pipeline(double, clone(model)).fit(X, y)
    plain = coefficient_table(model.fit(X, y), X, y)["std_error"]
    assert_allclose(coefficient_table(pipeline, X, y)["std_error"], plain * [1.0, 0.5], rtol=1e-5)
    search = GridSearchCV(model, {"n_quadrature": [1]}, cv=2).fit(X, y)
    assert_allclose(coefficient_table(search, X, y)["std_error"], plain)
    counts = GeneralizedLinearMixedModel("herd", family="gamma")
    halved = FunctionTransformer(lambda z: z / 2 + 1, inverse_func=lambda z: 2 * (z - 1))
    target = TransformedTargetRegressor(clone(counts), transformer=halved).fit(X, y)
    own = counts.fit(X, y / 2 + 1)
    assert_allclose(
        coefficient_table(target, X, y)["std_error"],
        coefficient_table(own, X, y / 2 + 1)["std_error"],
    )


def test_labels_of_any_kind():
    X, y, _ = fitted("cbpp")
    labels = np.where(y > 1, "ill", "healthy")
    model = LogisticMixedModel("herd", fixed_effects=["trials"], class_weight={"ill": 2.0})
    model.set_params(class_weight=None).fit(X, labels)
    other = LogisticMixedModel("herd", fixed_effects=["trials"]).fit(X, labels == "ill")
    assert_allclose(vcov(model, X, labels), vcov(other, X, labels == "ill"))
    weighted = LogisticMixedModel("herd", fixed_effects=["trials"], class_weight={"healthy": 2.0})
    weighted.fit(X, labels)
    assert coefficient_table(weighted, X, labels)["std_error"].notna().all()
    one = LogisticMixedModel("herd", fixed_effects=["trials"]).fit(
        X, labels, sample_weight=np.where(labels == "healthy", 2.0, 1.0)
    )
    assert one.coef_ == pytest.approx(weighted.coef_, abs=1e-5)


def test_models_without_random_effects():
    X, y, _ = fitted("cbpp")
    model = GeneralizedLinearMixedModel(family="nb2", fixed_effects=["trials"]).fit(X, y)
    table = confidence_intervals(model, X, y, method="profile")
    assert list(table.index) == ["(Intercept)", "trials", "dispersion"]
    assert ((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"])).all()
    assert bootstrap(model, X, y, n_bootstraps=2, random_state=0).replicates.notna().all(axis=None)
    with pytest.raises(ValueError, match="no random effects"):
        variance_test(model, X=X, y=y)


def test_the_null_model_keeps_the_family_and_offset():
    X, y, _ = slopes()
    Z = X.assign(exposure=np.log(1.0 + X["g"]))
    make = lambda **options: GeneralizedLinearMixedModel(
        family="nb2", offset="exposure", fixed_effects=["x"], **options
    ).fit(Z, y)
    ratio = 2 * (make(random_effects="g").log_likelihood_ - make().log_likelihood_)
    found = variance_test(make(random_effects="g"), X=Z, y=y)
    assert found["statistic"].item() == pytest.approx(max(ratio, 0.0), abs=1e-5)


def test_other_rows_are_refused():
    X, y, model = fitted("cbpp")
    for rows in [(X, np.minimum(y + 1, X["trials"])), (X[:-1], y[:-1]), (X.assign(herd=0), y)]:
        with pytest.raises(ValueError, match="not the rows that the model was fitted to"):
            coefficient_table(model, *rows)
    with pytest.raises(ValueError, match="needs X and y, and y is missing"):
        coefficient_table(model, X)
    adapted = model.adapt(X[:3].assign(herd=99), y[:3])
    with pytest.raises(ValueError, match="without rows that it has adapted to"):
        coefficient_table(adapted, pd.concat([X, X[:3].assign(herd=99)]), np.append(y, y[:3]))
    assert_allclose(vcov(adapted, X, y), vcov(model, X, y))


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (lambda m, X, y: profile(m, "period2"), ValueError, "profile of .* needs the rows"),
        (lambda m, X, y: bootstrap(m), ValueError, "bootstrap of .* needs the rows"),
        (lambda m, X, y: variance_test(m), ValueError, "variance_test of .* needs the rows"),
        (
            lambda m, X, y: confidence_intervals(m, method="profile"),
            ValueError,
            'method="profile". of .* needs the rows',
        ),
        (lambda m, X, y: variance_test(m, null="exact", X=X, y=y), ValueError, "does not exist"),
        (lambda m, X, y: coefficient_table(m, dof="residual"), ValueError, "are normal"),
        (lambda m, X, y: vcov(m, kind="kenward-roger"), ValueError, 'leave kind="model"'),
        (lambda m, X, y: bootstrap(m, X, y, kind="residual"), TypeError, "not alike: use kind="),
        (lambda m, X, y: group_influence(m), TypeError, "group_influence takes linear"),
        (lambda m, X, y: leave_one_group_out(m, X=X, y=y), TypeError, "cross_val_predict"),
        (lambda m, X, y: coefficient_table(m, output=1), ValueError, "has one output, 0"),
        (lambda m, X, y: coefficient_table(LinearRegression().fit(X, y)), TypeError, "is needed"),
        (lambda m, X, y: profile(m, "sigma", X, y), ValueError, "no parameter 'sigma'"),
    ],
)
def test_one_clear_sentence(ask, error, sentence):
    X, y, model = fitted("cbpp")
    with pytest.raises(error, match=sentence):
        ask(model, X, y)


def test_a_null_of_the_engine_has_the_structure_without_the_coefficient():
    X, y, model = slopes()
    opened = open_model(model, X, y)
    cases = opened.rows.cases
    level = glmm.fit(cases.design, cases.y, opened.fit.family, (Structure(2, ((0,),)),))
    found = variance_test(model, coefficient="x", X=X, y=y)["statistic"].item()
    assert found == pytest.approx(2 * (opened.fit.log_likelihood - level.log_likelihood), abs=1e-6)
