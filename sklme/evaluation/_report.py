"""A cross-site validation as one page that needs nothing but itself."""

from datetime import date
from html import escape
from pathlib import Path

import numpy as np

from sklme._axes import pyplot
from sklme.evaluation import _report_text as words
from sklme.evaluation._draw import draw
from sklme.evaluation._page import (
    capitalized,
    definitions,
    figure,
    heading,
    page,
    paragraph,
    section,
    table,
)
from sklme.evaluation._text import mixture_note, other_sites_note, patients_note
from sklme.evaluation._views import (
    counts,
    decimals_of,
    estimate,
    interval,
    n_targets,
    number,
    pooled_row,
    site_label,
    site_rows,
)

TITLE = "Does the model hold at the next site?"
FEW_MARK = " †"


def write_html(result, path, title=None):
    """Write a result as a page with all figures, tables and terms inside.

    Parameters
    ----------
    result : CrossSiteResult
        What `cross_site_validate` returned.
    path : str or path-like
        File to write.
    title : str, default=None
        Title of the page.

    Returns
    -------
    path : Path
        The file.
    """
    title = TITLE if title is None else str(title)
    with pyplot().style.context("default"):
        parts = [
            _head(result, title),
            section("Over all sites", _pooled_table(result), *_remarks(result)),
            section("Site by site", *_forests(result)),
            section("Calibration", *_calibration(result)),
            section("Net benefit", *_net_benefit(result)),
            section("With rows of the new site", *_learning(result)),
        ]
    parts += [
        section("Numbers of each site", *_site_tables(result)),
        section("What was left out, and why", *_left_out(result)),
        section("How it was done", definitions(words.how(result, date.today().isoformat()))),
        section("Terms", definitions(words.glossary(result)), kind="small"),
    ]
    path = Path(path)
    path.write_text(page(title, "\n".join(part for part in parts if part)), encoding="utf-8")
    return path


def _head(result, title):
    rows = result.settings.get("n_rows", len(result.predictions))
    sites = result.table["site"].nunique()
    sub = f"Cross-site validation: {sites} sites, {rows:,} rows, {date.today().isoformat()}"
    lead = "\n".join(paragraph(sentence) for sentence in words.summary(result))
    return f'<h1>{escape(title)}</h1>\n{paragraph(sub, "date")}\n<div class="lead">\n{lead}\n</div>'


# Over all sites ---------------------------------------------------------------------------------


def _level(result):
    return f"{100 * result.settings.get('confidence_level', 0.95):g} %"


def _pooled_table(result):
    sizes, level = n_targets(result), _level(result)
    benchmarked = result.pooled["probability"].notna().any()
    head = ["Metric", *(["Rows of the site used"] if len(sizes) > 1 else [])]
    head += [f"Mean [{level} confidence interval]", f"New site [{level} prediction interval]"]
    head += ["τ between sites", "I²", "Sites"]
    head += ["Benchmark", "P(new site better)"] if benchmarked else []
    rows = []
    for metric in result.metrics:
        for size in sizes:
            row = pooled_row(result, metric, size)
            if row is not None:
                first = [capitalized(metric.label), *([f"{size:g}"] if len(sizes) > 1 else [])]
                rows.append(first + _pooled_cells(result, metric, size, row, benchmarked))
    return table("Performance over all sites and at a new site", head, rows)


def _pooled_cells(result, metric, size, row, benchmarked):
    digits = decimals_of(site_rows(result, metric, size))
    cells = [
        estimate(row, digits),
        interval(row["prediction_lower"], row["prediction_upper"], digits),
        words.tau(row),
        f"{100 * row['i2']:.0f} %" if np.isfinite(row["i2"]) else "–",
        f"{row['n_sites']:.0f}",
    ]
    if benchmarked:
        known = np.isfinite(row["probability"])
        share = 100 * row["probability"] if known else np.nan
        cells += [f"{row['benchmark']:g}", f"{share:.0f} %"] if known else ["–", "–"]
    return cells


def _remarks(result):
    """Reasons of the pooled table, each once, and what else is to be kept in mind."""
    reasons = {}
    for key, reason in result.pooled["reason"].items():
        name = key[0] if isinstance(key, tuple) else key
        if reason:
            reasons.setdefault(reason, {})[name] = None
    labels = {metric.name: metric.label for metric in result.metrics}
    notes = [
        f"{', '.join(labels.get(n, n) for n in names)}: {reason}."
        for reason, names in reasons.items()
    ]
    others = [*other_sites_note(result), *patients_note(result), *mixture_note(result)]
    notes += [f"{capitalized(note)}." for note in others]
    return [paragraph(note, "note") for note in notes]


# Pictures ---------------------------------------------------------------------------------------


def _used(result, size):
    return f" ({size:g} rows of the site used)" if len(n_targets(result)) > 1 else ""


def _forests(result):
    size = n_targets(result)[0]
    yield paragraph(
        "Each site was predicted by a model that was fitted without it. Squares are sites, their "
        "area is the weight in the mean; the diamond is the mean with its confidence interval, and "
        "the bar below it is the prediction interval of a new site."
    )
    for metric in result.metrics:
        yield heading(f"{metric.label}{_used(result, size)}")
        drawn = draw(result, metric.name, n_target=size).figure
        yield figure(drawn, _forest_alt(result, metric, size), wide=True)


def _forest_alt(result, metric, size):
    rows, row = site_rows(result, metric, size), pooled_row(result, metric, size)
    text = f"Forest plot of the {metric.label} at {len(rows)} sites"
    if row is None or not np.isfinite(row["mean"]):
        return f"{text}; nothing could be pooled."
    digits = decimals_of(rows)
    new = interval(row["prediction_lower"], row["prediction_upper"], digits)
    return f"{text}; mean {estimate(row, digits)}; prediction interval of a new site {new}."


