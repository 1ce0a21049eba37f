"""A brute-force generalised linear mixed model: dense algebra and scipy's optimiser.

The oracle of the engine's Laplace approximation. It shares the families with the engine, which
have tests of their own, and nothing else: effects are b = Lambda u, u standard normal, Z a matrix,

  log L = l(b) - u'u / 2 - log |I + Lambda'Z'WZ Lambda| / 2  at the mode in u,

with W the observed information of the rows (Tierney and Kadane 1986, Journal of the American
Statistical Association 81, 82-86). `make` draws random cases, also in a shape the engine takes.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import minimize

from sklme._engine.covariance import Structure
from sklme._engine.cumulative import CumulativeLogit
from sklme._engine.families import FAMILIES, ZeroInflated
from sklme._engine.laplace import Laplace, Rows
from sklme._engine.weighted import Grouping

NAMES = {f"{name} {link}": (name, link) for name in FAMILIES for link in FAMILIES[name].links}
INFLATED = {f"zero-inflated {name}": name for name in ("poisson", "nb1", "nb2")}
EVERY = [*NAMES, *INFLATED, "cumulative logit"]
POSITIVE = {"identity", "inverse", "sqrt"}  # links whose linear predictor must stay positive
LAYOUTS = ("one", "slopes", "crossed", "nested", "three", "chain")
STRUCTURES = ("full", "diagonal", "spherical", "partly")


def family_of(name):
    """A family by its name in EVERY."""
    if name in NAMES:
        kind, link = NAMES[name]
        return FAMILIES[kind](link)
    if name in INFLATED:
        return ZeroInflated(FAMILIES[INFLATED[name]]())
    return CumulativeLogit(4)


def structure_of(k, kind):
    """A covariance of k coefficients; "partly" leaves the first without a variance."""
    if kind == "diagonal":
        return Structure(k, tuple((i,) for i in range(k)))
    if kind == "partly" and k > 1:
        return Structure(k, (tuple(range(1, k)),))
    return Structure(k, (tuple(range(k)),), kind == "spherical")


@dataclass(frozen=True)
class Case:
    """Rows and parameters; `groups` holds (codes, n_levels, Z (n, k), structure) of each factor.

    X : (n, p) with the intercept; aux : for each auxiliary predictor columns (n, m), m = 1 of ones
    """

    family: object
    X: np.ndarray
    y: np.ndarray
    groups: list
    psi: np.ndarray
    trials: np.ndarray | None = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    aux: tuple = ()

    @property
    def n_theta(self):
        return sum(s.n_theta for *_, s in self.groups)

    @cached_property
    def outcome(self):
        return self.family.outcome(self.y, self.trials, self.weights)

    @cached_property
    def Z(self):
        """One dense matrix (n, n_levels k) a factor, level by level."""
        rows, parts = np.arange(len(self.y)), []
        for codes, q, z, _ in self.groups:
            Z = np.zeros((len(rows), q, z.shape[1]))
            Z[rows, codes] = z
            parts.append(Z.reshape(len(rows), -1))
        return parts

    def unpacked(self, psi):
        """Lambda of each factor, the fixed part of eta, the auxiliary predictors."""
        Lambdas, first = [], 0
        for *_, s in self.groups:
            Lambdas.append(s.factor(psi[first : first + s.n_theta]))
            first += s.n_theta
        fixed = self.X @ psi[first : first + self.X.shape[1]]
        first += self.X.shape[1]
        tau = []
        for A in self.aux:
            tau.append(A @ psi[first : first + A.shape[1]])
            first += A.shape[1]
        fixed = fixed if self.offset is None else fixed + self.offset
        return Lambdas, fixed, np.array(tau).reshape(len(tau), len(self.y))

    def spread(self, Lambdas):
        """Z (I x Lambda) of all factors, (n, total number of effects)."""
        pairs = zip(self.groups, self.Z, Lambdas, strict=True)
        return np.hstack([Z @ np.kron(np.eye(q), L) for (_, q, *_), Z, L in pairs])

    def mode(self, psi):
        """The standardised effects that are most probable, and the matrix that spreads them."""
        Lambdas, fixed, tau = self.unpacked(psi)
        S = self.spread(Lambdas)

        def terms(u):
            return self.family.terms(self.outcome, fixed + S @ u, tau, 2)

        def slope(u):
            return u - S.T @ terms(u).first

        def curvature(u):
            return np.eye(len(u)) - (S.T * terms(u).second) @ S

        u = minimize(
            lambda u: 0.5 * u @ u - terms(u).value.sum(),
            np.zeros(S.shape[1]),
            jac=slope,
            hess=curvature,
            method="trust-exact",
        ).x
        for _ in range(3):  # to rounding
            u = u - np.linalg.solve(curvature(u), slope(u))
        return u, S

    def value(self, psi=None):
        """Laplace's approximation of the log-likelihood."""
        psi = self.psi if psi is None else psi
        u, S = self.mode(psi)
        _, fixed, tau = self.unpacked(psi)
        terms = self.family.terms(self.outcome, fixed + S @ u, tau, 2)
        H = np.eye(len(u)) - (S.T * terms.second) @ S
        value = terms.value.sum() + self.outcome.constant - 0.5 * u @ u
        return value - 0.5 * np.linalg.slogdet(H)[1]

    def effects(self, psi):
        """b of each factor at the mode, (k, n_levels)."""
        u, _ = self.mode(psi)
        out, first = [], 0
        for (_, q, z, _), L in zip(self.groups, self.unpacked(psi)[0], strict=True):
            k = z.shape[1]
            out.append(L @ u[first : first + q * k].reshape(q, k).T)
            first += q * k
        return out

    # ----------------------------------------------------------------- for the engine

    @property
    def structures(self):
        return tuple(s for *_, s in self.groups)

    @property
    def rows(self):
        """The same rows as the engine holds them."""
        groupings = tuple(Grouping(c, q, _columns(z)) for c, q, z, _ in self.groups)
        aux = tuple(_constant(A) for A in self.aux)
        X = np.ascontiguousarray(self.X.T)
        return Rows(X, self.offset, groupings, self.outcome, aux)

    def problem(self):
        """The engine's criterion, new and without a memory."""
        return Laplace(self.family, self.rows, self.structures)

    def repeated(self):
        """The same data without weights: every row as often as its weight says."""
        at = np.repeat(np.arange(len(self.y)), self.weights.astype(int))
        some = {name: getattr(self, name) for name in ("y", "trials", "offset", "X")}
        return replace(
            self,
            **{name: None if a is None else a[at] for name, a in some.items()},
            weights=None,
            groups=[(c[at], q, z[at], s) for c, q, z, s in self.groups],
            aux=tuple(A[at] for A in self.aux),
        )


