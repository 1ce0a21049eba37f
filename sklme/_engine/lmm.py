"""The linear mixed model from rows to a fitted record, for one or many responses."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sklme._engine import crossed, single
from sklme._engine.covariance import Charts, Structure, canonical
from sklme._engine.design import Design
from sklme._engine.fixed import EXACT, independent_columns, solve_fixed
from sklme._engine.gram import Frame, Gram, frame_of, gram, merge, output, select
from sklme._engine.identify import unidentified
from sklme._engine.newton import Evaluate, minimise
from sklme._engine.records import Optimization, Solution
from sklme._engine.refine import refine

NEAR_ZERO = 1e-5  # Lambda^2 times the typical Z'Z of a level; below this zero is tried
RECORDED = ("gradient_norm", "decrement", "n_evaluations", "converged")


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear mixed model, in the coordinates of its frame; no rows.

    columns : which columns of X (with the intercept first) were kept
    Lambdas : (n_outputs, k, k) relative covariance factor of each factor
    beta, xvx : of the kept columns; s2 : residual variance, all in units of the frame
    effects : (k, n_outputs, n_levels) of each factor
    criterion : -2 log-likelihood in units of the data, all constants included
    nu : N - p under REML, N under ML
    """

    frame: Frame
    gram: Gram
    intercept: bool
    reml: bool
    columns: np.ndarray
    structures: tuple[Structure, ...]
    Lambdas: tuple[np.ndarray, ...]
    beta: np.ndarray
    xvx: np.ndarray
    s2: np.ndarray
    nu: float
    effects: tuple[np.ndarray, ...]
    criterion: np.ndarray
    optimization: Optimization
    unidentified: tuple[tuple[int, ...], ...]


def fit(
    design: Design,
    y: np.ndarray,
    structures: tuple[Structure, ...],
    *,
    reml: bool = True,
    precision: bool = False,
    tol: float = 1e-8,
    max_iter: int = 100,
    progress: Callable | None = None,
) -> LinearFit:
    """Estimate theta by ML or REML and everything that follows from it.

    y : (n, n_outputs). precision : the weights are inverse variances and N counts rows, else they
    are frequencies and N is their sum.
    """
    frame = frame_of(design, y, structures)
    whole = gram(design, y, frame)
    total = float(whole.n_rows) if precision else whole.total
    columns = independent_columns(whole.xx)
    if total < columns.sum() + bool(structures):  # least squares may fit exactly
        raise ValueError(_too_few(total, int(columns.sum()), precision))
    kept = replace(select(whole, np.flatnonzero(columns)), total=total)
    zeros = unidentified(kept, structures)
    reduced = tuple(s.without(z) for s, z in zip(structures, zeros, strict=True))
    exact = _fitted_exactly(kept)
    problem = _problem(kept, reduced, reml)
    Lambdas, record = problem.optimise(~exact, tol, max_iter, progress)
    found = problem.solve(Lambdas)
    found = refine(design, y, frame, kept, columns, Lambdas, found)
    nu = total - (columns.sum() if reml else 0)
    s2 = np.where(exact, 0.0, found.rss / max(nu, 1e-300))
    exact = exact | (found.rss <= EXACT * kept.yy)
    return LinearFit(
        frame,
        replace(whole, total=total),
        design.intercept,
        reml,
        columns,
        reduced,
        tuple(Lambdas),
        found.beta,
        found.xvx,
        s2,
        nu,
        found.effects,
        _criterion(found, kept, frame, columns, design.intercept, reml, precision, exact),
        replace(record, exact_fit=exact),
        zeros,
    )


def adapt(fit: LinearFit, design: Design, y: np.ndarray) -> LinearFit:
    """What is known of the levels with the rows of `design` added; beta and theta stay.

    New levels are numbered after the known ones.
    """
    more = merge(fit.gram, gram(design, y, fit.frame))
    kept = select(more, np.flatnonzero(fit.columns))
    problem = _problem(kept, fit.structures, fit.reml)
    return replace(fit, gram=more, effects=problem.effects(list(fit.Lambdas), fit.beta))


