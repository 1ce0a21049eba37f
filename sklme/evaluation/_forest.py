"""The forest: a site a row, the mean as a diamond, and what to expect of a new site."""

import numpy as np

from sklme._axes import BLUE, GREY, RED, SKY, pyplot, short
from sklme.evaluation._views import (
    counts,
    decimals_of,
    estimate,
    interval,
    number,
    order_sites,
    short_name,
)

NAME = 44  # most letters of the name of a site
NEW = "A new site ({})"
DARK, LIGHT = "0.15", "0.6"
PANEL = 3.7  # inches between names and numbers
GAP = 9.0  # points between panel, estimates and counts
FENCE = 3.0  # interquartile ranges beyond the quartiles from which on a site is left outside
REACH = 1.6  # spans of the estimates beyond which an interval ends in an arrow
REACH_NEW = 4.0  # the same for the mean and a new site, which matter most
AXIS = {
    "logit": (0.0, 1.0),
    "log": (0.0, np.inf),
    "fisher": (-1.0, 1.0),
    "log-unexplained": (-np.inf, 1.0),
}


def row_height(n):
    """Inches a row takes, and the size of its letters in points."""
    return (0.27, 8.5) if n <= 24 else (0.2, 7.5) if n <= 45 else (0.165, 6.5)


def figure_size(rows, metric):
    """Inches that names, panel, numbers and rows need."""
    height, size = row_height(len(rows))
    texts = [*(short_name(site, NAME) for site in rows["site"]), NEW.format("95 %")]
    names = max(_width(text, size) for text in texts)
    numbers = max(_width(text, size) for text in ("−0.00 [−0.00, −0.00]", _head(metric)))
    numbers += _width("events/rows", size) + 2.0 * GAP
    return (names + numbers) / 72.0 + PANEL + 0.5, (len(rows) + 4.5) * height + 0.75


def _head(metric, level="95 %"):
    return f"{metric.label} [{level} CI]"


def _width(text, size):
    """Points that a text takes, whatever draws it later."""
    pyplot()
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]


