"""New responses of a model as sufficient statistics, and their refits; no rows are drawn.

A Gaussian model needs only Z'y, X'y and y'y of a response. Those of y* = Z b* + e* in units of
sigma follow from the cross-products that a fit keeps: A b* + N(0, A) by level, and what is left of
X and of the rows once Z is known. Fixed effects are left out; estimates of beta are equivariant,
so that their error is all that has to be drawn. A thousand replicates are a thousand outputs of
one Gram.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack

from sklme._engine import single
from sklme._engine.covariance import Structure
from sklme._engine.design import Design
from sklme._engine.fixed import DEPENDENT
from sklme._engine.gram import FactorGram, Frame, Gram, gram, output, select
from sklme._engine.lmm import LinearFit
from sklme._engine.problem import SingleFactor, make_problem
from sklme._engine.small import SmallSystem
from sklme._engine.threads import careful

MOST_COLUMNS = 5000  # columns of [Z X] of several factors that one dense factor may have
CHUNK = 4_000_000  # numbers in the Z'y of the replicates that are drawn at once
MOST_AT_ONCE = 2000  # replicates, so that progress is heard of and an interrupt takes effect


@dataclass(frozen=True)
class Refits:
    """Estimates of many responses, in the coordinates of their Gram; the first axis counts them.

    criterion : -2 log-likelihood up to a constant of the design
    """

    beta: np.ndarray
    xvx: np.ndarray
    Lambdas: tuple[np.ndarray, ...]
    s2: np.ndarray
    criterion: np.ndarray
    converged: np.ndarray

    @staticmethod
    def join(parts: list["Refits"]) -> "Refits":
        """Several sets of responses as one."""
        names = ("beta", "xvx", "s2", "criterion", "converged")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        Lambdas = zip(*(p.Lambdas for p in parts), strict=True)
        return Refits(Lambdas=tuple(np.concatenate(L) for L in Lambdas), **joined)


def kept_gram(fit: LinearFit, r: int) -> Gram:
    """The statistics of output r with the columns of X that were kept."""
    if fit.adapted:
        raise ValueError(
            "the model was adapted to more rows after fit: ask the model that `adapt` was called on"
        )
    return output(fit.kept, r)


def too_many_columns(statistics: Gram) -> bool:
    """Whether `draw` cannot serve: several factors with too many effects for one dense factor."""
    return len(statistics.factors) > 1 and n_columns(statistics) > MOST_COLUMNS


def n_columns(statistics: Gram) -> int:
    """Columns of [Z X]."""
    return sum(f.k * f.n_levels for f in statistics.factors) + len(statistics.xx)


def chunks(statistics: Gram, n: int) -> Iterator[int]:
    """How many replicates to draw and refit at once, chunk by chunk."""
    each = max(n_columns(statistics) if statistics.factors else 1, 1)
    most = max(1, min(CHUNK // each, MOST_AT_ONCE if len(statistics.factors) < 2 else 50))
    while n > 0:
        yield min(n, most)
        n -= most


def outputs(statistics: Gram, at: np.ndarray) -> Gram:
    """The statistics of some responses, which may be repeated."""
    factors = tuple(replace(f, zy=f.zy[:, at]) for f in statistics.factors)
    return replace(statistics, xy=statistics.xy[:, at], yy=statistics.yy[at], factors=factors)


@careful
def draw(statistics: Gram, Lambdas: list[np.ndarray], n: int, rng) -> Gram:
    """The statistics of n draws of y* = Z b* + e* with residual variance 1 and Lambda (k, k)."""
    if len(statistics.factors) == 1:
        return _draw_by_level(statistics, Lambdas[0], n, rng)
    return _draw_jointly(statistics, Lambdas, n, rng)


def from_rows(design: Design, fit: LinearFit, Y: np.ndarray) -> Gram:
    """The statistics of the responses Y (n_rows, n) on the rows of the fit, fixed effects known."""
    frame = fit.frame
    plain = Frame(
        frame.x_shift, frame.x_scale, np.zeros(Y.shape[1]), np.ones(Y.shape[1]), frame.z_maps
    )
    statistics = select(gram(design, Y, plain), np.flatnonzero(fit.columns))
    return replace(statistics, total=fit.gram.total)


def draw_rows(design: Design, Lambdas: list[np.ndarray], frame: Frame, n: int, rng) -> np.ndarray:
    """n draws of y* by row, (n_rows, n), for Lambda in the coordinates of the frame."""
    effects = [
        np.einsum("ab,gbm->gam", T @ L, rng.standard_normal((f.n_levels, f.k, n)))
        for f, T, L in zip(design.factors, frame.z_maps, Lambdas, strict=True)
    ]
    noise = rng.standard_normal((design.n_rows, n))
    if design.weights is not None:
        noise /= np.sqrt(design.weights)[:, None]
    return with_effects(design, effects, noise)


def with_effects(design: Design, effects: list[np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Z b + noise by row, (n_rows, n), for effects (n_levels, k, n) of each factor."""
    return design.random_part(effects) + noise if effects else noise


