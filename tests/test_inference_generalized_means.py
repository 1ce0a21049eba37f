"""Means, variance shares, effects and residuals of generalised models."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reference_generalized import CASES, frame_of
from reference_generalized_shares import ICC, PROBIT, R_SQUARED
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, ndtr
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from sklme import (
    GeneralizedLinearMixedModel,
    LinearMixedModel,
    LogisticMixedModel,
    OrdinalMixedModel,
)
from sklme._engine import observed
from sklme._engine.families import FAMILIES
from sklme.datasets import load_cbpp, load_salamanders, load_wine_bitterness
from sklme.inference import (
    coefficient_table,
    icc,
    implied_correlation,
    marginal_means,
    quantile_residuals,
    r_squared,
    random_effects_table,
    variance_table,
    vcov,
)
from sklme.inference._access import open_model
from sklme.inference.variance import _generalized_parts


def case_rows(name):
    """X and y of a case of R, with its design columns by name."""
    case = CASES[name]
    frame = frame_of(case)
    X = pd.DataFrame(index=frame.index)
    for column, source in case["columns"].items():
        if isinstance(source, str):
            X[column] = frame[source].to_numpy(float)
        else:
            X[column] = (frame[source[0]].astype(str) == source[1]).astype(float)
    for group in case["groups"]:
        X[group] = frame[group].astype(str).to_numpy()
    if case["trials"]:
        X[case["trials"]] = frame[case["trials"]]
    return X, frame[case["target"]].astype(float)


FITS: dict = {}


def case_fit(name, **options):
    """A case of R fitted by its estimator, once; model, X, y."""
    key = name, *options.items()
    if key not in FITS:
        case, (X, y) = CASES[name], case_rows(name)
        options = {"family": case["family"], "link": case["link"], **options}
        model = GeneralizedLinearMixedModel(list(case["groups"]), trials=case["trials"], **options)
        FITS[key] = model.fit(X, y), X, y
    return FITS[key]


@pytest.fixture(scope="module")
def cbpp():
    X, y = load_cbpp(return_X_y=True, as_frame=True)
    return GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y), X, y


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine_bitterness(return_X_y=True, as_frame=True)
    X = X.assign(warm=1.0 * (X["temp"] == "warm"), contact=1.0 * (X["contact"] == "yes"))
    X, y = X[["warm", "contact", "judge"]], y.astype(int)
    return OrdinalMixedModel("judge", fixed_effects=["warm", "contact"]).fit(X, y), X, y


def drawn(family="poisson", *, seed=0, n=1000, levels=30, slopes=False, sd=0.6, link=None):
    """Rows of a true model, and its linear predictor: X has g, x; y has the name of the family."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"g": rng.integers(0, levels, n), "x": rng.normal(size=n)})
    b = sd * rng.normal(size=(levels, 2)) * (1.0, 0.5 if slopes else 0.0)
    eta = (5.0 if link == "sqrt" else 0.7) + 0.5 * X["x"] + b[X["g"], 0] + b[X["g"], 1] * X["x"]
    kind = FAMILIES[family](link)
    aux = np.full((len(kind.aux_names), 1), -0.5)
    return X, kind.sample(eta.to_numpy(), aux, None, rng)


# Marginal means --------------------------------------------------------------------------------


def two_ways(X):
    """The coefficients of the means of quarters 1 and 3."""
    return np.array([[1.0, 1.0], [1.0, 3.0]])


@pytest.mark.parametrize("rows", [True, False])
def test_means_of_the_link_scale_are_combinations_of_coefficients(cbpp, rows):
    model, X, y = cbpp
    given = (X, y) if rows else (None, None)
    L, V = two_ways(X), vcov(model, *given).to_numpy()
    table = marginal_means(
        model, X, given[1], of="period", at={"period": [1, 3]}, scale="link", confidence_level=0.9
    )
    error = np.sqrt(np.diag(L @ V @ L.T))
    beta = coefficient_table(model)["estimate"].to_numpy()
    assert_allclose(table["estimate"], L @ beta)
    assert_allclose(table["std_error"], error)
    assert_allclose(table["upper"] - table["lower"], 2 * stats.norm.ppf(0.95) * error)
    assert table.attrs["information"] == ("observed" if rows else "conditional")
    assert (table["dof"] == np.inf).all() and table.attrs["scale"] == "link"


