"""The state of linear compartments from event to event."""

from dataclasses import dataclass

import numpy as np

from sklme.pharmacokinetics._events import list_events, read_doses
from sklme.pharmacokinetics._merge import merge_samples, rows_of_records
from sklme.pharmacokinetics._modes import System, step
from sklme.pharmacokinetics._steady import steady_state


@dataclass(frozen=True)
class Individual:
    """What the parameters of individuals mean, arrays (..., N, m).

    scale : what the amount in the central compartment is divided by; None for 1
    """

    system: System
    scale: np.ndarray | None = None
    bioavailability: np.ndarray | None = None
    lag: np.ndarray | None = None
    duration: np.ndarray | None = None

    def at(self, index):
        """The individuals as they are in the rows `index` (..., m)."""
        pick = lambda x: None if x is None else np.take_along_axis(x, index, -1)
        others = (self.scale, self.bioavailability, self.lag, self.duration)
        return Individual(self.system.at(index), *map(pick, others))


def find_events(individual, records):
    """The Events under these parameters; infusions go into (central, depot)."""
    system = individual.system
    central = system.n_states - system.rates.shape[-1]
    doses = read_doses(
        records,
        system.n_states,
        (central, central - 1),
        individual.bioavailability,
        individual.lag,
        individual.duration,
    )
    return list_events(records, doses, *steady_state(records, system, doses))


def walk(system, start, keep, jump, inputs):
    """The state (..., P, S) after each of P events; `inputs` run from each event on.

    `system` is that of the way to each event; that to the first one is not used.
    """
    P = start.shape[-1]
    if P == 1:
        return jump
    way = system
    if system.rates.shape[-2] > 1:
        way = system.at(np.arange(1, P)[(None,) * (system.rates.ndim - 2)])
    gaps = np.diff(start, axis=-1)
    gaps = np.where(gaps.real > 0, gaps, 0.0)  # below 0 by rounding
    T, effect = step(way, gaps, inputs is not None)
    add = jump[..., 1:, :]
    keep = None if keep is None else keep[..., 1:, None]
    if inputs is not None:
        moved = np.einsum("...ij,...j->...i", effect, inputs[..., :-1, :])
        add = add + (moved if keep is None else keep * moved)
    if keep is not None:
        T = keep[..., None] * T
    shape = np.broadcast_shapes(T.shape[:-3], add.shape[:-2])
    states = np.empty((*shape, P, T.shape[-1]), np.result_type(T, add))
    state = states[..., 0, :] = jump[..., 0, :]
    for p in range(P - 1):
        state = (T[..., p, :, :] * state[..., None, :]).sum(axis=-1) + add[..., p, :]
        states[..., p + 1, :] = state
    return states


def running(keep, change):
    """Rates of infusion (..., P, 2) after each event."""
    if change is None:
        return None
    if keep is None:
        return np.cumsum(change, axis=-2)
    rates, now = np.empty_like(change), 0.0
    for p in range(change.shape[-2]):
        rates[..., p, :] = now = now * keep[..., p, None] + change[..., p, :]
    return rates


def propagate(individual, records):
    """f (..., N, n) for parameters (..., N, n) that vary by row."""
    system = individual.system
    lead = (None,) * (system.rates.ndim - 3)
    events = find_events(individual.at(rows_of_records(records)[lead]), records)
    line = merge_samples(events, records, system.rates.shape[:-2])
    inputs = running(line.keep, line.change)
    states = walk(system.at(line.rules), line.start, line.keep, line.jump, inputs)
    central = states[..., states.shape[-1] - system.rates.shape[-1]]
    f = np.take_along_axis(central, line.place, -1)
    return f if individual.scale is None else f / individual.scale
