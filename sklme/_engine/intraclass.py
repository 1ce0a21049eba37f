"""Intraclass correlations of complete tables in closed form, for many features at once."""

from dataclasses import dataclass, fields

import numpy as np
from scipy import special

EXACT = 1e-13  # a sum of squares below this share of the whole is rounding


@dataclass(frozen=True)
class Form:
    """Which correlation.

    model : "one-way" (raters are not told apart), "agreement" (differences between raters count as
        error) or "consistency" (they do not)
    average : of the mean of k measurements instead of one
    """

    model: str
    average: bool


@dataclass(frozen=True)
class Intraclass:
    """The correlations of p features; every field is (p,), variances are in units of the data.

    icc, lower, upper : of the form that was asked for
    subject, rater, residual : variance components
    within : variance of one measurement of a subject, with its limits
    relative : root mean square of the standard deviation within subjects over their mean
    k : measurements in an average
    f, df_subjects, df_error : the F test of no variance between subjects
    at_zero : whether the variance between subjects was held at zero
    """

    icc: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    subject: np.ndarray
    rater: np.ndarray
    residual: np.ndarray
    within: np.ndarray
    within_lower: np.ndarray
    within_upper: np.ndarray
    relative: np.ndarray
    n_subjects: np.ndarray
    n_measurements: np.ndarray
    k: np.ndarray
    f: np.ndarray
    df_subjects: np.ndarray
    df_error: np.ndarray
    p_value: np.ndarray
    at_zero: np.ndarray

    @staticmethod
    def empty(p: int) -> "Intraclass":
        """All NaN, to be filled by `put`."""
        columns = {f.name: np.full(p, np.nan) for f in fields(Intraclass)}
        return Intraclass(**columns | {"at_zero": np.zeros(p, bool)})

    def put(self, which: np.ndarray, part: "Intraclass") -> None:
        """Overwrite the entries of some features."""
        for f in fields(self):
            getattr(self, f.name)[which] = getattr(part, f.name)


@dataclass(frozen=True)
class MeanSquares:
    """The two-way analysis of variance of n subjects by k raters, (p,) each."""

    n: int
    k: int
    subjects: np.ndarray
    raters: np.ndarray
    error: np.ndarray
    within: np.ndarray


