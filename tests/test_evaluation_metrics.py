"""Metrics of one site, their standard errors and the scales on which sites are pooled."""

import pickle
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn import metrics as sk

from sklme.evaluation import _auc, _calibration, _resample
from sklme.evaluation.metrics import METRICS, find_metrics, from_scale, to_scale

Z = 1.959963984540054
RESAMPLED = {"average_precision", "scaled_brier", "roc_auc_ovr", "r2"}


def estimate(name, y, prediction, task="binary", confidence_level=0.95, seed=0):
    (metric,) = find_metrics(name, task)
    rng = np.random.default_rng(seed)
    y, prediction = np.asarray(y), np.asarray(prediction, float)
    return metric.function(y, prediction, confidence_level=confidence_level, rng=rng)


def lattice():
    """Sixty rows with ties that R makes with the same two lines."""
    i = np.arange(1, 61)
    x = (i * 37) % 23
    return (x + (i * 11) % 17 > 18).astype(int), (x + 1) / 25


def site(task="binary", n=200, seed=0):
    rng = np.random.default_rng(seed)
    if task == "regression":
        prediction = rng.normal(3.0, 2.0, n)
        return prediction * 0.8 + 1.0 + rng.normal(size=n), prediction
    if task == "classes":
        prediction = rng.dirichlet([1.0, 1.5, 2.0], n)
        return np.array([rng.choice(3, p=p) for p in prediction]), prediction
    eta = rng.normal(-0.5, 1.5, n)
    return (rng.random(n) < expit(0.3 + 0.7 * eta)).astype(int), expit(eta).round(2).clip(
        0.01, 0.99
    )


def brute_force_delong(y, prediction):
    """Equations 3 to 5 as they are printed: all pairs."""
    high, low = prediction[y == 1], prediction[y == 0]
    psi = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    auc, v10, v01 = psi.mean(), psi.mean(axis=1), psi.mean(axis=0)
    s10 = np.sum((v10 - auc) ** 2) / (len(high) - 1)
    s01 = np.sum((v01 - auc) ** 2) / (len(low) - 1)
    return auc, s10 / len(high) + s01 / len(low)


