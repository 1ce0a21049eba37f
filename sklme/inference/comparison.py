"""Comparison of fitted models by likelihood ratio, and the test of a variance at zero."""

from itertools import pairwise
from numbers import Integral

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils import check_random_state

from sklme._engine import at_zero
from sklme._engine.lmm import LinearFit
from sklme._engine.simulate import kept_gram, refit
from sklme._rows import check_choice, check_number
from sklme._terms import factor_label
from sklme.inference._access import Fitted, check_both_rows, choose_factor, open_model
from sklme.inference._generalized_comparison import (
    check_comparable,
    is_within,
    measures,
    open_hypotheses,
)
from sklme.inference._nulls import generalized_null, linear_null, p_value_of

NULLS = ("auto", "exact", "simulated", "mixture")
SAME = 1e-8  # relative difference of sums of squares that is rounding
LOG_2_PI = np.log(2.0 * np.pi)


def compare_models(*models, X=None, y=None, output=None, sample_weight=None):
    """Likelihood-ratio tests of nested models, with their information criteria.

    Linear mixed models that were fitted by REML and differ in their fixed effects, or were fitted
    partly by ML, are compared by ML: refitted from the cross-products that they keep. Generalised
    models are compared by their approximated likelihoods, which all have to be of the same
    approximation. Needs no rows.

    Parameters
    ----------
    *models : mixed models or wrappers, or one dict
        Two or more models fitted to the same rows and response, all linear or all generalised, or a
        dict of them by name.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit. Generalised models keep nothing of the response: with X and y they are
        checked to be models of these. For linear ones not used.
    y : array-like of shape (n_samples,), default=None
        Their responses.
    output : int, default=None
        Which output, where the models have several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where generalised models had any and X and y are given.

    Returns
    -------
    table : DataFrame
        A row for each model, by number of parameters; index "model 1", ... in the order given, or
        the names of the dict. Columns `n_parameters`; `aic`; `bic`, with N rows; `log_likelihood`;
        `deviance`, -2 log-likelihood; and against the row above `statistic`, the difference of the
        deviances, `dof` and `p_value` from chi-square, NaN where no parameter is added or the
        family is not a special case of the other. Where a variance, a dispersion or a share of
        zeros is at its limit under the smaller model the p value is too large (`variance_test` has
        the right one of a variance).
        ``table.attrs["criterion"]`` is "ML" or "REML", ``table.attrs["note"]`` says what was done.

    Raises
    ------
    ValueError
        If the models were not fitted to the same rows, weights and response, one of them
        reproduces y exactly, or generalised models differ in their approximation or are of
        probabilities and densities.
    TypeError
        If linear and generalised models are mixed.

    References
    ----------
    .. [1] J. C. Pinheiro and D. M. Bates, "Mixed-effects models in S and S-PLUS", 2000, sec. 2.4.1.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import compare_models
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> level = LinearMixedModel(random_effects="Subject").fit(X, y)
    >>> slope = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> table = compare_models({"level": level, "slope": slope})
    >>> print(table[["n_parameters", "aic", "statistic", "dof"]].round(2))
           n_parameters      aic  statistic  dof
    level             4  1794.47        NaN  NaN
    slope             6  1755.63      42.84  2.0
    """
    check_both_rows(X, y)
    named = _named(models)
    given = {"output": output, "sample_weight": sample_weight}
    fitted = {name: open_model(model, X, y, **given) for name, model in named.items()}
    if all(f.generalized for f in fitted.values()):
        return _compare_generalized(fitted)
    _refuse_mixture(fitted)
    _check_same_data(list(fitted), list(fitted.values()))
    reml, note = _criterion(list(fitted.values()))
    table = _tested({name: _measures(f, reml) for name, f in fitted.items()})
    table.attrs = {"criterion": "REML" if reml else "ML", "note": note}
    return table


def _tested(rows: dict[str, dict]) -> pd.DataFrame:
    """The table by number of parameters, each model against the one above it."""
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.sort_values("n_parameters", kind="stable")
    table["statistic"] = -table["deviance"].diff()
    table["dof"] = table["n_parameters"].diff()
    tested = table["dof"] > 0
    table.loc[~tested, "statistic"] = np.nan
    p = stats.chi2.sf(table["statistic"].clip(lower=0.0), table["dof"].where(tested, 1.0))
    table["p_value"] = np.where(tested, p, np.nan)
    return table


def _compare_generalized(fitted: dict) -> pd.DataFrame:
    check_comparable(fitted)
    table = _tested({name: measures(f) for name, f in fitted.items()})
    n = next(iter(fitted.values())).fit.n_quadrature
    how = "Laplace's approximation" if n == 1 else f"adaptive quadrature with {n} nodes"
    note = f"models fitted by ML, by {how}"
    for above, name in pairwise(table.index):
        if not is_within(fitted[above], fitted[name]):
            table.loc[name, ["statistic", "p_value"]] = np.nan
            note += f"; {above!r} is not a special case of {name!r}, so that their ratio is no test"
    table.attrs = {"criterion": "ML", "note": note}
    return table


