"""The tables of results, and what else needs pandas."""

import pandas as pd


def frame(values, index, columns=None):
    """A table; `index` is (name, labels), or a list of these for an index of several levels."""
    return pd.DataFrame(values, index=_index(index), columns=columns)


def series(values, index):
    """A named sequence."""
    return pd.Series(values, index=list(index), dtype=float)


def is_missing(column):
    """Which entries are missing."""
    return pd.isna(column)


def _index(index):
    if isinstance(index, list):
        return pd.MultiIndex.from_arrays(
            [labels for _, labels in index], names=[n for n, _ in index]
        )
    name, labels = index
    return pd.Index(labels, name=name)
