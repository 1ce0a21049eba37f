"""Standard errors: R^-1, S^-1 and the sandwich R^-1 S R^-1.

R is half the second derivative of -2 log L, by central differences of the exact gradient; S is a
quarter of the sum of the outer products of the subjects' gradients. The sandwich (White 1982,
"Maximum likelihood estimation of misspecified models", Econometrica 50(1)) is NONMEM's default.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.fit import Fit
from sklme._engine.nlme.methods import Objective
from sklme._engine.nlme.parameters import Search

KINDS = ("sandwich", "hessian", "outer")
STEP = 0.01  # of a difference, in standard errors


@dataclass(frozen=True)
class StandardErrors:
    """Uncertainty of the estimates; nan where a parameter cannot have one.

    kind : "sandwich", "hessian" (R^-1) or "outer" (S^-1)
    names : what the rows of `covariance` are: ("beta", k), ("Omega", i, j), ("sigma", k)
    covariance, errors : of these natural parameters
    theta : covariance of the searched vector
    R, S : the two matrices, of the searched vector
    decrement : what is left to gain in -2 log L as R sees it, a certificate of the optimum
    condition_number : of the correlation matrix of the searched vector
    message : empty, or why there are no standard errors
    """

    kind: str
    names: tuple[tuple, ...]
    covariance: np.ndarray
    errors: np.ndarray
    theta: np.ndarray
    R: np.ndarray
    S: np.ndarray
    decrement: float
    condition_number: float
    message: str

    def of(self, *name) -> float:
        """The standard error of one parameter, as `names` calls it."""
        return float(self.errors[self.names.index(name)])


def standard_errors(fit: Fit, kind: str = "sandwich") -> StandardErrors:
    """The uncertainty of a fit; where Omega was estimated singular it is held so.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}: it is {kind!r}")
    objective = Objective(fit.data, fit.search, fit.method)
    kept = ~fit.vanished
    R = 0.5 * _second(objective, fit, kept)
    S = 0.25 * fit.gradients[:, kept].T @ fit.gradients[:, kept]
    theta, message = _invert(kind, R, S)
    full = np.full((len(kept),) * 2, np.nan)
    full[np.ix_(kept, kept)] = theta
    names, turn = natural_jacobian(fit.search, fit.theta)
    covariance = turn[:, kept] @ theta @ turn[:, kept].T
    gone = [name[0] == "Omega" and bool(set(name[1:]) & set(fit.at_zero)) for name in names]
    lost = np.array(gone, bool)
    covariance[lost] = covariance[:, lost] = np.nan
    decrement = _decrement(R, fit.gradient[kept])
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diag(covariance))
    number = _condition(theta)
    return StandardErrors(kind, names, covariance, errors, full, R, S, decrement, number, message)


def natural_jacobian(search: Search, theta: np.ndarray) -> tuple[tuple[tuple, ...], np.ndarray]:
    """The free natural parameters and their derivatives by theta, (natural, theta)."""
    labels, parameters = search.labels, search.unpack(theta)
    shaped = [k for k, label in enumerate(labels) if label[0] in ("log_factor", "factor")]
    turns = search.turns(theta)
    names, rows = [], []
    for k, (kind, *at) in enumerate(labels):
        row = np.zeros(len(labels))
        if kind == "beta":
            row[k] = 1.0
        elif kind == "sigma":
            row[k] = parameters.sigma[at[0]]
        else:
            row[shaped] = turns[:, at[0], at[1]]
        names.append(("Omega", *at) if kind in ("log_factor", "factor") else (kind, *at))
        rows.append(row)
    return tuple(names), np.array(rows).reshape(len(labels), len(labels))


def _second(objective: Objective, fit: Fit, kept: np.ndarray) -> np.ndarray:
    """The second derivative of -2 log L by the kept entries of theta."""
    place = objective.look(fit.theta, fit.u)
    curvature = np.diag(place.curvature())[kept]
    step = STEP * np.sqrt(2.0 / np.maximum(curvature, 2.0 * STEP**2))
    rows = []
    for k, h in zip(np.flatnonzero(kept), step, strict=True):
        ends = []
        for sign in (1.0, -1.0):
            theta = fit.theta.copy()
            theta[k] += sign * h
            ends.append(objective.look(theta, place.foresee(theta)).gradient[kept])
        rows.append((ends[0] - ends[1]) / (2.0 * h))
    H = np.array(rows).reshape(kept.sum(), kept.sum())
    return 0.5 * (H + H.T)


def _invert(kind: str, R: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, str]:
    nothing = np.full_like(R, np.nan)
    if kind != "outer" and not _positive(R):
        return nothing, "the second derivative of -2 log L is not positive definite"
    if kind == "outer":
        if not _positive(S):
            return nothing, "there are too few subjects for the outer products of their gradients"
        return np.linalg.inv(S), ""
    inverse = np.linalg.inv(R)
    return (inverse if kind == "hessian" else inverse @ S @ inverse), ""


def _positive(A: np.ndarray) -> bool:
    if not np.isfinite(A).all() or (np.diag(A) <= 0).any():
        return False
    size = np.sqrt(np.diag(A))
    return not len(A) or bool(np.linalg.eigvalsh(A / np.outer(size, size))[0] > 1e-10)


def _decrement(R: np.ndarray, gradient: np.ndarray) -> float:
    """g'H^-1 g / 2 with H = 2 R."""
    if not _positive(R):
        return float("inf")
    return 0.25 * float(gradient @ np.linalg.solve(R, gradient)) if len(R) else 0.0


def _condition(covariance: np.ndarray) -> float:
    if not len(covariance) or not np.isfinite(covariance).all():
        return float("nan")
    size = np.sqrt(np.diag(covariance))
    values = np.linalg.eigvalsh(covariance / np.outer(size, size))
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")
