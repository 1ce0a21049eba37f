"""New rows: variance, adaptation to new levels and draws, against the dense joint solution."""

from dataclasses import replace

import numpy as np
import pytest
from dense import Dense
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from test_engine_gram import Problem, full_X, problems, slopes, structure

from sklme._engine import lmm, predict
from sklme._engine.design import Design, Factor
from sklme._engine.predict import NewRows, new_rows
from sklme._engine.sweep import factorise
from sklme._engine.system import System
from sklme._engine.units import coefficients, level_effects, relative_factors


def fitted(problem, **changes):
    problem = replace(problem, **changes)
    options = {"reml": problem.reml, "precision": problem.precision}
    return lmm.fit(problem.design, problem.y, problem.structures, **options)


def oracle(problem, fit, r=0):
    """The dense model at the theta of a fit."""
    terms = [
        (f.codes, f.n_levels, f.z, L[r] @ L[r].T)
        for f, L in zip(problem.design.factors, relative_factors(fit), strict=True)
    ]
    kind = "precision" if problem.precision else "frequency"
    X = full_X(problem.design)[:, fit.columns]
    return Dense(X, problem.y[:, r], terms, problem.design.weights, kind, problem.reml)


def has_room(problem):
    effects = sum(f.k * f.n_levels for f in problem.design.factors)
    return effects + 6 < problem.design.n_rows  # at most four fixed effects


def draw_rows(rng, design, m, unknown=0.25):
    """Any combination of levels, also such as no row of the data had; -1 for unknown ones."""
    codes = tuple(
        np.where(rng.random(m) < unknown, -1, rng.integers(0, f.n_levels, m))
        for f in design.factors
    )
    z = [slopes(rng, m, f.k) for f in design.factors]
    return rng.normal(size=(m, design.X.shape[1])) + 1, codes, z


def in_units(fit, problem, X):
    """X with its intercept, kept columns only."""
    return full_X(replace(problem.design, X=X, factors=()))[:, fit.columns]


# -------------------------------------------------------------------------------- variance


@settings(max_examples=60)
@given(problems(special=("none",)), st.integers(0, 2**32 - 1))
def test_random_variance_is_dense_at_any_theta(problem, seed):
    """z'Phi z over the known levels, nested otherwise than in the data or not."""
    at = factorise(System(problem.gram), [L[0] for L in problem.Lambdas])
    X, codes, z = draw_rows(np.random.default_rng(seed), problem.design, 12)
    found = predict.random_variance(at, NewRows(X, codes, tuple(z)))
    q = [f.k * f.n_levels for f in problem.design.factors]
    Z = problem.design.dense_random()
    G = np.zeros((sum(q), sum(q)))
    new = np.zeros((12, sum(q)))
    starts = np.cumsum([0, *q])
    for t, (f, L) in enumerate(zip(problem.design.factors, problem.Lambdas, strict=True)):
        here = slice(starts[t], starts[t + 1])
        G[here, here] = np.kron(np.eye(f.n_levels), L[0] @ L[0].T)
        for i in np.flatnonzero(codes[t] >= 0):
            first = starts[t] + codes[t][i] * f.k
            new[i, first : first + f.k] = z[t][i]
    w = np.ones(len(Z)) if problem.design.weights is None else problem.design.weights
    H = np.diag(1 / w) + Z @ G @ Z.T
    Phi = G - G @ Z.T @ np.linalg.solve(H, Z @ G)
    expected = np.einsum("mi,ij,mj->m", new, Phi, new)
    assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * (1 + np.abs(expected).max()))


