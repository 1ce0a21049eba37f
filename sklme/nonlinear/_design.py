"""Rows of a table -> the padded arrays of the engine, and back."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import natural
from sklme.nonlinear._table import Groups
from sklme.nonlinear.parameters import LINKS


@dataclass(frozen=True, eq=False)
class Layout:
    """What fit has learned of the table and the model.

    parameters : dict of name to Parameter; effects : the entries of beta
    learned : the covariates; specification : of the structure
    group, occasion, censored : positions in X, or None
    random, varying : numbers of the parameters with an effect of the group, of the occasion
    """

    parameters: dict
    effects: tuple
    learned: tuple
    specification: object
    group: int | None
    occasion: int | None
    censored: int | None
    random: tuple
    varying: tuple
    error: str

    @property
    def names(self):
        """Of the parameters."""
        return list(self.parameters)

    @property
    def links(self):
        """How the engine calls the transforms."""
        return tuple(LINKS[p.transform] for p in self.parameters.values())


@dataclass(frozen=True, eq=False)
class Rows:
    """What a model needs of the rows of a table.

    columns (n, n_columns) : those that the structure reads; covariates (n, P - q) of the design
    """

    groups: Groups
    columns: np.ndarray
    covariates: np.ndarray
    occasions: Groups | None
    censored: np.ndarray | None
    y: np.ndarray | None

    def joined(self, other):
        """These rows and those of another table."""
        both = lambda a, b: None if a is None else np.concatenate([a, b])
        return Rows(
            self.groups.joined(other.groups),
            both(self.columns, other.columns),
            both(self.covariates, other.covariates),
            None if self.occasions is None else self.occasions.joined(other.occasions),
            both(self.censored, other.censored),
            both(self.y, other.y),
        )

    def take(self, rows):
        """Some rows alone."""
        pick = lambda a: None if a is None else a[rows]
        return Rows(
            self.groups.take(rows),
            self.columns[rows],
            self.covariates[rows],
            None if self.occasions is None else self.occasions.take(rows),
            pick(self.censored),
            pick(self.y),
        )


def read_rows(layout, table, y=None, groups=None):
    """The rows of a table by what fit has learned; those without y need not say if censored."""
    groups = Groups.read(table, layout.group) if groups is None else groups
    structure, occasions, censored = layout.specification, None, None
    columns = [table.number(at, structure.what, groups) for at in structure.columns]
    covariates = [one.columns(table, groups) for one in layout.learned]
    n = table.shape[0]
    if layout.occasion is not None:
        occasions = Groups.read(table, layout.occasion)
    if layout.censored is not None and y is not None:
        censored = table.flag(layout.censored, groups)
    return Rows(
        groups,
        np.stack(columns, axis=1) if columns else np.empty((n, 0)),
        np.concatenate(covariates, axis=1) if covariates else np.empty((n, 0)),
        occasions,
        censored,
        y,
    )


class Design:
    """Rows as the engine takes them.

    C (N, m, q, P), B (N, m, q, Q) : phi = C beta + B (eta, kappa), where kappa has the effects of
        the first occasion of a subject, then those of its second, ...
    pairs : (subject, occasion, rank) of each occasion that occurs, or None
    """

    def __init__(self, layout, rows, dosing):
        self.layout, self.rows, self.groups = layout, rows, rows.groups
        index, mask = self.groups.index, self.groups.mask
        self.pairs, rank, self.n_occasions = _occasions(rows)
        padded = rows.covariates[index]
        varies = (padded != padded[:, :1]).any() or self.n_occasions > 1
        m = mask.shape[1] if varies else 1
        self.C = _fixed(layout, padded[:, :m])
        rank = None if rank is None else rank[index][:, :m]
        self.B = _random(layout, rank, self.n_occasions, (len(mask), m))
        self.structure = layout.specification.bind(rows.columns[index], self.groups, mask, dosing)

    def data(self, error=None):
        """The record of the engine; without y, that of predictions alone."""
        index, mask, rows = self.groups.index, self.groups.mask, self.rows
        error = error or ("additive" if rows.y is None else self.layout.error)
        return Data(
            self.structure,
            np.ones(mask.shape) if rows.y is None else rows.y[index],
            mask,
            self.C,
            self.B,
            self.layout.links,
            (error,),
            censored=None if rows.censored is None else rows.censored[index] & mask,
        )

    def natural(self, beta, eta):
        """psi (..., N, m, q) at eta (..., N, Q)."""
        return self.natural_of(self.C @ beta + (self.B @ eta[..., :, None, :, None])[..., 0])

    def natural_of(self, phi):
        """psi of phi."""
        return natural(phi, self.layout.links)[0]

    def predict(self, beta, eta):
        """The structure at each row, (..., n)."""
        return self.to_rows(self.structure(self.natural(beta, eta)))

    def to_rows(self, padded):
        """(..., N, n_max) -> (..., n), in the order of the table."""
        return padded[..., self.groups.codes, self.groups.place]

    @cached_property
    def first_rows(self):
        """The first row of each group, or of each occasion of each group."""
        if self.pairs is None:
            return np.array([rows[0] for rows in self.groups.rows])
        key = np.stack([self.groups.codes, self.rows.occasions.codes])
        return np.unique(key, axis=1, return_index=True)[1]


def _occasions(rows):
    """(subject, occasion, rank) of each pair, the rank of each row, the most of a subject."""
    if rows.occasions is None:
        return None, None, 0
    key = np.stack([rows.groups.codes, rows.occasions.codes])
    pairs, which = np.unique(key, axis=1, return_inverse=True)
    first = np.searchsorted(pairs[0], pairs[0])
    rank = np.arange(pairs.shape[1]) - first
    return np.vstack([pairs, rank]), rank[which.ravel()], int(rank.max()) + 1


def _fixed(layout, covariates):
    N, m, _ = covariates.shape
    q, P = len(layout.parameters), len(layout.effects)
    C = np.zeros((N, m, q, P))
    C[:, :, np.arange(q), np.arange(q)] = 1.0
    for p, effect in enumerate(layout.effects[q:]):
        C[:, :, effect.parameter, q + p] = covariates[:, :, p]
    return C


def _random(layout, rank, n_occasions, shape):
    between, within, q = layout.random, layout.varying, len(layout.parameters)
    B = np.zeros((*shape, q, len(between) + n_occasions * len(within)))
    B[:, :, between, range(len(between))] = 1.0
    for r in range(n_occasions):
        at = len(between) + r * len(within) + np.arange(len(within))
        B[:, :, list(within), at] = (rank == r)[:, :, None]
    return B
