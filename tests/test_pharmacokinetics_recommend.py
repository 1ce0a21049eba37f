"""Doses: closed forms, simulation by brute force, what samples teach, and bad input."""

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from sklme.datasets import load_theophylline
from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter
from sklme.pharmacokinetics import (
    DoseDisplay,
    Dosing,
    ODEModel,
    OneCompartment,
    TwoCompartment,
    recommend_dose,
)

pytestmark = pytest.mark.filterwarnings("ignore:no optimum")  # some fits need not be good

TYPICAL = {"CL": 3.0, "V": 32.0, "KA": 1.5}
NEW = pd.DataFrame({"Wt": [50.0, 70.0, 95.0], "type": ["a", "b", "a"]})


@cache
def theophylline():
    X, y = load_theophylline(return_X_y=True)
    X = X.assign(type=np.where(X["Subject"] % 3 == 0, "b", "a"))
    return X, y, Dosing.single(X["Subject"], X["Dose"] * X["Wt"])


def make_model(structure=None, start=None, **options):
    """Fitted quickly: typical values are fixed, variances and errors are found."""
    X, y, doses = theophylline()
    structure = OneCompartment("first-order") if structure is None else structure
    options = {"group": "Subject", "time": "Time", "dosing": doses, **options}
    model = NonlinearMixedModel(structure, start, standard_errors=None, **options)
    return model.fit(X, y)


@cache
def model():
    weight = Covariate("Wt", reference=70, initial=0.75, fixed=True)
    kind = Covariate("type", "categorical", reference="a", initial=-0.5, fixed=True)
    return make_model(
        start={
            "CL": Parameter(3.0, covariates=[weight, kind], fixed=True),
            "V": Parameter(32.0, fixed=True),
            "KA": Parameter(1.5, fixed=True),
        }
    )


@cache
def posterior():
    X, y, _ = theophylline()
    rows = X["Subject"].isin([2, 7]) & X["Time"].between(3, 10)
    return model().condition(X[rows], y[rows])


def recommend(given=None, X=NEW, **options):
    options = {"interval": 12.0, "random_state": 0, "n_draws": 400, **options}
    return recommend_dose(model() if given is None else given, X, **options)


def draw_by_hand(weight, kind, n):
    """Parameters of n people from the population of the model."""
    rng = np.random.default_rng(5)
    psi = np.array([3.0 * (weight / 70) ** 0.75 * np.exp(-0.5 * (kind == "b")), 32.0, 1.5])
    return psi * np.exp(rng.multivariate_normal(np.zeros(3), model().omega_.to_numpy(), n))


def draws_of(recommendation, i):
    """The draws that a recommendation rests on."""
    patients = recommendation.simulation.patients
    dosing = Dosing([patients.labels[i]], amount=0.0)
    return patients.parameters(patients.design(i, np.zeros(1), dosing))[:, 0, 0]


def test_draws_are_those_of_the_population():
    found = recommend(target="auc", value=100.0, n_draws=20_000)
    for row, patient in NEW.iterrows():
        log = np.log(draws_of(found, row))
        by_hand = np.log(draw_by_hand(patient["Wt"], patient["type"], 20_000))
        assert log.mean(axis=0) == pytest.approx(by_hand.mean(axis=0), abs=0.02)
        assert np.cov(log.T) == pytest.approx(np.cov(by_hand.T), abs=0.02)


def oral_course(psi, times, dose, interval, n_doses):
    """Concentrations after many doses, summed dose by dose."""
    CL, V, KA = (column[:, None] for column in psi.T)
    k, total = CL / V, 0.0
    for n in range(n_doses):
        t = times + n * interval
        total = total + dose * KA / V / (KA - k) * (np.exp(-k * t) - np.exp(-KA * t))
    return total


# Closed forms -----------------------------------------------------------------------------------


