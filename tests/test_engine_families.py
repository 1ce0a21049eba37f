"""Families and links: densities against scipy, derivatives against differences, tails, limits."""

import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special, stats

from sklme._engine.families import (
    FAMILIES,
    LINKS,
    CumulativeLogit,
    Family,
    Terms,
    ZeroInflated,
    family_of,
)
from sklme._engine.log_gamma import log_gamma, rising, stirling

# --------------------------------------------------------------------------- what there is to test

N = 60
DISPERSION = 0.4
PI = 0.3
LOGIT_PI = float(special.logit(PI))


@dataclass(frozen=True)
class Case:
    """A family with predictors and its log density in scipy's words, log_density(y, mu, trials)."""

    family: Family
    eta: np.ndarray
    aux: np.ndarray
    log_density: object
    trials: np.ndarray | None = None

    def draw(self, seed=1):
        return self.family.sample(self.eta, self.aux, self.trials, np.random.default_rng(seed))

    def outcome(self, weights=None):
        return self.family.outcome(self.draw(), self.trials, weights)


def tweedie_log_density(y, mu, phi=DISPERSION, p=1.6):
    """The Poisson mixture of gamma densities, term by term."""
    rate, shape = mu ** (2 - p) / (phi * (2 - p)), (2 - p) / (p - 1)
    j = np.arange(1, 400)[:, None]
    scale = phi * (p - 1) * mu ** (p - 1)
    parts = stats.poisson.logpmf(j, rate) + stats.gamma.logpdf(y, j * shape, scale=scale)
    return np.where(y > 0, special.logsumexp(parts, axis=0), -rate)


def zero_inflated(log_density):
    def mixed(y, mean, trials):
        base = log_density(y, mean / (1 - PI), trials)
        return np.log(PI * (y == 0) + (1 - PI) * np.exp(base))

    return mixed


a, d = DISPERSION, DISPERSION
DENSITIES = {
    "binomial": lambda y, mu, n: stats.binom.logpmf(y, n, mu),
    "poisson": lambda y, mu, n: stats.poisson.logpmf(y, mu),
    "nb1": lambda y, mu, n: stats.nbinom.logpmf(y, mu / a, 1 / (1 + a)),
    "nb2": lambda y, mu, n: stats.nbinom.logpmf(y, 1 / a, 1 / (1 + a * mu)),
    "gamma": lambda y, mu, n: stats.gamma.logpdf(y, 1 / d, scale=mu * d),
    "inverse gaussian": lambda y, mu, n: stats.invgauss.logpdf(y, mu * d, scale=1 / d),
    "beta": lambda y, mu, n: stats.beta.logpdf(y, mu * 7, (1 - mu) * 7),
    "tweedie": lambda y, mu, n: tweedie_log_density(y, mu),
}
AUX = {"beta": np.log([7.0]), "tweedie": np.array([np.log(d), special.logit(0.6)])}


def ordered_log_density(n_classes, aux):
    kappa = np.r_[-np.inf, aux[0], aux[0] + np.cumsum(np.exp(aux[1:])), np.inf]
    return lambda y, eta, n: np.log(
        special.expit(kappa[y.astype(int) + 1] - eta) - special.expit(kappa[y.astype(int)] - eta)
    )


def make(name, link):
    rng = np.random.default_rng(5)
    family = family_of(name, link)
    shares = name in {"binomial", "beta"}
    eta = rng.normal(0, 1.2, N) if shares else rng.uniform(0.4, 1.8, N)
    aux = AUX.get(name, np.log([d])[: len(family.aux_names)])[:, None]
    trials = rng.integers(1, 9, N).astype(float) if name == "binomial" else None
    return Case(family, eta, aux, DENSITIES[name], trials)


def with_zeros(case):
    aux = np.vstack([case.aux, [[LOGIT_PI]]])
    return Case(ZeroInflated(case.family), case.eta, aux, zero_inflated(case.log_density))


