"""One factor without each of its levels in turn: all these fits at once.

A fit without level l has the cross-products of all rows less those of l. At any theta its sums over
levels are those of all levels less the term of l, so that the folds are treated as many responses
are in `single`, each with a theta of its own. Few steps are needed from the estimate of all rows.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sklme._engine import blocks
from sklme._engine.alike import condense
from sklme._engine.covariance import Charts
from sklme._engine.fixed import EXACT, FixedPart, assemble, independent_columns, solve_fixed
from sklme._engine.gram import Gram
from sklme._engine.level_sums import LevelSums
from sklme._engine.lmm import LinearFit
from sklme._engine.newton import minimise
from sklme._engine.problem import NEAR_ZERO, settle_at_zero
from sklme._engine.records import Evaluation
from sklme._engine.single import contract, products_of_levels
from sklme._engine.start import starting_factors

CHUNK = 400_000  # numbers in one (k, p + 1, folds, levels) array before folds are split
SURE = 1e-6  # share of a column that must be left for a fold to count as regular
MOST = 0.9  # share of a column's squares in one level from which on subtraction costs digits


@dataclass(frozen=True)
class Folds:
    """The fits without each level, in the frame of the fit to all rows; q levels.

    beta (q, p) and C = (X'V^-1X)^-1 (q, p, p) with zeros for columns that a fold had to drop
    kept : (q, p) whether a column could be estimated
    Lambda (q, k, k) and s2 (q,)
    done : whether a level was treated here; the others need a fit of their own
    """

    beta: np.ndarray
    C: np.ndarray
    kept: np.ndarray
    Lambda: np.ndarray
    s2: np.ndarray
    done: np.ndarray


def frozen(fit: LinearFit, own: LevelSums) -> Folds:
    """beta without each level at the covariance of all rows, residual variance included.

    beta_(l) = beta - C_(l) X_l'V_l^-1 (y_l - X_l beta) (Christensen, Pearson and Johnson 1992).
    """
    f = fit.kept.factors[0]
    L, beta = fit.Lambdas[0], fit.beta[0]
    D = blocks.woodbury(f.zz[:, :, None, :], L)[0][:, :, 0]
    DB = np.einsum("abq,bpq->apq", D, f.zx)
    xvx = own.xx - np.einsum("arq,apq->qrp", f.zx, DB)
    score = own.xy - np.einsum("apq,aq->qp", DB, f.zy[:, 0]) - xvx @ beta
    C, left = _inverses(fit.xvx[0], xvx)
    moved = np.where(left, beta - np.einsum("qij,qj->qi", C, score), 0.0)
    for l in np.flatnonzero(~left.all(axis=1)):  # the dropped columns change the others too
        moved[l] = C[l] @ (fit.xvx[0] @ beta - score[l] - xvx[l] @ beta)
    q = len(own.total)
    return Folds(moved, C, left, np.repeat(L, q, axis=0), np.full(q, fit.s2[0]), np.ones(q, bool))


def refitted(fit: LinearFit, own: LevelSums, *, tol: float = 1e-8, max_iter: int = 100) -> Folds:
    """Theta, beta and residual variance estimated anew without each level."""
    gram = fit.kept
    done = _regular(fit, gram, own)
    q, p, k = len(own.total), len(gram.xx), fit.structures[0].k
    problem, Lambda = _Problem(gram, own, fit.reml), np.zeros((q, k, k))
    which = np.flatnonzero(done)
    if len(which):
        Lambda[which], done[which] = _search(fit, gram, problem, which, tol, max_iter)
    beta, C, s2 = np.zeros((q, p)), np.zeros((q, p, p)), np.zeros(q)
    for at in _chunks(gram, which):
        fixed = problem.fixed(Lambda[at], at)
        beta[at], s2[at] = fixed.beta, fixed.s2
        C[at] = fixed.root.swapaxes(1, 2) @ fixed.root
        done[at] &= fixed.rss > 1e4 * EXACT * (gram.yy - own.yy[at])
    return Folds(beta, C, np.ones((q, p), bool), Lambda, s2, done)


def _search(fit: LinearFit, gram: Gram, problem, which, tol: float, max_iter: int):
    """Lambda without each of the levels `which`, and whether the search converged."""
    charts = Charts(fit.structures, gram.factors[0].n_levels)
    evaluate = problem.criterion(charts)
    start = charts.theta([np.repeat(_start(fit, gram), len(which), axis=0)], which)
    theta, record = minimise(evaluate, charts, which, start, tol=tol, max_iter=max_iter)
    theta = settle_at_zero(evaluate, charts, theta, which, gram)
    return charts.factors(theta, which)[0], record.converged


def _start(fit: LinearFit, gram: Gram) -> np.ndarray:
    """The estimate of all rows, (1, k, k); a usual start where that is singular."""
    f, L = gram.factors[0], fit.Lambdas[0]
    typical = np.trace(f.zz.sum(axis=2)) / (f.k * f.n_levels)
    least = np.linalg.svd(L[0], compute_uv=False).min(initial=np.inf)
    return L if least**2 * typical >= NEAR_ZERO else starting_factors(gram, fit.structures)[0]


def _inverses(whole: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(whole - own)^-1 for every level; columns that depend on earlier ones get zeros."""
    left = whole - own
    risky = ~_independent(left, whole)
    for l in np.flatnonzero(risky):
        left[l] = own[:l].sum(axis=0) + own[l + 1 :].sum(axis=0)
    kept = np.ones(left.shape[:2], bool)
    C = np.zeros_like(left)
    C[~risky] = np.linalg.inv(left[~risky])
    for l in np.flatnonzero(risky):
        kept[l] = independent_columns(left[l])
        at = np.ix_(kept[l], kept[l])
        C[l][at] = np.linalg.inv(left[l][at])
    return C, kept


def _independent(left: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Whether the columns of each fold are safely independent, from products (q, p, p)."""
    diagonal = np.einsum("qii->qi", left)
    enough = (diagonal > (1.0 - MOST) * np.diag(whole)).all(axis=1)
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = left * scale[:, :, None] * scale[:, None, :]
    if not scaled.shape[1]:
        return enough
    return enough & (np.linalg.eigvalsh(scaled)[:, 0] > SURE)


def _regular(fit: LinearFit, gram: Gram, own: LevelSums) -> np.ndarray:
    """Folds of which it is certain that nothing is dropped or set to zero (see `identify`)."""
    f = gram.factors[0]
    left, p, k = gram.total - own.total, len(gram.xx), f.k
    if f.n_levels < 4 or any(fit.unidentified):
        return np.zeros(f.n_levels, bool)
    xx = gram.xx - own.xx
    regular = (left - p >= 3) & ((f.n_levels - 1) * k < left) & _independent(xx, gram.xx)
    zz = f.zz.sum(axis=2)
    regular &= _independent(zz - np.moveaxis(f.zz, 2, 0), zz)
    at = np.flatnonzero(regular)
    squares = np.einsum("aa->a", zz) - f.zz[:, :, at].diagonal()
    B, inverse = np.moveaxis(f.zx[:, :, at], 2, 0), np.linalg.inv(xx[at])
    whole = np.einsum("apq,arq->apr", f.zx, f.zx)
    explained = np.einsum("apr,qpr->qa", whole, inverse) - ((B @ inverse) * B).sum(axis=2)
    regular[at] = (squares - explained > SURE * squares).all(axis=1)
    return regular


def _chunks(gram: Gram, which: np.ndarray) -> list[np.ndarray]:
    f = gram.factors[0]
    size = max(1, CHUNK // max(f.k * (f.k + len(gram.xx) + 1) * f.n_levels, 1))
    return [which[i : i + size] for i in range(0, len(which), size)]


class _Problem:
    """The criterion of the folds; a theta each."""

    def __init__(self, gram: Gram, own: LevelSums, reml: bool):
        self.own, self.reml, self.gram = own, reml, gram
        self.few = condense(gram)
        self.total = gram.total - own.total
        f = self.few.factors[0]
        self.columns = np.concatenate([f.zx, f.zy], axis=1)  # Z'[X y] of all levels
        g = gram.factors[0]
        self.of_level = np.concatenate([g.zx, g.zy], axis=1)

    def criterion(self, charts: Charts):
        """theta (r, m), levels -> value and derivatives without each of these levels."""

        def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
            place = np.arange(len(which))
            parts = [one(theta[at], which[at]) for at in _chunks(self.few, place)]
            names = [f.name for f in fields(Evaluation)]
            joined = (np.concatenate([getattr(p, name) for p in parts]) for name in names)
            return Evaluation(*joined)

        def one(theta: np.ndarray, which: np.ndarray) -> Evaluation:
            (Lambda,) = charts.factors(theta, which)
            return self._derivatives(Lambda, which, charts.basis(0, which))

        return evaluate

    def fixed(self, Lambda: np.ndarray, which: np.ndarray) -> FixedPart:
        """Generalised least squares without each of the levels `which`."""
        return self._point(Lambda, which)[0]

    def _point(self, Lambda: np.ndarray, which: np.ndarray):
        """The fixed part, and what the derivatives need of all levels and of the one left out."""
        f = self.few.factors[0]
        all_levels = _Levels.at(Lambda, f.zz[:, :, None], self.columns[:, :, None], f.counts)
        A = self.gram.factors[0].zz[:, :, which, None]
        one_each = _Levels.at(Lambda, A, self.of_level[:, :, which, None])
        lost = all_levels.explained() - one_each.explained()
        xx, xy, yy = (getattr(self.gram, n) for n in ("xx", "xy", "yy"))
        own, p = self.own, len(xx)
        fixed = _solve_fixed(
            xx - own.xx[which] - lost[:, :p, :p],
            xy[:, 0] - own.xy[which] - lost[:, :p, p],
            yy - own.yy[which] - lost[:, p, p],
            (np.diag(xx), yy),
            all_levels.log_det - one_each.log_det,
            self.total[which],
            self.reml,
        )
        return fixed, all_levels, one_each

    def _derivatives(self, Lambda: np.ndarray, which: np.ndarray, basis: np.ndarray) -> Evaluation:
        """The formulas of `single._derivatives`, every sum over levels less the one left out."""
        fixed, all_levels, one_each = self._point(Lambda, which)
        sums, less = (levels.sums(fixed) for levels in (all_levels, one_each))
        S, W, SZ, SS = (x - y for x, y in zip(sums, less, strict=True))
        p = fixed.beta.shape[1]
        J, zz = np.einsum("riaib->rab", W[:, :p, :, :p]), W[:, p, :, p, :]
        T = basis @ Lambda.swapaxes(1, 2)[:, None]
        T = T + T.swapaxes(2, 3)
        h = np.einsum("rmab,riab->rmi", T, W[:, :p, :, p])
        a = np.einsum("rmab,rab->rm", T, zz) / fixed.s2[:, None]
        information = contract(SZ, T) - h @ h.swapaxes(1, 2)
        expected = contract(SS, T)
        if self.reml:
            F = np.einsum("rmab,riajb->rmij", T, W[:, :p, :, :p])
            expected = expected + np.einsum("rmij,rnij->rmn", F, F)
        M = (S - J if self.reml else S) - zz / fixed.s2[:, None, None]
        nu: Any = np.asarray(fixed.nu)[:, None, None]
        return assemble(replace(fixed, nu=nu), [M], [basis], [Lambda], information, expected, a)


@dataclass(frozen=True)
class _Levels:
    """Levels g under each of r thetas, and the sums over them that the formulas need."""

    A: np.ndarray  # (k, k, 1 or r, G)
    BC: np.ndarray  # Z'[X y], (k, p + 1, 1 or r, G)
    D: np.ndarray  # (k, k, r, G)
    log_det: np.ndarray  # (r,)
    counts: np.ndarray | None

    @staticmethod
    def at(Lambda: np.ndarray, A: np.ndarray, BC: np.ndarray, counts=None) -> "_Levels":
        """The levels at Lambda (r, k, k)."""
        D, log_det = blocks.woodbury(A, Lambda, counts)
        return _Levels(A, BC, D, log_det, counts)

    def explained(self) -> np.ndarray:
        """sum of [X y]'Z D Z'[X y], (r, p + 1, p + 1)."""
        return _flat(blocks.multiply(self.D, self.BC)) @ _flat(self.BC).swapaxes(1, 2)

    def sums(self, fixed: FixedPart) -> tuple[np.ndarray, ...]:
        """sum of S (r, k, k); of H (x) H (r, p + 1, k, p + 1, k); of S (x) zz' and S (x) (S - 2J).

        S = Z'V^-1Z; H holds R^-1 X'V^-1Z, whose squares are J, and z = Z'Py in its last row.
        """
        AD = blocks.multiply(self.A, self.D)
        S = self.A - blocks.multiply(AD, self.A)
        E = self.BC - blocks.multiply(AD, self.BC)
        k, m, r, G = E.shape
        H = (_rotation(fixed) @ _flat(E)).reshape(r, m, k, G)
        outer = H.reshape(r, m * k, G)
        W = (outer @ outer.swapaxes(1, 2)).reshape(r, m, k, m, k)
        z = H[:, -1].swapaxes(0, 1)
        zz = z[:, None] * z
        weighted = S if self.counts is None else S * self.counts
        second = weighted
        if fixed.reml:
            second = weighted - 2.0 * np.einsum("riag,ribg->abrg", H[:, :-1], H[:, :-1])
        total = np.moveaxis(weighted.sum(axis=-1), 2, 0)
        return total, W, products_of_levels(S, zz), products_of_levels(S, second)


def _flat(E: np.ndarray) -> np.ndarray:
    """(k, m, r, G) -> (r, m, k G)."""
    k, m, r, G = E.shape
    return E.transpose(2, 1, 0, 3).reshape(r, m, k * G)


def _rotation(fixed: FixedPart) -> np.ndarray:
    """What turns [X y] into R^-1 X and y - X beta: (r, p + 1, p + 1)."""
    r, p = fixed.beta.shape
    out = np.zeros((r, p + 1, p + 1))
    out[:, :p, :p], out[:, p, :p], out[:, p, p] = fixed.root, -fixed.beta, 1.0
    return out


def _solve_fixed(xvx, xvy, yvy, products, log_det, total: np.ndarray, reml: bool) -> FixedPart:
    """`fixed.solve_fixed` for responses that differ in N; `nu` is an array."""
    fixed = solve_fixed(xvx, xvy, yvy, products, log_det, float(total.max()), reml)
    nu: Any = total - (xvx.shape[1] if reml else 0)
    s2 = fixed.rss / nu
    value = log_det + nu * (1.0 + np.log(2.0 * np.pi * s2))
    if reml:
        value = value - 2.0 * np.log(np.einsum("rii->ri", fixed.root)).sum(axis=1)
    return replace(fixed, s2=s2, value=value, nu=nu)
