"""The table of coefficients, and the covariance behind it."""

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.dof import Estimates, KnownTests, WaldTests, make_tests
from sklme._rows import check_choice
from sklme.inference._access import check_both_rows, check_level, open_model
from sklme.inference._auxiliary import auxiliaries

KINDS = ("satterthwaite", "kenward-roger", "normal", "residual")
AT_ZERO = {
    "satterthwaite": "does not lower the degrees of freedom",
    "kenward-roger": "counts like the other variances in the degrees of freedom",
}


def coefficient_table(
    model, X=None, y=None, *, dof=None, confidence_level=0.95, output=None, sample_weight=None
):
    """Estimates, standard errors, t or z tests and intervals of the fixed effects.

    Needs no rows. For a generalised model the rows give better standard errors: without them those
    of the coefficients take the variances and further parameters as known, with them they come from
    the observed information of all parameters jointly [4]_ (differences of the exact gradient of
    the approximated likelihood).

    Parameters
    ----------
    model : estimator object
        A fitted mixed model, alone or in a pipeline, a search or a target wrapper.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default=None
        Degrees of freedom; None is "satterthwaite" for linear mixed models and "normal", the only
        one there is, for generalised ones:

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
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any and X and y are given.

    Returns
    -------
    table : DataFrame
        One row a coefficient, "(Intercept)" first, all in units of y (of the linear predictor, for
        a generalised model) per unit of the column:

        - estimate
        - std_error
        - dof : degrees of freedom
        - statistic : estimate / std_error
        - p_value : two-sided, of the hypothesis that the coefficient is 0
        - lower, upper : ends of the interval

        A column that depends on earlier ones was dropped and has NaN. A generalised model has rows
        for its further parameters too: thresholds ``"<low>|<high>"`` before the coefficients;
        after them "log dispersion", "logit(power - 1)", on the scales that their names say and
        without a test, and ``"logit of further zeros: <column>"``; their standard errors need the
        rows. ``table.attrs`` holds "dof", "at_zero" (the variances that were estimated at zero), a
        "note" on what they do and, for a generalised model, "information": "observed" or
        "conditional" (on the variances and further parameters).

    Raises
    ------
    ValueError
        If Kenward-Roger is asked of a fit by ML, degrees of freedom of a generalised model, only
        one of X and y is given, they are not the rows of fit, or an argument is not one of those
        above.

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
    .. [4] Efron and Hinkley (1978), Assessing the accuracy of the maximum likelihood estimator:
       observed versus expected Fisher information, Biometrika 65, 457-482.

    Examples
    --------
    >>> from sklme import GeneralizedLinearMixedModel, LinearMixedModel
    >>> from sklme.datasets import load_cbpp, load_sleepstudy
    >>> from sklme.inference import coefficient_table
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> coefficient_table(model).round(3)[["estimate", "std_error", "dof", "p_value"]]
                 estimate  std_error   dof  p_value
    (Intercept)   251.405      6.825  17.0      0.0
    Days           10.467      1.546  17.0      0.0

    >>> X, y = load_cbpp(return_X_y=True)
    >>> model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    >>> coefficient_table(model, X, y).round(3)[["estimate", "std_error", "statistic", "p_value"]]
                 estimate  std_error  statistic  p_value
    (Intercept)    -0.932      0.304     -3.065    0.002
    period         -0.559      0.123     -4.534    0.000
    """
    check_level(confidence_level)
    fitted = open_for_tests(model, X, y, output, sample_weight)
    tests = open_tests(fitted, dof)
    rows = tests.rows(np.eye(len(fitted.names))[fitted.kept])
    full = Estimates(*(_spread(values, fitted.kept) for values in rows))
    table = t_table(full, fitted.names, confidence_level)
    if fitted.generalized:
        table = _with_further(fitted, table, confidence_level)
    table.attrs = notes(fitted, dof)
    return table


