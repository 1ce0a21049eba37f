"""The variance between sites, tau2: its likelihood, its estimates and its interval."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from sklme._engine.meta_regression import Regression, Sites, regress

METHODS = ("reml", "ml", "dl", "pm")
N_TRIALS = 40  # values of tau2 among which the highest likelihood is looked for first
BLOCK = 1000  # metrics that are tried at once
MAX_ITER = 100
PRECISE = 1e-13  # relative change of tau2 that counts as none
LOG_2PI = np.log(2.0 * np.pi)


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood profiled on tau2, its slope and minus its second derivative."""

    value: np.ndarray
    score: np.ndarray
    information: np.ndarray


def likelihood(at: Regression, *, reml: bool) -> Likelihood:
    """The log-likelihood of ML or REML (Viechtbauer 2005, J. Educ. Behav. Stat. 30:261-293)."""
    sites = at.sites
    own = (slice(None), *(None,) * (at.q.ndim - 1))
    n = sites.present.sum(axis=1)[own]
    log_det = -np.log(np.where(at.weights > 0.0, at.weights, 1.0)).sum(axis=-1)
    if not reml:
        value = -0.5 * (n * LOG_2PI + log_det + at.q)
        score = 0.5 * (at.squares - at.weights.sum(axis=-1))
        return Likelihood(value, score, at.cubes - 0.5 * (at.weights**2).sum(axis=-1))
    kept = np.einsum("mk,kp,kq->mpq", sites.present, sites.basis, sites.basis)
    lost = np.linalg.slogdet(at.precision)[1] - np.linalg.slogdet(kept)[1][own]
    value = -0.5 * ((n - sites.basis.shape[1]) * LOG_2PI + log_det + lost + at.q)
    score = 0.5 * (at.squares - at.trace)
    return Likelihood(value, score, at.cubes - 0.5 * at.trace_of_square)


def estimate_tau2(sites: Sites, method: str) -> np.ndarray:
    """tau2 of each metric, at least 0, by REML, ML, DerSimonian-Laird or Paule-Mandel."""
    if method == "dl":
        at_zero = regress(sites, np.zeros(len(sites.estimates)))
        return np.maximum(at_zero.q - sites.dof, 0.0) / np.maximum(at_zero.trace, 1e-300)
    if method == "pm":
        return tau2_where_q_is(sites, sites.dof)
    return _highest_likelihood(sites, reml=method == "reml")


def tau2_where_q_is(sites: Sites, q: np.ndarray) -> np.ndarray:
    """The tau2 whose weights bring Cochran's Q down to q, or 0.

    1 / Q is concave and increasing in tau2, so Newton from 0 approaches the root from one side.
    """
    tau2 = np.zeros(len(q))
    for _ in range(MAX_ITER):
        at = regress(sites, tau2)
        excess = np.maximum(at.q - q, 0.0)
        step = excess * at.q / (q * np.where(excess > 0.0, at.squares, 1.0))
        tau2 = tau2 + step
        if np.all(step <= PRECISE * tau2):
            break
    return tau2


def tau2_interval(sites: Sites, confidence_level: float) -> tuple[np.ndarray, np.ndarray]:
    """All tau2 whose Q a chi-square would not reject (Viechtbauer 2007, Stat. Med. 26:37-52)."""
    tails = 0.5 * (1.0 - confidence_level)
    high, low = (stats.chi2.isf(p, sites.dof) for p in (tails, 1.0 - tails))
    return tau2_where_q_is(sites, high), tau2_where_q_is(sites, low)


def largest_tau2(sites: Sites) -> np.ndarray:
    """A value above which neither log-likelihood rises.

    With S the residual sum of squares under equal weights, y'PPy <= S / (tau2 + smallest)^2, and
    tr P >= dof / (tau2 + largest), where smallest and largest are variances of sites.
    """
    smallest, largest = sites.smallest_and_largest_variance()
    equal = replace(sites, variances=np.ones_like(sites.variances))
    s2 = regress(equal, np.zeros(len(smallest))).q / sites.dof
    total = 0.5 * (s2 + np.sqrt(s2**2 + 4.0 * s2 * (largest - smallest)))
    return np.maximum(total - smallest, 0.0)


