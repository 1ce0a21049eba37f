"""Ids of groups: a column of any kind -> integer codes and a table of its levels.

A column of ids is of one family, and levels compare by value inside it: 308 and 308.0 are one
level, "308" is another family. Everything but the first hash of a column works on distinct
values only.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from numbers import Number

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from sklme._terms import show

_OF_KIND = {"b": "bool", "i": "number", "u": "number", "f": "number", "U": "text"}
_OF_OBJECTS = {
    "string": "text",
    "boolean": "bool",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
}
_EXACT = 2**53  # integers up to here are exact as float64


@dataclass(frozen=True, eq=False)
class Ids:
    """One column of ids, hashed: row i has the id ``values[codes[i]]``."""

    name: str  # for messages: 'column "site"'
    family: str  # number, text, bool, datetime, datetime with time zone
    values: np.ndarray  # distinct ids
    codes: np.ndarray  # (n_rows,)

    def first_row(self, code):
        """Number of the first row with the id ``values[code]``."""
        return int(np.argmax(self.codes == code))


@dataclass(frozen=True, eq=False)
class LevelTable:
    """The levels of one column in the order of their codes."""

    family: str
    values: np.ndarray

    @cached_property
    def _index(self):
        return pd.Index(self.values, dtype=self.values.dtype)

    def __getstate__(self):
        return {"family": self.family, "values": self.values}

    def find(self, ids):
        """Level of each distinct id, -1 for ids that are no level."""
        if ids.family != self.family:
            raise ValueError(
                f"{ids.name} held ids of the family {self.family} in fit (for example "
                f"{quote(self.values[0])}) and holds {ids.family} now ({quote(ids.values[0])} in "
                f"row {ids.first_row(0)}): ids must be of the same family"
            )
        known, values = _comparable(self.values, ids.values)
        index = self._index if known is self.values else pd.Index(known, dtype=known.dtype)
        return index.get_indexer(pd.Index(values, dtype=values.dtype))

    def extended(self, ids):
        """Table that also has the new ids, sorted among themselves behind the known levels."""
        new = ids.values[self.find(ids) < 0]
        if len(new) == 0:
            return self
        both = np.concatenate(_comparable(self.values, new[_sorting(new)]))
        return LevelTable(self.family, _canonical(both, self.family))


def learn_levels(ids):
    """Table of the levels of `ids`, sorted by value, and the code of each row."""
    order = _sorting(ids.values)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return LevelTable(ids.family, ids.values[order]), rank[ids.codes]


def read_ids(column, name, rows=None):
    """Hash a column of ids and find its family.

    Parameters
    ----------
    column : ndarray or pandas array, of shape (n_rows,)
    name : str
        For messages.
    rows : ndarray or None
        Row numbers of the entries when they are not 0, 1, 2, ...

    Raises
    ------
    ValueError
        If an id is missing or infinite, or if the column mixes families.
    TypeError
        If an entry cannot be an id.
    """
    if isinstance(column, pd.Categorical):
        return _read_categories(column, name)
    if isinstance(column.dtype, pd.SparseDtype):
        column = np.asarray(column)
    if _is_plain_objects(column):
        column = np.asarray(column, dtype=object)
    family = _family(column, name, rows)
    codes, values = pd.factorize(column)
    if len(codes) and codes.min() < 0:
        raise ValueError(
            f"{name} has a missing id (NaN or null) in row {_row(np.argmin(codes), rows)}: "
            "give it a level of its own or drop the row"
        )
    objects = column.dtype == object and family != "text"
    ids = Ids(name, family, _canonical(values, family), codes)
    _refuse_infinite(ids, rows)
    return _merged(ids) if objects else ids


def _read_categories(column, name):
    """Ids of a pandas Categorical: categories that occur, with the codes as they are."""
    codes = np.asarray(column.codes)
    if codes.min(initial=0) < 0:
        raise ValueError(
            f"{name} has a missing id (NaN or null) in row {np.argmin(codes)}: "
            "give it a level of its own or drop the row"
        )
    first = first_rows(codes, len(column.categories))
    used = np.flatnonzero(first >= 0)
    inner = read_ids(column.categories[used].array, name, rows=first[used])
    position = np.empty(len(first), dtype=np.intp)
    position[used] = inner.codes
    return Ids(name, inner.family, inner.values, position[codes])


def first_rows(codes, n_codes):
    """Number of the first row of each code, -1 for those without one."""
    first = np.full(n_codes, -1, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def _is_plain_objects(column):
    """Whether a column is best read as Python objects: numpy text, periods, Arrow text, ..."""
    if isinstance(column.dtype, np.dtype):
        return column.dtype.kind == "U"
    return column.dtype.kind == "O" and not isinstance(column.dtype, pd.StringDtype)


def _row(i, rows):
    return int(i if rows is None else rows[i])


def quote(value):
    """An id as messages show it: "a", 308, 0.5, 2020-01-01T00:00:00.000000."""
    if isinstance(value, np.datetime64):
        return str(value)
    return show(value.item() if isinstance(value, np.generic) else value)


# Families -------------------------------------------------------------------------------------


def _family(column, name, rows):
    """Family of a column, missing entries aside; a mixture is refused."""
    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype):
        return "text"
    if dtype.kind == "M":
        aware = getattr(dtype, "tz", None) or getattr(
            getattr(dtype, "pyarrow_dtype", None), "tz", None
        )
        return "datetime with time zone" if aware else "datetime"
    if dtype.kind == "O":
        return _OF_OBJECTS.get(infer_dtype(column)) or _common_family(column, name, rows)
    if dtype.kind not in _OF_KIND:
        raise _not_an_id(f"'{dtype}'", name, _row(0, rows))
    return _OF_KIND[dtype.kind]


def _common_family(values, name, rows):
    """Family of objects that pandas does not call one kind, read one by one."""
    first = None
    for i in np.flatnonzero(~pd.isna(values)):
        value = values[i]
        family = _family_of_value(value)
        if family is None:
            raise _not_an_id(f"'{type(value).__name__}'", name, _row(i, rows))
        if first is None:
            first, start = family, i
        if family != first:
            raise ValueError(
                f"{name} mixes {first} ({quote(values[start])} in row {_row(start, rows)}) and "
                f"{family} ({quote(value)} in row {_row(i, rows)}): ids of a column must be of "
                "one family"
            )
    return first or "text"


def _family_of_value(value):
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, date | np.datetime64):
        aware = getattr(value, "tzinfo", None) is not None
        return "datetime with time zone" if aware else "datetime"
    if isinstance(value, Number | Decimal) and not isinstance(value, complex | np.timedelta64):
        return "number"
    return None


def _not_an_id(what, name, row):
    return TypeError(
        f"{name}: an id argument must be a string, a number, a bool or a datetime, "
        f"not {what} (row {row}); a string of it would do"
    )


# Values ---------------------------------------------------------------------------------------


def _canonical(values, family):
    """Distinct ids as one array per family, the same for every container they came in."""
    if family == "text":
        return np.asarray(values, dtype=object)
    if family == "bool":
        return np.asarray(values, dtype=bool)
    if family == "number":
        return _numbers(np.asarray(values))
    aware = family == "datetime with time zone"
    stamps = np.asarray(pd.to_datetime(values, utc=True).tz_localize(None) if aware else values)
    if stamps.dtype == object:
        stamps = np.asarray(pd.to_datetime(stamps))
    coarse = stamps.astype("datetime64[us]")
    return coarse if (coarse == stamps).all() else stamps


def _numbers(values):
    """int64 if all are integers, else float64 if that is exact, else Python numbers."""
    if values.dtype.kind == "i":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "f":
        values = values.astype(np.float64, copy=False)
        if np.all((np.abs(values) < 2.0**63) & (values == np.floor(values))):
            return values.astype(np.int64)
        return values
    plain = [_plain_number(v) for v in values.tolist()]
    integers = [v for v in plain if isinstance(v, int)]
    if len(integers) == len(plain) and all(-(2**63) <= v < 2**63 for v in integers):
        return np.array(plain, dtype=np.int64)
    if len(integers) < len(plain) and all(abs(v) <= _EXACT for v in integers):
        return np.array(plain, dtype=np.float64)
    return np.array(plain, dtype=object)


def _plain_number(value):
    """int where the value is one, else float."""
    as_float = float(value)
    if not np.isfinite(as_float):
        return as_float
    return int(value) if value == int(value) else as_float


def _refuse_infinite(ids, rows):
    if ids.family != "number" or ids.values.dtype.kind == "i":
        return
    finite = np.isfinite(ids.values.astype(np.float64))
    if finite.all():
        return
    row = _row(ids.first_row(np.argmin(finite)), rows)
    raise ValueError(f"{ids.name} has an infinite id (inf) in row {row}: ids must be finite")


def _merged(ids):
    """Ids of which some became equal when Python objects were read as plain values."""
    again, values = pd.factorize(ids.values)
    return Ids(ids.name, ids.family, values, again[ids.codes])


def _comparable(a, b):
    """Both arrays with one dtype in which equal ids are equal and others are not."""
    if a.dtype == b.dtype:
        return a, b
    if a.dtype.kind == "M":
        return a.astype("datetime64[ns]"), b.astype("datetime64[ns]")
    if _exact_as_float(a) and _exact_as_float(b):
        return a.astype(np.float64), b.astype(np.float64)
    return a.astype(object), b.astype(object)


def _exact_as_float(values):
    if values.dtype.kind == "i" and len(values):
        return -_EXACT <= values.min() and values.max() <= _EXACT
    return values.dtype.kind in "if"


def _sorting(values):
    """Order of the values; text by code point, which is how Python compares."""
    if values.dtype != object:
        return np.argsort(values, kind="stable")
    return np.array(sorted(range(len(values)), key=values.tolist().__getitem__), dtype=np.intp)


# Combinations of columns ------------------------------------------------------------------------


def learn_combinations(key_codes, factor):
    """Levels of a term, sorted column by column, and the level of each row."""
    if len(factor) == 1:
        return None, key_codes[factor[0]]
    return _sorted_combinations(np.column_stack([key_codes[k] for k in factor]))


def _sorted_combinations(codes):
    ids, first = _hash_rows(codes)
    levels = codes[first]
    order = np.lexsort(levels.T[::-1])
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return levels[order], rank[ids]


def find_combinations(key_codes, factor, known):
    """Level of each row, -1 for combinations that did not occur."""
    if known is None:
        return key_codes[factor[0]]
    codes = np.column_stack([key_codes[k] for k in factor])
    level = _hash_rows(np.concatenate([known, codes]))[0][len(known) :]
    return np.where(level < len(known), level, -1)


def extend_combinations(key_codes, factor, known):
    level = find_combinations(key_codes, factor, known)
    unknown = np.flatnonzero(level < 0)
    if known is None or len(unknown) == 0:
        return known, level
    codes = np.column_stack([key_codes[k][unknown] for k in factor])
    new, new_level = _sorted_combinations(codes)
    level[unknown] = len(known) + new_level
    return np.concatenate([known, new]), level


def _hash_rows(codes):
    """Number of each distinct row in order of appearance, and where each appears first.

    One column after the other, so that no product of level counts can overflow.
    """
    ids = codes[:, 0]
    for column in codes.T[1:]:
        ids = pd.factorize(ids)[0] * (column.max() + 2) + column + 1
    ids = pd.factorize(ids)[0]
    return ids, first_rows(ids, ids.max() + 1)
