"""Linear compartment models bound to subjects, their samples and their doses."""

import numpy as np

from sklme.pharmacokinetics._constant import STEP, predict, predict_with_slopes
from sklme.pharmacokinetics._walk import propagate


class BoundCompartments:
    """f = structure(psi): what N subjects have at their n sample times.

    Parameters that are constant within a subject (m = 1) give f in closed form. Where they vary by
    row (m = n), the state is moved from event to event; the parameters of a row rule from the row
    before it up to itself, doses in between included.

    Parameters
    ----------
    read : callable
        psi (..., N, m, q) to an Individual.
    records : Records
        The doses, and the samples in order of time.
    order : (N, n)
        Positions of the samples in order of time.
    simple : bool
        Whether all doses go into the depot or the central compartment; others need the whole state.
    """

    complex_safe = True
    local = False

    def __init__(self, read, records, order, simple=True):
        self.read, self.records, self.simple = read, records, simple
        in_order = (order == np.arange(order.shape[1])).all()
        self.order = None if in_order else order
        self.back = None if in_order else np.argsort(order, axis=1, kind="stable")

    def __call__(self, psi, subjects=None):
        """f (..., subjects, n) of psi (..., subjects, 1 or n, q)."""
        psi = np.asarray(psi)
        records = self.records.take(subjects)
        if psi.shape[-2] == 1 and self.simple:
            return self._unsort(predict(self.read(psi), records), subjects)
        if psi.shape[-2] == 1:
            psi = np.repeat(psi, records.samples.shape[-1], axis=-2)
        elif self.order is not None:
            order = self.order if subjects is None else self.order[subjects]
            order = order.reshape((1,) * (psi.ndim - 3) + (*order.shape, 1))
            psi = np.take_along_axis(psi, order, axis=-2)
        return self._unsort(propagate(self.read(psi), records), subjects)

    def jacobian(self, psi, subjects=None):
        """f and df/dpsi (..., subjects, n, q) of psi (..., subjects, 1, q)."""
        psi = np.asarray(psi, float)
        if psi.shape[-2] != 1:
            raise ValueError("jacobian needs parameters that are constant within a subject")
        if self.simple:
            f, slopes = predict_with_slopes(self.read, psi, self.records.take(subjects))
            return self._unsort(f, subjects), self._unsort(slopes, subjects, 1)
        q = psi.shape[-1]
        f = self(psi + (1j * STEP) * np.eye(q).reshape(q, *[1] * (psi.ndim - 1), q), subjects)
        return f[0].real, np.moveaxis(f.imag, 0, -1) / STEP

    def _unsort(self, f, subjects, n_trailing=0):
        if self.back is None:
            return f
        back = self.back if subjects is None else self.back[subjects]
        back = back.reshape((1,) * (f.ndim - 2 - n_trailing) + back.shape + (1,) * n_trailing)
        return np.take_along_axis(f, back, axis=-1 - n_trailing)