def test_responses_at_effects_of_zero(cbpp):
    model, X, y = cbpp
    link = marginal_means(model, X, y, of="period", scale="link")
    table = marginal_means(model, X, y, of="period")
    for column in ("estimate", "lower", "upper"):
        assert_allclose(table[column], expit(link[column]))
    p = table["estimate"]
    assert_allclose(table["std_error"], p * (1 - p) * link["std_error"])
    assert list(table) == ["period", "estimate", "std_error", "lower", "upper"]
    one = X.drop_duplicates("period").assign(size=1)
    assert_allclose(p, model.predict_population(one.sort_values("period")))


@pytest.mark.parametrize(
    "family, link, mean",
    [
        ("binomial", "logit", expit),
        ("binomial", "probit", ndtr),
        ("binomial", "cloglog", lambda x: -np.expm1(-np.exp(x))),
        ("poisson", "log", np.exp),
        ("poisson", "sqrt", np.square),
    ],
)
def test_responses_integrate_over_the_effects(family, link, mean):
    X, y = drawn(family, slopes=True, n=600, link=link)
    model = GeneralizedLinearMixedModel({"g": ["1", "x"]}, family=family, link=link).fit(X, y)
    X["x"] = X["x"].round()
    at = {"x": [-1.0, 2.0]}
    table = marginal_means(model, X, of="x", at=at, effects="marginal")
    assert_allclose(
        table["estimate"], model.predict(pd.DataFrame({"g": -1, "x": at["x"]})), rtol=1e-9
    )
    for row, x in enumerate(at["x"]):
        z = np.array([1.0, x])
        sd = np.sqrt(z @ model.covariance_["g"] @ z)
        eta = model.intercept_ + model.coef_[0] * x

        def response(e, sd=sd):
            inner = lambda u: mean(e + sd * u) * stats.norm.pdf(u)
            return quad(inner, -9, 9, limit=200, epsabs=1e-12)[0]

        error = np.sqrt(z @ vcov(model).to_numpy() @ z)
        slope = (response(eta + 1e-4) - response(eta - 1e-4)) / 2e-4
        half = stats.norm.ppf(0.975) * error
        expected = [response(eta), slope * error, response(eta - half), response(eta + half)]
        assert_allclose(table.iloc[row, 1:].astype(float), expected, rtol=1e-6)


def test_pairs_are_odds_ratios(cbpp):
    model, X, y = cbpp
    table = marginal_means(model, X, y, of="period", at={"period": [2, 1]}, pairs=True)
    slope = coefficient_table(model, X, y).loc["period"]
    assert table["contrast"].tolist() == ["2 / 1"]
    assert table.attrs["comparison"] == "odds ratio"
    found = table.iloc[0]
    assert_allclose(found["estimate"], np.exp(slope["estimate"]))
    assert_allclose(found["std_error"], np.exp(slope["estimate"]) * slope["std_error"])
    assert_allclose(found[["lower", "upper"]].astype(float), np.exp(slope[["lower", "upper"]]))
    assert_allclose([found["statistic"], found["p_value"]], slope[["statistic", "p_value"]])


def test_pairs_of_integrated_responses_are_differences(cbpp):
    model, X, y = cbpp
    given = {"of": "period", "at": {"period": [1, 4]}, "effects": "marginal"}
    means = marginal_means(model, X, y, **given)
    pair = marginal_means(model, X, y, pairs="control", **given)
    assert pair["contrast"].tolist() == ["4 - 1"] and pair.attrs["comparison"] == "difference"
    assert_allclose(pair["estimate"], np.diff(means["estimate"]))

    def difference(beta):
        eta, sd = two_ways(X) @ beta, model.theta_["herd"][0, 0]
        eta = np.array([1.0, 1.0, 1.0, 4.0]).reshape(2, 2) @ beta
        inner = lambda u, e: expit(e + sd * u) * stats.norm.pdf(u)
        return np.subtract(*[quad(inner, -9, 9, args=(e,))[0] for e in eta[::-1]])

    beta = np.append(model.intercept_, model.coef_)
    steps = 1e-4 * np.eye(2)
    g = [(difference(beta + s) - difference(beta - s)) / 2e-4 for s in steps]
    error = np.sqrt(g @ vcov(model, X, y).to_numpy() @ g)
    assert_allclose(pair["std_error"], error, rtol=1e-6)


