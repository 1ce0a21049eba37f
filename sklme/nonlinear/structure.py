"""The structures a model may have: a linear predictor, a function, a compartment model.

A specification knows its parameters and the columns of X that it reads; `bind` makes of it what
the engine calls: ``structure(psi, subjects=None)`` takes psi (..., subjects, m, q) and gives f
(..., subjects, n).
"""

import inspect
from dataclasses import replace

import numpy as np

from sklme.nonlinear.parameters import Parameter, refuse_no_dict

DEPENDS = 1e-7  # of its size; a column with less of its own depends on others


class LinearStructure:
    """An intercept and a slope for each column: what a model without a structure has."""

    what = "a feature of the linear structure"

    def __init__(self, columns, names):
        self.columns, self.parameter_names = tuple(columns), ("intercept", *names)

    @staticmethod
    def default(name):
        """The parameters add up; groups differ in the intercept."""
        return Parameter(transform="identity", random=name == "intercept")

    @staticmethod
    def settle(effects, columns):
        """Slopes of columns that depend on earlier ones are 0."""
        Q, effects = np.full((len(columns), 1), len(columns) ** -0.5), list(effects)
        for k, x in enumerate(columns.T, start=1):
            rest = x - Q @ (Q.T @ x)
            rest = rest - Q @ (Q.T @ rest)
            centred = np.linalg.norm(x - x.mean())
            if np.linalg.norm(rest) <= DEPENDS * centred or centred <= DEPENDS * abs(x).max():
                effects[k] = replace(effects[k], initial=0.0, fixed=True)
            else:
                Q = np.column_stack([Q, rest / np.linalg.norm(rest)])
        return tuple(effects)

    def bind(self, columns, groups, mask, dosing):
        """The structure of some rows."""
        refuse_dosing(dosing)
        return BoundLinear(columns)


class BoundLinear:
    """intercept + x'slopes, for columns (N, n, p)."""

    complex_safe = local = True

    def __init__(self, columns):
        self.columns = columns

    def __call__(self, psi, subjects=None):
        """f of psi (..., subjects, m, 1 + p)."""
        x = self.columns if subjects is None else self.columns[subjects]
        if psi.shape[-2] == 1:
            return psi[..., 0] + (x @ psi[..., 0, 1:, None])[..., 0]
        return psi[..., 0] + (x * psi[..., 1:]).sum(axis=-1)

    def jacobian(self, psi, subjects=None):
        """f and df/dpsi."""
        x = self.columns if subjects is None else self.columns[subjects]
        slopes = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=-1)
        f = self(psi, subjects)
        return f, np.broadcast_to(slopes, (*f.shape, slopes.shape[-1]))

    def start(self, y, mask):
        """psi by least squares."""
        x = self.columns[mask]
        centre, size = x.mean(axis=0), x.std(axis=0)
        size[size <= 1e-12 * np.abs(centre)] = np.inf  # constant columns: no slope
        z = (x - centre) / size
        slopes = np.linalg.lstsq(z, y[mask] - y[mask].mean(), rcond=1e-10)[0] / size
        return np.concatenate([[y[mask].mean() - slopes @ centre], slopes])


class FunctionStructure:
    """A function of columns and parameters; `sources` says where each argument comes from."""

    what = "a column that the structure reads"
    default = None

    def __init__(self, function, sources, columns, parameter_names):
        self.function, self.sources = function, sources
        self.columns, self.parameter_names = tuple(columns), tuple(parameter_names)
        self.complex_safe = True

    def bind(self, columns, groups, mask, dosing):
        """The structure of some rows."""
        refuse_dosing(dosing)
        return BoundFunction(self, columns)


class BoundFunction:
    """A function with its columns (N, n, n_columns)."""

    local = True

    def __init__(self, specification, columns):
        self.specification, self.columns = specification, columns

    @property
    def complex_safe(self):
        """Whether derivatives by complex steps are right."""
        return self.specification.complex_safe

    def __call__(self, psi, subjects=None):
        """f of psi (..., subjects, m, q)."""
        columns = self.columns if subjects is None else self.columns[subjects]
        by_kind = {"parameter": psi, "column": columns}
        first, named = [], {}
        for name, by_position, kind, at in self.specification.sources:
            value = by_kind[kind][..., at]
            if by_position:
                first.append(value)
            else:
                named[name] = value
        f = np.asarray(self.specification.function(*first, **named))
        shape = (*psi.shape[:-2], columns.shape[1])
        if f.shape == shape:
            return f
        try:
            return np.broadcast_to(f, shape).copy()
        except ValueError:
            raise ValueError(
                f"the structure {called(self.specification.function)} gave an array of shape "
                f"{f.shape} for parameters of shape {psi.shape[:-1]} and columns of shape "
                f"{columns.shape[:-1]}; it must work like numpy's functions and give {shape}"
            ) from None


