"""Intervals of intraclass correlations of incomplete tables, from the `Sums` of many features.

With raters (or the mean alone) taken as fixed and r(lambda) the generalised residual sum of squares
at lambda = var(subject) / var(error), the pivot

    Q(lambda) = r(lambda) - SSE,  SSE = r(infinity),

is var(error) times chi2 with as many degrees of freedom as subjects have beyond the raters,
independent of SSE, at the true lambda, whatever the table (Wald 1940; Seely and El-Bassiouni 1983).
So Q / SSE gives exact limits of lambda. 1 / Q increases and is concave, hence Newton's method on it
comes from below and never overshoots.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from sklme._engine import blocks
from sklme._engine.intraclass_reml import lower_inverse
from sklme._engine.intraclass_sums import Sums

EXACT = 1e-13  # a sum of squares below this share of the whole is rounding
CLOSE = 1e-11  # relative change of lambda at which the search of a limit ends
MOST_STEPS = 100


@dataclass(frozen=True)
class Analysis:
    """Sums of squares of p features with subjects and raters as fixed effects, and their F tests.

    error : SSE; raters : of raters adjusted for subjects, both in units of the sums
    df_error, df_subjects, df_raters : degrees of freedom of SSE, of Q and of `raters`
    spread : expected sum of squares of raters is df_raters var(error) + spread var(rater)
    size : measurements a subject is worth: E Q(0) = df_subjects (var(error) + size var(subject))
    """

    data: Sums
    error: np.ndarray
    raters: np.ndarray
    df_error: np.ndarray
    df_subjects: np.ndarray
    df_raters: np.ndarray
    spread: np.ndarray
    size: np.ndarray

    @cached_property
    def mean_square(self) -> np.ndarray:
        """SSE / df_error, the variance of the error; NaN without degrees of freedom."""
        return np.where(self.df_error > 0, self.error / np.maximum(self.df_error, 1), np.nan)

    @cached_property
    def rater_variance(self) -> np.ndarray:
        """Henderson's estimate of the variance between raters, which may be negative."""
        if self.data.n_raters == 1:
            return np.zeros_like(self.error)
        excess = self.raters - self.df_raters * self.mean_square
        return excess / np.where(self.spread > 0, self.spread, np.nan)

    @cached_property
    def f(self) -> np.ndarray:
        """The F statistic of no variance between subjects; infinite without error."""
        subjects = pivot(self, np.zeros(len(self.error)))[0] / np.maximum(self.df_subjects, 1)
        error = np.where(self.is_exact, 0.0, self.mean_square)
        with np.errstate(divide="ignore", invalid="ignore"):
            return subjects / error

    @cached_property
    def whole(self) -> np.ndarray:
        """The sum of squares about the mean."""
        d = len(self.data.within)
        A = self.data.at(np.zeros(len(self.error)))[0]
        return A[d - 1, d - 1]

    @cached_property
    def is_exact(self) -> np.ndarray:
        """Whether subjects and raters reproduce y."""
        return self.error <= EXACT * self.whole


def analyse(data: Sums) -> Analysis:
    """The sums of squares of every feature."""
    k, within = data.n_raters, data.within
    inner, b = within[1:k, 1:k], within[1:k, k]
    df_raters = np.zeros(len(data.total))
    raters = np.zeros(len(data.total))
    if k > 1:
        stack = np.moveaxis(inner, 2, 0)
        w, V = np.linalg.eigh(stack)
        free = w > 1e-9 * np.abs(w).max(axis=1, keepdims=True)
        along = np.einsum("rji,jr->ri", V, b)
        raters = np.where(free, along**2 / np.where(free, w, 1.0), 0.0).sum(axis=1)
        df_raters = free.sum(axis=1).astype(float)
    n = data.n_subjects
    df_subjects = n - (k - df_raters)
    error = np.maximum(within[k, k] - raters, 0.0)
    return Analysis(
        data,
        error,
        raters,
        data.total - n - df_raters,
        df_subjects,
        df_raters,
        np.einsum("iir->r", inner),
        _size(data) / np.maximum(df_subjects, 1.0),
    )


def _size(data: Sums) -> np.ndarray:
    """Trace of Z'(I - H)Z, Z of subjects and H the projection on the raters."""
    k = data.n_raters
    K = data.at(np.zeros(len(data.total)))[0][:k, :k]
    inverse = lower_inverse(blocks.cholesky(K))
    squares = data.between[:, :k, :k].sum(axis=0)
    lost = np.einsum("iar,ibr,abr->r", inverse, inverse, squares)
    return data.total - lost


def pivot(analysis: Analysis, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q(lambda) and its derivative."""
    A, dA = analysis.data.at(ratio, 1)
    v = lower_inverse(blocks.cholesky(A))[-1]
    v = v / v[-1]  # (-K^-1 b, 1): rss = v'A v
    rss = np.einsum("ar,abr,br->r", v, A, v)
    return np.maximum(rss - analysis.error, 0.0), np.einsum("ar,abr,br->r", v, dA, v)


def solve(analysis: Analysis, target: np.ndarray, rough: bool = False) -> np.ndarray:
    """The lambda >= 0 at which Q falls to `target`, 0 where it is below it from the start.

    rough : to a hundredth is enough
    """
    ratio = np.zeros(len(target))
    for _ in range(MOST_STEPS):
        Q, slope = pivot(analysis, ratio)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = Q * (Q - target) / (-slope * target)  # of Newton on 1 / Q
        step = np.where((Q > target) & np.isfinite(step), step, 0.0)
        ratio = ratio + step
        if (step <= (0.01 if rough else CLOSE) * ratio).all():
            break
    return ratio


def exact_limits(analysis: Analysis, confidence_level: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of var(subject) / var(error), exact but for being held at 0 or above.

    There Q / (df_subjects SSE / df_error) is a quantile of F.
    """
    tail = 0.5 - 0.5 * confidence_level
    unit = analysis.df_subjects * analysis.mean_square
    lower, upper = (
        solve(analysis, unit * special.fdtri(analysis.df_subjects, analysis.df_error, level))
        for level in (1.0 - tail, tail)
    )
    return lower, upper


def within_variance(analysis: Analysis):
    """Unbiased variance of one rater's measurement of a subject and its degrees of freedom.

    var(rater) + var(error) as a sum of two mean squares, by Satterthwaite's rule.
    """
    share = analysis.df_raters / analysis.spread
    rater = share * analysis.raters / analysis.df_raters
    error = (1.0 - share) * analysis.mean_square
    below = rater**2 / analysis.df_raters + error**2 / analysis.df_error
    return rater + error, (rater + error) ** 2 / below
