"""The population parameters: their natural form, the vector that is searched, and the way between.

Omega is built of blocks. A block may stand in several places (one for each occasion) with the same
variances; a frozen block keeps its start. Searched are beta, the logarithms of sigma, and of each
block the Cholesky factor, with the logarithms of its diagonal and the entries below relative to the
standard deviations at the start: nothing is bounded, and a block may become singular.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from sklme._engine.nlme.kinds import names as sigma_names


@dataclass(frozen=True)
class Parameters:
    """beta (P,), Omega = cov(eta) (Q, Q), sigma (S,) standard deviations as `kinds.names` says."""

    beta: np.ndarray
    Omega: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True)
class Block:
    """Effects that vary together, with any covariance; `places` are the effects of each copy."""

    places: tuple[tuple[int, ...], ...]
    frozen: bool = False

    @property
    def size(self) -> int:
        """Effects in one copy."""
        return len(self.places[0])


@dataclass(frozen=True)
class Pattern:
    """The blocks of Omega; together their places are the effects 0 to Q - 1, each once."""

    blocks: tuple[Block, ...]

    def __post_init__(self):
        places = sorted(k for b in self.blocks for place in b.places for k in place)
        if places != list(range(len(places))):
            raise ValueError(f"the blocks must name each effect once: they name {places}")
        for b in self.blocks:
            if len({len(place) for place in b.places}) > 1:
                raise ValueError(f"the places of one block must be equally long: {b.places}")

    @property
    def n_effects(self) -> int:
        """Q."""
        return sum(b.size * len(b.places) for b in self.blocks)

    @staticmethod
    def diagonal(n_effects: int) -> "Pattern":
        """Independent effects."""
        return Pattern(tuple(Block(((k,),)) for k in range(n_effects)))

    @staticmethod
    def full(n_effects: int) -> "Pattern":
        """One block."""
        return Pattern((Block((tuple(range(n_effects)),)),) if n_effects else ())

    @staticmethod
    def of(*blocks) -> "Pattern":
        """Blocks given as sequences of effects, (0, 1), (2,); nested ones are tied copies."""
        tied = lambda b: b and not np.isscalar(b[0])
        return Pattern(
            tuple(Block(tuple(map(tuple, b)) if tied(b) else (tuple(b),)) for b in blocks)
        )

    def impose(self, Omega: np.ndarray) -> np.ndarray:
        """The nearest matrix of this pattern: zeros between blocks, the mean of tied copies."""
        out = np.zeros_like(Omega)
        for b in self.blocks:
            mean = np.mean([Omega[np.ix_(p, p)] for p in b.places], axis=0)
            for place in b.places:
                out[np.ix_(place, place)] = mean
        return out


@dataclass(frozen=True)
class Search:
    """Which parameters are searched, from where; the others keep the value of `start`.

    free_beta (P,), free_sigma (S,) : whether the entry is searched
    """

    start: Parameters
    pattern: Pattern
    free_beta: np.ndarray
    free_sigma: np.ndarray

    def __post_init__(self):
        if self.pattern.n_effects != len(self.start.Omega):
            raise ValueError(
                f"the pattern has {self.pattern.n_effects} effects, "
                f"and Omega {len(self.start.Omega)}"
            )
        if (self.start.sigma[self.free_sigma] <= 0).any():
            raise ValueError("every start of sigma must be above zero")
        for b in self.pattern.blocks:
            if not b.frozen and (np.diag(factor(self._block(b, self.start))) <= 0).any():
                raise ValueError(f"the start of Omega is not positive definite at {b.places[0]}")

    @cached_property
    def labels(self) -> tuple[tuple, ...]:
        """("beta", k), ("log_factor" or "factor", i, j) or ("sigma", k) of each entry of theta."""
        out: list[tuple] = [("beta", int(k)) for k in np.flatnonzero(self.free_beta)]
        for b in self._free_blocks:
            out += [("log_factor", k, k) for k in b.places[0]]
            i, j = _below(b.size)
            out += [("factor", b.places[0][r], b.places[0][c]) for r, c in zip(i, j, strict=True)]
        return tuple(out + [("sigma", int(k)) for k in np.flatnonzero(self.free_sigma)])

    @property
    def n_searched(self) -> int:
        """The length of theta."""
        return len(self.labels)

    def pack(self, parameters: Parameters) -> np.ndarray:
        """theta of the parameters."""
        parts = [parameters.beta[self.free_beta]]
        for b in self._free_blocks:
            L = factor(self._block(b, parameters))
            relative = L / self._sizes(b)[:, None]
            parts += [np.log(np.diag(L)), relative[_below(b.size)]]
        return np.concatenate([*parts, np.log(parameters.sigma[self.free_sigma])])

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """L of Omega = L L' at theta."""
        L = np.zeros_like(self.start.Omega)
        at = int(self.free_beta.sum())
        for b in self.pattern.blocks:
            if b.frozen:
                block = factor(self._block(b, self.start))
            else:
                block, at = _build(theta, at, self._sizes(b))
            for place in b.places:
                L[np.ix_(place, place)] = block
        return L

    def unpack(self, theta: np.ndarray) -> Parameters:
        """The parameters at theta."""
        beta, sigma = self.start.beta.astype(float), self.start.sigma.astype(float)
        n = int(self.free_sigma.sum())
        beta[self.free_beta] = theta[: int(self.free_beta.sum())]
        sigma[self.free_sigma] = np.exp(theta[len(theta) - n :])
        L = self.factor(theta)
        return Parameters(beta, L @ L.T, sigma)

    def chain(
        self, theta: np.ndarray, beta: np.ndarray, L: np.ndarray, log_sigma: np.ndarray
    ) -> np.ndarray:
        """Derivatives by theta (N, n) from those by beta (N, P), L (N, Q, Q), log sigma (N, S)."""
        diagonal = np.diag(self.factor(theta))
        parts = [beta[:, self.free_beta]]
        for b in self._free_blocks:
            by_L = sum(L[:, place][:, :, place] for place in map(list, b.places))
            by_diagonal = np.diagonal(by_L, axis1=1, axis2=2) * diagonal[list(b.places[0])]
            i, j = _below(b.size)
            parts += [by_diagonal, (by_L * self._sizes(b)[:, None])[:, i, j]]
        return np.concatenate([*parts, log_sigma[:, self.free_sigma]], axis=1)

    def turns(self, theta: np.ndarray) -> np.ndarray:
        """dOmega/dtheta of the entries that shape Omega, (k, Q, Q)."""
        L, out = self.factor(theta), []
        for kind, *at in self.labels:
            if kind in ("log_factor", "factor"):
                dL = np.zeros_like(L)
                for i, j in self._copies(*at):
                    dL[i, j] = L[i, i] if i == j else np.sqrt(self.start.Omega[i, i])
                out.append(dL @ L.T + L @ dL.T)
        return np.array(out).reshape(len(out), *L.shape)

    def _copies(self, i: int, j: int) -> list[tuple[int, int]]:
        """An entry of Omega and those tied to it."""
        for b in self.pattern.blocks:
            if i in b.places[0]:
                r, c = b.places[0].index(i), b.places[0].index(j)
                return [(place[r], place[c]) for place in b.places]
        return [(i, j)]

    @cached_property
    def _free_blocks(self) -> tuple[Block, ...]:
        return tuple(b for b in self.pattern.blocks if not b.frozen)

    def _sizes(self, b: Block) -> np.ndarray:
        return np.sqrt(np.diag(self._block(b, self.start)))

    @staticmethod
    def _block(b: Block, parameters: Parameters) -> np.ndarray:
        return parameters.Omega[np.ix_(b.places[0], b.places[0])]


