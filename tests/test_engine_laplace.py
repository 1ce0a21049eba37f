"""Laplace's approximation against brute force: values, modes, leverages, gradients, blocks."""

from dataclasses import replace

import numpy as np
import pytest
from dense_generalized import EVERY, LAYOUTS, STRUCTURES, make
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklme._engine import curvature, row_terms
from sklme._engine.aggregate import aggregated
from sklme._engine.design import Design, Factor
from sklme._engine.family import Family, Terms
from sklme._engine.gram import Frame, gram
from sklme._engine.laplace import Laplace
from sklme._engine.leverage import Leverage
from sklme._engine.modes import conditional_modes
from sklme._engine.row_terms import RowTerms
from sklme._engine.selected import posterior_entries
from sklme._engine.sweep import factorise
from sklme._engine.system import System
from sklme._engine.weighted import Weighted

ONE = np.zeros(1, int)
EXTRAS = {"weights": True, "offset": True, "covariates": True}


# -------------------------------------------------------------------------------------- value


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", ["binomial logit", "nb2 log"])
def test_value_and_modes_are_those_of_brute_force(name, layout, structure):
    case = make(name, layout, structure, **EXTRAS)
    point = case.problem().at(case.psi)
    assert point.modes.found
    assert_allclose(point.value, case.value(), rtol=1e-11)
    for ours, dense in zip(point.modes.b, case.effects(case.psi), strict=True):
        assert_allclose(ours, dense, atol=1e-7)


@pytest.mark.parametrize("name", EVERY)
def test_value_of_every_family(name):
    case = make(name, "crossed", **EXTRAS)
    assert_allclose(case.problem().at(case.psi).value, case.value(), rtol=1e-10)


@pytest.mark.parametrize("extra", [{}, *({name: True} for name in EXTRAS)])
def test_value_with_each_extra_alone(extra):
    case = make("gamma log", "three", **extra)
    assert_allclose(case.problem().at(case.psi).value, case.value(), rtol=1e-11)


@pytest.mark.parametrize("dead", [0, 1, 2, "all"])
def test_variances_of_zero(dead):
    """A factor without a variance has effects of zero, and the others are as without it."""
    case = make("poisson log", "three")
    psi, first = case.psi.copy(), 0
    for t, s in enumerate(case.structures):
        if dead in (t, "all"):
            psi[first : first + s.n_theta] = 0.0
        first += s.n_theta
    problem = case.problem()
    point = problem.at(psi)
    assert_allclose(point.value, case.value(psi), rtol=1e-11)
    for t, b in enumerate(point.modes.b):
        assert np.any(b) != (dead in (t, "all"))
    if dead == "all":
        plain = replace(case.rows, groupings=())
        alone = Laplace(case.family, plain, ()).at(psi[problem.n_theta :])
        assert_allclose(point.value, alone.value, rtol=1e-14)


def test_a_variance_of_zero_has_a_slope_of_zero_in_its_standard_deviation():
    case = make("poisson log", "one")
    psi = case.psi.copy()
    psi[0] = 0.0
    found = case.problem()(psi[None], ONE)
    assert found.gradient[0, 0] == 0.0
    assert np.isfinite(found.observed).all()


def test_there_is_no_value_where_a_mean_is_out_of_range():
    case = make("poisson identity", "one")
    psi = case.psi.copy()
    psi[1] = -3.0
    found = case.problem()(psi[None], ONE)
    assert found.value[0] == np.inf and not found.gradient.any()


# ----------------------------------------------------------------------------------- gradient


def along(problem, psi, d, step=2e-3):
    """The derivative of the criterion along d by central differences of order six."""
    problem(psi[None], ONE)
    start = problem.latest
    total = 0.0
    for k, w in ((1, 45.0), (2, -9.0), (3, 1.0)):
        for sign in (1, -1):
            problem.latest = start  # so that each search begins from the same modes
            total += sign * w * -2.0 * problem.at(psi + sign * k * step * d).value
    return total / (60.0 * step)


def check_gradient(case, rng, n_directions=2):
    problem = case.problem()
    exact = problem(case.psi[None], ONE).gradient[0]
    size = max(1.0, np.abs(exact).max())
    scale = 0.1 if case.family.link.name in ("identity", "inverse", "sqrt") else 1.0
    for _ in range(n_directions):
        d = scale * rng.normal(size=len(exact)) / np.sqrt(len(exact))
        assert abs(along(problem, case.psi, d) - exact @ d) <= 1e-6 * size


