"""Entries of the posterior covariance where levels meet, by a pass backwards.

Phi is the covariance of the effects given y and beta, over sigma^2. Along the elimination
Phi_jR = -D_j N_jR Phi_RR and Phi_jj = D_j + D_j N_jR Phi_RR N_Rj D_j, where R are the factors
eliminated after j; only entries between levels that meet are needed (Takahashi's recursion).
"""

from dataclasses import dataclass, field

import numpy as np

from sklme._engine import blocks, pairs
from sklme._engine.design import sum_by_level
from sklme._engine.elimination import Plan
from sklme._engine.remainder import diagonal_blocks
from sklme._engine.sweep import Factorisation


def score_products(at: Factorisation, known: "PosteriorEntries | None" = None) -> list[np.ndarray]:
    """sum over levels of [Z'V^-1Z]_ll of every factor, (k, k); `known` saves a pass backwards."""
    plan = at.system.plan
    out = {}
    T = known.T if known is not None else {} if _alone(at) else _backward(at)
    for j in plan.chain:
        H = blocks.identity_plus(-blocks.multiply(at.N[j], at.D[j]))
        S = blocks.multiply(H, at.N[j]).sum(axis=-1)
        out[j] = S - (_shrunk(H, T[j]) if j in T else at.sums(j).summed(at.dense.Phi, H))
    for t in plan.dense:
        out[t] = _dense_score_product(at, t)
    return [out[t] for t in sorted(out)]


def estimated_score_products(at: Factorisation) -> list[np.ndarray]:
    """The same from a few random signs a level, without entries of an inverse.

    For independent signs s the mean of s'As is the trace of A (Hutchinson 1990).
    """
    system = at.system
    _, scores = at.posterior(system.signed[1])
    out, first = [], 0
    for t, signs in enumerate(system.signed[0]):
        k, m = len(scores[t]), len(signs)
        part = scores[t][:, first : first + k * m].reshape(k, k, m, -1)
        S = np.einsum("bamq,mq->ba", part, signs) / m
        out.append(0.5 * (S + S.T))
        first += k * m
    return out


def posterior_blocks(at: Factorisation) -> list[np.ndarray]:
    """Covariance of the effects of each level given y and beta, over sigma^2: (k, k, n_levels)."""
    plan = at.system.plan
    out = {}
    for j, T in _backward(at).items():
        D = at.D[j]
        out[j] = D + blocks.multiply(blocks.multiply(D, T), D)
    for t in plan.dense:
        out[t] = np.moveaxis(diagonal_blocks(at.dense.Phi, plan, t), 0, 2)
    return [out[t] for t in sorted(out)]


@dataclass
class PosteriorEntries:
    """Entries of Phi where levels meet; what belongs to the dense block stands there.

    diagonal : Phi_jj (k, k, q) of each chain factor
    across : Phi_jm (k_j, k_m, q_j) between each level of j and the level of m that holds it
    border : Phi_jd (k_j, n_entries) on the pattern of j
    T : N_jR Phi_RR N_Rj (k, k, q), R what is eliminated after j
    """

    diagonal: dict[int, np.ndarray] = field(default_factory=dict)
    across: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    border: dict[int, np.ndarray] = field(default_factory=dict)
    T: dict[int, np.ndarray] = field(default_factory=dict)


def posterior_entries(at: Factorisation) -> PosteriorEntries:
    """All entries of Phi between levels that meet in some row."""
    out = PosteriorEntries()
    if len(at.system.plan.sizes) > 1:
        _backward(at, out)
    else:  # Phi of a single factor is D itself, and nothing comes after it
        out.diagonal[0], out.T[0] = at.D[0], np.zeros_like(at.D[0])
    return out


def _alone(at: Factorisation) -> bool:
    """Whether one factor is eliminated and others form the dense block: only sums are needed."""
    return len(at.system.plan.chain) == 1 and at.system.plan.n_dense > 0


def _shrunk(H: np.ndarray, T: np.ndarray) -> np.ndarray:
    """sum over levels of H T H'."""
    return blocks.multiply(blocks.multiply(H, T), blocks.transpose(H)).sum(axis=-1)


def _backward(at: Factorisation, keep: PosteriorEntries | None = None) -> dict[int, np.ndarray]:
    """N_lR Phi_RR N_Rl (k, k, q) for every level l of every chain factor, last factor first.

    Phi is the posterior covariance of the factors R eliminated later. Its entries are needed only
    where levels meet: Phi_jR = -D_j N_jR Phi_RR, Phi_jj = D_j + D_j N_jR Phi_RR N_Rj D_j. Those of
    the factor eliminated first are needed only if they are to be kept.
    """
    plan = at.system.plan
    Phi = keep if keep is not None else PosteriorEntries()
    T = Phi.T
    for j in reversed(plan.chain):
        if j == plan.chain[0] and not plan.later(j) and keep is None:
            T[j] = at.sums(j).quadratic(at.dense.Phi) if plan.n_dense else 0.0 * at.D[j]
            break
        G_d = _on_border(at, j, Phi.border)
        G = {m: _on_link(at, j, m, Phi) for m in plan.later(j)}
        T[j] = _close(at, j, G, G_d)
        D = at.D[j]
        Phi.diagonal[j] = D + blocks.multiply(blocks.multiply(D, T[j]), D)
        for m in plan.later(j):
            Phi.across[j, m] = -blocks.multiply(D, G[m])
        Phi.border[j] = -np.einsum("abe,be->ae", D[:, :, plan.patterns[j].rows], G_d)
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


def _on_link(at: Factorisation, j: int, m: int, Phi: PosteriorEntries) -> np.ndarray:
    """N_jR Phi_Rm at the level of m that holds each level of j, (k_j, k_m, q_j)."""
    plan = at.system.plan
    out = np.zeros_like(at.links[j, m])
    for other in plan.later(j):
        out += blocks.multiply(at.links[j, other], _between(plan, j, other, m, Phi))
    if plan.n_dense:
        rows = plan.patterns[j].rows
        part = np.einsum("ae,ce->ace", at.entries[j], Phi.border[m][:, plan.moves[j, m]])
        flat = sum_by_level(rows, out.shape[2], part.reshape(-1, len(rows)))
        out += flat.reshape(out.shape)
    return out


def _between(plan: Plan, j: int, s: int, m: int, Phi: PosteriorEntries) -> np.ndarray:
    """Phi_sm between the levels of s and m that hold each level of j."""
    if s == m:
        return Phi.diagonal[m][:, :, plan.parents[j, m]]
    if (s, m) in Phi.across:
        return Phi.across[s, m][:, :, plan.parents[j, s]]
    return blocks.transpose(Phi.across[m, s][:, :, plan.parents[j, m]])


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
    if at.dense.invertible[t]:
        left = q * np.eye(k) - at.dense.sigma_blocks(t).sum(axis=0)
        inverse = np.linalg.inv(Lambda)
        return inverse.T @ left @ inverse
    first = plan.offsets[t]
    rows = at.dense.K.full[first : first + k * q]
    product = (rows @ at.Phi).reshape(q, k, -1)
    lost = np.einsum("qan,qbn->ab", product, rows.reshape(q, k, -1))
    return diagonal_blocks(at.dense.K, plan, t).sum(axis=0) - lost
