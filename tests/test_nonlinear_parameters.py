"""Parameters and covariates: what they mean, how they nest, and bad ones."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter


def bolus(time, CL, V):
    return 100.0 / V * np.exp(-CL / V * time)


def subjects(n_subjects=16, seed=0):
    """Clearance depends on weight, volume on the site; the weight is that of each row."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n_subjects):
        eta = rng.normal(0, 0.2, 2)
        weight, site = rng.uniform(50, 90), "abc"[i % 3]
        for time in (0.5, 2.0, 5.0, 9.0):
            CL = 2.0 * np.exp(eta[0]) * (weight / 70) ** 0.75
            f = bolus(time, CL, 20.0 * np.exp(eta[1] + 0.4 * (site == "b")))
            rows.append((i, time, weight, site, f * np.exp(rng.normal(0, 0.08))))
    X = pd.DataFrame(rows, columns=["id", "time", "weight", "site", "y"])
    return X, X.pop("y")


def model(parameters=None, structure=bolus, **options):
    options = {"group": "id", "time": "time", "error": "lognormal", **options}
    return NonlinearMixedModel(structure, parameters, **options)


START = {"CL": Parameter(2.0), "V": Parameter(20.0)}


def test_power_and_exponential_are_what_they_say():
    """The same as structures that hold the covariate themselves."""
    X, y = subjects()
    power = model({"CL": Parameter(2.0, covariates=[Covariate("weight", reference=70)]), "V": 20.0})

    def by_hand(time, CL, V, slope, weight):
        return bolus(time, CL * (weight / 70) ** slope, V)

    alone = Parameter(0.5, transform="identity", random=False)
    other = model({**START, "slope": alone}, by_hand).fit(X, y)
    power.fit(X, y)
    assert_allclose(power.objective_, other.objective_, atol=1e-5)
    assert_allclose(power.coef_["CL:weight"], other.coef_["slope"], atol=1e-4)
    se = power.parameters_.loc["CL:weight", "std_error"]
    assert_allclose(se, other.parameters_.loc["slope", "std_error"], rtol=1e-3)

    exponential = Covariate("weight", "exponential", reference=70)
    grown = model({"CL": Parameter(2.0, covariates=[exponential]), "V": 20.0}).fit(X, y)
    one = X[X["id"] == 3]
    CL = np.exp(grown.coef_["CL"] + grown.coef_["CL:weight"] * (one["weight"] - 70))
    expected = bolus(one["time"], CL, np.exp(grown.coef_["V"]))
    assert_allclose(grown.predict_population(one), expected, rtol=1e-10)


def test_the_reference_moves_only_the_typical_value():
    X, y = subjects()
    fits = {}
    for reference in (70.0, 55.0, "median"):
        weight = Covariate("weight", reference=reference)
        fits[reference] = model({"CL": Parameter(2.0, covariates=[weight]), "V": 20.0}).fit(X, y)
    first, second, median = fits.values()
    assert_allclose(first.objective_, second.objective_, atol=1e-6)
    assert_allclose(first.coef_["CL:weight"], second.coef_["CL:weight"], atol=1e-4)
    shift = first.coef_["CL:weight"] * np.log(55.0 / 70.0)
    assert_allclose(second.coef_["CL"], first.coef_["CL"] + shift, atol=1e-4)
    of_subjects = X.groupby("id")["weight"].first().median()
    heavier = X.head(4).assign(weight=of_subjects, id=99)
    assert_allclose(
        median.predict(heavier),
        bolus(heavier["time"], *np.exp(median.coef_[["CL", "V"]])),
        rtol=1e-8,
    )


def test_levels():
    X, y = subjects()
    site = Covariate("site", "categorical", reference="a")
    found = model({"CL": 2.0, "V": Parameter(20.0, covariates=[site])}).fit(X, y)
    assert list(found.coef_.index) == ["CL", "V", "V:site[b]", "V:site[c]"]
    assert 0.2 < found.coef_["V:site[b]"] < 0.6
    other = Covariate("site", "categorical", reference="c", initial={"a": 0.1, "b": 0.3})
    again = model({"CL": 2.0, "V": Parameter(20.0, covariates=[other])}).fit(X, y)
    assert_allclose(again.objective_, found.objective_, atol=1e-6)
    assert_allclose(again.coef_["V:site[a]"], -found.coef_["V:site[c]"], atol=1e-4)
    most = Covariate("site", "categorical")  # a occurs most often
    usual = model({"CL": 2.0, "V": Parameter(20.0, covariates=[most])}).fit(X, y)
    assert list(usual.coef_.index) == list(found.coef_.index)
    as_category = X.assign(site=X["site"].astype("category"))
    assert_allclose(clone(found).fit(as_category, y).objective_, found.objective_, atol=1e-8)
    with pytest.raises(ValueError, match=r'"d" for subject 2 in row 1, .* has seen "a", "b", "c"'):
        found.predict(X.iloc[7:9].assign(site=["a", "d"]).assign(id=[1, 2]))


