"""One value of the population parameters: the subjects' parameters and criterion as functions of u.

eta = L u with Omega = L L' and u standard normal, so that nothing divides by Omega and a variance
may be zero. The criterion of a subject is l(u) = sum_j loss_j + u'u.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import Coordinates, coordinates, jacobian, predict, second
from sklme._engine.nlme.errors import Loss, Variance, loss, slopes, values, variance
from sklme._engine.nlme.parameters import Parameters, factor


@dataclass(frozen=True)
class Rows:
    """Of some subjects at u: f and its derivatives by the active coordinates and by eta."""

    f: np.ndarray  # (subjects, n)
    first: np.ndarray  # (subjects, n, U)
    a: np.ndarray  # (subjects, n, Q)


class Point:
    """A record at its parameters.

    interaction : whether the variance moves with eta; if not it is that at eta = 0
    """

    def __init__(self, data: Data, parameters: Parameters, *, interaction: bool = True, L=None):
        self.data, self.parameters, self.interaction = data, parameters, interaction
        self.L = factor(parameters.Omega) if L is None else L
        self.base = data.C @ parameters.beta  # phi at eta = 0, (N, m, q)
        self.BL = data.B @ self.L
        size = np.abs(self.base).max(axis=(0, 1))
        identity = np.array([link == "identity" for link in data.links])
        self.scale = np.where(identity & (size > 0), size, 1.0)
        self.frozen = None if interaction else self._variance_at_zero()

    def phi(self, u: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
        """phi (..., subjects, m, q) at u (..., subjects, Q)."""
        base, BL = (
            (self.base, self.BL) if subjects is None else (self.base[subjects], self.BL[subjects])
        )
        return base + (BL @ u[..., None, :, None])[..., 0]

    def variance(self, f: np.ndarray, subjects=None, by_sigma: bool = False) -> Variance:
        """The variance of the rows that the criterion sees."""
        if self.frozen is not None:
            frozen = self.frozen if subjects is None else self.frozen.take(subjects)
            return frozen if f.ndim == 2 else frozen.for_nodes()
        return variance(self.data, self.parameters.sigma, f, subjects, by_sigma)

    def criterion(self, u: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
        """l(u) (..., subjects); infinite where it is no number."""
        with np.errstate(all="ignore"):
            f = predict(self.data, self.phi(u, subjects), subjects)
            rows = values(self.data, f, self.variance(f, subjects), subjects)
            total = rows.sum(axis=-1) + (u * u).sum(axis=-1)
        return np.where(np.isfinite(total), total, np.inf)

    def rows(self, u: np.ndarray, subjects=None, *, outer: bool = False) -> Rows:
        """Predictions and first derivatives at u."""
        along = self.along(subjects, outer=outer)
        f, first = jacobian(self.data, along, self.phi(u, subjects), self.scale, subjects)
        return Rows(f, first, along.to_eta(first))

    def second(self, u: np.ndarray, subjects=None, *, outer: bool = False) -> np.ndarray:
        """Second derivatives along the coordinates at u."""
        along = self.along(subjects, outer=outer)
        return second(self.data, along, self.phi(u, subjects), self.scale, subjects)

    def along(self, subjects=None, *, outer: bool = False) -> Coordinates:
        """The coordinates of some subjects."""
        return coordinates(self.data, outer=outer).take(subjects)

    def slopes(self, f: np.ndarray, subjects=None):
        """The loss of the rows, two derivatives by f, and the positive curvature."""
        return slopes(self.data, f, self.variance(f, subjects), subjects)

    def loss(self, f: np.ndarray) -> Loss:
        """The loss of the rows of all subjects with all its derivatives."""
        return loss(self.data, f, self.variance(f, None, True))

    def _variance_at_zero(self) -> Variance:
        self.at_zero = self.rows(np.zeros((len(self.base), self.data.n_effects)), outer=True)
        at = variance(self.data, self.parameters.sigma, self.at_zero.f, None, True)
        return at.freeze()
