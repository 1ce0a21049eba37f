"""The engine of meta-analysis: likelihoods, tau2, the law of Cochran's Q, new sites."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from sklme._engine import new_site
from sklme._engine.heterogeneity import (
    estimate_tau2,
    largest_tau2,
    likelihood,
    tau2_interval,
    tau2_where_q_is,
)
from sklme._engine.meta import pool, predict, probability_above, shrink
from sklme._engine.meta_regression import arrange, regress
from sklme._engine.quadratic_form import distribution

seeds = st.integers(0, 2**32 - 1)


def draw_sites(seed, k=None, m=1, tau=None, spread=None, absent=0.0):
    """Estimates and standard errors (k, m) of sites with heterogeneity of any size."""
    rng = np.random.default_rng(seed)
    k = rng.integers(3, 25) if k is None else k
    tau = 10.0 ** rng.uniform(-2, 1) if tau is None else tau
    spread = rng.uniform(0.0, 2.0) if spread is None else spread
    errors = np.exp(spread * rng.standard_normal((k, m)))
    estimates = rng.normal() + tau * rng.standard_normal((k, m)) + errors * rng.normal(size=(k, m))
    estimates[rng.random((k, m)) < absent] = np.nan
    return estimates, errors


def one_column(estimates, errors):
    return arrange(estimates, errors, np.ones((len(estimates), 1)))


def dense_log_likelihood(y, errors, X, tau2, reml):
    """From the covariance matrix, as in a textbook."""
    V = np.diag(errors**2 + tau2)
    VX = np.linalg.solve(V, X)
    coef = np.linalg.solve(X.T @ VX, VX.T @ y)
    e = y - X @ coef
    value = len(y) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
    if reml:
        value += np.linalg.slogdet(X.T @ VX)[1] - np.linalg.slogdet(X.T @ X)[1]
        value -= X.shape[1] * np.log(2 * np.pi)
    return -0.5 * value


# Likelihood ---------------------------------------------------------------------------------------


@given(seeds, st.booleans(), st.integers(1, 3), st.floats(0.0, 5.0))
def test_log_likelihood_is_that_of_the_dense_model(seed, reml, p, tau2):
    y, errors = draw_sites(seed, k=9)
    X = np.column_stack([np.ones(9), np.random.default_rng(seed).normal(size=(9, 3))])[:, :p]
    at = regress(arrange(y, errors, X), np.array([tau2]))
    expected = dense_log_likelihood(y[:, 0], errors[:, 0], X, tau2, reml)
    assert likelihood(at, reml=reml).value[0] == pytest.approx(expected, rel=1e-10)


@given(seeds, st.booleans(), st.integers(1, 3))
def test_derivatives_of_the_log_likelihood_are_its_differences(seed, reml, p):
    y, errors = draw_sites(seed, k=9, tau=1.0, spread=1.0)
    X = np.column_stack([np.ones(9), np.random.default_rng(seed).normal(size=(9, 3))])[:, :p]
    sites, tau2, h = arrange(y, errors, X), 0.7, 1e-4
    at = likelihood(regress(sites, np.array([[tau2 - h, tau2, tau2 + h]])), reml=reml)
    low, _, high = at.value[0]
    assert at.score[0, 1] == pytest.approx((high - low) / (2 * h), rel=1e-5, abs=1e-6)
    second = (at.score[0, 2] - at.score[0, 0]) / (2 * h)
    assert at.information[0, 1] == pytest.approx(-second, rel=1e-5, abs=1e-6)


@given(seeds, st.sampled_from(["reml", "ml"]))
def test_no_tau2_has_a_higher_likelihood_than_the_estimate(seed, method):
    y, errors = draw_sites(seed, m=4)
    sites = one_column(y, errors)
    tau2 = estimate_tau2(sites, method)
    best = likelihood(regress(sites, tau2), reml=method == "reml")
    grid = np.linspace(0.0, 1.0, 2001) ** 4 * 1.2 * largest_tau2(sites).max()
    others = likelihood(regress(sites, np.tile(grid, (4, 1))), reml=method == "reml").value
    assert np.all(others.max(axis=1) <= best.value + 1e-9)
    inside = tau2 > 0
    scale = best.information * np.maximum(tau2, 1e-300)
    assert np.all(np.abs(best.score[inside]) <= 1e-6 * np.abs(scale[inside]) + 1e-9)
    assert np.all(best.score[~inside] <= 1e-12)


def test_the_higher_of_two_maxima_is_found():
    """Three precise sites agree, imprecise ones lie far off: the REML likelihood has two maxima."""
    y = np.array([0.0, 0.01, -0.01, 7.0, 8.0, -8.0, 9.0])
    errors = np.array([0.05, 0.05, 0.05, 3.0, 3.0, 3.0, 3.0])
    sites = one_column(y[:, None], errors[:, None])
    grid = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 20001)])
    value = likelihood(regress(sites, grid[None, :]), reml=True).value[0]
    rises = np.diff(value) > 0
    assert (rises[:-1] & ~rises[1:]).sum() + (not rises[0]) >= 1
    assert estimate_tau2(sites, "reml")[0] == pytest.approx(grid[value.argmax()], rel=2e-3)


@given(seeds)
def test_the_likelihood_only_falls_beyond_the_bound(seed):
    y, errors = draw_sites(seed, spread=2.0)
    sites = one_column(y, errors)
    beyond = largest_tau2(sites)[:, None] * np.array([[1.001, 2.0, 10.0, 1000.0]])
    for reml in (True, False):
        assert np.all(likelihood(regress(sites, beyond), reml=reml).score <= 0.0)


# tau2 from Q --------------------------------------------------------------------------------------


@given(seeds, st.floats(0.01, 50.0))
def test_tau2_brings_q_down_to_what_is_asked(seed, q):
    y, errors = draw_sites(seed, m=3, spread=3.0)
    sites = one_column(y, errors)
    tau2 = tau2_where_q_is(sites, np.full(3, q))
    reached = regress(sites, tau2).q
    assert np.all(reached <= q * (1 + 1e-9))
    assert reached[tau2 > 0] == pytest.approx(np.full((tau2 > 0).sum(), q), rel=1e-9)


def test_q_profile_interval_covers_at_its_level():
    k, m, tau2 = 8, 4000, 0.5
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.3, 1.5, (k, 1)) * np.ones((1, m))
    y = np.sqrt(tau2) * rng.normal(size=(k, m)) + errors * rng.normal(size=(k, m))
    low, high = tau2_interval(one_column(y, errors), 0.9)
    assert np.mean((low <= tau2) & (tau2 <= high)) == pytest.approx(0.9, abs=0.015)


# The law of Q -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dof", [1, 2, 3, 7, 19, 29, 31, 60, 200])
def test_equal_weights_give_a_chi_square(dof):
    q = stats.chi2.ppf([1e-9, 1e-3, 0.05, 0.3, 0.5, 0.6, 0.9, 0.99, 1 - 1e-9], dof)
    weights = np.ones((len(q), dof))
    below, change = distribution(3.0 * weights, 3.0 * q, weights)
    assert below == pytest.approx(stats.chi2.cdf(q, dof), abs=1e-9)
    assert change == pytest.approx(-q * stats.chi2.pdf(q, dof) / 3.0, abs=1e-8)


@given(seeds)
def test_pairs_of_weights_give_a_sum_of_exponentials(seed):
    rng = np.random.default_rng(seed)
    w = np.cumprod(rng.uniform(1.5, 20.0, rng.integers(1, 6)))
    q = 2.0 * w.sum() * 10.0 ** rng.uniform(-2.0, 1.0)
    shares = [np.prod(v / (v - w[w != v])) for v in w]
    expected = 1.0 - np.sum(shares * np.exp(-q / (2.0 * w)))
    below, _ = distribution(np.repeat(w, 2)[None], np.array([q]), np.zeros((1, 2 * len(w))))
    assert below[0] == pytest.approx(expected, abs=1e-10)


def test_its_derivative_is_the_difference():
    rng = np.random.default_rng(1)
    weights, rates = rng.uniform(0.5, 30.0, (2, 6)), rng.uniform(0.0, 5.0, (2, 6))
    q, h = np.array([20.0, 150.0]), 1e-4
    up, down = (distribution(weights + s * h * rates, q, rates)[0] for s in (1, -1))
    _, change = distribution(weights, q, rates)
    assert change == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_weights_of_zero_are_left_out():
    q, weights = np.array([4.0]), np.array([[1.0, 2.5, 7.0]])
    more = np.array([[1.0, 0.0, 2.5, 7.0, 0.0]])
    for part, other in zip(
        distribution(weights, q, weights), distribution(more, q, more), strict=True
    ):
        assert part == pytest.approx(other, abs=1e-10)


# New sites ----------------------------------------------------------------------------------------


def test_confidence_distribution_of_tau2_is_that_of_simulated_q():
    """P(Q > q) with that tau2, by drawing sites."""
    y, errors = draw_sites(5, k=6, tau=1.0, spread=0.7)
    found = new_site.bootstrap(one_column(y, errors))
    at_zero = regress(one_column(y, errors), np.zeros(1))
    rng, n = np.random.default_rng(0), 400_000
    for tau2 in (0.0, 0.3, 2.0):
        drawn = np.sqrt(errors**2 + tau2) * rng.standard_normal((6, n))
        weights = errors**-2.0
        center = (weights * drawn).sum(axis=0) / weights.sum()
        expected = np.mean((weights * (drawn - center) ** 2).sum(axis=0) > at_zero.q)
        rates = new_site._rates(at_zero.weights)
        assert 1.0 - distribution(1.0 + tau2 * rates, at_zero.q, rates)[0] == pytest.approx(
            expected, abs=0.003
        )
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_bootstrap_is_the_limit_of_drawing():
    """Nagashima's algorithm with many random draws, tau2 by inverting its distribution."""
    y, errors = draw_sites(7, k=7, tau=0.8, spread=0.6)
    meta = pool(y, errors, prediction="bootstrap")
    q = meta.q
    rates = new_site._rates(errors.T**-2.0)

    def survival(tau2):
        return 1.0 - distribution(1.0 + tau2 * rates, q, rates)[0][0]

    grid = np.concatenate([[0.0], np.geomspace(1e-5, 1e8, 3000)])
    rng, n = np.random.default_rng(0), 1_000_000
    tau2 = np.interp(rng.random(n), [survival(t) for t in grid], grid)
    weights = 1.0 / (errors**2 + tau2)
    mean = (weights * y).sum(axis=0) / weights.sum(axis=0)
    error2 = (weights * (y - mean) ** 2).sum(axis=0) / 6 / weights.sum(axis=0)
    drawn = mean - rng.standard_t(6, n) * np.sqrt(error2) + np.sqrt(tau2) * rng.normal(size=n)
    low, high = meta.prediction_lower[0], meta.prediction_upper[0]
    assert np.mean(drawn < low) == pytest.approx(0.025, abs=5e-4)
    assert np.mean(drawn > high) == pytest.approx(0.025, abs=5e-4)
    for value in (-1.0, 0.5, 1.5):
        assert probability_above(meta, value)[0] == pytest.approx(np.mean(drawn > value), abs=2e-3)


