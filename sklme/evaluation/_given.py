"""Predictions that somebody else made, evaluated site by site as those of folds are."""

from dataclasses import replace

import numpy as np
import pandas as pd

from sklme.evaluation._assemble import assemble
from sklme.evaluation._fold import Draw, Plan, estimates
from sklme.evaluation._pool import read_benchmark, read_pooling
from sklme.evaluation._sites import check_sites, read_labels
from sklme.evaluation._target import Target
from sklme.evaluation.metrics import find_metrics


def evaluate_predictions(
    y,
    prediction,
    *,
    site,
    scoring=None,
    thresholds=None,
    benchmark=None,
    min_events=5,
    confidence_level=0.95,
    pooling="reml",
    ci="hksj",
    pi_method="bootstrap",
    pi_dof="k-1",
    random_state=0,
):
    """A CrossSiteResult of predictions at hand; arguments as those of `cross_site_validate`."""
    y, prediction = np.asarray(y), np.asarray(prediction, dtype=np.float64)
    task, classes, coded = _read(y, prediction)
    how = read_pooling(pooling, ci, pi_method, pi_dof, confidence_level, min_events)
    sites = read_labels("site", site, None, len(y))
    check_sites(sites)
    metrics = tuple(find_metrics(scoring, task, thresholds))
    plan = Plan(
        *(None, None, y, coded, sites, None, task, classes, metrics, Target()),
        *(confidence_level, random_state),
    )
    draws = [_draw(plan, code, prediction) for code in range(len(sites))]
    about = {"cv": "predictions were given", "target": "new", "estimator": "predictions at hand"}
    how = replace(how, benchmark=read_benchmark(benchmark, metrics))
    return assemble(plan, draws, how, about | {"thresholds": thresholds})


def _read(y, prediction):
    """(task, classes or None, outcomes for the metrics) of predictions in one or more columns."""
    if y.ndim != 1 or len(prediction) != len(y):
        raise ValueError(f"y has the shape {y.shape}, but prediction has {prediction.shape}")
    missing = np.asarray(pd.isna(y))
    if missing.any():
        raise ValueError(f"y of row {np.argmax(missing)} is missing: leave such rows out")
    bad = ~np.isfinite(prediction.reshape(len(y), -1)).all(axis=1)
    if bad.any():
        raise ValueError(f"the prediction of row {np.argmax(bad)} is not a finite number")
    classes, coded = np.unique(y, return_inverse=True)
    if prediction.ndim == 1 and len(classes) != 2:
        return "regression", None, y.astype(np.float64)
    if prediction.ndim == 2 and prediction.shape[1] != len(classes):
        raise ValueError(
            f"prediction has {prediction.shape[1]} columns, but y has {len(classes)} classes; it "
            "must have one column of probabilities a class, in sorted order"
        )
    if prediction.ndim == 2 and len(classes) == 2:
        raise ValueError("of two classes, prediction is the probability of the second alone")
    out = (prediction < 0).reshape(len(y), -1) | (prediction > 1).reshape(len(y), -1)
    if out.any():
        row = int(np.argmax(out.any(axis=1)))
        raise ValueError(
            f"the prediction of row {row} is {prediction[row]}, which is no probability; y has "
            f"{len(classes)} classes"
        )
    return ("binary" if prediction.ndim == 1 else "classes"), classes, coded


def _draw(plan, code, prediction):
    """What was predicted of a site; by how many rows of others, nobody said."""
    rows = np.flatnonzero(plan.sites.codes == code)
    found = prediction[rows]
    return Draw(code, 0, 0, 0, rows, found, estimates(plan, rows, found), 0, 0)
