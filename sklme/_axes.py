"""What all Displays share: axes, colours that the colour-blind can tell apart, labels."""

import numpy as np

from sklme._terms import factor_label

BLUE, RED, GREEN, ORANGE, SKY, PINK = (
    *("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"),
)
COLORS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
MARKERS = "osD^vP"
GREY, PALE = "#7f7f7f", "#d9d9d9"


def pyplot():
    """matplotlib's pyplot, imported when the first picture is drawn."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "sklme[plot]"') from error
    return plt


def open_axes(ax, n=1, *, rows=1, size=(6.0, 4.0), **options):
    """A figure and n axes in it: those given, or new ones in some rows.

    Returns (figure, list of n axes).
    """
    if ax is None:
        columns = -(-n // rows)
        figure = pyplot().figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
        for empty in axes[n:]:
            empty.set_visible(False)
    else:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n:
            raise ValueError(f"the picture has {n} panels, but ax holds {len(axes)} axes")
    for one in axes[:n]:
        one.spines[["top", "right"]].set_visible(False)
    return axes[0].figure, list(axes[:n])


def as_given(axes):
    """One panel as its axes, several as an array."""
    if len(axes) == 1:
        return axes[0]
    out = np.empty(len(axes), dtype=object)
    out[:] = axes
    return out


def name_of(y):
    """The name of the response, where it has one."""
    name = getattr(y, "name", None)
    return None if name is None else str(name)


def response_of(opened, y):
    """What the expected response of a fitted model is, None where nothing is known of it."""
    name = name_of(y)
    model = opened.model
    if not opened.generalized:
        return name
    if hasattr(model, "thresholds_"):
        return f"class number of {name}" if name else "class number"
    if hasattr(model, "classes_"):
        label = model.classes_[1]
        yes = name and label in (1, True)
        return f"share of {name}" if yes else f"share of {f'{name} = ' if name else ''}{label}"
    if model.trials is not None:
        return f"share of {name}" if name else "share of successes"
    return name


def thin(n):
    """Size and opacity of points that are n."""
    return (14.0, 0.75) if n <= 300 else (6.0, 0.5) if n <= 3000 else (2.5, 0.25)


def short(text, most=18):
    """A label that leaves room for the picture."""
    text = factor_label(text)
    return text if len(text) <= most else text[: most - 1] + "…"
