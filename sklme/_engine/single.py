"""One grouping factor: the profiled criterion of many responses at once, exactly.

With A = Z'Z, B = Z'X, C = Z'y by level and D = Lambda (I + Lambda' A Lambda)^-1 Lambda', a
k x k matrix a level, Woodbury's identity gives everything without Z:
V^-1 = I - Z D Z',  X'V^-1X = X'X - sum B'DB,  b = D (C - B beta)  (Bates et al. 2015, sec. 3).
Arrays are laid out (k, k, responses, levels).
"""

from dataclasses import dataclass, fields

import numpy as np

from sklme._engine import blocks
from sklme._engine.covariance import Charts
from sklme._engine.fixed import FixedPart, assemble, solve_fixed
from sklme._engine.gram import Gram
from sklme._engine.newton import Evaluate
from sklme._engine.records import Evaluation, Solution

CHUNK = 4_000_000  # numbers in one (k, responses, levels) array before responses are split


@dataclass(frozen=True)
class _Point:
    """The quantities at one theta that criterion, derivatives and solution share."""

    A: np.ndarray  # (k, k, 1, G)
    B: np.ndarray  # (k, p, G)
    C: np.ndarray  # (k, r, G)
    D: np.ndarray  # (k, k, r, G)
    counts: np.ndarray | None  # (G,)
    log_det: np.ndarray  # (r,)
    fixed: FixedPart


