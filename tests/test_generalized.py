"""GeneralizedLinearMixedModel, LogisticMixedModel and OrdinalMixedModel."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
)
from sklearn.metrics import d2_tweedie_score, log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict

from sklme import GeneralizedLinearMixedModel, LogisticMixedModel, OrdinalMixedModel
from sklme._engine.families import family_of
from sklme.datasets import load_cbpp, load_wine_bitterness
from sklme.families import Family, Terms


def table(n_sites=30, per_site=20, sd=1.0, seed=0, first=0):
    """X with a text site, and the linear predictor of each row."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(n_sites), per_site)
    X = pd.DataFrame({"dose": rng.normal(size=len(site)), "age": rng.normal(50, 10, len(site))})
    X["site"] = [f"site {first + i}" for i in site]
    effects = rng.normal(0, sd, n_sites)[site]
    return X, 0.3 + 0.8 * X["dose"].to_numpy() + 0.02 * (X["age"].to_numpy() - 50) + effects


def draws(eta, seed=1, kind="poisson", **options):
    """Outcomes of a family at these linear predictors."""
    rng = np.random.default_rng(seed)
    aux = np.array(options.get("aux", np.zeros((0, 1))), dtype=float)
    return family_of(kind).sample(np.asarray(eta), aux, options.get("trials"), rng)


def classes(eta, seed=1):
    return np.where(np.random.default_rng(seed).random(len(eta)) < expit(eta), "yes", "no")


def grades(eta, seed=1):
    noise = np.random.default_rng(seed).logistic(size=len(eta))
    return np.digitize(eta + noise, [-1.0, 0.5, 2.0])


def encoded_cbpp():
    """cbpp with the contrasts of R's factor(period)."""
    X, y = load_cbpp(return_X_y=True)
    for period in (2, 3, 4):
        X[f"period{period}"] = 1.0 * (X["period"] == period)
    return X.drop(columns="period"), y


# Numbers of R -----------------------------------------------------------------------------------


def test_cbpp_as_lme4():
    """glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial)."""
    X, y = encoded_cbpp()
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    assert_allclose(model.intercept_, -1.398532, rtol=1e-5)
    assert_allclose(model.coef_, [-0.992333, -1.128672, -1.580314], rtol=1e-5)
    assert_allclose(model.theta_["herd"], [[0.6422615]], rtol=1e-5)
    assert_allclose(model.log_likelihood_, -92.026282, rtol=1e-7)


def test_quadrature_nears_the_true_likelihood():
    """The best attained by 9 nodes, in units with all constants."""
    X, y = encoded_cbpp()
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size", n_quadrature=9)
    model.fit(X, y)
    assert_allclose(-2 * model.log_likelihood_, 183.9668, atol=1e-4)
    assert "adaptive quadrature with 9 nodes" in model.summary()
    crossed = GeneralizedLinearMixedModel(["herd", "period2"], n_quadrature=9)
    with pytest.raises(ValueError, match="possible with one grouping factor, and there are 2"):
        crossed.fit(X, y)
    single = OrdinalMixedModel("herd", n_quadrature=15).fit(X, y.clip(upper=3))
    assert np.isfinite(single.log_likelihood_) and single.converged_


def test_wine_as_ordinal():
    """clmm(rating ~ temp + contact + (1 | judge), wine) of the R package ordinal."""
    X, y = load_wine_bitterness(return_X_y=True)
    X["warm"], X["contact"] = 1.0 * (X["temp"] == "warm"), 1.0 * (X["contact"] == "yes")
    X = X[["warm", "contact", "judge"]]
    model = OrdinalMixedModel("judge").fit(X, y.astype(int))
    assert_allclose(model.log_likelihood_, -81.56541, atol=1e-4)
    assert_allclose(model.coef_, [3.0630, 1.8349], atol=1e-3)
    assert_allclose(model.thresholds_, [-1.6237, 1.5134, 4.2285, 6.0888], atol=1e-3)
    assert_allclose(model.covariance_["judge"], [[1.2795]], atol=1e-3)
    assert_array_equal(model.classes_, [1, 2, 3, 4, 5])


# Without random effects -------------------------------------------------------------------------


def test_without_random_effects_as_scikit_learn():
    X, eta = table(sd=0.0)
    X = X.drop(columns="site")
    for kind, peer, aux in [
        ("poisson", PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000), np.zeros((0, 1))),
        ("gamma", GammaRegressor(alpha=0, tol=1e-10, max_iter=1000), [[-1.0]]),
    ]:
        y = draws(eta, kind=kind, aux=aux)
        model = GeneralizedLinearMixedModel(family=kind).fit(X, y)
        peer.fit(X, y)
        assert_allclose(model.coef_, peer.coef_, rtol=1e-4)
        assert_allclose(model.predict(X), peer.predict(X), rtol=1e-4)
        assert_allclose(model.score(X, y), peer.score(X, y), rtol=1e-6)


