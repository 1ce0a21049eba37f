"""Rows with their responses, as studies of a fitted model take them."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklme._layout import ColumnFinder
from sklme.nonlinear._design import Design
from sklme.nonlinear._estimate import engine_method
from sklme.nonlinear._known import Known, learn_effects
from sklme.nonlinear._table import Groups, Table
from sklme.nonlinear.model import NonlinearMixedModel
from sklme.nonlinear.structure import FunctionStructure, LinearStructure


@dataclass(frozen=True, eq=False)
class Observed:
    """Rows of a fitted model and what they say of their groups.

    dosing : the doses of these rows
    """

    model: NonlinearMixedModel
    design: Design
    known: Known
    dosing: object

    @property
    def data(self):
        """The record of the engine."""
        return self.design.data()

    @property
    def parameters(self):
        """The population, as the engine takes it for these rows."""
        return self.model._population.parameters(self.design.n_occasions)

    @property
    def y(self):
        """Observed, row by row."""
        return self.design.rows.y

    @property
    def censored(self):
        """Which rows are limits that the observation lies below."""
        censored = self.design.rows.censored
        return np.zeros(len(self.y), bool) if censored is None else censored

    @property
    def subject(self):
        """The label of the group of each row."""
        groups = self.design.groups
        return groups.labels[groups.codes]

    @property
    def time(self):
        """The time of each row, or None."""
        at = time_column(self.model)
        return None if at is None else self.design.rows.columns[:, at]

    @property
    def on_log(self):
        """Whether residuals are those of log y."""
        return self.design.layout.error == "lognormal"


def unwrap(model):
    """The fitted model, alone or found by a search.

    Raises
    ------
    TypeError
        If there is none.
    """
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, NonlinearMixedModel):
        raise TypeError(f"model is a {type(model).__name__}; it must be a NonlinearMixedModel")
    check_is_fitted(model)
    return model


def observe(model, X, y, dosing=None):
    """Rows of some groups with their modes given these rows; without X those of fit."""
    model = unwrap(model)
    if X is None:
        if y is not None or dosing is not None:
            raise ValueError("y or dosing is given without X, which None makes the rows of fit")
        return Observed(model, model._design, model._known, model._dosing_of_fit)
    design = model._observed_design(X, y, dosing)
    method = engine_method(model.method, model.n_quadrature)
    known = learn_effects(design, model._population, method)
    return Observed(model, design, known, model._dosing_of_fit if dosing is None else dosing)


def time_column(model):
    """Which of the columns that the structure reads is the time, or None."""
    specification = model._layout.specification
    if isinstance(specification, LinearStructure):
        return None
    if model.time is not None:
        at = ColumnFinder.of(model)(model.time, "time")
        return specification.columns.index(at)
    if isinstance(specification, FunctionStructure):
        _, _, kind, at = specification.sources[0]
        return at if kind == "column" else None
    return 0


def time_name(model):
    """What the column of times is called."""
    at = time_column(model)
    if at is None:
        return "row"
    names = getattr(model, "feature_names_in_", None)
    return "time" if names is None else str(names[model._layout.specification.columns[at]])


def column_of(model, X, column, what):
    """A column of X as ids, by name or position; `what` names the argument in messages."""
    table = Table(model, X, reset=False)
    ids = table.ids(table.find(column, what), Groups.read(table, model._layout.group))
    return ids.values[ids.codes]


def rows_of_fit(model, X, y, dosing, what):
    """The rows that a model was fitted to, checked against its objective.

    Raises
    ------
    ValueError
        If they are others, or the model meets every observation.
    """
    found = observe(model, X, y, dosing)
    model = found.model
    if model.optimization_.exact_fit:
        raise ValueError(f"{what}: the structure meets every observation, so nothing is uncertain")
    if len(found.y) != len(model._rows.y) or not np.allclose(
        np.sort(found.y), np.sort(model._rows.y)
    ):
        raise ValueError(f"{what} needs the rows that the model was fitted to; X and y are others")
    return found
