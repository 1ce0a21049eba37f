"""What the true value at a new site may be, given the sites that were seen.

Both distributions have the same methods, and an interval and a probability of either agree.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from sklme._engine.meta_regression import Sites, regress
from sklme._engine.quadratic_form import distribution

N_TAU2 = 64  # values of tau2, evenly spaced on the log scale
N_CHI2 = 32  # values of the chi-square in the denominator of t
TAIL = 1e-8  # probability left out at each end of tau2
BLOCK = 16  # metrics worked on at once
MAX_ITER = 60
PRECISE = 1e-12
EQUAL = 1e-12  # Q / dof below this is rounding: all sites agree exactly


@dataclass(frozen=True)
class StudentNewSite:
    """Student's t around the pooled mean (Higgins, Thompson and Spiegelhalter 2009)."""

    center: np.ndarray  # (m,)
    scale: np.ndarray
    dof: np.ndarray

    def quantile(self, p: float) -> np.ndarray:
        return self.center + self.scale * stats.t.ppf(p, self.dof)

    def above(self, value: np.ndarray) -> np.ndarray:
        return stats.t.sf((value - self.center) / self.scale, self.dof)


@dataclass(frozen=True)
class BootstrapNewSite:
    """mean(tau2) - t sqrt(error2(tau2)) + tau z, with tau2 of a distribution of its own.

    tau2 has the probabilities `weights`; z is standard normal and t Student's with `dof` degrees
    of freedom.
    """

    weights: np.ndarray  # (m, g); NaN in metrics without a distribution
    means: np.ndarray  # (m, g)
    tau2: np.ndarray  # (m, g)
    errors2: np.ndarray  # (m, g)
    dof: np.ndarray  # (m,)

    def above(self, value: np.ndarray) -> np.ndarray:
        return self._below_and_density(-value, -1.0)[0]

    def quantile(self, p: float) -> np.ndarray:
        """Newton between bounds that are first moved apart, halved where it leaves them."""
        low, high = self._bounds(p)
        x = 0.5 * (low + high)
        for _ in range(MAX_ITER):
            below, density = self._below_and_density(x, 1.0)
            low, high = np.where(below < p, x, low), np.where(below < p, high, x)
            step = (p - below) / np.maximum(density, 1e-300)
            inside = (x + step >= low) & (x + step <= high)
            step = np.where(inside, step, 0.5 * (low + high) - x)
            x = x + step
            if not np.any(np.abs(step) > PRECISE * (high - low + np.abs(x))):
                break
        return x

    def _bounds(self, p: float) -> tuple[np.ndarray, np.ndarray]:
        middle = (self.weights * self.means).sum(axis=1)
        spread = (self.weights * np.sqrt(self.tau2 + self.errors2)).sum(axis=1)
        low, high = middle - spread, middle + spread
        for _ in range(MAX_ITER):
            too_high = self._below_and_density(low, 1.0)[0] > p
            too_low = self._below_and_density(high, 1.0)[0] < p
            if not (too_high.any() or too_low.any()):
                break
            low = np.where(too_high, low - (middle - low), low)
            high = np.where(too_low, high + (high - middle), high)
        return low, high

    def _below_and_density(self, x: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """P(sign * value < x) and its derivative, as a mixture of normal distributions."""
        below, density = np.zeros(len(self.dof)), np.zeros(len(self.dof))
        distance = np.asarray(x)[..., None] - sign * self.means
        for share, ratio in zip(*_mixed_chi2(self.dof), strict=True):
            scale = np.sqrt(self.tau2 + self.errors2 / ratio[:, None])
            z = distance / scale
            below += share * (self.weights * special.ndtr(z)).sum(axis=1)
            density += share * (self.weights * np.exp(-0.5 * z**2) / scale).sum(axis=1)
        return below, density / np.sqrt(2.0 * np.pi)


def bootstrap(sites: Sites) -> BootstrapNewSite:
    """The limit of infinitely many draws of Nagashima, Noma and Furukawa.

    tau2 is drawn from its confidence distribution P(Q(tau2) > q), where Q(tau2) is Cochran's Q of
    sites with that tau2 and q the one that was seen; its exact law is that of a sum of weighted
    chi-squares (Stat. Methods Med. Res. 28 (2019) 1689-1702). Here the draws are integrated. At
    least three sites, no moderators.
    """
    at_zero = regress(sites, np.zeros(len(sites.n_sites)))
    able = sites.estimable & (sites.n_sites > 2) & (at_zero.q > EQUAL * sites.dof)
    tau2 = np.zeros((len(able), N_TAU2 + 1))
    weights = np.full_like(tau2, np.nan)
    which = np.flatnonzero(able)
    for block in np.split(which, range(BLOCK, len(which), BLOCK)):
        if block.size:
            q = at_zero.q[block]
            rates = _rates(at_zero.weights[block])
            tau2[block], weights[block] = _confidence_distribution(rates, q, sites.dof[block])
    at = regress(sites, tau2)
    errors2 = np.where(able, at.q.T / sites.dof, np.nan).T * at.covariance[..., 0, 0]
    one = sites.basis[0, 0]  # the constant column of the basis
    return BootstrapNewSite(weights, at.coef[..., 0] * one, tau2, errors2 * one**2, sites.dof)


def _rates(weights: np.ndarray) -> np.ndarray:
    """How fast each weight of Q, 1 + tau2 * rate, grows; 0 beyond the degrees of freedom.

    Q is a quadratic form in standardised estimates, whose matrix is the projection off the root of
    the weights; tau2 adds to their covariance the weights themselves.
    """
    root = np.sqrt(weights / weights.sum(axis=1, keepdims=True))
    off = np.eye(weights.shape[1]) - root[:, :, None] * root[:, None, :]
    values = np.linalg.eigvalsh(off @ (weights[:, :, None] * off))
    n = (weights > 0.0).sum(axis=1)
    last = np.arange(weights.shape[1])[::-1] < n[:, None] - 1
    return np.where(last, values, 0.0)[:, 1:]


def _confidence_distribution(
    rates: np.ndarray, q: np.ndarray, dof: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values of tau2, the first of them 0, and their probabilities; both (m, N_TAU2 + 1)."""

    def survival(log_tau2):
        tau2 = np.exp(log_tau2)
        free = (rates > 0.0)[:, None, :]
        grown = free + tau2[..., None] * rates[:, None, :]
        below, change = distribution(grown, q[:, None], rates[:, None, :] + np.zeros_like(grown))
        return 1.0 - below, -change * tau2

    at_zero = stats.chi2.sf(q, dof)[:, None]
    smallest = np.where(rates > 0.0, rates, np.inf).min(axis=1)
    first = np.log(TAIL / rates.sum(axis=1))
    last = np.log((q + 1.0) / smallest) - np.log(TAIL)
    coarse, step = _even(first, last)
    above, _ = survival(coarse)
    first = coarse[:, 0] + step * ((above < at_zero + TAIL).sum(axis=1) - 1)
    last = coarse[:, 0] + step * (above < 1.0 - TAIL).sum(axis=1)
    log_tau2, _ = _even(first, np.maximum(last, first + step))
    density = np.maximum(survival(log_tau2)[1], 0.0)
    density *= (1.0 - at_zero) / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
    tau2 = np.concatenate([np.zeros_like(at_zero), np.exp(log_tau2)], axis=1)
    return tau2, np.concatenate([at_zero, density], axis=1)


def _even(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N_TAU2 even steps from first to last, (m, N_TAU2), and their size, (m,)."""
    step = (last - first) / (N_TAU2 - 1)
    return first[:, None] + step[:, None] * np.arange(N_TAU2), step


def _mixed_chi2(dof: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares and values of chi2 / dof, (N_CHI2, m), evenly spaced on the log scale."""
    low = np.log(2.0 * special.gammaincinv(0.5 * dof, TAIL))
    high = np.log(2.0 * special.gammainccinv(0.5 * dof, TAIL))
    log_chi2 = low + (high - low) * np.linspace(0.0, 1.0, N_CHI2)[:, None]
    density = np.exp(0.5 * (dof * (log_chi2 - np.log(dof)) - np.exp(log_chi2) + dof))
    return density / density.sum(axis=0), np.exp(log_chi2) / dof
