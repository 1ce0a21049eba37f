"""Reads estimates of sites and moderators, and carries them to the scale of pooling."""

import numpy as np
import pandas as pd

from sklme._engine import meta
from sklme._rows import check_choice
from sklme.evaluation._estimate import INSIDE, SCALES, from_scale, to_scale


class MetaInput:
    """Estimates as they were given and as they are pooled, with the names of all there is."""

    def __init__(self, estimates, standard_errors, scale, names, moderators):
        self.raw = _numbers(estimates, "estimates")
        errors = _numbers(standard_errors, "standard_errors")
        if self.raw.shape != errors.shape:
            raise ValueError(
                f"estimates have the shape {np.shape(estimates)}, "
                f"but standard_errors {np.shape(standard_errors)}"
            )
        self.sites = row_labels(estimates)
        self.one_metric = np.ndim(estimates) == 1
        self.names = _metric_names(estimates, names)
        self.scales = one_each(scale, "scale", self.names)
        for one in self.scales:
            check_choice("scale", one, tuple(SCALES))
        meta.check_estimates(self.raw, errors, self.sites, self.names)
        self.theta = self._on_scale()
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = [SCALES[s][2](y) for y, s in zip(self.raw.T, self.scales, strict=True)]
        self.std_errors = errors * np.column_stack(slopes)
        self.coefficients = self.moderators = None
        if moderators is not None:
            self.moderators = self.read_moderators(moderators, "moderators", len(self.raw))
            n = self.moderators.shape[1] - 1
            columns = getattr(moderators, "columns", [f"x{i}" for i in range(n)])
            self.coefficients = ["intercept", *columns]

    def _on_scale(self):
        """The estimates on the scale of pooling; one outside of it is refused."""
        columns = zip(self.raw.T, self.scales, strict=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            theta = np.column_stack([to_scale(y, s) for y, s in columns])
        outside = ~np.isnan(self.raw) & ~np.isfinite(theta)
        if outside.any():
            i, j = np.argwhere(outside)[0]
            raise ValueError(
                f"site {self.sites[i]!r} has {self.raw[i, j]:g} in the metric {self.names[j]!r}: "
                f"on the scale {self.scales[j]!r} it must be {INSIDE[self.scales[j]]}"
            )
        return theta

    def read_moderators(self, moderators, what, n_rows=None):
        """A table of numbers, with the constant in front."""
        table = _numbers(moderators, what)
        if n_rows is not None and len(table) != n_rows:
            raise ValueError(f"{what} has {len(table)} rows, but there are {n_rows} sites")
        known = None if self.moderators is None else self.moderators.shape[1] - 1
        if known is not None and table.shape[1] != known:
            raise ValueError(f"{what} has {table.shape[1]} columns, but moderators had {known}")
        if not np.isfinite(table).all():
            i = np.flatnonzero(~np.isfinite(table).all(axis=1))[0]
            label = row_labels(moderators)[i]
            raise ValueError(f"row {label!r} of {what} has a missing or infinite value")
        return np.column_stack([np.ones(len(table)), table])

    def pool(self, **how):
        """The meta-analysis on the scale of pooling."""
        return meta.pool(self.theta, self.std_errors, moderators=self.moderators, **how)

    def natural(self, theta):
        """(n_metrics, ...) values back on the natural scale."""
        return np.array([from_scale(t, s) for t, s in zip(theta, self.scales, strict=True)])

    def read_benchmark(self, benchmark):
        """Benchmarks on the natural scale and on that of pooling, one for each metric."""
        values = one_each(benchmark, "benchmark", self.names)
        for value, name, scale in zip(values, self.names, self.scales, strict=True):
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            with np.errstate(all="ignore"):
                if not number or not np.isfinite(to_scale(value, scale)):
                    raise ValueError(
                        f"benchmark of {name!r} is {value!r}; it must be a number, {INSIDE[scale]}"
                    )
        pairs = zip(values, self.scales, strict=True)
        return np.array(values, float), np.array([float(to_scale(v, s)) for v, s in pairs])


def row_labels(table):
    """The index of a pandas object as a list, else row numbers."""
    return (
        list(table.index) if isinstance(table, pd.DataFrame | pd.Series) else [*range(len(table))]
    )


def one_each(value, what, names):
    """One value for every metric, or a list that has one for each."""
    if np.ndim(value) == 0:
        return [value] * len(names)
    if len(value) != len(names):
        raise ValueError(f"{what} has {len(value)} values, but there are {len(names)} metrics")
    return list(value)


def _numbers(table, what):
    try:
        array = np.asarray(table, float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be numbers") from None
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{what} must be a column or a table with at least one row")
    return array[:, None] if array.ndim == 1 else array


def _metric_names(estimates, names):
    if np.ndim(estimates) == 1:
        own = estimates.name if isinstance(estimates, pd.Series) else None
        given = own if names is None else names
        return (
            [0 if given is None else given]
            if np.ndim(given) == 0
            else one_each(given, "names", [0])
        )
    own = list(getattr(estimates, "columns", range(np.shape(estimates)[1])))
    return (
        own if names is None else one_each([names] if np.ndim(names) == 0 else names, "names", own)
    )
