"""FormulaColumns: the columns of a formula, and what the model must know of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklme._terms import show
from sklme.formula._bars import error, parse_formula
from sklme.formula._formulaic import function_names, make_matrices, read_formulas
from sklme.formula._table import (
    code_levels,
    column_of,
    grouping_columns,
    learn_levels_of,
    read_columns_of,
    refuse_no_names,
)


class FormulaColumns(TransformerMixin, BaseEstimator):
    """Columns of a mixed-model formula: fixed effects, slopes, offset and grouping columns.

    Parameters
    ----------
    formula : str, default=None
        See `from_formula`; its left side is not used.

    Attributes
    ----------
    estimator_params_ : dict
        What the formula asks of the model, in terms of the columns made here: `random_effects`,
        `fixed_effects`, `covariance_type`, `fit_intercept` and `offset`.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen in fit.

    See Also
    --------
    sklme.formula.from_formula : Makes the whole pipeline.

    Examples
    --------
    >>> from sklme.datasets import load_orthodont
    >>> from sklme.formula import FormulaColumns
    >>> X, y = load_orthodont(return_X_y=True)
    >>> columns = FormulaColumns("distance ~ age * Sex + (age | Subject)").fit(X)
    >>> columns.get_feature_names_out().tolist()
    ['age', 'Sex[T.Male]', 'age:Sex[T.Male]', 'Subject']
    >>> columns.estimator_params_["random_effects"]
    {'Subject': ['1', 'age']}
    """

    def __init__(self, formula=None):
        self.formula = formula

    def fit(self, X, y=None):
        """Learn levels, contrasts and what the functions of the formula have to know.

        Parameters
        ----------
        X : dataframe of shape (n_samples, n_columns)
            Has the columns of the formula; others do no harm.
        y : None
            Not used.

        Returns
        -------
        self : FormulaColumns
            The fitted transformer.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        """Learn the columns and make them, in one go.

        Parameters
        ----------
        X : dataframe of shape (n_samples, n_columns)
            Has the columns of the formula.
        y : None
            Not used.

        Returns
        -------
        columns : DataFrame of shape (n_samples, n_columns_out)
            As of `transform`.
        """
        parsed = parse_formula(self.formula)
        refuse_no_names(X)
        validate_data(self, X, skip_check_array=True)
        self._parsed = parsed
        table = read_columns_of(parsed, X, function_names())
        self._levels = learn_levels_of(parsed, table)
        matrices = make_matrices(parsed, read_formulas(parsed), code_levels(table, self._levels))
        self._specs = [matrix.model_spec for matrix in matrices]
        self._parts = [_part(spec) for spec in self._specs]
        if parsed.offsets:
            _refuse_no_number(parsed, self._parts[-1])
        self.estimator_params_ = _estimator_params(parsed, self._parts)
        made = dict.fromkeys(name for part in self._parts for name in part.names)
        self._keys = grouping_columns(parsed)
        _refuse_clash(made, self._keys, table)
        self._names = [*(name for name in made if name not in self._keys), *self._keys]
        if not self._names:
            raise error("the formula leaves no column", parsed.text, len(parsed.left))
        return self._collected(X, matrices)

    def transform(self, X):
        """Make the columns of new rows.

        Parameters
        ----------
        X : dataframe of shape (n_samples, n_columns)
            Has the columns of the formula; others, and their order, do not matter.

        Returns
        -------
        columns : DataFrame of shape (n_samples, n_columns_out)
            Fixed columns, slopes that are not fixed, the offset, and the grouping columns as
            they came.

        Raises
        ------
        ValueError
            If columns are missing or a categorical has a level that `fit` has not seen. New
            levels of grouping columns are let through.
        """
        check_is_fitted(self)
        refuse_no_names(X)
        table = read_columns_of(self._parsed, X, function_names())
        matrices = make_matrices(self._parsed, self._specs, code_levels(table, self._levels))
        return self._collected(X, matrices)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns made.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used.

        Returns
        -------
        names : ndarray of shape (n_columns_out,)
            Names in order.
        """
        check_is_fitted(self)
        return np.array(self._names, dtype=object)

    def _collected(self, X, matrices):
        """One table of the columns of all parts; a column that several parts have comes once."""
        columns = {}
        for part, matrix in zip(self._parts, matrices, strict=True):
            columns |= {name: _numbers(matrix[name]) for name in part.names}
        columns |= {name: column_of(X, name) for name in self._keys}
        return pd.DataFrame({n: columns[n] for n in self._names}).set_axis(_index(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = True
        return tags


# What the model is told --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Columns that formulaic made of one part of the formula, and whether an intercept."""

    names: tuple
    intercept: bool
    several: bool  # Whether a function, not a categorical, made several columns.


