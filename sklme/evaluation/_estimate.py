"""One number of one site with its error, and the scale on which numbers of sites are pooled."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, t

SCALES = {
    "identity": (lambda value: value, lambda theta: theta, np.ones_like),
    "log": (np.log, np.exp, lambda value: 1.0 / value),
    "logit": (logit, expit, lambda value: 1.0 / (value * (1.0 - value))),
    "fisher": (np.arctanh, np.tanh, lambda value: 1.0 / (1.0 - value**2)),
    # Of a share that is explained: minus the logarithm of what is not, which grows with the share.
    "log-unexplained": (
        lambda value: -np.log1p(-value),
        lambda theta: -np.expm1(-theta),
        lambda value: 1.0 / (1.0 - value),
    ),
}
INSIDE = {
    "identity": "finite",
    "log": "above 0",
    "logit": "between 0 and 1",
    "fisher": "between -1 and 1",
    "log-unexplained": "below 1",
}
NO_SPREAD = 1e-12  # a standard deviation below this share of its mean is rounding


class NotEstimable(Exception):
    """Says in one sentence why a site has no such number."""


@dataclass(frozen=True)
class Estimate:
    """A metric at one site; `value` is NaN and `reason` says why where it is not estimable."""

    value: float  # natural scale
    theta: float  # on the scale of pooling
    std_error: float  # of theta
    lower: float  # natural scale
    upper: float
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """What a formula finds: the value, where it stands on the scale of pooling, and its error."""

    value: float
    theta: float
    std_error: float
    dof: float = np.inf  # of the quantile of the interval
    score: bool = False  # the interval of Wilson instead of theta plus and minus z std_error


def to_scale(value, scale):
    """Values on the scale of pooling; infinite at the ends of a bounded scale."""
    with np.errstate(divide="ignore"):
        return SCALES[scale][0](np.asarray(value, float))


def from_scale(theta, scale):
    """Back on the natural scale."""
    return SCALES[scale][1](np.asarray(theta, float))


def by_delta(value, std_error, scale) -> Found:
    """A value and its standard error, carried to the scale of pooling by the delta method."""
    slope = SCALES[scale][2](np.asarray(value, float))
    return Found(float(value), float(to_scale(value, scale)), float(std_error * slope))


def with_interval(found: Found, scale: str, confidence_level: float) -> Estimate:
    """The interval, back on the natural scale and widened to hold a value at an end of it.

    On the logit scale the interval of Wilson is 2 asinh(z s / 2) to either side of the estimate.
    """
    tail = 0.5 + confidence_level / 2.0
    if found.score:
        half = 2.0 * np.arcsinh(norm.ppf(tail) * found.std_error / 2.0)
    else:
        half = (t(found.dof) if np.isfinite(found.dof) else norm).ppf(tail) * found.std_error
    lower, upper = from_scale([found.theta - half, found.theta + half], scale)
    ends = min(lower, found.value), max(upper, found.value)
    return Estimate(*map(float, (found.value, found.theta, found.std_error, *ends)))


def not_estimable(reason: str) -> Estimate:
    """An estimate that is not there."""
    return Estimate(*[np.nan] * 5, reason)


def need_both_classes(y) -> tuple[int, int]:
    """The numbers of events and of others, both above zero."""
    n, events = len(y), int(np.sum(y))
    if events in (0, n):
        raise NotEstimable(f"all {n} rows are of one class")
    return events, n - events
