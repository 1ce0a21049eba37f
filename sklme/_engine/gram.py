"""Cross-products of [Z X y], by level: all that a Gaussian model needs of its rows.

One pass in fixed blocks of rows. Columns are first put into a `Frame` of shifts and scales that
all sources share, so that y + 1e8 or x * 1e6 costs no digits and the sums merge by addition.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor, sum_by_level

BLOCK = 65_536  # rows in a partial sum; fixed, so that sums do not depend on the worker


@dataclass(frozen=True)
class Frame:
    """Coordinates in which the sums are taken: (X - x_shift) / x_scale, Z @ z_map, and so y."""

    x_shift: np.ndarray
    x_scale: np.ndarray
    y_shift: np.ndarray
    y_scale: np.ndarray
    z_maps: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class FactorGram:
    """Z'Z (k, k, q), Z'X (k, p, q) and Z'y (k, n_outputs, q) of one factor, by level.

    counts : where levels were condensed, how many stand behind each (q,)
    """

    zz: np.ndarray
    zx: np.ndarray
    zy: np.ndarray
    counts: np.ndarray | None = None

    @property
    def n_levels(self) -> int:
        return self.zz.shape[2]

    @property
    def k(self) -> int:
        return self.zz.shape[0]


@dataclass(frozen=True)
class Cross:
    """Z_s'Z_t of two factors: a k_s x k_t block for each pair of levels that share rows."""

    rows: np.ndarray
    columns: np.ndarray
    data: np.ndarray  # (k_s, k_t, n_pairs)


@dataclass(frozen=True)
class Gram:
    """The sufficient statistics. `total` is the sum of the weights, `n_rows` counts rows."""

    total: float
    n_rows: int
    log_weights: float
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    factors: tuple[FactorGram, ...]
    cross: dict[tuple[int, int], Cross]

    @property
    def n_outputs(self) -> int:
        return self.xy.shape[1]


def frame_of(
    design: Design, y: np.ndarray, structures: tuple[Structure, ...], weights=None
) -> Frame:
    """Means and spreads of the columns, as far as the model allows them to be moved.

    weights : (n,) of the rows in means and spreads; None counts every row once
    """
    x_shift, x_scale = _moments(design.X, design.intercept, weights)
    y_shift, y_scale = _moments(y, design.intercept, weights)
    parts = zip(design.factors, structures, strict=True)
    maps = tuple(_slope_map(f.z, s, weights) for f, s in parts)
    return Frame(x_shift, x_scale, y_shift, y_scale, maps)


def gram(design: Design, y: np.ndarray, frame: Frame) -> Gram:
    """Cross-products of the weighted, whitened rows in the coordinates of the frame.

    y has shape (n, n_outputs). Sums run over blocks of `BLOCK` rows in row order.
    """
    p, r = design.X.shape[1] + design.intercept, y.shape[1]
    xx, xy, yy = np.zeros((p, p)), np.zeros((p, r)), np.zeros(r)
    factors = tuple(_zeros(f, p, r) for f in design.factors)
    for parts, (X, Y, *Z) in _blocks(design, y, frame):
        xx += X @ X.T
        xy += X @ Y.T
        yy += np.einsum("mn,mn->m", Y, Y)
        for sums, f, z in zip(factors, parts, Z, strict=True):
            _add_by_level(sums, f.codes, z, X, Y)
    w = design.weights
    return Gram(
        total=float(design.n_rows if w is None else w.sum()),
        n_rows=design.n_rows,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        xx=xx,
        xy=xy,
        yy=yy,
        factors=factors,
        cross=_cross_products(design, frame),
    )


def merge(a: Gram, b: Gram) -> Gram:
    """The statistics of both sets of rows; codes must mean the same levels in both.

    Levels that only one of them has stand at the end of its arrays: the other is padded by 0.
    """
    levels = [max(f.n_levels, g.n_levels) for f, g in zip(a.factors, b.factors, strict=True)]
    factors = tuple(
        FactorGram(*(_padded_sum(x, y, q) for x, y in zip(_parts(f), _parts(g), strict=True)))
        for f, g, q in zip(a.factors, b.factors, levels, strict=True)
    )
    cross = {key: _merge_cross(a.cross[key], b.cross[key], levels[key[1]]) for key in a.cross}
    return Gram(
        a.total + b.total,
        a.n_rows + b.n_rows,
        a.log_weights + b.log_weights,
        a.xx + b.xx,
        a.xy + b.xy,
        a.yy + b.yy,
        factors,
        cross,
    )


def select(gram: Gram, columns: np.ndarray) -> Gram:
    """The statistics of some of the fixed-effect columns only, given in order."""
    if len(columns) == len(gram.xx):
        return gram
    factors = tuple(replace(f, zx=f.zx[:, columns]) for f in gram.factors)
    return replace(gram, xx=gram.xx[np.ix_(columns, columns)], xy=gram.xy[columns], factors=factors)


def output(gram: Gram, column: int) -> Gram:
    """The statistics of one response."""
    at = slice(column, column + 1)
    factors = tuple(replace(f, zy=f.zy[:, at]) for f in gram.factors)
    return replace(gram, xy=gram.xy[:, at], yy=gram.yy[at], factors=factors)


