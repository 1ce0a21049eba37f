"""Tests of the fixed effects: covariance, degrees of freedom and F statistics.

Hypotheses L have one row each and one column a coefficient in the units of the data, the intercept
first where there is one; the columns of dropped coefficients must be zero.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from sklme._engine.lmm import LinearFit
from sklme._engine.sensitivity import Direction, Sensitivity, sensitivity
from sklme._engine.units import coefficient_map, coefficients

NOTHING = 1e-10  # a scaled eigenvalue below this carries no information


class Estimates(NamedTuple):
    """L beta, its standard errors and degrees of freedom, one entry a row of L."""

    estimate: np.ndarray
    std_error: np.ndarray
    dof: np.ndarray


class FTest(NamedTuple):
    """L beta = 0 for all rows together.

    statistic : `scale` times the quadratic form over its rank; it has an F distribution
    """

    statistic: float
    numerator_dof: int
    denominator_dof: float
    scale: float = 1.0


def coefficient_covariance(fit: LinearFit, r: int = 0) -> np.ndarray:
    """s2 (X'V^-1X)^-1 of output r in the units of the data (Bates et al. 2015, eq. 54).

    The intercept comes first where there is one; a dropped column has zeros.
    """
    C = coefficient_map(fit)
    scale = fit.s2[r] * fit.frame.y_scale[r] ** 2
    return C @ np.linalg.solve(fit.xvx[r], C.T) * scale


def coefficient_values(fit: LinearFit, r: int = 0) -> np.ndarray:
    """The coefficients of output r in the units of the data, 0 where dropped."""
    intercept, coef = coefficients(fit)
    return np.append(intercept[r], coef[r])[0 if fit.intercept else 1 :]


def make_tests(fit: LinearFit, r: int, kind: str) -> "WaldTests":
    """The tests of output r by the name of their degrees of freedom.

    "satterthwaite", "kenward-roger", "residual" (N - p) or "normal" (infinite). Without random
    effects, or without residuals, the first two are N - p too.
    """
    if kind == "normal":
        return WaldTests(fit, r, np.inf)
    if kind == "residual" or not fit.structures or fit.s2[r] <= 0.0:
        return WaldTests(fit, r)
    if kind == "satterthwaite":
        return Satterthwaite(fit, r)
    if not fit.reml:
        raise ValueError('Kenward-Roger needs a fit by REML: refit with method="reml"')
    return KenwardRoger(fit, r)


def satterthwaite(fit: LinearFit, r: int, L: np.ndarray) -> Estimates:
    """Each row of L with Satterthwaite's degrees of freedom."""
    return make_tests(fit, r, "satterthwaite").rows(L)


def kenward_roger(fit: LinearFit, r: int, L: np.ndarray) -> Estimates:
    """Each row of L with the adjusted standard error and dof of Kenward and Roger."""
    return make_tests(fit, r, "kenward-roger").rows(L)


class WaldTests:
    """Tests with the same degrees of freedom, N - p or infinite, for every hypothesis."""

    def __init__(self, fit: LinearFit, r: int = 0, dof: float | None = None):
        self.fit, self.r = fit, r
        self.everywhere = fit.gram.total - fit.columns.sum() if dof is None else dof

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the coefficients in the units of the data, 0 where dropped."""
        return coefficient_covariance(self.fit, self.r)

    def dof(self, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom of each row of L."""
        return np.full(len(L), float(self.everywhere))

    def rows(self, L: np.ndarray) -> Estimates:
        """Each row of L by itself."""
        variance = np.einsum("ij,jk,ik->i", L, self.covariance, L)
        estimate = L @ coefficient_values(self.fit, self.r)
        return Estimates(estimate, np.sqrt(np.maximum(variance, 0.0)), self.dof(L))

    def joint(self, L: np.ndarray) -> FTest:
        """All rows of L together, by the F statistic of Wald."""
        turned, variances = self._independent(L)
        t2 = (turned @ coefficient_values(self.fit, self.r)) ** 2 / variances
        q = len(turned)
        if q == 0:
            return FTest(np.nan, 0, np.nan)
        return FTest(float(t2.sum() / q), q, self._pooled(L, q))

    def _independent(self, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Combinations of the rows with uncorrelated estimates, and their variances."""
        C = L @ self.covariance @ L.T
        scale = _unit(np.diag(C))
        w, E = np.linalg.eigh(C * scale[:, None] * scale)
        use = w > NOTHING * max(w.max(initial=0.0), 0.0)
        return E[:, use].T @ (L * scale[:, None]), w[use]

    def _pooled(self, L: np.ndarray, rank: int) -> float:
        """The denominator degrees of freedom of all rows together."""
        return float(self.everywhere)


class KnownTests(WaldTests):
    """Normal tests with a covariance that was found elsewhere."""

    def __init__(self, fit: LinearFit, covariance: np.ndarray):
        super().__init__(fit, 0, np.inf)
        self.__dict__["covariance"] = covariance  # in the place of the cached property


class Satterthwaite(WaldTests):
    """Degrees of freedom from the variance of the variance estimates.

    With f = var(l'beta) as a function of psi = (Lambda, sigma^2) and A = cov(psi) = 2 H^-1, H the
    Hessian of the deviance (restricted or not) at the optimum, dof = 2 f^2 / (g'A g), g = df / dpsi
    (Fai and Cornelius 1996; Kuznetsova, Brockhoff and Christensen 2017, eq. 8). A variance of zero
    drops out, since V does not change with Lambda there.
    """

    @cached_property
    def _linear(self) -> Sensitivity:
        return sensitivity(self.fit, self.r)

    @cached_property
    def _chart(self) -> tuple[np.ndarray, np.ndarray]:
        """dGamma / dLambda in the directions (n, m), and the second-order term (n, n)."""
        s = self._linear
        J, seconds = [], []
        for t, structure in enumerate(self.fit.structures):
            here = [i for i, d in enumerate(s.directions) if d.factor == t]
            E, root = _tangents(structure, self.fit.Lambdas[t][self.r])
            dGamma = np.einsum("nac,bc->nab", E, root)
            rows = np.zeros((len(E), len(s.directions)))
            rows[:, here] = _coordinates(
                dGamma + dGamma.swapaxes(1, 2), [s.directions[i] for i in here]
            )
            J.append(rows)
            seconds.append(2.0 * np.einsum("ab,nbc,mac->nm", s.M[t], E, E, optimize=True))
        return np.concatenate(J), _block_diagonal(seconds)

    @cached_property
    def _information(self) -> np.ndarray:
        """H in (Lambda, sigma^2), sigma^2 = 1: [[J'(2w - t2)J + second, J'a], [., nu]]."""
        s, (J, second) = self._linear, self._chart
        n = len(J)
        H = np.empty((n + 1, n + 1))
        H[:n, :n] = J @ (2.0 * s.w - s.t2) @ J.T + second
        H[:n, n] = H[n, :n] = J @ s.a
        H[n, n] = self.fit.nu
        return H

    def dof(self, L: np.ndarray) -> np.ndarray:
        """2 f^2 / (g'A g) for each row, in the frame with sigma^2 = 1."""
        s, (J, _) = self._linear, self._chart
        u = L @ coefficient_map(self.fit) @ s.Xi
        f = np.einsum("ip,pq,iq->i", u, self.fit.xvx[self.r], u)
        g = np.einsum("ip,mpq,iq->im", u, s.G, u, optimize=True) @ J.T
        g = np.column_stack([g, f])
        spread = np.einsum("in,nm,im->i", g, _pseudo_inverse(self._information), g)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(f > 0, f**2 / spread, np.nan)

    def _pooled(self, L: np.ndarray, rank: int) -> float:
        """The denominator that gives F the mean of its parts (ibid., eqs. 9 and 10).

        The parts are the squared t of the eigenvectors of the covariance of L beta, so that, unlike
        F itself, the denominator depends on which rows span the hypothesis.
        """
        _, E = np.linalg.eigh(L @ self.covariance @ L.T)
        dof = self.dof(E[:, -rank:].T @ L)
        if np.ptp(dof) < 1e-8 * dof.max():
            return float(dof.mean())
        if dof.min() <= 2.0:
            return 2.0
        total = (dof / (dof - 2.0)).sum()
        return float(2.0 * total / (total - rank))


class KenwardRoger(WaldTests):
    """The covariance of beta corrected for the estimation of V, and moments matched to F.

    Kenward and Roger (1997). V is linear in its parameters, so that the term in its second
    derivatives is absent. As the first parameter V itself serves in place of I, which spans the
    same and needs no new traces. A variance of zero counts like the others.
    """

    @cached_property
    def _linear(self) -> Sensitivity:
        return sensitivity(self.fit, self.r)

    @cached_property
    def _weights(self) -> np.ndarray:
        """W, the covariance of the variance parameters, in units of sigma^4."""
        s = self._linear
        m = len(s.t1)
        information = np.empty((m + 1, m + 1))
        information[0, 0] = self.fit.gram.total - self.fit.columns.sum()
        information[0, 1:] = information[1:, 0] = s.t1
        information[1:, 1:] = s.t2
        return 2.0 * _pseudo_inverse(information)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Phi + 2 Phi sum_ij W_ij (Q_ij - P_i Phi P_j) Phi (eq. 3), in the units of the data.

        The terms of V itself cancel: Q_0i = G_i = P_0 Phi G_i.
        """
        s, C = self._linear, coefficient_map(self.fit)
        W = self._weights[1:, 1:]
        lost = np.einsum("ij,ijpq->pq", W, s.Q)
        lost -= np.einsum("ij,ipr,rs,jsq->pq", W, s.G, s.Xi, s.G, optimize=True)
        half = C @ s.Xi
        scale = self.fit.s2[self.r] * self.fit.frame.y_scale[self.r] ** 2
        return (half @ C.T + half @ (lost + lost.T) @ half.T) * scale

    def dof(self, L: np.ndarray) -> np.ndarray:
        """m of each row by itself."""
        return np.array([self._moments(row[None])[1] for row in L])

    def joint(self, L: np.ndarray) -> FTest:
        """lambda F with lambda and m such that its two moments are those of F(q, m)."""
        turned, _ = self._independent(L)
        if not len(turned):
            return FTest(np.nan, 0, np.nan)
        scale, m = self._moments(turned)
        value = turned @ coefficient_values(self.fit, self.r)
        wald = value @ np.linalg.solve(turned @ self.covariance @ turned.T, value)
        return FTest(float(scale * wald / len(turned)), len(turned), m, scale)

    def _moments(self, L: np.ndarray) -> tuple[float, float]:
        """(lambda, m): sec. 3 of the paper, with A1 and A2 of eqs. 5 and 6."""
        s, W = self._linear, self._weights
        half = L @ coefficient_map(self.fit) @ s.Xi
        _, R = np.linalg.qr(np.linalg.cholesky(self.fit.xvx[self.r]).T @ half.T)
        half = np.linalg.solve(R.T, half)  # half X'V^-1X half' = I
        inner = np.concatenate([np.eye(len(L))[None], half @ s.G @ half.T])
        traces = np.einsum("iqq->i", inner)
        A1 = float(traces @ W @ traces)
        A2 = float(np.einsum("ij,iab,jba->", W, inner, inner, optimize=True))
        return _matched(A1, A2, len(L))


def _matched(A1: float, A2: float, q: int) -> tuple[float, float]:
    """Scale and denominator dof of the F distribution (Kenward and Roger 1997, sec. 3)."""
    if A2 <= 0.0:
        return 1.0, np.inf
    if q == 1:  # then A1 = A2 and the formulas below reduce to this
        return 1.0, 2.0 / A2
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1.0) * A1 - (q + 4.0) * A2) / ((q + 2.0) * A2)
    d = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / d, (q - g) / d, (q + 2.0 - g) / d
    mean_inverse = 1.0 - A2 / q
    first, second, third = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    ratio = 1.0 if abs(second - mean_inverse) < 1e-12 else mean_inverse / second
    rho = ratio**2 * first / (q * third)
    m = 4.0 + (q + 2.0) / (q * rho - 1.0)
    return m * mean_inverse / (m - 2.0), m


def _tangents(structure, Lambda: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changes E (n, k, c) of a factor (k, c) of Gamma, without its columns that are zero.

    All entries of a block may change: a rotation among them alters nothing and drops out.
    """
    k = structure.k
    if structure.spherical:
        return structure.basis if np.any(Lambda) else structure.basis[:0], Lambda
    root, E = np.zeros((k, k)), []
    for block in map(list, structure.blocks):
        U, size, _ = np.linalg.svd(Lambda[np.ix_(block, block)])
        rank = int((size > 1e-9 * size.max(initial=0.0)).sum())
        for c in range(rank):
            root[block, block[c]] = U[:, c] * size[c]
            E += [_unit_matrix(k, a, block[c]) for a in block]
    return np.array(E).reshape(-1, k, k), root


def _unit_matrix(k: int, a: int, b: int) -> np.ndarray:
    E = np.zeros((k, k))
    E[a, b] = 1.0
    return E


def _coordinates(matrices: np.ndarray, directions: list[Direction]) -> np.ndarray:
    """Symmetric matrices (n, k, k) as combinations of the directions, (n, m)."""
    basis = np.array([d.T.ravel() for d in directions]).reshape(-1, matrices.shape[1] ** 2)
    flat = matrices.reshape(len(matrices), basis.shape[1])
    return np.linalg.lstsq(basis.T, flat.T, rcond=None)[0].T


def _block_diagonal(parts: list[np.ndarray]) -> np.ndarray:
    n = sum(len(part) for part in parts)
    out, at = np.zeros((n, n)), 0
    for part in parts:
        out[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return out


def _unit(diagonal: np.ndarray) -> np.ndarray:
    """1 / sqrt of a diagonal, 1 where that is not positive."""
    return 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def _pseudo_inverse(H: np.ndarray) -> np.ndarray:
    """The inverse on the eigenvectors that carry information, after scaling to unit diagonal."""
    scale = _unit(np.diag(H))
    w, E = np.linalg.eigh(H * scale[:, None] * scale)
    inverse = np.divide(1.0, w, out=np.zeros_like(w), where=w > NOTHING)
    return (E * inverse) @ E.T * scale[:, None] * scale
