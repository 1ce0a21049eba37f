"""Validation across sites: every site is predicted by a model that was fitted to other sites."""

from dataclasses import replace
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import check_random_state, column_or_1d, indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from sklme._ids import quote
from sklme.evaluation._assemble import assemble
from sklme.evaluation._fold import Plan, run_fold
from sklme.evaluation._pool import read_benchmark, read_pooling
from sklme.evaluation._search import warn_of_plain_search
from sklme.evaluation._sites import check_patients, check_sites, find_folds, read_labels
from sklme.evaluation._target import read_target, with_recalibration, without_recalibration
from sklme.evaluation.metrics import find_metrics


def cross_site_validate(
    estimator,
    X,
    y,
    *,
    site,
    groups=None,
    scoring=None,
    cv="leave-one-site-out",
    target="new",
    n_target=None,
    n_repeats=1,
    update="auto",
    thresholds=None,
    benchmark=None,
    min_events=5,
    confidence_level=0.95,
    pooling="reml",
    ci="hksj",
    pi_method="bootstrap",
    pi_dof="k-1",
    return_estimator=False,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Predict each site by a model of the other sites, and pool over sites how good that is.

    Every metric is computed within each site, with its standard error, and pooled by a random
    effects meta-analysis [1]_: the mean over sites, how much sites differ, and the interval in
    which the next site is to be expected. Metrics on the rows of all sites together would mix how
    well rows are ranked within sites with how much sites differ.

    Parameters
    ----------
    estimator : estimator object
        Classifier with `predict_proba`, or a regressor; any of scikit-learn's will do. It is
        cloned. A search in it, at the end of a `Pipeline` or in a `TransformedTargetRegressor` too,
        gets the sites of the training rows as its groups.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Features, as the estimator takes them.
    y : array-like of shape (n_samples,)
        Outcome. Of two classes, the second in sorted order is the positive one.
    site : str, int or array-like of shape (n_samples,)
        The site of each row: a column of X by name or position, which the estimator sees like the
        other columns, or labels beside X, which it does not see.
    groups : str, int or array-like of shape (n_samples,), default=None
        The patient of each row, where patients have several. A patient at two sites is refused;
        rows that a site gives are those of whole patients. Standard errors take rows as
        independent all the same: where the rows of a patient are alike, the intervals of the sites
        are too narrow, and the differences between sites seem larger than they are.
    scoring : str, list of str or dict, default=None
        Names of metrics, or a dict of functions of outcome and prediction by name. None means those
        that suit the outcome.
    cv : {"leave-one-site-out"}, int or splitter, default="leave-one-site-out"
        How sites are left out: one at a time, in so many parts of whole sites, or by a splitter
        with ``split(X, y, groups)`` that gets the sites as its groups and keeps them whole.
    target : {"new", "unlabeled", "updated"}, default="new"
        What is known of a test site before it is predicted: nothing; `n_target` of its rows without
        their outcome, for transformers that learn a site; or with their outcome.
    n_target : int or list of int, default=None
        How many rows a test site gives; a list makes a learning curve. They are drawn at random,
        larger draws hold the smaller ones, and all sizes are evaluated on the same other rows. A
        size above half of a site is not evaluated there.
    n_repeats : int, default=1
        How often these rows are drawn.
    update : {"auto", "adapt", "recalibrate"}, default="auto"
        What is done with labelled rows: `sklme.adapt` teaches the model the new site, or
        `SiteRecalibrator` shifts its predictions. "auto" adapts if something in the estimator can.
    thresholds : float or list of float, default=None
        Adds the net benefit at these probabilities.
    benchmark : float or dict, default=None
        What a new site should be better than, by the name of the metric; a number alone is for the
        first metric.
    min_events : int, default=5
        A site with fewer rows in one of two classes is shown, not pooled.
    confidence_level : float, default=0.95
        Coverage of all intervals.
    pooling : {"reml", "ml", "dl"}, default="reml"
        How the variance between sites is estimated.
    ci : {"hksj", "normal"}, default="hksj"
        Interval of the mean: Hartung, Knapp, Sidik and Jonkman, or normal quantiles.
    pi_method : {"bootstrap", "hksj"}, default="bootstrap"
        Prediction interval for a new site: from the confidence distribution of the variance, or
        from the quantiles of t.
    pi_dof : {"k-1", "k-2"}, default="k-1"
        Degrees of freedom of that t, with k sites.
    return_estimator : bool, default=False
        Whether to keep the estimators that were fitted to the training sites.
    n_jobs : int, default=None
        Folds that run at once. The result is the same for any number.
    random_state : int, RandomState instance or None, default=None
        Source of the draws of rows, and of the metrics that resample.
    verbose : int, default=0
        1 prints a line for each site.

    Returns
    -------
    result : CrossSiteResult
        Tables of sites, of what was pooled and of predictions; `summary()` is a text,
        `to_html` a page.

    Raises
    ------
    ValueError
        If there is one site, a site, patient or outcome is missing, a patient is at two sites, a
        split tears a site apart, or an argument is none of its choices.
    TypeError
        If the estimator has no `predict_proba`, or cannot do what `target` asks for.

    See Also
    --------
    CrossSiteDisplay : Pictures of the result.
    SiteRecalibrator : Recalibrates any estimator by site.

    References
    ----------
    .. [1] R. D. Riley et al., "External validation of clinical prediction models using big datasets
       from e-health records or IPD meta-analysis: opportunities and challenges", BMJ 353:i3140,
       2016.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklme.datasets import load_mriqc
    >>> from sklme.evaluation import cross_site_validate
    >>> X, rating = load_mriqc(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression())
    >>> columns = ["snr_wm", "efc", "fber", "cjv"]
    >>> result = cross_site_validate(model, X[columns], rating < 0, site=X["site"])
    >>> print(result.pooled[["mean", "prediction_lower", "prediction_upper", "n_sites"]].round(2))
                           mean  prediction_lower  prediction_upper  n_sites
    metric
    roc_auc                0.76              0.35              0.95       13
    calibration_intercept  0.02             -3.64              3.68       13
    calibration_slope      1.11             -0.60              2.90       13
    oe_ratio               0.95              0.14              6.21       13
    brier                  0.17              0.05              0.61       13
    """
    how = read_pooling(pooling, ci, pi_method, pi_dof, confidence_level, min_events)
    X, y = indexable(X, column_or_1d(y, warn=True))
    n = _num_samples(X)
    task, classes, coded = _read_outcome(estimator, y)
    sites = read_labels("site", site, X, n)
    check_sites(sites)
    patients = None if groups is None else read_labels("groups", groups, X, n)
    if patients is not None:
        check_patients(patients, sites)
    metrics = tuple(find_metrics(scoring, task, thresholds))
    how = replace(how, benchmark=read_benchmark(benchmark, metrics))
    folds, scheme = find_folds(cv, X, y, sites)
    known = read_target(estimator, target, n_target, n_repeats, update)
    warn_of_plain_search(estimator)
    what = estimator, X
    if known.update == "recalibrate":
        _check_recalibration(task, folds)
        what = with_recalibration(estimator, X, sites)
    plan = Plan(
        *(*what, y, coded, sites, patients, task, classes, metrics, known),
        *(confidence_level, _entropy(random_state)),
    )
    draws, fitted = _run(plan, folds, n_jobs, verbose, return_estimator)
    about = {"cv": scheme, "target": target, "estimator": " ".join(repr(estimator).split())}
    return assemble(plan, draws, how, about | {"thresholds": thresholds}, fitted)


# Arguments --------------------------------------------------------------------------------------


def _read_outcome(estimator, y):
    """(task, labels of the classes or None, y for the metrics)."""
    missing = np.asarray(pd.isna(y))
    if missing.any():
        raise ValueError(
            f"y of row {np.argmax(missing)} is missing; {missing.sum()} of {len(y)} rows have no "
            "outcome: leave them out"
        )
    if is_classifier(estimator):
        _check_probabilities(estimator)
        classes, coded = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has only the class {quote(classes[0])}; a classifier needs two")
        return ("binary" if len(classes) == 2 else "classes"), classes, coded
    if not is_regressor(estimator):
        raise TypeError(
            f"{type(estimator).__name__} is neither a classifier nor a regressor; there is nothing "
            "to validate"
        )
    try:
        return "regression", None, np.asarray(y, dtype=np.float64)
    except ValueError as error:
        raise ValueError(
            f"y holds {y.dtype} values, but {type(estimator).__name__} is a regressor: it needs "
            "numbers"
        ) from error


def _check_probabilities(estimator):
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has no predict_proba, but probabilities are what is "
            "validated: wrap it in sklearn.calibration.CalibratedClassifierCV"
        )


def _check_recalibration(task, folds):
    if task == "classes":
        raise ValueError(
            'update="recalibrate" is for two classes or a regression, but y has more classes'
        )
    few = next((fold for fold in folds if fold.n_train_sites < 2), None)
    if few is not None:
        raise ValueError(
            'update="recalibrate" learns from at least two training sites how sites differ, but a '
            f"fold has {few.n_train_sites}"
        )


def _entropy(random_state):
    if isinstance(random_state, Integral):
        check_random_state(random_state)  # refuses what no generator takes
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


# Folds ------------------------------------------------------------------------------------------


def _run(plan, folds, n_jobs, verbose, return_estimator):
    """The draws of all folds, in order, and the fitted estimator of each site."""
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    jobs = (
        delayed(_run_one)(plan, number, fold, return_estimator) for number, fold in enumerate(folds)
    )
    draws, fitted = [], {}
    for number, (found, model) in enumerate(parallel(jobs)):
        draws += found
        for site, rows in folds[number].test:
            label = plan.sites.values[site]
            fitted[label] = model
            if verbose:
                _print_site(plan, label, rows, [d for d in found if d.site == site])
    return draws, fitted if return_estimator else None


def _run_one(plan, number, fold, return_estimator):
    draws, fitted = run_fold(plan, number, fold)
    return draws, without_recalibration(plan, fitted) if return_estimator else None


def _print_site(plan, label, rows, draws):
    last = next((d for d in reversed(draws) if d.estimates), None)
    metric = plan.metrics[0]
    shown = draws[0].reason if last is None else f"{metric.label} {last.estimates[0].value:.3f}"
    print(f"site {label}: {len(rows)} rows, {shown}", flush=True)
