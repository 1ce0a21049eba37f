"""Linear compartment models against matrix exponentials, NONMEM and themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import expm
from sklearn.base import clone

from sklme.pharmacokinetics import Dosing, OneCompartment, ThreeCompartment, TwoCompartment

MODELS = (OneCompartment, TwoCompartment, ThreeCompartment)
TYPICAL = {
    **{"CL": 4.0, "V": 70.0, "Q": 5.0, "V2": 50.0, "Q3": 1.0, "V3": 200.0},
    **{"K": 0.06, "K12": 0.1, "K21": 0.2, "K13": 0.03, "K31": 0.01},
    **{"KA": 1.1, "D": 2.5, "TLAG": 0.7, "F": 0.6},
}


def typical(model, *, n=1, spread=0.3, seed=0):
    """psi (n, 1, q) around the typical values."""
    names = model.parameter_names
    random = np.random.default_rng(seed).normal(size=(n, 1, len(names)))
    return np.array([TYPICAL[name] for name in names]) * np.exp(spread * random)


def matrix(model, psi):
    """A and the volume: x' = A x for the amounts in the order of the compartments."""
    value = dict(zip(model.parameter_names, np.ravel(psi), strict=True))
    K = value["CL"] / value["V"] if "CL" in value else value["K"]
    pairs = [("Q", "V2"), ("Q3", "V3")] if "CL" in value else [("K12", "K21"), ("K13", "K31")]
    names = model.compartment_names
    A, c = np.zeros((len(names), len(names))), names.index("central")
    A[c, c] = -K
    for n, (a, b) in enumerate(pairs[: len(names) - c - 1]):
        go, back = (
            (value[a] / value["V"], value[a] / value[b]) if "CL" in value else (value[a], value[b])
        )
        p = c + 1 + n
        A[c, c] -= go
        A[p, c], A[c, p], A[p, p] = go, back, -back
    if c:
        A[0, 0], A[1, 0] = -value["KA"], value["KA"]
    return A, value["V"]


def brute_force(model, psi, doses, times):
    """Concentrations by a matrix exponential from event to event; doses: time, amount, T, place."""
    A, V = matrix(model, psi)
    S, c = len(A), model.compartment_names.index("central")
    changes = sorted({0.0, *times, *(d[0] for d in doses), *(d[0] + d[2] for d in doses)})
    out, x = {}, np.zeros(S)
    for begin, end in zip([changes[0], *changes[:-1]], changes, strict=True):
        rate = np.zeros(S)
        for time, amount, lasts, place in doses:
            if lasts and time <= begin and end <= time + lasts:
                rate[place] += amount / lasts
        both = np.zeros((S + 1, S + 1))
        both[:S, :S], both[:S, S] = A, rate
        x = (expm(both * (end - begin)) @ np.append(x, 1.0))[:S]
        for time, amount, lasts, place in doses:
            if time == end and not lasts:
                x[place] += amount
        out[end] = x[c] / V
    return np.array([out[time] for time in times])


def bind(model, dosing, times):
    return model.bind(dosing.subjects, np.atleast_2d(times), dosing)


TIMES = np.array([0.0, 0.5, 1.0, 3.0, 7.5, 8.0, 9.0, 15.0, 24.0, 40.0])


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("parametrization", ["clearance", "rate"])
@pytest.mark.parametrize("absorption", [None, "first-order"])
def test_matrix_exponential(cls, parametrization, absorption):
    """Boluses and infusions that overlap, into every compartment that takes them."""
    model = cls(absorption, parametrization=parametrization)
    names = model.compartment_names
    doses = [(0.0, 100.0, 0.0, 0), (1.0, 50.0, 8.0, 0), (3.0, 70.0, 0.0, len(names) - 1)]
    doses += [(4.0, 30.0, 11.0, names.index("central")), (8.0, 20.0, 0.0, names.index("central"))]
    time, amount, lasts, place = zip(*doses, strict=True)
    where = [names[at] for at in place]
    dosing = Dosing(["ann"] * 5, time, amount, duration=lasts, compartment=where)
    psi = typical(model)
    expected = brute_force(model, psi, doses, TIMES)
    np.testing.assert_allclose(bind(model, dosing, TIMES)(psi)[0], expected, rtol=1e-11)


