"""Intervals and profiles: against R, against dense minimisation, and under changes of units."""

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from numpy.testing import assert_allclose
from reference_linear import CASES, training_data
from reference_profile import PROFILE_CI_95
from scipy import optimize, stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import LinearMixedModel, adapt
from sklme._engine import constrained
from sklme._engine import profile as engine
from sklme._engine.constrained import Linear, Search
from sklme._engine.information import VarianceErrors
from sklme._engine.profile import Profiler, find_ends, triangle
from sklme._engine.simulate import kept_gram, outputs
from sklme.datasets import load_dyestuff, load_dyestuff2, load_penicillin, load_sleepstudy
from sklme.inference.intervals import confidence_intervals, profile

HEIGHT = stats.chi2.ppf(0.95, 1)
SLOPES = {"Subject": ["1", "Days"]}


@pytest.fixture(scope="module")
def sleep():
    X, y = load_sleepstudy(return_X_y=True)
    return X, y, LinearMixedModel(random_effects=SLOPES).fit(X, y)


@pytest.fixture(scope="module")
def small():
    """Seven unbalanced groups with a slope, as table, response and ML fit."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(7), [2, 3, 4, 5, 6, 7, 3])
    x = rng.normal(size=30) + 1
    b = rng.normal(size=(7, 2)) @ np.array([[1.5, 0.4], [0.0, 0.8]])
    y = 2 + x + b[g, 0] + b[g, 1] * x + 0.7 * rng.normal(size=30)
    X = pd.DataFrame({"x": x, "g": g})
    return X, y, LinearMixedModel({"g": ["1", "x"]}, method="ml").fit(X, y)


# ------------------------------------------------------------------------------- against R


@pytest.mark.parametrize("name", PROFILE_CI_95)
def test_profile_intervals_are_those_of_r(name):
    case = CASES[name]
    X, y, weights = training_data(case)
    model = LinearMixedModel(**case["model"]).fit(X, y, sample_weight=weights)
    table = confidence_intervals(model, method="profile")
    expected = pd.DataFrame(PROFILE_CI_95[name], index=["lower", "upper"]).T
    assert set(table.index) == set(expected.index)
    found = table.loc[expected.index, ["lower", "upper"]]
    width = expected["upper"] - expected["lower"]
    assert (found.sub(expected).abs().max(axis=1) / width).max() < 1e-4


def test_wald_intervals_are_those_of_r(sleep):
    table = confidence_intervals(sleep[2])  # R: confint(fit, method = "Wald")
    assert_allclose(table.loc["(Intercept)"], [251.4051, 238.0292, 264.7810], atol=1e-4)
    assert_allclose(table.loc["Days"], [10.46729, 7.437595, 13.496977], atol=1e-5)


# ------------------------------------------------------------------ against the dense model


def dense_deviance(X, y, G, s2, beta=None):
    """-2 log-likelihood at a covariance G in units of the data, with the intercept held or not."""
    terms = [(X["g"].to_numpy(), 7, np.column_stack([np.ones(len(y)), X["x"]]), G / s2)]
    columns = np.column_stack([np.ones(len(y)), X["x"]])
    if beta is not None:
        columns, y = columns[:, 1:], y - beta
    dense = Dense(columns, y, terms, reml=False)
    log_det = np.linalg.slogdet(dense.H)[1]
    return log_det + len(y) * np.log(2 * np.pi * s2) + dense.r2 / s2


def dense_least(X, y, kind, value):
    """The least deviance with one parameter held, by a simplex from several starts."""

    def d(v):
        a, b, sigma = np.exp(v[:3])
        a, b, sigma = (value if kind == k else u for k, u in (("a", a), ("b", b), ("s", sigma)))
        r = value if kind == "r" else np.tanh(v[3])
        G = np.array([[a * a, r * a * b], [r * a * b, b * b]])
        return dense_deviance(X, y, G, sigma**2, value if kind == "intercept" else None)

    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000, "maxfev": 4000}
    starts = ([0.3, -0.2, -0.4, 0.3], [-0.5, -1.0, -0.4, 0.0])
    return min(optimize.minimize(d, s, method="Nelder-Mead", options=options).fun for s in starts)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("a", "sd (Intercept)|g"),
        ("b", "sd x|g"),
        ("r", "cor x.(Intercept)|g"),
        ("s", "sigma"),
        ("intercept", "(Intercept)"),
    ],
)
def test_curves_are_dense_minima(small, kind, name):
    X, y, model = small
    table = profile(model, name, n_points=5, confidence_level=0.99)
    for i in (1, 3, 4):
        expected = dense_least(X, y, kind, table["value"][i])
        assert_allclose(table["deviance"][i], expected, atol=2e-6)


def test_the_intercept_of_a_singular_fit_is_a_dense_root():
    """R's interpolation is off here by 6e-5 of the width."""
    X, y = load_dyestuff2(return_X_y=True)
    model = LinearMixedModel("Batch").fit(X, y)
    codes, n = X["Batch"].factorize()[0], len(y)

    def least(v):
        def d(g):
            dense = Dense(np.zeros((n, 0)), y - v, [(codes, 6, np.ones((n, 1)), [[g]])], reml=False)
            return dense.criterion

        found = optimize.minimize_scalar(
            d, bounds=(0, 5), method="bounded", options={"xatol": 1e-9}
        )
        return min(found.fun, d(0.0))

    bottom = least(y.mean())
    upper = optimize.brentq(lambda v: least(v) - bottom - HEIGHT, y.mean(), y.mean() + 3)
    table = confidence_intervals(model, method="profile", parameters="(Intercept)")
    assert_allclose(table["upper"], upper, rtol=1e-7)
    assert_allclose(table["lower"], 2 * y.mean() - upper, rtol=1e-7)


