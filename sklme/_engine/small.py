"""Few effects in all: every cross-product in one dense matrix, swept once at each theta.

With T = [Z X y]'[Z X y] and G = Z'[Z X y], T - G' Phi G holds all products under V^-1, where
Phi = Lambda (I + Lambda' Z'Z Lambda)^-1 Lambda' (Bates et al. 2015, eqs. 15 to 18, as a sweep). The
formulas are those of `single` and `crossed`; here a dozen calls of BLAS replace their loops over
levels, which is quicker while the matrices are small.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from sklme._engine.covariance import Charts, Structure
from sklme._engine.fixed import FixedPart, solve_fixed
from sklme._engine.gram import Gram
from sklme._engine.newton import Evaluate
from sklme._engine.records import Evaluation, Solution

MOST = 3_000_000  # parameters times the cube of the number of effects


def is_small(gram: Gram, structures: tuple[Structure, ...]) -> bool:
    """Whether one dense matrix is quicker than level by level."""
    effects = sum(f.k * f.n_levels for f in gram.factors)
    return sum(s.n_theta for s in structures) * effects**3 <= MOST


@dataclass
class SmallSystem:
    """The cross-products of one response; effects are ordered by factor, coefficient, level."""

    gram: Gram
    sizes: tuple[tuple[int, int], ...]  # (k, n_levels) of every factor
    products: np.ndarray  # T, (q + p + 1) square
    q: int

    @staticmethod
    def of(gram: Gram) -> "SmallSystem":
        """Lay out the cross-products."""
        sizes = tuple((f.k, f.n_levels) for f in gram.factors)
        q, p = sum(k * g for k, g in sizes), len(gram.xx)
        T = np.zeros((q + p + 1, q + p + 1))
        ends = np.cumsum([k * g for k, g in sizes]).tolist()
        starts = [0, *ends[:-1]]
        for f, i, j in zip(gram.factors, starts, ends, strict=True):
            _spread(T[i:j, i:j], f.zz)
            T[i:j, q:-1] = f.zx.transpose(0, 2, 1).reshape(j - i, p)
            T[i:j, -1] = f.zy[:, 0].ravel()
            T[q:, i:j] = T[i:j, q:].T
        for (s, t), c in gram.cross.items():
            rows = starts[s] + np.arange(sizes[s][0])[:, None, None] * sizes[s][1] + c.rows
            columns = starts[t] + np.arange(sizes[t][0])[None, :, None] * sizes[t][1] + c.columns
            T[rows, columns] = T[columns, rows] = c.data
        T[q:-1, q:-1], T[-1, -1] = gram.xx, gram.yy[0]
        T[q:-1, -1] = T[-1, q:-1] = gram.xy[:, 0]
        return SmallSystem(gram, sizes, T, q)

    def factor(self, Lambdas: list[np.ndarray]) -> np.ndarray:
        """Lambda (..., q, q) of all effects from (..., k, k) of every factor."""
        out = np.zeros((*Lambdas[0].shape[:-2], self.q, self.q))
        at = 0
        for (k, g), Lambda in zip(self.sizes, Lambdas, strict=True):
            here = slice(at, at := at + k * g)
            _spread(out[..., here, here], np.repeat(Lambda[..., None], g, axis=-1))
        return out

    def split(self, b: np.ndarray) -> list[np.ndarray]:
        """Effects (q,) as one (k, n_levels) array a factor."""
        ends = np.cumsum([k * g for k, g in self.sizes])[:-1]
        return [
            part.reshape(size) for part, size in zip(np.split(b, ends), self.sizes, strict=True)
        ]


@dataclass(frozen=True)
class _Point:
    """What criterion, derivatives and solution share at one Lambda."""

    swept: np.ndarray  # [Z X y]'V^-1[Z X y]
    K: np.ndarray  # Phi = K'K
    fixed: FixedPart
    log_det: float


class SmallProblem:
    """The criterion of one response, its derivatives and its solution."""

    def __init__(self, gram: Gram, reml: bool):
        self.system, self.reml = SmallSystem.of(gram), reml
        self.last: tuple[np.ndarray, _Point] | None = None

    def criterion(self, charts: Charts) -> Evaluate:
        """theta (1, m), responses -> value and derivatives of -2 log-likelihood."""
        basis = version = None

        def evaluate(theta: np.ndarray, which: np.ndarray) -> Evaluation:
            nonlocal basis, version
            if version != charts.version:
                basis, version = self._basis(charts, which), charts.version
            q = self.system.q
            Lambda = (theta[0] @ basis.reshape(len(basis), q * q)).reshape(q, q)
            return self._derivatives(self._point(Lambda), Lambda, basis)

        return evaluate

    def solution(self, Lambdas: list[np.ndarray]) -> Solution:
        """beta, b, residual sum of squares and log |V| at Lambda (1, k, k)."""
        point = self._point(self.system.factor([Lambda[0] for Lambda in Lambdas]))
        fixed = point.fixed
        b = tuple(e[:, None] for e in self._effects(point.K, fixed.beta[0]))
        return Solution(fixed.beta, fixed.xvx, fixed.rss, np.array([point.log_det]), b)

    def effects(self, Lambdas: list[np.ndarray], beta: np.ndarray) -> list[np.ndarray]:
        """b at a given beta and Lambda (k, k): one (k, n_levels) array a factor."""
        return self._effects(self._root(self.system.factor(Lambdas))[0], beta)

    def _effects(self, K: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
        T, q = self.system.products, self.system.q
        return self.system.split(K.T @ (K @ (T[:q, -1] - T[:q, q:-1] @ beta)))

    def _basis(self, charts: Charts, which: np.ndarray) -> np.ndarray:
        """dLambda / dtheta of all effects, (m, q, q)."""
        parts = []
        for t in range(len(self.system.sizes)):
            own = charts.basis(t, which)[0]
            zeros = [np.zeros((len(own), k, k)) for k, _ in self.system.sizes]
            zeros[t] = own
            parts.append(self.system.factor(zeros))
        return np.concatenate(parts)

    def _root(self, Lambda: np.ndarray) -> tuple[np.ndarray, float]:
        """K with Phi = K'K, and log |V|."""
        q = self.system.q
        W = Lambda.T @ self.system.products[:q, :q] @ Lambda
        W.flat[:: q + 1] += 1.0
        L, failed = lapack.dpotrf(W.T, lower=1, overwrite_a=1)
        K, _ = lapack.dtrtrs(L, Lambda.T, lower=1)
        return K, np.nan if failed else 2.0 * float(np.log(L.diagonal()).sum())

    def _point(self, Lambda: np.ndarray) -> _Point:
        """Everything at one Lambda; the last one is kept."""
        if self.last is not None and np.array_equal(self.last[0], Lambda):
            return self.last[1]
        gram, T, q = self.system.gram, self.system.products, self.system.q
        K, log_det = self._root(Lambda)
        R = K @ T[:q]
        swept = T - R.T @ R
        fixed = solve_fixed(
            swept[None, q:-1, q:-1],
            swept[None, -1, q:-1],
            swept[-1:, -1],
            (gram.xx.diagonal(), gram.yy),
            np.array([log_det]),
            gram.total,
            self.reml,
        )
        point = _Point(swept, K, fixed, log_det)
        self.last = Lambda, point
        return point

    def _derivatives(self, point: _Point, Lambda: np.ndarray, basis: np.ndarray) -> Evaluation:
        """The formulas of the single factor (`single._derivatives`) with exact Hessian."""
        q, fixed = self.system.q, point.fixed
        half = fixed.root[0] @ point.swept[q:-1, :q]
        Q = point.swept[:q, :q] - half.T @ half  # Z'PZ
        z = point.swept[:q, -1] - point.swept[:q, q:-1] @ fixed.beta[0]  # Z'Py
        S = Q if self.reml else point.swept[:q, :q]
        m, s2 = len(basis), fixed.s2[0]
        T = basis @ Lambda.T
        T = T + T.swapaxes(1, 2)  # dV_p = Z T_p Z'
        Tz = T @ z
        a = Tz @ z / s2
        gradient = T.reshape(m, -1) @ S.ravel() - a
        M = S - z[:, None] * (z / s2)
        second = 2.0 * (M @ basis).reshape(m, -1) @ basis.reshape(m, -1).T
        information = Tz @ Q @ Tz.T / s2
        ST = S @ T
        expected = ST.reshape(m, -1) @ ST.swapaxes(1, 2).reshape(m, -1).T
        average = information + second - a[:, None] * (a / fixed.nu)
        average = 0.5 * (average + average.T)
        observed = average + information - 0.5 * (expected + expected.T)
        return Evaluation(fixed.value, gradient[None], average[None], observed[None], fixed.noise)


def _spread(out: np.ndarray, stack: np.ndarray) -> None:
    """Write a stack (..., k, k, g) as k x k blocks that are diagonal over levels."""
    k, g = stack.shape[-2:]
    levels = np.arange(g)
    for a in range(k):
        for b in range(k):
            out[..., a * g + levels, b * g + levels] = stack[..., a, b, :]
