"""Variances of the parts of a fitted model over rows, and how tables label factors and levels."""

import numpy as np
import pandas as pd

from sklme._columns import read_columns
from sklme._engine import predict as engine
from sklme._engine.without import of_response
from sklme._fitted import INTERCEPT
from sklme.inference._access import Fitted


def covariance(fitted: Fitted, t: int) -> np.ndarray:
    """Covariance of the coefficients of factor t, in the units of the data."""
    return fitted.of_output(fitted.model.covariance_[fitted.keys[t]])


def mean_products(fitted: Fitted, X):
    """Mean over the rows of z z' for every factor; None where only weighted sums are kept."""
    if X is not None:
        rows = read_columns(fitted.model, X, fitted.model._columns)
        return [z.T @ z / len(z) for z in rows.slopes]
    if fitted.generalized and all(term.names == (INTERCEPT,) for term in fitted.model._terms):
        return [np.ones((1, 1)) for _ in fitted.keys]
    if fitted.generalized or weighted(fitted):
        return None
    inverses = [np.linalg.inv(T) for T in fitted.fit.frame.z_maps]
    return [
        Ti.T @ f.zz.sum(axis=2) @ Ti / fitted.fit.gram.total
        for f, Ti in zip(fitted.fit.gram.factors, inverses, strict=True)
    ]


def random_variances(fitted: Fitted) -> list[float]:
    """Mean variance of each factor's part over the rows, tr(G mean(z z')) (Johnson 2014, eq. 10).

    In the coordinates of the frame, where a slope far from zero costs no digits.
    """
    fit, r = fitted.fit, fitted.r
    if fitted.X is None and weighted(fitted):
        raise ValueError(_weights_need_rows())
    scale = fit.s2[r] * fit.frame.y_scale[r] ** 2
    if fitted.X is None:
        means = [f.zz.sum(axis=2) / fit.gram.total for f in fit.gram.factors]
    else:
        slopes = read_columns(fitted.model, fitted.X, fitted.model._columns).slopes
        inner = [z @ T for z, T in zip(slopes, fit.frame.z_maps, strict=True)]
        means = [z.T @ z / len(z) for z in inner]
    halves = [(L[r], Q) for L, Q in zip(fit.Lambdas, means, strict=True)]
    return [float(np.einsum("ab,ac,cb->", L, Q, L)) * scale for L, Q in halves]


def fixed_variance(fitted: Fitted) -> float:
    """Variance of x'beta over the rows, with N - 1 as R's `var`."""
    fit, beta = fitted.fit, fitted.fit.beta[fitted.r]
    scale = fit.frame.y_scale[fitted.r] ** 2
    if fitted.X is not None:
        rows = read_columns(fitted.model, fitted.X, fitted.model._columns)
        new = engine.new_rows(fit, rows.X, rows.codes, rows.slopes)
        return float(np.var(new.X @ beta, ddof=1)) * scale if len(new.X) > 1 else 0.0
    if weighted(fitted):
        raise ValueError(_weights_need_rows())
    if not fit.columns.any():
        return 0.0
    if not fit.intercept:
        raise ValueError(
            "without a fixed intercept the variance of the fixed part needs the rows: pass X"
        )
    kept = np.ix_(fit.columns, fit.columns)
    xx, n = fit.gram.xx[kept], fit.gram.total
    around = xx - np.outer(xx[0], xx[0]) / n
    return max(float(beta @ around @ beta), 0.0) / (n - 1) * scale if n > 1 else 0.0


def conditional_variance(fitted: Fitted, t: int) -> np.ndarray:
    """(n_levels, k), the coefficients taken as known."""
    parts = engine.effect_covariance(of_response(fitted.working, fitted.r))[t][0]
    return np.diagonal(parts, axis1=1, axis2=2)


def joint_variance(fitted: Fitted, t: int) -> np.ndarray:
    """(n_levels, k): the prediction error variance of the effect itself, a row with x = 0."""
    fit = of_response(fitted.working, fitted.r)
    k, q = fit.gram.factors[t].k, fit.gram.factors[t].n_levels
    out = np.empty((q, k))
    for a in range(k):
        codes = [np.full(q, -1) for _ in fit.structures]
        z = [np.zeros((q, f.k)) for f in fit.gram.factors]
        codes[t], z[t] = np.arange(q), np.tile(fit.frame.z_maps[t][a], (q, 1))
        rows = engine.NewRows(np.zeros((q, len(fit.beta[0]))), tuple(codes), tuple(z))
        out[:, a] = engine.variance(fit, rows)[:, 0]
    return out


def level_index(fitted: Fitted, t: int, *also) -> pd.Index:
    """The levels of a factor as an index, with further levels (name, values) within each."""
    key = fitted.keys[t]
    labels = np.asarray(fitted.model.levels_[key], dtype=object)
    columns = [pd.Index(c).infer_objects() for c in labels.reshape(len(labels), -1).T]
    names = [str(c) for c in (key if isinstance(key, tuple) else [key])]
    for name, values in also:
        columns = [np.repeat(c, len(values)) for c in columns]
        columns.append(np.tile(values, len(labels)))
        names.append(name)
    if len(columns) == 1:
        return columns[0].rename(names[0])
    return pd.MultiIndex.from_arrays(columns, names=names)


def ratio(part: float, whole: float) -> float:
    """part / whole; of nothing in nothing 0."""
    return float(part / whole) if whole > 0 else (0.0 if part == 0 else np.nan)


def weighted(fitted: Fitted) -> bool:
    """Whether the cross-products are weighted by precisions."""
    return fitted.fit.precision and fitted.fit.gram.log_weights != 0


def _weights_need_rows() -> str:
    return (
        "a fit with precision weights keeps weighted sums only; variances over rows need the "
        "rows: pass X"
    )
