"""The specification of a model against the table of fit, and its rows against the error."""

import warnings
from dataclasses import replace

import numpy as np

from sklme._ids import quote
from sklme.nonlinear._covariates import learn_covariates
from sklme.nonlinear._design import Layout, read_rows
from sklme.nonlinear._table import Groups
from sklme.nonlinear.parameters import read_parameters
from sklme.nonlinear.structure import CompartmentStructure, LinearStructure, read_structure


def read_layout(model, table, y):
    """Everything that fit must know of a table, and its rows."""
    at = {
        name: None if getattr(model, name) is None else table.find(getattr(model, name), name)
        for name in ("group", "occasion", "censored")
    }
    taken = [position for position in at.values() if position is not None]
    _refuse_shared(model, at)
    groups = Groups.read(table, at["group"])
    specification = read_structure(model.structure, model.parameters, model.time, table, {*taken})
    names, default = specification.parameter_names, specification.default
    if model.parameters is None and default is None:
        given = dict.fromkeys(names)
    else:
        given = model.parameters
    parameters = read_parameters(given, names, default)
    learned, effects = learn_covariates(parameters, table, groups)
    random = tuple(k for k, p in enumerate(parameters.values()) if p.random)
    layout = Layout(
        parameters=parameters,
        effects=tuple(effects),
        learned=tuple(learned),
        specification=specification,
        **at,
        random=() if at["group"] is None else random,
        varying=_varying(model, at, list(parameters), random),
        error=model.error,
    )
    rows = read_rows(layout, table, y, groups)
    if isinstance(specification, LinearStructure):
        layout = replace(layout, effects=specification.settle(layout.effects, rows.columns))
    return layout, rows


def _refuse_shared(model, at):
    used = {}
    for name, position in at.items():
        if position is not None and position in used:
            raise ValueError(
                f"{used[position]} and {name} name the same column of X, {getattr(model, name)!r}"
            )
        used[position] = name


def _varying(model, at, names, random):
    wanted = model.occasion_parameters
    if at["occasion"] is None:
        if wanted is not None:
            raise ValueError("occasion_parameters is given, but occasion is None: name its column")
        return ()
    if at["group"] is None:
        raise ValueError("occasion divides the rows of a group: name the column of the group too")
    if wanted is None:
        return random
    if isinstance(wanted, str):
        raise ValueError(f"occasion_parameters is {wanted!r}; it must be a list of names")
    for name in wanted:
        if name not in names:
            raise ValueError(
                f"occasion_parameters names {name!r}, which is no parameter of the structure; it "
                f"has {', '.join(map(repr, names))}"
            )
    return tuple(names.index(name) for name in dict.fromkeys(wanted))


def check_rows_of_fit(layout, rows, more=False):
    """y against the error; in fit, whether there are enough rows."""
    if layout.error == "lognormal" and (rows.y <= 0).any():
        row = int(np.argmax(rows.y <= 0))
        raise ValueError(
            f"y is {rows.y[row]:g} for {rows.groups.describe(row)} in row {row}: with a lognormal "
            "error every y must be above 0"
        )
    n, free = len(rows.y), sum(not effect.fixed for effect in layout.effects)
    if not more and n <= free:
        raise ValueError(
            f"n_samples={n} rows cannot tell {free} typical values and covariate effects and a "
            "residual error"
        )


def warn_of_late_doses(layout, rows, dosing):
    """A dose after the last sample of its subject changes nothing, and is often a wrong time."""
    if not isinstance(layout.specification, CompartmentStructure) or layout.group is None:
        return
    last = np.full(rows.groups.n, -np.inf)
    np.maximum.at(last, rows.groups.codes, rows.columns[:, 0])
    labels, times = rows.groups.labels, dosing.column("time")
    start, end = dosing.rows(labels)
    late = [i for i in range(rows.groups.n) if end[i] > start[i] and times[end[i] - 1] > last[i]]
    if late:
        first = late[0]
        more = f", and so have {len(late) - 1} more subjects" if len(late) > 1 else ""
        warnings.warn(
            f"subject {quote(labels[first])} has a dose at time {times[end[first] - 1]:g}, in row "
            f"{end[first] - 1} of the doses, after its last sample at {last[first]:g}, where it "
            f"changes nothing{more}",
            stacklevel=3,
        )
