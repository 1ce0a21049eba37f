"""The working model of a generalised fit: what is kept of the rows.

At the modes the rows look like those of a linear mixed model of the response eta + r / W with
weights W and residual variance 1 (Breslow and Clayton 1993). Its cross-products are all that
predictions, their variances, draws and `adapt` ask for.
"""

from dataclasses import replace

import numpy as np

from sklme._engine import blocks, curvature
from sklme._engine.glmm_rows import Prepared
from sklme._engine.gram import FactorGram, Gram
from sklme._engine.laplace import Laplace, Point
from sklme._engine.lmm import LinearFit
from sklme._engine.records import Optimization
from sklme._engine.system import Stacks


def working_model(
    ready: Prepared, problem: Laplace, point: Point, record: Optimization
) -> LinearFit:
    """The linear mixed model that stands for the rows at a point."""
    rows, W = ready.rows, -point.terms.second
    linear = point.eta if rows.offset is None else point.eta - rows.offset
    response = W * linear + point.terms.first
    half, p = curvature.direct(rows, point.terms), len(rows.X)
    gram = _gram(ready, half[:p, :p], rows.X @ response)
    effects: tuple[np.ndarray, ...] = ()
    if point.modes is not None:
        pulled = problem.weighted.column_sums(rows.columns(point.terms))
        answer = problem.weighted.sums(response[None])
        gram = _with_factors(gram, ready, point, [e[:, :p] for e in pulled], answer)
        solved, _ = point.modes.at.posterior(pulled)
        half = half - sum(blocks.inner(e, b) for e, b in zip(pulled, solved, strict=True))
        effects = tuple(b[:, None, :] for b in point.modes.b)
    return LinearFit(
        frame=ready.frame,
        gram=gram,
        intercept=ready.intercept,
        reml=False,
        columns=ready.columns,
        structures=ready.structures,
        Lambdas=tuple(L[None] for L in point.Lambdas),
        beta=point.beta[None],
        xvx=_without_aux(half, p)[None],
        s2=np.ones(1),
        nu=ready.total,
        effects=effects,
        criterion=np.array([-2.0 * point.value]),
        optimization=record,
        unidentified=ready.unidentified,
    )


def _without_aux(half: np.ndarray, p: int) -> np.ndarray:
    """The information on the first p coefficients when the others are estimated as well."""
    own, across, others = half[:p, :p], half[:p, p:], half[p:, p:]
    if not others.size or np.linalg.eigvalsh(others)[0] <= 0:
        return own
    left = own - across @ np.linalg.solve(others, across.T)
    return left if not p or np.linalg.eigvalsh(left)[0] > 0 else own


def _gram(ready: Prepared, xwx: np.ndarray, xwy: np.ndarray) -> Gram:
    """The cross-products of X and the working response, zero for columns that were dropped."""
    p, kept = len(ready.columns), np.flatnonzero(ready.columns)
    xx, xy = np.zeros((p, p)), np.zeros((p, 1))
    xx[np.ix_(kept, kept)] = xwx
    xy[kept, 0] = xwy
    return Gram(ready.total, ready.n_rows, 0.0, xx, xy, np.zeros(1), (), {})


def _with_factors(gram: Gram, ready: Prepared, point: Point, pulled: Stacks, answer: Stacks):
    """Z'WZ, Z'WX and Z'Wy added."""
    known, kept = point.modes.at.system.gram, np.flatnonzero(ready.columns)  # type: ignore
    factors = []
    for f, e, zy in zip(known.factors, pulled, answer, strict=True):
        zx = np.zeros((f.k, len(ready.columns), f.n_levels))
        zx[:, kept] = e
        factors.append(FactorGram(f.zz, zx, zy))
    return replace(gram, factors=tuple(factors), cross=known.cross)