def test_the_curve_of_least_squares_is_closed_form(sleep):
    X, y, _ = sleep
    X = X[["Days"]]
    model = LinearMixedModel().fit(X, y)
    A = np.column_stack([np.ones(len(y)), X])
    beta, rss = np.linalg.lstsq(A, y, rcond=None)[:2]
    n = len(y)
    half = np.sqrt(rss * np.expm1(HEIGHT / n) * np.linalg.inv(A.T @ A)[1, 1])
    table = confidence_intervals(model, method="profile")
    assert_allclose(table.loc["Days", ["lower", "upper"]], beta[1] + half * [-1, 1], rtol=1e-7)
    s2 = rss[0] / n
    for end in table.loc["sigma", ["lower", "upper"]]:
        assert_allclose(n * (s2 / end**2 - 1 + np.log(end**2 / s2)), HEIGHT, rtol=1e-5)


def test_one_coefficient_alone_can_be_held():
    """With the intercept held no column of X is left, also for many values at once."""
    X, y = load_dyestuff(return_X_y=True)
    table = profile(LinearMixedModel("Batch").fit(X, y), "(Intercept)", n_points=21)
    assert_allclose(table["zeta"], -table["zeta"][::-1], atol=1e-6)
    assert_allclose(table["value"][10], y.mean())


# -------------------------------------------------------------------- information and pieces


def search_of(model, reml=False):
    fit = model._fit
    charts = [triangle(L[0], s, ()) for L, s in zip(fit.Lambdas, fit.structures, strict=True)]
    theta = np.concatenate([t for _, t in charts])[None]
    chart = Linear([basis for basis, _ in charts])
    return Search(kept_gram(fit, 0), chart, theta, reml), theta


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("first", [None, 0])
def test_derivatives_with_the_variance_held(small, reml, first):
    search, theta = search_of(small[2], reml)
    evaluate = search._held(1.7, first)
    theta = theta + 0.1
    at = evaluate(theta, np.zeros(1, int))
    for p in range(theta.size):
        h = 1e-5 * np.eye(theta.size)[p]
        after, before = (evaluate(theta + s * h, np.zeros(1, int)) for s in (1, -1))
        slope = (after.value - before.value) / 2e-5
        assert_allclose(at.gradient[0, p], slope[0], rtol=1e-6, atol=1e-6)
        assert_allclose(
            at.observed[0, p], (after.gradient - before.gradient)[0] / 2e-5, rtol=1e-5, atol=1e-5
        )


