"""Displays of nonlinear models: what is drawn are the numbers of the tables."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklme.datasets import load_phenobarbital, load_theophylline
from sklme.nonlinear import NonlinearMixedModel
from sklme.nonlinear._goodness_of_fit import GoodnessOfFitDisplay
from sklme.nonlinear._individual_fits import IndividualFitsDisplay
from sklme.nonlinear._predictive_display import VisualPredictiveCheckDisplay
from sklme.nonlinear.predictive_check import visual_predictive_check
from sklme.nonlinear.residuals import residual_table
from sklme.pharmacokinetics import Dosing, OneCompartment

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

START = {"ka": 1.5, "CL": 2.7, "V": 30.0}


def oral(time, ka, CL, V, dose):
    k = CL / V
    return dose * ka / V / (ka - k) * (np.exp(-k * time) - np.exp(-ka * time))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def theophylline():
    X, y = load_theophylline(return_X_y=True)
    X["dose"] = X["Dose"] * X["Wt"]
    X["heavy"] = np.where(X["Wt"] > 70, "heavy", "light")
    X["below"], y = y < 2, y.clip(lower=2.0)
    model = NonlinearMixedModel(
        oral, START, group="Subject", time="Time", censored="below", standard_errors=None
    )
    return model.set_params(method="laplace").fit(X, y), X, y


@pytest.fixture(scope="module")
def infants():
    bunch = load_phenobarbital()
    dosing = Dosing.from_table(bunch.doses)
    model = NonlinearMixedModel(
        OneCompartment(), group="Subject", time="time", error="proportional", dosing=dosing
    ).set_params(parameters={"CL": 0.006, "V": 1.4}, standard_errors=None)
    return model.fit(bunch.data, bunch.target), bunch.data, bunch.target, dosing


def points(ax):
    return np.asarray(ax.collections[0].get_offsets())


def test_panels_show_the_residual_table(theophylline):
    model, X, y = theophylline
    display = GoodnessOfFitDisplay.from_estimator(model, X, y)
    table = residual_table(model, X, y)
    seen = table["RES"].notna()
    assert len(display.ax_) == 6
    assert_allclose(points(display.ax_[1]), table.loc[seen, ["IPRED", "observed"]], atol=1e-9)
    assert_allclose(points(display.ax_[3]), table.loc[seen, ["PRED", "CWRES"]], atol=1e-9)
    assert_allclose(points(display.ax_[4]), table.loc[seen, ["IPRED", "IWRES"]], atol=1e-9)
    assert display.ax_[0].get_ylabel() == "observed conc"
    assert display.ax_[2].get_xlabel() == "Time"


def test_prediction_errors_stand_in(theophylline):
    model, X, y = theophylline
    options = {"npde": True, "random_state": 0, "kind": "quantiles"}
    display = GoodnessOfFitDisplay.from_estimator(model, X, y, **options)
    table = residual_table(model, X, y, npde=True, random_state=0)
    drawn = display.ax_.collections[1].get_offsets()[:, 1]
    assert_allclose(drawn, np.sort(table["NPDE"]))
    assert display.ax_.get_ylabel() == "NPDE"


def test_a_check_is_drawn_as_it_is(theophylline):
    model, X, y = theophylline
    options = {"n_simulations": 50, "random_state": 0, "stratify": "heavy", "bins": 4}
    display = VisualPredictiveCheckDisplay.from_estimator(model, X, y, **options)
    table = visual_predictive_check(model, X, y, **options).table
    assert [ax.get_title() for ax in display.ax_] == list(dict.fromkeys(table["stratum"]))
    first = table[table["stratum"] == display.ax_[0].get_title()]
    for k, (_, part) in enumerate(first.groupby("quantile")):
        median, observed, _ = display.ax_[0].lines[3 * k : 3 * k + 3]
        assert_allclose(median.get_xydata(), part[["x", "median"]])
        assert_array_equal(observed.get_ydata(), part["observed"])


def test_curves_are_predictions(theophylline):
    model, X, y = theophylline
    display = IndividualFitsDisplay.from_estimator(model, X, y, subjects=[9, 1])
    assert [ax.get_title() for ax in display.ax_] == ["9", "1"]
    curve = display.curves[display.curves["subject"] == 9]
    own = X["Subject"] == 9
    both = curve.set_index("time").loc[X.loc[own, "Time"]]
    assert_allclose(both["individual"], model.predict(X[own]), atol=1e-5)
    assert_allclose(both["population"], model.predict_population(X[own]))
    fine = X[own].iloc[[0] * len(curve)].assign(Time=curve["time"].to_numpy())
    assert_allclose(curve["population"], model.predict_population(fine))


def test_curves_jump_at_doses(infants):
    model, X, y, dosing = infants
    display = IndividualFitsDisplay.from_estimator(model, X, y, subjects=[1])
    curve = display.curves
    given = dosing.column("time")[slice(*(int(end[0]) for end in dosing.rows([1])))]
    given = given[(given > given.min()) & (given <= X.loc[X["Subject"] == 1, "time"].max())]
    jumps = np.diff(curve["individual"])
    assert len(given) == (jumps > 0.01).sum()
    assert_allclose(curve["time"].to_numpy()[1:][jumps > 0.01], given)


@pytest.mark.parametrize("log", [False, True])
def test_pictures_are_drawn_in_axes_that_are_given(theophylline, infants, log):
    model, X, y = theophylline
    _, axes = plt.subplots(1, 2)
    IndividualFitsDisplay.from_estimator(model, X, y, subjects=[1, 2], ax=axes, log=log)
    _, axes = plt.subplots(1, 2)
    options = {"n_simulations": 20, "random_state": 0, "stratify": "heavy", "log": log, "ax": axes}
    display = VisualPredictiveCheckDisplay.from_estimator(model, X, y, **options)
    display.figure_.canvas.draw()
    _, ax = plt.subplots()
    assert GoodnessOfFitDisplay.from_estimator(model, X, y, kind="time", ax=ax).ax_ is ax
    model, X, y, _ = infants
    display = IndividualFitsDisplay.from_estimator(model, X, y, log=log)
    assert len(display.ax_) == 12
    display.figure_.canvas.draw()


def test_what_displays_refuse(theophylline):
    model, X, y = theophylline
    with pytest.raises(ValueError, match="subjects names 99"):
        IndividualFitsDisplay.from_estimator(model, X, y, subjects=[99])
    with pytest.raises(ValueError, match="kind is 'all of them'"):
        GoodnessOfFitDisplay.from_estimator(model, X, y, kind="all of them")
    linear = NonlinearMixedModel(group="Subject").fit(X[["Subject", "Wt", "Time"]], y)
    with pytest.raises(ValueError, match="no time along which"):
        IndividualFitsDisplay.from_estimator(linear)
    with pytest.raises(ValueError, match="the model has none"):
        GoodnessOfFitDisplay.from_estimator(linear, kind="time")
    assert len(GoodnessOfFitDisplay.from_estimator(linear).ax_) == 5
