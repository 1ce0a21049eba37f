"""The bootstrap, profiles, the search for covariates and forecasts of held-out groups."""

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from sklme.datasets import load_orange, load_theophylline
from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter
from sklme.nonlinear._refit import Refit
from sklme.nonlinear._warm import fit_from
from sklme.nonlinear.forecasting import forecast_validate
from sklme.nonlinear.profiling import profile
from sklme.nonlinear.resampling import bootstrap
from sklme.nonlinear.selection import covariate_search

START = {"ka": 1.5, "CL": 2.7, "V": 30.0}


def oral(time, ka, CL, V, dose):
    k = CL / V
    return dose * ka / V / (ka - k) * (np.exp(-k * time) - np.exp(-ka * time))


def decay(time, V, k, dose):
    return dose / V * np.exp(-k * time)


def line(age, rate, start):
    return start + rate * age


@pytest.fixture(scope="module")
def theophylline():
    X, y = load_theophylline(return_X_y=True)
    X["dose"] = X["Dose"] * X["Wt"]
    return NonlinearMixedModel(oral, START, group="Subject", time="Time").fit(X, y), X, y


@pytest.fixture(scope="module")
def trees():
    X, y = load_orange(return_X_y=True)
    return NonlinearMixedModel(line, group="Tree", time="age").fit(X, y), X, y


@pytest.fixture(scope="module")
def patients():
    """50 patients after a bolus; weight moves the volume, and nothing else moves anything."""
    rng = np.random.default_rng(3)
    N, time = 50, np.array([0.5, 2.0, 5.0, 9.0])
    X = pd.DataFrame({"id": np.repeat(np.arange(N), len(time)), "time": np.tile(time, N)})
    weight, noise = rng.lognormal(np.log(70), 0.25, N), rng.lognormal(0, 0.3, N)
    X["dose"], X["weight"], X["noise"] = 100.0, weight[X["id"]], noise[X["id"]]
    X["sex"] = np.where(rng.uniform(size=N) < 0.5, "f", "m")[X["id"]]
    V = 20 * (weight / 70) * np.exp(0.2 * rng.standard_normal(N))
    k = 0.15 * np.exp(0.25 * rng.standard_normal(N))
    f = decay(X["time"], V[X["id"]], k[X["id"]], 100.0)
    y = f * (1.0 + 0.1 * rng.standard_normal(len(f)))
    start = {"V": 20.0, "k": 0.15}
    model = NonlinearMixedModel(decay, start, group="id", time="time", error="proportional")
    return model.fit(X, y), X, y


# Bootstrap -------------------------------------------------------------------------------------


def test_standard_errors_are_near_those_of_the_sandwich(patients):
    model, X, y = patients
    result = bootstrap(model, X, y, n_bootstraps=60, random_state=0)
    assert result.n_failed == 0
    ratio = result.table["std_error"].loc[["V", "k"]] / model.parameters_["std_error"]
    assert_allclose(ratio, 1.0, atol=0.3)
    errors = [
        model._errors.of("Omega", k, k) / (2 * np.sqrt(model.omega_.iloc[k, k])) for k in (0, 1)
    ]
    assert_allclose(result.table["std_error"].loc[["sd V", "sd k"]], errors, rtol=0.35)
    assert (abs(result.table["bias"]) < result.table["std_error"]).all()


def test_the_table_is_made_of_the_replicates(trees):
    model, X, y = trees
    result = bootstrap(model, X, y, n_bootstraps=10, random_state=0, confidence_level=0.8)
    used = result.replicates
    assert_allclose(result.table["estimate"].loc[["rate", "start"]], model.parameters_["estimate"])
    sd = np.sqrt(model.omega_.loc["rate", "rate"])
    assert_allclose(result.table.loc["sd rate", "estimate"], sd)
    assert_allclose(result.table.loc["additive", "estimate"], model.error_["additive"])
    assert_allclose(result.table["lower"], used.quantile(0.1))
    assert_allclose(result.table["upper"], used.quantile(0.9))
    assert (result.table["n"] == used.notna().sum()).all()