def test_derivatives_through_squares(small):
    """Entries that may not be negative are searched as squares."""
    search, theta = search_of(small[2])
    inner, squared = search.solvers[0](search.chart), np.array([0, 2])
    root = np.sqrt(np.abs(theta)) + 0.1

    def evaluate(root):
        at = inner(constrained._squared(root, squared), np.zeros(1, int))
        return constrained._through_squares(at, root, squared)

    assert_allclose(constrained._squared(root, squared)[0], root[0] ** [2, 1, 2])
    assert_allclose(
        constrained._roots(constrained._squared(-root, squared), squared)[0, 0], root[0, 0]
    )
    at = evaluate(root)
    for p, h in enumerate(1e-5 * np.eye(3)):
        after, before = evaluate(root + h), evaluate(root - h)
        slope = (after.value - before.value) / 2e-5
        assert_allclose(at.gradient[0, p], slope[0], rtol=1e-6, atol=1e-6)
        bend = (after.gradient - before.gradient)[0] / 2e-5
        assert_allclose(at.observed[0, p], bend, rtol=1e-5, atol=1e-5)


def test_the_search_of_many_effects_agrees(monkeypatch, small, sleep):
    """Level by level, and for several factors by elimination, as in one dense matrix."""
    X, y = load_penicillin(return_X_y=True)
    crossed = LinearMixedModel(["plate", "sample"]).fit(X, y)
    expected = [confidence_intervals(m, method="profile") for m in (small[2], crossed)]
    wald = [confidence_intervals(m) for m in (small[2], crossed)]
    monkeypatch.setattr("sklme._engine.constrained.MOST", 0)
    monkeypatch.setattr("sklme._engine.small.MOST", 0)
    for m, table, errors in zip((small[2], crossed), expected, wald, strict=True):
        assert_allclose(confidence_intervals(m, method="profile"), table, rtol=1e-5)
        assert_allclose(confidence_intervals(m), errors, rtol=1e-4)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_wald_errors_of_variances_are_those_of_differences(small, method):
    """Delta method by numeric second derivatives of the dense (restricted) deviance."""
    X, y, _ = small
    model = LinearMixedModel({"g": ["1", "x"]}, method=method).fit(X, y)
    G, s2 = model.covariance_["g"], model.residual_variance_
    sd, sigma = np.sqrt(np.diag(G)), np.sqrt(s2)
    center = np.array([*np.log(sd), np.arctanh(G[0, 1] / sd.prod()), np.log(sigma)])
    columns = np.column_stack([np.ones(len(y)), X["x"]])

    def d(v):
        a, b, r, s = *np.exp(v[:2]), np.tanh(v[2]), np.exp(v[3])
        H = np.array([[a * a, r * a * b], [r * a * b, b * b]]) / s**2
        dense = Dense(columns, y, [(X["g"].to_numpy(), 7, columns, H)], reml=method == "reml")
        value = np.linalg.slogdet(dense.H)[1] + dense.n_degrees * np.log(s**2) + dense.r2 / s**2
        return value + (np.linalg.slogdet(dense.XtHX)[1] if method == "reml" else 0.0)

    h, E = 1e-3, np.eye(4)
    hessian = np.array(
        [
            [
                (
                    d(center + h * (p + q))
                    - d(center + h * (p - q))
                    - d(center - h * (p - q))
                    + d(center - h * (p + q))
                )
                / (4 * h * h)
                for p in E
            ]
            for q in E
        ]
    )
    expected = np.sqrt(np.diag(2 * np.linalg.inv(hessian)))
    errors = VarianceErrors(model._fit, 0)
    found = [
        errors.log_sd(0, 0),
        errors.log_sd(0, 1),
        errors.atanh_correlation(0, 0, 1),
        errors.log_sigma(),
    ]
    assert_allclose(found, expected, rtol=1e-4)


def test_wald_intervals_of_variances_are_positive_and_missing_at_a_boundary():
    X, y = load_dyestuff2(return_X_y=True)
    table = confidence_intervals(LinearMixedModel("Batch").fit(X, y))
    assert table.loc["sd (Intercept)|Batch", ["lower", "upper"]].isna().all()
    low, high = table.loc["sigma", ["lower", "upper"]]
    assert_allclose(low * high, table.loc["sigma", "estimate"] ** 2)
    assert_allclose(np.log(high / low), 2 * 1.959964 / np.sqrt(2 * 29), rtol=1e-6)


