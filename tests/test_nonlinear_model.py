"""The nonlinear mixed model against published fits, its own promises, and bad input."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklme import adapt
from sklme.datasets import load_orange, load_phenobarbital, load_theophylline
from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter
from sklme.pharmacokinetics import Dosing, OneCompartment

PLAIN = {"transform": "identity"}


def oral(Time, ka, CL, V, dose):
    """One compartment after one dose by mouth."""
    k = CL / V
    return dose * ka / V / (ka - k) * (np.exp(-k * Time) - np.exp(-ka * Time))


def logistic(age, top, middle, pace):
    """Growth that levels off."""
    return top / (1.0 + np.exp((middle - age) / pace))


def bolus(time, CL, V):
    """One compartment after 100 units at once."""
    return 100.0 / V * np.exp(-CL / V * time)


START = {"ka": 1.5, "CL": 2.7, "V": 30.0}


def theophylline():
    X, y = load_theophylline(return_X_y=True)
    return X.assign(dose=X["Dose"] * X["Wt"]), y


def model_of_theophylline(**options):
    return NonlinearMixedModel(oral, START, group="Subject", **options)


@pytest.fixture(scope="module")
def fitted():
    return model_of_theophylline().fit(*theophylline())


def visits(n_subjects=12, seed=0):
    """Subjects with two visits of four samples; clearance differs by subject, visit and weight."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n_subjects):
        eta, weight = rng.normal(0, 0.3, 2), rng.uniform(50, 90)
        for visit in ("first", "second"):
            kappa = rng.normal(0, 0.3)
            CL = 2.0 * np.exp(eta[0] + kappa) * (weight / 70) ** 0.75
            for time in (0.5, 2.0, 5.0, 9.0):
                f = bolus(time, CL, 20.0 * np.exp(eta[1]))
                rows.append((f"s{i:02d}", visit, time, weight, f * np.exp(rng.normal(0, 0.08))))
    X = pd.DataFrame(rows, columns=["id", "visit", "time", "weight", "y"])
    return X, X.pop("y")


# ---------------------------------------------------------------- published fits


def test_theophylline_focei(fitted):
    """nlmixr2qual theo_sd, at the true optimum (an exact gradient; pynlme 0.5.1 agrees)."""
    assert_allclose(fitted.objective_, 116.803413, atol=1e-6)
    assert_allclose(fitted.coef_, [0.463883, 1.012158, 3.459745], atol=5e-6)
    assert_allclose(np.diag(fitted.omega_), [0.402356, 0.0690951, 0.0191596], rtol=3e-5)
    assert_allclose(fitted.error_["additive"], 0.694409, atol=2e-6)
    assert_allclose(
        fitted.log_likelihood_, -0.5 * (116.803413 + 132 * np.log(2 * np.pi)), atol=1e-6
    )
    assert fitted.converged_ and fitted.optimization_.decrement < 1e-7


def test_theophylline_errors_of_two_parts():
    """NONMEM's THEOPP, FOCEI: etas on the natural scale, ka by sex, additive and proportional."""
    X, y = theophylline()
    X["sex"] = np.where(X["Subject"] <= 6, 0, 1)

    def curve(Time, ka, k, CL, dose):
        return dose * ka * k / CL / (ka - k) * (np.exp(-k * Time) - np.exp(-ka * Time))

    sex = Covariate("sex", "categorical", reference=0, initial=0.4)
    weight = Covariate("Wt", "linear", reference=0.0, initial=0.0397)
    parameters = {
        "ka": Parameter(1.6, covariates=[sex], **PLAIN),
        "k": Parameter(0.085, random=False, **PLAIN),
        "CL": Parameter(0.0, fixed=True, covariates=[weight], **PLAIN),
    }
    model = NonlinearMixedModel(curve, parameters, group="Subject", error="combined").fit(X, y)
    assert_allclose(model.objective_, 115.40505380, atol=1e-5)
    expected = [1.58896, 0.0852144, 0.0, 0.44993, 0.0397132]
    assert_allclose(model.coef_, expected, rtol=1e-3)
    assert_allclose(np.diag(model.omega_), [1.49637, 0.262862], rtol=2e-3)
    assert_allclose(np.square([*model.error_.values()]), [0.209834, 0.0113479], rtol=2e-3)
    first = [-0.38581, -1.06806], [0.52706, 0.05923]
    assert_allclose(model.random_effects_.iloc[:2], first, atol=2e-3)
    assert np.isnan(model.parameters_.loc["CL", "std_error"])


