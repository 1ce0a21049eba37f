"""How far each group is pulled towards the rest: no pooling, partial and complete pooling."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklme._axes import BLUE, GREY, RED, as_given, open_axes, response_of, short
from sklme._columns import read_columns
from sklme._rows import check_rows, read_response
from sklme._terms import factor_label
from sklme.inference._access import Fitted, choose_factor, open_model
from sklme.inference._generalized import GeneralizedFitted

PANELS = 12  # groups that are drawn where more are there
STYLES = {
    "no pooling": {"color": RED, "ls": "--"},
    "complete pooling": {"color": GREY, "ls": ":"},
    "partial pooling": {"color": BLUE, "ls": "-"},
}


class PartialPoolingDisplay:
    """The line of each group by no, partial and complete pooling; means without a slope.

    With a slope variable one panel a group shows its rows and three lines: least squares of the
    group alone (no pooling), of all rows (complete pooling), and that of the model. Without, one
    panel shows for every group the mean of its rows and what the model makes of it, against the
    number of its rows.

    Rows are drawn as they would be if the other columns and factors of the model had the same,
    average effect on all. Groups of a generalised model have means only, those of their rows as
    they are and those that the model expects of them (shares of successes where there are trials,
    of the second of two classes, or the mean class number of ordered ones).

    Parameters
    ----------
    rows : DataFrame
        Columns level, x and y: the rows, adjusted for other columns; x is missing without a slope.
    lines : DataFrame
        One row a level, with columns (method, "intercept") and (method, "slope") for the methods
        "no pooling", "complete pooling" and "partial pooling".
    factor : str, default="group"
        What the groups are.
    slope : str, default=None
        The slope variable, with its unit.
    response : str, default=None
        The response, with its unit.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of them
        The panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.
    levels_ : list
        The levels that are drawn, in order, after `plot`.

    See Also
    --------
    PartialPoolingDisplay.from_estimator : From a fitted model and its rows.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_sleepstudy
    >>> from sklme.inspection import PartialPoolingDisplay
    >>> X, y = load_sleepstudy(return_X_y=True)
    >>> model = LinearMixedModel({"Subject": ["1", "Days"]}).fit(X, y)
    >>> display = PartialPoolingDisplay.from_estimator(model, X, y)
    >>> print(display.lines.xs("slope", axis=1, level=1).round(1).loc[[309, 330]].to_string())
           no pooling  complete pooling  partial pooling
    level
    309           2.3              10.5              1.8
    330           3.0              10.5              5.7
    """

    def __init__(self, rows, lines, *, factor="group", slope=None, response=None):
        self.rows = rows
        self.lines = lines
        self.factor = factor
        self.slope = slope
        self.response = response

    @classmethod
    def from_estimator(
        cls,
        model,
        X=None,
        y=None,
        *,
        factor=None,
        slope=None,
        response=None,
        output=None,
        levels=None,
        ax=None,
    ):
        """Draw the groups of a fitted model.

        Parameters
        ----------
        model : estimator object
            A fitted linear or generalised mixed model, or a pipeline, search or target wrapper
            around one.
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The rows of fit.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their responses.
        factor : str, int or tuple, default=None
            A key of `random_effects`; the only one may be left out.
        slope : str or int, default=None
            The column along which lines are drawn, a fixed column or a random slope; None means
            the first random slope, or means without one. Not for generalised models.
        response : str, default=None
            Label of the response, with its unit, instead of the name of y.
        output : int, default=None
            Which output, for a model of several.
        levels : list, default=None
            Which groups have a panel; None means all, or twelve that are spread over the slopes.
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one a group, or one for means.

        Returns
        -------
        display : PartialPoolingDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the factor or `slope` is unknown, or the model is a generalised one and `slope` is
            given.
        """
        opened = open_model(model, X, y, output=output, needs_rows="PartialPoolingDisplay")
        t = choose_factor(opened, factor)
        if opened.generalized:
            rows, lines, name = *_group_means(opened, t, slope), None
        else:
            parts = _parts(opened, t, slope)
            rows = pd.DataFrame({"level": parts.level, "x": parts.x, "y": parts.adjusted()})
            lines, name = _lines(rows, parts), None if parts.slope is None else str(parts.slope)
        display = cls(
            rows,
            lines,
            factor=factor_label(opened.keys[t]),
            slope=name,
            response=response or response_of(opened, y),
        )
        return display.plot(ax, levels=levels)

    def plot(self, ax=None, *, levels=None):
        """Draw the groups.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one a group, or one for means.
        levels : list, default=None
            Which groups; None means all, or with a slope twelve that are spread over the slopes.

        Returns
        -------
        display : PartialPoolingDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are no rows of one of `levels`, or `ax` does not hold a panel for each.
        """
        self.levels_ = self._chosen(levels)
        if self.slope is None:
            self.figure_, axes = open_axes(ax)
            self._means(axes[0])
        else:
            axes = self._panels(ax)
        self.ax_ = as_given(axes)
        return self

    def _chosen(self, levels):
        known = list(self.lines.index)
        if levels is not None:
            missing = [level for level in levels if level not in known]
            if missing:
                raise ValueError(f"no rows of {self.factor} {missing[0]!r}")
            return list(levels)
        if self.slope is None or len(known) <= PANELS:
            return known
        order = self.lines[("partial pooling", "slope")].sort_values(kind="stable").index
        return list(order[np.linspace(0, len(order) - 1, PANELS).round().astype(int)])

    def _panels(self, ax):
        n = len(self.levels_)
        rows = max(1, round(np.sqrt(n * 0.75)))
        height = max(4.0, 1.3 * rows + 0.7)
        self.figure_, axes = open_axes(
            ax, n, rows=rows, size=(6.0, height), sharex=True, sharey=True
        )
        for one, level in zip(axes, self.levels_, strict=True):
            handles = self._panel(one, level)
        if ax is None:
            self.figure_.supxlabel(self.slope, size=10)
            self.figure_.supylabel(self.response or "response", size=10)
            self.figure_.legend(
                handles, list(STYLES), loc="outside upper center", ncols=3, frameon=False
            )
        else:
            axes[0].legend(handles, list(STYLES), frameon=False)
            axes[0].set(xlabel=self.slope, ylabel=self.response or "response")
        return axes

    def _panel(self, ax, level):
        own = self.rows[self.rows["level"] == level]
        n = len(own)
        ax.scatter(own["x"], own["y"], s=9 if n <= 30 else 3, c="0.35", lw=0, zorder=3)
        ends = np.array([self.rows["x"].min(), self.rows["x"].max()])
        handles = []
        for method, style in STYLES.items():
            a, b = self.lines.loc[[level], method].to_numpy()[0]
            above = 2.5 if method == "no pooling" else 2  # dashes stay visible on a line
            handles += ax.plot(ends, a + b * ends, lw=1.6, zorder=above, **style)
        low, high = self.rows["y"].min(), self.rows["y"].max()
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ax.set_title(short(level), size=8, pad=2)
        return handles

    def _means(self, ax):
        """Each group's own mean and the model's, against the number of its rows."""
        means = self.lines.loc[self.levels_].xs("intercept", axis=1, level=1)
        sizes = self.rows["level"].value_counts()[self.levels_].to_numpy()
        x = _apart(sizes)
        n = len(means)
        dot = 26 if n <= 60 else 8
        ax.vlines(x, means["no pooling"], means["partial pooling"], color="0.75", lw=1, zorder=1)
        ax.axhline(means["complete pooling"].iloc[0], **STYLES["complete pooling"], lw=1.6)
        ax.scatter(x, means["no pooling"], s=dot, fc="white", ec=RED, label="no pooling", zorder=2)
        ax.scatter(
            x, means["partial pooling"], s=dot, c=BLUE, lw=0, label="partial pooling", zorder=3
        )
        ax.plot([], [], **STYLES["complete pooling"], label="complete pooling")
        if sizes.min() == sizes.max():
            ax.set_xticks([])
            ax.set_xlabel(f"{n} levels of {self.factor}, {sizes[0]} rows each")
        else:
            ax.set_xlabel(f"rows of a level of {self.factor}")
        shares = (self.response or "").startswith("share of")
        ax.set_ylabel(self.response if shares else f"mean {self.response or 'response'}")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


@dataclass(frozen=True)
class _Parts:
    """What the level of a row and the slope variable do, and what else the model expects."""

    slope: str | None
    level: list  # of each row
    codes: np.ndarray
    x: np.ndarray  # NaN without a slope
    y: np.ndarray
    other: np.ndarray  # expected, without the level's intercept and without its slope times x
    intercepts: np.ndarray  # of each level, around the fixed one
    slopes: np.ndarray  # of each level

    def adjusted(self) -> np.ndarray:
        """y with everything else at its mean."""
        return self.y - self.other + self.other.mean()


def _parts(opened: Fitted, t: int, slope) -> _Parts:
    model, r = opened.model, opened.r
    rows = read_columns(model, opened.X, model._columns, handle_unknown="error")
    y = read_response(model, opened.y, like=model)
    check_rows(opened.X, y, None)
    names = list(model._terms[t].names)
    slope = next((n for n in names if n != "(Intercept)"), None) if slope is None else str(slope)
    coef = dict(zip(opened.names, opened.estimates, strict=True))
    if slope is not None and slope not in [*names, *coef]:
        raise ValueError(f"slope is {slope!r}; the model has the columns {list(coef)[1:]}")
    x, y = _along(opened, rows, t, slope), y.reshape(len(y), -1)[:, r]
    b = dict(zip(names, opened.of_output(model.random_effects_[opened.keys[t]]).T, strict=True))
    none = np.zeros(len(model.levels_[opened.keys[t]]))
    intercepts, slopes = b.get("(Intercept)", none), coef.get(slope, 0.0) + b.get(slope, none)
    codes = rows.codes[t]
    expected = model.predict(opened.X).reshape(len(y), -1)[:, r]
    own = intercepts[codes] + (0.0 if slope is None else slopes[codes] * x)
    labels = _labels(opened, t)
    level = [labels[c] for c in codes]
    return _Parts(slope, level, codes, x, y, expected - own, intercepts, slopes)


def _group_means(opened: GeneralizedFitted, t: int, slope):
    """Rows of a generalised model, and the means of each level, seen and expected."""
    if slope is not None:
        raise ValueError(
            f"slope is {slope!r}, but lines of groups are those of linear mixed models: leave "
            "slope=None for the means of groups"
        )
    model = opened.model
    rows = read_columns(model, opened.X, model._columns, handle_unknown="error")
    y, _ = model._read_y(opened.y, None)
    check_rows(opened.X, y, None)
    size = np.ones(len(y)) if rows.trials is None else rows.trials
    expected = opened.fit.family.mean(model._linear(rows), model._aux(rows))
    labels = _labels(opened, t)
    codes = rows.codes[t]
    sums = [np.bincount(codes, v, len(labels)) for v in (size, y, size * expected)]
    here = np.flatnonzero(sums[0])
    count, seen, meant = (s[here] for s in sums)
    means = {
        "no pooling": seen / count,
        "complete pooling": np.full(len(here), y.sum() / size.sum()),
        "partial pooling": meant / count,
    }
    index = pd.Index([labels[c] for c in here], name="level", tupleize_cols=False)
    lines = {(method, "intercept"): values for method, values in means.items()}
    share = np.divide(y, size, out=np.full(len(y), np.nan), where=size > 0)
    table = pd.DataFrame({"level": [labels[c] for c in codes], "x": np.nan, "y": share})
    return table, pd.DataFrame(lines, index)


def _labels(opened, t: int) -> list:
    """The levels of a factor; combinations as tuples."""
    return [tuple(n) if np.ndim(n) else n for n in opened.model.levels_[opened.keys[t]]]


def _along(opened: Fitted, rows, t: int, slope) -> np.ndarray:
    """The slope variable of each row, NaN without one."""
    names = list(opened.model._terms[t].names)
    if slope is None:
        return np.full(len(rows.X), np.nan)
    if slope in names:
        return rows.slopes[t][:, names.index(slope)]
    return rows.X[:, list(map(str, opened.model.fixed_names_)).index(slope)]


def _lines(rows: pd.DataFrame, parts: _Parts) -> pd.DataFrame:
    """Intercept and slope of every level by each method, levels in the order of fit."""
    x = np.zeros(len(rows)) if parts.slope is None else parts.x
    y = rows["y"].to_numpy()
    here = np.unique(parts.codes)
    own = np.array([_least_squares(x[parts.codes == c], y[parts.codes == c]) for c in here])
    whole = np.tile(_least_squares(x, y), (len(here), 1))
    slopes = parts.slopes[here] if parts.slope is not None else np.zeros(len(here))
    partial = np.column_stack([parts.other.mean() + parts.intercepts[here], slopes])
    methods = {"no pooling": own, "complete pooling": whole, "partial pooling": partial}
    columns = {
        (method, what): values[:, i]
        for method, values in methods.items()
        for i, what in enumerate(("intercept", "slope"))
    }
    first = dict(zip(parts.codes[::-1], parts.level[::-1], strict=True))
    index = pd.Index([first[c] for c in here], name="level", tupleize_cols=False)
    return pd.DataFrame(columns, index)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope; no line through rows of one x."""
    around = x - x.mean()
    if not np.any(around):
        flat = not np.any(x)
        return (y.mean(), 0.0) if flat else (np.nan, np.nan)
    slope = around @ y / (around @ around)
    return y.mean() - slope * x.mean(), slope


def _apart(sizes: np.ndarray) -> np.ndarray:
    """Groups of equal size side by side around their size."""
    x = sizes.astype(float)
    room = np.diff(np.unique(sizes)).min(initial=sizes.max() + 1)
    for size in np.unique(sizes):
        at = np.flatnonzero(sizes == size)
        x[at] += np.linspace(-0.35, 0.35, len(at)) * room if len(at) > 1 else 0.0
    return x
