"""The sums of `pairs` as compiled loops, for sparse rows: used where numba is installed.

The entries come sorted by row; `start` and `entry` list them by column. Every column c is a row of
the dense block that stays in cache while the levels that meet c pass by. Only columns up to c are
visited: the lower triangle.
"""

import numba  # type: ignore[import-not-found, unused-ignore]
import numpy as np

_compile = numba.njit(cache=True, fastmath={"reassoc", "contract"})  # sums in any order


@_compile
def subtract_products(start, entry, rows, indptr, columns, N, D, K):
    """K -= sum_l N_l' D_l N_l on the lower triangle; N is (k, n_entries), D (k, k, levels)."""
    k = N.shape[0]
    for c in range(len(start) - 1):
        out = K[c]
        for e in range(start[c], start[c + 1]):
            i = entry[e]
            level = rows[i]
            for a in range(k):
                weight = 0.0
                for b in range(k):
                    weight += D[a, b, level] * N[b, i]
                row = N[a]
                for j in range(indptr[level], i + 1):
                    out[columns[j]] -= weight * row[j]


@_compile
def add_quadratic(start, entry, rows, indptr, columns, N, Phi, out):
    """out_l += N_l Phi N_l' for every level, from the lower triangle of Phi."""
    k = N.shape[0]
    total = np.empty(k)
    for c in range(len(start) - 1):
        phi = Phi[c]
        for e in range(start[c], start[c + 1]):
            i = entry[e]
            level = rows[i]
            for b in range(k):
                row = N[b]
                before = 0.0
                for j in range(indptr[level], i):
                    before += phi[columns[j]] * row[j]
                total[b] = before + 0.5 * phi[c] * row[i]
            for a in range(k):
                for b in range(k):
                    out[a, b, level] += N[a, i] * total[b] + N[b, i] * total[a]
