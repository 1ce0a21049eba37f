"""Standard errors of variance parameters where they are nearly normal: log sd and atanh cor.

From the observed information in (theta, log s2) by the delta method (Pinheiro and Bates 2000,
sec. 2.4.3). At a boundary there are none: NaN.
"""

from functools import cached_property

import numpy as np

from sklme._engine.constrained import Linear, Search
from sklme._engine.lmm import LinearFit
from sklme._engine.profile import triangle
from sklme._engine.simulate import kept_gram

BOUNDARY = 1e-6  # relative variance of a coefficient given the others that counts as zero


class VarianceErrors:
    """Standard errors of the variance parameters of one output of a fit."""

    def __init__(self, fit: LinearFit, r: int):
        self.fit, self.Lambdas = fit, [L[r] for L in fit.Lambdas]
        pairs = zip(self.Lambdas, fit.structures, strict=True)
        charts = [triangle(L, structure, ()) for L, structure in pairs]
        self.chart = Linear([basis for basis, _ in charts])
        self.theta = np.concatenate([np.zeros(0), *(theta for _, theta in charts)])[None]
        self.statistics = kept_gram(fit, r)

    def log_sigma(self) -> float:
        """Of log sigma."""
        return self._error(np.zeros(self.theta.size), 0.5)

    def log_sd(self, t: int, a: int) -> float:
        """Of the log of a standard deviation."""
        L, dL = self._rows(t, a)
        size = L @ L
        if size <= BOUNDARY**2:
            return np.nan
        return self._error(self._placed(t, dL @ L / size), 0.5)

    def atanh_correlation(self, t: int, a: int, b: int) -> float:
        """Of Fisher's z of a correlation."""
        (L, dL), (M, dM) = self._rows(t, a), self._rows(t, b)
        size, other, product = L @ L, M @ M, L @ M
        left = size * other - product**2
        if left <= BOUNDARY * size * other:
            return np.nan
        change = dL @ (M - product / size * L) + dM @ (L - product / other * M)
        return self._error(self._placed(t, change * np.sqrt(size * other) / left), 0.0)

    @cached_property
    def _covariance(self) -> np.ndarray:
        """Of (theta, log s2): the inverse information; NaN where it is not an information."""
        n = self.theta.size
        if not n:
            nu = self.statistics.total - len(self.statistics.xx) * self.fit.reml
            return np.full((1, 1), 2.0 / nu)
        search = Search(self.statistics, self.chart, self.theta, self.fit.reml)
        information = search.information(self.theta)
        scale = 1.0 / np.sqrt(np.abs(information.diagonal()) + 1e-300)
        w, U = np.linalg.eigh(information * scale * scale[:, None])
        if w[0] < -1e-6:
            return np.full_like(information, np.nan)
        inverse = (U * np.where(w > 1e-9, 1.0 / np.maximum(w, 1e-9), 0.0)) @ U.T
        return inverse * scale * scale[:, None]

    def _rows(self, t: int, a: int) -> tuple[np.ndarray, np.ndarray]:
        """Row a of Lambda in the columns of the data, and its derivatives (m, k)."""
        T = self.fit.frame.z_maps[t]
        row = T[a] / T[a, a]
        return row @ self.Lambdas[t], np.einsum("b,mbc->mc", row, self.chart.bases[t])

    def _placed(self, t: int, own: np.ndarray) -> np.ndarray:
        out = np.zeros(self.theta.size)
        out[self.chart.slices[t]] = own
        return out

    def _error(self, of_theta: np.ndarray, of_log_s2: float) -> float:
        g = np.append(of_theta, of_log_s2)
        variance = g @ self._covariance @ g
        return float(np.sqrt(variance)) if variance > 0 else np.nan
