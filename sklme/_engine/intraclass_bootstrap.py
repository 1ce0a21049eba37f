"""Limits of intraclass correlations by the parametric bootstrap."""

import numpy as np

from sklme._engine.intraclass import Form, Intraclass
from sklme._engine.intraclass_fit import incomplete

BLOCK = 4_000_000  # numbers that are drawn at a time


def bootstrap_limits(
    Y: np.ndarray,
    subject: np.ndarray,
    rater: np.ndarray | None,
    form: Form,
    estimate: Intraclass,
    confidence_level: float,
    n_bootstrap: int,
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles of the correlation in tables drawn from the estimated variances.

    Every replicate has the gaps of its feature. (p,) each; NaN where there is no estimate.
    """
    tails = [0.5 - 0.5 * confidence_level, 0.5 + 0.5 * confidence_level]
    lower, upper = estimate.lower.copy(), estimate.upper.copy()
    which = np.flatnonzero(np.isfinite(estimate.icc) & np.isfinite(estimate.residual))
    step = max(1, BLOCK // (len(Y) * n_bootstrap))
    for i in range(0, len(which), step):
        features = which[i : i + step]
        replicates = np.repeat(features, n_bootstrap)
        drawn = _draw(Y, subject, rater, estimate, replicates, random)
        icc = incomplete(drawn, subject, rater, form, confidence_level, limits=False).icc
        found = icc.reshape(len(features), n_bootstrap)
        lower[features], upper[features] = np.nanquantile(found, tails, axis=1)
    return lower, upper


def _draw(Y, subject, rater, estimate: Intraclass, features: np.ndarray, random) -> np.ndarray:
    """New tables of the features with the gaps of Y."""
    n, p = len(Y), len(features)
    out = random.standard_normal((n, p)) * np.sqrt(estimate.residual[features])
    groups = [(subject, estimate.subject)] + ([] if rater is None else [(rater, estimate.rater)])
    for codes, variance in groups:
        effects = random.standard_normal((codes.max() + 1, p)) * np.sqrt(variance[features])
        out += effects[codes]
    out[np.isnan(Y[:, features])] = np.nan
    return out
