"""The linear mixed model from rows to a fitted record, for one or many responses."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.design import Design
from sklme._engine.fixed import EXACT, independent_columns
from sklme._engine.gram import BLOCK, Frame, Gram, frame_of, gram, merge, select
from sklme._engine.identify import unidentified
from sklme._engine.problem import make_problem
from sklme._engine.records import Optimization, Solution
from sklme._engine.refine import refine
from sklme._engine.threads import careful, limited

# Where the random effects reproduce y, the residual variance is held at this share of that of y.
LEAST_RESIDUAL = 1e-11


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear mixed model, in the coordinates of its frame; no rows.

    columns : which columns of X (with the intercept first) were kept
    Lambdas : (n_outputs, k, k) relative covariance factor of each factor
    beta, xvx : of the kept columns; s2 : residual variance, all in units of the frame
    effects : (k, n_outputs, n_levels) of each factor
    criterion : -2 log-likelihood in units of the data, all constants included
    nu : N - p under REML, N under ML
    precision : whether the row weights are precisions, with N the number of rows
    adapted : whether the cross-products hold rows that came after the fit
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
    precision: bool = False
    adapted: bool = False

    @property
    def kept(self) -> Gram:
        """The cross-products of the columns that were kept."""
        return select(self.gram, np.flatnonzero(self.columns))

    @property
    def weight_constant(self) -> float:
        """What -2 log-likelihood loses by the row weights: the sum of the logs of precisions."""
        return self.gram.log_weights if self.precision else 0.0


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
    with limited(_largest_call(design, y)):
        return _fit(design, y, structures, reml, precision, tol, max_iter, progress)


@dataclass(frozen=True)
class _Data:
    """The cross-products: of all columns, and of those that are kept; what can be estimated."""

    frame: Frame
    whole: Gram
    kept: Gram
    columns: np.ndarray
    structures: tuple[Structure, ...]
    zeros: tuple[tuple[int, ...], ...]


def _fit(design, y, structures, reml, precision, tol, max_iter, progress) -> LinearFit:
    data = _read(design, y, structures, precision)
    kept, columns = data.kept, data.columns
    Lambdas, record, found = _estimate(kept, data.structures, reml, tol, max_iter, progress)
    found = refine(design, y, data.frame, kept, columns, Lambdas, found)
    nu = kept.total - (columns.sum() if reml else 0)
    exact = record.exact_fit
    s2 = np.where(_fitted_exactly(kept), 0.0, found.rss / max(nu, 1e-300))
    value = _criterion(found, kept, data.frame, columns, design.intercept, reml, precision, exact)
    return LinearFit(
        data.frame,
        data.whole,
        design.intercept,
        reml,
        columns,
        data.structures,
        tuple(Lambdas),
        found.beta,
        found.xvx,
        s2,
        nu,
        found.effects,
        value,
        record,
        data.zeros,
        precision,
    )


def _read(design: Design, y: np.ndarray, structures, precision: bool) -> _Data:
    """One pass over the rows; a second one only where a variance cannot be identified."""
    frame = frame_of(design, y, structures)
    whole = _counted(gram(design, y, frame), precision)
    columns = independent_columns(whole.xx)
    if whole.total < columns.sum() + bool(structures):  # least squares may fit exactly
        weighted = design.weights is not None and not precision
        raise ValueError(_too_few(whole.total, int(columns.sum()), weighted))
    kept = select(whole, np.flatnonzero(columns))
    zeros = unidentified(kept, structures)
    if any(zeros):  # a column may be centred only while its intercept is in the model
        structures = tuple(s.without(z) for s, z in zip(structures, zeros, strict=True))
        frame = frame_of(design, y, structures)
        whole = _counted(gram(design, y, frame), precision)
        kept = select(whole, np.flatnonzero(columns))
    return _Data(frame, whole, kept, columns, structures, zeros)


def _counted(statistics: Gram, precision: bool) -> Gram:
    """N is the number of rows under precision weights, else the sum of the weights."""
    return replace(statistics, total=float(statistics.n_rows)) if precision else statistics


def _estimate(kept: Gram, structures, reml: bool, tol: float, max_iter: int, progress):
    """Lambda, the record of the search and the solution.

    Where the random effects reproduce y the likelihood has no bound; a little residual variance is
    then added to y, which leaves the other estimates where they were.
    """
    exact = _fitted_exactly(kept)
    problem = make_problem(kept, structures, reml)
    Lambdas, record = problem.optimise(~exact, tol, max_iter, progress)
    found = problem.solve(Lambdas)
    saturated = (found.rss <= EXACT * kept.yy) & ~exact
    if saturated.any():
        inflated = np.where(saturated, kept.yy * (1.0 + LEAST_RESIDUAL), kept.yy)
        problem = make_problem(replace(kept, yy=inflated), structures, reml)
        Lambdas, record = problem.optimise(~exact, tol, max_iter, progress)
        found = problem.solve(Lambdas)
    return Lambdas, replace(record, exact_fit=exact | saturated), found


def _largest_call(design: Design, y: np.ndarray) -> float:
    """Operations of the largest BLAS call: the products of a block, or the dense block."""
    rows = min(design.n_rows, BLOCK)
    products = 2.0 * rows * design.X.shape[1] * (design.X.shape[1] + y.shape[1])
    sizes = sorted(f.k * f.n_levels for f in design.factors)
    return max(products, float(sum(sizes[:-1])) ** 3 / 3.0)


@careful
def adapt(fit: LinearFit, design: Design, y: np.ndarray) -> LinearFit:
    """What is known of the levels with the rows of `design` added; beta and theta stay.

    New levels are numbered after the known ones.
    """
    more = merge(fit.gram, gram(design, y, fit.frame))
    more = replace(more, total=fit.gram.total, n_rows=fit.gram.n_rows)  # N stays that of fit
    kept = select(more, np.flatnonzero(fit.columns))
    problem = make_problem(kept, fit.structures, fit.reml)
    effects = problem.effects(list(fit.Lambdas), fit.beta)
    return replace(fit, gram=more, effects=effects, adapted=True)


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
    whole = _counted(gram(design, y, frame), precision)
    columns = independent_columns(whole.xx)
    kept = select(whole, np.flatnonzero(columns))
    inner = [np.linalg.solve(T, L)[None] for T, L in zip(frame.z_maps, Lambdas, strict=True)]
    found = make_problem(kept, structures, reml).solve(inner)
    exact = np.zeros(1, bool)
    args = (kept, frame, columns, design.intercept, reml, precision, exact)
    return float(_criterion(found, *args)[0])


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


def _too_few(total: float, rank: int, weighted: bool) -> str:
    what = "sample(s) (the sum of sample_weight)" if weighted else "sample(s)"
    message = f"{total:g} {what} cannot determine {rank} fixed effects and a residual variance"
    if weighted:
        message += '; if sample_weight holds precisions, use weight_type="precision"'
    return message