@pytest.mark.parametrize("layout", ["slopes", "chain"])
@pytest.mark.parametrize("name", EVERY)
def test_gradient_of_every_family(name, layout):
    """One factor, and three of which two are nested; weights, offset, auxiliary covariates."""
    check_gradient(make(name, layout, **EXTRAS), np.random.default_rng(0), 1)


@settings(max_examples=20)
@given(
    name=st.sampled_from(EVERY),
    layout=st.sampled_from(LAYOUTS),
    structure=st.sampled_from(STRUCTURES),
    weights=st.booleans(),
    offset=st.booleans(),
    covariates=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_gradient_is_exact(name, layout, structure, weights, offset, covariates, seed):
    extras = {"weights": weights, "offset": offset, "covariates": covariates}
    case = make(name, layout, structure, n=40, seed=seed, noise=0.15, **extras)
    check_gradient(case, np.random.default_rng(seed))


def test_gradient_by_coordinate_is_exact():
    """Every entry on its own: weights, offset, slopes, three factors, auxiliary covariates."""
    case = make("zero-inflated nb2", "three", **EXTRAS)
    problem = case.problem()
    exact = problem(case.psi[None], ONE).gradient[0]
    quotients = [along(problem, case.psi, e) for e in np.eye(len(exact))]
    assert_allclose(quotients, exact, atol=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["binomial logit", "poisson log", "gamma log", "nb2 log"])
def test_hessian_is_exact_for_the_likelihood_at_the_modes(name):
    """In beta and the auxiliary coefficients it lacks the derivatives of the determinant only."""
    case = make(name, "crossed", covariates=True)
    problem = case.problem()
    hessian = problem(case.psi[None], ONE).observed[0]
    start, n = problem.latest, problem.n_theta

    def at_modes(psi):
        problem.latest = start
        point = problem.at(psi)
        return -2.0 * point.value - point.modes.at.log_det

    assert_array_equal(hessian, hessian.T)
    d = np.eye(len(case.psi)) * 1e-2
    for i in range(n, len(case.psi)):
        for j in range(n, i + 1):
            a, b = d[i], d[j]
            corners = [at_modes(case.psi + s) for s in (a + b, a - b, b - a, -a - b)]
            quotient = (corners[0] - corners[1] - corners[2] + corners[3]) / 4e-4
            assert_allclose(hessian[i, j], quotient, atol=2e-4 * np.abs(hessian).max())


# -------------------------------------------------------- cross-products, leverages, row blocks


def any_weights(case, seed=0):
    return np.random.default_rng(seed).gamma(2.0, size=len(case.y))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leverage_is_that_of_the_dense_posterior(layout):
    """z'Phi z with Phi = Lambda (I + Lambda'Z'WZ Lambda)^-1 Lambda'."""
    case = make("poisson log", layout)
    W, weighted = any_weights(case), Weighted(case.rows.groupings)
    Lambdas = case.unpacked(case.psi)[0]
    at = factorise(weighted.system(W), Lambdas)
    ours = Leverage(case.rows.groupings, weighted.plan)(at, posterior_entries(at))
    S = case.spread(Lambdas)
    H = np.eye(S.shape[1]) + (S.T * W) @ S
    assert_allclose(ours, np.einsum("ni,ij,nj->n", S, np.linalg.inv(H), S), rtol=1e-10)
    assert_allclose(at.log_det, np.linalg.slogdet(H)[1], rtol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leverage_of_levels_with_a_variance_of_zero(layout):
    case = make("poisson log", layout)
    weighted = Weighted(case.rows.groupings)
    at = factorise(
        weighted.system(any_weights(case)), [np.zeros((s.k, s.k)) for s in case.structures]
    )
    assert not Leverage(case.rows.groupings, weighted.plan)(at, posterior_entries(at)).any()


def plain_gram(case, weights):
    """The cross-products of the same rows by the linear model's own pass over them."""
    factors = tuple(Factor(c, q, z) for c, q, z, _ in case.groups)
    design = Design(case.X[:, 1:], factors, weights=weights)
    p = case.X.shape[1] - 1
    frame = Frame(
        np.zeros(p), np.ones(p), np.zeros(1), np.ones(1), tuple(np.eye(f.k) for f in factors)
    )
    return gram(design, np.zeros((len(case.y), 1)), frame)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_system_under_weights_is_that_of_the_linear_model(layout):
    """On the shared plan: the same numbers, and the same factorisation, for weights that change."""
    case = make("poisson log", layout)
    weighted, Lambdas = Weighted(case.rows.groupings), case.unpacked(case.psi)[0]
    for seed in range(3):
        W = any_weights(case, seed)
        ours, theirs = weighted.system(W), System(plain_gram(case, W))
        assert ours.plan.chain == theirs.plan.chain
        for f, g in zip(ours.gram.factors, theirs.gram.factors, strict=True):
            assert_allclose(f.zz, g.zz, rtol=1e-13)
        for key, cross in theirs.gram.cross.items():
            assert_array_equal(ours.gram.cross[key].rows, cross.rows)
            assert_allclose(ours.gram.cross[key].data, cross.data, rtol=1e-12, atol=1e-13)
        E = weighted.sums(np.stack([W, W**2]))
        solved = [factorise(s, Lambdas).posterior(E) for s in (ours, theirs)]
        for a, b in zip(*solved, strict=True):
            for x, y in zip(a, b, strict=True):
                assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_and_parts_are_products_with_the_dense_z(layout):
    case = make("poisson log", layout)
    rng, weighted = np.random.default_rng(0), Weighted(case.rows.groupings)
    r = rng.normal(size=(2, len(case.y)))
    effects = [rng.normal(size=(z.shape[1], q)) for _, q, z, _ in case.groups]
    for ours, Z, g in zip(weighted.sums(r), case.Z, case.rows.groupings, strict=True):
        assert_allclose(ours, (r @ Z).reshape(2, g.n_levels, g.k).transpose(2, 0, 1), atol=1e-12)
    for one, all_ in zip(weighted.column_sums(iter(r)), weighted.sums(r), strict=True):
        assert_array_equal(one, all_)
    dense = sum(Z @ b.T.ravel() for Z, b in zip(case.Z, effects, strict=True))
    assert_allclose(weighted.part(effects), dense, atol=1e-12)


def test_weights_below_zero_are_taken_as_they_are():
    """Where rows are not concave, the observed information is what the determinant needs."""
    case = make("poisson log", "crossed")
    W = any_weights(case)
    W[::7] *= -0.1
    Lambdas = case.unpacked(case.psi)[0]
    S = case.spread(Lambdas)
    H = np.eye(S.shape[1]) + (S.T * W) @ S
    assert np.linalg.eigvalsh(H).min() > 0
    at = factorise(Weighted(case.rows.groupings).system(W), Lambdas)
    assert_allclose(at.log_det, np.linalg.slogdet(H)[1], rtol=1e-12)


IN_BLOCKS = ["binomial logit", "cumulative logit", "zero-inflated nb1", "poisson log", "nb2 log"]
IN_BLOCKS += ["gamma log", "beta logit", "tweedie log"]


@pytest.mark.parametrize("name", IN_BLOCKS)
@pytest.mark.parametrize("size", [7, 59, 60, 61])
def test_rows_in_blocks_have_the_terms_of_all_rows(monkeypatch, name, size):
    case = make(name, "one", weights=True, covariates=True)
    *_, eta, tau = case.unpacked(case.psi)
    whole = RowTerms(case.family, case.outcome)(eta, tau, 3)
    monkeypatch.setattr(row_terms, "BLOCK", size)
    parts = RowTerms(case.family, case.outcome)(eta, tau, 3)
    for field in vars(whole):
        if getattr(whole, field) is not None:
            assert_allclose(getattr(parts, field), getattr(whole, field), rtol=1e-10)


@pytest.mark.parametrize("name", ["binomial probit", "nb2 log"])
def test_more_rows_than_a_block_give_the_same_criterion(monkeypatch, name):
    case = make(name, "crossed", n=40_000, weights=True)
    found = [case.problem()(case.psi[None], ONE)]
    assert len(case.problem().terms.blocks) == 3
    for module in (row_terms, curvature):
        monkeypatch.setattr(module, "BLOCK", 10**9)
    assert len(case.problem().terms.blocks) == 1
    found.append(case.problem()(case.psi[None], ONE))
    assert_allclose(found[0].value, found[1].value, rtol=1e-13)
    size = np.abs(found[1].gradient).max()
    assert_allclose(found[0].gradient, found[1].gradient, atol=1e-9 * size)
    size = np.abs(found[1].observed).max()
    assert_allclose(found[0].observed, found[1].observed, atol=1e-9 * size)


# ----------------------------------------------------------------- rows that mean the same


def reordered(case, order, names):
    """The same rows in another order, their levels under other numbers."""
    some = {name: getattr(case, name) for name in ("y", "trials", "weights", "offset", "X")}
    return replace(
        case,
        **{name: None if a is None else a[order] for name, a in some.items()},
        groups=[
            (p[c][order], q, z[order], s)
            for (c, q, z, s), p in zip(case.groups, names, strict=True)
        ],
        aux=tuple(A[order] for A in case.aux),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_order_of_rows_and_numbers_of_levels_do_not_matter(layout):
    case = make("nb1 log", layout, **EXTRAS)
    rng = np.random.default_rng(0)
    names = [rng.permutation(q) for _, q, *_ in case.groups]
    other = reordered(case, rng.permutation(len(case.y)), names)
    one, two = case.problem(), other.problem()
    found = [p(case.psi[None], ONE) for p in (one, two)]
    assert_allclose(found[0].value, found[1].value, rtol=1e-13)
    assert_allclose(found[0].gradient, found[1].gradient, rtol=1e-7, atol=1e-8)
    for a, b, p in zip(one.latest[0].modes.b, two.latest[0].modes.b, names, strict=True):
        assert_allclose(a, b[:, p], atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_repeated_rows(name):
    case = make(name, "crossed", n=40, **EXTRAS)
    found = [c.problem()(case.psi[None], ONE) for c in (case, case.repeated())]
    assert_allclose(found[0].value, found[1].value, rtol=1e-12)
    assert_allclose(found[0].gradient, found[1].gradient, rtol=1e-6, atol=1e-7)


def coarse(case):
    """The same case with few different rows: columns rounded to three values."""
    X = np.clip(np.rint(case.X), -1, 1)
    return replace(
        case,
        X=X,
        offset=None if case.offset is None else np.rint(case.offset),
        groups=[(c // 2, q, X[:, : z.shape[1]], s) for c, q, z, s in case.groups],
        aux=tuple(X[:, : A.shape[1]] for A in case.aux),
    )


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("layout", ["one", "crossed", "three"])
@pytest.mark.parametrize("name", ["binomial logit", "binomial cloglog", "poisson log"])
def test_rows_added_up_have_the_likelihood_of_all(name, layout, weights):
    case = coarse(make(name, layout, n=800, weights=weights, offset=True))
    fewer = aggregated(case.family, case.rows)
    assert fewer.n < 0.8 * case.rows.n
    other = Laplace(case.family, fewer, case.structures)
    found = [p(case.psi[None], ONE) for p in (case.problem(), other)]
    assert_allclose(found[0].value, found[1].value, rtol=1e-12)
    assert_allclose(found[0].gradient, found[1].gradient, rtol=1e-6, atol=1e-6)
    assert_allclose(found[0].observed, found[1].observed, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gamma log", "nb2 log", "poisson log"])
def test_rows_are_left_alone_where_nothing_adds_up(name):
    """A family that needs every row, or rows that all differ."""
    case = make(name, "crossed", n=200)
    rows = case.rows if name == "poisson log" else coarse(case).rows
    assert aggregated(case.family, rows) is rows


# -------------------------------------------------------------------------------------- modes


def search(problem, psi, scores, **options):
    """The modes from a given start."""
    Lambdas, beta, tau = problem.unpack(psi)
    fixed = beta @ problem.rows.X
    return conditional_modes(lambda b: problem._local(fixed, tau, b), Lambdas, scores, **options)


CONCAVE = ["binomial logit", "binomial cloglog", "poisson log", "gamma log", "cumulative logit"]


@pytest.mark.parametrize("layout", ["one", "slopes", "crossed", "chain"])
@pytest.mark.parametrize("name", CONCAVE)
def test_modes_are_found_from_far_away(name, layout):
    case = make(name, layout)
    problem, rng = case.problem(), np.random.default_rng(0)
    near = problem.at(case.psi).modes
    for size in (1.0, 10.0):
        start = [size * rng.normal(size=s.shape) for s in near.scores]
        found = search(problem, case.psi, start, max_steps=200)
        assert found.found
        for a, b in zip(found.b, near.b, strict=True):
            assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("size", [20.0, 50.0, 100.0])
@pytest.mark.parametrize("layout", ["one", "slopes", "crossed", "chain"])
@pytest.mark.parametrize("name", ["gamma log", "binomial cloglog"])
def test_modes_that_were_not_reached_are_not_said_to_be_found(name, layout, size):
    """From linear predictors of hundreds a search may give up, but must say so."""
    case = make(name, layout)
    problem, rng = case.problem(), np.random.default_rng(0)
    near = problem.at(case.psi).modes
    with np.errstate(all="ignore"):
        start = [size * rng.normal(size=s.shape) for s in near.scores]
        found = search(problem, case.psi, start, max_steps=200)
    off = max(np.abs(a - b).max() for a, b in zip(found.b, near.b, strict=True))
    assert off < 1e-7 or not found.found


@pytest.mark.parametrize("name", EVERY)
def test_modes_are_stationary_and_maxima(name):
    """s = Z'r, and I + Lambda'Z'WZ Lambda is positive definite, also where rows are not concave."""
    case = make(name, "three", noise=0.8, **EXTRAS)
    point = case.problem().at(case.psi)
    assert point.modes.found
    sums = case.problem().weighted.sums(point.terms.first[None])
    for s, g, L in zip(point.modes.scores, sums, point.Lambdas, strict=True):
        size = 1.0 + np.abs(g).max()
        assert_allclose(L.T @ s, L.T @ g[:, 0], atol=1e-6 * size)
    S = case.spread(point.Lambdas)
    assert np.linalg.eigvalsh(np.eye(S.shape[1]) - (S.T * point.terms.second) @ S).min() > 0


class StudentT(Family):
    """Location and a fixed scale of 1 with three degrees of freedom: rows are not concave."""

    name = "t"

    def mu_terms(self, outcome, mu, aux, order):
        r = outcome.y - mu
        a = 3 + r * r
        return Terms(
            -2 * np.log1p(r * r / 3),
            4 * r / a,
            4 * (r * r - 3) / a**2,
            8 * r * (r * r - 9) / a**3,
        )


def t_case(layout, y=None):
    base = make("poisson log", layout)
    y = np.random.default_rng(1).standard_t(2, size=len(base.y)) if y is None else y
    return replace(base, family=StudentT(), y=y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_family_of_one_s_own_that_is_not_concave(layout):
    case = t_case(layout)
    assert (case.problem().at(case.psi).terms.second > 0).any()
    assert_allclose(case.problem().at(case.psi).value, case.value(), rtol=1e-10)
    check_gradient(case, np.random.default_rng(0))


def test_modes_where_newtons_first_step_would_climb_down():
    """All rows of a level far in the convex tail: the curvature has the wrong sign at the start."""
    case = t_case("one", y=np.full(60, 9.0))
    psi = np.array([2.0, 0.0, 0.0, 0.0])
    problem = case.problem()
    found = search(problem, psi, [np.zeros((1, 8))], max_steps=200)
    assert found.found and (found.b[0] > 8).all()
    assert_allclose(found.local.gradient[0], found.scores[0], atol=1e-8)


def test_levels_that_pull_apart():
    """One level of zeros, one of counts in millions, one without rows: each at its own pace."""
    codes = np.repeat([0, 1, 2], [20, 20, 5])
    y = np.concatenate([np.zeros(20), np.full(20, 3e6), np.ones(5)])
    case = make("poisson log", "one", n=45)
    (_, _, z, s), X = case.groups[0], case.X.copy()
    X[:, 1:] = 0.0
    case = replace(case, X=X, y=y, groups=[(codes, 4, z, s)])
    psi = np.array([5.0, 0.0, 0.0, 0.0])
    with np.errstate(all="ignore"):
        point = case.problem().at(psi)
    assert point.modes.found
    b = point.modes.b[0][0]
    sums, counts = np.bincount(codes, y, 4), np.bincount(codes, minlength=4)
    assert_allclose(sums - counts * np.exp(b), b / 25.0, atol=1e-6)
    assert b[3] == 0.0 and b[0] < -2 and b[1] > 14
    assert_allclose(point.value, case.value(psi), rtol=1e-8)  # of terms of 1e9


def test_a_search_that_is_cut_short_says_so():
    case = make("poisson log", "crossed")
    problem = case.problem()
    start = [np.zeros((z.shape[1], q)) for _, q, z, _ in case.groups]
    assert not search(problem, case.psi, start, max_steps=1).found
    assert search(problem, case.psi, start).found


def test_where_the_search_begins_does_not_matter_to_the_value():
    """The memory of the last point is a start, nothing else."""
    case = make("zero-inflated poisson", "three", **EXTRAS)
    problem, rng = case.problem(), np.random.default_rng(0)
    fresh = case.problem().at(case.psi).value
    for _ in range(5):
        problem((case.psi + 0.5 * rng.normal(size=len(case.psi)))[None], ONE)
        assert_allclose(problem.at(case.psi).value, fresh, rtol=1e-11)
