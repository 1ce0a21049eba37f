"""Sums over pairs of entries of a row: the Schur complement of crossed factors, and its dual.

For rows N_l (k x n_dense, few entries) of an eliminated factor and a small matrix D_l for each,
the elimination needs  sum_l N_l' D_l N_l,  and the gradient  N_l Phi N_l'.  Four ways to the same
sums, of which `row_sums` chooses: BLAS where most entries are there, compiled loops, products of
pairs that are formed once, and sparse products in strips, which need no memory to speak of.
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from scipy import sparse

from sklme._engine import blocks
from sklme._engine.elimination import Pattern
from sklme._engine.symmetric import Symmetric

MOST_PAIRS = 10_000_000  # 12 bytes each
DENSE_PAYS = 10  # operations of BLAS in the time of one pair
WORTH_COMPILING = 1_000_000  # pairs; with fewer, loading the compiler takes longer than it saves
AT_ONCE = 1_000_000  # numbers in a dense strip


@cache
def compiled() -> ModuleType | None:
    """The compiled loops; None without numba, or where it finds no place to keep them."""
    try:
        from sklme._engine import kernels
    except (ImportError, RuntimeError):
        return None
    return kernels


class RowSums:
    """The two sums for the rows of one factor."""

    def subtract(self, K: np.ndarray, D: np.ndarray) -> None:
        """K -= sum_l N_l' D_l N_l, at least on the lower triangle; D is (k, k, q)."""
        raise NotImplementedError

    def quadratic(self, Phi: Symmetric) -> np.ndarray:
        """N_l Phi N_l' for every level, (k, k, q)."""
        raise NotImplementedError

    def summed(self, Phi: Symmetric, H: np.ndarray) -> np.ndarray:
        """sum_l H_l N_l Phi N_l' H_l', (k, k)."""
        T = self.quadratic(Phi)
        return blocks.multiply(blocks.multiply(H, T), blocks.transpose(H)).sum(axis=-1)


@dataclass(frozen=True)
class DenseRows(RowSums):
    """By BLAS, for rows N (k, q, n_dense) of which most entries are there."""

    N: np.ndarray

    def subtract(self, K: np.ndarray, D: np.ndarray) -> None:
        k, q, n = self.N.shape
        weighted = np.einsum("abq,bqn->aqn", D, self.N)
        K -= self.N.reshape(k * q, n).T @ weighted.reshape(k * q, n)

    def quadratic(self, Phi: Symmetric) -> np.ndarray:
        return np.einsum("aqn,bqn->abq", self.N, self.N @ Phi.full)


@dataclass(frozen=True)
class Loops(RowSums):
    """By compiled loops over the entries (k, n_entries) of a pattern."""

    pattern: Pattern
    entries: np.ndarray
    kernels: ModuleType

    def subtract(self, K: np.ndarray, D: np.ndarray) -> None:
        D = np.ascontiguousarray(D)
        self.kernels.subtract_products(*self._layout, self.entries, D, K)

    def quadratic(self, Phi: Symmetric) -> np.ndarray:
        k = len(self.entries)
        out = np.zeros((k, k, len(self.pattern.indptr) - 1))
        self.kernels.add_quadratic(*self._layout, self.entries, Phi.lower, out)
        return out

    @property
    def _layout(self) -> tuple[np.ndarray, ...]:
        pattern = self.pattern
        return *pattern.by_column, pattern.rows, pattern.indptr, pattern.columns


@dataclass(frozen=True)
class PairSums(RowSums):
    """By matrix-vector products: for a <= b one (n_dense^2 cells, lower triangle) x (levels).

    A pair of entries off the diagonal stands for two, so that its product is stored twice over.
    """

    products: dict[tuple[int, int], sparse.csc_array]
    n_dense: int
    k: int

    def subtract(self, K: np.ndarray, D: np.ndarray) -> None:
        half = {(a, b): 1.0 if a != b else 0.5 for a, b in self.products}
        sums = sum(Q @ (half[at] * D[at]) for at, Q in self.products.items())
        sums[:: self.n_dense + 1] *= 2.0
        K -= sums.reshape(self.n_dense, self.n_dense)

    def quadratic(self, Phi: Symmetric) -> np.ndarray:
        q = self.products[0, 0].shape[1]
        out = np.empty((self.k, self.k, q))
        for (a, b), Q in self.products.items():
            out[a, b] = out[b, a] = Q.T @ Phi.lower.ravel()
        return out


