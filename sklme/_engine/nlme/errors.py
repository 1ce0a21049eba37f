"""Residual errors: the variance of a row, its -2 log density and the derivatives of both.

Every variance is a quadratic function of f, R = c0 + c1 f + c2 f^2. What a row adds to -2 log L is
log R + (y - f)^2 / R, without log 2 pi; or, where it is censored, -2 log Phi((limit - f) / sqrt(R))
(Beal 2001, "Ways to fit a PK model with some data below the quantification limit", method M3).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.kinds import names

LEAST = 1e-100  # a variance below this, where f = 0 with a proportional error, counts as this
FAR = -30.0  # below this the normal hazard is taken from its series


def coefficients(errors: tuple[str, ...], sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c (endpoints, 3) of the quadratic and its derivatives by log sigma (S, endpoints, 3)."""
    c, by_log = np.zeros((len(errors), 3)), np.zeros((len(sigma), len(errors), 3))
    for k, (e, name) in enumerate(names(errors)):
        power = 2 if name == "proportional" else 0
        c[e, power] = sigma[k] ** 2
        by_log[k, e, power] = 2.0 * c[e, power]
        if errors[e] == "combined1" and power:
            c[e, 1] = by_log[k - 1, e, 1] = by_log[k, e, 1] = 2.0 * sigma[k - 1] * sigma[k]
    return c, by_log


@dataclass(frozen=True)
class Variance:
    """R of each row and its derivatives by f and, with a first axis, by log sigma.

    `frozen`: R was taken at another f, so it does not move with f; the last of its parameters is
    then the f at which it was taken.
    """

    R: np.ndarray
    f: np.ndarray | float
    ff: np.ndarray | float
    s: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1)))
    fs: np.ndarray | float = 0.0
    ffs: np.ndarray | float = 0.0

    def freeze(self) -> "Variance":
        """The same R, which no longer moves with f."""
        by_f = np.broadcast_to(self.f, self.R.shape)[None]
        return Variance(self.R, 0.0, 0.0, np.concatenate([self.s, by_f]))

    def take(self, which: np.ndarray) -> "Variance":
        """The rows of some subjects of a frozen variance."""
        return Variance(self.R[which], 0.0, 0.0, self.s[:, which])

    def for_nodes(self) -> "Variance":
        """A frozen variance of rows that are repeated along a first axis."""
        return Variance(self.R, 0.0, 0.0, self.s[:, None])


def variance(
    data: Data,
    sigma: np.ndarray,
    f: np.ndarray,
    subjects: np.ndarray | None = None,
    by_sigma: bool = False,
) -> Variance:
    """The variance of rows with predictions f (..., subjects, n)."""
    c, by_log = coefficients(data.errors, sigma)
    if len(c) == 1:
        (c0, c1, c2), d = c[0], by_log[:, 0].T
        d0, d1, d2 = (x.reshape(-1, *[1] * f.ndim) for x in d)
    else:
        assert data.endpoint is not None
        at = data.endpoint if subjects is None else data.endpoint[subjects]
        c0, c1, c2 = np.moveaxis(c[at], -1, 0)
        middle = (1,) * (f.ndim - 2)
        d0, d1, d2 = np.moveaxis(by_log[:, at].reshape(-1, *middle, *at.shape, 3), -1, 0)
    R = np.maximum(c0 + f * (c1 + f * c2), LEAST)
    if not by_sigma:
        return Variance(R, c1 + 2.0 * c2 * f, 2.0 * c2)
    return Variance(
        R, c1 + 2.0 * c2 * f, 2.0 * c2, d0 + f * (d1 + f * d2), d1 + 2.0 * d2 * f, 2.0 * d2
    )


@dataclass(frozen=True)
class Loss:
    """What each row adds to -2 log L, its total derivatives by f, and by parameters s of R.

    weight : the positive curvature for Gauss-Newton, on the scale of half of `ff`
    """

    value: np.ndarray
    f: np.ndarray
    ff: np.ndarray
    weight: np.ndarray
    fff: np.ndarray
    weight_f: np.ndarray
    s: np.ndarray
    fs: np.ndarray
    ffs: np.ndarray
    weight_s: np.ndarray


