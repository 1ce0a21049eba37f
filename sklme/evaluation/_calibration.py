"""Calibration of predictions at one site: in the large, slope, observed over expected."""

import numpy as np
from scipy.special import expit, logit

from sklme.evaluation._estimate import NO_SPREAD, Found, NotEstimable, need_both_classes

EDGE = 1e-10  # probabilities are moved to at least this distance from 0 and from 1
LONGEST = 3.0  # step of the linear predictor up to which a Newton step is taken whole
CLOSE = 1e-8  # standard errors from the solution at which one more step is enough
ROUNDING = 1e-13  # relative error of a log-likelihood
STEPS = 200


def clipped(probability):
    """Probabilities of at least 1e-10 and at most 1 - 1e-10, so that logit and log exist."""
    return np.clip(probability, EDGE, 1.0 - EDGE)


def intercept(y, prediction) -> Found:
    """The intercept of a logistic regression with the logit of the probability as offset.

    0 if as many events happen as are predicted (calibration in the large: Cox 1958, Biometrika 45;
    Steyerberg 2019, sec. 15.3). Standard error 1 / sqrt(sum p (1 - p)) at the solution.
    """
    need_both_classes(y)
    (a,), covariance = _logistic(np.ones((len(y), 1)), y, logit(clipped(prediction)))
    return Found(a, a, float(np.sqrt(covariance[0, 0])))


def slope(y, prediction) -> Found:
    """The slope of a logistic regression on the logit of the probability, with an intercept.

    1 is perfect, below 1 the predictions are too extreme (Cox 1958, Biometrika 45). Standard error
    from the Fisher information of both coefficients.
    """
    need_both_classes(y)
    x = logit(clipped(prediction))
    spread = _spread(x)
    z = (x - x.mean()) / spread
    high, low = z[y == 1], z[y == 0]
    if high.min() >= low.max() or high.max() <= low.min():
        raise NotEstimable("the predictions separate the classes, so that the slope is infinite")
    beta, covariance = _logistic(np.column_stack([np.ones(len(y)), z]), y, np.zeros(len(y)))
    b = float(beta[1] / spread)
    return Found(b, b, float(np.sqrt(covariance[1, 1])) / spread)


def observed_expected(y, prediction) -> Found:
    """Observed over expected events; 1 is perfect.

    The log has the variance (1 - rate) / events (Debray et al. 2017, BMJ 356:i6460).
    """
    events, others = need_both_classes(y)
    ratio = events / float(np.sum(clipped(prediction)))
    return Found(ratio, np.log(ratio), float(np.sqrt(others / len(y) / events)))


def linear_mean(y, prediction) -> Found:
    """Mean of y minus its prediction, with the standard error of a mean."""
    error = y - prediction
    mean, deviation = float(error.mean()), float(error.std(ddof=1))
    if deviation <= NO_SPREAD * np.abs(y).max():
        raise NotEstimable(f"y minus the prediction is the same in all {len(y)} rows")
    return Found(mean, mean, deviation / np.sqrt(len(y)), dof=len(y) - 1.0)


def linear_slope(y, prediction) -> Found:
    """Slope of the least-squares line of y on its prediction, with an intercept."""
    spread = _spread(prediction)
    z = (prediction - prediction.mean()) / spread
    b = float(z @ y) / len(y)
    residual = y - y.mean() - b * z
    deviation = float(np.sqrt(residual @ residual / (len(y) - 2)))
    if deviation <= NO_SPREAD * np.abs(y).max():
        raise NotEstimable(f"y is exactly a line of its prediction in all {len(y)} rows")
    error = deviation / np.sqrt(len(y)) / spread
    return Found(b / spread, b / spread, error, dof=len(y) - 2.0)


def _spread(x) -> float:
    spread = float(x.std())
    if spread <= NO_SPREAD * np.abs(x).max():
        raise NotEstimable(f"all {len(x)} predictions are equal")
    return spread


def _logistic(X, y, offset) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood by Newton steps, and the inverse of the Fisher information there.

    The likelihood is concave: a step that is short in the linear predictor and is halved until the
    likelihood does not fall always arrives, if there is a maximum.
    """
    beta = np.zeros(X.shape[1])
    height = _log_likelihood(y, offset)
    for _ in range(STEPS):
        p = expit(offset + X @ beta)
        gradient = X.T @ (y - p)
        step = np.linalg.solve(_information(X, p), gradient)
        last = gradient @ step <= CLOSE**2
        step *= min(1.0, LONGEST / max(np.abs(X @ step).max(), 1e-300))
        least = height - ROUNDING * (1.0 + abs(height))
        while (reached := _log_likelihood(y, offset + X @ (beta + step))) < least:
            step = step / 2.0
        beta, height = beta + step, reached
        if last:
            return beta, np.linalg.inv(_information(X, expit(offset + X @ beta)))
    raise NotEstimable(f"the logistic regression did not converge in {STEPS} steps")


def _information(X, p) -> np.ndarray:
    return (X.T * (p * (1.0 - p))) @ X


def _log_likelihood(y, eta) -> float:
    return float(y @ eta - np.logaddexp(0.0, eta).sum())