def ordered(n_classes):
    aux = np.array([-1.0, 0.2, -0.5, 0.1])[: n_classes - 1, None]
    eta = np.random.default_rng(5).normal(0, 1.5, N)
    return Case(CumulativeLogit(n_classes), eta, aux, ordered_log_density(n_classes, aux.ravel()))


CASES = {f"{n} {link}": make(n, link) for n, kind in FAMILIES.items() for link in kind.links}
COUNTS = ("poisson", "nb1", "nb2")
CASES |= {f"zeros {n} {k}": with_zeros(CASES[f"{n} {k}"]) for n in COUNTS for k in ("log", "sqrt")}
CASES |= {f"ordered {k}": ordered(k) for k in (2, 3, 5)}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

# --------------------------------------------------------------------------- values and derivatives


@each_case
def test_values_are_those_of_scipy(case):
    weights = np.random.default_rng(2).integers(1, 4, N).astype(float)
    o = case.outcome(weights)
    center = (
        case.eta
        if isinstance(case.family, CumulativeLogit)
        else case.family.mean(case.eta, case.aux)
    )
    expected = case.log_density(o.y, center, case.trials) @ weights
    value = case.family.value(o, case.eta, case.aux)
    assert value.shape == (N,)
    assert_allclose(value.sum() + o.constant, expected, rtol=1e-11)
    for order in (2, 3):
        terms = case.family.terms(o, case.eta, case.aux, order)
        assert_allclose(terms.value, value, rtol=1e-12, atol=1e-13)


STENCIL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))


def slope(f, step=4e-3):
    """Central differences of eighth order."""
    return sum(c * (f(k * step) - f(-k * step)) for k, c in STENCIL) / step


def close(exact, numeric):
    assert_allclose(exact, numeric, rtol=2e-8, atol=2e-9 * (1 + np.abs(exact).max()))


@each_case
def test_derivatives_are_those_of_the_values(case):
    f, o, eta = case.family, case.outcome(np.linspace(0.5, 2, N)), case.eta
    n_aux = len(f.aux_names)
    aux = np.broadcast_to(case.aux, (n_aux, N)).copy()

    def at(e=0.0, j=0, t=0.0):
        moved = aux.copy()
        moved[j : j + 1] += t
        return f.terms(o, eta + e, moved, 3)

    exact = at()
    close(exact.first, slope(lambda e: at(e).value))
    close(exact.second, slope(lambda e: at(e).first))
    close(exact.third, slope(lambda e: at(e).second))
    two = f.terms(o, eta, case.aux, 2)
    assert_allclose(two.first, exact.first, rtol=1e-12, atol=1e-13)
    assert_allclose(two.second, exact.second, rtol=1e-12, atol=1e-13)
    if not n_aux:
        assert exact.aux_value is None or len(exact.aux_value) == 0
    for j in range(n_aux):
        close(exact.aux_value[j], slope(lambda t, j=j: at(0, j, t).value))
        close(exact.aux_first[j], slope(lambda t, j=j: at(0, j, t).first))
        close(exact.aux_second[j], slope(lambda t, j=j: at(0, j, t).second))
        for k in range(n_aux):
            close(exact.aux_curvature[k, j], slope(lambda t, j=j, k=k: at(0, j, t).aux_value[k]))


@each_case
def test_constant_auxiliary_predictors_broadcast(case):
    o, n_aux = case.outcome(), len(case.family.aux_names)
    wide = np.broadcast_to(case.aux, (n_aux, N))
    short, long = (case.family.terms(o, case.eta, a, 3) for a in (case.aux, wide))
    for x, y in zip(vars(short).values(), vars(long).values(), strict=True):
        if y is not None:
            assert x.shape == y.shape
            assert_allclose(x, y, rtol=1e-12, atol=1e-14)


