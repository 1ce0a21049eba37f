"""What doses do to patients: concentrations over an interval, for draws of their parameters."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from sklme.pharmacokinetics._patients import Patients
from sklme.pharmacokinetics._targets import Grid, Schedule, Target
from sklme.pharmacokinetics.compartments import _Compartments

PARTS, FEW = 25, 8  # of the grid of times, in closed forms and where each time costs
FACTOR, MOST = 2.0, 20  # bracketing a dose: how far a step goes, and how many there are


@dataclass(frozen=True, eq=False)
class Simulation:
    """Patients, what they are given, and what for.

    In a linear model concentrations are proportional to the dose, so that one simulation is enough
    for all doses; others are simulated dose by dose.
    """

    patients: Patients
    schedule: Schedule
    target: Target

    @property
    def structure(self):
        """The compartment model."""
        return self.patients.model.structure

    @property
    def is_linear(self):
        """Whether concentrations are proportional to the dose."""
        return isinstance(self.structure, _Compartments)

    @property
    def grid(self):
        """Times at which concentrations are taken."""
        n_parts = PARTS if self.is_linear else FEW
        return Grid.of(self.schedule.interval, self.schedule.infusion, n_parts)

    def concentrations(self, i, dose, times):
        """Those of patient i, (n_draws, n_times)."""
        schedule, patients = self.schedule, self.patients
        design = patients.design(i, times, schedule.dosing(patients.labels[i], dose))
        return design.structure(patients.parameters(design))[:, 0]

    def outcomes(self, i, doses):
        """The quantity and whether it meets the target, both (n_draws, n_doses), of patient i."""
        doses = np.asarray(doses, float)
        if self.is_linear and self.target.kind != "window":
            quantity = self.per_unit(i)[:, None] * doses
            return quantity, self.target.is_met(quantity)
        grid = self.grid
        if self.is_linear:
            unit = self.concentrations(i, 1.0, grid.times)
            found = [self.target.measure(dose * unit, grid) for dose in doses]
        else:
            found = [self._measure(i, dose) for dose in doses]
        return tuple(np.stack(one, axis=1) for one in zip(*found, strict=True))

    def per_unit(self, i):
        """The quantity after doses of 1, (n_draws,), in a linear model."""
        kind = self.target.kind
        if kind in ("auc", "average") and self.schedule.steady_state:
            return self._exposure(i) / (1.0 if kind == "auc" else self.schedule.interval)
        return self._measure(i, 1.0)[0]

    def find_dose(self, i):
        """The dose that reaches the value with the probability asked for; NaN if there is none."""
        tail, value = 1.0 - self.target.probability, self.target.value
        if self.is_linear:
            reached = np.quantile(self.per_unit(i), tail)
            return value / reached if reached > 0 and np.isfinite(value / reached) else np.nan
        gap = lambda log: np.quantile(self._measure(i, np.exp(log))[0], tail) / value - 1.0
        here = np.log(self._usual_dose())
        step = np.log(FACTOR) if gap(here) < 0 else -np.log(FACTOR)
        for _ in range(MOST):
            there = here + step
            if (gap(there) < 0) != (step > 0):
                return float(np.exp(brentq(gap, *sorted((here, there)), xtol=1e-5)))
            here = there
        return np.nan

    def _measure(self, i, dose):
        grid = self.grid
        if self.target.kind == "trough":
            grid = replace(grid, times=grid.times[-1:], weights=grid.weights[-1:])
        return self.target.measure(self.concentrations(i, dose, grid.times), grid)

    def _exposure(self, i):
        """Area under the curve of a dose of 1: F / CL."""
        patients, structure = self.patients, self.structure
        times = np.array([self.schedule.interval])
        design = patients.design(i, times, self.schedule.dosing(patients.labels[i], 1.0))
        psi = np.moveaxis(patients.parameters(design)[:, 0, 0], -1, 0)
        value = dict(zip(structure.parameter_names, psi, strict=True))
        rate = value["K"] if "K" in value else value["CL"] / value["V"]
        area = 1.0 / (rate * (value["V"] if structure.output == "concentration" else 1.0))
        place = structure._places()[str(self.schedule.compartment)]
        return area * value["F"] if "F" in value and place[1] else area

    def _usual_dose(self):
        amounts = self.patients.model._dosing_of_fit.column("amount")
        return float(np.median(amounts[amounts > 0]))
