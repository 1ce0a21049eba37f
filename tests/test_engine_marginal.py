"""Means, spreads and quantiles over a normal linear predictor, against dense sums."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import expit

from sklme._engine.families import family_of
from sklme._engine.links import LINKS
from sklme._engine.marginal import deviation, equivalent, expectation, folded_quantile, quantile

ETA = np.array([-12.0, -3.0, -0.5, 0.0, 1.0, 2.5, 6.0])
SDS = [0.01, 0.3, 1.0, 2.2, 5.0]
Z = np.linspace(-45, 45, 200_001)
WEIGHTS = np.exp(-0.5 * Z * Z) / np.exp(-0.5 * Z * Z).sum()


def dense(f, eta, sd):
    """E f(eta + sd Z) for each eta by a sum over many points."""
    with np.errstate(over="ignore"):
        return np.array([WEIGHTS @ f(e + sd * Z) for e in eta])


@pytest.mark.parametrize("sd", SDS)
@pytest.mark.parametrize("name", ["logit", "probit", "cloglog", "log", "identity", "sqrt"])
def test_the_mean_is_that_of_a_dense_sum(name, sd):
    link = LINKS[name]
    eta = np.abs(ETA) if name == "sqrt" else ETA
    found = link.mean(equivalent(link, eta, np.full(len(eta), sd**2)))
    assert_allclose(found, dense(link.mean, eta, sd), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sd", SDS)
@pytest.mark.parametrize("name", ["logit", "probit", "cloglog", "log", "identity", "sqrt"])
def test_the_deviation_is_that_of_a_dense_sum(name, sd):
    link, eta = LINKS[name], np.array([-2.0, 0.0, 0.5, 1.5])
    mean = dense(link.mean, eta, sd)
    variance = [
        dense(lambda x, m=m: (link.mean(x) - m) ** 2, [e], sd)[0]
        for e, m in zip(eta, mean, strict=True)
    ]
    assert_allclose(deviation(link, eta, np.full(4, sd**2)), np.sqrt(variance), rtol=1e-6)


def test_a_link_of_ones_own_is_integrated_too():
    class Cauchit(type(LINKS["logit"])):
        name = "cauchit"
        mean = staticmethod(lambda eta: 0.5 + np.arctan(eta) / np.pi)
        eta = staticmethod(lambda mu: np.tan(np.pi * (mu - 0.5)))

    found = equivalent(Cauchit(), ETA, np.full(len(ETA), 4.0))
    assert_allclose(Cauchit.mean(found), dense(Cauchit.mean, ETA, 2.0), atol=1e-8)


@pytest.mark.parametrize("name", ["logit", "probit", "cloglog"])
def test_far_tails_are_finite_and_keep_their_order(name):
    eta = np.array([-800.0, -40.0, -39.0, 0.0, 39.0, 40.0, 800.0])
    found = equivalent(LINKS[name], eta, np.ones(7))
    assert np.isfinite(found).all() and (np.diff(found) >= 0).all()
    if name == "logit":
        assert_allclose(found[1:3], [-39.5, -38.5], rtol=1e-10)  # exp(eta + v/2) there


def test_the_logit_is_symmetric():
    eta = np.linspace(-9, 9, 37)
    found = equivalent(LINKS["logit"], eta, np.full(37, 2.0))
    assert_allclose(found, -found[::-1], atol=1e-14)
    assert (np.abs(found) <= np.abs(eta)).all()


def test_rows_do_not_depend_on_one_another():
    rng = np.random.default_rng(0)
    eta, variance = rng.normal(size=50), rng.exponential(3.0, size=50) * (rng.random(50) < 0.8)
    together = equivalent(LINKS["logit"], eta, variance)
    alone = [equivalent(LINKS["logit"], eta[[i]], variance[[i]])[0] for i in range(50)]
    assert_allclose(together, alone, rtol=1e-15)
    assert_allclose(together[variance == 0], eta[variance == 0], rtol=0)


def test_an_inverse_link_has_no_mean():
    eta = np.array([1.0, 2.0])
    assert_allclose(equivalent(LINKS["inverse"], eta, np.zeros(2)), eta)
    with pytest.raises(ValueError, match=r'inverse link has no mean.*"population"'):
        equivalent(LINKS["inverse"], eta, np.ones(2))
    assert_allclose(deviation(LINKS["inverse"], eta, np.full(2, 1e-4)), [0.01, 0.0025])


def test_an_expectation_may_have_several_values():
    f = lambda eta: np.stack([expit(eta), expit(-eta), np.ones_like(eta)])
    found = expectation(f, ETA, np.full(len(ETA), 1.5))
    assert_allclose(found[0] + found[1], 1.0, rtol=1e-12)
    assert_allclose(found[2], 1.0, rtol=1e-12)
    assert_allclose(found[0], dense(expit, ETA, 1.5), atol=1e-9)


@pytest.mark.parametrize("probability", [0.025, 0.5, 0.975])
def test_quantiles_of_the_family_itself_without_spread(probability):
    eta, nothing = np.array([-2.0, 0.0, 1.0, 3.0]), np.zeros(4)
    poisson = family_of("poisson")
    cdf = lambda y, e: poisson.cdf(y, e, np.zeros((0, 1)))
    found = quantile(cdf, probability, eta, nothing, whole=True)
    assert_allclose(found, stats.poisson.ppf(probability, np.exp(eta)))
    gamma = family_of("gamma")
    cdf = lambda y, e: gamma.cdf(y, e, np.log([[0.5]]))
    found = quantile(cdf, probability, eta, nothing, whole=False)
    assert_allclose(found, stats.gamma.ppf(probability, 2.0, scale=np.exp(eta) / 2.0), rtol=1e-8)


def test_quantiles_of_a_mixture_are_those_of_draws():
    rng = np.random.default_rng(0)
    poisson = family_of("poisson")
    draws = rng.poisson(np.exp(1.0 + 0.8 * rng.normal(size=400_000)))
    cdf = lambda y, e: poisson.cdf(y, e, np.zeros((0, 1)))
    for p in (0.1, 0.5, 0.9):
        found = quantile(cdf, p, np.array([1.0]), np.array([0.8]), whole=True)
        assert (draws <= found[0]).mean() >= p - 0.003
        assert (draws < found[0]).mean() <= p + 0.003


def test_quantiles_of_numbers_of_either_sign():
    cdf = lambda y, e: stats.norm.cdf(y, e, 3.0)
    found = quantile(cdf, 0.025, np.array([-50.0, 0.0, 70.0]), np.full(3, 4.0), whole=False)
    assert_allclose(found, stats.norm.ppf(0.025, [-50.0, 0.0, 70.0], 5.0), atol=1e-4)


def test_quantiles_of_the_size_of_a_normal():
    center, sd = np.array([0.0, -1.0, 3.0, 2.0]), np.array([1.0, 2.0, 0.5, 0.0])
    for p in (0.025, 0.5, 0.975):
        t = folded_quantile(center, sd, p)
        share = stats.norm.cdf(t[:3], center[:3], sd[:3]) - stats.norm.cdf(
            -t[:3], center[:3], sd[:3]
        )
        assert_allclose(share, p, atol=1e-12)
        assert t[3] == 2.0