def test_theophylline_against_nlmer():
    """lme4::nlmer(conc ~ SSfol(Dose, Time, lKe, lKa, lCl) ~ (0 + lKa | S) + (0 + lCl | S))."""

    def curve(Time, lKe, lKa, lCl, Dose):
        ke, ka = np.exp(lKe), np.exp(lKa)
        return Dose * ke * ka / np.exp(lCl) / (ka - ke) * (np.exp(-ke * Time) - np.exp(-ka * Time))

    parameters = {
        "lKe": Parameter(-2.4, random=False, **PLAIN),
        "lKa": Parameter(0.5, **PLAIN),
        "lCl": Parameter(-3.2, **PLAIN),
    }
    model = NonlinearMixedModel(curve, parameters, group="Subject").fit(*theophylline())
    assert -176.993107126317 < model.log_likelihood_ < -176.99  # nlmer ends a little lower
    assert_allclose(
        model.coef_, [-2.46532394, 0.47414877, -3.23056694], atol=0.01
    )  # SE 0.05 to 0.2
    assert_allclose(model.error_["additive"], 0.70744872, atol=1e-3)


def test_orange_against_nlmer():
    """lme4::nlmer(circumference ~ SSlogis(age, Asym, xmid, scal) ~ Asym | Tree)."""
    parameters = {
        "top": Parameter(**PLAIN),
        "middle": Parameter(random=False, **PLAIN),
        "pace": Parameter(random=False, **PLAIN),
    }
    model = NonlinearMixedModel(logistic, parameters, group="Tree")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow where starts are tried
        model.fit(*load_orange(return_X_y=True))
    assert_allclose(model.log_likelihood_, -131.571885408716, atol=1e-6)
    assert_allclose(model.coef_, [192.0538, 727.9076, 348.0734], rtol=1e-5)
    assert_allclose(model.omega_.iloc[0, 0], 1001.48858, rtol=1e-4)
    modes = [-29.56262, 31.72752, -37.19395, 40.22423, -5.19756]
    assert_allclose(model.random_effects_["top"], modes, atol=1e-3)


def test_phenobarbital_standard_errors():
    """NONMEM 7.5.1, FOCEI: CL and V in proportion to weight, V by the Apgar score below 5."""
    infants = load_phenobarbital()
    weight = Covariate("Wt", reference=1.0, initial=1.0, fixed=True)
    apgar = Covariate("ApgarInd", "categorical", reference=">= 5")
    parameters = {"CL": Parameter(covariates=[weight]), "V": Parameter(covariates=[weight, apgar])}
    model = NonlinearMixedModel(
        OneCompartment(),
        parameters,
        group="Subject",
        time="time",
        error="proportional",
        dosing=Dosing.from_table(infants.doses),
    ).fit(infants.data, infants.target)
    assert_allclose(model.objective_, 586.27605628, atol=1e-5)
    table = model.parameters_
    assert_allclose(table["estimate"].iloc[:2], [0.00469555, 0.984258], rtol=1e-4)
    assert_allclose(np.expm1(model.coef_["V:ApgarInd[< 5]"]), 0.158920, rtol=2e-4)
    assert_allclose(table["std_error"].iloc[:2], [2.09967e-4, 0.0268946], rtol=1e-3)
    assert_allclose(np.diag(model.omega_), [0.0293508, 0.0279060], rtol=1e-4)
    assert_allclose(model.error_["proportional"] ** 2, 0.0132410, rtol=1e-4)
    assert "V:ApgarInd[< 5]" in model.summary() and "fixed" in model.summary()


def test_methods_agree_where_the_likelihood_is_known():
    """Trees whose random effect enters linearly: the methods but FO's are then exact."""
    X, y = load_orange(return_X_y=True)
    parameters = {
        "top": Parameter(190.0, **PLAIN),
        "middle": Parameter(720.0, random=False, **PLAIN),
        "pace": Parameter(350.0, random=False, **PLAIN),
    }
    model = NonlinearMixedModel(logistic, parameters, group="Tree", standard_errors=None)
    for method in ("foce", "fo", "laplace", "agq"):
        found = clone(model).set_params(method=method).fit(X, y)
        assert_allclose(found.log_likelihood_, -131.571885408716, atol=1e-6)
        score = found.score(X, y) * len(y)
        assert_allclose(score, found.log_likelihood_, atol=0.05)  # importance sampling


def test_lindstrom_and_bates_against_nlme():
    """nlme::nlme(circumference ~ SSlogis(age, Asym, xmid, scal), random = Asym ~ 1 | Tree)."""
    parameters = {
        "top": Parameter(190.0, **PLAIN),
        "middle": Parameter(700.0, random=False, **PLAIN),
        "pace": Parameter(350.0, random=False, **PLAIN),
    }
    model = NonlinearMixedModel(logistic, parameters, group="Tree", method="lindstrom-bates")
    model.fit(*load_orange(return_X_y=True))
    assert_allclose(model.log_likelihood_, -131.584579105672, atol=1e-7)
    assert_allclose(model.coef_, [191.049000889973, 722.555979972232, 344.162382156175], rtol=1e-6)
    errors = [15.4462064880022, 33.6106156020488, 25.9578677624477]
    assert_allclose(model.parameters_["std_error"], errors, rtol=1e-5)
    assert_allclose(model.omega_.iloc[0, 0], 991.151447676741, rtol=1e-5)
    assert_allclose(model.error_["additive"], 7.84625448652273, rtol=1e-6)
    assert model.converged_ and "Lindstrom-Bates" in model.summary()


