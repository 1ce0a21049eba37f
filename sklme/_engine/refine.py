"""One step of iterative refinement from the rows, for ill-conditioned X."""

import numpy as np

from sklme._engine.design import Design
from sklme._engine.gram import BLOCK, Frame, Gram, in_frame, output
from sklme._engine.records import Solution
from sklme._engine.sweep import factorise
from sklme._engine.system import System

ILL = 1e5  # condition number of X'X


def refine(
    design: Design, y: np.ndarray, frame: Frame, gram: Gram, columns, Lambdas, found: Solution
) -> Solution:
    """Correct beta and b by the residuals of the rows where X'X is ill-conditioned.

    With r = y - X beta - Z b from the rows, beta moves by
    (X'V^-1X)^-1 (X'r + B'(b - Phi (Z'r + A b)) - ...): every term is small, so that the rounding of
    the cross-products no longer matters (Higham 2002, ch. 12).
    """
    if len(gram.xx) < 2 or design.whiten is not None or _condition(gram.xx) < ILL:
        return found
    residuals = _residuals(design, y, frame, columns, found)
    parts = [
        _step(
            gram,
            r,
            [L[r] for L in Lambdas],
            found,
            [x[:, [r]] for x in residuals[0]],
            residuals[1][:, r],
        )
        for r in range(gram.n_outputs)
    ]
    beta = np.stack([p[0] for p in parts])
    effects = tuple(np.stack(b, axis=1) for b in zip(*(p[1] for p in parts), strict=True))
    return Solution(beta, found.xvx, found.rss, found.log_det, effects)


def _condition(xx: np.ndarray) -> float:
    w = np.linalg.eigvalsh(xx)
    return w[-1] / max(w[0], 1e-300)


def _residuals(design: Design, y, frame: Frame, columns, found: Solution):
    """Z'r by factor, (k, n_outputs, q), and X'r, (p, n_outputs), summed over blocks of rows."""
    zr = [np.zeros(b.shape) for b in found.effects]
    xr = 0.0
    for first in range(0, design.n_rows, BLOCK):
        rows = slice(first, min(first + BLOCK, design.n_rows))
        X, Y, *Z = in_frame(design, frame, y, rows)
        r = Y - found.beta @ X[columns]
        for f, z, b in zip(design.factors, Z, found.effects, strict=True):
            r = r - np.einsum("an,arn->rn", z, b[:, :, f.codes[rows]])
        for f, z, total in zip(design.factors, Z, zr, strict=True):
            for a in range(len(z)):
                for k in range(len(r)):
                    total[a, k] += np.bincount(f.codes[rows], z[a] * r[k], f.n_levels)
        xr = xr + X[columns] @ r.T
    return zr, xr


def _step(gram: Gram, r: int, Lambdas, found: Solution, zr, xr):
    """The correction of one response: the exact solution for the defect."""
    b = [e[:, [r]] for e in found.effects]
    if not b:
        return found.beta[r] + np.linalg.solve(found.xvx[r], xr), []
    system = System(output(gram, r))
    at = factorise(system, Lambdas)
    rhs = [z + a for z, a in zip(zr, _normal(system, b), strict=True)]  # Z'(r + Z b)
    effects, _ = at.posterior(rhs)
    defect = [old - new for old, new in zip(b, effects, strict=True)]
    for f, d in zip(gram.factors, defect, strict=True):
        xr = xr + np.einsum("apg,ag->p", f.zx, d[:, 0])
    step = np.linalg.solve(found.xvx[r], xr)
    moved = [
        e - np.einsum("apg,p->ag", f.zx, step)[:, None]
        for f, e in zip(gram.factors, rhs, strict=True)
    ]
    new, _ = at.posterior(moved)
    return found.beta[r] + step, [e[:, 0] for e in new]


def _normal(system: System, b: list[np.ndarray]) -> list[np.ndarray]:
    """Z'Z b over all factors."""
    products = [system.times(t, e) for t, e in enumerate(b)]
    return [sum(parts) for parts in zip(*products, strict=True)]
