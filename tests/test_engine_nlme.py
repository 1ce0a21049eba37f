"""Nonlinear mixed models against NONMEM's published answers, exact integrals and brute force."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference_nonlinear import (
    DECAY_EXACT,
    DECAY_VALUES,
    NONMEM,
    NONMEM_EFFECTS,
    Structure,
    decay,
    identity_design,
    parameters,
    phenobarbital,
    theophylline,
    theophylline_nonmem,
)
from scipy.integrate import quad
from scipy.optimize import least_squares, minimize
from scipy.stats import multivariate_normal, norm

from sklme._engine.nlme.conditional import condition, residuals, shrinkage
from sklme._engine.nlme.data import Data
from sklme._engine.nlme.fit import fit
from sklme._engine.nlme.kinds import names
from sklme._engine.nlme.methods import METHODS, Method, Objective
from sklme._engine.nlme.modes import find_modes
from sklme._engine.nlme.parameters import Block, Pattern, factor, search
from sklme._engine.nlme.point import Point
from sklme._engine.nlme.sampling import importance_sampling
from sklme._engine.nlme.standard_errors import standard_errors

LOG_2PI = np.log(2.0 * np.pi)
THEOPHYLLINE_START = parameters(np.log([1.5, 2.7, 31.0]), [0.3, 0.1, 0.05], [0.7])
PHENOBARBITAL_START = parameters([np.log(0.005), 0.0, 0.1, 1.0], [0.05, 0.05], [0.15])


def objective(data, at, method, **options):
    """-2 log L of each subject."""
    method = Method(method, **options)
    return method.at(method.point(data, at), None, gradient=False).value


@pytest.fixture(scope="module")
def theophylline_fit():
    return fit(theophylline(), THEOPHYLLINE_START, Pattern.diagonal(3))


@pytest.fixture(scope="module")
def phenobarbital_fit():
    fixed = [False, False, False, True]
    return fit(phenobarbital(), PHENOBARBITAL_START, Pattern.diagonal(2), fixed_beta=fixed)


@pytest.mark.parametrize("error", DECAY_VALUES)
def test_values_of_wang(error):
    data, at = decay(error)
    values = [objective(data, at, method).sum() for method in ("focei", "foce", "fo")]
    assert_allclose(values, DECAY_VALUES[error], atol=6e-4)


@pytest.mark.parametrize("error", DECAY_EXACT)
def test_quadrature_becomes_exact_and_laplace_comes_near(error):
    data, at = decay(error)
    exact, laplace = DECAY_EXACT[error]
    assert_allclose(objective(data, at, "laplace").sum(), laplace, atol=6e-4)
    assert_allclose(objective(data, at, "agq", n_nodes=60).sum(), exact, atol=6e-5)


def test_values_of_quadrature_with_few_nodes():
    data, at = decay("proportional")
    values = [objective(data, at, "agq", n_nodes=n).sum() for n in (1, 3, 7)]
    assert_allclose(values, [39.4576, 39.3711, 39.3549], atol=6e-5)
    assert_allclose(values[0], objective(data, at, "focei").sum())
    one = objective(data, at, "agq", n_nodes=1, exact=True)
    assert_allclose(one, objective(data, at, "laplace"))


@pytest.mark.parametrize("method", NONMEM)
def test_nonmem(method):
    """The values NONMEM gives at the start and at the optimum, never above its own."""
    expected = NONMEM[method]
    pattern, start = expected["pattern"], expected["start"]
    data = theophylline_nonmem(expected["error"], n_effects=pattern.n_effects)
    rtol = 1e-5 if method == "laplace" else 1e-8  # of the printed digits
    assert_allclose(objective(data, start, method).sum(), expected["first"], rtol=rtol)
    found = fit(data, start, pattern, method=method)
    assert found.converged and found.message == "converged"
    assert_allclose(found.value, expected["value"], rtol=1e-6)
    assert found.value < expected["value"] + 1e-6
    rows, columns = np.tril_indices(pattern.n_effects)
    at = found.parameters
    assert_allclose(at.beta, expected["beta"], rtol=1e-3)
    assert_allclose(at.Omega[rows, columns], expected["Omega"], rtol=0.01, atol=5e-4)
    assert_allclose(at.sigma**2, expected["variance"], rtol=2e-3)
    if expected["errors"]:
        errors = standard_errors(found)
        assert_allclose(errors.errors[:4], expected["errors"], rtol=6e-3)


def test_nonmem_with_a_frozen_variance_that_moves_with_f():
    """FOCE with a combined error, the optimum that NONMEM reports."""
    data, start = theophylline_nonmem("combined"), NONMEM["focei"]["start"]
    found = fit(data, start, Pattern.diagonal(2), method="foce")
    assert_allclose(found.value, 102.87115848, rtol=1e-8)
    assert_allclose(found.parameters.beta, [3.9553, 0.082427, 0.039067, 3.2303], rtol=5e-4)


def test_modes_of_nonmem():
    expected = NONMEM["focei"]
    start, sigma = expected["start"], np.sqrt(expected["variance"])
    Omega = np.diag([expected["Omega"][0], expected["Omega"][2]])
    at = replace(start, beta=np.array(expected["beta"]), Omega=Omega, sigma=sigma)
    found = condition(theophylline_nonmem("combined"), at)
    assert found.converged.all()
    assert_allclose(found.eta, NONMEM_EFFECTS, atol=3e-4)


def test_theophylline(theophylline_fit):
    """nlmixr2 stops at 116.803781 (nlmixr2qual), pynlme's optimum agrees to its five digits."""
    found = theophylline_fit
    assert found.converged and found.decrement < 1e-7
    assert_allclose(found.value, 116.803413, atol=1e-6)
    assert_allclose(found.parameters.beta, [0.463883, 1.012158, 3.459745], atol=2e-6)
    variances = np.diag(found.parameters.Omega)
    assert_allclose(variances, [0.402356, 0.0690951, 0.0191596], rtol=1e-5)
    assert_allclose(found.parameters.sigma, 0.694409, atol=1e-6)
    assert np.abs(found.gradient).max() < 1e-3
    assert found.n_parameters == 7
    assert_allclose(found.minus2_log_likelihood, 116.803413 + 132 * LOG_2PI)


