"""Limits of agreement between methods of measurement, with replicates."""

from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats

from sklme._rows import check_number
from sklme.inference._access import check_level
from sklme.reliability._method_pairs import LINKED, SINGLE, MethodPair, read_pairs

LIMITS = ["bias", "lower_limit", "upper_limit"]


def agreement_limits(
    y,
    method,
    subject,
    *,
    replicates="auto",
    replicate=None,
    coverage=0.95,
    confidence_level=0.95,
):
    """Compute between which limits single measurements by two methods differ.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The measurements, one a row.
    method : array-like of shape (n_samples,)
        By which method; of more than two all pairs are compared.
    subject : array-like of shape (n_samples,)
        Of whom.
    replicates : {"auto", "exchangeable", "linked"}, default="auto"
        How the repeated measurements of a subject by one method stand to those by the other.

        - "exchangeable": what is measured stays the same, and the replicates have no order.
        - "linked": replicates are made together, one by each method, and what is measured may
          change from one occasion to the next; `replicate` says which belong together.
        - "auto": linked if `replicate` is given.
    replicate : array-like of shape (n_samples,), default=None
        The occasion, for linked replicates; counted within subjects.
    coverage : float, default=0.95
        Share of the differences that lies between the limits: 0.95 takes 1.96 standard deviations.
    confidence_level : float, default=0.95
        Coverage of the intervals of bias and limits that is aimed at.

    Returns
    -------
    table : DataFrame
        One row for each pair of methods, indexed by `first` and `second` in the order in which
        they first appear (that of its categories for a categorical). Columns, for the difference
        first minus second:

        - bias, lower_limit, upper_limit, each with an interval, `<name>_lower`, `<name>_upper`.
        - sd: of the difference of two single measurements of a subject.
        - sd_interaction: what of it is due to subjects, root of tau_1^2 + tau_2^2; 0 where the
          data say less than that.
        - sd_first, sd_second: of repeated measurements of a subject by one method; and the
          repeatability_first, repeatability_second that two of them differ by at most, with the
          probability `coverage`.
        - sd_replicate: of linked replicates, how much what is measured changes between occasions.
        - slope, slope_pvalue: of the difference on the mean of both methods, one point a subject.
        - n_subjects measured by both; n_left_out, measurements that are not used, because the
          subject, or the occasion, lacks the other method.
        - design: "single", "exchangeable" or "linked"; status, "ok" or "not estimable"; reason.

        NaN is what the design does not tell.

    Raises
    ------
    ValueError
        If there is one method, a measurement or an id is missing, or a method has several
        measurements of one occasion.

    See Also
    --------
    BlandAltmanDisplay : The picture.

    Notes
    -----
    The model is that of Carstensen et al. [1]_: ``y_mir = mu_m + a_i + c_mi + d_ir + e_mir`` for
    method m, subject i and replicate r, with variances tau_m^2 of c, sigma_m^2 of e, which differ
    by method, and of d for linked replicates only; the a_i are arbitrary. Single measurements
    differ by ``mu_1 - mu_2`` with the variance ``tau_1^2 + tau_2^2 + sigma_1^2 + sigma_2^2``.

    Estimated is it from mean squares, in closed form. Bias is the mean over subjects of the
    differences of their means. With single measurements sd is the standard deviation of these
    differences, the classical analysis. Else their variance has the part within subjects added
    that the means lack, ``(1 - mean(1 / n_mi)) sigma_m^2``, with sigma_m^2 the pooled variance
    within subjects of each method [2]_; of linked replicates that of the differences of pairs. For
    balanced data this is REML, unless a variance is estimated at zero.

    Of single measurements the intervals of the limits are exact, by the noncentral t distribution
    [3]_. Else they are put together from those of the bias (t) and of the mean squares
    (chi-square) by the method of variance estimates recovery (MOVER) [4]_. If sd_first and
    sd_second differ, the slope is not zero even without a proportional bias.

    References
    ----------
    .. [1] B. Carstensen, J. Simpson and L. C. Gurrin, "Statistical models for assessing agreement
       in method comparison studies with replicate measurements", Int. J. Biostat. 4(1), 2008.
    .. [2] J. M. Bland and D. G. Altman, "Measuring agreement in method comparison studies", Stat.
       Methods Med. Res. 8, 1999, sec. 5.
    .. [3] A. Carkeet, "Exact parametric confidence intervals for Bland-Altman limits of
       agreement", Optom. Vis. Sci. 92, 2015.
    .. [4] G. Y. Zou, "Confidence interval estimation for the Bland-Altman limits of agreement with
       multiple observations per individual", Stat. Methods Med. Res. 22, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklme.reliability import agreement_limits
    >>> rng = np.random.default_rng(0)
    >>> scans = pd.MultiIndex.from_product(
    ...     [range(40), ["old", "new"], range(2)], names=["patient", "scanner", "scan"]
    ... ).to_frame(index=False)
    >>> volume = rng.normal(100, 10, 40)[scans["patient"]] + rng.normal(0, 2, 160)
    >>> volume = volume + 3 * (scans["scanner"] == "old")
    >>> table = agreement_limits(volume, scans["scanner"], scans["patient"])
    >>> columns = ["bias", "lower_limit", "upper_limit", "sd_first", "sd_second"]
    >>> print(table[columns].round(1).to_string())
                  bias  lower_limit  upper_limit  sd_first  sd_second
    first second
    old   new      3.3         -2.2          8.8       1.8        2.0
    """
    check_number("coverage", coverage, Real, 0, 1)
    check_level(confidence_level)
    pairs = read_pairs(y, method, subject, replicates, replicate)
    rows = [_row(pair, coverage, confidence_level) for pair in pairs]
    index = pd.MultiIndex.from_tuples(
        [(pair.first, pair.second) for pair in pairs], names=["first", "second"]
    )
    return pd.DataFrame(rows, index, columns=_COLUMNS)


