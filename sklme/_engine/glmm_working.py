"""The working model of a generalised fit: what is kept of the rows.

At the modes the rows look like those of a linear mixed model of the response eta + r / W with
weights W and residual variance 1 (Bates et al. 2015, sec. 5.5). Its cross-products are all that
predictions, their variances, draws and `adapt` ask for.
"""

from dataclasses import replace

import numpy as np

from sklme._engine import blocks
from sklme._engine.curvature import weighted_products
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
    xvx = weighted_products(rows.X, W)
    gram = _gram(ready, xvx, rows.X @ response)
    effects: tuple[np.ndarray, ...] = ()
    if point.modes is not None:
        pulled = problem.weighted.column_sums(W * x for x in rows.X)
        answer = problem.weighted.sums(response[None])
        gram = _with_factors(gram, ready, point, pulled, answer)
        solved, _ = point.modes.at.posterior(pulled)
        xvx = xvx - sum(blocks.inner(e, b) for e, b in zip(pulled, solved, strict=True))
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
        xvx=xvx[None],
        s2=np.ones(1),
        nu=ready.total,
        effects=effects,
        criterion=np.array([-2.0 * point.value]),
        optimization=record,
        unidentified=ready.unidentified,
    )


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
