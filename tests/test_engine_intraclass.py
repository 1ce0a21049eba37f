"""Batched intraclass correlations against dense matrices, grids and the linear mixed model."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from sklme import LinearMixedModel
from sklme._engine.intraclass import Form, complete
from sklme._engine.intraclass_bootstrap import bootstrap_limits
from sklme._engine.intraclass_fit import incomplete, variances
from sklme._engine.intraclass_limits import analyse, pivot
from sklme._engine.intraclass_reml import criterion, derivatives
from sklme._engine.intraclass_sums import sums
from sklme._engine.one_way import one_way

MODELS = ("one-way", "agreement", "consistency")
HEIGHT = stats.chi2.ppf(0.95, 1)


def table(seed=0, n=12, k=3, p=4, missing=0.2, shared=False, sd=(1.5, 1.0, 1.0)):
    """Y (n k, p) with gaps, and the codes of subjects and raters."""
    rng = np.random.default_rng(seed)
    subject, rater = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    Y = sd[0] * rng.normal(size=(n, p))[subject] + sd[1] * rng.normal(size=(k, p))[rater]
    Y = Y + sd[2] * rng.normal(size=Y.shape) + 20.0
    gaps = rng.random((n * k, 1 if shared else p)) < missing
    return np.where(gaps, np.nan, Y), subject, rater


def dense(y, subject, rater, lam, theta):
    """-2 log REML of lmer's model, up to its constant, with the residual variance profiled."""
    here = ~np.isnan(y)
    y, n = y[here], here.sum()
    Zs, Zr = (np.equal.outer(c[here], np.unique(c[here])) for c in (subject, rater))
    V = np.eye(n) + lam * Zs @ Zs.T.astype(float) + theta**2 * Zr @ Zr.T.astype(float)
    ones = np.ones(n)
    iy, i1 = np.linalg.solve(V, np.column_stack([y, ones])).T
    rss = y @ iy - (ones @ iy) ** 2 / (ones @ i1)
    return np.linalg.slogdet(V)[1] + np.log(ones @ i1) + (n - 1) * np.log(rss)


