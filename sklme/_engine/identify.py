"""Which variances the data cannot tell from the rest of the model."""

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.elimination import is_nested, oriented
from sklme._engine.fixed import independent_columns
from sklme._engine.gram import FactorGram, Gram

ALIASED = 1e-10  # share of Z'Z that is left after projecting on X; below this nothing is left


def unidentified(gram: Gram, structures: tuple[Structure, ...]) -> tuple[tuple[int, ...], ...]:
    """For each factor the coefficients whose variance is to be fixed at zero.

    A factor of one level; as many effects as rows (the residual variance takes it all); a column
    that the fixed effects reproduce in every level, that depends on earlier ones of the factor, or
    on those of an earlier factor with the same groups.
    """
    out = []
    for t, (f, s) in enumerate(zip(gram.factors, structures, strict=True)):
        zero = _aliased(f, gram.xx) | _dependent(gram, t)
        zero[list(_saturated(f, s, gram.total))] = True
        if f.n_levels == 1 or gram.total - len(gram.xx) < 2:
            zero[:] = True
        out.append(tuple(np.flatnonzero(zero).tolist()))
    return tuple(out)


def _aliased(f: FactorGram, xx: np.ndarray) -> np.ndarray:
    """Whether Z_a is in the span of X for each coefficient a: |M_X Z_a|^2 against |Z_a|^2."""
    total = f.zz.diagonal().sum(axis=0)
    if not len(xx):
        return total <= 0
    p, k, q = len(xx), f.k, f.n_levels
    solved = np.linalg.solve(xx, f.zx.swapaxes(0, 1).reshape(p, k * q)).reshape(p, k, q)
    explained = np.einsum("apg,pag->a", f.zx, solved)
    return total - explained <= ALIASED * total


def _dependent(gram: Gram, t: int) -> np.ndarray:
    """Columns that depend on earlier ones of this factor, or of one with the same groups."""
    own = gram.factors[t].zz.sum(axis=2)
    dependent = ~independent_columns(own) if len(own) > 1 else own[0] <= 0
    for s in range(t):
        if is_nested(gram, s, t) and is_nested(gram, t, s):
            between = oriented(gram, s, t).data.sum(axis=2)
            joint = np.block([[gram.factors[s].zz.sum(axis=2), between], [between.T, own]])
            dependent |= ~independent_columns(joint)[-len(own) :]
    return dependent


def _saturated(f: FactorGram, s: Structure, total: float) -> set[int]:
    """The last coefficients of each block that would make as many effects as rows."""
    most = int(np.ceil(total / f.n_levels)) - 1  # coefficients a level with levels * k < N
    return {i for block in s.blocks for i in block[max(most, 0) :]}
