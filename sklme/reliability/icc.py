"""Intraclass correlations of a table of features, with what goes with them."""

from dataclasses import replace
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklme._engine.intraclass import Form
from sklme._rows import check_choice, check_number
from sklme.inference._access import check_level
from sklme.reliability._features import correlate
from sklme.reliability._measurements import read_measurements

FORMS = {
    "ICC(1,1)": Form("one-way", False),
    "ICC(A,1)": Form("agreement", False),
    "ICC(C,1)": Form("consistency", False),
    "ICC(1,k)": Form("one-way", True),
    "ICC(A,k)": Form("agreement", True),
    "ICC(C,k)": Form("consistency", True),
}
# Names of Shrout and Fleiss (1979), and those of McGraw and Wong (1996) where they differ.
ALIASES = {
    "ICC1": "ICC(1,1)",
    "ICC2": "ICC(A,1)",
    "ICC3": "ICC(C,1)",
    "ICC1k": "ICC(1,k)",
    "ICC2k": "ICC(A,k)",
    "ICC3k": "ICC(C,k)",
    "ICC(2,1)": "ICC(A,1)",
    "ICC(3,1)": "ICC(C,1)",
    "ICC(2,k)": "ICC(A,k)",
    "ICC(3,k)": "ICC(C,k)",
    "ICC(1)": "ICC(1,1)",
    "ICC(k)": "ICC(1,k)",
}
METHODS = ("auto", "anova", "reml")
APART = 1.96 * np.sqrt(2.0)  # two measurements of a subject differ by less in 95 of 100


def intraclass_correlation(
    X,
    subject,
    rater=None,
    form="ICC(A,1)",
    method="auto",
    confidence_level=0.95,
    n_bootstrap=0,
    random_state=None,
):
    """Compute intraclass correlations of all features of a table, with their intervals.

    Beside each stand the variance components and the absolute error of a measurement: a
    correlation depends on how much the subjects differ, the error does not.

    Parameters
    ----------
    X : {array-like, dataframe} of shape (n_measurements, n_columns)
        One row a measurement, one column a feature. NaN where a feature was not measured.
    subject : str, int or array-like of shape (n_measurements,)
        Who was measured: a column of X, which is then no feature, or one id a row.
    rater : str, int or array-like of shape (n_measurements,), default=None
        By whom, on which scanner or in which session, likewise. The one-way forms pass it over.
    form : str, default="ICC(A,1)"
        - "ICC(1,1)": the measurements of a subject are exchangeable;
        - "ICC(A,1)": absolute agreement, differences between raters count as error;
        - "ICC(C,1)": consistency, they do not.

        "ICC(1,k)", "ICC(A,k)" and "ICC(C,k)" are those of the mean of k measurements. The names of
        [1]_ are taken too: "ICC1", "ICC2", "ICC3", "ICC1k", "ICC2k", "ICC3k".
    method : {"auto", "anova", "reml"}, default="auto"
        "anova" takes complete tables, in which all raters measured all subjects once (one-way:
        all subjects were measured equally often), and may give negative values. "reml" takes all
        tables, also several measurements by one rater, whose variance with the subject then counts
        as residual; its variances are not negative. "auto" decides for each feature, by what is
        left of the table where it was measured.
    confidence_level : float, default=0.95
        Coverage of the intervals.
    n_bootstrap : int, default=0
        Replicates of a parametric bootstrap, whose percentiles then are the intervals of features
        that were fitted by REML.
    random_state : int, RandomState instance or None, default=None
        Source of the draws of the bootstrap.

    Returns
    -------
    table : DataFrame
        One row a feature.

        - `icc`, `lower`, `upper`;
        - `variance_subject`, `variance_rater`, `variance_residual`: the components;
        - `within_sd`: pooled standard deviation of single measurements of a subject, whatever the
          number in an average, from unbiased mean squares. Raters' differences are part of it, but
          for the forms "C";
        - `repeatability`, `repeatability_lower`, `repeatability_upper`: 1.96 sqrt(2) within_sd,
          the distance within which two measurements of a subject fall in 95 of 100, and its limits
          by chi2;
        - `wcv`: root mean square over subjects of their standard deviation over their mean; NaN
          where one of these means is not positive;
        - `n_subjects`, `n_measurements`, `k`: the number of raters; for the one-way forms
          the measurements a subject has, (N - sum n_i^2 / N) / (n - 1) where the n_i differ;
        - `f`, `df1`, `df2`, `p_value`: the exact F test of no variance between subjects;
        - `method`: "anova" or "reml"; `interval`: "exact", "satterthwaite", "profile" or
          "bootstrap";
        - `at_zero`: whether the variance between subjects was estimated at the bound of zero;
        - `status`: "ok" or "not estimable"; `reason`: why, or a remark.

    Raises
    ------
    ValueError
        If a column is not in X or is no number, a form needs raters and has none, or nothing can be
        estimated for any feature.

    Notes
    -----
    Intervals of complete tables are those of F [2]_: exact, but for absolute agreement, where two
    mean squares share Satterthwaite's degrees of freedom. Those are too short if few raters differ
    much: with 40 subjects and 2 raters who make 15 % of the variance they covered the truth in 80
    of 100 simulated tables instead of 95, and those of the profiled restricted likelihood in 95.
    The latter are wider where raters are few; ``method="reml"`` gives them for all tables, "auto"
    for incomplete ones. The one-way and consistency forms have exact intervals for incomplete
    tables too, by Wald's pivot with raters taken as fixed [3]_ [4]_. Limits of REML are not below
    0. Estimates of REML take raters as random for all two-way forms.

    References
    ----------
    .. [1] P. E. Shrout and J. L. Fleiss, "Intraclass correlations: uses in assessing rater
       reliability", Psychol. Bull. 86, 1979.
    .. [2] K. O. McGraw and S. P. Wong, "Forming inferences about some intraclass correlation
       coefficients", Psychol. Methods 1, 1996.
    .. [3] A. Wald, "A note on the analysis of variance with unequal class frequencies", Ann.
       Math. Stat. 11, 1940.
    .. [4] J. F. Seely and Y. El-Bassiouni, "Applying Wald's variance component test", Ann. Stat.
       11, 1983.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklme.reliability import intraclass_correlation
    >>> scans = pd.DataFrame({
    ...     "patient": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"],
    ...     "session": [1, 2, 1, 2, 1, 2, 1, 2, 1, 2],
    ...     "volume": [20.0, 21.0, 34.0, 33.0, 27.0, 27.5, 41.0, 39.0, 25.0, 26.0],
    ...     "entropy": [4.1, 3.2, 3.9, 4.4, 3.0, 3.8, 4.6, 3.9, 3.5, None],
    ... })
    >>> table = intraclass_correlation(scans, "patient", "session")
    >>> print(table[["icc", "lower", "upper", "repeatability", "method"]].round(2).to_string())
              icc  lower  upper  repeatability method
    feature
    volume   0.99   0.89   1.00           2.36  anova
    entropy  0.07   0.00   0.81           1.45   reml
    """
    form = _read_form(form, rater)
    check_choice("method", method, METHODS)
    check_level(confidence_level)
    check_number("n_bootstrap", n_bootstrap, Integral, 0)
    data = read_measurements(X, subject, rater)
    if form.model == "one-way":
        data = replace(data, rater=None, raters=None)
    random = check_random_state(random_state)
    found = correlate(data, form, method, confidence_level, n_bootstrap, random)
    return _frame(data.names, *found)