@pytest.mark.parametrize("shared", [True, False])
def test_the_criterion_is_that_of_dense_matrices(shared):
    Y, subject, rater = table(shared=shared)
    Y = np.concatenate([Y, Y])[::-1]  # two measurements in a cell, other order of rows
    subject, rater = np.tile(subject, 2)[::-1], np.tile(rater, 2)[::-1]
    data = sums(Y, subject, rater)
    rng = np.random.default_rng(1)
    lam, theta = rng.exponential(size=(2, 4))
    value = derivatives(data, lam, theta)[0]
    for j in range(4):
        y = (Y[:, j] - data.shift[j]) / data.scale[j]
        expected = dense(y, subject, rater, lam[j], theta[j])
        assert_allclose(value[j], expected - np.log(3.0), rtol=1e-11)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_derivatives_are_those_of_differences(k):
    Y, subject, rater = table(seed=2, k=max(k, 2))
    data = sums(Y, subject, None if k == 1 else rater)
    evaluate, which = criterion(data), np.arange(4)
    m, h = 1 if k == 1 else 2, 1e-5
    theta = np.random.default_rng(3).random((4, m)) + 0.3
    at = evaluate(theta, which)
    for i in range(m):
        step = h * np.eye(m)[i]
        up, down = evaluate(theta + step, which), evaluate(theta - step, which)
        assert_allclose(at.gradient[:, i], (up.value - down.value) / (2 * h), rtol=1e-6, atol=1e-6)
        slope = (up.gradient - down.gradient) / (2 * h)
        assert_allclose(at.observed[:, i], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("k", [2, 5])
def test_components_are_those_of_the_linear_mixed_model(shared, k):
    Y, subject, rater = table(seed=4, k=k, shared=shared)
    found = incomplete(Y, subject, rater, Form("agreement", False), 0.95)
    for j in range(4):
        here = ~np.isnan(Y[:, j])
        X = pd.DataFrame({"s": subject[here], "r": rater[here]})
        model = LinearMixedModel(["s", "r"], tol=1e-10).fit(X, Y[here, j])
        expected = [model.covariance_[name].item() for name in "sr"]
        expected.append(model.residual_variance_)
        ours = [found.subject[j], found.rater[j], found.residual[j]]
        assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


def test_one_way_is_the_linear_mixed_model_of_one_factor():
    Y, subject, _ = table(seed=5, shared=True, p=20, sd=(0.4, 0.0, 1.0))
    here = ~np.isnan(Y[:, 0])
    found = one_way(Y, subject)
    model = LinearMixedModel("s", tol=1e-10).fit(pd.DataFrame({"s": subject[here]}), Y[here])
    between = model.covariance_["s"][:, 0, 0]
    assert (between == 0).any() and (between > 0).any()
    assert_allclose(found.share, between / (between + model.residual_variance_), atol=1e-6)
    assert (found.at_zero == (between == 0)).all()
    assert_allclose(found.within, model.residual_variance_, rtol=1e-6)


def test_the_pivot_is_the_reduction_of_generalised_least_squares():
    Y, subject, rater = table(seed=6)
    data = sums(Y, subject, rater)
    analysis = analyse(data)
    lam = np.array([0.0, 0.3, 2.0, 50.0])
    Q, slope = pivot(analysis, lam)
    for j in range(4):
        here = ~np.isnan(Y[:, j])
        y = (Y[here, j] - data.shift[j]) / data.scale[j]
        Zs = np.equal.outer(subject[here], np.unique(subject[here])).astype(float)
        X = np.equal.outer(rater[here], np.unique(rater[here])).astype(float)

        def rss(ratio, y=y, Zs=Zs, X=X):
            L = np.linalg.cholesky(np.eye(len(y)) + ratio * Zs @ Zs.T)
            a, B = np.linalg.solve(L, y), np.linalg.solve(L, X)
            return ((a - B @ np.linalg.lstsq(B, a, rcond=None)[0]) ** 2).sum()

        both = np.column_stack([X, Zs])
        fitted = both @ np.linalg.lstsq(both, y, rcond=None)[0]
        sse, rank = ((y - fitted) ** 2).sum(), np.linalg.matrix_rank(both)
        assert_allclose(analysis.error[j], sse, rtol=1e-9)
        assert analysis.df_error[j] == len(y) - rank
        assert analysis.df_subjects[j] == rank - X.shape[1]
        assert_allclose(Q[j], rss(lam[j]) - sse, rtol=1e-8, atol=1e-12)
        change = (rss(lam[j] + 1e-5) - rss(max(lam[j] - 1e-5, 0.0))) / (1e-5 + min(lam[j], 1e-5))
        assert_allclose(slope[j], change, rtol=1e-3)


@pytest.mark.parametrize("model", ["one-way", "consistency"])
def test_exact_limits_are_where_the_f_test_stops_to_reject(model):
    Y, subject, rater = table(seed=7, p=8)
    rater = None if model == "one-way" else rater
    found = incomplete(Y, subject, rater, Form(model, False), 0.9)
    analysis = analyse(sums(Y, subject, rater))
    for limit, level in ((found.lower, 0.05), (found.upper, 0.95)):
        F = pivot(analysis, limit / (1 - limit))[0] / analysis.df_subjects / analysis.mean_square
        tail = stats.f.sf(F, analysis.df_subjects, analysis.df_error)
        assert_allclose(tail[limit > 0], level, rtol=1e-7)
        assert (tail[limit == 0] >= level).all()


@pytest.mark.parametrize("k, sd", [(2, (1, 0.5, 0.5)), (2, (1, 0, 1)), (4, (1, 0.4, 0.6))])
def test_profile_limits_are_those_of_a_grid(k, sd):
    Y, subject, rater = table(seed=8, n=15, k=k, p=6, missing=0.15, sd=sd)
    found = incomplete(Y, subject, rater, Form("agreement", False), 0.95)
    data = sums(Y, subject, rater)
    fit = variances(analyse(data))
    roots = np.concatenate([[0.0], np.geomspace(0.01, 200.0, 500)])
    for j in range(6):
        shares = np.linspace(1e-5, 0.9999, 401)
        low, high = found.lower[j], found.upper[j]
        shares = np.sort(np.concatenate([shares, [low + 1e-6, high - 1e-6]]))
        x, theta = (a.ravel() for a in np.meshgrid(shares / (1 - shares), roots, indexing="ij"))
        one = data.take(np.full(len(x), j))
        value = derivatives(one, x * (1 + theta**2), theta)[0].reshape(len(shares), -1)
        rise = value.min(axis=1) - fit.criterion[j]
        inside = shares[rise <= HEIGHT + 2e-3]
        assert inside.min() <= low + 2e-6 and inside.max() >= high - 2e-6
        outside = shares[(rise < HEIGHT - 2e-3)]
        assert outside.min() >= low - 1e-6 and outside.max() <= high + 1e-6


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("average", [False, True])
def test_reml_is_the_analysis_of_variance_of_complete_tables(model, average):
    Y, subject, rater = table(seed=9, p=60, missing=0.0, sd=(0.4, 0.4, 1.0))
    form = Form(model, average)
    closed = complete(Y.reshape(12, 3, -1), form, 0.95)
    codes = None if model == "one-way" else rater
    found = incomplete(Y, subject, codes, form, 0.95)
    positive = closed.subject >= 0
    if model != "one-way":  # without variance of the raters, REML pools them with the error
        positive &= closed.rater >= 0
    assert positive.any() and not positive.all()
    for name in ("icc", "subject", "residual"):
        ours, theirs = getattr(found, name)[positive], getattr(closed, name)[positive]
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
    for name in ("within", "within_lower", "within_upper", "relative", "f", "p_value"):
        assert_allclose(getattr(found, name), getattr(closed, name), rtol=1e-8)
    if model != "agreement":
        assert_allclose(found.lower, np.maximum(closed.lower, 0.0), atol=1e-9)
        assert_allclose(found.upper, np.maximum(closed.upper, 0.0), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(-1e4, 1e4),
    scale=st.sampled_from([-1e3, 1e-6, 0.5, 1e8]),
    model=st.sampled_from(MODELS),
)
def test_units_and_order_do_not_matter(seed, shift, scale, model):
    Y, subject, rater = table(seed=seed, p=2)
    order = np.random.default_rng(seed).permutation(len(Y))
    form, codes = Form(model, False), None if model == "one-way" else rater
    here = incomplete(Y, subject, codes, form, 0.95)
    there = incomplete(
        ((Y + shift) * scale)[order],
        (100 - subject)[order],
        None if codes is None else (2 - codes)[order],
        form,
        0.95,
    )
    for name in ("icc", "lower", "upper", "f"):
        assert_allclose(getattr(here, name), getattr(there, name), rtol=2e-5, atol=2e-6)
    assert_allclose(here.within * scale**2, there.within, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), model=st.sampled_from(MODELS))