def criterion_at(
    design: Design,
    y: np.ndarray,
    Lambdas: list[np.ndarray],
    *,
    reml: bool = True,
    precision: bool = False,
) -> float:
    """-2 log-likelihood of one response at given relative factors Lambda (k, k) of the data."""
    structures = tuple(Structure(len(L), (tuple(range(len(L))),)) for L in Lambdas)
    frame = frame_of(design, y, structures)
    whole = gram(design, y, frame)
    columns = independent_columns(whole.xx)
    kept = select(whole, np.flatnonzero(columns))
    if precision:
        kept = replace(kept, total=float(kept.n_rows))
    inner = [np.linalg.solve(T, L)[None] for T, L in zip(frame.z_maps, Lambdas, strict=True)]
    found = _problem(kept, structures, reml).solve(inner)
    exact = np.zeros(1, bool)
    args = (kept, frame, columns, design.intercept, reml, precision, exact)
    return float(_criterion(found, *args)[0])


class _SingleProblem:
    """One factor: all responses at once."""

    def __init__(self, gram: Gram, structures: tuple[Structure, ...], reml: bool):
        self.gram, self.structures, self.reml = gram, structures, reml

    def optimise(self, which, tol, max_iter, progress):
        charts = Charts(self.structures, self.gram.n_outputs)
        evaluate = single.criterion(self.gram, charts, reml=self.reml)
        return _search(evaluate, charts, which, tol, max_iter, progress, self.gram)

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        return single.solution(self.gram, Lambdas, reml=self.reml)

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> tuple[np.ndarray, ...]:
        D = single.posterior_factor(self.gram, Lambdas[0])
        f = self.gram.factors[0]
        e = f.zy - np.einsum("apg,rp->arg", f.zx, beta)
        return (np.einsum("abrg,brg->arg", D, e),)


class _CrossedProblem:
    """Several factors: one response after the other on the same cross-products."""

    def __init__(self, gram: Gram, structures: tuple[Structure, ...], reml: bool):
        self.structures, self.reml = structures, reml
        self.grams = [output(gram, r) for r in range(gram.n_outputs)]
        first = crossed.System(self.grams[0])
        self.systems = [first.with_response(g) for g in self.grams]

    def optimise(self, which, tol, max_iter, progress):
        results = []
        for use, system, g in zip(which, self.systems, self.grams, strict=True):
            charts = Charts(self.structures, 1)
            evaluate = crossed.criterion(system, charts, reml=self.reml)
            use = np.array([use])
            results.append(_search(evaluate, charts, use, tol, max_iter, progress, g))
        Lambdas = [np.concatenate(parts) for parts in zip(*(r[0] for r in results), strict=True)]
        return Lambdas, _joined([r[1] for r in results])

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        parts = [
            crossed.solution(system, [L[r : r + 1] for L in Lambdas], reml=self.reml)
            for r, system in enumerate(self.systems)
        ]
        effects = tuple(
            np.concatenate(e, axis=1) for e in zip(*(p.effects for p in parts), strict=True)
        )
        return Solution(*_stacked(parts, ("beta", "xvx", "rss", "log_det")), effects)

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = [
            crossed.effects(system, [L[r] for L in Lambdas], beta[r])
            for r, system in enumerate(self.systems)
        ]
        return tuple(np.stack(b, axis=1) for b in zip(*parts, strict=True))


class _PlainProblem:
    """No random effects: least squares."""

    def __init__(self, gram: Gram, reml: bool):
        self.gram, self.reml = gram, reml

    def optimise(self, which, tol, max_iter, progress):
        return [], _no_search(self.gram.n_outputs)

    def solve(self, Lambdas: list[np.ndarray]) -> Solution:
        g, r = self.gram, self.gram.n_outputs
        xvx = np.broadcast_to(g.xx, (r, *g.xx.shape))
        fixed = solve_fixed(xvx, g.xy.T, g.yy, g.yy, np.zeros(r), g.total, self.reml)
        return Solution(fixed.beta, xvx, fixed.rss, np.zeros(r), ())

    def effects(self, Lambdas, beta) -> tuple:
        return ()


def _problem(gram: Gram, structures: tuple[Structure, ...], reml: bool):
    if not structures:
        return _PlainProblem(gram, reml)
    kind = _SingleProblem if len(structures) == 1 else _CrossedProblem
    return kind(gram, structures, reml)


def _search(evaluate: Evaluate, charts: Charts, which, tol, max_iter, progress, gram: Gram):
    """Optimise the responses `which`, then try zero for variances that are almost there."""
    n, members = len(which), np.flatnonzero(which)
    theta, record = np.zeros_like(charts.start()), _no_search(n)
    if theta.shape[1] and len(members):
        best, found = minimise(
            evaluate, charts, members, tol=tol, max_iter=max_iter, progress=progress
        )
        theta[members] = _settle_at_zero(evaluate, charts, best, members, gram)
        for name in RECORDED:
            getattr(record, name)[members] = getattr(found, name)
    return charts.factors(theta, np.arange(n)), record


