"""The modified Newton method on theta, for many responses at once, and its certificate.

Every step descends: the Hessian is scaled by its diagonal and its eigenvalues are replaced by
their absolute values, so that a saddle point (a variance at zero that wants to leave) pushes
outwards. theta is unconstrained; its sign does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sklme._engine.covariance import Charts
from sklme._engine.records import Evaluation, Optimization

Evaluate = Callable[[np.ndarray, np.ndarray], Evaluation]

FLAT = 1e-9  # scaled curvature below this counts as none
BLIND = 1e-4  # a decrement below this that no step improves is rounding
SADDLE = -1e-3  # scaled curvature below this is a way down
SURE = 1e-3  # a decrement below this is in the region of fast convergence
SHORT = 0.01  # a longer step, relative to theta, is along a flat direction and wants a look
NEAR = 2.0  # after a decrement below this the exact Hessian is trusted
STRAIGHT = 0.1  # over a step of a decrement below this the gradient changes as the Hessian says


@dataclass
class _State:
    """Where each response stands; `members` numbers them as `evaluate` and the charts do."""

    members: np.ndarray
    theta: np.ndarray
    at: Evaluation
    n_evaluations: np.ndarray
    decrement: np.ndarray
    converged: np.ndarray
    missing: np.ndarray  # what the steps have shown to be missing in the Hessian, (r, m, m)


def minimise(
    evaluate: Evaluate,
    charts: Charts,
    members: np.ndarray,
    start: np.ndarray,
    *,
    tol: float,
    max_iter: int,
    learn: bool = False,
    progress: Callable | None = None,
) -> tuple[np.ndarray, Optimization]:
    """Minimise the criterion over theta for the responses `members`, one row of `start` each.

    `evaluate(theta, which)` gives value and derivatives for the responses `which`. `learn`: its
    Hessian is not exact, so complete it from how the gradient changes.
    """
    r, theta = len(members), start.copy()
    state = _State(
        members,
        theta,
        evaluate(theta, members),
        np.ones(r, int),
        np.full(r, np.inf),
        np.zeros(r, bool),
        np.zeros((r, theta.shape[1], theta.shape[1])),
    )
    active = np.arange(r)
    for iteration in range(max_iter):
        active = _iterate(evaluate, state, active, tol, learn)
        if progress is not None:
            progress(iteration, state.at.value, state.decrement, state.converged)
        if not len(active):
            break
        if iteration % 8 == 5:
            _reorder(evaluate, charts, state, active)
    if not state.converged.all():
        _, state.decrement, saddle = _directions(state.at, state.missing, state.decrement)
        state.converged |= (state.decrement <= np.maximum(tol, _rounding(state.at))) & ~saddle
    return state.theta, Optimization(
        gradient_norm=np.abs(state.at.gradient).max(axis=1, initial=0.0),
        decrement=state.decrement,
        n_evaluations=state.n_evaluations,
        converged=state.converged,
    )


def _iterate(evaluate, state: _State, active: np.ndarray, tol: float, learn: bool) -> np.ndarray:
    """One Newton step for the active responses; returns those that go on."""
    here = state.at if len(active) == len(state.theta) else state.at.take(active)
    step, decrement, saddle = _directions(here, state.missing[active], state.decrement[active])
    before = state.decrement[active]
    stalled = (decrement <= _rounding(here)) & (decrement >= 0.25 * before)
    state.decrement[active] = decrement
    state.converged[active] = ((decrement <= tol) | stalled) & ~saddle
    _take_last_steps(state, active, step, before, tol, ~saddle & ~state.converged[active])
    go = ~state.converged[active]
    active, step, decrement = active[go], step[go], decrement[go]
    before = state.theta[active], state.at.gradient[active]
    moved = _descend(evaluate, state, active, _capped(step, state.theta[active]), decrement)
    state.converged[active[~moved]] = decrement[~moved] <= BLIND
    if learn:
        near = moved & (decrement <= STRAIGHT)
        _learn(state, active[near], *(x[near] for x in before))
    return active[moved]


def _take_last_steps(state: _State, active, step, before, tol: float, allowed) -> None:
    """Steps that need no evaluation after them: their decrement will be below the tolerance.

    Near the optimum each step shrinks the decrement by a larger factor than the one before, so
    that factor bounds the next decrement.
    """
    decrement = state.decrement[active]
    bound = decrement**2 / np.maximum(before, 1e-300)
    size = np.maximum(np.abs(state.theta[active]).max(axis=1, initial=0.0), 0.5)
    short = np.abs(step).max(axis=1, initial=0.0) <= SHORT * size
    last = allowed & short & (decrement <= SURE) & (before <= NEAR) & (bound <= tol)
    who = active[last]
    state.theta[who] += step[last]
    state.decrement[who] = bound[last]
    state.converged[who] = True


def _learn(state: _State, who: np.ndarray, theta: np.ndarray, gradient: np.ndarray) -> None:
    """Symmetric rank-one update of what the Hessian misses (Nocedal and Wright 2006, eq. 6.24).

    The average information leaves out a part that shows in how the gradient changed.
    """
    step = state.theta[who] - theta
    hessian = state.at.observed[who] + state.missing[who]
    error = state.at.gradient[who] - gradient - np.einsum("rij,rj->ri", hessian, step)
    along = np.einsum("ri,ri->r", error, step)
    size = np.linalg.norm(error, axis=1) * np.linalg.norm(step, axis=1)
    use = np.abs(along) > 1e-6 * size
    outer = error[use, :, None] * error[use, None, :]
    state.missing[who[use]] += outer / along[use, None, None]


def _reorder(evaluate: Evaluate, charts: Charts, state: _State, active: np.ndarray) -> None:
    """Let the slow ones change to a better chart of the same covariance."""
    theta, changed = charts.reorder(state.theta[active], state.members[active])
    who = active[changed]
    if len(who):
        state.theta[who] = theta[changed]
        state.missing[who] = 0.0
        state.at.put(who, evaluate(state.theta[who], state.members[who]))
        state.n_evaluations[who] += 1


def _rounding(at: Evaluation) -> np.ndarray:
    """The decrement below which the criterion itself is blind."""
    return 4.0 * np.sqrt(at.noise)


def _descend(evaluate, state, active, step, decrement) -> np.ndarray:
    """Take the step, shortened until the criterion falls; returns which responses moved."""
    moved = np.zeros(len(active), bool)
    size = 1.0
    while size > 1e-6 and not moved.all():
        left = np.flatnonzero(~moved)
        which = active[left]
        trial = state.theta[which] + size * step[left]
        new = evaluate(trial, state.members[which])
        state.n_evaluations[which] += 1
        needed = state.at.value[which] - 1e-4 * size * decrement[left] ** 2
        good = np.isfinite(new.value) & (new.value <= needed + 2.0 * new.noise)
        if good.all() and len(good) == len(state.theta):
            state.at, state.theta = new, trial
        else:
            state.at.put(which[good], new.take(good))
            state.theta[which[good]] = trial[good]
        moved[left[good]] = True
        size *= 0.25
    return moved


def _directions(at: Evaluation, missing, previous: np.ndarray):
    """Newton step, decrement and whether the point is a saddle, for each response.

    Far away the average information is the better guide, near the optimum the exact Hessian.
    """
    near = previous <= NEAR
    if not near.any():
        return _solve(at.gradient, at.average)
    hessian = np.where(near[:, None, None], at.observed + missing, at.average)
    step, decrement, saddle = _solve(at.gradient, hessian)
    wrong = near & saddle
    if wrong.any():
        parts = zip(
            (step, decrement, saddle), _solve(at.gradient[wrong], at.average[wrong]), strict=True
        )
        for old, new in parts:
            old[wrong] = new
    return step, decrement, saddle


def _solve(gradient, hessian) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    diagonal = np.abs(np.einsum("rii->ri", hessian))
    floor = 1e-10 * diagonal.max(axis=1, keepdims=True, initial=0.0) + 1e-300
    scale = 1.0 / np.sqrt(np.maximum(diagonal, floor))
    w, V = np.linalg.eigh(hessian * scale[:, :, None] * scale[:, None, :])
    g = np.einsum("rij,ri->rj", V, gradient * scale)
    curvature = np.maximum(np.abs(w), FLAT)
    along = -g / curvature
    push = np.where(g > 0, -1.0, 1.0) * np.maximum(np.abs(along), 0.5)
    along = np.where(w < SADDLE, push, along)
    step = np.einsum("rij,rj->ri", V, along) * scale
    decrement = np.sqrt((g**2 / curvature).sum(axis=1))
    return step, decrement, np.any(w < SADDLE, axis=1)


def _capped(step: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """No step longer than three times theta itself: far from the optimum the model is local."""
    length = np.abs(step).max(axis=1, initial=0.0)
    limit = 3.0 * np.maximum(np.abs(theta).max(axis=1, initial=0.0), 0.5)
    return step * np.minimum(1.0, limit / np.maximum(length, 1e-300))[:, None]
