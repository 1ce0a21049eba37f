"""Draws -> one row for each metric and site -> what is pooled over sites."""

from collections import defaultdict
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.stats import norm

from sklme._engine import meta
from sklme._rows import check_choice, check_number
from sklme.evaluation._estimate import INSIDE
from sklme.evaluation._fold import estimates
from sklme.evaluation.metrics import from_scale, to_scale

OK, FEW, ABSENT = "ok", "few events", "not estimable"
SAFE, LEAST = 5, 3  # sites for a prediction interval without a remark, and for one at all


@dataclass(frozen=True)
class Pooling:
    """How sites are pooled: the arguments of `cross_site_validate` of the same names."""

    method: str
    ci: str
    prediction: str
    prediction_dof: str
    confidence_level: float
    min_events: int
    benchmark: dict = field(default_factory=dict)


def read_pooling(pooling, ci, pi_method, pi_dof, confidence_level, min_events):
    """The arguments, checked."""
    check_choice("pooling", pooling, ("reml", "ml", "dl"))
    check_choice("ci", ci, ("hksj", "normal"))
    check_choice("pi_method", pi_method, ("bootstrap", "hksj"))
    check_choice("pi_dof", pi_dof, ("k-1", "k-2"))
    check_number("confidence_level", confidence_level, float, 0.0, 1.0)
    check_number("min_events", min_events, Integral, 0)
    return Pooling(pooling, ci, pi_method, pi_dof, confidence_level, min_events)


# One row for each metric, site and size ---------------------------------------------------------


def site_table(plan, draws, min_events):
    """A row for each metric, site and size of target, draws combined; with `theta`."""
    cells = defaultdict(list)
    for one in draws:
        cells[one.site, one.size].append(one)
    rows = []
    for m, metric in enumerate(plan.metrics):
        for (site, size), found in sorted(cells.items(), key=lambda item: item[0]):
            head = {"metric": metric.name, "site": plan.sites.values[site], "n_target": size}
            rows.append(head | _combine(plan, m, metric, found) | _sizes(plan, found))
    table = pd.DataFrame(rows)
    table["site"] = pd.Series(list(table["site"]), dtype=_dtype(plan.sites.values))
    table["weight"] = 0.0
    table["status"] = np.where(_poolable(table), OK, ABSENT)
    exact = np.isfinite(table["theta"]) & (table["status"] == ABSENT) & (table["reason"] == "")
    table.loc[exact, "reason"] = "without a standard error it cannot be pooled"
    if plan.task == "binary":
        _mark_few(table, min_events)
    return table


def _poolable(table):
    return np.isfinite(table["theta"]) & np.isfinite(table["std_error"]) & (table["std_error"] > 0)


def _dtype(values):
    return None if values.dtype == object else values.dtype


def _combine(plan, m, metric, found):
    """One draw as it is; the mean of several and of their variances, on the scale of pooling."""
    here = [d.estimates[m] for d in found if d.estimates and np.isfinite(d.estimates[m].theta)]
    if not here:
        reason = next((d.reason or d.estimates[m].reason for d in found), "")
        return dict.fromkeys(("estimate", "theta", "std_error", "lower", "upper"), np.nan) | {
            "reason": reason
        }
    lost = f"{len(found) - len(here)} of {len(found)} draws not estimable"
    if len(found) == 1:
        e = here[0]
        value, theta, error, lower, upper = e.value, e.theta, e.std_error, e.lower, e.upper
    else:
        theta = np.mean([e.theta for e in here])
        error = np.sqrt(np.mean([e.std_error**2 for e in here]))
        half = norm.isf(0.5 - 0.5 * plan.confidence_level) * error
        ends = np.array([theta, theta - half, theta + half])
        value, lower, upper = from_scale(ends, metric.scale)
    return {
        **{"estimate": float(value), "theta": float(theta), "std_error": float(error)},
        **{"lower": float(lower), "upper": float(upper)},
        "reason": lost if len(here) < len(found) else "",
    }


def _sizes(plan, found):
    """Rows and events that were predicted, and rows and sites that were learned from."""
    events = [plan.coded[d.rows].sum() for d in found] if plan.task == "binary" else [np.nan]
    means = {
        "n": np.mean([len(d.rows) for d in found]),
        "n_events": np.mean(events),
        "n_train": np.mean([d.n_train for d in found]),
        "n_train_sites": np.mean([d.n_train_sites for d in found]),
    }
    whole = {k: int(v) for k, v in means.items() if k != "n_events" and v == int(v)}
    return {k: whole.get(k, float(v)) for k, v in means.items()}


