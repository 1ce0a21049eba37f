"""How V depends on each free variance: the traces and products that tests of beta rest on.

V = I + sum_t Z_t (I x Gamma_t) Z_t' is linear in the entries of the relative covariances Gamma. A
direction i is a symmetric T_i of one factor, and U_i = dV = Z T_i Z' level by level. All that
Kenward and Roger (1997) and Fai and Cornelius (1996) need is made of products of B = Z'[V^-1X, Py],
of Z_s'V^-1Z_t applied to them, and of tr(V^-1 U_i V^-1 U_j); nothing has the size of the rows.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, solve_triangular

from sklme._engine import blocks
from sklme._engine.covariance import Structure
from sklme._engine.gram import Gram, output
from sklme._engine.lmm import LinearFit
from sklme._engine.selected import score_products
from sklme._engine.small import SmallSystem
from sklme._engine.sweep import Factorisation, factorise
from sklme._engine.system import Stacks, System
from sklme._engine.threads import careful

DENSE = 1000  # effects up to which Z'V^-1Z is one matrix
STEP = 3e-3  # of the differences, in units of the scale on which V^-1 changes
ONWARD = np.array([-25.0, 48.0, -36.0, 16.0, -3.0]) / 12.0  # five points forward, order four


@dataclass(frozen=True)
class Direction:
    """A positive semidefinite change T (k, k) of the relative covariance of one factor."""

    factor: int
    T: np.ndarray


@dataclass(frozen=True)
class Sensitivity:
    """The pieces for one output, in the frame and in units of the residual variance.

    Xi = (X'V^-1X)^-1 (p, p); G_i = X'V^-1 U_i V^-1 X (m, p, p); Q_ij = X'V^-1 U_i V^-1 U_j V^-1 X
    (m, m, p, p); a_i = y'P U_i P y / s2 (m,); w_ij = y'P U_i P U_j P y / s2 (m, m); t1_i = tr(P
    U_i) and t2_ij = tr(P U_i P U_j), under ML with V^-1 for P; M: for each factor sum over levels
    of [Z'PZ]_ll - z z'/s2, z = Z'Py, (k, k), under ML with V^-1 for the first P.
    """

    directions: tuple[Direction, ...]
    Xi: np.ndarray
    G: np.ndarray
    Q: np.ndarray
    a: np.ndarray
    w: np.ndarray
    t1: np.ndarray
    t2: np.ndarray
    M: tuple[np.ndarray, ...]


@careful
def sensitivity(fit: LinearFit, r: int = 0) -> Sensitivity:
    """The record of output r at the estimate.

    With one factor, or not more than `DENSE` effects, everything is exact to rounding. With more
    tr(V^-1 U_i V^-1 U_j) is a difference of tr(V^-1 U_i) along U_j, with a relative error of about
    1e-8. A record that has learned other rows than those of its fit is refused.
    """
    if fit.adapted:
        raise ValueError(
            "the model was adapted to more rows after fit: degrees of freedom are those of the "
            "model that `adapt` was called on"
        )
    directions = free_directions(fit.structures)
    solver = _solver(fit, r)
    p, s2 = fit.xvx.shape[1], fit.s2[r]
    Xi = np.linalg.inv(fit.xvx[r])
    one, two = _single_products(solver, directions), _products(solver, directions)
    G, Q, v = one[:, :p, :p], two[:, :, :p, :p], one[:, :p, p]
    known = Xi if fit.reml else np.zeros_like(Xi)  # what P takes away from V^-1
    GX = G @ known
    sums = [
        S - np.einsum("apq,pr,brq->ab", B[:, :p], known, B[:, :p], optimize=True)
        for S, B in zip(solver.score_sums, solver.scores, strict=True)
    ]
    t1 = [np.sum(d.T * sums[d.factor]) for d in directions]
    t2 = solver.squares(directions) - 2.0 * np.einsum("ijpq,pq->ij", Q, known)
    t2 += np.einsum("ipq,jqp->ij", GX, GX)
    z = [B[:, p] for B in solver.scores]
    return Sensitivity(
        directions,
        Xi,
        G,
        Q,
        a=one[:, p, p] / s2,
        w=(two[:, :, p, p] - v @ Xi @ v.T) / s2,
        t1=np.array(t1),
        t2=0.5 * (t2 + t2.T),
        M=tuple(S - zt @ zt.T / s2 for S, zt in zip(sums, z, strict=True)),
    )


def free_directions(structures: tuple[Structure, ...]) -> tuple[Direction, ...]:
    """Semidefinite directions that span the covariances of every factor.

    e_a e_a' for each coefficient and (e_a + e_b)(e_a + e_b)' for each pair within a block; one sum
    over all coefficients where they share one variance.
    """
    out = []
    for t, s in enumerate(structures):
        if s.spherical:
            out += [Direction(t, basis) for basis in s.basis]
            continue
        for block in s.blocks:
            pairs = [(a, b) for i, a in enumerate(block) for b in block[i:]]
            out += [Direction(t, _square(s.k, {a, b})) for a, b in pairs]
    return tuple(out)


def _square(k: int, members) -> np.ndarray:
    e = np.zeros(k)
    e[list(members)] = 1.0
    return np.outer(e, e)


class _Solver(Protocol):
    """V^-1 between effects: what the pieces are made of."""

    scores: Stacks  # Z'[V^-1X, Py] of each factor, (k, p + 1, q)
    score_sums: list[np.ndarray]  # sum over levels of [Z'V^-1Z]_ll, (k, k)

    def carry(self, t: int, c: np.ndarray) -> Stacks:
        """Z_s'V^-1 Z_t c for every factor s, c of shape (k_t, m, q_t)."""

    def squares(self, directions: tuple[Direction, ...]) -> np.ndarray:
        """tr(V^-1 U_i V^-1 U_j)."""


def _solver(fit: LinearFit, r: int) -> _Solver:
    gram = output(fit.kept, r)
    Lambdas, beta = [L[r] for L in fit.Lambdas], fit.beta[r]
    if len(fit.structures) == 1:
        return _ByLevel(gram, Lambdas[0], beta)
    if sum(f.k * f.n_levels for f in gram.factors) <= DENSE:
        return _Dense(gram, Lambdas, beta)
    return _Eliminated(gram, Lambdas, beta)


def _single_products(solver: _Solver, directions) -> np.ndarray:
    """B'T_i B of the factor of each direction, (m, p + 1, p + 1)."""
    columns = solver.scores[0].shape[1]
    out = np.empty((len(directions), columns, columns))
    for i, d in enumerate(directions):
        B = solver.scores[d.factor]
        out[i] = _inner(np.einsum("ab,bpq->apq", d.T, B), B)
    return out


def _products(solver: _Solver, directions) -> np.ndarray:
    """B'T_i (Z'V^-1Z) T_j B, (m, m, p + 1, p + 1)."""
    columns, m = solver.scores[0].shape[1], len(directions)
    out = np.empty((m, m, columns, columns))
    turned = [np.einsum("ab,bpq->apq", d.T, solver.scores[d.factor]) for d in directions]
    for j, e in enumerate(directions):
        carried = solver.carry(e.factor, turned[j])
        for i, d in enumerate(directions):
            out[i, j] = _inner(turned[i], carried[d.factor])
    return out


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum over coefficients and levels of a (k, m, q) and b (k, n, q): (m, n)."""
    return sum(x @ y.T for x, y in zip(a, b, strict=True))


class _ByLevel:
    """One factor: Z'V^-1Z is block-diagonal over the levels."""

    def __init__(self, gram: Gram, Lambda: np.ndarray, beta: np.ndarray):
        f = gram.factors[0]
        D = blocks.woodbury(f.zz[:, :, None, :], Lambda[None])[0][:, :, 0]
        AD = blocks.multiply(f.zz, D)
        self.S = f.zz - blocks.multiply(AD, f.zz)
        e = f.zy - np.einsum("apq,p->aq", f.zx, beta)[:, None]
        B = np.concatenate([f.zx, e], axis=1)
        self.scores = [B - blocks.multiply(AD, B)]
        self.score_sums = [self.S.sum(axis=-1)]

    def carry(self, t: int, c: np.ndarray) -> Stacks:
        return [blocks.multiply(self.S, c)]

    def squares(self, directions) -> np.ndarray:
        flat = self.S.reshape(-1, self.S.shape[-1])
        SS = (flat @ flat.T).reshape(2 * self.S.shape[:2])
        T = np.array([d.T for d in directions]).reshape(-1, *self.S.shape[:2])
        return np.einsum("abcd,ibc,jda->ij", SS, T, T, optimize=True)


class _Dense:
    """Not many effects: Z'V^-1Z as one matrix."""

    def __init__(self, gram: Gram, Lambdas: list[np.ndarray], beta: np.ndarray):
        self.system = system = SmallSystem.of(gram)
        q, products = system.q, system.products
        Lambda = system.factor(Lambdas)
        W = Lambda.T @ products[:q, :q] @ Lambda
        W.flat[:: q + 1] += 1.0
        K = solve_triangular(cho_factor(W, lower=True)[0], Lambda.T, lower=True)
        half = K @ products[:q]
        swept = products[:q] - half[:, :q].T @ half
        self.S = swept[:, :q]
        z = swept[:, -1] - swept[:, q:-1] @ beta
        self.scores = self._split(np.column_stack([swept[:, q:-1], z]))
        self.score_sums = [self._sum(t) for t in range(len(system.sizes))]

    def carry(self, t: int, c: np.ndarray) -> Stacks:
        flat = c.transpose(0, 2, 1).reshape(-1, c.shape[1])
        return self._split(self.S[:, self._slice(t)] @ flat)

    def squares(self, directions) -> np.ndarray:
        ST = [self._turned(d) for d in directions]
        out = np.empty((len(ST), len(ST)))
        for i, d in enumerate(directions):
            for j, e in enumerate(directions):
                here, there = self._slice(d.factor), self._slice(e.factor)
                out[i, j] = np.sum(ST[i][there] * ST[j][here].T)
        return out

    def _turned(self, d: Direction) -> np.ndarray:
        """The columns of one factor times T x I."""
        columns = self.S[:, self._slice(d.factor)]
        parts = columns.reshape(len(columns), *self.system.sizes[d.factor])
        return np.einsum("nag,ab->nbg", parts, d.T).reshape(columns.shape)

    def _slice(self, t: int) -> slice:
        ends = np.cumsum([0, *(k * g for k, g in self.system.sizes)])
        return slice(int(ends[t]), int(ends[t + 1]))

    def _split(self, rows: np.ndarray) -> Stacks:
        parts = [rows[self._slice(t)] for t in range(len(self.system.sizes))]
        return [
            part.reshape(k, g, -1).transpose(0, 2, 1)
            for part, (k, g) in zip(parts, self.system.sizes, strict=True)
        ]

    def _sum(self, t: int) -> np.ndarray:
        k, g = self.system.sizes[t]
        here = self._slice(t)
        return np.einsum("agbg->ab", self.S[here, here].reshape(k, g, k, g))


class _Eliminated:
    """Several factors: V^-1 by elimination."""

    def __init__(self, gram: Gram, Lambdas: list[np.ndarray], beta: np.ndarray):
        self.system = System(gram)
        self.Lambdas = Lambdas
        scores = self._at().posterior(self.system.columns())[1]
        coefficients = np.append(-beta, 1.0)
        self.scores = [
            np.concatenate([s[:, :-1], np.einsum("apq,p->aq", s, coefficients)[:, None]], axis=1)
            for s in scores
        ]
        self.score_sums = score_products(self._at())

    def carry(self, t: int, c: np.ndarray) -> Stacks:
        return self._at().posterior(self.system.times(t, c))[1]

    def _at(self) -> Factorisation:
        """V^-1 at the estimate; the system remembers the latest one only."""
        return factorise(self.system, self.Lambdas)

    def squares(self, directions) -> np.ndarray:
        """Minus the change of tr(V^-1 U_i) along U_j, by one-sided differences of order four.

        The step is a small part of the scale on which V^-1 can change along U_j; steps forward
        keep the covariance semidefinite also where a variance is zero.
        """
        columns = [self._change(d, directions) for d in directions]
        out = -np.array(columns).reshape(len(directions), len(directions))
        return 0.5 * (out + out.T)

    def _change(self, d: Direction, directions) -> np.ndarray:
        step = STEP / self._scale(d)
        points = [self.score_sums, *(self._moved(d, n * step) for n in range(1, len(ONWARD)))]
        traces = [[np.sum(e.T * sums[e.factor]) for e in directions] for sums in points]
        return ONWARD @ np.array(traces) / step

    def _moved(self, d: Direction, step: float) -> list[np.ndarray]:
        """The sums at Gamma + step T."""
        Lambdas = list(self.Lambdas)
        old = Lambdas[d.factor]
        w, E = np.linalg.eigh(old @ old.T + step * d.T)
        Lambdas[d.factor] = E * np.sqrt(np.maximum(w, 0.0))
        return score_products(factorise(self.system, Lambdas))

    def _scale(self, d: Direction) -> float:
        """A bound of tr(T [Z'V^-1Z]_ll) over levels, which is at most tr(T Z'Z) and tr(T/Gamma)."""
        most = np.einsum("ab,abq->q", d.T, self.system.gram.factors[d.factor].zz).max()
        Lambda = self.Lambdas[d.factor]
        if np.linalg.cond(Lambda) > 1e8:
            return float(most)
        half = np.linalg.solve(Lambda, d.T)
        return float(min(most, np.trace(np.linalg.solve(Lambda, half.T))))
