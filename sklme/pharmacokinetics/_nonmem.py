"""Tables of events in the layout of NONMEM: which rows are samples, which are doses.

Beal, Sheiner, Boeckmann and Bauer, "NONMEM users guide", part V (PREDPP).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.utils import _safe_indexing

DOSE_COLUMNS = {"AMT": "amount", "RATE": "rate", "II": "interval"}
COUNTS = {"ADDL": "additional", "SS": "steady_state"}
KNOWN = ("ID", "TIME", "DV", "EVID", "MDV", "CMT", *DOSE_COLUMNS, *COUNTS)
KEPT = ("ID", "TIME")
TEXT_FOR_MISSING = ("", ".")


@dataclass(frozen=True)
class Events:
    """What the rows of a table are.

    samples : positions of the samples
    y : their DV
    doses : the arguments of Dosing
    kept : positions of the columns that X keeps
    """

    samples: np.ndarray
    y: np.ndarray
    doses: dict
    kept: list


def as_numbers(values, what, missing=0.0):
    """Float array; nothing, ``.`` and NaN become `missing`."""
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        array = array.astype(float)
        return np.where(np.isnan(array), missing, array)
    array = array.astype(object)
    out = np.empty(array.shape)
    for at, value in np.ndenumerate(array):
        try:
            out[at] = missing if _is_missing(value) else float(value)
        except (TypeError, ValueError):
            row = f" in row {at[0]}" if at else ""
            raise ValueError(f"{what} is {value!r}{row}, which is no number") from None
    return out


def _is_missing(value):
    if isinstance(value, str):
        return value.strip() in TEXT_FOR_MISSING
    return value is None or value != value


def read_nonmem(table, columns):
    """The Events of a table."""
    names = _find_columns(table, columns)
    n = len(np.asarray(table[names["ID"]]))
    number = lambda name, missing=0.0: (
        as_numbers(table[names[name]], f"column {names[name]!r}", missing)
        if name in names
        else np.full(n, missing)
    )
    ids, time, amount = np.asarray(table[names["ID"]]), number("TIME", np.nan), number("AMT")
    evid = number("EVID") if "EVID" in names else (amount != 0).astype(float)
    _check_events(ids, time, amount, evid)
    samples = np.flatnonzero((evid == 0) & (number("MDV") == 0))
    dosed = np.flatnonzero((evid == 1) | (evid >= 3))
    y = number("DV", np.nan)[samples]
    if "DV" in names and np.isnan(y).any():
        row = samples[np.argmax(np.isnan(y))]
        raise ValueError(
            f"the sample of subject {ids[row]} in row {row} has no DV: set MDV or EVID to leave "
            "it out"
        )
    doses = {value: number(key)[dosed] for key, value in (DOSE_COLUMNS | COUNTS).items()}
    for name in ("amount", "rate", "interval", "additional", "steady_state"):
        doses[name] = np.where(evid[dosed] == 3, 0.0, doses[name])
    doses |= {
        "subject": ids[dosed],
        "time": time[dosed],
        "reset": evid[dosed] >= 3,
        "compartment": number("CMT")[dosed] * (evid[dosed] != 3),
        "samples_before": _count_before(ids, time, samples, dosed),
    }
    _check_subjects(ids, time, samples, doses)
    positions = {list(table.columns).index(names[key]) for key in names if key not in KEPT}
    kept = [j for j in range(len(table.columns)) if j not in positions]
    return Events(samples, y, doses, kept)


def split_columns(table, events):
    """X and y of the samples."""
    return _safe_indexing(_safe_indexing(table, events.kept, axis=1), events.samples), events.y


def _find_columns(table, columns):
    """Map NONMEM's names to those of the table."""
    if not hasattr(table, "columns"):
        raise ValueError(f"a table with named columns is needed: {type(table).__name__} has none")
    present = list(table.columns)
    upper = {str(name).upper(): name for name in present}
    for key, name in columns.items():
        if key.upper() not in KNOWN:
            raise ValueError(f"columns names {key!r}, which is none of {', '.join(KNOWN)}")
        if name not in present:
            raise ValueError(f"columns names {name!r}, which is not a column of {present}")
    given = {key.upper(): name for key, name in columns.items()}
    names = {key: given.get(key, upper.get(key)) for key in KNOWN}
    for key in ("ID", "TIME", "AMT"):
        if names[key] is None:
            raise ValueError(
                f"the table has no column {key}, only {present}: name it by columns="
                f'{{"{key}": ...}}'
            )
    return {key: name for key, name in names.items() if name is not None}


def _check_events(ids, time, amount, evid):
    wrong = {
        "has no time": ~np.isfinite(time),
        "has an EVID other than 0, 1, 2, 3, 4": ~np.isin(evid, (0, 1, 2, 3, 4)),
        "has an amount although its EVID says that it is no dose": np.isin(evid, (0, 2))
        & (amount != 0),
    }
    for reason, where in wrong.items():
        if where.any():
            row = int(np.argmax(where))
            raise ValueError(
                f"the event of subject {ids[row]} in row {row} {reason} (EVID {evid[row]:g})"
            )
    same = ids[1:] == ids[:-1]
    back = np.flatnonzero(same & (time[1:] < time[:-1]))
    if len(back):
        row = int(back[0]) + 1
        raise ValueError(
            f"the time of subject {ids[row]} goes back from {time[row - 1]:g} to {time[row]:g} in "
            f"row {row}: sort the events of a subject by time"
        )
    starts = np.concatenate([[True], ~same])
    first = {}
    for row in np.flatnonzero(starts):
        if first.setdefault(ids[row].item() if hasattr(ids[row], "item") else ids[row], row) != row:
            raise ValueError(
                f"subject {ids[row]} comes again in row {row} after another one: the events of a "
                "subject must follow one another"
            )


def _count_before(ids, time, samples, dosed):
    """For each dose the samples of the same subject and time in rows above it."""
    new = np.ones(len(ids), bool)
    new[1:] = (ids[1:] != ids[:-1]) | (time[1:] != time[:-1])
    is_sample = np.zeros(len(ids) + 1, int)
    is_sample[samples + 1] = 1
    seen = np.cumsum(is_sample)
    start = np.maximum.accumulate(np.where(new, np.arange(len(ids)), 0))
    return seen[dosed] - seen[start[dosed]]


def _check_subjects(ids, time, samples, doses):
    """Every subject with samples has doses; a dose after the last sample is worth a warning."""
    last = {}
    for one, when in zip(ids[samples].tolist(), time[samples].tolist(), strict=True):
        last[one] = when
    subjects = doses["subject"].tolist()
    known = set(subjects)
    missing = [one for one in last if one not in known]
    if missing:
        raise ValueError(
            f"subject {missing[0]!r} has samples but no dose"
            + (f", and so have {len(missing) - 1} others" if len(missing) > 1 else "")
        )
    idle = [one for one in dict.fromkeys(subjects) if one not in last]
    if idle:
        row = int(np.argmax(ids == idle[0]))
        more = f", and so have {len(idle) - 1} others" if len(idle) > 1 else ""
        warnings.warn(
            f"subject {idle[0]!r}, from row {row} on, has doses but no sample{more}", stacklevel=3
        )
    late = [
        (one, when)
        for one, when in zip(subjects, doses["time"].tolist(), strict=True)
        if when > last.get(one, np.inf)
    ]
    if late:
        more = f"; and {len(late) - 1} more such doses" if len(late) > 1 else ""
        warnings.warn(
            f"the dose of subject {late[0][0]!r} at time {late[0][1]:g} comes after its last "
            f"sample and changes nothing{more}",
            stacklevel=3,
        )