class TestAUC:
    def test_roc_of_r(self):
        # pROC 1.18: r <- roc(y, p, direction = "<"); auc(r); var(r, method = "delong")
        found = _auc.delong(*lattice())
        assert_allclose(found, (0.9087875417130144, 0.0013405257921164236), rtol=1e-13)

    @given(st.integers(0, 2**31), st.integers(2, 9), st.integers(4, 60))
    def test_double_sum(self, seed, n_values, n):
        rng = np.random.default_rng(seed)
        prediction = rng.integers(n_values, size=n) / n_values
        y = np.append([0, 0, 1, 1], rng.integers(2, size=n - 4))
        assert_allclose(_auc.delong(y, prediction), brute_force_delong(y, prediction), atol=1e-12)

    def test_logit_by_delta(self):
        y, p = lattice()
        auc, variance = brute_force_delong(y, p)
        found = estimate("roc_auc", y, p)
        error = np.sqrt(variance) / (auc * (1 - auc))
        ends = expit(logit(auc) + Z * error * np.array([-1, 1]))
        assert_allclose(astuple(found)[:5], (auc, logit(auc), error, *ends), rtol=1e-12)

    def test_monotone_and_swapped(self):
        y, p = site()
        plain = estimate("roc_auc", y, p)
        assert_allclose(astuple(estimate("roc_auc", y, p**3))[:5], astuple(plain)[:5], rtol=1e-12)
        swapped = estimate("roc_auc", 1 - y, p)
        assert_allclose(swapped.value, 1 - plain.value, rtol=1e-12)
        assert_allclose((swapped.theta, swapped.std_error), (-plain.theta, plain.std_error))

    @pytest.mark.parametrize(("events", "others"), [(1, 2), (2, 20), (5, 50), (30, 30)])
    def test_perfect(self, events, others):
        y = np.repeat([1, 0], [events, others])
        found, inverse = estimate("roc_auc", y, y), estimate("roc_auc", 1 - y, y)
        assert (found.value, found.upper) == (1.0, 1.0) and (inverse.value, inverse.lower) == (0, 0)
        assert np.isfinite(found.theta) and 0.5 < found.std_error < 2.5 and found.reason == ""
        assert_allclose(found.theta, -inverse.theta)
        # The lower end is the AUC from which 1 is 1.96 standard errors away.
        low = found.lower
        rows = (events + others) / 2 - 1
        spread = 1 + rows * ((1 - low) / (2 - low) + low / (1 + low))
        variance = low * (1 - low) * spread / (events * others)
        assert_allclose(1 - low, Z * np.sqrt(variance), rtol=1e-8)

    def test_perfect_is_surer_with_more_events(self):
        lower = [estimate("roc_auc", y, y).lower for y in ([1] * k + [0] * 50 for k in (1, 5, 20))]
        assert lower == sorted(lower) and lower[-1] > 0.85

    def test_constant(self):
        y = np.repeat([0, 1], 40)
        found = estimate("roc_auc", y, np.full(80, 0.3))
        assert (found.value, found.theta) == (0.5, 0.0)
        # About the error of two rankings that know nothing: variance 1 / 12 (1 / 40 + 1 / 40).
        assert_allclose(found.std_error / 4, np.sqrt(81 / (12 * 40 * 40)), rtol=0.05)

    def test_two_events(self):
        y, p = np.array([1, 0, 0, 1, 0, 0]), np.array([0.9, 0.2, 0.3, 0.35, 0.4, 0.1])
        found = estimate("roc_auc", y, p)
        assert_allclose((found.value, found.theta), (7 / 8, logit(7 / 8)))
        assert found.lower < 0.5 < 0.95 < found.upper < 1.0

    @pytest.mark.slow
    def test_coverage(self):
        rng, inside = np.random.default_rng(3), 0
        for _ in range(2000):
            y = np.repeat([1, 0], [25, 60])
            found = estimate("roc_auc", y, expit(rng.normal(size=85) + y * 1.2))
            inside += found.lower < 0.8019 < found.upper  # Phi(1.2 / sqrt(2))
        assert 0.93 < inside / 2000 < 0.975


