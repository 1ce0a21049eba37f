"""Simulated sufficient statistics: their moments against dense algebra, and their refits."""

from dataclasses import replace

import numpy as np
import pytest
from dense import Dense
from numpy.testing import assert_allclose
from test_engine_gram import full_X, slopes

from sklme._engine import lmm, simulate
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.gram import output

N_DRAWS = 40_000


def make(seed=0, n=24, sizes=(5,), ks=(2,), weights=None, precision=False, balanced=False):
    """A small fit: unbalanced levels, one of them a single row unless balanced."""
    rng = np.random.default_rng(seed)
    factors = []
    for size, k in zip(sizes, ks, strict=True):
        codes = np.arange(n) % size if balanced else rng.integers(0, size - 1, n)
        if not balanced:
            codes[0] = size - 1
        factors.append(Factor(codes, size, slopes(rng, n, k)))
    X = rng.normal(size=(n, 2)) + 3
    design = Design(X, tuple(factors), True, weights)
    y = rng.normal(size=(n, 1)) + X[:, [0]]
    for f in factors:
        y[:, 0] += 2 * rng.normal(size=f.n_levels)[f.codes]
    structures = tuple(Structure(k, (tuple(range(k)),)) for k in ks)
    return design, y, lmm.fit(design, y, structures, precision=precision)


