"""A structure tried out where the search starts: what it gives, and whether complex steps work."""

import warnings

import numpy as np

from sklme.nonlinear.structure import FunctionStructure, called

STEP = 1e-6  # of a central difference, relative to the parameter
AGREE = 1e-4  # how closely a complex step must agree with it


def probe(specification, design, psi, error):
    """Call a structure where the search starts and see that it does what the engine needs.

    Raises
    ------
    ValueError
        If what it gives has a wrong shape, is no number, or not possible with the error.
    """
    with np.errstate(all="ignore"):
        f = np.asarray(design.structure(psi))
    if f.dtype.kind not in "fiub":
        raise ValueError(
            f"the structure gave values of type {f.dtype} for real parameters; they must be numbers"
        )
    _refuse_no_numbers(specification, design, psi, f)
    _refuse_no_variance(design, f, error)
    if isinstance(specification, FunctionStructure):
        _check_leading(specification, design.structure, psi, f)
        specification.complex_safe = all(
            _is_complex_safe(design.structure, at) for at in (psi, _moved(psi))
        )


def _refuse_no_numbers(specification, design, psi, f):
    bad = design.groups.mask & ~np.isfinite(f)
    if bad.any():
        i, j = np.argwhere(bad)[0]
        row = design.groups.index[i, j]
        values = psi[i, j if psi.shape[1] > 1 else 0]
        given = ", ".join(
            f"{n}={v:.4g}" for n, v in zip(specification.parameter_names, values, strict=True)
        )
        raise ValueError(
            f"the structure gave {f[i, j]} for {design.groups.describe(row)} in row {row} with "
            f"{given}: start from other values, Parameter(initial=...)"
        )


def _refuse_no_variance(design, f, error):
    """A proportional error needs predictions that are not zero, a lognormal one positive ones."""
    seen = design.groups.mask & ~_censored(design)
    wrong = {"proportional": seen & (f == 0), "lognormal": seen & (f <= 0)}.get(error)
    if wrong is not None and wrong.any():
        i, j = np.argwhere(wrong)[0]
        row = design.groups.index[i, j]
        raise ValueError(
            f"the structure predicts {f[i, j]:g} for {design.groups.describe(row)} in row {row}, "
            f"which is not possible with a {error} error: leave out such rows, or take "
            "error='combined'"
        )


def _censored(design):
    censored = design.rows.censored
    return False if censored is None else censored[design.groups.index]


def _moved(psi):
    return psi * 1.1


def _check_leading(specification, structure, psi, f):
    """Chains of parameters along a first axis must give what each gives alone."""
    with np.errstate(all="ignore"):
        both = structure(np.stack([psi, _moved(psi)]))
        alone = np.stack([f, structure(_moved(psi))])
    if not np.allclose(both, alone, rtol=1e-6, equal_nan=True):
        raise ValueError(
            f"the structure {called(specification.function)} must work like numpy's functions, "
            "element by element: several sets of parameters at once gave other values than one "
            "after the other"
        )


def _is_complex_safe(structure, psi):
    """Whether complex steps give the derivatives that central differences give."""
    for k in range(psi.shape[-1]):
        size = np.maximum(np.abs(psi[..., k]), 1e-3)
        step, tiny = np.zeros_like(psi), np.zeros(psi.shape, complex)
        step[..., k], tiny[..., k] = STEP * size, 1j * 1e-30 * size
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                exact = np.imag(structure(psi + tiny)) / 1e-30
        except Exception:  # whatever a function for real numbers does with complex ones
            return False
        with np.errstate(all="ignore"):
            high, low = structure(psi + step), structure(psi - step)
        about = (high - low) / (2.0 * STEP)
        noise = 1e-8 * np.maximum(np.abs(high), np.abs(low))
        good = np.isfinite(about)
        scale = AGREE * np.abs(about[good]).max(initial=0.0) + noise[good]
        if not (np.abs(exact - about)[good] <= scale).all():
            return False
    return True