class TestCalibration:
    def test_glm_of_r(self):
        # lp <- qlogis(p); coef(summary(glm(y ~ offset(lp), binomial))), and glm(y ~ lp, binomial)
        found = estimate("calibration_intercept", *lattice())
        assert_allclose((found.value, found.std_error), (0.184355670990713, 0.303918661329737))
        found = estimate("calibration_slope", *lattice())
        assert_allclose((found.value, found.std_error), (1.951070222729660, 0.499435930808773))

    @pytest.mark.parametrize("seed", range(3))
    def test_maximum_and_curvature(self, seed):
        y, p = site(n=60, seed=seed)
        x = logit(p)

        def minus_log_likelihood(beta):
            eta = beta[0] + (beta[1] * x if len(beta) == 2 else x)
            return np.sum(np.logaddexp(0.0, eta) - y * eta)

        for name, size in (("calibration_intercept", 1), ("calibration_slope", 2)):
            best = minimize(minus_log_likelihood, np.zeros(size), tol=1e-12).x
            found = estimate(name, y, p)
            assert_allclose(found.value, best[-1], atol=1e-5)
            steps = 1e-3 * np.eye(size)
            f = lambda *at: minus_log_likelihood(np.sum(at, axis=0))
            hessian = [
                [f(best, a, b) - f(best, a, -b) - f(best, -a, b) + f(best, -a, -b) for a in steps]
                for b in steps
            ]
            covariance = np.linalg.inv(np.array(hessian) / 4e-6)
            assert_allclose(found.std_error, np.sqrt(covariance[-1, -1]), rtol=1e-4)

    def test_perfect_and_shifted(self):
        p = np.repeat([0.2, 0.5, 0.8], 10)
        y = np.concatenate([np.repeat([1, 0], [k, 10 - k]) for k in (2, 5, 8)])
        assert_allclose(estimate("calibration_intercept", y, p).value, 0.0, atol=1e-12)
        assert_allclose(estimate("calibration_slope", y, p).value, 1.0)
        moved = expit(2.0 * logit(p) + 0.0)
        assert_allclose(estimate("calibration_slope", y, moved).value, 0.5)
        moved = expit(logit(p) - 1.3)
        assert_allclose(estimate("calibration_intercept", y, moved).value, 1.3)

    def test_far_away(self):
        y, p = site(n=500)
        near = estimate("calibration_intercept", y, p)
        far = estimate("calibration_intercept", y, expit(logit(p) + 15.0))
        assert_allclose((far.value + 15.0, far.std_error), (near.value, near.std_error), rtol=1e-6)

    def test_zero_and_one_are_moved(self):
        y = np.tile([0, 1, 1, 0, 1], 5)
        found = estimate("calibration_slope", y, np.tile([0.0, 1.0, 0.7, 0.6, 0.3], 5))
        moved = estimate("calibration_slope", y, np.tile([1e-10, 1 - 1e-10, 0.7, 0.6, 0.3], 5))
        assert found == moved and np.isfinite(found.value)

    @pytest.mark.parametrize(
        ("high", "low"), [((0.6, 0.9), (0.1, 0.6)), ((0.2,), (0.3, 0.9)), ((0.1, 0.3), (0.3, 0.9))]
    )
    def test_separated(self, high, low):
        y = np.repeat([1, 0], [len(high) * 5, len(low) * 5])
        found = estimate("calibration_slope", y, np.repeat([*high, *low], 5))
        assert np.isnan(found.value) and "slope is infinite" in found.reason

    def test_observed_expected(self):
        y, p = site()
        found = estimate("oe_ratio", y, p)
        error = np.sqrt((1 - y.mean()) / y.sum())
        ratio = y.sum() / p.sum()
        expected = ratio, np.log(ratio), error, *(ratio * np.exp(Z * error * np.array([-1, 1])))
        assert_allclose(astuple(found)[:5], expected, rtol=1e-12)

    def test_lines_of_r(self):
        # summary(lm(y ~ p)); confint(lm(y ~ p)); t.test(y - p); cor.test(y, p)
        y = [2.1, 3.4, 1.9, 5.6, 4.4, 7.1, 6.2, 8.3]
        p = [1.5, 2.9, 2.8, 4.4, 5.1, 6.0, 7.7, 7.4]
        found = estimate("calibration_slope", y, p, "regression")
        ends = 0.478101850498424, 1.38484590541266
        expected = 0.931473877955543, 0.931473877955543, 0.185283351030801, *ends
        assert_allclose(astuple(found)[:5], expected)
        found = estimate("calibration_intercept", y, p, "regression")
        ends = found.value, found.lower, found.upper
        assert_allclose(ends, (0.15, -0.711895461148217, 1.011895461148217))
        found = estimate("pearson", y, p, "regression")
        ends = found.value, found.lower, found.upper
        assert_allclose(ends, (0.898969081711567, 0.530109451430745, 0.981733978807195))


