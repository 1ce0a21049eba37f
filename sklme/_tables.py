"""One face for arrays, pandas and polars: columns by position, as numbers or as ids."""

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype
from sklearn.utils.validation import check_array, validate_data

from sklme._ids import first_rows
from sklme._terms import show

NARROW = 8  # columns up to which a table is read column by column
SHORT = 10_000  # rows up to which a polars column of text is quickest as Python objects


class _Array:
    """A checked 2-D array."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape

    def name(self, j):
        return f"column {j}"

    def ids(self, j):
        return self.X[:, j]

    def text(self, j):
        """What a column holds if not numbers, else None."""
        return _what(self.X[:, j])

    def numbers(self, positions, ones):
        """Columns as one array: X itself or a view of it where that is possible."""
        if positions == tuple(range(positions[0], positions[0] + len(positions))):
            return self.X[:, positions[0] : positions[0] + len(positions)]
        return self.X[:, positions]


class _Pandas:
    """A pandas DataFrame (or one that behaves like it)."""

    def __init__(self, X):
        self.X, self.shape, self._columns = X, X.shape, {}
        narrow = X.shape[1] <= NARROW  # then columns cost less than their table of types
        self.dtypes = (
            [self.column(j).dtype for j in range(X.shape[1])] if narrow else list(X.dtypes)
        )
        if any(dtype.kind == "c" for dtype in self.dtypes):
            raise ValueError("Complex data not supported: X has a complex column")

    def name(self, j):
        label = self.X.columns[j]  # other labels than text cannot be given as names
        return f"column {show(label) if isinstance(label, str) else j}"

    def column(self, j):
        """One column; by its label, which is quicker than by position."""
        if j not in self._columns:
            label = self.X.columns[j]
            unique = self.X.columns.is_unique
            self._columns[j] = self.X[label] if unique else self.X.iloc[:, j]
        return self._columns[j]

    def ids(self, j):
        column = self.column(j)
        return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array

    def text(self, j):
        dtype = self.dtypes[j]
        if dtype.kind in "biuf":
            return None
        return "categories" if isinstance(dtype, pd.CategoricalDtype) else _what(self.ids(j))

    def numbers(self, positions, ones):
        """Columns as one array; slicing a block pays off only when there are many columns."""
        dtypes = [self.dtypes[j] for j in positions]
        everything = positions == tuple(range(self.shape[1]))
        if (everything or len(positions) > NARROW) and all(d.kind in "biuf" for d in dtypes):
            return _to_float(self.X if everything else self.X.iloc[:, list(positions)], dtypes)
        columns = (_to_float(self.column(j), [self.dtypes[j]]) for j in positions)
        return _side_by_side(columns, len(positions), self.shape[0], ones)


class _Polars:
    """A polars DataFrame, by its methods only."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape

    def name(self, j):
        return f"column {show(self.X.columns[j])}"

    def ids(self, j):
        column = self.X.to_series(j)
        if column.null_count():  # to be refused: keep the nulls in their rows
            return np.array([*column.to_list(), None], dtype=object)[:-1]
        if str(column.dtype).startswith(("String", "Categorical", "Enum")):
            return _text(column)
        if getattr(column.dtype, "time_zone", None):
            return pd.DatetimeIndex(column.to_numpy(), tz="UTC").array
        return column.to_numpy()

    def text(self, j):
        dtype = self.X.to_series(j).dtype
        if dtype.is_numeric() or str(dtype) in ("Boolean", "Null"):
            return None
        if str(dtype).startswith(("Categorical", "Enum")):
            return "categories"
        return "dates or times" if dtype.is_temporal() else _what(self.X.to_series(j).to_numpy())

    def numbers(self, positions, ones):
        columns = (self.X.to_series(j).to_numpy() for j in positions)
        return _side_by_side(columns, len(positions), self.shape[0], ones)


def open_table(estimator, X, *, reset):
    """Container of X after scikit-learn's checks of names and shape."""
    table = _as_table(estimator, X)
    validate_data(estimator, table.X, reset=reset, skip_check_array=True)
    refuse_empty(estimator, table.shape)
    return table


def refuse_empty(estimator, shape):
    for size, what in zip(shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is "
                f"required by {type(estimator).__name__}."
            )


def _as_table(estimator, X):
    if is_frame(X):
        return as_frame(X)
    refuse_masked(X)
    if isinstance(X, list | tuple):  # numpy would turn [["a", 308]] into text
        X = np.asarray(X, dtype=object)
    return _Array(
        check_array(X, dtype=None, ensure_all_finite=False, estimator=estimator, input_name="X")
    )


def is_frame(X):
    return len(getattr(X, "shape", ())) == 2 and hasattr(X, "columns")


def as_frame(X):
    return _Pandas(X) if hasattr(X, "iloc") else _Polars(X)


def refuse_masked(X):
    if isinstance(X, np.ma.MaskedArray) and np.ma.getmaskarray(X).any():
        row, column = np.argwhere(np.ma.getmaskarray(X))[0]
        raise ValueError(f"column {column} has a missing (masked) entry in row {row}: NaN in X")


def _side_by_side(columns, n_columns, n_rows, ones):
    """Columns as one array, each of them contiguous; with `ones`, behind a column of ones."""
    out = np.empty((n_columns + ones, n_rows))
    out[:ones] = 1.0
    for row, column in zip(out[ones:], columns, strict=True):
        row[:] = column
    return out.T


def _text(column):
    """A polars column of text; if it is long, only its distinct values become Python objects.

    Rows are told apart by their hashes. Should two texts have the same one, every row becomes an
    object after all.
    """
    if len(column) <= SHORT:
        return column.cast(str).to_numpy()
    codes, hashes = pd.factorize(column.hash().to_numpy())
    values = column.gather(first_rows(codes, len(hashes)))
    if not (values.gather(codes) == column).all():
        return column.cast(str).to_numpy()
    return pd.Categorical.from_codes(codes, pd.Index(values.cast(str).to_numpy(), dtype=object))


def _to_float(part, dtypes):
    """pandas column or frame as float64; `na_value` costs a copy, so only where it can matter."""
    if all(isinstance(dtype, np.dtype) and dtype.kind != "O" for dtype in dtypes):
        return part.to_numpy(np.float64)
    return part.to_numpy(np.float64, na_value=np.nan)


def _what(values):
    """Word for what a column holds if not numbers, else None."""
    if values.dtype.kind in "biuf":
        return None
    if isinstance(values.dtype, pd.StringDtype):
        return "text"
    kind = infer_dtype(values)
    if kind in ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty"):
        return None
    if kind.startswith(("date", "time")):
        return "dates or times"
    if kind.startswith("mixed"):  # numbers and text, or what check_array will refuse
        return "text" if any(isinstance(value, str) for value in values) else None
    return "text" if kind == "string" else f"values of the kind {kind}"


def refuse_text(table, positions, keys):
    for j in positions:
        what = table.text(j)
        if what is None:
            continue
        column = table.name(j)
        if j in keys:
            raise ValueError(
                f"{column} holds {what}: that can be a key of random_effects, but fixed effects, "
                "slopes and the offset must be numbers"
            )
        name = column.removeprefix("column ")
        raise ValueError(
            f"{column} of X holds {what} and is no key of random_effects: encode it by "
            f'ColumnTransformer([("code", OneHotEncoder(drop="first"), [{name}])], '
            f'remainder="passthrough"), name it in random_effects, or leave it out by '
            f'random_effects={{{name}: []}}; or let from_formula("y ~ ...") encode it'
        )
