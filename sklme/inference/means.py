"""Marginal means: what the model expects at each level, averaged over everything else."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from sklme._engine.dof import WaldTests
from sklme._rows import check_choice
from sklme.inference._access import check_level, open_model
from sklme.inference._grid import Design, Grid, make_grid
from sklme.inference._responses import (
    RATIOS,
    as_ratios,
    class_means,
    response_differences,
    response_means,
)
from sklme.inference.coefficients import notes, open_tests, t_table

ADJUST = ("tukey", "bonferroni", "holm", "none")
SCALES = ("response", "link")
EFFECTS = ("population", "marginal")


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
    dof=None,
    scale=None,
    effects="population",
    confidence_level=0.95,
    output=None,
    sample_weight=None,
):
    """Means of the levels of one or more columns, or their pairwise differences.

    The expected response, random effects at zero, on a grid: every combination of the levels of
    the columns that are no numbers, and numbers at their mean. Combinations count alike,
    however often they occur (Searle, Speed and Milliken 1980 [1]_). Needs the table X that the
    model, or the pipeline around it, was fitted to, for levels and means.

    Parameters
    ----------
    model : estimator object
        A fitted mixed model, alone or in a pipeline, a search or a target wrapper. In a target
        wrapper means are of the transformed y.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        The table, as it goes into `model`.
    y : array-like of shape (n_samples,), default=None
        Not used for a linear mixed model. For a generalised one standard errors then come from the
        observed information, see `coefficient_table`; without y they take variances as known.
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
    dof : {"satterthwaite", "kenward-roger", "normal", "residual"}, default=None
        Degrees of freedom, see `coefficient_table`.
    scale : {"response", "link"}, default=None
        Scale of a generalised model's means; None is "response". Notes say what they are.
    effects : {"population", "marginal"}, default="population"
        What a generalised model's responses do with random effects: leave them at zero, as
        `predict_population` does, for a typical level, or integrate over them, as `predict` does
        for new levels, for the average over levels.
    confidence_level : float, default=0.95
        Probability that an interval, taken alone, covers its mean or difference.
    output : int, default=None
        Which output of a model of several.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of fit, where a generalised model had any and y is given.

    Returns
    -------
    table : DataFrame
        One row a combination of levels: the columns of `of` and `by`, then those of
        `coefficient_table` (estimate, std_error, dof, statistic, p_value, lower, upper), in units
        of y, or of the linear predictor with ``scale="link"``. On the scale of the response there
        are no tests, and estimate, std_error, lower and upper only; for ordered classes one row a
        class, named in "class", which needs y. With `pairs` one row a pair: the columns of `by`,
        "contrast" (such as "A - B", or "A / B" for a ratio), the columns of `coefficient_table` for
        the difference or ratio, and p_adjusted. ``table.attrs`` as in `coefficient_table`, and
        "of", "by", "held" (the value of every number), "averaged_over", and for a generalised
        model "scale", "effects" and "comparison" (what pairs are).

    Raises
    ------
    ValueError
        If X is missing or has no such column, a column of numbers has too many values to be
        levels, a combination needs a coefficient that was dropped, or y is needed.

    See Also
    --------
    contrast : Tests of any combination of coefficients.

    Notes
    -----
    With the linear predictor eta, averaged over the grid, and the inverse link g^-1, the response
    is ``g^-1(eta)`` at effects "population", and ``E[g^-1(eta + u)]`` with ``u ~ N(0, z' G z)`` at
    "marginal", z and G being the columns and covariance of the random effects [2]_. It is the
    probability of the second class, the mean of a single trial, the mean of the counts that are
    not further zeros. Standard errors are those of the delta method, intervals the inverse link of
    those of eta; in both the covariance G is taken as known. Probabilities of ordered classes have
    intervals from the logit scale.

    Pairs on the scale of the response are odds ratios (logit link; of a higher class, for ordered
    ones), ratios of means (log) or hazard ratios (cloglog) at "population", and tests those of
    their logarithms; else they are differences of responses.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980), Population marginal means in the linear model: an
       alternative to least squares means, The American Statistician 34, 216-221.
    .. [2] Zeger, Liang and Albert (1988), Models for longitudinal data: a generalized estimating
       equation approach, Biometrics 44, 1049-1060, sec. 2.

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

    In how many of a herd's animals does the disease break out in each quarter?

    >>> from sklme import GeneralizedLinearMixedModel
    >>> from sklme.datasets import load_cbpp
    >>> X, y = load_cbpp(return_X_y=True)
    >>> model = GeneralizedLinearMixedModel("herd", family="binomial", trials="size").fit(X, y)
    >>> marginal_means(model, X, y, of="period", at={"period": [1, 4]}).round(3)
       period  estimate  std_error  lower  upper
    0       1     0.184      0.035  0.125  0.261
    1       4     0.040      0.013  0.021  0.076
    """
    check_level(confidence_level)
    check_choice("adjust", adjust, ADJUST)
    check_choice("effects", effects, EFFECTS)
    if scale is not None:
        check_choice("scale", scale, SCALES)
    if pairs not in (False, True, "control"):
        raise ValueError(f'pairs is {pairs!r}; it must be False, True or "control"')
    rows = (X, y) if y is not None else (None, None)
    fitted = open_model(model, *rows, output=output, sample_weight=sample_weight)
    tests = open_tests(fitted, dof)
    grid = make_grid(Design(model, X, fitted), _as_list(of), _as_list(by), dict(at or {}))
    told = {**notes(fitted, dof), **grid.attrs}
    if not fitted.generalized or scale == "link":
        means = _LinkMeans(grid, tests, confidence_level)
    else:
        means = _ResponseMeans(grid, tests, confidence_level, fitted, effects)
    if fitted.generalized:
        compared = {"comparison": means.comparison} if pairs else {}
        told |= {"scale": scale or "response", "effects": effects, **compared}
    table = _compared(means, pairs == "control", adjust) if pairs else means.table()
    table.attrs = told
    return table


class _LinkMeans:
    """Means, and their differences, of the linear predictor: what a linear model expects."""

    comparison = "difference"

    def __init__(self, grid: Grid, tests: WaldTests, level: float):
        self.grid, self.tests, self.level = grid, tests, level

    def table(self) -> pd.DataFrame:
        """One row a mean."""
        grid, rows = self.grid, self.tests.rows(self.grid.L)
        rows = rows._replace(estimate=rows.estimate + grid.offset)
        return pd.concat([grid.levels, t_table(rows, grid.levels.index, self.level)], axis=1)

    def compare(self, i, j) -> pd.DataFrame:
        """One row a pair, means i less means j."""
        grid, rows = self.grid, self.tests.rows(self.grid.L[i] - self.grid.L[j])
        rows = rows._replace(estimate=rows.estimate + grid.offset[i] - grid.offset[j])
        return t_table(rows, range(len(i)), self.level)


class _ResponseMeans(_LinkMeans):
    """The same of the response of a generalised model."""

    def __init__(self, grid: Grid, tests: WaldTests, level: float, fitted, effects: str):
        super().__init__(grid, tests, level)
        self.fitted, self.link = fitted, fitted.fit.family.link
        self.ordinal = hasattr(fitted.model, "thresholds_")
        self.variance = np.zeros(len(grid.L))
        if effects == "marginal":
            self.variance = _random_variance(fitted, grid)
        plain = self.ordinal or effects == "population"
        self.comparison = RATIOS.get(self.link.name, "difference") if plain else "difference"

    def table(self) -> pd.DataFrame:
        """One row a mean, or a mean and class."""
        if not self.ordinal:
            return response_means(self.fitted, self.grid, self.tests, self.variance, self.level)
        if not self.fitted.has_rows:
            raise ValueError(
                "probabilities of ordered classes need y as well as X, for what is not known of "
                'the thresholds; scale="link" gives means of the linear predictor without'
            )
        return class_means(self.fitted, self.grid, self.variance, self.level)

    def compare(self, i, j) -> pd.DataFrame:
        """One row a pair, the ratio or difference of means i and j."""
        if self.comparison != "difference":
            return as_ratios(super().compare(i, j))
        rows = response_differences(self.link, self.grid, self.tests, self.variance, i, j)
        return t_table(rows, range(len(i)), self.level)


def _random_variance(fitted, grid: Grid) -> np.ndarray:
    """Variance of the linear predictor of each mean over levels."""
    if fitted.fit.family.link.name == "inverse":
        raise ValueError(
            "the inverse link has no mean over random effects, as 1/eta has none: choose "
            'effects="population"'
        )
    roots = [z @ fitted.model.theta_[key] for key, z in zip(fitted.keys, grid.z, strict=True)]
    return sum(((root**2).sum(axis=1) for root in roots), np.zeros(len(grid.L)))


def _compared(means: _LinkMeans, control: bool, adjust: str) -> pd.DataFrame:
    """One row a pair of levels, within each combination of the columns `by`."""
    grid, n = means.grid, means.grid.n_compared
    pairs = [(i, 0) for i in range(1, n)] if control else list(combinations(range(n), 2))
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    starts = np.arange(0, len(grid.L), n)[:, None]
    i, j = (starts + first).ravel(), (starts + second).ravel()
    names = grid.levels[grid.attrs["of"]].astype(str).agg(", ".join, axis=1).to_numpy()
    table = means.compare(i, j)
    by = grid.levels[grid.attrs["by"]].iloc[i].reset_index(drop=True)
    sign = "-" if means.comparison == "difference" else "/"
    labels = [f"{a} {sign} {b}" for a, b in zip(names[i], names[j], strict=True)]
    label = pd.Series(labels, dtype=object)
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
