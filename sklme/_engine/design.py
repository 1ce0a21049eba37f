"""The rows of a mixed model: X dense, Z as level codes and slope columns, never a matrix.

For one factor with k coefficients a level, row i of Z holds z[i] in the columns of level
codes[i]. Everything the engine asks of Z is a gather (Z b) or a grouped sum (Z'r).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Factor:
    """One grouping factor.

    codes : (n,) level of each row, 0 .. n_levels - 1
    z : (n, k) the columns whose coefficients vary by level; the intercept is a column of ones
    """

    codes: np.ndarray
    n_levels: int
    z: np.ndarray

    @property
    def k(self) -> int:
        return self.z.shape[1]


@dataclass(frozen=True)
class Design:
    """X, the factors of Z and the row weights.

    intercept : whether a column of ones stands before X
    weights : (n,) positive row weights, or None for ones
    whiten : maps a block of columns (n, m) to rows with independent errors of equal variance; it
        may mix rows that share their level in every factor. None for independent residuals
    """

    X: np.ndarray
    factors: tuple[Factor, ...]
    intercept: bool = True
    weights: np.ndarray | None = None
    whiten: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def n_rows(self) -> int:
        return self.X.shape[0]

    def random_part(self, effects) -> np.ndarray:
        """Z b for effects given as one (n_levels, k) or (n_levels, k, m) array a factor."""
        terms = [
            np.einsum("nk,nk...->n...", f.z, b[f.codes])
            for f, b in zip(self.factors, effects, strict=True)
        ]
        return sum(terms) if terms else np.zeros(self.n_rows)

    def dense_random(self) -> np.ndarray:
        """Z itself, (n, q): for small checks only."""
        rows = np.arange(self.n_rows)
        columns = []
        for f in self.factors:
            Z = np.zeros((self.n_rows, f.n_levels, f.k))
            Z[rows, f.codes] = f.z
            columns.append(Z.reshape(self.n_rows, -1))
        return np.hstack(columns) if columns else np.zeros((self.n_rows, 0))


def sum_by_level(codes: np.ndarray, n_levels: int, rows: np.ndarray) -> np.ndarray:
    """Sums over the rows of each level: (m, n) -> (m, n_levels), added in row order."""
    if len(rows) <= 32:
        out = np.empty((len(rows), n_levels))
        for sums, values in zip(out, rows, strict=True):
            sums[:] = np.bincount(codes, values, n_levels)
        return out
    n = len(codes)
    indicator = sparse.csr_array((np.ones(n), codes, np.arange(n + 1)), shape=(n, n_levels))
    return np.ascontiguousarray((indicator.T @ rows.T).T)
