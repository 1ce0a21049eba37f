"""The linear workloads: classic tables and simulated ones with fixed seeds, all fitted by REML.

A task is what an adapter needs: numeric columns with a fixed coefficient, for each factor the
columns with a random coefficient ("1" is the intercept), the table, and one or many responses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sklme import datasets


@dataclass(frozen=True)
class Task:
    """A model and its data: `table` has fixed columns and factors; `y` is (n,) or (n, K).

    With `trials`, a column of the table, a binomial `y` counts successes.
    """

    fixed: tuple[str, ...]
    random: dict[str, tuple[str, ...]]
    table: pd.DataFrame
    y: np.ndarray
    family: str = "gaussian"
    trials: str | None = None


@dataclass(frozen=True)
class Workload:
    """A named task: how to make it, and the arguments of a small version for trials."""

    title: str
    make: Callable[..., Task]
    full: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)

    def task(self, quick=False):
        return self.make(**(self.quick if quick else self.full))


def formula(task, response="y"):
    """The model in the notation of lme4."""
    bars = (f"({' + '.join(terms)} | {factor})" for factor, terms in task.random.items())
    return f"{response} ~ {' + '.join(('1', *task.fixed, *bars))}"


def sleepstudy():
    X, y = datasets.load_sleepstudy(return_X_y=True)
    return _task(("Days",), {"Subject": ("1", "Days")}, X, y)


def penicillin():
    X, y = datasets.load_penicillin(return_X_y=True)
    return _task((), {"plate": ("1",), "sample": ("1",)}, X, y)


def pastes():
    X, y = datasets.load_pastes(return_X_y=True)
    return _task((), {"batch": ("1",), "sample": ("1",)}, X, y)


def insteval():
    X, y = datasets.load_insteval(return_X_y=True)
    return _task(("service",), {"s": ("1",), "d": ("1",), "dept": ("1",)}, X, y)


def chem97():
    """Schools have numbers of their own, so that (1 | lea/school) is (1 | lea) + (1 | school)."""
    X, y = datasets.load_chem97(return_X_y=True)
    return _task(("gcsecnt",), {"lea": ("1",), "school": ("1",)}, X, y)


def slopes(rows, groups=None, seed=20):
    """Random intercept and slope, correlated, groups of about ten rows in random order."""
    rng = np.random.default_rng(seed)
    groups = groups or max(rows // 10, 2)
    g, x, z = rng.integers(0, groups, rows), rng.normal(size=rows), rng.normal(size=rows)
    b = rng.normal(size=(groups, 2)) @ np.array([[1.0, 0.15], [0.0, 0.48]])
    y = 1 + 0.5 * x - 0.25 * z + b[g, 0] + b[g, 1] * x + rng.normal(size=rows)
    return _task(("x", "z"), {"g": ("1", "x")}, pd.DataFrame({"x": x, "z": z, "g": g}), y)


def crossed(rows, first=None, second=None, skew=0.0, seed=21):
    """Two crossed factors; the k-th level has a share of rows proportional to k**-skew.

    Without `first` and `second` the levels grow with the root of the rows: 5000 and 2000 at
    100 000 rows.
    """
    rng = np.random.default_rng(seed)
    first = first or max(round(5000 * np.sqrt(rows / 1e5)), 2)
    second = second or max(round(2000 * np.sqrt(rows / 1e5)), 2)
    a, b = _levels(first, rows, skew, rng), _levels(second, rows, skew, rng)
    x = rng.normal(size=rows)
    y = 2 + 0.5 * x + 0.7 * rng.normal(size=first)[a] + 0.5 * rng.normal(size=second)[b]
    table = pd.DataFrame({"x": x, "a": a, "b": b})
    return _task(("x",), {"a": ("1",), "b": ("1",)}, table, y + rng.normal(size=rows))


def maximal(subjects=56, items=32, seed=22):
    """Like the kb07 study: three factors in a Latin square, effect-coded, and all their slopes.

    The fixed part has the interactions as columns; 20 covariance parameters, of which the slopes'
    are small, so that the optimum is at or near a singular covariance. Three rows are lost, as in
    the study, so that the coefficients depend on the covariance.
    """
    rng = np.random.default_rng(seed)
    subject, item = (v.ravel() for v in np.indices((subjects, items)))
    cell = (subject + item) % 8
    S, P, L = (2.0 * (cell >> k & 1) - 1.0 for k in range(3))
    table = pd.DataFrame({"S": S, "P": P, "L": L, "SP": S * P, "SL": S * L, "PL": P * L})
    table["SPL"] = S * P * L
    fixed = tuple(table)
    Z = np.column_stack([np.ones_like(S), S, P, L])
    u = rng.normal(size=(subjects, 4)) * [0.30, 0.05, 0.05, 0.04]
    v = rng.normal(size=(items, 4)) * [0.35, 0.03, 0.12, 0.02]
    beta = np.array([-0.07, -0.33, 0.08, 0.02, -0.02, 0.02, 0.01])
    y = 2.2 + table.to_numpy() @ beta + (Z * (u[subject] + v[item])).sum(1)
    y = y + 0.7 * rng.normal(size=len(y))
    table = table.assign(subject=subject, item=item)
    kept = np.sort(rng.permutation(len(y))[3:])
    terms = ("1", "S", "P", "L")
    return _task(fixed, {"subject": terms, "item": terms}, table.iloc[kept], y[kept])


def responses(number, rows, groups, seed=23):
    """Many responses that share rows, sites and three covariates, as radiomic features do."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, groups, rows)
    X = rng.normal(size=(rows, 3))
    spread = rng.uniform(0.2, 1.0, size=number)
    Y = X @ rng.normal(size=(3, number)) + (rng.normal(size=(groups, number)) * spread)[site]
    Y += rng.normal(size=Y.shape)
    table = pd.DataFrame(X, columns=["x1", "x2", "x3"]).assign(site=site)
    return Task(("x1", "x2", "x3"), {"site": ("1",)}, table, Y)


