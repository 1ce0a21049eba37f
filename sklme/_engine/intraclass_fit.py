"""Intraclass correlations of incomplete tables by REML, for many features at once."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import special

from sklme._engine.intraclass import Form, Intraclass, average, variance_limits
from sklme._engine.intraclass_limits import (
    Analysis,
    analyse,
    exact_limits,
    solve,
    within_variance,
)
from sklme._engine.intraclass_profile import profile_limits
from sklme._engine.intraclass_reml import VarianceFit, fit
from sklme._engine.intraclass_sums import contrasts, sums

BLOCK = 2_000_000  # numbers of a block of features that are treated together


def incomplete(
    Y: np.ndarray,
    subject: np.ndarray,
    rater: np.ndarray | None,
    form: Form,
    confidence_level: float,
    limits: bool = True,
) -> Intraclass:
    """Correlations of the columns of Y (n, p), NaN where a feature was not measured.

    subject, rater : (n,) codes. Where subjects and raters reproduce a feature, or where there are
    no degrees of freedom for one of the variances, the correlation is NaN; likewise if the search
    does not converge. Limits are exact but for agreement, where they are those of the likelihood.
    """
    out = Intraclass.empty(Y.shape[1])
    for which, rows in _groups(Y, rater):
        part = Y[np.ix_(rows, which)]
        codes = None if rater is None else np.unique(rater[rows], return_inverse=True)[1]
        out.put(which, _of_group(part, subject[rows], codes, form, confidence_level, limits))
    return out


def _groups(Y: np.ndarray, rater: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features that the same raters measured, in blocks, and the rows of these raters."""
    present = ~np.isnan(Y)
    if rater is None:
        rater = np.zeros(len(Y), int)
    seen = np.array([present[rater == j].any(axis=0) for j in range(rater.max() + 1)])
    sets, group = np.unique(seen, axis=1, return_inverse=True)
    for g, members in enumerate(sets.T):
        features = np.flatnonzero(group.ravel() == g)
        if not members.any():
            continue
        rows = np.flatnonzero(members[rater])
        shared = (present[:, features] == present[:, features[:1]]).all()
        k = members.sum()
        step = max(1, int(BLOCK // (len(rows) + (0 if shared else len(rows) * (k + 1)))))
        for i in range(0, len(features), step):
            yield features[i : i + step], rows


def _of_group(Y, subject, rater, form: Form, confidence_level: float, limits: bool) -> Intraclass:
    data = sums(Y, subject, rater)
    analysis = analyse(data)
    fine = (analysis.df_error > 0) & (analysis.df_subjects > 0) & (analysis.whole > 0)
    if rater is not None:
        fine &= analysis.df_raters > 0
    out = _described(analysis, form)
    exact = fine & analysis.is_exact
    agreed = exact & (analysis.raters <= 1e-13 * analysis.whole)
    one = agreed if form.model == "agreement" else exact
    for value, columns in ((1.0, (out.icc, out.lower, out.upper)), (0.0, _errors(out))):
        for column in columns:
            column[one] = value
    which = np.flatnonzero(fine & ~exact)
    if len(which):
        part = analyse(data.take(which)) if len(which) < len(fine) else analysis
        found = _estimate(part, form, confidence_level, limits)
        relative = _relative(Y[:, which], subject, rater, form, part)
        out.put(which, replace(found, relative=relative))
    return out


def _errors(out: Intraclass) -> tuple[np.ndarray, ...]:
    return out.residual, out.within, out.within_lower, out.within_upper


def _described(analysis: Analysis, form: Form) -> Intraclass:
    """Everything that needs no estimate."""
    data, p = analysis.data, len(analysis.error)
    k = data.total * 0.0 + data.n_raters if form.model != "one-way" else analysis.size
    with np.errstate(invalid="ignore"):
        p_value = special.fdtrc(analysis.df_subjects, analysis.df_error, analysis.f)
    return replace(
        Intraclass.empty(p),
        n_subjects=data.n_subjects,
        n_measurements=data.total * 1.0,
        k=k,
        f=analysis.f,
        df_subjects=analysis.df_subjects,
        df_error=analysis.df_error,
        p_value=p_value,
    )


def _estimate(analysis: Analysis, form: Form, confidence_level: float, limits: bool) -> Intraclass:
    """REML estimates and limits of features that have both variances."""
    found = variances(analysis)
    agreement, two_way = form.model == "agreement", form.model != "one-way"
    others = 1.0 + found.rater_ratio if agreement else 1.0
    ratio = found.subject_ratio / others
    ratio = np.where(found.converged, ratio, np.nan)
    lower = upper = np.full(len(ratio), np.nan)
    if limits and agreement:
        lower, upper = profile_limits(analysis.data, found, confidence_level)
    elif limits:
        lower, upper = exact_limits(analysis, confidence_level)
    icc, lower, upper = (x / (1.0 + x) for x in (ratio, lower, upper))
    described = _described(analysis, form)
    if form.average:
        icc, lower, upper = (average(x, described.k) for x in (icc, lower, upper))
    error, dof = analysis.mean_square, analysis.df_error
    if agreement:
        error, dof = within_variance(analysis)
    spread = variance_limits(error, dof, confidence_level)
    units = analysis.data.scale**2
    return replace(
        described,
        icc=icc,
        lower=lower,
        upper=upper,
        subject=found.subject_ratio * found.residual,
        rater=found.rater_ratio * found.residual if two_way else np.full(len(icc), np.nan),
        residual=found.residual,
        within=error * units,
        within_lower=spread[0] * units,
        within_upper=spread[1] * units,
        at_zero=found.subject_ratio == 0.0,
    )


def variances(analysis: Analysis) -> VarianceFit:
    """The REML estimates, started from those by sums of squares."""
    start = np.zeros((len(analysis.error), 2))
    start[:, 0] = solve(analysis, analysis.df_subjects * analysis.mean_square, rough=True)
    start[:, 1] = np.maximum(analysis.rater_variance / analysis.mean_square, 0.0)
    return fit(analysis.data, start)


def _relative(Y, subject, rater, form: Form, analysis: Analysis) -> np.ndarray:
    """As for complete tables; for consistency the raters' effects are taken off first."""
    dof = analysis.data.total - analysis.data.n_subjects
    if form.model == "consistency":
        Y, dof = Y - _rater_effects(analysis)[rater], analysis.df_error
    present = ~np.isnan(Y)
    order = np.argsort(subject, kind="stable")
    codes = subject[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    place = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(codes)))
    present, values = present[order], np.where(present, Y, 0.0)[order]
    count = np.add.reduceat(present, starts, axis=0, dtype=float)
    mean = np.add.reduceat(values, starts, axis=0) / np.maximum(count, 1.0)
    inner = (values - mean[place]) * present
    squares = np.add.reduceat(inner**2, starts, axis=0)
    mean = np.where(count > 1, mean, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt((squares / mean**2).sum(axis=0) / dof)
    return np.where((mean > 0).all(axis=0), value, np.nan)


def _rater_effects(analysis: Analysis) -> np.ndarray:
    """Effects of the raters within subjects by least squares, (k, p), in units of the data."""
    data = analysis.data
    k = data.n_raters
    stack = np.linalg.pinv(np.moveaxis(data.within[1:k, 1:k], 2, 0), rcond=1e-9, hermitian=True)
    effects = np.einsum("rij,jr->ir", stack, data.within[1:k, k])
    return contrasts(k)[:, 1:] @ effects * data.scale