@pytest.mark.parametrize("cls", MODELS)
def test_lag_share_and_zero_order_absorption(cls):
    model = cls("zero-order", lag=True, bioavailability=True)
    psi = typical(model)
    D, lag, F = psi[0, 0, -3:]
    dosing = Dosing(["ann"] * 3, [0, 1, 8], 100.0, duration=[0, 4, 0], additional=[1, 0, 0],
                    interval=5.0)  # fmt: skip
    doses = [(t + lag, 100.0 * F, T, 0) for t, T in ((0, D), (5, D), (1, 4.0), (8, D))]
    expected = brute_force(model, psi, doses, TIMES)
    np.testing.assert_allclose(bind(model, dosing, TIMES)(psi)[0], expected, rtol=1e-11)


@pytest.mark.parametrize("cls", MODELS)
def test_bioavailability_shortens_infusions_of_known_rate(cls):
    model = cls(bioavailability=True)
    psi = typical(model)
    F = psi[0, 0, -1]
    dosing = Dosing(["ann"], [1.0], 100.0, rate=20.0)
    expected = brute_force(model, psi, [(1.0, 100.0 * F, 5.0 * F, 0)], TIMES)
    np.testing.assert_allclose(bind(model, dosing, TIMES)(psi)[0], expected, rtol=1e-11)


STEADY = [
    (None, {}),
    (None, {"duration": 3.0}),
    (None, {"duration": 31.0}),
    (None, {"duration": 36.0}),
    ("first-order", {}),
    ("first-order", {"duration": 3.0}),
    ("first-order", {"duration": 31.0}),
]


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize(("absorption", "details"), STEADY)
@pytest.mark.parametrize("lag", [0.0, 0.7, 4.0, 12.0, 29.0])
def test_steady_state_is_the_sum_of_many_doses(cls, absorption, details, lag):
    """Also with a lag time, shorter or longer than the interval, and a series that goes on."""
    model = cls(absorption, lag=True)
    psi = typical(model)
    psi[..., -1] = lag
    II, past = 12.0, 2000 if cls is ThreeCompartment else 400
    forever = Dosing([1], [0.0], 100.0, interval=II, steady_state=1, additional=2, **details)
    many = Dosing([1], [-past * II], 100.0, interval=II, additional=past + 2, **details)
    f = bind(model, forever, TIMES)(psi)
    np.testing.assert_allclose(f, bind(model, many, TIMES)(psi), rtol=2e-12)


@pytest.mark.parametrize("cls", MODELS)
def test_steady_states_add_or_replace(cls):
    model = cls("first-order", lag=True)
    psi, series = typical(model), {"interval": 24.0, "additional": 2}
    both = Dosing([1, 1], [0.0, 6.0], [100.0, 40.0], steady_state=[1, 2], **series)
    first = Dosing([1], [0.0], 100.0, steady_state=1, **series)
    second = Dosing([1], [6.0], 40.0, steady_state=1, **series)
    after = TIMES[TIMES >= 6]
    total = bind(model, first, after)(psi) + bind(model, second, after)(psi)
    np.testing.assert_allclose(bind(model, both, after)(psi), total, rtol=1e-12)
    replaced = Dosing([1, 1], [0.0, 6.0], [100.0, 40.0], steady_state=1, **series)
    np.testing.assert_allclose(
        bind(model, replaced, after)(psi), bind(model, second, after)(psi), rtol=1e-12
    )


@pytest.mark.parametrize("cls", MODELS)
def test_a_constant_infusion_is_the_limit_of_a_long_one(cls):
    model = cls("first-order")
    psi = typical(model)
    constant = Dosing([1], [0.0], 0.0, rate=7.0, steady_state=1, compartment="central")
    long = Dosing([1], [-2e4], 7.0 * 2e4, rate=7.0, compartment="central")
    f = bind(model, constant, TIMES)(psi)
    np.testing.assert_allclose(f, bind(model, long, TIMES)(psi), rtol=1e-9)
    CL = psi[0, 0, model.parameter_names.index("CL")]
    assert f[0, 0] == pytest.approx(7.0 / CL, rel=1e-12)


