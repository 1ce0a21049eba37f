"""Which variances the data cannot tell from the rest of the model."""

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.elimination import is_nested
from sklme._engine.gram import FactorGram, Gram

ALIASED = 1e-10  # share of Z'Z that is left after projecting on X; below this nothing is left


def unidentified(gram: Gram, structures: tuple[Structure, ...]) -> tuple[tuple[int, ...], ...]:
    """For each factor the coefficients whose variance is to be fixed at zero.

    A factor of one level, as many coefficients as rows (the residual variance takes it all), a
    column that the fixed effects reproduce in every level, and a second factor with the same
    levels as an earlier one.
    """
    out = []
    for t, (f, s) in enumerate(zip(gram.factors, structures, strict=True)):
        aliased = _aliased(f, gram.xx)
        zero = set(np.flatnonzero(aliased).tolist()) | _saturated(f, s, gram.total)
        if f.n_levels == 1 or _repeats_earlier(gram, t):
            zero |= set(range(f.k))
        out.append(tuple(sorted(zero)))
    return tuple(out)


def _aliased(f: FactorGram, xx: np.ndarray) -> np.ndarray:
    """Whether Z_a is in the span of X for each coefficient a: |M_X Z_a|^2 against |Z_a|^2."""
    total = np.einsum("aag->a", f.zz)
    if not len(xx):
        return total <= 0
    solved = np.linalg.solve(xx, f.zx.transpose(1, 0, 2).reshape(len(xx), -1)).reshape(
        len(xx), f.k, f.n_levels
    )
    explained = np.einsum("apg,pag->a", f.zx, solved)
    return total - explained <= ALIASED * total


def _saturated(f: FactorGram, s: Structure, total: float) -> set[int]:
    """The last coefficients of each block that would make as many effects as rows."""
    most = int(np.ceil(total / f.n_levels)) - 1  # coefficients a level with levels * k < N
    return {i for block in s.blocks for i in block[max(most, 0) :]}


def _repeats_earlier(gram: Gram, t: int) -> bool:
    """Whether an intercept-like factor groups the rows just as an earlier one does."""
    same = (
        s
        for s in range(t)
        if gram.factors[s].k == gram.factors[t].k == 1
        and gram.factors[s].n_levels == gram.factors[t].n_levels
    )
    return any(is_nested(gram, s, t) and is_nested(gram, t, s) for s in same)
