"""Variances of a generalised model over rows: of the linear predictor, and of the outcome."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import polygamma
from sklearn.base import clone

from sklme._columns import read_columns
from sklme._engine import marginal, observed
from sklme._rows import check_choice
from sklme.inference._generalized import GeneralizedFitted

LATENT = {"logit": np.pi**2 / 3.0, "probit": 1.0, "cloglog": np.pi**2 / 6.0}
CLASSES = ("binomial", "cumulative logit")  # a class is a latent variable that passed a threshold
APPROXIMATIONS = ("lognormal", "delta", "trigamma")
DIGITS = 12  # to which rows are the same
N_NODES = 400  # of a cubic spline in the fixed part, where rows are many more
STRIP = 4000  # rows at once


@dataclass(frozen=True)
class RowVariances:
    """What a generalised model says of the variances of rows.

    fixed : the linear predictor with effects at zero, without the offset; offset : what is added
    random : variance that each factor adds to the linear predictor of each row, (n_factors, n)
    grouping : which factors have levels of more than one row; another stands for overdispersion
    """

    fitted: GeneralizedFitted
    fixed: np.ndarray
    offset: np.ndarray
    random: np.ndarray
    aux: np.ndarray
    grouping: np.ndarray

    def observed(self) -> "Observed":
        """The variances of the outcome; rows that are the same are computed once.

        Rows that differ in their fixed part only are many values of one smooth function.
        """
        n = len(self.fixed)
        aux = np.broadcast_to(self.aux, (len(self.aux), n))
        columns = np.vstack([self.fixed + self.offset, self.random, aux]).T
        size = np.abs(columns).max(axis=0, initial=0.0)
        keys = np.round(columns / np.where(size > 0, size, 1.0), DIGITS)
        _, first, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
        kept, share = columns[first].T, counts / n
        if len(first) > 2 * N_NODES and not np.ptp(kept[1:], axis=1).any():
            nodes, share = _on_nodes(kept[0], share)
            kept = np.vstack([nodes, np.repeat(kept[1:, :1], N_NODES, axis=1)])
        end = 1 + len(self.random)
        return Observed(self.fitted.fit.family, kept[0], kept[1:end], kept[end:], share, n)


@dataclass(frozen=True)
class Observed:
    """Variances of the outcome, averaged over rows; `share` is the weight of each row."""

    family: object
    eta: np.ndarray
    random: np.ndarray
    aux: np.ndarray
    share: np.ndarray
    n_rows: int

    @property
    def _reach(self) -> float:
        return marginal.REACH.get(self.family.link.name, marginal.ELSEWHERE)

    def _mean(self, eta, at):
        return self.family.mean(eta, self.aux[:, at])

    def _variance(self, eta, at):
        return self.family.variance(eta, self.aux[:, at])

    def between(self, which) -> float:
        """Variance between levels of the factors `which`, the other effects integrated out."""
        part = self.random[which].sum(axis=0)
        rest = np.maximum(self.random.sum(axis=0) - part, 0.0)
        return float(self.share @ observed.between(self._mean, self.eta, part, rest, self._reach))

    @cached_property
    def fixed(self) -> float:
        """Variance over rows of the mean with all effects integrated out, with n - 1."""
        total = self.random.sum(axis=0)
        means = observed.expectation(self._mean, self.eta, total, self._reach)
        spread = float(self.share @ (means - self.share @ means) ** 2)
        return spread * self.n_rows / (self.n_rows - 1) if self.n_rows > 1 else 0.0

    @cached_property
    def distribution(self) -> float:
        """The variance of the distribution, all effects integrated out."""
        total = self.random.sum(axis=0)
        return float(
            self.share @ observed.expectation(self._variance, self.eta, total, self._reach)
        )


def row_variances(fitted: GeneralizedFitted, function: str) -> RowVariances:
    """The variances of the rows X that were given."""
    if fitted.X is None:
        raise ValueError(f"{function} of a generalised model takes variances over rows: pass X")
    model = fitted.model
    rows = read_columns(model, fitted.X, model._columns)
    n, gram = len(rows.X), fitted.working.gram
    random = [
        ((z @ model.theta_[key]) ** 2).sum(axis=1)
        for key, z in zip(fitted.keys, rows.slopes, strict=True)
    ]
    return RowVariances(
        fitted,
        rows.X @ model.coef_ + model.intercept_,
        np.zeros(n) if rows.offset is None else rows.offset,
        np.array(random).reshape(len(random), n),
        model._aux(rows),
        np.array([f.n_levels < gram.n_rows for f in gram.factors], dtype=bool),
    )


def distribution_variance(fitted: GeneralizedFitted, mean, approximation: str) -> float:
    """What the distribution adds to the variance on the scale of the linear predictor.

    Nakagawa, Johnson and Schielzeth (2017), table 1: for two or more classes the
    variance of the latent variable; for the log link from c^2 = Var[y] / E[y]^2; for other links
    Var[y] over the square of the slope of the mean.
    """
    check_choice("approximation", approximation, APPROXIMATIONS)
    family = fitted.fit.family
    if family.name in CLASSES:
        return LATENT[family.link.name]
    eta = np.atleast_1d(_typical_predictor(fitted) if mean is None else family.link.eta(mean))
    aux = _typical_aux(fitted)
    variance = family.variance(eta, aux)[0]
    if family.link.name != "log":
        return float(variance / family.link.derivatives(eta)[1][0] ** 2)
    squared = variance / family.mean(eta, aux)[0] ** 2
    if approximation == "lognormal":
        return float(np.log1p(squared))
    return float(squared if approximation == "delta" else polygamma(1, 1.0 / squared))


def _on_nodes(x: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Even nodes, and the weights that turn values there into the average of their spline."""
    nodes = np.linspace(x.min(), x.max(), N_NODES)
    spline = CubicSpline(nodes, np.eye(N_NODES))
    strips = range(0, len(x), STRIP)
    return nodes, sum(share[i : i + STRIP] @ spline(x[i : i + STRIP]) for i in strips)


def needs_mean(fitted: GeneralizedFitted) -> bool:
    """Whether the variance of the distribution depends on the mean."""
    return fitted.fit.family.name not in CLASSES


def _typical_aux(fitted: GeneralizedFitted) -> np.ndarray:
    """Auxiliary predictors at the mean of their columns, (n_aux, 1)."""
    model = fitted.model
    if fitted.X is None:
        return model._aux_constants()[:, None]
    return model._aux(read_columns(model, fitted.X, model._columns)).mean(axis=1, keepdims=True)


def _typical_predictor(fitted: GeneralizedFitted) -> float:
    """The intercept of the model without fixed columns, and the mean offset."""
    model, gram = fitted.model, fitted.working.gram
    if not fitted.has_rows or gram.total != gram.n_rows:
        weights = "" if gram.total == gram.n_rows else " (but not with the weights of this fit)"
        raise ValueError(
            f"the variance of the {fitted.fit.family.name} distribution on the latent scale "
            "depends on the mean: give `mean`, or X and y, to which the model without fixed "
            f"columns is fitted{weights}"
        )
    null = model
    if model.fixed_names_ or not fitted.working.intercept:
        null = clone(model).set_params(fixed_effects=[], fit_intercept=True)
        null.fit(fitted.X, fitted.y)
    rows = read_columns(model, fitted.X, model._columns)
    return null.intercept_ + (0.0 if rows.offset is None else float(rows.offset.mean()))