def test_two_classes_without_random_effects_as_scikit_learn():
    X, eta = table(sd=0.0)
    X, y = X.drop(columns="site"), classes(eta)
    model = LogisticMixedModel().fit(X, y)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(X, y)
    assert_allclose(model.coef_, peer.coef_[0], rtol=1e-4)
    assert_allclose(model.predict_proba(X), peer.predict_proba(X), rtol=1e-4)
    assert_array_equal(model.predict(X), peer.predict(X))
    assert model.random_effects_ == {} and model.covariance_ == {}


# Families ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, aux, expected",
    [
        ("nb1", [[0.0]], {"dispersion_": 1.0}),
        ("nb2", [[-1.0]], {"dispersion_": np.exp(-1.0)}),
        ("gamma", [[-1.0]], {"dispersion_": np.exp(-1.0)}),
        ("inverse gaussian", [[-1.0]], {"dispersion_": np.exp(-1.0)}),
        ("tweedie", [[0.0], [0.0]], {"dispersion_": 1.0, "power_": 1.5}),
    ],
)
def test_parameters_are_found_again(kind, aux, expected):
    X, eta = table(60, 40, sd=0.7)
    model = GeneralizedLinearMixedModel("site", family=kind).fit(X, draws(eta, kind=kind, aux=aux))
    assert model.converged_
    assert_allclose(model.coef_, [0.8, 0.02], atol=0.1)
    assert_allclose(model.theta_["site"], [[0.7]], atol=0.2)
    for name, value in expected.items():
        assert_allclose(getattr(model, name), value, rtol=0.2)
    assert (model.power_ is None) == (kind != "tweedie")
    assert model.zero_intercept_ is None and model.zero_coef_ is None


def test_beta_and_links():
    X, eta = table(60, 40, sd=0.7)
    y = draws(eta, kind="beta", aux=[[1.0]])
    model = GeneralizedLinearMixedModel("site", family="beta").fit(X, y)
    assert_allclose(model.coef_, [0.8, 0.02], atol=0.1)
    assert_allclose(model.dispersion_, 1 / (1 + np.exp(1.0)), rtol=0.2)
    probit = GeneralizedLinearMixedModel("site", family="beta", link="probit").fit(X, y)
    assert_allclose(probit.coef_[0] / model.coef_[0], 0.6, atol=0.05)


def test_identity_link_of_counts():
    X, _ = table(sd=0.0)
    y = np.random.default_rng(0).poisson(20 + 2 * X["dose"])
    X["site"] = X["site"].str[-1]
    model = GeneralizedLinearMixedModel("site", link="identity").fit(X, y)
    assert_allclose(model.coef_[0], 2.0, atol=0.5)
    assert_allclose(model.predict(X), model.predict_linear(X))


def test_zero_inflation():
    X, eta = table(60, 40, sd=0.5)
    rng = np.random.default_rng(2)
    extra = rng.random(len(X)) < expit(-1.0 + X["dose"])
    y = np.where(extra, 0.0, draws(eta + 1.0))
    model = GeneralizedLinearMixedModel("site", zero_inflation=["dose"]).fit(X, y)
    assert_allclose(model.zero_intercept_, -1.0, atol=0.2)
    assert_allclose(model.zero_coef_, [1.0], atol=0.25)
    assert_allclose(model.coef_[0], 0.8, atol=0.1)
    assert_allclose(model.predict(X).mean(), y.mean(), rtol=0.03)
    share = expit(model.zero_intercept_ + model.zero_coef_[0] * X["dose"])
    assert_allclose(model.predict(X), (1 - share) * np.exp(model.predict_linear(X)))
    constant = GeneralizedLinearMixedModel("site", zero_inflation=[]).fit(X, y)
    assert constant.zero_coef_.shape == (0,)
    plain = GeneralizedLinearMixedModel("site").fit(X, y)
    assert model.log_likelihood_ > constant.log_likelihood_ > plain.log_likelihood_
    assert 0 < model.score(X, y) < 1
    drawn = model.sample_y(X, 400, random_state=0)
    assert_allclose((drawn == 0).mean(), (y == 0).mean(), atol=0.02)


# Trials, offset, weights ------------------------------------------------------------------------


def test_trials_are_rows_of_one_trial():
    X, y = encoded_cbpp()
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size", tol=1e-9)
    model.fit(X, y)
    rows = np.repeat(np.arange(len(X)), X["size"])
    place = np.concatenate([np.arange(size) for size in X["size"]])
    single = X.drop(columns="size").iloc[rows]
    each = LogisticMixedModel("herd", tol=1e-9).fit(single, place < y.to_numpy()[rows])
    assert_allclose(each.coef_, model.coef_, rtol=1e-6)
    assert_allclose(each.theta_["herd"], model.theta_["herd"], rtol=1e-6)
    share = each.predict_proba(X.drop(columns="size"))[:, 1]
    assert_allclose(model.predict(X), X["size"] * share, rtol=1e-6)
    assert model.fixed_names_ == ["period2", "period3", "period4"]


def test_more_trials_more_successes():
    X, y = encoded_cbpp()
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    double = X.assign(size=2 * X["size"])
    for method in (model.predict, model.predict_population):
        assert_allclose(method(double), 2 * method(X))
    assert_allclose(model.predict(double, return_std=True)[1], 2 * model.predict(X, True)[1])
    interval = model.predict_interval(X)
    assert (interval >= 0).all() and (interval[:, 1] <= X["size"]).all()
    assert_array_equal(interval, np.floor(interval))
    drawn = model.sample_y(X, 50, random_state=0)
    assert (drawn <= X["size"].to_numpy()[:, None]).all() and (drawn >= 0).all()


