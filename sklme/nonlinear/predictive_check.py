"""The visual predictive check: quantiles of the data among those of data that the model makes."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklme._engine.nlme.simulate import simulate
from sklme._rows import check_number
from sklme.nonlinear._bins import read_bins, which_bin
from sklme.nonlinear._observed import column_of, observe, time_name

EVERYTHING = "all rows"


@dataclass(frozen=True, eq=False)
class VisualPredictiveCheck:
    """Observed quantiles by bin, and where the model expects them.

    Parameters
    ----------
    table : DataFrame
        A row for each stratum, bin and quantile: `stratum`; `left` and `right` edge of the bin;
        `x`, the median of its rows; `n_rows`; `quantile`; `observed`, NaN where it lies below the
        limit of quantification; `lower`, `median` and `upper` of the simulated quantiles.
    rows : DataFrame
        The observations as they were compared: `stratum`, `x`, `y` and `censored`.
    x_name : str
        What `x` is.
    confidence_level : float
        Of the interval from `lower` to `upper`.
    prediction_corrected : bool
        Whether observed and simulated values were corrected.

    See Also
    --------
    visual_predictive_check : What makes it.
    VisualPredictiveCheckDisplay : The picture of it.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, visual_predictive_check
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> check = visual_predictive_check(model, X, y, n_simulations=200, random_state=0)
    >>> bool(check.table["n_rows"].sum() == 3 * len(y))
    True
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    x_name: str
    confidence_level: float
    prediction_corrected: bool

    @property
    def share_inside(self):
        """Share of the observed quantiles that lie in their interval.

        Returns
        -------
        share : float
            About `confidence_level` under the model.
        """
        known = self.table[self.table["observed"].notna()]
        inside = known["observed"].between(known["lower"], known["upper"])
        return float(inside.mean()) if len(known) else np.nan


def visual_predictive_check(
    model,
    X,
    y,
    *,
    dosing=None,
    x=None,
    stratify=None,
    bins=None,
    quantiles=(0.05, 0.5, 0.95),
    prediction_corrected=False,
    confidence_level=0.95,
    n_simulations=500,
    random_state=None,
):
    """Compare quantiles of the data with those of data that the model simulates.

    Parameters
    ----------
    model : NonlinearMixedModel
        A fitted model, or a search that found one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows of some groups, all taken as new.
    y : array-like of shape (n_samples,)
        Their responses.
    dosing : Dosing, default=None
        Their doses; None: those of the model.
    x : str or int, default=None
        Column of X that is binned; None: the time.
    stratify : str or int, default=None
        Column of X for whose values the check is made separately.
    bins : int or array-like, default=None
        Number of bins with about as many rows each, or their edges. None: as many as a group has
        rows in the median, or one for 25 rows if that makes more; from 3 to 12.
    quantiles : sequence of float, default=(0.05, 0.5, 0.95)
        Quantiles of the rows of a bin.
    prediction_corrected : bool, default=False
        Whether observed and simulated values are multiplied by the median population prediction of
        the bin over their own [1]_, which takes out differences of dose, covariates and time within
        a bin.
    confidence_level : float, default=0.95
        Of the interval of each simulated quantile.
    n_simulations : int, default=500
        Number of simulated copies of the data.
    random_state : int, RandomState instance or None, default=None
        Source of the draws.

    Returns
    -------
    check : VisualPredictiveCheck
        `table` of quantiles, `rows` that were compared, `share_inside`.

    Raises
    ------
    ValueError
        If bins leave out rows, or a correction meets predictions that are not positive.

    Notes
    -----
    Observations below the limit of quantification count as below all others; simulated ones are
    not censored. Quantiles above the limit are so compared as they would be without one, and those
    below it are not compared.

    References
    ----------
    .. [1] M. Bergstrand, A. C. Hooker, J. E. Wallin and M. O. Karlsson, "Prediction-corrected
       visual predictive checks for diagnosing nonlinear mixed-effects models", AAPS J. 13(2), 2011.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, visual_predictive_check
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> check = visual_predictive_check(
    ...     model, X, y, bins=[0, 700, 1600], quantiles=[0.5], random_state=0
    ... )
    >>> check.table[["left", "right", "n_rows", "observed"]].values.tolist()
    [[0.0, 700.0, 15.0, 58.0], [700.0, 1600.0, 20.0, 150.5]]
    """
    check_number("n_simulations", n_simulations, Integral, 2)
    check_number("confidence_level", confidence_level, Real, 0, 1)
    quantiles = read_quantiles(quantiles)
    found = observe(model, X, y, dosing)
    values, name = _horizontal(found, X, x)
    strata = np.full(len(found.y), EVERYTHING, object)
    if stratify is not None:
        strata = np.asarray(column_of(found.model, X, stratify, "stratify"))
    rng = check_random_state(random_state)
    simulated = found.design.to_rows(simulate(found.data, found.parameters, n_simulations, rng))
    compared = _Compared(found, values, simulated, quantiles, confidence_level)
    if prediction_corrected:
        compared.predict(found)
    parts = [
        compared.stratum(stratum, np.flatnonzero(strata == stratum), bins)
        for stratum in pd.unique(strata)
    ]
    rows = {"stratum": strata, "x": values, "y": compared.y, "censored": found.censored}
    rows = pd.DataFrame(rows, index=getattr(X, "index", None))
    table = pd.DataFrame([row for part in parts for row in part])
    return VisualPredictiveCheck(table, rows, name, confidence_level, bool(prediction_corrected))