def _mark_few(table, min_events):
    smaller = np.minimum(table["n_events"], table["n"] - table["n_events"])
    few = (table["status"] == OK) & (smaller < min_events)
    table.loc[few, "status"] = FEW
    remark = [
        f"{s:.3g} {'row' if s == 1 else 'rows'} in the smaller class, fewer than {min_events}"
        for s in smaller[few]
    ]
    table.loc[few, "reason"] = [
        f"{old}; {new}" if old else new
        for old, new in zip(table.loc[few, "reason"], remark, strict=True)
    ]


# Pooled over sites ------------------------------------------------------------------------------


def pool_sites(table, metrics, how: Pooling, over_all):
    """The table of what holds over sites; the weights are written into `table`."""
    rows, keys = [], []
    for metric in metrics:
        for size in sorted(table["n_target"].unique()):
            of = (table["metric"] == metric.name) & (table["n_target"] == size)
            row, weight = _pool(table[of], metric, how)
            table.loc[of, "weight"] = weight
            rows.append(row | {"over_all_rows": over_all[metric.name, size]})
            keys.append((metric.name, size))
    index = pd.MultiIndex.from_tuples(keys, names=["metric", "n_target"])
    pooled = pd.DataFrame(rows, index=index)
    return pooled if table["n_target"].nunique() > 1 else pooled.droplevel("n_target")


def _pool(rows, metric, how):
    """One metric at one size of target: a row, and the weight of each site."""
    used = (rows["status"] == OK).to_numpy()
    theta, error = (rows[c].where(used, np.nan).to_numpy() for c in ("theta", "std_error"))
    benchmark, k = how.benchmark.get(metric.name, np.nan), int(used.sum())
    row = dict.fromkeys((*SCALED, "tau2", "tau2_lower", "tau2_upper", "i2"), np.nan)
    row |= {"n_sites": k, "benchmark": benchmark, "probability": np.nan, "scale": metric.scale}
    if k == 0:
        return row | {"reason": "no site could be pooled"}, np.zeros(len(rows))
    found = meta.pool(
        *(theta, error),
        method=how.method,
        ci=how.ci,
        prediction=how.prediction,
        prediction_dof=how.prediction_dof,
        confidence_level=how.confidence_level,
    )
    row |= {c: float(from_scale(_one(found, c), metric.scale)) for c in SCALED}
    row |= {c: _one(found, c) for c in ("tau2", "tau2_lower", "tau2_upper", "i2")}
    if k >= LEAST and np.isfinite(benchmark):
        row["probability"] = _probability(found, metric, benchmark)
    between = np.nan_to_num(row["tau2"])  # NaN for a single site
    precision = np.where(used, 1.0 / (error**2 + between), 0.0)
    equal = k > 1 and np.ptp(theta[used]) == 0.0
    return row | {"reason": EQUAL if equal else _remark(k)}, precision / precision.sum()


EQUAL = "all sites have the same estimate: nothing tells how far a new one may be"
SCALED = "mean", "lower", "upper", "prediction_lower", "prediction_upper"


def _one(found, name):
    return float(np.ravel(getattr(found, name))[0])


def _probability(found, metric, benchmark):
    above = meta.probability_above(found, float(to_scale(benchmark, metric.scale)))
    above = float(np.ravel(above)[0])
    return above if metric.greater_is_better else 1.0 - above


def _remark(k):
    if k < LEAST:
        return f"{k} {'site' if k == 1 else 'sites'}: too few for a prediction interval"
    if k < SAFE:
        return f"{k} sites: the prediction interval is a rough one"
    return ""


def all_rows(plan, draws):
    """Each metric on the rows of all sites together, by (name, size)."""
    found = {}
    for size in plan.target.sizes:
        here = [d for d in draws if d.size == size and d.prediction is not None]
        values = [np.nan] * len(plan.metrics)
        if here:
            rows = np.concatenate([d.rows for d in here])
            prediction = np.concatenate([d.prediction for d in here])
            values = [e.value for e in estimates(plan, rows, prediction)]
        found |= {(m.name, size): v for m, v in zip(plan.metrics, values, strict=True)}
    return found


def read_benchmark(benchmark, metrics):
    """Metric name -> number; a number alone is for the first metric."""
    if benchmark is None:
        return {}
    given = benchmark if isinstance(benchmark, dict) else {metrics[0].name: benchmark}
    known = {m.name: m for m in metrics}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"benchmark is for {name!r}, but the metrics are {list(known)}")
        _check_benchmark(known[name], value)
    return {name: float(value) for name, value in given.items()}


def _check_benchmark(metric, value):
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"benchmark of {metric.name} is {value!r}; it must be a number")
    with np.errstate(all="ignore"):
        usable = np.isfinite(to_scale(float(value), metric.scale))
    if not usable:
        raise ValueError(
            f"benchmark of {metric.name} is {value!r}; it must be {INSIDE[metric.scale]}"
        )
    if metric.greater_is_better is None:
        raise ValueError(
            f"{metric.name} has no benchmark: neither a high nor a low value of it is better"
        )
