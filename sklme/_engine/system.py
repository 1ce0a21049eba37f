"""The cross-products of several factors, laid out for elimination once, for use at any theta."""

from copy import copy
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

from sklme._engine import pairs
from sklme._engine.elimination import Plan, make_plan
from sklme._engine.gram import Gram

SIGNS = 8  # random signs a level in estimates of traces
SMALL = 20_000  # numbers in a matrix that is better dense

Stacks = list[np.ndarray]  # one (k, m, n_levels) array a factor


class System:
    """The cross-products of one Gram laid out for elimination; computed once, used at any theta."""

    def __init__(self, gram: Gram):
        self.gram = gram
        self.plan: Plan = make_plan(gram)
        self.last: Any = None  # the latest factorisation, which often serves again
        first, n_dense = self.plan.chain[0], self.plan.n_dense
        rows = self.plan.patterns[first], self.plan.entries[first], n_dense
        self.first_sums: Any = pairs.row_sums(*rows, constant=True) if n_dense else None
        self.first_rows = pairs.sparse_rows(*rows)

    @cached_property
    def matrices(self) -> dict[tuple[int, int], Any]:
        """Z_s'Z_t for every pair of factors, to multiply columns of effects with."""
        out = {}
        for s, t in combinations(range(len(self.gram.factors)), 2):
            out[s, t] = light(_as_matrix(self.gram, s, t))
            out[t, s] = out[s, t].T
        return out

    def with_response(self, gram: Gram) -> "System":
        """The same system for another response on the same rows."""
        _ = self.matrices  # made once, for all
        other = copy(self)
        other.gram, other.last = gram, None
        return other

    @cached_property
    def signed(self) -> tuple[list[np.ndarray], Stacks]:
        """For each factor random signs (m, q), the same in every run, and Z'Z_t diag(signs).

        The columns of the latter run over the factors, their coefficients and the m signs.
        """
        rng, signs, parts = np.random.default_rng(0), [], []
        for t, f in enumerate(self.gram.factors):
            signs.append(rng.choice([-1.0, 1.0], size=(SIGNS, f.n_levels)))
            c = np.zeros((f.k, f.k, SIGNS, f.n_levels))
            for a in range(f.k):
                c[a, a] = signs[t]
            parts.append(self.times(t, c.reshape(f.k, f.k * SIGNS, f.n_levels)))
        return signs, [np.concatenate(e, axis=1) for e in zip(*parts, strict=True)]

    def columns(self) -> Stacks:
        """Z'[X y] by factor."""
        return [np.concatenate([f.zx, f.zy], axis=1) for f in self.gram.factors]

    def times(self, t: int, c: np.ndarray) -> Stacks:
        """Z'Z_t c for every factor, c of shape (k_t, m, q_t)."""
        out = []
        for s, f in enumerate(self.gram.factors):
            if s == t:
                out.append(np.einsum("abq,bmq->amq", f.zz, c))
                continue
            out.append(unflat(self.matrices[s, t] @ flat(c), f.k))
        return out


def light(matrix: sparse.csr_array) -> sparse.csr_array | np.ndarray:
    """A small matrix as an array: its products then cost less than scipy's care for indices."""
    return matrix.toarray() if matrix.shape[0] * matrix.shape[1] <= SMALL else matrix


def _as_matrix(gram: Gram, s: int, t: int) -> sparse.csr_array:
    """Z_s'Z_t with rows and columns numbered level by level."""
    cross, f, g = gram.cross[s, t], gram.factors[s], gram.factors[t]
    i = cross.rows * f.k + np.arange(f.k)[:, None, None]
    j = cross.columns * g.k + np.arange(g.k)[None, :, None]
    i, j = np.broadcast_arrays(i, j)
    shape = (f.n_levels * f.k, g.n_levels * g.k)
    return sparse.csr_array((cross.data.ravel(), (i.ravel(), j.ravel())), shape=shape)


def flat(c: np.ndarray) -> np.ndarray:
    """(k, m, q) -> (q k, m)."""
    k, m, q = c.shape
    return c.transpose(2, 0, 1).reshape(q * k, m)


def unflat(c: np.ndarray, k: int) -> np.ndarray:
    """(q k, m) -> (k, m, q)."""
    return np.ascontiguousarray(c.reshape(len(c) // k, k, c.shape[1]).transpose(1, 2, 0))