def test_offset_is_an_exposure():
    X, eta = table()
    X["log_days"] = np.log(np.random.default_rng(0).integers(1, 30, len(X)))
    y = draws(eta + X["log_days"])
    model = GeneralizedLinearMixedModel("site", offset="log_days").fit(X, y)
    assert model.fixed_names_ == ["dose", "age"]
    assert_allclose(model.coef_[0], 0.8, atol=0.05)
    longer = X.assign(log_days=X["log_days"] + np.log(3))
    assert_allclose(model.predict(longer), 3 * model.predict(X))
    assert_allclose(model.predict_linear(longer), model.predict_linear(X) + np.log(3))
    ratio = model.sample_y(longer, 300, 0).mean() / model.sample_y(X, 300, 0).mean()
    assert_allclose(ratio, 3, rtol=0.05)


def test_rates_with_exposures_as_weights_are_counts_with_an_offset():
    X, eta = table()
    days = np.random.default_rng(0).integers(1, 30, len(X))
    y = draws(eta + np.log(days))
    rates = GeneralizedLinearMixedModel("site", tol=1e-9).fit(X, y / days, sample_weight=days)
    counts = GeneralizedLinearMixedModel("site", offset="log_days", tol=1e-9)
    counts.fit(X.assign(log_days=np.log(days)), y)
    assert_allclose(rates.coef_, counts.coef_, rtol=1e-6)
    assert_allclose(rates.theta_["site"], counts.theta_["site"], rtol=1e-6)


# Levels that fit has not seen -------------------------------------------------------------------


