"""What models with random effects share: rows for the engine, names for its record, warnings."""

import warnings
from dataclasses import fields, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing

from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor

INTERCEPT = "(Intercept)"


def present_rows(X, y, weights):
    """X, y and weights without the rows of weight 0, which are absent."""
    if weights is None or weights.all():
        return X, y, weights
    here = np.flatnonzero(weights)
    return _safe_indexing(X, here), y[here], weights[here]


def structures_of(terms):
    """How the engine parametrises the covariance of each term."""
    return tuple(Structure(len(t.slopes), t.blocks, t.spherical) for t in terms)


def make_design(rows, n_levels, intercept, weights):
    """The rows as the engine takes them."""
    factors = tuple(
        Factor(codes, n, z) for codes, n, z in zip(rows.codes, n_levels, rows.slopes, strict=True)
    )
    return Design(rows.X, factors, intercept, weights)


def random_part(effects, rows):
    """Z b, (n_rows, n_outputs), for one (n_outputs, n_levels, k) array a term; unknown levels 0."""
    out = 0.0
    for b, codes, z in zip(effects, rows.codes, rows.slopes, strict=True):
        b = np.concatenate([b, np.zeros_like(b[:, :1])], axis=1)  # code -1: no effect
        out = out + sum(z[:, [a]] * b[:, codes, a].T for a in range(z.shape[1]))
    return out


def codes_for_draws(codes, n_levels):
    """Codes of an extended table with its new levels as -2, -3, ..., as `engine.draw` has them."""
    return [np.where(c < n, c, n - c - 2) for c, n in zip(codes, n_levels, strict=True)]


def named_record(terms, fixed_names, result, factors):
    """The record of the search with names for what it lists; `at_zero` leads with outputs.

    factors : the covariance factor of each term, (n_outputs, k, k).
    """
    names = [[(term.key, name) for name in term.names] for term in terms]
    fixed = np.array([INTERCEPT] * result.intercept + list(fixed_names), dtype=object)
    outputs = range(len(result.s2))
    return replace(
        result.optimization,
        at_zero=tuple(_zeros(names, factors, result.unidentified, r) for r in outputs),
        unidentified=tuple(
            name[i] for name, at in zip(names, result.unidentified, strict=True) for i in at
        ),
        columns_dropped=tuple(fixed[~result.columns]),
    )


def first_output(record):
    """The record of the only output, with Python's numbers."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    arrays = {k: v[0].item() for k, v in values.items() if isinstance(v, np.ndarray)}
    return replace(record, **arrays, at_zero=record.at_zero[0])


def _zeros(names, factors, unidentified, r):
    return tuple(
        name[i]
        for name, L, out in zip(names, factors, unidentified, strict=True)
        for i in range(len(name))
        if not L[r, i].any() and i not in out
    )


# Warnings --------------------------------------------------------------------------------------


def unidentified_message(record):
    """What is said of variances that the data cannot tell."""
    which = ", ".join(f"{name} by {key!r}" for key, name in record.unidentified)
    return (
        "the data cannot tell these variances from the rest of the model (one level, as "
        "many effects as rows, or the same as the fixed effects or an earlier factor): "
        f"{which}; set to 0"
    )


def no_optimum_message(model):
    """What is said where the search ended before it converged."""
    return (
        f"no optimum after {model.n_iter_} evaluations (Newton decrement "
        f"{np.max(model.optimization_.decrement):.1e}, tol {model.tol:g}); increase max_iter or "
        "simplify random_effects"
    )


def warn(message):
    """Warn from the line that called fit, where fit calls a method that calls this."""
    warnings.warn(message, ConvergenceWarning, stacklevel=4)


def print_step(iteration, value, decrement, converged):
    """One line of ``verbose=1``."""
    still = (~converged).sum()
    print(
        f"step {iteration + 1}: -2 log-likelihood (relative) {value.sum():.8g}, Newton decrement "
        f"{decrement.max():.1e}, {still} of {len(value)} outputs to go"
    )
