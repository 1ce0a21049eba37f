"""Tweedie: a Poisson number of gamma amounts, zero with positive probability, 1 < power < 2.

With m = power - 1, gamma = (1-m)/m and phi the dispersion, l = -mu^(1-m) / (phi (1-m)) at y = 0,
else, with the index j0 = y^(1-m) / (phi (1-m)) of the largest term,

  l = K + log(sum over j >= 1 of exp(R_j)) - log y - log(2 pi)
  K = -d(y, mu) / (2 phi), d the unit deviance
  R_j = -(1 + gamma) (j log(j/j0) - j + j0) + log(gamma)/2 - S(j) - S(gamma j)

This is the series of Dunn and Smyth (2005, equations 6 to 8), with the gamma functions by the
formula of Stirling and its rest S: what is large and cancels is taken out. Derivatives of the sum
by the two tau are means and covariances of those of R_j under the probabilities of its terms, so
they are exact.
"""

import numpy as np
from scipy.special import expit, gammainc, gammaln, log_expit

from sklme._engine.family import (
    EXACT,
    TINY,
    Outcome,
    PositiveFamily,
    Terms,
    constant_of,
    first_bad,
    times,
    total,
)
from sklme._engine.links import HALF_LOG_2PI
from sklme._engine.log_gamma import stirling

MOST_TERMS = 1e6  # of a series
ROWS = 2048  # rows whose series are summed at once
REACH = 8.7  # the terms beyond so many standard deviations of j are below 1e-16
MARGIN = 14.0  # what a Poisson tail needs besides, at small j
COARSE = 2.2  # a grid of this part of a standard deviation sums a smooth peak to rounding
START_POWER = 1.5


class Tweedie(PositiveFamily):
    """Var = dispersion mu^power; tau = log dispersion and logit(power - 1)."""

    name = "tweedie"
    links = ("log",)
    aux_names = ("log dispersion", "logit(power - 1)")

    def check(self, y, trials=None):
        return first_bad(~(np.isfinite(y) & (y >= 0)), y, "the tweedie family needs numbers >= 0")

    def outcome(self, y, trials=None, weights=None):
        """With the rows above zero, sorted so that rows of a block have series of one length."""
        y = np.asarray(y, float)
        above = np.argsort(y, kind="stable")[np.count_nonzero(y <= 0) :]
        log_y = np.log(np.where(y > 0, y, 1.0))
        return Outcome(y, None, weights, -total(log_y, weights), (above, log_y[above]))

    def log_terms(self, outcome, s, aux, order):
        y, m, rest, over = outcome.y, expit(aux[1]), expit(-aux[1]), np.exp(-aux[0])
        low, high = over * y * np.exp(-m * s), over * np.exp(rest * s)
        first, second = low - high, -m * low - rest * high
        values = _by_tau(outcome, s, aux, order)
        if order < 3:
            return Terms(values[0], first, second)
        v = m * rest  # dm / dtau
        _, one, two, one_one, one_two, two_two = values
        return Terms(
            *(values[0], first, second, m * m * low - rest * rest * high),
            aux_value=np.stack([one, two]),
            aux_first=np.stack([-first, -v * s * first]),
            aux_second=np.stack([-second, -v * (first + s * second)]),
            aux_curvature=np.stack([[one_one, one_two], [one_two, two_two]]),
        )

    def log_value(self, outcome, s, aux):
        return _by_tau(outcome, s, aux, 2)[0]

    def start_aux(self, mean, variance):
        found = variance / max(mean, TINY) ** START_POWER
        return np.array([np.log(np.clip(found, 1e-3, 1e3)), np.log(1 / (2 - START_POWER) - 1)])

    def variance(self, eta, aux, trials=None):
        return np.exp(aux[0]) * self.link.mean(eta) ** (1 + expit(aux[1]))

    def exact(self, aux):
        return bool(np.max(aux[0]) < -EXACT)

    def dispersion(self, aux):
        phi, logit_m = constant_of(aux[0]), constant_of(aux[1])
        return {"dispersion": float(np.exp(phi)), "power": float(1 + expit(logit_m))}

    def sample(self, eta, aux, trials, rng):
        rate, shape, scale = self._compound(eta, aux)
        return rng.standard_gamma(rng.poisson(rate) * shape) * scale

    def cdf(self, y, eta, aux, trials=None):
        """The sum over the Poisson number of amounts."""
        rate, shape, scale = self._compound(eta, aux)
        x = np.maximum(y, 0) / scale
        last = rate.max() + 10 * np.sqrt(rate.max()) + 20
        out = np.exp(-rate) + np.zeros_like(x)
        for j in range(1, int(last)):
            out = out + np.exp(j * np.log(rate) - rate - gammaln(j + 1)) * gammainc(j * shape, x)
        return np.where(np.asarray(y) < 0, 0.0, np.minimum(out, 1.0))

    def _compound(self, eta, aux):
        """Rate of the Poisson number, shape and scale of the gamma amounts."""
        s, m = np.asarray(eta, float), expit(aux[1])
        phi = np.exp(aux[0])
        return np.exp((1 - m) * s) / (phi * (1 - m)), np.exp(-aux[1]), phi * m * np.exp(m * s)

    def deviance(self, outcome, eta, aux):
        """Twice what is lost against mu = y, not divided by the dispersion."""
        y, m, rest = outcome.y, expit(aux[1]), expit(-aux[1])
        lost = y * (np.exp(-m * eta) / m) + np.exp(rest * eta) / rest - y**rest / (m * rest)
        return times(np.maximum(2 * lost, 0), outcome.weights)