@pytest.mark.parametrize("cls", MODELS)
def test_a_reset_forgets(cls):
    model = cls("first-order", lag=True)
    psi = typical(model)
    amount, reset = [100.0, 0.0, 50.0], [False, True, False]
    series = {"interval": 5.0, "additional": [3, 0, 0], "duration": [2.0, 0.0, 0.0]}
    dosing = Dosing([1, 1, 1], [0.0, 7.5, 8.0], amount, reset=reset, **series)
    f = bind(model, dosing, TIMES)(psi)[0]
    assert f[TIMES == 7.5] == 0.0 and f[TIMES == 8.0] == 0.0
    alone = bind(model, Dosing([1], [8.0], 50.0), TIMES)(psi)[0]
    np.testing.assert_allclose(f[TIMES > 7], alone[TIMES > 7], rtol=1e-14)


def regimens(n, seed):
    """Tables of doses for subjects 0..n-1, one of every kind."""
    random = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), 4)
    time = np.tile([0.0, 9.0, 20.0, 30.0], n) + random.uniform(0, 1, 4 * n)
    amount = random.uniform(50, 150, 4 * n)
    steady = {"steady_state": np.tile([1, 0, 2, 0], n), "interval": 12.0}
    yield Dosing(subject, time, amount)
    yield Dosing(subject, time, amount, duration=random.uniform(1, 15, 4 * n))
    yield Dosing(subject, time, amount, rate=random.uniform(5, 50, 4 * n))
    yield Dosing(subject, time, amount, **steady)
    yield Dosing(subject, time, amount, duration=random.uniform(1, 11, 4 * n), **steady)
    yield Dosing(subject, time, amount, reset=np.tile([0, 0, 1, 0], n))
    yield Dosing(subject, time, amount, compartment="central", additional=1, interval=3.3)


def options():
    for cls in MODELS:
        yield cls()
        yield cls("first-order", lag=True, bioavailability=True)
        yield cls("zero-order", lag=True, bioavailability=True)
        yield cls("first-order", parametrization="rate", lag="central", output="amount")
    yield TwoCompartment("first-order", bioavailability="central")


@pytest.mark.parametrize("model", list(options()), ids=repr)
def test_three_ways_agree_and_derivatives_are_exact(model):
    """Closed form, from event to event, complex step; and central differences."""
    n, q = 5, len(model.parameter_names)
    random = np.random.default_rng(1)
    time, psi = random.uniform(0, 50, (n, 7)), typical(model, n=n)
    for dosing in regimens(n, 2):
        bound = model.bind(np.arange(n), time, dosing)
        f, slopes = bound.jacobian(psi)
        scale = np.abs(slopes).max(axis=(0, 1)) + 1e-300
        np.testing.assert_allclose(f, bound(psi), rtol=1e-11)
        np.testing.assert_allclose(f, bound(np.repeat(psi, 7, axis=1)), rtol=1e-10, atol=1e-14)
        for k in range(q):
            step = 1j * 1e-30 * (np.arange(q) == k)
            np.testing.assert_allclose(
                bound(psi + step).imag / 1e-30 / scale[k], slopes[..., k] / scale[k], atol=1e-12
            )
            h = 1e-6 * psi * (np.arange(q) == k)
            difference = (bound(psi + h) - bound(psi - h)) / (2.0 * h[..., k])
            error = np.abs(difference - slopes[..., k]) / scale[k]
            assert np.median(error) < 1e-6 and error.max() < 1e-5


def test_derivatives_with_a_dose_into_a_peripheral_compartment():
    model = ThreeCompartment("first-order")
    dosing = Dosing([1, 1], [0.0, 4.0], 100.0, compartment=["second peripheral", "depot"])
    bound, psi = bind(model, dosing, TIMES), typical(model)
    f, slopes = bound.jacobian(psi)
    np.testing.assert_allclose(f, bound(psi), rtol=1e-13)
    for k in range(psi.shape[-1]):
        h = 1e-6 * psi * (np.arange(psi.shape[-1]) == k)
        difference = (bound(psi + h) - bound(psi - h)) / (2.0 * h[..., k])
        np.testing.assert_allclose(slopes[..., k], difference, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="constant within a subject"):
        bound.jacobian(np.repeat(psi, len(TIMES), axis=1))