def _part(spec):
    terms = [term for term in spec.structure if str(term.term) != "1"]
    numbers = [e for e, (kind, _) in spec.encoder_state.items() if kind.name == "NUMERICAL"]
    names = tuple(name for term in terms for name in term.columns)
    several = any(f"{expression}[" in name for expression in numbers for name in names)
    return _Part(names, len(terms) < len(spec.structure), several)


def _estimator_params(parsed, parts):
    fixed, *slopes = parts[: 1 + len(parsed.bars)]
    terms, blocks, keys = {}, {}, {}
    for bar, part in zip(parsed.bars, slopes, strict=True):
        names = ["1"] * part.intercept + list(part.names)
        _refuse_unclear(parsed, bar, part)
        for factor in bar.factors:
            key = keys.setdefault(frozenset(factor), factor if len(factor) > 1 else factor[0])
            twice = [name for name in names if name in terms.get(key, [])]
            if twice:
                raise error(_said_twice(key, twice[0]), parsed.text, bar.at)
            terms.setdefault(key, []).extend(names)
            blocks.setdefault(key, []).extend([names] if bar.correlated else [[n] for n in names])
    return {
        "random_effects": terms or None,
        "fixed_effects": list(fixed.names),
        "covariance_type": _covariance_type(blocks),
        "fit_intercept": fixed.intercept,
        "offset": parts[-1].names[0] if parsed.offsets else None,
    }


def _refuse_unclear(parsed, bar, part):
    if not part.names and not part.intercept:
        raise error("nothing varies: there is no column and no intercept", parsed.text, bar.at)
    if part.several and not bar.correlated:
        raise error(
            'a function before "||" makes several columns, and whether these are correlated is '
            "not clear: write (1 | g) + (0 + poly(x, 2) | g) if they are, and name them one by one "
            "if not",
            parsed.text,
            bar.at,
        )


def _said_twice(key, name):
    if name == "1":
        return f"{show(key)} has an intercept in two random terms: take it out of one by (0 + ...)"
    return f"{show(key)} has {show(name)} in two random terms: take it out of one"


def _covariance_type(blocks):
    """ "full", or for each factor that is not full "diagonal" or its blocks."""
    kinds = {
        key: "diagonal" if all(len(block) == 1 for block in parts) else parts
        for key, parts in blocks.items()
        if len(parts) > 1
    }
    return kinds or "full"


def _refuse_no_number(parsed, offset):
    if len(offset.names) != 1:
        at = next(name.at for name in parsed.names if name.text == "offset")
        raise error("an offset is one column of numbers", parsed.text, at)


def _refuse_clash(made, keys, table):
    """A grouping column may be a fixed one too if it is a number, and not be named like others."""
    for name in keys:
        if name in made and name not in table:
            raise ValueError(
                f"the grouping column {show(name)} is called like a column that the formula "
                "makes: rename it"
            )


def _numbers(column):
    try:
        return column.to_numpy(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"the formula makes a column {show(column.name)} that holds no numbers"
        ) from None


def _index(X):
    return X.index if hasattr(X, "iloc") else pd.RangeIndex(len(X))
