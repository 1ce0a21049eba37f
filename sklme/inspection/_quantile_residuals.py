"""Quantile residuals against normal quantiles and against fitted values."""

import numpy as np
from scipy import stats

from sklme._axes import BLUE, PALE, RED, as_given, open_axes, response_of, thin
from sklme._rows import check_choice
from sklme.inference._access import open_model
from sklme.inference.residuals import quantile_residuals

KINDS = ("quantiles", "fitted")
QUARTILES = (0.25, 0.5, 0.75)
COVERAGE = 0.95  # of each band as a whole
BINS, SPARSE = 10, 3.5  # most bins of fitted values; roots of the number of rows for one
WIDE = 30.0  # ratio of large to small fitted values that takes a logarithmic axis

# How likely a point may lie off its own interval for all n to lie inside in 95 of 100 samples.
# By simulation, of 60 000 samples up to 1000 rows and 14 000 of the most; beyond, the last one.
N_ROWS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
LOCAL = (
    *(0.02654, 0.01216, 0.00727, 0.00490, 0.00295, 0.00217),
    *(0.00170, 0.00132, 0.00106, 0.00090, 0.00077, 0.00070),
)


class QuantileResidualsDisplay:
    """Quantile residuals of a generalised model, standard normal if it is right.

    Two panels: against the quantiles of a normal distribution, and against the fitted values with
    the quartiles of up to ten groups of rows. The grey bands hold all that is drawn against them,
    of a right model, in 95 of 100 samples; what lies outside is red. A steeper line of points in
    the first panel is overdispersion, a flatter one underdispersion; quartiles that drift away
    together in the second mean a wrong link or missing columns, ones that open up a wrong variance.

    Parameters
    ----------
    table : DataFrame
        As `sklme.inference.quantile_residuals` returns it, with columns residual and fitted.
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
    QuantileResidualsDisplay.from_estimator : From a fitted model and its rows.
    ResidualsDisplay : Residuals of linear mixed models.

    References
    ----------
    .. [1] S. Aldor-Noiman, L. D. Brown, A. Buja, W. Rolke and R. A. Stine, "The power to see: a new
       graphical test of normality", Am. Stat. 67(4), 2013.

    Examples
    --------
    >>> from sklme import GeneralizedLinearMixedModel
    >>> from sklme.datasets import load_salamanders
    >>> from sklme.inspection import QuantileResidualsDisplay
    >>> data = load_salamanders().frame
    >>> X, y = data[["site", "DOP"]], data["count"]
    >>> model = GeneralizedLinearMixedModel("site").fit(X, y)
    >>> display = QuantileResidualsDisplay.from_estimator(model, X, y, random_state=0)
    >>> display.ax_[0].get_ylabel()
    'quantile residual'
    """

    def __init__(self, table, *, response=None):
        self.table = table
        self.response = response

    @classmethod
    def from_estimator(
        cls,
        model,
        X=None,
        y=None,
        *,
        residuals="conditional",
        n_samples=250,
        random_state=None,
        response=None,
        kind="all",
        ax=None,
    ):
        """Draw the quantile residuals of a fitted model.

        Parameters
        ----------
        model : estimator object
            A fitted generalised mixed model, or a pipeline, search or target wrapper around one.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows, of fit or others.
        y : array-like of shape (n_samples,)
            Their responses.
        residuals : {"conditional", "simulated"}, default="conditional"
            What y is compared with, see `sklme.inference.quantile_residuals`. The bands are for
            independent residuals; simulated ones of the same level are alike.
        n_samples : int, default=250
            Number of new sets for "simulated".
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        kind : {"all", "quantiles", "fitted"}, default="all"
            Which panel.
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.

        Returns
        -------
        display : QuantileResidualsDisplay
            The display, drawn.
        """
        table = quantile_residuals(
            model, X, y, kind=residuals, n_samples=n_samples, random_state=random_state
        )
        named = response or response_of(open_model(model), y)
        return cls(table, response=named).plot(ax, kind=kind)

    def plot(self, ax=None, *, kind="all"):
        """Draw the residuals.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.
        kind : {"all", "quantiles", "fitted"}, default="all"
            Which panel.

        Returns
        -------
        display : QuantileResidualsDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `kind` is unknown or does not fit `ax`.
        """
        check_choice("kind", kind, ("all", *KINDS))
        kinds = [k for k in KINDS if kind in ("all", k)]
        self.figure_, axes = open_axes(ax, len(kinds), size=(4.0 * len(kinds), 3.6))
        for one, what in zip(axes, kinds, strict=True):
            getattr(self, f"_{what}")(one)
        self.ax_ = as_given(axes)
        return self

    def _quantiles(self, ax):
        ordered = np.sort(self.table["residual"].to_numpy())
        n = len(ordered)
        expected = stats.norm.ppf((np.arange(1, n + 1) - 0.5) / n)
        lower, upper = simultaneous_band(n)
        ends = [expected[0], expected[-1]]
        ax.fill_between(expected, lower, upper, color=PALE, lw=0)
        ax.plot(ends, ends, color="0.3", lw=0.8)
        self._points(ax, expected, ordered, (ordered < lower) | (ordered > upper))
        ax.set(xlabel="normal quantile", ylabel="quantile residual")

    def _fitted(self, ax):
        x, residual = (self.table[c].to_numpy() for c in ("fitted", "residual"))
        if _is_wide(x):
            ax.set_xscale("log")
        self._points(ax, x, residual, np.zeros(len(x), bool), alpha=0.55)
        places, groups = _bins(x, residual)
        share = (1.0 - COVERAGE) / (len(QUARTILES) * len(groups))
        for p in QUARTILES:
            found = np.array([np.quantile(group, p) for group in groups])
            lower, upper = (
                np.array([_quartile_end(p, len(group), q) for group in groups])
                for q in (0.5 * share, 1.0 - 0.5 * share)
            )
            ax.axhline(stats.norm.ppf(p), color="0.3", lw=0.8, ls="-" if p == 0.5 else ":")
            ax.fill_between(places, lower, upper, color="0.6", alpha=0.3, lw=0, zorder=1.5)
            ax.plot(places, found, color="0.15", lw=1.2, zorder=3)
            off = (found < lower) | (found > upper)
            ax.scatter(places, found, s=16, c=np.where(off, RED, "0.15"), lw=0, zorder=4)
        of = "" if self.response is None else f" {self.response}"
        ax.set(xlabel=f"fitted{of}", ylabel="quantile residual")

    def _points(self, ax, x, y, off, alpha=1.0):
        size, solid = thin(len(x))
        colors = np.where(off, RED, BLUE)
        many = len(x) > 5000
        ax.scatter(x, y, s=size, alpha=alpha * solid, c=colors, lw=0, rasterized=many, zorder=2)