class Forest:
    """One picture being drawn: rows at 0, 1, ..., below them the mean and a new site."""

    def __init__(self, ax, rows, pooled, metric, *, sort_by, confidence_level):
        self.ax = ax
        self.rows = order_sites(rows, sort_by).reset_index(drop=True)
        self.pooled = pooled
        self.metric = metric
        self.level = f"{100 * confidence_level:g} %"
        self.decimals = decimals_of(rows)
        self.height, self.size = row_height(len(rows))
        self.site_artists, self.diamond, self.prediction_line = {}, None, None
        self.texts = []

    def draw(self):
        """All of it."""
        self.limits = self._limits()
        n = len(self.rows)
        self.ax.set_xlim(*self.limits)
        self.ax.set_ylim(n + 2.0 if self.pooled is not None else n - 0.5, -1.5)
        if self.metric.reference is not None:
            self.ax.axvline(self.metric.reference, color="0.35", lw=1.0, ls=":", zorder=0.5)
        for place, row in self.rows.iterrows():
            self.site_artists[row["site"]] = self._site(place, row)
        names = [short_name(site, NAME) for site in self.rows["site"]]
        if self.pooled is not None:
            self._pooled(n)
            n_sites = int(self.pooled["n_sites"])
            mean = f"Mean of {n_sites} site{'s' if n_sites != 1 else ''}"
            names += [mean, NEW.format(self.level)]
        self._finish(names)
        return self

    def _site(self, place, row):
        if not np.isfinite(row["estimate"]):
            self._right(place, "not estimable", counts(row["n"], row["n_events"]), GREY)
            return self._reason(place, row["reason"])
        kept = row["status"] == "ok"
        ink, line = (DARK, BLUE) if kept else (GREY, SKY)
        self._line(place, row["lower"], row["upper"], color=line, lw=1.2, alpha=1 if kept else 0.55)
        largest = (0.62 * 72.0 * self.height) ** 2 / max(self.rows["weight"].max(), 1e-12)
        area = largest * row["weight"] if row["weight"] > 0 else 14.0
        face = BLUE if kept else "white"
        square = self.ax.scatter(
            *([row["estimate"]], [place]), s=area, marker="s", c=face, ec=line, lw=0.8, zorder=3
        )
        text = estimate(row, self.decimals)
        self._right(place, text, counts(row["n"], row["n_events"]), ink)
        return square

    def _reason(self, place, reason):
        """Why there is no estimate, over the middle of the row."""
        letters = int(PANEL * 72.0 / (0.5 * self.size))
        return self.ax.text(
            *(0.5, place, short(reason, letters)),
            transform=self.ax.get_yaxis_transform(),
            **{
                "ha": "center",
                "va": "center",
                "size": 0.9 * self.size,
                "color": GREY,
                "style": "italic",
            },
            bbox={"fc": "white", "ec": "none", "pad": 0.6},
        )

    def _line(self, place, lower, upper, **style):
        """An interval; where it leaves the panel, an arrow says so."""
        if np.isnan(lower) or np.isnan(upper):
            return None
        left, right = self.limits
        ends = np.clip([lower, upper], left, right)
        (line,) = self.ax.plot(ends, [place, place], solid_capstyle="butt", **style)
        self._arrows(place, lower, upper, style["color"], style.get("alpha"))
        return line

    def _arrows(self, place, lower, upper, color, alpha=None):
        left, right = self.limits
        style = {"color": color, "ms": 4.5, "ls": "", "alpha": alpha, "clip_on": False}
        if lower < left:
            self.ax.plot([left], [place], marker="<", **style)
        if upper > right:
            self.ax.plot([right], [place], marker=">", **style)

    def _pooled(self, n):
        row, place = self.pooled, n + 0.25
        self.ax.axhline(n - 0.4, color="0.8", lw=0.8)
        if np.isfinite(row["mean"]):
            self.diamond = self._diamond(place, row)
        kept = self.rows[self.rows["weight"] > 0]
        total = counts(kept["n"].sum(), kept["n_events"].sum(skipna=False))
        total = total if len(kept) else ""
        self._right(place, estimate(row, self.decimals), total, DARK, weight="bold")
        ends = row["prediction_lower"], row["prediction_upper"]
        if np.isfinite(ends).all():
            self.prediction_line = self._line(place + 1.1, *ends, color=RED, lw=3.2, zorder=3)
            self._right(place + 1.1, interval(*ends, self.decimals), "", RED, weight="bold")
        else:
            self._right(place + 1.1, "–", "", GREY)
            self._reason(place + 1.1, str(row["reason"]) or "no prediction interval")

    def _diamond(self, place, row):
        mean, lower, upper = row["mean"], row["lower"], row["upper"]
        lower, upper = (mean if np.isnan(end) else end for end in (lower, upper))
        self._arrows(place, lower, upper, DARK)
        x = np.clip([lower, mean, upper, mean], *self.limits)
        y = place + 0.36 * np.array([0.0, -1.0, 0.0, 1.0])
        (patch,) = self.ax.fill(x, y, color=DARK, lw=0.6, zorder=3)
        return patch

    def _limits(self):
        """Of the panel: all estimates, and intervals as far as they leave these readable."""
        rows, row = self.rows, self.pooled
        mean = [] if row is None else [row["mean"]]
        reference = [] if self.metric.reference is None else [self.metric.reference]
        core = _finite([*_inner(rows["estimate"]), *mean, *reference])
        if not len(core):
            return 0.0, 1.0
        low, high = core.min(), core.max()
        span = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-6)
        new = [] if row is None else row[["lower", "upper", "prediction_lower", "prediction_upper"]]
        for ends, reach in ((rows[["lower", "upper"]], REACH), (new, REACH_NEW)):
            ends = _finite(np.asarray(ends, dtype=float).ravel())
            ends = np.clip(ends, core.min() - reach * span, core.max() + reach * span)
            low, high = min(low, ends.min(initial=low)), max(high, ends.max(initial=high))
        margin = 0.03 * (high - low) + 1e-9
        least, most = AXIS.get(self.metric.scale, (-np.inf, np.inf))
        return max(low - margin, least - margin), min(high + margin, most + margin)

    def _right(self, place, first, second, color, **style):
        self.texts.append((place, first, second, color, style))

    def _finish(self, names):
        """Names to the left, numbers in two columns to the right, heads above."""
        ax, n = self.ax, len(self.rows)
        places = np.r_[np.arange(n), [n + 0.25, n + 1.35][: len(names) - n]]
        ax.set_yticks(places, names, size=self.size)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=8.5)
        ax.spines["left"].set_visible(False)
        for label, status in zip(ax.get_yticklabels(), self.rows["status"], strict=False):
            label.set_color(DARK if status == "ok" else GREY)
        for label, color in zip(ax.get_yticklabels()[n:], (DARK, RED), strict=False):
            label.set(color=color, weight="bold")
        events = self.rows["n_events"].notna().any()
        head = _head(self.metric, self.level), "events/rows" if events else "rows"
        self.texts.append((-1.0, *head, DARK, {}))
        widths = [_width(text, self.size) for _, text, _, _, style in self.texts if text]
        bold = any(style for *_, style in self.texts)
        second = GAP + (1.12 if bold else 1.0) * max(widths) + GAP
        second += max(_width(text, self.size) for _, _, text, _, _ in self.texts if text)
        for place, first, last, color, style in self.texts:
            style = dict(size=self.size, color=color, va="center_baseline", **style)
            self._beside(place, GAP, first, ha="left", **style)
            self._beside(place, second, last, ha="right", **style)
        better = {True: " (higher is better)", False: " (lower is better)", None: ""}
        ax.set_xlabel(self.metric.label + better[self.metric.greater_is_better], size=9)
        self._notes()

    def _beside(self, place, offset, text, **style):
        if text:
            self.ax.annotate(
                text,
                (1.0, place),
                xycoords=self.ax.get_yaxis_transform(),
                xytext=(offset, 0.0),
                textcoords="offset points",
                annotation_clip=False,
                **style,
            )

    def _notes(self):
        """How far sites differ, and what is pale, in small print below the numbers."""
        notes = []
        row = self.pooled
        if row is not None and np.isfinite(row["i2"]):
            scale = self.metric.scale
            on = "" if scale == "identity" else f" ({scale} scale)"
            notes.append(f"I² {100 * row['i2']:.0f} %, τ {number(np.sqrt(row['tau2']), 2)}{on}")
            if row["reason"] and np.isfinite(row["prediction_lower"]):
                notes.append(str(row["reason"]))
        if (self.rows["status"] == "few events").any():
            notes.append("pale: few events, not in the mean")
        if notes:
            self.ax.annotate(
                "\n".join(notes),
                (1.0, 0.0),
                xycoords="axes fraction",
                xytext=(GAP, -6.0),
                textcoords="offset points",
                annotation_clip=False,
                **{"ha": "left", "va": "top", "size": 7.0, "color": "0.35", "linespacing": 1.3},
            )


def _inner(estimates):
    """Those of sites that are not so far off that the others could not be told apart."""
    estimates = _finite(estimates)
    if len(estimates) < 5:
        return estimates
    low, high = np.quantile(estimates, [0.25, 0.75])
    room = FENCE * (high - low)
    return estimates[(estimates >= low - room) & (estimates <= high + room)]


def _finite(values):
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]
