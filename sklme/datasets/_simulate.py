"""Simulate grouped data whose true parameters are known."""

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state


def make_grouped_regression(
    n_samples=200,
    n_features=3,
    n_groups=10,
    *,
    nested=False,
    n_informative=None,
    random_slopes=0,
    intercept=0.0,
    group_sd=1.0,
    slope_sd=0.5,
    correlation=0.0,
    noise=1.0,
    confounding=0.0,
    unbalanced=False,
    n_targets=1,
    return_truth=False,
    as_frame=True,
    random_state=None,
):
    """Simulate a linear mixed model with one or several grouping factors.

    Features are standard normal. The target is a linear function of them, plus the effects
    of the levels that a row belongs to, plus noise. Rows come in random order.

    Parameters
    ----------
    n_samples : int, default=200
        Rows; at least as many as the largest factor has levels, each of which occurs.

    n_features : int, default=3
        Numeric features ``x0``, ``x1``, ...

    n_groups : int or sequence of int, default=10
        Levels of the grouping factors ``group_0``, ``group_1``, ..., one number each. The
        levels are the integers from 0. If `nested`, number of levels within each level of the
        factor before it: ``(20, 5)`` makes 20 schools with 5 classes each, numbered 0 to 99.

    nested : bool, default=False
        Whether each factor is nested in the one before it; else they are crossed.

    n_informative : int, default=None
        Features whose coefficient is not zero, the first ones. None: all.

    random_slopes : int or sequence of int, default=0
        How many features, the first ones, have a slope that differs by level. An integer is
        for the first factor; a sequence has one number per factor.

    intercept : float, default=0.0
        Mean of the target where all features are 0.

    group_sd : float or sequence of float, default=1.0
        Standard deviation of the random intercepts, of all factors or of each.

    slope_sd : float, default=0.5
        Standard deviation of the random slopes.

    correlation : float, default=0.0
        Correlation between any two random effects of a level.

    noise : float, default=1.0
        Standard deviation of the residual.

    confounding : float, default=0.0
        Correlation of ``x0`` with the intercept of the row's level of ``group_0`` (for the
        first target), above -1 and below 1. A regression without groups is then off by
        ``confounding * group_sd`` in the coefficient of ``x0``.

    unbalanced : bool, default=False
        If False, levels have the same number of rows, give or take one (nested factors: the
        innermost levels). If True, their shares are drawn from a flat Dirichlet distribution.

    n_targets : int, default=1
        Targets, with coefficients, effects and noise of their own.

    return_truth : bool, default=False
        Whether to return the true parameters too.

    as_frame : bool, default=True
        Whether to return pandas objects. The columns of groups come last in either case.

    random_state : int, RandomState instance or None, default=None
        Pass an integer for the same data in every call.

    Returns
    -------
    X : DataFrame or ndarray of shape (n_samples, n_features + n_factors)
        Features, then grouping columns.

    y : Series, DataFrame or ndarray of shape (n_samples,) or (n_samples, n_targets)
        Target(s), named ``y`` or ``y0``, ``y1``, ...

    truth : dict
        Only if `return_truth`. Under the names of a fitted model's attributes without
        the underscore: ``coef`` (n_features,), ``intercept`` (float), ``covariance`` (dict:
        factor -> (n_terms, n_terms)), ``random_effects`` (dict: factor -> (n_levels, n_terms);
        terms are the intercept, then the slopes) and ``residual_variance`` (float). A factor is a
        column name, or its position if `as_frame` is False. With several targets everything
        leads with n_targets.

    Raises
    ------
    ValueError
        If sizes, standard deviations or correlations are impossible.

    Examples
    --------
    >>> from sklme.datasets import make_grouped_regression
    >>> X, y, truth = make_grouped_regression(
    ...     n_groups=(20, 5), nested=True, random_slopes=1, return_truth=True, random_state=0
    ... )
    >>> list(X.columns), y.shape
    (['x0', 'x1', 'x2', 'group_0', 'group_1'], (200,))
    >>> truth["covariance"]["group_0"]
    array([[1.  , 0.  ],
           [0.  , 0.25]])
    >>> truth["random_effects"]["group_1"].shape
    (100, 1)
    """
    sizes = _counts(n_groups, "n_groups", minimum=1)
    slopes = _per_factor(_counts(random_slopes, "random_slopes"), len(sizes), "random_slopes", 0)
    sds = _per_factor(group_sd, len(sizes), "group_sd", group_sd)
    n_informative = n_features if n_informative is None else n_informative
    _check_features(n_features, n_informative, slopes, n_targets)
    _check_spread(sds, slope_sd, noise, confounding)

    rng = check_random_state(random_state)
    codes = _draw_codes(n_samples, sizes, nested, unbalanced, rng)
    covariance = [
        _covariance(sd, slope_sd, correlation, k) for sd, k in zip(sds, slopes, strict=True)
    ]
    n_levels = np.cumprod(sizes) if nested else sizes
    effects = [
        _draw_effects(each, (n_targets, n), rng)
        for each, n in zip(covariance, n_levels, strict=True)
    ]
    x = rng.standard_normal((n_samples, n_features))
    if confounding:
        x[:, 0] = _confound(x[:, 0], effects[0][0, codes[0], 0] / sds[0], confounding)
    coef = _draw_coef((n_targets, n_features), n_informative, rng)
    y = intercept + coef @ x.T + noise * rng.standard_normal((n_targets, n_samples))
    for code, effect in zip(codes, effects, strict=True):
        y += _contribution(x, code, effect)

    names = [f"group_{i}" for i in range(len(sizes))]
    X, y = _as_frames(x, codes, names, y.T) if as_frame else _as_arrays(x, codes, y.T)
    if not return_truth:
        return X, y
    keys = names if as_frame else range(n_features, n_features + len(sizes))
    truth = {
        "coef": coef,
        "intercept": np.full(n_targets, float(intercept)),
        "covariance": {k: np.stack([c] * n_targets) for k, c in zip(keys, covariance, strict=True)},
        "random_effects": dict(zip(keys, effects, strict=True)),
        "residual_variance": np.full(n_targets, float(noise) ** 2),
    }
    return X, y, truth if n_targets > 1 else _only_target(truth)


