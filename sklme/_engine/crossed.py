"""Several grouping factors: the profiled criterion by exact block elimination.

Write N for cross-products under the V of the factors eliminated so far. Eliminating a factor j
replaces N_st by N_st - N_sj D_j N_jt with D_j = Lambda (I + Lambda' N_jj Lambda)^-1 Lambda', the
same k x k formula as for one factor, level by level; the factors that remain form one dense block.
Nothing divides by Lambda, so a variance may be zero. (The blocked Cholesky factorisation of Bates
et al. 2015, sec. 3.2, in the form of a sweep; the backward pass is Takahashi's recursion.)
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from sklme._engine import blocks, pairs
from sklme._engine.covariance import Charts
from sklme._engine.design import sum_by_level
from sklme._engine.elimination import Plan, make_plan
from sklme._engine.fixed import FixedPart, assemble, solve_fixed
from sklme._engine.gram import Gram
from sklme._engine.newton import Evaluate
from sklme._engine.records import Evaluation, Solution

Stacks = list[np.ndarray]  # one (k, m, n_levels) array a factor
Noise = Callable[[int, np.ndarray], np.ndarray]


class System:
    """The cross-products of one Gram laid out for elimination; computed once, used at any theta."""

    def __init__(self, gram: Gram):
        self.gram = gram
        self.plan: Plan = make_plan(gram)
        self.last: Factorisation | None = None
        first = self.plan.chain[0]
        self.pairs = (
            pairs.pair_sums(self.plan.patterns[first], self.plan.entries[first], self.plan.n_dense)
            if self.plan.n_dense
            else None
        )
        self.matrices = {
            (s, t): _as_matrix(gram, s, t) for s, t in combinations(range(len(gram.factors)), 2)
        }

    def with_response(self, gram: Gram) -> "System":
        """The same system for another response on the same rows."""
        other = copy(self)
        other.gram, other.last = gram, None
        return other

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
            A = self.matrices[s, t] if s < t else self.matrices[t, s].T
            out.append(_unflat(A @ _flat(c), f.k))
        return out


@dataclass
class Factorisation:
    """V^-1 at one theta, ready to be applied."""

    system: System
    Lambdas: list[np.ndarray]
    log_det: float
    D: dict[int, np.ndarray]  # of each chain factor, (k, k, q)
    N: dict[int, np.ndarray]  # swept Z_j'Z_j
    links: dict[tuple[int, int], np.ndarray]  # swept Z_j'Z_m
    entries: dict[int, np.ndarray]  # swept Z_j'Z_d on its pattern
    K: np.ndarray  # swept Z_d'Z_d
    Sigma: np.ndarray  # (I + Lambda' K Lambda)^-1
    Phi: np.ndarray  # Lambda Sigma Lambda'

    def rows(self, j: int) -> list[sparse.csr_array]:
        """Z_j'Z_d as one sparse matrix (levels x n_dense) a coefficient."""
        plan = self.system.plan
        pattern, q = plan.patterns[j], plan.sizes[j][1]
        shape = (q, plan.n_dense)
        return [
            sparse.csr_array((e, pattern.columns, pattern.indptr), shape) for e in self.entries[j]
        ]

    def posterior(self, E: Stacks, noise: Noise | None = None) -> tuple[Stacks, Stacks]:
        """For Z'r given by factor: the effects b = Lambda Lambda' Z'V^-1r and the scores Z'V^-1r.

        `noise(t, covariance)` adds a draw to the effects of factor t as they are found.
        """
        plan = self.system.plan
        E = [e.copy() for e in E]
        dense = _gather(E, plan)
        for j in plan.chain:
            Y = np.einsum("abq,bmq->amq", self.D[j], E[j])
            for m in plan.later(j):
                link = self.links[j, m]
                E[m] -= _by_parent(np.einsum("acq,amq->cmq", link, Y), plan, j, m)
            if plan.n_dense:
                dense -= sum(row.T @ y.T for row, y in zip(self.rows(j), Y, strict=True))
        b_dense = self.Phi @ dense
        if noise is not None and plan.n_dense:
            b_dense = b_dense + noise(-1, self.Phi[:, :, None])[..., 0]
        b = _scatter(b_dense, plan)
        scores = _scatter(dense - self.K @ b_dense, plan)
        for j in reversed(plan.chain):
            rest = E[j] - self._from_later(j, b, b_dense)
            b[j] = np.einsum("abq,bmq->amq", self.D[j], rest)
            if noise is not None:
                b[j] = b[j] + noise(j, self.D[j])
            scores[j] = rest - np.einsum("abq,bmq->amq", self.N[j], b[j])
        return [b[t] for t in sorted(b)], [scores[t] for t in sorted(scores)]

    def _from_later(self, j: int, b: dict[int, np.ndarray], b_dense: np.ndarray):
        """N_jR b_R over the factors that are eliminated after j."""
        plan = self.system.plan
        out = np.zeros(())
        for m in plan.later(j):
            out = out + np.einsum("acq,cmq->amq", self.links[j, m], b[m][:, :, plan.parents[j, m]])
        if plan.n_dense:
            out = out + np.stack([(row @ b_dense).T for row in self.rows(j)])
        return out


