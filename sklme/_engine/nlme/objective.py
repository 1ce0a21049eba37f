"""The objectives -2 log L of the subjects and their exact gradients, without n log 2 pi.

With u the mode of l, W the curvature of the rows by eta, and H = I + L'W L:
l(u) + log |H| is the value of FOCE and FOCEI (W from first derivatives) and of Laplace's
approximation (W exact). The mode depends on the parameters and the gradient carries its derivative
(Almquist, Leander and Jirstrand 2015, "Using sensitivity equations for computing gradients of the
FOCE and FOCEI approximations to the population likelihood", J. Pharmacokinet. Pharmacodyn. 42,
equations 15 to 23), here in u, where Omega enters through f alone.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sklme._engine.nlme.derivatives import third
from sklme._engine.nlme.errors import Loss
from sklme._engine.nlme.modes import Modes
from sklme._engine.nlme.point import Point, Rows

FLAT = 0.15  # a curvature below this share of the expected one comes before two modes merge


@dataclass(frozen=True)
class Gradient:
    """Derivatives of each subject's objective by beta (N, P), L (N, Q, Q), log sigma (N, S)."""

    beta: np.ndarray
    L: np.ndarray
    log_sigma: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The objective of each subject (N,), its gradient where asked for, and the modes.

    doubtful : subjects whose criterion is so flat at the mode that it may have a lower one
    peak : what is known there; it and `doubtful` where the gradient is
    """

    value: np.ndarray
    gradient: Gradient | None
    modes: Modes
    doubtful: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    peak: "Peak | None" = None


class Peak:
    """Everything about the subjects at their modes.

    W : curvature of the rows by eta, half of the second derivative, (N, Q, Q)
    H, inverse : I + L'W L and its inverse
    covariance : L H^-1 L', that of eta given the subject's rows
    """

    def __init__(self, point: Point, modes: Modes, *, exact: bool):
        self.point, self.u, self.exact = point, modes.u, exact
        self.at: Rows = point.rows(modes.u, outer=True)
        self.loss: Loss = point.loss(self.at.f)
        self.along = point.along(outer=True)
        self.value = modes.value
        a, L = self.at.a, point.L
        weight = 0.5 * self.loss.ff if exact else self.loss.weight
        self.W = a.swapaxes(1, 2) @ (weight[:, :, None] * a)
        if exact:
            self.W = self.W + 0.5 * self.along.to_eta_twice(self.loss.f, self.second)
        self.H = L.T @ self.W @ L + np.eye(len(L))
        self.C = cholesky(self.H)

    @cached_property
    def second(self) -> np.ndarray:
        """Second derivatives of f along the coordinates."""
        return self.point.second(self.u, outer=True)

    @cached_property
    def curve(self) -> np.ndarray:
        """d2f/dcoordinates deta, (N, n, U, Q)."""
        return self.along.curve(self.second)

    @cached_property
    def log_det(self) -> np.ndarray:
        """log |H|, infinite where H is not positive definite."""
        with np.errstate(invalid="ignore", divide="ignore"):
            log_det = 2.0 * np.log(np.diagonal(self.C, axis1=1, axis2=2)).sum(axis=1)
        return np.where(np.isfinite(log_det), log_det, np.inf)

    @cached_property
    def inverse(self) -> np.ndarray:
        """H^-1, no numbers where H is not positive definite."""
        inverse = np.linalg.inv(self.C)
        return inverse.swapaxes(1, 2) @ inverse

    @cached_property
    def covariance(self) -> np.ndarray:
        """L H^-1 L'."""
        return self.point.L @ self.inverse @ self.point.L.T

    @cached_property
    def half(self) -> np.ndarray:
        """Half the exact second derivative of l by u."""
        if self.exact:
            return self.H
        L = self.point.L
        return 0.5 * L.T @ self.bend @ L + np.eye(len(L))

    @cached_property
    def bend(self) -> np.ndarray:
        """The exact second derivative of the rows by eta."""
        if self.exact:
            return 2.0 * self.W
        a = self.at.a
        W = a.swapaxes(1, 2) @ (self.loss.ff[:, :, None] * a)
        return W + self.along.to_eta_twice(self.loss.f, self.second)

    @cached_property
    def doubtful(self) -> np.ndarray:
        """Subjects whose exact curvature is far below that of Gauss and Newton."""
        a, L = self.at.a, self.point.L
        W = a.swapaxes(1, 2) @ (self.loss.weight[:, :, None] * a) if self.exact else self.W
        expected = L.T @ W @ L + np.eye(len(L))
        return np.flatnonzero(np.linalg.det(self.half) < FLAT * np.linalg.det(expected))

    @cached_property
    def force(self) -> np.ndarray:
        """sum_j dloss_j/deta, (N, Q)."""
        return (self.loss.f[:, None] @ self.at.a)[:, 0]


def cholesky(H: np.ndarray) -> np.ndarray:
    """The factors; no numbers where there is none."""
    try:
        return np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        C = np.full_like(H, np.nan)
        for i in np.flatnonzero(np.isfinite(H).all(axis=(1, 2))):
            try:
                C[i] = np.linalg.cholesky(H[i])
            except np.linalg.LinAlgError:
                continue
        return C


def laplace(point: Point, modes: Modes, *, exact: bool, gradient: bool) -> Evaluation:
    """FOCE and FOCEI, as the point says, or with the exact curvature Laplace's approximation."""
    peak = Peak(point, modes, exact=exact)
    value = modes.value + peak.log_det + point.data.constants
    if not gradient:
        return Evaluation(value, None, modes)
    direct = Direct(peak.loss.f, peak.loss.s, np.zeros_like(peak.u))
    gradients = through_modes(peak, direct, peak.inverse)
    return Evaluation(value, gradients, modes, peak.doubtful, peak)


