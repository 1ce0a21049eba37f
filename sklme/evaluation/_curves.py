"""Curves of predictions: how they are calibrated, and what acting on them is worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, stats
from scipy.special import expit, logit

# Knots of the natural spline and the quantiles where they lie, by the least count of a class
# (half the rows for a regression), as recommended in Harrell (2015), table 2.3.
KNOTS = (
    (100, (0.05, 0.275, 0.5, 0.725, 0.95)),
    (40, (0.05, 0.35, 0.65, 0.95)),
    (20, (0.1, 0.5, 0.9)),
)
LEAST = 5  # of each class, below which there is no curve
TAIL = 0.01  # share of the rows beyond either end of a curve
EDGE = 1e-6  # probabilities are held this far from 0 and 1 at least
PRIOR_VARIANCE = 4.0  # of standardised coefficients: keeps separated sites finite
BAND_SITES = 5  # sites below which their spread is too badly known for a band


@dataclass(frozen=True)
class Curve:
    """Points of a curve, and a band around it where there is one."""

    x: np.ndarray
    y: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


def calibration_curve(
    y, prediction, *, weight=None, site=None, task="binary", confidence_level=0.95, n_points=101
):
    """The expected outcome as a smooth function of what was predicted.

    A regression of the outcome on a natural cubic spline of the prediction, for probabilities a
    logistic one on their logit, see Van Calster et al. (2016). With few events it has fewer knots,
    and with fewer than 20 it is a line (on the scale of the logit, the intercept and slope of Cox);
    with fewer than 5 of a class there is none. Departures from perfect calibration have a weak
    normal prior, which counts where a small site could be told apart perfectly.

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes, 0 or 1 for probabilities.
    prediction : array-like of shape (n,)
        Predicted probabilities or values.
    weight : array-like of shape (n,), default=None
        How often a row counts.
    site : array-like of shape (n,), default=None
        Sites, for a band from sums over sites; None means no band.
    task : {"binary", "regression"}, default="binary"
        What is predicted.
    confidence_level : float, default=0.95
        Of the band.
    n_points : int, default=101
        Number of points.

    Returns
    -------
    curve : Curve or None
        The curve between the first and the last hundredth of the predictions.

    References
    ----------
    .. [1] F. E. Harrell, Regression Modeling Strategies, 2nd ed., Springer, 2015.
    .. [2] B. Van Calster et al., "A calibration hierarchy for risk models was defined: from
       utopia to empirical data", Journal of Clinical Epidemiology 74, 2016.
    """
    y, prediction = (np.asarray(a, dtype=np.float64) for a in (y, prediction))
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    binary = task == "binary"
    x, back = _linear_scale(prediction) if binary else (prediction, lambda value: value)
    count = min(weight @ y, weight @ (1.0 - y)) if binary else weight.sum() / 2.0
    if count < LEAST or np.ptp(x) <= 1e-9 * (1.0 + np.abs(x).max()):
        return None
    basis = _Basis(x, _knots(x, count))
    fit = _logistic if binary else _linear
    coef, inverse, scores = fit(basis(x), x, y, weight)
    grid = np.linspace(*np.quantile(prediction, [TAIL, 1.0 - TAIL]), n_points)
    if grid[0] == grid[-1]:
        return None
    points = np.clip(logit(np.clip(grid, 0, 1)), x.min(), x.max()) if binary else grid
    design = basis(points)
    eta = points + design @ coef
    half = _half_width(design, inverse, scores, site, confidence_level)
    if half is None:
        return Curve(grid, back(eta))
    return Curve(grid, back(eta), back(eta - half), back(eta + half))


def _linear_scale(p):
    """Logits, with 0 and 1 moved to half the least distance that others keep from them."""
    low = max(EDGE, 0.5 * p[p > 0].min(initial=1.0))
    high = max(EDGE, 0.5 * (1.0 - p[p < 1].max(initial=0.0)))
    return logit(np.clip(p, min(low, 0.5), 1.0 - min(high, 0.5))), expit


def _knots(x, count):
    """Where the spline bends; ties may leave fewer than two intervals, hence none."""
    for least, quantiles in KNOTS:
        if count >= least:
            knots = np.unique(np.quantile(x, quantiles))
            return knots if len(knots) >= 3 else knots[:0]
    return np.empty(0)


class _Basis:
    """Intercept, slope and bends of a restricted cubic spline (Harrell 2015, section 2.4)."""

    def __init__(self, x, knots):
        self.knots = knots
        raw = self._raw(x)
        self.center, self.scale = raw.mean(axis=0), raw.std(axis=0)

    def __call__(self, x):
        return np.column_stack([np.ones(len(x)), (self._raw(x) - self.center) / self.scale])

    def _raw(self, x):
        t = self.knots
        if not len(t):
            return x[:, None]
        cubes = np.maximum(x[:, None] - t, 0.0) ** 3
        last, before = t[-1], t[-2]
        inner = t[:-2]
        bends = (
            cubes[:, :-2]
            - cubes[:, -2:-1] * (last - inner) / (last - before)
            + cubes[:, -1:] * (before - inner) / (last - before)
        )
        return np.column_stack([x, bends / (last - t[0]) ** 2])


def _logistic(design, offset, y, weight, n_iter=100, tol=1e-10):
    """Departures from the offset: coefficients, inverse information, score of each row."""
    penalty = np.full(design.shape[1], 1.0 / PRIOR_VARIANCE)
    penalty[0] = 1e-8
    coef, value = np.zeros(design.shape[1]), -np.inf
    step = np.zeros_like(coef)
    for _ in range(n_iter):
        trial = coef + step
        eta = offset + design @ trial
        new = weight @ (y * eta - np.logaddexp(0.0, eta)) - 0.5 * penalty @ trial**2
        if new < value - tol * abs(value):
            step = 0.5 * step
            continue
        coef, value, mean = trial, new, expit(eta)
        gradient = design.T @ (weight * (y - mean)) - penalty * coef
        information = (design.T * (weight * mean * (1.0 - mean))) @ design + np.diag(penalty)
        step = linalg.solve(information, gradient, assume_a="pos")
        if gradient @ step < tol:
            break
    return coef, linalg.inv(information), design * (weight * (y - mean))[:, None]


def _linear(design, offset, y, weight):
    """The same for values: least squares of y less its prediction."""
    root = np.sqrt(weight)[:, None]
    inverse = linalg.pinvh((design * root).T @ (design * root))
    coef = inverse @ (design.T @ (weight * (y - offset)))
    return coef, inverse, design * (weight * (y - offset - design @ coef))[:, None]


def _half_width(design, inverse, scores, site, confidence_level):
    """Of a band whose variance comes from the sums of scores within sites (a sandwich)."""
    if site is None:
        return None
    codes, labels = pd.factorize(np.asarray(site))
    n = len(labels)
    if n < BAND_SITES:
        return None
    sums = np.zeros((n, scores.shape[1]))
    np.add.at(sums, codes, scores)
    root = (design @ inverse) @ sums.T
    error = np.sqrt((root**2).sum(axis=1) * n / (n - 1))
    return stats.t.ppf(0.5 + 0.5 * confidence_level, n - 1) * error


def net_benefit(y, prediction, thresholds, weight=None):
    """Net benefit of treating rows whose probability reaches a threshold.

    The share of true positives less the share of false positives at the odds of the threshold,
    Vickers and Elkin (2006, Medical Decision Making 26).

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes, 0 or 1.
    prediction : array-like of shape (n,)
        Probabilities.
    thresholds : array-like of shape (m,)
        Probabilities above 0 and below 1 from which on one treats.
    weight : array-like of shape (n,), default=None
        How often a row counts.

    Returns
    -------
    benefit : ndarray of shape (m,)
        True positives per row, false ones taken off at the exchange rate of the threshold.
    """
    y, prediction, thresholds = (np.asarray(a, float) for a in (y, prediction, thresholds))
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    treated = (prediction[:, None] >= thresholds) * weight[:, None]
    odds = thresholds / (1.0 - thresholds)
    return (y @ treated - odds * ((1.0 - y) @ treated)) / weight.sum()


def net_benefit_curves(predictions, thresholds):
    """Net benefit of the model and of treating all, by site and on average over sites.

    Parameters
    ----------
    predictions : DataFrame
        Columns site, y, prediction and weight.
    thresholds : array-like of shape (m,)
        Probabilities from which on one treats.

    Returns
    -------
    curves : dict
        Site -> DataFrame with an index of thresholds and columns model and treat_all (treating
        nobody is 0 everywhere). The key None holds the mean over sites, each counted once.
    """
    curves = {}
    for site, rows in predictions.groupby("site", sort=True):
        y, p, weight = (rows[c].to_numpy(float) for c in ("y", "prediction", "weight"))
        model = net_benefit(y, p, thresholds, weight)
        treat_all = net_benefit(y, np.ones(len(y)), thresholds, weight)
        columns = {"model": model, "treat_all": treat_all}
        curves[site] = pd.DataFrame(columns, index=pd.Index(thresholds, name="threshold"))
    return {**curves, None: sum(curves.values()) / len(curves)}
