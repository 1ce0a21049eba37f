"""Random-effects meta-analysis of a metric, or of many, over sites."""

from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine import meta
from sklme._engine.heterogeneity import METHODS
from sklme._rows import check_choice, check_number
from sklme.evaluation._meta_input import MetaInput, row_labels

COLUMNS = (
    *("mean", "std_error", "lower", "upper", "prediction_lower", "prediction_upper"),
    *("tau2", "tau2_lower", "tau2_upper", "i2", "h2", "q", "q_p_value"),
    *("n_sites", "dof", "log_likelihood"),
)
ON_SCALE = ("mean", "lower", "upper", "prediction_lower", "prediction_upper")


def random_effects_meta(
    estimates,
    standard_errors,
    *,
    moderators=None,
    at=None,
    method="reml",
    ci="hksj",
    prediction="hksj",
    prediction_dof="k-1",
    scale="identity",
    confidence_level=0.95,
    benchmark=None,
    names=None,
):
    """Pool estimates of sites, and say what to expect at a new one.

    Parameters
    ----------
    estimates : array-like of shape (n_sites,) or (n_sites, n_metrics)
        What each site found, on the natural scale. NaN, here or in `standard_errors`: the site is
        absent for that metric. Row labels of a table name the sites, its columns the metrics.
    standard_errors : array-like of the same shape
        Their standard errors, on the natural scale.
    moderators : {array-like, DataFrame} of shape (n_sites, n_moderators), default=None
        Numbers that describe the sites. The table then has a row for each coefficient, of them and
        of a constant, on the scale of pooling.
    at : {array-like, DataFrame} of shape (n_new_sites, n_moderators), default=None
        Moderators of new sites. The table then has a row for each of them instead.
    method : {"reml", "ml", "dl", "pm"}, default="reml"
        Estimator of the variance between sites tau2: restricted maximum likelihood, maximum
        likelihood, DerSimonian and Laird, or Paule and Mandel.
    ci : {"hksj", "hksj-adhoc", "normal"}, default="hksj"
        Interval of the mean: with the variance of Hartung, Knapp, Sidik and Jonkman and the t
        distribution, which may be narrower than the normal one where sites agree by chance; the
        same with a variance that is at least the model's; or the model's with the normal
        distribution.
    prediction : {"hksj", "normal", "bootstrap"}, default="hksj"
        Interval for the true value at a new site. "hksj" and "normal": around the mean, with the
        variance of the mean of that kind plus tau2. "bootstrap": the distribution of Nagashima,
        Noma and Furukawa [1]_, which counts the uncertainty of tau2 and so keeps its coverage with
        few sites, where the others fall short. It takes infinitely many draws, by integration:
        the limits have an error below 2e-6 of the width, and need no random state. It does not
        depend on `method` and `ci` and is possible without moderators only.
    prediction_dof : {"k-1", "k-2"}, default="k-1"
        Degrees of freedom of prediction="hksj": those of the mean, or one less.
    scale : {"identity", "log", "logit", "fisher", "log-unexplained"} or list of them, \
            default="identity"
        Scale on which sites are normal, one for all metrics or one for each: estimates are
        carried there and results back. Standard errors follow by the delta method.
        "log-unexplained" is ``-log(1 - x)``, for R2 and other shares that are explained.
    confidence_level : float, default=0.95
        Coverage of all intervals.
    benchmark : float or list of float, default=None
        Natural scale; adds the column `probability`, that of a higher true value at a new site,
        by the distribution that `prediction` asks for.
    names : str or list of str, default=None
        Names of the metrics.

    Returns
    -------
    table : DataFrame
        One row a metric. On the natural scale: `mean`, `lower`, `upper`, `prediction_lower`,
        `prediction_upper`. On the scale of pooling: `std_error` of the mean; `tau2` and its
        Q-profile interval `tau2_lower`, `tau2_upper` [2]_. `i2` as a share and `h2`: variance
        between sites relative to the variance within a typical one. `q`, `q_p_value`: Cochran's
        test that tau2 is 0. `n_sites`, `dof` of the interval of the mean, infinite for the normal
        distribution; `log_likelihood`, restricted for "reml". With a benchmark, `benchmark` and
        `probability`. `reason` says why something is NaN: a variance needs two sites, a
        prediction interval three. Several metrics with moderators have an index of two levels;
        rows of coefficients have no prediction interval, but `p_value`, of the coefficient 0.

    Raises
    ------
    ValueError
        If an estimate is infinite or outside its scale, or a standard error is not positive; the
        sentence names the site.

    References
    ----------
    .. [1] K. Nagashima, H. Noma and T. A. Furukawa, "Prediction intervals for random-effects
       meta-analysis: a confidence distribution approach", Stat. Methods Med. Res. 28 (2019)
       1689-1702.
    .. [2] W. Viechtbauer, "Confidence intervals for the amount of heterogeneity in meta-analysis",
       Stat. Med. 26 (2007) 37-52.

    Examples
    --------
    Areas under the curve of five hospitals; what may a sixth expect?

    >>> from sklme.evaluation import random_effects_meta
    >>> auc = [0.81, 0.74, 0.86, 0.79, 0.71]
    >>> error = [0.02, 0.03, 0.02, 0.04, 0.03]
    >>> table = random_effects_meta(
    ...     auc, error, scale="logit", prediction="bootstrap", benchmark=0.7, names="AUC"
    ... )
    >>> print(table[["mean", "lower", "upper", "tau2"]].round(2))
         mean  lower  upper  tau2
    AUC  0.79    0.7   0.85  0.11
    >>> print(table[["prediction_lower", "prediction_upper", "probability"]].round(2))
         prediction_lower  prediction_upper  probability
    AUC              0.55              0.92         0.84
    """
    how = {"prediction": prediction, "prediction_dof": prediction_dof}
    _check_choices(method, ci, confidence_level, **how)
    data = MetaInput(estimates, standard_errors, scale, names, moderators)
    found = data.pool(method=method, ci=ci, confidence_level=confidence_level, **how)
    if moderators is None:
        if at is not None:
            raise ValueError("at holds moderators of new sites: pass moderators too")
        table = _metrics_table(found, data)
        new_site = found.new_site
    elif at is None:
        if benchmark is not None:
            raise ValueError("a benchmark is for new sites: with moderators pass at too")
        return _coefficients_table(found, data)
    else:
        predicted = meta.predict(found, data.read_moderators(at, "at"))
        table = _new_sites_table(found, predicted, data, at)
        new_site = predicted.new_site
    if benchmark is not None:
        _add_probability(table, new_site, data, benchmark)
    table["reason"] = np.repeat(_reasons(found), len(table) // len(data.names))
    return table


def shrunken_estimates(
    estimates,
    standard_errors,
    *,
    moderators=None,
    method="reml",
    ci="hksj",
    scale="identity",
    confidence_level=0.95,
    names=None,
):
    """Draw the estimate of each site towards the mean of all, the more the less precise it is.

    Parameters
    ----------
    estimates : array-like of shape (n_sites,) or (n_sites, n_metrics)
        What each site found, on the natural scale; NaN: absent. See `random_effects_meta`.
    standard_errors : array-like of the same shape
        Their standard errors, on the natural scale.
    moderators : {array-like, DataFrame} of shape (n_sites, n_moderators), default=None
        Numbers that describe the sites: then towards the mean of sites like that one.
    method : {"reml", "ml", "dl", "pm"}, default="reml"
        Estimator of the variance between sites.
    ci : {"hksj", "hksj-adhoc", "normal"}, default="hksj"
        Variance of the mean, and quantiles of the intervals.
    scale : {"identity", "log", "logit", "fisher", "log-unexplained"} or list of them, \
            default="identity"
        Scale on which sites are normal.
    confidence_level : float, default=0.95
        Coverage of the intervals, which take tau2 as known.
    names : str or list of str, default=None
        Names of the metrics.

    Returns
    -------
    table : DataFrame
        One row a site, within each metric if there are several: `raw`, the estimate as given;
        `estimate`, `lower` and `upper` on the natural scale; `std_error` on the scale of pooling;
        `weight`, the share of the site's own estimate. NaN where a site is absent, or where one
        site is all there is.

    Examples
    --------
    >>> from sklme.evaluation import shrunken_estimates
    >>> auc, error = [0.81, 0.74, 0.86, 0.79, 0.71], [0.02, 0.03, 0.02, 0.04, 0.03]
    >>> print(shrunken_estimates(auc, error, scale="logit").round(2))
           raw  estimate  lower  upper  std_error  weight
    site
    0     0.81      0.81   0.75   0.85       0.12    0.87
    1     0.74      0.75   0.67   0.82       0.14    0.82
    2     0.86      0.85   0.78   0.89       0.15    0.80
    3     0.79      0.79   0.68   0.87       0.20    0.65
    4     0.71      0.72   0.64   0.79       0.14    0.84
    """
    _check_choices(method, ci, confidence_level)
    data = MetaInput(estimates, standard_errors, scale, names, moderators)
    found = data.pool(method=method, ci=ci, confidence_level=confidence_level)
    shrunken = meta.shrink(found)
    columns = {"raw": data.raw.T}
    columns |= {c: data.natural(getattr(shrunken, c).T) for c in ("estimate", "lower", "upper")}
    columns |= {c: getattr(shrunken, c).T for c in ("std_error", "weight")}
    return _stacked(columns, data, data.sites, "site")


def _reasons(found):
    """Why each metric has no mean, or no interval."""
    p = found.coefficients.coef.shape[1]
    equal = (found.n_sites > p) & (found.q <= meta.EQUAL * (found.n_sites - p))
    return [
        _reason(n, p, ok, alike)
        for n, ok, alike in zip(found.n_sites, found.at.sites.estimable, equal, strict=True)
    ]


def _reason(n, p, estimable, equal):
    count = f"{n} {'site' if n == 1 else 'sites'}"
    if n == 0:
        return "no site has an estimate"
    if not estimable:
        return f"the coefficients cannot be told apart at {count}"
    if n <= p:
        return f"{count}: the variance between sites needs {p + 1}"
    if equal:
        return "all sites agree exactly: only ci 'hksj-adhoc' and 'normal' have a width"
    return f"{count}: a prediction interval needs {p + 2}" if n < p + 2 else ""


def _metrics_table(found, data):
    columns = {name: getattr(found, name) for name in COLUMNS}
    columns |= {name: data.natural(columns[name]) for name in ON_SCALE}
    return pd.DataFrame(columns, index=data.names)


def _coefficients_table(found, data):
    table = _stacked(_spread(found, len(data.coefficients)), data, data.coefficients, "coefficient")
    table = table.drop(columns=["prediction_lower", "prediction_upper"])
    t = table["mean"] / table["std_error"]
    table.insert(4, "p_value", 2.0 * stats.t.sf(np.abs(t), table["dof"]))
    table["reason"] = np.repeat(_reasons(found), len(data.coefficients))
    return table


def _new_sites_table(found, predicted, data, at):
    rows = row_labels(at)
    columns = _spread(found, len(rows))
    columns |= {name: getattr(predicted, name) for name in COLUMNS[:6]}
    columns |= {name: data.natural(columns[name]) for name in ON_SCALE}
    return _stacked(columns, data, rows, "new_site")


def _spread(found, n):
    """Columns of (n_metrics, n); what belongs to a metric is repeated."""
    whole = {name: getattr(found, name) for name in COLUMNS}
    return {
        name: part if part.ndim == 2 else np.repeat(part[:, None], n, axis=1)
        for name, part in whole.items()
    }


def _stacked(columns, data, rows, level):
    """A table of (n_metrics, n) columns; the metric is in the index if there are several."""
    if data.one_metric:
        index = pd.Index(rows, name=level)
    else:
        index = pd.MultiIndex.from_product([data.names, rows], names=["metric", level])
    return pd.DataFrame({name: part.ravel() for name, part in columns.items()}, index=index)


def _add_probability(table, new_site, data, benchmark):
    values, theta = data.read_benchmark(benchmark)
    above = new_site.above(theta if data.moderators is None else theta[:, None])
    table["benchmark"] = np.repeat(values, len(table) // len(values))
    table["probability"] = above.ravel()


def _check_choices(method, ci, confidence_level, *, prediction="hksj", prediction_dof="k-1"):
    check_choice("method", method, METHODS)
    check_choice("ci", ci, meta.INTERVALS)
    check_choice("prediction", prediction, meta.PREDICTIONS)
    check_choice("prediction_dof", prediction_dof, ("k-1", "k-2"))
    check_number("confidence_level", confidence_level, Real, 0, 1)