@pytest.mark.parametrize(
    "link, name", [("log", "ratio"), ("sqrt", "difference"), ("identity", "difference")]
)
def test_pairs_of_counts(link, name):
    X, y = drawn(n=600, sd=0.2)
    X["x"] = (X["x"] > 0).astype(float)
    model = GeneralizedLinearMixedModel("g", link=link).fit(X, y)
    at = {"x": [1.0, 0.0]}
    pair = marginal_means(model, X, of="x", at=at, pairs=True)
    means = marginal_means(model, X, of="x", at=at)["estimate"]
    assert pair.attrs["comparison"] == name
    compare = np.divide if name == "ratio" else np.subtract
    assert_allclose(pair["estimate"], compare(*means))
    if link == "identity":
        assert_allclose(pair["std_error"], vcov(model).loc["x", "x"] ** 0.5)


def test_means_average_over_levels_in_a_pipeline():
    data = load_salamanders().frame
    data = data[data["spp"].isin(["GP", "DM", "PR"])]
    X = data[["mined", "spp", "site"]].astype(str)
    encode = make_column_transformer(
        (OneHotEncoder(drop="first", sparse_output=False), ["mined", "spp"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipe = make_pipeline(encode, GeneralizedLinearMixedModel("site")).fit(X, data["count"])
    table = marginal_means(pipe, X, data["count"], of="mined")
    species = X["spp"].unique()
    for mined, found in zip(table["mined"], table["estimate"], strict=True):
        rows = pd.DataFrame({"mined": mined, "spp": species, "site": "none"})
        inner = pipe[-1].predict_linear(pipe[:-1].transform(rows))
        assert_allclose(found, np.exp(inner.mean()))
    assert table.attrs["averaged_over"] == ["spp"]
    pairs = marginal_means(pipe, X, of="spp", by="mined", pairs=True)
    assert len(pairs) == 6 and pairs["contrast"].iloc[0] == "DM / GP"
    assert (pairs["p_adjusted"] >= pairs["p_value"]).all()


def test_counts_with_further_zeros_are_those_of_the_other_rows():
    rng = np.random.default_rng(3)
    X, y = drawn(seed=3)
    y = np.where(rng.random(len(y)) < 0.3, 0.0, y)
    model = GeneralizedLinearMixedModel("g", zero_inflation=[]).fit(X, y)
    table = marginal_means(model, X, of="x", at={"x": [0.0]})
    assert_allclose(table["estimate"], np.exp(model.intercept_))


def test_the_inverse_link_falls():
    X, y = drawn("gamma", n=400, sd=0.1)
    model = GeneralizedLinearMixedModel("g", family="gamma", link="inverse").fit(X, y)
    table = marginal_means(model, X, of="x", at={"x": [0.0, 1.0]})
    assert ((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"])).all()
    assert (table["std_error"] > 0).all()
    with pytest.raises(ValueError, match='choose effects="population"'):
        marginal_means(model, X, of="x", at={"x": [0.0]}, effects="marginal")


@pytest.mark.parametrize("effects", ["population", "marginal"])
def test_probabilities_of_ordered_classes(wine, effects):
    model, X, y = wine
    at = {"warm": [0.0, 1.0], "contact": 1.0}
    table = marginal_means(model, X, y, of="warm", at=at, effects=effects)
    assert table["class"].tolist() == [1, 2, 3, 4, 5] * 2
    new = pd.DataFrame({"warm": at["warm"], "contact": 1.0, "judge": 0})
    expected = model.predict_proba if effects == "marginal" else model.predict_population
    assert_allclose(table["estimate"], expected(new).ravel(), rtol=1e-8)
    half = stats.norm.ppf(0.975) * table["std_error"]
    p = table["estimate"]
    assert_allclose(table["lower"], expit(np.log(p / (1 - p)) - half / (p * (1 - p))), rtol=1e-8)
    errors = table["std_error"].to_numpy().reshape(2, 5)
    assert_allclose(errors, class_errors(model, X, y, new, effects), rtol=1e-5)


def class_errors(model, X, y, new, effects):
    """The delta method by differences of the engine's parameters."""
    opened = open_model(model, X, y)
    psi, covariance = opened.rows.psi, opened.information.covariance
    fit, m = opened.fit.working, opened.rows.problem.n_theta
    p = len(fit.beta[0])
    sd = model.theta_["judge"][0, 0] if effects == "marginal" else 0.0
    z, w = np.polynomial.hermite_e.hermegauss(60)

    def shares(psi):
        beta = psi[m : m + p] / fit.frame.x_scale
        eta = (
            new[["warm", "contact"]].to_numpy() - model._center
        ) @ beta - fit.frame.x_shift @ beta
        kappa = np.cumsum(np.append(psi[m + p], np.exp(psi[m + p + 1 :])))
        below = expit(kappa[:, None, None] - eta[:, None] - sd * z) @ w / w.sum()
        return np.diff(np.vstack([np.zeros(2), below, np.ones(2)]), axis=0).T

    steps = 1e-5 * np.eye(len(psi))[m:]
    G = np.stack([(shares(psi + s) - shares(psi - s)) / 2e-5 for s in steps])
    return np.sqrt(np.einsum("inc,ij,jnc->nc", G, covariance[m:, m:], G))


def test_pairs_of_ordered_classes_are_odds_ratios_of_a_higher_class(wine):
    model, X, _ = wine
    pair = marginal_means(model, X, of="warm", at={"warm": [1.0, 0.0]}, pairs=True)
    assert_allclose(pair["estimate"], np.exp(model.coef_[0]))
    with pytest.raises(ValueError, match="probabilities of ordered classes need y"):
        marginal_means(model, X, of="warm")


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"scale": "log"}, "scale"),
        ({"effects": "zero"}, "effects"),
        ({"dof": "satterthwaite"}, "for linear mixed models"),
    ],
)
def test_wrong_arguments_of_means(cbpp, wrong, match):
    model, X, y = cbpp
    with pytest.raises(ValueError, match=match):
        marginal_means(model, X, y, of="period", **wrong)


# Variance shares -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", R_SQUARED)
def test_shares_on_the_latent_scale_are_those_of_r(name):
    model, X, y = case_fit(name)
    approximation = "delta" if "gamma" in name else "lognormal"
    rtol = 1e-3 if name == "grouseticks poisson" else 2e-5
    found = r_squared(model, X, y, approximation=approximation).loc["latent"]
    assert_allclose(found, R_SQUARED[name], rtol=rtol)
    if name in ICC:
        assert_allclose(icc(model, X, y).loc[("latent", "all")], ICC[name], rtol=2 * rtol)


def test_the_latent_variance_of_probit_is_one():
    """Up to lme4's other Laplace approximation for this link, with expected information."""
    model, X, _ = case_fit("cbpp", link="probit")
    assert_allclose(r_squared(model, X).loc["latent"], PROBIT, rtol=5e-3)
    s = model.covariance_["herd"][0, 0]
    assert_allclose(icc(model, X).loc[("latent", "herd"), "adjusted"], s / (s + 1))


@pytest.mark.parametrize("name", R_SQUARED)
def test_shares_lie_between_zero_and_one(name):
    model, X, y = case_fit(name)
    table, shares = icc(model, X, y), r_squared(model, X, y)
    assert (table > 0).all(axis=None) and (table < 1).all(axis=None)
    assert (table["unadjusted"] <= table["adjusted"]).all()
    assert (shares["marginal"] <= shares["conditional"]).all()
    for _, part in table["adjusted"].groupby("scale"):
        assert part.iloc[-1] >= part.iloc[:-1].sum() - 1e-12


def test_approximations_of_counts():
    model, X, _ = case_fit("salamanders nb2")
    alpha, mu = model.dispersion_, 2.0
    squared = 1 / mu + alpha
    expected = {
        "lognormal": np.log1p(squared),
        "delta": squared,
        "trigamma": quad(lambda t: t * np.exp(-t / squared) / -np.expm1(-t), 0, np.inf)[0],
    }
    for approximation, value in expected.items():
        table = variance_table(model, X, mean=mu, approximation=approximation)
        assert_allclose(table["variance"].iloc[-1], value)
        total = value + model.covariance_["site"][0, 0]
        assert_allclose(table["share"], [1 - value / total, value / total])


def test_the_distribution_under_other_links():
    X, y = drawn(n=400, link="sqrt")
    root = GeneralizedLinearMixedModel("g", link="sqrt").fit(X, y)
    assert_allclose(variance_table(root, X, y)["variance"].iloc[-1], 0.25)
    X, y = drawn("gamma", n=400)
    inverse = GeneralizedLinearMixedModel("g", family="gamma", link="inverse").fit(X, y)
    variance = variance_table(inverse, mean=2.0)["variance"].iloc[-1]
    assert_allclose(variance, inverse.dispersion_ / 4)
    table = icc(inverse, X, y)
    assert table.loc["latent"].notna().all(axis=None)
    assert table.loc["observed"].isna().all(axis=None)


def test_the_mean_counts_the_offset():
    X, y = drawn(n=600, seed=5)
    plain = variance_table(GeneralizedLinearMixedModel("g").fit(X, y), X, y)
    shifted = X.assign(x=X["x"], exposure=np.log(10.0))
    model = GeneralizedLinearMixedModel("g", offset="exposure").fit(shifted, y)
    assert_allclose(variance_table(model, shifted, y)["variance"], plain["variance"], rtol=1e-5)
    assert_allclose(
        r_squared(model, shifted, y),
        r_squared(GeneralizedLinearMixedModel("g").fit(X, y), X, y),
        rtol=1e-5,
    )


def test_counts_have_closed_forms_on_the_observed_scale():
    model, X, y = case_fit("grouseticks poisson")
    s = np.array([model.covariance_[k][0, 0] for k in ("INDEX", "BROOD", "LOCATION")])
    means = np.exp(model.intercept_ + X.iloc[:, :-3].to_numpy() @ model.coef_ + s.sum() / 2)
    square = (means**2).mean()
    around = square * np.expm1(s.sum()) + means.mean()
    total = around + means.var(ddof=1)
    parts = [square * np.expm1(v) for v in (s[1], s[2], s[1] + s[2])]
    found = icc(model, X, y).loc["observed"]
    assert_allclose(found["adjusted"], [v / around for v in parts], rtol=1e-9)
    assert_allclose(found["unadjusted"], [v / total for v in parts], rtol=1e-9)
    expected = [means.var(ddof=1) / total, (means.var(ddof=1) + parts[-1]) / total]
    assert_allclose(r_squared(model, X, y).loc["observed"], expected, rtol=1e-9)


def test_classes_have_normal_orthants_on_the_observed_scale():
    X, y = drawn("binomial", n=600, seed=2)
    X["h"] = np.random.default_rng(2).integers(0, 12, len(X))
    y = np.where(X["h"] % 3 == 0, 1.0, y)
    model = GeneralizedLinearMixedModel(["g", "h"], family="binomial", link="probit").fit(X, y)
    s = np.array([model.covariance_[k][0, 0] for k in "gh"])
    place = (model.intercept_ + X["x"].to_numpy() * model.coef_[0]) / np.sqrt(1 + s.sum())
    p = ndtr(place)

    def both(shared):
        corner = stats.multivariate_normal([0, 0], [[1, shared], [shared, 1]])
        return corner.cdf(np.column_stack([place, place]))

    spread = (p * (1 - p)).mean()
    expected = [(both(v / (1 + s.sum())) - p * p).mean() / spread for v in (*s, s.sum())]
    assert_allclose(icc(model, X).loc["observed", "adjusted"], expected, rtol=1e-5)


@pytest.mark.parametrize("family", ["binomial", "nb2"])
def test_observed_correlation_is_that_of_simulated_rows(family):
    X, y = drawn(family, slopes=True, sd=1.0 if family == "binomial" else 0.4, n=500)
    model = GeneralizedLinearMixedModel({"g": ["1", "x"]}, family=family).fit(X, y)
    rng, n = np.random.default_rng(1), 400_000
    x = X["x"].to_numpy()[rng.integers(0, len(X), n)]
    b = rng.standard_normal((n, 2)) @ model.theta_["g"].T
    eta = model.intercept_ + model.coef_[0] * x + b[:, 0] + b[:, 1] * x
    aux = np.array(model._fit.aux).reshape(-1, 1)
    one, other = (model._fit.family.sample(eta, aux, None, rng) for _ in range(2))
    table = icc(model, X, mean=1.0).loc["observed"].loc["g"]
    of_x = np.unique(x, return_inverse=True)[1]
    counts = np.bincount(of_x)
    centre = (np.bincount(of_x, one + other) / (2 * counts))[of_x]
    products, squares = (one - centre) * (other - centre), (one - centre) ** 2
    loss = counts.size / n  # of the centre, which was estimated
    assert_allclose(table["adjusted"], products.mean() / squares.mean(), atol=0.02 + loss)
    ratio = products.mean() / one.var()
    assert_allclose(table["unadjusted"], ratio, atol=0.02 + loss)


def test_many_rows_are_values_of_one_function():
    rng = np.random.default_rng(6)
    X = pd.DataFrame({"g": rng.integers(0, 20, 900), "h": rng.integers(0, 9, 900)})
    X["x"] = rng.normal(size=900)
    latent = 2 * X["x"] + rng.normal(size=20)[X["g"]] + rng.normal(size=9)[X["h"]]
    model = LogisticMixedModel(["g", "h"]).fit(X, latent + rng.logistic(size=900) > 0)
    parts = [
        _generalized_parts(open_model(model, X.iloc[a : a + 300]), "", None, "delta")[1]
        for a in (0, 300, 600)
    ]
    whole = _generalized_parts(open_model(model, X), "", None, "delta")[1]
    for name in ("g", "h"):
        assert_allclose(whole[1][name], np.mean([p[1][name] for p in parts]), rtol=1e-9)
    for k in (2, 3):
        assert_allclose(whole[k], np.mean([p[k] for p in parts]), rtol=1e-9)


def test_no_effects_no_correlation():
    value = observed.between(
        lambda eta, at: np.exp(eta), np.array([0.3, 2.0]), np.zeros(2), np.array([0.5, 1.0]), 1.0
    )
    assert_allclose(value, 0.0)


def test_ordered_classes_have_shares(wine):
    model, X, _ = wine
    s = model.covariance_["judge"][0, 0]
    latent = np.pi**2 / 3
    table = icc(model, X)
    assert_allclose(table.loc[("latent", "judge"), "adjusted"], s / (s + latent))
    assert_allclose(variance_table(model)["share"], [s / (s + latent), latent / (s + latent)])
    fixed = np.var(X[["warm", "contact"]].to_numpy() @ model.coef_, ddof=1)
    assert_allclose(r_squared(model, X).loc["latent", "marginal"], fixed / (fixed + s + latent))


def test_variances_need_no_rows_but_shares_may():
    X, y = drawn(slopes=True, n=500)
    model = GeneralizedLinearMixedModel({"g": ["1", "x"]}).fit(X, y)
    table = variance_table(model)
    assert table["share"].isna().all() and np.isnan(table["variance"].iloc[-1])
    G = model.covariance_["g"]
    assert_allclose(table["variance"].iloc[:3], [G[0, 0], G[1, 1], G[1, 0]])
    assert_allclose(variance_table(model, X, y)["share"].sum(), 1.0)


def test_what_shares_need():
    X, y = drawn(n=300)
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    for function in (icc, r_squared):
        with pytest.raises(ValueError, match="takes variances over rows: pass X"):
            function(model)
        with pytest.raises(ValueError, match=r"poisson distribution .* give `mean`, or X and y"):
            function(model, X)
        with pytest.raises(ValueError, match="approximation"):
            function(model, X, y, approximation="exact")
    weighted = GeneralizedLinearMixedModel("g").fit(X, y, sample_weight=np.full(len(y), 2.0))
    with pytest.raises(ValueError, match="not with the weights"):
        icc(weighted, X, y)
    with pytest.raises(ValueError, match="no random effects"):
        icc(LogisticMixedModel(fixed_effects=["x"]).fit(X, y > 2), X)
    with pytest.raises(TypeError, match="implied_correlation takes linear mixed models"):
        implied_correlation(model, X)


# Effects ---------------------------------------------------------------------------------------


def test_effects_have_the_deviations_of_r():
    model, _, _ = case_fit("cbpp")
    table = random_effects_table(model)
    shown = CASES["cbpp"]["random_effects"]["herd"]
    found = table.xs("(Intercept)", level="term").loc[shown["levels"]]
    assert_allclose(found["effect"], shown["values"], rtol=1e-4, atol=1e-5)
    assert_allclose(found["std_error"] ** 2, shown["variances"], rtol=1e-4)
    half = stats.norm.ppf(0.975) * found["std_error"]
    assert_allclose(found["upper"], found["effect"] + half)


def test_joint_errors_of_effects_are_those_of_predictions(cbpp):
    model, X, _ = cbpp
    joint = random_effects_table(model, joint=True)["std_error"].to_numpy()
    alone = random_effects_table(model)["std_error"].to_numpy()
    assert (joint > alone).all()
    bare = GeneralizedLinearMixedModel(
        "herd", family="binomial", trials="size", fit_intercept=False, fixed_effects=[]
    ).fit(X, cbpp[2])
    _, sd = bare.predict_linear(X.drop_duplicates("herd"), return_std=True)
    assert_allclose(random_effects_table(bare, joint=True)["std_error"], sd)


# Quantile residuals ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conditional", "simulated"])
@pytest.mark.parametrize("family", FAMILIES)
def test_residuals_of_the_right_model_are_uniform(family, kind):
    X, y = drawn(family, seed=1, levels=60 if kind == "simulated" else 25)
    model = GeneralizedLinearMixedModel("g", family=family).fit(X, y)
    table = quantile_residuals(model, X, y, kind=kind, random_state=0)
    # Simulated residuals of one level are alike: one row a level is as good as independent.
    shown = table if kind == "conditional" else table.groupby(X["g"]).first()
    assert stats.kstest(shown["uniform"], "uniform").pvalue > 0.02
    assert_allclose(table["residual"], stats.norm.ppf(table["uniform"]))
    assert stats.spearmanr(table["fitted"], table["uniform"]).pvalue > 1e-3 or kind == "simulated"


def test_residuals_of_zero_inflated_and_ordered_outcomes():
    rng = np.random.default_rng(4)
    X, y = drawn(seed=4)
    y = np.where(rng.random(len(y)) < expit(X["x"] - 1), 0.0, y)
    right = GeneralizedLinearMixedModel("g", zero_inflation=["x"], fixed_effects=["x"]).fit(X, y)
    wrong = GeneralizedLinearMixedModel("g", fixed_effects=["x"]).fit(X, y)
    p = [
        stats.kstest(quantile_residuals(m, X, y, random_state=0)["uniform"], "uniform").pvalue
        for m in (right, wrong)
    ]
    assert p[0] > 0.05 and p[1] < 1e-6
    latent = X["x"] + rng.normal(size=30)[X["g"]] + rng.logistic(size=len(X))
    classes = np.array(["low", "mid", "high", "top"])[np.digitize(latent, [-1.0, 0.5, 2.0])]
    classes = pd.Series(pd.Categorical(classes, ["low", "mid", "high", "top"], ordered=True))
    ordinal = OrdinalMixedModel("g").fit(X, classes)
    for kind in ("conditional", "simulated"):
        table = quantile_residuals(ordinal, X, classes, kind=kind, random_state=0)
        assert stats.kstest(table["uniform"], "uniform").pvalue > 0.05
        assert table["fitted"].between(0, 3).all()


def test_residuals_lie_within_the_jump(cbpp):
    model, X, y = cbpp
    draws = [quantile_residuals(model, X, y, random_state=s)["uniform"] for s in range(60)]
    p = model.predict(X) / X["size"]
    low, high = stats.binom.cdf(y - 1, X["size"], p), stats.binom.cdf(y, X["size"], p)
    least, most = np.min(draws, axis=0), np.max(draws, axis=0)
    assert (least >= low - 1e-12).all() and (most <= high + 1e-12).all()
    assert_allclose((most - least).sum(), (high - low).sum(), rtol=0.06)
    table = quantile_residuals(model, X, y)
    assert_allclose(table["fitted"], p)
    assert table.index.equals(X.index)


def test_residuals_of_continuous_outcomes_are_not_random():
    X, y = drawn("gamma", n=300)
    model = GeneralizedLinearMixedModel("g", family="gamma").fit(X, y)
    table = quantile_residuals(model, X, y)
    shape = 1 / model.dispersion_
    expected = stats.gamma.cdf(y, shape, scale=model.predict(X) / shape)
    assert_allclose(table["uniform"], expected, rtol=1e-7)


def test_effects_of_new_levels_are_integrated_out():
    X, y = drawn("gamma", n=400, sd=0.8)
    model = GeneralizedLinearMixedModel("g", family="gamma").fit(X, y)
    new = X.head(5).assign(g=-1)
    table = quantile_residuals(model, new, y[:5])
    shape, sd = 1 / model.dispersion_, model.theta_["g"][0, 0]
    for row, found in enumerate(table["uniform"]):
        eta = model.intercept_ + model.coef_[0] * new["x"].iloc[row]
        share = lambda u, r=row, e=eta: (
            stats.gamma.cdf(y[r], shape, scale=np.exp(e + sd * u) / shape) * stats.norm.pdf(u)
        )
        assert_allclose(found, quad(share, -9, 9)[0], rtol=1e-6)
    assert_allclose(table["fitted"], model.predict(new))


@pytest.mark.parametrize("kind", ["conditional", "simulated"])
def test_overdispersion_is_seen(kind):
    X, y = drawn("nb2", seed=7)
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    table = quantile_residuals(model, X, y, kind=kind, random_state=0)
    assert stats.kstest(table["uniform"], "uniform").pvalue < 1e-6
    assert table["residual"].std() > 1.15 and np.isfinite(table["residual"]).all()


def test_simulated_residuals_see_effects_that_are_not_normal():
    """Conditional ones take any effects as they are."""
    rng = np.random.default_rng(9)
    X = pd.DataFrame({"g": np.repeat(np.arange(150), 20)})
    y = rng.poisson(np.exp(2 + 3.0 * (X["g"] < 15)))
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    p = {}
    for kind in ("conditional", "simulated"):
        uniform = quantile_residuals(model, X, y, kind=kind, random_state=0)["uniform"]
        p[kind] = stats.kstest(uniform.groupby(X["g"]).first(), "uniform").pvalue
    assert p["conditional"] > 0.05 and p["simulated"] < 1e-4


def test_simulated_residuals_are_ranks():
    X, y = drawn("gamma", n=200)
    model = GeneralizedLinearMixedModel("g", family="gamma").fit(X, y)
    y[0], y[1] = 1e9, 1e-9
    one, again = (
        quantile_residuals(model, X, y, kind="simulated", n_samples=9, random_state=2)
        for _ in range(2)
    )
    assert one.equals(again)
    assert one["uniform"].iloc[0] > 0.9 and one["uniform"].iloc[1] < 0.1
    assert len(np.unique(np.floor(10 * one["uniform"]))) == 10


def test_residuals_through_a_pipeline_and_of_classes():
    X, y = drawn("binomial", n=500)
    labels = np.where(y > 0, "yes", "no")
    pipe = make_pipeline(FunctionTransformer(), LogisticMixedModel("g")).fit(X, labels)
    table = quantile_residuals(pipe, X, labels, random_state=0)
    assert stats.kstest(table["uniform"], "uniform").pvalue > 0.05
    assert_allclose(table["fitted"], pipe.predict_proba(X)[:, 1])


def test_what_residuals_refuse():
    X, y = drawn(n=200)
    model = GeneralizedLinearMixedModel("g").fit(X, y)
    with pytest.raises(ValueError, match=r"poisson family needs counts .* row 0"):
        quantile_residuals(model, X, y + 0.5)
    with pytest.raises(ValueError, match="kind"):
        quantile_residuals(model, X, y, kind="pearson")
    with pytest.raises(ValueError, match="n_samples"):
        quantile_residuals(model, X, y, kind="simulated", n_samples=0)
    with pytest.raises(ValueError, match="quantile_residuals needs the rows"):
        quantile_residuals(model, X, None)
    with pytest.raises(TypeError, match="ResidualsDisplay draws them"):
        quantile_residuals(LinearMixedModel("g").fit(X, y), X, y)
    with pytest.raises(NotFittedError):
        quantile_residuals(LogisticMixedModel("g"), X, y)