def vcov(model, X=None, y=None, *, kind="model", output=None, sample_weight=None):
    """Covariance matrix of the fixed effects.

    Needs no rows; for a generalised model the rows give the exact one, see `coefficient_table`.

    Parameters
    ----------
    model : estimator object
        A fitted mixed model, alone or in a pipeline, a search or a target wrapper.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    kind : {"model", "kenward-roger"}, default="model"
        With the variances taken as known, or corrected for their estimation [1]_; the latter needs
        a fit by REML. For a generalised model "model", with or without the rows.
    output : int, default=None
        Which output of a model of several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any and X and y are given.

    Returns
    -------
    covariance : DataFrame
        One row and one column a coefficient, "(Intercept)" first, in squared units of the
        coefficients; NaN for a column that was dropped.

    Raises
    ------
    ValueError
        If the correction is asked of a fit by ML or a generalised model, only one of X and y is
        given, or they are not the rows of fit.

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
    fitted = open_for_tests(model, X, y, output, sample_weight)
    if fitted.generalized and kind != "model":
        raise ValueError(f'kind="{kind}" is for linear mixed models: leave kind="model"')
    plain = None if fitted.generalized else "residual"
    values = open_tests(fitted, plain if kind == "model" else kind).covariance
    kept = np.where(fitted.kept, 1.0, np.nan)
    return pd.DataFrame(values * kept[:, None] * kept, fitted.names, fitted.names)


def open_for_tests(model, X, y, output, sample_weight=None):
    """The fitted model, with rows for the exact information where they are given."""
    check_both_rows(X, y)
    return open_model(model, X, y, output=output, sample_weight=sample_weight)


def open_tests(fitted, dof: str | None) -> WaldTests:
    """The engine's tests by the name of their degrees of freedom; None is the default."""
    if dof is not None:
        check_choice("dof", dof, KINDS)
    if not fitted.generalized:
        return make_tests(fitted.fit, fitted.r, dof or "satterthwaite")
    if dof not in (None, "normal"):
        raise ValueError(
            f'dof="{dof}" is for linear mixed models: tests of {type(fitted.model).__name__} are '
            'normal, dof="normal" or None'
        )
    return KnownTests(fitted.working, fitted.covariance)


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


def notes(fitted, dof: str | None) -> dict:
    """What a table says about itself in `attrs`."""
    zeros = tuple(fitted.of_output(fitted.model.optimization_.at_zero))
    if fitted.generalized:
        how = "observed" if fitted.has_rows else "conditional"
        return {"dof": "normal", "at_zero": zeros, "note": _note(zeros, how), "information": how}
    dof, note = dof or "satterthwaite", ""
    if zeros and dof in AT_ZERO:
        note = f"{_listed(zeros)}; a variance at zero {AT_ZERO[dof]}"
    return {"dof": dof, "at_zero": zeros, "note": note}


def _note(zeros: tuple, how: str) -> str:
    known = "standard errors take the variances and further parameters as known: pass X and y for "
    parts = [f"{known}those of the observed information"] if how == "conditional" else []
    if zeros and how == "observed":
        parts.append(f"{_listed(zeros)}; a variance at zero is left out of the information")
    return "; ".join(parts)


def _listed(zeros: tuple) -> str:
    return "estimated at zero: " + ", ".join(f"{name} of {key!r}" for key, name in zeros)


def _with_further(fitted, table: pd.DataFrame, confidence_level: float) -> pd.DataFrame:
    """The table with thresholds before the coefficients and dispersions after them."""
    found = auxiliaries(fitted)
    if not found:
        return table
    values, names = np.array([a.value for a in found]), [a.link_name for a in found]
    errors = np.full(len(found), np.nan)
    if fitted.has_rows:
        psi = fitted.rows.psi
        errors[:] = [fitted.std_error(a.functional.gradient(fitted.place, psi)) for a in found]
    further = t_table(
        Estimates(values, errors, np.full_like(values, np.inf)), names, confidence_level
    )
    further.loc[[not a.tested for a in found], ["statistic", "p_value"]] = np.nan
    first = hasattr(fitted.model, "thresholds_")
    return pd.concat([further, table] if first else [table, further])


def _spread(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    out = np.full(len(kept), np.nan)
    out[kept] = values
    return out
