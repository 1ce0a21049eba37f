"""Null distributions of the likelihood ratio of a variance at zero, and p values by them."""

from dataclasses import dataclass

import numpy as np

from sklme._engine import at_zero
from sklme._engine.glmm_at_zero import GeneralizedHypotheses
from sklme._engine.simulate import too_many_columns
from sklme.inference._generalized_comparison import simulated


def linear_null(h: at_zero.Hypotheses, null: str) -> str:
    """Which null distribution is taken for a linear mixed model; ValueError for none."""
    if null == "auto":
        return "exact" if h.exact else "mixture"
    if null == "exact" and not h.exact:
        why = (
            f"the factor has more than {at_zero.MOST_LEVELS} levels"
            if h.only
            else "the model has other variances or covariances beside it"
        )
        raise ValueError(f'null="exact" does not exist here, since {why}: take "simulated"')
    if null == "simulated" and too_many_columns(h.statistics):
        raise ValueError('the factors have too many levels to simulate: take null="mixture"')
    return null


def generalized_null(fitted, null: str) -> str:
    """The same for a generalised one."""
    if null == "exact":
        raise ValueError(
            f'null="exact" does not exist for {type(fitted.model).__name__}: take "simulated"'
        )
    return "mixture" if null == "auto" else null


def p_value_of(h, null, ratio, n_simulations, rng, verbose) -> tuple[float, int]:
    """The p value of a likelihood ratio, and how many draws it rests on."""
    if null == "mixture":
        return at_zero.mixture_p_value(ratio, h.dof), 0
    if null == "exact":
        n = n_simulations or 10_000
        draws = at_zero.exact_null(h, n, rng)
    else:
        n = n_simulations or 1000
        draw = simulated if isinstance(h, GeneralizedHypotheses) else at_zero.simulated_null
        draws = draw(h, n, rng, _Count(n) if verbose else None)
        n = len(draws)
    larger = np.sum(draws >= ratio - 1e-9 * (1.0 + ratio))
    return float((1 + larger) / (1 + n)), n


@dataclass
class _Count:
    """Prints how many draws are done."""

    n: int
    done: int = 0

    def __call__(self, n: int) -> None:
        self.done += n
        print(f"variance_test: {self.done} of {self.n} draws")
