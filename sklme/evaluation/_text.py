"""The result of a validation across sites as a text for a terminal."""

from textwrap import fill

import numpy as np

from sklme._summary import WIDTH, make_table
from sklme.evaluation._pool import ABSENT, FEW, OK
from sklme.evaluation._views import site_label

EACH = 3  # best and worst sites that are named
GAP = 0.02  # of an AUC: what makes the one over all rows worth a remark
METHODS = {"reml": "REML", "ml": "ML", "dl": "DerSimonian-Laird"}


def summarize(result):
    """Heading, what holds over sites, best and worst sites, what is left out, remarks."""
    parts = [
        _heading(result),
        _pooled(result),
        *_extremes(result),
        *_left_out(result),
        *_remarks(result),
    ]
    return "\n\n".join(parts)


def _heading(result):
    s = result.settings
    patients = f" of {s['n_patients']} patients" if s["n_patients"] else ""
    lines = [
        _fit(f"Cross-site validation of {s['estimator']}"),
        f"{s['n_rows']} rows{patients} at {s['n_sites']} sites ({s['cv']})",
        _fit(_known(s)),
    ]
    if result.task == "binary":
        lines.append(f"Positive class: {result.classes[1]}")
    return "\n".join(lines)


def _known(s):
    if s["target"] == "new":
        return "Each site was predicted without any of its rows"
    what = "rows and their outcomes" if s["target"] == "updated" else "rows without outcome"
    how = "recalibrated by" if s["update"] == "recalibrate" else "adapted to"
    times = f", drawn {s['n_repeats']} times" if s["n_repeats"] > 1 else ""
    return f"Each site was predicted by a model {how} {_or(s['n_target'])} of its {what}{times}"


def _or(values):
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


# Over sites -------------------------------------------------------------------------------------


def _pooled(result):
    s, tested = result.settings, result.table["site"].nunique()
    level = f"{100 * s['confidence_level']:g} % interval"
    method = METHODS[s["pooling"]] + (", Hartung-Knapp intervals" if s["ci"] == "hksj" else "")
    table = [("", "mean", level, "at a new site", "tau", "I2", "sites")]
    several = result.pooled.index.nlevels > 1
    for metric in result.metrics:
        if several:
            table.append((metric.label, *[""] * 6))
        found = result.pooled.loc[[metric.name]]
        for key, row in zip(found.index, found.itertuples(), strict=True):
            label = f"  {key[1]} rows" if several else f"  {metric.label}"
            table.append((label, *_cells(row, tested, metric.scale)))
    notes = [_scales(result), *_judgements(result)]
    return "\n".join([f"Over sites ({method})", make_table(table), *map(_fit, notes)])


def _scales(result):
    """What tau is measured on."""
    scales = {}
    for metric in result.metrics:
        scales.setdefault(metric.scale, []).append(metric.label)
    words = [f"{k} for {', '.join(v)}" for k, v in scales.items() if k != "identity"]
    words += ["as it is for others" if words else "as it is"] * ("identity" in scales)
    return f"tau: standard deviation between sites ({'; '.join(words)})"


def _judgements(result):
    """How probable it is that a new site is better than the benchmark."""
    for metric in result.metrics:
        found = result.pooled.loc[[metric.name]]
        for key, row in zip(found.index, found.itertuples(), strict=True):
            if np.isfinite(row.probability):
                side = "above" if metric.greater_is_better else "below"
                after = f" after {key[1]} rows" if isinstance(key, tuple) else ""
                yield (
                    f"{metric.label} {side} {row.benchmark:g} at a new site{after}: "
                    f"probability {row.probability:.2f}"
                )


def _cells(row, tested, scale):
    return (
        number(row.mean, scale),
        interval(row.lower, row.upper, scale),
        interval(row.prediction_lower, row.prediction_upper, scale),
        number(np.sqrt(row.tau2), "identity"),
        "-" if np.isnan(row.i2) else f"{100 * row.i2:.0f} %",
        f"{row.n_sites}/{tested}",
    )


def number(value, scale):
    """Two decimals, or few digits for large numbers and for small ones that are not negative."""
    if not np.isfinite(value):
        return "-"
    if 10 <= abs(value) < 999.5:
        return f"{value:.3g}"
    plain = abs(value) < 1000 and (scale == "identity" or abs(value) >= 0.095)
    return f"{round(value, 2) + 0.0:.2f}" if plain else f"{value:.2g}"


def interval(lower, upper, scale):
    """Both ends, or a dash."""
    both = np.isfinite(lower) and np.isfinite(upper)
    return f"{number(lower, scale)} to {number(upper, scale)}" if both else "-"


# Sites ------------------------------------------------------------------------------------------