@pytest.mark.parametrize("cls", MODELS)
def test_parameters_that_vary_by_row_rule_the_way_to_it(cls):
    model = cls("first-order", lag=True, bioavailability=True)
    time = np.array([2.0, 6.0, 13.0])
    psi = typical(model, n=3).reshape(1, 3, -1)
    dosing = Dosing([1, 1], [0.0, 5.0], [100.0, 60.0])
    f = bind(model, dosing, time)(psi)[0]
    c, x, now, expected = 1, np.zeros(cls._n_compartments + 1), 0.0, []
    lag, F = psi[0, :, -2], psi[0, :, -1]
    arrivals = {0.0 + lag[0]: 100.0 * F[0], 5.0 + lag[1]: 60.0 * F[1]}
    for row, end in enumerate(time):
        A, V = matrix(model, psi[:, row])
        for stop in sorted({end, *(t for t in arrivals if now < t <= end)}):
            x = expm(A * (stop - now)) @ x
            now = stop
            x[0] += arrivals.get(stop, 0.0)
        expected.append(x[c] / V)
    np.testing.assert_allclose(f, expected, rtol=1e-12)


def test_leading_axes_subjects_order_and_padding():
    model = TwoCompartment("first-order", lag=True)
    random = np.random.default_rng(3)
    time, dosing = random.uniform(0, 40, (4, 6)), next(regimens(4, 5))
    bound = model.bind(np.arange(4), time, dosing)
    psi = np.stack([typical(model, n=4, seed=s) for s in range(6)]).reshape(2, 3, 4, 1, -1)
    f, slopes = bound.jacobian(psi)
    assert f.shape == (2, 3, 4, 6) and slopes.shape == (2, 3, 4, 6, len(model.parameter_names))
    some = np.array([2, 0])
    few, few_slopes = bound.jacobian(psi[..., some, :, :], some)
    np.testing.assert_allclose(few, f[..., some, :], rtol=1e-13)
    np.testing.assert_allclose(few_slopes, slopes[..., some, :, :], rtol=1e-12, atol=1e-15)
    by_row = bound(np.repeat(psi, 6, axis=-2)[..., some, :, :], some)
    np.testing.assert_allclose(by_row, few, rtol=1e-12)
    one = model.bind([2], time[2:3, :4], dosing)
    np.testing.assert_allclose(one(psi[1, 2, 2:3])[0], f[1, 2, 2, :4], rtol=1e-13)
    mask = np.arange(6) < 4
    padded = model.bind([2], np.where(mask, time[2:3], -5.0), dosing, mask=mask[None])
    np.testing.assert_allclose(padded(psi[1, 2, 2:3])[0, :4], f[1, 2, 2, :4], rtol=1e-13)


@pytest.mark.parametrize("ratio", [1.0, 1 + 1e-15, 1 + 1e-12, 1 - 1e-8, 1 + 1e-5, 1 - 1e-3])
def test_absorption_as_quick_as_elimination(ratio):
    """Against the series of the divided difference in ka - k, and smooth there."""
    model = OneCompartment("first-order")
    k, t = 0.25, np.array([0.1, 1.0, 4.0, 20.0])
    ka = k * ratio
    x = (ka - k) * t
    expected = 100.0 * ka / 8.0 * t * np.exp(-k * t) * (1 - x / 2 + x**2 / 6 - x**3 / 24)
    bound = bind(model, Dosing([1], amount=100.0), t)
    f, slopes = bound.jacobian(np.array([[[8.0 * k, 8.0, ka]]]))
    np.testing.assert_allclose(f[0], expected, rtol=1e-8 if abs(ratio - 1) > 1e-4 else 1e-14)
    by_ka = expected / ka - 100.0 * ka / 8.0 * t**2 * np.exp(-k * t) * (1 / 2 - x / 3 + x**2 / 8)
    np.testing.assert_allclose(
        slopes[0, :, 2], by_ka, rtol=1e-6 if abs(ratio - 1) > 1e-4 else 1e-12
    )


@pytest.mark.parametrize("cls", MODELS[1:])
@pytest.mark.parametrize("Q", [0.0, 1e-40, 1e-20, 1e-12])
@pytest.mark.parametrize("absorption", [None, "first-order"])
def test_without_exchange_there_is_one_compartment(cls, Q, absorption):
    """Also where rates coincide, k10 = k21 = k31 = ka."""
    model, dosing = cls(absorption), Dosing([1], amount=100.0, interval=12.0, steady_state=1)
    value = {"CL": 2.0, "V": 8.0, "Q": Q, "V2": Q / 0.25 or 1.0, "Q3": Q, "V3": Q / 0.25 or 1.0}
    value["KA"] = 0.25
    psi = np.array([[[value[name] for name in model.parameter_names]]])
    f, slopes = bind(model, dosing, TIMES).jacobian(psi)
    small = OneCompartment(absorption)
    one = bind(small, dosing, TIMES)(np.array([[[value[n] for n in small.parameter_names]]]))
    np.testing.assert_allclose(f, one, rtol=1e-9)
    assert np.isfinite(slopes).all()


