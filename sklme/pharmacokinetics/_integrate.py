"""Systems of differential equations for many subjects at once, with sensitivities.

Sensitivities s = dx/dp obey s' = (dg/dx) s + dg/dp beside x' = g(x, p).
"""

import itertools

import numpy as np
from scipy.integrate import odeint, solve_ivp

STEP = 1e-30  # the complex step
PATIENCE = 10_000  # calls of an explicit method before LSODA takes over
FAILED = "the differential equations could not be solved: "


class _Stiff(Exception):
    """An explicit method takes too many steps."""


class Equations:
    """x' = rhs(time, state, parameter) + input, for B subjects.

    Parameters
    ----------
    rhs : callable
        Of time (B,), state (S, B) and parameter (q, B); returns S arrays.
    derivatives : callable or None
        The same arguments; returns d rhs/d state (S, S, B) and d rhs/d parameter (S, q, B), as
        nested lists. None: by a complex step of `rhs`.
    stiff : bool
        LSODA, subject by subject, rather than an explicit method for all of them at once.
    rtol, atol : float
        Tolerances of a step.
    """

    def __init__(self, rhs, derivatives, stiff, rtol, atol):
        self.rhs, self.derivatives, self.stiff = rhs, derivatives, stiff
        self.rtol, self.atol = rtol, atol

    def value(self, time, state, parameter):
        """rhs as an array (S, ...)."""
        dtype = np.result_type(state, parameter)
        return _fill(self.rhs(time, state, parameter), state.shape, dtype)

    def at(self, time, state, parameter):
        """rhs (B, S) for state (B, S) and parameter (B, q)."""
        return self.value(time, state.T, parameter.T).T

    def slopes(self, time, state, parameter):
        """rhs (S, B), d rhs/d state (S, S, B) and d rhs/d parameter (S, q, B)."""
        S, q, B = len(state), len(parameter), state.shape[-1]
        if self.derivatives is not None:
            by_state, by_parameter = self.derivatives(time, state, parameter)
            by_state = _stack(by_state, (S, S, B))
            return self.value(time, state, parameter), by_state, _stack(by_parameter, (S, q, B))
        unit = (1j * STEP) * np.eye(S + q)[..., None]
        value = self.value(time, state[:, None] + unit[:S], parameter[:, None] + unit[S:])
        slope = value.imag / STEP
        return value[:, 0].real, slope[:, :S], slope[:, S:]

    def move(self, time, span, state, parameter, inputs, sensitivity=None, by_input=None):
        """State (B, S) and sensitivity (B, S, p) after `span` (B,) from `time` (B,) on.

        Parameters (B, q) and inputs (B, S) are constant; `by_input` (B, S, p) are the derivatives
        of the inputs. The first q of the p directions are the parameters, the others whatever.
        """
        B, S = state.shape
        p = 0 if sensitivity is None else sensitivity.shape[-1]
        y = state if p == 0 else np.concatenate([state, sensitivity.reshape(B, -1)], axis=1)
        if not (span > 0).any():
            return state, sensitivity
        drive = None if p == 0 else by_input
        y = self._solve(y, time, span, parameter, inputs, drive)
        return y[:, :S], None if p == 0 else y[:, S:].reshape(B, S, p)

    def _solve(self, y, time, span, parameter, inputs, by_input):
        if not self.stiff:
            run = self._flow(time, span, parameter, inputs, by_input, PATIENCE)
            options = {"method": "DOP853", "rtol": self.rtol, "atol": self.atol}
            try:
                solution = solve_ivp(run, (0.0, 1.0), y.ravel(), **options)
                if solution.success:
                    return solution.y[:, -1].reshape(y.shape)
            except _Stiff:
                pass
        y = y.copy()
        for i in np.flatnonzero(span > 0):
            one = slice(i, i + 1)
            drive = None if by_input is None else by_input[one]
            y[i] = self._lsoda(time[one], span[one], y[i], parameter[one], inputs[one], drive)
        return y

    def _lsoda(self, time, span, y, parameter, inputs, by_input):
        run = self._flow(time, span, parameter, inputs, by_input)
        result, info = odeint(
            run,
            y,
            [0.0, 1.0],
            tfirst=True,
            rtol=self.rtol,
            atol=self.atol,
            mxstep=20_000,
            full_output=True,
        )
        if info["message"] != "Integration successful.":
            raise ValueError(FAILED + info["message"])
        return result[-1]

    def _flow(self, time, span, parameter, inputs, by_input, patience=np.inf):
        """dy/ds for y of all subjects in one vector, s from 0 to 1 being the whole span."""
        B, S = inputs.shape
        values = np.ascontiguousarray(parameter.T)
        calls = itertools.count()

        def run(s, y):
            if next(calls) > patience:
                raise _Stiff
            y = y.reshape(B, -1)
            now, x = time + s * span, y[:, :S].T
            out = np.empty_like(y)
            if by_input is None:
                out[:] = self.value(now, x, values).T + inputs
            else:
                value, by_state, by_parameter = self.slopes(now, x, values)
                out[:, :S] = value.T + inputs
                sensitivity = y[:, S:].reshape(B, S, -1)
                change = np.einsum("ijb,bjp->bip", by_state, sensitivity) + by_input
                change[..., : by_parameter.shape[1]] += np.moveaxis(by_parameter, -1, 0)
                out[:, S:] = change.reshape(B, -1)
            return (out * span[:, None]).ravel()

        return run


def _fill(values, shape, dtype):
    out = np.empty(shape, dtype)
    if len(values) != len(out):
        raise ValueError(
            f"rhs must return as many derivatives as there are states, {len(out)}: it returns "
            f"{len(values)}"
        )
    for row, value in zip(out, values, strict=True):
        row[...] = value
    return out


def _stack(values, shape):
    out = np.empty(shape)
    for row, line in zip(out, values, strict=True):
        for cell, value in zip(row, line, strict=True):
            cell[...] = value
    return out
