"""The linear mixed model of the engine: criterion, derivatives, solution, search and limits."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from dense import Dense
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_engine_gram import full_X, identity_frame, problems, structure

from sklme._engine import crossed, lmm, newton, single, small, start
from sklme._engine import problem as problem_module
from sklme._engine.alike import condense
from sklme._engine.covariance import Charts, Structure
from sklme._engine.design import Design, Factor
from sklme._engine.dof import coefficient_covariance
from sklme._engine.gram import frame_of, gram, output
from sklme._engine.identify import unidentified
from sklme._engine.problem import make_problem
from sklme._engine.records import Evaluation
from sklme._engine.selected import posterior_blocks, score_products
from sklme._engine.sweep import factorise
from sklme._engine.system import System
from sklme._engine.units import coefficients, level_effects, relative_factors
from sklme.datasets import load_orthodont

# ---------------------------------------------------------- criterion, derivatives and solution


def evaluators(problem):
    """Every implementation that can take the problem: theta -> Evaluation of all responses."""
    whole, charts = problem.gram, problem.charts
    which = np.arange(whole.n_outputs)
    out = []
    if len(whole.factors) == 1:
        evaluate = single.criterion(whole, charts, reml=problem.reml)
        out.append(lambda theta: evaluate(theta, which))
    if whole.n_outputs == 1:
        sweep = crossed.criterion(System(whole), charts, reml=problem.reml)
        out.append(lambda theta: sweep(theta, which))
        whole_matrix = small.SmallProblem(whole, problem.reml).criterion(charts)
        out.append(lambda theta: whole_matrix(theta, which))
    return out


@contextmanager
def small_problems(allowed):
    """Whether few effects in all go into one matrix, or through the path of many."""
    with pytest.MonkeyPatch.context() as patch:
        if not allowed:
            patch.setattr(small, "MOST", -1)
        yield


BOTH = pytest.mark.parametrize("allowed", [True, False])


def differences(f, theta, h=2e-3):
    """Central differences of order six, (m, ...)."""
    rows = []
    for step in np.eye(len(theta)) * h:
        d1, d2, d3 = (f(theta + j * step) - f(theta - j * step) for j in (1, 2, 3))
        rows.append((45 * d1 - 9 * d2 + d3) / (60 * h))
    return np.array(rows)


@settings(max_examples=100)
@given(problems())
def test_the_criterion_and_its_gradient_are_the_oracles(problem):
    dense, (Lambdas, structures) = problem.dense(), (problem.Lambdas, problem.structures)
    slopes_of = [dense.gradient(t, L[0]) for t, L in enumerate(Lambdas)]
    expected = np.concatenate(
        [np.einsum("ab,mab->m", g, s.basis) for g, s in zip(slopes_of, structures, strict=True)]
    )
    for evaluate in evaluators(problem):
        at = evaluate(problem.theta)
        assert_allclose(at.value[0], dense.criterion + problem.log_weights(), rtol=1e-9)
        scale = np.maximum(1, np.abs(expected))
        assert_allclose(at.gradient[0] / scale, expected / scale, rtol=0, atol=1e-7)


@settings(max_examples=15)
@given(problems())
def test_the_gradient_is_the_difference_of_the_criterion(problem):
    for evaluate in evaluators(problem):
        expected = differences(lambda theta: evaluate(theta[None]).value[0], problem.theta[0])  # noqa: B023
        found = evaluate(problem.theta).gradient[0]
        scale = np.maximum(1, np.abs(expected))
        assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-6)


@settings(max_examples=40)
@given(problems(n_outputs=2, factors=(1, 1)))
def test_observed_is_the_exact_hessian_of_one_factor(problem):
    (evaluate,) = evaluators(problem)
    at = evaluate(problem.theta)
    for r in range(2):
        theta = np.array([problem.theta[r], problem.theta[r]])
        expected = differences(
            lambda t: evaluate(np.broadcast_to(t, theta.shape)).gradient[r],  # noqa: B023
            problem.theta[r],
        )
        scale = np.abs(expected).max() + 1
        assert_allclose(at.observed[r] / scale, expected / scale, rtol=0, atol=1e-5)
        assert_allclose(at.average[r], at.average[r].T, rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(problems(n_outputs=1))
def test_observed_is_the_exact_hessian_of_few_effects(problem):
    evaluate = small.SmallProblem(problem.gram, problem.reml).criterion(problem.charts)
    which, theta = np.arange(1), problem.theta[0]
    expected = differences(lambda t: evaluate(t[None], which).gradient[0], theta)
    found = evaluate(problem.theta, which).observed[0]
    scale = np.abs(expected).max() + 1
    assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-5)


@BOTH
@settings(max_examples=60)
@given(problem=problems())
def test_beta_effects_and_their_covariance_are_the_oracles(allowed, problem):
    dense, whole = problem.dense(), problem.gram
    with small_problems(allowed):
        solver = make_problem(whole, problem.structures, problem.reml)
    found = solver.solve(problem.Lambdas)
    for b, again in zip(found.effects, solver.effects(problem.Lambdas, found.beta), strict=True):
        assert_allclose(b, again, rtol=1e-8, atol=1e-9 * (1 + np.abs(b).max()))
    atol = 1e-9 * (1 + np.abs(dense.y).max())
    assert_allclose(found.beta[0], dense.beta, rtol=1e-8, atol=atol)
    assert_allclose(found.xvx[0], dense.XtHX, rtol=1e-9, atol=1e-10)
    assert_allclose(found.rss[0], dense.r2, rtol=1e-9)
    assert_allclose(
        found.log_det[0],
        np.linalg.slogdet(dense.H)[1] + problem.log_weights(),
        rtol=1e-9,
        atol=1e-10,
    )
    for b, expected in zip(found.effects, dense.blups(), strict=True):
        assert_allclose(b[:, 0].T, expected, rtol=1e-8, atol=atol)
    at = factorise(System(whole), [L[0] for L in problem.Lambdas])
    parts = dense.conditional_covariance()
    for Phi, expected in zip(posterior_blocks(at), parts, strict=True):
        assert_allclose(np.moveaxis(Phi, 2, 0), expected / dense.sigma2, rtol=1e-8, atol=1e-10)
    for t, (S, term) in enumerate(zip(score_products(at), dense.terms, strict=True)):
        Z = level_columns(term)
        expected = np.einsum("gia,ij,gjb->ab", Z, dense.H_inv, Z)
        assert_allclose(S, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max(), err_msg=t)


def level_columns(term):
    """Z of each level, (n_levels, n, k)."""
    return (term.codes == np.arange(term.n_levels)[:, None])[:, :, None] * term.Z


@settings(max_examples=25)
@given(problems(n_outputs=2, factors=(1, 1)))
def test_levels_may_be_taken_in_pieces(problem):
    (evaluate,) = evaluators(problem)
    expected = evaluate(problem.theta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "LEVELS", 3)
        found = evaluate(problem.theta)
        solved = single.solution(problem.gram, problem.Lambdas, reml=problem.reml, latest={})
    plain = single.solution(problem.gram, problem.Lambdas, reml=problem.reml, latest={})
    for name in ("value", "gradient", "average", "observed"):
        one, other = getattr(found, name), getattr(expected, name)
        assert_allclose(one, other, rtol=1e-9, atol=1e-9 * (1 + np.abs(other).max()), err_msg=name)
    assert_allclose(solved.effects[0], plain.effects[0], rtol=1e-9, atol=1e-11)


@settings(max_examples=25)
@given(problems(n_outputs=2, factors=(1, 2)))
def test_the_equations_of_the_start_may_take_levels_in_pieces(problem):
    free = [start._free(s) for s in problem.structures]
    ends = np.cumsum([1, *(len(rows) for rows, _ in free)])
    places = [slice(i, j) for i, j in pairwise(ends)]
    whole = start._equations(problem.gram, free, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "PIECE", 3)
        found = start._equations(problem.gram, free, places)
    for one, other in zip(found, whole, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-11 * np.abs(other).max())


@settings(max_examples=25)
@given(problems(n_outputs=3, factors=(1, 2)), st.booleans())
def test_several_responses_are_the_loop_over_them(problem, in_chunks):
    """Also when each response is a chunk of its own."""
    whole, structures = problem.gram, problem.structures
    with pytest.MonkeyPatch.context() as patch:
        if in_chunks:
            patch.setattr(single, "CHUNK", 1)
        at = [f(problem.theta) for f in evaluators(problem)]
        together = make_problem(whole, structures, problem.reml).solve(problem.Lambdas)
    for r in range(3):
        one = replace(problem, y=problem.y[:, [r]], theta=problem.theta[[r]])
        alone = make_problem(output(whole, r), structures, problem.reml).solve(one.Lambdas)
        for name in ("beta", "xvx", "rss", "log_det"):
            found, expected = getattr(together, name)[r], getattr(alone, name)[0]
            assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
        for b, expected in zip(together.effects, alone.effects, strict=True):
            assert_allclose(b[:, r], expected[:, 0], rtol=1e-10, atol=1e-10)
        for found in at:
            expected = evaluators(one)[0](one.theta)
            for name in ("value", "gradient", "average", "observed"):
                a, b = getattr(found, name)[r], getattr(expected, name)[0]
                assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.abs(b).max()))


# ------------------------------------------------------------------------------ the search


class FakeCharts:
    """theta without a covariance behind it: there is no better chart."""

    def reorder(self, theta, which):
        return theta, np.zeros(len(theta), bool)


class Function:
    """An analytic function as a criterion; it counts the points of every response."""

    def __init__(self, value, gradient, hessian, average=None):
        self.parts = value, gradient, hessian, average or hessian
        self.counts = np.zeros(9, int)

    def __call__(self, theta, which):
        self.counts[: which.max() + 1] += np.bincount(which)
        value, gradient, hessian, average = (
            np.array([f(t) for t in theta], float) for f in self.parts
        )
        return Evaluation(value, gradient, average, hessian, np.full(len(theta), 1e-14))


def minimise(function, start, tol=1e-8, max_iter=100, **options):
    start = np.array(start, float)
    everyone, options = np.arange(len(start)), {"tol": tol, "max_iter": max_iter, **options}
    found = newton.minimise(function, FakeCharts(), everyone, start, **options)
    assert np.array_equal(found[1].n_evaluations, function.counts[: len(everyone)])
    return found


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_quadratic_is_solved_in_two_evaluations(scale):
    A, centre = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([0.3, -0.8])
    D = np.diag([1.0, scale])
    H = D @ A @ D
    target = np.linalg.solve(D, centre)
    quadratic = Function(
        lambda t: 0.5 * (t - target) @ H @ (t - target), lambda t: H @ (t - target), lambda t: H
    )
    theta, record = minimise(quadratic, [[1.0, -0.5 / scale]])
    assert_allclose(theta[0], target, rtol=1e-8)
    assert record.converged[0] and record.n_evaluations[0] == 2
    assert_allclose(record.gradient_norm, 0, atol=1e-8 * scale)


def test_the_decrement_is_the_distance_in_standard_errors():
    H = np.array([[9.0, 2.0], [2.0, 1.0]])
    quadratic = Function(lambda t: 0.5 * t @ H @ t, lambda t: H @ t, lambda t: H)
    theta, record = minimise(quadratic, [[0.2, 0.1]], max_iter=0)
    assert np.array_equal(theta, [[0.2, 0.1]])
    assert_allclose(record.decrement, np.sqrt(theta[0] @ H @ theta[0]), rtol=1e-10)
    assert not record.converged[0]


def rosenbrock():
    return Function(
        lambda t: (1 - t[0]) ** 2 + 100 * (t[1] - t[0] ** 2) ** 2,
        lambda t: [
            -2 * (1 - t[0]) - 400 * t[0] * (t[1] - t[0] ** 2),
            200 * (t[1] - t[0] ** 2),
        ],
        lambda t: [
            [2 - 400 * (t[1] - 3 * t[0] ** 2), -400 * t[0]],
            [-400 * t[0], 200.0],
        ],
    )


def test_rosenbrock_from_several_places_at_once():
    starts = [[-1.2, 1.0], [2.0, -3.0], [1.0, 1.0], [0.0, 0.0]]
    theta, record = minimise(rosenbrock(), starts)
    assert_allclose(theta, 1, rtol=1e-7)
    assert record.converged.all()
    assert record.n_evaluations[2] == 1  # one is there from the start, and costs nothing more
    assert record.n_evaluations.max() < 60


def double_well():
    """Minima at +-1, a saddle at zero: a variance of zero that wants to leave."""
    return Function(
        lambda t: (t[0] ** 2 - 1) ** 2 + t[1] ** 2,
        lambda t: [4 * t[0] * (t[0] ** 2 - 1), 2 * t[1]],
        lambda t: [[12 * t[0] ** 2 - 4, 0.0], [0.0, 2.0]],
    )


def test_a_saddle_point_is_left_although_its_gradient_is_zero():
    theta, record = minimise(double_well(), [[0.0, 0.5], [0.0, 0.0]])
    assert_allclose(np.abs(theta[:, 0]), 1, rtol=1e-6)
    assert_allclose(theta[:, 1], 0, atol=1e-7)
    assert record.converged.all()


def test_a_saddle_point_is_never_reported_as_an_optimum():
    _, record = minimise(double_well(), [[0.0, 0.0]], max_iter=0)
    assert record.gradient_norm[0] == 0 and not record.converged[0]


def test_values_that_are_not_finite_are_backed_off():
    """-log t - log(3 - t) with a Hessian much too small: the first full steps land outside."""

    def inside(f):
        return lambda t: f(t[0]) if 0 < t[0] < 3 else np.nan * np.ones(np.shape(f(1.0)))

    barrier = Function(
        inside(lambda x: -np.log(3 - x) - np.log(x)),
        inside(lambda x: np.array([1 / (3 - x) - 1 / x])),
        inside(lambda x: np.array([[1 / (3 - x) ** 2 + 1 / x**2]])),
        average=inside(lambda x: np.array([[0.05]])),  # steps that are much too long
    )
    theta, record = minimise(barrier, [[0.4]])
    assert_allclose(theta, 1.5, rtol=1e-6)
    assert record.converged[0]


def test_learning_repairs_an_inexact_hessian():
    H, wrong = np.array([[5.0, 1.0], [1.0, 2.0]]), np.array([[9.0, 0.0], [0.0, 4.0]])
    curve = lambda t: 0.5 * t @ H @ t + 0.05 * (t**4).sum()
    slope = lambda t: H @ t + 0.2 * t**3
    start, tol = [[0.5, -0.4]], 1e-9
    plain = minimise(Function(curve, slope, lambda t: wrong), start, tol)[1]
    learnt = minimise(Function(curve, slope, lambda t: wrong), start, tol, learn=True)[1]
    assert learnt.converged[0] and plain.converged[0]
    assert learnt.n_evaluations[0] < plain.n_evaluations[0]


@pytest.mark.parametrize("length, taken", [(0.005, True), (0.5, False)])
def test_only_a_short_step_is_taken_unseen(length, taken):
    """Along a flat direction a step may be long although the decrement is small."""
    at = Evaluation(*(np.zeros((1, 1)) for _ in range(5)))
    args = np.zeros(1, int), np.ones((1, 1)), at, np.ones(1, int), np.array([1e-5])
    state = newton._State(*args, np.zeros(1, bool), np.zeros((1, 1, 1)))
    allowed, before = np.ones(1, bool), np.ones(1)
    newton._take_last_steps(state, np.arange(1), np.array([[length]]), before, 1e-8, allowed)
    assert state.converged[0] == taken
    assert_allclose(state.theta, 1.0 + length * taken)
    assert_allclose(state.decrement, 1e-10 if taken else 1e-5)


def orthodont(at):
    """The crosslevel model of the Orthodont data, with its search starting elsewhere."""
    frame = load_orthodont(as_frame=True).frame
    age, girl = frame["age"].to_numpy(float), frame["Sex"].eq("Female").to_numpy(float)
    codes = np.unique(frame["Subject"].astype(str), return_inverse=True)[1]
    z = np.column_stack([np.ones(len(age)), (age - age.mean()) / age.std()])
    design = Design(np.column_stack([age, girl, age * girl]), (Factor(codes, 27, z),))
    y = frame["distance"].to_numpy(float)[:, None]
    problem = make_problem(
        gram(design, y, identity_frame(design, y)), (structure("full", 2),), False
    )
    charts, start = Charts(problem.structures, 1), np.array([at], float)
    evaluate = single.criterion(problem.grams[0], charts, reml=False)
    options = {"tol": 1e-8, "max_iter": 100}
    return newton.minimise(evaluate, charts, np.arange(1), start, **options), evaluate


@pytest.mark.parametrize("at", [[1, 0, 1], [1, 0.1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
def test_the_trap_of_the_orthodont_data_is_left(at):
    """A second variance of zero is a stationary point at 428.3023; the optimum is 427.8060."""
    (theta, record), evaluate = orthodont(at)
    assert_allclose(evaluate(theta, np.arange(1)).value, 427.8060, atol=5e-5)
    assert record.converged[0]


# ------------------------------------------------------------- many responses, levels alike


def repeated(k, n_outputs=9):
    """Levels of three or five rows, whose slopes take the same values in all levels of a size."""
    rng = np.random.default_rng(k)
    codes = np.concatenate([np.repeat(np.arange(20), 3), np.repeat(20 + np.arange(15), 5)])
    place = np.concatenate([np.tile(np.arange(3), 20), np.tile(np.arange(5), 15)])
    z = np.column_stack([np.ones(135), place, place**2])[:, :k]
    X = np.column_stack([place, rng.normal(size=135)])
    Y = rng.normal(size=(135, n_outputs)) + rng.normal(size=(35, n_outputs))[codes]
    return Design(X, (Factor(codes, 35, z),)), Y


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_levels_of_equal_products_are_condensed_without_loss(k, reml):
    design, Y = repeated(k)
    charts, which = Charts((structure("full", k),), 9), np.arange(9)
    whole = gram(design, Y, identity_frame(design, Y))
    few = condense(whole)
    assert few.factors[0].n_levels < 0.7 * 35 and few.factors[0].counts.sum() == 35
    theta = np.random.default_rng(0).normal(size=(9, k * (k + 1) // 2))
    at = single.criterion(whole, charts, reml=reml)(theta, which)
    again = single.criterion(few, charts, reml=reml)(theta, which)
    for name in ("value", "gradient", "average", "observed"):
        one, other = getattr(at, name), getattr(again, name)
        assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(one).max(), err_msg=name)


@pytest.mark.parametrize("k", [1, 2])
def test_condensed_levels_give_the_same_fit(k, monkeypatch):
    design, Y = repeated(k)
    found = lmm.fit(design, Y, (structure("full", k),))
    monkeypatch.setattr(problem_module, "MANY", 99)
    plain = lmm.fit(design, Y, (structure("full", k),))
    assert_allclose(found.criterion, plain.criterion, rtol=1e-11)
    assert_allclose(found.beta, plain.beta, rtol=1e-6, atol=1e-8)
    assert_allclose(found.effects[0], plain.effects[0], rtol=1e-5, atol=1e-6)


def test_condensed_levels_without_fixed_effects():
    design, Y = repeated(1)
    design = replace(design, X=design.X[:, :0], intercept=False)
    whole = gram(design, Y, identity_frame(design, Y))
    few, which, theta = condense(whole), np.arange(9), np.full((9, 1), 0.7)
    assert few.factors[0].n_levels < 35
    one, other = (
        single.criterion(g, Charts((FULL[1],), 9), reml=True)(theta, which) for g in (whole, few)
    )
    assert_allclose(one.value, other.value, rtol=1e-10)
    assert_allclose(one.gradient, other.gradient, rtol=1e-8, atol=1e-9)


def test_levels_that_differ_are_left_alone():
    design, Y = repeated(2)
    z = design.factors[0].z * np.random.default_rng(0).uniform(1, 2, size=(135, 1))
    design = replace(design, factors=(replace(design.factors[0], z=z),))
    whole = gram(design, Y, identity_frame(design, Y))
    assert condense(whole) is whole


# --------------------------------------------------------------------------------- the fit

UNSATURATED = problems(special=("none",))


def has_room(problem):
    """Fewer effects than rows, random and fixed, so that something is left for the residuals."""
    effects = sum(f.k * f.n_levels for f in problem.design.factors)
    return effects + 6 < problem.design.n_rows  # at most four fixed effects


def fitted(problem, allowed):
    options = {"reml": problem.reml, "precision": problem.precision}
    with small_problems(allowed):
        return lmm.fit(problem.design, problem.y, problem.structures, **options)


@BOTH
@settings(max_examples=60)
@given(problem=UNSATURATED.filter(has_room))
def test_a_fit_is_the_oracle_at_its_theta(allowed, problem):
    design, found = problem.design, fitted(problem, allowed)
    assert found.optimization.converged[0]
    terms = [
        (f.codes, f.n_levels, f.z, L[0] @ L[0].T)
        for f, L in zip(design.factors, relative_factors(found), strict=True)
    ]
    kind = "precision" if problem.precision else "frequency"
    X, y, weights = full_X(design)[:, found.columns], problem.y[:, 0], design.weights
    dense = Dense(X, y, terms, weights, kind, problem.reml)
    assert_allclose(found.criterion[0], dense.criterion, rtol=1e-8)
    intercept, coefficient = coefficients(found)
    beta = np.append(intercept, coefficient[0])[0 if design.intercept else 1 :]
    atol = 1e-7 * (1 + np.abs(y).max())
    assert_allclose(beta[found.columns], dense.beta, rtol=1e-6, atol=atol)
    assert_allclose(found.s2 * found.frame.y_scale**2, dense.sigma2, rtol=1e-7)
    covariance = coefficient_covariance(found)[found.columns][:, found.columns]
    assert_allclose(covariance, dense.beta_covariance, rtol=1e-6, atol=1e-9)
    for b, expected in zip(level_effects(found), dense.blups(), strict=True):
        assert_allclose(b[0], expected, rtol=1e-6, atol=atol)


@BOTH
@settings(max_examples=30)
@given(problem=UNSATURATED.filter(has_room), seed=st.integers(0, 2**32 - 1))
def test_no_theta_nearby_is_better(allowed, problem, seed):
    found = fitted(problem, allowed)
    whole = replace(found.gram, total=found.nu + (found.columns.sum() if found.reml else 0))
    at = replace(problem, structures=found.structures, theta=np.zeros((1, 0)))
    evaluate = crossed.criterion(System(whole), at.charts, reml=problem.reml)
    theta = at.charts.theta([L.copy() for L in found.Lambdas], np.arange(1))
    best = evaluate(theta, np.arange(1)).value[0]
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-2):
        for _ in range(5):
            other = evaluate(theta + size * rng.normal(size=theta.shape), np.arange(1)).value[0]
            assert other > best - 1e-6


@BOTH
@settings(max_examples=30)
@given(problem=UNSATURATED.filter(has_room))
def test_the_last_step_needs_no_evaluation(allowed, problem):
    """Its decrement is bounded by the steps before; here it is measured."""
    found = fitted(problem, allowed)
    record = found.optimization
    assume(any(s.n_theta for s in found.structures))
    whole = replace(found.gram, total=found.nu + (found.columns.sum() if found.reml else 0))
    at = replace(problem, structures=found.structures, theta=np.zeros((1, 0)))
    evaluate = small.SmallProblem(whole, problem.reml).criterion(at.charts)
    theta = at.charts.theta([L.copy() for L in found.Lambdas], np.arange(1))
    end = evaluate(theta, np.arange(1))
    g, H = end.gradient[0], end.observed[0]
    assert record.decrement[0] <= max(1e-8, 8 * np.sqrt(end.noise[0]))
    assert g @ np.linalg.pinv(H, rcond=1e-9) @ g <= (1e-6 + 8 * np.sqrt(end.noise[0])) ** 2


@settings(max_examples=30)
@given(problems(special=("none",)))
def test_the_criterion_at_a_given_theta(problem):
    structures = tuple(structure("full", s.k) for s in problem.structures)
    problem = replace(problem, structures=structures, theta=None)
    rng = np.random.default_rng(0)
    Lambdas = [np.tril(rng.normal(size=(s.k, s.k))) for s in structures]
    terms = [
        (f.codes, f.n_levels, f.z, L @ L.T)
        for f, L in zip(problem.design.factors, Lambdas, strict=True)
    ]
    kind = "precision" if problem.precision else "frequency"
    X, y, weights = full_X(problem.design), problem.y[:, 0], problem.design.weights
    expected = Dense(X, y, terms, weights, kind, problem.reml).criterion
    options = {"reml": problem.reml, "precision": problem.precision}
    found = lmm.criterion_at(problem.design, problem.y, Lambdas, **options)
    assert_allclose(found, expected, rtol=1e-9)


def one_way(seed=0, n=60, q=8, slope=0.0):
    """Rows of q levels with a random intercept, and a slope if wanted."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(q), rng.integers(0, q, n - q)])
    x = rng.normal(size=n)
    y = rng.normal(size=n) + 2 * rng.normal(size=q)[codes] + slope * x * rng.normal(size=q)[codes]
    return codes, x, y[:, None]