def test_marginal_probabilities_of_new_sites_are_calibrated():
    """Among new rows that get the probability p, p of them are positive; not so for population."""
    X, eta = table(200, 15, sd=2.0)
    model = LogisticMixedModel("site").fit(X, classes(eta))
    new, eta = table(2000, 15, sd=2.0, seed=5, first=1000)
    y = classes(eta, seed=6) == "yes"
    share = model.predict_proba(new)[:, 1]
    naive = model.predict_population(new)[:, 1]
    order = np.argsort(share)
    for part in np.array_split(order, 5):
        assert abs(share[part].mean() - y[part].mean()) < 0.04
    ends = [order[:6000], order[-6000:]]
    assert all(abs(naive[part].mean() - y[part].mean()) > 0.07 for part in ends)
    assert log_loss(y, share) < log_loss(y, naive)
    model.set_params(handle_unknown="population")
    assert_array_equal(model.predict_proba(new)[:, 1], naive)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_marginal_probabilities_are_the_mean_of_draws(link):
    X, eta = table(40, 20, sd=1.5)
    X["ward"] = X["site"].str[-1]
    terms = {"site": ["1", "dose"], "ward": ["1"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticMixedModel(terms, link=link).fit(X, classes(eta))
    new = X.head(3).assign(site="elsewhere")
    z = np.stack([np.ones(3), new["dose"]], axis=1)
    rng = np.random.default_rng(0)
    b = rng.multivariate_normal(np.zeros(2), model.covariance_["site"], 400_000)
    mean = family_of("binomial", link).link.mean(model.predict_linear(new)[:, None] + z @ b.T)
    assert_allclose(model.predict_proba(new)[:, 1], mean.mean(axis=1), atol=3e-3)
    assert_allclose(
        model.predict_proba(X.head(3))[:, 1],
        family_of("binomial", link).link.mean(model.predict_linear(X.head(3))),
    )


def test_marginal_counts_are_larger_than_those_of_the_population():
    X, eta = table()
    model = GeneralizedLinearMixedModel("site").fit(X, draws(eta))
    new, v = X.assign(site="elsewhere"), model.covariance_["site"][0, 0]
    assert_allclose(model.predict(new), model.predict_population(X) * np.exp(v / 2))
    assert_allclose(model.predict_linear(new), np.log(model.predict_population(X)))
    known = model.predict(X)
    assert_allclose(known, np.exp(model.predict_linear(X)))
    model.set_params(handle_unknown="population")
    assert_array_equal(model.predict(new), model.predict_population(X))
    assert_array_equal(model.predict(X), known)
    model.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match=r'site.*"elsewhere".*row 0'):
        model.predict(new)


def test_marginal_grades_are_the_mean_of_draws():
    X, eta = table(40, 20, sd=1.5)
    model = OrdinalMixedModel("site").fit(X, grades(eta))
    new = X.head(3).assign(site="elsewhere")
    b = np.random.default_rng(0).normal(0, model.theta_["site"][0, 0], 200_000)
    eta = model.predict_linear(new)[:, None] + b
    below = expit(model.thresholds_[:, None, None] - eta).mean(axis=2)
    expected = np.diff(below, axis=0, prepend=0, append=1).T
    found = model.predict_proba(new)
    assert_allclose(found, expected, atol=3e-3)
    assert_allclose(found.sum(axis=1), 1.0, rtol=1e-9)


# Uncertainty ------------------------------------------------------------------------------------


def test_standard_deviations_are_those_of_draws_of_the_linear_predictor():
    X, eta = table(20, 6)
    rng = np.random.default_rng(0)
    counts = GeneralizedLinearMixedModel("site").fit(X, draws(eta))
    two = LogisticMixedModel("site").fit(X, classes(eta))
    ordered = OrdinalMixedModel("site").fit(X, grades(eta))
    some = pd.concat([X.head(2), X.head(2).assign(site="elsewhere")])
    for model, mean, method in [
        (counts, lambda e: np.exp(e), counts.predict),
        (two, expit, two.predict_proba),
        (ordered, lambda e: expit(ordered.thresholds_[0] - e), ordered.predict_proba),
    ]:
        eta, std = model.predict_linear(some, return_std=True)
        values = mean(eta[:, None] + std[:, None] * rng.normal(size=(4, 300_000)))
        found = method(some, return_std=True)[1]
        found = found[:, 0] if found.ndim == 2 else found
        assert_allclose(found, values.std(axis=1), rtol=0.05)
        assert (std[2:] > std[:2]).all()


def test_intervals_cover_new_observations():
    X, eta = table(300, 8, sd=0.8)
    here = np.arange(len(X)) % 4 > 0
    y = draws(eta, kind="nb2", aux=[[-1.0]])
    model = GeneralizedLinearMixedModel("site", family="nb2").fit(X[here], y[here])
    new, new_eta = table(100, 8, sd=0.8, seed=3, first=1000)
    new_y = draws(new_eta, kind="nb2", aux=[[-1.0]], seed=4)
    for table_, observed in [(X[~here], y[~here]), (new, new_y)]:
        interval = model.predict_interval(table_, confidence_level=0.8)
        covered = (interval[:, 0] <= observed) & (observed <= interval[:, 1])
        assert 0.78 <= covered.mean() <= 0.93  # whole numbers cover a little more
    gamma = draws(eta, kind="gamma", aux=[[-1.0]])
    model = GeneralizedLinearMixedModel("site", family="gamma").fit(X[here], gamma[here])
    interval = model.predict_interval(X[~here], confidence_level=0.8)
    covered = (interval[:, 0] <= gamma[~here]) & (gamma[~here] <= interval[:, 1])
    assert abs(covered.mean() - 0.8) < 0.05


def test_samples_agree_with_predictions():
    X, eta = table(20, 10)
    model = GeneralizedLinearMixedModel("site").fit(X, draws(eta))
    some = pd.concat([X.head(2), X.head(2).assign(site="elsewhere")])
    drawn = model.sample_y(some, 40_000, random_state=0)
    assert_allclose(drawn[2:].mean(axis=1), model.predict(some)[2:], rtol=0.15)
    low, high = model.predict_interval(some, 0.9).T
    assert_allclose(np.quantile(drawn, 0.05, axis=1), low, atol=1)
    assert_allclose(np.quantile(drawn, 0.95, axis=1), high, rtol=0.1, atol=1)
    together = model.sample_y(X.head(2).assign(site="elsewhere", dose=0, age=50), 20_000, 0)
    assert np.corrcoef(together)[0, 1] > 0.4  # one new site, one effect
    again = model.sample_y(some, 40_000, random_state=0)
    assert_array_equal(drawn, again)


def test_intervals_of_probabilities():
    X, eta = table(20, 10)
    model = LogisticMixedModel("site").fit(X, classes(eta))
    low, high = model.predict_interval(X, 0.9).T
    share = model.predict_proba(X)[:, 1]
    assert ((0 < low) & (low < share) & (share < high) & (high < 1)).all()
    wide = model.predict_interval(X.assign(site="elsewhere"), 0.9)
    assert (np.diff(wide)[:, 0] > high - low).mean() > 0.9
    ordered = OrdinalMixedModel("site").fit(X, grades(eta))
    eta, std = ordered.predict_linear(X.head(3), return_std=True)
    values = eta[:, None] + std[:, None] * np.random.default_rng(0).normal(size=(3, 200_000))
    below = expit(ordered.thresholds_[:, None, None] - values)
    shares = np.diff(below, axis=0, prepend=0, append=1)
    found = ordered.predict_interval(X.head(3), 0.9)
    assert found.shape == (3, 2, 4)
    expected = np.quantile(shares, [0.05, 0.95], axis=2).transpose(2, 0, 1)
    assert_allclose(found, expected, atol=5e-3)


# Score ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, power, aux", [("poisson", 1, np.zeros((0, 1))), ("gamma", 2, [[-1.0]])]
)
def test_score_is_the_share_of_the_deviance(kind, power, aux):
    X, eta = table()
    y = draws(eta, kind=kind, aux=aux)
    model = GeneralizedLinearMixedModel("site", family=kind).fit(X, y)
    for some in (X, X.assign(site="elsewhere")):
        weights = np.random.default_rng(0).integers(0, 3, len(X))
        for w in (None, weights):
            expected = d2_tweedie_score(y, model.predict(some), power=power, sample_weight=w)
            assert_allclose(model.score(some, y, sample_weight=w), expected, rtol=1e-9)


