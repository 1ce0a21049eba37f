"""Predictions and their derivatives, for all subjects at once.

First derivatives are the structure's own or exact by a complex step (Squire and Trapp 1998, "Using
complex variables to estimate derivatives of real functions", SIAM Review 40(1)). Second ones are
central differences of the first. Derivatives are taken along the `Coordinates` of a record, not
along beta or eta, so that their cost does not grow with the covariates.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.errors import LEAST

TINY = 1e-30  # the complex step
ROUNDING, INTEGRATED = 1e-16, 1e-9  # relative errors of a closed form and of an integrated one
MOST = 100.0  # exp(phi) is taken at most this far from 0, where phi is nowhere near an estimate


def natural(phi: np.ndarray, links: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """psi of real phi (..., q) and dpsi/dphi."""
    kinds = set(links)
    if kinds == {"identity"}:
        return phi, np.ones_like(phi)
    bounded = np.clip(phi, -MOST, MOST)
    if kinds == {"exp"}:
        psi = np.exp(bounded)
        return psi, psi
    psi, slope = phi.copy(), np.ones_like(phi)
    for k, link in enumerate(links):
        if link == "exp":
            psi[..., k] = slope[..., k] = np.exp(bounded[..., k])
        elif link == "expit":
            psi[..., k] = 1.0 / (1.0 + np.exp(-bounded[..., k]))
            slope[..., k] = psi[..., k] * (1.0 - psi[..., k])
    return psi, slope


@dataclass(frozen=True)
class Coordinates:
    """Directions of phi along which f is differentiated, U of them, by eta and by beta.

    The first `n_active` carry random effects: only these are differentiated twice.

    directions : T (1 or N, 1 or m, q, U)
    B : (N, 1 or m, U, Q), dphi/deta = T B
    C : (N, 1 or m, U, P), dphi/dbeta = T C
    """

    directions: np.ndarray
    B: np.ndarray
    C: np.ndarray
    n_active: int

    def take(self, subjects: np.ndarray | None) -> "Coordinates":
        """Of some subjects alone."""
        if subjects is None:
            return self
        pick = lambda x: x if len(x) == 1 else x[subjects]
        return Coordinates(pick(self.directions), pick(self.B), pick(self.C), self.n_active)

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(v, u) for each second derivative, with v active, each unordered pair once."""
        U = self.directions.shape[-1]
        pairs = [(v, u) for v in range(self.n_active) for u in range(v, U)]
        v, u = np.array(pairs, int).reshape(-1, 2).T
        return v, u

    def to_eta(self, first: np.ndarray) -> np.ndarray:
        """df/deta (..., subjects, n, Q) from df/dcoordinates (..., subjects, n, U)."""
        if self.B.shape[1] == 1:
            return first @ self.B[:, 0]
        return np.einsum("...iju,ijuk->...ijk", first, self.B)

    def curve(self, second: np.ndarray) -> np.ndarray:
        """d2f/dcoordinates deta (subjects, n, U, Q)."""
        return second @ self.B[:, :, : self.n_active]

    def to_eta_twice(self, weight: np.ndarray, second: np.ndarray) -> np.ndarray:
        """sum_j weight_j d2f_j/deta deta' (subjects, Q, Q)."""
        V = self.n_active
        if self.B.shape[1] == 1:
            B = self.B[:, 0, :V]
            return B.swapaxes(1, 2) @ np.einsum("ij,ijuv->iuv", weight, second[:, :, :V]) @ B
        B = self.B[:, :, :V]
        curved = weight[:, :, None, None] * (second[:, :, :V] @ B)
        return np.einsum("ijuk,ijul->ikl", B, curved)

    def to_beta(self, by_row: np.ndarray) -> np.ndarray:
        """sum_j C_j' x_j (..., subjects, P) of x (..., subjects, n, U)."""
        return _sum_rows(by_row, self.C)

    def to_effects(self, by_row: np.ndarray) -> np.ndarray:
        """sum_j B_j' x_j (..., subjects, Q) of x (..., subjects, n, U)."""
        return _sum_rows(by_row, self.B)


def _sum_rows(by_row: np.ndarray, design: np.ndarray) -> np.ndarray:
    if design.shape[1] == 1:
        return (by_row.sum(axis=-2)[..., None, :] @ design[:, 0])[..., 0, :]
    return np.einsum("...iju,ijuk->...ik", by_row, design)


