"""Intraclass correlations of many features by family, with intervals."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklme._axes import COLORS, open_axes, short
from sklme._rows import check_number
from sklme.reliability.icc import intraclass_correlation

NAMED = 30  # features up to which each is named
DRAWN = 40  # features of a family up to which each interval is a line
# Koo and Li (2016): names of reliability, and where they end.
BANDS = (("poor", 0.5), ("moderate", 0.75), ("good", 0.9), ("excellent", 1.0))
GAP = 0.35  # between families, in rows
SHADES = ("0.88", "0.92", "0.96", "1.0")
OTHER = "other"


class ReliabilityDisplay:
    """Intraclass correlations with intervals, sorted, one colour a family of features.

    Thirty features or fewer are named. More are drawn as a strip for each family, in which features
    are sorted by their value. Texts at the right say which share of a family is above the
    threshold, by its estimate and by its lower limit. The bands behind are those of Koo and Li.

    Parameters
    ----------
    table : DataFrame
        As `intraclass_correlation` returns it: indexed by feature, with columns icc, lower and
        upper.
    family : None, str, callable or dict, default=None
        What a feature belongs to: a separator, where the family is what stands before its last
        occurrence in the name ("glcm_Contrast" with "_" is of "glcm"), a function of the name, or
        a dict of names. A feature without family is of "other". None makes one family.
    threshold : float, default=0.75
        Value for which shares are given.
    label : str, default="intraclass correlation"
        What the axis shows.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds it, after `plot`.
    points_ : dict
        The points of each family, after `plot`.
    shares_ : DataFrame
        By family the number of features, and the shares above the threshold by `estimate` and by
        `lower` limit, after `plot`. A feature that is not estimable is not above.

    See Also
    --------
    ReliabilityDisplay.from_data : From a retest table.
    ReliabilityDisplay.from_estimator : From a fitted selector.

    References
    ----------
    .. [1] T. K. Koo and M. Y. Li, "A guideline of selecting and reporting intraclass correlation
       coefficients for reliability research", J. Chiropr. Med. 15, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklme.reliability import ReliabilityDisplay
    >>> rng = np.random.default_rng(0)
    >>> patient = np.repeat(range(30), 2)
    >>> noise = np.repeat([0.2, 0.8], 5) * rng.normal(size=(60, 10))
    >>> names = [f"{kind}_{i}" for kind in ("shape", "texture") for i in range(5)]
    >>> X = pd.DataFrame(rng.normal(size=(30, 10))[patient] + noise, columns=names)
    >>> X["patient"] = patient
    >>> display = ReliabilityDisplay.from_data(X, "patient", form="ICC(1,1)", family="_")
    >>> print(display.shares_.to_string())
             features  estimate  lower
    family
    shape           5       1.0    1.0
    texture         5       0.0    0.0
    """

    def __init__(self, table, *, family=None, threshold=0.75, label="intraclass correlation"):
        self.table = table
        self.family = family
        self.threshold = threshold
        self.label = label

    @classmethod
    def from_data(
        cls,
        X,
        subject,
        rater=None,
        *,
        form="ICC(A,1)",
        confidence_level=0.95,
        family=None,
        threshold=0.75,
        ax=None,
    ):
        """Draw the features of a retest table.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_columns)
            Columns of ids, and features.
        subject : str, int or array-like
            Who was measured, see `intraclass_correlation`.
        rater : str, int or array-like, default=None
            By whom.
        form : str, default="ICC(A,1)"
            Form of the intraclass correlation.
        confidence_level : float, default=0.95
            Coverage of the intervals that is aimed at.
        family : None, str, callable or dict, default=None
            What a feature belongs to.
        threshold : float, default=0.75
            Value for which shares are given.
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.
        """
        table = intraclass_correlation(
            X, subject, rater, form=form, confidence_level=confidence_level
        )
        return cls(table, family=family, threshold=threshold, label=form).plot(ax)

    @classmethod
    def from_estimator(cls, selector, *, family=None, ax=None):
        """Draw what a selector has found.

        Parameters
        ----------
        selector : ReliabilitySelector
            A fitted selector; its threshold is shown.
        family : None, str, callable or dict, default=None
            What a feature belongs to.
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.
        """
        check_is_fitted(selector)
        if selector.subject is None:
            raise ValueError("the selector has subject=None: it has no reliability to show")
        options = {"family": family, "threshold": selector.threshold}
        return cls(selector.reliability_, **options).plot(ax)

    def plot(self, ax=None):
        """Draw the intraclass correlations.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : ReliabilityDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `family` is none of what it may be, or no feature is estimable.
        """
        check_number("threshold", self.threshold, Real, -np.inf)
        table = self.table.assign(family=_families(self.table.index, self.family))
        self.shares_ = self._shares(table)
        known = table[table["icc"].notna()].sort_values("icc", kind="stable")
        if not len(known):
            raise ValueError("no feature of the table is estimable: there is nothing to draw")
        named = len(known) <= NAMED
        groups = {name: known[known["family"] == name] for name in self.shares_.index}
        heights = [len(rows) if named else 1.0 for rows in groups.values()]
        inches = 0.24 * sum(heights) if named else 0.95 * len(groups)
        size = (7.0, float(np.clip(1.5 + inches, 2.6, 12.0)))
        self.figure_, (self.ax_,) = open_axes(ax, size=size)
        self._bands(max(min(0.0, known["icc"].min()), -1.0))
        tops = np.cumsum([0.0, *(height + GAP for height in heights)])
        self.points_ = {}
        for i, (name, rows) in enumerate(groups.items()):
            color = COLORS[i % len(COLORS)]
            self.points_[name] = self._family(rows, tops[i], heights[i], color, named)
            self._say(name, tops[i] + heights[i] / 2, named and len(groups) > 1)
        self._name(groups, tops[:-1] + np.divide(heights, 2), named)
        self.ax_.set_ylim(tops[-1] - GAP / 2, -GAP / 2)
        self.ax_.set_xlabel(self.label)
        return self

    def _shares(self, table) -> pd.DataFrame:
        above = table[["icc", "lower"]].ge(self.threshold).set_axis(["estimate", "lower"], axis=1)
        by = above.groupby(table["family"])
        order = table.groupby("family")["icc"].median().sort_values(ascending=False).index
        shares = by.mean().assign(features=by.size())
        return shares.loc[order, ["features", "estimate", "lower"]]

    def _bands(self, low):
        start, ax = low, self.ax_
        for (name, end), shade in zip(BANDS, SHADES, strict=True):
            ax.axvspan(start, end, color=shade, lw=0, zorder=0)
            last = end == BANDS[-1][1]  # too narrow for its name, which may go beyond
            where = {"transform": ax.get_xaxis_transform(), "ha": "left" if last else "center"}
            middle = start + 0.005 if last else (max(start, 0.0) + end) / 2
            ax.text(middle, 1.01, name, size=8, color="0.35", va="bottom", **where)
            start = end
        ax.axvline(self.threshold, color="0.2", lw=0.9, ls="--", zorder=1)
        ax.set_xlim(low, 1.0)

    def _family(self, rows, top, height, color, named):
        """Points and intervals, the best on top."""
        n = len(rows)
        place = top + height * (1.0 - (np.arange(n) + 0.5) / max(n, 1))
        if n <= DRAWN:
            style = {"lw": 1.6} if named else {"lw": 1.0, "alpha": 0.5}
            self.ax_.hlines(place, rows["lower"], rows["upper"], color=color, **style)
        else:
            ends = rows[["lower", "upper"]].to_numpy().T
            self.ax_.fill_betweenx(place, *ends, color=color, alpha=0.25, lw=0, step="mid")
        size = 26 if named else 16 if n <= DRAWN else 9 if n <= 200 else 4
        style = {"color": color, "lw": 0, "zorder": 3, "clip_on": False}
        return self.ax_.scatter(rows["icc"], place, size, **style)

    def _say(self, name, middle, by_name):
        """The shares of a family, at the right."""
        count, estimate, lower = self.shares_.loc[name]
        said = (
            f"{short(name, 24) + ': ' if by_name else ''}{count:.0f} feature{'s' * (count != 1)}, "
            f"above {self.threshold:g}:\n{estimate:.0%} estimate, {lower:.0%} lower limit"
        )
        where = {"transform": self.ax_.get_yaxis_transform(), "va": "center", "size": 8}
        self.ax_.text(1.02, middle, said, **where)

    def _name(self, groups, middles, named):
        """The features at the left, or their families."""
        if named:
            drawn = [points.get_offsets()[:, 1] for points in self.points_.values()]
            names = [short(name, 28) for rows in groups.values() for name in rows.index]
            self.ax_.set_yticks(np.asarray(np.concatenate(drawn)), names, size=8)
        else:
            names = [short(name, 24) if len(groups) > 1 else "" for name in groups]
            self.ax_.set_yticks(middles, names)
        self.ax_.tick_params(axis="y", length=0)


def _families(names, family) -> list:
    """The family of each name."""
    if family is None:
        return ["all"] * len(names)
    if isinstance(family, str) and family:
        found = [str(name).rsplit(family, 1) for name in names]
        return [parts[0] if len(parts) > 1 else OTHER for parts in found]
    if isinstance(family, Mapping):
        return [str(family.get(name, OTHER)) for name in names]
    if callable(family):
        return [str(family(name)) for name in names]
    raise ValueError(
        f'family is {family!r}; it may be None, a separator such as "_", a function of the name '
        "or a dict of names"
    )