def test_saem_maximises_the_likelihood_itself():
    """nlmixr2qual theo_sd, SAEM; -2 log-likelihood there is 118.124 by quadrature (9 nodes)."""
    X, y = theophylline()
    model = model_of_theophylline(method="saem", random_state=0).fit(X, y)
    assert model.converged_
    assert_allclose(model.coef_, [0.458812, 1.010967, 3.454311], atol=0.02)
    assert_allclose(np.diag(model.omega_), [0.4026, 0.0710, 0.0189], rtol=0.1)
    assert_allclose(model.objective_, 118.124, atol=0.15)
    assert 0 < model.optimization_.monte_carlo_error < 0.05
    errors = model.parameters_["std_error"] / model.parameters_["estimate"]
    assert_allclose(errors, [0.1896, 0.0820, 0.0447], rtol=0.25)
    again = clone(model).fit(X, y)
    assert_allclose(again.coef_, model.coef_, rtol=0)
    assert "Monte Carlo error" in model.summary()


def test_without_a_group_it_is_least_squares():
    """nls(conc ~ dose / V * exp(-CL / V * time)), whose errors have n - p where these have n."""
    X, y = visits()
    one = X["id"] == "s00"
    model = NonlinearMixedModel(bolus).fit(X.loc[one, ["time"]], y[one])
    r = y[one] - model.predict(X.loc[one, ["time"]])
    assert_allclose(model.error_["additive"], np.sqrt(np.mean(r**2)), rtol=1e-4)
    for change in ({"CL": 1.001, "V": 1.0}, {"CL": 1.0, "V": 0.999}):
        moved = model.parameters_["estimate"] * pd.Series(change)
        assert ((y[one] - bolus(X.loc[one, "time"], **moved)) ** 2).sum() > (r**2).sum()
    assert model.summary().startswith("Nonlinear regression")
    assert model.omega_.shape == (0, 0) and model.levels_ == {}


def test_a_linear_predictor_is_what_there_is_without_a_structure():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * [1.0, 1e3, 1e-3] + [0.0, 1e4, 0.0]
    y = 3.0 + X @ [1.0, 2e-3, 500.0] + rng.normal(size=60)
    model = NonlinearMixedModel().fit(X, y)
    Z = np.column_stack([np.ones(60), X])
    assert_allclose(model.coef_, np.linalg.lstsq(Z, y, rcond=None)[0], rtol=1e-6)
    se = np.sqrt(np.diag(np.linalg.inv(Z.T @ Z)) * np.mean((y - model.predict(X)) ** 2))
    assert_allclose(model.parameters_["std_error"], se, rtol=1e-3)
    twice = NonlinearMixedModel().fit(np.column_stack([X, X[:, :1]]), y)
    assert twice.coef_["x3"] == 0 and np.isnan(twice.parameters_.loc["x3", "std_error"])


def test_a_random_intercept_is_that_of_a_linear_mixed_model():
    from sklme import LinearMixedModel

    rng = np.random.default_rng(1)
    X = pd.DataFrame({"g": np.repeat(list("abcdef"), 8), "x": rng.normal(size=48)})
    y = 2.0 + X["x"] + np.repeat(rng.normal(size=6), 8) + 0.5 * rng.normal(size=48)
    linear = LinearMixedModel("g", method="ml").fit(X, y)
    model = NonlinearMixedModel(group="g").fit(X, y)
    assert_allclose(model.log_likelihood_, linear.log_likelihood_, atol=1e-7)
    assert_allclose(model.coef_, [linear.intercept_, *linear.coef_], rtol=1e-5)
    assert_allclose(model.predict(X), linear.predict(X), rtol=1e-4)
    assert_allclose(
        model.random_effects_["intercept"], linear.random_effects_["g"][:, 0], rtol=1e-3
    )


# ---------------------------------------------------------------- invariance


def test_order_of_rows_and_names_do_not_matter(fitted):
    X, y = theophylline()
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = model_of_theophylline().fit(X.iloc[order], y.iloc[order])
    assert_allclose(shuffled.objective_, fitted.objective_, atol=1e-8)
    assert_allclose(shuffled.predict(X), fitted.predict(X), rtol=1e-5)
    assert_allclose(fitted.predict(X.iloc[order]), fitted.predict(X)[order], rtol=1e-12)
    renamed = X.assign(Subject=[f"patient {13 - s}" for s in X["Subject"]])
    other = model_of_theophylline().fit(renamed, y)
    assert_allclose(other.objective_, fitted.objective_, atol=1e-8)
    assert_allclose(other.predict(renamed), fitted.predict(X), rtol=1e-5)


