"""Sites and patients: labels from a column or an array, and splits that keep sites whole."""

from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.utils import _safe_indexing
from sklearn.utils._indexing import _get_column_indices

from sklme._ids import quote

LEAVE_ONE_OUT = "leave-one-site-out"


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of rows: sites, or patients.

    Attributes
    ----------
    name : str
        Name of the column, or "site" or "groups" for an array.
    codes : ndarray of shape (n_rows,)
        Position in `values` of each row.
    values : ndarray of shape (n_labels,)
        The different labels, sorted where they can be.
    """

    name: str
    codes: np.ndarray
    values: np.ndarray

    def __len__(self):
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows to fit an estimator to, and the sites to test it at."""

    train: np.ndarray
    test: tuple  # pairs (code of the site, its rows)
    n_train_sites: int


def read_labels(argument, given, X, n):
    """Labels from a name or position of a column of X, or from an array.

    Raises ValueError where the column does not exist, the array has another length or a label is
    missing.
    """
    if isinstance(given, str | Integral) and not isinstance(given, bool):
        name, values = str(given), _column(argument, given, X)
    else:
        name, values = str(getattr(given, "name", None) or argument), _array(argument, given, n)
    _refuse_missing(argument, values)
    codes, labels = _factorize(values.astype(object) if values.dtype.kind in "US" else values)
    return Labels(name, codes, np.asarray(labels))


def _column(argument, given, X):
    try:
        (position,) = _get_column_indices(X, given)
        return np.asarray(_safe_indexing(X, position, axis=1))
    except (ValueError, IndexError, TypeError, KeyError) as error:
        has = f"has {list(X.columns)}" if hasattr(X, "columns") else "is an array without names"
        raise ValueError(
            f"{argument} is {given!r}, which is not a column of X; X {has}; {argument} may also be "
            "an array of one label for each row"
        ) from error


def _array(argument, given, n):
    values = np.asarray(given)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n,):
        raise ValueError(
            f"{argument} has the shape {values.shape}, but X has {n} rows: {argument} is a column "
            "of X, or an array of one label for each row"
        )
    return values


def _refuse_missing(argument, values):
    missing = np.asarray(pd.isna(values))
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(
            f"{argument} of row {row} is missing ({values[row]!r}); {missing.sum()} of "
            f"{len(values)} rows have none: drop them or give them a label"
        )
    if values.dtype == object:
        odd = [row for row, value in enumerate(values) if not _is_label(value)]
        if odd:
            raise ValueError(
                f"{argument} of row {odd[0]} is a {type(values[odd[0]]).__name__}; a label must "
                "be a text or a number"
            )


def _is_label(value):
    return isinstance(value, Hashable) and not isinstance(value, tuple | frozenset)


def _factorize(values):
    try:
        return pd.factorize(values, sort=True)
    except TypeError:  # numbers and text, which have no order
        return pd.factorize(values)


def check_sites(sites):
    """At least two sites."""
    if len(sites) < 2:
        raise ValueError(
            f"all {len(sites.codes)} rows are of site {quote(sites.values[0])}: validation across "
            "sites needs at least two"
        )


def check_patients(patients, sites):
    """No patient is at two sites, as then the training rows would know the test rows."""
    pairs = np.unique(np.column_stack([patients.codes, sites.codes]), axis=0)
    twice = np.flatnonzero(np.diff(pairs[:, 0]) == 0)
    if len(twice):
        patient, first = pairs[twice[0]]
        names = (sites.values[first], sites.values[pairs[twice[0] + 1, 1]])
        raise ValueError(
            f"patient {quote(patients.values[patient])} has rows at the sites "
            f"{' and '.join(map(quote, names))} ({len(np.unique(pairs[twice, 0]))} such patients): "
            "drop the rows at one of them, or make patient ids unique by site if these are "
            "different people"
        )


def find_folds(cv, X, y, sites):
    """Folds whose test rows are of sites without a training row.

    Returns (list of Fold, the scheme in words).
    """
    splitter, words = _splitter(cv, sites)
    folds = []
    for train, test in splitter.split(X, y, sites.codes):
        train, test = _positions(train, len(y)), _positions(test, len(y))
        _check_whole(train, test, sites)
        codes = sites.codes[test]
        parts = tuple((int(s), test[codes == s]) for s in np.unique(codes))
        folds.append(Fold(train, parts, len(np.unique(sites.codes[train]))))
    if not folds:
        raise ValueError(f"cv={cv!r} makes no split of these {len(sites)} sites")
    return folds, words


def _splitter(cv, sites):
    if isinstance(cv, str) and cv == LEAVE_ONE_OUT:
        return LeaveOneGroupOut(), "leave one site out"
    if isinstance(cv, Integral) and not isinstance(cv, bool):
        if not 2 <= cv <= len(sites):
            raise ValueError(
                f"cv is {cv}; with {len(sites)} sites it must be from 2 to {len(sites)} parts"
            )
        return GroupKFold(int(cv)), f"{cv} parts of whole sites"
    if hasattr(cv, "split") and not isinstance(cv, str):
        return cv, " ".join(repr(cv).split())
    raise ValueError(
        f'cv is {cv!r}; it must be "{LEAVE_ONE_OUT}", a number of parts or a splitter with '
        "split(X, y, groups)"
    )


def _positions(rows, n):
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool and len(rows) == n else rows


def _check_whole(train, test, sites):
    shared = np.intersect1d(sites.codes[train], sites.codes[test])
    if len(shared):
        raise ValueError(
            f"cv puts rows of site {quote(sites.values[shared[0]])} into training and test of one "
            "split: every test fold must hold whole sites, as those of LeaveOneGroupOut and "
            "GroupKFold do"
        )
    if not len(train) or not len(test):
        raise ValueError(f"cv makes a split with {len(train)} training and {len(test)} test rows")
