"""What a series of doses that has been given for ever has left in a linear system."""

import numpy as np

from sklme.pharmacokinetics._modes import move, solve_constant, solve_periodic
from sklme.pharmacokinetics._records import TIE

MOST = 20  # infusions of a series that overlap, at most


def steady_state(records, system, doses):
    """The state (..., N, R, S) when the record of a series comes, just before its own dose.

    Also [(time, where)]: when, counted from the record, infusions of the series that run then end.
    With a lag time the record comes at the phase "interval - lag" of the period, and the dose of
    that phase 0 has been given; a lag of several intervals counts modulo the interval.
    """
    if not records.steady.any():
        return np.zeros(1), []
    state, left = np.zeros(1), []
    if (records.steady > 0).any():
        phase, begun = find_phase(records, doses)
        if doses.inputs is None:
            state = _after_boluses(records, system, doses, phase, begun)
        else:
            state = _after_infusions(records, system, doses, phase, begun)
            left = running_infusions(records, doses, phase, begun)
        state = np.where((records.steady > 0)[..., None], state, 0.0)
    if (records.steady < 0).any():
        constant = solve_constant(system, doses.inputs)
        state = np.where((records.steady < 0)[..., None], constant, state)
    return state, left


def find_phase(records, doses):
    """The phase of a series at its record, and whether its phase 0 has passed."""
    if doses.lag is None:
        return np.zeros(1), np.zeros(records.time.shape, bool)
    interval = records.interval
    phase = np.mod(-doses.lag.real, interval) - (doses.lag - doses.lag.real)
    return phase, phase.real > 0


def _after_boluses(records, system, doses, phase, begun):
    state = solve_periodic(system, records.interval, move(system, doses.jump, records.interval))
    if doses.lag is None:
        return state
    return move(system, state + doses.jump * begun[..., None], phase)


def _after_infusions(records, system, doses, phase, begun):
    interval = records.interval
    lasts = doses.duration.real
    rest = np.where(lasts > 0, interval - np.mod(-lasts, interval), 0.0)
    together = np.maximum(np.round((lasts - rest) / interval) + 1.0, 1.0)
    rest = rest + (doses.duration - lasts)

    def run(state, time):
        """From phase 0 on: `together` infusions at once, one fewer after `rest`."""
        first = np.where(time.real < rest.real, time, rest)
        state = move(system, state, first, doses.inputs * together[..., None])
        return move(system, state, time - first, doses.inputs * (together - 1.0)[..., None])

    state = solve_periodic(system, interval, run(doses.jump, interval))
    return run(state + doses.jump * begun[..., None], phase)


def running_infusions(records, doses, phase, begun):
    """When infusions of the series end that run at its record, and where there are any."""
    most = np.where(records.steady > 0, np.ceil(doses.duration.real / records.interval), 0.0).max()
    left = []
    for n in range(int(min(most, MOST + 1.0))):
        time = doses.duration - phase - n * records.interval
        runs = (time.real > TIE * records.interval) & (begun | (n > 0)) & (records.steady > 0)
        left.append((np.where(runs, time, 0.0), runs))
    return left