def _calibration(result):
    if result.task == "classes" or not len(result.predictions):
        return
    sizes = n_targets(result)
    yield paragraph(
        "What was observed against what was predicted, as a smooth curve for each site and for "
        "the rows of all sites; on the dotted line predictions are right. Sites with too few "
        "events have no curve. The band is the confidence interval of the curve of all sites."
    )
    shown = dict.fromkeys([sizes[0], sizes[-1]])
    pictures = [_picture(result, "calibration", size) for size in shown]
    yield f'<div class="pair">{"".join(pictures)}</div>'


def _picture(result, kind, size):
    drawn = draw(result, kind=kind, n_target=size)
    n = len(drawn.sites)
    name = {"calibration": "Calibration curves", "net_benefit": "Net benefit by threshold"}[kind]
    caption = f"{name} of {n} sites{_used(result, size)}"
    return figure(drawn.figure, f"{caption}, with what holds over all of them in bold.", caption)


def _net_benefit(result):
    thresholds = result.settings.get("thresholds")
    if result.task != "binary" or thresholds is None or not len(result.predictions):
        return
    yield paragraph(
        "What is gained by treating whoever is above a threshold probability, against treating "
        "everybody or nobody. Thin lines are sites, bold ones their mean."
    )
    yield _picture(result, "net_benefit", n_targets(result)[0])


def _learning(result):
    if len(n_targets(result)) < 2:
        return
    yield paragraph(
        "How performance changes with the number of rows of the new site that the model was given; "
        "these rows are not among those on which it was judged."
    )
    pictures = []
    for metric in result.metrics:
        drawn = draw(result, metric.name, "learning_curve").figure
        caption = f"{capitalized(metric.label)} by the number of rows of the site that were used"
        pictures.append(figure(drawn, f"{caption}: a line a site, the mean in bold.", caption))
    yield f'<div class="pair">{"".join(pictures)}</div>'


# Sites ------------------------------------------------------------------------------------------


def _site_tables(result):
    sizes = n_targets(result)
    for size in dict.fromkeys([sizes[0], sizes[-1]]):
        yield _site_table(result, size)
    if (result.table["status"] == "few events").any():
        yield paragraph(f"{FEW_MARK.strip()} few events: shown, but not in the mean.", "note")


def _site_table(result, size):
    rows = result.table[result.table["n_target"] == size]
    events = rows["n_events"].notna().any()
    head = ["Site", "Rows", *(["Events"] if events else []), "Learned from"]
    first = len(head)
    head += [capitalized(metric.label) for metric in result.metrics]
    digits = {m.name: decimals_of(rows[rows["metric"] == m.name]) for m in result.metrics}
    lines, pale = [], set()
    for site, of in rows.groupby("site", sort=True):
        of = of.set_index("metric")
        kept = [of.loc[metric.name, "status"] == "ok" for metric in result.metrics]
        pale |= {(len(lines), first + i) for i, ok in enumerate(kept) if not ok}
        lines.append(_site_cells(result, site, of, digits, events))
    caption = f"Estimates with their {_level(result)} confidence intervals{_used(result, size)}"
    return table(caption, head, lines, pale=pale)


def _site_cells(result, site, of, digits, events):
    row = of.iloc[0]
    cells = [site_label(site), counts(row["n"], np.nan)]
    cells += [counts(row["n_events"], np.nan)] if events else []
    known = row["n_train"] > 0
    of_sites = f"{row['n_train']:,.0f} rows\n{row['n_train_sites']:.0f} sites"
    cells.append(of_sites if known else "–")
    return cells + [_cell_of(of.loc[m.name], digits[m.name]) for m in result.metrics]


def _cell_of(row, digits):
    """The estimate, and its interval below it."""
    mark = FEW_MARK if row["status"] == "few events" else ""
    if not np.isfinite(row["estimate"]):
        return "–"
    return (
        f"{number(row['estimate'], digits)}{mark}\n{interval(row['lower'], row['upper'], digits)}"
    )


def _left_out(result):
    excluded = result.excluded
    if excluded is not None and len(excluded):
        lines = [
            [site_label(row["site"]), counts(row["n"], np.nan), row["reason"]]
            for _, row in excluded.iterrows()
        ]
        yield table("Sites that were not evaluated", ["Site", "Rows", "Reason"], lines, text=(2,))
    else:
        yield paragraph("Every site was evaluated.")
    lines = _remarks_by_site(result)
    if lines:
        several = len(n_targets(result)) > 1
        head = ["Site", "Metrics", *(["Rows of the site used"] if several else [])]
        head += ["Status", "Reason"]
        last = len(head) - 1
        caption = "Numbers that are missing, not pooled, or of part of the draws"
        yield table(caption, head, lines, text=(1, last - 1, last))
    else:
        yield paragraph("Every metric could be computed and pooled at every site.")


def _remarks_by_site(result):
    """A line for each site, status and reason, with the metrics and sizes that it is about."""
    table = result.table[(result.table["reason"] != "") | (result.table["status"] != "ok")]
    labels = {metric.name: metric.label for metric in result.metrics}
    sizes, lines = n_targets(result), []
    keys = ["site", "status", "reason"]
    for (site, status, reason), of in table.groupby(keys, sort=True):
        names = list(dict.fromkeys(labels[name] for name in of["metric"]))
        about = "all" if len(names) == len(labels) else ", ".join(names)
        line = [site_label(site), about]
        if len(sizes) > 1:
            line.append(", ".join(f"{size:g}" for size in sorted(of["n_target"].unique())))
        lines.append([*line, status, reason])
    return lines