@each_case
def test_weights_repeat_rows(case):
    weights = np.random.default_rng(3).integers(1, 4, N)
    rows = np.repeat(np.arange(N), weights)
    y = case.draw()
    trials = None if case.trials is None else case.trials[rows]
    once = case.family.outcome(y, case.trials, weights.astype(float))
    often = case.family.outcome(y[rows], trials)
    assert_allclose(once.constant, often.constant, rtol=1e-12, atol=1e-12)
    A = case.family.terms(once, case.eta, case.aux, 3)
    B = case.family.terms(often, case.eta[rows], case.aux, 3)
    for x, y in zip(vars(A).values(), vars(B).values(), strict=True):
        if x is not None:
            assert_allclose(x.sum(axis=-1), y.sum(axis=-1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["binomial logit", "binomial probit", "poisson log", "poisson sqrt"]
)
def test_sums_of_rows_that_share_eta(name):
    case = CASES[name]
    group = np.random.default_rng(4).integers(0, 7, N)
    group[:8] = [*range(7), 0]
    o = case.outcome(np.linspace(1, 3, N))
    few = case.family.aggregate(o, group, 7)
    eta = np.linspace(0.3, 1.4, 7)
    assert_allclose(few.constant, o.constant)
    short = case.family.terms(few, eta, case.aux, 3)
    long = case.family.terms(o, eta[group], case.aux, 3)
    for part in ("value", "first", "second", "third"):
        summed = np.bincount(group, getattr(long, part))
        assert_allclose(getattr(short, part), summed, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["nb1 log", "nb2 log", "gamma log", "beta logit", "tweedie log"])
def test_other_families_have_no_sums(name):
    assert CASES[name].family.aggregate(CASES[name].outcome(), np.zeros(N, int), 1) is None


# ---------------------------------------------------------- distribution function, draws, moments


@each_case
def test_mean_variance_and_cdf_are_those_of_draws(case):
    rng = np.random.default_rng(8)
    size = 40_000
    eta = np.full(size, case.eta[0])
    trials = None if case.trials is None else np.full(size, 6.0)
    y = case.family.sample(eta, case.aux, trials, rng)
    scale = 1.0 if trials is None else 6.0
    mean = scale * case.family.mean(eta, case.aux)
    variance = case.family.variance(eta, case.aux, trials)
    assert y.shape == eta.shape
    assert abs(y.mean() - mean[0]) < 4.5 * np.sqrt(variance[0] / size)
    assert_allclose(y.var(), variance[0], rtol=0.12)
    for point in np.quantile(y, [0.1, 0.5, 0.9]):
        p = np.ravel(case.family.cdf(point, eta[:1], case.aux, None if trials is None else 6.0))[0]
        assert abs((y <= point).mean() - p) < 4.5 * np.sqrt(0.25 / size)


@pytest.mark.parametrize(
    "name", [n for n in CASES if n.split()[0] in {*COUNTS, "zeros", "ordered", "binomial"}]
)
def test_cdf_of_counts_adds_probabilities(name):
    case = CASES[name]
    eta = case.eta[:3]
    y = np.arange(6.0)[:, None] * np.ones(3)
    trials = None if case.trials is None else np.full(3, 5.0)
    last = case.family.n_classes if name.startswith("ordered") else 6
    y = y[:last]
    rows = [case.family.outcome(row, trials) for row in y]
    log_p = [case.family.value(o, eta, case.aux) + o.constant / 3 for o in rows]
    cdf = case.family.cdf(y, eta, case.aux, trials)
    assert_allclose(np.cumsum(np.exp(log_p), axis=0), cdf, rtol=1e-11)
    assert_allclose(case.family.cdf(-1.0, eta, case.aux, trials), 0)
    assert_allclose(case.family.cdf(1e6, eta, case.aux, trials), 1)


@pytest.mark.parametrize(
    "name", ["gamma log", "inverse gaussian log", "beta probit", "tweedie log"]
)
def test_cdf_is_the_integral_of_the_density(name):
    case = CASES[name]
    eta, top = case.eta[:1], 0.7

    def density(y):
        o = case.family.outcome(np.array([y]))
        return np.exp(case.family.value(o, eta, case.aux)[0] + o.constant)

    found, _ = integrate.quad(density, 0, top, epsabs=1e-12, epsrel=1e-10, limit=200)
    bounds = case.family.cdf(np.array([top]), eta, case.aux) - case.family.cdf(0.0, eta, case.aux)
    assert_allclose(found, bounds[0], rtol=1e-7)


def test_dispersions_are_those_of_the_variance():
    mu = np.array([0.3, 0.6])
    for name, spread in {
        "nb1": lambda x: mu * (1 + x["dispersion"]),
        "nb2": lambda x: mu + x["dispersion"] * mu**2,
        "gamma": lambda x: x["dispersion"] * mu**2,
        "inverse gaussian": lambda x: x["dispersion"] * mu**3,
        "beta": lambda x: x["dispersion"] * mu * (1 - mu),
        "tweedie": lambda x: x["dispersion"] * mu ** x["power"],
    }.items():
        f = family_of(name)
        aux = AUX.get(name, np.log([d]))[:, None]
        assert_allclose(f.variance(f.link.eta(mu), aux), spread(f.dispersion(aux)))
    zeros = with_zeros(CASES["nb2 log"])
    assert zeros.family.dispersion(zeros.aux) == pytest.approx({"dispersion": d, "zero_share": PI})
    assert family_of("poisson").dispersion(np.empty((0, 1))) == {}


# ------------------------------------------------------------------------------ deviance and start


@each_case
def test_deviance_is_never_negative(case):
    assert (case.family.deviance(case.outcome(), case.eta, case.aux) >= 0).all()


@pytest.mark.parametrize(
    "name", [n for n in CASES if n.split()[0] not in {"nb1", "beta", "zeros", "ordered"}]
)
def test_deviance_is_zero_where_the_mean_is_y(name):
    case = CASES[name]
    y, trials = case.draw(), case.trials
    inside = (y > 0) & (y < (np.inf if trials is None else trials))
    o = case.family.outcome(y[inside], None if trials is None else trials[inside])
    eta = case.family.link.eta(o.y if trials is None else o.y / o.trials)
    assert_allclose(case.family.deviance(o, eta, case.aux), 0, atol=1e-12)


@pytest.mark.parametrize("name", ["nb1 log", "beta logit"])
def test_saturated_likelihood_is_the_largest(name):
    case = CASES[name]
    o = case.outcome()
    grid = np.linspace(-9, 6, 1501)[:, None] * np.ones(N)
    best = np.max([case.family.value(o, eta, case.aux) for eta in grid], axis=0)
    top = case.family.saturated(o, case.aux)
    assert (best <= top + 1e-12).all()
    assert_allclose(best, top, atol=5e-3)


def test_textbook_deviances():
    y, mu = np.array([0.0, 1.0, 4.0]), np.array([0.5, 2.0, 3.0])
    f = family_of("poisson")
    expected = 2 * (special.xlogy(y, y / mu) - (y - mu))
    assert_allclose(f.deviance(f.outcome(y), np.log(mu), np.empty((0, 1))), expected)
    y = np.array([0.5, 1.0, 4.0])
    for name, unit in {
        "gamma": 2 * (y / mu - 1 - np.log(y / mu)),
        "inverse gaussian": (y - mu) ** 2 / (mu**2 * y),
        "tweedie": 2 * (y**0.4 / (-0.6 * 0.4) + y * mu**-0.6 / 0.6 + mu**0.4 / 0.4),
    }.items():
        f = family_of(name)
        got = f.deviance(f.outcome(y, weights=2 * y), np.log(mu), AUX.get(name, np.log([d])))
        assert_allclose(got, 2 * y * unit, atol=1e-14)


@each_case
def test_starts_are_finite(case):
    o = case.outcome(np.linspace(1, 2, N))
    eta, aux = case.family.start(o)
    assert eta.shape == (N,) and aux.shape == (len(case.family.aux_names),)
    assert np.isfinite(case.family.value(o, eta, aux[:, None])).all()


def test_starts_survive_zeros_and_ones():
    for name, y in {"poisson": np.zeros(4), "nb2": np.zeros(4), "binomial": np.ones(4)}.items():
        f = family_of(name)
        eta, aux = f.start(f.outcome(y))
        assert np.isfinite(eta).all() and np.isfinite(aux).all()


def test_many_rows_are_worked_on_in_blocks():
    rng = np.random.default_rng(0)
    f, n = family_of("binomial"), 40_000
    eta, trials = rng.normal(0, 3, n), rng.integers(1, 4, n)
    for o in (f.outcome(rng.random(n) < 0.5), f.outcome(trials - 1.0, trials, eta**2)):
        long = f.terms(o, eta, None, 3)
        A, B = LINKS["logit"].log_shares(eta, 3)
        k, rest, _ = o.extra
        for part, x, y in zip(vars(long).values(), A, B, strict=False):
            assert_allclose(part, k * x + rest * y, rtol=1e-11, atol=1e-13)
        assert np.array_equal(f.value(o, eta, None), long.value)


# ------------------------------------------------------------------------------- limits and tails

# log Phi and its derivatives to 17 digits, by 400-digit arithmetic.
PROBIT = {
    -300.0: (-45006.622732118663, 300.00333325926337, -0.99998888962956105, 7.4064198902395809e-8),
    -40.0: (-804.60844201375379, 40.024968847207264, -0.99937733162140861, 3.1017440396486248e-5),
    -3.0: (-6.6077262215103495, 3.2830986549304365, -0.92944081321473188, 0.031470672830842488),
    1.5: (-0.069143455612233983, 0.13878975045885076, -0.2274472205207062, 0.26551576627946457),
}


@pytest.mark.parametrize("eta", PROBIT)
def test_probit_keeps_its_digits_in_both_tails(eta):
    share, _ = LINKS["probit"].log_shares(np.array([eta]), 3)
    _, rest = LINKS["probit"].log_shares(np.array([-eta]), 3)
    assert_allclose(np.ravel(share), PROBIT[eta], rtol=1e-12, atol=1e-11)
    assert_allclose(np.ravel(rest) * [1, -1, 1, -1], PROBIT[eta], rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("eta", [40.0, 60.0])
def test_logit_and_cloglog_far_out(eta):
    tiny = np.exp(-eta)
    share, rest = LINKS["logit"].log_shares(np.array([-eta, eta]), 3)
    assert_allclose(share[0], [-eta, -tiny], rtol=1e-14)
    assert_allclose(share[1], [1, tiny], rtol=1e-14)
    assert_allclose(rest[2], [-tiny, -tiny], rtol=1e-14)
    assert_allclose(share[3], [-tiny, tiny], rtol=1e-14)
    share, rest = LINKS["cloglog"].log_shares(np.array([-eta, eta]), 3)
    assert_allclose(share[0], [-eta, 0], rtol=1e-14)
    assert_allclose(share[1], [1, 0], atol=1e-14)
    assert_allclose(rest[0], [-tiny, -np.exp(eta)], rtol=1e-14)


@given(st.sampled_from(["logit", "probit", "cloglog"]), st.floats(-5, 3))
def test_log_shares_are_the_logarithms_of_the_derivatives(name, eta):
    link, eta = LINKS[name], np.array([eta])
    mu, m1, m2, m3 = link.derivatives(eta)
    (A, *slopes), (B, *_) = link.log_shares(eta, 3)
    assert_allclose(np.exp(A) + np.exp(B), 1, rtol=1e-13)
    r = m1 / mu
    expected = [r, m2 / mu - r**2, m3 / mu - 3 * m2 * m1 / mu**2 + 2 * r**3]
    assert_allclose(slopes, expected, rtol=1e-9, atol=1e-9)
    assert_allclose(link.eta(mu), eta, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["log", "identity", "inverse", "sqrt"])
def test_links_of_positive_means(name):
    link, eta = LINKS[name], np.linspace(0.3, 2.0, 9)
    assert_allclose(link.eta(link.mean(eta)), eta)
    exact = link.derivatives(eta)
    assert_allclose(exact[0], link.mean(eta))
    for k in range(3):
        close(exact[k + 1], slope(lambda e, k=k: link.derivatives(eta + e)[k]))
    logs = link.log_mean(eta)
    assert_allclose(logs[0], np.log(exact[0]), atol=1e-15)
    for k in range(3):
        close(logs[k + 1], slope(lambda e, k=k: link.log_mean(eta + e)[k]))


@pytest.mark.parametrize(
    "name", ["poisson sqrt", "nb2 identity", "gamma inverse", "inverse gaussian identity"]
)
def test_a_mean_out_of_range_has_value_minus_infinity_and_no_warning(name):
    case = CASES[name]
    eta = np.where(np.arange(N) % 2, case.eta, -case.eta)
    with np.errstate(all="raise"):
        terms = case.family.terms(case.outcome(), eta, case.aux, 3)
        value = case.family.value(case.outcome(), eta, case.aux)
    assert np.array_equal(terms.value == -np.inf, eta < 0)
    assert np.array_equal(value == -np.inf, eta < 0)
    assert all(np.isfinite(a).all() for a in (terms.first, terms.second, terms.third))


@pytest.mark.parametrize("name", COUNTS)
def test_zero_inflated_counts_stay_out_of_range(name):
    f = ZeroInflated(family_of(name, "identity"))
    o = f.outcome(np.array([0.0, 1.0]))
    aux = np.zeros((len(f.aux_names), 1))
    assert (f.value(o, np.array([-1.0, -1.0]), aux) == -np.inf).all()
    assert (f.terms(o, np.array([-1.0, -1.0]), aux, 2).value == -np.inf).all()


@pytest.mark.parametrize("name", ["nb1", "nb2"])
@pytest.mark.parametrize("log_alpha", [-10.0, -25.0, -60.0])
def test_negative_binomials_become_poisson_without_loss_of_digits(name, log_alpha):
    y, eta = np.array([0.0, 1, 2, 7, 40]), np.array([0.5, 0.1, 1.0, 1.5, 3.5])
    f, alpha, mu = family_of(name), np.exp(log_alpha), np.exp(eta)
    t = f.terms(f.outcome(y), eta, np.array([[log_alpha]]), 3)
    p = family_of("poisson").terms(family_of("poisson").outcome(y), eta, None, 3)
    assert_allclose(
        [t.value, t.first, t.second],
        [p.value, p.first, p.second],
        rtol=2000 * alpha + 1e-13,
        atol=1e-13,
    )
    # The first term of l in alpha: half of Pearson's excess, over mu for nb1.
    excess = 0.5 * ((y - mu) ** 2 - y) / (mu if name == "nb1" else 1)
    assert_allclose(t.aux_value[0], alpha * excess, rtol=100 * alpha + 1e-9, atol=3000 * alpha**2)
    assert_allclose(
        t.aux_curvature[0, 0], alpha * excess, rtol=100 * alpha + 1e-9, atol=6000 * alpha**2
    )


@given(st.floats(-12, 12))
def test_what_stirling_leaves_is_that_of_scipy(log_z):
    z = np.exp(np.array([log_z]))
    got = np.ravel(log_gamma(z, 3))
    zeta = [special.zeta(k, z[0]) for k in (2, 3)]
    expected = [
        special.gammaln(z[0]),
        z[0] * special.psi(z[0]),
        z[0] ** 2 * zeta[0],
        -2 * z[0] ** 3 * zeta[1],
    ]
    assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    assert_allclose(
        stirling(np.array([50.0, 1e8]), 0)[0],
        [1 / 600 - 1 / 45e6 + 1 / 39375e7, 1 / 12e8],
        rtol=1e-12,
    )


@given(st.integers(0, 60), st.floats(-8, 40))
def test_rising_factorials_are_sums(y, log_k):
    j = np.arange(y) / np.exp(log_k)
    got = np.ravel(rising(np.array([float(y)]), np.array([log_k]), 3))
    x = j / (1 + j)
    slopes = [np.log1p(j), -x, x * (1 - x), -x * (1 - x) * (1 - 2 * x)]
    expected = [s.sum() for s in slopes]
    assert_allclose(got, expected, rtol=1e-10, atol=1e-13 * (1 + y))


@pytest.mark.parametrize(
    "phi, p", [(1.0, 1.02), (1e-3, 1.5), (0.05, 1.9), (30.0, 1.5), (1.0, 1.98)]
)
def test_tweedie_series_at_the_edges(phi, p):
    f = family_of("tweedie")
    y = np.array([0.0, 1e-3, 0.2, 1.0, 3.0, 8.0])
    mu = np.array([0.5, 0.2, 0.2, 1.2, 2.8, 8.1])
    aux = np.array([[np.log(phi)], [special.logit(p - 1)]])
    o = f.outcome(y)
    rate, shape = mu ** (2 - p) / (phi * (2 - p)), (2 - p) / (p - 1)
    j = np.arange(1, 60_000)[:, None]
    scale = phi * (p - 1) * mu ** (p - 1)
    with np.errstate(divide="ignore"):
        parts = stats.poisson.logpmf(j, rate) + stats.gamma.logpdf(y, j * shape, scale=scale)
    expected = np.where(y > 0, special.logsumexp(parts, axis=0), -rate)
    got = f.value(o, np.log(mu), aux) - np.log(np.where(y > 0, y, 1))
    assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(st.floats(-300, 300), st.floats(-3, 3), st.integers(0, 3))
def test_zero_inflation_is_stable(t, eta, y):
    f = ZeroInflated(family_of("poisson"))
    o = f.outcome(np.array([float(y)]))
    terms = f.terms(o, np.array([eta]), np.array([[t]]), 3)
    assert all(np.isfinite(part).all() for part in vars(terms).values())
    if t < -60:
        plain = family_of("poisson")
        assert_allclose(
            terms.value, plain.value(plain.outcome(o.y), np.array([eta]), None), rtol=1e-14
        )


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=4), st.floats(-30, 30))
def test_ordered_classes_share_out_one(aux, eta):
    f = CumulativeLogit(len(aux) + 1)
    P = f.probabilities(np.array([eta, 0.0]), np.array(aux))
    assert P.shape == (2, len(aux) + 1)
    assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
    assert (np.diff(f.thresholds(np.array(aux))) > 0).all()
    assert_allclose(
        f.mean(np.array([eta, 0.0]), np.array(aux)), P @ np.arange(P.shape[1]), atol=1e-12
    )


