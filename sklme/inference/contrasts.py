"""Tests of whole terms and of combinations of coefficients."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.dof import FTest
from sklme._rows import check_choice
from sklme.inference._access import check_level
from sklme.inference._hypotheses import Hypotheses
from sklme.inference.coefficients import notes, open_for_tests, open_tests, t_table


def anova(
    model, X=None, y=None, *, kind="III", dof=None, terms=None, output=None, sample_weight=None
):
    """F tests, or Wald's chi-square tests, of the terms of the fixed effects.

    Needs no rows; for a generalised model they give the observed information, see
    `coefficient_table`. For dummies (0 or 1, one column less than levels) the three types are
    those of SAS and of R's lmerTest:

    - "I": each term after those before it.
    - "II": each term after all terms that do not contain it. A term contains another one if it is
      that term times one or more factors.
    - "III": each term averaged over the levels, equally weighted, of the factors that it meets in
      other terms: main effects of factors compare marginal means.

    Columns that are coded otherwise count as numbers: with contrasts that sum to zero, type III is
    the same as for dummies.

    For a generalised model "after" is meant by the information of the coefficients, as if the
    log-likelihood were quadratic [3]_.

    Parameters
    ----------
    model : estimator object
        A fitted mixed model, alone or in a pipeline, a search or a target wrapper.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    kind : {"III", "II", "I"}, default="III"
        Type of the sums of squares.
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default=None
        Denominator degrees of freedom, see `coefficient_table`. Kenward-Roger also scales F.
    terms : dict of str -> list of str, default=None
        Columns of each term. Interactions are named after their parts, and so are their columns:
        ``{"a": ["a2", "a3"], "x": ["x"], "a:x": ["a2:x", "a3:x"]}``. A term whose columns
        are 0 or 1, never two of them in a row, is a factor. None means the terms of the formula
        for columns made by `from_formula`, and every column by itself for others.
    output : int, default=None
        Which output of a model of several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any and X and y are given.

    Returns
    -------
    table : DataFrame
        One row a term; of a linear mixed model:

        - sum_of_squares : mean_square times numerator_dof, in units of y squared
        - mean_square : F times the residual variance; with Kenward-Roger F before it is scaled
        - numerator_dof : number of independent hypotheses
        - denominator_dof
        - statistic : F
        - p_value

        and of a generalised one:

        - statistic : Wald's chi-square
        - dof : number of independent hypotheses
        - p_value

        ``table.attrs`` as in `coefficient_table`, and "kind".

    Raises
    ------
    ValueError
        If terms name columns that the model does not have, columns of interactions are not
        products of their parts by name, an empty combination of levels leaves a hypothesis of type
        III undefined, Kenward-Roger is asked of a fit by ML, or degrees of freedom of a generalised
        model.

    References
    ----------
    .. [1] Kuznetsova, Brockhoff and Christensen (2017), lmerTest package: tests in linear mixed
       effects models, Journal of Statistical Software 82(13).
    .. [2] Goodnight (1980), Tests of hypotheses in fixed effects linear models, Communications in
       Statistics A 9, 167-180.
    .. [3] Fox (2016), Applied regression analysis and generalized linear models, 3rd ed.,
       sec. 15.5.

    Examples
    --------
    >>> from sklme.datasets import load_machines
    >>> from sklme.formula import from_formula
    >>> from sklme.inference import anova
    >>> model = from_formula("score ~ Machine + (1 | Worker)", load_machines().frame)
    >>> anova(model).round(4)
             sum_of_squares  mean_square  ...  statistic  p_value
    Machine       1755.2633     877.6317  ...     87.7982      0.0
    <BLANKLINE>
    [1 rows x 6 columns]
    """
    check_choice("kind", kind, ("III", "II", "I"))
    fitted = open_for_tests(model, X, y, output, sample_weight)
    tests, hypotheses = open_tests(fitted, dof), Hypotheses(fitted, terms)
    found = {term.name: tests.joint(hypotheses.of(term, kind)) for term in hypotheses.terms}
    table = _joint_table(fitted, found)
    table.attrs = {**notes(fitted, dof), "kind": kind}
    return table


def contrast(
    model,
    L,
    X=None,
    y=None,
    *,
    joint=False,
    dof=None,
    confidence_level=0.95,
    output=None,
    sample_weight=None,
):
    """Estimate and test linear combinations of the fixed effects.

    Needs no rows; for a generalised model they give the observed information, see
    `coefficient_table`.

    Parameters
    ----------
    model : estimator object
        A fitted mixed model, alone or in a pipeline, a search or a target wrapper.
    L : array-like or dict
        The weights, one of:

        - dict of coefficient name -> weight: one combination
        - dict of label -> such a dict: several
        - array of shape (n_coefficients,) or (n_rows, n_coefficients) in the order of the
          coefficients, "(Intercept)" first
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    joint : bool, default=False
        Whether to test that all combinations are zero together.
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default=None
        Degrees of freedom, see `coefficient_table`.
    confidence_level : float, default=0.95
        Probability that an interval covers its combination.
    output : int, default=None
        Which output of a model of several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any and X and y are given.

    Returns
    -------
    table : DataFrame
        One row a combination, with the columns of `coefficient_table` (estimate, std_error, dof,
        statistic, p_value, lower, upper); with `joint` one row "joint" with those of `anova`.

    Raises
    ------
    ValueError
        If L names a coefficient that the model does not have or that was dropped, or has not one
        column a coefficient.

    See Also
    --------
    marginal_means : Means of the levels of a factor, and their differences.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import contrast
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> contrast(model, {"day 9": {"(Intercept)": 1, "Days": 9}}).round(2)
           estimate  std_error   dof  statistic  p_value   lower   upper
    day 9    345.61      14.63  17.0      23.63      0.0  314.75  376.47
    """
    check_level(confidence_level)
    fitted = open_for_tests(model, X, y, output, sample_weight)
    labels, weights = read_weights(L, fitted)
    tests = open_tests(fitted, dof)
    if joint:
        table = _joint_table(fitted, {"joint": tests.joint(weights)})
    else:
        table = t_table(tests.rows(weights), labels, confidence_level)
    table.attrs = notes(fitted, dof)
    return table


def read_weights(L, fitted) -> tuple[list, np.ndarray]:
    """Labels and weights (n_rows, n_coefficients) of combinations given in any of the forms."""
    if isinstance(L, Mapping):
        several = all(isinstance(row, Mapping) for row in L.values())
        rows = dict(L) if several and L else {0: L}
        labels = list(rows)
        weights = np.array([_row(row, fitted.names) for row in rows.values()])
    else:
        weights = np.atleast_2d(np.asarray(L, dtype=float))
        labels = list(range(len(weights)))
    p = len(fitted.names)
    if weights.ndim != 2 or weights.shape[1] != p or not np.isfinite(weights).all():
        raise ValueError(
            f"L has the shape {weights.shape}; it needs {p} finite columns: one for "
            f"each of {', '.join(map(repr, fitted.names))}"
        )
    return labels, without_dropped(weights, fitted)


def _row(row: Mapping, names: list[str]) -> np.ndarray:
    weights = np.zeros(len(names))
    for name, weight in row.items():
        if name not in names:
            known = ", ".join(map(repr, names))
            raise ValueError(f"L names the coefficient {name!r}; the model has {known}")
        if not isinstance(weight, Real):
            raise ValueError(f"the weight of {name!r} is {weight!r}; it must be a number")
        weights[names.index(name)] = weight
    return weights


def without_dropped(L: np.ndarray, fitted) -> np.ndarray:
    """L in the kept coefficients alone; combinations that cannot be estimated are refused.

    A dropped column is X_j = X_kept a: L beta does not depend on how the two share their effect
    where L_j = L_kept a.
    """
    fit = fitted.working
    dropped, frame = np.flatnonzero(~fitted.kept), fit.frame
    if not L[:, dropped].any():
        return L
    xx, kept, n = fit.gram.xx, np.flatnonzero(fitted.kept), int(fit.intercept)
    a = np.linalg.solve(xx[np.ix_(kept, kept)], xx[np.ix_(kept, dropped)])
    point = L.copy()
    point[:, n:] = (L[:, n:] - n * L[:, :1] * frame.x_shift) / frame.x_scale
    gap = np.abs(point[:, dropped] - point[:, kept] @ a)
    wrong = (gap > 1e-7 * (1.0 + np.abs(point).max(axis=1, keepdims=True))) & (L[:, dropped] != 0)
    if wrong.any():
        name = fitted.names[dropped[wrong.any(axis=0)][0]]
        raise ValueError(
            f"{name!r} was dropped, since it depends on columns before it in the data: a "
            "combination that needs it otherwise cannot be estimated"
        )
    return np.where(fitted.kept, L, 0.0)


def _joint_table(fitted, found: dict[str, FTest]) -> pd.DataFrame:
    if not fitted.generalized:
        return _f_table(found, fitted.residual_variance)
    F, dof = np.array([test[:2] for test in found.values()], dtype=float).reshape(-1, 2).T
    columns = {"statistic": F * dof, "dof": dof.astype(int), "p_value": stats.chi2.sf(F * dof, dof)}
    return pd.DataFrame(columns, index=list(found))


def _f_table(found: dict[str, FTest], residual_variance: float) -> pd.DataFrame:
    tests = np.array(list(found.values()), dtype=float).reshape(-1, 4)
    statistic, numerator, denominator, scale = tests.T
    mean_square = statistic / scale * residual_variance
    columns = {
        "sum_of_squares": mean_square * numerator,
        "mean_square": mean_square,
        "numerator_dof": numerator.astype(int),
        "denominator_dof": denominator,
        "statistic": statistic,
        "p_value": _f_tail(statistic, numerator, denominator),
    }
    return pd.DataFrame(columns, index=list(found))


def _f_tail(statistic, numerator, denominator) -> np.ndarray:
    """P(F > statistic); with infinite denominator that of chi-squared."""
    endless = stats.chi2.sf(statistic * numerator, numerator)
    finite = stats.f.sf(statistic, numerator, np.where(np.isinf(denominator), 1.0, denominator))
    return np.where(np.isinf(denominator), endless, finite)
