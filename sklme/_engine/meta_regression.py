"""Weighted regression of the estimates of sites on moderators, for many metrics at once.

Metric by metric, estimate_i ~ N(x_i' beta, variance_i + tau2). At a trial tau2 the weights are
w_i = 1 / (variance_i + tau2), and P = W - W X (X'WX)^-1 X'W gives the residuals P y that every
likelihood, test and interval is made of (Viechtbauer 2005). Without moderators X is one column.
Absent sites have weight 0.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

SINGULAR = 1e-10  # share of a moderator that the sites of one metric must leave over


@dataclass(frozen=True)
class Sites:
    """Estimates of m metrics at k sites, and p moderators of the sites, orthogonal to each other.

    `basis` @ `triangle` are the moderators as they were given. Metrics that are not `estimable`
    hold harmless numbers.
    """

    estimates: np.ndarray  # (m, k); 0 where absent
    variances: np.ndarray  # (m, k); 1 where absent
    present: np.ndarray  # (m, k); 0 or 1
    basis: np.ndarray  # (k, p)
    triangle: np.ndarray  # (p, p)
    estimable: np.ndarray  # (m,)
    n_sites: np.ndarray  # (m,)

    @property
    def dof(self) -> np.ndarray:
        """Residual degrees of freedom, at least 1 so that one may divide by them."""
        return np.maximum(self.present.sum(axis=1) - self.basis.shape[1], 1.0)

    def take(self, which: slice | np.ndarray) -> "Sites":
        """Some of the metrics."""
        rows = ("estimates", "variances", "present", "estimable", "n_sites")
        return replace(self, **{name: getattr(self, name)[which] for name in rows})

    def smallest_and_largest_variance(self) -> tuple[np.ndarray, np.ndarray]:
        here = self.present > 0
        return (
            np.where(here, self.variances, np.inf).min(axis=1),
            np.where(here, self.variances, 0.0).max(axis=1),
        )


def arrange(estimates: np.ndarray, std_errors: np.ndarray, moderators: np.ndarray) -> Sites:
    """Put (k, m) estimates and standard errors, NaN where absent, and (k, p) moderators in order.

    Raises
    ------
    ValueError
        If the moderators of all sites repeat each other.
    """
    basis, triangle = np.linalg.qr(moderators)
    size = np.abs(np.diag(triangle))
    if size.min() <= SINGULAR * np.linalg.norm(moderators, axis=0).max():
        raise ValueError(
            "the moderators repeat each other or are constant: leave out those that others give"
        )
    present = (np.isfinite(estimates) & np.isfinite(std_errors)).T
    n_sites = present.sum(axis=1)
    kept = np.einsum("mk,kp,kq->mpq", present.astype(float), basis, basis)
    estimable = np.linalg.eigvalsh(kept)[:, 0] > SINGULAR
    present = present | ~estimable[:, None]
    filled = present & estimable[:, None]
    return Sites(
        np.where(filled, estimates.T, 0.0),
        np.where(filled, std_errors.T, 1.0) ** 2,
        present.astype(float),
        basis,
        triangle,
        estimable,
        n_sites,
    )


@dataclass(frozen=True)
class Regression:
    """The regression of each metric at one or several values of tau2, all axes but the last."""

    sites: Sites
    tau2: np.ndarray  # (m, ...)
    weights: np.ndarray  # (m, ..., k)
    precision: np.ndarray  # X'WX in the orthogonal basis, (m, ..., p, p)
    coef: np.ndarray  # in the orthogonal basis, (m, ..., p)
    residuals: np.ndarray  # P y, (m, ..., k)
    q: np.ndarray  # y'Py: Cochran's Q with these weights, (m, ...)

    @cached_property
    def covariance(self) -> np.ndarray:
        return np.linalg.inv(self.precision)

    def gram(self, power: int) -> np.ndarray:
        """X'W^power X."""
        basis = self.sites.basis
        return basis.T @ (self.weights[..., None] ** power * basis)

    @cached_property
    def trace(self) -> np.ndarray:
        """tr P."""
        lost = np.einsum("...pq,...qp->...", self.covariance, self.gram(2))
        return self.weights.sum(axis=-1) - lost

    @cached_property
    def trace_of_square(self) -> np.ndarray:
        """tr PP."""
        once = self.covariance @ self.gram(2)
        cubes = np.einsum("...pq,...qp->...", self.covariance, self.gram(3))
        twice = np.einsum("...pq,...qp->...", once, once)
        return (self.weights**2).sum(axis=-1) - 2.0 * cubes + twice

    @cached_property
    def squares(self) -> np.ndarray:
        """y'PPy, by which y'Py falls as tau2 grows."""
        return (self.residuals**2).sum(axis=-1)

    @cached_property
    def cubes(self) -> np.ndarray:
        """y'PPPy."""
        weighted = self.weights * self.residuals
        across = weighted @ self.sites.basis
        fitted = np.einsum("...p,...pq,...q->...", across, self.covariance, across)
        return (weighted * self.residuals).sum(axis=-1) - fitted


def regress(sites: Sites, tau2: np.ndarray) -> Regression:
    """The regression at tau2, (m,) or (m, g) for g values of each metric."""
    own = (slice(None), *(None,) * (tau2.ndim - 1))
    y, present, basis = sites.estimates[own], sites.present[own], sites.basis
    weights = present / (sites.variances[own] + tau2[..., None])
    precision = basis.T @ (weights[..., None] * basis)
    right = (weights * y) @ basis
    coef = np.linalg.solve(precision, right[..., None])[..., 0]
    errors = y - coef @ basis.T
    residuals = weights * errors
    q = (residuals * errors).sum(axis=-1)
    return Regression(sites, tau2, weights, precision, coef, residuals, q)
