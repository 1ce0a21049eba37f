"""Events of subjects and the place of samples among them; kept where no parameter moves them."""

from dataclasses import dataclass, fields, replace

import numpy as np

from sklme.pharmacokinetics._events import Events
from sklme.pharmacokinetics._merge import comes_before
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
        return Timetable(_take(self.events, subjects), _take(self.samples, subjects))


def _take(part, subjects):
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{k: v[subjects] for k, v in values.items() if v is not None})


def find_timetable(individual, records):
    """The Timetable of individuals (..., N, 1); `records` keep one that no parameter moves."""
    moving = (individual.bioavailability, individual.lag, individual.duration)
    if records.steady.any() or any(x is not None for x in moving):
        return Timetable(find_events(individual, records))
    kept, key = records.kept, individual.system.n_states
    if key not in kept:
        events = find_events(individual, records)
        kept[key] = Timetable(events, Samples.place(events.start, events.record, records))
    return kept[key]
