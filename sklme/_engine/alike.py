"""Levels with the same Z'Z as a few: the same criterion for many responses at less cost.

D depends on a level only through A = Z'Z, and all of the criterion of one factor is a function of A
or a sum over levels of products of (B, C) = Z'[X y] with weights that depend on A. Such sums do not
change when the levels of equal A are turned by an orthogonal matrix. Turned so that B is triangular
(QR), all but k p of them have B = 0, and of those only the sum of C C' matters.
"""

from dataclasses import replace

import numpy as np

from sklme._engine.gram import FactorGram, Gram


def condense(gram: Gram) -> Gram:
    """The statistics of one factor with as few levels as give the same criterion.

    `counts` of the factor says how many levels stand behind each; the effects of the levels are
    lost.
    """
    f = gram.factors[0]
    classes = _classes(f)
    k, p = f.zx.shape[:2]
    if sum(min(len(levels), k * (p + 1)) for levels in classes) > 0.7 * f.n_levels:
        return gram
    parts = [_turned(f, levels) for levels in classes]
    zz, zx, zy = (
        np.concatenate(x, axis=2) for x in zip(*(part[:3] for part in parts), strict=True)
    )
    counts = np.concatenate([part[3] for part in parts])
    return replace(gram, factors=(FactorGram(zz, zx, zy, counts),))


def _classes(f: FactorGram) -> list[np.ndarray]:
    """The levels of each different Z'Z."""
    flat = f.zz.reshape(-1, f.n_levels).T
    inverse = np.unique(flat, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def _turned(f: FactorGram, levels: np.ndarray):
    """Z'Z, Z'X, Z'y and counts of the levels that stand for these."""
    k, p, _ = f.zx.shape
    r = f.zy.shape[1]
    n = len(levels)
    Q, R = np.linalg.qr(f.zx[:, :, levels].reshape(k * p, n).T)
    C = f.zy[:, :, levels].reshape(k * r, n).T
    turned = Q.T @ C
    zx, zy = R.T.reshape(k, p, len(R)), turned.T.reshape(k, r, len(R))
    if n > len(R):
        rest = (C - Q @ turned).T.reshape(k, r, n).swapaxes(0, 1)
        root = _factor(rest @ rest.swapaxes(1, 2))
        zx = np.concatenate([zx, np.zeros((k, p, k))], axis=2)
        zy = np.concatenate([zy, root.swapaxes(0, 1)], axis=2)
    m = zx.shape[2]
    counts = np.zeros(m)
    counts[0] = n
    return np.repeat(f.zz[:, :, levels[:1]], m, axis=2), zx, zy, counts


def _factor(W: np.ndarray) -> np.ndarray:
    """F with F F' = W for positive semidefinite W (r, k, k)."""
    w, V = np.linalg.eigh(W)
    return V * np.sqrt(np.maximum(w, 0.0))[:, None, :]
