"""The profiled likelihood of parameters, with the intervals that follow from it."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from sklme._axes import BLUE, GREY, RED, as_given, open_axes, short
from sklme._rows import check_choice
from sklme.inference._access import check_level
from sklme.inference.intervals import profile

LEVELS = (0.5, 0.8, 0.95, 0.99)


class ProfileDisplay:
    """Profiles of parameters, one panel each, with profile intervals.

    The signed root zeta is a straight line where the likelihood is quadratic, that is where the
    Wald interval serves as well; the line through the estimate with the slope of the curve is drawn
    for comparison. Brackets mark the intervals of several confidence levels.

    Parameters
    ----------
    curves : dict of str -> DataFrame
        By parameter what `sklme.inference.profile` returns: columns value, deviance and zeta.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.
    intervals_ : dict of str -> dict
        By parameter and confidence level the two ends, missing where the curve does not reach them,
        after `plot`.

    See Also
    --------
    ProfileDisplay.from_estimator : From a fitted model.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_dyestuff
    >>> from sklme.inspection import ProfileDisplay
    >>> X, y = load_dyestuff(return_X_y=True)
    >>> model = LinearMixedModel("Batch").fit(X, y)
    >>> display = ProfileDisplay.from_estimator(model, ["sigma"])
    >>> lower, upper = display.intervals_["sigma"][0.95]
    >>> print(f"{lower:.0f} to {upper:.0f}")
    38 to 68
    """

    def __init__(self, curves):
        self.curves = curves

    @classmethod
    def from_estimator(
        cls,
        model,
        parameters,
        X=None,
        y=None,
        *,
        output=None,
        kind="zeta",
        confidence_levels=LEVELS,
        ax=None,
    ):
        """Profile parameters of a fitted model and draw them.

        Parameters
        ----------
        model : estimator object
            A fitted LinearMixedModel, or a pipeline, search or target wrapper around one.
        parameters : str or list of str
            Names as in the index of `sklme.inference.confidence_intervals`.
        X : None
            Not used.
        y : None
            Not used.
        output : int, default=None
            Which output, for a model of several.
        kind : {"zeta", "deviance"}, default="zeta"
            The signed root, or its square: the rise of the deviance.
        confidence_levels : list of float, default=(0.5, 0.8, 0.95, 0.99)
            Levels of the intervals that are marked.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a parameter.

        Returns
        -------
        display : ProfileDisplay
            The display, drawn.
        """
        parameters = [parameters] if isinstance(parameters, str) else list(parameters)
        widest = 0.5 + 0.5 * max(confidence_levels)  # a little beyond the last interval
        curves = {
            name: profile(model, name, output=output, confidence_level=min(widest, 0.9999))
            for name in parameters
        }
        return cls(curves).plot(ax, kind=kind, confidence_levels=confidence_levels)

    def plot(self, ax=None, *, kind="zeta", confidence_levels=LEVELS):
        """Draw the profiles.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one a parameter.
        kind : {"zeta", "deviance"}, default="zeta"
            The signed root, or its square: the rise of the deviance.
        confidence_levels : list of float, default=(0.5, 0.8, 0.95, 0.99)
            Levels of the intervals that are marked.

        Returns
        -------
        display : ProfileDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `kind` is unknown, a level is no probability, or `ax` does not hold a panel for each
            parameter.
        """
        check_choice("kind", kind, ("zeta", "deviance"))
        for one in confidence_levels:
            check_level(one)
        curves = self.curves if isinstance(self.curves, Mapping) else {"": self.curves}
        n = len(curves)
        rows = 1 if n <= 2 else -(-n // 3)
        size = (6.0, max(4.0, 2.2 * rows) if n > 1 else 4.0)
        self.figure_, axes = open_axes(ax, n, rows=rows, size=size)
        self.intervals_ = {}
        for one, (name, curve) in zip(axes, curves.items(), strict=True):
            ends = {c: _interval(curve, c) for c in sorted(confidence_levels)}
            self.intervals_[name] = ends
            (self._roots if kind == "zeta" else self._rise)(one, curve, ends, n <= 2)
            one.set_xlabel(short(name, 32))
        for one in axes[:: -(-n // rows)]:
            one.set_ylabel("signed root ζ" if kind == "zeta" else "rise of the deviance")
        self.ax_ = as_given(axes)
        return self

    def _roots(self, ax, curve, ends, named):
        value, zeta = curve["value"].to_numpy(), curve["zeta"].to_numpy()
        ax.axhline(0, color="0.3", lw=0.8)
        straight = _tangent(curve)
        inside = np.abs(straight) <= np.abs(zeta).max()
        ax.plot(value[inside], straight[inside], color=GREY, ls="--", lw=1)
        ax.plot(value, zeta, color=BLUE, lw=2)
        for level, (low, high) in ends.items():
            height = _quantile(level)
            for end, sign in ((low, -1), (high, 1)):
                if np.isfinite(end):
                    ax.plot([end, end], [0, sign * height], color=RED, lw=1)
                    ax.plot(end, sign * height, ".", color=RED, ms=4)
            if named and np.isfinite(high):
                _name(ax, level, high, height, (4, -9))

    def _rise(self, ax, curve, ends, named):
        ax.plot(curve["value"], curve["zeta"] ** 2, color=BLUE, lw=2)
        for level, (low, high) in ends.items():
            height = _quantile(level) ** 2
            left = low if np.isfinite(low) else curve["value"].min()
            right = high if np.isfinite(high) else curve["value"].max()
            ax.plot([left, right], [height, height], color=RED, lw=1)
            if named:
                _name(ax, level, right, height, (3, -3))
        ax.set_ylim(bottom=0)


def _name(ax, level, x, y, away):
    at = {"xytext": away, "textcoords": "offset points"}
    ax.annotate(f"{100 * level:g}%", (x, y), size=8, color=RED, **at)


def _quantile(level):
    return stats.norm.ppf(0.5 + 0.5 * level)


def _interval(curve, level):
    """The two ends by linear interpolation in zeta; NaN beyond the curve."""
    zeta, place = np.unique(curve["zeta"].to_numpy(), return_index=True)
    value = curve["value"].to_numpy()[place]
    at = np.array([-1, 1]) * _quantile(level)
    found = np.interp(at, zeta, value, left=np.nan, right=np.nan)
    return float(found[0]), float(found[1])


def _tangent(curve):
    """The straight line with the slope that zeta has at the estimate."""
    value, zeta = curve["value"].to_numpy(), curve["zeta"].to_numpy()
    near = np.argsort(np.abs(zeta), kind="stable")[:3]
    slope, at = np.polyfit(value[near], zeta[near], 1)
    return slope * value + at
