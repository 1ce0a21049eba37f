"""What is observed and how the parameters of each subject are built from it.

Rows are padded: subject i has row j where `mask[i, j]`. On the unbounded scale the parameters of a
subject are phi = C beta + B eta; the natural scale is psi = link(phi), and f = structure(psi).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sklme._engine.nlme.kinds import KINDS

LINKS = ("exp", "identity", "expit")  # from the unbounded to the natural scale


@dataclass(frozen=True)
class Data:
    """The observations of N subjects with at most n rows, q parameters, P beta and Q eta.

    structure : f = structure(psi, subjects=None) with psi (..., subjects, m, q) and f
        (..., subjects, n); optional attributes: `jacobian`, the same with (f, df/dpsi);
        `complex_safe` (default True): may be called with complex psi; `local` (default False):
        f of a row depends on psi of this row alone even where m = n; `accuracy`: the relative error
        of f and of its own derivatives (default: that of rounding, or 1e-9 where there are own
        derivatives and complex psi is not safe, as with differential equations)
    y : (N, n); the limit of quantification where `censored`; anything where not `mask`
    mask : (N, n), whether the row is there
    C : (N, m, q, P) and B : (N, m, q, Q), where m is 1, or n for parameters that vary by row
    links : one of "exp", "identity", "expit" for each parameter
    errors : the kind of error of each endpoint
    endpoint : (N, n), which endpoint a row observes; None for one
    censored : (N, n), whether all that is known is y < limit; None for nowhere
    """

    structure: Any
    y: np.ndarray
    mask: np.ndarray
    C: np.ndarray
    B: np.ndarray
    links: tuple[str, ...]
    errors: tuple[str, ...] = ("additive",)
    endpoint: np.ndarray | None = None
    censored: np.ndarray | None = None

    def __post_init__(self):
        _check(self)

    @property
    def n_subjects(self) -> int:
        """N."""
        return len(self.y)

    @property
    def n_effects(self) -> int:
        """Q, the length of eta."""
        return self.B.shape[-1]

    @cached_property
    def n_observations(self) -> int:
        """Rows that are there."""
        return int(self.mask.sum())

    @cached_property
    def varies(self) -> bool:
        """Whether the parameters vary by row, m > 1."""
        return self.C.shape[1] > 1

    @cached_property
    def local(self) -> bool:
        """Whether f of a row depends on no other row of psi."""
        return not self.varies or bool(getattr(self.structure, "local", False))

    @cached_property
    def on_log(self) -> np.ndarray | bool:
        """Where y and f are compared on the log scale: everywhere, nowhere, or (N, n)."""
        which = np.array([kind == "lognormal" for kind in self.errors])
        if self.endpoint is None or which.all() or not which.any():
            return bool(which[0])
        return which[self.endpoint]

    @cached_property
    def response(self) -> np.ndarray:
        """y on the scale of its error, 0 where there is no row."""
        y = np.where(self.mask, self.y, 1.0)
        if self.on_log is not False:
            y = np.where(self.on_log, np.log(np.where(self.on_log, y, 1.0)), y)
        return np.where(self.mask, y, 0.0)

    @cached_property
    def constants(self) -> np.ndarray:
        """What the log scale adds to -2 log L of each subject, (N,)."""
        counts = self.mask & self.on_log
        if self.censored is not None:
            counts &= ~self.censored
        return 2.0 * np.where(counts, self.response, 0.0).sum(axis=1)

    def take(self, subjects: np.ndarray) -> "Data":
        """The record of some subjects alone, in this order; they may repeat."""
        return replace(
            self,
            structure=Selected(self.structure, subjects),
            y=self.y[subjects],
            mask=self.mask[subjects],
            C=self.C[subjects],
            B=self.B[subjects],
            endpoint=None if self.endpoint is None else self.endpoint[subjects],
            censored=None if self.censored is None else self.censored[subjects],
        )


class Selected:
    """A structure of some subjects alone."""

    def __init__(self, structure: Any, subjects: np.ndarray):
        self.structure, self.subjects = structure, subjects
        self.complex_safe = getattr(structure, "complex_safe", True)
        self.local = getattr(structure, "local", False)
        if hasattr(structure, "accuracy"):
            self.accuracy = structure.accuracy
        if hasattr(structure, "jacobian"):
            self.jacobian = self._jacobian

    def __call__(self, psi: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
        return self.structure(psi, self._of(subjects))

    def _jacobian(self, psi: np.ndarray, subjects: np.ndarray | None = None):
        return self.structure.jacobian(psi, self._of(subjects))

    def _of(self, subjects: np.ndarray | None) -> np.ndarray:
        return self.subjects if subjects is None else self.subjects[subjects]


def _check(data: Data) -> None:
    (N, n), q = data.y.shape, len(data.links)
    for name in ("C", "B"):
        shape = getattr(data, name).shape
        if len(shape) != 4 or shape[0] != N or shape[1] not in (1, n) or shape[2] != q:
            raise ValueError(f"{name} must be ({N}, 1 or {n}, {q}, any): it is {shape}")
    if data.C.shape[1] != data.B.shape[1]:
        raise ValueError("C and B must both vary by row or both not")
    for what, given, possible in (("link", data.links, LINKS), ("error", data.errors, KINDS)):
        for one in given:
            if one not in possible:
                raise ValueError(f"{what} must be one of {', '.join(possible)}: it is {one!r}")
    if not np.isfinite(data.y[data.mask]).all():
        i = int(np.flatnonzero((data.mask & ~np.isfinite(data.y)).any(axis=1))[0])
        raise ValueError(f"y of subject number {i} is not finite")
    if not data.mask.any(axis=1).all():
        i = int(np.flatnonzero(~data.mask.any(axis=1))[0])
        raise ValueError(f"subject number {i} has no observation")
    if data.on_log is not False and (data.y[data.mask & data.on_log] <= 0).any():
        raise ValueError("a lognormal error is possible only where every y is above zero")
