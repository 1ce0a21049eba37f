"""-2 log L by importance sampling around the modes, with its Monte Carlo error.

Draws come from a t distribution with few degrees of freedom that has the mode of each subject and
the covariance of eta given its rows; equal seeds give equal draws, so that models can be compared.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.modes import exact_half
from sklme._engine.nlme.objective import Peak
from sklme._engine.nlme.parameters import Parameters, check_parameters
from sklme._engine.nlme.quadrature import chunks


@dataclass(frozen=True)
class Sampled:
    """-2 log L without n log 2 pi and its Monte Carlo standard error, in all and by subject.

    effective : the number of independent draws that the draws of each subject are worth
    """

    value: float
    error: float
    values: np.ndarray
    errors: np.ndarray
    effective: np.ndarray


def importance_sampling(
    data: Data,
    parameters: Parameters,
    *,
    n_draws: int = 2000,
    degrees: float = 5.0,
    seed: int = 0,
    start: np.ndarray | None = None,
) -> Sampled:
    """-2 log L at these parameters from n_draws draws of each subject."""
    check_parameters(data, parameters)
    method = Method("focei")
    point = method.point(data, parameters)
    modes = method.modes(point, start)
    D = np.linalg.cholesky(_spread(Peak(point, modes, exact=False)))
    (N, Q), rng = modes.u.shape, np.random.default_rng(seed)
    z = rng.standard_normal((n_draws, N, Q))
    z /= np.sqrt(rng.chisquare(degrees, (n_draws, N, 1)) / degrees)
    u = modes.u + (D @ z[..., None])[..., 0]
    criterion = np.concatenate([point.criterion(u[part]) for part in chunks(point, n_draws)])
    size = np.log(np.diagonal(D, axis1=1, axis2=2)).sum(axis=1)
    log_q = (
        -0.5 * (degrees + Q) * np.log1p((z**2).sum(axis=2) / degrees)
        - size
        + (
            gammaln(0.5 * (degrees + Q))
            - gammaln(0.5 * degrees)
            - 0.5 * Q * np.log(degrees * np.pi)
        )
    )
    log_weight = -0.5 * criterion - 0.5 * Q * np.log(2.0 * np.pi) - log_q
    top = log_weight.max(axis=0)
    weight = np.exp(log_weight - top)
    mean = weight.mean(axis=0)
    values = -2.0 * (top + np.log(mean)) + data.constants
    errors = 2.0 * weight.std(axis=0, ddof=1) / mean / np.sqrt(n_draws)
    effective = weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0)
    total = float(np.sqrt((errors**2).sum()))
    return Sampled(float(values.sum()), total, values, errors, effective)


def _spread(peak: Peak) -> np.ndarray:
    """The covariance of u given the rows, of the exact curvature where that has one."""
    H = exact_half(peak.point, peak.u)
    least = np.linalg.eigvalsh(H)[:, 0] if H.shape[1] else np.ones(len(H))
    return np.linalg.inv(np.where((least > 1e-3)[:, None, None], H, peak.H))