def test_equal_peripheral_compartments_are_one():
    three, two = ThreeCompartment(), TwoCompartment()
    dosing = Dosing([1, 1], [0.0, 5.0], 100.0, duration=[0.0, 3.0])
    f = bind(three, dosing, TIMES)(np.array([[[4.0, 20.0, 2.0, 30.0, 2.0, 30.0]]]))
    g = bind(two, dosing, TIMES)(np.array([[[4.0, 20.0, 4.0, 60.0]]]))
    np.testing.assert_allclose(f, g, rtol=1e-12)


@pytest.mark.parametrize("model", list(options()), ids=repr)
def test_never_nan(model):
    """For parameters over 17 orders of magnitude either way."""
    random = np.random.default_rng(0)
    psi = np.exp(random.uniform(-40, 40, (60, 4, 1, len(model.parameter_names))))
    for dosing in list(regimens(4, 5))[:3]:
        bound = model.bind(np.arange(4), np.tile(TIMES, (4, 1)), dosing)
        with np.errstate(all="ignore"):
            f, slopes = bound.jacobian(psi)
            by_row = bound(np.repeat(psi, len(TIMES), axis=-2) + 0j)
        assert not np.isnan(f).any() and not np.isnan(slopes).any() and not np.isnan(by_row).any()


# Doses (time, compartment, amount, EVID, II, SS, ADDL, rate), then lag time, bioavailability and
# duration of doses into the central compartment, then {time: prediction} as NONMEM 7.4.3 printed
# it for ADVAN2 with CL 1.1, V 20, KA 1.5 and amounts divided by V / 1000: a part of the table
# nmtest of the R package nlmixr2data 2.0.9, by its ids.
NONMEM = {
    6: (
        [(0, 1, 100, 1, 24, 0, 3, 8.33333333333333)],
        (0.0, 1.0, None),
        {1: 196.84, 5: 1602.6, 30: 3333.9, 100: 2139.5},
    ),
    9: (
        [(0, 2, 100, 1, 24, 1, 3, 10)],
        (3.16, 0.412, None),
        {0: 1002.7, 2: 898.29, 3: 850.22, 4: 1215.2, 8: 2417.5, 30: 2035.5, 120: 267.87},
    ),
    10: (
        [(0, 2, 100, 1, 12, 1, 4, 2)],
        (0.0, 0.812, None),
        {0: 6014.5, 1: 6081.8, 9: 6114.9, 12: 6014.5, 30: 6233.4, 100: 1794.8},
    ),
    15: (
        [(0, 2, 100, 1, 24, 1, 3, 0)],
        (4.0, 0.412, None),
        {0: 935.66, 3: 793.34, 4: 2810.9, 27: 793.34, 28: 2810.9, 100: 750.89},
    ),
    17: (
        [(0, 2, 100, 1, 0, 0, 0, 0), (13, 1, 50, 1, 24, 0, 2, 24)],
        (1.0, 1.0, None),
        {1: 5000.0, 2: 4732.4, 13: 2584.3, 14: 3012.8, 36: 1505.4, 37: 1424.9, 70: 2355.9},
    ),
    18: (
        [(0, 2, 100, 1, 24, 0, 3, -2)],
        (5.0, 0.61, 9.0),
        {4: 0.0, 6: 329.74, 14: 2405.7, 30: 1327.6, 60: 2877.9},
    ),
    20: (
        [(0, 1, 100, 1, 12, 0, 2, 50), (50, 1, 120, 4, 12, 0, 3, 0)],
        (0.0, 1.0, None),
        {2: 3271.1, 13: 3865.0, 49: 2474.8, 50: 0.0, 51: 4505.3, 63: 7552.2, 130: 1064.5},
    ),
    23: (
        [(0, 1, 100, 1, 12, 0, 3, 50), (50, 2, 0, 3, 0, 0, 0, 0), (54, 1, 120, 1, 16, 0, 2, 0)],
        (0.0, 1.0, None),
        {49: 5158.7, 50: 0.0, 54: 0.0, 55: 4505.3, 70: 2583.4, 71: 6950.5, 100: 4576.1},
    ),
    25: (
        [(0, 1, 100, 1, 24, 1, 3, 0), (12, 1, 50, 1, 24, 2, 3, 0)],
        (0.0, 1.0, None),
        {0: 1891.9, 11: 3867.4, 12: 4606.4, 13: 6237.1, 24: 3722.1, 37: 6237.1, 100: 2987.1},
    ),
    26: (
        [(0, 1, 0, 1, 0, 1, 0, 100)],
        (0.0, 1.0, None),
        {0: 90909.0, 1: 88547.0, 5: 71678.0, 20: 31413.0},
    ),
    525: (
        [
            (0, 2, 100, 1, 24, 1, 0, 25),
            (12, 2, 50, 1, 24, 2, 0, 12.5),
            (24, 2, 100, 1, 24, 1, 2, 25),
            (36, 2, 50, 1, 24, 2, 2, 12.5),
        ],
        (2.0, 1.0, None),
        {0: 2275.6, 2: 2038.6, 12: 5540.6, 13: 5244.1, 26: 2038.6, 62: 4963.5, 100: 3592.9},
    ),
}