def test_a_replicate_is_the_fit_of_its_groups(trees):
    """The first replicate, made by hand as a table in which drawn trees are new ones."""
    model, X, y = trees
    result = bootstrap(model, X, y, n_bootstraps=2, random_state=0)
    drawn = np.random.RandomState(0).choice(np.arange(5), 5)
    labels = model.levels_["Tree"][drawn]
    parts = [X[X["Tree"] == one].assign(Tree=k) for k, one in enumerate(labels)]
    table = pd.concat(parts)
    again = clone(model).set_params(parameters={"rate": 0.1, "start": 17.0})
    again.fit(table.reset_index(drop=True), y.loc[table.index].to_numpy())
    replicate = result.replicates.iloc[0]
    assert_allclose(replicate[["rate", "start"]], again.parameters_["estimate"], rtol=1e-3)
    assert_allclose(replicate["additive"], again.error_["additive"], rtol=1e-3)


def test_results_depend_on_the_random_state_alone(trees):
    model, X, y = trees
    one = bootstrap(model, X, y, n_bootstraps=6, random_state=1)
    with parallel_config("threading"):
        two = bootstrap(model, X, y, n_bootstraps=6, random_state=1, n_jobs=2)
    pd.testing.assert_frame_equal(one.replicates, two.replicates)
    other = bootstrap(model, X, y, n_bootstraps=6, random_state=2)
    assert not np.allclose(one.replicates, other.replicates, equal_nan=True)


def test_strata_keep_their_sizes(trees):
    """With a stratum for each tree every replicate is the data themselves."""
    model, X, y = trees
    result = bootstrap(model, X, y, n_bootstraps=3, stratify="Tree", random_state=0)
    expected = result.estimates.to_numpy()
    assert_allclose(result.replicates, np.tile(expected, (3, 1)), rtol=2e-3, atol=2e-3)


def test_failures_are_counted_and_left_out(trees, monkeypatch):
    model, X, y = trees
    honest = Refit.attempt

    def refuses(self, data, start=None, **options):
        if options["seed"] % 2:
            return None, "it was not to be"
        return honest(self, data, start, **options)

    monkeypatch.setattr(Refit, "attempt", refuses)
    result = bootstrap(model, X, y, n_bootstraps=12, random_state=0)
    assert 0 < result.n_failed < 12
    assert set(result.messages) == {"it was not to be"}
    assert_array_equal(result.replicates.isna().all(axis=1).sum(), result.n_failed)
    assert (result.table["n"] == 12 - result.n_failed).all()


@pytest.mark.parametrize("method", ["fo", "laplace", "lindstrom-bates", "saem"])
def test_every_method_can_be_bootstrapped(trees, method):
    _, X, y = trees
    start = {"rate": Parameter(0.11), "start": Parameter(17.0, random=False)}
    model = NonlinearMixedModel(
        line, start, group="Tree", time="age", method=method, standard_errors=None
    ).fit(X, y)
    result = bootstrap(model, X, y, n_bootstraps=2, random_state=0)
    assert result.n_failed == 0
    assert list(result.replicates) == ["rate", "start", "sd rate", "additive"]


def test_fixed_coefficients_are_left_out_and_correlations_are_named(trees):
    _, X, y = trees
    start = {"rate": 0.11, "start": Parameter(17.0, fixed=True)}
    model = NonlinearMixedModel(
        line, start, group="Tree", time="age", omega="full", standard_errors=None
    ).fit(X, y)
    names = list(bootstrap(model, X, y, n_bootstraps=2, random_state=0).replicates)
    assert names == ["rate", "sd rate", "sd start", "cor rate.start", "additive"]


def test_what_a_bootstrap_refuses(trees):
    model, X, y = trees
    with pytest.raises(ValueError, match="X and y are others"):
        bootstrap(model, X.iloc[:-1], y.iloc[:-1])
    with pytest.raises(ValueError, match="varies within subject"):
        bootstrap(model, X, y, stratify="age")
    with pytest.raises(ValueError, match="n_bootstraps"):
        bootstrap(model, X, y, n_bootstraps=1)
    alone = NonlinearMixedModel(line, time="age").fit(X, y)
    with pytest.raises(ValueError, match="at least two"):
        bootstrap(alone, X, y)


