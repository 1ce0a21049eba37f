"""One compartment between events, in closed form: three terms whose coefficients are recursive.

The coefficients, few, are differentiated by a complex step (Squire and Trapp 1998, "Using complex
variables to estimate derivatives of real functions", SIAM Review 40(1)); the exponentials at the
samples, which cost most, by hand.
"""

from dataclasses import dataclass

import numpy as np

from sklme.pharmacokinetics._exponentials import absorb, convolve, decay
from sklme.pharmacokinetics._timetable import Samples, find_timetable
from sklme.pharmacokinetics._walk import running, walk


@dataclass(frozen=True)
class Pieces:
    """f = decaying e^-rate t + absorbed phi(t) + infused t u(rate t), t from the last event on.

    start : (..., N, P), when each event is; None where `samples` says enough
    record : (..., N, P), the dose that it belongs to; likewise
    rate, absorption : (..., N, 1)
    decaying, absorbed, infused : (..., N, P); None without a depot, without infusions
    samples : which event each sample follows, where that does not depend on the parameters
    """

    start: np.ndarray | None
    record: np.ndarray | None
    rate: np.ndarray
    absorption: np.ndarray | None
    decaying: np.ndarray
    absorbed: np.ndarray | None
    infused: np.ndarray | None
    samples: Samples | None

    def split(self, step):
        """Real parts, and slopes along the complex steps that the first axis holds."""
        real, slopes = dict(vars(self)), dict.fromkeys(vars(self))
        for name, part in vars(self).items():
            if part is not None and np.iscomplexobj(part):
                real[name], slopes[name] = part[0].real, part.imag / step
        if slopes["start"] is not None:
            real["record"] = self.record[0]
        return Pieces(**real), Pieces(**slopes)


def build_pieces(individual, records):
    """The Pieces of individuals (..., N, 1) with one compartment."""
    system, timetable = individual.system, find_timetable(individual, records)
    events = timetable.events
    inputs = running(events.keep, events.change)
    states = walk(system, events.start, events.keep, events.jump, inputs)
    ka, absorbed, infused = system.absorption, None, None
    if ka is not None:
        absorbed = ka * states[..., 0]
    if inputs is not None:
        infused = inputs.sum(axis=-1)
        absorbed = None if ka is None else absorbed - inputs[..., 1]
    known = timetable.samples is not None
    return Pieces(
        None if known else events.start,
        None if known else events.record,
        system.rates[..., 0],
        ka,
        states[..., -1],
        absorbed,
        infused,
        timetable.samples,
    )


def _samples(pieces, records):
    if pieces.samples is not None:
        return pieces.samples
    return Samples.place(pieces.start, pieces.record, records)


def evaluate(pieces, records):
    """f (..., N, n)."""
    at = _samples(pieces, records)
    f = at.pick(pieces.decaying) * np.exp(-pieces.rate * at.time)
    if pieces.absorbed is not None:
        f = f + at.pick(pieces.absorbed) * absorb(pieces.rate, pieces.absorption, at.time)
    if pieces.infused is not None:
        f = f + at.pick(pieces.infused) * (at.time * decay(pieces.rate * at.time)[1])
    return at.alive(f)


def differentiate(pieces, records, step):
    """f (..., N, n) and its slopes (p, ..., N, n) along the complex steps of the Pieces."""
    pieces, slopes = pieces.split(step)
    at = _samples(pieces, records)
    t = at.time
    e = np.exp(-pieces.rate * t)
    f = at.pick(pieces.decaying) * e
    by_rate, terms, phi = -t * f, [(e, slopes.decaying)], None
    if pieces.absorbed is not None:
        absorbed = at.pick(pieces.absorbed)
        phi, by_own, by_ka = convolve(pieces.rate, pieces.absorption, t)
        f = f + absorbed * phi
        by_rate = by_rate + absorbed * by_own
        terms += [(phi, slopes.absorbed), (absorbed * by_ka, slopes.absorption)]
    if pieces.infused is not None:
        _, u, v = decay(pieces.rate * t)
        infused, held = at.pick(pieces.infused), t * u
        f = f + infused * held
        by_rate = by_rate - infused * (t * t * v)
        terms += [(held, slopes.infused)]
    terms += [(by_rate, slopes.rate)]
    if slopes.start is not None:
        terms += [(-_by_time(pieces, at, e, phi), slopes.start)]
    gradient = sum(part * at.pick(slope) for part, slope in terms if slope is not None)
    return at.alive(f), at.alive(gradient)


def _by_time(pieces, at, e, phi):
    """The derivative of f by time, given e^-rate t and phi."""
    slope = -pieces.rate * at.pick(pieces.decaying) * e
    if pieces.absorbed is not None:
        slope = slope + at.pick(pieces.absorbed) * (e - pieces.absorption * phi)
    if pieces.infused is not None:
        slope = slope + at.pick(pieces.infused) * e
    return slope
