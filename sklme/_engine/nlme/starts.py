"""Where a search may start: the values given, pooled least squares, FO, and places around them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.descent import descend
from sklme._engine.nlme.methods import Method, Objective
from sklme._engine.nlme.parameters import Block, Parameters, Pattern, Search

ROUGHLY = 1e-2  # how far a preliminary search goes, in -2 log L
BRIEF = 30  # its iterations
SPREAD = 0.7  # of scattered starts, in units of the longest step


def longest_steps(data: Data, search: Search) -> np.ndarray:
    """How far one step may move each entry of theta: 1 on the log scale, and of beta as far as phi
    changes by 1, or by its own size where it is on the natural scale."""
    identity = np.array([link == "identity" for link in data.links])
    phi = np.abs(data.C @ search.start.beta).max(axis=(0, 1))
    scale = np.where(identity & (phi > 0), phi, 1.0)
    reach = (np.abs(data.C).max(axis=(0, 1)) / scale[:, None]).max(axis=0)
    by_beta = 1.0 / np.where(reach > 0, reach, 1.0)
    return np.array([by_beta[label[1]] if label[0] == "beta" else 1.0 for label in search.labels])


def pooled(data: Data, search: Search) -> Parameters:
    """beta and sigma as if all subjects were alike; Omega as it starts."""
    blocks = tuple(Block(b.places, frozen=True) for b in search.pattern.blocks)
    alike = replace(search.start, Omega=np.zeros_like(search.start.Omega))
    censored = data.censored is not None and bool(data.censored.any())
    method = Method("focei" if censored else "fo")  # the same without effects, and "fo" is faster
    found = roughly(data, replace(search, start=alike, pattern=Pattern(blocks)), method)
    return replace(found, Omega=search.start.Omega)


def roughly(data: Data, search: Search, method: Method) -> Parameters:
    """Where a short search ends."""
    objective = Objective(data, search, method)
    place = objective.look(search.pack(search.start), None)
    if not place.usable or not search.n_searched:
        return search.start
    longest = longest_steps(data, search)
    end = descend(objective.look, place, longest, tol=ROUGHLY, max_iter=BRIEF)
    return search.unpack(end.place.theta)


def candidates(data: Data, search: Search, kinds: tuple[str, ...]) -> list[Parameters]:
    """The starts by name: "given", "pooled", "fo" (which goes on from "pooled")."""
    made: dict[str, Callable[[], Parameters]] = {
        "given": lambda: search.start,
        "pooled": lambda: pooled(data, search),
        "fo": lambda: roughly(data, replace(search, start=pooled(data, search)), Method("fo")),
    }
    for kind in kinds:
        if kind not in made:
            raise ValueError(f"a start must be one of {', '.join(made)}: it is {kind!r}")
    return [made[kind]() for kind in kinds]


def scattered(theta: np.ndarray, longest: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n places around theta, (n, len(theta))."""
    draws = np.random.default_rng(seed).standard_normal((n, len(theta)))
    return theta + SPREAD * draws * longest
