"""A logarithmic axis with numbers as they are written."""

import numpy as np

NARROW = 1.2  # decades up to which more than the powers of ten are named
NAMED = (1, 2, 3, 5, 7)


def log_axis(ax, values):
    """A logarithmic y axis from half of the least positive value."""
    values = np.asarray(values, float)
    positive = values[values > 0]
    ax.set_yscale("log", nonpositive="mask")
    if not len(positive):
        return
    narrow = np.log10(positive.max() / positive.min()) < NARROW
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(_few if narrow else "")
    ax.set_ylim(0.5 * positive.min(), 2.0 * positive.max())


def _few(value, _):
    """Some numbers between the powers of ten."""
    leading = value / 10.0 ** np.floor(np.log10(value) + 1e-9)
    return f"{value:g}" if round(leading) in NAMED else ""
