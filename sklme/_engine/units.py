"""From the coordinates of the frame back to the units of the data."""

import numpy as np

from sklme._engine.covariance import canonical
from sklme._engine.lmm import LinearFit


def coefficient_map(fit: LinearFit) -> np.ndarray:
    """C such that C beta is (intercept, coefficients) in units of X: ((1 +) n_features, p)."""
    p = len(fit.frame.x_scale)
    C = np.diag(1.0 / fit.frame.x_scale)
    if fit.intercept:
        C = np.vstack([-(fit.frame.x_shift / fit.frame.x_scale), C])
        C = np.hstack([np.eye(p + 1, 1), C])
    return C[:, fit.columns]


def coefficients(fit: LinearFit) -> tuple[np.ndarray, np.ndarray]:
    """Intercept (n_outputs,) and coefficients (n_outputs, n_features), dropped columns 0."""
    full = fit.beta @ coefficient_map(fit).T * fit.frame.y_scale[:, None]
    if not fit.intercept:
        return np.zeros(len(full)), full
    return full[:, 0] + fit.frame.y_shift, full[:, 1:]


def relative_factors(fit: LinearFit) -> list[np.ndarray]:
    """Canonical Lambda (n_outputs, k, k) of each factor in the units of its columns."""
    out = []
    for T, Lambda in zip(fit.frame.z_maps, fit.Lambdas, strict=True):
        L = canonical(T @ Lambda)
        size = np.linalg.norm(L, axis=2, keepdims=True)
        out.append(np.where(np.abs(L) <= 1e-12 * size, 0.0, L))
    return out


def level_effects(fit: LinearFit) -> list[np.ndarray]:
    """b of each factor in the units of the data, (n_outputs, n_levels, k)."""
    return [
        np.einsum("ab,brg->rga", T, b) * fit.frame.y_scale[:, None, None]
        for T, b in zip(fit.frame.z_maps, fit.effects, strict=True)
    ]
