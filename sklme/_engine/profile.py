"""The likelihood profiled over all parameters but one, from the cross-products of a fit.

d(theta, s2) = log |V| + N log(2 pi s2) + rss / s2 is -2 log-likelihood of ML with beta at its
optimum. A curve holds one parameter at a value and minimises d over the others:

- a linear function of beta: least squares with the function held, in columns turned so that they
  do not move it;
- sigma: over theta at that s2;
- the standard deviation of coefficient a: with a first in the triangle, Lambda_a = (theta_1, 0, ..)
  and s2 = sd^2 / theta_1^2;
- the correlation c of a and b: with these two first, Lambda_b = r (c, sqrt(1 - c^2), 0, ..).

Values are in units of the frame's y and of the data's columns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sklme._engine.constrained import LOG_2_PI, Linear, Search
from sklme._engine.covariance import Structure, canonical
from sklme._engine.gram import Cross, FactorGram, Gram
from sklme._engine.lmm import LinearFit
from sklme._engine.simulate import kept_gram, outputs, refit

CLOSE = 1e-7  # of the root of the deviance at the end of an interval
MOST_STEPS = 60
HIGHEST = 1e4  # a rise that is as good as infinite


@dataclass(frozen=True)
class Curve:
    """The deviance profiled on one parameter.

    rise : values (n,) -> deviance above its minimum
    step : about a standard error; limits : the least and the greatest value that exist
    """

    rise: Callable[[np.ndarray], np.ndarray]
    estimate: float
    step: float
    limits: tuple[float, float] = (-np.inf, np.inf)

    def end(self, height: float, side: int) -> float:
        """Where the deviance has risen by `height` below (-1) or above (1) the estimate."""
        limit = self.limits[side > 0]
        if np.isfinite(limit):
            at_limit = side * (limit - self.estimate) <= 0
            if at_limit or self.rise(np.array([limit]))[0] <= height:
                return limit
        start, step = np.array([self.estimate]), np.array([side * self.step])
        return float(find_ends(self.rise, start, step, height, limit)[0])


def find_ends(rise, estimate: np.ndarray, step: np.ndarray, height: float, limit: float = np.inf):
    """Where the deviances of several problems have risen by `height` in the direction of `step`.

    The root of the rise is almost linear in the value: it is followed outwards until it passes that
    of `height`, then closed in on by false position with halving (Dowell and Jarratt 1971). NaN
    where it never passes.
    """
    target = np.sqrt(height)
    low, z_low, high, z_high = _outwards(rise, estimate, step, target, limit)
    last = np.zeros(len(low))
    value = high
    for _ in range(MOST_STEPS):
        value = (low * z_high - high * z_low) / (z_high - z_low)
        z = _root(rise, value) - target
        if not np.any(np.abs(z) > CLOSE):
            break
        beyond = z >= 0
        low, high = np.where(beyond, low, value), np.where(beyond, value, high)
        kept_low = np.where(last > 0, 0.5 * z_low, z_low)
        kept_high = np.where(last < 0, 0.5 * z_high, z_high)
        z_low, z_high = np.where(beyond, kept_low, z), np.where(beyond, z, kept_high)
        last = np.where(beyond, 1.0, -1.0)
    return value


def _outwards(rise, estimate, step, target: float, limit: float):
    """Values on both sides of each end, and their roots less the target."""
    low, z_low = estimate.astype(float), np.full(len(estimate), -target)
    most = np.abs(limit - estimate)
    away = np.minimum(target * np.abs(step), most)
    for _ in range(MOST_STEPS):
        high = estimate + np.sign(step) * away
        z_high = _root(rise, high) - target
        short = (z_high < 0) & (away < most)
        if not short.any():
            break
        low, z_low = np.where(short, high, low), np.where(short, z_high, z_low)
        share = (z_high + target) / target
        growth = np.clip(1.2 / np.maximum(share, 1e-3), 1.3, 4.0)
        away = np.where(short, np.minimum(away * growth, most), away)
    return low, z_low, np.where(z_high >= 0, high, np.nan), z_high


def _root(rise, value: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(rise(value), 0.0, HIGHEST))


def held(statistics: Gram, c: np.ndarray, values: np.ndarray) -> Gram:
    """The statistics of y - X beta with c'beta held at a value for each output.

    beta = c v / c'c + N gamma, where the columns of N are orthogonal to c; gamma is left.
    """
    Q = np.linalg.qr(np.column_stack([c, np.eye(len(c))]))[0]
    N, d = Q[:, 1 : len(c)], c / (c @ c)
    along = statistics.xx @ d
    xy = N.T @ (statistics.xy - along[:, None] * values)
    yy = statistics.yy - 2.0 * values * (d @ statistics.xy) + values**2 * (d @ along)
    factors = []
    for f in statistics.factors:
        moved = np.einsum("apg,p->ag", f.zx, d)
        zx = np.einsum("apg,pr->arg", f.zx, N)
        factors.append(FactorGram(f.zz, zx, f.zy - moved[:, None] * values[:, None]))
    return replace(statistics, xx=N.T @ statistics.xx @ N, xy=xy, yy=yy, factors=tuple(factors))


def deviance_at(statistics: Gram, structures, c: np.ndarray, values: np.ndarray) -> np.ndarray:
    """ML criterion of every output with c'beta held at its value, up to a constant."""
    return refit(held(statistics, c, values), structures, reml=False).criterion