class CompartmentStructure:
    """An object with ``parameter_names`` and ``bind``, which is given doses."""

    what = "the column of times"
    default = None

    def __init__(self, model, column):
        self.model, self.columns = model, (column,)
        self.parameter_names = tuple(model.parameter_names)

    def is_usual(self, psi):
        """Whether absorption is the faster of two rates, which the data often cannot tell."""
        value = dict(zip(self.parameter_names, psi, strict=True))
        clearance = value["CL"] / value["V"] if {"CL", "V"} <= value.keys() else 0.0
        rate = value.get("K", clearance)
        return value.get("KA", np.inf) > rate

    def bind(self, columns, groups, mask, dosing):
        """The structure of some rows."""
        if dosing is None:
            raise ValueError(
                f"the structure {type(self.model).__name__} needs the doses: give the model "
                "dosing=Dosing(...)"
            )
        labels = groups.labels if groups.table is not None else _only_subject(dosing)
        return self.model.bind(labels, columns[:, :, 0], dosing, mask)


def _only_subject(dosing):
    if len(dosing.subjects) > 1:
        raise ValueError(
            f"dosing has the subjects {_some(dosing.subjects)}, but group is None: name the column "
            "that says which row is whose"
        )
    return dosing.subjects


def refuse_dosing(dosing):
    """Doses are for compartment models."""
    if dosing is not None:
        raise ValueError(
            "dosing is given, but the structure is no compartment model: it reads no doses"
        )


# What a user gives -----------------------------------------------------------------------------


def read_structure(structure, parameters, time, table, taken):
    """Find what a structure is and which columns it reads.

    Parameters
    ----------
    structure : None, callable, or object with ``bind`` and ``parameter_names``
    parameters : dict or None
        As the user gave them.
    time : str, int or None
        Column of times.
    table : Table
    taken : set of int
        Positions of columns that are something else (group, occasion, ...).
    """
    free = [at for at in range(table.shape[1]) if at not in taken]
    if structure is None:
        if time is not None:
            raise ValueError(
                f"time names {time!r}, but there is no structure that depends on time: give one"
            )
        return LinearStructure(free, [table.find.name(at) for at in free])
    if hasattr(structure, "bind") and hasattr(structure, "parameter_names"):
        return CompartmentStructure(structure, _time(time, table, free, "time"))
    if not callable(structure):
        raise ValueError(
            f"structure is {structure!r}; it must be a function f(time, ...) of columns of X and "
            "parameters, a compartment model such as OneCompartment(), or None"
        )
    return _read_function(structure, parameters, time, table, free)


def _read_function(function, parameters, time, table, free):
    if parameters is not None:
        refuse_no_dict(parameters)
    arguments = _arguments(function)
    names, columns, sources = [], [], []
    for i, (name, argument) in enumerate(arguments):
        if parameters is not None and name in parameters:
            kind = "parameter"
        elif i == 0 or name in _names(table):
            kind = "column"
        elif argument.default is not argument.empty:
            continue
        elif parameters is None:
            kind = "parameter"
        else:
            raise ValueError(_unmatched(function, name, parameters, table))
        # What follows an argument that keeps its default must be given by name.
        by_position = argument.kind is not argument.KEYWORD_ONLY and len(sources) == i
        which = names if kind == "parameter" else columns
        sources.append((name, by_position, kind, len(which)))
        which.append(name if kind == "parameter" else _column(name, time, table, free))
    _refuse_unread(function, time, table, columns, arguments[0][0])
    if not names:
        raise ValueError(f"the structure {called(function)} has no parameter to estimate")
    return FunctionStructure(function, tuple(sources), columns, names)


def _names(table):
    return () if table.find.names is None else table.find.names


def _column(name, time, table, free):
    """The position of the column of an argument: of that name, or else the time."""
    if name in _names(table):
        return table.find(name, "structure")
    return _time(time, table, free, name)


def _unmatched(function, name, parameters, table):
    names = _names(table)
    return (
        f"the argument {name!r} of the structure {called(function)} is neither a parameter nor a "
        f"column of X: parameters names {_some(parameters)}, X has "
        f"{_some(names) if len(names) else 'columns without names'}"
    )


def _refuse_unread(function, time, table, columns, first):
    """A column of times that nothing reads."""
    if time is not None and table.find(time, "time") not in columns:
        raise ValueError(
            f"time names {time!r}, but the structure {called(function)} reads no such column: its "
            f"first argument {first!r} is another column or a parameter"
        )


def _arguments(function):
    try:
        arguments = list(inspect.signature(function).parameters.items())
    except (TypeError, ValueError):
        arguments = []
    if not arguments or any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for _, a in arguments):
        raise ValueError(
            f"the structure {called(function)} must have named arguments, such as "
            "f(time, CL, V): they are matched with parameters and columns of X by name"
        )
    return arguments


def _time(time, table, free, name):
    """The column of the first argument."""
    if time is not None:
        return table.find(time, "time")
    if len(free) == 1:
        return free[0]
    raise ValueError(
        f"which column of X the structure depends on as {name!r} is not said: give time=, the name "
        "or position of the column"
    )


def called(function):
    """A structure as messages call it."""
    return getattr(function, "__name__", type(function).__name__)


def _some(names, most=20):
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