@pytest.mark.parametrize("eta", [-40.0, 40.0, 800.0])
def test_ordered_classes_far_out(eta):
    f, aux = CumulativeLogit(3), np.array([[-1.0], [0.3]])
    terms = f.terms(f.outcome(np.array([0.0, 1.0, 2.0])), np.full(3, eta), aux, 3)
    assert all(np.isfinite(part).all() for part in vars(terms).values())
    lost = terms.value[0 if eta > 0 else 2]
    assert_allclose(lost, (-1.0 if eta > 0 else 1.0 - np.exp(0.3)) - abs(eta), rtol=1e-14)


# -------------------------------------------------------------------------------------- interface


@pytest.mark.parametrize(
    "name, y, trials, sentence",
    [
        (
            "poisson",
            [1, 2, 0, -1],
            None,
            "the poisson family needs counts (whole numbers >= 0): y is -1 in row 3",
        ),
        ("nb2", [1, 2.5], None, "y is 2.5 in row 1"),
        ("nb1", [np.nan, 2.5], None, "y is nan in row 0"),
        ("gamma", [1, 0], None, "the gamma family needs numbers > 0: y is 0 in row 1"),
        ("inverse gaussian", [np.inf, 1], None, "y is inf in row 0"),
        (
            "beta",
            [0.5, 1.0],
            None,
            "the beta family needs shares above 0, below 1: y is 1 in row 1",
        ),
        ("tweedie", [0, -2], None, "the tweedie family needs numbers >= 0: y is -2 in row 1"),
        ("binomial", [0, 2], None, "y is 2 in row 1"),
        ("binomial", [0, 2], [3, 1.5], "trials must be whole numbers >= 0: they are 1.5 in row 1"),
        ("binomial", [0, 4], [3, 3], "y is 4 in row 1"),
    ],
)
def test_impossible_outcomes_are_named(name, y, trials, sentence):
    found = family_of(name).check(np.array(y, float), None if trials is None else np.array(trials))
    assert found.endswith(sentence)