def _outer(data: Data) -> Coordinates:
    Q, P = data.n_effects, data.C.shape[-1]
    if data.local:
        active = _active(data)
        order = np.concatenate([np.flatnonzero(active), np.flatnonzero(~active)])
        T = np.eye(len(order))[None, None][..., order]
        return Coordinates(T, data.B[:, :, order], data.C[:, :, order], int(active.sum()))
    T = np.concatenate([data.B, data.C], axis=-1)
    return Coordinates(T, np.eye(Q + P, Q)[None, None], np.eye(Q + P)[None, None, :, Q:], Q)


def _inner(data: Data) -> Coordinates:
    outer = _outer(data)
    V = outer.n_active
    return Coordinates(outer.directions[..., :V], outer.B[:, :, :V], outer.C[:, :, :V, :0], V)


def _active(data: Data) -> np.ndarray:
    return (data.B != 0).any(axis=(0, 1, 3))


def coordinates(data: Data, *, outer: bool = True) -> Coordinates:
    """Those of a record: of phi itself; of (eta, beta) where a row depends on psi of other rows.

    `outer=False`: only those that carry random effects.
    """
    inner, full = _coordinates(data)
    return full if outer else inner


def _coordinates(data: Data) -> tuple[Coordinates, Coordinates]:
    kept = data.__dict__.get("_coordinates")
    if kept is None:
        kept = data.__dict__["_coordinates"] = (_inner(data), _outer(data))
    return kept


