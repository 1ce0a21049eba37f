"""REML of subjects and raters for many features at once, from their `Sums`.

With theta = the root of var(rater) / var(error), E the identity on the contrasts of the raters and
T = diag(1, theta, ..., theta, 1), let B = E + T A T and B_1 be B without its last row and column.
Integrating over the raters and their mean gives

    -2 log L = sum over subjects of log(1 + s lambda) + log |B_1| + (N - 1) log(rss),

rss = |B| / |B_1|, up to a constant and with the residual variance at its optimum rss / (N - 1)
(Bates et al. 2015, sec. 3, with rows of equal standing put together).
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine import blocks
from sklme._engine.covariance import Charts, Structure
from sklme._engine.intraclass_sums import TINY, Sums
from sklme._engine.newton import minimise
from sklme._engine.records import Evaluation

NEAR_ZERO = 1e-5  # a variance ratio times its count below this is tried at zero
EPSILON = np.finfo(float).eps
ROOTS = (0.25, 1.0, 4.0)  # of variance ratios that are tried as starts
LEAST_START = 1e-2  # at a variance of zero the gradient in its root says nothing


@dataclass(frozen=True)
class VarianceFit:
    """Variance components of p features, in units of the data squared.

    subject_ratio, rater_ratio : (p,) variances over that of the error
    residual : (p,) the variance of the error
    criterion : (p,) -2 log-likelihood up to a constant, y in units of the sums
    converged : (p,)
    """

    subject_ratio: np.ndarray
    rater_ratio: np.ndarray
    residual: np.ndarray
    criterion: np.ndarray
    converged: np.ndarray


@dataclass(frozen=True)
class _Point:
    """B at one point: the inverse of B_1 (with a last row of zeros), and w'w / its pivot.

    B^-1 = C + w w'.
    """

    C: np.ndarray  # (d, d, r)
    w: np.ndarray  # (d, r)
    log_det: np.ndarray  # of B_1
    log_rss: np.ndarray


def fit(data: Sums, start: np.ndarray, tol: float = 1e-9, max_iter: int = 100) -> VarianceFit:
    """Estimate both variance ratios; `start` (p, 2) holds first guesses of them."""
    n_theta = 1 if data.n_raters == 1 else 2
    theta = _best_start(data, np.sqrt(np.maximum(start[:, :n_theta], LEAST_START)))
    charts = Charts((Structure(1, ((0,),)),) * n_theta, len(theta))
    evaluate = criterion(data)
    everyone = np.arange(len(theta))
    theta, record = minimise(evaluate, charts, everyone, theta, tol=tol, max_iter=max_iter)
    value = evaluate(theta, everyone).value
    for t in range(n_theta):
        value = _settle(data, evaluate, theta, value, t)
    ratios = np.zeros((len(theta), 2))
    ratios[:, :n_theta] = theta**2
    rss = np.exp(_point(data.at(ratios[:, 0])[0], np.sqrt(ratios[:, 1])).log_rss)
    residual = rss / (data.total - 1.0) * data.scale**2
    return VarianceFit(ratios[:, 0], ratios[:, 1], residual, value, record.converged)


def _best_start(data: Sums, theta: np.ndarray) -> np.ndarray:
    """The start with the lowest criterion: short tables have several minima now and then."""
    two_way = theta.shape[1] == 2
    best, lowest = theta, np.full(len(theta), np.inf)
    others = [(a, b) for a in ROOTS for b in ROOTS] if two_way else [(a,) for a in ROOTS]
    for trial in (theta, *(np.tile(other, (len(theta), 1)) for other in others)):
        value = derivatives(data, trial[:, 0] ** 2, trial[:, -1])[0]
        better = value < lowest
        best = np.where(better[:, None], trial, best)
        lowest = np.where(better, value, lowest)
    return best


def _settle(data: Sums, evaluate, theta: np.ndarray, value: np.ndarray, t: int) -> np.ndarray:
    """A variance that is almost zero becomes exactly zero where that is no worse, in place."""
    typical = data.total / (data.n_subjects if t == 0 else data.n_raters)
    which = np.flatnonzero((theta[:, t] ** 2 * typical < NEAR_ZERO) & (theta[:, t] != 0.0))
    if not len(which):
        return value
    trial = theta[which]
    trial[:, t] = 0.0
    there = evaluate(trial, which)
    better = there.value <= value[which] + 1e-9 + 4.0 * there.noise
    theta[which[better], t] = 0.0
    value = value.copy()
    value[which[better]] = there.value[better]
    return value


def criterion(data: Sums):
    """theta (r, 1 or 2), features -> -2 log-likelihood and its derivatives in theta.

    theta holds the roots of the variance ratios of subjects and, where there are several, raters.
    """

    def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        part, root = data.take(which), theta[:, 0]
        rater = theta[:, 1] if theta.shape[1] > 1 else np.zeros(len(theta))
        value, g, h, noise = derivatives(part, root**2, rater)
        m = theta.shape[1]
        gradient, hessian = np.empty((len(theta), m)), np.empty((len(theta), m, m))
        gradient[:, 0] = 2.0 * root * g[0]
        hessian[:, 0, 0] = 2.0 * g[0] + 4.0 * root**2 * h[0]
        if m > 1:
            gradient[:, 1] = g[1]
            hessian[:, 1, 1] = h[2]
            hessian[:, 0, 1] = hessian[:, 1, 0] = 2.0 * root * h[1]
        return Evaluation(value, gradient, hessian, hessian, noise)

    return evaluate


def derivatives(data: Sums, ratio: np.ndarray, theta: np.ndarray):
    """-2 log-likelihood, (g_s, g_r), (h_ss, h_sr, h_rr) in lambda and theta, and its rounding.

    d log |B_1| = tr C dB and d log rss = w' dB w for symmetric B, and likewise once more.
    """
    A, dA, ddA = data.at(ratio, 2)
    one_way = data.n_raters == 1
    t = np.ones((len(A), len(theta)))
    t[1:-1] = theta
    point = _point(A, theta)
    nu, s = data.total - 1.0, data.sizes[:, None]
    share = s / (1.0 + s * ratio)
    value = (data.counts * np.log1p(s * ratio)).sum(axis=0) + point.log_det + nu * point.log_rss
    noise = 8.0 * EPSILON * (np.abs(point.log_det) + nu * (1.0 + np.abs(point.log_rss)))
    S = _scaled(t, t, dA)
    side = _Side(point, S)
    g_s = (data.counts * share).sum(axis=0) + side.first(nu)
    h_ss = second(point, side, side, _scaled(t, t, ddA), nu) - (data.counts * share**2).sum(axis=0)
    if one_way:
        return value, (g_s,), (h_ss,), noise
    e = np.zeros((len(A), 1))
    e[1:-1] = 1.0
    R = _scaled(e, t, A)
    R += blocks.transpose(R)
    other = _Side(point, R)
    SR = _scaled(e, t, dA)
    SR += blocks.transpose(SR)
    h_sr = second(point, side, other, SR, nu)
    h_rr = second(point, other, other, 2.0 * _scaled(e, e, A), nu)
    return value, (g_s, other.first(nu)), (h_ss, h_sr, h_rr), noise


class _Side:
    """One derivative X of B with the products that first and second derivatives share."""

    def __init__(self, point: _Point, X: np.ndarray):
        self.CX = blocks.multiply(point.C, X)
        self.Xw = np.einsum("abr,br->ar", X, point.w)
        self.wXw = np.einsum("ar,ar->r", point.w, self.Xw)

    def first(self, nu: np.ndarray) -> np.ndarray:
        return np.einsum("aar->r", self.CX) + nu * self.wXw


def second(point: _Point, i: _Side, j: _Side, X_ij: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """The second derivative along two sides, X_ij that of B itself."""
    curved = np.einsum("abr,abr->r", point.C, X_ij)
    curved -= np.einsum("abr,bar->r", i.CX, j.CX)
    along = np.einsum("ar,abr,br->r", point.w, X_ij, point.w)
    along -= 2.0 * np.einsum("ar,abr,br->r", i.Xw, point.C, j.Xw)
    return curved + nu * (along - i.wXw * j.wXw)


def _point(A: np.ndarray, theta: np.ndarray) -> _Point:
    d, r = len(A), len(theta)
    t = np.ones((d, r))
    t[1:-1] = theta
    B = _scaled(t, t, A)
    for i in range(1, d - 1):
        B[i, i] += 1.0
    L = blocks.cholesky(B)
    inverse = lower_inverse(L)
    C = np.einsum("iar,ibr->abr", inverse[:-1], inverse[:-1])
    pivots = np.maximum(np.einsum("iir->ir", L), TINY)
    logs = 2.0 * np.log(pivots)
    return _Point(C, inverse[-1], logs[:-1].sum(axis=0), logs[-1])


def lower_inverse(L: np.ndarray) -> np.ndarray:
    """The inverse of every lower triangular matrix of a stack (d, d, r)."""
    d = len(L)
    out = np.zeros_like(L)
    for i in range(d):
        with np.errstate(divide="ignore"):  # a constant y: not finite, as it should be
            out[i, i] = 1.0 / L[i, i]
        for j in range(i):
            out[i, j] = -sum(L[i, m] * out[m, j] for m in range(j, i)) * out[i, i]
    return out


def _scaled(a: np.ndarray, b: np.ndarray, X: np.ndarray) -> np.ndarray:
    return a[:, None] * b[None, :] * X
