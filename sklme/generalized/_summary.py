"""The text that a statistician expects of a fitted generalised linear mixed model."""

import numpy as np

from sklme._engine.dof import make_tests
from sklme._fitted import INTERCEPT
from sklme._summary import (
    WIDTH,
    correlation_tables,
    criteria,
    make_table,
    meetings,
    number,
    random_rows,
    remarks,
    tested_cells,
)


def summarize(model):
    """Family, criterion, random effects, nesting, auxiliary parameters and fixed effects."""
    fit = model._fit
    parts = [
        _head(fit),
        criteria(-2.0 * fit.log_likelihood, fit.n_parameters, fit.working.gram.total),
        *([make_table(random_rows(model, 0))] if model._terms else []),
        *correlation_tables(model, 0),
        *meetings(model, fit.working),
        *_auxiliary(model, fit),
        _fixed(model, fit.working),
        "Standard errors take variances as known",
        *remarks(model),
    ]
    return "\n\n".join(parts)


def _head(fit):
    n = fit.n_quadrature
    how = "Laplace approximation" if n == 1 else f"adaptive quadrature with {n} nodes"
    total, n_rows = fit.working.gram.total, fit.working.gram.n_rows
    weights = "" if total == n_rows else f" (sum of weights {total:g})"
    head = f"Generalised linear mixed model fitted by maximum likelihood ({how})"
    lines = [head] if len(head) <= WIDTH else head.replace(" (", "\n(").split("\n")
    family = f"Family: {fit.family.name}, link: {fit.family.link.name}"
    return "\n".join([*lines, family, f"Rows: {n_rows}{weights}"])


def _auxiliary(model, fit):
    """Dispersion and the like, thresholds, the model of extra zeros."""
    rows = [(name.replace("_", " "), number(v)) for name, v in model._published().items()]
    if not rows:
        return []
    return [make_table([("Further parameters", "estimate"), *((f"  {n}", v) for n, v in rows)])]


def _fixed(model, working):
    names = [INTERCEPT] * working.intercept + model.fixed_names_
    if not names:
        return "No fixed effects"
    found = make_tests(working, 0, "normal").rows(np.eye(len(working.columns))[working.columns])
    tested = zip(*found, strict=True)
    rows = [("Fixed effects (normal)", "estimate", "std. error", "z", "p")]
    for name, kept in zip(names, working.columns, strict=True):
        cells = tested_cells(*next(tested)) if kept else ("dropped", "", "", "")
        rows.append((f"  {name}", *cells))
    return make_table(rows)
