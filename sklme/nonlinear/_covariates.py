"""Columns of X -> covariate columns of the design, with what fit has learned of them."""

from dataclasses import dataclass

import numpy as np

from sklme._ids import LevelTable, quote
from sklme.nonlinear.parameters import Effect


@dataclass(frozen=True, eq=False)
class Learned:
    """A covariate of a parameter after fit.

    parameter : number of the parameter; name : of the column, for messages
    at : position of the column in X
    reference : number, or code of the level in `table`; table : levels of a categorical column
    """

    parameter: int
    at: int
    name: str
    form: str
    reference: float
    table: LevelTable | None = None

    def columns(self, table, subjects):
        """The columns of the design (n_rows, n_effects) in a table; `subjects` names its rows."""
        if self.table is not None:
            codes = read_levels(self, table, subjects)
            others = np.delete(np.arange(len(self.table.values)), int(self.reference))
            return (codes[:, None] == others).astype(float)
        x = read_numbers(self, table, subjects)
        shifted = np.log(x / self.reference) if self.form == "power" else x - self.reference
        return shifted[:, None]


def read_numbers(learned, table, subjects):
    """The values of a numeric covariate."""
    x = table.number(learned.at, "a covariate", subjects)
    if learned.form == "power" and (x <= 0).any():
        row = int(np.argmax(x <= 0))
        raise ValueError(
            f"{learned.name} is {x[row]:g} for {subjects.describe(row)} in row {row}: a covariate "
            "of the form 'power' must be above 0"
        )
    return x


def read_levels(learned, table, subjects):
    """Codes of the levels of a categorical covariate; unknown ones are refused."""
    ids = table.ids(learned.at, subjects)
    found = learned.table.find(ids)
    codes = found[ids.codes]
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        known = ", ".join(map(quote, learned.table.values))
        raise ValueError(
            f"{learned.name} is {quote(ids.values[ids.codes[row]])} for {subjects.describe(row)} "
            f"in row {row}, a level that fit has not seen; it has seen {known}"
        )
    return codes


def learn_covariates(parameters, table, subjects):
    """Learn references and levels.

    Returns
    -------
    learned : list of Learned
    effects : list of Effect
        The entries of beta: typical values, then those of the covariates in order.
    """
    effects = [
        Effect(k, name, p.initial, bool(p.fixed)) for k, (name, p) in enumerate(parameters.items())
    ]
    learned = []
    for k, (name, parameter) in enumerate(parameters.items()):
        for covariate in parameter.covariates:
            who = f"parameters[{name!r}].covariates"
            at = table.find(covariate.column, who)
            _refuse_twice(who, learned, k, at, covariate)
            one, labels = _learn(k, at, covariate, table, subjects)
            learned.append(one)
            effects += [
                Effect(k, f"{name}:{covariate.column}{label}", start, bool(covariate.fixed))
                for label, start in labels
            ]
    return learned, effects


def _refuse_twice(who, learned, parameter, at, covariate):
    if any(one.parameter == parameter and one.at == at for one in learned):
        raise ValueError(f"{who} names the column {covariate.column!r} twice")


def _learn(k, at, covariate, table, subjects):
    name = table.name(at)
    if covariate.form == "categorical":
        return _learn_levels(k, at, name, covariate, table, subjects)
    bare = Learned(k, at, name, covariate.form, 1.0)
    x = read_numbers(bare, table, subjects)
    reference = covariate.reference
    if reference == "median":
        reference = float(np.median([np.median(x[rows]) for rows in subjects.rows]))
    if (
        isinstance(reference, str | bool)
        or not np.isscalar(reference)
        or not np.isfinite(reference)
    ):
        raise ValueError(
            f"the reference of {name} is {reference!r}; it must be a number or 'median'"
        )
    if covariate.form == "power" and reference <= 0:
        raise ValueError(f"the reference of {name} is {reference!r}; it must be above 0")
    if isinstance(covariate.initial, dict):
        raise ValueError(f"the initial value of {name} is a dict, which is for levels only")
    if not covariate.fixed and len(x) > 1 and np.ptp(x) == 0:
        raise ValueError(
            f"{name} is {x[0]:g} in every row: its effect cannot be told from the typical value of "
            "the parameter"
        )
    return Learned(k, at, name, covariate.form, float(reference)), [("", float(covariate.initial))]


def _learn_levels(k, at, name, covariate, table, subjects):
    ids = table.ids(at, subjects)
    levels, codes = table.learn(ids)
    values = levels.values
    same = [i for i, value in enumerate(values) if _same(value, covariate.reference)]
    if same:
        reference = same[0]
    elif isinstance(covariate.reference, str) and covariate.reference == "median":
        counts = np.zeros(len(values), int)
        for rows in subjects.rows:
            counts[np.unique(codes[rows])] += 1
        reference = int(np.argmax(counts))
    else:
        known = ", ".join(map(quote, values))
        raise ValueError(
            f"the reference of {name} is {covariate.reference!r}, which is no level of it; it has "
            f"{known}"
        )
    others = [value for i, value in enumerate(values) if i != reference]
    labels = [(f"[{_plain(value)}]", _start(name, covariate, value, values)) for value in others]
    return Learned(k, at, name, "categorical", float(reference), levels), labels


def _same(value, reference):
    value = _plain(value)
    return isinstance(value, str) == isinstance(reference, str) and value == reference


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _start(name, covariate, value, values):
    if not isinstance(covariate.initial, dict):
        return float(covariate.initial)
    known = [_plain(v) for v in values]
    for level in covariate.initial:
        if level not in known:
            raise ValueError(
                f"the initial values of {name} name {level!r}, which is no level of it; it has "
                f"{', '.join(map(quote, values))}"
            )
    return float(covariate.initial.get(_plain(value), 0.0))
