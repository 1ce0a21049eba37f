"""Replicates of the data of a model, refitted: one row of estimates each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import pandas as pd

from sklme._columns import read_columns
from sklme._engine import lmm, simulate, units
from sklme._engine.design import Design, Factor
from sklme._engine.elimination import is_nested
from sklme._engine.simulate import Refits
from sklme._rows import read_response
from sklme.inference._access import Fitted
from sklme.inference._parameters import estimates_frame, parameter_frame


@dataclass
class Progress:
    """How many replicates are done, on one line a batch."""

    n: int
    verbose: int
    done: int = 0

    def __post_init__(self):
        self.start = perf_counter()

    def add(self, n: int) -> None:
        """Count n more replicates."""
        self.done += n
        if self.verbose:
            print(f"bootstrap: {self.done} of {self.n} refits, {perf_counter() - self.start:.1f} s")


def _in_batches(fitted: Fitted, draw: Callable, rng, progress: Progress) -> pd.DataFrame:
    """Replicates of error: responses without fixed effects, in units of sigma."""
    fit, r = fitted.fit, fitted.r
    statistics, parts = simulate.kept_gram(fit, r), []
    for n in simulate.chunks(statistics, progress.n):
        options = {"tol": fitted.model.tol, "max_iter": fitted.model.max_iter}
        parts.append(simulate.refit(draw(n, rng), fit.structures, reml=fit.reml, **options))
        progress.add(n)
    found, sigma = Refits.join(parts), np.sqrt(fit.s2[r])
    found = replace(found, beta=found.beta + fit.beta[r] / sigma)
    y_scale = fit.frame.y_scale[r]
    table = parameter_frame(fitted, found, sigma * y_scale, fit.frame.y_shift[r])
    table.loc[~found.converged] = np.nan
    return table


def parametric(fitted: Fitted, rng, progress: Progress) -> pd.DataFrame:
    """New effects and residuals from the normal distributions of the model."""
    return _in_batches(fitted, _normal_draws(fitted), rng, progress)


def residual(fitted: Fitted, rng, progress: Progress) -> pd.DataFrame:
    """Predicted effects and residuals, reflated and drawn with replacement."""
    return _in_batches(fitted, _residual_draws(fitted), rng, progress)


def _normal_draws(fitted: Fitted) -> Callable:
    fit, r = fitted.fit, fitted.r
    statistics, Lambdas = simulate.kept_gram(fit, r), [L[r] for L in fit.Lambdas]
    if not simulate.too_many_columns(statistics):
        return lambda n, rng: simulate.draw(statistics, Lambdas, n, rng)
    if fitted.X is None:
        raise ValueError(
            f"with {simulate.n_columns(statistics)} columns of Z and X in several factors the "
            f"bootstrap draws rows: pass X"
        )
    design = _rows(fitted)
    return lambda n, rng: simulate.from_rows(
        design, fit, simulate.draw_rows(design, Lambdas, fit.frame, n, rng)
    )


def _residual_draws(fitted: Fitted) -> Callable:
    """Carpenter, Goldstein and Rasbash: reflated effects and residuals, drawn with replacement."""
    fit, r, design = fitted.fit, fitted.r, _rows(fitted)
    sigma = np.sqrt(fit.s2[r])
    effects = [
        simulate.reflated(b[:, r].T / sigma, L[r] @ L[r].T) @ T.T
        for b, L, T in zip(fit.effects, fit.Lambdas, fit.frame.z_maps, strict=True)
    ]
    b = [b[r] for b in units.level_effects(fit)]
    error = _response(fitted) - _fixed_part(fitted, design) - design.random_part(b)
    error = simulate.reflated(error[:, None], np.eye(1))[:, 0]

    def draw(n, rng):
        Y = error[rng.randint(len(error), size=(len(error), n))]
        drawn = [np.moveaxis(b[rng.randint(len(b), size=(len(b), n))], 1, 2) for b in effects]
        return simulate.from_rows(design, fit, simulate.with_effects(design, drawn, Y))

    return draw


def _fixed_part(fitted: Fitted, design: Design) -> np.ndarray:
    intercept, coef = units.coefficients(fitted.fit)
    return intercept[fitted.r] + design.X @ coef[fitted.r]


def cases(fitted: Fitted, t: int, rng, progress: Progress) -> pd.DataFrame:
    """Draws of whole levels, each refitted from its rows."""
    design = _rows(fitted)
    y = _response(fitted)[:, None]
    order = np.argsort(design.factors[t].codes, kind="stable")
    ends = np.cumsum(np.bincount(design.factors[t].codes, minlength=design.factors[t].n_levels))
    members = np.split(order, ends[:-1])
    nested = [s == t or is_nested(fitted.fit.gram, s, t) for s in range(len(design.factors))]
    empty = estimates_frame(fitted) * np.nan
    parts = []
    for _ in range(progress.n):
        drawn = rng.randint(len(members), size=len(members))
        rows = np.concatenate([members[level] for level in drawn])
        copy = np.repeat(np.arange(len(drawn)), [len(members[level]) for level in drawn])
        parts.append(_refit_rows(fitted, _drawn_rows(design, rows, copy, nested), y[rows], empty))
        if len(parts) % 100 == 0 or len(parts) == progress.n:
            progress.add(len(parts) - progress.done)
    return pd.concat(parts, ignore_index=True)


def _drawn_rows(design: Design, rows, copy, nested) -> Design:
    """Some rows; the levels of factors within the drawn one are new in every copy."""
    factors = []
    for f, within in zip(design.factors, nested, strict=True):
        codes = f.codes[rows]
        if within:
            codes = copy * np.int64(f.n_levels) + codes
        labels, codes = np.unique(codes, return_inverse=True)
        factors.append(Factor(codes, len(labels), f.z[rows]))
    return Design(design.X[rows], tuple(factors), design.intercept)


def _refit_rows(fitted: Fitted, design: Design, y, empty: pd.DataFrame) -> pd.DataFrame:
    model, fit = fitted.model, fitted.fit
    try:
        new = lmm.fit(
            design, y, fit.structures, reml=fit.reml, tol=model.tol, max_iter=model.max_iter
        )
    except ValueError:  # too few rows for the coefficients
        return empty
    if not new.optimization.converged[0]:
        return empty
    other = _Refitted(model, None, None, 0, new)
    return estimates_frame(other)


@dataclass(frozen=True)
class _Refitted(Fitted):
    """The model's names with the record of another fit."""

    other: lmm.LinearFit

    @property
    def fit(self) -> lmm.LinearFit:
        return self.other


