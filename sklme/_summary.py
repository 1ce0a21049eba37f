"""The text that a statistician expects of a fitted linear mixed model."""

from textwrap import fill

import numpy as np
from scipy import stats

from sklme._engine.dof import make_tests
from sklme._engine.elimination import meeting
from sklme._terms import factor_label

WIDTH = 80
DEAR = 1500  # effects in all but the largest factor beyond which dof cost more than the fit
BESIDE = 4  # coefficients whose correlations fit beside their variances


def summarize(model):
    """Method, criterion, random effects, nesting and fixed effects of the first output."""
    fit, r = model._fit, 0
    parts = [
        _head(model, fit, r),
        criteria(fit.criterion[r], _n_parameters(fit), fit.gram.total),
        _random(model, r),
        *correlation_tables(model, r),
        *meetings(model, fit),
        _fixed(model, fit, r),
        *remarks(model),
    ]
    return "\n\n".join(parts)


def _head(model, fit, r):
    method = "restricted maximum likelihood" if fit.reml else "maximum likelihood"
    lines = [f"Linear mixed model fitted by {method}"]
    weights = "" if fit.gram.total == fit.gram.n_rows else f" (sum of weights {fit.gram.total:g})"
    lines.append(f"Rows: {fit.gram.n_rows}{weights}")
    if len(fit.s2) > 1:
        lines.append(f"Outputs: {len(fit.s2)}, all fitted alike; the first is shown")
    return "\n".join(lines)


def _n_parameters(fit):
    return fit.columns.sum() + sum(s.n_theta for s in fit.structures) + 1


def criteria(deviance, n_parameters, total):
    """AIC and BIC as R computes them, with N rows."""
    values = {
        "log-likelihood": -0.5 * deviance,
        "AIC": deviance + 2 * n_parameters,
        "BIC": deviance + n_parameters * np.log(total),
        "parameters": n_parameters,
    }
    return "   ".join(
        f"{name}: {v:.2f}" if name != "parameters" else f"{name}: {v}" for name, v in values.items()
    )


def _random(model, r):
    residual = float(np.atleast_1d(model.residual_variance_)[r])
    last = ("  Residual", "", number(residual), number(np.sqrt(residual)), "")
    return make_table([*random_rows(model, r), last])


def random_rows(model, r):
    """Variances and correlations of the effects, with a head."""
    rows = [("Random effects", "levels", "variance", "std. dev.", "correlation")]
    for term in model._terms:
        cov = _of_output(model, model.covariance_[term.key], r)
        sd = np.sqrt(np.diag(cov))
        for i, name in enumerate(term.names):
            levels = str(len(model.levels_[term.key])) if i == 0 else ""
            rows.append(
                (
                    f"  {factor_label(term.key)}: {name}",
                    levels,
                    number(cov[i, i]),
                    number(sd[i]),
                    _correlations(cov, sd, i) if len(sd) <= BESIDE else "",
                )
            )
    return rows


def _correlations(cov, sd, i):
    with np.errstate(invalid="ignore", divide="ignore"):
        values = cov[i, :i] / (sd[i] * sd[:i])
    return " ".join(f"{v:.2f}" if np.isfinite(v) else "-" for v in values)


def correlation_tables(model, r):
    """The correlations of factors with more coefficients than fit beside their variances."""
    parts = []
    for term in model._terms:
        cov = _of_output(model, model.covariance_[term.key], r)
        sd = np.sqrt(np.diag(cov))
        if len(sd) > BESIDE:
            head = f"Correlations by {factor_label(term.key)}, coefficients in the order above"
            rows = [f"{i + 1:>4}  {_correlations(cov, sd, i)}" for i in range(1, len(sd))]
            parts.append("\n".join([_wrapped(head), *map(_wrapped, rows)]))
    return parts


def meetings(model, fit):
    """One line for each pair of factors; children numbered 1.. in every class show as crossed."""
    lines = []
    for t in range(len(model._terms)):
        for s in range(t):
            lines.append(_wrapped(f"  {_relation(model, fit, s, t)}"))
    return ["\n".join(["How the factors meet", *lines])] if lines else []


def _relation(model, fit, s, t):
    kind, pairs, possible = meeting(fit.gram, s, t)
    a, b = (factor_label(model._terms[i].key) for i in (s, t))
    words = {
        "alike": f"{a} and {b} group the rows alike",
        "nested": f"{a} is nested in {b}",
        "around": f"{b} is nested in {a}",
    }
    return words.get(kind, f"{a} and {b} are {kind} ({pairs} of {possible} pairs occur)")


def _fixed(model, fit, r):
    """Estimates and tests; a dropped column keeps its line."""
    how = _dof(fit)
    found = make_tests(fit, r, how).rows(np.eye(len(fit.columns))[fit.columns])
    head = f"Fixed effects ({how.capitalize()})"
    rows = [(head, "estimate", "std. error", *(("z",) if how == "normal" else ("dof", "t")), "p")]
    tested = zip(*found, strict=True)
    for name, kept in zip(_fixed_names(model, fit), fit.columns, strict=True):
        cells = tested_cells(*next(tested)) if kept else ("dropped",)
        rows.append((f"  {name}", *cells, *[""] * (len(rows[0]) - 1 - len(cells))))
    return make_table(rows)


def _fixed_names(model, fit):
    return ["(Intercept)"] * fit.intercept + list(model.fixed_names_)


def _dof(fit):
    """Satterthwaite, but where many crossed effects would make it cost more than the fit."""
    sizes = sorted(f.k * f.n_levels for f in fit.gram.factors)
    many = sum(sizes[:-1]) > DEAR
    return "normal" if fit.adapted or many else "satterthwaite"


def tested_cells(estimate, std_error, dof):
    """An estimate and its test, as cells of a table."""
    t = estimate / std_error if std_error > 0 else np.nan
    p = 2.0 * stats.t.sf(abs(t), dof)
    shown = (f"{dof:.1f}",) if np.isfinite(dof) else ()
    p = "" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"
    return number(estimate), number(std_error), *shown, f"{t:.2f}", p


def remarks(model):
    """What was dropped, fixed at zero or not found, as lines."""
    record, notes = model.optimization_, []
    if record.columns_dropped:
        notes.append(
            "Dropped, as they depend on earlier columns: "
            + ", ".join(map(str, record.columns_dropped))
        )
    at_zero = record.at_zero if model._one_output else record.at_zero[0]
    for what, names in (
        ("Estimated at zero", at_zero),
        ("Not identified, set to zero", record.unidentified),
    ):
        if names:
            notes.append(f"{what}: " + ", ".join(f"{n} by {factor_label(k)}" for k, n in names))
    if not model.converged_:
        notes.append("The search did not converge")
    return ["\n".join(map(_wrapped, notes))] if notes else []


def _of_output(model, values, r):
    return values if model._one_output else values[r]


def number(value):
    """A number as tables show it."""
    return f"{value:.5g}"


def make_table(rows):
    """Columns lined up; the first is cut where the table would pass 80 characters."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    return "\n".join(
        "  ".join(
            _cut(cell, w).ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _wrapped(line):
    return fill(line, WIDTH, subsequent_indent="      ", drop_whitespace=True)


def _cut(text, width):
    return text if len(text) <= width else text[: width - 3] + "..."