def criterion(system: System, charts: Charts, *, reml: bool) -> Evaluate:
    """theta (1, m), responses -> value and derivatives of -2 log-likelihood, for one response."""

    def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        Lambdas = charts.factors(theta, which)
        bases = [charts.basis(t, which) for t in range(len(Lambdas))]
        at = factorise(system, [Lambda[0] for Lambda in Lambdas])
        fixed, scores = _fixed(at, reml)[:2]
        return _derivatives(at, fixed, scores, Lambdas, bases)

    return evaluate


def solution(system: System, Lambdas: list[np.ndarray], *, reml: bool) -> Solution:
    """beta, b, residual sum of squares and log |V| at Lambda (1, k, k)."""
    at = factorise(system, [Lambda[0] for Lambda in Lambdas])
    fixed, _, effects = _fixed(at, reml)
    coefficients = np.append(-fixed.beta[0], 1.0)
    b = tuple(np.einsum("apq,p->aq", e, coefficients)[:, None, :] for e in effects)
    return Solution(fixed.beta, fixed.xvx, fixed.rss, np.array([at.log_det]), b)


def effects(system: System, Lambdas: list[np.ndarray], beta: np.ndarray) -> list[np.ndarray]:
    """b at a given beta and Lambda (k, k): one (k, n_levels) array a factor."""
    at = factorise(system, Lambdas)
    E = [f.zy - np.einsum("apg,p->ag", f.zx, beta)[:, None] for f in system.gram.factors]
    return [b[:, 0] for b in at.posterior(E)[0]]


def factorise(system: System, Lambdas: list[np.ndarray]) -> Factorisation:
    """Sweep the chain, then factor the dense block. The last result is kept."""
    if system.last is not None and _equal(system.last.Lambdas, Lambdas):
        return system.last
    plan, gram = system.plan, system.gram
    N = {j: gram.factors[j].zz.copy() for j in plan.chain}
    links = {key: link.copy() for key, link in plan.links.items()}
    entries = {j: e.copy() for j, e in plan.entries.items()}
    at = Factorisation(
        system,
        Lambdas,
        0.0,
        {},
        N,
        links,
        entries,
        plan.block.copy(),
        np.zeros((0, 0)),
        np.zeros((0, 0)),
    )
    for j in plan.chain:
        D, log_det = blocks.woodbury(N[j][:, :, None, :], Lambdas[j][None])
        at.D[j] = D[:, :, 0]
        at.log_det += float(log_det[0])
        _sweep(at, j)
    _factor_dense(at)
    system.last = at
    return at


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _sweep(at: Factorisation, j: int) -> None:
    """N_st - N_sj D_j N_jt for everything that is eliminated after j."""
    plan, D = at.system.plan, at.D[j]
    later = plan.later(j)
    for m in later:
        weighted = np.einsum("acq,abq->cbq", at.links[j, m], D)  # N_mj D_j
        for other in later[later.index(m) :]:
            part = np.einsum("cbq,bdq->cdq", weighted, at.links[j, other])
            target = at.N[m] if other == m else at.links[m, other]
            target -= _by_parent(part, plan, j, m)
        if plan.n_dense:
            spread = weighted[:, :, plan.patterns[j].rows]
            part = np.einsum("cbe,be->ce", spread, at.entries[j])
            at.entries[m] -= sum_by_level(plan.moves[j, m], at.entries[m].shape[1], part)
    if plan.n_dense:
        at.K -= _schur(at, j)


def _schur(at: Factorisation, j: int) -> np.ndarray:
    if j == at.system.plan.chain[0] and at.system.pairs is not None:
        lower = at.system.pairs.schur(at.D[j])
        return lower + np.tril(lower, -1).T
    root = blocks.cholesky_semidefinite(at.D[j])
    return pairs.schur(at.rows(j), blocks.transpose(root))