class TestMeansAndShares:
    def test_brier(self):
        y, p = site()
        loss = (y - p) ** 2
        found = estimate("brier", y, p)
        assert_allclose(found.value, sk.brier_score_loss(y, p))
        # Once more by grouping: the variance of a mean of losses, each value with its frequency.
        values, counts = np.unique(loss, return_counts=True)
        variance = counts @ (values - loss.mean()) ** 2 / (len(y) - 1) / len(y)
        assert_allclose(found.std_error * found.value, np.sqrt(variance))

    def test_values_of_sklearn(self):
        y, p = site()
        hard = p > 0.5
        for name, value in {
            "roc_auc": sk.roc_auc_score(y, p),
            "average_precision": sk.average_precision_score(y, p),
            "log_loss": sk.log_loss(y, p),
            "accuracy": sk.accuracy_score(y, hard),
            "balanced_accuracy": sk.balanced_accuracy_score(y, hard),
            "sensitivity": sk.recall_score(y, hard),
            "specificity": sk.recall_score(1 - y, ~hard),
            "scaled_brier": 1 - sk.brier_score_loss(y, p) / (y.mean() * (1 - y.mean())),
        }.items():
            assert_allclose(estimate(name, y, p).value, value, err_msg=name)
        y, p = site("classes")
        hard = p.argmax(axis=1)
        for name, value in {
            "roc_auc_ovr": sk.roc_auc_score(y, p, multi_class="ovr"),
            "log_loss": sk.log_loss(y, p),
            "accuracy": sk.accuracy_score(y, hard),
            "balanced_accuracy": sk.balanced_accuracy_score(y, hard),
        }.items():
            assert_allclose(estimate(name, y, p, "classes").value, value, err_msg=name)
        y, p = site("regression")
        for name, value in {
            "r2": sk.r2_score(y, p),
            "rmse": sk.root_mean_squared_error(y, p),
            "mse": sk.mean_squared_error(y, p),
            "mae": sk.mean_absolute_error(y, p),
        }.items():
            assert_allclose(estimate(name, y, p, "regression").value, value, err_msg=name)

    def test_wilson_of_r(self):
        # prop.test(7, 20, correct = FALSE)$conf.int
        y, p = np.repeat([1, 0], [20, 5]), np.repeat([0.9, 0.1], [7, 18])
        found = estimate("sensitivity", y, p)
        ends = found.lower, found.upper
        assert_allclose(ends, (0.181191824101082, 0.567145723314764), rtol=1e-12)
        assert_allclose(found.std_error, np.sqrt(1 / 7 + 1 / 13))

    @pytest.mark.parametrize("noise", [0.2, 1.0, 3.0])
    def test_an_explained_share_is_resampled_on_its_scale(self, noise):
        """Minus the log of what is not explained: R2 = 1 - exp(-theta), never above 1."""
        rng = np.random.default_rng(0)
        y = rng.normal(size=40)
        p = y + noise * rng.normal(size=40)
        found = estimate("r2", y, p, "regression", confidence_level=0.9999)
        assert_allclose(found.theta, -np.log(1 - sk.r2_score(y, p)))
        assert found.lower < found.value < found.upper < 1
        draws = rng.integers(40, size=(4000, 40))
        unexplained = ((y - p)[draws] ** 2).mean(axis=1) / y[draws].var(axis=1)
        assert_allclose(found.std_error, np.log(unexplained).std(), rtol=0.08)

    def test_nothing_is_left_unexplained(self):
        y = np.arange(5.0)
        assert "the squared error is 0 in all 5 rows" in estimate("r2", y, y, "regression").reason

    def test_shares_of_zero_and_one(self):
        y = np.repeat([1, 0], 20)
        every, none = (estimate("sensitivity", y, np.full(40, p)) for p in (0.9, 0.5))
        assert (every.value, every.upper, none.value, none.lower) == (1.0, 1.0, 0.0, 0.0)
        assert_allclose(every.theta, np.log(20.5 / 0.5))
        assert_allclose((every.theta, every.lower), (-none.theta, 1 - none.upper))
        assert 0.75 < every.lower < 0.84  # that of prop.test, 0.839, is for more than half a row

    def test_balanced_accuracy_error(self):
        y, p = np.repeat([1, 0], [10, 40]), np.repeat([0.9, 0.1, 0.9, 0.1], [7, 3, 12, 28])
        found = estimate("balanced_accuracy", y, p)
        error = np.sqrt(0.7 * 0.3 / 10 + 0.7 * 0.3 / 40) / 2
        assert_allclose((found.value, found.std_error), (0.7, error / 0.21))
        for constant in (0.1, 0.9):
            found = estimate("balanced_accuracy", y, np.full(50, constant))
            assert found.value == 0.5 and 0.05 < found.std_error < 1.0
        assert np.isfinite(estimate("balanced_accuracy", y, y).theta)

    def test_net_benefit(self):
        y, p = site()
        low, high = find_metrics(["net_benefit@0.2", "net_benefit@0.75"], "binary")
        for metric, t in ((low, 0.2), (high, 0.75)):
            gain = np.where(p >= t, np.where(y == 1, 1.0, -t / (1 - t)), 0.0)
            found = metric.function(y, p, confidence_level=0.95, rng=None)
            assert_allclose(found.value, gain.mean())
            assert_allclose(found.std_error, gain.std(ddof=1) / np.sqrt(len(y)))

    def test_net_benefit_of_nobody(self):
        y, p = site()
        found = estimate("net_benefit@0.999", y, p)
        assert found.value == 0.0 and found.reason == "" and found.std_error > 0

    def test_root_is_half_the_log(self):
        y, p = site("regression")
        root, square = estimate("rmse", y, p, "regression"), estimate("mse", y, p, "regression")
        assert_allclose((2 * root.theta, 2 * root.std_error), (square.theta, square.std_error))
        # The bootstrap of the root itself agrees with the delta method.
        f = lambda y, p: np.sqrt(np.mean((y - p) ** 2))
        error = _resample.bootstrap_rows(f, y, p, np.random.default_rng(0))
        assert_allclose(error / root.value, root.std_error, rtol=0.07)


