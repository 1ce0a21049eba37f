"""The metrics of a site: what each is called, how it is pooled and how it is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real

import numpy as np

from sklme._rows import check_choice
from sklme.evaluation import _auc as auc
from sklme.evaluation import _calibration as cal
from sklme.evaluation import _resample as rs
from sklme.evaluation import _scores as sc
from sklme.evaluation._estimate import (
    Estimate,
    NotEstimable,
    from_scale,
    not_estimable,
    to_scale,
    with_interval,
)

__all__ = ["Estimate", "Metric", "find_metrics", "from_scale", "to_scale"]

FEWEST = 3  # rows of a site from which anything has a standard error
NET_BENEFIT = "net_benefit@"


@dataclass(frozen=True)
class Metric:
    """A metric, its place in figures and the function that estimates it at one site.

    ``function(y, prediction, *, confidence_level, rng)`` returns an `Estimate`. y holds 0 and 1 and
    prediction the probability of 1 where `kind` is "binary"; codes from 0 and one column of
    probabilities a class for "classes"; numbers for "regression". rng is a numpy Generator.
    """

    name: str
    label: str
    kind: str  # "binary", "classes" or "regression"
    scale: str  # of pooling, a name of _estimate.SCALES
    reference: float | None  # of no use, or of perfection: a dotted line
    greater_is_better: bool | None
    function: Callable


def _estimate(y, prediction, *, confidence_level, rng, kind, scale, formula, resampled) -> Estimate:
    """The formula with its checks around it."""
    y = np.asarray(y).astype(np.intp if kind == "classes" else np.float64)
    prediction = np.asarray(prediction, np.float64)
    try:
        _check(y, prediction, kind)
        found = formula(y, prediction, **({"rng": rng} if resampled else {}))
    except NotEstimable as reason:
        return not_estimable(str(reason))
    return with_interval(found, scale, confidence_level)


def _check(y, prediction, kind):
    n = len(y)
    if n < FEWEST:
        raise NotEstimable(f"only {n} row" + "s" * (n != 1))
    wrong = ~np.isfinite(prediction).reshape(n, -1).all(axis=1)
    if wrong.any():
        raise NotEstimable(f"{wrong.sum()} of {n} predictions are not finite numbers")
    if kind != "regression" and (prediction.min() < 0.0 or prediction.max() > 1.0):
        raise NotEstimable("predictions are below 0 or above 1 and so are no probabilities")


def _metric(kind, name, label, scale, reference, greater, formula, resampled=False) -> Metric:
    how = {"kind": kind, "scale": scale, "formula": formula, "resampled": resampled}
    return Metric(name, label, kind, scale, reference, greater, partial(_estimate, **how))


def _table(kind, rows) -> dict[str, Metric]:
    return {row[0]: _metric(kind, *row) for row in rows}


# Of each task: name, label, scale of pooling, reference, greater is better, formula, resampled.
BINARY = [
    ("roc_auc", "AUC", "logit", 0.5, True, auc.roc_auc),
    ("average_precision", "average precision", "logit", None, True, rs.average_precision, True),
    ("calibration_intercept", "calibration intercept", "identity", 0.0, None, cal.intercept),
    ("calibration_slope", "calibration slope", "identity", 1.0, None, cal.slope),
    ("oe_ratio", "observed / expected", "log", 1.0, None, cal.observed_expected),
    ("brier", "Brier score", "log", None, False, sc.squared_error),
    ("scaled_brier", "scaled Brier score", "log-unexplained", 0.0, True, rs.scaled_brier, True),
    ("log_loss", "log loss", "log", None, False, sc.log_loss),
    ("accuracy", "accuracy", "logit", None, True, sc.accuracy),
    ("balanced_accuracy", "balanced accuracy", "logit", 0.5, True, sc.balanced_accuracy),
    ("sensitivity", "sensitivity", "logit", None, True, sc.sensitivity),
    ("specificity", "specificity", "logit", None, True, sc.specificity),
]
CLASSES = [
    ("accuracy", "accuracy", "logit", None, True, sc.accuracy),
    ("balanced_accuracy", "balanced accuracy", "logit", None, True, sc.balanced_accuracy),
    ("log_loss", "log loss", "log", None, False, sc.log_loss),
    ("roc_auc_ovr", "AUC of each class", "logit", 0.5, True, rs.roc_auc_ovr, True),
]
REGRESSION = [
    ("r2", "R²", "log-unexplained", 0.0, True, rs.r_squared, True),
    ("rmse", "root mean squared error", "log", None, False, sc.root_squared_error),
    ("mse", "mean squared error", "log", None, False, sc.squared_error),
    ("mae", "mean absolute error", "log", None, False, sc.absolute_error),
    ("calibration_intercept", "mean of y - prediction", "identity", 0.0, None, cal.linear_mean),
    ("calibration_slope", "calibration slope", "identity", 1.0, None, cal.linear_slope),
    ("pearson", "correlation", "fisher", 0.0, True, sc.pearson),
]
METRICS = {
    "binary": _table("binary", BINARY),
    "classes": _table("classes", CLASSES),
    "regression": _table("regression", REGRESSION),
}
DEFAULTS = {
    "binary": ("roc_auc", "calibration_intercept", "calibration_slope", "oe_ratio", "brier"),
    "classes": ("accuracy", "balanced_accuracy", "log_loss"),
    "regression": ("r2", "rmse", "mae", "calibration_slope"),
}
# Names by which scikit-learn or others know them.
ALIASES = {
    "neg_brier_score": "brier",
    "brier_score": "brier",
    "brier_skill": "scaled_brier",
    "neg_log_loss": "log_loss",
    "recall": "sensitivity",
    "neg_root_mean_squared_error": "rmse",
    "neg_mean_squared_error": "mse",
    "neg_mean_absolute_error": "mae",
    "pearsonr": "pearson",
}


def find_metrics(scoring, task, thresholds=None) -> list[Metric]:
    """Look up the metrics that are asked for.

    Parameters
    ----------
    scoring : None, str, list of str or dict
        None for the usual ones of the task; names, also those of scikit-learn such as
        "neg_brier_score", whose values keep their own sign here; a dict maps names to functions
        ``f(y, prediction) -> float``, which get a standard error by the bootstrap.
    task : {"binary", "classes", "regression"}
        What is predicted: probabilities of an event, of several classes, or numbers.
    thresholds : float or list of float, default=None
        Adds the net benefit at each of these probabilities, for "binary" only.

    Returns
    -------
    metrics : list of Metric
        In the order asked for, each once.

    Raises
    ------
    ValueError
        If a name is not known for the task or a threshold is not between 0 and 1.

    Examples
    --------
    >>> from sklme.evaluation.metrics import find_metrics
    >>> [m.name for m in find_metrics(["roc_auc", "neg_brier_score"], "binary", thresholds=0.2)]
    ['roc_auc', 'brier', 'net_benefit@0.2']
    """
    check_choice("task", task, tuple(METRICS))
    if isinstance(scoring, Mapping):
        found = [_custom(task, name, function) for name, function in scoring.items()]
    else:
        names = DEFAULTS[task] if scoring is None else scoring
        names = [names] if isinstance(names, str) or not np.iterable(names) else names
        found = [_named(task, name) for name in names]
    if thresholds is not None:
        if task != "binary":
            raise ValueError(f"thresholds are of probabilities of an event; the task is {task!r}")
        found += [_net_benefit(threshold) for threshold in np.atleast_1d(thresholds).tolist()]
    if not found:
        raise ValueError(f"scoring is {scoring!r}; it must name at least one metric")
    return list({metric.name: metric for metric in found}.values())


def _named(task, name) -> Metric:
    known = METRICS[task]
    if isinstance(name, str):
        ours = ALIASES.get(name, name)
        if ours in known:
            return known[ours]
        if task == "binary" and name.startswith(NET_BENEFIT):
            return _net_benefit(name.removeprefix(NET_BENEFIT))
    possible = [*known, *([NET_BENEFIT + "0.2"] if task == "binary" else [])]
    raise ValueError(
        f"scoring names {name!r}; for the task {task!r} it must be one of "
        f"{', '.join(map(repr, possible))}, or a dict of name and function(y, prediction)"
    )


def _net_benefit(threshold) -> Metric:
    try:
        t = float(threshold) if isinstance(threshold, Real | str) else np.nan
    except ValueError:
        t = np.nan
    if not 0.0 < t < 1.0:
        raise ValueError(f"a threshold is {threshold!r}; it must be a number above 0 and below 1")
    formula = partial(sc.net_benefit, threshold=t)
    label = f"net benefit at {t:g}"
    return _metric("binary", f"{NET_BENEFIT}{t:g}", label, "identity", 0.0, True, formula)


def _custom(task, name, function) -> Metric:
    if not isinstance(name, str) or not callable(function) or hasattr(function, "_score_func"):
        raise ValueError(
            f"scoring maps {name!r} to {function!r}; it must map names to functions "
            "f(y, prediction) -> float, not to names or to scorers of an estimator"
        )
    formula = partial(rs.custom, name=name, function=function)
    return _metric(task, name, name, "identity", None, None, formula, True)
