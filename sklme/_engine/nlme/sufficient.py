"""What the maximisation step of SAEM needs of the draws, and the step itself.

Given the effects, the coefficients in their mean, Omega and the variance of an additive or
proportional error have their maximum in closed form, a function of sums over the draws. For other
errors the step is one of Newton with the slope at the current draws, whose expectation is zero at
the maximum of the likelihood (Robbins and Monro 1951, "A stochastic approximation method", Annals
of Mathematical Statistics 22(3)). Such a step is made for all coefficients together, too, with
eta = z - A beta held, which is quick where the closed form is slow. The two ways of holding the
effects alternate as in Meng and van Dyk (1997, "The EM algorithm: an old folk-song sung to a fast
new tune", JRSS B 59(3)).
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from sklme._engine.nlme.centred import Centred
from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import Coordinates, jacobian
from sklme._engine.nlme.errors import LEAST, slopes, variance
from sklme._engine.nlme.kinds import KINDS, names
from sklme._engine.nlme.markov import Chains
from sklme._engine.nlme.parameters import Parameters, Search
from sklme._engine.nlme.point import Point
from sklme._engine.nlme.starts import longest_steps

RIDGE = 1e-6  # of its diagonal that is added to an information
DEFINITE = 1e-9  # of its diagonal that is added to Omega, which may come close to singular


@dataclass(frozen=True)
class Moments:
    """Averages over the chains.

    first (N, Q), second (Q, Q) : of z less its mean at the start, and of the sum of its squares
    squares (endpoints,) : sums of squared errors relative to f, or not
    by_sigma, sigma_information, by_beta, beta_information : slopes of -2 log density of the rows by
        log sigma and by the coefficients at fixed eta, and expected second derivatives
    """

    first: np.ndarray
    second: np.ndarray
    squares: np.ndarray
    by_sigma: np.ndarray
    sigma_information: np.ndarray
    by_beta: np.ndarray
    beta_information: np.ndarray

    def toward(self, new: "Moments", gain: float) -> "Moments":
        """Closer to `new` by a share."""
        pairs = ((getattr(self, f.name), getattr(new, f.name)) for f in fields(self))
        return Moments(*(old + gain * (fresh - old) for old, fresh in pairs))


class Step:
    """The maximisation step of a record.

    smooth : whether f may be differentiated; if not, only the coefficients in the offset are
        stepped
    """

    def __init__(self, model: Centred, *, smooth: bool = True):
        self.model, self.data, self.search = model, model.data, model.search
        self.stepped = model.search.free_beta if smooth else model.numeric
        self.along = _directions(model, self.stepped)
        self.longest = _longest(model, self.stepped)
        self.closed = [len(KINDS[kind]) == 1 for kind in self.data.errors]
        newton = [not self.closed[e] for e, _ in names(self.data.errors)]
        self.newton = np.array(newton) & self.search.free_sigma
        self.rows = [self.data.mask & self._of(e) for e in range(len(self.closed))]
        start = self.search.start
        self.scale = Point(self.data, start).scale
        self.reference = model.mean(start)

    def measure(self, chains: Chains) -> Moments:
        """The moments of the current draws."""
        parameters, z = chains.target.parameters, chains.z - self.reference
        second = np.tensordot(z, z, ((0, 1), (0, 1))) / len(z)
        at = variance(self.data, parameters.sigma, chains.f, None, True)
        e = _errors(self.data, chains.f, at.R, chains.rng)
        sigma = self._sigma_slopes(e, at.R, at.s[self.newton]) if self.newton.any() else _none()
        beta = self._beta_slopes(chains) if self.along is not None else _none()
        return Moments(z.mean(axis=0), second, self._squares(e, chains.f), *sigma, *beta)

    def improve(
        self, parameters: Parameters, moments: Moments, fresh: Moments, gain: float
    ) -> Parameters:
        """Closed forms at `moments`; where there are none, a share of the step at `fresh`.

        The coefficients in the offset are left to `shift`.
        """
        beta = self._means(parameters, moments)
        Omega = self._covariance(replace(parameters, beta=beta), moments)
        sigma = self._deviations(parameters, moments)
        if self.newton.any():
            step = _newton(fresh.by_sigma, moments.sigma_information)
            sigma[self.newton] *= np.exp(np.clip(gain * step, -0.5, 0.5))
        return Parameters(beta, Omega, sigma)

    def shift(
        self, parameters: Parameters, moments: Moments, fresh: Moments, gain: float
    ) -> tuple[Parameters, Moments, np.ndarray]:
        """A share of a step of all coefficients at fixed eta, which moves z by the last value."""
        step = np.zeros_like(parameters.beta)
        newton = gain * _newton(fresh.by_beta, moments.beta_information)
        step[self.stepped] = np.clip(newton, -self.longest, self.longest)
        by = self.model.A @ step[self.model.shifts]
        cross = moments.first.T @ by
        second = moments.second + cross + cross.T + by.T @ by
        moved = replace(moments, first=moments.first + by, second=second)
        return replace(parameters, beta=parameters.beta + step), moved, by

    def standard_errors(self, parameters: Parameters, moments: Moments) -> np.ndarray:
        """Of theta, as if the effects were observed."""
        search, N = self.search, self.data.n_subjects
        beta = self._errors_of_beta(parameters, moments)
        sigma = self._errors_of_sigma(moments)
        copies = {k: len(b.places) for b in search.pattern.blocks for k in b.places[0]}
        out = []
        for kind, *at in search.labels:
            if kind in ("beta", "sigma"):
                out.append((beta if kind == "beta" else sigma)[at[0]])
                continue
            size = np.sqrt(0.5 / N / copies[at[0]])
            if kind == "factor":  # in units of the standard deviation at the start
                k = at[0]
                size *= np.sqrt(2.0 * parameters.Omega[k, k] / search.start.Omega[k, k])
            out.append(size)
        return np.array(out)

    def _errors_of_beta(self, parameters: Parameters, moments: Moments) -> np.ndarray:
        out, A = np.zeros(len(parameters.beta)), self.model.A
        if A.shape[-1]:
            weighted = A.swapaxes(1, 2) @ np.linalg.inv(self.model.Omega(parameters))
            out[self.model.shifts] = _errors_from((weighted @ A).sum(axis=0))
        if self.along is not None:
            errors = _errors_from(0.5 * moments.beta_information)
            out[self.stepped] = np.maximum(out[self.stepped], errors)
        return out

    def _errors_of_sigma(self, moments: Moments) -> np.ndarray:
        counts = np.array([max(int(rows.sum()), 1) for rows in self.rows])
        out = np.sqrt(0.5 / counts[[e for e, _ in names(self.data.errors)]])
        out[self.newton] = _errors_from(0.5 * moments.sigma_information)
        return out

    def _of(self, endpoint: int) -> np.ndarray | bool:
        return True if self.data.endpoint is None else self.data.endpoint == endpoint

    def _squares(self, e: np.ndarray, f: np.ndarray) -> np.ndarray:
        squared = e * e
        out = np.zeros(len(self.closed))
        for k, kind in enumerate(self.data.errors):
            if self.closed[k]:
                relative = kind == "proportional"
                total = squared / np.maximum(f * f, LEAST) if relative else squared
                out[k] = (total * self.rows[k]).sum() / len(e)
        return out

    def _sigma_slopes(self, e, R: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rate = (s / R * self.data.mask).reshape(len(s), -1)
        slope = rate @ (1.0 - e * e / R).ravel()
        return slope / len(e), rate @ rate.T / len(e)

    def _beta_slopes(self, chains: Chains) -> tuple[np.ndarray, np.ndarray]:
        assert self.along is not None
        data, target = self.data, chains.target
        phi = self.model.phi(target.offset, chains.z)
        with np.errstate(all="ignore"):
            f, first = jacobian(data, self.along, phi, self.scale)
            at = variance(data, target.parameters.sigma, f)
            _, slope, _, weight = slopes(data, f, at)
        rows = first @ self.along.C[:, 0] if self.along.C.shape[1] == 1 else _by_row(first, self)
        rows = rows.reshape(-1, rows.shape[-1])
        information = 2.0 * rows.T @ (weight.reshape(-1, 1) * rows)
        return slope.ravel() @ rows / len(f), information / len(f)

    def _means(self, parameters: Parameters, moments: Moments) -> np.ndarray:
        """Generalised least squares of the mean of z on its coefficients."""
        beta, A = parameters.beta.copy(), self.model.A
        if A.shape[-1]:
            weighted = A.swapaxes(1, 2) @ np.linalg.inv(self.model.Omega(parameters))
            left = (weighted @ A).sum(axis=0)
            mean = moments.first + self.reference
            right = (weighted @ mean[:, :, None]).sum(axis=0)[:, 0]
            beta[self.model.shifts] = np.linalg.solve(left, right)
        return beta

    def _covariance(self, parameters: Parameters, moments: Moments) -> np.ndarray:
        mean, active = self.model.mean(parameters) - self.reference, self.model.active
        cross = moments.first.T @ mean
        Omega = np.zeros_like(parameters.Omega)
        found = (moments.second - cross - cross.T + mean.T @ mean) / len(mean)
        Omega[np.ix_(active, active)] = found + DEFINITE * np.diag(np.diag(found))
        return keep_frozen(self.search, self.search.pattern.impose(Omega))

    def _deviations(self, parameters: Parameters, moments: Moments) -> np.ndarray:
        sigma = parameters.sigma.copy()
        for k, (e, _) in enumerate(names(self.data.errors)):
            if self.closed[e] and self.search.free_sigma[k]:
                n = max(int(self.rows[e].sum()), 1)
                sigma[k] = np.sqrt(max(moments.squares[e] / n, LEAST))
        return sigma


def keep_frozen(search: Search, Omega: np.ndarray) -> np.ndarray:
    """Omega with the blocks that are not searched as they started."""
    for block in search.pattern.blocks:
        if block.frozen:
            for place in block.places:
                Omega[np.ix_(place, place)] = search.start.Omega[np.ix_(place, place)]
    return Omega


def _errors(data: Data, f: np.ndarray, R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """y - f, with y drawn from below the limit where it is censored.

    Samson, Lavielle and Mentre (2006, "Extension of the SAEM algorithm to left-censored data in
    nonlinear mixed-effects model", Computational Statistics & Data Analysis 51(3)).
    """
    e = np.where(data.mask, data.response - f, 0.0)
    if data.censored is None or not data.censored.any():
        return e
    size = np.sqrt(R)
    below = log_ndtr(e / size) - rng.standard_exponential(e.shape)
    return np.where(data.censored & data.mask, size * ndtri_exp(below), e)


def _directions(model: Centred, stepped: np.ndarray) -> Coordinates | None:
    """The directions of phi that the coefficients move."""
    C = model.data.C[..., stepped]
    if not stepped.any():
        return None
    if model.data.local:
        chosen = (C != 0).any(axis=(0, 1, 3))
        T = np.eye(len(chosen))[None, None][..., chosen]
        return Coordinates(T, C[:, :, chosen, :0], C[:, :, chosen], 0)
    P = C.shape[-1]
    return Coordinates(C, np.zeros((1, 1, P, 0)), np.eye(P)[None, None], 0)


def _by_row(first: np.ndarray, step: Step) -> np.ndarray:
    assert step.along is not None
    return np.einsum("...iju,ijup->...ijp", first, step.along.C)


def _longest(model: Centred, stepped: np.ndarray) -> np.ndarray:
    """How far one step moves the coefficients."""
    reach = longest_steps(model.data, model.search)
    by_beta = dict(zip(model.search.labels, reach, strict=True))
    return np.array([by_beta["beta", int(k)] for k in np.flatnonzero(stepped)])


def _errors_from(information: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.maximum(np.diag(information), LEAST))
    scaled = information / np.outer(size, size) + RIDGE * np.eye(len(size))
    return np.sqrt(np.diag(np.linalg.inv(scaled))) / size


def _newton(slope: np.ndarray, information: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.maximum(np.diag(information), LEAST))
    scaled = information / np.outer(size, size) + RIDGE * np.eye(len(size))
    return -np.linalg.solve(scaled, slope / size) / size


def _none() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0), np.zeros((0, 0))
