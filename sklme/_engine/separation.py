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
    sides = _sides(family, rows.outcome)
    if sides is None or np.abs(eta).max(initial=0.0) < EXTREME:
        return ()
    signs = np.where(sides[0], 1.0, np.where(sides[1], -1.0, 0.0))
    back = np.linalg.pinv(units)
    alone = tuple(j for j, d in enumerate(back.T) if _rises(rows.X, signs, d))
    if alone:
        return alone
    move = units @ _direction(rows.X, signs)
    moves = np.abs(move) * np.linalg.norm(back, axis=0) > MOVES
    return tuple(np.flatnonzero(moves).tolist())


def _rises(X: np.ndarray, signs: np.ndarray, direction: np.ndarray) -> bool:
    """Whether the likelihood never falls along a direction or its opposite, and somewhere rises."""
    along = direction @ X
    size = MOVES * np.abs(along).max(initial=0.0)
    gain = signs * along
    fixed = np.abs(along[signs == 0]).max(initial=0.0) <= size
    return bool(size > 0 and fixed and (gain.min() >= -size or gain.max() <= size))


def _direction(X: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The direction in the unit box along which the likelihood rises most, or zero."""
    A, both = (signs * X)[:, signs != 0].T, np.unique(X[:, signs == 0].T, axis=0)
    sides = np.unique(A, axis=0)
    found = linprog(
        -A.sum(axis=0),
        A_ub=-sides,
        b_ub=np.zeros(len(sides)),
        A_eq=both if len(both) else None,
        b_eq=np.zeros(len(both)) if len(both) else None,
        bounds=[(-1.0, 1.0)] * len(X),
        method="highs",
    )
    if not found.success or -found.fun <= MOVES * np.abs(A).max(initial=0.0):
        return np.zeros(len(X))
    return found.x


def _sides(family, outcome):
    """Rows whose likelihood has its supremum at eta = inf and at -inf; None if none can."""
    y, trials = outcome.y, outcome.trials
    if trials is not None:
        return y >= trials, y <= 0
    if np.all(y >= 0) and np.all(y == np.rint(y)) and getattr(family.link, "name", "") == "log":
        return np.zeros(len(y), bool), y == 0
    return None
