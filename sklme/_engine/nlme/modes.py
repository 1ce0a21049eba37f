"""The mode of every subject's criterion, for many subjects at once.

Levenberg (1944) and Marquardt (1963) steps on the Gauss-Newton curvature, then Newton's steps on
the exact one where that is positive definite. What has converged is left out. The objective is
stationary in the parameters at the mode but not in the mode itself, whose error enters at first
order through the curvature: hence the tight tolerance.
"""

from dataclasses import dataclass, fields

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

    def take(self, which: np.ndarray) -> "Modes":
        """Some of them."""
        return Modes(self.u[which], self.value[which], self.converged[which], self.n_iterations)

    def keep_lower(self, other: "Modes", subjects: np.ndarray) -> "Modes":
        """The lower of the two for some subjects, whose other modes these are."""
        value = self.value[subjects]
        lower = ~(value <= other.value + APART * (1.0 + np.abs(other.value)))
        if not lower.any():
            return self
        where = np.arange(len(self.u))[subjects][lower]
        kept = Modes(self.u.copy(), self.value.copy(), self.converged.copy(), self.n_iterations)
        for name in ("u", "value", "converged"):
            getattr(kept, name)[where] = getattr(other, name)[lower]
        return kept


def find_modes(
    point: Point, start: np.ndarray | None = None, *, thorough: bool = False, max_iter: int = 200
) -> Modes:
    """The mode of each subject, from 0 or from `start` (N, Q).

    Where a start or its mode is far from 0 the search from 0 is made too and the lower mode kept,
    so that the outcome depends on the parameters and not on what was tried before. `thorough`: also
    `look_around` for every subject.
    """
    N, Q = len(point.base), point.data.n_effects
    origin, everyone = np.zeros((N, Q)), np.arange(N)
    if start is None:
        modes = _climb(point, origin, everyone, max_iter)
    else:
        far = np.abs(start).max(axis=1, initial=0.0) > FAR
        starts, subjects = np.concatenate([start, origin[far]]), np.append(everyone, everyone[far])
        found = _climb(point, starts, subjects, max_iter, warm=np.arange(len(starts)) < N)
        modes = found.take(everyone).keep_lower(found.take(np.arange(N, len(starts))), far)
        late = (np.abs(modes.u).max(axis=1, initial=0.0) > FAR) | ~modes.converged
        modes = _also(point, modes, origin[:1], everyone[late & ~far], max_iter)
    return look_around(point, modes, everyone) if thorough else modes


def look_around(point: Point, modes: Modes, subjects: np.ndarray, *, max_iter: int = 200) -> Modes:
    """Lower modes of some subjects, from 0 and two standard deviations along each effect."""
    Q = modes.u.shape[1]
    shifts = np.concatenate([np.zeros((1, Q)), -2.0 * np.eye(Q), 2.0 * np.eye(Q)])
    return _also(point, modes, shifts, subjects, max_iter)


def _also(point: Point, modes: Modes, starts: np.ndarray, subjects: np.ndarray, max_iter) -> Modes:
    """The lowest modes of some subjects from `starts` (k, Q) too, all searched at once."""
    N, k = len(subjects), len(starts)
    if not N:
        return modes
    extra = _climb(point, np.repeat(starts, N, axis=0), np.tile(subjects, k), max_iter)
    lowest = extra.value.reshape(k, N).argmin(axis=0) * N + np.arange(N)
    return modes.keep_lower(extra.take(lowest), subjects)


class _Active:
    """The subjects that still move: where they stand, and what is known there."""

    def __init__(self, point: Point, u: np.ndarray, subjects: np.ndarray):
        self.subjects, self.u = subjects, u
        self.damping = np.zeros(len(subjects))
        self.last = np.full(len(subjects), np.inf)  # the length of the last step
        self.exact = np.zeros(len(subjects), bool)
        self.at = derive(point, u, subjects)

    def keep(self, which: np.ndarray) -> None:
        if which.all():
            return
        self.at = self.at.take(which)
        for name in ("subjects", "u", "damping", "last", "exact"):
            setattr(self, name, getattr(self, name)[which])


