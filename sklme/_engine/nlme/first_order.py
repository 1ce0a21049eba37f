"""FO: the model linearised at eta = 0, where the subjects' rows are jointly normal.

-2 log L of V = A Omega A' + R with A = df/deta and R at eta = 0 (Beal and Sheiner 1982, "Estimating
population kinetics", Crit. Rev. Biomed. Eng. 8). It is written with the mode u of the linear model,
so that V is never built: sum log R + |r - A L u|^2 / R + u'u + log |I + L'A'R^-1 A L|.
"""

import numpy as np

from sklme._engine.nlme.modes import Modes
from sklme._engine.nlme.objective import Evaluation, Gradient, with_variance
from sklme._engine.nlme.point import Point


def first_order(point: Point, *, gradient: bool) -> Evaluation:
    """The objective of a point without interaction; the modes are those of the linear model."""
    at, L, data = point.at_zero, point.L, point.data
    assert point.frozen is not None
    R, mask = point.frozen.R, data.mask
    weight, residual = mask / R, data.response - at.f
    W = at.a.swapaxes(1, 2) @ (weight[:, :, None] * at.a)
    H = L.T @ W @ L + np.eye(len(L))
    force = ((weight * residual)[:, None] @ at.a)[:, 0]
    u = np.linalg.solve(H, (force @ L)[:, :, None])[:, :, 0]
    eta = u @ L.T
    e = residual - (at.a @ eta[:, :, None])[:, :, 0]
    loss = mask * np.log(R) + weight * e**2
    modes = Modes(u, loss.sum(axis=1) + (u * u).sum(axis=1), np.ones(len(u), bool), 0)
    value = modes.value + np.linalg.slogdet(H)[1] + data.constants
    if not gradient:
        return Evaluation(value, None, modes)
    K = np.linalg.inv(H)
    Ma = at.a @ (L @ K @ L.T)
    m = (Ma * at.a).sum(axis=2)
    by_f = -2.0 * weight * e
    by_R = weight * (1.0 - (e**2 + m) / R)
    slope = 2.0 * weight[:, :, None] * Ma + by_f[:, :, None] * eta[:, None]
    along = point.along(outer=True)
    curve = along.curve(point.second(np.zeros_like(u), outer=True))
    by_row = by_f[:, :, None] * at.first + (curve @ slope[:, :, :, None])[:, :, :, 0]
    by_L = (by_f[:, None] @ at.a)[:, 0][:, :, None] * u[:, None] + 2.0 * W @ L @ K
    beta = along.to_beta(by_row)
    gradients: Gradient = with_variance(point, beta, by_L, by_R * point.frozen.s)
    return Evaluation(value, gradients, modes)
