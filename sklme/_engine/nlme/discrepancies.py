"""Where observations lie in what the model simulates for their subject, as normal numbers."""

import numpy as np
from scipy.special import ndtri

LEAST = 1e-12  # of a variance that is nothing, over that of the subject's most variable row


def prediction_errors(
    y: np.ndarray,
    simulated: np.ndarray,
    mask: np.ndarray,
    rng: np.random.RandomState,
    *,
    censored: np.ndarray | None = None,
) -> np.ndarray:
    """Normalised prediction distribution errors of rows y (N, n), nan where there is no row.

    y and the draws `simulated` (K, N, n) of each subject are made uncorrelated with the mean and
    the Cholesky factor of the draws; the share of draws below y, as a normal quantile, is standard
    normal under the model (Brendel, Comets, Laffont, Laveille and Mentre 2006, "Metrics for
    external model evaluation with an application to the population pharmacokinetics of
    gliclazide", Pharm. Res. 23(9)). Where y is a limit that the observation lies below, it is
    drawn from the simulated distribution below that limit, and so are the draws that lie below it.
    """
    out = np.full(y.shape, np.nan)
    limit = None if censored is None else limits(y, mask, censored)
    for i, rows in enumerate(mask):
        own, draws = y[i, rows], simulated[:, i, rows]
        if censored is not None and limit is not None:
            own, draws = _impute(own, draws, censored[i, rows], limit[i, rows], rng)
        out[i, rows] = _normal_errors(own, draws)
    return out


def limits(y: np.ndarray, mask: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """The limit of each row: that of a censored one, of another the highest that y reaches."""
    known = np.unique(y[mask & censored])
    if not len(known):
        return np.full(y.shape, -np.inf)
    at = np.searchsorted(known, y, side="right") - 1
    return np.where(censored, y, np.where(at >= 0, known[np.maximum(at, 0)], -np.inf))


def _normal_errors(y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    mean = draws.mean(axis=0)
    centred = draws - mean
    V = centred.T @ centred / (len(draws) - 1)
    least = LEAST * np.diag(V).max(initial=0.0) or 1.0
    C = np.linalg.cholesky(V + least * np.eye(len(y)))
    whitened = np.linalg.solve(C, np.column_stack([y - mean, centred.T]))
    below = (whitened[:, 1:] < whitened[:, :1]).sum(axis=1)
    return ndtri((below + 0.5) / (len(draws) + 1.0))


def _impute(y, draws, below, limit, rng):
    """Values below a limit, observed and simulated, are drawn anew among the simulated ones."""
    y, draws, K = y.copy(), draws.copy(), len(draws)
    for j in np.flatnonzero(np.isfinite(limit)):
        low = draws[:, j] < limit[j]
        values = np.sort(draws[low, j]) if low.any() else draws[[draws[:, j].argmin()], j]
        draws[low, j] = values[rng.randint(len(values), size=K)[low]]
        if below[j]:
            y[j] = values[rng.randint(len(values))]
    return y, draws
