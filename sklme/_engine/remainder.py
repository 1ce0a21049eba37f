"""What remains when the chain is eliminated: the factors of the dense block, at one theta.

With K = Z_d'V^-1Z_d, V of the chain alone, Sigma = (I + Lambda' K Lambda)^-1 and the posterior
covariance of the effects is Phi = Lambda Sigma Lambda'. All of it stands in the memory of K where
Lambda can be inverted, since then nothing else needs K.
"""

import numpy as np
from scipy import sparse

from sklme._engine.elimination import Plan
from sklme._engine.gram import Gram
from sklme._engine.symmetric import Inverse, Symmetric

SINGULAR = 1e-5  # nothing is divided by Lambda if Lambda^2 times a typical Z'Z is below this
UNEVEN = 1e-3  # or the ratio of its singular values below this


class Remainder:
    """The dense factors, as a Cholesky factor of their block until entries of Phi are needed."""

    def __init__(self, gram: Gram, plan: Plan, Lambdas: list[np.ndarray], K: np.ndarray):
        self.plan, self.Lambdas = plan, Lambdas
        self.memory = K
        self.invertible = {t: _invertible(gram, Lambdas[t], t) for t in plan.dense}
        self._L = _factor(plan, Lambdas)
        whole = Symmetric(K)
        self.K = None if all(self.invertible.values()) else whole
        S = _both_sides(self._L, whole, K if self.K is None else np.empty_like(K))
        S.lower.flat[:: plan.n_dense + 1] += 1.0
        self._inverse = Inverse(S)
        self._Phi: Symmetric | None = None
        self._Sigma: dict[int, np.ndarray] = {}
        self.log_det = self._inverse.log_det

    @property
    def Phi(self) -> Symmetric:
        """Lambda Sigma Lambda', computed when it is first asked for."""
        if self._Phi is None:
            Sigma = self._inverse.entries()
            self._Sigma = {t: diagonal_blocks(Sigma, self.plan, t) for t in self.plan.dense}
            self._Phi = _both_sides(self._L.T, Sigma, Sigma.lower)
        return self._Phi

    def sigma_blocks(self, t: int) -> np.ndarray:
        """(q, k, k) diagonal blocks of Sigma for a factor."""
        _ = self.Phi
        return self._Sigma[t]

    def phi_times(self, b: np.ndarray) -> np.ndarray:
        """Phi b for columns (n_dense, m)."""
        if self._Phi is not None:
            return self._Phi.times(b)
        if self._L.ndim == 1:
            return self._L[:, None] * self._inverse.times(self._L[:, None] * b)
        return self._L @ self._inverse.times(self._L.T @ b)


def diagonal_blocks(matrix: Symmetric, plan: Plan, t: int) -> np.ndarray:
    """(q, k, k) diagonal blocks of a dense factor."""
    k, q = plan.sizes[t]
    at = plan.offsets[t] + np.arange(q)[:, None] * k + np.arange(k)
    lower = np.tril(matrix.lower[at[:, :, None], at[:, None, :]])
    return lower + np.tril(lower, -1).swapaxes(1, 2)


def _invertible(gram: Gram, Lambda: np.ndarray, t: int) -> bool:
    f = gram.factors[t]
    typical = np.einsum("aaq->", f.zz) / max(f.k * f.n_levels, 1)
    sizes = np.linalg.svd(Lambda, compute_uv=False)
    return bool(sizes.min() ** 2 * typical > SINGULAR and sizes.min() > UNEVEN * sizes.max())


def _factor(plan: Plan, Lambdas: list[np.ndarray]) -> sparse.csr_array | np.ndarray:
    """Lambda of the dense factors; its diagonal where all have one coefficient."""
    if all(plan.sizes[t][0] == 1 for t in plan.dense):
        return np.concatenate([np.full(plan.sizes[t][1], Lambdas[t][0, 0]) for t in plan.dense])
    parts = [sparse.kron(sparse.eye_array(plan.sizes[t][1]), Lambdas[t]) for t in plan.dense]
    return sparse.csr_array(sparse.block_diag(parts, format="csr"))


def _both_sides(L, K: Symmetric, out: np.ndarray) -> Symmetric:
    """L' K L, in the memory `out` if possible."""
    if L.ndim == 1:
        return K.scaled(L, out)
    return Symmetric(np.ascontiguousarray(L.T @ np.ascontiguousarray((L.T @ K.full).T)))