def test_features_together_are_features_alone(seed, model):
    Y, subject, rater = table(seed=seed, p=5, missing=0.3)
    form, codes = Form(model, True), None if model == "one-way" else rater
    together = incomplete(Y, subject, codes, form, 0.95)
    for j in range(5):
        alone = incomplete(Y[:, [j]], subject, codes, form, 0.95)
        for name in ("icc", "lower", "upper", "residual", "p_value", "k"):
            a, b = getattr(together, name)[j], getattr(alone, name)[0]
            assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_feature_without_some_rater_is_that_of_the_others():
    Y, subject, rater = table(seed=10, k=4)
    Y[rater == 2, 1] = np.nan
    form, left = Form("consistency", False), rater != 2
    found = incomplete(Y, subject, rater, form, 0.95)
    alone = incomplete(Y[left][:, [1]], subject[left], rater[left], form, 0.95)
    assert_allclose(found.k, [4, 3, 4, 4])
    assert_allclose([found.icc[1], found.lower[1]], [alone.icc[0], alone.lower[0]], rtol=1e-9)


def test_the_bootstrap_agrees_with_exact_limits():
    Y, subject, _ = table(seed=11, n=60, p=2, shared=True, sd=(1.5, 0.0, 1.0))
    form = Form("one-way", False)
    found = incomplete(Y, subject, None, form, 0.95)
    random = np.random.RandomState(0)
    lower, upper = bootstrap_limits(Y, subject, None, form, found, 0.95, 800, random)
    assert_allclose(lower, found.lower, atol=0.04)
    assert_allclose(upper, found.upper, atol=0.04)


@pytest.mark.parametrize("model", ["one-way", "consistency", "agreement"])
def test_intervals_of_incomplete_tables_cover(model):
    """1000 features at once: 95 % within three standard errors; likelihood limits may cover more.

    Two raters and 25 subjects, of whom some were measured once.
    """
    Y, subject, rater = table(seed=12, n=25, k=2, p=1000, shared=True, sd=(1.0, 0.2, 0.6))
    if model == "one-way":
        Y, subject, rater = table(seed=12, n=25, k=3, p=1000, shared=True, sd=(1.0, 0.0, 0.6))
    codes = None if model == "one-way" else rater
    found = incomplete(Y, subject, codes, Form(model, False), 0.95)
    truth = 1.0 / (1.36 + (0.04 if model == "agreement" else 0.0))
    covered = ((found.lower <= truth) & (truth <= found.upper)).mean()
    assert 0.929 < covered < (0.99 if model == "agreement" else 0.971)


def test_one_way_leaves_out_what_has_no_share():
    rng = np.random.default_rng(13)
    codes = np.repeat(np.arange(5), 4)
    Y = rng.normal(size=(20, 5))
    Y[:, 1] = 3.0  # constant
    Y[:, 2] = np.nan
    Y[4:, 3] = np.nan  # one group
    Y[:, 4] = codes  # nothing within groups
    found = one_way(Y, codes)
    assert np.isfinite(found.share[0]) and np.isnan(found.share[[1, 2, 3]]).all()
    assert found.share[4] == found.lower[4] == found.upper[4] == 1.0


def test_short_tables_get_the_lowest_of_several_minima():
    Y, subject, rater = table(seed=14, n=5, k=2, p=200, sd=(1.0, 0.5, 1.0))
    found = incomplete(Y, subject, rater, Form("agreement", False), 0.95)
    both = [(~np.isnan(Y[rater == j])).any(axis=0) for j in (0, 1)]
    which = np.flatnonzero(np.isfinite(found.icc) & both[0] & both[1])
    data = sums(Y[:, which], subject, rater)
    fit = variances(analyse(data))
    roots = np.concatenate([[0.0], np.geomspace(0.02, 30.0, 30)])
    full = np.full(len(which), 1.0)
    grid = [derivatives(data, a * a * full, b * full)[0] for a in roots for b in roots]
    assert len(which) > 150
    assert (fit.criterion <= np.min(grid, axis=0) + 1e-6).all()
