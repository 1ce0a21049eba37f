"""One picture of a result: choose what it shows, open its axes, draw."""

from dataclasses import dataclass
from typing import Any

from sklme._axes import open_axes
from sklme._rows import check_choice
from sklme.evaluation._forest import Forest, figure_size
from sklme.evaluation._panels import draw_calibration, draw_learning_curve, draw_net_benefit
from sklme.evaluation._views import (
    choose_metric,
    choose_n_target,
    n_targets,
    pooled_row,
    site_rows,
)

KINDS = ("forest", "calibration", "net_benefit", "learning_curve")
SORTS = ("estimate", "n", "name")
SIZES = {"calibration": (4.8, 5.0), "net_benefit": (5.8, 4.2), "learning_curve": (5.8, 4.2)}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture and its artists: of each site, of the mean, of a new site."""

    figure: Any
    ax: Any
    sites: dict
    mean: Any
    new_site: Any


def draw(
    result,
    metric=None,
    kind="forest",
    *,
    n_target=None,
    sort_by="estimate",
    thresholds=None,
    ax=None,
):
    """Draw one kind of picture of a result; None means the first metric, the smallest n_target."""
    check_choice("kind", kind, KINDS)
    check_choice("sort_by", sort_by, SORTS)
    metric = choose_metric(result, metric)
    n_target = choose_n_target(result, n_target)
    check_possible(kind, result)
    level = result.settings.get("confidence_level", 0.95)
    rows = site_rows(result, metric, n_target)
    size = figure_size(rows, metric) if kind == "forest" else SIZES[kind]
    if kind == "learning_curve":
        check_sizes(result)
    figure, (ax,) = open_axes(ax, size=size)
    if kind == "forest":
        pooled = pooled_row(result, metric, n_target)
        forest = Forest(ax, rows, pooled, metric, sort_by=sort_by, confidence_level=level).draw()
        artists = forest.site_artists, forest.diamond, forest.prediction_line
    elif kind == "calibration":
        artists = draw_calibration(ax, result, n_target, level)
    elif kind == "net_benefit":
        artists = draw_net_benefit(ax, result, n_target, thresholds)
    else:
        artists = draw_learning_curve(ax, result, metric)
    return Drawn(figure, ax, *artists)


def check_possible(kind, result):
    """Which pictures there are of which predictions."""
    task = result.task
    possible = {
        "calibration": ("binary", "regression"),
        "net_benefit": ("binary",),
    }.get(kind, (task,))
    if task not in possible:
        what = {"classes": "several classes", "regression": "a regression"}[task]
        needs = "two classes" if len(possible) == 1 else "two classes or a regression"
        raise ValueError(f"kind {kind!r} is for predictions of {needs}; the result is of {what}")
    if kind in ("calibration", "net_benefit") and not len(result.predictions):
        raise ValueError(f"kind {kind!r} needs predictions, but no site could be predicted")


def check_sizes(result):
    """A learning curve has several points."""
    sizes = n_targets(result)
    if len(sizes) < 2:
        raise ValueError(f"a learning curve needs several n_target; the result has {sizes} only")
