"""X opened: its columns as ids or numbers, its rows as groups, with messages that name both."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.utils import check_array

from sklme._ids import LevelTable, learn_levels, quote, read_ids
from sklme._layout import ColumnFinder
from sklme._tables import open_table
from sklme.nonlinear._frames import is_missing


class Table:
    """A table with the names that fit has seen.

    find : callable, position of a column given by name or position, and for whom
    """

    def __init__(self, estimator, X, *, reset):
        self._table = open_table(estimator, X, reset=reset)
        self._estimator = estimator
        self.find = ColumnFinder.of(estimator)

    @property
    def shape(self):
        """Rows and columns."""
        return self._table.shape

    def name(self, at):
        """A column as messages call it."""
        return self._table.name(at)

    def ids(self, at, groups=None):
        """A column as ids; `groups` names the rows in messages."""
        column, name = self._table.ids(at), self.name(at)
        if groups is not None and np.any(is_missing(column)):
            row = int(np.argmax(is_missing(column)))
            raise ValueError(f"{name} is missing (NaN) for {groups.describe(row)} in row {row}")
        return read_ids(column, name)

    @staticmethod
    def learn(ids):
        """The levels of ids and the code of each row."""
        return learn_levels(ids)

    def number(self, at, what, groups=None):
        """A column as float64."""
        name, text = self.name(at), self._table.text(at)
        if text is not None:
            raise ValueError(f"{name} of X holds {text}; {what} must be numbers")
        numbers = self._table.numbers((at,), ones=False)
        if numbers.dtype.kind not in "biuf":
            numbers = check_array(
                numbers, dtype=np.float64, ensure_all_finite=False, estimator=self._estimator
            )
        x = np.array(numbers[:, 0], dtype=np.float64)
        if not np.isfinite(x).all():
            row = int(np.argmin(np.isfinite(x)))
            value = "missing (NaN)" if np.isnan(x[row]) else "infinite (inf)"
            of = "" if groups is None else f" for {groups.describe(row)}"
            raise ValueError(f"{name} is {value}{of} in row {row}")
        return x

    def flag(self, at, groups):
        """A column of true and false."""
        x = self.number(at, "the column that says which y are censored", groups)
        if not np.isin(x, (0.0, 1.0)).all():
            row = int(np.argmin(np.isin(x, (0.0, 1.0))))
            raise ValueError(
                f"censored names {self.name(at)}, which is {x[row]:g} in row {row}: it must be "
                "true or false"
            )
        return x == 1.0


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group every row belongs to; `table` is None where all rows are one."""

    table: LevelTable | None
    codes: np.ndarray
    name: str = ""

    @classmethod
    def read(cls, table, at):
        """The groups of a table by a column."""
        if at is None:
            return cls(None, np.zeros(table.shape[0], int))
        levels, codes = learn_levels(table.ids(at))
        return cls(levels, codes, table.name(at).removeprefix("column ").strip("'\""))

    @property
    def n(self):
        """How many groups."""
        return 1 if self.table is None else len(self.table.values)

    @property
    def labels(self):
        """The groups, in the order of their codes."""
        return np.zeros(1, int) if self.table is None else self.table.values

    def describe(self, row):
        """The group of a row as messages call it."""
        if self.table is None:
            return "the only group"
        return f"subject {quote(self.labels[self.codes[row]])}"

    @cached_property
    def rows(self):
        """The rows of each group, in their order."""
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.codes, minlength=self.n))[:-1])

    @cached_property
    def index(self):
        """The row (n_groups, n_max) in each place; where there is none, the first of the group."""
        longest = max(map(len, self.rows))
        index = np.array([[rows[0]] * longest for rows in self.rows])
        index[self.mask] = np.concatenate(self.rows)
        return index

    @cached_property
    def mask(self):
        """Which places (n_groups, n_max) hold a row."""
        sizes = np.array([len(rows) for rows in self.rows])
        return np.arange(sizes.max()) < sizes[:, None]

    @cached_property
    def place(self):
        """The place of each row in its group."""
        place = np.empty(len(self.codes), int)
        place[self.index[self.mask]] = np.nonzero(self.mask)[1]
        return place

    def known(self, table):
        """For each group its code in another table of levels, -1 where that has it not."""
        if self.table is None or table is None:
            return np.zeros(self.n, int)
        return table.find(self._ids())

    def joined(self, other):
        """These rows and those of another table, with new groups behind the known ones."""
        if self.table is None:
            return replace(self, codes=np.concatenate([self.codes, other.codes]))
        table = self.table.extended(other._ids())
        codes = table.find(other._ids())[other.codes]
        return Groups(table, np.concatenate([self.codes, codes]), self.name)

    def take(self, rows):
        """Some rows alone; groups without rows vanish."""
        if self.table is None:
            return replace(self, codes=self.codes[rows])
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        return Groups(
            LevelTable(self.table.family, self.table.values[used]), codes.ravel(), self.name
        )

    def _ids(self):
        table = read_ids(self.table.values, self.name)
        return replace(table, family=self.table.family)
