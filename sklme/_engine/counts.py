"""Counts: poisson, and negative binomial with variance linear (nb1) or quadratic (nb2) in mu.

Both negative binomials mix Poisson counts over a gamma distribution of shape k, with
l = log Gamma(y + k) - log Gamma(k) - log y! + k log(k/(k + mu)) + y log(mu/(k + mu)); k = 1/alpha
for nb2 and mu/alpha for nb1 (Cameron and Trivedi 2013, section 3.3). They are written so that
alpha = 0 is their Poisson limit without loss of digits. tau is log alpha.
"""

from dataclasses import replace

import numpy as np
from scipy.special import betainc, gammaincc, gammaln, xlogy

from sklme._engine.family import (
    TINY,
    Outcome,
    PositiveFamily,
    Terms,
    climb,
    constant_of,
    first_bad,
    total,
)
from sklme._engine.log_gamma import log1p_minus, rising

LEAST_ALPHA, MOST_ALPHA = 0.05, 2.0  # bounds of a starting alpha


class Counts(PositiveFamily):
    """What families of counts share."""

    def check(self, y, trials=None):
        bad = ~(np.isfinite(y) & (y >= 0) & (y == np.floor(y)))
        return first_bad(bad, y, f"the {self.name} family needs counts (whole numbers >= 0)")

    def outcome(self, y, trials=None, weights=None):
        y = np.asarray(y, float)
        return Outcome(y, None, weights, -total(gammaln(y + 1), weights))


class Poisson(Counts):
    """l = y log mu - mu (McCullagh and Nelder 1989, section 6.2)."""

    name = "poisson"

    def log_terms(self, outcome, s, aux, order):
        mu = np.exp(s)
        value = outcome.y * s
        value -= mu
        second = -mu
        third = second.copy() if order > 2 else None
        return Terms(value, outcome.y - mu, second, third)

    def log_value(self, outcome, s, aux):
        return outcome.y * s - np.exp(s)

    def saturated(self, outcome, aux):
        return xlogy(outcome.y, outcome.y) - outcome.y

    def variance(self, eta, aux, trials=None):
        return self.link.mean(eta)

    def sample(self, eta, aux, trials, rng):
        return rng.poisson(self.link.mean(eta)).astype(float)

    def cdf(self, y, eta, aux, trials=None):
        y = np.floor(y)
        return np.where(y < 0, 0.0, gammaincc(np.maximum(y, 0) + 1, self.link.mean(eta)))

    def aggregate(self, outcome, group, n_groups):
        w = np.ones(len(outcome.y)) if outcome.weights is None else outcome.weights
        size = np.bincount(group, w, n_groups)
        counts = np.bincount(group, w * outcome.y, n_groups)
        return Outcome(counts / np.where(size > 0, size, 1), None, size, outcome.constant)


class NegativeBinomial(Counts):
    """What nb1 and nb2 share; `shape` is k."""

    aux_names = ("log dispersion",)

    def shape(self, mu, aux) -> np.ndarray:
        """The shape k of the mixing gamma distribution."""
        raise NotImplementedError

    def variance(self, eta, aux, trials=None):
        mu = self.link.mean(eta)
        return mu + mu * (mu / self.shape(mu, aux))

    def sample(self, eta, aux, trials, rng):
        mu = self.link.mean(eta)
        k = self.shape(mu, aux)
        return rng.poisson(mu * rng.gamma(k) / k).astype(float)

    def cdf(self, y, eta, aux, trials=None):
        mu = self.link.mean(eta)
        k, y = self.shape(mu, aux), np.floor(y)
        return np.where(y < 0, 0.0, betainc(k, np.maximum(y, 0) + 1, k / (k + mu)))

    def dispersion(self, aux):
        return {"dispersion": float(np.exp(constant_of(aux[0])))}

    def start_aux(self, mean, variance):
        excess = (variance - mean) / max(mean, TINY) ** self._power
        return np.log([np.clip(excess, LEAST_ALPHA, MOST_ALPHA)])

    _power = 1