@pytest.mark.parametrize("k", [3, 4, 10, 40])
def test_the_error_of_the_bootstrap_is_as_stated(k, monkeypatch):
    taus = np.array([0.0, 0.1, 1.0, 30.0])
    y, errors = draw_sites(k, k=k, m=4, tau=taus, spread=1.5)
    coarse = pool(y, errors, prediction="bootstrap")
    for name, value in {"N_TAU2": 250, "N_CHI2": 90, "TAIL": 1e-11}.items():
        monkeypatch.setattr(new_site, name, value)
    fine = pool(y, errors, prediction="bootstrap")
    width = fine.prediction_upper - fine.prediction_lower
    assert np.all(np.abs(coarse.prediction_lower - fine.prediction_lower) < 2e-6 * width)
    assert np.all(np.abs(coarse.prediction_upper - fine.prediction_upper) < 2e-6 * width)


@given(seeds, st.sampled_from(["hksj", "normal", "bootstrap"]), st.floats(0.5, 0.99))
def test_probability_agrees_with_the_interval(seed, prediction, level):
    y, errors = draw_sites(seed, m=2)
    meta = pool(y, errors, prediction=prediction, confidence_level=level)
    tail = 0.5 - 0.5 * level
    assert probability_above(meta, meta.prediction_lower) == pytest.approx(1 - tail, abs=1e-9)
    assert probability_above(meta, meta.prediction_upper) == pytest.approx(tail, abs=1e-9)


