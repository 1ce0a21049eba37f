"""The alternating algorithm of Lindstrom and Bates (1990, "Nonlinear mixed effects models for
repeated measures data", Biometrics 46(3)), as R's nlme fits.

Penalised nonlinear least squares for the coefficients and the random effects at given variances
alternates with a linear mixed model of the working response w = y - f + X beta + Z eta for the
variances, with X and Z the derivatives at the last least squares. The likelihood reported is that
of the last linear model. A variance that depends on f is taken at the f of the last least squares.
"""

from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.errors import variance
from sklme._engine.nlme.mixed import Linear, Solved, fit_linear
from sklme._engine.nlme.parameters import Parameters, Pattern, Search, check_parameters, search
from sklme._engine.nlme.point import Point

SHORTEST = 1e-4  # the smallest share of a step of least squares
INNER = 50  # its steps
PRECISE = 1e-10  # of the search of the linear model, in -2 log L


@dataclass(frozen=True)
class AlternatingFit:
    """The estimates and how they were found.

    log_likelihood : of the last linear mixed model with all constants; restricted where `reml`
    covariance (P, P) : of beta, zero for fixed coefficients
    u, eta (N, Q) : the random effects
    fitted (N, n) : f at them
    change : how far the last alternation moved beta, in its standard errors, and theta
    """

    data: Data
    search: Search
    parameters: Parameters
    log_likelihood: float
    reml: bool
    covariance: np.ndarray
    u: np.ndarray
    eta: np.ndarray
    fitted: np.ndarray
    n_iterations: int
    change: float
    converged: bool
    message: str


def alternate(
    data: Data,
    start: Parameters,
    pattern: Pattern,
    *,
    reml: bool = False,
    fixed_beta=None,
    fixed_sigma=None,
    tol: float = 1e-6,
    max_iter: int = 100,
) -> AlternatingFit:
    """Alternate until nothing moves by `tol` of its scale.

    Raises
    ------
    ValueError
        If the parts do not fit together, observations are censored, or the rows cannot tell the
        coefficients apart.
    """
    check_parameters(data, start)
    if data.censored is not None and data.censored.any():
        raise ValueError("the alternating algorithm is not possible with censored observations")
    state = _State(data, search(start, pattern, fixed_beta, fixed_sigma), reml)
    change, iteration, message = np.inf, 0, "max_iter reached"
    while iteration < max_iter:
        iteration += 1
        descended = state.least_squares()
        found, change = state.linear_model()
        if not np.isfinite(change):
            message = "the linear mixed model has no number at its start"
            break
        if change < tol and descended and found:
            message = "converged"
            break
    return state.record(iteration, change, message)


class _State:
    """Where the alternation stands."""

    def __init__(self, data: Data, search: Search, reml: bool):
        self.data, self.search, self.reml = data, search, reml
        fixed = np.zeros_like(search.free_beta)
        self.variances = replace(search, free_beta=fixed)  # theta without beta
        self.beta = search.start.beta.astype(float)
        self.theta = self.variances.pack(search.start)
        self.u = np.zeros((data.n_subjects, data.n_effects))
        self.f = self.point().rows(self.u, outer=True).f

    def point(self, beta: np.ndarray | None = None) -> Point:
        """The record at some beta."""
        beta = self.beta if beta is None else beta
        parameters = replace(self.variances.unpack(self.theta), beta=beta)
        return Point(self.data, parameters, L=self.variances.factor(self.theta))

    def linear(self) -> Linear:
        """The linear model at the current coefficients and effects."""
        point, free = self.point(), self.search.free_beta
        at, along = point.rows(self.u, outer=True), point.along(outer=True)
        C = along.C
        X = at.first @ C[:, 0] if C.shape[1] == 1 else np.einsum("iju,ijup->ijp", at.first, C)
        seen = self.data.mask[:, :, None]
        X, Z = np.where(seen, X[:, :, free], 0.0), np.where(seen, at.a, 0.0)
        eta = self.u @ point.L.T
        w = self.data.response - at.f + X @ self.beta[free] + (Z @ eta[:, :, None])[:, :, 0]
        w = np.where(self.data.mask, w, 0.0)
        return Linear(self.data, self.variances, w, X, Z, self.f, self.reml)

    def least_squares(self) -> bool:
        """Gauss and Newton's steps on beta and u together; whether they came to rest."""
        for _ in range(INNER):
            solved = self.linear().solve(self.theta)
            beta = self.beta.copy()
            beta[self.search.free_beta] = solved.beta
            moved = self._step(beta - self.beta, solved.u - self.u)
            if moved is None or self._moved(moved, solved) < 1e-8:
                break
        self.f = self.point().rows(self.u, outer=True).f
        return moved is not None

    def _step(self, by_beta: np.ndarray, by_u: np.ndarray) -> np.ndarray | None:
        """Take the longest share of a step that does not ascend; the step of beta."""
        now, share = self._penalised(self.beta, self.u), 1.0
        while share > SHORTEST:
            beta, u = self.beta + share * by_beta, self.u + share * by_u
            if self._penalised(beta, u) <= now + 1e-12 * abs(now):
                self.beta, self.u = beta, u
                return share * by_beta
            share *= 0.5
        return None

    def _penalised(self, beta: np.ndarray, u: np.ndarray) -> float:
        """The weighted sum of squares with its penalty; the variance stays where it is."""
        point = self.point(beta)
        with np.errstate(all="ignore"):
            f = point.rows(u, outer=True).f
            R = variance(self.data, point.parameters.sigma, self.f).R
            total = (np.where(self.data.mask, self.data.response - f, 0.0) ** 2 / R).sum()
        total = float(total + (u * u).sum())
        return total if np.isfinite(total) else np.inf

    def _moved(self, step: np.ndarray, solved: Solved) -> float:
        """A step of beta in standard errors."""
        size = np.sqrt(np.diag(solved.covariance))
        return float((np.abs(step[self.search.free_beta]) / size).max(initial=0.0))

    def linear_model(self) -> tuple[bool, float]:
        """Estimate the variances; whether they were found, and how far theta and beta moved."""
        model = self.linear()
        theta, found = fit_linear(model, self.theta, tol=PRECISE)
        solved = model.solve(theta)
        beta = self.beta.copy()
        beta[self.search.free_beta] = solved.beta
        change = max(
            self._moved(beta - self.beta, solved),
            float(np.abs(theta - self.theta).max(initial=0.0)),
        )
        self.theta, self.beta, self.u, self.last = theta, beta, solved.u, solved
        return found, change

    def record(self, n_iterations: int, change: float, message: str) -> AlternatingFit:
        """What was found."""
        free, solved = self.search.free_beta, self.last
        covariance = np.zeros((len(free),) * 2)
        covariance[np.ix_(free, free)] = solved.covariance
        n = self.data.n_observations - (int(free.sum()) if self.reml else 0)
        value = solved.value.sum() + self.data.constants.sum() + n * np.log(2.0 * np.pi)
        return AlternatingFit(
            data=self.data,
            search=self.search,
            parameters=replace(self.variances.unpack(self.theta), beta=self.beta),
            log_likelihood=-0.5 * float(value),
            reml=self.reml,
            covariance=covariance,
            u=self.u,
            eta=self.u @ solved.L.T,
            fitted=np.where(self.data.mask, self.f, np.nan),
            n_iterations=n_iterations,
            change=change,
            converged=message == "converged",
            message=message,
        )
