"""Fitted attributes of a nonlinear mixed model, made of what the engine found."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklme._engine.nlme.conditional import residuals, shrinkage
from sklme._engine.nlme.kinds import names as error_names
from sklme._engine.nlme.standard_errors import standard_errors
from sklme.nonlinear._frames import frame, series
from sklme.nonlinear._known import Population
from sklme.nonlinear.parameters import natural_slope, to_natural

LEVEL = 0.95  # of the intervals
KINDS = {"sandwich": "sandwich", "hessian": "hessian", "score": "outer"}


@dataclass(frozen=True)
class Optimization:
    """How a search ended.

    Attributes
    ----------
    gradient_norm : float
        Largest entry of the gradient of the objective.
    decrement : float
        Decrease of the objective that was still expected.
    n_evaluations : int
        Evaluations of the objective with its gradient.
    converged : bool
        Whether the decrement is below the tolerance.
    message : str
        Why the search ended.
    at_zero : tuple of str
        Effects whose variance was estimated at zero, a proper optimum.
    exact_fit : bool
        Whether the structure meets every observation, so that there is no residual error.
    monte_carlo_error : float
        Standard error of the log-likelihood where it was simulated, else 0.
    """

    gradient_norm: float
    decrement: float
    n_evaluations: int
    converged: bool
    message: str
    at_zero: tuple
    exact_fit: bool
    monte_carlo_error: float = 0.0


def population_of(layout, found):
    """The population of an estimate."""
    E, K, Omega = len(layout.random), len(layout.varying), found.parameters.Omega
    within = Omega[E : E + K, E : E + K] if len(Omega) > E else np.zeros((K, K))
    return Population(found.parameters.beta, Omega[:E, :E], within, found.parameters.sigma)


def optimization_of(layout, estimate):
    """The record of the search, with names."""
    names, found = effect_names(layout), estimate.fit
    gradient = found.gradient
    zero = dict.fromkeys(names[k] for k in found.at_zero if k < len(names))
    return Optimization(
        float(np.abs(gradient).max(initial=0.0)),
        float(found.decrement),
        int(found.n_evaluations),
        bool(found.converged),
        found.message,
        tuple(zero),
        estimate.exact,
        estimate.error,
    )


def effect_names(layout):
    """Of the random effects: of the groups, then of the occasions."""
    names = layout.names
    return [names[k] for k in layout.random] + [f"{names[k]} (occasion)" for k in layout.varying]


def find_errors(estimate, kind, n_groups):
    """Standard errors of the estimate, or None; with one group there is no sandwich."""
    if kind is None or estimate.standard_errors is not None:
        return None if kind is None else estimate.standard_errors
    return standard_errors(estimate.fit, KINDS[kind] if n_groups > 1 else "hessian")


def error_of(errors, *name):
    """The standard error of one entry, nan where there is none."""
    if errors is None or name not in errors.names:
        return np.nan
    return errors.of(*name)


def parameter_table(layout, beta, errors):
    """Typical values on the natural scale and covariate effects, with intervals."""
    z, rows = stats.norm.ppf(0.5 + 0.5 * LEVEL), []
    transforms = [p.transform for p in layout.parameters.values()]
    for k, phi in enumerate(beta):
        transform = transforms[k] if k < len(transforms) else "identity"
        se = error_of(errors, "beta", k)
        value = float(to_natural(phi, transform))
        own = float(natural_slope(phi, transform)) * se
        ends = [float(to_natural(phi + side * z * se, transform)) for side in (-1.0, 1.0)]
        relative = own / abs(value) if value else np.nan
        rows.append((value, own, relative, *ends))
    names = [effect.name for effect in layout.effects]
    columns = ["estimate", "std_error", "rse", "lower", "upper"]
    return frame(np.array(rows).reshape(len(rows), 5), ("parameter", names), columns)


def coefficient_series(layout, beta):
    """beta with names."""
    return series(beta, [effect.name for effect in layout.effects])


def omega_table(layout, population):
    """Covariance of the random effects, of the groups and then of an occasion."""
    names, E = effect_names(layout), len(population.between)
    Omega = np.zeros((len(names),) * 2)
    Omega[:E, :E], Omega[E:, E:] = population.between, population.within
    return frame(Omega, ("effect", names), names)


def error_dict(layout, sigma):
    """Standard deviations of the residual error by name."""
    return {
        name: float(s) for (_, name), s in zip(error_names((layout.error,)), sigma, strict=True)
    }


def shrinkage_series(layout, design, known):
    """Shrinkage of each effect of the groups and of the residuals."""
    names = [layout.names[k] for k in layout.random]
    E, N, eta = len(names), design.groups.n, known.conditional.eta
    parameters = known.population.parameters(design.n_occasions)
    data = design.data()
    with np.errstate(all="ignore"):
        weighted = residuals(data, parameters, eta).weighted
    if N < 2 or np.isfinite(weighted).sum() < 2:
        return series(np.full(E + 1, np.nan), [*names, "residual"])
    found = shrinkage(parameters, eta, weighted)
    return series([*found.eta[:E], found.residual], [*names, "residual"])
