"""Comparison of generalised models, and the test of one of their variances."""

import numpy as np

from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_at_zero import (
    GeneralizedHypotheses,
    generalized_hypotheses,
    simulated_ratios,
)
from sklme._engine.glmm_simulate import written_out
from sklme.inference._generalized import GeneralizedFitted

# Each is a special case of those after it, at the end of the range of a dispersion.
WITHIN = {"poisson": ("nb1", "nb2")}


def measures(fitted: GeneralizedFitted) -> dict:
    """Information criteria of a fit by maximum likelihood."""
    fit = fitted.fit
    deviance, n = -2.0 * fit.log_likelihood, fit.n_parameters
    return {
        "n_parameters": n,
        "aic": deviance + 2.0 * n,
        "bic": deviance + n * np.log(fit.working.gram.total),
        "log_likelihood": fit.log_likelihood,
        "deviance": deviance,
    }


def check_comparable(named: dict[str, GeneralizedFitted]) -> None:
    """One sentence where the likelihoods of two models are not of the same thing."""
    (first, a), *others = named.items()
    for name, b in others:
        pair = f"{first!r} and {name!r}"
        if not _same_rows(a, b):
            raise ValueError(f"{pair} were not fitted to the same rows, weights and response")
        if _is_discrete(a.fit) != _is_discrete(b.fit):
            raise ValueError(
                f"{pair} do not compare: the {a.fit.family.name} and the {b.fit.family.name} "
                "family are not both of probabilities or both of densities"
            )
    _check_integrals(named)
    for fitted in named.values():
        if fitted.has_rows:
            fitted.rows  # noqa: B018  refuses other rows


def _check_integrals(named: dict[str, GeneralizedFitted]) -> None:
    """Approximations of the same kind; without random effects there is nothing to integrate."""
    nodes = {name: f.fit.n_quadrature for name, f in named.items() if f.fit.working.structures}
    if len(set(nodes.values())) > 1:
        listed = ", ".join(f"{n} for {name!r}" for name, n in nodes.items())
        raise ValueError(
            f"the models differ in n_quadrature ({listed}): their likelihoods are different "
            "approximations; fit them with the same"
        )


def is_within(small: GeneralizedFitted, large: GeneralizedFitted) -> bool:
    """Whether the family of one model is a special case of that of the other."""
    a, b = _names(small.fit), _names(large.fit)
    if small.fit.family.link.name != large.fit.family.link.name or (a[1] and not b[1]):
        return False
    return a[0] == b[0] or b[0] in WITHIN.get(a[0], ())


def _names(fit: GeneralizedFit) -> tuple[str, bool]:
    """The family without further zeros, and whether it has them."""
    base = getattr(fit.family, "base", None)
    return (fit.family.name, False) if base is None else (base.name, True)


def _same_rows(a: GeneralizedFitted, b: GeneralizedFitted) -> bool:
    x, y = a.working.gram, b.working.gram
    total = np.isclose(x.total, y.total, rtol=1e-12)
    classes = [getattr(f.model, "classes_", None) for f in (a, b)]
    trials = [getattr(f.model, "trials", None) for f in (a, b)]
    return x.n_rows == y.n_rows and total and np.array_equal(*classes) and trials[0] == trials[1]


def _is_discrete(fit: GeneralizedFit) -> bool:
    """Whether the family takes whole numbers only."""
    return fit.family.check(np.array([0.5]), np.ones(1)) is not None


def open_hypotheses(fitted: GeneralizedFitted, t: int, a: int) -> GeneralizedHypotheses:
    """The model with and without a variance."""
    if not fitted.has_rows:
        raise ValueError(
            f"variance_test of {type(fitted.model).__name__} needs the rows that the model was "
            "fitted to: pass X and y"
        )
    options = {"tol": fitted.model.tol, "max_iter": fitted.model.max_iter}
    return generalized_hypotheses(fitted.fit, fitted.rows.cases, t, a, **options)


def simulated(h: GeneralizedHypotheses, n: int, rng, progress=None) -> np.ndarray:
    """The null distribution from outcomes drawn without the variance."""
    cases = written_out(h.cases)
    if cases is None:
        raise ValueError(
            'the weights of the rows are not whole numbers: take null="mixture", which needs none '
            "to be drawn"
        )
    return simulated_ratios(h, cases, n, rng, progress)
