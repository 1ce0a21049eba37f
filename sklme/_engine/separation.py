"""Whether outcomes are predicted perfectly, so that a coefficient has no finite estimate.

A direction of the coefficients along which no row's likelihood ever falls and some row's rises
without end is found by a linear programme (Konis 2007, sec. 4.2; Correia, Guimaraes and Zylkin
2019 for counts). Random effects do not help: the direction is there whatever their variance.
"""

import numpy as np
from scipy.optimize import linprog

EXTREME = 12.0  # a linear predictor beyond this is worth asking
MOVES = 1e-6  # share of a coefficient in the direction that counts


def separated(family, rows, eta: np.ndarray, units: np.ndarray) -> tuple[int, ...]:
    """Which coefficients have no finite estimate, as positions among the rows of `units`.

    units : (n_coefficients, p), the coefficients in units of the data from those of rows.X. Single
    coefficients are tried first; a direction of several is looked for if there is none.
    """
    if not units.size or np.abs(eta).max(initial=0.0) < EXTREME:
        return ()
    A = _half_spaces(family, rows.outcome, rows.X)
    if A is None:
        return ()
    p, n = len(rows.X), len(units)
    A = np.hstack([A[:, :p] @ np.linalg.pinv(units), A[:, p:]])
    A = A / np.maximum(np.abs(A).max(axis=0, initial=0.0), 1e-300)
    alone = tuple(j for j in range(n) if _rises(A[:, j]))
    return alone or _smallest(A, n)


def _smallest(A: np.ndarray, n: int) -> tuple[int, ...]:
    """Of the first n columns those that a direction cannot do without, taken out from the last."""
    left = list(range(A.shape[1]))
    if not _direction(A).any():
        return ()
    for j in reversed(range(n)):
        others = [i for i in left if i != j]
        if _direction(A[:, others])[: sum(i < n for i in others)].any():
            left = others
    return tuple(i for i in left if i < n)


def _half_spaces(family, outcome, X: np.ndarray) -> np.ndarray | None:
    """A such that no likelihood falls along z where A z >= 0; None for families without such z.

    z are the coefficients, for ordered classes with the thresholds behind them. A row that has a
    finite best linear predictor must not move: it stands twice, with both signs.
    """
    y, trials = outcome.y, outcome.trials
    if hasattr(family, "n_classes"):
        return _ordered(y.astype(int), X, family.n_classes)
    if trials is not None:
        up, down = y > 0, y < trials
    elif np.all(y >= 0) and np.all(y == np.rint(y)) and getattr(family.link, "name", "") == "log":
        up, down = y > 0, np.ones(len(y), bool)
    else:
        return None
    return np.unique(np.concatenate([X[:, up].T, -X[:, down].T]), axis=0)


def _ordered(c: np.ndarray, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Class c lies between the thresholds c - 1 and c: neither may be crossed."""
    eye = np.eye(n_classes - 1)
    below, above = c < n_classes - 1, c > 0
    lower = np.hstack([-X[:, below].T, eye[c[below]]])
    upper = np.hstack([X[:, above].T, -eye[c[above] - 1]])
    return np.unique(np.concatenate([lower, upper]), axis=0)


def _rises(along: np.ndarray) -> bool:
    """Whether the likelihood never falls along a direction or its opposite, and somewhere rises."""
    size = MOVES * np.abs(along).max(initial=0.0)
    return bool(size > 0 and (along.min() >= -size or along.max() <= size))


def _direction(A: np.ndarray) -> np.ndarray:
    """The direction in the unit box along which the likelihood rises most, or zero."""
    total = A.sum(axis=0)
    box = [(-1.0, 1.0)] * A.shape[1]
    found = linprog(-total, A_ub=-A, b_ub=np.zeros(len(A)), bounds=box, method="highs")
    if not found.success or -found.fun <= MOVES:
        return np.zeros(A.shape[1])
    return np.where(np.abs(found.x) > MOVES, found.x, 0.0)