def _factor_dense(at: Factorisation) -> None:
    """Sigma = (I + Lambda' K Lambda)^-1 and Phi = Lambda Sigma Lambda' of the dense block."""
    plan = at.system.plan
    if not plan.n_dense:
        at.Sigma = at.Phi = np.zeros((0, 0))
        return
    L = _dense_factor(plan, at.Lambdas)
    S = _both_sides(L, at.K)
    S.flat[:: plan.n_dense + 1] += 1.0
    root, failed = lapack.dpotrf(S, lower=1, overwrite_a=1)
    if failed:
        at.log_det = np.nan
    at.log_det += 2.0 * float(np.log(np.diag(root)).sum()) if not failed else 0.0
    inverse, _ = lapack.dpotri(root, lower=1, overwrite_c=1)
    inverse = np.tril(inverse)
    at.Sigma = inverse + np.tril(inverse, -1).T
    at.Phi = _both_sides(L.T, at.Sigma)


def _fixed(at: Factorisation, reml: bool) -> tuple[FixedPart, Stacks, Stacks]:
    """GLS from the half-solved columns [X y]; also their scores and effects."""
    gram = at.system.gram
    columns = at.system.columns()
    effects, scores = at.posterior(columns)
    lost = sum(np.einsum("apq,arq->pr", c, b) for c, b in zip(columns, effects, strict=True))
    p = len(gram.xx)
    fixed = solve_fixed(
        (gram.xx - lost[:p, :p])[None],
        (gram.xy[:, 0] - lost[:p, p])[None],
        gram.yy - lost[p, p],
        gram.yy,
        np.array([at.log_det]),
        gram.total,
        reml,
    )
    return fixed, scores, effects


def _derivatives(at: Factorisation, fixed: FixedPart, scores: Stacks, Lambdas, bases) -> Evaluation:
    """The formulas of the single factor (there `_derivatives`), factor by factor."""
    coefficients = np.append(-fixed.beta[0], 1.0)
    z = [np.einsum("apq,p->aq", s, coefficients) for s in scores]
    p = len(fixed.beta[0])
    half = [_solve_root(fixed.root[0], s[:, :p]) for s in scores]  # R^-1 X'V^-1Z
    Ms, W, h, a = [], [], [], []
    for t, S in enumerate(score_products(at)):
        M = S - z[t] @ z[t].T / fixed.s2[0]
        if fixed.reml:
            M = M - np.einsum("apq,bpq->ab", half[t], half[t])
        Ms.append(M[None])
        T = bases[t][0] @ Lambdas[t][0].T
        c = np.einsum("mab,bq->amq", T + T.swapaxes(1, 2), z[t])
        W.append(c)
        h.append(np.einsum("apq,amq->mp", half[t], c))
        a.append(np.einsum("amq,aq->m", c, z[t]) / fixed.s2[0])
    h = np.concatenate(h)
    information = _quadratic_forms(at, W) - h @ h.T
    return assemble(fixed, Ms, bases, Lambdas, information[None], None, np.concatenate(a)[None])


def _quadratic_forms(at: Factorisation, W: Stacks) -> np.ndarray:
    """w_p'V^-1 w_q for the working variates w_p = Z_t c_p of all factors."""
    products = [at.system.times(t, c) for t, c in enumerate(W)]
    E = [np.concatenate(part, axis=1) for part in zip(*products, strict=True)]
    _, scores = at.posterior(E)
    return np.concatenate([np.einsum("amq,anq->mn", c, s) for c, s in zip(W, scores, strict=True)])


def score_products(at: Factorisation) -> list[np.ndarray]:
    """sum over levels of [Z'V^-1Z]_ll of every factor, (k, k)."""
    plan = at.system.plan
    out = {}
    for j, T in _backward(at).items():
        H = blocks.identity_plus(-blocks.multiply(at.N[j], at.D[j]))
        S = blocks.multiply(H, at.N[j]) - blocks.multiply(
            blocks.multiply(H, T), blocks.transpose(H)
        )
        out[j] = S.sum(axis=-1)
    for t in plan.dense:
        out[t] = _dense_score_product(at, t)
    return [out[t] for t in sorted(out)]


def posterior_blocks(at: Factorisation) -> list[np.ndarray]:
    """Covariance of the effects of each level given y and beta, over sigma^2: (k, k, n_levels)."""
    plan = at.system.plan
    out = {}
    for j, T in _backward(at).items():
        D = at.D[j]
        out[j] = D + blocks.multiply(blocks.multiply(D, T), D)
    for t in plan.dense:
        out[t] = np.moveaxis(_diagonal_blocks(at.Phi, plan, t), 0, 2)
    return [out[t] for t in sorted(out)]