def _refuse_mixture(fitted: dict) -> None:
    for name, f in fitted.items():
        if f.generalized:
            other = next(name for name, f in fitted.items() if not f.generalized)
            raise TypeError(
                f"compare_models takes linear or generalised models, not both: {other!r} is linear "
                f"and {name!r} is {type(f.model).__name__}"
            )


def variance_test(
    model,
    factor=None,
    coefficient=None,
    *,
    null="auto",
    n_simulations=None,
    random_state=None,
    verbose=0,
    output=None,
    X=None,
    y=None,
    sample_weight=None,
):
    """Test whether the variance of a random coefficient is zero.

    The restricted likelihood-ratio test; a model fitted by ML is refitted by REML from its
    cross-products. For a generalised model the likelihood-ratio test, which needs the rows.

    Parameters
    ----------
    model : mixed model or wrapper
        A fitted model, alone or in a Pipeline, a search or a TransformedTargetRegressor.
    factor : str, int or tuple, default=None
        The factor; the only one may be left out.
    coefficient : str, default=None
        Its coefficient, "(Intercept)" or a column; the only one may be left out. Covariances with
        the other coefficients are zero with it.
    null : {"auto", "exact", "simulated", "mixture"}, default="auto"
        Distribution of the statistic under the hypothesis:

        - "exact": the finite-sample distribution of [1]_, drawn from its spectral form; for a
          linear mixed model with one variance beside sigma.
        - "simulated": both models fitted to data drawn under the hypothesis.
        - "mixture": half chi-square with as many degrees of freedom as covariances vanish, half
          with one more [2]_, [3]_; for many levels.
        - "auto": "exact" where it exists, else "mixture".
    n_simulations : int, default=None
        Draws; None is 10 000 for "exact" and 1000 for "simulated".
    random_state : int, RandomState instance or None, default=None
        Source of the draws.
    verbose : int, default=0
        1 prints progress of "simulated".
    output : int, default=None
        Which output, where the model has several.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit, for a generalised model.
    y : array-like of shape (n_samples,), default=None
        Their responses, for a generalised model.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any; whole numbers for "simulated".

    Returns
    -------
    table : DataFrame
        One row, index "<coefficient>|<factor>". Columns `statistic`, twice the difference of the
        (restricted) log-likelihoods; `p_value`, for draws (1 + number as large) / (1 + draws);
        `null`, the distribution used; `dof`, the covariances that vanish with the variance;
        `n_simulations`, 0 for the mixture.

    Raises
    ------
    ValueError
        If the model has no such variance, `null` does not exist for it, or a generalised model
        misses its rows.

    References
    ----------
    .. [1] C. M. Crainiceanu and D. Ruppert, "Likelihood ratio tests in linear mixed models with
       one variance component", J. R. Statist. Soc. B 66, 2004.
    .. [2] S. G. Self and K.-Y. Liang, "Asymptotic properties of maximum likelihood estimators and
       likelihood ratio tests under nonstandard conditions", J. Am. Statist. Assoc. 82, 1987.
    .. [3] D. O. Stram and J. W. Lee, "Variance components testing in the longitudinal mixed effects
       model", Biometrics 50, 1994.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import variance_test
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel(random_effects={"Subject": ["1", "Days"]}).fit(X, y)
    >>> table = variance_test(model, coefficient="Days")
    >>> print(table[["statistic", "dof", "null"]].round(2))
                  statistic  dof     null
    Days|Subject      42.84    1  mixture
    """
    check_choice("null", null, NULLS)
    if n_simulations is not None:
        check_number("n_simulations", n_simulations, Integral, 1)
    fitted = open_model(model, X, y, output=output, sample_weight=sample_weight)
    _refuse_exact([fitted])
    t = choose_factor(fitted, factor)
    a = _choose_coefficient(fitted, t, coefficient)
    rng = check_random_state(random_state)
    if fitted.generalized:
        null = generalized_null(fitted, null)
        h = open_hypotheses(fitted, t, a)
        ratio = h.statistic
    else:
        h = at_zero.hypotheses(fitted.fit, fitted.r, t, a)
        ratio, null = float(h.ratio(h.statistics)[0]), linear_null(h, null)
    p, n = p_value_of(h, null, ratio, n_simulations, rng, verbose)
    term = fitted.model._terms[t]
    return pd.DataFrame(
        {"statistic": ratio, "p_value": p, "null": null, "dof": h.dof, "n_simulations": n},
        index=[f"{term.names[a]}|{factor_label(term.key)}"],
    )


