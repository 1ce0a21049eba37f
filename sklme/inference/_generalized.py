"""A fitted generalised model, and its rows made ready for the engine once more."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sklme._columns import read_columns
from sklme._engine.dof import coefficient_covariance, coefficient_values
from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_information import Information, information, problem_at
from sklme._engine.glmm_parameters import Place
from sklme._engine.glmm_rows import Prepared
from sklme._engine.glmm_simulate import Cases, Simulator, written_out
from sklme._engine.lmm import LinearFit
from sklme._fitted import INTERCEPT, present_rows
from sklme._rows import check_rows, read_weights
from sklme.generalized._base import GeneralizedBase

SAME = 1e-6  # difference of the log-likelihood per unit of weight between rows that are the same


@dataclass(frozen=True)
class Rows:
    """The rows of fit as the engine takes them.

    cases : the rows with their weights; y are codes of classes for classifiers
    ready, problem, psi : the prepared rows, the criterion of fit for them, and where fit ended
    """

    cases: Cases
    ready: Prepared
    problem: Any
    psi: np.ndarray


@dataclass(frozen=True)
class GeneralizedFitted:
    """A fitted generalised model and, where they were given, its rows as the model saw them."""

    model: GeneralizedBase
    X: object = None
    y: object = None
    sample_weight: object = None
    r: int = 0
    generalized = True

    @property
    def fit(self) -> GeneralizedFit:
        """The engine's record."""
        return self.model._fit

    @property
    def working(self) -> LinearFit:
        """The linear mixed model of the working response at the modes."""
        return self.fit.working

    @cached_property
    def names(self) -> list[str]:
        """Names of the fixed coefficients, "(Intercept)" first where there is one."""
        return [INTERCEPT] * self.working.intercept + list(self.model.fixed_names_)

    @cached_property
    def estimates(self) -> np.ndarray:
        """The fixed coefficients in the order of `names`; 0 for a dropped column."""
        return coefficient_values(self.working)

    @property
    def kept(self) -> np.ndarray:
        """Which of the coefficients in `names` were not dropped."""
        return self.working.columns

    @property
    def has_rows(self) -> bool:
        """Whether X and y were given."""
        return self.X is not None and self.y is not None

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates, zero for dropped columns.

        By the exact information where there are rows, else with the variances taken as known.
        """
        if self.has_rows:
            return self.information.fixed
        return coefficient_covariance(self.working)

    @cached_property
    def information(self) -> Information:
        """The observed information of all parameters jointly; needs the rows."""
        rows = self.rows
        return information(self.fit, rows.ready, rows.problem, rows.psi)

    @cached_property
    def place(self) -> Place:
        """Where the engine's parameters stand; needs the rows."""
        return Place(self.fit, self.rows.ready, self.rows.problem)

    def std_error(self, gradient: np.ndarray) -> float:
        """Of a function of the engine's parameters, NaN where it depends on a variance at zero."""
        found = self.information
        if gradient[~found.free].any() or not np.isfinite(gradient).all():
            return np.nan
        return float(np.sqrt(gradient @ found.covariance @ gradient))

    @property
    def keys(self) -> list:
        """The factors, as the user named them."""
        return [term.key for term in self.model._terms]

    def of_output(self, values) -> np.ndarray:
        """The values: there is one output."""
        return values

    @cached_property
    def rows(self) -> Rows:
        """The rows of fit, checked against what fit has kept."""
        model, weights = self.model, read_weights(self.sample_weight, self.X)
        y, weights = model._read_y(self.y, weights)
        check_rows(self.X, y, weights)
        X, y, weights = present_rows(self.X, y, weights)
        table = read_columns(model, X, model._columns)
        model._check_outcome(self.fit.family, y, table)
        if any((codes < 0).any() for codes in table.codes):
            raise ValueError(self._other_rows())
        design, aux = model._design(table, weights), model._aux_columns(table)
        cases = Cases(design, y, table.offset, table.trials, aux)
        try:
            ready, problem, psi = problem_at(self.fit, design, y, **cases.given)
        except ValueError:
            raise ValueError(self._other_rows()) from None
        fitted, total = self.fit.log_likelihood, self.working.gram.total
        if not abs(problem.at(psi).value - fitted) <= SAME * (total + abs(fitted)):
            raise ValueError(self._other_rows())
        return Rows(cases, ready, problem, psi)

    def simulator(self) -> Simulator:
        """Replicates of the outcome; needs the rows."""
        cases = written_out(self.rows.cases)
        if cases is None:
            raise ValueError(
                "the weights of the rows are not whole numbers: the model does not say how many "
                "observations to draw for a row"
            )
        return Simulator(self.fit, cases)

    def _other_rows(self) -> str:
        gram = self.working.gram
        if self.sample_weight is None and gram.total != gram.n_rows:
            return (
                "the model was fitted with sample_weight: pass it with X and y, the rows that the "
                "model was fitted to"
            )
        return (
            "X and y are not the rows that the model was fitted to; pass these, with the "
            "sample_weight of fit and without rows that it has adapted to"
        )