@pytest.mark.parametrize("number", NONMEM)
def test_nonmem(number):
    """Every digit that it printed, in closed form and from event to event."""
    doses, (lag, F, duration), printed = NONMEM[number]
    time, place, amount, evid, interval, steady, additional, rate = np.array(doses, float).T
    absorption = "first-order" if duration is None else "zero-order"
    place = np.where(place == 1, "depot", "central")
    dosing = Dosing(
        np.ones(len(time)),
        time,
        amount,
        rate=rate,
        compartment=place if (evid != 3).all() else "depot",
        interval=interval,
        additional=additional,
        steady_state=steady,
        reset=evid >= 3,
    )
    model = OneCompartment(absorption, lag="central", bioavailability="central")
    value = {"CL": 1.1, "V": 20.0, "KA": 1.5, "D": duration, "TLAG": lag, "F": F}
    psi = np.array([[[value[name] for name in model.parameter_names]]])
    bound = bind(model, dosing, list(printed))
    expected = np.array(list(printed.values()))
    half = 0.5 * 10.0 ** (np.floor(np.log10(expected, where=expected > 0, out=expected * 0)) - 4)
    for f in (bound(psi), bound(np.repeat(psi, len(printed), axis=1))):
        assert (np.abs(1000.0 * f[0] - expected) <= half * (1 + 1e-9)).all()


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.integers(0, 6), st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_units_do_not_matter(hours, grams, which, number):
    """Other units of time and of amount give the same concentrations in other units."""
    model = list(options())[number]
    psi, dosing = typical(model, n=3), list(regimens(3, 7))[which]
    time = np.tile(TIMES, (3, 1))
    f = model.bind(np.arange(3), time, dosing)(psi)
    rates = ("CL", "Q", "Q3", "K", "K12", "K21", "K13", "K31", "KA")
    unit = dict.fromkeys(rates, 1.0 / hours)
    unit |= {"TLAG": hours, "D": hours}
    table = dosing.to_dict()
    for name, factor in (("time", hours), ("interval", hours), ("duration", hours),
                         ("amount", grams), ("rate", grams / hours)):  # fmt: skip
        table[name] = table[name] * factor
    other = psi * np.array([unit.get(name, 1.0) for name in model.parameter_names])
    g = model.bind(np.arange(3), time * hours, Dosing.from_table(table))(other)
    np.testing.assert_allclose(g, f * grams, rtol=1e-9, atol=1e-12 * grams)