def _backward(at: Factorisation) -> dict[int, np.ndarray]:
    """N_lR Phi_RR N_Rl (k, k, q) for every level l of every chain factor, last factor first.

    Phi is the posterior covariance of the factors R eliminated later. Its entries are needed only
    where levels meet: Phi_jR = -D_j N_jR Phi_RR, Phi_jj = D_j + D_j N_jR Phi_RR N_Rj D_j.
    """
    plan, system = at.system.plan, at.system
    T: dict[int, np.ndarray] = {}
    diagonal: dict[int, np.ndarray] = {}  # Phi_mm
    across: dict[tuple[int, int], np.ndarray] = {}  # Phi_mn, n later than m
    border: dict[int, np.ndarray] = {}  # Phi_md on the pattern of m
    for j in reversed(plan.chain):
        last = j == plan.chain[0]
        if last and not plan.later(j) and system.pairs is not None:
            T[j] = system.pairs.quadratic(at.Phi)
            break
        if last and not plan.later(j):
            T[j] = pairs.quadratic(at.rows(j), at.Phi) if plan.n_dense else 0.0 * at.D[j]
            break
        G_d = _on_border(at, j, border)
        G = {m: _on_link(at, j, m, diagonal, across, border) for m in plan.later(j)}
        T[j] = _close(at, j, G, G_d)
        D = at.D[j]
        diagonal[j] = D + blocks.multiply(blocks.multiply(D, T[j]), D)
        for m in plan.later(j):
            across[j, m] = -blocks.multiply(D, G[m])
        border[j] = -np.einsum("abe,be->ae", D[:, :, plan.patterns[j].rows], G_d)
    return T


def _on_border(at: Factorisation, j: int, border: dict[int, np.ndarray]) -> np.ndarray:
    """N_jR Phi_Rd on the pattern of j, (k, n_entries)."""
    plan = at.system.plan
    pattern = plan.patterns[j]
    if not plan.n_dense:
        return np.zeros_like(at.entries[j])
    out = pairs.on_pattern(at.rows(j), pattern, at.Phi)
    for m in plan.later(j):
        link = at.links[j, m][:, :, pattern.rows]
        out += np.einsum("ace,ce->ae", link, border[m][:, plan.moves[j, m]])
    return out


def _on_link(at: Factorisation, j: int, m: int, diagonal, across, border) -> np.ndarray:
    """N_jR Phi_Rm at the level of m that holds each level of j, (k_j, k_m, q_j)."""
    plan = at.system.plan
    out = np.zeros_like(at.links[j, m])
    for other in plan.later(j):
        Phi = _phi(plan, j, other, m, diagonal, across)
        out += blocks.multiply(at.links[j, other], Phi)
    if plan.n_dense:
        rows = plan.patterns[j].rows
        part = np.einsum("ae,ce->ace", at.entries[j], border[m][:, plan.moves[j, m]])
        flat = sum_by_level(rows, out.shape[2], part.reshape(-1, len(rows)))
        out += flat.reshape(out.shape)
    return out


def _phi(plan: Plan, j: int, s: int, m: int, diagonal, across) -> np.ndarray:
    """Phi_sm between the levels of s and m that hold each level of j."""
    if s == m:
        return diagonal[m][:, :, plan.parents[j, m]]
    if (s, m) in across:
        return across[s, m][:, :, plan.parents[j, s]]
    return blocks.transpose(across[m, s][:, :, plan.parents[j, m]])


def _close(at: Factorisation, j: int, G: dict[int, np.ndarray], G_d: np.ndarray) -> np.ndarray:
    plan = at.system.plan
    out = np.zeros_like(at.D[j])
    for m, part in G.items():
        out += np.einsum("acq,bcq->abq", part, at.links[j, m])
    if plan.n_dense:
        rows = plan.patterns[j].rows
        part = np.einsum("ae,be->abe", G_d, at.entries[j]).reshape(-1, len(rows))
        out += sum_by_level(rows, out.shape[2], part).reshape(out.shape)
    return 0.5 * (out + blocks.transpose(out))


