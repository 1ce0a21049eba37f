"""Events and samples of each subject in one line of time."""

from dataclasses import dataclass

import numpy as np

from sklme.pharmacokinetics._records import TIE


@dataclass(frozen=True)
class Line:
    """P = samples + events, in order; see Events. A sample changes nothing.

    rules : (..., N, P), the sample whose parameters rule the way to here
    place : (..., N, n), where the samples are
    """

    start: np.ndarray
    keep: np.ndarray | None
    jump: np.ndarray
    change: np.ndarray | None
    rules: np.ndarray
    place: np.ndarray


def comes_before(start, record, records):
    """Whether an event (..., N, P) comes before a sample, (..., N, n, P)."""
    t = records.samples[..., None]
    before = start.real[..., None, :] <= t + TIE * (1.0 + np.abs(t))
    if records.excluded is None:
        return before
    record = record[..., None, :]
    excluded = records.excluded.reshape((1,) * (record.ndim - 3) + records.excluded.shape)
    return before & ~np.take_along_axis(excluded, record, axis=-1)


def rows_of_records(records):
    """The sample (N, R) whose parameters rule the record of each dose: the first one after it."""
    number = np.broadcast_to(np.arange(records.time.shape[1]), records.time.shape)
    late = ~comes_before(records.time, number, records)
    return np.minimum(late.sum(axis=-2), records.samples.shape[1] - 1)


def merge_samples(events, records, shape=()):
    """The Line; `shape` (..., N) is that of the parameters."""
    before = comes_before(events.start, events.record, records)
    n, p = before.shape[-2:]
    # An event stands behind the samples that it comes after, a sample behind its events.
    behind = (~before).sum(axis=-2)
    rank, place = np.arange(p) + behind, np.arange(n) + before.sum(axis=-1)
    shape = np.broadcast_shapes(shape, events.jump.shape[:-2], rank.shape[:-1])

    def merge(value, own, tail=()):
        out = np.empty((*shape, n + p, *tail), np.result_type(value, own))
        for at, x in ((rank, value), (place, own)):
            at = np.broadcast_to(at, (*shape, at.shape[-1]))
            x = np.broadcast_to(x, at.shape + tail)
            np.put_along_axis(out, at[(...,) + (None,) * len(tail)], x, -1 - len(tail))
        return out

    change = events.change
    return Line(
        start=merge(events.start, records.samples),
        keep=None if events.keep is None else merge(events.keep, np.ones(1)),
        jump=merge(events.jump, np.zeros(1), events.jump.shape[-1:]),
        change=None if change is None else merge(change, np.zeros(1), change.shape[-1:]),
        rules=merge(np.minimum(behind, n - 1), np.arange(n)),
        place=np.broadcast_to(place, (*shape, n)),
    )
