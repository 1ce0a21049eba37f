"""The fit without the rows of one level, for any number of factors: from the rows of the others."""

from dataclasses import dataclass, replace

import numpy as np

from sklme._engine import lmm
from sklme._engine.covariance import Charts, Structure
from sklme._engine.design import Design, Factor
from sklme._engine.fixed import EXACT, independent_columns
from sklme._engine.gram import gram, output, select
from sklme._engine.identify import unidentified
from sklme._engine.lmm import LinearFit
from sklme._engine.newton import minimise
from sklme._engine.predict import NewRows
from sklme._engine.problem import (
    NEAR_ZERO,
    FewEffects,
    SeveralFactors,
    make_problem,
    settle_at_zero,
)
from sklme._engine.threads import careful

SURE = 1e-6  # share of a column that must be left for the quick way


@dataclass(frozen=True)
class Rest:
    """The fit to the rows of the other levels, and the number that each level has in it, or -1."""

    fit: LinearFit
    places: tuple[np.ndarray, ...]


def of_response(fit: LinearFit, r: int) -> LinearFit:
    """The record of one response."""
    at = slice(r, r + 1)
    frame = replace(fit.frame, y_shift=fit.frame.y_shift[at], y_scale=fit.frame.y_scale[at])
    arrays = {name: getattr(fit, name)[at] for name in ("beta", "xvx", "s2", "criterion")}
    return replace(
        fit,
        frame=frame,
        gram=output(fit.gram, r),
        Lambdas=tuple(L[at] for L in fit.Lambdas),
        effects=tuple(b[:, at] for b in fit.effects),
        **arrays,
    )


