"""The doses of every subject: an immutable table that models are given beside X and y."""

import hashlib
from functools import cached_property

import numpy as np

from sklme.pharmacokinetics._nonmem import as_numbers, read_nonmem, split_columns

MODELLED = -2.0  # the rate of a dose whose duration is a parameter
NUMBERS = {  # name -> what a dose has when nothing is said
    "time": 0.0,
    "amount": 0.0,
    "rate": 0.0,
    "duration": 0.0,
    "interval": 0.0,
    "additional": 0,
    "steady_state": 0,
    "reset": False,
    "samples_before": 0,
}


class Dosing:
    """The doses of every subject.

    Keyed by subject, so it goes along with any rows: it has no length and no shape, and is never
    sliced. Immutable; two tables with the same doses are equal and have the same hash.

    Parameters
    ----------
    subject : array-like of shape (n_doses,)
        The id of the subject of each dose, as in X.
    time : array-like or float, default=0.0
        When it is given.
    amount : array-like or float, default=0.0
        How much; 0 for a reset alone, for a subject without doses, and for a constant infusion.
    rate : array-like or float, default=0.0
        Rate of an infusion, which lasts amount / rate (bioavailability times that, where the
        model has one). 0: not known by its rate. -2: its duration is a parameter of the model.
    duration : array-like or float, default=0.0
        Duration of an infusion that is known by that; 0 for a bolus.
    compartment : array-like, str or int, default=""
        Where it goes: "depot", "central", "peripheral", "second peripheral", or a number as in
        NONMEM, which starts with the depot where there is one. Empty: where the model absorbs.
    interval : array-like or float, default=0.0
        Time between the doses of a series (II).
    additional : array-like or int, default=0
        Number of further doses, one interval apart (ADDL).
    steady_state : array-like or int, default=0
        1: the series has been given for ever, and whatever else was given before is forgotten;
        2: the same, added to what is there (SS). With amount and interval 0 and a rate: a constant
        infusion for ever, which ends now.
    reset : array-like or bool, default=False
        Everything before is forgotten (EVID 3, with an amount EVID 4).
    samples_before : array-like or int, default=0
        How many samples of the same subject at the very same time were taken before the dose.

    See Also
    --------
    OneCompartment : A model that doses are given to.

    Examples
    --------
    >>> from sklme.pharmacokinetics import Dosing
    >>> Dosing(["ann", "ann", "bob"], time=[0, 24, 0], amount=100, interval=8, additional=[2, 0, 0])
    Dosing(3 doses of 2 subjects)
    """

    def __init__(
        self,
        subject,
        time=0.0,
        amount=0.0,
        *,
        rate=0.0,
        duration=0.0,
        compartment="",
        interval=0.0,
        additional=0,
        steady_state=0,
        reset=False,
        samples_before=0,
    ):
        given = {
            "time": time,
            "amount": amount,
            "rate": rate,
            "duration": duration,
            "interval": interval,
            "additional": additional,
            "steady_state": steady_state,
            "reset": reset,
            "samples_before": samples_before,
        }
        subject = _as_ids(subject)
        columns = {name: _column(name, value, len(subject)) for name, value in given.items()}
        columns["compartment"] = _names(compartment, len(subject))
        _check(subject, columns)
        self._settle(subject, columns)

    def _settle(self, subject, columns):
        codes = {}
        code = np.array([codes.setdefault(one, len(codes)) for one in subject], int)
        order = np.lexsort((columns["time"], code))
        code = code[order]
        self._subjects = codes
        self._bounds = np.searchsorted(code, np.arange(len(codes) + 1))
        self._columns = {name: column[order] for name, column in columns.items()}
        for column in self._columns.values():
            column.flags.writeable = False

    @classmethod
    def single(cls, subject, amount, time=0.0, **details):
        """Describe one dose for each subject.

        Parameters
        ----------
        subject : array-like of shape (n_rows,)
            Ids; an id that repeats, as in a column of X, counts once, by its first row.
        amount : array-like of shape (n_rows,) or float
            The dose of each row's subject.
        time : array-like of shape (n_rows,) or float, default=0.0
            When it is given.
        **details : dict
            Further arguments of `Dosing`.

        Returns
        -------
        dosing : Dosing
            The table.

        Examples
        --------
        >>> from sklme.pharmacokinetics import Dosing
        >>> Dosing.single(["ann", "ann", "bob"], amount=[320.0, 320.0, 280.0])
        Dosing(2 doses of 2 subjects)
        """
        subject, first = _as_ids(subject), {}
        for row, one in enumerate(subject):
            first.setdefault(one, row)
        rows = np.array(list(first.values()), int)
        pick = lambda x: x if np.ndim(x) == 0 else np.asarray(x)[rows]
        details = {name: pick(value) for name, value in details.items()}
        return cls([subject[row] for row in rows], pick(time), pick(amount), **details)

    @classmethod
    def from_table(cls, table):
        """Read a table whose columns are named as the arguments of `Dosing`.

        Parameters
        ----------
        table : dataframe or dict of array-like
            At least `subject` and `amount`; every other argument is optional.

        Returns
        -------
        dosing : Dosing
            The table.

        Examples
        --------
        >>> import pandas as pd
        >>> from sklme.pharmacokinetics import Dosing
        >>> Dosing.from_table(pd.DataFrame({"subject": [1, 1], "time": [0, 8], "amount": 50.0}))
        Dosing(2 doses of 1 subject)
        """
        names = list(getattr(table, "columns", table))
        known = {"subject", "compartment", *NUMBERS}
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is no column of a dosing table: {sorted(known)} are")
        for name in ("subject", "amount"):
            if name not in names:
                raise ValueError(f"the dosing table has no column {name!r}, only {names}")
        return cls(**{name: np.asarray(table[name]) for name in names})

    @classmethod
    def from_nonmem(cls, table, *, columns=None):
        """Split a table of events in the layout of NONMEM into samples and doses.

        Read are ID, TIME, DV, AMT, RATE, II, ADDL, SS, EVID, MDV and CMT in any case; only ID, TIME
        and AMT must be there. Rows of EVID 2 and samples with MDV 1 are left out. RATE -2 is a
        duration that the model estimates; -1, a rate that it estimates, is not supported.

        Parameters
        ----------
        table : dataframe
            The events, in chronological order within each subject.
        columns : dict, default=None
            Other names, as ``{"AMT": "dose_mg"}``.

        Returns
        -------
        X : dataframe
            Of the samples, all columns but those that describe doses, and DV.
        y : ndarray of shape (n_samples,)
            DV; NaN where there is no such column.
        dosing : Dosing
            The doses, and how many samples of the same time came before each.

        Raises
        ------
        ValueError
            If an event has no meaning; the message names its subject and its row.

        Warns
        -----
        UserWarning
            If a dose comes after the last sample of its subject.

        Examples
        --------
        >>> import pandas as pd
        >>> from sklme.pharmacokinetics import Dosing
        >>> table = pd.DataFrame(
        ...     {"ID": 1, "TIME": [0, 1, 8], "AMT": [100, 0, 0], "DV": [0, 9.1, 2.3], "WT": 70}
        ... )
        >>> X, y, dosing = Dosing.from_nonmem(table)
        >>> X
           ID  TIME  WT
        1   1     1  70
        2   1     8  70
        """
        events = read_nonmem(table, columns or {})
        return (*split_columns(table, events), cls(**events.doses))

    @property
    def subjects(self):
        """The ids, in the order of their first dose."""
        return list(self._subjects)

    def to_dict(self):
        """Return the columns of the table, as `from_table` reads them.

        Returns
        -------
        columns : dict of str to ndarray
            `subject` and the others; sorted by subject and time.
        """
        subject = np.empty(len(self._columns["time"]), object)
        for one, number in self._subjects.items():
            subject[self._bounds[number] : self._bounds[number + 1]] = one
        return {"subject": subject, **{n: c.copy() for n, c in self._columns.items()}}

    def rows(self, subjects):
        """Find the doses of some subjects.

        Parameters
        ----------
        subjects : array-like of shape (n_subjects,)
            Ids.

        Returns
        -------
        start : ndarray of shape (n_subjects,)
            First row of each in the columns of `to_dict`.
        end : ndarray of shape (n_subjects,)
            The row behind its last.
        """
        number = np.array([self._find(one) for one in _as_ids(subjects)], int)
        return self._bounds[number], self._bounds[number + 1]

    def column(self, name):
        """Return one column of `to_dict` without copying it.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        values : ndarray of shape (n_doses,)
            Not writeable.
        """
        return self._columns[name]

    def _find(self, subject):
        number = self._subjects.get(subject)
        if number is None:
            known = ", ".join(map(repr, self.subjects[:5]))
            raise ValueError(
                f"subject {subject!r} has no row in the dosing table, which has {known}"
                f"{', ...' if len(self._subjects) > 5 else ''}: give it one, with amount 0 if "
                "there was no dose"
            )
        return number

    @cached_property
    def _digest(self):
        digest = hashlib.blake2b(repr(list(self._subjects)).encode())
        for name in sorted(self._columns):
            digest.update(self._columns[name].tobytes())
        return (*self._bounds.tolist(), digest.hexdigest())

    def __eq__(self, other):
        return isinstance(other, Dosing) and self._digest == other._digest

    def __hash__(self):
        return hash(self._digest)

    def __deepcopy__(self, memo):
        return self

    def __copy__(self):
        return self

    def __repr__(self):
        count = lambda n, what: f"{n} {what}{'' if n == 1 else 's'}"
        doses, subjects = len(self._columns["time"]), len(self._subjects)
        return f"Dosing({count(doses, 'dose')} of {count(subjects, 'subject')})"