def test_score_with_trials_and_of_a_constant():
    X, y = encoded_cbpp()
    model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    assert 0.4 < model.score(X, y) < 0.7
    nothing = GeneralizedLinearMixedModel(family="binomial", trials="size", fixed_effects=[])
    nothing.fit(X, y)
    assert_allclose(nothing.score(X, y), 0.0, atol=1e-9)
    model = GeneralizedLinearMixedModel().fit(X[["period2"]], y)
    assert model.score(X[["period2"]], np.zeros(len(X))) < 1e-8


# Two classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [("no", "yes"), (False, True), (0, 1), (3, 8), (-1.0, 1.0)])
def test_labels_of_any_type(labels):
    X, eta = table()
    y = np.array(labels)[(classes(eta) == "yes").astype(int)]
    model = LogisticMixedModel("site").fit(X, y)
    assert_array_equal(model.classes_, labels)
    assert set(model.predict(X)) == set(labels)
    assert set(model.sample_y(X, 2, 0).ravel()) == set(labels)
    assert model.score(X, y) > 0.7
    assert model.adapt(X.assign(site="new"), y).levels_["site"][-1] == "new"
    assert_allclose(model.coef_, LogisticMixedModel("site").fit(X, classes(eta)).coef_)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_the_decision_is_the_link_of_the_probability(link):
    X, eta = table()
    model = LogisticMixedModel("site", link=link).fit(X, classes(eta))
    mixed = X.assign(site=np.where(np.arange(len(X)) % 2, X["site"], "elsewhere"))
    decision, share = model.decision_function(mixed), model.predict_proba(mixed)[:, 1]
    assert_allclose(family_of("binomial", link).link.eta(share), decision, atol=1e-9)
    assert_array_equal(np.argsort(decision), np.argsort(share))
    assert_array_equal(model.predict(mixed) == "yes", share > 0.5)
    assert_allclose(model.predict_proba(mixed).sum(axis=1), 1.0)
    assert_allclose(model.decision_function(X), model.predict_linear(X))


def test_class_weights_are_row_weights():
    X, eta = table()
    y = classes(eta - 1)
    yes = y == "yes"
    given = LogisticMixedModel("site", class_weight={"no": 1, "yes": 3}).fit(X, y)
    rows = LogisticMixedModel("site").fit(X, y, sample_weight=np.where(yes, 3.0, 1.0))
    assert_allclose(given.coef_, rows.coef_, rtol=1e-8)
    balanced = LogisticMixedModel("site", class_weight="balanced").fit(X, y)
    size = len(y) / 2
    weights = np.where(yes, size / yes.sum(), size / (~yes).sum())
    assert_allclose(balanced.coef_, LogisticMixedModel("site").fit(X, y, weights).coef_, rtol=1e-8)
    assert balanced.predict_proba(X)[:, 1].mean() > 0.45 > rows.predict_proba(X)[:, 1].mean() - 1
    adapted = given.adapt(X.assign(site="new"), y)
    expected = rows.adapt(X.assign(site="new"), y, sample_weight=np.where(yes, 3.0, 1.0))
    assert_allclose(adapted.random_effects_["site"], expected.random_effects_["site"], rtol=1e-6)


# Ordered classes --------------------------------------------------------------------------------


def test_two_ordered_classes_are_two_classes():
    X, eta = table()
    y = classes(eta)
    ordered = OrdinalMixedModel("site", tol=1e-9).fit(X, y)
    two = LogisticMixedModel("site", tol=1e-9).fit(X, y)
    assert_allclose(ordered.coef_, two.coef_, rtol=1e-6)
    assert_allclose(ordered.thresholds_, [-two.intercept_], rtol=1e-6)
    assert_allclose(ordered.predict_proba(X), two.predict_proba(X), rtol=1e-6)
    new = X.assign(site="elsewhere")
    assert_allclose(ordered.predict_proba(new), two.predict_proba(new), rtol=1e-6)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_ordered_categories_keep_their_order(library):
    X, eta = table()
    names = ["poor", "fair", "good", "very good", "never"]
    labels = np.array(names)[grades(eta)]
    if library == "pandas":
        y = pd.Series(pd.Categorical(labels, names, ordered=True))
    else:
        y = pl.Series(labels.tolist(), dtype=pl.Enum(names))
    model = OrdinalMixedModel("site").fit(X, y)
    assert model.classes_.tolist() == names[:4]
    numbers = OrdinalMixedModel("site").fit(X, grades(eta))
    assert_allclose(model.thresholds_, numbers.thresholds_)
    assert_array_equal(model.predict(X), np.array(names)[numbers.predict(X)])
    unordered = OrdinalMixedModel("site").fit(X, labels)
    assert unordered.classes_.tolist() == sorted(names[:4])
    adapted = model.adapt(X.assign(site="new"), y)
    assert_allclose(adapted.thresholds_, model.thresholds_)


