"""Where in a table everything stands: names and positions of a specification -> a Layout.

`find_layout` knows the names of the columns, never a row.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from sklme._terms import read_reference, show


@dataclass(frozen=True)
class Layout:
    """Where in the table everything stands; ``numbers`` are the columns read as float64.

    Attributes
    ----------
    numbers : tuple of int
        Positions: the fixed columns first, then slopes and offset that are not fixed.
    fixed_names : tuple of str
        Names of the fixed columns, "x0", "x1", ... for tables without names.
    slopes : tuple of tuple of (int or None)
        Per term, indices into `numbers`; None is the intercept.
    offset : int or None
        Index into `numbers`.
    keys : tuple of int
        Positions of the key columns, each once.
    ignored : tuple of int
        Positions of columns that are checked and not used.
    factors : tuple of tuple of int
        Per term, indices into `keys`.
    plain : bool
        Whether X is all fixed columns, no more.
    trials : int or None
        Index into `numbers`.
    zeros : tuple of int
        Indices into `numbers` of the columns of a model of extra zeros.
    """

    numbers: tuple
    fixed_names: tuple
    slopes: tuple
    offset: int | None
    keys: tuple
    ignored: tuple
    factors: tuple
    plain: bool
    trials: int | None = None
    zeros: tuple = ()


@dataclass(frozen=True)
class ColumnFinder:
    """Finds columns by name or position."""

    names: list | None
    width: int

    @classmethod
    def of(cls, estimator):
        names = getattr(estimator, "feature_names_in_", None)
        return cls(None if names is None else names.tolist(), estimator.n_features_in_)

    def __call__(self, column, who):
        """Position of a column, counted from 0."""
        if isinstance(column, str):
            return self._named(column, who)
        column = read_reference(column, who)
        if not -self.width <= column < self.width:
            raise ValueError(
                f"{who} names the position {column}, but X has n_features={self.width}: "
                f"positions go from 0 to {self.width - 1}, or from -{self.width} to -1"
            )
        return column % self.width

    def _named(self, column, who):
        if self.names is None:
            raise ValueError(
                f"{who} names {show(column)}, but X has no column names: write positions from 0 "
                f"to {self.width - 1}, or pass a DataFrame"
            )
        count = self.names.count(column)
        if count == 0:
            close = get_close_matches(column, self.names, n=1)
            hint = f"; did you mean {show(close[0])}?" if close else ""
            raise ValueError(
                f"{who} names {show(column)}, which is not a column of X; X has "
                f"{self._some_names()}{hint}"
            )
        if count > 1:
            raise ValueError(f"{who} names {show(column)}, but X has {count} columns of that name")
        return self.names.index(column)

    def _some_names(self, most=20):
        names = str(self.names[:most])
        return names if self.width <= most else f"{names[:-1]}, ...] ({self.width} columns)"

    def name(self, j):
        """Name of a column as ``fixed_names_`` has it."""
        return f"x{j}" if self.names is None else self.names[j]


def find_layout(find, terms, ignored, fixed_effects, offset, trials=None, zeros=()):
    factors = [tuple(find(c, "random_effects") for c in term.columns) for term in terms]
    ignored = tuple(find(c, "random_effects") for c in ignored)
    _refuse_aliases(find, terms, factors, ignored)
    keys = tuple(dict.fromkeys(j for factor in factors for j in factor))
    at_offset = _find_special(find, "offset", offset, (*keys, *ignored))
    at_trials = _find_special(find, "trials", trials, (*keys, *ignored))
    at_zeros = _find_zeros(find, zeros, ignored)
    unfree = {*keys, *ignored, at_offset, at_trials}
    if fixed_effects is None:
        fixed = tuple(j for j in range(find.width) if j not in unfree)
    else:
        fixed = _listed_fixed_effects(find, fixed_effects, ignored)
    slopes = [_find_slopes(find, *pair, ignored) for pair in zip(terms, factors, strict=True)]
    others = [j for at in slopes for j in at if j is not None]
    others += [j for j in (at_offset, at_trials, *at_zeros) if j is not None]
    numbers = tuple(dict.fromkeys((*fixed, *others)))
    index = {j: i for i, j in enumerate(numbers)} | {None: None}
    return Layout(
        numbers=numbers,
        fixed_names=tuple(find.name(j) for j in fixed),
        slopes=tuple(tuple(index[j] for j in at) for at in slopes),
        offset=index[at_offset],
        keys=keys,
        ignored=tuple(j for j in ignored if j not in keys),
        factors=tuple(tuple(keys.index(j) for j in factor) for factor in factors),
        plain=False,
        trials=index[at_trials],
        zeros=tuple(index[j] for j in at_zeros),
    )


def _find_special(find, who, column, ids):
    """Position of the offset or the trials, None where there is none."""
    at = None if column is None else find(column, who)
    if at in ids:
        raise ValueError(f"{who} names {show(column)}, which random_effects uses as ids")
    return at


def _find_zeros(find, columns, ignored):
    at = tuple(find(column, "zero_inflation") for column in columns)
    for i, (column, j) in enumerate(zip(columns, at, strict=True)):
        if j in at[:i]:
            raise ValueError(f"zero_inflation names the column {show(column)} twice")
        if j in ignored:
            raise ValueError(
                f"zero_inflation names {show(column)}, which random_effects leaves out by []"
            )
    return at


def _refuse_aliases(find, terms, factors, ignored):
    """Positions such as 0 and -2 may be one column; by name `parse_terms` has seen it."""
    single = [factor for factor in factors if len(factor) == 1]
    named = [*map(frozenset, factors), *(frozenset([j]) for j in ignored if (j,) in single)]
    twice = [f for f in named if named.count(f) > 1] + [f for f in factors if len({*f}) < len(f)]
    if twice or len(set(ignored)) < len(ignored):
        keys = ", ".join(show(term.key) for term in terms)
        raise ValueError(
            f"random_effects names one column of X twice (keys {keys}): negative positions count "
            f"from the end, X has n_features={find.width}"
        )


def _find_slopes(find, term, factor, ignored):
    at = tuple(None if s is None else find(s, "random_effects") for s in term.slopes)
    who = f"random_effects: the term list of {show(term.key)}"
    if len(set(at)) < len(at):
        raise ValueError(f"{who} names one column of X (n_features={find.width}) twice")
    for slope, j in zip(term.slopes, at, strict=True):
        if j in factor:
            raise ValueError(f"{who} holds {show(slope)}, which is constant within its levels")
        if j in ignored:
            raise ValueError(f"{who} holds {show(slope)}, which random_effects leaves out by []")
    if len(at) > 1 and None in at and find.names is not None and "1" in find.names:
        raise ValueError(f'{who} holds "1", the intercept, but X has a column "1": rename it')
    return at


def _listed_fixed_effects(find, fixed_effects, ignored):
    if not isinstance(fixed_effects, list | tuple):
        raise ValueError(
            f"fixed_effects is {fixed_effects!r}; it must be a list of columns such as "
            '["age", "dose"], or None for all that are not keys or offset'
        )
    fixed = tuple(find(column, "fixed_effects") for column in fixed_effects)
    for i, (column, j) in enumerate(zip(fixed_effects, fixed, strict=True)):
        if j in fixed[:i]:
            raise ValueError(f"fixed_effects names the column {show(column)} twice")
        if j in ignored:
            raise ValueError(
                f"fixed_effects names {show(column)}, which random_effects leaves out by []"
            )
    return fixed
