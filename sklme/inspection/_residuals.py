"""Residuals against fitted values, against normal quantiles, and by group."""

import numpy as np
import pandas as pd
from scipy import stats

from sklme._axes import BLUE, GREY, PALE, RED, as_given, name_of, open_axes, short, thin
from sklme._columns import read_columns
from sklme._rows import check_choice, check_rows, read_response
from sklme._terms import factor_label
from sklme.inference._access import choose_factor, open_linear

KINDS = ("fitted", "quantiles", "group")
NAMED = 24  # groups up to which each has a named box


class ResidualsDisplay:
    """Conditional residuals of a mixed model, in residual standard deviations.

    Three panels: against the fitted values with the mean of each tenth of the rows, which should
    lie on zero; against the quantiles of a normal distribution with the band that holds 95 % of
    each point; and by group, which should be alike in place and spread.

    Parameters
    ----------
    fitted : ndarray of shape (n_samples,)
        Expected responses, random effects included.
    residuals : ndarray of shape (n_samples,)
        Observed less expected, over the residual standard deviation.
    groups : array-like of shape (n_samples,), default=None
        The level of each row; without, there is no panel by group.
    response : str, default=None
        The response, with its unit.
    factor : str, default="group"
        What the groups are.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.

    See Also
    --------
    ResidualsDisplay.from_estimator : From a fitted model and its rows.
    QuantileResidualsDisplay : The same for generalised models.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inspection import ResidualsDisplay
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> display = ResidualsDisplay.from_estimator(model, X, y)
    >>> print(f"{abs(display.residuals).max():.1f} standard deviations")
    5.2 standard deviations
    """

    def __init__(self, fitted, residuals, groups=None, *, response=None, factor="group"):
        self.fitted = fitted
        self.residuals = residuals
        self.groups = groups
        self.response = response
        self.factor = factor

    @classmethod
    def from_estimator(
        cls,
        model,
        X=None,
        y=None,
        *,
        factor=None,
        sample_weight=None,
        response=None,
        output=None,
        kind="all",
        ax=None,
    ):
        """Draw the residuals of a fitted model.

        Parameters
        ----------
        model : estimator object
            A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Rows, of fit or others.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their responses.
        factor : str, int or tuple, default=None
            The key of `random_effects` that groups the rows; None means the first.
        sample_weight : array-like of shape (n_samples,), default=None
            Precision weights, by whose roots residuals are multiplied.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        output : int, default=None
            Which output, for a model of several.
        kind : {"all", "fitted", "quantiles", "group"}, default="all"
            Which panel.
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.

        Returns
        -------
        display : ResidualsDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            For a generalised model, see `QuantileResidualsDisplay`.
        """
        opened = open_linear(
            model,
            X,
            y,
            output=output,
            needs_rows="ResidualsDisplay",
            function="ResidualsDisplay",
            instead="QuantileResidualsDisplay draws the residuals of this one",
        )
        inner = opened.model
        observed = read_response(inner, opened.y, like=inner)
        check_rows(opened.X, observed, None)
        expected = inner.predict(opened.X).reshape(len(observed), -1)[:, opened.r]
        residuals = observed.reshape(len(observed), -1)[:, opened.r] - expected
        sd = np.sqrt(opened.residual_variance)
        residuals = residuals / (sd if sd > 0 else 1.0)
        if sample_weight is not None and inner.weight_type == "precision":
            residuals = residuals * np.sqrt(np.asarray(sample_weight, float))
        groups, name = _groups(opened, factor)
        display = cls(expected, residuals, groups, response=response or name_of(y), factor=name)
        return display.plot(ax, kind=kind)

    def plot(self, ax=None, *, kind="all"):
        """Draw the residuals.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one, or as many as there are panels.
        kind : {"all", "fitted", "quantiles", "group"}, default="all"
            Which panel.

        Returns
        -------
        display : ResidualsDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `kind` is unknown, asks for groups that are not there, or does not fit `ax`.
        """
        check_choice("kind", kind, ("all", *KINDS))
        if kind == "group" and self.groups is None:
            raise ValueError('kind is "group", but the display has no groups')
        kinds = [
            k for k in KINDS if kind in ("all", k) and not (k == "group" and self.groups is None)
        ]
        if ax is None and len(kinds) == 3:
            self.figure_, axes = _two_and_one()
        else:
            self.figure_, axes = open_axes(ax, len(kinds))
        for one, what in zip(axes, kinds, strict=True):
            getattr(self, f"_{what}")(one)
        self.ax_ = as_given(axes)
        return self

    def _fitted(self, ax):
        size, alpha = thin(len(self.fitted))
        many = len(self.fitted) > 5000
        ax.axhline(0, color="0.3", lw=0.8)
        ax.scatter(self.fitted, self.residuals, s=size, alpha=alpha, c=BLUE, lw=0, rasterized=many)
        ax.plot(*_tenths(self.fitted, self.residuals), color=RED, marker="o", ms=3, lw=1.5)
        of = "" if self.response is None else f" {self.response}"
        ax.set(xlabel=f"fitted{of}", ylabel="residual / sd")

    def _quantiles(self, ax):
        ordered = np.sort(self.residuals)
        n = len(ordered)
        rank = np.arange(1, n + 1)
        expected = stats.norm.ppf((rank - 0.5) / n)
        lower, upper = (
            stats.norm.ppf(stats.beta.ppf(q, rank, n + 1 - rank)) for q in (0.025, 0.975)
        )
        ax.fill_between(expected, lower, upper, color=PALE, lw=0)
        ax.plot(expected, expected, color="0.3", lw=0.8)
        size, alpha = thin(n)
        ax.scatter(expected, ordered, s=size, alpha=alpha, c=BLUE, lw=0, rasterized=n > 5000)
        ax.set(xlabel="normal quantile", ylabel="residual / sd")

    def _group(self, ax):
        values = pd.Series(self.residuals).groupby(_keys(self.groups))
        order = values.median().sort_values(kind="stable").index
        ax.axhline(0, color="0.3", lw=0.8)
        if len(order) <= NAMED:
            self._boxes(ax, values, order)
        else:
            self._spans(ax, values, order)
        ax.set_ylabel("residual / sd")

    def _boxes(self, ax, values, order):
        groups = dict(list(values))
        line = {"color": BLUE, "lw": 1}
        ax.boxplot(
            [groups[level].to_numpy() for level in order],
            positions=np.arange(len(order)),
            widths=0.6,
            flierprops={"marker": ".", "ms": 4, "mfc": BLUE, "mec": "none"},
            medianprops={"color": RED, "lw": 1.6},
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            manage_ticks=False,
        )
        names = [short(level, 10) for level in order]
        turn = 90 if len(names) > 8 or max(map(len, names)) > 4 else 0
        ax.set_xticks(np.arange(len(order)), names, rotation=turn, size=8)
        ax.set_xlabel(self.factor)

    def _spans(self, ax, values, order):
        """Quartiles of each of many groups."""
        low, middle, high = (values.quantile(q)[order] for q in (0.25, 0.5, 0.75))
        place = np.arange(len(order))
        ax.vlines(place, low, high, color=GREY, lw=1 if len(order) <= 200 else 0.4)
        ax.scatter(place, middle, s=8 if len(order) <= 200 else 2, c=RED, lw=0, zorder=3)
        ax.set_xticks([])
        ax.set_xlabel(f"{len(order)} levels of {self.factor}, sorted: median and quartiles")


def _groups(opened, factor):
    """The level of each row and the name of the factor; None without random effects."""
    if not opened.keys:
        return None, "group"
    t = choose_factor(opened, opened.keys[0] if factor is None else factor)
    codes = read_columns(opened.model, opened.X, opened.model._columns).codes[t]
    levels = opened.model.levels_[opened.keys[t]]
    names = [short(tuple(one) if np.ndim(levels) == 2 else one, 24) for one in levels]
    return np.array([*names, "not seen"], dtype=object)[codes], factor_label(opened.keys[t])


def _keys(groups):
    return np.asarray(groups, dtype=object)


def _two_and_one():
    """Two panels above a wide one."""
    figure, axes = open_axes(None, 4, rows=2, size=(6.0, 5.0))
    wide = axes[2].get_gridspec()[1, :]
    for one in axes[2:]:
        one.remove()
    below = figure.add_subplot(wide)
    below.spines[["top", "right"]].set_visible(False)
    return figure, [*axes[:2], below]


def _tenths(x, y):
    """Means of x and y over tenths of the rows in the order of x."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, min(10, max(len(x) // 5, 1))) if len(part)]
    return [x[part].mean() for part in parts], [y[part].mean() for part in parts]
