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
LEVELS = 16_384  # levels in a piece; its arrays stay in the cache


@dataclass(frozen=True)
class _Piece:
    """Some levels at one theta."""

    A: np.ndarray  # (k, k, 1, G)
    B: np.ndarray  # (k, p, G)
    C: np.ndarray  # (k, r, G)
    D: np.ndarray  # (k, k, r, G)
    counts: np.ndarray | None  # (G,)


@dataclass(frozen=True)
class _Point:
    """The quantities at one theta that criterion, derivatives and solution share."""

    pieces: list[_Piece]
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
    f, r = gram.factors[0], len(which)
    p = len(gram.xx)
    pieces, log_det = [], np.zeros(r)
    lost = [np.zeros((r, p, p)), np.zeros((r, p)), np.zeros(r)]
    for at in (slice(i, i + LEVELS) for i in range(0, f.n_levels, LEVELS)):
        A, B, C = f.zz[:, :, None, at], f.zx[:, :, at], f.zy[:, which, at]
        counts = None if f.counts is None else f.counts[at]
        D, part = blocks.woodbury(A, Lambda, counts)
        log_det += part
        pieces.append(_Piece(A, B, C, D, counts))
        for total, more in zip(lost, _lost(B, C, D), strict=True):
            total += more
    fixed = solve_fixed(
        gram.xx - lost[0],
        gram.xy[:, which].T - lost[1],
        gram.yy[which] - lost[2],
        (np.diag(gram.xx), gram.yy[which]),
        log_det,
        gram.total,
        reml,
    )
    return _Point(pieces, log_det, fixed)


def _lost(B: np.ndarray, C: np.ndarray, D: np.ndarray):
    """sum over levels of B'DB (r, p, p), B'DC (r, p) and C'DC (r,)."""
    (k, p, G), r = B.shape, C.shape[1]
    flat = B.transpose(0, 2, 1).reshape(k * G, p)
    DC = np.einsum("abrg,brg->arg", D, C)
    return (
        _stacked(np.einsum("abrg,bpg->rpag", D, B)) @ flat,
        DC.swapaxes(0, 1).reshape(r, k * G) @ flat,
        np.einsum("arg,arg->r", C, DC),
    )


def _stacked(B: np.ndarray) -> np.ndarray:
    """(r, p, k, G) -> (r, p, k G)."""
    r, p, k, G = B.shape
    return B.reshape(r, p, k * G)


def _solve(point: _Point) -> Solution:
    fixed, b = point.fixed, []
    for piece in point.pieces:
        e = piece.C - np.einsum("apg,rp->arg", piece.B, fixed.beta)
        b.append(np.einsum("abrg,brg->arg", piece.D, e))
    effects = b[0] if len(b) == 1 else np.concatenate(b, axis=2)
    return Solution(fixed.beta, fixed.xvx, fixed.rss, point.log_det, (effects,))


def _derivatives(point: _Point, Lambda: np.ndarray, basis: np.ndarray) -> Evaluation:
    """Gradient, and average information plus the exact second-order term.

    With P = V^-1 - V^-1 X (X'V^-1X)^-1 X'V^-1, z = Z'Py and M = sum over levels of
    [Z'PZ]_ll - z z'/s2 (V^-1 for P under ML), the gradient is 2 M Lambda and the Hessian
    w_p'P w_q / s2 - a_p a_q / nu + 2 tr(M B_p B_q'), where w_p = dV_p P y = Z c_p: the average
    information of Gilmour, Thompson and Cullis (1995) and the term in d2V that it leaves out.
    """
    fixed = point.fixed
    T = basis @ Lambda.swapaxes(1, 2)[:, None]
    T = T + T.swapaxes(2, 3)  # dV_p = Z T_p Z'
    left, zz, a, h, cSc, SS, F = _over_pieces([_sums(piece, fixed, T) for piece in point.pieces])
    M = np.moveaxis(left, 2, 0) - zz / fixed.s2[:, None, None]
    information = cSc - h @ h.swapaxes(1, 2)
    expected = contract(SS, T)
    if fixed.reml:
        expected = expected + np.einsum("rmpq,rnpq->rmn", F, F)
    a = a / fixed.s2[:, None]
    return assemble(fixed, [M], [basis], [Lambda], information, expected, a)


def _over_pieces(parts: list[tuple]) -> tuple:
    return (
        parts[0] if len(parts) == 1 else tuple(np.sum(x, axis=0) for x in zip(*parts, strict=True))
    )


def _sums(piece: _Piece, fixed: FixedPart, T: np.ndarray) -> tuple:
    """Sums over levels: [Z'PZ]_ll, z z', c'z, R^-1 X'V^-1Z c, c'Z'V^-1Z c, those of `_expected`."""
    A, B, D = piece.A, piece.B, piece.D
    AD = blocks.multiply(A, D)
    S = A - blocks.multiply(AD, A)  # Z'V^-1Z by level
    half = _half_projected(B, AD, fixed.root)  # R^-1 X'V^-1Z, (r, p, k, G)
    e = piece.C - np.einsum("apg,rp->arg", B, fixed.beta)
    z = e - np.einsum("abrg,brg->arg", AD, e)
    J = np.einsum("rpag,rpbg->abrg", half, half) if fixed.reml else None  # S - Z'PZ by level
    left = blocks.total(S, piece.counts)
    left = left if J is None else left - J.sum(axis=-1)
    c = np.einsum("rmab,brg->rmag", T, z)
    flat_c = _stacked(c)
    a = np.einsum("rmag,arg->rm", c, z)
    h = flat_c @ _stacked(half).swapaxes(1, 2)
    cSc = flat_c @ _stacked(np.einsum("abrg,rmbg->rmag", S, c)).swapaxes(1, 2)
    SS, F = _expected(S, J, T, half, piece.counts)
    return left, _outer(z.swapaxes(0, 1)), a, h, cSc, SS, F


def _expected(S: np.ndarray, J: np.ndarray | None, T: np.ndarray, half, counts) -> tuple:
    """Sums that make tr(P V_p P V_q): V_p = Z T_p Z', Z'PZ = S - J with J = half'half.

    sum of S (S - 2 J) over levels, and of half T_p half'. Without J (ML) it is
    tr(V^-1 V_p V^-1 V_q).
    """
    weighted = S if counts is None else S * counts
    if J is None:
        return products_of_levels(S, weighted), np.zeros(1)
    turned = np.einsum("rpbg,rmab->rmpag", half, T)
    r, m, p, k, G = turned.shape
    F = turned.reshape(r, m, p, k * G) @ _stacked(half).swapaxes(1, 2)[:, None]
    return products_of_levels(S, weighted - 2.0 * J), F


def products_of_levels(S: np.ndarray, J: np.ndarray) -> np.ndarray:
    """sum over levels of S_ab J_cd, (r, k, k, k, k)."""
    k, _, r, G = S.shape
    left, right = (x.reshape(k * k, r, G).transpose(1, 0, 2) for x in (S, J))
    return (left @ right.swapaxes(1, 2)).reshape(r, k, k, k, k)


def contract(SJ: np.ndarray, T: np.ndarray) -> np.ndarray:
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
