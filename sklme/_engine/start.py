"""Where the search for theta starts: variances from sums of squares between levels.

For each coefficient a of a factor the OLS residuals e give num = sum_l (z_l'e)^2 / (z_l'z_l), whose
mean is about q s2 + s2_a sum_l z_l'z_l (Henderson's method 1 without the cross terms; Searle,
Casella and McCulloch 1992, ch. 5). Off by some tens of per cent is near enough for Newton steps.
"""

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.gram import FactorGram, Gram

LEAST, MOST = 0.05, 1e4  # bounds of a starting standard deviation relative to the residual
RESIDUAL = 0.02  # least share of the variance that is left to the residual


def starting_factors(gram: Gram, structures: tuple[Structure, ...]) -> list[np.ndarray]:
    """Diagonal Lambda (n_outputs, k, k) for each factor."""
    beta = np.linalg.solve(gram.xx, gram.xy) if len(gram.xx) else np.zeros_like(gram.xy)
    rss = np.maximum(gram.yy - np.einsum("pr,pr->r", gram.xy, beta), 1e-300)
    sums = [_between(f, beta) for f in gram.factors]  # (num, weight) by coefficient
    levels = sum(f.n_levels * f.k for f in gram.factors)
    explained = sum(num.sum(axis=1) for num, _ in sums)
    rest = (rss - explained) / max(gram.total - levels, 0.1 * gram.total)
    s2 = np.maximum(rest, RESIDUAL * rss / gram.total)
    return [
        _diagonal(f, num, weight, s2) for f, (num, weight) in zip(gram.factors, sums, strict=True)
    ]


def _between(f: FactorGram, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares between levels (r, k) and the sums of z'z (k,)."""
    squares = np.einsum("aag->ag", f.zz)
    e = f.zy - np.einsum("apg,pr->arg", f.zx, beta)
    weight = np.where(squares > 0, squares, np.inf)
    return np.einsum("arg,ag->ra", e**2, 1.0 / weight), squares.sum(axis=1)


def _diagonal(f: FactorGram, num, weight, s2) -> np.ndarray:
    ratio = (num / s2[:, None] - f.n_levels) / np.where(weight > 0, weight, 1.0)
    size = np.sqrt(np.clip(ratio, LEAST**2, MOST**2))
    return size[:, :, None] * np.eye(f.k)
