"""A large symmetric matrix of which only one triangle is computed, factored where it stands."""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import blas, lapack

TILE = 64  # rows that are treated at once


class Symmetric:
    """A symmetric matrix, given by the lower triangle of an array; the rest holds anything."""

    def __init__(self, lower: np.ndarray):
        self.lower = lower
        self._mirrored = False

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def full(self) -> np.ndarray:
        """The whole matrix, in the same memory."""
        if not self._mirrored:
            _mirror(self.lower)
            self._mirrored = True
        return self.lower

    def times(self, b: np.ndarray) -> np.ndarray:
        """The product with (n, m) columns."""
        if self._mirrored or not b.size:
            return self.full @ b
        return blas.dsymm(1.0, self.lower.T, b, lower=0)

    def scaled(self, scale: np.ndarray, out: np.ndarray) -> "Symmetric":
        """diag(scale) A diag(scale); `out` may be the array of A itself."""
        for here in _tiles(len(self)):
            part = out[here, : here.stop]
            np.multiply(self.lower[here, : here.stop], scale[: here.stop], out=part)
            part *= scale[here, None]
        return Symmetric(out)


class Inverse:
    """The inverse of a symmetric matrix, in its memory: a Cholesky factor until entries are needed.

    log_det : log |A|, NaN if A is not positive definite
    """

    def __init__(self, matrix: Symmetric):
        # LAPACK counts by columns: what is lower here is upper there, and nothing is copied.
        self._root, failed = lapack.dpotrf(matrix.lower.T, lower=0, overwrite_a=1, clean=0)
        diagonal = self._root.ravel("K")[:: len(matrix) + 1]
        self.log_det = np.nan if failed else 2.0 * float(np.log(diagonal).sum())

    def times(self, b: np.ndarray) -> np.ndarray:
        """The product with (n, m) columns, before `entries` is called."""
        return lapack.dpotrs(self._root, b, lower=0)[0] if b.size else b

    def entries(self) -> Symmetric:
        """The inverse itself; it takes the place of the factor."""
        inverse, _ = lapack.dpotri(self._root, lower=0, overwrite_c=1)
        return Symmetric(inverse.T)


def _mirror(matrix: np.ndarray) -> None:
    """Copy the lower triangle to the upper one."""
    for here in _tiles(len(matrix)):
        corner = np.tril(matrix[here, here])
        matrix[here, here] = corner + np.tril(corner, -1).T
        matrix[here, here.stop :] = matrix[here.stop :, here].T


def _tiles(n: int) -> Iterator[slice]:
    for first in range(0, n, TILE):
        yield slice(first, min(first + TILE, n))
