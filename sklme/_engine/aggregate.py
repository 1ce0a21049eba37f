"""Rows that repeat become one: the same predictors and levels, outcomes added up.

A binomial or Poisson log-likelihood needs of such rows only their sums. Repeats are found by a
random projection of each row to one number and then checked value by value.
"""

from dataclasses import replace

import numpy as np

from sklme._engine.laplace import Rows
from sklme._engine.weighted import Grouping

SAMPLE = 4096  # rows that are looked at before all are
WORTH = 0.8  # distinct rows per row above which nothing is gained


def aggregated(family, rows: Rows) -> Rows:
    """The same log-likelihood from fewer rows, or the rows as they are."""
    if not _promising(rows):
        return rows
    values = _values(rows)
    first, group = _distinct(values)
    if len(first) > WORTH * rows.n or not all(np.array_equal(v[first][group], v) for v in values):
        return rows
    outcome = family.aggregate(rows.outcome, group, len(first))
    if outcome is None:
        return rows
    return Rows(
        np.ascontiguousarray(rows.X[:, first]),
        None if rows.offset is None else rows.offset[first],
        tuple(_taken(g, first) for g in rows.groupings),
        outcome,
        tuple(A if A.shape[1] == 1 else A[:, first] for A in rows.aux),
    )


def _promising(rows: Rows) -> bool:
    """Whether rows repeat within a few levels."""
    if rows.n < 2:
        return False
    few = np.arange(rows.n)
    if rows.groupings and rows.n > SAMPLE:
        g = max(rows.groupings, key=lambda g: g.n_levels)
        few = np.flatnonzero(g.codes < max(1, g.n_levels * SAMPLE // rows.n))[: 4 * SAMPLE]
    values = [v[few] for v in _values(rows)]
    return bool(len(few)) and len(_distinct(values)[0]) <= WORTH * len(few)


def _values(rows: Rows) -> list[np.ndarray]:
    """Everything but the outcome that makes rows differ, one array (n,) each."""
    values = list(rows.X)
    for g in rows.groupings:
        values += [g.codes] if g.z is None else [g.codes, *g.z]
    values += [] if rows.offset is None else [rows.offset]
    return values + [a for A in rows.aux if A.shape[1] > 1 for a in A]


def _distinct(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each kind, and the kind of each row."""
    weights = np.random.default_rng(0).standard_normal(len(values))
    projection = sum(w * v for w, v in zip(weights, values, strict=True))
    _, first, group = np.unique(projection, return_index=True, return_inverse=True)
    return first, group


def _taken(g: Grouping, rows: np.ndarray) -> Grouping:
    z = None if g.z is None else np.ascontiguousarray(g.z[:, rows])
    return replace(g, codes=g.codes[rows], z=z)