class TestBootstrap:
    def test_against_the_formula(self):
        y, p = site()
        mean = lambda y, p, counts: counts @ (y - p) ** 2 / counts.sum(axis=1)
        error = _resample.bootstrap_counts(mean, y, p, np.random.default_rng(0))
        brier = estimate("brier", y, p)
        assert_allclose(error, brier.std_error * brier.value, rtol=0.06)

    def test_auc_against_delong(self):
        y, p = site()
        auc = lambda y, p, counts: _resample._auc(y == 1, p, counts)
        error = _resample.bootstrap_counts(auc, y, p, np.random.default_rng(0))
        assert_allclose(error, np.sqrt(_auc.delong(y, p)[1]), rtol=0.07)

    def test_ties_of_counts(self):
        y, p = site(n=60)
        auc = _resample._auc(y == 1, p.round(1), np.ones((1, 60)))
        assert_allclose(auc, sk.roc_auc_score(y, p.round(1)))

    @pytest.mark.parametrize(
        ("task", "ours", "theirs"),
        [
            ("binary", _resample._average_precision, sk.average_precision_score),
            ("regression", _resample._explained, sk.r2_score),
            (
                "classes",
                _resample._mean_auc,
                lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
            ),
        ],
    )
    def test_counts_are_repeated_rows(self, task, ours, theirs):
        y, p = site(task, n=40)
        rows = np.random.default_rng(5).integers(40, size=(6, 40))
        counts = np.array([np.bincount(r, minlength=40) for r in rows], float)
        assert_allclose(ours(y, p, counts), [theirs(y[r], p[r]) for r in rows], rtol=1e-10)

    def test_own_function(self):
        y, p = site("regression")
        (metric,) = find_metrics({"bias": lambda y, p: np.mean(y - p)}, "regression")
        rng = np.random.default_rng(0)
        found = metric.function(y, p, confidence_level=0.9, rng=rng)
        formula = estimate("calibration_intercept", y, p, "regression", 0.9)
        assert_allclose(astuple(found)[:5], astuple(formula)[:5], rtol=0.1)

    def test_failures_of_own_functions(self):
        y, p = np.repeat([1, 0], [2, 48]), np.linspace(0, 1, 50)
        run = lambda f: find_metrics({"mine": f}, "binary")[0].function(
            y, p, confidence_level=0.95, rng=np.random.default_rng(0)
        )
        found = run(lambda y, p: 1.0 / np.sum(y) if y.any() else np.nan)
        assert "13% of the bootstrap resamples" in found.reason and np.isnan(found.value)
        assert run(lambda y, p: np.nan).reason == "mine is nan here"
        assert run(lambda y, p: [][0] if len(p) < 9 else 1.0).reason.startswith("the metric is the")
        assert run(lambda y, p: float("x")).reason.startswith("mine raised ValueError: could not")
        with pytest.raises(TypeError, match=r"scoring\['mine'\] returned an object of ndarray"):
            run(lambda y, p: p)

    def test_perfect_average_precision(self):
        y = np.repeat([1, 0], [8, 20])
        found = estimate("average_precision", y, y)
        assert found.value == found.upper == 1.0
        assert_allclose(found.theta, np.log(8.5 / 0.5))


