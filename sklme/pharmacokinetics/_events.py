"""What happens to the state and when, once lag time, bioavailability and durations are known."""

from dataclasses import dataclass

import numpy as np

MOST = 20  # doses of a series that a lag time may hold back


@dataclass(frozen=True)
class Events:
    """P events (..., N, P) in the order of time: state = keep * state + jump.

    start : when
    keep : 0 for a reset, else 1; None for 1 everywhere
    jump : (..., N, P, S)
    change : (..., N, P, inlets) of the rates of infusion; None without infusions
    record : (..., N, P) the dose that it belongs to
    """

    start: np.ndarray
    keep: np.ndarray | None
    jump: np.ndarray
    change: np.ndarray | None
    record: np.ndarray


@dataclass(frozen=True)
class Doses:
    """The doses as the parameters make them, each (..., N, R).

    amount : what arrives
    lag : how long after the record; None for at once
    duration : of an infusion; 0 for a bolus, None without infusions
    inputs : (..., N, R, inlets), the rates of an infusion
    jump : (..., N, R, S), of a bolus
    """

    amount: np.ndarray
    lag: np.ndarray | None
    duration: np.ndarray | None
    inputs: np.ndarray | None
    jump: np.ndarray


def read_doses(records, n_states, inlets, bioavailability=None, lag=None, duration=None):
    """The Doses for these parameters (..., N, 1 or R), each of which may be None.

    Infusions go into the states `inlets`.
    """
    main, amount = records.main, records.amount
    if bioavailability is not None:
        amount = np.where(main, amount * bioavailability, amount)
    if lag is not None:
        lag = np.where(main, lag, 0.0)
    into = lambda states: records.target[..., None] == np.asarray(states)
    infused = records.is_infusion
    if not infused.any():
        return Doses(amount, lag, None, None, amount[..., None] * into(np.arange(n_states)))
    known = records.rate > 0
    lasts = np.where(known, amount / np.where(known, records.rate, 1.0), records.duration)
    if duration is not None:
        lasts = np.where(records.modelled, duration, lasts)
    lasts = np.where(infused, lasts, 0.0)
    rate = np.where(known, records.rate, amount / np.where(lasts == 0, 1.0, lasts))
    inputs = np.where(infused, rate, 0.0)[..., None] * into(inlets)
    bolus = np.where(infused, 0.0, amount)[..., None] * into(np.arange(n_states))
    return Doses(amount, lag, lasts, inputs, bolus)


def list_events(records, doses, state, left):
    """The Events, sorted; `state` and `left` are what a series for ever has at its record."""
    slots = [*_record_slots(records, doses, state, left), *_dose_slots(records, doses)]
    start, keep, jump, change = zip(*slots, strict=True)
    start = _side_by_side(start, records.time.shape)
    order, record = None, np.repeat(np.arange(records.time.shape[-1]), len(slots))
    record = np.broadcast_to(record, start.shape)
    if start.shape[-1] > 1 and not (np.diff(start.real, axis=-1) >= 0).all():
        order = np.argsort(start.real, axis=-1, kind="stable")
        start, record = _take(start, order), _take(record, order)
    keep = _take(_side_by_side(keep, records.time.shape), order) if records.reset.any() else None
    jump = _take(_side_by_side(jump, records.time.shape, doses.jump.shape[-1:]), order, 1)
    if doses.inputs is not None:
        change = _take(_side_by_side(change, records.time.shape, doses.inputs.shape[-1:]), order, 1)
    else:
        change = None
    if records.reset.any():  # what was given before a reset and would come after it
        until = np.broadcast_to(records.until, (*start.shape[:-1], records.until.shape[-1]))
        alive = (start.real < np.take_along_axis(until, record, -1))[..., None]
        jump = jump * alive
        change = None if change is None else change * alive
    if np.iscomplexobj(start):  # then all of them carry its leading axes
        jump, change = jump + 0j, None if change is None else change + 0j
    return Events(start, keep, jump, change, record)


def _side_by_side(slots, shape, tail=()):
    """Slots (..., N, R, *tail) as one array (..., N, R times slots, *tail)."""
    shape = np.broadcast_shapes(shape, *(np.shape(x)[: np.ndim(x) - len(tail)] for x in slots))
    slots = [np.broadcast_to(x, shape + tail) for x in slots]
    axis = len(shape)
    return np.stack(slots, axis=axis).reshape(*shape[:-1], shape[-1] * len(slots), *tail)


def _take(value, order, n_trailing=0):
    """Values (..., N, P, *tail) in this order (..., N, P)."""
    if order is None:
        return value
    order = order[(...,) + (None,) * n_trailing]
    ndim = max(value.ndim, order.ndim)
    grow = lambda x: x.reshape((1,) * (ndim - x.ndim) + x.shape)
    return np.take_along_axis(grow(value), grow(order), axis=-1 - n_trailing)


def _dose_slots(records, doses):
    """(start, keep, jump, change) of arrivals and of the ends of infusions."""
    lag = 0.0 if doses.lag is None else doses.lag
    for n in range(1 + _held_back(records, doses)):
        start, share = records.time + lag, 1.0
        if n:
            share = (records.steady > 0) & (np.real(lag) - n * records.interval >= 0)
            start = start - np.where(share, n * records.interval, 0.0)
            share = share[..., None]
        if doses.inputs is None:
            yield start, 1.0, doses.jump * share, None
        else:
            yield start, 1.0, doses.jump * share, doses.inputs * share
            yield start + doses.duration, 1.0, 0.0, doses.inputs * -1.0 * share


def _held_back(records, doses):
    """How many doses of a series for ever come after its record but before its own dose."""
    if doses.lag is None or not (records.steady > 0).any():
        return 0
    held = np.where(records.steady > 0, np.floor(doses.lag.real / records.interval), 0.0)
    return int(min(held.max(), MOST))


def _record_slots(records, doses, state, left):
    """Resets, what a series for ever has left when its record comes, and what of it runs on."""
    if not (records.steady.any() or records.reset.any()):
        return
    running = None if doses.inputs is None else 0.0
    stops = []
    for time, where in left:
        change = doses.inputs * where[..., None]
        running = running + change
        stops.append((records.time + time, 1.0, 0.0, -change))
    yield records.time, np.where(records.reset, 0.0, 1.0), state, running
    yield from stops
