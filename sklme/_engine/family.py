"""What a family of outcomes is: the log-likelihood of a row and its derivatives.

A family has one linear predictor eta a row and any number of auxiliary predictors tau, all free on
the real line (the logarithm of a dispersion, the logit of a share of zeros, ...).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklme._engine.links import LINKS, Link

EXACT = 27.0  # logarithm of a precision that is that of the numbers themselves, squared
LEAST_MEAN = 0.05  # a starting mean of counts is never below this
STEPS, TINY = 40, 1e-12  # Newton steps to a saturated log-likelihood, and its least curvature


@dataclass(frozen=True)
class Outcome:
    """What a family keeps of y; made once by `Family.outcome`.

    y : successes for shares of trials, otherwise the value
    trials : trials of each row; None where a family has none
    weights : frequencies, which multiply the log-likelihood of a row; None for ones
    constant : the part of the log-likelihood in y, trials and weights only, summed over the rows
    extra : further arrays that a family wants computed once
    """

    y: np.ndarray  # (n,)
    trials: np.ndarray | None  # (n,)
    weights: np.ndarray | None  # (n,)
    constant: float
    extra: tuple = ()


@dataclass(frozen=True)
class Terms:
    """The log-likelihood of each row, without `Outcome.constant`, and its derivatives.

    The names say the derivative with respect to eta; those with `aux` are differentiated by a tau
    besides. Order 2 fills the first three, order 3 all.
    """

    value: np.ndarray  # (n,)
    first: np.ndarray  # (n,)
    second: np.ndarray  # (n,), negative where the row is concave
    third: np.ndarray | None = None
    aux_value: np.ndarray | None = None  # (n_aux, n)
    aux_first: np.ndarray | None = None  # (n_aux, n)
    aux_second: np.ndarray | None = None  # (n_aux, n)
    aux_curvature: np.ndarray | None = None  # (n_aux, n_aux, n), by two tau


class Family:
    """A family of outcomes with its link; the base class of every family.

    A family of your own defines at least `name`, `links` (names of possible links, the default
    first) and `mu_terms`, and `aux_names` if it has auxiliary predictors. The rest has defaults
    that hold for any family without trials: `start` puts the means halfway between y and its
    average, and without `saturated` the deviance is -2 times the log-likelihood. `variance`,
    `sample` and `cdf` are only asked for by what needs them.

    Any object with the methods of this class is accepted as a family.
    """

    name: str = ""
    links: tuple[str, ...] = ("identity",)
    aux_names: tuple[str, ...] = ()

    def __init__(self, link: str | Link | None = None):
        self.link = LINKS[link or self.links[0]] if not isinstance(link, Link) else link

    def __repr__(self) -> str:
        return f"<family {self.name}, link {self.link.name}>"

    # ------------------------------------------------------------------------- to be defined

    def mu_terms(self, outcome: Outcome, mu, aux, order: int) -> Terms:
        """Terms with respect to mu instead of eta, and without the weights."""
        raise NotImplementedError(f"the {self.name} family does not define mu_terms")

    def variance(self, eta, aux, trials=None) -> np.ndarray:
        """Var[y]; of the number of successes where there are trials."""
        raise NotImplementedError(f"the {self.name} family does not define variance")

    def sample(self, eta, aux, trials, rng) -> np.ndarray:
        """One outcome for every entry of eta."""
        raise NotImplementedError(f"the {self.name} family does not define sample")

    def cdf(self, y, eta, aux, trials=None) -> np.ndarray:
        """P(Y <= y)."""
        raise NotImplementedError(f"the {self.name} family does not define cdf")

    # -------------------------------------------------------------------------- with defaults

    def check(self, y, trials=None) -> str | None:
        """None, or a sentence that names the first impossible row."""
        return first_bad(~np.isfinite(y), y, f"the {self.name} family needs finite numbers")

    def outcome(self, y, trials=None, weights=None) -> Outcome:
        """What the family keeps of y. Nothing is checked."""
        return Outcome(np.asarray(y, float), None, weights, 0.0)

    def terms(self, outcome: Outcome, eta, aux, order: int) -> Terms:
        """The log-likelihood of each row and its derivatives of order 2 or 3."""
        with np.errstate(all="ignore"):
            mu, *slopes = self.link.derivatives(eta)
            found = self.mu_terms(outcome, mu, aux, order)
            inside = (mu > self.link.low) & (mu < self.link.high)
            return weigh(fence(chain(found, slopes), inside), outcome.weights)

    def value(self, outcome: Outcome, eta, aux) -> np.ndarray:
        """The log-likelihood of each row, `terms(...).value`."""
        return self.terms(outcome, eta, aux, 2).value

    def start(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """A safe linear predictor to start from, and auxiliary predictors from moments."""
        mean, _ = moments(outcome)
        return self.link.eta(0.5 * (outcome.y + mean)), np.zeros(len(self.aux_names))

    def mean(self, eta, aux) -> np.ndarray:
        """E[y], for a single trial."""
        return self.link.mean(eta)

    def saturated(self, outcome: Outcome, aux) -> np.ndarray | None:
        """The largest value that any mean gives each row, without its weight; None if unknown."""
        return None

    def deviance(self, outcome: Outcome, eta, aux) -> np.ndarray:
        """2 (saturated - attained log-likelihood) of each row."""
        with np.errstate(all="ignore"):
            best = self.saturated(outcome, aux)
            lost = -self.value(outcome, eta, aux)
            if best is None:
                return 2 * lost
            return np.maximum(2 * (times(best, outcome.weights) + lost), 0)

    def dispersion(self, aux) -> dict[str, float]:
        """The constant auxiliary predictors as the numbers that are published."""
        return {}

    def exact(self, aux) -> bool:
        """Whether the means reproduce y to rounding, so that the likelihood has no bound."""
        return False

    def aggregate(self, outcome: Outcome, group, n_groups: int) -> Outcome | None:
        """The outcome of sums over rows that share eta and aux, or None if there is none."""
        return None


class PositiveFamily(Family):
    """A family of positive means, written in s = log mu: `log_terms` and `log_value`.

    In s the log link needs no chain rule, and nothing underflows.
    """

    links: tuple[str, ...] = ("log", "sqrt", "identity")

    def log_terms(self, outcome: Outcome, s, aux, order: int) -> Terms:
        """Terms with respect to s = log mu, without the weights."""
        raise NotImplementedError

    def log_value(self, outcome: Outcome, s, aux) -> np.ndarray:
        """The value of `log_terms`."""
        return self.log_terms(outcome, s, aux, 2).value

    def terms(self, outcome, eta, aux, order):
        with np.errstate(all="ignore"):
            if self.link.name == "log":
                return weigh(self.log_terms(outcome, eta, aux, order), outcome.weights)
            inside = eta > 0
            s, *slopes = self.link.log_mean(np.where(inside, eta, 1.0))  # type: ignore[attr-defined]
            found = chain(self.log_terms(outcome, s, aux, order), slopes)
            return weigh(fence(found, inside), outcome.weights)

    def value(self, outcome, eta, aux):
        with np.errstate(all="ignore"):
            found = self.log_value(outcome, self.log_mean(eta), aux)
            if self.link.name != "log":
                found = np.where(eta > 0, found, -np.inf)
            return times(found, outcome.weights)

    def log_mean(self, eta) -> np.ndarray:
        """log mu, and 0 where eta is out of range."""
        if self.link.name == "log":
            return eta
        return self.link.log_mean(np.where(eta > 0, eta, 1.0))[0]  # type: ignore[attr-defined]

    def start(self, outcome):
        mean, variance = moments(outcome)
        mu = np.maximum(0.5 * (outcome.y + mean), LEAST_MEAN * (mean if mean > 0 else 1.0))
        return self.link.eta(mu), self.start_aux(mean, variance)

    def start_aux(self, mean: float, variance: float) -> np.ndarray:
        """Auxiliary predictors from the mean and the variance of y."""
        return np.zeros(len(self.aux_names))


# ------------------------------------------------------------------------------------------ helpers


def chain(t: Terms, slopes) -> Terms:
    """Terms with respect to eta from those with respect to x(eta), whose slopes are x', x'', x'''.

    The rule of Faa di Bruno; of the auxiliary parts only those that are differentiated change.
    """
    first, second, third = slopes
    square = first * first
    out = {"first": t.first * first, "second": t.second * square + t.first * second}
    if t.third is not None:
        bend = t.third * square + 3 * t.second * second
        out["third"] = bend * first + t.first * third
    if t.aux_first is not None and t.aux_second is not None:
        out["aux_first"] = t.aux_first * first
        out["aux_second"] = t.aux_second * square + t.aux_first * second
    return replace(t, **out)


def fence(t: Terms, inside) -> Terms:
    """The value -inf where the mean is out of range, so that a search shortens its step."""
    return t if inside.all() else replace(t, value=np.where(inside, t.value, -np.inf))


def weigh(t: Terms, weights) -> Terms:
    """Every term times the weight of its row."""
    if weights is None:
        return t
    parts: Any = (None if a is None else a * weights for a in vars(t).values())
    return Terms(*parts)


def times(a, weights):
    """a times the weights, if there are any."""
    return a if weights is None else a * weights


def total(a, weights) -> float:
    """The weighted sum of a."""
    return float(a.sum() if weights is None else weights @ a)


def moments(outcome: Outcome) -> tuple[float, float]:
    """Weighted mean and variance of y."""
    y, weights = outcome.y, outcome.weights
    size = len(y) if weights is None else weights.sum()
    mean = total(y, weights) / size
    return mean, total((y - mean) ** 2, weights) / size


def first_bad(bad, y, needs: str) -> str | None:
    """The sentence `needs`: y is ... in row ...; None where no row is bad."""
    if not np.any(bad):
        return None
    row = int(np.argmax(bad))
    return f"{needs}: y is {np.asarray(y)[row]:g} in row {row}"


def constant_of(tau) -> float:
    """The value of an auxiliary predictor that is the same in every row."""
    return float(np.asarray(tau).ravel()[0])


def climb(terms, x) -> np.ndarray:
    """The maximum of concave rows by Newton steps; terms(x) gives value, first and second."""
    for _ in range(STEPS):
        t = terms(x)
        x = x - np.clip(t.first / np.minimum(t.second, -TINY), -1, 1)
    return terms(x).value