@settings(max_examples=50)
@given(problems(special=("none",)).filter(has_room), st.integers(0, 2**32 - 1))
def test_mean_and_variance_of_new_rows_are_the_oracles(problem, seed):
    fit = fitted(problem)
    dense, rng = oracle(problem, fit), np.random.default_rng(seed)
    X, codes, z = draw_rows(rng, problem.design, 10)
    new = list(zip(codes, z, strict=True))
    found = predict.variance(fit, new_rows(fit, X, codes, z))
    expected = dense.prediction_variance(in_units(fit, problem, X), new)
    assert found.shape == (10, 1)
    assert_allclose(found[:, 0], expected, rtol=1e-6)
    intercept, coefficient = coefficients(fit)
    mean = intercept[0] + X @ coefficient[0]
    for b, (code, slope) in zip(level_effects(fit), new, strict=True):
        mean += np.where(code >= 0, (b[0][code] * slope).sum(axis=1), 0.0)
    size = 1 + np.abs(mean).max()
    expected = dense.predict(in_units(fit, problem, X), new)
    assert_allclose(mean / size, expected / size, rtol=0, atol=1e-7)


@settings(max_examples=25)
@given(problems(special=("none",)).filter(has_room))
def test_the_covariance_of_the_effects_is_the_oracles(problem):
    fit = fitted(problem)
    parts = oracle(problem, fit).conditional_covariance()
    for found, expected in zip(predict.effect_covariance(fit), parts, strict=True):
        atol = 1e-7 * (1e-3 + np.abs(expected).max())
        assert_allclose(found[0], expected, rtol=1e-6, atol=atol)


def test_rows_that_know_no_level_have_the_prior_variance():
    fit, problem = example(2)
    X, codes, z = draw_rows(np.random.default_rng(1), problem.design, 5, unknown=2.0)
    assert all((c == -1).all() for c in codes)
    prior = 0.0
    for L, slope in zip(relative_factors(fit), z, strict=True):
        prior = prior + ((slope @ L[0]) ** 2).sum(axis=1)
    dense, rows = oracle(problem, fit), in_units(fit, problem, X)
    expected = dense.sigma2 * prior + np.einsum("mi,ij,mj->m", rows, dense.beta_covariance, rows)
    found = predict.variance(fit, new_rows(fit, X, codes, z))
    assert_allclose(found[:, 0], expected, rtol=1e-7)


def test_strips_of_rows_do_not_matter(monkeypatch):
    fit, problem = example(3)
    rows = new_rows(fit, *draw_rows(np.random.default_rng(1), problem.design, 40))
    whole = predict.variance(fit, rows)
    monkeypatch.setattr(predict, "STRIP", 1)
    assert_allclose(predict.variance(fit, rows), whole, rtol=1e-12)


def test_without_random_effects_the_variance_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    fit = lmm.fit(Design(X, ()), y, ())
    new = rng.normal(size=(4, 2))
    A, B = (np.hstack([np.ones((len(x), 1)), x]) for x in (X, new))
    residual = y - A @ np.linalg.lstsq(A, y, rcond=None)[0]
    leverage = np.einsum("mi,ij,mj->m", B, np.linalg.inv(A.T @ A), B)
    expected = leverage[:, None] * (residual**2).sum(axis=0) / 17
    assert_allclose(predict.variance(fit, new_rows(fit, new, (), [])), expected, rtol=1e-10)
    draws = predict.draw(fit, new_rows(fit, new, (), []), 1, 4000, np.random.default_rng(0))
    assert_moments(draws, B @ np.linalg.lstsq(A, y[:, 1], rcond=None)[0], np.diag(expected[:, 1]))


# ------------------------------------------------------------------------------- adaptation


