"""Residuals, prediction errors and predictive checks: by brute force, and under the model."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, stats

from sklme._engine.nlme.conditional import condition, residuals
from sklme._engine.nlme.data import Data
from sklme._engine.nlme.discrepancies import limits, prediction_errors
from sklme._engine.nlme.parameters import Parameters
from sklme._engine.nlme.simulate import simulate
from sklme.datasets import load_orange, load_theophylline
from sklme.nonlinear import NonlinearMixedModel, Parameter
from sklme.nonlinear._bins import equal_counts, read_bins, which_bin
from sklme.nonlinear.predictive_check import visual_predictive_check
from sklme.nonlinear.residuals import residual_table

START = {"ka": 1.5, "CL": 2.7, "V": 30.0}


def oral(time, ka, CL, V, dose):
    k = CL / V
    return dose * ka / V / (ka - k) * (np.exp(-k * time) - np.exp(-ka * time))


@pytest.fixture(scope="module")
def theophylline():
    X, y = load_theophylline(return_X_y=True)
    X["dose"] = X["Dose"] * X["Wt"]
    X["heavy"] = np.where(X["Wt"] > 70, "heavy", "light")
    model = NonlinearMixedModel(oral, START, group="Subject", time="Time", error="combined")
    return model.fit(X, y), X, y


class Oral:
    """The structure of many subjects with one dose, on the same times."""

    def __init__(self, time):
        self.time = time

    def __call__(self, psi, subjects=None):
        return oral(self.time, *np.moveaxis(psi, -1, 0), 300.0) + 0.0 * psi[..., 0]


def population(n_subjects=300, time=(0.5, 1.0, 3.0, 8.0, 24.0), error="combined"):
    """A record without observations, and parameters."""
    N, n, q = n_subjects, len(time), 3
    C = np.broadcast_to(np.eye(q), (N, 1, q, q)).copy()
    data = Data(
        Oral(np.array(time)),
        np.ones((N, n)),
        np.ones((N, n), bool),
        C,
        C.copy(),
        ("exp",) * q,
        (error,),
    )
    sigma = {"combined": [0.3, 0.1], "lognormal": [0.2]}[error]
    beta = np.log([1.5, 2.7, 30.0])
    return data, Parameters(beta, np.diag([0.1, 0.05, 0.03]), np.array(sigma))


def observed(data, parameters, seed=0, censored=None):
    """The record with simulated observations, those below a limit censored."""
    y = simulate(data, parameters, 1, np.random.RandomState(seed))[0]
    parts = (data.mask, data.C, data.B, data.links, data.errors)
    if censored is None:
        return Data(data.structure, y, *parts)
    below = y < censored
    return Data(data.structure, np.where(below, censored, y), *parts, censored=below)


# Residuals -------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_model(theophylline):
    model, X, y = theophylline
    table = residual_table(model)
    assert_allclose(table["PRED"], model.predict_population(X))
    assert_allclose(table["IPRED"], model.predict(X))
    assert_array_equal(table["observed"], y)
    assert_array_equal(table["subject"], X["Subject"])
    assert_array_equal(table["time"], X["Time"])
    assert_allclose(table["RES"], y - table["PRED"])
    a, b = model.error_["additive"], model.error_["proportional"]
    sd = np.hypot(a, b * table["IPRED"])
    assert_allclose(table["IWRES"], (y - table["IPRED"]) / sd, atol=1e-10)


def brute_force(model, X, y, subject, eta):
    """V^-1/2 (y - mean) of a subject, linearised at eta by central differences."""
    own = (X["Subject"] == subject).to_numpy()
    time, dose, y = (np.asarray(c)[own] for c in (X["Time"], X["dose"], y))
    typical = np.log(model.parameters_["estimate"].to_numpy())
    f = lambda at: oral(time, *np.exp(typical + at), dose)
    steps = 1e-6 * np.eye(3)
    A = np.column_stack([(f(eta + s) - f(eta - s)) / 2e-6 for s in steps])
    a, b = model.error_["additive"], model.error_["proportional"]
    V = A @ model.omega_.to_numpy() @ A.T + np.diag(a**2 + (b * f(eta)) ** 2)
    return np.linalg.inv(linalg.sqrtm(V)) @ (y - f(eta) + A @ eta)


def test_weighted_residuals_by_brute_force(theophylline):
    model, X, y = theophylline
    table = residual_table(model)
    for subject in (1, 9):
        own = table["subject"] == subject
        eta = model.random_effects_.loc[subject].to_numpy()
        assert_allclose(table.loc[own, "CWRES"], brute_force(model, X, y, subject, eta), atol=1e-5)
        assert_allclose(
            table.loc[own, "WRES"], brute_force(model, X, y, subject, np.zeros(3)), atol=1e-5
        )


def test_rows_of_fit_given_again_make_the_same_table(theophylline):
    model, X, y = theophylline
    assert_allclose(residual_table(model, X, y), residual_table(model), atol=1e-6)


def test_rows_in_another_order_and_a_part_of_the_groups(theophylline):
    model, X, y = theophylline
    some = X["Subject"].isin([3, 7]).to_numpy()
    order = np.random.default_rng(0).permutation(np.flatnonzero(some))
    table = residual_table(model, X.iloc[order], y.iloc[order])
    assert_array_equal(table.index, X.index[order])
    assert_allclose(table, residual_table(model).iloc[order], atol=1e-6)


def test_residuals_of_a_lognormal_error_are_those_of_the_logarithm(theophylline):
    _, X, y = theophylline
    seen = (X["Time"] > 0).to_numpy()
    X, y = X[seen], y[seen]
    model = NonlinearMixedModel(
        oral, START, group="Subject", time="Time", error="lognormal", standard_errors=None
    ).fit(X, y)
    table = residual_table(model, npde=True, n_simulations=400, random_state=0)
    assert_allclose(table["IPRED"], model.predict(X))
    ratio = np.log(y / table["IPRED"].to_numpy()) / model.error_["additive"]
    assert_allclose(table["IWRES"], ratio, atol=1e-9)
    assert np.isfinite(table["NPDE"]).all()


def test_nonlinear_regression_has_residuals_too():
    X, y = load_orange(return_X_y=True)
    line = lambda age, rate, start: start + rate * age
    model = NonlinearMixedModel(line, time="age").fit(X, y)
    table = residual_table(model)
    for name in ("IWRES", "WRES", "CWRES"):
        assert_allclose(table[name], table["RES"] / model.error_["additive"])


def test_conditional_residuals_are_about_standard_normal_under_the_model():
    data, parameters = population()
    data = observed(data, parameters)
    eta = condition(data, parameters, thorough=False).eta
    found = residuals(data, parameters, eta).conditional
    assert abs(found.mean()) < 0.07
    assert abs(found.std() - 1.0) < 0.07
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.08


# Prediction errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["combined", "lognormal"])
def test_prediction_errors_are_standard_normal_under_the_model(error):
    data, parameters = population(error=error)
    data = observed(data, parameters)
    rng = np.random.RandomState(1)
    draws = simulate(data, parameters, 500, rng)
    found = prediction_errors(data.y, draws, data.mask, rng)
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.08


def test_prediction_errors_of_censored_rows_are_standard_normal_too():
    data, parameters = population()
    data = observed(data, parameters, censored=2.0)
    assert 0.1 < data.censored.mean() < 0.5
    rng = np.random.RandomState(1)
    draws = simulate(data, parameters, 500, rng)
    found = prediction_errors(data.y, draws, data.mask, rng, censored=data.censored)
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert stats.kstest(found[:, -1], "norm").pvalue > 0.01  # most of these are censored


def test_prediction_errors_see_a_wrong_model():
    data, parameters = population()
    data = observed(data, parameters)
    wrong = Parameters(parameters.beta + np.array([0, 0.3, 0]), parameters.Omega, parameters.sigma)
    rng = np.random.RandomState(1)
    found = prediction_errors(data.y, simulate(data, wrong, 500, rng), data.mask, rng)
    assert stats.kstest(found.ravel(), "norm").pvalue < 1e-6


def test_prediction_errors_of_independent_rows_are_ranks():
    rng = np.random.RandomState(0)
    draws, y = rng.standard_normal((2000, 1, 1)), np.array([[0.3]])
    found = prediction_errors(y, draws, np.ones((1, 1), bool), rng)
    share = ((draws < 0.3).sum() + 0.5) / 2001.0
    assert_allclose(found[0, 0], stats.norm.ppf(share))


def test_the_limit_of_a_row_that_is_not_censored():
    y = np.array([[1.0, 2.0, 5.0, 1.5, 0.5]])
    censored = np.array([[True, True, False, False, False]])
    found = limits(y, np.ones((1, 5), bool), censored)
    assert_array_equal(found, [[1.0, 2.0, 2.0, 1.0, -np.inf]])


def test_too_few_draws_are_refused(theophylline):
    with pytest.raises(ValueError, match="do not tell the covariance of the 11 rows"):
        residual_table(theophylline[0], npde=True, n_simulations=11)


def test_a_censored_row_has_a_prediction_error_alone(theophylline):
    _, X, y = theophylline
    below = (y < 2).to_numpy()
    model = NonlinearMixedModel(
        oral, START, group="Subject", time="Time", censored="below", method="laplace"
    ).set_params(standard_errors=None)
    X, y = X.assign(below=below), y.clip(lower=2.0)
    table = residual_table(model.fit(X, y), npde=True, random_state=0)
    for name in ("RES", "IWRES", "WRES", "CWRES"):
        assert_array_equal(table[name].isna(), below)
    assert np.isfinite(table["NPDE"]).all()
    again = residual_table(model, npde=True, random_state=0)
    pd.testing.assert_frame_equal(table, again)


def test_other_things_than_fitted_models_are_refused(theophylline):
    _, X, y = theophylline
    with pytest.raises(TypeError, match="must be a NonlinearMixedModel"):
        residual_table(oral, X, y)
    with pytest.raises(ValueError, match="without X"):
        residual_table(theophylline[0], None, y)


# Simulation ------------------------------------------------------------------------------------


def test_simulated_moments_are_those_of_the_model():
    time = np.array([1.0, 8.0])
    data, parameters = population(1, time)
    draws = simulate(data, parameters, 40_000, np.random.RandomState(0))[:, 0]
    rng = np.random.default_rng(0)
    eta = rng.standard_normal((40_000, 3)) * np.sqrt(np.diag(parameters.Omega))
    f = np.array([oral(time, *np.exp(parameters.beta + one), 300.0) for one in eta])
    y = f + np.hypot(0.3, 0.1 * f) * rng.standard_normal(f.shape)
    assert_allclose(draws.mean(axis=0), y.mean(axis=0), rtol=0.01)
    assert_allclose(np.cov(draws.T), np.cov(y.T), rtol=0.05)


def test_simulation_at_given_effects():
    data, parameters = population(4)
    exact = Parameters(parameters.beta, parameters.Omega, np.array([1e-9, 1e-9]))
    eta = np.random.default_rng(0).normal(size=(2, 4, 3))
    found = simulate(data, exact, 2, np.random.RandomState(0), eta=eta)
    time = data.structure.time
    psi = np.exp(parameters.beta + eta)[..., None]
    expected = oral(time, psi[:, :, 0], psi[:, :, 1], psi[:, :, 2], 300.0)
    assert_allclose(found, expected, atol=1e-7)


# Predictive checks -----------------------------------------------------------------------------


def test_quantiles_by_hand(theophylline):
    model, X, y = theophylline
    edges = [0.0, 2.0, 30.0]
    check = visual_predictive_check(
        model, X, y, bins=edges, quantiles=[0.1, 0.9], n_simulations=100, random_state=0
    )
    early = (X["Time"] < 2.0).to_numpy()
    expected = [*np.quantile(y[early], [0.1, 0.9]), *np.quantile(y[~early], [0.1, 0.9])]
    assert_allclose(check.table["observed"], expected)
    assert check.table["n_rows"].tolist() == [early.sum()] * 2 + [(~early).sum()] * 2
    assert (check.table["lower"] < check.table["upper"]).all()


def test_the_share_inside_is_as_it_should_be_under_the_model_and_not_under_another(theophylline):
    model, X, _ = theophylline
    X = pd.concat([X.assign(Subject=X["Subject"] + 20 * k) for k in range(3)], ignore_index=True)
    inside = []
    for seed in range(6):
        y = model.sample_y(X.assign(Subject=X["Subject"] + 100), random_state=seed)[:, 0]
        options = {"n_simulations": 200, "random_state": seed}
        inside.append(visual_predictive_check(model, X, y, **options).share_inside)
    assert 0.87 < np.mean(inside) <= 1.0
    wrong = visual_predictive_check(model, X, 1.3 * y, n_simulations=200, random_state=0)
    assert wrong.share_inside < 0.75


def test_strata_have_bins_of_their_own(theophylline):
    model, X, y = theophylline
    check = visual_predictive_check(
        model, X, y, stratify="heavy", bins=3, n_simulations=20, random_state=0
    )
    counts = check.table[check.table["quantile"] == 0.5].groupby("stratum")["n_rows"].sum()
    assert counts.to_dict() == X["heavy"].value_counts().to_dict()


def test_a_correction_takes_out_the_dose(theophylline):
    """Twice the dose is twice the curve: corrected values of both doses are the same."""
    model, X, y = theophylline
    twice = X.assign(dose=2 * X["dose"], Subject=X["Subject"] + 50)
    both, y_both = pd.concat([X, twice], ignore_index=True), np.concatenate([y, 2 * y])
    check = visual_predictive_check(
        model, both, y_both, prediction_corrected=True, n_simulations=20, random_state=0
    )
    corrected = check.rows["y"].to_numpy()
    later = (X["Time"] > 0).to_numpy()
    assert_allclose(corrected[: len(y)][later], corrected[len(y) :][later])


def test_quantiles_below_the_limit_are_not_compared(theophylline):
    _, X, y = theophylline
    model = NonlinearMixedModel(
        oral, START, group="Subject", time="Time", censored="below", method="laplace"
    ).set_params(standard_errors=None)
    X, y = X.assign(below=(y < 2).to_numpy()), y.clip(lower=2.0)
    check = visual_predictive_check(model.fit(X, y), X, y, n_simulations=50, random_state=0)
    last = check.table[check.table["x"] > 20].set_index("quantile")["observed"]
    assert np.isnan(last[0.05])
    assert last[0.95] > 2.0


def test_what_a_check_refuses(theophylline):
    model, X, y = theophylline
    for options, message in [
        ({"bins": [0.0, 10.0]}, "bins go from 0 to 10"),
        ({"bins": 0}, "at least one"),
        ({"bins": [3.0, 1.0]}, "edges that rise"),
        ({"quantiles": [0.0, 0.5]}, "above 0 and below 1"),
        ({"x": "heavy"}, "are no numbers"),
        ({"stratify": "colour"}, "not a column"),
        ({"confidence_level": 1.0}, "confidence_level"),
    ]:
        with pytest.raises(ValueError, match=message):
            visual_predictive_check(model, X, y, **options)


def test_a_check_is_the_same_for_the_same_random_state(theophylline):
    model, X, y = theophylline
    one, two = (
        visual_predictive_check(model, X, y, n_simulations=20, random_state=3).table
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_equal_values_share_a_bin():
    x = np.repeat([0.0, 1.0, 2.0, 3.0], [50, 3, 3, 4])
    edges = equal_counts(x, 4)
    of = which_bin(x, edges)
    assert all(len(set(of[x == value])) == 1 for value in np.unique(x))
    assert_array_equal(edges, read_bins(4, x, None))
    assert_allclose(equal_counts(np.arange(100.0), 4), [0, 24.5, 49.5, 74.5, 99])


def test_without_a_time_a_column_is_needed():
    X, y = load_orange(return_X_y=True)
    model = NonlinearMixedModel(group="Tree", parameters={"age": Parameter(transform="identity")})
    model.fit(X, y)
    with pytest.raises(ValueError, match="say by x which column"):
        visual_predictive_check(model, X, y)
    check = visual_predictive_check(model, X, y, x="age", n_simulations=20, random_state=0)
    assert check.x_name == "age"
    assert "time" not in residual_table(model)
