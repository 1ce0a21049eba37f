"""A table of repeated measurements: features as one array, subjects and raters as codes."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from sklme._columns import is_frame
from sklme._ids import learn_levels, quote, read_ids
from sklme._layout import ColumnFinder
from sklme._tables import open_table


class Table(BaseEstimator):
    """Remembers the names of the columns while a table is read; scikit-learn's checks name it."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured.

    Y : (n, p) features, NaN where one was not measured; names : of the features
    subject, rater : (n,) codes; subjects, raters : their labels; None where raters are not told
    """

    Y: np.ndarray
    names: list
    subject: np.ndarray
    subjects: np.ndarray
    rater: np.ndarray | None
    raters: np.ndarray | None


def read_measurements(X, subject, rater) -> Measurements:
    """Read features and ids; a column that is named as subject or rater is no feature."""
    reader = Table()
    table = open_table(reader, X, reset=True)
    find = ColumnFinder.of(reader)
    who, place = _read_ids(table, find, subject, "subject")
    by, other = (None, None) if rater is None else _read_ids(table, find, rater, "rater")
    if place is not None and place == other:
        raise ValueError(f"subject and rater are both {table.name(place)}: they must differ")
    positions = tuple(j for j in range(table.shape[1]) if j not in (place, other))
    if not positions:
        raise ValueError("X has no columns but those of subject and rater: there is no feature")
    for j in positions:
        what = table.text(j)
        if what is not None:
            raise ValueError(
                f"{table.name(j)} holds {what} and is neither subject nor rater: leave it out"
            )
    columns = list(X.columns) if is_frame(X) else [f"x{j}" for j in range(table.shape[1])]
    Y = table.numbers(positions, ones=False)
    if Y.dtype != np.float64:
        Y = check_array(Y, dtype=np.float64, ensure_all_finite=False, input_name="X")
    names = [columns[j] for j in positions]
    return Measurements(Y, names, *who, *(by or (None, None)))


def _read_ids(table, find, ids, name):
    """(codes, labels), and the position of the column, None for an array."""
    if isinstance(ids, str | Integral) and not isinstance(ids, bool):
        place = find(ids, name)
        column, what = table.ids(place), table.name(place)
    else:
        place, what, column = None, name, _as_column(ids, name)
        if len(column) != table.shape[0]:
            raise ValueError(
                f"{name} has {len(column)} entries, but X has {table.shape[0]} rows: give one for "
                "each row, or the name of a column"
            )
    levels, codes = learn_levels(read_ids(column, what))
    return (codes, levels.values), place


def _as_column(ids, name):
    if ids is None:
        raise ValueError(f"{name} is None: say who was measured, by a column of X or one id a row")
    if type(ids).__module__.startswith("polars"):
        ids = ids.to_list()
    if np.ndim(ids) != 1:
        raise ValueError(f"{name} must be the name of a column of X or hold one id a row")
    column = pd.Series(ids)
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def first_duplicate(data: Measurements) -> str | None:
    """A sentence about the first subject that a rater measured twice, None without one."""
    cell = data.subject * len(data.raters) + data.rater
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(np.diff(cell[order]) == 0)
    if not len(again):
        return None
    one, two = sorted(order[again[0] : again[0] + 2].tolist())
    subject = quote(data.subjects[data.subject[one]])
    rater = quote(data.raters[data.rater[one]])
    return f"subject {subject} is measured twice by rater {rater} (rows {one} and {two})"