@settings(max_examples=6)
@given(st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_units_of_y_move_only_the_volume(unit, random):
    """The rows come in another order each time, too."""
    X, y = visits(6)
    order = random.sample(range(len(X)), len(X))
    model = NonlinearMixedModel(
        bolus, {"CL": 2.0, "V": 20.0}, group="id", error="proportional", standard_errors=None
    )
    first = model.fit(X, y).coef_.to_numpy(), model.log_likelihood_
    model.set_params(parameters={"CL": 2.0 / unit, "V": 20.0 / unit})
    model.fit(X.iloc[order], unit * y.iloc[order])
    assert_allclose(model.coef_ + np.log(unit), first[0], atol=1e-4)
    assert_allclose(model.log_likelihood_ + len(y) * np.log(unit), first[1], atol=1e-6)


def test_the_length_of_other_subjects_does_not_matter(fitted):
    """Rows are padded to the longest subject."""
    X, y = theophylline()
    alone = X["Subject"] == 4
    together = fitted.condition(X, y)
    short = fitted.condition(X[alone | (X.index % 3 == 0)], y[alone | (y.index % 3 == 0)])
    assert_allclose(short.mode.loc[4], together.mode.loc[4], rtol=1e-7)
    assert_allclose(
        fitted.condition(X[alone], y[alone]).covariance[0], together.covariance[3], rtol=1e-7
    )


def test_containers_agree(fitted):
    polars = pytest.importorskip("polars")
    X, y = theophylline()
    table = polars.DataFrame({name: X[name].to_numpy() for name in X})
    model = model_of_theophylline().fit(table, y.to_numpy())
    assert_allclose(model.predict(table), fitted.predict(X), rtol=1e-12)

    def by_position(t, ka, CL, V):
        return oral(t, ka, CL, V, 320.0)

    named = NonlinearMixedModel(by_position, START, group="Subject", time="Time").fit(X, y)
    array = NonlinearMixedModel(by_position, START, group=0, time=3).fit(X.to_numpy(), y.to_numpy())
    assert_allclose(array.predict(X.to_numpy()), named.predict(X), rtol=1e-12)
    assert list(array.levels_) == [0] and list(array.random_effects_.index) == list(range(1, 13))


def test_a_compartment_model_is_its_formula(fitted):
    X, y = theophylline()
    model = NonlinearMixedModel(
        OneCompartment("first-order"),
        group="Subject",
        time="Time",
        dosing=Dosing.single(X["Subject"], X["dose"]),
    ).fit(X, y)
    assert_allclose(model.objective_, fitted.objective_, atol=1e-6)  # starts found by itself
    assert_allclose(model.predict(X), fitted.predict(X), atol=1e-5)
    double = Dosing.single(X["Subject"], 2 * X["dose"])
    assert_allclose(model.predict(X, dosing=double), 2 * model.predict(X), rtol=1e-10)
    assert clone(model).dosing is model.dosing


def test_functions_that_refuse_complex_numbers_are_differenced(fitted):
    def real_only(Time, ka, CL, V, dose):
        return oral(Time, np.abs(ka), CL, V, dose) + 0.0 * np.maximum(CL, 0.0).astype(float)

    model = NonlinearMixedModel(real_only, START, group="Subject").fit(*theophylline())
    assert not model._layout.specification.complex_safe
    assert_allclose(model.objective_, fitted.objective_, atol=1e-5)


def test_pickle_and_clone(fitted):
    X, _ = theophylline()
    assert_allclose(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X), rtol=0)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


# ---------------------------------------------------------------- known and new groups


def test_adapt_condition_and_modes_are_one(fitted):
    X, y = theophylline()
    posterior = fitted.condition(X, y)
    assert_allclose(posterior.mode, fitted.random_effects_, atol=1e-8)
    assert_allclose(posterior.individual_parameters, fitted.individual_parameters_, rtol=1e-8)
    old = X["Subject"] <= 9
    part = model_of_theophylline().fit(X[old], y[old])
    adapted = part.adapt(X[~old], y[~old])
    later = part.condition(X[~old], y[~old])
    assert_allclose(adapted.random_effects_.loc[10:], later.mode, atol=1e-8)
    assert_allclose(adapted.predict(X[~old]), later.predict(X[~old]), rtol=1e-8)
    assert_allclose(adapted.predict(X[old]), part.predict(X[old]), rtol=1e-8)
    assert 10 not in part.random_effects_.index  # the model itself is as before
    assert "adapt" in adapted.summary()


def test_adapt_adds_to_what_is_known():
    X, y = visits()
    early = X["time"] < 4
    model = NonlinearMixedModel(bolus, group="id", error="lognormal", occasion="visit")
    model = model.set_params(occasion_parameters=["CL"], standard_errors=None)
    old = X["id"] < "s08"
    model.fit(X[old], y[old])
    steps = model.adapt(X[~old & early], y[~old & early]).adapt(X[~old & ~early], y[~old & ~early])
    once = model.adapt(X[~old], y[~old])
    assert_allclose(steps.predict(X), once.predict(X), rtol=1e-8)


