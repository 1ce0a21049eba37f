"""The bootstrap of a fitted mixed model: parametric, of residuals, of whole groups."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils import check_random_state

from sklme._rows import check_choice, check_number
from sklme.inference import _generalized_replicates
from sklme.inference._access import check_level, choose_factor, open_model
from sklme.inference._generalized_intervals import generalized_estimates
from sklme.inference._parameters import estimates_frame
from sklme.inference._replicates import Progress, cases, parametric, residual

KINDS = ("parametric", "residual", "cases")
INTERVALS = ("percentile", "basic", "normal")


@dataclass(frozen=True)
class BootstrapResult:
    """Replicates of the estimates, and what they say of each parameter.

    Parameters
    ----------
    replicates : DataFrame
        A row for each replicate, a column for each parameter: fixed coefficients by name,
        ``"sd <term>|<factor>"``, ``"cor <term>.<term>|<factor>"``, ``"sigma"`` or the further
        parameters of a generalised model, all in the units of the data, and the columns of
        `statistic`. NaN in a replicate whose fit failed.
    estimates : Series
        What the model itself estimates, by parameter.
    confidence_level : float
        Of the intervals in `table`.
    kind_of_interval : {"percentile", "basic", "normal"}
        Of the intervals in `table`.
    n_failed : int
        Replicates whose fit failed or did not converge; the table leaves them out.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_dyestuff
    >>> from sklme.inference import bootstrap
    >>> X, y = load_dyestuff(return_X_y=True)
    >>> model = LinearMixedModel(random_effects="Batch").fit(X, y)
    >>> result = bootstrap(model, n_bootstraps=500, random_state=0)
    >>> result.replicates.shape
    (500, 3)
    """

    replicates: pd.DataFrame
    estimates: pd.Series
    confidence_level: float
    kind_of_interval: str
    n_failed: int

    @property
    def table(self) -> pd.DataFrame:
        """Estimate, bias, standard error and interval of every parameter.

        Returns
        -------
        table : DataFrame
            Index: the parameters. Columns, in the units of the data: `estimate` of the model;
            `bias`, mean of the replicates minus the estimate; `std_error`, standard deviation of
            the replicates; `lower` and `upper`.
        """
        return self.intervals(self.kind_of_interval, self.confidence_level)

    def intervals(self, kind="percentile", confidence_level=0.95) -> pd.DataFrame:
        """The table with intervals of another kind.

        Parameters
        ----------
        kind : {"percentile", "basic", "normal"}, default="percentile"
            Quantiles of the replicates; twice the estimate minus these quantiles; the estimate
            without its bias plus and minus normal quantiles of standard errors (Davison and
            Hinkley 1997, sec. 5.2 and 5.3).
        confidence_level : float, default=0.95
            Coverage that is aimed at.

        Returns
        -------
        table : DataFrame
            As `table`.
        """
        check_choice("kind", kind, INTERVALS)
        check_level(confidence_level)
        used, estimate = self.replicates, self.estimates
        bias, std_error = used.mean() - estimate, used.std(ddof=1)
        tail = 0.5 * (1.0 - confidence_level)
        low, high = used.quantile(tail), used.quantile(1.0 - tail)
        if kind == "basic":
            low, high = 2.0 * estimate - high, 2.0 * estimate - low
        if kind == "normal":
            half = stats.norm.isf(tail) * std_error
            low, high = estimate - bias - half, estimate - bias + half
        columns = {"estimate": estimate, "bias": bias, "std_error": std_error}
        return pd.DataFrame({**columns, "lower": low, "upper": high}).loc[estimate.index]


def bootstrap(
    model,
    X=None,
    y=None,
    *,
    n_bootstraps=1000,
    kind="parametric",
    factor=None,
    statistic=None,
    confidence_level=0.95,
    kind_of_interval="percentile",
    random_state=None,
    verbose=0,
    output=None,
    sample_weight=None,
):
    """Refit a model to replicates of its data.

    The parametric bootstrap of a linear mixed model needs no rows: the sufficient statistics of new
    responses are drawn from the cross-products that the model keeps, and all replicates are
    refitted together. That of a generalised model needs the rows, draws outcomes for them, and
    refits from the estimates.

    Parameters
    ----------
    model : mixed model or wrapper
        A fitted model, alone or in a Pipeline, a search or a TransformedTargetRegressor.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows that the model was fitted to; for a generalised model, for "residual" and "cases",
        and for several factors with more than 5000 columns of Z and X.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model, "residual" and "cases".
    n_bootstraps : int, default=1000
        Number of replicates, at least 2.
    kind : {"parametric", "residual", "cases"}, default="parametric"
        - "parametric": new effects and residuals from the normal distributions of the model; of
          a generalised model new effects, and outcomes from its family.
        - "residual": predicted effects and residuals are centred, brought to their estimated
          variances and drawn with replacement [1]_. Not for generalised models.
        - "cases": whole levels of `factor` are drawn with replacement, each draw a level of its
          own; so are the levels of factors nested in it. No assumption on distributions.
    factor : str, int or tuple, default=None
        The factor whose levels "cases" draws; the only factor may be left out.
    statistic : callable, default=None
        Maps the table of replicates to further statistics of each replicate: an array or Series
        (named "statistic"), or a DataFrame, with a row for each of its rows.
    confidence_level : float, default=0.95
        Of the intervals.
    kind_of_interval : {"percentile", "basic", "normal"}, default="percentile"
        Of the intervals in `table`.
    random_state : int, RandomState instance or None, default=None
        Source of the draws.
    verbose : int, default=0
        1 prints progress after each batch of replicates.
    output : int, default=None
        Which output, where the model has several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, whole numbers, where a generalised model had any.

    Returns
    -------
    result : BootstrapResult
        `replicates`, `estimates`, `n_failed`, and `table` with the columns `estimate`, `bias`,
        `std_error`, `lower` and `upper` by parameter.

    Raises
    ------
    ValueError
        If rows are needed and not given, or not those of the fit; if the model was weighted and
        rows would be resampled; if weights of a generalised model are not whole numbers.
    TypeError
        If the residuals of a generalised model are asked for.

    References
    ----------
    .. [1] J. R. Carpenter, H. Goldstein and J. Rasbash, "A novel bootstrap procedure for assessing
       the relationship between class size and achievement", Appl. Statist. 52, 2003.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import bootstrap
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> result = bootstrap(
    ...     model,
    ...     n_bootstraps=2000,
    ...     random_state=0,
    ...     statistic=lambda p: p["sd Days|Subject"] / p["Days"],
    ... )
    >>> print(f"{result.table.loc['Days', 'std_error']:.1f} ms a day")
    1.5 ms a day
    >>> bool(0.3 < result.table.loc["statistic", "lower"] < result.table.loc["statistic", "upper"])
    True
    """
    check_choice("kind", kind, KINDS)
    check_choice("kind_of_interval", kind_of_interval, INTERVALS)
    check_number("n_bootstraps", n_bootstraps, Integral, 2)
    check_level(confidence_level)
    needs_rows = None if kind == "parametric" else f'bootstrap(kind="{kind}")'
    fitted = open_model(
        model, X, y, output=output, needs_rows=needs_rows, sample_weight=sample_weight
    )
    if np.atleast_1d(fitted.model.optimization_.exact_fit)[fitted.r]:
        raise ValueError("the model reproduces y exactly: there are no residuals to bootstrap")
    progress = Progress(n_bootstraps, verbose)
    rng = check_random_state(random_state)
    drawn = _generalized if fitted.generalized else _linear
    replicates = drawn(fitted, kind, factor, rng, progress)
    return _result(fitted, replicates, statistic, confidence_level, kind_of_interval)


def _linear(fitted, kind, factor, rng, progress) -> pd.DataFrame:
    if kind == "cases":
        return cases(fitted, choose_factor(fitted, factor), rng, progress)
    return {"parametric": parametric, "residual": residual}[kind](fitted, rng, progress)


def _generalized(fitted, kind, factor, rng, progress) -> pd.DataFrame:
    name = type(fitted.model).__name__
    if kind == "residual":
        raise TypeError(
            f'bootstrap(kind="residual") takes linear mixed models, and this is {name}, whose '
            'residuals are not alike: use kind="parametric" or "cases"'
        )
    if not fitted.has_rows:
        raise ValueError(
            f"the bootstrap of {name} needs the rows that the model was fitted to: pass X and y"
        )
    if kind == "cases":
        t = choose_factor(fitted, factor)
        return _generalized_replicates.cases(fitted, t, rng, progress)
    return _generalized_replicates.parametric(fitted, rng, progress)


def _result(fitted, replicates, statistic, confidence_level, kind_of_interval) -> BootstrapResult:
    failed = replicates.isna().all(axis=1)
    known = generalized_estimates if fitted.generalized else estimates_frame
    estimates = known(fitted)
    if statistic is not None:
        good = replicates[~failed]
        replicates = pd.concat([replicates, _further(statistic, good)], axis=1)
        estimates = pd.concat([estimates, _further(statistic, estimates)], axis=1)
    return BootstrapResult(
        replicates, estimates.iloc[0], confidence_level, kind_of_interval, int(failed.sum())
    )


def _further(statistic: Callable, table: pd.DataFrame) -> pd.DataFrame:
    values = statistic(table)
    if isinstance(values, pd.DataFrame):
        return values.set_index(table.index)
    values = np.asarray(values, float)
    if values.shape != (len(table),):
        raise ValueError(
            f"statistic has to return a value for each of the {len(table)} rows of the table that "
            f"it is given; it returned the shape {values.shape}"
        )
    return pd.DataFrame({"statistic": values}, index=table.index)