def _counts(value, name, minimum=0):
    """A tuple of integers from an integer or a sequence."""
    values = tuple(np.atleast_1d(value).tolist())
    if not values or any(not isinstance(v, int) or v < minimum for v in values):
        raise ValueError(f"{name} must hold integers of at least {minimum}; got {value!r}.")
    return values


def _per_factor(value, n_factors, name, rest):
    """One value per factor: a single one is for the first, `rest` for those that follow."""
    values = tuple(np.atleast_1d(value).tolist())
    if len(values) == 1:
        values += (rest,) * (n_factors - 1)
    if len(values) != n_factors:
        raise ValueError(f"{name} must have one entry or {n_factors}, one a factor; got {value!r}.")
    return values


def _check_features(n_features, n_informative, slopes, n_targets):
    if n_features < 1 or n_targets < 1:
        raise ValueError(f"n_features ({n_features}) and n_targets ({n_targets}) start at 1.")
    if not 0 <= n_informative <= n_features:
        raise ValueError(f"n_informative must be between 0 and {n_features}; got {n_informative}.")
    if max(slopes) > n_features:
        raise ValueError(f"random_slopes is {max(slopes)}, but there are {n_features} features.")


def _check_spread(sds, slope_sd, noise, confounding):
    for name, sd in [("group_sd", min(sds)), ("slope_sd", slope_sd), ("noise", noise)]:
        if not sd >= 0:
            raise ValueError(f"{name} is a standard deviation, 0 or more; got {sd}.")
    if not -1 < confounding < 1:
        raise ValueError(f"confounding must lie between -1 and 1; got {confounding}.")
    if confounding and sds[0] == 0:
        raise ValueError("confounding needs a group_sd above 0 for group_0.")


def _draw_codes(n_samples, sizes, nested, unbalanced, rng):
    """The level of each row, factor by factor."""
    if not nested:
        return [_spread_rows(n_samples, n, unbalanced, rng) for n in sizes]
    innermost = _spread_rows(n_samples, int(np.prod(sizes)), unbalanced, rng)
    return [innermost // int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))]


def _spread_rows(n_samples, n_levels, unbalanced, rng):
    """Deal rows to levels in random order, at least one to each."""
    if n_samples < n_levels:
        raise ValueError(f"n_samples is {n_samples}, but a factor has {n_levels} levels.")
    codes = np.arange(n_samples) % n_levels
    if unbalanced:
        share = rng.dirichlet(np.ones(n_levels))
        codes[n_levels:] = rng.choice(n_levels, size=n_samples - n_levels, p=share)
    return rng.permutation(codes)


def _covariance(group_sd, slope_sd, correlation, n_slopes):
    """Covariance of the effects of a level: one correlation for all pairs."""
    lowest = -1 / n_slopes if n_slopes else -1
    if not lowest <= correlation <= 1:
        raise ValueError(
            f"correlation must lie between {lowest:.3g} and 1 with {n_slopes} random slopes;"
            f" got {correlation}."
        )
    sd = np.array([group_sd] + [slope_sd] * n_slopes, dtype=float)
    matrix = correlation * np.outer(sd, sd)
    np.fill_diagonal(matrix, sd**2)
    return matrix


def _draw_effects(covariance, shape, rng):
    """Normal effects of shape (*shape, n_terms); the covariance may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return rng.standard_normal((*shape, len(covariance))) @ root.T


def _confound(x, intercept, correlation):
    """Give x this correlation with the standardised intercept; its variance stays 1."""
    return correlation * intercept + np.sqrt(1 - correlation**2) * x


def _draw_coef(shape, n_informative, rng):
    """Coefficients of size 0.5 to 1.5, so that none is close to zero by accident."""
    coef = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
    coef[:, n_informative:] = 0
    return coef


def _contribution(x, code, effects):
    """What the levels of one factor add to each target: (n_targets, n_samples)."""
    n_slopes = effects.shape[-1] - 1
    terms = np.column_stack([np.ones(len(x)), x[:, :n_slopes]])
    return np.einsum("nk,tnk->tn", terms, effects[:, code])


def _as_frames(x, codes, names, y):
    X = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    X = X.assign(**dict(zip(names, codes, strict=True)))
    if y.shape[1] == 1:
        return X, pd.Series(y[:, 0], name="y")
    return X, pd.DataFrame(y, columns=[f"y{i}" for i in range(y.shape[1])])


def _as_arrays(x, codes, y):
    return np.column_stack([x, *codes]), y[:, 0] if y.shape[1] == 1 else y


def _only_target(truth):
    """Drop the axis of the targets from every entry."""
    return {
        name: {k: v[0] for k, v in value.items()} if isinstance(value, dict) else value[0]
        for name, value in truth.items()
    }