def test_adapt_reaches_through_a_pipeline():
    X, y = theophylline()
    old = X["Subject"] <= 9
    pipeline = make_pipeline(FunctionTransformer(), model_of_theophylline()).fit(X[old], y[old])
    direct = model_of_theophylline().fit(X[old], y[old]).adapt(X[~old], y[~old])
    assert_allclose(adapt(pipeline, X[~old], y[~old]).predict(X), direct.predict(X), rtol=1e-10)


def test_unseen_groups_are_predicted_by_the_population(fitted):
    X, y = theophylline()
    new = X.assign(Subject=99)
    assert_allclose(fitted.predict(new), fitted.predict_population(X), rtol=1e-12)
    assert np.mean((fitted.predict(X) - y) ** 2) < np.mean((fitted.predict_population(X) - y) ** 2)
    strict = clone(fitted).set_params(handle_unknown="error").fit(X, y)
    with pytest.raises(
        ValueError, match=r"'Subject' has groups that fit has not seen, 99; .*row 0"
    ):
        strict.predict(new)


def test_the_posterior_shrinks_with_more_rows(fitted):
    X, y = theophylline()
    one = X["Subject"] == 2
    few = fitted.condition(X[one].head(3), y[one].head(3))
    many = fitted.condition(X[one], y[one])
    later = X[one].tail(4)
    assert (many.predict(later, return_std=True)[1] < few.predict(later, return_std=True)[1]).all()
    prior = few.predict(X[one].assign(Subject=99), return_std=True)[1]  # a subject without rows
    assert (prior[1:5] > few.predict(X[one], return_std=True)[1][1:5]).all()


def test_draws_have_the_moments_of_the_posterior(fitted):
    X, y = theophylline()
    rows = X["Subject"] <= 2
    posterior = fitted.condition(X[rows], y[rows])
    draws = posterior.draws(4000, random_state=0)
    assert draws.shape == (4000, 2, 3)
    assert_allclose(draws.mean(axis=0), posterior.mode, atol=0.02)
    sd = np.sqrt(np.diagonal(posterior.covariance, axis1=1, axis2=2))
    assert_allclose(draws.std(axis=0), sd, rtol=0.06)
    exact = posterior.draws(4000, random_state=0, method="importance")
    # by brute force: the density of ka, CL, V of subject 1 on a grid around the mode
    grid = np.linspace(-4, 4, 31)
    offsets = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3) * sd[0]
    eta = posterior.mode.to_numpy()[0] + offsets
    psi = np.exp(fitted.coef_.to_numpy() + eta)
    one = X["Subject"] == 1
    f = oral(X.loc[one, "Time"].to_numpy(), *psi.T[..., None], X.loc[one, "dose"].to_numpy())
    height = ((y[one].to_numpy() - f) ** 2).sum(axis=1) / fitted.error_["additive"] ** 2
    height += (eta**2 / np.diag(fitted.omega_)).sum(axis=1)
    weight = np.exp(-0.5 * (height - height.min()))
    mean = weight @ eta / weight.sum()
    assert_allclose(exact[:, 0].mean(axis=0), mean, atol=0.012)
    parameters = posterior.sample_parameters(10, random_state=0)
    assert_allclose(
        parameters[:, 1], np.exp(fitted.coef_.to_numpy() + posterior.draws(10, 0)[:, 1]), rtol=1e-10
    )


def test_samples_have_the_moments_of_the_model(fitted):
    X, _ = theophylline()
    rows = X[X["Subject"] == 5]
    known = fitted.sample_y(rows, 3000, random_state=0)
    assert known.shape == (len(rows), 3000)
    assert_allclose(known.mean(axis=1), fitted.predict(rows), atol=0.15)
    new = fitted.sample_y(rows.assign(Subject=99), 3000, random_state=0)
    assert (new.std(axis=1)[2:8] > known.std(axis=1)[2:8]).all()
    assert_allclose(new[0].std(), fitted.error_["additive"], rtol=0.05)  # at time 0
    assert_allclose(known, fitted.sample_y(rows, 3000, random_state=0), rtol=0)


def test_the_score_is_the_marginal_density(fitted):
    """The integral over three random effects of subject 7, by brute force."""
    X, y = theophylline()
    one = X["Subject"] == 7
    omega = np.sqrt(np.diag(fitted.omega_))
    grid = np.linspace(-6, 6, 61)
    z = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    psi = np.exp(fitted.coef_.to_numpy() + z * omega)
    f = oral(X.loc[one, "Time"].to_numpy(), *psi.T[..., None], X.loc[one, "dose"].to_numpy())
    a = fitted.error_["additive"]
    log_density = -0.5 * (((y[one].to_numpy() - f) / a) ** 2).sum(axis=1)
    log_density -= one.sum() * np.log(a * np.sqrt(2 * np.pi))
    log_density += -0.5 * (z**2).sum(axis=1) - 1.5 * np.log(2 * np.pi) + 3 * np.log(0.2)
    total = np.logaddexp.reduce(log_density)
    assert_allclose(fitted.score(X[one], y[one]) * one.sum(), total, atol=0.05)
    assert fitted.score(X[one], y[one]) == fitted.score(X[one].assign(Subject=99), y[one])