def test_the_density_of_the_bootstrap_integrates_to_its_probabilities():
    y, errors = draw_sites(3, k=5)
    found = new_site.bootstrap(one_column(y, errors))
    ends = found.quantile(0.2)[0], found.quantile(0.7)[0]
    inside, _ = integrate.quad(
        lambda x: found._below_and_density(np.array([x]), 1.0)[1][0], *ends, epsabs=1e-9
    )
    assert inside == pytest.approx(0.5, abs=1e-6)


@given(st.integers(0, 1000))
def test_few_sites_that_hardly_differ_have_an_interval_all_the_same(seed):
    y, errors = draw_sites(seed, k=3, tau=0.0, spread=0.1)
    meta = pool(1e-3 * y, errors, prediction="bootstrap")
    assert meta.prediction_lower < meta.prediction_upper
    assert np.isfinite(meta.prediction_upper - meta.prediction_lower)


# Invariances --------------------------------------------------------------------------------------

PREDICTIONS = st.sampled_from(["hksj", "bootstrap"])
METHODS = st.sampled_from(["reml", "ml", "dl", "pm"])
LOCATIONS = ("mean", "lower", "upper", "prediction_lower", "prediction_upper")
SQUARES = ("tau2", "tau2_lower", "tau2_upper")
NUMBERS = ("i2", "h2", "q", "q_p_value", "n_sites", "dof")


