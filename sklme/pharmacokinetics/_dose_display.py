"""DoseDisplay: how likely a dose meets the target, and the concentrations that it brings."""

import numpy as np

from sklme._axes import COLORS, GREY, open_axes, short
from sklme.pharmacokinetics._targets import TAILS

MOST = len(COLORS)  # patients in one picture
FINE, COARSE = 80, 9  # doses along the axis, where they cost nothing and where each is simulated


class DoseDisplay:
    """A recommendation of doses as a picture.

    On the left the probability that the target is met, by dose, with a mark at the dose that was
    found; on the right the concentrations from that dose to the next, median and a band of 90 %.
    Bounds of concentrations are grey, those of a trough
    at the end of the interval alone.

    Parameters
    ----------
    recommendation : DoseRecommendation
        What `recommend_dose` returned.
    patients : list, default=None
        Ids of the patients to draw, at most six; None means the first six.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Both panels, after `plot`.
    figure_ : matplotlib Figure
        The figure that holds them, after `plot`.
    lines_ : dict
        Patient -> the curve on the left and the median on the right, after `plot`.

    See Also
    --------
    recommend_dose : Finds doses.

    Examples
    --------
    >>> from sklme.datasets import load_theophylline
    >>> from sklme.nonlinear import NonlinearMixedModel
    >>> from sklme.pharmacokinetics import Dosing, OneCompartment
    >>> from sklme.pharmacokinetics import DoseDisplay
    >>> from sklme.pharmacokinetics import recommend_dose
    >>> X, y = load_theophylline(return_X_y=True)
    >>> doses = Dosing.single(X["Subject"], X["Dose"] * X["Wt"])
    >>> model = NonlinearMixedModel(
    ...     OneCompartment("first-order"), {"CL": 2.7, "V": 30.0, "KA": 1.5},
    ...     group="Subject", time="Time", dosing=doses,
    ... ).fit(X, y)
    >>> posterior = model.condition(X[:2], y[:2])
    >>> found = recommend_dose(posterior, interval=8, target="window", bounds=(5, 20),
    ...                        choices=[100, 200, 300], random_state=0)
    >>> display = DoseDisplay.from_recommendation(found)
    >>> display.axes_[0].get_ylabel()
    'probability of the target'
    """

    def __init__(self, recommendation, patients=None):
        self.recommendation = recommendation
        self.patients = patients

    @classmethod
    def from_recommendation(cls, recommendation, patients=None, *, ax=None):
        """Draw a recommendation.

        Parameters
        ----------
        recommendation : DoseRecommendation
            What `recommend_dose` returned.
        patients : list, default=None
            Ids of the patients to draw, at most six; None means the first six.
        ax : array-like of two matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : DoseDisplay
            The display, drawn.
        """
        return cls(recommendation, patients).plot(ax)

    def plot(self, ax=None):
        """Draw both panels.

        Parameters
        ----------
        ax : array-like of two matplotlib Axes, default=None
            Where to draw.

        Returns
        -------
        display : DoseDisplay
            The display itself.
        """
        chosen = self._chosen()
        self.figure_, axes = open_axes(ax, 2, size=(9.6, 3.8))
        self.axes_, self.lines_ = np.array(axes, object), {}
        doses = self._doses(chosen)
        for (i, label), color in zip(chosen.items(), COLORS, strict=False):
            curve = self._draw_probability(i, label, doses, color)
            self.lines_[label] = curve, self._draw_band(i, label, color)
        self._finish()
        return self

    def _chosen(self):
        """Number -> id of the patients to draw."""
        labels = self.recommendation.simulation.patients.labels.tolist()
        wanted = labels[:MOST] if self.patients is None else list(self.patients)
        if not 0 < len(wanted) <= MOST:
            raise ValueError(f"a picture shows 1 to {MOST} patients, but {len(wanted)} are asked")
        for label in wanted:
            if label not in labels:
                raise ValueError(f"the recommendation has no patient {label!r}")
        return {labels.index(label): label for label in wanted}

    def _doses(self, chosen):
        """Doses along the axis: those of the table, and more where one simulation does for all."""
        table = self.recommendation.table
        given = np.unique(table.index.get_level_values("dose"))
        if self.recommendation.simulation.is_linear and len(given):
            return np.union1d(given, np.linspace(given[0] / 4, 1.25 * given[-1], FINE))
        if len(given) <= len(self.recommendation.dose):  # a dose each: around all of them
            return np.union1d(given, np.geomspace(given.min() / 2, 2 * given.max(), COARSE))
        return given

    def _draw_probability(self, i, label, doses, color):
        met = self.recommendation.simulation.outcomes(i, doses)[1].mean(axis=0)
        (line,) = self.axes_[0].plot(doses, met, color=color, label=short(str(label)))
        best = self.recommendation.dose.iloc[i]
        self.axes_[0].plot(best["dose"], best["probability"], "o", color=color, ms=7)
        return line

    def _draw_band(self, i, label, color):
        simulation, dose = self.recommendation.simulation, self.recommendation.dose["dose"].iloc[i]
        if not np.isfinite(dose):
            return None
        times = simulation.grid.times
        middle, low, high = np.quantile(simulation.concentrations(i, dose, times), TAILS, axis=0)
        self.axes_[1].fill_between(times, low, high, color=color, alpha=0.2, lw=0)
        (line,) = self.axes_[1].plot(times, middle, color=color, label=f"{label}: {dose:.4g}")
        return line

    def _finish(self):
        left, right = self.axes_
        target = self.recommendation.simulation.target
        left.set(xlabel="dose", ylabel="probability of the target", ylim=(-0.02, 1.02))
        left.set_xlim(left=0)
        right.set(xlabel="time since the dose", ylabel="concentration", ylim=(0, None))
        right.set_xlim(0, self.recommendation.simulation.schedule.interval)
        if target.kind != "auc":
            self._draw_target(right, target)
        if target.probability is not None:
            left.axhline(target.probability, color=GREY, lw=1, ls="--", zorder=0)
        left.set_title(self.recommendation.target, loc="left", fontsize="medium")
        right.set_title(f"Dose {self.recommendation.schedule}", loc="left", fontsize="medium")
        if any(middle for _, middle in self.lines_.values()):
            right.legend(title="patient: dose", frameon=False, fontsize="small")

    def _draw_target(self, axis, target):
        """A line or an area; of a trough at the end of the interval alone."""
        end = axis.get_xlim()[1]
        start = 0.95 * end if target.kind == "trough" else 0.0
        if target.bounds is None:
            axis.plot([start, end], [target.value] * 2, color=GREY, lw=1.5, ls="--", zorder=3)
            return
        high = min(target.bounds[1], axis.get_ylim()[1])
        alpha = 0.45 if start else 0.15
        axis.fill_between([start, end], target.bounds[0], high, color=GREY, alpha=alpha, lw=0)
