"""Laplace's approximation of a generalised linear mixed model, with its exact gradient.

With the conditional modes b, l = log p(y | b), Sigma = Lambda Lambda', W = -d2l/deta2, A = Z'WZ:
log L = l - b' Sigma^-1 b / 2 - log |I + Sigma A| / 2 (Tierney and Kadane 1986; Breslow and Clayton
1993, with the observed W in place of the expected one). Modes and weights depend on the parameters,
so the gradient has an implicit part: one more solve with the factored Z'WZ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklme._engine import blocks, curvature
from sklme._engine.covariance import Charts, Structure
from sklme._engine.gram import Gram
from sklme._engine.leverage import Leverage
from sklme._engine.modes import CLOSE, Local, Modes, conditional_modes
from sklme._engine.records import Evaluation
from sklme._engine.row_terms import RowTerms
from sklme._engine.sweep import factorise
from sklme._engine.system import Stacks
from sklme._engine.weighted import Grouping, Weighted

FAR = 10.0  # standard errors; the search is as good as anywhere
LOOSE = 1e-5  # distance of the modes from where they belong, in that of the search from its end
ENDLESS = 30.0  # a standard deviation of eta, where eta has no unit, that no search returns from
UNITLESS = ("logit", "probit", "cloglog", "log")
LEAST = 1e-3  # share of the absolute curvature that replaces a negative weight


@dataclass(frozen=True)
class Rows:
    """The rows of a generalised model, ready for the engine.

    X : (p, n) kept columns, with the intercept, in the frame; offset : (n,) or None
    outcome : what the family keeps of y
    aux : for each auxiliary predictor its columns (m, n), (1, 1) of one for a constant
    """

    X: np.ndarray
    offset: np.ndarray | None
    groupings: tuple[Grouping, ...]
    outcome: Any
    aux: tuple[np.ndarray, ...] = ()

    @property
    def n(self) -> int:
        return self.X.shape[1]

    def columns(self, terms) -> Iterator[np.ndarray]:
        """-d(dl/deta) / d(beta, aux) of each row, one by one: W X and -d2l/deta dtau A."""
        W = -terms.second
        yield from (W * x for x in self.X)
        for j, A in enumerate(self.aux):
            yield from (-terms.aux_first[j] * a for a in A)


@dataclass(frozen=True)
class Point:
    """Everything that is known at one set of parameters; value is the log-likelihood.

    tau : auxiliary predictors, (n_aux, n) or (n_aux, 1)
    """

    psi: np.ndarray
    Lambdas: list[np.ndarray]
    beta: np.ndarray
    tau: np.ndarray
    eta: np.ndarray
    terms: Any
    modes: Modes | None
    value: float


@dataclass(frozen=True)
class Slopes:
    """The gradient of the log-likelihood, as the chain rule meets it.

    eta : (n,) by the fixed part of each row's linear predictor; tau : (n_aux, n) or None
    Lambdas : by the entries of each Lambda, (k, k)
    """

    eta: np.ndarray
    tau: np.ndarray | None
    Lambdas: list[np.ndarray]


class Laplace:
    """The criterion -2 log L in psi = (theta, beta, auxiliary coefficients)."""

    def __init__(self, family, rows: Rows, structures: tuple[Structure, ...]):
        self.family, self.rows, self.structures = family, rows, structures
        self.charts = Charts(structures, 1)
        self.n_theta = sum(s.n_theta for s in structures)
        self.n_fixed = len(rows.X)
        self.n_aux = sum(len(A) for A in rows.aux)
        self.terms = RowTerms(family, rows.outcome)
        self.weighted: Any = Weighted(rows.groupings) if rows.groupings else None
        self.leverage: Any = Leverage(rows.groupings, self.weighted.plan) if self.weighted else None
        self.latest: Any = None  # the last point, and Z' of its columns
        self.best: Any = None  # the best point seen
        self.searching, self.distance = False, FAR

    @property
    def typical(self) -> Gram:
        """Z'WZ at the last point."""
        return self.latest[0].modes.local.system.gram

    def __call__(self, psi: np.ndarray, which: np.ndarray) -> Evaluation:
        """-2 log L with gradient and approximate Hessian at psi (1, m)."""
        point = self.at(psi[0])
        if not np.isfinite(point.value):
            return _failed(psi.shape[1])
        pull = self.weighted.column_sums(self.rows.columns(point.terms)) if self.weighted else []
        self.latest = point, pull
        if self.best is None or point.value > self.best.value:
            self.best = point
        hessian, gradient = curvature.approximate(self, point, pull), self.gradient(point)
        if self.searching and (self.exact(point) or self.endless(point)):
            gradient = np.zeros_like(gradient)  # the likelihood has no bound: the search ends here
        self.distance = _decrement(gradient, hessian)
        return Evaluation(
            np.array([-2.0 * point.value]),
            gradient[None],
            hessian[None],
            hessian[None],
            np.array([1e-15 * (np.abs(point.terms.value).sum() + 10.0)]),
        )

    def exact(self, point: Point) -> bool:
        """Whether the outcomes are reproduced to rounding."""
        return self.family.exact(point.tau) if hasattr(self.family, "exact") else False

    def endless(self, point: Point) -> bool:
        """Whether a standard deviation has grown beyond what a bounded mean could ever show."""
        largest = max((np.abs(L).max(initial=0.0) for L in point.Lambdas), default=0.0)
        return bool(largest > ENDLESS) and self.family.link.name in UNITLESS

    def at(self, psi: np.ndarray) -> Point:
        """The modes and the log-likelihood at psi; -inf where there is none."""
        Lambdas, beta, tau = self.unpack(psi)
        fixed = beta @ self.rows.X
        if self.rows.offset is not None:
            fixed = fixed + self.rows.offset
        modes, eta, terms = None, fixed, None
        if self.weighted is not None:
            local = lambda b: self._local(fixed, tau, b)
            found = [
                conditional_modes(local, Lambdas, start, self._close())
                for start in self._starts(psi, Lambdas)
            ]
            modes = max(found, key=lambda m: m.height)
            eta, terms = modes.local.detail
        point = Point(psi.copy(), Lambdas, beta, tau, eta, None, modes, -np.inf)
        if modes is not None and not modes.proper:
            return point
        if terms is None or terms.third is None:
            terms = self.terms(eta, tau, 3)
        return Point(psi.copy(), Lambdas, beta, tau, eta, terms, modes, self._value(terms, modes))

    def _close(self) -> float:
        """How near the modes have to be: during a search, near for how far its end still is."""
        return max(CLOSE, (LOOSE * min(self.distance, FAR)) ** 2) if self.searching else CLOSE

    def gradient(self, point: Point) -> np.ndarray:
        """The gradient of -2 log L."""
        slopes: Any = self._slopes(point)
        parts = [np.zeros(0)]
        for t, D in enumerate(slopes.Lambdas):
            parts.append(np.einsum("ab,mab->m", D, self.basis(t)))
        parts.append(self.rows.X @ slopes.eta)
        for j, A in enumerate(self.rows.aux):
            parts.append((A * slopes.tau[j]).sum(axis=1))
        return -2.0 * np.concatenate(parts)

    def unpack(self, psi: np.ndarray):
        """psi -> Lambda of each factor, beta, auxiliary predictors."""
        beta = psi[self.n_theta : self.n_theta + self.n_fixed]
        theta = psi[None, : self.n_theta]
        Lambdas = [L[0] for L in self.charts.factors(theta, np.zeros(1, int))]
        phi, tau, first = psi[self.n_theta + self.n_fixed :], [], 0
        for A in self.rows.aux:
            tau.append(phi[first : first + len(A)] @ A)
            first += len(A)
        return Lambdas, beta, np.stack(np.broadcast_arrays(*tau)) if tau else np.zeros((0, 1))

    def basis(self, t: int) -> np.ndarray:
        """dLambda / dtheta of factor t, (m, k, k)."""
        return self.charts.basis(t, np.zeros(1, int))[0]

    def _value(self, terms, modes: Modes | None) -> float:
        value = float(terms.value.sum()) + self.rows.outcome.constant
        return value if modes is None else value - modes.penalty - 0.5 * modes.at.log_det

    def _slopes(self, point: Point) -> Slopes:
        terms, modes = point.terms, point.modes
        if modes is None:
            return Slopes(terms.first, terms.aux_value, [])
        h = self.leverage(modes.at, modes.entries)
        q = -terms.third * h
        b_q, s_q = modes.at.posterior(self.weighted.sums(q[None]))
        along = self.weighted.part([b[:, 0] for b in b_q])
        eta = terms.first - 0.5 * q - 0.5 * terms.second * along
        tau = terms.aux_value
        if tau is not None:
            tau = tau + 0.5 * h * terms.aux_second - 0.5 * along * terms.aux_first
        by_Lambda = [-M @ L for M, L in zip(self._Ms(modes, s_q), point.Lambdas, strict=True)]
        return Slopes(eta, tau, by_Lambda)

    def _Ms(self, modes: Modes, s_q: Stacks) -> list[np.ndarray]:
        """M of each factor, -2 dL = tr(M dSigma): sums of [Z'V^-1Z]_ll - s s' + implicit part."""
        out = []
        for S, s, implicit in zip(modes.products, modes.scores, s_q, strict=True):
            cross = s @ implicit[:, 0].T
            out.append(S - s @ s.T + 0.5 * (cross + cross.T))
        return out

    def _local(self, fixed: np.ndarray, tau: np.ndarray, b: Stacks) -> Local:
        """The rows near effects b, as the search for the modes wants them."""
        weighted = self.weighted
        random = weighted.part(b)
        eta = fixed + random
        terms = self.terms(eta, tau, 2 if self.rows.aux else 3)
        r, W = terms.first, -terms.second
        system = weighted.system(W)

        def pulled(weights, system):
            if len(b) > 1:
                return [e[:, 0] for e in weighted.sums((weights * random + r)[None])]
            zz = system.gram.factors[0].zz
            return [gradient[0] + blocks.multiply(zz, b[0][:, None])[:, 0]]

        def positive():
            safe = weighted.system(safe_weights(W))
            return safe, pulled(safe_weights(W), safe)

        gradient = [e[:, 0] for e in weighted.sums(r[None])]
        return Local(
            float(terms.value.sum()),
            lambda: self._by_block(terms.value),
            gradient,
            pulled(W, system),
            system,
            positive,
            (eta, terms),
        )

    def _by_block(self, value: np.ndarray) -> np.ndarray:
        """Sums over what can be told apart: the levels of a single factor, or everything."""
        if len(self.rows.groupings) > 1:
            return value.sum(keepdims=True)
        (g,) = self.rows.groupings
        return np.bincount(g.codes, value, g.n_levels)

    def _starts(self, psi: np.ndarray, Lambdas: list[np.ndarray]) -> list[Stacks]:
        """Scores near the modes: the last working model solved for these parameters.

        Where rows are not concave a level may have several modes: then the last modes as well.
        """
        if self.latest is None:
            return [[np.zeros((g.k, g.n_levels)) for g in self.rows.groupings]]
        last, pull = self.latest
        change = (psi - last.psi)[self.n_theta :]
        local = last.modes.local
        shifted = [(e - (change @ c))[:, None, :] for e, c in zip(local.pulled, pull, strict=True)]
        at = factorise(local.system, Lambdas)
        _, scores = at.posterior(shifted)
        if not (np.isfinite(at.log_det) and all(np.isfinite(s).all() for s in scores)):
            return [last.modes.scores]
        near = [s[:, 0] for s in scores]
        return [near] if last.terms.second.max() <= 0 else [near, last.modes.scores]


def _decrement(gradient: np.ndarray, hessian: np.ndarray) -> float:
    """About the distance to the optimum in standard errors."""
    size = np.abs(np.diag(hessian))
    return float(np.sqrt((gradient**2 / np.maximum(size, 1e-300)).sum()))


def safe_weights(W: np.ndarray) -> np.ndarray:
    """Weights that are all positive, for steps where the log-likelihood is not concave."""
    return np.where(W > 0, W, LEAST * np.abs(W) + 1e-12)


def _failed(m: int) -> Evaluation:
    nothing, one = np.zeros((1, m)), np.eye(m)[None]
    return Evaluation(np.array([np.inf]), nothing, one, one, np.zeros(1))
