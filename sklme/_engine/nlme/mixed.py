"""The linear mixed model y = X beta + Z L u + e with e ~ N(0, R), on padded rows.

V = Z Omega Z' + R is dense for each subject, which is quick for the few rows that subjects of
nonlinear models have. -2 log L and its REML form (Harville 1977, "Maximum likelihood approaches to
variance component estimation and to related problems", JASA 72) without n log 2 pi, with beta
profiled out.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.descent import Place, descend
from sklme._engine.nlme.errors import Variance, variance
from sklme._engine.nlme.parameters import Search
from sklme._engine.nlme.starts import longest_steps


@dataclass(frozen=True)
class Linear:
    """The rows: w (N, n), X (N, n, P) of the free coefficients, Z (N, n, Q), zero where no row.

    f (N, n) : the predictions that the variance is taken at
    """

    data: Data
    search: Search
    w: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    f: np.ndarray
    reml: bool

    def solve(self, theta: np.ndarray) -> "Solved":
        """Generalised least squares at theta of `search`, whose coefficients are all fixed."""
        L, sigma = self.search.factor(theta), self.search.unpack(theta).sigma
        at = variance(self.data, sigma, self.f, None, True)
        inverse, log_det = self._inverse(L, at)
        VX = inverse @ self.X
        information = (self.X.swapaxes(1, 2) @ VX).sum(axis=0)
        root = _root(information)
        right = (VX.swapaxes(1, 2) @ self.w[:, :, None]).sum(axis=0)[:, 0]
        beta = np.linalg.solve(root.T, np.linalg.solve(root, right))
        residual = self.w - self.X @ beta
        Vr = (inverse @ residual[:, :, None])[:, :, 0]
        value = log_det + (residual * Vr).sum(axis=1)
        if self.reml:
            value = value + 2.0 * np.log(np.diag(root)).sum() / len(value)
        u = ((Vr[:, None] @ self.Z)[:, 0]) @ L
        return Solved(self, L, at, inverse, VX, np.linalg.inv(information), beta, u, Vr, value)

    def _inverse(self, L: np.ndarray, at: Variance) -> tuple[np.ndarray, np.ndarray]:
        A = self.Z @ L
        diagonal = np.where(self.data.mask, at.R, 1.0)
        V = A @ A.swapaxes(1, 2) + diagonal[:, :, None] * np.eye(A.shape[1])
        return np.linalg.inv(V), np.linalg.slogdet(V)[1]


@dataclass(frozen=True)
class Solved:
    """beta, u of the random effects and -2 log L by subject at some variances, and its slopes."""

    model: Linear
    L: np.ndarray
    at: Variance
    inverse: np.ndarray
    VX: np.ndarray
    covariance: np.ndarray
    beta: np.ndarray
    u: np.ndarray
    Vr: np.ndarray
    value: np.ndarray

    def gradients(self, theta: np.ndarray) -> np.ndarray:
        """Of each subject by theta."""
        model, n_sigma = self.model, len(self.at.s)
        Z, mask = model.Z, model.data.mask
        Zr = (self.Vr[:, None] @ Z)[:, 0]
        D = Z.swapaxes(1, 2) @ self.inverse @ Z - Zr[:, :, None] * Zr[:, None]
        d = np.diagonal(self.inverse, axis1=1, axis2=2) - self.Vr**2
        if model.reml:
            ZX = Z.swapaxes(1, 2) @ self.VX
            D = D - ZX @ self.covariance @ ZX.swapaxes(1, 2)
            d = d - np.einsum("ijp,pq,ijq->ij", self.VX, self.covariance, self.VX)
        by_sigma = (self.at.s * (d * mask)).sum(axis=2).T.reshape(-1, n_sigma)
        no_beta = np.zeros((len(D), len(model.search.free_beta)))
        return model.search.chain(theta, no_beta, 2.0 * D @ self.L, by_sigma)

    def curvature(self, theta: np.ndarray) -> np.ndarray:
        """Twice Fisher's information of theta."""
        model = self.model
        turns = model.Z[None] @ model.search.turns(theta)[:, None] @ model.Z.swapaxes(1, 2)
        rates = (self.at.s * model.data.mask)[model.search.free_sigma]
        moves = np.concatenate([turns, rates[..., None] * np.eye(rates.shape[-1])])
        moved = self.inverse @ moves
        return np.einsum("pijk,qikj->pq", moved, moved)


def fit_linear(model: Linear, theta: np.ndarray, *, tol: float) -> tuple[np.ndarray, bool]:
    """theta of the highest likelihood, and whether it was found."""

    def look(theta: np.ndarray, _) -> Place:
        try:
            with np.errstate(all="ignore"):
                at = model.solve(theta)
                slopes = at.gradients(theta)
        except np.linalg.LinAlgError:  # far out, where numbers overflow
            none = np.full((len(model.w), len(theta)), np.nan)
            return Place(theta, np.inf, none, none, lambda: np.zeros((len(theta),) * 2))
        total = float(at.value.sum())
        return Place(theta, total, slopes, at.u, lambda: at.curvature(theta))

    if not len(theta):
        return theta, True
    longest = longest_steps(model.data, model.search)
    end = descend(look, look(theta, None), longest, tol=tol, max_iter=100)
    return end.place.theta, end.converged


def _root(information: np.ndarray) -> np.ndarray:
    """The Cholesky factor.

    Raises
    ------
    ValueError
        If some coefficients cannot be told apart.
    """
    size = np.sqrt(np.diag(information))
    size = np.where(size > 0, size, 1.0)
    scaled = information / np.outer(size, size)
    if not np.isfinite(scaled).all():
        raise np.linalg.LinAlgError("not finite")
    if len(scaled) and np.linalg.eigvalsh(scaled)[0] < 1e-12:
        raise ValueError("the rows cannot tell the coefficients apart: fix one or leave one out")
    return size[:, None] * np.linalg.cholesky(scaled)