def _by_tau(outcome: Outcome, s, aux, order: int) -> np.ndarray:
    """l of every row; for order 3 also its derivatives 1, 2, 11, 12, 22 by tau."""
    above, log_y = outcome.extra
    n_parts = 1 if order < 3 else 6
    tau = np.array([np.broadcast_to(a, len(s)) for a in aux])
    out = np.array(_at_zero(s, tau)[:n_parts])
    for i in range(0, len(above), ROWS):
        here = above[i : i + ROWS]
        row = log_y[i : i + ROWS], tau[:, here]
        K, series = _deviance_part(row[0] - s[here], *row), _series(*row, order)
        out[:, here] = [a + b for a, b in zip(K[:n_parts], series, strict=True)]
    return out


def _at_zero(s, tau) -> list[np.ndarray]:
    """-mu^(1-m) / (phi (1-m)) and its derivatives by tau."""
    rest = expit(-tau[1])
    H = -np.exp(rest * s - tau[0]) / rest
    return _by_m(H, -H * (s - 1 / rest), H * (s * s - 2 * s / rest + 2 / rest**2), tau)


def _deviance_part(r, log_y, tau) -> list[np.ndarray]:
    """K = -(y^(1-m)/phi) B, where B = (e^(m r) - 1)/m + (e^(-(1-m) r) - 1)/(1-m), r = log(y/mu)."""
    m, rest = expit(tau[1]), expit(-tau[1])
    up, down = np.exp(m * r), np.exp(-rest * r)
    a, b = np.expm1(m * r) / m, np.expm1(-rest * r) / rest
    scale = -np.exp(rest * log_y - tau[0])
    B, Bm = a + b, (r * up - a) / m + (r * down + b) / rest
    Bmm = r * r * (up / m + down / rest) - 2 * ((r * up - a) / m**2 - (r * down + b) / rest**2)
    slope = Bm - log_y * B
    return _by_m(scale * B, scale * slope, scale * (Bmm - log_y * (Bm + slope)), tau)


def _by_m(f, fm, fmm, tau) -> list[np.ndarray]:
    """f and its derivatives 1, 2, 11, 12, 22 by tau, where f is a function of m over phi."""
    m, rest = expit(tau[1]), expit(-tau[1])
    v = m * rest
    return [f, -f, v * fm, f, -v * fm, v * v * fmm + v * (rest - m) * fm]


def _series(log_y, tau, order: int) -> list[np.ndarray]:
    """log(sum of exp(R_j)) - log(2 pi) and its derivatives by tau, from the j around j0.

    Where the peak is wide, every h-th j is taken: a sum of a smooth peak of standard deviation
    sigma differs from h times that of every h-th term by a part exp(-2 pi^2 sigma^2 / h^2).
    """
    gamma, log_rest = np.exp(-tau[1]), log_expit(-tau[1])
    j0 = np.exp(np.exp(log_rest) * log_y - tau[0] - log_rest)
    sigma = np.sqrt(j0 / (1 + gamma))
    h = np.maximum(np.floor(sigma / COARSE), 1)
    start = np.maximum(np.floor(j0 - REACH * sigma), 1)
    steps = np.ceil((j0 + REACH * sigma + MARGIN - start) / h).max()
    if not 1 <= steps < MOST_TERMS:  # no such dispersion: the search shortens its step
        nothing = np.zeros_like(j0)
        return [nothing - np.inf, *[nothing] * (0 if order < 3 else 5)]
    j = start + h * np.arange(steps)[:, None]
    fall = j * np.log(j / j0) - (j - j0)
    near = np.abs(j - j0) < 0.5 * j0
    fall = np.where(near, _fall(np.where(near, j / j0 - 1, 0.0)) * j0, fall)
    S = _stirling(j, gamma, order - 1)
    R = -(1 + gamma) * fall - _stirling(j, np.ones(1), 0)[0] - S[0]
    top = R.max(axis=0)
    share = np.exp(R - top)
    size = share.sum(axis=0)
    value = top + np.log(size * h) - 0.5 * tau[1] - 2 * HALF_LOG_2PI
    return (
        [value] if order < 3 else [value, *_moments(share / size, j - j0, j0, fall, S, log_y, tau)]
    )


def _stirling(j, gamma, order: int) -> list[np.ndarray]:
    """`stirling` at gamma j, by a table of whole j where gamma is the same in every row."""
    last = int(j.max(initial=0))
    if last < 1 or last > j.size or np.ptp(gamma) > 0:
        return stirling(gamma * j, order)
    which = j.astype(int) - 1
    return [a[which] for a in stirling(gamma[0] * np.arange(1.0, last + 1), order)]


def _fall(x) -> np.ndarray:
    """(1 + x) log(1 + x) - x."""
    return (1 + x) * np.log1p(x) - x


def _moments(share, off, j0, fall, S, log_y, tau) -> list[np.ndarray]:
    """Derivatives 1, 2, 11, 12 and 22 of the logarithm of the sum, from those of R_j."""
    gamma, m, rest = np.exp(-tau[1]), expit(tau[1]), expit(-tau[1])
    v, per = m * rest, 1 + gamma
    u, u2 = m - v * log_y, v - v * (rest - m) * log_y  # of log j0 by the second tau
    mean = lambda a: (share * a).sum(axis=0)
    R1 = -per * off
    R2 = gamma * fall + per * off * u - 0.5 + S[1]
    R12 = gamma * off + per * j0 * u
    R22 = -gamma * fall + off * (per * u2 - 2 * gamma * u) - per * j0 * u * u - S[1] - S[2]
    one, two = mean(R1), mean(R2)
    R1, R2 = R1 - one, R2 - two
    one_one, one_two = mean(R1 * R1) - per * j0, mean(R1 * R2 + R12)
    return [one, two, one_one, one_two, mean(R2 * R2 + R22)]
