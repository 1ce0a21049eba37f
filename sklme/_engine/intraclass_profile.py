"""Likelihood limits of the agreement of raters for many features at once.

The restricted likelihood is profiled on x = var(subject) / (var(rater) + var(error)) and followed
to where -2 log L has risen by a quantile of chi2 with one degree of freedom. At each limit two
equations hold, the rise and a gradient of zero in the other variance; Newton's method solves both
at once (Venzon and Moolgavkar 1988, eq. 3), on z = log(1 + s x), s measurements a subject, in which
the root of the rise is almost a straight line.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from sklme._engine.intraclass_reml import VarianceFit, derivatives
from sklme._engine.intraclass_sums import Sums
from sklme._engine.profile import find_ends

CLOSE = 1e-7  # of the root of the rise at a limit
FLAT = 1e-10  # what the other variance may still gain of the criterion
LONGEST = 1.0  # step in z
QUICK = 25  # steps before the search one variance at a time takes over
SHORT = 1e-4  # a rise that is this much below its height is not at the limit
ROUGH_STEPS = 3
MOST_STEPS = 60
SMALLEST = 0.1  # root of the raters' variance ratio from which a maximum at zero is left


@dataclass(frozen=True)
class _Slopes:
    """The criterion at (z, theta), theta the root of var(rater) / var(error), and derivatives."""

    value: np.ndarray
    z: np.ndarray
    theta: np.ndarray
    z_theta: np.ndarray
    theta_theta: np.ndarray


def _slopes(data: Sums, s: np.ndarray, z: np.ndarray, theta: np.ndarray) -> _Slopes:
    """With lambda = x (1 + theta^2) and x = (e^z - 1) / s."""
    x = np.expm1(z) / s
    dx, grown = x + 1.0 / s, 1.0 + theta**2
    value, g, h, _ = derivatives(data, x * grown, theta)
    along = 2.0 * x * theta
    return _Slopes(
        value,
        g[0] * grown * dx,
        g[0] * along + g[1],
        (h[0] * along + h[1]) * grown * dx + 2.0 * g[0] * theta * dx,
        h[0] * along**2 + 2.0 * h[1] * along + h[2] + 2.0 * x * g[0],
    )


def profile_limits(data: Sums, fit: VarianceFit, confidence_level: float):
    """Limits of x for every feature; the lower is 0 where the likelihood does not fall so far."""
    height = 2.0 * special.gammaincinv(0.5, confidence_level)
    s = data.total / data.n_subjects
    best = _Best(
        np.log1p(s * fit.subject_ratio / (1.0 + fit.rater_ratio)),
        np.sqrt(fit.rater_ratio),
        fit.subject_ratio,
        fit.criterion,
    )
    upper = _upper(data, s, best, height)
    lower = np.zeros(len(s))
    at_zero = _least(data, s, lower, best.theta)
    far = np.flatnonzero(at_zero - best.value > height)
    if len(far):
        lower[far] = _lower(data.take(far), s[far], best.take(far), height)
    return np.expm1(lower) / s, np.expm1(upper) / s


@dataclass(frozen=True)
class _Best:
    """The estimates: z, theta, the ratio of subjects, and the criterion there."""

    z: np.ndarray
    theta: np.ndarray
    ratio: np.ndarray
    value: np.ndarray

    def take(self, which: np.ndarray) -> "_Best":
        return _Best(self.z[which], self.theta[which], self.ratio[which], self.value[which])


def _upper(data: Sums, s: np.ndarray, best: _Best, height: float) -> np.ndarray:
    ends, found = _newton(data, s, best, best.z + 0.6, best.theta, 1.0, height)
    left = np.flatnonzero(~found)
    if len(left):  # once more with little variance of the raters
        part, near = data.take(left), best.take(left)
        start = np.maximum(np.log1p(s[left] * near.ratio), near.z + 0.1) + 0.1
        args = (start, 0.3 * near.theta + SMALLEST, 1.0, height)
        ends[left], found[left] = _newton(part, s[left], near, *args)
        left = np.flatnonzero(~found)
    if len(left):
        ends[left] = _slowly(data.take(left), s[left], best.take(left), 1.0, height)
    return ends


def _lower(data: Sums, s: np.ndarray, best: _Best, height: float) -> np.ndarray:
    """The lower of two limits: few subjects' variance, or so much of the raters' that it is little.

    With few raters the likelihood falls but slowly in the latter direction, and at a low x both may
    be minima in theta.
    """
    direct, found = _newton(data, s, best, 0.6 * best.z, best.theta, -1.0, height)
    large = _large_raters(data, best, height)
    start = np.log1p(s * best.ratio / (1.0 + large**2))
    other, also = _newton(data, s, best, start, large, -1.0, height)
    ends = np.minimum(np.where(found, direct, np.inf), np.where(also, other, np.inf))
    known = found | also
    short = _rise(data, s, best, np.where(known, ends, best.z)) < height - SHORT
    left = np.flatnonzero(short)  # not found, or theta was not the best one there
    if len(left):
        ends[left] = _slowly(data.take(left), s[left], best.take(left), -1.0, height)
    return ends


def _large_raters(data: Sums, best: _Best, height: float) -> np.ndarray:
    """About the theta above its estimate at which the criterion has risen by `height`.

    The root of the rise is followed in the log of theta, with the ratio of subjects held.
    """
    each = data.total / data.n_raters
    theta = np.sqrt((best.theta**2 + 1.0 / each) * np.exp(0.7 * height / (data.n_raters - 1.0)))
    target = np.sqrt(height)
    for _ in range(ROUGH_STEPS):
        value, g, _, _ = derivatives(data, best.ratio, theta)
        root = np.sqrt(np.maximum(value - best.value, 1e-2))
        slope = np.maximum(g[1] * theta / (2.0 * root), 0.05)
        theta = theta * np.exp(np.clip((target - root) / slope, -0.7, 0.7))
    return np.maximum(theta, 1.02 * best.theta)


def _slowly(data: Sums, s: np.ndarray, best: _Best, side: float, height: float) -> np.ndarray:
    """Limits by false position on z, with theta at its optimum each time."""
    step, limit = np.full(len(s), 0.3 * side), 0.0 if side < 0 else np.inf
    return find_ends(lambda z: _rise(data, s, best, z), best.z, step, height, limit)


def _rise(data: Sums, s: np.ndarray, best: _Best, z: np.ndarray) -> np.ndarray:
    """The criterion at z above that of the estimates, with the better of two minima in theta."""
    z = np.maximum(z, 1e-12)
    large = np.sqrt(np.maximum(best.ratio * s / np.expm1(z) - 1.0, 0.0))
    low, high = (_least(data, s, z, theta) for theta in (best.theta, large))
    return np.minimum(low, high) - best.value


def _newton(data: Sums, s, best: _Best, z: np.ndarray, theta: np.ndarray, side: float, height):
    """z at the limits on one side of the estimates, from a start, and whether they were found."""
    z, theta, target = z.copy(), theta.copy(), np.sqrt(height)
    found, active = np.zeros(len(z), bool), np.arange(len(z))
    for _ in range(QUICK):
        part = data.take(active)
        here = _slopes(part, s[active], z[active], theta[active])
        curved = here.theta_theta > 0
        bend = np.where(curved, here.theta_theta, np.inf)
        gain = 0.5 * here.theta**2 / bend
        root = np.sqrt(np.maximum(here.value - gain - best.value[active], 1e-12))
        slope = (here.z - here.z_theta * here.theta / bend) / (2.0 * root)
        miss = target - root
        done = (np.abs(miss) <= CLOSE) & (gain <= FLAT) & curved
        good = side * slope > 0
        step = np.where(good, miss / np.where(good, slope, 1.0), side * 0.1)
        step = np.clip(step, -LONGEST, LONGEST)
        step = _inside(step, z[active], best.z[active], side)
        move = -(here.theta + here.z_theta * step) / bend
        most = 0.5 + theta[active]
        move = np.abs(theta[active] + np.clip(move, -most, most))
        leave = ~curved & (theta[active] < SMALLEST)
        z[active] += np.where(done, 0.0, step)
        theta[active] = np.where(done, theta[active], np.where(leave, SMALLEST, move))
        found[active[done]] = True
        active = active[~done]
        if not len(active):
            break
    return z, found


def _inside(step: np.ndarray, z: np.ndarray, origin: np.ndarray, side: float) -> np.ndarray:
    """No step to the other side of the estimate or of zero: half of the way at most."""
    to_origin = origin - z
    crosses = (z + step - origin) * side <= 0
    step = np.where(crosses, 0.5 * to_origin, step)
    return np.where(z + step <= 0, -0.5 * z, step)


def _least(data: Sums, s: np.ndarray, z: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The criterion minimised over theta >= 0 at z, by Newton's method in a bracket."""
    theta = np.maximum(theta, SMALLEST)
    low, high = np.zeros(len(z)), np.full(len(z), np.inf)
    active = np.arange(len(z))
    for _ in range(MOST_STEPS):
        at = theta[active]
        here = _slopes(data.take(active), s[active], z[active], at)
        rises = here.theta > 0
        high[active[rises]], low[active[~rises]] = at[rises], at[~rises]
        curved = here.theta_theta > 0
        bend = np.where(curved, here.theta_theta, 1.0)
        new = at - here.theta / bend
        bottom, top = low[active], high[active]
        middle = np.where(np.isinf(top), 2.0 * bottom + SMALLEST, 0.5 * (bottom + top))
        new = np.where(curved & (new > bottom) & (new < top), new, middle)
        theta[active] = new
        done = curved & (here.theta**2 <= FLAT * bend)
        active = active[~done & (np.abs(new - at) > 1e-6 * (SMALLEST + new))]
        if not len(active):
            break
    values = (_slopes(data, s, z, root).value for root in (theta, np.zeros(len(z))))
    return np.minimum(*values)
