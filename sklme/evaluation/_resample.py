"""Metrics whose standard error has no formula: by the bootstrap over the rows of one site.

The interval is that of a normal variable on the scale of pooling, as of all other metrics, since
that is what the pooling assumes.
"""

import warnings
from numbers import Real

import numpy as np

from sklme.evaluation._auc import without_variance
from sklme.evaluation._estimate import (
    NO_SPREAD,
    Found,
    NotEstimable,
    by_delta,
    from_scale,
    need_both_classes,
    to_scale,
)

N_RESAMPLES = 1000  # the standard error is then known to about 2 %
MOST_FAILED = 0.1  # share of resamples without the metric above which it has no standard error
CELLS = 4_000_000  # counts held at once
FAILURES = (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError)


def average_precision(y, prediction, *, rng) -> Found:
    """Average precision; one of 1 is given the error of as many successes as there are events."""
    events, _ = need_both_classes(y)
    value, error = _value_and_error(_average_precision, y, prediction, rng)
    if value < 1.0 and error > NO_SPREAD:
        return by_delta(value, error, "logit")
    s, f = value * events + 0.5, (1.0 - value) * events + 0.5
    return Found(value, float(np.log(s / f)), float(np.sqrt(1.0 / s + 1.0 / f)))


def roc_auc_ovr(y, prediction, *, rng) -> Found:
    """Mean over the classes of the AUC of each against the others."""
    n = np.bincount(y, minlength=prediction.shape[1])
    if np.count_nonzero(n) == 1:
        raise NotEstimable(f"all {len(y)} rows are of one class")
    if not n.all():
        missing = int(np.flatnonzero(n == 0)[0]) + 1
        raise NotEstimable(f"no row is of class number {missing} of {len(n)}")
    value, error = _value_and_error(_mean_auc, y, prediction, rng)
    if 0.0 < value < 1.0 and error > NO_SPREAD:
        return by_delta(value, error, "logit")
    return without_variance(value, int(n.min()), int(len(y) - n.min()))


def scaled_brier(y, prediction, *, rng) -> Found:
    """One minus the score of Brier over that of the site's own rate of events."""
    need_both_classes(y)
    return _share(y, prediction, rng)


def r_squared(y, prediction, *, rng) -> Found:
    """One minus the squared error over that of the site's own mean."""
    if np.ptp(y) == 0.0:
        raise NotEstimable(f"y is the same in all {len(y)} rows")
    return _share(y, prediction, rng)


def custom(y, prediction, *, rng, name: str, function) -> Found:
    """What a function of the user gives, on the identity scale."""
    try:
        value = function(y, prediction)
    except FAILURES as error:
        raise NotEstimable(f"{name} raised {type(error).__name__}: {error}") from error
    if np.ndim(value) or not isinstance(np.asarray(value).item(), Real):
        what = type(value).__name__
        raise TypeError(f"scoring[{name!r}] returned an object of {what}; it must return a number")
    if not np.isfinite(value):
        raise NotEstimable(f"{name} is {value} here")
    error = bootstrap_rows(function, y, prediction, rng)
    return _with_error(float(value), error)


def _share(y, prediction, rng) -> Found:
    """The share that is explained; resampled on the scale of pooling, where it has no bound."""
    if np.array_equal(y, prediction):
        raise NotEstimable(f"the squared error is 0 in all {len(y)} rows and 0 has no logarithm")
    theta, error = _value_and_error(_log_unexplained, y, prediction, rng)
    found = _with_error(theta, error)
    return Found(float(from_scale(theta, "log-unexplained")), found.theta, found.std_error)


def _with_error(value: float, error: float) -> Found:
    if error <= NO_SPREAD * abs(value):
        raise NotEstimable("the metric is the same in every bootstrap resample")
    return Found(value, value, error)


def _value_and_error(statistic, y, prediction, rng) -> tuple[float, float]:
    value = statistic(y, prediction, np.ones((1, len(y))))[0]
    return float(value), bootstrap_counts(statistic, y, prediction, rng)


