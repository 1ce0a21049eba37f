"""From the specification of the random effects and the method to the estimate of the engine."""

from dataclasses import replace

import numpy as np

from sklme._engine.nlme.fit import fit
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.parameters import Block, Pattern
from sklme.nonlinear._other_methods import Estimate, estimate_alternating, estimate_saem

LEAST = 1e-5  # residual errors below this share of y are not told from none
METHODS = ("focei", "foce", "fo", "laplace", "agq", "saem", "lindstrom-bates")


def read_omega(omega, names):
    """Blocks of effects that covary, as tuples of their numbers."""
    if isinstance(omega, str):
        if omega not in ("diagonal", "full"):
            raise ValueError(f"omega is {omega!r}; {_OMEGA}")
        return [(k,) for k in range(len(names))] if omega == "diagonal" else [(*range(len(names)),)]
    if not isinstance(omega, list | tuple) or not all(
        isinstance(block, list | tuple) for block in omega
    ):
        raise ValueError(f"omega is {omega!r}; {_OMEGA}")
    blocks, seen = [], set()
    for block in omega:
        for name in block:
            if name not in names:
                raise ValueError(
                    f"omega names {name!r}, which is no parameter with a random effect; these are "
                    f"{', '.join(map(repr, names)) or 'none'}"
                )
            if name in seen:
                raise ValueError(f"omega names {name!r} twice")
            seen.add(name)
        blocks.append(tuple(names.index(name) for name in block))
    alone = [(k,) for k, name in enumerate(names) if name not in seen]
    return [block for block in [*blocks, *alone] if block]


_OMEGA = "it must be 'diagonal', 'full' or a list of blocks such as [['CL', 'V'], ['KA']]"


def make_pattern(blocks, n_between, n_within, n_occasions, frozen=False):
    """The pattern of Omega: the occasions' effects have equal variances on each occasion."""
    parts = [Block((block,), frozen) for block in blocks if block]
    for k in range(n_within if n_occasions else 0):
        places = tuple((n_between + r * n_within + k,) for r in range(n_occasions))
        parts.append(Block(places, frozen))
    return Pattern(tuple(parts))


def engine_method(name, n_quadrature=5, search=False):
    """How the engine calls a method when it conditions on a subject's rows, or searches."""
    if name == "agq":
        return Method("agq", n_quadrature)
    other = {"saem": "focei", "lindstrom-bates": "foce"} | ({} if search else {"fo": "focei"})
    return Method(other.get(name, name))


def estimate(model, design, start, blocks, seed):
    """The estimate by the method of a model."""
    E, K = len(start.between), len(start.within)
    frozen = start.unidentified or start.exact
    pattern = make_pattern(blocks, E, K, design.n_occasions, frozen)
    parameters = start.parameters(design.n_occasions)
    options = {
        "fixed_beta": np.array([e.fixed for e in design.layout.effects]),
        "fixed_sigma": np.full(len(start.sigma), start.exact),
    }
    mixed = parameters.Omega.any()
    try:
        if model.method == "saem" and mixed:
            options |= {"seed": seed, "verbose": model.verbose}
            return estimate_saem(design.data(), parameters, pattern, **options)
        if model.method == "lindstrom-bates" and mixed:
            options |= {"max_iter": model.max_iter}
            return estimate_alternating(design.data(), parameters, pattern, **options)
        options |= {"seed": seed}
        starts = [parameters, *(replace(parameters, beta=beta) for beta in start.others)]
        return _lowest(lambda one: _search(model, design, one, pattern, options), starts)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the search for the estimates broke down, as it does where the data say nothing of "
            "some parameters or covariates: fix them, or leave them out"
        ) from None


def _lowest(search, starts):
    """The lowest end of searches from several starts, of which some may be no place to start."""
    found, refused = [], None
    for one in starts:
        try:
            found.append(search(one))
        except ValueError as error:
            refused = refused or error
    if not found:
        raise refused
    return min(found, key=lambda one: one.fit.value)


def _search(model, design, parameters, pattern, options):
    """The search, again at a residual error of about nothing where it falls for ever."""
    exact = bool(options["fixed_sigma"].all())
    watch = Watch(model.verbose, -np.inf if exact else lowest_objective(design))
    found = fit(
        design.data(),
        parameters,
        pattern,
        method=engine_method(model.method, model.n_quadrature, search=True),
        starts=("given",) if exact else ("given", "pooled"),
        n_starts=model.n_starts,
        tol=model.tol,
        max_iter=model.max_iter,
        progress=watch,
        **options,
    )
    if not watch.bottomless:
        certain = found.converged and not found.decrement < 0  # below 0: no minimum
        return Estimate(replace(found, converged=certain), exact)
    sigma = np.maximum(found.parameters.sigma, LEAST * parameters.sigma)
    held = {**options, "fixed_sigma": np.full(len(sigma), True)}
    return _search(model, design, replace(found.parameters, sigma=sigma), pattern, held)


class Watch:
    """Prints the steps of a search, and stops one whose objective falls for ever.

    That is so where groups and structure meet every observation: the residual error goes to zero.
    """

    def __init__(self, verbose, lowest):
        self.verbose, self.lowest, self.bottomless = verbose, lowest, False

    def __call__(self, iteration, value, decrement):
        """Whether to stop."""
        if self.verbose:
            print(f"step {iteration}: objective {value:.8g}, expected decrease {decrement:.1e}")
        self.bottomless = bool(value < self.lowest)
        return self.bottomless


def lowest_objective(design):
    """The objective where residual errors are nothing but those of rounding."""
    y = np.abs(design.rows.y)
    size = np.sqrt(np.mean(y**2)) or 1.0
    if design.layout.error == "lognormal":
        return 2.0 * (len(y) * np.log(LEAST) + np.log(y).sum())
    if design.layout.error != "additive":
        size = np.maximum(y, LEAST * size)
    return float((2.0 * np.log(LEAST * size) + 0.0 * y).sum())