@dataclass(frozen=True)
class Strips(RowSums):
    """By sparse products, a strip of the dense block at a time."""

    rows: list[sparse.csr_array]  # levels x n_dense, one for each coefficient

    def subtract(self, K: np.ndarray, D: np.ndarray) -> None:
        for here, part in self._products(self.rows, self._mixed(D)):
            K[here, : here.stop] -= part

    def summed(self, Phi: Symmetric, H: np.ndarray) -> np.ndarray:
        k = len(self.rows)
        mixed, out = self._mixed(H), np.empty((k, k))
        for a in range(k):
            for b in range(a + 1):
                both = [mixed[a], mixed[b]], [mixed[b], mixed[a]]
                left, right = both if a != b else ([mixed[a]], [mixed[a]])
                total = sum(
                    _lower_product(part, Phi.lower, here)
                    for here, part in self._products(left, right)
                )
                out[a, b] = out[b, a] = total * (1.0 if a != b else 2.0)
        return out

    def quadratic(self, Phi: Symmetric) -> np.ndarray:
        k, q = len(self.rows), self.rows[0].shape[0]
        out = np.empty((k, k, q))
        strip = max(1, AT_ONCE // max(len(Phi), 1))
        for start in range(0, q, strip):
            at = slice(start, min(start + strip, q))
            for b in range(k):
                product = self.rows[b][at] @ Phi.full
                for a in range(k):
                    out[a, b, at] = np.asarray(self.rows[a][at].multiply(product).sum(1)).ravel()
        return out

    def _mixed(self, D: np.ndarray) -> list[sparse.csr_array]:
        """sum_b D_ab N_b for each a."""
        return [
            sum(row.multiply(weight[:, None]) for row, weight in zip(self.rows, d, strict=True))
            for d in D
        ]

    def _products(self, left, right):
        """Strips (rows, dense (rows, columns up to the last row)) of sum_a left_a' right_a."""
        n = self.rows[0].shape[1]
        strip = max(1, AT_ONCE // n)
        left = [matrix.T.tocsr() for matrix in left]
        right = [matrix.tocsr() for matrix in right]
        for start in range(0, n, strip):
            here = slice(start, min(start + strip, n))
            parts = zip(left, right, strict=True)
            yield here, sum(L[here] @ R[:, : here.stop] for L, R in parts).toarray()


def row_sums(pattern: Pattern, entries: np.ndarray, n_dense: int, *, constant: bool) -> RowSums:
    """The cheapest way for entries (k, n_entries); `constant`: they serve more than once."""
    k, counts = len(entries), np.diff(pattern.indptr).astype(np.int64)
    n_pairs = int((counts * (counts + 1) // 2).sum()) * (k * (k + 1) // 2)
    if k * len(counts) * n_dense**2 < DENSE_PAYS * n_pairs:
        N = np.zeros((k, len(counts), n_dense))
        N[:, pattern.rows, pattern.columns] = entries
        return DenseRows(N)
    if n_pairs >= WORTH_COMPILING and (kernels := compiled()) is not None:
        return Loops(pattern, entries, kernels)
    if constant and n_pairs <= MOST_PAIRS:
        return _pair_sums(pattern, entries, n_dense)
    return Strips(sparse_rows(pattern, entries, n_dense))


def sparse_rows(pattern: Pattern, entries: np.ndarray, n_dense: int) -> list[sparse.csr_array]:
    """One sparse matrix (levels x n_dense) for each coefficient."""
    shape = (len(pattern.indptr) - 1, n_dense)
    return [sparse.csr_array((e, pattern.columns, pattern.indptr), shape) for e in entries]


def on_pattern(rows: list[sparse.csr_array], pattern: Pattern, Phi: np.ndarray) -> np.ndarray:
    """The entries of N Phi on the pattern of N, (k, n_entries)."""
    out = np.empty((len(rows), len(pattern.columns)))
    q = rows[0].shape[0]
    strip = max(1, AT_ONCE // max(rows[0].shape[1], 1))
    for start in range(0, q, strip):
        stop = min(start + strip, q)
        here = slice(pattern.indptr[start], pattern.indptr[stop])
        for values, row in zip(out, rows, strict=True):
            product = row[start:stop] @ Phi
            values[here] = product[pattern.rows[here] - start, pattern.columns[here]]
    return out


def _lower_product(part: np.ndarray, Phi: np.ndarray, here: slice) -> float:
    """<part, Phi> over the lower triangle, with half of the diagonal; part in the rows `here`."""
    n = here.stop - here.start
    corner = np.tril(part[:, here.start :]) - 0.5 * np.diag(np.diag(part[:, here.start :]))
    left = np.vdot(part[:, : here.start], Phi[here, : here.start])
    return float(left + np.vdot(corner, np.tril(Phi[here, here.start : here.start + n])))


def _pair_sums(pattern: Pattern, entries: np.ndarray, n_dense: int) -> PairSums:
    k, counts = len(entries), np.diff(pattern.indptr).astype(np.int64)
    first, second = _pairs_within(pattern.indptr, counts)  # the column of first is the larger
    cell = pattern.columns[first].astype(np.int64) * n_dense + pattern.columns[second]
    indptr = np.concatenate([[0], np.cumsum(counts * (counts + 1) // 2)])  # pairs come by level
    shape, products = (n_dense**2, len(counts)), {}
    times = np.where(first == second, 1.0, 2.0)
    for b in range(k):
        for a in range(b + 1):
            value = entries[a, first] * entries[b, second]
            if a != b:
                value = 0.5 * (value + entries[b, first] * entries[a, second])
            products[a, b] = sparse.csc_array((times * value, cell, indptr), shape=shape)
    return PairSums(products, n_dense, k)


def _pairs_within(indptr: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (i, j <= i) of entries of one row, as two index arrays."""
    n = int(counts.sum())
    place = np.arange(n) - np.repeat(indptr[:-1].astype(np.int64), counts)  # place in its row
    first = np.repeat(np.arange(n), place + 1)
    ends = np.cumsum(place + 1)
    offset = np.arange(len(first)) - np.repeat(ends - place - 1, place + 1)
    return first, np.repeat(np.arange(n) - place, place + 1) + offset
