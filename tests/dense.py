"""A brute-force linear mixed model: dense n x n algebra, one formula a line, no cleverness.

It is the oracle that the engine is tested against, so it shares no code and no idea with it:
everything goes through the relative marginal covariance H = W^-1 + sum_t Z_t (I x G_t) Z_t'.

Bates, Maechler, Bolker and Walker (2015), Journal of Statistical Software 67(1), write the same
model with L_theta and R_X; |H| = |L_theta|^2 / |W| and |X'H^-1 X| = |R_X|^2.
Henderson (1975), Biometrics 31(2), 423-447, gives the effects and their prediction errors.
"""

from typing import NamedTuple

import numpy as np


class Term(NamedTuple):
    """One grouping factor: level codes (n,), their number, slope columns (n, k), G_t (k, k)."""

    codes: np.ndarray
    n_levels: int
    Z: np.ndarray
    G: np.ndarray


class Dense:
    """The model y = X beta + sum_t Z_t b_t + e at given relative covariances.

    Parameters
    ----------
    X : array of shape (n, p)
        Fixed effects, the intercept column included.
    y : array of shape (n,)
        The response, any offset already subtracted.
    terms : list of (codes, n_levels, Z, G)
        Level of each row, number of levels, slope columns (n, k), and the covariance (k, k) of
        one level's effects divided by the residual variance; G may be singular.
    weights : array of shape (n,), default=None
        Row weights; what they mean is said by `weight_type`.
    weight_type : {"precision", "frequency"}, default="precision"
        Var(e_i) = sigma2 / w_i, or row i stands for w_i (a whole number of) rows.
    reml : bool, default=True
        REML or maximum likelihood.
    """

    def __init__(self, X, y, terms, weights=None, weight_type="precision", reml=True):
        rows, noise = _rows(len(y), weights, weight_type)
        self.reml = reml
        self.X, self.y = np.asarray(X, float)[rows], np.asarray(y, float)[rows]
        self.terms = [_term(codes, m, Z, G, rows) for codes, m, Z, G in terms]
        self.H = np.diag(noise) + sum(_between(t, t.codes, t.Z) for t in self.terms)
        self.H_inv = np.linalg.inv(self.H)
        self.XtHX = self.X.T @ self.H_inv @ self.X

    @property
    def n_degrees(self):
        """N under ML (eq. 33), N - p under REML (eq. 40)."""
        n, p = self.X.shape
        return n - p if self.reml else n

    @property
    def beta(self):
        """Generalised least squares (Aitken), the beta-hat of eq. 30."""
        return np.linalg.solve(self.XtHX, self.X.T @ self.H_inv @ self.y)

    @property
    def residual(self):
        """y - X beta."""
        return self.y - self.X @ self.beta

    @property
    def r2(self):
        """The penalised residual sum of squares r^2(theta) = (y - X beta)'H^-1(y - X beta)."""
        return self.residual @ self.H_inv @ self.residual

    @property
    def sigma2(self):
        """The profiled residual variance, eq. 33 (ML) and 40 (REML)."""
        return self.r2 / self.n_degrees

    @property
    def beta_covariance(self):
        """sigma2 (X'H^-1 X)^-1."""
        return self.sigma2 * np.linalg.inv(self.XtHX)

    @property
    def criterion(self):
        """Minus twice the profiled log-likelihood: eq. 34 (ML), eq. 41 (REML)."""
        log_det = _log_det(self.H) + (_log_det(self.XtHX) if self.reml else 0.0)
        return log_det + self.n_degrees * (1 + np.log(2 * np.pi * self.sigma2))

    def blups(self):
        """E(b | y) = G Z'H^-1 (y - X beta), Henderson (1975); one (n_levels, k) array a term."""
        weighted = self.H_inv @ self.residual
        return [(_effects_covariance(t) @ weighted).reshape(t.n_levels, -1) for t in self.terms]

    def conditional_covariance(self):
        """Cov(b | y) at known beta, sigma2 (G - G Z'H^-1 Z G): (n_levels, k, k) for each term."""
        return [self._conditional_covariance(t) for t in self.terms]

    def _conditional_covariance(self, term):
        k = len(term.G)
        GZ = _effects_covariance(term)
        known = (GZ @ self.H_inv @ GZ.T).reshape(term.n_levels, k, term.n_levels, k)
        levels = np.arange(term.n_levels)
        return self.sigma2 * (term.G - known[levels, :, levels, :])

    def predict(self, X, new_terms):
        """x'beta + z'b for new rows; `new_terms` as in `prediction_variance`."""
        X = np.asarray(X, float)
        return X @ self.beta + self._cross(new_terms) @ self.H_inv @ self.residual

    def prediction_variance(self, X, new_terms):
        """Var(x'(beta-hat - beta) + z'(b-hat - b)) of each new row, theta taken as known.

        Henderson (1975), without the inverse of G:
        sigma2 (z'Gz - c'H^-1 c + d'(X'H^-1 X)^-1 d), c = Cov(y, z'b) / sigma2, d = x - X'H^-1 c.

        Parameters
        ----------
        X : array of shape (m, p)
        new_terms : list of (codes, Z)
            For each term the level codes (m,) and slope columns (m, k); -1 is an unseen level.
        """
        C = self._cross(new_terms)
        prior = sum(np.einsum("mi,ij,mj->m", Z, t.G, Z) for t, (_, Z) in self._pairs(new_terms))
        d = np.asarray(X, float) - C @ self.H_inv @ self.X
        known = np.einsum("mi,ij,mj->m", C, self.H_inv, C)
        fixed = np.einsum("mi,ij,mj->m", d, np.linalg.inv(self.XtHX), d)
        return self.sigma2 * (prior - known + fixed)

    def _cross(self, new_terms):
        """Cov(z'b of the new rows, y) / sigma2: rows share the effects of a level they share."""
        return sum(_between(t, codes, Z) for t, (codes, Z) in self._pairs(new_terms))

    def _pairs(self, new_terms):
        arrays = [(np.asarray(codes), np.asarray(Z, float)) for codes, Z in new_terms]
        return list(zip(self.terms, arrays, strict=True))

    def gradient(self, t, Lambda):
        """d criterion / d Lambda_t, every one of the k x k entries, where G_t = Lambda Lambda'.

        d criterion = tr(A dH) - y'P dH P y / sigma2 with dH = Z (dLambda Lambda' + Lambda
        dLambda') Z' level by level; A = H^-1 under ML (Harville 1977, Journal of the American
        Statistical Association 72, 320-338), A = P = H^-1 - H^-1 X (X'H^-1 X)^-1 X'H^-1 under REML.
        """
        term = self.terms[t]
        if not np.allclose(Lambda @ Lambda.T, term.G, rtol=1e-10, atol=1e-12):
            raise ValueError(f"Lambda Lambda' is not the covariance G of term {t}.")
        HX = self.H_inv @ self.X
        P = self.H_inv - HX @ np.linalg.solve(self.XtHX, HX.T)
        A = (P if self.reml else self.H_inv) - np.outer(P @ self.y, P @ self.y) / self.sigma2
        blocks = [_rows_of(term, level) for level in range(term.n_levels)]
        S = sum(Z.T @ A[np.ix_(rows, rows)] @ Z for rows, Z in blocks)
        return 2 * S @ Lambda


