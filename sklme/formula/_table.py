"""The columns that a formula names, out of a table: numbers, and categoricals by their levels."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas.api import types

from sklme._tables import is_frame
from sklme._terms import show
from sklme.formula._bars import error


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of the categorical columns of a formula, by column.

    Attributes
    ----------
    known : dict
        Column -> Index of the levels that `fit` has seen, in order.
    coded : frozenset
        The columns that become a Categorical; the others are numbers that ``C(...)`` encodes.
    """

    known: dict
    coded: frozenset


def refuse_no_names(X):
    """Raise unless X is a table with column names."""
    if not is_frame(X) or not all(isinstance(name, str) for name in X.columns):
        raise ValueError(
            "a formula names columns, but X has no column names (text): pass a DataFrame"
        )


def grouping_columns(parsed):
    """Each grouping column once."""
    return list(dict.fromkeys(name.text for bar in parsed.bars for name in bar.groups))


def unknown_column(name, columns, most=20):
    """Sentence for a name that is not a column."""
    columns = list(columns)
    close = get_close_matches(name, columns, n=1)
    hint = f"; did you mean {show(close[0])}?" if close else ""
    has = str(columns[:most]) if len(columns) <= most else f"{str(columns[:most])[:-1]}, ...]"
    return f"{show(name)} is not a column; there are {has}{hint}"


def read_columns_of(parsed, X, functions):
    """The columns of the fixed part, slopes and offsets.

    Parameters
    ----------
    parsed : ParsedFormula
    X : dataframe of shape (n_rows, n_columns)
    functions : collection of str
        Names that formulas may use besides those of columns.

    Returns
    -------
    table : DataFrame of shape (n_rows, n_used)

    Raises
    ------
    ValueError
        If a name is neither a column nor a function, or a value is missing.
    """
    columns = list(X.columns)
    used = [_column_of(name, columns, functions, parsed.text) for name in parsed.names]
    for name in (name for bar in parsed.bars for name in bar.groups):
        if name.text not in columns:
            raise error(unknown_column(name.text, columns), parsed.text, name.at)
    table = {name: _plain(column_of(X, name)) for name in dict.fromkeys(used) if name is not None}
    for name, column in table.items():
        missing = np.flatnonzero(column.isna())
        if len(missing):
            raise ValueError(
                f"column {show(name)} has no value in row {missing[0]}: leave such rows out, "
                f"by data.dropna(subset=[{show(name)}]), or impute them"
            )
    return pd.DataFrame(table, index=pd.RangeIndex(len(X)))


def learn_levels_of(parsed, table):
    """Levels of the columns that stand in the formula as categoricals.

    Parameters
    ----------
    parsed : ParsedFormula
    table : DataFrame of shape (n_rows, n_used)
        Of `read_columns_of`.

    Returns
    -------
    Levels
    """
    bare = {name.text: name for name in parsed.names if name.role == "column"}
    python = {name.text for name in parsed.names if name.role == "python"}
    encoded = _encoded(parsed)
    known, coded = {}, set()
    for name, column in table.items():
        if name in bare:
            _refuse_dates(column, bare[name], parsed.text)
        if name not in bare and name not in encoded:
            continue
        if _is_categorical(column, calculated=name in python - encoded):
            coded.add(name)
        elif name not in encoded:
            continue
        known[name] = pd.Categorical(column).remove_unused_categories().categories
    return Levels(known, frozenset(coded))


def code_levels(table, levels):
    """The table with its categoricals coded by the levels that are known.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_used)
    levels : Levels

    Returns
    -------
    DataFrame of shape (n_rows, n_used)

    Raises
    ------
    ValueError
        On a level that is not known.
    """
    table = table.copy()
    for name, known in levels.known.items():
        values = table[name].astype(object)
        codes = known.get_indexer(pd.Index(values))
        if (codes < 0).any():
            row = np.flatnonzero(codes < 0)[0]
            raise ValueError(
                f"column {show(name)} holds {show(values.iloc[row])} in row {row}, a level "
                f"that fit has not seen; it knows {', '.join(show(k) for k in known[:20])}"
            )
        if name in levels.coded:
            table[name] = pd.Categorical.from_codes(codes, categories=known)
    return table


def column_of(X, name):
    """A column of a pandas or polars table as a pandas Series of its own."""
    column = X[name]
    if getattr(column, "ndim", 1) == 2:
        raise ValueError(f"X has {column.shape[1]} columns of the name {show(name)}")
    if hasattr(column, "iloc"):
        return column.reset_index(drop=True)
    if str(column.dtype).startswith("Enum"):
        return pd.Series(pd.Categorical(column.to_list(), categories=list(column.dtype.categories)))
    if str(column.dtype).startswith("Categorical"):
        column = column.cast(str)
    return pd.Series(column.to_numpy())


def _column_of(name, columns, functions, text):
    """The column that a name of the formula is, None for functions and modules."""
    head, dot, _ = name.text.partition(".")
    method = dot and head in columns  # x.clip(0, 1)
    if name.role == "function" and (head in functions or not method):
        return None  # What is no function is refused when the formula is read.
    if name.role == "function":
        return head
    if name.text in columns:
        if dot and name.role == "python" and text[name.at] != "`":
            raise error(f"inside Python, write the column as `{name.text}`", text, name.at)
        return name.text
    if name.role == "python" and method:
        return head
    if head in functions and (dot or name.role == "python"):
        return None
    raise error(unknown_column(name.text, columns), text, name.at)


def _refuse_dates(column, name, text):
    if column.dtype.kind in "mM":
        raise error(
            f"{show(name.text)} holds dates or times: make a number of it, such as "
            f"{{{name.text}.dt.day_of_year}}",
            text,
            name.at,
        )


def _is_categorical(column, calculated):
    """Text, categories and such; yes and no as well, as in R, unless calculated with."""
    if types.is_bool_dtype(column):
        return not calculated
    return not types.is_numeric_dtype(column)


def _encoded(parsed):
    """Columns that ``C(...)`` or ``factor(...)`` encode."""
    found = set()
    for function, name in pairwise(parsed.names):
        if function.text in ("C", "factor") and function.role == "function":
            call = parsed.text[function.at :]
            if re.match(rf"\w+\(\s*`?{re.escape(name.text)}`?\s*[,)]", call):
                found.add(name.text)
    return found


def _plain(column):
    """A column with numpy's numbers, where it has numbers; objects are looked into."""
    if column.dtype == object:
        column = column.infer_objects()
        if column.dtype == object and types.infer_dtype(column) in (
            "decimal",
            "mixed-integer-float",
        ):
            return column.astype(np.float64)
    if isinstance(column.dtype, pd.CategoricalDtype) or not types.is_numeric_dtype(column):
        return column
    if isinstance(column.dtype, np.dtype) or column.isna().any():
        return column
    return column.astype(bool if types.is_bool_dtype(column) else np.float64)