@given(seeds, METHODS, PREDICTIONS, st.floats(-50, 50), st.floats(-3, 3))
def test_shift_and_scale_of_estimates(seed, method, prediction, shift, log_scale):
    y, errors = draw_sites(seed)
    size = 10.0**log_scale
    how = {"method": method, "prediction": prediction}
    before, after = pool(y, errors, **how), pool(size * (y + shift), size * errors, **how)
    unit = before.prediction_upper - before.prediction_lower + abs(shift)
    for name in LOCATIONS:
        expected = size * (getattr(before, name) + shift)
        assert getattr(after, name) == pytest.approx(expected, abs=1e-6 * size * unit[0])
    for name in SQUARES:
        small = 1e-7 * size**2 * np.min(errors) ** 2
        assert getattr(after, name) == pytest.approx(size**2 * getattr(before, name), 1e-5, small)
    for name in NUMBERS:
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-5, abs=1e-7)


@settings(max_examples=20)
@given(seeds, METHODS, PREDICTIONS)
def test_order_of_sites_and_company_of_metrics_change_nothing(seed, method, prediction):
    y, errors = draw_sites(seed, m=5, absent=0.3)
    order = np.random.default_rng(seed).permutation(len(y))
    how = {"method": method, "prediction": prediction}
    together = pool(y, errors, **how)
    turned = pool(y[order], errors[order], **how)
    for j in range(5):
        here = np.isfinite(y[:, j])
        if here.sum() == 0:
            assert np.isnan(together.mean[j]) and together.n_sites[j] == 0
            continue
        alone = pool(y[here, j], errors[here, j], **how)
        for name in (*LOCATIONS, *SQUARES, *NUMBERS, "log_likelihood", "std_error"):
            values = [np.ravel(getattr(meta, name)) for meta in (together, turned, alone)]
            expected = pytest.approx(values[0][j], rel=1e-6, abs=1e-9, nan_ok=True)
            assert values[1][j] == expected and values[2][0] == expected


@given(seeds)
def test_moderators_may_be_recombined(seed):
    y, errors = draw_sites(seed, k=12)
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(12), rng.normal(size=(12, 2))])
    turn = rng.normal(size=(3, 3)) + 3.0 * np.eye(3)
    before, after = pool(y, errors, moderators=X), pool(y, errors, moderators=X @ turn)
    assert after.mean @ turn.T == pytest.approx(before.mean, rel=1e-6, abs=1e-6)
    assert after.tau2 == pytest.approx(before.tau2, rel=1e-6, abs=1e-9)
    assert after.log_likelihood - before.log_likelihood == pytest.approx(0.0, abs=1e-7)
    rows = rng.normal(size=(4, 3))
    a, b = predict(before, rows), predict(after, rows @ turn)
    assert b.prediction_upper == pytest.approx(a.prediction_upper, rel=1e-6, abs=1e-6)


# Sizes and limits ---------------------------------------------------------------------------------


def test_one_and_two_sites():
    y = np.array([[0.3, 0.3, np.nan], [np.nan, 0.5, np.nan]])
    errors = np.full((2, 3), 0.1)
    for prediction in ("hksj", "normal", "bootstrap"):
        meta = pool(y, errors, prediction=prediction)
        assert meta.n_sites.tolist() == [1, 2, 0]
        assert meta.mean[0] == pytest.approx(0.3) and meta.mean[1] == pytest.approx(0.4)
        assert meta.std_error[0] == pytest.approx(0.1)
        assert np.isnan(meta.mean[2]) and np.isnan(meta.tau2[[0, 2]]).all()
        assert meta.tau2[1] == pytest.approx(0.2**2 / 2 - 0.1**2)
        assert np.isnan(meta.lower[0]) and np.isfinite(meta.lower[1])
        assert np.isnan(meta.prediction_lower).all()
    normal = pool(y, errors, ci="normal")
    assert normal.upper[0] == pytest.approx(0.3 + 1.959964 * 0.1)