def _read_form(form, rater) -> Form:
    name = ALIASES.get(form, form) if isinstance(form, str) else form
    check_choice("form", name, tuple(FORMS))
    if rater is None and FORMS[name].model != "one-way":
        raise ValueError(
            f"form={form!r} tells raters (or scanners, or sessions) apart: pass rater, or use "
            '"ICC(1,1)", for which the measurements of a subject are exchangeable'
        )
    return FORMS[name]


def _frame(names, record, method, interval, reason) -> pd.DataFrame:
    within, limits = np.sqrt(record.within), (record.within_lower, record.within_upper)
    lower, upper = (APART * np.sqrt(variance) for variance in limits)
    fine = np.isfinite(record.icc)
    columns = {
        "icc": record.icc,
        "lower": record.lower,
        "upper": record.upper,
        "variance_subject": record.subject,
        "variance_rater": record.rater,
        "variance_residual": record.residual,
        "within_sd": within,
        "repeatability": APART * within,
        "repeatability_lower": lower,
        "repeatability_upper": upper,
        "wcv": record.relative,
        "n_subjects": record.n_subjects,
        "n_measurements": record.n_measurements,
        "k": record.k,
        "f": record.f,
        "df1": record.df_subjects,
        "df2": record.df_error,
        "p_value": record.p_value,
        "method": method,
        "interval": interval,
        "at_zero": record.at_zero,
        "status": np.where(fine, "ok", "not estimable"),
        "reason": reason,
    }
    counts = {"n_subjects": int, "n_measurements": int}
    return pd.DataFrame(columns, index=pd.Index(names, name="feature")).astype(counts)
