"""The search for theta: scoring far from the optimum, quasi-Newton close to it.

Far from the optimum the expected curvature is taken anew at each point, as long as that is quick;
then the damped BFGS update of Powell (1978), "A fast algorithm for nonlinearly constrained
optimization calculations", goes on from there. Steps are shortened until they descend enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ENOUGH = 1e-4  # of the decrease that the slope promises
CLOSE = 1.0  # a decrement of -2 log L below this is close
FALLING = 0.5  # scoring goes on while the decrement falls by this factor from step to step
FLOOR = 1e-3  # the least curvature, of -2 log L over the longest step
UNSURE = 10.0  # the expected and the updated curvature may disagree by so much at the end
SHORTEST = 1e-7  # a step of this share that does not descend is the end
DAMPED = 0.2  # of Powell's update
FORESEEN = 1.0  # changes of modes, in standard deviations of eta, that their derivative foresees


@dataclass(frozen=True)
class Place:
    """Where a search stands: -2 log L, its gradient by subject (N, n), and the modes.

    curvature : makes about the second derivative of -2 log L
    turn : makes du/dtheta (N, Q, n); None where it is not known
    """

    theta: np.ndarray
    value: float
    gradients: np.ndarray
    u: np.ndarray
    curvature: Callable[[], np.ndarray]
    turn: Callable[[], np.ndarray] | None = None

    @property
    def gradient(self) -> np.ndarray:
        """Of -2 log L."""
        return self.gradients.sum(axis=0)

    @property
    def usable(self) -> bool:
        """Whether everything is a number."""
        return bool(np.isfinite(self.value) and np.isfinite(self.gradients).all())

    @cached_property
    def _turned(self) -> np.ndarray | None:
        return None if self.turn is None else self.turn()

    def foresee(self, theta: np.ndarray) -> np.ndarray:
        """About the modes at a theta close by."""
        if self._turned is None:
            return self.u
        move = self._turned @ (theta - self.theta)
        near = np.abs(move).max(axis=1, initial=0.0) < FORESEEN  # never where it is no number
        return self.u + np.where(near[:, None], move, 0.0)


@dataclass(frozen=True)
class Descent:
    """The end of a search: the place, the decrement there, why it ended."""

    place: Place
    decrement: float
    n_iterations: int
    converged: bool
    message: str


Look = Callable[[np.ndarray, np.ndarray | None], Place]
Progress = Callable[[int, float, float], object]


def descend(
    look: Look,
    place: Place,
    longest: np.ndarray,
    *,
    tol: float,
    max_iter: int,
    progress: Progress | None = None,
) -> Descent:
    """Minimise from a place until half of g'B^-1 g, the decrease still to come, is below tol.

    look(theta, u) evaluates with modes searched from u; `longest` bounds a step of each entry;
    `progress` is told (iteration, value, decrement) and stops the search by returning true.
    """
    B, decrement, message = _expected(place, longest), np.inf, "max_iter reached"
    iteration, fresh, last = 0, True, np.inf
    try:
        for iteration in range(1, max_iter + 1):
            step = -np.linalg.solve(B, place.gradient)
            decrement = -0.5 * float(place.gradient @ step)
            if progress is not None and progress(iteration, place.value, decrement):
                message = "stopped by the callback"
                break
            if decrement < tol:
                B = _expected(place, longest)
                again = 0.5 * float(place.gradient @ np.linalg.solve(B, place.gradient))
                if again < UNSURE * tol:
                    return Descent(place, max(again, decrement), iteration, True, "converged")
                continue
            new = _shorten(look, place, step, longest, decrement)
            if new is None:
                if fresh:
                    message = "no step descends any further"
                    break
                B, fresh = _expected(place, longest), True
                continue
            fresh = decrement > CLOSE and decrement < FALLING * last
            last = decrement
            B = _expected(new, longest) if fresh else _update(B, place, new)
            place = new
    except KeyboardInterrupt:
        message = "interrupted"
    return Descent(place, decrement, iteration, False, message)


def _expected(place: Place, longest: np.ndarray) -> np.ndarray:
    """The expected curvature, with a floor so that no entry is free to go anywhere."""
    try:
        with np.errstate(all="ignore"):
            S = place.curvature() * np.outer(longest, longest)
    except np.linalg.LinAlgError:  # far out, where numbers overflow
        S = np.zeros((len(longest),) * 2)
    S = np.where(np.isfinite(S), S, 0.0) + FLOOR * np.eye(len(S))
    return S / np.outer(longest, longest)


def _shorten(look: Look, place: Place, step, longest, decrement: float) -> Place | None:
    """The first of shorter and shorter steps that descends enough; None if none does."""
    share = min(1.0, 1.0 / max(float((np.abs(step) / longest).max()), 1e-300))
    while share > SHORTEST:
        theta = place.theta + share * step
        new = look(theta, place.foresee(theta))
        promised = 2.0 * share * decrement
        if new.usable and new.value <= place.value - ENOUGH * promised:
            return new
        if new.usable and promised < 1e-9 * (1.0 + abs(place.value)):
            gain = abs(new.gradient @ step) < abs(place.gradient @ step)
            if gain and new.value <= place.value + 1e-10 * (1.0 + abs(place.value)):
                return new
        rise = new.value - place.value + promised if new.usable else np.inf
        share *= float(np.clip(0.5 * promised / rise, 0.1, 0.5)) if rise > 0 else 0.5
    return None


def _update(B: np.ndarray, old: Place, new: Place) -> np.ndarray:
    s, y = new.theta - old.theta, new.gradient - old.gradient
    Bs = B @ s
    sBs, sy = float(s @ Bs), float(s @ y)
    if sBs <= 0:
        return B
    if sy < DAMPED * sBs:
        mix = (1.0 - DAMPED) * sBs / (sBs - sy)
        y = mix * y + (1.0 - mix) * Bs
        sy = float(s @ y)
    return B - np.outer(Bs, Bs) / sBs + np.outer(y, y) / sy
