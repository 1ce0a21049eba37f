"""Where the variance sits: stacked bars, one for each model or output."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sklme._axes import COLORS, PALE, open_axes, short
from sklme.inference._access import open_model
from sklme.inference.variance import DISTRIBUTION, RESIDUAL, r_squared, variance_table

NAMED = 30  # bars up to which each is named
ROOM = 0.07  # least share whose number fits into its part of a bar
FIXED = "fixed part"
LAST = (RESIDUAL, DISTRIBUTION)


class VariancePartitionDisplay:
    """Shares of the variance by level of the hierarchy, as stacked bars.

    Parameters
    ----------
    shares : DataFrame
        One row a bar, one column a part; rows add up to 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds it, after `plot`.
    bars_ : dict
        The drawn bars by part, after `plot`.

    See Also
    --------
    VariancePartitionDisplay.from_estimator : From one or several fitted models.

    Examples
    --------
    >>> from sklme import LinearMixedModel
    >>> from sklme.datasets import load_penicillin
    >>> from sklme.inspection import VariancePartitionDisplay
    >>> X, y = load_penicillin(return_X_y=True)
    >>> model = LinearMixedModel(["plate", "sample"]).fit(X, y)
    >>> display = VariancePartitionDisplay.from_estimator(model)
    >>> print(display.shares.round(2).to_string(index=False))
     plate  sample  Residual
      0.15    0.79      0.06
    """

    def __init__(self, shares):
        self.shares = shares

    @classmethod
    def from_estimator(cls, model, X=None, y=None, *, fixed=False, output=None, ax=None, sort=None):
        """Draw the shares of fitted models.

        Parameters
        ----------
        model : estimator object or dict of them
            A fitted linear or generalised mixed model, or a pipeline, search or target wrapper
            around one; a dict gives several, by name. Every output of a model has a bar. The
            shares of a generalised model are those of the linear predictor plus the variance that
            the distribution has there, see `sklme.inference.r_squared`.
        X : {array-like, dataframe} of shape (n_samples, n_features), default=None
            Rows over which variances are taken; None means those of fit. Needed under precision
            weights, and for generalised models with slopes or `fixed`.
        y : array-like of shape (n_samples,), default=None
            Responses of the rows; needed for generalised models that are not of classes.
        fixed : bool, default=False
            Whether the variance of the fixed part counts too.
        output : int or list of int, default=None
            Which outputs; None means all.
        ax : matplotlib Axes, default=None
            Where to draw.
        sort : bool, default=None
            Whether bars are sorted by the residual share; None means where they are too many to be
            named.

        Returns
        -------
        display : VariancePartitionDisplay
            The display, drawn.
        """
        models = model if isinstance(model, Mapping) else {"": model}
        rows = {}
        for name, one in models.items():
            for r, title in _outputs(one, output):
                rows[f"{name} {title}".strip()] = _shares(one, X, y, fixed, r)
        shares = pd.DataFrame.from_dict(rows, orient="index").fillna(0.0)
        first = [FIXED] if fixed else []
        middle = [c for c in shares if c not in (FIXED, *LAST)]
        last = [c for c in LAST if c in shares]
        return cls(shares[[*first, *middle, *last]]).plot(ax, sort=sort)

    def plot(self, ax=None, *, sort=None):
        """Draw the shares.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw.
        sort : bool, default=None
            Whether bars are sorted by the last part; None means where they are too many to be
            named.

        Returns
        -------
        display : VariancePartitionDisplay
            The display itself.
        """
        n = len(self.shares)
        few = n <= NAMED
        size = (6.0, float(np.clip(1.3 + 0.42 * n, 1.9, 6.0)) if few else 4.0)
        self.figure_, (self.ax_,) = open_axes(ax, size=size)
        shares = self.shares
        if (not few) if sort is None else sort:
            shares = shares.sort_values(shares.columns[-1], kind="stable")
        (self._named if few else self._many)(shares)
        self.ax_.set_xlim(0, 1)
        self.ax_.set_ylim(n - 0.5, -0.5)
        self.ax_.xaxis.set_major_formatter("{x:.0%}")
        self.ax_.set_xlabel("share of the variance")
        handles = [self.bars_[part] for part in shares]
        self.ax_.legend(
            handles,
            [short(part, 24) for part in shares],
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=min(len(handles), 4),
            frameon=False,
        )
        return self

    def _named(self, shares):
        place, left, self.bars_ = np.arange(len(shares)), np.zeros(len(shares)), {}
        for part, color in zip(shares, _colors(shares), strict=True):
            width = shares[part].to_numpy()
            bars = self.ax_.barh(place, width, left=left, height=0.7, color=color, ec="white")
            texts = [f"{w:.0%}" if w >= ROOM else "" for w in width]
            ink = "white" if color in (COLORS[0], COLORS[2]) else "black"
            self.ax_.bar_label(bars, texts, label_type="center", size=8, color=ink)
            self.bars_[part], left = bars, left + width
        self.ax_.set_yticks(place, [short(name, 24) for name in shares.index])
        self.ax_.tick_params(axis="y", length=0)

    def _many(self, shares):
        """Areas instead of bars, which would be thinner than a line."""
        place, left, self.bars_ = np.arange(len(shares)), np.zeros(len(shares)), {}
        for part, color in zip(shares, _colors(shares), strict=True):
            right = left + shares[part].to_numpy()
            self.bars_[part] = self.ax_.fill_betweenx(
                place, left, right, color=color, step="mid", lw=0
            )
            left = right
        self.ax_.set_yticks([])
        self.ax_.set_ylabel(f"{len(shares)} models or outputs")


def _colors(shares):
    """One for each part; the last one pale."""
    n = shares.shape[1] - 1
    return [*(COLORS[i % len(COLORS)] for i in range(n)), PALE]


def _outputs(model, output):
    """Pairs of an output and its title; one unnamed for a model of one."""
    opened = open_model(model, output=0)
    inner = opened.model
    if opened.generalized or inner._one_output:
        return [(None, "")]
    chosen = range(len(inner._fit.s2)) if output is None else np.atleast_1d(output).tolist()
    return [(r, f"output {r}") for r in chosen]


def _shares(model, X, y, fixed, r):
    """The share of each part of the variance of one output."""
    table = variance_table(model, X, y, output=r)
    shares = table["share"].groupby("group", sort=False).sum(min_count=1)
    if shares.isna().any() and DISTRIBUTION in shares:
        raise ValueError("the shares of this generalised model need rows: pass X and y")
    if not fixed:
        return shares.to_dict()
    explained = r_squared(model, X, y, output=r)["marginal"]
    explained = explained["latent"] if isinstance(explained, pd.Series) else explained
    return {FIXED: explained, **((1.0 - explained) * shares).to_dict()}
