"""The posterior variance z'Phi z of the random part of every row of the fit.

Only entries of Phi between levels that meet in a row are needed (`selected.posterior_entries`);
where each row finds its entries is looked up once.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sklme._engine.elimination import Pattern, Plan
from sklme._engine.selected import PosteriorEntries
from sklme._engine.sweep import Factorisation
from sklme._engine.weighted import Grouping


class Leverage:
    """The rows of a design, ready for any factorisation on its plan."""

    def __init__(self, groupings: tuple[Grouping, ...], plan: Plan):
        self.groupings, self.plan = groupings, plan
        self.dense = [
            _Column(g.z[a] if g.z is not None else None, plan.offsets[t] + g.codes * g.k + a)
            for t in plan.dense
            for g in (groupings[t],)
            for a in range(g.k)
        ]
        self.places = {
            j: [
                _places(plan.patterns[j], groupings[j].codes, c.at, plan.n_dense)
                for c in self.dense
            ]
            for j in plan.chain
        }

    def __call__(self, at: Factorisation, Phi: PosteriorEntries) -> np.ndarray:
        """(n,) z'Phi z from the entries of Phi at a factorisation."""
        if len(self.groupings) == 1:
            return _quadratic(self.groupings[0], Phi.diagonal[0])
        out = sum(_quadratic(self.groupings[j], Phi.diagonal[j]) for j in self.plan.chain)
        out = out + 2.0 * self._between_chain(Phi)
        if self.dense:
            out = out + 2.0 * self._on_border(Phi) + self._within_dense(at.Phi)
        return out

    def _between_chain(self, Phi: PosteriorEntries):
        total = np.zeros(())
        for j, m in combinations(self.plan.chain, 2):
            f, g = self.groupings[j], self.groupings[m]
            part = Phi.across[j, m][:, :, f.codes]
            total = total + np.einsum("an,abn,bn->n", f.values(), part, g.values())
        return total

    def _on_border(self, Phi: PosteriorEntries):
        total = np.zeros(())
        for j in self.plan.chain:
            z = self.groupings[j].z
            for column, place in zip(self.dense, self.places[j], strict=True):
                part = Phi.border[j][:, place]
                row = part[0] if z is None else np.einsum("an,an->n", z, part)
                total = total + column.times(row)
        return total

    def _within_dense(self, Phi: np.ndarray):
        total = sum(c.times(c.times(Phi[c.at, c.at])) for c in self.dense)
        for a, b in combinations(self.dense, 2):
            total = total + 2.0 * a.times(b.times(Phi[a.at, b.at]))
        return total


@dataclass(frozen=True)
class _Column:
    """One coefficient of a dense factor: its value in each row and its column of the block."""

    z: np.ndarray | None
    at: np.ndarray

    def times(self, row: np.ndarray) -> np.ndarray:
        return row if self.z is None else self.z * row


def _quadratic(g: Grouping, Phi: np.ndarray) -> np.ndarray:
    """z'Phi z with the (k, k, q) block of the level of each row."""
    if g.z is None:
        return Phi[0, 0][g.codes]
    out = np.zeros(len(g.codes))
    for a in range(g.k):
        out += g.z[a] ** 2 * Phi[a, a][g.codes]
        for b in range(a):
            out += 2.0 * g.z[a] * g.z[b] * Phi[a, b][g.codes]
    return out


def _places(pattern: Pattern, level: np.ndarray, column: np.ndarray, n_dense: int) -> np.ndarray:
    """Where the entries (level, column) stand in a pattern that is sorted by row and column."""
    keys = pattern.rows * np.int64(n_dense) + pattern.columns
    return np.searchsorted(keys, level * np.int64(n_dense) + column)
