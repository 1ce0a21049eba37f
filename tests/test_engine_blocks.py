"""Stacks of tiny matrices against numpy, matrix by matrix, and the parametrisation of Lambda."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_engine_gram import structure

from sklme._engine import blocks
from sklme._engine.covariance import Charts, Structure, canonical

# ---------------------------------------------------------------------------- tiny matrices


def stack(rng, k, m, shape):
    return rng.normal(size=(k, m, *shape))


def each(A):
    """The stack (k, m, ...) as (n, k, m), for numpy."""
    return np.moveaxis(A.reshape(*A.shape[:2], -1), 2, 0)


def definite(rng, k, shape):
    A = stack(rng, k, k + 2, shape)
    return blocks.multiply(A, blocks.transpose(A))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(7,), (2, 5)])
def test_stacks_are_numpy_matrix_by_matrix(k, shape):
    rng = np.random.default_rng(k)
    A, B, W = stack(rng, k, 3, shape), stack(rng, 3, 2, shape), definite(rng, k, shape)
    assert_allclose(each(blocks.multiply(A, B)), each(A) @ each(B), rtol=1e-12, atol=1e-13)
    assert_allclose(each(blocks.transpose(A)), each(A).swapaxes(1, 2))
    L = blocks.cholesky(W)
    assert_allclose(each(L), np.linalg.cholesky(each(W)), rtol=1e-10, atol=1e-12)
    assert_allclose(blocks.log_determinant(L).ravel(), np.linalg.slogdet(each(W))[1], rtol=1e-10)
    solved = blocks.solve_lower(L, A)
    assert_allclose(each(blocks.multiply(L, solved)), each(A), rtol=1e-10, atol=1e-11)
    plus = each(W) + np.eye(k)
    assert_allclose(each(blocks.identity_plus(W)), plus, rtol=1e-14)


def test_a_matrix_that_is_not_definite_gives_nan_and_no_warning():
    W = np.stack([np.eye(2), np.diag([1.0, -1.0]), -np.eye(2)], axis=-1)
    L = blocks.cholesky(W)
    assert np.isfinite(L[..., 0]).all()
    assert np.isnan(L[1, 1, 1]) and np.isnan(L[0, 0, 2])


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_semidefinite_factors_reproduce_the_matrix(k, rank, seed):
    half = stack(np.random.default_rng(seed), k, min(rank, k), (6,))
    W = blocks.multiply(half, blocks.transpose(half)) if rank else np.zeros((k, k, 6))
    L = blocks.cholesky_semidefinite(W)
    assert not np.triu(each(L), 1).any()
    size = np.abs(W).max() + 1
    assert_allclose(each(L) @ each(L).swapaxes(1, 2), each(W), rtol=0, atol=1e-6 * size)


@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_woodbury(k, r, singular, seed):
    """D = Lambda (I + Lambda' A Lambda)^-1 Lambda' = (A + G^-1)^-1, also where G is singular."""
    rng = np.random.default_rng(seed)
    A, Lambda = definite(rng, k, (1, 5)), np.tril(rng.normal(size=(r, k, k)))
    if singular:
        Lambda[:, :, 0] = 0.0
    D, log_det = blocks.woodbury(A, Lambda)
    for i in range(r):
        G, total = Lambda[i] @ Lambda[i].T, 0.0
        for level in range(5):
            inner = np.eye(k) + A[:, :, 0, level] @ G
            assert_allclose(D[:, :, i, level], G @ np.linalg.inv(inner), rtol=1e-8, atol=1e-10)
            total += np.linalg.slogdet(inner)[1]
        assert_allclose(log_det[i], total, rtol=1e-9, atol=1e-11)


# ----------------------------------------------------------------------- theta and Lambda

KINDS = st.sampled_from(["full", "diagonal", "blocks", "spherical"])


@given(KINDS, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_theta_and_lambda_are_inverses(kind, k, seed):
    s = structure(kind, k)
    theta = np.random.default_rng(seed).normal(size=(3, s.n_theta))
    Lambda = s.factor(theta)
    assert_allclose(s.theta(Lambda), theta, rtol=1e-14)
    assert_allclose(Lambda, np.einsum("rp,pij->rij", theta, s.basis), rtol=1e-14)
    assert not np.triu(Lambda, 1).any()
    n = {"full": k * (k + 1) // 2, "diagonal": k, "spherical": 1, "blocks": 1 + k * (k - 1) // 2}
    assert s.n_theta == (n[kind] if k > 1 else 1)


def test_blocks_are_uncorrelated_whatever_their_order():
    s = Structure(3, ((0, 2), (1,)))
    Lambda = s.factor(np.array([1.0, 2.0, 3.0, 4.0]))
    assert np.array_equal(Lambda, [[1, 0, 0], [0, 4, 0], [2, 0, 3]])


@given(KINDS, st.integers(1, 4), st.data())
def test_without_fixes_variances_at_zero(kind, k, data):
    gone = data.draw(st.sets(st.integers(0, k - 1)))
    s = structure(kind, k).without(gone)
    Lambda = s.factor(np.arange(1.0, s.n_theta + 1))
    assert Lambda.shape == (k, k)
    variances = np.diag(Lambda @ Lambda.T)
    assert np.array_equal(np.flatnonzero(variances == 0), sorted(gone))
    assert (s.n_theta == 0) == (len(gone) == k)
    if kind == "full":  # the others keep their correlations
        assert s.n_theta == (k - len(gone)) * (k - len(gone) + 1) // 2


def test_spherical_is_one_variance_for_all_that_are_left():
    s = structure("spherical", 3).without({1})
    assert np.array_equal(s.factor(np.array([2.0])), np.diag([2.0, 0, 2]))
    assert not s.ordered


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_canonical_is_the_cholesky_factor(k, rank, seed):
    Lambda = np.random.default_rng(seed).normal(size=(5, k, k))
    Lambda[:, :, rank:] = 0.0
    L = canonical(Lambda)
    assert not np.triu(L, 1).any()
    assert (np.einsum("rii->ri", L) >= 0).all()
    assert_allclose(L @ L.swapaxes(1, 2), Lambda @ Lambda.swapaxes(1, 2), atol=1e-12)
    if rank >= k:
        assert_allclose(L, np.linalg.cholesky(Lambda @ Lambda.swapaxes(1, 2)), atol=1e-8)


# ------------------------------------------------------------------------------------ charts


@st.composite
def charts(draw):
    """Charts of one to three factors and theta of four responses, with sizes far apart."""
    n = draw(st.integers(1, 3))
    structures = tuple(structure(draw(KINDS), draw(st.integers(1, 4))) for _ in range(n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    theta = rng.normal(size=(4, sum(s.n_theta for s in structures)))
    return Charts(structures, 4), theta * 10.0 ** rng.integers(-3, 3, theta.shape)


def covariances(found, theta, which):
    return [L @ L.swapaxes(1, 2) for L in found.factors(theta, which)]


def assert_same_covariances(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())


@settings(max_examples=100)
@given(charts(), st.lists(st.integers(0, 3), unique=True, min_size=1))
def test_reordering_keeps_the_covariance(given_charts, which):
    found, theta = given_charts
    which, everyone = np.array(which), np.arange(4)
    before = covariances(found, theta, everyone)
    new, changed = found.reorder(theta[which], which)
    after = theta.copy()
    after[which[changed]] = new[changed]
    assert_same_covariances(covariances(found, new, which), [G[which] for G in before])
    assert_same_covariances(covariances(found, after, everyone), before)
    _, again = found.reorder(new, which)
    assert not again.any()  # one pass puts every block in order


@settings(max_examples=50)
@given(charts())
def test_theta_of_a_covariance_gives_it_back(given_charts):
    found, theta = given_charts
    everyone = np.arange(4)
    theta, _ = found.reorder(theta, everyone)
    again = found.theta(found.factors(theta, everyone), everyone)
    assert_same_covariances(
        covariances(found, again, everyone), covariances(found, theta, everyone)
    )
    assert_allclose(
        found.theta(found.factors(again, everyone), everyone), again, rtol=1e-7, atol=1e-12
    )


@settings(max_examples=50)
@given(charts())
def test_the_basis_is_the_derivative_of_the_factor(given_charts):
    found, theta = given_charts
    everyone = np.arange(4)
    theta, _ = found.reorder(theta, everyone)
    for t, (at, L) in enumerate(zip(found.slices, found.factors(theta, everyone), strict=True)):
        basis = np.broadcast_to(found.basis(t, everyone), (4, at.stop - at.start, *L.shape[1:]))
        assert_allclose(np.einsum("rp,rpij->rij", theta[:, at], basis), L, rtol=1e-12)


def test_a_small_first_variance_goes_last_only_for_the_response_that_has_it():
    found = Charts((structure("full", 2),), 2)
    theta = np.array([[1e-4, 0.2, 1.0], [1.0, 0.2, 1.0]])
    before = covariances(found, theta, np.arange(2))
    new, changed = found.reorder(theta, np.arange(2))
    assert changed.tolist() == [True, False]
    assert_same_covariances(covariances(found, new, np.arange(2)), before)
    Lambda = found.factors(new, np.arange(2))[0]
    assert Lambda[0, 1, 1] == 0 and Lambda[1, 0, 1] == 0  # triangles of either order
