"""Exact derivatives of nonlinear mixed models against difference quotients, everywhere they differ.

The objectives are differenced with modes that are searched anew at each point.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_nonlinear import (
    Structure,
    identity_design,
    oral,
    parameters,
    phenobarbital,
    theophylline,
    theophylline_rows,
)

from sklme._engine.nlme.data import Data
from sklme._engine.nlme.derivatives import coordinates, jacobian, predict, second, third
from sklme._engine.nlme.errors import loss, slopes, values, variance
from sklme._engine.nlme.kinds import KINDS
from sklme._engine.nlme.methods import METHODS, Method, Objective
from sklme._engine.nlme.modes import derive, exact_half
from sklme._engine.nlme.parameters import Block, Parameters, Pattern, search
from sklme._engine.nlme.point import Point

OMEGA = np.array([[0.4, 0.05, 0.02], [0.05, 0.07, 0.01], [0.02, 0.01, 0.03]])
BETA = np.array([0.5, 1.0, 3.4])
SIGMA = {
    "additive": [0.7],
    "proportional": [0.2],
    "combined": [0.5, 0.1],
    "combined1": [0.5, 0.1],
    "lognormal": [0.2],
}


def assert_gradient(data, start, pattern, method, *, rtol=1e-5, **fixed):
    """The gradient of each subject is the difference quotient of its objective."""
    n_nodes = 3 if data.n_effects < 4 else 2
    method = Method(method, n_nodes) if isinstance(method, str) else method
    objective = Objective(data, search(start, pattern, **fixed), method)
    theta = objective.search.pack(start)
    at = objective.evaluate(theta)
    gradient = objective.gradients(theta, at)

    def value(theta):
        point = objective.point(theta)
        return method.at(point, method.modes(point, at.modes.u), gradient=False).value

    steps = 1e-5 * np.eye(len(theta))
    quotients = [(value(theta + step) - value(theta - step)) / 2e-5 for step in steps]
    quotients = np.transpose(quotients)
    assert np.abs(quotients).max() > 0.1
    assert_allclose(gradient, quotients, rtol=rtol, atol=rtol * np.abs(quotients).max())


def observed(error):
    """Theophylline without the rows at time 0, where some errors are impossible."""
    return theophylline(error, without_start=True), Parameters(BETA, OMEGA, np.array(SIGMA[error]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", KINDS)
def test_every_error_and_method(error, method):
    assert_gradient(*observed(error), Pattern.full(3), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "pattern",
    [
        Pattern.diagonal(3),
        Pattern.of((0, 2), (1,)),
        Pattern((Block(((0,),), frozen=True), Block(((1, 2),)))),
        Pattern((Block(((0,), (1,))), Block(((2,),)))),
    ],
    ids=["diagonal", "blocks", "frozen", "tied"],
)
def test_every_pattern_and_method(pattern, method):
    data, start = observed("combined")
    assert_gradient(data, replace(start, Omega=pattern.impose(OMEGA)), pattern, method)


def test_frozen_parameters_are_left_out():
    data, start = observed("combined")
    fixed = {"fixed_beta": [False, True, False], "fixed_sigma": [True, False]}
    found = search(start, Pattern.full(3), **fixed)
    assert [label for label in found.labels if label[0] != "log_factor"][:2] == [
        ("beta", 0),
        ("beta", 2),
    ]
    moved = found.unpack(found.pack(start) + 0.1)
    assert moved.beta[1] == start.beta[1] and moved.sigma[0] == start.sigma[0]
    assert_gradient(data, start, Pattern.full(3), "focei", **fixed)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "fo"])
@pytest.mark.parametrize("error", KINDS)
def test_censored_rows(error, method):
    data, start = observed(error)
    censored = data.mask & (data.y < 3.0)
    assert 10 < censored.sum() < 50
    data = replace(data, y=np.where(censored, 3.0, data.y), censored=censored)
    assert_gradient(data, start, Pattern.full(3), method)


def with_occasions(**attributes):
    """Clearance has its own effect in the first and in the second half of the rows, and a
    coefficient of a covariate that varies by row."""
    data, n = theophylline("combined", **attributes), 11
    late = np.arange(n) >= 6
    B = np.tile(np.eye(3, 5), (12, n, 1, 1))
    B[:, ~late, 1, 3] = B[:, late, 1, 4] = 1.0
    C = np.tile(np.eye(3, 4), (12, n, 1, 1))
    C[:, :, 1, 3] = np.linspace(-1.0, 1.0, 12)[:, None] + late
    start = parameters([*BETA, 0.1], [0.4, 0.07, 0.02, 0.05, 0.05], [0.5, 0.1])
    start.Omega[0, 1] = start.Omega[1, 0] = 0.03
    return replace(data, B=B, C=C), start, Pattern.of((0, 1), (2,), ((3,), (4,)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("local", [True, False])
def test_occasions_share_a_variance(local, method):
    assert_gradient(*with_occasions(local=local), method)


@pytest.mark.parametrize("method", METHODS)
def test_differences_serve_where_nothing_is_exact(method):
    """With a third derivative by differences of differences of differences for Laplace."""
    rtol = 1e-3 if method == "laplace" else 1e-5
    data = theophylline("combined", without_start=True, complex_safe=False)
    start = Parameters(BETA, OMEGA, np.array(SIGMA["combined"]))
    assert_gradient(data, start, Pattern.full(3), method, rtol=rtol)


@pytest.mark.parametrize("method", METHODS)
def test_two_endpoints_links_and_a_parameter_without_effect(method):
    data = theophylline()
    C = np.tile(np.eye(3, 4), (12, 1, 1, 1))
    C[:, 0, 1, 3] = np.linspace(-1.0, 1.0, 12)
    data = replace(
        data,
        C=C,
        B=identity_design(12, 3)[..., [0, 2]],
        links=("identity", "exp", "identity"),
        errors=("combined", "additive"),
        endpoint=np.tile(np.arange(11) % 2, (12, 1)),
    )
    start = parameters([1.5, 1.0, 31.0, 0.1], [[0.4, 0.5], [0.5, 20.0]], [0.5, 0.1, 0.6])
    assert_gradient(data, start, Pattern.full(2), method)


def test_a_share_has_the_link_expit():
    _, dose, time, y = theophylline_rows()
    formula = lambda psi, dose, time: psi[2] * oral(dose, time, psi[0], psi[1], 20.0)
    one = identity_design(12, 3)
    data = Data(Structure(formula, dose, time), y, y > -1, one, one.copy(), ("exp", "exp", "expit"))
    start = parameters([0.4, -2.4, 0.3], [0.3, 0.05, 0.2], [0.7])
    for method in METHODS:
        assert_gradient(data, start, Pattern.diagonal(3), method)


def test_few_rows_of_many_subjects():
    start = parameters([np.log(0.005), 0.0, 0.15, 1.0], [0.04, 0.03], [0.12])
    for method in METHODS:
        assert_gradient(phenobarbital(), start, Pattern.full(2), method)


def test_quadrature_spread_by_the_exact_curvature():
    data, start = observed("combined")
    assert_gradient(data, start, Pattern.full(3), Method("agq", 3, exact=True))


@pytest.mark.parametrize("censored", [False, True])
@pytest.mark.parametrize("error", KINDS)
def test_losses(error, censored):
    """Three derivatives by f, and those by log sigma, of every kind of row."""
    rng = np.random.default_rng(0)
    data = theophylline(error, without_start=True)
    if censored:
        data = replace(data, censored=rng.random(data.y.shape) < 0.5)
    f = data.response + 0.3 * rng.standard_normal(data.y.shape)
    sigma, h = np.array(SIGMA[error]), 1e-5

    def at(f, log_sigma=0.0):
        v = variance(data, sigma * np.exp(log_sigma), f, None, True)
        return loss(data, f, v), slopes(data, f, v), values(data, f, v)

    exact, short, value = at(f)
    (up, _, above), (down, _, below) = at(f + h), at(f - h)
    same = {"rtol": 1e-6, "atol": 1e-6}
    assert_allclose(exact.value, value)
    for one, other in zip(short, (exact.value, exact.f, exact.ff, exact.weight), strict=True):
        assert_allclose(one, other, atol=1e-9)
    assert_allclose(exact.f, (above - below) / (2 * h), **same)
    for name, of in (("ff", "f"), ("fff", "ff"), ("weight_f", "weight")):
        quotient = (getattr(up, of) - getattr(down, of)) / (2 * h)
        assert_allclose(getattr(exact, name), quotient, **same)
    for k, step in enumerate(h * np.eye(len(sigma))):
        up, down = at(f, step)[0], at(f, -step)[0]
        pairs = (("s", "value"), ("fs", "f"), ("ffs", "ff"), ("weight_s", "weight"))
        for name, of in pairs:
            quotient = (getattr(up, of) - getattr(down, of)) / (2 * h)
            assert_allclose(getattr(exact, name)[k], quotient, **same)


@pytest.mark.parametrize("ends, h, atol", [((-60.0, 20.0), 1e-4, 2e-6), ((18.0, 70.0), 0.02, 0)])
def test_a_censored_row_anywhere(ends, h, atol):
    """The hazard of the normal distribution stays smooth where its parts cancel, z below -18."""
    data = theophylline()
    data = replace(data, y=np.zeros(data.y.shape), censored=data.mask)
    f = np.linspace(*ends, 132).reshape(12, 11)
    v = variance(data, np.ones(1), f, None, True)
    near, up, down = (loss(data, f + s * h, v) for s in (0.0, 1.0, -1.0))
    for name, of in (("f", "value"), ("ff", "f"), ("fff", "ff")):
        quotient = (getattr(up, of) - getattr(down, of)) / (2 * h)
        assert_allclose(getattr(near, name), quotient, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("error", ["additive", "lognormal"])
def test_derivatives_of_predictions(error):
    data = theophylline(error, without_start=True)
    along, scale = coordinates(data), np.ones(3)
    phi = BETA + 0.2 * np.random.default_rng(0).standard_normal((12, 1, 3))
    f, first = jacobian(data, along, phi, scale)
    assert_allclose(f, predict(data, phi))
    bend = second(data, along, phi, scale)
    toward = 0.3 * np.random.default_rng(1).standard_normal((2, 12, 1, 3))
    weight = np.array([[1.0], [-2.0]]) * np.ones(12)
    twice = third(data, along, phi, scale, toward, weight)
    h, expected = 1e-4, 0.0
    for k in range(3):
        step = h * np.eye(3)[k]
        ends = [predict(data, phi + s * step) for s in (1.0, -1.0)]
        assert_allclose(first[..., k], (ends[0] - ends[1]) / (2 * h), atol=1e-6)
        ends = [jacobian(data, along, phi + s * step, scale)[1] for s in (1.0, -1.0)]
        assert_allclose(bend[..., k], (ends[0] - ends[1]) / (2 * h), atol=1e-6)
    for d, w in zip(toward, (1.0, -2.0), strict=True):
        ends = [second(data, along, phi + s * h * d, scale) for s in (1.0, -1.0)]
        moved = (ends[0] - ends[1]) / (2 * h)
        expected = expected + w * np.einsum("ijuv,iv->iju", moved, d[:, 0])
    assert_allclose(twice, expected, atol=1e-5)


def test_own_derivatives_of_a_structure_are_used():
    """They agree with the complex step, in another order of the coordinates too."""
    data, start = observed("combined")
    data = replace(data, B=data.B[..., [0, 2]])
    start = replace(start, Omega=np.diag([0.4, 0.03]))
    calls = []

    def own(psi, subjects=None):
        calls.append(psi.shape)
        plain = replace(data, links=("identity",) * 3)
        along = replace(coordinates(plain), directions=np.eye(3)[None, None])
        where = along.take(subjects)
        return jacobian(plain, where, psi, np.ones(3), subjects)

    with_own = replace(
        data, structure=Structure(data.structure.formula, *data.structure.arrays, jacobian=own)
    )
    for method in ("focei", "laplace"):
        results = []
        for record in (data, with_own):
            objective = Objective(record, search(start, Pattern.diagonal(2)), Method(method))
            place = objective.look(objective.search.pack(start))
            results.append([place.value, *place.gradient])
        assert_allclose(*results, rtol=1e-6)
    assert calls


@pytest.mark.parametrize("method", METHODS)
def test_integrated_structures_have_an_error(method):
    """Noise of 1e-9 in f and in its own derivatives, as of differential equations."""
    data, start = observed("combined")
    plain, along = replace(data, links=("identity",) * 3), coordinates(data)

    def noise(psi):
        return 1.0 + 1e-9 * np.sin(1e12 * psi.sum(axis=-1))

    def own(psi, subjects=None):
        f, slopes = jacobian(plain, along.take(subjects), psi, np.ones(3), subjects)
        return f * noise(psi), slopes * noise(psi)[..., None]

    formula = lambda psi, *arrays: (
        data.structure.formula(psi, *arrays) * noise(np.moveaxis(psi, 0, -1))
    )
    options = {"jacobian": own, "complex_safe": False}
    noisy = replace(data, structure=Structure(formula, *data.structure.arrays, **options))
    results = []
    for record in (data, noisy):
        objective = Objective(record, search(start, Pattern.full(3)), Method(method))
        results.append(objective.look(objective.search.pack(start)).gradient)
    assert_allclose(*results, rtol=1e-4, atol=1e-4 * np.abs(results[0]).max())


def test_gradient_and_curvature_of_the_inner_criterion():
    data, start = observed("combined")
    for interaction in (True, False):
        point = Point(data, start, interaction=interaction)
        u = np.random.default_rng(0).standard_normal((12, 3))
        at = derive(point, u, np.arange(12))
        assert_allclose(at.value, point.criterion(u))
        half, h = exact_half(point, u), 1e-5
        for k, step in enumerate(h * np.eye(3)):
            up, down = (derive(point, u + s * step, np.arange(12)) for s in (1.0, -1.0))
            slope = (up.value - down.value) / (2 * h)
            assert_allclose(at.gradient[:, k], slope, rtol=1e-6, atol=1e-5)
            bend = (up.gradient - down.gradient) / (2 * h)
            assert_allclose(2.0 * half[:, k], bend, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["foce", "focei", "laplace", "agq"])
@pytest.mark.parametrize("local", [None, True, False])
def test_how_modes_move_with_the_parameters(method, local):
    """By difference quotients, also with effects of occasions."""
    case = (
        (*observed("combined"), Pattern.full(3)) if local is None else with_occasions(local=local)
    )
    data, start, pattern = case
    objective = Objective(data, search(start, pattern), Method(method, n_nodes=1))
    theta = objective.search.pack(start)
    place = objective.look(theta)
    for step in 1e-5 * np.eye(len(theta)):
        up, down = (objective.look(theta + sign * step, place.u).u for sign in (1.0, -1.0))
        foreseen = place.foresee(theta + step) - place.u
        assert_allclose(foreseen, 0.5 * (up - down), rtol=1e-4, atol=1e-10)
