"""Errors of predictions and shares of right decisions at one site, with standard errors."""

import numpy as np

from sklme.evaluation._calibration import clipped
from sklme.evaluation._estimate import (
    NO_SPREAD,
    Found,
    NotEstimable,
    by_delta,
    need_both_classes,
)

# Means over rows, pooled as logarithms.


def log_of_mean(losses, name: str) -> Found:
    """A mean of losses that are not negative; its log by the delta method."""
    mean, error = float(losses.mean()), float(losses.std(ddof=1)) / np.sqrt(len(losses))
    if mean == 0.0:
        raise NotEstimable(f"the {name} is 0 in all {len(losses)} rows and 0 has no logarithm")
    if error <= NO_SPREAD * mean:
        raise NotEstimable(f"the {name} is the same in all {len(losses)} rows")
    return by_delta(mean, error, "log")


def squared_error(y, prediction) -> Found:
    """Mean squared error; of probabilities the score of Brier (1950)."""
    return log_of_mean((y - prediction) ** 2, "squared error")


def root_squared_error(y, prediction) -> Found:
    """Its root: half the logarithm and half the error of that."""
    square = squared_error(y, prediction)
    return Found(float(np.sqrt(square.value)), square.theta / 2.0, square.std_error / 2.0)


def absolute_error(y, prediction) -> Found:
    """Mean absolute error."""
    return log_of_mean(np.abs(y - prediction), "absolute error")


def log_loss(y, prediction) -> Found:
    """Minus the mean log probability of what was observed, with probabilities clipped."""
    if prediction.ndim == 1:
        return log_of_mean(-np.log(clipped(np.where(y == 1, prediction, 1.0 - prediction))), "loss")
    return log_of_mean(-np.log(clipped(prediction[np.arange(len(y)), y])), "loss")


# Shares of rows, pooled as logits.


def share(successes, n: int) -> Found:
    """A share with the interval of Wilson (1927), JASA 22; 0 and n successes are given one half."""
    s, f = _half_more(successes, n)
    return Found(successes / n, float(np.log(s / f)), float(np.sqrt(1 / s + 1 / f)), score=True)


def _half_more(successes, n):
    more = 0.5 * ((successes == 0) | (successes == n))
    return successes + more, n - successes + more


def decided(prediction):
    """The class that is predicted; a probability of exactly one half is no event, as argmax."""
    return prediction.argmax(axis=1) if prediction.ndim == 2 else (prediction > 0.5).astype(int)


def accuracy(y, prediction) -> Found:
    """Share of rows whose class is predicted."""
    return share(int(np.sum(decided(prediction) == y)), len(y))


def sensitivity(y, prediction) -> Found:
    """Share of events that are predicted."""
    events, _ = need_both_classes(y)
    return share(int(decided(prediction)[y == 1].sum()), events)


def specificity(y, prediction) -> Found:
    """Share of the others that are not predicted."""
    _, others = need_both_classes(y)
    return share(int(np.sum(decided(prediction)[y == 0] == 0)), others)


def balanced_accuracy(y, prediction) -> Found:
    """Mean over the classes at the site of the share that is predicted; the shares independent."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) == 1:
        raise NotEstimable(f"all {len(y)} rows are of one class")
    n = np.bincount(codes)
    right = np.bincount(codes, decided(prediction) == y)
    s, f = _half_more(right, n)
    error = float(np.sqrt(np.sum(s * f / (s + f) ** 3))) / len(n)
    value = float(np.mean(right / n))
    smooth = value if 0.0 < value < 1.0 else float(np.mean(s / (s + f)))
    found = by_delta(smooth, error, "logit")
    return Found(value, found.theta, found.std_error)


def net_benefit(y, prediction, *, threshold: float) -> Found:
    """Share of treated events minus that of treated others, these weighted by the odds.

    Vickers and Elkin (2006), Medical Decision Making 26:565-574; treated is who has a probability
    of at least the threshold. Exact standard error of a mean of three possible values; where all
    rows have the same (for example nobody is treated), that of the shares with one half of a row
    added to each of the three.
    """
    need_both_classes(y)
    values = np.array([1.0, 0.0, -threshold / (1.0 - threshold)])
    treated = prediction >= threshold
    true, false = np.sum(treated & (y == 1)), np.sum(treated & (y == 0))
    counts = np.array([true, len(y) - true - false, false], float)
    value = float(counts @ values) / len(y)
    if np.count_nonzero(counts) == 1:
        counts += 0.5
    shares = counts / counts.sum()
    variance = shares @ (values - shares @ values) ** 2 / (len(y) - 1)
    return Found(value, value, float(np.sqrt(variance)))


# Of numbers.


def pearson(y, prediction) -> Found:
    """Correlation of y and its prediction, by the z of Fisher (1921)."""
    n = len(y)
    if n < 4:
        raise NotEstimable(f"only {n} rows")
    if min(np.ptp(y), np.ptp(prediction)) == 0.0:
        which = "values of y" if np.ptp(y) == 0.0 else "predictions"
        raise NotEstimable(f"all {n} {which} are equal")
    r = float(np.corrcoef(y, prediction)[0, 1])
    if 1.0 - abs(r) <= NO_SPREAD:
        raise NotEstimable(f"y is exactly a line of its prediction in all {n} rows")
    return Found(r, float(np.arctanh(r)), 1.0 / np.sqrt(n - 3.0))
