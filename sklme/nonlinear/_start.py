"""Where the search starts: typical values by least squares over all rows, then the variances.

Values that the user gives are kept. For the others many values are tried over several orders of
magnitude, also in the units of x and y, and the best of them are improved by least squares.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.derivatives import natural
from sklme._engine.nlme.parameters import Parameters
from sklme.nonlinear._least_squares import minimize_squares, sum_squares
from sklme.nonlinear.parameters import to_unbounded

TRIED = 1000  # values that are tried for each unknown, at most 4 of them
IMPROVED = 12  # of the best, by least squares
TIED, APART = 1.02, 0.05  # starts as good as the best, that differ by a share from one another
MOST_STARTS = 3  # of these
MOST_ROWS = 3000  # that the search looks at
FEW_ROWS = 500  # that are enough to tell which of many values are worth an improvement
SPREAD = 0.3  # standard deviation of effects on the log or logit scale
STEP = 1e-6  # of a difference
LONGEST = 1.0  # step of least squares on the log or logit scale
EXACT = 1e-10  # residuals below this share of y are no residuals
LEAST = 1e-8  # the residual error of an exact fit, as a share of y


@dataclass(frozen=True)
class Start:
    """Parameters to start from.

    exact : the structure meets every y
    unidentified : no group has two rows, so that random effects cannot be told from residual error
    others : further beta that are about as good
    """

    beta: np.ndarray
    between: np.ndarray
    within: np.ndarray
    sigma: np.ndarray
    exact: bool
    unidentified: bool
    others: tuple = ()

    def parameters(self, n_occasions):
        """As the engine takes them."""
        return assemble(
            self.beta, np.diag(self.between), np.diag(self.within), self.sigma, n_occasions
        )


def assemble(beta, between, within, sigma, n_occasions):
    """Parameters with Omega of the group's effects and of those of each occasion."""
    E, K = len(between), len(within)
    Omega = np.zeros((E + n_occasions * K,) * 2)
    Omega[:E, :E] = between
    for r in range(n_occasions):
        at = slice(E + r * K, E + (r + 1) * K)
        Omega[at, at] = within
    return Parameters(np.asarray(beta, float), Omega, np.asarray(sigma, float))


def find_start(layout, design, y, rng):
    """Typical values, variances and residual error to start from."""
    fitter = _Pooled(layout, design, y)
    beta, *others = fitter.search(rng)
    f, first = fitter.derivatives(beta)
    between = _variances(layout, layout.random, beta, f, first, fitter)
    within = _variances(layout, layout.varying, beta, f, first, fitter) / 4.0
    size = np.sqrt(np.mean(fitter.y**2)) or 1.0
    rms = np.sqrt(np.mean((fitter.y - f) ** 2))
    unidentified = bool(layout.random or layout.varying) and design.groups.mask.shape[1] == 1
    exact = bool(rms <= EXACT * size)
    if unidentified or exact:
        between, within = 0.0 * between, 0.0 * within
    sigma = _sigma(layout.error, fitter, f, size)
    return Start(beta, between, within, sigma, exact, unidentified, tuple(others))


