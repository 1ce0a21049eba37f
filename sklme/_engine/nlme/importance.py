"""-2 log L after SAEM, by importance sampling around the draws of each subject.

Where f has a kink, at a lag time, the mode says little of where eta may be; the mean and covariance
of the draws do.
"""

import numpy as np
from scipy.special import gammaln

from sklme._engine.nlme.centred import centre
from sklme._engine.nlme.markov import DEGREES, Around, Target
from sklme._engine.nlme.saem import StochasticFit
from sklme._engine.nlme.sampling import Sampled

TOGETHER = 200_000  # rows predicted at once
WIDER = 1.1  # the covariance of the proposal is that of the draws times this


def sample_likelihood(fit: StochasticFit, *, n_draws: int = 5000, seed: int = 0) -> Sampled:
    """-2 log L at the estimates from n_draws draws of each subject; equal seeds, equal draws."""
    model = centre(fit.data, fit.search)
    target, active = Target(model, fit.parameters), model.active
    spread = WIDER * fit.covariance[:, active][:, :, active]
    floor = 1e-6 * np.diag(np.diag(model.Omega(fit.parameters)))
    around = Around(target.mean + fit.eta[:, active], spread + floor)
    rng, size = np.random.default_rng(seed), max(1, TOGETHER // fit.data.mask.size)
    parts = [min(size, n_draws - k) for k in range(0, n_draws, size)]
    log_weight = np.concatenate([_log_weights(target, around, n, rng) for n in parts])
    top = log_weight.max(axis=0)
    weight = np.exp(log_weight - top)
    mean = weight.mean(axis=0)
    values = -2.0 * (top + np.log(mean)) + fit.data.constants
    errors = 2.0 * weight.std(axis=0, ddof=1) / mean / np.sqrt(n_draws)
    effective = weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0)
    total = float(np.sqrt((errors**2).sum()))
    return Sampled(float(values.sum()), total, values, errors, effective)


def _log_weights(target: Target, around: Around, n: int, rng: np.random.Generator) -> np.ndarray:
    """Log of density over proposal at n draws of each subject, (n, N)."""
    z, Q = around.draw(n, rng), len(target.L)
    density = target.loss(target.predict(z)) + target.penalty(z)
    log_root = np.log(np.diagonal(around.root, axis1=1, axis2=2)).sum(axis=1)
    constant = (
        gammaln(0.5 * DEGREES)
        - gammaln(0.5 * (DEGREES + Q))
        + 0.5 * Q * np.log(0.5 * DEGREES)
        - np.log(np.diag(target.L)).sum()
    )
    return -0.5 * (density - around.penalty(z)) + log_root + constant