def _as_ids(values):
    """A list of ids as Python values, so that they can be looked up."""
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        values = [values]
    return [one.item() if isinstance(one, np.generic) else one for one in values]


def _column(name, value, n):
    """One column as numbers of its kind."""
    default = NUMBERS[name]
    column = as_numbers(value, f"{name!r} of the dosing table", missing=float(default))
    if column.ndim > 1 or (column.ndim == 1 and len(column) != n):
        raise ValueError(f"{name!r} has the shape {column.shape}, but there are {n} doses")
    column = np.broadcast_to(column, (n,))
    if not np.isfinite(column).all():
        row = int(np.argmin(np.isfinite(column)))
        raise ValueError(f"{name!r} of the dosing table is {column[row]} in row {row}")
    if isinstance(default, int) and (column != np.round(column)).any():
        row = int(np.argmax(column != np.round(column)))
        raise ValueError(f"{name!r} of the dosing table is {column[row]} in row {row}: it counts")
    return column.astype(type(default) if not isinstance(default, float) else float)


def _names(compartment, n):
    """Compartments as text: a name, a number, or nothing."""
    values = np.asarray(compartment, object)
    values = np.broadcast_to(values, (n,)).tolist()
    return np.array([_name(value) for value in values], dtype="U20")


def _name(value):
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    return "" if value == 0 else str(int(value))


