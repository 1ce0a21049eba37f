"""`adapt`: teach a fitted model new levels, wherever in a pipeline it sits."""

from copy import copy
from functools import singledispatch

import numpy as np
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted


def adapt(estimator, X, y=None):
    """Learn the levels of new rows with a fitted estimator; its parameters stay.

    Parameters
    ----------
    estimator : estimator object
        A fitted model of this package, or a fitted `Pipeline`, `ColumnTransformer`,
        `TransformedTargetRegressor` or search (`GridSearchCV`, ...) that holds one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows of new levels, or more rows of known ones, as given to ``estimator.predict``.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Their responses; transformers do without.

    Returns
    -------
    estimator : estimator object
        A fitted copy that knows these levels too. The given one is not changed.

    Raises
    ------
    TypeError
        If nothing in `estimator` can adapt.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklme import LinearMixedModel, adapt
    >>> from sklme.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> known, new = X["Subject"] != 308, X["Subject"] == 308
    >>> pipeline = make_pipeline(LinearMixedModel(random_effects="Subject"))
    >>> pipeline = pipeline.fit(X[known], y[known])
    >>> day_nine = X[new].tail(1)
    >>> adapted = adapt(pipeline, X[new].head(5), y[new].head(5))
    >>> print(pipeline.predict(day_nine).round(), adapted.predict(day_nine).round())
    [340.] [354.]
    """
    check_is_fitted(estimator)
    if not _can_adapt(estimator):
        raise TypeError(
            f"nothing in {type(estimator).__name__} can adapt to new levels; adapt takes a model "
            "of sklme, or a fitted Pipeline, ColumnTransformer, TransformedTargetRegressor or "
            "search that holds one"
        )
    return _adapt(estimator, X, y)


@singledispatch
def _parts(estimator):
    """The fitted estimators inside a wrapper."""
    return []


@singledispatch
def _adapt(estimator, X, y):
    return estimator.adapt(X) if y is None else estimator.adapt(X, y)


def _can_adapt(estimator):
    return hasattr(estimator, "adapt") or any(_can_adapt(part) for part in _parts(estimator))


@_parts.register
def _(estimator: Pipeline):
    return [step for _, step in estimator.steps if step not in (None, "passthrough")]


@_adapt.register
def _(estimator: Pipeline, X, y):
    steps, last = [], len(estimator.steps) - 1
    for i, (name, step) in enumerate(estimator.steps):
        if step not in (None, "passthrough"):
            step = _adapt(step, X, y) if _can_adapt(step) else step
            X = step.transform(X) if i < last else X
        steps.append((name, step))
    return _with(estimator, steps=steps)


@_parts.register
def _(estimator: ColumnTransformer):
    return [t for _, t, _ in estimator.transformers_ if not isinstance(t, str)]


@_adapt.register
def _(estimator: ColumnTransformer, X, y):
    transformers = [
        (name, _adapt(t, _safe_indexing(X, columns, axis=1), y), columns)
        if not isinstance(t, str) and _can_adapt(t)
        else (name, t, columns)
        for name, t, columns in estimator.transformers_
    ]
    return _with(estimator, transformers_=transformers)


@_parts.register
def _(estimator: BaseSearchCV):
    return [estimator.best_estimator_] if hasattr(estimator, "best_estimator_") else []


@_adapt.register
def _(estimator: BaseSearchCV, X, y):
    return _with(estimator, best_estimator_=_adapt(estimator.best_estimator_, X, y))


@_parts.register
def _(estimator: TransformedTargetRegressor):
    return [estimator.regressor_]


@_adapt.register
def _(estimator: TransformedTargetRegressor, X, y):
    return _with(
        estimator, regressor_=_adapt(estimator.regressor_, X, transformed_target(estimator, y))
    )


def transformed_target(estimator, y):
    """y as the inner regressor saw it in fit."""
    y = np.asarray(y, dtype=np.float64)
    z = estimator.transformer_.transform(y.reshape(-1, 1) if y.ndim == 1 else y)
    squeeze = estimator._training_dim == 1 and z.ndim == 2 and z.shape[1] == 1
    return z[:, 0] if squeeze else z


def _with(estimator, **attributes):
    other = copy(estimator)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other