def test_occasions():
    X, y = visits(30)
    options = {"group": "id", "error": "proportional", "standard_errors": None}
    parameters = {"CL": Parameter(2.0), "V": Parameter(20.0)}
    with_it = NonlinearMixedModel(
        bolus, parameters, occasion="visit", occasion_parameters=["CL"], **options
    ).fit(X, y)
    without = NonlinearMixedModel(bolus, parameters, **options).fit(X, y)
    assert without.objective_ - with_it.objective_ > 50
    assert list(with_it.omega_) == ["CL", "V", "CL (occasion)"]
    assert 0.15 < np.sqrt(with_it.omega_.loc["CL (occasion)", "CL (occasion)"]) < 0.45
    table = with_it.individual_parameters_
    assert table.index.names == ["id", "visit"] and len(table) == 60
    one = X[X["id"] == "s03"]
    expected = bolus(one["time"], *table.loc["s03"].loc[one["visit"]].to_numpy().T)
    assert_allclose(with_it.predict(one), expected, rtol=1e-10)
    new = with_it.predict(one.assign(visit="third"))
    typical = np.exp(with_it.coef_ + with_it.random_effects_.loc["s03"])
    assert_allclose(new, bolus(one["time"], *typical), rtol=1e-10)
    renamed = X.assign(visit=X["id"] + X["visit"])  # other names for the same occasions
    again = clone(with_it).fit(renamed, y)
    assert_allclose(again.objective_, with_it.objective_, atol=1e-6)


def test_censored_observations():
    """M3: the limit carries less than the value, more than leaving it out."""
    X, y = visits(20)
    low = y < np.quantile(y, 0.2)
    X, limit = X.assign(low=low), y.clip(lower=np.quantile(y, 0.2))
    options = {"group": "id", "error": "proportional", "standard_errors": None}
    model = NonlinearMixedModel(
        bolus, {"CL": 2.0, "V": 20.0}, censored="low", method="laplace", **options
    )
    model.fit(X, limit)
    full = clone(model).set_params(censored=None).fit(X, y)
    naive = clone(model).set_params(censored=None).fit(X, limit)
    error = lambda m: abs(np.log(m.parameters_.loc["CL", "estimate"] / full_CL))
    full_CL = full.parameters_.loc["CL", "estimate"]
    assert error(model) < 0.5 * error(naive)
    assert np.isfinite(model.score(X, limit))


def test_an_effect_without_variance_is_reported():
    X, y = visits()
    model = NonlinearMixedModel(
        bolus, {"CL": 2.0, "V": 20.0}, group="id", error="proportional", omega="full"
    )
    assert np.isfinite(model.fit(X, y).omega_).all(axis=None)
    noise = np.tile([0.1, -0.1, -0.1, 0.1, -0.1, 0.1, 0.1, -0.1], 12)  # alike in every subject
    same = bolus(X["time"], 2.0, 20.0) * np.exp(noise)
    flat = NonlinearMixedModel(bolus, {"CL": 2.0, "V": 20.0}, group="id", error="lognormal")
    flat.fit(X, same)
    assert flat.converged_ and "estimated at zero" in flat.summary()


def test_blocks_of_omega():
    X, y = visits(25)
    fits = {}
    for name, omega in {
        "diagonal": "diagonal",
        "full": "full",
        "block": [["V", "CL"]],
        "alone": [["V"], ["CL"]],
    }.items():
        model = NonlinearMixedModel(
            bolus, {"CL": 2.0, "V": 20.0}, group="id", omega=omega, error="lognormal"
        )
        fits[name] = model.set_params(standard_errors=None).fit(X, y)
    assert_allclose(fits["block"].objective_, fits["full"].objective_, atol=1e-5)
    assert_allclose(fits["alone"].objective_, fits["diagonal"].objective_, atol=1e-6)
    assert fits["full"].objective_ < fits["diagonal"].objective_
    assert fits["diagonal"].omega_.loc["CL", "V"] == 0 != fits["full"].omega_.loc["CL", "V"]


# ---------------------------------------------------------------- searching


def test_a_grid_over_errors_and_covariates():
    X, y = visits(18)
    model = NonlinearMixedModel(
        bolus,
        {"CL": Parameter(2.0), "V": 20.0},
        group="id",
        occasion="visit",
        occasion_parameters=["CL"],
        standard_errors=None,
    )
    grid = {
        "error": ["additive", "lognormal"],
        "parameters__CL__covariates": [[], [Covariate("weight", reference=70)]],
    }
    search = GridSearchCV(model, grid, cv=GroupKFold(3)).fit(X, y, groups=X["id"])
    assert search.best_params_["error"] == "lognormal"
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert model.parameters["CL"].covariates == ()  # the given model is as before
    scores = cross_val_score(search.best_estimator_, X, y, groups=X["id"], cv=GroupKFold(3))
    assert_allclose(scores.mean(), search.best_score_, rtol=1e-6)


