"""Tests of a variance at zero by restricted likelihood ratio, and the null distribution.

Zero is on the boundary of the parameters, so that the ratio is not chi-square. With one variance
in all its finite-sample distribution is known (Crainiceanu and Ruppert 2004); else it is drawn by
fitting both models to data simulated under the null, or taken as the mixture of two chi-squares of
Self and Liang (1987) and Stram and Lee (1994).
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, stats

from sklme._engine.covariance import Structure
from sklme._engine.gram import Gram
from sklme._engine.lmm import LinearFit
from sklme._engine.profile import turned
from sklme._engine.simulate import chunks, draw, kept_gram, refit

GRID = 200  # values of the variance ratio at which the null distribution looks for its maximum
MOST_LEVELS = 4000  # whose eigenvalues the exact null distribution takes
BATCH = 2_000_000  # numbers in the table (draws x values) of one batch


@dataclass(frozen=True)
class Hypotheses:
    """One output with and without a coefficient's variance.

    dof : covariances that vanish with the variance
    """

    statistics: Gram
    full: tuple[Structure, ...]
    null: tuple[Structure, ...]
    dof: int

    @property
    def only(self) -> bool:
        """Whether the variance is the only one of the model."""
        return len(self.full) == 1 and self.full[0].n_theta == 1

    @property
    def exact(self) -> bool:
        """Whether the finite-sample distribution is at hand."""
        return self.only and self.statistics.factors[0].n_levels <= MOST_LEVELS

    def ratio(self, statistics: Gram) -> np.ndarray:
        """The restricted likelihood ratio of every response."""
        null = refit(statistics, self.null, reml=True).criterion
        return np.maximum(null - refit(statistics, self.full, reml=True).criterion, 0.0)


def hypotheses(fit: LinearFit, r: int, t: int, a: int) -> Hypotheses:
    """The variance of coefficient a of factor t against zero, in columns where a is its own.

    Slopes are centred in the frame only while their intercept is in the model.
    """
    structure, T = fit.structures[t], fit.frame.z_maps[t]
    statistics = turned(kept_gram(fit, r), t, np.linalg.inv(T / T.diagonal()[:, None]))
    gone = range(structure.k) if structure.spherical else (a,)
    null = tuple(structure.without(gone) if s == t else f for s, f in enumerate(fit.structures))
    beside = max(len(block) - 1 for block in structure.blocks if a in block)
    return Hypotheses(statistics, fit.structures, null, 0 if structure.spherical else beside)


def mixture_p_value(ratio: float, dof: int) -> float:
    """Half chi-square(dof), half chi-square(dof + 1); chi-square(0) is a point at zero."""
    below = float(ratio <= 0.0) if dof == 0 else float(stats.chi2.sf(ratio, dof))
    return 0.5 * below + 0.5 * float(stats.chi2.sf(ratio, dof + 1))


def exact_null(h: Hypotheses, n: int, rng) -> np.ndarray:
    """Draws of the ratio when the only variance is zero (Crainiceanu and Ruppert 2004, eq. 9).

    sup over lambda of nu log(1 + N / D) - sum log(1 + lambda mu), where mu are the eigenvalues of
    Z'(I - X(X'X)^-1X')Z, N = sum of lambda mu w^2 / (1 + lambda mu), D = sum of w^2 / (1 + lambda
    mu) + chi-square of the rest.
    """
    nu = h.statistics.total - len(h.statistics.xx)
    mu = _eigenvalues(h)
    grid = np.concatenate([[0.0], np.logspace(-4, 5, GRID) / mu.max()])
    kept = 1.0 / (1.0 + np.outer(mu, grid))
    penalty = np.log(kept).sum(axis=0)
    out = []
    step = max(BATCH // (GRID + len(mu)), 1)
    for first in range(0, n, step):
        m = min(step, n - first)
        w2 = rng.chisquare(1.0, (m, len(mu)))
        rest = nu - len(mu)
        D = w2 @ kept + (rng.chisquare(rest, m)[:, None] if rest > 1e-9 else 0.0)
        N = w2 @ (1.0 - kept)
        out.append((nu * np.log1p(N / D) + penalty).max(axis=1))
    return np.concatenate(out)


def simulated_null(h: Hypotheses, n: int, rng, progress=None) -> np.ndarray:
    """Draws of the ratio from both fits to responses of the model without the variance."""
    found = refit(h.statistics, h.null, reml=True)
    Lambdas, parts = [L[0] for L in found.Lambdas], []
    for m in chunks(h.statistics, n):
        parts.append(h.ratio(draw(h.statistics, Lambdas, m, rng)))
        if progress is not None:
            progress(m)
    return np.concatenate(parts)


def _eigenvalues(h: Hypotheses) -> np.ndarray:
    """Those of Z'(I - X (X'X)^-1 X')Z that are not zero, Z the columns of the only variance."""
    f, (basis,) = h.statistics.factors[0], h.full[0].basis
    here = np.flatnonzero(basis.any(axis=0))
    k, q = len(here), f.n_levels
    ZZ = np.zeros((k, q, k, q))
    levels = np.arange(q)
    ZZ[:, levels, :, levels] = f.zz[np.ix_(here, here)].transpose(2, 0, 1)
    ZX = f.zx[here].transpose(0, 2, 1).reshape(k * q, -1)
    M = ZZ.reshape(k * q, k * q)
    if ZX.shape[1]:
        M = M - ZX @ np.linalg.solve(h.statistics.xx, ZX.T)
    mu = linalg.eigvalsh(M)
    return mu[mu > 1e-10 * mu.max()]
