"""Leaving the levels of a factor out: what it needs, and the fits without them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.utils import _safe_indexing

from sklme._columns import Rows, read_columns
from sklme._engine import leave_out
from sklme._engine.covariance import Structure
from sklme._engine.deleted import Deleted, delete_levels
from sklme._engine.design import Design
from sklme._engine.leave_out import Folds
from sklme._engine.level_sums import LevelSums, level_sums, spanned_sums
from sklme._engine.lmm import LinearFit
from sklme._engine.without import Rest, of_response, without_level
from sklme._rows import check_choice, check_rows, read_response, read_weights
from sklme._terms import factor_label
from sklme.inference._access import Fitted, choose_factor, open_linear
from sklme.inference._variances import weighted

INSTEAD = "refit it without the rows of a level, as in cross_val_predict with a splitter of groups"
SPREAD = 1e-6  # how far sums over the given rows may be from those of fit


@dataclass(frozen=True)
class LeaveOut:
    """The fit of one output, the factor whose levels are left out, and the rows if given."""

    fitted: Fitted
    fit: LinearFit
    t: int
    refit: bool
    rows: Rows | None = None  # all that were given
    used: np.ndarray | None = None  # which of them have positive weight
    design: Design | None = None  # of those
    y: np.ndarray | None = None

    @property
    def precision(self) -> bool:
        return self.fitted.model.weight_type == "precision" and self.design.weights is not None

    @cached_property
    def own(self) -> LevelSums | None:
        """The sums of each level; None where they cannot be known without rows."""
        if self.design is None:
            return None if len(self.fit.structures) > 1 else spanned_sums(self.fit.kept)
        args = self.fit.frame, self.t, self.fit.columns, self.precision
        return level_sums(self.design, self.y, *args)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each level, or the sum of their frequencies; unknown where no column tells."""
        if self.design is None and self.fit.intercept and not weighted(self.fitted):
            return np.round(self.own.xx[:, 0, 0], 6)
        return self.own.total

    @cached_property
    def folds(self) -> Folds | None:
        """The fits of one factor that can be had at once."""
        if len(self.fit.structures) > 1:
            return None
        if not self.refit:
            return leave_out.frozen(self.fit, self.own)
        model = self.fitted.model
        return leave_out.refitted(self.fit, self.own, tol=model.tol, max_iter=model.max_iter)

    @cached_property
    def deleted(self) -> Deleted | None:
        """The same for several factors, at frozen variances."""
        if len(self.fit.structures) == 1 or self.refit:
            return None
        found = delete_levels(self.fit, self.design, self.y, self.t)
        absent = np.ones(len(self.rows.X), bool)
        absent[self.used] = False
        codes = self.rows.codes[self.t][absent]
        found.done[codes[codes >= 0]] = False  # rows of weight 0 want a prediction too
        return found

    def rests(self) -> Iterator[tuple[int, Rest | str]]:
        """The other fits one by one, or why there is none."""
        terms, model = self.fitted.model._terms, self.fitted.model
        structures = tuple(Structure(len(t.slopes), t.blocks, t.spherical) for t in terms)
        quick = self.folds or self.deleted
        left = np.arange(len(self.own.total)) if quick is None else np.flatnonzero(~quick.done)
        for level in left:
            try:
                rest = without_level(
                    self.fit,
                    self.design,
                    self.y,
                    structures,
                    self.t,
                    level,
                    refit=self.refit,
                    precision=self.precision,
                    tol=model.tol,
                    max_iter=model.max_iter,
                )
            except ValueError as error:
                rest = f"without this level {error}"
            yield level, rest


def open_task(function, model, factor, X, y, theta, sample_weight, output) -> LeaveOut:
    """Read the model and the rows, and check that they belong together."""
    check_choice("theta", theta, ("frozen", "refit"))
    fitted = open_linear(model, X, y, output=output, function=function, instead=INSTEAD)
    t = choose_factor(fitted, factor)
    fit = of_response(fitted.fit, fitted.r)
    if fit.gram.factors[t].n_levels < 2:
        raise ValueError(
            f"{factor_label(fitted.keys[t])} has one level: without it no rows are left"
        )
    if X is None or y is None:
        task = LeaveOut(fitted, fit, t, theta == "refit")
    else:
        task = _with_rows(fitted, fit, t, theta == "refit", sample_weight)
    _check_same_rows(task)
    return task


def _with_rows(fitted: Fitted, fit: LinearFit, t: int, refit: bool, sample_weight) -> LeaveOut:
    inner = fitted.model
    y, weights = read_response(inner, fitted.y, like=inner), read_weights(sample_weight, fitted.X)
    check_rows(fitted.X, y, weights)
    rows = read_columns(inner, fitted.X, inner._columns)
    used, here = rows, np.arange(len(y))
    y = y.reshape(len(y), -1)[:, [fitted.r]]
    y = y if rows.offset is None else y - rows.offset[:, None]
    if weights is not None and not weights.all():
        here = np.flatnonzero(weights)
        y, weights = y[here], weights[here]
        used = read_columns(inner, _safe_indexing(fitted.X, here), inner._columns)
    if any((codes < 0).any() for codes in used.codes):
        raise ValueError(_other_rows())
    return LeaveOut(fitted, fit, t, refit, rows, here, inner._design(used, weights), y)


def _check_same_rows(task: LeaveOut) -> None:
    """The sums over the given rows are those that fit has kept."""
    own, kept = task.own, task.fit.kept
    if own is None:
        return
    if task.design is None and task.fit.adapted:
        raise ValueError(_other_rows())
    pairs = [(own.xx.sum(axis=0), kept.xx), (own.xy.sum(axis=0), kept.xy[:, 0])]
    if task.design is not None:
        pairs += [(own.yy.sum(), kept.yy[0]), (own.total.sum(), kept.total)]
    size = np.sqrt(np.outer(kept.xx.diagonal(), kept.xx.diagonal()))
    sizes = [size, np.sqrt(kept.xx.diagonal() * kept.yy[0]), kept.yy[0], kept.total]
    if any((np.abs(a - b) > SPREAD * s).any() for (a, b), s in zip(pairs, sizes, strict=False)):
        raise ValueError(_other_rows())


def _other_rows() -> str:
    return (
        "X, y and sample_weight are not the rows that the model was fitted to; pass these, and a "
        "model that has not adapted to others"
    )