def test_dof_of_wald_intervals(sleep):
    normal, residual = (confidence_intervals(sleep[2], dof=d) for d in ("normal", "residual"))
    ratio = (residual["upper"] - residual["lower"]) / (normal["upper"] - normal["lower"])
    expected = stats.t.ppf(0.975, 178) / stats.norm.ppf(0.975)
    assert_allclose(ratio[["(Intercept)", "Days"]], expected)
    assert_allclose(ratio[["sigma", "sd Days|Subject"]], 1)


# ------------------------------------------------------------------------------ find_ends


def test_ends_of_known_curves():
    curves = [
        lambda v: v**2,
        lambda v: np.expm1(np.abs(v)) ** 2,
        lambda v: 4 * (np.abs(v) / (1 + np.abs(v))) ** 2,
    ]
    for side in (-1.0, 1.0):
        rise = lambda v: np.array([c(x) for c, x in zip(curves, v, strict=True)])
        found = find_ends(rise, np.zeros(3), side * np.array([5.0, 0.01, 1.0]), 2.25)
        assert_allclose(found, side * np.array([1.5, np.log(2.5), 3.0]), rtol=1e-6)


def test_an_end_that_is_never_reached_is_nan():
    rise = lambda v: np.tanh(np.abs(v))
    assert np.isnan(find_ends(rise, np.zeros(1), np.ones(1), 2.0))[0]


# ------------------------------------------------------------------------------ invariance


@pytest.mark.parametrize("method", ["profile", "wald"])
def test_units_move_the_intervals_along(sleep, method):
    X, y, model = sleep
    moved = LinearMixedModel(random_effects=SLOPES).fit(
        X.assign(Days=X["Days"] * 1000.0), 10 * y + 1e5
    )
    a = confidence_intervals(model, method=method).to_numpy()
    b = confidence_intervals(moved, method=method).to_numpy()
    factor = np.array([10, 0.01, 10, 1, 0.01, 10])[:, None]
    a = a * factor
    a[0] += 1e5
    assert_allclose(b, a, rtol=1e-6)


def test_a_shifted_slope_column_moves_the_intercept_only(sleep):
    X, y, model = sleep
    moved = LinearMixedModel(random_effects=SLOPES).fit(X.assign(Days=X["Days"] - 4), y)
    a, b = (confidence_intervals(m, method="profile") for m in (model, moved))
    same = ["Days", "sd Days|Subject", "sigma"]
    assert_allclose(b.loc[same], a.loc[same], rtol=1e-6)
    assert b.loc["sd (Intercept)|Subject", "lower"] > a.loc["sd (Intercept)|Subject", "upper"] / 2


def test_order_of_rows_and_repeats_as_weights(small):
    X, y, model = small
    order = np.random.default_rng(0).permutation(len(y))
    again = LinearMixedModel({"g": ["1", "x"]}, method="ml").fit(X.iloc[order], y[order])
    a, b = (confidence_intervals(m, method="profile") for m in (model, again))
    assert_allclose(a, b, rtol=1e-6)
    times = np.tile([1, 2, 3], 10)
    twice = np.repeat(np.arange(30), times)
    weighted = LinearMixedModel({"g": ["1", "x"]}).fit(X, y, sample_weight=times.astype(float))
    repeated = LinearMixedModel({"g": ["1", "x"]}).fit(X.iloc[twice], y[twice])
    for method in ("profile", "wald"):
        a, b = (confidence_intervals(m, method=method) for m in (weighted, repeated))
        assert_allclose(a, b, rtol=1e-6)


def test_precision_weights_keep_the_deviance_of_the_model(sleep):
    X, y, _ = sleep
    weights = np.linspace(0.5, 2, len(y))
    model = LinearMixedModel("Subject", method="ml", weight_type="precision")
    model.fit(X, y, sample_weight=weights)
    assert_allclose(profile(model, "Days", n_points=3)["deviance"][1], -2 * model.log_likelihood_)


# ---------------------------------------------------------------------------- the profile


def test_a_profile_is_ordered_and_its_bottom_is_the_ml_fit(sleep):
    X, y, _ = sleep
    ml = LinearMixedModel(random_effects=SLOPES, method="ml").fit(X, y)
    for name, estimate in confidence_intervals(ml)["estimate"].items():
        table = profile(ml, name, n_points=8)
        assert len(table) == 8
        assert (table["value"].diff()[1:] > 0).all() and (table["zeta"].diff()[1:] > 0).all()
        assert_allclose(table.attrs["estimate"], estimate, rtol=1e-5)
        assert_allclose(table["deviance"].min(), -2 * ml.log_likelihood_, rtol=1e-10)
        assert_allclose(table["zeta"].iloc[[0, -1]], [-2.575829, 2.575829], rtol=1e-5)
        assert_allclose(table["deviance"] - table["deviance"].min(), table["zeta"] ** 2, atol=1e-8)


