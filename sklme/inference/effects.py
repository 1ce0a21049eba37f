"""The effects of levels, and how alike they make the rows of a level."""

import numpy as np
import pandas as pd
from scipy import stats

from sklme._columns import extend_columns
from sklme.inference._access import check_level, choose_factor, open_linear, open_model
from sklme.inference._variances import (
    conditional_variance,
    covariance,
    joint_variance,
    level_index,
)


def random_effects_table(model, factor=None, *, joint=False, confidence_level=0.95, output=None):
    """Effects of the levels of a factor with intervals.

    Needs no rows.

    Parameters
    ----------
    model : estimator object
        A fitted linear or generalised mixed model, or a pipeline, search or target wrapper around
        one.
    factor : str, int or tuple, default=None
        A key of `random_effects`; the only one may be left out.
    joint : bool, default=False
        Whether the standard error counts what is not known of the fixed coefficients too.
        Without, they are taken as known, as R's ``ranef(condVar=TRUE)`` does. The variances are
        taken as known in both.
    confidence_level : float, default=0.95
        Probability that an interval covers the effect.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a level and coefficient. Index: the columns of the factor, then term. Columns, in
        units of y (of the linear predictor in generalised models) over those of the coefficient's
        column:

        - effect: the conditional mean of the effect (BLUP), shrunk towards 0; the conditional mode
          in generalised models.
        - std_error: the standard deviation of the effect around it; in generalised models that of
          the normal distribution with the curvature of the mode.
        - lower, upper: normal interval.

    Raises
    ------
    ValueError
        If the factor is unknown or has to be chosen.

    References
    ----------
    .. [1] C. R. Henderson, "Best linear unbiased estimation and prediction under a selection
       model", Biometrics 31, 1975.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_dyestuff
    >>> from sklme.inference import random_effects_table
    >>> X, y = load_dyestuff(return_X_y=True)
    >>> model = LinearMixedModel("Batch").fit(X, y)
    >>> print(random_effects_table(model).round(1).head(2).to_string())
                       effect  std_error  lower  upper
    Batch term
    A     (Intercept)   -17.6       19.6  -56.0   20.8
    B     (Intercept)     0.4       19.6  -38.0   38.8
    """
    check_level(confidence_level)
    fitted = open_model(model, output=output)
    t = choose_factor(fitted, factor)
    b = fitted.of_output(fitted.model.random_effects_[fitted.keys[t]])
    variance = joint_variance(fitted, t) if joint else conditional_variance(fitted, t)
    index = level_index(fitted, t, ("term", fitted.model._terms[t].names))
    error = np.sqrt(np.maximum(variance, 0.0)).ravel()
    half = stats.norm.ppf(0.5 + 0.5 * confidence_level) * error
    columns = {"effect": b.ravel(), "std_error": error}
    return pd.DataFrame(columns, index).assign(lower=b.ravel() - half, upper=b.ravel() + half)


def implied_correlation(model, X, factor=None, *, output=None):
    """How the model says two observations correlate, given their levels and slope variables.

    Needs rows: those whose correlation is asked. Their levels may be new.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The rows.
    factor : str, int or tuple, default=None
        The part that is due to one key of `random_effects`; None means that of all. The parts of
        the factors add up off the diagonal.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    correlation : DataFrame of shape (n_samples, n_samples)
        Correlation of the observations around the fixed part, residual variance included: 1 on
        the diagonal. Two rows covary by ``z_i' G z_j`` for each factor of which they share the
        level. Index and columns are the index of X. The residual variance is that of a row of
        weight 1.

    Raises
    ------
    ValueError
        If the factor is unknown.
    TypeError
        For a generalised model, whose correlations depend on the means; see `icc`.

    References
    ----------
    .. [1] N. M. Laird and J. H. Ware, "Random-effects models for longitudinal data", Biometrics
       38, 1982, eq. 2.3.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import implied_correlation
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> print(implied_correlation(model, X.iloc[[0, 4, 9]]).round(2).to_string())
          0     4    9
    0  1.00  0.42  0.3
    4  0.42  1.00  0.7
    9  0.30  0.70  1.0
    """
    instead = "icc tells how alike two rows of one level are"
    fitted = open_linear(model, X, function="implied_correlation", instead=instead, output=output)
    index = getattr(fitted.X, "index", None)
    chosen = range(len(fitted.keys)) if factor is None else [choose_factor(fitted, factor)]
    _, rows = extend_columns(fitted.model, fitted.X, fitted.model._columns)
    n = len(rows.X)
    shared, variance = np.zeros((n, n)), np.full(n, fitted.residual_variance)
    for t, (codes, z) in enumerate(zip(rows.codes, rows.slopes, strict=True)):
        zG = z @ covariance(fitted, t)
        variance += (zG * z).sum(axis=1)
        if t in chosen:
            shared += np.where(codes[:, None] == codes, zG @ z.T, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = shared / np.sqrt(np.outer(variance, variance))
    np.fill_diagonal(correlation, np.where(variance > 0, 1.0, np.nan))
    return pd.DataFrame(correlation, index, index)