@dataclass(frozen=True)
class Slopes:
    """l(u) of some subjects, its gradient, and half the Gauss-Newton curvature, in u.

    a (subjects, n, Q) : df/du; first, second (subjects, n) : the derivatives of the loss by f
    """

    value: np.ndarray
    gradient: np.ndarray
    half: np.ndarray
    a: np.ndarray
    first: np.ndarray
    second: np.ndarray

    def take(self, which: np.ndarray) -> "Slopes":
        """Of some of the subjects."""
        return Slopes(*(getattr(self, field.name)[which] for field in fields(self)))

    def replace(self, which: np.ndarray, other: "Slopes") -> "Slopes":
        """With those of `other` for some of the subjects."""
        if which.all():
            return other
        for field in fields(self):
            getattr(self, field.name)[which] = getattr(other, field.name)[which]
        return self


def derive(point: Point, u: np.ndarray, subjects) -> Slopes:
    """The criterion of some subjects at u."""
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
    return Slopes(total, gradient, half, a, first, second)


def exact_half(point: Point, u: np.ndarray, subjects=None, at: Slopes | None = None) -> np.ndarray:
    """Half the exact second derivative of l by u, (subjects, Q, Q); `at` as `derive` has it."""
    at = derive(point, u, subjects) if at is None else at
    curved = point.along(subjects).to_eta_twice(at.first, point.second(u, subjects))
    half = at.a.swapaxes(1, 2) @ (at.second[:, :, None] * at.a) + point.L.T @ curved @ point.L
    return 0.5 * half + np.eye(u.shape[1])


def _climb(
    point: Point,
    start: np.ndarray,
    subjects: np.ndarray,
    max_iter: int,
    warm: np.ndarray | bool = False,
) -> Modes:
    """From each row of `start` (k, Q) a mode of the subject (k,), which may come again.

    `warm`: where the exact curvature is tried at once.
    """
    now, iteration, place = _Active(point, start, subjects), 0, np.arange(len(subjects))
    now.last = np.where(warm, 0.0, now.last)
    u, value, converged = start.copy(), now.at.value.copy(), np.zeros(len(subjects), bool)
    if start.shape[1] == 0:
        return Modes(u, value, ~converged, 0)
    while len(place) and iteration < max_iter:
        iteration += 1
        step = _step(now, point, iteration)
        done = _move(now, point, step)
        u[place], value[place], converged[place] = now.u, now.at.value, done
        moves = ~done & (now.damping < STUCK)
        place = place[moves]
        now.keep(moves)
    return Modes(u, value, converged, iteration)


def _step(now: _Active, point: Point, iteration: int) -> np.ndarray:
    """The next step of each subject, on the exact curvature where it is close."""
    wants = (now.last < NEAR) | (iteration % PATIENCE == 0)
    half, now.exact[:] = now.at.half, False
    if wants.any():
        which = np.flatnonzero(wants)
        with np.errstate(all="ignore"):
            at = now.at if wants.all() else now.at.take(which)
            exact = exact_half(point, now.u[which], now.subjects[which], at)
        good = _positive(exact)
        half = half.copy()
        half[which[good]] = exact[good]
        now.exact[which[good]] = True
    Q = now.u.shape[1]
    size = np.diagonal(half, axis1=1, axis2=2)
    damped = half + (now.damping[:, None] * size)[:, :, None] * np.eye(Q)
    step = -0.5 * _solve(damped, now.at.gradient)
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
    before, new = now.at.value, derive(point, now.u + step, now.subjects)
    noise = ROUNDING * (1.0 + np.abs(before))
    small = (length < np.where(now.exact, SMALL, SMALLER)) & (new.value <= before + noise)
    good = np.isfinite(new.value) & ((new.value < before) | small | (length < TOLERANCE))
    done = good & (now.damping == 0) & (length < np.where(now.exact, SQUARED, TOLERANCE))
    now.u = np.where(good[:, None], now.u + step, now.u)
    now.at = now.at.replace(good, new)
    now.last = np.where(good, length, np.inf)
    raised = np.where(now.exact, now.damping, np.maximum(4.0 * now.damping, 0.25))
    now.damping = np.where(good, np.where(now.damping > 0.05, now.damping / 5.0, 0.0), raised)
    return done
