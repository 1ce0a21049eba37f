"""Who a dose is for: rows of a table, or those of a posterior, and draws of their effects."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklme._ids import quote
from sklme.nonlinear import NonlinearMixedModel, Posterior
from sklme.nonlinear._design import Design, read_rows
from sklme.nonlinear._frames import frame
from sklme.nonlinear._known import refuse_unknown, roots
from sklme.nonlinear._table import Table


@dataclass(frozen=True, eq=False)
class Patients:
    """One row of each patient, and where their random effects come from.

    model : NonlinearMixedModel; rows : Rows, one for each patient
    known : Known, what their own samples say; None for new patients
    z : (n_draws, Q) standard normal, the same for every patient
    """

    model: NonlinearMixedModel
    rows: object
    known: object
    z: np.ndarray

    @classmethod
    def read(cls, given, X, n_draws, random_state):
        """The patients of a model and a table, or of a posterior."""
        model, posterior = _open(given, X)
        known = None if posterior is None else posterior._known
        if X is None:
            rows = _last_rows(posterior._design)
        else:
            rows = read_rows(model._layout, Table(model, _complete(model, X), reset=False))
            _check_rows(rows, known)
        n_effects = len(model._population.between) + len(model._population.within)
        return cls(model, rows, known, _draw(n_draws, n_effects, random_state))

    @property
    def labels(self):
        """Their ids, in the order of the rows."""
        return self.rows.groups.labels[self.rows.groups.codes]

    @property
    def name(self):
        """Of the column of ids."""
        return self.rows.groups.name or "patient"

    def design(self, i, times, dosing):
        """Some samples of one patient."""
        rows = self.rows.take(np.full(len(times), i))
        return Design(self.model._layout, replace(rows, columns=times[:, None]), dosing)

    def parameters(self, design):
        """Draws (n_draws, 1, m, q) of the parameters of the patient of a design."""
        population = self.model._population
        if self.known is None:
            mean, covariance = 0.0, population.parameters(design.n_occasions).Omega
        else:
            (mean,), (covariance,) = self.known.place(design)
        eta = mean + self.z @ roots(covariance).T
        return design.natural(population.beta, eta[:, None])


def _open(given, X):
    """The model, and the posterior if there is one."""
    if isinstance(given, Posterior):
        model, posterior = given._model, given
    elif isinstance(given, NonlinearMixedModel):
        check_is_fitted(given)
        model, posterior = given, None
        if X is None:
            raise ValueError("X is None: a model needs the covariates of the patients")
    else:
        raise ValueError(
            f"model is a {type(given).__name__}; it must be a fitted NonlinearMixedModel or what "
            "its condition returns"
        )
    if model._layout.group is None:
        raise ValueError("the model has no group, so that it does not know how patients differ")
    return model, posterior


def _complete(model, X):
    """X with the columns that say nothing of a patient to come, or are not read."""
    columns = getattr(X, "columns", X if isinstance(X, dict) else None)
    if columns is None or not hasattr(model, "feature_names_in_"):
        return X
    columns, layout = list(columns), model._layout
    n = len(X[columns[0]]) if columns else 0
    needed = {one.at: list(layout.parameters)[one.parameter] for one in layout.learned}
    found = {}
    for at, name in enumerate(model.feature_names_in_):
        if name in columns:
            found[name] = list(X[name])
        elif at in needed:
            raise ValueError(
                f"X has no column {name!r}, which the model needs for {needed[at]!r}: it has "
                f"{', '.join(map(repr, columns)) or 'no columns'}"
            )
        elif at == layout.group:
            found[name] = list(range(n))
        elif at == layout.occasion:
            found[name] = [_new_label(model._known.occasions.values)] * n
        else:
            found[name] = [0.0] * n
    for name in columns:
        if name not in found:
            raise ValueError(f"X has the column {name!r}, which fit has not seen")
    return frame(found, (None, np.arange(n)))


def _new_label(labels):
    """An occasion that is none of those of fit."""
    if isinstance(labels[0], str):
        return "next" + "".join(max(labels, key=len))
    return labels.max() + 1


def _check_rows(rows, known):
    codes = rows.groups.codes
    if not len(codes):
        raise ValueError("X has no row: give one for each patient")
    if rows.groups.n < len(codes):
        repeats = np.bincount(codes)
        label = quote(rows.groups.labels[np.argmax(repeats > 1)])
        raise ValueError(
            f"X has {repeats[repeats > 1][0]} rows of the patient {label}: give one row for each "
            "patient"
        )
    if known is not None:
        refuse_unknown(known, rows.groups)


def _last_rows(design):
    last = np.sort([rows[-1] for rows in design.groups.rows])
    return replace(design.rows.take(last), y=None, censored=None)


def _draw(n_draws, n_effects, random_state):
    """Pairs of opposite draws: medians of parameters are those of the typical patient."""
    half = check_random_state(random_state).standard_normal((-(-n_draws // 2), n_effects))
    return np.concatenate([half, -half])[:n_draws]
