"""Sums over pairs of entries of a row: the Schur complement of crossed factors, and its dual.

For rows N_l (k x n_dense, few entries) of an eliminated factor and a small matrix D_l for each,
the elimination needs  sum_l N_l' D_l N_l,  and the gradient  N_l Phi N_l'  for every l. Both run
over the same pairs of entries, so the products are formed once and each sum is one sparse
matrix-vector product. Where the pairs would not fit, the sums are formed from sparse products.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sklme._engine.elimination import Pattern

MOST_PAIRS = 30_000_000  # 12 bytes each
ROWS_AT_ONCE = 4_000_000  # numbers in a dense strip


@dataclass(frozen=True)
class PairSums:
    """For each a <= b a sparse matrix (n_dense^2 cells, lower triangle) x (levels)."""

    products: dict[tuple[int, int], sparse.csc_array]
    n_dense: int
    k: int

    def schur(self, D: np.ndarray) -> np.ndarray:
        """sum_l N_l' D_l N_l as (n_dense, n_dense), lower triangle only; D is (k, k, q)."""
        sums = sum((1 + (a != b)) * (Q @ D[a, b]) for (a, b), Q in self.products.items())
        return sums.reshape(self.n_dense, self.n_dense)

    def quadratic(self, Phi: np.ndarray) -> np.ndarray:
        """N_l Phi N_l' for every level, (k, k, q)."""
        twice = 2.0 * Phi
        twice.flat[:: self.n_dense + 1] *= 0.5  # each pair off the diagonal stands for two
        q = self.products[0, 0].shape[1]
        out = np.empty((self.k, self.k, q))
        for (a, b), Q in self.products.items():
            out[a, b] = out[b, a] = Q.T @ twice.ravel()
        return out


@dataclass(frozen=True)
class DenseRows:
    """The same two sums by BLAS, for rows N (k, q, n_dense) of which most entries are there."""

    N: np.ndarray

    def schur(self, D: np.ndarray) -> np.ndarray:
        """sum_l N_l' D_l N_l as (n_dense, n_dense)."""
        k, q, n = self.N.shape
        weighted = np.einsum("abq,bqn->aqn", D, self.N)
        return self.N.reshape(k * q, n).T @ weighted.reshape(k * q, n)

    def quadratic(self, Phi: np.ndarray) -> np.ndarray:
        """N_l Phi N_l' for every level, (k, k, q)."""
        return np.einsum("aqn,bqn->abq", self.N, self.N @ Phi)


def pair_sums(pattern: Pattern, entries: np.ndarray, n_dense: int) -> PairSums | DenseRows | None:
    """The cheaper way for a pattern with constant entries (k, n_entries).

    None where neither the pairs nor the dense rows would fit.
    """
    k, counts = len(entries), np.diff(pattern.indptr).astype(np.int64)
    n_pairs = int((counts * (counts + 1) // 2).sum())
    if n_pairs * (k * (k + 1) // 2) > MOST_PAIRS:
        return None
    if (
        k * len(counts) * n_dense**2 < 10 * n_pairs * k * (k + 1) // 2
    ):  # an operation of BLAS is fast
        N = np.zeros((k, len(counts), n_dense))
        N[:, pattern.rows, pattern.columns] = entries
        return DenseRows(N)
    first, second = _pairs_within(pattern.indptr, counts)  # the column of first is the larger
    cell = pattern.columns[first].astype(np.int64) * n_dense + pattern.columns[second]
    indptr = np.concatenate([[0], np.cumsum(counts * (counts + 1) // 2)])  # pairs come by level
    shape, products = (n_dense**2, len(counts)), {}
    for b in range(k):
        for a in range(b + 1):
            value = entries[a, first] * entries[b, second]
            if a != b:
                value = 0.5 * (value + entries[b, first] * entries[a, second])
            products[a, b] = sparse.csc_array((value, cell, indptr), shape=shape)
    return PairSums(products, n_dense, k)


def schur(rows: list[sparse.csr_array], U: np.ndarray) -> np.ndarray:
    """sum_l N_l' D_l N_l for D = U'U (k, k, q), from the sparse rows of each coefficient."""
    n_dense = rows[0].shape[1]
    out = np.zeros((n_dense, n_dense))
    for u in range(len(U)):
        Y = sum(row.multiply(U[u, a][:, None]) for a, row in enumerate(rows)).tocsr()
        out += _gram(Y)
    return out


def quadratic(rows: list[sparse.csr_array], Phi: np.ndarray) -> np.ndarray:
    """N_l Phi N_l' for every level, in strips of levels."""
    k, q = len(rows), rows[0].shape[0]
    out = np.empty((k, k, q))
    strip = max(1, ROWS_AT_ONCE // max(rows[0].shape[1], 1))
    for start in range(0, q, strip):
        at = slice(start, min(start + strip, q))
        for b in range(k):
            product = rows[b][at] @ Phi
            for a in range(k):
                out[a, b, at] = np.asarray(rows[a][at].multiply(product).sum(axis=1)).ravel()
    return out


def on_pattern(rows: list[sparse.csr_array], pattern: Pattern, Phi: np.ndarray) -> np.ndarray:
    """The entries of N Phi on the pattern of N, (k, n_entries)."""
    out = np.empty((len(rows), len(pattern.columns)))
    q = rows[0].shape[0]
    strip = max(1, ROWS_AT_ONCE // max(rows[0].shape[1], 1))
    for start in range(0, q, strip):
        stop = min(start + strip, q)
        here = slice(pattern.indptr[start], pattern.indptr[stop])
        for values, row in zip(out, rows, strict=True):
            product = row[start:stop] @ Phi
            values[here] = product[pattern.rows[here] - start, pattern.columns[here]]
    return out


def _gram(Y: sparse.csr_array) -> np.ndarray:
    """Y'Y: by BLAS on dense strips where most entries are there, else sparse."""
    n_rows, n = Y.shape
    per_row = np.diff(Y.indptr).astype(float)
    if (per_row**2).sum() * 16.0 < n_rows * float(n) ** 2:  # a sparse product costs 16 of BLAS
        return (Y.T @ Y).toarray()
    out = np.zeros((n, n))
    strip = max(1, ROWS_AT_ONCE // n)
    for start in range(0, n_rows, strip):
        part = Y[start : start + strip].toarray()
        out += part.T @ part
    return out


def _pairs_within(indptr: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (i, j <= i) of entries of one row, as two index arrays."""
    n = int(counts.sum())
    place = np.arange(n) - np.repeat(indptr[:-1].astype(np.int64), counts)  # place in its row
    first = np.repeat(np.arange(n), place + 1)
    ends = np.cumsum(place + 1)
    offset = np.arange(len(first)) - np.repeat(ends - place - 1, place + 1)
    return first, np.repeat(np.arange(n) - place, place + 1) + offset
