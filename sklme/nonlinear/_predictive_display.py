"""The picture of a visual predictive check."""

import numpy as np

from sklme._axes import BLUE, GREY, RED, as_given, name_of, open_axes, short, thin
from sklme.nonlinear._log_axis import log_axis
from sklme.nonlinear.predictive_check import EVERYTHING, visual_predictive_check


class VisualPredictiveCheckDisplay:
    """Observed quantiles by bin, over bands where the model expects them.

    The dark lines are quantiles of the observations of each bin, the bands the intervals of the
    same quantiles of simulated data: red for the middle one, blue for the others. Observed
    quantiles outside their band are marked. A panel for each stratum.

    Parameters
    ----------
    check : VisualPredictiveCheck
        As `visual_predictive_check` returns it.
    response : str, default=None
        The response, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.

    See Also
    --------
    visual_predictive_check : The numbers.
    GoodnessOfFitDisplay : Residuals.

    Examples
    --------
    >>> from sklme.datasets import load_orange
    >>> from sklme.nonlinear import NonlinearMixedModel, VisualPredictiveCheckDisplay
    >>> X, y = load_orange(return_X_y=True)
    >>> line = lambda age, rate, start: start + rate * age
    >>> model = NonlinearMixedModel(line, group="Tree", time="age").fit(X, y)
    >>> options = {"n_simulations": 200, "random_state": 0}
    >>> display = VisualPredictiveCheckDisplay.from_estimator(model, X, y, **options)
    >>> display.ax_.get_xlabel()
    'age'
    """

    def __init__(self, check, *, response=None):
        self.check = check
        self.response = response

    @classmethod
    def from_estimator(cls, model, X, y, *, response=None, log=False, ax=None, **options):
        """Make a visual predictive check of a fitted model and draw it.

        Parameters
        ----------
        model : NonlinearMixedModel
            A fitted model, or a search that found one.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows of some groups.
        y : array-like of shape (n_samples,)
            Their responses.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        log : bool, default=False
            Whether the response is on a logarithmic axis.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each stratum.
        **options : dict
            Further arguments of `visual_predictive_check`.

        Returns
        -------
        display : VisualPredictiveCheckDisplay
            The display, drawn.
        """
        check = visual_predictive_check(model, X, y, **options)
        return cls(check, response=response or name_of(y)).plot(ax, log=log)

    def plot(self, ax=None, *, log=False):
        """Draw the check.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each stratum.
        log : bool, default=False
            Whether the response is on a logarithmic axis; what is not positive is not drawn then.

        Returns
        -------
        display : VisualPredictiveCheckDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `ax` does not hold a panel for each stratum.
        """
        table = self.check.table
        strata = list(dict.fromkeys(table["stratum"]))
        n = len(strata)
        rows = 1 if n <= 3 else -(-n // 3)
        size = (6.4 if n == 1 else 9.0, 4.4 if n == 1 else 3.4 * rows)
        options = {"sharex": True, "sharey": True} if n > 1 else {}
        self.figure_, axes = open_axes(ax, n, rows=rows, size=size, **options)
        for one, stratum in zip(axes, strata, strict=True):
            self._panel(one, stratum, log)
            if ax is None and not one.get_subplotspec().is_first_col():
                one.set_ylabel("")
            if stratum != EVERYTHING:
                one.set_title(short(str(stratum), 30), size=10)
        self._legend(axes[0], n > 1 and ax is None)
        self.ax_ = as_given(axes)
        return self

    def _panel(self, ax, stratum, log):
        table, rows = (t[t["stratum"] == stratum] for t in (self.check.table, self.check.rows))
        size, alpha = thin(len(rows))
        seen = ~rows["censored"]
        many = len(rows) > 5000
        ax.scatter(
            *(rows.loc[seen, name] for name in ("x", "y")),
            s=size,
            alpha=0.6 * alpha,
            c="0.35",
            lw=0,
            zorder=2.5,
            rasterized=many,
        )
        quantiles = np.unique(table["quantile"])
        middle = quantiles[np.argmin(np.abs(quantiles - 0.5))]
        for quantile in quantiles:
            part = table[table["quantile"] == quantile]
            self._quantile(ax, part, RED if quantile == middle else BLUE, log)
        self._label(ax, np.unique(table[["left", "right"]]))
        if log:
            log_axis(ax, rows.loc[seen, "y"])

    @staticmethod
    def _quantile(ax, part, color, log):
        x, observed = part["x"].to_numpy(), part["observed"].to_numpy()
        lower, median, upper = (part[name].to_numpy() for name in ("lower", "median", "upper"))
        if log:  # what is not positive has no place, but the band goes on to the edge
            lower = np.where((lower <= 0) & (upper > 0), np.finfo(float).tiny, lower)
        ax.fill_between(x, lower, upper, color=color, alpha=0.25, lw=0)
        ax.plot(x, median, color=color, lw=1, ls="--")
        ax.plot(x, observed, color="0.1", lw=1.3, marker=".", ms=5)
        outside = (observed < part["lower"]) | (observed > part["upper"])
        ax.plot(x[outside], observed[outside], "o", ms=9, mfc="none", mec="0.1", mew=1.2)

    def _label(self, ax, edges):
        ax.set_xlabel(self.check.x_name)
        what = self.response or "response"
        ax.set_ylabel(f"prediction-corrected {what}" if self.check.prediction_corrected else what)
        inner, place = edges[1:-1], ax.get_xaxis_transform()
        ax.plot(inner, np.zeros_like(inner), "|", color=GREY, ms=7, transform=place)

    def _legend(self, ax, above):
        quantiles = np.unique(self.check.table["quantile"])
        named = ", ".join(f"{100 * q:g}" for q in quantiles)
        level = f"{100 * self.check.confidence_level:g}"
        handles = [
            ax.plot([], [], color="0.1", lw=1.3, marker=".", ms=5)[0],
            ax.fill_between([], [], [], color=GREY, alpha=0.35, lw=0),
        ]
        labels = [f"observed: {named} % quantiles", f"simulated: {level} % intervals"]
        where = ax.figure if above else ax
        place = {"loc": "outside upper center", "ncols": 2} if above else {}
        where.legend(handles, labels, frameon=False, fontsize=8, **place)
