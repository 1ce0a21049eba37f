"""Marginal means of a generalised model on the scale of its response."""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from sklme._engine import marginal
from sklme._engine.dof import Estimates, WaldTests
from sklme._engine.glmm_parameters import Fixed, Threshold
from sklme.inference._generalized import GeneralizedFitted
from sklme.inference._grid import Grid

# What exp of a difference on the link scale is.
RATIOS = {"logit": "odds ratio", "log": "ratio", "cloglog": "hazard ratio"}


def response_means(fitted: GeneralizedFitted, grid: Grid, tests: WaldTests, variance, level):
    """One row a mean: estimate, std_error (delta method) and the interval of the link scale.

    variance : of the effects that are integrated out, of each mean; 0 for effects at zero
    """
    link, rows = fitted.fit.family.link, tests.rows(grid.L)
    eta = rows.estimate + grid.offset
    half = stats.norm.ppf(0.5 + 0.5 * level) * rows.std_error
    ends = [integrated(link, e, variance) for e in (eta - half, eta + half)]
    columns = {
        "estimate": integrated(link, eta, variance),
        "std_error": np.abs(slope(link, eta, variance)) * rows.std_error,
        "lower": np.minimum(*ends),  # the inverse link falls
        "upper": np.maximum(*ends),
    }
    return pd.concat([grid.levels, pd.DataFrame(columns, grid.levels.index)], axis=1)


def response_differences(link, grid: Grid, tests: WaldTests, variance, i, j) -> Estimates:
    """Differences of means i and j with standard errors by the delta method."""
    eta = tests.rows(grid.L).estimate + grid.offset
    m, s = integrated(link, eta, variance), slope(link, eta, variance)[:, None] * grid.L
    rows = tests.rows(s[i] - s[j])
    return rows._replace(estimate=m[i] - m[j])


def class_means(fitted: GeneralizedFitted, grid: Grid, variance, level) -> pd.DataFrame:
    """One row a mean and class: its probability, with an interval from the logit scale.

    The standard error counts what is not known of thresholds and coefficients jointly.
    """
    link, model = fitted.fit.family.link, fitted.model
    psi, place = fitted.rows.psi, fitted.place
    coefficients = np.stack([Fixed(i).gradient(place, psi) for i in range(len(fitted.names))])
    thresholds = np.stack(
        [Threshold(k, model._center).gradient(place, psi) for k in range(len(model.thresholds_))]
    )
    out = []
    for L, offset, v in zip(grid.L, grid.offset, variance, strict=True):
        u = model.thresholds_ - L @ fitted.estimates - offset
        v = np.full(len(u), v)
        below = np.concatenate([[0.0], integrated(link, u, v), [1.0]])
        slopes = slope(link, u, v)[:, None] * (thresholds - L @ coefficients)
        gradients = np.diff(np.pad(slopes, ((1, 1), (0, 0))), axis=0)
        errors = np.array([fitted.std_error(g) for g in gradients])
        out.append(_shares(np.diff(below), errors, level))
    table = pd.concat(out, ignore_index=True)
    n = len(model.classes_)
    levels = grid.levels.loc[grid.levels.index.repeat(n)].reset_index(drop=True)
    levels["class"] = np.tile(model.classes_, len(grid.levels))
    return pd.concat([levels, table], axis=1)


def as_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Differences on the link scale as ratios; tests stay those of the differences."""
    ratio = np.exp(table["estimate"])
    return table.assign(
        estimate=ratio,
        std_error=ratio * table["std_error"],
        lower=np.exp(table["lower"]),
        upper=np.exp(table["upper"]),
    )


def integrated(link, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The mean over eta + N(0, variance)."""
    return link.mean(marginal.equivalent(link, eta, variance))


def slope(link, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The derivative of `integrated` by eta."""
    if link.name == "log":
        return integrated(link, eta, variance)
    reach = marginal.REACH.get(link.name, marginal.ELSEWHERE)
    with np.errstate(over="ignore"):
        return marginal.expectation(lambda x: link.derivatives(x)[1], eta, np.sqrt(variance), reach)


def _shares(p: np.ndarray, error: np.ndarray, level: float) -> pd.DataFrame:
    half = stats.norm.ppf(0.5 + 0.5 * level) * error / (p * (1.0 - p))
    columns = {
        "estimate": p,
        "std_error": error,
        "lower": expit(logit(p) - half),
        "upper": expit(logit(p) + half),
    }
    return pd.DataFrame(columns)
