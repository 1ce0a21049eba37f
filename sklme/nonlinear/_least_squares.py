"""Nonlinear least squares from many starts at once, as Levenberg (1944) and Marquardt (1963)."""

import numpy as np

MOST = 60  # steps
ENOUGH = 1e-6  # of the sum of squares, a decrease after which a search ends
FIRST = 1e-2  # the damping to begin with
STUCK = 1e10  # a damping that no search recovers from


def minimize_squares(residuals, derive, x, longest=np.inf):
    """Lower the sums of squares from each start x (k, p): where they end, and the sums (k,).

    `residuals` gives r (k, n) of x (k, p), `derive` r and its derivatives (k, n, p). Where a
    residual is no number the sum of squares is infinite. No step changes x by more than `longest`.
    """
    x, damping, active = np.array(x, float), np.full(len(x), FIRST), np.arange(len(x))
    r, J = derive(x)
    loss = sum_squares(r)
    for _ in range(MOST):
        step = _step(r, J, damping[active])
        too_long = np.maximum((np.abs(step) / longest).max(axis=1, keepdims=True), 1.0)
        new = x[active] - step / too_long
        reached = sum_squares(residuals(new))
        lower = reached < loss[active]
        done = lower & (reached >= (1.0 - ENOUGH) * loss[active])
        x[active[lower]], loss[active[lower]] = new[lower], reached[lower]
        damping[active] *= np.where(lower, 0.1, 5.0)
        kept = ~done & (damping[active] < STUCK)
        active, r, J, lower = active[kept], r[kept], J[kept], lower[kept]
        if not len(active):
            break
        if lower.any():
            r[lower], J[lower] = derive(x[active[lower]])
    return x, loss


def sum_squares(r):
    """Of each row; infinite where it is no number."""
    with np.errstate(all="ignore"):
        loss = (r * r).sum(axis=-1)
    return np.where(np.isfinite(loss), loss, np.inf)


def _step(r, J, damping):
    """(J'J + damping diag(J'J))^-1 J'r; 0 along what r does not depend on."""
    bad = ~np.isfinite(J).all(axis=(1, 2)) | ~np.isfinite(r).all(axis=1)
    r, J = np.where(bad[:, None], 0.0, r), np.where(bad[:, None, None], 0.0, J)
    size = np.sqrt((J * J).sum(axis=1))
    size[size == 0] = np.inf
    J = J / size[:, None]
    A = J.swapaxes(1, 2) @ J + (damping[:, None] + 1e-14)[:, :, None] * np.eye(J.shape[2])
    A[:, np.arange(J.shape[2]), np.arange(J.shape[2])] += np.isinf(size)
    return np.linalg.solve(A, J.swapaxes(1, 2) @ r[:, :, None])[:, :, 0] / size