def complete(cube: np.ndarray, form: Form, confidence_level: float) -> Intraclass:
    """Correlations from a cube (n subjects, k raters, p features) without gaps."""
    n, k, p = cube.shape
    values, scale = _standardised(cube)
    squares, left = _mean_squares(values)
    icc = single(squares, form)
    lower, upper = limits(squares, form, icc, confidence_level)
    if form.average:
        icc, lower, upper = (average(x, k) for x in (icc, lower, upper))
    two_way = form.model != "one-way"
    error = squares.error if two_way else squares.within
    dof = (n - 1.0) * (k - 1.0) if two_way else n * (k - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = squares.subjects / error
    within, within_lower, within_upper = _within(squares, form, confidence_level)
    every = np.ones(p)
    units = scale**2
    raters = (squares.raters - error) / n * units if two_way else np.full(p, np.nan)
    free = dof if form.model != "agreement" else n * (k - 1.0)
    return Intraclass(
        icc,
        lower,
        upper,
        (squares.subjects - error) / k * units,
        raters,
        error * units,
        within * units,
        within_lower * units,
        within_upper * units,
        _relative(left(form.model) * units, cube.mean(axis=1), free),
        n * every,
        n * k * every,
        k * every,
        f,
        (n - 1.0) * every,
        dof * every,
        special.fdtrc(n - 1.0, dof, f),
        np.zeros(p, bool),
    )


def single(squares: MeanSquares, form: Form) -> np.ndarray:
    """The correlation of single measurements (Shrout and Fleiss 1979, table 4)."""
    n, k, subjects = squares.n, squares.k, squares.subjects
    error = squares.within if form.model == "one-way" else squares.error
    below = subjects + (k - 1.0) * error
    if form.model == "agreement":
        below = below + k * (squares.raters - error) / n
    return (subjects - error) / below


def average(icc: np.ndarray, k) -> np.ndarray:
    """The correlation of means of k measurements (Spearman and Brown)."""
    return k * icc / (1.0 + (k - 1.0) * icc)


def limits(squares: MeanSquares, form: Form, icc: np.ndarray, confidence_level: float):
    """Limits of the correlation of single measurements (McGraw and Wong 1996, table 7).

    Exact, but for agreement, where a sum of two mean squares has Satterthwaite's degrees of
    freedom.
    """
    n, k, tail = squares.n, squares.k, 0.5 - 0.5 * confidence_level
    error, dof = squares.error, (n - 1.0) * (k - 1.0) * np.ones(len(icc))
    others = n * (k - 1.0) * error
    if form.model == "agreement":
        dof = _agreement_dof(squares, icc)
        others = k * squares.raters + (k * n - k - n) * error
    if form.model == "one-way":
        error, dof = squares.within, n * (k - 1.0) * np.ones(len(icc))
        others = n * (k - 1.0) * error
    lower, upper = (
        n * (squares.subjects - F * error) / (F * others + n * squares.subjects)
        for F in (special.fdtri(n - 1.0, dof, level) for level in (1.0 - tail, tail))
    )
    return lower, upper


def _agreement_dof(squares: MeanSquares, icc: np.ndarray) -> np.ndarray:
    """Degrees of freedom of the denominator; both weights times n (1 - icc), which may be 0."""
    n, k = squares.n, squares.k
    rater = k * icc * squares.raters
    error = (n * (1.0 + (k - 1.0) * icc) - k * icc) * squares.error
    below = rater**2 / (k - 1.0) + error**2 / ((n - 1.0) * (k - 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = (rater + error) ** 2 / below
    return np.where(below > 0, dof, (n - 1.0) * (k - 1.0))


def _within(squares: MeanSquares, form: Form, confidence_level: float):
    """Variance of one measurement of a subject and its limits by chi2."""
    n, k = squares.n, squares.k
    variance, every = squares.within, np.ones_like(squares.within)
    dof = n * (k - 1.0) * every
    if form.model == "consistency":
        variance, dof = squares.error, (n - 1.0) * (k - 1.0) * every
    if form.model == "agreement":
        rater, error = squares.raters / n, (n - 1.0) * squares.error / n
        below = rater**2 / (k - 1.0) + error**2 / ((n - 1.0) * (k - 1.0))
        np.divide(variance**2, below, out=dof, where=below > 0)
    return variance, *variance_limits(variance, dof, confidence_level)


def variance_limits(variance: np.ndarray, dof: np.ndarray, confidence_level: float):
    """Limits of a variance whose estimate is chi2 with `dof` degrees of freedom."""
    tail = 0.5 - 0.5 * confidence_level
    lower, upper = (special.chdtri(dof, level) for level in (tail, 1.0 - tail))
    return variance * dof / lower, variance * dof / upper


def _standardised(cube: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cube about its mean, over its largest distance from it."""
    values = cube - cube[0, 0]  # a mean of large equal numbers would round
    values -= values.mean(axis=(0, 1))
    scale = np.maximum(values.max(axis=(0, 1)), -values.min(axis=(0, 1)))
    scale = np.where(scale > 0.0, scale, 1.0)
    values /= scale
    return values, scale


def _mean_squares(values: np.ndarray):
    """The mean squares, and a function: the form's model -> sums of squares by subject (n, p)."""
    n, k, _ = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    inner = values - rows[:, None]
    within = np.einsum("nkp,nkp->np", inner, inner)
    inner -= columns
    error = np.einsum("nkp,nkp->np", inner, inner)
    subjects = k * np.einsum("np,np->p", rows, rows)
    raters = n * np.einsum("kp,kp->p", columns, columns)
    sums = [subjects, raters, error.sum(axis=0), within.sum(axis=0)]
    whole = sums[0] + sums[3]
    sums = [np.where(x > EXACT * whole, x, 0.0) for x in sums]
    dof = [n - 1.0, k - 1.0, (n - 1.0) * (k - 1.0), n * (k - 1.0)]
    squares = MeanSquares(n, k, *(x / d for x, d in zip(sums, dof, strict=True)))
    return squares, lambda model: error if model == "consistency" else within


def _relative(squares: np.ndarray, means: np.ndarray, dof: float) -> np.ndarray:
    """Root of the sum of squares by subject over squared means, by its degrees of freedom.

    NaN where a mean is not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt((squares / means**2).sum(axis=0) / dof)
    return np.where((means > 0).all(axis=0), value, np.nan)