def test_fixed_values_stay():
    X, y = subjects()
    weight = Covariate("weight", reference=70, initial=0.75, fixed=True)
    parameters = {"CL": Parameter(2.0, covariates=[weight]), "V": Parameter(20.0, fixed=True)}
    found = model(parameters).fit(X, y)
    assert found.coef_["CL:weight"] == 0.75
    assert_allclose(found.parameters_.loc["V", "estimate"], 20.0, rtol=1e-14)
    assert np.isnan(found.parameters_.loc[["CL:weight", "V"], "std_error"]).all()
    assert found._n_searched == 4  # CL, two variances, the residual error


def test_parameters_without_random_effects():
    X, y = subjects()
    found = model({"CL": Parameter(2.0), "V": Parameter(20.0, random=False)}).fit(X, y)
    assert list(found.omega_) == list(found.random_effects_) == ["CL"]
    assert found.individual_parameters_["V"].nunique() == 1
    none = model({"CL": Parameter(2.0, random=False), "V": Parameter(20.0, random=False)})
    none.fit(X, y)
    alone = model(dict(START), group=None).fit(X, y)
    assert_allclose(none.objective_, alone.objective_, atol=1e-8)


def test_transforms():
    """A share between 0 and 1, an exponent of any sign, a positive scale."""
    rng, n = np.random.default_rng(0), 30
    X = pd.DataFrame({"id": np.repeat(np.arange(n), 6), "x": np.tile(np.arange(1.0, 7.0), n)})
    share = 1.0 / (1.0 + np.exp(-(0.6 + rng.normal(0, 0.5, n))))
    size = 5.0 * np.exp(rng.normal(0, 0.2, n))
    f = size.repeat(6) * share.repeat(6) ** X["x"] - 1.0
    y = f + 0.05 * rng.normal(size=len(f))

    def decay(x, size, share, floor):
        return size * share**x + floor

    parameters = {
        "size": Parameter(),
        "share": Parameter(transform="logit"),
        "floor": Parameter(transform="identity", random=False),
    }
    found = model(parameters, decay, time="x", error="additive").fit(X, y)
    table = found.parameters_
    assert_allclose(table["estimate"], [5.0, 1 / (1 + np.exp(-0.6)), -1.0], rtol=0.12)
    assert 0 < table.loc["share", "lower"] < table.loc["share", "estimate"]
    assert table.loc["share", "upper"] < 1
    assert (found.individual_parameters_["share"].between(0, 1)).all()
    at = table.loc["share"]
    logit = lambda p: np.log(p / (1 - p))
    assert_allclose(logit(at["upper"]) + logit(at["lower"]), 2 * logit(at["estimate"]), rtol=1e-8)


def test_linear_effects_are_for_parameters_that_add_up():
    X, y = subjects()
    weight = Covariate("weight", "linear", reference=70)
    added = {"CL": Parameter(2.0, transform="identity", covariates=[weight]), "V": 20.0}
    found = model(added).fit(X, y)
    one = X[X["id"] == 3]
    CL = found.coef_["CL"] + found.coef_["CL:weight"] * (one["weight"] - 70)
    expected = bolus(one["time"], CL, np.exp(found.coef_["V"]))
    assert_allclose(found.predict_population(one), expected, rtol=1e-10)


def test_covariates_may_vary_within_a_subject():
    X, y = subjects()
    X = X.assign(weight=X["weight"] + X["time"])
    weight = Covariate("weight", reference=70)
    found = model({"CL": Parameter(2.0, covariates=[weight]), "V": 20.0}).fit(X, y)

    def by_hand(time, CL, V, slope, weight):
        return bolus(time, CL * (weight / 70) ** slope, V)

    alone = Parameter(0.5, transform="identity", random=False)
    other = model({**START, "slope": alone}, by_hand).fit(X, y)
    assert_allclose(found.objective_, other.objective_, atol=1e-5)
    assert_allclose(found.predict(X), other.predict(X), rtol=1e-3)


def test_columns_by_position():
    X, y = subjects()
    array = X.drop(columns="site").to_numpy()
    weight = Covariate(2, reference=70)
    found = model({"CL": Parameter(2.0, covariates=[weight]), "V": 20.0}, group=0, time=1)
    named = model({"CL": Parameter(2.0, covariates=[Covariate("weight", reference=70)]), "V": 20.0})
    assert_allclose(found.fit(array, y).objective_, named.fit(X, y).objective_, atol=1e-10)
    assert list(found.coef_.index) == ["CL", "V", "CL:2"]


def test_initial_values_are_found():
    """Five orders of magnitude between the parameters."""
    X, y = subjects()

    def scaled(time, fast, slow):
        return bolus(time, fast * 1e-3, slow * 1e2)

    found = model(None, scaled).fit(X, y)
    given = model(dict(START)).fit(X, y)
    assert_allclose(found.objective_, given.objective_, atol=1e-5)
    assert_allclose(found.parameters_.loc["fast", "estimate"], 2000, rtol=0.2)


