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
from typing import Any

import numpy as np
from scipy import sparse

from sklme._engine import blocks, pairs
from sklme._engine.design import sum_by_level
from sklme._engine.elimination import Plan
from sklme._engine.remainder import Remainder
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
    dense: Any = None  # the Remainder, if there are dense factors

    @property
    def Phi(self) -> np.ndarray:
        """Covariance of the effects of the dense factors given y and beta, over sigma^2."""
        return self.dense.Phi.full

    def rows(self, j: int) -> list[sparse.csr_array]:
        """Swept Z_j'Z_d as one sparse matrix (levels x n_dense) a coefficient."""
        plan = self.system.plan
        if j == plan.chain[0]:  # nothing was swept before it
            return self.system.first_rows
        return pairs.sparse_rows(plan.patterns[j], self.entries[j], plan.n_dense)

    def sums(self, j: int) -> pairs.RowSums:
        """Sums over those rows, for a factor that meets dense ones."""
        plan = self.system.plan
        if j == plan.chain[0]:
            return self.system.first_sums
        return pairs.row_sums(plan.patterns[j], self.entries[j], plan.n_dense, constant=False)

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
            Y = blocks.multiply(self.D[j], E[j])
            for m in plan.later(j):
                link = self.links[j, m]
                E[m] -= _by_parent(blocks.multiply(blocks.transpose(link), Y), plan, j, m)
            if plan.n_dense:
                dense -= sum(Rt @ y.T for (_, Rt), y in zip(self.products[j], Y, strict=True))
        b_dense = self.dense.phi_times(dense) if plan.n_dense else dense
        if noise is not None and plan.n_dense:
            b_dense = b_dense + noise(-1, self.Phi[:, :, None])[..., 0]
        b = _scatter(b_dense, plan)
        scores = self._dense_scores(dense, b_dense, b)
        for j in reversed(plan.chain):
            rest = E[j] - self._from_later(j, b, b_dense)
            b[j] = blocks.multiply(self.D[j], rest)
            if noise is not None:
                b[j] = b[j] + noise(j, self.D[j])
            scores[j] = rest - blocks.multiply(self.N[j], b[j])
        return [b[t] for t in sorted(b)], [scores[t] for t in sorted(scores)]

    def _dense_scores(self, dense: np.ndarray, b_dense: np.ndarray, b: dict) -> dict:
        """Z'V^-1r of the dense factors: b = Lambda Lambda' Z'V^-1r, where that can be undone."""
        if not b:
            return {}
        if self.dense.K is not None:
            return _scatter(dense - self.dense.K.times(b_dense), self.system.plan)
        G = {t: np.linalg.inv(self.Lambdas[t] @ self.Lambdas[t].T) for t in b}
        return {t: np.einsum("ab,bmq->amq", G[t], b[t]) for t in b}

    def _from_later(self, j: int, b: dict[int, np.ndarray], b_dense: np.ndarray):
        """N_jR b_R over the factors that are eliminated after j."""
        plan = self.system.plan
        out = np.zeros(())
        for m in plan.later(j):
            held = b[m][:, :, plan.parents[j, m]]
            out = out + blocks.multiply(self.links[j, m], held)
        if plan.n_dense:
            out = out + np.stack([(R @ b_dense).T for R, _ in self.products[j]])
        return out


def factorise(system: System, Lambdas: list[np.ndarray]) -> Factorisation:
    """Sweep the chain, then factor the dense block.

    The last result is kept and often serves again; the one before loses its memory to the new one.
    """
    if system.last is not None and _equal(system.last.Lambdas, Lambdas):
        return system.last
    plan, gram = system.plan, system.gram
    if len(plan.sizes) == 1:
        system.last = _one_factor(system, Lambdas)
        return system.last
    N = {j: gram.factors[j].zz.copy() for j in plan.chain}
    links = {key: link.copy() for key, link in plan.links.items()}
    entries = {j: e.copy() for j, e in plan.entries.items()}
    at = Factorisation(system, Lambdas, 0.0, {}, N, links, entries)
    K = _dense_products(system)
    for j in plan.chain:
        D, log_det = blocks.woodbury(N[j][:, :, None, :], Lambdas[j][None])
        at.D[j] = D[:, :, 0]
        at.log_det += float(log_det[0])
        _sweep(at, j, K)
    if plan.n_dense:
        at.dense = Remainder(gram, plan, Lambdas, K)
        at.log_det += at.dense.log_det
    system.last = at
    return at


class OneFactor(Factorisation):
    """The same where there is one factor only: nothing is swept and every level is on its own."""

    def posterior(self, E: Stacks, noise: Noise | None = None) -> tuple[Stacks, Stacks]:
        """As `Factorisation.posterior`."""
        D, N, (e,) = self.D[0], self.N[0], E
        b = blocks.multiply(D, e)
        if noise is not None:
            b = b + noise(0, D)
        return [b], [e - blocks.multiply(N, b)]


def _one_factor(system: System, Lambdas: list[np.ndarray]) -> OneFactor:
    N = system.gram.factors[0].zz
    D, log_det = blocks.woodbury(N[:, :, None, :], Lambdas[0][None])
    return OneFactor(system, Lambdas, float(log_det[0]), {0: D[:, :, 0]}, {0: N}, {}, {})


def _dense_products(system: System) -> np.ndarray:
    """Z_d'Z_d on and below the diagonal, where the last factorisation stood if there is one."""
    n, last = system.plan.n_dense, system.last
    if last is None or last.dense is None:
        K = np.zeros((n, n))
    else:
        K, last.dense, system.last = last.dense.memory, None, None
        K.fill(0.0)
    cells, values = system.plan.block
    K.ravel()[cells] = values
    return K


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _sweep(at: Factorisation, j: int, K: np.ndarray) -> None:
    """N_st - N_sj D_j N_jt for everything that is eliminated after j."""
    plan, D = at.system.plan, at.D[j]
    later = plan.later(j)
    for m in later:
        weighted = blocks.multiply(blocks.transpose(at.links[j, m]), D)  # N_mj D_j
        for other in later[later.index(m) :]:
            part = blocks.multiply(weighted, at.links[j, other])
            target = at.N[m] if other == m else at.links[m, other]
            target -= _by_parent(part, plan, j, m)
        if plan.n_dense:
            spread = weighted[:, :, plan.patterns[j].rows]
            part = np.einsum("cbe,be->ce", spread, at.entries[j])
            at.entries[m] -= sum_by_level(plan.moves[j, m], at.entries[m].shape[1], part)
    if plan.n_dense:
        at.sums(j).subtract(K, D)


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