def test_equal_estimates_have_no_interval_of_knapp_and_hartung():
    y, errors = np.full(6, 0.8), np.linspace(0.01, 0.05, 6)
    for prediction in ("hksj", "bootstrap"):
        meta = pool(y, errors, prediction=prediction)
        assert meta.tau2[0] == 0.0 and meta.mean[0] == pytest.approx(0.8)
        assert np.isnan([meta.lower[0], meta.prediction_lower[0]]).all()
    adhoc = pool(y, errors, ci="hksj-adhoc")
    assert adhoc.upper[0] > 0.8 and adhoc.prediction_upper[0] > 0.8


def test_huge_heterogeneity():
    y, errors = draw_sites(2, k=8, tau=1.0, spread=0.0)
    y = 1e7 * y
    for method in ("reml", "ml", "dl", "pm"):
        meta = pool(y, errors, method=method, prediction="bootstrap")
        assert meta.tau2[0] == pytest.approx(np.var(y, ddof=method != "ml"), rel=1e-3)
        assert meta.mean[0] == pytest.approx(y.mean(), rel=1e-3)
        half = stats.t.ppf(0.975, 7) * np.std(y, ddof=1) * np.sqrt(1 + 1 / 8)
        assert meta.prediction_upper[0] - y.mean() == pytest.approx(half, rel=0.02)


def test_equal_standard_errors_have_the_closed_form():
    y, errors = draw_sites(11, k=10, tau=3.0, spread=0.0)
    meta = pool(y, errors)
    assert meta.tau2[0] == pytest.approx(np.var(y, ddof=1) - 1.0, rel=1e-10)
    assert meta.std_error[0] == pytest.approx(np.std(y, ddof=1) / np.sqrt(10), rel=1e-10)


def test_shrinking_is_the_posterior_mean_of_the_dense_model():
    y, errors = draw_sites(4, k=6, tau=1.0, spread=0.5)
    meta = pool(y, errors, ci="normal")
    found, tau2 = shrink(meta), meta.tau2[0]
    V = np.diag(errors[:, 0] ** 2 + tau2)
    expected = meta.mean + tau2 * np.linalg.solve(V, y[:, 0] - meta.mean)
    assert found.estimate[:, 0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "place, value, sentence",
    [
        ("y", np.inf, "site 2 has an infinite estimate"),
        ("se", np.inf, "site 2 has an infinite standard error"),
        ("se", 0.0, "site 2 has a standard error that is not positive"),
        ("se", -1.0, "site 2 has a standard error that is not positive"),
    ],
)
def test_what_is_refused(place, value, sentence):
    arrays = {"y": np.arange(4.0), "se": np.ones(4)}
    arrays[place][2] = value
    with pytest.raises(ValueError, match=sentence):
        pool(arrays["y"], arrays["se"])


def test_moderators_that_repeat_each_other_are_refused():
    with pytest.raises(ValueError, match="repeat each other"):
        pool(np.arange(4.0), np.ones(4), moderators=np.ones((4, 2)))
    with pytest.raises(ValueError, match="without moderators only"):
        pool(np.arange(4.0), np.ones(4), moderators=np.ones((4, 1)), prediction="bootstrap")


def test_a_metric_whose_sites_cannot_tell_the_moderators_apart_is_nan():
    X = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    y = np.column_stack([np.arange(4.0), [1.0, 2.0, np.nan, np.nan]])
    meta = pool(y, np.ones((4, 2)), moderators=X)
    assert np.isfinite(meta.mean[0]).all() and np.isnan(meta.mean[1]).all()


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_tau2_agrees_with_a_general_optimiser(method):
    y, errors = draw_sites(21, k=12, tau=1.0, spread=0.5)
    X = np.ones((12, 1))
    found = optimize.minimize_scalar(
        lambda t: -dense_log_likelihood(y[:, 0], errors[:, 0], X, t, method == "reml"),
        bounds=(0.0, 20.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert pool(y, errors, method=method).tau2[0] == pytest.approx(found.x, rel=1e-6)
