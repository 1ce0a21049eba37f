"""``random_effects`` and ``covariance_type`` as the user writes them -> a tuple of RandomTerm.

Read before any data is seen; `sklme._layout` then finds the columns in a table.
"""

from dataclasses import dataclass
from numbers import Integral

COVARIANCE_TYPES = ("full", "diagonal", "spherical")

FORMS = (
    'it may be None, a column "site", a list of crossed factors ["subject", "item"], '
    'a combination ("classroom", "child") or a dict {"subject": ["1", "day"]}'
)


@dataclass(frozen=True)
class RandomTerm:
    """One grouping factor: its columns, its random coefficients and their covariance.

    Attributes
    ----------
    key : str, int or tuple
        As the user wrote it; the name of the factor in fitted dicts.
    columns : tuple of str or int
        Names or positions that together form the factor.
    slopes : tuple of (str, int or None)
        One entry per random coefficient; None is the intercept.
    blocks : tuple of tuple of int
        Positions in `slopes` that covary: ``((0, 1),)`` is full, ``((0,), (1,))`` diagonal.
    spherical : bool
        Whether one variance serves all coefficients.
    """

    key: str | int | tuple
    columns: tuple
    slopes: tuple
    blocks: tuple[tuple[int, ...], ...]
    spherical: bool

    @property
    def names(self):
        """Names of the random coefficients, ``"(Intercept)"`` for the intercept."""
        return tuple("(Intercept)" if s is None else str(s) for s in self.slopes)


def factor_label(key):
    """A factor in texts and tables: combinations with colons, as R prints them."""
    return ":".join(map(str, key)) if isinstance(key, tuple) else str(key)


def parse_terms(random_effects, covariance_type="full"):
    """Read a specification of random effects.

    Parameters
    ----------
    random_effects : None, str, int, list, tuple or dict
        See `LinearMixedModel`.
    covariance_type : {"full", "diagonal", "spherical"} or dict, default="full"
        For all factors, or factor -> one of these or a list of blocks such as
        ``[["1"], ["a", "b"]]``; factors that the dict does not name are full.

    Returns
    -------
    terms : tuple of RandomTerm
        One per factor, in the order given.
    ignored : tuple of str or int
        Columns of factors without terms, ``{"site": []}``: neither random nor fixed.

    Raises
    ------
    ValueError
        If a specification has no or more than one meaning.

    Examples
    --------
    >>> terms, ignored = parse_terms({"subject": ["1", "day"], "site": []})
    >>> terms[0].names, terms[0].blocks, ignored
    (('(Intercept)', 'day'), ((0, 1),), ('site',))
    """
    factors = [(_factor_key(key), slopes) for key, slopes in _items(random_effects)]
    _refuse_repeated_factors([key for key, _ in factors])
    by_name = _speaks_names(factors)
    read = [(key, _slopes(key, slopes, by_name)) for key, slopes in factors]
    blocks_of = _covariances(covariance_type, read)
    terms = tuple(
        RandomTerm(key, columns_of(key), slopes, *blocks_of(key, slopes))
        for key, slopes in read
        if slopes
    )
    return terms, _ignored_columns(read, terms)


def columns_of(key):
    """Columns that form the factor `key`."""
    return key if isinstance(key, tuple) else (key,)


def show(value):
    """Value as an error message quotes it: text in double quotes, tuples in parentheses."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(show(v) for v in value)})"
    return repr(value)


def _items(random_effects):
    """Pairs (key, list of slopes) of any accepted form."""
    if random_effects is None:
        return []
    if isinstance(random_effects, dict):
        if not random_effects:
            raise ValueError("random_effects is an empty dict: write None for no random effects")
        return list(random_effects.items())
    if isinstance(random_effects, list):
        if not random_effects:
            raise ValueError("random_effects is an empty list: write None for no random effects")
        return [(key, ["1"]) for key in random_effects]
    if isinstance(random_effects, set | frozenset):
        raise ValueError(
            "random_effects is a set, which has no order: write a list for crossed factors "
            '["a", "b"] or a tuple for their combination ("a", "b")'
        )
    return [(random_effects, ["1"])]


def _factor_key(key):
    """Key with plain Python names and positions; a tuple of one column is that column."""
    if not isinstance(key, tuple):
        return read_reference(key, "random_effects")
    if not key:
        raise ValueError("random_effects has an empty tuple: a combination needs columns")
    columns = tuple(read_reference(column, f"the combination {show(key)}") for column in key)
    if len(set(columns)) < len(columns):
        raise ValueError(f"random_effects: the combination {show(key)} names a column twice")
    return columns if len(columns) > 1 else columns[0]


def read_reference(value, where):
    """Column as str or int."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral) and not _is_bool(value):
        return int(value)
    if where == "random_effects":
        raise ValueError(f"random_effects cannot be read at {value!r}: {FORMS}")
    raise ValueError(f"{where} holds {value!r}: columns are names (str) or positions (int)")


def _is_bool(value):
    return type(value).__name__ in ("bool", "bool_")