def test_nested_parameters():
    weight = [Covariate("weight")]
    model = NonlinearMixedModel(OneCompartment(), {"CL": Parameter(2.0), "V": 20.0})
    params = model.get_params()
    assert params["parameters__CL__initial"] == 2.0 and params["parameters__V"] == 20.0
    assert params["structure__lag"] is False
    assert not any("__" in name for name in model.get_params(deep=False))
    copied = clone(model).set_params(parameters__CL__covariates=weight, parameters__V__fixed=True)
    assert copied.parameters["CL"].covariates is weight
    assert copied.parameters["V"].fixed and copied.parameters["V"].initial == 20.0
    assert model.parameters["CL"].covariates == () and model.parameters["V"] == 20.0
    with pytest.raises(ValueError, match="'parameters__KA__initial' is no parameter"):
        model.set_params(parameters__KA__initial=1.0)
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(parameters__CL__inital=1.0)


def test_further_starts_are_reproducible():
    X, y = visits(8)
    model = NonlinearMixedModel(bolus, group="id", error="lognormal", n_starts=3, random_state=3)
    first, second = (clone(model).fit(X, y) for _ in range(2))
    assert first.objective_ == second.objective_


def test_steps_are_printed(capsys):
    X, y = visits(6)
    NonlinearMixedModel(bolus, group="id", error="lognormal", verbose=1).fit(X, y)
    assert capsys.readouterr().out.startswith("step 1: objective")


# ---------------------------------------------------------------- warnings


def test_no_optimum_is_a_warning():
    X, y = visits(8)
    model = NonlinearMixedModel(bolus, {"CL": 9.0, "V": 9.0}, group="id", max_iter=1)
    with pytest.warns(ConvergenceWarning, match="no optimum after 1 steps"):
        model.fit(X, y)
    assert not model.converged_ and "did not converge" in model.summary()


def test_one_row_for_each_group_is_a_warning():
    X, y = visits(20)
    once = X["time"].eq(2.0) & X["visit"].eq("first")
    with pytest.warns(ConvergenceWarning, match="no group has more than one row"):
        model = NonlinearMixedModel(bolus, {"CL": 2.0, "V": 20.0}, group="id").fit(X[once], y[once])
    assert (model.omega_ == 0).all(axis=None)


def test_an_exact_fit_is_a_warning():
    X, _ = visits(6)
    y = bolus(X["time"], 2.0, 20.0)
    with pytest.warns(ConvergenceWarning, match="meets every observation"):
        model = NonlinearMixedModel(bolus, group="id").fit(X, y)
    assert_allclose(model.parameters_["estimate"], [2.0, 20.0], rtol=1e-6)
    by_group = y * X["id"].str[1:].astype(int).add(1)
    with pytest.warns(ConvergenceWarning, match="meets every observation"):
        model = NonlinearMixedModel(bolus, {"CL": 2.0, "V": 10.0}, group="id").fit(X, by_group)
    assert_allclose(model.predict(X), by_group, rtol=1e-3)


# ---------------------------------------------------------------- bad input


def wrong_shape(time, CL):
    return np.ones(3) * CL.sum()


def mixes_rows(time, CL):
    return CL / CL.sum() + time


def negative_root(time, CL):
    return np.sqrt(CL - 5.0 + 0.0 * time)


def many(time, *values):
    return time


@pytest.mark.parametrize(
    "change, message",
    [
        ({"group": "Subjekt"}, "group names .Subjekt., which is not a column of X.*'Subject'"),
        ({"time": "hours", "structure": bolus}, "time names .hours., which is not a column"),
        ({"structure": bolus, "time": "Time"}, "parameters names 'ka', which is no parameter"),
        ({"time": "Wt"}, "time names 'Wt', but the structure oral reads no such column"),
        ({"structure": "oral"}, "structure is 'oral'; it must be a function"),
        ({"structure": many}, "must have named arguments"),
        ({"parameters": {"ka": 1.0, "CL": 2.0}}, "argument 'V' of the structure oral is neither"),
        ({"parameters": {**START, "KA": 1.0}}, "names 'KA', which is no parameter.*'ka', 'CL'"),
        ({"parameters": [1.0]}, "parameters is a list; it must be a dict"),
        ({"parameters": {**START, "V": "big"}}, "parameters\\['V'\\] is 'big'"),
        ({"omega": "block"}, "omega is 'block'; it must be 'diagonal', 'full' or a list"),
        ({"omega": [["CL", "W"]]}, "omega names 'W', which is no parameter with a random effect"),
        ({"omega": [["CL", "V"], ["V"]]}, "omega names 'V' twice"),
        ({"error": "poisson"}, "error is 'poisson'; it must be one of"),
        ({"method": "reml"}, "method is 'reml'; it must be one of"),
        ({"handle_unknown": "zero"}, "handle_unknown is 'zero'"),
        ({"standard_errors": "robust"}, "standard_errors is 'robust'"),
        ({"n_starts": 0}, "n_starts is 0; it must be an integer"),
        ({"tol": 0.0}, "tol is 0.0; it must be a number above 0"),
        ({"occasion": "Subject"}, "group and occasion name the same column of X, 'Subject'"),
        ({"occasion_parameters": ["CL"]}, "occasion_parameters is given, but occasion is None"),
        ({"group": None, "occasion": "Time"}, "name the column of the group too"),
        ({"occasion": "Time", "occasion_parameters": ["W"]}, "names 'W', which is no parameter"),
        ({"occasion": "Time", "occasion_parameters": "CL"}, "must be a list of names"),
        ({"censored": "Wt"}, "censored names column .Wt., which is 79.6 in row 0: it must be true"),
        ({"dosing": Dosing.single([1], 1.0)}, "dosing is given, but the structure is no comp"),
        ({"error": "lognormal"}, "y is 0 for subject 2 in row 11: with a lognormal error"),
        ({"error": "proportional"}, "predicts .*0 for subject 1 in row 0, which is not possible"),
    ],
)
def test_bad_specifications(change, message):
    with pytest.raises(ValueError, match=message):
        model_of_theophylline().set_params(**change).fit(*theophylline())


