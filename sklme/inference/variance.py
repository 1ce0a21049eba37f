"""Where the variance sits: by level of the hierarchy, by coefficient, explained and shared."""

import numpy as np
import pandas as pd
from scipy import stats

from sklme._columns import extend_columns
from sklme._terms import factor_label
from sklme.inference._access import check_level, choose_factor, open_model
from sklme.inference._variances import (
    conditional_variance,
    covariance,
    fixed_variance,
    joint_variance,
    level_index,
    mean_products,
    random_variances,
    ratio,
)

RESIDUAL = "Residual"


def variance_table(model, X=None, *, output=None):
    """Variances, standard deviations and correlations of all random effects and the residual.

    Needs no rows, except for the shares of a fit with precision weights.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which the shares are averaged; None means those of fit.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a variance, one a pair of correlated coefficients (`with_term` is empty for a
        variance), the residual last. Index: group, term, with_term. Columns:

        - variance: in units of y squared over those of the column squared; for a pair, the
          covariance.
        - sd: its root, missing for a pair.
        - correlation: of a pair, missing for a variance and where a variance is zero.
        - share: what the row adds to the variance of an observation around the fixed part, as a
          share of it, averaged over rows. The shares of a factor add up to the factor's; those of
          one coefficient depend on where its column is zero, and that of a pair may be negative.

    Raises
    ------
    ValueError
        If the model has several outputs and none is chosen.

    References
    ----------
    .. [1] P. C. D. Johnson, "Extension of Nakagawa & Schielzeth's R2 GLMM to random slopes
       models", Methods Ecol. Evol. 5, 2014, eq. 10.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import variance_table
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> table = variance_table(model)
    >>> print(table["sd"].dropna().round(2).to_string())
    group     term         with_term
    Subject   (Intercept)               24.74
              Days                       5.92
    Residual                            25.59
    >>> print(table["share"].groupby("group").sum().round(2).to_dict())
    {'Residual': 0.28, 'Subject': 0.72}
    """
    fitted = open_model(model, X, output=output)
    products = mean_products(fitted, fitted.X)
    rows = []
    for t, term in enumerate(fitted.model._terms):
        G = covariance(fitted, t)
        Q = None if products is None else products[t]
        rows += _factor_rows(factor_label(term.key), term, G, Q)
    s2 = fitted.residual_variance
    rows.append((RESIDUAL, "", "", s2, np.sqrt(s2), np.nan, s2 if products is not None else np.nan))
    names = ["group", "term", "with_term", "variance", "sd", "correlation", "share"]
    table = pd.DataFrame(rows, columns=names).set_index(names[:3])
    total = table["share"].sum(skipna=False)
    table["share"] = table["share"] / total if total > 0 else np.nan
    return table


def random_effects_table(model, factor=None, *, joint=False, confidence_level=0.95, output=None):
    """Effects of the levels of a factor with intervals.

    Needs no rows.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
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
        units of y over those of the coefficient's column:

        - effect: the conditional mean of the effect (BLUP), shrunk towards 0.
        - std_error: the standard deviation of the effect around it.
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


def r_squared(model, X=None, *, output=None):
    """Share of the variance that the fixed part, and all of the model, explain.

    Needs no rows, except under precision weights or without a fixed intercept.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which variances are taken; None means those of fit.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    r_squared : Series
        - marginal: variance of the fixed part over the total.
        - conditional: that of fixed and random part over the total.

        The total is the sum of both and the residual variance. The random part counts with its
        mean variance over rows, random slopes included, and all factors count. An offset does not.

    Raises
    ------
    ValueError
        If X is needed.

    References
    ----------
    .. [1] S. Nakagawa, P. C. D. Johnson and H. Schielzeth, "The coefficient of determination R2
       and intra-class correlation coefficient from generalized linear mixed-effects models
       revisited and expanded", J. R. Soc. Interface 14, 2017, eqs. 2.3 and 2.4.
    .. [2] P. C. D. Johnson, "Extension of Nakagawa & Schielzeth's R2 GLMM to random slopes
       models", Methods Ecol. Evol. 5, 2014, eq. 10.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import r_squared
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> print(r_squared(model).round(3).to_dict())
    {'marginal': 0.279, 'conditional': 0.799}
    """
    fitted = open_model(model, X, output=output)
    fixed, random = fixed_variance(fitted), sum(random_variances(fitted))
    total = fixed + random + fitted.residual_variance
    shares = {"marginal": fixed, "conditional": fixed + random}
    return pd.Series({name: ratio(part, total) for name, part in shares.items()}, name="r_squared")


def icc(model, X=None, *, output=None):
    """Intraclass correlation: how alike two rows of one level are, averaged over rows.

    Needs no rows, except under precision weights or, for `unadjusted`, without a fixed intercept.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which variances are taken; None means those of fit.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a factor, then "all". Columns:

        - adjusted: variance of the factor over that of random effects and residual.
        - unadjusted: the same over the total, the variance of the fixed part included.

    Raises
    ------
    ValueError
        If the model has no random effects, or X is needed.

    References
    ----------
    .. [1] S. Nakagawa, P. C. D. Johnson and H. Schielzeth, J. R. Soc. Interface 14, 2017, sec. 3.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_penicillin
    >>> from sklme.inference import icc
    >>> X, y = load_penicillin(return_X_y=True)
    >>> print(icc(LinearMixedModel(["plate", "sample"]).fit(X, y)).round(3).to_string())
            adjusted  unadjusted
    group
    plate      0.151       0.151
    sample     0.785       0.785
    all        0.936       0.936
    """
    fitted = open_model(model, X, output=output)
    if not fitted.keys:
        raise ValueError("the model has no random effects, hence no intraclass correlation")
    parts = random_variances(fitted)
    around = sum(parts) + fitted.residual_variance
    total = around + fixed_variance(fitted)
    groups = [*map(factor_label, fitted.keys), "all"]
    rows = [(ratio(v, around), ratio(v, total)) for v in [*parts, sum(parts)]]
    index = pd.Index(groups, name="group")
    return pd.DataFrame(rows, index, columns=["adjusted", "unadjusted"])


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
    fitted = open_model(model, X, output=output)
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


def _factor_rows(group, term, G, Q):
    """Variances, then pairs; the share still in units of y squared."""
    sd = np.sqrt(np.diag(G))
    added = np.full(G.shape, np.nan) if Q is None else G * Q
    names = term.names
    rows = [(group, name, "", G[i, i], sd[i], np.nan, added[i, i]) for i, name in enumerate(names)]
    for block in () if term.spherical else term.blocks:
        for j, i in ((j, i) for i in block for j in block if i < j):
            correlation = ratio(G[i, j], sd[i] * sd[j])
            rows.append((group, names[j], names[i], G[i, j], np.nan, correlation, 2 * added[i, j]))
    return rows