def _columns(z):
    return None if z.shape[1] == 1 and (z == 1).all() else np.ascontiguousarray(z.T)


def _constant(A):
    return np.ones((1, 1)) if A.shape[1] == 1 else np.ascontiguousarray(A.T)


def make(
    name,
    layout,
    structure="full",
    *,
    n=60,
    seed=0,
    weights=False,
    offset=False,
    covariates=False,
    noise=0.3,
):
    """A random case; `covariates` lets the auxiliary predictors depend on a column of X."""
    rng = np.random.default_rng([seed, LAYOUTS.index(layout)])
    family = family_of(name)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    groups = [(c, q, X[:, :k], structure_of(k, structure)) for c, q, k in _groups(layout, n, rng)]
    sizes = [1 + covariates] * len(family.aux_names)
    aux = tuple(X[:, :m] for m in sizes)
    tau = np.full((len(sizes), 1), -0.2)
    trials = rng.integers(1, 5, n).astype(float) if name.startswith("binomial") else None
    y = np.asarray(family.sample(np.full(n, 0.4), tau, trials, rng), float)
    if name.startswith("beta"):
        y = np.clip(y, 0.01, 0.99)
    theta = [s.theta(0.5 * np.eye(s.k)) for *_, s in groups]
    beta = np.array([0.2, 0.0, 0.0])
    phi = np.concatenate([np.eye(m)[0] * -0.2 for m in sizes]) if sizes else np.zeros(0)
    psi = np.concatenate([*theta, beta, phi])
    psi = psi + noise * rng.normal(size=len(psi))
    if getattr(family.link, "name", "") in POSITIVE:
        psi = 0.1 * psi
        psi[sum(len(t) for t in theta)] = 2.0
    shift = 0.1 * rng.normal(size=n) if offset else None
    frequency = rng.integers(1, 4, n).astype(float) if weights else None
    return Case(family, X, y, groups, psi, trials, frequency, shift, aux)


def _groups(layout, n, rng):
    """Level codes, number of levels and number of coefficients of each factor."""
    g, h = rng.integers(8, size=n), rng.integers(5, size=n)
    return {
        "one": [(g, 8, 1)],
        "slopes": [(g, 8, 3)],
        "crossed": [(g, 8, 2), (h, 5, 1)],
        "nested": [(g, 8, 1), (g // 3, 3, 2)],
        "three": [(g, 8, 2), (h, 5, 1), (g // 3, 3, 1)],
        "chain": [(g, 8, 1), (g // 3, 3, 2), (h, 5, 2)],
    }[layout]