def test_median_dose_is_that_of_the_typical_patient():
    """Exposure is dose / CL; draws come in opposite pairs, so the median is the typical one."""
    clearance = 3.0 * (NEW["Wt"] / 70) ** 0.75 * np.where(NEW["type"] == "b", np.exp(-0.5), 1)
    area = recommend(target="auc", value=120.0).dose
    assert area["dose"].to_numpy() == pytest.approx(120 * clearance.to_numpy(), rel=1e-3)
    average = recommend(target="average", value=10.0).dose
    assert average["dose"].to_numpy() == pytest.approx(area["dose"].to_numpy(), rel=1e-12)
    assert area["median"].to_numpy() == pytest.approx(120.0, rel=1e-9)


def test_probability_of_a_dose_is_that_of_the_lognormal_distribution():
    sd = model().omega_.loc["CL", "CL"] ** 0.5
    found = recommend(target="auc", value=120.0, probability=0.9, n_draws=40_000).dose
    median = recommend(target="auc", value=120.0).dose["dose"].to_numpy()
    assert found["dose"].to_numpy() == pytest.approx(median * np.exp(1.2816 * sd), rel=0.01)
    assert found["probability"].to_numpy() == pytest.approx(0.9, abs=1e-3)
    assert found["median"].to_numpy() == pytest.approx(120 * np.exp(1.2816 * sd), rel=0.01)


@pytest.mark.parametrize("target", ["trough", "peak", "average", "auc", "window"])
def test_steady_state_against_dose_by_dose(target):
    bounds = {"auc": (80, 200), "window": (4, 25)}.get(target, (7, 14))
    found = recommend(target=target, bounds=bounds, choices=[150, 350])
    times = np.linspace(0, 12, 1201)
    for row in NEW.index:
        psi = draws_of(found, row)
        for dose in (150, 350):
            f = oral_course(psi, times, dose, 12.0, 25)
            mean = trapezoid(f, times, axis=1)
            quantity = {
                "trough": f[:, -1],
                "peak": f.max(axis=1),
                "auc": mean,
                "average": mean / 12,
                "window": ((f > 4) & (f < 25)).mean(axis=1),
            }[target]
            met = (quantity >= bounds[0]) & (quantity <= bounds[1])
            met = (f.min(axis=1) >= 4) & (f.max(axis=1) <= 25) if target == "window" else met
            got = found.table.loc[(row, dose)]
            assert got["probability"] == pytest.approx(met.mean(), abs=0.003)
            for name, q in (("median", 0.5), ("lower", 0.05), ("upper", 0.95)):
                assert got[name] == pytest.approx(np.quantile(quantity, q), rel=1e-3, abs=5e-3)


def test_first_dose_against_the_curve():
    found = recommend(target="auc", value=60.0, steady_state=False)
    times = np.linspace(0, 12, 4001)
    for row, patient in NEW.iterrows():
        psi = draw_by_hand(patient["Wt"], patient["type"], 3000)
        f = oral_course(psi, times, found.dose.loc[row, "dose"], 12.0, 1)
        assert np.median(f.mean(axis=1) * 12) == pytest.approx(60.0, rel=0.02)


def test_area_of_infusions_into_two_compartments():
    start = {"CL": 3.0, "V": 20.0, "Q": Parameter(5.0, random=False, fixed=True)}
    start["V2"] = Parameter(12.0, random=False, fixed=True)
    two = make_model(TwoCompartment(), start, max_iter=3, error="combined")
    people = pd.DataFrame({"Wt": [70.0]})
    options = {"infusion": 2.0, "interval": 12.0, "random_state": 0, "n_draws": 60}
    steady = recommend_dose(two, people, target="auc", value=100.0, **options)
    f = steady.simulation.concentrations(
        0, steady.dose["dose"].iloc[0], steady.simulation.grid.times
    )
    area = np.median(f @ steady.simulation.grid.weights)
    assert area == pytest.approx(100.0, rel=1e-6)
    peak = steady.simulation.grid.times[np.argmax(np.median(f, axis=0))]
    assert peak == 2.0


