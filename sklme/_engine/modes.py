"""Conditional modes: the effects that are most probable given the data, at fixed parameters.

The mode of log p(y | b) - b' Sigma^-1 b / 2 with Sigma = Lambda Lambda' is found by penalised
iteratively reweighted least squares (Breslow and Clayton 1993): with the gradient Z'r and the
curvature Z'WZ of the log-likelihood, each step solves the linear mixed model of the working
response. Effects are held as scores s with
b = Sigma s, so that a variance may be zero: the penalty is s'b / 2, and s = Z'r at the mode.
What the model of the rows is, only the caller knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sklme._engine.selected import PosteriorEntries, posterior_entries, score_products
from sklme._engine.sweep import Factorisation, factorise
from sklme._engine.system import Stacks, System

CLOSE = 1e-18  # squared length of a step that is as good as none
ROUNDING = 1e-8  # squared length of a last step that no longer helps
SHORTEST = 1e-12  # share of a step
SHORT = 0.1  # squared length of a step that is safe
SLACK = 1e-12  # relative fall of the criterion that is rounding


@dataclass(frozen=True)
class Local:
    """The log-likelihood of the rows near some effects.

    value : of all rows; by_block : by level of the only factor, or (1,) of all rows together
    gradient : Z'r by factor, (k, n_levels)
    pulled : Z'(W Z b + r) by factor
    system : Z'WZ with the observed weights W
    positive : makes the same with weights that are not negative
    detail : what the caller wants to find again
    """

    value: float
    by_block: Callable[[], np.ndarray]
    gradient: Stacks
    pulled: Stacks
    system: System
    positive: Callable[[], tuple[System, Stacks]]
    detail: Any = None


@dataclass(frozen=True)
class Modes:
    """The modes b = Sigma s, what the rows say there, and Z'WZ factored; `found` tells success."""

    scores: Stacks
    b: Stacks
    local: Local
    at: Factorisation
    found: bool

    @property
    def proper(self) -> bool:
        """Whether they were found and are maxima: I + Lambda'Z'WZ Lambda is positive definite."""
        variances = [D[a, a].min() for D in self.at.D.values() for a in range(len(D))]
        return self.found and bool(np.isfinite(self.at.log_det)) and min(variances) >= 0

    @property
    def height(self) -> float:
        """The log-likelihood less the penalty and half of log |I + Sigma Z'WZ|, or -inf."""
        return self.local.value - self.penalty - 0.5 * self.at.log_det if self.proper else -np.inf

    @cached_property
    def entries(self) -> PosteriorEntries:
        """Posterior covariances of the effects where levels meet."""
        return posterior_entries(self.at)

    @cached_property
    def products(self) -> Stacks:
        """sum over levels of [Z'V^-1Z]_ll of every factor."""
        return score_products(self.at, self.entries)

    @property
    def penalty(self) -> float:
        """b' Sigma^-1 b / 2."""
        return 0.5 * float(sum(np.vdot(s, b) for s, b in zip(self.scores, self.b, strict=True)))


def conditional_modes(
    local: Callable[[Stacks], Local],
    Lambdas: list[np.ndarray],
    scores: Stacks,
    close: float = CLOSE,
    max_steps: int = 60,
) -> Modes:
    """Climb from b = Sigma scores to the mode, every level of a single factor at its own pace.

    close : squared length of a step, in standard deviations of the effects, that ends the climb
    """
    b = spread(Lambdas, scores)
    here = local(b)
    for _ in range(max_steps):
        at, new, gain = _newton_step(here, Lambdas, scores, b)
        if not np.isfinite(gain).all():
            if not any(s.any() for s in scores):
                break
            scores, b = [0.0 * s for s in scores], [0.0 * x for x in b]  # too far out: begin anew
            here = local(b)
            continue
        if gain.sum() <= close:
            return Modes(scores, b, here, factorise(here.system, Lambdas), True)
        moved = _climb(local, here, (scores, b), new, gain)
        if moved is None:  # no way up: rounding, or there is no mode
            at = factorise(here.system, Lambdas)
            return Modes(scores, b, here, at, bool(gain.sum() <= ROUNDING))
        scores, b, here = moved
    return Modes(scores, b, here, factorise(here.system, Lambdas), False)


def spread(Lambdas: list[np.ndarray], scores: Stacks) -> Stacks:
    """b = Lambda Lambda' s."""
    return [L @ (L.T @ s) for L, s in zip(Lambdas, scores, strict=True)]


def _newton_step(here: Local, Lambdas, scores: Stacks, b: Stacks):
    """The solution of the working model, and by block the squared length of the step to it."""
    at, new = _solve(here.system, here.pulled, Lambdas)
    gain = _gain(here, scores, b, new)
    if not (np.isfinite(at.log_det) and (gain >= -CLOSE).all()):
        at, new = _solve(*here.positive(), Lambdas)
        gain = _gain(here, scores, b, new)
    return at, new, gain if np.isfinite(at.log_det) else np.full_like(gain, np.nan)


def _solve(system: System, pulled: Stacks, Lambdas):
    at = factorise(system, Lambdas)
    b, scores = at.posterior([e[:, None, :] for e in pulled])
    return at, ([s[:, 0] for s in scores], [x[:, 0] for x in b])


def _gain(here: Local, scores: Stacks, b: Stacks, new) -> np.ndarray:
    """The step times the gradient Z'r - s of the criterion: its squared length in H."""
    parts = zip(new[1], b, here.gradient, scores, strict=True)
    return _by_block([(x - y) * (g - s) for x, y, g, s in parts])


def _by_block(parts: Stacks) -> np.ndarray:
    if len(parts) == 1:
        return parts[0].sum(axis=0)
    return np.array([float(sum(part.sum() for part in parts))])


def _climb(local, here: Local, old, new, gain: np.ndarray):
    """The step, shortened block by block until the criterion rises; None if it never does.

    A step that is short everywhere is in the region where Newton's method converges, and needs no
    other proof than that the criterion did not fall in all.
    """
    total, size = _criterion(here, *old), np.ones(len(gain))
    there = local(new[1])
    if gain.max() <= SHORT and _criterion(there, *new) >= total - SLACK * (1.0 + abs(total)):
        return *new, there
    before, trial = _criteria(here, *old), new
    slack = SLACK * (1.0 + np.abs(before))
    while size.max() > SHORTEST:
        bad = ~(_criteria(there, *trial) >= before - slack)
        if not bad.any():
            return *trial, there
        size = np.where(bad, 0.25 * size, size)
        size[size <= SHORTEST] = 0.0
        trial = tuple(
            [o + size * (n - o) for o, n in zip(olds, news, strict=True)]
            for olds, news in zip(old, new, strict=True)
        )
        there = local(trial[1])
    return None


def _criterion(here: Local, scores: Stacks, b: Stacks) -> float:
    penalty = sum(float(np.vdot(s, x)) for s, x in zip(scores, b, strict=True))
    return here.value - 0.5 * penalty


def _criteria(here: Local, scores: Stacks, b: Stacks) -> np.ndarray:
    """The same block by block."""
    penalty = _by_block([s * x for s, x in zip(scores, b, strict=True)])
    return here.by_block() - 0.5 * penalty