def _rows(fitted: Fitted) -> Design:
    """The design of the rows that were given, if they are those of the fit."""
    model, fit = fitted.model, fitted.fit
    if fit.gram.total != fit.gram.n_rows or fit.gram.log_weights != 0.0:
        raise ValueError(
            "the model was fitted with sample_weight: only the parametric bootstrap from its "
            "cross-products knows what the weights were"
        )
    design = model._design(read_columns(model, fitted.X, model._columns), None)
    if design.n_rows != fit.gram.n_rows:
        raise ValueError(
            f"X has {design.n_rows} rows, but the model was fitted to {fit.gram.n_rows}: pass the "
            f"rows of fit"
        )
    return design


def _response(fitted: Fitted) -> np.ndarray:
    """y of the output without the offset, if it is that of the fit."""
    model, fit, r = fitted.model, fitted.fit, fitted.r
    y = read_response(model, fitted.y, like=model)
    y = y if y.ndim == 1 else y[:, r]
    read = read_columns(model, fitted.X, model._columns)
    if len(y) == len(read.X):
        y = y if read.offset is None else y - read.offset
        in_frame = (y - fit.frame.y_shift[r]) / fit.frame.y_scale[r]
        if np.isclose(in_frame @ in_frame, fit.gram.yy[r], rtol=1e-6):
            return y
    raise ValueError("y is not the response that the model was fitted to: pass the rows of fit")
