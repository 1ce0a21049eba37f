"""Differential equations against closed forms, and their derivatives against differences."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import gammainc, lambertw
from sklearn.base import clone

from sklme.pharmacokinetics import (
    Dosing,
    ODEModel,
    OneCompartment,
    ThreeCompartment,
    TwoCompartment,
)

TYPICAL = {"CL": 4.0, "V": 70.0, "Q": 5.0, "V2": 50.0, "Q3": 1.0, "V3": 200.0}
TYPICAL |= {"KA": 1.1, "TLAG": 0.7, "F": 0.6}


def one(time, state, parameter):
    (gut, central), (CL, V, KA) = state, parameter[:3]
    return [-KA * gut, KA * gut - CL / V * central]


def two(time, state, parameter):
    (gut, central, deep), (CL, V, Q, V2, KA) = state, parameter[:5]
    exchange = Q * (central / V - deep / V2)
    return [-KA * gut, KA * gut - CL / V * central - exchange, exchange]


def three(time, state, parameter):
    (gut, central, deep, deeper), (CL, V, Q, V2, Q3, V3, KA) = state, parameter[:7]
    first, second = Q * (central / V - deep / V2), Q3 * (central / V - deeper / V3)
    return [-KA * gut, KA * gut - CL / V * central - first - second, first, second]


def central_concentration(state, parameter):
    return state[1] / parameter[1]


def saturable(time, state, parameter):
    (amount,), (VM, KM, V) = state, parameter[:3]
    return [-VM * amount / V / (KM + amount / V)]


def saturable_derivatives(time, state, parameter):
    (amount,), (VM, KM, V) = state, parameter[:3]
    below = KM * V + amount
    return (
        [[-VM * KM * V / below**2]],
        [[-amount / below, VM * amount * V / below**2, VM * amount * KM / below**2]],
    )


def linear_models(**options):
    for cls, rhs, names in (
        (OneCompartment, one, ()),
        (TwoCompartment, two, ("peripheral",)),
        (ThreeCompartment, three, ("peripheral", "second peripheral")),
    ):
        model = cls("first-order", lag=True, bioavailability=True)
        yield (
            model,
            ODEModel(
                rhs,
                states=("depot", "central", *names),
                parameters=model.parameter_names,
                output=central_concentration,
                lag="TLAG",
                bioavailability="F",
                **options,
            ),
        )


def psi_of(model, n, spread=0.2):
    names = model.parameter_names
    random = np.random.default_rng(0).normal(size=(n, 1, len(names)))
    return np.array([TYPICAL[name] for name in names]) * np.exp(spread * random)


def regimens(n):
    random = np.random.default_rng(1)
    subject, time = np.repeat(np.arange(n), 4), np.tile([0.0, 12.0, 24.0, 36.0], n)
    draw = lambda low, high: random.uniform(low, high, 4 * n)
    steady = {"steady_state": np.tile([1, 0, 2, 0], n), "interval": 12.0}
    yield Dosing(subject, time, draw(50, 150))
    yield Dosing(subject, time, 100.0, duration=draw(1, 30), reset=np.tile([0, 0, 1, 0], n))
    yield Dosing(subject, time, 100.0, rate=draw(10, 30), **steady)
    yield Dosing(subject, time, 100.0, compartment="central", **steady)


@pytest.mark.parametrize("stiff", [False, True])
@pytest.mark.parametrize("number", range(3))
def test_linear_models(number, stiff):
    """Predictions to 1e-8 and derivatives to 1e-7 of the closed forms, for every kind of dose."""
    n = 2 if stiff else 3
    model, ode = list(linear_models(stiff=stiff))[number]
    time, psi = np.random.default_rng(2).uniform(0, 50, (n, 4)), psi_of(model, n)
    by_row = psi * np.exp(0.1 * np.random.default_rng(3).normal(size=(n, 4, psi.shape[-1])))
    for dosing in list(regimens(n))[number :: 3 if stiff else 2]:
        closed, solved = (m.bind(np.arange(n), time, dosing) for m in (model, ode))
        (f, slopes), (g, other) = closed.jacobian(psi), solved.jacobian(psi)
        scale = np.abs(slopes).max(axis=(0, 1)) + 1e-300
        np.testing.assert_allclose(g / f.max(), f / f.max(), atol=1e-8)
        np.testing.assert_allclose(other / scale, slopes / scale, atol=1e-7)
        np.testing.assert_allclose(solved(psi) / f.max(), f / f.max(), atol=1e-8)
        np.testing.assert_allclose(solved(by_row) / f.max(), closed(by_row) / f.max(), atol=1e-8)


def differences(bound, psi, step=1e-4):
    """Derivatives by central differences of fourth order."""
    slopes = []
    for k in range(psi.shape[-1]):
        h = step * psi * (np.arange(psi.shape[-1]) == k)
        near, far = (bound(psi + m * h) - bound(psi - m * h) for m in (1, 2))
        slopes.append((8.0 * near - far) / (12.0 * h[..., k]))
    return np.stack(slopes, axis=-1)


@pytest.mark.parametrize("derivatives", [None, saturable_derivatives])
@pytest.mark.parametrize("stiff", [False, True])
def test_michaelis_menten(derivatives, stiff):
    """Against C = KM W(C0 / KM exp((C0 - VM t / V) / KM)), as Schnell and Mendoza 1997."""
    names = ("VM", "KM", "V")
    model = ODEModel(saturable, parameters=names, derivatives=derivatives, stiff=stiff)
    VM, KM, V = 10.0, 2.0, 20.0
    time = np.array([[0.0, 2.0, 5.0, 10.0, 20.0]])
    bound = model.bind(["ann"], time, Dosing.single(["ann"], 100.0))
    psi = np.array([[[VM, KM, V]]])
    start = 100.0 / V
    exact = KM * lambertw(start / KM * np.exp((start - VM / V * time) / KM)).real * V
    f, slopes = bound.jacobian(psi)
    np.testing.assert_allclose(f, exact, rtol=1e-7)
    np.testing.assert_allclose(slopes, differences(bound, psi), rtol=1e-5, atol=1e-5)


def test_michaelis_menten_comes_to_its_steady_state():
    model = ODEModel(saturable, parameters=("VM", "KM", "V"), stiff=False)
    psi, time = np.array([[[10.0, 2.0, 20.0]]]), [[0.0, 6.0, 12.0]]
    series = {"interval": 12.0, "duration": 2.0}
    forever = Dosing(["ann"], amount=60.0, steady_state=1, additional=1, **series)
    many = Dosing(["ann"], time=-12.0 * 100, amount=60.0, additional=101, **series)
    f, slopes = model.bind(["ann"], time, forever).jacobian(psi)
    g, other = model.bind(["ann"], time, many).jacobian(psi)
    np.testing.assert_allclose(f, g, rtol=1e-7)
    np.testing.assert_allclose(slopes, other, rtol=1e-5)


def test_without_a_steady_state_sixty_doses_are_taken():
    model = ODEModel(saturable, parameters=("VM", "KM", "V"))
    psi, time = np.array([[[10.0, 2.0, 20.0]]]), [[0.0, 6.0]]
    forever = Dosing(["ann"], amount=200.0, steady_state=1, interval=12.0)
    many = Dosing(["ann"], time=-12.0 * 60, amount=200.0, additional=60, interval=12.0)
    f = model.bind(["ann"], time, forever)(psi)
    np.testing.assert_allclose(f, model.bind(["ann"], time, many)(psi), rtol=1e-7)


def test_stiff_equations_are_left_to_lsoda():
    """Absorption a million times faster than elimination, not declared as stiff."""
    model = ODEModel(
        one, states=("gut", "central"), parameters=("CL", "V", "KA"), output=central_concentration
    )
    bound = model.bind(["ann"], [[1.0, 24.0]], Dosing.single(["ann"], 100.0))
    closed = OneCompartment("first-order").bind(
        ["ann"], [[1.0, 24.0]], Dosing.single(["ann"], 100.0)
    )
    psi = np.array([[[2.0, 20.0, 1e5]]])
    np.testing.assert_allclose(bound(psi), closed(psi), rtol=1e-7)


def test_transit_compartments():
    """The amount after a chain of five equal compartments is a gamma distribution."""

    def chain(time, state, parameter):
        (KTR,) = parameter
        between = [KTR * (a - b) for a, b in pairwise(state[:5])]
        return [-KTR * state[0], *between, KTR * state[4]]

    states = ("first", "second", "third", "fourth", "fifth", "through")
    model = ODEModel(chain, states=states, parameters=("KTR",), output=lambda x, p: x[5])
    time = np.array([[0.5, 1.0, 3.0, 6.0]])
    bound = model.bind(["ann"], time, Dosing.single(["ann"], 10.0))
    f, slopes = bound.jacobian(np.array([[[1.3]]]))
    np.testing.assert_allclose(f, 10.0 * gammainc(5, 1.3 * time), rtol=1e-7)
    density = 10.0 * time * (1.3 * time) ** 4 * np.exp(-1.3 * time) / 24.0
    np.testing.assert_allclose(slopes[..., 0], density, rtol=1e-6)


def test_turnover_with_a_baseline():
    """A response that starts at kin / kout and is inhibited by the drug, against differences."""

    def response(time, state, parameter):
        (drug, effect), (k, KIN, KOUT, IC50) = state, parameter
        return [-k * drug, KIN / (1.0 + drug / IC50) - KOUT * effect]

    model = ODEModel(
        response,
        states=("drug", "effect"),
        parameters=("K", "KIN", "KOUT", "IC50"),
        output=lambda state, parameter: state[1],
        initial=lambda parameter: [0.0, parameter[1] / parameter[2]],
    )
    psi = np.array([[[0.2, 8.0, 0.5, 3.0]]])
    time = np.array([[-2.0, 0.0, 2.0, 10.0, 60.0]])
    bound = model.bind(["ann"], time, Dosing.single(["ann"], 20.0))
    f, slopes = bound.jacobian(psi)
    np.testing.assert_allclose(f[0, :2], 16.0, rtol=1e-9)
    assert f[0, 2] < 12.0 and f[0, 4] == pytest.approx(16.0, rel=1e-3)
    np.testing.assert_allclose(slopes[0, 0], [0.0, 2.0, -32.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(slopes, differences(bound, psi), rtol=1e-5, atol=1e-5)


def test_time_may_be_in_the_equations():
    """x' = -k t x, so x = exp(-k t^2 / 2), whichever subject; with leading axes and subsets."""
    model = ODEModel(lambda t, x, p: [-p[0] * t * x[0]], parameters=("K",))
    time = np.array([[3.0, 1.0, 2.0], [0.5, 4.0, 1.0], [1.0, 1.0, 5.0]])
    bound = model.bind([1, 2, 3], time, Dosing.single([1, 2, 3], [1.0, 2.0, 3.0]))
    psi = np.random.default_rng(0).uniform(0.1, 0.4, (2, 3, 1, 1))
    f, slopes = bound.jacobian(psi)
    exact = np.array([1.0, 2.0, 3.0])[:, None] * np.exp(-psi[..., 0] * time**2 / 2)
    np.testing.assert_allclose(f, exact, rtol=1e-7)
    np.testing.assert_allclose(slopes[..., 0], -exact * time**2 / 2, rtol=1e-6)
    some = np.array([2, 0])
    np.testing.assert_allclose(bound(psi[:, some], some), exact[:, some], rtol=1e-7)
    assert not bound.complex_safe


