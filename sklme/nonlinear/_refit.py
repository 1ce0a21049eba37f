"""The search of a fitted model again, from its estimate, for other rows or with values held."""

import warnings
from dataclasses import replace
from functools import cached_property

import numpy as np

from sklme._engine.nlme.derivatives import natural
from sklme._engine.nlme.fit import fit
from sklme._engine.nlme.kinds import names as error_names
from sklme.nonlinear._estimate import engine_method, make_pattern, read_omega
from sklme.nonlinear._other_methods import estimate_alternating, estimate_saem
from sklme.nonlinear._results import effect_names

LEAST = 0.05  # a standard deviation from which the search can find one that was zero
SINGULAR = 1e-4  # the least eigenvalue of a correlation matrix to start from
SEARCHED = ("fo", "foce", "focei", "laplace", "agq")  # methods that minimise an objective


class Refit:
    """Fits of the specification of a fitted model.

    start : where they begin; held : flags of the coefficients that stay there
    """

    def __init__(self, found):
        self.model, self.layout = found.model, found.design.layout
        n_between, n_within = len(self.layout.random), len(self.layout.varying)
        frozen = found.design.groups.mask.shape[1] == 1  # nothing tells effects from errors
        occasions = found.design.n_occasions
        self.pattern = make_pattern(self._blocks, n_between, n_within, occasions, frozen)
        self.held = np.array([effect.fixed for effect in self.layout.effects])
        self.start = found.parameters if frozen else proper(found.parameters, self.layout)

    @cached_property
    def _blocks(self):
        random = [self.layout.names[k] for k in self.layout.random]
        return read_omega(self.model.omega, random)

    def __call__(self, data, start=None, *, held=None, tol=None, seed=0):
        """The engine's record of a fit to `data`."""
        model, start = self.model, self.start if start is None else start
        options = {"fixed_beta": self.held if held is None else held}
        if start.Omega.any() and model.method in ("saem", "lindstrom-bates"):
            options |= {"fixed_sigma": np.zeros(len(start.sigma), bool)}
            return self._without_objective(data, start, options, seed)
        method = engine_method(model.method, model.n_quadrature, search=True)
        options |= {"tol": model.tol if tol is None else tol, "max_iter": model.max_iter}
        return fit(data, start, self.pattern, method=method, starts=("given",), **options)

    def _without_objective(self, data, start, options, seed):
        if self.model.method == "saem":
            return estimate_saem(data, start, self.pattern, seed=seed, verbose=0, **options).fit
        options |= {"max_iter": self.model.max_iter}
        return estimate_alternating(data, start, self.pattern, **options).fit

    def attempt(self, data, start=None, *, nearly=0.0, **options):
        """A fit and an empty message, or None and why there is none.

        nearly : decrease of the objective that a search which got stuck may have left
        """
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = self(data, start, **options)
        except (ValueError, np.linalg.LinAlgError, FloatingPointError) as error:
            return None, str(error) or type(error).__name__
        good = found.converged or found.decrement < nearly
        return (found, "") if good else (None, found.message)

    @property
    def names(self):
        """What `values` gives, in words."""
        effects = effect_names(self.layout)
        sd = [f"sd {name}" for name in effects]
        cor = [f"cor {effects[j]}.{effects[i]}" for i, j in self._related]
        errors = [name for _, name in error_names((self.layout.error,))]
        names = [effect.name for effect in self.layout.effects if not effect.fixed]
        return [*names, *sd, *cor, *errors]

    def values(self, parameters):
        """Typical values on the natural scale, covariate effects, and what varies how much.

        Without coefficients that are fixed.
        """
        q, beta = len(self.layout.parameters), parameters.beta
        n = len(self.layout.random) + len(self.layout.varying)
        Omega = parameters.Omega[:n, :n]  # of the groups and of one occasion
        sd = np.sqrt(np.diag(Omega))
        with np.errstate(divide="ignore", invalid="ignore"):
            R = Omega / np.outer(sd, sd)
        cor = [R[i, j] for i, j in self._related]
        typical = natural(beta[:q], self.layout.links)[0]
        coefficients = np.concatenate([typical, beta[q:]])[~self.held]
        return np.concatenate([coefficients, sd, cor, parameters.sigma])

    @property
    def _related(self):
        """Entries of Omega below the diagonal that are free."""
        return [(i, j) for block in self._blocks for a, i in enumerate(block) for j in block[:a]]


def proper(parameters, layout):
    """Parameters whose Omega is positive definite: a place that a search can start from."""
    Omega = parameters.Omega.copy()
    typical = np.abs(parameters.beta[: len(layout.links)])
    own = np.where(np.array(layout.links) == "identity", typical, 1.0)
    between, within = layout.random, layout.varying
    copies = (len(Omega) - len(between)) // max(len(within), 1)
    least = (LEAST * np.where(own > 0, own, 1.0)[[*between, *(within * copies)]]) ** 2
    small = np.diag(Omega) < 0.01 * least
    Omega[np.diag_indices_from(Omega)] += np.where(small, least, 0.0)
    sd = np.sqrt(np.diag(Omega))
    if len(sd) and np.linalg.eigvalsh(Omega / np.outer(sd, sd))[0] < SINGULAR:
        Omega[np.diag_indices_from(Omega)] *= 1.01
    return replace(parameters, Omega=Omega)
