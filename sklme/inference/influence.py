"""What one group does to the fit: influence measures and predictions without it."""

import numpy as np
import pandas as pd

from sklme._engine import predict
from sklme._engine.lmm import LinearFit
from sklme._engine.units import coefficient_map
from sklme._engine.without import Rest, expected, rebased
from sklme._terms import factor_label
from sklme.inference._left_out import LeaveOut, open_task
from sklme.inference._variances import level_index


def group_influence(
    model, factor=None, X=None, y=None, *, theta="frozen", sample_weight=None, output=None
):
    """How far the fixed coefficients move when the rows of one level are left out.

    Needs rows, except with frozen variances, one factor, and fixed columns that all vary by level
    as random effects too (``{"subject": ["1", "day"]}`` with `day` the only fixed column).

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
    factor : str, int or tuple, default=None
        A key of `random_effects`, whose levels are left out in turn; the only one need not be
        named.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        The rows of fit.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Their responses.
    theta : {"frozen", "refit"}, default="frozen"
        Whether covariances and residual variance stay those of all rows or are estimated anew
        without each level.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row a level. Columns, of which none has a unit but the first:

        - n_rows: rows of the level; the sum of their weights where these are frequencies.
        - cooks_distance: squared distance of the coefficients from those without the level, in the
          metric of their covariance, divided by their number.
        - mdffits: the same in the metric of the covariance without the level.
        - covratio: determinant of the covariance without the level over that with it; above 1,
          the level makes the estimates more precise.
        - dfbeta <name>: what the level adds to a coefficient, in standard errors of the fit
          without it.
        - note: what went wrong without the level, mostly empty. Where a coefficient cannot be
          estimated without it, the measures are missing.

    Raises
    ------
    ValueError
        If rows are needed or are not those of fit, or the factor is unknown or has one level.

    References
    ----------
    .. [1] R. Christensen, L. M. Pearson and W. Johnson, "Case-deletion diagnostics for mixed
       models", Technometrics 34, 1992.
    .. [2] A. Loy and H. Hofmann, "HLMdiag: A suite of diagnostics for hierarchical linear models in
       R", J. Stat. Softw. 56(5), 2014, eqs. 9 to 12.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import group_influence
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> table = group_influence(model)
    >>> print(table["cooks_distance"].nlargest(2).round(3).to_string())
    Subject
    309    0.149
    335    0.129
    """
    task = open_task("group_influence", model, factor, X, y, theta, sample_weight, output)
    if task.design is None and (theta == "refit" or task.own is None):
        raise ValueError(_needs_rows(theta, task))
    beta, covariance, kept, notes = _coefficients(task)
    columns = {"n_rows": task.sizes, **_measures(task, beta, covariance, kept)}
    return pd.DataFrame(columns, level_index(task.fitted, task.t)).assign(note=notes)


