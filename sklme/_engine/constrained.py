"""-2 log-likelihood d(theta, s2) where s2 is not profiled out: minima with a parameter held.

Beside y a response is evaluated whose residual sum of squares is 1 whatever theta is. Its criterion
is log |V| and a constant, so that the two evaluations together give log |V| and rss with their
exact derivatives, and the solvers need not know that s2 is held.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np

from sklme._engine import crossed, single
from sklme._engine.covariance import Charts
from sklme._engine.gram import Gram
from sklme._engine.newton import Evaluate, minimise
from sklme._engine.records import Evaluation
from sklme._engine.small import MOST, SmallProblem
from sklme._engine.system import System

TOL = 1e-6  # Newton decrement of the search: the deviance is then right to 1e-12
DIFFERENCE = 1e-5  # step in theta of differences of the gradient
ONE = np.zeros(1, int)
Criterion = Callable[[Any], Evaluate]  # of a chart
LOG_2_PI = float(np.log(2.0 * np.pi))


class Linear:
    """A chart Lambda = sum of theta_p basis_p of every factor, for any bases; see `Charts`."""

    version = 0

    def __init__(self, bases: list[np.ndarray]):
        self.bases = bases  # (m, k, k) of each factor
        ends = np.cumsum([0, *(len(basis) for basis in bases)]).tolist()
        self.slices = [slice(i, j) for i, j in pairwise(ends)]

    def factors(self, theta: np.ndarray, which) -> list[np.ndarray]:
        """Lambda (r, k, k) of each factor."""
        pairs = zip(self.bases, self.slices, strict=True)
        return [np.einsum("rm,mab->rab", theta[:, at], basis) for basis, at in pairs]

    def basis(self, t: int, which) -> np.ndarray:
        """dLambda / dtheta of factor t, (1, m, k, k)."""
        return self.bases[t][None]

    def reorder(self, theta: np.ndarray, which) -> tuple[np.ndarray, np.ndarray]:
        """The order of the coefficients is given: nothing changes."""
        return theta, np.zeros(len(theta), bool)


class Search:
    """Minima of one response over theta with a parameter held at one value after the other.

    Each search starts where the line through the last two minima leads, and, while that is cheap,
    at `start` too, lest it follows a local minimum.
    """

    def __init__(self, statistics: Gram, chart: Linear, start: np.ndarray, reml: bool = False):
        self.chart, self.start = chart, start
        self.path: list[tuple[float, np.ndarray]] = []  # the last values and their minima
        self.nu = statistics.total - len(statistics.xx) * reml
        self.exact = len(statistics.factors) == 1 or _few(statistics, start.size)
        self.solvers = _solvers(statistics, start.size, reml)

    def at_sigma(self, s: float) -> float:
        """Least d with the residual standard deviation held at s."""
        if s <= 0.0:
            return np.inf
        return self._least(self._held(1.0 / s**2, None), s, self._starts(s))

    def at_sd(self, sd: float, first: int, sigma: float) -> float:
        """Least d with theta[first] sigma held at sd; sigma says where to begin."""
        starts = [start.copy() for start in self._starts(sd)]
        for start in starts:
            start[0, first] = sd / sigma
        return self._least(self._held(1.0 / sd**2, first), sd, starts)

    def profiled(self, chart: Linear, c: float, squared: np.ndarray) -> float:
        """Least d in the chart of the value c, the entries `squared` of theta not negative."""
        inner = self.solvers[0](chart)

        def evaluate(root: np.ndarray, which: np.ndarray) -> Evaluation:
            return _through_squares(inner(_squared(root, squared), which), root, squared)

        starts = [_roots(theta, squared) for theta in self._starts(c)]
        value = self._least(evaluate, c, starts)
        self.path[-1] = c, _squared(self.path[-1][1], squared)
        return value

    def _starts(self, value: float) -> list[np.ndarray]:
        near = self.path[-1][1] if self.path else self.start
        if len(self.path) > 1:
            (v, before), (w, last) = self.path
            share = (value - w) / (w - v) if w != v else 0.0
            near = last + np.clip(share, -2.0, 2.0) * (last - before)
        large = not self.exact or not self.path
        return [near] if large else [near, self.start]

    def information(self, theta: np.ndarray) -> np.ndarray:
        """Half the Hessian of d in (theta, log s2) at theta (1, m) and s2 = rss / nu.

        Where the solver has no exact Hessian, differences of the exact gradient.
        """
        here = self._at(theta)
        w = self.nu / here.rss
        H = here.exact[0] + w * here.exact[1] if self.exact else self._differences(theta, w)
        beside = -w * here.of_rss[:, None]
        return 0.5 * np.block([[H, beside], [beside.T, np.full((1, 1), self.nu)]])

    def _differences(self, theta: np.ndarray, w: float) -> np.ndarray:
        columns = []
        for step in DIFFERENCE * np.eye(theta.shape[1]):
            after, before = self._at(theta + step), self._at(theta - step)
            change = after.of_log_det - before.of_log_det + w * (after.of_rss - before.of_rss)
            columns.append(change / (2.0 * DIFFERENCE))
        H = np.stack(columns)
        return 0.5 * (H + H.T)

    def _at(self, theta: np.ndarray) -> "Pieces":
        y, null = (solver(self.chart)(theta, ONE) for solver in self.solvers)
        return _pieces(y, null, self.nu)

    def _held(self, w: float, first: int | None) -> Evaluate:
        """d with 1 / s2 = w, or w theta[first]^2."""
        own = [solver(self.chart) for solver in self.solvers]

        def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
            y, null = (one(theta, which) for one in own)
            return _at_variance(_pieces(y, null, self.nu), theta[0], w, first, self.nu)

        return evaluate

    def _least(self, evaluate: Evaluate, value: float, starts: list[np.ndarray]) -> float:
        """The lowest minimum from these starts; it becomes the last of the path."""
        least, best, chart = np.inf, starts[0], cast(Charts, self.chart)
        for start in starts:
            theta, _ = minimise(
                evaluate, chart, ONE, start, tol=TOL, max_iter=60, learn=not self.exact
            )
            d = float(evaluate(theta, ONE).value[0])
            if d < least:
                least, best = d, theta
        self.path = [*self.path[-1:], (value, best)]
        return least


@dataclass(frozen=True)
class Pieces:
    """log |V| (REML: with log |X'V^-1X|) and rss at a theta, with gradients and Hessians."""

    log_det: float
    rss: float
    of_log_det: np.ndarray
    of_rss: np.ndarray
    exact: tuple[np.ndarray, np.ndarray]
    average: tuple[np.ndarray, np.ndarray]
    noise: float


def _pieces(y: Evaluation, null: Evaluation, nu: float) -> Pieces:
    """log |V| + nu (1 + log 2 pi rss / nu) taken apart by the other response, whose rss is 1."""
    log_det = float(null.value[0]) - nu * (1.0 + LOG_2_PI - np.log(nu))
    s2 = np.exp((float(y.value[0]) - log_det) / nu - 1.0 - LOG_2_PI)
    a = null.gradient[0] - y.gradient[0]

    def hessians(name: str) -> tuple[np.ndarray, np.ndarray]:
        of_y, of_null = getattr(y, name)[0], getattr(null, name)[0]
        return of_null, s2 * (of_y - of_null + np.outer(a, a) / nu)

    return Pieces(
        log_det,
        float(s2 * nu),
        null.gradient[0],
        -s2 * a,
        hessians("observed"),
        hessians("average"),
        float(y.noise[0] + null.noise[0]),
    )


def _at_variance(p: Pieces, theta, w: float, first: int | None, nu: float) -> Evaluation:
    """log |V| + rss / s2 + nu log(2 pi s2) with 1 / s2 = w, or w theta[first]^2."""
    size = 1.0 if first is None else theta[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        W = w * size**2
        value = p.log_det + p.rss * W - nu * np.log(W) + nu * LOG_2_PI
        gradient = p.of_log_det + W * p.of_rss
        hessians = [of_log_det + W * of_rss for of_log_det, of_rss in (p.average, p.exact)]
        if first is not None:
            gradient[first] += 2.0 * w * size * p.rss - 2.0 * nu / size
            for H in hessians:
                H[first] += 2.0 * w * size * p.of_rss
                H[:, first] += 2.0 * w * size * p.of_rss
                H[first, first] += 2.0 * w * p.rss + 2.0 * nu / size**2
    average, observed = (H[None] for H in hessians)
    return Evaluation(
        np.array([value]), gradient[None], average, observed, np.array([p.noise * (1.0 + W)])
    )


def _squared(root: np.ndarray, squared: np.ndarray) -> np.ndarray:
    theta = root.copy()
    theta[:, squared] **= 2
    return theta


def _roots(theta: np.ndarray, squared: np.ndarray) -> np.ndarray:
    root = theta.copy()
    root[:, squared] = np.sqrt(np.abs(root[:, squared]))
    return root


def _through_squares(at: Evaluation, root: np.ndarray, squared: np.ndarray) -> Evaluation:
    """The derivatives in `root`, where theta = root^2 for some entries."""
    slope = np.ones_like(root)
    slope[:, squared] = 2.0 * root[:, squared]
    bend = np.zeros_like(root)
    bend[:, squared] = 2.0 * at.gradient[:, squared]
    outer = slope[:, :, None] * slope[:, None, :]
    curved = bend[:, :, None] * np.eye(root.shape[1])
    return Evaluation(
        at.value,
        at.gradient * slope,
        at.average * outer + curved,
        at.observed * outer + curved,
        at.noise,
    )


def _null(statistics: Gram) -> Gram:
    """A response without X'y and Z'y whose square is 1: its rss is 1 at any theta."""
    factors = tuple(replace(f, zy=np.zeros_like(f.zy)) for f in statistics.factors)
    return replace(
        statistics, xy=np.zeros_like(statistics.xy), yy=np.ones_like(statistics.yy), factors=factors
    )


def _few(statistics: Gram, n_theta: int) -> bool:
    """As `small.is_small`."""
    return n_theta * sum(f.k * f.n_levels for f in statistics.factors) ** 3 <= MOST


def _solvers(statistics: Gram, n_theta: int, reml: bool) -> tuple[Criterion, Criterion]:
    """Chart -> criterion, of y and of the response beside it; y is evaluated first."""
    both = statistics, _null(statistics)
    if _few(statistics, n_theta):
        few = [SmallProblem(g, reml).criterion for g in both]
        return few[0], few[1]
    if len(statistics.factors) == 1:
        one = [partial(_single, g, reml) for g in both]
        return one[0], one[1]
    system = System(statistics)
    beside = system.with_response(both[1])
    return partial(_crossed, system, reml, None), partial(_crossed, beside, reml, system)


def _single(statistics: Gram, reml: bool, chart: Any) -> Evaluate:
    return single.criterion(statistics, chart, reml=reml)


def _crossed(system: System, reml: bool, factorised: System | None, chart: Any) -> Evaluate:
    """With the factorisation of another response's system, where there is one."""
    inner = crossed.criterion(system, chart, reml=reml)

    def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        if factorised is not None:
            system.last = replace(factorised.last, system=system)
        return inner(theta, which)

    return evaluate