def _refuse_repeated_factors(keys):
    seen = {}
    for key in keys:
        columns = frozenset(columns_of(key))
        if columns in seen:
            raise ValueError(
                f"random_effects names one factor twice, {show(seen[columns])} and {show(key)}: "
                f'put its terms into one dict entry such as {{{show(key)}: ["1", "slope"]}}'
            )
        seen[columns] = key


def _speaks_names(factors):
    """Whether the keys are names (True) or positions (False); a mixture is refused."""
    columns = [column for key, _ in factors for column in columns_of(key)]
    names = [c for c in columns if isinstance(c, str)]
    if names and len(names) < len(columns):
        position = next(c for c in columns if not isinstance(c, str))
        raise ValueError(
            f"random_effects mixes names ({show(names[0])}) and positions ({position}): "
            "use names only or positions only"
        )
    return bool(names)


def _slopes(key, slopes, by_name):
    """Random coefficients of one factor, None for the intercept."""
    if not isinstance(slopes, list):
        raise ValueError(
            f"random_effects: the terms of {show(key)} are {slopes!r}; they must be a list: "
            '["1"] is an intercept, ["1", "day"] intercept and slope, [] ignores the column'
        )
    read = tuple(_slope(key, slope, by_name) for slope in slopes)
    for i, slope in enumerate(read):
        if slope in read[:i]:
            twice = show("1" if slope is None else slope)
            raise ValueError(f"random_effects: {show(key)} has the term {twice} twice")
    return read


def _slope(key, slope, by_name):
    if isinstance(slope, str) and slope == "1":
        return None
    where = f"random_effects: the term list of {show(key)}"
    if slope is None or isinstance(slope, tuple | list):
        raise ValueError(f'{where} holds {slope!r}: write "1" for the intercept, or one column')
    slope = read_reference(slope, where)
    if by_name and isinstance(slope, int):
        raise ValueError(
            f"{where} holds the integer {slope}, which would be a position although the key is "
            'a name: write "1" for the intercept, names for slopes'
        )
    if not by_name and isinstance(slope, str):
        raise ValueError(
            f"{where} holds the name {show(slope)} although the key is a position: "
            'write positions for slopes, "1" for the intercept'
        )
    return slope


def _ignored_columns(read, terms):
    """Columns of factors without terms, unless another factor is made of them."""
    keys = {column for term in terms for column in term.columns}
    columns = [c for key, slopes in read if not slopes for c in columns_of(key) if c not in keys]
    return tuple(dict.fromkeys(columns))


def _covariances(covariance_type, read):
    """Function (key, slopes) -> (blocks, spherical)."""
    if not isinstance(covariance_type, dict):
        return lambda key, slopes: _blocks(covariance_type, key, slopes)
    factors = {frozenset(columns_of(key)): key for key, _ in read}
    chosen = {}
    for given, kind in covariance_type.items():
        columns = frozenset(given) if isinstance(given, tuple) else frozenset([given])
        if columns not in factors:
            known = ", ".join(show(key) for key in factors.values()) or "none"
            raise ValueError(
                f"covariance_type names the factor {show(given)}, which random_effects does not "
                f"have; its factors: {known}"
            )
        if columns in chosen:
            raise ValueError(f"covariance_type names the factor {show(given)} twice")
        chosen[columns] = kind
    return lambda key, slopes: _blocks(chosen.get(frozenset(columns_of(key)), "full"), key, slopes)


def _blocks(kind, key, slopes):
    """Blocks of positions in `slopes`, and whether one variance serves all."""
    each = tuple((i,) for i in range(len(slopes)))
    if isinstance(kind, list):
        return _listed_blocks(kind, key, slopes), False
    if not isinstance(kind, str) or kind not in COVARIANCE_TYPES:
        raise ValueError(
            f'covariance_type is {kind!r} for {show(key)}; it may be "full", "diagonal", '
            '"spherical" or, in a dict, a list of blocks such as [["1"], ["a", "b"]]'
        )
    if kind == "full":
        return (tuple(range(len(slopes))),), False
    return each, kind == "spherical"


def _listed_blocks(blocks, key, slopes):
    if not all(isinstance(block, list) and block for block in blocks):
        raise ValueError(
            f"covariance_type of {show(key)} is {blocks!r}; blocks are lists of terms "
            'such as [["1"], ["a", "b"]]'
        )
    named = [[_same_term(name, slopes) for name in block] for block in blocks]
    if sorted(i for block in named for i in block) != list(range(len(slopes))):
        terms = ["1" if s is None else s for s in slopes]
        raise ValueError(
            f"covariance_type of {show(key)} has the blocks {blocks!r}; together they must hold "
            f"each of the terms {terms} once"
        )
    return tuple(sorted(tuple(sorted(block)) for block in named))


def _same_term(name, slopes):
    """Position of the term `name` in `slopes`, -1 if there is none ("1" is not 1)."""
    for i, slope in enumerate(slopes):
        term = "1" if slope is None else slope
        if isinstance(name, str) == isinstance(term, str) and name == term:
            return i
    return -1