def leave_one_group_out(
    model, factor=None, X=None, y=None, *, theta="refit", sample_weight=None, output=None
):
    """Predict every row as if its level had not been in the data.

    The same as to fit once for each level without its rows and to predict them (see
    `sklearn.model_selection.LeaveOneGroupOut`). With one factor all folds are fitted at once, ten
    to a hundred times faster; with several, each is a search that starts at the estimate of all
    rows. Needs rows.

    Parameters
    ----------
    model : estimator object
        A fitted LinearMixedModel, or a pipeline, search or target wrapper around one. Steps before
        the model stay as they were fitted to all rows.
    factor : str, int or tuple, default=None
        A key of `random_effects`, whose levels are left out in turn; the only one need not be
        named.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The rows of fit.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their responses.
    theta : {"refit", "frozen"}, default="refit"
        Whether covariances and residual variance are estimated anew without each level, or stay
        those of all rows.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit.
    output : int, default=None
        Which output, for a model of several.

    Returns
    -------
    table : DataFrame
        One row for each of X, with its index. Columns:

        - prediction: fixed part and effects of the other factors, in units of y.
        - std: standard deviation of the expected response, that of the unknown level included
          (its prior); variances are taken as known. In units of y.
        - fold: the level that was left out.
        - note: what went wrong without the level, mostly empty. Where the others do not determine
          the model, the prediction is missing.

    Raises
    ------
    ValueError
        If rows are missing or are not those of fit, or the factor is unknown or has one level.

    References
    ----------
    .. [1] R. Christensen, L. M. Pearson and W. Johnson, "Case-deletion diagnostics for mixed
       models", Technometrics 34, 1992.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inference import leave_one_group_out
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> table = leave_one_group_out(model, X=X, y=y)
    >>> error = ((table["prediction"] - y) ** 2).mean() ** 0.5
    >>> print(f"{error:.1f} ms for a person who was not in the data")
    49.6 ms for a person who was not in the data
    """
    task = open_task("leave_one_group_out", model, factor, X, y, theta, sample_weight, output)
    if task.design is None:
        raise ValueError(
            "leave_one_group_out needs the rows that the model was fitted to: pass X and y"
        )
    prediction, std, notes = _predictions(task)
    codes = task.rows.codes[task.t]
    fold = pd.Series(_objects([*_labels(task), None])[codes]).infer_objects()
    note = _objects([*notes, ""])[codes]
    index = getattr(task.fitted.X, "index", None)
    columns = {"prediction": prediction, "std": std, "fold": fold.to_numpy(), "note": note}
    return pd.DataFrame(columns, index)


def _needs_rows(theta: str, task: LeaveOut) -> str:
    why = (
        'with theta="refit"'
        if theta == "refit"
        else "with several factors"
        if len(task.fit.structures) > 1
        else "where a fixed column is not a random slope too"
    )
    return f"group_influence {why} needs the rows that the model was fitted to: pass X and y"


def _coefficients(task: LeaveOut):
    """beta and its covariance without each level, in the frame, what was kept, and notes."""
    q, p = len(task.own.total), len(task.fit.beta[0])
    beta, covariance = np.full((q, p), np.nan), np.full((q, p, p), np.nan)
    kept = np.ones((q, p), bool)
    if task.folds is not None:
        beta, kept = task.folds.beta, task.folds.kept.copy()
        covariance = task.folds.C * task.folds.s2[:, None, None]
    elif task.deleted is not None:
        beta, covariance = task.deleted.beta, task.deleted.C * task.fit.s2[0]
    notes = [_dropped(task, k) for k in kept]
    for level, rest in task.rests():
        kept[level] = False
        notes[level] = rest if isinstance(rest, str) else _note(task, rest.fit)
        if not isinstance(rest, str):
            beta[level], covariance[level], kept[level] = rebased(rest.fit, task.fit)
    return beta, covariance, kept.all(axis=1), notes


def _measures(task: LeaveOut, beta, covariance, kept) -> dict[str, np.ndarray]:
    """Cook's distance and what is like it; missing where a column was dropped."""
    fit, p = task.fit, max(beta.shape[1], 1)
    moved = fit.beta[0] - beta
    safe = np.where(kept[:, None, None], covariance, np.eye(beta.shape[1]))
    whole = fit.xvx[0] / fit.s2[0]
    measures = {
        "cooks_distance": np.einsum("qi,ij,qj->q", moved, whole, moved) / p,
        "mdffits": np.einsum("qi,qi->q", moved, _solve(safe, moved)) / p,
        "covratio": np.exp(np.linalg.slogdet(safe)[1] + np.linalg.slogdet(whole)[1]),
    }
    C = coefficient_map(fit)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = moved @ C.T / np.sqrt(np.einsum("ai,qij,aj->qa", C, safe, C))
    change[:, ~fit.columns] = np.nan
    names = zip(task.fitted.names, change.T, strict=True)
    measures |= {f"dfbeta {name}": column for name, column in names}
    return {name: np.where(kept, values, np.nan) for name, values in measures.items()}


