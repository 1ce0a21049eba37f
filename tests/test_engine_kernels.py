"""Sums over pairs of entries: every way to them against the plain formula, and whole fits."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_engine_gram import problems
from test_engine_linear import evaluators

from sklme._engine import pairs
from sklme._engine.elimination import Pattern
from sklme._engine.selected import posterior_blocks
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
    (evaluate,) = evaluators(problem)
    expected = evaluate(problem.theta)
    blocks = posterior_blocks(factorise(System(problem.gram), [L[0] for L in problem.Lambdas]))
    with pytest.MonkeyPatch.context() as patch:
        force(patch, way)
        (other,) = evaluators(problem)
        found = other(problem.theta)
        system = System(problem.gram)
        others = posterior_blocks(factorise(system, [L[0] for L in problem.Lambdas]))
    assert_allclose(found.value, expected.value, rtol=1e-10)
    scale = 1 + np.abs(expected.gradient).max()
    assert_allclose(found.gradient / scale, expected.gradient / scale, rtol=0, atol=1e-10)
    for one, another in zip(others, blocks, strict=True):
        assert_allclose(one, another, rtol=1e-10, atol=1e-11)


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


def crossed_problem(rng):
    from sklme._engine.covariance import Structure
    from sklme._engine.design import Design, Factor
    from sklme._engine.gram import frame_of, gram

    n = 60
    factors = tuple(Factor(rng.integers(0, q, n), q, np.ones((n, 1))) for q in (9, 7))
    design, y = Design(rng.standard_normal((n, 1)), factors), rng.standard_normal((n, 1))
    structures = (Structure(1, ((0,),)),) * 2
    return gram(design, y, frame_of(design, y, structures))


def test_importing_the_package_does_not_import_numba():
    code = "import sys, sklme; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
