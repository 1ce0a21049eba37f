"""Means, spreads and quantiles of an outcome whose linear predictor is normal.

Expectations over eta ~ N(m, v) are sums over an even grid (the trapezoidal rule), whose error for a
function analytic in a strip of half-width `reach` falls as exp(-2 pi reach / (h sd)) with the step
h in standard deviations (Trefethen and Weideman 2014, theorem 5.1). Gauss-Hermite nodes would need
several hundred where the standard deviation is 5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

LONGEST = 0.5  # step of the grid in standard deviations; the normal density itself needs 0.7
SHARPNESS = 0.3  # step in units of reach / sd
FAR = 7.0  # standard deviations that the grid spans each way, besides what exp(eta) shifts it
COARSE = 0.5, 5.5  # step and half-width of the grid for quantiles
DEAREST = 64.0  # standard deviation above which the grid gets no finer
REACH = {"logit": np.pi, "cloglog": 1.1}  # distance of the first pole, or of wild growth
ELSEWHERE = 1.0  # for any other link
TINY = np.finfo(float).tiny

Function = Callable[[np.ndarray], np.ndarray]


def equivalent(link, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The linear predictor whose mean is the mean over eta ~ N(eta, variance).

    Closed forms for log, identity, sqrt and probit (Diggle et al. 2002, section 7.4). Rows of
    variance 0 stay as they are. An inverse link has no such mean: 1/eta has heavy tails.
    """
    out = np.array(eta, dtype=float)
    spread = np.flatnonzero(variance > 0)
    if len(spread):
        out[spread] = _equivalent(link, out[spread], np.asarray(variance)[spread])
    return out


def _equivalent(link, eta, variance):
    if link.name in CLOSED:
        return CLOSED[link.name](eta, variance)
    sd = np.sqrt(variance)
    if link.name == "inverse":
        raise ValueError(
            "the inverse link has no mean over the effects of unseen levels, as 1/eta has none: "
            'choose handle_unknown="population" or another link'
        )
    if link.name == "logit":  # the smaller share keeps its digits
        share = np.maximum(expectation(link.mean, -np.abs(eta), sd), TINY)
        return np.copysign(np.log1p(-share) - np.log(share), eta)
    if link.name == "cloglog":
        with np.errstate(over="ignore"):
            share = expectation(link.mean, eta, sd, REACH["cloglog"])
            rest = expectation(lambda x: np.exp(-np.exp(x)), eta, sd, REACH["cloglog"])
        share, rest = np.maximum(share, TINY), np.maximum(rest, TINY)
        return np.log(np.where(share < 0.5, -np.log1p(-np.minimum(share, 0.5)), -np.log(rest)))
    return link.eta(expectation(link.mean, eta, sd, ELSEWHERE))


CLOSED = {
    "identity": lambda eta, v: eta,
    "log": lambda eta, v: eta + 0.5 * v,
    "sqrt": lambda eta, v: np.sqrt(eta * eta + v),
    "probit": lambda eta, v: eta / np.sqrt(1.0 + v),
}


