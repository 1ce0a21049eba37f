"""The dose that brings a patient to a target, and how likely it does."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from sklme._rows import check_number
from sklme._summary import make_table, number
from sklme.nonlinear._frames import frame
from sklme.pharmacokinetics._patients import Patients
from sklme.pharmacokinetics._simulation import Simulation
from sklme.pharmacokinetics._targets import TAILS, Schedule, Target
from sklme.pharmacokinetics.compartments import _Compartments
from sklme.pharmacokinetics.ode import ODEModel

COLUMNS = ("probability", "median", "lower", "upper")
NOTICE = "A calculation from a fitted model, no medical device: it decides nothing for a patient."


@dataclass(frozen=True, eq=False, repr=False)
class DoseRecommendation:
    """Doses for some patients, and how likely each meets the target.

    Made by `recommend_dose`. It is no medical device and decides nothing for a patient: it says
    what a fitted model expects, for somebody who is qualified to judge that.

    Parameters
    ----------
    table : DataFrame
        A row for each patient and each dose of `choices` (or the dose that was found), both in the
        index. Columns: `probability` that the target is met; `median`, and with `lower` and `upper`
        an interval of 90 %, of the target quantity. For "window" that is the share of the interval
        that concentrations spend between the bounds.
    dose : DataFrame
        A row for each patient: `dose`, `interval`, the columns of `table` for that dose, and
        `reason`, why there is no dose where it is NaN.
    target : str
        What is to be reached, in words.
    schedule : str
        How doses are given, in words.
    n_draws : int
        Number of draws of the parameters of each patient.
    simulation : Simulation
        What the tables rest on: patients, schedule and target.

    See Also
    --------
    recommend_dose : Makes it.
    DoseDisplay : Draws it.

    Examples
    --------
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import NonlinearMixedModel
    >>> from sklme.pharmacokinetics import Dosing, OneCompartment
    >>> from sklme.pharmacokinetics import recommend_dose
    >>> X, y = load_theophylline(return_X_y=True)
    >>> doses = Dosing.single(X["Subject"], X["Dose"] * X["Wt"])
    >>> model = NonlinearMixedModel(
    ...     OneCompartment("first-order"), {"CL": 2.7, "V": 30.0, "KA": 1.5},
    ...     group="Subject", time="Time", dosing=doses,
    ... ).fit(X, y)
    >>> few = (X["Subject"] == 3) & X["Time"].between(1, 8)
    >>> posterior = model.condition(X[few], y[few])
    >>> found = recommend_dose(posterior, target="trough", bounds=(5, 15), interval=8,
    ...                        choices=[100, 200, 300, 400], random_state=0)
    >>> print(found.table["probability"].round(2).tolist(), found.dose["dose"].tolist())
    [0.02, 0.79, 0.97, 0.83] [300.0]
    """

    table: object
    dose: object
    target: str
    schedule: str
    n_draws: int
    simulation: Simulation

    def __repr__(self):
        return f"DoseRecommendation({len(self.dose)} patients, {self.target}, {self.schedule})"

    def summary(self):
        """Describe the doses as plain text.

        Returns
        -------
        text : str
            Target, schedule and a row for each patient.
        """
        patients = self.simulation.patients
        rows = [(patients.name, "dose", "probability", "median", "90 % interval", "")]
        for label, row in zip(patients.labels, self.dose.to_dict("records"), strict=True):
            values = [float(row[name]) for name in ("dose", *COLUMNS)]
            cells = [number(value) if np.isfinite(value) else "-" for value in values]
            rows.append((str(label), *cells[:-1], f"{cells[-1]}  {row['reason']}".rstrip()))
        known = "covariates alone" if patients.known is None else "covariates and own samples"
        head = f"Dose {self.schedule}\nTarget: {self.target}\nFrom {known}, {self.n_draws} draws"
        return f"{head}\n\n{make_table(rows)}\n\n{NOTICE}"

    def profile(self):
        """Find the concentrations over an interval after the doses that were found.

        Returns
        -------
        concentrations : DataFrame
            A row for each patient that has a dose and each time since it; columns `median`,
            `lower` and `upper` (of an interval of 90 %).
        """
        simulation, labels, parts = self.simulation, [], []
        times = simulation.grid.times
        for i, label in enumerate(simulation.patients.labels):
            dose = float(self.dose["dose"].iloc[i])
            if np.isfinite(dose):
                f = simulation.concentrations(i, dose, times)
                parts.append(np.quantile(f, TAILS, axis=0).T)
                labels += [label] * len(times)
        values = np.concatenate(parts) if parts else np.empty((0, 3))
        index = [(simulation.patients.name, labels), ("time", np.tile(times, len(parts)))]
        return frame(values, index, COLUMNS[1:])


def recommend_dose(
    model,
    X=None,
    *,
    interval,
    target="auc",
    value=None,
    bounds=None,
    choices=None,
    probability=None,
    infusion=None,
    compartment="",
    steady_state=True,
    n_draws=1000,
    random_state=None,
):
    """Find doses that bring patients to a target, from covariates or from their own samples.

    This is no medical device and decides nothing for a patient: it says what a fitted model
    expects, for somebody who is qualified to judge that.

    Parameters
    ----------
    model : NonlinearMixedModel or Posterior
        A fitted model, for new patients of whom only covariates are known: random effects are
        drawn from the population. Or what its ``condition`` returns for patients with samples:
        they are drawn from the posterior. Its structure must be a compartment model.
    X : {array-like, dataframe} of shape (n_patients, n_features), default=None
        A row for each patient. Of a dataframe, the columns of times, of groups and of what the
        model does not read may be missing; without the column of occasions the dose belongs to a
        new one. None, for a posterior: covariates and occasion are those of the last row of each
        patient.
    interval : float
        Time from dose to dose, in the unit of the column of times.
    target : {"auc", "average", "trough", "peak", "window"}, default="auc"
        A quantity of the interval from a dose to the next: the area under the curve, that divided
        by the interval, the concentration right before the next dose, the highest one; or
        "window", all of them.
    value : float, default=None
        What the quantity is to reach: the dose is the lowest that reaches it with `probability`.
    bounds : tuple of (float, float), default=None
        Instead of `value`, where the quantity is to lie: the dose is the one of `choices` most
        likely to bring it there, of several the lowest.
    choices : array-like of shape (n_doses,), default=None
        Doses that can be given, in the unit of the doses of fit; None, with `value`: any.
    probability : float, default=None
        With which `value` is reached; None means 0.5, so that the median is the value.
    infusion : float, default=None
        How long an infusion takes; None means at once, or as the model absorbs.
    compartment : str or int, default=""
        Where doses go, as in `Dosing`; empty means where the model absorbs.
    steady_state : bool, default=True
        Whether doses have been given for ever; False is the interval after the first.
    n_draws : int, default=1000
        Number of draws of the parameters of each patient; all patients share the random numbers.
    random_state : int, RandomState instance or None, default=None
        Source of the draws.

    Returns
    -------
    recommendation : DoseRecommendation
        The dose of each patient, and the probability of the target by dose.

    Raises
    ------
    ValueError
        If an argument, or a covariate of a patient, is missing or not possible.

    See Also
    --------
    DoseDisplay : Draws what is found.
    NonlinearMixedModel.condition : What samples say of a patient.

    Notes
    -----
    The target is about concentrations without residual error. Typical values and variances are
    taken as known. In a linear model concentrations are proportional to the dose and the area at
    steady state is F dose / CL. Otherwise each dose is simulated, for which differential equations
    need seconds at steady state: ask for fewer draws. Areas after a first dose, peaks and windows
    are taken over 200 times in the interval, with differential equations 64.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import Covariate, NonlinearMixedModel, Parameter
    >>> from sklme.pharmacokinetics import Dosing, OneCompartment
    >>> from sklme.pharmacokinetics import recommend_dose
    >>> X, y = load_theophylline(return_X_y=True)
    >>> doses = Dosing.single(X["Subject"], X["Dose"] * X["Wt"])
    >>> weight = [Covariate("Wt", reference=70, initial=0.75, fixed=True)]
    >>> model = NonlinearMixedModel(
    ...     OneCompartment("first-order"),
    ...     {"CL": Parameter(2.7, covariates=weight), "V": 30.0, "KA": 1.5},
    ...     group="Subject", time="Time", dosing=doses,
    ... ).fit(X, y)
    >>> new = pd.DataFrame({"Wt": [50.0, 70.0, 90.0]})
    >>> found = recommend_dose(model, new, target="average", value=10, interval=12, random_state=0)
    >>> print(found.dose["dose"].round(1).tolist())
    [259.9, 334.5, 403.9]
    """
    goal = Target(target, value, _as_tuple(bounds), probability)
    schedule = Schedule(interval, infusion, compartment, bool(steady_state))
    choices = _read_choices(choices, goal)
    check_number("n_draws", n_draws, Integral, 2)
    patients = Patients.read(model, X, n_draws, random_state)
    if not isinstance(patients.model.structure, _Compartments | ODEModel):
        raise ValueError(
            "the structure of the model is no compartment model, so that it reads no doses: fit it "
            "with OneCompartment() or another model of sklme.pharmacokinetics"
        )
    return _recommend(Simulation(patients, schedule, goal), choices)


def _recommend(simulation, choices):
    patients, target = simulation.patients, simulation.target
    tables, best, reasons = [], [], []
    for i in range(len(patients.labels)):
        doses = choices
        if doses is None:
            found = simulation.find_dose(i)
            doses = np.array([found]) if np.isfinite(found) else np.empty(0)
        rows = np.empty((0, 5)) if not len(doses) else _rows(simulation, i, doses)
        at, reason = _choose(rows[:, 1], target, choices is None)
        tables.append(rows)
        best.append([np.nan] * 5 if at is None else rows[at])
        reasons.append(reason)
    labels = np.repeat(patients.labels, [len(rows) for rows in tables])
    values, best = np.concatenate(tables), np.array(best)
    columns = {"dose": best[:, 0], "interval": np.full(len(best), simulation.schedule.interval)}
    columns |= dict(zip(COLUMNS, best[:, 1:].T, strict=True))
    return DoseRecommendation(
        frame(values[:, 1:], [(patients.name, labels), ("dose", values[:, 0])], COLUMNS),
        frame(columns | {"reason": reasons}, (patients.name, patients.labels)),
        target.describe(),
        simulation.schedule.describe(),
        len(patients.z),
        simulation,
    )


def _rows(simulation, i, doses):
    """(n_doses, 5): the dose and COLUMNS."""
    quantity, met = simulation.outcomes(i, doses)
    return np.column_stack([doses, met.mean(axis=0), *np.quantile(quantity, TAILS, axis=0)])


def _choose(probability, target, found):
    """Position of the best dose and "", or None and why there is none."""
    if found:  # by its probability, so that there is nothing to choose
        return (0, "") if len(probability) else (None, "no dose reaches it")
    if target.bounds is not None:
        at = int(np.argmax(probability))
        return (at, "") if probability[at] > 0 else (None, "no choice meets it in any draw")
    reach = probability >= target.probability
    if reach.any():
        return int(np.argmax(reach)), ""
    return None, f"no choice reaches it with probability {target.probability:g}"


def _as_tuple(bounds):
    return tuple(bounds) if isinstance(bounds, list | np.ndarray) else bounds


def _read_choices(choices, target):
    """Doses in order, each once; None for any."""
    if choices is None:
        if target.bounds is not None:
            raise ValueError("bounds need choices, the doses that can be given, as choices=[1, 2]")
        return None
    doses = np.atleast_1d(np.asarray(choices, float)).ravel()
    if not len(doses):
        raise ValueError("choices is empty: give the doses that can be given")
    for at, dose in enumerate(doses):
        check_number(f"choices[{at}]", float(dose), Real, 0)
    return np.unique(doses)
