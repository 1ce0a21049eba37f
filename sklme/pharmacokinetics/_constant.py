"""Predictions and derivatives for parameters that are constant within a subject.

Whatever goes into a linear system, its central compartment answers with a weighted sum of systems
of one compartment, one for each rate of decay (a *mode*): e^-Mt = sum_k e^-rate_k t P_k and the
weights are the central elements of P_k. So derivatives of f are those of the modes by the few
numbers that they have (a rate, ka, lag time, ...) times those of these numbers by the parameters.
"""

import numpy as np

from sklme.pharmacokinetics._modes import System
from sklme.pharmacokinetics._pieces import build_pieces, differentiate, evaluate
from sklme.pharmacokinetics._walk import Individual

STEP = 1e-30  # the complex step


def predict(individual, records):
    """f (..., N, n) of individuals (..., N, 1)."""
    numbers, weights = _list_modes(individual)
    modes = evaluate(build_pieces(_one_compartment(numbers), records), records)
    return _sum_modes(weights, modes)


def predict_with_slopes(read, psi, records):
    """f (..., N, n) and df/dpsi (..., N, n, q) for real psi (..., N, 1, q)."""
    q = psi.shape[-1]
    shifts = (1j * STEP) * np.eye(q).reshape(q, *[1] * (psi.ndim - 1), q)
    numbers, weights = _list_modes(read(psi + shifts))
    there = [x for x in numbers if x is not None]
    real = [None if x is None else x[0].real for x in numbers]
    pieces = build_pieces(_one_compartment(_shift(real, len(there))), records)
    modes, slopes = differentiate(pieces, records, STEP)
    weight = weights[0].real
    # Columns: each mode, by its weight; each mode, by its rate; their sum, by each further number.
    columns = [modes, weight * slopes[0]]
    columns += [(weight * slope).sum(axis=-3, keepdims=True) for slope in slopes[1:]]
    chain = np.concatenate([x.imag for x in (weights, *there)], axis=-3) / STEP
    columns = np.concatenate(columns, axis=-3)
    gradient = np.moveaxis(columns, -3, -1) @ np.moveaxis(chain[..., 0], (0, -2), (-1, -2))
    return _sum_modes(weight, modes), gradient


def _list_modes(individual):
    """The numbers of the modes, (..., K or 1, N, 1) or None, the rate first; and their weights."""
    system = individual.system
    weights = system.projections[..., 0, 0]
    if individual.scale is not None:
        weights = weights / individual.scale[..., None]
    further = (system.absorption, individual.bioavailability, individual.lag, individual.duration)
    numbers = [None if x is None else x[..., None, :, :] for x in further]
    return [_modes_first(system.rates), *numbers], _modes_first(weights)


def _modes_first(value):
    """(..., K, N, m) of (..., N, m, K)."""
    if value.shape[-1] == 1:
        return value[..., None, :, :, 0]
    return np.moveaxis(value, -1, -3)


def _one_compartment(numbers):
    """The modes as individuals of one compartment."""
    rate, ka, bioavailability, lag, duration = numbers
    system = System(rate[..., None], np.ones((*[1] * (rate.ndim + 3),)), ka)
    return Individual(system, None, bioavailability, lag, duration)


def _shift(numbers, p):
    """The numbers with a complex step each, along a new first axis of length p."""
    shifted, at, steps = [], 0, (1j * STEP) * np.eye(p)
    for value in numbers:
        if value is not None:
            value, at = value + steps[at].reshape(p, *[1] * value.ndim), at + 1
        shifted.append(value)
    return shifted


def _sum_modes(weights, modes):
    return (weights * modes)[..., 0, :, :] if modes.shape[-3] == 1 else (weights * modes).sum(-3)