def ones(n):
    return np.ones((n, 1))


def design_of(factors, X=None, **options):
    """A design from (codes, z) pairs."""
    made = tuple(Factor(c, int(c.max()) + 1, np.asarray(z, float)) for c, z in factors)
    X = np.zeros((len(made[0].codes), 0)) if X is None else X
    return Design(X, made, **options)


FULL = {k: structure("full", k) for k in (1, 2, 3)}


@BOTH
@pytest.mark.parametrize("n_factors", [1, 2])
def test_outputs_of_one_fit_do_not_know_each_other(n_factors, allowed):
    """Among them one that is constant, one that is zero and one that is far away."""
    codes, x, y = one_way(slope=1.0)
    factors = [(codes, np.column_stack([ones(60), x])), (np.arange(60) % 5, ones(60))][:n_factors]
    structures, design = (FULL[2], FULL[1])[:n_factors], design_of(factors, x[:, None])
    Y = np.hstack([y, np.full_like(y, 3.0), 0 * y, 100 * y[::-1], 1e8 + y])
    with small_problems(allowed):
        together = lmm.fit(design, Y, structures)
        each = {r: lmm.fit(design, Y[:, [r]], structures) for r in (0, 3)}
    assert together.optimization.exact_fit.tolist() == [False, True, True, False, False]
    assert together.optimization.converged.all()
    assert np.array_equal(together.s2[[1, 2]], [0, 0])
    for r, alone in each.items():
        assert_allclose(together.criterion[r], alone.criterion[0], rtol=1e-10)
        for a, b in zip(relative_factors(together), relative_factors(alone), strict=True):
            assert_allclose(a[r], b[0], rtol=1e-6, atol=1e-8)
        assert together.optimization.n_evaluations[r] == alone.optimization.n_evaluations[0]
    assert_allclose(together.criterion[4], together.criterion[0], rtol=1e-7)
    intercept, coefficient = coefficients(together)
    assert_allclose(intercept[[1, 2]], [3, 0], atol=1e-12)
    assert_allclose(coefficient[[1, 2]], 0, atol=1e-12)