def test_a_reml_model_has_the_profile_of_its_ml_fit(sleep):
    X, y, reml = sleep
    ml = LinearMixedModel(random_effects=SLOPES, method="ml").fit(X, y)
    a, b = (profile(m, "sd Days|Subject", n_points=5) for m in (reml, ml))
    assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_standard_deviation_may_reach_zero():
    X, y = load_dyestuff2(return_X_y=True)
    table = profile(LinearMixedModel("Batch").fit(X, y), "sd (Intercept)|Batch", n_points=5)
    assert table["value"][0] == 0.0 and table["zeta"][0] == 0.0


# ------------------------------------------------------------------- structures and models


@pytest.mark.parametrize("kind", ["diagonal", "spherical"])
def test_other_covariances(small, kind):
    X, y, _ = small
    model = LinearMixedModel({"g": ["1", "x"]}, covariance_type=kind, method="ml").fit(X, y)
    table = confidence_intervals(model, method="profile")
    assert not any(name.startswith("cor") for name in table.index)
    a, b = table.loc["sd (Intercept)|g"], table.loc["sd x|g"]
    assert np.allclose(a, b) == (kind == "spherical")
    h = 1e-4
    for name, (estimate, low, high) in table.iterrows():
        assert low < estimate < high, name
    for end in a[["lower", "upper"]]:  # the likelihood-ratio test just rejects there
        p = Profiler(model._fit, 0)
        rise = p.sd(0, 0).rise(np.array([end / model._fit.frame.y_scale[0]]))
        assert_allclose(rise, HEIGHT, rtol=h)