def test_probabilities_of_ordered_classes_follow_the_thresholds():
    X, eta = table()
    model = OrdinalMixedModel("site").fit(X, grades(eta))
    assert (np.diff(model.thresholds_) > 0).all() and model.intercept_ == 0.0
    below = expit(model.thresholds_ - model.predict_linear(X)[:, None])
    assert_allclose(np.cumsum(model.predict_proba(X), axis=1)[:, :-1], below, rtol=1e-9)
    assert_allclose(model.predict_population(X).sum(axis=1), 1.0)
    drawn = model.sample_y(X, 500, random_state=0)
    assert_allclose((drawn <= 1).mean(), (grades(eta) <= 1).mean(), atol=0.05)


def test_thresholds_take_up_a_shift_of_a_column():
    X, eta = table()
    model = OrdinalMixedModel("site", tol=1e-9).fit(X, grades(eta))
    far = X.assign(age=X["age"] + 1000)
    other = OrdinalMixedModel("site", tol=1e-9).fit(far, grades(eta))
    assert_allclose(other.coef_, model.coef_, rtol=1e-6)
    assert_allclose(other.thresholds_, model.thresholds_ + 1000 * model.coef_[1], rtol=1e-6)
    for a, b in zip(
        model.predict_proba(X, return_std=True), other.predict_proba(far, True), strict=True
    ):
        assert_allclose(a, b, rtol=1e-5)


# adapt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["counts", "classes", "grades"])
def test_adapt_learns_a_site_as_fit_would(kind):
    X, eta = table(60, 20)
    make, outcome = {
        "counts": (GeneralizedLinearMixedModel, draws),
        "classes": (LogisticMixedModel, classes),
        "grades": (OrdinalMixedModel, grades),
    }[kind]
    y = outcome(eta)
    known = (X["site"] != "site 7").to_numpy()
    model = make("site").fit(X[known], y[known])
    adapted, joint = model.adapt(X[~known], y[~known]), make("site").fit(X, y)
    assert adapted.levels_["site"][-1] == "site 7"
    where = joint.levels_["site"].tolist().index("site 7")
    found, expected = adapted.random_effects_["site"][-1], joint.random_effects_["site"][where]
    assert_allclose(found, expected, atol=0.15)
    assert_allclose(adapted.random_effects_["site"][:-1], model.random_effects_["site"])
    _, std = adapted.predict_linear(X[~known], return_std=True)
    _, before = model.predict_linear(X[~known], return_std=True)
    assert (std < before).all()


# Invariance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["counts", "classes", "grades"])
def test_scales_shifts_and_the_order_of_rows_do_not_matter(kind):
    X, eta = table()
    make, outcome, method = {
        "counts": (GeneralizedLinearMixedModel, draws, "predict"),
        "classes": (LogisticMixedModel, classes, "predict_proba"),
        "grades": (OrdinalMixedModel, grades, "predict_proba"),
    }[kind]
    y, terms = outcome(eta), {"site": ["1", "dose"]}
    model = make(terms, tol=1e-9).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    names = {f"site {i}": f"{(7 * i) % 30:02d}" for i in range(30)}
    other_X = X.assign(
        dose=1e6 * X["dose"] + 1e4, age=1e-6 * X["age"] + 3, site=X["site"].map(names)
    )
    other = make(terms, tol=1e-9).fit(other_X.iloc[order], y[order])
    assert_allclose(other.log_likelihood_, model.log_likelihood_, rtol=1e-9)
    for new, other_new in [(X, other_X), (X.assign(site="?"), other_X.assign(site="?"))]:
        a, b = getattr(model, method), getattr(other, method)
        assert_allclose(b(other_new), a(new), rtol=1e-5, atol=1e-8)
        assert_allclose(b(other_new, return_std=True)[1], a(new, return_std=True)[1], rtol=1e-4)


# With scikit-learn ------------------------------------------------------------------------------


def test_grid_search_over_random_effects():
    X, eta = table()
    grid = {"random_effects": [{"site": []}, "site", {"site": ["1", "dose"]}]}
    cv = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(LogisticMixedModel(), grid, scoring="neg_log_loss", cv=cv)
    search.fit(X, classes(eta))
    assert search.best_params_["random_effects"] != {"site": []}
    search = GridSearchCV(GeneralizedLinearMixedModel(), grid, cv=cv).fit(X, draws(eta))
    assert search.best_score_ > 0.5
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] > scores[0] + 0.1


def test_cross_validation_over_sites():
    X, eta = table()
    cv, groups = GroupKFold(5), X["site"]
    y = classes(eta)
    share = cross_val_predict(
        LogisticMixedModel("site"), X, y, groups=groups, cv=cv, method="predict_proba"
    )
    assert log_loss(y, share) < log_loss(y, np.full(len(y), (y == "yes").mean()))
    counts = draws(eta)
    mean = cross_val_predict(GeneralizedLinearMixedModel("site"), X, counts, groups=groups, cv=cv)
    assert_allclose(mean.mean(), counts.mean(), rtol=0.1)
    ordered = cross_val_predict(OrdinalMixedModel("site"), X, grades(eta), groups=groups, cv=cv)
    assert (np.abs(ordered - grades(eta)) <= 1).mean() > 0.7


# Warnings and text ------------------------------------------------------------------------------