_COLUMNS = [
    *(f"{name}{end}" for name in LIMITS for end in ("", "_lower", "_upper")),
    *("sd", "sd_interaction", "sd_first", "sd_second", "repeatability_first"),
    *("repeatability_second", "sd_replicate", "slope", "slope_pvalue"),
    *("n_subjects", "n_left_out", "design", "status", "reason"),
]


def _row(pair: MethodPair, coverage: float, confidence_level: float) -> dict:
    means = pair.by_subject
    n = len(means)
    row = {"n_subjects": n, "n_left_out": pair.n_left_out, "design": pair.design}
    if n < 2:
        reason = f"{n} subject{'s' * (n != 1)} measured by both methods, at least 2 are needed"
        return {**row, "status": "not estimable", "reason": reason}
    z = stats.norm.isf(0.5 - 0.5 * coverage)
    between = means["difference"].var(ddof=1)
    terms, sds = [], {"sd": np.sqrt(between)}
    if pair.design != SINGLE:
        sds, terms = _within(pair, between)
    apart = {
        f"repeatability_{which}": z * np.sqrt(2.0) * sds.get(f"sd_{which}", np.nan)
        for which in ("first", "second")
    }
    lines = _lines(means["difference"].mean(), z, sds["sd"], between, n, terms, confidence_level)
    return {**row, **lines, **sds, **apart, **_slope(means), "status": "ok", "reason": ""}


def _lines(bias, z, sd, between, n, terms, confidence_level) -> dict:
    """Bias and limits with both ends of their intervals."""
    alpha = 1.0 - confidence_level
    of_bias = stats.t.isf(alpha / 2.0, n - 1) * np.sqrt(between / n)
    if terms:
        low, high = _recovered(z, sd, of_bias, [(1.0, between, n - 1), *terms], alpha)
    else:
        low, high = _exact(z, sd, n, alpha)
    away = {"bias": (0.0, -of_bias, of_bias), "lower_limit": (-z * sd, -high, -low)}
    away["upper_limit"] = (z * sd, low, high)
    ends = ("", "_lower", "_upper")
    return {
        f"{name}{end}": bias + d for name in LIMITS for end, d in zip(ends, away[name], strict=True)
    }


def _slope(means: pd.DataFrame) -> dict:
    """Least squares of the difference on the mean, one point a subject."""
    x, d = means["mean"].to_numpy(), means["difference"].to_numpy()
    if len(x) < 3 or np.ptp(x) == 0:
        return {}
    line = stats.linregress(x, d)
    return {"slope": line.slope, "slope_pvalue": line.pvalue}


def _within(pair: MethodPair, between: float) -> tuple[dict, list]:
    """Standard deviations, and the parts (weight, mean square, dof) that `between` lacks."""
    inverse = (1.0 / pair.counts).mean(axis=0)
    if pair.design == LINKED:
        groups, pairs = pair.rows.groupby("subject"), pair.rows[[0, 1]]
        left = (pairs - groups[[0, 1]].transform("mean")).to_numpy()
        dof = len(left) - groups.ngroups
        S = left.T @ left / dof
        of_pair = S[0, 0] + S[1, 1] - 2.0 * S[0, 1]
        weights, squares, dofs = inverse[:1], np.array([of_pair]), np.array([dof])
        found = {"sd_first": S[0, 0] - S[0, 1], "sd_second": S[1, 1] - S[0, 1]}
        found["sd_replicate"] = S[0, 1]
    else:
        weights, rows = inverse, pair.rows
        own = rows.groupby(["subject", "method"])["y"].transform("mean")
        sums = ((rows["y"] - own) ** 2).groupby(rows["method"]).sum().to_numpy()
        dofs = pair.counts.sum(axis=0) - len(pair.counts)
        squares = np.divide(sums, dofs, out=np.full(2, np.nan), where=dofs > 0)
        found = {"sd_first": squares[0], "sd_second": squares[1]}
    found["sd_interaction"] = between - weights @ squares
    told = dofs > 0  # of a method without repeats the mean square has the weight 0
    terms = list(zip(1.0 - weights[told], squares[told], dofs[told], strict=True))
    found["sd"] = between + sum(weight * square for weight, square, _ in terms)
    return {name: np.sqrt(max(v, 0.0)) if v == v else v for name, v in found.items()}, terms


def _exact(z: float, sd: float, n: int, alpha: float) -> tuple[float, float]:
    """How far above the bias the upper limit lies at least and at most (Carkeet 2015).

    ``(mu + z sigma - bias) / (sd / sqrt(n))`` has a noncentral t distribution.
    """
    root = np.sqrt(n)
    return tuple(stats.nct.ppf([alpha / 2.0, 1.0 - alpha / 2.0], n - 1, z * root) * sd / root)


def _recovered(z: float, sd: float, of_bias: float, terms: list, alpha: float):
    """The same by MOVER from the intervals of the bias and of each mean square (Zou 2013)."""
    weights, squares, dofs = np.array(terms).T
    total = weights @ squares
    low = total - np.linalg.norm(
        weights * squares * (1.0 - dofs / stats.chi2.isf(alpha / 2.0, dofs))
    )
    high = total + np.linalg.norm(
        weights * squares * (dofs / stats.chi2.ppf(alpha / 2.0, dofs) - 1.0)
    )
    below = np.hypot(of_bias, z * (sd - np.sqrt(max(low, 0.0))))
    above = np.hypot(of_bias, z * (np.sqrt(high) - sd))
    return z * sd - below, z * sd + above