def predict(data: Data, phi: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
    """f (..., subjects, n), its logarithm where the error is lognormal."""
    psi, _ = natural(phi, data.links)
    return _on_scale(data, np.asarray(data.structure(psi, subjects), float), subjects)


def jacobian(
    data: Data,
    along: Coordinates,
    phi: np.ndarray,
    scale: np.ndarray,
    subjects: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """f (..., subjects, n) and its derivatives along the coordinates (..., subjects, n, U).

    `along` belongs to the same subjects; scale (q,) is the size of a notable change of phi.
    """
    if along.directions.shape[-1] == 0:
        f = predict(data, phi, subjects)
        return f, np.zeros((*f.shape, 0))
    psi, slope = natural(phi, data.links)
    if _own(data):
        f, by_psi = data.structure.jacobian(psi, subjects)
        first = _by_coordinates(by_psi * slope, along)
        return _log_slopes(data, f, first, subjects)
    T = _leading(along.directions, phi.ndim - 3)
    if _complex(data):
        value = data.structure(psi + (1j * TINY) * (slope * T), subjects)
        first = np.moveaxis(value.imag, 0, -1) * (1.0 / TINY)
        return _log_slopes(data, value.real[0], first, subjects)
    step = _accuracy(data) ** (1 / 3) * _size(along, scale)
    h = step.reshape(-1, *[1] * phi.ndim)
    up, down = (predict(data, phi + sign * h * T, subjects) for sign in (1.0, -1.0))
    return predict(data, phi, subjects), np.moveaxis(up - down, 0, -1) / (2.0 * step)


def second(
    data: Data,
    along: Coordinates,
    phi: np.ndarray,
    scale: np.ndarray,
    subjects: np.ndarray | None = None,
) -> np.ndarray:
    """Second derivatives of f (subjects, n, U, V), by every and by the active coordinates."""
    V, own = along.n_active, _own(data)
    step = 2.0 * _accuracy_of_slopes(data) ** (1 / 3) * _size(along, scale)[:V]
    T = np.moveaxis(along.directions, -1, 0)
    h = step[:, None, None, None] * T[:V]
    moved = np.stack([phi + h, phi - h])  # (2, V, subjects, m, q)
    if own or not _complex(data):
        _, first = jacobian(data, along, moved, scale, subjects)
        return np.moveaxis((first[0] - first[1]) / (2.0 * step[:, None, None, None]), 0, -1)
    psi, slope = natural(moved, data.links)
    v, u = along.pairs
    value = data.structure(psi[:, v] + (1j * TINY) * (slope[:, v] * T[u]), subjects)
    first = value.imag
    if data.on_log is not False:
        first = np.where(_rows(data.on_log, subjects), first / _floor(value.real), first)
    by_pair = (first[0] - first[1]) * (0.5 / TINY / step[v])[:, None, None]
    return _spread(by_pair, v, u, along)


def third(
    data: Data,
    along: Coordinates,
    phi: np.ndarray,
    scale: np.ndarray,
    toward: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """sum_c weight_c D^3 f[d_c, d_c, u] (N, n, U), with weight (c, N).

    d_c are directions of phi, `toward` (c, N, m, q). Second differences of fourth order of the
    exact first derivatives.
    """
    size = np.maximum((np.abs(toward) / scale).max(axis=(2, 3), keepdims=True), LEAST)
    t = _accuracy_of_slopes(data) ** (1 / 6) / size
    moved = np.stack([phi + k * t * toward for k in (-2, -1, 1, 2)])
    far, near, close, away = jacobian(data, along, moved, scale)[1]
    middle = jacobian(data, along, phi, scale)[1]
    total = 16.0 * (near + close) - (far + away) - 30.0 * middle
    return (total * (weight[:, :, None, None] / (12.0 * t**2))).sum(axis=0)


def _own(data: Data) -> bool:
    """Whether the structure's own derivatives serve."""
    return data.local and hasattr(data.structure, "jacobian")


def _complex(data: Data) -> bool:
    """Whether the complex step serves."""
    return bool(getattr(data.structure, "complex_safe", True))


def _accuracy(data: Data) -> float:
    """The relative error of f."""
    integrated = hasattr(data.structure, "jacobian") and not _complex(data)
    return getattr(data.structure, "accuracy", INTEGRATED if integrated else ROUNDING)


def _accuracy_of_slopes(data: Data) -> float:
    """The relative error of first derivatives; differences lose a third of the digits."""
    exact = _own(data) or _complex(data)
    return _accuracy(data) if exact else _accuracy(data) ** (2 / 3)


def _by_coordinates(by_phi: np.ndarray, along: Coordinates) -> np.ndarray:
    """(..., subjects, n, U) from derivatives by phi, where a coordinate is one of phi."""
    order = along.directions[0, 0].argmax(axis=0)
    if len(order) == by_phi.shape[-1] and (order == np.arange(len(order))).all():
        return by_phi
    return by_phi[..., order]


def _leading(directions: np.ndarray, n_leading: int) -> np.ndarray:
    """T with the coordinate first and room for the leading axes of phi."""
    T = np.moveaxis(directions, -1, 0)
    return T.reshape(T.shape[0], *[1] * n_leading, *T.shape[1:])


def _size(along: Coordinates, scale: np.ndarray) -> np.ndarray:
    """How far each coordinate goes for a notable change of phi, (U,)."""
    change = (np.abs(along.directions) / scale[:, None]).max(axis=(0, 1, 2))
    return 1.0 / np.where(change > 0, change, 1.0)


def _spread(by_pair: np.ndarray, v: np.ndarray, u: np.ndarray, along: Coordinates) -> np.ndarray:
    V, U = along.n_active, along.directions.shape[-1]
    full = np.empty((*by_pair.shape[1:], U, V))
    for k in range(len(v)):
        full[..., u[k], v[k]] = by_pair[k]
        if u[k] < V:
            full[..., v[k], u[k]] = by_pair[k]
    return full


def _log_slopes(data: Data, f, first, subjects) -> tuple[np.ndarray, np.ndarray]:
    """f and its derivatives, of log f where the error is lognormal."""
    if data.on_log is False:
        return f, first
    where = _rows(data.on_log, subjects)
    first = np.where(_rows(where, None, 1), first / _floor(f)[..., None], first)
    return _on_scale(data, f, subjects), first


def _on_scale(data: Data, f: np.ndarray, subjects: np.ndarray | None) -> np.ndarray:
    if data.on_log is False:
        return f
    where = _rows(data.on_log, subjects)
    return np.where(where, np.log(_floor(f)), f)


def _floor(f: np.ndarray) -> np.ndarray:
    return np.maximum(f, LEAST)


def _rows(where, subjects: np.ndarray | None, n_trailing: int = 0):
    """A mask of rows, or one truth for all, of some subjects."""
    if isinstance(where, bool):
        return where
    where = where if subjects is None else where[subjects]
    return where.reshape(*where.shape, *[1] * n_trailing)
