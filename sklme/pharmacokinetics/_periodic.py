"""Steady states of differential equations: the state that one dosing interval reproduces.

Newton's method on x = Phi(x), whose derivative comes from sensitivities by the initial state.
"""

import numpy as np

from sklme.pharmacokinetics._integrate import STEP
from sklme.pharmacokinetics._steady import find_phase, running_infusions

PLAIN, MOST, CLOSE = 2, 60, 1e-10  # intervals before Newton, and in all; when it is found
SINGULAR = 1e-9  # less than this share of a state leaves within an interval


def steady_states(equations, psi, records, doses, with_slopes):
    """As `steady_state` for linear systems, for psi (N, 1 or R, q)."""
    _check(records, doses)
    phase, begun = find_phase(records, doses)
    (N, R), S, q = records.time.shape, doses.jump.shape[-1], psi.shape[-1]
    state = np.zeros((q, N, R, S) if with_slopes else (N, R, S), complex if with_slopes else float)
    whole = lambda x: np.broadcast_to(x, (*x.shape[: x.ndim - 2], N, R))
    for r in np.flatnonzero((records.steady > 0).any(axis=0)):
        who = np.flatnonzero(records.steady[:, r] > 0)
        of = lambda x, who=who, r=r: _values(whole(x)[..., who, r], q)
        vector = lambda x, of=of: tuple(
            np.stack(parts, axis=1) for parts in zip(*map(of, np.moveaxis(x, -1, 0)), strict=True)
        )
        inputs = np.zeros_like(doses.jump) if doses.inputs is None else doses.inputs
        duration = np.zeros((1, 1)) if doses.duration is None else doses.duration
        series = _Series(
            equations,
            psi[who, min(r, psi.shape[1] - 1)],
            records.time[who, r],
            vector(doses.jump),
            vector(inputs),
            of(duration),
        )
        x, slopes = series.solve(records.interval[who, r])
        shift, given = of(np.atleast_2d(phase)), begun[..., who, r]
        given = given[0] if given.ndim > 1 else given
        x, slopes = series.run(x, slopes, *shift, given)
        state[..., who, r, :] = x
        if with_slopes:
            state[:, who, r, :] += (1j * STEP) * np.moveaxis(slopes[..., :q], -1, 0)
    left = [] if doses.inputs is None else running_infusions(records, doses, phase, begun)
    return state, left


def _values(x, q):
    """Real values (B,) and slopes (B, q)."""
    if x.ndim == 1:
        return x.real, np.zeros((len(x), q))
    return x[0].real, x.imag.T / STEP


class _Series:
    """Series of equal doses for B subjects: jump, inputs and duration with their slopes."""

    def __init__(self, equations, parameter, time, jump, inputs, duration):
        self.equations, self.parameter, self.time = equations, parameter, time
        self.jump, self.inputs, self.duration = jump, inputs, duration

    def run(self, state, slopes, span, by_span, given):
        """From phase 0 over `span`, the dose of phase 0 included where `given`.

        Slopes (B, S, q + S) are by the parameters and by the initial state.
        """
        B, S = state.shape
        q, nothing = self.parameter.shape[1], np.zeros_like(state)
        wide = lambda x: np.concatenate([x, np.zeros((*x.shape[:-1], S))], axis=-1)
        move = self.equations.move
        flow = lambda state, time: self.equations.at(time, state, self.parameter)
        state = state + self.jump[0] * given[:, None]
        slopes = slopes + wide(self.jump[1]) * given[:, None, None]
        inputs = self.inputs[0] * given[:, None]
        by_input = wide(self.inputs[1]) * given[:, None, None]
        first = np.minimum(span, self.duration[0])
        state, slopes = move(self.time, first, state, self.parameter, inputs, slopes, by_input)
        rest = span - first
        ended = (rest > 0)[:, None]
        slopes = slopes + np.einsum("bs,bp->bsp", inputs * ended, wide(self.duration[1]))
        none = np.zeros((B, S, q + S))
        then = self.time + first
        state, slopes = move(then, rest, state, self.parameter, nothing, slopes, none)
        speed = flow(state, then + rest) + np.where(ended, 0.0, inputs)
        return state, slopes + np.einsum("bs,bp->bsp", speed, wide(by_span))

    def solve(self, interval):
        """The state at phase 0 before the dose, and its slopes.

        Where more is given than can be eliminated there is none: then what `MOST` doses leave.
        """
        B, S = self.jump[0].shape
        q, I = self.parameter.shape[1], np.eye(S)
        start = np.concatenate([np.zeros((B, S, q)), np.tile(I, (B, 1, 1))], axis=-1)
        still, given = np.zeros((B, q)), np.ones(B, bool)
        x = np.zeros((B, S))
        for n in range(MOST):
            after, slopes = self.run(x, start, interval, still, given)
            gap = I - slopes[..., q:]
            lost = np.linalg.det(gap) < SINGULAR
            inverse = np.linalg.inv(np.where(lost[:, None, None], I, gap))
            newton = x + np.einsum("bij,bj->bi", inverse, after - x)
            change = np.abs(newton - x).max(axis=1) / (1.0 + np.abs(x).max(axis=1))
            better = (n >= PLAIN) & (newton >= 0).all(axis=1) & ~lost
            found = better & (change < CLOSE)
            x = np.where(better[:, None], newton, after)
            if found.all():
                break
        slopes = np.concatenate([inverse @ slopes[..., :q], np.zeros((B, S, S))], axis=-1)
        if not found.all():
            others, other_slopes = np.zeros((B, S)), np.zeros_like(start)
            for _ in range(MOST):
                others, other_slopes = self.run(others, other_slopes, interval, still, given)
            x = np.where(found[:, None], x, others)
            slopes = np.where(found[:, None, None], slopes, other_slopes)
        return x, slopes


def _check(records, doses):
    steady = records.steady > 0
    if (records.steady < 0).any():
        raise ValueError("a constant infusion for ever is not possible with differential equations")
    if doses.duration is not None and (steady & (doses.duration.real > records.interval)).any():
        raise ValueError(
            "an infusion at steady state that lasts longer than its interval is not possible with "
            "differential equations"
        )
    if doses.lag is not None and (steady & (doses.lag.real >= records.interval)).any():
        raise ValueError(
            "a lag time as long as the interval of doses at steady state is not possible with "
            "differential equations"
        )