def criterion(gram: Gram, charts: Charts, *, reml: bool, latest: dict | None = None) -> Evaluate:
    """theta (r, m), responses -> value and derivatives of -2 log-likelihood.

    `latest` keeps the last point that was evaluated for all responses, for `solution`.
    """

    def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        parts = [one(theta[at], which[at]) for at in _chunks(gram, len(which))]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def one(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        (Lambda,) = charts.factors(theta, which)
        point = _point(gram, Lambda, which, reml)
        if latest is not None and len(which) == gram.n_outputs:
            latest["Lambda"], latest["point"] = Lambda, point
        return _derivatives(point, Lambda, charts.basis(0, which))

    return evaluate


def solution(gram: Gram, Lambdas: list[np.ndarray], *, reml: bool, latest: dict) -> Solution:
    """beta, b, residual sum of squares and log |V| at Lambda (r, k, k)."""
    if "point" in latest and np.array_equal(latest["Lambda"], Lambdas[0]):
        return _solve(latest["point"])
    which = np.arange(gram.n_outputs)
    chunks = _chunks(gram, len(which))
    parts = [_solve(_point(gram, Lambdas[0][at], which[at], reml)) for at in chunks]
    return parts[0] if len(parts) == 1 else Solution.join(parts)


def posterior_factor(gram: Gram, Lambda: np.ndarray) -> np.ndarray:
    """D of shape (k, k, r, G): the covariance of b given y and beta, over sigma^2."""
    return blocks.woodbury(gram.factors[0].zz[:, :, None, :], Lambda)[0]


def _point(gram: Gram, Lambda: np.ndarray, which: np.ndarray, reml: bool) -> _Point:
    f = gram.factors[0]
    A, B, C = f.zz[:, :, None, :], f.zx, f.zy[:, which]
    D, log_det = blocks.woodbury(A, Lambda, f.counts)
    DC = np.einsum("abrg,brg->arg", D, C)
    r, (k, p, G) = len(which), B.shape
    flat = B.transpose(0, 2, 1).reshape(k * G, p)
    xvx = gram.xx - _stacked(np.einsum("abrg,bpg->rpag", D, B)) @ flat
    xvy = gram.xy[:, which].T - DC.swapaxes(0, 1).reshape(r, k * G) @ flat
    yvy = gram.yy[which] - np.einsum("arg,arg->r", C, DC)
    fixed = solve_fixed(
        xvx, xvy, yvy, (np.diag(gram.xx), gram.yy[which]), log_det, gram.total, reml
    )
    return _Point(A, B, C, D, f.counts, log_det, fixed)


def _stacked(B: np.ndarray) -> np.ndarray:
    """(r, p, k, G) -> (r, p, k G)."""
    r, p, k, G = B.shape
    return B.reshape(r, p, k * G)


def _solve(point: _Point) -> Solution:
    e = point.C - np.einsum("apg,rp->arg", point.B, point.fixed.beta)
    b = np.einsum("abrg,brg->arg", point.D, e)
    fixed = point.fixed
    return Solution(fixed.beta, fixed.xvx, fixed.rss, point.log_det, (b,))


def _derivatives(point: _Point, Lambda: np.ndarray, basis: np.ndarray) -> Evaluation:
    """Gradient, and average information plus the exact second-order term.

    With P = V^-1 - V^-1 X (X'V^-1X)^-1 X'V^-1, z = Z'Py and M = sum over levels of
    [Z'PZ]_ll - z z'/s2 (V^-1 for P under ML), the gradient is 2 M Lambda and the Hessian
    w_p'P w_q / s2 - a_p a_q / nu + 2 tr(M B_p B_q'), where w_p = dV_p P y = Z c_p: the average
    information of Gilmour, Thompson and Cullis (1995) and the term in d2V that it leaves out.
    """
    A, B, D, fixed = point.A, point.B, point.D, point.fixed
    AD = blocks.multiply(A, D)
    S = A - blocks.multiply(AD, A)  # Z'V^-1Z by level
    half = _half_projected(B, AD, fixed.root)  # R^-1 X'V^-1Z, (r, p, k, G)
    e = point.C - np.einsum("apg,rp->arg", B, fixed.beta)
    z = e - np.einsum("abrg,brg->arg", AD, e)
    J = np.einsum("rpag,rpbg->abrg", half, half) if fixed.reml else None  # S - Z'PZ by level
    left = blocks.total(S, point.counts)
    left = left if J is None else left - J.sum(axis=-1)
    M = np.moveaxis(left, 2, 0) - _outer(z.swapaxes(0, 1)) / fixed.s2[:, None, None]
    T = basis @ Lambda.swapaxes(1, 2)[:, None]
    T = T + T.swapaxes(2, 3)  # dV_p = Z T_p Z'
    c = np.einsum("rmab,brg->rmag", T, z)
    flat_c = _stacked(c)
    h = flat_c @ _stacked(half).swapaxes(1, 2)
    a = np.einsum("rmag,arg->rm", c, z) / fixed.s2[:, None]
    Sc = _stacked(np.einsum("abrg,rmbg->rmag", S, c))
    information = flat_c @ Sc.swapaxes(1, 2) - h @ h.swapaxes(1, 2)
    expected = _expected(S, J, T, half, point.counts)
    return assemble(fixed, [M], [basis], [Lambda], information, expected, a)


def _expected(S: np.ndarray, J: np.ndarray | None, T: np.ndarray, half, counts) -> np.ndarray:
    """tr(P V_p P V_q) by level: V_p = Z T_p Z', Z'PZ = S - J with J = half'half.

    Without J (ML) it is tr(V^-1 V_p V^-1 V_q).
    """
    weighted = S if counts is None else S * counts
    if J is None:
        return _contract(_products(S, weighted), T)
    turned = np.einsum("rpbg,rmab->rmpag", half, T)
    r, m, p, k, G = turned.shape
    F = turned.reshape(r, m, p, k * G) @ _stacked(half).swapaxes(1, 2)[:, None]
    return _contract(_products(S, weighted - 2.0 * J), T) + np.einsum("rmpq,rnpq->rmn", F, F)


def _products(S: np.ndarray, J: np.ndarray) -> np.ndarray:
    """sum over levels of S_ab J_cd, (r, k, k, k, k)."""
    k, _, r, G = S.shape
    left, right = (x.reshape(k * k, r, G).transpose(1, 0, 2) for x in (S, J))
    return (left @ right.swapaxes(1, 2)).reshape(r, k, k, k, k)


def _contract(SJ: np.ndarray, T: np.ndarray) -> np.ndarray:
    """sum of S_ab T_bc J_cd T_da for every pair of parameters, made symmetric."""
    inner = np.einsum("rabcd,rmbc->rmad", SJ, T)
    full = np.einsum("rmad,rnda->rmn", inner, T)
    return 0.5 * (full + full.swapaxes(1, 2))


def _half_projected(B: np.ndarray, AD: np.ndarray, root: np.ndarray) -> np.ndarray:
    VB = B.swapaxes(0, 1)[None] - np.einsum("abrg,bpg->rpag", AD, B)  # X'V^-1Z
    return (root @ _stacked(VB)).reshape(VB.shape)


def _outer(z: np.ndarray) -> np.ndarray:
    """sum over levels of z z' for (r, k, G)."""
    return z @ z.swapaxes(1, 2)


def _chunks(gram: Gram, n_responses: int) -> list[slice]:
    f = gram.factors[0]
    each = f.k * (f.k + gram.xx.shape[0]) * f.n_levels
    size = max(1, CHUNK // max(each, 1))
    return [slice(i, min(i + size, n_responses)) for i in range(0, n_responses, size)]


def _joined(parts: list[Evaluation]) -> Evaluation:
    names = [f.name for f in fields(Evaluation)]
    return Evaluation(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