def test_a_response_that_the_fixed_effects_fit_exactly():
    codes, x, _ = one_way()
    found = lmm.fit(design_of([(codes, ones(60))], x[:, None]), 2 + 3 * x[:, None], (FULL[1],))
    intercept, coefficient = coefficients(found)
    assert_allclose([intercept[0], coefficient[0, 0]], [2, 3], rtol=1e-12)
    assert found.s2[0] == 0 and found.criterion[0] == -np.inf
    assert not found.Lambdas[0].any()


def test_a_response_that_the_random_effects_fit_exactly():
    codes, _, _ = one_way()
    levels = np.random.default_rng(1).normal(size=8)
    found = lmm.fit(design_of([(codes, ones(60))]), levels[codes][:, None], (FULL[1],))
    assert found.optimization.exact_fit[0] and found.criterion[0] == -np.inf
    fitted = coefficients(found)[0][0] + level_effects(found)[0][0, :, 0]
    assert_allclose(fitted, levels, atol=1e-6)


def test_fewer_rows_than_fixed_effects_are_refused():
    _, _, y = one_way(n=9)
    X = np.random.default_rng(0).normal(size=(4, 3))
    design = design_of([(np.array([0, 0, 1, 1]), ones(4))], X)
    with pytest.raises(ValueError, match="cannot determine 4 fixed effects"):
        lmm.fit(design, y[:4], (FULL[1],))