class _Pooled:
    """Least squares over some rows of a design, on the log scale where the error is."""

    def __init__(self, layout, design, y, most_rows=MOST_ROWS):
        self.layout, self.design, self.every_y = layout, design, y
        self.on_log = layout.error == "lognormal"
        self.mask = design.groups.mask
        self.some = self._subjects(most_rows)
        self.seen = self.mask[self.some]
        padded = y[design.groups.index[self.some]][self.seen]
        self.y = np.log(padded) if self.on_log else padded
        self.weights = self._weights()
        self.given = np.array([e.initial is not None for e in layout.effects])
        self.base = np.array(
            [
                self._unbounded(k, e) if e.initial is not None else 0.0
                for k, e in enumerate(layout.effects)
            ]
        )

    def _subjects(self, most_rows):
        """Subjects from all over the table, with about as many rows as are looked at."""
        sizes = self.mask.sum(axis=1)
        n = max(1, int(len(sizes) * min(1.0, most_rows / sizes.sum())))
        return np.unique(np.linspace(0, len(sizes) - 1, n).astype(int))

    def _unbounded(self, k, effect):
        if k >= len(self.layout.parameters):
            return effect.initial
        transform = list(self.layout.parameters.values())[k].transform
        return float(to_unbounded(effect.initial, transform))

    def predict(self, beta):
        """f of each row (..., rows) at beta (..., P)."""
        C = self.design.C[self.some]
        phi = np.einsum("ijqp,...p->...ijq", C, beta)
        f = self._structure(phi)[..., self.seen]
        return np.log(np.where(f > 0, f, np.nan)) if self.on_log else f

    def _structure(self, phi):
        from_phi = self.design.natural_of(phi)
        return self.design.structure(from_phi, self.some)

    def derivatives(self, beta):
        """f and its derivatives (rows, q) by the parameters on the unbounded scale."""
        C, step = self.design.C[self.some], 1e-5
        phi = np.einsum("ijqp,p->ijq", C, beta)
        first = []
        for k in range(phi.shape[-1]):
            size = step * max(1.0, float(np.abs(phi[..., k]).max()))
            move = np.zeros(phi.shape[-1])
            move[k] = size
            with np.errstate(all="ignore"):
                ends = self._structure(phi + move) - self._structure(phi - move)
            first.append(ends[self.seen] / (2.0 * size))
        with np.errstate(all="ignore"):
            return self.predict(beta), np.nan_to_num(np.array(first).T)

    def search(self, rng):
        """The typical values, possibly several that are as good."""
        if self.given.all():
            return [self.base]
        start = getattr(self.design.structure, "start", None)
        if start is not None:
            return [self._ready(start(self.every_y[self.design.groups.index], self.mask))]
        tried = self._tried(rng)
        quick = _Pooled(self.layout, self.design, self.every_y, FEW_ROWS)
        parts = np.array_split(tried, max(1, len(tried) // 200))
        loss = np.concatenate([sum_squares(quick.residuals(part)) for part in parts])
        order = np.argsort(loss)[:IMPROVED]
        ends = self._improve(tried[order[np.isfinite(loss[order])]])
        if not ends:
            names = ", ".join(
                repr(e.name)
                for e, given in zip(self.layout.effects, self.given, strict=True)
                if not given
            )
            raise ValueError(
                f"no initial values were found for {names}: give them, Parameter(initial=...)"
            )
        return self._choose(ends)

    def _choose(self, ends):
        """The best end and others that are about as good, if possible all as the structure has it.

        Two rates, for instance, can often be exchanged without a change of the curve.
        """
        best = min(end[0] for end in ends)
        good = [beta for cost, beta in sorted(ends, key=lambda end: end[0]) if cost <= TIED * best]
        is_usual = getattr(self.layout.specification, "is_usual", lambda psi: True)
        q = len(self.layout.parameters)
        usual = [beta for beta in good if is_usual(self.design.natural_of(beta[:q]))]
        return _distinct(usual or good)

    def _ready(self, psi):
        """The structure's own start, with what the user gave."""
        beta = self.base.copy()
        free = np.flatnonzero(~self.given)
        transforms = [p.transform for p in self.layout.parameters.values()]
        for k in free:
            beta[k] = to_unbounded(psi[k], transforms[k])
        return beta

    def _weights(self):
        """1, or about 1 / y where the error is relative."""
        size = np.abs(self.y)
        floor = 0.05 * size.max(initial=0.0)
        relative = self.layout.error == "proportional" and floor > 0
        return 1.0 / np.maximum(size, floor) if relative else 1.0

    def residuals(self, beta):
        """Weighted residuals (..., rows) at beta (..., P)."""
        with np.errstate(all="ignore"):
            return (self.predict(beta) - self.y) * self.weights

    def _improve(self, tried):
        """[(sum of squares, beta)] where searches from each beta (k, P) end."""
        free = np.flatnonzero(~self.given)

        def whole(x):
            beta = np.tile(self.base, (len(x), 1))
            beta[:, free] = x
            return beta

        def derive(x):
            r, slopes = self._slopes(whole(x), free)
            return r, slopes * np.reshape(self.weights, (-1, 1))

        parameters = list(self.layout.parameters.values())
        bounded = [k < len(parameters) and parameters[k].transform != "identity" for k in free]
        longest = np.where(bounded, LONGEST, np.inf)
        residuals = lambda x: self.residuals(whole(x))
        x, loss = minimize_squares(residuals, derive, tried[:, free], longest)
        return [end for end in zip(loss, whole(x), strict=True) if np.isfinite(end[0])]

    def _slopes(self, beta, free):
        """Residuals and the derivatives of predictions (k, rows, free) at beta (k, P)."""
        C, structure = self.design.C[self.some], self.design.structure
        if C.shape[1] == 1 and hasattr(structure, "jacobian"):
            phi = np.einsum("ijqp,kp->kijq", C, beta)
            with np.errstate(all="ignore"):
                psi, turn = natural(phi, self.layout.links)
                f, by_psi = structure.jacobian(psi, self.some)
                f, by_phi = f[:, self.seen], (by_psi * turn)[:, self.seen]
                by_row = C[np.nonzero(self.seen)[0], 0][..., free]
                slopes = (by_phi[:, :, None] @ by_row)[:, :, 0]
                if self.on_log:
                    f, slopes = np.log(np.where(f > 0, f, np.nan)), slopes / f[..., None]
                return (f - self.y) * self.weights, slopes
        size = STEP * np.maximum(1.0, np.abs(beta[:, free]))
        move = size[:, :, None] * np.eye(beta.shape[1])[free]
        with np.errstate(all="ignore"):
            ends = [self.predict(beta[:, None] + sign * move) for sign in (1.0, -1.0)]
            slopes = (ends[0] - ends[1]) / (2.0 * size[:, :, None])
        return self.residuals(beta), slopes.swapaxes(1, 2)

    def _tried(self, rng):
        """Many values of beta, (n, P)."""
        free = np.flatnonzero(~self.given)
        n = TRIED * min(len(free), 4)
        tried = np.tile(self.base, (n, 1))
        scales = self._scales()
        for k in free:
            transform = list(self.layout.parameters.values())[k].transform
            tried[:, k] = _draw(transform, scales, n, rng)
        return tried

    def _scales(self):
        """Sizes that a parameter may have: 1, those of y and of the columns."""
        x = self.design.rows.columns
        sizes = [
            1.0,
            *np.abs(x).mean(axis=0),
            *np.abs(x).max(axis=0),
            np.abs(self.design.rows.y).max(),
        ]
        sizes = [s for s in sizes if np.isfinite(s) and s > 0]
        return np.array(sizes + [1.0 / s for s in sizes[1:]])


def _distinct(values):
    """Those that differ from all before."""
    kept = []
    for value in values:
        if all(np.abs(value - other).max() > APART * np.abs(other).max() for other in kept):
            kept.append(value)
    return kept[:MOST_STARTS]


def _draw(transform, scales, n, rng):
    """Values on the unbounded scale."""
    if transform == "logit":
        return rng.normal(0.0, 2.0, n)
    size = np.log(rng.choice(scales, n))
    size += np.where(rng.uniform(size=n) < 0.5, rng.normal(0.0, 0.7, n), rng.uniform(-5.0, 5.0, n))
    if transform == "log":
        return size
    return np.exp(size) * rng.choice([-1.0, 1.0, 1.0, 0.0], n)


def _variances(layout, which, beta, f, first, fitter):
    """Variances of the effects: moderate ones, and on the natural scale what residuals allow."""
    rms = float(np.sqrt(np.mean((fitter.y - f) ** 2)))
    parameters, out = list(layout.parameters.values()), []
    for k in which:
        sd = SPREAD
        if parameters[k].transform == "identity":
            slope = float(np.sqrt(np.mean(first[:, k] ** 2)))
            own = abs(float(beta[k])) or np.inf
            sd = min(SPREAD * own, rms / slope if slope > 0 else np.inf)
            sd = sd if np.isfinite(sd) and sd > 0 else 1.0
        out.append(sd**2)
    return np.array(out)


def _sigma(error, fitter, f, size):
    """Standard deviations of the residual error."""
    r = fitter.y - f
    additive = max(float(np.sqrt(np.mean(r * r))), LEAST * size)
    if fitter.on_log or error == "additive":
        return np.array([0.7 * additive if additive > LEAST * size else additive])
    level = max(float(np.sqrt(np.mean(f * f))), 1e-300)
    proportional = max(additive / level, LEAST)
    if error == "proportional":
        return np.array([max(proportional, 0.05)])
    return np.array([0.5 * additive, 0.5 * proportional])
