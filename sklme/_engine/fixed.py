"""The fixed effects at a given V: generalised least squares and the profiled criterion."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.records import Evaluation

DEPENDENT = 1e-10  # a column with 1 - R^2 below this depends on earlier ones
ROUNDING = np.finfo(float).eps
EXACT = 1e-13  # a residual sum of squares below this share of y'y is rounding


@dataclass(frozen=True)
class FixedPart:
    """beta and the profiled -2 log-likelihood, one entry a response.

    root : inverse of the lower Cholesky factor of xvx = X'V^-1X
    s2 : profiled residual variance rss / nu, nu = N - p (REML) or N (ML)
    """

    beta: np.ndarray
    xvx: np.ndarray
    root: np.ndarray
    rss: np.ndarray
    s2: np.ndarray
    nu: float
    value: np.ndarray
    noise: np.ndarray
    reml: bool


def solve_fixed(xvx, xvy, yvy, products, log_det, total: float, reml: bool) -> FixedPart:
    """GLS and the criterion (Bates et al. 2015, eqs. 34 and 41, with all constants).

    products : (diagonal of X'X (p,), y'y (r,)), which say what rounding does to differences from
        them; total is N.
    """
    root = np.linalg.inv(_cholesky(xvx))
    half = root @ xvy[..., None]
    beta = (root.swapaxes(1, 2) @ half)[..., 0]
    rss = np.maximum(yvy - (half[..., 0] ** 2).sum(axis=1), 0.01 * EXACT * products[1])
    nu = total - (xvx.shape[1] if reml else 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        s2 = rss / nu if nu > 0 else np.zeros_like(rss)
        value = log_det + nu * (1.0 + np.log(2.0 * np.pi * s2))
        if reml:
            value = value - 2.0 * np.log(np.einsum("rii->ri", root)).sum(axis=1)
        noise = _rounding(root, beta, rss, products, total) + ROUNDING * np.abs(value)
    return FixedPart(beta, xvx, root, rss, s2, nu, value, noise, reml)


def _rounding(root, beta, rss, products, total: float) -> np.ndarray:
    """Error of the criterion due to cancellation in X'V^-1X, X'V^-1y and y'V^-1y."""
    xx, yy = products
    in_rss = yy + (beta**2) @ xx
    in_log_det = (root**2).sum(axis=1) @ xx
    return ROUNDING * (total * (1.0 + in_rss / rss) + in_log_det)


def assemble(fixed: FixedPart, Ms, bases, Lambdas, information, expected, a) -> Evaluation:
    """The criterion with its derivatives, from the pieces that a solver computes.

    Ms : for each factor sum over levels of [Z'PZ]_ll - z z'/s2, (r, k, k)
    information : w_p'P w_q with w_p = dV_p P y, (r, m, m)
    expected : tr(P V_p P V_q), or None where it costs too much: then the average stands in
    a : y'P V_p P y / s2, (r, m)
    """
    parts = list(zip(Ms, bases, Lambdas, strict=True))
    gradient = np.concatenate(
        [2.0 * np.einsum("rab,rmab->rm", M @ Lambda, basis) for M, basis, Lambda in parts], axis=1
    )
    second = np.zeros_like(information)  # tr(P d2V) - y'P d2V P y / s2
    at = 0
    for M, basis, _ in parts:
        here = slice(at, at + basis.shape[1])
        second[:, here, here] = 2.0 * np.einsum("rmac,rnac->rmn", M[:, None] @ basis, basis)
        at = here.stop
    information = information / fixed.s2[:, None, None]
    average = information + second - a[:, :, None] * a[:, None, :] / fixed.nu
    average = 0.5 * (average + average.swapaxes(1, 2))
    observed = average if expected is None else average + information - expected
    return Evaluation(fixed.value, gradient, average, observed, fixed.noise)


def independent_columns(xx: np.ndarray) -> np.ndarray:
    """Which columns of X do not depend on earlier ones: 1 - R^2 >= 1e-10, from X'X in order."""
    p = len(xx)
    if p == 1:
        return xx[0] > 0
    scale = 1.0 / np.sqrt(np.where(np.diag(xx) > 0, np.diag(xx), 1.0))
    left = np.diag(_cholesky((xx * scale[:, None] * scale)[None])[0]) ** 2
    if np.all(left >= DEPENDENT):  # the usual case, without a loop
        return np.ones(p, bool)
    keep = np.zeros(p, bool)
    L = np.zeros((p, p))
    for j in range(p):
        row = np.zeros(p)
        for i in np.flatnonzero(keep[:j]):
            row[i] = (xx[j, i] - row[:i] @ L[i, :i]) / L[i, i]
        left = xx[j, j] - row @ row
        keep[j] = xx[j, j] > 0 and left >= DEPENDENT * xx[j, j]
        if keep[j]:
            row[j] = np.sqrt(left)
            L[j] = row
    return keep


def _cholesky(xvx: np.ndarray) -> np.ndarray:
    """Factors of a stack; one that rounding made indefinite becomes NaN, not an error."""
    try:
        return np.linalg.cholesky(xvx)
    except np.linalg.LinAlgError:
        return np.stack([_cholesky_or_nan(one) for one in xvx])


def _cholesky_or_nan(one: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(one)
    except np.linalg.LinAlgError:
        return np.full_like(one, np.nan)
