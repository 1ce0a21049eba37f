"""Several grouping factors: the profiled criterion of one response, with its derivatives."""

from itertools import pairwise

import numpy as np

from sklme._engine.covariance import Charts
from sklme._engine.fixed import FixedPart, assemble, solve_fixed
from sklme._engine.newton import Evaluate
from sklme._engine.records import Evaluation, Solution
from sklme._engine.selected import estimated_score_products, score_products
from sklme._engine.sweep import Factorisation, factorise
from sklme._engine.system import Stacks, System

LARGE = 500  # columns of the dense block from which on its inverse is worth a detour
FEW = 64  # effects of a factor for which exact second derivatives cost next to nothing
FAR = 0.5  # standard deviations of a gradient; that of an estimate is off by less than a tenth


def criterion(system: System, charts: Charts, *, reml: bool, rough: bool = False) -> Evaluate:
    """theta (1, m), responses -> value and derivatives of -2 log-likelihood, for one response.

    rough : for a search; with a large dense block the derivatives at the first point are estimates
        if it is far from the optimum: a step from there need not be exact, and the inverse takes
        two thirds of the time
    """
    first = rough and system.plan.n_dense >= LARGE

    def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
        nonlocal first
        Lambdas = charts.factors(theta, which)
        bases = [charts.basis(t, which) for t in range(len(Lambdas))]
        at = factorise(system, [Lambda[0] for Lambda in Lambdas])
        fixed, scores = _fixed(at, reml)[:2]
        here = at, fixed, scores, Lambdas, bases
        if first:
            first = False
            estimated = _derivatives(*here, estimated_score_products(at))
            if _is_far(estimated):
                return estimated
        return _derivatives(*here, score_products(at))

    return evaluate


def solution(system: System, Lambdas: list[np.ndarray], *, reml: bool) -> Solution:
    """beta, b, residual sum of squares and log |V| at Lambda (1, k, k)."""
    at = factorise(system, [Lambda[0] for Lambda in Lambdas])
    fixed, _, effects = _fixed(at, reml)
    coefficients = np.append(-fixed.beta[0], 1.0)
    b = tuple(np.einsum("apq,p->aq", e, coefficients)[:, None, :] for e in effects)
    return Solution(fixed.beta, fixed.xvx, fixed.rss, np.array([at.log_det]), b)


def effects(system: System, Lambdas: list[np.ndarray], beta: np.ndarray) -> list[np.ndarray]:
    """b at a given beta and Lambda (k, k): one (k, n_levels) array a factor."""
    at = factorise(system, Lambdas)
    E = [f.zy - np.einsum("apg,p->ag", f.zx, beta)[:, None] for f in system.gram.factors]
    return [b[:, 0] for b in at.posterior(E)[0]]


def _fixed(at: Factorisation, reml: bool) -> tuple[FixedPart, Stacks, Stacks]:
    """GLS from the half-solved columns [X y]; also their scores and effects."""
    gram = at.system.gram
    columns = at.system.columns()
    effects, scores = at.posterior(columns)
    lost = sum(np.einsum("apq,arq->pr", c, b) for c, b in zip(columns, effects, strict=True))
    p = len(gram.xx)
    fixed = solve_fixed(
        (gram.xx - lost[:p, :p])[None],
        (gram.xy[:, 0] - lost[:p, p])[None],
        gram.yy - lost[p, p],
        (np.diag(gram.xx), gram.yy),
        np.array([at.log_det]),
        gram.total,
        reml,
    )
    return fixed, scores, effects


def _is_far(at: Evaluation) -> bool:
    """Whether a gradient is large against its standard deviation, the root of the information."""
    information = np.abs(np.einsum("rii->ri", at.average))
    return bool((at.gradient**2 > FAR**2 * information).any())


