"""The expected information of the linearised model, a guide for the search.

Around the modes the rows of a subject are about normal with mean f + A (0 - eta) and variance
V = A Omega A' + R; twice Fisher's information of theta in that model is close to the second
derivative of -2 log L, also where there are few subjects.
"""

import numpy as np

from sklme._engine.nlme.parameters import Search
from sklme._engine.nlme.point import Point


def expected_curvature(
    point: Point, u: np.ndarray, search: Search, theta: np.ndarray
) -> np.ndarray:
    """About the second derivative of -2 log L by theta, positive semidefinite."""
    at, along, L = point.rows(u, outer=True), point.along(outer=True), point.L
    variance = point.variance(at.f, None, True)
    _, _, _, weight = point.slopes(at.f)
    a, wa = at.a, weight[:, :, None] * at.a
    W = a.swapaxes(1, 2) @ wa
    K = L @ np.linalg.solve(L.T @ W @ L + np.eye(len(L)), np.broadcast_to(L.T, W.shape))
    G = W - W @ K @ W  # A'V^-1 A
    X = _by_beta(at.first, along.C)[..., search.free_beta]
    Xa = X.swapaxes(1, 2) @ wa
    by_beta = (X.swapaxes(1, 2) @ (weight[:, :, None] * X) - Xa @ K @ Xa.swapaxes(1, 2)).sum(0)
    turns = search.turns(theta)  # (k, Q, Q), dOmega by the entries that shape it
    GT = G @ turns[:, None]
    by_Omega = 0.5 * np.einsum("pnab,qnba->pq", GT, GT)
    rate = variance.s[: len(search.free_sigma)][search.free_sigma] * point.data.mask
    VA = wa - wa @ (K @ W)  # V^-1 A
    mixed = 0.5 * np.einsum("snj,nja,kab,njb->ks", rate, VA, turns, VA, optimize=True)
    by_sigma = 0.5 * _squared_inverse(weight, wa, K, rate)
    p, k = len(by_beta), len(turns)
    total = np.zeros((search.n_searched,) * 2)
    total[:p, :p] = by_beta
    total[p : p + k, p : p + k] = by_Omega
    total[p : p + k, p + k :] = mixed
    total[p + k :, p : p + k] = mixed.T
    total[p + k :, p + k :] = by_sigma
    return 2.0 * total


def _by_beta(first: np.ndarray, C: np.ndarray) -> np.ndarray:
    return first @ C[:, 0] if C.shape[1] == 1 else np.einsum("iju,ijup->ijp", first, C)


def _squared_inverse(weight, wa: np.ndarray, K: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """sum over j and k of (V^-1)_jk^2 r_j r_k, V^-1 = diag(w) - wa K wa'."""
    root = (wa @ K * wa).sum(axis=2)
    diagonal = np.einsum("snj,tnj,nj->st", rate, rate, weight**2 - 2.0 * weight * root)
    M = wa.swapaxes(1, 2)[None] @ (rate[..., None] * wa)
    MK = M @ K
    return diagonal + np.einsum("snab,tnba->st", MK, MK)
