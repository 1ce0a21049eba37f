"""X -> fixed-effect columns, level codes and slopes; with `_tables`, all that knows a DataFrame.

`learn_columns` reads the table of fit, `read_columns` any later table, `extend_columns` a table
with new levels. Positions address columns of every container, names those of tables.
"""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils.validation import assert_all_finite, check_array, validate_data

from sklme._ids import (
    Ids,
    LevelTable,
    extend_combinations,
    find_combinations,
    learn_combinations,
    learn_levels,
    quote,
    read_ids,
)
from sklme._layout import ColumnFinder, Layout, find_layout
from sklme._tables import as_frame, is_frame, open_table, refuse_empty, refuse_masked, refuse_text


@dataclass(frozen=True, eq=False)
class Rows:
    """What the engine gets from a table: plain arrays.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_fixed)
        Fixed-effect columns, without an intercept column.
    codes : tuple of ndarray of shape (n_rows,)
        Level of each row, one array per term; -1 for levels that are not known.
    slopes : tuple of ndarray of shape (n_rows, n_slopes)
        Random-effect covariates, one array per term; an intercept is a column of ones. They
        may share memory with `X`.
    offset : ndarray of shape (n_rows,) or None
    trials : ndarray of shape (n_rows,) or None
    zeros : ndarray of shape (n_rows, n_zeros) or None
        Columns of a model of extra zeros.
    """

    X: np.ndarray
    codes: tuple
    slopes: tuple
    offset: np.ndarray | None
    trials: np.ndarray | None = None
    zeros: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """What a fitted estimator remembers of its table.

    Attributes
    ----------
    layout : Layout
        Positions of fixed columns, keys, slopes and offset.
    tables : tuple of LevelTable
        Levels of each key column, in the order of ``layout.keys``.
    combinations : tuple of (ndarray of shape (n_levels, n_columns) or None)
        Per term, the level of each key column in each combination that occurred; None for terms
        of one column.
    """

    layout: Layout
    tables: tuple[LevelTable, ...]
    combinations: tuple

    @property
    def fixed_names(self):
        """Names of the columns of ``Rows.X``, in order."""
        return list(self.layout.fixed_names)

    @property
    def n_levels(self):
        """Number of levels of each term."""
        return tuple(
            len(self.tables[columns[0]].values if table is None else table)
            for columns, table in zip(self.layout.factors, self.combinations, strict=True)
        )

    def labels(self, t):
        """Levels of term `t`, in the order of their codes.

        Returns
        -------
        ndarray of shape (n_levels,), or (n_levels, n_columns) and object for combinations
            Datetimes with a time zone are given in UTC.
        """
        columns, table = self.layout.factors[t], self.combinations[t]
        if table is None:
            return self.tables[columns[0]].values
        labels = np.empty(table.shape, dtype=object)
        for i, k in enumerate(columns):
            labels[:, i] = _objects(self.tables[k].values)[table[:, i]]
        return labels


def learn_columns(
    estimator,
    X,
    terms,
    *,
    ignored=(),
    fixed_effects=None,
    offset=None,
    trials=None,
    zeros=(),
):
    """Find the columns of a specification in the table of fit and learn the levels.

    Sets ``n_features_in_`` and, for tables with names, ``feature_names_in_`` on `estimator`.

    Parameters
    ----------
    estimator : estimator object
    X : {array-like, dataframe} of shape (n_rows, n_columns)
    terms : tuple of RandomTerm
    ignored : tuple of str or int
    fixed_effects : list of str or int, default=None
        None means all columns that are not keys, ignored, the offset or the trials.
    offset, trials : str or int, default=None
    zeros : sequence of str or int
        Columns of a model of extra zeros.

    Returns
    -------
    columns : Columns
    rows : Rows

    Raises
    ------
    ValueError
        If a column is not in X, holds text although a number is asked for, has missing values or
        ids of several families.
    TypeError
        If X is sparse or an entry cannot be a number or an id.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.base import BaseEstimator
    >>> from sklme._terms import parse_terms
    >>> X = pd.DataFrame({"site": ["b", "a", "b"], "age": [50, 60, 70]})
    >>> terms, _ = parse_terms({"site": ["1", "age"]})
    >>> columns, rows = learn_columns(BaseEstimator(), X, terms)
    >>> columns.labels(0), rows.codes[0]
    (array(['a', 'b'], dtype=object), array([1, 0, 1]))
    """
    special = fixed_effects, offset, trials
    if not terms and not ignored and not zeros and all(s is None for s in special):
        return _learn_plain(estimator, X)
    table = open_table(estimator, X, reset=True)
    layout = find_layout(ColumnFinder.of(estimator), terms, ignored, *special, zeros)
    ids = _read_keys(table, layout)
    learned = [learn_levels(column) for column in ids]
    tables, key_codes = zip(*learned, strict=True) if learned else ((), ())
    found = [learn_combinations(key_codes, factor) for factor in layout.factors]
    combinations, codes = zip(*found, strict=True) if found else ((), ())
    rows = _rows(_read_numbers(estimator, table, layout), codes, layout)
    return Columns(layout, tables, combinations), rows


def read_columns(estimator, X, columns, *, handle_unknown="population"):
    """Read a table by what was learned in fit.

    Parameters
    ----------
    estimator : estimator object
        Has ``n_features_in_`` from fit.
    X : {array-like, dataframe} of shape (n_rows, n_columns)
    columns : Columns
    handle_unknown : str, default="population"
        ``"error"`` refuses levels that are not known; anything else codes them -1.

    Returns
    -------
    Rows

    Raises
    ------
    ValueError
        As `learn_columns`; if ids changed their family; on unknown levels under ``"error"``.
    """
    layout = columns.layout
    if layout.plain:
        return _read_plain(estimator, X, reset=False)
    table = open_table(estimator, X, reset=False)
    ids = _read_keys(table, layout)
    key_codes = _find_levels(columns.tables, ids)
    codes = tuple(
        find_combinations(key_codes, factor, known)
        for factor, known in zip(layout.factors, columns.combinations, strict=True)
    )
    if handle_unknown == "error":
        _refuse_unknown(ids, codes, layout)
    return _rows(_read_numbers(estimator, table, layout), codes, layout)


