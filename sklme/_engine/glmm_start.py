"""Where the search for a generalised model begins: a model without effects, then moments."""

from dataclasses import replace

import numpy as np

from sklme._engine import curvature
from sklme._engine.glmm_rows import Prepared
from sklme._engine.laplace import UNITLESS, Laplace, Point, Rows

ENOUGH = 20_000  # rows that tell the fixed coefficients well enough to begin with
MOST_STEPS = 30
ROUGH = 0.1  # decrement at which the model without effects is good enough
LEAST, MOST = 0.05, 4.0  # variance of an effect: in its sampling variance, in a unit of eta


def starting_point(family, ready: Prepared) -> np.ndarray:
    """psi = (theta, beta, auxiliary coefficients) near enough for Newton's method."""
    rows = ready.rows
    step = max(1, rows.n // ENOUGH)
    some = rows if step == 1 else _take(family, rows, slice(None, None, step))
    problem = Laplace(family, replace(some, groupings=()), ())
    psi = _without_effects(problem, family, some)
    if not ready.structures:
        return psi
    return np.concatenate([_theta(family, ready, psi), psi])


def _without_effects(problem: Laplace, family, rows: Rows) -> np.ndarray:
    """The generalised linear model of the rows; a few Newton steps are enough."""
    eta, tau = family.start(rows.outcome)
    phi = [np.eye(len(A))[0] * t for A, t in zip(rows.aux, tau, strict=True)]
    target = eta if rows.offset is None else eta - rows.offset
    size = _sizes(rows.outcome)
    root = np.sqrt(size)
    beta = np.linalg.lstsq((root * rows.X).T, root * target, rcond=None)[0]
    psi = np.concatenate([beta, *phi])
    point = problem.at(psi)
    if not np.isfinite(point.value):
        psi[: len(beta)] = np.average(target, weights=size) * np.eye(len(beta))[:1].sum(axis=0)
        point = problem.at(psi)
    return _climb(problem, point)


def _climb(problem: Laplace, point: Point) -> np.ndarray:
    """Newton steps without effects, shortened until the likelihood rises."""
    for _ in range(MOST_STEPS):
        step, decrement = _newton_step(problem, point)
        if decrement < ROUGH:
            break
        higher = _higher(problem, point, step)
        if higher is None:
            break
        point = higher
    return point.psi


def _newton_step(problem: Laplace, point: Point) -> tuple[np.ndarray, float]:
    gradient, H = problem.gradient(point), curvature.approximate(problem, point, [])
    w, V = np.linalg.eigh(H)
    w = np.maximum(np.abs(w), 1e-10 * np.abs(w).max(initial=1e-300))
    along = V.T @ gradient
    return V @ (-along / w), float(np.sqrt((along**2 / w).sum()))


def _higher(problem: Laplace, point: Point, step: np.ndarray) -> Point | None:
    for size in 4.0 ** -np.arange(6):
        there = problem.at(point.psi + size * step)
        if there.value > point.value:
            return there
    return None


def _sizes(outcome) -> np.ndarray:
    """How many observations stand behind each row."""
    size = np.ones(len(outcome.y)) if outcome.weights is None else outcome.weights
    return size if outcome.trials is None else size * outcome.trials


def _theta(family, ready: Prepared, psi: np.ndarray) -> np.ndarray:
    """Diagonal Lambda from the spread of the scores Z'r, whose variance is A + A Sigma A."""
    rows = ready.rows
    plain = Laplace(family, replace(rows, groupings=()), ())
    terms = plain.at(psi).terms
    weights = np.maximum(-terms.second, 0.0)
    most = MOST if family.link.name in UNITLESS else np.inf
    parts = []
    for g, s in zip(rows.groupings, ready.structures, strict=True):
        score = g.sums(terms.first[None])[:, 0]
        size = np.einsum("aaq->aq", g.squares(weights))
        excess = (score**2 - size).sum(axis=1) / len(rows.groupings)
        typical = (size**2).sum(axis=1)
        variance = excess / np.where(typical > 0, typical, 1.0)
        least = LEAST / np.maximum(size.mean(axis=1), 1e-300)
        root = np.sqrt(np.clip(variance, np.minimum(least, most), most))
        parts.append(s.theta(np.diag(root)))
    return np.concatenate(parts)


def _take(family, rows: Rows, which) -> Rows:
    """Some of the rows, without groups."""
    o = rows.outcome
    some = [None if a is None else a[which] for a in (o.y, o.trials, o.weights)]
    return Rows(
        rows.X[:, which],
        None if rows.offset is None else rows.offset[which],
        (),
        family.outcome(*some),
        tuple(A if A.shape[1] == 1 else A[:, which] for A in rows.aux),
    )
