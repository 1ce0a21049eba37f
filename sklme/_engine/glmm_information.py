"""Standard errors of a generalised model from the observed information of the rows.

The information is minus the second derivative of the approximated log-likelihood itself, jointly
in (theta, beta, auxiliary coefficients): central differences of order four of the exact gradient.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine import units
from sklme._engine.glmm import GeneralizedFit, problem_of
from sklme._engine.glmm_rows import prepare

STEP = 0.02  # of a difference, in standard errors; its error is of order STEP^4
SAME = 1e-9  # relative difference of means and spreads between rows that are the same


@dataclass(frozen=True)
class Information:
    """The observed information of psi and what it says of the parameters in units of the data.

    free : which entries of psi have a standard error; the others belong to variances at zero
    covariance : of psi, zero where not free
    fixed : covariance of (intercept, coefficients), zero for dropped columns
    aux : covariance of each auxiliary predictor's coefficients
    """

    psi: np.ndarray
    free: np.ndarray
    covariance: np.ndarray
    fixed: np.ndarray
    aux: tuple[np.ndarray, ...]


@np.errstate(all="ignore")
def problem_at(fit: GeneralizedFit, design, y, *, offset=None, trials=None, aux=()):
    """The criterion of the rows of a fit, and psi of the fit; ValueError for other rows."""
    structures = fit.working.structures
    ready = prepare(design, y, fit.family, structures, offset, trials, aux)
    if not _same_rows(fit, ready):
        raise ValueError("these are not the rows that the model was fitted to")
    problem = problem_of(fit.family, ready, fit.n_quadrature)
    return ready, problem, point_of(fit, ready, problem)


def point_of(fit: GeneralizedFit, ready, problem) -> np.ndarray:
    """psi of a fit, in the coordinates of these prepared rows and this criterion."""
    theta = np.zeros(0)
    if fit.working.structures:
        theta = problem.charts.theta(list(fit.working.Lambdas), np.zeros(1, int))[0]
    return np.concatenate([theta, fit.working.beta[0], ready.aux_from_units(fit.aux)])


@np.errstate(all="ignore")
def information(fit: GeneralizedFit, ready, problem, psi: np.ndarray) -> Information:
    """The observed information at the estimates."""
    free = _free(problem, psi)
    at = problem(psi[None], np.zeros(1, int))
    scale = np.zeros(len(psi))
    guide = 0.5 * at.observed[0][np.ix_(free, free)]
    scale[free] = 1.0 / np.sqrt(np.maximum(np.diag(guide), 1e-300))
    H = np.stack(
        [_difference(problem, psi, i, STEP * scale[i]) for i in np.flatnonzero(free).tolist()]
    )
    H = H[:, free]
    covariance = np.zeros((len(psi), len(psi)))
    covariance[np.ix_(free, free)] = np.linalg.inv(0.25 * (H + H.T))
    first = problem.n_theta
    C = units.coefficient_map(fit.working)
    beta = slice(first, first + problem.n_fixed)
    parts, at_aux = [], first + problem.n_fixed
    for T in ready.aux_maps:
        here = slice(at_aux, at_aux + len(T))
        parts.append(T @ covariance[here, here] @ T.T)
        at_aux = here.stop
    return Information(psi, free, covariance, C @ covariance[beta, beta] @ C.T, tuple(parts))


def _difference(problem, psi: np.ndarray, i: int, step: float) -> np.ndarray:
    """d gradient / d psi_i of -2 log L."""
    slopes = []
    for k in (1.0, -1.0, 2.0, -2.0):
        there = psi.copy()
        there[i] += k * step
        slopes.append(problem(there[None], np.zeros(1, int)).gradient[0])
    return (8.0 * (slopes[0] - slopes[1]) - (slopes[2] - slopes[3])) / (12.0 * step)


def _free(problem, psi: np.ndarray) -> np.ndarray:
    """All but the entries of columns of Lambda that are zero."""
    free = np.ones(len(psi), bool)
    Lambdas = problem.unpack(psi)[0]
    for t, (L, at) in enumerate(zip(Lambdas, problem.charts.slices, strict=True)):
        dead = ~L.any(axis=0)
        free[at] = ~np.array([B[:, dead].any() for B in problem.basis(t)], bool)
    return free


def _same_rows(fit: GeneralizedFit, ready) -> bool:
    known, given = fit.working, ready
    if known.gram.n_rows != given.n_rows or len(known.columns) != len(given.columns):
        return False
    pairs = [(known.frame.x_shift, given.frame.x_shift), (known.frame.x_scale, given.frame.x_scale)]
    close = all(np.allclose(a, b, rtol=SAME, atol=0) for a, b in pairs)
    levels = [f.n_levels for f in known.gram.factors] == [g.n_levels for g in given.rows.groupings]
    return close and levels and bool((known.columns == given.columns).all())