class NB1(NegativeBinomial):
    """Var = mu(1 + alpha): l = rho(log k) + y log mu - (y + k) log(1 + alpha), k = mu/alpha."""

    name = "nb1"

    def shape(self, mu, aux):
        return mu * np.exp(-aux[0])

    def log_terms(self, outcome, s, aux, order):
        y, tau = outcome.y, aux[0]
        R, mu, alpha = rising(y, s - tau, order), np.exp(s), np.exp(tau)
        log = np.log1p(alpha)
        rate = mu * (log / alpha)
        value = R[0] + y * (s - log) - rate
        first, second = R[1] + y - rate, R[2] - rate
        if order < 3:
            return Terms(value, first, second)
        p, g, h = near_poisson(alpha, log)
        lost = mu * g
        return Terms(
            *(value, first, second, R[3] - rate),
            aux_value=(lost - R[1] - y * p)[None],
            aux_first=(lost - R[2])[None],
            aux_second=(lost - R[3])[None],
            aux_curvature=(R[2] - y * p * (1 - p) - mu * h)[None, None],
        )

    def log_value(self, outcome, s, aux):
        y, tau = outcome.y, aux[0]
        alpha = np.exp(tau)
        log = np.log1p(alpha)
        return rising(y, s - tau, 0)[0] + y * (s - log) - np.exp(s) * (log / alpha)

    def saturated(self, outcome, aux):
        """No closed form: the maximum over log mu by Newton steps from mu = y."""
        some = replace(outcome, y=np.where(outcome.y > 0, outcome.y, 1.0))
        best = climb(lambda s: self.log_terms(some, s, aux, 2), np.log(some.y))
        return np.where(outcome.y > 0, best, 0.0)


class NB2(NegativeBinomial):
    """Var = mu + alpha mu^2: l = rho(log k) + y log mu - (y + k) log(1 + alpha mu), k = 1/alpha."""

    name = "nb2"
    _power = 2

    def shape(self, mu, aux):
        return np.exp(-aux[0]) + np.zeros_like(mu)

    def outcome(self, y, trials=None, weights=None):
        """With the distinct counts, for which rho is computed once where tau is constant."""
        plain = super().outcome(y, trials, weights)
        return replace(plain, extra=np.unique(plain.y, return_inverse=True))

    def log_terms(self, outcome, s, aux, order):
        y, tau = outcome.y, aux[0]
        R, mu, alpha = self._rising(outcome, tau, order - 1), np.exp(s), np.exp(tau)
        x, lift = alpha * mu, alpha * y
        log, q = np.log1p(x), 1 / (1 + x)
        value = R[0] + y * (s - log) - log / alpha
        first, second = (y - mu) * q, -q * q * mu * (1 + lift)
        if order < 3:
            return Terms(value, first, second)
        p, g, h = near_poisson(x, log)
        return Terms(
            *(value, first, second, second * (1 - 2 * p)),
            aux_value=(mu * g - R[1] - y * p)[None],
            aux_first=(-first * p)[None],
            aux_second=(q * q * mu * (2 * p * (1 + lift) - lift))[None],
            aux_curvature=(R[2] - y * p * q - mu * h)[None, None],
        )

    def log_value(self, outcome, s, aux):
        y, tau = outcome.y, aux[0]
        alpha = np.exp(tau)
        log = np.log1p(alpha * np.exp(s))
        return self._rising(outcome, tau, 0)[0] + y * (s - log) - log / alpha

    def saturated(self, outcome, aux):
        """Attained at mu = y."""
        s = np.log(np.where(outcome.y > 0, outcome.y, 1.0))
        return np.where(outcome.y > 0, self.log_value(outcome, s, aux), 0.0)

    def _rising(self, outcome, tau, order: int) -> tuple[np.ndarray, ...]:
        """rho of every row; of every distinct count where tau is constant."""
        tau = np.asarray(tau, float)
        if tau.size == len(outcome.y) or not outcome.extra:
            return rising(outcome.y, -tau, order)
        distinct, which = outcome.extra
        return tuple(a[which] for a in rising(distinct, -tau, order))


def near_poisson(x, log) -> tuple[np.ndarray, ...]:
    """p, (L - p)/x and (L - p - p^2)/x for x >= 0, where p = x/(1 + x) and L = log(1 + x)."""
    x = np.maximum(x, 1e-300)
    p, q, f = x / (1 + x), 1 / (1 + x), log / x
    short = log1p_minus(x) / x
    small = x < 0.05
    return p, np.where(small, short + p, f - q), np.where(small, short + p * p, f - q * (1 + p))
