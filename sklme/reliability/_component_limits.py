"""Covariance of estimated variance components, and intervals of ratios of their sums."""

import numpy as np
from scipy import stats

from sklme._engine.sensitivity import sensitivity
from sklme.inference._access import Fitted

NOTHING = 1e-10  # a scaled eigenvalue below this carries no information


def component_covariance(fitted: Fitted) -> np.ndarray:
    """Of the variances of random intercepts, the residual last, in units of y to the fourth.

    The inverse of the expected information, 1/2 tr(P U_i P U_j) for V = sum_i v_i U_i with P = V^-1
    under ML (Searle, Casella and McCulloch 1992, sec. 6.6). The engine has it for the changes V
    and U_i of V; those of the residual and of a component follow as v_e = c_0 and
    v_i = c_0 gamma_i + c_i.
    """
    fit, r = fitted.fit, fitted.r
    s = sensitivity(fit, r)
    gamma = np.array([L[r].item() ** 2 for L in fit.Lambdas])
    information = np.empty((len(gamma) + 1,) * 2)
    information[0, 0] = fit.gram.total - fit.columns.sum() * fit.reml
    information[0, 1:] = information[1:, 0] = s.t1
    information[1:, 1:] = s.t2
    turn = np.zeros_like(information)  # from (c_0, c) to (v, v_e)
    turn[:-1, 0], turn[:-1, 1:], turn[-1, 0] = gamma, np.eye(len(gamma)), 1.0
    units = np.append([T.item() ** 2 for T in fit.frame.z_maps], 1.0)
    units *= fit.s2[r] * fit.frame.y_scale[r] ** 2
    turn *= units[:, None]
    return 2.0 * turn @ _pseudo_inverse(information) @ turn.T


def share_limits(part, rest, v: np.ndarray, W: np.ndarray, confidence_level: float) -> np.ndarray:
    """Both ends of part'v / (part'v + rest'v), (2,), for estimates v with the covariance W.

    With d = -cov(part, rest) / var(rest) the sums A = part + d rest and B = rest are uncorrelated.
    Each is taken for a multiple of a chi-square with the degrees of freedom that its mean and
    variance ask for (Satterthwaite 1946), so that A / B is a multiple of F. Of balanced data with
    one crossed facet A and B are the two mean squares, and the interval is exact.
    """
    U, E = part @ v, rest @ v
    var_U, cov, var_E = part @ W @ part, part @ W @ rest, rest @ W @ rest
    if not (E > 0 and var_E > 0):
        return np.full(2, np.nan)
    d = max(-cov / var_E, 0.0)
    A, var_A = U + d * E, var_U + 2.0 * d * cov + d**2 * var_E
    if not (A > 0 and var_A > 0):
        return np.full(2, np.nan)
    tail = 0.5 * (1.0 - confidence_level)
    F = stats.f.isf([tail, 1.0 - tail], 2.0 * A**2 / var_A, 2.0 * E**2 / var_E)
    ratio = np.maximum(A / E / F - d, 0.0)
    return ratio / (1.0 + ratio)


def _pseudo_inverse(information: np.ndarray) -> np.ndarray:
    scale = 1.0 / np.sqrt(np.maximum(information.diagonal(), 1e-300))
    w, U = np.linalg.eigh(information * scale * scale[:, None])
    inverse = (U * np.where(w > NOTHING, 1.0 / np.maximum(w, NOTHING), 0.0)) @ U.T
    return inverse * scale * scale[:, None]