# -------------------------------------------------------------- what cannot be identified


def fixed_at_zero(factors, structures, X=None):
    n = len(factors[0][0])
    design = design_of(factors, X)
    rng = np.random.default_rng(99)
    y = rng.normal(size=(n, 1))
    y += design.random_part([2 * rng.normal(size=(f.n_levels, f.k, 1)) for f in design.factors])
    found = lmm.fit(design, y, structures)
    assert found.unidentified == unidentified(
        gram(design, y, identity_frame(design, y)), structures
    )
    for positions, L in zip(found.unidentified, relative_factors(found), strict=True):
        assert not L[0][list(positions)].any()  # zero in the units of the data
    assert np.isfinite(found.criterion[0])
    return found.unidentified


def test_one_level_tells_nothing():
    codes, x, _ = one_way()
    z = np.column_stack([ones(60), x])
    assert fixed_at_zero([(0 * codes, z)], (FULL[2],)) == ((0, 1),)
    assert fixed_at_zero([(codes, ones(60)), (0 * codes, z)], (FULL[1], FULL[2])) == ((), (0, 1))


def test_as_many_effects_as_rows():
    x = np.random.default_rng(0).normal(size=20)
    each, two, z = np.arange(20), np.arange(20) // 2, np.column_stack([ones(20), x])
    assert fixed_at_zero([(each, ones(20))], (FULL[1],)) == ((0,),)
    assert fixed_at_zero([(two, z)], (FULL[2],)) == ((1,),)
    assert fixed_at_zero([(two, z)], (structure("diagonal", 2),)) == ((),)
    assert fixed_at_zero([(np.minimum(each, 18), ones(20))], (FULL[1],)) == ((),)


