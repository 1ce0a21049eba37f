"""Where searches of nonlinear mixed models start."""

import numpy as np
from numpy.testing import assert_allclose
from scipy.optimize import least_squares

from sklme.nonlinear import NonlinearMixedModel
from sklme.nonlinear._least_squares import minimize_squares
from sklme.pharmacokinetics import Dosing, TwoCompartment


def curve(x, t):
    """Two exponentials with rates exp(x) (k, 2)."""
    return np.exp(-np.exp(x[:, :1]) * t) + 0.5 * np.exp(-np.exp(x[:, 1:]) * t)


def test_least_squares_from_many_starts():
    """Each search ends where scipy's does."""
    t, rng = np.linspace(0.0, 5.0, 40), np.random.default_rng(0)
    y = curve(np.array([[0.3, -2.0]]), t)[0] + 0.02 * rng.standard_normal(40)
    residuals = lambda x: curve(x, t) - y

    def derive(x):
        h = 1e-6
        ends = [residuals(x + h * step) - residuals(x - h * step) for step in np.eye(2)]
        return residuals(x), np.stack(ends, axis=-1) / (2.0 * h)

    starts = np.array([0.3, -2.0]) + 0.7 * rng.standard_normal((6, 2))
    x, loss = minimize_squares(residuals, derive, starts)
    for k, start in enumerate(starts):
        best = least_squares(lambda x: residuals(x[None])[0], start, xtol=1e-12)
        assert_allclose(loss[k], 2.0 * best.cost, rtol=1e-5)
        assert_allclose(x[k], best.x, atol=1e-2)
    exact = lambda x: curve(x, t) - curve(np.array([[0.3, -2.0]]), t)
    other = lambda x: (exact(x), derive(x)[1])
    assert (minimize_squares(exact, other, starts)[1] < 1e-20).all()


def test_least_squares_stand_still_where_nothing_changes():
    """A parameter without effect stays, steps are bounded, no number is no progress."""
    fixed = lambda x: np.where(np.abs(x[:, :1]) < 3.0, x[:, :1] - 2.0, np.nan)
    derive = lambda x: (fixed(x), np.array([[[1.0, 0.0]]]).repeat(len(x), axis=0))
    x, loss = minimize_squares(fixed, derive, np.array([[-2.0, 7.0], [5.0, 1.0]]), longest=0.5)
    assert_allclose(x, [[2.0, 7.0], [5.0, 1.0]], atol=1e-6)
    assert loss[0] < 1e-10 and np.isinf(loss[1])


def test_two_compartments_are_found_without_initial_values():
    """Rates and volumes over several orders of magnitude, none of which runs off to 0."""
    rng = np.random.default_rng(1)
    subjects, time = np.repeat(np.arange(20), 10), np.tile(0.5 * 1.9 ** np.arange(10), 20)
    dosing = Dosing(np.arange(20), amount=np.tile([1e4, 6e4], 10))
    bound = TwoCompartment().bind(np.arange(20), time.reshape(20, 10), dosing)
    psi = np.exp(np.log([4.0, 70.0, 4.0, 50.0]) + 0.3 * rng.standard_normal((20, 1, 4)))
    y = (bound(psi) * np.exp(0.1 * rng.standard_normal((20, 10)))).ravel()
    model = NonlinearMixedModel(
        TwoCompartment(),
        group=0,
        time=1,
        error="proportional",
        dosing=dosing,
        standard_errors=None,
    ).fit(np.column_stack([subjects, time]), y)
    assert model.converged_
    assert_allclose(model.coef_, np.log(psi).mean(axis=(0, 1)), atol=0.15)