def test_bioavailability_counts_where_the_dose_goes_through_it():
    start = {**TYPICAL, "F": Parameter(0.5, transform="logit", random=False, fixed=True)}
    one = make_model(
        OneCompartment("first-order", bioavailability=True), start, max_iter=3, error="combined"
    )
    people, options = pd.DataFrame({"Wt": [70.0]}), {"target": "auc", "value": 100.0}
    oral = recommend(one, people, **options).dose["dose"].iloc[0]
    vein = recommend(one, people, compartment="central", **options).dose["dose"].iloc[0]
    assert oral == pytest.approx(2 * vein, rel=1e-9)


def test_rates_and_amounts():
    start = {"K": 0.09, "V": 32.0, "KA": 1.5}
    rate = make_model(OneCompartment("first-order", parametrization="rate"), start, max_iter=5)
    dose = recommend(rate, NEW[["Wt"]], target="auc", value=100.0)
    f = dose.simulation.concentrations(0, dose.dose["dose"].iloc[0], dose.simulation.grid.times)
    assert np.median(f @ dose.simulation.grid.weights) == pytest.approx(100.0, rel=1e-6)


# What samples teach -----------------------------------------------------------------------------


def test_posterior_is_narrower_than_the_population():
    X, _, _ = theophylline()
    people = X[X["Subject"].isin([2, 7])].drop_duplicates("Subject")
    options = {"target": "trough", "bounds": (4, 10), "choices": [300]}
    before = recommend(X=people, **options).dose
    after = recommend(posterior(), None, **options).dose
    width = lambda dose: np.log(dose["upper"] / dose["lower"]).to_numpy()
    assert (width(after) < 0.7 * width(before)).all()
    assert list(after.index) == [2, 7]


def test_posterior_by_brute_force_of_the_individual_parameters():
    X, _, _ = theophylline()
    own = X[X["Subject"].isin([2, 7])].drop_duplicates("Subject")
    found = recommend(posterior(), own, target="auc", value=100.0, n_draws=20_000).dose
    psi = posterior().sample_parameters(20_000, 3)
    assert found["dose"].to_numpy() == pytest.approx(100 * np.median(psi[..., 0], axis=0), rel=0.01)


def test_patients_are_in_the_order_of_their_rows():
    X, _, _ = theophylline()
    own = X[X["Subject"].isin([2, 7])].drop_duplicates("Subject")
    there = recommend(posterior(), own, target="auc", value=100.0).dose
    back = recommend(posterior(), own[::-1], target="auc", value=100.0).dose
    assert list(back.index) == [7, 2]
    pd.testing.assert_frame_equal(there, back[::-1])


def test_ids_of_fit_are_new_patients_to_a_model():
    known = recommend(X=NEW.assign(Subject=[1, 2, 3]), target="auc", value=100.0).dose
    new = recommend(X=NEW.assign(Subject=[91, 92, 93]), target="auc", value=100.0).dose
    assert known["dose"].tolist() == new["dose"].tolist()


def test_a_dose_belongs_to_a_new_occasion():
    X, y, doses = theophylline()
    X = X.assign(visit=np.where(X["Time"] > 4, 2, 1))
    start = {name: Parameter(value, fixed=True) for name, value in TYPICAL.items()}
    visits = NonlinearMixedModel(
        OneCompartment("first-order"),
        start,
        **{"group": "Subject", "time": "Time", "dosing": doses, "standard_errors": None},
        **{"occasion": "visit", "occasion_parameters": ["CL"], "max_iter": 5},
    )
    visits.fit(X, y)
    visits._population.within[:] = 0.09  # a variance to be seen
    own = X[X["Subject"] == 2]
    condition = visits.condition(own, y[own.index])
    options = {"target": "auc", "value": 100.0, "interval": 12, "random_state": 0}
    same = recommend_dose(condition, **options).dose.iloc[0]
    new = recommend_dose(condition, own.head(1).drop(columns="visit"), **options).dose.iloc[0]
    assert np.log(new["upper"] / new["lower"]) > 2 * np.log(same["upper"] / same["lower"])