def deviation(link, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The standard deviation of the mean mu(eta) over eta ~ N(eta, variance).

    For the inverse link, which has no moments, the linear expansion.
    """
    sd = np.sqrt(variance)
    if link.name == "identity":
        return sd
    if link.name == "log":
        return np.exp(eta + 0.5 * variance) * np.sqrt(np.expm1(variance))
    if link.name == "sqrt":
        return sd * np.sqrt(2.0 * variance + 4.0 * eta * eta)
    if link.name == "inverse":
        return sd / (eta * eta)
    if link.name in ("logit", "probit"):
        eta = -np.abs(eta)  # the smaller share keeps its digits
    with np.errstate(over="ignore"):
        return spread_of(link.mean, eta, sd, REACH.get(link.name, ELSEWHERE))


def spread_of(f: Function, eta: np.ndarray, sd: np.ndarray, reach: float = np.pi) -> np.ndarray:
    """The standard deviation of f(eta + sd Z); f may add an axis in front."""
    there = expectation(f, eta, sd, reach)
    here = f(eta)  # moments about a value nearby lose no digits
    square = expectation(lambda x, at: (f(x) - here[..., at]) ** 2, eta, sd, reach, places=True)
    return np.sqrt(np.maximum(square - (there - here) ** 2, 0.0))


def expectation(
    f: Callable, eta: np.ndarray, sd: np.ndarray, reach: float = np.pi, places: bool = False
) -> np.ndarray:
    """E f(eta + sd Z), f of the rows or, with `places`, of the rows and which they are.

    Rows are taken together by the size of sd, so that a row does not depend on others.
    """
    f_of = f if places else lambda x, at: f(x)
    size = np.ceil(2.0 * np.log2(np.clip(sd / reach, 0.25, DEAREST)))
    out = None
    for s in np.unique(size):
        at = np.flatnonzero(size == s)
        found: Any = 0.0
        for z, weight in zip(*_grid(2.0 ** (0.5 * s), reach), strict=True):
            found = found + weight * f_of(eta[at] + sd[at] * z, at)
        if out is None:
            out = np.empty((*found.shape[:-1], len(eta)))
        out[..., at] = found
    return f(eta) if out is None else out


def _grid(relative: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Points z and normal weights for a standard deviation of `relative` times the reach.

    It extends by one sd, since a share that grows like exp(eta) is felt sd further out.
    """
    h = min(LONGEST, SHARPNESS / relative)
    half = FAR + min(relative * reach, 8.0)
    z = h * np.arange(-np.ceil(half / h), np.ceil(half / h) + 1)
    weights = np.exp(-0.5 * z * z)
    return z, weights / weights.sum()


# Quantiles -------------------------------------------------------------------------------------


def quantile(
    cdf: Callable, probability: float, eta: np.ndarray, sd: np.ndarray, whole: bool
) -> np.ndarray:
    """The least y with P(Y <= y) >= probability, where P is cdf(y, eta) over eta ~ N(eta, sd^2).

    whole : whether y takes whole numbers >= 0 only
    """
    h, half = COARSE
    z = h * np.arange(-half / h, half / h + 1)
    weights = np.exp(-0.5 * z * z)
    weights /= weights.sum()

    def below(y):
        with np.errstate(all="ignore"):
            parts = (w * cdf(y, eta + sd * x) for x, w in zip(z, weights, strict=True))
            return sum(parts) >= probability

    low, high = _bracket(below, len(eta))
    return _halve(below, low, high, whole)


def _bracket(below: Function, n: int):
    """Ends (low, high] that hold the quantile of each row, by doubling."""
    low, high = np.full(n, -1.0), np.ones(n)
    for _ in range(200):
        short = ~below(high)
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    for _ in range(200):
        over = below(low)
        if not over.any():
            break
        low, high = np.where(over, 2.0 * low, low), np.where(over, low, high)
    return low, high


def _halve(below: Function, low, high, whole: bool) -> np.ndarray:
    for _ in range(1100):
        if whole:
            middle = np.floor(0.5 * (low + high))
            done = high - low <= 1.0
        else:
            middle = 0.5 * (low + high)
            done = (middle <= low) | (middle >= high) | (high - low <= 1e-10 * np.abs(high))
        if done.all():
            break
        enough = below(middle)
        low = np.where(enough | done, low, middle)
        high = np.where(enough & ~done, middle, high)
    return high


def folded_quantile(center: np.ndarray, sd: np.ndarray, probability: float) -> np.ndarray:
    """The quantile of |X| with X ~ N(center, sd^2)."""
    center = np.abs(center)
    safe = np.where(sd > 0, sd, 1.0)
    low = np.zeros_like(center)
    high = center + safe * ndtri(0.5 + 0.5 * probability)
    for _ in range(60):
        t = 0.5 * (low + high)
        enough = ndtr((t - center) / safe) - ndtr((-t - center) / safe) >= probability
        low, high = np.where(enough, low, t), np.where(enough, t, high)
    return np.where(sd > 0, high, center)
