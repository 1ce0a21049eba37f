"""Curves and standard errors of the parameters of a generalised model."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.glmm_parameters import Fixed, Place, atanh_gradient, covariances, log_sd_gradient
from sklme._engine.glmm_profile import GeneralizedProfiler
from sklme._engine.profile import Curve
from sklme._engine.threads import dense_block
from sklme.inference._auxiliary import auxiliaries
from sklme.inference._generalized import GeneralizedFitted
from sklme.inference._parameters import Parameter, parameters_of


class GeneralizedCurves:
    """The curves of a generalised model; needs the rows."""

    def __init__(self, fitted: GeneralizedFitted):
        self.fitted, self.further = fitted, auxiliaries(fitted)
        self.flop = dense_block(fitted.working.gram)
        self.profiler = GeneralizedProfiler(fitted.place, fitted.rows.psi)
        self.minimum = self.profiler.minimum

    def of(self, p: Parameter) -> tuple[Curve | None, Callable]:
        """The curve of a parameter, and how its values become those of the data."""
        same = lambda values: values
        if p.kind == "aux":
            further = self.further[p.a]
            return self.profiler.functional(further.functional), further.natural
        if p.kind == "sd":
            return self.profiler.sd(p.factor, p.a), same
        if p.kind == "cor":
            return self.profiler.correlation(p.factor, p.a, p.b), same
        return (self.profiler.functional(Fixed(p.a)) if self.fitted.kept[p.a] else None), same


class GeneralizedWald:
    """Intervals from standard errors: of coefficients always, of all parameters with the rows."""

    def __init__(self, fitted: GeneralizedFitted, coefficients: pd.DataFrame, confidence_level):
        self.fitted, self.coefficients = fitted, coefficients
        self.further = auxiliaries(fitted)
        self.z = stats.norm.isf(0.5 - 0.5 * confidence_level)

    def interval(self, p: Parameter, estimate: float) -> tuple[float, float]:
        """Both ends, NaN where there is no standard error."""
        if p.kind == "fixed":
            return self._row(p.name)
        if p.kind == "aux":
            low, high = self._row(self.further[p.a].link_name)
            return self.further[p.a].natural(low), self.further[p.a].natural(high)
        if not self.fitted.has_rows or not estimate or (p.kind == "cor" and abs(estimate) >= 1.0):
            return np.nan, np.nan
        at = self.fitted.place, self.fitted.rows.psi, p.factor
        if p.kind == "sd":
            half = self.z * self.fitted.std_error(log_sd_gradient(*at, p.a))
            return estimate * np.exp(-half), estimate * np.exp(half)
        half = self.z * self.fitted.std_error(atanh_gradient(*at, p.a, p.b))
        return np.tanh(np.arctanh(estimate) - half), np.tanh(np.arctanh(estimate) + half)

    def _row(self, name: str) -> tuple[float, float]:
        return tuple(self.coefficients.loc[name, ["lower", "upper"]])


def generalized_estimates(fitted: GeneralizedFitted) -> pd.DataFrame:
    """The estimates of the model as a table of one row, NaN for a dropped column."""
    fixed = np.where(fitted.kept, fitted.estimates, np.nan)
    Sigmas = [fitted.model.covariance_[key] for key in fitted.keys]
    further = [a.natural(a.value) for a in auxiliaries(fitted)]
    values = [_value(p, fixed, Sigmas, further) for p in parameters_of(fitted)]
    return estimates_table(fitted, [values])


def estimates_table(fitted: GeneralizedFitted, values) -> pd.DataFrame:
    """A column for each parameter, a row for each vector of their values."""
    return pd.DataFrame(values, columns=[p.name for p in parameters_of(fitted)], dtype=float)


class EstimatesAt:
    """The values of all parameters at other parameters of the engine."""

    def __init__(self, fitted: GeneralizedFitted):
        self.kept, self.further = fitted.kept, auxiliaries(fitted)
        self.parameters = parameters_of(fitted)

    def __call__(self, place: Place, psi: np.ndarray) -> list[float]:
        fixed = np.full(len(self.kept), np.nan)
        for i in np.flatnonzero(self.kept):
            fixed[i] = Fixed(i).value(place, psi)
        further = [a.natural(a.functional.value(place, psi)) for a in self.further]
        Sigmas = covariances(place, psi)
        return [_value(p, fixed, Sigmas, further) for p in self.parameters]


def _value(p: Parameter, fixed, Sigmas, further) -> float:
    if p.kind in ("fixed", "aux"):
        return (fixed if p.kind == "fixed" else further)[p.a]
    G = Sigmas[p.factor]
    if p.kind == "sd":
        return np.sqrt(G[p.a, p.a])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(G[p.a, p.b] / np.sqrt(G[p.a, p.a] * G[p.b, p.b]), -1.0, 1.0)
