"""What a dose is to reach, and what concentrations over an interval say about it."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from sklme._rows import check_choice, check_number
from sklme.pharmacokinetics.dosing import Dosing

TARGETS = ("auc", "average", "trough", "peak", "window")
TAILS = (0.5, 0.05, 0.95)  # of median, lower and upper
NODES = 8  # of the quadrature over a part of an interval


@dataclass(frozen=True)
class Target:
    """A quantity of an interval between doses, and where it is to lie.

    kind : of TARGETS; value : to be reached with `probability`; bounds : to lie between
    """

    kind: str
    value: float | None
    bounds: tuple | None
    probability: float | None

    def __post_init__(self):
        check_choice("target", self.kind, TARGETS)
        if self.kind == "window" and self.bounds is None:
            raise ValueError("target='window' needs bounds, between which concentrations stay")
        if (self.value is None) == (self.bounds is None):
            which = "neither" if self.value is None else "both"
            raise ValueError(f"value and bounds are two kinds of goal: give one, not {which}")
        if self.value is None:
            _check_bounds(self.bounds)
            if self.probability is not None:
                raise ValueError("probability goes with value: bounds take the most likely dose")
            return
        check_number("value", self.value, Real, 0)
        if self.probability is None:
            object.__setattr__(self, "probability", 0.5)
        check_number("probability", self.probability, Real, 0, 1)

    def measure(self, f, grid):
        """The quantity, of concentrations (..., n), and whether it lies where it is to lie."""
        if self.kind == "window":
            low, high = self.bounds
            inside = (f >= low) & (f <= high)
            return inside @ grid.weights / grid.weights.sum(), inside.all(axis=-1)
        if self.kind == "trough":
            quantity = f[..., -1]
        elif self.kind == "peak":
            quantity = f.max(axis=-1)
        else:
            quantity = f @ grid.weights / (1.0 if self.kind == "auc" else grid.interval)
        return quantity, self.is_met(quantity)

    def is_met(self, quantity):
        """Whether a quantity lies where it is to lie."""
        if self.value is not None:
            return quantity >= self.value
        return (quantity >= self.bounds[0]) & (quantity <= self.bounds[1])

    def describe(self):
        """In words."""
        if self.value is not None:
            likely = "median" if self.probability == 0.5 else f"probability {self.probability:g}"
            return f"{self.kind} of at least {self.value:g} ({likely})"
        low, high = self.bounds
        what = "all concentrations" if self.kind == "window" else self.kind
        return f"{what} from {low:g} to {high:g}"


def _check_bounds(bounds):
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"bounds is {bounds!r}; it must be two numbers (lower, upper)") from None
    if not 0 <= low < high:
        raise ValueError(
            f"bounds is ({low:g}, {high:g}); the lower one must be at least 0 and below the upper"
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """Times from a dose to the next, with weights of Gauss-Legendre quadrature by parts.

    The ends of the interval, and of an infusion, have the weight 0.
    """

    times: np.ndarray
    weights: np.ndarray
    interval: float

    @classmethod
    def of(cls, interval, infusion, n_parts):
        """Parts are short behind the start and the end of an infusion."""
        x, w = np.polynomial.legendre.leggauss(NODES)
        steps = np.linspace(0.0, 1.0, n_parts + 1) ** 2
        edges = interval * steps
        if infusion and infusion < interval:
            edges = np.concatenate(
                [infusion * steps[:-1], infusion + (interval - infusion) * steps]
            )
        middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
        ends = np.unique([0.0, infusion or 0.0, interval])
        times = np.concatenate([(middle[:, None] + half[:, None] * x).ravel(), ends])
        weights = np.concatenate([(half[:, None] * w).ravel(), np.zeros(len(ends))])
        order = np.argsort(times, kind="stable")
        return cls(times[order], weights[order], interval)


@dataclass(frozen=True)
class Schedule:
    """How doses are given: every interval, into a compartment, over the time of an infusion."""

    interval: float
    infusion: float | None
    compartment: str | int
    steady_state: bool

    def __post_init__(self):
        check_number("interval", self.interval, Real, 0)
        if not np.isfinite(self.interval):
            raise ValueError(f"interval is {self.interval!r}; it must be finite")
        if self.infusion is not None:
            check_number("infusion", self.infusion, Real, 0)
            if self.infusion > self.interval:
                raise ValueError(
                    f"infusion is {self.infusion:g}, longer than the interval of "
                    f"{self.interval:g} from dose to dose"
                )

    def dosing(self, subject, amount):
        """The dose at time 0, with those before it at steady state."""
        return Dosing(
            [subject],
            amount=amount,
            duration=self.infusion or 0.0,
            compartment=self.compartment,
            interval=self.interval,
            steady_state=int(self.steady_state),
        )

    def describe(self):
        """In words."""
        how = f" over {self.infusion:g}" if self.infusion else ""
        into = f" into {self.compartment}" if self.compartment else ""
        when = "at steady state" if self.steady_state else "after the first dose"
        return f"every {self.interval:g}{how}{into}, {when}"
