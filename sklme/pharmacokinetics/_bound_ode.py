"""Differential equations bound to subjects, their samples and their doses."""

from dataclasses import dataclass, replace

import numpy as np

from sklme.pharmacokinetics._events import list_events, read_doses
from sklme.pharmacokinetics._integrate import STEP, Equations
from sklme.pharmacokinetics._merge import merge_samples, rows_of_records
from sklme.pharmacokinetics._periodic import steady_states


@dataclass(frozen=True)
class Description:
    """What a model says.

    equations : Equations
    initial : callable, parameter (q, B) to the S states before the first dose; None for 0
    output : callable, state (S, B) and parameter (q, B) to f (B,); None for the first state
    lag, bioavailability : positions of these parameters, or None
    n_states : S
    """

    equations: Equations
    initial: object
    output: object
    lag: int | None
    bioavailability: int | None
    n_states: int

    def start(self, parameter, with_slopes):
        """State (B, S) before the first dose and its derivatives (B, S, q)."""
        S, (B, q) = self.n_states, parameter.shape
        state = np.zeros((S, q, B), complex)
        if self.initial is not None:
            values = self.initial(parameter.T[:, None] + _shifts(q))
            for row, value in zip(state, values, strict=True):
                row[...] = value
        slopes = np.moveaxis(state.imag, 1, 2).swapaxes(0, 1) / STEP
        return state[:, 0].real.T, slopes if with_slopes else None

    def observe(self, state, parameter, sensitivity):
        """f (B,) and df/dpsi (B, q)."""
        if self.output is None:
            return state[:, 0], None if sensitivity is None else sensitivity[:, 0]
        if sensitivity is None:
            return self.output(state.T, parameter.T), None
        S, q = state.shape[1], parameter.shape[1]
        unit = _shifts(S + q)
        f = self.output(state.T[:, None] + unit[:S], parameter.T[:, None] + unit[S:])
        slope = np.broadcast_to(f, (S + q, len(state))).imag / STEP
        own = np.einsum("sb,bsq->bq", slope[:S], sensitivity) + slope[S:].T
        return np.broadcast_to(f, slope.shape)[0].real, own


def _shifts(n):
    return (1j * STEP) * np.eye(n)[..., None]


class BoundODE:
    """f = structure(psi) for parameters that are constant within a subject, or that vary by row.

    Parameters
    ----------
    description : Description
        The model.
    records : Records
        The doses, and the samples in order of time.
    order : (N, n)
        Positions of the samples in order of time.
    """

    complex_safe = False
    local = False

    def __init__(self, description, records, order):
        self.description, self.records, self.order = description, records, order
        self.back = np.argsort(order, axis=1, kind="stable")

    def __call__(self, psi, subjects=None):
        """f (..., subjects, n) of psi (..., subjects, 1 or n, q)."""
        return self._solve(np.asarray(psi, float), subjects, False)[0]

    def jacobian(self, psi, subjects=None):
        """f and df/dpsi (..., subjects, n, q) of psi (..., subjects, 1, q)."""
        psi = np.asarray(psi, float)
        if psi.shape[-2] != 1:
            raise ValueError("jacobian needs parameters that are constant within a subject")
        return self._solve(psi, subjects, True)

    def _solve(self, psi, subjects, with_slopes):
        """All leading axes are more subjects."""
        lead, (m, q) = psi.shape[:-2], psi.shape[-2:]
        chosen = np.arange(len(self.order)) if subjects is None else np.asarray(subjects)
        chosen = np.tile(chosen, int(np.prod(lead[:-1], dtype=int)))
        psi = psi.reshape(-1, m, q)
        if m > 1:
            psi = np.take_along_axis(psi, self.order[chosen][..., None], axis=1)
        back = self.back[chosen]
        f, slopes = solve(self.description, psi, self.records.take(chosen), with_slopes)
        f = np.take_along_axis(f, back, axis=1).reshape(*lead, -1)
        if with_slopes:
            slopes = np.take_along_axis(slopes, back[..., None], axis=1).reshape(*f.shape, q)
        return f, slopes


def solve(description, psi, records, with_slopes):
    """f (B, n) for psi (B, 1 or n, q), and df/dpsi (B, n, q) or None.

    Where an event moves by dt/dpsi, the state after it has the sensitivity
    s+ = keep s- + djump + (keep x'- - x'+) dt (Rozenvasser 1967, "General sensitivity equations of
    discontinuous systems", Automation and Remote Control).
    """
    varies, q = psi.shape[1] > 1, psi.shape[-1]
    line = _find_line(description, psi, records, with_slopes)
    if varies:
        psi = np.take_along_axis(psi, line.rules[..., None], axis=1)
    start, jump = _with_slopes(line.start, 2, q), _with_slopes(line.jump, 3, q)
    change = line.jump * 0.0 if line.change is None else line.change
    change = _with_slopes(change, 3, q)
    keep = np.ones(start[0].shape) if line.keep is None else line.keep
    state, sensitivity = description.start(psi[:, 0], with_slopes)
    inputs, by_input = np.zeros_like(state), np.zeros((*state.shape, q))
    move, value = description.equations.move, description.equations.at
    now, f, slopes = start[0][:, 0], [], []
    for p in range(start[0].shape[1]):
        then, own = start[0][:, p], psi[:, p if varies else 0]
        state, sensitivity = move(now, then - now, state, own, inputs, sensitivity, by_input)
        seen, by_psi = description.observe(state, own, sensitivity)
        f.append(seen)
        slopes.append(by_psi)
        stays = keep[:, p, None]
        before, inputs_before = state, inputs
        state, inputs = stays * state + jump[0][:, p], stays * inputs + change[0][:, p]
        if with_slopes:
            delta = stays * (value(then, before, own) + inputs_before)
            delta = delta - value(then, state, own) - inputs
            sensitivity = stays[..., None] * sensitivity + jump[1][:, p]
            sensitivity = sensitivity + delta[..., None] * start[1][:, p, None]
            by_input = stays[..., None] * by_input + change[1][:, p]
        now = then
    f = np.take_along_axis(np.stack(f, axis=1), line.place, axis=1)
    if not with_slopes:
        return f, None
    return f, np.take_along_axis(np.stack(slopes, axis=1), line.place[..., None], axis=1)


def _find_line(description, psi, records, with_slopes):
    """Events and samples; with slopes, the events carry complex steps along a first axis."""
    S, q = description.n_states, psi.shape[-1]
    if psi.shape[1] > 1:
        psi = np.take_along_axis(psi, rows_of_records(records)[..., None], axis=1)
    shifted = psi + (1j * STEP) * np.eye(q)[:, None, None] if with_slopes else psi
    pick = lambda j: None if j is None else shifted[..., j]
    doses = read_doses(
        records, S, np.arange(S), pick(description.bioavailability), pick(description.lag)
    )
    state, left = np.zeros(1), []
    if records.steady.any():
        state, left = steady_states(description.equations, psi, records, doses, with_slopes)
    line = merge_samples(list_events(records, doses, state, left), records)
    first = lambda x: x if x is None or x.ndim == 2 else x[0]
    return replace(line, keep=first(line.keep), rules=first(line.rules), place=first(line.place))


def _with_slopes(values, n_axes, q):
    """Real values, and their slopes along complex steps, with the parameter as last axis."""
    if values.ndim == n_axes:
        return values.real, np.zeros((*values.shape, q))
    return values[0].real, np.moveaxis(values.imag, 0, -1) / STEP