CASES = {
    "slopes": make(),
    "one column": make(1, ks=(1,)),
    "three columns": make(2, n=30, sizes=(4,), ks=(3,)),
    "balanced": make(3, sizes=(6,), balanced=True),
    "crossed": make(4, sizes=(5, 4), ks=(1, 2)),
    "none": make(5, sizes=(), ks=()),
    "precision": make(6, weights=np.linspace(0.5, 3, 24), precision=True),
    "frequency": make(7, weights=np.tile([1.0, 2.0, 3.0], 8)),
    "crossed frequency": make(8, sizes=(5, 4), ks=(1, 1), weights=np.tile([1.0, 2.0, 3.0], 8)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def rows_in_frame(design, fit):
    """[Z X] of the rows, whitened by precisions or repeated by frequencies, in the frame."""
    X = full_X(replace(design, X=(design.X - fit.frame.x_shift) / fit.frame.x_scale))
    Z = [f.z @ T for f, T in zip(design.factors, fit.frame.z_maps, strict=True)]
    blocks = [
        z[:, [a]] * (f.codes[:, None] == np.arange(f.n_levels))
        for f, z in zip(design.factors, Z, strict=True)
        for a in range(f.k)
    ]
    ZX = np.hstack([*blocks, X])
    if design.weights is None:
        return ZX
    if fit.gram.total == fit.gram.n_rows:
        return ZX * np.sqrt(design.weights)[:, None]
    return np.repeat(ZX, design.weights.astype(int), axis=0)


def relative_covariance(ZX, fit):
    """V = I + Z G Z' over sigma^2, rows of `rows_in_frame`."""
    q = ZX.shape[1] - fit.gram.xx.shape[0]
    G, at = np.zeros((q, q)), 0
    for f, L in zip(fit.gram.factors, fit.Lambdas, strict=True):
        here = slice(at, at := at + f.k * f.n_levels)
        G[here, here] = np.kron(L[0] @ L[0].T, np.eye(f.n_levels))
    return np.eye(len(ZX)) + ZX[:, :q] @ G @ ZX[:, :q].T


def drawn(fit, n=N_DRAWS, seed=0):
    """Draws as vectors [Z'y X'y] (m, n), and y'y (n,)."""
    statistics = simulate.kept_gram(fit, 0)
    rng = np.random.RandomState(seed)
    new = simulate.draw(statistics, [L[0] for L in fit.Lambdas], n, rng)
    parts = [f.zy.swapaxes(1, 2).reshape(-1, n) for f in new.factors]
    return np.concatenate([*parts, new.xy]), new.yy


def close_covariance(found, expected, n):
    """Whether an empirical covariance of normals lies within six standard errors."""
    d = np.diag(expected)
    error = np.sqrt((np.outer(d, d) + expected**2) / n)
    return np.abs(found - expected) <= 6 * error + 1e-10 * np.sqrt(np.outer(d, d))


def test_products_have_the_covariance_of_the_model(case):
    design, _, fit = case
    ZX = rows_in_frame(design, fit)
    expected = ZX.T @ relative_covariance(ZX, fit) @ ZX
    w, _ = drawn(fit)
    assert close_covariance(w @ w.T / N_DRAWS, expected, N_DRAWS).all()
    assert np.all(np.abs(w.mean(axis=1)) <= 6 * np.sqrt(np.diag(expected) / N_DRAWS) + 1e-12)


def test_squares_are_those_of_the_rows(case):
    """y'y less its projection on [Z X] is chi-square, independent of the projection."""
    design, _, fit = case
    ZX = rows_in_frame(design, fit)
    w, yy = drawn(fit)
    scale = np.sqrt((ZX**2).sum(axis=0))
    rank = np.linalg.matrix_rank(ZX / scale)
    projection = np.einsum(
        "in,ij,jn->n",
        w / scale[:, None],
        np.linalg.pinv((ZX / scale).T @ (ZX / scale), 1e-10),
        w / scale[:, None],
    )
    rest, dof = yy - projection, len(ZX) - rank
    assert dof > 0 and rest.min() > -1e-8 * yy.max()
    assert abs(rest.mean() - dof) < 6 * np.sqrt(2 * dof / N_DRAWS)
    assert abs(rest.var() - 2 * dof) < 0.1 * 2 * dof
    assert abs(np.corrcoef(rest, projection)[0, 1]) < 6 / np.sqrt(N_DRAWS)
    V = relative_covariance(ZX, fit)
    spread = np.sqrt(2 * (V**2).sum() / N_DRAWS)
    assert abs(yy.mean() - np.trace(V)) < 6 * spread


def test_every_draw_is_that_of_some_rows(case):
    """[Z X y]'[Z X y] is positive semidefinite for every draw."""
    design, _, fit = case
    ZX = rows_in_frame(design, fit)
    w, yy = drawn(fit, 50)
    for i in range(50):
        M = np.block([[ZX.T @ ZX, w[:, [i]]], [w[:, i][None], yy[i].reshape(1, 1)]])
        scale = 1 / np.sqrt(np.diag(M))
        assert np.linalg.eigvalsh(M * scale * scale[:, None])[0] > -1e-9


def test_draws_repeat_with_the_same_source(case):
    fit = case[2]
    for one, other in zip(drawn(fit, 5), drawn(fit, 5), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(drawn(fit, 5, seed=1)[1], drawn(fit, 5)[1])


@pytest.mark.parametrize("name", ["slopes", "balanced", "crossed", "none", "precision"])
@pytest.mark.parametrize("reml", [True, False])
def test_refits_are_the_fits_of_the_rows(name, reml):
    design, _, fit = CASES[name]
    fit = replace(fit, reml=reml)
    rng = np.random.RandomState(1)
    Y = simulate.draw_rows(design, [L[0] for L in fit.Lambdas], fit.frame, 12, rng)
    found = simulate.refit(simulate.from_rows(design, fit, Y), fit.structures, reml=reml)
    expected = lmm.fit(design, Y, fit.structures, reml=reml, precision=name == "precision")
    to_data = expected.frame.y_scale
    assert found.converged.all()
    assert_allclose(found.s2, expected.s2 * to_data**2, rtol=1e-7)
    for L, M in zip(found.Lambdas, expected.Lambdas, strict=True):
        assert_allclose(L @ L.swapaxes(1, 2), M @ M.swapaxes(1, 2), rtol=1e-5, atol=1e-7)
    moved = expected.beta * to_data[:, None]
    moved[:, 0] += expected.frame.y_shift
    assert_allclose(found.beta, moved, atol=1e-7)


def test_the_criterion_is_that_of_the_dense_model():
    design, y, fit = CASES["slopes"]
    for reml in (True, False):
        found = simulate.refit(simulate.kept_gram(fit, 0), fit.structures, reml=reml)
        T = fit.frame.z_maps[0]
        G = T @ found.Lambdas[0][0] @ found.Lambdas[0][0].T @ T.T
        X = full_X(replace(design, X=(design.X - fit.frame.x_shift) / fit.frame.x_scale))
        f = design.factors[0]
        scaled = (y[:, 0] - fit.frame.y_shift) / fit.frame.y_scale
        dense = Dense(X, scaled, [(f.codes, f.n_levels, f.z, G)], reml=reml)
        constant = dense.n_degrees * (1 + np.log(2 * np.pi))
        assert_allclose(found.criterion[0] + constant, dense.criterion, rtol=1e-10)


def test_chunks_add_up_and_are_bounded():
    statistics = simulate.kept_gram(CASES["slopes"][2], 0)
    assert list(simulate.chunks(statistics, 4500)) == [2000, 2000, 500]
    assert sum(simulate.chunks(simulate.kept_gram(CASES["crossed"][2], 0), 101)) == 101


def test_rows_from_draws_have_the_covariance_of_the_model():
    design, _, fit = CASES["precision"]
    Y = simulate.draw_rows(
        design, [L[0] for L in fit.Lambdas], fit.frame, N_DRAWS, np.random.RandomState(0)
    )
    w = np.sqrt(design.weights)
    V = relative_covariance(rows_in_frame(design, fit), fit) / np.outer(w, w)
    assert close_covariance(Y @ Y.T / N_DRAWS, V, N_DRAWS).all()


def test_reflated_effects_have_the_estimated_covariance():
    rng = np.random.default_rng(0)
    target = np.array([[2.0, -0.5], [-0.5, 1.0]])
    out = simulate.reflated(rng.normal(size=(30, 2)) * [0.1, 3] + 7, target)
    assert_allclose(out.mean(axis=0), 0, atol=1e-12)
    assert_allclose(out.T @ out / 30, target, rtol=1e-10)


def test_reflated_effects_without_spread_stay():
    flat = np.outer(np.arange(5.0), [1, 0])
    out = simulate.reflated(flat, np.diag([4.0, 0.0]))
    assert_allclose(out[:, 0].std(), 2)
    assert not out[:, 1].any()
    assert not simulate.reflated(np.zeros((5, 2)), np.zeros((2, 2))).any()


def test_an_adapted_model_is_refused():
    design, y, fit = CASES["slopes"]
    with pytest.raises(ValueError, match="was adapted to more rows"):
        simulate.kept_gram(lmm.adapt(fit, design, y + 5), 0)


def test_many_columns_of_several_factors_ask_for_rows():
    few = simulate.kept_gram(CASES["crossed"][2], 0)
    assert not simulate.too_many_columns(few)
    f = few.factors[0]
    zz, zx, zy = (np.zeros((*a.shape[:2], 6000)) for a in (f.zz, f.zx, f.zy))
    many = replace(few, factors=(replace(f, zz=zz, zx=zx, zy=zy), few.factors[1]))
    assert simulate.too_many_columns(many)
    assert not simulate.too_many_columns(replace(many, factors=many.factors[:1]))


def test_one_output_of_several_is_taken():
    design, y, fit = CASES["slopes"]
    both = lmm.fit(design, np.hstack([y, y[::-1]]), fit.structures)
    statistics = simulate.kept_gram(both, 1)
    assert_allclose(statistics.xy, output(both.gram, 1).xy)
