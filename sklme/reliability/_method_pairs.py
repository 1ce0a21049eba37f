"""Measurements of the same subjects by two methods: sums by subject and pairs of replicates."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from sklme._ids import quote, read_ids
from sklme._rows import check_choice

REPLICATES = ("auto", "exchangeable", "linked")
SINGLE, EXCHANGEABLE, LINKED = "single", "exchangeable", "linked"


@dataclass(frozen=True)
class MethodPair:
    """What two methods say of the subjects that both have measured.

    design : "single", "exchangeable" or "linked"
    rows : DataFrame of the measurements that are used: subject, method (0 or 1), y; of linked
        replicates subject and both measurements, "0" and "1"
    n_left_out : measurements whose subject, or replicate, one of the methods lacks
    """

    first: object
    second: object
    design: str
    rows: pd.DataFrame
    n_left_out: int

    @property
    def by_subject(self) -> pd.DataFrame:
        """Means (0 and 1) of each subject by either method, and what they differ by."""
        if self.design == LINKED:
            means = self.rows.groupby("subject")[[0, 1]].mean()
        else:
            means = self.rows.groupby(["subject", "method"])["y"].mean().unstack("method")
        means = means.reindex(columns=[0, 1])
        return means.assign(difference=means[0] - means[1], mean=(means[0] + means[1]) / 2.0)

    @property
    def counts(self) -> np.ndarray:
        """Measurements of each subject by either method, (n_subjects, 2)."""
        if self.design == LINKED:
            return np.repeat(self.rows.groupby("subject").size().to_numpy()[:, None], 2, axis=1)
        sizes = self.rows.groupby(["subject", "method"]).size().unstack("method")
        return sizes.reindex(columns=[0, 1]).to_numpy()


def read_pairs(y, method, subject, replicates, replicate) -> list[MethodPair]:
    """All pairs of methods, in the order in which the methods first appear."""
    check_choice("replicates", replicates, REPLICATES)
    if replicates == "auto":
        replicates = EXCHANGEABLE if replicate is None else LINKED
    if (replicate is None) == (replicates == LINKED):
        raise ValueError(
            "linked replicates need replicate, what tells which measurements belong together; pass "
            'it, or replicates="exchangeable"'
            if replicate is None
            else 'replicate is given, but replicates="exchangeable" does not use it: leave one out'
        )
    table = pd.DataFrame({"y": _numbers(y)})
    names = {"method": method, "subject": subject, "replicate": replicate}
    ids = {name: _ids(name, given, table) for name, given in names.items() if given is not None}
    methods = ids["method"].values
    if len(methods) < 2:
        raise ValueError(
            f"method has one value, {quote(methods[0])}: agreement is that of two methods or more"
        )
    table = table.assign(**{name: one.codes for name, one in ids.items()})
    if replicates == LINKED:
        _refuse_repeated(table, ids)
    pairs = combinations(range(len(methods)), 2)
    return [_pair(table, methods, i, j, replicates == LINKED, ids["subject"]) for i, j in pairs]


def _numbers(y) -> np.ndarray:
    y = np.asarray(column_or_1d(y), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(y))
    if len(bad):
        raise ValueError(f"y is missing or infinite in row {bad[0]}: drop such rows")
    return y


def _ids(name: str, given, table: pd.DataFrame):
    column = pd.Series(given) if np.ndim(given) == 1 else None
    if column is None or len(column) != len(table):
        raise ValueError(f"{name} has the shape {np.shape(given)}, but y has {len(table)} rows")
    return read_ids(column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array, name)


def _refuse_repeated(table: pd.DataFrame, ids: dict) -> None:
    """A method measures a replicate of a subject once."""
    twice = table.duplicated(["subject", "method", "replicate"]).to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        said = [f"{name} {quote(one.values[one.codes[row]])}" for name, one in ids.items()]
        raise ValueError(
            f"row {row} repeats {', '.join(said)}: of linked replicates each method has one "
            "measurement"
        )


def _pair(table, methods, i, j, linked, subjects) -> MethodPair:
    rows = table[table["method"].isin([i, j])]
    rows = rows.assign(method=(rows["method"] == j).astype(int))
    if linked:
        wide = rows.pivot(index=["subject", "replicate"], columns="method", values="y").dropna()
        used = wide.reset_index("subject").reset_index(drop=True)
        n_used, single = 2 * len(used), not used["subject"].duplicated().any()
        if single:
            used = used.melt("subject", var_name="method", value_name="y")
    else:
        both = rows.groupby("subject")["method"].transform("nunique") == 2
        used = rows.loc[both, ["subject", "method", "y"]]
        n_used, single = len(used), not used.duplicated(["subject", "method"]).any()
    used = used.assign(subject=subjects.values[used["subject"].to_numpy()])
    design = SINGLE if single else LINKED if linked else EXCHANGEABLE
    return MethodPair(methods[i], methods[j], design, used, len(rows) - n_used)
