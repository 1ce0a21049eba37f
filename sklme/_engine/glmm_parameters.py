"""Parameters in units of the data as functions of psi = (theta, beta, auxiliary coefficients).

Each knows its value and gradient, and how to hold it: one entry of psi is left out and follows
from the others and from the value that is held.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sklme._engine import units
from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_rows import Prepared
from sklme._engine.laplace import FAR


@dataclass(frozen=True)
class Place:
    """Where psi stands: the fit, its rows and the criterion."""

    fit: GeneralizedFit
    ready: Prepared
    problem: Any

    @property
    def first_beta(self) -> int:
        """The position of the first coefficient."""
        return int(self.problem.n_theta)

    def aux_slice(self, j: int) -> slice:
        """The positions of the coefficients of auxiliary predictor j."""
        sizes = [len(T) for T in self.ready.aux_maps]
        first = self.first_beta + self.problem.n_fixed + sum(sizes[:j])
        return slice(first, first + sizes[j])

    def zeros(self) -> np.ndarray:
        """A gradient to be filled."""
        return np.zeros(self.problem.n_theta + self.problem.n_fixed + self.problem.n_aux)


Completed = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def fresh(problem: Any) -> Any:
    """A copy of the criterion that has not been anywhere; it shares the rows."""
    other = copy(problem)
    other.latest, other.best, other.searching, other.distance = None, None, False, FAR
    return other


class Functional(Protocol):
    """A parameter as a function of psi."""

    def value(self, place: Place, psi: np.ndarray) -> float:
        """In units of the data."""

    def gradient(self, place: Place, psi: np.ndarray) -> np.ndarray:
        """Its derivatives by psi."""

    def held(self, place: Place) -> "Held":
        """How it is held at a value."""


class Held(Protocol):
    """psi without the entry `left_out`, which follows from the others and a value.

    complete : (rest, value) -> psi (m,), d psi / d rest (m, m - 1), and the second derivatives of
        psi by each of the rest, of the same shape, or None for zeros
    """

    left_out: int

    def complete(self, rest: np.ndarray, value: float) -> "Completed":
        """psi and its derivatives by the rest."""


@dataclass(frozen=True)
class Fixed:
    """Fixed coefficient i in units of the data, the intercept first."""

    i: int

    def value(self, place: Place, psi: np.ndarray) -> float:
        """Linear in psi."""
        return float(self.gradient(place, psi) @ psi)

    def gradient(self, place: Place, psi: np.ndarray) -> np.ndarray:
        """A row of the map from the frame to the data."""
        out = place.zeros()
        first = place.first_beta
        out[first : first + place.problem.n_fixed] = units.coefficient_map(place.fit.working)[
            self.i
        ]
        return out

    def held(self, place: Place) -> Held:
        """By the coefficient of the frame that it depends on most."""
        return Along(self.gradient(place, place.zeros()))


@dataclass(frozen=True)
class Coefficient:
    """Coefficient i of auxiliary predictor j in units of the data."""

    j: int
    i: int

    def value(self, place: Place, psi: np.ndarray) -> float:
        """Linear in psi."""
        return float(self.gradient(place, psi) @ psi)

    def gradient(self, place: Place, psi: np.ndarray) -> np.ndarray:
        """A row of the map from unit spread to the data."""
        out = place.zeros()
        out[place.aux_slice(self.j)] = place.ready.aux_maps[self.j][self.i]
        return out

    def held(self, place: Place) -> Held:
        """By the coefficient of unit spread that it depends on most."""
        return Along(self.gradient(place, place.zeros()))


@dataclass(frozen=True)
class Threshold:
    """Threshold k of the cumulative logit: kappa_1 + sum of exp(log step) + center' coefficients.

    center : what was taken off the columns, in units of the data
    """

    k: int
    center: np.ndarray

    def value(self, place: Place, psi: np.ndarray) -> float:
        """The threshold in the frame, moved by what was taken off the columns."""
        slopes, first, p = self.gradient(place, psi), place.first_beta, place.problem.n_fixed
        beta = psi[first : first + p]
        return float(
            slopes[first : first + p] @ beta + psi[first + p] + slopes[first + p + 1 :].sum()
        )

    def gradient(self, place: Place, psi: np.ndarray) -> np.ndarray:
        """By kappa_1, the log steps up to k, and the coefficients."""
        out = place.zeros()
        first, p = place.first_beta, place.problem.n_fixed
        out[first : first + p] = self.center @ units.coefficient_map(place.fit.working)
        kappa = first + p
        out[kappa] = 1.0
        out[kappa + 1 : kappa + 1 + self.k] = np.exp(psi[kappa + 1 : kappa + 1 + self.k])
        return out

    def held(self, place: Place) -> Held:
        """By kappa_1, with the other thresholds following."""
        return _HeldThreshold(self, place)


class Along:
    """c'psi held by the entry of psi with the largest weight in c."""

    def __init__(self, c: np.ndarray):
        self.left_out = int(np.argmax(np.abs(c)))
        self.weight = c[self.left_out]
        self.others = np.delete(c, self.left_out)

    def complete(self, rest: np.ndarray, value: float) -> Completed:
        """Linear in the rest."""
        own = (value - self.others @ rest) / self.weight
        return *_inserted(rest, self.left_out, own, -self.others / self.weight), None


