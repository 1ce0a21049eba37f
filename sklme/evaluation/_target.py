"""What is known of the site that is tested: nothing, some of its rows, or their outcomes too."""

from dataclasses import dataclass, replace
from inspect import Parameter, signature
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metaestimators import available_if

from sklme._adapt import adapt
from sklme._rows import check_choice, check_number
from sklme.evaluation import _search
from sklme.evaluation.recalibration import SiteRecalibrator

TARGETS = ("new", "unlabeled", "updated")
UPDATES = ("auto", "adapt", "recalibrate")


@dataclass(frozen=True)
class Target:
    """What a test site gives before it is predicted.

    Attributes
    ----------
    kind : {"new", "unlabeled", "updated"}
    sizes : tuple of int
        Numbers of its rows, in ascending order; (0,) for "new".
    n_repeats : int
        Number of draws of these rows.
    update : {"", "adapt", "recalibrate"}
        What is done with labelled rows; empty where there are none.
    """

    kind: str = "new"
    sizes: tuple = (0,)
    n_repeats: int = 1
    update: str = ""


def read_target(estimator, target, n_target, n_repeats, update):
    """Check these arguments of `cross_site_validate` against one another."""
    check_choice("target", target, TARGETS)
    check_choice("update", update, UPDATES)
    check_number("n_repeats", n_repeats, Integral, 1)
    if target == "new":
        if n_target is not None:
            raise ValueError(
                f'n_target is {n_target!r}, but target="new" means that the site gives no rows; '
                'use target="unlabeled" or target="updated"'
            )
        return Target()
    sizes = _read_sizes(target, n_target)
    found = Target(target, sizes, int(n_repeats))
    if target == "unlabeled":
        _check_unlabeled(estimator)
        return found
    if update == "auto":
        update = "adapt" if any(_adapting(estimator)) else "recalibrate"
    if update == "adapt" and not any(_adapting(estimator)):
        raise TypeError(
            f"nothing in {type(estimator).__name__} can adapt to a new site; "
            'use update="recalibrate"'
        )
    return replace(found, update=update)


def _read_sizes(target, n_target):
    if n_target is None:
        raise ValueError(
            f'target="{target}" needs n_target: how many rows of the site are known, a number or '
            "a list of numbers"
        )
    sizes = list(n_target) if np.ndim(n_target) else [n_target]
    if not sizes:
        raise ValueError("n_target is an empty list; it must name at least one number of rows")
    for size in sizes:
        check_number("n_target", size, Integral, 0)
    return tuple(sorted({int(size) for size in sizes}))


def _adapting(estimator):
    """The parts of an estimator, fitted or not, that have `adapt` and something to adapt."""
    parts = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    for part in (estimator, *parts):
        without = any(getattr(part, name, "") is None for name in ("random_effects", "site"))
        if hasattr(part, "adapt") and not isinstance(part, type) and not without:
            yield part


def _check_unlabeled(estimator):
    parts = list(_adapting(estimator))
    if not parts:
        raise TypeError(
            f"nothing in {type(estimator).__name__} can adapt to unlabeled rows of a new site; "
            'target="unlabeled" is for transformers that learn sites, in a Pipeline'
        )
    for part in parts:
        y = signature(part.adapt).parameters.get("y")
        if y is not None and y.default is Parameter.empty:
            raise TypeError(
                f'{type(part).__name__} adapts by outcomes, which target="unlabeled" has not; use '
                'target="updated"'
            )


def draw(rows, target, patients, rng):
    """Draw the rows that a site gives; returns (dict size -> rows, rows to predict).

    Larger draws hold the smaller ones, and all sizes predict the same rows. Patients come whole, as
    many as are needed for at least so many rows. A size above half of the rows is left out.
    """
    possible = [size for size in target.sizes if 2 * size <= len(rows)]
    if not possible or target.kind == "new":
        return dict.fromkeys(possible, rows[:0]), rows
    codes = np.arange(len(rows)) if patients is None else patients.codes[rows]
    rank = rng.permutation(codes.max() + 1)[codes]
    order = np.argsort(rank, kind="stable")
    shuffled, ends = rows[order], np.flatnonzero(np.diff(rank[order], append=-1)) + 1
    counts = [int(ends[np.searchsorted(ends, size)]) if size else 0 for size in possible]
    given = {size: np.sort(shuffled[:n]) for size, n in zip(possible, counts, strict=True)}
    return given, np.sort(shuffled[counts[-1] :])


def teach(fitted, plan, rows):
    """The fitted estimator after it saw these rows of the site."""
    if not len(rows):
        return fitted
    labels = plan.y[rows] if plan.target.kind == "updated" else None
    return adapt(fitted, _safe_indexing(plan.X, rows), labels)


# Recalibration ----------------------------------------------------------------------------------


def with_recalibration(estimator, X, sites):
    """An estimator and a table for it, such that `adapt` recalibrates the given estimator.

    The table has two columns, the number of the row and its site, so that any container will do and
    the estimator sees the columns that it would see without recalibration.
    """
    table = np.column_stack([np.arange(len(sites.codes)), sites.codes])
    return SiteRecalibrator(_ByRow(estimator, X, sites.codes), site=1), table


def without_recalibration(plan, fitted):
    """The estimator as it was fitted to the training sites."""
    recalibrated = plan.target.update == "recalibrate" and fitted is not None
    return fitted.estimator_.estimator_ if recalibrated else fitted


class _ByRow(MetaEstimatorMixin, BaseEstimator):
    """An estimator that is given numbers of rows and looks the rows up."""

    def __init__(self, estimator=None, X=None, sites=None):
        self.estimator = estimator
        self.X = X
        self.sites = sites

    def __sklearn_clone__(self):
        return _ByRow(clone(self.estimator), self.X, self.sites)

    def fit(self, numbers, y):
        X, sites = self._rows(numbers), self.sites[numbers[:, 0]]
        self.estimator_ = _search.fit(clone(self.estimator), X, y, sites)
        if is_classifier(self):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, numbers):
        return self.estimator_.predict(self._rows(numbers))

    @available_if(lambda self: hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, numbers):
        return self.estimator_.predict_proba(self._rows(numbers))

    def __sklearn_tags__(self):
        return get_tags(self.estimator)

    def _rows(self, numbers):
        return _safe_indexing(self.X, numbers[:, 0])
