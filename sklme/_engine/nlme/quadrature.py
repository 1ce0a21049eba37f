"""Adaptive Gauss-Hermite quadrature around the modes, with its exact gradient.

The nodes are u_k = u + D t_k, where D D' = H^-1, H is half the curvature of the criterion, and t
are the nodes of a standard normal (Pinheiro and Bates 1995, "Approximations to the log-likelihood
function in the nonlinear mixed-effects model", J. Comput. Graph. Stat. 4(1)). With the Gauss-Newton
curvature one node is FOCEI, with the exact one it is Laplace's approximation.
"""

import numpy as np

from sklme._engine.nlme.derivatives import jacobian
from sklme._engine.nlme.errors import loss
from sklme._engine.nlme.modes import Modes
from sklme._engine.nlme.objective import (
    Direct,
    Evaluation,
    Gradient,
    Peak,
    cholesky,
    through_modes,
    with_variance,
)
from sklme._engine.nlme.point import Point
from sklme._engine.quadrature import nodes

MOST_NUMBERS = 2_000_000  # values of f that are held at once
MOST_POINTS = 200_000  # nodes of one subject


def check_nodes(n_nodes: int, n_effects: int) -> None:
    """Whether so many nodes for each effect are possible.

    Raises
    ------
    ValueError
        If not; the sentence says what is possible.
    """
    if n_nodes < 1 or n_nodes**n_effects > MOST_POINTS:
        most = int(MOST_POINTS ** (1.0 / max(n_effects, 1)))
        raise ValueError(
            f"with {n_effects} random effects n_nodes must be from 1 to {most}: it is {n_nodes}"
        )


def quadrature(
    point: Point, modes: Modes, n_nodes: int, *, exact: bool = False, gradient: bool
) -> Evaluation:
    """The objective integrated over n_nodes nodes for each effect."""
    check_nodes(n_nodes, modes.u.shape[1])
    peak = Peak(point, modes, exact=exact)
    D = cholesky(peak.inverse)
    t, log_weight = nodes((n_nodes,) * modes.u.shape[1])
    t = t[:, :, 0]
    u = modes.u + (D @ t[:, None, :, None])[..., 0]
    with np.errstate(invalid="ignore"):  # where there is no mode there are no nodes
        share = log_weight[:, None] - 0.5 * (_criteria(point, u) - modes.value)
        top = share.max(axis=0)
        weight = np.exp(share - top)
        total = weight.sum(axis=0)
    value = modes.value + peak.log_det - 2.0 * (top + np.log(total)) + point.data.constants
    value = np.where(np.isfinite(value), value, np.inf)
    if not gradient:
        return Evaluation(value, None, modes)
    gradients = _gradient(peak, D, t, u, weight / total)
    return Evaluation(value, gradients, modes, peak.doubtful, peak)


def chunks(point: Point, n: int) -> list[slice]:
    """Slices of n repetitions of all rows that are small enough to hold at once."""
    size = max(1, MOST_NUMBERS // max(point.data.y.size * point.along(outer=True).C.shape[2], 1))
    return [slice(k, k + size) for k in range(0, n, size)]


def _criteria(point: Point, u: np.ndarray) -> np.ndarray:
    return np.concatenate([point.criterion(u[part]) for part in chunks(point, len(u))])


def _gradient(peak: Peak, D, t: np.ndarray, u: np.ndarray, share: np.ndarray) -> Gradient:
    """The nodes move with the mode and with dD = -D Phi(D'dH D).

    Phi takes the lower triangle and half the diagonal.
    """
    point, Q = peak.point, peak.u.shape[1]
    sums = _NodeSums(point)
    for part in chunks(point, len(t)):
        sums.add(t[part], u[part], share[part])
    Y = (sums.tp @ D).swapaxes(1, 2)  # (D'p)_a t_b
    lower = np.tril(Y, -1)
    S = 0.5 * (lower + lower.swapaxes(1, 2) + np.eye(Q) * Y)
    by_H = peak.inverse - D @ S @ D.swapaxes(1, 2)
    still = Direct(np.zeros_like(peak.loss.f), np.zeros_like(peak.loss.s), sums.p)
    moved = through_modes(peak, still, by_H)
    nodes = with_variance(point, sums.beta, sums.L, sums.s)
    return Gradient(*(getattr(moved, k) + getattr(nodes, k) for k in ("beta", "L", "log_sigma")))


class _NodeSums:
    """Sums over nodes times their shares: of dl/du (p), t dl/du' (tp), and slopes at still u."""

    def __init__(self, point: Point):
        data = point.data
        (N, Q), P = (data.n_subjects, data.n_effects), data.C.shape[-1]
        self.point = point
        self.p, self.tp = np.zeros((N, Q)), np.zeros((N, Q, Q))
        self.beta, self.L = np.zeros((N, P)), np.zeros((N, Q, Q))
        self.s = np.zeros((1, 1, 1))

    def add(self, t: np.ndarray, u: np.ndarray, share: np.ndarray) -> None:
        """More nodes t (k, Q), which are u (k, N, Q) and count share (k, N)."""
        point, data = self.point, self.point.data
        along = point.along(outer=True)
        f, first = jacobian(data, along, point.phi(u), point.scale)
        at = loss(data, f, point.variance(f, None, True))
        by_f = share[:, :, None] * at.f
        by_row = by_f[..., None] * first  # (k, N, n, U)
        by_eta = along.to_effects(by_row)
        p = by_eta @ point.L + 2.0 * share[:, :, None] * u
        self.p += p.sum(axis=0)
        self.tp += np.einsum("ka,kib->iab", t, p)
        self.beta += along.to_beta(by_row.sum(axis=0))
        self.L += np.einsum("kia,kib->iab", by_eta, u)
        self.s = self.s + np.einsum("ki,skij->sij", share, at.s)
