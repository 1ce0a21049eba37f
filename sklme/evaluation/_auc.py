"""Area under the ROC curve with its variance."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from sklme.evaluation._estimate import Found, by_delta, need_both_classes

FEW = 3  # rows of a class from which a variance within the class is taken
ZERO = 1e-15  # a variance below this is rounding
FAR = 700.0  # a logit beyond all limits


def roc_auc(y, prediction) -> Found:
    """AUC with the variance of DeLong, on the logit scale by the delta method.

    Where that variance does not exist or is zero (AUC 0 or 1, all predictions equal, fewer than
    three rows of a class) `without_variance` steps in. The value is the plain AUC always.
    """
    events, others = need_both_classes(y)
    auc, variance = delong(y, prediction)
    if min(events, others) < FEW or variance <= ZERO:
        return without_variance(auc, events, others)
    return by_delta(auc, np.sqrt(variance), "logit")


def delong(y, prediction) -> tuple[float, float]:
    """AUC and its variance from the placements of each row among those of the other class.

    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, eq. 3 to 5. NaN as variance where a
    class has one row.
    """
    above, below = placements(y, prediction)
    if min(len(above), len(below)) < 2:
        return float(above.mean()), np.nan
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    return float(above.mean()), float(variance)


def placements(y, prediction) -> tuple[np.ndarray, np.ndarray]:
    """Of each event the share of others below it, of each other row the share of events above it.

    From midranks (Sun and Xu 2014, IEEE Signal Processing Letters 21): O(n log n), ties count half.
    """
    high, low = prediction[y == 1], prediction[y == 0]
    ranks = rankdata(np.concatenate([high, low]))
    above = (ranks[: len(high)] - rankdata(high)) / len(low)
    return above, 1.0 - (ranks[len(high) :] - rankdata(low)) / len(high)


def without_variance(auc: float, events: int, others: int) -> Found:
    """AUC on the logit scale where the placements give no variance.

    The variance of Hanley and McNeil (1982), Radiology 143, in the symmetric form of Newcombe
    (2006), Statistics in Medicine 25:559-573, depends on the AUC alone; his method 5 takes as
    limits the AUCs from which the observed one is z standard errors away, which exist at 0 and 1
    too. The standard error is that of a symmetric logit interval as wide as the 95 % limits. An
    AUC of 1 stands on the logit scale at its limit for z = 0.67 (one in four would reach 1), and
    its standard error leads from there to the 95 % limit; 0 is its mirror image.
    """
    if auc < 0.5:
        mirror = without_variance(1.0 - auc, others, events)
        return Found(auc, -mirror.theta, mirror.std_error)
    far, near = norm.ppf(0.975), norm.ppf(0.75)
    lower = _logit_limit(auc, events, others, -far)
    if auc == 1.0:
        theta = _logit_limit(auc, events, others, -near)
        return Found(auc, theta, (theta - lower) / far)
    upper = _logit_limit(auc, events, others, far)
    return Found(auc, float(logit(auc)), (upper - lower) / (2.0 * far))


def _logit_limit(auc: float, events: int, others: int, z: float) -> float:
    """Logit of the true AUC from which the observed one is -z standard errors away."""

    def distance(x):
        variance = hanley_mcneil(expit(x), expit(-x), events, others)
        return (1.0 - auc) - expit(-x) - z * np.sqrt(variance)

    ends = (-FAR, min(logit(auc), FAR)) if z < 0 else (logit(auc), FAR)
    return float(brentq(distance, *ends))


def hanley_mcneil(auc, complement, events: int, others: int):
    """Variance of an AUC from its value alone, with (events + others) / 2 - 1 for both classes."""
    rows = (events + others) / 2.0 - 1.0
    spread = 1.0 + rows * (complement / (1.0 + complement) + auc / (1.0 + auc))
    return auc * complement * spread / (events * others)