def _check(subject, columns):
    c = columns
    series = (c["additional"] > 0) | ((c["steady_state"] > 0) & ~_is_constant(c))
    wrong = {
        "its amount is negative": c["amount"] < 0,
        "its rate is -1: a rate that the model estimates is not supported, a duration is, by "
        "rate -2": c["rate"] == -1,
        "its rate is negative": (c["rate"] < 0) & (c["rate"] != MODELLED) & (c["rate"] != -1),
        "its duration is negative": c["duration"] < 0,
        "it has both a rate and a duration": (c["rate"] != 0) & (c["duration"] > 0),
        "it has a rate or a duration but no amount": (c["amount"] == 0)
        & ((c["rate"] != 0) | (c["duration"] > 0))
        & ~_is_constant(c),
        "steady_state must be 0, 1 or 2": ~np.isin(c["steady_state"], (0, 1, 2)),
        "additional is negative": c["additional"] < 0,
        "samples_before is negative": c["samples_before"] < 0,
        "it is at steady state or has additional doses, which needs an interval above 0": series
        & (c["interval"] <= 0),
    }
    for reason, where in wrong.items():
        if where.any():
            row = int(np.argmax(where))
            raise ValueError(
                f"the dose of subject {subject[row]!r} in row {row} (time {c['time'][row]:g}, "
                f"amount {c['amount'][row]:g}) is not possible: {reason}"
            )


def _is_constant(columns):
    """Infusions for ever: at steady state, with a rate alone."""
    c = columns
    return (c["steady_state"] > 0) & (c["rate"] > 0) & (c["amount"] == 0) & (c["interval"] == 0)
