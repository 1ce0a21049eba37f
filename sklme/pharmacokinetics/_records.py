"""The doses of the subjects at hand as padded arrays; series are written out dose by dose."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sklme.pharmacokinetics.dosing import MODELLED

TIE = 1e-10  # times closer than this, relative to their size, are the same time


@dataclass(frozen=True)
class Records:
    """Doses (N, R) of N subjects, sorted by time, and where their samples (N, n) stand.

    time : when the dose is recorded; behind the last sample where there is none
    amount : its amount; 0 where there is none
    target : its place in the state
    rate : of an infusion known by its rate, else 0
    duration : of an infusion known by its duration, else 0
    modelled : whether the duration is a parameter
    interval : time between the doses of its series; 1 where there is none
    steady : 0, 1, 2 or for a constant infusion for ever -1 and -2
    reset : whether everything before is forgotten, also by steady state 1
    until : time of the next reset: nothing of this dose is seen after
    main : whether lag time and bioavailability apply
    samples : (N, n), times of the samples in order
    excluded : (N, n, R), samples at the time of a dose that were taken before; None for nowhere
    kept : what follows from all this alone, worked out once; its values have `take`
    """

    time: np.ndarray
    amount: np.ndarray
    target: np.ndarray
    rate: np.ndarray
    duration: np.ndarray
    modelled: np.ndarray
    interval: np.ndarray
    steady: np.ndarray
    reset: np.ndarray
    until: np.ndarray
    main: np.ndarray
    samples: np.ndarray
    excluded: np.ndarray | None
    kept: dict = field(default_factory=dict, repr=False, compare=False)

    def take(self, subjects):
        """Those of some subjects alone."""
        return self if subjects is None else Some(self, subjects)

    @property
    def is_infusion(self):
        """Whether a dose takes time."""
        return (self.rate > 0) | (self.duration > 0) | self.modelled


class Some:
    """The records of some subjects; what is not asked for is not picked."""

    def __init__(self, records, subjects):
        self._records, self._subjects = records, subjects

    def __getattr__(self, name):
        value = getattr(self._records, name)
        value = None if value is None else value[self._subjects]
        setattr(self, name, value)
        return value

    @cached_property
    def kept(self):
        """What is kept of all subjects, of these."""
        return {key: value.take(self._subjects) for key, value in self._records.kept.items()}


def build_records(dosing, subjects, samples, places, furthest=np.inf):
    """Records of the doses of `subjects`, (N,) ids, whose samples are at (N, n) in order.

    `places` maps the name of a compartment, or "", to (target, main, whether a bolus into it is
    absorbed over a modelled duration). Infusions may go into states up to `furthest`.
    """
    start, end = dosing.rows(subjects)
    number = np.repeat(np.arange(len(start)), end - start)
    rows = np.concatenate([np.arange(a, b) for a, b in zip(start, end, strict=True)])
    flat = {name: dosing.column(name)[rows] for name in dosing.to_dict() if name != "subject"}
    flat["number"] = number
    flat |= _read_places(flat, np.asarray(subjects, object)[number], places, furthest)
    flat["steady"] = np.where(
        (flat["amount"] == 0) & (flat["interval"] == 0), -flat["steady_state"], flat["steady_state"]
    )
    flat["reset"] = flat["reset"] | (np.abs(flat["steady"]) == 1)
    flat["until"] = _next_reset(flat)
    flat = _write_out(flat)
    flat = _drop_idle(flat, samples)
    return _pad(flat, samples)


def _read_places(flat, subjects, places, furthest):
    names = flat["compartment"]
    target, main, modelled = (np.zeros(len(names), dtype) for dtype in (int, bool, bool))
    for name in np.unique(names):
        here = names == name
        if name not in places:
            known = ", ".join(repr(place) for place in places if place)
            raise ValueError(
                f"a dose of subject {subjects[np.argmax(here)]!r} goes into the compartment "
                f"{str(name)!r}, which the model does not have: it has {known}"
            )
        target[here], main[here], modelled[here] = places[name]
    wants = flat["rate"] == MODELLED
    if (wants & ~modelled).any():
        row = int(np.argmax(wants & ~modelled))
        raise ValueError(
            f"a dose of subject {subjects[row]!r} has the rate -2, a duration that is a parameter: "
            'only absorption="zero-order" has that, for doses into the central compartment'
        )
    long = (flat["rate"] != 0) | (flat["duration"] > 0)
    deep = long & (target > furthest)
    if deep.any():
        row = int(np.argmax(deep))
        raise ValueError(
            f"subject {subjects[row]!r} has an infusion into a peripheral compartment: only a "
            "bolus is possible there"
        )
    modelled &= (wants | ~long) & (flat["amount"] > 0)
    return {
        "target": target,
        "main": main,
        "modelled": modelled,
        "rate": np.where(wants, 0.0, flat["rate"]),
    }


def _next_reset(flat):
    """Time of the next reset in the rows below, of the same subject."""
    until = np.full(len(flat["time"]), np.inf)
    number, reset, time = flat["number"], flat["reset"], flat["time"]
    for row in range(len(until) - 2, -1, -1):
        if number[row + 1] == number[row]:
            until[row] = time[row + 1] if reset[row + 1] else until[row + 1]
    return until


def _write_out(flat):
    """A row for each dose of a series."""
    times = flat["additional"] + 1
    rows = np.repeat(np.arange(len(times)), times)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    out = {name: column[rows] for name, column in flat.items()}
    out["time"] = out["time"] + nth * out["interval"]
    for name in ("steady", "reset", "samples_before"):
        out[name] = np.where(nth == 0, out[name], 0)
    order = np.lexsort((out["time"], out["number"]))
    return {name: column[order] for name, column in out.items()}


def _drop_idle(flat, samples):
    """Without what no sample can see."""
    late = flat["time"] > samples[flat["number"], -1] * (1.0 + TIE) + TIE
    idle = (flat["amount"] == 0) & (flat["steady"] == 0) & ~flat["reset"].astype(bool)
    return {name: column[~(late | idle)] for name, column in flat.items()}


def _pad(flat, samples):
    N, number = len(samples), flat["number"]
    counts = np.bincount(number, minlength=N)
    at = number, np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)

    def padded(name, fill, dtype):
        out = np.full((N, max(int(counts.max(initial=1)), 1)), fill, dtype)
        out[at] = flat[name]
        return out

    time = padded("time", np.nan, float)
    time = np.where(np.isnan(time), samples[:, -1:] + 1.0, time)
    interval = padded("interval", 1.0, float)
    return Records(
        time=time,
        amount=padded("amount", 0.0, float),
        target=padded("target", 0, int),
        rate=padded("rate", 0.0, float),
        duration=padded("duration", 0.0, float),
        modelled=padded("modelled", False, bool),
        interval=np.where(interval > 0, interval, 1.0),
        steady=padded("steady", 0, int),
        reset=padded("reset", False, bool),
        until=padded("until", np.inf, float),
        main=padded("main", False, bool),
        samples=samples,
        excluded=_excluded(time, padded("samples_before", 0, int), samples),
    )


def _excluded(time, samples_before, samples):
    if not samples_before.any():
        return None
    n = samples.shape[1]
    new = np.ones(samples.shape, bool)
    new[:, 1:] = samples[:, 1:] != samples[:, :-1]
    nth = np.arange(n) - np.maximum.accumulate(np.where(new, np.arange(n), 0), axis=1)
    return is_same(time[:, None], samples[:, :, None]) & (nth[:, :, None] < samples_before[:, None])


def is_same(a, b):
    """Whether times differ by rounding alone."""
    return np.abs(a - b) <= TIE * (1.0 + np.abs(b))
