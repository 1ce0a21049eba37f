"""The model inside its wrappers, and what all tables need of it."""

from dataclasses import dataclass
from functools import cached_property, singledispatch
from numbers import Real

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklme._adapt import transformed_target
from sklme._engine.dof import coefficient_covariance, coefficient_values
from sklme._engine.lmm import LinearFit
from sklme._rows import check_number
from sklme.generalized._base import GeneralizedBase
from sklme.inference._generalized import GeneralizedFitted
from sklme.linear import LinearMixedModel


@dataclass(frozen=True)
class Fitted:
    """A fitted linear mixed model and, where they were given, its rows as the model saw them.

    r : the output that is asked for
    """

    model: LinearMixedModel
    X: object
    y: object
    r: int
    generalized = False

    @property
    def fit(self) -> LinearFit:
        """The engine's record."""
        return self.model._fit

    @property
    def working(self) -> LinearFit:
        """The linear mixed model that holds coefficients and cross-products: the fit itself."""
        return self.fit

    @cached_property
    def names(self) -> list[str]:
        """Names of the fixed coefficients, "(Intercept)" first where there is one."""
        return ["(Intercept)"] * self.fit.intercept + list(self.model.fixed_names_)

    @cached_property
    def estimates(self) -> np.ndarray:
        """The fixed coefficients in the order of `names`; 0 for a dropped column."""
        return coefficient_values(self.fit, self.r)

    @property
    def kept(self) -> np.ndarray:
        """Which of the coefficients in `names` were not dropped."""
        return self.fit.columns

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates, zero for dropped columns; variances taken as known."""
        return coefficient_covariance(self.fit, self.r)

    @property
    def residual_variance(self) -> float:
        """In units of y squared."""
        return float(np.atleast_1d(self.model.residual_variance_)[self.r])

    @property
    def keys(self) -> list:
        """The factors, as the user named them."""
        return [term.key for term in self.model._terms]

    def of_output(self, values) -> np.ndarray:
        """One output of an attribute that leads with n_outputs where there are several."""
        return values if self.model._one_output else values[self.r]


def open_model(model, X=None, y=None, *, output=None, needs_rows=None, sample_weight=None):
    """The mixed model inside `model`, with X and y as it saw them in fit.

    needs_rows : the name of the function that cannot do without X and y

    Returns a `Fitted` for a linear mixed model, a `GeneralizedFitted` for a generalised one; which
    of them tells `generalized`.
    """
    if needs_rows and (X is None or y is None):
        raise ValueError(f"{needs_rows} needs the rows that the model was fitted to: pass X and y")
    check_is_fitted(model)
    inner, X, y = _unwrap(model, X, y)
    if not isinstance(inner, LinearMixedModel | GeneralizedBase):
        raise TypeError(
            f"a fitted LinearMixedModel is needed, or a generalised one, alone or in a Pipeline, a "
            f"search or a TransformedTargetRegressor; this is {type(inner).__name__}"
        )
    check_is_fitted(inner)
    if isinstance(inner, LinearMixedModel):
        return Fitted(inner, X, y, _output(inner, output))
    if output not in (None, 0):
        raise ValueError(f"output is {output!r}; {type(inner).__name__} has one output, 0")
    return GeneralizedFitted(inner, X, y, sample_weight)


def open_linear(model, X=None, y=None, *, function, instead, **options) -> Fitted:
    """As `open_model` for a function that makes sense for linear mixed models only.

    function : its name; instead : what to use for a generalised model, the end of a sentence
    """
    fitted = open_model(model, X, y, **options)
    if fitted.generalized:
        raise TypeError(
            f"{function} takes linear mixed models, and this is {type(fitted.model).__name__}: "
            f"{instead}"
        )
    return fitted


def check_both_rows(X, y) -> None:
    """X and y are given together or not at all."""
    if (X is None) != (y is None):
        missing = "y" if y is None else "X"
        raise ValueError(
            f"the exact information needs X and y, and {missing} is missing: pass both, or neither"
        )


def check_level(confidence_level) -> None:
    """A probability strictly between 0 and 1."""
    check_number("confidence_level", confidence_level, Real, 0, 1)


def choose_factor(fitted, factor) -> int:
    """The position of a factor among the model's; the only one may be left out."""
    if not fitted.keys:
        raise ValueError("the model has no random effects")
    if factor is None and len(fitted.keys) == 1:
        return 0
    if factor not in fitted.keys:
        known = ", ".join(map(repr, fitted.keys))
        what = "several factors, choose one" if factor is None else f"no factor {factor!r}"
        raise ValueError(f"the model has {what}: {known}")
    return fitted.keys.index(factor)


@singledispatch
def _unwrap(estimator, X, y):
    return estimator, X, y


@_unwrap.register
def _(estimator: Pipeline, X, y):
    for _, step in estimator.steps[:-1]:
        if X is not None and step not in (None, "passthrough"):
            X = step.transform(X)
    return _unwrap(estimator.steps[-1][1], X, y)


@_unwrap.register
def _(estimator: BaseSearchCV, X, y):
    return _unwrap(estimator.best_estimator_, X, y)


@_unwrap.register
def _(estimator: TransformedTargetRegressor, X, y):
    return _unwrap(estimator.regressor_, X, None if y is None else transformed_target(estimator, y))


def _output(model: LinearMixedModel, output) -> int:
    n = len(model._fit.s2)
    if output is None and n > 1:
        raise ValueError(f"the model has {n} outputs: choose one by output=0 to {n - 1}")
    if output is not None and not 0 <= output < n:
        raise ValueError(f"output is {output!r}; the model has outputs 0 to {n - 1}")
    return int(output or 0)