def read_quantiles(quantiles):
    """Quantiles that rise, each between 0 and 1."""
    values = np.sort(np.atleast_1d(np.asarray(quantiles, float)))
    if not len(values) or not ((values > 0) & (values < 1)).all():
        raise ValueError(f"quantiles is {quantiles!r}; each must be above 0 and below 1")
    return values


def _horizontal(found, X, x):
    """The values that are binned and what they are."""
    if x is not None:
        values = np.asarray(column_of(found.model, X, x, "x"))
        if values.dtype.kind not in "iuf":
            raise ValueError(
                f"x names {x!r}, whose values are no numbers, so that they have no bins"
            )
        return values.astype(float), str(x)
    if found.time is None:
        raise ValueError("the structure has no time: say by x which column of X is binned")
    return found.time, time_name(found.model)


class _Compared:
    """Observed and simulated values, changed in place where they are corrected."""

    def __init__(self, found, x, simulated, quantiles, confidence_level):
        self.x, self.y, self.simulated = x, found.y.copy(), simulated
        self.censored, self.groups = found.censored, found.design.groups
        self.quantiles, self.prediction = quantiles, None
        self.ends = [0.5 - 0.5 * confidence_level, 0.5, 0.5 + 0.5 * confidence_level]

    def predict(self, found):
        """Learn the population predictions that values are corrected by."""
        effects = np.zeros(found.design.B.shape[::3])
        self.prediction = found.design.predict(found.parameters.beta, effects)
        if (self.prediction < 0).any():
            row = int(np.argmin(self.prediction))
            raise ValueError(
                f"the population prediction is {self.prediction[row]:.3g} for "
                f"{self.groups.describe(row)} in row {row}: prediction_corrected divides by "
                "predictions, which must not be negative"
            )

    def stratum(self, name, rows, bins):
        """The table rows of a stratum."""
        x = self.x[rows]
        edges = read_bins(bins, x, self.groups.take(rows))
        of = which_bin(x, edges)
        out = []
        for b in np.unique(of):
            out += self._bin(name, rows[of == b], edges[b], edges[b + 1])
        return out

    def _bin(self, name, rows, left, right):
        self._correct(rows)
        y = np.where(self.censored[rows], -np.inf, self.y[rows])
        with np.errstate(invalid="ignore"):
            observed = np.quantile(y, self.quantiles)
        observed[~np.isfinite(observed)] = np.nan
        drawn = np.quantile(self.simulated[:, rows], self.quantiles, axis=1)
        ends = np.quantile(drawn, self.ends, axis=1)
        what = {"stratum": name, "left": left, "right": right}
        what |= {"x": float(np.median(self.x[rows])), "n_rows": len(rows)}
        return [
            what
            | {"quantile": q, "observed": observed[k]}
            | dict(zip(("lower", "median", "upper"), ends[:, k], strict=True))
            for k, q in enumerate(self.quantiles)
        ]

    def _correct(self, rows):
        """Where a prediction is zero, as before the first dose, nothing can be corrected."""
        if self.prediction is None:
            return
        own = self.prediction[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(own > 0, np.median(own) / own, 1.0)
        self.y[rows] *= factor
        self.simulated[:, rows] *= factor