# Profiles --------------------------------------------------------------------------------------


def test_the_ends_of_a_profile_by_fits_with_a_fixed_value(theophylline):
    model, X, y = theophylline
    found = profile(model, X, y, "V")
    assert found.message == ""
    assert found.lower < found.estimate < found.upper
    assert_allclose(found.estimate, model.parameters_.loc["V", "estimate"], rtol=1e-4)
    for end in (found.lower, found.upper):
        held = {**START, "V": Parameter(end, fixed=True)}
        other = clone(model).set_params(parameters=held, standard_errors=None).fit(X, y)
        assert_allclose(other.objective_ - model.objective_, stats.chi2.ppf(0.95, 1), atol=0.01)


def test_a_curve_is_signed_and_rises_to_both_sides(theophylline):
    model, X, y = theophylline
    curve = profile(model, X, y, "CL", confidence_level=0.8).curve
    assert_allclose(curve["zeta"] ** 2, curve["deviance"], atol=1e-9)
    assert (np.diff(curve["value"]) > 0).all()
    assert (np.diff(curve["zeta"]) > 0).all()


def test_a_covariate_effect_has_a_profile(patients):
    model, X, y = patients
    moved = {"V": Parameter(20.0, covariates=[Covariate("weight")]), "k": 0.15}
    model = clone(model).set_params(parameters=moved).fit(X, y)
    found = profile(model, X, y, "V:weight")
    assert found.lower < 1.0 < found.upper
    wald = model.parameters_.loc["V:weight", ["lower", "upper"]]
    assert_allclose([found.lower, found.upper], wald, atol=0.1)


def test_what_a_profile_refuses(theophylline):
    model, X, y = theophylline
    with pytest.raises(ValueError, match="no coefficient of the model"):
        profile(model, X, y, "Q")
    with pytest.raises(ValueError, match="X and y are others"):
        profile(model, X, y + 1, "V")
    fixed = clone(model).set_params(parameters={**START, "V": Parameter(31.8, fixed=True)})
    with pytest.raises(ValueError, match="'V' is fixed"):
        profile(fixed.fit(X, y), X, y, "V")
    alternated = clone(model).set_params(method="lindstrom-bates", standard_errors=None).fit(X, y)
    with pytest.raises(ValueError, match="no objective"):
        profile(alternated, X, y, "V")


# Covariates ------------------------------------------------------------------------------------


def test_weight_on_volume_is_found_and_noise_is_not(patients):
    model, X, y = patients
    candidates = {
        "V": ["weight", "noise", Covariate("sex", "categorical")],
        "k": [Covariate("weight", "exponential"), Covariate("weight"), "noise"],
    }
    found = covariate_search(model, X, y, candidates, p_enter=0.01)
    assert found.selected == [("V", "weight")]
    assert abs(found.model.coef_["V:weight"] - 1.0) < 0.35
    first = found.steps[found.steps["step"] == 1]
    assert len(first) == 6
    assert first.loc[first["chosen"], "covariate"].tolist() == ["weight"]
    by_hand = stats.chi2.sf(-first["change"].clip(upper=0), first["dof"])
    assert_allclose(first["p_value"], by_hand)
    assert_allclose(first["objective"] - model.objective_, first["change"], atol=1e-4)
    assert np.isfinite(found.model.parameters_["std_error"]).all()
    assert found.steps["converged"].all()
    assert model.coef_.index.tolist() == ["V", "k"]  # the model given is as it was


def test_what_entered_by_a_lenient_test_is_removed_by_a_strict_one(patients):
    model, X, y = patients
    lenient = {"p_enter": 0.999, "p_remove": 0.01}
    found = covariate_search(model, X, y, {"V": ["weight"], "k": ["noise"]}, **lenient)
    actions = found.steps[found.steps["chosen"]]["action"].tolist()
    assert actions == ["add", "add", "remove"]
    assert found.selected == [("V", "weight")]