def _highest_likelihood(sites: Sites, *, reml: bool) -> np.ndarray:
    """The higher of the two most promising maxima.

    The likelihood may have several where standard errors differ much.
    """
    n = len(sites.estimates)
    parts = [_promising(sites.take(slice(i, i + BLOCK)), reml) for i in range(0, n, BLOCK)]
    first, second = np.concatenate(parts, axis=2)
    tau2 = _climb(sites, first, reml)
    other = ~np.all(first == second, axis=0)
    if other.any():
        rival = _climb(sites.take(other), second[:, other], reml)
        pair = np.stack([tau2[other], rival], axis=1)
        value = likelihood(regress(sites.take(other), pair), reml=reml).value
        tau2[other] = np.where(value[:, 1] > value[:, 0], rival, tau2[other])
    return tau2


def _climb(sites: Sites, start: np.ndarray, reml: bool) -> np.ndarray:
    """Newton to the maximum between low and high, halved where it leaves; start is (3, m)."""
    tau2, low, high = start
    settled = high <= low
    for _ in range(MAX_ITER):
        if settled.all():
            break
        at = likelihood(regress(sites, tau2), reml=reml)
        low = np.where(at.score > 0.0, tau2, low)
        high = np.where(at.score > 0.0, high, tau2)
        curved = at.information > 0.0
        step = at.score / np.where(curved, at.information, 1.0)
        inside = curved & (tau2 + step >= low) & (tau2 + step <= high)
        step = np.where(inside, step, 0.5 * (low + high) - tau2)
        tau2 = np.where(settled, tau2, tau2 + step)
        settled = settled | (np.abs(step) <= PRECISE * tau2)
    return tau2


def _promising(sites: Sites, reml: bool) -> np.ndarray:
    """Start, low and high end of the two maxima that look highest, (2, 3, m); one may come twice.

    A maximum lies at 0 or where the slope changes its sign; how high it is, is guessed from a slope
    that is linear in between.
    """
    trials = _trial_values(sites)
    at = likelihood(regress(sites, trials), reml=reml)
    left, right = at.score[:, :-1], at.score[:, 1:].copy()
    right[:, -1] = np.minimum(right[:, -1], 0.0)  # it only falls from there on, rounding aside
    peak = (left > 0.0) & (right <= 0.0)
    ahead = np.diff(trials) * left / np.where(peak, left - right, 1.0)
    gain = 0.5 * ahead * left
    height = np.where(peak, at.value[:, :-1] + gain, -np.inf)
    at_zero = np.where(at.score[:, 0] <= 0.0, at.value[:, 0], -np.inf)
    height = np.concatenate([at_zero[:, None], height], axis=1)
    rows, order = np.arange(len(height)), np.argsort(-height, axis=1)
    found = []
    for which in (order[:, 0], order[:, 1]):
        which = np.where(np.isfinite(height[rows, which]), which, order[:, 0])
        before = np.maximum(which - 1, 0)
        low, high = trials[rows, before], trials[rows, which]
        start = np.where(which == 0, low, low + ahead[rows, before])
        found.append((start, low, high))
    return np.array(found)


def _trial_values(sites: Sites) -> np.ndarray:
    """0 and a geometric series up to where the likelihood only falls, (m, N_TRIALS + 1)."""
    smallest, _ = sites.smallest_and_largest_variance()
    top = np.maximum(largest_tau2(sites), 1e-8 * smallest)
    bottom = 1e-3 * np.minimum(smallest, top)
    exponents = np.linspace(0.0, 1.0, N_TRIALS)
    series = bottom[:, None] * (top / bottom)[:, None] ** exponents
    return np.concatenate([np.zeros((len(top), 1)), series], axis=1)
