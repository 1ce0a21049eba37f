"""A grid of levels as it goes into a model, and what the model makes of it."""

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import pandas as pd

from sklme._columns import read_columns
from sklme.inference._access import Fitted, open_model
from sklme.inference._generalized import GeneralizedFitted
from sklme.inference.contrasts import without_dropped

MOST = 200_000  # rows of a grid
MOST_LEVELS = 50  # different numbers that may be levels
PROBES = 20  # rows, and levels, that tell whether a column matters


@dataclass(frozen=True)
class Grid:
    """Means to be estimated: the first n_compared belong to the first levels of `by`, and so on.

    levels : one row a mean; L : its coefficients; offset : what is added to it
    z : for each factor the columns of its random effects, (n_means, k)
    """

    levels: pd.DataFrame
    L: np.ndarray
    offset: np.ndarray
    z: list
    n_compared: int
    attrs: dict


class Design:
    """The table X, and the fixed-effect columns that a model makes of tables like it."""

    def __init__(self, model, X, fitted: Fitted | GeneralizedFitted):
        if X is None:
            raise ValueError("marginal_means needs the table that the model was fitted to: pass X")
        self.model, self.X, self.fitted = model, X, fitted
        self.table = _as_pandas(X)
        keys = [key if isinstance(key, tuple) else (key,) for key in fitted.keys]
        self.keys = {column for key in keys for column in key}

    def rows(self, table: pd.DataFrame):
        """Fixed columns (n_rows, n_coefficients) with the intercept, the offset, random columns."""
        inside = open_model(self.model, _as_given(self.X, table), output=self.fitted.r)
        rows = read_columns(inside.model, inside.X, inside.model._columns)
        ones = np.ones((len(rows.X), int(self.fitted.working.intercept)))
        offset = np.zeros(len(rows.X)) if rows.offset is None else rows.offset
        return np.hstack([ones, rows.X]), offset, rows.slopes

    def matters(self, column) -> bool:
        """Whether the fixed effects see a column: tried on some rows and levels."""
        some = np.unique(np.linspace(0, len(self.table) - 1, PROBES).astype(int))
        probe, levels = self.table.iloc[some], self.table[column].unique()[:PROBES]
        parts = [_with_values(probe, {column: [level] * len(probe)}) for level in levels]
        D, _, _ = self.rows(pd.concat(parts, ignore_index=True))
        return bool(np.ptp(D.reshape(len(levels), len(probe), -1), axis=0).any())


def make_grid(design: Design, compared: list, within: list, at: dict) -> Grid:
    """Every combination of the levels shown, averaged over the levels of the other columns."""
    table = design.table
    _check_names(table, compared, within, at)
    shown = {c: _levels(table, c, at) for c in [*within, *compared]}
    held, averaged = _others(design, [c for c in table.columns if c not in shown], at)
    crossed = {**shown, **averaged}
    _refuse_products(table, [c for c in held if c not in at], list(crossed))
    if prod(map(len, crossed.values())) > MOST:
        counts = ", ".join(f"{len(v)} of {c!r}" for c, v in crossed.items())
        raise ValueError(f"too many combinations of levels: {counts}; choose some by at")
    n = prod(map(len, shown.values()))
    D, offset, slopes = design.rows(_filled(table, crossed, held))
    return Grid(
        levels=_product(shown),
        L=without_dropped(D.reshape(n, len(D) // n, -1).mean(axis=1), design.fitted),
        offset=offset.reshape(n, -1).mean(axis=1),
        z=[z.reshape(n, -1, z.shape[1]).mean(axis=1) for z in slopes],
        n_compared=prod(len(shown[c]) for c in compared),
        attrs={"of": compared, "by": within, "held": held, "averaged_over": list(averaged)},
    )


def _refuse_products(table: pd.DataFrame, held: list, varied: list) -> None:
    """A product made by hand cannot stay at its mean while one of its columns varies."""
    numbers = [c for c in table.columns if pd.api.types.is_numeric_dtype(table[c])]
    values = {c: table[c].to_numpy(float) for c in numbers}
    for c in set(held) & set(numbers):
        size = np.abs(values[c]).max(initial=0.0)
        for a, b in product([v for v in varied if v in values], numbers):
            if (
                c not in (a, b)
                and size
                and np.allclose(values[a] * values[b], values[c], rtol=0, atol=1e-12 * size)
            ):
                raise ValueError(
                    f"{c!r} is the product of {a!r} and {b!r}: it cannot be held while {a!r} "
                    "varies; let a step of the pipeline make it (from_formula or "
                    "PolynomialFeatures), or give its value by at"
                )


def _check_names(table: pd.DataFrame, compared, within, at) -> None:
    for column in (*compared, *within, *at):
        if column not in table.columns:
            known = ", ".join(map(repr, table.columns))
            raise ValueError(f"X has no column {column!r}; it has {known}")
    if not compared or set(compared) & set(within):
        raise ValueError("`of` names one column or more, and `by` none of these")


def _others(design: Design, columns: list, at: dict) -> tuple[dict, dict]:
    """Columns that are not shown: numbers held at one value, and levels to average over."""
    held, averaged = {}, {}
    for c in columns:
        values = design.table[c]
        number = pd.api.types.is_numeric_dtype(values) and values.dtype != bool
        if c in at and np.ndim(at[c]):
            averaged[c] = list(at[c])
        elif c in at:
            held[c] = at[c]
        elif number and c not in design.keys:
            held[c] = float(values.mean())
        elif not design.matters(c):
            held[c] = values.iloc[0]
        elif number:
            held[c] = float(values.mean())
        else:
            averaged[c] = _levels(design.table, c, at)
    return held, averaged


def _levels(table: pd.DataFrame, column, at: dict) -> list:
    """The values of a column that are shown or averaged over, in order."""
    if column in at:
        return list(at[column]) if np.ndim(at[column]) else [at[column]]
    values = table[column].dropna()
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.remove_unused_categories().cat.categories)
    levels = sorted(values.unique().tolist())
    if len(levels) > MOST_LEVELS and pd.api.types.is_numeric_dtype(values):
        raise ValueError(
            f"{column!r} has {len(levels)} values: choose some by at={{{column!r}: ...}}"
        )
    return levels


def _product(levels: dict) -> pd.DataFrame:
    return pd.DataFrame(list(product(*levels.values())), columns=list(levels))


def _filled(table: pd.DataFrame, crossed: dict, held: dict) -> pd.DataFrame:
    """The grid with all columns of the table, in its order."""
    grid = _product(crossed)
    values = {c: grid[c].tolist() if c in crossed else [held[c]] * len(grid) for c in table.columns}
    return _with_values(table.iloc[np.zeros(len(grid), dtype=int)], values)


def _with_values(table: pd.DataFrame, values: dict) -> pd.DataFrame:
    """The table with other values, categories kept."""
    out = {c: values.get(c, table[c].tolist()) for c in table.columns}
    for c in out:
        if isinstance(table[c].dtype, pd.CategoricalDtype):
            out[c] = pd.Categorical(out[c], dtype=table[c].dtype)
    return pd.DataFrame(out)


def _as_pandas(X) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "to_dict") and hasattr(X, "columns"):  # polars
        return pd.DataFrame(X.to_dict(as_series=False))
    return pd.DataFrame(np.asarray(X))


def _as_given(X, table: pd.DataFrame):
    """The table in the container of X."""
    if isinstance(X, pd.DataFrame):
        return table
    return type(X)(table.to_dict("list")) if hasattr(X, "columns") else table.to_numpy()
