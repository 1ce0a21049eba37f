"""Panels with a curve for each site: calibration, net benefit, number of local rows."""

import numpy as np

from sklme._axes import BLUE, COLORS, GREY, ORANGE, SKY
from sklme.evaluation._curves import calibration_curve, net_benefit_curves
from sklme.evaluation._views import (
    estimate,
    n_targets,
    pooled_row,
    predictions_of,
    short_name,
)

NAMED = 6  # sites up to which each has a colour and a name
STRIP = 0.13  # share of the height that shows where predictions lie
BINS = 50


def site_styles(sites):
    """Colour, width and label of the line of each site; many share one of each."""
    if len(sites) <= NAMED:
        color = dict(zip(sites, (*COLORS[1:], GREY), strict=False))
        return {
            s: {"color": color[s], "lw": 1.2, "alpha": 0.9, "label": short_name(s, 26)}
            for s in sites
        }
    return {
        s: {
            "color": "0.55",
            "lw": 0.8,
            "alpha": 0.6,
            "label": None if i else f"each of {len(sites)} sites",
        }
        for i, s in enumerate(sites)
    }


def draw_calibration(ax, result, n_target, confidence_level):
    """What was found against what was predicted; returns lines of sites, mean, band."""
    predictions, binary = predictions_of(result, n_target), result.task == "binary"
    curves = {}
    for site, rows in predictions.groupby("site", sort=True):
        curve = _calibration(rows, result.task)
        if curve is not None:
            curves[site] = curve
    styles = site_styles(list(curves))
    lines = {s: ax.plot(c.x, c.y, zorder=2, **styles[s])[0] for s, c in curves.items()}
    pooled = _calibration(predictions, result.task, predictions["site"], confidence_level)
    mean = band = None
    if pooled is not None:
        (mean,) = ax.plot(pooled.x, pooled.y, color=BLUE, lw=2.4, zorder=4, label="all sites")
        if pooled.lower is not None:
            band = ax.fill_between(
                pooled.x, pooled.lower, pooled.upper, color=BLUE, alpha=0.2, lw=0, zorder=3
            )
    _frame_calibration(ax, predictions, binary)
    _pooled_words(ax, result, n_target)
    return lines, mean, band


def _calibration(rows, task, site=None, confidence_level=0.95):
    return calibration_curve(
        rows["y"],
        rows["prediction"],
        weight=rows["weight"],
        site=site,
        task=task,
        confidence_level=confidence_level,
    )


def _frame_calibration(ax, predictions, binary):
    y, p, weight = (predictions[c].to_numpy(float) for c in ("y", "prediction", "weight"))
    if binary:
        ends = np.array([0.0, 1.0])
        _strip(ax, y, p, weight)
        ax.set(xlim=(-0.01, 1.01), ylim=(-STRIP - 0.01, 1.01), yticks=np.linspace(0, 1, 6))
        ax.set(xlabel="predicted probability", ylabel="observed share")
    else:
        ends = np.quantile(p, [0.005, 0.995])
        ax.set(xlabel="predicted value", ylabel="mean of the observed values")
    ax.set_aspect("equal", adjustable="box" if binary else "datalim")
    ax.plot(ends, ends, color="0.35", lw=1.0, ls=":", zorder=1)
    ax.legend(loc="lower right", frameon=True, framealpha=0.85, edgecolor="none", fontsize=7.5)
    if binary:
        ax.get_legend().set_bbox_to_anchor((1.0, STRIP / (1.02 + STRIP) + 0.01))


