"""Differences of two methods against their means, with the limits of agreement."""

import numpy as np
import pandas as pd

from sklme._axes import BLUE, GREY, RED, as_given, name_of, open_axes, short, thin
from sklme.reliability._method_pairs import EXCHANGEABLE, LINKED, read_pairs
from sklme.reliability.agreement import LIMITS, agreement_limits


class BlandAltmanDisplay:
    """Differences of two methods against their means, with limits of agreement: one panel a pair.

    Bands are the intervals of bias and limits. Of single measurements and of linked replicates
    each pair is a point, and those of a subject are joined to their middle. Exchangeable replicates
    have no pairs: a point is a subject's means, which vary less than the single measurements that
    the limits are about; its area grows with the number of measurements.

    Parameters
    ----------
    points : DataFrame
        One row a point, with the columns first, second (the methods), subject, mean, difference
        and n, the measurements behind the point.
    table : DataFrame
        As `agreement_limits` returns it.
    response : str, default=None
        What was measured, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.
    points_ : list of PathCollection
        The points of each panel, after `plot`.
    lines_ : list of dict
        The lines of each panel by name, "bias", "lower_limit" and "upper_limit", after `plot`.

    See Also
    --------
    BlandAltmanDisplay.from_data : From the measurements.

    Examples
    --------
    >>> import numpy as np
    >>> from sklme.reliability import BlandAltmanDisplay
    >>> rng = np.random.default_rng(0)
    >>> subject, method = np.repeat(range(30), 2), np.tile(["manual", "automatic"], 30)
    >>> y = rng.normal(50, 8, 30)[subject] + rng.normal(0, 2, 60)
    >>> display = BlandAltmanDisplay.from_data(y, method, subject, response="volume (ml)")
    >>> display.ax_.get_ylabel()
    'manual − automatic'
    """

    def __init__(self, points, table, *, response=None):
        self.points = points
        self.table = table
        self.response = response

    @classmethod
    def from_data(
        cls,
        y,
        method,
        subject,
        *,
        replicates="auto",
        replicate=None,
        coverage=0.95,
        confidence_level=0.95,
        response=None,
        ax=None,
    ):
        """Draw measurements by two or more methods.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The measurements; a name labels the axis.
        method : array-like of shape (n_samples,)
            By which method.
        subject : array-like of shape (n_samples,)
            Of whom.
        replicates : {"auto", "exchangeable", "linked"}, default="auto"
            See `agreement_limits`.
        replicate : array-like of shape (n_samples,), default=None
            The occasion, for linked replicates.
        coverage : float, default=0.95
            Share of the differences that lies between the limits.
        confidence_level : float, default=0.95
            Coverage of the bands that is aimed at.
        response : str, default=None
            What was measured, with its unit, instead of the name of y.
        ax : matplotlib Axes or array of them, default=None
            Where to draw; as many as there are pairs of methods.

        Returns
        -------
        display : BlandAltmanDisplay
            The display, drawn.
        """
        how = {"replicates": replicates, "replicate": replicate}
        table = agreement_limits(
            y, method, subject, **how, coverage=coverage, confidence_level=confidence_level
        )
        pairs = read_pairs(y, method, subject, **how)
        points = pd.concat([_points(pair) for pair in pairs], ignore_index=True)
        return cls(points, table, response=response or name_of(y)).plot(ax)

    def plot(self, ax=None):
        """Draw the differences.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw; as many as there are pairs of methods.

        Returns
        -------
        display : BlandAltmanDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are more or fewer axes than pairs of methods.
        """
        n = len(self.table)
        self.figure_, axes = open_axes(ax, n, size=(5.6 * n, 4.0))
        self.points_, self.lines_ = [], []
        for one, (names, row) in zip(axes, self.table.iterrows(), strict=True):
            own = (self.points["first"] == names[0]) & (self.points["second"] == names[1])
            self._panel(one, names, row, self.points[own])
        self.ax_ = as_given(axes)
        return self

    def _panel(self, ax, names, row, points):
        first, second = (short(name, 20) for name in names)
        measured = "" if self.response is None else f" of {self.response}"
        means = ", subjects' means" if row["design"] == EXCHANGEABLE else ""
        ax.set_xlabel(f"mean{measured} by {first} and {second}")
        ax.set_ylabel(f"{first} − {second}{means}")
        if row["status"] != "ok":
            ax.text(0.5, 0.5, row["reason"], ha="center", transform=ax.transAxes, wrap=True)
        ax.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        self.lines_.append({name: _line(ax, name, row) for name in LIMITS})
        if row["design"] == LINKED:
            _join(ax, points)
        size, alpha = thin(len(points))
        area = size * 1.6 * (points["n"] / points["n"].mean() if len(points) else 1.0)
        self.points_.append(
            ax.scatter(
                points["mean"], points["difference"], area, BLUE, alpha=alpha, lw=0, zorder=3
            )
        )
        if row["slope_pvalue"] == row["slope_pvalue"]:
            slope = f"{row['slope']:.2g}".replace("-", "−")
            said = f"slope {slope}, p {_p_value(row['slope_pvalue'])}"
            ax.set_title(said, loc="right", size=8, color=GREY)


def _points(pair) -> pd.DataFrame:
    """What a panel shows of a pair of methods."""
    if pair.design == LINKED:
        rows = pair.rows
        columns = {"difference": rows[0] - rows[1], "mean": (rows[0] + rows[1]) / 2, "n": 2}
        columns["subject"] = rows["subject"]
    else:
        rows = pair.by_subject
        columns = {name: rows[name].to_numpy() for name in ("difference", "mean")}
        columns |= {"n": pair.counts.sum(axis=1), "subject": rows.index}
    return pd.DataFrame(columns).assign(first=pair.first, second=pair.second)


def _join(ax, points):
    """Spokes from the points of each subject to their middle."""
    middle = points.groupby("subject")[["mean", "difference"]].transform("mean")
    ends = np.stack([points[["mean", "difference"]].to_numpy(), middle.to_numpy()], axis=1)
    for (x, y), (x0, y0) in ends:
        ax.plot([x, x0], [y, y0], color=BLUE, lw=0.8, alpha=0.4, zorder=2)


def _line(ax, name, row):
    """A line, its interval as a band, and both in figures at the right."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    if not value == value:
        return None
    color, style = (RED, "--") if name != "bias" else ("0.2", "-")
    ax.axhspan(low, high, color=color, alpha=0.12, lw=0, zorder=0)
    line = ax.axhline(value, color=color, lw=1.4, ls=style, zorder=1)
    digits = max(0, 2 - int(np.floor(np.log10(max(row["sd"], 1e-300))))) if row["sd"] > 0 else 2
    number = lambda v: f"{v:.{min(digits, 6)}f}".replace("-", "−")
    said = f"{name.replace('_', ' ')}\n{number(value)} [{number(low)}, {number(high)}]"
    where = {"transform": ax.get_yaxis_transform(), "va": "center", "ha": "left"}
    ax.text(1.015, value, said, size=8, color=color, **where)
    return line


def _p_value(p) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"