@given(st.permutations(range(8)), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_the_order_of_records_does_not_matter(order, which):
    model, order = TwoCompartment("first-order", lag=True), list(order)
    dosing = list(regimens(2, 7))[which]
    table = dosing.to_dict()
    other = Dosing.from_table({name: column[order] for name, column in table.items()})
    psi, time = typical(model, n=2), np.tile(TIMES, (2, 1))
    f = model.bind([0, 1], time, dosing)(psi)
    np.testing.assert_array_equal(model.bind([0, 1], time, other)(psi), f)


@given(st.floats(0.0, 30.0), st.floats(0.5, 40.0))
@settings(max_examples=25, deadline=None)
def test_a_series_is_its_doses(start, interval):
    model = ThreeCompartment("first-order")
    psi = typical(model)
    series = Dosing([1], [start], 100.0, interval=interval, additional=3, duration=1.5)
    written = Dosing([1] * 4, start + interval * np.arange(4), 100.0, duration=1.5)
    np.testing.assert_allclose(
        bind(model, series, TIMES)(psi), bind(model, written, TIMES)(psi), rtol=1e-12, atol=1e-15
    )


def test_options_are_checked():
    with pytest.raises(ValueError, match="absorption is 'oral'"):
        OneCompartment("oral").parameter_names  # noqa: B018
    with pytest.raises(ValueError, match=r"lag is 'depot'; it must be True, False or .*'central'"):
        OneCompartment(lag="depot").parameter_names  # noqa: B018
    with pytest.raises(ValueError, match="they must be for the same"):
        bind(OneCompartment("first-order", lag=True, bioavailability="central"),
             Dosing([1], amount=1.0), [1.0])  # fmt: skip
    model = ThreeCompartment("first-order", parametrization="rate", bioavailability=True)
    assert clone(model).parameter_names == (
        *("K", "V", "K12", "K21", "K13", "K31", "KA"),
        "F",
    )


def test_data_are_checked():
    model, dosing = OneCompartment(), Dosing(["ann"], amount=1.0)
    with pytest.raises(ValueError, match="dosing must be a Dosing"):
        model.bind(["ann"], [[1.0]], {"subject": ["ann"]})
    with pytest.raises(ValueError, match="subject 'bob' has no row"):
        model.bind(["bob"], [[1.0]], dosing)
    with pytest.raises(ValueError, match="time of subject number 0 is nan in row 1"):
        model.bind(["ann"], [[1.0, np.nan]], dosing)
    with pytest.raises(ValueError, match="time must be of shape"):
        model.bind(["ann"], [1.0], dosing)
    with pytest.raises(ValueError, match="psi has 3 parameters, but the model has 2"):
        model.bind(["ann"], [[1.0]], dosing)(np.ones((1, 1, 3)))
    for details, message in (
        ({"compartment": "gut"}, "the compartment 'gut', which the model does not have"),
        ({"compartment": 3}, "the compartment '3'"),
        ({"rate": -2.0}, "the rate -2, a duration that is a parameter"),
    ):
        with pytest.raises(ValueError, match=f"'ann' .*{message}"):
            bind(model, Dosing(["ann"], amount=1.0, **details), [1.0])
    with pytest.raises(ValueError, match="an infusion into a peripheral compartment"):
        dose = Dosing(["ann"], amount=1.0, rate=1.0, compartment="peripheral")
        bind(TwoCompartment(), dose, [1.0])


@pytest.mark.parametrize("lag", [False, True])
@pytest.mark.parametrize("steady_state", [0, 1])
def test_some_subjects_as_among_all(lag, steady_state):
    """What is kept of all subjects serves some of them, in any order, repeated, also for slopes."""
    dosing = Dosing(
        ["a", "b", "b", "c"],
        time=[0.0, 0.0, 9.0, 2.0],
        amount=[10.0, 20.0, 5.0, 30.0],
        interval=8.0 * steady_state,
        steady_state=steady_state,
    )
    time = [[1.0, 4.0, 12.0], [0.5, 9.0, 20.0], [1.0, 3.0, 7.0]]
    model = OneCompartment("first-order", lag=lag)
    psi = np.exp(np.random.default_rng(0).normal(0.0, 0.3, (3, 1, 3 + lag)))
    some = np.array([2, 0, 2, 1])
    early, late = (model.bind(["a", "b", "c"], time, dosing) for _ in range(2))
    first = early.jacobian(psi[some], some)  # before anything is kept
    f, slopes = late.jacobian(psi)
    for found in (first, late.jacobian(psi[some], some)):
        assert_allclose(found[0], f[some], rtol=1e-14)
        assert_allclose(found[1], slopes[some], rtol=1e-14)
    assert_allclose(late(psi[some], some), f[some], rtol=1e-13)
