"""Where the variance sits: by level of the hierarchy, by coefficient, explained and shared."""

import numpy as np
import pandas as pd

from sklme._terms import factor_label
from sklme.inference._access import open_model
from sklme.inference._latent import distribution_variance, needs_mean, row_variances
from sklme.inference._variances import (
    covariance,
    fixed_variance,
    mean_products,
    random_variances,
    ratio,
)

RESIDUAL = "Residual"
DISTRIBUTION = "Distribution"
SCALES = pd.Index(["latent", "observed"], name="scale")


def variance_table(model, X=None, y=None, *, mean=None, approximation="lognormal", output=None):
    """Variances, standard deviations and correlations of all random effects and the residual.

    Needs no rows, except for the shares of a fit with precision weights, of a generalised model
    with slopes, and of one whose distribution's variance depends on the mean.

    Parameters
    ----------
    model : estimator object
        A fitted linear or generalised mixed model, or a pipeline, search or target wrapper around
        one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which the shares are averaged; None means those of fit.
    y : array-like of shape (n_samples,), default=None
        Their responses, see `r_squared`.
    mean : float, default=None
        Mean response of a generalised model, see `r_squared`.
    approximation : {"lognormal", "delta", "trigamma"}, default="lognormal"
        How a generalised model's distribution counts, see `r_squared`.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a variance, one a pair of correlated coefficients (`with_term` is empty for a
        variance), the residual last; for a generalised model "Distribution" instead, the variance
        that its distribution adds on the scale of the linear predictor. Index: group, term,
        with_term. Columns:

        - variance: in units of y squared (of the linear predictor squared in generalised models)
          over those of the column squared; for a pair, the covariance.
        - sd: its root, missing for a pair.
        - correlation: of a pair, missing for a variance and where a variance is zero.
        - share: what the row adds to the variance of an observation around the fixed part, as a
          share of it, averaged over rows. The shares of a factor add up to the factor's; those of
          one coefficient depend on where its column is zero, and that of a pair may be negative.
          Missing where they need rows that were not given.

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
    fitted = open_model(model, X, y, output=output)
    products = mean_products(fitted, fitted.X)
    rows = []
    for t, term in enumerate(fitted.model._terms):
        G = covariance(fitted, t)
        Q = None if products is None else products[t]
        rows += _factor_rows(factor_label(term.key), term, G, Q)
    name, s2 = _remainder(fitted, mean, approximation)
    rows.append((name, "", "", s2, np.sqrt(s2), np.nan, s2 if products is not None else np.nan))
    names = ["group", "term", "with_term", "variance", "sd", "correlation", "share"]
    table = pd.DataFrame(rows, columns=names).set_index(names[:3])
    total = table["share"].sum(skipna=False)
    table["share"] = table["share"] / total if total > 0 else np.nan
    return table


def r_squared(model, X=None, y=None, *, mean=None, approximation="lognormal", output=None):
    """Share of the variance that the fixed part, and all of the model, explain.

    Needs no rows for a linear mixed model, except under precision weights or without a fixed
    intercept. A generalised model needs X, and y where the variance of its distribution depends on
    the mean.

    Parameters
    ----------
    model : estimator object
        A fitted linear or generalised mixed model, or a pipeline, search or target wrapper around
        one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which variances are taken; None means those of fit.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model that is not of classes: the model without fixed
        columns is fitted to them for its mean.
    mean : float, default=None
        The mean response at which the distribution of a generalised model counts, instead of the
        mean at effects of zero of the model without fixed columns [1]_.
    approximation : {"lognormal", "delta", "trigamma"}, default="lognormal"
        How the distribution counts under the log link, see Notes.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    r_squared : Series or DataFrame
        - marginal: variance of the fixed part over the total.
        - conditional: that of fixed and random part over the total.

        The total is the sum of both and the residual variance. The random part counts with its
        mean variance over rows, random slopes included, and all factors count. An offset does not.

        For a generalised model a table with one row a scale: "latent", the linear predictor plus
        the variance of the distribution there, and "observed", the response itself (of a single
        trial; the class number for ordered classes). A factor with a level for each row stands for
        overdispersion and counts as residual.

    Raises
    ------
    ValueError
        If X or y is needed.

    Notes
    -----
    Latent scale [1]_: the distribution has the variance pi^2/3 (logit), 1 (probit) or pi^2/6
    (cloglog) for classes. Under the log link, with c^2 = Var[y] / E[y]^2 at the mean, it is
    log(1 + c^2), c^2 (delta) or the trigamma function of 1 / c^2; c^2 is 1/mu for poisson, 1/mu
    plus the dispersion for nb2, the dispersion for gamma. Under other links it is Var[y] over the
    square of d mu / d eta. With further zeros, E[y] and Var[y] count them.

    Observed scale [3]_: with m_i(u) the mean of row i at effects u and v_i(u) its variance,
    ``marginal = Var_i(E m_i) / total`` and ``conditional = (Var_i(E m_i) + mean_i Var m_i) /
    total``, with ``total = Var_i(E m_i) + mean_i Var m_i + mean_i E v_i``; expectations and
    variances over normal u are found by numerical integration. The offset counts. Missing for the
    inverse link, where they do not exist.

    References
    ----------
    .. [1] S. Nakagawa, P. C. D. Johnson and H. Schielzeth, "The coefficient of determination R2
       and intra-class correlation coefficient from generalized linear mixed-effects models
       revisited and expanded", J. R. Soc. Interface 14, 2017, eqs. 2.3 and 2.4, table 1.
    .. [2] P. C. D. Johnson, "Extension of Nakagawa & Schielzeth's R2 GLMM to random slopes
       models", Methods Ecol. Evol. 5, 2014, eq. 10.
    .. [3] P. de Villemereuil, H. Schielzeth, S. Nakagawa and M. Morrissey, "General methods for
       evolutionary quantitative genetic inference from generalized mixed models", Genetics 204,
       2016.

    Examples
    --------
    >>> from sklme import GeneralizedLinearMixedModel, LinearMixedModel
    >>> from sklme.datasets import load_cbpp, load_sleepstudy
    >>> from sklme.inference import r_squared
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> print(r_squared(model).round(3).to_dict())
    {'marginal': 0.279, 'conditional': 0.799}

    >>> X, y = load_cbpp(return_X_y=True)
    >>> model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    >>> print(r_squared(model, X).round(3).to_string())
              marginal  conditional
    scale
    latent       0.096        0.203
    observed     0.033        0.083
    """
    fitted = open_model(model, X, y, output=output)
    if fitted.generalized:
        parts = _generalized_parts(fitted, "r_squared", mean, approximation, each=False)
        rows = [(fixed, fixed + total, fixed + total + rest) for fixed, _, total, rest in parts]
        shares = [(ratio(a, whole), ratio(b, whole)) for a, b, whole in rows]
        return pd.DataFrame(shares, SCALES, columns=["marginal", "conditional"])
    fixed, random = fixed_variance(fitted), sum(random_variances(fitted))
    total = fixed + random + fitted.residual_variance
    shares = {"marginal": fixed, "conditional": fixed + random}
    return pd.Series({name: ratio(part, total) for name, part in shares.items()}, name="r_squared")


def icc(model, X=None, y=None, *, mean=None, approximation="lognormal", output=None):
    """Intraclass correlation: how alike two rows of one level are, averaged over rows.

    Needs no rows for a linear mixed model, except under precision weights or, for `unadjusted`,
    without a fixed intercept. A generalised model needs X, and y where the variance of its
    distribution depends on the mean.

    Parameters
    ----------
    model : estimator object
        A fitted linear or generalised mixed model, or a pipeline, search or target wrapper around
        one.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Rows over which variances are taken; None means those of fit.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model that is not of classes, see `r_squared`.
    mean : float, default=None
        Mean response of a generalised model, see `r_squared`.
    approximation : {"lognormal", "delta", "trigamma"}, default="lognormal"
        How a generalised model's distribution counts, see `r_squared`.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a factor, then "all"; for a generalised model one a scale and factor, the scales
        being "latent" and "observed" as in `r_squared`. Columns:

        - adjusted: variance of the factor over that of random effects and residual.
        - unadjusted: the same over the total, the variance of the fixed part included.

        A factor of a generalised model with a level for each row stands for overdispersion: it
        has no row and counts as residual.

    Raises
    ------
    ValueError
        If the model has no random effects, or X or y is needed.

    Notes
    -----
    On the observed scale, with m_i(u_t, r) the mean of row i at the effects u_t of factor t and r
    of all others, and v_i its variance, the variance of the factor is the mean over rows of
    ``Var_{u_t}(E_r m_i(u_t, r))`` and that of random effects and residual the mean of
    ``Var m_i + E v_i``: the correlation of two responses of one level with the same fixed columns
    [2]_. It never exceeds 1. That of "all" is more than the sum over the factors, as these act
    together through the link. Expectations are found by numerical integration.

    References
    ----------
    .. [1] S. Nakagawa, P. C. D. Johnson and H. Schielzeth, J. R. Soc. Interface 14, 2017, sec. 3.
    .. [2] H. Goldstein, W. Browne and J. Rasbash, "Partitioning variation in multilevel models",
       Underst. Stat. 1(4), 2002.

    Examples
    --------
    >>> from sklme import LinearMixedModel, LogisticMixedModel
    >>> from sklme.datasets import load_penicillin, load_verbagg
    >>> from sklme.inference import icc
    >>> X, y = load_penicillin(return_X_y=True)
    >>> print(icc(LinearMixedModel(["plate", "sample"]).fit(X, y)).round(3).to_string())
            adjusted  unadjusted
    group
    plate      0.151       0.151
    sample     0.785       0.785
    all        0.936       0.936

    Answers of one person, and to one item, are less alike than the inclinations behind them.

    >>> X, y = load_verbagg(return_X_y=True)
    >>> model = LogisticMixedModel(["id", "item"], fixed_effects=["Anger"]).fit(X, y)
    >>> print(icc(model, X).round(3).to_string())
                    adjusted  unadjusted
    scale    group
    latent   id        0.285       0.281
             item      0.200       0.198
             all       0.484       0.479
    observed id        0.196       0.194
             item      0.136       0.135
             all       0.347       0.344
    """
    fitted = open_model(model, X, y, output=output)
    if not fitted.keys:
        raise ValueError("the model has no random effects, hence no intraclass correlation")
    if fitted.generalized:
        parts = _generalized_parts(fitted, "icc", mean, approximation)
        tables = [_correlations(*part) for part in parts]
        return pd.concat(dict(zip(SCALES, tables, strict=True)), names=["scale"])
    parts = dict(zip(map(factor_label, fitted.keys), random_variances(fitted), strict=True))
    rest = fitted.residual_variance
    return _correlations(fixed_variance(fitted), parts, sum(parts.values()), rest)


def _correlations(fixed: float, parts: dict, total: float, rest: float) -> pd.DataFrame:
    """A row for each part, then for all: over random effects and residual, and over everything."""
    parts = {**parts, "all": total}
    rows = [(ratio(v, total + rest), ratio(v, total + rest + fixed)) for v in parts.values()]
    index = pd.Index(list(parts), name="group")
    return pd.DataFrame(rows, index, columns=["adjusted", "unadjusted"])


def _generalized_parts(
    fitted, function: str, mean, approximation: str, *, each: bool = True
) -> list[tuple]:
    """Fixed variance, that of `each` factor, of all, and the rest; latent, then observed."""
    rows = row_variances(fitted, function)
    names = {factor_label(k): t for t, k in enumerate(fitted.keys) if rows.grouping[t]}
    means = rows.random.mean(axis=1)
    parts = {name: float(means[t]) for name, t in names.items()}
    rest = distribution_variance(fitted, mean, approximation) + means[~rows.grouping].sum()
    fixed = float(np.var(rows.fixed, ddof=1)) if len(rows.fixed) > 1 else 0.0
    latent = (fixed, parts, sum(parts.values()), float(rest))
    if fitted.fit.family.link.name == "inverse":
        return [latent, (np.nan, dict.fromkeys(parts, np.nan), np.nan, np.nan)]
    seen = rows.observed()
    everything = seen.between(np.ones(len(means), bool))
    parts = {name: seen.between([t]) for name, t in names.items()} if each else {}
    total = everything if rows.grouping.all() else seen.between(rows.grouping)
    return [latent, (seen.fixed, parts, total, seen.distribution + everything - total)]


def _remainder(fitted, mean, approximation: str) -> tuple[str, float]:
    """The name of the last part and its variance, NaN where it needs what was not given."""
    if not fitted.generalized:
        return RESIDUAL, fitted.residual_variance
    unknown = mean is None and needs_mean(fitted) and not fitted.has_rows
    value = np.nan if unknown else distribution_variance(fitted, mean, approximation)
    return DISTRIBUTION, value


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
