"""Adaptive quadrature against brute-force integrals, difference quotients and R."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import logsumexp, softmax

from sklme._engine import glmm
from sklme._engine.covariance import Structure
from sklme._engine.design import Design, Factor
from sklme._engine.families import FAMILIES
from sklme._engine.family import Terms
from sklme._engine.glmm_rows import Prepared, prepare
from sklme._engine.glmm_start import starting_point
from sklme._engine.laplace import Laplace
from sklme._engine.quadrature import NodeSums, Quadrature, check_quadrature, nodes
from sklme._engine.weighted import Grouping
from sklme.datasets import load_cbpp, load_grouseticks

ONE = np.zeros(1, int)
EVERY = [(name, link) for name, family in FAMILIES.items() for link in family.links]
BOUNDED = {"identity", "inverse", "sqrt"}  # links whose linear predictor must stay positive


def full(k):
    return Structure(k, (tuple(range(k)),))


@dataclass
class Case:
    """Rows of one factor with everything that a model may have, and parameters near the truth."""

    family: object
    ready: Prepared
    psi: np.ndarray

    def problem(self, n_quadrature):
        return Quadrature(self.family, self.ready.rows, self.ready.structures, n_quadrature)

    def value(self, n_quadrature):
        return self.problem(n_quadrature).at(self.psi).value


def make(name, link, k, *, q=8, n=70, seed=0, structure=None):
    """Weights, an offset, trials, and an auxiliary predictor that depends on a column."""
    rng = np.random.default_rng([seed, k])
    family = FAMILIES[name](link)
    x, g = rng.normal(size=(n, 2)), rng.integers(q, size=n)
    z = np.column_stack([np.ones(n), x])[:, :k]
    weights = rng.integers(1, 4, n).astype(float)
    trials = np.full(n, 3.0) if name == "binomial" else None
    tau = np.full((len(family.aux_names), 1), -0.5)
    y = np.asarray(family.sample(np.full(n, 0.8), tau, trials, rng), float)
    aux = tuple(x[:, :1] for _ in family.aux_names)
    design = Design(x, (Factor(g, q, z),), weights=weights)
    structures = (structure or full(k),)
    ready = prepare(design, y, family, structures, 0.05 * x[:, 0], trials, aux)
    n_theta = structures[0].n_theta
    size = n_theta + 3 + sum(len(A) for A in ready.rows.aux)
    psi = 0.3 * rng.normal(size=size) - 0.1
    psi[:n_theta] += structures[0].theta(0.5 * np.eye(k))
    if family.link.name in BOUNDED:
        psi *= 0.1
        psi[n_theta] = 2.0
    return Case(family, ready, psi)


def integrand(case, q):
    """log p(y | u) p(u) of one level, for u of shape (m, k): every row repeated m times."""
    problem = case.problem(2)
    (Lambda,), beta, tau = problem.unpack(case.psi)
    rows, family = case.ready.rows, case.family
    at = rows.groupings[0].codes == q
    fixed = (beta @ rows.X + rows.offset)[at]
    z = rows.groupings[0].values()[:, at]
    o = rows.outcome
    some = [None if a is None else a[at] for a in (o.y, o.trials, o.weights)]
    tau = np.broadcast_to(tau, (len(tau), rows.n))[:, at]

    def log_density(u):
        m = len(u)
        outcome = family.outcome(*(None if a is None else np.tile(a, m) for a in some))
        eta = (fixed + (u @ Lambda.T) @ z).ravel()
        value = family.value(outcome, eta, np.tile(tau, m)).reshape(m, -1).sum(axis=1)
        constant = family.outcome(*some).constant
        return value + constant - 0.5 * (u**2).sum(axis=1) - 0.5 * u.shape[1] * np.log(2 * np.pi)

    return log_density


def brute_force(case):
    """The log-likelihood by integrals level by level: adaptive for k = 1, a fine grid for k = 2."""
    g, total = case.ready.rows.groupings[0], 0.0
    for q in np.unique(g.codes):
        f = integrand(case, q)
        h = 0.2 if g.k == 2 else 0.02
        line = np.arange(-9.0, 9.0, h)
        grid = np.stack(np.meshgrid(*[line] * g.k), axis=-1).reshape(-1, g.k)
        values = f(grid)
        if g.k == 2:
            total += logsumexp(values) + 2 * np.log(h)
            continue
        at, top = grid[values.argmax(), 0], values.max()
        found = quad(
            lambda u, f=f, top=top: np.exp(f(np.array([[u]]))[0] - top),
            *(-12.0, 12.0),
            points=[at - 1, at, at + 1],
            epsabs=1e-13,
            epsrel=1e-12,
        )
        total += top + np.log(found[0])
    return total


def assert_gradient(problem, psi, rtol=1e-6, h=1e-4):
    """The gradient against central differences of order four, along some directions."""
    rng, at = np.random.default_rng(0), problem(psi[None], ONE)
    for _ in range(3):
        d = rng.normal(size=len(psi))
        v = [problem((psi + c * h * d)[None], ONE).value[0] for c in (1, -1, 2, -2)]
        slope = (8 * (v[0] - v[1]) - (v[2] - v[3])) / (12 * h)
        size = np.abs(at.gradient[0] * d).max()
        assert abs(at.gradient[0] @ d - slope) < rtol * max(size, 1.0)


# --------------------------------------------------------------------------------------- the nodes


@pytest.mark.parametrize("n", [*range(1, 26), 60, 100])
def test_nodes_integrate_polynomials_exactly(n):
    t, log_weight = nodes((n,))
    weight = np.exp(log_weight - 0.5 * t[:, 0, 0] ** 2)
    for degree, moment in enumerate([1.0, 0.0, 1.0, 0.0, 3.0, 0.0, 15.0][: 2 * n]):
        assert_allclose(weight @ t[:, 0, 0] ** degree, moment, atol=1e-11)


def test_nodes_of_several_coefficients_are_a_product():
    t, log_weight = nodes((3, 1, 2))
    assert t.shape == (6, 3, 1)
    weight = np.exp(log_weight - 0.5 * (t**2).sum(axis=(1, 2)))
    assert_allclose(weight.sum(), 1.0)
    assert_allclose(np.einsum("m,ma,mb->ab", weight, t[..., 0], t[..., 0]), np.diag([1, 0, 1]))


# --------------------------------------------------------------------------------------- the value


@pytest.mark.parametrize(
    ("name", "link", "k", "n_nodes"),
    [
        ("binomial", "logit", 1, 40),
        ("binomial", "cloglog", 1, 40),
        ("poisson", "log", 1, 30),
        ("gamma", "log", 1, 40),
        ("nb2", "log", 1, 40),
        ("binomial", "logit", 2, 30),
        ("poisson", "log", 2, 20),
        ("gamma", "log", 2, 30),
        ("nb2", "log", 2, 30),
    ],
)
def test_value_is_the_integral(name, link, k, n_nodes):
    case = make(name, link, k, q=6, n=40)
    assert_allclose(case.value(n_nodes), brute_force(case), rtol=0, atol=1e-8)


def test_value_approaches_its_limit():
    case = make("binomial", "logit", 1)
    limit = case.value(60)
    error = [abs(case.value(n) - limit) for n in (1, 3, 6, 10, 20)]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(error))
    assert error[-1] < 1e-7


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_one_node_is_laplace(name, k):
    case = make(name, "log", k)
    laplace = Laplace(case.family, case.ready.rows, case.ready.structures)
    expected = laplace(case.psi[None], ONE)
    single = case.problem(3)
    single.nodes = nodes((1,) * k)
    for problem in (case.problem(1), single):
        found = problem(case.psi[None], ONE)
        assert_allclose(found.value, expected.value, rtol=1e-13)
        assert_allclose(found.gradient, expected.gradient, rtol=1e-8, atol=1e-7)


def test_a_coefficient_without_variance_costs_no_nodes():
    alone = make("poisson", "log", 1)
    (g,) = alone.ready.rows.groupings
    x = alone.ready.rows.X[1]
    wide = replace(
        alone.ready.rows, groupings=(Grouping(g.codes, g.n_levels, np.stack([1 + 0 * x, x])),)
    )
    problem = Quadrature(alone.family, wide, (Structure(2, ((0,),)),), 7)
    assert len(problem.nodes[0]) == 7
    expected, found = (p(alone.psi[None], ONE) for p in (alone.problem(7), problem))
    assert_allclose(found.value, expected.value, rtol=1e-13)
    assert_allclose(found.gradient, expected.gradient, rtol=1e-9, atol=1e-8)


def test_value_in_the_limit_does_not_depend_on_the_chart():
    case = make("binomial", "logit", 2)
    other = case.problem(25)
    Lambda = other.unpack(case.psi)[0]
    other.charts.places[0] = np.array([[1, 0]])
    theta = other.charts.theta([Lambda[0][None]], ONE)[0]
    moved = np.concatenate([theta, case.psi[3:]])
    assert other.unpack(moved)[0][0][0, 1] != 0  # the factor is no longer lower triangular
    assert_allclose(other.at(moved).value, case.value(25), rtol=0, atol=1e-7)
    assert_gradient(other, moved)


def test_no_groups_is_the_plain_model():
    case = make("poisson", "log", 1)
    rows = replace(case.ready.rows, groupings=())
    expected = Laplace(case.family, rows, ())(case.psi[None, 1:], ONE)
    found = Quadrature(case.family, rows, (), 9)(case.psi[None, 1:], ONE)
    assert_array_equal(found.value, expected.value)
    assert_array_equal(found.gradient, expected.gradient)


# ------------------------------------------------------------------------------------ the gradient


@pytest.mark.parametrize(("name", "link"), EVERY)
@pytest.mark.parametrize(("k", "n_nodes"), [(1, 5), (2, 3), (3, 2)])
def test_gradient(name, link, k, n_nodes):
    case = make(name, link, k)
    assert_gradient(case.problem(n_nodes), case.psi)


@pytest.mark.parametrize("theta", [(0.0, 0.0, 0.0), (0.6, 0.0, 0.0), (0.6, -0.4, 0.0)])
@pytest.mark.parametrize("name", ["poisson", "nb2"])
def test_gradient_where_a_variance_is_zero(name, theta):
    case = make(name, "log", 2)
    case.psi[:3] = theta
    assert_gradient(case.problem(4), case.psi)


def test_gradient_where_nodes_are_out_of_range():
    case = make("gamma", "identity", 1)
    case.psi[0] = 1.5
    problem = case.problem(21)
    point = problem.at(case.psi)
    far = point.eta + problem.rows.groupings[0].part(
        point.peak.Lambda @ point.peak.step(problem.nodes[0].min() * np.ones((1, 1)))
    )
    assert (far < 0).any()  # where the mean would be negative
    assert_gradient(problem, case.psi)


# ------------------------------------------------------------------------------------- safe sums


def test_sums_survive_weights_of_any_size():
    rng, grouping = np.random.default_rng(0), Grouping(np.array([0, 1, 1, 2]), 3, None)
    log_weight = rng.normal(size=(6, 3)) + np.array([0.0, -600.0, 5000.0])
    log_weight[2] += 900.0
    log_weight[4, 1] = np.nan
    first, t = rng.normal(size=(6, 4)), rng.normal(size=(6, 1, 1))
    first[4, 1:3] = np.inf
    sums = NodeSums(grouping, 0)
    for w, f, x in zip(log_weight, first, t, strict=True):
        sums.add(w, x, Terms(f, f, f))
    sums.close()
    log_weight[4, 1], first[4, 1:3] = -np.inf, 0.0
    share = softmax(log_weight, axis=0)
    assert_allclose(sums.log_size, logsumexp(log_weight, axis=0), rtol=1e-14)
    assert_allclose(sums.first, (share[:, grouping.codes] * first).sum(axis=0), rtol=1e-12)
    assert_allclose(sums.t[0], share.T @ t[:, 0, 0], rtol=1e-12)


# --------------------------------------------------------------------------------- what is possible


@pytest.mark.parametrize("n", [0, -1, 101, 2.0, "9", None, True])
def test_number_of_nodes_is_checked(n):
    with pytest.raises(ValueError, match=r"whole number from 1 to 100: it is"):
        check_quadrature((), n)


def test_what_quadrature_cannot_do_is_said():
    one, four = Grouping(np.zeros(3, int), 1, None), Grouping(np.zeros(3, int), 1, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"n_quadrature=9 .* one grouping factor, .* there are 2"):
        check_quadrature((one, one), 9)
    with pytest.raises(ValueError, match=r"n_quadrature=2 .* at most 3 coefficients .* are 4"):
        check_quadrature((four,), 2)
    check_quadrature((one, four), 1)
    check_quadrature((one,), np.int64(100))
    check_quadrature((), 9)


# ---------------------------------------------------------------------------------------- the fit


def fit(design, y, name, n_quadrature, trials=None):
    """Estimates in units of the data: intercept and coefficients, Lambdas, -2 log L, the record."""
    family = FAMILIES[name]()
    structures = tuple(full(f.k) for f in design.factors)
    ready = prepare(design, np.asarray(y, float), family, structures, None, trials, ())
    problem = Quadrature(family, ready.rows, ready.structures, n_quadrature)
    psi, record = glmm.search(problem, starting_point(family, ready), 1e-8, 100)
    point, frame = problem.at(psi), ready.frame
    coef = point.beta[1:] / frame.x_scale
    beta = np.concatenate([[point.beta[0] - coef @ frame.x_shift], coef])
    Lambdas = [T @ L for T, L in zip(frame.z_maps, point.Lambdas, strict=True)]
    return beta, Lambdas, -2 * point.value, record


def by_group(table, period, group):
    """Indicators of all but the first period, and a random intercept of the group."""
    values, groups = table[period].to_numpy(), table[group].to_numpy()
    X = (values[:, None] == np.unique(values)[1:]).astype(float)
    levels, codes = np.unique(groups, return_inverse=True)
    return Design(X, (Factor(codes, len(levels), np.ones((len(X), 1))),))


def test_cbpp_as_in_r():
    # lme4 1.1-31: glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial,
    # nAGQ = 9). Its logLik leaves out constants where nAGQ > 1; -2 log L has them all.
    table = load_cbpp().frame
    design = by_group(table, "period", "herd")
    beta, (Lambda,), minus_two, record = fit(
        design, table["incidence"], "binomial", 9, table["size"].to_numpy(float)
    )
    expected = [-1.39923019257918, -0.991403876498448, -1.12781967730805, -1.57947101615676]
    assert_allclose(beta, expected, rtol=1e-6)
    assert_allclose(Lambda, [[0.647517712001679]], rtol=1e-6)
    assert_allclose(minus_two, 183.9668, atol=1e-4)
    assert record.converged.all()


def test_grouseticks_with_many_nodes():
    # lme4 1.1-31: glmer(TICKS ~ YEAR + (1 | LOCATION), grouseticks, poisson, nAGQ = 25)
    table = load_grouseticks().frame
    design = by_group(table, "YEAR", "LOCATION")
    beta, (Lambda,), minus_two, record = fit(design, table["TICKS"], "poisson", 25)
    assert_allclose(beta, [0.6490689, 0.9435160, -1.4366911], rtol=1e-5)
    assert_allclose(Lambda, [[1.2891583]], rtol=1e-5)
    assert_allclose(minus_two, 2297.779817, atol=1e-6)
    assert record.converged.all()


def simulated(seed, size):
    """Yes or no in 40 groups whose intercept and slope vary with standard deviation `size`."""
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=400), rng.integers(40, size=400)
    z = np.column_stack([np.ones(400), x])
    eta = 0.3 + 0.5 * x + (z * (size * rng.normal(size=(40, 2)))[g]).sum(axis=1)
    y = rng.random(400) < 1 / (1 + np.exp(-eta))
    return Design(x[:, None], (Factor(g, 40, z),)), y


def test_slopes_are_fitted():
    design, y = simulated(0, 1.0)
    _, _, laplace, _ = fit(design, y, "binomial", 1)
    found = [fit(design, y, "binomial", n) for n in (7, 11)]
    for _, _, _, record in found:
        assert record.converged.all()
        assert record.gradient_norm.max() < 1e-4
        assert record.n_evaluations.max() <= 20
    assert_allclose(found[0][0], found[1][0], rtol=1e-3)
    assert abs(found[0][2] - found[1][2]) < 0.01 * abs(laplace - found[1][2])


@pytest.mark.parametrize(("seed", "at_zero"), [(1, True), (2, False)])
def test_a_variance_may_end_at_zero(seed, at_zero):
    design, y = simulated(seed, 0.0)
    design = replace(design, factors=(replace(design.factors[0], z=np.ones((400, 1))),))
    _, (Lambda,), minus_two, record = fit(design, y, "binomial", 9)
    _, _, plain, _ = fit(replace(design, factors=()), y, "binomial", 9)
    assert record.converged.all()
    assert (Lambda[0, 0] == 0.0) == at_zero
    assert (abs(minus_two - plain) < 1e-9) if at_zero else (minus_two < plain - 0.1)
