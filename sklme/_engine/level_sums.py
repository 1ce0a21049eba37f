"""X'X, X'y and y'y of the rows of each level: what leaving a level out takes away."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.design import Design
from sklme._engine.gram import Frame, Gram, in_frame

SPANNED = 1e-10  # share of X'X that may be missing where Z of each level is to reproduce X


@dataclass(frozen=True)
class LevelSums:
    """By level: X'X (q, p, p), X'y (q, p), y'y (q,) and N (q,), in the frame, of one response."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    total: np.ndarray


def level_sums(
    design: Design, y: np.ndarray, frame: Frame, t: int, columns: np.ndarray, precision: bool
) -> LevelSums:
    """Sums over the rows of each level of factor t, one response y (n, 1).

    columns : which columns of X, the intercept first, are meant
    precision : N counts rows; else it is the sum of the weights
    """
    f = design.factors[t]
    X, Y = in_frame(design, frame, y, slice(None))[:2]
    order = np.argsort(f.codes, kind="stable")
    rows = np.concatenate([X[columns], Y])[:, order]
    ends = np.cumsum(np.bincount(f.codes, minlength=f.n_levels))
    sums = np.empty((f.n_levels, len(rows), len(rows)))
    for level, (i, j) in enumerate(zip(ends - np.diff(ends, prepend=0), ends, strict=True)):
        sums[level] = rows[:, i:j] @ rows[:, i:j].T
    weights = None if precision else design.weights
    total = np.bincount(f.codes, weights, f.n_levels).astype(float)
    return LevelSums(sums[:, :-1, :-1], sums[:, :-1, -1], sums[:, -1, -1], total)


def spanned_sums(gram: Gram) -> LevelSums | None:
    """X'X and X'y of each level without rows, where Z reproduces X in every level, else None.

    Then X_l = Z_l M and X_l'X_l = X_l'Z_l (Z_l'Z_l)^- Z_l'X_l. y'y and N by level stay unknown.
    """
    f = gram.factors[0]
    q, p = f.n_levels, len(gram.xx)
    A, B = np.moveaxis(f.zz, 2, 0), np.moveaxis(f.zx, 2, 0)
    inverse = np.linalg.pinv(A, rcond=1e-12, hermitian=True)
    half = inverse @ B
    xx = B.swapaxes(1, 2) @ half
    missing = np.diag(gram.xx) - np.einsum("qii->i", xx)
    if (missing > SPANNED * np.diag(gram.xx)).any():
        return None
    xy = np.einsum("qkp,kq->qp", half, f.zy[:, 0])
    unknown = np.full(q, np.nan)
    return LevelSums(xx.reshape(q, p, p), xy, unknown, unknown)
