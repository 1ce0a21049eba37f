"""Which features of a table are complete, which are not, and why some cannot be estimated."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sklme._engine.intraclass import Form, Intraclass, complete
from sklme._engine.intraclass_bootstrap import bootstrap_limits
from sklme._engine.intraclass_fit import incomplete
from sklme._ids import quote
from sklme.reliability._measurements import Measurements, first_duplicate

BLOCK = 200_000  # numbers of a block of complete features, few enough to stay in the cache
NOTHING = "no measurements"
ONE_SUBJECT = "measurements of one subject only"
NO_REPEATS = "no subject is measured twice"
ONE_RATER = "measurements by one rater only"
NOT_CROSSED = "no subject is measured by two raters"
CONSTANT = "constant"
NO_ERROR = "too few measurements: nothing is left for the error"
ALIASED = "too few measurements: subjects cannot be told from raters"
EXACT = "subjects and raters reproduce the measurements exactly"
LOST = "the search for the variances did not converge"
INCOMPLETE = 'the table of the feature is not complete and balanced: use method="reml"'
EQUAL = "all measurements of a subject are equal"
EQUAL_WITH_RATERS = "all measurements of a subject are equal but for the raters' differences"
ADVICE = {
    NO_REPEATS: "; a subject must have the same id in all of its rows",
    ONE_RATER: '; use form="ICC(1,1)"',
    NOT_CROSSED: '; use form="ICC(1,1)"',
}


@dataclass(frozen=True, eq=False)
class Patterns:
    """The different sets of rows in which features were measured.

    rows : (n, P) bool; of : (p,) the pattern of each feature
    obstacle : (P,) why the pattern allows no estimate, "" where it does
    whole : (P,) whether it is a complete and balanced table
    n_subjects, n_measurements : (P,)
    """

    rows: np.ndarray
    of: np.ndarray
    obstacle: np.ndarray
    whole: np.ndarray
    n_subjects: np.ndarray
    n_measurements: np.ndarray


def correlate(data: Measurements, form: Form, method, confidence_level, n_bootstrap, random):
    """The record, and for each feature the method, the kind of interval and the reason."""
    Y, reason = _without_infinite(data.Y)
    _refuse_hopeless(data, form, method)
    patterns = _find_patterns(data, ~np.isnan(Y), form)
    reason = np.where(reason == "", patterns.obstacle[patterns.of], reason)
    reason[(reason == "") & _is_constant(Y)] = CONSTANT
    open_, whole = reason == "", patterns.whole[patterns.of]
    by_anova = open_ & whole & (method != "reml")
    by_reml = open_ & ~by_anova & (method != "anova")
    reason[open_ & ~by_anova & ~by_reml] = INCOMPLETE
    out = Intraclass.empty(Y.shape[1])
    out.n_subjects[:] = patterns.n_subjects[patterns.of]
    out.n_measurements[:] = patterns.n_measurements[patterns.of]
    _by_anova(out, data, Y, patterns, np.flatnonzero(by_anova), form, confidence_level)
    _by_reml(out, data, Y, np.flatnonzero(by_reml), form, confidence_level, n_bootstrap, random)
    _explain(out, data, Y, reason, form)
    fine, approximate = np.isfinite(out.icc), form.model == "agreement"
    of_reml = "bootstrap" if n_bootstrap else "profile" if approximate else "exact"
    kinds = np.where(by_anova, "satterthwaite" if approximate else "exact", of_reml)
    kinds = np.where(fine & (out.residual == 0.0) & (out.icc == 1.0), "exact", kinds)
    methods = np.where(by_anova, "anova", "reml")
    return out, np.where(fine, methods, ""), np.where(fine, kinds, ""), reason


def _by_anova(out, data, Y, patterns: Patterns, which, form: Form, confidence_level):
    """Fill in the features with complete tables, pattern by pattern."""
    second = np.zeros(len(Y)) if data.rater is None else data.rater
    order = np.lexsort((second, data.subject))
    for g in np.unique(patterns.of[which]):
        features = which[patterns.of[which] == g]
        rows = order[patterns.rows[order, g]]
        step, n = max(1, BLOCK // len(rows)), patterns.n_subjects[g]
        for i in range(0, len(features), step):
            block = features[i : i + step]
            cube = Y[np.ix_(rows, block)].reshape(n, -1, len(block))
            out.put(block, complete(cube, form, confidence_level))


def _by_reml(out, data, Y, which, form: Form, confidence_level, n_bootstrap, random):
    """Fill in the features with incomplete tables."""
    if not len(which):
        return
    Y = Y[:, which]
    table = (Y, data.subject, data.rater, form)
    found = incomplete(*table, confidence_level, limits=not n_bootstrap)
    if n_bootstrap:
        limits = bootstrap_limits(*table, found, confidence_level, n_bootstrap, random)
        found.lower[:], found.upper[:] = limits
    out.put(which, found)


# Patterns ---------------------------------------------------------------------------------------


def _find_patterns(data: Measurements, present, form: Form) -> Patterns:
    if present.all():
        rows, of = present[:, :1], np.zeros(present.shape[1], int)
    else:
        packed = np.ascontiguousarray(np.packbits(present, axis=0).T)
        keys = packed.view([("", packed.dtype)] * packed.shape[1])[:, 0]
        _, first, of = np.unique(keys, return_index=True, return_inverse=True)
        rows, of = present[:, first], of.ravel()
    counts = _counts(data, rows)
    size = counts.sum(axis=1)
    n, total = (size > 0).sum(axis=0), size.sum(axis=0)
    n_raters = (counts.sum(axis=0) > 0).sum(axis=0)
    if form.model == "one-way":
        whole = size.max(axis=0) * n == total
    else:
        whole = (counts.max(axis=(0, 1)) == 1) & (n * n_raters == total)
    obstacle = np.select(
        [
            total == 0,
            n == 1,
            total == n,
            (form.model != "one-way") & (n_raters == 1),
            (form.model != "one-way") & ((counts > 0).sum(axis=1).max(axis=0) == 1),
        ],
        [NOTHING, ONE_SUBJECT, NO_REPEATS, ONE_RATER, NOT_CROSSED],
        "",
    )
    return Patterns(rows, of, obstacle.astype(object), whole, n, total)


def _counts(data: Measurements, rows) -> np.ndarray:
    """Measurements in each cell of subject and rater, (n_subjects, n_raters, P)."""
    k = 1 if data.rater is None else len(data.raters)
    cell = data.subject if data.rater is None else data.subject * k + data.rater
    shape = (len(data.subjects), k, rows.shape[1])
    return (_indicator(cell, shape[0] * k) @ rows.astype(np.int32)).reshape(shape)


def _indicator(codes, n_levels):
    ones = np.ones(len(codes), np.int32)
    return sparse.csr_array((ones, (codes, np.arange(len(codes)))), (n_levels, len(codes)))


# What is in the way -----------------------------------------------------------------------------


def _without_infinite(Y):
    """Y with NaN in the place of features that have infinite values, and the reason for these."""
    reason = np.full(Y.shape[1], "", object)
    infinite = np.flatnonzero(np.isinf(Y).any(axis=0))
    if len(infinite):
        Y = Y.copy()
        for j in infinite:
            reason[j] = f"an infinite value in row {np.argmax(np.isinf(Y[:, j]))}"
        Y[:, infinite] = np.nan
    return Y, reason


def _refuse_hopeless(data: Measurements, form: Form, method):
    """One sentence where the rows of the table allow no estimate of any feature."""
    every = np.ones((len(data.Y), 1), bool)
    obstacle = _find_patterns(data, every, form).obstacle[0]
    if obstacle:
        raise ValueError(f"nothing can be estimated: {obstacle}{ADVICE.get(obstacle, '')}")
    if method == "anova" and form.model != "one-way":
        twice = first_duplicate(data)
        if twice:
            raise ValueError(
                f'{twice}: method="anova" takes one measurement of each subject by each rater, '
                'method="reml" takes several'
            )


def _is_constant(Y):
    low, high = np.fmin.reduce(Y), np.fmax.reduce(Y)
    return high - low <= 8.0 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high))


def _explain(out: Intraclass, data: Measurements, Y, reason, form: Form):
    """Say what became of the features that seemed fine, in place."""
    lost = (reason == "") & ~np.isfinite(out.icc)
    reason[lost] = LOST
    reason[lost & np.isinf(out.f)] = EXACT
    reason[lost & (out.df_subjects <= 0)] = ALIASED
    reason[lost & (out.df_error <= 0)] = NO_ERROR
    equal = EQUAL_WITH_RATERS if form.model == "consistency" else EQUAL
    reason[(out.icc == 1.0) & (out.residual == 0.0)] = equal
    which = np.flatnonzero((reason == "") & np.isnan(out.relative))
    if len(which):
        reason[which] = _not_positive(data, Y[:, which])


def _not_positive(data: Measurements, Y):
    """For each feature the first subject of several measurements whose mean is not positive."""
    present = ~np.isnan(Y)
    by_subject = _indicator(data.subject, len(data.subjects))
    total = by_subject @ np.where(present, Y, 0.0)
    several = by_subject @ present.astype(np.int32) > 1
    first = ((total <= 0) & several).argmax(axis=0)
    names = [f"no wcv: the mean of subject {quote(s)} is not positive" for s in data.subjects]
    return np.array(names, object)[first]