@dataclass(frozen=True)
class _Partials:
    """Partial derivatives of a loss by f and R, each held while the other moves."""

    value: np.ndarray
    f: np.ndarray
    R: np.ndarray
    ff: np.ndarray
    fR: np.ndarray
    RR: np.ndarray
    fff: np.ndarray | float
    ffR: np.ndarray
    fRR: np.ndarray
    RRR: np.ndarray


def values(
    data: Data, f: np.ndarray, at: Variance, subjects: np.ndarray | None = None
) -> np.ndarray:
    """What each row adds to -2 log L: 0 where there is no row."""
    y, mask, censored = _rows(data, subjects)
    e = y - f
    value = np.log(at.R) + e * e / at.R
    if censored is not None:
        value = np.where(censored, -2.0 * log_ndtr(e / np.sqrt(at.R)), value)
    return value * mask


def slopes(
    data: Data, f: np.ndarray, at: Variance, subjects: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The loss of each row, its first and second derivative by f, and the positive curvature."""
    y, mask, censored = _rows(data, subjects)
    e, R = y - f, at.R
    if censored is not None:
        p = _partials(e, R, censored)
        return p.value * mask, _f(p, at) * mask, _ff(p, at) * mask, _weight(e, at, censored) * mask
    inverse = 1.0 / R
    z = e * inverse
    ratio = at.f * inverse
    value = (np.log(R) + e * z) * mask
    first = ((1.0 - e * z) * ratio - 2.0 * z) * mask
    second = (2.0 + (4.0 * z + (2.0 * e * z - 1.0) * ratio) * at.f + (1.0 - e * z) * at.ff) * (
        inverse * mask
    )
    return value, first, second, (inverse + 0.5 * ratio**2) * mask


def loss(data: Data, f: np.ndarray, at: Variance, subjects: np.ndarray | None = None) -> Loss:
    """The loss of each row with every derivative that the gradient of an objective needs."""
    y, mask, censored = _rows(data, subjects)
    e = y - f
    p = _partials(e, at.R, censored)
    weight_f, weight_s = _weight_slopes(e, at, censored)
    Rf, Rff, Rs, Rfs = at.f, at.ff, at.s, at.fs
    fff = p.fff + Rf * (3.0 * p.ffR + Rf * (3.0 * p.fRR + Rf * p.RRR))
    fff = fff + 3.0 * Rff * (p.fR + p.RR * Rf)
    fs = (p.fR + p.RR * Rf) * Rs + p.R * Rfs
    ffs = (p.ffR + Rf * (2.0 * p.fRR + Rf * p.RRR) + p.RR * Rff) * Rs
    ffs = ffs + 2.0 * (p.fR + p.RR * Rf) * Rfs + p.R * at.ffs
    weight = _weight(e, at, censored)
    parts = (p.value, _f(p, at), _ff(p, at), weight, fff, weight_f, p.R * Rs, fs, ffs, weight_s)
    return Loss(*(x * mask for x in parts))


def _rows(data: Data, subjects: np.ndarray | None):
    parts = (data.response, data.mask, data.censored)
    return parts if subjects is None else tuple(None if x is None else x[subjects] for x in parts)


def _f(p: _Partials, at: Variance) -> np.ndarray:
    return p.f + p.R * at.f


def _ff(p: _Partials, at: Variance) -> np.ndarray:
    return p.ff + at.f * (2.0 * p.fR + p.RR * at.f) + p.R * at.ff


def _partials(e: np.ndarray, R: np.ndarray, censored: np.ndarray | None) -> _Partials:
    seen = _observed(e, R)
    if censored is None:
        return seen
    below = _below(e, R)
    pairs = ((getattr(below, k), getattr(seen, k)) for k in _Partials.__dataclass_fields__)
    return _Partials(*(np.where(censored, b, s) for b, s in pairs))


def _observed(e: np.ndarray, R: np.ndarray) -> _Partials:
    """log R + e^2 / R with e = y - f."""
    i = 1.0 / R
    z2 = e * e * i
    first = -2.0 * e * i
    return _Partials(
        np.log(R) + z2,
        first,
        (1.0 - z2) * i,
        2.0 * i,
        -first * i,
        (2.0 * z2 - 1.0) * i * i,
        0.0,
        -2.0 * i * i,
        2.0 * first * i * i,
        (2.0 - 6.0 * z2) * i**3,
    )


def _below(e: np.ndarray, R: np.ndarray) -> _Partials:
    """-2 log Phi(z) with z = e / sqrt(R) and e = limit - f."""
    z, p = e / np.sqrt(R), 1.0 / np.sqrt(R)
    g1, g2, g3 = _log_normal(z)
    zR, zfR, zRR = -0.5 * z / R, 0.5 * p / R, 0.75 * z / R**2
    zfRR, zRRR = -0.75 * p / R**2, -1.875 * z / R**3
    return _Partials(
        -2.0 * log_ndtr(z),
        -p * g1,
        zR * g1,
        p**2 * g2,
        -p * zR * g2 + zfR * g1,
        zR**2 * g2 + zRR * g1,
        -(p**3) * g3,
        p**2 * zR * g3 - 2.0 * p * zfR * g2,
        -p * zR**2 * g3 + (2.0 * zR * zfR - p * zRR) * g2 + zfRR * g1,
        zR**3 * g3 + 3.0 * zR * zRR * g2 + zRRR * g1,
    )


def _log_normal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first three derivatives of -2 log Phi(z)."""
    far, near = z < FAR, np.maximum(z, FAR)
    hazard = np.exp(-0.5 * near**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(near))
    excess = hazard + z
    third = excess * (hazard + excess) - 1.0
    if far.any():  # where hazard and z cancel
        x = -np.minimum(z, FAR)
        less = np.polyval([-8162.0, 706.0, -74.0, 10.0, -2.0, 0.0], x**-2.0)
        excess = np.where(far, (1.0 + less) / x, excess)
        hazard = np.where(far, x + excess, hazard)
        third = np.where(far, less + 2.0 * excess**2, third)
    return -2.0 * hazard, 2.0 * hazard * excess, -2.0 * hazard * third


def _weight(e: np.ndarray, at: Variance, censored: np.ndarray | None) -> np.ndarray:
    weight = 1.0 / at.R + 0.5 * (at.f / at.R) ** 2
    if censored is None:
        return weight
    z, zF, _ = _standardised(e, at)
    return np.where(censored, 0.5 * _log_normal(z)[1] * zF**2, weight)


def _weight_slopes(
    e: np.ndarray, at: Variance, censored: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the positive curvature by f and by the parameters of R."""
    r, i = at.f / at.R, 1.0 / at.R
    by_f = (-r + r * (at.ff - r * at.f)) * i
    by_s = (-at.s * i + r * (at.fs - r * at.s)) * i
    if censored is None:
        return by_f, by_s
    z, zF, zFF = _standardised(e, at)
    _, g2, g3 = _log_normal(z)
    zs = -0.5 * z * i * at.s
    zFs = (0.5 * i**1.5 + 0.75 * z * i * r) * at.s - 0.5 * z * i * at.fs
    below_f = 0.5 * g3 * zF**3 + g2 * zF * zFF
    below_s = 0.5 * g3 * zF**2 * zs + g2 * zF * zFs
    return np.where(censored, below_f, by_f), np.where(censored, below_s, by_s)


def _standardised(e: np.ndarray, at: Variance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z = (limit - f) / sqrt(R) with its first and second total derivative by f."""
    p, r = 1.0 / np.sqrt(at.R), at.f / at.R
    z = e * p
    return z, -p - 0.5 * z * r, p * r + 0.75 * z * r**2 - 0.5 * z * at.ff / at.R
