"""SAEM against exact maxima, exact conditional distributions, and published estimates."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_nonlinear import Structure, identity_design, parameters, theophylline
from reference_warfarin import warfarin
from scipy.stats import truncnorm

from sklme._engine.nlme.centred import centre
from sklme._engine.nlme.data import Data
from sklme._engine.nlme.fit import fit
from sklme._engine.nlme.importance import sample_likelihood
from sklme._engine.nlme.markov import Chains, Spread, Target, around_modes, begin
from sklme._engine.nlme.methods import Method
from sklme._engine.nlme.parameters import Block, Pattern, search
from sklme._engine.nlme.saem import Kernels, saem
from sklme._engine.nlme.sufficient import Step, _errors

pytestmark = pytest.mark.slow  # the estimator's own tests run SAEM in any case

START = parameters(np.log([1.5, 2.7, 31.0]), [0.3, 0.1, 0.05], [0.7])
FAR = parameters(np.log([0.5, 5.0, 60.0]), [1.0, 1.0, 1.0], [2.0])
# The maximum of the likelihood of `theophylline()` by quadrature with 15^3 nodes: log ka, log
# clearance, log volume, logarithms of the standard deviations and of sigma. `NOISE`: standard
# deviations of one run over seeds.
EXACT = [0.459302, 1.011667, 3.453850, -0.451817, -1.327384, -1.995383, -0.362534]
SHORT = {"n_explore": 120, "n_smooth": 150, "n_draws": 50}
NOISE = np.array([0.002, 0.001, 0.0008, 0.008, 0.012, 0.022, 0.002])


def straight(n_subjects=30, *, seed=0, error="additive"):
    """Lines with a random intercept and slope: everything about them is known exactly."""
    rng = np.random.default_rng(seed)
    t = np.tile(np.linspace(-1.0, 1.0, 6), (n_subjects, 1))
    formula = lambda psi, t: psi[0] + psi[1] * t
    one = identity_design(n_subjects, 2)
    eta = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.4], [0.4, 0.5]], n_subjects)
    y = 5.0 + eta[:, :1] + (2.0 + eta[:, 1:]) * t + 0.5 * rng.standard_normal(t.shape)
    mask = rng.random(t.shape) < 0.9
    return Data(Structure(formula, t), y, mask, one, one.copy(), ("identity",) * 2, (error,))


LINES = parameters([4.0, 1.0], [2.0, 1.0], [1.0])
FULL = parameters([4.0, 1.0], [[2.0, 0.1], [0.1, 1.0]], [1.0])


def decay(*, varying=False):
    """Exponential decay in two occasions, whose rates differ; optionally a covariate by row."""
    rng = np.random.default_rng(1)
    N, occasion = 40, np.repeat([0, 1], 4)
    t = np.tile([0.5, 1.0, 2.0, 4.0] * 2, (N, 1))
    B, C = np.zeros((N, 8, 2, 4)), np.zeros((N, 8, 2, 3))
    B[:, :, 0, 0] = B[:, :, 1, 1] = C[:, :, 0, 0] = C[:, :, 1, 1] = 1.0
    B[:, :4, 0, 2] = B[:, 4:, 0, 3] = 1.0
    C[:, :, 0, 2] = rng.standard_normal((N, 8)) if varying else occasion
    eta = rng.standard_normal((N, 4)) * [0.3, 0.2, 0.25, 0.25]
    formula = lambda psi, t: psi[1] * np.exp(-psi[0] * t)
    if varying:
        B, eta = B[..., :2], eta[:, :2]
    phi = C @ np.array([np.log(0.4), np.log(10.0), 0.2]) + (B @ eta[:, None, :, None])[..., 0]
    y = formula(np.moveaxis(np.exp(phi), -1, 0), t) * (1.0 + 0.1 * rng.standard_normal(t.shape))
    structure = Structure(formula, t, local=True)
    return Data(structure, y, np.ones(y.shape, bool), C, B, ("exp",) * 2, ("proportional",))


def posterior(data, at):
    """Mean and covariance of eta of each subject of `straight`."""
    means, covariances = [], []
    for i in range(data.n_subjects):
        t = data.structure.arrays[0][i][data.mask[i]]
        A = np.column_stack([np.ones_like(t), t])
        covariance = np.linalg.inv(np.linalg.inv(at.Omega) + A.T @ A / at.sigma[0] ** 2)
        residual = data.y[i][data.mask[i]] - A @ at.beta
        means.append(covariance @ A.T @ residual / at.sigma[0] ** 2)
        covariances.append(covariance)
    return np.array(means), np.array(covariances)


def test_theophylline_from_a_far_start():
    found = saem(theophylline(), FAR, Pattern.diagonal(3), random_state=1)
    assert found.converged and found.message == "converged"
    assert np.abs(found.movement).max() < 0.2
    exact = np.array(EXACT)
    assert (np.abs(found.search.pack(found.parameters) - exact) < 5.0 * NOISE).all()
    assert found.trace.shape == (found.n_explore + found.n_smooth, 7)


def test_ten_seeds_of_theophylline_have_the_exact_maximum_as_their_mean():
    data, pattern = theophylline(), Pattern.diagonal(3)
    exact = fit(data, START, pattern, method=Method("agq", n_nodes=15))
    assert_allclose(exact.theta, EXACT, atol=2e-5)
    theta = np.array([saem(data, FAR, pattern, random_state=s).theta for s in range(10)])
    error = theta.std(axis=0, ddof=1) / np.sqrt(10)
    assert (np.abs(theta.mean(axis=0) - exact.theta) < 3.0 * error).all()
    assert (theta.std(axis=0, ddof=1) < 2.0 * NOISE).all()


@pytest.mark.parametrize("start, pattern", [(LINES, Pattern.diagonal(2)), (FULL, Pattern.full(2))])
def test_lines_have_the_exact_maximum_and_conditional_distributions(start, pattern):
    data = straight()
    exact = fit(data, start, pattern, method="fo")
    found = saem(data, start, pattern, random_state=0)
    assert found.converged
    assert_allclose(found.theta, exact.theta, atol=0.03)
    assert_allclose(found.parameters.beta, exact.parameters.beta, atol=5e-3)
    mean, covariance = posterior(data, found.parameters)
    assert_allclose(found.eta, mean, atol=0.06)
    assert_allclose(found.covariance, covariance, atol=0.03)


@pytest.mark.parametrize(
    "kernels",
    [Kernels(2, 0, 0), Kernels(0, 2, 0), Kernels(0, 0, 3), Kernels(0, 0, 0, 1)],
    ids=["population", "each", "block", "modes"],
)
def test_every_kernel_leaves_the_conditional_distribution_as_it_is(kernels):
    data, at = straight(5), FULL
    target = Target(centre(data, search(at, Pattern.full(2))), at)
    chains = begin(target, 40, np.random.default_rng(0))
    chains.around = around_modes(target) if kernels.modes else None
    for _ in range(100):
        chains.sweep(kernels.times)
    chains.adapting = False
    spread = Spread(np.zeros((5, 2)), np.zeros((5, 2, 2)))
    for k in range(1, 401):
        chains.sweep(kernels.times)
        spread.update(chains.z - target.mean, 1.0 / k)
    mean, covariance = posterior(data, at)
    size = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert (np.abs(spread.center - mean) < 0.1 * size).all()
    ratio = spread.covariance / (size[:, :, None] * size[:, None])
    assert_allclose(ratio, covariance / (size[:, :, None] * size[:, None]), atol=0.08)


def test_acceptance_settles_near_the_rate_wanted():
    data = theophylline()
    target = Target(centre(data, search(START, Pattern.diagonal(3))), START)
    chains = begin(target, 10, np.random.default_rng(0))
    rates = []
    original = Chains._accept

    def counted(self, *args):
        rates.append(original(self, *args))
        return rates[-1]

    chains._accept = counted.__get__(chains)
    for _ in range(200):
        chains.sweep((0, 1, 0))
    assert_allclose(np.reshape(rates, (200, 3))[50:].mean(axis=0), 0.4, atol=0.05)


def test_proposals_around_the_modes_do_not_change_the_estimate():
    found = saem(
        theophylline(),
        START,
        Pattern.diagonal(3),
        kernels=Kernels(modes=60),
        random_state=3,
        **SHORT,
    )
    assert found.converged
    assert (np.abs(found.theta - EXACT) < 5.0 * NOISE).all()


@pytest.mark.parametrize(
    "case, error, start",
    [
        ("combined", "combined", [0.3, 0.1]),
        ("combined1", "combined1", [0.3, 0.1]),
        ("proportional", "proportional", [0.3]),
        ("censored", "additive", [0.7]),
        ("censored", "combined", [0.5, 0.1]),
    ],
)
def test_kinds_of_error(case, error, start):
    """The maximum by quadrature, within the noise of one run."""
    data = theophylline(error, without_start=error == "proportional")
    if case == "censored":
        low = (data.y < 3.0) & data.mask
        data = replace(data, y=np.where(low, 3.0, data.y), censored=low)
    start = replace(START, sigma=np.array(start))
    exact = fit(data, start, Pattern.diagonal(3), method=Method("agq", n_nodes=7))
    found = saem(data, start, Pattern.diagonal(3), **SHORT)
    assert found.converged
    n_sigma = len(start.sigma)
    assert_allclose(found.theta[:3], exact.theta[:3], atol=0.008)
    assert_allclose(found.theta[3:6], exact.theta[3:6], atol=0.1)
    noise = 0.01 if n_sigma == 1 else 0.12 if case == "censored" else 0.03
    assert_allclose(found.theta[6:], exact.theta[6:], atol=noise)


def test_lognormal_errors_are_additive_ones_of_logarithms():
    data = theophylline("lognormal", without_start=True)
    y = np.where(data.mask, np.log(np.where(data.mask, data.y, 1.0)), 0.0)
    floor = lambda f: np.log(np.where(np.real(f) > 0, f, 1e-100))
    inner = data.structure.formula
    logarithm = Structure(lambda psi, *a: floor(inner(psi, *a)), *data.structure.arrays)
    additive = replace(data, structure=logarithm, y=y, errors=("additive",))
    options = {"n_explore": 40, "n_smooth": 30, "n_draws": 10, "random_state": 5}
    start = replace(START, sigma=np.array([0.3]))
    one, other = (saem(d, start, Pattern.diagonal(3), **options) for d in (data, additive))
    assert_allclose(one.theta, other.theta, rtol=1e-6)


def test_draws_below_the_limit_are_of_the_truncated_distribution():
    data = theophylline()
    low = (data.y < 3.0) & data.mask
    data = replace(data, y=np.where(low, 3.0, data.y), censored=low)
    f, R = np.full((4000, *data.y.shape), 3.5), np.full(data.y.shape, 0.64)
    e = _errors(data, f, R, np.random.default_rng(0))
    expected = truncnorm(-np.inf, -0.5 / 0.8, loc=0.0, scale=0.8)
    assert (e[:, low] < -0.5).all()
    assert_allclose(e[:, low].mean(), expected.mean(), atol=0.005)
    assert_allclose(e[:, low].std(), expected.std(), atol=0.005)
    assert_array_equal(e[0][~low], (data.response - 3.5)[~low])


@pytest.mark.parametrize("smooth", [True, False])
def test_a_parameter_without_effects(smooth):
    """The elimination rate is the same in everyone, so that its coefficient is in the offset."""
    data = theophylline()
    data = replace(data, B=data.B[..., [0, 2]])
    start = parameters(START.beta, [0.3, 0.05], [0.7])
    exact = fit(data, start, Pattern.diagonal(2), method=Method("agq", n_nodes=9))
    found = saem(data, start, Pattern.diagonal(2), smooth=smooth, **SHORT)
    assert_allclose(found.theta, exact.theta, atol=0.02 if smooth else 0.06)
    assert_array_equal(centre(data, found.search).numeric, [False, True, False])


def test_what_is_fixed_stays():
    blocks = (Block(((0,),)), Block(((1,),), frozen=True), Block(((2,),)))
    data, options = theophylline(), {"fixed_beta": [False, True, False]}
    exact = fit(data, START, Pattern(blocks), method=Method("agq", n_nodes=7), **options)
    found = saem(data, START, Pattern(blocks), **SHORT, **options)
    assert found.parameters.beta[1] == START.beta[1]
    assert_allclose(found.parameters.Omega[1, 1], 0.1, rtol=1e-14)
    assert_allclose(found.theta, exact.theta, atol=0.08)
    still = saem(data, START, Pattern(blocks), fixed_sigma=[True], n_explore=5, n_smooth=5)
    assert_array_equal(still.parameters.sigma, START.sigma)


def test_a_variance_fixed_at_zero():
    start = replace(START, Omega=np.diag([0.3, 0.0, 0.05]))
    blocks = (Block(((0,),)), Block(((1,),), frozen=True), Block(((2,),)))
    options = {"n_explore": 40, "n_smooth": 30, "n_draws": 10}
    found = saem(theophylline(), start, Pattern(blocks), **options)
    without = replace(theophylline(), B=theophylline().B[..., [0, 2]])
    at = parameters(START.beta, [0.3, 0.05], [0.7])
    same = saem(without, at, Pattern.diagonal(2), **options)
    assert_allclose(found.theta, same.theta, rtol=1e-10)
    assert (found.eta[:, 1] == 0).all() and (found.covariance[:, 1] == 0).all()


def test_occasions_share_one_variance():
    data = decay()
    start = parameters([-1.0, 2.0, 0.0], [0.1] * 4, [0.2])
    pattern = Pattern.of((0,), (1,), ((2,), (3,)))
    exact = fit(data, start, pattern, method="laplace")
    found = saem(data, start, pattern, random_state=0)
    assert found.parameters.Omega[2, 2] == found.parameters.Omega[3, 3]
    assert_allclose(found.theta[:3], exact.theta[:3], atol=0.02)
    assert_allclose(found.theta[3:], exact.theta[3:], atol=0.1)


def test_a_covariate_that_varies_by_row():
    data = decay(varying=True)
    start = parameters([-1.0, 2.0, 0.0], [0.1, 0.1], [0.2])
    exact = fit(data, start, Pattern.diagonal(2), method=Method("agq", n_nodes=7))
    found = saem(data, start, Pattern.diagonal(2), **SHORT)
    assert found.converged
    assert_allclose(found.theta[:3], exact.theta[:3], atol=0.004)
    assert_allclose(found.theta[3:], exact.theta[3:], atol=0.03)
    assert_array_equal(centre(data, found.search).numeric, [False, False, True])


def test_coefficients_go_to_the_effects_of_all_rows():
    """The typical values shift the effects of the subject, not those of its occasions."""
    data = decay()
    start = parameters([-1.0, 2.0, 0.0], [0.1] * 4, [0.2])
    model = centre(data, search(start, Pattern.diagonal(4)))
    assert_array_equal(model.shifts, [True] * 3)
    assert_allclose(model.A[0][:, :2], np.eye(4)[:, :2], atol=1e-12)
    C = np.einsum("imqk,ikp->imqp", model.B, model.A)
    assert_allclose(C, data.C, atol=1e-12)


def test_the_shift_at_fixed_effects_leaves_the_other_moments_consistent():
    data = straight(8)
    model = centre(data, search(FULL, Pattern.full(2)))
    step, chains = Step(model), begin(Target(model, FULL), 3, np.random.default_rng(0))
    before = step.measure(chains)
    moved, moments, by = step.shift(FULL, before, before, 0.7)
    chains.z = chains.z + by
    chains.aim(Target(model, moved), moved=True)
    after = step.measure(chains)
    assert_allclose(moments.first, after.first)
    assert_allclose(moments.second, after.second)
    assert_allclose(chains.penalty, begin(Target(model, FULL), 3, np.random.default_rng(0)).penalty)


def test_the_step_at_fixed_effects_is_least_squares_of_lines():
    """For a linear model one full step is the least squares of y - B eta on C."""
    data = straight(8)
    model = centre(data, search(FULL, Pattern.full(2)))
    step, chains = Step(model), begin(Target(model, FULL), 1, np.random.default_rng(0))
    moments = step.measure(chains)
    moved, _, _ = step.shift(FULL, moments, moments, 1.0)
    t, mask = data.structure.arrays[0], data.mask
    eta = (chains.z - chains.target.mean)[0]
    rest = (data.y - eta[:, :1] - eta[:, 1:] * t)[mask]
    X = np.column_stack([np.ones(mask.sum()), t[mask]])
    full = np.linalg.lstsq(X, rest, rcond=None)[0]
    clipped = FULL.beta + np.clip(full - FULL.beta, -step.longest, step.longest)
    assert_allclose(moved.beta, clipped, rtol=1e-4)


def test_two_endpoints_have_their_own_errors():
    """With a linear model and additive errors FO is exact."""
    data = straight(error="additive")
    endpoint = np.tile([0, 0, 0, 1, 1, 1], (data.n_subjects, 1))
    y = data.y + np.where(
        endpoint, 0.3 * np.random.default_rng(3).standard_normal(data.y.shape), 0.0
    )
    data = replace(data, y=y, endpoint=endpoint, errors=("additive", "additive"))
    start = replace(LINES, sigma=np.array([1.0, 1.0]))
    exact = fit(data, start, Pattern.diagonal(2), method="fo")
    found = saem(data, start, Pattern.diagonal(2), **SHORT)
    assert_allclose(found.theta, exact.theta, atol=0.03)


def test_the_slopes_of_a_structure_are_used_where_it_has_them():
    """Of the parameters that a stepped coefficient moves, and in their order."""
    data = theophylline()
    plain = replace(data, C=data.C[..., [0, 2]], B=data.B[..., :2])
    at = parameters([0.4, 3.4], [0.3, 0.1], [0.7])

    class Own(Structure):
        def jacobian(self, psi, subjects=None):
            moved = psi[None] + 1e-30j * np.eye(3)[:, None, None, None].reshape(3, 1, 1, 1, 3)
            value = self(moved, subjects)
            return value.real[0], np.moveaxis(value.imag, 0, -1) / 1e-30

    own = replace(plain, structure=Own(data.structure.formula, *data.structure.arrays))
    moments = []
    for record in (plain, own):
        model = centre(record, search(at, Pattern.diagonal(2)))
        chains = begin(Target(model, at), 4, np.random.default_rng(0))
        moments.append(Step(model).measure(chains))
        assert_array_equal(model.numeric, [False, True])
    assert_allclose(moments[0].by_beta, moments[1].by_beta, rtol=1e-10)
    assert_allclose(moments[0].beta_information, moments[1].beta_information, rtol=1e-10)


def test_the_seed_decides():
    options = {"n_explore": 20, "n_smooth": 10, "n_draws": 5}
    data, pattern = theophylline(), Pattern.diagonal(3)
    one = saem(data, START, pattern, random_state=4, **options)
    generator = np.random.default_rng(4)
    assert_array_equal(one.trace, saem(data, START, pattern, random_state=4, **options).trace)
    assert_array_equal(
        one.trace, saem(data, START, pattern, random_state=generator, **options).trace
    )
    other = saem(data, START, pattern, random_state=5, **options)
    assert np.abs(one.trace - other.trace).max() > 0


def test_a_start_where_absorption_and_elimination_have_changed_places():
    start = parameters([-1.46, -0.11, 2.62], [0.5, 1.0, 1.5], [1.0])
    found = saem(theophylline(), start, Pattern.diagonal(3), random_state=2)
    assert found.converged
    assert (np.abs(found.theta - EXACT) < 5.0 * NOISE).all()


def test_too_few_iterations_are_not_called_convergence():
    found = saem(theophylline(), FAR, Pattern.diagonal(3), n_explore=10, n_smooth=5)
    assert not found.converged
    assert "another step of EM moves" in found.message


def test_a_callback_may_stop_the_search():
    seen = []

    def progress(iteration, phase, parameters):
        seen.append((iteration, phase))
        return iteration == 12

    found = saem(
        theophylline(), START, Pattern.diagonal(3), n_explore=10, n_smooth=50, progress=progress
    )
    assert seen[0] == (1, "exploration") and seen[-1] == (12, "smoothing")
    assert len(found.trace) == 12 and not found.converged
    assert found.message == "stopped by the callback"


def test_a_start_without_likelihood_is_refused():
    data = theophylline()
    formula = data.structure.formula
    bad = Structure(lambda psi, *a: formula(psi, *a) * np.nan, *data.structure.arrays)
    with pytest.raises(ValueError, match="no draw from the start gives the rows of subject"):
        saem(replace(data, structure=bad), START, Pattern.diagonal(3))


def test_rows_predicted_to_be_zero_are_refused_where_the_error_is_proportional():
    start = replace(START, sigma=np.array([0.3]))
    with pytest.raises(ValueError, match="row 0 of subject number 0 is predicted to be zero"):
        saem(theophylline("proportional"), start, Pattern.diagonal(3))


def test_a_singular_start_is_refused():
    start = replace(LINES, Omega=np.ones((2, 2)))
    frozen = Pattern((Block(((0, 1),), frozen=True),))
    with pytest.raises(ValueError, match="Omega is not positive definite"):
        saem(straight(), start, frozen)


def test_no_effect_is_refused():
    data = theophylline()
    start = parameters(START.beta, np.zeros((0, 0)), [0.7])
    with pytest.raises(ValueError, match="SAEM needs an effect with a variance"):
        saem(replace(data, B=data.B[..., :0]), start, Pattern(()))


def test_the_likelihood_by_importance_sampling():
    data = straight()
    found = saem(data, FULL, Pattern.full(2), n_explore=100, n_smooth=100)
    sampled = sample_likelihood(found)
    point = Method("fo").point(data, found.parameters)
    exact = Method("fo").at(point, None, gradient=False).value
    assert (np.abs(sampled.values - exact) < 5.0 * sampled.errors).all()
    assert abs(sampled.value - exact.sum()) < 4.0 * sampled.error < 0.3
    assert (sampled.effective > 3000).all()


def test_warfarin_comes_near_monolix():
    """Monolix 2023R1 (monolix2rx, inst/cov/w1 and w2): lag, ka, V, Cl with standard errors
    .42, .57, .33, .0069; and with log(weight / 70) on V .899 (.14) and on Cl .595 (.253)."""
    start = parameters(np.log([1.0, 1.0, 10.0, 0.1]), [1.0] * 4, [1.0, 0.1])
    found = saem(warfarin(), start, Pattern.diagonal(4), random_state=0)
    at, error = found.parameters, [0.42, 0.57, 0.33, 0.0069]
    assert (np.abs(np.exp(at.beta) - [0.764, 1.46, 7.96, 0.132]) < 0.3 * np.array(error)).all()
    assert_allclose(np.sqrt(np.diag(at.Omega))[2:], [0.223, 0.286], atol=0.01)
    assert_allclose(np.sqrt(np.diag(at.Omega))[:2], [0.605, 1.08], atol=0.35)
    assert_allclose(at.sigma, [0.247, 0.0503], rtol=0.1)
    sampled = sample_likelihood(found, n_draws=20000)  # Monolix reports 657.36 +- .13 with its own
    assert abs(sampled.value + 247 * np.log(2.0 * np.pi) - 656.9) < 0.5
    start = replace(start, beta=np.append(start.beta, [0.0, 0.0]))
    weighed = saem(warfarin(weight=True), start, Pattern.diagonal(4), random_state=0)
    assert_allclose(weighed.parameters.beta[4:], [0.899, 0.595], atol=0.03)
