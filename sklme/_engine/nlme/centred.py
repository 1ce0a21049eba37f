"""The effects around means that carry the coefficients: phi = offset + B z, z ~ N(A beta, Omega).

A coefficient whose column of C lies in the span of B for every subject moves the mean of z and
leaves the rows alone, so that it has a maximum in closed form given z. The others, fixed ones too,
stay in the offset.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.parameters import Parameters, Search

SPANNED = 1e-9  # of the size of a column that the span of B may miss


@dataclass(frozen=True)
class Centred:
    """Which coefficients are in the mean of z, and the designs.

    active (Q,) : effects that are drawn; the others have a variance fixed at zero
    shifts, numeric (P,) : free coefficients in the mean of z, and those in the offset
    B (N, m, q, active) and A (N, active, shifts)
    alike : whether all subjects share one B that does not vary by row
    """

    data: Data
    search: Search
    active: np.ndarray
    shifts: np.ndarray
    numeric: np.ndarray
    B: np.ndarray
    A: np.ndarray
    alike: bool

    def offset(self, parameters: Parameters) -> np.ndarray:
        """phi without B z, (N, m, q)."""
        return self.data.C @ np.where(self.shifts, 0.0, parameters.beta)

    def mean(self, parameters: Parameters) -> np.ndarray:
        """The mean of z, (N, active)."""
        return self.A @ parameters.beta[self.shifts]

    def Omega(self, parameters: Parameters) -> np.ndarray:
        """The covariance of z."""
        return parameters.Omega[np.ix_(self.active, self.active)]

    def phi(self, offset: np.ndarray, z: np.ndarray) -> np.ndarray:
        """phi (..., N, m, q) of z (..., N, active)."""
        if self.alike:
            return offset + (z @ self.B[0, 0].T)[..., None, :]
        return offset + (self.B @ z[..., None, :, None])[..., 0]


def centre(data: Data, search: Search) -> Centred:
    """Find which coefficients move the mean of the effects.

    Raises
    ------
    ValueError
        If the effects that have a variance are not free to vary.
    """
    active = np.diag(search.start.Omega) > 0
    if active.any() and np.linalg.eigvalsh(_correlations(search.start.Omega, active))[0] < 1e-10:
        raise ValueError("Omega is not positive definite at the start among effects that vary")
    B = data.B[..., active]
    N, P, Q = data.n_subjects, data.C.shape[-1], B.shape[-1]
    A, spanned = np.zeros((N, Q, P)), np.full(P, Q > 0)
    first = np.argsort(-(B != 0).any(axis=2).sum(axis=(0, 1)), kind="stable")
    for i in range(N if Q else 0):
        flat = B[i].reshape(-1, Q)
        chosen = _independent(flat, first)
        columns = data.C[i].reshape(-1, P)
        A[i, chosen] = np.linalg.lstsq(flat[:, chosen], columns, rcond=None)[0]
        missed = np.abs(columns - flat @ A[i]).max(axis=0, initial=0.0)
        spanned &= missed <= SPANNED * np.abs(columns).max(axis=0, initial=0.0)
    shifts = search.free_beta & spanned
    alike = B.shape[1] == 1 and bool((B == B[:1]).all())
    numeric = search.free_beta & ~spanned
    return Centred(data, search, active, shifts, numeric, B, A[..., shifts], alike)


def _independent(columns: np.ndarray, order: np.ndarray) -> list[int]:
    """Columns that depend on none before them, effects of all rows before those of some."""
    kept: list[int] = []
    basis = np.zeros((len(columns), 0))
    for k in order:
        rest = columns[:, k] - basis @ (basis.T @ columns[:, k])
        size = np.linalg.norm(rest)
        if size > 1e-8 * np.linalg.norm(columns[:, k]) and size > 0:
            kept.append(int(k))
            basis = np.column_stack([basis, rest / size])
    return kept


def _correlations(Omega: np.ndarray, active: np.ndarray) -> np.ndarray:
    chosen = Omega[np.ix_(active, active)]
    size = np.sqrt(np.diag(chosen))
    return chosen / np.outer(size, size)
