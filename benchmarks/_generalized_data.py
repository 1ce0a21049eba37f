"""The generalized workloads: classic tables and simulated yes-or-no answers with fixed seeds."""

import numpy as np
import pandas as pd
from _data import Task, Workload

from sklme import datasets


def cbpp():
    X, y = datasets.load_cbpp(return_X_y=True)
    return _task(X, y, ["herd"], "binomial", categories=["period"], trials="size")


def verbagg():
    X, y = datasets.load_verbagg(return_X_y=True)
    kinds = ["Gender", "btype", "situ"]
    return _task(X.drop(columns="mode"), y, ["id", "item"], "binomial", categories=kinds)


def grouseticks():
    """A random intercept for every row takes up what varies more than a Poisson count."""
    X, y = datasets.load_grouseticks(return_X_y=True)
    factors = ["BROOD", "INDEX", "LOCATION"]
    return _task(X.drop(columns="HEIGHT"), y, factors, "poisson", categories=["YEAR"])


def bernoulli(rows, groups, covariates, seed=24):
    """Answers in groups of random size whose log-odds have a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    site, x = rng.integers(0, groups, rows), rng.normal(size=(rows, covariates))
    slopes = np.resize([0.5, -0.5, 0.25, 0.0, -0.25], covariates)
    eta = -0.5 + x @ slopes + rng.normal(size=groups)[site]
    y = rng.random(rows) < 1 / (1 + np.exp(-eta))
    X = pd.DataFrame(x, columns=[f"x{j}" for j in range(1, covariates + 1)]).assign(site=site)
    return _task(X, y, ["site"], "binomial")


def _task(X, y, factors, family, categories=(), trials=None):
    """Categories become columns of zeros and ones beforehand, the same for all packages."""
    X = pd.get_dummies(X, columns=list(categories), drop_first=True, dtype=float)
    fixed = tuple(name for name in X if name not in {*factors, trials})
    table = X[[*fixed, *([trials] if trials else []), *factors]]
    y = np.asarray(y, dtype=float)
    return Task(fixed, dict.fromkeys(factors, ("1",)), table, y, family, trials)


WORKLOADS = {
    "cbpp": Workload("cbpp: 56 counts out of known numbers, 15 herds", cbpp),
    "verbagg": Workload("VerbAgg: 7584 answers, 316 people x 24 items", verbagg),
    "grouseticks": Workload("grouseticks: 403 counts, an effect for every row", grouseticks),
    "bern100k": Workload(
        "Bernoulli: 100 000 rows, 2000 groups, 5 covariates",
        bernoulli,
        {"rows": 100_000, "groups": 2000, "covariates": 5},
        {"rows": 5000, "groups": 100, "covariates": 5},
    ),
    "bern1m": Workload(
        "Bernoulli: 1 000 000 rows, 50 000 groups, 7 covariates",
        bernoulli,
        {"rows": 1_000_000, "groups": 50_000, "covariates": 7},
        {"rows": 10_000, "groups": 500, "covariates": 7},
    ),
}