def test_each_thing_is_warned_of_once():
    X, eta = table(10, 6)
    X["row"], X["dose"] = np.arange(len(X)), X["dose"].round(1)
    y = classes(eta)
    with pytest.warns(ConvergenceWarning, match="cannot tell.*Intercept.*'row'") as caught:
        LogisticMixedModel("row", fixed_effects=["dose"]).fit(X, y)
    assert len(caught) == 1 and caught[0].filename == __file__
    separated = X["dose"] > 0
    with pytest.warns(ConvergenceWarning, match="perfectly predicted by.*'dose'") as caught:
        LogisticMixedModel("site", fixed_effects=["dose"]).fit(X, separated)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="no optimum after") as caught:
        GeneralizedLinearMixedModel("site", max_iter=1).fit(X, draws(eta))
    assert len(caught) == 1


def test_levels_that_are_all_alike():
    X, _ = table(10, 6)
    X["dose"] = np.random.default_rng(0).normal(size=len(X))
    even = X["site"].str[-1].astype(int) % 2 == 0
    with pytest.warns(ConvergenceWarning, match="variance of .*'site' has no finite estimate"):
        LogisticMixedModel("site", fixed_effects=["dose"]).fit(X, even)


def test_verbose_prints_a_line_a_step(capsys):
    X, eta = table(10, 6)
    GeneralizedLinearMixedModel("site", verbose=1).fit(X, draws(eta))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and all(line.startswith("step") for line in lines)


def test_summary():
    X, eta = table()
    X["ward"] = X["site"].str[-1]
    y = draws(eta, kind="nb2", aux=[[-1.0]])
    model = GeneralizedLinearMixedModel(["site", "ward"], family="nb2", zero_inflation=["dose"])
    text = model.fit(X, y).summary()
    for part in (
        "Family: zero-inflated nb2, link: log",
        "Laplace approximation",
        "Rows: 600",
        "site: (Intercept)",
        "site is nested in ward",
        "dispersion",
        "logit of further zeros: dose",
        "Fixed effects (normal)",
        "parameters: 8",
    ):
        assert part in text, part
    assert max(map(len, text.splitlines())) <= 80
    z = model.coef_[0]
    assert f"{z:.5g}" in text
    text = OrdinalMixedModel("site").fit(X.drop(columns="ward"), grades(eta)).summary()
    assert "threshold 0 | 1" in text and "cumulative logit" in text
    assert "take variances as known" in text
    text = LogisticMixedModel(fixed_effects=["dose"]).fit(X, classes(eta)).summary()
    assert "Random effects" not in text and "dose" in text


def test_the_likelihood_counts_all_parameters():
    X, eta = table()
    model = GeneralizedLinearMixedModel("site", family="nb2").fit(X, draws(eta))
    assert model._fit.n_parameters == 5
    assert f"AIC: {-2 * model.log_likelihood_ + 10:.2f}" in model.summary()


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, options, change, message",
    [
        ("counts", {"family": "poison"}, {}, "no family 'poison': possible are 'binomial'"),
        ("counts", {"link": "logit"}, {}, "poisson family has no link 'logit': possible are 'log'"),
        ("counts", {}, {"y": -1.0}, "poisson.*y is -1 in row 2"),
        ("counts", {"family": "nb2"}, {"y": 0.5}, "nb2.*whole numbers.*y is 0.5 in row 2"),
        ("counts", {"family": "gamma"}, {"y": 0.0}, "gamma family needs numbers > 0"),
        ("counts", {"family": "beta"}, {"y": 2.0}, "beta family"),
        ("counts", {"trials": "age"}, {}, "poisson family has no trials"),
        ("counts", {"trials": "size", "family": "binomial"}, {}, '"size", which is not a column'),
        ("counts", {"trials": "site", "family": "binomial"}, {}, "trials names.*uses as ids"),
        ("counts", {"offset": "site"}, {}, "offset names.*uses as ids"),
        ("counts", {"zero_inflation": "dose"}, {}, "must be a list of columns"),
        (
            "counts",
            {"zero_inflation": ["dos"]},
            {},
            'zero_inflation names "dos".*did you mean "dose"',
        ),
        ("counts", {"zero_inflation": ["dose", "dose"]}, {}, "zero_inflation names.*twice"),
        ("counts", {"zero_inflation": [], "family": "tweedie"}, {}, "zero_inflation is for counts"),
        ("counts", {"handle_unknown": "zero"}, {}, "handle_unknown is 'zero'; it must be one of"),
        ("counts", {"n_quadrature": 0}, {}, "n_quadrature must be a whole number from 1 .*is 0"),
        ("counts", {"n_quadrature": 2.5}, {}, "n_quadrature must be a whole number.*is 2.5"),
        ("counts", {"tol": -1.0}, {}, "tol is -1.0"),
        ("counts", {"max_iter": "many"}, {}, "max_iter is 'many'"),
        ("counts", {}, {"X": "text"}, 'column "dose" of X holds text'),
        ("classes", {"link": "log"}, {}, "binomial family has no link 'log'"),
        ("classes", {"class_weight": "even"}, {}, "class_weight is 'even'"),
        ("classes", {"class_weight": {"yes": 0, "no": 1}}, {}, "must be positive"),
        ("classes", {}, {"y": "maybe"}, "Only binary classification.*3 classes.*Ordinal"),
    ],
)
def test_bad_input_is_named(kind, options, change, message):
    X, eta = table(5, 6)
    make, y = {
        "counts": (GeneralizedLinearMixedModel, draws(eta)),
        "classes": (LogisticMixedModel, classes(eta).astype(object)),
    }[kind]
    if "y" in change:
        y[2] = change["y"]
    if "X" in change:
        X["dose"] = "much"
    with pytest.raises(ValueError, match=message):
        make("site", **options).fit(X, y)