def test_options_are_checked():
    dosing = Dosing.single(["ann"], 1.0)
    for options, message in (
        ({}, "rhs must be a function"),
        ({"rhs": saturable, "dose_into": "gut"}, "dose_into is 'gut', which is none of"),
        ({"rhs": saturable, "lag": "TLAG"}, "lag is 'TLAG', which is none of"),
        ({"rhs": saturable, "rtol": 0}, "rtol is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ODEModel(**options).bind(["ann"], [[1.0]], dosing)
    wrong = ODEModel(lambda t, x, p: [x[0], x[0]]).bind(["ann"], [[1.0]], dosing)
    with pytest.raises(
        ValueError, match="as many derivatives as there are states, 1: it returns 2"
    ):
        wrong(np.ones((1, 1, 2)))


def test_what_a_steady_state_cannot_be():
    model = ODEModel(one, states=("gut", "central"), parameters=("CL", "V", "KA", "L"), lag="L")
    psi = np.array([[[4.0, 70.0, 1.0, 13.0]]])
    for details, message in (
        ({"duration": 13.0}, "lasts longer than its interval"),
        ({}, "a lag time as long as the interval"),
    ):
        dosing = Dosing(["ann"], amount=1.0, interval=12.0, steady_state=1, **details)
        with pytest.raises(ValueError, match=message):
            model.bind(["ann"], [[1.0]], dosing)(psi)
    constant = Dosing(["ann"], rate=1.0, steady_state=1)
    with pytest.raises(ValueError, match="a constant infusion for ever is not possible"):
        model.bind(["ann"], [[1.0]], constant)(psi)


def test_it_can_be_cloned_and_pickled():
    model = ODEModel(saturable, parameters=("VM", "KM", "V"), lag=None)
    assert clone(model).parameter_names == ("VM", "KM", "V")
    bound = model.bind(["ann"], [[1.0]], Dosing.single(["ann"], 1.0))
    psi = np.ones((1, 1, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bound))(psi), bound(psi))