class TestNotEstimable:
    @pytest.mark.parametrize("name", sorted(set(METRICS["binary"]) - {"accuracy", "brier"}))
    def test_one_class(self, name):
        found = estimate(name, np.ones(27), np.linspace(0.1, 0.9, 27))
        if name == "log_loss":
            assert found.reason == ""
        else:
            assert found.reason == "all 27 rows are of one class"
            assert np.isnan(astuple(found)[:5]).all()

    @pytest.mark.parametrize("task", sorted(METRICS))
    def test_never_nan_without_a_reason(self, task):
        rng = np.random.default_rng(0)
        columns = 3 if task == "classes" else None
        shape = lambda n: (n, columns) if columns else (n,)
        cases = []
        for n in (1, 2, 3, 4, 12):
            ys = [np.zeros(n), np.ones(n), np.arange(n) % 2, np.arange(n) % 3 if columns else None]
            for y in (y for y in ys if y is not None):
                flat = np.full(shape(n), 1 / 3 if columns else 0.5)
                right = np.eye(3)[y.astype(int)] if columns else y
                p = rng.random(shape(n))
                cases += [(y, flat), (y, right), (y, p / p.sum(1)[:, None] if columns else p)]
        for metric in find_metrics(list(METRICS[task]), task):
            for y, p in cases:
                found = metric.function(y, p, confidence_level=0.95, rng=rng)
                finite = np.isfinite(astuple(found)[:5])
                assert finite.all() if not found.reason else not finite.any(), (metric.name, y, p)
                assert found.reason or found.std_error > 0
                assert found.reason or found.lower <= found.value <= found.upper

    @pytest.mark.parametrize(
        ("task", "name", "y", "p", "reason"),
        [
            ("binary", "roc_auc", [0, 1], [0.1, 0.9], "only 2 rows"),
            ("binary", "roc_auc", [1], [0.1], "only 1 row"),
            ("binary", "calibration_slope", [0, 1, 1], [0.4] * 3, "all 3 predictions are equal"),
            ("binary", "brier", [0, 1, 1], [0, 1, 1], "the squared error is 0 in all 3 rows"),
            ("binary", "brier", [0, 1, 1], [0.5] * 3, "the squared error is the same in all 3"),
            ("binary", "brier", [0, 1, 1], [0.5, np.nan, 1], "1 of 3 predictions are not finite"),
            ("binary", "brier", [0, 1, 1], [0.5, 1.2, 1], "predictions are below 0 or above 1"),
            ("classes", "roc_auc_ovr", [0, 1, 1], np.eye(3), "no row is of class number 3 of 3"),
            ("regression", "r2", [2, 2, 2], [1, 2, 3], "y is the same in all 3 rows"),
            ("regression", "pearson", [1, 2, 3, 4], [3] * 4, "all 4 predictions are equal"),
            ("regression", "calibration_slope", [1, 2, 3], [2, 4, 6], "y is exactly a line"),
            ("regression", "calibration_intercept", [1, 2, 3], [2, 3, 4], "y minus the prediction"),
        ],
    )
    def test_reasons(self, task, name, y, p, reason):
        found = estimate(name, y, p, task)
        assert found.reason.startswith(reason) and np.isnan(found.value)


