"""Adaptive Gauss-Hermite quadrature of one grouping factor, with its exact gradient.

In u with b = Lambda u, a level is integrated over nodes u + C^-T t around its mode u, where
H = I + Lambda'Z'WZ Lambda = C C' is the curvature and t are the nodes of a standard normal (Liu and
Pierce 1994; Pinheiro and Bates 1995). One node is Laplace's approximation. The mode and C depend
on the parameters: the gradient carries their derivatives (Stringer 2023). Nothing divides by
Lambda, so a variance may be zero.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from numbers import Integral

import numpy as np

from sklme._engine import blocks
from sklme._engine.covariance import Structure
from sklme._engine.laplace import Laplace, Point, Rows, Slopes
from sklme._engine.weighted import Grouping

MOST_COEFFICIENTS, MOST_NODES = 3, 100
RISE = 100.0  # how far an exponent may rise above what it is measured from


def check_quadrature(groupings: tuple, n_quadrature) -> None:
    """Whether quadrature with so many nodes is possible for these factors.

    Raises
    ------
    ValueError
        If not; the sentence says what is possible.
    """
    number = isinstance(n_quadrature, Integral) and not isinstance(n_quadrature, bool)
    if not number or not 1 <= n_quadrature <= MOST_NODES:
        raise ValueError(
            f"n_quadrature must be a whole number from 1 to {MOST_NODES}: it is {n_quadrature!r}"
        )
    if n_quadrature == 1 or not groupings:
        return
    if len(groupings) > 1:
        raise ValueError(
            f"n_quadrature={n_quadrature} is possible with one grouping factor, and there are "
            f"{len(groupings)}: use n_quadrature=1, Laplace's approximation"
        )
    if groupings[0].k > MOST_COEFFICIENTS:
        raise ValueError(
            f"n_quadrature={n_quadrature} is possible with at most {MOST_COEFFICIENTS} "
            f"coefficients a level, and there are {groupings[0].k}: use n_quadrature=1, "
            "Laplace's approximation"
        )


@lru_cache(maxsize=16)
def nodes(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a standard normal, a product of rules of so many nodes, and how much they weigh.

    t (m, k, 1) and the logarithm of weight * exp(t't / 2), (m,).
    """
    x, log_weight = zip(*(_rule(n) for n in counts), strict=True)
    t = np.stack(np.meshgrid(*x, indexing="ij"), axis=-1).reshape(-1, len(counts), 1)
    return t, np.sum(np.meshgrid(*log_weight, indexing="ij"), axis=0).ravel()


def _rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite.hermgauss(n)
    return np.sqrt(2.0) * x, np.log(w / np.sqrt(np.pi)) + x**2


class Peak:
    """Where each level has its mode and how it bends there.

    u : the mode (k, q); A : Z'WZ (k, k, q); inverse : C^-1 of C C' = I + Lambda'A Lambda
    """

    def __init__(self, point: Point):
        assert point.modes is not None
        (self.Lambda,), (self.scores,) = point.Lambdas, point.modes.scores
        self.A = point.modes.at.system.gram.factors[0].zz
        self.u = self.Lambda.T @ self.scores
        L = self.Lambda[:, :, None]
        W = blocks.multiply(blocks.multiply(blocks.transpose(L), self.A), L)
        C = blocks.cholesky(blocks.identity_plus(W))
        one = np.eye(len(L))[:, :, None]
        self.inverse = blocks.solve_lower(C, np.broadcast_to(one, C.shape))

    def step(self, t: np.ndarray) -> np.ndarray:
        """C^-T t for (k, q) or (k, 1)."""
        return np.einsum("baq,bq->aq", self.inverse, np.broadcast_to(t, self.u.shape))

    def solve(self, x: np.ndarray) -> np.ndarray:
        """H^-1 x for (k, q)."""
        return self.step(np.einsum("abq,bq->aq", self.inverse, x))

    def between(self, X: np.ndarray) -> np.ndarray:
        """C^-T X C^-1 for (k, k, q)."""
        return blocks.multiply(blocks.transpose(self.inverse), blocks.multiply(X, self.inverse))


