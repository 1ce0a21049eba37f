"""theta <-> Lambda: the relative covariance factor of one grouping factor.

The covariance of the k random coefficients of a level is sigma^2 Lambda Lambda'
(Bates et al. 2015, eq. 4). Every structure is linear in its parameters,
Lambda = sum_p theta_p basis_p, which is all that the derivatives need to know.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Structure:
    """A linear parametrisation of the k x k factor Lambda.

    k : number of coefficients
    blocks : positions of the coefficients that are correlated with one another; a coefficient in
        no block has variance zero
    spherical : one variance for all coefficients of the blocks
    """

    k: int
    blocks: tuple[tuple[int, ...], ...]
    spherical: bool = False

    def without(self, coefficients) -> "Structure":
        """The same structure with some variances fixed at zero."""
        left = [tuple(i for i in block if i not in coefficients) for block in self.blocks]
        return replace(self, blocks=tuple(block for block in left if block))

    @cached_property
    def basis(self) -> np.ndarray:
        """(n_theta, k, k): the derivative of Lambda in each parameter."""
        if self.spherical:
            members = [i for block in self.blocks for i in block]
            return np.diag(np.isin(np.arange(self.k), members).astype(float))[None][: len(members)]
        entries = [
            (block[i], block[j])
            for block in self.blocks
            for j in range(len(block))
            for i in range(j, len(block))
        ]
        basis = np.zeros((len(entries), self.k, self.k))
        for p, (i, j) in enumerate(entries):
            basis[p, i, j] = 1.0
        return basis

    @property
    def n_theta(self) -> int:
        return len(self.basis)

    @property
    def ordered(self) -> bool:
        """Whether the order of the coefficients matters to the triangle."""
        return not self.spherical and any(len(block) > 1 for block in self.blocks)

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Lambda of shape (..., k, k) for theta of shape (..., n_theta)."""
        flat = theta @ self.basis.reshape(self.n_theta, self.k**2)
        return flat.reshape(*theta.shape[:-1], self.k, self.k)

    def theta(self, Lambda: np.ndarray) -> np.ndarray:
        """The parameters of a factor that has this structure: the inverse of `factor`."""
        norms = np.einsum("pij,pij->p", self.basis, self.basis)
        return np.einsum("pij,...ij->...p", self.basis, Lambda) / norms


def canonical(Lambda: np.ndarray) -> np.ndarray:
    """The lower-triangular factor of Lambda Lambda' with a diagonal >= 0, for (..., k, k)."""
    if Lambda.shape[-2:] == (1, 1):
        return np.abs(Lambda)
    R = np.linalg.qr(np.swapaxes(Lambda, -1, -2), mode="r")
    signs = np.where(np.einsum("...ii->...i", R) < 0, -1.0, 1.0)
    return np.swapaxes(R * signs[..., None], -1, -2)


class Charts:
    """Which lower-triangular chart each response uses for each factor: theta -> Lambda.

    Lambda matters only through Lambda Lambda', so the coefficients of a block may be taken in any
    order. With a small variance first, b and c of [[0, 0], [b, c]] can rotate freely and the
    search creeps along a circle; ordering by decreasing variance removes that valley.
    """

    def __init__(self, structures: tuple[Structure, ...], n_outputs: int):
        self.structures = structures
        self.n_outputs = n_outputs
        ends = np.cumsum([0, *(s.n_theta for s in structures)]).tolist()
        self.slices = [slice(i, j) for i, j in pairwise(ends)]
        self.places: list[np.ndarray | None] = [None] * len(structures)  # None: as they come
        self.version = 0  # counts changes of `places`

    def factors(self, theta: np.ndarray, which) -> list[np.ndarray]:
        """Lambda (r, k, k) of each factor."""
        out = []
        for s, at, places in zip(self.structures, self.slices, self.places, strict=True):
            Lambda = s.factor(theta[:, at])
            if places is not None:
                Lambda = np.take_along_axis(Lambda, places[which][:, :, None], axis=1)
            out.append(Lambda)
        return out

    def theta(self, Lambdas: list[np.ndarray], which) -> np.ndarray:
        """The parameters of given factors, each of them brought to the chart's triangle first."""
        parts = []
        for s, Lambda, places in zip(self.structures, Lambdas, self.places, strict=True):
            if places is not None:
                order = np.argsort(places[which], axis=1)[:, :, None]
                Lambda = np.take_along_axis(Lambda, order, axis=1)
            parts.append(s.theta(_triangular(Lambda, s)))
        return np.concatenate(parts, axis=1)

    def basis(self, t: int, which) -> np.ndarray:
        """dLambda / dtheta of factor t, (r, n_theta, k, k); r is 1 where all charts agree."""
        s, places = self.structures[t], self.places[t]
        if places is None:
            return s.basis[None]
        return np.moveaxis(s.basis[:, places[which]], 1, 0)

    def reorder(self, theta: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change to charts of falling pivots where the pivots are far off; (theta, who changed)."""
        Lambdas = self.factors(theta, which)
        changed = np.zeros(len(which), bool)
        for t, (s, Lambda) in enumerate(zip(self.structures, Lambdas, strict=True)):
            if not s.ordered:
                continue
            places = self.places[t]
            if places is None:
                places = np.tile(np.arange(s.k), (self.n_outputs, 1))
            off = [_pivot_block(places, which, Lambda, np.array(block)) for block in s.blocks]
            if np.any(off):
                self.places[t] = places
                self.version += 1
                changed |= np.any(off, axis=0)
        return self.theta(Lambdas, which), changed


def _pivot_block(places, which, Lambda, block) -> np.ndarray:
    """Order the rows of one block by what each adds to those before it; returns who changed.

    This is Cholesky's method with complete pivoting. A chart is left alone while each of its
    pivots is at least a third of the largest left.
    """
    rows = np.arange(len(which))
    now = np.argsort(places[which][:, block], axis=1)  # rows of the block in chart order
    L = Lambda[:, block]
    left = L @ L.swapaxes(1, 2)
    chart = left.copy()
    best, off = np.empty_like(now), np.zeros(len(which), bool)
    rounding = 1e-10 * np.einsum("rii->ri", chart).max(axis=1)
    for step in range(len(block)):
        largest = np.einsum("rii->ri", chart).max(axis=1)
        pivot = chart[rows, now[:, step], now[:, step]]
        off |= (9.0 * pivot < largest) & (largest > rounding)
        _eliminate(chart, rows, now[:, step])
        best[:, step] = np.einsum("rii->ri", left).argmax(axis=1)
        _eliminate(left, rows, best[:, step])
    place = np.argsort(best, axis=1)
    places[which[off][:, None], block] = np.sort(block)[place[off]]
    return off


def _eliminate(G: np.ndarray, rows: np.ndarray, pivot: np.ndarray) -> None:
    """What is left of the covariances G once the coefficient `pivot` is known, in place."""
    column = G[rows, :, pivot]
    size = column[rows, pivot]
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    G -= column[:, :, None] * column[:, None, :] * scale[:, None, None]
    G[rows, pivot, :] = G[rows, :, pivot] = 0.0
    G[rows, pivot, pivot] = -1.0  # chosen: never the largest again


def _triangular(Lambda: np.ndarray, s: Structure) -> np.ndarray:
    """The factor of the same covariance that is lower triangular within each block."""
    out = np.zeros_like(Lambda)
    for block in ((i,) for i in range(s.k)) if s.spherical else s.blocks:
        at = np.ix_(block, block)
        out[:, at[0], at[1]] = canonical(Lambda[:, list(block)])[:, :, : len(block)]
    return out
