"""How much features depend on the site: can it be told from them, and what share it explains."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils._indexing import _get_column_indices

from sklme._engine.one_way import one_way
from sklme._rows import check_number
from sklme.evaluation._auc import ZERO, placements, roc_auc, without_variance
from sklme.evaluation._estimate import by_delta, with_interval
from sklme.evaluation._sites import check_sites, read_labels

MEAN = "(mean)"


def site_separability(
    X, site, *, groups=None, estimator=None, cv=5, confidence_level=0.95, random_state=None
):
    """Find how well a classifier tells the site from the features.

    If it can, the features carry the mark of scanners and protocols (or sites have other
    patients), and a model of the outcome can learn the mark instead of the biology. Compare the
    table before and after harmonisation.

    Parameters
    ----------
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Numeric features, and the columns that `site` and `groups` name.
    site : str, int or array-like of shape (n_samples,)
        Sites, as a column of X or as labels.
    groups : str, int or array-like of shape (n_samples,), default=None
        Patients with several rows, which are never split.
    estimator : classifier, default=None
        Classifier with `predict_proba` or `decision_function`. None imputes medians, scales and
        fits a linear discriminant with a shrunken covariance.
    cv : int, default=5
        Number of parts; each is predicted by a classifier fitted to the others.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows before they are split into parts.

    Returns
    -------
    table : DataFrame
        One row a site, and a last row "(mean)". Columns: `n` rows; `auc`, the area under the ROC
        curve of this site against the rest, 0.5 if it cannot be told; `std_error` on the logit
        scale; `lower` and `upper`; `recognised`, the share of its rows that are assigned to it, to
        be compared with `chance`.

    Raises
    ------
    ValueError
        If there is one site only, or a feature is not numeric.

    See Also
    --------
    variance_by_site : Feature by feature.

    Notes
    -----
    The standard error of the mean AUC uses the placements of [1]_, averaged over the sites row by
    row, so that it knows that the curves are of the same rows. It holds for the classifiers that
    were fitted and does not count that other rows would have taught others.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or
       more correlated receiver operating characteristic curves", Biometrics 44, 1988.

    Examples
    --------
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import site_separability
    >>> X, _ = load_mriqc(return_X_y=True)
    >>> table = site_separability(X, "site", random_state=0)
    >>> print(table.loc[["NYU", "(mean)"], ["n", "auc", "recognised", "chance"]].round(2))
               n   auc  recognised  chance
    site
    NYU      184   1.0        1.00    0.06
    (mean)  1101   1.0        0.99    0.06
    """
    check_number("confidence_level", confidence_level, Real, 0, 1)
    check_number("cv", cv, Integral, 2)
    features, sites, patients = _read(X, site, groups)
    estimator = _discriminant() if estimator is None else estimator
    scores = _held_out_scores(estimator, features, sites.codes, patients, cv, random_state)
    told = scores.argmax(axis=1)
    rows = [
        _of_site(sites.codes == s, scores[:, s], told == s, confidence_level)
        for s in range(len(sites))
    ]
    rows.append(_mean(rows, sites.codes, scores, confidence_level))
    index = pd.Index([*sites.values.tolist(), MEAN], name=sites.name)
    return pd.DataFrame(rows, index=index).assign(chance=1.0 / len(sites))[
        ["n", "auc", "std_error", "lower", "upper", "recognised", "chance"]
    ]


def variance_by_site(X, site, *, confidence_level=0.95):
    """Estimate the share of each feature's variance that is due to the site.

    All features are fitted at once, each by ``feature = mean + site + residual`` with REML.

    Parameters
    ----------
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Numeric features, and the column that `site` names. A missing value is left out of its
        feature alone.
    site : str, int or array-like of shape (n_samples,)
        Sites, as a column of X or as labels.
    confidence_level : float, default=0.95
        Of the intervals.

    Returns
    -------
    table : DataFrame
        One row a feature. Columns: `share` of the variance, with `lower` and `upper`; `between` and
        `within`, the variances in units of the feature squared; `p_value` of the hypothesis that
        sites do not differ; `n` values and `n_sites`; `reason` where it is not estimable.

    Raises
    ------
    ValueError
        If there is one site only, or a feature is not numeric.

    See Also
    --------
    site_separability : All features together.
    sklme.reliability.intraclass_correlation : The same share for repeated measurements.

    Notes
    -----
    The intervals are exact [1]_; with few sites they are wide, as they should be. Sites may differ
    because of scanners or because of patients: the share does not tell which.

    References
    ----------
    .. [1] A. Wald, "A note on the analysis of variance with unequal class frequencies", Annals of
       Mathematical Statistics 11(1), 1940.

    Examples
    --------
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import variance_by_site
    >>> X, _ = load_mriqc(return_X_y=True)
    >>> table = variance_by_site(X[["site", "snr_wm", "efc", "cjv"]], "site")
    >>> print(table[["share", "lower", "upper", "n_sites"]].round(2))
            share  lower  upper  n_sites
    snr_wm   0.57   0.42   0.76       17
    efc      0.83   0.73   0.92       17
    cjv      0.78   0.66   0.89       17
    """
    check_number("confidence_level", confidence_level, Real, 0, 1)
    features, sites, _ = _read(X, site, None)
    found = one_way(features.to_numpy(), sites.codes, confidence_level)
    names = ("share", "lower", "upper", "between", "within", "p_value")
    table = pd.DataFrame({name: getattr(found, name) for name in names}, index=features.columns)
    measured = features.notna().to_numpy()
    table["n"] = measured.sum(axis=0)
    table["n_sites"] = [len(np.unique(sites.codes[here])) for here in measured.T]
    lost = table["share"].isna()
    table["reason"] = np.where(lost, [_why(values) for _, values in features.items()], "")
    return table


def _why(values):
    """Why a feature has no share."""
    if not values.notna().any():
        return "all values are missing"
    return "it is constant" if values.nunique() == 1 else "no two sites have values to compare"


def _discriminant():
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), lda)


def _read(X, site, groups):
    """The numeric features, the sites and the codes of the patients."""
    X = X if hasattr(X, "columns") else np.asarray(X)
    sites = read_labels("site", site, X, len(X))
    check_sites(sites)
    patients = None if groups is None else read_labels("groups", groups, X, len(X)).codes
    named = [c for c in (site, groups) if isinstance(c, str | Integral)]
    ids = {j for c in named for j in _get_column_indices(X, c)}
    features = [j for j in range(X.shape[1]) if j not in ids]
    if not features:
        raise ValueError("X has no feature besides the columns of sites and groups")
    names = [list(getattr(X, "columns", range(X.shape[1])))[j] for j in features]
    columns = [_numbers(X, j, name) for j, name in zip(features, names, strict=True)]
    return pd.DataFrame(np.column_stack(columns), columns=names), sites, patients


def _numbers(X, position, name):
    """One column as floats."""
    try:
        column = np.asarray(_safe_indexing(X, position, axis=1))
        values = pd.Series(column).astype(float).to_numpy()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {name!r} is not numeric: name it as site or groups, or leave it out"
        ) from error
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise ValueError(f"column {name!r} is infinite in row {row}")
    return values


def _held_out_scores(estimator, X, codes, patients, cv, random_state):
    """What speaks for each site, (n_rows, n_sites), by classifiers that have not seen the row."""
    kind = StratifiedKFold if patients is None else StratifiedGroupKFold
    splitter = kind(cv, shuffle=True, random_state=random_state)
    scores = np.zeros((len(codes), codes.max() + 1))
    for train, test in splitter.split(X, codes, patients):
        fitted = clone(estimator).fit(_safe_indexing(X, train), codes[train])
        scores[np.ix_(test, fitted.classes_)] = _scores(fitted, _safe_indexing(X, test))
    return scores


def _scores(fitted, X):
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(X)
    found = fitted.decision_function(X)
    return np.column_stack([-found, found]) if found.ndim == 1 else found


def _of_site(here, score, told, confidence_level):
    found = roc_auc(here.astype(int), score)
    return _row(here.sum(), found, told[here].mean(), confidence_level)


def _mean(rows, codes, scores, confidence_level):
    auc = np.mean([row["auc"] for row in rows])
    influence = [_influence(codes == s, scores[:, s]) for s in range(len(rows))]
    variance = (np.mean(influence, axis=0) ** 2).sum()
    least = np.bincount(codes).min()
    found = (
        by_delta(auc, np.sqrt(variance), "logit")
        if variance > ZERO
        else without_variance(auc, least, len(codes) - least)
    )
    return _row(len(codes), found, np.mean([r["recognised"] for r in rows]), confidence_level)


def _influence(here, score):
    """What each row adds to the error of the AUC, whose variance is the sum of their squares."""
    above, below = placements(here.astype(int), score)
    out = np.empty(len(here))
    for rows, placed in ((here, above), (~here, below)):
        n = len(placed)
        out[rows] = (placed - placed.mean()) / np.sqrt(n * max(n - 1, 1))
    return out


def _row(n, found, recognised, confidence_level):
    estimate = with_interval(found, "logit", confidence_level)
    return {
        "n": int(n),
        "auc": estimate.value,
        "std_error": estimate.std_error,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "recognised": recognised,
    }
