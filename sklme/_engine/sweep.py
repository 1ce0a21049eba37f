"""Exact block elimination of several factors at one theta.

Write N for cross-products under the V of the factors eliminated so far. Eliminating a factor j
replaces N_st by N_st - N_sj D_j N_jt with D_j = Lambda (I + Lambda' N_jj Lambda)^-1 Lambda', the
same k x k formula as for one factor, level by level; the factors that remain form one dense block.
Nothing divides by Lambda, so a variance may be zero. (The blocked Cholesky factorisation of Bates
et al. 2015, sec. 3.2, in the form of a sweep.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from sklme._engine import blocks, pairs
from sklme._engine.design import sum_by_level
from sklme._engine.elimination import Plan
from sklme._engine.system import Stacks, System, flat, light, unflat

Noise = Callable[[int, np.ndarray], np.ndarray]


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
        """Swept Z_j'Z_d as one sparse matrix (levels x n_dense) a coefficient."""
        plan = self.system.plan
        if j == plan.chain[0]:  # nothing was swept before it
            return self.system.first_rows
        return plan.rows(j, self.entries[j])

    @cached_property
    def products(self) -> dict[int, list[tuple]]:
        """Those matrices and their transposes, as they are best multiplied."""
        return {
            j: [(row, row.T) for row in map(light, self.rows(j))] for j in self.system.plan.chain
        }

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
                dense -= sum(Rt @ y.T for (_, Rt), y in zip(self.products[j], Y, strict=True))
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
            out = out + np.stack([(R @ b_dense).T for R, _ in self.products[j]])
        return out


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
    """sum_l N_l' D_l N_l; above the diagonal it may be missing."""
    if j == at.system.plan.chain[0] and at.system.pairs is not None:
        return at.system.pairs.schur(at.D[j])
    root = blocks.cholesky_semidefinite(at.D[j])
    return pairs.schur(at.rows(j), blocks.transpose(root))


def _factor_dense(at: Factorisation) -> None:
    """Sigma = (I + Lambda' K Lambda)^-1 and Phi = Lambda Sigma Lambda' of the dense block."""
    plan = at.system.plan
    if not plan.n_dense:
        at.Sigma = at.Phi = np.zeros((0, 0))
        return
    _mirror(at.K)
    L = _dense_factor(plan, at.Lambdas)
    S = _both_sides(L, at.K)
    S.flat[:: plan.n_dense + 1] += 1.0
    root, failed = lapack.dpotrf(S.T, lower=1, overwrite_a=1)  # S' is S in LAPACK's order: no copy
    at.log_det += np.nan if failed else 2.0 * float(np.log(np.diag(root)).sum())
    inverse, _ = lapack.dpotri(root, lower=1, overwrite_c=1)
    at.Sigma = _mirror(inverse)
    at.Phi = _both_sides(L.T, at.Sigma)


def _mirror(matrix: np.ndarray) -> np.ndarray:
    """Copy the lower triangle to the upper one, in place, tile by tile."""
    n, tile = len(matrix), 256
    for i in range(0, n, tile):
        here = slice(i, min(i + tile, n))
        corner = np.tril(matrix[here, here])
        matrix[here, here] = corner + np.tril(corner, -1).T
        matrix[here, here.stop :] = matrix[here.stop :, here].T
    return matrix


def _dense_factor(plan: Plan, Lambdas: list[np.ndarray]) -> sparse.csr_array | np.ndarray:
    """Lambda of the dense factors; its diagonal where all have one coefficient."""
    if all(plan.sizes[t][0] == 1 for t in plan.dense):
        return np.concatenate([np.full(plan.sizes[t][1], Lambdas[t][0, 0]) for t in plan.dense])
    parts = [sparse.kron(sparse.eye_array(plan.sizes[t][1]), Lambdas[t]) for t in plan.dense]
    return sparse.csr_array(sparse.block_diag(parts, format="csr"))


def _both_sides(L, K: np.ndarray) -> np.ndarray:
    """L' K L for a symmetric K."""
    if isinstance(L, np.ndarray):
        out = K * L
        out *= L[:, None]
        return np.ascontiguousarray(out)
    return np.ascontiguousarray(L.T @ np.ascontiguousarray((L.T @ K).T))


def _by_parent(values: np.ndarray, plan: Plan, j: int, m: int) -> np.ndarray:
    """Sums over the levels of j within each level of m, for (a, b, q_j)."""
    q = plan.sizes[m][1]
    sums = sum_by_level(plan.parents[j, m], q, values.reshape(-1, values.shape[-1]))
    return sums.reshape(*values.shape[:2], q)


def _gather(E: Stacks, plan: Plan) -> np.ndarray:
    """The dense factors' part of Z'r as (n_dense, m)."""
    parts = [flat(E[t]) for t in plan.dense]
    return np.concatenate(parts) if parts else np.zeros((0, E[0].shape[1]))


def _scatter(dense: np.ndarray, plan: Plan) -> dict[int, np.ndarray]:
    out = {}
    for t in plan.dense:
        k, q = plan.sizes[t]
        out[t] = unflat(dense[plan.offsets[t] : plan.offsets[t] + k * q], k)
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