def test_levels_that_the_fixed_effects_know():
    codes, x, _ = one_way()
    dummies = (codes[:, None] == np.arange(1, 8)).astype(float)
    z = np.column_stack([ones(60), x])
    assert fixed_at_zero([(codes, ones(60))], (FULL[1],), dummies) == ((0,),)
    assert fixed_at_zero([(codes, z)], (structure("diagonal", 2),), dummies) == ((0,),)
    each_slope = np.hstack([dummies, x[:, None], dummies * x[:, None]])
    assert fixed_at_zero([(codes, z)], (FULL[2],), each_slope) == ((0, 1),)


def test_a_slope_keeps_its_model_when_the_intercept_is_fixed_at_zero():
    """The shift of a slope column is no model without the intercept that would take it up."""
    codes, x, _ = one_way()
    dummies = (codes[:, None] == np.arange(1, 8)).astype(float)
    z = np.column_stack([ones(60), x + 7])
    assert fixed_at_zero([(codes, z)], (FULL[2],), dummies) == ((0,),)


def test_the_last_of_too_many_coefficients_is_fixed_even_if_it_is_the_intercept():
    two, x = np.arange(40) // 2, np.random.default_rng(0).normal(size=40) + 5
    reversed_z = np.column_stack([x, ones(40)])
    assert fixed_at_zero([(two, reversed_z)], (FULL[2],)) == ((1,),)
    y = x[:, None] * np.random.default_rng(1).normal(size=20)[two, None] + two[:, None] % 3
    noise = np.random.default_rng(2).normal(size=(40, 1))
    found = lmm.fit(design_of([(two, reversed_z)]), y + noise, (FULL[2],))
    slope_only = lmm.fit(design_of([(two, x[:, None])]), y + noise, (FULL[1],))
    assert_allclose(found.criterion, slope_only.criterion, rtol=1e-9)