def test_cross_validation_finds_it_too(patients):
    model, X, y = patients
    found = covariate_search(
        model, X, y, {"V": ["weight", "noise"]}, criterion="cross-validation", cv=3, min_gain=0.01
    )
    assert found.selected == [("V", "weight")]
    scores = found.steps[found.steps["action"] == "add"]
    assert (
        scores.loc[scores["chosen"], "score"].item() == scores[scores["step"] == 1]["score"].max()
    )


def test_a_warm_start_ends_where_a_cold_one_does(theophylline):
    model, X, y = theophylline
    moved = {**START, "CL": Parameter(2.7, covariates=[Covariate("Wt")])}
    cold = clone(model).set_params(parameters=moved).fit(X, y)
    warm = fit_from(clone(model).set_params(parameters=moved), X, y, model)
    assert_allclose(warm.objective_, cold.objective_, atol=1e-5)
    assert_allclose(warm.coef_, cold.coef_, atol=1e-3)
    assert warm.objective_ <= model.objective_


def test_what_a_search_refuses(patients):
    model, X, y = patients
    with pytest.raises(ValueError, match="no parameter of the structure"):
        covariate_search(model, X, y, {"CL": ["weight"]})
    with pytest.raises(ValueError, match="must be a dict"):
        covariate_search(model, X, y, ["weight"])
    with pytest.raises(ValueError, match="criterion"):
        covariate_search(model, X, y, {"V": ["weight"]}, criterion="aic")
    have = {"V": Parameter(20.0, covariates=[Covariate("weight")]), "k": 0.15}
    with pytest.raises(ValueError, match="'V' has the covariate 'weight' already"):
        covariate_search(clone(model).set_params(parameters=have), X, y, {"V": ["weight"]})


# Forecasts -------------------------------------------------------------------------------------


def test_own_samples_make_forecasts_better(patients):
    model, X, y = patients
    found = forecast_validate(model, X, y, n_known=[0, 1, 2], random_state=0)
    assert found.table["n_rows"].tolist() == [100, 100, 100]
    assert (found.table["n_groups"] == 50).all()
    error = found.table["log_rmse"]
    assert error[2] < error[1] < error[0]
    assert found.table["coverage"].between(0.8, 0.97).all()


def test_forecasts_are_those_of_condition(trees):
    model, X, y = trees
    folds = GroupKFold(5)
    found = forecast_validate(model, X, y, n_known=[0, 3], cv=folds, rows="later", random_state=0)
    assert found.table["n_rows"].tolist() == [35, 20]
    for train, test in folds.split(X, y, X["Tree"]):
        fitted = clone(model).fit(X.iloc[train], y.iloc[train])
        first, later = test[:3], test[3:]
        posterior = fitted.condition(X.iloc[first], y.iloc[first])
        mine = found.forecasts[found.forecasts["row"].isin(later)].set_index(["n_known", "row"])
        own = posterior.predict(X.iloc[later])
        assert_allclose(mine.loc[3, "predicted"].loc[later], own, rtol=1e-4)
        alike = fitted.predict_population(X.iloc[later])
        assert_allclose(mine.loc[0, "predicted"].loc[later], alike, rtol=1e-4)
        assert_allclose(mine.loc[3, "observed"].loc[later], y.iloc[later])


def test_a_fitted_model_may_stay_as_it_is(trees):
    model, X, y = trees
    found = forecast_validate(model, X, y, n_known=[2], refit=False, random_state=0)
    posterior = model.condition(X[X["age"] < 500], y[X["age"] < 500])
    later = X["age"] > 500
    assert_allclose(found.forecasts["predicted"], posterior.predict(X[later]))


def test_what_forecasts_refuse(trees):
    model, X, y = trees
    with pytest.raises(ValueError, match="no group has more than 7 samples"):
        forecast_validate(model, X, y, n_known=[7])
    with pytest.raises(ValueError, match="n_known"):
        forecast_validate(model, X, y, n_known=[-1])
    with pytest.raises(ValueError, match="need groups"):
        forecast_validate(NonlinearMixedModel(line, time="age"), X, y)
