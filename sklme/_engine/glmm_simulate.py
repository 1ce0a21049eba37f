"""New outcomes of the rows of a generalised model, and fits to them that start at the estimates.

The rows are prepared once: a replicate only replaces the outcome.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklme._engine import units
from sklme._engine.covariance import Charts
from sklme._engine.design import Design, Factor
from sklme._engine.glmm import WORSE, GeneralizedFit, problem_of, search
from sklme._engine.glmm_information import point_of
from sklme._engine.glmm_parameters import Place, fresh
from sklme._engine.glmm_rows import aux_predictors, prepare
from sklme._engine.row_terms import RowTerms

LEAST, SMALL = 0.05, 0.1  # a standard deviation below the first begins at the second: not at zero


@dataclass(frozen=True)
class Cases:
    """Rows of weight one as the engine takes them: `y`, `offset` and `trials` (n,) or None.

    aux : for each auxiliary predictor its columns (n, m) or None
    """

    design: Design
    y: np.ndarray
    offset: np.ndarray | None
    trials: np.ndarray | None
    aux: tuple

    def take(self, which: np.ndarray) -> "Cases":
        """Some of the rows, in any number; all levels stay."""
        d = self.design
        factors = tuple(Factor(f.codes[which], f.n_levels, f.z[which]) for f in d.factors)
        offset, trials, *aux = (_taken(a, which) for a in (self.offset, self.trials, *self.aux))
        design = Design(d.X[which], factors, d.intercept)
        return Cases(design, self.y[which], offset, trials, tuple(aux))

    @property
    def given(self) -> dict:
        """What `prepare` and `fit` take besides design and y."""
        return {"offset": self.offset, "trials": self.trials, "aux": self.aux}


def _taken(a: np.ndarray | None, which: np.ndarray):
    return None if a is None else a[which]


def written_out(cases: Cases) -> Cases | None:
    """A row of weight w as w rows of weight one; None where a weight is no whole number."""
    weights = cases.design.weights
    if weights is None:
        return cases
    counts = np.rint(weights)
    if not np.allclose(counts, weights, rtol=0.0, atol=1e-9):
        return None
    return cases.take(np.repeat(np.arange(len(counts)), counts.astype(int)))


@dataclass(frozen=True)
class Refit:
    """A fit to a replicate: where psi is to be read, psi, log-likelihood, success."""

    place: Place
    psi: np.ndarray
    log_likelihood: float
    converged: bool


class Simulator:
    """Replicates of the outcome of a fit to these rows."""

    def __init__(self, fit: GeneralizedFit, cases: Cases):
        self.fit, self.cases, working = fit, cases, fit.working
        recorder: Any = _Recorder(fit.family)
        self.ready = prepare(cases.design, cases.y, recorder, working.structures, *_last(cases))
        self.sums = recorder.sums
        self.problem = problem_of(fit.family, self.ready, fit.n_quadrature)
        self.start = self._off_zero(point_of(fit, self.ready, self.problem))
        intercept, coef = units.coefficients(working)
        self.fixed = intercept[0] + cases.design.X @ coef[0]
        if cases.offset is not None:
            self.fixed = self.fixed + cases.offset
        pairs = zip(working.frame.z_maps, working.Lambdas, strict=True)
        self.Lambdas = [T @ L[0] for T, L in pairs]
        self.tau = aux_predictors(fit.aux, cases.aux)

    def draw(self, rng) -> np.ndarray:
        """An outcome of every row, with new effects of all levels."""
        factors = zip(self.cases.design.factors, self.Lambdas, strict=True)
        effects = [rng.standard_normal((f.n_levels, f.k)) @ L.T for f, L in factors]
        eta = self.fixed + self.cases.design.random_part(effects)
        return self.fit.family.sample(eta, self.tau, self.cases.trials, rng)

    def refit(self, y: np.ndarray, tol: float, max_iter: int) -> Refit:
        """The fit to another outcome, from the estimates of the first."""
        outcome = self.fit.family.outcome(y, self.cases.trials, None)
        if self.sums is not None:
            outcome = self.fit.family.aggregate(outcome, *self.sums)
        problem = with_outcome(self.problem, outcome)
        place = Place(self.fit, self.ready, problem)
        try:
            with np.errstate(all="ignore"):
                psi, record = search(problem, self.start, tol, max_iter)
                value = problem.at(psi).value
        except (ValueError, np.linalg.LinAlgError):  # an outcome that has no likelihood here
            return Refit(place, self.start, -np.inf, False)
        good = record.converged.all() and value >= problem.best.value - WORSE
        return Refit(place, psi, value, bool(good))

    def _off_zero(self, psi: np.ndarray) -> np.ndarray:
        """psi without variances of zero, where a search would find no slope."""
        low = np.zeros(len(psi), bool)
        for t, here in enumerate(self.problem.charts.slices):
            low[here] = np.einsum("maa->m", self.problem.basis(t)) != 0
        return np.where(low & (np.abs(psi) < LEAST), SMALL, psi)


def with_outcome(problem: Any, outcome) -> Any:
    """The criterion of the same rows with another outcome, as if it had not been anywhere."""
    other = fresh(problem)
    other.rows = replace(problem.rows, outcome=outcome)
    other.terms = RowTerms(problem.family, outcome)
    other.charts = Charts(problem.structures, 1)
    return other


def _last(cases: Cases) -> tuple:
    return cases.offset, cases.trials, cases.aux


class _Recorder:
    """A family that remembers which rows became one.

    sums : the new row of each row, and their number; None where rows stayed as they were
    """

    def __init__(self, family):
        self.family, self.sums = family, None

    def __getattr__(self, name):
        return getattr(self.family, name)

    def aggregate(self, outcome, group, n_groups):
        found = self.family.aggregate(outcome, group, n_groups)
        self.sums = None if found is None else (group, n_groups)
        return found
