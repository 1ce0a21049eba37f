"""Parts of a CrossSiteResult that a picture or a page shows, and its numbers as text."""

import numpy as np
import pandas as pd

from sklme._terms import factor_label

MINUS = "−"
MOST = 9999.0  # beyond which a number says nothing but that it is large


def choose_metric(result, metric=None):
    """The record of a metric by its name; None means the first."""
    names = [one.name for one in result.metrics]
    if metric is None:
        return result.metrics[0]
    if metric not in names:
        raise ValueError(f"metric {metric!r} was not evaluated; the result has {names}")
    return result.metrics[names.index(metric)]


def n_targets(result):
    """The numbers of rows of the target site that were used, smallest first."""
    return sorted(result.table["n_target"].unique().tolist())


def choose_n_target(result, n_target=None):
    """One of them; None means the smallest, so that nothing is promised that few rows give."""
    choices = n_targets(result)
    if n_target is None:
        return choices[0]
    if n_target not in choices:
        raise ValueError(f"n_target {n_target!r} was not evaluated; the result has {choices}")
    return n_target


def site_rows(result, metric, n_target):
    """The rows of the table for one metric and one n_target."""
    table = result.table
    return table[(table["metric"] == metric.name) & (table["n_target"] == n_target)]


def pooled_row(result, metric, n_target):
    """What was pooled over sites, None if nothing was."""
    pooled = result.pooled
    key = (metric.name, n_target) if isinstance(pooled.index, pd.MultiIndex) else metric.name
    return pooled.loc[key] if key in pooled.index else None


def predictions_of(result, n_target):
    """Predictions under one n_target, with a weight that counts each row of X once."""
    rows = result.predictions
    if "n_target" in rows:
        rows = rows[rows["n_target"] == n_target]
    times = rows.groupby("row")["row"].transform("size")
    return rows.assign(weight=1.0 / times)


def order_sites(rows, sort_by):
    """Rows from top to bottom; what could not be estimated comes last."""
    lost = rows["estimate"].isna()
    if sort_by == "name":
        key = rows["site"].map(_name_key)
        return rows.loc[key.sort_values(kind="stable").index]
    column = "estimate" if sort_by == "estimate" else "n"
    order = np.lexsort((-rows[column].fillna(0.0), lost))
    return rows.iloc[order]


def _name_key(site):
    """Numbers by their size, before texts."""
    if isinstance(site, (int, float, np.number)):
        return (0, float(site), "")
    return (1, 0.0, str(site).casefold())


def decimals_of(rows):
    """Decimals that tell the ends of a usual interval apart."""
    size = np.nan_to_num(rows["estimate"].abs().max())  # NaN where there is none
    width = np.nanmedian(rows["upper"] - rows["lower"]) if rows["upper"].notna().any() else 0.0
    least = 2 if size < 10 else 1 if size < 100 else 0
    if not 0 < width < np.inf:
        return least
    return int(np.clip(np.floor(0.7 - np.log10(width)) + 1, least, 4))


def number(value, decimals=2):
    """A number for people; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) > MOST:
        return f"> {MOST:,.0f}" if value > 0 else f"< {MINUS}{MOST:,.0f}"
    text = f"{value:.{decimals}f}"
    zero = float(text) == 0
    return text.lstrip("-") if zero else text.replace("-", MINUS)


def interval(lower, upper, decimals=2):
    """Both ends in brackets; a dash where there is none."""
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return "–"
    return f"[{number(lower, decimals)}, {number(upper, decimals)}]"


def estimate(row, decimals=2):
    """A value and its interval."""
    value = row["estimate"] if "estimate" in row else row["mean"]
    if not np.isfinite(value):
        return "–"
    ends = interval(row["lower"], row["upper"], decimals)
    return number(value, decimals) if ends == "–" else f"{number(value, decimals)} {ends}"


def site_label(site):
    """The name of a site on one line."""
    return " ".join(factor_label(site).split())


def short_name(site, most):
    """The name of a site in a picture: its middle left out if it is long, no mathematics in it."""
    text = site_label(site)
    if len(text) > most:
        tail = most // 2 - 1
        text = f"{text[: most - tail - 1].rstrip()}…{text[-tail:].lstrip()}"
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def counts(n, n_events):
    """Events of rows, or rows."""
    return f"{n:,.0f}" if pd.isna(n_events) else f"{n_events:,.0f}/{n:,.0f}"