class TestInvariance:
    @pytest.mark.parametrize("task", sorted(METRICS))
    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 1000), st.integers(30, 80))
    def test_order(self, task, seed, n):
        y, p = site(task, n, seed)
        order = np.random.default_rng(seed).permutation(n)
        for name in METRICS[task]:
            plain, shuffled = estimate(name, y, p, task), estimate(name, y[order], p[order], task)
            assert plain.reason == shuffled.reason
            assert_allclose(astuple(shuffled)[:5], astuple(plain)[:5], rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("task", sorted(METRICS))
    @settings(max_examples=4, deadline=None)
    @given(st.integers(0, 1000))
    def test_every_row_twice(self, task, seed):
        y, p = site(task, 300, seed)
        for name in METRICS[task]:
            once = estimate(name, y, p, task)
            twice = estimate(name, np.repeat(y, 2), np.repeat(p, 2, axis=0), task)
            assert_allclose(twice.value, once.value, rtol=1e-8, atol=1e-10)
            tolerance = 0.15 if name in RESAMPLED else 0.01
            assert_allclose(twice.std_error * np.sqrt(2), once.std_error, rtol=tolerance)

    @given(st.floats(-5, 5), st.floats(0.1, 100))
    @settings(deadline=None)
    def test_units(self, shift, scale):
        y, p = site("regression", 50)
        for name in ("pearson", "calibration_slope"):
            found = estimate(name, shift + scale * y, shift + scale * p, "regression")
            assert_allclose(astuple(found)[:5], astuple(estimate(name, y, p, "regression"))[:5])
        found, plain = estimate("rmse", scale * y, scale * p, "regression"), None
        plain = estimate("rmse", y, p, "regression")
        assert_allclose((found.value, found.std_error), (scale * plain.value, plain.std_error))


class TestFindMetrics:
    @pytest.mark.parametrize(
        ("task", "names"),
        [
            (
                "binary",
                ["roc_auc", "calibration_intercept", "calibration_slope", "oe_ratio", "brier"],
            ),
            ("classes", ["accuracy", "balanced_accuracy", "log_loss"]),
            ("regression", ["r2", "rmse", "mae", "calibration_slope"]),
        ],
    )
    def test_defaults(self, task, names):
        assert [m.name for m in find_metrics(None, task)] == names

    def test_names_of_sklearn(self):
        names = ["neg_root_mean_squared_error", "rmse", "neg_mean_absolute_error"]
        assert [m.name for m in find_metrics(names, "regression")] == ["rmse", "mae"]
        assert find_metrics("neg_brier_score", "binary")[0].greater_is_better is False

    def test_thresholds(self):
        found = find_metrics(["roc_auc", "net_benefit@0.2"], "binary", thresholds=[0.1, 0.2])
        assert [m.name for m in found] == ["roc_auc", "net_benefit@0.2", "net_benefit@0.1"]
        assert found[1].label == "net benefit at 0.2"

    @pytest.mark.parametrize(
        ("scoring", "task", "thresholds", "message"),
        [
            (
                "roc_acu",
                "binary",
                None,
                "scoring names 'roc_acu'; for the task 'binary' it must be",
            ),
            ("roc_auc", "classes", None, "'roc_auc'.*'accuracy', 'balanced_accuracy', 'log_loss'"),
            (7, "binary", None, "scoring names 7"),
            ([], "binary", None, "at least one metric"),
            ({"a": "r2"}, "regression", None, "scoring maps 'a' to 'r2'; it must map names to"),
            ({"a": sk.make_scorer(sk.r2_score)}, "regression", None, "scorers of an estimator"),
            ("net_benefit@x", "binary", None, "a threshold is 'x'; it must be a number above 0"),
            (None, "binary", [0.2, 1.0], r"a threshold is 1\.0"),
            (None, "regression", 0.2, "thresholds are of probabilities"),
            (None, "survival", None, "task is 'survival'; it must be one of 'binary'"),
        ],
    )
    def test_messages(self, scoring, task, thresholds, message):
        with pytest.raises(ValueError, match=message):
            find_metrics(scoring, task, thresholds)

    def test_pickles(self):
        y, p = site()
        metrics = find_metrics(list(METRICS["binary"]), "binary", 0.3)
        for metric, copy in zip(metrics, pickle.loads(pickle.dumps(metrics)), strict=True):
            run = lambda m: m.function(y, p, confidence_level=0.95, rng=np.random.default_rng(0))
            assert run(metric) == run(copy)

    @pytest.mark.parametrize("scale", ["identity", "log", "logit", "fisher", "log-unexplained"])
    def test_scales(self, scale):
        values = np.array([0.05, 0.5, 0.93])
        assert_allclose(from_scale(to_scale(values, scale), scale), values)


def test_clipping_rule():
    assert_allclose(_calibration.clipped(np.array([0.0, 0.3, 1.0])), [1e-10, 0.3, 1 - 1e-10])
