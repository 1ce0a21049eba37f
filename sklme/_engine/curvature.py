"""An approximate Hessian of -2 log L of a generalised model, a guide for Newton's method.

It is that of the linear mixed model of the working response at the modes: exact in beta and the
auxiliary coefficients up to the derivatives of log |I + Sigma A|, the average information
(Gilmour et al. 1995) in theta.
"""

import numpy as np

from sklme._engine import blocks
from sklme._engine.row_terms import BLOCK
from sklme._engine.system import Stacks


def approximate(problem, point, pull: Stacks) -> np.ndarray:
    """(m, m) in the order of psi; `pull` is Z' of the columns of beta and the auxiliary ones."""
    own = direct(problem.rows, point.terms)
    if point.modes is None:
        return 2.0 * own
    at, p = point.modes.at, pull[0].shape[1]
    changes = _changes(problem, point)
    columns = [
        np.concatenate([e, w], axis=1)
        for e, w in zip(pull, _working_variates(problem, point, changes), strict=True)
    ]
    solved, scores = at.posterior(columns)
    lost = sum(blocks.inner(e, b[:, :p]) for e, b in zip(pull, solved, strict=True))
    half = own - lost
    forms = np.concatenate([blocks.inner(c, s) for c, s in zip(changes, scores, strict=True)])
    fixed, average = forms[:, :p], forms[:, p:]
    average = average + fixed @ _solve(half, fixed.T)
    theta = average + _second(problem, point)
    hessian = np.block([[theta, 2.0 * fixed], [2.0 * fixed.T, 2.0 * half]])
    return 0.5 * (hessian + hessian.T)


def direct(rows, terms) -> np.ndarray:
    """Minus the second derivatives of l in (beta, aux) at fixed effects."""
    out = weighted_products(rows.X, -terms.second)
    if not rows.aux:
        return out
    full = [np.broadcast_to(A, (len(A), rows.n)) for A in rows.aux]
    across = np.concatenate(
        [-(terms.aux_first[j] * rows.X) @ A.T for j, A in enumerate(full)], axis=1
    )
    own = [
        [-(terms.aux_curvature[j, k] * A) @ B.T for k, B in enumerate(full)]
        for j, A in enumerate(full)
    ]
    return np.block([[out, across], [across.T, np.block(own)]])


def _solve(half: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """half^-1 columns; where coefficients cannot be told apart, the shortest solution."""
    try:
        return np.linalg.solve(half, columns)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(half, hermitian=True) @ columns


def weighted_products(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """X W X' for X (p, n), in blocks that stay in the cache."""
    p, n = X.shape
    if n <= BLOCK:
        return (weights * X) @ X.T
    out = np.zeros((p, p))
    for i in range(0, n, BLOCK):
        x = X[:, i : i + BLOCK]
        out += (weights[i : i + BLOCK] * x) @ x.T
    return out


def _changes(problem, point) -> Stacks:
    """dSigma s for every parameter of each factor, (k, m, n_levels)."""
    out = []
    for t, (L, s) in enumerate(zip(point.Lambdas, point.modes.scores, strict=True)):
        T = problem.basis(t) @ L.T
        out.append(np.ascontiguousarray(((T + T.swapaxes(1, 2)) @ s).swapaxes(0, 1)))
    return out


def _working_variates(problem, point, changes: Stacks) -> Stacks:
    """Z'W Z_t dSigma_p s for the parameters of all factors, (k, m, n_levels) a factor."""
    if len(changes) == 1:
        return [blocks.multiply(point.modes.at.system.gram.factors[0].zz, changes[0])]
    groupings, W = problem.rows.groupings, -point.terms.second
    rows = [
        W * g.part(np.ascontiguousarray(c[:, m]))
        for g, c in zip(groupings, changes, strict=True)
        for m in range(c.shape[1])
    ]
    return problem.weighted.sums(np.array(rows).reshape(-1, problem.rows.n))


def _second(problem, point) -> np.ndarray:
    """The part that comes from the second derivative of Sigma in theta."""
    out = np.zeros((problem.n_theta, problem.n_theta))
    modes = point.modes
    for t, (S, here) in enumerate(zip(modes.products, problem.charts.slices, strict=True)):
        M, basis = S - modes.scores[t] @ modes.scores[t].T, problem.basis(t)
        out[here, here] = 2.0 * np.einsum("mac,nac->mn", M @ basis, basis)
    return out