def test_theophylline_without_linearisation():
    """At nlmixr2's FOCEI estimates: quadrature as in 3, 5 and 9 nodes, sampling, Laplace."""
    beta, variances = [0.464451, 1.012047, 3.459973], [0.404625, 0.0687956, 0.0192223]
    data, at = theophylline(), parameters(beta, variances, [0.693839])
    values = [objective(data, at, "agq", n_nodes=n).sum() for n in (3, 5, 9)]
    assert_allclose(values, [118.1233, 118.1285, 118.1244], atol=6e-5)
    assert_allclose(objective(data, at, "laplace").sum(), 118.5304, atol=6e-5)
    assert_allclose(objective(data, at, "focei").sum(), 116.803779, atol=6e-6)
    sampled = importance_sampling(data, at, n_draws=4000)
    assert sampled.error < 0.06
    assert abs(sampled.value - 118.124) < 3.0 * sampled.error
    assert sampled.effective.min() > 2000


def test_phenobarbital(phenobarbital_fit):
    """NONMEM 7.5.1 (pharmpy's pheno_real): OFV, estimates, and the standard errors of the
    sandwich; those of R and of S alone are a prototype's."""
    found, one = phenobarbital_fit, np.exp(phenobarbital_fit.parameters.beta[:3])
    assert found.converged
    assert_allclose(found.value, 586.27605628, rtol=1e-8)
    assert_allclose([one[0], one[1], one[2] - 1.0], [0.00469555, 0.984258, 0.158920], rtol=2e-4)
    assert_allclose(np.diag(found.parameters.Omega), [0.0293508, 0.0279060], rtol=1e-4)
    sigma = found.parameters.sigma[0]
    assert_allclose(sigma**2, 0.0132410, rtol=1e-4)
    natural = np.array([*one, 1.0, 1.0, 2.0 * sigma])
    expected = {
        "sandwich": [2.09967e-4, 0.0268946, 0.0837555, 0.0134156, 0.00747591, 0.00227991],
        "hessian": [2.0976e-4, 0.028047, 0.078237, np.nan, np.nan, np.nan],
        "outer": [2.2062e-4, 0.032773, 0.075140, np.nan, np.nan, np.nan],
    }
    for kind, values in expected.items():
        errors = standard_errors(found, kind)
        assert errors.message == "" and errors.decrement < 1e-7
        known = np.isfinite(values)
        assert_allclose((errors.errors * natural)[known], np.array(values)[known], rtol=1e-3)
    assert errors.names[3:] == (("Omega", 0, 0), ("Omega", 1, 1), ("sigma", 0))
    assert errors.of("sigma", 0) == errors.errors[-1]


