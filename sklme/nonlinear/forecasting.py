"""How well a few samples of a patient forecast the later ones, for patients held out."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import _safe_split

from sklme._engine.nlme.simulate import simulate
from sklme._rows import check_choice, check_number
from sklme.nonlinear._design import Design
from sklme.nonlinear._estimate import engine_method
from sklme.nonlinear._known import learn_effects, roots
from sklme.nonlinear._observed import observe, time_column, unwrap
from sklme.nonlinear._table import Groups, Table
from sklme.nonlinear._warm import fit_from
from sklme.nonlinear.posterior import Posterior

ROWS = ("common", "later")
DRAWS = 500  # of each forecast


@dataclass(frozen=True, eq=False)
class ForecastValidation:
    """Forecasts of samples from earlier ones of the same group.

    Parameters
    ----------
    table : DataFrame
        By `n_known`: `n_groups` and `n_rows` forecast; `rmse`, in the units of y; `mean_error`,
        of forecast less observed; `log_rmse`, of log forecast less log observed, where both are
        positive; `coverage`, the share of samples in their prediction interval.
    forecasts : DataFrame
        Every forecast: `n_known`, `subject`, `time`, `observed`, `predicted`, `lower`, `upper`,
        `fold`.
    confidence_level : float
        Of the intervals.

    See Also
    --------
    forecast_validate : What makes it.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, forecast_validate
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age", standard_errors=None)
    >>> result = forecast_validate(model, X, y, n_known=[0, 4], random_state=0)
    >>> result.table["n_rows"].tolist()
    [15, 15]
    """

    table: pd.DataFrame
    forecasts: pd.DataFrame
    confidence_level: float = 0.9


def forecast_validate(
    model,
    X,
    y,
    *,
    n_known=(0, 1, 2, 3),
    cv=None,
    rows="common",
    dosing=None,
    refit=True,
    confidence_level=0.9,
    random_state=None,
    n_jobs=None,
):
    """Forecast later samples of groups that were held out from their first ones.

    Parameters
    ----------
    model : NonlinearMixedModel
        The model, fitted or not.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Their responses.
    n_known : sequence of int, default=(0, 1, 2, 3)
        How many of the first samples of a group are known; with 0 the population predicts.
    cv : int or splitter, default=None
        How groups are held out; None: ``GroupKFold(5)``.
    rows : {"common", "later"}, default="common"
        What is forecast: the same samples for each of `n_known`, those behind the largest, so that
        the lines of the table compare; or every sample that is not known.
    dosing : Dosing, default=None
        Doses of all groups; None: those of the model.
    refit : bool, default=True
        False: the model is fitted already, to other groups, and stays as it is.
    confidence_level : float, default=0.9
        Of the prediction intervals, which hold the uncertainty of the random effects and the
        residual error.
    random_state : int, RandomState instance or None, default=None
        Source of the draws that make the intervals.
    n_jobs : int, default=None
        Processes that fit the folds, as in joblib.

    Returns
    -------
    validation : ForecastValidation
        The `table` by `n_known`, and all `forecasts`.

    Raises
    ------
    ValueError
        If no group has more samples than are known.

    Notes
    -----
    Samples are in the order of their times; those of equal time in that of the rows. Censored
    samples may be known, but their forecasts do not count. The searches of the folds start at the
    estimates of a model that is fitted; otherwise each finds its own start.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, forecast_validate
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age", standard_errors=None)
    >>> result = forecast_validate(model, X, y, n_known=[0, 4], random_state=0)
    >>> error = result.table["rmse"]
    >>> bool(error[4] < error[0])
    True
    """
    check_choice("rows", rows, ROWS)
    check_number("confidence_level", confidence_level, Real, 0, 1)
    known = _read_known(n_known)
    task = _Task(known, rows, dosing, confidence_level)
    if refit:
        splits = _splits(model, X, y, cv)
    else:
        model, splits = unwrap(model), [(None, np.arange(len(y)))]
    seeds = check_random_state(random_state).randint(2**31 - 1, size=len(splits))
    parts = Parallel(n_jobs=n_jobs)(
        delayed(_fold)(model, X, y, train, test, task, fold, int(seed))
        for fold, ((train, test), seed) in enumerate(zip(splits, seeds, strict=True))
    )
    forecasts = [row for part in parts for row in part]
    if not forecasts:
        raise ValueError(
            f"no group has more than {max(known)} samples: there is nothing to forecast"
        )
    table = pd.DataFrame(forecasts).sort_values(["n_known", "row"], ignore_index=True)
    return ForecastValidation(_table(table, known), table, confidence_level)


@dataclass(frozen=True)
class _Task:
    known: list
    rows: str
    dosing: object
    confidence_level: float


def _read_known(n_known):
    known = sorted(set(np.atleast_1d(n_known).tolist()))
    for k in known:
        check_number("n_known", k, Integral, 0)
    return known


def _splits(model, X, y, cv):
    probe = clone(model).set_params(method="fo", standard_errors=None)
    groups = _groups(probe, X)
    if len(np.unique(groups)) < 2:
        raise ValueError("forecasts are for groups that were held out: there must be at least two")
    n = min(5, len(np.unique(groups)))
    cv = GroupKFold(n) if cv is None else GroupKFold(cv) if np.isscalar(cv) else cv
    return list(check_cv(cv).split(X, y, groups))


def _groups(model, X):
    """The code of the group of each row, of a model that is not fitted."""
    if model.group is None:
        raise ValueError("forecasts need groups: name the column, group=")
    table = Table(model, X, reset=True)
    return Groups.read(table, table.find(model.group, "group")).codes


def _fold(model, X, y, train, test, task, fold, seed):
    """Forecasts of the rows of a fold."""
    options = {} if task.dosing is None else {"dosing": task.dosing}
    if train is not None:
        X_train, y_train = _safe_split(model, X, y, train)
        new = clone(model).set_params(standard_errors=None, **options)
        known = hasattr(model, "_layout")
        model = fit_from(new, X_train, y_train, model) if known else new.fit(X_train, y_train)
    X_test, y_test = _safe_split(model, X, y, test, train)
    found = observe(model, X_test, y_test, task.dosing)
    rank = _ranks(found)
    rng, out = np.random.RandomState(seed), []
    for k in task.known:
        behind = max(task.known) if task.rows == "common" else k
        wanted = np.flatnonzero((rank >= behind) & ~found.censored)
        if len(wanted):
            out += _forecast(found, rank, k, wanted, task, rng, {"fold": fold}, test)
    return out


def _ranks(found):
    """The place of each row among those of its group, by time."""
    groups = found.design.groups
    time = np.zeros(len(found.y)) if time_column(found.model) is None else found.time
    rank = np.empty(len(found.y), int)
    for rows in groups.rows:
        rank[rows[np.argsort(time[rows], kind="stable")]] = np.arange(len(rows))
    return rank


def _forecast(found, rank, k, wanted, task, rng, also, places):
    model, rows = found.model, found.design.rows
    given = np.flatnonzero((rank < k) & np.isin(rows.groups.codes, rows.groups.codes[wanted]))
    design = Design(model._layout, rows.take(wanted), found.dosing)
    mean, eta = _effects(found, given, design, rng) if k else _prior(found, design, rng)
    predicted = design.predict(model._population.beta, mean)
    lower, upper = _interval(found, design, eta, task.confidence_level, rng)
    table = {
        "n_known": np.full(len(wanted), k),
        "row": places[wanted],
        "subject": found.subject[wanted],
        "time": np.full(len(wanted), np.nan) if found.time is None else found.time[wanted],
        "observed": found.y[wanted],
        "predicted": predicted,
        "lower": lower,
        "upper": upper,
    }
    return [
        dict(zip(table, values, strict=True)) | also for values in zip(*table.values(), strict=True)
    ]


def _effects(found, given, design, rng):
    """Mode and draws of the effects of a design, given some rows of its groups."""
    model = found.model
    seen = Design(model._layout, found.design.rows.take(given), found.dosing)
    method = engine_method(model.method, model.n_quadrature)
    known = learn_effects(seen, model._population, method)
    mean, covariance = known.place(design)
    if design.pairs is None:
        return mean, Posterior(model, seen, known).draws(DRAWS, rng, method="importance")
    return mean, _normal(mean, covariance, rng)  # the rows may be of other occasions


def _prior(found, design, rng):
    Omega = found.model._population.parameters(design.n_occasions).Omega
    mean = np.zeros((design.groups.n, len(Omega)))
    return mean, _normal(mean, Omega, rng)


def _normal(mean, covariance, rng):
    z = rng.standard_normal((DRAWS, *mean.shape))
    return mean + (roots(covariance) @ z[..., None])[..., 0]


def _interval(found, design, eta, level, rng):
    """Quantiles of new observations, row by row."""
    parameters = found.model._population.parameters(design.n_occasions)
    y = design.to_rows(simulate(design.data(), parameters, DRAWS, rng, eta=eta))
    return np.quantile(y, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)


def _table(forecasts, known):
    """The errors by number of known samples."""
    rows = []
    for k in known:
        part = forecasts[forecasts["n_known"] == k]
        error = part["predicted"] - part["observed"]
        both = (part["predicted"] > 0) & (part["observed"] > 0)
        ratio = np.log(part.loc[both, "predicted"] / part.loc[both, "observed"])
        inside = part["observed"].between(part["lower"], part["upper"])
        rows.append(
            {
                "n_groups": part["subject"].nunique(),
                "n_rows": len(part),
                "rmse": np.sqrt(np.mean(error**2)),
                "mean_error": error.mean(),
                "log_rmse": np.sqrt(np.mean(ratio**2)),
                "coverage": inside.mean(),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(known, name="n_known"))
