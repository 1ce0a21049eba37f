"""Subjects given the population: modes of eta, their covariance, predictions, shrinkage."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import jacobian, natural
from sklme._engine.nlme.errors import variance
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.objective import Peak
from sklme._engine.nlme.parameters import Parameters, check_parameters
from sklme._engine.nlme.point import Point


@dataclass(frozen=True)
class Conditional:
    """What the rows of each subject say about its eta.

    eta (N, Q) : the mode; covariance (N, Q, Q) : around it
    phi, psi (N, m, q) : the subject's parameters at the mode, unbounded and natural
    value (N,) : -2 log L of each subject without n log 2 pi
    converged (N,) : whether the mode was found
    """

    eta: np.ndarray
    covariance: np.ndarray
    phi: np.ndarray
    psi: np.ndarray
    value: np.ndarray
    converged: np.ndarray


@dataclass(frozen=True)
class Residuals:
    """Predictions and residuals of each row (N, n), nan where there is none.

    population, individual : f at eta = 0 and at the mode, on the scale of the error
    weighted : (y - f) / sqrt(R) at the mode
    conditional : whitened by V = A Omega A' + R linearised at the mode (Hooker, Staatz and
        Karlsson 2007, "Conditional weighted residuals", Pharm. Res. 24(12)); nan where censored
    """

    population: np.ndarray
    individual: np.ndarray
    weighted: np.ndarray
    conditional: np.ndarray


def condition(
    data: Data,
    parameters: Parameters,
    method: Method | str = "focei",
    *,
    start: np.ndarray | None = None,
    thorough: bool = True,
) -> Conditional:
    """The subjects of a record, seen before or not, at fixed population parameters.

    With method "laplace" the covariance is of the exact curvature, otherwise of Gauss-Newton's.
    `start` holds u of earlier modes, eta = L u. `thorough`: look for further modes.
    """
    check_parameters(data, parameters)
    method = Method(method) if isinstance(method, str) else method
    with np.errstate(all="ignore"):  # a subject without a finite criterion has no mode
        point = method.point(data, parameters)
        modes = method.modes(point, start, thorough=thorough)
        evaluation = method.at(point, modes, gradient=False)
        covariance = Peak(point, modes, exact=method.name == "laplace").covariance
    phi = point.phi(modes.u)
    psi, _ = natural(phi, data.links)
    eta = modes.u @ point.L.T
    return Conditional(eta, covariance, phi, psi, evaluation.value, modes.converged)


def residuals(data: Data, parameters: Parameters, eta: np.ndarray) -> Residuals:
    """Predictions and residuals of the rows at the modes eta (N, Q)."""
    point = Point(data, parameters)
    population = point.rows(np.zeros_like(eta)).f
    at = point.along()
    individual, first = _at_eta(point, eta)
    R = variance(data, parameters.sigma, individual).R
    a = at.to_eta(first)
    weighted = (data.response - individual) / np.sqrt(R)
    mean = individual - (a @ eta[:, :, None])[:, :, 0]
    whitened = _whiten(data, data.response - mean, a @ parameters.Omega @ a.swapaxes(1, 2), R)
    blank = lambda x: np.where(data.mask, x, np.nan)
    seen = data.mask if data.censored is None else data.mask & ~data.censored
    return Residuals(
        blank(population),
        blank(individual),
        np.where(seen, weighted, np.nan),
        np.where(seen, whitened, np.nan),
    )


def _at_eta(point: Point, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and its derivatives at eta, also where Omega is singular."""
    phi = point.base + (point.data.B @ eta[:, None, :, None])[..., 0]
    return jacobian(point.data, point.along(), phi, point.scale)


def _whiten(data: Data, residual: np.ndarray, V: np.ndarray, R: np.ndarray) -> np.ndarray:
    """V^-1/2 r with the symmetric root; rows that are not seen stay out."""
    seen = data.mask if data.censored is None else data.mask & ~data.censored
    pair = seen[:, :, None] & seen[:, None]
    n = V.shape[1]
    V = np.where(pair, V, 0.0) + np.where(seen, R, 1.0)[:, :, None] * np.eye(n)
    values, vectors = np.linalg.eigh(V)
    turned = np.einsum("ijk,ij->ik", vectors, np.where(seen, residual, 0.0))
    return np.einsum("ijk,ik->ij", vectors, turned / np.sqrt(np.maximum(values, 1e-300)))


@dataclass(frozen=True)
class Shrinkage:
    """1 - sd(eta) / omega and 1 - var(eta) / omega^2 of each effect, 1 - sd of `weighted`."""

    eta: np.ndarray
    eta_variance: np.ndarray
    residual: float


def shrinkage(parameters: Parameters, eta: np.ndarray, weighted: np.ndarray) -> Shrinkage:
    """How far the modes eta (N, Q) and the weighted residuals fall short of the model."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = eta.std(axis=0, ddof=1) / np.sqrt(np.diag(parameters.Omega))
    seen = weighted[np.isfinite(weighted)]
    return Shrinkage(1.0 - ratio, 1.0 - ratio**2, 1.0 - float(seen.std(ddof=1)))
