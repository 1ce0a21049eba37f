"""A model fitted from the estimate of another one that has most of its coefficients."""

import warnings
from dataclasses import dataclass

import numpy as np

from sklme.nonlinear import _results as results
from sklme.nonlinear._checks import check_rows_of_fit, read_layout
from sklme.nonlinear._design import Design
from sklme.nonlinear._estimate import engine_method, estimate, read_omega
from sklme.nonlinear._known import learn_effects
from sklme.nonlinear._refit import proper
from sklme.nonlinear._start import assemble
from sklme.nonlinear._table import Table


@dataclass(frozen=True)
class WarmStart:
    """Where a search starts, as `estimate` takes it."""

    beta: np.ndarray
    between: np.ndarray
    within: np.ndarray
    sigma: np.ndarray
    layout: object
    exact: bool = False
    unidentified: bool = False
    others: tuple = ()

    def parameters(self, n_occasions):
        """As the engine takes them."""
        both = assemble(self.beta, self.between, self.within, self.sigma, n_occasions)
        return both if self.unidentified else proper(both, self.layout)


def fit_from(model, X, y, other):
    """Fit a model from the estimates of another fitted one; coefficients are matched by name.

    The two have the same random effects and kind of residual error.
    """
    y = model._read_y(X, y)
    layout, rows = read_layout(model, Table(model, X, reset=True), y)
    check_rows_of_fit(layout, rows)
    blocks = read_omega(model.omega, [layout.names[k] for k in layout.random])
    design = Design(layout, rows, model.dosing)
    start = _start(layout, design, other)
    model._try_out(layout, design, start)
    found = estimate(model, design, start, blocks, 0)
    model._layout, model._rows, model._adapted = layout, rows, False
    model._dosing_of_fit = model.dosing
    model._population = results.population_of(layout, found.fit)
    method = engine_method(model.method, model.n_quadrature)
    model._remember(design, learn_effects(design, model._population, method, found.fit.u))
    model._record(found, start.unidentified)
    return model


def attempt_from(model, X, y, other):
    """The fitted model and why it did not converge, or None and why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = model.fit(X, y) if other is None else fit_from(model, X, y, other)
    except ValueError as error:
        return None, str(error)
    return model, "" if model.converged_ else model.optimization_.message


def _start(layout, design, other):
    population = other._population
    known = dict(zip((e.name for e in other._layout.effects), population.beta, strict=True))
    names = [effect.name for effect in layout.effects]
    initial = [0.0 if effect.initial is None else effect.initial for effect in layout.effects]
    beta = np.array([known.get(name, at) for name, at in zip(names, initial, strict=True)])
    unidentified = design.groups.mask.shape[1] == 1
    parts = (population.between, population.within, population.sigma)
    return WarmStart(beta, *parts, layout, unidentified=unidentified)