@each_case
def test_possible_outcomes_pass_and_families_survive_a_pickle(case):
    y = case.draw()
    assert case.family.check(y, case.trials) is None
    again = pickle.loads(pickle.dumps(case.family))
    o = case.outcome()
    same = again.value(o, case.eta, case.aux), case.family.value(o, case.eta, case.aux)
    assert np.array_equal(*same)


def test_classes_and_zeros_are_checked():
    assert "classes from 0 to 2: y is 3 in row 0" in CumulativeLogit(3).check(np.array([3.0]))
    assert "counts" in ZeroInflated(family_of("nb1")).check(np.array([0.5]))


def test_names_become_families():
    assert family_of("gamma").link.name == "log"
    assert family_of("binomial", "cloglog").link is LINKS["cloglog"]
    mine = CumulativeLogit(3)
    assert family_of(mine) is mine
    with pytest.raises(ValueError, match="no family 'poison': possible are 'binomial', 'poisson'"):
        family_of("poison")
    with pytest.raises(ValueError, match="no link 'logit': possible are 'log', 'sqrt', 'identity'"):
        family_of("poisson", "logit")
    with pytest.raises(ValueError, match="leave link=None"):
        family_of(mine, "logit")
    for wrong in (CumulativeLogit, 3):
        with pytest.raises(ValueError, match="or an object with the methods of Family, not"):
            family_of(wrong)


