"""Bins of a column: rows that are close enough to be looked at together."""

from numbers import Integral

import numpy as np

FEWEST, MOST = 3, 12  # bins, where nothing is said
ENOUGH = 25  # rows for one more bin


def read_bins(bins, x, groups):
    """Edges (n_bins + 1,) of bins of x.

    Parameters
    ----------
    bins : None, int or array-like
        As the user gave them.
    x : ndarray of shape (n,)
    groups : Groups
        None makes as many bins as a group has rows, or more where there are many rows.

    Raises
    ------
    ValueError
        If they are neither, or leave out rows.
    """
    if bins is None:
        usual = max(np.median([len(rows) for rows in groups.rows]), len(x) / ENOUGH)
        return equal_counts(x, int(np.clip(usual, FEWEST, MOST)))
    if isinstance(bins, Integral) and not isinstance(bins, bool):
        if bins < 1:
            raise ValueError(f"bins is {bins!r}; there must be at least one")
        return equal_counts(x, int(bins))
    edges = np.asarray(bins, float) if np.ndim(bins) == 1 else np.empty(0)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bins is {bins!r}; it must be a number of bins, or edges that rise")
    if x.min() < edges[0] or x.max() > edges[-1]:
        raise ValueError(
            f"bins go from {edges[0]:g} to {edges[-1]:g}, but the rows from {x.min():g} to "
            f"{x.max():g}"
        )
    return edges


def equal_counts(x, n_bins):
    """Edges of bins with about as many rows each; equal values share a bin."""
    values, counts = np.unique(x, return_counts=True)
    middle = (np.cumsum(counts) - 0.5 * counts) / len(x)
    of = np.minimum((middle * n_bins).astype(int), n_bins - 1)
    cut = np.flatnonzero(np.diff(of))
    return np.concatenate([values[:1], 0.5 * (values[cut] + values[cut + 1]), values[-1:]])


def which_bin(x, edges):
    """The bin of each row; the last edge belongs to the last bin."""
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
