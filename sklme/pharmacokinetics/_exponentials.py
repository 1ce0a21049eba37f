"""What one exponential does with a bolus, an infusion and a depot: smooth in its rate everywhere.

All functions take real arrays or complex ones whose imaginary part is a complex step.
"""

from math import factorial

import numpy as np

SMALL = 0.3  # below it the series is used, above it the formula loses less than two digits
SERIES = [(-1.0) ** n / (factorial(n) * (n + 2)) for n in range(12)]


def decay(x):
    """e^-x, u(x) = (1 - e^-x) / x and v(x) = -u'(x) = (1 - (1 + x) e^-x) / x^2 for x >= 0."""
    e = np.exp(-x)
    small = x.real < SMALL
    with np.errstate(all="ignore"):  # what overflows or is 0 / 0 is not the value that is kept
        v = (1.0 - (1.0 + x) * e) / x / x
    near = x[small]
    series = np.full_like(near, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series *= near
        series += coefficient
    v[small] = series
    return e, e + x * v, v


def convolve(rate, other, time):
    """phi = integral of e^-rate(t - s) e^-other s over 0..t: the divided difference of e^-kt.

    Equals (e^-rate t - e^-other t) / (other - rate), and t e^-rate t where the two are equal.
    Returns phi and its derivatives by `rate` and by `other`.
    """
    swap = rate.real > other.real
    slow, fast = np.where(swap, other, rate), np.where(swap, rate, other)
    _, u, v = decay((fast - slow) * time)
    weight = time * np.exp(-slow * time)
    by_slow, by_fast = -time * weight * (u - v), -time * weight * v
    return weight * u, np.where(swap, by_fast, by_slow), np.where(swap, by_slow, by_fast)


def absorb(rate, other, time):
    """The same phi alone."""
    apart = other - rate
    if np.iscomplexobj(apart) or np.iscomplexobj(time) or not apart.all():
        return convolve(rate, other, time)[0]
    slow, apart = np.minimum(rate, other), np.abs(apart)
    return np.exp(-slow * time) * (-np.expm1(-apart * time) / apart)
