"""Effects of the levels of a factor, sorted, with intervals: the caterpillar plot."""

import numpy as np

from sklme._axes import BLUE, GREY, as_given, name_of, open_axes, short
from sklme.inference.effects import random_effects_table

NAMED = 30  # levels up to which each is named


class RandomEffectsDisplay:
    """Effects of the levels of a factor with intervals, one panel a coefficient.

    Levels stand one above the other, sorted by their effect: in all panels by the same coefficient
    where they are named, in each panel by its own where they are more than thirty. Intervals that
    do not reach zero are drawn in colour.

    Parameters
    ----------
    table : DataFrame
        As `sklme.inference.random_effects_table` returns it: indexed by level and term, with
        columns effect, lower and upper.
    response : str, default=None
        What the effects are on, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.
    lines_ : list of (PathCollection, LineCollection)
        Points and intervals of each panel, after `plot`.

    See Also
    --------
    RandomEffectsDisplay.from_estimator : From a fitted model.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inspection import RandomEffectsDisplay
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> display = RandomEffectsDisplay.from_estimator(model)
    >>> len(display.ax_)
    2
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
        factor=None,
        joint=False,
        confidence_level=0.95,
        response=None,
        output=None,
        ax=None,
        sort_by=None,
    ):
        """Draw the effects of a fitted model.

        Parameters
        ----------
        model : estimator object
            A fitted linear or generalised mixed model, or a pipeline, search or target wrapper
            around one.
        X : None
            Not used.
        y : array-like of shape (n_samples,), default=None
            Its name, where it has one, labels the axis.
        factor : str, int or tuple, default=None
            A key of `random_effects`; the only one may be left out.
        joint : bool, default=False
            Whether intervals count what is not known of the fixed coefficients too.
        confidence_level : float, default=0.95
            Probability that an interval covers its effect.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        output : int, default=None
            Which output, for a model of several.
        ax : matplotlib Axes or array of them, default=None
            Where to draw; as many as there are coefficients.
        sort_by : str, default=None
            The coefficient by which levels are sorted; None means the first, or in each panel its
            own where there are too many levels to name them.

        Returns
        -------
        display : RandomEffectsDisplay
            The display, drawn.
        """
        table = random_effects_table(
            model, factor, joint=joint, confidence_level=confidence_level, output=output
        )
        return cls(table, response=response or name_of(y)).plot(ax, sort_by=sort_by)

    def plot(self, ax=None, *, sort_by=None):
        """Draw the effects.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw; as many as there are coefficients.
        sort_by : str, default=None
            The coefficient by which levels are sorted; None means the first, or in each panel its
            own where there are too many levels to name them.

        Returns
        -------
        display : RandomEffectsDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are more or fewer axes than coefficients, or no coefficient `sort_by`.
        """
        terms = list(self.table.index.unique("term"))
        if sort_by is not None and sort_by not in terms:
            raise ValueError(f"sort_by is {sort_by!r}; the coefficients are {terms}")
        parts = {term: self.table.xs(term, level="term") for term in terms}
        n = len(parts[terms[0]])
        keys = {t: sort_by or (terms[0] if n <= NAMED else t) for t in terms}
        orders = {
            t: np.argsort(parts[k]["effect"].to_numpy(), kind="stable") for t, k in keys.items()
        }
        size = (6.0, 4.0 if n <= 20 or n > NAMED else 0.2 * n)
        self.figure_, axes = open_axes(ax, len(terms), size=size, sharey=True)
        panels = zip(axes, terms, strict=True)
        self.lines_ = [self._panel(a, t, parts[t].iloc[orders[t]]) for a, t in panels]
        for one in axes:
            one.tick_params(axis="y", length=0)
        self._name_levels(axes[0], parts[terms[0]].index[orders[terms[0]]])
        self.ax_ = as_given(axes)
        return self

    def _panel(self, ax, term, part):
        n = len(part)
        place = np.arange(n)
        clear = ((part["lower"] > 0) | (part["upper"] < 0)).to_numpy()
        colors = np.where(clear, BLUE, GREY)
        width, dot = (1.6, 22) if n <= NAMED else (1.0, 5) if n <= 200 else (0.5, 1.5)
        ax.axvline(0, color="0.3", lw=0.8, zorder=0)
        lines = ax.hlines(place, part["lower"], part["upper"], colors=colors, lw=width)
        lines.set_alpha(1.0 if n <= 200 else 0.5)
        points = ax.scatter(part["effect"], place, s=dot, c=colors, zorder=3)
        ax.set_xlabel(self._what(term))
        ax.set_ylim(-0.8, n - 0.2)
        ax.set_title("intercept" if term == "(Intercept)" else f"slope of {term}", size=10)
        return points, lines

    def _what(self, term):
        of = "" if self.response is None else f" on {self.response}"
        return f"effect{of}" if term == "(Intercept)" else f"effect{of},\nper unit of {term}"

    def _name_levels(self, ax, levels):
        names = [n for n in self.table.index.names if n != "term"]
        if len(levels) <= NAMED:
            ax.set_yticks(np.arange(len(levels)), [short(level) for level in levels], size=8)
            ax.set_ylabel(short(tuple(names), 40))
        else:
            ax.set_yticks([])
            ax.set_ylabel(f"{len(levels)} levels of {short(tuple(names), 30)}, sorted")
