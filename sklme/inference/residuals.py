"""Residuals that are uniform, hence normal, whatever the distribution of the outcome."""

from numbers import Integral

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sklearn.utils import check_random_state

from sklme._columns import extend_columns, read_columns
from sklme._engine import marginal
from sklme._rows import check_choice, check_number, check_rows
from sklme.inference._access import open_model
from sklme.inference._generalized import GeneralizedFitted

KINDS = ("conditional", "simulated")
EDGE = 2.0**-53  # uniform residuals stay this far from 0 and 1, normal ones within 8.3


def quantile_residuals(model, X, y, *, kind="conditional", n_samples=250, random_state=None):
    """Randomised quantile residuals of a generalised model: standard normal if it is right.

    Needs rows, those of fit or others.

    Parameters
    ----------
    model : estimator object
        A fitted generalised mixed model, or a pipeline, search or target wrapper around one.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The rows.
    y : array-like of shape (n_samples,)
        Their responses.
    kind : {"conditional", "simulated"}, default="conditional"
        What y is compared with:

        - "conditional": the distribution of the row given the effects of its levels [1]_; the
          effects of levels that are not known are integrated out.
        - "simulated": `n_samples` new sets of all rows, with new effects of all levels [2]_. It
          sees what conditional residuals hide: effects that are not normal. The residuals of one
          level are alike, as its rows are.
    n_samples : int, default=250
        Number of new sets for "simulated".
    random_state : int, RandomState instance or None, default=None
        Source of the draws: within the jumps of the distribution function of counts and classes,
        and of new sets.

    Returns
    -------
    table : DataFrame
        One row a row of X, with its index. Columns:

        - residual: normal quantile of `uniform`, standard normal.
        - uniform: between 0 and 1, uniform. With F the distribution function of the row, drawn
          evenly between F just below y and F(y); F is that of the family, or of the new sets.
        - fitted: expected response, in units of y: given the effects of the levels for
          "conditional", the average of the new sets for "simulated". The share of successes where
          there are trials, the probability of the second class, the mean of the class number
          (from 0) of ordered classes.

    Raises
    ------
    ValueError
        If y is outside of what the family can be, as rates are for counts.
    TypeError
        For a linear mixed model, whose residuals are normal themselves.

    See Also
    --------
    sklme.inspection.QuantileResidualsDisplay : Pictures of them.
    sklme.inspection.ResidualsDisplay : Residuals of linear mixed models.

    References
    ----------
    .. [1] P. K. Dunn and G. K. Smyth, "Randomized quantile residuals", J. Comput. Graph. Stat.
       5(3), 1996, section 2.
    .. [2] F. Hartig, "DHARMa: residual diagnostics for hierarchical (multi-level/mixed) regression
       models", R package, 2022.

    Examples
    --------
    >>> from sklme import GeneralizedLinearMixedModel
    >>> from sklme.datasets import load_salamanders
    >>> from sklme.inference import quantile_residuals
    >>> data = load_salamanders().frame
    >>> X, y = data[["site", "DOP"]], data["count"]
    >>> for family in ("poisson", "nb2"):
    ...     model = GeneralizedLinearMixedModel("site", family=family).fit(X, y)
    ...     residuals = quantile_residuals(model, X, y, random_state=0)["residual"]
    ...     print(f"{family}: standard deviation {residuals.std():.2f}")
    poisson: standard deviation 1.41
    nb2: standard deviation 0.97
    """
    check_choice("kind", kind, KINDS)
    check_number("n_samples", n_samples, Integral, 1)
    fitted = open_model(model, X, y, needs_rows="quantile_residuals")
    if not fitted.generalized:
        raise TypeError(
            "quantile_residuals takes generalised mixed models, and this is LinearMixedModel: its "
            "residuals are normal, and ResidualsDisplay draws them"
        )
    rng = check_random_state(random_state)
    observed, _ = fitted.model._read_y(fitted.y, None)
    check_rows(fitted.X, observed, None)
    if kind == "conditional":
        ends, expected = _conditional(fitted, observed)
    else:
        ends, expected = _simulated(fitted, observed, n_samples, rng)
    below, above = ends
    uniform = np.clip(below + (above - below) * rng.uniform(size=len(below)), EDGE, 1.0 - EDGE)
    columns = {"residual": ndtri(uniform), "uniform": uniform, "fitted": expected}
    return pd.DataFrame(columns, index=getattr(fitted.X, "index", None))


def _conditional(fitted: GeneralizedFitted, y):
    """F just below y and F(y) of each row, and the mean."""
    model, family = fitted.model, fitted.fit.family
    rows = read_columns(model, fitted.X, model._columns)
    _check_outcome(family, y, rows.trials)
    aux = np.broadcast_to(model._aux(rows), (len(family.aux_names), len(y)))
    eta, sd = model._linear(rows), np.sqrt(model._prior_variance(rows))
    just_below = np.nextafter(y, -np.inf)

    def values(x, at):
        trials = None if rows.trials is None else rows.trials[at]
        shares = [family.cdf(v[at], x, aux[:, at], trials) for v in (just_below, y)]
        return np.stack([*shares, family.mean(x, aux[:, at])])

    out = values(eta, np.arange(len(y)))
    new = np.flatnonzero(sd > 0)
    if len(new):
        out[:, new] = marginal.expectation(
            lambda x, at: values(x, new[at]), eta[new], sd[new], marginal.ELSEWHERE, places=True
        )
    return (out[0], out[1]), out[2]


def _simulated(fitted: GeneralizedFitted, y, n_samples, rng):
    """The rank of y among new outcomes: its lowest and highest place over n_samples + 1."""
    model, family = fitted.model, fitted.fit.family
    _, rows = extend_columns(model, fitted.X, model._columns)
    _check_outcome(family, y, rows.trials)
    aux, fixed = model._aux(rows), model._fixed(rows)
    less, same, total = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
    for _ in range(n_samples):
        eta = fixed.copy()
        for key, codes, z in zip(fitted.keys, rows.codes, rows.slopes, strict=True):
            root = model.theta_[key]
            b = rng.standard_normal((codes.max() + 1, len(root))) @ root.T
            eta += (z * b[codes]).sum(axis=1)
        new = family.sample(eta, aux, rows.trials, rng)
        less, same, total = less + (new < y), same + (new == y), total + new
    size = n_samples * (1.0 if rows.trials is None else np.maximum(rows.trials, 1.0))
    return (less / (n_samples + 1), (less + same + 1) / (n_samples + 1)), total / size


def _check_outcome(family, y, trials):
    message = family.check(y, trials)
    if message:
        raise ValueError(message)