def test_a_repeated_factor_counts_once():
    codes, _, y = one_way()
    other = np.arange(60) % 7
    twice = [(codes, ones(60)), ((codes + 3) % 8, ones(60)), (other, ones(60))]
    assert fixed_at_zero(twice[:2], (FULL[1],) * 2) == ((), (0,))
    assert fixed_at_zero(twice, (FULL[1],) * 3) == ((), (0,), ())
    found = lmm.fit(design_of(twice), y, (FULL[1],) * 3)
    once = lmm.fit(design_of([twice[0], twice[2]]), y, (FULL[1],) * 2)
    assert_allclose(found.criterion, once.criterion, rtol=1e-10)


def test_a_slope_of_the_same_levels_is_no_repetition():
    """(1 | g) and (0 + x | g) as two factors are the diagonal model of one."""
    codes, x, y = one_way(slope=1.5)
    two = lmm.fit(design_of([(codes, ones(60)), (codes, x[:, None])]), y, (FULL[1],) * 2)
    z = np.column_stack([ones(60), x])
    one = lmm.fit(design_of([(codes, z)]), y, (structure("diagonal", 2),))
    assert two.unidentified == ((), ())
    assert_allclose(two.criterion, one.criterion, rtol=1e-9)


def test_a_slope_with_one_value_per_level_has_a_valid_fit():
    codes, _, y = one_way()
    x = np.random.default_rng(4).normal(size=8)[codes]
    z = np.column_stack([ones(60), x])
    for kind in ("full", "diagonal"):
        found = lmm.fit(design_of([(codes, z)]), y, (structure(kind, 2),))
        assert found.optimization.converged[0]
        intercept_only = lmm.fit(design_of([(codes, ones(60))]), y, (FULL[1],))
        assert found.criterion[0] <= intercept_only.criterion[0] + 1e-8