def _rows(n, weights, weight_type):
    """Which rows the model sees, how often, and their noise variance divided by sigma2."""
    if weight_type not in ("precision", "frequency"):
        raise ValueError(f'weight_type is "precision" or "frequency", not {weight_type!r}.')
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    if weight_type == "precision":
        rows = np.flatnonzero(weights > 0)
        return rows, 1 / weights[rows]
    if not np.array_equal(weights, np.round(weights)):
        raise ValueError("Frequency weights of the oracle are repeated rows: whole numbers only.")
    rows = np.repeat(np.arange(n), weights.astype(int))
    return rows, np.ones(len(rows))


def _term(codes, n_levels, Z, G, rows):
    Z = np.asarray(Z, float).reshape(len(codes), -1)
    return Term(np.asarray(codes)[rows], n_levels, Z[rows], np.asarray(G, float))


def _rows_of(term, level):
    rows = np.flatnonzero(term.codes == level)
    return rows, term.Z[rows]


def _between(term, codes, Z):
    """Z_new (I x G) Z_t': covariance of new rows with the model's rows through one term."""
    return (Z @ term.G @ term.Z.T) * (codes[:, None] == term.codes[None, :])


def _effects_covariance(term):
    """(I x G) Z': covariance of all effects of a term, level by level, with the rows."""
    levels = np.arange(term.n_levels)[:, None, None]
    return np.where(term.codes == levels, term.G @ term.Z.T, 0.0).reshape(-1, len(term.codes))


def _log_det(A):
    return np.linalg.slogdet(A)[1]