def _levels(levels, rows, skew, rng):
    if not skew:
        return rng.integers(0, levels, rows)
    share = np.arange(1, levels + 1) ** -skew
    return rng.choice(levels, rows, p=share / share.sum())


def _task(fixed, random, table, y):
    """Keep the columns of the model only, in one order for all packages."""
    return Task(fixed, random, table[[*fixed, *random]].copy(), np.asarray(y, dtype=float))


WORKLOADS = {
    "sleepstudy": Workload("sleepstudy: 180 rows, (1 + Days | Subject)", sleepstudy),
    "penicillin": Workload("Penicillin: 144 rows, 24 plates x 6 samples", penicillin),
    "pastes": Workload("Pastes: 60 rows, 30 samples in 10 batches", pastes),
    "insteval": Workload("InstEval: 73 421 rows, 2972 students x 1128 lecturers x 14", insteval),
    "chem97": Workload("Chem97: 31 022 rows, 2410 schools in 131 authorities", chem97),
    "slopes100k": Workload(
        "(1 + x | g): 100 000 rows, 10 000 groups", slopes, {"rows": 100_000}, {"rows": 5000}
    ),
    "slopes1m": Workload(
        "(1 + x | g): 1 000 000 rows, 100 000 groups", slopes, {"rows": 1_000_000}, {"rows": 20_000}
    ),
    "crossed100k": Workload(
        "crossed: 100 000 rows, 5000 x 2000",
        crossed,
        {"rows": 100_000, "first": 5000, "second": 2000},
        {"rows": 5000, "first": 250, "second": 100},
    ),
    "crossed1m": Workload(
        "crossed, skewed (Zipf 0.8): 1 000 000 rows, 6000 x 4000",
        crossed,
        {"rows": 1_000_000, "first": 6000, "second": 4000, "skew": 0.8},
        {"rows": 10_000, "first": 300, "second": 200, "skew": 0.8},
    ),
    "maximal": Workload(
        "maximal: 56 subjects x 32 items, (1 + S + P + L | .) twice", maximal, {}, {}
    ),
    "responses1k": Workload(
        "1000 responses: 2000 rows, 20 sites",
        responses,
        {"number": 1000, "rows": 2000, "groups": 20},
        {"number": 50, "rows": 2000, "groups": 20},
    ),
    "responses20k": Workload(
        "20 000 responses: 600 rows, 200 groups",
        responses,
        {"number": 20_000, "rows": 600, "groups": 200},
        {"number": 200, "rows": 600, "groups": 200},
    ),
}
