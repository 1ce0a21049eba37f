"""The text that a reader of nonlinear mixed models expects."""

import numpy as np

from sklme._engine.nlme.kinds import names as error_names
from sklme._summary import make_table, number
from sklme.nonlinear._results import effect_names, error_of

NAMES = {
    "fo": "first-order (FO)",
    "foce": "first-order conditional (FOCE)",
    "focei": "first-order conditional with interaction (FOCEI)",
    "laplace": "Laplace",
    "agq": "adaptive Gauss-Hermite quadrature",
    "saem": "stochastic approximation EM (SAEM)",
    "lindstrom-bates": "Lindstrom-Bates",
}


def summarize(model):
    """Method, criteria, typical values, covariate effects, random effects, residual error."""
    layout, mixed = model._layout, model._mixed
    parts = [_head(model, mixed), _criteria(model, mixed), _typical(model), _covariates(model)]
    if mixed:
        parts.append(_random(model, layout))
    parts += [_residual(model, layout), _remarks(model)]
    return "\n\n".join(part for part in parts if part)


def _head(model, mixed):
    n = len(model._rows.y)
    if not mixed:
        return f"Nonlinear regression fitted by maximum likelihood\nRows: {n}"
    method = NAMES[model.method]
    if model.method == "agq":
        method += f" with {model.n_quadrature} nodes"
    groups = model._rows.groups
    return (
        f"Nonlinear mixed model fitted by {method}\n"
        f"Rows: {n}   groups ({groups.name}): {groups.n}   error: {model.error}"
    )


def _criteria(model, mixed):
    minus2, k = -2.0 * model.log_likelihood_, model._n_searched
    n, N = len(model._rows.y), model._rows.groups.n
    values = {"log-likelihood": model.log_likelihood_, "objective": model.objective_}
    values["AIC"] = minus2 + 2 * k
    values["BIC (rows)"] = minus2 + k * np.log(n)
    if mixed:
        values["BIC (groups)"] = minus2 + k * np.log(N)
    return "   ".join(f"{name}: {value:.2f}" for name, value in values.items())


def _typical(model):
    q = len(model._layout.parameters)
    return _estimates("Typical values", model, range(q), "rse %")


def _covariates(model):
    q, P = len(model._layout.parameters), len(model._layout.effects)
    return _estimates("Covariate effects", model, range(q, P), "rse %") if P > q else ""


def _estimates(head, model, which, last):
    table, effects = model.parameters_, model._layout.effects
    rows = [(head, "estimate", "std. error", last, "95 % interval", "")]
    for k in which:
        value, error, relative, low, high = (float(v) for v in table.iloc[k])
        cells = (_or_dash(error), _or_dash(100 * relative), _or_dash(low), _or_dash(high))
        if effects[k].fixed:
            cells = ("fixed", "", "", "")
        rows.append((f"  {effects[k].name}", number(value), *cells))
    return make_table(rows)


def _random(model, layout):
    names, E = effect_names(layout), len(layout.random)
    Omega, found = model.omega_.to_numpy(), model._population
    head = ("Random effects", "variance", "std. error", "std. dev.", "shrinkage %", "correlation")
    rows = [head]
    sd = np.sqrt(np.diag(Omega))
    for i, name in enumerate(names):
        error = error_of(model._errors, "Omega", i, i)
        shrunk = _or_dash(100 * model.shrinkage_.iloc[i]) if i < E else ""
        related = " ".join(
            f"{Omega[i, j] / (sd[i] * sd[j]):.2f}" for j in range(i) if Omega[i, j] != 0
        )
        rows.append(
            (f"  {name}", number(Omega[i, i]), _or_dash(error), number(sd[i]), shrunk, related)
        )
    if not len(found.between) and not len(found.within):
        return ""
    return make_table(rows)


def _residual(model, layout):
    rows = [("Residual error", "std. dev.", "std. error")]
    for k, (_, name) in enumerate(error_names((layout.error,))):
        what = "on the log scale" if layout.error == "lognormal" else name
        error = error_of(model._errors, "sigma", k)
        rows.append((f"  {what}", number(float(model._population.sigma[k])), _or_dash(error)))
    return make_table(rows)


def _or_dash(value):
    return number(float(value)) if np.isfinite(value) else "-"


def _remarks(model):
    notes, record = [], model.optimization_
    if record.at_zero:
        notes.append("Variance estimated at zero: " + ", ".join(record.at_zero))
    if record.exact_fit:
        notes.append(
            "The structure meets every observation: there is no residual error to estimate"
        )
    if not model._mixed and model._errors is not None:
        notes.append("Standard errors are by maximum likelihood: without a factor n / (n - p)")
    if model._adapted:
        notes.append("Groups learned by adapt are not part of the criteria")
    if record.monte_carlo_error:
        notes.append(f"Monte Carlo error of the log-likelihood: {record.monte_carlo_error:.2g}")
    if not record.converged:
        notes.append("The search did not converge")
    return "\n".join(notes)
