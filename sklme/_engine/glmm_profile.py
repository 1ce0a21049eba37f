"""The likelihood of a generalised model profiled over all parameters but one.

A curve holds one parameter at a value and minimises -2 log L over the others by Newton steps with
the exact gradient, each search from where the line through the minima before leads:

- a function of the coefficients: one entry of psi follows from the others and the value;
- the standard deviation of coefficient a: with a first in the triangle of its block in units of
  the data, Lambda_a = (sd, 0, ..);
- the correlation c of a and b: with these two first, Lambda_b = r (c, sqrt(1 - c^2), 0, ..).

At a variance of zero the coefficient is taken out of the model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from sklme._engine.constrained import Linear
from sklme._engine.covariance import Charts
from sklme._engine.glmm_parameters import (
    Along,
    Completed,
    Functional,
    Place,
    atanh_gradient,
    covariances,
    fresh,
)
from sklme._engine.newton import minimise
from sklme._engine.profile import Curve, triangle
from sklme._engine.records import Evaluation

ONE = np.zeros(1, int)
TOL = 1e-5  # Newton decrement of a minimum: its square is the error of the deviance
STEPS, TRIES = 15, 4  # Newton steps between two looks at how far the search is, and looks
DISTANT = 50.0  # a rise beyond all heights that are asked for
REACH = 3.0  # how far beyond the last two minima their line is followed, in their distance

Complete = Callable[[np.ndarray, float], Completed]


class GeneralizedProfiler:
    """The curves of a fit around its estimates psi."""

    def __init__(self, place: Place, psi: np.ndarray):
        self.place, self.psi = place, psi
        self.problem = fresh(place.problem)
        at = self.problem(psi[None], ONE)
        self.minimum = float(at.value[0])
        self.far = self.minimum + DISTANT
        self.precision = 0.5 * at.observed[0]

    def functional(self, parameter: Functional) -> Curve:
        """The curve of a coefficient or threshold, in its own units."""
        held = parameter.held(self.place)
        slope = parameter.gradient(self.place, self.psi)
        value = parameter.value(self.place, self.psi)
        path = _Path(value, np.delete(self.psi, held.left_out), self.far)
        step = self._std_error(slope)

        def rise(values: np.ndarray) -> np.ndarray:
            found = [path.least(self.problem, held.complete, v) for v in values]
            return np.array(found) - self.minimum

        return Curve(rise, value, step)

    def sd(self, t: int, a: int) -> Curve | None:
        """The curve of the standard deviation of coefficient a of factor t; None without one."""
        s, T = self.place.fit.working.structures[t], self._map(t)
        if not any(a in block for block in s.blocks):
            return None
        basis, theta, unit = _first_in_data(self._Lambda(t), T, s, (a,))
        problem, psi, first = self._charted(t, basis, theta)
        psi[first] = abs(psi[first])
        c = np.zeros(len(psi))
        c[first] = 1.0
        held, sd = Along(c), psi[first] * unit
        path = _Path(psi[first], np.delete(psi, first), self.far)
        without = self._minimum_without(t, a)

        def rise(values: np.ndarray) -> np.ndarray:
            found = [
                path.least(problem, held.complete, v) if v > 0 else without for v in values / unit
            ]
            return np.array(found) - self.minimum

        return Curve(
            rise, float(sd), self._sd_step(problem, psi, first, t, a) * unit, (0.0, np.inf)
        )

    def correlation(self, t: int, a: int, b: int) -> Curve | None:
        """The curve of the correlation of a and b; None where a variance is not in the model."""
        s, T = self.place.fit.working.structures[t], self._map(t)
        if not any(a in block and b in block for block in s.blocks):
            return None
        M, limits = T @ self._Lambda(t), (-1.0, 1.0)
        G = M @ M.T
        if G[a, a] * G[b, b] <= 0.0:
            return Curve(lambda values: np.zeros(len(values)), 0.0, 0.3, limits)
        basis, theta, _ = _first_in_data(self._Lambda(t), T, s, (a, b))
        estimate = float(np.clip(G[a, b] / np.sqrt(G[a, a] * G[b, b]), -1.0, 1.0))
        theta = np.concatenate([[theta[0], np.hypot(theta[1], theta[2])], theta[3:]])

        def bases(c: float) -> np.ndarray:
            both = c * basis[1] + np.sqrt(max(1.0 - c * c, 0.0)) * basis[2]
            return np.concatenate([basis[:1], both[None], basis[3:]])

        problem, psi, first = self._charted(t, bases(estimate), theta)
        squared = np.array([first, first + 1])
        psi[squared] = np.sqrt(np.abs(psi[squared]))  # keeps both from changing their signs
        path = _Path(estimate, psi, self.far)
        others = problem.charts.bases

        def least(c: float) -> float:
            problem.charts = Linear([*others[:t], bases(c), *others[t + 1 :]])
            return path.least(problem, _squares(squared), c)

        def rise(values: np.ndarray) -> np.ndarray:
            return np.array([least(c) for c in values]) - self.minimum

        return Curve(rise, estimate, self._correlation_step(t, a, b), limits)

    def _map(self, t: int) -> np.ndarray:
        return self.place.fit.working.frame.z_maps[t]

    def _Lambda(self, t: int) -> np.ndarray:
        return self.place.fit.working.Lambdas[t][0]

    def _std_error(self, slope: np.ndarray) -> float:
        return float(np.sqrt(slope @ np.linalg.pinv(self.precision, hermitian=True) @ slope))

    def _sd_step(self, problem, psi: np.ndarray, first: int, t: int, a: int) -> float:
        """About a standard error; for a variance near zero, where it is as likely as not."""
        typical = self.place.fit.working.gram.factors[t].zz[a, a].mean()
        least = 0.3 * max(psi[first], 1.0 / np.sqrt(typical))
        H = 0.5 * problem(psi[None], ONE).observed[0]
        variance = np.linalg.pinv(H, hermitian=True)[first, first]
        return float(np.sqrt(variance)) if 0.0 < variance < (2.0 * least) ** 2 else least

    def _correlation_step(self, t: int, a: int, b: int) -> float:
        """About a standard error, not too large for a parameter that ends at 1."""
        G = covariances(self.place, self.psi)[t]
        r2 = G[a, b] ** 2 / (G[a, a] * G[b, b])
        step = (1.0 - r2) * self._std_error(atanh_gradient(self.place, self.psi, t, a, b))
        return float(step) if 0.0 < step < 0.3 else 0.3

    def _charted(self, t: int, basis: np.ndarray, theta: np.ndarray):
        """The criterion with another chart of factor t, psi in it, and where t begins in it."""
        pairs = enumerate(self.place.fit.working.structures)
        charts = [(basis, theta) if u == t else triangle(self._Lambda(u), s, ()) for u, s in pairs]
        problem = fresh(self.problem)
        problem.charts = Linear([basis for basis, _ in charts])
        rest = self.psi[self.problem.n_theta :]
        psi = np.concatenate([*(theta for _, theta in charts), rest])
        problem.n_theta = len(psi) - len(rest)
        return problem, psi, problem.charts.slices[t].start

    def _minimum_without(self, t: int, a: int) -> float:
        """The least value with the variance of coefficient a at zero."""
        s, T = self.place.fit.working.structures[t], self._map(t)
        gone = s.without(range(s.k) if s.spherical else (a,))
        M = T @ self._Lambda(t)
        M[a] = 0.0
        basis, theta = triangle(M, gone, ())
        problem, psi, _ = self._charted(t, np.linalg.inv(T) @ basis, theta)
        return _Path(0.0, psi, self.far).least(problem, _as_is, 0.0)


def _first_in_data(Lambda: np.ndarray, T: np.ndarray, structure, members: tuple[int, ...]):
    """Basis and theta of Lambda with the members first in the triangle of T Lambda, and the unit.

    unit : what theta[0] is multiplied with to be the standard deviation of the first member
    """
    if structure.spherical:
        (a,) = members
        return structure.basis, structure.theta(Lambda), float(T[a, a])
    basis, theta = triangle(T @ Lambda, structure, members)
    return np.linalg.inv(T) @ basis, theta, 1.0


@dataclass
class _Path:
    """The minima for values of a parameter; the rest of psi where each was found.

    far : what is above this need not be exact
    """

    value: float
    rest: np.ndarray
    far: float

    def __post_init__(self):
        self.known = [(float(self.value), self.rest)]

    def least(self, problem: Any, complete: Complete, value: float) -> float:
        """The least -2 log L at this value; NaN where no search comes to an end."""
        for start in self._starts(value):
            rest, found = _minimum(problem, complete, start, value, self.far)
            if np.isfinite(found):
                self.known.append((value, rest))
                return found
        return np.nan

    def _starts(self, value: float) -> list[np.ndarray]:
        """On the line through the two nearest minima, or at the nearest."""
        near = sorted(self.known, key=lambda known: abs(known[0] - value))[:2]
        (v, rest), starts = near[0], [near[0][1], self.rest]
        if len(near) > 1 and near[1][0] != v:
            share = np.clip((value - v) / (near[1][0] - v), -REACH, REACH)
            starts.insert(0, rest + share * (near[1][1] - rest))
        return starts


def _minimum(problem: Any, complete: Complete, start: np.ndarray, value: float, far: float):
    """The rest at the minimum, and the minimum; infinite where the search got nowhere.

    far : a minimum that is surely above this need not be exact
    """
    if not len(start):
        return start, -2.0 * problem.at(complete(start, value)[0]).value
    problem.searching, problem.best = True, None
    rest, converged = _descended(problem, complete, start, value, far)
    problem.searching = False
    if not converged or problem.best is None:
        return rest, np.inf
    last = problem.at(complete(rest, value)[0])
    return rest, -2.0 * max(last.value, problem.best.value)


def _descended(problem: Any, complete: Complete, rest: np.ndarray, value: float, far: float):
    """Where Newton's method leads from `rest`, and whether that is good enough."""

    def evaluate(rest: np.ndarray, which: np.ndarray) -> Evaluation:
        psi, J, bend = complete(rest[0], value)
        return _through(problem(psi[None], which), J, bend)

    nothing = cast(Charts, Linear([]))
    for _ in range(TRIES):
        found, record = minimise(
            evaluate, nothing, ONE, rest[None], tol=TOL, max_iter=STEPS, learn=True
        )
        rest, left = found[0], float(record.decrement[0])
        if record.converged.all():
            return rest, True
        distant = problem.best is not None and -2.0 * problem.best.value > far
        if not np.isfinite(left) or (distant and left < 1.0):
            return rest, bool(distant)
    return rest, False


def _through(at: Evaluation, J: np.ndarray, bend: np.ndarray | None) -> Evaluation:
    """The derivatives by the rest of psi."""
    hessian = J.T @ at.observed[0] @ J
    if bend is not None:
        hessian = hessian + np.diag(at.gradient[0] @ bend)
    if not (np.isfinite(hessian).all() and np.isfinite(at.value).all()):
        m = len(hessian)
        none, one = np.zeros((1, m)), np.eye(m)[None]
        return Evaluation(np.full(1, np.inf), none, one, one, at.noise)
    return replace(at, gradient=at.gradient @ J, average=hessian[None], observed=hessian[None])


def _as_is(rest: np.ndarray, value: float) -> Completed:
    return rest, np.eye(len(rest)), None


def _squares(squared: np.ndarray) -> Complete:
    """Some entries of psi are squares."""

    def complete(rest: np.ndarray, value: float) -> Completed:
        psi, slope, bend = rest.copy(), np.ones(len(rest)), np.zeros(len(rest))
        psi[squared] **= 2
        slope[squared], bend[squared] = 2.0 * rest[squared], 2.0
        return psi, np.diag(slope), np.diag(bend)

    return complete
