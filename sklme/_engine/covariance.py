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

    def start(self) -> np.ndarray:
        """Lambda = I in the coordinates of the frame, where columns have unit spread."""
        one = np.concatenate([s.theta(np.eye(s.k)) for s in self.structures])
        return np.tile(one, (self.n_outputs, 1))

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
        """Order the coefficients by variance where that differs much; (theta, who changed)."""
        Lambdas = self.factors(theta, which)
        changed = np.zeros(len(which), bool)
        for t, (s, Lambda) in enumerate(zip(self.structures, Lambdas, strict=True)):
            if not s.ordered:
                continue
            places, size = self.places[t], np.linalg.norm(Lambda, axis=2)
            if places is None:
                places = np.tile(np.arange(s.k), (self.n_outputs, 1))
            off = [_sort_block(places, which, size, np.array(block)) for block in s.blocks]
            if np.any(off):
                self.places[t] = places
                changed |= np.any(off, axis=0)
        return self.theta(Lambdas, which), changed


def _sort_block(places, which, size, block) -> np.ndarray:
    """Put the rows of one block in order of falling size if they are three times out of order."""
    rows = np.arange(len(which))[:, None]
    now = block[np.argsort(places[which][:, block], axis=1)]  # rows of Lambda in chart order
    sizes = size[rows, now]
    smallest_before = np.minimum.accumulate(sizes, axis=1)
    off = (sizes > 3.0 * smallest_before).any(axis=1)
    order = np.argsort(-size[:, block], axis=1, kind="stable")
    new = np.empty_like(order)
    np.put_along_axis(new, order, np.broadcast_to(np.arange(len(block)), order.shape), axis=1)
    changed = which[off]
    places[changed[:, None], block] = np.sort(block)[new[off]]
    return off


def _triangular(Lambda: np.ndarray, s: Structure) -> np.ndarray:
    """The factor of the same covariance that is lower triangular within each block."""
    out = np.zeros_like(Lambda)
    for block in ((i,) for i in range(s.k)) if s.spherical else s.blocks:
        at = np.ix_(block, block)
        out[:, at[0], at[1]] = canonical(Lambda[:, list(block)])[:, :, : len(block)]
    return out
