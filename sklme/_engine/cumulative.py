"""Ordered classes 0..K-1 by the cumulative logit (McCullagh and Nelder 1989, section 5.2.2).

P(Y <= c) = F(kappa_c - eta) with F the logistic distribution function and increasing thresholds
kappa_1 < ... < kappa_(K-1). With u and v the upper and lower end of the class of a row, minus eta,

  F(u) - F(v) = F(u) F(-v) (1 - exp(-(u - v))),

so that l is a sum of three terms, each stable in every tail, the last free of eta.
"""

import numpy as np
from scipy.special import expit, log_expit, logit

from sklme._engine.family import Family, Outcome, Terms, first_bad, times, weigh
from sklme._engine.links import LINKS


class CumulativeLogit(Family):
    """Auxiliary predictors are kappa_1 and the logarithms of the steps between thresholds.

    eta carries no intercept: the thresholds are the intercepts. `Outcome.extra` holds the classes.
    """

    name = "cumulative logit"
    links = ("logit",)

    def __init__(self, n_classes: int):
        super().__init__("logit")
        self.n_classes = n_classes
        steps = (f"log step {j}" for j in range(2, n_classes))
        self.aux_names = ("threshold 1", *steps)

    def thresholds(self, aux) -> np.ndarray:
        """kappa, (K - 1,) or (K - 1, n)."""
        aux = np.asarray(aux, float)
        return np.cumsum(np.concatenate([aux[:1], np.exp(aux[1:])]), axis=0)

    def probabilities(self, eta, aux) -> np.ndarray:
        """The probability of each class, (n, K)."""
        eta, aux = np.asarray(eta, float), self._columns(aux)
        rows = [self._log_share(np.full(len(eta), c), eta, aux) for c in range(self.n_classes)]
        return np.exp(np.stack(rows, axis=1))

    def check(self, y, trials=None):
        last = self.n_classes - 1
        bad = ~((y >= 0) & (y <= last) & (y == np.floor(y)))
        return first_bad(bad, y, f"the cumulative logit family needs classes from 0 to {last}")

    def outcome(self, y, trials=None, weights=None):
        y = np.asarray(y, float)
        return Outcome(y, None, weights, 0.0, (y.astype(int),))

    def terms(self, outcome, eta, aux, order):
        (c,), aux = outcome.extra, self._columns(aux)
        u, v = self._ends(c, eta, aux)
        P, Q = expit(-u), expit(v)  # 1 - F(u), F(v)
        p, q = P * expit(u), Q * expit(-v)
        value = log_expit(u) + log_expit(-v) + self._step(c, aux, 0)
        if order < 3:
            return weigh(Terms(value, Q - P, -p - q), outcome.weights)
        bend_p, bend_q = p * (1 - 2 * P), q * (1 - 2 * Q)
        upper, lower = self._slopes(c, aux)
        slope, of_steps, bends = P * upper - Q * lower, *self._steps(c, aux)
        curvature = -p * upper[:, None] * upper - q * lower[:, None] * lower
        curvature[range(1, len(aux)), range(1, len(aux))] += slope[1:] + bends
        slope[1:] += of_steps
        out = Terms(
            *(value, Q - P, -p - q, bend_q - bend_p),
            aux_value=slope,
            aux_first=p * upper + q * lower,
            aux_second=bend_p * upper - bend_q * lower,
            aux_curvature=curvature,
        )
        return weigh(out, outcome.weights)

    def value(self, outcome, eta, aux):
        (c,) = outcome.extra
        return times(self._log_share(c, eta, self._columns(aux)), outcome.weights)

    def start(self, outcome):
        """eta = 0 and the thresholds of the shares of the classes."""
        w = np.ones(len(outcome.y)) if outcome.weights is None else outcome.weights
        counts = np.bincount(outcome.extra[0], w, self.n_classes) + 0.5
        kappa = logit(np.cumsum(counts)[:-1] / counts.sum())
        return np.zeros(len(outcome.y)), np.append(kappa[:1], np.log(np.diff(kappa)))

    def mean(self, eta, aux):
        """The expected class, as a number."""
        return self._sum(eta, aux, np.ones(self.n_classes - 1))

    def variance(self, eta, aux, trials=None):
        """Of the class as a number."""
        squares = self._sum(eta, aux, 2 * np.arange(self.n_classes - 1) + 1)
        return squares - self.mean(eta, aux) ** 2

    def sample(self, eta, aux, trials, rng):
        drawn = logit(rng.random(np.shape(eta)))
        return sum((k - eta < drawn).astype(float) for k in self.thresholds(aux))

    def cdf(self, y, eta, aux, trials=None):
        kappa = self.thresholds(aux)
        conditions = [np.asarray(y) < c for c in range(self.n_classes)]
        return np.select(conditions, [0.0, *(expit(k - eta) for k in kappa)], 1.0)

    def _sum(self, eta, aux, gains):
        """Sum over c of gains[c] P(Y > c)."""
        kappa = self.thresholds(aux)
        return sum(g * expit(eta - k) for g, k in zip(gains, kappa, strict=True))

    @staticmethod
    def _columns(aux) -> np.ndarray:
        """aux as (n_aux, n) or (n_aux, 1)."""
        aux = np.asarray(aux, float)
        return aux[:, None] if aux.ndim == 1 else aux

    def _ends(self, c, eta, aux):
        """u and v of each row; infinite at both ends of the scale."""
        kappa = self.thresholds(aux)
        edge = np.full((1, kappa.shape[1]), np.inf)
        ends = np.concatenate([-edge, kappa, edge])
        at = np.arange(len(c)) if ends.shape[1] > 1 else 0
        return ends[c + 1, at] - eta, ends[c, at] - eta

    def _log_share(self, c, eta, aux) -> np.ndarray:
        u, v = self._ends(c, eta, aux)
        return log_expit(u) + log_expit(-v) + self._step(c, aux, 0)

    def _step(self, c, aux, order: int) -> np.ndarray:
        """log(1 - exp(-(u - v))) or a derivative by the logarithm of the step; 0 at the ends."""
        inner = (c > 0) & (c < self.n_classes - 1)
        of_each = LINKS["cloglog"].log_share(aux, order)[order]  # type: ignore[attr-defined]
        at = np.arange(len(c)) if aux.shape[1] > 1 else 0
        return np.where(inner, of_each[np.where(inner, c, 0), at], 0.0)

    def _slopes(self, c, aux) -> tuple[np.ndarray, np.ndarray]:
        """du/daux and dv/daux, (n_aux, n) each: 1 and the steps up to the end of the class."""
        steps = np.exp(aux)
        steps[0] = 1.0
        j = np.arange(len(aux))[:, None]
        upper = np.where((j <= c) & (c < self.n_classes - 1), steps, 0.0)
        return upper, np.where(j < c, steps, 0.0)

    def _steps(self, c, aux) -> tuple[np.ndarray, np.ndarray]:
        """Slope and curvature of the third term of l in the log step of each row's class."""
        here = c == np.arange(1, len(aux))[:, None]
        return np.where(here, self._step(c, aux, 1), 0.0), np.where(
            here, self._step(c, aux, 2), 0.0
        )
