"""Variances of an outcome itself, where random effects act through a link.

With m(eta) the mean and v(eta) the variance of an outcome and eta = f + a + r, a and r normal and
independent, the variance of y splits into Var[m] = Var_a E_r[m] + rest and E[v]: the variance
between levels, what further effects add, and that of the distribution (Goldstein, Browne and
Rasbash 2002; de Villemereuil et al. 2016).
"""

from collections.abc import Callable

import numpy as np

STEP = 0.5  # of the grid, in standard deviations
SHARPNESS = 0.3  # step in units of reach / sd, as in `marginal`
FAR = 8.0  # standard deviations that the grid spans each way for a bounded function
GROWTH = 3.0  # v may grow like exp(GROWTH eta), which shifts the normal weights by so many sd
MOST = 400_000  # values at once

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def between(
    mean: Function, eta: np.ndarray, part: np.ndarray, rest: np.ndarray, reach: float
) -> np.ndarray:
    """Var over a ~ N(0, part) of E[mean(eta + a + r)] over r ~ N(0, rest), of each row.

    mean(eta, at) : of the rows `at`. reach : distance of the first pole of the mean
    """
    whole = expectation(mean, eta, part + rest, reach)

    def inner(x, at):
        return (expectation(mean, x, rest[at], reach, at) - whole[at]) ** 2

    return np.where(part > 0, expectation(inner, eta, part, reach), 0.0)


def expectation(
    f: Function, eta: np.ndarray, variance: np.ndarray, reach: float, rows: np.ndarray | None = None
) -> np.ndarray:
    """E f(eta + N(0, variance), rows) of each row, by the trapezoidal rule."""
    rows = np.arange(len(eta)) if rows is None else rows
    if not np.any(variance):
        return f(eta, rows)
    sd = np.sqrt(variance)
    size = np.ceil(2.0 * np.log2(np.clip(sd, 0.25, 64.0)))
    out = np.empty(len(eta))
    for s in np.unique(size):
        z, weights = _grid(2.0 ** (0.5 * s), reach)
        group = np.flatnonzero(size == s)
        for at in np.array_split(group, -(-len(group) * len(z) // MOST)):
            x = eta[at][:, None] + sd[at][:, None] * z
            values = f(x.ravel(), np.repeat(rows[at], len(z))).reshape(x.shape)
            out[at] = values @ weights
    return out


def _grid(sd: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and normal weights for standard deviations up to `sd`."""
    h = min(STEP, SHARPNESS * reach / sd)
    n = int(np.ceil((FAR + GROWTH * min(sd, 8.0)) / h))
    z = h * np.arange(-n, n + 1)
    weights = np.exp(-0.5 * z * z)
    return z, weights / weights.sum()