def test_three_correlated_coefficients():
    case = CASES["machines_reml"]
    X, y, _ = training_data(case)
    model = LinearMixedModel(**case["model"]).fit(X, y)
    table = confidence_intervals(model, method="profile")
    assert list(table.index[3:9]) == [
        "sd (Intercept)|Worker",
        "cor MachineB.(Intercept)|Worker",
        "cor MachineC.(Intercept)|Worker",
        "sd MachineB|Worker",
        "cor MachineC.MachineB|Worker",
        "sd MachineC|Worker",
    ]
    assert ((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"])).all()
    wald = confidence_intervals(model)
    assert_allclose(table.loc["sigma"], wald.loc["sigma"], rtol=0.03)


def test_a_correlation_of_one_and_one_without_variance():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(8), 6)
    x = np.tile(np.arange(6.0), 8)
    b = rng.normal(size=8)
    X = pd.DataFrame({"x": x, "g": g})
    one = LinearMixedModel({"g": ["1", "x"]}).fit(X, b[g] * (1 + x) + 0.1 * rng.normal(size=48))
    low, high = confidence_intervals(one, method="profile").loc["cor x.(Intercept)|g"][1:]
    assert 0.9 < low < 1 and high > 0.999
    noise = rng.normal(size=48)
    noise -= pd.Series(noise).groupby(g).transform("mean").to_numpy()
    none = LinearMixedModel({"g": ["1", "x"]}).fit(X, noise)
    table = confidence_intervals(none, method="profile")
    assert table.loc["sd (Intercept)|g", "lower"] == 0.0
    assert np.isfinite(table[["lower", "upper"]]).all(axis=None)


def test_dropped_and_unidentified_parameters_are_missing():
    X, y = load_sleepstudy(return_X_y=True)
    X = X.assign(twice=2 * X["Days"], one="a")
    with pytest.warns(Warning, match="cannot tell"):
        model = LinearMixedModel({"Subject": ["1", "Days"], "one": ["1"]}).fit(X, y)
    for method in ("wald", "profile"):
        table = confidence_intervals(model, method=method)
        assert table.loc[["twice", "sd (Intercept)|one"], ["lower", "upper"]].isna().all(axis=None)
        assert np.isfinite(table.drop(["twice", "sd (Intercept)|one"])).all(axis=None)
    for name in ("twice", "sd (Intercept)|one"):
        with pytest.raises(ValueError, match="was not estimated"):
            profile(model, name)


def test_outputs_are_asked_for_one_by_one(sleep):
    X, y, model = sleep
    both = LinearMixedModel(random_effects=SLOPES).fit(X, np.column_stack([y[::-1], y]))
    with pytest.raises(ValueError, match="choose one by output"):
        confidence_intervals(both)
    for method in ("wald", "profile"):
        a = confidence_intervals(both, method=method, output=1)
        assert_allclose(a, confidence_intervals(model, method=method), rtol=1e-6)


def test_wrapped_models(sleep):
    X, y, _ = sleep
    pipeline = make_pipeline(FunctionTransformer(), LinearMixedModel(random_effects=SLOPES))
    wrapped = TransformedTargetRegressor(pipeline, func=np.log, inverse_func=np.exp).fit(X, y)
    plain = LinearMixedModel(random_effects=SLOPES).fit(X, np.log(y))
    a, b = (confidence_intervals(m, method="profile") for m in (wrapped, plain))
    assert_allclose(a, b, rtol=1e-7)


def test_bootstrap_intervals_are_those_of_bootstrap(sleep):
    from sklme.inference.resampling import bootstrap

    options = {"n_bootstraps": 50, "random_state": 3, "confidence_level": 0.8}
    table = confidence_intervals(sleep[2], method="bootstrap", **options)
    assert_allclose(table, bootstrap(sleep[2], **options).table[["estimate", "lower", "upper"]])


def test_some_parameters(sleep):
    table = confidence_intervals(sleep[2], method="profile", parameters=["sigma", "Days"])
    assert list(table.index) == ["sigma", "Days"]
    assert list(confidence_intervals(sleep[2], parameters="Days").index) == ["Days"]


def test_levels_nest(sleep):
    narrow, wide = (
        confidence_intervals(sleep[2], method="profile", confidence_level=c) for c in (0.5, 0.99)
    )
    assert (wide["lower"] < narrow["lower"]).all() and (wide["upper"] > narrow["upper"]).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "exact"}, "method is 'exact'"),
        ({"confidence_level": 1.0}, "confidence_level is 1.0"),
        (
            {"parameters": ["day"]},
            "no parameter 'day'; its parameters are '\\(Intercept\\)', 'Days'",
        ),
        ({"dof": "many"}, "dof is 'many'"),
        ({"method": "bootstrap", "kind": "residual"}, "pass X and y"),
    ],
)
def test_bad_arguments(sleep, arguments, message):
    with pytest.raises(ValueError, match=message):
        confidence_intervals(sleep[2], **arguments)


def test_bad_models(sleep):
    X, y, model = sleep
    with pytest.raises(Exception, match="not fitted yet"):
        confidence_intervals(LinearMixedModel("Subject"))
    with pytest.raises(ValueError, match="adapted to more rows"):
        confidence_intervals(adapt(model, X, y + 100), method="profile")
    with pytest.warns(Warning, match="exactly"):
        constant = LinearMixedModel("Subject").fit(X, np.ones(len(y)))
    with pytest.raises(ValueError, match="reproduces y exactly"):
        confidence_intervals(constant, method="profile")
    with pytest.raises(ValueError, match="name of one parameter"):
        profile(model, ["Days", "sigma"])
    with pytest.raises(ValueError, match="n_points"):
        profile(model, "Days", n_points=2)


def test_held_statistics_are_those_of_the_rows():
    """y - X beta with c'beta = v: the same deviance as least squares with the constraint."""
    X, y = load_sleepstudy(return_X_y=True)
    model = LinearMixedModel().fit(X[["Days"]], y)
    statistics = kept_gram(model._fit, 0)
    c = np.array([0.3, -2.0])
    values = np.array([0.1, 0.7])
    repeated = outputs(statistics, np.zeros(2, int))
    left = engine.held(repeated, c, values)
    free = np.linalg.solve(statistics.xx, statistics.xy[:, 0])
    rss = statistics.yy[0] - statistics.xy[:, 0] @ free
    lost = (c @ free - values) ** 2 / (c @ np.linalg.solve(statistics.xx, c))
    found = left.yy - np.einsum("pr,pr->r", left.xy, np.linalg.solve(left.xx, left.xy))
    assert_allclose(found, rss + lost)
