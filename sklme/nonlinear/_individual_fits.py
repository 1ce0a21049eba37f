"""The curve of each group and of the population, through its observations."""

from dataclasses import replace

import numpy as np
import pandas as pd

from sklme._axes import BLUE, GREY, RED, as_given, name_of, open_axes, short
from sklme.nonlinear._design import Design
from sklme.nonlinear._log_axis import log_axis
from sklme.nonlinear._observed import observe, time_column, time_name

POINTS = 150  # of each curve
DRAWN = 12  # groups, where nothing is said
BEFORE = 1e-9  # of the range, where a curve is looked at before a dose


class IndividualFitsDisplay:
    """Observations of each group with its own curve and that of its population.

    Blue is the curve at the mode of the random effects of the group, dashed red that with random
    effects at zero, for a group of these covariates and doses.

    Parameters
    ----------
    curves : DataFrame
        Columns `subject`, `time`, `individual` and `population`.
    observations : DataFrame
        Columns `subject`, `time`, `observed` and `censored`.
    response : str, default=None
        The response, with its unit.
    time : str, default="time"
        What the times are.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.

    See Also
    --------
    GoodnessOfFitDisplay : Residuals of all groups.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import IndividualFitsDisplay, NonlinearMixedModel
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> display = IndividualFitsDisplay.from_estimator(model, X, y)
    >>> len(display.ax_)
    5
    """

    def __init__(self, curves, observations, *, response=None, time="time"):
        self.curves = curves
        self.observations = observations
        self.response = response
        self.time = time

    @classmethod
    def from_estimator(
        cls,
        model,
        X=None,
        y=None,
        *,
        dosing=None,
        subjects=None,
        response=None,
        log=False,
        ax=None,
    ):
        """Draw the curves of some groups.

        Parameters
        ----------
        model : NonlinearMixedModel
            A fitted model, or a search that found one.
        X : {array-like, dataframe} of shape (n_samples, n_features), default=None
            Rows of some groups; None: those of fit.
        y : array-like of shape (n_samples,), default=None
            Their responses.
        dosing : Dosing, default=None
            Their doses; None: those of the model.
        subjects : list, default=None
            Which groups, in this order; None: the first 12.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        log : bool, default=False
            Whether the response is on a logarithmic axis.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each group.

        Returns
        -------
        display : IndividualFitsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the structure has no time, or a group has no rows.
        """
        found = observe(model, X, y, dosing)
        if time_column(found.model) is None:
            raise ValueError("the structure has no time along which curves could be drawn")
        groups = _choose(found, subjects)
        curves = _curves(found, groups)
        rows = np.flatnonzero(np.isin(found.design.groups.codes, groups))
        observations = pd.DataFrame(
            {
                "subject": found.subject[rows],
                "time": found.time[rows],
                "observed": found.y[rows],
                "censored": found.censored[rows],
            }
        )
        name = time_name(found.model)
        display = cls(curves, observations, response=response or name_of(y), time=name)
        return display.plot(ax, log=log)

    def plot(self, ax=None, *, log=False):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each group.
        log : bool, default=False
            Whether the response is on a logarithmic axis.

        Returns
        -------
        display : IndividualFitsDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `ax` does not hold a panel for each group.
        """
        subjects = list(dict.fromkeys(self.curves["subject"]))
        n = len(subjects)
        columns = min(n, 4)
        rows = -(-n // columns)
        shared = {"sharex": True, "sharey": True}
        size = (max(2.3 * columns, 4.5), max(1.9 * rows + 0.5, 3.2))
        self.figure_, axes = open_axes(ax, n, rows=rows, size=size, **(shared if n > 1 else {}))
        for k, (one, subject) in enumerate(zip(axes, subjects, strict=True)):
            self._panel(one, subject, log)
            if ax is not None or k + columns >= n:
                one.set_xlabel(self.time)
                one.tick_params(labelbottom=True)
            if ax is not None or k % columns == 0:
                one.set_ylabel(self.response or "response")
        self._legend(axes[0], n > 1 and ax is None)
        self.ax_ = as_given(axes)
        return self

    def _panel(self, ax, subject, log):
        curve = self.curves[self.curves["subject"] == subject]
        seen = self.observations[self.observations["subject"] == subject]
        ax.plot(curve["time"], curve["population"], color=RED, lw=1.2, ls="--")
        ax.plot(curve["time"], curve["individual"], color=BLUE, lw=1.6)
        measured, below = seen[~seen["censored"]], seen[seen["censored"]]
        ax.plot(measured["time"], measured["observed"], "o", ms=3.5, color="0.15")
        ax.plot(below["time"], below["observed"], "v", ms=4.5, mfc="none", mec=GREY)
        ax.set_title(short(str(subject), 20), size=9, pad=3)
        if log:
            log_axis(ax, self.observations["observed"])

    def _legend(self, ax, above):
        line = ax.plot
        handles = [
            line([], [], "o", ms=3.5, color="0.15")[0],
            line([], [], color=BLUE, lw=1.6)[0],
            line([], [], color=RED, lw=1.2, ls="--")[0],
        ]
        labels = ["observed", "individual", "population"]
        if self.observations["censored"].any():
            handles.append(line([], [], "v", ms=4.5, mfc="none", mec=GREY)[0])
            labels.append("below limit")
        where = ax.figure if above else ax
        place = {"loc": "outside upper center", "ncols": len(labels)} if above else {}
        where.legend(handles, labels, frameon=False, fontsize=8, **place)


def _choose(found, subjects):
    """Numbers of the groups to draw."""
    groups = found.design.groups
    if subjects is None:
        return np.arange(min(groups.n, DRAWN))
    known = {label: code for code, label in enumerate(groups.labels.tolist())}
    for one in subjects:
        if one not in known:
            raise ValueError(f"subjects names {one!r}, which has no rows here")
    return np.array([known[one] for one in subjects])


def _curves(found, groups):
    """Individual and population curves of some groups, in their order."""
    parts = [_grid(found, group) for group in groups]
    source = np.concatenate([rows for rows, _ in parts])
    rows = found.design.rows.take(source)
    columns = rows.columns.copy()
    columns[:, time_column(found.model)] = np.concatenate([times for _, times in parts])
    rows = replace(rows, columns=columns, y=None, censored=None)
    design = Design(found.model._layout, rows, found.dosing)
    eta, _ = found.known.place(design)
    beta = found.parameters.beta
    return pd.DataFrame(
        {
            "subject": found.subject[source],
            "time": columns[:, time_column(found.model)],
            "individual": design.predict(beta, eta),
            "population": design.predict(beta, np.zeros_like(eta)),
        }
    )


def _grid(found, group):
    """Times of the curve of a group, and for each the row whose columns hold there."""
    rows = found.design.groups.rows[group]
    rows = rows[np.argsort(found.time[rows], kind="stable")]
    own = found.time[rows]
    given = _doses(found, group, own[-1])
    first = min(own[0], given.min(initial=own[0]))
    before = given[given > first] - BEFORE * max(own[-1] - first, 1.0)
    even = np.linspace(first, own[-1], POINTS)
    times = np.unique(np.concatenate([even, own, given, before]))
    source = rows[np.maximum(np.searchsorted(own, times, side="right") - 1, 0)]
    return source, times


def _doses(found, group, last):
    """Times of the doses of a group up to its last row, those of series included."""
    if found.dosing is None:
        return np.empty(0)
    label = found.design.groups.labels[group]
    alone = found.design.groups.table is None
    start, end = found.dosing.rows(found.dosing.subjects if alone else [label])
    column = lambda name: found.dosing.column(name)[start[0] : end[0]]
    series = zip(column("time"), column("additional"), column("interval"), strict=True)
    times = np.concatenate([t + i * np.arange(n + 1) for t, n, i in series] or [np.empty(0)])
    return times[times <= last]
