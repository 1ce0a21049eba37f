"""New observations of the subjects of a record, drawn from the model."""

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import predict
from sklme._engine.nlme.errors import variance
from sklme._engine.nlme.parameters import Parameters, check_parameters, factor

MOST_NUMBERS = 500_000  # parameters of rows that are held at once


def simulate(
    data: Data,
    parameters: Parameters,
    n_draws: int,
    rng: np.random.RandomState,
    *,
    eta: np.ndarray | None = None,
) -> np.ndarray:
    """Draws (n_draws, N, n) on the scale of y; numbers without a meaning where there is no row.

    eta (n_draws, N, Q) : effects of the subjects; None: drawn from the population
    """
    check_parameters(data, parameters)
    N, n = data.y.shape
    if eta is None:
        z = rng.standard_normal((n_draws, N, data.n_effects))
        eta = z @ factor(parameters.Omega).T
    y = np.empty((n_draws, N, n))
    for part in _parts(data, n_draws):
        y[part] = observe(data, parameters, eta[part], rng)
    return y


def observe(
    data: Data, parameters: Parameters, eta: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """One observation of each row, with its error, at the effects eta (..., N, Q)."""
    phi = data.C @ parameters.beta + (data.B @ eta[..., :, None, :, None])[..., 0]
    f = predict(data, phi)
    y = f + np.sqrt(variance(data, parameters.sigma, f).R) * rng.standard_normal(f.shape)
    if data.on_log is False:
        return y
    return np.where(data.on_log, np.exp(np.where(data.on_log, y, 0.0)), y)


def _parts(data: Data, n_draws: int) -> list[slice]:
    """Slices of the draws that are small enough to hold at once."""
    one = data.y.size * (data.C.shape[2] if data.varies else 1)
    size = max(1, MOST_NUMBERS // one)
    return [slice(k, k + size) for k in range(0, n_draws, size)]