def _average_precision(y, prediction, counts):
    """Sum over thresholds of the precision times the growth of the recall."""
    order = np.argsort(-prediction, kind="stable")
    last = np.append(np.diff(prediction[order]) != 0, True)  # of the rows tied with one another
    drawn = counts[:, order]
    true = np.cumsum(drawn * y[order], axis=1)[:, last]
    chosen = np.cumsum(drawn, axis=1)[:, last]
    precision = np.divide(true, chosen, out=np.zeros_like(true), where=chosen > 0)
    growth = np.diff(true, axis=1, prepend=0.0)
    return (growth * precision).sum(axis=1) / true[:, -1]


def _mean_auc(y, prediction, counts):
    classes = range(prediction.shape[1])
    return np.mean([_auc(y == c, prediction[:, c], counts) for c in classes], axis=0)


def _auc(event, prediction, counts):
    """Share of pairs of an event and another in which the event ranks higher, ties one half."""
    order = np.argsort(prediction, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(prediction[order]) != 0))
    drawn, event = counts[:, order], event[order]
    events = np.add.reduceat(drawn * event, first, axis=1)
    others = np.add.reduceat(drawn * ~event, first, axis=1)
    below = np.cumsum(others, axis=1) - others / 2.0
    return (events * below).sum(axis=1) / (events.sum(axis=1) * others.sum(axis=1))


def _explained(y, prediction, counts):
    """One minus the squared error over the squared distance from the mean of the rows drawn."""
    centred = y - y.mean()
    square = counts @ centred**2
    total = square - (counts @ centred) ** 2 / counts.sum(axis=1)
    total[total <= NO_SPREAD * square] = np.nan
    return 1.0 - counts @ (y - prediction) ** 2 / total


def _log_unexplained(y, prediction, counts):
    return to_scale(_explained(y, prediction, counts), "log-unexplained")


def bootstrap_counts(statistic, y, prediction, rng) -> float:
    """Standard deviation over resamples of a statistic that takes weights of rows.

    ``statistic(y, prediction, counts)`` gives one value for each row of counts (n_resamples,
    n_samples), how often each row of the site was drawn; NaN where there is none. Efron (1979),
    Annals of Statistics 7.
    """
    y, prediction = _in_order(y, prediction)
    block = max(1, CELLS // len(y))
    values = []
    for start in range(0, N_RESAMPLES, block):
        counts = _draw(len(y), min(block, N_RESAMPLES - start), rng)
        with np.errstate(divide="ignore", invalid="ignore"):
            values.append(statistic(y, prediction, counts))
    return _deviation(np.concatenate(values))


def bootstrap_rows(function, y, prediction, rng) -> float:
    """The same of any function of y and prediction, one resample after the other."""
    y, prediction = _in_order(y, prediction)
    values = np.full(N_RESAMPLES, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resample without one of the classes
        for i in range(N_RESAMPLES):
            rows = rng.integers(len(y), size=len(y))
            try:
                values[i] = function(y[rows], prediction[rows])
            except FAILURES:
                continue
    return _deviation(values)


def _draw(n: int, n_resamples: int, rng) -> np.ndarray:
    rows = rng.integers(n, size=(n_resamples, n)) + n * np.arange(n_resamples)[:, None]
    return (
        np.bincount(rows.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(float)
    )


def _in_order(y, prediction):
    """The rows sorted, so that the same draws do not mean other rows in another order."""
    order = np.lexsort((*prediction.reshape(len(y), -1).T, y))
    return y[order], prediction[order]


def _deviation(values) -> float:
    known = np.isfinite(values)
    failed = 1.0 - known.mean()
    if failed > MOST_FAILED:
        raise NotEstimable(f"{failed:.0%} of the bootstrap resamples do not have this metric")
    return float(values[known].std(ddof=1))