@careful
def refit(
    statistics: Gram,
    structures: tuple[Structure, ...],
    *,
    reml: bool,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> Refits:
    """Estimates of every output of the statistics."""
    problem = make_problem(statistics, structures, reml)
    which = np.ones(statistics.n_outputs, bool)
    Lambdas, record = problem.optimise(which, tol, max_iter, None)
    if isinstance(problem, SingleFactor):  # the effects of the levels are not asked for
        few = problem.few
        found = single.solution(few, Lambdas, reml=reml, latest=problem.latest)
    else:
        found = problem.solve(Lambdas)
    nu = statistics.total - (len(statistics.xx) if reml else 0)
    s2 = found.rss / max(nu, 1e-300)
    value = found.log_det + nu * np.log(s2)
    if reml and len(statistics.xx):
        value = value + np.linalg.slogdet(found.xvx)[1]
    return Refits(found.beta, found.xvx, tuple(Lambdas), s2, value, record.converged)


def reflated(effects: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Effects (q, k), centred and turned so that their covariance is the estimated one.

    Predicted effects are shrunken; Carpenter, Goldstein and Rasbash (2003, sec. 2.2) multiply them
    by A with A'SA = covariance, S their empirical covariance. Directions of no spread stay so.
    """
    centred = effects - effects.mean(axis=0)
    S = centred.T @ centred / len(centred)
    return centred @ _inverse_root(S) @ _root(covariance)


def _draw_by_level(statistics: Gram, Lambda: np.ndarray, n: int, rng) -> Gram:
    """One factor: Z'e = R xi by level with R R' = A; what is left of X is drawn once for all."""
    f = statistics.factors[0]
    k, p, q = f.zx.shape
    R, used = _lower_roots(f.zz, f.zz.diagonal().T)
    half = _solve_used(R, used, f.zx)  # B'A^-B = half'half
    xi = rng.standard_normal((k, n, q)) * used[:, None]
    b = np.einsum("ab,bng->ang", Lambda, rng.standard_normal((k, n, q)))
    ze = np.einsum("abg,bng->ang", R, xi)
    zy = np.einsum("abg,bng->ang", f.zz, b) + ze
    flat = half.transpose(0, 2, 1).reshape(k * q, p)
    left = (statistics.xx - flat.T @ flat)[:, :, None]
    L, of_x = _lower_roots(left, statistics.xx.diagonal()[:, None])
    u = rng.standard_normal((p, n)) * of_x
    xy = _flat(b) @ f.zx.transpose(0, 2, 1).reshape(k * q, p) + _flat(xi) @ flat
    dof = statistics.total - used.sum() - of_x.sum()
    yy = np.einsum("ang,ang->n", b, zy + ze) + np.einsum("ang,ang->n", xi, xi)
    yy = yy + (u**2).sum(axis=0) + _chi_square(dof, n, rng)
    factors = (FactorGram(f.zz, f.zx, zy),)
    return replace(statistics, xy=xy.T + L[:, :, 0] @ u, yy=yy, factors=factors)


def _lower_roots(A: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L with L L' = A for a stack (k, k, q) of semidefinite matrices, and which pivots count.

    size : (k, q), what the diagonal of A is a sum or a difference of
    """
    k = len(A)
    L, used = np.zeros_like(A), np.zeros(size.shape, bool)
    for j in range(k):
        column = A[j:, j] - np.einsum("iag,ag->ig", L[j:, :j], L[j, :j])
        used[j] = column[0] > DEPENDENT * size[j]
        root = np.sqrt(np.where(used[j], column[0], 1.0))
        L[j:, j] = np.where(used[j], column / root, 0.0)
    return L, used


def _solve_used(L: np.ndarray, used: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B by forward substitution, zero where a pivot does not count; B is (k, p, q)."""
    out = np.zeros_like(B)
    for j in range(len(L)):
        known = np.einsum("ag,apg->pg", L[j, :j], out[:j])
        pivot = np.where(used[j], L[j, j], 1.0)
        out[j] = np.where(used[j], (B[j] - known) / pivot, 0.0)
    return out


def _flat(c: np.ndarray) -> np.ndarray:
    """(k, n, q) -> (n, k q)."""
    return c.swapaxes(0, 1).reshape(c.shape[1], -1)


def _draw_jointly(statistics: Gram, Lambdas: list[np.ndarray], n: int, rng) -> Gram:
    """Several factors or none: one factor of M = [Z X]'[Z X]."""
    M = _products(statistics)
    q = len(M) - len(statistics.xx)
    L, rank = _semidefinite(M)
    xi = rng.standard_normal((rank, n))
    effects = [
        np.einsum("ab,bgn->agn", Lambda, rng.standard_normal((f.k, f.n_levels, n)))
        for f, Lambda in zip(statistics.factors, Lambdas, strict=True)
    ]
    b = np.concatenate([np.zeros((0, n)), *(e.reshape(-1, n) for e in effects)])
    e = L @ xi
    y = M[:, :q] @ b + e
    yy = (b * (y[:q] + e[:q])).sum(axis=0) + (xi**2).sum(axis=0)
    yy = yy + _chi_square(statistics.total - rank, n, rng)
    factors, at = [], 0
    for f in statistics.factors:
        zy = y[at : at + f.k * f.n_levels].reshape(f.k, f.n_levels, n).swapaxes(1, 2)
        factors.append(FactorGram(f.zz, f.zx, np.ascontiguousarray(zy)))
        at += f.k * f.n_levels
    return replace(statistics, xy=y[q:], yy=yy, factors=tuple(factors))


def _products(statistics: Gram) -> np.ndarray:
    """[Z X]'[Z X], effects by factor, coefficient, level."""
    if not statistics.factors:
        return statistics.xx
    return SmallSystem.of(output(statistics, 0)).products[:-1, :-1]


def _chi_square(dof: float, n: int, rng) -> np.ndarray:
    return rng.chisquare(dof, n) if dof > 1e-9 else np.zeros(n)


def _semidefinite(M: np.ndarray) -> tuple[np.ndarray, int]:
    """L (m, rank) with L L' = M to rounding, and the rank.

    Cholesky's method with complete pivoting on columns of unit size.
    """
    if not len(M):
        return np.zeros((0, 0)), 0
    size = M.diagonal()
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    C, pivots, rank, _ = lapack.dpstrf(M / scale / scale[:, None], tol=DEPENDENT, lower=1)
    L = np.zeros((len(M), int(rank)))
    L[pivots - 1] = np.tril(C)[:, : int(rank)]
    return L * scale[:, None], int(rank)


def _root(covariance: np.ndarray) -> np.ndarray:
    w, U = np.linalg.eigh(covariance)
    return (U * np.sqrt(np.maximum(w, 0.0))) @ U.T


def _inverse_root(covariance: np.ndarray) -> np.ndarray:
    w, U = np.linalg.eigh(covariance)
    used = w > 1e-12 * max(w[-1], 0.0)
    return (U * np.where(used & (w > 0), 1.0 / np.sqrt(np.where(w > 0, w, 1.0)), 0.0)) @ U.T
