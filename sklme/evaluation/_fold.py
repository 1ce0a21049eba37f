"""One fold: fit, let the target sites give what they give, predict them and compute the metrics."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from sklme._ids import quote
from sklme.evaluation import _search
from sklme.evaluation._sites import Fold, Labels
from sklme.evaluation._target import Target, draw, teach


@dataclass(frozen=True, eq=False)
class Plan:
    """What all folds share.

    Attributes
    ----------
    estimator, X
        As given, or what recalibrates them.
    y : ndarray of shape (n_rows,)
        Outcomes as given.
    coded : ndarray of shape (n_rows,)
        Outcomes for the metrics: positions of the classes, or numbers.
    sites, patients : Labels
    task : {"binary", "classes", "regression"}
    classes : ndarray or None
    metrics : tuple of Metric
    target : Target
    confidence_level : float
    entropy : int
        Seed of all that is drawn.
    """

    estimator: Any
    X: Any
    y: np.ndarray
    coded: np.ndarray
    sites: Labels
    patients: Labels | None
    task: str
    classes: np.ndarray | None
    metrics: tuple
    target: Target
    confidence_level: float
    entropy: int


@dataclass(frozen=True, eq=False)
class Draw:
    """A site after it gave some rows: what was predicted of the others, and how good it is."""

    site: int
    size: int
    repeat: int
    fold: int
    rows: np.ndarray
    prediction: np.ndarray | None
    estimates: tuple  # one for each metric; empty where there is no prediction
    n_train: int
    n_train_sites: int
    reason: str = ""


def run_fold(plan: Plan, number: int, fold: Fold):
    """All draws of the sites of one fold, and the estimator that was fitted for them."""
    with naming(plan.sites, fold):
        labels = np.unique(plan.coded[fold.train]) if plan.classes is not None else ()
        if len(labels) == 1:
            reason = f"the training sites have only the class {quote(plan.classes[labels[0]])}"
            return [_absent(plan, number, fold, *part, reason) for part in _each(plan, fold)], None
        fitted = _search.fit(
            clone(plan.estimator),
            _safe_indexing(plan.X, fold.train),
            plan.y[fold.train],
            plan.sites.codes[fold.train],
        )
        draws = []
        for site, rows in fold.test:
            draws += _site_draws(plan, number, fold, fitted, site, rows)
        return draws, fitted


@contextmanager
def naming(sites, fold):
    """Whatever fails in a fold fails with the names of its test sites."""
    try:
        yield
    except Exception as error:
        names = ", ".join(quote(sites.values[site]) for site, _ in fold.test[:3])
        names += ", ..." if len(fold.test) > 3 else ""
        kind = next((k for k in (ValueError, TypeError) if isinstance(error, k)), RuntimeError)
        raise kind(f"the fold that tests site {names} failed: {error}") from error


def _site_draws(plan, number, fold, fitted, site, rows):
    seed = np.random.SeedSequence(plan.entropy, spawn_key=(site, number))
    for repeat, child in enumerate(seed.spawn(plan.target.n_repeats)):
        given, rest = draw(rows, plan.target, plan.patients, np.random.default_rng(child))
        for size in plan.target.sizes:
            if size not in given or not len(rest):
                reason = (
                    "no patient is left to predict"
                    if size in given
                    else f"{size} rows are more than half of the site"
                )
                yield _absent(plan, number, fold, site, size, reason, repeat)
                continue
            prediction = predict(plan, teach(fitted, plan, given[size]), rest)
            yield Draw(
                *(site, size, repeat, number, rest, prediction),
                estimates(plan, rest, prediction),
                *(len(fold.train), fold.n_train_sites),
            )


def _each(plan, fold):
    return ((site, size) for site, _ in fold.test for size in plan.target.sizes)


def _absent(plan, number, fold, site, size, reason, repeat=0):
    rows = next(rows for code, rows in fold.test if code == site)
    train = len(fold.train), fold.n_train_sites
    return Draw(site, size, repeat, number, rows, None, (), *train, reason)


def predict(plan, fitted, rows):
    """Probability of the positive class, of each class, or the predicted number."""
    X = _safe_indexing(plan.X, rows)
    if plan.classes is None:
        out = np.asarray(fitted.predict(X), dtype=np.float64).reshape(len(rows), -1)[:, 0]
    else:
        p = np.asarray(fitted.predict_proba(X), dtype=np.float64)
        out = np.zeros((len(rows), len(plan.classes)))
        out[:, np.searchsorted(plan.classes, fitted.classes_)] = p
        out = out[:, 1] if plan.task == "binary" else out
    bad = ~np.isfinite(out.reshape(len(rows), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"the prediction of row {rows[np.argmax(bad)]} is not a finite number "
            f"({bad.sum()} such rows)"
        )
    return out


def estimates(plan, rows, prediction):
    """Each metric of these predictions.

    Rows are sorted by what is predicted and found, and each metric starts from one seed, so that
    the order of the rows and of the sites changes nothing where a metric resamples.
    """
    y = plan.coded[rows]
    keys = prediction[:, None] if prediction.ndim == 1 else prediction
    order = np.lexsort((y, *keys.T))
    y, prediction = y[order], prediction[order]
    return tuple(
        metric.function(
            *(y, prediction),
            confidence_level=plan.confidence_level,
            rng=np.random.default_rng(plan.entropy),
        )
        for metric in plan.metrics
    )