def in_frame(design: Design, frame: Frame, y: np.ndarray, rows: slice) -> list[np.ndarray]:
    """[X, y, Z_1, ...] of some rows, in the frame, weighted by sqrt(w) and whitened; (m, n)."""
    X = ((design.X[rows] - frame.x_shift) / frame.x_scale).T
    if design.intercept:
        X = np.concatenate([np.ones((1, X.shape[1])), X])
    parts = [X, ((y[rows] - frame.y_shift) / frame.y_scale).T]
    parts += [z_map.T @ f.z[rows].T for f, z_map in zip(design.factors, frame.z_maps, strict=True)]
    if design.weights is not None:
        root = np.sqrt(design.weights[rows])
        parts = [part * root for part in parts]
    return [np.ascontiguousarray(part) for part in parts]


def _blocks(design: Design, y: np.ndarray, frame: Frame) -> Iterator[tuple]:
    if design.whiten is not None:  # whitening may mix rows: one block
        everything = slice(0, design.n_rows)
        whole = in_frame(design, frame, y, everything)
        yield design.factors, [design.whiten(part.T).T for part in whole]
        return
    for first in range(0, max(design.n_rows, 1), BLOCK):
        rows = slice(first, min(first + BLOCK, design.n_rows))
        factors = tuple(replace(f, codes=f.codes[rows], z=f.z[rows]) for f in design.factors)
        yield factors, in_frame(design, frame, y, rows)


def _zeros(f: Factor, p: int, n_outputs: int) -> FactorGram:
    return FactorGram(*(np.zeros((f.k, m, f.n_levels)) for m in (f.k, p, n_outputs)))


def _add_by_level(sums: FactorGram, codes: np.ndarray, Z, X, y) -> None:
    """Add Z'Z, Z'X and Z'y by level: one grouped sum for each product of columns."""
    q = sums.n_levels
    for a, z in enumerate(Z):
        sums.zz[a, : a + 1] += sum_by_level(codes, q, z * Z[: a + 1])
        sums.zz[:a, a] = sums.zz[a, :a]
        sums.zx[a] += sum_by_level(codes, q, z * X)
        sums.zy[a] += sum_by_level(codes, q, z * y)


def _cross_products(design: Design, frame: Frame) -> dict[tuple[int, int], Cross]:
    """Z_s'Z_t for every pair of factors s < t, only for levels that meet."""
    if len(design.factors) < 2:
        return {}
    whole = in_frame(design, frame, np.zeros((design.n_rows, len(frame.y_shift))), slice(None))
    Z = whole[2:] if design.whiten is None else [design.whiten(z.T).T for z in whole[2:]]
    pairs = [(s, t) for t in range(len(Z)) for s in range(t)]
    return {(s, t): _cross(design.factors[s], design.factors[t], Z[s], Z[t]) for s, t in pairs}


def _cross(f: Factor, g: Factor, Zf: np.ndarray, Zg: np.ndarray) -> Cross:
    keys, inverse = np.unique(f.codes * np.int64(g.n_levels) + g.codes, return_inverse=True)
    data = np.stack([sum_by_level(inverse, len(keys), a * Zg) for a in Zf])
    return Cross(keys // g.n_levels, keys % g.n_levels, data)


def _merge_cross(a: Cross, b: Cross, n_columns: int) -> Cross:
    joint = np.concatenate(
        [a.rows * np.int64(n_columns) + a.columns, b.rows * np.int64(n_columns) + b.columns]
    )
    keys, inverse = np.unique(joint, return_inverse=True)
    data = np.concatenate([a.data, b.data], axis=2)
    sums = np.stack([sum_by_level(inverse, len(keys), part) for part in data])
    return Cross(keys // n_columns, keys % n_columns, sums)


def _padded_sum(a: np.ndarray, b: np.ndarray, n_levels: int) -> np.ndarray:
    out = np.zeros((*a.shape[:2], n_levels))
    out[..., : a.shape[2]] += a
    out[..., : b.shape[2]] += b
    return out


def _parts(f: FactorGram) -> tuple[np.ndarray, ...]:
    return f.zz, f.zx, f.zy


def _moments(columns: np.ndarray, centred: bool, w=None) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale of each column; the scale of a constant column is 1."""
    n = max(len(columns), 1) if w is None else w.sum()
    total = columns.sum(axis=0) if w is None else w @ columns
    shift = total / n if centred else np.zeros(columns.shape[1])
    with np.errstate(over="ignore"):
        centred_columns = columns - shift if centred else columns
        weighted = centred_columns if w is None else centred_columns * w[:, None]
        spread = np.sqrt(np.einsum("ij,ij->j", weighted, centred_columns) / n)
    rounding = 1e-14 * np.abs(shift)
    return shift, np.where((spread > rounding) & np.isfinite(spread), spread, 1.0)


def _slope_map(z: np.ndarray, structure: Structure, weights=None) -> np.ndarray:
    """The k x k map T such that z @ T has unit spread, without changing the model.

    A column may be centred where its block has an intercept to take up the shift; its scale is
    free unless all coefficients share one variance.
    """
    T = np.eye(z.shape[1])
    if structure.spherical:
        return T
    for block in structure.blocks:
        constant = [j for j in block if np.ptp(z[:, j]) == 0]
        anchor = next((j for j in constant if z[0, j] != 0), None)
        for j in block:
            if j in constant:
                T[j, j] = 1.0 / abs(z[0, j] or 1.0)
                continue
            shift, scale = _moments(z[:, [j]], anchor is not None, weights)
            T[j, j] = 1.0 / scale[0]
            if anchor is not None:
                T[anchor, j] = -shift[0] / (z[0, anchor] * scale[0])
    return T
