"""The mode of every subject's criterion, for many subjects at once.

Levenberg (1944) and Marquardt (1963) steps on the Gauss-Newton curvature, then Newton's steps on
the exact one where that is positive definite. What has converged is left out. The objective is
stationary in the parameters at the mode but not in the mode itself, whose error enters at first
order through the curvature: hence the tight tolerance.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.point import Point

TOLERANCE = 1e-10  # of a step of u, in standard deviations of eta
SQUARED = 1e-6  # a Newton step below this leaves an error far below the tolerance
LONGEST = 4.0  # no step of u is longer
NEAR = 0.1  # a step below this is close enough for the exact curvature
PATIENCE = 10  # Gauss-Newton steps before the exact curvature is tried anyway
FAR = 2.5  # a warm start further from 0 is compared with a start from 0
SMALL, SMALLER = 1e-3, 1e-5  # a Newton or another step below this may rise within rounding
ROUNDING = 1e-9
STUCK = 1e12  # a damping that no search recovers from
APART = 1e-6  # criteria that differ by more belong to different modes


@dataclass(frozen=True)
class Modes:
    """The modes u (N, Q), their criterion (N,), and whether they were found (N,)."""

    u: np.ndarray
    value: np.ndarray
    converged: np.ndarray
    n_iterations: int

    def keep_lower(self, other: "Modes") -> "Modes":
        """For each subject the lower mode of the two."""
        pick = ~(self.value <= other.value + APART * (1.0 + np.abs(other.value)))
        if not pick.any():
            return self
        return Modes(
            np.where(pick[:, None], other.u, self.u),
            np.where(pick, other.value, self.value),
            np.where(pick, other.converged, self.converged),
            max(self.n_iterations, other.n_iterations),
        )


def find_modes(
    point: Point, start: np.ndarray | None = None, *, thorough: bool = False, max_iter: int = 200
) -> Modes:
    """The mode of each subject, from 0 or from `start` (N, Q).

    Where a start or its mode is far from 0 the search from 0 is made too and the lower mode kept,
    so that the outcome depends on the parameters and not on what was tried before. `thorough`: also
    `look_around` for every subject.
    """
    N, Q = len(point.base), point.data.n_effects
    origin = np.zeros((N, Q))
    modes = _climb(point, origin if start is None else start, max_iter)
    if start is not None:
        reach = np.maximum(np.abs(start), np.abs(modes.u)).max(axis=1, initial=0.0)
        far = np.flatnonzero((reach > FAR) | ~modes.converged)
        modes = _also(point, modes, origin, far, max_iter)
    return look_around(point, modes, np.arange(N)) if thorough else modes


def look_around(point: Point, modes: Modes, subjects: np.ndarray, *, max_iter: int = 200) -> Modes:
    """Lower modes of some subjects, from 0 and two standard deviations along each effect."""
    Q = modes.u.shape[1]
    for shift in (np.zeros(Q), *(-2.0 * np.eye(Q)), *(2.0 * np.eye(Q))):
        modes = _also(point, modes, np.tile(shift, (len(modes.u), 1)), subjects, max_iter)
    return modes


def _also(point: Point, modes: Modes, start: np.ndarray, subjects: np.ndarray, max_iter) -> Modes:
    if not len(subjects):
        return modes
    extra = _climb(point, start, max_iter, subjects)
    other = Modes(modes.u.copy(), modes.value.copy(), modes.converged.copy(), extra.n_iterations)
    for name in ("u", "value", "converged"):
        getattr(other, name)[subjects] = getattr(extra, name)
    return modes.keep_lower(other)


class _Active:
    """The subjects that still move: where they stand, and what is known there."""

    def __init__(self, point: Point, u: np.ndarray, subjects: np.ndarray):
        self.subjects, self.u = subjects, u
        self.damping = np.zeros(len(subjects))
        self.last = np.full(len(subjects), np.inf)  # the length of the last step
        self.exact = np.zeros(len(subjects), bool)
        self.value, self.gradient, self.half = derive(point, u, subjects)

    def keep(self, which: np.ndarray) -> None:
        for name in ("subjects", "u", "damping", "last", "exact", "value", "gradient", "half"):
            setattr(self, name, getattr(self, name)[which])


def derive(point: Point, u: np.ndarray, subjects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """l(u), its gradient, and half the Gauss-Newton curvature, in u."""
    with np.errstate(all="ignore"):
        at = point.rows(u, subjects)
        value, first, second, weight = point.slopes(at.f, subjects)
        weight = np.maximum(weight, 0.5 * second)
        total = value.sum(axis=1) + (u * u).sum(axis=1)
        a = at.a @ point.L
        gradient = (first[:, None] @ a)[:, 0] + 2.0 * u
        half = a.swapaxes(1, 2) @ (weight[:, :, None] * a) + np.eye(u.shape[1])
    bad = ~(np.isfinite(total) & np.isfinite(gradient).all(axis=1) & np.isfinite(half).all((1, 2)))
    if bad.any():
        total = np.where(bad, np.inf, total)
        gradient = np.where(bad[:, None], 0.0, gradient)
        half = np.where(bad[:, None, None], np.eye(u.shape[1]), half)
    return total, gradient, half


def exact_half(point: Point, u: np.ndarray, subjects=None) -> np.ndarray:
    """Half the exact second derivative of l by u, (subjects, Q, Q)."""
    at = point.rows(u, subjects)
    _, first, second, _ = point.slopes(at.f, subjects)
    a = at.a @ point.L
    curved = point.along(subjects).to_eta_twice(first, point.second(u, subjects))
    half = a.swapaxes(1, 2) @ (second[:, :, None] * a) + point.L.T @ curved @ point.L
    return 0.5 * half + np.eye(u.shape[1])


def _climb(point: Point, start: np.ndarray, max_iter: int, subjects=None) -> Modes:
    subjects = np.arange(len(start)) if subjects is None else subjects
    u, Q = start[subjects].copy(), start.shape[1]
    value, converged = np.full(len(subjects), np.inf), np.zeros(len(subjects), bool)
    place = np.empty(len(start), int)
    place[subjects] = np.arange(len(subjects))
    now, iteration = _Active(point, u.copy(), subjects), 0
    if Q == 0:
        return Modes(u, now.value, np.ones(len(u), bool), 0)
    while len(now.subjects) and iteration < max_iter:
        iteration += 1
        step = _step(now, point, iteration)
        done = _move(now, point, step)
        at = place[now.subjects]
        u[at], value[at] = now.u, now.value
        converged[at[done]] = True
        now.keep(~done & (now.damping < STUCK))
    return Modes(u, value, converged, iteration)


def _step(now: _Active, point: Point, iteration: int) -> np.ndarray:
    """The next step of each subject, on the exact curvature where it is close."""
    wants = (now.last < NEAR) | (iteration % PATIENCE == 0)
    half, now.exact[:] = now.half, False
    if wants.any():
        which = np.flatnonzero(wants)
        with np.errstate(all="ignore"):
            exact = exact_half(point, now.u[which], now.subjects[which])
        good = _positive(exact)
        half = half.copy()
        half[which[good]] = exact[good]
        now.exact[which[good]] = True
    Q = now.u.shape[1]
    size = np.diagonal(half, axis1=1, axis2=2)
    damped = half + (now.damping[:, None] * size)[:, :, None] * np.eye(Q)
    step = -0.5 * _solve(damped, now.gradient)
    length = np.abs(step).max(axis=1)
    return step * np.minimum(1.0, LONGEST / np.maximum(length, 1e-300))[:, None]


def _solve(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^-1 b; where the rows so outweigh the identity that A is singular, about that."""
    try:
        return np.linalg.solve(A, b[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        size = np.sqrt(np.diagonal(A, axis1=1, axis2=2))
        scaled = A / (size[:, :, None] * size[:, None]) + 1e-12 * np.eye(A.shape[1])
        return np.linalg.solve(scaled, (b / size)[:, :, None])[:, :, 0] / size


def _positive(A: np.ndarray) -> np.ndarray:
    try:
        np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        finite = np.isfinite(A).all(axis=(1, 2))
        least = np.linalg.eigvalsh(np.where(finite[:, None, None], A, -np.eye(A.shape[1])))
        return least[:, 0] > 0
    return np.ones(len(A), bool)


def _move(now: _Active, point: Point, step: np.ndarray) -> np.ndarray:
    """Take the steps that descend, damp the others more; which subjects have converged."""
    length = np.abs(step).max(axis=1)
    value, gradient, half = derive(point, now.u + step, now.subjects)
    noise = ROUNDING * (1.0 + np.abs(now.value))
    small = (length < np.where(now.exact, SMALL, SMALLER)) & (value <= now.value + noise)
    good = np.isfinite(value) & ((value < now.value) | small | (length < TOLERANCE))
    done = good & (now.damping == 0) & (length < np.where(now.exact, SQUARED, TOLERANCE))
    now.u = np.where(good[:, None], now.u + step, now.u)
    now.value = np.where(good, value, now.value)
    now.gradient = np.where(good[:, None], gradient, now.gradient)
    now.half = np.where(good[:, None, None], half, now.half)
    now.last = np.where(good, length, np.inf)
    raised = np.where(now.exact, now.damping, np.maximum(4.0 * now.damping, 0.25))
    now.damping = np.where(good, np.where(now.damping > 0.05, now.damping / 5.0, 0.0), raised)
    return done
