"""The estimate: starts, the search, and what is known at its end."""

from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import predict
from sklme._engine.nlme.descent import Descent, Place, Progress, descend
from sklme._engine.nlme.errors import LEAST, variance
from sklme._engine.nlme.methods import Method, Objective
from sklme._engine.nlme.parameters import Parameters, Pattern, Search, search
from sklme._engine.nlme.starts import candidates, longest_steps, scattered

SAME = 1e-4  # modes that differ by less are the same
VANISHED = 1e-6  # -2 log L that may be lost where a variance is called zero
FLAT = 1e-2  # a curvature of -2 log L below this may belong to a variance of zero


@dataclass(frozen=True)
class Fit:
    """The estimates of a method and how they were found.

    value : -2 log L without n log 2 pi, as NONMEM reports it
    minus2_log_likelihood : with it
    values (N,) : the parts of `value`
    theta : the searched vector; search.labels say what its entries are
    u (N, Q), eta (N, Q) : the modes
    gradient : of `value` by theta, the certificate together with the decrement: what is left to
        gain as the curvature of the search sees it
    vanished : which entries of theta went to minus infinity, where Omega is singular
    at_zero : effects whose variance was estimated at zero
    """

    data: Data
    search: Search
    method: Method
    parameters: Parameters
    theta: np.ndarray
    value: float
    values: np.ndarray
    u: np.ndarray
    eta: np.ndarray
    gradient: np.ndarray
    gradients: np.ndarray
    decrement: float
    n_iterations: int
    n_evaluations: int
    converged: bool
    message: str
    vanished: np.ndarray
    at_zero: tuple[int, ...]

    @property
    def minus2_log_likelihood(self) -> float:
        """-2 log L with all constants."""
        return self.value + self.data.n_observations * float(np.log(2.0 * np.pi))

    @property
    def n_parameters(self) -> int:
        """Entries of theta."""
        return len(self.theta)


def fit(
    data: Data,
    start: Parameters,
    pattern: Pattern,
    *,
    method: Method | str = "focei",
    fixed_beta=None,
    fixed_sigma=None,
    starts: tuple[str, ...] = ("given", "pooled"),
    n_starts: int = 1,
    seed: int = 0,
    tol: float = 1e-8,
    max_iter: int = 200,
    progress: Progress | None = None,
) -> Fit:
    """Minimise -2 log L.

    The search begins at the lowest of `starts` and, with `n_starts` above 1, as often again from
    places scattered around it; the lowest end counts. `tol` is the decrease of -2 log L that may
    be left. `progress(iteration, value, decrement)` may stop it by returning true.

    Raises
    ------
    ValueError
        If the parts do not fit together, or -2 log L is no number at any start, or a row is
        predicted to be zero at the start where its error is proportional or lognormal.
    """
    method = Method(method) if isinstance(method, str) else method
    objective = Objective(data, search(start, pattern, fixed_beta, fixed_sigma), method)
    options = {"tol": tol, "max_iter": max_iter, "progress": progress}
    _check_variances(data, start)
    first = _best_start(objective, starts)
    ends = [_settle(objective, first, options)]
    longest = longest_steps(data, objective.search)
    for theta in scattered(first.theta, longest, n_starts - 1, seed):
        place = objective.look(theta)
        if place.usable:
            ends.append(_settle(objective, place, options))
    return _record(objective, min(ends, key=lambda end: end.place.value))


def _check_variances(data: Data, start: Parameters) -> None:
    with np.errstate(all="ignore"):
        f = predict(data, data.C @ start.beta)
        zero = (variance(data, start.sigma, f).R <= LEAST) | (data.on_log & (f <= np.log(LEAST)))
    if (data.mask & zero).any():
        i, j = np.argwhere(data.mask & zero)[0]
        raise ValueError(
            f"row {j} of subject number {i} is predicted to be zero, where its error has no "
            "variance: leave such rows out, or use an error with an additive part"
        )


def _best_start(objective: Objective, starts: tuple[str, ...]) -> Place:
    data, search = objective.data, objective.search
    if not search.n_searched:
        starts = ("given",)
    places = [objective.look(search.pack(p)) for p in candidates(data, search, starts)]
    usable = [place for place in places if place.usable]
    if not usable:
        raise ValueError(_why_unusable(objective, places[0]))
    return min(usable, key=lambda place: place.value)


def _why_unusable(objective: Objective, place: Place) -> str:
    with np.errstate(all="ignore"):
        values = objective.evaluate(place.theta).value
    bad = np.flatnonzero(~np.isfinite(values))
    where = f", first in subject number {bad[0]}" if len(bad) else ""
    return f"-2 log L is not finite at the start{where}: start from other parameters"


def _settle(objective: Objective, place: Place, options: dict) -> Descent:
    """Search; where another mode of a subject turns out lower at the end, search on from there."""
    longest = longest_steps(objective.data, objective.search)
    for _ in range(3):
        end = descend(objective.look, place, longest, **options)
        if not end.converged or objective.method.name == "fo":
            return end
        place = objective.look(end.place.theta, end.place.u, thorough=True)
        if np.allclose(place.u, end.place.u, atol=SAME):
            return end
    return replace(end, converged=False, message="the modes of a subject jump")


def _record(objective: Objective, end: Descent) -> Fit:
    place, data, search = end.place, objective.data, objective.search
    at = objective.evaluate(place.theta, place.u)
    L, vanished = search.factor(place.theta), _vanished(objective, place)
    lost = np.flatnonzero(~at.modes.converged)
    return Fit(
        data=data,
        search=search,
        method=objective.method,
        parameters=search.unpack(place.theta),
        theta=place.theta,
        value=place.value,
        values=at.value,
        u=place.u,
        eta=place.u @ L.T,
        gradient=place.gradient,
        gradients=place.gradients,
        decrement=end.decrement,
        n_iterations=end.n_iterations,
        n_evaluations=objective.n_evaluations,
        converged=end.converged and not len(lost),
        message=f"no mode of subject number {lost[0]} was found" if len(lost) else end.message,
        vanished=vanished,
        at_zero=_at_zero(search, L, vanished),
    )


def _vanished(objective: Objective, place: Place) -> np.ndarray:
    """Which entries of theta are the logarithm of what may as well be zero."""
    labels, search = objective.search.labels, objective.search
    out = np.zeros(len(labels), bool)
    curvature = np.diag(place.curvature())
    parameters, L = search.unpack(place.theta), search.factor(place.theta)
    for k, (kind, *at) in enumerate(labels):
        if kind == "log_factor" and curvature[k] < FLAT:
            without = L.copy()
            copies = _copies(search.pattern, at[0])
            without[copies, copies] = 0.0
            point = objective.method.point(objective.data, parameters, without)
            modes = objective.method.modes(point, place.u)
            value = objective.method.at(point, modes, gradient=False).value.sum()
            out[k] = value < place.value + VANISHED
    return out


def _at_zero(search: Search, L: np.ndarray, vanished: np.ndarray) -> tuple[int, ...]:
    """Effects whose diagonal entry of L vanished and that lean on no other effect."""
    gone = (label[1] for k, label in enumerate(search.labels) if vanished[k])
    return tuple(k for k in gone if np.abs(L[k, :k]).sum() <= 1e-3 * _size(search, k))


def _size(search: Search, effect: int) -> float:
    return float(np.sqrt(search.start.Omega[effect, effect]))


def _copies(pattern: Pattern, effect: int) -> list[int]:
    """The effect and those tied to it."""
    for block in pattern.blocks:
        if effect in block.places[0]:
            return [place[block.places[0].index(effect)] for place in block.places]
    return [effect]
