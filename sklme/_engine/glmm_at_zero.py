"""The test of a variance at zero in a generalised model, by likelihood ratio.

Zero is on the boundary: the ratio is compared with a mixture of two chi-squares (Self and Liang
1987, Stram and Lee 1994), or with ratios of outcomes drawn without the variance.
"""

from dataclasses import dataclass

import numpy as np

from sklme._engine import glmm
from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_simulate import Cases, Simulator

TOL = 1e-3  # standard errors that a replicate may end away from its optimum


@dataclass(frozen=True)
class GeneralizedHypotheses:
    """A fit to these rows with and without a coefficient's variance.

    dof : covariances that vanish with the variance
    """

    full: GeneralizedFit
    null: GeneralizedFit
    cases: Cases
    dof: int

    @property
    def statistic(self) -> float:
        """The likelihood ratio, at least 0."""
        return max(2.0 * (self.full.log_likelihood - self.null.log_likelihood), 0.0)


def generalized_hypotheses(
    fit: GeneralizedFit, cases: Cases, t: int, a: int, **options
) -> GeneralizedHypotheses:
    """The variance of coefficient a of factor t against zero; options are those of the search."""
    structures = fit.working.structures
    structure = structures[t]
    gone = range(structure.k) if structure.spherical else (a,)
    without = tuple(structure.without(gone) if s == t else f for s, f in enumerate(structures))
    null = glmm.fit(
        cases.design,
        cases.y,
        fit.family,
        without,
        n_quadrature=fit.n_quadrature,
        **cases.given,
        **options,
    )
    beside = max(len(block) - 1 for block in structure.blocks if a in block)
    return GeneralizedHypotheses(fit, null, cases, 0 if structure.spherical else beside)


def simulated_ratios(h: GeneralizedHypotheses, cases: Cases, n: int, rng, progress=None):
    """Ratios of outcomes drawn under the null, for rows of weight one; failed fits left out."""
    with_variance, without = Simulator(h.full, cases), Simulator(h.null, cases)
    ratios = []
    for _ in range(n):
        y = without.draw(rng)
        pair = [s.refit(y, TOL, 100) for s in (with_variance, without)]
        if all(found.converged for found in pair):
            ratios.append(2.0 * (pair[0].log_likelihood - pair[1].log_likelihood))
        if progress is not None:
            progress(1)
    return np.maximum(ratios, 0.0)
