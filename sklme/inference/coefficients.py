"""The table of coefficients, and the covariance behind it."""

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.dof import Estimates, WaldTests, make_tests
from sklme._rows import check_choice
from sklme.inference._access import Fitted, check_level, open_model

KINDS = ("satterthwaite", "kenward-roger", "normal", "residual")
AT_ZERO = {
    "satterthwaite": "does not lower the degrees of freedom",
    "kenward-roger": "counts like the other variances in the degrees of freedom",
}


def coefficient_table(
    model, X=None, y=None, *, dof="satterthwaite", confidence_level=0.95, output=None
):
    """Estimates, standard errors, t tests and intervals of the fixed effects.

    Needs no rows.

    Parameters
    ----------
    model : estimator object
        A fitted `LinearMixedModel`, alone or in a pipeline, a search or a target wrapper.
    X : None
        Not used.
    y : None
        Not used.
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default="satterthwaite"
        Degrees of freedom:

        - "satterthwaite": from the variance of the variance estimates [1]_, [2]_. A variance that
          was estimated at zero is on the boundary, where the likelihood does not change with it
          in first order: it drops out, and the degrees of freedom are those of the model
          without it.
        - "kenward-roger": moments matched to those of F, with standard errors corrected for the
          estimation of the variances [3]_; needs a fit by REML. A variance at zero is kept as one
          that was estimated.
        - "normal": infinite.
        - "residual": N - p, rows less coefficients.

        Without random effects the first two are N - p.
    confidence_level : float, default=0.95
        Probability that an interval covers its coefficient.
    output : int, default=None
        Which output of a model of several.

    Returns
    -------
    table : DataFrame
        One row a coefficient, "(Intercept)" first, all in units of y per unit of the column:

        - estimate
        - std_error
        - dof : degrees of freedom
        - statistic : estimate / std_error
        - p_value : two-sided, of the hypothesis that the coefficient is 0
        - lower, upper : ends of the interval

        A column that depends on earlier ones was dropped and has NaN. ``table.attrs`` holds "dof",
        "at_zero" (the variances that were estimated at zero) and a "note" on what they do.

    Raises
    ------
    ValueError
        If Kenward-Roger is asked of a fit by ML or an argument is not one of those above.

    See Also
    --------
    anova : F tests of whole terms.
    contrast : Tests of combinations of coefficients.

    References
    ----------
    .. [1] Fai and Cornelius (1996), Approximate F-tests of multiple degree of freedom hypotheses in
       generalized least squares analyses of unbalanced split-plot experiments, Journal of
       Statistical Computation and Simulation 54, 363-378.
    .. [2] Kuznetsova, Brockhoff and Christensen (2017), lmerTest package: tests in linear mixed
       effects models, Journal of Statistical Software 82(13), sec. 2.2.
    .. [3] Kenward and Roger (1997), Small sample inference for fixed effects from restricted
       maximum likelihood, Biometrics 53, 983-997.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import coefficient_table
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> coefficient_table(model).round(3)[["estimate", "std_error", "dof", "p_value"]]
                 estimate  std_error   dof  p_value
    (Intercept)   251.405      6.825  17.0      0.0
    Days           10.467      1.546  17.0      0.0
    """
    check_level(confidence_level)
    fitted = open_model(model, output=output)
    tests = open_tests(fitted, dof)
    rows = tests.rows(np.eye(len(fitted.names))[fitted.kept])
    full = Estimates(*(_spread(values, fitted.kept) for values in rows))
    table = t_table(full, fitted.names, confidence_level)
    table.attrs = notes(fitted, dof)
    return table


def vcov(model, X=None, y=None, *, kind="model", output=None):
    """Covariance matrix of the fixed effects.

    Needs no rows.

    Parameters
    ----------
    model : estimator object
        A fitted `LinearMixedModel`, alone or in a pipeline, a search or a target wrapper.
    X : None
        Not used.
    y : None
        Not used.
    kind : {"model", "kenward-roger"}, default="model"
        With the variances taken as known, or corrected for their estimation [1]_; the latter needs
        a fit by REML.
    output : int, default=None
        Which output of a model of several.

    Returns
    -------
    covariance : DataFrame
        One row and one column a coefficient, "(Intercept)" first, in squared units of the
        coefficients; NaN for a column that was dropped.

    Raises
    ------
    ValueError
        If the correction is asked of a fit by ML.

    References
    ----------
    .. [1] Kenward and Roger (1997), Small sample inference for fixed effects from restricted
       maximum likelihood, Biometrics 53, 983-997, eq. 3.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_dyestuff
    >>> from sklme.inference import vcov
    >>> X, y = load_dyestuff(return_X_y=True, as_frame=True)
    >>> model = LinearMixedModel(random_effects="Batch").fit(X, y)
    >>> vcov(model).round(2)
                 (Intercept)
    (Intercept)       375.72
    """
    check_choice("kind", kind, ("model", "kenward-roger"))
    fitted = open_model(model, output=output)
    values = open_tests(fitted, "residual" if kind == "model" else kind).covariance
    kept = np.where(fitted.kept, 1.0, np.nan)
    return pd.DataFrame(values * kept[:, None] * kept, fitted.names, fitted.names)


def open_tests(fitted: Fitted, dof: str) -> WaldTests:
    """The engine's tests by the name of their degrees of freedom."""
    check_choice("dof", dof, KINDS)
    return make_tests(fitted.fit, fitted.r, dof)


def t_table(rows: Estimates, index, confidence_level: float) -> pd.DataFrame:
    """Estimates with their t tests and intervals."""
    estimate, std_error, dof = rows
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = estimate / std_error
    half = stats.t.ppf(0.5 + 0.5 * confidence_level, dof) * std_error
    columns = {
        "estimate": estimate,
        "std_error": std_error,
        "dof": dof,
        "statistic": statistic,
        "p_value": 2.0 * stats.t.sf(np.abs(statistic), dof),
        "lower": estimate - half,
        "upper": estimate + half,
    }
    return pd.DataFrame(columns, index=index)


def notes(fitted: Fitted, dof: str) -> dict:
    """What a table says about itself in `attrs`."""
    zeros = tuple(fitted.of_output(fitted.model.optimization_.at_zero))
    note = ""
    if zeros and dof in AT_ZERO:
        names = ", ".join(f"{name} of {key!r}" for key, name in zeros)
        note = f"estimated at zero: {names}; a variance at zero {AT_ZERO[dof]}"
    return {"dof": dof, "at_zero": zeros, "note": note}


def _spread(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    out = np.full(len(kept), np.nan)
    out[kept] = values
    return out
