"""What a fitted model says of new rows: variance of the expected response, and draws.

The error of x'beta^ + z'b^ is (x - B'Phi z)'(beta^ - beta) + z'(E[b | y, beta] - b), two parts that
are uncorrelated (Henderson 1975): its variance over sigma^2 is
(x - B'Phi z)' C (x - B'Phi z) + z'Phi z with C = (X'V^-1X)^-1 and Phi = var(b | y, beta) / sigma^2.
A level that is not known adds z' Lambda Lambda' z of its own.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sklme._engine.gram import output
from sklme._engine.lmm import LinearFit
from sklme._engine.selected import posterior_blocks
from sklme._engine.sweep import Factorisation, colour, factorise
from sklme._engine.system import System
from sklme._engine.threads import careful

STRIP = 4_000_000  # numbers in one dense strip of rows


@dataclass(frozen=True)
class NewRows:
    """Rows to predict, in the coordinates of the frame.

    X : (n, p) kept columns; codes : level of each row by factor, -1 for unknown; z : (n, k)
    """

    X: np.ndarray
    codes: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]


def new_rows(fit: LinearFit, X: np.ndarray, codes, slopes) -> NewRows:
    """Rows in the units of the data brought to the frame of the fit."""
    X = (X - fit.frame.x_shift) / fit.frame.x_scale
    if fit.intercept:
        X = np.hstack([np.ones((len(X), 1)), X])
    z = tuple(s @ T for s, T in zip(slopes, fit.frame.z_maps, strict=True))
    return NewRows(X[:, fit.columns], tuple(codes), z)


@careful
def variance(fit: LinearFit, rows: NewRows) -> np.ndarray:
    """Variance of the expected response, (n, n_outputs), theta taken as known."""
    columns = [_variance(fit, rows, r) for r in range(len(fit.s2))]
    return np.stack(columns, axis=1)


def _variance(fit: LinearFit, rows: NewRows, r: int) -> np.ndarray:
    system, at = _factorised(fit, r)
    own, shifted = np.zeros(len(rows.X)), rows.X
    if at is not None:
        own = random_variance(at, rows)
        shifted = rows.X - _shrunk_columns(system, at, rows)
    for L, codes, z in zip(fit.Lambdas, rows.codes, rows.z, strict=True):
        own += np.where(codes < 0, ((z @ L[r]) ** 2).sum(axis=1), 0.0)
    root = np.linalg.cholesky(fit.xvx[r])
    fixed = (np.linalg.solve(root, shifted.T) ** 2).sum(axis=0)
    return (own + fixed) * fit.s2[r] * fit.frame.y_scale[r] ** 2


@careful
def effect_covariance(fit: LinearFit) -> list[np.ndarray]:
    """Covariance of the effects of each level given beta: (n_outputs, n_levels, k, k) a factor."""
    out = []
    for r in range(len(fit.s2)):
        _, at = _factorised(fit, r)
        scale = fit.s2[r] * fit.frame.y_scale[r] ** 2
        parts = [] if at is None else posterior_blocks(at)
        out.append(
            [
                np.einsum("ab,bcq,dc->qad", T, Phi, T) * scale
                for T, Phi in zip(fit.frame.z_maps, parts, strict=True)
            ]
        )
    return [np.stack(parts) for parts in zip(*out, strict=True)]


@careful
def draw(fit: LinearFit, rows: NewRows, r: int, n_draws: int, rng) -> np.ndarray:
    """Draws of the expected response of output r, (n, n_draws), in the units of the data.

    beta and the effects of known levels come from their joint posterior at the estimated theta,
    those of unknown levels from the prior: codes of -2, -3, ... tell unknown levels apart.
    """
    scale = np.sqrt(fit.s2[r])
    root = np.linalg.cholesky(fit.xvx[r])
    noise = rng.standard_normal((len(root), n_draws))
    shift = scale * np.linalg.solve(root.T, noise)  # beta - beta^
    total = rows.X @ (fit.beta[r][:, None] + shift)
    effects = _draw_effects(fit, r, shift, scale, n_draws, rng)
    for t, (codes, z) in enumerate(zip(rows.codes, rows.z, strict=True)):
        known = codes >= 0
        total[known] += np.einsum("nk,kmn->nm", z[known], effects[t][:, :, codes[known]])
        total[~known] += _draw_new(
            fit.Lambdas[t][r] * scale, codes[~known], z[~known], n_draws, rng
        )
    return fit.frame.y_shift[r] + fit.frame.y_scale[r] * total


def _draw_new(L: np.ndarray, codes: np.ndarray, z: np.ndarray, n_draws: int, rng) -> np.ndarray:
    levels, place = np.unique(codes, return_inverse=True)
    b = np.einsum("ab,bmq->amq", L, rng.standard_normal((len(L), n_draws, len(levels))))
    return np.einsum("nk,kmn->nm", z, b[:, :, place])


def _draw_effects(fit: LinearFit, r: int, shift: np.ndarray, scale: float, n_draws: int, rng):
    """b | beta, y for every level, (k, n_draws, n_levels): backwards through the elimination."""
    system, at = _factorised(fit, r)
    if at is None:
        return []
    beta = fit.beta[r][:, None] + shift
    E = [f.zy - np.einsum("apq,pm->amq", f.zx, beta) for f in system.gram.factors]
    return at.posterior(E, lambda t, factor: scale * colour(factor, n_draws, rng))[0]


def random_variance(at: Factorisation, rows: NewRows) -> np.ndarray:
    """z'Phi z of each row over its known levels.

    Along the elimination b_j = D_j (E_j - N_jR b_R) + noise with variance D_j: each factor adds
    its own c'D_j c and passes c - N_Rj D_j c on to the factors that come later.
    """
    plan = at.system.plan
    place = {j: rows.codes[j].copy() for j in plan.chain}
    c = {j: np.where(rows.codes[j][:, None] >= 0, rows.z[j], 0.0).T for j in plan.chain}
    clash = np.zeros(len(rows.X), bool)
    total = np.zeros(len(rows.X))
    passed = []
    for j in plan.chain:
        known = place[j] >= 0
        at_level = np.where(known, place[j], 0)
        weighted = np.einsum("abn,bn->an", at.D[j][:, :, at_level], c[j]) * known
        total += (c[j] * weighted).sum(axis=0)
        for m in plan.later(j):
            parent = np.where(known, plan.parents[j, m][at_level], -1)
            clash |= known & (place[m] >= 0) & (place[m] != parent)
            place[m] = np.where(place[m] >= 0, place[m], parent)
            c[m] = c[m] - np.einsum("acn,an->cn", at.links[j, m][:, :, at_level], weighted)
        passed.append((j, at_level, weighted))
    if plan.n_dense:
        total += _dense_variance(at, rows, passed)
    if clash.any():
        total[clash] = _by_columns(at, rows, np.flatnonzero(clash))
    return total


def _dense_variance(at: Factorisation, rows: NewRows, passed) -> np.ndarray:
    """v'Phi_dd v with v the coefficients of the row on the dense factors, in strips of rows."""
    n = len(rows.X)
    out = np.empty(n)
    own = _dense_coefficients(at.system.plan, rows)
    by_level = {j: at.rows(j) for j, _, _ in passed}
    strip = max(1, STRIP // at.system.plan.n_dense)
    for start in range(0, n, strip):
        part = slice(start, min(start + strip, n))
        v = own[part]
        for j, level, weighted in passed:
            for row, w in zip(by_level[j], weighted, strict=True):
                v = v - row[level[part]].multiply(w[part][:, None])
        v = sparse.csr_array(v)
        out[part] = np.asarray(v.multiply(v @ at.Phi).sum(axis=1)).ravel()
    return out


def _dense_coefficients(plan, rows: NewRows) -> sparse.csr_array:
    n = len(rows.X)
    i, j, value = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]
    for t in plan.dense:
        known = np.flatnonzero(rows.codes[t] >= 0)
        for a in range(plan.sizes[t][0]):
            i.append(known)
            j.append(plan.offsets[t] + rows.codes[t][known] * plan.sizes[t][0] + a)
            value.append(rows.z[t][known, a])
    at = (np.concatenate(i), np.concatenate(j))
    return sparse.csr_array((np.concatenate(value), at), shape=(n, plan.n_dense))