def search(start: Parameters, pattern: Pattern, fixed_beta=None, fixed_sigma=None) -> Search:
    """What is searched, where the entries flagged in `fixed_beta` and `fixed_sigma` are not."""
    free = lambda fixed, like: (
        ~(np.zeros(len(like)) if fixed is None else np.asarray(fixed)).astype(bool)
    )
    return Search(start, pattern, free(fixed_beta, start.beta), free(fixed_sigma, start.sigma))


def factor(A: np.ndarray) -> np.ndarray:
    """Lower L with L L' = A, positive semidefinite; a column of zeros where A is singular."""
    L, tolerance = np.zeros_like(A, dtype=float), 1e-14 * np.abs(np.diag(A))
    for k in range(len(A)):
        rest = A[k:, k] - L[k:, :k] @ L[k, :k]
        if rest[0] > tolerance[k]:
            L[k:, k] = rest / np.sqrt(rest[0])
    return L


def _build(theta: np.ndarray, at: int, sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """One block of L from the entries of theta behind `at`, and where they end."""
    size, L = len(sizes), np.diag(np.exp(theta[at : at + len(sizes)]))
    i, j = _below(size)
    end = at + size + len(i)
    L[i, j] = theta[at + size : end] * sizes[i]
    return L, end


@lru_cache(maxsize=32)
def _below(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns below the diagonal."""
    return np.tril_indices(size, -1)


def check_parameters(data, parameters: Parameters) -> None:
    """Whether the parameters fit the record.

    Raises
    ------
    ValueError
        If not; the sentence says what is expected.
    """
    P, Q, S = data.C.shape[-1], data.n_effects, len(sigma_names(data.errors))
    expected = {"beta": (P,), "Omega": (Q, Q), "sigma": (S,)}
    for name, shape in expected.items():
        given = np.shape(getattr(parameters, name))
        if given != shape:
            raise ValueError(f"{name} must have shape {shape}: it has {given}")