def _settle_at_zero(evaluate, charts: Charts, theta, which, gram: Gram) -> np.ndarray:
    """Directions of Lambda that are almost zero become exactly zero where that is no worse."""
    Lambdas = charts.factors(theta, which)
    changed = np.zeros(len(which), bool)
    for t, (f, s) in enumerate(zip(gram.factors, charts.structures, strict=True)):
        typical = np.trace(f.zz.sum(axis=2)) / (f.k * f.n_levels)
        for block in s.blocks:
            at = np.ix_(np.arange(len(which)), block, block)
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


def _fitted_exactly(gram: Gram) -> np.ndarray:
    """Responses that the fixed effects reproduce to rounding (a constant one, for instance)."""
    beta = np.linalg.solve(gram.xx, gram.xy) if len(gram.xx) else gram.xy
    return gram.yy - np.einsum("pr,pr->r", gram.xy, beta) <= EXACT * gram.yy


def _criterion(found: Solution, gram, frame, columns, intercept, reml, precision, exact):
    """-2 log-likelihood in the units of the data: a scale of x or y adds a constant."""
    nu = gram.total - (found.beta.shape[1] if reml else 0)
    s2 = np.where(exact, 1.0, found.rss / max(nu, 1e-300))
    value = found.log_det + nu * (1.0 + np.log(2.0 * np.pi * s2))
    value = value + 2.0 * nu * np.log(frame.y_scale)
    if reml and found.beta.shape[1]:
        scale = frame.x_scale[columns[1:] if intercept else columns]
        value = value + np.linalg.slogdet(found.xvx)[1] + 2.0 * np.log(scale).sum()
    if precision:
        value = value - gram.log_weights
    return np.where(exact, -np.inf, value)


def coefficient_map(fit: LinearFit) -> np.ndarray:
    """C such that C beta is (intercept, coefficients) in units of X: ((1 +) n_features, p)."""
    p = len(fit.frame.x_scale)
    C = np.diag(1.0 / fit.frame.x_scale)
    if fit.intercept:
        C = np.vstack([-(fit.frame.x_shift / fit.frame.x_scale), C])
        C = np.hstack([np.eye(p + 1, 1), C])
    return C[:, fit.columns]


def coefficients(fit: LinearFit) -> tuple[np.ndarray, np.ndarray]:
    """Intercept (n_outputs,) and coefficients (n_outputs, n_features), dropped columns 0."""
    full = fit.beta @ coefficient_map(fit).T * fit.frame.y_scale[:, None]
    if not fit.intercept:
        return np.zeros(len(full)), full
    return full[:, 0] + fit.frame.y_shift, full[:, 1:]


def relative_factors(fit: LinearFit) -> list[np.ndarray]:
    """Canonical Lambda (n_outputs, k, k) of each factor in the units of its columns."""
    out = []
    for T, Lambda in zip(fit.frame.z_maps, fit.Lambdas, strict=True):
        L = canonical(T @ Lambda)
        size = np.linalg.norm(L, axis=2, keepdims=True)
        out.append(np.where(np.abs(L) <= 1e-12 * size, 0.0, L))
    return out


def level_effects(fit: LinearFit) -> list[np.ndarray]:
    """b of each factor in the units of the data, (n_outputs, n_levels, k)."""
    return [
        np.einsum("ab,brg->rga", T, b) * fit.frame.y_scale[:, None, None]
        for T, b in zip(fit.frame.z_maps, fit.effects, strict=True)
    ]


def _no_search(n: int) -> Optimization:
    return Optimization(np.zeros(n), np.zeros(n), np.ones(n, int), np.ones(n, bool))


def _joined(records: list[Optimization]) -> Optimization:
    return Optimization(*_stacked(records, RECORDED))


def _stacked(parts: list, names: tuple[str, ...]) -> list[np.ndarray]:
    return [np.concatenate([getattr(p, name) for p in parts]) for name in names]


def _too_few(total: float, rank: int, precision: bool) -> str:
    what = "sample(s)" if precision else "sample(s) (the sum of sample_weight)"
    message = f"{total:g} {what} cannot determine {rank} fixed effects and a residual variance"
    if not precision:
        message += '; if sample_weight holds precisions, use weight_type="precision"'
    return message
