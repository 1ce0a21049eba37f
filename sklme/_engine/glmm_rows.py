"""The rows of a generalised model made ready: in the frame, reduced to what counts."""

from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.aggregate import aggregated
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.fixed import independent_columns
from sklme._engine.gram import FactorGram, Frame, frame_of
from sklme._engine.identify import unidentified
from sklme._engine.laplace import Rows
from sklme._engine.weighted import Grouping, Weighted

NO_LIMIT = 1e15  # effects


@dataclass(frozen=True)
class Prepared:
    """Rows ready for the engine, and how to get back to the units of the data.

    columns : which columns of X (with the intercept first) were kept
    unidentified : for each factor the coefficients whose variance the data cannot tell
    total : sum of the weights; aux_maps : from internal auxiliary coefficients to units of the data
    """

    frame: Frame
    rows: Rows
    intercept: bool
    columns: np.ndarray
    structures: tuple[Structure, ...]
    unidentified: tuple[tuple[int, ...], ...]
    total: float
    n_rows: int
    aux_maps: tuple[np.ndarray, ...]

    def aux_in_units(self, phi: np.ndarray) -> tuple[np.ndarray, ...]:
        """Coefficients of each auxiliary predictor in units of the data."""
        out, first = [], 0
        for T in self.aux_maps:
            out.append(T @ phi[first : first + len(T)])
            first += len(T)
        return tuple(out)

    def aux_from_units(self, aux: tuple[np.ndarray, ...]) -> np.ndarray:
        """The inverse of `aux_in_units`."""
        parts = [np.linalg.solve(T, a) for T, a in zip(self.aux_maps, aux, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)


def prepare(design: Design, y, family, structures, offset, trials, aux) -> Prepared:
    """Shift and scale the columns, drop those that depend on others, find what cannot be told."""
    none = np.zeros((design.n_rows, 1))
    frame = frame_of(design, none, structures, design.weights)
    X = in_frame(design, frame)
    columns = independent_columns(X @ X.T)
    groupings = grouped(design, frame)
    limit = _most_effects(family, design, trials)
    zeros = _unidentified(X[columns], groupings, structures, limit)
    if any(zeros):
        structures = tuple(s.without(z) for s, z in zip(structures, zeros, strict=True))
        frame = frame_of(design, none, structures, design.weights)
        groupings = grouped(design, frame)
    outcome = family.outcome(y, trials, design.weights)
    designs = [
        _aux_design(columns_, design.n_rows) for columns_ in aux or [None] * len(family.aux_names)
    ]
    rows = Rows(X[columns], offset, groupings, outcome, tuple(A for A, _ in designs))
    rows = aggregated(family, rows)
    return Prepared(
        frame,
        rows,
        design.intercept,
        columns,
        structures,
        zeros,
        _total(design),
        design.n_rows,
        tuple(T for _, T in designs),
    )


def in_frame(design: Design, frame: Frame) -> np.ndarray:
    """X (p, n) in the frame, the intercept first."""
    X = ((design.X - frame.x_shift) / frame.x_scale).T
    if design.intercept:
        X = np.concatenate([np.ones((1, design.n_rows)), X])
    return np.ascontiguousarray(X)


def grouped(design: Design, frame: Frame) -> tuple[Grouping, ...]:
    """The factors of a design with their columns in the frame."""
    parts = zip(design.factors, frame.z_maps, strict=True)
    return tuple(Grouping(f.codes.astype(np.intp), f.n_levels, _columns(f, T)) for f, T in parts)


def _columns(f: Factor, T: np.ndarray) -> np.ndarray | None:
    z = np.ascontiguousarray((f.z @ T).T)
    return None if len(z) == 1 and (z == 1.0).all() else z


def _aux_design(columns: np.ndarray | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of an auxiliary predictor at unit spread, and the map of its coefficients back."""
    if columns is None or columns.shape[1] == 0:
        return np.ones((1, 1)), np.eye(1)
    shift, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 1e-14 * np.abs(shift), scale, 1.0)
    A = np.concatenate([np.ones((1, n)), ((columns - shift) / scale).T])
    T = np.diag(np.concatenate([[1.0], 1.0 / scale]))
    T[0, 1:] = -shift / scale
    return A, T


def aux_predictors(coefficients: tuple[np.ndarray, ...], columns: tuple) -> np.ndarray:
    """Auxiliary predictors (n_aux, n or 1) from coefficients and columns in units of the data."""
    parts = []
    for c, a in zip(coefficients, columns or [None] * len(coefficients), strict=True):
        parts.append(c[:1] if len(c) == 1 else c[0] + a @ c[1:])
    return np.stack(np.broadcast_arrays(*parts)) if parts else np.zeros((0, 1))


def _total(design: Design) -> float:
    return float(design.n_rows if design.weights is None else design.weights.sum())


def _most_effects(family, design: Design, trials) -> float:
    """Observations that limit how many effects can be told; none where a row shows its variance.

    A count, or a number of successes of several trials, has a variance that is known from its mean,
    so that even an effect for each row can be told; a single yes or no, or a family with a
    dispersion of its own, has not.
    """
    single = family.name == "binomial" and (trials is None or bool((trials <= 1).all()))
    return _total(design) if single or family.aux_names else NO_LIMIT


def _unidentified(X: np.ndarray, groupings, structures, limit: float):
    if not groupings:
        return ()
    weighted = Weighted(groupings)
    plain = weighted.system(np.ones(X.shape[1])).gram
    factors = tuple(
        FactorGram(f.zz, e, e[:, :0]) for f, e in zip(plain.factors, weighted.sums(X), strict=True)
    )
    gram = replace(plain, total=limit, xx=X @ X.T, factors=factors)
    return unidentified(gram, structures)