class StudentT(Family):
    """Location of Student's t with 5 degrees of freedom and one free scale: a user's family."""

    name = "student t"
    links = ("identity", "log")
    aux_names: ClassVar = ("log scale",)
    dof = 5.0

    def mu_terms(self, outcome, mu, aux, order):
        s, v = np.exp(aux[0]), self.dof
        r = (outcome.y - mu) / s
        q = v + r * r
        value = -0.5 * (v + 1) * np.log1p(r * r / v) - aux[0]
        first, second = (v + 1) * r / q / s, (v + 1) * (r * r - v) / q**2 / s**2
        if order < 3:
            return Terms(value, first, second)
        third = 2 * (v + 1) * r * (r * r - 3 * v) / q**3 / s**3
        return Terms(
            *(value, first, second, third),
            aux_value=((v + 1) * r * r / q - 1)[None],
            aux_first=(-2 * (v + 1) * v * r / q**2 / s)[None],
            aux_second=(2 * (v + 1) * v * (v - 3 * r * r) / q**3 / s**2)[None],
            aux_curvature=(-2 * (v + 1) * v * r * r / q**2)[None, None],
        )


@pytest.mark.parametrize("link", ["identity", "log"])
def test_a_family_of_the_user_needs_names_and_terms_only(link):
    rng = np.random.default_rng(0)
    f, eta = family_of(StudentT(link)), rng.uniform(0.5, 1, N)
    y = f.mean(eta, None) + rng.standard_t(5, N)
    case = Case(f, eta, np.array([[0.3]]), None)
    object.__setattr__(case, "draw", lambda seed=1: y)
    test_derivatives_are_those_of_the_values(case)
    o = f.outcome(y)
    constant = stats.t.logpdf(0, 5)
    expected = stats.t.logpdf(y, 5, f.mean(eta, None), np.exp(0.3))
    assert_allclose(f.value(o, eta, case.aux) + constant, expected)
    assert f.check(y) is None and "needs finite numbers" in f.check(np.array([np.nan]))
    start, aux = f.start(f.outcome(np.abs(y)))
    assert np.isfinite(start).all() and aux.tolist() == [0.0]
    assert_allclose(f.deviance(o, eta, case.aux), -2 * f.value(o, eta, case.aux))
    with pytest.raises(NotImplementedError, match="student t family does not define cdf"):
        f.cdf(0.0, eta, case.aux)
