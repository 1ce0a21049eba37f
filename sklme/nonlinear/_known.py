"""What is known of the random effects of some groups, and how it serves the rows of a table."""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.conditional import Conditional, condition
from sklme._ids import LevelTable, quote
from sklme.nonlinear._start import assemble


@dataclass(frozen=True, eq=False)
class Population:
    """What all groups have in common."""

    beta: np.ndarray
    between: np.ndarray  # covariance of the group's effects, (E, E)
    within: np.ndarray  # of those of an occasion, (K, K)
    sigma: np.ndarray

    def parameters(self, n_occasions):
        """As the engine takes them for a design."""
        return assemble(self.beta, self.between, self.within, self.sigma, n_occasions)


@dataclass(frozen=True, eq=False)
class Known:
    """Modes eta (N, Q) and covariances of the effects of groups and their occasions.

    table, occasions : their levels; pairs : (group, occasion, rank) of each occasion
    """

    table: LevelTable | None
    occasions: LevelTable | None
    pairs: np.ndarray | None
    population: Population
    conditional: Conditional

    @property
    def between(self):
        """Modes of the groups' effects, (N, E)."""
        return self.conditional.eta[:, : len(self.population.between)]

    @property
    def within(self):
        """Modes of the occasions' effects, a row for each of `pairs`."""
        E, K = len(self.population.between), len(self.population.within)
        group, _, rank = self.pairs
        return self.conditional.eta[group[:, None], E + rank[:, None] * K + np.arange(K)]

    def place(self, design):
        """Mean (N', Q') and covariance of the effects of a design; unknown ones as in the prior."""
        of, places = self._places(design)
        prior = self.population.parameters(design.n_occasions).Omega
        have = places >= 0
        eta, covariance = self.conditional.eta, self.conditional.covariance
        if not eta.shape[1]:
            return np.zeros(places.shape), np.tile(prior, (len(of), 1, 1))
        mean = np.where(have, eta[of[:, None], places], 0.0)
        known = covariance[of[:, None, None], places[:, :, None], places[:, None]]
        both = have[:, :, None] & have[:, None]
        neither = ~have[:, :, None] & ~have[:, None]
        return mean, np.where(both, known, np.where(neither, prior, 0.0))

    def unknown(self, groups):
        """Codes of the groups of a table that are not known."""
        return np.flatnonzero(groups.known(self.table) < 0)

    def _places(self, design):
        """For each group of a design its number here, and where its effects are; -1: nowhere."""
        E, K = len(self.population.between), len(self.population.within)
        of = design.groups.known(self.table)
        places = np.full((len(of), E + design.n_occasions * K), -1)
        places[:, :E] = np.where(of[:, None] >= 0, np.arange(E), -1)
        if design.pairs is not None and K:
            here = {(g, o): r for g, o, r in self.pairs.T.tolist()}
            occasion = design.rows.occasions.known(self.occasions)
            for g, o, r in design.pairs.T.tolist():
                found = here.get((of[g], occasion[o]))
                if found is not None:
                    places[g, E + r * K + np.arange(K)] = E + found * K + np.arange(K)
        return of, places


def learn_effects(design, population, method, start=None, thorough=True):
    """The effects of the groups of a design, given its rows; `thorough`: look for further modes."""
    parameters, options = population.parameters(design.n_occasions), {"thorough": thorough}
    found = condition(design.data(), parameters, method, start=start, **options)
    occasions = design.rows.occasions
    return Known(
        design.groups.table,
        None if occasions is None else occasions.table,
        design.pairs,
        population,
        found,
    )


def refuse_unknown(known, groups):
    """Groups that are not known, in a sentence."""
    unknown = known.unknown(groups)
    if len(unknown):
        row = int(np.flatnonzero(groups.codes == unknown[0])[0])
        some = ", ".join(quote(groups.labels[i]) for i in unknown[:5])
        raise ValueError(
            f"column {groups.name!r} has groups that fit has not seen, {some}"
            f"{', ...' if len(unknown) > 5 else ''}; the first is in row {row} "
            '(handle_unknown="population" predicts them without their random effects)'
        )


def roots(covariance):
    """A with A A' = covariance, for stacks of semidefinite matrices."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
