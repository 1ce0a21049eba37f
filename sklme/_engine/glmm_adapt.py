"""New rows for a fitted generalised model: their levels are learned, all parameters stay.

What is known of old levels is kept as the normal approximation at their modes; the new rows count
with their exact log-likelihood.
"""

from dataclasses import replace

import numpy as np

from sklme._engine.design import Design
from sklme._engine.glmm import GeneralizedFit
from sklme._engine.glmm_rows import aux_predictors, grouped, in_frame
from sklme._engine.gram import FactorGram, Gram, merge, select
from sklme._engine.laplace import safe_weights
from sklme._engine.modes import Local, conditional_modes
from sklme._engine.system import Stacks, System
from sklme._engine.threads import careful
from sklme._engine.weighted import meet_and_sum


@careful
def adapt(
    fit: GeneralizedFit, design: Design, y: np.ndarray, *, offset=None, trials=None, aux=()
) -> GeneralizedFit:
    """The fit with the rows of `design` added to what it knows of the levels.

    New levels are numbered after the known ones.
    """
    new = _NewRows(fit, design, y, offset, trials, aux)
    Lambdas = [L[0] for L in fit.working.Lambdas]
    start = [np.zeros((g.k, g.n_levels)) for g in new.groupings]
    modes = conditional_modes(new.local, Lambdas, start)
    if not modes.proper:
        raise ValueError(
            f"the {fit.family.name} family finds no most probable effects for the levels of these "
            "rows"
        )
    more = merge(fit.working.gram, new.statistics(modes.b))
    more = replace(more, total=fit.working.gram.total, n_rows=fit.working.gram.n_rows)
    effects = tuple(b[:, None, :] for b in modes.b)
    working = replace(fit.working, gram=more, effects=effects, adapted=True)
    return replace(fit, working=working)


class _NewRows:
    """The log-likelihood of the effects: a quadratic for the old rows, the family for the new."""

    def __init__(self, fit: GeneralizedFit, design: Design, y, offset, trials, aux):
        self.family, self.working = fit.family, fit.working
        self.X = in_frame(design, fit.working.frame)
        self.groupings = grouped(design, fit.working.frame)
        self.outcome = fit.family.outcome(y, trials, design.weights)
        self.tau = aux_predictors(fit.aux, aux)
        beta = fit.working.beta[0]
        self.fixed = beta @ self.X[fit.working.columns]
        self.offset = np.zeros(len(y)) if offset is None else offset
        levels = [g.n_levels for g in self.groupings]
        self.old = _padded(select(fit.working.gram, np.flatnonzero(fit.working.columns)), levels)
        self.answer = [f.zy[:, 0] - np.einsum("kpq,p->kq", f.zx, beta) for f in self.old.factors]
        self.old_system = System(self.old)

    def local(self, b: Stacks) -> Local:
        """All rows near the effects b, for the search for the modes."""
        random = sum(g.part(e) for g, e in zip(self.groupings, b, strict=True))
        terms = self._terms(random)
        r, W = terms.first, -terms.second
        sums = [g.sums(np.stack([r, W * random + r])) for g in self.groupings]
        known = self._known(b)
        gradient = [e[:, 0] + a - k for e, a, k in zip(sums, self.answer, known, strict=True)]

        def positive():
            safe = safe_weights(W)
            pulled = [g.sums((safe * random + r)[None])[:, 0] for g in self.groupings]
            return self._system(safe), [e + a for e, a in zip(pulled, self.answer, strict=True)]

        return Local(
            float(terms.value.sum() + sum(q.sum() for q in self._quadratic(b, known))),
            lambda: self._by_block(terms.value, self._quadratic(b, known)),
            gradient,
            [e[:, 1] + a for e, a in zip(sums, self.answer, strict=True)],
            self._system(W),
            positive,
        )

    def statistics(self, b: Stacks) -> Gram:
        """The cross-products of the new rows alone, weighted as at the modes."""
        random = sum(g.part(e) for g, e in zip(self.groupings, b, strict=True))
        terms = self._terms(random)
        W = -terms.second
        response = W * (self.fixed + random) + terms.first
        kept = self.X * self.working.columns[:, None]
        plain = meet_and_sum(self.groupings, W)
        factors = tuple(
            FactorGram(f.zz, g.sums(W * kept), g.sums(response[None]))
            for f, g in zip(plain.factors, self.groupings, strict=True)
        )
        xy = (kept @ response)[:, None]
        return replace(
            plain, xx=(W * kept) @ kept.T, xy=xy, yy=np.zeros(1), factors=factors, total=0.0
        )

    def _terms(self, random):
        return self.family.terms(self.outcome, self.fixed + self.offset + random, self.tau, 2)

    def _system(self, weights: np.ndarray) -> System:
        return System(merge(self.old, _like(meet_and_sum(self.groupings, weights), self.old)))

    def _known(self, b: Stacks) -> Stacks:
        """Z'WZ b of the old rows."""
        parts = [self.old_system.times(t, e[:, None]) for t, e in enumerate(b)]
        return [sum(p)[:, 0] for p in zip(*parts, strict=True)]

    def _quadratic(self, b: Stacks, known: Stacks) -> list[np.ndarray]:
        """The log-likelihood of the old rows by level of each factor, up to a constant."""
        parts = zip(b, self.answer, known, strict=True)
        return [(e * (a - 0.5 * k)).sum(axis=0) for e, a, k in parts]

    def _by_block(self, value: np.ndarray, quadratic: list[np.ndarray]) -> np.ndarray:
        if len(quadratic) > 1:
            return np.array([value.sum() + sum(q.sum() for q in quadratic)])
        g = self.groupings[0]
        return quadratic[0] + np.bincount(g.codes, value, g.n_levels)


def _padded(gram: Gram, levels: list[int]) -> Gram:
    """The same statistics with room for levels that they do not know."""
    factors = tuple(
        FactorGram(*(_wider(a, q) for a in (f.zz, f.zx, f.zy)))
        for f, q in zip(gram.factors, levels, strict=True)
    )
    return replace(gram, factors=factors)


def _wider(a: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([a, np.zeros((*a.shape[:2], n - a.shape[2]))], axis=2)


def _like(gram: Gram, other: Gram) -> Gram:
    """Zeros for the columns of X and y that `other` has, so that both can be added."""
    p = len(other.xx)
    factors = tuple(
        replace(f, zx=np.zeros((f.k, p, f.n_levels)), zy=np.zeros((f.k, 1, f.n_levels)))
        for f in gram.factors
    )
    return replace(gram, xx=np.zeros((p, p)), xy=np.zeros((p, 1)), yy=np.zeros(1), factors=factors)
