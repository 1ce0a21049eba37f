"""Which objective a method means, and its value and gradient at theta."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.descent import Place
from sklme._engine.nlme.first_order import first_order
from sklme._engine.nlme.information import expected_curvature
from sklme._engine.nlme.modes import Modes, find_modes, look_around
from sklme._engine.nlme.objective import Evaluation, laplace, turn_modes
from sklme._engine.nlme.parameters import Parameters, Search, check_parameters
from sklme._engine.nlme.point import Point
from sklme._engine.nlme.quadrature import check_nodes, quadrature

METHODS = ("fo", "foce", "focei", "laplace", "agq")


@dataclass(frozen=True)
class Method:
    """A method by name.

    "laplace" has the exact curvature, which may vanish where two modes of a subject merge: then its
    objective has no smooth minimum and the search says that no step descends any further.

    n_nodes, exact : for "agq" alone, nodes for each effect, and whether they are spread by the
        exact curvature or by that of FOCEI
    """

    name: str = "focei"
    n_nodes: int = 5
    exact: bool = False

    def check(self, data: Data) -> None:
        """Whether the method is possible for the record.

        Raises
        ------
        ValueError
            If not; the sentence says what is possible.
        """
        if self.name not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}: it is {self.name!r}")
        if self.name == "agq":
            check_nodes(self.n_nodes, data.n_effects)
        if self.name == "fo" and data.censored is not None and data.censored.any():
            raise ValueError(
                "method 'fo' is not possible with censored observations: use 'laplace'"
            )

    def point(self, data: Data, parameters: Parameters, L: np.ndarray | None = None) -> Point:
        """The record at these parameters, as the method sees it."""
        return Point(data, parameters, interaction=self.name not in ("fo", "foce"), L=L)

    def modes(self, point: Point, start: np.ndarray | None = None, *, thorough=False) -> Modes:
        """Where the method approximates the subjects."""
        if self.name == "fo":
            return first_order(point, gradient=False).modes
        return find_modes(point, start, thorough=thorough)

    def at(self, point: Point, modes: Modes | None, *, gradient: bool) -> Evaluation:
        """The objective of each subject at its mode."""
        if self.name == "fo":
            return first_order(point, gradient=gradient)
        modes = find_modes(point) if modes is None else modes
        if self.name == "agq" and point.data.n_effects:
            options = {"exact": self.exact, "gradient": gradient}
            return quadrature(point, modes, self.n_nodes, **options)
        return laplace(point, modes, exact=self.name == "laplace", gradient=gradient)


class Objective:
    """-2 log L as a function of theta, with a count of its evaluations."""

    def __init__(self, data: Data, search: Search, method: Method):
        check_parameters(data, search.start)
        method.check(data)
        self.data, self.search, self.method = data, search, method
        self.n_evaluations = 0

    def point(self, theta: np.ndarray) -> Point:
        """The record at theta."""
        parameters = self.search.unpack(theta)
        return self.method.point(self.data, parameters, self.search.factor(theta))

    def evaluate(
        self, theta: np.ndarray, u: np.ndarray | None = None, *, thorough: bool = False
    ) -> Evaluation:
        """Value and gradient of each subject, with modes searched from u (None: from 0)."""
        self.n_evaluations += 1
        point = self.point(theta)
        modes = self.method.modes(point, u, thorough=thorough)
        at = self.method.at(point, modes, gradient=True)
        if not len(at.doubtful) or thorough:
            return at
        lower = look_around(point, modes, at.doubtful)
        return at if lower is modes else self.method.at(point, lower, gradient=True)

    def look(self, theta: np.ndarray, u: np.ndarray | None = None, **options) -> Place:
        """The same as a place of a search."""
        try:
            with np.errstate(all="ignore"):
                at = self.evaluate(theta, u, **options)
                gradients = self.gradients(theta, at)
        except np.linalg.LinAlgError:  # far out, where numbers overflow
            N, none = self.data.n_subjects, np.full((self.data.n_subjects, len(theta)), np.nan)
            u = np.zeros((N, self.data.n_effects))
            return Place(theta, np.inf, none, u, lambda: np.zeros((len(theta),) * 2))
        return Place(
            theta,
            float(at.value.sum()),
            gradients,
            at.modes.u,
            lambda: self._curvature(theta, at.modes.u),
            None if at.peak is None else lambda: self._turn(theta, at),
        )

    def gradients(self, theta: np.ndarray, evaluation: Evaluation) -> np.ndarray:
        """The gradient of each subject by theta, (N, len(theta))."""
        g = evaluation.gradient
        assert g is not None
        return self.search.chain(theta, g.beta, g.L, g.log_sigma)

    def _turn(self, theta: np.ndarray, evaluation: Evaluation) -> np.ndarray:
        assert evaluation.peak is not None
        N, Q = evaluation.modes.u.shape
        flat = lambda x: x.reshape(N * Q, *x.shape[2:])
        turned = turn_modes(evaluation.peak)
        by_theta = self.search.chain(
            theta, flat(turned.beta), flat(turned.L), flat(turned.log_sigma)
        )
        return by_theta.reshape(N, Q, len(theta))

    def _curvature(self, theta: np.ndarray, u: np.ndarray) -> np.ndarray:
        at = np.zeros_like(u) if self.method.name == "fo" else u
        return expected_curvature(self.point(theta), at, self.search, theta)