def test_no_initial_values_is_an_error():
    X, y = subjects()
    nowhere = lambda time, CL: np.full(np.broadcast_shapes(time.shape, CL.shape), np.nan)
    with pytest.raises(ValueError, match="no initial values were found for 'CL': give them"):
        model(None, nowhere, error="additive").fit(X, y)


def test_nested_estimators_are_cloned():
    weight = Covariate("weight", reference=70)
    original = model({"CL": Parameter(2.0, covariates=[weight]), "V": Parameter(20.0)})
    copy = clone(original)
    copy.set_params(parameters__CL__initial=3.0)
    copy.parameters["CL"].covariates[0].set_params(reference=55)
    assert original.parameters["CL"].initial == 2.0 and weight.reference == 70
    assert copy.get_params()["parameters__CL__initial"] == 3.0
    assert clone(Parameter(2.0, covariates=(weight,))).covariates[0].reference == 70


PLAIN = Parameter(2.0)


@pytest.mark.parametrize(
    "parameter, message",
    [
        (Parameter(-1.0), "initial is -1.0; with transform='log' it is above 0"),
        (Parameter(1.5, transform="logit"), "initial is 1.5; .* between 0 and 1"),
        (Parameter(np.nan), "initial is nan; it must be a number or None"),
        (Parameter("two"), "initial is 'two'; it must be a number or None"),
        (Parameter(2.0, transform="sqrt"), "transform is 'sqrt'; it must be one of"),
        (Parameter(2.0, random="yes"), "random is 'yes'; it must be True or False"),
        (Parameter(fixed=True), "is fixed, so it needs initial"),
        (Parameter(2.0, covariates=Covariate("weight")), "must be a list of Covariate"),
        (Parameter(2.0, covariates=["weight"]), "holds 'weight', which is no Covariate"),
        (True, "is True; it must be a Parameter"),
    ],
)
def test_bad_parameters(parameter, message):
    with pytest.raises(ValueError, match=rf"parameters\['CL'\].*{message}"):
        model({"CL": parameter, "V": 20.0}).fit(*subjects())


@pytest.mark.parametrize(
    "covariate, message",
    [
        (Covariate(), "holds a Covariate without a column"),
        (Covariate("height"), "names .height., which is not a column of X"),
        (Covariate("weight", "linear"), "form is 'linear', which is not possible with transform"),
        (Covariate("weight", "cubic"), "form is 'cubic'; it must be one of"),
        (Covariate("weight", fixed="no"), "fixed is 'no'; it must be True or False"),
        (Covariate("weight", initial="big"), "initial is 'big'; it must be a number"),
        (Covariate("weight", initial={"a": 1.0}), "initial is {'a': 1.0}; it must be a number"),
        (Covariate("weight", reference="mean"), "reference of .*weight.* is 'mean'; it must be"),
        (Covariate("weight", reference=-70), "reference of .*weight.* is -70; it must be above 0"),
        (Covariate("site"), "column .site. of X holds text; a covariate must be numbers"),
        (Covariate("site", "categorical", reference="z"), "is 'z', which is no level of it"),
        (
            Covariate("site", "categorical", initial={"z": 1.0}),
            "initial values of .*site.* name 'z', which is no level",
        ),
    ],
)
def test_bad_covariates(covariate, message):
    with pytest.raises(ValueError, match=message):
        model({"CL": Parameter(2.0, covariates=[covariate]), "V": 20.0}).fit(*subjects())


def test_bad_values_of_covariates():
    X, y = subjects()
    weight = Covariate("weight", reference=70)
    found = model({"CL": Parameter(2.0, covariates=[weight]), "V": 20.0})
    with pytest.raises(ValueError, match=r"missing \(NaN\) for subject 1 in row 5"):
        found.fit(X.assign(weight=X["weight"].where(X.index != 5)), y)
    with pytest.raises(ValueError, match=r"is 0 for subject 1 in row 5: .* must be above 0"):
        found.fit(X.assign(weight=X["weight"].where(X.index != 5, 0.0)), y)
    with pytest.raises(ValueError, match="is 70 in every row: its effect cannot be told"):
        found.fit(X.assign(weight=70.0), y)
    with pytest.raises(ValueError, match="names the column 'weight' twice"):
        twice = Parameter(2.0, covariates=[weight, Covariate("weight", "exponential")])
        model({"CL": twice, "V": 20.0}).fit(X, y)
    site = Parameter(20.0, covariates=[Covariate("site", "categorical")])
    with pytest.raises(ValueError, match=r"site. is missing \(NaN\) for subject 1 in row 5"):
        missing = X.assign(site=X["site"].where(X.index != 5))
        model({"CL": 2.0, "V": site}).fit(missing, y)
