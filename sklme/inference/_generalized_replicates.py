"""Replicates of the data of a generalised model, refitted: one row of estimates each."""

import numpy as np
import pandas as pd

from sklme._engine import glmm
from sklme._engine.design import Design, Factor
from sklme._engine.elimination import is_nested
from sklme._engine.glmm_information import problem_at
from sklme._engine.glmm_parameters import Place
from sklme._engine.glmm_simulate import Cases, written_out
from sklme.inference._generalized import GeneralizedFitted
from sklme.inference._generalized_intervals import EstimatesAt, estimates_table
from sklme.inference._parameters import parameters_of

BATCH = 100  # replicates between two reports
TOL = 1e-2  # standard errors that a replicate may end away from its optimum


def parametric(fitted: GeneralizedFitted, rng, progress) -> pd.DataFrame:
    """New effects and outcomes of the model, refitted from its estimates."""
    simulator, model, values_at = fitted.simulator(), fitted.model, EstimatesAt(fitted)
    tol = max(model.tol, TOL)

    def one() -> list[float] | None:
        found = simulator.refit(simulator.draw(rng), tol, model.max_iter)
        return values_at(found.place, found.psi) if found.converged else None

    return _many(one, fitted, progress)


def cases(fitted: GeneralizedFitted, t: int, rng, progress) -> pd.DataFrame:
    """Draws of whole levels of factor t, each fitted anew."""
    rows = written_out(fitted.rows.cases)
    if rows is None:
        raise ValueError("the weights of the rows are not whole numbers: levels cannot be drawn")
    factor, gram = rows.design.factors[t], fitted.working.gram
    nested = [s == t or is_nested(gram, s, t) for s in range(len(rows.design.factors))]
    order = np.argsort(factor.codes, kind="stable")
    ends = np.cumsum(np.bincount(factor.codes, minlength=factor.n_levels))
    members, values_at = np.split(order, ends[:-1]), EstimatesAt(fitted)

    def one() -> list[float] | None:
        drawn = rng.randint(len(members), size=len(members))
        which = np.concatenate([members[level] for level in drawn])
        copy = np.repeat(np.arange(len(drawn)), [len(members[level]) for level in drawn])
        return _fitted_to(fitted, _renumbered(rows.take(which), copy, nested), values_at)

    return _many(one, fitted, progress)


def _many(one, fitted: GeneralizedFitted, progress) -> pd.DataFrame:
    """One row a replicate, NaN where `one` finds nothing."""
    empty, parts = [np.nan] * len(parameters_of(fitted)), []
    for i in range(1, progress.n + 1):
        found = one()
        parts.append(empty if found is None else found)
        if i % BATCH == 0 or i == progress.n:
            progress.add(i - progress.done)
    return estimates_table(fitted, parts)


def _renumbered(rows: Cases, copy: np.ndarray, nested: list[bool]) -> Cases:
    """Levels of factors within the drawn one are new in every copy."""
    factors = []
    for f, within in zip(rows.design.factors, nested, strict=True):
        codes = copy * np.int64(f.n_levels) + f.codes if within else f.codes
        labels, codes = np.unique(codes, return_inverse=True)
        factors.append(Factor(codes, len(labels), f.z))
    design = Design(rows.design.X, tuple(factors), rows.design.intercept)
    return Cases(design, rows.y, rows.offset, rows.trials, rows.aux)


def _fitted_to(
    fitted: GeneralizedFitted, rows: Cases, values_at: EstimatesAt
) -> list[float] | None:
    model, fit = fitted.model, fitted.fit
    try:
        new = glmm.fit(
            rows.design,
            rows.y,
            fit.family,
            fit.working.structures,
            n_quadrature=fit.n_quadrature,
            tol=model.tol,
            max_iter=model.max_iter,
            **rows.given,
        )
    except (ValueError, np.linalg.LinAlgError):  # too few rows or outcomes of one kind
        return None
    if not new.working.optimization.converged[0] or new.separated:
        return None
    if (new.working.columns != fit.working.columns).any():
        return None
    ready, problem, psi = problem_at(new, rows.design, rows.y, **rows.given)
    return values_at(Place(new, ready, problem), psi)
