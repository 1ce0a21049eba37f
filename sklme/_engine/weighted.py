"""Cross-products of Z under row weights that change, on a pattern of levels that does not.

A generalised model meets a new Z'WZ in every step towards its conditional modes. Where each sum
stands in the elimination is found once: a plan is made for cross-products whose numbers are their
own addresses.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sklme._engine import pairs
from sklme._engine.design import sum_by_level
from sklme._engine.elimination import Plan, make_plan
from sklme._engine.gram import Cross, FactorGram, Gram
from sklme._engine.system import Stacks, System


@dataclass(frozen=True)
class Grouping:
    """The rows of one factor: level codes (n,) and columns z (k, n); None for a column of ones."""

    codes: np.ndarray
    n_levels: int
    z: np.ndarray | None

    @property
    def k(self) -> int:
        return 1 if self.z is None else len(self.z)

    def part(self, b: np.ndarray) -> np.ndarray:
        """Z b of each row, b of shape (k, n_levels)."""
        if self.z is None:
            return b[0][self.codes]
        return sum(z * effect[self.codes] for z, effect in zip(self.z, b, strict=True))

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Z'r of some columns of rows (m, n): (k, m, n_levels)."""
        if self.z is None:
            return sum_by_level(self.codes, self.n_levels, rows)[None]
        return np.stack([sum_by_level(self.codes, self.n_levels, z * rows) for z in self.z])

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """Z'WZ by level, (k, k, n_levels)."""
        if self.z is None:
            return np.bincount(self.codes, weights, self.n_levels)[None, None]
        out = np.empty((self.k, self.k, self.n_levels))
        for a, z in enumerate(self.z):
            out[a, : a + 1] = sum_by_level(self.codes, self.n_levels, weights * z * self.z[: a + 1])
            out[: a + 1, a] = out[a, : a + 1]
        return out

    def values(self) -> np.ndarray:
        """The columns z (k, n), also where they are ones."""
        return np.ones((1, len(self.codes))) if self.z is None else self.z


@dataclass(frozen=True)
class _Meeting:
    """Which pairs of levels of two factors share rows, and the pair of each row."""

    rows: np.ndarray
    columns: np.ndarray
    pair: np.ndarray


class Weighted:
    """All factors of a design, ready for any row weights."""

    def __init__(self, groupings: tuple[Grouping, ...]):
        self.groupings = groupings
        self.meetings = _meetings(groupings)
        self.plan = make_plan(_addresses(groupings, self.meetings))
        self._links = {key: _integers(link) for key, link in self.plan.links.items()}
        self._entries = {j: _integers(e) for j, e in self.plan.entries.items()}
        self._block = _integers(self.plan.block[1])

    def sums(self, rows: np.ndarray) -> Stacks:
        """Z'r by factor for columns of rows (m, n): a list of (k, m, n_levels)."""
        return [g.sums(rows) for g in self.groupings]

    def column_sums(self, columns: Iterable[np.ndarray]) -> Stacks:
        """The same for columns that come one by one, so that no more than one is in memory."""
        parts = [self.sums(column[None]) for column in columns]
        if not parts:
            return [np.zeros((g.k, 0, g.n_levels)) for g in self.groupings]
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]

    def part(self, effects: Stacks) -> np.ndarray:
        """Z b of each row for effects (k, n_levels) a factor."""
        first, *others = (g.part(b) for g, b in zip(self.groupings, effects, strict=True))
        return sum(others, first)

    def system(self, weights: np.ndarray) -> "WeightedSystem":
        """Z'WZ laid out for elimination."""
        squares, crosses = _products(self.groupings, self.meetings, weights)
        return WeightedSystem(_statistics(squares, crosses), self._filled(squares, crosses))

    def _filled(self, squares: Stacks, crosses: dict[tuple[int, int], Cross]) -> Plan:
        """The plan with numbers where it has addresses."""
        if len(squares) == 1:
            return self.plan
        parts = [zz.ravel() for zz in squares] + [c.data.ravel() for c in crosses.values()]
        numbers = np.concatenate(parts)
        return replace(
            self.plan,
            links={key: numbers[at] for key, at in self._links.items()},
            entries={j: numbers[at] for j, at in self._entries.items()},
            block=(self.plan.block[0], numbers[self._block]),
        )


class WeightedSystem(System):
    """The cross-products under one set of weights, on a plan that is shared."""

    def __init__(self, gram: Gram, plan: Plan):
        self.gram, self.plan, self.last = gram, plan, None
        self.first_sums, self.first_rows = None, []
        if plan.n_dense:
            first = plan.chain[0]
            rows = plan.patterns[first], plan.entries[first], plan.n_dense
            self.first_sums = pairs.row_sums(*rows, constant=False)
            self.first_rows = pairs.sparse_rows(*rows)


def meet_and_sum(groupings: tuple[Grouping, ...], weights: np.ndarray) -> Gram:
    """Z'WZ of all factors once, as a Gram of Z alone."""
    return _statistics(*_products(groupings, _meetings(groupings), weights))


def _products(groupings: tuple[Grouping, ...], meetings: dict, weights: np.ndarray):
    squares = [g.squares(weights) for g in groupings]
    crosses = {
        (s, t): _cross(groupings[s], groupings[t], meeting, weights)
        for (s, t), meeting in meetings.items()
    }
    return squares, crosses


def _statistics(squares: Stacks, crosses: dict[tuple[int, int], Cross]) -> Gram:
    """A Gram of Z alone."""
    nothing = np.zeros((0, 0))
    none = [np.zeros((len(zz), 0, zz.shape[2])) for zz in squares]
    factors = tuple(FactorGram(zz, e, e) for zz, e in zip(squares, none, strict=True))
    return Gram(0.0, 0, 0.0, nothing, nothing, np.zeros(0), factors, crosses)


def _addresses(groupings: tuple[Grouping, ...], meetings: dict) -> Gram:
    """A Gram whose entries count its numbers: the squares first, then the crosses in order."""
    squares, crosses, first = [], {}, 0
    for g in groupings:
        size = g.k * g.k * g.n_levels
        squares.append(np.arange(first, first + size, dtype=float).reshape(g.k, g.k, g.n_levels))
        first += size
    for (s, t), m in meetings.items():
        shape = groupings[s].k, groupings[t].k, len(m.rows)
        size = shape[0] * shape[1] * shape[2]
        data = np.arange(first, first + size, dtype=float).reshape(shape)
        crosses[s, t] = Cross(m.rows, m.columns, data)
        first += size
    return _statistics(squares, crosses)


def _integers(addresses: np.ndarray) -> np.ndarray:
    return addresses.astype(np.intp)


def _meetings(groupings: tuple[Grouping, ...]) -> dict[tuple[int, int], _Meeting]:
    pairs = combinations(enumerate(groupings), 2)
    return {(s, t): _meet(f, g) for (s, f), (t, g) in pairs}


def _meet(f: Grouping, g: Grouping) -> _Meeting:
    key = f.codes * np.int64(g.n_levels) + g.codes
    keys, pair = np.unique(key, return_inverse=True)
    return _Meeting(keys // g.n_levels, keys % g.n_levels, pair)


def _cross(f: Grouping, g: Grouping, meeting: _Meeting, weights: np.ndarray) -> Cross:
    n = len(meeting.rows)
    if f.z is None and g.z is None:
        data = np.bincount(meeting.pair, weights, n)[None, None]
    else:
        zg = g.values() * weights
        data = np.stack([sum_by_level(meeting.pair, n, z * zg) for z in f.values()])
    return Cross(meeting.rows, meeting.columns, data)
