"""Metropolis moves of the effects of all subjects, in several chains at once.

The kernels of Kuhn and Lavielle (2005, "Maximum likelihood estimation in nonlinear mixed effects
models", Computational Statistics & Data Analysis 49(4)): proposals from the population, random
steps of one effect, and random steps of several effects. A step is as long as the draws of the
subject spread, times a factor that settles at a fixed rate of acceptance. A fourth kernel proposes
around the modes (Karimi, Lavielle and Moulines 2020, "f-SAEM: a fast stochastic approximation of
the EM algorithm for nonlinear mixed effects models", the same journal 141).
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.centred import Centred
from sklme._engine.nlme.derivatives import predict
from sklme._engine.nlme.errors import LEAST, Variance, coefficients, values
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.objective import Peak
from sklme._engine.nlme.parameters import Parameters

WANTED = 0.4  # the rate of acceptance that steps settle at
HASTE = 0.4  # how fast they do
MEMORY = 0.05  # the weight of the newest draws in the spread
WARY = 10  # sweeps that the first guess of the spread counts as
RIDGE = 0.05  # of its own diagonal that is added to the spread
DEGREES = 5.0  # of the t distribution around the modes


class Target:
    """The density of z given the rows, at fixed population parameters."""

    def __init__(self, model: Centred, parameters: Parameters):
        self.model, self.parameters = model, parameters
        self.offset, self.mean = model.offset(parameters), model.mean(parameters)
        self.L = np.linalg.cholesky(model.Omega(parameters))
        self.whiten = np.linalg.inv(self.L).T
        data = model.data
        c = coefficients(data.errors, parameters.sigma)[0]
        self.quadratic = c[0] if data.endpoint is None else np.moveaxis(c[data.endpoint], -1, 0)

    def predict(self, z: np.ndarray) -> np.ndarray:
        """f (chains, N, n)."""
        with np.errstate(all="ignore"):
            return predict(self.model.data, self.model.phi(self.offset, z))

    def loss(self, f: np.ndarray) -> np.ndarray:
        """-2 log density of the rows, (chains, N); infinite where it is no number."""
        data = self.model.data
        with np.errstate(all="ignore"):
            total = values(data, f, Variance(self._variance(f), 0.0, 0.0)).sum(axis=-1)
        return np.where(np.isfinite(total), total, np.inf)

    def _variance(self, f: np.ndarray) -> np.ndarray:
        """Of each row; of all alike where it does not move with f."""
        c0, c1, c2 = self.quadratic
        moves = np.any(c1) or np.any(c2)
        return np.maximum(c0 + f * (c1 + f * c2) if moves else c0 * np.ones((1, 1)), LEAST)

    def penalty(self, z: np.ndarray) -> np.ndarray:
        """-2 log density of z without constants, (chains, N)."""
        return (((z - self.mean) @ self.whiten) ** 2).sum(axis=-1)


class Spread:
    """Running mean (N, Q) and covariance (N, Q, Q) of the draws of each subject."""

    def __init__(self, center: np.ndarray, covariance: np.ndarray):
        self.center, self.covariance = center, covariance

    def update(self, z: np.ndarray, gain: float) -> None:
        """Give the draws z (chains, N, Q) the weight `gain`."""
        before = z - self.center
        self.center = self.center + gain * before.mean(axis=0)
        after = z - self.center
        new = np.einsum("cik,cil->ikl", before, after) / len(z)
        self.covariance = self.covariance + gain * (new - self.covariance)


class Around:
    """Proposals from a t distribution around a center (N, Q), whatever the draws are."""

    def __init__(self, center: np.ndarray, covariance: np.ndarray):
        self.center, self.root = center, np.linalg.cholesky(covariance)
        self.inverse = np.linalg.inv(self.root)

    def draw(self, n_chains: int, rng: np.random.Generator) -> np.ndarray:
        """z (chains, N, Q)."""
        w = rng.standard_normal((n_chains, *self.center.shape))
        w /= np.sqrt(rng.chisquare(DEGREES, (*w.shape[:2], 1)) / DEGREES)
        return self.center + (self.root @ w[..., None])[..., 0]

    def penalty(self, z: np.ndarray) -> np.ndarray:
        """-2 log density of the proposal without constants."""
        w = (self.inverse @ (z - self.center)[..., None])[..., 0]
        return (DEGREES + w.shape[-1]) * np.log1p((w * w).sum(axis=-1) / DEGREES)


def around_modes(target: Target) -> Around:
    """Around the mode of each subject, with the curvature there."""
    model, method = target.model, Method("focei")
    point = method.point(model.data, target.parameters)
    modes = method.modes(point)
    covariance = Peak(point, modes, exact=False).covariance
    eta = (modes.u @ point.L.T)[:, model.active]
    return Around(target.mean + eta, covariance[:, model.active][:, :, model.active])


@dataclass
class Chains:
    """Draws z (chains, N, Q) with their predictions, losses and penalties.

    each (Q,), block : factors of the steps of one and of several effects
    """

    target: Target
    rng: np.random.Generator
    z: np.ndarray
    f: np.ndarray
    loss: np.ndarray
    penalty: np.ndarray
    each: np.ndarray
    block: float
    recent: Spread
    n_sweeps: int = 0
    adapting: bool = True
    around: Around | None = None

    def aim(self, target: Target, *, moved: bool) -> None:
        """Follow the population parameters; `moved`: so did the offset."""
        self.target = target
        self.f = target.predict(self.z) if moved else self.f
        self.loss, self.penalty = target.loss(self.f), target.penalty(self.z)

    def sweep(self, times: tuple[int, int, int]) -> None:
        """Apply the first three kernels so many times, and the fourth where there are modes."""
        Q = self.z.shape[-1]
        if Q:
            for _ in range(times[0]):
                self._from_population()
            if self.around is not None:
                self._around_modes(self.around)
            steps = self.recent.covariance + RIDGE * _diagonals(self.recent.covariance)
            for _ in range(times[1]):
                for k in range(Q):
                    self._step_one(k, np.sqrt(steps[:, k, k]))
            for _ in range(times[2] if Q > 1 else 0):
                self._step_block(steps)
        if self.adapting:
            self.n_sweeps += 1
            self.recent.update(self.z, max(MEMORY, 1.0 / (self.n_sweeps + WARY)))

    def _from_population(self) -> None:
        target = self.target
        z = target.mean + self.rng.standard_normal(self.z.shape) @ target.L.T
        penalty = target.penalty(z)
        self._accept(z, penalty, penalty - self.penalty)

    def _around_modes(self, around: Around) -> None:
        z = around.draw(len(self.z), self.rng)
        self._accept(z, self.target.penalty(z), around.penalty(z) - around.penalty(self.z))

    def _step_one(self, k: int, size: np.ndarray) -> None:
        z = self.z.copy()
        z[..., k] += self.each[k] * size * self.rng.standard_normal(z.shape[:2])
        rate = self._accept(z, self.target.penalty(z), 0.0)
        if self.adapting:
            self.each[k] *= 1.0 + HASTE * (rate - WANTED)

    def _step_block(self, steps: np.ndarray) -> None:
        size = int(self.rng.integers(2, self.z.shape[-1] + 1))
        block = self.rng.permutation(self.z.shape[-1])[:size]
        root = np.linalg.cholesky(steps[:, block][:, :, block])
        draws = self.rng.standard_normal((*self.z.shape[:2], size))
        z = self.z.copy()
        z[..., block] += self.block / np.sqrt(size) * (root @ draws[..., None])[..., 0]
        rate = self._accept(z, self.target.penalty(z), 0.0)
        if self.adapting:
            self.block *= 1.0 + HASTE * (rate - WANTED)

    def _accept(self, z: np.ndarray, penalty: np.ndarray, proposal: np.ndarray | float) -> float:
        """Metropolis and Hastings; `proposal` is the rise of -2 log density of proposing.

        Returns the rate of acceptance.
        """
        f = self.target.predict(z)
        loss = self.target.loss(f)
        with np.errstate(invalid="ignore", over="ignore"):
            rise = (loss - self.loss) + (penalty - self.penalty) - proposal
            taken = 2.0 * self.rng.standard_exponential(rise.shape) > rise
        self.z[taken], self.f[taken] = z[taken], f[taken]
        self.loss[taken], self.penalty[taken] = loss[taken], penalty[taken]
        return float(taken.mean())


def begin(target: Target, n_chains: int, rng: np.random.Generator) -> Chains:
    """Chains that start from the population."""
    N, Q = target.mean.shape
    z = target.mean + rng.standard_normal((n_chains, N, Q)) @ target.L.T
    f = target.predict(z)
    recent = Spread(target.mean.copy(), np.tile(target.L @ target.L.T, (N, 1, 1)))
    loss, penalty = target.loss(f), target.penalty(z)
    return Chains(target, rng, z, f, loss, penalty, np.full(Q, 2.0), 2.4, recent)


def _diagonals(A: np.ndarray) -> np.ndarray:
    return A * np.eye(A.shape[-1])