def _dense_score_product(at: Factorisation, t: int) -> np.ndarray:
    """sum_l [K - K Phi K]_ll of a dense factor.

    Lambda' (K - K Phi K) Lambda = I - Sigma serves where Lambda can be inverted without loss.
    """
    plan, Lambda = at.system.plan, at.Lambdas[t]
    k, q = plan.sizes[t]
    typical = np.trace(at.system.gram.factors[t].zz.sum(axis=2)) / max(q * k, 1)
    if np.linalg.svd(Lambda, compute_uv=False).min() ** 2 * typical > 1e-5:
        left = q * np.eye(k) - _diagonal_blocks(at.Sigma, plan, t).sum(axis=0)
        inverse = np.linalg.inv(Lambda)
        return inverse.T @ left @ inverse
    first = plan.offsets[t]
    rows = at.K[first : first + k * q]
    product = (rows @ at.Phi).reshape(q, k, -1)
    lost = np.einsum("qan,qbn->ab", product, rows.reshape(q, k, -1))
    return _diagonal_blocks(at.K, plan, t).sum(axis=0) - lost


def _diagonal_blocks(matrix: np.ndarray, plan: Plan, t: int) -> np.ndarray:
    """(q, k, k) diagonal blocks of a dense factor."""
    k, q = plan.sizes[t]
    at = plan.offsets[t] + np.arange(q)[:, None] * k + np.arange(k)
    return matrix[at[:, :, None], at[:, None, :]]


def _dense_factor(plan: Plan, Lambdas: list[np.ndarray]) -> sparse.csr_array:
    parts = [sparse.kron(sparse.eye_array(plan.sizes[t][1]), Lambdas[t]) for t in plan.dense]
    return sparse.csr_array(sparse.block_diag(parts, format="csr"))


def _both_sides(L: sparse.csr_array, K: np.ndarray) -> np.ndarray:
    """L' K L."""
    return np.ascontiguousarray(L.T @ np.ascontiguousarray((L.T @ K).T))


def _by_parent(values: np.ndarray, plan: Plan, j: int, m: int) -> np.ndarray:
    """Sums over the levels of j within each level of m, for (a, b, q_j)."""
    q = plan.sizes[m][1]
    sums = sum_by_level(plan.parents[j, m], q, values.reshape(-1, values.shape[-1]))
    return sums.reshape(*values.shape[:2], q)


def _gather(E: Stacks, plan: Plan) -> np.ndarray:
    """The dense factors' part of Z'r as (n_dense, m)."""
    parts = [_flat(E[t]) for t in plan.dense]
    return np.concatenate(parts) if parts else np.zeros((0, E[0].shape[1]))


def _scatter(dense: np.ndarray, plan: Plan) -> dict[int, np.ndarray]:
    out = {}
    for t in plan.dense:
        k, q = plan.sizes[t]
        out[t] = _unflat(dense[plan.offsets[t] : plan.offsets[t] + k * q], k)
    return out


def colour(covariance: np.ndarray, n_draws: int, rng) -> np.ndarray:
    """Normal draws (k, n_draws, q) with the given covariances (k, k, q), which may be singular."""
    k, _, q = covariance.shape
    if q == 1:
        w, V = np.linalg.eigh(covariance[:, :, 0])
        root = (V * np.sqrt(np.maximum(w, 0.0)))[:, :, None]
    else:
        root = blocks.cholesky_semidefinite(covariance)
    return np.einsum("abq,bmq->amq", root, rng.standard_normal((k, n_draws, q)))


def _flat(c: np.ndarray) -> np.ndarray:
    """(k, m, q) -> (q k, m)."""
    return c.transpose(2, 0, 1).reshape(-1, c.shape[1])


def _unflat(c: np.ndarray, k: int) -> np.ndarray:
    """(q k, m) -> (k, m, q)."""
    return np.ascontiguousarray(c.reshape(-1, k, c.shape[1]).transpose(1, 2, 0))


def _as_matrix(gram: Gram, s: int, t: int) -> sparse.csr_array:
    """Z_s'Z_t with rows and columns numbered level by level."""
    cross, f, g = gram.cross[s, t], gram.factors[s], gram.factors[t]
    i = cross.rows * f.k + np.arange(f.k)[:, None, None]
    j = cross.columns * g.k + np.arange(g.k)[None, :, None]
    i, j = np.broadcast_arrays(i, j)
    shape = (f.n_levels * f.k, g.n_levels * g.k)
    return sparse.csr_array((cross.data.ravel(), (i.ravel(), j.ravel())), shape=shape)


def _solve_root(root: np.ndarray, scores: np.ndarray) -> np.ndarray:
    k, p, q = scores.shape
    flat = scores.transpose(1, 0, 2).reshape(p, k * q)
    return np.linalg.solve(root, flat).reshape(p, k, q).transpose(1, 0, 2)