def _derivatives(
    at: Factorisation, fixed: FixedPart, scores: Stacks, Lambdas, bases, products
) -> Evaluation:
    """The formulas of the single factor (there `_derivatives`), factor by factor.

    products : of each factor the sum over levels of [Z'V^-1Z]_ll
    """
    coefficients = np.append(-fixed.beta[0], 1.0)
    z = [np.einsum("apq,p->aq", s, coefficients) for s in scores]
    p = len(fixed.beta[0])
    half = [_solve_root(fixed.root[0], s[:, :p]) for s in scores]  # R^-1 X'V^-1Z
    Ts = [_twice_symmetric(b[0] @ L[0].T) for b, L in zip(bases, Lambdas, strict=True)]
    Ms, W, h, a = [], [], [], []
    for t, S in enumerate(products):
        M = S - z[t] @ z[t].T / fixed.s2[0]
        if fixed.reml:
            M = M - np.einsum("apq,bpq->ab", half[t], half[t])
        Ms.append(M[None])
        c = np.einsum("mab,bq->amq", Ts[t], z[t])
        W.append(c)
        h.append(np.einsum("apq,amq->mp", half[t], c))
        a.append(np.einsum("amq,aq->m", c, z[t]) / fixed.s2[0])
    fixed_part = np.concatenate(h)
    information = _quadratic_forms(at, W) - fixed_part @ fixed_part.T
    expected = _expected(at, Ts, half if fixed.reml else None, information / fixed.s2[0])
    return assemble(fixed, Ms, bases, Lambdas, information[None], expected, np.concatenate(a)[None])


def _twice_symmetric(T: np.ndarray) -> np.ndarray:
    return T + T.swapaxes(1, 2)


def _expected(at: Factorisation, Ts: Stacks, half: Stacks | None, average: np.ndarray):
    """tr(P V_p P V_q) for the parameters of factors of few levels; elsewhere the average stands.

    The average information of a factor is a mean over its levels: over a few it is a poor guide.
    None if no factor is small. V_p = Z_t T_p Z_t'.
    """
    ends = np.cumsum([0, *(len(T) for T in Ts)])
    own = [slice(i, j) for i, j in pairwise(ends)]
    small = [s for s, (k, q) in enumerate(at.system.plan.sizes) if k * q <= FEW and len(Ts[s])]
    if not small:
        return None
    out = average.copy()
    for s in small:
        for t, G in enumerate(_cross_scores(at, s, half)):
            TG = np.einsum("mac,clbn->malbn", Ts[t], G)
            GT = np.einsum("albn,mbd->maldn", G, Ts[s])
            part = np.einsum("malbn,jalbn->mj", TG, GT, optimize=True)
            out[own[t], own[s]], out[own[s], own[t]] = part, part.T
    return out[None]


def _cross_scores(at: Factorisation, s: int, half: Stacks | None) -> list[np.ndarray]:
    """Z_t'PZ_s (k_t, q_t, k_s, q_s) for every factor t; Z_t'V^-1Z_s without `half`."""
    k, q = at.system.plan.sizes[s]
    _, scores = at.posterior(at.system.times(s, np.eye(k * q).reshape(k, q, k * q).swapaxes(1, 2)))
    out = []
    for t, score in enumerate(scores):  # columns run over the coefficients of s, then its levels
        G = score.swapaxes(1, 2).reshape(*score.shape[::2], k, q)
        if half is not None:
            G = G - np.einsum("apl,bpn->albn", half[t], half[s])
        out.append(G)
    return out


def _quadratic_forms(at: Factorisation, W: Stacks) -> np.ndarray:
    """w_p'V^-1 w_q for the working variates w_p = Z_t c_p of all factors."""
    products = [at.system.times(t, c) for t, c in enumerate(W)]
    E = [np.concatenate(part, axis=1) for part in zip(*products, strict=True)]
    _, scores = at.posterior(E)
    return np.concatenate([np.einsum("amq,anq->mn", c, s) for c, s in zip(W, scores, strict=True)])


def _solve_root(root: np.ndarray, scores: np.ndarray) -> np.ndarray:
    k, p, q = scores.shape
    flat = scores.transpose(1, 0, 2).reshape(p, k * q)
    return (root @ flat).reshape(p, k, q).transpose(1, 0, 2)