def _extremes(result):
    """The best and the worst sites by the first metric, at the smallest size of target."""
    metric, size = result.metrics[0], result.table["n_target"].min()
    of = (result.table["metric"] == metric.name) & (result.table["n_target"] == size)
    rows = result.table[of & (result.table["status"] == OK)]
    if not len(rows):
        return []
    rows = rows.iloc[np.argsort(_badness(rows["estimate"], metric), kind="stable")]
    title = f"Sites by {metric.label}" + (f" after {size} rows" if size else "")
    if len(rows) <= 2 * EACH:
        return [f"{title}, from the best\n{make_table(_site_rows(rows, metric.scale))}"]
    gap = ("  ...", "", "", "", "")
    best, worst = (_site_rows(part, metric.scale) for part in (rows.head(EACH), rows.tail(EACH)))
    lines = [*best, gap, *worst]
    return [f"{title}: the best and the worst\n{make_table(lines)}"]


def _badness(values, metric):
    """Small for good values."""
    if metric.greater_is_better is None:
        return abs(values - (metric.reference or 0.0))
    return -values if metric.greater_is_better else values


def _site_rows(rows, scale):
    return [
        (
            f"  {site_label(row.site)}",
            number(row.estimate, scale),
            interval(row.lower, row.upper, scale),
            f"{row.n:.0f} rows",
            "" if np.isnan(row.n_events) else f"{row.n_events:.0f} events",
        )
        for row in rows.itertuples()
    ]


# What is left out, and remarks ------------------------------------------------------------------


def _left_out(result):
    """Sites by the reason why they are not in the mean."""
    table = result.table
    lines = [
        *_few_events(table[table["status"] == FEW], result.settings["min_events"]),
        *_not_estimable(table[table["status"] == ABSENT], result.metrics),
    ]
    for row in result.excluded.itertuples():
        lines.append(f"{site_label(row.site)} ({row.n} rows): {row.reason}")
    lines = [_fit(f"  {line}") for line in lines]
    return ["\n".join(["Not in the means", *lines])] if lines else []


def _few_events(rows, least):
    """One line: sites with the number of rows in their smaller class, the fewest of all draws."""
    if len(rows):
        smaller = np.minimum(rows["n_events"], rows["n"] - rows["n_events"])
        fewest = smaller.groupby(rows["site"], sort=False).min()
        sites = ", ".join(f"{site_label(site)} ({n:.2g})" for site, n in fewest.items())
        yield f"fewer than {least} rows in the smaller class: {sites}"


def _not_estimable(rows, metrics):
    """A line for each reason, naming the metrics unless it is for all of them."""
    labels, found = {m.name: m.label for m in metrics}, {}
    for (site, reason), of in rows.groupby(["site", "reason"], sort=False):
        names = dict.fromkeys(labels[name] for name in of["metric"])
        which = "" if len(names) == len(metrics) else f" ({', '.join(names)})"
        found.setdefault(f"{reason}{which}", []).append(site_label(site))
    for reason, sites in found.items():
        yield f"{reason}: {', '.join(sites)}"


def _remarks(result):
    notes = [
        *_roughness(result),
        *other_sites_note(result),
        *patients_note(result),
        *mixture_note(result),
    ]
    return ["\n".join(_fit(f"Note: {note}") for note in notes)] if notes else []


def _roughness(result):
    """Remarks on pooling, each once, with what they are about."""
    labels = {metric.name: metric.label for metric in result.metrics}
    for reason, rows in result.pooled.groupby("reason", sort=False):
        names = dict.fromkeys(labels[name] for name in rows.index.get_level_values(0))
        if reason:
            yield f"{reason} ({', '.join(names)})"


def other_sites_note(result):
    """Sizes of target that are not pooled over the same sites cannot be compared."""
    table = result.table
    ok = table[table["status"] == OK].groupby(["metric", "n_target"])["site"].agg(frozenset)
    if (ok.groupby("metric").nunique() > 1).any():
        yield (
            "the means for different numbers of rows are over different sites, as small sites "
            "cannot give many; compare them at one site or with fewer rows"
        )


def patients_note(result):
    """What several rows of a patient do to standard errors."""
    n, rows = result.settings.get("n_patients"), result.settings.get("n_rows")
    if n is not None and n < rows:
        yield (
            f"{rows} rows are of {n} patients, but standard errors take the rows of a site as "
            "independent: where those of a patient are alike, intervals of sites are too narrow, "
            "and tau and I2 too large"
        )


def mixture_note(result):
    """The AUC of all rows, where it differs from the mean over sites."""
    if "roc_auc" not in result.pooled.index.get_level_values(0):
        return
    row = result.pooled.loc[["roc_auc"]].iloc[0]
    if abs(row["mean"] - row["over_all_rows"]) > GAP:
        yield (
            f"on the rows of all sites together the AUC is {row['over_all_rows']:.2f}, within "
            f"sites {row['mean']:.2f} on average. The first also compares rows of different sites: "
            "it gains where predictions know which sites have more events, and loses where the "
            "level of predictions shifts from site to site. At one site the second counts"
        )


def _fit(line):
    return fill(line, WIDTH, subsequent_indent="    ")
