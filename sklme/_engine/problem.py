"""What is optimised and solved: one factor, several, or none, behind the same three methods."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklme._engine import crossed, single, small
from sklme._engine.alike import condense
from sklme._engine.covariance import Charts, Structure
from sklme._engine.fixed import solve_fixed
from sklme._engine.gram import Gram, output
from sklme._engine.newton import Evaluate, minimise
from sklme._engine.records import Optimization, Solution
from sklme._engine.small import is_small
from sklme._engine.start import starting_factors
from sklme._engine.system import System

MANY = 8  # responses from which on levels are condensed
NEAR_ZERO = 1e-5  # Lambda^2 times the typical Z'Z of a level; below this zero is tried
RECORDED = ("gradient_norm", "decrement", "n_evaluations", "converged")


def make_problem(gram: Gram, structures: tuple[Structure, ...], reml: bool):
    """The solver for these factors: `optimise` theta, `solve` at theta, `effects` at beta."""
    if not structures:
        return LeastSquares(gram, reml)
    one = len(structures) == 1
    if is_small(gram, structures) and not (one and gram.n_outputs > 1):
        return FewEffects(gram, structures, reml)
    return (SingleFactor if one else SeveralFactors)(gram, structures, reml)


class SingleFactor:
    """One factor: all responses at once."""

    def __init__(self, gram: Gram, structures: tuple[Structure, ...], reml: bool):
        self.gram, self.structures, self.reml = gram, structures, reml
        self.few = condense(gram) if gram.n_outputs >= MANY else gram
        self.latest: dict = {}

    def optimise(self, which, tol, max_iter, progress):
        charts = Charts(self.structures, self.gram.n_outputs)
        evaluate = single.criterion(self.few, charts, reml=self.reml, latest=self.latest)
        return _search(evaluate, charts, which, tol, max_iter, progress, self.gram)

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        found = single.solution(self.few, Lambdas, reml=self.reml, latest=self.latest)
        if self.few is self.gram:
            return found
        return replace(found, effects=self.effects(Lambdas, found.beta))

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> tuple[np.ndarray, ...]:
        D = single.posterior_factor(self.gram, Lambdas[0])
        f = self.gram.factors[0]
        e = f.zy - np.einsum("apg,rp->arg", f.zx, beta)
        return (np.einsum("abrg,brg->arg", D, e),)


class _OneByOne:
    """One response after the other; `solvers` holds what each of them needs."""

    exact = True  # whether the Hessian is

    def __init__(self, gram: Gram, structures: tuple[Structure, ...], reml: bool):
        self.structures, self.reml = structures, reml
        self.grams = [output(gram, r) for r in range(gram.n_outputs)]
        self.solvers = self._solvers()

    def _solvers(self) -> list[Any]:
        raise NotImplementedError

    def optimise(self, which, tol, max_iter, progress):
        results = []
        for use, solver, g in zip(which, self.solvers, self.grams, strict=True):
            charts = Charts(self.structures, 1)
            evaluate, use = solver.criterion(charts), np.array([use])
            found = _search(evaluate, charts, use, tol, max_iter, progress, g, exact=self.exact)
            results.append(found)
        Lambdas = [np.concatenate(parts) for parts in zip(*(r[0] for r in results), strict=True)]
        return Lambdas, _joined([r[1] for r in results])

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        parts = [s.solution([L[r : r + 1] for L in Lambdas]) for r, s in enumerate(self.solvers)]
        return parts[0] if len(parts) == 1 else Solution.join(parts)

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = [s.effects([L[r] for L in Lambdas], beta[r]) for r, s in enumerate(self.solvers)]
        return tuple(np.stack(b, axis=1) for b in zip(*parts, strict=True))


class FewEffects(_OneByOne):
    """So few effects in all that one dense matrix is quickest."""

    def _solvers(self):
        return [small.SmallProblem(g, self.reml) for g in self.grams]


class SeveralFactors(_OneByOne):
    """Several factors, laid out for elimination once for all responses."""

    exact = False

    def _solvers(self):
        first = System(self.grams[0])
        return [_Elimination(first.with_response(g), self.reml) for g in self.grams]


@dataclass(frozen=True)
class _Elimination:
    """The functions of `crossed` for one response."""

    system: System
    reml: bool

    def criterion(self, charts: Charts) -> Evaluate:
        return crossed.criterion(self.system, charts, reml=self.reml, rough=True)

    def solution(self, Lambdas: list[np.ndarray]) -> Solution:
        return crossed.solution(self.system, Lambdas, reml=self.reml)

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> list[np.ndarray]:
        return crossed.effects(self.system, Lambdas, beta)


class LeastSquares:
    """No random effects: least squares."""

    def __init__(self, gram: Gram, reml: bool):
        self.gram, self.reml = gram, reml

    def optimise(self, which, tol, max_iter, progress):
        return [], _no_search(self.gram.n_outputs)

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        g, r = self.gram, self.gram.n_outputs
        xvx = np.broadcast_to(g.xx, (r, *g.xx.shape))
        fixed = solve_fixed(
            xvx, g.xy.T, g.yy, (np.diag(g.xx), g.yy), np.zeros(r), g.total, self.reml
        )
        return Solution(fixed.beta, xvx, fixed.rss, np.zeros(r), ())

    def effects(self, Lambdas, beta) -> tuple:
        return ()


def _search(
    evaluate: Evaluate, charts: Charts, which, tol, max_iter, progress, gram: Gram, exact=True
):
    """Optimise the responses `which`, then try zero for variances that are almost there."""
    n, members = len(which), np.flatnonzero(which)
    first = starting_factors(gram, charts.structures)
    diagonal = [s.theta(Lambda) for s, Lambda in zip(charts.structures, first, strict=True)]
    theta, record = np.concatenate(diagonal, axis=1), _no_search(n)
    theta[~which] = 0.0
    if theta.shape[1] and len(members):
        best, found = minimise(
            evaluate,
            charts,
            members,
            theta[members],
            tol=tol,
            max_iter=max_iter,
            learn=not exact,
            progress=progress,
        )
        theta[members] = settle_at_zero(evaluate, charts, best, members, gram)
        for name in RECORDED:
            getattr(record, name)[members] = getattr(found, name)
    return charts.factors(theta, np.arange(n)), record


def settle_at_zero(evaluate, charts: Charts, theta, which, gram: Gram) -> np.ndarray:
    """Directions of Lambda that are almost zero become exactly zero where that is no worse."""
    Lambdas = charts.factors(theta, which)
    changed = np.zeros(len(which), bool)
    for t, (f, s) in enumerate(zip(gram.factors, charts.structures, strict=True)):
        typical = np.trace(f.zz.sum(axis=2)) / (f.k * f.n_levels)
        for block in s.blocks:
            if _far_from_singular(Lambdas[t], block, typical):
                continue
            at = np.ix_(np.arange(len(which)), np.array(block), np.array(block))
            U, size, Vt = np.linalg.svd(Lambdas[t][at])
            small = (size**2 * typical < NEAR_ZERO) & (size > 0)
            changed |= small.any(axis=1)
            Lambdas[t][at] = (U * np.where(small, 0.0, size)[:, None, :]) @ Vt
    if changed.any():
        trial = charts.theta([L[changed] for L in Lambdas], which[changed])
        before, after = evaluate(theta[changed], which[changed]), evaluate(trial, which[changed])
        better = after.value <= before.value + 1e-9 + 4.0 * before.noise
        theta[np.flatnonzero(changed)[better]] = trial[better]
    return theta


def _far_from_singular(Lambda: np.ndarray, block, typical: float) -> bool:
    """Whether no singular value can be near zero: the least is at least |det| / norm^(k - 1)."""
    if len(block) == 1:
        return bool((Lambda[:, block, block] ** 2 * typical >= NEAR_ZERO).all())
    part = Lambda[:, block][:, :, block]
    norm = np.sqrt((part**2).sum(axis=(1, 2)))
    least = np.abs(np.linalg.det(part)) / np.maximum(norm, 1e-300) ** (len(block) - 1)
    return bool((least**2 * typical >= NEAR_ZERO).all())


def _no_search(n: int) -> Optimization:
    return Optimization(np.zeros(n), np.zeros(n), np.ones(n, int), np.ones(n, bool))


def _joined(records: list[Optimization]) -> Optimization:
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(r, name) for r in records]) for name in RECORDED
    }
    return replace(records[0], **parts)