@pytest.mark.parametrize(
    "structure, message",
    [
        (wrong_shape, r"the structure wrong_shape gave an array of shape \(3,\)"),
        (mixes_rows, "the structure mixes_rows must work like numpy's functions"),
        (negative_root, "gave nan for subject 1 in row 0 with CL=2: start from other values"),
        (OneCompartment(), "the structure OneCompartment needs the doses"),
    ],
)
def test_bad_structures(structure, message):
    X, y = theophylline()
    names = ["CL", "V"] if isinstance(structure, OneCompartment) else ["CL"]
    parameters = dict.fromkeys(names, 2.0)
    model = NonlinearMixedModel(structure, parameters, group="Subject", time="Time")
    with pytest.raises(ValueError, match=message), np.errstate(all="ignore"):
        model.fit(X, y)


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("Time", np.nan, r"column 'Time' is missing \(NaN\) for subject 1 in row 3"),
        ("Time", np.inf, r"column 'Time' is infinite \(inf\) for subject 1 in row 3"),
        ("Subject", np.nan, r"column 'Subject' has a missing id \(NaN or null\) in row 3"),
        ("dose", np.nan, r"column 'dose' is missing \(NaN\) for subject 1 in row 3"),
    ],
)
def test_bad_rows(fitted, column, value, message):
    X, y = theophylline()
    X[column] = X[column].astype(float)
    X.loc[3, column] = value
    message = message.replace("'", '"')
    with pytest.raises(ValueError, match=message):
        model_of_theophylline().fit(X, y)
    if column != "Subject":
        with pytest.raises(ValueError, match=message):
            fitted.predict(X)


def test_further_bad_rows(fitted):
    X, y = theophylline()
    with pytest.raises(ValueError, match="NaN"):
        model_of_theophylline().fit(X, y.where(y > 1))
    with pytest.raises(ValueError, match='column "Time" of X holds text; a column that'):
        model_of_theophylline().fit(X.assign(Time="noon"), y)
    with pytest.raises(ValueError, match="n_samples=3 rows cannot tell 3 typical values"):
        model_of_theophylline().fit(X.head(3), y.head(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.score(X, y.head(3))
    with pytest.raises(ValueError, match="must be of the same family"):
        fitted.predict(X.assign(Subject="1"))
    with pytest.raises(ValueError, match="which column of X the structure depends on as 'time'"):
        NonlinearMixedModel(bolus, group="Subject").fit(X, y)
    with pytest.raises(ValueError, match="but group is None"):
        NonlinearMixedModel(
            OneCompartment(), time="Time", dosing=Dosing.single(X["Subject"], 1.0)
        ).fit(X, y)
    with pytest.raises(ValueError, match=re.escape("method is 'exact'")):
        fitted.condition(X, y).draws(3, method="exact")
    assert fitted.condition(X, y).draws(3).shape == (3, 12, 3)


def test_a_dose_after_the_last_sample_is_named():
    X, y = theophylline()
    people = X.drop_duplicates("Subject")
    amount = [*(people["Dose"] * people["Wt"]), 50.0]
    doses = Dosing([*people["Subject"], 3], time=[0.0] * 12 + [100.0], amount=amount)
    parameters = {"CL": 2.7, "V": 30.0, "KA": 1.5}
    options = {"group": "Subject", "time": "Time", "standard_errors": None}
    model = NonlinearMixedModel(OneCompartment("first-order"), parameters, **options)
    model.set_params(dosing=doses)
    message = (
        "subject 3 has a dose at time 100, in row 3 of the doses, after its last sample at 24.17"
    )
    with pytest.warns(UserWarning, match=message):
        model.fit(X, y)
    assert_allclose(model.objective_, 116.803413, rtol=1e-6)