class NodeSums:
    """Sums over the nodes, each times its share of the integral of the level.

    log_size : log of the integral of each level, relative to Laplace's approximation
    first, aux : of dl/deta and dl/dtau of each row
    pull : of p = Z'dl/deta (k, q); t, tt, tp : of t, t t' and t p'
    """

    def __init__(self, grouping: Grouping, n_aux: int):
        k, q, n = grouping.k, grouping.n_levels, len(grouping.codes)
        self.grouping = grouping
        self.log_size, self.size = np.zeros(q), np.zeros(q)
        self.first, self.aux = np.zeros(n), np.zeros((n_aux, n))
        self.pull, self.t = np.zeros((k, q)), np.zeros((k, q))
        self.tt, self.tp = np.zeros((k, k, q)), np.zeros((k, k, q))

    def add(self, log_weight: np.ndarray, t: np.ndarray, terms) -> None:
        """One more node, whose share of each level is exp(log_weight) before they are scaled.

        Where there is no share, out of range, derivatives may be no numbers.
        """
        weight = self._weight(log_weight)
        at = weight[self.grouping.codes]
        first = terms.first if weight.all() else np.where(at > 0, terms.first, 0.0)
        pull = weight * self.grouping.sums(first[None])[:, 0]
        self.size += weight
        self.first += at * first
        if len(self.aux):
            aux = terms.aux_value if weight.all() else np.where(at > 0, terms.aux_value, 0.0)
            self.aux += at * aux
        self.pull += pull
        self.t += t * weight
        self.tt += t[:, None] * t * weight
        self.tp += t[:, None] * pull

    def close(self) -> None:
        """After the last node: the shares of the nodes add to one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            self._raise(self.log_size + np.log(self.size))

    def _weight(self, log_weight: np.ndarray) -> np.ndarray:
        """exp(log_weight) relative to `log_size`, which rises before anything overflows."""
        log_weight = np.where(np.isnan(log_weight), -np.inf, log_weight)
        high = log_weight > self.log_size + RISE
        if high.any():
            self._raise(np.where(high, log_weight, self.log_size))
        return np.exp(log_weight - self.log_size)

    def _raise(self, log_size: np.ndarray) -> None:
        factor = np.exp(self.log_size - log_size)
        self.log_size = log_size
        for sums in (self.size, self.pull, self.t, self.tt, self.tp):
            sums *= factor
        row = factor[self.grouping.codes]
        self.first *= row
        self.aux *= row


@dataclass(frozen=True)
class Integrated(Point):
    """A point whose value is the integral over the nodes."""

    peak: Peak
    sums: NodeSums


class Quadrature(Laplace):
    """The criterion -2 log L in psi, integrated with n_quadrature nodes a coefficient.

    Raises
    ------
    ValueError
        If `check_quadrature` does.
    """

    def __init__(self, family, rows: Rows, structures: tuple[Structure, ...], n_quadrature: int):
        check_quadrature(rows.groupings, n_quadrature)
        super().__init__(family, rows, structures)
        self.n_quadrature = int(n_quadrature)

    @cached_property
    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes; a coefficient without variance needs but one."""
        free = np.abs(self.structures[0].basis).sum(axis=(0, 1))
        return nodes(tuple(self.n_quadrature if f else 1 for f in free))

    def at(self, psi: np.ndarray) -> Point:
        """The modes, the sums over the nodes and the log-likelihood at psi."""
        point = super().at(psi)
        if self.n_quadrature == 1 or point.modes is None or not np.isfinite(point.value):
            return point
        peak = Peak(point)
        if not np.isfinite(peak.inverse).all():  # a saddle, no mode
            return replace(point, value=-np.inf)
        sums = self._integrate(point, peak)
        value = point.value + float(sums.log_size.sum())
        return Integrated(**{**vars(point), "value": value}, peak=peak, sums=sums)

    def _integrate(self, point: Point, peak: Peak) -> NodeSums:
        """One pass over the rows for every node but the mode itself, which is known."""
        (g,) = self.rows.groupings
        sums = NodeSums(g, len(self.rows.aux))
        height = self._by_block(point.terms.value)
        for t, constant in zip(*self.nodes, strict=True):
            step, terms = peak.step(t), point.terms
            if t.any():
                eta = point.eta + g.part(peak.Lambda @ step)
                order = 3 if self.rows.aux else 2
                terms = self.terms(eta, point.tau, order)
            rise = self._by_block(terms.value) - height
            rise -= np.einsum("aq,aq->q", peak.u + 0.5 * step, step)
            sums.add(constant + rise, t, terms)
        sums.close()
        return sums

    def _slopes(self, point: Point) -> Slopes:
        if not isinstance(point, Integrated):
            return super()._slopes(point)
        peak, sums, terms = point.peak, point.sums, point.terms
        (g,), L = self.rows.groupings, peak.Lambda[:, :, None]
        by_H = _by_curvature(peak, sums)
        h = _quadratic_forms(g, blocks.multiply(blocks.multiply(L, by_H), blocks.transpose(L)))
        by_W = g.sums((-terms.third * h)[None])[:, 0]
        by_u = peak.Lambda.T @ (sums.pull + by_W) - peak.u - peak.step(sums.t)
        through = peak.solve(by_u)  # the mode moves by H^-1 of what moves its gradient
        along = g.part(peak.Lambda @ through)
        eta = sums.first - terms.third * h + terms.second * along
        tau = None
        if self.rows.aux:
            tau = sums.aux - terms.aux_second * h + terms.aux_first * along
        return Slopes(eta, tau, [_by_Lambda(peak, sums, by_H, by_W, through)])


def _by_curvature(peak: Peak, sums: NodeSums) -> np.ndarray:
    """The gradient of log L by H of each level, (k, k, q): by log |H| and by the factor C.

    With e = Lambda'p - u the gradient at a node, dC = C Phi(C^-1 dH C^-T), where Phi takes the
    lower triangle and half the diagonal, moves the nodes by -C^-T dC'C^-T t.
    """
    te = blocks.multiply(sums.tp, peak.Lambda[:, :, None])
    te -= sums.t[:, None] * peak.u + blocks.multiply(sums.tt, peak.inverse)
    X = blocks.multiply(te, blocks.transpose(peak.inverse))
    lower = np.tri(len(X), dtype=bool)[:, :, None]
    return -0.5 * peak.between(blocks.identity_plus(np.where(lower, X, blocks.transpose(X))))


def _by_Lambda(peak: Peak, sums: NodeSums, by_H, by_W, through) -> np.ndarray:
    """The gradient of log L by the entries of Lambda, (k, k)."""
    AL = blocks.multiply(peak.A, peak.Lambda[:, :, None])
    force = sums.pull + by_W - np.einsum("abq,bq->aq", AL, through)
    nodes = blocks.multiply(blocks.transpose(sums.tp), peak.inverse)
    curvature = 2.0 * blocks.multiply(AL, by_H)
    return force @ peak.u.T + peak.scores @ through.T + (nodes + curvature).sum(axis=2)


def _quadratic_forms(g: Grouping, B: np.ndarray) -> np.ndarray:
    """z'B z of each row with the (k, k, q) block of its level."""
    return sum(z * g.part(row) for z, row in zip(g.values(), B, strict=True))