def linear(n_subjects=7, n=5):
    """y = phi_0 + phi_1 t, which is normal: every approximation is exact."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.random((n_subjects, n)), axis=1)
    structure = Structure(lambda psi, time: psi[0] + psi[1] * time, time)
    C = identity_design(n_subjects, 2)
    y = 1.0 + 2.0 * time + rng.standard_normal((n_subjects, 1)) + rng.standard_normal(time.shape)
    mask = rng.random(y.shape) < 0.8
    mask[:, 0] = True
    return Data(structure, y, mask, C, C.copy(), ("identity",) * 2), time


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_model_is_exact(method):
    data, time = linear()
    at = parameters([0.8, 1.7], [[1.0, 0.3], [0.3, 0.5]], [0.9])
    expected, log_dets = [], []
    for i, seen in enumerate(data.mask):
        Z = np.column_stack([np.ones(seen.sum()), time[i, seen]])
        V = Z @ at.Omega @ Z.T + 0.81 * np.eye(len(Z))
        density = multivariate_normal(Z @ at.beta, V).logpdf(data.y[i, seen])
        log_dets.append(np.linalg.slogdet(V)[1])
        expected.append(-2.0 * density - len(Z) * LOG_2PI)
    assert_allclose(objective(data, at, method), expected, rtol=1e-9)
    sampled = importance_sampling(data, at, n_draws=500)
    assert_allclose(sampled.values, expected, atol=6.0 * sampled.errors.max())
    eta = condition(data, at, method).eta
    whitened = residuals(data, at, eta).conditional
    total = np.nansum(whitened**2, axis=1) + log_dets
    assert_allclose(total, expected, rtol=1e-9)


def test_censored_rows_are_integrated():
    """M3 by quadrature is the integral of densities and probabilities."""
    data, at = decay("combined1")
    censored = data.y < 6.0
    data = replace(data, y=np.where(censored, 6.0, data.y), censored=censored)
    exact = objective(data, at, "agq", n_nodes=60)
    for i in range(10):
        time = np.array([0.0, 1.0])

        def density(eta, i=i, time=time):
            f = 10.0 * np.exp(-0.5 * np.exp(eta) * time)
            sd = at.sigma[0] + at.sigma[1] * f
            rows = np.where(censored[i], norm.cdf(6.0, f, sd), norm.pdf(data.y[i], f, sd))
            return rows.prod() * norm.pdf(eta, scale=0.2)

        seen = (~censored[i]).sum()
        integral = quad(density, -2, 2, epsabs=1e-13, points=[-0.2, 0.0, 0.2])[0]
        assert_allclose(exact[i], -2.0 * np.log(integral) - seen * LOG_2PI, atol=1e-5)
    assert_allclose(objective(data, at, "laplace").sum(), exact.sum(), atol=0.5)


def test_censoring_takes_away_the_bias():
    """Rows below the limit, treated as M3, give about the estimates of the full table."""
    full = theophylline("combined", without_start=True)
    start = replace(THEOPHYLLINE_START, sigma=np.array([0.5, 0.1]))
    censored = full.mask & (full.y < 2.0)
    part = replace(full, y=np.where(censored, 2.0, full.y), censored=censored)
    found, whole = (fit(d, start, Pattern.diagonal(3), method="laplace") for d in (part, full))
    assert censored.sum() > 5 and found.converged
    assert_allclose(found.parameters.beta, whole.parameters.beta, atol=0.1)


def test_occasions_equal_a_joint_covariance():
    """Effects of occasions with tied variances are effects with an equal diagonal in Omega."""
    data, _ = linear()
    late = np.arange(5) >= 2
    B = np.tile(np.eye(2, 4), (7, 5, 1, 1))
    B[:, ~late, 0, 2] = B[:, late, 0, 3] = 1.0
    structure = Structure(data.structure.formula, *data.structure.arrays, local=True)
    record = replace(data, structure=structure, B=B, C=np.tile(data.C, (1, 5, 1, 1)))
    start = parameters([0.8, 1.7], [1.0, 0.5, 0.4, 0.4], [0.9])
    pattern = Pattern.of((0,), (1,), ((2,), (3,)))
    found = fit(record, start, pattern, method="fo")
    Omega = found.parameters.Omega
    assert found.n_parameters == 6 and Omega[2, 2] == Omega[3, 3]
    X = np.stack([np.ones((7, 5)), data.structure.arrays[0]], axis=-1)

    def criterion(theta):
        sd = np.exp(theta[2:])
        total = 0.0
        for i, seen in enumerate(data.mask):
            same = late[:, None] == late
            V = sd[0] ** 2 + sd[1] ** 2 * np.outer(X[i, :, 1], X[i, :, 1]) + sd[2] ** 2 * same
            V = V + sd[3] ** 2 * np.eye(5)
            r = (data.y[i] - X[i] @ theta[:2])[seen]
            V = V[np.ix_(seen, seen)]
            total += np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
        return total

    best = minimize(criterion, np.r_[found.parameters.beta, np.zeros(4)], method="BFGS")
    assert_allclose(found.value, best.fun, atol=1e-5)


def test_without_effects_it_is_nonlinear_regression():
    data = replace(theophylline(), B=np.zeros((12, 1, 3, 0)))
    start = parameters(THEOPHYLLINE_START.beta, np.zeros((0, 0)), [1.0])
    residual = lambda beta: (data.y - data.structure(np.exp(np.tile(beta, (12, 1, 1))))).ravel()
    best = least_squares(residual, start.beta, xtol=1e-12)
    for method in METHODS:
        found = fit(data, start, Pattern(()), method=method)
        assert found.converged
        assert_allclose(found.parameters.beta, best.x, rtol=1e-5)
        assert_allclose(found.parameters.sigma[0] ** 2, 2.0 * best.cost / 132, rtol=1e-4)
    errors = standard_errors(found, "hessian").errors[:3]
    covariance = np.linalg.inv(best.jac.T @ best.jac) * 2.0 * best.cost / 132
    assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=0.05)  # that is Gauss-Newton's
    assert condition(data, found.parameters).eta.shape == (12, 0)


def without_volume_effect():
    """Simulated: theophylline if all subjects had one volume."""
    data, rng = theophylline(), np.random.default_rng(1)
    phi = np.array([0.4, 1.0, 3.4]) + np.array([0.5, 0.3, 0.0]) * rng.standard_normal((12, 1, 3))
    y = data.structure(np.exp(phi)) + 0.7 * rng.standard_normal(data.y.shape)
    return replace(data, y=y)


@pytest.mark.parametrize("method", ["focei", "laplace", "agq"])
def test_a_variance_of_zero(method):
    """It is found, named, and held when the standard errors are computed."""
    data = without_volume_effect()
    found = fit(data, THEOPHYLLINE_START, Pattern.diagonal(3), method=method)
    assert found.converged and found.at_zero == (2,)
    frozen = Pattern((Block(((0,),)), Block(((1,),)), Block(((2,),), frozen=True)))
    start = replace(THEOPHYLLINE_START, Omega=np.diag([0.3, 0.1, 0.0]))
    without = fit(data, start, frozen, method=method)
    assert_allclose(found.value, without.value, atol=1e-5)
    assert without.at_zero == () and without.parameters.Omega[2, 2] == 0.0
    one, other = standard_errors(found), standard_errors(without)
    assert np.isnan(one.of("Omega", 2, 2)) and one.message == ""
    kept = [k for k, name in enumerate(one.names) if name != ("Omega", 2, 2)]
    assert_allclose(one.errors[kept], other.errors, rtol=1e-3)


def test_a_singular_covariance():
    """An optimum where Omega has rank two: its factor loses an entry, no effect its variance."""
    data = without_volume_effect()
    found = fit(data, THEOPHYLLINE_START, Pattern.full(3))
    assert found.converged and found.at_zero == ()
    assert found.vanished.sum() == 1
    sizes = np.sqrt(np.diag(found.parameters.Omega))
    assert np.linalg.eigvalsh(found.parameters.Omega / np.outer(sizes, sizes))[0] < 1e-3
    errors = standard_errors(found)
    assert errors.message == "" and np.isfinite(errors.errors).all()


def test_modes_are_minima(theophylline_fit):
    point = Point(theophylline(), theophylline_fit.parameters)
    for i in (0, 5, 8):
        one = np.array([i])
        best = minimize(lambda u, i=one: point.criterion(u[None], i)[0], np.zeros(3), tol=1e-9)
        assert_allclose(theophylline_fit.u[i], best.x, atol=1e-4)


def test_modes_do_not_depend_on_where_they_are_searched_from(theophylline_fit):
    point = Point(theophylline(), theophylline_fit.parameters)
    plain, rng = find_modes(point), np.random.default_rng(0)
    for spread in (0.3, 1.0, 3.0):
        start = spread * rng.standard_normal(plain.u.shape)
        other = find_modes(point, start)
        assert other.converged.all()
        assert_allclose(other.u, plain.u, atol=1e-8)


def test_the_lower_of_two_modes():
    """f = phi^2 has a mode on either side; the one behind the hill is found too."""
    structure = Structure(lambda psi, one: psi[0] ** 2 * one, np.ones((3, 4)))
    y = np.array([[4.0] * 4, [9.0] * 4, [1.0] * 4])
    one = identity_design(3, 1)
    data = Data(structure, y, y > 0, one, one, ("identity",))
    point = Point(data, parameters([0.2], [9.0], [0.5]))
    side = np.full((3, 1), -1.0)
    stuck, thorough = find_modes(point, side), find_modes(point, side, thorough=True)
    assert (stuck.u < 0).all() and (thorough.u > 0).all()
    assert (thorough.value < stuck.value).all()


@pytest.mark.parametrize("method", ["focei", "laplace", "agq"])
def test_a_mode_that_is_about_to_vanish(method):
    """Where the curvature vanishes a search from elsewhere finds the mode that is left."""
    structure = Structure(lambda psi, one: psi[0] ** 2 * one, np.ones((2, 4)))
    one, y = identity_design(2, 1), np.ones((2, 4))
    data = Data(structure, y, y > 0, one, one, ("identity",))
    start = parameters([1.0], [1.0], [1.41])
    at = Objective(data, search(start, Pattern.diagonal(1)), Method(method))
    theta, behind = at.search.pack(start), np.full((2, 1), -1.8)
    point = at.point(theta)
    stuck = at.method.at(point, find_modes(point, behind), gradient=True)
    assert_array_equal(stuck.doubtful, [0, 1])
    assert (stuck.modes.u < -1.4).all()
    found = at.evaluate(theta, behind)
    assert_allclose(found.modes.u, 0.0, atol=1e-6)
    assert_allclose(found.value, at.evaluate(theta).value)


def test_new_subjects(theophylline_fit):
    """Subjects that are conditioned alone have the modes and values that they had in the fit."""
    data, found = theophylline(), theophylline_fit
    some = np.array([4, 2, 9, 4])
    alone = condition(data.take(some), found.parameters)
    assert_allclose(alone.eta, found.eta[some], atol=1e-8)
    assert_allclose(alone.value, found.values[some], atol=1e-8)
    assert_allclose(alone.psi[:, 0], np.exp(found.parameters.beta + alone.eta))
    assert_allclose(alone.covariance, alone.covariance.swapaxes(1, 2))
    assert (np.linalg.eigvalsh(alone.covariance) > 0).all()
    nothing = replace(data, mask=data.mask & (np.arange(11) < 1))
    prior = condition(nothing, found.parameters)  # the row at time 0 says nothing
    assert_allclose(prior.eta, 0.0, atol=1e-12)
    assert_allclose(prior.covariance, np.tile(found.parameters.Omega, (12, 1, 1)), rtol=1e-9)


def test_residuals_and_shrinkage(theophylline_fit):
    data, found = theophylline(), theophylline_fit
    rows = residuals(data, found.parameters, found.eta)
    f = data.structure(np.exp(found.parameters.beta + found.eta)[:, None])
    assert_allclose(rows.individual, f)
    assert_allclose(rows.weighted, (data.y - f) / found.parameters.sigma)
    assert_allclose(
        rows.population, data.structure(np.exp(np.tile(found.parameters.beta, (12, 1, 1))))
    )
    assert 0.9 < rows.conditional.std() < 1.1
    shrunk = shrinkage(found.parameters, found.eta, rows.weighted)
    sd = found.eta.std(axis=0, ddof=1) / np.sqrt(np.diag(found.parameters.Omega))
    assert_allclose(shrunk.eta, 1.0 - sd)
    assert_allclose(shrunk.eta_variance, 1.0 - sd**2)
    assert_allclose(shrunk.residual, 1.0 - rows.weighted.std(ddof=1))
    half = replace(data, censored=data.y < 3.0)
    assert_array_equal(
        np.isnan(residuals(half, found.parameters, found.eta).weighted), half.censored
    )


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**16))
def test_order_and_padding_do_not_matter(method, seed):
    """Subjects and rows in another order, more padding, and values that no row shows."""
    rng = np.random.default_rng(seed)
    data = phenobarbital()
    at = parameters([np.log(0.005), 0.0, 0.15, 1.0], [0.04, 0.03], [0.12])
    expected = objective(data, at, method)
    subjects, rows = rng.permutation(59), rng.permutation(6)
    amount, since = data.structure.arrays
    wider = np.r_[rows, 0, 0]
    mask = data.mask[:, wider] & (np.arange(8) < 6)
    other = replace(
        data,
        structure=Structure(data.structure.formula, amount[:, wider], since[:, wider]),
        y=np.where(mask, data.y[:, wider], np.nan),
        mask=mask,
    ).take(subjects)
    assert_allclose(objective(other, at, method), expected[subjects], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_units_do_not_matter(scale):
    """Concentrations in other units move the objective by a constant."""
    data = theophylline("combined", without_start=True)
    start = replace(THEOPHYLLINE_START, sigma=np.array([0.5, 0.1]))
    structure = Structure(
        lambda psi, *arrays: scale * data.structure.formula(psi, *arrays), *data.structure.arrays
    )
    other = replace(data, structure=structure, y=scale * data.y)
    moved = replace(start, sigma=start.sigma * [scale, 1.0])
    one, two = fit(data, start, Pattern.diagonal(3)), fit(other, moved, Pattern.diagonal(3))
    assert_allclose(two.value - one.value, 2.0 * data.n_observations * np.log(scale), atol=1e-6)
    assert_allclose(two.parameters.beta, one.parameters.beta, atol=1e-4)


def test_poor_starts_end_at_the_same_optimum(theophylline_fit):
    for beta, variance in (([0.0, 0.0, 2.0], 1.0), ([1.5, 2.0, 4.5], 0.01), ([0.4, 3.0, 3.0], 0.3)):
        start = parameters(beta, [variance] * 3, [2.0])
        found = fit(theophylline(), start, Pattern.diagonal(3), starts=("given", "pooled", "fo"))
        assert found.converged
        assert_allclose(found.value, theophylline_fit.value, atol=1e-5)


def test_several_starts_are_never_worse(theophylline_fit):
    found = fit(theophylline(), THEOPHYLLINE_START, Pattern.diagonal(3), n_starts=3, seed=1)
    assert found.value <= theophylline_fit.value + 1e-8
    assert found.n_evaluations > theophylline_fit.n_evaluations


def test_evaluations_are_few(theophylline_fit, phenobarbital_fit):
    """Scoring far away and exact gradients: the count that makes fits fast."""
    assert theophylline_fit.n_evaluations <= 14
    assert phenobarbital_fit.n_evaluations <= 14


def test_the_search_can_be_watched_and_stopped():
    seen = []

    def stop(iteration, value, decrement):
        seen.append(value)
        return iteration == 3

    def interrupt(iteration, value, decrement):
        if iteration == 2:
            raise KeyboardInterrupt

    arguments = (theophylline(), THEOPHYLLINE_START, Pattern.diagonal(3))
    stopped = fit(*arguments, progress=stop)
    assert not stopped.converged and stopped.message == "stopped by the callback"
    assert len(seen) == 3 and (np.diff(seen) < 0).all()
    interrupted = fit(*arguments, progress=interrupt)
    assert not interrupted.converged and interrupted.message == "interrupted"
    short = fit(*arguments, max_iter=2)
    assert not short.converged and "max_iter" in short.message
    assert short.decrement > 1e-3 and np.abs(short.gradient).max() > 1e-2


def test_nothing_to_search():
    pattern = Pattern(tuple(Block(((k,),), frozen=True) for k in range(3)))
    found = fit(
        theophylline(), THEOPHYLLINE_START, pattern, fixed_beta=[True] * 3, fixed_sigma=[True]
    )
    assert found.converged and found.n_parameters == 0
    assert_allclose(found.values, objective(theophylline(), THEOPHYLLINE_START, "focei"))
    assert standard_errors(found).errors.shape == (0,)


def test_equal_seeds_give_equal_draws():
    data = theophylline()
    one, two, three = (
        importance_sampling(data, THEOPHYLLINE_START, n_draws=200, seed=s) for s in (1, 1, 2)
    )
    assert one.value == two.value != three.value
    assert abs(one.value - three.value) < 4.0 * np.hypot(one.error, three.error)


def test_patterns():
    pattern = Pattern.of((0, 1), ((2,), (3,)))
    assert pattern.n_effects == 4
    assert_array_equal(
        pattern.impose(np.arange(16.0).reshape(4, 4)),
        [[0, 1, 0, 0], [4, 5, 0, 0], [0, 0, 12.5, 0], [0, 0, 0, 12.5]],
    )
    Omega = np.array([[2.0, 1.0, 0, 0], [1.0, 3.0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 4.0]])
    found = search(parameters([1.0], Omega, [0.5]), pattern)
    back = found.unpack(found.pack(found.start))
    assert_allclose(back.Omega, Omega)
    assert_allclose(factor(np.ones((2, 2))), [[1.0, 0.0], [1.0, 0.0]])
    assert names(("combined", "lognormal")) == [
        (0, "additive"),
        (0, "proportional"),
        (1, "additive"),
    ]


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"links": ("exp", "log", "exp")}, "link must be one of exp, identity, expit"),
        ({"errors": ("normal",)}, "error must be one of additive, proportional"),
        ({"errors": ("lognormal",)}, "every y is above zero"),
        ({"y": np.full((12, 11), np.nan)}, "y of subject number 0 is not finite"),
        ({"mask": np.zeros((12, 11), bool)}, "subject number 0 has no observation"),
        ({"C": np.zeros((12, 2, 3, 3))}, r"C must be \(12, 1 or 11, 3, any\)"),
        ({"B": np.zeros((12, 11, 3, 3))}, "both vary by row"),
    ],
)
def test_records_that_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(theophylline(), **change)


@pytest.mark.parametrize(
    "start, pattern, options, sentence",
    [
        ({}, Pattern.diagonal(2), {}, "the pattern has 2 effects, and Omega 3"),
        ({"sigma": np.zeros(1)}, Pattern.diagonal(3), {}, "every start of sigma"),
        ({"sigma": np.ones(2)}, Pattern.diagonal(3), {}, r"sigma must have shape \(1,\)"),
        ({"Omega": np.diag([1.0, 0.0, 1.0])}, Pattern.diagonal(3), {}, "not positive definite"),
        ({}, Pattern.diagonal(3), {"method": "saem"}, "method must be one of fo, foce"),
        ({}, Pattern.diagonal(3), {"method": Method("agq", 90)}, "n_nodes must be from 1 to 58"),
        ({}, Pattern.diagonal(3), {"starts": ("zero",)}, "a start must be one of given, pooled"),
    ],
)
def test_fits_that_are_refused(start, pattern, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(theophylline(), replace(THEOPHYLLINE_START, **start), pattern, **options)


def test_other_refusals(theophylline_fit):
    with pytest.raises(ValueError, match="name each effect once"):
        Pattern.of((0, 1), (1,))
    with pytest.raises(ValueError, match="equally long"):
        Pattern.of(((0,), (1, 2)))
    with pytest.raises(ValueError, match="kind must be one of sandwich, hessian, outer"):
        standard_errors(theophylline_fit, "bread")
    censored = replace(theophylline(), censored=theophylline().y < 1)
    with pytest.raises(ValueError, match="'fo' is not possible with censored"):
        fit(censored, THEOPHYLLINE_START, Pattern.diagonal(3), method="fo")


def test_a_start_without_a_value():
    """What overflows at every start is said, with the subject."""
    structure = Structure(lambda psi, one: np.inf * one + 0.0 * psi[0], np.ones((3, 4)))
    one = identity_design(3, 1)
    data = Data(structure, np.ones((3, 4)), np.ones((3, 4), bool), one, one, ("exp",))
    with pytest.raises(ValueError, match="not finite at the start, first in subject number 0"):
        fit(data, parameters([0.2], [1.0], [0.5]), Pattern.diagonal(1))
    for method in ("focei", "agq"):
        found = condition(data, parameters([0.2], [1.0], [0.5]), method)
        assert not found.converged.any() and np.isinf(found.value).all()


@pytest.mark.parametrize("error", ["proportional", "lognormal"])
def test_a_row_without_variance(error):
    """At time 0 nothing is absorbed yet."""
    data = theophylline()
    data = replace(data, y=np.maximum(data.y, 0.1), errors=(error,))
    with pytest.raises(ValueError, match="row 0 of subject number 0 is predicted to be zero"):
        fit(data, THEOPHYLLINE_START, Pattern.diagonal(3))


def test_values_do_not_depend_on_the_search_before(theophylline_fit):
    """The objective is a function of theta, whatever modes it is started from."""
    found = search(THEOPHYLLINE_START, Pattern.diagonal(3))
    at, rng = Objective(theophylline(), found, Method("focei")), np.random.default_rng(0)
    theta = theophylline_fit.theta + 0.3 * rng.standard_normal(7)
    cold = at.look(theta)
    for u in (theophylline_fit.u, 2.0 * rng.standard_normal((12, 3))):
        warm = at.look(theta, u)
        assert_allclose(warm.value, cold.value, atol=1e-8)
        assert_allclose(warm.gradient, cold.gradient, atol=1e-6)