def turned(statistics: Gram, t: int, R: np.ndarray) -> Gram:
    """The statistics with Z_t R in the place of Z_t."""
    factors = list(statistics.factors)
    f = factors[t]
    zz = np.einsum("ab,acg,cd->bdg", R, f.zz, R)
    factors[t] = FactorGram(
        zz, np.einsum("ab,apg->bpg", R, f.zx), np.einsum("ab,arg->brg", R, f.zy)
    )
    cross = {}
    for (s, u), c in statistics.cross.items():
        data = np.einsum("ab,acn->bcn", R, c.data) if s == t else c.data
        data = np.einsum("acn,cd->adn", data, R) if u == t else data
        cross[s, u] = Cross(c.rows, c.columns, data)
    return replace(statistics, factors=tuple(factors), cross=cross)


@dataclass(frozen=True)
class _Place:
    """Coordinates of one factor in which rows of Lambda belong to coefficients of the data.

    The frame centres slopes, which changes what the intercept means; that is undone where it
    matters. units : what a coefficient's standard deviation is multiplied with.
    """

    statistics: Gram
    Lambda: np.ndarray
    structure: Structure
    units: np.ndarray


class Profiler:
    """The curves of one output of a fit, around its ML estimate."""

    def __init__(self, fit: LinearFit, r: int):
        self.fit, self.gram = fit, kept_gram(fit, r)
        self.best = refit(self.gram, fit.structures, reml=False)
        self.Lambdas = [L[0] for L in self.best.Lambdas]
        self.sigma_hat = float(np.sqrt(self.best.s2[0]))
        self.minimum = self._deviance(self.best.criterion)[0]

    def _deviance(self, criterion: np.ndarray) -> np.ndarray:
        """-2 log-likelihood in the frame from what `refit` gives."""
        return criterion + self.gram.total * (1.0 + LOG_2_PI)

    def fixed(self, c: np.ndarray) -> Curve:
        """The curve of c'beta."""

        def rise(values: np.ndarray) -> np.ndarray:
            repeated = outputs(self.gram, np.zeros(len(values), int))
            values = deviance_at(repeated, self.fit.structures, c, values)
            return self._deviance(values) - self.minimum

        error = self.sigma_hat * np.sqrt(c @ np.linalg.solve(self.best.xvx[0], c))
        return Curve(rise, float(c @ self.best.beta[0]), float(error))

    def sigma(self) -> Curve:
        """The curve of the residual standard deviation."""
        s, total = self.sigma_hat, self.gram.total
        step, limits = s / np.sqrt(2.0 * total), (0.0, np.inf)
        pairs = zip(self.Lambdas, self.fit.structures, strict=True)
        charts = [triangle(L, structure, ()) for L, structure in pairs]
        if not sum(len(basis) for basis, _ in charts):

            def alone(values: np.ndarray) -> np.ndarray:
                with np.errstate(divide="ignore", invalid="ignore"):
                    d = total * ((s / values) ** 2 - 1.0 + 2.0 * np.log(values / s))
                return np.where(values > 0.0, d, np.inf)

            return Curve(alone, s, step, limits)
        start = np.concatenate([theta for _, theta in charts])[None]
        search = Search(self.gram, Linear([basis for basis, _ in charts]), start)
        at = np.vectorize(search.at_sigma, otypes=[float])
        return Curve(lambda values: at(values) - self.minimum, s, step, limits)

    def sd(self, t: int, a: int) -> Curve | None:
        """The curve of the standard deviation of coefficient a of factor t; None without one."""
        if not _is_free(self.fit.structures[t], a):
            return None
        place = self._place(t, (a,))
        basis, theta = triangle(place.Lambda, place.structure, (a,))
        chart, start, first = self._chart(t, basis, theta)
        search, unit = Search(place.statistics, chart, start), place.units[a]
        without = self._minimum_without(t, a, place)

        def rise(values: np.ndarray) -> np.ndarray:
            at = [
                search.at_sd(v, first, self.sigma_hat) if v > 0 else without for v in values / unit
            ]
            return np.array(at) - self.minimum

        sd = float(np.linalg.norm(place.Lambda[a])) * self.sigma_hat
        own = place.statistics.factors[t].zz[a, a].mean()
        step = 0.3 * max(sd, self.sigma_hat / np.sqrt(own))
        return Curve(rise, sd * unit, step * unit, (0.0, np.inf))

    def correlation(self, t: int, a: int, b: int) -> Curve | None:
        """The curve of the correlation of a and b; None where a variance is not in the model."""
        structure = self.fit.structures[t]
        if not any(a in block and b in block for block in structure.blocks):
            return None
        place = self._place(t, (a, b))
        G, limits = place.Lambda @ place.Lambda.T, (-1.0, 1.0)
        if G[a, a] * G[b, b] <= 0.0:
            return Curve(lambda values: np.zeros(len(values)), 0.0, 0.3, limits)
        basis, theta = triangle(place.Lambda, structure, (a, b))
        estimate = float(np.clip(G[a, b] / np.sqrt(G[a, a] * G[b, b]), -1.0, 1.0))
        theta = np.concatenate([[theta[0], np.hypot(theta[1], theta[2])], theta[3:]])

        def chart(c: float):
            both = c * basis[1] + np.sqrt(max(1.0 - c * c, 0.0)) * basis[2]
            return self._chart(t, np.concatenate([basis[:1], both[None], basis[3:]]), theta)

        first, start, at = chart(estimate)
        search = Search(place.statistics, first, start)

        def rise(values: np.ndarray) -> np.ndarray:
            squared = np.array([at, at + 1])
            return (
                np.array([search.profiled(chart(c)[0], c, squared) for c in values]) - self.minimum
            )

        return Curve(rise, estimate, 0.3, limits)

    def _place(self, t: int, members: tuple[int, ...]) -> _Place:
        structure, T = self.fit.structures[t], self.fit.frame.z_maps[t]
        units, own = T.diagonal(), T / T.diagonal()[:, None]
        if not any(np.count_nonzero(own[i]) > 1 for i in members):
            return _Place(self.gram, self.Lambdas[t], structure, units)
        statistics = turned(self.gram, t, np.linalg.inv(own))
        return _Place(statistics, own @ self.Lambdas[t], structure, units)

    def _chart(self, t: int, basis: np.ndarray, theta: np.ndarray):
        """The chart of all factors with that of t replaced, a start, and where t begins in it."""
        pairs = enumerate(zip(self.Lambdas, self.fit.structures, strict=True))
        charts = [(basis, theta) if s == t else triangle(L, f, ()) for s, (L, f) in pairs]
        start = np.concatenate([theta for _, theta in charts])[None]
        chart = Linear([basis for basis, _ in charts])
        return chart, start, chart.slices[t].start

    def _minimum_without(self, t: int, a: int, place: _Place) -> float:
        """The deviance with the variance of coefficient a at zero."""
        whole = place.structure.spherical
        gone = place.structure.without(range(place.structure.k) if whole else (a,))
        pairs = enumerate(self.fit.structures)
        structures = tuple(gone if s == t else f for s, f in pairs)
        return self._deviance(refit(place.statistics, structures, reml=False).criterion)[0]


def _is_free(structure: Structure, a: int) -> bool:
    return any(a in block for block in structure.blocks)


def triangle(Lambda: np.ndarray, structure: Structure, members: tuple[int, ...]):
    """The basis and theta of Lambda with the members first in their block and in the basis.

    The others follow by falling variance, which keeps the search out of valleys (see `Charts`).
    """
    if structure.spherical:
        return structure.basis, structure.theta(Lambda)
    size = (Lambda**2).sum(axis=1)
    entries, theta = [], []
    for block in sorted(structure.blocks, key=lambda block: not set(members) & set(block)):
        rest = sorted((i for i in block if i not in members), key=lambda i: -size[i])
        order = [i for i in members if i in block] + rest
        L = canonical(Lambda[order][:, list(block)])
        for i, row in enumerate(order):
            for j in range(i + 1):
                E = np.zeros_like(Lambda)
                E[row, block[j]] = 1.0
                entries.append(E)
                theta.append(L[i, j])
    return np.array(entries).reshape(-1, *Lambda.shape), np.array(theta)