# Choosing ---------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    target=st.sampled_from(["auc", "average", "trough", "peak"]),
    value=st.floats(0.5, 500),
    factor=st.floats(1.1, 5),
    probability=st.floats(0.1, 0.9),
)
def test_more_is_reached_with_more(target, value, factor, probability):
    options = {"target": target, "probability": probability, "n_draws": 50}
    one = recommend(value=value, **options).dose["dose"].to_numpy()
    more = recommend(value=factor * value, **options).dose["dose"].to_numpy()
    assert more == pytest.approx(factor * one, rel=1e-9)
    surer = {**options, "probability": (1 + probability) / 2}
    assert (recommend(value=value, **surer).dose["dose"].to_numpy() >= one).all()


def test_probability_of_a_value_grows_with_the_dose():
    found = recommend(target="peak", value=10.0, choices=np.arange(50, 801, 50))
    assert (found.table["probability"].unstack().diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    for label, dose in found.dose["dose"].items():
        part = found.table["probability"].loc[label]
        assert (part[part.index < dose] < 0.5).all()
        assert part[dose] >= 0.5


def test_of_equally_likely_doses_the_lowest():
    found = recommend(target="auc", bounds=(1e-6, np.inf), choices=[300, 100, 200, 100])
    assert found.dose["dose"].tolist() == [100.0] * 3
    assert found.table.loc[0].index.tolist() == [100.0, 200.0, 300.0]


def test_the_same_draws_give_the_same_doses():
    options = {"target": "window", "bounds": (5, 20), "choices": [100, 200, 300]}
    one, two = (recommend(random_state=3, **options) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    alone = recommend(X=NEW.iloc[[1]], random_state=3, **options)
    assert alone.table["median"].tolist() == one.table.loc[1, "median"].tolist()


def test_no_dose_is_a_row_with_a_reason():
    found = recommend(target="trough", bounds=(1e6, 2e6), choices=[100, 200])
    assert found.dose["dose"].isna().all()
    assert found.dose["reason"].tolist() == ["no choice meets it in any draw"] * 3
    assert "no choice meets it" in found.summary()
    assert found.profile().empty
    high = recommend(target="peak", value=1e6, choices=[100])
    assert high.dose["reason"].iloc[0] == "no choice reaches it with probability 0.5"
    never = recommend(target="trough", value=1.0, interval=1e6)
    assert never.dose["reason"].iloc[0] == "no dose reaches it"


def test_result():
    found = recommend(target="average", value=10.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.target = "peak"
    text = found.summary()
    assert "average of at least 10 (median)" in text
    assert "no medical device" in text
    assert "covariates alone" in text
    assert "own samples" in recommend(posterior(), None, target="auc", value=100.0).summary()
    assert max(map(len, text.splitlines())) <= 90
    profile = found.profile()
    assert set(profile.index.get_level_values(0)) == {0, 1, 2}
    assert (profile["lower"] <= profile["median"]).all()
    assert (
        repr(found) == "DoseRecommendation(3 patients, average of at least 10 (median), every "
        "12, at steady state)"
    )


# Differential equations -------------------------------------------------------------------------


def linear_equations(time, state, parameter):
    (depot, central), (CL, V, KA) = state, parameter
    return [-KA * depot, KA * depot - CL / V * central]


def _fixed():
    return {name: Parameter(value, fixed=True) for name, value in TYPICAL.items()}


@cache
def pair():
    """The same population with a closed form and with differential equations."""
    closed = make_model(start=_fixed())
    structure = ODEModel(
        linear_equations,
        states=("depot", "central"),
        parameters=("CL", "V", "KA"),
        output=lambda state, parameter: state[1] / parameter[1],
    )
    other = make_model(structure, _fixed(), max_iter=1, method="fo")
    other._population = closed._population
    return closed, other


@pytest.mark.parametrize(
    "goal",
    [
        {"target": "auc", "bounds": (20.0, 80.0), "choices": [100], "steady_state": False},
        {"target": "trough", "value": 2.0, "steady_state": False, "probability": 0.8},
        {"target": "window", "bounds": (0.0, 12.0), "choices": [100, 250]},
        {"target": "peak", "bounds": (3.0, 12.0), "choices": [100, 250], "infusion": 1.5},
    ],
)
def test_equations_agree_with_the_closed_form(goal):
    one, two = (recommend(m, NEW[["Wt"]].head(1), n_draws=8, **goal) for m in pair())
    one, two = (x.dose.drop(columns="reason").to_numpy() for x in (one, two))
    np.testing.assert_allclose(one.astype(float), two.astype(float), rtol=1e-4)


def saturable(time, state, parameter):
    (amount,), (VM, KM, V) = state, parameter
    return [-VM * amount / V / (KM + amount / V)]


def test_more_than_proportional_where_elimination_saturates():
    structure = ODEModel(
        saturable,
        parameters=("VM", "KM", "V"),
        output=lambda state, parameter: state[0] / parameter[2],
    )
    start = {"VM": Parameter(20.0, fixed=True), "V": Parameter(32.0, fixed=True)}
    start["KM"] = Parameter(2.0, fixed=True, random=False)
    slow = make_model(structure, start, max_iter=2, method="fo")
    options = {"target": "trough", "n_draws": 10, "steady_state": False}
    people = NEW[["Wt"]].head(1)
    one, two = (
        recommend(slow, people, value=value, **options).dose.iloc[0] for value in (0.5, 1.5)
    )
    assert 1.05 * one["dose"] < two["dose"] < 2.0 * one["dose"]  # a linear model: 3 times
    for goal, found in ((0.5, one), (1.5, two)):
        assert found["median"] == pytest.approx(goal, rel=1e-4)


# Pictures ---------------------------------------------------------------------------------------


def test_display():
    plt = pytest.importorskip("matplotlib.pyplot")
    options = {"target": "trough", "bounds": (4, 9), "choices": [100, 200, 300]}
    found = recommend(**options)
    display = DoseDisplay.from_recommendation(found)
    assert list(display.lines_) == [0, 1, 2]
    curve, middle = display.lines_[1]
    at = np.isin(curve.get_xdata(), [100, 200, 300])
    assert curve.get_ydata()[at] == pytest.approx(found.table.loc[1, "probability"].to_numpy())
    assert middle.get_ydata()[-1] == pytest.approx(found.dose.loc[1, "median"], rel=1e-9)
    _, axes = plt.subplots(1, 2)
    assert DoseDisplay(found, [2]).plot(axes).axes_[0] is axes[0]
    with pytest.raises(ValueError, match="no patient 9"):
        DoseDisplay(found, [9]).plot()
    with pytest.raises(ValueError, match="1 to 6 patients"):
        DoseDisplay(found, []).plot()
    DoseDisplay.from_recommendation(recommend(target="peak", value=9.0))
    DoseDisplay.from_recommendation(recommend(target="peak", value=1e6, choices=[100]))
    plt.close("all")


# Bad input --------------------------------------------------------------------------------------

BAD = {
    "bounds need choices": {"bounds": (5, 10), "target": "trough"},
    "choices is empty": {"value": 5.0, "choices": []},
    r"choices\[1\] is 0.0; it must be a number above 0": {"value": 5.0, "choices": [100, 0]},
    r"choices\[0\] is -5": {"value": 5.0, "choices": [-5]},
    r"bounds is \(10, 5\); the lower one": {"bounds": (10, 5), "choices": [1]},
    "bounds is 5; it must be two numbers": {"bounds": 5, "choices": [1]},
    "value and bounds are two kinds of goal: give one, not neither": {},
    "give one, not both": {"value": 1.0, "bounds": (1, 2), "choices": [1]},
    "value is 0; it must be a number above 0": {"value": 0},
    "target is 'area'; it must be one of": {"value": 1.0, "target": "area"},
    "target='window' needs bounds": {"value": 1.0, "target": "window"},
    "interval is 0; it must be a number above 0": {"value": 1.0, "interval": 0},
    "interval is inf": {"value": 1.0, "interval": np.inf},
    "infusion is 13, longer than the interval of 12": {"value": 1.0, "infusion": 13.0},
    "probability is 1.5": {"value": 1.0, "probability": 1.5},
    "probability goes with value": {"bounds": (1, 2), "choices": [1], "probability": 0.5},
    "n_draws is 1": {"value": 1.0, "n_draws": 1},
    "'vein', which the model does not have": {"value": 1.0, "compartment": "vein"},
    "X is None": {"value": 1.0, "X": None},
    "X has no column 'Wt', which the model needs for 'CL'": {**{"value": 1.0, "X": NEW[["type"]]}},
    'column "Wt" is missing .NaN. for subject 1 in row 1': {
        **{"value": 1.0, "X": NEW.assign(Wt=[50.0, np.nan, 95.0])}
    },
    'column "type" is "z" for subject 2 in row 2, a level that fit has not seen': {
        **{"value": 1.0, "X": NEW.assign(type=["a", "b", "z"])}
    },
    "X has 2 rows of the patient 4": {"value": 1.0, "X": NEW.assign(Subject=[4, 4, 5])},
    "X has the column 'age', which fit has not seen": {"value": 1.0, "X": NEW.assign(age=3)},
    "model is a str; it must be a fitted NonlinearMixedModel": {"value": 1.0, "given": "model"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError, match=message):
        recommend(**BAD[message])


def test_unknown_patient_of_a_posterior():
    with pytest.raises(ValueError, match="has groups that fit has not seen, 11"):
        recommend(posterior(), NEW.assign(Subject=[2, 7, 11]), value=1.0)


def test_models_without_patients_or_doses():
    X, y, _ = theophylline()
    line = NonlinearMixedModel(group="Subject", standard_errors=None)
    line.fit(X[["Subject", "Time"]], y)
    with pytest.raises(ValueError, match="no compartment model, so that it reads no doses"):
        recommend(line, X[["Subject", "Time"]].head(1), value=1.0)
    single = NonlinearMixedModel(standard_errors=None).fit(X[["Time"]], y)
    with pytest.raises(ValueError, match="has no group"):
        recommend(single, X[["Time"]].head(1), value=1.0)


def test_polars():
    polars = pytest.importorskip("polars")
    one = recommend(target="auc", value=100.0).dose
    two = recommend(X=polars.from_pandas(NEW), target="auc", value=100.0).dose
    pd.testing.assert_frame_equal(one, two)
    pd.testing.assert_frame_equal(one, recommend(X=NEW.to_dict("list"), value=100.0).dose)


def test_arrays():
    X, y, doses = theophylline()
    columns = X[["Subject", "Wt", "Time"]].to_numpy()
    start = _fixed() | {"CL": Parameter(3.0, covariates=[Covariate(1, reference=70)], fixed=True)}
    array = NonlinearMixedModel(
        OneCompartment("first-order"), start, group=0, time=2, dosing=doses, standard_errors=None
    )
    array.fit(columns, y)
    found = recommend(array, np.array([[1.0, 50, 0], [2.0, 90, 0]]), target="auc", value=100.0)
    assert np.log(found.dose["dose"].iloc[1] / found.dose["dose"].iloc[0]) == pytest.approx(
        array.coef_["CL:1"] * np.log(90 / 50), rel=1e-9
    )
