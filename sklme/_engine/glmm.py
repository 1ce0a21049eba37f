"""The generalised linear mixed model from rows to a fitted record."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklme._engine import units
from sklme._engine.covariance import Charts, Structure
from sklme._engine.design import Design
from sklme._engine.glmm_rows import Prepared, prepare
from sklme._engine.glmm_start import starting_point
from sklme._engine.glmm_working import working_model
from sklme._engine.gram import Gram
from sklme._engine.laplace import UNITLESS, Laplace
from sklme._engine.lmm import LinearFit
from sklme._engine.newton import minimise
from sklme._engine.problem import settle_at_zero
from sklme._engine.quadrature import Quadrature, check_quadrature
from sklme._engine.records import Optimization
from sklme._engine.separation import separated
from sklme._engine.threads import SMALL, limited

THREADED = 5000  # numbers in X from which on BLAS starts threads for a product with a column
WORSE = 1e-7  # log-likelihood by which a last step may be worse
RUNAWAY = 10.0  # a standard deviation at which a search that did not end was on its way to infinity


@dataclass(frozen=True)
class GeneralizedFit:
    """A fitted generalised linear mixed model; no rows.

    working : the linear mixed model of the working response at the conditional modes, with residual
        variance 1: all that predictions ask for
    aux : the coefficients of each auxiliary predictor, in units of the data, intercept first
    log_likelihood : with all constants, Laplace's approximation or that of adaptive quadrature
    separated : positions in (intercept, coefficients) of what has no finite estimate
    unbounded : (factor, coefficient) of variances without a finite estimate
    """

    family: Any
    working: LinearFit
    aux: tuple[np.ndarray, ...]
    log_likelihood: float
    n_quadrature: int
    separated: tuple[int, ...] = ()
    unbounded: tuple[tuple[int, int], ...] = ()

    @property
    def gram(self) -> Gram:
        """The cross-products of the working model."""
        return self.working.gram

    @property
    def n_parameters(self) -> int:
        """Free parameters: fixed coefficients, covariances, auxiliary coefficients."""
        theta = sum(s.n_theta for s in self.working.structures)
        return int(self.working.columns.sum()) + theta + sum(len(a) for a in self.aux)


class _JointCharts(Charts):
    """The charts of theta for a search over (theta, other parameters)."""

    def __init__(self, charts: Charts, n_theta: int):
        self.charts, self.n_theta = charts, n_theta

    def reorder(self, psi: np.ndarray, which: np.ndarray):
        """As `Charts.reorder`; the other parameters stay."""
        if not self.n_theta:
            return psi, np.zeros(len(psi), bool)
        theta, changed = self.charts.reorder(psi[:, : self.n_theta], which)
        return np.concatenate([theta, psi[:, self.n_theta :]], axis=1), changed


def fit(
    design: Design,
    y: np.ndarray,
    family,
    structures: tuple[Structure, ...],
    *,
    offset: np.ndarray | None = None,
    trials: np.ndarray | None = None,
    aux: tuple = (),
    n_quadrature: int = 1,
    tol: float = 1e-6,
    max_iter: int = 100,
    progress: Callable | None = None,
) -> GeneralizedFit:
    """Estimate all parameters by maximum likelihood, the effects integrated out.

    design.weights are frequencies. aux : for each auxiliary predictor of the family the columns
    (n, m) that it depends on besides a constant, or None.
    """
    check_quadrature(design.factors, n_quadrature)
    with limited(_largest_call(design)), np.errstate(all="ignore"):
        ready = prepare(design, y, family, structures, offset, trials, aux)
        problem = problem_of(family, ready, n_quadrature)
        psi, record = search(problem, starting_point(family, ready), tol, max_iter, progress)
        return _record(family, ready, problem, psi, record, n_quadrature)


def problem_of(family, ready: Prepared, n_quadrature: int):
    """The criterion for these rows: Laplace's or that of adaptive quadrature."""
    if n_quadrature == 1 or not ready.structures:
        return Laplace(family, ready.rows, ready.structures)
    return Quadrature(family, ready.rows, ready.structures, n_quadrature)


def search(problem, start: np.ndarray, tol: float, max_iter: int, progress=None):
    """Minimise the criterion from `start`; variances that are almost zero are tried at zero.

    Raises ValueError where no starting point has a likelihood.
    """
    psi, record = _descend(problem, start, tol, max_iter, progress)
    n_theta = problem.n_theta
    if n_theta:
        rest = psi[:, n_theta:].copy()
        psi[:, :n_theta] = settle_at_zero(
            lambda theta, which: problem(np.concatenate([theta, rest], axis=1), which),
            problem.charts,
            psi[:, :n_theta].copy(),
            np.zeros(1, int),
            problem.typical,
        )
    return psi[0], record


def _descend(problem, start: np.ndarray, tol: float, max_iter: int, progress):
    """Newton's method from `start`, or from smaller variances where that has no likelihood."""
    charts = _JointCharts(problem.charts, problem.n_theta)
    options = {"tol": tol, "max_iter": max_iter, "learn": True, "progress": progress}
    for smaller in (1.0, 0.1, 0.01, 1e-3):
        psi = start.copy()[None]
        psi[:, : problem.n_theta] *= smaller
        problem.searching = True
        psi, record = minimise(problem, charts, np.zeros(1, int), psi, **options)
        problem.searching = False
        if problem.latest is not None:
            return psi, record
    raise ValueError(
        f"the {problem.family.name} family with the {problem.family.link.name} link finds no "
        "starting values for these rows: every mean that it tried is impossible; try another link"
    )


def _record(family, ready: Prepared, problem, psi, record: Optimization, n_quadrature: int):
    point, best = problem.at(psi), problem.best
    if not point.value >= best.value - WORSE:  # a last step that was not looked at, to other modes
        point, record = best, replace(record, converged=np.zeros(1, bool))
    if problem.exact(point) or problem.endless(point):
        exact: Any = np.array([problem.exact(point)])
        record = replace(record, converged=np.zeros(1, bool), exact_fit=exact)
    aux = ready.aux_in_units(point.psi[problem.n_theta + problem.n_fixed :])
    working = working_model(ready, problem, point, record)
    return GeneralizedFit(
        family,
        working,
        aux,
        point.value,
        n_quadrature,
        separated(family, ready.rows, point.eta, units.coefficient_map(working)),
        _unbounded(family, working, record),
    )


def _unbounded(family, working: LinearFit, record: Optimization) -> tuple[tuple[int, int], ...]:
    """Variances that grew without end: (factor, coefficient). With a unit of eta none is large."""
    if record.converged.all() or family.link.name not in UNITLESS:
        return ()
    return tuple(
        (t, a)
        for t, L in enumerate(working.Lambdas)
        for a, size in enumerate(np.linalg.norm(L[0], axis=1))
        if size > RUNAWAY
    )


def _largest_call(design: Design) -> float:
    """Operations of the largest BLAS call, or what is treated like it.

    A fit makes hundreds of products of X with a column, for which threads are started from some
    thousand numbers on: never worth it.
    """
    size = design.n_rows * (design.X.shape[1] + 1)
    products = max(2.0 * size * (design.X.shape[1] + 1), 2.0 * SMALL if size > THREADED else 0.0)
    sizes = sorted(f.k * f.n_levels for f in design.factors)
    return max(products, float(sum(sizes[:-1])) ** 3 / 3.0)