@careful
def without_level(
    fit: LinearFit,
    design: Design,
    y: np.ndarray,
    structures: tuple[Structure, ...],
    t: int,
    level: int,
    *,
    refit: bool,
    precision: bool,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> Rest:
    """The fit of one response to all rows but those of a level of factor t.

    refit : estimate theta and the residual variance anew; else both stay
    structures : those that the model asks for
    Raises ValueError if the rows that are left cannot determine the model.
    """
    others, places = _others(design, design.factors[t].codes != level)
    y = y[design.factors[t].codes != level]
    if not refit:
        return Rest(_frozen(fit, others, y, precision), places)
    found = _nearby(fit, others, y, structures, precision, tol, max_iter)
    if found is None:
        found = lmm.fit(
            others,
            y,
            structures,
            reml=fit.reml,
            precision=precision,
            tol=tol,
            max_iter=max_iter,
        )
    return Rest(found, places)


def expected(fit: LinearFit, rows: NewRows) -> np.ndarray:
    """Expected response of rows, (n,), levels of code -1 without effect."""
    y = rows.X @ fit.beta[0]
    for b, codes, z in zip(fit.effects, rows.codes, rows.z, strict=True):
        known = codes >= 0
        y[known] += np.einsum("nk,kn->n", z[known], b[:, 0, codes[known]])
    return fit.frame.y_shift[0] + fit.frame.y_scale[0] * y


def rebased(fit: LinearFit, to: LinearFit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """beta (p,), its covariance and which were kept: columns of `to`, in the frame of `to`.

    A column (x - s) / c of one frame is (s' - s) / c + (c' / c) times that of the other.
    """
    here, there = fit.frame, to.frame
    p = len(fit.columns)
    M = np.zeros((p, p))
    slopes = slice(int(fit.intercept), p)
    M[slopes, slopes] = np.diag(there.x_scale / here.x_scale)
    shift = np.zeros(p)
    scale = here.y_scale[0] / there.y_scale[0]
    if fit.intercept:
        M[0, 0] = 1.0
        M[0, 1:] = (there.x_shift - here.x_shift) / here.x_scale
        shift[0] = (here.y_shift[0] - there.y_shift[0]) / there.y_scale[0]
    M = M[:, fit.columns]
    beta = M @ fit.beta[0] * scale + shift
    covariance = M @ np.linalg.solve(fit.xvx[0], M.T) * fit.s2[0] * scale**2
    at = to.columns
    return beta[at], covariance[np.ix_(at, at)], fit.columns[at]


def _others(design: Design, keep: np.ndarray) -> tuple[Design, tuple[np.ndarray, ...]]:
    """The rows that stay, their levels numbered anew; and the new number of each level."""
    factors, places = [], []
    for f in design.factors:
        codes = f.codes[keep]
        left = np.bincount(codes, minlength=f.n_levels) > 0
        place = np.where(left, np.cumsum(left) - 1, -1)
        factors.append(Factor(place[codes], int(left.sum()), f.z[keep]))
        places.append(place)
    weights = None if design.weights is None else design.weights[keep]
    return Design(design.X[keep], tuple(factors), design.intercept, weights), tuple(places)


def _frozen(fit: LinearFit, design: Design, y: np.ndarray, precision: bool) -> LinearFit:
    """beta and the effects of the rows at the covariance of `fit`."""
    whole, columns = _statistics(fit, design, y, precision)
    kept = select(whole, np.flatnonzero(columns))
    found = make_problem(kept, fit.structures, fit.reml).solve(list(fit.Lambdas))
    return _record(fit, whole, columns, fit.structures, fit.Lambdas, found, fit.s2)


def _statistics(fit: LinearFit, design: Design, y: np.ndarray, precision: bool):
    """Cross-products in the frame of `fit`, and which of its columns are independent."""
    whole = gram(design, y, fit.frame)
    if precision:
        whole = replace(whole, total=float(whole.n_rows))
    columns = fit.columns.copy()
    columns[columns] = independent_columns(whole.xx[np.ix_(columns, columns)])
    return whole, columns


def _nearby(fit, design, y, structures, precision, tol, max_iter) -> LinearFit | None:
    """The search started at the estimate of all rows; None where a fit from scratch is safer."""
    whole, columns = _statistics(fit, design, y, precision)
    kept = select(whole, np.flatnonzero(columns))
    if any(fit.unidentified) or not _plain(fit, columns, kept, structures):
        return None
    problem = make_problem(kept, structures, fit.reml)
    if not isinstance(problem, FewEffects | SeveralFactors):
        return None
    charts, which = Charts(structures, 1), np.zeros(1, int)
    evaluate = problem.solvers[0].criterion(charts)
    theta = charts.theta([L.copy() for L in fit.Lambdas], which)
    theta, record = minimise(
        evaluate, charts, which, theta, tol=tol, max_iter=max_iter, learn=not problem.exact
    )
    Lambdas = charts.factors(settle_at_zero(evaluate, charts, theta, which, kept), which)
    found = problem.solve(Lambdas)
    if not record.converged[0] or found.rss[0] <= 1e4 * EXACT * kept.yy[0]:
        return None
    nu = kept.total - (columns.sum() if fit.reml else 0)
    return _record(fit, whole, columns, structures, Lambdas, found, found.rss / nu)


def _plain(fit: LinearFit, columns: np.ndarray, kept, structures) -> bool:
    """Whether nothing is dropped, unidentified, nearly singular, or starts at zero."""
    if not np.array_equal(columns, fit.columns) or kept.total - columns.sum() < 3:
        return False
    scale = 1.0 / np.sqrt(np.diag(kept.xx))
    if len(scale) and np.linalg.eigvalsh(kept.xx * scale[:, None] * scale)[0] < SURE:
        return False
    for f, L in zip(kept.factors, fit.Lambdas, strict=True):
        typical = np.trace(f.zz.sum(axis=2)) / (f.k * f.n_levels)
        if np.linalg.svd(L[0], compute_uv=False).min() ** 2 * typical < NEAR_ZERO:
            return False
    return not any(unidentified(kept, structures))


def _record(fit, whole, columns, structures, Lambdas, found, s2) -> LinearFit:
    return replace(
        fit,
        gram=whole,
        columns=columns,
        structures=structures,
        Lambdas=tuple(Lambdas),
        beta=found.beta,
        xvx=found.xvx,
        s2=s2,
        nu=whole.total - (columns.sum() if fit.reml else 0),
        effects=found.effects,
        unidentified=tuple(() for _ in structures),
    )
