"""Methods that are no search of an objective, as a `Fit`: SAEM and that of Lindstrom and Bates."""

from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.nlme.fit import Fit
from sklme._engine.nlme.importance import sample_likelihood
from sklme._engine.nlme.lindstrom import alternate
from sklme._engine.nlme.methods import Method, Objective
from sklme._engine.nlme.saem import saem


@dataclass(frozen=True)
class Estimate:
    """What was found.

    fit : the engine's record; exact : whether the residual error is held at about nothing
    error : Monte Carlo standard error of the log-likelihood
    standard_errors : those of the method itself, None for others
    """

    fit: Fit
    exact: bool = False
    error: float = 0.0
    standard_errors: object = None


@dataclass(frozen=True)
class CoefficientErrors:
    """Standard errors of the coefficients alone."""

    names: tuple
    errors: np.ndarray
    message: str = ""

    def of(self, *name):
        """The standard error of one entry."""
        return float(self.errors[self.names.index(name)])


def estimate_saem(data, parameters, pattern, *, fixed_beta, fixed_sigma, seed, verbose):
    """By SAEM, which leaves open the likelihood, here by importance sampling.

    The gradients by group, of which standard errors are made, are those of FOCEI at the estimate.
    """
    found = saem(
        data,
        parameters,
        pattern,
        fixed_beta=fixed_beta,
        fixed_sigma=fixed_sigma,
        random_state=seed,
        progress=_print_phase if verbose else None,
    )
    place = Objective(data, found.search, Method("focei")).look(found.theta)
    sampled = sample_likelihood(found)
    record = _record(found, "focei", found.theta, place.u, len(found.trace), sampled.value)
    record = replace(record, values=sampled.values, gradients=place.gradients)
    return Estimate(record, error=0.5 * sampled.error)


def estimate_alternating(data, parameters, pattern, *, fixed_beta, fixed_sigma, max_iter):
    """By alternating least squares and linear mixed models; the likelihood is that of the last."""
    found = alternate(
        data,
        parameters,
        pattern,
        fixed_beta=fixed_beta,
        fixed_sigma=fixed_sigma,
        max_iter=max_iter,
    )
    value = -2.0 * found.log_likelihood - data.n_observations * np.log(2.0 * np.pi)
    with np.errstate(divide="ignore"):  # a variance of zero
        theta = found.search.pack(found.parameters)
    record = _record(found, "foce", theta, found.u, found.n_iterations, value)
    free = np.flatnonzero(found.search.free_beta)
    errors = np.sqrt(np.diag(found.covariance))[free]
    names = tuple(("beta", int(k)) for k in free)
    return Estimate(record, standard_errors=CoefficientErrors(names, errors))


def _record(found, method, theta, u, n, value):
    """A `Fit` without gradients."""
    N = len(u)
    return Fit(
        data=found.data,
        search=found.search,
        method=Method(method),
        parameters=found.parameters,
        theta=theta,
        value=float(value),
        values=np.full(N, np.nan),
        u=u,
        eta=found.eta,
        gradient=np.full(len(theta), np.nan),
        gradients=np.full((N, len(theta)), np.nan),
        decrement=np.nan,
        n_iterations=n,
        n_evaluations=n,
        converged=found.converged,
        message=found.message,
        vanished=~np.isfinite(theta),
        at_zero=tuple(np.flatnonzero(np.diag(found.parameters.Omega) <= 0).tolist()),
    )


def _print_phase(iteration, phase, parameters):
    """One line of ``verbose=1``, every 50 iterations."""
    if iteration % 50 == 0:
        print(f"step {iteration} ({phase}): {np.array2string(parameters.beta, precision=4)}")