def _by_columns(at: Factorisation, rows: NewRows, which: np.ndarray) -> np.ndarray:
    """z'Phi z by solving for the rows themselves: for rows whose levels are nested otherwise."""
    out = np.empty(len(which))
    for start in range(0, len(which), 64):
        part = which[start : start + 64]
        E = []
        for t, (k, q) in enumerate(at.system.plan.sizes):
            e = np.zeros((k, len(part), q))
            known = np.flatnonzero(rows.codes[t][part] >= 0)
            e[:, known, rows.codes[t][part[known]]] = rows.z[t][part[known]].T
            E.append(e)
        b, _ = at.posterior(E)
        out[start : start + 64] = sum(
            np.einsum("amq,amq->m", e, x) for e, x in zip(E, b, strict=True)
        )
    return out


def _shrunk_columns(system: System, at: Factorisation, rows: NewRows):
    """z'Phi Z'X of each row, (n, p)."""
    effects, _ = at.posterior([f.zx for f in system.gram.factors])
    total = np.zeros_like(rows.X)
    for b, codes, z in zip(effects, rows.codes, rows.z, strict=True):
        known = codes >= 0
        total[known] += np.einsum("nk,kpn->np", z[known], b[:, :, codes[known]])
    return total


def _factorised(fit: LinearFit, r: int):
    """The cross-products and factorisation at the fitted theta; (None, None) without factors."""
    if not fit.structures:
        return None, None
    system = System(output(fit.kept, r))
    return system, factorise(system, [L[r] for L in fit.Lambdas])