def example(n_factors, seed=0, n=60, n_outputs=1):
    """Slopes by a first factor, one crossed with it, one that nests it; and its fit."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(8), rng.integers(0, 8, n - 8)])
    factors = (
        Factor(a, 8, slopes(rng, n, 2)),
        Factor(np.arange(n) % 5, 5, np.ones((n, 1))),
        Factor(a // 3, 3, np.ones((n, 1))),
    )[:n_factors]
    structures = tuple(structure("full", f.k) for f in factors)
    design = Design(rng.normal(size=(n, 2)), factors)
    effects = [1.5 * rng.normal(size=(f.n_levels, f.k, n_outputs)) for f in factors]
    y = 2 + rng.normal(size=(n, n_outputs)) + design.random_part(effects)
    problem = Problem(design, y, structures, False, True, np.zeros((n_outputs, 0)))
    return fitted(problem), problem


def more_rows(rng, design, m, n_new):
    """Rows of known levels and of `n_new` new ones, numbered after them, for every factor."""
    factors = []
    for f in design.factors:
        codes = rng.integers(0, f.n_levels + n_new, m)
        codes[:n_new] = f.n_levels + np.arange(n_new)
        factors.append(Factor(codes, f.n_levels + n_new, slopes(rng, m, f.k)))
    weights = None if design.weights is None else rng.integers(1, 4, m).astype(float)
    X = rng.normal(size=(m, design.X.shape[1]))
    return replace(design, X=X, factors=tuple(factors), weights=weights)


def joint_effects(problem, fit, more, y):
    """E(b | all rows) at the theta and beta of the fit, by dense algebra."""
    intercept, coefficient = coefficients(fit)
    X = np.vstack([problem.design.X, more.X])
    residual = np.concatenate([problem.y, y])[:, 0] - intercept[0] - X @ coefficient[0]
    weights = [
        np.ones(d.n_rows) if d.weights is None else d.weights for d in (problem.design, more)
    ]
    H, parts = np.diag(1 / np.concatenate(weights)), []
    for f, g, L in zip(problem.design.factors, more.factors, relative_factors(fit), strict=True):
        z, codes = np.vstack([f.z, g.z]), np.concatenate([f.codes, g.codes])
        Z = Design(X, (Factor(codes, g.n_levels, z),)).dense_random()
        G = np.kron(np.eye(g.n_levels), L[0] @ L[0].T)
        H, parts = H + Z @ G @ Z.T, [*parts, G @ Z.T]
    solved = np.linalg.solve(H, residual)
    return [
        (part @ solved).reshape(g.n_levels, -1) for part, g in zip(parts, more.factors, strict=True)
    ]


@settings(max_examples=40)
@given(problems(special=("none",)).filter(has_room), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_adapting_is_the_joint_solution_at_frozen_parameters(problem, n_new, seed):
    """Known levels learn too, and rows may break the nesting that the data had."""
    rng, fit = np.random.default_rng(seed), fitted(problem)
    assume(not fit.optimization.exact_fit[0])
    more = more_rows(rng, problem.design, 8, n_new)
    y = rng.normal(size=(8, 1)) * 2
    adapted = lmm.adapt(fit, more, y)
    found, expected = level_effects(adapted), joint_effects(problem, fit, more, y)
    for b, e in zip(found, expected, strict=True):
        assert_allclose(b[0], e, rtol=1e-9, atol=1e-10 * (1 + np.abs(e).max()))
    for name in ("beta", "Lambdas", "s2", "xvx"):
        assert getattr(adapted, name) is getattr(fit, name)


@pytest.mark.parametrize("n_factors", [1, 2, 3])
def test_adapting_one_by_one_is_adapting_at_once(n_factors):
    fit, problem = example(n_factors, n_outputs=2)
    rng = np.random.default_rng(4)
    more, y = more_rows(rng, problem.design, 12, 2), rng.normal(size=(12, 2))
    once, steps = lmm.adapt(fit, more, y), fit
    for at in np.array_split(np.arange(12), 4):
        factors = tuple(replace(f, codes=f.codes[at], z=f.z[at]) for f in more.factors)
        steps = lmm.adapt(steps, replace(more, X=more.X[at], factors=factors), y[at])
    for a, b in zip(level_effects(once), level_effects(steps), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-11)
    rows = new_rows(fit, *draw_rows(rng, more, 6))
    assert_allclose(predict.variance(once, rows), predict.variance(steps, rows), rtol=1e-10)


def test_adapting_to_the_same_rows_is_having_them_twice():
    """One factor, frozen theta and beta: the second look doubles Z'Z and Z'r."""
    fit, problem = example(1)
    adapted = lmm.adapt(fit, problem.design, problem.y)
    expected = joint_effects(problem, fit, problem.design, problem.y)
    assert_allclose(level_effects(adapted)[0][0], expected[0], rtol=1e-10, atol=1e-11)


# ------------------------------------------------------------------------------------ draws

N_DRAWS = 20_000


def assert_moments(draws, mean, covariance, sigmas=5.0):
    """Mean and covariance of draws (n, m) within so many standard errors of theory."""
    m, variance = draws.shape[1], np.diag(covariance)
    error = np.sqrt(variance / m) + 1e-12
    assert (np.abs(draws.mean(axis=1) - mean) < sigmas * error).all()
    error = np.sqrt((covariance**2 + np.outer(variance, variance)) / m) + 1e-12
    off = np.abs(np.cov(draws) - covariance) > sigmas * error
    if np.count_nonzero(covariance - np.diag(variance)) == 0:  # only the variances are known
        off = np.diag(np.diag(off))
    assert not off.any()


def joint_covariance(problem, fit, X, codes, z):
    """Var(x'beta + z'b | y) of new rows under a flat prior on beta: dense Bayes."""
    dense = oracle(problem, fit)
    C, prior = 0.0, 0.0
    for term, code, slope in zip(dense.terms, codes, z, strict=True):
        between = slope @ term.G @ slope.T
        prior = prior + between * (code[:, None] == code)
        C = C + (slope @ term.G @ term.Z.T) * (code[:, None] == term.codes)
    d = in_units(fit, problem, X) - C @ dense.H_inv @ dense.X
    given_beta = dense.sigma2 * (prior - C @ dense.H_inv @ C.T)
    return given_beta + d @ dense.beta_covariance @ d.T


@pytest.mark.parametrize("n_factors", [1, 2, 3])
def test_draws_have_the_mean_and_covariance_of_the_posterior(n_factors):
    """Unknown levels -2, -3 are shared between the rows that name them, and by no others."""
    fit, problem = example(n_factors)
    rng = np.random.default_rng(8)
    X, codes, z = draw_rows(rng, problem.design, 9, unknown=0.0)
    codes[0][4:] = [-2, -2, -3, 2, 2]
    for c in codes[1:]:
        c[3:6] = [-2, -3, -3]
    draws = predict.draw(fit, new_rows(fit, X, codes, z), 0, N_DRAWS, np.random.default_rng(0))
    assert draws.shape == (9, N_DRAWS)
    mean = oracle(problem, fit).predict(in_units(fit, problem, X), list(zip(codes, z, strict=True)))
    assert_moments(draws, mean, joint_covariance(problem, fit, X, codes, z))


def test_draws_repeat_with_the_seed_and_keep_outputs_apart():
    fit, problem = example(2, n_outputs=2)
    rows = new_rows(fit, *draw_rows(np.random.default_rng(1), problem.design, 4, unknown=0.0))
    draw = lambda r, seed: predict.draw(fit, rows, r, 50, np.random.default_rng(seed))
    assert np.array_equal(draw(1, 3), draw(1, 3))
    assert not np.allclose(draw(1, 3), draw(1, 4))
    for r in range(2):
        alone = fitted(replace(problem, y=problem.y[:, [r]]))
        again = predict.draw(alone, rows, 0, 50, np.random.default_rng(3))
        assert_allclose(draw(r, 3), again, rtol=1e-5, atol=1e-5)


def test_draws_of_a_singular_fit_stay_in_its_space():
    """With all variances at zero the effects of known and unknown levels are zero."""
    fit, problem = example(2)
    none = replace(fit, Lambdas=tuple(0 * L for L in fit.Lambdas))
    X, codes, z = draw_rows(np.random.default_rng(1), problem.design, 6)
    draws = predict.draw(none, new_rows(none, X, codes, z), 0, 300, np.random.default_rng(0))
    A = in_units(fit, problem, X)
    left = draws - A @ np.linalg.lstsq(A, draws, rcond=None)[0]
    assert_allclose(left, 0, atol=1e-10)