def _choose_coefficient(fitted, t: int, coefficient) -> int:
    """The position of a coefficient whose variance is in the model."""
    term, structure = fitted.model._terms[t], fitted.working.structures[t]
    known = ", ".join(map(repr, term.names))
    if coefficient is None and len(term.names) > 1:
        raise ValueError(f"{term.key!r} has several coefficients, choose one: {known}")
    name = term.names[0] if coefficient is None else str(coefficient)
    if name not in term.names:
        raise ValueError(f"{term.key!r} has no coefficient {coefficient!r}; it has {known}")
    a = term.names.index(name)
    if not any(a in block for block in structure.blocks):
        raise ValueError(f"the data cannot tell the variance of {name!r} by {term.key!r}")
    return a


def _named(models) -> dict:
    if len(models) == 1 and isinstance(models[0], dict):
        named = {str(name): model for name, model in models[0].items()}
    else:
        named = {f"model {i + 1}": model for i, model in enumerate(models)}
    if len(named) < 2:
        raise ValueError("compare_models needs two models or more")
    return named


def _criterion(fitted: list[Fitted]) -> tuple[bool, str]:
    """Whether the REML criterion can be compared, and what to say of it."""
    _refuse_exact(fitted)
    methods = {f.fit.reml for f in fitted}
    if methods == {False}:
        return False, "models fitted by ML"
    if methods == {True, False}:
        return False, "models fitted by REML refitted by ML, to compare with those fitted by ML"
    if len({_fixed_effects(f) for f in fitted}) == 1:
        return True, "models fitted by REML with the same fixed effects, compared as they are"
    return (
        False,
        "models refitted by ML: REML likelihoods of different fixed effects do not compare",
    )


def _fixed_effects(f: Fitted) -> tuple:
    return tuple(np.array(f.names, dtype=object)[f.kept])


def _measures(f: Fitted, reml: bool) -> dict:
    fit = f.fit
    deviance = float(fit.criterion[f.r]) if fit.reml == reml else _ml_deviance(fit, f.r)
    n = int(fit.columns.sum()) + sum(s.n_theta for s in fit.structures) + 1
    return {
        "n_parameters": n,
        "aic": deviance + 2.0 * n,
        "bic": deviance + n * np.log(fit.gram.total),
        "log_likelihood": -0.5 * deviance,
        "deviance": deviance,
    }


def _ml_deviance(fit: LinearFit, r: int) -> float:
    """-2 log-likelihood of the ML fit, in units of the data."""
    total = fit.gram.total
    value = refit(kept_gram(fit, r), fit.structures, reml=False).criterion[0]
    value += total * (1.0 + LOG_2_PI + 2.0 * np.log(fit.frame.y_scale[r]))
    return float(value - fit.weight_constant)


def _refuse_exact(fitted: list) -> None:
    if any(np.atleast_1d(f.model.optimization_.exact_fit)[f.r] for f in fitted):
        raise ValueError("a model reproduces y exactly: its likelihood has no bound")


def _check_same_data(names: list[str], fitted: list[Fitted]) -> None:
    first = fitted[0]
    for name, other in zip(names[1:], fitted[1:], strict=True):
        a, b = first.fit.gram, other.fit.gram
        same_rows = a.n_rows == b.n_rows and np.isclose(a.total, b.total, rtol=1e-12)
        if not same_rows or not _same_response(first, other):
            raise ValueError(
                f"{names[0]!r} and {name!r} were not fitted to the same rows, weights and response"
            )


def _same_response(a: Fitted, b: Fitted) -> bool:
    """Whether the moments of y agree; with different offsets they are those of different y."""
    if a.model.offset != b.model.offset:
        return True
    if a.fit.intercept and b.fit.intercept:
        (mean, spread), (other_mean, other_spread) = _about_mean(a), _about_mean(b)
        close = abs(mean - other_mean) <= SAME * (np.sqrt(spread / a.fit.gram.total) + abs(mean))
        return bool(close and np.isclose(spread, other_spread, rtol=SAME))
    return bool(np.isclose(_sum_of_squares(a), _sum_of_squares(b), rtol=SAME))


def _about_mean(f: Fitted) -> tuple[float, float]:
    """Weighted mean and sum of squares about it, from the cross-products with the intercept."""
    g, frame, r = f.fit.gram, f.fit.frame, f.r
    scale = frame.y_scale[r]
    mean = g.xy[0, r] / g.xx[0, 0]
    return frame.y_shift[r] + scale * mean, scale**2 * (g.yy[r] - mean * g.xy[0, r])


def _sum_of_squares(f: Fitted) -> float:
    """Weighted y'y in units of the data; y is not shifted where there is no intercept."""
    g, frame, r = f.fit.gram, f.fit.frame, f.r
    total = frame.y_scale[r] ** 2 * g.yy[r]
    if f.fit.intercept:
        shift = frame.y_shift[r]
        total += 2.0 * shift * frame.y_scale[r] * g.xy[0, r] + shift**2 * g.xx[0, 0]
    return float(total)
