"""Counts with more zeros than their family gives them (Lambert 1992).

A row is zero with probability pi, whatever its mean, and else follows the base family:
P(0) = pi + (1 - pi) f(0), P(y) = (1 - pi) f(y). The last auxiliary predictor is t = logit pi.
"""

import numpy as np
from scipy.special import expit

from sklme._engine.family import Family, Outcome, Terms, constant_of, fence, times, weigh

LEAST_SHARE = 0.02  # of zeros, at the start


class ZeroInflated(Family):
    """A base family of counts with a share pi of further zeros.

    A row of zero is l = log(exp(t) + exp(b)) - log(1 + exp(t)) with b = log f(0), which keeps its
    digits as pi goes to 0 or to 1; its curvature in eta may be positive.
    """

    def __init__(self, base: Family):
        self.base = base
        self.name = f"zero-inflated {base.name}"
        self.links, self.link = base.links, base.link
        self.aux_names = (*base.aux_names, "logit zero share")

    def check(self, y, trials=None):
        return self.base.check(y, trials)

    def outcome(self, y, trials=None, weights=None):
        """With the outcome of the base, unweighted; the constant of a zero is 0 in every base."""
        constant = self.base.outcome(y, trials, weights).constant
        plain = self.base.outcome(y, trials)
        return Outcome(plain.y, None, weights, constant, (plain, plain.y == 0))

    def terms(self, outcome, eta, aux, order):
        plain, zero = outcome.extra
        t = aux[-1]
        with np.errstate(all="ignore"):
            base = self.base.terms(plain, eta, aux[:-1], order)
            value = _mixed(base.value, zero, t)
            r = np.where(zero, expit(base.value - t), 1.0)  # share that the base has in the row
            found = _mix(base, value, zero, r, t, order)
            return weigh(fence(found, base.value > -np.inf), outcome.weights)

    def value(self, outcome, eta, aux):
        plain, zero = outcome.extra
        b = self.base.value(plain, eta, aux[:-1])
        with np.errstate(all="ignore"):
            found = np.where(b > -np.inf, _mixed(b, zero, aux[-1]), -np.inf)
        return times(found, outcome.weights)

    def start(self, outcome):
        """The base where it is not zero; half of the zeros that it does not expect are further."""
        plain, zero = outcome.extra
        eta, aux = self.base.start(plain)
        expected = self.base.cdf(0.0, eta.mean(), aux)
        share = np.clip(0.5 * (zero.mean() - expected), LEAST_SHARE, 1 - LEAST_SHARE)
        return eta, np.append(aux, np.log(share / (1 - share)))

    def mean(self, eta, aux):
        return expit(-aux[-1]) * self.base.mean(eta, aux[:-1])

    def variance(self, eta, aux, trials=None):
        pi, rest = expit(aux[-1]), expit(-aux[-1])
        mu = self.base.mean(eta, aux[:-1])
        return rest * (self.base.variance(eta, aux[:-1]) + pi * mu**2)

    def sample(self, eta, aux, trials, rng):
        drawn = self.base.sample(eta, aux[:-1], trials, rng)
        return np.where(rng.random(drawn.shape) < expit(aux[-1]), 0.0, drawn)

    def cdf(self, y, eta, aux, trials=None):
        below = self.base.cdf(y, eta, aux[:-1])
        return np.where(np.asarray(y) < 0, 0.0, expit(aux[-1]) + expit(-aux[-1]) * below)

    def saturated(self, outcome, aux):
        """At the given share of zeros: a zero is certain at mean 0."""
        plain, zero = outcome.extra
        best = self.base.saturated(plain, aux[:-1]) - np.logaddexp(0, aux[-1])
        return np.where(zero, 0.0, best)

    def dispersion(self, aux):
        pi = float(expit(constant_of(aux[-1])))
        return {**self.base.dispersion(aux[:-1]), "zero_share": pi}


def _mixed(b, zero, t) -> np.ndarray:
    """l of each row from the log-likelihood b of the base."""
    return np.where(zero, np.logaddexp(t, b), b) - np.logaddexp(0, t)


def _mix(base: Terms, value, zero, r, t, order: int) -> Terms:
    """Chain rule through b: dl/db = r, d2l/db2 = r(1 - r) = q at zeros, where dr/dt = -q."""
    q = np.where(zero, r * (1 - r), 0.0)
    b1, b2, b3 = base.first, base.second, base.third
    first, second = r * b1, q * b1 * b1 + r * b2
    if order < 3:
        return Terms(value, first, second)
    bend = q * (1 - 2 * r)
    third = (bend * b1 * b1 + 3 * q * b2) * b1 + r * b3
    T, T1, T2, curvature = _mix_aux(base, q, r, bend)
    n_aux, pi = len(T), expit(t)
    corner = np.empty((n_aux + 1, n_aux + 1, len(r)))
    corner[:-1, :-1], corner[-1, -1] = curvature, q - pi * expit(-t)
    corner[-1, :-1] = corner[:-1, -1] = 0.0 if not n_aux else -q * base.aux_value
    return Terms(
        *(value, first, second, third),
        aux_value=np.concatenate([T, (1 - r - pi)[None]]),
        aux_first=np.concatenate([T1, (-q * b1)[None]]),
        aux_second=np.concatenate([T2, (-bend * b1 * b1 - q * b2)[None]]),
        aux_curvature=corner,
    )


def _mix_aux(base: Terms, q, r, bend) -> tuple[np.ndarray, ...]:
    """The parts that belong to the auxiliary predictors of the base."""
    if base.aux_value is None:
        none = np.empty((0, len(r)))
        return none, none, none, np.empty((0, 0, len(r)))
    b1, b2, T, T1 = base.first, base.second, base.aux_value, base.aux_first
    second = (bend * b1 * b1 + q * b2) * T + 2 * q * b1 * T1 + r * base.aux_second
    return r * T, q * T * b1 + r * T1, second, q * T[:, None] * T + r * base.aux_curvature