def _solve(covariance, moved):
    return np.linalg.solve(covariance, moved[..., None])[..., 0]


def _predictions(task: LeaveOut):
    """Expected response and its standard deviation for every row, and a note for each level."""
    rows, t = task.rows, task.t
    codes = rows.codes[t]
    mean, variance = np.full(len(codes), np.nan), np.full(len(codes), np.nan)
    notes = [""] * len(task.own.total)
    if task.folds is not None:
        mean, variance = _at_once(task)
        notes = [_dropped(task, k) for k in task.folds.kept]
    elif task.deleted is not None:
        mean[task.used], variance[task.used] = task.deleted.mean, task.deleted.variance
    for level, rest in task.rests():
        notes[level] = rest if isinstance(rest, str) else _note(task, rest.fit)
        mean[codes == level] = variance[codes == level] = np.nan
        if not isinstance(rest, str):
            _predict_rows(task, rest, np.flatnonzero(codes == level), mean, variance)
    same = Rest(task.fit, tuple(np.arange(f.n_levels) for f in task.fit.gram.factors))
    _predict_rows(task, same, np.flatnonzero(codes < 0), mean, variance)
    return mean if rows.offset is None else mean + rows.offset, np.sqrt(variance), notes


def _at_once(task: LeaveOut):
    """Every row by the fold of its level, for one factor."""
    fit, folds, codes = task.fit, task.folds, task.rows.codes[0]
    new = predict.new_rows(fit, task.rows.X, task.rows.codes, task.rows.slopes)
    scale = fit.frame.y_scale[0]
    mean = fit.frame.y_shift[0] + scale * np.einsum("np,np->n", new.X, folds.beta[codes])
    fixed = np.einsum("np,npr,nr->n", new.X, folds.C[codes], new.X)
    prior = (np.einsum("na,nab->nb", new.z[0], folds.Lambda[codes]) ** 2).sum(axis=1)
    return mean, (fixed + prior) * folds.s2[codes] * scale**2


def _predict_rows(task: LeaveOut, rest: Rest, at: np.ndarray, mean, variance) -> None:
    """Fill in some rows by the fit to the other levels."""
    if not len(at):
        return
    rows = task.rows
    codes = [
        np.where(c[at] >= 0, place[c[at]], -1)
        for c, place in zip(rows.codes, rest.places, strict=True)
    ]
    new = predict.new_rows(rest.fit, rows.X[at], codes, [z[at] for z in rows.slopes])
    mean[at] = expected(rest.fit, new)
    variance[at] = predict.variance(rest.fit, new)[:, 0]


def _dropped(task: LeaveOut, kept: np.ndarray) -> str:
    if kept.all():
        return ""
    names = np.array(task.fitted.names, dtype=object)[task.fit.columns][~kept]
    return f"without this level {', '.join(names)} cannot be estimated"


def _note(task: LeaveOut, rest: LinearFit) -> str:
    """What the fit without a level lacks."""
    lost = task.fit.columns & ~rest.columns
    kept = ~lost[task.fit.columns]
    names = [
        f"{term.names[i]} by {factor_label(term.key)}"
        for term, at in zip(task.fitted.model._terms, rest.unidentified, strict=True)
        for i in at
    ]
    notes = [_dropped(task, kept)] if lost.any() else []
    if names:
        notes.append(f"without this level the variance of {', '.join(names)} is not identified")
    return "; ".join(notes)


def _objects(values: list) -> np.ndarray:
    """An array that ends with what stands for code -1, a level in rows of weight 0 only."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _labels(task: LeaveOut) -> list:
    """Levels of the factor; those of combinations as tuples."""
    levels = task.fitted.model.levels_[task.fitted.keys[task.t]]
    return [tuple(one) for one in levels] if np.ndim(levels) == 2 else list(levels)
