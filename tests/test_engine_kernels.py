"""Sums over pairs of entries: every way to them against the plain formula, and whole fits."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_engine_gram import problems
from test_engine_linear import differences, evaluators

from sklme._engine import crossed, pairs
from sklme._engine.covariance import Charts, Structure
from sklme._engine.design import Design, Factor
from sklme._engine.elimination import Pattern
from sklme._engine.gram import frame_of, gram
from sklme._engine.problem import make_problem
from sklme._engine.selected import estimated_score_products, posterior_blocks, score_products
from sklme._engine.sweep import factorise
from sklme._engine.symmetric import Inverse, Symmetric
from sklme._engine.system import System

WAYS = [pairs.DenseRows, pairs.Loops, pairs.PairSums, pairs.Strips]


def force(patch, way):
    """Let `row_sums` choose one way, for rows that are constant where it needs that."""
    if way is pairs.Loops and pairs.compiled() is None:
        pytest.skip("numba is not installed")
    patch.setattr(pairs, "DENSE_PAYS", 1e9 if way is pairs.DenseRows else 0)
    patch.setattr(pairs, "WORTH_COMPILING", 0 if way is pairs.Loops else np.inf)
    patch.setattr(pairs, "MOST_PAIRS", np.inf if way is pairs.PairSums else -1)
    patch.setattr(pairs, "AT_ONCE", 7)


@st.composite
def sparse_rows(draw):
    """A pattern, its entries (k, n_entries) and the same rows as an array (k, q, n)."""
    k, q, n = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    there = rng.random((q, n)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    rows, columns = np.nonzero(there)
    N = rng.standard_normal((k, q, n)) * there
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    pattern = Pattern(*(part.astype(np.int32) for part in (indptr, columns, rows)))
    return pattern, np.ascontiguousarray(N[:, rows, columns]), N, rng


def lower_only(matrix):
    """The same symmetric matrix with rubbish above the diagonal."""
    return Symmetric(np.tril(matrix) + np.triu(np.full_like(matrix, 1e9), 1))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50)
@given(sparse_rows())
def test_every_way_is_the_formula(way, case):
    pattern, entries, N, rng = case
    k, q, n = N.shape
    D, H = rng.standard_normal((2, k, k, q))
    D = D + D.swapaxes(0, 1)
    Phi = rng.standard_normal((n, n))
    Phi = Phi + Phi.T
    with pytest.MonkeyPatch.context() as patch:
        force(patch, way)
        sums = pairs.row_sums(pattern, entries, n, constant=True)
        assert type(sums) is way or not entries.size  # nothing to choose
        K = np.zeros((n, n))
        sums.subtract(K, D)
        T = sums.quadratic(lower_only(Phi))
        total = sums.summed(lower_only(Phi), H)
    expected = np.einsum("aqi,abq,bqj->ij", N, D, N)
    assert_allclose(np.tril(K), -np.tril(expected), rtol=1e-11, atol=1e-11)
    expected = np.einsum("aqi,ij,bqj->abq", N, Phi, N)
    assert_allclose(T, expected, rtol=1e-11, atol=1e-11)
    expected = np.einsum("acq,cdq,bdq->ab", H, expected, H)
    assert_allclose(total, expected, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=20)
@given(problems(factors=(2, 4)))
def test_the_criterion_is_the_same_in_every_way(way, problem):
    evaluate, _ = evaluators(problem)
    expected = evaluate(problem.theta)
    blocks = posterior_blocks(factorise(System(problem.gram), [L[0] for L in problem.Lambdas]))
    with pytest.MonkeyPatch.context() as patch:
        force(patch, way)
        other, _ = evaluators(problem)
        found = other(problem.theta)
        system = System(problem.gram)
        others = posterior_blocks(factorise(system, [L[0] for L in problem.Lambdas]))
    assert_allclose(found.value, expected.value, rtol=1e-10)
    scale = 1 + np.abs(expected.gradient).max()
    assert_allclose(found.gradient / scale, expected.gradient / scale, rtol=0, atol=1e-10)
    for one, another in zip(others, blocks, strict=True):
        assert_allclose(one, another, rtol=1e-10, atol=1e-11)


@settings(max_examples=25)
@given(problems(factors=(2, 3)))
def test_observed_is_the_exact_hessian_of_small_factors(problem):
    assume(all(f.k * f.n_levels <= crossed.FEW for f in problem.gram.factors))
    evaluate, _ = evaluators(problem)
    expected = differences(lambda t: evaluate(t[None]).gradient[0], problem.theta[0])
    found = evaluate(problem.theta).observed[0]
    scale = np.abs(expected).max() + 1
    assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-5)


def test_estimated_traces_are_near_and_the_first_step_may_use_them(monkeypatch):
    """Exact where signs cannot matter, near elsewhere; the search ends where it would anyway."""
    monkeypatch.setattr(crossed, "LARGE", 1)
    whole = crossed_problem(np.random.default_rng(1), n=4000, levels=(90, 70))
    at = factorise(System(whole), [np.array([[0.3]]), np.array([[0.4]])])
    estimated, exact = estimated_score_products(at), score_products(at)
    assert_allclose(np.ravel(estimated), np.ravel(exact), rtol=0.02)
    problem = make_problem(whole, (Structure(1, ((0,),)),) * 2, True)
    rough, record = problem.optimise(np.array([True]), 1e-8, 50, None)
    monkeypatch.setattr(crossed, "LARGE", np.inf)
    plain, _ = problem.optimise(np.array([True]), 1e-8, 50, None)
    assert record.converged.all() and record.decrement[0] <= 1e-8
    assert_allclose(rough, plain, rtol=1e-7)


def test_near_the_optimum_the_first_point_is_exact(monkeypatch):
    whole = crossed_problem(np.random.default_rng(1), n=4000, levels=(90, 70))
    structures = (Structure(1, ((0,),)),) * 2
    Lambdas, _ = make_problem(whole, structures, True).optimise(np.array([True]), 1e-8, 50, None)
    charts = Charts(structures, 1)
    theta = charts.theta(Lambdas, np.array([0]))
    monkeypatch.setattr(crossed, "LARGE", 1)
    evaluate = crossed.criterion(System(whole), charts, reml=True, rough=True)
    near, again = (evaluate(theta, np.array([0])).gradient for _ in range(2))
    assert_allclose(near, again, rtol=0, atol=1e-9)
    evaluate = crossed.criterion(System(whole), charts, reml=True, rough=True)
    far, exact = (evaluate(2 * theta, np.array([0])).gradient for _ in range(2))
    assert np.abs(far - exact).max() > 1e-6  # an estimate
    assert_allclose(far, exact, rtol=0.1)


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_a_symmetric_matrix_needs_one_triangle(n, seed, tile):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n + 1))
    A = A @ A.T + np.eye(n)
    b, scale = rng.standard_normal((n, 2)), rng.standard_normal(n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklme._engine.symmetric.TILE", tile)
        assert_allclose(lower_only(A).times(b), A @ b, rtol=1e-11, atol=1e-11)
        for out in (np.empty((n, n)), None):
            given_ = lower_only(A)
            scaled = given_.scaled(scale, given_.lower if out is None else out)
            assert_allclose(scaled.full, scale[:, None] * A * scale, rtol=1e-12, atol=1e-12)
        matrix = lower_only(A)
        inverse = Inverse(matrix)
        assert_allclose(inverse.log_det, np.linalg.slogdet(A)[1], rtol=1e-10, atol=1e-10)
        assert_allclose(inverse.times(b), np.linalg.solve(A, b), rtol=1e-7, atol=1e-9)
        entries = inverse.entries()
        assert np.shares_memory(entries.lower, matrix.lower)
        assert_allclose(entries.full, np.linalg.inv(A), rtol=1e-7, atol=1e-9)


def test_a_matrix_that_is_not_positive_has_no_log_determinant():
    assert np.isnan(Inverse(Symmetric(-np.eye(3))).log_det)


def test_a_response_does_not_disturb_the_factorisation_of_another():
    """Memory of the last factorisation serves again, but only within one system."""
    rng = np.random.default_rng(0)
    problem = crossed_problem(rng)
    first = System(problem)
    second = first.with_response(problem)
    Lambdas = [np.array([[0.5]]), np.array([[0.7]])]
    at = factorise(first, Lambdas)
    kept = at.Phi.copy()
    factorise(second, [L * 2 for L in Lambdas])
    factorise(second, [L * 3 for L in Lambdas])
    assert np.array_equal(at.Phi, kept)
    again = factorise(first, [L * 2 for L in Lambdas])
    assert not np.array_equal(again.Phi, kept)
    assert_allclose(factorise(first, Lambdas).Phi, kept, rtol=1e-12, atol=1e-14)


def crossed_problem(rng, n=60, levels=(9, 7)):
    """The cross-products of two crossed random intercepts."""
    factors = tuple(Factor(rng.integers(0, q, n), q, np.ones((n, 1))) for q in levels)
    design, y = Design(rng.standard_normal((n, 1)), factors), rng.standard_normal((n, 1))
    for f in factors:
        y += 0.5 * rng.standard_normal((f.n_levels, 1))[f.codes]
    structures = (Structure(1, ((0,),)),) * 2
    return gram(design, y, frame_of(design, y, structures))


def test_importing_the_package_does_not_import_numba():
    code = "import sys, sklme; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_a_search_takes_rough_derivatives(monkeypatch):
    """Standard errors and profiles ask for derivatives far from an optimum, and get exact ones."""
    whole = crossed_problem(np.random.default_rng(2), n=2000, levels=(60, 50))
    charts = Charts((Structure(1, ((0,),)),) * 2, 1)
    theta, which = np.array([[3.0, 2.0]]), np.arange(1)
    exact = crossed.criterion(System(whole), charts, reml=True)(theta, which)
    monkeypatch.setattr(crossed, "LARGE", 1)
    again = crossed.criterion(System(whole), charts, reml=True)(theta, which)
    rough = crossed.criterion(System(whole), charts, reml=True, rough=True)(theta, which)
    assert_allclose(again.gradient, exact.gradient, rtol=1e-12)
    assert not np.allclose(rough.gradient, exact.gradient, rtol=1e-9)
    assert_allclose(rough.value, exact.value, rtol=1e-12)