class _HeldThreshold:
    def __init__(self, threshold: Threshold, place: Place):
        self.threshold, self.place = threshold, place
        self.left_out = place.first_beta + place.problem.n_fixed

    def complete(self, rest: np.ndarray, value: float) -> Completed:
        """kappa_1 = value - sum of exp(log step) - center' coefficients."""
        psi = np.insert(rest, self.left_out, 0.0)
        slopes = self.threshold.gradient(self.place, psi)
        at_beta = slice(self.place.first_beta, self.left_out)
        steps = slopes[self.left_out + 1 :].sum()
        own = value - steps - slopes[at_beta] @ psi[at_beta]
        out, J = _inserted(rest, self.left_out, own, -np.delete(slopes, self.left_out))
        bend = np.zeros_like(J)
        bend[self.left_out, self.left_out :] = J[self.left_out, self.left_out :]  # exp'' = exp'
        return out, J, bend


def _inserted(rest: np.ndarray, at: int, own: float, slopes: np.ndarray):
    return np.insert(rest, at, own), np.insert(np.eye(len(rest)), at, slopes, axis=0)


# Variances -------------------------------------------------------------------------------------


def covariances(place: Place, psi: np.ndarray) -> list[np.ndarray]:
    """The covariance of each factor's coefficients in units of the data."""
    maps = place.fit.working.frame.z_maps
    return [(T @ L) @ (T @ L).T for T, L in zip(maps, place.problem.unpack(psi)[0], strict=True)]


def covariance_slopes(place: Place, psi: np.ndarray, t: int) -> np.ndarray:
    """d covariance of factor t / d psi, (m, k, k)."""
    T, L = place.fit.working.frame.z_maps[t], place.problem.unpack(psi)[0][t]
    half = T @ place.problem.basis(t) @ (T @ L).T
    out = np.zeros((len(psi), *L.shape))
    out[place.problem.charts.slices[t]] = half + half.swapaxes(1, 2)
    return out


def log_sd_gradient(place: Place, psi: np.ndarray, t: int, a: int) -> np.ndarray:
    """Of the logarithm of the standard deviation of coefficient a of factor t."""
    G, slopes = covariances(place, psi)[t], covariance_slopes(place, psi, t)
    return 0.5 * slopes[:, a, a] / G[a, a]


def atanh_gradient(place: Place, psi: np.ndarray, t: int, a: int, b: int) -> np.ndarray:
    """Of the inverse hyperbolic tangent of the correlation of a and b of factor t."""
    G, slopes = covariances(place, psi)[t], covariance_slopes(place, psi, t)
    r = G[a, b] / np.sqrt(G[a, a] * G[b, b])
    shares = slopes[:, a, a] / G[a, a] + slopes[:, b, b] / G[b, b]
    change = slopes[:, a, b] / np.sqrt(G[a, a] * G[b, b]) - 0.5 * r * shares
    return change / (1.0 - r * r)
