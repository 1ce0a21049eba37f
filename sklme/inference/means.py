"""Marginal means: what the model expects at each level, averaged over everything else."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.dof import WaldTests
from sklme._rows import check_choice
from sklme.inference._access import check_level, open_model
from sklme.inference._grid import Design, Grid, make_grid
from sklme.inference.coefficients import notes, open_tests, t_table

ADJUST = ("tukey", "bonferroni", "holm", "none")


def marginal_means(
    model,
    X=None,
    y=None,
    *,
    of,
    by=None,
    at=None,
    pairs=False,
    adjust="tukey",
    dof="satterthwaite",
    confidence_level=0.95,
    output=None,
):
    """Means of the levels of one or more columns, or their pairwise differences.

    The expected response, random effects at zero, on a grid: every combination of the levels of
    the columns that are no numbers, and numbers at their mean. Combinations count alike,
    however often they occur (Searle, Speed and Milliken 1980 [1]_). Needs the table X that the
    model, or the pipeline around it, was fitted to, for levels and means; not y.

    Parameters
    ----------
    model : estimator object
        A fitted `LinearMixedModel`, alone or in a pipeline, a search or a target wrapper. In a
        target wrapper means are of the transformed y.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The table, as it goes into `model`.
    y : None
        Not used.
    of : str or list of str
        Columns whose levels are compared, as they stand in X; positions for an array.
    by : str or list of str, default=None
        Columns within whose levels the comparison is made.
    at : dict of str -> value or list, default=None
        Values of columns: a number to hold one at, or values to average over, or to compare
        for columns in `of` and `by`. A column of numbers that stand for levels is named here.
    pairs : {False, True, "control"}, default=False
        Whether to compare all pairs of levels, or each level with the first.
    adjust : {"tukey", "bonferroni", "holm", "none"}, default="tukey"
        How ``p_adjusted`` of pairs allows for their number; "tukey" is for all pairs, and for
        "control" Bonferroni's method stands in.
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default="satterthwaite"
        Degrees of freedom, see `coefficient_table`.
    confidence_level : float, default=0.95
        Probability that an interval, taken alone, covers its mean or difference.
    output : int, default=None
        Which output of a model of several.

    Returns
    -------
    table : DataFrame
        One row a combination of levels: the columns of `of` and `by`, then those of
        `coefficient_table` (estimate, std_error, dof, statistic, p_value, lower, upper), in units
        of y. With `pairs` one row a pair: the columns of `by`, "contrast" (such as "A - B"), the
        same columns for the difference, and p_adjusted. ``table.attrs`` as in `coefficient_table`,
        and "of", "by", "held" (the value of every number) and "averaged_over".

    Raises
    ------
    ValueError
        If X is missing or has no such column, a column of numbers has too many values to be
        levels, or a combination needs a coefficient that was dropped.

    See Also
    --------
    contrast : Tests of any combination of coefficients.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980), Population marginal means in the linear model: an
       alternative to least squares means, The American Statistician 34, 216-221.

    Examples
    --------
    >>> from sklme.datasets import load_machines
    >>> from sklme.formula import from_formula
    >>> from sklme.inference import marginal_means
    >>> data = load_machines().frame
    >>> model = from_formula("score ~ Machine + (1 | Worker)", data)
    >>> marginal_means(model, data, of="Machine").round(2)[["Machine", "estimate", "std_error"]]
      Machine  estimate  std_error
    0       A     52.36       2.23
    1       B     60.32       2.23
    2       C     66.27       2.23
    """
    check_level(confidence_level)
    check_choice("adjust", adjust, ADJUST)
    if pairs not in (False, True, "control"):
        raise ValueError(f'pairs is {pairs!r}; it must be False, True or "control"')
    fitted = open_model(model, output=output)
    tests = open_tests(fitted, dof)
    grid = make_grid(Design(model, X, fitted), _as_list(of), _as_list(by), dict(at or {}))
    if pairs:
        table = _differences(grid, tests, confidence_level, pairs == "control", adjust)
    else:
        rows = tests.rows(grid.L)
        rows = rows._replace(estimate=rows.estimate + grid.offset)
        table = t_table(rows, grid.levels.index, confidence_level)
        table = pd.concat([grid.levels, table], axis=1)
    table.attrs = {**notes(fitted, dof), **grid.attrs}
    return table


def _differences(grid: Grid, tests: WaldTests, confidence_level, control, adjust) -> pd.DataFrame:
    """One row a pair of levels, within each combination of the columns `by`."""
    n = grid.n_compared
    pairs = [(i, 0) for i in range(1, n)] if control else list(combinations(range(n), 2))
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    starts = np.arange(0, len(grid.L), n)[:, None]
    i, j = (starts + first).ravel(), (starts + second).ravel()
    names = grid.levels[grid.attrs["of"]].astype(str).agg(", ".join, axis=1).to_numpy()
    rows = tests.rows(grid.L[i] - grid.L[j])
    rows = rows._replace(estimate=rows.estimate + grid.offset[i] - grid.offset[j])
    table = t_table(rows, range(len(i)), confidence_level)
    by = grid.levels[grid.attrs["by"]].iloc[i].reset_index(drop=True)
    label = pd.Series([f"{a} - {b}" for a, b in zip(names[i], names[j], strict=True)], dtype=object)
    method = "bonferroni" if control and adjust == "tukey" else adjust
    blocks = np.split(np.arange(len(i)), len(starts))
    adjusted = [_adjusted(table.iloc[block], method, n) for block in blocks]
    table["p_adjusted"] = np.concatenate(adjusted)
    return pd.concat([by, label.rename("contrast"), table], axis=1)


def _adjusted(table: pd.DataFrame, method: str, n_means: int) -> np.ndarray:
    """p values that allow for the number of comparisons among `n_means` means."""
    p = table["p_value"].to_numpy()
    if method == "none" or len(p) < 2:
        return p
    if method == "tukey":
        size = np.sqrt(2.0) * np.abs(table["statistic"].to_numpy())
        return np.clip(stats.studentized_range.sf(size, n_means, table["dof"].to_numpy()), 0.0, 1.0)
    if method == "bonferroni":
        return np.minimum(1.0, p * len(p))
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, stepped)
    return out


def _as_list(names) -> list:
    if names is None:
        return []
    return list(names) if isinstance(names, list | tuple) else [names]
