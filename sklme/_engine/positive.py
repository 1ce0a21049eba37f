"""Positive measurements: gamma and inverse gaussian. tau is the logarithm of the dispersion.

The default link is the logarithm, not the canonical one, because it keeps every mean positive.
"""

import numpy as np
from scipy.special import gammainc, log_ndtr, ndtr

from sklme._engine.family import (
    EXACT,
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

LEAST_DISPERSION, MOST_DISPERSION = 1e-3, 10.0  # bounds of a starting dispersion


class Positive(PositiveFamily):
    """What families of positive measurements share. `Outcome.extra` holds log y."""

    links = ("log", "inverse", "identity")
    aux_names = ("log dispersion",)
    _power = 2  # Var = dispersion * mu^power

    def check(self, y, trials=None):
        bad = ~(np.isfinite(y) & (y > 0))
        return first_bad(bad, y, f"the {self.name} family needs numbers > 0")

    def start_aux(self, mean, variance):
        found = variance / mean**self._power
        return np.log([np.clip(found, LEAST_DISPERSION, MOST_DISPERSION)])

    def variance(self, eta, aux, trials=None):
        return np.exp(aux[0]) * self.link.mean(eta) ** self._power

    def exact(self, aux):
        return bool(np.max(aux[0]) < -EXACT)

    def dispersion(self, aux):
        return {"dispersion": float(np.exp(constant_of(aux[0])))}


class Gamma(Positive):
    """Var = dispersion mu^2, of shape nu = 1/dispersion (McCullagh and Nelder 1989, section 8.2).

    l = -nu(exp(r) - 1 - r) - c(nu) - log y, where r = log(y/mu) and
    c(nu) = log Gamma(nu) - nu log nu + nu, or half of log(2 pi dispersion) and S(nu) of Stirling.
    """

    name = "gamma"

    def outcome(self, y, trials=None, weights=None):
        y = np.asarray(y, float)
        log_y = np.log(y)
        return Outcome(y, None, weights, -total(log_y, weights), (log_y,))

    def log_terms(self, outcome, s, aux, order):
        nu = np.exp(-aux[0])
        S = stirling(nu, order - 1)
        r = outcome.extra[0] - s
        rise = np.expm1(r)
        loss, first = nu * (rise - r), nu * rise
        value = -loss - (0.5 * aux[0] + HALF_LOG_2PI + S[0])
        second = -nu - first
        if order < 3:
            return Terms(value, first, second)
        return Terms(
            *(value, first, second, -second),
            aux_value=(loss - 0.5 + S[1])[None],
            aux_first=-first[None],
            aux_second=-second[None],
            aux_curvature=(-loss - S[1] - S[2])[None, None],
        )

    def log_value(self, outcome, s, aux):
        nu, r = np.exp(-aux[0]), outcome.extra[0] - s
        return -(nu * (np.expm1(r) - r)) - (0.5 * aux[0] + HALF_LOG_2PI + stirling(nu, 0)[0])

    def sample(self, eta, aux, trials, rng):
        nu, mu = np.exp(-aux[0]), self.link.mean(eta)
        return rng.gamma(np.broadcast_to(nu, mu.shape)) * mu / nu

    def cdf(self, y, eta, aux, trials=None):
        nu = np.exp(-aux[0])
        return gammainc(nu, nu * np.maximum(y, 0) / self.link.mean(eta))

    def deviance(self, outcome, eta, aux):
        """2(y/mu - 1 - log(y/mu)), not divided by the dispersion."""
        r = outcome.extra[0] - self.log_mean(eta)
        return times(2 * (np.expm1(r) - r), outcome.weights)


class InverseGaussian(Positive):
    """Var = dispersion mu^3 (McCullagh and Nelder 1989, table 2.1).

    l = -(y/mu - 1)^2 / (2 y dispersion) - log(2 pi dispersion y^3)/2.
    """

    name = "inverse gaussian"
    links = ("log", "inverse", "identity")
    _power = 3

    def outcome(self, y, trials=None, weights=None):
        y = np.asarray(y, float)
        log_y = np.log(y)
        return Outcome(y, None, weights, -total(HALF_LOG_2PI + 1.5 * log_y, weights), (log_y,))

    def log_terms(self, outcome, s, aux, order):
        nu, r = np.exp(-aux[0]), outcome.extra[0] - s
        rise, ratio = np.expm1(r), np.exp(r)
        scale = nu / outcome.y
        loss, first = 0.5 * scale * rise * rise, scale * ratio * rise
        second = -scale * ratio * (2 * ratio - 1)
        value = -loss - 0.5 * aux[0]
        if order < 3:
            return Terms(value, first, second)
        return Terms(
            *(value, first, second, scale * ratio * (4 * ratio - 1)),
            aux_value=(loss - 0.5)[None],
            aux_first=-first[None],
            aux_second=-second[None],
            aux_curvature=-loss[None, None],
        )

    def log_value(self, outcome, s, aux):
        rise = np.expm1(outcome.extra[0] - s)
        return -0.5 * np.exp(-aux[0]) / outcome.y * rise * rise - 0.5 * aux[0]

    def sample(self, eta, aux, trials, rng):
        return rng.wald(self.link.mean(eta), np.exp(-aux[0]))

    def cdf(self, y, eta, aux, trials=None):
        """Of two normal probabilities (Chhikara and Folks 1989, section 2.3)."""
        mu, shape = self.link.mean(eta), np.exp(-aux[0])
        y = np.maximum(y, 1e-300)
        root = np.sqrt(shape / y)
        mirrored = np.exp(2 * shape / mu + log_ndtr(-root * (y / mu + 1)))
        return ndtr(root * (y / mu - 1)) + mirrored

    def deviance(self, outcome, eta, aux):
        """(y - mu)^2 / (mu^2 y), not divided by the dispersion."""
        rise = np.expm1(outcome.extra[0] - self.log_mean(eta))
        return times(rise * rise / outcome.y, outcome.weights)