def _strip(ax, y, p, weight):
    """Where predictions lie, below the curves: rows with the event up, others down."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    bars = [np.histogram(p[y == v], edges, weights=weight[y == v])[0] for v in (1, 0)]
    tallest = max(bar.max() for bar in bars) or 1.0
    half = 0.46 * STRIP
    for bar, sign, color in zip(bars, (1.0, -1.0), ("0.3", "0.62"), strict=True):
        height = sign * half * bar / tallest
        ax.bar(edges[:-1], height, 1 / BINS, -0.5 * STRIP, align="edge", color=color, lw=0)
    ax.axhline(0.0, color="0.8", lw=0.6, zorder=0.5)
    for text, place in (("events", -0.25 * STRIP), ("others", -0.75 * STRIP)):
        ax.text(1.0, place, text, ha="right", va="center", size=6.5, color="0.35")


def _pooled_words(ax, result, n_target):
    """Intercept and slope above the panel, where they were asked for."""
    words = []
    for metric in result.metrics:
        if metric.name in ("calibration_intercept", "calibration_slope", "oe_ratio"):
            row = pooled_row(result, metric, n_target)
            if row is not None and np.isfinite(row["mean"]):
                name = metric.label.removeprefix("calibration ")
                words.append(f"{name} {estimate(row)}")
    if words:
        lines = ["   ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
        ax.set_title("\n".join(lines), loc="left", size=8.0, linespacing=1.4)


def draw_net_benefit(ax, result, n_target, thresholds=None):
    """Net benefit of the model and of treating all; returns lines of sites, mean, None."""
    predictions = predictions_of(result, n_target)
    asked = np.atleast_1d(result.settings.get("thresholds") or ()).astype(float)
    grid = _grid(predictions, asked) if thresholds is None else np.sort(np.asarray(thresholds))
    curves = net_benefit_curves(predictions, grid)
    mean = curves.pop(None)
    styles = site_styles(list(curves))
    lines = {}
    for site, curve in curves.items():
        (lines[site],) = ax.plot(grid, curve["model"], zorder=2, **styles[site])
    (line,) = ax.plot(grid, mean["model"], color=BLUE, lw=2.4, zorder=4, label="model, mean")
    ax.plot(grid, mean["treat_all"], color=ORANGE, lw=1.8, ls="--", zorder=3, label="treat all")
    ax.axhline(0.0, color="0.2", lw=1.2, zorder=3, label="treat none")
    _pooled_benefit(ax, result, n_target)
    _frame_benefit(ax, grid, curves, mean)
    return lines, line, None


def _grid(predictions, asked):
    """Thresholds from 0 to beyond those asked for, else up to where hardly anyone is treated."""
    most = 1.5 * asked.max() + 0.02 if len(asked) else np.quantile(predictions["prediction"], 0.98)
    return np.linspace(0.005, np.clip(most, 0.05, 0.99), 121)


def _pooled_benefit(ax, result, n_target):
    """Pooled means with intervals at the thresholds that were evaluated."""
    label = "pooled, with its interval"
    for metric in result.metrics:
        head, _, threshold = metric.name.partition("@")
        row = pooled_row(result, metric, n_target) if head == "net_benefit" else None
        if row is None or not np.isfinite(row["mean"]):
            continue
        ends = np.abs(np.array([[row["lower"]], [row["upper"]]], float) - row["mean"])
        style = {
            "fmt": "o",
            "color": BLUE,
            "mfc": "white",
            "ms": 4.5,
            "capsize": 2.5,
            "lw": 1.2,
            "zorder": 5,
        }
        ax.errorbar([float(threshold)], [row["mean"]], np.nan_to_num(ends), label=label, **style)
        label = None


def _frame_benefit(ax, grid, curves, mean):
    top = max(curve["model"].max() for curve in curves.values())
    shown = max(top, mean["treat_all"].max())
    ax.set(xlim=(grid[0], grid[-1]), ylim=(-0.22 * shown - 1e-3, 1.06 * shown + 1e-3))
    ax.set(xlabel="threshold probability", ylabel="net benefit (true positives per row)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    _legend_above(ax)


def draw_learning_curve(ax, result, metric):
    """A metric by the number of local rows; returns lines of sites, mean, band of a new site."""
    sizes = n_targets(result)
    table = result.table[result.table["metric"] == metric.name]
    shown = table[table["estimate"].notna() & (table["status"] == "ok")]
    by_site = dict(list(shown.sort_values("n_target").groupby("site", sort=True)))
    styles = site_styles(list(by_site))
    lines = {}
    for site, rows in by_site.items():
        style = styles[site] | {"marker": "o", "ms": 2.5, "mew": 0}
        (lines[site],) = ax.plot(rows["n_target"], rows["estimate"], zorder=2, **style)
    mean, band = _pooled_by_size(ax, result, metric, sizes)
    if metric.reference is not None:
        ax.axhline(metric.reference, color="0.35", lw=1.0, ls=":", zorder=1)
    _frame_learning(ax, metric, sizes, shown)
    return lines, mean, band


def _pooled_by_size(ax, result, metric, sizes):
    rows = {size: pooled_row(result, metric, size) for size in sizes}
    rows = {s: r for s, r in rows.items() if r is not None and np.isfinite(r["mean"])}
    if not rows:
        return None, None
    columns = ("mean", "lower", "upper", "prediction_lower", "prediction_upper")
    x = np.array(list(rows), float)
    mean, lower, upper, new_lower, new_upper = (
        np.array([row[c] for row in rows.values()], float) for c in columns
    )
    ends = np.nan_to_num(np.abs([lower - mean, upper - mean]))
    band = ax.fill_between(
        x, new_lower, new_upper, color=SKY, alpha=0.22, lw=0, zorder=1.5, label="a new site"
    )
    style = {
        "color": BLUE,
        "lw": 2.4,
        "marker": "o",
        "ms": 5,
        "capsize": 3,
        "elinewidth": 1.6,
        "zorder": 4,
    }
    line = ax.errorbar(x, mean, ends, label="mean, with its interval", **style)
    return line.lines[0], band


def _frame_learning(ax, metric, sizes, shown):
    """Sizes are spaced by their ratio, with room for none at all."""
    positive = [size for size in sizes if size > 0]
    if sizes[0] == 0:
        ax.set_xscale("symlog", linthresh=positive[0], linscale=0.8)
        ax.set_xlim(-0.08 * positive[0], positive[-1] * 1.15)
    else:
        ax.set_xscale("log")
        ax.set_xlim(positive[0] / 1.15, positive[-1] * 1.15)
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="rows of the site that were used", ylabel=metric.label)
    _legend_above(ax)


def _legend_above(ax):
    ax.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
