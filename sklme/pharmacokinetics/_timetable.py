"""Events of subjects and the place of samples among them; kept where no parameter moves them."""

from dataclasses import dataclass

import numpy as np

from sklme.pharmacokinetics._events import Events
from sklme.pharmacokinetics._merge import comes_before
from sklme.pharmacokinetics._records import Some
from sklme.pharmacokinetics._walk import find_events


@dataclass(frozen=True)
class Samples:
    """The event that each sample (..., N, n) follows.

    index : its number, 0 before all events
    dead : whether there was none; None if that is nowhere so
    time : since then
    """

    index: np.ndarray
    dead: np.ndarray | None
    time: np.ndarray

    @classmethod
    def place(cls, start, record, records):
        """The samples of records among events (..., N, P)."""
        count = comes_before(start, record, records).sum(axis=-1)
        dead = None if count.all() else count == 0
        index = np.maximum(count - 1, 0)
        time = records.samples - _pick(start, index)
        return cls(index, dead, np.where(time.real > 0, time, 0.0))

    def take(self, subjects):
        """Those of some subjects alone."""
        dead = None if self.dead is None else self.dead[subjects]
        return Samples(self.index[subjects], dead, self.time[subjects])

    def pick(self, value):
        """Of values (..., N, P) that of the event; of the first one before all events."""
        return _pick(value, self.index)

    def alive(self, f):
        """0 before all events."""
        return f if self.dead is None else np.where(self.dead, 0.0, f)


def _pick(value, index):
    if value.shape[-1] == 1:
        return value
    ndim = max(value.ndim, index.ndim)
    grow = lambda x: x.reshape((1,) * (ndim - x.ndim) + x.shape)
    return np.take_along_axis(grow(value), grow(index), axis=-1)


@dataclass(frozen=True)
class Timetable:
    """The Events; and the Samples among them where neither depends on parameters, else None."""

    events: Events
    samples: Samples | None = None

    def take(self, subjects):
        """That of some subjects alone."""
        return Timetable(Some(self.events, subjects), self.samples.take(subjects))


def find_timetable(individual, records):
    """The Timetable of individuals (..., N, 1); `records` keep one that no parameter moves."""
    moving = (individual.bioavailability, individual.lag, individual.duration)
    moves, key = any(x is not None for x in moving), individual.system.n_states
    if not moves and key in records.kept:
        return records.kept[key]
    events = find_events(individual, records)
    if moves or records.steady.any():
        return Timetable(events)
    samples = Samples.place(events.start, events.record, records)
    return records.kept.setdefault(key, Timetable(events, samples))