@dataclass(frozen=True)
class Direct:
    """How an objective depends on the rows at the mode, other than through H.

    f (N, n) and s (S, N, n) : by f and by the parameters of R while u stands still
    u (N, Q) : by u
    """

    f: np.ndarray
    s: np.ndarray
    u: np.ndarray


def through_modes(peak: Peak, direct: Direct, by_H: np.ndarray) -> Gradient:
    """The gradient of an objective with these direct slopes and the derivative `by_H` by H.

    What moves f moves the mode by -(d2l/du2)^-1 of what moves dl/du.
    """
    at, loss, L = peak.at, peak.loss, peak.point.L
    through = _through_curvature(peak, L @ by_H @ L.T)
    by_u = peak.along.to_effects(_by_coordinates(peak, through)) @ L + direct.u
    v_u = 0.5 * np.linalg.solve(peak.half, by_u[:, :, None])[:, :, 0]
    v = v_u @ L.T
    along_v = (at.a @ v[:, :, None])[:, :, 0]
    total = _Slopes(
        direct.f + through.f - loss.ff * along_v,
        through.slope - loss.f[:, :, None] * v[:, None],
        through.s + direct.s - loss.fs * along_v,
        through.third,
    )
    by_row = _by_coordinates(peak, total)
    by_eta = peak.along.to_effects(by_row)
    by_L = by_eta[:, :, None] * peak.u[:, None] - peak.force[:, :, None] * v_u[:, None]
    by_L = by_L + 2.0 * peak.W @ L @ by_H
    return with_variance(peak.point, peak.along.to_beta(by_row), by_L, total.s)


def turn_modes(peak: Peak) -> Gradient:
    """du/dparameters: by beta (N, Q, P), L (N, Q, Q, Q), log sigma (N, Q, S)."""
    point, at, loss, L, u = peak.point, peak.at, peak.loss, peak.point.L, peak.u
    (N, Q), S = u.shape, len(point.parameters.sigma)
    by_row = (loss.ff[:, :, None] * at.a)[..., None] * at.first[:, :, None]
    if point.frozen is not None:
        by_zero = (loss.fs[-1][:, :, None] * at.a)[..., None]
        by_row = by_row + by_zero * point.at_zero.first[:, :, None]
    by_row = by_row + (loss.f[:, :, None, None] * peak.curve).swapaxes(2, 3)
    by_beta = np.moveaxis(peak.along.to_beta(np.moveaxis(by_row, 2, 0)), 0, 1)
    by_L = (L.T @ peak.bend)[:, :, :, None] * u[:, None, None]
    by_L = by_L + peak.force[:, None, :, None] * np.eye(Q)[:, None]
    by_sigma = np.einsum("sij,ijq->iqs", loss.fs[:S], at.a)
    by_all = np.concatenate([L.T @ by_beta, by_L.reshape(N, Q, Q * Q), L.T @ by_sigma], axis=2)
    turned = -0.5 * np.linalg.solve(peak.half, by_all)
    beta, by_L, sigma = np.split(turned, [by_beta.shape[2], turned.shape[2] - S], axis=2)
    return Gradient(beta, by_L.reshape(N, Q, Q, Q), sigma)


def with_variance(point: Point, beta: np.ndarray, L: np.ndarray, s: np.ndarray) -> Gradient:
    """The gradient, where a frozen variance still moves with beta, at eta = 0."""
    if point.frozen is not None:
        by_row = s[-1][:, :, None] * point.at_zero.first
        beta, s = beta + point.along(outer=True).to_beta(by_row), s[:-1]
    return Gradient(beta, L, s.sum(axis=2).T)


@dataclass(frozen=True)
class _Slopes:
    """Derivatives by f (N, n), by df/deta (N, n, Q), by the parameters of R (S, N, n).

    third : (N, n, U), what third derivatives of f add to the slopes by the coordinates
    """

    f: np.ndarray
    slope: np.ndarray
    s: np.ndarray
    third: np.ndarray | None


def _through_curvature(peak: Peak, M: np.ndarray) -> _Slopes:
    """The slopes of tr(M W) while M stands still."""
    a, loss = peak.at.a, peak.loss
    Ma = a @ M
    m = (Ma * a).sum(axis=2)
    if not peak.exact:
        slope = 2.0 * loss.weight[:, :, None] * Ma
        return _Slopes(loss.weight_f * m, slope, loss.weight_s * m, None)
    bend = (peak.curve * (peak.along.B @ M[:, None])).sum(axis=(2, 3))
    f = 0.5 * (loss.fff * m + loss.ff * bend)
    s = 0.5 * (loss.ffs * m + loss.fs * bend)
    return _Slopes(f, loss.ff[:, :, None] * Ma, s, 0.5 * loss.f[:, :, None] * _third(peak, M))


def _third(peak: Peak, M: np.ndarray) -> np.ndarray:
    """The gradient of tr(M d2f/deta2) along the coordinates, (N, n, U)."""
    point = peak.point
    sizes, vectors = np.linalg.eigh(M)
    toward = np.moveaxis(point.data.B @ vectors[:, None], -1, 0)
    return third(point.data, peak.along, point.phi(peak.u), point.scale, toward, sizes.T)


def _by_coordinates(peak: Peak, slopes: _Slopes) -> np.ndarray:
    """The derivatives along the coordinates of each row, (N, n, U)."""
    by_row = slopes.f[:, :, None] * peak.at.first
    by_row = by_row + (peak.curve @ slopes.slope[:, :, :, None])[:, :, :, 0]
    return by_row if slopes.third is None else by_row + slopes.third
