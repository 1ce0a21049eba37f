"""In which order several factors are eliminated, and where their cross-products stand.

A chain of factors, each nested in the next, is eliminated level by level: pupils, then their
classes, then their schools keep block-diagonal cross-products throughout. What remains is one
dense block. With crossed factors the chain is the largest factor alone.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from sklme._engine.gram import Cross, Gram


@dataclass(frozen=True)
class Pattern:
    """The columns of the dense block that each level of a chain factor meets, sorted by row."""

    indptr: np.ndarray
    columns: np.ndarray
    rows: np.ndarray  # level of each entry

    @cached_property
    def by_column(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each column begins in the list of entries by column, and that list."""
        counts = np.bincount(self.columns)
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return start, np.argsort(self.columns, kind="stable").astype(np.int32)


@dataclass(frozen=True)
class Plan:
    """chain and dense factors, links between them, and the constant cross-products."""

    chain: tuple[int, ...]
    dense: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # (k, n_levels) of every factor
    offsets: dict[int, int]  # first column of a dense factor in the dense block
    n_dense: int
    parents: dict[tuple[int, int], np.ndarray]  # (j, m): the level of m that holds a level of j
    links: dict[tuple[int, int], np.ndarray]  # (j, m): Z_j'Z_m by level of j, (k_j, k_m, q_j)
    patterns: dict[int, Pattern]
    entries: dict[int, np.ndarray]  # j: Z_j'Z_d on its pattern, (k_j, n_entries)
    moves: dict[tuple[int, int], np.ndarray]  # (j, m): where entries of j fall among those of m
    block: tuple[np.ndarray, np.ndarray]  # Z_d'Z_d of the dense factors: cells and their values

    def later(self, j: int) -> tuple[int, ...]:
        """The chain factors that are eliminated after j."""
        return self.chain[self.chain.index(j) + 1 :]


def make_plan(gram: Gram) -> Plan:
    """Choose the chain that leaves the smallest dense block, and lay out the cross-products."""
    sizes = tuple((f.k, f.n_levels) for f in gram.factors)
    chain = _best_chain(gram, sizes)
    dense = tuple(t for t in range(len(sizes)) if t not in chain)
    starts = np.concatenate([[0], np.cumsum([k * q for k, q in (sizes[t] for t in dense)])])
    offsets = dict(zip(dense, starts[:-1].astype(int).tolist(), strict=True))
    n_dense = int(starts[-1])
    parents, links = {}, {}
    for j, m in combinations(chain, 2):
        cross = oriented(gram, j, m)
        order = np.argsort(cross.rows)
        parents[j, m], links[j, m] = cross.columns[order], cross.data[..., order]
    patterns, entries = {}, {}
    for j in chain:
        patterns[j], entries[j] = _dense_rows(gram, j, offsets, sizes)
    moves = {
        (j, m): _moves(patterns[j], patterns[m], parents[j, m], n_dense)
        for j, m in combinations(chain, 2)
    }
    block = _dense_block(gram, offsets, n_dense)
    return Plan(
        chain, dense, sizes, offsets, n_dense, parents, links, patterns, entries, moves, block
    )


def oriented(gram: Gram, s: int, t: int) -> Cross:
    """Z_s'Z_t for s and t in any order."""
    if (s, t) in gram.cross:
        return gram.cross[s, t]
    c = gram.cross[t, s]
    return Cross(c.columns, c.rows, c.data.swapaxes(0, 1))


def is_nested(gram: Gram, s: int, t: int) -> bool:
    """Whether every level of s lies within one level of t."""
    return len(oriented(gram, s, t).rows) == gram.factors[s].n_levels


def meeting(gram: Gram, s: int, t: int) -> tuple[str, int, int]:
    """How two factors meet, how many pairs of levels occur, and how many could.

    "alike" (the same groups), "nested" (s in t), "around" (t in s), "crossed" or "partly crossed".
    """
    pairs = len(oriented(gram, s, t).rows)
    possible = gram.factors[s].n_levels * gram.factors[t].n_levels
    inner, outer = is_nested(gram, s, t), is_nested(gram, t, s)
    if inner or outer:
        return "alike" if inner and outer else "nested" if inner else "around", pairs, possible
    return ("crossed" if pairs == possible else "partly crossed"), pairs, possible


def _best_chain(gram: Gram, sizes) -> tuple[int, ...]:
    by_size = sorted(range(len(sizes)), key=lambda t: -sizes[t][0] * sizes[t][1])
    chains = [_chain_from(gram, first, by_size) for first in by_size]
    return max(chains, key=lambda chain: sum(sizes[t][0] * sizes[t][1] for t in chain))


def _chain_from(gram: Gram, first: int, by_size: list[int]) -> tuple[int, ...]:
    chain = [first]
    for t in by_size:
        if t not in chain and all(is_nested(gram, j, t) for j in chain):
            chain.append(t)
    return tuple(chain)


def _dense_rows(gram: Gram, j: int, offsets, sizes) -> tuple[Pattern, np.ndarray]:
    k, q = sizes[j]
    rows = [np.zeros(0, int)]
    columns, data = [np.zeros(0, int)], [np.zeros((k, 0))]
    for t, offset in offsets.items():
        cross, k_t = oriented(gram, j, t), sizes[t][0]
        for b in range(k_t):
            rows.append(cross.rows)
            columns.append(offset + cross.columns * k_t + b)
            data.append(cross.data[:, b])
    level, column = np.concatenate(rows), np.concatenate(columns)
    key = level * np.int64(column.max(initial=0) + 1) + column
    order = np.argsort(key, kind="stable")  # quick: mostly in order
    indptr = np.concatenate([[0], np.cumsum(np.bincount(level, minlength=q))])
    pattern = Pattern(*(part.astype(np.int32) for part in (indptr, column[order], level[order])))
    return pattern, np.ascontiguousarray(np.hstack(data)[:, order])


def _moves(fine: Pattern, coarse: Pattern, parent: np.ndarray, n_dense: int) -> np.ndarray:
    """For each entry (l, c) of the finer factor, the entry (parent of l, c) of the coarser."""
    keys = coarse.rows * np.int64(n_dense) + coarse.columns
    return np.searchsorted(keys, parent[fine.rows] * np.int64(n_dense) + fine.columns)


def _dense_block(gram: Gram, offsets: dict[int, int], n_dense: int) -> tuple:
    """The cells of Z_d'Z_d on and below the diagonal that are not zero, numbered by row."""
    rows, columns, values = [], [], []
    for t, offset in offsets.items():
        f = gram.factors[t]
        at = offset + np.arange(f.n_levels) * f.k
        for a in range(f.k):
            for b in range(a + 1):
                rows.append(at + a)
                columns.append(at + b)
                values.append(f.zz[a, b])
    for s, t in combinations(offsets, 2):  # s stands before t
        cross, k_s, k_t = oriented(gram, s, t), gram.factors[s].k, gram.factors[t].k
        for a in range(k_s):
            for b in range(k_t):
                rows.append(offsets[t] + cross.columns * k_t + b)
                columns.append(offsets[s] + cross.rows * k_s + a)
                values.append(cross.data[a, b])
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0)
    cells = np.concatenate(rows).astype(np.int64) * n_dense + np.concatenate(columns)
    return cells, np.concatenate(values)