def extend_columns(estimator, X, columns):
    """Read a table and learn its new levels; known levels keep their codes.

    Parameters
    ----------
    estimator : estimator object
    X : {array-like, dataframe} of shape (n_rows, n_columns)
    columns : Columns
        Not changed.

    Returns
    -------
    columns : Columns
        New levels stand behind the known ones, sorted among themselves.
    rows : Rows

    Raises
    ------
    ValueError
        As `read_columns`.
    """
    layout = columns.layout
    if layout.plain:
        return columns, _read_plain(estimator, X, reset=False)
    table = open_table(estimator, X, reset=False)
    ids = _read_keys(table, layout)
    tables = tuple(known.extended(i) for known, i in zip(columns.tables, ids, strict=True))
    key_codes = _find_levels(tables, ids)
    found = [
        extend_combinations(key_codes, factor, known)
        for factor, known in zip(layout.factors, columns.combinations, strict=True)
    ]
    combinations, codes = zip(*found, strict=True) if found else ((), ())
    rows = _rows(_read_numbers(estimator, table, layout), codes, layout)
    return replace(columns, tables=tables, combinations=combinations), rows


# Columns of one table --------------------------------------------------------------------------


def _read_keys(table, layout):
    """Ids of the key columns; those of ignored columns are read to be checked, no more."""
    ids = [read_ids(table.ids(j), table.name(j)) for j in (*layout.keys, *layout.ignored)]
    return ids[: len(layout.keys)]


def _read_numbers(estimator, table, layout):
    """The columns ``layout.numbers`` as float64, or those with a column of ones before them.

    The ones are there where a term needs them and the columns are laid out anew anyway.
    """
    refuse_text(table, layout.numbers, layout.keys)
    if not layout.numbers:
        return np.empty((table.shape[0], 0))
    numbers = table.numbers(layout.numbers, ones=any(None in at for at in layout.slopes))
    if numbers.dtype.kind not in "biuf":
        return check_array(numbers, dtype=np.float64, estimator=estimator, input_name="X")
    numbers = np.asarray(numbers, dtype=np.float64)
    assert_all_finite(numbers, estimator_name=type(estimator).__name__, input_name="X")
    return numbers


def _learn_plain(estimator, X):
    rows = _read_plain(estimator, X, reset=True)
    layout = find_layout(ColumnFinder.of(estimator), (), (), None, None)
    return Columns(replace(layout, plain=True), (), ()), rows


def _read_plain(estimator, X, *, reset):
    """A table of fixed columns only, as every estimator reads it."""
    refuse_masked(X)
    if is_frame(X):
        table = as_frame(X)
        refuse_empty(estimator, table.shape)
        refuse_text(table, range(table.shape[1]), ())
    return Rows(validate_data(estimator, X, dtype=np.float64, reset=reset), (), (), None)


def _rows(numbers, codes, layout):
    first = numbers.shape[1] - len(layout.numbers)  # 1 where ones stand before the numbers
    X = numbers[:, first : first + len(layout.fixed_names)]
    slopes = tuple(_slopes(numbers, first, at) for at in layout.slopes)
    single = layout.offset, layout.trials
    offset, trials = (None if i is None else numbers[:, first + i] for i in single)
    zeros = numbers[:, [first + i for i in layout.zeros]] if layout.zeros else None
    return Rows(X, codes, slopes, offset, trials, zeros)


def _slopes(numbers, first, at):
    """The columns of a term: a view where the ones are there and the places evenly spaced."""
    places = [0 if i is None else first + i for i in at]
    step = places[1] - places[0] if len(places) > 1 else 1
    if first and places == list(range(places[0], places[-1] + 1, step)):
        return numbers[:, places[0] : places[-1] + 1 : step]
    ones = np.ones(len(numbers))
    return np.stack([ones if i is None else numbers[:, first + i] for i in at]).T


def _objects(values):
    """Array of Python objects; datetimes stay numpy's, which know nanoseconds."""
    if values.dtype.kind != "M":
        return values.astype(object)
    objects = np.empty(len(values), dtype=object)
    objects[:] = list(values)
    return objects


# Levels ----------------------------------------------------------------------------------------


def _find_levels(tables, ids):
    return [table.find(i)[i.codes] for table, i in zip(tables, ids, strict=True)]


def _refuse_unknown(ids, codes, layout):
    for factor, level in zip(layout.factors, codes, strict=True):
        unknown = np.flatnonzero(level < 0)
        if len(unknown):
            names = " and ".join(ids[k].name for k in factor)
            raise ValueError(
                f"{names}: levels that fit has not seen, {_some_levels(ids, factor, unknown)}; "
                f'the first is in row {unknown[0]} (handle_unknown="population" predicts them '
                "without their random effect)"
            )


def _some_levels(ids: list[Ids], factor, rows, most=5):
    """The first few different levels of the rows, as text."""
    levels = {}
    for row in rows:
        level = ", ".join(quote(ids[k].values[ids[k].codes[row]]) for k in factor)
        levels[level if len(factor) == 1 else f"({level})"] = True
        if len(levels) > most:
            return ", ".join(list(levels)[:most]) + ", ..."
    return ", ".join(levels)
