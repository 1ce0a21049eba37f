"""Confidence intervals of all parameters, and the curves of the profiled likelihood."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.information import VarianceErrors
from sklme._engine.profile import Curve, Profiler
from sklme._engine.threads import dense_block, limited
from sklme._engine.units import coefficient_map
from sklme._rows import check_choice, check_number
from sklme.inference._access import Fitted, check_level, open_model
from sklme.inference._generalized_intervals import (
    GeneralizedCurves,
    GeneralizedWald,
    generalized_estimates,
)
from sklme.inference._parameters import Parameter, choose_parameters, estimates_frame
from sklme.inference.coefficients import coefficient_table
from sklme.inference.resampling import bootstrap

NEEDS_ROWS = "needs the rows that the model was fitted to: pass X and y"
METHODS = ("wald", "profile", "bootstrap")


def confidence_intervals(
    model,
    X=None,
    y=None,
    *,
    method="wald",
    parameters=None,
    dof="normal",
    confidence_level=0.95,
    n_bootstraps=1000,
    kind="parametric",
    factor=None,
    random_state=None,
    output=None,
    sample_weight=None,
):
    """Confidence intervals of coefficients, standard deviations, correlations and the others.

    Parameters
    ----------
    model : mixed model or wrapper
        A fitted model, alone or in a Pipeline, a search or a TransformedTargetRegressor.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit; for a generalised model, and for a bootstrap that needs them.
    y : array-like of shape (n_samples,), default=None
        Their responses; for a generalised model, and for a bootstrap that needs them.
    method : {"wald", "profile", "bootstrap"}, default="wald"
        - "wald": coefficients by estimate and standard error with the quantiles that `dof` asks
          for; standard deviations, sigma and correlations by the observed information on the
          scales log and atanh [1]_, and NaN at a boundary, where that does not exist. For a
          generalised model that information needs the rows; without them, standard deviations,
          correlations and further parameters have NaN.
        - "profile": all values that a likelihood-ratio test would keep, on the ML criterion; a
          model fitted by REML is refitted by ML from its cross-products. The end of a standard
          deviation may be 0, those of a correlation -1 and 1. A generalised model needs the rows;
          NaN where the likelihood does not fall far enough.
        - "bootstrap": percentiles of `bootstrap`; a generalised model needs the rows.
    parameters : str or list of str, default=None
        Some of the parameters by name; None for all.
    dof : {"normal", "satterthwaite", "kenward-roger", "residual"}, default="normal"
        Degrees of freedom of the Wald intervals of coefficients, see `coefficient_table`.
    confidence_level : float, default=0.95
        Coverage that is aimed at.
    n_bootstraps : int, default=1000
        Replicates of the bootstrap.
    kind : {"parametric", "residual", "cases"}, default="parametric"
        Kind of the bootstrap.
    factor : str, int or tuple, default=None
        The factor whose levels the bootstrap of cases draws.
    random_state : int, RandomState instance or None, default=None
        Source of the draws of the bootstrap.
    output : int, default=None
        Which output, where the model has several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any.

    Returns
    -------
    table : DataFrame
        Index: fixed coefficients by name, ``"sd <term>|<factor>"``,
        ``"cor <term>.<term>|<factor>"``, ``"sigma"``; for a generalised model instead of sigma
        ``"dispersion"`` and ``"power"``, ``"logit of further zeros: <column>"``, thresholds
        ``"<low>|<high>"``. Columns `estimate` (of the model as it was fitted), `lower` and `upper`,
        in the units of the data. NaN for a column that was dropped and for a variance that is not
        identified.

    Raises
    ------
    ValueError
        If a parameter is not one of the model, the model reproduces y exactly, or a generalised
        model misses its rows.

    References
    ----------
    .. [1] J. C. Pinheiro and D. M. Bates, "Mixed-effects models in S and S-PLUS", 2000, sec. 2.4.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import confidence_intervals
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> print(confidence_intervals(model, method="profile").round(2))
                                  estimate   lower   upper
    (Intercept)                     251.41  237.68  265.13
    Days                             10.47    7.36   13.58
    sd (Intercept)|Subject           24.74   14.38   37.72
    cor Days.(Intercept)|Subject      0.07   -0.48    0.69
    sd Days|Subject                   5.92    3.80    8.75
    sigma                            25.59   22.90   28.86
    """
    check_choice("method", method, METHODS)
    check_level(confidence_level)
    given = {"output": output, "sample_weight": sample_weight}
    fitted = open_model(model, X, y, **given)
    _refuse_exact(fitted)
    chosen = choose_parameters(fitted, parameters)
    table = _estimates(fitted).loc[[p.name for p in chosen]]
    if method == "bootstrap":
        result = bootstrap(
            model,
            X,
            y,
            n_bootstraps=n_bootstraps,
            kind=kind,
            factor=factor,
            confidence_level=confidence_level,
            random_state=random_state,
            **given,
        )
        return table.join(result.table[["lower", "upper"]])
    if method == "wald":
        rows = (X, y) if fitted.generalized else (None, None)
        coefficients = coefficient_table(
            model, *rows, dof=dof, confidence_level=confidence_level, **given
        )
        kind_of_wald = GeneralizedWald if fitted.generalized else _Wald
        wald = kind_of_wald(fitted, coefficients, confidence_level)
        found = [wald.interval(p, table["estimate"][p.name]) for p in chosen]
    else:
        curves = _open_curves(fitted, 'confidence_intervals(method="profile")')
        height = stats.chi2.ppf(confidence_level, 1)
        found = [_interval(curves, p, height) for p in chosen]
    table["lower"], table["upper"] = np.reshape(found, (-1, 2)).T
    return table


def _estimates(fitted) -> pd.DataFrame:
    known = generalized_estimates(fitted) if fitted.generalized else estimates_frame(fitted)
    return pd.DataFrame({"estimate": known.iloc[0]})


def profile(
    model,
    parameter,
    X=None,
    y=None,
    *,
    n_points=41,
    confidence_level=0.99,
    output=None,
    sample_weight=None,
):
    """The likelihood profiled on one parameter.

    At each value of the parameter the others are estimated again, by ML from the cross-products
    that the model keeps; only a generalised model needs its rows. A straight line of `zeta` against
    the value says that the Wald interval is as good.

    Parameters
    ----------
    model : mixed model or wrapper
        A fitted model, alone or in a Pipeline, a search or a TransformedTargetRegressor.
    parameter : str
        Its name as in the index of `confidence_intervals`.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    n_points : int, default=41
        Number of values, at least 3: half of them on each side of the ML estimate.
    confidence_level : float, default=0.99
        The values span the profile interval of this level.
    output : int, default=None
        Which output, where the model has several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any.

    Returns
    -------
    table : DataFrame
        Columns `value`, in the units of the data; `deviance`, -2 log-likelihood of ML there;
        `zeta`, the root of its rise above the minimum, negative below the estimate: within plus
        and minus 1.96 in the 95 % interval. ``table.attrs["estimate"]`` is the ML estimate.

    Raises
    ------
    ValueError
        If the model has no such parameter, it is not estimated, or a generalised model misses its
        rows.

    References
    ----------
    .. [1] D. M. Bates and D. G. Watts, "Nonlinear regression analysis and its applications", 1988,
       sec. 6.1.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_dyestuff
    >>> from sklme.inference import profile
    >>> X, y = load_dyestuff(return_X_y=True)
    >>> model = LinearMixedModel(random_effects="Batch").fit(X, y)
    >>> table = profile(model, "sigma", n_points=5, confidence_level=0.95)
    >>> print(table.round(2))
       value  deviance  zeta
    0  38.23    331.17 -1.96
    1  43.87    328.09 -0.87
    2  49.51    327.33  0.00
    3  58.58    328.55  1.10
    4  67.66    331.17  1.96
    """
    check_number("n_points", n_points, Integral, 3)
    check_level(confidence_level)
    if not isinstance(parameter, str):
        raise ValueError(f"parameter is {parameter!r}; it must be the name of one parameter")
    fitted = open_model(model, X, y, output=output, sample_weight=sample_weight)
    _refuse_exact(fitted)
    (chosen,) = choose_parameters(fitted, parameter)
    curves = _open_curves(fitted, "profile")
    curve, in_data = curves.of(chosen)
    if curve is None:
        raise ValueError(f"{parameter!r} was not estimated: the data cannot tell it")
    height = stats.chi2.ppf(confidence_level, 1)
    with limited(curves.flop):
        values, rise = _along(curve, height, n_points)
    zeta = np.sign(values - curve.estimate) * np.sqrt(np.maximum(rise, 0.0))
    table = pd.DataFrame(
        {"value": in_data(values), "deviance": rise + curves.minimum, "zeta": zeta}
    )
    table.attrs["estimate"] = float(in_data(curve.estimate))
    return table


def _open_curves(fitted, function: str):
    """The curves of either kind of model."""
    if not fitted.generalized:
        return _Curves(fitted)
    if not fitted.has_rows:
        raise ValueError(f"{function} of {type(fitted.model).__name__} {NEEDS_ROWS}")
    return GeneralizedCurves(fitted)


def _interval(curves, p: Parameter, height: float) -> tuple[float, float]:
    """Both ends, NaN for a parameter that was not estimated."""
    curve, in_data = curves.of(p)
    if curve is None:
        return np.nan, np.nan
    with limited(curves.flop):
        return tuple(float(in_data(curve.end(height, side))) for side in (-1, 1))


def _along(curve: Curve, height: float, n_points: int):
    """Values from the estimate outwards on both sides, each search close to the one before."""
    half = n_points // 2
    parts = []
    for side, n in ((-1, half), (1, n_points - half)):
        values = np.linspace(curve.estimate, curve.end(height, side), n + (side < 0))
        parts.append((values, curve.rise(values)))
    (below, fall), (above, rise) = parts
    return np.append(below[:0:-1], above), np.append(fall[:0:-1], rise)


class _Curves:
    """The curves of a linear mixed model."""

    def __init__(self, fitted: Fitted):
        fit, self.r = fitted.fit, fitted.r
        self.flop = dense_block(fit.gram)
        self.frame, self.profiler = fit.frame, Profiler(fit, fitted.r)
        self.map, self.intercept = coefficient_map(fit), fit.intercept
        y_scale = 2.0 * fit.gram.total * np.log(fit.frame.y_scale[self.r])
        self.minimum = self.profiler.minimum + y_scale - fit.weight_constant

    def of(self, p: Parameter) -> tuple[Curve | None, Callable]:
        """The curve of a parameter, and how its values become those of the data."""
        scale = float(self.frame.y_scale[self.r])
        scaled = lambda values: values * scale
        if p.kind == "sigma":
            return self.profiler.sigma(), scaled
        if p.kind == "sd":
            return self.profiler.sd(p.factor, p.a), scaled
        if p.kind == "cor":
            return self.profiler.correlation(p.factor, p.a, p.b), lambda values: values
        c = self.map[p.a]
        shift = float(self.frame.y_shift[self.r]) if self.intercept and p.a == 0 else 0.0
        curve = self.profiler.fixed(c) if c.any() else None
        return curve, lambda values: values * scale + shift


class _Wald:
    """Intervals from standard errors."""

    def __init__(self, fitted: Fitted, coefficients: pd.DataFrame, confidence_level: float):
        self.coefficients = coefficients
        self.errors = VarianceErrors(fitted.fit, fitted.r)
        self.z = stats.norm.isf(0.5 - 0.5 * confidence_level)

    def interval(self, p: Parameter, estimate: float) -> tuple[float, float]:
        """Both ends, NaN where there is no standard error."""
        if p.kind == "fixed":
            return tuple(self.coefficients[["lower", "upper"]].iloc[p.a])
        if p.kind == "cor":
            half = self.z * self.errors.atanh_correlation(p.factor, p.a, p.b)
            middle = np.arctanh(estimate) if abs(estimate) < 1.0 else np.nan
            return float(np.tanh(middle - half)), float(np.tanh(middle + half))
        sigma = p.kind == "sigma"
        error = self.errors.log_sigma() if sigma else self.errors.log_sd(p.factor, p.a)
        return float(estimate * np.exp(-self.z * error)), float(estimate * np.exp(self.z * error))


def _refuse_exact(fitted: Fitted) -> None:
    if np.atleast_1d(fitted.model.optimization_.exact_fit)[fitted.r]:
        raise ValueError("the model reproduces y exactly: its likelihood has no bound")
