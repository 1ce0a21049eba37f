"""Terms of the fixed effects, and the hypotheses that an analysis of variance tests of them.

A column "a2:b3" is the product of the columns "a2" and "b3"; that, and the cross-products kept by
the fit (of a generalised model: weighted), are all that is known of a term.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sklme._engine.units import coefficient_map

BRACKETS = re.compile(r"\[[^\[\]]*\]")  # "recipe[T.B]" is a column of the term "recipe"
COLON = re.compile(r":(?![^\[]*\])")  # outside of brackets
ROUNDING = 1e-8


@dataclass(frozen=True)
class Term:
    """Some columns that are tested together.

    columns : positions among the coefficients; parts : the terms whose product it is
    """

    name: str
    columns: tuple[int, ...]
    parts: tuple[str, ...]


class Hypotheses:
    """What is tested of each term of a fitted model: a matrix L with a row a column."""

    def __init__(self, fitted, terms=None):
        self.fitted = fitted
        self.guessed = terms is None
        chosen = _terms_by_name(fitted) if terms is None else terms
        self.terms = _read_terms(chosen, fitted.names)
        self._by_name = {term.name: term for term in self.terms}

    def of(self, term: Term, kind: str) -> np.ndarray:
        """L of a term by sums of squares of type "I", "II" or "III"; dropped columns left out."""
        if kind == "I":
            return self._after_others(term, self.terms[self.terms.index(term) + 1 :])
        holders = [other for other in self.terms if self._holds(other, term)]
        if kind == "II":
            return self._after_others(term, holders)
        return self._averaged(term, holders)

    def _averaged(self, term: Term, holders: list[Term]) -> np.ndarray:
        """The columns of the term, averaged over the levels of the factors that it meets."""
        L = np.zeros((len(term.columns), len(self.fitted.names)))
        for row, column in zip(L, term.columns, strict=True):
            row[column] = 1.0
            for holder in holders:
                self._add_average(row, self._pieces[column], holder)
        return L[self.fitted.kept[list(term.columns)]]

    def _add_average(self, row: np.ndarray, own: frozenset, holder: Term) -> None:
        """The average of a dummy over levels of equal weight is 1 / n_levels."""
        for other in holder.columns:
            if not own < self._pieces[other]:
                continue
            if not self.fitted.kept[other]:
                raise ValueError(
                    f'kind="III" is not defined: the column {self.fitted.names[other]!r} was '
                    'dropped, so that a combination of levels has no mean; use kind="II"'
                )
            extra = self._pieces[other] - own
            row[other] = np.prod([1.0 / self._n_levels(piece) for piece in extra])

    def _after_others(self, term: Term, last: list[Term]) -> np.ndarray:
        """The term after all columns but those of the terms `last`.

        With X'X (or the information) = U'DU, U unit upper triangular, row j of U beta is what the
        column j adds to those before it.
        """
        late = [c for t in (term, *last) for c in t.columns]
        order = [i for i in range(len(self.fitted.names)) if i not in late] + late
        order = [i for i in order if self.fitted.kept[i]]
        root = np.linalg.cholesky(self._inner[np.ix_(order, order)])
        U = np.zeros((len(order), len(self.fitted.names)))
        U[:, order] = (root / np.diag(root)).T
        kept = self.fitted.kept
        C = coefficient_map(self.fitted.working)
        U[:, kept] = np.linalg.solve(C[kept].T, U[:, kept].T).T  # from the frame to the data
        return U[np.isin(order, term.columns)]

    @cached_property
    def _inner(self) -> np.ndarray:
        """X'X in the frame; for a generalised model the information of the coefficients."""
        working, kept = self.fitted.working, self.fitted.kept
        if not self.fitted.generalized:
            return working.gram.xx
        C, out = coefficient_map(working)[kept], np.zeros((len(kept), len(kept)))
        V = self.fitted.covariance[np.ix_(kept, kept)]
        out[np.ix_(kept, kept)] = C.T @ np.linalg.solve(V, C)
        return out

    def _holds(self, holder: Term, term: Term) -> bool:
        """Whether a term is the other one times factors."""
        extra = set(holder.parts) - set(term.parts)
        return (
            set(term.parts) < set(holder.parts)
            and self._with_intercept()
            and all(self._is_factor(self._by_name[name]) for name in extra)
        )

    def _with_intercept(self) -> bool:
        if not self.fitted.working.intercept:
            raise ValueError(
                'terms that interact are tested by kind="II" and "III" in models with an '
                'intercept only: use kind="I" or `contrast`'
            )
        return True

    @cached_property
    def _pieces(self) -> dict[int, frozenset]:
        """The names of the columns whose product each column is."""
        out = {}
        for term in self.terms:
            for c in term.columns:
                name = self.fitted.names[c]
                out[c] = frozenset(COLON.split(name) if len(term.parts) > 1 else [name])
                if len(term.parts) > 1:
                    self._check_product(term, name, out[c])
        return out

    def _check_product(self, term: Term, name: str, pieces: frozenset) -> None:
        for part in term.parts:
            known = {self.fitted.names[c] for c in self._by_name[part].columns}
            if len(pieces & known) != 1 or len(pieces) != len(term.parts):
                raise ValueError(
                    f"the column {name!r} of the term {term.name!r} is not named as a product of "
                    f'one column of each of its parts, such as "{min(known)}:..."'
                )

    def _n_levels(self, piece: str) -> int:
        """Levels of the factor that a column of dummies belongs to, the base among them."""
        at = self.fitted.names.index(piece)
        term = next(t for t in self.terms if at in t.columns and len(t.parts) == 1)
        if self.guessed and len(term.columns) == 1:
            self._refuse_sisters(term)
        total = sum(self._sums[c] for c in term.columns)
        return len(term.columns) + int(total < (1.0 - ROUNDING) * self.fitted.working.gram.xx[0, 0])

    def _refuse_sisters(self, term: Term) -> None:
        """Dummies of one factor that no one has put together."""
        for other in self.terms:
            pair = Term("", (*term.columns, *other.columns), ("",))
            single = len(other.parts) == len(other.columns) == 1
            if single and other != term and self._is_factor(pair):
                raise ValueError(
                    f"the columns {term.name!r} and {other.name!r} look like levels of one factor "
                    "(no row has both): name the terms, as in terms={'factor': "
                    f"[{term.name!r}, {other.name!r}], ...}}"
                )

    def _is_factor(self, term: Term) -> bool:
        """Whether the columns are 0 or 1 and no row has two of them."""
        at = np.array(term.columns)
        products, sums = self._products[np.ix_(at, at)], self._sums[at]
        return np.allclose(products, np.diag(sums), rtol=ROUNDING, atol=ROUNDING * sums.max())

    @cached_property
    def _sums(self) -> np.ndarray:
        """Sums of the columns over the rows, for a model with an intercept."""
        return self._products[0]

    @cached_property
    def _products(self) -> np.ndarray:
        """X'X of all columns in the units of the data."""
        frame, xx = self.fitted.working.frame, self.fitted.working.gram.xx
        back = np.diag(np.append(1.0, frame.x_scale))
        back[0, 1:] = frame.x_shift
        return back.T @ xx @ back


def _terms_by_name(fitted) -> dict[str, list[str]]:
    """The terms of a formula's columns; any other column is a term of its own."""
    terms: dict[str, list[str]] = {}
    for name in fitted.names[fitted.working.intercept :]:
        terms.setdefault(BRACKETS.sub("", name), []).append(name)
    return terms


def _read_terms(chosen, names: list[str]) -> list[Term]:
    if not isinstance(chosen, Mapping):
        raise TypeError(f"terms is a dict of term name -> columns, not {chosen!r}")
    position = {name: i for i, name in enumerate(names)}
    out, taken = [], {}
    for term, columns in chosen.items():
        columns = [columns] if isinstance(columns, str) else list(columns)
        for column in columns:
            if column not in position:
                known = ", ".join(map(repr, names))
                raise ValueError(f"the term {term!r} names {column!r}; the model has {known}")
            if taken.setdefault(column, term) != term:
                raise ValueError(f"{column!r} is in two terms, {taken[column]!r} and {term!r}")
        parts = tuple(COLON.split(term))
        known_parts = len(parts) > 1 and all(part in chosen for part in parts)
        at = tuple(position[column] for column in columns)
        out.append(Term(term, at, parts if known_parts else (term,)))
    return out
