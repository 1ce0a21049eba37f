"""Observed against predicted, and residuals against what they should not depend on."""

import numpy as np
from scipy import stats

from sklme._axes import BLUE, GREY, PALE, RED, as_given, name_of, open_axes, thin
from sklme._rows import check_choice
from sklme.nonlinear._observed import time_name, unwrap
from sklme.nonlinear.residuals import residual_table

KINDS = ("population", "individual", "time", "prediction", "individual-residuals", "quantiles")
LABELS = {
    "PRED": "population prediction",
    "IPRED": "individual prediction",
    "CWRES": "CWRES",
    "NPDE": "NPDE",
}


class GoodnessOfFitDisplay:
    """Predictions and residuals of a nonlinear mixed model.

    Six panels: observed values against population and individual predictions, with the line where
    both are equal; conditional weighted residuals (or, where the table has them, prediction
    distribution errors) against time and population prediction; individual weighted residuals
    against the individual prediction; and quantiles of the residuals against normal ones, with the
    band that holds 95 % of each point. Red lines are means of tenths of the rows, which should
    lie on the straight ones. Triangles are limits that observations lie below.

    Parameters
    ----------
    table : DataFrame
        As `residual_table` returns it.
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
    residual_table : The numbers.
    VisualPredictiveCheckDisplay : Whether the model makes data like these.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import GoodnessOfFitDisplay, NonlinearMixedModel
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> display = GoodnessOfFitDisplay.from_estimator(model, X, y)
    >>> len(display.ax_)
    6
    """

    def __init__(self, table, *, response=None, time="time"):
        self.table = table
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
        npde=False,
        random_state=None,
        response=None,
        kind="all",
        ax=None,
    ):
        """Draw predictions and residuals of a fitted model.

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
        npde : bool, default=False
            Whether prediction distribution errors, which are simulated, stand in for CWRES.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        kind : {"all", "population", "individual", "time", "prediction", "individual-residuals", \
"quantiles"}, default="all"
            Which panel.
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.

        Returns
        -------
        display : GoodnessOfFitDisplay
            The display, drawn.
        """
        table = residual_table(model, X, y, dosing=dosing, npde=npde, random_state=random_state)
        display = cls(table, response=response or name_of(y), time=time_name(unwrap(model)))
        return display.plot(ax, kind=kind)

    def plot(self, ax=None, *, kind="all"):
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.
        kind : {"all", "population", "individual", "time", "prediction", "individual-residuals", \
"quantiles"}, default="all"
            Which panel.

        Returns
        -------
        display : GoodnessOfFitDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `kind` is unknown, asks for times that are not there, or does not fit `ax`.
        """
        check_choice("kind", kind, ("all", *KINDS))
        timed = "time" in self.table
        if kind == "time" and not timed:
            raise ValueError('kind is "time", but the model has none')
        kinds = [k for k in KINDS if kind in ("all", k) and (timed or k != "time")]
        many = len(kinds) > 1
        size = (9.0, 5.4) if many else (5.0, 4.0)
        self.figure_, axes = open_axes(ax, len(kinds), rows=2 if many else 1, size=size)
        for one, what in zip(axes, kinds, strict=True):
            getattr(self, f"_{what.replace('-', '_')}")(one)
        self.ax_ = as_given(axes)
        return self

    @property
    def _residual(self):
        return "NPDE" if "NPDE" in self.table else "CWRES"

    def _population(self, ax):
        self._observed(ax, "PRED")

    def _individual(self, ax):
        self._observed(ax, "IPRED")

    def _observed(self, ax, name):
        x, y = self.table[name].to_numpy(), self.table["observed"].to_numpy()
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        ax.plot(ends, ends, color="0.3", lw=0.8)
        below = self.table["RES"].isna().to_numpy()  # limits, not observations
        self._points(ax, x[~below], y[~below])
        ax.plot(x[below], y[below], "v", ms=4, mfc="none", mec=GREY)
        name_y = "observed" if self.response is None else f"observed {self.response}"
        ax.set(xlabel=LABELS[name], ylabel=name_y)

    def _time(self, ax):
        self._against(ax, self.table["time"].to_numpy(), self._residual)
        ax.set_xlabel(self.time)

    def _prediction(self, ax):
        self._against(ax, self.table["PRED"].to_numpy(), self._residual)
        ax.set_xlabel(LABELS["PRED"])

    def _individual_residuals(self, ax):
        self._against(ax, self.table["IPRED"].to_numpy(), "IWRES")
        ax.set_xlabel(LABELS["IPRED"])

    def _against(self, ax, x, name):
        ax.axhline(0, color="0.3", lw=0.8)
        for end in (-1.96, 1.96):
            ax.axhline(end, color="0.6", lw=0.8, ls=":")
        y = self.table[name].to_numpy()
        self._points(ax, x, y)
        reach = max(3.0, 1.05 * np.nanmax(np.abs(y)))
        ax.set(ylabel=name, ylim=(-reach, reach))

    @staticmethod
    def _points(ax, x, y):
        seen = np.isfinite(x) & np.isfinite(y)
        x, y = x[seen], y[seen]
        size, alpha = thin(len(x))
        ax.scatter(x, y, s=size, alpha=alpha, c=BLUE, lw=0, rasterized=len(x) > 5000)
        ax.plot(*_tenths(x, y), color=RED, lw=1.5, marker="o", ms=3)

    def _quantiles(self, ax):
        name = self._residual
        ordered = np.sort(self.table[name].dropna().to_numpy())
        n = len(ordered)
        rank = np.arange(1, n + 1)
        expected = stats.norm.ppf((rank - 0.5) / n)
        ends = [stats.norm.ppf(stats.beta.ppf(q, rank, n + 1 - rank)) for q in (0.025, 0.975)]
        ax.fill_between(expected, *ends, color=PALE, lw=0)
        ax.plot(expected, expected, color="0.3", lw=0.8)
        size, alpha = thin(n)
        ax.scatter(expected, ordered, s=size, alpha=alpha, c=BLUE, lw=0, rasterized=n > 5000)
        ax.set(xlabel="normal quantile", ylabel=name)


def _tenths(x, y):
    """Means of x and y over tenths of the rows in the order of x."""
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, min(10, max(len(x) // 5, 1)))
    parts = [part for part in parts if len(part)]
    return [x[part].mean() for part in parts], [y[part].mean() for part in parts]
