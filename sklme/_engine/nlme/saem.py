"""Stochastic approximation EM: maximum likelihood without linearisation.

Delyon, Lavielle and Moulines (1999, "Convergence of a stochastic approximation version of the EM
algorithm", Annals of Statistics 27(1)) with the Markov chains of Kuhn and Lavielle (2004, "Coupling
a stochastic approximation version of EM with an MCMC procedure", ESAIM: Probability and Statistics
8). Three phases: exploration, where each step forgets the draws before, with variances kept from
falling too fast; smoothing, where draws weigh less and less and the parameters are averaged; and
draws at the parameters found, which tell the effects of each subject and whether a further step of
EM would still move anything. No likelihood is computed: that is for importance sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sklme._engine.nlme.centred import Centred, centre
from sklme._engine.nlme.data import Data
from sklme._engine.nlme.errors import LEAST, variance
from sklme._engine.nlme.markov import Chains, Spread, Target, around_modes, begin
from sklme._engine.nlme.parameters import Parameters, Pattern, Search, check_parameters, search
from sklme._engine.nlme.sufficient import Moments, Step, keep_frozen

Progress = Callable[[int, str, Parameters], object]

TOGETHER = 75  # subjects times chains, at least
SETTLING = 5  # sweeps before the first maximisation
WINDOW = 50  # iterations whose means are compared
STEADY = 0.5  # standard errors that these may differ by
EXPLORE = (150, 500)  # least and most iterations of exploration
SMOOTH, ROUNDS = 200, 3  # iterations of the first round of smoothing; each later one is as long
DECAY = 0.85  # the weight of iteration k of smoothing is k^-DECAY
SKIPPED = 0.25  # the share of smoothing that is not averaged
LOST, LONGER = 0.5, 250  # a movement above this calls for so many more iterations of exploration
FALL = 0.95  # a variance falls at most by this factor in the first part of the exploration
REFRESH = (0, 5, 20, 50)  # iterations at which modes are searched anew


@dataclass(frozen=True)
class Kernels:
    """How often each kernel is applied in an iteration, and for how many iterations draws are
    also proposed around the modes."""

    population: int = 2
    each: int = 2
    block: int = 2
    modes: int = 0

    @property
    def times(self) -> tuple[int, int, int]:
        """Of the first three."""
        return self.population, self.each, self.block


@dataclass(frozen=True)
class StochasticFit:
    """The estimates and how they were found.

    theta : search.pack(parameters); search.labels say what its entries are
    trace (iterations, len(theta)) : n_smooth iterations of the last smoothing and n_explore before
    eta (N, Q), covariance (N, Q, Q) : mean and covariance of eta given the rows of its subject
    movement : how far another step of EM moves theta, in standard errors as if eta were observed
    """

    data: Data
    search: Search
    parameters: Parameters
    theta: np.ndarray
    trace: np.ndarray
    n_explore: int
    n_smooth: int
    n_chains: int
    eta: np.ndarray
    covariance: np.ndarray
    movement: np.ndarray
    converged: bool
    message: str


def saem(
    data: Data,
    start: Parameters,
    pattern: Pattern,
    *,
    fixed_beta=None,
    fixed_sigma=None,
    n_chains: int | None = None,
    n_explore: int | None = None,
    n_smooth: int | None = None,
    n_draws: int = 200,
    kernels: Kernels = Kernels(),
    random_state: np.random.Generator | int | None = 0,
    smooth: bool = True,
    tol: float = 0.2,
    progress: Progress | None = None,
) -> StochasticFit:
    """Maximise the likelihood by SAEM.

    n_explore, n_smooth : iterations; None: as many as it takes, within limits
    n_draws : sweeps at the end, at fixed parameters
    smooth : whether f is continuous in the parameters; if not, its derivatives are used only for
        coefficients of parameters without effects
    tol : how far another step of EM may move theta, in standard errors as if eta were observed
    progress : called with (iteration, phase, parameters); may stop the search by returning true

    Raises
    ------
    ValueError
        If the parts do not fit together, or the rows of a subject have no likelihood at the start.
    """
    check_parameters(data, start)
    model = centre(data, search(start, pattern, fixed_beta, fixed_sigma))
    if not model.active.any():
        raise ValueError("SAEM needs an effect with a variance: without any, use another method")
    L = n_chains or max(1, -(-TOGETHER // data.n_subjects))
    run = _Run(model, L, kernels, np.random.default_rng(random_state), progress, smooth)
    run.settle()
    run.explore(n_explore)
    return _finish(run, n_smooth, n_draws, tol)


class _Run:
    """The state of one search."""

    def __init__(self, model: Centred, n_chains: int, kernels: Kernels, rng, progress, smooth):
        self.model, self.search, self.kernels = model, model.search, kernels
        self.step, self.progress = Step(model, smooth=smooth), progress
        self.parameters = self.search.start
        self.chains = begin(Target(model, self.parameters), n_chains, rng)
        self.trace: list[np.ndarray] = []
        self.n_explore, self.message = 0, ""
        self.moments: Moments | None = None

    def settle(self) -> None:
        """Sweeps at the start."""
        _check_rows(self.chains)
        self.refresh()
        for _ in range(SETTLING):
            self.chains.sweep(self.kernels.times)
        lost = ~np.isfinite(self.chains.loss).any(axis=0)
        if lost.any():
            raise ValueError(
                f"no draw from the start gives the rows of subject number {np.argmax(lost)} a "
                "likelihood: start from other parameters or a larger Omega"
            )
        self.moments = self.step.measure(self.chains)

    def refresh(self) -> None:
        """Look for the modes where draws are proposed around them."""
        k, wanted = len(self.trace), self.kernels.modes
        if k >= wanted:
            self.chains.around = None
        elif k in REFRESH:
            self.chains.around = around_modes(self.chains.target)

    def advance(self, gain: float, fall: float | None, phase: str) -> bool:
        """One iteration; whether the search goes on."""
        assert self.moments is not None
        self.chains.sweep(self.kernels.times)
        fresh = self.step.measure(self.chains)
        self.moments = self.moments.toward(fresh, gain)
        parameters = self.parameters
        if self.step.along is not None:
            parameters, self.moments, by = self.step.shift(parameters, self.moments, fresh, gain)
            self.chains.z += by
        found = self.step.improve(parameters, self.moments, fresh, gain)
        if fall is not None:
            found = _slowly(self.search, self.parameters, found, fall)
        self.move(found)
        self.trace.append(_pack(self.search, found))
        stop = self.progress is not None and self.progress(len(self.trace), phase, found)
        self.message = "stopped by the callback" if stop else self.message
        self.refresh()
        return not stop

    def move(self, parameters: Parameters) -> None:
        """Let the chains follow."""
        self.parameters = parameters
        self.chains.aim(Target(self.model, parameters), moved=self.step.along is not None)

    def explore(self, n_iterations: int | None, *, slowly: bool = True) -> None:
        """Until the means of windows differ no more; at first variances fall slowly."""
        most = EXPLORE[1] if n_iterations is None else n_iterations
        slow = (EXPLORE[0] if n_iterations is None else n_iterations) // 2 * slowly
        for k in range(1, most + 1):
            if not self.advance(1.0, FALL if k <= slow else None, "exploration"):
                break
            look = n_iterations is None and k >= EXPLORE[0] and (k - EXPLORE[0]) % WINDOW == 0
            if look and self.steady():
                break
        self.n_explore = len(self.trace)

    def steady(self) -> bool:
        """Whether the mean of the last window is that of the window before."""
        recent = np.array(self.trace[-2 * WINDOW :])
        drift = recent[WINDOW:].mean(axis=0) - recent[:WINDOW].mean(axis=0)
        return bool((np.abs(drift) < STEADY * self.scale()).all())

    def scale(self) -> np.ndarray:
        """Standard errors of theta as if the effects were observed."""
        assert self.moments is not None
        return self.step.standard_errors(self.parameters, self.moments)

    def smooth(self, n_iterations: int, done: int) -> None:
        """Average theta with falling gains, and go to the average."""
        for k in range(done + 1, done + n_iterations + 1):
            if not self.advance(k**-DECAY, None, "smoothing"):
                break

    def average(self) -> None:
        """Go to the mean of the later part of smoothing."""
        smoothed = self.trace[self.n_explore :]
        if smoothed:
            kept = smoothed[int(SKIPPED * len(smoothed)) :]
            self.move(self.search.unpack(np.mean(kept, axis=0)))


def _check_rows(chains: Chains) -> None:
    """Whether every row has a variance in some draw."""
    data, sigma = chains.target.model.data, chains.target.parameters.sigma
    none = (variance(data, sigma, chains.f).R <= LEAST) | (
        data.on_log & (chains.f <= np.log(LEAST))
    )
    zero = data.mask & none.all(axis=0)
    if zero.any():
        i, j = np.argwhere(zero)[0]
        raise ValueError(
            f"row {j} of subject number {i} is predicted to be zero, where its error has no "
            "variance: leave such rows out, or use an error with an additive part"
        )


@dataclass(frozen=True)
class _Check:
    """Draws at fixed parameters: the effects, and where another step of EM would go."""

    spread: Spread
    movement: np.ndarray


def _check(run: _Run, n_draws: int) -> _Check:
    chains, parameters = run.chains, run.parameters
    chains.adapting, chains.around = False, None
    first = run.step.measure(chains)
    spread = Spread(np.zeros_like(chains.z[0]), np.zeros_like(chains.recent.covariance))
    average = first
    for k in range(1, n_draws + 1):
        chains.sweep(run.kernels.times)
        spread.update(chains.z - chains.target.mean, 1.0 / k)
        average = average.toward(run.step.measure(chains), 1.0 / k)
    chains.adapting = True
    further, moments = parameters, average
    if run.step.along is not None:
        further, moments, _ = run.step.shift(parameters, average, average, 1.0)
    further = run.step.improve(further, moments, average, 1.0)
    moved = _pack(run.search, further) - _pack(run.search, parameters)
    return _Check(spread, moved / run.scale())


def _finish(run: _Run, n_smooth: int | None, n_draws: int, tol: float) -> StochasticFit:
    """Rounds of smoothing until another step of EM moves little."""
    length, rounds = (SMOOTH, ROUNDS) if n_smooth is None else (n_smooth, 1)
    done = 0
    for k in range(rounds):
        if not run.message:
            run.smooth(length, done)
            run.average()
        check = _check(run, n_draws)
        worst = np.abs(check.movement).max(initial=0.0)
        still = not worst < tol
        if run.message or not still or k == rounds - 1:
            break
        done += length
        if worst > LOST:
            run.explore(LONGER, slowly=False)
            done = 0
    return StochasticFit(
        data=run.model.data,
        search=run.search,
        parameters=run.parameters,
        theta=_pack(run.search, run.parameters),
        trace=np.array(run.trace).reshape(len(run.trace), run.search.n_searched),
        n_explore=run.n_explore,
        n_smooth=len(run.trace) - run.n_explore,
        n_chains=len(run.chains.z),
        eta=_embed(run.model.active, check.spread.center),
        covariance=_embed_twice(run.model.active, check.spread.covariance),
        movement=check.movement,
        converged=not still and not run.message,
        message=run.message or (_what_moves(run.search, check.movement) if still else "converged"),
    )


def _what_moves(search: Search, movement: np.ndarray) -> str:
    worst = int(np.argmax(np.abs(movement)))
    kind, *at = search.labels[worst]
    place = ", ".join(map(str, at))
    return (
        f"another step of EM moves {kind} {place} by {abs(movement[worst]):.2g} standard errors: "
        "more iterations are needed, or the data cannot tell it"
    )


def _slowly(search: Search, old: Parameters, new: Parameters, fall: float) -> Parameters:
    """The new parameters, with variances that fall at most by a factor."""
    before, after = np.diag(old.Omega), np.diag(new.Omega)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.sqrt(np.maximum(after, fall * before) / after)
    factor = np.where(after > 0, factor, 1.0)
    Omega = keep_frozen(search, new.Omega * np.outer(factor, factor))
    slow = np.maximum(new.sigma, np.sqrt(fall) * old.sigma)
    return Parameters(new.beta, Omega, np.where(search.free_sigma, slow, new.sigma))


def _pack(search: Search, parameters: Parameters) -> np.ndarray:
    with np.errstate(divide="ignore"):  # a variance of zero
        return search.pack(parameters)


def _embed(active: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """With zeros for the effects that are not drawn."""
    out = np.zeros((len(eta), len(active)))
    out[:, active] = eta
    return out


def _embed_twice(active: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    out = np.zeros((len(covariance), len(active), len(active)))
    out[np.ix_(np.arange(len(out)), active, active)] = covariance
    return out
