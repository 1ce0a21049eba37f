"""Each level of a factor left out at frozen variances, for several factors, without a fit.

To delete rows is to give each of them a fixed effect of its own. With U the columns that pick the
rows of a level and P = V^-1 - V^-1 X C X'V^-1, what is left unexplained of them by the others is
d = (U'PU)^-1 U'Py, with covariance sigma^2 (U'PU)^-1, and beta moves by -C X'V^-1U d
(Haslett and Dillane 2004). U'PU has the size of the level; the rest is factorised once.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.design import Design
from sklme._engine.gram import in_frame
from sklme._engine.lmm import LinearFit
from sklme._engine.sweep import Factorisation, factorise
from sklme._engine.system import System
from sklme._engine.threads import careful

MOST = 2000  # rows of a level from which on a fit without it is quicker
SURE = 1e-8  # least eigenvalue of U'PU; at zero a column cannot be estimated without the level


@dataclass(frozen=True)
class Deleted:
    """beta (q, p) and C (q, p, p) without each level, in the frame.

    mean, variance : expected response of every row without its level, in the units of the data,
        and its variance, that of the level's own effect included
    done : (q,) whether a level was treated; the others need a fit of their own
    """

    beta: np.ndarray
    C: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    done: np.ndarray


@careful
def delete_levels(fit: LinearFit, design: Design, y: np.ndarray, t: int) -> Deleted:
    """The fits of one response without each level of factor t, at the variances of `fit`."""
    rows = _Rows(fit, design, y)
    f = design.factors[t]
    q, p = f.n_levels, len(fit.beta[0])
    out = Deleted(
        np.zeros((q, p)),
        np.zeros((q, p, p)),
        np.full(len(y), np.nan),
        np.full(len(y), np.nan),
        np.zeros(q, bool),
    )
    order = np.argsort(f.codes, kind="stable")
    starts = np.cumsum(np.bincount(f.codes, minlength=q))[:-1]
    for level, own in enumerate(np.split(order, starts)):
        if len(own) <= MOST:
            _delete(rows, level, own, out)
    out.mean[:] = y[:, 0] - fit.frame.y_scale[0] * out.mean
    return out


class _Rows:
    """The weighted rows in the frame, and V^-1 applied to their X and residuals."""

    def __init__(self, fit: LinearFit, design: Design, y: np.ndarray):
        gram = fit.kept
        self.fit, self.at = fit, factorise(System(gram), [L[0] for L in fit.Lambdas])
        X, Y, *self.Z = in_frame(design, fit.frame, y, slice(None))
        self.codes = [f.codes for f in design.factors]
        self.weights = np.ones(len(y)) if design.weights is None else design.weights
        effects, _ = self.at.posterior(self.at.system.columns())
        both = np.concatenate([X[fit.columns], Y])
        for z, codes, b in zip(self.Z, self.codes, effects, strict=True):
            for a in range(len(z)):
                both -= z[a] * b[a][:, codes]
        self.VX = both[:-1]  # (p, n)
        self.Py = both[-1] - fit.beta[0] @ self.VX
        self.C = np.linalg.inv(fit.xvx[0])

    def block(self, own: np.ndarray) -> np.ndarray:
        """U'PU of some rows."""
        VX = self.VX[:, own]
        Z, codes = [z[:, own] for z in self.Z], [c[own] for c in self.codes]
        out = -_random_block(self.at, Z, codes) - VX.T @ self.C @ VX
        out.flat[:: len(own) + 1] += 1.0
        return 0.5 * (out + out.T)


def _random_block(at: Factorisation, Z: list[np.ndarray], codes: list[np.ndarray]) -> np.ndarray:
    """z'Phi z between every two of some rows."""
    n = len(codes[0])
    E = []
    for (k, q), z, c in zip(at.system.plan.sizes, Z, codes, strict=True):
        e = np.zeros((k, n, q))
        e[:, np.arange(n), c] = z
        E.append(e)
    effects, _ = at.posterior(E)
    return sum(
        np.einsum("aj,aij->ij", z, b[:, :, c]) for z, c, b in zip(Z, codes, effects, strict=True)
    )


def _delete(rows: _Rows, level: int, own: np.ndarray, out: Deleted) -> None:
    """Fill in what follows from leaving out the rows `own`."""
    fit, w = rows.fit, rows.weights[own]
    size, turn = np.linalg.eigh(rows.block(own))
    if size.min(initial=1.0) < SURE:
        return
    inverse = (turn / size) @ turn.T
    unexplained = inverse @ rows.Py[own]
    CXV = rows.C @ rows.VX[:, own]
    out.beta[level] = fit.beta[0] - CXV @ unexplained
    out.C[level] = rows.C + CXV @ inverse @ CXV.T
    out.mean[own] = unexplained / np.sqrt(w)
    scale = fit.s2[0] * fit.frame.y_scale[0] ** 2
    out.variance[own] = np.maximum(inverse.diagonal() - 1.0, 0.0) / w * scale
    out.done[level] = True