def test_trials_are_checked():
    X, y = encoded_cbpp()
    make = lambda: GeneralizedLinearMixedModel("herd", family="binomial", trials="size")
    with pytest.raises(ValueError, match=r"successes from 0 to the trials: y is 99 in row 3"):
        make().fit(X, y.where(y.index != 3, 99))
    with pytest.raises(ValueError, match=r"trials must be whole numbers.*2.5 in row 4"):
        make().fit(X.assign(size=X["size"].where(X.index != 4, 2.5)), y.clip(upper=2))
    model = make().fit(X, y)
    with pytest.raises(ValueError, match="now missing:\n- size"):
        model.predict(X.drop(columns="size"))


@pytest.mark.parametrize("make", [LogisticMixedModel, OrdinalMixedModel])
def test_classes_are_checked(make):
    X, eta = table(5, 6)
    y = classes(eta)
    with pytest.raises(ValueError, match=r"at least two classes.*only one class, 'yes'"):
        make("site").fit(X, np.full(len(X), "yes"))
    with pytest.raises(ValueError, match="only one class, 'no'"):
        make("site").fit(X, y, sample_weight=1.0 * (y == "no"))
    with pytest.raises(ValueError, match="Unknown label type"):
        make("site").fit(X, eta)
    model = make("site").fit(X, y)
    with pytest.raises(
        ValueError, match=r"class 'maybe' in row 1, which fit has not seen.*'no', 'yes'"
    ):
        model.adapt(X.head(2), ["yes", "maybe"])
    with pytest.raises(ValueError, match="confidence_level is 95"):
        model.predict_interval(X, 95)
    with pytest.raises(ValueError, match="n_samples is 0"):
        model.sample_y(X, 0)


def test_an_inverse_link_needs_another_choice_for_unseen_levels():
    X, _ = table(20, 20, sd=0.0)
    mean = 1 / (2 + 0.3 * X["dose"].clip(-2, 2))
    y = np.random.default_rng(0).gamma(20, mean / 20)
    model = GeneralizedLinearMixedModel("site", family="gamma", link="inverse").fit(X, y)
    assert_allclose(model.predict(X), 1 / model.predict_linear(X))
    model.theta_["site"][0, 0] = 0.1  # sites do not differ here
    new = X.assign(site="elsewhere")
    with pytest.raises(ValueError, match=r'no mean over the effects.*handle_unknown="population"'):
        model.predict(new)
    model.set_params(handle_unknown="population")
    assert_array_equal(model.predict(new), model.predict_population(X))


def test_a_family_of_ones_own():
    """An object with its own link passes through; what it does not define is not needed."""
    X, eta = table()
    family = family_of("gamma", "log")
    y = draws(eta, kind="gamma", aux=[[-1.0]])
    own = GeneralizedLinearMixedModel("site", family=family).fit(X, y)
    assert_allclose(own.coef_, GeneralizedLinearMixedModel("site", family="gamma").fit(X, y).coef_)
    with pytest.raises(ValueError, match="brings its own link"):
        GeneralizedLinearMixedModel("site", family=family, link="log").fit(X, y)


class Exponential(Family):
    """Waiting times: a gamma distribution of dispersion 1, by its terms in mu alone."""

    name = "exponential"
    links = ("log",)

    def mu_terms(self, outcome, mu, aux, order):
        y = outcome.y
        value, first, second = -np.log(mu) - y / mu, y / mu**2 - 1 / mu, 1 / mu**2 - 2 * y / mu**3
        third = 6 * y / mu**4 - 2 / mu**3 if order > 2 else None
        return Terms(value, first, second, third)


def test_a_family_of_the_user():
    """It fits, predicts unknown sites and adapts; the mean of each known site is near its own."""
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(30), 40)
    X = pd.DataFrame({"x": rng.normal(size=1200), "site": site})
    mean = np.exp(0.5 + 0.3 * X["x"] + rng.normal(0, 0.6, 30)[site])
    y = rng.exponential(mean)
    model = GeneralizedLinearMixedModel("site", family=Exponential()).fit(X, y)
    assert model.converged_
    assert_allclose(model.coef_, [0.3], atol=0.1)
    assert_allclose(np.sqrt(model.covariance_["site"]), [[0.6]], atol=0.15)
    assert np.corrcoef(model.predict(X), mean)[0, 1] > 0.95
    new = X.head(40).assign(site=99)
    assert_allclose(
        model.predict(new), model.predict_population(new) * np.exp(model.covariance_["site"] / 2)[0]
    )
    assert 99 in model.adapt(new, y[:40]).levels_["site"]
