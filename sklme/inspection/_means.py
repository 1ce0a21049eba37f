"""Marginal means with intervals."""

import numpy as np
import pandas as pd

from sklme._axes import COLORS, MARKERS, name_of, open_axes, response_of, short
from sklme.inference._access import open_model
from sklme.inference.means import marginal_means


class MarginalMeansDisplay:
    """Marginal means with intervals; a further column as lines.

    Parameters
    ----------
    table : DataFrame
        As `sklme.inference.marginal_means` returns it: the columns of `of` and `by`, then
        estimate, lower and upper.
    of : str or list of str
        The columns along the axis.
    by : str or list of str, default=None
        The columns whose levels have a line each.
    response : str, default=None
        The response, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds it, after `plot`.
    lines_ : list of ErrorbarContainer
        Means and intervals, one for each level of `by`, after `plot`.

    See Also
    --------
    MarginalMeansDisplay.from_estimator : From a fitted model and its table.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklme.inspection import MarginalMeansDisplay
    >>> table = pd.DataFrame(
    ...     {"machine": ["A", "B"], "estimate": [52, 60], "lower": [48, 53], "upper": [57, 67]}
    ... )
    >>> display = MarginalMeansDisplay(table, "machine", response="score").plot()
    >>> display.ax_.get_ylabel()
    'score'
    """

    def __init__(self, table, of, *, by=None, response=None):
        self.table = table
        self.of = of
        self.by = by
        self.response = response

    @classmethod
    def from_estimator(
        cls,
        model,
        X=None,
        y=None,
        *,
        of,
        by=None,
        at=None,
        dof=None,
        scale=None,
        effects="population",
        confidence_level=0.95,
        response=None,
        output=None,
        ax=None,
    ):
        """Draw the marginal means of a fitted model.

        Parameters
        ----------
        model : estimator object
            A fitted linear or generalised mixed model, or a pipeline, search or target wrapper
            around one.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The table that the model was fitted to.
        y : array-like of shape (n_samples,), default=None
            Its name, where it has one, labels the axis. Standard errors of a generalised model use
            it, see `sklme.inference.marginal_means`.
        of : str or list of str
            Columns whose levels stand along the axis.
        by : str or list of str, default=None
            Columns whose levels have a line each.
        at : dict, default=None
            Values of other columns, see `sklme.inference.marginal_means`.
        dof : str, default=None
            Degrees of freedom of the intervals, see `sklme.inference.marginal_means`.
        scale : {"response", "link"}, default=None
            Scale of the means of a generalised model; None is "response".
        effects : {"population", "marginal"}, default="population"
            Whether random effects of a generalised model are zero or integrated out.
        confidence_level : float, default=0.95
            Probability that an interval covers its mean.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        output : int, default=None
            Which output, for a model of several.
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : MarginalMeansDisplay
            The display, drawn.
        """
        table = marginal_means(
            model,
            X,
            y,
            of=of,
            by=by,
            at=at,
            dof=dof,
            scale=scale,
            effects=effects,
            confidence_level=confidence_level,
            output=output,
        )
        named = response or _response(model, y, scale, output)
        along = by
        if "class" in table and "class" not in (*_as_list(of), *_as_list(by)):
            along = [*_as_list(by), "class"]  # the probabilities of ordered classes
        return cls(table, of, by=along, response=named).plot(ax)

    def plot(self, ax=None):
        """Draw the means.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : MarginalMeansDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the table lacks one of the columns.
        """
        of, by = _as_list(self.of), _as_list(self.by)
        missing = [c for c in (*of, *by, "estimate", "lower", "upper") if c not in self.table]
        if missing:
            raise ValueError(f"the table has no column {missing[0]!r}")
        self.figure_, (self.ax_,) = open_axes(ax)
        place, ticks = _places(self.table, of)
        groups = _groups(self.table, by)
        self.lines_ = []
        for i, (name, rows) in enumerate(groups.items()):
            shift = (i - (len(groups) - 1) / 2) * _room(place) * min(0.12, 0.6 / len(groups))
            self.lines_.append(self._line(rows, place[rows] + shift, i, name))
        if ticks is not None:
            turn = 30 if max(map(len, ticks)) * len(ticks) > 55 else 0
            self.ax_.set_xticks(np.arange(len(ticks)), ticks, rotation=turn)
            self.ax_.set_xlim(-0.5, len(ticks) - 0.5)
        self.ax_.set_xlabel(", ".join(map(str, of)))
        self.ax_.set_ylabel(self.response or "marginal mean")
        if by:
            title = ", ".join(map(str, by))
            self.ax_.legend(title=title, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return self

    def _line(self, rows, x, i, name):
        part = self.table.iloc[rows]
        middle = part["estimate"].to_numpy(float)
        reach = [middle - part["lower"].to_numpy(float), part["upper"].to_numpy(float) - middle]
        joined = bool(_as_list(self.by)) or part[_as_list(self.of)[0]].dtype.kind in "iuf"
        return self.ax_.errorbar(
            x,
            middle,
            yerr=reach,
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
            lw=1.4,
            elinewidth=1.4,
            capsize=3,
            ls="-" if joined else "none",
            label=short(name, 24),
        )


def _response(model, y, scale, output):
    """What the means are of."""
    opened = open_model(model, output=output)
    if not opened.generalized:
        return name_of(y)
    if scale == "link":
        return "linear predictor"
    return "probability" if hasattr(opened.model, "thresholds_") else response_of(opened, y)


def _as_list(names):
    if names is None:
        return []
    return list(names) if isinstance(names, (list, tuple)) else [names]


def _places(table, of):
    """Where each row stands along the axis, and the names there; None for a number."""
    if len(of) == 1 and table[of[0]].dtype.kind in "iuf":
        return table[of[0]].to_numpy(float), None
    labels = [" ".join(map(str, one)) for one in table[of].itertuples(index=False, name=None)]
    codes, names = pd.factorize(np.array(labels, dtype=object))
    return codes.astype(float), [short(name, 16) for name in names]


def _groups(table, by):
    """The rows of each level of `by`, in order of appearance."""
    if not by:
        return {"": np.arange(len(table))}
    keys = [" ".join(map(str, one)) for one in table[by].itertuples(index=False, name=None)]
    codes, names = pd.factorize(np.array(keys, dtype=object))
    return {name: np.flatnonzero(codes == i) for i, name in enumerate(names)}


def _room(place):
    """The least distance of two places."""
    return np.diff(np.unique(place)).min(initial=np.inf) if len(np.unique(place)) > 1 else 1.0