def test_nothing_to_estimate_is_least_squares():
    codes, x, y = one_way()
    random = lmm.fit(design_of([(codes, ones(60))], x[:, None]), y, (Structure(1, ()),))
    plain = lmm.fit(Design(x[:, None], ()), y, ())
    assert_allclose(random.criterion, plain.criterion, rtol=1e-12)
    assert_allclose(random.beta, plain.beta, rtol=1e-12)
    expected = np.linalg.lstsq(full_X(Design(x[:, None], ())), y, rcond=None)[0]
    assert_allclose(np.append(*coefficients(plain)), expected[:, 0], rtol=1e-12)


# ------------------------------------------------------------------------ ill-conditioned X


def nearly_dependent(rng, n, condition):
    """Three columns of which the third is almost the sum of the others, and the map to them."""
    A = rng.normal(size=(n, 3))
    T = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 4.0 / condition]])
    return A, T


@pytest.mark.parametrize("n_factors", [0, 1, 2])
@pytest.mark.parametrize("condition", [1e3, 5e4])
def test_refined_coefficients_are_those_of_an_orthogonal_basis(condition, n_factors):
    """X = A T is ill-conditioned, its cross-products twice as much; A is well-conditioned."""
    codes, x, y = one_way(n=200, slope=1.0)
    A, T = nearly_dependent(np.random.default_rng(2), 200, condition)
    factors = [(codes, np.column_stack([ones(200), x])), (np.arange(200) % 9, ones(200))]
    factors, structures = factors[:n_factors], (FULL[2], FULL[1])[:n_factors]
    made = design_of(factors, A @ T) if factors else Design(A @ T, ())
    y = y + A @ np.array([[3.0], [-2.0], [1.0]])
    found = lmm.fit(made, y, structures)
    assert found.columns.all()
    well, frame = replace(made, X=A), frame_of(replace(made, X=A), y, structures)
    same = make_problem(gram(well, y, frame), structures, True).solve(list(found.Lambdas))
    theirs = np.linalg.solve(T, same.beta[0, 1:] * frame.y_scale / frame.x_scale)
    assert_allclose(coefficients(found)[1][0], theirs, rtol=1e-9)
    for a, b in zip(found.effects, same.effects, strict=True):
        assert_allclose(a, b, rtol=1e-8, atol=1e-10)
