"""Where the search for theta starts: variances from sums of squares between levels.

The residuals e of least squares have Z_s'e = sum_t R_st b_t + ..., R_st = Z_s'Z_t - Z_s'P_X Z_t, so
that with d the lengths of the columns of Z_s in a level

  E sum_l (Z_l'e/d)(Z_l'e/d)' = s2 sum_l R_ll/dd' + sum_t sum_lm (R_lm/d) V_t (R_lm/d)'
  E e'e = s2 (N - p) + sum_t tr(R_tt V_t)

are linear equations for the residual variance s2 and the covariances V_t (Henderson's first method
with X projected out; Searle, Casella and McCulloch 1992, ch. 5). In balanced designs they give the
REML estimates; elsewhere they are near enough for Newton steps.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.gram import FactorGram, Gram

PIECE = 16_384  # levels in a partial sum; its arrays stay in the cache
LEAST, MOST = 0.05, 1e4  # bounds of a starting standard deviation relative to the residual
RESIDUAL = 0.02  # least share of the variance that is left to the residual
RIDGE = 1e-13  # keeps the equations solvable where a column is zero


def starting_factors(gram: Gram, structures: tuple[Structure, ...]) -> list[np.ndarray]:
    """Lambda (n_outputs, k, k) for each factor, lower triangular within each block."""
    free = [_free(s) for s in structures]
    starts = np.cumsum([1, *(len(a) for a, _ in free)]).tolist()  # s2 is the first unknown
    places = [slice(i, j) for i, j in pairwise(starts)]
    left, right = _equations(gram, free, places)
    left.flat[:: len(left) + 1] += RIDGE * np.abs(left).max(axis=1)
    found = np.linalg.solve(left, right)
    s2 = np.maximum(found[0], RESIDUAL * right[0] / gram.total)
    out = []
    for s, (a, b), here in zip(structures, free, places, strict=True):
        V = np.zeros((len(s2), s.k, s.k))
        V[:, a, b] = (found[here] / s2).T
        out.append(_root(V, s))
    return out


def _equations(gram: Gram, free, places) -> tuple[np.ndarray, np.ndarray]:
    """The equations for s2 and the free entries of every V_t; a column of the right a response."""
    root = np.linalg.inv(np.linalg.cholesky(gram.xx))
    half_y = root @ gram.xy
    sides = [_Side(f, root, half_y) for f in gram.factors]
    n = 1 + sum(len(a) for a, _ in free)
    left, right = np.zeros((n, n)), np.empty((n, gram.n_outputs))
    left[0, 0] = gram.total - len(gram.xx)
    right[0] = np.maximum(gram.yy - (half_y**2).sum(axis=0), 1e-300)
    for s, (side, (c, d), here) in enumerate(zip(sides, free, places, strict=True)):
        right[here] = side.between[:, c, d].T
        left[0, here], left[here, 0] = side.own[c, d], side.scaled[c, d]
        for t, (other, (a, b)) in enumerate(zip(sides, free, strict=True)):
            products = _squares(gram, s, t, side, other)
            left[here, places[t]] = products[c[:, None], a, d[:, None], b]
    return left, right


class _Side:
    """One factor: H = R_X^-1 X'Z, what its equations take from the data, and from itself."""

    def __init__(self, f: FactorGram, root: np.ndarray, half_y: np.ndarray):
        squares = f.zz.diagonal().T
        self.length = np.sqrt(np.where(squares > 0, squares, np.inf))
        self.H = np.empty((f.zx.shape[1], f.k, f.n_levels))
        parts = [self._sums(f, root, half_y, at) for at in _pieces(f.n_levels)]
        sums = (sum(x) for x in zip(*parts, strict=True))
        self.between, self.own, self.scaled, self.lost, self.inner = sums

    def _sums(self, f: FactorGram, root: np.ndarray, half_y: np.ndarray, at: slice) -> tuple:
        length, H = self.length[:, at], self.H[..., at]
        (p, k, g), r = H.shape, half_y.shape[1]
        H[:] = (root @ f.zx[..., at].swapaxes(0, 1).reshape(p, k * g)).reshape(p, k, g)
        explained = (half_y.T @ H.reshape(p, k * g)).reshape(r, k, g)
        e = (f.zy[..., at].swapaxes(0, 1) - explained) / length
        R = f.zz[..., at] - np.einsum("pag,pbg->abg", H, H)
        scaled = (R / (length[:, None] * length)).sum(axis=2)
        return e @ e.swapaxes(1, 2), R.sum(axis=2), scaled, _inner(H / length), _inner(H)


def _squares(gram: Gram, s: int, t: int, side: _Side, other: _Side) -> np.ndarray:
    """sum over levels l of s and m of t of R_lm[c, a] R_lm[d, b] / (d_lc d_ld), as [c, a, d, b].

    R differs from -H'H only where levels meet.
    """
    rows, columns, N = _meeting(gram, s, t)
    out = np.einsum("pcqd,paqb->cadb", side.lost, other.inner)
    for at in _pieces(len(rows)):
        length = side.length[:, None, rows[at]]
        W = np.einsum("pcn,pan->can", side.H[:, :, rows[at]], other.H[:, :, columns[at]])
        out += _inner((N[..., at] - W) / length) - _inner(W / length)
    return out


def _pieces(n: int) -> Iterator[slice]:
    return (slice(i, i + PIECE) for i in range(0, n, PIECE))


def _inner(H: np.ndarray) -> np.ndarray:
    """sum over the last axis of H_pc H_qd, as [p, c, q, d]."""
    flat = H.reshape(-1, H.shape[2])
    return (flat @ flat.T).reshape(*H.shape[:2], *H.shape[:2])


def _meeting(gram: Gram, s: int, t: int):
    """The pairs of levels that share rows, and their blocks of Z_s'Z_t, (k_s, k_t, n_pairs)."""
    if s == t:
        own = np.arange(gram.factors[s].n_levels)
        return own, own, gram.factors[s].zz
    if s < t:
        cross = gram.cross[s, t]
        return cross.rows, cross.columns, cross.data
    cross = gram.cross[t, s]
    return cross.columns, cross.rows, cross.data.swapaxes(0, 1)


def _free(s: Structure) -> tuple[np.ndarray, np.ndarray]:
    """The entries of the covariance that may differ from zero, row and column."""
    blocks = [(i,) for block in s.blocks for i in block] if s.spherical else s.blocks
    pairs = np.array([(i, j) for block in blocks for i in block for j in block], int)
    rows, columns = pairs.reshape(-1, 2).T
    return rows, columns


def _root(V: np.ndarray, s: Structure) -> np.ndarray:
    """Cholesky factors after the eigenvalues of each block were brought within bounds."""
    out = np.zeros_like(V)
    for block in ((i,) for b in s.blocks for i in b) if s.spherical else s.blocks:
        if len(block) == 1:
            out[:, block, block] = np.sqrt(np.clip(V[:, block, block], LEAST**2, MOST**2))
            continue
        at = np.ix_(np.arange(len(V)), np.array(block), np.array(block))
        w, U = np.linalg.eigh(0.5 * (V[at] + V[at].swapaxes(1, 2)))
        w = np.clip(w, LEAST**2, MOST**2)
        out[at] = np.linalg.cholesky((U * w[:, None, :]) @ U.swapaxes(1, 2))
    return out
