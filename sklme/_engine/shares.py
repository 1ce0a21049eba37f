"""Shares: successes among trials (binomial) and measured shares (beta)."""

from dataclasses import replace

import numpy as np
from scipy.special import bdtr, betainc, gammaln, logit, xlogy

from sklme._engine.family import (
    EXACT,
    Family,
    Outcome,
    Terms,
    chain,
    climb,
    constant_of,
    first_bad,
    moments,
    times,
    total,
    weigh,
)
from sklme._engine.log_gamma import log_gamma

LEAST_SHARE = 1e-100  # shapes of a beta distribution stay above zero


class Binomial(Family):
    """k successes among n trials: l = k log mu + (n - k) log(1 - mu) (McCullagh and Nelder, 4.4).

    `Outcome.extra` holds the weighted successes, failures and trials; the last is None where every
    row is a single trial of weight one.
    """

    name = "binomial"
    links = ("logit", "probit", "cloglog")

    def check(self, y, trials=None):
        trials = np.ones(np.shape(y)) if trials is None else np.asarray(trials)
        bad = ~(np.isfinite(trials) & (trials >= 0) & (trials == np.floor(trials)))
        if bad.any():
            row = int(np.argmax(bad))
            return f"trials must be whole numbers >= 0: they are {trials[row]:g} in row {row}"
        bad = ~((y >= 0) & (y <= trials) & (y == np.floor(y)))
        return first_bad(bad, y, "the binomial family needs whole successes from 0 to the trials")

    def outcome(self, y, trials=None, weights=None):
        k = np.asarray(y, float)
        n = np.ones(len(k)) if trials is None else np.asarray(trials, float)
        plain = weights is None and bool((n == 1).all())
        successes, size = times(k, weights), times(n, weights)
        constant = 0.0 if plain else total(_log_choose(n, k), weights)
        extra = (successes, size - successes, None if plain else size)
        return Outcome(k, n, weights, constant, extra)

    def terms(self, outcome, eta, aux, order):
        with np.errstate(all="ignore"):
            if self.link.name == "logit":
                return Terms(*_logistic(outcome.extra, eta, order))
            k, rest, _ = outcome.extra
            A, B = self.link.log_shares(eta, order)  # type: ignore[attr-defined]
            # The logarithm of a share of zero counts only where somebody was counted.
            value = np.where(k > 0, k * A[0], 0.0) + np.where(rest > 0, rest * B[0], 0.0)
            return Terms(value, *(k * a + rest * b for a, b in zip(A[1:], B[1:], strict=True)))

    def value(self, outcome, eta, aux):
        if self.link.name != "logit":
            return self.terms(outcome, eta, aux, 2).value
        with np.errstate(all="ignore"):
            return _logistic(outcome.extra, eta, 0)[0]

    def start(self, outcome):
        mean = 0.25 + 0.5 * outcome.y / np.maximum(outcome.trials, 1.0)
        return self.link.eta(mean), np.zeros(0)

    def variance(self, eta, aux, trials=None):
        (A,), (B,) = self.link.log_shares(eta, 0)  # type: ignore[attr-defined]
        return times(np.exp(A + B), trials)

    def sample(self, eta, aux, trials, rng):
        size = 1 if trials is None else np.asarray(trials, int)
        return rng.binomial(size, self.link.mean(eta)).astype(float)

    def cdf(self, y, eta, aux, trials=None):
        n = 1 if trials is None else trials
        k, n, mu = np.broadcast_arrays(np.floor(y), n, self.link.mean(eta))
        inside = bdtr(np.clip(k, 0, n), n.astype(int), mu)
        return np.where(k < 0, 0.0, np.where(k >= n, 1.0, inside))

    def saturated(self, outcome, aux):
        k, n = outcome.y, outcome.trials
        return xlogy(k, k / np.maximum(n, 1)) + xlogy(n - k, (n - k) / np.maximum(n, 1))

    def aggregate(self, outcome, group, n_groups):
        k, rest, _ = outcome.extra
        k, rest = (np.bincount(group, a, n_groups) for a in (k, rest))
        return Outcome(k, k + rest, None, outcome.constant, (k, rest, k + rest))


