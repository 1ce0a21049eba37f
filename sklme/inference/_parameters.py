"""The parameters of a model by name: coefficients, standard deviations, correlations, sigma.

In the place of sigma a generalised model has thresholds, dispersions and the model of extra zeros.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sklme._engine import units
from sklme._engine.simulate import Refits
from sklme._terms import factor_label
from sklme.inference._access import Fitted
from sklme.inference._auxiliary import auxiliaries


@dataclass(frozen=True)
class Parameter:
    """One parameter; `factor`, `a` and `b` say where it stands.

    kind : "fixed" (a counts coefficients), "sd" (coefficient a of a factor), "cor" (of a and b,
        a < b), "sigma", or "aux" (a counts what `auxiliaries` lists)
    """

    name: str
    kind: str
    factor: int = -1
    a: int = -1
    b: int = -1


def parameters_of(fitted) -> list[Parameter]:
    """Fixed coefficients, then by factor sd and correlations in R's order, then the others."""
    out = [Parameter(name, "fixed", a=j) for j, name in enumerate(fitted.names)]
    for t, term in enumerate(fitted.model._terms):
        label = factor_label(term.key)
        together = {i: () if term.spherical else block for block in term.blocks for i in block}
        for a, name in enumerate(term.names):
            out.append(Parameter(f"sd {name}|{label}", "sd", t, a))
            for b in range(a + 1, len(term.names)):
                if b in together[a]:
                    out.append(Parameter(f"cor {term.names[b]}.{name}|{label}", "cor", t, a, b))
    if not fitted.generalized:
        return [*out, Parameter("sigma", "sigma")]
    further = enumerate(auxiliaries(fitted))
    return [*out, *(Parameter(one.name, "aux", a=i) for i, one in further)]


def choose_parameters(fitted, names) -> list[Parameter]:
    """Some of the parameters by name, or all of them."""
    known = parameters_of(fitted)
    if names is None:
        return known
    by_name = {p.name: p for p in known}
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in by_name:
            raise ValueError(
                f"the model has no parameter {name!r}; its parameters are "
                f"{', '.join(map(repr, by_name))}"
            )
    return [by_name[name] for name in chosen]


def estimates_frame(fitted: Fitted) -> pd.DataFrame:
    """The estimates of the model as a table of one row, NaN for a dropped column."""
    fit, r = fitted.fit, fitted.r
    own = Refits(
        fit.beta[[r]],
        fit.xvx[[r]],
        tuple(L[[r]] for L in fit.Lambdas),
        fit.s2[[r]],
        fit.criterion[[r]],
        fit.optimization.converged[[r]],
    )
    return parameter_frame(fitted, own, fit.frame.y_scale[r], fit.frame.y_shift[r])


def parameter_frame(fitted: Fitted, found: Refits, y_scale: float, y_shift=0.0) -> pd.DataFrame:
    """Estimates in the frame of the fit as a table in units of the data, a row each.

    y_scale : unit of the responses; y_shift : what was subtracted of them
    """
    fit, n = fitted.fit, len(found.s2)
    frame = replace(fit.frame, y_scale=np.full(n, y_scale), y_shift=np.full(n, y_shift))
    moved = replace(fit, frame=frame, beta=found.beta, Lambdas=found.Lambdas, s2=found.s2)
    intercept, coef = units.coefficients(moved)
    fixed = np.column_stack([intercept, coef]) if fit.intercept else coef
    fixed = np.where(fit.columns, fixed, np.nan)
    sigma = np.sqrt(found.s2) * y_scale
    covariances = [L @ L.swapaxes(1, 2) for L in units.relative_factors(moved)]
    columns = {p.name: _values(p, fixed, covariances, sigma) for p in parameters_of(fitted)}
    return pd.DataFrame(columns)


def _values(p: Parameter, fixed, covariances, sigma) -> np.ndarray:
    if p.kind == "fixed":
        return fixed[:, p.a]
    if p.kind == "sigma":
        return sigma
    G = covariances[p.factor]
    sd = np.sqrt(np.einsum("raa->ra", G))
    if p.kind == "sd":
        return sd[:, p.a] * sigma
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(G[:, p.a, p.b] / (sd[:, p.a] * sd[:, p.b]), -1.0, 1.0)