def simultaneous_band(n):
    """Ends that hold all ordered normal residuals together, each as likely as the others to fail.

    Aldor-Noiman et al. (2013).
    """
    local = np.exp(np.interp(np.log(n), np.log(N_ROWS), np.log(LOCAL)))
    rank = np.arange(1, n + 1)
    ends = (0.5 * local, 1.0 - 0.5 * local)
    return tuple(stats.norm.ppf(stats.beta.ppf(q, rank, n + 1 - rank)) for q in ends)


def _quartile_end(p, n, probability):
    """A quantile of the p-quantile of n normal residuals."""
    rank = p * (n - 1) + 1
    return stats.norm.ppf(stats.beta.ppf(probability, rank, n + 1 - rank))


def _bins(x, residual):
    """Mean place and residuals of groups of rows with alike fitted values."""
    order = np.argsort(x, kind="stable")
    n = int(np.clip(np.sqrt(len(x)) / SPARSE, 1, BINS))
    middle = [np.median(x[part]) for part in np.array_split(order, n)]
    places, first = np.unique(middle, return_index=True)  # equal fitted values are one group
    starts = np.cumsum([0, *map(len, np.array_split(order, n))])[first]
    groups = np.split(order, starts[1:])
    return places, [residual[group] for group in groups]


def _is_wide(x):
    low, high = np.quantile(x, [0.01, 0.99])
    return x.min() > 0 and high > WIDE * low and high > 1.0