class Beta(Family):
    """A share of shapes a = mu phi and b = (1 - mu) phi; Var = mu(1 - mu)/(1 + phi), tau = log phi.

    l = log Gamma(phi) - log Gamma(a) - log Gamma(b) + (a - 1) log y + (b - 1) log(1 - y)
    (Ferrari and Cribari-Neto 2004, equation 4). `Outcome.extra` holds both logarithms.
    """

    name = "beta"
    links = ("logit", "probit", "cloglog")
    aux_names = ("log precision",)

    def check(self, y, trials=None):
        return first_bad(~((y > 0) & (y < 1)), y, "the beta family needs shares above 0, below 1")

    def outcome(self, y, trials=None, weights=None):
        y = np.asarray(y, float)
        logs = np.log(y), np.log1p(-y)
        return Outcome(y, None, weights, -total(logs[0] + logs[1], weights), logs)

    def terms(self, outcome, eta, aux, order):
        with np.errstate(all="ignore"):
            _, *slopes = self.link.derivatives(eta)
            found = self._share_terms(outcome, self._shares(eta), aux, order)
            return weigh(chain(found, slopes), outcome.weights)

    def value(self, outcome, eta, aux):
        with np.errstate(all="ignore"):
            mu, rest = self._shares(eta)
            a, b, phi = mu * np.exp(aux[0]), rest * np.exp(aux[0]), np.exp(aux[0])
            whole, A, B = (log_gamma(z, 0)[0] for z in (phi, a, b))
            log_y, log_rest = outcome.extra
            return times(a * log_y + b * log_rest + whole - A - B, outcome.weights)

    def _shares(self, eta):
        """mu and 1 - mu, neither rounded to zero."""
        A, B = self.link.log_shares(eta, 0)  # type: ignore[attr-defined]
        return np.maximum(np.exp(A[0]), LEAST_SHARE), np.maximum(np.exp(B[0]), LEAST_SHARE)

    @staticmethod
    def _share_terms(outcome, shares: tuple, aux, order: int) -> Terms:
        """Derivatives with respect to mu."""
        mu, rest = shares
        phi = np.exp(aux[0])
        a, b = mu * phi, rest * phi
        log_y, log_rest = outcome.extra
        A, B, whole = log_gamma(a, order), log_gamma(b, order), log_gamma(phi, order)
        value = a * log_y + b * log_rest + whole[0] - A[0] - B[0]
        first = phi * (log_y - log_rest) - A[1] / mu + B[1] / rest
        squares = A[2] / mu**2, B[2] / rest**2
        second = -squares[0] - squares[1]
        if order < 3:
            return Terms(value, first, second)
        slope = whole[1] + a * log_y - A[1] + b * log_rest - B[1]
        return Terms(
            *(value, first, second, B[3] / (rest * rest * rest) - A[3] / (mu * mu * mu)),
            aux_value=slope[None],
            aux_first=(first - A[2] / mu + B[2] / rest)[None],
            aux_second=(2 * second - A[3] / mu**2 - B[3] / rest**2)[None],
            aux_curvature=(slope + whole[2] - A[2] - B[2])[None, None],
        )

    def start(self, outcome):
        mean, variance = moments(outcome)
        phi = np.clip(mean * (1 - mean) / max(variance, 1e-300) - 1, 0.5, 1e3)
        return self.link.eta(0.5 * (outcome.y + mean)), np.log([phi])

    def variance(self, eta, aux, trials=None):
        mu, rest = self._shares(eta)
        return mu * rest / (1 + np.exp(aux[0]))

    def sample(self, eta, aux, trials, rng):
        mu, rest = self._shares(eta)
        phi = np.exp(aux[0])
        drawn = rng.beta(mu * phi, rest * phi)
        return np.clip(drawn, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)

    def cdf(self, y, eta, aux, trials=None):
        mu, rest = self._shares(eta)
        phi = np.exp(aux[0])
        return betainc(mu * phi, rest * phi, np.clip(y, 0, 1))

    def saturated(self, outcome, aux):
        """The maximum over mu, which is where E[logit] meets logit y, near y but not at it."""
        plain, free = Beta(), replace(outcome, weights=None)
        return climb(lambda x: plain.terms(free, x, aux, 2), logit(outcome.y))

    def exact(self, aux):
        return bool(np.min(aux[0]) > EXACT)

    def dispersion(self, aux):
        """d of Var = d mu(1 - mu)."""
        return {"dispersion": float(1 / (1 + np.exp(constant_of(aux[0]))))}


def _logistic(extra: tuple, eta, order: int) -> list[np.ndarray]:
    """l = k eta - n log(1 + exp(eta)) and its derivatives up to `order`, by t = exp(-|eta|).

    Millions of rows come here, so it takes as few passes as it can.
    """
    k, _, n = extra
    t = np.exp(-np.abs(eta))
    larger = 1 + t
    log = np.log(larger)
    value = k * eta
    top = np.maximum(eta, 0)
    top += log
    value -= top if n is None else n * top
    if order == 0:
        return [value]
    np.divide(1, larger, out=larger)  # the larger of mu and 1 - mu
    smaller = np.multiply(t, larger, out=t)
    second = np.multiply(larger, smaller, out=larger)
    np.negative(second, out=second)
    # k - n mu is 0 or +-n less or plus n times the smaller, so that no digits cancel in the tails
    half = np.copysign(0.5, eta, out=log)
    first = (k - 0.5) - half if n is None else (k - 0.5 * n) - n * half
    tail = np.copysign(smaller, eta, out=log)
    first += tail if n is None else n * tail
    if n is not None:
        second *= n
    if order < 3:
        return [value, first, second]
    smaller *= 2
    smaller -= 1
    third = np.copysign(smaller, eta, out=smaller)  # 1 - 2 mu, but for its sign
    third *= second
    np.negative(third, out=third)
    return [value, first, second, third]


def _log_choose(n, k) -> np.ndarray:
    """log of n over k."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
